"""The ways in which grading can stop: the submission is at fault, or its code was stopped, or we are at fault.

raise Refusal("the zip holds a link", do="copy the file in place of the link")
raise GraderFault("the base model is not the one of this rubric")
"""

from grader.result import State


class Refusal(Exception):
    """Something in the submission can't be graded; the student reads `cause` first and can fix it by `do`.

    Args:
        cause: what is wrong, in the student's terms, on one line.
        expected: what should be there.
        actual: what is there.
        do: what to do, with the section of the README.
        shown: lines that are shown as they are, such as a row token by token.
    """

    state = State.FAILED

    def __init__(self, cause: str, *, expected: str = "", actual: str = "", do: str = "", shown: str = "") -> None:
        super().__init__(cause)
        self.details = {"cause": cause, "expected": expected, "actual": actual, "do": do, "shown": shown}


class Stopped(Refusal):
    """The submission's code crashed, or took more than it may, and was stopped.

    Args:
        state: CRASHED or TIMEOUT.
        cause: as for a refusal.
    """

    def __init__(self, state: State, cause: str, **details: str) -> None:
        super().__init__(cause, **details)
        self.state = state


class GraderFault(Exception):
    """A fault of the course's side. It is never a zero and never a pass: the submission has to be graded again."""
