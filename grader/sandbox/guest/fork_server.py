"""The fork server: it has imported the libraries once, and forks a confined child for each job.

    python -I -B grader/sandbox/guest/fork_server.py [JOBS BYTES]    # started by grader/sandbox/host.py

A request is a letter (preload, job, or a job here, without a fork) and a line of JSON, an answer is a line of JSON;
each is followed by the bytes of the files that it names with their sizes. With JOBS, the folder of the jobs, they get a
disk of that size of their own, where it can be.

No line of a submission runs in this process, and none is read by it, or the next job could find it in its memory: a
child reads the request, and its child gives up everything (confine.py) and runs the job (jobs.py). When the grader is
gone, the pipe ends: the job is killed, its folder emptied, and this process goes too.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)
PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE = 36, 4
Files = dict[str, bytes]


def serve() -> None:
    """Answer requests until the grader closes the pipe."""
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever a library prints while it is imported must not be taken for an answer
    adopt_orphans()
    sys.path.insert(0, HERE)
    has_disk = own_disk(sys.argv[1:])
    with contextlib.suppress(BrokenPipeError):  # the grader went meanwhile
        while kind := os.read(requests, 1):
            if kind == b"p":
                reply(answers, preload(read_request(requests)[0]["preload"]))
            elif kind == b"h":
                reply(answers, run_here(*read_request(requests)))
            elif not serve_in_child(requests, answers, has_disk):
                break


def own_disk(arguments: list[str]) -> bool:
    """Whether the jobs have a disk of their own, whose folder and size the arguments say."""
    from disk import have_own_disk

    return len(arguments) == 2 and have_own_disk(arguments[0], int(arguments[1]))


def read_request(pipe: int) -> tuple[dict[str, Any], Files]:
    """A request and the files that come with it. The grader sends the next one after the answer, so none is cut."""
    with open(pipe, "rb", closefd=False) as stream:
        request = json.loads(stream.readline())
        return request, {name: stream.read(size) for name, size in request.get("files", {}).items()}


def reply(pipe: int, answer: dict[str, Any], files: Files | None = None) -> None:
    """Write an answer, and the files that belong to it."""
    files = files or {}
    sizes = {name: len(content) for name, content in files.items()}
    with open(pipe, "wb", closefd=False) as stream:
        stream.write(json.dumps({**answer, "files": sizes}).encode() + b"\n")
        stream.writelines(files.values())


def serve_in_child(requests: int, answers: int, has_disk: bool) -> bool:
    """Have a job done by a child; whether the next one can be."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            adopt_orphans()
            request, files = read_request(requests)
            reply(answers, *run_job(request, files, has_disk, requests))
            code = 0
        except BaseException as error:
            os.write(2, f"the fork server failed: {type(error).__name__}: {error}\n".encode(errors="replace"))
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def adopt_orphans() -> None:
    """Become the parent of every process that a child leaves behind, and unreadable for them."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def preload(modules: list[str]) -> dict[str, Any]:
    """Import what every job needs, once; the garbage collector of a child need not look at any of it again."""
    started = time.perf_counter()
    gc.disable()  # a quarter of the time of the imports, in which it finds nothing
    for module in modules:
        importlib.import_module(module)
    gc.enable()
    gc.collect()
    gc.freeze()
    return {"seconds": time.perf_counter() - started}


def run_here(request: dict[str, Any], files: Files) -> dict[str, Any]:
    """Run one job in this process, where there is no fork that can be trusted; it may not come back."""
    from folders import fill

    fill(request["folder"], files, None)
    become_worker(request)
    return {"ended": "exit 0", "seconds": 0.0}


def run_job(request: dict[str, Any], files: Files, has_disk: bool, requests: int) -> tuple[dict[str, Any], Files]:
    """Run one job in a child: what became of it, and the files that it left. Its folder is gone then."""
    from folders import collect, fill, remove

    jobs = os.path.dirname(request["folder"])
    try:
        fill(request["folder"], files, request["uid"])
        return {**watch_job(request, has_disk, requests), "own disk": has_disk}, collect(
            request["folder"], request["outputs"]
        )
    except OSError as error:
        return {"fault": f"{type(error).__name__}: {error}"}, {}
    finally:
        for name in os.listdir(jobs):  # without Landlock, a job may write beside its folder
            remove(os.path.join(jobs, name))


def watch_job(request: dict[str, Any], has_disk: bool, requests: int) -> dict[str, Any]:
    """Fork the child of a job, and say how it ended."""
    from watch import Watch

    started = time.monotonic()
    if (pid := os.fork()) == 0:
        become_child(request)
    watch = Watch(pid, request["folder"], request["limits"], has_disk)
    stopped = watch.wait(requests)
    _, status, usage = os.wait4(pid, 0)
    sweep()
    ended = stopped or watch.judge(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
    seconds = time.monotonic() - started
    return {"ended": ended, "seconds": seconds, "delay": watch.delay, "lacking": watch.lacking}


def become_child(request: dict[str, Any]) -> None:
    """Run the job and end; nothing of it may ever come back into this program's loop."""
    try:
        become_worker(request)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        os.write(2, f"the worker failed: {type(error).__name__}: {error}\n".encode(errors="replace"))
        code = 70
    with contextlib.suppress(BaseException):  # what was printed may say why
        sys.stdout.flush()
    os._exit(code & 255)


def become_worker(request: dict[str, Any]) -> None:
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
    tempfile.tempdir = None  # a library may have asked while it was imported: then it is a folder that is closed here
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
    jobs.run(name, job)


def sweep() -> None:
    """Kill whatever the job has left behind; the kernel makes this process the parent of all of it."""
    while orphans := children():
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def children() -> list[int]:
    """The processes whose parent this one is."""
    from watch import read_stat

    found = []
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc/self") else ()):
        try:
            parent = read_stat(f"/proc/{name}/stat")[1]
        except OSError:  # it has just ended
            continue
        if int(parent) == os.getpid():
            found.append(int(name))
    return found


if __name__ == "__main__":
    serve()
