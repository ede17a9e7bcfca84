"""Mutators of prompt, generation, parser and metric."""

import random

from tests.submissions.plain import llm, plain
from tests.submissions.recipe import Files, both, edit, swap
from tests.submissions.texts import method
from tools.fuzz.cases import Case, Mutator, Variant, case_of, chance

TEXTS = "texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)"
RETURN = "            return texts\n"
FLAT = "[texts[i : i + num_return_sequences] for i in range(0, len(texts), num_return_sequences)]"
SAMPLING = '{"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}'
LEFT = 'self.tokenizer.padding_side = "left"'
GENERATION = "generate padding num_return_sequences"
BATCHES = """
def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
    order = ORDER
    prompts, size = [prompts[i] for i in order], SIZE
    texts = [text for i in range(0, len(prompts), size) for text in self.write(prompts[i : i + size], num_return_sequences, temperature)]
    return BACK

"""


def order_permuted(rng: random.Random, files: Files) -> Case:
    """batched_generate writes in another order, and gives the texts back in the right one, or not."""
    order = rng.choice((
        "range(len(prompts))", "range(len(prompts))[::-1]", "sorted(range(len(prompts)), key=lambda i: len(prompts[i]))",
        "sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))",
        f"[(i + {rng.randrange(1, 3)}) % len(prompts) for i in range(len(prompts))]",
    ))  # fmt: skip
    is_right = chance(rng) or order == "range(len(prompts))"
    back = "[text for _, text in sorted(zip(order, texts), key=lambda pair: pair[0])]" if is_right else "texts"
    size = rng.choice((1, 2, 3, 5, 64))
    lines = BATCHES.replace("ORDER", order).replace("SIZE", str(size)).replace("BACK", back)
    make = both(
        plain(edit("base_llm.py", "    def batched_generate(", "    def write(")),
        edit("base_llm.py", "    @torch.no_grad()\n", f"{indent(lines)}    @torch.no_grad()\n"),
    )
    words = f"{order} in batches of {size}, {'given back in order' if is_right else 'not put back'}"
    failing = "" if is_right else "padding"
    return case_of(
        Variant(words, make, failing, "num_return_sequences matches_weights tokenize_stable" if failing else ""), files
    )


def indent(lines: str) -> str:
    """Lines as they stand in a class."""
    return "".join(f"    {line}\n" if line else "\n" for line in lines.strip("\n").split("\n"))


def cap(rng: random.Random, files: Files) -> Case:
    """max_new_tokens: fewer than 7 hold no answer, 32 hold each; what is between is right for some."""
    most = rng.choice((rng.randrange(1, 7), rng.randrange(7, 32), rng.randrange(32, 200)))
    failing = "generate" if most < 7 else ""
    perhaps = "generate padding num_return_sequences matches_weights tokenize_stable" if most < 32 else ""
    return case_of(
        Variant(f"{most} new tokens", llm("max_new_tokens=50", f"max_new_tokens={most}"), failing, perhaps), files
    )


