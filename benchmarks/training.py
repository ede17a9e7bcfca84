"""Training: this homework against the course's former recipe and TRL, each in a process of its own, in turn.

    python -m benchmarks.training                              # bundled size, two epochs; ten minutes on two cores
    python -m benchmarks.training --size full --max-steps 3    # SmolLM2-360M's shape; SMOLLM2_TOKENIZER names a folder
    python -m benchmarks.training --size full --epochs 5 --device cuda --key h200
    python -m benchmarks.training --table                      # prints the tables of benchmarks/README.md

Needs benchmarks/requirements.txt. Only ratios within one run count: the contenders take turns, in changing
order, with another seed in each round. The whole process is timed from outside.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.full_size import base_model
from homework.common.base_model import ROOT
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import read_json, write_json

RESULTS = Path(__file__).with_suffix(".json")
CONTENDERS = {
    "ours": "this homework",
    "course": "course's former recipe",
    "trl": "TRL, defaults",
    "trl-best": "TRL at its best",
}


def call(module: str, words: list[str], device: str) -> float:
    """Run a module in a process of its own; the seconds from its start to its end."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    line = [sys.executable, "-m", module, *words]
    started = time.perf_counter()
    done = subprocess.run(line, cwd=ROOT, env=os.environ | hidden, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HomeworkError(f"{' '.join(line[1:])} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - started


def contend(name: str, base: str, device: str, flags: list[str], questions: int) -> dict[str, Any]:
    """Train one contender, then measure its accuracy where questions are asked."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = call("benchmarks.contenders", [name, base, folder, *flags], device)
        result = {"process_seconds": seconds, **(read_json(Path(folder) / "result.json") or {})}
        if questions:
            call("benchmarks.accuracy", [base, folder, "--questions", str(questions)], device)
            result |= read_json(Path(folder) / "accuracy.json") or {}
        return result


def measure_roof(base: str, device: str) -> dict[str, Any]:
    """The rate of the machine's matrix products, and the operations of a token."""
    with tempfile.TemporaryDirectory() as folder:
        call("benchmarks.roofline", [base, f"{folder}/roof.json"], device)
        return read_json(Path(folder) / "roof.json") or {}


def describe_machine(device: str) -> str:
    """The machine in general words."""
    import torch

    if device == "cuda":
        return f"one {torch.cuda.get_device_name()}, torch {torch.__version__}"
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of a virtual machine, {names[0].split(':')[1].strip()}, torch {torch.__version__}"


def measure(entry: dict[str, Any], size: str, device: str, flags: list[str], questions: int) -> Iterator[None]:
    """Fill the roofline and the results of an entry; yields after each result, so that it can be kept."""
    names = list(entry["results"])
    with base_model(size) as base:
        entry["roof"] = measure_roof(base, device)
        for repeat in range(entry["repeats"]):
            for name in random.Random(repeat).sample(names, len(names)):
                result = contend(name, base, device, [*flags, "--seed", str(repeat)], questions)
                entry["results"][name].append(result)
                print(f"{name:<9}" + ", ".join(f"{key} {value:,.3f}" for key, value in result.items()), flush=True)
                yield


def median(results: list[dict], key: str) -> float:
    """The median of one figure."""
    return statistics.median(result[key] for result in results)


COLUMNS = (
    "training, s",
    "times the course's",
    "probes, s",
    "whole process, s",
    "times the course's",
    "real tokens/s",
    "of the roofline",
    "peak memory, GB",
    "accuracy",
)


def format_table(entry: dict[str, Any]) -> str:
    """One measurement as a Markdown table of medians; the ratios are within the run, of tokens a second."""
    every = entry["results"]
    slow = every.get("course", every["ours"])
    scored = all("accuracy" in runs[0] for runs in every.values() if runs)
    columns = COLUMNS if scored else COLUMNS[:-1]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, runs in every.items():
        if not runs:
            lines.append(f"| {CONTENDERS[name]} | not run" + " |" * len(columns))
            continue
        rate, process = median(runs, "tokens_per_second"), median(runs, "process_seconds")
        cells = [
            f"{median(runs, 'train_seconds'):.1f}",
            f"{rate / median(slow, 'tokens_per_second'):.1f}",
            f"{median(runs, 'probe_seconds'):.1f}",
            f"{process:.1f}",
            f"{median(slow, 'process_seconds') / process:.1f}",
            f"{rate:,.0f}",
            f"{rate * entry['roof']['operations_per_token'] / entry['roof']['operations_per_second']:.1%}",
            f"{median(runs, 'peak_bytes') / 1e9:.2f}",
        ]
        cells += [f"{median(runs, 'accuracy'):.3f}"] if scored else []
        lines.append(f"| {CONTENDERS[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    *,
    size: str = "bundled",
    device: str = "cpu",
    epochs: int | None = None,
    max_steps: int | None = None,
    repeats: int = 3,
    only: str = "ours,course,trl,trl-best",
    key: str | None = None,
    table: bool = False,
) -> None:
    """Measure the contenders in turn, keep the figures, and print the table.

    Args:
        size: bundled or full.
        device: cpu or cuda.
        epochs: passes over the rows; two at bundled size if left out.
        max_steps: stop after so many steps.
        repeats: trainings of each contender.
        only: contenders, separated by commas.
        key: name of the entry in benchmarks/training.json.
        table: only print the tables of that file.
    """
    kept = read_json(RESULTS) or {}
    if not table:
        flags = {"epochs": epochs or (2 if size == "bundled" else None), "max-steps": max_steps}
        words = [word for name, value in flags.items() if value for word in (f"--{name}", str(value))]
        entry: dict[str, Any] = {
            "command": f"python -m benchmarks.training {' '.join(sys.argv[1:])}".strip(),
            "date": time.strftime("%Y-%m-%d"),
            "machine": describe_machine(device),
            "repeats": repeats,
            "results": {name: [] for name in only.split(",")},
        }
        for _ in measure(entry, size, device, words, 950 if size == "bundled" else 0):
            write_json(RESULTS, kept | {key or f"{size}-{device}": entry})
        kept[key or f"{size}-{device}"] = entry
    for name, entry in kept.items():
        print(f"\n{name}: `{entry['command']}`, {entry['date']}, {entry['machine']}\n\n{format_table(entry)}")


if __name__ == "__main__":
    run(main, "python -m benchmarks.training")
