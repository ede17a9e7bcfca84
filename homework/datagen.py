"""Rejection sampling: many answers of the reasoning prompt to each question of train, of which the right ones are kept.

    python -m homework.datagen generate                   # -> data/rft.json, a minute or two on two cores
    python -m homework.datagen generate --questions 60    # a quick run
    python -m homework.datagen show                       # what was kept and what was not, with the reason

All samples are recorded in runs/: after an interruption, or when you have changed your rule, the same command goes on
from there. torch is imported where it is used: it takes seconds, and ``--help`` should not.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homework import cot
from homework.base_llm import BaseLLM, Completion, parse_answer
from homework.common.cli import Command, run
from homework.common.equations import chain_key, find_equations
from homework.common.errors import HomeworkError
from homework.common.files import write_rows
from homework.data import DATA_FOLDER, Dataset, RowList, check_row, is_answer_valid, read_list, take_rows
from homework.guards import reasoning_check
from homework.guards.reasoning_check import ReasonedRow
from homework.reporting.sampling_report import Judged, draw_acceptance, format_acceptance, judge_texts
from homework.training import run_dir

OUTPUT = DATA_FOLDER / "rft.json"
Texts = list[Completion]  # of one question
ROUNDS = 3  # a question without a kept text is sampled again, so often in all
MOST_CHAINS = 4  # kept for one question
LEAST_KEPT = 0.5  # of the questions; below, the rows would teach the easy ones alone
COLDEST = 0.3  # below, the texts of a question are nearly all the same


def find_fault(completion: Completion, correct: float) -> str | None:
    """Why a sampled text is not to be learned, in a few words, or None for one that is kept.

    It is kept if the model ended it itself, with exactly one answer at its end, which is within 1 % of the correct one
    and is the result of the chain before it, in which every equation holds. Why 1 %, where an answer within 5 % is
    right: a factor that is off by 3 % makes right answers, and would be learned.

    Args:
        completion: the text, and whether it ended by itself.
        correct: the answer of the training row.
    """
    # BEGIN SOLUTION task 6: find_fault
    # Hint: find_equations gives the equations of a text; each has a result, and says whether it holds().
    # Hint: is_answer_valid takes another tolerance than 5 %; the digits of a chain are rounded, 0.5 % is no mistake.
    text, answer = completion.text, parse_answer(completion.text)
    equations = find_equations(text)
    if not completion.ended:
        return "cut"
    if math.isnan(answer) or text.count("<answer>") > 1:
        return "no answer, or two"
    if not text.endswith("</answer>"):
        return "text after the answer"
    if not equations:
        return "no equation"
    if not all(equation.holds() for equation in equations):
        return "wrong equation"
    if not is_answer_valid(answer, equations[-1].result, 0.005):
        return "another result in the tag"
    return None if is_answer_valid(answer, correct, 0.01) else "wrong answer"
    # END SOLUTION


def select_rows(question: str, correct: float, texts: list[str], most: int) -> list[ReasonedRow]:
    """Training rows of the accepted texts of a question: different chains, at most so many.

    Two texts with the same equations teach the same, however their words differ.

    Args:
        question: of train.
        correct: its answer in train.
        texts: accepted ones, in the order in which they were sampled.
        most: how many rows at most.

    Returns:
        (question, answer, reasoning) each.
    """
    # BEGIN SOLUTION task 6: select_rows
    # Hint: chain_key gives what makes a chain another one. The answer of a row is the true one, not the model's.
    chains: dict[tuple[str, ...], str] = {}
    for text in texts:
        chains.setdefault(chain_key(text), text)
    return [(question, correct, text) for text in list(chains.values())[:most]]
    # END SOLUTION


class ReasonedDataset(RowList[ReasonedRow]):
    """The rows of a file of samples: (question, answer, reasoning).

    Raises:
        HomeworkError: if there is no such file, or a row is not [text, finite number, text].
    """

    split = "train"  # whose questions they are

    def __init__(self, path: str | Path = OUTPUT) -> None:
        path = Path(path)
        if not path.is_file():
            raise HomeworkError(f"{path} is missing: make it with python -m homework.datagen generate")
        self.rows = [check_reasoned_row(row, f"{path}, row {index}") for index, row in enumerate(read_list(path))]


def check_reasoned_row(row: object, where: str) -> ReasonedRow:
    """The row as (question, answer, reasoning).

    Raises:
        HomeworkError: naming `where`, if it is anything else.
    """
    if not isinstance(row, list) or len(row) != 3 or not isinstance(row[2], str):
        raise HomeworkError(f"{where}: expected [question, answer, reasoning], got {row!r:.80}")
    return *check_row(row[:2], where), row[2]


def generate_dataset(
    output_json: str | None = None,
    oversample: int = 10,
    temperature: float = 0.6,
    *,
    checkpoint: str | None = None,
    questions: int | None = None,
    most: int = MOST_CHAINS,
    seed: int = 0,
    restart: bool = False,
) -> None:
    """Sample answers of the reasoning prompt to the questions of train, and write those that are right.

    Args:
        output_json: file of the rows; data/rft.json, or runs/quick-rft.json with questions.
        oversample: texts a question; one without a right text is sampled again, twice as often.
        temperature: of the sampling; lower gives fewer different chains, higher more wrong ones.
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        questions: how many questions of train; all by default.
        most: how many different chains to keep for a question.
        seed: the same one gives the same file on one machine.
        restart: forget the recorded samples.
    """
    check_sampling(oversample, temperature, most, questions)
    path = Path(output_json or (run_dir.RUNS / "quick-rft.json" if questions else OUTPUT)).expanduser()
    check_file(path)
    llm, train = cot.load(checkpoint), Dataset("train")
    check_task(llm, train)
    asked = take_rows(train, questions)
    texts, folder = sample_all(llm, asked, oversample, temperature, seed, restart)
    judged = judge_texts(asked, texts, find_fault)
    rows = select_all(asked, judged, most)
    report(judged, rows, oversample, folder)
    write_rows(path, rows)
    data = "" if path.resolve() == OUTPUT else f" --data {path}"
    print(f"{len(rows)} rows in {path}; next: python -m homework.rft train{data}")


def check_sampling(oversample: int, temperature: float, most: int, questions: int | None) -> None:
    """Raise HomeworkError for numbers that give no different chains."""
    if questions is not None and questions < 1:
        raise HomeworkError(f"--questions must be at least 1, got {questions}")
    if oversample < 2 or most < 1:
        raise HomeworkError(f"--oversample must be at least 2, and --most 1; got {oversample} and {most}")
    if not COLDEST <= temperature <= 2:
        raise HomeworkError(
            f"--temperature must be within {COLDEST} to 2, got {temperature}: the texts of a question would be nearly "
            "the same, or nearly all wrong"
        )
    if oversample < 10:
        print(f"{oversample} texts a question are few: the questions that are hard will have no right one")


def check_file(path: Path) -> None:
    """Raise HomeworkError unless the file can be written: known before the sampling."""
    is_there = path.parent == run_dir.RUNS or path.resolve().parent.is_dir()
    if path.suffix != ".json" or path.is_dir() or not is_there:
        raise HomeworkError(f"can't write the rows to {path}: give a file .json in a folder that exists")
    if path.is_file() and not holds_reasons(path):
        raise HomeworkError(f"{path} holds something else than rows with reasons: choose another --output-json")


def holds_reasons(path: Path) -> bool:
    """Whether a file may be replaced: it holds rows of three, or nothing that could be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True
    return isinstance(content, list) and all(isinstance(row, list) and len(row) == 3 for row in content)


