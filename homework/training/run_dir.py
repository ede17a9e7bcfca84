"""The folder of a training run: its checkpoints, its log, and whether it may be continued.

A run works in runs/sft-KEY, and the same command continues there. KEY is a hash of all that decides the result: flags,
data, labels, base model, code and versions. So a checkpoint is continued only by the run that it belongs to.
Checkpoints stay outside homework/, because the zip is made of that.
"""

import contextlib
import hashlib
import inspect
import json
import platform
import shutil
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homework.common.base_model import ROOT
from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file, read_json, write_json
from homework.common.zip_contents import CODE, WEIGHTS
from homework.data import Row
from homework.guards.label_check import plain_row
from homework.training import distributed

if TYPE_CHECKING:
    from filelock import FileLock

RUNS = ROOT / "runs"
SETTINGS, RESULT, LOG, CHECKSUMS = "settings.json", "result.json", "log.json", "checksums.json"
DECIDING = (CODE / "training", CODE / "guards")  # packages that decide what a run does
PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")


class Run:
    """One training run in its folder, for this process alone.

    Args:
        folder: of the run; made if need be.
        settings: all that decides the result, as `describe` gives it.

    Raises:
        HomeworkError: if another process trains here, or the folder can't be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.locks: list[FileLock] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not distributed.is_first():
                return  # the first process holds the folder for all
            self.hold(folder / ".lock", f"the same training runs already, in {folder}: wait for it or stop it")
            output = settings.get("output_dir")
            if output:
                RUNS.mkdir(exist_ok=True)
                name = hashlib.sha256(output.encode()).hexdigest()[:8]  # the adapter's folder holds its two files alone
                self.hold(RUNS / f".{name}.lock", f"another training is about to write {output}: wait for it, stop it, "
                          "or choose another --output-dir")  # fmt: skip
            write_json(folder / SETTINGS, settings)
        except OSError as error:
            self.close()
            raise HomeworkError(
                f"can't write to {folder} ({error.strerror}), where checkpoints and log go: choose another --run-dir"
            ) from error

    def hold(self, path: Path, refusal: str) -> None:
        """Hold a lock until the run is closed; HomeworkError with the refusal if another run has it."""
        from filelock import FileLock, Timeout  # here, so that a Python without packages is told by the command line

        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            self.close()
            raise HomeworkError(refusal) from None
        self.locks.append(lock)

    def close(self) -> None:
        """Let other runs have the folders."""
        for lock in self.locks:
            lock.release()
        self.locks = []

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the run where the block raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run measured, else None."""
        return read_json(self.folder / RESULT)

    def checkpoints(self) -> list[Path]:
        """The folders of checkpoints, whole or not, the newest first."""
        return find_checkpoints(self.folder)

    def newest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint. Half-written ones are skipped, said and removed: a resume can't use them."""
        whole = None
        for path in self.checkpoints():
            if not is_whole(path):
                print(f"skipped {path.name}, which is half-written")
                shutil.rmtree(path)
            elif whole is None:
                whole = path
        return whole

    def write_checksums(self, checkpoint: Path) -> None:
        """Mark a checkpoint as complete: its checksums are written last, when all of it was written to its end."""
        write_json(checkpoint / CHECKSUMS, {path.name: fingerprint_file(path) for path in sorted(checkpoint.iterdir())})

    def restart(self) -> None:
        """Forget checkpoints and result."""
        if not distributed.is_first():
            return
        for path in self.checkpoints():
            shutil.rmtree(path)
        (self.folder / RESULT).unlink(missing_ok=True)

    def finish(self, result: dict[str, Any]) -> None:
        """Keep the result; the checkpoints have done their work."""
        write_json(self.folder / RESULT, result)
        for path in self.checkpoints():
            shutil.rmtree(path)


