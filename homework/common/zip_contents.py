"""Which files of homework/ go into the zip: Python files, the two of each adapter and the answers, by allow-list."""

from pathlib import Path

CODE = Path(__file__).resolve().parents[1]  # the folder homework/
ZIP_LIMIT = 50_000_000  # bytes
ADAPTER_FOLDER_NAME, REASONING_FOLDER_NAME = "sft_model", "rft_model"
ANSWERS = "ANSWERS.md"
ADAPTER_FILES = CONFIG, WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")


def list_files(code: Path) -> tuple[list[Path], list[Path]]:
    """The files of a package that go into the zip, and those that are left out, each the largest first.

    Args:
        code: the folder `homework`.
    """
    files = [path for path in code.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    inside = [path for path in files if is_wanted(path.relative_to(code))]
    left_out = [path for path in files if path not in inside]
    inside, left_out = (sorted(group, key=lambda path: -path.stat().st_size) for group in (inside, left_out))
    return inside, left_out


def is_wanted(path: Path) -> bool:
    """Whether a file, relative to the package, is code, answers or a part of an adapter. Links are never followed."""
    if path.parts[0] in (ADAPTER_FOLDER_NAME, REASONING_FOLDER_NAME):
        return len(path.parts) == 2 and path.name in ADAPTER_FILES
    return path.suffix == ".py" or path.as_posix() == ANSWERS