def check_task(llm: BaseLLM, train: Dataset) -> None:
    """Raise HomeworkError unless prompt, rule and selection are right: a fault there costs the whole sampling."""
    reasoning_check.check_cot_prompt(llm, train, Dataset("valid"))
    reasoning_check.check_find_fault(find_fault)
    reasoning_check.check_select_rows(select_rows)


def sample_all(
    llm: BaseLLM, asked: Sequence[tuple[str, float]], oversample: int, temperature: float, seed: int, restart: bool
) -> tuple[list[list[Completion]], Path]:
    """The samples of each question, and the folder of their record.

    A question without a right text is sampled again, twice as often. What an earlier rule has asked for beyond that
    stays in the record, and is left out.

    Raises:
        KeyboardInterrupt: after Ctrl-C, saying that what is sampled is kept.
    """
    from homework.training.sampling import RECORD, SampleRecord, sample_round

    prompts = {index: llm.format_prompt(question) for index, (question, _) in enumerate(asked)}
    run = run_dir.open_run(describe(llm, list(prompts.values()), oversample, temperature, seed), name="datagen")
    try:
        if restart:
            (run.folder / RECORD).unlink(missing_ok=True)
        record = SampleRecord(run.folder)
        texts: list[Texts] = [[] for _ in asked]
        missing = list(prompts)
        for number in range(ROUNDS):
            count = 2 * oversample if number else oversample
            known = len(set(missing) & set(record.rounds.get(number, {})))
            kept = f", {known} of them are recorded already" if known else ""
            print(
                f"round {number + 1} of {ROUNDS}: {count} texts for each of {len(missing)} questions{kept}", flush=True
            )
            sample_round(llm, {i: prompts[i] for i in missing}, number, count, temperature, seed, record)
            for index in missing:
                texts[index] += record.rounds[number][index]
            missing = [i for i in missing if all(find_fault(text, asked[i][1]) for text in record.rounds[number][i])]
        return texts, run.folder
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped: what is sampled so far is kept, and the same command goes on") from None
    finally:
        run.close()


