"""The adapter: stock, portable, proved before it is saved, refused when it is not the trained one."""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import homework
from homework import sft
from homework.common.base_model import BUNDLED, ROOT
from homework.common.errors import HomeworkError
from homework.sft import load, train_model
from homework.training import adapter
from homework.training.trainer import HomeworkTrainer
from tests.support.bundled import card_accuracy
from tests.support.rows import rest

WEIGHTS = "adapter_model.safetensors"


def test_stock_peft_loads_the_adapter(trained):
    stock = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32), trained.folder
    )
    ids = torch.tensor([[300, 301, 302, 303]])
    ours = load(trained.folder).model
    torch.testing.assert_close(stock(input_ids=ids).logits, ours(input_ids=ids).logits)
    with stock.disable_adapter():
        assert not torch.allclose(stock(input_ids=ids).logits, ours(input_ids=ids).logits, atol=0.1)


def test_the_adapter_is_two_files_that_name_no_path(trained):
    assert sorted(path.name for path in trained.folder.iterdir()) == ["adapter_config.json", WEIGHTS]
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "data/base_model"
    for path in trained.folder.iterdir():
        assert str(ROOT).encode() not in path.read_bytes()


def test_the_contract_names_work_from_another_folder(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    llm = homework.load_sft(trained.folder)
    assert llm.answer("How many g are in 6 kg?") == [6000.0]
    assert isinstance(llm, homework.BaseLLM) and llm.tokenizer and llm.model and llm.device
    result = homework.benchmark(llm, homework.Dataset("valid"), 50)
    assert result.accuracy > card_accuracy("valid") - 0.2 and result.answer_rate > 0.9
    with pytest.raises(AttributeError, match="has no attribute 'load_dpo': it has BaseLLM"):
        homework.load_dpo  # noqa: B018


def test_the_test_and_load_commands_score_the_adapter(trained, capsys):
    sft.test_model(output_dir=str(trained.folder), questions=50)
    sft.load_model(output_dir=str(trained.folder))
    out = capsys.readouterr().out
    assert "on 50 questions of valid" in out and "(correct " in out


@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS])
def test_a_missing_adapter_is_refused_with_the_command_that_makes_it(trained, tmp_path, name):
    shutil.copytree(trained.folder, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(HomeworkError, match=rf"{name} is missing; make it with python -m homework.sft train"):
        load(tmp_path / "copy")
    assert not (tmp_path / "copy" / name).exists()


def test_an_adapter_of_another_base_is_refused(trained, tiny_checkpoint):
    with pytest.raises(HomeworkError, match="was trained on data/base_model, but the base model is tiny-llama"):
        load(trained.folder, str(tiny_checkpoint))


@pytest.mark.parametrize("name", ["../base_model", "/home/a/base_model/", "C:\\data\\base_model", "data/base_model"])
def test_the_base_is_known_by_its_own_name_from_any_folder(name):
    adapter.check_base({"base_model_name_or_path": name}, "data/base_model")
    with pytest.raises(HomeworkError, match="but the base model is tiny-llama"):
        adapter.check_base({"base_model_name_or_path": name}, "tiny-llama")


def test_an_adapter_whose_base_is_given_by_another_path_is_loaded(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "copy")
    path = tmp_path / "copy" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "../base_model"}))
    assert load(tmp_path / "copy").answer("How many g are in 6 kg?") == [6000.0]


@pytest.mark.parametrize("how", ["half", "garbage", "{", "[]", '{"base_model_name_or_path": "data/base_model"}'])
def test_a_damaged_adapter_is_refused(trained, tmp_path, how):
    shutil.copytree(trained.folder, tmp_path / "copy")
    content = (tmp_path / "copy" / WEIGHTS).read_bytes()
    if how in ("half", "garbage"):
        (tmp_path / "copy" / WEIGHTS).write_bytes(content[: len(content) // 2] if how == "half" else b"x" * 100)
    else:
        (tmp_path / "copy" / "adapter_config.json").write_text(how)
    with pytest.raises(HomeworkError, match="train again"):
        load(tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: {name: tensor * 0 for name, tensor in weights.items()}, "is untrained"),
        (lambda weights: {name: tensor * math.nan for name, tensor in weights.items()}, "holds NaN or infinity"),
        (lambda weights: dict(list(weights.items())[:4]), "lacks base_model"),
        (lambda weights: {**weights, "extra.lora_B": torch.ones(2)}, "has the unknown extra.lora_B"),
        (lambda weights: {name: torch.ones(3, 3) for name in weights}, "can't be loaded"),
    ],
)
def test_an_adapter_that_is_not_the_trained_one_is_refused(trained, tmp_path, change, message):
    shutil.copytree(trained.folder, tmp_path / "copy")
    save_file(change(load_file(trained.folder / WEIGHTS)), tmp_path / "copy" / WEIGHTS)
    with pytest.raises(HomeworkError, match=message):
        load(tmp_path / "copy")


