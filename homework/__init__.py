"""The homework: fine-tune a small language model with LoRA so that it converts units.

These names are the contract with graders and notebooks. They are imported on first use, because torch takes seconds
to load and ``python -m homework.sft train --help`` should not.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036 (before a file is read that it can't read)
    sys.exit(f"error: Python {sys.version.split()[0]} is too old: make .venv with Python 3.11 or newer")

if TYPE_CHECKING:
    from homework.base_llm import BaseLLM as BaseLLM
    from homework.cot import load as load_cot  # noqa: F401 (for type checkers)
    from homework.data import Dataset as Dataset
    from homework.data import benchmark as benchmark
    from homework.rft import load as load_rft  # noqa: F401
    from homework.sft import load as load_sft  # noqa: F401

_WHERE = {
    "BaseLLM": ("homework.base_llm", "BaseLLM"),
    "Dataset": ("homework.data", "Dataset"),
    "benchmark": ("homework.data", "benchmark"),
    "load_sft": ("homework.sft", "load"),
    "load_cot": ("homework.cot", "load"),
    "load_rft": ("homework.rft", "load"),
}
# Graders say homework.data.benchmark after a plain import homework.
_MODULES = ("base_llm", "data", "sft", "cot", "datagen", "rft")
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"homework.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'homework' has no attribute {name!r}: it has {', '.join(__all__)}")
    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)
