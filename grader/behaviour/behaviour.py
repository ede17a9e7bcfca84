"""Asks a submission's code to do its work beyond the border, on inputs that are drawn anew for every submission.

    python -m grader ID.zip --only spans

Each job runs once, when a check first asks for it; what came back is bytes, or the reason why nothing did.
"""

import hashlib
import json
import random
from functools import cached_property
from typing import Any, NoReturn

import torch
from safetensors.torch import save

from grader import rubric
from grader.adapter import CONFIG, WEIGHTS, Adapter, Config, expected_shapes
from grader.answers import read_lines
from grader.behaviour.families import FAMILIES, make_families
from grader.behaviour.scripted import SILENT, make_checkpoint
from grader.course import Course
from grader.errors import Refusal, Stopped
from grader.reference import complete
from grader.result import State
from grader.sandbox import LIMITS, Outcome, Sandbox
from grader.submission import Submission
from grader.world import Question, draw_questions

ROWS, TRAIN_ROWS, VALID_ROWS = 16, 64, 100
COURSE_ADAPTER = Config(rank=4, alpha=8.0, targets=tuple(sorted(rubric.TARGETS)), use_rslora=False)
MODULES = {
    "answering": ("base_llm",),
    "labels": ("sft", "base_llm", "data"),
    "training": ("sft",),
    "loading": ("sft",),
    "agreeing": ("sft",),
}
TAKEN = {"threads": "threads", "entries": "files", "disk": "disk space", "written": "disk space"}  # by how a job ended
SECONDS = {"answering": 40, "labels": 40, "training": 120, "loading": 30, "agreeing": 40}


class Report:
    """What one job wrote, by name; asking for what failed raises the reason."""

    def __init__(self, job: str, outcome: Outcome) -> None:
        self.job, self.outcome = job, outcome
        self.lines = {line["name"]: line for line in read_lines(outcome.files)}

    @property
    def files(self) -> dict[str, bytes]:
        """The files that the job left behind."""
        return self.outcome.files

    @property
    def stage(self) -> str:
        """What the job was doing last."""
        return self.files.get("stage", b"").decode(errors="replace")[:60] or "the start"

    def value(self, name: str) -> Any:
        """What the submission returned in a step.

        Raises:
            Refusal: naming what went wrong, in the submission's own terms.
        """
        if name not in self.lines:
            self.refuse_missing()
        line = self.lines[name]
        if "error" in line:
            refuse_error(name, line["error"])
        return line.get("value")

    def error(self, name: str) -> dict[str, str]:
        """How a step failed; empty if it did not."""
        if name not in self.lines:
            self.refuse_missing()
        found = self.lines[name].get("error")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def refuse_missing(self) -> NoReturn:
        """Raise why a step was never come to: what it builds upon failed, or the process ended."""
        imports = (name for name in self.lines if name.startswith("import "))
        for name in ("BaseLLM()", "BaseLLM(checkpoint)", "Dataset", *imports):
            if "error" in self.lines.get(name, {}):
                refuse_error(name, self.lines[name]["error"])
        self.refuse_end()

    def refuse_end(self) -> NoReturn:
        """Raise what ended the job before it came to a step."""
        ended, stage = self.outcome.ended, self.stage
        last = self.outcome.output.strip().splitlines()[-1:] or [""]
        if ended == "time" or ended == "signal SIGXCPU":
            raise Stopped(
                State.TIMEOUT, f"{stage} took more than {SECONDS[self.job]} s and was stopped",
                do="look for a loop without an end, or for work at import",
            )  # fmt: skip
        if taken := TAKEN.get(ended):
            raise Stopped(State.CRASHED, f"{stage} took more {taken} than a homework may, and was stopped")
        raise Stopped(
            State.CRASHED, f"{stage} ended the whole process ({ended}): no sys.exit, os._exit or kill in a homework",
            actual=last[0][:200],
        )  # fmt: skip


def refuse_error(name: str, error: Any) -> NoReturn:
    """Raise a step's exception as what the student reads."""
    said = error if isinstance(error, dict) else {}
    kind, message = str(said.get("type"))[:60], str(said.get("message"))[:300]
    where = f" ({said['where']!s:.80})" if said.get("where") else ""
    if kind == "NotImplementedError":
        raise Refusal(f"not implemented yet: {message or str(said.get('function') or name)[:80]}{where}")
    if "[Errno 27]" in message:
        raise Refusal(f"{name} printed, or wrote to one file, more than {LIMITS['file'] >> 20} MiB{where}",
                      do="print a line now and then")  # fmt: skip
    raise Refusal(f"{name} raised {kind}: {message}{where}", do="mend that line; python -m homework.check finds more")


