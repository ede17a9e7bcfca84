"""Why texts are not the model's: what a wrong call of `generate` leaves in them, told by the grader's own model.

It is asked only where texts were found to be others, so that right ones cost nothing here.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from grader import reference
from grader.reference import Base

SHORTEST = 12  # characters that a text has to share with the grader's; the caps of tokens may differ
MOST_SURPRISE = 5.5  # nats a token: samples have 1.4 to 3.4, random letters more than 7
PENALTIES = (1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0)  # that are looked for, as repetition_penalty
ANY_OPTION = (
    "give the model the prompt as it is, and take its most likely tokens: do_sample=False, no repetition_penalty, "
    "num_beams or other option that changes them"
)


class Fault(NamedTuple):
    """What is wrong with the call of `generate`, as what follows the name of a method, and what to do about it."""

    cause: str
    do: str


def is_start(text: str, wanted: str) -> bool:
    """Whether a text is what was wanted; the one may be cut earlier than the other."""
    text, wanted = text.strip(), wanted.strip()
    shared = min(len(text), len(wanted))
    return text[:shared] == wanted[:shared] and (shared >= SHORTEST or shared == len(wanted))


def is_written(base: Base, prompt: str, text: str, wanted: str) -> bool:
    """Whether a text is what was wanted, or what the base in bfloat16 may write: almost equal tokens part there.

    A short one has to be whole, with its end: else it may be the beginning of a right one.
    """
    if is_start(text, wanted):
        return True
    end = "" if len(text.strip()) >= SHORTEST else base.tokenizer.eos_token
    return bool(text.strip()) and any(reference.is_greedy(base, prompt, f"{form}{end}") for form in forms(text))


def forms(text: str) -> tuple[str, str]:
    """A text, and the same with the first space that may be cut off."""
    return text, f" {text.lstrip()}"


def begin_alike(texts: Sequence[str], written: Sequence[str]) -> bool:
    """Whether each text is the beginning of the model's, or goes on after it."""
    pairs = [(text.strip(), wanted.strip()) for text, wanted in zip(texts, written, strict=True)]
    return all(text.startswith(wanted) or wanted.startswith(text) for text, wanted in pairs)


def end_alike(base: Base, texts: Sequence[str], written: Sequence[str]) -> bool:
    """Whether all texts that end before the model's hold one number of its tokens, but for spaces that are cut off."""
    pairs = zip(texts, written, strict=True)
    held = [count_held(base, text, wanted) for text, wanted in pairs if len(text.strip()) < len(wanted.strip())]
    return max(held, default=0) - min(held, default=0) <= 2


def count_held(base: Base, text: str, wanted: str) -> int:
    """How many tokens of the model's text begin within its beginning; that beginning alone has others, ` a` or `a`."""
    end = len(wanted) - len(wanted.lstrip()) + len(text.strip())
    encoded = base.tokenizer(wanted, add_special_tokens=False, return_offsets_mapping=True)
    return sum(start < end for start, _ in encoded["offset_mapping"])


def find_fault(
    base: Base, prompts: Sequence[str], texts: Sequence[str], written: Sequence[str], twice: Sequence[tuple[str, str]]
) -> Fault | None:
    """What is wrong with a call of `generate` that gave these texts, or None where they are right, or no model's.

    Args:
        base: the model.
        prompts: what was asked.
        texts: what came back for each of them, asked alone.
        written: what the base writes after each of them.
        twice: what came back for the same prompts, asked for two times in the same way; may be empty.
    """
    trios = list(zip(prompts, texts, written, strict=True))
    wrong = [(prompt, text) for prompt, text, wanted in trios if not is_written(base, prompt, text, wanted)]
    if not any(text.strip() for _, text in wrong):  # nothing at all is no way of decoding
        return None
    if other := next(((one, two) for one, two in twice if one != two), None):
        return Fault(f"samples at temperature 0: asked twice, it gives {other[0]!r:.50} and {other[1]!r:.50}",
                     "do_sample=False at temperature 0: an answer must not depend on luck")  # fmt: skip
    if times := count_templates(base, prompts, texts):
        return Fault(f"puts the chat template around its prompt{' twice' * (times > 1)}: the model is asked another "
                     "text", "ask exactly as in training: the prompt as it is, without a template")  # fmt: skip
    if penalty := find_penalty(base, prompts, texts):
        return Fault(f"gives what the model writes with a repetition_penalty of about {penalty:g}",
                     "leave it out: the digits of an answer repeat")  # fmt: skip
    is_changed = all(wanted.strip()[:SHORTEST] in text for _, text, wanted in trios)
    if is_changed or reference.surprise(base, wrong) > MOST_SURPRISE:
        return None
    return Fault(f"gives other tokens than the most likely ones after {wrong[0][0]!r:.60}", ANY_OPTION)


def count_templates(base: Base, prompts: Sequence[str], texts: Sequence[str]) -> int:
    """How many chat templates around each prompt make the model write all these texts; 0 where none does."""
    asked = list(prompts)
    for times in (1, 2):
        asked = [as_chat(base, prompt) for prompt in asked]
        ids = [list(base.tokenizer(prompt)["input_ids"]) for prompt in asked]
        written = reference.complete(base, base.model, ids, 64)
        if all(is_written(base, *trio) for trio in zip(asked, texts, written, strict=True)):
            return times
    return 0


def as_chat(base: Base, prompt: str) -> str:
    """A prompt as the turn of a user, open for the turn of the assistant."""
    turns = [{"role": "user", "content": prompt}]
    return str(base.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def find_penalty(base: Base, prompts: Sequence[str], texts: Sequence[str]) -> float | None:
    """The repetition_penalty with which the base writes all these texts, or None."""
    left = set(PENALTIES)
    for prompt, text in zip(prompts, texts, strict=True):
        left &= set(penalties_of(base, prompt, text)) if text.strip() else left
    return min(left, default=None)


def penalties_of(base: Base, prompt: str, text: str) -> Iterator[float]:
    """The penalties with which a text is the most likely one after its prompt."""
    asked = base.tokenizer(prompt)["input_ids"]
    seen = [(reference.read_back(base, prompt, form)) for form in forms(text)]
    for penalty in PENALTIES:
        if any(reference.are_most_likely(penalize(logits, asked, said, penalty), said) for logits, said in seen):
            yield penalty


def penalize(logits: torch.Tensor, asked: Sequence[int], said: torch.Tensor, penalty: float) -> torch.Tensor:
    """The logits (T, V) with which `generate` chooses under a repetition_penalty: the ids before are less likely."""
    changed = logits.clone()
    for at in range(len(said)):
        ids = torch.tensor(sorted({*asked, *said[:at].tolist()}))
        values = changed[at, ids]
        changed[at, ids] = torch.where(values < 0, values * penalty, values / penalty)
    return changed
