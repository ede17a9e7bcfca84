"""A causal language model that answers questions: load, generate, parse.

    python -m homework.base_llm test                      # what the base model says before fine-tuning
    python -m homework.base_llm test --checkpoint HuggingFaceTB/SmolLM2-360M-Instruct

torch and transformers are imported where they are used: they take seconds, and ``--help`` should not.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from homework.common.base_model import (
    check_checkpoint,
    load_model,
    load_tokenizer,
    pick_device,
    resolve_checkpoint,
    stable_name,
)
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.data import BenchmarkResult, Dataset, take_rows

# The longest float that Python writes; no bare answer needs more tokens.
LONGEST_ANSWER = " <answer>-1.7976931348623157e+308</answer>"
# Slots (rows times tokens) of one generated batch. On a CPU, more of them leave its caches and take a fifth longer; a
# GPU wants more work at a time: 2 GiB of keys and values on SmolLM2-360M in float32.
CPU_BUDGET, GPU_BUDGET = 8_192, 16_384
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
checkpoint: str  # what BaseLLM() loads, a folder or a hub name, for notebooks that ask for it: see __getattr__


class Completion(NamedTuple):
    """What the model wrote after a prompt, and whether it ended by itself (EOS) rather than at the cap."""

    text: str
    ended: bool


def parse_answer(text: str) -> float:
    """The number in exactly one `<answer>…</answer>` pair, else NaN: a missing answer is never a number.

    Without its closing tag an answer is not whole: what the model has written of it may be cut.

    Example: '<answer>1234.5</answer>' -> 1234.5, 'about 5' -> nan, '<answer>42' -> nan
    """
    # BEGIN SOLUTION task 1: parse_answer
    # Hint: ANSWER finds what stands between the tags, NUMBER says what a number may look like; math.nan is no answer.
    found = ANSWER.findall(text)
    if len(found) != 1 or text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return math.nan
    body = found[0].strip()
    if not NUMBER.fullmatch(body) or not re.match(r"[+-]?[.\d]", body):
        return math.nan
    number = float(body.replace(",", ""))
    return number if math.isfinite(number) else math.nan
    # END SOLUTION


class BaseLLM:
    """A tokenizer and a model on one device.

    Args:
        checkpoint: a folder or a hub name; without it the environment variable HOMEWORK_CHECKPOINT, else the bundled
            model. The choice is printed, and nothing else is ever tried instead.

    Raises:
        HomeworkError: if the checkpoint is missing, incomplete or can't be reached.
    """

    def __init__(self, checkpoint: str | Path | None = None) -> None:
        self.checkpoint, chosen_by = resolve_checkpoint(checkpoint)
        self.device, dtype, reason = pick_device()
        print(f"base model: {self.name} ({chosen_by}) on {self.device} in {str(dtype).split('.')[-1]}: {reason}")
        downloaded = check_checkpoint(self.checkpoint)
        self.load_options = (dtype, downloaded)
        self.tokenizer: Any = load_tokenizer(self.checkpoint, downloaded)
        self.model: Any = self.reload_model()

    def reload_model(self) -> Any:
        """The base model, loaded anew."""
        model: Any = load_model(self.checkpoint, *self.load_options)
        model.name_or_path = self.name  # what an adapter will call its base
        return model.to(self.device).eval()

    @property
    def name(self) -> str:
        """The checkpoint's name, the same on every machine: never a path of this one."""
        return stable_name(self.checkpoint)

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of one completion: a bare answer and EOS. A class whose model writes more sets its own."""
        return len(self.tokenizer(LONGEST_ANSWER, add_special_tokens=False)["input_ids"]) + 1

    @property
    def context(self) -> float:
        """The most tokens that the model reads, prompt and completion; infinity for a family without a limit."""
        return getattr(self.model.config, "max_position_embeddings", math.inf)

    @property
    def pad_id(self) -> int:
        """The id that fills a batch. It is always masked by length, so any id serves, even EOS."""
        pad_id = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad_id is None else pad_id

    def format_prompt(self, question: str) -> str:
        """The prompt of a question: the raw question, exactly as in training."""
        # BEGIN SOLUTION task 1: format_prompt
        # Hint: the ids of the prompt have to be the first ids of the training row.
        return question
        # END SOLUTION

    def parse_answer(self, text: str) -> float:
        """As the function `parse_answer`: the number between the tags, else NaN."""
        return parse_answer(text)

    def generate(self, prompt: str) -> str:
        """What the model writes after one prompt, without the prompt."""
        return self.complete([prompt])[0].text

    def batched_generate(
        self, prompts: Sequence[str], num_return_sequences: int | None = None, temperature: float = 0
    ) -> list[str] | list[list[str]]:
        """What the model writes after each prompt, in the order of the prompts.

        Args:
            prompts: formatted prompts.
            num_return_sequences: None gives one text a prompt; a number gives a list of so many texts a prompt.
            temperature: 0 is greedy (several sequences are then copies); above 0 samples.
        """
        # BEGIN SOLUTION task 1: batched_generate
        # Hint: self.complete gives one completion for each prompt, in their order; greedy sequences are copies.
        if num_return_sequences is None:
            return [completion.text for completion in self.complete(prompts, temperature)]
        if num_return_sequences < 1:
            raise HomeworkError(f"num_return_sequences must be at least 1, got {num_return_sequences}")
        if temperature == 0:
            return [[completion.text] * num_return_sequences for completion in self.complete(prompts)]
        repeated = [prompt for prompt in prompts for _ in range(num_return_sequences)]
        texts = [completion.text for completion in self.complete(repeated, temperature)]
        return [texts[i : i + num_return_sequences] for i in range(0, len(texts), num_return_sequences)]
        # END SOLUTION

    def complete(self, prompts: Sequence[str], temperature: float = 0) -> list[Completion]:
        """One completion for each prompt, in their order; batches of similar length run under a token budget."""
        from tqdm import tqdm

        if isinstance(prompts, str):
            raise HomeworkError("the prompts must be a list of texts, not one text: use generate for one")
        check_temperature(temperature)
        rows = [self.encode_prompt(prompt) for prompt in prompts]
        cap = self.max_new_tokens
        budget = CPU_BUDGET if self.device == "cpu" else GPU_BUDGET
        done: dict[int, Completion] = {}
        # The bar is for people: it stays away from files and from jobs of under two seconds.
        with tqdm(total=len(rows), unit="answer", disable=None, delay=2, leave=False) as bar:
            for batch in plan_batches([len(row) for row in rows], cap, budget):
                room = int(min(cap, self.context - len(rows[batch[0]])))  # the first one is the longest
                completions = self.complete_batch([rows[index] for index in batch], room, temperature)
                done |= dict(zip(batch, completions, strict=True))
                bar.update(len(batch))
        return [done[index] for index in range(len(rows))]

    def encode_prompt(self, prompt: str) -> list[int]:
        """The token ids of a prompt.

        Raises:
            HomeworkError: for an empty prompt, or one that the model can't read whole.
        """
        if not isinstance(prompt, str):
            raise HomeworkError(f"a prompt must be a text, got {prompt!r:.80}")
        ids = self.tokenizer(prompt)["input_ids"]
        if not ids or len(ids) >= self.context:
            most = self.context - 1
            raise HomeworkError(f"a prompt has {len(ids)} tokens, but the model reads 1 to {most}: {prompt!r:.80}")
        return ids

    def complete_batch(self, rows: list[list[int]], cap: int, temperature: float) -> list[Completion]:
        """Generate at most `cap` tokens after each row of ids, padded on the left for this call only."""
        # BEGIN SOLUTION task 1: complete_batch
        # Hint: pad on the left, with an attention mask of 0 there, so that every prompt ends where writing begins.
        # Hint: self.model.generate with a GenerationConfig of its own gives prompt and completion; cut the prompt off.
        import torch
        from transformers import GenerationConfig

        eos = self.tokenizer.eos_token_id
        width = max(map(len, rows))
        input_ids = torch.tensor([[eos] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        sampling = (
            {"do_sample": True, "temperature": float(temperature), "top_k": 0} if temperature else {"do_sample": False}
        )
        config = GenerationConfig(max_new_tokens=cap, eos_token_id=eos, pad_token_id=eos, **sampling)
        with torch.inference_mode():
            output = self.model.generate(input_ids=input_ids, attention_mask=mask, generation_config=config)
        return [self.decode_completion(row) for row in output[:, width:].tolist()]
        # END SOLUTION

    def decode_completion(self, ids: list[int]) -> Completion:
        """The text of generated ids up to the first EOS."""
        eos = self.tokenizer.eos_token_id
        ended = eos in ids
        kept = ids[: ids.index(eos)] if ended else ids
        return Completion(self.tokenizer.decode(kept, skip_special_tokens=True), ended)

    def answer(self, *questions: str) -> list[float]:
        """The model's answers, NaN where it gave none that is well formed."""
        # BEGIN SOLUTION task 1: answer
        # Hint: format, generate in one batch, parse.
        prompts = [self.format_prompt(question) for question in questions]
        texts: list[Any] = self.batched_generate(prompts)
        return [self.parse_answer(text) for text in texts]
        # END SOLUTION


