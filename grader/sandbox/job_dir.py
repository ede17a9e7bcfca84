"""The folder of a sandbox, below which its jobs run: made, and deleted afterwards, also after a grader that was killed.

The folder of each job is filled, read and deleted by grader/sandbox/guest/folders.py, which trusts no name in it.
"""

import os
import tempfile
from pathlib import Path

from grader.errors import GraderFault
from grader.sandbox.guest.folders import remove

NAME = "grader-job-"  # of a sandbox's folder in the temporary directory, followed by our process id


def environment(folder: Path) -> dict[str, str]:
    """The environment of a job: nothing of ours. No compiler can be started there: torch.compile has no effect."""
    return {
        "PATH": os.defpath, "LANG": "C.UTF-8", "USER": "student", "LOGNAME": "student", "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "agg",
        "HOMEWORK_DEBUG": "1", "GOMP_SPINCOUNT": "2000", "TORCHDYNAMO_DISABLE": "1",
    }  # fmt: skip


def make_work_dir() -> Path:
    """A folder for the jobs in the temporary directory.

    Raises:
        GraderFault: if none can be made there.
    """
    try:
        remove_stale()
        work = Path(tempfile.mkdtemp(prefix=f"{NAME}{os.getpid()}-")).resolve()
        (work / "jobs").mkdir()
        for folder in (work, work / "jobs"):
            folder.chmod(0o711)
        return work
    except OSError as error:
        raise GraderFault(f"can't make a folder for the sandbox ({error}): free space, or set TMPDIR") from error


def remove_stale() -> None:
    """Delete what a grader that was killed has left in the temporary directory."""
    for folder in Path(tempfile.gettempdir()).glob(f"{NAME}*-*"):
        owner = folder.name.removeprefix(NAME).partition("-")[0]
        if folder.is_dir() and owner.isdigit() and not is_running(int(owner)):
            remove(str(folder))


def is_running(pid: int) -> bool:
    """Whether a process of that number exists, or may: on Windows, asking would send it a Ctrl-C."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
    except OSError:
        return True