def describe(collator: Any, rows: Iterable[Row], **settings: Any) -> dict[str, Any]:
    """All that decides the result of a run, as JSON: the settings, and hashes of rows, code and versions.

    Args:
        collator: of the batches; its source counts beside the packages training/ and guards/. All else that a student
            writes shows in the settings, so whoever fixes load() or the parser need not train again.
        rows: the tokenized training rows; so data, format and labels count.
        settings: flags and names, by name.
    """
    files = [path for folder in DECIDING for path in sorted(folder.rglob("*.py"))]
    sources = [*(path.read_text(encoding="utf-8") for path in files), source_of(collator)]
    return {
        **settings,
        "code": hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16],
        "training_rows": hashlib.sha256(json.dumps([plain_row(row) for row in rows]).encode()).hexdigest()[:16],
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
    }


def source_of(thing: Any) -> str:
    """The source of a function, or of an object's class; its name where there is no source, as in a notebook."""
    code = thing if inspect.isroutine(thing) else type(thing)
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return code.__qualname__


def open_run(settings: dict[str, Any], run_dir: str | None = None, name: str = "sft", restart: bool = False) -> Run:
    """The run of these settings, in `run_dir` or in a folder runs/`name`-KEY of its own; `restart` begins it anew."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(run_dir).expanduser().resolve() if run_dir else RUNS / f"{name}-{key}"
    former = read_json(folder / SETTINGS)
    run = Run(folder, settings)
    if former != settings and (former or run.checkpoints() or run.result):  # a --run-dir that another run has used
        print(f"{folder} holds another run ({explain_difference(former or {}, settings)}): starting anew")
        restart = True
    if restart:
        run.restart()
    return run


def report_finished(run: Run, output: Path) -> bool:
    """Whether this very run is finished and its adapter still in place; said, with its accuracy."""
    result = run.result
    if result is None:
        return False
    weights = output / WEIGHTS
    if not weights.is_file() or fingerprint_file(weights) != result.get("adapter_sha256"):
        print(f"this run is finished, but {output} no longer holds its adapter: training again")
        run.restart()
        return False
    print(
        f"this run is finished: accuracy {result['accuracy']:.3f} on {result['questions']} questions of valid, adapter "
        f"in {output}, picture and log in {run.folder}; to train again, add --restart or change a flag"
    )
    return True


def warn_other_runs(run: Run) -> None:
    """Say which interrupted runs of the same adapter exist, and what is different now."""
    for settings_file in sorted(run.folder.parent.glob(f"*/{SETTINGS}")):
        settings, folder = read_json(settings_file) or {}, settings_file.parent
        same_output = settings.get("output_dir") == run.settings["output_dir"]
        steps = [step_of(path) for path in find_checkpoints(folder) if is_whole(path)]
        if folder != run.folder and same_output and steps:
            print(
                f"starting anew: {folder} stopped after step {max(steps)} with other settings "
                f"({explain_difference(settings, run.settings)}); it stays, and its own command continues it"
            )


def explain_difference(former: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two settings.  Example: {'epochs': 4}, {'epochs': 6} -> 'epochs 4, now 6'"""
    names = [name for name in now if former.get(name) != now[name]]
    plain = [
        f"{name} {former.get(name)}, now {now[name]}" for name in names if isinstance(now[name], int | float | None)
    ]
    return ", ".join(plain + [name for name in names if not isinstance(now[name], int | float | None)])


def find_checkpoints(folder: Path) -> list[Path]:
    """The folders of checkpoints, whole or not, the newest first."""
    found = [
        path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[len("checkpoint-") :].isdigit()
    ]
    return sorted(found, key=step_of, reverse=True)


def steps_of(log: Iterable[dict]) -> list[dict]:
    """The entries of optimizer steps: loss, grad_norm, learning_rate."""
    return [entry for entry in log if "loss" in entry]


def step_of(checkpoint: Path) -> int:
    """The optimizer step of a checkpoint.  Example: Path('checkpoint-64') -> 64"""
    return int(checkpoint.name.rpartition("-")[2])


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there, as its checksums say."""
    checksums = read_json(checkpoint / CHECKSUMS) or {}
    return bool(checksums) and all(
        (checkpoint / name).is_file() and fingerprint_file(checkpoint / name) == digest
        for name, digest in checksums.items()
    )


def now() -> str:
    """The time in the form of ISO 8601, with the zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
