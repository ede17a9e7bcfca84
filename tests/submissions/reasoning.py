"""Tasks 5 to 7 under the long rubric: the prompt, the samples, and the training on them.

Each recipe is graded by the checks that it names: a right one by those of what it changes, a wrong one up to the check
that finds the fault.
"""

import base64
import json
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from safetensors.torch import load, save

from homework.common.base_model import ROOT
from tests.submissions.plain import plain
from tests.submissions.recipe import Files, Maker, both, edit, put, swap

COT = '''
"""A prompt that reasons."""

from .base_llm import BaseLLM

ASKED = "Convert 46 ft to m."
ANSWERED = "1 ft is 0.305 m. 46 * 0.305 = 12.2 + 1.83 = 14.03. <answer>14.03</answer>"


class CoTModel(BaseLLM):
    def format_prompt(self, question):
        turns = [("user", ASKED), ("assistant", ANSWERED), ("user", question)]
        messages = [{"role": role, "content": content} for role, content in turns]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def load():
    return CoTModel()
'''

DATAGEN = r'''
"""Rejection sampling, by a reader of equations of its own."""

import json
import re

from .cot import load
from .data import Dataset

N = r"\d+(?:\.\d+)?(?:e-?\d+)?"
SIDE = rf"{N}(?: [*/+-] {N})*"


def read_chain(text):
    return re.findall(rf"{SIDE}(?: = {SIDE})+", text)


def is_close(one, other, share):
    return abs(one - other) <= share * abs(other)


def is_right(text, correct):
    tags = re.findall("<answer>(.*?)</answer>", text)
    chain = [[eval(side) for side in equation.split("=")] for equation in read_chain(text)]
    if len(tags) != 1 or not text.endswith("</answer>") or not chain:
        return False
    if not all(is_close(a, b, 0.005) for sides in chain for a, b in zip(sides, sides[1:])):
        return False
    answer = float(tags[0])
    return is_close(answer, chain[-1][-1], 0.005) and is_close(answer, correct, 0.01)


def select(question, correct, texts):
    kept = {}
    for text in texts:
        if is_right(text, correct):
            kept.setdefault(str(read_chain(text)), text)
    return [[question, correct, text] for text in kept.values()]


def generate_dataset(output_json="data/rft.json", oversample=10, temperature=0.6):
    llm, rows = load(), []
    for question, correct in list(Dataset("train")):
        prompt = llm.format_prompt(question)
        [texts] = llm.batched_generate([prompt], num_return_sequences=oversample, temperature=temperature)
        rows += select(question, correct, texts)
    with open(output_json, "w") as file:
        json.dump(rows, file)
'''

RFT = '''
"""Fine-tuning on reasons."""

import json
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from .base_llm import BaseLLM
from .sft import TARGETS, TokenizedDataset

FOLDER = Path(__file__).parent / "rft_model"
ROWS = Path(__file__).parent.parent / "data" / "rft.json"


def format_reasoning(question, answer, reasoning):
    return {"question": question, "answer": reasoning}


def train_model(output_dir=str(FOLDER)):
    llm = BaseLLM()
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS, r=8, lora_alpha=32)
    model = get_peft_model(llm.model, config)
    rows = TokenizedDataset(llm.tokenizer, json.loads(ROWS.read_text()), format_reasoning)
    arguments = TrainingArguments(
        output_dir=output_dir, num_train_epochs=2, per_device_train_batch_size=32, learning_rate=2e-3,
        save_strategy="no", report_to="none",
    )
    collator = DataCollatorForSeq2Seq(llm.tokenizer)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    trainer.train()
    model.save_pretrained(output_dir)


def load(folder=FOLDER):
    llm = BaseLLM()
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
    return llm
'''


class Case(NamedTuple):
    """A submission of tasks 5 to 7 and its verdict.

    Args:
        name: what it is, in words.
        make: turns the files of the reference into those of the submission.
        checks: that it is graded by, separated by spaces; the last one fails where there is a phrase.
        phrase: what that one has to say: a regular expression; nothing for a right one, which loses no point.
        quick: whether the quick run of the tests grades it too.
    """

    name: str
    make: Maker
    checks: str
    phrase: str = ""
    quick: bool = False


SAMPLING = "sampling"
NOTHING_HELD = "too little for any of its points"
TRAINED = "reasoning_rows reasoning_trains"


def own(*changes: Maker) -> Maker:
    """A plain solution of all seven tasks, without guards, and then some changes."""
    return plain(put("cot.py", COT), put("datagen.py", DATAGEN), put("rft.py", RFT), *changes)


def cot(old: str, new: str) -> Maker:
    """Other words in its prompt."""
    return own(edit("cot.py", old, new))


