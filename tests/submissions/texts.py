"""Prompts, generation and parsing."""

from tests.submissions.plain import PADDED, llm, plain
from tests.submissions.recipe import Maker, Recipe, both, edit, swap


def method(name: str, lines: str) -> Maker:
    """The plain solution with another method of BaseLLM."""
    body = "\n".join(f"    {line}" for line in lines.strip().splitlines())
    arguments = {
        "parse_answer": "self, text", "generate": "self, prompt", "format_prompt": "self, question",
        "answer": "self, *questions",
    }[name]  # fmt: skip
    return plain(swap("base_llm.py", **{f"BaseLLM__{name}": f"def {name}({arguments}):\n{body}"}))


ANY_NUMBER = r"""
import re
found = re.search(r"-?\d+\.?\d*(e-?\d+)?", text)
return float(found[0]) if found else float("nan")
"""
NONE_FOR_NOTHING = """
try:
    return float(text.split("<answer>")[1].split("</answer>")[0])
except (IndexError, ValueError):
    return None
"""
ZERO_FOR_NOTHING = """def parse_answer(text):
    try:
        return float(text.split("<answer>")[1].split("</answer>")[0])
    except (IndexError, ValueError):
        return 0.0


class BaseLLM:"""
DECIMAL = "return __import__('decimal').Decimal(repr(float(after[: after.index('</answer>')])))"
ISCLOSE = """
def is_answer_valid(answer, correct, relative_tolerance=0.05):
    import numpy
    return bool(numpy.isclose(answer, correct, rtol=relative_tolerance))
"""
SHARE = "accuracy=sum(sample.is_correct for sample in samples) / len(samples),"
FRACTION = (SHARE, SHARE.replace("len(samples)", '__import__("fractions").Fraction(len(samples))'))
LOOKUP = """
import json
known = dict(json.load(open("data/train.json")) + json.load(open("data/valid.json")))
return [float(known.get(question, "nan")) for question in questions]
"""
SHARES_OF_MORE = """
def benchmark(llm, dataset, max_question=None):
    result = BenchmarkResult.from_answers(rows := take_rows(dataset, max_question), llm.answer(*(q for q, _ in rows)))
    share = len(rows) / (max_question or len(rows))
    return BenchmarkResult(result.accuracy * share, result.answer_rate * share, result.samples)
"""
ASKED_ONCE = """
prompts = {self.format_prompt(question): None for question in questions}
return [self.parse_answer(text) for text in self.batched_generate([*prompts])]
"""
OWN_BATCHES = """
prompts = sorted((self.format_prompt(question) for question in questions), key=len)
return [self.parse_answer(text) for text in self.batched_generate(prompts[::-1])]
"""
NO_TOLERANCE = """
def is_answer_valid(answer, correct, relative_tolerance=0.05):
    return abs(answer - correct) <= 0.05 * abs(correct)
"""
DIGITS_AND_POINTS = """
import re
found = re.findall(r"<answer>\\s*([-+.,\\deE]+)\\s*</answer>", text)
return float(found[-1]) if found else float("nan")
"""
NO_LARGE_ONES = """
import re
found = re.search(r"<answer>(-?\\d+(?:\\.\\d+)?(?:e-\\d+)?)</answer>", text)
return float(found[1]) if found else float("nan")
"""
SAMPLING = 'sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}'
KEPT_OPTIONS = """if temperature > 0:
            self.kept = {"do_sample": True, "temperature": temperature}
        sampling = getattr(self, "kept", {"do_sample": False})"""
TEN_PERCENT = """
def is_answer_valid(answer, correct, relative_tolerance=0.05):
    return abs(answer - correct) <= 2 * relative_tolerance * abs(correct)
"""
LESS_THAN_FIVE = """
def is_answer_valid(answer, correct, relative_tolerance=0.05):
    return abs(answer - correct) <= 0.97 * relative_tolerance * abs(correct)
"""
FLOOR = """
def is_answer_valid(answer, correct, relative_tolerance=0.05):
    return abs(answer - correct) <= relative_tolerance * max(1e-3, abs(correct))
"""
IS_RIGHT = "sum(sample.is_correct for sample in samples) / len(samples)"
GREEDY, CAP = 'else {"do_sample": False}', "max_new_tokens=50"
TEMPLATE = (
    '        prompts = [self.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, '
    "add_generation_prompt=True) for prompt in prompts]\n"
)
INPUTS = "        inputs = self.tokenizer(prompts,"
DEVICE = "        self.device = self.model.device\n"
LEFT = 'self.tokenizer.padding_side = "left"'
NEW = 'inputs["input_ids"].shape[1]:'
FLAT = "[texts[i : i + num_return_sequences] for i in range(0, len(texts), num_return_sequences)]"

