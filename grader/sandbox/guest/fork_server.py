"""The fork server: it has imported the libraries once, and forks a confined child for each job.

    python -I -B grader/sandbox/guest/fork_server.py    # started by grader/sandbox/host.py; JSON lines in and out

No line of a submission runs in this process: the fork gives up everything first (confine.py), then runs one job
(jobs.py). When the grader is gone, the pipe ends, and this process kills its child, empties its folder and goes too.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)
PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE = 36, 4
TICK = 0.1  # seconds between two looks at what a job has taken
Usage = tuple[str, int]


def serve() -> None:
    """Answer requests until the grader closes the pipe."""
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever a library prints while it is imported must not be taken for an answer
    adopt_orphans()
    sys.path.insert(0, HERE)
    folder, rest = "", b""
    while True:
        line, rest = read_line(requests, rest)
        if not line:
            break
        request = json.loads(line)
        folder = request.get("folder", folder)
        answer = preload(request["preload"]) if "preload" in request else run_job(request, requests, answers)
        try:
            os.write(answers, json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:  # the grader went meanwhile
            break
    empty(folder)


def read_line(pipe: int, rest: bytes) -> tuple[bytes, bytes]:
    """The next line of a pipe and what came after it; nothing at its end."""
    while b"\n" not in rest:
        part = os.read(pipe, 65536)
        if not part:
            return b"", b""
        rest += part
    line, _, rest = rest.partition(b"\n")
    return line, rest


def adopt_orphans() -> None:
    """Become the parent of every process that a child leaves behind, and unreadable for them."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def preload(modules: list[str]) -> dict[str, Any]:
    """Import what every job needs, once; the garbage collector of a child need not look at any of it again."""
    started = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    return {"seconds": time.perf_counter() - started}


def run_job(request: dict[str, Any], *pipes: int) -> dict[str, Any]:
    """Run one job in a child, or here, where there is no fork that can be trusted."""
    if not request["fork"]:
        become_worker(request, pipes[1:])
        return {"ended": "exit 0", "seconds": 0.0, "memory": 0}
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become_child(request, pipes)
    stopped = watch(pid, request, pipes[0], started + request["limits"]["seconds"])
    _, status, usage = os.wait4(pid, 0)
    sweep()
    code = os.waitstatus_to_exitcode(status)
    ended = stopped or (f"exit {code}" if code >= 0 else f"signal {signal.Signals(-code).name}")
    return {"ended": ended, "seconds": time.monotonic() - started, "memory": usage.ru_maxrss * 1024}


def watch(pid: int, request: dict[str, Any], requests: int, deadline: float) -> str:
    """Wait for a child, and kill it when it takes too much; says of what, or nothing."""
    done = os.pidfd_open(pid)
    gone = select.poll()
    gone.register(requests, select.POLLHUP)
    stopped = ""
    try:
        while not select.select([done], [], [], TICK)[0]:
            if gone.poll(0):
                stopped = "the grader is gone"
            elif time.monotonic() > deadline:
                stopped = "time"
            else:
                stopped = taken_too_much(pid, request["folder"], request["limits"])
            if stopped:
                os.kill(pid, signal.SIGKILL)
                break
    finally:
        os.close(done)
    return stopped


def taken_too_much(pid: int, folder: str, limits: dict[str, int]) -> str:
    """Of what a child has taken more than it may: threads, files, disk; nothing if it has not."""
    from folders import measure

    try:
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:  # it has just ended
        return ""
    count, size = measure(os.path.dirname(folder), limits["entries"])
    found: tuple[Usage, ...] = (("threads", threads), ("entries", count), ("disk", size), ("written", written(pid)))
    return next((name for name, amount in found if amount > limits[name]), "")


def written(pid: int) -> int:
    """The bytes that a child has written, also to files that it has deleted; 0 where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/io") as file:
            counts = dict(line.split(": ") for line in file)
    except OSError:  # it has just ended, or is not yet confined
        return 0
    return max(int(counts["wchar"]), int(counts["write_bytes"]))


def become_child(request: dict[str, Any], pipes: tuple[int, ...]) -> None:
    """Run the job and end; nothing of it may ever come back into this program's loop."""
    try:
        become_worker(request, pipes)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        os.write(2, f"the worker failed: {type(error).__name__}: {error}\n".encode(errors="replace"))
        code = 70
    with contextlib.suppress(BaseException):  # what was printed may say why
        sys.stdout.flush()
    os._exit(code & 255)


def become_worker(request: dict[str, Any], pipes: tuple[int, ...]) -> None:
    """Let go of the pipes, take the job's folder and environment, give up everything else, and run the job."""
    folder = Path(request["folder"])
    output = os.open(folder / "out" / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    empty_input = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((empty_input, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    if request["fork"]:
        os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(folder)
    import worker

    if request["confined"]:
        import confine

        uid = request["uid"]
        if uid is not None:
            os.fchown(1, uid, uid)
        confine.confine(request["limits"], request["readable"], [str(folder)], uid)
    run_worker(request["job"], worker.Job(folder))


def run_worker(name: str, job: Any) -> None:
    """Run the job of that name; the canary needs none of the libraries."""
    if name == "canary":
        import canary

        job.record("canary", lambda: canary.attempt(job.inputs))
        return
    import jobs

    sys.path.insert(0, str(job.folder))
    jobs.JOBS[name](job)


def sweep() -> None:
    """Kill whatever the job has left behind; the kernel makes this process the parent of all of it."""
    while orphans := children():
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def children() -> list[int]:
    """The processes whose parent this one is."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc/self") else ()):
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = file.read().rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        if int(parent) == os.getpid():
            found.append(int(name))
    return found


def empty(folder: str) -> None:
    """Delete what is in the job's folder, since the grader can't any more."""
    from folders import remove

    if folder:
        remove(folder)


if __name__ == "__main__":
    serve()
