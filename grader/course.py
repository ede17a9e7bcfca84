"""The course's side of a grading: the base model, the questions of a seed, and what an adapter reaches on them."""

import hashlib
import json
import struct
import time
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import shorten
from typing import Any

from grader import reference, rubric
from grader.adapter import Adapter
from grader.errors import GraderFault, Refusal
from grader.own_questions import BOUNDS_NOTE, PUBLIC_NOTE, SOURCES, Rows, are_bounds_of_others, read_public
from grader.reasons import diagnose_reason, most_frequent
from grader.reference import Answered, Base
from grader.rubric import Rubric, read_rubric
from grader.seed import PUBLIC, Seed
from grader.units import Question, draw_questions, is_long


@dataclass(frozen=True)
class Measured:
    """What an adapter reached, on how many questions, and how long the model wrote."""

    accuracy: float
    low: float
    high: float
    answer_rate: float
    questions: int
    novel: float | None  # None where there are none: an instructor's own questions have no facts to keep out
    novel_questions: int
    generating_seconds: float
    questions_sha256: str = ""  # of what was asked, so that a replay can be compared
    public: float | None = None  # for staff, where the questions are official: what the public ones would have given
    source: str = "drawn"  # of the questions: drawn, hidden (the staff's file), or valid (data/valid.json)

    def describe(self) -> str:
        """One line for the student."""
        kind = (
            "questions of data/valid.json, whose answers are public" if self.source == "valid" else "hidden questions"
        )
        said = (
            f"accuracy {self.accuracy:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}) on {self.questions} "
            f"{kind}, answer rate {self.answer_rate:.3f}"
        )
        if self.novel is None:
            return said
        return (
            f"{said}; {self.novel:.3f} on {self.novel_questions} about facts that no training text held, which is not "
            "scored"
        )


@dataclass(frozen=True)
class MeasuredReasons:
    """What an adapter that reasons reached on long questions, and how many of its right answers have a right reason."""

    long_accuracy: float
    long_low: float
    long_high: float
    reasoned: float  # right within 1 %, by a chain that holds
    long_questions: int
    long_seconds: float
    fault: str  # the most frequent one of the reasons
    example: str  # a text with it

    def describe(self) -> str:
        """One line for the student."""
        return (
            f"{self.long_accuracy:.3f} within {rubric.STRICT_TOLERANCE:.0%} (95 % interval {self.long_low:.3f} to "
            f"{self.long_high:.3f}) on {self.long_questions} hidden questions whose values have three or four digits"
        )

    def describe_reasons(self) -> str:
        """One line for the student about the reasons."""
        said = f"{self.reasoned:.3f} of the questions have a right answer and a reason that holds"
        return said + describe_fault(self.fault, self.example)


def describe_fault(fault: str, example: str) -> str:
    """What is wrong most often where something is, with a text that shows it; nothing where nothing is."""
    return f"; the others, most often: {fault}, as in {shorten(example, 160)!r}" if fault else ""


@dataclass(frozen=True)
class MeasuredPrompt:
    """The share of questions that the base model answers right behind a prompt, by a reason that holds."""

    share: float
    questions: int
    fault: str  # the most frequent one of the others
    example: str  # a text with it

    def describe(self) -> str:
        """One line for the student."""
        said = f"{self.share:.2f} of {self.questions} answers are right, with a reason that holds"
        return said + describe_fault(self.fault, self.example)


