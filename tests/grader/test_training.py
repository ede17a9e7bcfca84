"""What tells a training from one made before: the gradients of its rows, and what its adapter took from them."""

import pytest
import torch
from safetensors.torch import save

from grader.adapter import TRAIN_AGAIN, Adapter, read_config, read_weights
from grader.checks import reasoning_code, training
from grader.course import Course
from grader.errors import Refusal
from grader.harness import first_step, learning, seen_rows
from grader.harness.gradients import (
    Example,
    compute_step,
    place_of,
    rows_of,
    split,
    with_other_digits,
    with_usual_name,
)
from grader.harness.harness import Harness
from grader.rubric import CONFIG, REASONING_FILES, WEIGHTS
from grader.seed import Seed

SEEDS = 12


@pytest.fixture(scope="module")
def course() -> Course:
    return Course()


@pytest.fixture(scope="module")
def stored(files, course) -> Adapter:
    """An adapter that was trained on the course's data, not on the rows of a submission."""
    return read_weights(files[WEIGHTS], read_config(files[CONFIG]), course.base_config)


@pytest.fixture(scope="module")
def begun(stored) -> Adapter:
    """The same before its first step, as whoever puts it in place may claim."""
    return stored._replace(weights={n: t if "lora_A" in n else torch.zeros_like(t) for n, t in stored.weights.items()})


def harness(seed: int) -> Harness:
    """What is drawn for a submission."""
    return Harness(type("Empty", (), {"files": {}, "sha256": "x"})(), Course(seed=Seed(seed)), None)  # type: ignore[arg-type]


def rows(course: Course, seed: int) -> list[Example]:
    return learning.written_rows(harness(seed), course)[: learning.PROBED]


def follows(course: Course, first: Adapter, adapter: Adapter, examples: list[Example]) -> bool:
    """Whether the change goes where these rows pull it, and not those with other digits."""
    return learning.follows_rows(course, first, adapter, examples, learning.with_shifted_digits(examples, course))


def descend(course: Course, begun: Adapter, examples: list[Example]) -> Adapter:
    """One step of sign descent on these rows."""
    gradients = compute_step(course.base.model, begun, examples).gradients
    named = {f"base_model.model.{name.replace('.default', '')}": tensor for name, tensor in gradients.items()}
    moved = {
        name: tensor - 1e-3 * named[name].sign() if "lora_B" in name else tensor
        for name, tensor in begun.weights.items()
    }
    return begun._replace(weights=moved)


@pytest.mark.everything
def test_a_stored_adapter_follows_no_rows_of_another_submission(course, stored, begun):
    written = [learning.written_rows(harness(seed), course) for seed in range(SEEDS)]
    followed = [follows(course, begun, stored, examples) for examples in written]
    assert not any(followed)  # none of 32 was measured; where their digits are the usual ones, 2 of 40 pass by these


@pytest.mark.release
def test_a_stored_adapter_that_reasons_has_not_learned_the_rows_of_another_submission(course, reasoned_files):
    config, weights = (reasoned_files[name] for name in REASONING_FILES)
    stored = read_weights(weights, read_config(config), course.base_config)
    begun = stored._replace(weights={n: t * ("lora_A" in n) for n, t in stored.weights.items()})

    def has_learned(code: Harness) -> bool:
        own = reasoning_code.written_reasons(code, course, code.digits)
        return reasoning_code.has_learned(code, course, begun, stored, own)

    assert not any(has_learned(harness(seed)) for seed in range(8))  # as none of 24 was, which SECURITY.md says


def test_an_adapter_follows_the_rows_that_it_was_trained_on_and_no_others(course, begun):
    own, other = rows(course, 1), rows(course, 2)
    trained = descend(course, begun, own)
    assert follows(course, begun, trained, own)
    assert not follows(course, begun, trained, other)
    assert not follows(course, begun, begun, own)


def test_where_few_rows_were_seen_all_of_them_count(course, begun, monkeypatch):
    code = harness(1)
    trained = descend(course, begun, learning.written_rows(code, course))
    monkeypatch.setattr(learning, "probed_rows", lambda *_: rows(course, 2))  # which say no
    assert learning.follows_own_rows(code, course, begun, trained)
    assert not learning.follows_own_rows(harness(2), course, begun, trained)


def test_gradients_of_other_answers_are_refused(course, begun):
    examples = rows(course, 1)[:4]
    others = [with_other_digits(example, course.base.tokenizer) for example in examples]
    own, foreign = (compute_step(course.base.model, begun, one).gradients for one in (examples, others))
    first_step.refuse_other_digits(own, own, foreign)
    with pytest.raises(Refusal, match="were not computed on the rows that reached the model"):
        first_step.refuse_other_digits(foreign, own, foreign)


