"""Looks for right submissions that lose points, and for wrong ones that keep them.

python -m tools.fuzz --cases 40                        # two minutes on one core
python -m tools.fuzz --out fuzz.json                   # forty of each mutator; the same line goes on after Ctrl-C
python -m tools.fuzz --cases 50 --only mask_shifted    # one mutator alone; case 7 is the same in each run of a seed
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grader.sandbox.host import Sandbox
from homework.common.base_model import ROOT
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import write_json
from homework.sft import ADAPTER_FOLDER, train_model
from homework.training.run_dir import RUNS
from tests.submissions.recipe import Files
from tools.fuzz import MUTATORS
from tools.fuzz.judging import ACCUSED, FAULT, MISSED, Judge

WHOLE = 10  # one in so many cases is graded with all checks
Record = dict[str, dict[str, Any]]


def read_reference(adapter: Path) -> Files:
    """The Python files of homework/ and an adapter, as they are handed in."""
    code = {path.relative_to(ROOT / "homework").as_posix(): path for path in sorted((ROOT / "homework").rglob("*.py"))}
    trained = {f"sft_model/{path.name}": path for path in adapter.iterdir() if path.name.startswith("adapter_")}
    return {name: path.read_bytes() for name, path in {**code, **trained}.items()}


def find_adapter() -> Path:
    """The trained adapter of homework/; where there is none, one that is trained for this once."""
    trained = RUNS / "fuzz" / "sft_model"
    for folder in (ADAPTER_FOLDER, trained):
        if (folder / "adapter_model.safetensors").is_file():
            return folder
    print("no adapter in homework/sft_model: one is trained first", file=sys.stderr)
    trained.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        train_model(output_dir=str(trained), questions=1)
    return trained


def name_cases(count: int, only: str | None) -> list[str]:
    """The names of the cases, MUTATOR:NUMBER, each mutator in its turn.

    Raises:
        HomeworkError: for a mutator that there is not, or no case.
    """
    if only is not None and only not in MUTATORS:
        raise HomeworkError(f"there is no mutator {only!r}: choose among {', '.join(MUTATORS)}")
    if count < 1:
        raise HomeworkError(f"--cases must be at least 1, got {count}")
    names = [only] if only else [*MUTATORS]
    return [f"{names[at % len(names)]}:{at // len(names)}" for at in range(count)]


def read_record(path: Path | None, seed: int) -> tuple[dict[str, float], Record]:
    """The points of the reference, and what an earlier run found right.

    What it found wrong is graded again, in case that it was mended.

    Raises:
        HomeworkError: if the file is of another seed, or none of ours.
    """
    if path is None or not path.exists():
        return {}, {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: entry for name, entry in content["cases"].items() if not entry["found"]}
        dict(content["full"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HomeworkError(f"{path} holds something else than cases: choose another --out") from error
    if content["seed"] != seed:
        raise HomeworkError(f"{path} is of seed {content['seed']}: choose another --out, or that seed")
    return content["full"], kept


def table(record: Record) -> Iterator[str]:
    """A line a mutator: its cases, how many of them are right submissions, and what was found."""
    yield f"{'mutator':<18}{'cases':>6}{'right':>7}{'missed':>8}{'accused':>9}{'faults':>8}{'seconds':>9}"
    for mutator in [*MUTATORS, "all"]:
        entries = [entry for name, entry in record.items() if mutator in ("all", name.partition(":")[0])]
        if not entries:
            continue
        kinds = [{finding["kind"] for finding in entry["found"]} for entry in entries]
        counts = [sum(kind in found for found in kinds) for kind in (MISSED, ACCUSED, FAULT)]
        right = sum(not entry["failing"] and not entry["perhaps"] for entry in entries)
        seconds = sum(entry["seconds"] for entry in entries) / len(entries)
        yield f"{mutator:<18}{len(entries):>6}{right:>7}{counts[0]:>8}{counts[1]:>9}{counts[2]:>8}{seconds:>9.1f}"


def show(name: str, entry: dict[str, Any]) -> str:
    """What was found in a case, in one line a finding."""
    return "\n".join(
        f"{name} {f['kind']}: {f['check']} {f['said']!r:.150} | {entry['words']!s:.300}" for f in entry["found"]
    )


def main(*, cases: int = 40 * len(MUTATORS), seed: int = 0, only: str | None = None, out: str | None = None) -> None:
    """Make right and wrong submissions at random, grade them, and list the verdicts that are not those of their making.

    Exits with 1 if there is any: a false accusation, where a check fails that nothing in the submission is wrong for; a
    missed fault, where a check passes that has to name it; or a fault of the grader. The zips of these lie beside the
    file of --out, and are graded alone by python -m grader ZIP.

    Args:
        cases: how many.
        seed: of all that is random; the same one makes the same cases.
        only: name of a mutator, to make cases of this one alone.
        out: JSON of all cases; a run that finds it goes on, and grades again what it found wrong.
    """
    names, path = name_cases(cases, only), Path(out) if out else None
    full, record = read_record(path, seed)
    left = [name for name in names if name not in record]
    with contextlib.suppress(KeyboardInterrupt):
        try_cases(left, seed, path, full, record)
    asked = {name: record[name] for name in names if name in record}
    print("\n".join(table(asked)))
    if len(asked) < len(names):
        print(f"stopped after {len(asked)} of {len(names)} cases", file=sys.stderr)
    if any(entry["found"] for entry in asked.values()):
        sys.exit(1)


def try_cases(names: list[str], seed: int, path: Path | None, full: dict[str, float], record: Record) -> None:
    """Grade the cases of these names into the record, and into the file after each of them."""
    if not names:
        return
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = path.with_suffix("") if path else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        sandbox = stack.enter_context(Sandbox.open("auto"))
        judge = Judge(read_reference(find_adapter()), folder, sandbox, seed, full)
        for at, name in enumerate(names, 1):
            record[name] = judge.try_case(name, whole=at % WHOLE == 0)
            if path:
                write_json(path, {"seed": seed, "full": judge.full, "cases": record})
            if record[name]["found"]:
                print(show(name, record[name]), flush=True)
            said = f"{at} of {len(names)}, {name}, {time.monotonic() - started:.0f} s"
            print(said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main, "python -m tools.fuzz")
