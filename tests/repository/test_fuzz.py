"""The fuzzer of submissions: its cases, what it says of a check that was taken away, and that it goes on."""

import ast
import json
import random
from collections.abc import Iterator

import pytest

from grader import runner
from grader.check_list import check_names
from grader.result import CheckResult, Result, State
from grader.rubric import read_rubric
from grader.sandbox.host import Sandbox
from homework.common.errors import HomeworkError
from tools.fuzz import MUTATORS, __main__, judging
from tools.fuzz.cases import Case
from tools.fuzz.judging import ACCUSED, FAULT, MISSED, RUBRIC, Judge, judge, make_case

SAMPLE = 60  # cases of each mutator that are made, not graded
# A mutator that names a check in one of its first cases, for those that are taken away below.
NAMED_BY = {
    "configured": "config",
    "parser": "parser",
    "metric": "metric",
    "spans": "mask_shifted",
    "refuses": "load_adapter",
}


@pytest.fixture(scope="module")
def made(reference_files) -> dict[str, list[Case]]:
    """Cases of each mutator, in the style of the solution."""
    return {
        name: [mutator.make(random.Random(f"{name}:{at}"), reference_files) for at in range(SAMPLE)]
        for name, mutator in MUTATORS.items()
    }


@pytest.mark.everything
def test_every_check_of_the_code_and_of_the_weights_is_named_by_a_mutator(made):
    named = {check for cases in made.values() for case in cases for check in case.failing}
    scored = {name for name, points in read_rubric(RUBRIC).points.items() if points}
    assert named - {"submission"} == scored


@pytest.mark.everything
def test_a_case_asks_what_it_names_and_every_mutator_makes_right_ones(made):
    for name, cases in made.items():
        asked = set(MUTATORS[name].asked.split())
        assert asked <= set(check_names()), name
        assert any(case.is_right and not case.perhaps for case in cases), name
        assert len({case.words for case in cases}) > 1 or name == "style_only", name
        assert not any(case.failing & case.perhaps for case in cases), name


def test_a_case_is_python_in_any_style_and_the_same_for_the_same_name(reference_files):
    for name in MUTATORS:
        case = make_case(f"{name}:1", 0, reference_files)
        again = make_case(f"{name}:1", 0, reference_files).files
        assert not [path for path in case.files.keys() | again if case.files.get(path) != again.get(path)], name
        for file in ("sft.py", "base_llm.py", "data.py"):
            ast.parse(case.files[file].decode("utf-8-sig"))


def result_of(**states: State) -> Result:
    """A result whose checks ended so; each is worth 2 points."""
    return Result("x", "", tuple(
        CheckResult(name, name, 2, 2 if state is State.PASSED else 1 if state is State.PARTIAL else 0, state, "a cause")
        for name, state in states.items()
    ))  # fmt: skip


@pytest.mark.parametrize(
    "failing, perhaps, states, kinds",
    [
        ("", "", {"spans": State.PASSED}, []),
        ("", "", {"spans": State.FAILED}, [(ACCUSED, "spans")]),
        ("", "", {"spans": State.PARTIAL}, [(ACCUSED, "spans")]),
        ("", "spans", {"spans": State.FAILED}, []),
        ("spans", "", {"spans": State.FAILED, "trains": State.SKIPPED}, []),
        ("spans", "", {"spans": State.PASSED}, [(MISSED, "spans")]),
        ("spans", "", {"spans": State.PASSED, "trains": State.CRASHED}, [(ACCUSED, "trains"), (MISSED, "spans")]),
        ("spans trains", "", {"spans": State.FAILED, "trains": State.PASSED}, [(MISSED, "trains")]),
        ("submission", "", {"spans": State.PASSED}, [(MISSED, "submission")]),
        ("spans", "", {"spans": State.FAULT}, [(FAULT, "spans")]),
    ],
)
def test_what_is_found_follows_from_the_states_of_the_checks(failing, perhaps, states, kinds):
    case = Case({}, "a case", frozenset(failing.split()), frozenset(perhaps.split()))
    found = judge(case, result_of(**states), dict.fromkeys(states, 2.0))
    assert [(finding.kind, finding.check) for finding in found] == kinds


