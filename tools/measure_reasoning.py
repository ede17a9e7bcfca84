"""Measure tasks 5 to 7 with their default recipes, in one go, and write the figures that docs/reasoning.md shows.

    python -m tools.measure_reasoning             # about ten minutes on two cores; into benchmarks/reasoning.json

Sampling and both trainings are those that a student runs, but for the folders. `long` questions are those of the hidden
slice whose value has three or four significant digits, scored within 1 %.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from grader.units import draw_questions, is_long
from homework import cot, datagen, rft, sft
from homework.base_llm import BaseLLM
from homework.common.cli import run
from homework.common.files import write_json
from homework.data import Dataset
from homework.guards.reasoning_check import check_cot_prompt
from homework.training.merged_lora import merged_lora
from tools.measure_base import DRAW, QUESTIONS, ROOT, Rows, draw_between, read_rows, rows_of_slice, share_right

# The prompt of a course that names the tag in a system message.
SYSTEM = "You convert units. Think in short steps and write the number as <answer>NUMBER</answer>."
OTHER_EXAMPLE = (
    "How many centimetres are 38 inches?",
    "1 in = 2.54 cm. 38 * 2.54 = 76.2 + 20.32 = 96.52. <answer>96.52</answer>",
)
RESULT = ROOT / "benchmarks" / "reasoning.json"
STRICT = 0.01
# The lines of the table: name, tolerance.
LINES = {
    "`valid`, within 5 %": 0.05,
    "`long` questions of `hidden`, within 1 %": STRICT,
    "of these, values of four digits": STRICT,
    "`novel`, within 5 %": 0.05,
    "values from 1,000 to 999,999, within 5 %": 0.05,
    "200 questions in the words of others, within 5 %": 0.05,
}


def long_questions(count: int = QUESTIONS) -> tuple[Rows, Rows]:
    """Hidden questions whose values have three or four digits, and those of four digits alone."""
    drawn = [question for question in draw_questions("hidden", 20 * count, DRAW) if is_long(question.fact)][:count]
    rows = [(question.text, question.fact.answer) for question in drawn]
    four = [
        row
        for row, question in zip(rows, drawn, strict=True)
        if len(f"{question.fact.value:.4g}".replace(".", "").strip("0")) == 4
    ]
    return rows, four


class OtherPrompt(cot.CoTModel):
    """The base model behind a prompt in another course's style, in the place of ours."""

    def format_prompt(self, question: str) -> str:
        turns = zip(("system", "user", "assistant", "user"), (SYSTEM, *OTHER_EXAMPLE, question), strict=True)
        messages = [{"role": role, "content": content} for role, content in turns]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def measure_other_prompt(checkpoint: str) -> float:
    """The share of `valid` that is right within 5 % with the other prompt."""
    llm, rows = OtherPrompt(checkpoint), list(Dataset("valid"))
    check_cot_prompt(llm, Dataset("train"), Dataset("valid"))
    return share_right(llm.answer(*(question for question, _ in rows)), rows)


def question_sets() -> dict[str, Rows]:
    """The rows of each line of the table."""
    long, four = long_questions()
    sets = (
        list(Dataset("valid")),
        long,
        four,
        rows_of_slice("novel"),
        draw_between(1_000, 999_999, (1, 2, 3, 4)),
        read_rows(ROOT / "tests" / "foreign_questions.json"),
    )
    return dict(zip(LINES, sets, strict=True))


def measure(llm: BaseLLM, name: str) -> dict[str, float]:
    """The share of right answers on each set."""
    shares = {}
    with merged_lora(llm.model):
        for line, rows in question_sets().items():
            shares[line] = round(share_right(llm.answer(*(question for question, _ in rows)), rows, LINES[line]), 4)
            print(f"{name}  {line}: {shares[line]:.3f} of {len(rows)}", flush=True)
    return shares


def timed(seconds: dict[str, float], name: str, work: Callable[[], None]) -> None:
    """Do the work, and keep how long it took."""
    started = time.perf_counter()
    work()
    seconds[name] = round(time.perf_counter() - started, 1)


def main(*, checkpoint: str = "data/base_model", seed: int = 0) -> None:
    """Sample, train both adapters, and measure prompt and adapters.

    Args:
        checkpoint: the base model.
        seed: of the sampling and of both trainings.
    """
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, adapters = folder / "rft.json", {task: folder / f"{task}_model" for task in ("sft", "rft")}
        shared = {"checkpoint": checkpoint, "seed": seed}
        timed(seconds, "cot test", lambda: cot.test_model(checkpoint=checkpoint))
        timed(seconds, "datagen", lambda: datagen.generate_dataset(str(rows), restart=True, **shared))
        sft.train_model(str(adapters["sft"]), run_dir=str(folder / "sft"), **shared)
        timed(
            seconds, "rft train",
            lambda: rft.train_model(str(adapters["rft"]), data=str(rows), run_dir=str(folder / "rft"), **shared),
        )  # fmt: skip
        kept = datagen.ReasonedDataset(rows)
        figures = {
            "reasoning prompt": measure(cot.load(checkpoint), "cot"),
            "SFT adapter": measure(sft.load(adapters["sft"], checkpoint), "sft"),
            "RFT adapter": measure(rft.load(adapters["rft"], checkpoint), "rft"),
        }
    other = measure_other_prompt(checkpoint)
    asked = len({question for question, _, _ in kept})
    sampled = {"kept": asked / len(Dataset("train")), "chains": round(len(kept) / asked, 3)}
    write_json(RESULT, {"figures": figures, "other_prompt": other, "sampled": sampled, "seconds": seconds})
    print(
        f"figures in {RESULT}: kept {sampled['kept']:.3f}, {sampled['chains']} chains a question, "
        f"another course's prompt {other:.3f}; {seconds}"
    )


if __name__ == "__main__":
    run(main, "python -m tools.measure_reasoning")
