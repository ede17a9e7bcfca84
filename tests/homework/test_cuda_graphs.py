"""CUDA graphs of a step: the same loss and gradients as without, for every batch of an epoch. Needs a GPU."""

import pytest
import torch

from homework.base_llm import BaseLLM
from homework.data import Dataset
from homework.sft import Collator, TokenizedDataset, add_lora, format_example, train_model
from homework.training._cuda_graphs import StepGraphs
from homework.training.batches import EpochSampler, select_supervised
from homework.training.recipe import DEFAULT_RECIPE
from homework.training.trainer import bfloat16_lora
from tests.support.bundled import bundled_steps, card_accuracy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def model():
    model = add_lora(BaseLLM().model, DEFAULT_RECIPE, seed=0).train()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def loss_of(model, inputs, items):
    with bfloat16_lora(model):
        return model(**inputs, num_items_in_batch=items).loss


def batches(llm, count: int):
    rows = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)
    order = list(EpochSampler([len(row["input_ids"]) for row in rows.rows], 32, 0, lambda: 0))
    for start in range(0, 32 * count, 32):
        batch = select_supervised(Collator(llm.pad_id)([rows[index] for index in order[start : start + 32]]), 8)
        inputs = {name: tensor.cuda() for name, tensor in batch.items()}
        yield inputs, (inputs["shift_labels"] != -100).sum()


def test_graphs_give_loss_and_gradients_of_the_plain_passes(model, llm):
    trainable = [p for p in model.parameters() if p.requires_grad]
    graphs = StepGraphs(loss_of, trainable)
    for inputs, items in batches(llm, 31):
        model.zero_grad()
        loss = graphs.run(model, inputs, items)
        got = torch.cat([p.grad.flatten() for p in trainable]).clone()
        model.zero_grad()
        plain = loss_of(model, inputs, items)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(plain, trainable)])
        assert loss.item() == pytest.approx(plain.item(), rel=1e-3)
        del plain  # what keeps a pass of the default stream alive spoils the next recording
        assert (got - expected).norm() <= 2e-2 * expected.norm()  # bfloat16; a mask that is left out sums otherwise
    assert len(graphs.recorded) >= 3


def test_micro_batches_add_up(model, llm):
    trainable = [p for p in model.parameters() if p.requires_grad]
    graphs = StepGraphs(loss_of, trainable)
    (inputs, items) = next(batches(llm, 1))
    once = None
    for _ in range(4):
        model.zero_grad()
        graphs.run(model, inputs, items)
        once = torch.cat([p.grad.flatten() for p in trainable]).clone()
    graphs.run(model, inputs, items)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in trainable]), 2 * once)


def test_a_run_on_a_gpu_learns(tmp_path, capsys):
    train_model(output_dir=str(tmp_path / "a"), questions=200)
    output = capsys.readouterr().out
    assert f"gradient norm finite in {bundled_steps()} of {bundled_steps()} steps" in output
    assert float(output.rsplit("accuracy ", 1)[1].split()[0]) > card_accuracy("valid") - 0.1
