"""Checks an instructor's own rows, and writes them to data/ in the place of the questions about units.

    python -m tools.import_data train.json valid.json --hidden hidden.json               # checks; writes if right
    python -m tools.import_data train.json valid.json --hidden hidden.json --drop train  # shared questions leave train

Each file is a JSON list of [question, number]. A question may stand once in all of them: what stands in two of them, or
twice in one, is listed, and taken out only when `--drop` says which side loses. The hidden questions are kept by staff:
they are checked, and never copied. docs/staff.md goes on from here.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from grader.files import write_whole
from grader.own_questions import MARK, key_of
from homework.base_llm import LONGEST_ANSWER
from homework.common.base_model import BUNDLED, BUNDLED_NAME, load_tokenizer
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.data import DATA_FOLDER, check_row, read_list
from homework.training.evaluation import LEAST_VALID
from homework.training.recipe import RECIPES
from tools.make_starter import GIVEN

ROOT = DATA_FOLDER.parent
REPLACED = ("train.json", "valid.json", "README.md", MARK)
LEAST = {"train": RECIPES[BUNDLED_NAME].batch_size, "valid": LEAST_VALID, "hidden": 1}  # rows
Complain = Callable[[str], str | None]


class Split(NamedTuple):
    """The rows of one file by their index, and what is wrong with the others."""

    name: str  # train, valid or hidden
    path: Path
    rows: dict[int, tuple[str, float]]
    faults: list[str]


class Drop(NamedTuple):
    """A row that can't stay where it is, and why."""

    split: str
    index: int
    why: str


def read_split(name: str, path: Path, complain: Complain) -> Split:
    """Read and check a file; a row that can't be used is a fault with file and row.

    Raises:
        HomeworkError: if it is no JSON list.
    """
    if not path.is_file():
        raise HomeworkError(f"there is no file {path}: name your {name} questions, a JSON list of [question, number]")
    split = Split(name, path, {}, [])
    for index, content in enumerate(read_list(path)):
        where = f"{path}, row {index}"
        try:
            question, answer = check_row(content, where)
        except HomeworkError as error:
            split.faults.append(str(error))
            continue
        if said := complain(question):
            split.faults.append(f"{where}: {said}: {question!r:.60}")
        else:
            split.rows[index] = (question, answer)
    return split


def make_complain() -> Complain:
    """What is wrong with a question for the bundled base model; None if nothing is."""
    tokenizer = load_tokenizer(str(BUNDLED))
    answer = len(tokenizer(LONGEST_ANSWER, add_special_tokens=False)["input_ids"]) + 1
    longest = tokenizer.model_max_length - answer

    def complain(question: str) -> str | None:
        ids = tokenizer(question)["input_ids"]
        if len(ids) > longest:
            return f"{len(ids)} tokens, and the base model reads {longest} before an answer: shorten it"
        if tokenizer.eos_token_id in ids or "<answer>" in question or "</answer>" in question:
            return "it holds a tag or the end of a text, which belong to the answer: take it out"
        return "it begins or ends with a space: take that out" if question != question.strip() else None

    return complain


def find_repeats(split: Split) -> list[Drop]:
    """The later rows of each question that a file holds more than once, with one answer.

    A question with different answers goes to the faults of the file: nobody but its author knows the right one.
    """
    drops = []
    for indices in group(split).values():
        answers = [split.rows[index][1] for index in indices]
        if len(set(answers)) > 1:
            listed = ", ".join(f"row {index}: {answer:g}" for index, answer in zip(indices, answers, strict=True))
            question = split.rows[indices[0]][0]
            split.faults.append(f"{split.path}: one question with different answers ({listed}): {question!r:.60}")
        else:
            drops += [Drop(split.name, index, f"repeats row {indices[0]}") for index in indices[1:]]
    return drops


def group(split: Split) -> dict[str, list[int]]:
    """The indices of the rows by their question."""
    found: dict[str, list[int]] = {}
    for index, (question, _) in split.rows.items():
        found.setdefault(key_of(question), []).append(index)
    return found


def find_shared(loser: Split, keeper: Split) -> list[Drop]:
    """The rows of one file whose questions stand in another."""
    kept, drops = group(keeper), []
    for question, indices in group(loser).items():
        if question in kept:
            other = kept[question][0]
            same = loser.rows[indices[0]][1] == keeper.rows[other][1]
            why = f"stands in {keeper.path}, row {other}, too{'' if same else ', with ANOTHER ANSWER'}"
            drops += [Drop(loser.name, index, why) for index in indices]
    return drops


def choose_drops(splits: dict[str, Split], side: str) -> list[Drop]:
    """The rows that go if `side` (train or valid) loses what both have, one for each row; hidden questions stay."""
    drops = [drop for split in splits.values() for drop in find_repeats(split)]
    if "hidden" in splits:
        for name in ("train", "valid"):
            drops += find_shared(splits[name], splits["hidden"])
    drops += find_shared(splits[side], splits["valid" if side == "train" else "train"])
    first = {(drop.split, drop.index): drop for drop in reversed(drops)}
    return [first[place] for place in sorted(first)]


def describe(splits: dict[str, Split], drops: Iterable[Drop]) -> str:
    """What was found, for a terminal; rows are counted from 0."""
    lines = [f"{split.path}: {len(split.rows)} rows that can be used" for split in splits.values()]
    for drop in drops:
        split = splits[drop.split]
        lines.append(f"  {split.path}, row {drop.index} {drop.why}: {split.rows[drop.index][0]!r:.60}")
    return "\n".join([*lines, *(f"  {fault}" for split in splits.values() for fault in split.faults)])


