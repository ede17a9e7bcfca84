"""What one job wrote, by step; asking for what failed raises the reason that the student reads."""

import re
from typing import Any, NoReturn

from grader.errors import Refusal, Stopped
from grader.result import State
from grader.sandbox.host import LIMITS, Outcome
from grader.sandbox.job_dir import NAME
from grader.sandbox.job_output import read_lines

TAKEN = {
    "threads": "threads",
    "entries": "files",
    "disk": "disk space",
    "written": "disk space",
    "resident": "memory",
}  # by how a job ended
SECONDS = {  # that a job may compute
    "answering": 40, "scoring": 30, "labels": 40, "training": 120, "loading": 30, "agreeing": 40,
    "prompting": 40, "sampling": 60, "reasoning_training": 120,
}  # fmt: skip
FEWER_STEPS = "take epochs in place of a fixed number of steps: there are 64 rows and 120 s here"
WAITS = "take out what waits: a sleep, an input, a lock, the network"

WORKER_FAILED = 70  # the exit code of a job that could not write its results: see guest/fork_server.py
NOISE = re.compile(r"\d%\||warnings\.warn\(|Warning: ")  # of libraries, among what a job printed

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
ANOTHER_PATH = re.compile(rf"\[Errno (2|13|30)\][^:]*: '/(?!.*{NAME})")  # missing, closed or read-only
LEFT_OUT = re.compile(r"\[Errno 2\][^:]*: '(?:[^']*/)?homework/[^']*\.(?:toml|ya?ml|txt|csv|ini|cfg|md|jsonl)'")
LINKED = re.compile(r"\[Errno 1\] Operation not permitted: .* -> ")
NO_NETWORK = ("name resolution", "[Errno 101]", "Network is unreachable", "Name or service not known")


def name_successor(message: str) -> str:
    """What takes the place of an argument that transformers 5 took away, or of what fits other data; empty for others.

    Example: "... got an unexpected keyword argument 'no_cuda'" -> '; transformers 5 took it away, instead: use_cpu'
    """
    found = UNEXPECTED.search(message)
    if found and found[1] in REMOVED:
        return f"; transformers 5 took it away, instead: {REMOVED[found[1]]}"
    if "Sum of input lengths does not equal" in message:  # random_split by numbers
        return "; there are 64 rows here: take shares"
    return "; report_to='none' needs no tracker" if "requires tensorboard" in message.lower() else ""


def name_closed(message: str, asked: str) -> tuple[str, str]:
    """What of the sandbox made a step fail, in words that follow its message, and what to do; nothing if nothing did.

    Example: "[Errno 30] Read-only file system: '/tmp/log'" -> '; in the sandbox only the folder of the submission ...'
    """
    if asked and "[Errno" in message:
        return (
            "; the sandbox has no other processes",
            "compute in this one: no Pool, no subprocess, no num_proc; threads of concurrent.futures work",
        )
    if LEFT_OUT.search(message):
        return "; of a submission, the grader takes code alone", "write what that file holds into a .py file"
    if ANOTHER_PATH.search(message):
        return ("; in the sandbox only the folder of the submission can be read and written, and /tmp is closed",
                "take a relative path, or the folder that tempfile.gettempdir() names")  # fmt: skip
    if LINKED.search(message):
        return "; the sandbox makes no links", "copy the file, or write its name into another one"
    if any(words in message for words in (*NO_NETWORK, "[Errno 1] Operation not permitted")):
        return (
            "; the sandbox has no network and no other processes, and priorities and owners stay as they are",
            "go without: base model and data are there",
        )
    return "", ""