def test_who_writes_a_loss_is_told_to_shift_the_labels(course, begun):
    examples = rows(course, 1)[:4]
    wanted = compute_step(course.base.model, begun, examples).gradients
    other = {name: torch.randn_like(tensor) for name, tensor in wanted.items()}
    with pytest.raises(Refusal, match="not those of the answers' tokens") as refused:
        first_step.refuse_other_gradients(other, wanted)
    assert "shift them by one" in refused.value.details["do"]


def test_a_changed_question_is_known_by_its_letters():
    questions = ["How many g in 4.4 kg?", "Hello! How many m in 44 km?", "4 km to m", "So: 4 km to m"]
    for changed in ("how many G in 4.4 kg", "many g in 4.4 kg?", "How many g in"):
        assert seen_rows.original_of(changed, questions) == questions[0]
    for other in ("How many g in 44 kg?", "4 km to m?", "?", "Twice 44 km?"):
        assert seen_rows.original_of(other, questions) is None, other


def test_a_mean_of_means_is_a_loss_of_the_rows_too():
    three, one = [[Example([1], [1])] * count for count in (3, 1)]
    losses = {4: 3.5, 3: 3.0, 1: 5.0}  # by the number of rows

    def refuse(*found: float) -> None:
        first_step.refuse_other_loss([*found], lambda rows: losses[len(rows)], [three, one])

    refuse(3.0, 5.0)
    refuse(2.6, 0.9)  # each by the count of all
    with pytest.raises(Refusal, match=r"is 4\.5000, and over its answers alone it is 3\.5000"):
        refuse(4.0, 5.0)


def test_a_training_that_moved_nothing_is_told_what_to_do_there(course, files, begun):
    config = read_config(files[CONFIG])
    for remedy in (TRAIN_AGAIN, training.NO_RATE):
        with pytest.raises(Refusal, match="untrained") as refused:
            read_weights(save(begun.weights), config, course.base_config, remedy)
        assert refused.value.details["do"] == remedy


def test_a_row_without_a_mask_ends_behind_its_last_label():
    ids = [[5, 6, 2, 2], [5, 6, 7, 2], [5, 2, 3, 2]]
    labels = [[-100, 6, 2, -100], [-100, 6, 7, 2], [-100, 2, -100, -100]]
    assert [row for row, _ in rows_of({"input_ids": ids, "labels": labels})] == [[5, 6, 2], ids[1], ids[2]]
    assert [row for row, _ in rows_of({"input_ids": ids})] == ids
    mask = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert [row for row, _ in rows_of({"input_ids": ids, "labels": labels, "attention_mask": mask})][1] == [5, 6]


def test_an_adapter_of_another_name_is_read_as_the_usual_one():
    one, other = torch.zeros(1), torch.ones(1)
    units = {"x.lora_A.units.weight": one, "x.lora_B.units.weight": other, "x.base_layer.weight": one}
    assert set(with_usual_name(units)) == {name.replace("units", "default") for name in units}
    two = {"x.lora_A.units.weight": one, "x.lora_A.default.weight": other}
    assert with_usual_name(two) == two


def test_other_digits_leave_the_question_and_the_length(course):
    tokenizer = course.base.tokenizer
    example = seen_rows.example_of(course, "How many g are 19 kg?", "<answer>19.05</answer>")
    changed = with_other_digits(example, tokenizer, by=4)
    assert tokenizer.decode(changed.ids) == tokenizer.decode(example.ids).replace("<answer>19.05", "<answer>54.09")
    assert len(changed.labels) == len(example.labels)


def test_the_shares_of_a_sum_are_found():
    one, other = {"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([1.0, 1.0])}
    assert split({"a": torch.tensor([5.0, 3.0])}, one, other) == pytest.approx((2.0, 3.0))


def test_two_sets_of_no_gradients_share_nothing():
    zero, one = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    assert split(one, zero, zero) == split(one, one, one) == (0.0, 0.0)


def test_an_adapter_that_gets_no_gradient_has_followed_no_rows(course, begun):
    own = rows(course, 1)
    silent = begun._replace(weights={n: t * ("lora_B" in n) for n, t in descend(course, begun, own).weights.items()})
    assert not follows(course, begun, silent, own)
    assert not follows(course, begun._replace(alpha=1e-300), descend(course, begun, own)._replace(alpha=1e-300), own)


def test_the_place_of_a_triple_is_that_of_its_sum():
    scores = torch.zeros(3, 9)
    scores[0, 3], scores[1, 6], scores[2, 2] = 1.0, 1.0, 1.0
    assert place_of("473", scores) == 1 and place_of("471", scores) > 1 and place_of("111", scores) == 729
    assert place_of("473", torch.full((3, 9), float("nan"))) == 729, "what is no number is no knowledge"
