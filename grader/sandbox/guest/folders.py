"""How a job's folder is filled, measured, read and deleted: its names, depth and rights are a stranger's work.

But for the filling, nothing here recurses, follows a link or builds a long path: a thousand folders in one another end
both otherwise.
"""

import itertools
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress

FOLDERS = ("homework", "data", "in", "out", "tmp", "runs")


def fill(folder: str, files: dict[str, bytes], uid: int | None) -> None:
    """Make a job's folder with its files, for a user. Their names were checked when the submission was opened.

    Raises:
        OSError: if there is no space.
    """
    paths = {os.path.join(folder, name): content for name, content in files.items()}
    for path in (*(os.path.join(folder, name) for name in FOLDERS), *map(os.path.dirname, paths)):
        os.makedirs(path, exist_ok=True)
    for path, content in paths.items():
        with open(path, "wb") as file:
            file.write(content)
    if uid is not None:
        for path, folders, names in os.walk(folder):
            for name in (".", *folders, *names):
                os.chown(os.path.join(path, name), uid, uid, follow_symlinks=False)


def collect(folder: str, wanted: Sequence[tuple[str, int]]) -> dict[str, bytes]:
    """The files that there are of those wanted, by path and by the most bytes of each: of the end, where negative."""
    found = {name: read_file(os.path.join(folder, name), most) for name, most in wanted}
    return {name: content for name, content in found.items() if content is not None}


def read_file(path: str, most: int) -> bytes | None:
    """The first `most` bytes of a regular file, or the last `-most`; None if there is none, as links and pipes are."""
    parent = os.path.dirname(path)
    if any(os.path.islink(above) for above in (parent, os.path.dirname(parent))):
        return None
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        with open(opened, "rb", closefd=False) as file:
            file.seek(max(0, os.fstat(opened).st_size + most) if most < 0 else 0)
            return file.read(abs(most))
    finally:
        os.close(opened)  # also of a folder, of which Python makes no file


def measure(folder: str, most: int) -> tuple[int, int]:
    """The files and folders below a folder, counted up to `most` and one, and the bytes that they take on the disk.

    A folder that can't be looked into counts as too many: what is below it would be counted by nobody.
    """
    count = size = 0
    left = [folder]
    while left and count <= most:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in itertools.islice(entries, most + 1 - count):
                    count, size = count + 1, size + size_of(entry)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # it was deleted meanwhile
            continue
        except OSError:  # closed to us, or its path is too long
            return most + 1, size
    return count, size


def size_of(entry: os.DirEntry) -> int:
    """The bytes of a file on the disk; none if it was deleted meanwhile."""
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def remove(folder: str) -> None:
    """Delete a folder with all that is in it; what resists stays, and is tried again by the next grader.

    Each folder below gives what it holds one level up before it goes, so that no path gets longer than two names.
    """
    with suppress(OSError):
        if os.path.islink(folder) or not os.path.isdir(folder):
            os.unlink(folder)
            return
        os.chmod(folder, 0o700)
        while names := os.listdir(folder):
            for name in names:
                remove_entry(folder, os.path.join(folder, name))
        os.rmdir(folder)


def remove_entry(folder: str, path: str) -> None:
    """Delete a file, or move what is in a folder to `folder`, under new names, and delete that."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.name == "nt":
            os.chmod(path, 0o600)
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    for name in os.listdir(path):
        below = os.path.join(path, name)
        if os.path.isdir(below) and not os.path.islink(below):
            os.chmod(below, 0o700)  # only who may write a folder may move it
        os.rename(below, os.path.join(folder, secrets.token_hex(12)))
    os.rmdir(path)
