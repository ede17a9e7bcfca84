"""A model that follows a script: what generation is proved with, because it says what it is given and how it is asked.

python -m homework.check              # rehearses with it (homework/rehearsal.py)
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from homework.base_llm import BaseLLM


class ScriptedModel:
    """Stands where the model stands: records what it is given, and writes `reply` and EOS after each row.

    Without a reply it answers each row with a number of its own, its count of tokens in ten-millionths, so that rows
    can be told apart. All else, its settings for one, is the real model's.
    """

    def __init__(self, llm: "BaseLLM", reply: Sequence[int] | None) -> None:
        self.real, self.tokenizer, self.reply = llm.model, llm.tokenizer, reply
        self.asked: list[list[int]] = []
        self.caps: list[int] = []
        self.complaint: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def eval(self) -> "ScriptedModel":
        """As a real model's."""
        return self

    def generate(self, *arguments: Any, **options: Any) -> "torch.Tensor":
        """As `transformers`' generate: the given ids (B, T) and what was written after them."""
        import torch

        ids = options.get("input_ids", arguments[0] if arguments else None)
        mask = options.get("attention_mask", torch.ones_like(ids))
        asked = [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
        self.asked += asked
        self.complaint = self.complaint or diagnose_padding(mask) or self.diagnose_decoding(options)
        cap = read_option(options, "max_new_tokens")
        self.caps += [cap] if cap else []
        copies = options.get("num_return_sequences") or 1
        replies = [row for prompt in asked for row in [self.reply_to(prompt)] * copies]
        width = max(map(len, replies))
        eos = self.tokenizer.eos_token_id
        written = torch.tensor([row + [eos] * (width - len(row)) for row in replies]).to(ids)
        return torch.cat([ids.repeat_interleave(copies, dim=0), written], dim=1)

    def reply_to(self, prompt: list[int]) -> list[int]:
        """The ids that are written after a prompt, EOS included."""
        if self.reply is not None:
            return [*self.reply, self.tokenizer.eos_token_id]
        text = f" <answer>{len(prompt)}e-7</answer>"
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]

    def diagnose_decoding(self, options: dict[str, Any]) -> str | None:
        """Decoding that is not greedy, or does not stop at EOS."""
        eos, penalty = read_option(options, "eos_token_id"), read_option(options, "repetition_penalty")
        if eos not in (None, self.tokenizer.eos_token_id, [self.tokenizer.eos_token_id]):
            return f"generation stops at token {eos}, but training taught EOS, {self.tokenizer.eos_token_id}"
        if read_option(options, "do_sample"):
            return "generation samples where temperature is 0: an answer must not depend on luck (do_sample=False)"
        if penalty not in (None, 1.0):
            return f"generation has a repetition_penalty of {penalty}: digits repeat, so leave it out"
        return None


def read_option(options: dict[str, Any], name: str) -> Any:
    """An option of generate, given by itself or in its generation_config."""
    given = options.get(name)
    return getattr(options.get("generation_config"), name, None) if given is None else given


def diagnose_padding(mask: "torch.Tensor") -> str | None:
    """A batch (B, T) whose rows do not end with a real token, all of them."""
    return None if bool(mask[:, -1].all()) else PADDING


PADDING = (
    "a batch of prompts of different length reaches the model wrongly: pad on the left, with attention_mask 0 there, "
    "so that each prompt ends where the model goes on"
)


def script(llm: "BaseLLM", reply: Sequence[int] | None) -> "tuple[BaseLLM, ScriptedModel]":
    """A copy of `llm` whose model writes `reply`."""
    actor = copy.copy(llm)
    actor.model = ScriptedModel(llm, reply)
    return actor, actor.model
