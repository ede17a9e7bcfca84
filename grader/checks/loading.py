"""homework/sft.py: load gives the base model with the saved adapter, or says that there is none."""

from collections.abc import Callable

import torch

from grader import reference, rubric
from grader.adapter import Adapter
from grader.checks.answering import is_number, same
from grader.course import Course
from grader.errors import Refusal
from grader.harness.gradients import read_tensors
from grader.harness.harness import Harness, is_missing
from grader.harness.job_report import JobReport
from grader.runner import needs

MISSES = 1  # answers that may differ: two greedy decodings part where two tokens are as likely


def test_loads(code: Harness, course: Course) -> None:
    """load gives the base model with the adapter that lies in homework/sft_model."""
    code.loading.value("load")
    refuse_other_class(code.loading, "load")
    refuse_other_model(code, course, code.loading, rubric.ADAPTER_DIR)


def refuse_other_class(report: JobReport, load: str) -> None:
    """Refuse a load that gives something else than a BaseLLM."""
    if gives_other(report, load):
        raise Refusal("load gives no BaseLLM: what it gives has no answer",
                      do="return the BaseLLM, with the adapter in its model")  # fmt: skip


def gives_other(report: JobReport, load: str) -> bool:
    """Whether load gives something else than a BaseLLM."""
    return report.lines.get(f"{load} answers", {}).get("value") == [False]


def refuse_failed_training(training: JobReport, loading: Callable[[], JobReport], load: str, saved: str) -> None:
    """Raise why a training failed; not where it has saved its adapter, and load, which is told elsewhere, is at fault.

    Args:
        training: the job.
        loading: gives the job that calls load.
        load: its name there.
        saved: the file of the adapter's weights.
    """
    if saved in training.files and training.lines.get("train_model", {}).get("error"):
        error = loading().lines.get(load, {}).get("error", {})
        if gives_other(loading(), load) or (error and not is_missing(error)):
            return
    training.value("train_model")


def refuse_other_model(code: Harness, course: Course, report: JobReport, folder: str) -> None:
    """Refuse a loaded model that is not the base with the adapter which lay in a folder of the submission."""
    found = read_tensors(report.files.get("logits.safetensors")).get("logits")
    alone = logits_of(course.base.model, code.ids)
    wanted = logits_of(reference.merge(course.base.model, code.adapter), code.ids)
    if found is None or found.shape != wanted.shape:
        raise Refusal("load gives no model with logits", expected=f"a shape of {tuple(wanted.shape)}")
    if torch.allclose(found, alone, atol=1e-3):
        raise Refusal(f"load gives the base model alone: the adapter in homework/{folder} has no effect",
                      do="keep what PeftModel.from_pretrained returns, and catch none of its errors")  # fmt: skip
    if not torch.allclose(found, wanted, atol=0.05, rtol=0.01):
        if report.lines.get("drops out", {}).get("value") is True:
            raise Refusal("the model that load gives is in training mode, so its dropout is active",
                          do="call .eval() on it last")  # fmt: skip
        off = float((found - wanted).abs().max())
        raise Refusal(f"load gives another model than base and adapter: logits differ by up to {off:.3g}",
                      do="load the course's base in float32 and this adapter, and write nothing there")  # fmt: skip


@needs("loads")
def test_refuses(code: Harness) -> None:
    """load raises where there is no adapter: an untrained model must never pass for a trained one."""
    refuse_untrained(code.loading, "load")


def refuse_untrained(report: JobReport, load: str) -> None:
    """Refuse a load that gave a model where there was no adapter, or its configuration alone."""
    for lack in ("without an adapter", "without its weights"):
        if not report.error(name := f"{load} {lack}"):
            raise Refusal(f"{load}() {lack} gives a {report.value(name)!s:.40} and must raise an error",
                          do="make none in load, keep no model of a call before, and catch no error")  # fmt: skip


@needs("weights_valid loads")
def test_matches_weights(code: Harness, course: Course, adapter: Adapter) -> None:
    """load().answer gives what the weights say (no points: a difference is told to the staff)."""
    questions = [(question.text, question.fact.answer) for question in code.draw("valid", rubric.MATCH_QUESTIONS)]
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
