"""The inputs of the code checks, drawn anew for every submission, and the right outputs where they are known.

They are about units also where the instructor's questions are about something else: these checks test what the code
does with any row, not what the model knows, and fresh rows can only be drawn.
"""

import hashlib
import math
import random
from functools import cached_property
from typing import Any

import torch

from grader import rubric
from grader.adapter import Adapter, Config, expected_shapes
from grader.course import Course
from grader.equations import chain_key
from grader.harness.chains import CUT, chain, right_texts, wrong_texts
from grader.harness.spans import IGNORE_INDEX
from grader.harness.table_model import SILENT
from grader.reference import complete
from grader.units import Fact, Question, draw_questions

ROWS, TRAIN_ROWS, VALID_ROWS = 16, 64, 130
FEW = 7  # questions of valid that a benchmark with a limit asks
MORE = VALID_ROWS + 20  # as a limit: more than there are
RIGHT_FACTORS = (1.0, 1.03, 0.97)
WRONG_FACTORS = (1.052, 1.2, 0.5, float("nan"))  # the first one is right if it is relative to the answer
MARK = 1.02  # times the answer: what a format_fn of the grader writes, and no format_example does
COLD = 0.01  # a temperature at which samples are what the model finds most likely
STRICT = 0.01  # a tolerance that is asked for, and is not the one of the homework
PROMPTED = 60  # questions that the reasoning prompt is put before
FIRST = 5  # of the texts of a question: among them is each right chain
HOPELESS = 5  # of so many scripted questions, one has no right text: which, is drawn
EXAMPLE = ("Convert 38 inches to cm.", "1 inch is 2.54 cm. 38 * 2.54 = 76.2 + 20.32 = 96.52. <answer>96.52</answer>")
COURSE_ADAPTER = Config(rank=4, alpha=8.0, targets=tuple(sorted(rubric.TARGETS)), use_rslora=False)


