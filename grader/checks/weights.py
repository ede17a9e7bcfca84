"""The weights: graded from bytes, without running a line of the student's code."""

from dataclasses import asdict

from grader.adapter import Adapter, Config
from grader.course import Course
from grader.errors import Refusal
from grader.rubric import CONFIG, WEIGHTS
from grader.runner import credit_for, needs
from grader.submission import Submission


def test_adapter_present(submission: Submission) -> None:
    """The trained adapter is handed in: two files in sft_model/."""
    for name in (CONFIG, WEIGHTS):
        if name not in submission.files:
            elsewhere = [path for path in submission.files if path.endswith(name.rpartition("/")[2])]
            raise Refusal(
                f"the submission lacks {name}",
                expected=f"{CONFIG} and {WEIGHTS}",
                actual=f"found {elsewhere[0][:100]}" if elsewhere else "no adapter anywhere",
                do="train with python -m homework.sft train, which saves it there, then bundle again",
            )


@needs("adapter_present")
def test_configured(config: Config) -> None:
    """It is a LoRA adapter of the course's base model, with rank and alpha in range, and nothing else."""
    # The fixture refuses every other configuration.


@needs("adapter_present configured")
def test_weights_valid(submission: Submission, course: Course, adapter: Adapter) -> None:
    """Its weights are whole, finite and trained, and fit the base model by name and shape."""
    course.check_fingerprint(submission.files[WEIGHTS])
    assert len(adapter.weights) > 0


@needs("adapter_present configured weights_valid")
def test_accuracy(course: Course, adapter: Adapter, give) -> None:
    """It answers held-out questions: nothing up to the lower bound, all points from the upper one."""
    measured = course.measure(adapter)
    give(credit_for(measured.accuracy, course.rubric.bounds["accuracy"]), measured.describe(), asdict(measured))
