"""What `show` shows: the shifted labels, readable without colour, in 80 columns and as a page that stands alone."""

import re
from html import escape
from html.parser import HTMLParser

import pytest

from homework import sft
from homework.data import IGNORE_INDEX
from homework.reporting.label_view import make_cells, render_page, render_rows, view_rows
from homework.sft import tokenize
from tests.support.wrong_spans import a1_trailing_space, a2_no_space_join, a8_no_eos, pads_supervised

ROWS = [(0, "How many min are in 2 hours?", 120.0), (1, "6 kg in g?", 6000.0)]


@pytest.fixture
def shown(real_tokenizer):
    return view_rows(real_tokenizer, ROWS, sft.format_example, tokenize)


def test_the_cells_are_the_shifted_labels(real_tokenizer, shown):
    row = tokenize(real_tokenizer, **sft.format_example(*ROWS[0][1:]))
    targets = real_tokenizer.convert_ids_to_tokens([label for label in row["labels"] if label != IGNORE_INDEX])
    cells = shown[0].cells
    assert [cell.target for cell in cells if cell.kind == "target"] == targets
    first = next(t for t, cell in enumerate(cells) if cell.kind == "target")
    assert cells[first].token == "?" and cells[first].target == "Ġ<", "the last token of the question predicts the tag"
    assert [cell.target for cell in cells if cell.is_eos] == [real_tokenizer.eos_token]
    assert all(cell.kind == "context" for cell in cells[:first])


def test_padding_and_the_last_token_are_ignored(real_tokenizer, shown):
    assert len(shown[0].cells) == len(shown[1].cells)
    kinds = [cell.kind for cell in shown[1].cells]
    length = len(tokenize(real_tokenizer, **sft.format_example(*ROWS[1][1:]))["input_ids"])
    assert kinds[length - 1 :] == ["ignored"] * (len(kinds) - length + 1)
    assert shown[1].cells[-1].token == "pad" and shown[0].cells[-1].token == real_tokenizer.eos_token


def test_a_label_at_the_first_position_is_predicted_from_nothing(bundled_tokenizer):
    """The loss shifts, so position 0 is never a target; the cells may not show one."""
    row = {"input_ids": [300, 301], "attention_mask": [1, 1], "labels": [300, 301]}
    assert [cell.kind for cell in make_cells(bundled_tokenizer, row, 2)] == ["target", "ignored"]


def without_eos(tokenizer, question, answer):
    return {name: values[:-1] for name, values in tokenize(tokenizer, question, answer).items()}


@pytest.mark.parametrize(
    ("wrong", "missing"),
    [
        (without_eos, [(">", "<|im_end|>")]),
        (a8_no_eos, [(">", "<|im_end|>")]),
        (a1_trailing_space, [("?", "Ġ<")]),
        (tokenize, []),
        (pads_supervised, []),
        (a2_no_space_join, []),  # other ids: what they should be followed by is not known
    ],
)
def test_a_target_that_is_missing_is_marked_where_it_should_be(bundled_tokenizer, wrong, missing):
    shown = view_rows(bundled_tokenizer, [(1, "6 kg in g?", 6000.0)], sft.format_example, wrong)
    found = [(cell.token, cell.target, cell.is_eos) for cell in shown[0].cells if cell.kind == "missing"]
    assert found == [(token, target, target == "<|im_end|>") for token, target in missing]
    row, text = render_page(shown, "x").partition("<h2>")[2], render_rows(shown, 80, colour=False)
    assert row.count('class="cell missing"') == len(found)
    assert all(f"missing {target}" in text and f"missing {escape(target)}" in row for _, target in missing)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_text_fits_the_terminal_and_needs_no_colour(shown, columns):
    text = render_rows(shown, columns, colour=False)
    assert max(map(len, text.splitlines())) <= max(columns, 80)
    assert "\033" not in text and "[Ġ<]" in text and "[<|im_end|>]" in text and "~" in text
    coloured = render_rows(shown, columns, colour=True)
    assert re.sub(r"\033\[[\d;]*m", "", coloured) == text


def test_the_two_lines_are_aligned(shown):
    lines = render_rows(shown, 80, colour=False).splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith("reads   "))
    assert lines[top].index("?") == lines[top + 1].index("[Ġ<]")


class Page(HTMLParser):
    """Collects tags and the addresses that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_stands_alone_and_escapes(shown):
    page = render_page(shown, "data/base_model")
    parser = Page()
    parser.feed(page)
    assert not parser.addresses and not {"script", "link", "img", "answer"} & set(parser.tags)
    assert "&lt;answer&gt;120&lt;/answer&gt;" in page and "[&lt;|im_end|&gt;] EOS" in page
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_a_wrong_mask_is_shown_and_then_named(command, monkeypatch, tmp_path):
    monkeypatch.setattr(sft, "tokenize", a1_trailing_space)
    code, out, err = command(sft.COMMANDS, f"show --html {tmp_path / 'labels.html'}")
    assert code == 1 and "WRONG: the first answer token 'Ġ<' is masked" in " ".join(out.split())
    assert err.startswith("error: row 0: the first answer token")
    page = (tmp_path / "labels.html").read_text()
    assert "WRONG" in page and "missing Ġ&lt;" in page
    assert "belongs to the answer" not in out + err + page and err.endswith("python -m homework.check --hint\n")


def test_the_command_shows_the_rows_that_are_asked_for(command, tmp_path):
    code, out, _ = command(
        sft.COMMANDS, f"show --first 998 --rows 5 --split valid --html {tmp_path / 'x' / 'labels.html'}"
    )
    assert code == 0 and "row 998:" in out and "row 999:" in out and "row 1000" not in out
    assert (tmp_path / "x" / "labels.html").is_file()


@pytest.mark.parametrize("flags", ["--first 1000", "--first -1", "--rows 0"])
def test_rows_that_are_not_there_are_named(command, flags):
    code, _, err = command(sft.COMMANDS, f"show {flags}")
    assert code == 1 and "has rows 0 to 999" in err


def test_a_page_that_cannot_be_written_is_named(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command(sft.COMMANDS, f"show --html {tmp_path / 'file' / 'labels.html'}")
    assert code == 1 and "choose another --html" in err
