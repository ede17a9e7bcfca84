"""Makes the starter, the repository that students get, out of this solved one.

    python -m tools.make_starter OUT      # writes the folder OUT, which must not exist yet

What stands between `# BEGIN SOLUTION task N: NAME` and `# END SOLUTION` becomes one `raise NotImplementedError`; the
lines `# Hint: …` right below the first marker stay. Files go in by allow-list, so that no new staff tool can slip
through, and the result is searched for every line that was taken out; not the grader, which parses and decodes for
itself, and which students need to grade themselves. `tools/starter/` holds what is written for students alone.
"""

import re
import shutil
import sys
from pathlib import Path

from grader import rubric

ROOT = Path(__file__).resolve().parent.parent
# What students get: files, and folders with all that is in them but LEFT_OUT.
GIVEN = (
    "docs/training.md", "docs/reasoning.md", "docs/grading.md",
    "CHANGELOG.md", "COURSE.md", "POLICY.md", "LICENSE", "SECURITY.md", ".gitignore", "pyproject.toml",
    "requirements.txt", "bundle.py", "colab.ipynb", "homework", "grader", "tests/__init__.py", "tests/public",
    "data/README.md", "data/train.json", "data/valid.json", "data/own_questions.toml", "data/base_model",
)  # fmt: skip
# Written for students alone, and where it stands in the starter.
OVERLAY = {
    "tools/starter/README.md": "README.md",
    "tools/starter/AGENTS.md": "AGENTS.md",
    "tools/starter/classroom.yml": ".github/workflows/classroom.yml",
}
LEFT_OUT = {rubric.ADAPTER_DIR, rubric.REASONING_DIR, "__pycache__", "classroom", "autograder.py", ".DS_Store"}
BEGIN, END, HINT = "# BEGIN SOLUTION", "# END SOLUTION", "# Hint:"
LABEL = re.compile(r"task \d+: \w+")
LONG = 40  # characters: a shorter line of a solution may well stand elsewhere


class MarkerError(Exception):
    """A marker is misspelt, nested or unclosed, or a solution would be given away."""


def split_solutions(text: str, name: str) -> list[tuple[str, str]]:
    """The file in pieces of (solved text, text of the starter), in their order; equal outside of the markers.

    Raises:
        MarkerError: naming file and line.
    """
    pieces: list[tuple[str, str]] = []
    block: list[str] | None = None
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        word = line.strip()
        if word.startswith(BEGIN):
            if block is not None:
                raise MarkerError(f"{name}, line {number}: {BEGIN} within another: close the first one")
            if not LABEL.fullmatch(word.removeprefix(BEGIN).strip()):
                raise MarkerError(f"{name}, line {number}: write '{BEGIN} task N: NAME', not {word!r}")
            block = [line]
        elif word == END:
            if block is None:
                raise MarkerError(f"{name}, line {number}: {END} without {BEGIN}")
            pieces.append(("".join([*block, line]), stub(block)))
            block = None
        elif word.startswith("#") and "SOLUTION" in word:
            raise MarkerError(f"{name}, line {number}: misspelt marker {word!r}")
        elif block is not None:
            block.append(line)
        else:
            pieces.append((line, line))
    if block is not None:
        raise MarkerError(f"{name}: {block[0].strip()!r} is never closed: write {END} below it")
    return pieces


def stub(block: list[str]) -> str:
    """What stands in the starter in the place of a solution: its hints, and an error that names the task."""
    first = block[0]
    indent, label = first[: len(first) - len(first.lstrip())], first.strip().removeprefix(BEGIN).strip()
    hints = []
    for line in block[1:]:
        if not line.strip().startswith(HINT):
            break
        hints.append(line)
    return f'{"".join(hints)}{indent}raise NotImplementedError("{label} is not implemented yet")\n'


def count_lines(solution: str) -> int:
    """The lines that a student writes in a gap, as the solution has them: no marker, no hint, no blank line."""
    written = [line.strip() for line in solution.splitlines()]
    return sum(bool(line) and not line.startswith((BEGIN, END, HINT)) for line in written)


