"""What a job takes while it runs: the fork server looks every `TICK`, and stops it at its limits.

What a job takes beyond its limits is its author's fault. What it can't get because the machine lacks it is not: then
`lacking` says what, and no result of such a job counts.
"""

import os
import select
import signal
import time
from contextlib import suppress

from folders import measure

TICK = 0.1  # seconds between two looks
LEAST_MEMORY = 64 << 20  # bytes that the machine has to have left
PAGE, CLOCK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class Watch:
    """The watch over one job.

    Args:
        pid: of the job's process.
        folder: of the job.
        limits: threads, entries, disk, written and resident (bytes), time (of the CPU), idle and wall (seconds).
        has_disk: whether the jobs have a disk of their own, whose size the kernel bounds.
    """

    def __init__(self, pid: int, folder: str, limits: dict[str, int], has_disk: bool) -> None:
        self.pid, self.folder, self.limits, self.has_disk = pid, folder, limits, has_disk
        self.started = self.moved = time.monotonic()
        self.computed = self.delay = 0.0
        self.lacking = ""
        self.killed_before = killed_for_memory()

    def wait(self, requests: int) -> str:
        """Wait for the job's end, and kill it when it takes too much; says of what, or nothing."""
        done, gone = os.pidfd_open(self.pid), select.poll()
        gone.register(requests, select.POLLHUP)
        stopped = ""
        try:
            while not stopped and not select.select([done], [], [], TICK)[0]:
                stopped = "the grader is gone" if gone.poll(0) else self.look()
            if stopped:
                os.kill(self.pid, signal.SIGKILL)
        finally:
            os.close(done)
        return stopped

    def look(self) -> str:
        """Of what the job has taken more than it may; nothing if it has not, or has just ended."""
        try:
            found = self.taken()
        except OSError:
            return ""
        self.find_lack(found["disk"])
        return next((name for name, amount in found.items() if amount > self.limits[name]), "")

    def taken(self) -> dict[str, float]:
        """What the job has taken, by the names of its limits.

        Raises:
            OSError: if it has ended.
        """
        threads = os.listdir(f"/proc/{self.pid}/task")
        entries, disk = self.measure_disk()
        computed = computing_seconds(self.pid)
        running = time.monotonic() - self.started
        self.delay = min(queued_seconds(self.pid), max(0.0, running - computed))  # behind its own threads, it is none
        return {
            "threads": len(threads), "entries": entries, "disk": disk, "written": written(self.pid),
            "resident": resident(self.pid), "time": computed, "idle": self.idle_seconds(computed, threads),
            "wall": running,
        }  # fmt: skip

    def measure_disk(self) -> tuple[int, int]:
        """The files and folders of the jobs, and the bytes that they take, of deleted ones too."""
        count, size = measure(os.path.dirname(self.folder), self.limits["entries"])
        if not self.has_disk:
            return count, size + deleted_bytes(self.pid, os.path.dirname(self.folder))
        disk = os.statvfs(os.path.dirname(self.folder))
        return count, (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def idle_seconds(self, computed: float, threads: list[str]) -> float:
        """For how long no thread has computed, for more than a hundredth of it, or was ready to."""
        if computed - self.computed > self.limits["idle"] / 100 or any(is_ready(self.pid, name) for name in threads):
            self.computed, self.moved = computed, time.monotonic()
        return time.monotonic() - self.moved

    def find_lack(self, taken: float) -> None:
        """Notice that the machine can't give what a job may take: disk, unless the jobs have their own, and memory."""
        disk = os.statvfs(os.path.dirname(self.folder))
        if not self.has_disk and disk.f_bavail * disk.f_frsize + taken < self.limits["disk"]:
            self.lacking = "disk"
        if free_memory() < LEAST_MEMORY:
            self.lacking = "memory"

    def judge(self, code: int, peak: int) -> str:
        """How a job ended that was not stopped, by its exit code and the most memory that it took, in bytes."""
        disk = self.measure_disk()[1]
        self.find_lack(disk)
        if disk > self.limits["disk"] or (self.has_disk and code == -signal.SIGBUS):  # a mapped file found no space
            return "disk"
        if code == -signal.SIGKILL and killed_for_memory() > self.killed_before:
            if peak > self.limits["resident"]:
                return "resident"
            self.lacking = "memory"
        return f"exit {code}" if code >= 0 else f"signal {name_signal(-code)}"


def name_signal(number: int) -> str:
    """The name of a signal, or its number: most of those for real time have none."""
    return next((known.name for known in signal.Signals if known == number), str(number))


def read_stat(path: str) -> list[str]:
    """The fields of a stat file from the state on, which is the third; the name before it may hold anything."""
    with open(path, errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def computing_seconds(pid: int) -> float:
    """The seconds of CPU that all threads of a process have taken."""
    fields = read_stat(f"/proc/{pid}/stat")
    return (int(fields[11]) + int(fields[12])) / CLOCK


def queued_seconds(pid: int) -> float:
    """For how long a process's first thread was ready, and the machine had no CPU for it; 0 if the kernel says not."""
    with suppress(OSError), open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0


def is_ready(pid: int, thread: str) -> bool:
    """Whether a thread runs, waits for a CPU or for the disk."""
    with suppress(OSError):
        return read_stat(f"/proc/{pid}/task/{thread}/stat")[0] in "RD"
    return False


def living(pid: int) -> str:
    """The folder in /proc of a process's first thread that lives: of one that has ended, no memory or file is shown.

    Raises:
        OSError: if the process has ended.
    """
    threads = [f"/proc/{pid}/task/{name}" for name in os.listdir(f"/proc/{pid}/task")]
    return next((thread for thread in threads if read_stat(f"{thread}/stat")[0] not in "ZX"), threads[0])


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    with open(f"{living(pid)}/statm") as file:
        return int(file.read().split()[1]) * PAGE


def written(pid: int) -> int:
    """The bytes that a child has written, also to files that it has deleted; 0 where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/io") as file:
            counts = dict(line.split(": ") for line in file)
    except OSError:  # it is not yet confined
        return 0
    return max(int(counts["wchar"]), int(counts["write_bytes"]))


def deleted_bytes(pid: int, jobs: str) -> int:
    """The bytes of files that a job has deleted and still holds, open or mapped: no folder lists them."""
    size = 0
    with suppress(OSError):
        thread = living(pid)
        for name in os.listdir(f"{thread}/fd"):
            with suppress(OSError):
                found = os.stat(f"{thread}/fd/{name}")
                size += 0 if found.st_nlink else found.st_blocks * 512
        with open(f"{thread}/maps", errors="replace") as file:
            for line in file:
                if jobs in line and line.endswith("(deleted)\n"):
                    first, last = line.split(" ", 1)[0].split("-")
                    size += int(last, 16) - int(first, 16)
    return size


def free_memory() -> int:
    """The bytes of memory and swap that the machine has left."""
    with open("/proc/meminfo") as file:
        found = {name: int(value.split()[0]) << 10 for name, value in (line.split(":") for line in file)}
    return found.get("MemAvailable", LEAST_MEMORY) + found.get("SwapFree", 0)


def killed_for_memory() -> int:
    """How many processes the kernel has killed since it started, because memory ran out; 0 if it does not say."""
    with suppress(OSError), open("/proc/vmstat") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    return 0
