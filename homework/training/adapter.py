"""The adapter's two files: written whole or not at all, loaded only if they are a trained adapter of this base."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError, one_line
from homework.common.files import fingerprint_file
from homework.common.zip_contents import (
    ADAPTER_FILES,
    CODE,
    CONFIG,
    REASONING_FOLDER_NAME,
    WEIGHTS,
    ZIP_LIMIT,
    list_files,
)
from homework.guards.reload_check import ReferenceLogits, check_same_logits, free_weights
from homework.training import distributed

SCRATCH = ".adapter-"  # a half-written adapter, left behind only if the process was killed
READY = ".adapter-ready"  # a whole and checked one, about to take its place
BASE_KEY = "base_weights"  # where the header of the weights names the base
CARD = "README.md"  # peft's save_pretrained writes it beside the weights


def prepare_output(output_dir: str | Path) -> Path:
    """The adapter's folder, which can be written, before any training; a save that was interrupted is finished.

    Raises:
        HomeworkError: if it can't be made or written.
    """
    folder = Path(output_dir).expanduser().resolve()
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file", str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        known = {*ADAPTER_FILES, CARD}
        if foreign := [path.name for path in folder.iterdir() if path.name not in known and path.name[0] != "."]:
            raise FileExistsError(errno.EEXIST, f"it holds {foreign[0]}, which is no part of an adapter", str(folder))
        with tempfile.TemporaryFile(dir=folder):
            finish_swap(folder)
            remove_scratch(folder)
            return folder
    except OSError as error:
        raise HomeworkError(
            f"can't write to {folder} ({error.strerror}): correct that, or choose another --output-dir"
        ) from error


def check_disk_space(model: PeftModel, output: Path, checkpoints: Path, task: str = "sft") -> None:
    """Print how large adapter and zip will be, and make sure that there is room for them before any training.

    Args:
        model: base and LoRA.
        output: the adapter's folder.
        checkpoints: the run's folder; a checkpoint holds the adapter and the optimizer's two moments of it.
        task: sft or rft; the adapter of the other one will be in the zip too.

    Raises:
        HomeworkError: if the zip would be too large or a disk too full.
    """
    adapter = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    others = [path for path in list_files(CODE)[0] if path.parent.name != f"{task}_model"]
    archive = adapter + sum(path.stat().st_size for path in others)
    print(f"adapter {adapter / 1e6:.1f} MB, zip at most {archive / 1e6:.1f} of {ZIP_LIMIT / 1e6:.0f} MB")
    if archive > ZIP_LIMIT:
        raise HomeworkError(
            f"the zip would hold {archive / 1e6:.0f} MB, both adapters and the code, more than {ZIP_LIMIT / 1e6:.0f}: "
            "lower --rank"
        )
    # Two checkpoints are kept while a third is written, and the former adapter while the new one is.
    for folder, needed in ((output, 2 * adapter), (checkpoints, 9 * adapter)):
        if (free := shutil.disk_usage(folder).free) < needed:
            raise HomeworkError(
                f"{folder} has {free / 1e6:.0f} MB free, but the training needs {needed / 1e6:.0f} there: free space"
            )


def save_adapter(
    model: PeftModel, folder: Path, fresh_base: Callable[[], PreTrainedModel], trained: ReferenceLogits
) -> str:
    """Write the two files of a PEFT adapter, check them by reloading, and only then put them into `folder`.

    The former adapter stays until then, whole: what is killed half-way is finished or forgotten by the next command.

    Args:
        model: the trained model; its weights leave the memory before the base is loaded again.
        folder: where the adapter belongs.
        fresh_base: loads the base model anew.
        trained: the trained model's logits, which the reloaded one must give too.

    Returns:
        The sha256 of the weights' file.

    Raises:
        HomeworkError: if the disk is full, the folder can't be written, or the files do not give the same model.
    """
    if not any(p.any() for name, p in model.named_parameters() if "lora_B" in name):
        raise HomeworkError("the model to save is untrained (every lora_B is zero): save the one that was trained")
    try:
        # Inside the folder, which may be a mount of its own: a file can't be renamed across file systems.
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=SCRATCH))
        try:
            sort_sets(model.peft_config["default"])
            # "auto" would look for the base model's config, on the hub if it is not below the working folder.
            model.save_pretrained(str(scratch), save_embedding_layers=False)
            free_weights(model)
            base = fresh_base()
            write_base_fingerprint(scratch, fingerprint_base(base))
            check_same_logits(trained, attach_adapter(base, scratch), "the adapter on disk")
            free_weights(base)
            # safetensors writes for the owner alone; a grader may be somebody else.
            (scratch / WEIGHTS).chmod((scratch / CONFIG).stat().st_mode)
            for name in ADAPTER_FILES:
                flush(scratch / name)
            digest = fingerprint_file(scratch / WEIGHTS)
            scratch.rename(folder / READY)  # from here on the new adapter counts
            finish_swap(folder)
            return digest
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HomeworkError(
            f"can't write the adapter to {folder} ({reason}), the former one is unchanged: free space, then the same "
            "command goes on from the last checkpoint"
        ) from error


def sort_sets(config: PeftConfig) -> None:
    """Make sorted lists of a configuration's sets, target_modules for one: their order changes with each process."""
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(config, name, sorted(value))


