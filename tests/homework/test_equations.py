"""Equations in a text: which are found, what they compute, and whether they hold."""

import doctest
import math

import pytest

from homework.common import equations
from homework.common.equations import chain_key, find_equations


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(equations).failed == 0


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("46 * 0.305 = 12.2 + 1.83 = 14.03. <answer>14.03</answer>", (14.03, 14.03, 14.03)),
        ("46 ft x 0.305 m/ft = 14.03 m", (14.03, 14.03)),
        ("46 cm^3 × 0.001 = 0.046 l", (0.046, 0.046)),
        ("1,500 / 3 = 500", (500.0, 500.0)),
        ("3.2e5 * 2e-3=640", (640.0, 640.0)),
        ("2 + 3 * 4 = 14", (14.0, 14.0)),
        ("2 -3 = -1 ", (-1.0, -1.0)),
        ("5 * -3 = -15", (-15.0, -15.0)),
        ("so 12 ÷ 4 = 3 = 3", (3.0, 3.0, 3.0)),
    ],
)
def test_an_equation_is_read_with_units_signs_and_exponents(text, sides):
    (equation,) = find_equations(text)
    assert equation.sides == sides and equation.holds()


@pytest.mark.parametrize("text", ["1 kg = 1000 g", "1 in = 2.54 cm = 25.4 mm", "6 kg in g", "a = b * 2", "", "= 12"])
def test_a_fact_is_no_equation(text):
    assert find_equations(text) == []


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("7000 * 8 = 54000", False),
        ("47 * 0.305 = 14.34", True),  # 14.335, rounded
        ("100 * 1 = 100.4", True),
        ("100 * 1 = 100.6", False),
        ("2 * 3 = 6 = 7", False),
        ("5 / 0 = 5", False),
        ("9e999 * 1 = 9e999", False),
    ],
)
def test_a_wrong_side_is_seen(text, holds):
    assert all(equation.holds() for equation in find_equations(text)) is holds


def test_a_division_by_zero_is_nan_and_equals_nothing():
    assert math.isnan(find_equations("5 / 0 = 5")[0].sides[0])


def test_a_chain_is_its_equations_whatever_its_words():
    first, second = "1 ft is 0.3 m. 2 * 3 = 6. <answer>6</answer>", "One foot: 2.0 ft x 3e+0 = 6!"
    assert chain_key(first) == chain_key(second) != chain_key("3 * 2 = 6")
