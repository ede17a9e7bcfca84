"""The rubric: which points a course gives, and the base model and the limits that all courses share.

Points and bounds of a course stand in one file of rubrics/. The bounds come from grader/calibration.json, which
tools/calibrate.py writes: the upper one lies where a right homework practically never falls below, by chance of seed
and of questions together, and the lower one above what a model reaches that has learned only the format.
"""

import math
import os
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from grader.errors import GraderFault

# The setting of a course: short (tasks 1 to 4) or long (tasks 1 to 7). GRADER_RUBRIC takes its place.
CHOSEN = "short"

VERSION = "2026.2"
ASSIGNMENT = "unit-conversion-sft"

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "data" / "base_model"
BASE_NAME = "data/base_model"  # what an adapter_config.json has to call it
ADAPTER_DIR = "sft_model"  # the adapter's folder in the package
REASONING_DIR = "rft_model"  # that of the adapter that reasons
CONFIG, WEIGHTS = f"{ADAPTER_DIR}/adapter_config.json", f"{ADAPTER_DIR}/adapter_model.safetensors"
REASONING_FILES = tuple(name.replace(ADAPTER_DIR, REASONING_DIR) for name in (CONFIG, WEIGHTS))
REASONS = "rft.json"  # its rows, taken where they are small enough: reported, never scored
ANSWERS = "ANSWERS.md"  # the student's words, in the package: shown to staff, never scored by code
BASE_SHA256 = {
    "chat_template.jinja": "17762d2e5131cb2a950db7dd5700c50095547773d3302b52baebe9ae32257a55",
    "config.json": "2cb05ed128d04dc54ad4326945149759f301694163af86768548777db83ba900",
    "model.safetensors": "334f34bbea344885dc9bec1aad8d076512056c0fef395cfe00e9f2fa9b9b46ed",
    "tokenizer.json": "dd67b148d501a1d5d85f8476baebcc22686d515aeac1dd0c655a154c8def8bb6",
    "tokenizer_config.json": "c3f6b387081faed6001eef8503463cd6d0e8458b0aeb45a2929d6c8d73f73272",
}

HIDDEN_QUESTIONS = 600
NOVEL_QUESTIONS = 200  # reported, never scored
LONG_QUESTIONS = 400  # of the adapter that reasons: values of three or four digits
MATCH_QUESTIONS = 12  # asked through the submission's own load().answer
PUBLIC_SEED = 2026

# An answer is right within 5 % of the correct one.
RELATIVE_TOLERANCE = 0.05
# On long questions, the answer of a reason: nearer than a wrong factor that is right within 5 %.
STRICT_TOLERANCE = 0.01
# New tokens of a text with reasons: the longest chain of the base model takes 144, and the space before it.
REASON_TOKENS = 148

# Limits of a submission.
ZIP_BYTES = 50_000_000
UNPACKED_BYTES = 80_000_000
FILES = 200
CODE_BYTES = 1_000_000  # of one file that holds no weights
ANSWERS_BYTES = 100_000  # of the answers that are read
HEADER_BYTES = 1_000_000
MAX_RANK, MAX_ALPHA = 64, 1024
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CHECK_SECONDS = 600  # a check that takes longer is stopped; the whole of it takes half a minute on two slow cores

RUBRICS = Path(__file__).with_name("rubrics")
VARIABLE = "GRADER_RUBRIC"
ALL_POINTS = 100


class Rubric(NamedTuple):
    """What a course gives points for.

    Args:
        name: of its file.
        title: which tasks it grades.
        weights: points of the checks of the weights, by name, in the order of the report.
        code: points of the checks of the code.
        bounds: of the shares that are measured: no credit up to the first, all of it from the second.
    """

    name: str
    title: str
    weights: dict[str, float]
    code: dict[str, float]
    bounds: dict[str, tuple[float, float]]

    @property
    def points(self) -> dict[str, float]:
        """The points of all checks."""
        return {**self.weights, **self.code}


def write_bounds(name: str, check: str, bounds: tuple[float, float]) -> None:
    """Put two bounds in the place of those of a check, in the file of a rubric.

    Raises:
        GraderFault: if the file has no bounds of that check.
    """
    path = RUBRICS / f"{name}.toml"
    line = f"{check} = [{bounds[0]:.2f}, {bounds[1]:.2f}]"
    text, count = re.subn(rf"^{check} = \[.*\]$", line, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if count != 1:
        raise GraderFault(f"{path} has no bounds of {check}")
    path.write_text(text, encoding="utf-8")


def read_rubric(name: str = "") -> Rubric:
    """A rubric by name; without one, that of the environment, else the course's.

    Raises:
        GraderFault: if there is none of that name, its points do not sum to 100, or a bound is no share.
    """
    name = name or os.environ.get(VARIABLE) or CHOSEN
    known = sorted(path.stem for path in RUBRICS.glob("*.toml"))
    if name not in known:
        raise GraderFault(f"there is no rubric {name!r:.40}: choose among {', '.join(known)}")
    content = tomllib.loads((RUBRICS / f"{name}.toml").read_text(encoding="utf-8"))
    bounds = {check: (low, high) for check, (low, high) in content["bounds"].items()}
    rubric = Rubric(name, content["title"], content["weights"], content["code"], bounds)
    points = rubric.points.values()
    if min(points) < 0 or not math.isclose(sum(points), ALL_POINTS):
        raise GraderFault(f"the points of {name}.toml must sum to {ALL_POINTS}")
    if any(not 0 <= low < high <= 1 for low, high in bounds.values()):
        raise GraderFault(f"the bounds of {name}.toml must be two shares each, the lower one first")
    return rubric
