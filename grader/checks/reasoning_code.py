"""homework/cot.py, datagen.py and rft.py: the prompt that reasons, the samples that are kept, the training on them."""

import math
import re
from collections import Counter
from typing import Any

from grader import rubric
from grader.adapter import Adapter, read_config, read_weights
from grader.checks.answering import is_number, refuse_unless_texts, same
from grader.checks.loading import refuse_failed_training, refuse_other_class, refuse_other_model, refuse_untrained
from grader.course import Course
from grader.equations import chain_key, find_equations
from grader.errors import Refusal
from grader.harness.first_step import first_adapter, refuse_wrong_gradients
from grader.harness.gradients import Example, compute_loss, rows_of
from grader.harness.harness import Harness
from grader.harness.inputs import TRAIN_ROWS, shifted
from grader.harness.learning import SHIFTS, follows_rows, refuse_same_loss
from grader.harness.seen_rows import LOOK, Seen, example_of, examples_of, match, refuse_wrong_rows, seen_rows
from grader.harness.spans import IGNORE_INDEX, are_labels
from grader.own_questions import DATA, read_rows
from grader.reasons import is_near
from grader.reference import ANSWER, Answered
from grader.rubric import REASONING_FILES
from grader.runner import credit_for, needs

LEAST_ROOM = 90  # tokens that a prompt has to leave for the chain
LEAST_SAMPLES = 5  # of a question
COLDEST, WARMEST = 0.3, 2.0  # temperatures: below nearly all texts are the same, above nearly all are wrong
MOST = 0.9  # of the questions: the others may be left out
LEAST_KEPT = 0.9  # of the questions with a right text
LEAST_CHAINS = 1.2  # a question, where each has two different ones
LEAST_LEARNED = 0.9  # times the loss of chains to other answers
OPENING = 4  # tokens of a reason, before any digit of its answer
MOST_OPENING = 1.1  # times their loss at the first step: right trainings have at most 0.99, bare answers 1.37 and more
MOST_ROWS = 400
LEAST_ROWS, AGAIN = 16, 4  # different rows of a training, where each was seen so often: whole data has more
EACH = 2  # so manyth row of the training is looked at for what was learned
Row = tuple[str, float, str]


def test_prompt(code: Harness, course: Course, give) -> None:
    """The prompt of task 5 makes the base model reason: right answers, by equations that hold."""
    found = code.prompting.value("format_prompt")
    refuse_unless_texts(found, len(code.asked), "format_prompt")
    questions = [question.text for question in code.asked]
    refuse_unequal_prompts(found, questions)
    refuse_public_questions(found[0], questions[0])
    ids = [list(course.base.tokenizer(prompt)["input_ids"]) for prompt in found]
    room = course.base_config["max_position_embeddings"] - max(map(len, ids))
    if room < LEAST_ROOM:
        raise Refusal(f"the prompt leaves {room} tokens for the answer, of {LEAST_ROOM} that a chain may need",
                      do="one example, and a short one")  # fmt: skip
    refuse_wrong_example(found[0].replace(questions[0], ""))
    measured = course.measure_prompt(found, code.asked)
    give(credit_for(measured.share, course.rubric.bounds["prompt"]), measured.describe(), {})


def test_sampling(code: Harness) -> None:
    """generate_dataset keeps right chains of train's questions, each once, with the true answer, and nothing else."""
    code.sampling.value("generate_dataset")
    asked = code.sampling.value("asked")
    calls = [call for call in asked if is_call(call)] if isinstance(asked, list) else []
    refuse_other_questions([prompt for prompt, _, _ in calls if prompt not in code.planted], code)
    refuse_few_samples([call for call in calls if call[0] in code.planted], [*code.planted])
    if prompt := code.sampling.value("misformatted"):
        raise Refusal("generate_dataset asks for a prompt that is formatted twice, or not at all",
                      actual=f"{prompt!r}"[:160], do="llm.format_prompt(question), once")  # fmt: skip
    refuse_no_file(code.sampling.error("rows"))
    rows = rows_of_file(code.sampling.value("rows"))
    for row in rows:
        refuse_wrong_row(row, dict(code.train_rows), code.planted)
    refuse_repeated(rows)
    refuse_few_rows(rows, [question for question, texts in code.planted.items() if "" in texts.values()])


