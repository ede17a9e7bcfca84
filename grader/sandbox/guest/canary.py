"""Tries everything that the sandbox must prevent, before any submission runs in it; grader/sandbox/tiers.py judges.

Each attempt is an ordinary line of Python, as a submission would write it.
"""

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from disk import is_bounded

PART = 32 << 20  # bytes of a file that the canary writes


def attempt(targets: dict[str, Any]) -> dict[str, str]:
    """What happened at each attempt: "done", or the error that stopped it.

    Args:
        targets: files, ports and processes of the grader that must be out of reach.
    """
    attempts: dict[str, Callable[[], Any]] = {
        "read the answers": lambda: Path(targets["secret"]).read_bytes(),
        "read the grader": lambda: Path(targets["grader"]).read_bytes(),
        "write outside": lambda: Path(targets["outside"]).write_text("canary"),
        "write to /tmp": lambda: Path("/tmp/canary").write_text("canary"),
        "write to /dev/shm": lambda: Path("/dev/shm/canary").write_text("canary"),
        "change a file's rights": lambda: change_rights(targets["secret"]),
        "shorten a file": lambda: os.truncate(targets["secret"], 1),
        "make a link": lambda: os.symlink("/etc/passwd", "out/link"),
        "send to a socket by a pair": pair,
        "slow the fork server down": slow_down,
        "connect by TCP": lambda: socket.create_connection(("127.0.0.1", targets["tcp"]), timeout=1).close(),
        "send by UDP": lambda: send(targets["udp"]),
        "signal the fork server": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "signal the grader": lambda: os.kill(targets["pid"], signal.SIGCONT),
        "read the fork server's memory": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb").close(),
        "read the fork server's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "start a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True, timeout=10),
        "fork": fork,
        "reserve disk space by ioctl": reserve,
        "make a file with the suid bit": lambda: os.close(os.open("tmp/suid", os.O_CREAT, 0o6777)),
        "read the host's connections": lambda: connections("/proc/self/net/tcp", targets["tcp"]),
        "read them by a thread's name": lambda: connections("/proc/thread-self/net/tcp", targets["tcp"]),
        "take 64 GiB": lambda: bytearray(64 << 30),
        "pin memory in a pipe": pin,
        "take huge pages": huge_pages,
        "share memory with nobody": lambda: mmap.mmap(-1, 4096).close(),
        "write inside": lambda: Path("out/inside").write_text("canary"),
        "start a thread": lambda: threading.Thread(target=int).start(),
    }
    if is_bounded(".", targets["disk"]):  # elsewhere the fork server looks after it, and would end the canary
        attempts["fill more than its disk"] = lambda: fill(targets["disk"])
    return {name: outcome_of(function) for name, function in attempts.items()}


def outcome_of(function: Callable[[], Any]) -> str:
    """ "done", or the error."""
    try:
        function()
        return "done"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


def send(port: int) -> None:
    """One packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"canary", ("127.0.0.1", port))


def pair() -> None:
    """Two sockets, either of which could send to any other socket in the file system."""
    for connection in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        connection.close()


def change_rights(path: str) -> None:
    """A file that everybody may write; a call that only pretends is an error."""
    former = os.stat(path).st_mode
    os.chmod(path, 0o666)
    if os.stat(path).st_mode == former:
        raise PermissionError("nothing changed")


def slow_down() -> None:
    """Another priority for the fork server; a call that only pretends is an error."""
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)
    if os.getpriority(os.PRIO_PROCESS, os.getppid()) != 19:
        raise PermissionError("nothing changed")


def reserve() -> None:
    """FS_IOC_RESVSP for 1 MiB: as fallocate, but beside the limits of a file's size and of what is written."""
    with open("tmp/reserved", "wb") as file:
        fcntl.ioctl(file, 0x40305828, struct.pack("hhqqiI4i", 0, 0, 0, 1 << 20, 0, 0, 0, 0, 0, 0))


def pin() -> None:
    """Give a page to a pipe: it is kept there when it is unmapped, and is in no limit."""
    page = ctypes.create_string_buffer(4096)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(page), len(page))
    out, into = os.pipe()
    given = ctypes.CDLL(None, use_errno=True).vmsplice(into, vector, ctypes.c_size_t(1), 0)
    os.close(out)
    os.close(into)
    if given < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def huge_pages() -> None:
    """Whether the kernel may give huge pages, which are whole while a part of them is in use."""
    if "THP_enabled:\t1" not in Path("/proc/self/status").read_text():
        raise PermissionError("they are off")


def fill(size: int) -> None:
    """More files than a disk has space, each of them smaller than a file may be; they are gone then."""
    names, content = [f"tmp/{number}" for number in range(size // PART + 1)], bytes(PART)
    try:
        for name in names:
            Path(name).write_bytes(content)
    finally:
        for name in names:
            Path(name).unlink(missing_ok=True)


def connections(path: str, port: int) -> None:
    """Whether a file of the kernel lists a port of the host: it does not in a network namespace of its own."""
    if f":{port:04X} " not in Path(path).read_text():
        raise PermissionError("these are not the host's")


def fork() -> None:
    """A second process that ends at once."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