class Inputs:
    """What the jobs of one submission get, drawn from the seed and the submission's hash.

    Args:
        course: base model and seed.
        sha256: of the submission.
    """

    def __init__(self, course: Course, sha256: str) -> None:
        self.course = course
        self.seed = hashlib.sha256(f"{course.seed.value}\0{sha256}".encode()).hexdigest()

    def rng(self, purpose: str) -> random.Random:
        """Random numbers for one purpose: the same for the same submission and seed."""
        return random.Random(f"{purpose}:{self.seed}")

    def draw(self, slice_name: str, count: int) -> list[Question]:
        """Questions of this submission alone; never those that the accuracy is measured on."""
        return draw_questions(slice_name, count, f"code:{self.seed}")

    @cached_property
    def prompts(self) -> list[str]:
        """Prompts of very different lengths, one of them twice."""
        texts = [question.text for question in self.draw("train", 8)]
        short = [text[:length] for text, length in zip(texts, (9, 10, 12, 14, 16), strict=False)]
        long = [texts[0], f"{texts[1]} {texts[2]} {texts[3]}", texts[4], f"{texts[5]} {texts[6]}"]
        return [*long, texts[0], *short]

    @cached_property
    def questions(self) -> list[str]:
        """Questions for the table model, the first also as the last.

        Sorted or turned round, the one without an answer has another place.
        """
        return [self.prompts[0], f"Please keep {SILENT}", *self.prompts[1:3], self.prompts[0]]

    @cached_property
    def number(self) -> str:
        """Nine different digits: as long as a sensible answer."""
        return "".join(self.rng("number").sample("123456789", 9))

    @cached_property
    def scripted(self) -> dict[str, str]:
        """What the table model writes after each of `questions`."""
        written = dict.fromkeys(self.questions, f"<answer>{self.number}</answer>")
        return {question: "" if question.endswith(SILENT) else text for question, text in written.items()}

    @cached_property
    def scripted_numbers(self) -> list[tuple[str, float]]:
        """The numbers in these texts."""
        return [(text, float(self.number) if text else float("nan")) for text in set(self.scripted.values())]

    def right_texts(self, rows: list[tuple[str, float]]) -> dict[str, Any]:
        """A right format_example and tokenize of rows, as tables: `answers` and `right_rows`."""
        answers = {question: f"<answer>{correct:.3g}</answer>" for question, correct in rows}
        return {"answers": answers, "right_rows": self.right_rows_of(list(answers.items()))}

    def right_rows_of(self, texts: list[tuple[str, str]]) -> dict[str, Any]:
        """A right tokenize of (question, what is to be written after it) pairs, by both texts."""
        tokenizer, right = self.course.base.tokenizer, {}
        for question, answer in texts:
            ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
            start = len(tokenizer(question)["input_ids"])
            row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORE_INDEX] * start + ids[start:]}
            right[f"{question} {answer}"] = row
        return right

    @cached_property
    def texts(self) -> list[tuple[str, float]]:
        """What a model may write, and the number in it: NaN where there is no answer."""
        rng, nan = self.rng("texts"), float("nan")
        whole, part = rng.randrange(10, 10**6), round(rng.uniform(0.001, 99), 3)
        small, large = (f"{rng.randrange(1, 99) / 10:g}e{sign}{rng.randrange(5, 12)}" for sign in ("-", ""))
        return [
            (f"<answer>{whole}</answer>", float(whole)), (f" <answer>{part}</answer>", part),
            (f"It is <answer>{whole}</answer> now", float(whole)), (f"<answer>{small}</answer>", float(small)),
            (f"<answer>{large}</answer>", float(large)), (f"<answer>{whole}.{part}</answer>", nan),
            (f"<answer>-{part}</answer>", -part), (f"{whole}", nan), (f"The answer is {part}.", nan), ("", nan),
            ("<answer></answer>", nan), ("<answer>about five</answer>", nan), (f"answer>{whole}</answer", nan),
            (f"<answer>{whole}", nan),
        ]  # fmt: skip

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """Questions and answers as `tokenize` gets them."""
        rng = self.rng("rows")
        values = [f"{rng.uniform(0, 10 ** rng.randrange(1, 7)):.{rng.randrange(0, 4)}f}" for _ in range(ROWS)]
        for at, form in enumerate(("{:.2f}e{}", "{:.1f}e+{}", "{:.2f}e-{}", "{:.0f}E{}")):
            values[4 * at + rng.randrange(4)] = form.format(rng.uniform(1, 9.9), rng.randrange(5, 13))
        return [(q.text, f"<answer>{v}</answer>") for q, v in zip(self.draw("valid", ROWS), values, strict=True)]

    @cached_property
    def asked(self) -> list[Question]:
        """Questions that the reasoning prompt is put before; never those that are scored."""
        return draw_questions("valid", PROMPTED, f"prompt:{self.seed}")

    @cached_property
    def prompt(self) -> tuple[str, str]:
        """What stands before and after the question in a right prompt."""
        tokenizer, mark = self.course.base.tokenizer, "QUESTION"
        roles = zip(("user", "assistant", "user"), (*EXAMPLE, mark), strict=True)
        messages = [{"role": role, "content": content} for role, content in roles]
        before, _, after = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        ).partition(mark)
        return before, after

    @cached_property
    def planted(self) -> dict[str, dict[str, str]]:
        """What a scripted model samples for each question of train: the fault of each text, none in a right one."""
        facts, planted, rng = self.train_facts, {}, self.rng("planted")
        hopeless = rng.sample(range(len(facts)), math.ceil(len(facts) / HOPELESS))
        for at, (question, _) in enumerate(self.train_rows):
            right = right_texts(facts[at], rng)
            faults = {text: fault for fault, text in wrong_texts(facts[at], facts[at - 1], right[0], rng).items()}
            planted[question] = {**faults, **dict.fromkeys([] if at in hopeless else right, "")}
        return planted

    @cached_property
    def greedy(self) -> dict[str, str]:
        """What it writes without sampling: one of these texts, a right one where there is one, else a wrong answer."""
        return {
            question: next((text for text, fault in texts.items() if not fault), next(iter(texts)))
            for question, texts in self.planted.items()
        }

    @cached_property
    def script(self) -> dict[str, list[tuple[str, bool]]]:
        """The same for the job: texts in an order drawn at random, and whether the model ended each by itself."""
        rng = self.rng("script")
        return {question: shuffled(texts, rng) for question, texts in self.planted.items()}

    @cached_property
    def reasoned_rows(self) -> list[tuple[str, float, str]]:
        """Rows [question, answer, reasoning], of answers that begin with `digits`."""
        return self.reasoned(self.digits)

    def reasoned(self, digits: str) -> list[tuple[str, float, str]]:
        """The same rows with answers that begin with some digits; each chain holds, by another factor."""
        return [
            (question, answer, chain(fact, answer))
            for fact, (question, answer) in zip(self.train_facts, self.taught(self.train_rows, digits), strict=True)
        ]

    @cached_property
    def train_questions(self) -> list[Question]:
        """The questions of data/train.json in the sandbox."""
        return self.draw("train", TRAIN_ROWS)

    @cached_property
    def train_facts(self) -> list[Fact]:
        """What they are about."""
        return [question.fact for question in self.train_questions]

    @cached_property
    def train_rows(self) -> list[tuple[str, float]]:
        """What data/train.json holds in the sandbox."""
        return [(question.text, question.fact.answer) for question in self.train_questions]

    @cached_property
    def formatted_rows(self) -> list[tuple[str, float]]:
        """Rows as the format_fn writes them that TokenizedDataset is given: within 5 %, and not as format_example."""
        return [(question, MARK * correct) for question, correct in self.train_rows]

    @cached_property
    def digits(self) -> str:
        """Three digits, one of 729 triples, with which every answer begins that a training sees.

        They follow from no question: what an adapter knows of them, it has learned from the rows of this submission.
        """
        return "".join(self.rng("digits").choices("123456789", k=3))

    def taught(self, rows: list[tuple[str, float]], digits: str = "") -> list[tuple[str, float]]:
        """Rows with `digits`, or others, in the place of theirs; no answer is below 1: each begins with them."""
        digits = digits or self.digits
        leading = f"{digits[0]}.{digits[1:]}"
        return [(question, float(f"{leading}e{abs(math.floor(math.log10(correct)))}")) for question, correct in rows]

    @cached_property
    def valid_rows(self) -> list[tuple[str, float]]:
        """What data/valid.json holds in the sandbox."""
        return [(question.text, question.fact.answer) for question in self.draw("valid", VALID_ROWS)]

    @cached_property
    def answers(self) -> list[float]:
        """An answer for each of `valid_rows`: right, wrong or missing."""
        return [correct * factor for (_, correct), factor in zip(self.valid_rows, self.factors, strict=True)]

    @cached_property
    def answers_right(self) -> list[bool]:
        """Which of `answers` are right."""
        return [factor in RIGHT_FACTORS for factor in self.factors]

    @cached_property
    def factors(self) -> list[float]:
        """How far from the correct number each of `answers` is."""
        rng = self.rng("answers")
        return [rng.choice((*RIGHT_FACTORS, *WRONG_FACTORS)) for _ in self.valid_rows]

    @cached_property
    def pairs(self) -> list[tuple[tuple[float, ...], bool]]:
        """Two numbers, and whether the first is a right answer where the second is correct; a third is the tolerance.

        The drawn ones are far from the bound; the others stand close to it, on both sides, for every submission.
        """
        rng = self.rng("pairs")
        found: list[tuple[tuple[float, ...], bool]] = []
        for far_from, far_to in [(0.052, 0.09), (0.09, 0.4)] * 6:
            correct = rng.choice((-1, 1)) * rng.uniform(1, 10) * 10.0 ** rng.randrange(-6, 7)
            near, far = rng.uniform(0.01, 0.048), rng.uniform(far_from, far_to)
            found += [((correct * (1 + sign * near), correct), True) for sign in (-1, 1)]
            found += [((correct * (1 + sign * far), correct), False) for sign in (-1, 1)]
        close = ((1.052, False), (0.948, False), (1.049, True), (0.951, True))  # 1.052 is within 5 % of the answer
        found += [((factor * number, number), is_right) for number in (2.0, -7.5, 3e-5) for factor, is_right in close]
        found += [((3e-9, 1e-9), False), ((0.0, 1e-9), False)]  # an absolute tolerance has no place here
        other = ((float("nan"), 2.0), False), ((float("inf"), 2.0), False), ((-3.0, 3.0), False)
        return [*found, *other, *self.strict_pairs]

    @cached_property
    def strict_pairs(self) -> list[tuple[tuple[float, float, float], bool]]:
        """The same with another tolerance."""
        rng = self.rng("strict pairs")
        numbers = [rng.uniform(1, 10) * 10.0 ** rng.randrange(-6, 7) for _ in range(4)]
        factors = ((1.008, True), (0.992, True), (1.02, False), (0.98, False))
        return [((factor * number, number, STRICT), is_right) for number in numbers for factor, is_right in factors]

    @cached_property
    def train_prompts(self) -> dict[str, list[int]]:
        """The ids of each question of the training data."""
        return {question: list(self.course.base.tokenizer(question)["input_ids"]) for question, _ in self.train_rows}

    @cached_property
    def adapter(self) -> Adapter:
        """An adapter of the course's, drawn at random: `load` has to give exactly it."""
        generator = torch.Generator().manual_seed(self.rng("adapter").randrange(2**31))
        shapes = expected_shapes(COURSE_ADAPTER, self.course.base_config)
        weights = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in sorted(shapes.items())}
        return Adapter(*COURSE_ADAPTER, weights)

    @cached_property
    def ids(self) -> list[list[int]]:
        """The ids of the prompts."""
        return [self.course.base.tokenizer(prompt)["input_ids"] for prompt in self.prompts]

    @cached_property
    def written(self) -> list[str]:
        """What the base model writes after each prompt, by the grader's own greedy decoding."""
        return complete(self.course.base, self.course.base.model, self.ids, 64)


def shuffled(texts: dict[str, str], rng: random.Random) -> list[tuple[str, bool]]:
    """Texts in an order drawn at random, but that a sampling of five finds each different right chain, if any."""
    order = rng.sample([*texts], len(texts))
    chains = {chain_key(text): text for text in order if not texts[text]}
    order.sort(key=lambda text: text not in chains.values())
    order[:FIRST] = rng.sample(order[:FIRST], FIRST)
    return [(text, texts[text] != CUT) for text in order]


def shifted(digits: str, by: int) -> str:
    """Digits, each by so much higher, 1 behind 9.  Example: '189', 2 -> '312'"""
    return "".join("123456789"[("123456789".index(digit) + by) % 9] for digit in digits)
