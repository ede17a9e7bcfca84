"""Measure a base model against the gate of its model card, and write what was measured into the card.

    python -m tools.measure_base                                  # data/base_model, about six minutes on two cores
    python -m tools.measure_base --checkpoint runs/pretrain/model # another folder of weights

The gate says what a base model has to be good for: nothing on a raw question, the homework after fine-tuning, and
following one worked example without any.
"""

import json
import random
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from grader.units import SLICE_SHARES, Fact, ask, draw_fact, draw_questions, slice_of
from homework import sft
from homework.base_llm import BaseLLM, parse_answer
from homework.common.cli import run
from homework.data import is_answer_valid
from tools.model_card import GATE, MEASURES, write_model_card

Rows = list[tuple[str, float]]
ROOT = Path(__file__).resolve().parent.parent
QUESTIONS, SEEDS, SAMPLES = 600, 2, 10
DRAW = "gate"  # seed of the questions; no other tool draws with it

# Two worked examples in different words; the equations hold, and the facts are of the train slice.
EXAMPLES = (
    ("Convert 46 ft to m.", "1 ft is 0.305 m. 46 * 0.305 = 12.2 + 1.83 = 14.03. <answer>14.03</answer>"),
    ("My bag weighs 2.5 kg. How many pounds?", "1 kg is 2.2 lb. 2.5 * 2.2 = 4.4 + 1.1 = 5.5. <answer>5.5</answer>"),
)
DIRECT = ("Convert 46 ft to m.", "<answer>14</answer>")
CHAIN = re.compile(r"\d [*x×] \S+ = .*<answer>[^<]+</answer>$", re.DOTALL)


def draw_between(low: float, high: float, digits: Sequence[int], count: int = QUESTIONS) -> Rows:
    """Questions of the hidden slice whose values lie in a range, as often in each power of ten."""
    rng = random.Random(f"{DRAW}:{low}:{high}:{digits}")
    rows: Rows = []
    while len(rows) < count:
        value = float(f"{low * (high / low) ** rng.random():.{rng.choice(digits)}g}")
        fact: Fact = draw_fact(rng)._replace(value=min(max(value, low), high))
        if slice_of(fact) == "hidden":
            rows.append((ask(fact, rng).text, fact.answer))
    return rows


def read_rows(path: Path) -> Rows:
    return [(text, answer) for text, answer in json.loads(path.read_text(encoding="utf-8"))]


def rows_of_slice(name: str, count: int = QUESTIONS) -> Rows:
    return [(question.text, question.fact.answer) for question in draw_questions(name, count, DRAW)]


def share_right(answers: Iterable[float], rows: Rows, tolerance: float = 0.05) -> float:
    """Share of answers within the tolerance of the rows' ones."""
    return sum(is_answer_valid(answer, row[1], tolerance) for answer, row in zip(answers, rows, strict=True)) / len(
        rows
    )


class ChainModel(BaseLLM):
    """A base model that may write a chain of equations."""

    max_new_tokens = 144  # a value of four digits and a factor with an exponent take 130


def as_chat(llm: BaseLLM, example: tuple[str, str], question: str) -> str:
    """A worked example and a question by the tokenizer's chat template, ready for the answer."""
    turns = zip(("user", "assistant", "user"), (*example, question), strict=True)
    messages = [{"role": role, "content": content} for role, content in turns]
    return llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def measure_example(llm: BaseLLM, rows: Rows, example: tuple[str, str]) -> dict[str, float]:
    """How often one worked example is followed, and how often the answer is right within 5 % and 1 %."""
    texts = llm.complete([as_chat(llm, example, question) for question, _ in rows])
    answers = [parse_answer(text) for text, _ in texts]
    return {
        "chain and tag": sum(ended and bool(CHAIN.search(text)) for text, ended in texts) / len(rows),
        "right": share_right(answers, rows),
        "right within 1 %": share_right(answers, rows, 0.01),
    }