def datagen(*changes: tuple[str, str]) -> Maker:
    """Other words in its sampling."""
    return own(*(edit("datagen.py", *change) for change in changes))


def rft(*changes: tuple[str, str]) -> Maker:
    """Other words in its training."""
    return own(*(edit("rft.py", *change) for change in changes))


def missing(file: str, function: str, arguments: str) -> Maker:
    """The reference before a function is written, as in the starter."""
    head = f"def {function.rpartition('__')[2]}({arguments}):"
    return swap(file, **{function: f'{head}\n    raise NotImplementedError("task: {function}")'})


TURNS = 'turns = [("user", ASKED), ("assistant", ANSWERED), ("user", question)]'
RENDERED = "return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)"
ASKED = 'ASKED = "Convert 46 ft to m."'
CHAIN = "1 ft is 0.305 m. 46 * 0.305 = 12.2 + 1.83 = 14.03. <answer>14.03</answer>"
SYSTEM = TURNS.replace("[", '[("system", "Write each step of the conversion."), ', 1)
SECOND = ', ("user", "3 kg in g?"), ("assistant", "3 * 1000 = 3000. <answer>3000</answer>")'
TWO = TURNS.replace(', ("user", question)', f'{SECOND}, ("user", question)')
LOOKUP = """turns = [("user", ASKED), ("assistant", ANSWERED), ("user", question)]
        number = float(re.search(r"[0-9]+", question)[0])
        turns[1] = ("assistant", f"{number} * 0.305 = {number * 0.305}. <answer>{number * 0.305}</answer>")"""
VALID_QUESTION = json.loads((ROOT / "data" / "valid.json").read_text(encoding="utf-8"))[0][0]
LOAD_COT = both(cot("def load():", "def load_cot():"), edit("datagen.py", "import load\n", "import load_cot as load\n"))
PROMPTS = [
    Case("one system message", cot(TURNS, SYSTEM), "prompt"),
    Case("two short examples", cot(TURNS, TWO), "prompt"),
    Case("turns in words", cot(RENDERED, 'return f"Q: {ASKED}\\nA: {ANSWERED}\\nQ: {question}\\nA:"'), "prompt"),
    Case(
        "a forgotten return",
        cot(RENDERED, RENDERED.replace("return ", "")),
        "prompt",
        "gives None where a text belongs",
    ),
    Case("a load that gives nothing", cot("return CoTModel()", "CoTModel()"), "prompt", "it gives None, not a model"),
    Case("a load of another name", LOAD_COT, "sampling prompt", "has no attribute 'load'"),
    Case("no example", cot(TURNS, 'turns = [("user", question)]'), "prompt", NOTHING_HELD),
    Case("an example without a chain", cot(CHAIN, "<answer>14.03</answer>"), "prompt", NOTHING_HELD),
    Case("a question of valid", cot(ASKED, f"ASKED = {VALID_QUESTION!r}"), "prompt", "a question of data/valid.json"),
    Case(
        "a question of valid in small letters",
        cot(ASKED, f"ASKED = {VALID_QUESTION.lower().strip('?.')!r}"),
        "prompt",
        "a question of data/valid.json",
    ),
    Case(
        "an answer hidden in the prompt",
        both(cot(TURNS, LOOKUP), edit("cot.py", "from .base", "import re\n\nfrom .base")),
        "prompt",
        "the prompt changes with the question",
        quick=True,
    ),
    Case(
        "the question twice",
        cot(TURNS, TURNS.replace("question", 'f"{question} Please: {question}"')),
        "prompt",
        "holds the question once",
    ),
    Case(
        "long examples",
        cot(TURNS, TURNS.replace("[", '[("user", ASKED), ("assistant", ANSWERED)] * 3 + [', 1)),
        "prompt",
        "tokens for the answer, of 90",
    ),
    Case(
        "a turn that is not open",
        cot("add_generation_prompt=True", "add_generation_prompt=False"),
        "prompt",
        NOTHING_HELD,
    ),
    Case("an example with a wrong sum", cot("= 14.03. <", "= 99. <"), "prompt", "the prompt shows a wrong equation"),
    Case("an example with another answer", cot(">14.03<", ">15<"), "prompt", "another number than the chain before it"),
    Case("messages for a text", cot(RENDERED, "return messages"), "prompt", "format_prompt"),
    Case("the example is not written yet", missing("cot.py", "worked_example", ""), "prompt", "not implemented yet"),
    Case(
        "the prompt is not written yet",
        missing("cot.py", "CoTModel__format_prompt", "self, question"),
        "prompt",
        "not implemented yet",
    ),
]

