"""homework/base_llm.py: what the student's code reads and generates, beside what the grader reads and generates."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, NoReturn

from grader import reference
from grader.course import Course
from grader.errors import Refusal, Stopped
from grader.harness.decoding import (
    MOST_SURPRISE,
    SHORTEST,
    begin_alike,
    end_alike,
    find_fault,
    forms,
    is_start,
    is_written,
)
from grader.harness.harness import Harness
from grader.harness.inputs import COLD
from grader.harness.table_model import answer_to
from grader.reference import Base

RELATED = 4  # characters of the model's text that one with a fault of `generate` has to hold
COLDEST = 20 * COLD  # below the largest logit: a chance of e^-20 at that temperature
LEAST_CAP = 16  # tokens: labels have up to 15
QUESTIONS = 5  # that `answer` is asked, one of them without an answer, and one twice
LEFT = "pad on the left for generation, with an attention_mask (padding_side='left')"


def test_parser(code: Harness) -> None:
    """parse_answer reads the number between the tags, and gives NaN where there is none."""
    found = code.answering.value("parse_answer")
    texts = code.texts
    refuse_unless_list(found, len(texts), "parse_answer")
    for (text, wanted), number in zip(texts, found, strict=True):
        refuse_other_type(number, f"parse_answer({text!r}) is")
        if not is_number(number):
            raise Refusal(f"parse_answer({text!r}) is {number!r:.60}, not a number", expected=f"{wanted:g}",
                          do="return float('nan') where there is no answer")  # fmt: skip
        if not same(number, wanted):
            raise Refusal(f"parse_answer({text!r}) is {number:g}", expected=f"{wanted:g}",
                          do="read what stands between <answer> and </answer>")  # fmt: skip


def test_generate(code: Harness, course: Course) -> None:
    """generate gives what the model writes after the prompt, without the prompt, word for word."""
    found = code.answering.value("generate")
    refuse_unless_texts(found, len(code.prompts), "generate")
    refuse_other_texts(code, course, "generate", found, "decode the new tokens only, and change nothing in them")
    refuse_small_cap(course, found, code.written)
    for at, (text, wanted) in enumerate(zip(found, code.written, strict=True)):
        more = text.strip()[len(wanted.strip()) :] if is_start(text, wanted) else ""
        if more and reference.complete(course.base, course.base.model, [code.ids[at]], 72)[0] == wanted:
            refuse_more(course, code.prompts[at], text, wanted, more)


def refuse_small_cap(course: Course, found: Sequence[str], written: Sequence[str]) -> None:
    """Refuse texts that end before the model's where answers go on; above that, the cap is the submission's choice.

    One alone is no cap: in bfloat16, an EOS that is almost as likely may end it.
    """
    pairs = [(text.strip(), wanted.strip()) for text, wanted in zip(found, written, strict=True)]
    cut = [(text, wanted) for text, wanted in pairs if text != wanted and wanted.startswith(text)]
    counts = [len(course.base.tokenizer(text, add_special_tokens=False)["input_ids"]) for text, _ in cut]
    if sum(count < LEAST_CAP for count in counts) > 1:
        raise Refusal(f"generate stops after {max(counts)} tokens, before the model does: max_new_tokens is too small",
                      expected=f"{cut[0][1]!r}"[:120], actual=f"{cut[0][0]!r}"[:120],
                      do="the longest answer needs about 30 tokens; EOS ends the others sooner")  # fmt: skip


def refuse_more(course: Course, prompt: str, text: str, wanted: str, more: str) -> None:
    """Refuse a text that goes on where the model ends, and say what keeps it from ending.

    In bfloat16, a token that is almost as likely as EOS may go on.
    """
    eos, do = course.base.tokenizer.eos_token_id, "stop at EOS, and decode with skip_special_tokens=True"
    is_plain = course.base.tokenizer.eos_token not in more
    if is_plain and any(reference.is_greedy(course.base, prompt, form) for form in forms(text)):
        return
    barred = any(reference.is_greedy(course.base, prompt, form, barred=eos) for form in forms(text))
    cause = f"generate goes on with {more!r:.40} where the model ends"
    raise Refusal(f"{cause}: min_new_tokens keeps it from EOS" if barred else cause, expected=f"{wanted!r}"[:120],
                  do="leave min_new_tokens and min_length out: EOS ends an answer" if barred else do)  # fmt: skip


def test_padding(code: Harness, course: Course) -> None:
    """batched_generate gives each prompt the same text as generate, however long the others are."""
    found = code.answering.value("batched_generate")
    refuse_unless_texts(found, len(code.prompts), "batched_generate")
    refuse_other_texts(code, course, "batched_generate", found, LEFT, alone_of(code))


def test_num_return_sequences(code: Harness, course: Course) -> None:
    """With num_return_sequences=n, batched_generate gives a list of n texts for each prompt, drawn at random."""
    for count in (1, 3):
        name = f"batched_generate n={count}"
        found = code.answering.value(name)
        refuse_unless_list(found, 2, name)
        for texts in found:
            refuse_unless_texts(texts, count, f"{name}, for one prompt,")
    if all(len({text.strip() for text in texts}) == 1 for texts in found):  # right samples of one prompt: one in 40
        raise Refusal("at temperature 1, batched_generate gives the same text again and again",
                      actual=f"{found[0][0]!r}"[:120], do="sample (do_sample=True) above temperature 0")  # fmt: skip
    refuse_foreign_samples(code, course, found)
    refuse_mixed_prompts(code)
    refuse_kept_options(code, course)
    refuse_ignored_temperature(code, course)


def refuse_foreign_samples(code: Harness, course: Course, found: list[list[str]]) -> None:
    """Refuse samples that the model practically never writes after their prompts.

    Of a batch, a text that keeps its special tokens ends in many: the model wrote the first, padding are the others.
    """
    prompts, padding = (code.prompts[0], code.prompts[-1]), rf"(?:{re.escape(course.base.tokenizer.eos_token)})+$"
    ended = [[re.sub(padding, course.base.tokenizer.eos_token, text) for text in texts] for texts in found]
    written = [(prompt, text) for prompt, texts in zip(prompts, ended, strict=True) for text in texts]
    if reference.surprise(course.base, written) > MOST_SURPRISE:
        raise Refusal("at temperature 1, batched_generate gives what is no text of the model",
                      actual=f"{found[0][0]!r}"[:120], do="return what model.generate samples")  # fmt: skip


def refuse_kept_options(code: Harness, course: Course) -> None:
    """Refuse texts at temperature 0 that were the model's before it sampled, and are not any more."""
    before, after = code.answering.value("batched_generate"), code.answering.value("batched_generate few")
    if not is_texts(before, len(code.prompts)) or not is_texts(after, 4) or not is_generate_right(code, course):
        return  # which is told elsewhere
    trios = list(zip(code.prompts, before, code.written, strict=True))
    if not all(is_written(course.base, *trio) for trio in trios):
        return
    for (prompt, one, wanted), other in zip(trios[:4], after, strict=True):
        if not is_written(course.base, prompt, other, wanted):
            raise Refusal("after samples were drawn, batched_generate gives other texts at temperature 0 than before",
                          expected=f"{one!r}"[:120], actual=f"{other!r}"[:120],
                          do="give do_sample and temperature to each call of generate; keep none of them")  # fmt: skip


