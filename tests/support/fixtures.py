"""Fixtures: tokenizers, tiny models made on the spot, and what is made once for all tests: a training, a grading."""

import contextlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Before torch is imported: see homework/common/runtime.py.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import pytest
import torch
from filelock import FileLock
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from grader.course import Course
from grader.grade import grade
from grader.result import Result
from grader.sandbox.host import Sandbox
from homework import rft
from homework.base_llm import BaseLLM
from homework.common.base_model import BUNDLED, ROOT
from homework.common.cli import run
from homework.data import Dataset
from homework.sft import COMMANDS, TokenizedDataset, format_example
from homework.training import run_dir
from tests.support import zips

# 1,000 rows that task 6 has kept of the course's base model; for another base they are as right.
REASONED_ROWS = Path(__file__).with_name("reasoned_rows.json")
# The folder of SmolLM2-360M-Instruct's tokenizer; .ci/run sets it where there is one.
SMOLLM2_VARIABLE = "SMOLLM2_TOKENIZER"


@pytest.fixture(scope="session")
def make_once(tmp_path_factory, request):
    """`make_once("name", make)`: a folder that the first process of the run fills by make(folder), and all read."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if hasattr(request.config, "workerinput") else root

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / name
        with FileLock(root / f"{name}.lock"):
            if not (folder / "made").exists():
                folder.mkdir(exist_ok=True)  # left by a process whose make failed
                make(folder)
                (folder / "made").touch()
        return folder

    return once


@pytest.fixture(scope="session")
def bundled_tokenizer():
    return AutoTokenizer.from_pretrained(BUNDLED)


@pytest.fixture(scope="session", params=["bundled", "smollm2"])
def real_tokenizer(request, bundled_tokenizer):
    """The bundled tokenizer, and SmolLM2's where its folder is given."""
    if request.param == "bundled":
        return bundled_tokenizer
    folder = os.environ.get(SMOLLM2_VARIABLE)
    if not folder:
        pytest.skip(f"{SMOLLM2_VARIABLE} does not name the folder of SmolLM2's tokenizer")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, bundled_tokenizer) -> Path:
    """A one-layer Llama with random weights and the bundled tokenizer, complete on disk."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    config = LlamaConfig(
        vocab_size=len(bundled_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    bundled_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch) -> Path:
    """Runs of tests stay out of the project's runs/."""
    monkeypatch.setattr(run_dir, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def llm() -> BaseLLM:
    """The bundled base model."""
    return BaseLLM()


@pytest.fixture(scope="module")
def data() -> list[tuple[str, float]]:
    """Eight rows of train."""
    return [Dataset("train")[index] for index in range(8)]


@pytest.fixture(scope="module")
def rows(llm, data) -> TokenizedDataset:
    """The same, tokenized."""
    return TokenizedDataset(llm.tokenizer, data, format_example)


class TrainingRun(NamedTuple):
    """What one run left behind: the adapter's folder, all that was printed, and the folder of the run."""

    folder: Path
    output: str
    run: Path


@contextlib.contextmanager
def on_all_cores() -> Iterator[None]:
    """Let torch use all cores: while a process trains what all need, the others wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(make_once) -> TrainingRun:
    """The README's first command, run for real (about ten seconds)."""

    def make(folder: Path) -> None:
        output = io.StringIO()
        line = ["train", "--output-dir", str(folder / "sft_model"), "--run-dir", str(folder / "run")]
        with contextlib.redirect_stdout(output), on_all_cores():
            run(COMMANDS, "python -m homework.sft", line)
        (folder / "output.txt").write_text(output.getvalue(), encoding="utf-8")

    folder = make_once("trained", make)
    return TrainingRun(folder / "sft_model", (folder / "output.txt").read_text(encoding="utf-8"), folder / "run")


@pytest.fixture(scope="session")
def files(trained) -> dict[str, bytes]:
    """The one trained adapter of the session, as the grader sees it."""
    return {f"sft_model/{path.name}": path.read_bytes() for path in trained.folder.iterdir() if path.name[0] != "."}


@pytest.fixture(scope="session")
def reference_files(files) -> dict[str, bytes]:
    """The reference as it is handed in: the Python files of homework/, and the session's trained adapter."""
    code = sorted((ROOT / "homework").rglob("*.py"))
    return {**{path.relative_to(ROOT / "homework").as_posix(): path.read_bytes() for path in code}, **files}


@pytest.fixture(scope="session")
def reasoned_files(make_once, reference_files) -> dict[str, bytes]:
    """The same with the adapter of task 7, trained on stored rows: the sampling takes many minutes (two minutes)."""

    def make(folder: Path) -> None:
        line = ["train", "--output-dir", str(folder / "rft_model"), "--run-dir", str(folder / "run"), "--questions=1"]
        with contextlib.redirect_stdout(io.StringIO()), on_all_cores():
            run(rft.COMMANDS, "python -m homework.rft", [*line, "--data", str(REASONED_ROWS)])

    folder = make_once("reasoned", make) / "rft_model"
    adapter = {f"rft_model/{path.name}": path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}
    return {**reference_files, **adapter, "rft.json": REASONED_ROWS.read_bytes()}


@pytest.fixture(scope="session")
def reference_zip(make_once, reference_files) -> Path:
    """The reference as a zip."""
    return make_once("zip", lambda folder: zips.good(folder / "123456.zip", reference_files)) / "123456.zip"


@pytest.fixture(scope="session")
def graded(make_once, reference_zip) -> Result:
    """The reference, graded with all checks and all questions."""

    def make(folder: Path) -> None:
        with Sandbox.open() as sandbox:
            result = grade(reference_zip, Course(), sandbox)
        (folder / "result.pickle").write_bytes(pickle.dumps(result))

    return pickle.loads((make_once("graded", make) / "result.pickle").read_bytes())


@pytest.fixture
def command(capsys):
    """Run a command line in this process: `command({...}, "train --epohcs 10") -> (exit code, stdout, stderr)`."""

    def call(commands, line: str):
        try:
            run(commands, "program", line.split())
            code = 0
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call
