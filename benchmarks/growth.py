"""How cost grows: a class of 1, 30 and 500 submissions, and a training on 1,000, 4,000 and 16,000 rows.

    python -m benchmarks.growth                     # needs a trained homework/sft_model; writes benchmarks/growth.json
    python -m benchmarks.growth --with-code --students 1,30

Seconds, memory and disk of each. Without code and with few questions, a submission costs so little that what a class
costs beside its grading can be seen: the tables, the pages and the comparison of all pairs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import kill_class
from homework.common.base_model import ROOT
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import write_json
from tests.support import zips
from tools import make_data

RESULTS = Path(__file__).with_suffix(".json")
EVERY = 0.5  # seconds between two looks at the memory


class Cost(NamedTuple):
    """What a process and its children took: seconds, and bytes of memory at most, shared pages counted once."""

    seconds: float
    memory: int


def memory_of(pid: int) -> int:
    """The bytes of a process and those below it; a page that so many of them share counts as such a part in each."""
    total = 0
    for one in [pid, *kill_class.children(pid)]:
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended, or is confined
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def watch(process: subprocess.Popen) -> Cost:
    """The cost of a process, which is waited for.

    Raises:
        HomeworkError: if it fails.
    """
    started, most = time.perf_counter(), 0
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        time.sleep(EVERY)
    if process.returncode:
        raise HomeworkError(f"{process.args} failed with {process.returncode}: run it alone to read why")
    return Cost(time.perf_counter() - started, most)


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def grade_class(count: int, how: kill_class.Run, files: dict[str, bytes], work: Path) -> dict[str, float]:
    """What a class of so many submissions costs, and what the same command costs once all of them are graded."""
    folder, out = work / "class", work / "results"
    folder.mkdir()
    for index in range(count):
        zips.good(folder / f"{index}.zip", kill_class.variant(files, index))
    first, again = (watch(kill_class.start(folder, out, how, subprocess.DEVNULL)) for _ in range(2))
    return {"students": count, "seconds": first.seconds, "memory": first.memory, "disk": size_of(out),
            "seconds again": again.seconds, "memory again": again.memory}  # fmt: skip


def train(count: int, work: Path) -> dict[str, float]:
    """What the training on so many rows costs, from start to end, in a copy of the homework."""
    ignored = shutil.ignore_patterns("__pycache__", "*_model", "rft.json")
    shutil.copytree(ROOT / "homework", work / "homework", ignore=ignored)
    shutil.copytree(ROOT / "data", work / "data", ignore=shutil.ignore_patterns("rft.json"))
    make_data.make_split("train", work / "data", count)
    line = [sys.executable, "-m", "homework.sft", "train"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cost = watch(subprocess.Popen(line, cwd=work, env=environment, **quiet))
    disk = size_of(work / "runs") + size_of(work / "homework" / "sft_model")
    result = json.loads(next((work / "runs").rglob("result.json")).read_text(encoding="utf-8"))
    return {"rows": count, "seconds": cost.seconds, "memory": cost.memory, "disk": disk, "accuracy": result["accuracy"]}


def table(rows: list[dict[str, float]]) -> str:
    """Rows of the same fields as a table of Markdown, bytes as MB."""
    units = {"memory": 1e6, "memory again": 1e6, "disk": 1e6}
    names = [f"{name}, MB" if name in units else name for name in rows[0]]
    lines = [names, ["---"] * len(names)]
    for row in rows:
        lines.append([f"{value / units.get(name, 1):,.4g}" for name, value in row.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    *, students: str = "1,30,500", rows: str = "1000,4000,16000", with_code: bool = False, questions: int = 20,
    jobs: int = 2,
) -> None:  # fmt: skip
    """Measure both and print two tables.

    Args:
        students: how many submissions, separated by commas; none leaves the class out.
        rows: of the training, separated by commas; none leaves the training out.
        with_code: grade the code, too, not only the weights.
        questions: hidden questions for each submission; 600 is a real grading.
        jobs: grading processes.
    """
    found: dict[str, list[dict[str, float]]] = {"class": [], "training": []}
    counts = {"class": students, "training": rows}
    for part, counted in counts.items():
        for count in [int(one) for one in counted.split(",") if one and one != "none"]:
            with tempfile.TemporaryDirectory() as work:
                how = kill_class.Run(questions, with_code, jobs)
                files = kill_class.read_homework() if part == "class" else {}
                cost = grade_class(count, how, files, Path(work)) if part == "class" else train(count, Path(work))
            found[part].append(cost)
            print(f"{part}: {cost}", file=sys.stderr, flush=True)
    write_json(
        RESULTS,
        {"date": time.strftime("%Y-%m-%d"), "with code": with_code, "questions": questions, "jobs": jobs, **found},
    )
    print("\n\n".join(table(each) for each in found.values() if each))


if __name__ == "__main__":
    run(main, "python -m benchmarks.growth")
