"""The host side of the sandbox: runs jobs of a submission, one at a time, and gives back what they wrote, as bytes.

    with Sandbox.open("auto", required=True) as sandbox:
        outcome = sandbox.run("labels", files, inputs)

The fork server in the sandbox imports the libraries once and forks a confined child for each job, in a folder that is
new each time and deleted afterwards. Nothing that the child says decides: the grader reads bytes and computes for
itself.
"""

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from grader.errors import GraderFault
from grader.sandbox import tiers
from grader.sandbox.guest.folders import remove
from grader.sandbox.job_dir import environment, fill_job_dir, make_work_dir
from grader.sandbox.job_output import read_file, read_files, read_lines
from grader.sandbox.tiers import Tier

PRELOADED = (
    "torch", "numpy", "safetensors.torch", "transformers", "peft", "tokenizers", "tqdm", "accelerate",
    "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "transformers.trainer",
    "transformers.generation.utils", "peft.tuners.lora", "matplotlib.backends.backend_agg", "matplotlib.figure",
    "pyseccomp",
)  # fmt: skip
MIB = 1 << 20
LIMITS = {
    "memory": 6 << 30,
    "cpu": 300,
    "file": 64 * MIB,
    "files": 256,
    "threads": 256,
    "entries": 2000,
    "disk": 256 * MIB,
    "written": 1024 * MIB,  # over the whole job: a file that is open and deleted is on no list
}
CAN_FORK = sys.platform == "linux"  # a forked process can't use what macOS has loaded, and Windows has no fork
GRACE = 20  # seconds after a job's limit, at which the fork server is taken for dead


class Outcome(NamedTuple):
    """What became of a job: how it ended ("exit 0", "signal SIGSEGV", "time", …), its files, and what it printed."""

    ended: str
    files: dict[str, bytes]
    output: str
    seconds: float


