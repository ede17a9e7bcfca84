"""Failures of real submissions, planted into the homework as their authors wrote them.

Each plant takes the test's context, breaks one thing, and gives the command line that the student then runs.
"""

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, TrainingArguments

from homework import sft
from homework.base_llm import BaseLLM, Completion
from homework.common.base_model import BUNDLED, BUNDLED_NAME
from homework.training import callbacks, run_dir, trainer
from homework.training.recipe import RECIPES
from homework.training.trainer import HomeworkTrainer

TRAIN = "sft train --max-steps 2 --questions 10 --output-dir {out}"
RECORDED = Path(__file__).with_name("float16_scaler_log.json")


class Context(NamedTuple):
    """What a plant may use."""

    patch: pytest.MonkeyPatch
    folder: Path  # empty
    trained: Path  # a good adapter of the bundled model
    tiny: Path  # a checkpoint of another shape


Plant = Callable[[Context], str]


def with_tokenize(wrong: Callable) -> Plant:
    """A student's own tokenize."""

    def plant(context: Context) -> str:
        context.patch.setattr(sft, "tokenize", wrong)
        return TRAIN

    return plant


def padded_left(tokenizer, question: str, answer: str) -> dict:
    """A9: generate() has set padding_side, and tokenize pads as the starter did."""
    tokenizer.padding_side = "left"
    row = dict(tokenizer(f"{question} {answer}{tokenizer.eos_token}", padding="max_length", max_length=128))
    count = len(tokenizer(question)["input_ids"])
    row["labels"] = [-100] * count + row["input_ids"][count:]
    return row


def truncated(tokenizer, question: str, answer: str) -> dict:
    """A15: max_length cuts the answer off, and a fallback supervises the last five tokens."""
    ids = tokenizer(f"{question} {answer}{tokenizer.eos_token}", truncation=True, max_length=12)["input_ids"]
    count = len(tokenizer(question)["input_ids"])
    labels = [-100] * min(count, len(ids)) + ids[count:]
    if all(label == -100 for label in labels):
        labels[-5:] = ids[-5:]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def with_options(**wrong: Any) -> Callable[..., LoraConfig]:
    """A LoraConfig that always has these options."""
    return lambda **given: LoraConfig(**{**given, **wrong})


