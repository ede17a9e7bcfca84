"""What the watchdog costs: the same training with and without it, in turn, in one process.

    python -m benchmarks.guard_cost           # three minutes on two cores; writes benchmarks/guard_cost.json

Timings of one machine drift, so both kinds run in turn, in changing order, and the ratio is taken within each pair.
"""

import contextlib
import random
import statistics
import time
from pathlib import Path

from benchmarks.reference_run import reference_run
from homework.common.cli import run
from homework.common.files import write_json

RESULTS = Path(__file__).with_suffix(".json")
KINDS = {"with": True, "without": False}  # whether the watchdog is on


def measure(kind: str, steps: int) -> float:
    """The seconds of so many steps; what is checked before the first of them is not among them."""
    with reference_run(seed=0) as setup:
        trainer = setup.make_trainer(max_steps=steps, watch=KINDS[kind])
        with contextlib.closing(trainer.run):
            started = time.perf_counter()
            trainer.train()
            return time.perf_counter() - started


def main(*, pairs: int = 9, steps: int = 100) -> None:
    """Measure pairs of runs and print the ratio.

    Args:
        pairs: how many runs of each kind.
        steps: optimizer steps of a run.
    """
    measure("with", steps)  # warms up caches and threads
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for pair in range(pairs):
        for kind in random.Random(pair).sample(sorted(KINDS), 2):
            seconds[kind].append(measure(kind, steps))
        print(f"pair {pair}: with {seconds['with'][-1]:.2f} s, without {seconds['without'][-1]:.2f} s", flush=True)
    ratios = sorted(guarded / plain for guarded, plain in zip(*seconds.values(), strict=True))
    cost = statistics.median(ratios) - 1
    write_json(RESULTS, {"steps": steps, "seconds": seconds, "median_cost": cost})
    print(f"the watchdog costs {cost:+.1%} (median of {pairs} pairs; {ratios[0] - 1:+.1%} to {ratios[-1] - 1:+.1%})")


if __name__ == "__main__":
    run(main, "python -m benchmarks.guard_cost")
