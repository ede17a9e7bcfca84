"""Bad and hostile adapters, each derived from the one good adapter of the test session."""

import json
import math
import struct
from collections.abc import Callable

import torch
from safetensors.torch import load, save

from grader.rubric import CONFIG, WEIGHTS

Files = dict[str, bytes]
Change = Callable[[Files], Files]


def with_config(**fields: object) -> Change:
    """The good adapter with other fields in its configuration."""

    def change(files: Files) -> Files:
        return {**files, CONFIG: json.dumps({**json.loads(files[CONFIG]), **fields}).encode()}

    return change


def with_weights(make: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """The good adapter with other tensors."""
    return lambda files: {**files, WEIGHTS: save(make(load(files[WEIGHTS])))}


def with_bytes(make: Callable[[bytes], bytes]) -> Change:
    """The good adapter with another file of weights."""
    return lambda files: {**files, WEIGHTS: make(files[WEIGHTS])}


def poison(value: float) -> Change:
    def make(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first = min(weights)
        weights[first] = weights[first].clone()
        weights[first][0, 0] = value
        return weights

    return with_weights(make)


def untrained(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor * ("lora_A" in name) for name, tensor in weights.items()}


def double_key(content: bytes) -> bytes:
    """A header that names a tensor twice; safetensors itself accepts that."""
    size = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + size].decode().rstrip()
    name, entry = next((k, v) for k, v in json.loads(header).items() if k != "__metadata__")
    longer = f"{header[:-1]},{json.dumps(name)}:{json.dumps(entry)}}}".encode()
    return struct.pack("<Q", len(longer)) + longer + content[8 + size :]


def odd_dtype(content: bytes) -> bytes:
    """A type that is a list: it can't even be looked up in a table."""
    size = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + size].replace(b'"dtype":"F32"', b'"dtype":["F32"]', 1)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def huge_header(content: bytes) -> bytes:
    return struct.pack("<Q", 1 << 40) + content[8:]


def other_base(content: bytes) -> bytes:
    """A base of the same name but other weights, by the header."""
    return save(load(content), metadata={"base_weights": "0" * 32})


