"""Whether what a model wrote is a reason for its answer: a chain of equations from the question's number to the tag.

A wrong chain with the right answer is no reason, nor is a chain about other numbers: a table of answers writes those.
"""

import re
from collections import Counter
from collections.abc import Sequence

from grader.equations import NUMBER, TOLERANCE, Equation, find_equations
from grader.reference import Answered

CLOSING = "</answer>"
PRODUCT = re.compile(rf"({NUMBER})[*/]({NUMBER})")


def diagnose_reason(answered: Answered) -> str:
    """What is wrong with the reason of a text, in a few words, or nothing.  The answer itself may be wrong.

    Example: 'How many m are 46 ft?' and '1 ft is 0.305 m. 46 * 0.305 = 14.03. <answer>14.03</answer>' -> ''
    """
    text, number = answered.text.strip(), answered.number
    equations = find_equations(text)
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
    if not any(computes(equation, numbers_of(answered.question)) for equation in equations):
        return "a chain that computes nothing with the number of the question"
    return ""


def computes(equation: Equation, asked: set[float]) -> bool:
    """Whether an equation multiplies or divides a number of the question by another one than 1."""
    pairs = [(float(one), float(other)) for one, other in PRODUCT.findall(equation.text)]
    return any((one in asked and other != 1) or (other in asked and one != 1) for one, other in pairs)


def numbers_of(question: str) -> set[float]:
    """The numbers of a question, as an equation writes them.  Example: 'How many m are 1,530 ft?' -> {1530.0}"""
    return {float(f"{float(number.replace(',', '')):.10g}") for number in re.findall(NUMBER, question)}


def most_frequent(faults: Sequence[str], written: Sequence[Answered]) -> tuple[str, str]:
    """The most frequent fault, and the first text with it; two empty texts where there is none."""
    found = Counter(fault for fault in faults if fault).most_common(1)
    return (found[0][0], written[faults.index(found[0][0])].text.strip()) if found else ("", "")