def refuse_ignored_temperature(code: Harness, course: Course) -> None:
    """Refuse samples at a temperature near 0 most of which are neither the submission's texts at 0 nor right ones."""
    found, greedy = code.answering.value("batched_generate cold"), code.answering.value("batched_generate few")
    refuse_unless_list(found, 4, "batched_generate n=2")
    refuse_unless_texts(greedy, 4, "batched_generate")
    cold = [
        str(text).strip()[:SHORTEST] in (own.strip()[:SHORTEST], wanted.strip()[:SHORTEST])
        or is_cold(course.base, prompt, str(text))
        for prompt, texts, own, wanted in zip(code.prompts[:4], found, greedy, code.written[:4], strict=True)
        for text in (texts if isinstance(texts, list) else [])
    ]
    # Half of them begin alike at temperature 1, too: the base is sure of the first words of an answer.
    if sum(cold) < 0.75 * len(cold) or not cold:
        raise Refusal(f"at temperature {COLD}, batched_generate gives other texts than the most likely ones",
                      expected=f"{greedy[0]!r}"[:120], actual=f"{found[0]!r}"[:120],
                      do="pass the temperature on to generate")  # fmt: skip


def is_cold(base: Base, prompt: str, text: str) -> bool:
    """Whether each token is nearly the most likely one: at that temperature, two that are close are both drawn."""
    return bool(text.strip()) and any(reference.largest_gap(base, prompt, form) < COLDEST for form in forms(text))