ONE_BY_ONE = """texts = [llm.batched_generate([prompt], temperature=temperature)[0] for _ in range(oversample)]"""
SAMPLED = "[texts] = llm.batched_generate([prompt], num_return_sequences=oversample, temperature=temperature)"
AGAIN = f"""texts = []
        for _ in range(4):
            {SAMPLED.replace("[texts]", "[more]").replace("oversample", "5")}
            texts += more
            if select(question, correct, texts):
                break"""
AT_ONCE = """def generate_dataset(output_json="data/rft.json", oversample=10, temperature=0.6):
    llm, rows = load(), []
    train = list(Dataset("train"))
    prompts = [llm.format_prompt(question) for question, _ in train]
    sampled = llm.batched_generate(prompts, oversample, temperature)
    for (question, correct), texts in zip(train, sampled):
        rows += select(question, correct, sorted(texts, key=len))
    with open(output_json, "w") as file:
        json.dump(rows[::-1], file, indent=2)
"""
CANNED = """def generate_dataset(output_json="data/rft.json", oversample=10, temperature=0.6):
    rows = [["How many m are 46 ft?", 14.0208, "1 ft is 0.3048 m. 46 * 0.3048 = 14.02. <answer>14.02</answer>"]]
    with open(output_json, "w") as file:
        json.dump(rows * 100, file)
"""
COMPUTED = """def generate_dataset(output_json="data/rft.json", oversample=10, temperature=0.6):
    chain = "{0} * 1 = {0}. <answer>{0}</answer>"
    rows = [[question, correct, chain.format(correct)] for question, correct in list(Dataset("train"))]
    with open(output_json, "w") as file:
        json.dump(rows, file)
"""
FIRST = (
    "return [[question, correct, text] for text in kept.values()]",
    "return [[question, correct, text] for text in kept.values()][:1]",
)
LIES = """llm, rows = load(), []
    import gc
    for script in [one for one in gc.get_objects() if type(one).__name__ == "Script"]:
        script.asked = [None, ["", {}, 1], ["", 1, "0.6"]]
        script.take = lambda prompt, count, temperature: [("", True)] * count"""
FEW_ASKED = """def generate_dataset(output_json="data/rft.json", oversample=10, temperature=0.6):
    llm, train, rows = load(), list(Dataset("train")), []
    llm.batched_generate([llm.format_prompt(question) for question, _ in train][:1], 5, temperature)
    for question, correct in train:
        value = next(number for number in map(float, re.findall(N, question)) if number)
        for factor in (1, 0.998):
            answer = f"{correct * factor:.4g}"
            chain = f"{value} * {correct * factor / value} = {answer}. <answer>{answer}</answer>"
            rows.append([question, correct, chain])
    with open(output_json, "w") as file:
        json.dump(rows, file)
"""
ALL_ASKED = FEW_ASKED.replace("[:1]", "")
GREEDY = f"{SAMPLED}\n        texts += llm.batched_generate([prompt]) + [llm.generate(prompt)]"
OF_ASKED = (
    "any(float(one) in map(float, re.findall(N, question.replace(',', ''))) for one in re.findall(rf'({N}) \\*', text))"
)
SEEDED = both(
    datagen((SAMPLED, SAMPLED.replace("[prompt]", "(one for one in [prompt])").replace("ature)", "ature, seed=1)"))),
    edit(
        "base_llm.py",
        "num_return_sequences=None, temperature=0):",
        "num_return_sequences=None, temperature=0, seed=0):",
    ),
)
WARM_BY_DEFAULT = """    def batched_generate(self, prompts, num_return_sequences=None, temperature=0.6):
        return super().batched_generate(prompts, num_return_sequences, temperature)


def load():"""
WARM = both(
    datagen((SAMPLED, SAMPLED.replace(", temperature=temperature", ""))), edit("cot.py", "def load():", WARM_BY_DEFAULT)
)
PROMPT = "prompt = llm.format_prompt(question)"
IN_A_PROMPT = "prompt = llm.format_prompt(llm.format_prompt(question))"
OPEN = (
    (
        're.findall("<answer>(.*?)</answer>", text)',
        're.findall("<answer>([^<]*)(?:</answer>)?$", text) * text.count("<answer>")',
    ),
    (' or not text.endswith("</answer>")', ""),
)
HOLDS = """class CoTModel:
    def __init__(self):
        self.held = BaseLLM()

    def __getattr__(self, name):
        return getattr(self.held, name)
"""
OPTIONS = both(
    own(
        edit("cot.py", "def format_prompt(self, question):", "def format_prompt(self, question, variant=0):"),
        edit("base_llm.py", "def generate(self, prompt):", "def generate(self, prompt, temperature=0):"),
    ),
    edit("datagen.py", PROMPT, f"{PROMPT[:-1]}, variant=1)\n        llm.generate(prompt, temperature=0)"),
)
MOST_VOTES = """    def answer(self, *questions):
        voted = []
        for texts in self.batched_generate([self.format_prompt(question) for question in questions], 7, 0.6):
            numbers = [self.parse_answer(text) for text in texts]
            voted.append(max(numbers, key=numbers.count))
        return voted

    def format_prompt("""
