"""The handout against the code: tree, commands, recipes, requirements, and what must not be in the project."""

import ast
import math
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement

from grader import rubric
from grader.__main__ import parse_arguments as parse_grader_arguments
from grader.check_list import check_names
from grader.classroom.__main__ import parse_arguments as parse_class_arguments
from homework import base_llm, chat, check, cot, datagen, experiment, rft, sft
from homework.common.base_model import ROOT
from homework.common.cli import UsageError, parse_arguments
from homework.common.files import read_json
from homework.reporting.comparison import mean_of
from homework.training.recipe import DEFAULT_RECIPE, RECIPES
from tools import make_autograder, renew

README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTER = (ROOT / "tools" / "starter" / "README.md").read_text(encoding="utf-8")
TRAINING, REASONING, GRADING, STAFF = (
    (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("training", "reasoning", "grading", "staff")
)
HANDOUT = README + STARTER + TRAINING + REASONING + GRADING + STAFF
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TASKS = (base_llm, sft, cot, datagen, rft)
COMMANDS = [
    *(command for module in TASKS for command in module.COMMANDS.values()),
    chat.chat,
    check.check,
    experiment.experiment,
]


def tracked_files() -> list[str]:
    """Tracked and new files, as git lists them."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    lines = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if (ROOT / line).is_file()]


def tree_paths() -> set[str]:
    """The paths of the tree in CONTRIBUTING."""
    block = CONTRIBUTING.split("## The tree")[1].split("```")[1]
    parents, paths = [], set()
    for line in block.splitlines()[1:]:
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        parents = [*parents[:depth], name]
        paths.add("".join(parents))
    return paths


def test_the_tree_is_the_tree():
    paths = tree_paths()
    for path in paths:
        assert (ROOT / path).exists(), f"CONTRIBUTING names {path}"
    shown = [path for path in tracked_files() if not path.startswith(".")]
    folders = {f"{parent}/" for path in shown for parent in list(PurePosixPath(path).parents)[:-1]}
    assert folders | {path for path in shown if "/" not in path} == paths


@pytest.mark.parametrize("text", [README, STARTER])
def test_the_handout_is_short(text):
    assert text.count("\n") <= 200 and len(text.encode()) <= 14_000


def test_both_handouts_say_the_same_where_they_speak_of_the_same():
    def shared(text: str) -> str:
        return text[text.index("## The label span") : text.index("## Where to read on")]

    assert shared(README) == shared(STARTER)
    tasks = [re.findall(r"^\| \d \|.*$", text, re.MULTILINE) for text in (README, STARTER)]
    assert tasks[0] == tasks[1] and len(tasks[0]) >= 3


def test_every_link_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"\]\(([\w./-]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / name).exists(), f"{page.name} links {name}"


def commands() -> list[tuple[str, str, list[str]]]:
    """Every command of the handout: module, subcommand, arguments."""
    lines = re.findall(r"python -m (homework\.(?!experiment)\w+) (\w+)([^`\n|&]*)", HANDOUT)
    return [(module, name, shlex.split(rest)) for module, name, rest in lines]


def test_every_command_of_the_handout_parses():
    assert len(commands()) >= 10
    for module, name, arguments in commands():
        parse_arguments(import_module(module).COMMANDS[name], arguments)


def test_every_line_of_a_module_with_one_command_parses():
    lines = re.findall(r"python -m homework\.(chat|check|experiment)\b([^`\n|&#]*)", HANDOUT)
    assert {name for name, _ in lines} == {"chat", "check", "experiment"} and any("--" in rest for _, rest in lines)
    for name, rest in lines:
        values = parse_arguments(getattr(import_module(f"homework.{name}"), name), shlex.split(rest))
        assert name != "experiment" or values["name"] in experiment.EXPERIMENTS


def test_every_line_of_grading_in_the_handout_parses():
    lines = re.findall(r"python -m grader(\.classroom)? ([^`\n#]*)", HANDOUT)
    assert {command for command, _ in lines} == {"", ".classroom"}
    for command, line in lines:
        parse = parse_class_arguments if command else parse_grader_arguments
        parse(shlex.split(line))
    assert "python bundle.py homework 123456" in README


def test_a_drifted_command_would_be_noticed():
    with pytest.raises(UsageError):
        parse_arguments(import_module("homework.sft").COMMANDS["train"], ["--learning-rates", "1"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_explained(command):
    for name in command.__kwdefaults__ or {}:
        assert re.search(rf"^ +{name}: ", command.__doc__, re.MULTILINE), name


def test_the_recipes_are_the_table():
    for label, recipe in (("bundled", *RECIPES.values()), ("any other", DEFAULT_RECIPE)):
        row = re.search(rf"\| {label} \|(.*)\|", TRAINING)[1]
        values = [float(cell) for cell in row.split("|")]
        assert values == [recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.rank, recipe.alpha]


def test_ci_runs_the_two_lines():
    blocks = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert blocks[0] in script and blocks[1] in script


def imported_packages() -> set[str]:
    packages = set()
    for path in tracked_files():
        if path.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    packages |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    packages.add(node.module.split(".")[0])
    packages = {"pyyaml" if name == "yaml" else name for name in packages}
    beside = {
        path.stem for path in (ROOT / "grader" / "sandbox" / "guest").glob("*.py")
    }  # they find each other without a package
    ours = {"homework", "grader", "tools", "tests", "benchmarks", "bundle"}
    return packages - set(sys.stdlib_module_names) - ours - beside


def test_requirements_list_what_is_imported_with_a_reason():
    lines = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-dev.txt").read_text()
    lines += (ROOT / "benchmarks" / "requirements.txt").read_text()
    required = [line for line in lines.splitlines() if line and not line.startswith(("#", "-r"))]
    assert all("#" in line for line in required)
    wanted = [Requirement(line.split("#")[0]) for line in required]
    names = {one.name for one in wanted if not one.url}
    assert imported_packages() <= names
    # tensorboard is imported by transformers' Trainer, pytest-xdist by pytest; ruff and mypy are run by a test.
    assert names - imported_packages() == {"tensorboard", "pytest-xdist", "ruff", "mypy"}


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_clean(command):
    line = [sys.executable, "-m", "ruff", *command, "."]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.everything
def test_mypy_is_clean():
    result = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_every_module_says_what_it_does():
    for path in tracked_files():
        if path.endswith(".py") and (text := (ROOT / path).read_text(encoding="utf-8")):
            assert ast.get_docstring(ast.parse(text)), path


def test_no_large_file_but_the_base_model():
    for path in tracked_files():
        if path != "data/base_model/model.safetensors":
            assert (ROOT / path).stat().st_size < 200_000, path


def test_the_table_of_spans_is_the_measured_one():
    results = read_json(renew.SPANS)
    assert renew.span_table(results) in TRAINING and list(results) == list(experiment.SPANS)
    assert all(len(seeds) == 5 for seeds in results.values())


def test_the_cost_of_the_guards_is_the_measured_one():
    cost = read_json(ROOT / "benchmarks" / "guard_cost.json")["median_cost"]
    assert f"cost {cost:.1%} of its time".replace("%", " %") in TRAINING and cost < 0.05


SHORT, LONG = rubric.read_rubric("short"), rubric.read_rubric("long")
TASKS = {
    "1": "parser generate padding num_return_sequences answer",
    "2": "metric scoring",
    "3": "format supervised spans tokenize_stable dataset",
    "4": "adapter_present configured weights_valid accuracy batch gradients input_gradients trains loads refuses "
    "matches_weights",
    "5": "prompt",
    "6": "sampling samples",
    "7": "reasoning_adapter reasoning_accuracy reasons reasoning_rows reasoning_trains reasoning_loads",
}


def said_points(number: float | None) -> str:
    """Points as the handout says them: a dash for a check or a task without any."""
    return "–" if number is None else f"{number:g}"


def test_the_table_of_points_is_that_of_both_rubrics():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+|–) \| (\d+) \|$", GRADING, re.MULTILINE)
    assert rows == [(name, said_points(SHORT.points.get(name)), said_points(LONG.points[name])) for name in LONG.points]
    assert list(LONG.points) == check_names() and set(SHORT.points) < set(LONG.points)
    assert all(sum(one.points.values()) == rubric.ALL_POINTS == 100 for one in (SHORT, LONG))
    assert sum(SHORT.weights.values()) >= 60 and sum(LONG.weights.values()) >= 60


def test_the_bounds_are_those_of_the_rubric():
    for name, (low, high) in LONG.bounds.items():
        row = re.search(rf"^\| `{name}` \|.*$", GRADING, re.MULTILINE)[0]
        assert f"nothing up to {low:.2f}, all from {high:.2f}" in row, name
    assert SHORT.bounds.items() <= LONG.bounds.items()
    assert f"{rubric.HIDDEN_QUESTIONS} hidden questions" in GRADING
    assert f"| {rubric.LONG_QUESTIONS} hidden questions whose values" in GRADING
    assert f"rank 1 to {rubric.MAX_RANK}, alpha up to {rubric.MAX_ALPHA}" in GRADING
    assert f"{read_json(ROOT / 'grader' / 'calibration.json')['mean']:.3f} on average" in GRADING


def test_the_points_of_the_tasks_are_those_of_their_checks():
    assert sorted(" ".join(TASKS.values()).split()) == sorted(LONG.points)
    rows = re.findall(r"^\| (\d) \|.*\| (\d+|–) \| (\d+) \| `python", README, re.MULTILINE)
    sums = {
        task: [sum(one.points.get(name, 0) for name in names.split()) or None for one in (SHORT, LONG)]
        for task, names in TASKS.items()
    }
    assert rows == [(task, *map(said_points, both)) for task, both in sums.items()]


def test_the_handout_says_which_rubric_the_course_has():
    chosen = rubric.read_rubric(rubric.CHOSEN)
    for text in (README, STARTER):
        said = f"**{chosen.name}** one: {chosen.title}. {chosen.weights['accuracy']} of the 100 points are the accuracy"
        assert said in " ".join(text.split())
    assert f"This course grades by the **{chosen.name}** one" in " ".join(GRADING.split())


def test_pre_commit_runs_the_pinned_ruff():
    pinned = re.search(r"^ruff==([\d.]+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)[1]
    assert f"rev: v{pinned}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_lock_file_satisfies_the_requirements():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = dict(line.split()[0].split("==") for line in lines if not line.startswith("#"))
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#") and not (requirement := Requirement(line.split("#")[0])).url:
            name = requirement.name.replace("_", "-")
            assert requirement.specifier.contains(locked[name]), (
                f"requirements.lock is older than requirements.txt: {name}"
            )
    assert "-r requirements.lock" in make_autograder.SETUP


def test_the_answers_have_a_place_for_each_question_and_staff_a_model_of_each():
    text = (ROOT / "homework" / "ANSWERS.md").read_text("utf-8")
    asked = re.findall(r"^## (\d)\. .+\n\n(?:.+\n)+\nYour answer:\n", text, re.MULTILINE)
    model = STAFF.split("What a good answer holds")[1].split("\n## ")[0]
    assert asked == re.findall(r"^(\d)\. ", model, re.MULTILINE) == list("12345")


def test_what_the_questions_and_model_answers_say_is_what_was_measured():
    """By variant, the mean over the seeds; a base with which one of these does not hold needs another question."""
    results = read_json(renew.SPANS)
    exact, first, question, padding, eos, masked = (
        {key: mean_of(runs, key) for key in runs["0"]} for runs in results.values()
    )
    assert max(first["accuracy"], masked["accuracy"], first["answer_rate"]) < 0.02 < 0.5 < exact["accuracy"]
    assert first["last_loss"] < 2 * exact["last_loss"] and math.isnan(masked["first_loss"]), "1, 2"
    assert question["last_loss"] > 10 * exact["last_loss"], "3"
    assert 0 < exact["accuracy"] - question["accuracy"] < 0.1, "3"
    assert padding["first_loss"] > question["first_loss"] > exact["first_loss"], "4"
    assert padding["last_loss"] < exact["last_loss"] and padding["accuracy"] <= exact["accuracy"], "4"
    assert 0.5 < masked["ended_by_eos"] < 0.9 and masked["last_grad_norm"] == 0, "5"
    assert all(abs(eos[key] - exact[key]) < 0.01 for key in ("answer_rate", "ended_by_eos")), "5"
