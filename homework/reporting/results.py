"""What a student reads about a training that is done: accuracy, mistakes, and where the run's files are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from homework.base_llm import BaseLLM, score
from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file
from homework.common.zip_contents import WEIGHTS
from homework.data import IGNORE_INDEX, ListLike, Row
from homework.guards.label_check import doubt_format
from homework.reporting.error_analysis import count_mistakes, format_mistakes
from homework.training import distributed
from homework.training.evaluation import take_reported, wilson_interval
from homework.training.run_dir import now, steps_of

if TYPE_CHECKING:
    from homework.training.trainer import HomeworkTrainer

OFTEN, UNLIKELY = 3, 0.01  # answers that hold a token, and the chance below which the model never writes it
EXAMINED, AT_ONCE = 200, 16  # rows that are searched for such tokens, and rows of one forward pass
LATE = 10  # steps at the end of a run, over which the loss is averaged
HARDLY = 0.05  # an accuracy that no training on the right rows ends with
CHANCE = 0.25  # where the interval reaches so far, too few questions were asked to say so


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


def find_unlikely_tokens(llm: BaseLLM, rows: Sequence[Row]) -> dict[str, float]:
    """Tokens that stand in several answers and that the trained model practically never writes, with their mean chance.

    Args:
        llm: the base model with the adapter.
        rows: tokenized training rows.
    """
    import torch

    from homework.training.batches import pad

    chances: dict[int, list[float]] = {}
    for start in range(0, len(rows), AT_ONCE):
        fills = {"input_ids": 0, "attention_mask": 0, "labels": IGNORE_INDEX}
        batch = {name: pad([row[name] for row in rows[start : start + AT_ONCE]], fill) for name, fill in fills.items()}
        labels = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            logits = llm.model(**{name: tensor.to(llm.device) for name, tensor in batch.items()}).logits[:, :-1].cpu()
        is_label = labels != IGNORE_INDEX
        chosen = logits[is_label].float().softmax(-1).gather(1, labels[is_label][:, None])[:, 0]
        for label, chance in zip(labels[is_label].tolist(), chosen.tolist(), strict=True):
            chances.setdefault(label, []).append(chance)
    means = {label: sum(found) / len(found) for label, found in chances.items() if len(found) >= OFTEN}
    return {llm.tokenizer.decode([label]): mean for label, mean in means.items() if mean < UNLIKELY}


def check_outcome(log: Sequence[dict], result: dict[str, Any] | None = None) -> None:
    """Stop with an error where the log, or the accuracy, shows that the saved adapter can't be what the student wanted.

    Args:
        log: of the training.
        result: of `report_accuracy` on valid, where the training was a whole one.

    Raises:
        HomeworkError: if the loss has not fallen, or has, and the questions of the training still are not answered, or
            hardly one of valid is.
    """
    losses = [entry["loss"] for entry in steps_of(log)]
    if len(losses) < 2 * LATE:
        return  # a quick run shows nothing
    early, late = sum(losses[:LATE]) / LATE, sum(losses[-LATE:]) / LATE
    answered = [entry["accuracy_train"] for entry in log if "accuracy_train" in entry]
    if late > 0.9 * early:
        raise HomeworkError(
            f"the adapter is saved, but nothing was learned: the loss was {early:.2f} and is {late:.2f}; try the "
            "recipe's --learning-rate, which may be too small or too large here"
        )
    if late < 0.3 and answered and answered[-1] < 0.5:
        raise HomeworkError(
            f"the adapter is saved, but the loss of {late:.2f} says that the training rows are learned, and only "
            f"{answered[-1]:.0%} of their questions are answered: the fault lies between question and answer, "
            "in generate, batched_generate, answer or parse_answer; fix it, and train with --restart"
        )
    if result and result["accuracy"] < HARDLY and result["interval"][1] < CHANCE:
        asked, right = result["questions"], round(result["accuracy"] * result["questions"])
        raise HomeworkError(
            f"the adapter is saved, but it answers {right} of {asked} questions of valid right: look at the mistakes "
            "above, at the labels (python -m homework.sft show), and whether the questions are of the kind that the "
            "base model knows"
        )


def read_labels(tokenizer: Any, row: Row) -> str:
    """The text that a row teaches."""
    return tokenizer.decode([label for label in row["labels"] if label != IGNORE_INDEX], skip_special_tokens=True)


def warn_of_format(llm: BaseLLM, rows: ListLike[Row]) -> None:
    """Name what the answers of the rows hold and the base can't write: a fault of the format, not of the labels."""
    examined = [rows[index] for index in range(min(EXAMINED, len(rows)))]
    found = find_unlikely_tokens(llm, examined)
    for token, chance in found.items():
        print(
            f"warning: {token!r} stands in answers of your rows, and the trained model gives it a chance of "
            f"{chance:.0e} there: this base can't write it, so format_example should write such numbers otherwise"
        )
    if doubt := doubt_format([read_labels(llm.tokenizer, row) for row in examined]):
        print(f"warning: a small model learns badly {doubt} (format_example)")


def report_run(trainer: "HomeworkTrainer", questions: int | None = None) -> None:
    """Print how the loss went and the accuracy of the saved adapter on rows of valid; keep result and plots of the run.

    Args:
        trainer: after train and save.
        questions: how many to answer; all, or 100 in a run that max_steps cuts short.

    Raises:
        HomeworkError: if the adapter can't be what the student wanted; the run does not count as finished then.
    """
    from homework.reporting.plots import draw_run

    if trainer.loaded is None:
        if trainer.watch and not trainer.is_finished and distributed.is_first():
            raise HomeworkError(
                "train_model reports before trainer.save has saved anything\ntrain, then save, then report"
            )
        return
    run, log = trainer.run, trainer.state.log_history
    if not trainer.is_cut and len(steps_of(log)) < 2 * LATE:
        print(f"the training had {len(steps_of(log))} steps, which is few: more rows, or more --epochs, teach more")
    rows = take_reported(trainer.valid_data, questions or (100 if trainer.is_cut else None))
    result = report_accuracy(trainer.loaded, rows, "valid")
    if not trainer.is_cut:
        warn_of_format(trainer.loaded, trainer.train_dataset)
    # Before the run counts as finished, or the same command would call it a success.
    check_outcome(log, None if trainer.is_cut else result)
    title = f"{run.folder.name}: accuracy {result['accuracy']:.3f}"
    draw_run(log, len(trainer.probes["valid"]), run.folder / "curve.png", title)
    run.finish({**result, "adapter_sha256": fingerprint_file(trainer.output / WEIGHTS), "finished": now()})
    print(f"picture, log and mistakes in {run.folder}: curve.png, log.json, result.json")
