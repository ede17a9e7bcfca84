"""Which base model, on which device, and whether it is complete: a checkpoint is loaded whole or refused by name.

torch and transformers are imported where they are used: they take seconds, and ``--help`` should not.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homework.common.errors import HomeworkError, one_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "data" / "base_model"
BUNDLED_NAME = "data/base_model"  # what an adapter calls the bundled model: the same on every machine
PICKLES = (
    "pickles can run code and are never loaded: choose a checkpoint with model.safetensors, or convert it where you "
    "trust it: from_pretrained, then save_pretrained"
)
VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def resolve_checkpoint(checkpoint: str | Path | None) -> tuple[str, str]:
    """The checkpoint to load and who chose it: the argument, else HOMEWORK_CHECKPOINT, else the bundled model."""
    if str(checkpoint or "") == BUNDLED_NAME:
        return str(BUNDLED), "given"  # also from another folder
    if checkpoint:
        return str(checkpoint), "given"
    if chosen := os.environ.get("HOMEWORK_CHECKPOINT"):
        return chosen, "from HOMEWORK_CHECKPOINT"
    return str(BUNDLED), "bundled"


def stable_name(checkpoint: str) -> str:
    """The checkpoint's name, the same on every machine: a folder's own name, never its path."""
    if not Path(checkpoint).is_dir():
        return checkpoint
    folder = Path(checkpoint).resolve()
    return BUNDLED_NAME if folder == BUNDLED else folder.name


def pick_device() -> "tuple[str, torch.dtype, str]":
    """Device, dtype, and the reason for the dtype. Never float16: its range overflows, and the loss becomes NaN."""
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "cuda", torch.bfloat16, "this GPU computes bfloat16, which has float32's range"
        return "cuda", torch.float32, "this GPU has no bfloat16, and float16 overflows to NaN"
    if torch.backends.mps.is_available():
        return "mps", torch.float32, "half precision is not reliable on MPS"
    return "cpu", torch.float32, "half precision is slower on a CPU"


def load_tokenizer(checkpoint: str, local_files_only: bool = False) -> "PreTrainedTokenizerBase":
    """The checkpoint's tokenizer.

    Raises:
        HomeworkError: if it can't be loaded or has no EOS, without which an answer never ends.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=local_files_only)
    except Exception as error:  # transformers raises almost any type here; all of them mean the same to a student
        raise HomeworkError(f"can't read the tokenizer of {checkpoint}: {one_line(error)}: fetch it again") from error
    if tokenizer.eos_token_id is None:
        raise HomeworkError(f"the tokenizer of {checkpoint} has no EOS token: choose another checkpoint")
    return tokenizer


def load_model(checkpoint: str, dtype: "torch.dtype", local_files_only: bool = False) -> "PreTrainedModel":
    """The checkpoint's causal language model in `dtype`, from safetensors only, with every weight present.

    Raises:
        HomeworkError: if it can't be loaded, or a weight is missing (transformers would make it up at random).
    """
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it flashes for every load, on files too
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=local_files_only,
        )
    except Exception as error:  # as above
        todo = f": {PICKLES}" if has_no_safetensors(error) and not Path(checkpoint).is_dir() else ": fetch it again"
        raise HomeworkError(f"can't read the weights of {checkpoint}: {one_line(error)}{todo}") from error
    model, report = loaded
    broken = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if broken:
        raise HomeworkError(f"{checkpoint} lacks {len(broken)} weights, first {broken[0]}: fetch the checkpoint again")
    # A checkpoint's own decoding (a repetition penalty, say) would mix with what BaseLLM asks for.
    model.generation_config = GenerationConfig()
    return model


def has_no_safetensors(error: Exception) -> bool:
    """Whether this is how transformers says that a checkpoint has no weights as safetensors."""
    return "file named" in str(error) and "safetensors" in str(error)


def check_kind(folder: Path) -> None:
    """Raise HomeworkError if a folder is an adapter, or holds its weights as pickles only."""
    if (folder / "adapter_config.json").is_file():
        raise HomeworkError(
            f"{folder} is an adapter, not a base model: the checkpoint is the base that it was trained on, "
            "and the adapter's folder goes to load() or --output-dir"
        )
    if any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("*.safetensors")):
        raise HomeworkError(f"can't read the weights of {folder}: they are in .bin files only; {PICKLES}")


def check_checkpoint(checkpoint: str) -> bool:
    """Whether the checkpoint has to come from what was downloaded before, because the hub can't be reached.

    Raises:
        HomeworkError: if there is neither a folder with a model's files, nor such a name on the hub or in the cache.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        check_kind(folder)
        for part, names in (("config", ("config.json",)), ("tokenizer", VOCABULARY_FILES)):
            if not any((folder / name).is_file() for name in names):
                raise HomeworkError(f"the checkpoint {folder} has no {part}: fetch it again, or name another one")
        return False
    if folder.exists() or folder.is_absolute() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", checkpoint):
        raise HomeworkError(
            f"there is no checkpoint folder {checkpoint}: give a folder, or a hub name like owner/model"
        )
    return check_hub(checkpoint)


def check_hub(name: str) -> bool:
    """As `check_checkpoint`, for a hub name: asks once, where a download would retry for a minute first."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
        return False
    except RepositoryNotFoundError as error:
        raise HomeworkError(f"the model hub has no {name}, or it is private: check the name") from error
    except Exception as error:  # whatever the connection, a proxy or the offline switch raise
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            print(f"the model hub can't be reached: using the {name} that was downloaded before")
            return True
        raise HomeworkError(
            f"can't reach the model hub for {name} ({one_line(error)}): check the connection, or leave --checkpoint "
            "and HOMEWORK_CHECKPOINT out for the bundled model"
        ) from error