@pytest.mark.parametrize(
    "cases, only, said",
    [(5, "mask_shift", "there is no mutator 'mask_shift'"), (0, None, "--cases must be at least 1")],
)
def test_what_can_not_be_made_is_an_error(cases, only, said):
    with pytest.raises(HomeworkError, match=said):
        __main__.main(cases=cases, only=only)


@pytest.mark.parametrize(
    "content, said", [("[]", "something else than cases"), ('{"seed": 1, "full": {}, "cases": {}}', "of seed 1")]
)
def test_another_file_is_not_gone_on_with(tmp_path, content, said):
    path = tmp_path / "fuzz.json"
    path.write_text(content)
    with pytest.raises(HomeworkError, match=said):
        __main__.main(cases=1, out=str(path))
    assert path.read_text() == content


def entry(*found: str) -> dict:
    """A case of the record, with findings of these kinds."""
    findings = [{"kind": kind, "check": "spans", "said": "why"} for kind in found]
    return {"words": "w", "failing": [], "perhaps": [], "seconds": 1.0, "found": findings}


def test_a_run_goes_on_and_grades_again_what_it_found(tmp_path, monkeypatch, capsys):
    path, asked = tmp_path / "fuzz.json", []

    class Stub:
        full = {"spans": 4.0}

        def __init__(self, *_: object) -> None: ...

        def try_case(self, name: str, whole: bool) -> dict:
            asked.append(name)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return entry(MISSED) if name == "mask_shifted:0" and len(asked) < 3 else entry()

    monkeypatch.setattr(__main__, "Judge", Stub)
    monkeypatch.setattr(__main__, "find_adapter", lambda: tmp_path)
    monkeypatch.setattr(__main__.Sandbox, "open", lambda _: __main__.contextlib.nullcontext())
    with pytest.raises(SystemExit, match="1"):
        __main__.main(cases=4, out=str(path), only="mask_shifted")
    said = capsys.readouterr()
    assert "mask_shifted:0 missed fault: spans 'why' | w" in said.out and "stopped after 2 of 4" in said.err
    assert [*json.loads(path.read_text())["cases"]] == ["mask_shifted:0", "mask_shifted:1"]
    __main__.main(cases=4, out=str(path), only="mask_shifted")
    assert asked[3:] == ["mask_shifted:0", "mask_shifted:2", "mask_shifted:3"]
    assert capsys.readouterr().out.splitlines()[1].split() == ["mask_shifted", "4", "4", "0", "0", "0", "1.0"]


@pytest.fixture(scope="module")
def judge_of(reference_files, tmp_path_factory) -> Iterator[Judge]:
    """What grades cases, with a sandbox that is warm."""
    with Sandbox.open("auto") as sandbox:
        yield Judge(reference_files, tmp_path_factory.mktemp("fuzz"), sandbox)


@pytest.mark.release
@pytest.mark.parametrize("check", NAMED_BY)
def test_a_check_that_was_taken_away_is_found(judge_of, monkeypatch, check):
    right = runner.ScoringPlugin.judge

    def blind(plugin, item, call):
        found = right(plugin, item, call)
        return (
            CheckResult(check, found.title, found.points, found.points, State.PASSED) if found.name == check else found
        )

    monkeypatch.setattr(runner.ScoringPlugin, "judge", blind)
    names = (f"{NAMED_BY[check]}:{at}" for at in range(SAMPLE))
    name = next(name for name in names if check in make_case(name, 0, judge_of.files).failing)
    found = judge_of.try_case(name, whole=False)["found"]
    assert (MISSED, check) in [(finding["kind"], finding["check"]) for finding in found]
    assert (judge_of.folder / f"{name.replace(':', '-')}.zip").is_file()


@pytest.mark.release
def test_a_reference_that_fails_is_no_measure(reference_files, tmp_path, judge_of):
    files = {**reference_files, "data.py": b""}
    with pytest.raises(HomeworkError, match="the reference does not pass"):
        judging.Judge(files, tmp_path, judge_of.sandbox)


@pytest.mark.release
def test_forty_cases_get_their_verdict(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "find_adapter", lambda: trained.folder)
    __main__.main(cases=40, seed=1, out=str(tmp_path / "fuzz.json"))
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["all", "40"]