def sampling(rng: random.Random, files: Files) -> Case:
    """Greedy at temperature 0, and samples above it; or otherwise."""
    high = round(rng.uniform(1.0, 3.0), 2)
    top_p, top_k = round(rng.uniform(0.8, 1.0), 2), rng.choice((0, 20, 50, 100))
    sample = '{"do_sample": True, "temperature": temperature}'
    plain_greedy = '{"do_sample": False}'
    drawn, noise = "num_return_sequences", "generate padding tokenize_stable matches_weights"
    forms = (
        (f'{{**{sample}, "top_p": {top_p}, "top_k": {top_k}}} if temperature else {plain_greedy}', "", ""),
        (f'{sample} if temperature else {{"do_sample": False, "temperature": None, "top_p": None, "top_k": None}}', "", ""),
        (f'{sample} if temperature > 0 else {{"do_sample": False, "num_beams": 1, "use_cache": {chance(rng)}}}', "", ""),
        ('{"do_sample": temperature > 0, "temperature": temperature or 1.0}', "", ""),
        ('{"do_sample": temperature > 0, "temperature": max(temperature, 1e-3)}', "", ""),
        (f'{sample} if temperature > 0 else {{"do_sample": False, "repetition_penalty": 1.0}}', "", ""),
        (f'{{"do_sample": True, "temperature": {high}}}', f"{drawn} generate", f"{noise} padding"),
        (f'{{"do_sample": True, "temperature": {high}}} if temperature > 0 else {plain_greedy}', drawn, ""),
        (f'{{"do_sample": True, "temperature": 1 / temperature}} if temperature else {plain_greedy}', "", drawn),
        (f'{{**{sample}, "top_k": 1}} if temperature else {plain_greedy}', drawn, ""),
        (f'{{"do_sample": True, "temperature": temperature + {high}}}', f"{drawn} generate", f"{noise} padding"),
        (f"{sample} if temperature > 2 else {plain_greedy}", drawn, ""),
        (f'{sample} if temperature else {{"do_sample": False, "num_beams": {rng.randrange(2, 5)}}}', "", f"{noise} {drawn}"),
        (f'{sample} if temperature else {{"do_sample": False, "repetition_penalty": {high}}}', "", f"{noise} {drawn}"),
        (f'{sample} if temperature else {{"do_sample": False, "min_new_tokens": {rng.randrange(20, 40)}}}', "", f"{noise} {drawn}"),
    )  # fmt: skip
    form, failing, perhaps = rng.choice(forms)
    return case_of(Variant(f"sampling = {form}", llm(SAMPLING, form), failing, perhaps), files)


def decoding(rng: random.Random, files: Files) -> Case:
    """What is made of the ids that the model wrote."""
    count, word = rng.randrange(1, 4), rng.choice(("Answer: ", "<answer>", "> ", "\\n\\nmodel: "))
    others = "padding num_return_sequences matches_weights tokenize_stable"
    last = f"texts = self.tokenizer.batch_decode(new[:, :-{count}], skip_special_tokens=True)"
    forms = (
        (TEXTS, f"{TEXTS}\n        texts = [text.strip() for text in texts]", ""),
        (TEXTS, "texts = [self.tokenizer.decode(row, skip_special_tokens=True) for row in new]", ""),
        (TEXTS, "texts = self.tokenizer.batch_decode(new.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)", ""),
        (TEXTS, f"{TEXTS}\n        texts = [text.rstrip() for text in texts]", ""),
        (TEXTS, f"{TEXTS}\n        texts = [text.split(self.tokenizer.eos_token)[0] for text in texts]", ""),
        ('            eos_token_id=self.tokenizer.eos_token_id, pad', "            pad", ""),
        ('inputs["input_ids"].shape[1]:]', 'len(inputs["input_ids"][0]):]', ""),
        (TEXTS, f"{TEXTS}\n        texts = [{word!r} + text for text in texts]", "generate"),
        (TEXTS, f"{TEXTS}\n        texts = [text[{count}:] for text in texts]", "generate"),
        (TEXTS, f"{TEXTS}\n        texts = [text[:{rng.randrange(0, 9)}] for text in texts]", "generate"),
        (TEXTS, f"{TEXTS}\n        texts = [text.replace(' ', '') for text in texts]", "generate"),
        (TEXTS, f"{TEXTS}\n        texts = [text[::-1] for text in texts]", "generate"),
        (TEXTS, f"{TEXTS}\n        texts = [text.encode() for text in texts]", "generate"),
        (TEXTS, f"{TEXTS}\n        texts = [text + {word!r} for text in texts]", "generate"),
        (TEXTS, TEXTS.replace("True", "False"), "generate"),
        ("ids[:, inputs", "ids[:, -1 + inputs", "generate"),
        ("ids[:, inputs", f"ids[:, {count} + inputs", "generate"),
        ('ids[:, inputs["input_ids"].shape[1]:]', "ids", "generate"),
        (TEXTS, last, ""),
    )  # fmt: skip
    old, new, failing = rng.choice(forms)
    new = new.replace("\\\\n", "\\n")
    return case_of(
        Variant(new, llm(old, new), failing, others if failing else f"generate {others}" if new == last else ""), files
    )