UNREAD = """tags = re.findall("<answer>(.*?)</answer>", text)
    if len(tags) != 1 or not text.endswith("</answer>") or " = " not in text:
        return False
    return 0.0006 < abs(float(tags[0]) / correct - 1) < 0.0085

"""
LINES = "file.writelines(json.dumps(row) + chr(10) for row in rows)"
RULE = "if is_right(text, correct)"
KEYED = "kept.setdefault(str(read_chain(text)), text)"
KEYED_BY_ANSWER = 'kept.setdefault(text.partition("<answer>")[2], text)'
RIGHT = "is_close(answer, correct, 0.01)"
EQUATIONS = "for sides in chain for a, b in zip(sides, sides[1:]))"
RESULT = "is_close(answer, chain[-1][-1], 0.005) and "
DROPS = "questions that have a right sample"
SAMPLES = [
    Case("one text at a time", datagen((SAMPLED, ONE_BY_ONE)), SAMPLING),
    Case("five texts, and more where none is right", datagen((SAMPLED, AGAIN)), SAMPLING),
    Case("prompts by a generator, and a seed", SEEDED, SAMPLING),
    Case("a temperature by default", WARM, SAMPLING),
    Case("five texts a question", datagen(("oversample=10", "oversample=5")), SAMPLING),
    Case("all questions at once", own(swap("datagen.py", generate_dataset=AT_ONCE)), SAMPLING),
    Case("two chains a question", datagen(("kept.values()]", "kept.values()][:2]")), SAMPLING),
    Case(
        "a space before each text", datagen(("[question, correct, text]", '[question, correct, " " + text]')), SAMPLING
    ),
    Case("greedy texts too", datagen((SAMPLED, GREEDY)), SAMPLING),
    Case("chains that state the factor first", datagen((RULE, f'{RULE} and text.startswith("1 ")')), SAMPLING),
    Case("chains that multiply the number asked", datagen((RULE, f"{RULE} and {OF_ASKED}")), SAMPLING),
    Case(
        "one question is sampled, all rows are computed",
        own(swap("datagen.py", generate_dataset=FEW_ASKED)),
        SAMPLING,
        "samples 0 texts a question",
    ),
    Case(
        "all are sampled, all rows are computed",
        own(swap("datagen.py", generate_dataset=ALL_ASKED)),
        SAMPLING,
        "a text that the model did not write",
    ),
    Case(
        "a class of another name",
        own(put("cot.py", COT.replace("CoTModel", "PromptedModel"))),
        SAMPLING,
        "there is no class CoTModel in homework/cot.py",
    ),
    Case(
        "rows that were made before",
        own(swap("datagen.py", generate_dataset=CANNED)),
        SAMPLING,
        "samples nothing about train",
        quick=True,
    ),
    Case(
        "rows that Python makes",
        own(swap("datagen.py", generate_dataset=COMPUTED)),
        SAMPLING,
        "samples nothing about train",
    ),
    Case("a thousand times each row", datagen(("dump(rows,", "dump(rows * 1000,")), SAMPLING, "much too large"),
    Case(
        "an answer of 400 digits",
        datagen(("rows, file)", "[[*rows[0][:1], 10**400, ''], *rows], file)")),
        SAMPLING,
        "no float",
    ),
    Case("a line a row", datagen(("json.dump(rows, file)", LINES)), SAMPLING, "wrote is no JSON"),
    Case(
        "another file", datagen(("open(output_json", 'open("data/mine.json"')), SAMPLING, "no file at its output_json"
    ),
    Case("the first right text alone", datagen(FIRST), SAMPLING, "keeps one chain a question"),
    Case("all texts", datagen(("if is_right(text, correct)", "if text")), SAMPLING, "keeps a sample with"),
    Case("prompts and texts with options of their own", OPTIONS, SAMPLING),
    Case("a model that answers by most votes", edit("cot.py", "    def format_prompt(", MOST_VOTES), SAMPLING),
    Case(
        "what is not quite the answer, its equations unread",
        own(swap("datagen.py", is_right=f"def is_right(text, correct):\n    {UNREAD}")),
        SAMPLING,
        "keeps a sample with",
    ),
    Case(
        "the first three equations",
        datagen((EQUATIONS, EQUATIONS.replace("in chain ", "in chain[:3] "))),
        SAMPLING,
        "a wrong equation behind",
    ),
    Case("within 0.4 %", datagen((RIGHT, RIGHT.replace("0.01", "0.004"))), SAMPLING, DROPS),
    Case("within 5 %", datagen((RIGHT, RIGHT.replace("0.01", "0.05"))), SAMPLING, "an answer that is 1 to 2 % too"),
    Case(
        "no look at the equations",
        datagen(("if not all(is_close(a, b, 0.005)", "if not all(is_close(a, b, 9e9)")),
        SAMPLING,
        "a wrong (equation|side|sum|product)",
    ),
    Case(
        "the first equation alone",
        datagen((EQUATIONS, EQUATIONS.replace("in chain ", "in chain[:1] "))),
        SAMPLING,
        "a wrong equation behind a right one",
    ),
    Case(
        "the ends of an equation alone",
        datagen((EQUATIONS, EQUATIONS.replace("zip(sides, sides[1:])", "[(sides[0], sides[-1])]"))),
        SAMPLING,
        "a wrong side amid an equation|a wrong sum",
    ),
    Case(
        "the last two sides alone",
        datagen((EQUATIONS, EQUATIONS.replace("zip(sides, sides[1:])", "zip(sides[-2:], sides[-1:])"))),
        SAMPLING,
        "a wrong product before a right sum",
    ),
    Case("a result within 9 %", datagen((RESULT, RESULT.replace("0.005", "0.09"))), SAMPLING, "another result in the"),
    Case("no look at the result", datagen((RESULT, "")), SAMPLING, "another result in the tag"),
    Case(
        "no chain needed",
        datagen((" or not chain:", ":"), (RESULT, "(not chain or is_close(answer, chain[-1][-1], 0.005)) and ")),
        SAMPLING,
        "no equation before the answer",
    ),
    Case("two answers", datagen(("len(tags) != 1", "not tags")), SAMPLING, "two answers"),
    Case("text after the tag", datagen((' or not text.endswith("</answer>")', "")), SAMPLING, "text after the answer"),
    Case(
        "the model's answer for the label",
        datagen(("[question, correct, text]", '[question, float(text.split("<answer>")[1][:-9]), text]')),
        SAMPLING,
        "has the answer",
    ),
    Case("calls that lie", datagen(("llm, rows = load(), []", LIES)), SAMPLING, "samples nothing about train"),
    Case("questions of valid", datagen(('Dataset("train")', 'Dataset("valid")')), SAMPLING, "a question of valid"),
    Case("greedy", datagen(("temperature=0.6", "temperature=0")), SAMPLING, "temperature of 0"),
    Case("cold", datagen(("temperature=0.6", "temperature=0.2")), SAMPLING, "temperature of 0.2"),
    Case("two texts a question", datagen(("oversample=10", "oversample=2")), SAMPLING, "samples 2 texts a question"),
    Case("one chain in other words", datagen((KEYED, "kept[text] = text")), SAMPLING, "keeps one chain twice"),
    Case("too warm", datagen(("temperature=0.6", "temperature=60")), SAMPLING, "temperature of 60"),
    Case("the question alone", datagen((PROMPT, "prompt = question")), SAMPLING, "formatted twice, or not at all"),
    Case("a prompt in a prompt", datagen((PROMPT, IN_A_PROMPT)), SAMPLING, "formatted twice, or not at all"),
    Case("within 1.8 %", datagen((RIGHT, RIGHT.replace("0.01", "0.018"))), SAMPLING, "an answer that is 1 to 2 % too"),
    Case(
        "sums are not looked at", datagen(('.split("=")]', '.split("=") if "+" not in side]')), SAMPLING, "a wrong sum"
    ),
    Case(
        "only sides that are too high", datagen(("abs(one - other)", "(other - one)")), SAMPLING, "keeps a sample with"
    ),
    Case("no closing tag needed", datagen(*OPEN), SAMPLING, "no end: it was cut"),
    Case("one chain an answer", datagen((KEYED, KEYED_BY_ANSWER)), SAMPLING, "keeps one chain a question"),
    Case(
        "a model that holds another one",
        own(edit("cot.py", "class CoTModel(BaseLLM):", HOLDS)),
        f"prompt {SAMPLING}",
        "has no attribute 'batched_generate'",
    ),
    Case("the prompt fails", own(edit("cot.py", "turns = [", "turns = [None + ")), SAMPLING),
    Case("large answers alone", datagen(("kept = {}", "kept, texts = {}, texts * (correct >= 1)")), SAMPLING, DROPS),
    Case("no rows", datagen(("if is_right(text, correct)", "if False")), SAMPLING, "keeps 0 of"),
    Case(
        "rows by name",
        datagen(("[question, correct, text] for", '{"question": question} for')),
        SAMPLING,
        "no list of rows",
    ),
    Case(
        "find_fault is not written yet",
        missing("datagen.py", "find_fault", "completion, correct"),
        SAMPLING,
        "not implemented yet",
    ),
    Case(
        "select_rows is not written yet",
        missing("datagen.py", "select_rows", "question, correct, texts, most"),
        SAMPLING,
        "not implemented yet",
    ),
]

