"""The weights: graded from bytes, without running a line of the student's code.

python -m grader ID.zip --only accuracy
"""

from grader import rubric
from grader.adapter import CONFIG, WEIGHTS, read_config, read_weights
from grader.course import Course
from grader.engine import credit_for, points
from grader.errors import Refusal
from grader.submission import Submission


@points(rubric.THERE)
def test_there(submission: Submission) -> None:
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


@points(rubric.CONFIGURED, needs="there")
def test_configured(submission: Submission) -> None:
    """It is a LoRA adapter of the course's base model, with rank and alpha in range, and nothing else."""
    read_config(submission.files[CONFIG])


@points(rubric.SOUND, needs="there configured")
def test_sound(submission: Submission, course: Course) -> None:
    """Its weights are whole, finite and trained, and fit the base model by name and shape."""
    adapter = read_weights(submission.files[WEIGHTS], read_config(submission.files[CONFIG]), course.base_config)
    course.check_fingerprint(submission.files[WEIGHTS])
    assert len(adapter.weights) > 0


@points(rubric.ACCURACY, needs="there configured sound")
def test_accuracy(submission: Submission, course: Course, give) -> None:
    """It answers held-out questions: none for 50 % or less, full points from 90 %."""
    adapter = read_weights(submission.files[WEIGHTS], read_config(submission.files[CONFIG]), course.base_config)
    measured = course.measure(adapter)
    give(credit_for(measured.accuracy), measured.describe())
