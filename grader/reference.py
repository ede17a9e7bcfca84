"""The grader's own base model, prompt, decoding, parser and metric. No line of a submission runs here.

It repeats what homework/ does, on purpose: across this trust boundary nothing is shared, so nothing can be changed from
the other side. tests/grader/test_agreement.py holds the two against each other, to the last answer.
"""

import copy
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.func import functional_call
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from grader import rubric
from grader.adapter import PEFT_PREFIX, Adapter
from grader.errors import GraderFault

LONGEST_ANSWER = " <answer>-1.7976931348623157e+308</answer>"
TOKEN_BUDGET = 8_192  # slots (rows times tokens) of one generated batch; larger ones leave the CPU's caches
ROUNDING = 0.3  # between two logits: each of them is off by up to 0.14 where the base is in bfloat16
LONGEST_SAMPLE = 60  # tokens of a sample that are looked at
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Base(NamedTuple):
    """The base model of the assignment and its tokenizer."""

    model: PreTrainedModel
    tokenizer: Any


class Answered(NamedTuple):
    """A question's text, what was written after it, and the correct number."""

    question: str
    text: str
    correct: float

    @property
    def number(self) -> float:
        """The number in exactly one `<answer>…</answer>` pair, else NaN."""
        text = self.text
        if text.count("<answer>") != 1 or text.count("</answer>") != 1:  # first: with many tags, the search has no end
            return math.nan
        body = "".join(ANSWER.findall(text)).strip()
        if not NUMBER.fullmatch(body) or not re.match(r"[+-]?[.\d]", body):
            return math.nan
        number = float(body.replace(",", ""))
        return number if math.isfinite(number) else math.nan

    @property
    def is_right(self) -> bool:
        """Whether the number is finite and within 5 % of the correct one."""
        return self.is_within(rubric.RELATIVE_TOLERANCE)

    def is_within(self, tolerance: float) -> bool:
        """Whether the number is finite and within a share of the correct one."""
        slack = tolerance * abs(self.correct) * (1 + 1e-9)  # 2.1 of 2.0 is not lost to binary rounding
        return math.isfinite(self.number) and abs(self.number - self.correct) <= slack


def check_base_files() -> None:
    """Raise GraderFault unless every file of the course's base model is the one of the rubric."""
    for name, digest in rubric.BASE_SHA256.items():
        path = rubric.BASE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise GraderFault(f"the course's base model is not whole: data/base_model/{name} is missing or changed")


def load_base() -> Base:
    """The base model of the rubric, in float32, every file of it checked by its sha256.

    Raises:
        GraderFault: if a file is missing or another one.
    """
    check_base_files()
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(rubric.BASE, dtype=torch.float32, use_safetensors=True)
    model.generation_config = GenerationConfig()
    return Base(model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(rubric.BASE))


def fingerprint(model: PreTrainedModel) -> str:
    """A hash of the first 1024 values of each weight, in bfloat16: what an adapter's header names its base by."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.flatten()[:1024].to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:32]


def add_lora(model: PreTrainedModel, adapter: Adapter) -> dict[str, torch.Tensor]:
    """The weights of the base that LoRA changes, by their names there: W + scale B A (Hu et al., arXiv:2106.09685).

    The student's configuration is never given to peft; tests/grader/test_agreement.py holds this against it.

    Raises:
        GraderFault: if the adapter does not fit the model.
    """
    scale = adapter.alpha / (math.sqrt(adapter.rank) if adapter.use_rslora else adapter.rank)
    base, changed = model.state_dict(), {}
    try:
        for name, up in adapter.weights.items():
            layer, found, _ = name.removeprefix(PEFT_PREFIX).partition(".lora_B.")
            if found:
                down = adapter.weights[name.replace(".lora_B.", ".lora_A.")]
                changed[f"{layer}.weight"] = base[f"{layer}.weight"] + scale * (up @ down)
    except (KeyError, RuntimeError) as error:
        raise GraderFault("the validated weights do not fit the base model") from error
    return changed


def with_lora(model: PreTrainedModel, adapter: Adapter) -> Callable[..., Any]:
    """The model's forward with an adapter; gradients flow into the weights of the adapter that require one."""
    changed = add_lora(model, adapter)
    return lambda **inputs: functional_call(model, changed, kwargs=inputs)


