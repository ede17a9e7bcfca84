"""One truth: an implementation of a task is judged alike by public tests, `check`, training and grader.

Each row is one function of the homework written otherwise, right but unusual, or wrong. All four levels judge it, and
each has to say what the row says: right, or wrong with words that name the cause. CI judges each fifth one.
"""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from grader.course import Course
from grader.grade import grade
from grader.rubric import read_rubric
from grader.sandbox.host import Sandbox
from homework.common.base_model import ROOT
from tests.submissions import labels, texts, unusual
from tests.submissions.plain import PADDED
from tests.submissions.recipe import Maker, edit, swap
from tests.support import zips
from tests.support.draws import drawn_for
from tests.support.forked import run_forked
from tests.support.rows import every_fifth

LEVELS = ("public", "check", "training", "grader")
# The checks of the grader that judge a file, none of which needs a trained adapter; those of the labels before the others.
JUDGES = (
    ("base_llm.py", ("parser", "generate", "padding", "num_return_sequences", "answer")),
    ("data.py", ("metric", "scoring")),
    ("sft.py", ("format", "supervised", "spans", "tokenize_stable", "dataset")),
    ("sft.py", ("batch", "gradients", "input_gradients", "trains", "loads", "refuses")),
)
CODE_CHECKS = tuple(check for _, judges in JUDGES for check in judges)
# Runs three levels in a copy of the student's side, and writes what each says first: '' where all is right.
DRIVER = """
import contextlib, io, json, re
from pathlib import Path
import pytest
PUBLIC = [f"tests/public/test_task{task}.py" for task in (1, 2, 3, 4)]
from homework.check import CHECKS, Known, judge
from homework.common.errors import explain_error
from homework.sft import train_model

said = {"check": "", "training": ""}
known, failed = Known(), set()
for task, name, function, needs in CHECKS:
    if task in (1, 2, 3, 4):
        mark, text = judge(function, known, [need for need in needs if need in failed])
        if mark != " OK ":
            failed.add(name)
            said["check"] = said["check"] or f"{name}: {text}"
output = io.StringIO()
with contextlib.redirect_stdout(output):
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *PUBLIC, "-k", "not train_"])
found = re.search(r"_{3,} test_(\\w+) _{3,}\\n(.*)", output.getvalue())
said["public"] = f"{found[1]}: {found[2]}" if found else "" if code == 0 else output.getvalue()
with contextlib.redirect_stdout(io.StringIO()):
    try:
        train_model("out", max_steps=1, questions=1, run_dir="run")
    except Exception as error:
        said["training"] = explain_error(error)
Path("said.json").write_text(json.dumps(said))
"""


class Row(NamedTuple):
    """An implementation, and what every level has to say of it: '' that it is right, else a regular expression."""

    name: str
    make: Maker
    wrong: str = ""


def sft(**functions: str) -> Maker:
    return swap("sft.py", **functions)


def base_llm(**functions: str) -> Maker:
    return swap("base_llm.py", **functions)


def data(**functions: str) -> Maker:
    return swap("data.py", **functions)


def tokenized(lines: str) -> Maker:
    return labels.tokenized(lines, file="reference")


def parser(lines: str) -> Maker:
    return base_llm(parse_answer=f"def parse_answer(text):\n{indent(lines)}")


def indent(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.strip().splitlines())


def format_as(expression: str) -> Maker:
    body = f'return {{"question": question, "answer": f"{expression}"}}'
    return sft(format_example=f"def format_example(question, answer):\n    {body}")


def valid_if(expression: str) -> Maker:
    return data(
        is_answer_valid=f"def is_answer_valid(answer, correct, relative_tolerance=0.05):\n    return {expression}"
    )


def counted(accuracy: str, answer_rate: str = "sum(not math.isnan(a) for a in answers) / len(answers)") -> Maker:
    return data(
        BenchmarkResult__from_answers=f"""
@classmethod
def from_answers(cls, rows, answers):
    samples = [Sample(q, a, c, is_answer_valid(a, c)) for (q, c), a in zip(rows, answers, strict=True)]
    right = [sample.is_correct for sample in samples]
    return cls({accuracy}, {answer_rate}, samples)
"""
    )


def generated(old: str, new: str) -> Maker:
    return edit("base_llm.py", old, new)