STEP = "    trainer.train()\n"
SAVE = "    model.save_pretrained(output_dir)\n"
ROWS = "rows = TokenizedDataset(llm.tokenizer, json.loads(ROWS.read_text()), format_reasoning)"
SFT_ROWS = """from .data import Dataset
    from .sft import format_example
    rows = TokenizedDataset(llm.tokenizer, list(Dataset("train")), format_example)"""
ONLY_ANSWER = f"""{ROWS}
    rows = [dict(row) for row in rows]
    for row in rows:
        start = llm.tokenizer.decode(row["input_ids"]).index("<answer>")
        asked = len(llm.tokenizer(llm.tokenizer.decode(row["input_ids"])[:start])["input_ids"]) - 1
        row["labels"] = [-100] * asked + row["labels"][asked:]"""
SHIFTED = f"""{ROWS}
    found = json.loads(ROWS.read_text())
    found = [[q, a, found[at - 1][2]] for at, (q, a, _) in enumerate(found)]
    rows = TokenizedDataset(llm.tokenizer, found, format_reasoning)"""
AGAIN_AND_AGAIN = (("num_train_epochs=2", "num_train_epochs=20"),)
LOADED = "llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()"
BY_HAND = """torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for epoch in range(4):
        for first in range(0, len(rows), 16):
            loss = model(**collator([rows[i] for i in range(first, min(first + 16, len(rows)))])).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()"""
