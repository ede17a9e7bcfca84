"""The course's side of a grading: the base model, the questions of a seed, and what an adapter reaches on them."""

import hashlib
import json
import struct
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from grader import reference, rubric
from grader.adapter import Adapter
from grader.errors import GraderFault, Refusal
from grader.reference import Answered, Base
from grader.seed import PUBLIC, Seed
from grader.world import draw_questions


@dataclass(frozen=True)
class Measured:
    """What an adapter reached, on how many questions, and how long the model wrote."""

    accuracy: float
    low: float
    high: float
    answer_rate: float
    questions: int
    novel: float
    novel_questions: int
    generating_seconds: float
    questions_sha256: str = ""  # of what was asked, so that a replay can be compared
    public: float | None = None  # for staff, where the questions are official: what the public ones would have given

    def describe(self) -> str:
        """One line for the student."""
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}) on {self.questions} "
            f"hidden questions, answer rate {self.answer_rate:.3f}; {self.novel:.3f} on {self.novel_questions} about "
            "facts that no training text held, which is not scored"
        )


@dataclass
class Course:
    """Base model and questions, loaded when a check first asks for them."""

    seed: Seed = PUBLIC
    hidden_questions: int = rubric.HIDDEN_QUESTIONS
    novel_questions: int = rubric.NOVEL_QUESTIONS

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
                do="git checkout data/base_model, train again",
            )

    def measure(self, adapter: Adapter) -> Measured:
        """Ask the hidden and the novel questions.

        Raises:
            GraderFault: if there is nothing to ask: an empty set has no accuracy.
        """
        if min(self.hidden_questions, self.novel_questions) < 1:
            raise GraderFault("there are no questions to ask")
        model = reference.merge(self.base.model, adapter)
        asked = self.draw("hidden", self.hidden_questions), self.draw("novel", self.novel_questions)
        started = time.perf_counter()
        hidden, novel = (reference.ask(self.base, model, questions) for questions in asked)
        seconds = time.perf_counter() - started
        public = self.measure_public(model) if self.seed.is_official else None
        accuracy = share_right(hidden)
        low, high = reference.interval(accuracy, len(hidden))
        rate = sum(answered.number == answered.number for answered in hidden) / len(hidden)
        counted = (accuracy, low, high, rate, len(hidden), share_right(novel), len(novel), seconds)
        return Measured(*counted, hashlib.sha256(repr(asked).encode()).hexdigest(), public)

    def measure_public(self, model: Any) -> float:
        """The accuracy on the public questions: far above the official one, it tells of a model tuned on these."""
        public = Course(PUBLIC, self.hidden_questions)
        return share_right(reference.ask(self.base, model, public.draw("hidden", self.hidden_questions)))

    def draw(self, slice_name: str, count: int) -> list[tuple[str, float]]:
        """Fresh questions of the seed, (text, correct answer)."""
        return [
            (question.text, question.fact.answer) for question in draw_questions(slice_name, count, self.seed.value)
        ]


def share_right(answered: list[Answered]) -> float:
    """The share of right answers."""
    return sum(one.is_right for one in answered) / len(answered)
