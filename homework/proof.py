"""Proof that the adapter on disk, and what load() gives, are the trained model: both must say the same to a few rows.

    python -m homework.sft train          # proves it before the adapter takes its place, and once more by load()

What the trained model says is remembered, so that the model itself can go: a laptop holds one base at a time.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from homework.archive import WEIGHTS
from homework.errors import HomeworkError
from homework.memory import trim
from homework.runs import fingerprint_file


class Trained(NamedTuple):
    """A few rows (B, T), the trained model's logits (B, T, V) for them, and those of its base alone."""

    inputs: dict[str, Tensor]
    logits: Tensor
    base_logits: Tensor


@torch.inference_mode()
def remember(model: PeftModel, probe: dict[str, Tensor]) -> Trained:
    """What the trained model says to `probe`, a batch with `input_ids` and `attention_mask` (B, T)."""
    inputs = {name: probe[name].to(model.device) for name in ("input_ids", "attention_mask")}
    logits = model.eval()(**inputs).logits.float()
    with model.disable_adapter():
        return Trained(inputs, logits, model(**inputs).logits.float())


def give_up(model: nn.Module) -> None:
    """Free the memory of a model's weights, whoever still holds the model."""
    model.to("meta")
    trim()


@torch.inference_mode()
def prove_same(trained: Trained, other: nn.Module, name: str) -> None:
    """Raise HomeworkError unless the model `name` gives the logits of the trained one, but for rounding."""
    theirs = other.eval()(**trained.inputs).logits.float()
    gap, scale = (trained.logits - theirs).abs().max().item(), trained.logits.abs().max().item()
    if not gap <= 1e-4 * scale:  # written so that NaN fails
        if torch.allclose(trained.base_logits, theirs, rtol=1e-4):
            name = f"{name} is the base model, without the adapter: it"
        raise HomeworkError(
            f"{name} gives other logits than the trained model (off by {gap:.3g} of {scale:.3g}): train, save and "
            "load one and the same model, and nothing but its adapter"
        )


def prove_load(trained: Trained, loaded: nn.Module, folder: Path, saved: str) -> None:
    """Raise HomeworkError unless load() gives the trained model and leaves the weights in `folder` alone."""
    if fingerprint_file(folder / WEIGHTS) != saved:
        raise HomeworkError(
            f"load() has changed the adapter in {folder}: it must only read, never make one up; mend it and train again"
        )
    prove_same(trained, loaded, "load()")
