"""A submitted adapter: two files of bytes, read without executing or trusting anything in them.

The configuration is read for five fields; every other field must be neutral, because peft would act on it (import a
module, double layers, bring whole matrices). The header of the weights is checked before any tensor is made.
"""

import json
import math
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load

from grader import rubric
from grader.errors import Refusal

PEFT_PREFIX = "base_model.model."  # of the names in an adapter's file, before those of the model
ADAPTER_NAME = "default"  # which peft puts into the names of the weights while they are in memory
TRAIN_AGAIN = "train again with python -m homework.sft train, and bundle again (README, Hand in)"
# What a student may choose, and what says only how the adapter was made.
CHOSEN = {"r", "lora_alpha", "target_modules", "use_rslora", "lora_dropout"}
SAID = {"base_model_name_or_path", "peft_type", "task_type", "inference_mode", "peft_version"}
# Of init_lora_weights, only with these the base model stays as it was: others begin from a changed one (PiSSA), which
# is not graded. auto_mapping is what peft writes where the LoraConfig has no task_type.
HARMLESS: dict[str, list[Any]] = {
    "init_lora_weights": [True, "gaussian", "orthogonal", "eva"],
    "auto_mapping": [
        {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
    ],
}
# Neither changes what the weights make: a choice of layers, which the names of the weights prove, and settings of the
# first values, of which init_lora_weights alone takes one.
LEAVES_OUT = {"exclude_modules", "layers_to_transform"}
READ_PAST = {*LEAVES_OUT, "layers_pattern"} | {"eva_config", "corda_config", "loftq_config", "lora_ga_config"}
DTYPES = {"F32": 4, "F16": 2, "BF16": 2}


class Config(NamedTuple):
    """The fields of adapter_config.json that count, validated; no targets where the names of the weights say them."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    use_rslora: bool


class Adapter(NamedTuple):
    """A validated adapter: its configuration, and float32 tensors by peft's names, finite and not all zero."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    use_rslora: bool
    weights: dict[str, torch.Tensor]


def read_json(content: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `content`; a repeated key is refused, because two readers may see two values."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands in it twice")
        return dict(pairs)

    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{what} is not JSON", actual=f"{error}"[:200], do=TRAIN_AGAIN) from error
    if not isinstance(found, dict):
        raise Refusal(f"{what} is no JSON object", actual=f"{found!r}"[:80], do=TRAIN_AGAIN)
    return found


def read_config(content: bytes) -> Config:
    """Validate adapter_config.json.

    Raises:
        Refusal: if it is no LoRA of this base model, out of range, or asks peft for anything else.
    """
    config = read_json(content, "adapter_config.json")
    for name, wanted in (("peft_type", ("LORA",)), ("task_type", ("CAUSAL_LM", None))):
        if config.get(name) not in wanted:
            raise Refusal("the adapter is no LoRA of a language model", expected=f"{name} {wanted[0]}",
                          actual=f"{config.get(name)!r}"[:80],
                          do=f"LoraConfig(task_type='CAUSAL_LM', …); {TRAIN_AGAIN}")  # fmt: skip
    # Stock peft writes the path as it was given: absolute, say, or relative to another folder, or with a slash at its
    # end. Where the header of the weights names the base by its fingerprint, that decides: see Course.
    name = str(config.get("base_model_name_or_path")).replace("\\", "/").rstrip("/")
    if name.rpartition("/")[2] != rubric.BASE.name:
        raise Refusal("the adapter was trained on another base model", expected=rubric.BASE_NAME,
                      actual=f"{config.get('base_model_name_or_path')!r}"[:80],
                      do="train again without --checkpoint and HOMEWORK_CHECKPOINT")  # fmt: skip
    refuse_extras(config)
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= rubric.MAX_RANK:
        raise Refusal("the rank is out of range", expected=f"1 to {rubric.MAX_RANK}", actual=f"{rank!r}"[:80],
                      do="train again with a --rank in this range")  # fmt: skip
    if type(alpha) not in (int, float) or not 0 < alpha <= rubric.MAX_ALPHA:
        raise Refusal("alpha is out of range", expected=f"0 to {rubric.MAX_ALPHA}", actual=f"{alpha!r}"[:80],
                      do="train again with an --alpha in this range")  # fmt: skip
    targets = read_targets(config.get("target_modules"))
    if any(config.get(name) not in (None, [], "") for name in LEAVES_OUT):
        targets = ()
    dropout = config.get("lora_dropout", 0.0)
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise Refusal("lora_dropout is out of range", expected="0 to 1", actual=f"{dropout!r}"[:80], do=TRAIN_AGAIN)
    if type(config.get("use_rslora", False)) is not bool:
        raise Refusal("use_rslora must be true or false", actual=f"{config['use_rslora']!r}"[:80], do=TRAIN_AGAIN)
    return Config(rank, float(alpha), targets, config.get("use_rslora", False))


def read_targets(targets: Any) -> tuple[str, ...]:
    """The names of the layers with LoRA; empty for a regular expression or for full names.

    Then the names of the weights decide: an expression is never evaluated, as it may take for ever, and full names,
    such as `model.layers.3.mlp.up_proj`, may leave some of the layers out.

    Raises:
        Refusal: for what is neither, or a list that names other layers.
    """
    if isinstance(targets, str) and targets:
        return ()
    names = [f"{target}" for target in targets] if isinstance(targets, list) else []
    if not names or not all(name.rpartition(".")[2] in rubric.TARGETS for name in names):
        raise Refusal("target_modules is no list of this model's linear layers", expected=", ".join(rubric.TARGETS),
                      actual=f"{targets!r}"[:120], do=f"name some of these, {TRAIN_AGAIN}")  # fmt: skip
    return () if any("." in name for name in names) else tuple(sorted(set(names)))


def refuse_extras(config: dict[str, Any]) -> None:
    """Refuse every field that is not neutral: null, empty, false, or the value that peft itself would put there."""
    defaults = LoraConfig().to_dict()
    for name in sorted(set(config) - CHOSEN - SAID - READ_PAST):
        neutral = [None, False, "", [], {}, *HARMLESS.get(name, [defaults.get(name)])]
        if config[name] not in neutral:
            raise Refusal(f"adapter_config.json sets {name[:60]!r}, which this homework does not use",
                          expected="null", actual=f"{config[name]!r}"[:80],
                          do="take it out of the LoraConfig, and then " + TRAIN_AGAIN)  # fmt: skip


def expected_shapes(config: Config, base_config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Name and shape of every tensor that the adapter must hold, from the base model's own configuration."""
    hidden, inner = base_config["hidden_size"], base_config["intermediate_size"]
    head = base_config["head_dim"]
    queries, keys = head * base_config["num_attention_heads"], head * base_config["num_key_value_heads"]
    sizes = {
        "q_proj": ("self_attn", hidden, queries), "k_proj": ("self_attn", hidden, keys),
        "v_proj": ("self_attn", hidden, keys), "o_proj": ("self_attn", queries, hidden),
        "gate_proj": ("mlp", hidden, inner), "up_proj": ("mlp", hidden, inner), "down_proj": ("mlp", inner, hidden),
    }  # fmt: skip
    shapes = {}
    for layer in range(base_config["num_hidden_layers"]):
        for target in config.targets:
            block, inputs, outputs = sizes[target]
            name = f"{PEFT_PREFIX}model.layers.{layer}.{block}.{target}"
            shapes[f"{name}.lora_A.weight"] = (config.rank, inputs)
            shapes[f"{name}.lora_B.weight"] = (outputs, config.rank)
    return shapes


def named_shapes(names: Iterable[str], config: Config, base_config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Name and shape of every tensor of the layers to which some of these names belong."""
    wanted = expected_shapes(config._replace(targets=rubric.TARGETS), base_config)
    layers = {name.partition(".lora_")[0] for name in names}
    return {name: shape for name, shape in wanted.items() if name.partition(".lora_")[0] in layers}


def read_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and its size in bytes.

    Raises:
        Refusal: if it is no safetensors file.
    """
    size = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= size <= min(rubric.HEADER_BYTES, len(content) - 8) or content[8:9] != b"{":
        raise Refusal("adapter_model.safetensors is no safetensors file", actual=f"it begins with {content[:16]!r}",
                      do=TRAIN_AGAIN)  # fmt: skip
    return read_json(content[8 : 8 + size], "the header of adapter_model.safetensors"), size


def check_header(content: bytes, config: Config, base_config: dict[str, Any]) -> None:
    """Check the header of a safetensors file against the expected shapes, before any tensor is made.

    Raises:
        Refusal: if it is no safetensors file, or holds other tensors than the adapter's.
    """
    header, size = read_header(content)
    header.pop("__metadata__", None)
    shapes = expected_shapes(config, base_config) if config.targets else named_shapes(header, config, base_config)
    missing, extra = sorted(set(shapes) - set(header)), sorted(set(header) - set(shapes))
    if missing or extra:
        word, names = ("lacks", missing) if missing else ("holds the foreign", extra)
        raise Refusal(f"the adapter {word} {names[0][:100]!r} ({len(names)} such)", expected=f"{len(shapes)} tensors",
                      actual=f"{len(header)} tensors", do=TRAIN_AGAIN)  # fmt: skip
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: str(item[1])):
        end += check_entry(name, entry, shapes[name])
    if end != len(content) - 8 - size:
        raise Refusal("adapter_model.safetensors has bytes beside its tensors", expected=f"{end} bytes of tensors",
                      actual=f"{len(content) - 8 - size}", do=TRAIN_AGAIN)  # fmt: skip


def check_entry(name: str, entry: Any, shape: tuple[int, int]) -> int:
    """The bytes of a tensor by its entry in the header, which must have the expected shape and a float type."""
    if not isinstance(entry, dict) or str(entry.get("dtype")) not in DTYPES or entry.get("shape") != list(shape):
        raise Refusal(f"the tensor {name} has another shape or type", expected=f"{list(shape)} of float",
                      actual=f"{entry!r}"[:120], do=TRAIN_AGAIN)  # fmt: skip
    return math.prod(shape) * DTYPES[str(entry["dtype"])]


def read_weights(
    content: bytes, config: Config, base_config: dict[str, Any], untrained: str = TRAIN_AGAIN
) -> Adapter:  # fmt: skip
    """The tensors of an adapter, checked by name, shape, type and value.

    Args:
        content: of the file.
        config: that lies beside it.
        base_config: of the base model.
        untrained: what to do where no `lora_B` has moved.

    Raises:
        Refusal: if anything is missing, foreign, misshapen, not finite, or untrained.
    """
    check_header(content, config, base_config)
    try:
        weights = {name: tensor.float() for name, tensor in load(content).items()}
    except SafetensorError as error:
        raise Refusal("adapter_model.safetensors is damaged", actual=f"{error}"[:200], do=TRAIN_AGAIN) from error
    for name, tensor in sorted(weights.items()):
        if not bool(torch.isfinite(tensor).all()):
            raise Refusal("the adapter holds NaN or infinity", actual=f"in {name}",
                          do="find the cause in the log (docs/training.md, What a log line means)")  # fmt: skip
    if not any(bool(tensor.any()) for name, tensor in weights.items() if ".lora_B." in name):
        raise Refusal("the adapter is untrained: every lora_B is zero", expected="weights that training has moved",
                      actual="the base model, unchanged", do=untrained)  # fmt: skip
    return Adapter(config.rank, config.alpha, targets_of(weights), config.use_rslora, weights)


def name_in_file(name: str) -> str:
    """A LoRA weight as files call it.  Example: 'x.lora_A.default.weight' -> 'base_model.model.x.lora_A.weight'"""
    return f"{PEFT_PREFIX}{name.replace(f'.{ADAPTER_NAME}', '')}"


def targets_of(names: Iterable[str]) -> tuple[str, ...]:
    """The layers that tensors belong to.  Example: ['….self_attn.q_proj.lora_A.weight', …] -> ('q_proj',)"""
    return tuple(sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in names}))
