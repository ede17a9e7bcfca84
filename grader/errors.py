"""The two ways in which grading can stop: the submission is at fault, or we are.

raise Refusal("the zip holds a link", do="copy the file in place of the link")
raise GraderFault("the base model is not the one of this rubric")
"""


class Refusal(Exception):
    """Something in the submission can't be graded; the student reads `cause` first and can mend it by `do`.

    Args:
        cause: what is wrong, in the student's terms, on one line.
        expected: what should be there.
        actual: what is there.
        do: what to do, with the section of the README.
    """

    def __init__(self, cause: str, *, expected: str = "", actual: str = "", do: str = "") -> None:
        super().__init__(cause)
        self.cause, self.expected, self.actual, self.do = cause, expected, actual, do


class GraderFault(Exception):
    """A fault of the course's side. It is never a zero and never a pass: the submission has to be graded again."""
