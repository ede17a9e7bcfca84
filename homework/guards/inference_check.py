"""The inference check: what really reaches the model when a question is asked, and what becomes of the text it writes.

A stub model stands in the place of the real one. The prompt must be the context of the training row, and the text must
come back as the model wrote it. Neither shows in the loss: a model can learn everything and answer nothing. Costs
milliseconds, because no real model runs, but for a decoding loop of the student's own.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from homework.base_llm import BaseLLM, Completion
from homework.common.errors import HomeworkError, explain_error
from homework.data import IGNORE_INDEX, ListLike, Row, is_answer_valid

if TYPE_CHECKING:
    import torch

# In this file and in the others of this folder, a line that begins within a message is the hint: see HomeworkError.
PADDING = (
    "a batch of prompts of different length reaches the model wrongly: not each of them ends where the model goes on, "
    "whole, and with nothing else seen"
    "\npad on the left, with attention_mask 0 there, so that each prompt ends where the model goes on"
)
SIDE = "shorter prompts of a batch end in padding, and the model goes on after it\npad on the left, not on the right"
SEEN = "the model sees the padding of shorter prompts as if it were text\nattention_mask is 0 where padding stands"
TAG_IN_PROMPT = (
    "the prompt at inference holds '<answer>', which is in no training prompt and not in the text that the model "
    "writes, so no answer can be read\nleave the tag to the model: the prompt is the question alone"
)
# Options of generate that change what a model writes: the value without effect, and why another one does harm.
DISTORTING = {
    "repetition_penalty": (1.0, "digits repeat"),
    "no_repeat_ngram_size": (0, "digits repeat"),
    "min_new_tokens": (0, "an answer ends where the model writes EOS"),
    "min_length": (0, "an answer ends where the model writes EOS"),
    "num_beams": (1, "greedy decoding takes the most likely token at each step"),
}
# What parse_answer must make of a text. Anything but one well-formed pair of tags is no answer, never a number.
PARSED = (
    ("42", math.nan),
    ("<answer>42</answer>", 42.0),
    (" <answer>-1.5e3</answer>", -1500.0),
    ("so <answer> 6000 </answer>.", 6000.0),
    ("about 6 kg", math.nan),
    ("<answer>42", math.nan),
    ("<answer></answer>", math.nan),
    ("<answer>six</answer>", math.nan),
    ("", math.nan),
    ("<answer>-3</answer>", -3.0),
    ("<answer>2.5e-7</answer>", 2.5e-7),
    ("<answer>1.5e7</answer>", 1.5e7),
    ("<answer>1.2.3</answer>", math.nan),
)


def check_answering(llm: BaseLLM, data: ListLike[tuple[Any, ...]]) -> None:
    """All that answers a question, in the order of the student's functions: see the five checks below.

    Args:
        llm: the base model; a stub stands in the place of its own, so this takes milliseconds.
        data: (question, answer) pairs, or with the reasoning as a third.
    """
    check_parse_answer(llm)
    check_format_prompt(llm, data)
    check_generate(llm)
    check_batched_generate(llm)
    check_answer(llm, data)


def check_parse_answer(llm: BaseLLM) -> None:
    """Raise HomeworkError unless parse_answer reads what stands between the tags, and nothing else."""
    refuse_first(lambda: diagnose_parser(llm))


def check_format_prompt(llm: BaseLLM, data: ListLike[tuple[Any, ...]]) -> None:
    """Raise HomeworkError unless the prompt is the raw question, with which the training row begins."""
    refuse_first(lambda: diagnose_raw_prompt(llm, data[0][0]))


def check_generate(llm: BaseLLM) -> None:
    """Raise HomeworkError unless complete_batch and generate give the model its prompt, and return its text."""
    stubbed = (lambda: diagnose_rows(llm), lambda: diagnose_sampled_rows(llm), lambda: diagnose_generate(llm))
    if refuse_first(*stubbed):
        refuse_first(lambda: diagnose_own_decoding(llm))


def check_batched_generate(llm: BaseLLM) -> None:
    """Raise HomeworkError unless prompts of different length get their own texts, greedily or sampled as asked."""
    refuse_first(lambda: diagnose_batch_of_prompts(llm), lambda: diagnose_shapes(llm), lambda: diagnose_sampling(llm))


def check_answer(llm: BaseLLM, data: ListLike[tuple[Any, ...]]) -> None:
    """Raise HomeworkError unless answer gives each question the number that the model wrote after it."""
    longest = max((row[0] for row in data), key=len)
    refuse_first(lambda: diagnose_answers(llm, [longest, "One?", "How many apples are in a basket?"]))


def check_prompt(llm: BaseLLM, data: ListLike[tuple[Any, ...]], rows: ListLike[Row]) -> None:
    """Raise HomeworkError unless inference asks, and reads, what the training rows teach.

    Args:
        llm: the base model; its own weights are not used.
        data: (question, answer) pairs, or with the reasoning as a third.
        rows: their tokenized rows, whose labels are checked.
    """
    longest = max(sum(label != IGNORE_INDEX for label in row["labels"]) for row in rows)
    refuse_first(
        lambda: diagnose_vocabulary(llm, rows),
        lambda: diagnose_positions(llm, rows),
        lambda: diagnose_prompt(llm, data[0][0], context_of(rows[0]), longest),
        lambda: diagnose_answer(llm, data[0][0], data[0][1], rows[0]),
    )


class OwnDecodingError(Exception):
    """Raised where the model itself is called, and not its generate: a stub can't write for that."""