READ = r'return float(text.split("<answer>")[1].split("</answer>")[0])'
SAMPLED = "texts[i : i + num_return_sequences] for i in range(0, len(texts), num_return_sequences)"
COLLATE = """
def __call__(self, rows):
    import torch
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [self.pad_id] * (width - len(row["input_ids"])) for row in rows])
    mask = torch.tensor([row["attention_mask"] + [0] * (width - len(row["attention_mask"])) for row in rows])
    labels = LABELS
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
"""
STOCK_LOAD = """
def load(folder=ADAPTER_FOLDER, checkpoint=None):
    from peft import PeftModel

    llm = BaseLLM(checkpoint)
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
    return llm
"""
ALWAYS_BASE = """
def load(folder=ADAPTER_FOLDER, checkpoint=None):
    return BaseLLM(checkpoint)
"""
LAZY = """
class TokenizedDataset:
    def __init__(self, tokenizer, data, format_fn):
        self.tokenizer, self.data, self.format_fn = tokenizer, data, format_fn

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return plain_row(tokenize(self.tokenizer, **self.format_fn(*self.data[index])))
"""

ROWS = [
    Row("the reference", dict),
    # --- task 1 ---
    Row(
        "parser by regex",
        parser(
            r'found = re.search(r"<answer>\s*(-?\d+\.?\d*(?:[eE][-+]?\d+)?)\s*</answer>", text)'
            "\nreturn float(found.group(1)) if found else math.nan"
        ),
    ),
    Row(
        "parser by a regex of digits and points",
        parser(
            r'found = re.search(r"<answer>\s*(-?[0-9.]+(?:[eE][-+]?\d+)?)\s*</answer>", text)'
            "\nreturn float(found.group(1)) if found else math.nan"
        ),
        r"parse_answer.* raise[sd]",
    ),
    Row(
        "parser by split",
        parser(
            f'try:\n    text[: text.index("</answer>")]\n    {READ}\n'
            "except (IndexError, ValueError):\n    return math.nan"
        ),
    ),
    Row(
        "parser without a closing tag",
        parser(f"try:\n    {READ}\nexcept (IndexError, ValueError):\n    return math.nan"),
        r"parse_answer\('<answer>\d+'\) is",
    ),
    Row("any number", parser(texts.ANY_NUMBER.replace("import re\n", "")), r"parse_answer\(.*\) is"),
    Row("None for nothing", parser(f"try:\n    {READ}\nexcept (IndexError, ValueError):\n    return None"), "None"),
    Row("zero for nothing", parser(f"try:\n    {READ}\nexcept (IndexError, ValueError):\n    return 0.0"), "is 0"),
    Row(
        "prompt with a word more",
        base_llm(BaseLLM__format_prompt='def format_prompt(self, question):\n    return f"{question} Answer:"'),
        "format_prompt.* gives",
    ),
    Row(
        "prompt with the tag",
        base_llm(BaseLLM__format_prompt='def format_prompt(self, question):\n    return f"{question} <answer>"'),
        "format_prompt.* gives|holds '<answer>'",
    ),
    Row(
        "one prompt after the other",
        base_llm(
            BaseLLM__batched_generate=unusual.ONE_BY_ONE.split("@torch")[0].replace(
                "self.write(prompt, temperature)", "self.complete([prompt], temperature)[0].text"
            )
        ),
    ),
    Row(
        "padded on the right",
        generated(
            "[[eos] * (width - len(row)) + row for row in rows]", "[row + [eos] * (width - len(row)) for row in rows]"
        ),
        "prompts of different length reaches the model wrongly|batched_generate gives another text",
    ),
    Row(
        "eight new tokens",
        generated("max_new_tokens=cap", "max_new_tokens=8"),
        "max_new_tokens",
    ),
    Row("prompt given back", generated("output[:, width:]", "output"), "gives the prompt back|returns the prompt"),
    Row(
        "samples in the lists of others",
        generated(SAMPLED, "texts[i :: len(prompts)] for i in range(len(prompts))"),
        "mixes up its prompts",
    ),
    Row(
        "copies where samples are asked",
        generated("if temperature == 0:", "if temperature >= 0:"),
        "is greedy|the same text again",
    ),
    Row(
        "temperature always 1",
        generated('"temperature": float(temperature)', '"temperature": 1.0'),
        "gives the model the temperature 1.0|other texts than the most likely",
    ),
    Row(
        "answers of sorted questions",
        base_llm(
            BaseLLM__answer="def answer(self, *questions):\n"
            "    prompts = sorted((self.format_prompt(question) for question in questions), key=len)\n"
            "    return [self.parse_answer(text) for text in self.batched_generate(prompts)]"
        ),
        "answer (mixes up|gives)",
    ),
    # --- task 2 ---
    Row("the textbook metric", valid_if("abs(answer - correct) <= relative_tolerance * abs(correct) < math.inf")),
    Row("an absolute tolerance", valid_if("abs(answer - correct) <= relative_tolerance"), "is_answer_valid"),
    Row(
        "relative to the answer",
        valid_if("abs(answer - correct) <= relative_tolerance * abs(answer)"),
        "is_answer_valid",
    ),
    Row("math.isclose", valid_if("math.isclose(answer, correct, rel_tol=relative_tolerance)"), "is_answer_valid"),
    Row("ten percent", valid_if("abs(answer - correct) <= 2 * relative_tolerance * abs(correct)"), "is_answer_valid"),
    Row("shares by mean", counted("sum(right) / len(rows)")),
    Row("accuracy over answered questions", counted("sum(right) / max(1, sum(a == a for a in answers))"), "accuracy"),
    Row("accuracy in percent", counted("100 * sum(right) / len(rows)"), "accuracy"),
    Row(
        "answer and correct number exchanged",
        counted("sum(is_answer_valid(c, a) for (q, c), a in zip(rows, answers)) / len(rows)"),
        "accuracy",
    ),
    Row("every question counts as answered", counted("sum(right) / len(rows)", "1.0"), "answer.rate"),
    Row(
        "benchmark that asks one by one",
        data(
            benchmark="""
def benchmark(llm, dataset, max_question=None):
    rows = take_rows(dataset, max_question)
    return BenchmarkResult.from_answers(rows, [llm.answer(question)[0] for question, _ in rows])
"""
        ),
    ),
    Row(
        "benchmark that asks all",
        data(
            benchmark="""
def benchmark(llm, dataset, max_question=None):
    rows = take_rows(dataset, None)
    return BenchmarkResult.from_answers(rows, llm.answer(*(question for question, _ in rows)))
"""
        ),
        "benchmark",
    ),
    Row(
        "benchmark that asks a hundred by default",
        data(
            benchmark="""
def benchmark(llm, dataset, max_question=None):
    rows = take_rows(dataset, max_question or 100)
    return BenchmarkResult.from_answers(rows, llm.answer(*(question for question, _ in rows)))
"""
        ),
        "benchmark",
    ),
    # --- task 3 ---
    Row("all digits", format_as("<answer>{answer}</answer>")),
    Row("four digits", format_as("<answer>{answer:.4g}</answer>")),
    Row("whole numbers", format_as("<answer>{round(answer)}</answer>"), "not within 5 %"),
    Row("no tag", format_as("{answer:.3g}"), "no number in the answer"),
    Row("padded to 128, masked", sft(tokenize=PADDED)),
    Row("answer apart", tokenized(unusual.ANSWER_APART)),
    Row("offsets", tokenized(unusual.OFFSETS)),
    Row("tensors", tokenized(unusual.TENSORS)),
    Row("no attention mask", tokenized(unusual.NO_MASK)),
    Row("padded on the left, masked", tokenized(unusual.PADDED_LEFT)),
    Row("trailing space", tokenized(labels.TRAILING_SPACE), "masked"),
    Row("tag as one token", tokenized(labels.TAG_AS_ONE_TOKEN), "every label is -100"),
    Row("tag in the prompt", tokenized(labels.TAG_IN_THE_PROMPT), "begins inside the prompt|row begins with"),
    Row("EOS masked by its id", tokenized(labels.MASKED_BY_ID), "EOS is masked"),
    Row("labels shifted", tokenized(labels.SHIFTED), "the token after it"),
    Row("last five of a cut row", tokenized(labels.LAST_FIVE), "cut after"),
    Row("chat template", tokenized(labels.CHAT), "chat template"),
    Row("rows made when they are asked for", edit("sft.py", "class Collator:", f"{LAZY}\n\nclass Collator:")),
    Row("rows dropped", edit("sft.py", "return len(self.rows)", "return len(self.rows) - 3"), "none may be dropped"),
    Row("format_fn bypassed", edit("sft.py", "**format_fn(*row)", "row[0], str(row[1])"), "<answer>|a tag|no number"),
    # --- task 4 ---
    Row(
        "labels padded with the pad id",
        sft(
            Collator____call__=COLLATE.replace(
                "LABELS", 'torch.tensor([r["labels"] + [self.pad_id] * (width - len(r["labels"])) for r in rows])'
            )
        ),
        "labels that reach the model|gives padding the label|padding tokens|batch that reaches the model",
    ),
    Row(
        "labels rebuilt",
        sft(Collator____call__=COLLATE.replace("LABELS", "ids.masked_fill(mask == 0, -100)")),
        "rebuil",
    ),
    Row("no gradients at the inputs", edit("sft.py", "    adapted.enable_input_require_grads()\n", ""), "re-entrant"),
    Row("LoRA thrown away", edit("sft.py", "    return adapted\n", "    return model\n"), "adapter|LoRA"),
    Row(
        "queries and values only", edit("sft.py", 'target_modules="all-linear"', 'target_modules=["q_proj", "v_proj"]')
    ),
    Row(
        "an argument of transformers 4",
        edit("sft.py", 'lr_scheduler_type="linear"', "warmup_ratio=0.1"),
        "warmup_ratio.*instead: warmup_steps",
    ),
    Row("stock peft in load", sft(load=STOCK_LOAD)),
    Row("load that gives the base", sft(load=ALWAYS_BASE), "load"),
]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox.open("auto") as opened:
        yield opened


