"""Whatever a submission writes in the place of an answer, each check refuses it: no fault of ours, no point."""

import copy
import inspect
import json
import struct
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from grader import reference
from grader.checks import answering, labels, training
from grader.course import Course
from grader.errors import Refusal, Stopped
from grader.harness import first_step
from grader.harness.gradients import read_tensors
from grader.harness.harness import Harness
from grader.harness.job_report import JobReport, name_closed
from grader.sandbox.host import Outcome
from grader.sandbox.job_output import prune, read_lines

STEPS = {
    "parse_answer": answering.test_parser, "generate": answering.test_generate,
    "batched_generate": answering.test_padding, "batched_generate n=1": answering.test_num_return_sequences,
    "format_prompt of questions": answering.test_answer, "answer": answering.test_answer,
    "format_example": labels.test_format, "tokenize bundled": labels.test_supervised,
    "tokenize sentencepiece": labels.test_spans, "tokenize later": labels.test_tokenize_stable,
    "TokenizedDataset": labels.test_dataset, "batches": training.test_batch, "train_model": training.test_trains,
}  # fmt: skip
ROWS = [
    {"input_ids": None, "labels": []}, {"input_ids": [5, 6], "labels": None}, {"input_ids": [], "labels": []},
    {"input_ids": [5, 6], "labels": [-5, 2**62]}, {"input_ids": [5, 6], "labels": [5], "attention_mask": [1]},
    {"input_ids": [2], "labels": [2]}, {"input_ids": "ab", "labels": "ab"}, {"input_ids": [True], "labels": [5]},
    {"input_ids": [5, 6], "labels": [5, 6], "attention_mask": [0, 0]},
    {"input_ids": [[5, 6]], "shift_labels": 5}, {"input_ids": [[5, 6]], "attention_mask": [[0, 0]]},
    {"input_ids": [[5, 6]], "labels": [[1.5, 10**30]]}, {"input_ids": [[2, 2]]},
]  # fmt: skip
NASTY = [
    None,
    True,
    10**4000,
    float("nan"),
    "\ud800",
    "<answer>" * 5000,
    [],
    [[]],
    {},
    {"a": 1},
    ["silence"] * answering.QUESTIONS,
]
NASTY += [[row] * count for row in [*ROWS, None, 10**4000, "\ud800", {}] for count in (1, 3, 11, 16, 64)]
NASTY += [[{"input_ids": [[5] * 40_000]}] * 3]  # more than the grader could compute with


SHARED = Harness(SimpleNamespace(files={}, sha256="0"), Course(), None)


