"""The tiers of isolation for untrusted code, the command that starts each, and the verdict on its canary.

bubblewrap: own namespaces for files, processes and network; landlock: Landlock, seccomp and limits in the process,
with a user of its own where we are root, which works inside an unprivileged container too; none: only limits of time.
In both tiers the job is confined by grader/sandbox/guest/confine.py. SECURITY.md says what bounds what.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from grader.errors import GraderFault

GUEST = Path(__file__).resolve().parent / "guest"
MUST_WORK = ("write inside", "start a thread")
FIRST_UID = 60_000  # above every account of a person or a service, within what a container maps


class Tier(StrEnum):
    """The strength of the isolation, best first."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    NONE = "none"


def why_not(tier: Tier) -> str:
    """Why a tier can't even be tried on this machine; nothing if it can."""
    if tier is Tier.NONE:
        return ""
    if sys.platform != "linux":
        return f"{sys.platform} has no Landlock and no namespaces"
    try:
        import pyseccomp  # noqa: F401 (it loads libseccomp)
    except (ImportError, RuntimeError, OSError) as error:
        return f"libseccomp can't be used ({error}): install libseccomp2"
    if tier is Tier.BUBBLEWRAP and not shutil.which("bwrap"):
        return "bwrap is not installed: install bubblewrap"
    if tier is Tier.LANDLOCK:
        from grader.sandbox.guest.confine import landlock_abi  # not on Windows, which lacks `resource`

        return "" if landlock_abi() else "this kernel has no Landlock"
    return ""


def readable_paths() -> list[str]:
    """What a job has to read: Python with its packages, the system's libraries, and the guest's own files."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        raise GraderFault("torch is not installed: pip install -r requirements.txt")
    packages = Path(torch.origin).parents[1]
    wanted = [sys.prefix, sys.base_prefix, str(packages), os.path.dirname(os.path.realpath(sys.executable))]
    wanted += ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", str(GUEST)]
    found = [path for path in dict.fromkeys(wanted) if os.path.exists(path)]
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def own_user(tier: Tier, work: Path) -> int | None:
    """A user for the job alone, where we may choose one and it could read what it needs; else None."""
    if tier is not Tier.LANDLOCK or os.geteuid() != 0:
        return None
    return FIRST_UID + os.getpid() % 5000 if all(map(is_public, (*readable_paths(), str(work.parent)))) else None


def is_public(path: str) -> bool:
    """Whether any user may read a file or a folder, by its mode and those of all folders above it."""
    found = Path(path).resolve()
    return all(parent.stat().st_mode & 0o001 for parent in found.parents) and bool(found.stat().st_mode & 0o004)


def command(tier: Tier, jobs: Path, disk: int) -> list[str]:
    """The command line of the fork server, whose jobs have their folders below `jobs`, on a disk of so many bytes."""
    python = [sys.executable, "-I", "-B", str(GUEST / "fork_server.py")]
    if tier is Tier.NONE:
        return python
    python += [str(jobs), str(disk)]
    if tier is not Tier.BUBBLEWRAP:
        return python
    own_disk = ["--size", str(disk), "--tmpfs", str(jobs)] if knows_sizes() else ["--bind", str(jobs), str(jobs)]
    binds = [part for path in readable_paths() for part in ("--ro-bind", path, path)]
    namespaces = ["--unshare-user", "--unshare-all", "--new-session", "--cap-drop", "ALL", "--hostname", "grader"]
    base = ["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]
    # Without Landlock, these would hold the memory of the host, and what one submission leaves for the next.
    closed = [part for path in ("/tmp", "/dev", "/") for part in ("--remount-ro", path)]
    return [
        "bwrap",
        *namespaces,
        *base,
        *binds,
        *own_disk,
        *closed,
        "--chdir",
        str(jobs),
        "--",
        *python,
    ]


def knows_sizes() -> bool:
    """Whether this bubblewrap can bound the size of a file system in memory: 0.7 and later can."""
    said = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return "--size" in said.stdout + said.stderr


@contextmanager
def canary_targets(work: Path, disk: int) -> Iterator[dict[str, Any]]:
    """Things of the grader that a canary has to fail to reach: files beside its folder, ports, this process, a disk."""
    secret, outside = work.with_name(f"{work.name}.secret"), work.with_name(f"{work.name}.outside")
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for listener in (tcp, udp):
            listener.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.setblocking(False)
        secret.write_text("the answers")
        secret.chmod(0o644)
        try:
            yield {
                "secret": str(secret),
                "outside": str(outside),
                "grader": str(GUEST.with_name("host.py")),
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                "pid": os.getpid(),
                "disk": disk,
            }
        finally:
            secret.unlink(missing_ok=True)
            outside.unlink(missing_ok=True)


def leaks(found: dict[str, str]) -> list[str]:
    """What a canary could do and must not, or could not and must.

    Raises:
        GraderFault: if it tried nothing: a canary that did not run shows nothing.
    """
    if len(found) <= len(MUST_WORK):
        raise GraderFault("the canary of the sandbox gave no answer")
    return [
        f"{name}: {'was possible' if outcome == 'done' else outcome}"
        for name, outcome in found.items()
        if (outcome == "done") is not (name in MUST_WORK)
    ]


def choose(wanted: str, required: bool, try_tier: Callable[[Tier], str]) -> tuple[Tier, dict[str, str]]:
    """The best tier that holds here, and why each better one does not.

    Args:
        wanted: a tier by name, or "auto".
        required: whether `none` is no choice.
        try_tier: tests a tier; gives what is wrong with it, or nothing.

    Raises:
        GraderFault: if no tier that may be used holds.
    """
    tiers = [Tier(wanted)] if wanted != "auto" else list(Tier)
    refused: dict[str, str] = {}
    for tier in tiers:
        if required and tier is Tier.NONE:
            continue
        if not (reason := why_not(tier) or try_tier(tier)):
            return tier, refused
        refused[str(tier)] = reason
    reasons = "; ".join(f"{tier}: {reason}" for tier, reason in refused.items()) or "none isolates nothing"
    raise GraderFault(f"no sandbox holds here ({reasons}): nothing of a stranger is run without one")