def test_reasoning_rows(code: Harness, course: Course) -> None:
    """train_model of task 7 supervises the whole reasoning of each row, and one EOS."""
    rows = rows_of_training(code)
    reasons = {question: text for question, _, text in code.reasoned_rows}
    for ids, _ in rows:
        refuse_other_reason(*match(code, ids), reasons)
    refuse_wrong_rows(code, course, rows, "in a batch that reaches the model")
    examples = examples_of(code, [ids for ids, _ in seen_rows(code, code.reasoning_training)])
    refuse_wrong_gradients(code.reasoning_training, course, examples, REASONING_FILES[0], "reasons")


@needs("reasoning_rows")
def test_reasoning_trains(code: Harness, course: Course) -> None:
    """And it saves an adapter in homework/rft_model which has learned from these very rows."""
    refuse_failed_training(code.reasoning_training, lambda: code.prompting, "rft.load", REASONING_FILES[1])
    files = code.reasoning_training.files
    if missing := [name for name in REASONING_FILES if name not in files]:
        raise Refusal(f"train_model came to its end, but there is no homework/{missing[0]}",
                      do="save the adapter there: load() and the zip expect it")  # fmt: skip
    adapter = read_weights(files[REASONING_FILES[1]], read_config(files[REASONING_FILES[0]]), course.base_config)
    first = first_adapter(code.reasoning_training, course, REASONING_FILES[0])
    own = written_reasons(code, course, code.digits)
    if not has_learned(code, course, first, adapter, own):
        raise Refusal("the saved adapter has learned nothing of the rows in data/rft.json: every answer there began "
                      f"with {code.digits} this time, and it finds chains to other answers as likely",
                      do="train on these rows, and save the model that was trained")  # fmt: skip
    before, after = (compute_loss(course.base.model, one, own) for one in (first, adapter))
    refuse_same_loss(before, after, "the adapter at the first step")
    refuse_bare_answers(code, course, first, adapter)


def test_reasoning_loads(code: Harness, course: Course) -> None:
    """load of task 7 gives the base model with the adapter in homework/rft_model, and raises where there is none."""
    code.prompting.value("rft.load")
    refuse_other_class(code.prompting, "rft.load")
    refuse_other_model(code, course, code.prompting, rubric.REASONING_DIR)
    refuse_untrained(code.prompting, "rft.load")
    refuse_other_prompt(code)


def refuse_other_prompt(code: Harness) -> None:
    """Refuse a model of task 7 that puts words around the question, where that of task 1 puts none."""
    found = code.prompting.lines.get("rft.load format_prompt", {}).get("value")
    of_base = code.answering.lines.get("format_prompt", {}).get("value")
    if found != code.asked[0].text and isinstance(found, str) and of_base == code.prompts:
        raise Refusal("the model that load gives asks by another prompt than the question alone, which it has learned "
                      "from", actual=f"{found!r}"[:160], do="load a BaseLLM with the adapter")  # fmt: skip


def written_reasons(code: Harness, course: Course, digits: str) -> list[Example]:
    """Rows of task 7 whose answers begin with some digits, as the grader writes them."""
    return [example_of(course, question, text) for question, _, text in code.reasoned(digits)[::EACH]]


def has_learned(code: Harness, course: Course, first: Adapter, adapter: Adapter, own: list[Example]) -> bool:
    """Whether an adapter has gone where the rows of this submission pull it, and not where other answers would.

    The others are chains to them that hold, of the same questions. After many steps, it finds its own rows more likely.
    """
    others = [written_reasons(code, course, shifted(code.digits, by)) for by in SHIFTS]
    if follows_rows(course, first, adapter, own, others):
        return True
    least = min(compute_loss(course.base.model, adapter, each) for each in others)
    return compute_loss(course.base.model, adapter, own) < LEAST_LEARNED * least