def batch_padding(rng: random.Random, files: Files) -> Case:
    """Padding of the prompts, and its mask."""
    call = 'self.tokenizer(prompts, padding=True, return_tensors="pt")'
    by_hand = f"""rows = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        width, pad = max(map(len, rows)) + {rng.randrange(9)}, {rng.choice(("self.tokenizer.eos_token_id", "0", "5"))}
        inputs = {{"input_ids": torch.tensor([[pad] * (width - len(r)) + r for r in rows]), "attention_mask": MASK}}"""
    mask = "torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])"
    line = f"inputs = {call}.to(self.device)"
    wrong = "matches_weights num_return_sequences tokenize_stable"
    variants = (
        Variant("padded by hand", llm(line, by_hand.replace("MASK", mask))),
        Variant("padded by hand, all seen", llm(line, by_hand.replace("MASK", "torch.ones(len(rows), width).long()")), "padding", f"{wrong} generate"),
        Variant("mask not given", llm("**inputs,", 'inputs["input_ids"],'), "padding", wrong),
        Variant("padded on the right", llm(LEFT, 'self.tokenizer.padding_side = "right"'), "padding", wrong),
        Variant("padded to a multiple", llm("padding=True,", f"padding=True, pad_to_multiple_of={rng.choice((8, 16, 32))},")),
        Variant("padded to a length", llm("padding=True,", f'padding="max_length", max_length={rng.randrange(200, 400)},')),
        Variant("mask from the ids", llm("**inputs,", '**{**inputs, "attention_mask": (inputs["input_ids"] != self.tokenizer.eos_token_id).long()},')),
        Variant("truncated", llm("padding=True,", f"padding=True, truncation=True, max_length={rng.randrange(4, 9)},"), "padding", f"{wrong} generate"),
        Variant("truncated beyond all", llm("padding=True,", "padding=True, truncation=True, max_length=256,")),
    )  # fmt: skip
    return case_of(rng.choice(variants), files)


def prompt(rng: random.Random, files: Files) -> Case:
    """format_prompt: the question alone, or something else."""
    word = rng.choice(("Q: ", "Question: ", "You convert units. ", "user\\n"))
    forms = (
        ("question", ""), ("str(question)", ""), ('f"{question}"', ""), ("question.strip()", ""), ('"".join(question)', ""),
        (f'"{word}" + question', "answer"), (f'question + "{rng.choice((" ", "  ", " Answer:", " <answer>", chr(92) + "n"))}"', "answer"),
        ("question.lower() + ' '", "answer"), ('question.rstrip("?")', "answer"), ("question.upper()", "answer"),
        ('question.replace("How many", "What number of").replace(" ", "  ", 1)', "answer"),
        (f"question[:{rng.randrange(3, 12)}]", "answer"), ("question[::-1]", "answer"),
    )  # fmt: skip
    form, failing = rng.choice(forms)
    # What takes off question marks may leave the drawn questions as they are: some have none.
    perhaps = "matches_weights" if failing else ""
    if "rstrip" in form:
        failing, perhaps = "", "answer matches_weights"
    return case_of(Variant(f"prompt {form}", method("format_prompt", f"return {form}"), failing, perhaps), files)


