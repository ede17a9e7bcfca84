"""Who handed in what somebody else has: the same code, the same weights, or the same update in disguise.

Adapters are compared by what they do to the base, see grader/updates.py. Code is compared as tokens, without comments
and layout, and never run. A human reads this; no score depends on it.
"""

import hashlib
import json
import re
from itertools import combinations
from typing import NamedTuple

import torch

from grader import rubric
from grader.adapter import Adapter, read_config, read_weights
from grader.errors import Refusal
from grader.rubric import CONFIG, WEIGHTS
from grader.submission import Submission
from grader.updates import MISSING, cosines

ALIKE = 0.90  # cosine of ΔW in a layer; benchmarks/README.md has what honest adapters reach
OVERALL = 0.60  # mean over the layers, from which two are alike whatever the single layers say
SHARE = 0.25  # of the layers that have to be alike, so that a copy with most layers trained on is still seen
CODE = ("base_llm.py", "data.py", "sft.py")
UNFINISHED = "NotImplementedError"  # a file with gaps is the starter's, which all have
# Each alternative matches as soon as it has begun, an open string up to the end: no file costs more than its length.
# The standard library's tokenize takes a minute for ten thousand blanks.
TOKEN = re.compile(
    r"""
    (?P<layout> \s+ | \\\r?\n | \#[^\n]* )
    | (?P<long> (?P<quote>["'])(?P=quote){2} ) (?: \\.? | (?!(?P=long))[^\\] )* (?P=long)?
    | (?P<short> ["'] ) (?: \\.? | (?!(?P=short))[^\\\n] )* (?P=short)?
    | \w+ | .
    """,
    re.DOTALL | re.VERBOSE,
)


class Likeness(NamedTuple):
    """Students, and what they share."""

    students: tuple[str, ...]
    what: str
    detail: str


class Features(NamedTuple):
    """What is compared of one submission."""

    code: dict[str, str]  # hash of the tokens by file
    weights: str  # hash of the file; empty without one
    adapter: Adapter | None


def compare(features: dict[str, Features]) -> list[Likeness]:
    """All groups of students, by ID, that share something, the strongest first."""
    return [*same_weights(features), *same_update(features), *same_code(features)]


def extract_features(submission: Submission) -> Features:
    """What is compared of a submission, so that the rest of it need not be kept."""
    weights = submission.files.get(WEIGHTS)
    code = {name: hash_code(submission.files[name]) for name in CODE if is_own(submission.files.get(name))}
    return Features(code, hashlib.sha256(weights).hexdigest() if weights else "", read_adapter(submission))


def is_own(content: bytes | None) -> bool:
    """Whether a file is there and finished."""
    return content is not None and UNFINISHED.encode() not in content


def read_adapter(submission: Submission) -> Adapter | None:
    """The validated adapter; None if there is none that would be graded."""
    try:
        base = json.loads((rubric.BASE / "config.json").read_text(encoding="utf-8"))
        return read_weights(submission.files[WEIGHTS], read_config(submission.files[CONFIG]), base)
    except (Refusal, KeyError):
        return None


def hash_code(content: bytes) -> str:
    """The hash of a Python file's tokens, without comments and layout; any bytes have one."""
    tokens = (found[0] for found in TOKEN.finditer(content.decode("utf-8", "replace")) if not found["layout"])
    return hashlib.sha256("\0".join(tokens).encode("utf-8")).hexdigest()


def same_weights(features: dict[str, Features]) -> list[Likeness]:
    """Who handed in the same file of weights, byte for byte."""
    weights = {student: one.weights for student, one in features.items()}
    return [Likeness(who, "weights", "the same file") for who in group(weights)]


def same_code(features: dict[str, Features]) -> list[Likeness]:
    """Who handed in a finished file of the same tokens."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for name in CODE:
        for who in group({student: one.code.get(name, "") for student, one in features.items()}):
            shared.setdefault(who, []).append(name)
    return [
        Likeness(who, "code", f"the same but for comments and layout: {', '.join(names)}")
        for who, names in sorted(shared.items(), key=lambda item: -len(item[1]))
    ]


def group(values: dict[str, str]) -> list[tuple[str, ...]]:
    """The students of each value that several have, but of the empty one.  Example: {a: x, b: x, c: y} -> [(a, b)]"""
    found: dict[str, list[str]] = {}
    for student, value in values.items():
        found.setdefault(value, []).append(student)
    return [tuple(who) for value, who in found.items() if value and len(who) > 1]


def same_update(features: dict[str, Features]) -> list[Likeness]:
    """Who handed in different files that do the same to the base model, in at least a share of the layers."""
    known = {one.weights: (student, one.adapter) for student, one in features.items() if one.adapter is not None}
    students = [student for student, _ in known.values()]  # one of each file: the same files are named above
    if len(known) < 2:
        return []
    layers = cosines([adapter for _, adapter in known.values()])
    counted = (layers > MISSING).sum(0)
    alike = (layers >= ALIKE).sum(0)
    overall = torch.where(layers > MISSING, layers, 0.0).sum(0) / counted.clamp(min=1)
    flagged = (is_alike(alike, counted) | (overall >= OVERALL)).fill_diagonal_(False)
    found = []
    for members in components(flagged):
        pairs = [(i, j) for i, j in combinations(members, 2) if flagged[i, j]]
        lowest = min(int(alike[i, j] * 100 // counted[i, j]) for i, j in pairs)
        highest = max(float(overall[i, j]) for i, j in pairs)
        detail = f"cosine of ΔW up to {highest:.3f}, at least {ALIKE} in {lowest} % of the layers"
        found.append((highest, Likeness(tuple(students[i] for i in members), "update", detail)))
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def is_alike(alike: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Whether so many layers of those counted are enough."""
    return alike >= (SHARE * counted).clamp(min=1)


def components(linked: torch.Tensor) -> list[list[int]]:
    """The groups that links hold together."""
    left, found = set(range(len(linked))), []
    while left:
        members, new = set(), {left.pop()}
        while new:
            members |= new
            new = {int(j) for i in new for j in linked[i].nonzero()} - members
        left -= members
        found += [sorted(members)] if len(members) > 1 else []
    return found
