"""A rehearsal of `answer()` with a scripted model: what really reaches the model, and what becomes of its words.

    python -m homework.check              # runs it
    python -m homework.sft train          # runs it before the first step

The prompt must be the context of the training row, and the text must come back as the model wrote it. Neither shows in
the loss: a model can learn everything and answer nothing. Costs milliseconds, because no real model runs.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from homework.data import IGNORE_INDEX, Row, is_answer_valid
from homework.errors import HomeworkError, explain_error
from homework.scripted import PADDING, script

if TYPE_CHECKING:
    from homework.base_llm import BaseLLM

# What parse_answer must make of a text. Anything but one well-formed pair of tags is no answer, never a number.
PARSED = (
    ("42", math.nan),
    ("<answer>42</answer>", 42.0),
    (" <answer>-1.5e3</answer>", -1500.0),
    ("about 6 kg", math.nan),
    ("<answer>42", math.nan),
    ("<answer></answer>", math.nan),
    ("<answer>six</answer>", math.nan),
    ("", math.nan),
    ("<answer>-3</answer>", -3.0),
    ("<answer>2.5e-7</answer>", 2.5e-7),
)


# Two numbers and whether the first is a right answer where the second is correct.
JUDGED = (
    *((number, 2.0, True) for number in (2.0, 2.1, 1.9)),
    *((number, 2.0, False) for number in (2.2, 1.0, -2.0, math.nan, math.inf)),
    (0.001, 0.0, False),
    (-3.0, -3.0, True),
)


def rehearse(llm: "BaseLLM", data: Sequence[tuple[str, float]], rows: Sequence[Row]) -> None:
    """Let `llm` answer the first question with a scripted model in place of its own.

    Args:
        llm: the base model; its own weights are not used.
        data: (question, answer) pairs.
        rows: their tokenized rows, with proved labels.

    Raises:
        HomeworkError: if prompt, generation or parsing do not fit the training rows.
    """
    longest = max(sum(label != IGNORE_INDEX for label in row["labels"]) for row in rows)
    checks: tuple[Callable[[], str | None], ...] = (
        diagnose_metric,
        lambda: diagnose_vocabulary(llm, rows),
        lambda: diagnose_parser(llm),
        lambda: diagnose_generate(llm),
        lambda: diagnose_batch_of_prompts(llm, max((question for question, _ in data), key=len)),
        lambda: diagnose_prompt(llm, data[0][0], context_of(rows[0]), longest),
        lambda: diagnose_answer(llm, *data[0], rows[0]),
        lambda: diagnose_shapes(llm),
    )
    for check in checks:
        try:
            complaint = check()
        except Exception as error:  # the code between prompt and answer is the student's
            complaint = f"answering a question failed with {explain_error(error)}"
        if complaint:
            raise HomeworkError(complaint)


def context_of(row: Row) -> list[int]:
    """The ids before the first supervised one."""
    return row["input_ids"][: next(t for t, label in enumerate(row["labels"]) if label != IGNORE_INDEX)]


def encode(llm: "BaseLLM", text: str) -> list[int]:
    """The ids of a text that a model writes, where no BOS belongs."""
    return list(llm.tokenizer(text, add_special_tokens=False)["input_ids"])


def diagnose_metric() -> str | None:
    """A metric that counts wrong answers as right, or right ones as wrong."""
    for answer, correct, expected in JUDGED:
        if (got := is_answer_valid(answer, correct)) is not expected:
            return (
                f"is_answer_valid({answer}, {correct}) is {got}: right is a finite number within 5 % of the correct one"
            )
    return None


def diagnose_vocabulary(llm: "BaseLLM", rows: Sequence[Row]) -> str | None:
    """Ids that the model has no embedding for, as after adding tokens to the tokenizer."""
    highest, known = max(max(row["input_ids"]) for row in rows), llm.model.get_input_embeddings().num_embeddings
    if highest >= known:
        token = llm.tokenizer.convert_ids_to_tokens(highest)
        return f"the tokenizer gives {token!r} the id {highest}, but the model knows {known} ids: add no tokens to it"
    return None


def check_lengths(llm: "BaseLLM", data: Sequence[tuple[str, float]], split: str) -> None:
    """Raise HomeworkError unless the model can read every question of a split whole; found now, not after training."""
    limit = getattr(llm.model.config, "max_position_embeddings", math.inf)
    for index in range(len(data)):
        length = len(llm.tokenizer(llm.format_prompt(data[index][0]))["input_ids"])
        if not 0 < length < limit:
            raise HomeworkError(f"{split}, row {index}: {length} tokens, but the model reads 1 to {limit - 1}")


def diagnose_parser(llm: "BaseLLM") -> str | None:
    """A parser that takes any number, returns None, or 0.0 where there is no answer."""
    for text, expected in PARSED:
        got = llm.parse_answer(text)
        if not isinstance(got, float):
            return f"parse_answer({text!r}) returns {got!r}: it must return a float, NaN where there is no answer"
        if not (got == expected or (math.isnan(got) and math.isnan(expected))):
            rule = "no answer must be NaN, never a number" if math.isnan(expected) else "the tags hold the answer"
            return f"parse_answer({text!r}) is {got}, not {expected}: {rule}"
    return None


def diagnose_generate(llm: "BaseLLM") -> str | None:
    """A `generate` that changes its prompt, echoes it, or changes what the model wrote."""
    prompt, words = "How many apples are in a basket?", " a dozen apples"
    actor, model = script(llm, encode(llm, words))
    text = actor.generate(prompt)
    given, wanted = model.asked[0], list(llm.tokenizer(prompt)["input_ids"])
    if given != wanted:
        return (
            f"generate({prompt!r}) gives the model {llm.tokenizer.decode(given)!r:.120}: it must pass its prompt on as "
            "it is; only answer calls format_prompt, once"
        )
    if prompt in text:
        return f"generate returns the prompt as well ({text!r:.80}): decode only the ids after the prompt's"
    if text.strip() != words.strip():
        return f"the model wrote {words!r}, but generate returns {text!r:.80}: return the model's text as it is"
    return None


def diagnose_batch_of_prompts(llm: "BaseLLM", longest: str) -> str | None:
    """Questions of different length: padded on the right, cut, decoded by luck, or answered in another order."""
    questions = [longest, "One?", "How many apples are in a basket?"]
    actor, model = script(llm, None)
    given = list(actor.answer(*questions))
    if model.complaint:
        return model.complaint
    if len(given) != len(questions):
        return f"answer gives {len(given)} answers to {len(questions)} questions: one for each, NaN where there is none"
    wanted = [list(llm.tokenizer(llm.format_prompt(question))["input_ids"]) for question in questions]
    if sorted(model.asked) != sorted(wanted):
        return PADDING
    if not near(given, [len(ids) * 1e-7 for ids in wanted]):
        told = [f"{len(ids)}e-7" for ids in wanted]
        return f"answer mixes up or changes its answers: the model wrote {told}, it gives {given}"
    actor, model = script(llm, None)
    texts = actor.batched_generate([llm.format_prompt(question) for question in questions])
    told = [f"<answer>{len(ids)}e-7</answer>" for ids in wanted]
    if model.complaint or [text.strip() for text in texts] != told:
        return model.complaint or f"batched_generate mixes up its prompts: the model wrote {told}, it returns {texts}"
    return None


def near(given: list[float], wanted: list[float]) -> bool:
    """Whether numbers are the same but for rounding in the last digits."""
    return len(given) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-9) for a, b in zip(given, wanted, strict=True)
    )


def diagnose_prompt(llm: "BaseLLM", question: str, context: list[int], longest: int) -> str | None:
    """A prompt that is not the training row's context, or a cap that cuts the longest answer of the training rows."""
    actor, model = script(llm, encode(llm, " <answer>1</answer>"))
    actor.answer(question)
    given = model.asked[0]
    if given != context and "<answer>" in llm.tokenizer.decode(given):
        return (
            "the prompt at inference holds '<answer>', which is in no training prompt and not in the text that the "
            "model writes, so no answer can be read: leave the tag to the model"
        )
    if given != context:
        decode, name = llm.tokenizer.decode, llm.tokenizer.convert_ids_to_tokens
        return (
            f"inference asks {decode(given)!r:.120} (ends in {name(given[-1])!r}), but the training row begins with "
            f"{decode(context)!r:.120} (ends in {name(context[-1])!r}): format_prompt must give what tokenize masks"
        )
    if model.caps and min(model.caps) < longest:
        return (
            f"generation stops after {min(model.caps)} tokens, but answer and EOS take up to {longest}: raise the cap"
        )
    return None