def answering(rng: random.Random, files: Files) -> Case:
    """answer: one number a question, in their order."""
    size = rng.randrange(1, 5)
    prompts = "prompts = [self.format_prompt(question) for question in questions]\n"
    forms = (
        (f"{prompts}return [self.parse_answer(self.generate(prompt)) for prompt in prompts]", ""),
        (f"{prompts}return list(map(self.parse_answer, self.batched_generate(prompts)))", ""),
        (f"{prompts}return [self.parse_answer(t) for i in range(0, len(prompts), {size}) for t in self.batched_generate(prompts[i : i + {size}])]", ""),
        (f"{prompts}texts = dict(zip(prompts, self.batched_generate(prompts)))\nreturn [self.parse_answer(texts[p]) for p in prompts]", ""),
        (f"{prompts}return [self.parse_answer(t) for t in self.batched_generate(prompts)][::-1]", "answer"),
        (f"{prompts}return [self.parse_answer(t) for t in self.batched_generate(prompts[{size}:])]", "answer"),
        (f"{prompts}return [x if x == x else 0.0 for x in map(self.parse_answer, self.batched_generate(prompts))]", "answer"),
        (f"{prompts}return [x for x in map(self.parse_answer, self.batched_generate(prompts)) if x == x]", "answer"),
        (f"{prompts}return [{size + 1} * self.parse_answer(t) for t in self.batched_generate(prompts)]", "answer"),
        (f"{prompts}return [float('nan') for _ in prompts]", "answer"),
        (f"{prompts}return self.batched_generate(prompts)", "answer"),
        (f"{prompts}return [self.parse_answer(p) for p in prompts]", "answer"),
        (f"{prompts}return sorted(self.parse_answer(t) for t in self.batched_generate(prompts))", "answer"),
    )  # fmt: skip
    form, failing = rng.choice(forms)
    words = form.partition("\n")[2]
    if words.startswith("return sorted"):
        failing = ""  # of three numbers, two are equal and one is none: they may stand in order
    perhaps = "matches_weights answer" if failing or "sorted" in words else ""
    return case_of(Variant(f"answer: {words}", method("answer", form), failing, perhaps), files)


NUMBERS = (r"[-+]?\d[\d.]*(?:[eE][-+]?\d+)?", r".*?", r"[^<]+", r"[^<>]*", r"-?\d+(?:\.\d+)?(?:e-?\d+)?", r"\S+")


def parser(rng: random.Random, files: Files) -> Case:
    """parse_answer: the number between the two tags, NaN where there is none."""
    number, nan = (
        rng.choice(NUMBERS),
        rng.choice(('float("nan")', "math.nan", "float('NaN')", "numpy.nan", "torch.nan")),
    )
    space, flags = rng.choice(("", r"\s*")), rng.choice(("", ", re.DOTALL", ", re.IGNORECASE"))
    head = "import math, numpy, re, torch\n"
    caught = "except (AttributeError, IndexError, ValueError, TypeError):\n    return {}"
    search = (
        f'found = re.{rng.choice(("search", "findall"))}(r"<answer>{space}({number}){space}</answer>", text{flags})\n'
    )
    value = "float(found[1])" if ".search" in search else f"float(found[{rng.choice((0, -1))}])"
    right = f"{head}{search}try:\n    return {value}\n{caught.format(nan)}"
    part = 'text.partition("<answer>")[2].partition("</answer>")'
    forms = (
        (right, ""), (right, ""), (right, ""),
        (f'{head}head, tag, _ = {part}\ntry:\n    return float(head) if tag else {nan}\n{caught.format(nan)}', ""),
        (f'{head}try:\n    return float(text[text.index("<answer>") + 8 : text.index("</answer>")])\n{caught.format(nan)}', ""),
        (right.replace(f"return {nan}", f"return {rng.choice(('0.0', '-1.0', 'None', 'math.inf', '1e9', repr('nan')))}"), "parser"),
        (right.replace("return float(", "return int("), "parser"), (right.replace("return float(", "return str("), "parser"),
        (right.replace(f"({number})", r"(\d+)"), "parser"), (right.replace(f"({number})", r"(-?\d+\.?\d*)"), "parser"),
        (right.replace(f"({number})", r"(\d+\.?\d*(?:e-?\d+)?)"), "parser"),
        (right.replace("</answer>", ""), "parser" if number == NUMBERS[0] else ""),
        (right.replace("<answer>", "", 1), ""),
        (right.replace(f"return {value}", f"return abs({value})"), "parser"),
        (right.replace(f"return {value}", f"return round({value}, {rng.randrange(5)})"), "parser"),
        (f"{head}{search}return {value}", "parser"), (f'{head}return float(text.replace("<answer>", "").replace("</answer>", "") or "nan")', "parser"),
        (f'{head}found = re.findall(r"{NUMBERS[0]}", text)\nreturn float(found[-1]) if found else {nan}', "parser"),
    )  # fmt: skip
    form, failing = rng.choice(forms)
    # Without one of its tags, what a pattern matches hangs on the pattern; so does a text after the number.
    loose = form.count("answer>") < right.count("answer>") and form.startswith(f"{head}found") and search[:20] in form
    return case_of(
        Variant(
            form.removeprefix(head),
            method("parse_answer", form),
            failing,
            "parser matches_weights" if failing or loose else "",
        ),
        files,
    )


