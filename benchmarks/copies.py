"""Copies of an adapter in disguise: other numbers in the files, the same effect on the base model."""

import torch

Weights = dict[str, torch.Tensor]


def layers(weights: Weights) -> list[str]:
    """The names of the layers, without their end."""
    return sorted(name.removesuffix(".lora_A.weight") for name in weights if "lora_A" in name)


def change_basis(weights: Weights, make: torch.Tensor, undo: torch.Tensor) -> Weights:
    """A -> M A and B -> B M^-1 in every layer."""
    changed = {}
    for name in layers(weights):
        changed[f"{name}.lora_A.weight"] = (make @ weights[f"{name}.lora_A.weight"]).contiguous()
        changed[f"{name}.lora_B.weight"] = (weights[f"{name}.lora_B.weight"] @ undo).contiguous()
    return changed


def rotate(weights: Weights, spread: float = 2.0, seed: int = 0) -> Weights:
    """Another rank basis: a random rotation, then a rescaling of each axis by e to a random power of this spread."""
    rank = next(tensor.shape[0] for name, tensor in weights.items() if "lora_A" in name)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(rank, rank, generator=generator))[0]
    scale = torch.exp(spread * torch.randn(rank, generator=generator))
    return change_basis(weights, torch.diag(scale) @ rotation, rotation.T @ torch.diag(1 / scale))


def add_noise(weights: Weights, share: float = 0.01, seed: int = 0) -> Weights:
    """Noise of a share of each matrix's spread."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + share * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in weights.items()
    }


def flip(weights: Weights) -> Weights:
    """Both matrices negated: the raw numbers point the other way."""
    return {name: -tensor for name, tensor in weights.items()}


def half(weights: Weights, other: Weights) -> Weights:
    """Every second layer from another adapter."""
    taken = set(layers(weights)[::2])
    return {name: (weights if name.rsplit(".", 2)[0] in taken else other)[name] for name in weights}
