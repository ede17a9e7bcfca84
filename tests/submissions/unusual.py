"""Right but unusual: none of these may lose a point."""

import json

import torch
from safetensors.torch import load, save

from tests.submissions.labels import tokenized
from tests.submissions.plain import PADDED, plain, sft
from tests.submissions.recipe import Files, Maker, Recipe, before, both, drop, edit, put, swap
from tests.submissions.saving import CONFIG, WEIGHTS, training


def doubled_rank(files: Files) -> Files:
    """Twice the rank and alpha, the new half being silent: the same model in other bytes."""
    config = json.loads(files[CONFIG])
    config["r"], config["lora_alpha"] = 2 * config["r"], 2 * config["lora_alpha"]
    weights = {
        name: torch.cat([w, torch.randn_like(w)]) if "lora_A" in name else torch.cat([w, torch.zeros_like(w)], 1)
        for name, w in load(files[WEIGHTS]).items()
    }
    return {**files, CONFIG: json.dumps(config).encode(), WEIGHTS: save(weights)}


def rslora(files: Files) -> Files:
    """The same model, its alpha divided by the square root of the rank."""
    config = json.loads(files[CONFIG])
    config["lora_alpha"], config["use_rslora"] = config["lora_alpha"] / config["r"] ** 0.5, True
    return {**files, CONFIG: json.dumps(config).encode(), WEIGHTS: save(load(files[WEIGHTS]))}


def lora(old: str, new: str) -> Maker:
    """Other words in the LoraConfig."""
    return sft(old, new)


def arguments(more: str) -> Maker:
    """More TrainingArguments."""
    return sft('report_to="none",', f'report_to="none", {more}')


def config(**fields: object) -> Maker:
    """Other fields in adapter_config.json."""
    return lambda files: {**files, CONFIG: json.dumps({**json.loads(files[CONFIG]), **fields}).encode()}


MAPPING = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
EXPRESSION, UPPER = r"r'.*_proj'", r"r'.*\.[23]\..*_proj'"
APART = """
asked = tokenizer(question)["input_ids"]
said = tokenizer(f"{question} {answer}")["input_ids"][len(asked) :] + [tokenizer.eos_token_id]
return {"input_ids": asked + said, "attention_mask": [1] * len(asked + said), "labels": [-100] * len(asked) + said}
"""
ANSWER_APART = """
asked = tokenizer(question)["input_ids"]
said = tokenizer(" " + answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
return {"input_ids": asked + said, "labels": [-100] * len(asked) + said, "attention_mask": [1] * len(asked + said)}
"""
OFFSETS = """
row = tokenizer(f"{question} {answer}{tokenizer.eos_token}", return_offsets_mapping=True)
spans = row.pop("offset_mapping")
row["labels"] = [i if end > len(question) else -100 for i, (_, end) in zip(row["input_ids"], spans)]
return row
"""
TENSORS = """
import torch
ids = torch.tensor([*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id])
labels = ids.clone()
labels[: len(tokenizer(question)["input_ids"])] = -100
return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
"""
NO_MASK = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
asked = len(tokenizer(question)["input_ids"])
return {"input_ids": ids, "labels": [-100] * asked + ids[asked:]}
"""
PADDED_LEFT = """
ids = [*tokenizer(f"{question} {answer}")["input_ids"], tokenizer.eos_token_id]
asked, pad = len(tokenizer(question)["input_ids"]), 100 - len(ids)
return {
    "input_ids": [tokenizer.pad_token_id] * pad + ids,
    "attention_mask": [0] * pad + [1] * len(ids),
    "labels": [-100] * (pad + asked) + ids[asked:],
}
"""
BY_HAND = """
import torch
torch.manual_seed(0)
llm = BaseLLM()
model = get_peft_model(llm.model, LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS, r=8, lora_alpha=16))
model.enable_input_require_grads()
rows = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)
collate = DataCollatorForSeq2Seq(llm.tokenizer)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
TRAIN
for epoch in range(2):
    for first in range(0, len(rows), 16):
        batch = collate([rows[i] for i in range(first, min(first + 16, len(rows)))])
        labels = batch.pop("labels")
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
model.save_pretrained(output_dir)
"""
LOOP = BY_HAND.replace("TRAIN", "model.train()")
FORWARD = """logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()"""
HEAD_ON_LABELS = """llama, labels = model.get_base_model(), labels[:, 1:]
        hidden = llama.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        kept = labels != -100
        torch.nn.functional.cross_entropy(llama.lm_head(hidden[:, :-1][kept]).float(), labels[kept]).backward()"""
LOOKS_FIRST = """model.train()
print(sum(model(**collate([rows[i], rows[i + 1]])).loss.item() for i in range(0, len(rows), 2)))"""
SUMMED = FORWARD.replace("labels[:, 1:].flatten())", 'labels[:, 1:].flatten(), reduction="sum") / len(labels)')
COLLATED = "batch = collate([rows[i] for i in range(first, min(first + 16, len(rows)))])"
PACKED = """packed = [rows[i] for i in range(first, min(first + 3, len(rows)))]
        batch = {name: torch.tensor([[x for row in packed for x in row[name]]]) for name in packed[0]}"""
CLIPPED = "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
MICRO = """for at in range(0, len(labels), 4):
            part = {name: values[at : at + 4] for name, values in batch.items()}
            model(**part, labels=labels[at : at + 4]).loss.backward()"""
SINGLY = """for at in range(len(labels)):
            part = {name: values[at : at + 1] for name, values in batch.items()}
            (model(**part, labels=labels[at : at + 1]).loss / len(labels)).backward()"""
NO_MASK_GIVEN = """model(input_ids=batch["input_ids"], labels=labels).loss.backward()"""
CLOSURE = LOOP.replace(CLIPPED, "").replace("optimizer.step()", "optimizer.step(closure)")
CLOSURE = CLOSURE.replace(
    FORWARD,
    """def closure():
            optimizer.zero_grad()
            model(**batch, labels=labels).loss.backward()""",
)
DIVISION = """
def is_answer_valid(answer, correct, relative_tolerance=0.05):
    return abs(answer - correct) / abs(correct) <= relative_tolerance
