"""Many texts of a model after each of many prompts, kept as they come, so that an interruption loses none.

What all prompts begin with is read once, and texts that have ended leave the batch: transformers' generate reads the
whole prompt again for each text, and goes on with every row until the last one ends.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from homework.base_llm import BaseLLM, Completion, plan_batches
from homework.common.errors import HomeworkError

# Rows times tokens of one batch: on a CPU what its caches hold, on a GPU 2 GiB of keys and values on SmolLM2-360M.
CPU_SLOTS, GPU_SLOTS = 16_384, 65_536
SHRINK = 0.8  # ended rows are taken out when so few of the batch are left: each time copies keys and values
RECORD = "samples.jsonl"
TOLD_EVERY = 20  # seconds, where no bar can be drawn: in a log
Texts = list[Completion]


class SampleRecord:
    """The texts of a run in its folder, by round and question; a question's texts are written in one line.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        self.rounds: dict[int, dict[int, Texts]] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                number, index, texts = json.loads(line)
                completions = [Completion(*text) for text in texts]
            except (ValueError, TypeError):  # the last line of a killed process
                continue
            self.rounds.setdefault(number, {})[index] = completions

    def texts_of(self, index: int) -> Texts:
        """All texts of a question, those of the first round first."""
        return [text for number in sorted(self.rounds) for text in self.rounds[number].get(index, [])]

    def add(self, number: int, sampled: Mapping[int, Texts]) -> None:
        """Append the texts of some questions.

        Raises:
            HomeworkError: if the disk is full.
        """
        self.rounds.setdefault(number, {}).update(sampled)
        lines = [json.dumps([number, index, texts]) for index, texts in sampled.items()]
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + "\n".join(lines) + "\n")  # whatever a killed process left is a line of its own
        except OSError as error:
            raise HomeworkError(
                f"can't write samples to {self.path} ({error.strerror}): free space, then the same command goes on"
            ) from error


def sample_round(
    llm: BaseLLM,
    prompts: Mapping[int, str],
    number: int,
    count: int,
    temperature: float,
    seed: int,
    record: SampleRecord,
) -> None:
    """Sample `count` texts for each prompt in round `number`, but for those that the record has; it gets them all.

    Args:
        llm: the model; its `max_new_tokens` bounds each text.
        prompts: formatted prompts, by the index of their question.
        number: of the round; another round draws other texts.
        count: how many texts a prompt.
        temperature: above 0.
        seed: the same one gives the same texts on one machine, after an interruption too.
        record: of the run.
    """
    known = record.rounds.get(number, {})
    rows = {index: llm.encode_prompt(prompt) for index, prompt in prompts.items() if index not in known}
    with tqdm(total=len(rows), unit="question", disable=None, delay=2, leave=False) as bar:
        done, started = 0, time.monotonic()
        told = started
        slots = (CPU_SLOTS if llm.device == "cpu" else GPU_SLOTS) // count
        indices = list(rows)
        for batch in plan_batches([len(row) for row in rows.values()], llm.max_new_tokens, slots):
            chunk = [indices[at] for at in batch]
            noise = torch.stack([draw_noise((seed, number, index), count, llm.max_new_tokens) for index in chunk])
            sampled = sample_or_explain([rows[index] for index in chunk], llm, temperature, noise)
            record.add(number, dict(zip(chunk, sampled, strict=True)))
            bar.update(len(chunk))
            done += len(chunk)
            if bar.disable and time.monotonic() > told + TOLD_EVERY:
                told = time.monotonic()
                print(f"  {done} of {len(rows)}, {(told - started) * (len(rows) / done - 1):.0f} s to go", flush=True)


def draw_noise(key: tuple[int, int, int], count: int, cap: int) -> Tensor:
    """Numbers within 0 to 1 (count, cap), which depend on the key alone: on no other question of the batch."""
    seed = int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:8], "big") >> 1
    return torch.rand(count, cap, generator=torch.Generator().manual_seed(seed))


def sample_or_explain(rows: list[list[int]], llm: BaseLLM, temperature: float, noise: Tensor) -> list[Texts]:
    """As `sample`.

    Raises:
        HomeworkError: if the memory is too small.
    """
    try:
        return sample(rows, llm, temperature, noise)
    except torch.OutOfMemoryError as error:
        raise HomeworkError(
            f"out of memory with {noise.shape[1]} texts of {len(rows)} questions at once: a smaller --oversample, and "
            "what is sampled so far is kept"
        ) from error


