"""The command line of every module here: fire, made strict.

fire alone runs the whole training and only then complains of ``--epohcs 10``, takes ``train junk`` for an output
folder, and turns an ID ``1e5`` into a float. Here the arguments are held against the signature before anything runs,
and errors are caught at this boundary only: one message and a non-zero exit, no traceback.

    from homework.common.cli import run
    run({"train": train_model, "test": test_model}, "python -m homework.sft")
"""

import difflib
import inspect
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, get_args, get_type_hints

from homework.common.errors import HomeworkError, explain_error
from homework.common.runtime import tune_process

Command = Callable[..., None]
DEBUG = "HOMEWORK_DEBUG"
LONG = 3  # seconds: a command that took longer says how long
TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")


class UsageError(Exception):
    """The command line can't be understood; exit code 2."""


def run(commands: dict[str, Command] | Command, program: str, argv: list[str] | None = None) -> None:
    """Check `argv` (default: the process's own) against the signatures, then let fire call the command.

    Exits with 0, 1 (the command failed), 2 (wrong arguments) or 130 (Ctrl-C).
    """
    words = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # tokens hold 'Ġ', which is in no Windows code page
    tune_process()
    try:
        name, rest = pick_command(commands, program, words)
        command = commands[name] if isinstance(commands, dict) else commands
        program = f"{program} {name}".strip()
        if "--help" in rest or "-h" in rest:
            show_help(command, program)
            return
        values = parse_arguments(command, rest)
        started = time.perf_counter()
        call_with_fire(command, values, program)
        if (seconds := time.perf_counter() - started) > LONG:
            print(f"done in {seconds:.0f} s")
    except UsageError as error:
        fail(f"{error}\n  see {program} --help", 2)
    except HomeworkError as error:
        if error.__cause__ and os.environ.get(DEBUG):
            traceback.print_exception(error.__cause__)
        fail(explain_error(error), 1)
    except ModuleNotFoundError as error:
        if is_ctrl_c(error):
            leave("")
        fail(
            f"this Python ({sys.executable}) lacks {error.name}: activate .venv, or pip install -r requirements.txt", 1
        )
    except BrokenPipeError:  # whoever reads the output has closed it: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:  # a student's own code may raise anything
        if os.environ.get(DEBUG):
            raise
        fail(f"{explain_error(error)}\n  with {DEBUG}=1 before the command, the whole traceback is shown", 1)
    except KeyboardInterrupt as stop:
        leave(str(stop))


def leave(said: str) -> NoReturn:
    """Exit after Ctrl-C."""
    goes_on = "the same command goes on from the last checkpoint, or begins anew where there is none"
    print(said or f"stopped at once; {goes_on}", file=sys.stderr)
    sys.exit(130)


