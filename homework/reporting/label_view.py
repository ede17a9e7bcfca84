"""The tokens of some rows as the loss sees them: what is read, what is predicted, what is ignored.

They are shown in the terminal, and as one HTML page that stands alone: no script, no font, no file beside it. The loss
compares the output at position t with the label at t + 1, so each column shows a token and the one that follows it.
Colour is never the only sign: a target stands in [brackets], one that is missing after that word, context has a dot,
padding a tilde.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from homework.common.base_model import check_checkpoint, load_tokenizer, resolve_checkpoint, stable_name
from homework.common.errors import HomeworkError, explain_error
from homework.data import IGNORE_INDEX, Dataset, Row
from homework.guards.label_check import diagnose_row, plain_row
from homework.guards.label_diagnosis import view_of
from homework.training import run_dir

COLOURS = {"context": "\033[2m", "target": "\033[1;32m", "missing": "\033[1;31m", "ignored": "\033[2;35m"}
LEGEND = (
    ("target", "[token] in the loss: the model must predict it from all that stands before"),
    ("missing", "missing token: not in the loss, and should be"),
    ("context", ".       not in the loss: the model only reads"),
    ("ignored", "~       padding, or nothing follows"),
)


class Cell(NamedTuple):
    """One position: the token that is read, the one that is predicted, and what the loss makes of it."""

    token: str
    target: str  # '' unless `kind` is target or missing
    kind: str  # context, target, missing (should be a target, and is none) or ignored
    is_eos: bool  # whether the target is EOS

    @property
    def below(self) -> str:
        """The target, or the mark of another kind."""
        marks = {"target": f"[{self.target}]", "missing": f"missing {self.target}", "context": ".", "ignored": "~"}
        return marks[self.kind]


class Shown(NamedTuple):
    """A row to look at: its texts, its cells, and what the label check says (None: right)."""

    number: int
    question: str
    answer: str
    cells: list[Cell]
    complaint: str | None


def make_cells(tokenizer: Any, row: Row, width: int, wanted: Sequence[int] = ()) -> list[Cell]:
    """The cells of a row, padded on the right to `width` positions as in a batch.

    Args:
        tokenizer: of the ids.
        row: a tokenized row.
        width: at least the row's length.
        wanted: the labels that the row should have, or none if that is not known.

    Example: 'km' '?' 'Ġ<' EOS with labels -100 -100 'Ġ<' EOS -> km context, ? target Ġ<, Ġ< target EOS, EOS ignored
    """
    ids, labels = list(row["input_ids"]), list(row["labels"])
    mask = list(row["attention_mask"]) + [0] * (width - len(ids))
    ids += [tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id] * (width - len(ids))
    # What follows position t; nothing does after the last one.
    following = [*labels, *[IGNORE_INDEX] * (width - len(labels)), IGNORE_INDEX][1:]
    names = tokenizer.convert_ids_to_tokens(ids)
    cells = []
    for t, label in enumerate(following):
        name = "pad" if not mask[t] else str(names[t])
        right = wanted[t + 1] if t + 1 < len(wanted) else IGNORE_INDEX
        shown = right if label == IGNORE_INDEX else label
        if shown != IGNORE_INDEX:
            target = str(tokenizer.convert_ids_to_tokens([shown])[0])
            kind = "missing" if label == IGNORE_INDEX else "target"
            cells.append(Cell(name, target, kind, shown == tokenizer.eos_token_id))
        else:
            reads = mask[t] and t + 1 < width and mask[t + 1]
            cells.append(Cell(name, "", "context" if reads else "ignored", False))
    return cells


def wanted_labels(tokenizer: Any, example: dict[str, str], row: Row) -> list[int]:
    """The labels that a row should have; none where its ids are not those of question and answer."""
    view = view_of(tokenizer, example["question"], example["answer"], row)
    if view.ids != view.whole[: len(view.ids)]:
        return []
    return [IGNORE_INDEX] * len(view.prompt) + view.whole[len(view.prompt) :]


def render_rows(rows: Sequence[Shown], columns: int, colour: bool) -> str:
    """The rows as text for a terminal of so many columns."""
    legend = [paint(text, kind, colour) for kind, text in LEGEND]
    parts = wrap(
        "reads: the token that the model gets (Ġ is a space); predicts: below it, the one that follows", columns
    )
    parts = [*parts, *(f"  {line}" for line in legend), ""]
    for row in rows:
        parts += wrap(f"row {row.number}: {row.question}  ->  {row.answer}", columns)
        parts += [*wrap(describe(row), columns), ""]
        parts += render_cells(row.cells, columns, colour)
    return "\n".join(parts)


def describe(row: Shown) -> str:
    """How much of a row is in the loss, and what the label check says of it, without its hint."""
    count = sum(cell.kind == "target" for cell in row.cells)
    verdict = "WRONG: {}".format(row.complaint.partition("\n")[0]) if row.complaint else "right"
    return f"{count} targets of {len(row.cells)} positions; the label check says: {verdict}"


def wrap(text: str, columns: int) -> list[str]:
    """A line of prose as lines that fit."""
    return textwrap.wrap(text, columns) or [""]


def render_cells(cells: Sequence[Cell], columns: int, colour: bool) -> list[str]:
    """The cells in two aligned lines, wrapped to the terminal."""
    head = ("reads     ", "predicts  ")
    lines, top, bottom, used = [], head[0], head[1], len(head[0])
    for cell in cells:
        width = max(len(cell.token), len(cell.below)) + 1
        if used + width > columns and used > len(head[0]):
            lines += [top.rstrip(), bottom.rstrip(), ""]
            top, bottom, used = head[0], head[1], len(head[0])
        top += cell.token.ljust(width)
        bottom += paint(cell.below, cell.kind, colour) + " " * (width - len(cell.below))
        used += width
    return [*lines, top.rstrip(), bottom.rstrip(), ""]


def paint(text: str, kind: str, colour: bool) -> str:
    """The text in the colour of a kind."""
    return f"{COLOURS[kind]}{text}\033[0m" if colour else text


def show_rows(
    data: Dataset,
    indices: Sequence[int],
    format_fn: Callable[..., dict],
    tokenize: Callable[..., Row],
    checkpoint: str | None,
    html: str | None,
) -> None:
    """Print the chosen rows and write their page.

    Raises:
        HomeworkError: if a row's labels are wrong, after it has been shown, or there is no such row.
    """
    if not indices or not 0 <= indices[0] < len(data):
        raise HomeworkError(f"{data.split} has rows 0 to {len(data) - 1}: choose --first and --rows among them")
    name, _ = resolve_checkpoint(checkpoint)
    tokenizer = load_tokenizer(name, check_checkpoint(name))
    chosen = indices[: len(data) - indices[0]]
    rows = view_rows(tokenizer, [(index, *data[index]) for index in chosen], format_fn, tokenize)
    print_rows(rows)
    page = Path(html).expanduser() if html else run_dir.RUNS / "labels.html"
    write_page(page, rows, stable_name(name))
    print(f"the same as a page: {page}")
    if wrong := [row for row in rows if row.complaint]:
        raise HomeworkError(f"row {wrong[0].number}: {wrong[0].complaint}")


def view_rows(
    tokenizer: Any,
    chosen: Sequence[tuple[int, str, float]],
    format_fn: Callable[..., dict],
    tokenize: Callable[..., Row],
) -> list[Shown]:
    """What to show of (index, question, correct) rows, padded to one width as in a batch.

    Raises:
        HomeworkError: naming the row that can't be tokenized at all.
    """
    made = []
    for index, question, correct in chosen:
        try:
            example = format_fn(question, correct)
            row = plain_row(tokenize(tokenizer, **example))
            complaint = diagnose_row(tokenizer, example, correct, row)
            wanted = wanted_labels(tokenizer, example, row) if complaint else []
            made.append((index, example, row, wanted, complaint))
        except Exception as error:  # a student's tokenize may raise anything
            raise HomeworkError(f"row {index}: {explain_error(error)}") from error
    width = max(len(row["input_ids"]) for _, _, row, _, _ in made)
    return [
        Shown(index, example["question"], example["answer"], make_cells(tokenizer, row, width, wanted), complaint)
        for index, example, row, wanted, complaint in made
    ]


def print_rows(rows: Sequence[Shown]) -> None:
    """Print rows for this terminal: its width, its colours, its characters."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(render_rows(rows, shutil.get_terminal_size((80, 24)).columns, colour))


