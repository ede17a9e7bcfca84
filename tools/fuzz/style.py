"""Harmless changes of a source: names, comments, hints, prints, line ends. A verdict must be the same with and without.

They stand in right submissions, and before each fault: what hides one, or is taken for one, is found.
"""

import ast
import random
import textwrap
from collections.abc import Callable, Iterator

from tests.submissions.recipe import Files

STYLED = ("sft.py", "base_llm.py", "data.py")
Style = Callable[[random.Random, str], str]
SETTINGS = (
    "import os\nos.environ['TOKENIZERS_PARALLELISM'] = 'false'",
    "import warnings\nwarnings.filterwarnings('ignore')",
    "import torch\ntorch.manual_seed(SEED)",
    "import torch\ntorch.set_num_threads(1)",
    "import torch\ntorch.set_default_dtype(torch.float32)",
    "import random\nrandom.seed(SEED)",
    "import numpy\nnumpy.random.seed(SEED)",
    "import transformers\ntransformers.logging.set_verbosity_error()",
    "import transformers\ntransformers.set_seed(SEED)",
    "import logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.info('seed %s', SEED)",
    "import sys\nprint('Python', sys.version, file=sys.stderr)",
    "import time\nSTARTED = time.time()",
    "import torch\nDEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'",
    "from typing import Any, Dict, List, Optional",
    "from tqdm import tqdm\nfor _ in tqdm(range(SEED)):\n    pass",
    "import os\nos.makedirs('runs', exist_ok=True)\nopen('runs/log.txt', 'a').write('begun SEED')",
)
MAIN = """

if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=SEED)
    print(parser.parse_args())
"""
UNUSED = '''

class NotUsedSEED:
    """Left over."""

    def __init__(self, value=SEED):
        self.value = value
'''


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """All functions and methods of a source."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def rename_locals(rng: random.Random, source: str) -> str:
    """Other names for the local variables of each function; comments are lost."""
    tree = ast.parse(source)
    for function in functions(tree):
        inner = [*ast.walk(function)]
        if any(isinstance(node, ast.ClassDef | ast.Global | ast.Nonlocal) for node in inner):
            continue
        kept = {node.arg for node in inner if isinstance(node, ast.arg)}
        kept |= {node.name for node in inner if isinstance(node, ast.ExceptHandler) and node.name}
        names = [node for node in inner if isinstance(node, ast.Name)]
        local = {node.id for node in names if isinstance(node.ctx, ast.Store)} - kept
        new = {name: f"{rng.choice(('my', 'the', 'x', 'tmp'))}_{name}_{rng.randrange(100)}" for name in sorted(local)}
        for node in names:
            node.id = new.get(node.id, node.id)
    return ast.unparse(tree)


def add_hints(rng: random.Random, source: str) -> str:
    """A type hint for each argument that has none."""
    tree = ast.parse(source)
    for function in functions(tree):
        for argument in function.args.args:
            if argument.annotation is None and argument.arg != "self":
                argument.annotation = ast.Constant(rng.choice(("Any", "object", "a text or a number")))
    return ast.unparse(tree)


def add_prints(rng: random.Random, source: str) -> str:
    """A line on stdout or stderr whenever some functions are called."""
    tree = ast.parse(source)
    for function in functions(tree):
        if rng.random() < 0.4 and ast.get_docstring(function) is None:
            stream = rng.choice(("", ", file=__import__('sys').stderr", ", flush=True"))
            function.body[:0] = ast.parse(f"print('in {function.name}: \u2713', {rng.randrange(999)}{stream})").body
    return ast.unparse(ast.fix_missing_locations(tree))


def add_docstrings(rng: random.Random, source: str) -> str:
    """A docstring for each function that has none."""
    tree = ast.parse(source)
    for function in functions(tree):
        if ast.get_docstring(function) is None:
            function.body[:0] = ast.parse(
                f'"""Task {rng.randrange(9)}: {function.name} ü 字 <answer>1</answer>"""'
            ).body
    return ast.unparse(ast.fix_missing_locations(tree))


def add_comments(rng: random.Random, source: str) -> str:
    """Comments between the statements, in the words and letters of anybody."""
    lines = source.splitlines()
    starts = [node.lineno - 1 for node in ast.parse(source).body if not getattr(node, "decorator_list", [])]
    for at in sorted(rng.sample(starts, min(3, len(starts))), reverse=True):
        lines.insert(at, f"# TODO {rng.randrange(999)}: größer als 5 %? 答案 <answer>{rng.randrange(99)}</answer> -100")
    return "\n".join(lines) + "\n"


def add_setting(rng: random.Random, source: str) -> str:
    """A setting before the first statement that is not the docstring."""
    body = ast.parse(source).body
    first = next(node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)))
    lines = source.splitlines()
    lines.insert(first.lineno - 1, seeded(rng, rng.choice(SETTINGS)))
    return "\n".join(lines) + "\n"


def add_main(rng: random.Random, source: str) -> str:
    """A command line of its own at the end, or a class that nobody uses."""
    return source + seeded(rng, rng.choice((MAIN, UNUSED)))


def change_line_ends(rng: random.Random, source: str) -> str:
    """As Windows ends its lines, perhaps with a byte order mark, or without a last line end."""
    source = rng.choice((source, source.rstrip("\n")))
    return rng.choice(("", "\ufeff")) + source.replace("\n", rng.choice(("\r\n", "\n")))


def indent_by_tabs(rng: random.Random, source: str) -> str:
    """Tabs for four spaces; comments are lost, and no text of the source has lines of its own."""
    lines = ast.unparse(ast.parse(source)).splitlines()
    if any(line.strip().startswith(('"""', "'''")) or line.count('"""') == 1 for line in lines):
        return "\n".join(lines) + "\n"
    return "\n".join("\t" * ((len(line) - len(line.lstrip())) // 4) + line.lstrip() for line in lines) + "\n"


def seeded(rng: random.Random, text: str) -> str:
    """A text with a number of its own."""
    return textwrap.dedent(text).replace("SEED", str(rng.randrange(1000)))


# The last ones need a source that parses as it stands.
STYLES: tuple[Style, ...] = (
    rename_locals, add_hints, add_prints, add_docstrings, add_setting, add_main, indent_by_tabs, add_comments,
    change_line_ends,
)  # fmt: skip


def restyle(rng: random.Random, files: Files, share: float = 0.25) -> tuple[Files, list[str]]:
    """The same submission in another style, and what was changed: each style in each file with this chance."""
    changed, words = dict(files), []
    for file in (name for name in STYLED if name in files):
        source = changed[file].decode("utf-8-sig")
        for style in STYLES:
            if rng.random() < share:
                source = style(rng, source)
                words.append(f"{file}: {style.__name__}")
        changed[file] = source.encode()
    return changed, words