def refuse_mixed_prompts(code: Harness) -> None:
    """Refuse texts that stand in the list of another prompt, on a model whose texts are known."""
    found = code.answering.value("batched_generate of questions")
    questions = code.questions[:-1]  # a prompt that stands twice is a matter of padding
    refuse_unless_list(found, len(questions), "batched_generate n=3")
    for texts in found:
        refuse_unless_texts(texts, 3, "batched_generate n=3, for one prompt,")
    numbers = [[f"{reference.Answered('', text, 0.0).number:.0f}" for text in texts] for texts in found]
    wanted = [[f"{answer_to(question, code.number):.0f}"] * 3 for question in questions]
    if numbers != wanted and sorted(chain(*numbers)) == sorted(chain(*wanted)):  # the right texts in other lists
        raise Refusal("with num_return_sequences=3, batched_generate mixes up its prompts", actual=f"{found!r}"[:120],
                      do="the texts of one prompt stand together, in the order of the prompts")  # fmt: skip


def test_answer(code: Harness) -> None:
    """answer gives one number for each question, NaN where the model gave none; generation and parser are given."""
    found = code.answering.value("answer")
    prompts = code.answering.value("format_prompt of questions")
    refuse_unless_list(prompts, QUESTIONS, "format_prompt, question by question,")
    refuse_unless_list(found, QUESTIONS, "answer")
    for question, prompt in zip(code.questions, prompts, strict=True):
        if prompt != question:
            raise Refusal(f"format_prompt gives {prompt!r:.80}, but the rows of the training begin with the question "
                          "alone: what differs was never trained", expected=question, actual=f"{prompt!r}"[:120],
                          do="ask exactly as in training: the raw question")  # fmt: skip
    for prompt, number in zip(prompts, found, strict=True):
        wanted = answer_to(str(prompt), code.number)
        if not is_number(number) or not same(number, wanted):
            raise Refusal(f"answer gives {str(number)[:60]} where the model wrote " +
                          (f"<answer>{code.number}</answer>" if wanted == wanted else "no answer"),
                          expected=f"{wanted:.0f}", do="answer is parse_answer of what was generated")  # fmt: skip


def refuse_other_texts(
    code: Harness, course: Course, name: str, found: list[str], do: str, alone: Sequence[str] = ()
) -> None:
    """Refuse texts that are not the model's, in float32 or bfloat16.

    Args:
        code: what was asked.
        course: the base model.
        name: of the method.
        found: its texts.
        do: the advice where they are others.
        alone: what `generate` gave: the same text is right here too, with what is wrong in it told there.
    """
    for at, (prompt, text, wanted) in enumerate(zip(code.prompts, found, code.written, strict=True)):
        if alone and text == alone[at] and is_related(text, wanted):
            continue
        if not is_written(course.base, prompt, text, wanted):
            refuse_other_text(code, course, name, at, found, do)


def is_texts(found: Any, count: int) -> bool:
    """Whether this is a list of so many texts."""
    return isinstance(found, list) and len(found) == count and all(isinstance(text, str) for text in found)


def is_related(text: str, wanted: str) -> bool:
    """Whether a text holds the beginning of the model's, or is one: nothing, or anything, is not."""
    text, wanted = text.strip(), wanted.strip()
    return bool(text) and (wanted[:RELATED] in text or wanted.startswith(text))