def check_temperature(temperature: float) -> None:
    """Raise HomeworkError unless the temperature is 0 (greedy) or one to sample with."""
    if not (temperature == 0 or 0.01 <= temperature <= 100):
        raise HomeworkError(f"temperature must be 0 or within 0.01 to 100, got {temperature}")


def plan_batches(lengths: Sequence[int], cap: int, budget: int) -> list[list[int]]:
    """Indices in batches of similar length, each of at most `budget` slots (or a single row), longest first.

    Example: lengths=[3, 9, 4], cap=1, budget=10 -> [[1], [2, 0]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * (lengths[batches[-1][0]] + cap) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def score(llm: BaseLLM, rows: Sequence[tuple[str, float]]) -> tuple[BenchmarkResult, list[Completion]]:
    """As `benchmark`, with the text behind each answer and whether it ended by itself."""
    completions = llm.complete([llm.format_prompt(question) for question, _ in rows])
    return BenchmarkResult.from_answers(rows, [llm.parse_answer(text) for text, _ in completions]), completions


def test_model(*, checkpoint: str | None = None, questions: int = 20) -> None:
    """Print what the base model says to some questions of `valid`, and its accuracy on them.

    Args:
        checkpoint: folder or hub name of the base model.
        questions: how many questions to ask.
    """
    rows = take_rows(Dataset("valid"), questions)
    llm = BaseLLM(checkpoint)
    result, completions = score(llm, rows)
    for (question, correct), completion in zip(rows[:5], completions, strict=False):
        print(f"  {question}\n    correct {correct:g}, model wrote {completion.text!r}")
    print(f"accuracy {result.accuracy:.3f}, answer rate {result.answer_rate:.3f} on {len(rows)} questions of valid")


def __getattr__(name: str) -> Any:
    # Not a constant: HOMEWORK_CHECKPOINT may be set after this module was imported.
    if name == "checkpoint":
        return resolve_checkpoint(None)[0]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


COMMANDS = {"test": test_model}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.base_llm")
