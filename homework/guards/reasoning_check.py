"""The reasoning check: the prompt that makes a model reason, the rule that accepts a sample, and the rows to train on.

A wrong chain with the right answer shows in no loss; it is learned.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from homework.base_llm import ANSWER, BaseLLM, Completion, parse_answer
from homework.common.equations import TOLERANCE, chain_key, find_equations
from homework.common.errors import HomeworkError
from homework.data import Dataset, ListLike, is_answer_valid
from homework.guards.inference_check import encode, refuse_first, with_stub

ROLES = re.compile(r"\s*(<\|im_start\|>|assistant\b|user\b|system\b)", re.IGNORECASE)
NO_TAG = (
    "the prompt shows no <answer>NUMBER</answer>: how should the model know?\nthe worked example is a turn of the chat"
)
NO_CHAIN = "the prompt shows an answer and no equation before it\nthe worked example writes out how it is computed"
LEAST_ROOM = 90  # tokens: no chain of a value of three digits takes more in the bundled tokenizer; of four, 144
ReasonedRow = tuple[str, float, str]  # question, answer, reasoning
Chat = list[dict[str, str]]


# --- task 5: the prompt ---


def check_worked_example(example: tuple[str, str], valid: ListLike[tuple[str, float]]) -> None:
    """Raise HomeworkError unless an example is a question, none of `valid`, with a chain that holds to its end."""
    if not isinstance(example, tuple) or len(example) != 2 or not all(isinstance(text, str) for text in example):
        raise HomeworkError(f"worked_example gives {example!r:.80}, not two texts: a question and its answer")
    if any(question == example[0] for question, _ in valid):
        raise HomeworkError(f"the worked example {example[0]!r:.60} is a question of valid: take another one")
    if complaint := diagnose_chain(example[1]):
        raise HomeworkError(f"the worked example: {complaint}\ncompute each side of it by hand, and copy the last one")
    asked, used = (set(re.findall(r"\d[\d.,]*\d|\d", text)) for text in example)
    if not asked & used:
        raise HomeworkError(f"the worked example computes with no number of its question, {example[0]!r:.60}")


def check_cot_prompt(llm: BaseLLM, train: ListLike[tuple[str, float]], valid: ListLike[tuple[str, float]]) -> None:
    """Raise HomeworkError unless the prompt shows a right chain, and asks the question by the chat template.

    Args:
        llm: the model with its `format_prompt`; its own weights are not used.
        train: questions to sample on.
        valid: questions of which none may stand in the prompt.
    """
    refuse_first(
        lambda: diagnose_turns(llm, train[0][0]),
        lambda: diagnose_shown(llm, train[0][0], valid),
        lambda: diagnose_asked_once(llm, train[0][0]),
        lambda: diagnose_room(llm, [*train, *valid]),
    )


def diagnose_turns(llm: BaseLLM, question: str) -> str | None:
    """A prompt without the question, or one that does not end with the turn that the model is to write."""
    prompt = llm.format_prompt(question)
    if not isinstance(prompt, str):
        return f"format_prompt gives {type(prompt).__name__}, not a text\napply_chat_template with tokenize=False"
    if prompt.count(question) != 1:
        return f"format_prompt({question!r:.60}) must be a text that holds the question once, got {prompt!r:.100}"
    wanted = render_chat(llm, [{"role": "user", "content": question}]).rpartition(question)[2]
    after = prompt.rpartition(question)[2]
    if after != wanted:
        return (
            f"after the question the prompt goes on with {after!r:.80}, where the chat template has {wanted!r:.80}: "
            "the turn of the user is not closed, or that of the assistant not open\n"
            "a list of messages by role, the question last, and add_generation_prompt=True"
        )
    return None


def check_chat_template(llm: BaseLLM) -> None:
    """Raise HomeworkError if the tokenizer has no chat template: the library's own error names neither base nor fix."""
    if not getattr(llm.tokenizer, "chat_template", None):
        raise HomeworkError(f"{llm.name} has no chat template: choose an instruct model by --checkpoint")