def refuse_bare_answers(code: Harness, course: Course, first: Adapter, adapter: Adapter) -> None:
    """Refuse an adapter that finds it less likely than at the first step that a reason begins: answers alone do that.

    By its first tokens only: the digits of the answers, which stand behind them, bare answers teach too.
    """
    rows = [opening(course, question, text) for question, _, text in code.reasoned_rows[::EACH]]
    before, after = (compute_loss(course.base.model, one, rows) for one in (first, adapter))
    if not after <= MOST_OPENING * before:
        raise Refusal("the training has made it less likely that an answer begins with its reasons: the loss of their "
                      f"first tokens is {before:.2f} at the first step and {after:.2f} after",
                      do="train on the whole reasoning in every step")  # fmt: skip


def opening(course: Course, question: str, text: str) -> Example:
    """A row with labels for the first tokens of its reasons alone."""
    ids, labels = example_of(course, question, text)
    end = len(course.base.tokenizer(question)["input_ids"]) + OPENING
    return Example(ids, labels[:end] + [IGNORE_INDEX] * len(ids[end:]))


def refuse_unequal_prompts(prompts: list[str], questions: list[str]) -> None:
    """Refuse prompts that hold more of their question than the question, once: an answer may be hidden there."""
    for prompt, question in zip(prompts, questions, strict=True):
        if prompt.count(question) != 1:
            raise Refusal("format_prompt must give a text that holds the question once", actual=f"{prompt!r}"[:200],
                          do="one turn of the user with the question, the last one")  # fmt: skip
    around = {tuple(prompt.split(question)) for prompt, question in zip(prompts, questions, strict=True)}
    if len(around) > 1:
        raise Refusal("the prompt changes with the question: the model is to answer, not format_prompt",
                      do="the same turns before and after every question")  # fmt: skip


def refuse_public_questions(prompt: str, question: str) -> None:
    """Refuse a prompt that holds a question of data/valid.json, which measures it."""
    shown = words_of(prompt.replace(question, ""))
    if public := next((text for text, _ in read_rows(DATA / "valid.json") if words_of(text) in shown), ""):
        raise Refusal(f"the prompt shows {public!r:.80}, a question of data/valid.json",
                      do="take an example that is in no data file")  # fmt: skip


def words_of(text: str) -> str:
    """The words of a text, whatever their case and punctuation.  Example: 'Is 1.5 m^2 much?' -> ' is 1.5 m^2 much '"""
    words = re.sub(r"<\|.*?\|>", " ", text).lower().split()
    bare = " ".join(word.strip('.,:;?!"') for word in words)
    return f" {bare} "


def refuse_wrong_example(shown: str) -> None:
    """Refuse a prompt with an equation that is wrong, or a tag that holds another number than its chain."""
    begun = 0
    for end in [*(tag.end() for tag in ANSWER.finditer(shown)), len(shown)]:
        equations, number = find_equations(shown[begun:end]), Answered("", shown[begun:end], math.nan).number
        if wrong := next((equation for equation in equations if not equation.holds()), None):
            raise Refusal(f"the prompt shows a wrong equation, {wrong.text[:80]}", do="compute each side by hand")
        if equations and number == number and not is_near(number, equations[-1].result):
            raise Refusal(f"the prompt shows a tag that holds another number than the chain before it, {number:g}",
                          expected=f"{equations[-1].result:g}", do="copy the last side")  # fmt: skip
        begun = end


def refuse_other_questions(prompts: list[str], code: Harness) -> None:
    """Refuse prompts that hold no question of train where one of them holds a question of valid."""
    for question, _ in code.valid_rows:
        if any(question in prompt for prompt in prompts):
            raise Refusal(f"generate_dataset samples on {question!r:.80}, a question of valid",
                          do="sample on train alone")  # fmt: skip


