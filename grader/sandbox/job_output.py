"""Job output, read as bytes and as JSON. A submission may have written all of it, in any form."""

import json
from typing import Any

from grader import rubric

RESULTS_BYTES = 16 << 20  # a hundred times an honest one; as JSON, it takes up to 25 times as much memory
OUTPUT_BYTES = 100_000  # of what a job printed
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


def outputs() -> list[tuple[str, int]]:
    """What is read of a job's folder: paths, and the most bytes of each; of what it printed, the last ones."""
    tensors = [(f"out/{name}.safetensors", rubric.ZIP_BYTES) for name in ("gradients", "before", "after", "logits")]
    lines = [("out/results.jsonl", RESULTS_BYTES), ("out/stage", RESULTS_BYTES), ("out/output.txt", -OUTPUT_BYTES)]
    folders, names = (rubric.ADAPTER_DIR, rubric.REASONING_DIR), ("adapter_config.json", "adapter_model.safetensors")
    adapters = [(f"homework/{folder}/{name}", rubric.ZIP_BYTES) for folder in folders for name in names]
    return [*tensors, *lines, *adapters]
