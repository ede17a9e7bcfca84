"""Renew everything that rests on the base model: after a change of data/base_model, run this and edit nothing by hand.

    python -m tools.renew                  # about half an hour on two free cores; the same line resumes
    python -m tools.renew --list           # the steps, and which are done for the base as it lies there
    python -m tools.renew --rubric long    # the course's rubric: in grader/rubric.py and on the pages, in a second

Each step is a command that can be run alone; the last one copies what they measured into README and docs. The
calibration reads an instructor's own hidden questions from the file that GRADER_HIDDEN_FILE names.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from grader import rubric
from grader.own_questions import CALIBRATION
from homework.common.base_model import BUNDLED_NAME
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.files import fingerprint_file, read_json, write_json
from homework.data import Dataset
from homework.reporting.comparison import format_table, mean_of
from homework.training.evaluation import take_reported
from tools.measure_reasoning import LINES
from tools.measure_reasoning import RESULT as REASONING
from tools.model_card import MEASURES

ROOT = rubric.ROOT
SPANS = ROOT / "benchmarks" / "experiment_span.json"
STATE = ROOT / "runs" / "renew.json"
SAMPLE = ROOT / "runs" / "renew-train.log"
HANDOUTS = ("README.md", "tools/starter/README.md")
# Lines of the training that the handout shows, in their order: how each begins, and how many of them.
SHOWN = (
    ("base model:", 1), ("recipe:", 1), ("training rows:", 1), ("  padding", 1), ("LoRA:", 1), ("adapter ", 1),
    ("step ", 1), ("...", 0), ("step ", -2), ("loss ", 1), ("adapter saved", 1), ("  wrong:", 1), ("...", 0),
    ("  quantity", 2), ("...", 0), ("accuracy ", 1), ("picture", 1), ("done in", 1),
)  # fmt: skip
EXPECTED = {
    "`valid`": "valid",
    "`hidden`, other facts and other draws": "hidden",
    "`novel`, facts that the base has never read": "novel",
    "values from 1 to 999": "values 1 to 999",
    "values from 1,000 to 999,999, up to four significant digits": "values 1,000 to 999,999",
    "values from 0.001 to 0.999": "values 0.001 to 0.999",
    "values of five and six significant digits": "five and six digits",
    "200 questions in the words of others": "wording of others",
}


def substitute(path: Path, pattern: str, text: str) -> None:
    """Put `text` in the place of the only match of a pattern in a file.

    Raises:
        HomeworkError: if the pattern matches nothing or twice: the page was edited, so that a figure would be lost.
    """
    content = path.read_text(encoding="utf-8")
    changed, count = re.subn(pattern, lambda _: text, content, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        raise HomeworkError(
            f"{path}: {count} places match {pattern!r}, there should be one: correct FIGURES or the page"
        )
    path.write_text(changed, encoding="utf-8")


def call(*words: str) -> None:
    """Run a module of this project to its end; what it prints is seen.

    Raises:
        HomeworkError: if it fails.
    """
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=False)
    if done.returncode:
        raise HomeworkError(f"python -m {' '.join(words)} ended with {done.returncode}: see above; then run this again")


def renew_hashes() -> None:
    """The sha256 of the base model's files, in grader/rubric.py."""
    lines = "".join(f'    "{name}": "{fingerprint_file(rubric.BASE / name)}",\n' for name in rubric.BASE_SHA256)
    substitute(ROOT / "grader" / "rubric.py", r"^BASE_SHA256 = \{\n.*?^\}$", f"BASE_SHA256 = {{\n{lines}}}")


def renew_gate() -> None:
    call("tools.measure_base")


def renew_calibration() -> None:
    """The calibration of both rubrics, and their bounds."""
    call("tools.calibrate", "--rubric", "long")


def renew_spans() -> None:
    """What wrong spans cost: the experiment goes on with what it has of this base; that of another is trained anew."""
    call("homework.experiment", "span", "--seeds", "5", "--checkpoint", BUNDLED_NAME, "--json", str(SPANS))


def renew_guards() -> None:
    call("benchmarks.guard_cost", "--pairs", "7")


