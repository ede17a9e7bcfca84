"""How alike are honest adapters, and how alike are copies: the bounds of grader/classroom/similarity.py rest on it.

python -m benchmarks.likeness             # fifty trainings of the recipe (12 minutes); writes benchmarks/likeness.json
python -m benchmarks.likeness --steps 32  # shorter ones

Each training is kept in runs/likeness/, so that the same line goes on after a stop.
"""

import json
import statistics
from itertools import combinations
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks import copies
from benchmarks.reference_run import reference_run
from grader import rubric
from grader.adapter import Adapter
from grader.classroom.similarity import ALIKE, OVERALL, SHARE
from grader.updates import cosines
from homework.common.base_model import ROOT
from homework.common.cli import run
from homework.common.files import write_json

FOLDER = ROOT / "runs" / "likeness"
RESULT = Path(__file__).with_suffix(".json")


def train(seed: int, steps: int) -> dict[str, torch.Tensor]:
    """The weights of a reference training of so many steps with one seed, made once."""
    from peft import get_peft_model_state_dict

    path = FOLDER / f"{seed}-{steps}.safetensors"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with reference_run(seed) as setup:
            setup.train(max_steps=steps, seed=seed, watch=False)
            weights = get_peft_model_state_dict(setup.model)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return load_file(path)


def as_adapter(weights: dict[str, torch.Tensor]) -> Adapter:
    """Weights as the comparison sees them."""
    return Adapter(16, 64.0, rubric.TARGETS, False, weights)


def is_flagged(layers: torch.Tensor) -> bool:
    """As the class run decides, from the cosines of the layers of one pair."""
    return float((layers >= ALIKE).sum()) >= max(1.0, SHARE * len(layers)) or float(layers.mean()) >= OVERALL


def main(*, seeds: int = 50, steps: int = 128) -> None:
    """Train, compare all pairs and the copies, and write the figures.

    Args:
        seeds: honest trainings.
        steps: of each; 128 are the whole recipe.
    """
    honest = []
    for seed in range(seeds):
        honest.append(train(seed, steps))
        print(f"seed {seed}", flush=True)
    layers = cosines([as_adapter(weights) for weights in honest])
    pairs = list(combinations(range(seeds), 2))
    means = [float(layers[:, i, j].mean()) for i, j in pairs]
    result = {
        "honest": seeds,
        "steps": steps,
        "pairs": len(pairs),
        "mean": statistics.fmean(means),
        "highest_mean": max(means),
        "highest_layer": max(float(layers[:, i, j].max()) for i, j in pairs),
        "flagged": sum(is_flagged(layers[:, i, j]) for i, j in pairs),
        "copies": {name: describe(honest[0], copy) for name, copy in disguises(honest).items()},
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


def disguises(honest: list[dict[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    """Copies of the first adapter."""
    first, second = honest[:2]
    return {
        "rotated and rescaled": copies.rotate(first),
        "1 % noise": copies.add_noise(first, 0.01),
        "10 % noise": copies.add_noise(first, 0.1),
        "rotated, then 1 % noise": copies.add_noise(copies.rotate(first, spread=0), 0.01),
        "rotated and rescaled, then 1 % noise": copies.add_noise(copies.rotate(first), 0.01),
        "signs flipped": copies.flip(first),
        "every second layer": copies.half(first, second),
    }


def describe(first: dict[str, torch.Tensor], copy: dict[str, torch.Tensor]) -> dict[str, float]:
    """The cosine of the raw numbers, that of ΔW, and whether it is flagged."""
    raw = [torch.cat([weights[name].flatten() for name in sorted(first)]) for weights in (first, copy)]
    layers = cosines([as_adapter(first), as_adapter(copy)])[:, 0, 1]
    cosine = float(torch.nn.functional.cosine_similarity(*raw, dim=0))
    return {"raw": cosine, "update": float(layers.mean()), "flagged": is_flagged(layers)}


if __name__ == "__main__":
    run(main, "python -m benchmarks.likeness")
