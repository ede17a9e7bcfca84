"""What a job works with beside a submission's code: inputs in, bytes out. It gives no verdict.

What it writes are lines of JSON in out/results.jsonl and tensors in out/*.safetensors. It holds no secret: whatever the
code beside it does to it, the grader judges the bytes by its own computation. Its inputs hold right outputs of some
functions, for those that build upon them: their file is gone before the code runs.
"""

import contextlib
import json
import os
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

DEEPEST, LONGEST_TEXT, LARGEST = 6, 20_000, 2**63
NO_MODULE = 3  # the exit code of a job whose module can't be imported
PROCESSES = ("multiprocessing", "multiprocess", "subprocess.py", "loky")  # modules that start other processes


class Job:
    """What a job works with: its folder, its inputs, and the lines that it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inputs = folder / "in" / "inputs.json"
        self.inputs: dict[str, Any] = json.loads(inputs.read_text(encoding="utf-8")) if inputs.exists() else {}
        inputs.unlink(missing_ok=True)

    @property
    def adapter_dir(self) -> Path:
        """The folder in which the submission keeps its adapter."""
        return self.folder / "homework" / self.inputs["adapter_dir"]

    def use(self, module: str) -> ModuleType:
        """Import a module of the submission; without it, the job has nothing left to do."""
        name = f"homework.{module}"
        found = self.record(f"import {name}", lambda: import_module(name))
        if found is None:
            raise SystemExit(NO_MODULE)
        return found

    def stage(self, text: str) -> None:
        """Leave a note of what is being done, for the case that this process ends in it."""
        (self.folder / "out" / "stage").write_text(text, encoding="utf-8")

    def record(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a function and write what it returns, or how it failed, as one line; its value, or None."""
        self.stage(name)
        try:
            value = function()
            line = {"name": name, "value": plain(value)}
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: no way out of a step
            value, line = None, {"name": name, "error": explain(error)}
        with (self.folder / "out" / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return value


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON: texts, numbers, lists and dictionaries; anything else by the name of its type.

    A tensor or an array becomes lists; NaN and infinity stay numbers.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode(errors="replace").decode()
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) or abs(value) > LARGEST else int(value)
    if depth < DEEPEST and hasattr(value, "tolist"):
        return plain(value.tolist(), depth + 1)
    if depth < DEEPEST and isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return {"__type__": type(value).__name__}


def explain(error: BaseException) -> dict[str, str]:
    """An exception as its type, its message, and the last line of the submission that it went through."""
    message = ""
    with contextlib.suppress(Exception):  # one whose own text fails
        message = f"{error.msg if isinstance(error, SyntaxError) else error}"  # its own text repeats the place
    message = message.encode(errors="replace").decode()[:500]
    where = function = ""
    frames = traceback.extract_tb(error.__traceback__)
    parts = {part for frame in frames for part in Path(frame.filename).parts}
    asked = "another process" if parts & {*PROCESSES} else ""
    for frame in frames:
        if f"{os.sep}homework{os.sep}" in frame.filename:
            where, function = f"{Path(frame.filename).name}, line {frame.lineno}", frame.name
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{Path(error.filename).name}, line {error.lineno}"
    return {"type": type(error).__name__, "message": message, "where": where, "function": function, "asked": asked}
