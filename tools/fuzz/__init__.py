"""A fuzzer of submissions: right and wrong ones by the thousand, each with the verdict that follows from its making.

A mutator makes one; the files of mutators are by what they concern. How to run it: `python -m tools.fuzz --help`.
"""

from tools.fuzz import adapters, labels, texts, training
from tools.fuzz.cases import Mutator

MUTATORS: dict[str, Mutator] = {
    mutator.name: mutator for module in (labels, texts, training, adapters) for mutator in module.ALL
}