def renew_sample() -> None:
    """The output of line one, for the handout."""
    with tempfile.TemporaryDirectory() as folder, SAMPLE.open("w", encoding="utf-8") as log:
        words = ["homework.sft", "train", "--output-dir", f"{folder}/sft_model", "--run-dir", f"{folder}/run"]
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, stdout=log, check=True)


def renew_reasoning() -> None:
    call("tools.measure_reasoning")


def reasoning_table(measured: dict) -> str:
    """What prompt and adapters reach, by the questions."""
    figures = measured["figures"]
    rows = [f"| {line} | {' | '.join(f'{figures[name][line]:.2f}' for name in figures)} |" for line in LINES]
    return "\n".join([f"| questions | {' | '.join(figures)} |", f"|---{'|---' * len(figures)}|", *rows])


def reasoning_sentence(measured: dict) -> str:
    """What the sampling keeps, and how long it takes."""
    sampled, seconds = measured["sampled"], measured["seconds"]
    return (
        f"keeps {sampled['kept']:.2f} of the questions with {sampled['chains']:.2f} different chains each; prompt, "
        f"sampling and fine-tuning take {sum(seconds.values()) / 60:.1f} minutes; a prompt with a system message and "
        f"another example is right in {measured['other_prompt']:.2f} of `valid`"
    )


def sample_output(log: str) -> str:
    """The lines of a training that the handout shows, without the paths of this machine."""
    lines, shown, position = log.splitlines(), [], 0
    for begin, count in SHOWN:
        found = [index for index in range(position, len(lines)) if lines[index].startswith(begin)]
        if begin == "...":
            shown.append(begin)
            continue
        if not found:
            raise HomeworkError(f"the training printed no line that begins with {begin!r}: correct SHOWN")
        chosen = found[count:] if count < 0 else list(range(found[0], found[0] + count))
        shown += [lines[index] for index in chosen]
        position = chosen[-1] + 1
    short = (line if len(line) <= 118 else f"{line[:112]} ..." for line in shown)
    return re.sub(r"\S*/(homework/sft_model|sft_model)", ".../homework/sft_model", "\n".join(short))


def span_table(spans: dict[str, dict[str, dict]]) -> str:
    """What wrong spans cost, as docs/training.md shows it."""
    return format_table(spans, len(take_reported(Dataset("valid"), None)), "supervised")


def expected_table(measured: dict[str, float]) -> str:
    """What the finished adapter reaches, by the questions."""
    rows = [f"| {title} | {measured[name]:.2f} |" for title, name in EXPECTED.items()]
    return "\n".join(["| questions | accuracy within 5 % |", "|---|---|", *rows])


def renew_figures() -> None:
    """What was measured, in README and docs."""
    measured = json.loads((rubric.BASE / MEASURES).read_text(encoding="utf-8"))
    sample = re.sub(r"/tmp/\S*/run", ".../runs/sft-1a2b3c4d", sample_output(SAMPLE.read_text(encoding="utf-8")))
    for name in HANDOUTS:
        substitute(ROOT / name, r"(?<=```text\n)base model:.*?(?=\n```)", sample)
        substitute(ROOT / name, r"^\| questions \| accuracy.*?(?=\n\n)", expected_table(measured))
        substitute(ROOT / name, r"reaches about \d+ %", f"reaches about {100 * measured['valid']:.0f} %")
    reasons, page = json.loads(REASONING.read_text(encoding="utf-8")), ROOT / "docs" / "reasoning.md"
    substitute(page, r"^\| questions \| reasoning prompt.*?(?=\n\n)", reasoning_table(reasons))
    substitute(page, r"keeps [\d.]+ of the questions.*?(?=\.\n)", reasoning_sentence(reasons))
    calibration = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    grading, training = ROOT / "docs" / "grading.md", ROOT / "docs" / "training.md"
    substitute(grading, r"[\d.]+ on average", f"{calibration['mean']:.3f} on average")
    renew_bounds(grading)
    substitute(training, r"^\| supervised +\| accuracy.*?(?=\n\n)", span_table(json.loads(SPANS.read_text())))
    cost = json.loads((ROOT / "benchmarks" / "guard_cost.json").read_text())["median_cost"]
    substitute(training, r"cost -?[\d.]+ % of its time", f"cost {100 * cost:.1f} % of its time")
    spans = json.loads(SPANS.read_text(encoding="utf-8"))
    question, padding = (spans[f"{name} supervised too"] for name in ("question", "padding"))
    flags = " or ".join(f"{mean_of(runs, 'first_loss'):.1f}" for runs in (question, padding))
    substitute(training, r"[\d.]+ or [\d.]+(?= \(SmolLM2)", flags)
    end = r"(?<=0\.1 to 0\.6 \| )[\d.]+(?= \| question supervised)"
    substitute(training, end, f"{mean_of(question, 'last_loss'):.2g}")
    logs = calibration["logs"]
    for metric, key in (
        ("loss at the start", "first_loss"),
        ("loss at the end", "last_loss"),
        ("grad norm", "grad_norm"),
    ):
        low, high = (f"{value:.2g}" for value in logs[key])
        substitute(training, rf"^\| {metric} \| [\d.]+ to [\d.]+ \|", f"| {metric} | {low} to {high} |")