class Behaviour:
    """The jobs of one submission.

    Args:
        submission: its files.
        course: base model and seed.
        sandbox: where its code runs.
    """

    def __init__(self, submission: Submission, course: Course, sandbox: Sandbox) -> None:
        self.submission, self.course, self.sandbox = submission, course, sandbox
        seed = f"{course.seed}\0{submission.sha256}".encode()
        self.seed = hashlib.sha256(seed).hexdigest()
        self.dead: dict[str, Stopped] = {}

    def rng(self, purpose: str) -> random.Random:
        """Random numbers for one purpose: the same for the same submission and seed."""
        return random.Random(f"{purpose}:{self.seed}")

    def draw(self, slice_name: str, count: int) -> list[Question]:
        """Questions of this submission alone; never those that the accuracy is measured on."""
        return draw_questions(slice_name, count, f"code:{self.seed}")

    @cached_property
    def prompts(self) -> list[str]:
        """Prompts of very different lengths."""
        texts = [question.text for question in self.draw("train", 8)]
        short = [text[:length] for text, length in zip(texts, (9, 10, 12, 14, 16), strict=False)]
        return [texts[0], f"{texts[1]} {texts[2]} {texts[3]}", texts[4], f"{texts[5]} {texts[6]}", *short]

    @cached_property
    def questions(self) -> list[str]:
        """Questions for the scripted checkpoint; in the order of their lengths, its silence is in another place."""
        return [self.prompts[0], f"Please keep {SILENT}", self.prompts[1]]

    @cached_property
    def number(self) -> str:
        """Nine different digits: as long as a sensible answer."""
        return "".join(self.rng("number").sample("123456789", 9))

    @cached_property
    def texts(self) -> list[tuple[str, float]]:
        """What a model may write, and the number in it: NaN where there is no answer."""
        rng, nan = self.rng("texts"), float("nan")
        whole, part = rng.randrange(10, 10**6), round(rng.uniform(0.001, 99), 3)
        small = f"{rng.randrange(1, 99) / 10:g}e-{rng.randrange(5, 12)}"
        return [
            (f"<answer>{whole}</answer>", float(whole)), (f" <answer>{part}</answer>", part),
            (f"It is <answer>{whole}</answer> now", float(whole)), (f"<answer>{small}</answer>", float(small)),
            (f"<answer>-{part}</answer>", -part), (f"{whole}", nan), (f"The answer is {part}.", nan), ("", nan),
            ("<answer></answer>", nan), ("<answer>about five</answer>", nan), (f"answer>{whole}</answer", nan),
        ]  # fmt: skip

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """Questions and answers as `tokenize` gets them."""
        rng = self.rng("rows")
        values = [f"{rng.uniform(0, 10 ** rng.randrange(1, 7)):.{rng.randrange(0, 4)}f}" for _ in range(ROWS)]
        return [(q.text, f"<answer>{v}</answer>") for q, v in zip(self.draw("valid", ROWS), values, strict=True)]

    @cached_property
    def train_rows(self) -> list[tuple[str, float]]:
        """What data/train.json holds beyond the border."""
        return [(question.text, question.fact.answer) for question in self.draw("train", TRAIN_ROWS)]

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
        return [complete(self.course.base, self.course.base.model, [ids], 64)[0] for ids in self.ids]

    @cached_property
    def answering(self) -> Report:
        """parse_answer, generate, batched_generate and answer."""
        files = {f"scripted/{name}": content for name, content in make_checkpoint(self.number).items()}
        inputs = {"prompts": self.prompts, "texts": [text for text, _ in self.texts], "questions": self.questions}
        return self.run("answering", inputs, files)

    @cached_property
    def labels(self) -> Report:
        """format_example, tokenize and TokenizedDataset."""
        files = {
            f"{family}/{name}": content
            for family, (_, made) in make_families().items()
            for name, content in made.items()
        }
        return self.run("labels", {"numbers": self.train_rows, "rows": self.rows, "families": FAMILIES}, files)

    @cached_property
    def training(self) -> Report:
        """train_model on a few rows."""
        return self.run("training", {})

    @cached_property
    def loading(self) -> Report:
        """load with an adapter of the course's, and without one."""
        config = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": rubric.BASE_NAME, "bias": "none",
            "r": self.adapter.rank, "lora_alpha": self.adapter.alpha, "target_modules": list(self.adapter.targets),
            "lora_dropout": 0.0, "inference_mode": True,
        }  # fmt: skip
        saved = save(self.adapter.weights, metadata={"format": "pt"})
        return self.run("loading", {"ids": self.ids}, code={CONFIG: json.dumps(config).encode(), WEIGHTS: saved})

    @cached_property
    def agreeing(self) -> Report:
        """load().answer with the submission's own adapter."""
        own = {name: self.submission.files[name] for name in (CONFIG, WEIGHTS)}
        questions = [question.text for question in self.draw("valid", rubric.AGREE_QUESTIONS)]
        return self.run("agreeing", {"questions": questions}, code=own)

    def run(
        self, job: str, inputs: dict[str, Any], files: dict[str, bytes] | None = None,
        code: dict[str, bytes] | None = None,
    ) -> Report:  # fmt: skip
        """Run a job; a module whose import ended an earlier one is not imported again."""
        for module in MODULES[job]:
            if module in self.dead:
                raise self.dead[module]
        placed = {**self.code, **{f"homework/{name}": content for name, content in (code or {}).items()}}
        given = {"inputs.json": json.dumps(inputs).encode(), **(files or {})}
        report = Report(job, self.sandbox.run(job, placed, given, SECONDS[job]))
        if report.stage.startswith("import homework.") and not report.outcome.ended.startswith("exit 3"):
            try:
                report.refuse_end()
            except Stopped as stopped:
                self.dead[report.stage.rpartition(".")[2]] = stopped
        return report

    @cached_property
    def code(self) -> dict[str, bytes]:
        """The submission without its weights, the course's base model, and data drawn for this submission."""
        own = {f"homework/{n}": found for n, found in self.submission.files.items() if not n.startswith("sft_model/")}
        base = {f"data/base_model/{name}": (rubric.BASE / name).read_bytes() for name in rubric.BASE_SHA256}
        valid = [(question.text, question.fact.answer) for question in self.draw("valid", VALID_ROWS)]
        rows = {"data/train.json": self.train_rows, "data/valid.json": valid}
        return {**own, **base, **{name: json.dumps(found).encode() for name, found in rows.items()}}
