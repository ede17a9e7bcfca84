"""Words that every report shares, and the neutralising of what a submission says."""

import unicodedata

from grader.result import Result


def plain(text: str, limit: int = 2000) -> str:
    """A text from a submission without terminal escapes, control characters and changes of direction.

    Example: 'a\\x1b[31mb' -> 'a?[31mb'
    """
    kept = "".join(
        "?" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co") and char != "\n" else char for char in text
    )
    return kept if len(kept) <= limit else f"{kept[:limit]} … ({len(kept) - limit} more characters)"


def one_line(text: str, limit: int = 2000) -> str:
    """The same in one line: a file name may hold the end of one, and what looks like another.

    Example: 'a\\nb' -> 'a b'
    """
    return plain(" ".join(text.splitlines()), limit)


def headline(result: Result) -> str:
    """The score, or that there is none, and what to fix first."""
    if result.is_fault:
        return "NO SCORE: the grader failed. This is no zero: the submission has to be graded again."
    if result.is_refused:
        return f"0 of {result.points:g} points: the submission was refused. Mend it as said above and hand it in again."
    first = f"; fix first: {plain(result.first_cause)}" if result.first_cause else ""
    return f"{result.score:g} of {result.points:g} points of the checks that ran, in {result.seconds:.0f} s{first}"
