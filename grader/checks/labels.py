"""homework/sft.py: the text of the answers, and which tokens are supervised, on rows that were never seen."""

from typing import Any

from grader import reference
from grader.checks.answering import is_generate_right
from grader.course import Course
from grader.errors import Refusal
from grader.harness.harness import Harness
from grader.harness.spans import IGNORE_INDEX, diagnose_row, diagnose_shape, read_row, side_by_side
from grader.harness.tokenizers import FAMILIES, make_families
from grader.reference import ANSWER
from grader.runner import needs

FORMATTED = 0.006  # relative: three digits; a text of format_example is 0.02 away, less its own rounding
LOOK = "python -m homework.sft show prints the labels of your rows token by token"


def test_format(code: Harness) -> None:
    """format_example writes each answer as <answer>NUMBER</answer>, within 5 % of the right one."""
    found = code.labels.value("format_example")
    refuse_unless_all(found, len(code.train_rows), "format_example")
    for (question, correct), example in zip(code.train_rows, found, strict=True):
        if not isinstance(example, dict) or not all(isinstance(example.get(k), str) for k in ("question", "answer")):
            raise Refusal("format_example gives no dictionary of two texts", expected="{'question': …, 'answer': …}",
                          actual=f"{example!r}"[:120])  # fmt: skip
        if question not in example["question"]:
            raise Refusal("format_example changes the question", expected=question, actual=example["question"][:120])
        refuse_wrong_number(example["answer"], correct)
        if beside := ANSWER.sub("", example["answer"]).strip():
            raise Refusal(f"format_example writes {beside!r:.60} beside the tags", actual=example["answer"][:120],
                          do="leave it out: the answer ends with its tag")  # fmt: skip


def test_supervised(code: Harness) -> None:
    """tokenize leaves something to learn in every row: the span of labels is not empty."""
    for family in FAMILIES:
        for at, row in enumerate(read_rows(code, f"tokenize {family}", family)):
            if all(label == IGNORE_INDEX for label in row["labels"]):
                refuse_span(code, family, at, row)


@needs("supervised")
def test_spans(code: Harness) -> None:
    """Exactly the answer, with the space before it, and one EOS are supervised, for tokenizers of three families."""
    for family in FAMILIES:
        for at, row in enumerate(read_rows(code, f"tokenize {family}", family)):
            refuse_span(code, family, at, row)


def test_tokenize_stable(code: Harness, course: Course) -> None:
    """A generation before it changes nothing in what tokenize gives, nor the other way round."""
    code.labels.value("generate")
    if code.labels.value("tokenize later") != code.labels.value("tokenize bundled"):  # the same fault is told there
        for at, row in enumerate(read_rows(code, "tokenize later", "bundled")):
            refuse_span(code, "bundled", at, row, "after a generation, ")
    alone, after = code.answering.lines.get("batched_generate", {}).get("value"), code.labels.value("generate later")
    if isinstance(alone, list) and after != alone and is_generate_right(code, course):
        raise Refusal("after a call of tokenize, batched_generate gives other texts than before",
                      expected=f"{alone[0]!r}"[:120] if alone else "",
                      actual=f"{after!r}"[:120],
                      do="set the tokenizer's padding_side in batched_generate itself")  # fmt: skip


def test_dataset(code: Harness) -> None:
    """TokenizedDataset holds every row of the data, formatted and tokenized."""
    try:
        refuse_dataset(code, "TokenizedDataset")
    except Refusal:
        if "right_rows" not in code.faulty:
            raise
        refuse_dataset(code, "TokenizedDataset alone")  # with a tokenize of the grader's, which is at fault itself