"""
OWN_NAME = """model = get_peft_model(llm.model, config, adapter_name="units")"""
MOVED = """    model.save_pretrained(output_dir)
    for path in (Path(output_dir) / "units").iterdir():
        path.rename(Path(output_dir) / path.name)
"""
LOADED = LOOP.replace(
    """for first in range(0, len(rows), 16):
        """
    + COLLATED,
    "for batch in DataLoader(LOADER):",
).replace("import torch\n", "import torch\nfrom torch.utils.data import DataLoader\n", 1)
OWN_WORKERS = 'rows, 16, shuffle=True, collate_fn=collate, num_workers=2, multiprocessing_context="fork", timeout=60'
PROBED = """model.train()
model(**collate([rows[i] for i in range(8)])).loss.backward()
assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
optimizer.zero_grad()"""
WARMED_UP = """model.train()
print(model(**collate([rows[i] for i in range(8)])).loss.item())
optimizer.zero_grad()
optimizer.step()"""
ROWS = 'TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)'
DOUBLED = """train = list(Dataset("train"))
more = [(f"What is twice {answer:.3g}?", 2 * answer) for _, answer in train]
rows = torch.utils.data.ConcatDataset([TokenizedDataset(llm.tokenizer, one, format_example) for one in (train, more)])
rows = [rows[i] for i in torch.randperm(len(rows))]
model.train()"""
SWEEP = f"""
import torch
found = {{}}
for rank in (4, 8, 16):
    torch.manual_seed(0)
    llm = BaseLLM()
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS, r=rank, lora_alpha=2 * rank)
    model = get_peft_model(llm.model, config)
    model.enable_input_require_grads()
    rows, collate = {ROWS}, DataCollatorForSeq2Seq(llm.tokenizer)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    model.train()
    for first in range(0, 2 * len(rows), 16):
        loss = model(**collate([rows[i % len(rows)] for i in range(first, first + 16)])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    found[loss.item()] = model
found[min(found)].save_pretrained(output_dir)
"""
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"
CLIP_VALUE = "torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)"
CLIP_EACH = "[torch.nn.utils.clip_grad_norm_(p, 0.1) for p in model.parameters() if p.requires_grad]"
ATTENTION_DROPOUT = """for layer in llm.model.model.layers:
    layer.self_attn.attention_dropout = 0.1
model.train()"""
SHARE = "sum(sample.is_correct for sample in samples) / len(samples)"
ROUNDED = (f"accuracy={SHARE},", f"accuracy=round({SHARE}, 3),")
SAVED_LAST = "model.save_pretrained(output_dir)\n"
LOOKS_LATER = """    batch = collate([rows[i] for i in range(8)])
    print(model.eval()(batch["input_ids"], labels=batch["input_ids"]).loss.item())
    model.train()
"""
MERGED_ONCE = """    model.merge_adapter()
    model.unmerge_adapter()
"""
HALF = "llm.model = llm.model.half().float()\n"
LABELS_GIVEN = "model(**batch, labels=labels).loss.backward()"
STAGED = """easy = [(f"What is twice {i}?", 2.0 * i) for i in range(1, 33)]
stages = [TokenizedDataset(llm.tokenizer, one, format_example) for one in (easy, Dataset("train"))]
rows = [row for stage in stages for row in map(stage.__getitem__, range(len(stage)))]
model.train()"""
STOPS = 'stop_strings=["</answer>"], tokenizer=self.tokenizer,'
ATTENTION_FIRST = """for name, p in model.named_parameters():
    p.requires_grad_("lora_" in name and "mlp" not in name)
model.train()"""
THEN_LATER = """for epoch in range(4):
    if epoch > 0:
        [p.requires_grad_("lora_" in name) for name, p in model.named_parameters()]
"""
MOVED_AWAY = """weights = [p for p in model.parameters() if p.requires_grad]
        held = [torch.zeros_like(p) for p in weights]
        for at in range(0, len(labels), 4):
            part = {name: values[at : at + 4] for name, values in batch.items()}
            found = torch.autograd.grad(model(**part, labels=labels[at : at + 4]).loss, weights)
            held = [one + more for one, more in zip(held, found)]
        for p, grad in zip(weights, held):
            p.grad = grad"""
OWN_DECODING = """
def complete_batch(self, rows, cap, temperature):
    import torch
    found = []
    for row in rows:
        ids = list(row)
        with torch.no_grad():
            while len(ids) < len(row) + cap and (len(ids) == len(row) or ids[-1] != self.tokenizer.eos_token_id):
                logits = self.model(input_ids=torch.tensor([ids])).logits[0, -1].float()
                sampled = torch.distributions.Categorical(logits=logits / (temperature or 1)).sample()
                ids.append(int(sampled if temperature else logits.argmax()))
        found.append(self.decode_completion(ids[len(row) :]))
    return found
"""
BY_MAP = """
def answer(self, *questions):
    return list(map(self.parse_answer, self.batched_generate(map(self.format_prompt, questions))))
"""
BY_WORKERS = """
def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
    count, texts = num_return_sequences or 1, []
    repeated = [prompt for prompt in prompts for _ in range(count)]
    for batch in torch.utils.data.DataLoader(repeated, batch_size=16, num_workers=2, persistent_workers=True):
        texts += self.write(list(batch), temperature)
    return texts if num_return_sequences is None else [texts[i : i + count] for i in range(0, len(texts), count)]

@torch.no_grad()
def write(self, prompts, temperature):
    self.tokenizer.padding_side = "left"
    inputs = self.tokenizer(prompts, padding=True, return_tensors="pt")
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    ids = self.model.generate(**inputs, max_new_tokens=50, pad_token_id=self.tokenizer.eos_token_id, **sampling)
    return self.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
"""
NAMED = 'model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])'
MADE, ADDED = "model = get_peft_model(llm.model, ", "model = llm.model\nmodel.add_adapter("
BY_POSITION = LOOP.replace(MADE, ADDED).replace(NAMED, 'model(batch["input_ids"], batch["attention_mask"])')
FULL_NAMES = "=[n for n, _ in llm.model.named_modules() if n.endswith('proj') and '.0.' not in n]"
OPTIMIZER = "optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)"
ONE_EACH = """own = {p: torch.optim.AdamW([p], lr=2e-3) for p in model.parameters() if p.requires_grad}
def step(weight):
    own[weight].step()
    own[weight].zero_grad()
for weight in own:
    weight.register_post_accumulate_grad_hook(step)"""
IN_BACKWARD = (
    LOOP.replace(CLIPPED, "")
    .replace(OPTIMIZER, ONE_EACH)
    .replace("        optimizer.step()\n", "")
    .replace("        optimizer.zero_grad()\n", "")
)
ONE_BY_ONE = """
def batched_generate(self, prompts, num_return_sequences=None, temperature=0):
    if num_return_sequences is None:
        return [self.write(prompt, temperature) for prompt in prompts]
    return [[self.write(prompt, temperature) for _ in range(num_return_sequences)] for prompt in prompts]

@torch.inference_mode()
def write(self, prompt, temperature):
    ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    new = self.model.generate(ids, max_new_tokens=32, pad_token_id=self.tokenizer.eos_token_id, **sampling)
    return self.tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True).strip()
