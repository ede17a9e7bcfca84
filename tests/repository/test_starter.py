"""The starter: it builds, says what is missing, is graded 0, gives nothing away, and takes the solution back."""

import contextlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from grader import __main__, rubric
from grader.course import Course
from grader.grade import grade
from grader.sandbox.host import Sandbox
from homework.check import Known, find_gaps, run_check
from homework.common.base_model import ROOT
from tests.support import zips
from tests.support.forked import run_forked
from tests.support.rows import rest
from tools import make_starter
from tools.make_starter import BEGIN, END, MarkerError

FILES = tuple(f"homework/{name}.py" for name in ("base_llm", "data", "sft", "cot", "datagen", "rft"))


def tasks() -> list[str]:
    """'task 1: parse_answer' and so on, as the solved files have them."""
    found = [re.findall(rf"{BEGIN} (.+)", (ROOT / name).read_text()) for name in FILES]
    assert all(found), "each of the files holds a task"
    return [task for names in found for task in names]


@pytest.fixture(scope="module")
def starter(tmp_path_factory) -> Path:
    """The starter of this repository."""
    out = tmp_path_factory.mktemp("starter") / "homework-2026"
    assert make_starter.main([str(out)]) == 0
    return out


def test_only_what_students_need_is_in_it(starter):
    names = {path.relative_to(starter).as_posix() for path in starter.rglob("*") if path.is_file()}
    assert {
        *FILES,
        "README.md",
        "bundle.py",
        "grader/__main__.py",
        "data/train.json",
        "homework/experiment.py",
        "homework/ANSWERS.md",
        "tests/public/test_task1.py",
    } <= names
    forbidden = re.compile(
        r"^(tools|benchmarks|\.ci|tests/(?!public|__init__))|sft_model|classroom(?!\.yml)|CONTRIBUTING|\.zip$"
    )
    assert not [name for name in names if forbidden.search(name)]


def test_no_solution_is_left(starter):
    for name in FILES:
        text = (starter / name).read_text()
        assert "SOLUTION" not in text and "# Hint:" in text
        compile(text, name, "exec")
    assert "return math.nan" not in (starter / FILES[0]).read_text()


def test_the_public_checks_name_every_task(starter):
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(line, cwd=starter, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    said = [line.removesuffix(" is not implemented yet") for line in done.stdout.splitlines()[-1 - len(tasks()) : -1]]
    assert sorted(said) == sorted(tasks()), done.stdout
    assert "passed" not in done.stdout and "Traceback" not in done.stdout


def test_check_shows_every_gap_of_an_empty_starter_with_its_place(starter):
    line = [sys.executable, "-m", "homework.check"]
    done = subprocess.run(line, cwd=starter, capture_output=True, text=True, check=False)
    shown = re.findall(
        r"^\[gap \] \w+ +(task \d: \w+) is not implemented yet \(\w+\.py, line \d+\)$", done.stdout, re.MULTILINE
    )
    assert sorted(shown) == sorted(tasks()) and done.stderr.startswith("error: gaps left: 22, the next one is task 1")


def test_check_lists_every_gap_in_the_order_of_the_tasks(starter):
    order = [re.fullmatch(r"task (\d+): (\w+)", task).groups() for task in tasks()]
    gaps = find_gaps(starter / "homework")
    assert [(gap.task, gap.name) for gap in gaps] == [(int(number), name) for number, name in order]
    assert gaps == sorted(gaps, key=lambda gap: gap.task) and {gap.task for gap in gaps} == set(range(1, 8))
    assert find_gaps(ROOT / "homework") == []
    for gap in gaps:
        line = (starter / "homework" / gap.file).read_text().splitlines()[gap.line - 1]
        assert line.strip() == f'raise NotImplementedError("{gap}")'


def blanked(label: str, folder: Path) -> Path:
    """A copy of the repository's student side with one gap of the starter."""
    for name in ("homework", "tests/public", "data", "grader"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "sft_model", "rft_model")
        )
    (folder / "tests" / "__init__.py").touch()
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for name in FILES:
        pieces = make_starter.split_solutions((ROOT / name).read_text(), name)
        text = "".join(stub if f"{BEGIN} {label}" in solved else solved for solved, stub in pieces)
        (folder / name).write_text(text)
    return folder


@pytest.mark.everything
@pytest.mark.parametrize("label", tasks())
def test_the_first_check_that_fails_is_the_one_of_the_gap(label, tmp_path):
    """Each gap has a public check of its name, and no check of another gap fails before it."""
    name = label.partition(": ")[2]
    code = 'import pytest\npytest.main(["-x", "-p", "no:cacheprovider", "tests/public"])\n'
    said = run_forked(code, blanked(label, tmp_path))
    assert "\n1 failed" in said and f"::test_{name}" in said and f"{label} is not implemented yet" in said, said


