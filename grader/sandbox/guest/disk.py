"""A disk of the jobs' own: a file system in memory of a bounded size, which only the fork server and its jobs see.

bubblewrap mounts one where its version can; elsewhere the fork server does, where it may: as root, outside of most
containers. Where neither can, the fork server only watches what jobs take (watch.py).
"""

import ctypes
import os

CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 1 << 14, 1 << 18


def have_own_disk(jobs: str, size: int) -> bool:
    """Whether the folder of the jobs is a disk of at most `size` bytes, after an attempt to make it one."""
    try:
        if not is_bounded(jobs, size):
            mount(jobs, size)
            os.chdir(jobs)  # the former working folder lies below it
        return is_bounded(jobs, size)
    except OSError:  # it may not
        return False


def is_bounded(folder: str, size: int) -> bool:
    """Whether a folder lies on a file system of at most `size` bytes."""
    found = os.statvfs(folder)
    return 0 < found.f_blocks * found.f_frsize <= size


def mount(folder: str, size: int) -> None:
    """Mount a file system in memory on a folder, for this process and its children alone; it goes when they do.

    Raises:
        OSError: if this process may not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size},mode=711".encode()
    for failed in (
        lambda: libc.unshare(CLONE_NEWNS),
        lambda: libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None),
        lambda: libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(MS_NOSUID | MS_NODEV), options),
    ):
        if failed():
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
