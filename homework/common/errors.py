"""The one error that a student can fix: its message says what is wrong, where, and what to do."""

import re
import sysconfig
import traceback
from pathlib import Path

ASK = "for a hint: python -m homework.check --hint"


class HomeworkError(ValueError):
    """Raised by homework/ for bad input, data, checkpoints and adapters; the command line prints it in one line.

    Args:
        message: what is wrong, where, and what to do. Where the student is to find out what to do, in a gap of a task,
            that is a second line: it is kept in `hint`, and only `python -m homework.check --hint` prints it.
    """

    def __init__(self, message: str) -> None:
        cause, _, self.hint = message.partition("\n")
        super().__init__(cause)


# Arguments that transformers 5 took away, with what takes their place.
REMOVED = {
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "warmup_ratio": "warmup_steps, which takes a share too",
    "evaluation_strategy": "eval_strategy",
    "overwrite_output_dir": "nothing: the folder is used as it is",
    "tokenizer": "processing_class",
    "no_cuda": "use_cpu",
    "group_by_length": "train_sampling_strategy",
    "save_safetensors": "nothing: it always does",
    "adafactor": "optim='adafactor'",
}
UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def name_successor(message: str) -> str:
    """The words that say what takes the place of an argument that transformers 5 took away; empty for others.

    Example: "... got an unexpected keyword argument 'no_cuda'" -> '; transformers 5 took it away, instead: use_cpu'
    """
    found = UNEXPECTED.search(message)
    if found and "HomeworkTrainer." in message:
        return (
            "; its docstring lists what it takes: model and tokenizer are those of llm" if found[1] in REMOVED else ""
        )
    if found and found[1] in REMOVED:
        return f"; transformers 5 took it away, instead: {REMOVED[found[1]]}"
    return "; report_to='none' needs no tracker" if "requires tensorboard" in message.lower() else ""


def one_line(error: Exception) -> str:
    """The first words of an error's message.  Example: ValueError('bad\\n  header') -> 'bad header'"""
    return f"{' '.join(str(error).split()):.160}" or type(error).__name__


def explain_error(error: Exception) -> str:
    """The message of an error; of one that is not ours also its type and the line of the code that raised it."""
    if isinstance(error, HomeworkError):
        return f"{error}; {ASK}" if error.hint else str(error)
    if isinstance(error, SyntaxError):  # its message holds file and line; the frames are those of the import
        return f"{type(error).__name__}: {one_line(error)}"
    frames = list(traceback.extract_tb(error.__traceback__))
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<")
    frames = [frame for frame in frames if not frame.filename.startswith(libraries)] or frames
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{name_successor(str(error))}{where}"
