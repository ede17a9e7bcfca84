"""The model card of the bundled base model, written by ``python -m tools.pretrain`` beside the weights."""

import hashlib
import platform
from pathlib import Path

import torch
import transformers

CARD = """---
license: mit
language: en
library_name: transformers
---
# The bundled base model

A Llama of 1.82 million parameters, pre-trained from scratch for this course: it knows units in prose and has never
seen an `<answer>` tag. It stands in for SmolLM2-360M-Instruct where there is no download and no GPU, with the same
traps: byte-level BPE, digits one by one, `Ġ<` one token, pad = eos = `<|im_end|>`.

| recipe | value |
|---|---|
| text | `tools/pretrain_text.py`: statements, prose answers, markup, chains, arithmetic; no `novel` fact |
| tokens read | {tokens:,} in {steps:,} steps of {rows} rows of 128, each row beginning with a document |
| optimizer | Muon on the layers' matrices (peak {peak_muon}), AdamW (0.9, 0.98) on the rest (peak {peak_adamw}), clip 1.0; linear to zero over the last 60 % |
| seed | {seed} |
| precision | float32 |
| held-out loss | {loss:.4f} nats a token on 16,384 tokens that no step draws |
| made with | Python {python}, torch {torch}, transformers {transformers} |
| sha256 of model.safetensors | `{digest}` |

Made by `python -m tools.pretrain --out runs/pretrain --steps {steps} --rows {rows} --peak-muon {peak_muon} --peak-adamw {peak_adamw} --seed {seed}`;
another machine or thread count gives other last bits.

Limits: it knows the units of `grader/world.py` and little else, reads at most 128 tokens, writes three significant
digits, and is wrong now and then, most often on long decimals. Do not use it for anything but this homework.
"""


def write_model_card(folder: Path, recipe: dict, loss: float) -> None:
    """Write `folder`/README.md for the weights that lie there."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (folder / "README.md").write_text(CARD.format(**recipe, **versions, loss=loss, digest=digest))
