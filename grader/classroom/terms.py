"""What a results folder was made with, so that no later line drops it unsaid: official key, overrides, late penalty.

python -m grader FOLDER --out results/ --key-file staff.key --overrides mine.csv --late-penalty 10
"""

import json
from pathlib import Path
from typing import NamedTuple

from grader.errors import GraderFault
from grader.files import write_whole

FILE = "terms.json"


class Terms(NamedTuple):
    """What beside the results decides the tables; None for what a line does not say."""

    official: bool
    overrides: str | None
    late_penalty: float | None


def refuse_dropped(out: Path, now: Terms) -> None:
    """Compare a line with the one before it.

    Raises:
        GraderFault: if the tables would lose official grades, overrides or the penalty.
    """
    former = read_terms(out / FILE)
    if former is None:
        return
    if former.official and not now.official:
        raise GraderFault(
            f"{out} holds official grades, and this line has no key: add --key-file FILE, or take another --out"
        )
    if former.overrides is not None and now.overrides is None:
        raise GraderFault(
            f"{out} was made with --overrides {former.overrides}: add it again (a file with its first line alone takes "
            "them away)"
        )
    if former.late_penalty and now.late_penalty is None:
        raise GraderFault(f"{out} was made with --late-penalty {former.late_penalty:g}: add it again, or another one")


def keep_terms(out: Path, now: Terms) -> None:
    """Write down what this line says, for the next one."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / FILE, json.dumps(now._asdict(), indent=1) + "\n")


def read_terms(path: Path) -> Terms | None:
    """What the former line said; None where there was none.

    Raises:
        GraderFault: if it can't be read: it may have said what must not be lost.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Terms(bool(said["official"]), said["overrides"], said["late_penalty"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GraderFault(f"can't read {path} ({error}), which says what the tables rest on: restore it") from error