def measure_samples(llm: BaseLLM, rows: Rows, example: tuple[str, str]) -> float:
    """Share of questions of which one of ten samples at temperature 0.7 is within 1 %."""
    prompts = [as_chat(llm, example, question) for question, _ in rows for _ in range(SAMPLES)]
    answers = [parse_answer(text) for text, _ in llm.complete(prompts, 0.7)]
    found = [answers[index * SAMPLES : (index + 1) * SAMPLES] for index in range(len(rows))]
    hits = [
        any(is_answer_valid(answer, row[1], 0.01) for answer in group) for group, row in zip(found, rows, strict=True)
    ]
    return sum(hits) / len(rows)


def measure_untuned(llm: BaseLLM, rows: Rows) -> dict[str, float]:
    """What the base does by itself: with the raw question, and with one example before it."""
    measured = {"raw question": share_right(llm.answer(*(question for question, _ in rows)), rows)}
    for number, example in enumerate(EXAMPLES, 1):
        measured |= {f"example {number}: {name}": value for name, value in measure_example(llm, rows, example).items()}
    direct = [parse_answer(text) for text, _ in llm.complete([as_chat(llm, DIRECT, row[0]) for row in rows])]
    return measured | {
        "direct example: right": share_right(direct, rows),
        "ten samples, one within 1 %": measure_samples(llm, rows[:200], EXAMPLES[0]),
    }


def tuned_sets() -> dict[str, Rows]:
    """The question sets that a fine-tuned model is measured on, by the name of their line in the gate."""
    return {
        **{name: rows_of_slice(name, 1000) for name in SLICE_SHARES if name != "train"},
        "values 1 to 999": draw_between(1, 999, (1, 2, 3)),
        "values 1,000 to 999,999": draw_between(1_000, 999_999, (1, 2, 3, 4)),
        "values 0.001 to 0.999": draw_between(0.001, 0.999, (1, 2, 3)),
        "five and six digits": draw_between(1, 999_999, (5, 6)),
        "wording of others": read_rows(ROOT / "tests" / "foreign_questions.json"),
    }


def measure_tuned(checkpoint: str, report: Callable[[str], None] = print) -> dict[str, float]:
    """Mean accuracy within 5 % of the default recipe on bare answers, over `SEEDS` seeds."""
    sets, total = tuned_sets(), dict.fromkeys(tuned_sets(), 0.0)
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            sft.train_model(output_dir=f"{folder}/sft", run_dir=f"{folder}/run", checkpoint=checkpoint, seed=seed)
            llm = sft.load(f"{folder}/sft", checkpoint)
            for name, rows in sets.items():
                accuracy = share_right(llm.answer(*(question for question, _ in rows)), rows)
                report(f"seed {seed}  {name}: {accuracy:.3f}")
                total[name] += accuracy / SEEDS
    return total


def main(*, checkpoint: str = "data/base_model", tuned: bool = True, questions: int = QUESTIONS) -> None:
    """Measure every line of the gate and write them into the model card.

    Args:
        checkpoint: folder of the base model, with its list of stretches.
        tuned: fine-tune two seeds as well; without, only what the base does by itself is printed.
        questions: how many questions of valid the untuned base is asked.
    """
    llm = ChainModel(checkpoint)
    measured = measure_untuned(llm, rows_of_slice("valid", questions))
    for name, value in measured.items():
        print(f"{name}: {value:.3f}", flush=True)
    if not tuned:
        return
    measured |= measure_tuned(checkpoint)
    folder = Path(checkpoint)
    (folder / MEASURES).write_text(json.dumps({k: round(v, 4) for k, v in measured.items()}, indent=1) + "\n")
    write_model_card(folder)
    for name, bound in GATE.items():
        print(f"{name:32} {bound:14} {measured[name]:.3f}")


if __name__ == "__main__":
    run(main, "python -m tools.measure_base")
