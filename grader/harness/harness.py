"""Runs the jobs of a submission in the sandbox: each once, ahead of the checks or when one first asks for it."""

import contextlib
import json
import threading
import time
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from safetensors.torch import save

from grader import rubric
from grader.course import Course
from grader.errors import GraderFault, Refusal, Stopped
from grader.harness.inputs import COLD, EXAMPLE, FEW, MORE, Inputs
from grader.harness.job_report import SECONDS, WAITS, JobReport
from grader.harness.spans import diagnose_row, read_row
from grader.harness.table_model import make_checkpoint
from grader.harness.tokenizers import FAMILIES, make_families
from grader.result import State
from grader.rubric import CONFIG, REASONING_FILES, WEIGHTS
from grader.sandbox.host import WALL_SECONDS, Outcome, Sandbox
from grader.submission import Submission

DROPOUT = 0.1  # of the adapter that load is given: a model in training mode shows it
FEW_VALID = 40  # questions that a training may ask: an untrained model writes long
LEAST_SECONDS = 30  # of wall clock that have to be left for a job
MODULES = {
    "answering": ("base_llm",),
    "scoring": ("data",),
    "labels": ("sft", "base_llm", "data"),
    "training": ("sft",),
    "loading": ("sft",),
    "agreeing": ("sft",),
    "prompting": ("cot", "rft"),
    "sampling": ("cot", "datagen"),
    "reasoning_training": ("rft", "sft"),
}
JOBS = {  # that the checks of a file ask for, in the order in which they do
    "answering": ("answering",),
    "scoring": ("scoring",),
    "labels": ("labels",),
    "training": ("training",),
    "loading": ("loading", "agreeing"),
    "reasoning_code": ("prompting", "sampling", "reasoning_training"),
}


def is_missing(error: dict[str, str]) -> bool:
    """Whether a function is not written yet: what builds upon it gets no stand-in, and so no points."""
    return error.get("type") == "NotImplementedError"


def as_files(data: dict[str, list]) -> dict[str, bytes]:
    """Rows by the names of their files, as the files that lie in data/."""
    return {f"data/{name}": json.dumps(rows).encode() for name, rows in data.items()}