# --- the page ---

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5c5c5c; --paper: #fff; --line: #b5b5b5; --go: #0a6b2d; --no: #8a2a6b }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eee; --soft: #aaa; --paper: #161616; --line: #555; --go: #6fdc93; --no: #e59acb }
}
body { margin: 0 auto; max-width: 70rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 2rem 0 .2rem; overflow-wrap: anywhere }
.row { display: flex; flex-wrap: wrap; gap: .3rem; margin: .6rem 0 }
.cell { display: grid; grid-template-rows: auto auto; font: .85rem/1.5 ui-monospace, monospace; text-align: center; white-space: pre }
.cell span { padding: 0 .35rem; border: 1px solid var(--line) }
.cell span:first-child { border-bottom: 0; border-radius: .3rem .3rem 0 0 }
.cell span:last-child { border-radius: 0 0 .3rem .3rem }
.context span:last-child { color: var(--soft) }
.target span:last-child { color: var(--go); font-weight: 700; border: 2px solid var(--go) }
.missing span:last-child { color: var(--no); font-weight: 700; border: 2px dashed var(--no) }
.ignored span { color: var(--no); border-style: dashed }
.verdict { margin: .2rem 0 } .wrong { border-left: .3rem solid var(--no); padding-left: .6rem }
.legend { display: grid; grid-template-columns: auto 1fr; gap: .4rem .8rem; align-items: center }
"""
PAGE_LEGEND = (
    (
        Cell("?", "Ġ<", "target", False),
        "in the loss: from all tokens up to the upper one, the lower one must be predicted",
    ),
    (
        Cell(">", "6", "missing", False),
        "not in the loss, and should be: nothing teaches the model to predict the lower one",
    ),
    (Cell("km", "", "context", False), "not in the loss: the model only reads the upper token"),
    (Cell("pad", "", "ignored", False), "padding, or nothing follows"),
)


def render_page(rows: Sequence[Shown], name: str) -> str:
    """The page for rows of the base model `name`."""
    legend = "".join(f"{render_box(cell)}<div>{escape(text)}</div>" for cell, text in PAGE_LEGEND)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>What the loss sees</title>'
        f"<style>{STYLE}</style></head><body><h1>What the loss sees</h1>"
        f"<p>Tokens of {escape(name)}. Each box holds a token (Ġ is a space) and, below it, the one that the model must "
        f'predict after it.</p><div class="legend">{legend}</div>{"".join(map(render_row, rows))}</body></html>\n'
    )


def render_row(row: Shown) -> str:
    """One row: its text, what the label check says, and its cells."""
    return (
        f"<h2>row {row.number}: {escape(row.question)} → {escape(row.answer)}</h2>"
        f'<p class="verdict{" wrong" if row.complaint else ""}">{escape(describe(row))}</p>'
        f'<div class="row">{"".join(map(render_box, row.cells))}</div>'
    )


def render_box(cell: Cell) -> str:
    """One position: the token above, the target or a mark below."""
    below = escape(f"{cell.below} EOS" if cell.is_eos else cell.below)
    return f'<div class="cell {cell.kind}"><span>{escape(cell.token)}</span><span>{below}</span></div>'


def write_page(path: Path, rows: Sequence[Shown], name: str) -> None:
    """Write the page.

    Raises:
        HomeworkError: if the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_page(rows, name), encoding="utf-8")
    except OSError as error:
        raise HomeworkError(f"can't write {path} ({error.strerror}): choose another --html") from error
