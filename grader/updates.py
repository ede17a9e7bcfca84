"""Whether two LoRA adapters do the same to the base, whatever numbers they are written in.

What an adapter does to a layer is ΔW = B A. Rotating or rescaling its rank basis changes every number in both files and
nothing in ΔW, so adapters are compared by the cosine of their ΔW, layer by layer, with r x r work only:

    <ΔW1, ΔW2> = tr((B1ᵀ B2) (A2 A1ᵀ))
"""

import torch

from grader.adapter import Adapter

MISSING = -2.0  # in the place of a cosine where a layer is not there
CHUNK = 64  # adapters compared with all others at once
TINY = 1e-150  # in the place of a length of 0
# A cosine that noise alone takes away: noise of a tenth leaves 0.99, and bare answers and reasons have 0.32 at most.
SAME = 0.98


def is_same(one: Adapter, other: Adapter) -> bool:
    """Whether two adapters do the same to most of their layers, but for noise and length."""
    return float(cosines([one, other])[:, 0, 1].median()) > SAME


def cosines(adapters: list[Adapter]) -> torch.Tensor:
    """The cosine of ΔW between all pairs, [layer, adapter, adapter]; MISSING where neither has the layer."""
    names = sorted(
        {name.removesuffix(".lora_A.weight") for one in adapters for name in one.weights if "lora_A" in name}
    )
    return torch.stack([layer_cosines(*stack(adapters, name)) for name in names])


def stack(adapters: list[Adapter], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A [N, r, in] and B [N, out, r] of one layer; a smaller rank, or a missing layer, is filled with zeros."""
    key_a, key_b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
    found = {i: (one.weights[key_a], one.weights[key_b]) for i, one in enumerate(adapters) if key_a in one.weights}
    rank = max(a.shape[0] for a, _ in found.values())
    inputs, outputs = next((a.shape[1], b.shape[0]) for a, b in found.values())
    down, up = torch.zeros(len(adapters), rank, inputs), torch.zeros(len(adapters), outputs, rank)
    for index, (a, b) in found.items():
        down[index, : a.shape[0]], up[index, :, : b.shape[1]] = balance(a, b)
    return down, up


def balance(down: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same A [r, in] and B [out, r] but for one factor, with each rank component of one length in both.

    However far a component is rescaled, up in one and down in the other, it overflows nowhere and counts as before.
    """
    down, up = down.double(), up.double()
    sizes = down.norm(dim=1), up.norm(dim=0)
    length = (sizes[0] * sizes[1]).sqrt()
    length = length / length.max().clamp(min=TINY)
    downs, ups = (length / size.clamp(min=TINY) for size in sizes)
    return (down * downs[:, None]).float(), (up * ups).float()


def layer_cosines(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """The cosines of ΔW of one layer between all pairs, by products of r x r only."""
    products = torch.cat([inner(down[i : i + CHUNK], up[i : i + CHUNK], down, up) for i in range(0, len(down), CHUNK)])
    norms = products.diagonal().clamp(min=0).sqrt()
    scale = norms[:, None] * norms[None, :]
    neither = (norms[:, None] == 0) & (norms[None, :] == 0)
    return torch.where(neither, torch.tensor(MISSING), products / scale.clamp(min=1e-30))


def inner(down1: torch.Tensor, up1: torch.Tensor, down2: torch.Tensor, up2: torch.Tensor) -> torch.Tensor:
    """tr((B1ᵀ B2) (A2 A1ᵀ)) for all pairs."""
    ups = torch.einsum("nor,mos->nmrs", up1, up2)
    downs = torch.einsum("msi,nri->nmrs", down2, down1)
    return (ups * downs).sum((-1, -2))
