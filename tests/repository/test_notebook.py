"""colab.ipynb: at most eight cells, executed with the bundled model, a few steps, and this Python."""

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from homework.common.base_model import ROOT

NOTEBOOK = json.loads((ROOT / "colab.ipynb").read_text(encoding="utf-8"))
SHELL = re.compile(r"^( *)!(.+)$", re.MULTILINE)


def cells() -> list[str]:
    """The code of each cell."""
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def as_python(cell: str) -> str:
    """A cell with its shell lines as calls, as IPython runs them: {NAME} stands for a variable."""
    return SHELL.sub(lambda found: f"{found[1]}shell(f{found[2]!r})", cell)


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """A copy of the repository, in which a notebook may write."""
    ignore = shutil.ignore_patterns("sft_model", "__pycache__", "runs", ".git", ".venv", "*.zip", "tests", "benchmarks")
    shutil.copytree(ROOT, tmp_path / "course", ignore=ignore)
    monkeypatch.chdir(tmp_path / "course")
    monkeypatch.setenv("HOMEWORK_CHECKPOINT", "")
    return tmp_path / "course"


def test_the_notebook_is_short_and_holds_no_output():
    assert len(NOTEBOOK["cells"]) <= 8 and NOTEBOOK["nbformat"] == 4
    assert all(
        not cell["outputs"] and cell["execution_count"] is None for cell in NOTEBOOK["cells"] if "outputs" in cell
    )
    assert "SmolLM2-360M-Instruct" in "".join(cells())


@pytest.mark.everything
def test_every_cell_runs_with_the_bundled_model(course, monkeypatch):
    said, shown = [], []

    def shell(line: str) -> None:
        if "pip install" in line:
            return  # the packages are here, and the network may not be
        line = line.replace("python ", f"{sys.executable} ", 1)
        done = subprocess.run(line, shell=True, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)

    display = types.SimpleNamespace(Image=lambda path: path, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names = {"shell": shell}
    for cell in cells():
        text = as_python(cell).replace("HuggingFaceTB/SmolLM2-360M-Instruct", "data/base_model")
        exec(compile(text.replace('ARGUMENTS = ""', 'ARGUMENTS = "--max-steps 2"'), "colab.ipynb", "exec"), names)
    assert Path(shown[0]).name == "curve.png" and (course / "123456.zip").exists()
    assert "hand in 123456.zip" in said[-1]