def refuse_faults(splits: dict[str, Split], drops: list[Drop], drop: str | None) -> None:
    """Stop with what to do, unless all that is wrong was asked to be dropped.

    Raises:
        HomeworkError: for faults, for rows to drop that nobody asked to drop, and for too few rows.
    """
    stuck = [one for one in drops if one.split == "hidden"]
    if faults := sum(len(split.faults) for split in splits.values()) + len(stuck):
        where = ", hidden questions in their own file" if stuck else ""
        raise HomeworkError(f"{faults} of these need a hand{where}: mend them and run this again; nothing is written")
    if drops and not drop:
        raise HomeworkError(
            f"{len(drops)} rows are there twice: add --drop train or --drop valid for the file that loses what both "
            "have (of repeated rows the first stays); nothing is written"
        )
    for name, split in splits.items():
        left = len(split.rows) - sum(one.split == name for one in drops)
        if left < LEAST[name]:
            raise HomeworkError(f"{split.path} has {left} rows left, at least {LEAST[name]} are needed: bring more")


def refuse_public(hidden: Path) -> None:
    """Raise HomeworkError if the hidden questions lie where the starter would take them from."""
    given = [ROOT / "data", *(ROOT / name for name in GIVEN)]
    if any(hidden.resolve().is_relative_to(folder) for folder in given):
        raise HomeworkError(f"{hidden} lies where students get it: move it out of the repository")


def render_rows(rows: Iterable[tuple[str, float]]) -> str:
    """A data file, a row a line, as tools/make_data.py writes it."""
    return "[\n" + ",\n".join(json.dumps(list(row)) for row in rows) + "\n]\n"


def render_readme(contents: dict[str, str], splits: dict[str, Split], drops: list[Drop]) -> str:
    """data/README.md: the files with their hashes, their schema and where they come from."""
    uses = {"train": "questions to fine-tune on", "valid": "questions that are in no training, public"}
    rows, origins = [], []
    for name, use in uses.items():
        gone = sum(drop.split == name for drop in drops)
        count, path = len(splits[name].rows) - gone, splits[name].path
        rows.append(f"| `{name}.json` | {use} | {count:,} | `{hash_text(contents[name])}` |")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        origins.append(f"- `{name}.json` from `{path.name}`, sha256 `{digest}`, {gone} rows dropped")
    return README.format(rows="\n".join(rows), origins="\n".join(origins), mark=MARK)


README = """\
# data/

| file | what | rows | sha256 |
|---|---|---|---|
{rows}
| `base_model/` | the bundled base model, with its own [model card](base_model/README.md) | | in the card |
| `{mark}` | the mark by which the grader knows that these questions are the instructor's own | | |

**Schema.** A JSON list of `[question, answer]`, a row a line: the question is a text, the answer a float.

**Provenance.** Written by `python -m tools.import_data` from the instructor's files:

{origins}

No question stands in both files, and none stands twice in one.
"""


def hash_text(text: str) -> str:
    """The sha256 of a file with this content."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep_original(folder: Path) -> Path:
    """Copy what the import replaces to a new folder beside data/, which the starter does not take."""
    names = (folder.with_name(f"{folder.name}_original{f'_{number}' if number else ''}") for number in range(10_000))
    target = next(path for path in names if not path.exists())
    target.mkdir(parents=True)
    for name in REPLACED:
        if (folder / name).is_file():
            shutil.copy2(folder / name, target / name)
    return target


def write_data(splits: dict[str, Split], drops: list[Drop], folder: Path) -> Path | None:
    """Write the folder of data; returns where its former content is kept, None if it holds these rows already."""
    gone = {(drop.split, drop.index) for drop in drops}
    contents = {
        name: render_rows(row for index, row in splits[name].rows.items() if (name, index) not in gone)
        for name in ("train", "valid")
    }
    hashes = "".join(f'{name} = "{hash_text(content)}"\n' for name, content in contents.items())
    mark = f"# The questions are the instructor's own (python -m tools.import_data).\n[sha256]\n{hashes}"
    if (folder / MARK).is_file() and (folder / MARK).read_text(encoding="utf-8") == mark:
        return None
    readme = render_readme(contents, splits, drops)
    kept = keep_original(folder)
    # The mark first: after a stop in between, the grader misses the file that it names, and draws nothing.
    files = {MARK: mark, **{f"{name}.json": content for name, content in contents.items()}, "README.md": readme}
    for name, content in files.items():
        write_whole(folder / name, content)
    return kept


def main(train: str, valid: str, *, hidden: str | None = None, drop: str | None = None, out: str | None = None) -> None:
    """Check your own questions, and write them to data/ if nothing is wrong with them.

    Args:
        train: questions to fine-tune on, a JSON list of [question, number].
        valid: public questions that are in no training.
        hidden: questions of the grade, which staff keep: they are checked, never copied.
        drop: train or valid, the file that loses the questions that both have; repeated ones go with them.
        out: another folder than data/.
    """
    if drop not in (None, "train", "valid"):
        raise HomeworkError(f"--drop takes train or valid, not {drop!r}")
    given = {"train": train, "valid": valid, **({"hidden": hidden} if hidden else {})}
    if hidden:
        refuse_public(Path(hidden))
    complain = make_complain()
    splits = {name: read_split(name, Path(path), complain) for name, path in given.items()}
    drops = choose_drops(splits, drop or "train")
    print(describe(splits, drops))
    refuse_faults(splits, drops, drop)
    folder = Path(out) if out else DATA_FOLDER
    kept = write_data(splits, drops, folder)
    done = f"is written, its former files are kept in {kept}" if kept else "holds these rows already"
    print(f"{len(drops)} rows dropped; {folder} {done}")
    asked = (
        "those of the file, keep it out of the repository"
        if hidden
        else "none: valid is scored, its answers are public"
    )
    print(f"hidden questions: {asked}")


if __name__ == "__main__":
    run(main, "python -m tools.import_data")
