"""The course's side of a grading: the base model, the questions of a seed, and what an adapter reaches on them.

python -m grader ID.zip --seed 7                      # public questions of this seed
GRADER_KEY_FILE=staff.key python -m grader ID.zip     # the official ones
"""

import hashlib
import hmac
import json
import struct
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import rubric
from grader.adapter import Adapter
from grader.errors import GraderFault, Refusal
from grader.world import draw_questions

if TYPE_CHECKING:
    from grader.reference import Answered, Base

KEY_VARIABLE = "GRADER_KEY_FILE"
SHORTEST_KEY = 16  # bytes


def prove_base() -> None:
    """Raise GraderFault unless every file of the course's base model is the one of the rubric."""
    for name, digest in rubric.BASE_SHA256.items():
        path = rubric.BASE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise GraderFault(f"the course's base model is not whole: data/base_model/{name} is missing or changed")


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
    questions_sha256: str = ""  # of what was asked, so that a replay can be proved
    public: float | None = None  # for staff, where the questions are official: what the public ones would have given

    def describe(self) -> str:
        """One line for the student."""
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}) on {self.questions} "
            f"hidden questions, answer rate {self.answer_rate:.3f}; {self.novel:.3f} on {self.novel_questions} about "
            "facts that no training text held, which is not scored"
        )


def official_seed(key: bytes) -> str:
    """The seed of the official questions, from the staff key alone: no zip can fish for lucky ones.

    Raises:
        GraderFault: if the key is too short to be secret.
    """
    if len(key.strip()) < SHORTEST_KEY:
        raise GraderFault(f"the staff key has {len(key.strip())} bytes: make one of at least {SHORTEST_KEY}")
    return hmac.new(key.strip(), rubric.ASSIGNMENT.encode(), hashlib.sha256).hexdigest()


def read_key(path: str) -> bytes:
    """The staff key.

    Raises:
        GraderFault: if it can't be read; the public questions are never taken in its place.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise GraderFault(f"can't read the staff key {path} ({error.strerror})") from error


@dataclass
class Course:
    """Base model and questions, loaded when a check first asks for them."""

    seed: int | str = rubric.PUBLIC_SEED
    hidden_questions: int = rubric.HIDDEN_QUESTIONS
    novel_questions: int = rubric.NOVEL_QUESTIONS
    measured: Measured | None = field(default=None, init=False)

    @cached_property
    def base_config(self) -> dict[str, Any]:
        """The base model's configuration: its sizes."""
        prove_base()
        return json.loads((rubric.BASE / "config.json").read_text(encoding="utf-8"))

    @cached_property
    def base(self) -> "Base":
        """The base model, loaded once."""
        from grader.reference import load_base

        return load_base()

    def check_fingerprint(self, content: bytes) -> None:
        """Refuse weights whose header names a base model of other weights. A header without a name passes."""
        from grader.reference import fingerprint

        size = struct.unpack("<Q", content[:8])[0]
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
        trained_on = str(metadata.get("base_weights", "")).partition(" ")[0]
        if trained_on and trained_on != fingerprint(self.base.model):
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
        from grader import reference

        if min(self.hidden_questions, self.novel_questions) < 1:
            raise GraderFault("there are no questions to ask")
        model = reference.merge(self.base.model, adapter)
        asked = self.draw("hidden", self.hidden_questions), self.draw("novel", self.novel_questions)
        started = time.perf_counter()
        hidden, novel = (reference.ask(self.base, model, questions) for questions in asked)
        seconds = time.perf_counter() - started
        public = self.measure_public(model) if self.seed_is_official else None
        accuracy = share_right(hidden)
        low, high = reference.interval(accuracy, len(hidden))
        rate = sum(answered.number == answered.number for answered in hidden) / len(hidden)
        counted = (accuracy, low, high, rate, len(hidden), share_right(novel), len(novel), seconds)
        self.measured = Measured(*counted, hashlib.sha256(repr(asked).encode()).hexdigest(), public)
        return self.measured

    @property
    def seed_is_official(self) -> bool:
        """Whether the questions come from the staff key, whose seed is a text."""
        return isinstance(self.seed, str)

    def measure_public(self, model: Any) -> float:
        """The accuracy on the public questions: far above the official one, it tells of a model tuned on these."""
        from grader import reference

        public = Course(rubric.PUBLIC_SEED, self.hidden_questions)
        return share_right(reference.ask(self.base, model, public.draw("hidden", self.hidden_questions)))

    def draw(self, slice_name: str, count: int) -> list[tuple[str, float]]:
        """Fresh questions of the seed, (text, correct answer)."""
        return [(question.text, question.fact.answer) for question in draw_questions(slice_name, count, self.seed)]


def share_right(answered: "list[Answered]") -> float:
    """The share of right answers."""
    return sum(one.is_right for one in answered) / len(answered)