@dataclass
class Course:
    """Base model and questions, loaded when a check first asks for them."""

    seed: Seed = PUBLIC
    hidden_questions: int = rubric.HIDDEN_QUESTIONS
    novel_questions: int = rubric.NOVEL_QUESTIONS
    long_questions: int = rubric.LONG_QUESTIONS
    hidden: Rows | None = None  # of the staff's file, which takes the place of the drawn ones
    rubric: Rubric = field(default_factory=read_rubric)

    @cached_property
    def given(self) -> Rows | None:
        """The questions that an instructor brought; None where they are drawn.

        Raises:
            GraderFault: if data/ is not what was imported.
        """
        return read_public() if self.hidden is None else self.hidden

    @property
    def source(self) -> str:
        """Where the scored questions come from: drawn, hidden or valid."""
        return "hidden" if self.hidden is not None else "drawn" if self.given is None else "valid"

    @property
    def label(self) -> str:
        """The same for people, with the seed where it draws."""
        return SOURCES.get(self.source, self.seed.label)

    @property
    def notes(self) -> list[str]:
        """What every report has to say of the questions."""
        public = [PUBLIC_NOTE] if self.source == "valid" else []
        return [*public, BOUNDS_NOTE] if are_bounds_of_others() else public

    @cached_property
    def base_config(self) -> dict[str, Any]:
        """The base model's configuration: its sizes."""
        reference.check_base_files()
        return json.loads((rubric.BASE / "config.json").read_text(encoding="utf-8"))

    @cached_property
    def base(self) -> Base:
        """The base model, loaded once."""
        return reference.load_base()

    def check_fingerprint(self, content: bytes) -> None:
        """Refuse weights whose header names a base model of other weights. A header without a name passes."""
        size = struct.unpack("<Q", content[:8])[0]
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
        trained_on = str(metadata.get("base_weights", "")).partition(" ")[0]
        if trained_on and trained_on != reference.fingerprint(self.base.model):
            raise Refusal(
                "the adapter was trained on other weights of the base model",
                expected=f"{rubric.BASE_NAME} as it is in the course's repository",
                actual="a base model of the same name",
                do="take data/base_model again from where you have this folder, and train",
            )

    def measure(self, adapter: Adapter) -> Measured:
        """Ask the scored and the novel questions.

        Raises:
            GraderFault: if there is nothing to ask: an empty set has no accuracy.
        """
        if self.given is None and min(self.hidden_questions, self.novel_questions) < 1:
            raise GraderFault("there are no questions to ask")
        model = reference.merge(self.base.model, adapter)
        asked = self.scored(), self.draw("novel", self.novel_questions) if self.given is None else []
        started = time.perf_counter()
        hidden, novel = (reference.ask(self.base, model, questions) for questions in asked)
        seconds = time.perf_counter() - started
        is_secret = self.source == "hidden" or (self.seed.is_official and self.source == "drawn")
        public = self.measure_public(model) if is_secret else None
        accuracy = share_right(hidden)
        low, high = reference.interval(accuracy, len(hidden))
        rate = sum(answered.number == answered.number for answered in hidden) / len(hidden)
        novel_share = share_right(novel) if novel else None
        counted = (accuracy, low, high, rate, len(hidden), novel_share, len(novel), seconds)
        return Measured(*counted, hashlib.sha256(repr(asked).encode()).hexdigest(), public, self.source)

    def measure_reasons(self, adapter: Adapter) -> MeasuredReasons:
        """Ask the long questions, and read the reasons.

        Raises:
            GraderFault: if there is nothing to ask.
        """
        asked = self.long()
        if not asked:
            raise GraderFault("there are no questions to ask")
        model = reference.merge(self.base.model, adapter)
        started = time.perf_counter()
        written = reference.ask(self.base, model, asked, rubric.REASON_TOKENS)
        seconds = time.perf_counter() - started
        right = [answered.is_within(rubric.STRICT_TOLERANCE) for answered in written]
        faults = [diagnose_reason(answered) for answered in written]
        accuracy = sum(right) / len(right)
        low, high = reference.interval(accuracy, len(right))
        reasoned = sum(is_right and not fault for is_right, fault in zip(right, faults, strict=True)) / len(right)
        fault, example = most_frequent(faults, written)
        return MeasuredReasons(accuracy, low, high, reasoned, len(right), seconds, fault, example)

    def measure_prompt(self, prompts: list[str], asked: list[Question]) -> MeasuredPrompt:
        """What the base model alone answers to prompts, which hold the questions: right with a reason, or at fault."""
        tokenizer = self.base.tokenizer
        room = self.base_config["max_position_embeddings"] - max(len(tokenizer(one)["input_ids"]) for one in prompts)
        pairs = [(prompt, question.fact.answer) for prompt, question in zip(prompts, asked, strict=True)]
        texts = reference.ask(self.base, self.base.model, pairs, min(room, rubric.REASON_TOKENS))
        written = [one._replace(question=question.text) for one, question in zip(texts, asked, strict=True)]
        faults = [diagnose_reason(one) or ("" if one.is_right else "a wrong answer") for one in written]
        return MeasuredPrompt(faults.count("") / len(faults), len(faults), *most_frequent(faults, written))

    def long(self) -> list[tuple[str, float]]:
        """The questions that reasons are measured on, (text, correct answer): long ones, or the instructor's own."""
        if self.given is not None:
            return list(self.given)
        drawn = draw_questions("hidden", self.long_questions, f"long:{self.seed.value}", is_long)
        return [(question.text, question.fact.answer) for question in drawn]

    def measure_public(self, model: Any) -> float:
        """The accuracy on the public questions: far above the official one, it tells of a model tuned on these."""
        return share_right(reference.ask(self.base, model, Course(PUBLIC, self.hidden_questions).scored()))

    def scored(self) -> list[tuple[str, float]]:
        """The questions that the accuracy is measured on, (text, correct answer)."""
        return self.draw("hidden", self.hidden_questions) if self.given is None else list(self.given)

    def draw(self, slice_name: str, count: int) -> list[tuple[str, float]]:
        """Fresh questions of the seed, (text, correct answer)."""
        return [
            (question.text, question.fact.answer) for question in draw_questions(slice_name, count, self.seed.value)
        ]


def share_right(answered: list[Answered]) -> float:
    """The share of right answers."""
    return sum(one.is_right for one in answered) / len(answered)