def refuse_first(*checks: Callable[[], str | None]) -> bool:
    """Raise HomeworkError with the first complaint; the code between prompt and answer, a student's, may raise too.

    Returns:
        whether one met a decoding loop of the student's own, which calls the model: a stub has nothing to say there.
    """
    has_own_decoding = False
    for check in checks:
        try:
            complaint = check()
        except NotImplementedError:  # a gap says itself what it is
            raise
        except OwnDecodingError:
            has_own_decoding = True
            continue
        except Exception as error:
            complaint = f"answering a question failed with {explain_error(error)}"
        if complaint:
            raise HomeworkError(complaint)
    return has_own_decoding


def context_of(row: Row) -> list[int]:
    """The ids before the first supervised one."""
    start = next(t for t, label in enumerate(row["labels"]) if label != IGNORE_INDEX)
    return [token for token, kept in zip(row["input_ids"][:start], row["attention_mask"], strict=False) if kept]


def encode(llm: BaseLLM, text: str) -> list[int]:
    """The ids of a text that a model writes, where no BOS belongs."""
    return list(llm.tokenizer(text, add_special_tokens=False)["input_ids"])


def diagnose_vocabulary(llm: BaseLLM, rows: ListLike[Row]) -> str | None:
    """Ids that the model has no embedding for, as after adding tokens to the tokenizer."""
    highest, known = max(max(row["input_ids"]) for row in rows), llm.model.get_input_embeddings().num_embeddings
    if highest >= known:
        token = llm.tokenizer.convert_ids_to_tokens(highest)
        return f"the tokenizer gives {token!r} the id {highest}, but the model knows {known} ids: add no tokens to it"
    return None


def diagnose_positions(llm: BaseLLM, rows: ListLike[Row]) -> str | None:
    """Rows that are longer than the model has positions: some families take them in silence, others fail far away."""
    limit = llm.context
    for index in range(len(rows)):
        if len(rows[index]["input_ids"]) > limit:
            return f"row {index} has {len(rows[index]['input_ids'])} tokens, but the model reads {limit}: drop the row"
    return None


def check_context(llm: BaseLLM, *splits: ListLike[tuple[Any, ...]]) -> None:
    """Raise HomeworkError unless the model reads the longest question whole: else the base is at fault, no function."""
    longest = max((split[index][0] for split in splits for index in range(len(split))), key=len, default="")
    count = len(llm.tokenizer(longest)["input_ids"])
    if count >= llm.context:
        raise HomeworkError(
            f"{llm.name} reads {llm.context} tokens, but a question of the data has {count}, without its answer: "
            f"choose a base model that reads more, or drop the row {longest!r:.80}"
        )


def check_lengths(llm: BaseLLM, data: ListLike[tuple[str, float]], split: str) -> None:
    """Raise HomeworkError unless the model can read every question of a split whole; found now, not after training."""
    limit = llm.context
    for index in range(len(data)):
        length = len(llm.tokenizer(llm.format_prompt(data[index][0]))["input_ids"])
        if not 0 < length < limit:
            raise HomeworkError(f"{split}, row {index}: {length} tokens, but the model reads 1 to {limit - 1}")


