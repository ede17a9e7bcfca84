"""What a student reads about rows and results: label spans before the training, accuracy and mistakes after it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homework.base_llm import BaseLLM, score
from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file
from homework.common.zip_contents import WEIGHTS
from homework.data import IGNORE_INDEX, Dataset, ListLike, Row
from homework.reporting.error_analysis import count_mistakes, format_mistakes
from homework.reporting.evaluation import count_probes, wilson_interval

if TYPE_CHECKING:
    from homework.training.run_dir import Run

LATE = 10  # steps at the end of a run, over which the loss is averaged


def describe_rows(rows: ListLike[Row], batch_size: int) -> str:
    """Lengths, supervised share and padding waste of tokenized rows, as one or two lines.

    The waste is what batches of rows sorted by length would pad, as the Trainer's sampler nearly sorts them.
    """
    lengths = sorted(sum(row["attention_mask"]) for row in rows)
    spans = [sum(label != IGNORE_INDEX for label in row["labels"]) for row in rows]
    equal = sum(len(row["labels"]) == len(row["input_ids"]) for row in rows)
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    slots = sum(len(batch) * batch[-1] for batch in batches)
    return (
        f"training rows: {len(rows)} of {lengths[0]} to {lengths[-1]} tokens; "
        f"{min(spans)} to {max(spans)} of them supervised (mean {sum(spans) / len(spans):.1f}, "
        f"{sum(spans) / sum(lengths):.0%} of all); label length = input length in {equal} of {len(rows)} rows\n"
        f"  padding {1 - sum(lengths) / slots:.1%} at best, "
        f"{1 - sum(lengths) / len(rows) / lengths[-1]:.0%} if all were padded to the longest"
    )


def report_accuracy(llm: BaseLLM, rows: Sequence[tuple[str, float]], split: str) -> dict[str, Any]:
    """Print ten mistakes, all mistakes by quantity and kind, and accuracy with its interval.

    Returns:
        The same figures: accuracy, interval, answer_rate, ended_by_eos, questions, split, mistakes.
    """
    from homework.training.merged_lora import merged_lora

    with merged_lora(llm.model):
        result, completions = score(llm, rows)
    answered = list(zip(result.samples, completions, strict=True))
    wrong = [(sample, text) for sample, (text, _) in answered if not sample.is_correct]
    for sample, text in wrong[:10]:
        print(f"  wrong: {sample.question}  correct {sample.correct_answer:.4g}, model wrote {text.strip()!r}")
    counts = count_mistakes(result.samples)
    if result.accuracy < 1:
        print(format_mistakes(counts))
    low, high = wilson_interval(result.accuracy, len(rows))
    ended = sum(completion.ended for completion in completions) / len(completions)
    print(
        f"accuracy {result.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}), "
        f"answer rate {result.answer_rate:.3f}, ended by EOS {ended:.3f}, on {len(rows)} questions of {split}"
    )
    return {
        "accuracy": result.accuracy,
        "interval": [low, high],
        "answer_rate": result.answer_rate,
        "ended_by_eos": ended,
        "questions": len(rows),
        "split": split,
        "mistakes": {quantity: dict(count) for quantity, count in counts.items()},
        "wrong": [{"question": s.question, "correct": s.correct_answer, "text": text} for s, text in wrong],
    }


def report_log(log: Sequence[dict]) -> None:
    """Print how the loss went and whether every gradient norm was finite."""
    steps = [entry for entry in log if "loss" in entry]
    first, last, norms = steps[0]["loss"], steps[-1]["loss"], [entry["grad_norm"] for entry in steps]
    print(
        f"loss {first:.3f} -> {last:.3f} ({last / first:.3f} of the first); gradient norm finite in "
        f"{sum(map(math.isfinite, norms))} of {len(steps)} steps, {min(norms):.3f} to {max(norms):.3f}"
    )


def report_finished(run: "Run", output: Path) -> bool:
    """Whether this very run is finished and its adapter still in place; said, with its accuracy."""
    result = run.result
    if result is None:
        return False
    weights = output / WEIGHTS
    if not weights.is_file() or fingerprint_file(weights) != result.get("adapter_sha256"):
        print(f"this run is finished, but {output} no longer holds its adapter: training again")
        run.restart()
        return False
    print(
        f"this run is finished: accuracy {result['accuracy']:.3f} on {result['questions']} questions of valid, adapter "
        f"in {output}, picture and log in {run.folder}; to train again, add --restart or change a flag"
    )
    return True


def check_outcome(log: Sequence[dict]) -> None:
    """Stop with an error where the log shows that the saved adapter can't be what the student wanted.

    Raises:
        HomeworkError: if the loss has not fallen, or has, and the questions of the training still are not answered.
    """
    losses = [entry["loss"] for entry in log if "loss" in entry]
    if len(losses) < 2 * LATE:
        return  # a quick run shows nothing
    late = sum(losses[-LATE:]) / LATE
    answered = [entry["accuracy_train"] for entry in log if "accuracy_train" in entry]
    if late > 0.9 * losses[0]:
        raise HomeworkError(
            f"the adapter is saved, but nothing was learned: the loss was {losses[0]:.2f} and is {late:.2f}; try the "
            "recipe's --learning-rate, which may be too small or too large here"
        )
    if late < 0.3 and answered and answered[-1] < 0.5:
        raise HomeworkError(
            f"the adapter is saved, but the loss of {late:.2f} says that the training rows are learned, and only "
            f"{answered[-1]:.0%} of their questions are answered: the fault lies between question and answer, "
            "in generate, batched_generate, answer or parse_answer; fix it, and train with --restart"
        )


def report_run(run: "Run", log: list[dict], llm: BaseLLM, rows: Sequence[tuple[str, float]], output: Path) -> None:
    """Print the accuracy of the saved adapter on rows of valid, and keep result and plots of its run.

    Args:
        run: the run that is done.
        log: what its Trainer has logged.
        llm: the base model with the adapter, as load() gives it.
        rows: the questions to answer, with their answers.
        output: the adapter's folder.

    Raises:
        HomeworkError: if the adapter can't be what the student wanted; the run does not count as finished then.
    """
    from homework.reporting.plots import draw_run
    from homework.training.run_dir import now

    result = report_accuracy(llm, rows, "valid")
    check_outcome(log)  # before the run counts as finished, or the same command would call it a success
    probes = count_probes(Dataset("valid"))
    draw_run(log, probes, run.folder / "curve.png", f"{run.folder.name}: accuracy {result['accuracy']:.3f}")
    run.finish({**result, "adapter_sha256": fingerprint_file(output / WEIGHTS), "finished": now()})
    print(f"picture, log and mistakes in {run.folder}: curve.png, log.json, result.json")