ALL = [
    Recipe(
        "D1 another prompt than in training",
        llm("        return question", '        return f"{question} Answer:"'),
        "answer matches_weights",
        "the rows of the training begin with the question alone",
    ),
    Recipe(
        "D2 tag in the prompt",
        llm("        return question", '        return f"{question} <answer>"'),
        "answer matches_weights",
        "the rows of the training begin with the question alone",
    ),
    Recipe(
        "D4 prompt echoed", llm("ids[:, " + NEW + "]", "ids"), "generate", "generate gives the prompt back", quick=True
    ),
    Recipe("D5 any number", method("parse_answer", ANY_NUMBER), "parser", r"parse_answer\('[^']*'\) is \d+"),
    Recipe("D5 None for nothing", method("parse_answer", NONE_FOR_NOTHING), "parser", "is None, not a number"),
    Recipe("E2 zero for nothing", llm('return float("nan")', "return 0.0"), "parser", "is 0$"),
    Recipe(
        "E2 zero for nothing, by a function of the module",
        both(
            method("parse_answer", "return parse_answer(text)"),
            edit("base_llm.py", "return [self.parse_answer(text)", "return [parse_answer(text)"),
            edit("base_llm.py", "class BaseLLM:", ZERO_FOR_NOTHING),
        ),
        "parser",
        "is 0$",
    ),
    Recipe(
        "D6 tag prepended",
        llm("return texts\n", 'return ["<answer>" + text for text in texts]\n'),
        "generate matches_weights",
        "generate gives another text",
    ),
    Recipe(
        "special tokens kept",
        llm("skip_special_tokens=True", "skip_special_tokens=False"),
        "generate",
        "generate goes on with .* where the model ends",
    ),
    Recipe(
        "D7 temperature ignored",
        llm("if temperature > 0 else", "if temperature > 9 else"),
        "num_return_sequences",
        "num_return_sequences|the same text again and again",
    ),
    Recipe(
        "padding side turned by tokenize",
        plain(
            swap("sft.py", tokenize=PADDED),
            edit("base_llm.py", f"        {LEFT}\n", ""),
            edit("base_llm.py", DEVICE, f"{DEVICE}        {LEFT}\n"),
        ),
        "tokenize_stable",
        "after a call of tokenize, batched_generate gives other texts",
    ),
    Recipe(
        "temperature always 1",
        llm('"temperature": temperature', '"temperature": 1.0'),
        "num_return_sequences",
        "at temperature 0.01, batched_generate gives other texts",
    ),
    Recipe(
        "samples of one prompt in the lists of others",
        llm(FLAT, "[texts[i :: len(prompts)] for i in range(len(prompts))]"),
        "num_return_sequences",
        "mixes up its prompts",
    ),
    Recipe(
        "D5 no closing tag",
        llm('after[: after.index("</answer>")]', 'after.split("</answer>")[0]'),
        "parser",
        r"parse_answer\('<answer>\d+'\) is",
    ),
    Recipe(
        "ten percent are right",
        plain(swap("data.py", is_answer_valid=TEN_PERCENT)),
        "metric",
        "right is a finite number within 5 %",
    ),
    Recipe(
        "4.85 percent are right",  # most of the drawn pairs are farther apart
        plain(swap("data.py", is_answer_valid=LESS_THAN_FIVE)),
        "metric",
        "right is a finite number within 5 %",
    ),
    Recipe(
        "within 5 percent, or a thousandth of it",
        plain(swap("data.py", is_answer_valid=FLOOR)),
        "metric",
        "right is a finite number within 5 %",
    ),
    Recipe(
        "accuracy over answered questions only",
        plain(edit("data.py", IS_RIGHT, f"{IS_RIGHT[:-12]}max(1, sum(s.answer == s.answer for s in samples))")),
        "scoring",
        "gives the accuracy",
    ),
    Recipe(
        "D8 three new tokens",
        llm("max_new_tokens=50", "max_new_tokens=3"),
        "generate matches_weights",
        "generate stops after .* max_new_tokens",
    ),
    Recipe(
        "D8 samples at temperature 0",
        llm(GREEDY, 'else {"do_sample": True}'),
        "generate",
        "generate samples at temperature 0: asked twice, it gives",
        perhaps="padding matches_weights",
    ),
    Recipe(
        "samples at temperature 0, from one seed",
        llm(GREEDY, 'else (torch.manual_seed(0), {"do_sample": True})[1]'),
        "generate",
        "generate gives other tokens than the most likely ones",
        perhaps="padding matches_weights",
    ),
    Recipe(
        "repetition penalty",
        llm(CAP, f"{CAP}, repetition_penalty=1.2"),
        "generate",
        # A text whose ids are not those that it is read back by leaves the penalty open.
        "generate gives what the model writes with a repetition_penalty of about 1\\.(15|2)|gives other tokens than",
        perhaps="padding matches_weights",
    ),
    Recipe(
        "no three tokens twice",
        llm(CAP, f"{CAP}, no_repeat_ngram_size=3"),
        "generate",
        "gives other tokens than the most likely ones|gives another text than the model writes",  # such as 1ERce
        perhaps="padding matches_weights",
    ),
    Recipe(
        "min_new_tokens",
        llm(CAP, f"{CAP}, min_new_tokens=40"),
        "generate",
        "generate goes on with .* where the model ends: min_new_tokens keeps it from EOS",
        perhaps="matches_weights",
    ),
    Recipe(
        "D3 chat template in batched_generate",
        llm(INPUTS, TEMPLATE + INPUTS),
        "generate padding",
        "generate puts the chat template around its prompt: the model is asked another text",
        perhaps="matches_weights",
    ),
    Recipe(
        "D3 chat template twice",
        llm(INPUTS, TEMPLATE + TEMPLATE + INPUTS),
        "generate padding",
        "generate puts the chat template around its prompt twice",
        perhaps="matches_weights",
    ),
    Recipe(
        "right padding",
        llm(LEFT, 'self.tokenizer.padding_side = "right"'),
        "padding matches_weights",
        "batched_generate gives another text",
    ),
    Recipe(
        "a forgotten return", method("generate", "text = self.batched_generate([prompt])[0]"), "generate", "gives None"
    ),
    Recipe(
        "another tolerance ignored",
        plain(swap("data.py", is_answer_valid=NO_TOLERANCE)),
        "metric",
        "the third argument is the tolerance",
    ),
    Recipe(
        "a parser that raises",
        method("parse_answer", DIGITS_AND_POINTS),
        "parser",
        "parse_answer raised ValueError: could not convert",
    ),
    Recipe(
        "a parser without large numbers",
        method("parse_answer", NO_LARGE_ONES),
        "parser",
        r"parse_answer\('<answer>[\d.]+e\d+</answer>'\) is nan",
        perhaps="matches_weights",
    ),
    Recipe(
        "samples for ever after the first one",
        llm(SAMPLING, KEPT_OPTIONS),
        "num_return_sequences",
        "after samples were drawn, batched_generate gives other texts at temperature 0",
    ),
    Recipe(
        "numpy's isclose", plain(swap("data.py", is_answer_valid=ISCLOSE)), "metric", r"is_answer_valid\(3e-09, 1e-09\)"
    ),
    Recipe(
        "numbers as Decimal",
        llm('return float(after[: after.index("</answer>")])', DECIMAL),
        "parser matches_weights",
        "is a Decimal, not a float",
    ),
    Recipe(
        "shares of more questions than there are",
        plain(swap("data.py", benchmark=SHARES_OF_MORE)),
        "scoring",
        "benchmark of more gives the accuracy",
    ),
    Recipe("shares as fractions", edit("data.py", *FRACTION), "scoring trains", "the accuracy as a Fraction, not"),
    Recipe("another order", method("answer", OWN_BATCHES), "answer matches_weights", "answer gives"),
    Recipe(
        "answers turned round",
        llm("for text in self.batched_generate(prompts)]", "for text in self.batched_generate(prompts)][::-1]"),
        "answer matches_weights",
        "answer gives nan where the model wrote <answer>|answer gives .* where the model wrote no answer",
    ),
    Recipe("a repeated question asked once", method("answer", ASKED_ONCE), "answer", "does not give a list of 5"),
    Recipe(
        "E1 lookup table",
        method("answer", LOOKUP),
        "answer matches_weights",
        "answer gives .* where the model wrote",
        quick=True,
    ),
]