def finish_swap(folder: Path) -> None:
    """Move a checked adapter to its place. Safe to repeat: who was killed in the middle goes on where it stopped."""
    ready = folder / READY
    if ready.is_dir():
        for name in ADAPTER_FILES:
            with contextlib.suppress(FileNotFoundError):  # moved already
                (ready / name).replace(folder / name)
        shutil.rmtree(ready, ignore_errors=True)


def remove_scratch(folder: Path) -> None:
    """Remove what a killed process left half-written; an hour old, so that it is nobody's who writes now."""
    for path in folder.glob(f"{SCRATCH}*"):
        if time.time() - path.stat().st_mtime > 3600:
            shutil.rmtree(path, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file is on the disk, so that a power cut after the rename finds it whole."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_base_fingerprint(folder: Path, base: str) -> None:
    """Write into the header of the weights which base model and configuration they were trained with."""
    path = folder / WEIGHTS
    # One entry only: safetensors writes several in random order, and the same seed would give other bytes.
    save_file(load_file(path), path, metadata={BASE_KEY: f"{base} {fingerprint_config(folder)}"})


def fingerprint_config(folder: Path) -> str:
    """A hash of the fields of adapter_config.json that change what the weights mean."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    fields = [config.get("r"), config.get("lora_alpha"), sorted(config["target_modules"]), config.get("use_rslora")]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]


def fingerprint_base(model: PreTrainedModel) -> str:
    """A hash of the base's weights, LoRA left out: the first 1024 values of each, in bfloat16, whatever their dtype."""
    digest = hashlib.sha256()
    own = {
        name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items() if "lora_" not in name
    }
    for name, tensor in sorted(own.items()):
        values = tensor.flatten()[:1024].to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:32]


def describe_model(llm: BaseLLM, model: PeftModel) -> dict[str, str]:
    """What of base and LoRA decides the result of a training: names, first weights, and where they compute."""
    config = json.dumps(model.peft_config["default"].to_dict(), sort_keys=True, default=sorted)
    digest = hashlib.sha256(config.encode())
    for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return {
        "adapter": digest.hexdigest()[:16],
        "base_model": llm.name,
        "base_weights": fingerprint_base(llm.model),
        "device": f"{llm.device} {llm.model.dtype} x {distributed.world()}",
    }


def read_adapter_config(folder: str | Path) -> dict:
    """The adapter's configuration.

    Raises:
        HomeworkError: if one of the two files is missing, or the configuration is not JSON.
    """
    folder = Path(folder)
    try:
        finish_swap(folder)
    except OSError as error:
        raise HomeworkError(f"the save of {folder} was interrupted and can't be finished ({error.strerror})") from error
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            elsewhere = explain_place(found) if (found := find_adapter(folder)) else ""
            task = "rft" if folder.name == REASONING_FOLDER_NAME else "sft"
            raise HomeworkError(
                f"no trained adapter: {folder / name} is missing{elsewhere}; make it with "
                f"python -m homework.{task} train"
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise HomeworkError(f"{folder / CONFIG} is not JSON ({error}): train again") from error
    if not isinstance(config, dict):
        raise HomeworkError(f"{folder / CONFIG} is no adapter configuration: train again")
    return config


def explain_place(found: Path) -> str:
    """What to do about an adapter that lies elsewhere; that of a checkpoint becomes one by the end of its training."""
    if found.name.startswith("checkpoint-"):
        return (
            f" (a training has left {found}: trainer.save writes the adapter, and is given load, not what load gives)"
        )
    return f" (there is one in {found}: move it)"


def find_adapter(folder: Path) -> Path | None:
    """An adapter that landed elsewhere: in a checkpoint, or a folder named by a slip of the command line."""
    near = (folder.parent, folder.parent.parent, Path.cwd())
    places = [path for base in near for path in (base / folder.name, base / f"output_dir={folder.name}")]
    places += [*folder.glob("checkpoint-*"), *folder.parent.glob("*/checkpoint-*")]
    return next((path for path in places if path != folder and (path / WEIGHTS).is_file()), None)


def check_base(config: dict, name: str) -> None:
    """Raise HomeworkError unless the adapter was trained on the base model `name`.

    Stock peft writes the path as it was given, absolute or relative to another folder: the last part counts. What else
    there is of that name has other weights, and attach_adapter tells them by their fingerprint or their shapes.
    """
    trained_on = config.get("base_model_name_or_path")
    if Path(str(trained_on).replace("\\", "/")).name != Path(name).name:
        raise HomeworkError(
            f"the adapter was trained on {trained_on}, but the base model is {name}: "
            "give the right one by --checkpoint or HOMEWORK_CHECKPOINT, or train again"
        )


def attach_adapter(model: PreTrainedModel, folder: str | Path) -> PeftModel:
    """The base model with the adapter in `folder`, every weight of it in place.

    Raises:
        HomeworkError: if the weights can't be read, are not finite, untrained, or not those of this base model.
    """
    folder = Path(folder)
    try:
        weights = load_file(folder / WEIGHTS)
        with safe_open(folder / WEIGHTS, "pt") as file:
            trained_on, _, trained_with = (file.metadata() or {}).get(BASE_KEY, "").partition(" ")
        if trained_on and trained_on != fingerprint_base(model):
            raise HomeworkError("its base model has this one's name, but other weights")
        if trained_with and trained_with != fingerprint_config(folder):
            raise HomeworkError("its configuration is not the one that its weights were trained with")
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
