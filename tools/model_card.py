"""The model card of the bundled base model, written by ``python -m tools.pretrain`` beside the weights."""

import hashlib
import json
from pathlib import Path

STRETCHES = "pretraining.json"  # beside the weights: one entry a stretch of pre-training, oldest first
MEASURES = "measured.json"  # beside the weights: what python -m tools.measure_base found

# What the base model is for, written before it was trained; python -m tools.measure_base measures each line.
GATE = {
    "raw question": "0.01 or less",
    "valid": "0.96",
    "hidden": "valid ± 0.02",
    "novel": "0.93",
    "values 1 to 999": "0.95",
    "values 1,000 to 999,999": "0.90",
    "values 0.001 to 0.999": "0.90",
    "five and six digits": "reported",
    "wording of others": "0.92",
    "example 1: chain and tag": "0.97",
    "example 1: right": "0.92",
    "example 1: right within 1 %": "reported",
    "example 2: chain and tag": "0.97",
    "example 2: right": "0.92",
    "example 2: right within 1 %": "reported",
    "direct example: right": "reported",
    "ten samples, one within 1 %": "0.95",
}

CARD = """---
license: mit
language: en
library_name: transformers
---
# The bundled base model

A Llama of 2.82 million parameters, pre-trained from scratch for this course: it knows units in prose, computes by a
chain of equations, follows the format of an example, and has never seen an `<answer>` tag. It stands in for
SmolLM2-360M-Instruct where there is no download and no GPU, with the same traps: byte-level BPE, digits one by one,
`Ġ<` one token, pad = eos = `<|im_end|>`.

| recipe | value |
|---|---|
| text | `tools/pretrain_text.py`: sheets, chains, repeats, prose, arithmetic, tags, statements, markup; no `novel` fact |
| rows | 256 tokens, each row beginning with a document |
| optimizer | Muon on the layers' matrices, AdamW (0.9, 0.98) on the rest, clip 1.0; linear to zero over the last 60 % |
| precision | weights in float32; matrix products in bfloat16 where the processor has them |
| sha256 of model.safetensors | `{digest}` |

{table}

Losses are nats a token on 32,768 tokens that no step draws. Each stretch begins with a fresh optimizer, the second and
later ones with `--start` on the weights before them. `text` begins the sha256 of `tools/pretrain_text.py` as it was:
the history of the repository holds each. Another machine or thread count gives other last bits.

## The gate

Written before the training, measured after it by `python -m tools.measure_base`. Accuracy within 5 % where nothing else
is said; from `valid` to `wording of others` after fine-tuning on bare answers with the default recipe, the mean of two
seeds; the examples are one worked question in chat form, greedy and without any tuning.

{gate}

Limits: it knows the units of `grader/units.py` and little else, reads at most 256 tokens, writes three or four
significant digits, and is wrong now and then. Do not use it for anything but this homework.
"""
COLUMNS = "steps rows peak_muon peak_adamw seed tokens seconds text held_out_before held_out_after versions".split()


def write_table(rows: list[list[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body])


def write_model_card(folder: Path) -> None:
    """Write `folder`/README.md from the weights, the list of stretches and, where there are some, the measures."""
    stretches = json.loads((folder / STRETCHES).read_text(encoding="utf-8"))
    measures = folder / MEASURES
    measured = json.loads(measures.read_text(encoding="utf-8")) if measures.exists() else {}
    rows = [[f"{entry[name]:,}" if name == "tokens" else str(entry[name]) for name in COLUMNS] for entry in stretches]
    gate = [[name, bound, f"{measured[name]:.3f}" if name in measured else "not yet"] for name, bound in GATE.items()]
    text = CARD.format(
        table=write_table([COLUMNS, *rows]),
        gate=write_table([["line", "gate", "measured"], *gate]),
        digest=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
