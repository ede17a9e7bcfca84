"""The adapter's two files: written whole or not at all, and loaded only if they are the trained adapter of this base.

python -m homework.sft load           # loads it as a grader would
"""

import errno
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from homework.errors import HomeworkError, one_line

ADAPTER_FILES = CONFIG, WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")
SCRATCH = ".adapter-"  # a half-written adapter, left behind only if the process was killed


def prepare_output(output_dir: str | Path) -> Path:
    """The adapter's folder, proved writable before any training.

    Raises:
        HomeworkError: if it can't be made or written.
    """
    folder = Path(output_dir).expanduser().resolve()
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file", str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        foreign = [path.name for path in folder.iterdir() if path.name not in ADAPTER_FILES]
        if any(not name.startswith(SCRATCH) for name in foreign):
            raise FileExistsError(errno.EEXIST, f"it holds {foreign[0]}, which is no part of an adapter", str(folder))
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise HomeworkError(f"can't write to {folder} ({error.strerror}): choose another --output-dir") from error


def save_adapter(model: PeftModel, folder: Path, fresh_base: Callable[[], PreTrainedModel], probe: dict) -> None:
    """Write the two files of a PEFT adapter, prove them by reloading, and only then put them into `folder`.

    The former adapter stays until then.

    Args:
        model: the trained model.
        folder: where the adapter belongs.
        fresh_base: loads the base model anew.
        probe: a batch with `input_ids` and `attention_mask` (B, T), on which both models must agree.

    Raises:
        HomeworkError: if the disk is full, the folder can't be written, or the files do not give the same model.
    """
    try:
        # Inside the folder, which may be a mount of its own: a file can't be renamed across file systems.
        with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
            # "auto" would look for the base model's config, on the hub if it is not below the working folder.
            model.save_pretrained(scratch, save_embedding_layers=False)
            prove_reload(model, attach_adapter(fresh_base(), Path(scratch)), probe)
            # safetensors writes for the owner alone; a grader may be somebody else.
            Path(scratch, WEIGHTS).chmod(Path(scratch, CONFIG).stat().st_mode)
            for name in ADAPTER_FILES:
                Path(scratch, name).replace(folder / name)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HomeworkError(f"can't write the adapter to {folder} ({reason}): free space, then train again") from error


@torch.inference_mode()
def prove_reload(trained: PeftModel, reloaded: PeftModel, probe: dict) -> None:
    """Raise HomeworkError unless both models give the same logits (B, T, V), but for rounding."""
    inputs = {name: probe[name].to(trained.device) for name in ("input_ids", "attention_mask")}
    ours, theirs = (model.eval()(**inputs).logits.float() for model in (trained, reloaded))
    gap, scale = (ours - theirs).abs().max().item(), ours.abs().max().item()
    if not gap <= 1e-4 * scale:  # written so that NaN fails
        raise HomeworkError(
            f"the adapter on disk gives other logits than the model in memory (off by {gap:.3g} of {scale:.3g}): "
            "something outside the adapter was trained; nothing was saved"
        )


def read_adapter_config(folder: Path) -> dict:
    """The adapter's configuration.

    Raises:
        HomeworkError: if one of the two files is missing, or the configuration is not JSON.
    """
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise HomeworkError(
                f"no trained adapter: {folder / name} is missing; make it with python -m homework.sft train"
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise HomeworkError(f"{folder / CONFIG} is not JSON ({error}): train again") from error
    if not isinstance(config, dict):
        raise HomeworkError(f"{folder / CONFIG} is no adapter configuration: train again")
    return config


def check_base(config: dict, name: str) -> None:
    """Raise HomeworkError unless the adapter was trained on the base model `name`."""
    trained_on = config.get("base_model_name_or_path")
    if trained_on != name:
        raise HomeworkError(
            f"the adapter was trained on {trained_on}, but the base model is {name}: "
            "give the right one by --checkpoint or HOMEWORK_CHECKPOINT, or train again"
        )


def attach_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The base model with the adapter in `folder`, every weight of it in place.

    Raises:
        HomeworkError: if the weights can't be read, are not finite, untrained, or not those of this base model.
    """
    try:
        weights = load_file(folder / WEIGHTS)
        adapted = PeftModel.from_pretrained(model, str(folder))
    except Exception as error:  # peft raises almost any type for a config or a shape that does not fit
        raise HomeworkError(f"the adapter in {folder} can't be loaded ({one_line(error)}): train again") from error
    check_weights(weights, folder)
    # peft only warns of these, and goes on with zeros or without.
    expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    for problem, names in (("lacks", expected - set(weights)), ("has the unknown", set(weights) - expected)):
        if names:
            raise HomeworkError(f"the adapter in {folder} {problem} {min(names)} ({len(names)} such): train again")
    return adapted


def check_weights(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Raise HomeworkError unless all adapter weights are finite and the adapter changes the base at all."""
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise HomeworkError(f"the adapter in {folder} holds NaN or infinity in {name}: train again")
    if not any(tensor.any() for name, tensor in weights.items() if "lora_B" in name):
        raise HomeworkError(f"the adapter in {folder} is untrained (every lora_B is zero): train again")