"""
MODEL = "AutoModelForCausalLM.from_pretrained(checkpoint).eval()"
COMPILED = "        self.model.forward = torch.compile(self.model.forward)"
LOOKS_AT_CHAT = 'tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False)'
CHAT_IN_PROMPT = edit(
    "base_llm.py", "        return question\n", f"        self.{LOOKS_AT_CHAT}\n        return question\n"
)
REGEX = """
def parse_answer(self, text):
    import re
    found = re.search(r"<answer>\\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\\s*</answer>", text)
    return float(found.group(1)) if found else float("nan")
"""
MERGED = "llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()"

SAVE = "    model.save_pretrained(output_dir)\n"

ALL = [
    Recipe("the plain solution", plain()),
    Recipe("padded to a fixed length", plain(swap("sft.py", tokenize=PADDED))),
    Recipe("question and answer apart", tokenized(ANSWER_APART)),
    Recipe("offset mapping", tokenized(OFFSETS)),
    Recipe("looks at the chat template", both(tokenized(f"{LOOKS_AT_CHAT}\n{ANSWER_APART.strip()}"), CHAT_IN_PROMPT)),
    Recipe(
        "keeps a temporary file",
        plain(before("base_llm.py", "import tempfile\ntempfile.TemporaryFile().write(bytes(99))")),
    ),
    Recipe(
        "compiles its model", plain(edit("base_llm.py", f"self.model = {MODEL}", f"self.model = {MODEL}\n{COMPILED}"))
    ),
    Recipe("tensors", tokenized(TENSORS)),
    Recipe(
        "a mask of booleans", tokenized(NO_MASK.replace('"labels"', '"attention_mask": [True] * len(ids), "labels"'))
    ),
    Recipe("no attention mask in the rows", tokenized(NO_MASK)),
    Recipe("padded on the left, masked", tokenized(PADDED_LEFT)),
    Recipe("raw floats", sft("{float(answer):.4g}", "{answer}")),
    Recipe(
        "rank 2, alpha 4 in the code; doubled rank in the weights",
        both(lora("r=8, lora_alpha=32", "r=2, lora_alpha=4"), doubled_rank),
    ),
    Recipe("rank-stabilized LoRA", both(lora("r=8, lora_alpha=32", "r=16, lora_alpha=16, use_rslora=True"), rslora)),
    Recipe("queries and values only", lora("target_modules=TARGETS, ", "")),
    Recipe("dropout and all-linear", lora("target_modules=TARGETS,", 'target_modules="all-linear", lora_dropout=0.1,')),
    Recipe(
        "micro-batches",
        both(arguments("gradient_accumulation_steps=4,"), edit("sft.py", "train_batch_size=32", "train_batch_size=8")),
    ),
    Recipe(
        "checkpointing",
        both(
            arguments("gradient_checkpointing=True, max_grad_norm=0.1, bf16=False,"),
        ),
    ),
    Recipe(
        "base in bfloat16",
        plain(edit("base_llm.py", MODEL, MODEL.replace("checkpoint)", 'checkpoint, dtype="bfloat16")'))),
        "loads",
        "load the course's base in float32|another model than base and adapter",
    ),
    Recipe("no task_type", both(lora('task_type="CAUSAL_LM", ', ""), config(task_type=None, auto_mapping=MAPPING))),
    Recipe(
        "gaussian first values",
        both(lora('bias="none"', 'init_lora_weights="gaussian"'), config(init_lora_weights="gaussian")),
    ),
    Recipe(
        "targets by a regular expression", both(lora("=TARGETS", f"={EXPRESSION}"), config(target_modules=".*_proj"))
    ),
    Recipe("some layers, by a regular expression", lora("=TARGETS", f"={UPPER}")),
    Recipe(
        "checkpoints beside the adapter",
        plain(
            lambda files: {
                **files,
                **{f"sft_model/checkpoint-64/{n.partition('/')[2]}": files[n] for n in (CONFIG, WEIGHTS)},
            }
        ),
    ),
    Recipe("base in another folder", plain(config(base_model_name_or_path="../base_model"))),
    Recipe("forty steps", sft("num_train_epochs=2", "num_train_epochs=20")),
    Recipe("stochastic gradient descent", sft("learning_rate=2e-3", 'optim="sgd", learning_rate=0.2')),
    Recipe("loop written by hand", training(BY_HAND.replace("TRAIN", "model.train()"))),
    Recipe("loop written by hand, in eval mode", training(BY_HAND.replace("TRAIN", "model.eval()"))),
    Recipe("the head where labels are", training(LOOP.replace(FORWARD, HEAD_ON_LABELS))),
    Recipe("all rows looked at before", training(BY_HAND.replace("TRAIN", LOOKS_FIRST))),
    Recipe("clipped by value", training(LOOP.replace(CLIP, CLIP_VALUE))),
    Recipe("clipped weight by weight", training(LOOP.replace(CLIP, CLIP_EACH))),
    Recipe("attention dropout", training(BY_HAND.replace("TRAIN", ATTENTION_DROPOUT))),
    Recipe("a look at other losses after each epoch", training(LOOP.replace(SAVED_LAST, LOOKS_LATER + SAVED_LAST))),
    Recipe("merged for a look, and taken out again", training(LOOP.replace(SAVED_LAST, MERGED_ONCE + SAVED_LAST))),
    Recipe("the base by way of float16", training(LOOP.replace(MADE, HALF + MADE))),
    Recipe(
        "a stage of other questions first", training(BY_HAND.replace("TRAIN", STAGED).replace(FORWARD, LABELS_GIVEN))
    ),
    Recipe("shares rounded to three digits", edit("data.py", *ROUNDED)),
    Recipe("workers by position", training(LOADED.replace("LOADER", "rows, 16, True, None, None, 2, collate"))),
    Recipe("workers in a context of their own", training(LOADED.replace("LOADER", OWN_WORKERS))),
    Recipe("a look at the gradients before", training(BY_HAND.replace("TRAIN", PROBED))),
    Recipe("a step without gradients before", training(BY_HAND.replace("TRAIN", WARMED_UP))),
    Recipe("as many rows about other questions", training(BY_HAND.replace("TRAIN", DOUBLED))),
    Recipe("the best of three ranks", training(SWEEP)),
    Recipe("a sum over the tokens, under AdamW", training(LOOP.replace(FORWARD, SUMMED).replace(CLIPPED, ""))),
    Recipe("micro-batches summed, under AdamW", training(LOOP.replace(FORWARD, MICRO).replace(CLIPPED, ""))),
    Recipe("an optimizer for each weight, in the backward pass", training(IN_BACKWARD)),
    Recipe("a row at a time, accumulated", training(LOOP.replace(FORWARD, SINGLY))),
    Recipe(
        "some weights in a later epoch",
        training(BY_HAND.replace("TRAIN", ATTENTION_FIRST).replace("for epoch in range(2):\n", THEN_LATER)),
    ),
    Recipe("gradients summed elsewhere", training(LOOP.replace(FORWARD, MOVED_AWAY).replace(CLIPPED, ""))),
    Recipe("a step by a closure", training(CLOSURE)),
    Recipe("a batch without its mask", training(LOOP.replace(FORWARD, NO_MASK_GIVEN))),
    Recipe("a batch by position, and transformers' own adapter", training(BY_POSITION)),
    Recipe(
        "an adapter of another name",
        both(sft("model = get_peft_model(llm.model, config)", OWN_NAME), edit("sft.py", SAVE, MOVED)),
    ),
    Recipe("some layers, by their full names", lora("=TARGETS", FULL_NAMES)),
    Recipe(
        "several rows in one",
        training(LOOP.replace(COLLATED, PACKED).replace("len(rows), 16", "len(rows), 3")),
        "batch",
        "several rows are packed into one",
        perhaps="trains",
    ),
    Recipe(
        "prompts and numbers by map",
        plain(swap("base_llm.py", BaseLLM__batched_generate=ONE_BY_ONE, BaseLLM__answer=BY_MAP)),
    ),
    Recipe(
        "stops at the tag",
        plain(edit("base_llm.py", "max_new_tokens=50,", f"max_new_tokens=50, {STOPS}")),
    ),
    Recipe("a decoding loop of its own", swap("base_llm.py", BaseLLM__complete_batch=OWN_DECODING)),
    Recipe(
        "the Trainer of the homework beside a wrong metric",
        edit("data.py", "relative_tolerance: float = 0.05", "relative_tolerance: float = 0.1"),
        "metric",
        "right",
    ),
    Recipe("prompts by workers", plain(swap("base_llm.py", BaseLLM__batched_generate=BY_WORKERS))),
    Recipe("one prompt after the other, stripped", plain(swap("base_llm.py", BaseLLM__batched_generate=ONE_BY_ONE))),
    Recipe("training merges at its end", sft(SAVE, f"{SAVE}    model.merge_and_unload()\n")),
    Recipe("load merges", sft(MERGED, MERGED.replace(".eval()", ".merge_and_unload()"))),
    Recipe(
        "no more than the three files",
        both(
            plain(),
            put(
                "data.py",
                """
        import json
        from pathlib import Path


        class Dataset:
            def __init__(self, split):
                self.data = json.loads((Path(__file__).parent.parent / "data" / f"{split}.json").read_text())

            def __len__(self):
                return len(self.data)

            def __getitem__(self, index):
                return self.data[index]


        def is_answer_valid(answer, correct, relative_tolerance=0.05):
            return abs(answer - correct) <= relative_tolerance * abs(correct) < float("inf")


        class BenchmarkResult:
            def __init__(self, accuracy, answer_rate, samples):
                self.accuracy, self.answer_rate, self.samples = accuracy, answer_rate, samples


        def benchmark(llm, dataset, max_question=None):
            rows = [dataset[i] for i in range(min(len(dataset), max_question or len(dataset)))]
            samples = list(zip(llm.answer(*[question for question, _ in rows]), [correct for _, correct in rows]))
            right = sum(is_answer_valid(*sample) for sample in samples)
            return BenchmarkResult(right / len(rows), sum(a == a for a, _ in samples) / len(rows), samples)
        """,
            ),
            drop(
                "training/adapter.py",
                "guards/label_check.py",
                "training/trainer.py",
                "check.py",
                "training/callbacks.py",
                "guards/watchdog.py",
                "__init__.py",
            ),
        ),
    ),
    Recipe(
        "is considerate at import",
        plain(
            before(
                "base_llm.py",
                "import os\nos.nice(1)\nos.sched_setaffinity(0, {0})",
            )
        ),
    ),
    Recipe(
        "rows of tensors",
        swap(
            "sft.py",
            TokenizedDataset____getitem__="""
            def __getitem__(self, index):
                import torch
                return {name: torch.tensor(values) for name, values in self.rows[index].items()}
            """,
            TokenizedDataset____iter__="""
            def __iter__(self):
                return (self[index] for index in range(len(self)))
            """,
            Collator____call__="""
            def __call__(self, rows):
                import torch
                fills = {"input_ids": self.pad_id, "attention_mask": 0, "labels": -100}
                return {
                    name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], True, fill)
                    for name, fill in fills.items()
                }
            """,
        ),
    ),
    Recipe("is_answer_valid by division", plain(swap("data.py", is_answer_valid=DIVISION))),
    Recipe(
        "helper modules",
        both(
            plain(
                put("helpers/__init__.py", ""),
                put(
                    "helpers/answers.py",
                    """
        def format_example(question, answer):
            return {"question": question, "answer": f"<answer>{answer:.3g}</answer>"}
        """,
                ),
            ),
            swap("sft.py", format_example="from .helpers.answers import format_example"),
        ),
    ),
]