def test_the_gaps_are_of_a_size_that_one_evening_takes(tmp_path):
    gaps = make_starter.build(ROOT, tmp_path / "starter")
    numbers = [int(re.findall(r"task (\d)", label)[0]) for label in gaps]
    short = sum(lines for number, lines in zip(numbers, gaps.values(), strict=True) if number <= 4)
    assert 100 <= short <= 160 and sum(gaps.values()) - short <= 60 and max(gaps.values()) <= 25
    assert numbers == sorted(numbers)


@pytest.mark.everything
def test_the_starter_is_graded_0(starter, capsys):
    assert __main__.main([str(starter / "homework"), "--only", "adapter_present,configured,weights_valid"]) == 0
    with Sandbox.open() as sandbox:
        result = grade(starter / "homework", Course(), sandbox)
    assert result.score == 0 and not result.is_fault and not result.is_refused
    said = {check.cause for check in result.checks}
    assert len([cause for cause in said if "not implemented yet" in cause]) >= 5, said
    assert "train with python -m homework.sft train" in " ".join(capsys.readouterr().out.split())


def test_the_grader_of_the_starter_refuses_a_folder_of_zips_and_names_the_staff_repository(starter, tmp_path):
    (tmp_path / "1.zip").touch()
    line = [sys.executable, "-m", "grader", str(tmp_path), "--out", "results"]
    done = subprocess.run(line, cwd=starter, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: {tmp_path} is a folder of zips: this copy grades one homework, the staff repository grades a class"
    ]


@pytest.fixture
def restored(starter) -> dict[str, bytes]:
    """The starter's homework with the solution back."""
    restored = {}
    for name in FILES:
        given, solved = (starter / name).read_text(), (ROOT / name).read_text()
        restored[name.removeprefix("homework/")] = make_starter.restore(given, solved, name).encode()
    for path in (starter / "homework").rglob("*.py"):
        restored.setdefault(path.relative_to(starter / "homework").as_posix(), path.read_bytes())
    return restored


def test_with_the_solution_back_it_is_the_original(restored):
    assert {name: restored[name.removeprefix("homework/")] for name in FILES} == {
        name: (ROOT / name).read_bytes() for name in FILES
    }


@pytest.mark.everything
def test_with_the_solution_back_it_gets_full_points(restored, files, tmp_path):
    zips.good(tmp_path / "x.zip", {**restored, **files})
    with Sandbox.open() as sandbox:
        result = grade(tmp_path / "x.zip", Course(), sandbox)
    assert result.score == result.points == rubric.ALL_POINTS


def test_the_handout_of_the_starter_names_only_what_is_there(starter):
    text = (starter / "README.md").read_text()
    for page in (starter / "README.md", *(starter / "docs").iterdir()):
        for name in re.findall(r"\]\(([\w./-]+)\)", page.read_text()):
            assert (page.parent / name).exists(), f"{page.name} of the starter links {name}"
    assert "SOLUTION" not in text and "solved homework" not in text and "is not implemented yet" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BEGIN} task 1: a\n{BEGIN} task 1: b\n{END}\n", "line 2: .* within another"),
        (f"{BEGIN} task 1: a\nx = 1\n", "is never closed"),
        (f"x = 1\n{END}\n", "line 2: .* without"),
        (f"{BEGIN}\n{END}\n", "line 1: write"),
        (f"{BEGIN} task one: a\n{END}\n", "line 1: write"),
        ("# BEGIN SOLUTIONS task 1: a\n", "line 1: (misspelt|write)"),
        ("# END SOLUTION.\n", "line 1: misspelt"),
    ],
)
def test_wrong_markers_are_errors(text, message):
    with pytest.raises(MarkerError, match=message):
        make_starter.split_solutions(text, "x.py")


def test_a_stub_keeps_indentation_and_hints():
    text = f"def f():\n    {BEGIN} task 1: f\n    # Hint: add.\n    # why\n    return 1\n    {END}\n"
    given = make_starter.strip(text, "x.py")
    assert given == 'def f():\n    # Hint: add.\n    raise NotImplementedError("task 1: f is not implemented yet")\n'
    assert make_starter.restore(given, text, "x.py") == text
    with pytest.raises(MarkerError, match="is not there once"):
        make_starter.restore(given.replace("raise", "pass"), text, "x.py")


