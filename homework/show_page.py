"""The same rows as one self-contained HTML page: no script, no font, no file beside it.

python -m homework.sft show --html labels.html
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from homework.errors import HomeworkError
from homework.show import Cell, Shown

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
.ignored span { color: var(--no); border-style: dashed }
.verdict { margin: .2rem 0 } .wrong { border-left: .3rem solid var(--no); padding-left: .6rem }
.legend { display: grid; grid-template-columns: auto 1fr; gap: .4rem .8rem; align-items: center }
"""
LEGEND = (
    (
        Cell("?", "Ġ<", "target", False),
        "in the loss: from all tokens up to the upper one, the lower one must be predicted",
    ),
    (Cell("km", "", "context", False), "not in the loss: the model only reads the upper token"),
    (Cell("pad", "", "ignored", False), "padding, or nothing follows"),
)


def render_page(rows: Sequence[Shown], name: str) -> str:
    """The page for rows of the base model `name`."""
    legend = "".join(f"{render_cell(cell)}<div>{escape(text)}</div>" for cell, text in LEGEND)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>What the loss sees</title>'
        f"<style>{STYLE}</style></head><body><h1>What the loss sees</h1>"
        f"<p>Tokens of {escape(name)}. Each box holds a token (Ġ is a space) and, below it, the one that the model must "
        f'predict after it.</p><div class="legend">{legend}</div>{"".join(map(render_row, rows))}</body></html>\n'
    )


def render_row(row: Shown) -> str:
    """One row: its text, what the proof says, and its cells."""
    count = sum(cell.kind == "target" for cell in row.cells)
    verdict = f"WRONG: {row.complaint}" if row.complaint else "right"
    return (
        f"<h2>row {row.index}: {escape(row.question)} → {escape(row.answer)}</h2>"
        f'<p class="verdict{" wrong" if row.complaint else ""}">{count} targets of {len(row.cells)} positions; '
        f'the proof says: {escape(verdict)}</p><div class="row">{"".join(map(render_cell, row.cells))}</div>'
    )


def render_cell(cell: Cell) -> str:
    """One position: the token above, the target or a mark below."""
    below = {"target": f"[{cell.target}]", "context": ".", "ignored": "~"}[cell.kind]
    below += " EOS" if cell.is_eos else ""
    return f'<div class="cell {cell.kind}"><span>{escape(cell.token)}</span><span>{escape(below)}</span></div>'


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