def refuse_few_samples(calls: list[Any], questions: list[str]) -> None:
    """Refuse a sampling of too few texts of most questions, in all its calls, or at too low a temperature."""
    if not calls:
        raise Refusal("generate_dataset samples nothing about train by batched_generate of CoTModel",
                      do="load of homework.cot, then batched_generate(prompts, oversample, temperature)")  # fmt: skip
    counts: Counter[str] = Counter()
    for question, count, _ in calls:
        counts[question] += count
    fewest = sorted(counts[question] for question in questions)[math.floor((1 - MOST) * len(questions))]
    if fewest < LEAST_SAMPLES:
        enough = sum(count >= LEAST_SAMPLES for count in counts.values())
        raise Refusal(f"generate_dataset samples {fewest} texts a question", expected=f"at least {LEAST_SAMPLES}",
                      actual=f"so many for {enough} of the {len(questions)} questions of train",
                      do="oversample=10 by default, for every question")  # fmt: skip
    if (warmest := max(temperature for _, _, temperature in calls)) < COLDEST:
        raise Refusal(f"generate_dataset samples at a temperature of {warmest:g}: all texts of a question are the same",
                      do="temperature=0.6 by default")  # fmt: skip
    if warmest > WARMEST:
        raise Refusal(f"generate_dataset samples at a temperature of {warmest:g}: nearly all texts are wrong",
                      do="temperature=0.6 by default")  # fmt: skip


def is_call(call: Any) -> bool:
    """Whether something that a job wrote is a question, a number of texts and a temperature."""
    is_three = isinstance(call, list) and len(call) == 3 and isinstance(call[0], str)
    return is_three and type(call[1]) is int and is_number(call[2])


def refuse_no_file(error: dict[str, str]) -> None:
    """Refuse a sampling that left no file where it was told to, or one that can't be read."""
    if error.get("type") == "FileNotFoundError":
        raise Refusal("generate_dataset came to its end, and there is no file at its output_json",
                      do="write the rows to the path that output_json names")  # fmt: skip
    if error.get("type") == "OSError":
        raise Refusal("the file that generate_dataset wrote is much too large", actual=error.get("message", "")[:120],
                      do="a few different chains of each question")  # fmt: skip
    if error.get("type") == "OverflowError":
        raise Refusal("the file that generate_dataset wrote holds a number that no float holds",
                      do="the answer of a row is that of train")  # fmt: skip
    if error:
        raise Refusal("the file that generate_dataset wrote is no JSON", actual=error.get("message", "")[:120],
                      do="json.dump(rows, file): one list of all rows")  # fmt: skip


def rows_of_file(content: Any) -> list[Row]:
    """The rows of the file that generate_dataset wrote.

    Raises:
        Refusal: if one is not [question, answer, reasoning].
    """
    for row in content if isinstance(content, list) else [content]:
        is_row = isinstance(row, list) and len(row) == 3 and is_number(row[1])
        if not is_row or not isinstance(row[0], str) or not isinstance(row[2], str):
            raise Refusal("generate_dataset writes a file that is no list of rows", actual=f"{row!r}"[:160],
                          expected="[question, answer, reasoning] each")  # fmt: skip
    return [(question, float(answer), text) for question, answer, text in content]


def refuse_wrong_row(row: Row, answers: dict[str, float], planted: dict[str, dict[str, str]]) -> None:
    """Refuse a row about another question, with another answer than that of train, or with a fault in its text."""
    question, answer, text = row
    if question not in answers:
        raise Refusal(f"a row asks {question!r:.80}, which is no question of train", do="sample on train alone")
    if not same(answer, answers[question]):
        raise Refusal(f"the row about {question!r:.80} has the answer {answer!r}", expected=f"{answers[question]!r}",
                      do="the answer of a row is that of train, not rounded, and not what the model wrote")  # fmt: skip
    faults = {sampled.strip(): fault for sampled, fault in planted[question].items()}
    if faults.get(text.strip(), "no sampled text"):
        said = faults.get(text.strip(), "a text that the model did not write")
        raise Refusal(f"generate_dataset keeps a sample with {said}", actual=f"{text!r}"[:160],
                      expected="a right chain, which ends in its tag")  # fmt: skip