def refuse_dataset(code: Harness, step: str) -> None:
    """Refuse rows that are not those of the data, formatted and tokenized."""
    tokenizer = make_families()["bundled"][0]
    found = code.labels.value(step)
    refuse_unless_all(found, len(code.train_rows), "TokenizedDataset")
    given = [correct for _, correct in code.formatted_rows]
    for at, ((question, correct), one) in enumerate(zip(code.train_rows, found, strict=True)):
        row = read_row(one, tokenizer)
        if complaint := diagnose_shape(tokenizer, row):
            raise Refusal(f"row {at}: {complaint}", do=LOOK)
        answer = answer_in(tokenizer, question, row)
        if "<answer>" not in answer:
            raise Refusal(f"row {at} goes on with {answer!r:.60}, without a tag: TokenizedDataset has to use format_fn",
                          do="tokenize(tokenizer, **format_fn(*row))")  # fmt: skip
        refuse_wrong_number(answer, correct, f"row {at}: ")
        refuse_other_format(answer, given[at], f"row {at}")
        if complaint := diagnose_row(tokenizer, question, answer, row):
            shown = side_by_side(tokenizer, question, answer, row)
            raise Refusal(f"row {at}: {complaint}", do=LOOK, shown=shown)


def read_rows(code: Harness, step: str, family: str) -> list[dict[str, list[int]]]:
    """The rows that a step of the labels' job gave."""
    found = code.labels.value(step)
    refuse_unless_all(found, len(code.rows), "tokenize")
    tokenizer = make_families()[family][0]
    return [read_row(one, tokenizer) for one in found]


def refuse_span(code: Harness, family: str, at: int, row: dict[str, list[int]], when: str = "") -> None:
    """Refuse a row whose labels are wrong, and show it token by token."""
    tokenizer, (question, answer) = make_families()[family][0], code.rows[at]
    if complaint := diagnose_row(tokenizer, question, answer, row):
        actual = f"row {at}, {question!r:.80} {answer}, by the {family} tokenizer"
        shown = side_by_side(tokenizer, question, answer, row)
        raise Refusal(f"{when}{complaint}", actual=actual, do=LOOK, shown=shown)


def answer_in(tokenizer: Any, question: str, row: dict[str, list[int]]) -> str:
    """The text of a row behind its question."""
    length = sum(row["attention_mask"])
    ids = [token for token, bit in zip(row["input_ids"], row["attention_mask"], strict=True) if bit][:length]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if question not in text:
        raise Refusal("a row of TokenizedDataset does not hold its question", expected=question, actual=text[:120])
    return text.partition(question)[2].strip()


def refuse_wrong_number(answer: str, correct: float, where: str = "") -> None:
    """Refuse an answer's text whose number is missing, or not within 5 %."""
    written = reference.Answered("", answer, correct)
    number = written.number
    if number != number:
        raise Refusal(f"{where}there is no number in the answer {answer!r:.60}: format_example must write one plain "
                      "number between <answer> and </answer>", do="format_example(question, answer)")  # fmt: skip
    if not written.is_right:
        raise Refusal(f"{where}the answer {answer!r:.60} is not within 5 % of {correct:g}: format_example rounds too "
                      "much", do="round to significant digits, not to decimals")  # fmt: skip


def refuse_other_format(answer: str, given: float, where: str) -> None:
    """Refuse an answer that is right, but not the one that the format_fn of the grader wrote."""
    if abs(reference.Answered("", answer, given).number - given) > FORMATTED * abs(given):
        raise Refusal(f"{where} goes on with {answer!r:.60}, which is not what the given format_fn wrote: "
                      "TokenizedDataset has to use format_fn", expected=f"<answer>{given:.3g}</answer>",
                      actual=answer[:80], do="tokenize(tokenizer, **format_fn(*row))")  # fmt: skip


def refuse_unless_all(found: Any, count: int, name: str) -> None:
    """Refuse what is no list with an entry for each row."""
    if not isinstance(found, list) or len(found) != count:
        actual = f"{len(found)}" if isinstance(found, list) else f"{found!r}"[:80]
        raise Refusal(f"{name} gives another number of rows than the data has: none may be dropped",
                      expected=f"{count}", actual=actual)  # fmt: skip
