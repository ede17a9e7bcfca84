"""The grade of the weights: the reference gets all points, everything else what it is worth, and faults are ours."""

import ast
import json
import math
import re
import signal
import subprocess
import sys
import time
from typing import ClassVar

import pytest
import torch

from grader import __main__, course, interrupts, reference, rubric
from grader.adapter import Adapter, expected_shapes, read_config, read_weights
from grader.check_list import check_names
from grader.course import Course
from grader.errors import GraderFault, Stopped
from grader.grade import grade
from grader.harness.gradients import mean_loss
from grader.harness.harness import Harness
from grader.harness.inputs import COURSE_ADAPTER
from grader.harness.seen_rows import example_of
from grader.report import console, gradescope
from grader.result import CheckResult, Result, State
from grader.rubric import CONFIG, WEIGHTS
from grader.runner import run_checks
from grader.sandbox.host import WALL_SECONDS, Outcome, Sandbox
from grader.seed import PUBLIC, Seed, choose_seed, official_seed
from grader.submission import Submission
from grader.units import draw_questions
from homework.common.base_model import ROOT
from tests.support import zips
from tests.support.adapters import BAD, FINE
from tests.support.rows import rest

WEIGHTS_ALONE = tuple(check_names("weights"))
ZERO, FULL = rubric.read_rubric("short").bounds["accuracy"]


@pytest.fixture(scope="module")
def staff() -> Course:
    """A course with few questions, whose base model is loaded once."""
    return Course(hidden_questions=40, novel_questions=20)


def check(files: dict[str, bytes], staff: Course, **options) -> dict[str, CheckResult]:
    submission = Submission("x.zip", files, [], "0")
    options.setdefault("checks", WEIGHTS_ALONE)
    return {result.name: result for result in run_checks(submission, staff, **options).checks}


# --- the reference ---


@pytest.fixture(scope="module")
def graded_again(reference_zip) -> Result:
    """The reference, graded once more from the start."""
    with Sandbox.open() as sandbox:
        return grade(reference_zip, Course(), sandbox)


def test_the_reference_gets_full_points(graded):
    assert graded.score == graded.points == rubric.ALL_POINTS == 100 and not graded.is_fault and not graded.is_refused
    assert {check.state for check in graded.checks} == {State.PASSED}
    assert [check.name for check in graded.checks] == list(rubric.read_rubric().points)


@pytest.mark.everything
def test_the_reference_gets_full_points_twice_the_same(graded, graded_again):
    assert (graded.checks, graded.sha256) == (graded_again.checks, graded_again.sha256)
    same = ("accuracy", "novel", "answer_rate", "questions_sha256")
    assert [graded.measured[key] for key in same] == [graded_again.measured[key] for key in same]


@pytest.mark.everything
def test_most_of_the_time_the_model_generates(graded, graded_again, files):
    for one in (graded, graded_again):  # four times as long in a class, on a fast machine or a slow one
        assert one.seconds < 8 * one.measured["generating_seconds"]
    staff = Course()
    adapter = read_weights(files[WEIGHTS], read_config(files[CONFIG]), staff.base_config)
    assert staff.base
    started = time.perf_counter()
    measured = staff.measure(adapter)
    assert measured.generating_seconds > 0.8 * (time.perf_counter() - started)


def test_the_official_grading_tells_staff_the_gap_to_the_public_questions(files, tmp_path, capsys):
    (tmp_path / "key").write_bytes(b"a staff key of twenty-odd bytes")
    staff = Course(official_seed(b"a staff key of twenty-odd bytes"), 30, 10)
    adapter = read_weights(files[WEIGHTS], read_config(files[CONFIG]), staff.base_config)
    public = Course(PUBLIC, 30, 10).measure(adapter)
    assert staff.measure(adapter).public == public.accuracy and public.public is None
    assert "public" not in staff.measure(adapter).describe()


def test_the_result_says_where_it_comes_from(graded):
    provenance = graded.provenance
    assert {"grader", "grader_sha256", "base_sha256", "versions", "seed", "platform"} <= set(provenance)
    assert provenance["versions"]["torch"] == "2.13.0" and not graded.notes


def test_another_seed_asks_other_questions_and_the_same_seed_the_same(staff):
    texts = {seed: tuple(q for q, _ in Course(Seed(seed)).draw("hidden", 50)) for seed in (1, 2)}
    assert texts[1] == tuple(q for q, _ in Course(Seed(1)).draw("hidden", 50)) != texts[2]


# --- what is not the reference ---