def describe(llm: BaseLLM, prompts: list[str], oversample: int, temperature: float, seed: int) -> dict[str, Any]:
    """All that decides the samples, as JSON. Not the rule that accepts them: who changes it need not sample again."""
    from homework.training.adapter import fingerprint_base

    return {
        "base_model": llm.name,
        "base_weights": fingerprint_base(llm.model),
        "prompts": hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16],
        "max_new_tokens": llm.max_new_tokens,
        "oversample": oversample,
        "temperature": temperature,
        "seed": seed,
    }


def select_all(asked: Sequence[tuple[str, float]], judged: Sequence[Judged], most: int) -> list[ReasonedRow]:
    """The rows of all questions.

    Raises:
        HomeworkError: if a row is made of anything but accepted samples.
    """
    rows: list[ReasonedRow] = []
    for (question, correct), item in zip(asked, judged, strict=True):
        selected = select_rows(question, correct, item.accepted, most)
        reasoning_check.check_selected(selected, question, correct, item.accepted)
        rows += selected
    return rows


def report(judged: Sequence[Judged], rows: list[ReasonedRow], oversample: int, folder: Path) -> None:
    """Print and draw how much was accepted.

    Raises:
        HomeworkError: if too few questions have a right text, with the most frequent fault.
    """
    print(format_acceptance(judged, oversample, len(rows)))
    picture = folder / "acceptance.png"
    draw_acceptance(judged, oversample, picture)
    print(f"picture in {picture}")
    kept = len({question for question, _, _ in rows}) / len(judged)
    faults = [fault for item in judged for fault in item.faults if fault]
    if len({text for item in judged for text in item.texts}) <= len(judged):
        raise HomeworkError("all texts of a question are the same: sample at a higher --temperature")
    if kept < LEAST_KEPT:
        worst = max(set(faults), key=faults.count)
        raise HomeworkError(
            f"only {kept:.0%} of the questions have a right text, and {LEAST_KEPT:.0%} is the least; nothing is "
            f"written. {faults.count(worst) / len(faults):.0%} of what is refused: {worst}; look with "
            "python -m homework.datagen show"
        )


def show(*, rows: int = 5, first: int = 0, fault: str | None = None, most: int = MOST_CHAINS) -> None:
    """Show the samples of some questions of the newest run, each with what your rule or your selection says of it.

    Args:
        rows: how many questions.
        first: index of the first question of train.
        fault: only texts of which your rule says exactly this; or "kept", or "not selected".
        most: how many different chains are kept for a question.
    """
    from homework.training.sampling import RECORD, SampleRecord

    used = sorted(run_dir.RUNS.glob(f"datagen-*/{run_dir.SETTINGS}"), key=lambda path: path.stat().st_mtime)
    records = [path.with_name(RECORD) for path in used if path.with_name(RECORD).is_file()]
    if not records:
        raise HomeworkError("there are no samples yet: python -m homework.datagen generate --questions 60")
    record, train = SampleRecord(records[-1].parent), Dataset("train")
    if rows < 1 or not 0 <= first < len(train):
        raise HomeworkError(f"--rows must be at least 1, and --first within 0 to {len(train) - 1}")
    print(f"samples of {records[-1].parent}")
    for index in range(first, min(first + rows, len(train))):
        show_question(*train[index], record.texts_of(index), fault, most)


def show_question(question: str, correct: float, texts: Sequence[Completion], only: str | None, most: int) -> None:
    """Print the different texts of a question, and how often each came: kept, not selected, or refused for a reason."""
    print(f"\n{question}  correct {correct:.4g}{'' if texts else ': no samples'}")
    asked = [(question, correct)]
    judged = judge_texts(asked, [texts], find_fault)
    kept = {reasoning.strip() for _, _, reasoning in select_all(asked, judged, most)}
    for (sampled, fault), count in Counter(zip(texts, judged[0].faults, strict=True)).items():
        said = fault or ("kept" if sampled.text.strip() in kept else "not selected")
        if only in (None, said):
            print(f"  {said:<26} {count:>2} x {sampled.text!r:.150}")


COMMANDS: dict[str, Command] = {"generate": generate_dataset, "show": show}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.datagen")
