"""What the isolation of a submission's code costs: the whole grading of one zip, with and without it, in turns.

    python -m benchmarks.isolation_cost 123456.zip        # about three minutes; writes benchmarks/isolation_cost.json

Each grading is a new process, as a student starts it. Times on a busy machine mean little: compare within one run.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from grader.sandbox.tiers import Tier, why_not
from homework.checkpoint import ROOT
from homework.runs import write_json

ROUNDS = 3


def measure(path: Path, tier: Tier) -> float:
    """Seconds of one grading.

    Raises:
        SystemExit: if it did not end well: a failed grading costs nothing.
    """
    started = time.perf_counter()
    line = [sys.executable, "-m", "grader", str(path), "--sandbox", str(tier)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"grading in {tier} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return time.perf_counter() - started


def main() -> None:
    """Grade in turns, print and write medians and ratios."""
    path = Path(sys.argv[1]).resolve()
    tiers = [tier for tier in Tier if not why_not(tier)]
    seconds: dict[str, list[float]] = {str(tier): [] for tier in tiers}
    for _ in range(ROUNDS):
        for tier in tiers:
            seconds[str(tier)].append(measure(path, tier))
    medians = {tier: statistics.median(values) for tier, values in seconds.items()}
    cost = {tier: statistics.median(b / a - 1 for a, b in zip(seconds["none"], values, strict=True))
            for tier, values in seconds.items() if tier != "none"}  # fmt: skip
    for tier, median in medians.items():
        print(f"{tier:<12} {median:6.1f} s {f'{cost[tier]:+.1%}' if tier in cost else ''}")
    write_json(ROOT / "benchmarks" / "isolation_cost.json", {"seconds": seconds, "median_cost": cost})


if __name__ == "__main__":
    main()