def renew_bounds(page: Path) -> None:
    """The bounds of the rubrics, in the rows of their checks."""
    for check, (low, high) in rubric.read_rubric("long").bounds.items():
        row = re.search(rf"^\| `{check}` \|.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        if row is None:
            raise HomeworkError(f"{page} has no row of the check {check}")
        said = f"nothing up to {low:.2f}, all from {high:.2f}"
        substitute(page, re.escape(row[0]), re.sub(r"nothing up to \d\.\d+, all from \d\.\d+", said, row[0]))


def choose_rubric(name: str) -> None:
    """Make a rubric the course's: the setting, and what README, the starter's README and docs/grading.md say of it.

    Raises:
        GraderFault: if there is none of that name.
    """
    chosen = rubric.read_rubric(name)
    said = f"grades by the **{chosen.name}** one"
    course = f"{said}: {chosen.title}. {chosen.weights['accuracy']} of the 100 points are"
    substitute(ROOT / "grader" / "rubric.py", r'^CHOSEN = "\w+"$', f'CHOSEN = "{chosen.name}"')
    substitute(ROOT / "docs" / "grading.md", r"grades by the \*\*\w+\*\* one", said)
    for page in HANDOUTS:
        substitute(ROOT / page, r"grades by the \*\*\w+\*\* one: [^.]*\. \d+ of the 100 points are", course)


STEPS: dict[str, Callable[[], None]] = {
    "hashes": renew_hashes,
    "gate": renew_gate,
    "calibration": renew_calibration,
    "spans": renew_spans,
    "guards": renew_guards,
    "sample": renew_sample,
    "reasoning": renew_reasoning,
    "figures": renew_figures,
}


def main(*, list: bool = False, restart: bool = False, rubric: str | None = None) -> None:
    """Run every step that is not done for the base model as it lies in data/base_model.

    Args:
        list: only say which steps are done.
        restart: do all of them again.
        rubric: short or long: only make it the course's, in the code and on the pages.
    """
    if rubric:
        choose_rubric(rubric)
        print(f"the course grades by {rubric}.toml: look at git diff, run the tests, commit")
    else:
        renew_base(list, restart)


def renew_base(only_list: bool, restart: bool) -> None:
    """Run every step that is not done, or list them."""
    base = fingerprint_file(rubric.BASE / "model.safetensors")
    state = read_json(STATE) or {}
    done = state.get("done", []) if state.get("base") == base and not restart else []
    for name, step in STEPS.items():
        print(f"{name}: {'done' if name in done else 'to do' if only_list else 'begins'}", flush=True)
        if name in done or only_list:
            continue
        step()
        done = [*done, name]
        STATE.parent.mkdir(exist_ok=True)
        write_json(STATE, {"base": base, "done": done})
    if not only_list:
        print("all that rests on the base is renewed: look at git diff, run the tests, commit")


if __name__ == "__main__":
    run(main, "python -m tools.renew")