def is_ctrl_c(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: while it imports, transformers turns it into a module that is missing."""
    if error is None or isinstance(error, KeyboardInterrupt):
        return error is not None
    return is_ctrl_c(error.__cause__ or error.__context__)


def fail(message: str, code: int) -> NoReturn:
    """Print `message` to stderr, red on a terminal, and exit with `code`."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"\033[31merror:\033[0m {message}" if colour else f"error: {message}", file=sys.stderr)
    sys.exit(code)


def pick_command(commands: dict[str, Command] | Command, program: str, words: list[str]) -> tuple[str, list[str]]:
    """The command's name ('' where there is only one) and the arguments after it."""
    if not isinstance(commands, dict):
        return "", words
    if not words or words[0] in ("--help", "-h"):
        print(f"usage: {program} COMMAND [--help]\n")
        for name, command in commands.items():
            print(f"  {name:<8}{(inspect.getdoc(command) or '').partition(chr(10))[0]}")
        sys.exit(0 if words else 2)
    if words[0] not in commands:
        raise UsageError(f"there is no command {words[0]!r}{suggest(words[0], commands)}: choose {', '.join(commands)}")
    return words[0], words[1:]


def suggest(word: str, known: Any) -> str:
    """' (did you mean X?)' where something known is close.  Example: 'epohcs' -> ' (did you mean epochs?)'"""
    initials = [name for name in known if "".join(part[0] for part in name.split("-")) == word.lower()]
    close = difflib.get_close_matches(word.lower(), list(known), n=1) or (initials if len(word) > 1 else [])
    return f" (did you mean {close[0]}?)" if close else ""


def parse_arguments(command: Command, words: list[str]) -> dict[str, Any]:
    """Values by parameter name. Parameters with a default are flags, the others are given in order.

    Raises:
        UsageError: for an unknown, repeated or missing argument, or a value of the wrong type.
    """
    parameters = inspect.signature(command).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise HomeworkError(
            f"{command.__name__} takes **{list(parameters)[-1]}, which would swallow misspelt flags: name each"
        )
    ordered = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    flags = {name.replace("_", "-"): name for name in parameters if name not in ordered}
    types, values, queue = get_type_hints(command), {}, list(words)
    while queue:
        word = queue.pop(0)
        if word.startswith("--"):
            name, text = read_flag(word[2:], queue, flags, types)
        elif remaining := [name for name in ordered if name not in values]:
            name, text = remaining[0], word
        else:
            raise UsageError(f"unexpected argument {word!r}: options are written in full, as --name value")
        if name in values:
            raise UsageError(f"--{name.replace('_', '-')} is given twice")
        values[name] = convert(text, types.get(name, str), name)
    for name in ordered:
        if name not in values:
            raise UsageError(f"missing argument {name.upper()}")
    return values


def read_flag(word: str, queue: list[str], flags: dict[str, str], types: dict[str, Any]) -> tuple[str, str]:
    """Parameter name and value text of one flag; the value may be the next word of `queue`, or left out with a bool."""
    key, equals, text = word.partition("=")
    key = key.replace("_", "-")
    if key not in flags:
        raise UsageError(f"unknown option --{key}{suggest(key, flags).replace('mean ', 'mean --')}")
    if equals:
        return flags[key], text
    if types.get(flags[key]) is bool:
        return flags[key], queue.pop(0) if queue and queue[0].lower() in TRUE + FALSE else "true"
    if not queue or queue[0].startswith("--"):
        if bool in get_args(types.get(flags[key])):
            return flags[key], "true"
        raise UsageError(f"--{key} needs a value")
    return flags[key], queue.pop(0)


def convert(text: str, annotation: Any, name: str) -> Any:
    """`text` as the annotated type: `int | None` takes an int, `str | bool` a str or yes, and a str stays as typed."""
    if not text:
        raise UsageError(f"--{name.replace('_', '-')} needs a value")
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if len(kinds) > 1 and bool in kinds and text == "true":
        return True
    kind = kinds[0] if kinds[0] in (int, float, bool) else str
    try:
        if kind is bool:
            return {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}[text.lower()]
        value: Any = kind(text)
        if kind is not float or math.isfinite(value):
            return value
        raise ValueError(text)
    except (ValueError, KeyError):
        wanted = {int: "a whole number", float: "a finite number", bool: "yes or no"}[kind]
        raise UsageError(f"--{name.replace('_', '-')} takes {wanted}, not {text!r}") from None


def call_with_fire(command: Command, values: dict[str, Any], program: str) -> None:
    """Let fire call the command. A value goes through as its literal, so that '1e5' stays a string."""
    import fire

    fire.Fire(command, command=[f"--{name}={value!r}" for name, value in values.items()], name=program)


def show_help(command: Command, program: str) -> None:
    """Print fire's help text of one command, without a pager."""
    from fire import helptext, trace

    text = helptext.HelpText(command, trace=trace.FireTrace(command, name=program)).replace(f"'{program}'", program)
    text = re.sub(r"Optional\[(\w+) \| None\]", r"\1", text)
    # Only the long options exist here, and they are written with dashes.
    flag = re.compile(r"^    (?:-\w, )?--(\w+)=", re.MULTILINE)
    print(flag.sub(lambda found: f"    --{found[1].replace('_', '-')}=", text))