def test_training_outside_the_adapter_is_noticed_before_saving(tmp_path, monkeypatch):
    train = HomeworkTrainer.train

    def train_and_touch_the_base(self):
        output = train(self)
        with torch.no_grad():
            self.model.get_input_embeddings().weight.mul_(1.1)
        return output

    monkeypatch.setattr(HomeworkTrainer, "train", train_and_touch_the_base)
    with pytest.raises(HomeworkError, match="gives other logits than the trained model"):
        train_model(output_dir=str(tmp_path / "a"), max_steps=1)
    assert not list((tmp_path / "a").iterdir())


def test_the_weights_can_be_read_by_others(trained):
    modes = {path.stat().st_mode for path in trained.folder.iterdir()}
    assert len(modes) == 1


FULL = [
    OSError(28, "No space left on device"),
    rest(SafetensorError("No space left on device")),
]


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize(
    ("where", "message"),
    [
        (".adapter-", r"can't write the adapter to .*No space left on device.*the former one is unchanged: free space"),
        rest("checkpoint-", r"can't write a checkpoint to .*No space left on device.*the same command goes on"),
    ],
)
def test_a_full_disk_is_named_and_leaves_the_former_adapter(trained, tmp_path, monkeypatch, error, where, message):
    shutil.copytree(trained.folder, tmp_path / "a")
    before = (tmp_path / "a" / WEIGHTS).read_bytes()
    save_pretrained = PeftModel.save_pretrained

    def fill(self, folder, **options):
        if where not in str(folder):
            return save_pretrained(self, folder, **options)
        with open(f"{folder}/{WEIGHTS}", "wb") as half:
            half.write(b"half")
        raise error

    with monkeypatch.context() as full_disk:
        full_disk.setattr(PeftModel, "save_pretrained", fill)
        with pytest.raises(HomeworkError, match=message):
            train_model(output_dir=str(tmp_path / "a"), max_steps=1)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["adapter_config.json", WEIGHTS]
    train_model(output_dir=str(tmp_path / "a"), max_steps=1, questions=1)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() != before


def test_too_little_space_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(HomeworkError, match=r"a has 1 MB free, but the training needs 2 there: free space"):
        train_model(output_dir=str(tmp_path / "a"), max_steps=1)


def test_a_zip_that_would_be_too_large_is_foreseen(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "ZIP_LIMIT", 500_000)
    with pytest.raises(
        HomeworkError, match=r"the zip would hold \d+ MB, both adapters and the code, more than 0: lower --rank"
    ):
        train_model(output_dir=str(tmp_path / "a"), max_steps=1)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_an_interrupted_swap_is_finished_by_the_next_command(trained, tmp_path, moved):
    """Killed after `moved` of the two files: the new adapter counts, whole."""
    folder, ready = tmp_path / "a", tmp_path / "a" / adapter.READY
    ready.mkdir(parents=True)
    for index, name in enumerate(adapter.ADAPTER_FILES):
        shutil.copy(trained.folder / name, folder / name if index < moved else ready / name)
        if index >= moved:
            (folder / name).write_bytes(b"the former one")
    assert load(folder).answer("How many g are in 6 kg?") == [6000.0]
    assert not ready.exists()


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path):
    old, new = tmp_path / ".adapter-old", tmp_path / ".adapter-new"
    for path in (old, new):
        path.mkdir()
    os.utime(old, (0, 0))
    adapter.prepare_output(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [new.name]


def test_an_adapter_of_other_weights_under_the_same_name_is_refused(trained, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    with pytest.raises(HomeworkError, match="its base model has this one's name, but other weights"):
        adapter.attach_adapter(model, trained.folder)


def test_a_configuration_of_another_run_is_refused(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "adapter_config.json").read_text())
    (tmp_path / "copy" / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 16}))
    with pytest.raises(HomeworkError, match="its configuration is not the one that its weights were trained with"):
        load(tmp_path / "copy")


def test_the_base_is_known_in_any_dtype():
    prints = {
        adapter.fingerprint_base(AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert len(prints) == 1


def test_an_adapter_that_landed_elsewhere_is_found(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "sft_model")
    with pytest.raises(HomeworkError, match=r"is missing \(there is one in .*sft_model: move it\)"):
        load(tmp_path / "homework" / "sft_model")


class Unsorted(set):
    """A set whose order is that of another process."""

    def __iter__(self):
        return iter(sorted(super().__iter__(), reverse=True))


def test_the_configuration_is_the_same_in_every_process(tmp_path, monkeypatch):
    add_lora = sft.add_lora

    def shuffle(*arguments):
        model = add_lora(*arguments)
        model.peft_config["default"].target_modules = Unsorted(model.peft_config["default"].target_modules)
        return model

    monkeypatch.setattr(sft, "add_lora", shuffle)
    train_model(output_dir=str(tmp_path / "a"), max_steps=1, questions=1)
    targets = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets) and len(targets) == 7


@pytest.mark.everything
def test_the_same_flags_give_the_same_bytes_in_another_process(tmp_path):
    for name in ("1", "2"):
        line = [sys.executable, "-m", "homework.sft", "train", "--max-steps", "2", "--questions", "1"]
        line += ["--output-dir", str(tmp_path / name), "--run-dir", str(tmp_path / f"run-{name}")]
        subprocess.run(line, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": name}, capture_output=True, check=True)
    for name in adapter.ADAPTER_FILES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
