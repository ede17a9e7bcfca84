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


def test_the_first_cell_brings_the_students_own_files(tmp_path, monkeypatch):
    """A clone has the gaps of everybody; what the student uploads takes their place, also the second time."""
    (tmp_path / "pristine" / "homework").mkdir(parents=True)
    for name in ("bundle.py", "homework/sft.py", "homework/data.py"):
        (tmp_path / "pristine" / name).write_text("pristine\n")
    monkeypatch.chdir(tmp_path)

    def shell(line: str) -> None:
        if line.startswith("git clone"):
            shutil.copytree(line.split()[-2], line.split()[-1])

    def upload() -> dict[str, bytes]:
        """As Colab's: each file is kept beside the notebook as well, under another name if that is taken."""
        kept = {name if not Path(name).exists() else f"{name} (1)": content for name, content in chosen.pop(0).items()}
        for name, content in kept.items():
            Path(name).write_bytes(content)
        return kept

    colab = types.ModuleType("google.colab")
    colab.files = types.SimpleNamespace(upload=upload)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    cell = as_python(cells()[0]).replace('REPOSITORY = ""', f"REPOSITORY = {str(tmp_path / 'pristine')!r}")
    chosen = [{"sft.py": b"mine"}, {"sft.py": b"mine, again"}, {}]
    while chosen:
        exec(compile(cell, "colab.ipynb", "exec"), {"shell": shell})
        assert Path.cwd() == tmp_path / "course" and not Path("sft.py").exists()
    assert Path("homework/sft.py").read_text() == "mine, again"
    assert Path("homework/data.py").read_text() == "pristine\n"
    chosen.append({"my_sft.py": b"mine"})
    with pytest.raises(AssertionError, match=r"homework/ has no my_sft.py: rename your file"):
        exec(compile(cell, "colab.ipynb", "exec"), {"shell": shell})


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
        text = text.replace("--questions 100", "--questions 10").replace('SAMPLING = ""', 'SAMPLING = "--questions 60"')
        exec(compile(text.replace('ARGUMENTS = ""', 'ARGUMENTS = "--max-steps 2"'), "colab.ipynb", "exec"), names)
    assert Path(shown[0]).name == "curve.png" and (course / "123456.zip").exists()
    assert "hand in 123456.zip" in said[-1]
