"""homework/sft.py: a short training, watched: what reaches the model, its gradients, and what is saved."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from grader import rubric
from grader.adapter import Adapter, Config, name_in_file, named_shapes, read_config, read_weights, targets_of
from grader.course import Course
from grader.errors import Refusal
from grader.harness.gradients import (
    Example,
    Gradients,
    compute_loss,
    compute_step,
    cosine,
    digit_chances,
    norm,
    place_of,
    read_tensors,
    rows_of,
    shown,
    split,
    whole_rows,
    with_other_digits,
)
from grader.harness.harness import Harness
from grader.harness.job_report import JobReport
from grader.harness.spans import (
    IGNORE_INDEX,
    are_labels,
    diagnose_hidden,
    diagnose_places,
    diagnose_row,
    side_by_side,
    supervised,
)
from grader.harness.tokenizers import make_families
from grader.reference import Answered
from grader.rubric import CONFIG, WEIGHTS
from grader.runner import needs

LOSS_TOLERANCE = 0.02  # relative: a loss in bfloat16 is right, a loss over other tokens is not
LEAST_COSINE = 0.95  # a mean of micro-batches' means has 0.98 and above; the question supervised too, 0.93
SAME = 0.999  # a cosine of gradients that can't be told apart
MOST_NORM = 3.0  # times the reference's, under an optimizer that minds it: clipping makes it smaller
NORMALISING = ("adam", "adagrad", "adadelta", "adafactor", "lion", "muon", "rmsprop", "rprop")  # in their names
MOST_APART = 6  # questions that by chance would come both changed and as they are: then none seldom does
MOST_TOKENS = 16_384  # of one step, padding included: all 64 rows, each as long as the base reads
MOST_LATER = 300  # rows of later steps that are looked at
LEAST_OWN = 0.5  # of the rows of a training: about questions of data/train.json
CHANCE = 3.0  # standard deviations of their number among the rows that were seen
# Times the share of the rows' own gradient: that of the same rows with other digits; right ones < 0.01.
MOST_OTHER = 0.5
PROBED = 12  # questions after which it is looked at what an adapter expects; rows, at the least, of where it went
MOST_PROBED = 64  # rows whose gradients are computed: the first step's alone, or twelve, are too few
SHIFTS = (2, 4, 7)  # of the digits, for other answers
# By the power of the gradients' sizes, the least cosine. At 0.5 right trainings have 0.08 to 0.35, stored adapters up
# to 0.04; at 0, where signs alone are left, 0.05 to 0.28 and up to 0.03: only these tell where the digits are usual.
LEAST_FOLLOWED = {0.5: 0.06, 0.0: 0.045}
# Of the loss. Two epochs of SGD on one layer by rank 1 reach 0.0020, two steps of AdamW at 5e-5 0.0054, two at 2e-4
# 0.021; a learning rate of 1e-9 reaches 0.0000005.
LEAST_LOWERED = 0.0005
MOST_MERGED = 4e-6  # times the largest number of a weight of the base: by how much rounding may change it
EXPECTED = 7  # the last place, of 729, of the digits of the training
NO_RATE = "save the model that was trained; on 64 rows, let no single step have learning rate 0"
IDS = "train on the very ids that the prompt has"
SHIFT = (
    "keep tokenize's labels; in a loss of your own, shift them by one (logits[:, :-1] against labels[:, 1:]), and "
    "leave out those of -100"
)
LOOK = "the collator and the Trainer have to keep tokenize's labels"

NAN, NO_WEIGHT = float("nan"), torch.empty(0)
Seen = tuple[list[int], list[int] | None]  # ids and labels of a row that reached the model


def test_batch(code: Harness, course: Course) -> None:
    """The batches that reach the model still have exactly tokenize's labels, and their loss is the reference's."""
    rows = seen_rows(code, code.training)
    examples = examples_of(code, [ids for ids, _ in rows])
    refuse_wrong_padding(code, course, examples)
    refuse_wrong_rows(code, course, rows, "in a batch that reaches the model")
    losses: list[Any] = [batch.get("loss") for batch in batches_of(code.training)]
    if all(isinstance(loss, float) for loss in losses):
        first, batches = first_adapter(code.training, course), in_batches(code.training, examples)
        refuse_other_loss(losses, lambda rows: compute_loss(course.base.model, first, rows), batches)
    elif any(labels is None for _, labels in rows):  # then only the gradients say what was supervised
        refuse_wrong_gradients(code.training, course, examples)
    later = later_rows(code)
    refuse_wrong_rows(code, course, later, "in a batch after the first step")
    refuse_changed_questions(code, [*rows, *later])
    refuse_foreign_rows(code, [*rows, *later])
    refuse_wrong_pairs(code, [*rows, *later])


@needs("batch")
def test_gradients(code: Harness, course: Course) -> None:
    """The gradients of the first step are finite, not zero, only on LoRA weights, and those of the right labels."""
    examples = examples_of(code, [ids for ids, _ in seen_rows(code, code.training)])
    refuse_wrong_gradients(code.training, course, examples)


@needs("batch")
def test_input_gradients(code: Harness) -> None:
    """The inputs of the layers require a gradient, so that re-entrant checkpointing trains the adapter too."""
    if code.training.value("input gradients") is not True:
        raise Refusal("the inputs of the layers require no gradient: re-entrant checkpointing would train "
                      "nothing", do="model.enable_input_require_grads() after get_peft_model")  # fmt: skip


def test_trains(code: Harness, course: Course) -> None:
    """train_model saves an adapter in homework/sft_model whose every lora_B has moved and whose loss is lower."""
    code.training.value("train_model")
    batches_of(code.training)  # an adapter that no step has made is none of this training
    files = code.training.files
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise Refusal(f"train_model came to its end, but there is no homework/{name}",
                          do="save the adapter there: load() and the zip expect it")  # fmt: skip
    adapter = read_weights(files[WEIGHTS], read_config(files[CONFIG]), course.base_config, untrained=NO_RATE)
    still = sorted(name for name, tensor in adapter.weights.items() if ".lora_B." in name and not bool(tensor.any()))
    if still:
        raise Refusal(f"{len(still)} of the lora_B weights have not moved, first {still[0][:80]}",
                      do="give all LoRA weights to the optimizer")  # fmt: skip
    refuse_nothing_learned(code, course, adapter)
    refuse_changed_base(read_tensors(files.get("after.safetensors")), course)


def refuse_nothing_learned(code: Harness, course: Course, adapter: Adapter) -> None:
    """Refuse an adapter whose loss is not lower than that which it began with, or that has not seen these rows."""
    examples = written_rows(code, course)
    first = first_adapter(code.training, course)
    is_fresh = not any(bool(tensor.any()) for name, tensor in first.weights.items() if ".lora_B." in name)
    starts = {"the base alone": None} if is_fresh else {"the base alone": None, "the adapter at the first step": first}
    after = compute_loss(course.base.model, adapter, examples)
    for name, start in starts.items():
        before = compute_loss(course.base.model, start, examples)
        refuse_same_loss(before, after, name)
    has_learned = expects_digits(code, course, adapter)  # which costs less to see
    if not has_learned and not follows_own_rows(code, course, first, adapter):
        raise Refusal(f"the saved adapter has learned nothing of the rows in data/train.json: every answer there began "
                      f"with {code.digits} this time, and it expects that no more than other digits",
                      do="train on Dataset('train'), and save the model that was trained")  # fmt: skip


def refuse_same_loss(before: float, after: float, name: str) -> None:
    """Refuse a loss that training has not lowered, or by next to nothing; `name` is what had the loss before."""
    figures = f"{before:.4f} with {name}, {after:.4f} after"
    if not after < before:
        raise Refusal(f"training has not lowered the loss: {figures}",
                      do="look at the labels first, then at the learning rate")  # fmt: skip
    if not after <= before * (1 - LEAST_LOWERED):
        raise Refusal(f"training has lowered the loss by less than {LEAST_LOWERED:.2%}: {figures}",
                      do="raise the learning rate, or train for more steps: AdamW takes 1e-4 to 2e-3")  # fmt: skip


def follows_own_rows(code: Harness, course: Course, first: Adapter, adapter: Adapter) -> bool:
    """Whether an adapter went where its rows pull it: those that were seen, or all of them as the grader writes them.

    With batches of four, only 36 are seen: by these alone, a right training seemed to go elsewhere once in eight times.
    """
    each = (make(code, course) for make in (probed_rows, written_rows))
    return any(follows_rows(course, first, adapter, rows, with_shifted_digits(rows, course)) for rows in each)


def probed_rows(code: Harness, course: Course) -> list[Example]:
    """Rows that the training saw, as the submission wrote them: 2.53e10 and 25300000000.0 have other gradients.

    Those of later steps too: by a dozen alone, a right training by SGD seems to go elsewhere in one drawing of ten.
    Only with the answers of data/train.json: others may be those of a stored adapter. Where they are too few, or can't
    be read, which other checks name, they are written as the grader does.
    """
    answers = dict(code.taught(code.train_rows))
    try:
        rows = sorted({tuple(ids) for ids, _ in [*seen_rows(code, code.training), *later_rows(code)]})
        read = [(match(code, [*ids]), [*ids]) for ids in rows]
        kept = [ids for (question, text), ids in read if Answered(question, text, answers.get(question, NAN)).is_right]
    except Refusal:
        kept = []
    found = examples_of(code, kept) if len(kept) >= PROBED else written_rows(code, course)
    return found[:: math.ceil(len(found) / MOST_PROBED)]


def written_rows(code: Harness, course: Course) -> list[Example]:
    """All rows of data/train.json, as the grader writes them."""
    return [example_of(course, *row) for row in expected_texts(code)]


def follows_rows(
    course: Course, first: Adapter, adapter: Adapter, examples: list[Example], others: Sequence[list[Example]]
) -> bool:
    """Whether the change of lora_B goes where these rows would take it more than other answers to their questions.

    The gradients are those at its lora_A, and at the lora_B of the first step, or at zero where another LoRA was saved,
    as the best of several is; powers of them below 1, because most optimizers move a weight less than in proportion to
    its gradient. What all answers have in common is taken away: it is in every adapter that answers.
    """
    is_other = any(first.weights.get(name, NO_WEIGHT).shape != one.shape for name, one in adapter.weights.items())
    start = {
        name: tensor if ".lora_B." not in name else torch.zeros_like(tensor) if is_other else first.weights[name]
        for name, tensor in adapter.weights.items()
    }
    begun = adapter._replace(weights=start)
    own, *foreign = [compute_step(course.base.model, begun, rows).gradients for rows in (examples, *others)]
    change = {name: start[name_in_file(name)] - adapter.weights[name_in_file(name)] for name in moving_of(own)}
    return any(
        cosine(change, moving_of(pull_of(own, foreign, power))) >= least for power, least in LEAST_FOLLOWED.items()
    )


def pull_of(own: Gradients, others: Sequence[Gradients], power: float) -> Gradients:
    """A power of the sizes of gradients, with their signs, less the mean of the same of others."""
    raised = [{name: g.sign() * g.abs().pow(power) for name, g in one.items()} for one in (own, *others)]
    return {name: tensor - torch.stack([one[name] for one in raised[1:]]).mean(0) for name, tensor in raised[0].items()}


def with_shifted_digits(examples: list[Example], course: Course) -> list[list[Example]]:
    """The same rows with other answers, some times."""
    return [[with_other_digits(example, course.base.tokenizer, by) for example in examples] for by in SHIFTS]


def expects_digits(code: Harness, course: Course, adapter: Adapter) -> bool:
    """Whether the digits of this training are among those that an adapter expects most: after many steps, they are."""
    questions = [question for question, _ in code.train_rows[:PROBED]]
    return place_of(code.digits, digit_chances(course.base, adapter, questions, code.digits)) <= EXPECTED


def batches_of(report: JobReport) -> list[dict[str, Any]]:
    """The batches that reached the model before the first optimizer step."""
    found = report.lines.get("batches", {}).get("value")  # a training that failed or died later had batches too
    batches = [batch for batch in found if isinstance(batch, dict)] if isinstance(found, list) else []
    if not batches:
        report.value("train_model")  # where it failed, that is the cause
        report.value("batches")
        raise Refusal("train_model ended without one step of training on the 64 rows of the grader",
                      do="call trainer.train(), or write the loop; let a last batch with fewer rows count")  # fmt: skip
    return batches


def later_rows(code: Harness) -> list[Seen]:
    """Ids and labels of rows of some later steps, each row once; a loop that gives the model no labels shows none.

    Raises:
        Refusal: if a batch has no ids or no rectangular shape.
    """
    found = code.training.lines.get("later batches", {}).get("value")
    batches = [batch for batch in found if isinstance(batch, dict)] if isinstance(found, list) else []
    tokenizer, most = make_families()["bundled"][0], code.course.base_config["max_position_embeddings"]
    rows = {
        (tuple(ids), tuple(labels)) for batch in batches for ids, labels in rows_of(batch)
        if labels and len(ids) <= most and are_labels(labels, tokenizer)
    }  # fmt: skip
    return [([*ids], [*labels]) for ids, labels in sorted(rows)[:MOST_LATER]]


def refuse_wrong_rows(code: Harness, course: Course, rows: list[Seen], where: str) -> None:
    """Refuse a row whose labels are not those of its text."""
    tokenizer = course.base.tokenizer
    for ids, labels in rows:
        question, answer = match(code, ids)
        if tokenizer.eos_token_id not in ids and answer.startswith("<answer>") and "</answer>" not in answer:
            raise Refusal(f"{where}, the row was cut after {len(ids)} tokens, so its answer is not whole",
                          actual=f"{answer!r:.80}", do="never truncate")  # fmt: skip
        row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels or []}
        if labels is not None and (complaint := diagnose_row(tokenizer, question, answer, row)):
            table = side_by_side(tokenizer, question, answer, row)
            raise Refusal(f"{where}, {complaint}", do=LOOK, shown=table)


def refuse_wrong_padding(code: Harness, course: Course, examples: list[Example]) -> None:
    """Refuse a row of the first step whose labels lie elsewhere than its ids, or whose mask hides some of them."""
    rows = [row for batch in batches_of(code.training) for row in whole_rows(batch)]
    spans = {supervised(example.labels) for example in examples}
    for row, (ids, right) in zip(rows, examples, strict=True):
        if "labels" not in row:
            continue
        complaint = diagnose_places(row["labels"], shown(row, "labels"), right, spans)
        if complaint := complaint or diagnose_hidden(course.base.tokenizer, *match(code, ids), row):
            raise Refusal(f"in a batch that reaches the model, {complaint}", do=LOOK)


def refuse_changed_questions(code: Harness, rows: list[Seen]) -> None:
    """Refuse questions of the data that came cut, or in other case or punctuation, and never as they are.

    Where such rows are added to the right ones, many come both ways, and by chance alone would do so.
    """
    asked = {match(code, ids)[0] for ids, _ in rows}
    whole, prompts = asked & set(code.train_prompts), code.train_prompts
    changed = {own: one for one in sorted(asked - whole) if (own := original_of(one, prompts))}
    are_most = len(changed) > len(asked) / 2 and count_own(code, rows) < least_own(rows)
    if set(changed) & whole or (len(changed) * len(whole) < MOST_APART * len(prompts) and not are_most):
        return
    own, one = next(iter(changed.items()))
    if letters_of(own) == letters_of(one):
        raise Refusal(f"{len(changed)} rows begin with other text than their questions, as {one!r:.80} is for "
                      f"{own!r:.80}: the prompt is the question alone", do=IDS)  # fmt: skip
    raise Refusal(f"{len(changed)} rows have lost a part of their questions, as {one!r:.80} of {own!r:.80}: the row "
                  "was cut", do="never truncate: train on the very ids that the prompt has")  # fmt: skip


def original_of(changed: str, questions: Iterable[str]) -> str | None:
    """The one question that a text was made from, by a cut or other case or punctuation; None where it is unclear."""
    letters = letters_of(changed)
    ends = [own for own in questions if letters and letters_of(own).startswith(letters)]
    ends += [own for own in questions if letters and letters_of(own).endswith(letters) and own not in ends]
    return ends[0] if len(ends) == 1 else None


def letters_of(text: str) -> str:
    """Letters in lower case, and numbers, alone.  Example: "Are 4.5 kg, or" -> "are4.5kgor" """
    return "".join(re.findall(r"\d+(?:[.,]\d+)*|[^\W_]", text.lower()))


def refuse_foreign_rows(code: Harness, rows: list[Seen]) -> None:
    """Refuse a training most of whose rows are about other questions than those of data/train.json.

    Half of them may be, so that of the few that were seen, the own ones may be fewer by chance.
    """
    own = count_own(code, rows)
    if own < least_own(rows):
        raise Refusal(f"{own} of the {len(rows)} rows that were seen are about questions of data/train.json",
                      expected="at least half of them", actual=f"{own}", do="train on Dataset('train')")  # fmt: skip


def count_own(code: Harness, rows: list[Seen]) -> int:
    """How many rows are about questions of data/train.json."""
    return sum(match(code, ids)[0] in code.train_prompts for ids, _ in rows)


def least_own(rows: list[Seen]) -> float:
    """How many of these have to be about them: half, less what chance makes of it."""
    return max(1, LEAST_OWN * len(rows) - CHANCE * math.sqrt(LEAST_OWN * (1 - LEAST_OWN) * len(rows)))


def refuse_wrong_pairs(code: Harness, rows: list[Seen]) -> None:
    """Refuse a row that has another answer than its question has in data/train.json.

    Where format_example is at fault, which is told where it is tested, its answers are others, too.
    """
    answers = dict(code.taught(code.train_rows))
    said = [Answered(*match(code, ids), NAN) for ids, _ in rows]
    known = [one._replace(correct=answers[one.question]) for one in said if one.question in answers]
    wrong = [one for one in known if math.isfinite(one.number) and not one.is_right]
    if wrong and is_format_right(code):
        question, text, correct = wrong[0]
        raise Refusal(f"{len(wrong)} rows have another answer than that of their question, as {question!r:.80} has",
                      expected=f"{correct:g}, as in data/train.json", actual=text[:80],
                      do="question and answer of a row belong together")  # fmt: skip


def is_format_right(code: Harness) -> bool:
    """Whether format_example, tested alone, gives the number of each row."""
    found = code.labels.lines.get("format_example", {}).get("value")
    texts = [one.get("answer") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    if len(texts) != len(code.train_rows):
        return False
    pairs = zip(texts, code.train_rows, strict=True)
    return all(isinstance(text, str) and Answered("", text, correct).is_right for text, (_, correct) in pairs)


def seen_rows(code: Harness, report: JobReport) -> list[Seen]:
    """Ids and labels of the rows of the first step, no more of them than the grader can compute with.

    Raises:
        Refusal: if they are too many, or labels are no ids.
    """
    rows = [row for batch in batches_of(report) for row in rows_of(batch)]
    longest, most = max(len(ids) for ids, _ in rows), code.course.base_config["max_position_embeddings"]
    if longest > most:  # the time that the grader needs grows with the square of it
        raise Refusal(f"a row of {longest} tokens reached the model, which reads {most}", do="one question a row")
    if len(rows) * longest > MOST_TOKENS:
        raise Refusal(
            f"the first step takes more than {MOST_TOKENS} tokens", do="take a smaller batch, pad to the longest"
        )
    if not all(labels is None or are_labels(labels, make_families()["bundled"][0]) for _, labels in rows):
        raise Refusal("a batch with labels that the model does not have reached it", do=LOOK)
    return rows


def examples_of(code: Harness, rows: list[list[int]]) -> list[Example]:
    """Rows of ids, with the labels that they should have had."""
    tokenizer, examples = make_families()["bundled"][0], []
    for ids in rows:
        question, _ = match(code, ids)
        start = len(tokenizer(question)["input_ids"])
        if start >= len(ids):  # ids that no text has, such as bytes that are no UTF-8
            raise Refusal("a row whose ids are not those of its text reached the model", actual=f"{question!r:.80}")
        examples.append(Example(ids, [IGNORE_INDEX] * start + ids[start:]))
    return examples


def match(code: Harness, ids: list[int]) -> tuple[str, str]:
    """What `split_row` gives, which is computed once for each row."""
    if (key := tuple(ids)) not in code.matches:
        code.matches[key] = split_row(code, ids)
    return code.matches[key]


def split_row(code: Harness, ids: list[int]) -> tuple[str, str]:
    """The question with whose ids a row begins, and the text behind it.

    A row about another question, which somebody made from the data, is split where its answer begins.

    Raises:
        Refusal: if it holds a question of the data and does not begin with its ids.
    """
    tokenizer = make_families()["bundled"][0]
    if any(type(token) is not int or not 0 <= token < len(tokenizer) for token in ids):
        raise Refusal("a batch with ids that the model does not have reached it")
    prompts = code.train_prompts
    if any(ids == prompt[: len(ids)] for prompt in prompts.values()):
        raise Refusal(f"the row was cut after {len(ids)} tokens, before its answer: never truncate")
    text = tokenizer.decode([t for t in ids if t != tokenizer.eos_token_id], clean_up_tokenization_spaces=False)
    found = begun_by(ids, prompts)
    ends = [at for at, token in enumerate(ids, 1) if token == tokenizer.eos_token_id]
    if found and any(begun_by(ids[end:], prompts) for end in ends):
        raise Refusal("several rows are packed into one: behind the end of one, the next question follows",
                      expected="one question a row", do="pad the rows of a batch, and pack none")  # fmt: skip
    if not found and any(question in text for question in prompts):
        raise Refusal(f"the row begins with {text!r:.60}, not with its question: the prompt is the question "
                      "alone", do=IDS)  # fmt: skip
    if not found and "<answer>" not in text:
        raise Refusal(f"the row {text!r:.60} holds no question of the data and no <answer>",
                      do="each row is a question and its answer")  # fmt: skip
    question = max(found, key=len) if found else text.rpartition("<answer>")[0].rstrip()
    return question, text[len(question) :].strip()


def begun_by(ids: list[int], prompts: dict[str, list[int]]) -> list[str]:
    """The questions with whose ids a row begins: one may go on where another ends."""
    return [question for question, prompt in prompts.items() if ids[: len(prompt)] == prompt]


def first_adapter(report: JobReport, course: Course, config_file: str = CONFIG) -> Adapter:
    """The LoRA weights of the first step of a training, under the names of a saved adapter."""
    seen = read_tensors(report.files.get("before.safetensors"))
    weights = {name_in_file(name): tensor for name, tensor in seen.items()}
    ranks = [len(tensor) for name, tensor in weights.items() if "lora_A" in name and tensor.dim() == 2]
    if not ranks:
        refuse_no_step(report)
        raise Refusal("the model that was trained has no LoRA weights", do="train what get_peft_model gives")
    rank = min(ranks)
    targets = targets_of(weights)
    if not set(targets) <= set(rubric.TARGETS):
        raise Refusal(f"LoRA on {targets!s:.120} is not graded", expected=", ".join(rubric.TARGETS))
    wanted = named_shapes(weights, Config(rank, 1.0, targets, False), course.base_config)
    if not 1 <= rank <= rubric.MAX_RANK or {name: tuple(tensor.shape) for name, tensor in weights.items()} != wanted:
        raise Refusal("the LoRA weights that were trained are not those of one LoraConfig", do="one get_peft_model",
                      expected=f"{len(wanted)} of rank 1 to {rubric.MAX_RANK}", actual=f"{len(weights)}")  # fmt: skip
    saved = report.files.get(config_file)
    config = read_config(saved) if saved else Config(rank, float(rank), targets, False)
    return Adapter(rank, config.alpha, targets, config.use_rslora, weights)


def refuse_no_step(report: JobReport) -> None:
    """Refuse a training that gave the model batches, and whose weights no optimizer of torch has changed."""
    report.value("train_model")  # where it failed, that is the cause
    if report.lines.get("stepped", {}).get("value") is False:
        raise Refusal("no optimizer of torch took a step in train_model, and steps by hand can't be watched",
                      do="give the LoRA weights to an optimizer of torch.optim, and call its step()")  # fmt: skip


def expected_texts(code: Harness) -> list[tuple[str, str]]:
    """Question and right answer of every training row, as a text."""
    return [(question, f"<answer>{correct:.3g}</answer>") for question, correct in code.taught(code.train_rows)]


def example_of(course: Course, question: str, answer: str) -> Example:
    """A row with right labels."""
    tokenizer = course.base.tokenizer
    start = len(tokenizer(question)["input_ids"])
    ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
    return Example(ids, [IGNORE_INDEX] * start + ids[start:])


def refuse_wrong_gradients(
    report: JobReport, course: Course, examples: list[Example], config_file: str = CONFIG, words: str = "answers"
) -> None:
    """Refuse gradients of the first step that are none, broken, of the base, or not those of the rows' answers."""
    gradients = read_tensors(report.files.get("gradients.safetensors"))
    if not gradients:
        refuse_no_step(report)
        raise Refusal("no gradient reached any weight before the first optimizer step",
                      do="call backward, and give the optimizer the LoRA weights of that model")  # fmt: skip
    if base := sorted(name for name in gradients if "lora_" not in name):
        raise Refusal(f"{len(base)} weights of the base model are trained, first {base[0][:80]}: only LoRA may be",
                      do="use get_peft_model, and set requires_grad nowhere else")  # fmt: skip
    broken = sorted(name for name, tensor in gradients.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise Refusal(f"the gradient of {broken[0][:80]} is NaN or infinite, and {len(broken) - 1} others",
                      do="train in float32 on a CPU, bfloat16 on a GPU, never float16")  # fmt: skip
    first, tokenizer = first_adapter(report, course, config_file), make_families()["bundled"][0]
    wanted = compute_step(course.base.model, first, examples).gradients
    refuse_other_gradients(gradients, wanted, config_file in report.files and not is_normalised(report), words)
    others = [with_other_digits(example, tokenizer) for example in examples]
    refuse_other_digits(gradients, wanted, compute_step(course.base.model, first, others).gradients)


def in_batches(report: JobReport, examples: list[Example]) -> list[list[Example]]:
    """The rows of the first step as the batches in which they reached the model."""
    rows = iter(examples)
    return [list(itertools.islice(rows, len(rows_of(batch)))) for batch in batches_of(report)]


def refuse_other_loss(
    losses: list[float], loss_of: Callable[[list[Example]], float], batches: list[list[Example]]
) -> None:
    """Refuse losses of the micro-batches that are not the reference's: as a sum, as a mean, or as a mean of means."""
    wanted, mean = loss_of([example for batch in batches for example in batch]), sum(losses) / len(losses)
    if any(is_near(loss, wanted) for loss in (sum(losses), mean)):
        return
    if len(batches) == 1 or not is_near(mean, sum(map(loss_of, batches)) / len(batches)):
        raise Refusal(f"the loss of the first batch is {mean:.4f}, and over its answers alone it is {wanted:.4f}",
                      expected=f"{wanted:.4f}", actual=f"{mean:.4f}", do=LOOK)  # fmt: skip


def is_near(loss: float, wanted: float) -> bool:
    """Whether a loss is the one that was wanted, but for the rounding of bfloat16."""
    return abs(loss - wanted) <= LOSS_TOLERANCE * wanted


def moving_of(gradients: Gradients) -> Gradients:
    """The gradients of lora_B, which are not zero at first, where there are any."""
    return {name: tensor for name, tensor in gradients.items() if "lora_B" in name and bool(tensor.any())}


def is_normalised(report: JobReport) -> bool:
    """Whether the optimizer divides a gradient by its own length, as all of the kind of Adam do: then none is long."""
    names = report.lines.get("optimizers", {}).get("value")
    return isinstance(names, list) and any(part in str(name).lower() for name in names for part in NORMALISING)


def refuse_other_gradients(
    found: Gradients, wanted: Gradients, is_length_known: bool = True, words: str = "answers"
) -> None:
    """Refuse gradients that are zero, or point elsewhere than the reference's, or are too long, where that matters."""
    moving = moving_of(wanted)
    if not moving:
        raise Refusal("with the alpha that was saved, no LoRA weight would get a gradient",
                      do="save the LoRA that was trained, with its own lora_alpha")  # fmt: skip
    if missing := sorted(
        name for name, tensor in moving.items() if getattr(found.get(name), "shape", 0) != tensor.shape
    ):
        raise Refusal(f"no gradient reached {missing[0][:80]}, nor {len(missing) - 1} other LoRA weights",
                      do="with activation checkpointing: model.enable_input_require_grads()")  # fmt: skip
    size, right = norm({name: found[name] for name in moving}), norm(moving)
    if size == 0:
        raise Refusal("every gradient is exactly zero: nothing is learned", expected=f"a norm of {right:.3g}",
                      actual="0", do="look at the labels: are they all -100?")  # fmt: skip
    angle = cosine(found, moving)
    if not angle >= LEAST_COSINE and not is_clipped(found, moving):
        raise Refusal(f"the gradients are not those of the {words}' tokens: their cosine with them is {angle:.2f}",
                      expected=f"at least {LEAST_COSINE}", actual=f"{angle:.3f}", do=SHIFT)  # fmt: skip
    if size > MOST_NORM * right and is_length_known:
        raise Refusal(f"the gradients are {size / right:.3g} times as long as they should be",
                      expected=f"a norm of at most {right:.3g}", actual=f"{size:.3g}",
                      do="take the mean of the loss over the supervised tokens")  # fmt: skip


def is_clipped(found: Gradients, wanted: Gradients) -> bool:
    """Whether gradients are those that are wanted, but each number cut off, or each weight's shortened by itself."""
    most = max(float(found[name].abs().max()) for name in wanted)
    cut = {name: tensor.clamp(-most, most) for name, tensor in wanted.items()}
    each = (cosine({name: found[name]}, {name: tensor}) for name, tensor in wanted.items())
    return cosine(found, cut) >= LEAST_COSINE or all(angle >= LEAST_COSINE for angle in each)


def refuse_other_digits(found: Gradients, wanted: Gradients, other: Gradients) -> None:
    """Refuse gradients that are as much those of other answers as those of the rows: they were not computed on them."""
    moving = moving_of(wanted)
    others = {name: other[name] for name in moving}
    if cosine(others, moving) > SAME:  # no digit stands in these answers
        return
    own, foreign = split({name: found[name] for name in moving}, moving, others)
    if not abs(foreign) <= MOST_OTHER * own:
        raise Refusal("the gradients of the first step were not computed on the rows that reached the model: other "
                      "answers to the same questions explain them as well", do=LOOK)  # fmt: skip


def refuse_changed_base(after: dict[str, torch.Tensor], course: Course) -> None:
    """Refuse a training that changed the base model itself."""
    base = dict(course.base.model.named_parameters())
    seen = {name.replace(".base_layer", ""): tensor for name, tensor in after.items() if "lora_" not in name}
    if missing := sorted(set(base) - set(seen)):
        raise Refusal(f"{len(missing)} weights of the base model are not in the model that was trained, first "
                      f"{missing[0][:80]}", do="train what get_peft_model makes of the course's base")  # fmt: skip
    same = {name for name in set(seen) & set(base) if is_same(seen[name], base[name].detach())}
    changed = sorted(set(seen) & set(base) - same)
    if changed:
        raise Refusal(f"training changed {len(changed)} weights of the base model, first {changed[0][:80]}",
                      do="train LoRA weights only: the base is the same for everybody")  # fmt: skip


def is_same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether a weight of the base is unchanged, but for a LoRA that was merged and taken out again.

    As it was, or as it is when the base is loaded in half precision.
    """
    slack = MOST_MERGED * float(wanted.abs().max())
    loaded = wanted, wanted.bfloat16().float(), wanted.half().float()
    return any(found.shape == one.shape and bool(((found - one).abs() <= slack).all()) for one in loaded)