class Harness(Inputs):
    """The inputs of one submission's jobs, and what came back from each.

    Args:
        submission: its files.
        course: base model and seed.
        sandbox: where its code runs.
    """

    def __init__(self, submission: Submission, course: Course, sandbox: Sandbox) -> None:
        super().__init__(course, submission.sha256)
        self.submission, self.sandbox = submission, sandbox
        self.dead: dict[str, Stopped] = {}
        self.reports: dict[str, JobReport] = {}
        self.matches: dict[tuple[int, ...], tuple[str, str]] = {}  # of rows that reached the model: question and text
        self.faults: dict[str, GraderFault] = {}
        self.seconds = self.delay = 0.0
        self.lock, self.closed, self.ahead = threading.Lock(), False, threading.Thread()

    def run_ahead(self, files: Iterable[str]) -> None:
        """Begin to run the jobs of some files of checks, one after the other, while the grader computes.

        What fails there is met again by the check that asks for it.
        """
        jobs = [job for file in files for job in JOBS.get(file, ())]

        def run() -> None:
            for job in jobs:
                if not self.closed:
                    with contextlib.suppress(Exception):
                        getattr(self, job)

        with contextlib.suppress(GraderFault):  # of the base model, which the first check that needs it raises again
            self.course.base  # noqa: B018 (or both threads would load it)
            self.ahead = threading.Thread(target=run)
            self.ahead.start()

    def close(self) -> None:
        """Run no job any more; one that no check has waited for is stopped."""
        self.closed = True
        if self.ahead.is_alive():
            self.sandbox.stop(at_once=True)
            self.ahead.join()

    @cached_property
    def answering(self) -> JobReport:
        """parse_answer, generate, batched_generate and answer."""
        files = {f"table_model/{name}": content for name, content in make_checkpoint(self.number).items()}
        inputs = {"prompts": self.prompts, "texts": [text for text, _ in self.texts], "questions": self.questions}
        given = {"cold": COLD, "written": self.scripted, "numbers": self.scripted_numbers}
        return self.run("answering", {**inputs, **given}, files)

    @cached_property
    def scoring(self) -> JobReport:
        """is_answer_valid and benchmark."""
        answers = {question: answer for (question, _), answer in zip(self.valid_rows, self.answers, strict=True)}
        pairs = [pair for pair, _ in self.pairs]
        right = [
            (answer, correct, is_right)
            for answer, (_, correct), is_right in zip(self.answers, self.valid_rows, self.answers_right, strict=True)
        ]
        return self.run("scoring", {"pairs": pairs, "answers": answers, "few": FEW, "more": MORE, "right": right})

    @cached_property
    def labels(self) -> JobReport:
        """format_example, tokenize and TokenizedDataset."""
        files = {
            f"{family}/{name}": content
            for family, (_, made) in make_families().items()
            for name, content in made.items()
        }
        inputs = {"numbers": self.train_rows, "rows": self.rows, "families": FAMILIES, "prompts": self.prompts}
        return self.run("labels", {**inputs, **self.right_texts(self.formatted_rows)}, files)

    @cached_property
    def training(self) -> JobReport:
        """train_model on a few rows, whose answers no adapter can know that was trained before."""
        right = self.right_texts([row for rows in self.taught_data.values() for row in rows])
        return self.run("training", {name: right[name] for name in self.faulty}, code=as_files(self.taught_data))

    @cached_property
    def taught_data(self) -> dict[str, list[tuple[str, float]]]:
        """The data of a training, by file: all answers begin with the digits of this submission."""
        rows = {"train.json": self.train_rows, "valid.json": self.valid_rows[:FEW_VALID]}
        return {name: self.taught(found) for name, found in rows.items()}

    @cached_property
    def faulty(self) -> list[str]:
        """What takes the place of functions at fault, which is told where they are tested, in what builds upon them."""
        try:
            failed, rows = self.labels.error("format_example"), self.labels.error("tokenize bundled")
            written = [] if rows else self.labels.value("tokenize bundled")
        except (Refusal, Stopped):
            return []
        is_whole = isinstance(written, list) and len(written) == len(self.rows)
        if is_whole and len(set(map(repr, written))) == 1:  # `return {}` is not written yet, either
            return []
        is_right = not rows and is_whole and not any(map(self.complaint, written, self.rows))
        if not is_right and not is_missing(rows):
            return ["answers", "right_rows"]  # a row is known by its text
        return ["answers"] if failed and not is_missing(failed) else []

    def complaint(self, found: Any, text: tuple[str, str]) -> str | None:
        """What is wrong with a row that tokenize gave for a question and an answer, or None."""
        tokenizer = make_families()["bundled"][0]
        try:
            return diagnose_row(tokenizer, *text, read_row(found, tokenizer))
        except Refusal as refusal:
            return str(refusal)

    @cached_property
    def loading(self) -> JobReport:
        """load with an adapter of the course's, and without one."""
        return self.run("loading", {"ids": self.ids}, code=self.placed_adapter(CONFIG, WEIGHTS))

    def placed_adapter(self, config_file: str, weights_file: str) -> dict[str, bytes]:
        """An adapter of the course's, in the submission's folder."""
        config = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": rubric.BASE_NAME, "bias": "none",
            "r": self.adapter.rank, "lora_alpha": self.adapter.alpha, "target_modules": list(self.adapter.targets),
            "lora_dropout": DROPOUT, "inference_mode": True,
        }  # fmt: skip
        saved = save(self.adapter.weights, metadata={"format": "pt"})
        return {f"homework/{config_file}": json.dumps(config).encode(), f"homework/{weights_file}": saved}

    @cached_property
    def agreeing(self) -> JobReport:
        """load().answer with the submission's own adapter."""
        own = {f"homework/{name}": self.submission.files[name] for name in (CONFIG, WEIGHTS)}
        questions = [question.text for question in self.draw("valid", rubric.MATCH_QUESTIONS)]
        return self.run("agreeing", {"questions": questions}, code=own)

    @cached_property
    def prompting(self) -> JobReport:
        """format_prompt of the model that reasons by its prompt, and load of task 7."""
        inputs = {"questions": [question.text for question in self.asked], "ids": self.ids}
        given = self.placed_adapter(*REASONING_FILES)
        return self.run("prompting", {**inputs, "adapter_dir": rubric.REASONING_DIR}, code=given)

    @cached_property
    def sampling(self) -> JobReport:
        """generate_dataset, with texts of ours in the place of those that a model samples."""
        inputs: dict[str, Any] = {"script": self.script, "greedy": self.greedy}
        if not is_missing(self.prompting.lines.get("format_prompt", {}).get("error", {})):
            inputs |= {"prompt": self.prompt, "example": EXAMPLE}
        return self.run("sampling", inputs)

    @cached_property
    def reasoning_training(self) -> JobReport:
        """train_model of task 7, on rows whose answers no adapter can know that was trained before."""
        data = as_files({**self.taught_data, rubric.REASONS: self.reasoned_rows})
        right = {"right_rows": self.right_rows_of([(question, text) for question, _, text in self.reasoned_rows])}
        inputs = {**(right if "right_rows" in self.faulty else {}), "adapter_dir": rubric.REASONING_DIR}
        return self.run("reasoning_training", inputs, code=data)

    def run(
        self, job: str, inputs: dict[str, Any], files: dict[str, bytes] | None = None,
        code: dict[str, bytes] | None = None,
    ) -> JobReport:  # fmt: skip
        """The report of a job, which is run once; a module whose import ended an earlier one is not imported again."""
        with self.lock:
            if job not in self.reports:
                self.reports[job] = self.run_new(job, inputs, files or {}, code or {})
            return self.reports[job]

    def run_new(self, job: str, inputs: dict[str, Any], files: dict[str, bytes], code: dict[str, bytes]) -> JobReport:
        """Run a job for the first time, or raise again why that failed."""
        if job in self.faults:
            raise self.faults[job]
        for module in MODULES[job]:
            if module in self.dead:
                raise self.dead[module]
        content = json.dumps({"adapter_dir": rubric.ADAPTER_DIR, **inputs}).encode()
        report = JobReport(job, self.run_once(job, {**self.code, **code}, {"inputs.json": content, **files}))
        if report.stage.startswith("import homework.") and not report.outcome.ended.startswith("exit 3"):
            try:
                report.refuse_end()
            except Stopped as stopped:
                self.dead[report.stage.rpartition(".")[2]] = stopped
        return report

    def run_once(self, job: str, placed: dict[str, bytes], given: dict[str, bytes]) -> Outcome:
        """Run a job in what is left of the time of all; a fault of ours is kept, or each check would run it again."""
        started = time.monotonic()
        try:
            self.refuse_late(WALL_SECONDS - LEAST_SECONDS)
            outcome = self.sandbox.run(job, placed, given, SECONDS[job], WALL_SECONDS - self.seconds)
            self.delay += outcome.delay
            self.seconds += time.monotonic() - started
            if outcome.ended == "wall":
                self.refuse_late(0)
            return outcome
        except GraderFault as fault:
            self.faults[job] = fault
            raise

    def refuse_late(self, most: float) -> None:
        """Refuse to go on where the jobs took more seconds of wall clock than this.

        Raises:
            GraderFault: if the machine was too busy for them.
            Stopped: if they waited instead of computing.
        """
        if self.seconds <= most:
            return
        if self.delay > self.seconds / 2:
            raise GraderFault(
                f"the machine is too busy: in {self.seconds:.0f} s, the jobs of one submission did not end"
            )
        raise Stopped(State.TIMEOUT, f"the code waited, until all of {WALL_SECONDS} s were over", do=WAITS)

    @cached_property
    def code(self) -> dict[str, bytes]:
        """The submission without what it trained, the course's base model, and data drawn for this submission."""
        files = self.submission.files.items()
        trained = (f"{rubric.ADAPTER_DIR}/", f"{rubric.REASONING_DIR}/", rubric.REASONS)
        own = {
            f"homework/{name}": found
            for name, found in files
            if not name.startswith(trained) and not name.endswith(".safetensors")  # nor what lies in a wrong folder
        }
        base = {f"data/base_model/{name}": (rubric.BASE / name).read_bytes() for name in rubric.BASE_SHA256}
        return {**own, **base, **as_files({"train.json": self.train_rows, "valid.json": self.valid_rows})}
