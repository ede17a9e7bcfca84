"""Job output, read as bytes and as JSON. A submission may have written all of it, in any form."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from grader import rubric

RESULTS_BYTES = 16 << 20  # a hundred times an honest one; as JSON, it takes up to 25 times as much memory
LONGEST_TEXT, DEEPEST, LARGEST_INT = 20_000, 10, 2**63 - 1


def read_lines(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """The lines of results.jsonl that are JSON objects with a name; a submission may have written others."""
    lines = []
    for line in files.get("results.jsonl", b"").splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("name"), str):
            lines.append(prune(found))
    return lines


def prune(value: Any, depth: int = 0) -> Any:
    """A value without what no honest worker writes, and a check would fail on: depth, lengths, unpaired surrogates."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode(errors="replace").decode()
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        return {"__type__": "a whole number of more than 63 bits"}
    if isinstance(value, list | dict) and depth > DEEPEST:
        return {"__type__": type(value).__name__}
    if isinstance(value, list):
        return [prune(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {prune(key): prune(item, depth + 1) for key, item in value.items()}
    return value


def read_files(folder: Path) -> dict[str, bytes]:
    """What a job left in `out`, and the adapter that it saved: regular files of known names, never through a link."""
    names = tuple(f"{name}.safetensors" for name in ("gradients", "before", "after", "logits"))
    found = {name: read_file(folder / "out", name, rubric.ZIP_BYTES) for name in names}
    found |= {name: read_file(folder / "out", name, RESULTS_BYTES) for name in ("results.jsonl", "stage")}
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        found[f"{rubric.ADAPTER_DIR}/{name}"] = read_file(
            folder / "homework" / rubric.ADAPTER_DIR, name, rubric.ZIP_BYTES
        )
    return {name: content for name, (content, exists) in found.items() if exists}


def read_file(folder: Path, name: str, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes of a regular file, and whether there is one; links, folders and pipes are none."""
    if any(part.is_symlink() for part in (folder, folder.parent)):
        return b"", False
    try:
        opened = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return b"", False
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return b"", False
        with open(opened, "rb", closefd=False) as file:
            return file.read(most), True
    finally:
        os.close(opened)  # also of a folder, of which Python makes no file