PARTS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
# What stock peft and editors write otherwise, and nothing is wrong with.
FINE: dict[str, Change] = {
    "absolute base": with_config(base_model_name_or_path="/home/me/course/data/base_model"),
    "base with a slash": with_config(base_model_name_or_path="./data/base_model/"),
    "Windows base": with_config(base_model_name_or_path="C:\\course\\data\\base_model"),
    "base in another folder": with_config(base_model_name_or_path="../base_model"),
    "no task type": with_config(task_type=None),
    "gaussian first values": with_config(init_lora_weights="gaussian"),
    "targets by regular expression": with_config(target_modules=r".*_proj"),
    "layers by their full names": with_config(
        target_modules=[f"model.layers.{layer}.{part}" for layer in range(4) for part in PARTS]
    ),
    "an expression without an end": with_config(target_modules="(a+)+$"),  # nobody evaluates it
    "byte order mark": lambda files: {**files, CONFIG: b"\xef\xbb\xbf" + files[CONFIG]},
    "bfloat16": with_weights(lambda w: {name: tensor.bfloat16() for name, tensor in w.items()}),
    "the head excluded": with_config(exclude_modules=["lm_head"]),
    "each layer by its number": with_config(layers_to_transform=[0, 1, 2, 3, 4]),
    "settings of first values": with_config(init_lora_weights="eva", eva_config={"rho": 1.0}, loftq_config={"bits": 4}),
    "rslora": with_config(use_rslora=True),
    "README beside": lambda files: {**files, "sft_model/README.md": b"made by peft"},
}
# What is wrong, and the check and the words that have to say so.
BAD: dict[str, tuple[Change, str, str]] = {
    "untrained": (with_weights(untrained), "weights_valid", "the adapter is untrained: every lora_B is zero"),
    "NaN": (poison(math.nan), "weights_valid", "the adapter holds NaN or infinity"),
    "infinity": (poison(-math.inf), "weights_valid", "the adapter holds NaN or infinity"),
    "missing layer": (with_weights(lambda w: dict(sorted(w.items())[2:])), "weights_valid", "the adapter lacks"),
    "extra tensor": (
        with_weights(lambda w: {**w, "lm_head.weight": torch.ones(2, 2)}),
        "weights_valid",
        "holds the foreign",
    ),
    "no tensor": (with_weights(lambda w: {}), "weights_valid", "the adapter lacks"),
    "other shapes": (
        with_weights(lambda w: {n: t[:, :1].contiguous() for n, t in w.items()}),
        "weights_valid",
        "another shape",
    ),
    "integers": (with_weights(lambda w: {n: t.int() for n, t in w.items()}), "weights_valid", "another shape or type"),
    "pickle": (with_bytes(lambda content: b"\x80\x04cos\nsystem\n"), "weights_valid", "is no safetensors file"),
    "empty file": (with_bytes(lambda content: b""), "weights_valid", "is no safetensors file"),
    "cut": (with_bytes(lambda content: content[:-100]), "weights_valid", "bytes beside its tensors|damaged"),
    "trailing zip": (with_bytes(lambda content: content + b"PK\x03\x04"), "weights_valid", "bytes beside its tensors"),
    "double key": (with_bytes(double_key), "weights_valid", "is not JSON"),
    "odd dtype": (with_bytes(odd_dtype), "weights_valid", "another shape or type"),
    "huge header": (with_bytes(huge_header), "weights_valid", "is no safetensors file"),
    "other base by hash": (with_bytes(other_base), "weights_valid", "trained on other weights of the base model"),
    "bigger base": (
        with_config(base_model_name_or_path="HuggingFaceTB/SmolLM2-1.7B"),
        "configured",
        "another base model",
    ),
    "rank 4096": (with_config(r=4096), "configured", "the rank is out of range"),
    "rank 0": (with_config(r=0), "configured", "the rank is out of range"),
    "rank true": (with_config(r=True), "configured", "the rank is out of range"),
    "rank too low": (with_config(r=8), "weights_valid", "another shape"),
    "alpha 1e9": (with_config(lora_alpha=1e9), "configured", "alpha is out of range"),
    "alpha NaN": (with_config(lora_alpha=math.nan), "configured", "alpha is out of range"),
    "auto_mapping": (with_config(auto_mapping={"parent_library": "os"}), "configured", "sets 'auto_mapping'"),
    "modules_to_save": (with_config(modules_to_save=["lm_head"]), "configured", "sets 'modules_to_save'"),
    "layer_replication": (with_config(layer_replication=[[0, 4], [0, 4]]), "configured", "sets 'layer_replication'"),
    "megatron": (with_config(megatron_core="evil"), "configured", "sets 'megatron_core'"),
    "rank_pattern": (with_config(rank_pattern={".*": 64}), "configured", "sets 'rank_pattern'"),
    "alpha_pattern": (with_config(alpha_pattern={"q_proj": 1e9}), "configured", "sets 'alpha_pattern'"),
    "dora": (with_config(use_dora=True), "configured", "sets 'use_dora'"),
    "PiSSA": (with_config(init_lora_weights="pissa_niter_999"), "configured", "sets 'init_lora_weights'"),
    "dropout of 9": (with_config(lora_dropout=9), "configured", "lora_dropout is out of range"),
    "dropout a text": (with_config(lora_dropout="x"), "configured", "lora_dropout is out of range"),
    "unknown field": (with_config(trust_remote_code=True), "configured", "sets 'trust_remote_code'"),
    "foreign layer by regular expression": (
        lambda files: with_config(target_modules=".*")(
            with_weights(lambda w: {**w, "lm_head.lora_A.weight": torch.ones(2, 2)})(files)
        ),
        "weights_valid",
        "holds the foreign",
    ),
    "half a layer by regular expression": (
        lambda files: with_config(target_modules=".*")(with_weights(lambda w: dict(sorted(w.items())[1:]))(files)),
        "weights_valid",
        "the adapter lacks",
    ),
    "no target": (with_config(target_modules=""), "configured", "target_modules is no list"),
    "head": (with_config(target_modules=["lm_head"]), "configured", "target_modules is no list"),
    "no LoRA": (with_config(peft_type="PROMPT_TUNING"), "configured", "no LoRA of a language model"),
    "config no JSON": (lambda files: {**files, CONFIG: b"{"}, "configured", "is not JSON"),
    "config a list": (lambda files: {**files, CONFIG: b"[]"}, "configured", "is no JSON object"),
    "deep config": (lambda files: {**files, CONFIG: b"[" * 100_000}, "configured", "is not JSON"),
    "no weights": (
        lambda files: {n: c for n, c in files.items() if n != WEIGHTS},
        "adapter_present",
        "the submission lacks",
    ),
    "no config": (
        lambda files: {n: c for n, c in files.items() if n != CONFIG},
        "adapter_present",
        "the submission lacks",
    ),
}