@pytest.mark.parametrize("name", BAD)
def test_a_bad_adapter_is_named_and_gets_nothing_for_accuracy(files, name, monkeypatch):
    change, failing, cause = BAD[name]
    if name != "other base by hash":
        monkeypatch.setattr(reference, "load_base", lambda: pytest.fail("a refusal must not load the model"))
    results = check(change(dict(files)), Course())
    assert results[failing].state is State.FAILED and re.search(cause, results[failing].cause), results[failing]
    assert results[failing].do, "it says what to do"
    assert results["accuracy"].state is State.SKIPPED and results["accuracy"].score == 0
    assert f"the check {failing!r} did not pass" in results["accuracy"].cause


@pytest.mark.parametrize("name", FINE)
def test_what_is_only_written_otherwise_is_accepted(files, staff, name):
    results = check(FINE[name](dict(files)), staff, checks=("weights_valid",))
    assert [result.state for result in results.values()] == [State.PASSED] * 3


def test_code_beside_the_weights_changes_nothing(files, staff, tmp_path):
    """A lookup table in answer, a generate that computes, a parser that knows: none of it is ever imported."""
    canary = tmp_path / "canary"
    cheat = f"open({str(canary)!r}, 'w').write('ran')\ndef answer(*q): return table(q)\n".encode()
    plain, cheated = check(files, staff), check({**files, "base_llm.py": cheat, "__init__.py": cheat}, staff)
    assert plain["accuracy"].score == cheated["accuracy"].score and not canary.exists()


def test_the_base_alone_and_an_untrained_adapter_answer_nothing(staff):
    answered = reference.ask(staff.base, staff.base.model, staff.draw("hidden", 40))
    assert course.share_right(answered) == 0


def test_after_an_adapter_the_base_is_the_base_again(files, staff):
    before = reference.fingerprint(staff.base.model)
    check(files, staff)
    assert reference.fingerprint(staff.base.model) == before
    assert not any("lora" in name for name, _ in staff.base.model.named_parameters())


@pytest.mark.parametrize(("accuracy", "score", "state"), [
    (0.0, 0, State.FAILED), (ZERO, 0, State.FAILED), (FULL, 60, State.PASSED), ((ZERO + FULL) / 2, 30, State.PARTIAL),
    (1.0, 60, State.PASSED),
])  # fmt: skip
def test_credit_is_a_straight_line_between_two_bounds(files, staff, monkeypatch, accuracy, score, state):
    measured = course.Measured(accuracy, 0.0, 1.0, 1.0, 600, 0.5, 200, 1.0)
    monkeypatch.setattr(Course, "measure", lambda *_: measured)
    result = check(files, staff)["accuracy"]
    assert (round(result.score, 6), result.state) == (score, state) and "95 % interval" in result.detail


@pytest.mark.release
def test_an_adapter_that_knows_the_public_questions_by_heart_gains_little_and_is_told():
    staff = Course(Seed(77, is_official=True), 30, 10)
    rows = [
        (question, f"<answer>{correct:.4g}</answer>") for question, correct in Course(PUBLIC, 30, 10).draw("hidden", 30)
    ]
    shapes = expected_shapes(COURSE_ADAPTER, staff.base_config)
    blank = {name: torch.randn(shape) / shape[-1] ** 0.5 * ("lora_A" in name) for name, shape in shapes.items()}
    adapter = Adapter(*COURSE_ADAPTER, {name: weight.requires_grad_() for name, weight in blank.items()})
    optimizer = torch.optim.Adam(adapter.weights.values(), lr=5e-3)
    examples = [example_of(staff, *row) for row in rows]
    for _ in range(150):
        optimizer.zero_grad()
        mean_loss(reference.with_lora(staff.base.model, adapter), examples).backward()
        optimizer.step()
    learned = {name: weight.detach() for name, weight in blank.items()}
    measured = staff.measure(Adapter(*COURSE_ADAPTER, learned))
    assert measured.public > 0.9 and measured.accuracy < FULL - 0.1, measured


# --- our own faults ---


@pytest.mark.parametrize("fault", ["raises", "nan", "too much", "no questions", "base"])
def test_a_fault_of_ours_is_no_zero_and_no_pass(files, tmp_path, monkeypatch, fault):
    zips.good(tmp_path / "x.zip", files)
    staff = Course(hidden_questions=0 if fault == "no questions" else 5, novel_questions=5)
    if fault == "raises":
        monkeypatch.setattr(reference, "ask", lambda *_: 1 / 0)
    elif fault in ("nan", "too much"):
        wrong = course.Measured(float("nan") if fault == "nan" else 7.0, 0.0, 1.0, 1.0, 600, 0.5, 200, 1.0)
        monkeypatch.setattr(Course, "measure", lambda *_: wrong)
    elif fault == "base":
        monkeypatch.setitem(rubric.BASE_SHA256, "config.json", "0" * 64)
    result = grade(tmp_path / "x.zip", staff, None, WEIGHTS_ALONE)
    assert result.is_fault, result
    assert "NO SCORE" in console.render(result)
    assert "score" not in json.loads(gradescope.render(result))


