"""Whether what a model wrote is a reason for its answer: a chain of equations from the question's number to the tag.

A wrong chain with the right answer is no reason, nor is a chain about other numbers, or one that leads elsewhere while
the answer stands beside it as a number: a table of answers writes those.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from grader.equations import NUMBER, TOLERANCE, compute, find_equations, read_side
from grader.reference import Answered

CLOSING = "</answer>"
ROLE = re.compile(r"(assistant|user|system)\b", re.IGNORECASE)
CANCELS = 0.02  # between two numbers of which one divides the other: `46 * 14.03 / 46.3` is an answer, and no reason
MOST_ADDED = 0.5  # of a sum may come from numbers that do not come from the question
Term = list[tuple[float, int]]  # a product: its numbers, each with 1, or -1 where it divides


def diagnose_reason(answered: Answered) -> str:
    """What is wrong with the reason of a text, in a few words, or nothing.  The answer itself may be wrong.

    Example: 'How many m are 46 ft?' and '1 ft is 0.305 m. 46 * 0.305 = 14.03. <answer>14.03</answer>' -> ''
    """
    text, number = answered.text.strip(), answered.number
    equations = find_equations(text)
    if ROLE.match(text):
        return "a role of the chat before the chain: the turn of the assistant is not open"
    if number != number:
        return "no answer, or two"
    if not text.endswith(CLOSING):
        return "text after the answer"
    if not equations:
        return "no equation before the answer"
    if not all(equation.holds() for equation in equations):
        return "an equation that is wrong"
    if abs(number - equations[-1].result) > TOLERANCE * abs(number):
        return "another result in the tag than in the chain"
    if not leads_to(number, numbers_of(answered.question), [equation.text for equation in equations]):
        return "a chain that does not lead from the number of the question to the answer"
    return ""


def leads_to(answer: float, asked: set[float], equations: list[str]) -> bool:
    """Whether a product of a number of the question is the answer, or is reckoned on with until the answer.

    Example: 13.8, {46.0}, ['46*3=138', '138/10=13.8'] -> True, ['46*3=138', '13.8*1=13.8'] -> False

    Args:
        answer: the number in the tag.
        asked: the numbers of the question.
        equations: as they are written, each of which holds.
    """
    reached: set[float] = set()
    for equation in equations:
        sides = [read_side(side) for side in equation.split("=")]
        if any(gives_away(term, answer, asked, reached) for side in sides for term in terms_of(side)):
            return False
        if any(carries_on(side, asked, reached) for side in sides):
            values = set(map(compute, sides))
            if is_among(answer, values):
                return True
            reached |= set() if any(map(is_one_digit, values)) else values
    return False


def carries_on(side: list[str], asked: set[float], reached: set[float]) -> bool:
    """Whether most of the value of a side comes from the question: an added answer is no reason for it."""
    carried = sum(value_of(term) for term in terms_of(side) if is_link(term, asked, reached))
    whole = compute(side)
    return abs(whole - carried) < MOST_ADDED * abs(whole)


def is_link(term: Term, asked: set[float], reached: set[float]) -> bool:
    """Whether a term comes from the question: a number that was reached, or a number of it times another than 1.

    It does not where the numbers of the question cancel out, `46 * 14.03 / 46`, nor where another number has all of the
    value, `1 * 14.03`, unless 1 was asked. That an amount is one unit, `12 / 12 = 1`, is an answer, and no step to one.
    """
    numbers = [number for number, _ in term]
    known = [is_among(number, asked | reached) for number in numbers]
    others = [power_of(*factor) for factor, is_known in zip(term, known, strict=True) if not is_known]
    if not (any(is_among(number, reached) for number in numbers) or is_product(numbers, asked)):
        return False
    within = CANCELS if len(term) > 2 else TOLERANCE  # 2.5 / 2.54 is a right one
    close = [is_among(number, asked | reached, within) for number in numbers]
    is_cancelled = sum(power for (_, power), is_close in zip(term, close, strict=True) if is_close) == 0
    if is_cancelled:
        return not others and len(term) == 2 and not reached
    is_of_one = any(is_near(number, 1) for number in numbers if number in asked)
    return is_of_one or not is_among(value_of(term), set(others))


def gives_away(term: Term, answer: float, asked: set[float], reached: set[float]) -> bool:
    """Whether a product begins with the answer's digits: `47 * 14.33 / 4.7` has them before anything was computed.

    Where 1, 10 or 0.1 was asked, the factor has the digits of the answer.
    """
    if not is_link(term, asked, reached) or any(has_digits_of(number, 1) for number in asked):
        return False
    return any(has_digits_of(number, answer) for number, _ in term if not is_among(number, asked | reached))


def has_digits_of(number: float, other: float) -> bool:
    """Whether two numbers differ in the place of the decimal point alone.  Example: 1.4, 14 -> True"""
    ratio = abs(number / other) if number and other else 0
    return 0 < ratio < math.inf and is_near(ratio, 10.0 ** round(math.log10(ratio)))


def is_one_digit(number: float) -> bool:
    """Whether a number has one digit alone: `47 / 23.5 = 2` leaves nothing of the question.  Example: 500 -> True"""
    return not f"{number:.9e}".partition("e")[0].partition(".")[2].strip("0")


def is_product(numbers: list[float], asked: set[float]) -> bool:
    """Whether one of the numbers was asked, and another one is not 1."""
    return any(
        number in asked and any(other != 1 for other in numbers[:at] + numbers[at + 1 :])
        for at, number in enumerate(numbers)
    )


def terms_of(side: list[str]) -> list[Term]:
    """The terms of a sum.  Example: ['2', '-', '3', '/', '4'] -> [[(2, 1)], [(-3, 1), (4, -1)]]"""
    terms: list[Term] = [[(float(side[0]), 1)]]
    for operator, number in zip(side[1::2], side[2::2], strict=True):
        if operator in "*/":
            terms[-1].append((float(number), 1 if operator == "*" else -1))
        else:
            terms.append([(float(number) if operator == "+" else -float(number), 1)])
    return terms


def value_of(term: Term) -> float:
    """The product."""
    return math.prod(power_of(*factor) for factor in term)


def power_of(number: float, power: int) -> float:
    """A number, or one divided by it; NaN for one divided by zero."""
    return number if power == 1 else 1 / number if number else math.nan


def is_among(value: float, numbers: set[float], tolerance: float = TOLERANCE) -> bool:
    """Whether a value is one of the numbers but for rounding."""
    return any(is_near(value, number, tolerance) for number in numbers)


def is_near(one: float, other: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers are one but for rounding, of a chain's step."""
    return math.isclose(one, other, rel_tol=tolerance)


def numbers_of(question: str) -> set[float]:
    """The numbers of a question, as an equation writes them.  Example: 'How many m^3 are 1,530 l?' -> {1530.0}"""
    found = re.findall(rf"(?<![\w.^]){NUMBER}", question)
    return {float(f"{float(number.replace(',', '')):.10g}") for number in found}


def most_frequent(faults: Sequence[str], written: Sequence[Answered]) -> tuple[str, str]:
    """The most frequent fault, and the first text with it; two empty texts where there is none."""
    found = Counter(fault for fault in faults if fault).most_common(1)
    return (found[0][0], written[faults.index(found[0][0])].text.strip()) if found else ("", "")
