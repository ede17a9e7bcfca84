"""The tables of units against pint, and the slices."""

import itertools
import json
import random
import re
from collections import Counter

import pint
import pytest

from grader.units import (
    HELD_OUT_PHRASINGS,
    PHRASINGS,
    QUANTITIES,
    SLICE_SHARES,
    Fact,
    Unit,
    draw_fact,
    draw_questions,
    draw_value,
    draw_wide_value,
    format_number,
    is_long,
    slice_of,
    spell_value,
)
from homework.common.base_model import ROOT

# Names that pint reads otherwise, or not at all, and what they mean here; grader/units.py says why.
PINT_NAMES = {
    "ton": "tonne",
    "tons": "tonne",
    "metric tons": "metric_ton",
    "decade": "10 * year",
    "decades": "10 * year",
    "kB": "kilobyte",
    "KB": "kilobyte",
    "B": "byte",
    "M": "megabyte",
    "G": "gigabyte",
    "T": "terabyte",
    "mph": "mile / hour",
    "mi/h": "mile / hour",
    "kmh": "kilometer / hour",
    "km/h": "kilometer / hour",
    "km/hr": "kilometer / hour",
    "in": "inch",
    "in/s": "inch / second",
    "fl oz": "fluid_ounce",
    "pt": "pint",
    "wk": "week",
    "wks": "week",
    "yr": "year",
    "yrs": "year",
    "hrs": "hour",
    "secs": "second",
    "mins": "minute",
    "yds": "yard",
    "lbs": "pound",
    "kilo": "kilogram",
    "kilos": "kilogram",
    "gramme": "gram",
    "grammes": "gram",
    "kilogramme": "kilogram",
    "kilogrammes": "kilogram",
    "h": "hour",
    "min": "minute",
}
BASES = {"length": "m", "mass": "kg", "time": "s", "volume": "litre", "speed": "m/s", "storage": "byte"}
UNITS = [(quantity, unit) for quantity, units in QUANTITIES.items() for unit in units]


def names_of(unit: Unit) -> list[str]:
    words = [name for pair in unit.words for name in pair.split("/") if pair]
    return words + list(unit.symbols)


def to_pint(name: str) -> str:
    if name in PINT_NAMES:
        return PINT_NAMES[name]
    name = re.sub(r"^cubic (\w+)$", r"\1 ** 3", name)
    return name.replace(" per ", " / ").replace("^", "**").replace("fluid ", "fluid_").replace("metric ", "metric_")


@pytest.fixture(scope="module")
def registry() -> pint.UnitRegistry:
    """The units of pint, read once."""
    return pint.UnitRegistry()


@pytest.mark.parametrize(("quantity", "unit"), UNITS, ids=lambda value: getattr(value, "name", value))
def test_every_name_of_a_unit_has_its_factor_in_pint(registry, quantity, unit):
    for name in names_of(unit):
        expression = to_pint(name).replace("feet", "foot")
        measured = (1 * registry.parse_expression(expression)).to(BASES[quantity]).magnitude
        assert measured == pytest.approx(unit.factor, rel=1e-9), name


def test_no_name_means_two_units_of_a_quantity():
    for units in QUANTITIES.values():
        names = [name for unit in units for name in names_of(unit)]
        assert len(names) == len(set(names))


def test_phrasings_are_many_and_a_fifth_is_held_out():
    known = [p for group in PHRASINGS.values() for p in group]
    held_out = [p for group in HELD_OUT_PHRASINGS.values() for p in group]
    assert len(set(known + held_out)) >= 60 and not set(known) & set(held_out)
    assert len(held_out) >= 0.2 * len(known + held_out)
    apart = [p for p in known + held_out if "{x}" not in p]
    assert all(p.count("{v}") == p.count("{s}") == 1 for p in apart) and len(apart) >= 30
    assert all(p.count("{x}") == 1 for p in known + held_out if p not in apart)
    assert all(p.count("{t}") >= 1 for p in known + held_out)
    held_out_apart = [p for p in apart if p in held_out]
    assert len(held_out_apart) >= 0.2 * len(apart)