def sample(rows: list[list[int]], llm: BaseLLM, temperature: float, noise: Tensor) -> list[Texts]:
    """The texts after each of B prompts.

    Args:
        rows: the ids of the prompts.
        llm: the model.
        temperature: above 0.
        noise: (B, N, cap) within 0 to 1: which token each of N texts takes at each step.
    """
    count = noise.shape[1]
    cap = int(min(noise.shape[2], llm.context - max(map(len, rows))))
    with torch.inference_mode():
        cache, logits, mask = read_prompts(llm, rows)
        cache.batch_repeat_interleave(count)
        cache.layers = [RoomyLayer(layer, cap) if type(layer) is DynamicLayer else layer for layer in cache.layers]
        logits, mask = logits.repeat_interleave(count, dim=0), mask.repeat_interleave(count, dim=0)
        ids = write_texts(llm, cache, logits, mask, temperature, noise[:, :, :cap].flatten(0, 1).to(llm.device))
    texts = [llm.decode_completion(row) for row in ids]
    return [texts[start : start + count] for start in range(0, len(texts), count)]


class RoomyLayer(DynamicLayer):
    """Keys and values (B, H, T, D) of a layer, with room for those of `room` more tokens.

    The layer that it takes the place of copies all of them for each new token: half of the time of sampling.
    """

    def __init__(self, layer: Any, room: int) -> None:
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self.length = layer.keys.shape[-2]
        self.stored = [torch.cat([old, old.new_empty(*old.shape[:2], room, old.shape[3])], dim=2) for old in
                       (layer.keys, layer.values)]  # fmt: skip
        self.keys, self.values = layer.keys, layer.values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write what is new behind what is there; all of it."""
        end = self.length + key_states.shape[-2]
        for stored, new in zip(self.stored, (key_states, value_states), strict=True):
            stored[:, :, self.length : end] = new
        self.length = end
        self.keys, self.values = (stored[:, :, :end] for stored in self.stored)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows of the batch."""
        self.stored = [stored[indices] for stored in self.stored]
        self.keys, self.values = (stored[:, :, : self.length] for stored in self.stored)


def read_prompts(llm: BaseLLM, rows: list[list[int]]) -> tuple[DynamicCache, Tensor, Tensor]:
    """Keys and values of the prompts, the logits of the first new token (B, V), and the attention mask (B, T).

    The ids that all rows begin with are read once. What follows is padded on the left, behind them.
    """
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
    shared = min(len(list(columns)), min(map(len, rows)) - 1)  # each row keeps a last token of its own
    cache: Any = DynamicCache(config=llm.model.config)
    if shared:
        prefix = torch.tensor([rows[0][:shared]], device=llm.device)
        llm.model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(rows))
    own = [row[shared:] for row in rows]
    width = max(map(len, own))
    ids = torch.tensor([[llm.pad_id] * (width - len(row)) + row for row in own], device=llm.device)
    padding = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in own], device=llm.device)
    mask = torch.cat([padding.new_ones(len(rows), shared), padding], dim=1)
    logits = forward(llm, ids, mask, cache)
    return cache, logits, mask


def forward(llm: BaseLLM, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """The logits (B, V) after the new ids (B, t), of which the mask (B, T) says where padding is; the cache grows."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = llm.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    return output.logits[:, -1]


def write_texts(
    llm: BaseLLM, cache: DynamicCache, logits: Tensor, mask: Tensor, temperature: float, noise: Tensor
) -> list[list[int]]:
    """The new ids of each row, up to EOS or the width of the noise (B, cap)."""
    eos, cap = llm.tokenizer.eos_token_id, noise.shape[1]
    written: list[list[int]] = [[] for _ in range(len(logits))]
    rows = list(range(len(logits)))  # which text each row of the batch is
    for step in range(cap):
        chances = (logits.float() / temperature).softmax(-1).cumsum(-1)
        chosen = torch.searchsorted(chances, noise[rows, step, None] * chances[:, -1:]).clamp(max=chances.shape[1] - 1)
        ended = []
        for row, token in zip(rows, chosen[:, 0].tolist(), strict=True):
            if eos not in written[row][-1:]:
                written[row].append(token)
            ended.append(written[row][-1] == eos)
        going = [index for index, is_ended in enumerate(ended) if not is_ended]
        if not going or step == cap - 1:
            break
        if len(going) < SHRINK * len(rows):
            kept = torch.tensor(going, device=llm.device)
            cache.batch_select_indices(kept)
            mask, chosen, rows = mask[kept], chosen[kept], [rows[index] for index in going]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        logits = forward(llm, chosen, mask, cache)
    return written