def render_chat(llm: BaseLLM, messages: Chat) -> str:
    """The turns by the tokenizer's chat template, open for the assistant.

    Raises:
        HomeworkError: if the tokenizer has none.
    """
    check_chat_template(llm)
    return llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def diagnose_shown(llm: BaseLLM, question: str, valid: ListLike[tuple[str, float]]) -> str | None:
    """A prompt whose examples are wrong, show no chain, or are questions of valid."""
    shown = llm.format_prompt(question).replace(question, "")
    if known := next((text for text, _ in valid if text in shown), None):
        return f"the prompt holds {known!r:.60}, a question of valid: its accuracy would be that of a model that saw it"
    tags = list(ANSWER.finditer(shown))
    starts = [0, *(tag.end() for tag in tags)]
    answered = [(shown[start : tag.start()], parse_answer(tag[0])) for start, tag in zip(starts, tags, strict=False)]
    shown_chains = [(text, answer) for text, answer in answered if find_equations(text)]
    if not shown_chains:
        return NO_CHAIN if answered else NO_TAG
    found = [complaint for text, answer in shown_chains if (complaint := diagnose_equations(text, answer))]
    return f"an example of the prompt: {found[0]}" if found else None


def diagnose_asked_once(llm: BaseLLM, question: str) -> str | None:
    """A prompt that is formatted again on its way to the model."""
    stubbed, model = with_stub(llm, encode(llm, " <answer>1</answer>"))
    stubbed.answer(question)
    prompt = llm.encode_prompt(llm.format_prompt(question))
    if model.asked[0] == prompt:
        return None
    if model.asked[0] == [token for token in prompt if token != llm.pad_id]:
        return (
            "complete_batch hides the EOS tokens of the prompt, as if they were padding: each turn of a chat has one"
            "\nattention_mask follows from the length of each prompt, not from its ids"
        )
    return (
        f"answer asks {llm.tokenizer.decode(model.asked[0])!r:.120}, which is not what format_prompt gives: the prompt "
        "is formatted twice, or not at all\nonly answer calls format_prompt; batched_generate takes prompts as they are"
    )


def diagnose_room(llm: BaseLLM, data: Sequence[tuple[str, float]]) -> str | None:
    """A prompt that leaves too few tokens for a chain, or a cap that cuts it."""
    room, length, asked = find_room(llm, data)
    if room >= LEAST_ROOM:
        return None
    return (
        f"a prompt of {length} tokens, {asked} of them the longest question, leaves {room} to write, and a chain of "
        f"three digits takes up to {LEAST_ROOM}: the model reads {llm.context}, and max_new_tokens is "
        f"{llm.max_new_tokens}\nan example of two digits, and a system message of a few words or none"
    )


def find_room(llm: BaseLLM, data: Sequence[tuple[str, float]]) -> tuple[int, int, int]:
    """Tokens that are left to write after the longest question, those of its prompt, and those of the question."""
    asked, longest = max((len(llm.tokenizer(question)["input_ids"]), question) for question, _ in data)
    length = len(llm.tokenizer(llm.format_prompt(longest))["input_ids"])
    return int(min(llm.context - length, llm.max_new_tokens)), length, asked


# --- one chain ---


def diagnose_chain(text: str) -> str | None:
    """What is wrong with a chain, whatever it answers, or None."""
    if found := ROLES.match(text):
        return f"it begins with {found[0].strip()!r}, a role of the chat: decode the new ids only"
    if math.isnan(parse_answer(text)) or text.count("<answer>") > 1:
        return f"no answer can be read in {text[-60:]!r}: it takes exactly one <answer>NUMBER</answer>"
    if not text.rstrip().endswith("</answer>"):
        return f"it goes on after the answer: {text.rpartition('</answer>')[2]!r:.60}"
    return diagnose_equations(text, parse_answer(text))


def diagnose_equations(text: str, answer: float) -> str | None:
    """What is wrong with the equations of a text, or between them and its answer."""
    equations = find_equations(text)
    if not equations:
        return f"there is no equation before the answer: {text.strip()!r:.100}"
    if wrong := next((equation for equation in equations if not equation.holds()), None):
        return f"the equation {wrong.text} is wrong: its sides are {', '.join(f'{side:g}' for side in wrong.sides)}"
    result = equations[-1].result
    if not is_answer_valid(answer, result, TOLERANCE):
        return f"the chain ends in {result:g}, but the tag holds {answer:g}"
    return None