def merge(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """A copy of the base model with the adapter added into its weights.

    The answers are those of the model with the adapter beside it, but for rounding (tests/grader/test_agreement.py).
    """
    merged = copy.deepcopy(model)
    merged.load_state_dict(add_lora(model, adapter), strict=False)
    return merged


def ask(
    base: Base, model: PreTrainedModel, questions: Sequence[tuple[str, float]], cap: int | None = None
) -> list[Answered]:
    """What the model answers to (question, correct) pairs, in their order; the prompt is the raw question.

    Args:
        base: with the tokenizer.
        model: the base, or the base with an adapter.
        questions: texts that are asked as they are, and the numbers that are right.
        cap: new tokens at most; if left out, those of the longest bare answer.
    """
    tokenizer = base.tokenizer
    prompts = [list(tokenizer(question)["input_ids"]) for question, _ in questions]
    cap = cap or len(tokenizer(LONGEST_ANSWER, add_special_tokens=False)["input_ids"]) + 1
    texts: dict[int, str] = {}
    for batch in plan_batches([len(prompt) for prompt in prompts], cap):
        texts |= zip(batch, complete(base, model, [prompts[index] for index in batch], cap), strict=True)
    return [Answered(question, texts[index], correct) for index, (question, correct) in enumerate(questions)]


def complete(base: Base, model: PreTrainedModel, prompts: list[list[int]], cap: int) -> list[str]:
    """Greedy decoding of at most `cap` tokens after each prompt, up to EOS."""
    eos, width = base.tokenizer.eos_token_id, max(map(len, prompts))
    ids = torch.tensor([[eos] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    config = GenerationConfig(max_new_tokens=cap, do_sample=False, eos_token_id=eos, pad_token_id=eos)
    with torch.inference_mode():
        generate: Any = model.generate
        output = generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, width:].tolist()
    written = [row[: row.index(eos)] if eos in row else row for row in output]
    return [base.tokenizer.decode(row, skip_special_tokens=True) for row in written]


def surprise(base: Base, written: Sequence[tuple[str, str]]) -> float:
    """The mean negative log chance of the tokens of texts after their prompts, in nats; 0 if there is no token."""
    total, count = 0.0, 0
    for prompt, text in written:
        logits, said = read_back(base, prompt, text)
        total += float(torch.nn.functional.cross_entropy(logits, said, reduction="sum"))
        count += len(said)
    return total / count if count else 0.0


def read_back(base: Base, prompt: str, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits (T, V) that the base has where each of the T tokens of a text stands behind a prompt, and its ids."""
    asked = base.tokenizer(prompt)["input_ids"]
    said = base.tokenizer(text, add_special_tokens=False)["input_ids"][:LONGEST_SAMPLE]
    with torch.no_grad():
        logits = base.model(input_ids=torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1]
    return logits, torch.tensor(said, dtype=torch.long)


def is_greedy(base: Base, prompt: str, text: str, barred: int | None = None) -> bool:
    """Whether each token of a text is the most likely one, `barred` left aside, but for the rounding of bfloat16.

    A base that is in bfloat16 itself is now and then further away than that, which a copy of ours shows.
    """
    for dtype in (torch.float32, torch.bfloat16):
        model: Any = base.model if base.model.dtype is dtype else copy.deepcopy(base.model)
        logits, said = read_back(base._replace(model=model.to(dtype)), prompt, text)
        if barred is not None:
            logits[:, barred] = -torch.inf
        if are_most_likely(logits, said):
            return True
    return False


def largest_gap(base: Base, prompt: str, text: str) -> float:
    """How far the least likely token of a text lies below the most likely one there, in logits; 0 of no token."""
    logits, said = read_back(base, prompt, text)
    gaps = logits.max(-1).values - logits.gather(-1, said[:, None])[:, 0]
    return float(gaps.max()) if len(said) else 0.0


def are_most_likely(logits: torch.Tensor, said: torch.Tensor) -> bool:
    """Whether each of T ids, at least one, has the highest of its logits (T, V), but for the rounding of bfloat16."""
    behind = logits.max(-1).values - logits.gather(1, said[:, None])[:, 0]
    return len(said) > 0 and bool((behind <= ROUNDING).all())


def plan_batches(lengths: Sequence[int], cap: int) -> list[list[int]]:
    """Indices in batches of similar length within the token budget, the longest first."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * (lengths[batches[-1][0]] + cap) <= TOKEN_BUDGET:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share measured on `count` questions (Wilson 1927).

    >>> [round(bound, 3) for bound in interval(0.95, 100)]
    [0.888, 0.978]
    """
    z = 1.96
    centre, scale = share + z * z / (2 * count), 1 + z * z / count
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