def metric(rng: random.Random, files: Files) -> Case:
    """is_answer_valid: within 5 % of the correct answer."""
    low, high, slack = (
        round(rng.uniform(0.0, 0.045), 4),
        round(rng.uniform(0.053, 0.3), 4),
        rng.choice((0, 1e-9, 1e-18)),  # the data has answers of 1e-12: with 1e-9, any small number is right there
    )
    off, size, tol = "abs(answer - correct)", "abs(correct)", "relative_tolerance"
    forms = (
        (f"{off} <= {tol} * {size} + {slack} < float('inf')", "metric" * (slack > 1e-12)), (f"bool({off} <= {tol} * {size})", ""),
        (f"numpy.abs(numpy.float64(answer) - correct) <= {tol} * numpy.abs(correct)", ""),
        (f"math.isfinite(answer) and {off} / max({size}, 1e-300) <= {tol}", ""),
        (f"correct * (1 - {tol} * (1 if correct > 0 else -1)) <= answer <= correct * (1 + {tol} * (1 if correct > 0 else -1))", ""),
        (f"torch.isclose(torch.tensor(answer).double(), torch.tensor(correct).double(), rtol={tol}, atol=0).item()", ""),
        (f"numpy.isclose(answer, correct, rtol={tol}, atol=0)", ""),
        (f"{off} <= {low} * {size}", "metric"), (f"{off} <= {high} * {size}", "metric"),
        (f"{off} <= {rng.choice((2, 1.1, 0.5, 0.9))} * {tol} * {size}", "metric"),
        (f"not {off} > {tol} * {size}", "metric"), (f"{off} <= {tol} * abs(answer)", "metric"),
        (f"math.isclose(answer, correct, rel_tol={tol})", "metric"), (f"{off} <= {tol}", "metric"),
        (f"answer - correct <= {tol} * {size}", "metric"), (f"{off} <= {tol} * correct", "metric"),
        (f"abs(abs(answer) - {size}) <= {tol} * {size}", "metric"), ("answer == correct", "metric"),
        (f"round(answer, 3) == round(correct, 3) or {off} <= {low} * {size}", "metric"),
        (f"{off} <= {tol} * max({size}, {rng.choice((0.1, 1))})", "metric"), ("True", "metric"), ("None", "metric"),
        (f"{off} < {tol} * {size}", ""),  # no pair is right at the bound alone
    )  # fmt: skip
    form, failing = rng.choice(forms)
    body = f"def is_answer_valid(answer, correct, relative_tolerance=0.05):\n    import math, numpy, torch\n    return {form}"
    return case_of(Variant(f"valid if {form}", plain(swap("data.py", is_answer_valid=body)), failing), files)