def refuse_repeated(rows: list[Row]) -> None:
    """Refuse a chain that stands twice for a question, however its words differ."""
    seen: set[tuple] = set()
    for question, _, text in rows:
        if (key := (question, chain_key(text))) in seen:
            raise Refusal(f"generate_dataset keeps one chain twice for {question!r:.80}: only its words differ",
                          actual=f"{text!r}"[:120], do="keep different lists of equations")  # fmt: skip
        seen.add(key)


def refuse_few_rows(rows: list[Row], questions: list[str]) -> None:
    """Refuse rows of too few of the questions that have a right text, or one chain a question where there are two."""
    kept = {question for question, _, _ in rows}
    if len(kept) < LEAST_KEPT * len(questions):
        missing = next(question for question in questions if question not in kept)
        raise Refusal(f"generate_dataset keeps {len(kept)} of the {len(questions)} questions that have a right sample",
                      expected=f"at least {LEAST_KEPT:.0%}", actual=f"no row of {missing!r:.80}",
                      do="refuse what is wrong, and nothing that is right")  # fmt: skip
    if len(rows) < LEAST_CHAINS * len(kept):
        raise Refusal("generate_dataset keeps one chain a question, where there are two different ones",
                      expected=f"at least {LEAST_CHAINS} a question", actual=f"{len(rows) / len(kept):.2f}",
                      do="keep more than the first right text")  # fmt: skip


def refuse_other_reason(question: str, text: str, reasons: dict[str, str]) -> None:
    """Refuse a row of a training that is not a question and its reasoning."""
    wanted = reasons.get(question, "")
    if text == wanted:
        return
    expected, actual = (f"{one!r}"[:160] for one in (wanted or "a question of data/rft.json", text))
    if text in reasons.values():
        raise Refusal(f"the row about {question!r:.80} has the reasoning of another question", expected=expected,
                      actual=actual, do="question and reasoning of a row belong together")  # fmt: skip
    raise Refusal("a row that reached the model is not the question and its reasoning", expected=expected,
                  actual=actual, do="format_reasoning gives the reasoning as what is to be written")  # fmt: skip


def rows_of_training(code: Harness) -> list[Seen]:
    """Ids and labels of the rows that reached the model in task 7.

    Raises:
        Refusal: if there are none, or some that the grader can't read.
    """
    report, batches = code.reasoning_training, []
    for name in ("batches", "later batches"):
        found = report.lines.get(name, {}).get("value")
        batches += [batch for batch in found if isinstance(batch, dict)] if isinstance(found, list) else []
    rows = [row for batch in batches for row in rows_of(batch)][:MOST_ROWS]
    if not rows:
        report.value("train_model")  # where it failed, that is the cause
        raise Refusal("train_model ended without one step of training", do="call trainer.train(), or write the loop")
    tokenizer, most = code.course.base.tokenizer, code.course.base_config["max_position_embeddings"]
    if any(len(ids) > most or (labels is not None and not are_labels(labels, tokenizer)) for ids, labels in rows):
        raise Refusal("a row that the model can't read reached it", do=LOOK)
    refuse_few_seen([tuple(ids) for ids, _ in rows])
    return rows


def refuse_few_seen(rows: list[tuple[int, ...]]) -> None:
    """Refuse a training on few rows, of which each was seen again and again."""
    different = len(set(rows))
    if different < LEAST_ROWS and len(rows) >= AGAIN * different:
        raise Refusal(f"{different} different rows reached the model in the {len(rows)} rows that were seen",
                      expected=f"more of the {TRAIN_ROWS} rows of data/rft.json", do="train on all rows")  # fmt: skip