def rebuilding_collator(context: Context) -> str:
    tokenizer = BaseLLM().tokenizer
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)

    def collate(rows: list[dict]) -> dict:
        return collator([{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows])

    context.patch.setattr(sft, "Collator", lambda _: collate)
    return TRAIN


def broken_checkpoint(context: Context) -> Path:
    """The bundled model with one weight that is not a number."""
    folder = context.folder / "half"
    shutil.copytree(BUNDLED, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def nan_weight(context: Context) -> str:
    return f"{TRAIN} --checkpoint {broken_checkpoint(context)}"


def recorded_scaler_log(context: Context) -> str:
    """B2: the log of a float16 run with a gradient scaler, as `check` finds it."""
    folder = run_dir.RUNS / "sft-recorded"
    folder.mkdir(parents=True)
    (folder / run_dir.LOG).write_text(RECORDED.read_text())
    return "check"


def zeroed_gradients(context: Context) -> str:
    class Zero(callbacks.Progress):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()

    context.patch.setattr(trainer, "Progress", Zero)
    return TRAIN


def constant_for_nan(context: Context) -> str:
    compute_loss = HomeworkTrainer.compute_loss

    def hide(self, *arguments, **options):
        loss = compute_loss(self, *arguments, **options)
        return loss if torch.isfinite(loss) else torch.tensor(0.01, requires_grad=True)

    context.patch.setattr(HomeworkTrainer, "compute_loss", hide)
    return nan_weight(context)


def with_arguments(more: str = "", **fixed: Any) -> Plant:
    """Fields of the arguments that a student sets in the code, whatever the flags say."""

    def plant(context: Context) -> str:
        arguments = sft.training_arguments
        context.patch.setattr(sft, "training_arguments", lambda recipe, **given: arguments(recipe, **given | fixed))
        return TRAIN + more

    return plant


def cut_off_inputs(context: Context) -> str:
    """B7: re-entrant checkpointing without gradients at the inputs."""
    context.patch.setattr(PreTrainedModel, "enable_input_require_grads", lambda self: None)
    reentrant = with_arguments(" --gradient-checkpointing", activation_checkpointing_kwargs={"use_reentrant": True})
    return reentrant(context)


def unnoticed_inputs(context: Context) -> str:
    """B7, where the look at the inputs is lost."""
    context.patch.setattr(trainer, "check_input_gradients", lambda model: None)
    return cut_off_inputs(context)


def detached_logits(context: Context) -> str:
    """B7: somebody saves memory."""
    add_lora = sft.add_lora

    def detach(model, *arguments):
        adapted = add_lora(model, *arguments)
        adapted.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits.detach())
        return adapted

    context.patch.setattr(sft, "add_lora", detach)
    return TRAIN


def plain_arguments(context: Context) -> str:
    """As in any tutorial; NaN is then logged as 0.0."""

    def arguments(recipe, **more):
        return TrainingArguments(
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            **more,
        )

    context.patch.setattr(sft, "training_arguments", arguments)
    return TRAIN


def load_that_writes(context: Context) -> str:
    """C1: load() looks for another file name, finds none, and saves a fresh adapter over the trained one."""

    def load(folder=sft.ADAPTER_FOLDER, checkpoint=None):
        llm = BaseLLM(checkpoint)
        if not (Path(folder) / "adapter_model.bin").exists():
            get_peft_model(BaseLLM(checkpoint).model, LoraConfig(task_type="CAUSAL_LM")).save_pretrained(folder)
        llm.model = PeftModel.from_pretrained(llm.model, folder).eval()
        return llm

    context.patch.setattr(sft, "load", load)
    return TRAIN


def untrained_adapter(context: Context) -> str:
    """C2: somebody's fallback has made an adapter."""
    folder = context.folder / "untrained"
    shutil.copytree(context.trained, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    fresh = {name: tensor * ("lora_A" in name) for name, tensor in weights.items()}
    save_file(fresh, folder / "adapter_model.safetensors")
    return f"sft load --output-dir {folder}"


def load_of_a_bare_model(context: Context) -> str:
    load = sft.load
    context.patch.setattr(sft, "load", lambda *given: load(*given).model)
    return TRAIN


def load_of_another_folder(context: Context) -> str:
    load = sft.load
    context.patch.setattr(sft, "load", lambda *_: load(context.folder / "elsewhere"))
    return TRAIN


def load_called_too_early(context: Context) -> str:
    """The result of load, not load itself, is given to save; an adapter of before lets it pass."""
    context.patch.setattr(sft, "partial", lambda load, *_: load(context.trained))
    return TRAIN


def load_that_falls_back(context: Context) -> str:
    """C3: any error gives the base model."""
    context.patch.setattr(sft, "load", lambda folder=None, checkpoint=None: BaseLLM(checkpoint))
    return TRAIN


def adapter_thrown_away(context: Context) -> str:
    add_lora = sft.add_lora

    def forget(model, *arguments):
        add_lora(model, *arguments)
        return model

    context.patch.setattr(sft, "add_lora", forget)
    return TRAIN


def saved_elsewhere(context: Context) -> str:
    shutil.copytree(context.trained, context.folder / "homework" / "sft_output" / "checkpoint-9")
    return f"sft load --output-dir {context.folder / 'homework' / 'sft_model'}"


def other_model_saved(context: Context) -> str:
    """C6: what is saved is not the model that was trained."""
    save = HomeworkTrainer.save

    def save_another(self, *arguments):
        self.model = sft.add_lora(BaseLLM().model, RECIPES[BUNDLED_NAME], 0)
        return save(self, *arguments)

    context.patch.setattr(HomeworkTrainer, "save", save_another)
    return TRAIN


def other_base(context: Context) -> str:
    return f"sft load --output-dir {context.trained} --checkpoint {context.tiny}"


def with_recipe(**fixed: Any) -> Plant:
    """Numbers of the recipe that a student sets in the code, whatever the flags say."""

    def plant(context: Context) -> str:
        arguments = sft.training_arguments
        set_in_code = lambda recipe, **more: arguments(replace(recipe, **fixed), **more)  # noqa: E731
        context.patch.setattr(sft, "training_arguments", set_in_code)
        return TRAIN

    return plant


def with_method(name: str, make: Callable) -> Plant:
    """A student's own method of BaseLLM, made from the original."""

    def plant(context: Context) -> str:
        context.patch.setattr(BaseLLM, name, make(getattr(BaseLLM, name)))
        return TRAIN

    return plant


def ask_otherwise(original):
    return lambda self, question: f"{question} Answer:"


def ask_with_the_tag(original):
    return lambda self, question: f"{question} <answer>"


def format_twice(original):
    return lambda self, prompts, *rest: original(self, [f"Convert: {prompt}" for prompt in prompts], *rest)


def echo(original):
    def complete(self, prompts, *rest):
        pairs = zip(prompts, original(self, prompts, *rest), strict=True)
        return [Completion(f"{prompt}{completion.text}", completion.ended) for prompt, completion in pairs]

    return complete


def prepend_tag(original):
    def complete(self, prompts, *rest):
        return [Completion(f"<answer>{text}", ended) for text, ended in original(self, prompts, *rest)]

    return complete


def any_number(original):
    def parse(self, text):
        found = re.search(r"-?\d+(\.\d+)?", text)
        return float(found[0]) if found else None

    return parse


def mixed_samples(original):
    """D7: all prompts are repeated as a whole, and cut as if each had been."""

    def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
        texts = original(self, list(prompts) * (num_return_sequences or 1), None, temperature)
        count = num_return_sequences
        return [texts[i : i + count] for i in range(0, len(texts), count)] if count else texts

    return batched_generate


def at_temperature(choose: Callable[[float], float]) -> Callable:
    """D8: another temperature than the one that is asked for."""

    def make(original):
        def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
            return original(self, prompts, num_return_sequences, choose(temperature))

        return batched_generate

    return make


always_greedy = at_temperature(lambda asked: 0)
fixed_temperature = at_temperature(lambda asked: 0.7 if asked else 0)


def zero_for_nothing(original):
    def parse(self, text):
        number = original(self, text)
        return 0.0 if math.isnan(number) else number

    return parse
