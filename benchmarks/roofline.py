"""What the machine could do at best: its measured matrix rate, and the operations that this training cannot do without.

    python -m benchmarks.roofline data/base_model roof.json        # benchmarks/training.py runs it

Counted are the passes of each real token alone, without padding and without computing anything twice; logits only
where there is a label. So the share of the roofline is of the work that had to be done, not of what was done.
"""

import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from homework.base_llm import BaseLLM
from homework.common.cli import run
from homework.common.files import write_json
from homework.data import Dataset
from homework.sft import Collator, TokenizedDataset, add_lora, format_example
from homework.training.batches import select_supervised
from homework.training.recipe import choose_recipe

ROWS = 16
REPEATS = 10


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of several products of square matrices of random numbers."""
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(REPEATS):
        synchronize(device)
        started = time.perf_counter()
        left @ right
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def synchronize(device: str) -> None:
    """Wait until the device has done what it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def operations_per_token(llm: BaseLLM) -> float:
    """Floating-point operations of forward and backward pass, a real token, counted over a few whole rows."""
    recipe = choose_recipe(llm.name, {})
    model = add_lora(llm.model, recipe, 0)
    model.set_attn_implementation("eager")  # the counter does not know grouped heads
    data = Dataset("train")
    rows = TokenizedDataset(llm.tokenizer, [data[index] for index in range(ROWS)], format_example)
    collate = Collator(llm.pad_id)
    with FlopCounterMode(display=False) as counter:
        for row in rows.rows:
            batch = {name: tensor.to(llm.device) for name, tensor in select_supervised(collate([row])).items()}
            model(**batch).loss.backward()
    return counter.get_total_flops() / sum(len(row["input_ids"]) for row in rows.rows)


def main(base: str, out: str) -> None:
    """Measure and count, and write both.

    Args:
        base: folder of the base model.
        out: file of the result.
    """
    llm = BaseLLM(base)
    rate = matrix_rate(llm.device, llm.model.dtype)
    result = {"operations_per_second": rate, "operations_per_token": operations_per_token(llm)}
    write_json(Path(out), result)
    print(f"{rate / 1e12:.3f} TFLOP/s measured, {result['operations_per_token'] / 1e9:.3f} GFLOP a token counted")


if __name__ == "__main__":
    run(main, "python -m benchmarks.roofline")
