"""The one error that a student can fix: its message says what is wrong, where, and what to do."""

import sysconfig
import traceback
from pathlib import Path


class HomeworkError(ValueError):
    """Raised by homework/ for bad input, data, checkpoints and adapters; the command line prints it in one line."""


def one_line(error: Exception) -> str:
    """The first words of an error's message.  Example: ValueError('bad\\n  header') -> 'bad header'"""
    return f"{' '.join(str(error).split()):.160}" or type(error).__name__


def explain_error(error: Exception) -> str:
    """The message of an error; of one that is not ours also its type and the line of the code that raised it."""
    if isinstance(error, HomeworkError):
        return str(error)
    frames = list(traceback.extract_tb(error.__traceback__))
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<")
    frames = [frame for frame in frames if not frame.filename.startswith(libraries)] or frames
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{where}"
