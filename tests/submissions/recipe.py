"""What a test submission is: the reference with some functions written otherwise, and its verdict.

Recipe("A3 tag as one token", swap("sft.py", tokenize=WRONG), "supervised dataset batch", "every label is -100")
"""

import ast
import textwrap
from collections.abc import Callable
from typing import NamedTuple

from grader.result import State

Files = dict[str, bytes]
Maker = Callable[[Files], Files]


class Recipe(NamedTuple):
    """A submission and its verdict.

    Args:
        name: what it is, in words.
        make: turns the files of the reference into those of the submission.
        failing: the checks that get no points by themselves, in any order; what needs them is skipped.
        phrase: what the first of them, in the order of the report, has to say: a regular expression.
        states: how they may end.
        seconds: that each job may take, where it has none of its own; for what never ends.
        quick: whether the quick run of the tests grades it too, as one of its class.
        perhaps: checks that may fail too: whether a wrong gradient lowers the loss hangs on the rows drawn.
    """

    name: str
    make: Maker
    failing: str = ""
    phrase: str = ""
    states: tuple[State, ...] = (State.FAILED,)
    seconds: int = 0
    quick: bool = False
    perhaps: str = ""


def swap(file: str, **functions: str) -> Maker:
    """Write functions of a file anew; a method as Class__method. The rest of the file stays."""

    def make(files: Files) -> Files:
        source = files[file].decode()
        for name, body in functions.items():
            source = replace_function(source, name.split("__", 1) if name[0].isupper() else [name], body)
        return {**files, file: source.encode()}

    return make


def both(*makers: Maker) -> Maker:
    """One change after the other."""

    def make(files: Files) -> Files:
        for maker in makers:
            files = maker(files)
        return files

    return make


def put(file: str, text: str | bytes) -> Maker:
    """A file of its own, in the place of another one or beside the others."""
    return lambda files: {**files, file: textwrap.dedent(text).encode() if isinstance(text, str) else text}


def edit(file: str, old: str, new: str) -> Maker:
    """Other words in a file; the old ones have to be there once."""

    def make(files: Files) -> Files:
        source = files[file].decode()
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {file}"
        return {**files, file: source.replace(old, new).encode()}

    return make


def before(file: str, text: str) -> Maker:
    """Lines that run when a file is imported, before all others but its docstring."""
    return lambda files: {**files, file: textwrap.dedent(text).encode() + b"\n" + files[file]}


def drop(*names: str) -> Maker:
    """Leave files out."""
    return lambda files: {name: content for name, content in files.items() if name not in names}


def replace_function(source: str, path: list[str], body: str) -> str:
    """A source with one function, or a method of a class, written anew."""
    node: ast.AST = ast.parse(source)
    for name in path:
        node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == name)
    assert isinstance(node, ast.FunctionDef)
    lines = source.splitlines()
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    new = textwrap.indent(textwrap.dedent(body).strip("\n"), " " * node.col_offset)
    return "\n".join([*lines[:start], *new.splitlines(), *lines[node.end_lineno :]]) + "\n"
