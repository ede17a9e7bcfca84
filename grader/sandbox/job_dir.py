"""The job directory: made, filled, and deleted afterwards, also after a grader that was killed.

What a submission left in it is deleted by grader/sandbox/guest/folders.py, which trusts no name and no mode in it.
"""

import os
import tempfile
from pathlib import Path

from grader.errors import GraderFault
from grader.sandbox.guest.folders import remove

NAME = "grader-job-"  # of a sandbox's folder in the temporary directory, followed by our process id


def environment(folder: Path) -> dict[str, str]:
    """The environment of a job: nothing of ours."""
    return {
        "PATH": os.defpath, "LANG": "C.UTF-8", "USER": "student", "LOGNAME": "student", "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "agg",
        "HOMEWORK_DEBUG": "1", "GOMP_SPINCOUNT": "2000",
    }  # fmt: skip


def fill_job_dir(folder: Path, code: dict[str, bytes], inputs: dict[str, bytes], uid: int | None) -> None:
    """Make a job's folder with its files. Their names were checked when the submission was opened."""
    for name in ("homework", "data", "in", "out", "tmp", "runs"):
        (folder / name).mkdir(parents=True)
    for name, content in {**code, **{f"in/{name}": content for name, content in inputs.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if uid is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)


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