def strip(text: str, name: str) -> str:
    """A Python file without its solutions."""
    return "".join(given for _, given in split_solutions(text, name))


def restore(given: str, solved: str, name: str) -> str:
    """A file of the starter with the solutions of the solved file back in their places.

    Raises:
        MarkerError: if one of the places is gone.
    """
    for solution, placeholder in split_solutions(solved, name):
        if solution != placeholder:
            if given.count(placeholder) != 1:
                raise MarkerError(f"{name}: the place of {solution.splitlines()[0].strip()!r} is not there once")
            given = given.replace(placeholder, solution)
    return given


def list_given(root: Path) -> list[Path]:
    """The files that students get, relative to the repository."""
    found = [
        path for name in GIVEN for path in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
    ]
    relative = [path.relative_to(root) for path in found if path.is_file()]
    return sorted(path for path in relative if not LEFT_OUT & set(path.parts) and path.suffix not in (".pyc", ".zip"))


def build(root: Path, out: Path) -> dict[str, int]:
    """Write the starter; returns its gaps, by file and name, with the lines that the solution has there.

    Raises:
        MarkerError: for a wrong marker, or where a line of a solution would be left in any file. Nothing is kept then.
    """
    files = list_given(root)
    secret: dict[str, str] = {}
    tasks: dict[str, int] = {}
    texts: dict[Path, str] = {}
    for path in (path for path in files if path.suffix == ".py" and path.parts[0] == "homework"):
        text = (root / path).read_text(encoding="utf-8")
        texts[path] = strip(text, path.as_posix())
        for solution, placeholder in split_solutions(text, path.as_posix()):
            if solution != placeholder:
                label = f"{path.as_posix()}: {solution.splitlines()[0].strip().removeprefix(BEGIN).strip()}"
                tasks[label] = count_lines(solution)
                gone = set(solution.splitlines()) - set(placeholder.splitlines())
                secret |= {line.strip(): label for line in gone if is_secret(line.strip())}
    if not tasks:
        raise MarkerError(f"there is no {BEGIN} in homework/: students would get the solution")
    for path in files:
        if path.suffix in (".py", ".md", ".ipynb") and path not in texts:
            texts[path] = (root / path).read_text(encoding="utf-8")
    texts |= {Path(target): (root / source).read_text(encoding="utf-8") for source, target in OVERLAY.items()}
    refuse_leaks(texts, secret)
    for path in {*files, *texts}:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        if path in texts:
            (out / path).write_text(texts[path], encoding="utf-8", newline="\n")
        else:
            shutil.copyfile(root / path, out / path)
    return dict(sorted(tasks.items(), key=lambda item: LABEL.search(item[0])[0]))  # type: ignore[index]


def is_secret(line: str) -> bool:
    """Whether a line of a solution gives something away where it stands elsewhere: no comment, no error, not short."""
    return len(line) >= LONG and not line.startswith(("#", "raise "))


def refuse_leaks(texts: dict[Path, str], secret: dict[str, str]) -> None:
    """Raise MarkerError if a longer line of a solution stands in any file that students get, but the grader's own."""
    for path, text in ((path, text) for path, text in texts.items() if path.parts[0] != "grader"):
        for line in text.splitlines():
            if (task := secret.get(line.strip())) is not None:
                raise MarkerError(f"{path.as_posix()} gives away {task}: {line.strip()[:80]!r}")


def main(words: list[str]) -> int:
    """Build the starter and say what is in it; returns the exit code."""
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__)
        return 0 if words in (["--help"], ["-h"]) else 2
    out = Path(words[0])
    if out.exists():
        print(f"error: {out} is there already: name a folder that is not", file=sys.stderr)
        return 2
    try:
        tasks = build(ROOT, out)
    except (MarkerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for label, lines in tasks.items():
        print(f"{label}, {lines} lines")
    files = len({label.partition(":")[0] for label in tasks})
    print(f"{len(tasks)} gaps of {sum(tasks.values())} lines in {files} files; the starter is in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
