"""A plain right solution, as a student writes it: no guards of ours, so that the grader has to find a fault by itself.

plain(swap("sft.py", tokenize=WRONG))           # the plain solution with one function written otherwise
"""

from tests.submissions.recipe import Maker, both, edit, put

SFT = '''
"""Supervised fine-tuning."""

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from .base_llm import BaseLLM
from .data import Dataset

FOLDER = Path(__file__).parent / "sft_model"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def format_example(question, answer):
    return {"question": question, "answer": f"<answer>{float(answer):.4g}</answer>"}


def tokenize(tokenizer, question, answer):
    row = tokenizer(f"{question} {answer}{tokenizer.eos_token}")
    asked = len(tokenizer(question)["input_ids"])
    row["labels"] = [-100] * asked + row["input_ids"][asked:]
    return row


class TokenizedDataset:
    def __init__(self, tokenizer, data, format_fn):
        self.tokenizer, self.data, self.format_fn = tokenizer, data, format_fn

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return tokenize(self.tokenizer, **self.format_fn(*self.data[index]))


def train_model(output_dir=str(FOLDER), **kwargs):
    llm = BaseLLM()
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS, r=8, lora_alpha=32, bias="none")
    model = get_peft_model(llm.model, config)
    model.enable_input_require_grads()
    rows = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)
    arguments = TrainingArguments(
        output_dir=output_dir, num_train_epochs=2, per_device_train_batch_size=32, learning_rate=2e-3, logging_steps=1,
        save_strategy="no", report_to="none",
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorForSeq2Seq(llm.tokenizer)
    )
    trainer.train()
    model.save_pretrained(output_dir)


def load(folder=FOLDER):
    llm = BaseLLM()
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
    return llm
'''

LLM = '''
"""The base model."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

CHECKPOINT = str(Path(__file__).parent.parent / "data" / "base_model")


class BaseLLM:
    def __init__(self, checkpoint=CHECKPOINT):
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
        self.device = self.model.device

    def format_prompt(self, question):
        return question

    def parse_answer(self, text):
        try:
            after = text.split("<answer>")[1]
            return float(after[: after.index("</answer>")])
        except (IndexError, ValueError):
            return float("nan")

    def generate(self, prompt):
        return self.batched_generate([prompt])[0]

    @torch.no_grad()
    def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
        self.tokenizer.padding_side = "left"
        inputs = self.tokenizer(prompts, padding=True, return_tensors="pt").to(self.device)
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        ids = self.model.generate(
            **inputs, max_new_tokens=50, num_return_sequences=num_return_sequences or 1,
            eos_token_id=self.tokenizer.eos_token_id, pad_token_id=self.tokenizer.eos_token_id, **sampling,
        )
        new = ids[:, inputs["input_ids"].shape[1]:]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        if num_return_sequences is None:
            return texts
        return [texts[i : i + num_return_sequences] for i in range(0, len(texts), num_return_sequences)]

    def answer(self, *questions):
        prompts = [self.format_prompt(question) for question in questions]
        return [self.parse_answer(text) for text in self.batched_generate(prompts)]
'''


PADDED = """
def tokenize(tokenizer, question, answer):
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.eos_token
    row = tokenizer(f"{question} {answer}{tokenizer.eos_token}", padding="max_length", truncation=True, max_length=128)
    asked = len(tokenizer(question)["input_ids"])
    labels = [-100] * asked + row["input_ids"][asked:]
    row["labels"] = [label if seen else -100 for label, seen in zip(labels, row["attention_mask"])]
    return row
"""


def plain(*changes: Maker) -> Maker:
    """The plain solution in the place of the reference's two files, and then some changes."""
    return both(put("sft.py", SFT), put("base_llm.py", LLM), *changes)


def sft(old: str, new: str) -> Maker:
    """The plain solution with other words in sft.py."""
    return plain(edit("sft.py", old, new))


def llm(old: str, new: str) -> Maker:
    """The plain solution with other words in base_llm.py."""
    return plain(edit("base_llm.py", old, new))
