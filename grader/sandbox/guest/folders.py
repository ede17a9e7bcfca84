"""How a job's folder is measured and deleted: its names, depth and rights are a stranger's work.

Nothing here recurses, follows a link or builds a long path: a thousand folders in one another end both otherwise.
"""

import itertools
import os
import secrets
from contextlib import suppress


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