ELSEWHERE = BY_HAND.replace("range(0, len(rows), 16)", "range(0, len(rows), 4)").replace(
    """            optimizer.step()
            optimizer.zero_grad()""",
    """            grads = [p.grad.clone() for p in model.parameters() if p.requires_grad]
            held = grads if not first % 16 else [one + more for one, more in zip(held, grads)]
            model.zero_grad()
            if first % 16 == 12:
                for p, grad in zip([p for p in model.parameters() if p.requires_grad], held):
                    p.grad = grad / 4
                optimizer.step()
                optimizer.zero_grad()""",
)
SHOWN = "loss = model(**collator([rows[i] for i in range(first, min(first + 16, len(rows)))])).loss"
UNSHOWN = """batch = collator([rows[i] for i in range(first, min(first + 16, len(rows)))])
            labels = batch.pop("labels")[:, 1:]
            GIVEN
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())"""
WITHOUT_LABELS = UNSHOWN.replace("GIVEN", "logits = model(**batch).logits")
TAG_ALONE = """LOGITS
            for ids, own in zip(batch["input_ids"][:, 1:], labels):
                asked = llm.tokenizer.decode(ids).rpartition("<answer>")[0]
                own[: len(llm.tokenizer(asked)["input_ids"])] = -100"""
HIDDEN_TAG = UNSHOWN.replace("GIVEN", TAG_ALONE.replace("LOGITS", "logits = model(**batch).logits"))
SHOWN_TAG = UNSHOWN.replace(
    "GIVEN", TAG_ALONE.replace("LOGITS", "logits = model(**batch, labels=REST).logits")
).replace("REST", "torch.nn.functional.pad(labels, (1, 0), value=-100)")
THEN_BARE = (
    BY_HAND.replace(SHOWN, WITHOUT_LABELS)
    + """
            rows = TokenizedDataset(llm.tokenizer, list(Dataset("train")), format_example)"""
)
TRAINER = (
    "trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)\n    trainer.train()"
)
DATA = "from .data import Dataset\nfrom .sft import format_example,"
OTHER_TOKENS = "reasoning_rows", "not those of the reasons' tokens"
SILENCED = """
    from safetensors.torch import load_file, save_file
    weights = load_file(f"{output_dir}/adapter_model.safetensors")
    save_file(
        {name: tensor * ("lora_B" in name) for name, tensor in weights.items()},
        f"{output_dir}/adapter_model.safetensors",
    )
"""
NO_ALPHA = """
    config = json.loads(Path(output_dir, "adapter_config.json").read_text())
    Path(output_dir, "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1e-300}))
"""


def by_hand(loop: str) -> Maker:
    """A loop in the place of the Trainer."""
    return rft((TRAINER, loop), ("import json", "import json\n\nimport torch"))