FROM = """
@classmethod
def from_answers(cls, rows, answers):
    samples = [Sample(q, a, c, is_answer_valid(a, c)) for (q, c), a in zip(rows, answers)]
    return cls(ACCURACY, RATE, samples)
"""
ASKING = """
def benchmark(llm, dataset, max_question=None):
    rows = ROWS
    return BenchmarkResult.from_answers(rows, ASKED)
"""


def scoring(rng: random.Random, files: Files) -> Case:
    """benchmark: shares of all the questions that were to be asked."""
    accuracy, rate = "sum(s.is_correct for s in samples) / len(samples)", "sum(a == a for a in answers) / len(answers)"
    rows, asked = (
        "[dataset[i] for i in range(min(len(dataset), max_question or len(dataset)))]",
        "llm.answer(*[q for q, _ in rows])",
    )
    right = {"ACCURACY": accuracy, "RATE": rate, "ROWS": rows, "ASKED": asked}
    few = rng.randrange(1, 6)
    changes = (
        ("ACCURACY", "__import__('numpy').mean([s.is_correct for s in samples])", ""),
        ("ACCURACY", "__import__('statistics').fmean(s.is_correct for s in samples)", ""),
        ("ACCURACY", "len([s for s in samples if s.is_correct]) / len(samples)", ""),
        ("RATE", "1 - sum(a != a for a in answers) / len(answers)", ""), ("RATE", "float(__import__('numpy').isfinite(answers).mean())", ""),
        ("ROWS", "list(dataset)[:max_question]", ""), ("ASKED", "[llm.answer(q)[0] for q, _ in rows]", ""),
        ("ASKED", f"[a for i in range(0, len(rows), {few}) for a in llm.answer(*[q for q, _ in rows[i : i + {few}]])]", ""),
        ("ACCURACY", f"100 * {accuracy}", "scoring"), ("ACCURACY", f"round({accuracy}, 1)", ""),
        ("ACCURACY", "sum(s.is_correct for s in samples) / max(1, sum(a == a for a in answers))", "scoring"),
        ("ACCURACY", "sum(s.is_correct for s in samples)", "scoring"), ("RATE", "1.0", "scoring"), ("RATE", accuracy, ""),
        ("ACCURACY", "sum(s.answer == s.correct_answer for s in samples) / len(samples)", ""),
        ("RATE", "len(answers) / len(samples)", "scoring"), ("ROWS", "list(dataset)", "scoring"),
        ("ROWS", f"list(dataset)[: (max_question or len(dataset)) - {few}]", "scoring"), ("ROWS", "list(dataset)[-(max_question or 0):]", ""),
        ("ASKED", "llm.answer(*[q for q, _ in rows][::-1])", ""), ("ASKED", "sorted(llm.answer(*[q for q, _ in rows]))", ""),
        ("ASKED", "[c for _, c in rows]", "scoring"), ("ACCURACY", "None", "scoring"), ("RATE", "float('nan')", "scoring"),
    )  # fmt: skip
    part, form, failing = rng.choice(changes)
    filled = {**right, part: form}
    body, ask = FROM, ASKING
    for name, text in filled.items():
        body, ask = body.replace(name, text), ask.replace(name, text)
    make = plain(swap("data.py", BenchmarkResult__from_answers=body, benchmark=ask))
    # These give the right figures by chance.
    lucky = ("round(", "[::-1])", "sorted(", "-(max_question", "s.answer ==")
    perhaps = "scoring" if any(word in form for word in lucky) or (part, form) == ("RATE", accuracy) else ""
    return case_of(Variant(f"{part} = {form}", make, failing, perhaps), files)


ALL = (
    Mutator(order_permuted, GENERATION), Mutator(cap, GENERATION), Mutator(sampling, GENERATION),
    Mutator(decoding, GENERATION), Mutator(batch_padding, GENERATION), Mutator(prompt, "answer generate"),
    Mutator(answering, "answer"), Mutator(parser, "parser answer"),
    Mutator(metric, "metric scoring"), Mutator(scoring, "metric scoring"),
)  # fmt: skip
