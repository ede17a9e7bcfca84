"""Questions are answered with LoRA merged into the base, which comes back bit for bit."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from homework.base_llm import score
from homework.data import Dataset, take_rows
from homework.sft import add_lora, load
from homework.training.merged_lora import merged_lora
from homework.training.recipe import DEFAULT_RECIPE


@pytest.fixture
def model(llm):
    """Base and LoRA whose lora_B are no longer zero."""
    model = add_lora(llm.reload_model(), DEFAULT_RECIPE, seed=0).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return model


def merged_with(patch: pytest.MonkeyPatch, size: float, model: torch.nn.Module):
    """`merged`, where copies may take so many bytes."""
    patch.setattr("homework.training.merged_lora.COPIES", size)
    return merged_lora(model)


def snapshot(model: torch.nn.Module) -> dict[str, tuple]:
    return {name: (p.data_ptr(), p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}


def assert_untouched(model: torch.nn.Module, before: dict[str, tuple]) -> None:
    """The very same tensors, at the same place: a recorded graph reads them there."""
    after = snapshot(model)
    assert list(after) == list(before)
    assert all(after[name][:2] == kept[:2] and torch.equal(after[name][2], kept[2]) for name, kept in before.items())
    assert not any(module.merged for module in model.modules() if isinstance(module, LoraLayer))


def test_it_merges_says_the_same_and_parts_bit_for_bit(model, bundled_tokenizer):
    ids = torch.tensor([bundled_tokenizer("How many g in 6 kg?")["input_ids"]])
    before = snapshot(model)
    with torch.inference_mode():
        wanted = model(input_ids=ids).logits
        with merged_lora(model):
            assert all(module.merged for module in model.modules() if isinstance(module, LoraLayer))
            found = model(input_ids=ids).logits
        with model.disable_adapter():
            base = model(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())
    assert (base - wanted).abs().max() > 0.01 * wanted.abs().max(), "LoRA says nothing here: the proof proves nothing"
    model.train()
    assert_untouched(model, before)


def test_it_parts_after_an_error_and_after_weights_that_are_not_finite(model):
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt), merged_lora(model):
        raise KeyboardInterrupt
    assert_untouched(model, before)
    weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
    weight.data[0, 0] = float("nan")
    before = {name: kept for name, kept in snapshot(model).items() if "lora_" not in name}
    with pytest.raises(ValueError, match="NaN"), merged_lora(model):
        raise AssertionError("a broken adapter was merged")
    after = snapshot(model)
    assert all(after[name][0] == kept[0] and torch.equal(after[name][2], kept[2]) for name, kept in before.items())


def test_what_merging_would_change_is_left_alone(model, llm, monkeypatch):
    with merged_lora(llm.model):  # no adapter
        pass
    model.merge_adapter()  # a student's load() may do this
    with merged_lora(model):
        assert all(module.merged for module in model.modules() if isinstance(module, LoraLayer))
    assert all(module.merged for module in model.modules() if isinstance(module, LoraLayer))
    model.unmerge_adapter()
    with monkeypatch.context() as patch, merged_with(patch, 1e6, model):  # a large base
        assert not any(module.merged for module in model.modules() if isinstance(module, LoraLayer))
    model.to(torch.bfloat16)
    with merged_lora(model):
        assert not any(module.merged for module in model.modules() if isinstance(module, LoraLayer))


def test_the_trained_model_answers_the_same(trained):
    llm, rows = load(trained.folder), take_rows(Dataset("valid"), 200)
    apart = score(llm, rows)[1]
    with merged_lora(llm.model):
        assert score(llm, rows)[1] == apart