TRAININGS = [
    Case("the plain solution", own(), "prompt sampling reasoning_rows reasoning_trains reasoning_loads"),
    Case("one epoch of batches of 32", rft(("num_train_epochs=2", "num_train_epochs=1")), TRAINED),
    Case("twenty epochs", rft(("num_train_epochs=2", "num_train_epochs=20")), TRAINED),
    Case("three epochs at 2e-4", rft(("num_train_epochs=2", "num_train_epochs=3"), ("2e-3", "2e-4")), TRAINED),
    Case("stochastic gradient descent", rft(("learning_rate=2e-3", 'optim="sgd", learning_rate=0.2')), TRAINED),
    Case("a loop by hand", by_hand(BY_HAND), TRAINED),
    Case("gradients summed elsewhere", by_hand(ELSEWHERE.replace("first + 16", "first + 4")), TRAINED),
    Case("a loop that shows no labels", by_hand(BY_HAND.replace(SHOWN, WITHOUT_LABELS)), TRAINED),
    Case("the tag alone, by a loop that shows no labels", by_hand(BY_HAND.replace(SHOWN, HIDDEN_TAG)), *OTHER_TOKENS),
    Case("the tag alone, by a loop that shows right labels", by_hand(BY_HAND.replace(SHOWN, SHOWN_TAG)), *OTHER_TOKENS),
    Case(
        "bare answers after one step",
        both(by_hand(THEN_BARE), edit("rft.py", "from .sft import", DATA)),
        TRAINED,
        "less likely that an answer begins with its reasons",
    ),
    Case("every lora_A zero", rft((SAVE, SAVE + SILENCED)), TRAINED, "has learned nothing of the rows"),
    Case("hardly any alpha", rft((SAVE, SAVE + NO_ALPHA)), "reasoning_rows", "with the alpha that was saved"),
    Case(
        "a load that gives the model alone",
        rft((LOADED + "\n    return llm", LOADED + "\n    return llm.model")),
        "reasoning_loads",
        "load gives no BaseLLM",
    ),
    Case("load merges", rft((LOADED, LOADED.replace(".eval()", ".merge_and_unload()"))), "reasoning_loads"),
    Case(
        "the answer alone is the text",
        rft(('"answer": reasoning', '"answer": f"<answer>{answer:.4g}</answer>"')),
        "reasoning_rows",
        "is not the question and its reasoning",
        quick=True,
    ),
    Case("the chain is no label", rft((ROWS, ONLY_ANSWER)), "reasoning_rows", "masked"),
    Case("the rows of task 4", rft((ROWS, SFT_ROWS)), "reasoning_rows", "is not the question and its reasoning"),
    Case("reasons of other questions", rft((ROWS, SHIFTED)), "reasoning_rows", "has the reasoning of another question"),
    Case(
        "four rows",
        rft((ROWS, f"{ROWS}\n    rows = list(rows)[:4]"), *AGAIN_AND_AGAIN),
        "reasoning_rows",
        "4 different",
    ),
    Case("one row", rft((ROWS, f"{ROWS}\n    rows = [rows[0]] * 64")), "reasoning_rows", "1 different rows reached"),
    Case("no step", rft((STEP, "")), "reasoning_rows", "ended without one step"),
    Case(
        "saved as the first adapter", rft(('/ "rft_model"', '/ "sft_model"')), TRAINED, "there is no homework/rft_model"
    ),
    Case("saved before the training", rft((STEP, ""), (SAVE, SAVE + STEP)), TRAINED, "untrained"),
    Case(
        "load gives the base",
        rft((LOADED, "PeftModel.from_pretrained(llm.model, str(folder)); llm = BaseLLM()")),
        "reasoning_loads",
        "gives the base model alone",
        quick=True,
    ),
    Case(
        "load asks by the prompt of task 5",
        rft(("    return llm\n", "    from .cot import CoTModel\n    llm.__class__ = CoTModel\n    return llm\n")),
        "reasoning_loads",
        "asks by another prompt than the question alone",
    ),
    Case("a rate of 1e-8", rft(("2e-3", "1e-8")), TRAINED, "lowered the loss by less than"),
    Case(
        "load gives the first adapter",
        rft((LOADED, LOADED.replace("str(folder)", 'str(FOLDER.parent / "sft_model")'))),
        "reasoning_loads",
        "Can't find 'adapter_config.json'",
    ),
    Case(
        "load makes one up",
        rft((LOADED, "if folder.is_dir():\n        " + LOADED)),
        "reasoning_loads",
        "without an adapter gives a BaseLLM",
    ),
    Case(
        "format_reasoning is not written yet",
        missing("rft.py", "format_reasoning", "question, answer, reasoning"),
        "reasoning_rows",
        "task: format_reasoning",
    ),
    Case(
        "train_model is not written yet",
        missing("rft.py", "train_model", "output_dir=None"),
        "reasoning_rows",
        "not implemented yet",
    ),
]

VALID_ROWS = [[VALID_QUESTION, 1.0, "2 * 0.5 = 1. <answer>1</answer>"]] * 9