def diagnose_parser(llm: BaseLLM) -> str | None:
    """A parser that takes any number, returns None, or 0.0 where there is no answer."""
    for text, expected in PARSED:
        try:
            got = llm.parse_answer(text)
        except NotImplementedError:
            raise
        except Exception as error:
            return f"parse_answer({text!r}) raises {explain_error(error)}\nno answer must be NaN, never an error"
        if not isinstance(got, float):
            return f"parse_answer({text!r}) returns {got!r}, not a float\nmath.nan is the float for no answer"
        if not (got == expected or (math.isnan(got) and math.isnan(expected))):
            rule = "no answer must be NaN, never a number" if math.isnan(expected) else "the tags hold the answer"
            return f"parse_answer({text!r}) is {got}, not {expected}\n{rule}"
    return None


def diagnose_rows(llm: BaseLLM) -> str | None:
    """A `complete_batch` that shows the model other rows, has another cap, or returns no completions of them."""
    rows, cap = [list(llm.tokenizer(text)["input_ids"]) for text in ("One?", "How many are two dozen?")], 9
    for ends in (True, False):
        stubbed, model = with_stub(llm, encode(llm, " <answer>12</answer>"), ends)
        found: Any = stubbed.complete_batch([list(row) for row in rows], cap, 0)
        if model.complaint or model.asked != rows:
            return model.complaint or diagnose_seen(model.asked, rows)
        if model.caps != [cap]:
            said = f"complete_batch with cap={cap} lets the model write {model.caps} tokens"
            return f"{said}: its max_new_tokens is another\nit is the cap"
        if not are_completions(found):
            return f"complete_batch returns {found!r:.80}, not a list of Completion\ndecode_completion makes one of ids"
        if any(one.text.startswith("How many") for one in found):
            return f"complete_batch returns the prompt as well ({found[-1].text!r:.80})\ndecode only the new ids"
        if [one.ended for one in found] != [ends] * len(rows):
            ended = "EOS" if ends else "no EOS"
            return f"the model wrote {ended} in each of {len(rows)} rows, but complete_batch returns {found!r:.120}"
    return None


def diagnose_seen(asked: list[list[int]], rows: list[list[int]]) -> str:
    """What is wrong where the model sees other ids than those of the rows."""
    pairs = list(zip(asked, rows, strict=False))
    if all(seen[-len(row) :] == row for seen, row in pairs):
        return SEEN
    return SIDE if all(seen[: len(row)] == row for seen, row in pairs) else PADDING


def diagnose_sampled_rows(llm: BaseLLM) -> str | None:
    """A `complete_batch` that ignores the temperature."""
    stubbed, model = with_stub(llm, encode(llm, " yes"))
    stubbed.complete_batch([encode(llm, "one"), encode(llm, "two")], 9, 0.25)
    return diagnose_temperature("complete_batch", 0.25, model)


def diagnose_generate(llm: BaseLLM) -> str | None:
    """A `generate` that changes its prompt, echoes it, or changes what the model wrote."""
    prompt, words = "How many apples are in a basket?", " a dozen apples"
    stubbed, model = with_stub(llm, encode(llm, words))
    text = stubbed.generate(prompt)
    given, wanted = model.asked[0], list(llm.tokenizer(prompt)["input_ids"])
    if given != wanted:
        return (
            f"generate({prompt!r}) gives the model {llm.tokenizer.decode(given)!r:.120}, not its prompt"
            "\nit must pass its prompt on as it is; only answer calls format_prompt, once"
        )
    if prompt in text:
        return f"generate returns the prompt as well ({text!r:.80})\ndecode only the ids after the prompt's"
    if model.complaint:
        return model.complaint
    if text.strip() != words.strip():
        return f"the model wrote {words!r}, but generate returns {text!r:.80}\nreturn the model's text as it is"
    return None