def test_a_changed_base_model_is_our_fault_before_any_weight_is_read(files, tmp_path, monkeypatch):
    zips.good(tmp_path / "x.zip", files)
    monkeypatch.setitem(rubric.BASE_SHA256, "config.json", "0" * 64)
    result = grade(tmp_path / "x.zip", Course(), None, ("weights_valid",))
    assert result.is_fault and "base model is not whole" in str(result.checks[-1].traceback)


@pytest.mark.parametrize(("sent", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_is_no_fault_of_the_grader(files, tmp_path, monkeypatch, capsys, sent, code, name):
    zips.good(tmp_path / "x.zip", files)
    monkeypatch.setattr(Course, "measure", lambda *_: signal.raise_signal(sent))
    monkeypatch.setattr(sys, "argv", ["grader", str(tmp_path / "x.zip"), "--only", "accuracy"])
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it
    try:
        ended = interrupts.run(__main__.main, "nothing was graded")
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    said = capsys.readouterr()
    assert ended == code and f"stopped by {name}: nothing was graded" in said.err and "accuracy" not in said.out


@pytest.mark.parametrize("line", ["-m grader homework", rest("bundle.py homework 123456")])
def test_ctrl_c_among_the_imports_is_one_line(line):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background has it off
    code += "import os, sys; os.execv(sys.executable, [sys.executable, '-X', 'importtime', *sys.argv[1:]])"
    process = subprocess.Popen([sys.executable, "-c", code, *line.split()], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    seen = ""
    while "numpy" not in seen:  # in the middle of torch
        seen = process.stderr.readline()
        assert seen, "it ended by itself"
    process.send_signal(signal.SIGINT)
    said = re.sub("import time:.*", "", process.communicate(timeout=60)[1]).split("\n")  # of another thread
    assert process.returncode == 130 and [line[:21] for line in said if line] == ["stopped by Ctrl-C: no"]


def test_a_check_that_hangs_is_our_fault(files, staff, monkeypatch):
    monkeypatch.setattr(rubric, "CHECK_SECONDS", 0.3)
    monkeypatch.setattr(Course, "measure", lambda *_: time.sleep(30))
    result = check(files, staff)["accuracy"]
    assert result.state is State.FAULT and "the grader took more than 0.3 s" in result.cause
    assert Result("x", "0", (result,)).is_fault, "no code of the student runs here, so the machine is to blame"


def test_what_took_too_long_is_the_cause_of_every_check_that_rests_on_it(files, monkeypatch):
    """pytest keeps no fixture that was interrupted so, and its own assertion would look like another fault."""
    monkeypatch.setattr(rubric, "CHECK_SECONDS", 0.3)
    monkeypatch.setattr(Course, "measure_reasons", lambda *_: time.sleep(30))
    both = {name.replace("sft_model", "rft_model"): content for name, content in files.items()}
    long = Course(rubric=rubric.read_rubric("long"))
    assert long.base  # loaded before the time counts, which a busy machine would use up for it
    found = check(both, long, checks=("reasoning_accuracy", "reasons"))
    for name in ("reasoning_accuracy", "reasons"):
        assert found[name].state is State.FAULT and "took more than 0.3 s" in found[name].cause, found[name]


def test_without_a_sandbox_no_code_runs(reference_files, staff):
    result = check(reference_files, staff, checks=("spans",))["supervised"]
    assert result.state is State.FAULT and "no sandbox was given" in result.traceback


def test_a_sandbox_that_fails_is_not_started_again_for_each_check():
    class Broken:
        runs = 0

        def run(self, *_):
            Broken.runs += 1
            raise GraderFault("the sandbox failed")

    harness = Harness(Submission("x.zip", {}, [], "0"), Course(), Broken())
    for _ in range(3):
        with pytest.raises(GraderFault, match="the sandbox failed"):
            harness.scoring  # noqa: B018 (it runs the job)
    assert Broken.runs == 1


@pytest.mark.parametrize(("delay", "raised"), [(400.0, GraderFault), (10.0, Stopped)])
def test_all_jobs_of_a_submission_share_one_time_and_a_busy_machine_is_no_fault_of_a_student(delay, raised):
    class Slow:
        given: ClassVar[list[float]] = []

        def run(self, job, code, inputs, seconds, wall):
            Slow.given.append(wall)
            harness.seconds += 530
            return Outcome("exit 0", {}, "", 530.0, delay)

    harness = Harness(Submission("x.zip", {}, [], "0"), Course(), Slow())
    harness.scoring  # noqa: B018 (it runs the job)
    with pytest.raises(raised, match="busy" if raised is GraderFault else "waited"):
        harness.run("agreeing", {})
    assert Slow.given == [WALL_SECONDS] and WALL_SECONDS < rubric.CHECK_SECONDS


@pytest.mark.parametrize("score", [float("nan"), -1.0, 6.0, float("inf")])
def test_no_score_outside_its_points_can_be_written(score):
    with pytest.raises(ValueError, match="a score of"):
        CheckResult("x", "x", 5, score, State.PASSED)
    with pytest.raises(ValueError, match="but it is failed"):
        CheckResult("x", "x", 5, 1.0, State.FAILED)


def test_nothing_graded_is_no_result():
    assert Result("x", "0", ()).is_fault
    with pytest.raises(GraderFault, match="there is no check 'nothing'"):
        run_checks(Submission("x.zip", {}, [], "0"), Course(), checks=("nothing",))


# --- the runner is alone ---


@pytest.mark.everything
def test_the_working_folder_has_no_say(files, tmp_path):
    """A conftest, settings and environment that would turn every check green, or make none run."""
    zips.good(tmp_path / "x.zip", {**files, CONFIG: b"{"})
    (tmp_path / "conftest.py").write_text("raise SystemExit(0)")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    environment = {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "--collect-only", "PYTEST_PLUGINS": "evil"}
    line = [sys.executable, "-m", "grader", "x.zip", "--json", "r.json"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["score"] == 2


def test_the_grader_shares_nothing_with_the_student():
    """No import of homework, no pickle, no torch.load, no peft on a student's folder."""
    for path in (ROOT / "grader").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        names = {
            alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names
        }
        names |= {node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & {"homework", "tools", "pickle", "dill", "joblib", "shelve"}
        assert not re.search(
            r"torch\.load|from_pretrained\((?!rubric\.BASE|job\.folder)|trust_remote_code=|(?<![.\w])(eval|exec)\(",
            text,
        ), path
        if path.parent.name == "guest":
            assert not {name for name in names if name.startswith("grader")}, "nothing of the grader in the guest"


# --- seeds and keys ---


def test_the_official_seed_comes_from_the_key_alone(tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(b"a staff key of twenty-odd bytes\n")
    seed = choose_seed(None, str(tmp_path / "key"))
    assert seed.label == "official" and seed.is_official and seed == official_seed(b"a staff key of twenty-odd bytes")
    assert choose_seed(None, None) == Seed(rubric.PUBLIC_SEED) == PUBLIC
    assert PUBLIC.label == f"public {rubric.PUBLIC_SEED}"
    assert choose_seed(7, str(tmp_path / "key")) == Seed(7) and Seed(7).label == "public 7"
    assert draw_questions("hidden", 3, seed.value) != draw_questions(
        "hidden", 3, official_seed(b"another key of enough bytes").value
    )


def test_an_empty_name_of_a_key_is_a_missing_key(monkeypatch, capsys):
    monkeypatch.setenv("GRADER_KEY_FILE", "")
    assert __main__.main(["x.zip"]) == 2 and "can't read the staff key" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_missing_or_short_key_never_falls_back_to_the_public_questions(tmp_path, capsys, content):
    if content:
        (tmp_path / "key").write_bytes(content)
    assert __main__.main(["x.zip", "--key-file", str(tmp_path / "key")]) == 2
    assert "key" in capsys.readouterr().err


def test_only_runs_a_check_and_what_it_needs(files, staff):
    assert list(check(files, staff, checks=("configured",))) == ["adapter_present", "configured"]
    assert check_names("weights") == ["adapter_present", "configured", "weights_valid", "accuracy"]


# --- the rubric ---


def test_the_bounds_rest_on_the_calibration():
    measured = json.loads((ROOT / "grader" / "calibration.json").read_text())
    assert len(measured["accuracies"]) >= 5 and measured["questions"] == rubric.HIDDEN_QUESTIONS >= 300
    assert measured["base_alone"] < ZERO < FULL <= measured["highest_full"]


def test_the_metric_takes_no_nonsense():
    assert [answered(text).is_right for text in ("2.1", "2.2", "nan", "inf")] == [True, False, False, False]
    assert math.isnan(answered("1e999").number)


def answered(text: str) -> reference.Answered:
    """An answer to a question whose correct answer is 2."""
    return reference.Answered("", f"<answer>{text}</answer>", 2.0)
