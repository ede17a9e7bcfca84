"""The reference, and the starter as a student gets it, before a line is written."""

import ast

from tests.submissions.recipe import Files, Recipe, both, drop, replace_function

ADAPTER = ("sft_model/adapter_config.json", "sft_model/adapter_model.safetensors")
SOLUTIONS = {
    "base_llm.py": [
        "parse_answer",
        "BaseLLM.generate",
        "BaseLLM.batched_generate",
        "BaseLLM.answer",
        "BaseLLM.complete",
    ],
    "sft.py": ["format_example", "tokenize", "train_model", "load"],
}


def empty(files: Files) -> Files:
    """Every solution body raises NotImplementedError, as in the starter."""
    changed = dict(files)
    for file, names in SOLUTIONS.items():
        source = changed[file].decode()
        for name in names:
            path = name.split(".")
            node = find(source, path)
            head = ast.get_source_segment(source, node).split(":\n")[0] if node.args else ""
            body = f'{head}:\n    raise NotImplementedError("task: {path[-1]}")'
            source = replace_function(source, path, body)
        changed[file] = source.encode()
    return changed


def find(source: str, path: list[str]) -> ast.FunctionDef:
    """A function of a source by its path."""
    node: ast.AST = ast.parse(source)
    for name in path:
        node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == name)
    assert isinstance(node, ast.FunctionDef)
    return node


NOTHING_YET = (
    "adapter_present parser generate padding num_return_sequences answer format supervised tokenize_stable dataset "
    "batch trains loads"
)
ALL = [
    Recipe("the reference", dict),
    Recipe("untouched starter", both(empty, drop(*ADAPTER)), NOTHING_YET, "the submission lacks sft_model"),
    Recipe(
        "starter with trained weights of somebody",
        empty,
        NOTHING_YET.removeprefix("adapter_present "),
        "not implemented yet: task",
    ),
]
