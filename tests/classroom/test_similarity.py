"""Who handed in what somebody else has: copies in every disguise are named, honest ones are not, no score moves.

benchmarks/likeness.py measures it on fifty trainings.
"""

import re
import time

import pytest
import torch
from safetensors.torch import save

from benchmarks import copies, likeness, reference_run
from grader.classroom import similarity
from grader.classroom.similarity import compare
from grader.classroom.students import read_hand_in
from grader.rubric import WEIGHTS
from grader.updates import MISSING, cosines, is_same, layer_cosines
from homework.common.base_model import ROOT
from homework.common.files import read_json
from tests.support import zips

CODE = b"def answer(x):\n    # mine\n    return x + 1\n"


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """Short honest trainings with three seeds."""
    folder = tmp_path_factory.mktemp("likeness")
    former, likeness.FOLDER = likeness.FOLDER, folder
    try:
        return [likeness.train(seed, 6) for seed in range(3)]
    finally:
        likeness.FOLDER = former


def found(tmp_path, files, handed: dict[str, dict[str, torch.Tensor]], code: dict[str, bytes] | None = None):
    """What compare says of these weights, by ID."""
    paths = {}
    for student, weights in handed.items():
        paths[student] = tmp_path / f"{student}.zip"
        content = {**files, WEIGHTS: save(weights)} | ({"sft.py": code[student]} if code else {})
        zips.good(paths[student], content)
    return compare({student: read_hand_in(path)[1] for student, path in paths.items()})


def test_the_trainings_have_the_steps_that_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(likeness, "FOLDER", tmp_path)
    steps = []
    monkeypatch.setattr(reference_run.Setup, "train", lambda setup, max_steps, **more: steps.append(max_steps))
    likeness.train(0, 3)
    assert steps == [3]


def test_honest_adapters_are_not_named(tmp_path, files, honest):
    assert found(tmp_path, files, {str(index): weights for index, weights in enumerate(honest)}) == []


@pytest.mark.parametrize("disguise", ["rotated and rescaled", "1 % noise", "rotated, then 1 % noise",
                                      "rotated and rescaled, then 1 % noise", "signs flipped",
                                      "every second layer"])  # fmt: skip
def test_a_copy_in_disguise_is_named(tmp_path, files, honest, disguise):
    copy = likeness.disguises(honest)[disguise]
    named = found(tmp_path, files, {"a": honest[0], "b": copy, "honest": honest[2]})
    assert [(one.students, one.what) for one in named] == [(("a", "b"), "update")]


@pytest.mark.parametrize("rows", [slice(None), slice(None, None, 2)])
@pytest.mark.parametrize("factor", [1e20, 1e-22])
def test_a_copy_rescaled_beyond_what_squares_hold_is_the_same(honest, rows, factor):
    copy = {name: tensor.clone() for name, tensor in honest[0].items()}
    for name, tensor in copy.items():
        if "lora_A" in name:
            tensor[rows] *= factor
        else:
            tensor[:, rows] /= factor
    one, other, third = (likeness.as_adapter(weights) for weights in (honest[0], copy, honest[1]))
    assert is_same(one, other) and not is_same(one, third)


def test_an_exact_copy_is_named_once_and_by_its_file(tmp_path, files, honest):
    named = found(tmp_path, files, {"a": honest[0], "b": honest[0], "c": honest[1]})
    assert [(one.students, one.what) for one in named] == [(("a", "b"), "weights")]


def test_the_same_code_is_named_whatever_its_layout(tmp_path, files, honest):
    other = re.sub(rb"# mine", b"# all my own work", CODE).replace(b"    ", b"  ")
    code = {"0": CODE, "1": other, "2": CODE.replace(b"+ 1", b"+ 2")}
    named = found(tmp_path, files, {str(index): weights for index, weights in enumerate(honest)}, code)
    assert [(one.students, one.what) for one in named] == [(("0", "1"), "code")] and "sft.py" in named[0].detail


def test_unfinished_code_is_no_evidence(tmp_path, files, honest):
    stub = b"def f():\n    raise NotImplementedError('task 1: f is not implemented yet')\n"
    assert found(tmp_path, files, {"0": honest[0], "1": honest[1]}, dict.fromkeys("01", stub)) == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"(" * 10_000, b"'''", b"\0", b""])
def test_code_that_is_no_code_has_a_hash_too(content):
    assert len(similarity.hash_code(content)) == 64


@pytest.mark.parametrize("content", [b" " * 10**6 + b"$", b"'''\\" * 250_000, b'"""' + b'\\"' * 10**5, b"\\\r" * 10**5])
def test_a_file_costs_no_more_than_its_length(content):
    started = time.process_time()
    similarity.hash_code(content)
    assert time.process_time() - started < 10


def test_layout_and_comments_are_none_of_the_tokens():
    one = b"def f(x):  # mine\n    return (x +\n            '#1')"
    same, other = b"def f(x):\n\treturn (x + \\\n'#1') # yours", b"def f(x):\n    return (x + '#2')"
    assert similarity.hash_code(one) == similarity.hash_code(same) != similarity.hash_code(other)


def test_a_refused_submission_is_left_out(tmp_path, files, honest):
    zips.HOSTILE["garbage"][0](tmp_path / "bad.zip", files)
    zips.good(tmp_path / "a.zip", {**files, WEIGHTS: save(honest[0])})
    found = {name: read_hand_in(tmp_path / f"{name}.zip") for name in ("bad", "a")}
    assert found["bad"][1] is None and len(found["bad"][0]) == 64 and found["a"][1].adapter is not None


def test_the_cosine_is_that_of_the_whole_update(honest):
    name = copies.layers(honest[0])[0]
    updates = [weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"] for weights in honest]
    expected = torch.stack([torch.stack([torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) for b in updates])
                            for a in updates])  # fmt: skip
    assert torch.allclose(cosines([likeness.as_adapter(weights) for weights in honest])[0], expected, atol=1e-4)


def test_other_ranks_missing_layers_and_huge_scales_compare_too():
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(1, 4, 8, generator=generator), torch.randn(1, 6, 4, generator=generator)
    wide = {
        "x.lora_A.weight": torch.cat([down[0], torch.zeros(3, 8)]),
        "x.lora_B.weight": torch.cat([up[0], torch.ones(6, 3)], 1),
    }
    narrow = {"x.lora_A.weight": down[0] * 1e15, "x.lora_B.weight": up[0] * 1e15}
    other = {"y.lora_A.weight": down[0], "y.lora_B.weight": up[0]}
    layers = cosines([likeness.as_adapter(weights) for weights in (wide, narrow, other)])
    assert layers[0, 0, 1] == pytest.approx(1, abs=1e-4) and layers[0, 0, 2] == 0 and layers[1, 0, 1] == MISSING
    assert torch.equal(layer_cosines(torch.zeros(2, 4, 8), torch.zeros(2, 6, 4)), torch.full((2, 2), MISSING))


def test_the_bounds_rest_on_what_was_measured():
    measured = read_json(ROOT / "benchmarks" / "likeness.json")
    assert measured["honest"] >= 50 and measured["flagged"] == 0 and measured["highest_layer"] < similarity.ALIKE
    assert measured["highest_mean"] < similarity.OVERALL
    seen = measured["copies"]
    assert all(copy["flagged"] for copy in seen.values())