# --- task 6: what is accepted, and what is kept ---


class Sampled(NamedTuple):
    """A text, whether the model ended it, and the fault that a rule has to see in it; None for a text to keep."""

    text: str
    ended: bool
    fault: str | None


RULE = (
    "one condition for each part of the docstring: ended, one answer, at the end, an equation, every equation holds, "
    "the last one gives the answer, the answer is within 1 %"
)
ONE_EACH = "a dictionary from chain_key to the first text with it holds each chain once"
ASKED, CORRECT = "Convert 47 ft to m.", 14.3256
RIGHT = "1 ft is 0.305 m. 47 * 0.305 = 12.2 + 2.135 = 14.34. <answer>14.34</answer>"
SAMPLED = (
    Sampled(RIGHT, True, None),
    Sampled("1 ft = 0.3048 m. 47 * 0.3048 = 14.33. <answer>14.33</answer>", True, None),
    Sampled("1 ft is 0.3024 m. 47 * 0.3024 = 12.1 + 2.117 = 14.22. <answer>14.22</answer>", True, None),
    Sampled("1 ft is 3.05e-1 m. 47 * 3.05e-1 = 1.22e1 + 2.135 = 1.434e+1. <answer>1.434e+1</answer>", True, None),
    Sampled("1 ft is 3.048E-1 m. 47 * 3.048E-1 = 1.433E1. <answer>1.433E1</answer>", True, None),
    Sampled(RIGHT, False, "it was cut at the cap"),
    Sampled(RIGHT.removesuffix("</answer>"), True, "its answer has no closing tag"),
    Sampled(f"{RIGHT} <answer>14.34</answer>", True, "it holds two answers"),
    Sampled(f"{RIGHT} So it is 14.34 m.", True, "it goes on after the answer"),
    Sampled("<answer>14.34</answer>", True, "it has no equation"),
    Sampled("1 ft is 0.305 m. <answer>14.34</answer>", True, "it has no equation"),
    Sampled(RIGHT.replace("47 * 0.305", "47 * 0.311"), True, "an equation is wrong by 2 %"),
    Sampled(RIGHT.replace("= 14.34", "= 14.62 = 14.34"), True, "an equation is wrong by 2 %"),
    Sampled("40 * 0.305 = 13.2. 47 * 0.305 = 12.2 + 2.135 = 14.34. <answer>14.34</answer>", True,
            "its first equation is wrong"),
    Sampled("40 * 0.305 = 12.2. 47 * 0.305 = 12.2 + 2.835 = 14.34. <answer>14.34</answer>", True,
            "its last equation is wrong"),
    Sampled("47 * 12 = 564. 564 * 0.0254 = 14.33. <answer>14.33</answer>", True, None),
    Sampled("1 ft is 0.305 m. 40 * 0.305 = 12.2. <answer>14.34</answer>", True, "the tag holds another result"),
    Sampled("1 ft is 0.299 m. 47 * 0.299 = 14.05. <answer>14.33</answer>", True, "the tag holds another result"),
    Sampled("1 ft is 0.2987 m. 47 * 0.2987 = 11.95 + 2.091 = 14.04. <answer>14.04</answer>", True,
            "the answer is wrong by 2 %, which a wrong factor makes: within 5 % it would be learned"),
    Sampled("1 m is 3.281 ft. 47 * 3.281 = 131.2 + 22.97 = 154.2. <answer>154.2</answer>", True, "the answer is wrong"),
)  # fmt: skip
CHAINS = (
    RIGHT,
    RIGHT.replace("1 ft is", "One foot is"),  # other words, the same chain
    "1 ft is 0.3048 m. 47 * 0.3048 = 12.19 + 2.134 = 14.32. <answer>14.32</answer>",
    RIGHT,
)


