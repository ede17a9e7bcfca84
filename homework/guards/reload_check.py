"""The reload check: the adapter on disk, and what load() gives, must give the trained model's logits for a few rows.

The trained model's logits are kept, so that the model itself can go: a laptop holds one base model at a time.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file
from homework.common.runtime import trim_heap
from homework.common.zip_contents import WEIGHTS


class ReferenceLogits(NamedTuple):
    """A few rows (B, T), the trained model's logits (B, T, V) for them, and those of its base alone."""

    inputs: dict[str, Tensor]
    logits: Tensor
    base_logits: Tensor


@torch.inference_mode()
def capture_logits(model: PeftModel, probe: dict[str, Tensor]) -> ReferenceLogits:
    """The trained model's logits for `probe`, a batch with `input_ids` and `attention_mask` (B, T)."""
    inputs = {name: probe[name].to(model.device) for name in ("input_ids", "attention_mask")}
    logits = model.eval()(**inputs).logits.float()
    with model.disable_adapter():
        return ReferenceLogits(inputs, logits, model(**inputs).logits.float())


def free_weights(model: nn.Module) -> None:
    """Free the memory of a model's weights, whoever still holds the model."""
    model.to("meta")
    trim_heap()


@torch.inference_mode()
def check_same_logits(trained: ReferenceLogits, other: nn.Module, name: str) -> None:
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


def check_load(trained: ReferenceLogits, loaded: nn.Module, folder: Path, saved: str) -> None:
    """Raise HomeworkError unless load() gives the trained model and leaves the weights in `folder` alone."""
    if fingerprint_file(folder / WEIGHTS) != saved:
        raise HomeworkError(
            f"load() has changed the adapter in {folder}: it must only read, never make one up; fix it and train again"
        )
    check_same_logits(trained, loaded, "load()")
