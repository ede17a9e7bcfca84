"""Tokenizers of three families, on which a right `tokenize` is right: the bundled one, and two made on the spot.

A submission that knows only the bundled one by heart fails on the others: one begins every text with <s> and writes
spaces as ▁, as SentencePiece does; the other is byte-level, with a padding token that is not its EOS.
"""

import functools
import random
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from grader import rubric
from grader.units import draw_questions

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
FAMILIES = ("bundled", "sentencepiece", "bytelevel")
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


@functools.cache
def make_families() -> dict[str, tuple[Any, dict[str, bytes]]]:
    """Each family's tokenizer and its files, by the family's name."""
    made = {"sentencepiece": sentencepiece(), "bytelevel": bytelevel()}
    families = {name: (tokenizer, files_of(tokenizer)) for name, tokenizer in made.items()}
    files = {name: (rubric.BASE / name).read_bytes() for name in TOKENIZER_FILES}
    return {"bundled": (AutoTokenizer.from_pretrained(rubric.BASE), files), **families}


def sentencepiece() -> PreTrainedTokenizerFast:
    """Spaces as ▁, <s> before every text; it pads with EOS."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    printable = [chr(code) for code in range(ord("!"), ord("~") + 1)]  # an exponent's + is in no text of the course
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, show_progress=False, initial_alphabet=printable
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return wrap(tokenizer, "</s>")


def bytelevel() -> PreTrainedTokenizerFast:
    """Bytes, numbers in groups, and a padding token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return wrap(tokenizer, "<pad>")


def corpus() -> list[str]:
    """Texts of the course to train a tokenizer on, always the same."""
    rng = random.Random(0)
    questions = draw_questions("train", 300, "families")
    return [f"{question.text} <answer>{rng.randrange(10**5)}</answer>" for question in questions]


def wrap(tokenizer: Tokenizer, padding: str) -> PreTrainedTokenizerFast:
    """A tokenizer as transformers gives it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=padding,
        chat_template=read_chat_template(),
    )  # fmt: skip


def read_chat_template() -> str:
    """The base model's chat template: without one, apply_chat_template is the library's error, not the student's."""
    return (rubric.BASE / "chat_template.jinja").read_text(encoding="utf-8")


def files_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, bytes]:
    """The files from which AutoTokenizer makes the same tokenizer again."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
