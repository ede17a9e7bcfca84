"""How soon which recipe reaches which accuracy: the choice behind RECIPES in homework/training/recipe.py.

    python -m benchmarks.recipes --seeds 10      # six minutes on two free cores; writes benchmarks/recipes.json
    python -m benchmarks.recipes --table         # prints the table from that file

Accuracy on the 950 reported questions of valid; seconds are those of the training alone. What the file holds already is
not measured again, so the recipes of one table are of one machine.
"""

import itertools
import statistics
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.reference_run import reference_run
from homework.base_llm import score
from homework.common.cli import run
from homework.common.files import read_json, write_json
from homework.data import Dataset
from homework.training.evaluation import take_reported
from homework.training.recipe import RECIPES, Recipe

RESULTS = Path(__file__).with_suffix(".json")
BUNDLED = next(iter(RECIPES.values()))
# Half the work, in batches so small that there are as many steps or more; a higher rate where there are no more.
CANDIDATES = [
    replace(BUNDLED, epochs=epochs, batch_size=batch_size, learning_rate=rate)
    for epochs, batch_size, rate in ((1, 8, 2e-3), (1, 16, 2e-3), (1, 16, 3e-3), (2, 32, 2e-3))
]


def name_of(recipe: Recipe) -> str:
    return f"{recipe.epochs} epochs, batch {recipe.batch_size}, rate {recipe.learning_rate:g}"


def measure(recipe: Recipe, seed: int) -> dict[str, float]:
    """Seconds of the training and accuracy of one recipe with one seed."""
    with reference_run(seed) as prepared:
        setup = prepared._replace(recipe=recipe)
        started = time.perf_counter()
        setup.train(seed=seed)
        seconds = time.perf_counter() - started
        setup.llm.model = setup.model.eval()
        result, _ = score(setup.llm, take_reported(Dataset("valid"), None))
    return {"seconds": seconds, "accuracy": result.accuracy}


def format_table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The recipes as a Markdown table, the quickest first."""
    lines = ["| recipe | seconds, median | accuracy, mean | worst seed | seeds |", "|---|---|---|---|---|"]
    rows = []
    for name, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs.values())
        accuracies = [run["accuracy"] for run in runs.values()]
        mean, worst = statistics.mean(accuracies), min(accuracies)
        rows.append((seconds, f"| {name} | {seconds:.1f} | {mean:.3f} | {worst:.3f} | {len(runs)} |"))
    return "\n".join([*lines, *(row for _, row in sorted(rows))])


def main(*, table: bool = False, seeds: int = 10) -> None:
    """Measure every candidate that is not measured yet, then print the table.

    Args:
        table: only print the table.
        seeds: trainings of each recipe.
    """
    results = read_json(RESULTS) or {}
    for seed, recipe in itertools.product(range(0 if table else seeds), CANDIDATES):
        runs = results.setdefault(name_of(recipe), {})
        if str(seed) not in runs:
            runs[str(seed)] = measure(recipe, seed)
            write_json(RESULTS, results)
            print(f"seed {seed}, {name_of(recipe)}: {runs[str(seed)]}", flush=True)
    print(format_table(results))


if __name__ == "__main__":
    run(main, "python -m benchmarks.recipes")