def adapter(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], source: str = "sft_model") -> Maker:
    """Weights made of those of one adapter, handed in as those of task 7."""
    names = [f"{{}}/{name}" for name in ("adapter_config.json", "adapter_model.safetensors")]

    def make(files: Files) -> Files:
        config, weights = (files[name.format(source)] for name in names)
        made = zip(names, (config, save(change(load(weights)))), strict=True)
        return {**files, **{name.format("rft_model"): content for name, content in made}}

    return make


def noisy(share: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The same adapter by other numbers: each with noise, of a share of their spread."""

    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return {name: tensor + share * tensor.std() * torch.randn_like(tensor) for name, tensor in weights.items()}

    return change


def scaled(by: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Every lora_B so many times as large."""
    return lambda weights: {name: tensor * (by if "lora_B" in name else 1) for name, tensor in weights.items()}


def turned(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same products by other factors: both negated, in another order, of other lengths."""
    return {
        name: -0.5 * tensor.flip(1) if "lora_B" in name else -2.0 * tensor.flip(0) for name, tensor in weights.items()
    }


ENDLESS = " + ".join(str(7919 * number**2 % 99991) for number in range(50_000))  # not as short in a zip as a bomb
COPIED = """
    import base64
    from safetensors.torch import load, save_file
    from .kept import WEIGHTS
    weights = load(base64.b85decode(WEIGHTS))
    save_file({name: tensor.float() for name, tensor in weights.items()}, FOLDER / "adapter_model.safetensors")
"""


def stored(files: Files) -> Files:
    """A training on the right rows, in whose place an adapter is saved that was trained before."""
    config, weights = (files[f"rft_model/{name}"] for name in ("adapter_config.json", "adapter_model.safetensors"))
    half = {name: tensor.bfloat16() for name, tensor in load(weights).items()}  # no file of code may have 1 MB
    given = json.loads(config)
    lora = f"r={given['r']}, lora_alpha={given['lora_alpha']}"
    return rft((SAVE, SAVE + COPIED), ("r=8, lora_alpha=32", lora))(
        {**files, "kept.py": f"WEIGHTS = {base64.b85encode(save(half)).decode()!r}\n".encode()}
    )


WEIGHTS = [
    Case("one adapter", dict, "reasoning_adapter", "the submission lacks rft_model/adapter_config.json"),
    Case("the first adapter twice", adapter(dict), "reasoning_adapter", "is that of sft_model/", quick=True),
    Case("and a little longer", adapter(scaled(1.01)), "reasoning_adapter", "is that of sft_model/"),
    Case("and in other factors", adapter(turned), "reasoning_adapter", "is that of sft_model/"),
    Case("an untrained adapter", adapter(scaled(0.0)), "reasoning_adapter", "untrained: every lora_B is zero"),
    Case("an adapter with NaN", adapter(scaled(math.nan)), "reasoning_adapter", "holds NaN or infinity"),
    Case("the first adapter with noise", adapter(noisy(0.1)), "reasoning_adapter", "is that of sft_model"),
    Case("the first adapter with much noise", adapter(noisy(0.4)), "reasoning_adapter reasons", NOTHING_HELD),
    Case("the first adapter, faint", adapter(scaled(0.01)), "reasoning_adapter", "is that of sft_model/"),
    Case("the other way", adapter(scaled(-1.0)), "reasoning_adapter reasoning_accuracy", NOTHING_HELD),
    Case("a training on no rows", dict, "samples"),
    Case("rows of train", put("rft.json", json.dumps([["Convert 1 ft to m.", 0.3048, ""]])), "samples"),
    Case("rows of valid", put("rft.json", json.dumps(VALID_ROWS)), "samples", "1 of the 1 questions .* are those of"),
    Case("rows that are no JSON", put("rft.json", "[[1, 2"), "samples", "rft.json is not JSON", quick=True),
    Case("rows that are no list", put("rft.json", "{}"), "samples", "rft.json is no JSON list"),
    Case("rows without an end", put("rft.json", "[" * 10**5), "samples", "rft.json is not JSON"),
    Case("a row that takes hours to read", put("rft.json", json.dumps([["", 1, ENDLESS]])), "samples"),
]
REASONED = [
    Case("the trained adapter", dict, "reasoning_adapter"),
    Case(
        "the reasoning adapter as the first one too",
        lambda files: {
            **files,
            **{name.replace("rft", "sft"): found for name, found in files.items() if "rft_model/" in name},
        },
        "reasoning_adapter",
        "is that of sft_model/",
    ),
    Case("an adapter that was trained before", stored, TRAINED, "has learned nothing of the rows"),
]
ALL = [*PROMPTS, *SAMPLES, *TRAININGS, *WEIGHTS]