class JobReport:
    """What one job wrote, by name; asking for what failed raises the reason."""

    def __init__(self, job: str, outcome: Outcome) -> None:
        self.job, self.outcome = job, outcome
        self.lines = {line["name"]: line for line in read_lines(outcome.files)}

    @property
    def files(self) -> dict[str, bytes]:
        """The files that the job left behind."""
        return self.outcome.files

    @property
    def stage(self) -> str:
        """What the job was doing last."""
        return self.files.get("stage", b"").decode(errors="replace")[:60] or "the start"

    def value(self, name: str) -> Any:
        """What the submission returned in a step.

        Raises:
            Refusal: naming what went wrong, in the submission's own terms.
        """
        if name not in self.lines:
            self.refuse_missing()
        line = self.lines[name]
        if "error" in line:
            refuse_error(name, line["error"])
        return line.get("value")

    def error(self, name: str) -> dict[str, str]:
        """How a step failed; empty if it did not."""
        if name not in self.lines:
            self.refuse_missing()
        found = self.lines[name].get("error")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def refuse_missing(self) -> NoReturn:
        """Raise why a step was never come to: what it builds upon failed, or the process ended."""
        imports = (name for name in self.lines if name.startswith("import "))
        for name in ("BaseLLM()", "BaseLLM(checkpoint)", "Dataset", "cot.load", *imports):
            if "error" in self.lines.get(name, {}):
                refuse_error(name, self.lines[name]["error"])
        self.refuse_end()

    def refuse_end(self) -> NoReturn:
        """Raise what ended the job before it came to a step."""
        ended, stage = self.outcome.ended, self.stage
        is_training = self.job.endswith("training") and not stage.startswith(("import ", "the start"))
        last = last_words(self.outcome.output)
        if ended == "time" or ended == "signal SIGXCPU":
            raise Stopped(
                State.TIMEOUT, f"{stage} took more than {SECONDS[self.job]} s of computing, and was stopped",
                do=FEWER_STEPS if is_training else "look for a loop without an end, or for work at import",
            )  # fmt: skip
        if ended == "idle":
            raise Stopped(State.TIMEOUT, f"{stage} did nothing for {LIMITS['idle']} s and was stopped", do=WAITS)
        if ended == "wall":
            raise Stopped(State.TIMEOUT, f"{stage} waited, until all the time of the submission was over", do=WAITS)
        if taken := TAKEN.get(ended):
            raise Stopped(State.CRASHED, f"{stage} took more {taken} than a homework may, and was stopped")
        if ended == f"exit {WORKER_FAILED}":
            raise Stopped(
                State.CRASHED, f"after {stage}, its results could not be written: the homework changed the files in "
                "out/, or a library", actual=last, do="change nothing outside of homework/",
            )  # fmt: skip
        raise Stopped(
            State.CRASHED, f"{stage} ended the whole process ({ended}): no sys.exit, os._exit or kill in a homework",
            actual=last,
        )  # fmt: skip


def last_words(output: str) -> str:
    """The last line that a job printed, but for the libraries' progress bars and warnings; at most 200 characters.

    Example: "why I die\nLoading weights: 100%|███|\n" -> "why I die"
    """
    lines = [line for line in output.splitlines() if line.strip() and not NOISE.search(line)]
    return lines[-1][:200] if lines else ""


def refuse_error(name: str, error: Any) -> NoReturn:
    """Raise a step's exception as what the student reads."""
    details = error if isinstance(error, dict) else {}
    kind, message = str(details.get("type"))[:60], " ".join(str(details.get("message")).split())[:300]
    is_guard = kind == "HomeworkError"  # whose line is none of the student's
    where = f" ({details['where']!s:.80})" if details.get("where") and not is_guard else ""
    if kind == "NotImplementedError":
        raise Refusal(f"not implemented yet: {message or str(details.get('function') or name)[:80]}{where}")
    if "[Errno 28]" in message:
        raise Refusal(f"{name} took more disk space than a homework may, {LIMITS['disk'] >> 20} MiB{where}",
                      do="delete what is no longer needed")  # fmt: skip
    if "[Errno 27]" in message:
        raise Refusal(f"{name} printed, or wrote to one file, more than {LIMITS['file'] >> 20} MiB{where}",
                      do="print a line now and then")  # fmt: skip
    if "size mismatch" in message and ".lora_" in message:
        raise Refusal(f"{name} makes a LoRA of another rank than that of the adapter which lies there{where}",
                      do="take rank and alpha from its adapter_config.json: PeftModel.from_pretrained does",
                      actual=message[:200])  # fmt: skip
    fix = "do as it says" if is_guard else "fix that line"
    closed, do = name_closed(message, str(details.get("asked") or ""))
    raise Refusal(f"{name} raised {kind}: {message}{name_successor(message)}{closed}{where}",
                  do=do or f"{fix}; python -m homework.check finds more")  # fmt: skip