@pytest.fixture(scope="module")
def course() -> Course:
    """One base model for all rows."""
    return Course(hidden_questions=1, novel_questions=1)


def source_files() -> dict[str, bytes]:
    """The files of the reference, without an adapter."""
    paths = [path for path in (ROOT / "homework").rglob("*.py") if "sft_model" not in path.parts]
    return {path.relative_to(ROOT / "homework").as_posix(): path.read_bytes() for path in paths}


def ask_three(files: dict[str, bytes], folder: Path) -> dict[str, str]:
    """What public tests, check and training say first."""
    for name in ("data", "tests/public"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, content in files.items():
        (folder / "homework" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "homework" / name).write_bytes(content)
    printed = run_forked(DRIVER, folder)
    assert (folder / "said.json").is_file(), printed
    return json.loads((folder / "said.json").read_text(encoding="utf-8"))


def ask_grader(files: dict[str, bytes], folder: Path, sandbox: Sandbox, course: Course) -> str:
    """What the first check of the grader that fails says; '' if all pass."""
    zips.good(folder / "1.zip", files)
    reference = source_files()
    changed = [name for name, content in files.items() if content != reference[name]]
    for checks in [checks for name, checks in JUDGES if name in changed or not changed]:
        with contextlib.redirect_stdout(io.StringIO()):
            result = grade(folder / "1.zip", course, sandbox, checks)
        if failed := [check for check in result.checks if check.state.name not in FINE]:
            return f"{failed[0].name}: {failed[0].cause}"
    return ""


FINE = ("PASSED", "PARTIAL", "SKIPPED")


@pytest.mark.parametrize("row", every_fifth(ROWS), ids=lambda row: row.name)
def test_every_level_says_the_same(row, tmp_path, sandbox, course):
    files = row.make(source_files())
    with drawn_for(row.name):
        said = ask_three(files, tmp_path) | {"grader": ask_grader(files, tmp_path, sandbox, course)}
    assert set(said) == set(LEVELS)
    if row.wrong:
        lacking = {level: text for level, text in said.items() if not re.search(row.wrong, text)}
    else:
        lacking = {level: text for level, text in said.items() if text}
    assert not lacking, said


def test_every_check_of_the_code_judges_a_file():
    of_weights = {"adapter_present", "configured", "weights_valid", "accuracy", "matches_weights"}
    assert set(CODE_CHECKS) == set(read_rubric("short").points) - of_weights


def test_the_table_is_large_enough_and_has_both_verdicts():
    right = [row for row in ROWS if not row.wrong]
    assert len(ROWS) >= 40 and len(right) >= 12 and len({row.name for row in ROWS}) == len(ROWS)