def check_find_fault(find_fault: Callable[[Completion, float], str | None]) -> None:
    """Raise HomeworkError unless the rule keeps right chains and names a fault in each wrong one."""
    for text, ended, fault in SAMPLED:
        got = find_fault(Completion(text, ended), CORRECT)
        if got is not None and not (isinstance(got, str) and got):
            raise HomeworkError(f"find_fault gives {got!r:.40}: it must be a few words, or None")
        if fault and not got and is_answer_valid(1.03, 1.0, TOLERANCE):
            raise HomeworkError("is_answer_valid (task 2) ignores its relative_tolerance, which find_fault needs")
        if fault and not got:
            raise HomeworkError(f"find_fault keeps {text!r:.120} for {ASKED!r} ({CORRECT}), but {fault}\n{RULE}")
        if got and not fault:
            raise HomeworkError(
                f"find_fault refuses {text!r:.120} for {ASKED!r} ({CORRECT}): {got}; it is right\n{RULE}"
            )


def check_select_rows(select_rows: Callable[..., list[ReasonedRow]]) -> None:
    """Raise HomeworkError unless rows are distinct chains that were sampled, as many as asked, with the true answer."""
    for texts, most, wanted in ((CHAINS, 4, 2), (CHAINS, 1, 1), (CHAINS[:2], 4, 1), ((), 4, 0)):
        rows = select_rows(ASKED, CORRECT, list(texts), most)
        check_selected(rows, ASKED, CORRECT, texts)
        if len(rows) != wanted:
            raise HomeworkError(
                f"select_rows gives {len(rows)} rows of {len(texts)} texts with {len(set(map(chain_key, texts)))} "
                f"different chains, of which at most {most} are wanted: {wanted}\n{ONE_EACH}"
            )


def check_selected(rows: Sequence[Any], question: str, correct: float, texts: Sequence[str]) -> None:
    """Raise HomeworkError unless rows are made of accepted samples of their question, each chain once."""
    if not isinstance(rows, list | tuple):
        raise HomeworkError(f"select_rows gives {rows!r:.40}: it must be a list of rows")
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 3:
            raise HomeworkError(f"select_rows gives {row!r:.80}: a row is (question, answer, reasoning)")
        if row[0] != question:
            raise HomeworkError(f"select_rows gives a row about {row[0]!r:.60}, asked was {question!r:.60}")
        if row[1] != correct:
            raise HomeworkError(
                f"select_rows labels {question!r:.60} with {row[1]!r}: train has {correct}\n"
                "the label of a row is the truth, never what the model wrote"
            )
        if row[2].strip() not in map(str.strip, texts):
            raise HomeworkError(f"select_rows gives {row[2]!r:.80}, which is no accepted sample of {question!r:.60}")
    if len({chain_key(row[2]) for row in rows}) < len(rows):
        raise HomeworkError(
            f"select_rows gives one chain twice for {question!r:.60}: only its words differ\n{ONE_EACH}"
        )


# --- task 7: the rows of a training ---


def check_reasoned_rows(rows: ListLike[ReasonedRow], train: Dataset) -> None:
    """Raise HomeworkError, naming the row, unless each is a right chain for a question of `train` and its answer."""
    answers, seen = dict(train), set()
    for index, (question, answer, reasoning) in enumerate(rows):
        if question not in answers:
            complaint: str | None = f"{question!r:.60} is no question of train: sample on train alone"
        elif answer != answers[question]:
            complaint = f"its answer is {answer:g}, that of train is {answers[question]:g}: the model's own is no label"
        elif (question, reasoning) in seen:
            complaint = "the same row stands before it"
        elif reasoning != reasoning.strip():
            complaint = "the reasoning begins or ends with white space"
        else:
            complaint = diagnose_chain(reasoning) or diagnose_distance(reasoning, answer)
        seen.add((question, reasoning))
        if complaint:
            raise HomeworkError(
                f"row {index} of the rows with reasons: {complaint}; correct find_fault, then the same "
                "python -m homework.datagen generate judges its samples anew"
            )


def diagnose_distance(reasoning: str, answer: float) -> str | None:
    """An answer that a wrong factor may have made."""
    number = parse_answer(reasoning)
    return None if is_answer_valid(number, answer, 0.011) else f"it says {number:g}, not within 1 % of {answer:g}"
