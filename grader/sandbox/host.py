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
from grader.sandbox.guest.folders import collect, remove
from grader.sandbox.job_dir import environment, make_work_dir
from grader.sandbox.job_output import outputs, read_lines
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
    "written": 1024 * MIB,  # over the whole job, where a file that is open and deleted is on no list
    "resident": 3072 * MIB,  # of memory
    "idle": 30,  # seconds without computing
}
SPARE = 32 * MIB  # between the bytes at which a job is stopped and those of the disk, so that it can say what it did
DISK = LIMITS["disk"] + SPARE  # of the jobs' own, where they have one
WALL_SECONDS = 540  # of one job: longer than what any of them may compute, shorter than what a check may take
OWN_FAULTS = {"threads", "entries", "disk", "written", "resident"}  # how a job ends that takes more than it may
CAN_FORK = sys.platform == "linux"  # a forked process can't use what macOS has loaded, and Windows has no fork
GRACE = 20  # seconds after a job's limit, at which the fork server is taken for dead


Answer = tuple[dict[str, Any], dict[str, bytes]]  # of the fork server, and the files that came with it


class Outcome(NamedTuple):
    """What became of a job: how it ended ("exit 0", "signal SIGSEGV", "time", …), its files, and what it printed.

    Then how long it took, and for how many of these seconds the machine had no CPU for it.
    """

    ended: str
    files: dict[str, bytes]
    output: str
    seconds: float
    delay: float = 0.0


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
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.loading = self.loaded = self.has_disk = False
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
            made[tier], reason = cls(tier), "it was interrupted"
            try:
                reason = made[tier].run_canary()
                return reason
            finally:
                if reason:
                    made[tier].close()

        tier, refused = tiers.choose(wanted, required, try_tier)
        made[tier].refused = refused
        return made[tier]

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def describe(self) -> dict[str, Any]:
        """What every result says of the isolation that it was made in."""
        own = {"own user": self.uid is not None, "own disk": self.has_disk}
        return {"tier": str(self.tier), **own, "not used": self.refused}

    def run_canary(self) -> str:
        """What the canary could do and must not, or why the tier did not start."""
        if self.tier is Tier.NONE:
            return ""
        with tiers.canary_targets(self.work, DISK) as targets:
            try:
                inputs = {"inputs.json": json.dumps(targets).encode()}
                outcome = self.run("canary", {}, inputs, seconds=20, limits={"disk": 2 * DISK})
                found = [line["value"] for line in read_lines(outcome.files) if "value" in line]
                return "; ".join(tiers.leaks(found[0] if found else {}))
            except GraderFault as fault:
                return str(fault)

    def preload(self) -> None:
        """Have the libraries imported, while the grader does something else."""
        if not self.loading and not self.loaded:
            names = [name for name in PRELOADED if self.tier is not Tier.NONE or name != "pyseccomp"]
            self.send(b"p", {"preload": names})
            self.loading = True

    def run(
        self, job: str, code: dict[str, bytes], inputs: dict[str, bytes], seconds: float = 60,
        wall: float = WALL_SECONDS, limits: dict[str, int] | None = None,
    ) -> Outcome:  # fmt: skip
        """Run one job on a submission's files.

        Args:
            job: its name in grader/sandbox/guest/jobs.py.
            code: files by their path in the job's folder.
            inputs: files for its folder `in`.
            seconds: of computing, after which it is killed; where it can't be forked, of wall clock.
            wall: seconds of wall clock, after which it is killed.
            limits: other ones than `LIMITS`.

        Raises:
            GraderFault: if the sandbox itself fails, or the machine lacks what a job may take.
        """
        folder = self.jobs / secrets.token_hex(8)  # a job can't lay out anything for a later one
        try:
            self.wait_for_libraries()
            files = {**code, **{f"in/{name}": content for name, content in inputs.items()}}
            bounds = {**LIMITS, **(limits or {}), "time": seconds, "wall": wall}
            return self.judge(*self.ask(self.request(job, folder, bounds), files))
        except BaseException as error:
            self.stop()  # nothing of the job may live while its folder is deleted
            if isinstance(error, OSError | KeyError | ValueError):
                raise GraderFault(f"the sandbox failed ({type(error).__name__}: {error})") from error
            raise
        finally:
            for left in self.jobs.iterdir():
                remove(str(left))

    def judge(self, answer: dict[str, Any], left: dict[str, bytes]) -> Outcome:
        """What became of a job, by the answer of the fork server and the files that the job left.

        Raises:
            GraderFault: if the job could not be run, or not have what it may take.
        """
        if "fault" in answer:
            raise GraderFault(f"the sandbox failed ({answer['fault']})")
        if answer.get("lacking") and answer["ended"] not in OWN_FAULTS:
            raise GraderFault(f"the machine lacks {answer['lacking']}: free some, or grade fewer at the same time")
        self.has_disk = bool(answer.get("own disk"))
        files = {name.removeprefix("out/").removeprefix("homework/"): content for name, content in left.items()}
        output = files.pop("output.txt", b"").decode(errors="replace")
        return Outcome(answer["ended"], files, output, answer["seconds"], answer.get("delay", 0.0))

    def request(self, job: str, folder: Path, limits: dict[str, float]) -> dict[str, Any]:
        """What the fork server needs to know of a job."""
        return {
            "job": job,
            "folder": str(folder),
            "limits": limits,
            "outputs": outputs(),
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

    def ask(self, request: dict[str, Any], files: dict[str, bytes]) -> Answer:
        """One request and its answer; a server that can't fork runs the job itself and may not come back."""
        if request["fork"]:
            self.send(b"j", request, files)
            return self.receive(request["limits"]["wall"] + GRACE)
        self.send(b"h", request, files)
        seconds = request["limits"]["time"]
        answer, process = self.listen(seconds)[0], self.process
        code = None if answer or process is None else exit_code(process)
        self.stop(at_once=True)
        answer = answer or {"ended": "time" if code is None else f"exit {code}", "seconds": seconds}
        return answer, collect(request["folder"], outputs())

    def send(self, kind: bytes, request: dict[str, Any], files: dict[str, bytes] | None = None) -> None:
        """Write one request and its files, to a fork server that is started if there is none."""
        files = files or {}
        sizes = {name: len(content) for name, content in files.items()}
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(kind + json.dumps({**request, "files": sizes}).encode() + b"\n")
            self.process.stdin.writelines(files.values())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise GraderFault(f"the sandbox {self.tier} did not start: {self.read_stderr()}") from None

    def receive(self, seconds: float) -> Answer:
        """The answer of the fork server.

        Raises:
            GraderFault: if there is none in time; its processes are gone then.
        """
        answer, files = self.listen(seconds)
        if not answer:
            raise GraderFault(f"the sandbox {self.tier} gave no answer: {self.read_stderr()}")
        return answer, files

    def listen(self, seconds: float) -> Answer:
        """The next answer of the fork server; an empty one if it ended or took longer."""
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            return {}, {}

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
                tiers.command(self.tier, self.jobs, DISK),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=clean, cwd=self.jobs,
                start_new_session=True,
            )  # fmt: skip
        self.answers = queue.SimpleQueue()
        threading.Thread(target=forward_answers, args=(self.process.stdout, self.answers), daemon=True).start()

    def stop(self, at_once: bool = False) -> None:
        """Let the fork server end by closing its pipe, and kill it if it does not, or at once."""
        process, self.process = self.process, None
        at_once |= self.loading  # amid its imports, it would not see for seconds that the pipe is closed
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


def forward_answers(pipe: IO[bytes], answers: "queue.SimpleQueue[Answer]") -> None:
    """Hand over what a pipe holds, an empty answer at its end; Windows can't wait for a pipe in another way."""
    with contextlib.suppress(ValueError, OSError):  # a server that died amid an answer
        while line := pipe.readline():
            answer = json.loads(line)
            answers.put((answer, {name: pipe.read(size) for name, size in answer["files"].items()}))
    answers.put(({}, {}))
