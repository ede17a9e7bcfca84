"""The rooms of grader/: imports point downwards only, without a circle, and no docstring names what is not there."""

import ast
import re
from pathlib import Path

import pytest

from grader import runner
from grader.check_list import check_names
from grader.course import Course
from grader.submission import Submission
from homework.common.base_model import ROOT

# From the top down: a module imports from its own line or from those below it.
LAYERS = (
    "__main__ autograder classroom",
    "grade checks",
    "runner",
    "harness startup",
    "sandbox",
    "course",
    "reasons",
    "reference",
    "updates",
    "submission adapter seed own_questions",
    "report provenance check_list",
    "rubric",
    "errors",
    "result interrupts",
    "files units equations",
)  # fmt: skip
Edges = dict[str, set[str]]


def read_modules(folder: Path) -> dict[str, str]:
    """The source of each module by its name; the guest's files import each other without a package."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def find_imports(modules: dict[str, str]) -> Edges:
    """The modules that each module imports, anywhere in it; an import of a name counts for the module that has it."""
    guests = {name.rpartition(".")[2]: name for name in modules if ".guest." in name}
    edges: Edges = {}
    for name, source in modules.items():
        named: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                below = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= below & set(modules) or {node.module}
            elif isinstance(node, ast.ImportFrom):
                raise AssertionError(f"{name} has a relative import")
        if ".guest." in name:
            named = {guests.get(one, one) for one in named}
        edges[name] = named & set(modules) - {name}
    return edges


def find_circle(edges: Edges) -> list[str]:
    """Modules that import each other in a circle, the first one named again at its end; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for below in sorted(edges[name]):
            if circle := visit(below, [*path, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in sorted(edges) if (circle := visit(name, []))), [])


def find_climbs(edges: Edges) -> list[str]:
    """The imports that point to a layer above their own."""
    level = {room: number for number, line in enumerate(LAYERS) for room in line.split()}
    levels = {name: level[name.split(".")[1]] for name in edges if "." in name}
    return [f"{one} imports {other}" for one, below in edges.items() for other in sorted(below)
            if other in levels and levels[other] < levels[one]]  # fmt: skip


MODULES = read_modules(ROOT / "grader")
EDGES = find_imports(MODULES)


def test_no_circle_and_no_climb():
    assert len(EDGES) > 60 and sum(map(len, EDGES.values())) > 150
    assert find_circle(EDGES) == [] and find_climbs(EDGES) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("grader.reference", "from grader.course import Course"),
        ("grader.course", "def f():\n    from grader import runner"),
        ("grader.sandbox.guest.worker", "def f():\n    import jobs"),
        ("grader.classroom.store", "import grader.classroom.supervisor"),
    ],
)
def test_a_planted_circle_is_found(name, line):
    planted = find_imports({**MODULES, name: f"{MODULES[name]}\n{line}\n"})
    assert name in find_circle(planted)


def test_a_planted_climb_is_found():
    planted = find_imports({**MODULES, "grader.files": "from grader import provenance\n"})
    assert find_climbs(planted) == ["grader.files imports grader.provenance"]


def test_each_adapter_is_read_once_for_all_checks(files, monkeypatch):
    read, calls = runner.read_weights, []
    monkeypatch.setattr(runner, "read_weights", lambda *given: calls.append(given) or read(*given))
    submission, course = Submission("x.zip", files, [], "0"), Course(hidden_questions=10, novel_questions=5)
    found = runner.run_checks(submission, course, checks=tuple(check_names("weights")))
    assert len(found.checks) == 4 and found.measured["questions"] == 10 and len(calls) == 1


def test_the_docstrings_name_only_files_that_are_there():
    for name, source in MODULES.items():
        docstring = ast.get_docstring(ast.parse(source)) or ""
        for path in re.findall(r"\b(?:grader|homework|tests|tools|benchmarks)/[\w/]+\.\w+", docstring):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_a_docstring_names_a_command_only_where_it_is_the_modules_own():
    for name, source in MODULES.items():
        for command in re.findall(r"python -m (grader[\w.]*)", ast.get_docstring(ast.parse(source)) or ""):
            assert name in (command, f"{command}.__main__"), f"{name} names python -m {command}"