def code_of(files: dict[str, bytes]) -> Harness:
    """The harness of a submission whose every job leaves these files."""
    code = copy.copy(SHARED)
    for job in ("answering", "labels", "training"):
        code.__dict__[job] = JobReport(job, Outcome("exit 0", files, "", 0.0))
    return code


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What the model writes is not asked here."""
    for drawn in ("prompts", "texts", "rows", "train_rows", "ids", "number"):
        getattr(SHARED, drawn)
    monkeypatch.setitem(SHARED.__dict__, "written", ["a text of the model" for _ in SHARED.ids])


@pytest.mark.parametrize("step", STEPS)
def test_no_answer_breaks_a_check_or_earns_a_point(step):
    others = {"format_prompt of questions": ["x"] * 3, "answer": [float("nan")] * 3, "generate": []}
    for nasty in NASTY:
        values = {**others, step: nasty}
        found = b"\n".join(json.dumps({"name": name, "value": value}).encode() for name, value in values.items())
        code = code_of({"results.jsonl": found})
        wanted = inspect.signature(STEPS[step]).parameters
        with pytest.raises(Refusal) as refused:
            STEPS[step](
                **{name: value for name, value in {"code": code, "course": code.course}.items() if name in wanted}
            )
        for said in refused.value.details.values():
            assert len(said.encode()) < 3000


def test_a_prompt_without_a_question_earns_nothing():
    """answer would be right about nothing."""
    values = {
        "format_prompt of questions": ["silence"] * answering.QUESTIONS,
        "answer": [float("nan")] * answering.QUESTIONS,
    }
    found = b"\n".join(json.dumps({"name": name, "value": value}).encode() for name, value in values.items())
    with pytest.raises(Refusal, match="format_prompt gives 'silence', but the rows"):
        answering.test_answer(code_of({"results.jsonl": found}))


def test_what_no_worker_writes_is_pruned():
    deep = b'{"name": "x", "value": ' + b"[" * 900 + b"]" * 900 + b"}"
    lines = read_lines({"results.jsonl": b'\xff\n[1]\n{"name": 3}\n' + b"[" * 10**5 + b"\n" + deep})
    assert len(lines) == 1 and len(repr(lines)) < 200
    assert prune("\ud800") == "?" and prune(-(10**30)) == {"__type__": "a whole number of more than 63 bits"}
    assert prune({"a" * 10**6: [True, 1.5, None]}) == {"a" * 20_000: [True, 1.5, None]}


def test_a_million_tags_are_read_at_once():
    many, one = (reference.Answered("", text, 1.0).number for text in ("<answer>" * 10**6, "<answer>1</answer>"))
    assert many != one == 1


@pytest.mark.parametrize(
    ("message", "asked", "words"),
    [
        ("[Errno 30] Read-only file system: '/tmp/train.log'", "", "only the folder of the submission"),
        ("[Errno 13] Permission denied: '/tmp/train.log'", "", "only the folder of the submission"),
        ("[Errno 2] No such file or directory: '/tmp/logs/train.log'", "", "only the folder of the submission"),
        ("[Errno 2] No such file or directory: '/tmp/grader-job-7-x/jobs/y/homework/z'", "", ""),
        ("[Errno 2] No such file or directory: 'runs/train.log'", "", ""),
        ("[Errno 2] No such file or directory: '/tmp/grader-job-7-x/jobs/y/homework/my.toml'", "", "takes code alone"),
        ("[Errno 2] No such file or directory: 'runs/notes.txt'", "", ""),
        ("[Errno 30] Read-only file system", "another process", "no other processes"),
        ("a library's own words", "another process", ""),
        ("[Errno 1] Operation not permitted", "", "no network and no other processes"),
        ("[Errno 1] Operation not permitted: 'run-7' -> 'runs/latest'", "", "the sandbox makes no links"),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", "", "no network and no other processes"),
    ],
)
def test_what_the_sandbox_closes_is_named(message, asked, words):
    said, do = name_closed(message, asked)
    assert words in said and bool(said) == bool(do) == bool(words)


def header(name: str, **entry) -> bytes:
    content = json.dumps({name: {"data_offsets": [0, 0], **entry}}).encode()
    return struct.pack("<Q", len(content)) + content


A = "model.layers.0.self_attn.q_proj.lora_A.default.weight"


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 20, save({A: torch.tensor(1.0)}), save({A: torch.zeros(10**6, 1)}), save({A: torch.zeros(4, 2)}),
        save({A: torch.zeros(4, 192).double()}), header(A, dtype="F32", shape=[10**9, 0]),
        header(A, dtype="F8_E8M0", shape=[0]), header(A, dtype="F4", shape=[0]), struct.pack("<Q", 10**9) + b"{}",
        header("lora_A\ud800" + "y" * 5000, dtype="F32", shape=[0, 2]),
    ],
)  # fmt: skip
def test_no_tensors_break_the_grader(content):
    with pytest.raises(Refusal):
        first_step.first_adapter(code_of({"before.safetensors": content}).training, SHARED.course)
    with pytest.raises(Refusal):
        first_step.refuse_other_gradients(read_tensors(content), {"lora_B": torch.ones(3, 3)})


def test_a_trained_model_that_was_not_seen_whole_is_no_proof_of_its_base():
    course = Course()
    seen = {name: parameter.detach() for name, parameter in course.base.model.named_parameters()}
    training.refuse_changed_base(seen, course)
    for part in ({}, dict(list(seen.items())[1:])):
        with pytest.raises(Refusal, match="of the base model are not in the model that was trained"):
            training.refuse_changed_base(part, course)
    first = next(iter(seen))
    with pytest.raises(Refusal, match="training changed 1 weights of the base model"):
        training.refuse_changed_base({**seen, first: seen[first] + 1}, course)


def test_a_training_of_too_many_steps_is_told_how_many_rows_there_are():
    for job, stage, said in (
        ("training", b"train_model", "64 rows"),
        ("training", b"import homework.sft", "a loop without an end"),
        ("labels", b"tokenize bundled", "a loop without an end"),
    ):
        outcome = Outcome("time", {"stage": stage}, "", 0.0)
        with pytest.raises(Stopped) as stopped:
            JobReport(job, outcome).refuse_end()
        assert said in stopped.value.details["do"]
