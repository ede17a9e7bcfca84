"""The equations in a text: found, computed, and compared.

An equation is a run of sides joined by `=`, of which at least one computes: `46 * 0.305 = 12.2 + 1.83 = 14.03`.
A fact such as `1 ft = 0.305 m` computes nothing and is none. A unit may stand behind each number. Of
`46 ft = 46 * 0.305 m = 14.03 m` the first side says what is converted: it is the same length, and not the same number.
So are `1 h = 60 min = 60 * 60 s = 3600 s` three numbers of one time, and one equation.
"""

import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

TOLERANCE = 0.005  # between two sides: the steps of a chain are rounded to four digits
# Read from left to right in one way alone, as `(?>...)`, `++` and `*+` say, so that a hostile text costs no more than a
# right one of its length: `x` and `/` are operators before a number and letters of a unit elsewhere, and what stands
# behind an `e` is its exponent where it can be. A group is repeated within `(?>...)` and never by `*+`: before Python
# 3.11.5 that takes the half of a group too (https://github.com/python/cpython/issues/106052).
NUMBER = r"-?\d[\d,]*+(?>(?:\.\d++)?)(?>(?:[eE][+-]?\d++)?)"
OPERATOR = r"[-+*/x×·÷]"
UNIT = r"(?>(?:(?![x/]\s*+-?\d)[A-Za-z²³/])+)(?>(?:\^\d)?)"
TERM = rf"{NUMBER}(?>(?: ?{UNIT})?)"
SIDE = rf"{TERM}(?>(?:\s*+{OPERATOR}\s*+{TERM})*)"
SIDES = re.compile(rf"(?<![\w.]){SIDE}(?>(?:\s*+=\s*+{SIDE})*)")
PRODUCTS: dict[str, Callable[[float, float], float]] = {
    **dict.fromkeys("*x×·", lambda a, b: a * b),
    **dict.fromkeys("/÷", lambda a, b: a / b if b else math.nan),
}


class Equation(NamedTuple):
    """Two or more sides that a text says are equal.

    Args:
        text: as it was written, without units and spaces, each product with `*`, each number in one way.
        sides: the value of each; NaN for a division by zero.
    """

    text: str
    sides: tuple[float, ...]

    @property
    def result(self) -> float:
        """The last side, which is what was computed."""
        return self.sides[-1]

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Whether each side is the one before it and the first but for rounding; infinity and NaN equal nothing."""
        first, *others = self.sides
        pairs = [*itertools.pairwise(self.sides), *((first, other) for other in others)]
        return all(map(math.isfinite, self.sides)) and all(math.isclose(*pair, rel_tol=tolerance) for pair in pairs)


def find_equations(text: str) -> list[Equation]:
    """The equations of a text, in their order.

    >>> find_equations("1 ft is 0.305 m. 46 * 0.305 = 12.2 + 1.83 = 14.03.")
    [Equation(text='46*0.305=12.2+1.83=14.03', sides=(14.03, 14.03, 14.03))]
    >>> find_equations("1 kg = 1000 g")
    []
    """
    found = []
    for match in SIDES.finditer(text):
        sides = match[0].split("=")
        whole = as_equation(without_amount(sides))
        if whole and not whole.holds() and (runs := by_unit(sides)):
            found += [equation for run in runs if (equation := as_equation(run))]
        elif whole:
            found.append(whole)
    return found


def as_equation(sides: list[str]) -> Equation | None:
    """Some sides as an equation; None for a single one, or where none computes."""
    read = [read_side(side) for side in sides]
    if len(read) < 2 or all(len(side) == 1 for side in read):
        return None
    return Equation("=".join(map("".join, read)), tuple(map(compute, read)))


def by_unit(sides: list[str]) -> list[list[str]]:
    """The sides in runs of one unit, of which each that computes stands before its result or behind what it converts.

    Example: ['1 h ', ' 60 min ', ' 60 * 60 s ', ' 3600 s'] -> [['1 h '], [' 60 min '], [' 60 * 60 s ', ' 3600 s']]

    Returns:
        No runs where a side has no unit, or where one computes and has neither: then they are sides of one equation.
    """
    runs = [list(run) for _, run in itertools.groupby(sides, unit_of)]
    firsts = [read_side(run[0]) for run in runs]
    is_sound = all(
        len(run) > 1 or len(first) == 1 or (len(before) == 1 and before[0] in ("1", *first))
        for run, first, before in zip(runs, firsts, [[], *firsts], strict=False)
    )
    return runs if is_sound and all(map(unit_of, sides)) else []


def unit_of(side: str) -> str:
    """The unit behind the last number of a side; an empty text where there is none."""
    return re.findall(rf"{NUMBER}(?: ?({UNIT}))?", side)[-1]


def without_amount(sides: list[str]) -> list[str]:
    """The sides without a first one that says what is converted: a number of the second or 1, in another unit.

    Example: ['46 ft ', ' 46 * 0.305 m ', ' 14.03 m'] -> [' 46 * 0.305 m ', ' 14.03 m']
    """
    amount, *more = read_side(sides[0])
    if more or (amount != "1" and (len(sides) < 3 or amount not in read_side(sides[1]))):
        return sides
    first, last = unit_of(sides[0]), unit_of(sides[-1])
    return sides[1:] if first and last not in ("", first) else sides


def read_side(side: str) -> list[str]:
    """Numbers and operators of a side.  Example: '46 ft x 3.05e-1' -> ['46', '*', '0.305']"""
    first = re.match(rf"\s*({NUMBER})", side)
    assert first is not None  # a side begins with a number
    rest = re.findall(rf"({OPERATOR})\s*({NUMBER})", side[first.end() :])
    signs = [re.sub("[x×·]", "*", operator).replace("÷", "/") for operator, _ in rest]
    numbers = [f"{float(number.replace(',', '')):.10g}" for number in (first[1], *(number for _, number in rest))]
    return [numbers[0], *(piece for pair in zip(signs, numbers[1:], strict=True) for piece in pair)]


def compute(side: list[str]) -> float:
    """The value of a side, products before sums.  Example: ['2', '+', '3', '*', '4'] -> 14.0"""
    terms = [float(side[0])]
    for operator, number in zip(side[1::2], side[2::2], strict=True):
        if operator in PRODUCTS:
            terms[-1] = PRODUCTS[operator](terms[-1], float(number))
        else:
            terms.append(float(number) if operator == "+" else -float(number))
    return round_off(sum(terms))


def round_off(value: float) -> float:
    """The value without the last digits of binary arithmetic.  Example: 12.2 + 1.83 -> 14.03"""
    return float(f"{value:.12g}")


def chain_key(text: str) -> tuple[str, ...]:
    """What makes a chain another one: its equations, whatever words and spaces stand around them.

    Example: 'so 2 * 3 = 6.' and '2*3 = 6' -> ('2*3=6',)
    """
    return tuple(equation.text for equation in find_equations(text))