def test_held_out_wording_is_never_in_train_and_often_in_valid():
    patterns = [
        re.compile(re.sub(r"\\{[xvst]\\}", ".+", re.escape(p))) for group in HELD_OUT_PHRASINGS.values() for p in group
    ]
    share = {
        split: sum(
            any(p.search(row[0]) for p in patterns) for row in json.loads((ROOT / f"data/{split}.json").read_text())
        )
        for split in ("train", "valid")
    }
    assert share["train"] == 0 and share["valid"] > 100


def test_slices_have_their_shares():
    rng = random.Random(0)
    counts = Counter(slice_of(draw_fact(rng)._replace(value=rng.randint(2, 10**6) / 7)) for _ in range(20_000))
    for name, share in SLICE_SHARES.items():
        assert counts[name] / 20_000 == pytest.approx(share / 100, abs=0.01)


def test_a_slice_depends_on_the_canonical_fact_only():
    units = {unit.name: unit for unit in QUANTITIES["volume"]}
    assert {"ml", "cc", "cm^3"} <= set(units["millilitre"].symbols)
    fact = Fact("volume", units["millilitre"], units["litre"], 6)
    assert fact.key == "volume:millilitre>litre:6" == fact._replace(value=6.0).key
    # Pinned: a change would move published facts between slices.
    assert [slice_of(fact._replace(value=value)) for value in range(2, 12)] == [
        "hidden",
        "hidden",
        "hidden",
        "novel",
        "valid",
        "train",
        "train",
        "train",
        "hidden",
        "valid",
    ]


def test_a_definition_is_never_novel():
    for quantity, units in QUANTITIES.items():
        for source, target in itertools.permutations(units, 2):
            assert slice_of(Fact(quantity, source, target, 1.0)) != "novel"


def test_drawing_is_a_function_of_slice_and_seed():
    assert draw_questions("hidden", 50, "key") == draw_questions("hidden", 50, "key")
    assert draw_questions("hidden", 50, "key") != draw_questions("hidden", 50, "another")
    assert {slice_of(question.fact) for question in draw_questions("novel", 50, 1)} == {"novel"}
    with pytest.raises(ValueError, match="unknown slice 'secret'"):
        draw_questions("secret", 1, 1)
    with pytest.raises(ValueError, match="can't draw 0 questions"):
        draw_questions("novel", 0, 1)


def test_a_quarter_of_the_values_is_wide_with_one_to_four_digits():
    rng = random.Random("values")
    values = [draw_value(rng) for _ in range(20_000)]
    assert sum(value < 1 or value > 100 for value in values) / 20_000 == pytest.approx(0.25, abs=0.02)
    assert min(values) >= 0.001 and max(values) <= 999_999 and sum(value > 1000 for value in values) > 1500
    wide = [draw_wide_value(rng) for _ in range(5_000)]
    assert all(0.001 <= value <= 0.999 or 101 <= value <= 999_999 for value in wide)
    assert {len(f"{value:.10g}".replace(".", "").strip("0")) for value in wide} <= {1, 2, 3, 4, 6}  # 6 only at 999,999


def test_long_questions_are_a_filter_on_the_digits_of_the_value():
    fact = draw_questions("valid", 1, 1)[0].fact
    for value, long in [
        (6, False),
        (47, False),
        (0.305, True),
        (47.2, True),
        (1530, True),
        (12345, False),
        (0.00012, False),
    ]:
        assert is_long(fact._replace(value=float(value))) is long, value


def test_thousands_are_written_with_a_comma_now_and_then():
    rng = random.Random("comma")
    assert {spell_value(1500.0, rng) for _ in range(50)} == {"1500", "1,500"}
    assert {spell_value(999.0, rng) for _ in range(50)} == {"999"}


@pytest.mark.parametrize(
    ("number", "text"),
    [(6000.0, "6000"), (2.1336, "2.13"), (24e12, "2.4e13"), (0, "0"), (999_999, "1e6"), (0.00012, "0.00012")],
)
def test_numbers_have_three_digits(number, text):
    assert format_number(number) == text


def test_digits_and_exponents_can_be_chosen():
    assert [format_number(14.335, 4), format_number(24e12, 3, "e+"), format_number(2.4e-7, 3, "E")] == [
        "14.34",
        "2.4e+13",
        "2.4E-7",
    ]
