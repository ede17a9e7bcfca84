"""The house, computed from the import statements: which way the arrows of homework/ point, and what never meets."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homework.common.base_model import ROOT

# From the roof to the ground: a room imports from itself and from the rooms below it.
HOMEWORK = (
    "experiment", "chat", "check", "rft", "datagen", "cot", "sft",
    "reporting", "training", "guards", "base_llm", "data", "common",
)  # fmt: skip
# homework/__init__.py names what is above it, and imports it on first use: it is the contract, not a room.
DOOR = "homework"
Arrows = dict[str, set[str]]  # module -> the modules that it imports, by their dotted names


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    root = package.parent
    names = {
        path.relative_to(root).with_suffix("").as_posix().replace("/", "."): path for path in package.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imported_names(path: Path, name: str) -> Iterator[str]:
    """The absolute names that a module imports, wherever: at the top, in a function, or for type checkers only."""
    is_package = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def arrows_of(package: Path) -> Arrows:
    """The imports among the modules of a package. `from a.b import c` is an arrow to a.b.c where that is a module."""
    modules = modules_of(package)
    found: Arrows = {}
    for name, path in modules.items():
        imported = set(imported_names(path, name)) & set(modules)
        found[name] = {target for target in imported if not any(other.startswith(f"{target}.") for other in imported)}
    return found


def room_of(module: str) -> str:
    """The room of a module.  Example: 'homework.training.trainer' -> 'training'"""
    return module.split(".")[1] if "." in module else module


def climbing(arrows: Arrows, rooms: tuple[str, ...]) -> list[str]:
    """The imports that point upwards, or to a room that nobody has named."""
    height = {room: len(rooms) - index for index, room in enumerate(rooms)}
    return [
        f"{module} imports {target}"
        for module, targets in arrows.items()
        for target in targets
        if module != DOOR and height.get(room_of(module), 0) < height.get(room_of(target), len(rooms) + 1)
    ]


def circles(arrows: Arrows) -> list[str]:
    """The modules that import themselves by way of others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        queue = list(arrows[start])
        while queue:
            if (module := queue.pop()) not in seen:
                seen.add(module)
                queue += arrows[module]
        return seen

    return [module for module in arrows if module in reached(module)]


def past_the_door(package: Path) -> list[str]:
    """Where a room imports a module or a name of another one that begins with an underscore."""
    modules = modules_of(package)
    return [
        f"{name} imports {target}"
        for name, path in modules.items()
        for target in imported_names(path, name)
        if target.startswith(f"{package.name}.")
        and any(part.startswith("_") for part in target.split(".")[2:])
        and room_of(target) != room_of(name)
    ]


def test_no_import_of_the_homework_climbs():
    arrows = arrows_of(ROOT / "homework")
    assert {room_of(module) for module in arrows} - {DOOR} == set(HOMEWORK)
    assert climbing(arrows, HOMEWORK) == []


def test_there_is_no_circle_in_the_homework():
    assert circles(arrows_of(ROOT / "homework")) == []


def test_nothing_reaches_past_the_door_of_a_room():
    assert past_the_door(ROOT / "homework") == []


def test_the_halves_never_import_each_other():
    for half, other in (("homework", "grader"), ("grader", "homework")):
        for name, path in modules_of(ROOT / half).items():
            assert not {target.split(".")[0] for target in imported_names(path, name)} & {other, "tools"}, name


def test_a_student_sees_what_they_work_on():
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "homework"]
    lines = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    entries = {line.split("/")[1] for line in lines if (ROOT / line).is_file()}
    assert entries == {
        "__init__.py",
        "ANSWERS.md",
        *(f"{room}.py" for room in ("base_llm", "data", "sft", "cot", "datagen", "rft", "check", "chat", "experiment")),
        *FOLDERS,
    }
    assert all((ROOT / "homework" / folder / "__init__.py").is_file() for folder in FOLDERS)


FOLDERS = {"common", "guards", "training", "reporting"}


# --- the negative control: a house with a fault in it ---


@pytest.fixture
def house(tmp_path) -> Path:
    """A small house: sft stands on training, training on common."""
    for name, text in {
        "__init__.py": "",
        "sft.py": "from homework.training.trainer import train\n",
        "training/__init__.py": "",
        "training/trainer.py": "from homework.common import errors\n",
        "training/_graphs.py": "",
        "common/__init__.py": "",
        "common/errors.py": "",
    }.items():
        path = tmp_path / "homework" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "homework"


def test_a_sound_house_has_no_complaint(house):
    arrows = arrows_of(house)
    assert arrows["homework.sft"] == {"homework.training.trainer"}
    assert arrows["homework.training.trainer"] == {"homework.common.errors"}
    assert climbing(arrows, HOMEWORK) == circles(arrows) == past_the_door(house) == []


@pytest.mark.parametrize(
    "line",
    [
        "from homework import sft",
        "from homework.sft import load",
        "import homework.sft",
        "from .. import sft",
        "from ..sft import load",
        "def train():\n    from homework.sft import load",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from homework.sft import load",
    ],
)
def test_an_import_that_climbs_is_found_wherever_it_stands(house, line):
    (house / "training" / "trainer.py").write_text(f"{line}\n")
    arrows = arrows_of(house)
    assert climbing(arrows, HOMEWORK) == ["homework.training.trainer imports homework.sft"]
    assert circles(arrows) == ["homework.sft", "homework.training.trainer"]


def test_a_circle_in_one_room_and_a_room_without_a_place_are_found(house):
    (house / "common" / "errors.py").write_text("from homework.common import files\n")
    (house / "common" / "files.py").write_text("from homework.common.errors import HomeworkError\n")
    assert circles(arrows_of(house)) == ["homework.common.errors", "homework.common.files"]
    (house / "attic.py").write_text("")
    (house / "sft.py").write_text("import homework.attic\n")
    assert climbing(arrows_of(house), HOMEWORK) == ["homework.sft imports homework.attic"]


def test_a_look_past_a_door_is_found(house):
    (house / "sft.py").write_text("from homework.training._graphs import record\n")
    assert any("homework.sft imports homework.training._graphs" in line for line in past_the_door(house))


def test_a_training_is_read_at_a_glance():
    for name in ("sft", "rft"):
        tree = ast.parse((ROOT / "homework" / f"{name}.py").read_text(encoding="utf-8"))
        train = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("train_"))
        text = train.body[0]
        lines = range(train.lineno, train.end_lineno + 1)
        assert len(lines) - len(range(text.lineno, text.end_lineno + 1)) <= 45, train.name
