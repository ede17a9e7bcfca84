"""What takes the place of a submission's own function while the ones that build upon it are tested: one fault, once.

All of it repeats what the grader gave for these very inputs; there is nothing here that could answer another one.
"""

import contextlib
import importlib
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch

SAMPLING = ("num_return_sequences", "temperature")  # of batched_generate, in this order

Row = dict[str, list[int]]
FIELDS = ("input_ids", "attention_mask", "labels")


def put(module: Any, name: str, stand_in: Callable, *given: Any) -> None:
    """Put a stand-in in the place of a function of a module, wherever else the homework holds it; none for none."""
    if (own := getattr(module, name, None)) is None:
        return
    new = stand_in(*given, own)
    setattr(module, name, new)
    for holder in [found for key, found in sys.modules.items() if key.partition(".")[0] == "homework"]:
        for held in [key for key, found in vars(holder).items() if found is own]:
            setattr(holder, held, new)  # a helper module calls it by its own name, and so does what imported it


def formatting(texts: dict[str, str], own: Callable | None) -> Callable:
    """A format_example that gives each known question the grader's text of its answer."""

    def stand_in(question: str, *given: Any, **more: Any) -> dict[str, str]:
        if question not in texts and own is not None:
            return own(question, *given, **more)
        return {"question": question, "answer": texts[question]}

    return stand_in


def tokenizing(rows: dict[str, Row], own: Callable) -> Callable:
    """A tokenize that gives known texts the grader's ids and labels, in the form of its own rows."""

    def stand_in(tokenizer: Any, question: str, answer: str, *given: Any, **more: Any) -> Any:
        right = rows.get(f"{question} {answer}")
        if right is None:
            return own(tokenizer, question, answer, *given, **more)
        found: Any = {}
        with contextlib.suppress(Exception):  # how it fails is told where it is tested itself
            found = own(tokenizer, question, answer, *given, **more)
        return like(found, right, tokenizer.pad_token_id)

    return stand_in


def like(own: Any, right: Row, pad_id: int) -> dict[str, Any]:
    """A right row as long as its own, padded on the right, and as tensors where its own is."""
    ids: Any = own.get("input_ids", [])
    is_padded = "attention_mask" in own and 0 in list(own["attention_mask"])
    missing = max(0, len(ids) - len(right["input_ids"])) if is_padded else 0
    fills = dict(zip(FIELDS, (pad_id, 0, -100), strict=True))
    row: dict[str, Any] = {name: right[name] + [fill] * missing for name, fill in fills.items()}
    return {name: torch.tensor(values) for name, values in row.items()} if isinstance(ids, torch.Tensor) else row


def judging(right: list[list[Any]], own: Callable) -> Callable:
    """An is_answer_valid that says of known pairs what the grader says."""
    known = {(repr(float(answer)), repr(float(correct))): valid for answer, correct, valid in right}

    def stand_in(answer: float, correct: float, *given: Any, **more: Any) -> bool:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return known[repr(float(answer)), repr(float(correct))]
        return own(answer, correct, *given, **more)

    return stand_in


def scripted(llm: Any, texts: dict[str, str], numbers: dict[str, float]) -> Any:
    """A model that writes known texts after known prompts, and reads known numbers in them; answer is its own."""
    complete, parse = llm.batched_generate, llm.parse_answer

    def batched_generate(prompts: Iterable[str], *given: Any, **more: Any) -> Any:
        asked = list(prompts)
        known = not given and not more and all(prompt in texts for prompt in asked)
        return [texts[prompt] for prompt in asked] if known else complete(asked, *given, **more)

    llm.batched_generate = batched_generate
    llm.generate = lambda prompt, *given, **more: batched_generate([prompt])[0]
    llm.parse_answer = reading(numbers, parse)
    return llm


def reading(numbers: dict[str, float], own: Callable) -> Callable:
    """A parse_answer that reads known numbers in known texts."""
    return lambda text: numbers[text] if text in numbers else own(text)


class Script:
    """Texts that stand in the place of what a model samples, by the question that its prompt holds.

    Args:
        texts: by question, (text, whether the model ended it by itself) each; they come again and again, in this order,
            and go on where the last call has stopped.
        greedy: by question, what it writes where nothing is sampled: those calls are not noted.
        example: the question that stands before it in a right prompt, once; an empty text where that is not known.
    """

    def __init__(self, texts: dict[str, list[tuple[str, bool]]], greedy: dict[str, str], example: str) -> None:
        self.texts, self.greedy, self.example = texts, greedy, example
        self.misformatted = ""  # the first prompt that is a question alone, or that was put into a prompt again
        self.next = {question: itertools.cycle(each) for question, each in texts.items()}
        self.asked: list[list[Any]] = []  # question, or a prompt without one; number of texts; temperature

    def take_over(self, model: Any) -> None:
        """Put the texts in the place of all ways in which the homework lets the model write."""
        model.batched_generate, own = self.stand_in(model.batched_generate), model.generate
        model.generate = lambda llm, prompt, *given, **more: (
            self.write_greedily(llm, [prompt]) or [own(llm, prompt, *given, **more)]
        )[0]
        with contextlib.suppress(ImportError):
            sampling: Any = importlib.import_module("homework.training.sampling")
            completion = importlib.import_module("homework.base_llm").Completion
            sampling.sample = lambda rows, llm, temperature, noise, *given, **more: [
                [completion(*text) for text in self.take(llm.tokenizer.decode(row), noise.shape[1], temperature)]
                for row in rows
            ]

    def stand_in(self, own: Callable) -> Callable:
        """A batched_generate that gives the texts, also the greedy ones of known questions; else its own answers."""

        parameters = inspect.signature(own).parameters.items()
        defaults = {
            name: parameter.default for name, parameter in parameters if parameter.default is not parameter.empty
        }

        def batched_generate(llm: Any, prompts: Iterable[str], *given: Any, **more: Any) -> Any:
            asked, named = list(prompts), {**defaults, **dict(zip(SAMPLING, given, strict=False)), **more}
            num_return_sequences, temperature = (named.get(name) for name in SAMPLING)
            if not isinstance(llm.model, torch.nn.Module):  # a check put something for the model
                return own(llm, asked, *given, **more)
            if not num_return_sequences and not temperature:
                return self.write_greedily(llm, asked) or own(llm, asked, *given, **more)
            taken = [self.take(prompt, num_return_sequences or 1, temperature or 0) for prompt in asked]
            texts = [[text for text, _ in each] for each in taken]
            return texts if num_return_sequences else [each[0] for each in texts]

        return batched_generate

    def write_greedily(self, llm: Any, prompts: list[str]) -> list[str]:
        """The greedy texts; none for a question that is not known, or where a check put something for the model."""
        asked = [self.question_in(prompt) for prompt in prompts]
        is_known = all(asked) and isinstance(llm.model, torch.nn.Module)
        return [self.greedy[question] for question in asked] if is_known else []

    def take(self, prompt: str, count: int, temperature: float) -> list[tuple[str, bool]]:
        """So many texts for the question of a prompt; empty ones where none is known."""
        question = self.question_in(prompt)
        if self.example and (prompt.strip() == question or prompt.count(self.example) > 1):
            self.misformatted = self.misformatted or prompt
        self.asked.append([question or prompt, count, float(temperature)])
        return list(itertools.islice(self.next[question], count)) if question else [("", True)] * count

    def question_in(self, prompt: str) -> str:
        """The known question that stands last in a prompt; an empty text where none does."""
        known = [one for one in self.texts if one in prompt]
        return max(known, key=lambda one: (prompt.rindex(one) + len(one), len(one)), default="")