def test_a_solution_that_stands_elsewhere_is_found(tmp_path):
    for name in ("homework", "data", "tools/starter"):
        (tmp_path / name).mkdir(parents=True)
    for name in make_starter.OVERLAY:
        (tmp_path / name).write_text("for students\n")
    secret = "    return [token for token in everything if token is supervised]\n"
    (tmp_path / "homework" / "sft.py").write_text(f"def f():\n    {BEGIN} task 1: f\n{secret}    {END}\n")
    (tmp_path / "homework" / "other.py").write_text(f"def g():\n{secret}")
    with pytest.raises(MarkerError, match=r"other.py gives away homework/sft.py: task 1: f"):
        make_starter.build(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_markers_or_into_a_full_folder_nothing_is_built(tmp_path, capsys):
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework" / "sft.py").write_text("solved = True\n")
    with pytest.raises(MarkerError, match="students would get the solution"):
        make_starter.build(tmp_path, tmp_path / "out")
    assert make_starter.main([str(tmp_path)]) == 2 and "is there already" in capsys.readouterr().err


# Modules of the grader that a student gets and that compute; those that start processes or write files are no solution.
COMPUTING = (
    "grader.reference", "grader.adapter", "grader.harness.spans", "grader.harness.label_diagnosis",
    "grader.harness.decoding", "grader.harness.gradients", "grader.harness.seen_rows", "grader.harness.first_step",
    "grader.harness.learning", "grader.checks.answering", "grader.checks.labels",
    "grader.checks.training", "grader.checks.scoring", "grader.checks.loading",
)  # fmt: skip
# Where a gap's body stands: the attribute that a pasted function takes the place of, and whether it gets self.
PLACES = {
    "parse_answer": ("homework.base_llm.parse_answer", False),
    "format_prompt": ("homework.base_llm.BaseLLM.format_prompt", True),
    "complete_batch": ("homework.base_llm.BaseLLM.complete_batch", True),
    "batched_generate": ("homework.base_llm.BaseLLM.batched_generate", True),
    "answer": ("homework.base_llm.BaseLLM.answer", True),
    "is_answer_valid": ("homework.guards.metric_check.is_answer_valid", False),
    "from_answers": ("homework.data.BenchmarkResult.from_answers", False),
    "benchmark": ("homework.guards.metric_check.benchmark", False),
    "format_example": ("homework.sft.format_example", False),
    "tokenize": ("homework.sft.tokenize", False),
    "TokenizedDataset": ("homework.sft.TokenizedDataset.__init__", True),
    "collate": ("homework.sft.Collator.__call__", True),
    "add_lora": ("homework.sft.add_lora", False),
    "training_arguments": ("homework.sft.training_arguments", False),
    "worked_example": ("homework.cot.worked_example", False),
    "cot_prompt": ("homework.cot.CoTModel.format_prompt", True),
    "find_fault": ("homework.datagen.find_fault", False),
    "select_rows": ("homework.datagen.select_rows", False),
    "format_reasoning": ("homework.rft.format_reasoning", False),
}


def computing_functions() -> list[Callable]:
    """The functions, and the methods and properties of classes, that stand in these modules."""
    found: list[Callable] = []
    for name in COMPUTING:
        module = import_module(name)
        owners = [vars(module), *(vars(kind) for kind in vars(module).values() if inspect.isclass(kind))]
        values = [value.fget if isinstance(value, property) else value for owner in owners for value in owner.values()]
        found += [value for value in values if inspect.isfunction(value) and value.__module__ == name]
    return found


@pytest.mark.parametrize("gap", [*sorted(PLACES)[:1], *(rest(gap) for gap in sorted(PLACES)[1:])])
def test_no_function_of_the_grader_is_a_solution(gap, monkeypatch):
    """Pasted into the gap, with self and without, each leaves the gap's check failing; the solution itself passes."""
    known, (place, has_self) = Known(), PLACES[gap]
    run_check(gap, known)
    passing = []
    for function in computing_functions():
        for pasted in (function, lambda self, *given, f=function: f(*given)) if has_self else (function,):
            monkeypatch.setattr(place, classmethod(pasted) if gap == "from_answers" else pasted)
            vars(known).pop("rows", None)  # made by a gap themselves
            with contextlib.suppress(Exception):
                run_check(gap, known)
                passing.append(function.__qualname__)
    assert not passing


def test_every_gap_has_a_place():
    names = {label.partition(": ")[2] for label in tasks()}
    # Nothing in the grader trains; and load is proved by a training, which gives the trained model back or fails.
    assert names - {"train_model", "load", "train_reasoning"} == set(PLACES)