def diagnose_answer(llm: "BaseLLM", question: str, correct: float, row: Row) -> str | None:
    """An `answer` that does not read what the training row teaches the model to write."""
    taught = [label for label in row["labels"] if label != IGNORE_INDEX][:-1]  # the script adds EOS
    actor, _ = script(llm, taught)
    (got,) = actor.answer(question)
    if is_answer_valid(got, correct):
        return None
    return (
        f"the model wrote {llm.tokenizer.decode(taught)!r}, just as trained, but answer reads {got}, not {correct:g}: "
        "parse the text with the tags that the prompt holds, or leave them to the model"
    )


def diagnose_shapes(llm: "BaseLLM") -> str | None:
    """A `batched_generate` whose lists are not nested as asked."""
    actor, _ = script(llm, encode(llm, " yes"))
    for copies, wanted in ((None, 2), (1, [1, 1]), (3, [3, 3])):
        texts = actor.batched_generate(["one", "two"], num_return_sequences=copies, temperature=1.0 if copies else 0)
        got = [len(part) for part in texts] if copies else len(texts)
        if got != wanted or (copies and not all(isinstance(part, list) for part in texts)):
            return (
                f"batched_generate of 2 prompts with num_return_sequences={copies} gives lists of {got}, not {wanted}"
            )
    return None