def exit_code(process: subprocess.Popen, seconds: float = 1) -> int | None:
    """How a process ended, None if it still runs: its output closes a moment before the system says that it is over."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None


class Sandbox:
    """A tier of isolation with its fork server; made by `open`, used as a context manager.

    Args:
        tier: how the jobs are isolated.
        refused: why each better tier is not used here.
    """

    def __init__(self, tier: Tier, refused: dict[str, str] | None = None) -> None:
        self.tier, self.refused = tier, refused or {}
        self.process: subprocess.Popen | None = None
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.loading = self.loaded = False
        self.work = make_work_dir()
        self.jobs = self.work / "jobs"  # all that the sandbox sees of it
        self.uid = tiers.own_user(tier, self.work)

    @classmethod
    def open(cls, wanted: str = "auto", required: bool = False) -> "Sandbox":
        """The best sandbox that this machine has, as its canary shows.

        Raises:
            GraderFault: if none holds, and `required` or `wanted` leave no other.
        """
        made: dict[Tier, Sandbox] = {}

        def try_tier(tier: Tier) -> str:
            made[tier] = cls(tier)
            if reason := made[tier].run_canary():
                made[tier].close()
            return reason

        tier, refused = tiers.choose(wanted, required, try_tier)
        made[tier].refused = refused
        return made[tier]

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def describe(self) -> dict[str, Any]:
        """What every result says of the isolation that it was made in."""
        return {"tier": str(self.tier), "own user": self.uid is not None, "not used": self.refused}

    def run_canary(self) -> str:
        """What the canary could do and must not, or why the tier did not start."""
        if self.tier is Tier.NONE:
            return ""
        with tiers.canary_targets(self.work) as targets:
            try:
                outcome = self.run("canary", {}, {"inputs.json": json.dumps(targets).encode()}, seconds=20)
                found = [line["value"] for line in read_lines(outcome.files) if "value" in line]
                return "; ".join(tiers.leaks(found[0] if found else {}))
            except GraderFault as fault:
                return str(fault)

    def preload(self) -> None:
        """Have the libraries imported, while the grader does something else."""
        if not self.loading and not self.loaded:
            self.send({"preload": [name for name in PRELOADED if self.tier is not Tier.NONE or name != "pyseccomp"]})
            self.loading = True

    def run(self, job: str, code: dict[str, bytes], inputs: dict[str, bytes], seconds: float = 60) -> Outcome:
        """Run one job on a submission's files.

        Args:
            job: its name in grader/sandbox/guest/jobs.py.
            code: files by their path in the job's folder.
            inputs: files for its folder `in`.
            seconds: of wall clock, after which it is killed.

        Raises:
            GraderFault: if the sandbox itself fails.
        """
        folder = self.jobs / secrets.token_hex(8)  # a job can't lay out anything for a later one
        try:
            fill_job_dir(folder, code, inputs, self.uid)
            self.wait_for_libraries()
            answer = self.ask(self.request(job, folder, seconds), seconds)
            output = read_file(folder / "out", "output.txt", 100_000)[0].decode(errors="replace")
            return Outcome(answer["ended"], read_files(folder), output, answer["seconds"])
        except BaseException as error:
            self.stop()  # nothing of the job may live while its folder is deleted
            if isinstance(error, OSError | KeyError | ValueError):
                raise GraderFault(f"the sandbox failed ({type(error).__name__}: {error})") from error
            raise
        finally:
            for left in self.jobs.iterdir():
                remove(str(left))

    def request(self, job: str, folder: Path, seconds: float) -> dict[str, Any]:
        """What the fork server needs to know of a job."""
        return {
            "job": job,
            "folder": str(folder),
            "limits": {**LIMITS, "seconds": seconds},
            "confined": self.tier is not Tier.NONE,
            "fork": CAN_FORK,
            "uid": self.uid,
            "readable": tiers.readable_paths(),
            "environment": environment(folder),
        }

    def wait_for_libraries(self) -> None:
        """Wait until the libraries are imported, if that was asked for."""
        if self.loading:
            self.loading = False
            self.receive(120)
            self.loaded = True

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """One request and its answer; a server that can't fork runs the job itself and may not come back."""
        self.send(request)
        if request["fork"]:
            return self.receive(seconds + GRACE)
        line, process = self.listen(seconds), self.process
        code = None if line or process is None else exit_code(process)
        self.stop(at_once=True)  # or it would empty the folder that is about to be read
        return json.loads(line) if line else {"ended": "time" if code is None else f"exit {code}", "seconds": seconds}

    def send(self, request: dict[str, Any]) -> None:
        """Write one request, to a fork server that is started if there is none."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise GraderFault(f"the sandbox {self.tier} did not start: {self.read_stderr()}") from None

    def receive(self, seconds: float) -> dict[str, Any]:
        """The answer of the fork server.

        Raises:
            GraderFault: if there is none in time; its processes are gone then.
        """
        if not (line := self.listen(seconds)):
            raise GraderFault(f"the sandbox {self.tier} gave no answer: {self.read_stderr()}")
        return json.loads(line)

    def listen(self, seconds: float) -> bytes:
        """The next line of the fork server; nothing if it ended or took longer."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return b""

    def read_stderr(self) -> str:
        """The last line that a failed fork server printed; it is stopped."""
        self.stop()
        lines = (self.work / "fork_server.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def start(self) -> None:
        """Start the fork server; it inherits nothing of our environment."""
        threads = os.environ.get("OMP_NUM_THREADS") or str(
            min(2, os.cpu_count() or 1)
        )  # one where others grade beside us
        clean = {"PATH": os.defpath, "OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads, "GOMP_SPINCOUNT": "2000"}
        clean |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HOME": str(self.jobs), "TMPDIR": str(self.jobs)}
        clean |= {name: os.environ[name] for name in ("SYSTEMROOT", "PATHEXT") if name in os.environ}  # Windows
        with (self.work / "fork_server.txt").open("wb") as errors:
            self.process = subprocess.Popen(
                tiers.command(self.tier, self.jobs),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=clean, cwd=self.jobs,
                start_new_session=True,
            )  # fmt: skip
        self.lines = queue.SimpleQueue()
        threading.Thread(target=forward_lines, args=(self.process.stdout, self.lines), daemon=True).start()

    def stop(self, at_once: bool = False) -> None:
        """Let the fork server end by closing its pipe, and kill it if it does not, or at once."""
        process, self.process = self.process, None
        self.loading = self.loaded = False
        if process is None or process.stdin is None:
            return
        if at_once:
            process.kill()
        with contextlib.suppress(OSError):
            process.stdin.close()  # its stdout ends with it
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the process and delete the folder."""
        self.stop()
        remove(str(self.work))


def forward_lines(pipe: IO[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
    """Hand over a pipe line by line, and an empty one at its end; Windows can't wait for a pipe in another way."""
    for line in pipe:
        lines.put(line)
    lines.put(b"")
