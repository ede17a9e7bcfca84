"""A checkpoint of SmolLM2-360M's shape with random weights: speed does not depend on their values.

    SMOLLM2_TOKENIZER=folder python -m benchmarks.training --size full        # uses it

The tokenizer is the real one, from the folder that SMOLLM2_TOKENIZER names, because speed depends on its tokens.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from homework.common.base_model import BUNDLED
from homework.common.errors import HomeworkError

VARIABLE = "SMOLLM2_TOKENIZER"
SHAPE = {  # config.json of HuggingFaceTB/SmolLM2-360M-Instruct
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "head_dim": 64,
    "vocab_size": 49_152,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


@contextlib.contextmanager
def base_model(size: str) -> Iterator[str]:
    """The folder of the base model of a size: `bundled`, or `full`, which is made here and removed afterwards.

    Raises:
        HomeworkError: for another size, or without SmolLM2's tokenizer.
    """
    if size == "bundled":
        yield str(BUNDLED)
        return
    tokenizer = os.environ.get(VARIABLE)
    if size != "full" or not tokenizer:
        raise HomeworkError(f"--size is bundled or full, and full needs {VARIABLE}, the folder of SmolLM2's tokenizer")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
        yield str(Path(folder))