def refuse_other_text(code: Harness, course: Course, name: str, at: int, found: list[str], do: str) -> NoReturn:
    """Refuse a text that is not the model's, the one of the prompt `at`, and say what is wrong with it."""
    prompt, text, wanted = code.prompts[at], found[at].strip(), code.written[at].strip()
    details = {"expected": f"{wanted!r}"[:120], "actual": f"{text!r}"[:120]}
    if text.startswith(prompt.strip()):
        raise Refusal(f"{name} gives the prompt back before the model's text", **details,
                      do="cut the first input_ids.shape[1] tokens off before decoding")  # fmt: skip
    is_cut = bool(text) and begin_alike(found, code.written)
    if is_cut and end_alike(course.base, found, code.written):
        raise Refusal(f"{name} stops after {text!r:.40}, before the model does: max_new_tokens is too small", **details,
                      do="the longest answer needs about 30 tokens; EOS ends the others sooner")  # fmt: skip
    if is_cut:
        raise Refusal(f"{name} ends with {text!r:.40}, where the model goes on", **details,
                      do="only EOS and max_new_tokens end a text: cut nothing off")  # fmt: skip
    if fault := find_fault(course.base, code.prompts, alone_of(code), code.written, asked_twice(code)):
        raise Refusal(f"{name} {fault.cause}", **details, do=fault.do)
    if not text:
        raise Refusal(f"{name} gives nothing after {prompt!r:.60}", **details, do=do)
    raise Refusal(f"{name} gives another text than the model writes after {prompt!r:.60}", **details, do=do)


def is_generate_right(code: Harness, course: Course) -> bool:
    """Whether all texts of `generate` are the model's; where they are not, that is told by its own check alone."""
    trios = zip(code.prompts, alone_of(code), code.written, strict=True)
    return all(is_written(course.base, *trio) for trio in trios)


def alone_of(code: Harness) -> list[str]:
    """What `generate` gave for each prompt; where it gave no texts, those of the model: then nothing is known of it."""
    found: Any = code.answering.lines.get("generate", {}).get("value")
    return found if is_texts(found, len(code.prompts)) else code.written


def asked_twice(code: Harness) -> list[tuple[str, str]]:
    """What batched_generate gave for the prompts in two jobs, pair by pair; nothing where one of them has failed."""
    try:
        later: Any = code.labels.lines.get("generate later", {}).get("value")
    except Stopped:  # homework/sft.py can't be imported, which is told elsewhere
        return []
    found: list[Any] = [code.answering.lines.get("batched_generate", {}).get("value"), later]
    return list(zip(*found, strict=True)) if all(is_texts(texts, len(code.prompts)) for texts in found) else []


def refuse_unless_list(found: Any, count: int, name: str) -> None:
    """Refuse what is no list of so many."""
    if not isinstance(found, list) or len(found) != count:
        actual = f"a list of {len(found)}" if isinstance(found, list) else f"{found!r}"[:80]
        raise Refusal(f"{name} does not give a list of {count}", expected=f"a list of {count}", actual=actual,
                      do="one entry for each prompt or question, in their order")  # fmt: skip


def refuse_unless_texts(found: Any, count: int, name: str) -> None:
    """Refuse what is no list of so many texts."""
    refuse_unless_list(found, count, name)
    if wrong := [text for text in found if not isinstance(text, str)]:
        raise Refusal(f"{name} gives {wrong[0]!r:.60} where a text belongs", do="return texts, not ids, lists or None")


def refuse_other_type(value: Any, words: str) -> None:
    """Refuse, by its name, a type that a job can't write as JSON where a float belongs: a Decimal, a Fraction."""
    if isinstance(value, dict) and "__type__" in value:
        raise Refusal(f"{words} a {value['__type__']!s:.40}, not a float", do="return float(...)")


def is_number(value: Any) -> bool:
    """Whether a value is a number, NaN included; an integer beyond all floats is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 1e300


def same(one: float, other: float) -> bool:
    """Whether two numbers are the same but for the rounding of float32, or both NaN."""
    return abs(one - other) <= 1e-7 * abs(other) if one == one and other == other else one != one and other != other