def diagnose_own_decoding(llm: BaseLLM) -> str | None:
    """A decoding loop of one's own in `complete_batch` that writes other texts than the model's own generate.

    The real model runs, for nothing else can tell. Not in half precision, where two tokens that are nearly as likely
    may change places as soon as a row is computed beside others.
    """
    import torch

    prompts, cap = ("One?", "How many apples are in a basket, and how many in two?", "How many are two dozen?"), 9
    rows = [list(llm.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    if llm.model.dtype != torch.float32:
        return None
    found: Any = llm.complete_batch([list(row) for row in rows], cap, 0)
    wanted = [write_alone(llm, row, cap) for row in rows]
    if not are_completions(found) or len(found) != len(rows):
        return f"complete_batch of {len(rows)} rows returns {found!r:.120}, not a Completion for each"
    for prompt, got, right in zip(prompts, found, wanted, strict=True):
        if (got.text.strip(), got.ended) != (right.text.strip(), right.ended):
            return (
                f"after {prompt!r}, complete_batch with cap={cap} gives {got.text!r:.80} (ended by EOS: {got.ended}), "
                f"but the model's generate {right.text!r:.80} (ended by EOS: {right.ended})"
                "\na loop of your own takes the likeliest token at each step, masks padding, stops at EOS or at cap"
            )
    return None


def are_completions(found: Any) -> bool:
    """Whether this is what complete_batch has to return."""
    return isinstance(found, list) and all(isinstance(one, Completion) for one in found)


def write_alone(llm: BaseLLM, row: list[int], cap: int) -> Completion:
    """What the model's own generate writes after one row of ids, greedily."""
    import torch

    ids, eos = torch.tensor([row], device=llm.device), llm.tokenizer.eos_token_id
    options = {"do_sample": False, "max_new_tokens": cap, "eos_token_id": eos, "pad_token_id": eos}
    written = llm.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return llm.decode_completion(written[0, len(row) :].tolist())


def diagnose_batch_of_prompts(llm: BaseLLM) -> str | None:
    """Prompts of different length: padded on the right, cut, or answered in another order."""
    prompts = ["How many apples are in a basket, and how many in two?", "One?", "How many apples are in a basket?"]
    stubbed, model = with_stub(llm, None)
    texts: Any = stubbed.batched_generate(prompts)
    wanted = [list(llm.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    if model.complaint or sorted(model.asked) != sorted(wanted):
        return model.complaint or PADDING
    told = [f"<answer>{len(ids)}e-7</answer>" for ids in wanted]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return f"batched_generate of {len(prompts)} prompts returns {texts!r:.120}, not a list of texts"
    if [text.strip() for text in texts] != told:
        return (
            f"batched_generate mixes up its prompts: the model wrote {told}, it returns {texts}"
            "\nself.complete gives the texts in the order of its prompts: give them on in that order"
        )
    return None


def diagnose_answers(llm: BaseLLM, questions: list[str]) -> str | None:
    """Too few answers, or those of other questions."""
    stubbed, model = with_stub(llm, None)
    given: Any = stubbed.answer(*questions)
    if model.complaint:
        return model.complaint
    unread = with_stub(llm, encode(llm, " no idea"))[0].answer(*questions)
    if complaint := diagnose_numbers(given, len(questions)) or diagnose_numbers(unread, len(questions)):
        return complaint
    wanted = [list(llm.tokenizer(llm.format_prompt(question))["input_ids"]) for question in questions]
    if sorted(model.asked) != sorted(wanted):
        texts = f"{[llm.tokenizer.decode(ids) for ids in model.asked]}"
        return f"answer asks {texts:.200}, not each question once\nformat_prompt makes the prompt of each question"
    if not near(given, [len(ids) * 1e-7 for ids in wanted]):
        told = [f"{len(ids)}e-7" for ids in wanted]
        return (
            f"answer mixes up or changes its answers: the model wrote {told}, it gives {given}"
            "\nparse_answer of each text, in the order of the questions, and nothing rounded"
        )
    return None


def diagnose_numbers(given: Any, count: int) -> str | None:
    """What is no list of so many numbers."""
    if not isinstance(given, list) or not all(isinstance(number, int | float) for number in given):
        return f"answer of {count} questions returns {given!r:.120}, not a list of numbers"
    if len(given) != count:
        return f"answer gives {len(given)} answers to {count} questions\none for each, NaN where there is none"
    return None


def diagnose_raw_prompt(llm: BaseLLM, question: str) -> str | None:
    """A prompt that is not the question alone."""
    prompt = llm.format_prompt(question)
    if "<answer>" in str(prompt):
        return TAG_IN_PROMPT
    if prompt != question:
        return (
            f"format_prompt({question!r:.60}) gives {prompt!r:.100}, and the training row begins otherwise"
            "\nthe row begins with the question alone, so the prompt is the question alone"
        )
    return None


def near(given: list[float], wanted: list[float]) -> bool:
    """Whether numbers are the same but for rounding in the last digits."""
    return len(given) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-9) for a, b in zip(given, wanted, strict=True)
    )


def diagnose_prompt(llm: BaseLLM, question: str, context: list[int], longest: int) -> str | None:
    """A prompt that is not the training row's context, or a cap that cuts the longest answer of the training rows."""
    stubbed, model = with_stub(llm, encode(llm, " <answer>1</answer>"))
    stubbed.answer(question)
    given = model.asked[0]
    if given != context and "<answer>" in llm.tokenizer.decode(given):
        return TAG_IN_PROMPT
    if given != context:
        decode, name = llm.tokenizer.decode, llm.tokenizer.convert_ids_to_tokens
        return (
            f"inference asks {decode(given)!r:.120} (ends in {name(given[-1])!r}), but the training row begins with "
            f"{decode(context)!r:.120} (ends in {name(context[-1])!r})\nformat_prompt must give what tokenize masks"
        )
    if min(model.caps) < longest:
        return (
            f"generation stops after {min(model.caps)} tokens, but answer and EOS take up to {longest}"
            "\nmax_new_tokens is the cap that complete_batch is given, and EOS ends most texts sooner"
        )
    return None


def diagnose_answer(llm: BaseLLM, question: str, correct: float, row: Row) -> str | None:
    """An `answer` that does not read what the training row teaches the model to write."""
    taught = [label for label in row["labels"] if label != IGNORE_INDEX][:-1]  # the stub adds EOS
    stubbed, _ = with_stub(llm, taught)
    (got,) = stubbed.answer(question)
    if is_answer_valid(got, correct):
        return None
    return (
        f"the model wrote {llm.tokenizer.decode(taught)!r}, just as trained, but answer reads {got}, not {correct:g}"
        "\nformat_example writes what parse_answer has to read: both tags, and one number between them"
    )


def diagnose_shapes(llm: BaseLLM) -> str | None:
    """A `batched_generate` whose lists are not nested as asked, or hold the text of another prompt."""
    prompts = ["One?", "How many apples are in a basket?"]
    told = [f"<answer>{len(llm.tokenizer(prompt)['input_ids'])}e-7</answer>" for prompt in prompts]
    for copies, wanted in ((None, 2), (1, [1, 1]), (3, [3, 3])):
        stubbed, _ = with_stub(llm, None)
        texts: Any = stubbed.batched_generate(prompts, num_return_sequences=copies, temperature=1.0 if copies else 0)
        got: Any = [len(part) for part in texts] if copies else len(texts)
        if copies and all(isinstance(part, str) for part in texts):
            got = f"{len(texts)} texts"
        if got != wanted or (copies and not all(isinstance(part, list) for part in texts)):
            return (
                f"batched_generate of 2 prompts with num_return_sequences={copies} gives {got}, not {wanted}"
                "\nNone gives a text for each prompt, a number n a list of n texts for each, also where n is 1"
            )
        groups = texts if copies else [[text] for text in texts]
        if any(text.strip() != right for group, right in zip(groups, told, strict=True) for text in group):
            return (
                f"batched_generate with num_return_sequences={copies} mixes up its prompts: the model wrote {told}, "
                f"the lists hold {texts}\nrepeat each prompt beside itself, then cut the texts into groups of that size"
            )
    return None


def diagnose_sampling(llm: BaseLLM) -> str | None:
    """A temperature that `batched_generate` does not pass on."""
    for temperature, copies in ((0.25, 2), (1.75, 2), (0.25, None)):
        stubbed, model = with_stub(llm, encode(llm, " yes"))
        stubbed.batched_generate(["one", "two"], num_return_sequences=copies, temperature=temperature)
        if complaint := diagnose_temperature("batched_generate", temperature, model):
            return complaint
    return None


def diagnose_temperature(name: str, temperature: float, model: "StubModel") -> str | None:
    """A temperature that never reaches the model, or samples that are asked for greedily."""
    if not all(read_option(call, "do_sample") for call in model.calls):
        return (
            f"{name} at temperature {temperature} is greedy"
            "\ndo_sample has to be True above 0, and each function has to pass the temperature on"
        )
    given = [read_option(call, "temperature") for call in model.calls]
    if any(value != temperature for value in given):
        return (
            f"{name} at temperature {temperature} gives the model the temperature {given[0]}"
            "\npass it on, by self.complete to the GenerationConfig"
        )
    return None


class StubModel:
    """Stands in the place of the model: records what it is given, and writes `reply` after each row, and EOS.

    Without a reply it answers each row with a number of its own, its count of tokens in ten-millionths, so that rows
    can be told apart. All else, its settings for one, is the real model's.
    """

    def __init__(self, llm: BaseLLM, reply: Sequence[int] | None, ends: bool) -> None:
        self.real, self.tokenizer, self.reply, self.ends = llm.model, llm.tokenizer, reply, ends
        self.asked: list[list[int]] = []
        self.caps: list[int] = []
        self.calls: list[dict[str, Any]] = []
        self.complaint: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def eval(self) -> "StubModel":
        """As a real model's."""
        return self

    def generate(self, *arguments: Any, **options: Any) -> "torch.Tensor":
        """As `transformers`' generate: the given ids (B, T) and what was written after them."""
        import torch

        ids: Any = options.get("input_ids", arguments[0] if arguments else None)
        mask = torch.ones_like(ids) if (given := options.get("attention_mask")) is None else given
        asked = [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
        self.asked += asked
        self.calls.append(options)
        self.complaint = self.complaint or diagnose_padding(mask) or self.diagnose_decoding(options)
        self.caps.append(read_cap(options, self.real.generation_config, ids.shape[1]))
        copies = options.get("num_return_sequences") or 1
        replies = [row for prompt in asked for row in [self.reply_to(prompt)] * copies]
        width = max(map(len, replies))
        eos = self.tokenizer.eos_token_id
        written = torch.tensor([row + [eos] * (width - len(row)) for row in replies]).to(ids)
        return torch.cat([ids.repeat_interleave(copies, dim=0), written], dim=1)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """A forward pass, which is not scripted."""
        raise OwnDecodingError("a forward pass of the stub model")

    def reply_to(self, prompt: list[int]) -> list[int]:
        """The ids that are written after a prompt, EOS included."""
        if self.reply is not None:
            return [*self.reply, *[self.tokenizer.eos_token_id] * self.ends]
        text = f" <answer>{len(prompt)}e-7</answer>"
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]

    def diagnose_decoding(self, options: dict[str, Any]) -> str | None:
        """Decoding that is not greedy, or does not stop at EOS."""
        eos = read_option(options, "eos_token_id")
        if eos not in (None, self.tokenizer.eos_token_id, [self.tokenizer.eos_token_id]):
            return (
                f"generation stops at token {eos}, but training taught EOS, {self.tokenizer.eos_token_id}"
                "\neos_token_id is the tokenizer's"
            )
        if read_option(options, "do_sample"):
            return "generation samples where temperature is 0: an answer must not depend on luck\ndo_sample=False there"
        for name, (neutral, reason) in DISTORTING.items():
            if (value := read_option(options, name)) not in (None, neutral):
                return f"generation has a {name} of {value}, but {reason}\nleave it out"
        return None


def read_option(options: dict[str, Any], name: str) -> Any:
    """An option of generate, given by itself or in its generation_config."""
    given = options.get(name)
    return getattr(options.get("generation_config"), name, None) if given is None else given


def read_cap(options: dict[str, Any], default: Any, width: int) -> int:
    """The most tokens that generate writes after prompts of a width; max_length, 20 by default, counts these too."""
    if cap := read_option(options, "max_new_tokens") or default.max_new_tokens:
        return cap
    return max(0, (read_option(options, "max_length") or default.max_length or 20) - width)


def diagnose_padding(mask: "torch.Tensor") -> str | None:
    """A batch (B, T) whose rows do not end with a real token, all of them."""
    return None if bool(mask[:, -1].all()) else SIDE


def with_stub(llm: BaseLLM, reply: Sequence[int] | None, ends: bool = True) -> "tuple[BaseLLM, StubModel]":
    """A copy of `llm` whose model writes `reply`, and EOS if it ends there."""
    stubbed = copy.copy(llm)
    stubbed.model = StubModel(llm, reply, ends)
    return stubbed, stubbed.model
