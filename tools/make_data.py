"""Make data/train.json and data/valid.json from the tables of units, the same bytes at every run.

python -m tools.make_data                    # rewrites both; git then shows no change
python -m tools.make_data --out /tmp/data    # elsewhere
"""

import hashlib
import json
from pathlib import Path

from grader.units import draw_questions
from homework.common.cli import run

ROWS, SEED = 1000, 2026


def make_split(slice_name: str, folder: Path, count: int = ROWS) -> str:
    """Write one split, a row a line, and return the sha256 of the file."""
    questions = draw_questions(slice_name, count, SEED)
    rows = [json.dumps([question.text, float(f"{question.fact.answer:.12g}")]) for question in questions]
    content = ("[\n" + ",\n".join(rows) + "\n]\n").encode()
    (folder / f"{slice_name}.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def main(*, out: str = "data") -> None:
    """Write both splits and print their sha256.

    Args:
        out: folder to write to.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for slice_name in ("train", "valid"):
        print(f"{slice_name}.json  {ROWS} rows  sha256 {make_split(slice_name, folder)}")


if __name__ == "__main__":
    run(main, "python -m tools.make_data")
