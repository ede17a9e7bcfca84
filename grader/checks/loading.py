"""homework/sft.py: load gives the base model with the saved adapter, or says that there is none.

python -m grader ID.zip --only loads,refuses,agrees
"""

import torch

from grader import reference, rubric
from grader.adapter import CONFIG, WEIGHTS, read_config, read_weights
from grader.behaviour.behaviour import Behaviour
from grader.behaviour.gradients import read_tensors
from grader.checks.answering import is_number, same
from grader.course import Course
from grader.engine import points
from grader.errors import Refusal
from grader.submission import Submission

MISSES = 1  # answers that may differ: two greedy decodings part where two tokens are as likely


@points(rubric.LOADS)
def test_loads(code: Behaviour, course: Course) -> None:
    """load gives the base model with the adapter that lies in homework/sft_model."""
    code.loading.value("load")
    found = read_tensors(code.loading.files.get("logits.safetensors")).get("logits")
    alone = logits_of(course.base.model, code.ids)
    model = reference.attach(course.base.model, code.adapter)
    try:
        wanted = logits_of(model, code.ids)
    finally:
        model.unload()
    if found is None or found.shape != wanted.shape:
        raise Refusal("load gives no model with logits", expected=f"a shape of {tuple(wanted.shape)}")
    if torch.allclose(found, alone, atol=1e-3):
        raise Refusal("load gives the base model alone: the adapter in homework/sft_model has no effect",
                      do="keep what PeftModel.from_pretrained returns, and catch none of its errors")  # fmt: skip
    if not torch.allclose(found, wanted, atol=0.05, rtol=0.01):
        off = float((found - wanted).abs().max())
        raise Refusal(f"load gives another model than base and adapter: logits differ by up to {off:.3g}",
                      do="load the course's base in float32 and this adapter, and write nothing there")  # fmt: skip


@points(rubric.REFUSES, needs="loads")
def test_refuses(code: Behaviour) -> None:
    """load raises where there is no adapter: an untrained model must never pass for a trained one."""
    if not code.loading.error("load without an adapter"):
        found = code.loading.value("load without an adapter")
        raise Refusal(f"load() without an adapter gives a {found!s:.40} and must raise an error",
                      do="make no adapter in load, and catch none of its errors")  # fmt: skip


@points(rubric.AGREES, needs="sound loads")
def test_agrees(code: Behaviour, course: Course, submission: Submission) -> None:
    """load().answer gives what the weights say (no points: a difference is told to the staff)."""
    adapter = read_weights(submission.files[WEIGHTS], read_config(submission.files[CONFIG]), course.base_config)
    questions = [(question.text, question.fact.answer) for question in code.draw("valid", rubric.AGREE_QUESTIONS)]
    model = reference.merge(course.base.model, adapter)
    wanted = [one.number for one in reference.ask(course.base, model, questions)]
    found = code.agreeing.value("answer")
    numbers = found if isinstance(found, list) else []
    agreeing = sum(is_number(one) and same(one, other) for one, other in zip(numbers, wanted, strict=False))
    if len(numbers) != len(wanted) or agreeing < len(wanted) - MISSES:
        raise Refusal(f"load().answer agrees with the weights on {agreeing} of {len(wanted)} questions: the accuracy "
                      "above stands, since it comes from the weights", expected=f"{wanted}"[:120],
                      actual=f"{numbers}"[:120], do="find out why, before you rely on your own figures")  # fmt: skip


def logits_of(model: torch.nn.Module, rows: list[list[int]]) -> torch.Tensor:
    """The logits of the last position of each row, (rows, vocabulary)."""
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([ids])).logits[0, -1].float() for ids in rows])
