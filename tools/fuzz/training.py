"""Mutators of the collator, the recipe, the loss and its gradients, the number format, and load."""

import random

from tests.submissions.numerics import callback, trainer
from tests.submissions.plain import plain, sft
from tests.submissions.recipe import Files, Maker, both, edit
from tests.submissions.saving import SAVED, loading
from tools.fuzz.cases import Case, Mutator, Variant, case_of, chance

TRAINING = "batch gradients input_gradients trains"
COLLATOR = """
import torch


class OwnCollator:
    def __init__(self, tokenizer):
        self.pad = tokenizer.eos_token_id

    def __call__(self, rows):
        fills = {"input_ids": FILL, "attention_mask": BIT, "labels": LABEL}
        width = max(len(row["input_ids"]) for row in rows)
        width += WIDER
        batch = {name: [] for name in fills}
        for row in rows:
            for name, fill in fills.items():
                missing = [fill] * (width - len(row["input_ids"]))
                values = list(row[name])
                batch[name].append(SIDE)
        batch = {name: torch.tensor(values) for name, values in batch.items()}
        CHANGE
        return batch


def train_model("""
SIDES = {"right": "values + missing", "left": "missing + values"}


def collated(side: str, **parts: str) -> Maker:
    """The plain solution with a collator of its own."""
    filled = {
        "FILL": "self.pad",
        "BIT": "0",
        "LABEL": "-100",
        "WIDER": "0",
        "SIDE": SIDES[side],
        "CHANGE": "pass",
        **parts,
    }
    source = COLLATOR
    for name, text in filled.items():
        source = source.replace(name, text)
    return both(
        plain(edit("sft.py", "def train_model(", source.strip("\n"))),
        edit("sft.py", "DataCollatorForSeq2Seq(llm.tokenizer)", "OwnCollator(llm.tokenizer)"),
    )


def collator(rng: random.Random, files: Files) -> Case:
    """Batches: padded on either side, masked, their labels kept; or not."""
    side, wider = (
        rng.choice(("right", "right", "left")),
        rng.choice(("0", f"{rng.randrange(1, 9)}", "-width % 8", "max(0, 100 - width)")),
    )
    at = rng.randrange(0, 4)
    changes = (
        ({}, ""), ({}, ""), ({"FILL": rng.choice(("0", "5"))}, ""),
        ({"CHANGE": "batch['labels'][batch['attention_mask'] == 0] = -100"}, ""),
        ({"LABEL": "self.pad"}, "batch"), ({"LABEL": "0"}, "batch"), ({"LABEL": "-1"}, "batch"),
        ({"BIT": "1"}, "batch" if side == "left" else ""),
        ({"CHANGE": "del batch['attention_mask']"}, "batch" if side == "left" else ""),
        ({"CHANGE": "batch['labels'] = batch['input_ids'].clone()"}, "batch"),
        ({"CHANGE": "batch['labels'] = batch['input_ids'].masked_fill(batch['attention_mask'] == 0, -100)"}, "batch"),
        ({"CHANGE": "batch['labels'][batch['labels'] == self.pad] = -100"}, "batch"),
        ({"CHANGE": "batch['labels'] = batch['labels'].roll(1, 1)"}, "batch"), ({"CHANGE": "batch['labels'] = batch['labels'].roll(-1, 1)"}, "batch"),
        ({"CHANGE": f"batch = {{name: values[:, : {rng.randrange(6, 20)}] for name, values in batch.items()}}"}, "batch"),
        ({"CHANGE": "batch['labels'][:] = -100"}, "batch"),
        ({"CHANGE": f"batch['labels'][{at}] = batch['labels'][{at + 1}]"}, "batch"),
        ({"CHANGE": f"start = int((batch['labels'][{at}] != -100).nonzero()[0])\n        batch['labels'][{at}, start] = -100"}, "batch"),
        ({"CHANGE": f"batch['input_ids'][{at}, :] = batch['input_ids'][{at + 1}]"}, "batch"),
    )  # fmt: skip
    parts, failing = rng.choice(changes)
    if any(parts.get(name) for name in ("LABEL",)) and wider == "0":
        wider = "2"  # so that some padding is there
    make = collated(side, WIDER=wider, **parts)
    words = f"collator pads on the {side}, wider by {wider}, {parts or 'right'}"
    # Padding that is seen behind the answer changes no loss, and is no right mask either.
    is_seen = not failing and (parts.get("BIT") == "1" or "del batch" in parts.get("CHANGE", ""))
    perhaps = TRAINING if is_seen else "trains" if failing else ""
    return case_of(Variant(words, make, failing, perhaps), files)


ARGUMENTS = "num_train_epochs=2, per_device_train_batch_size=32, learning_rate=2e-3, logging_steps=1,\n"
LORA = 'target_modules=TARGETS, r=8, lora_alpha=32, bias="none"'


def recipe(rng: random.Random, files: Files) -> Case:
    """Right recipes: optimizer, rate, schedule, batch, rank, layers."""
    batch, accumulate = rng.choice((4, 8, 16, 32)), rng.choice((1, 1, 1, 2, 4))
    batch = min(batch, 64 // (2 * accumulate))
    steps = 64 // (batch * accumulate)
    epochs = max(rng.choice((1, 2, 3)), -(-4 // steps))
    name, low, high = rng.choice((
        ("adamw_torch", 1e-3, 5e-3), ("adamw_torch_fused", 1e-3, 5e-3), ("adafactor", 2e-3, 1e-2), ("sgd", 0.05, 0.3),
        ("rmsprop", 3e-4, 1e-3), ("adagrad", 3e-3, 2e-2),
    ))  # fmt: skip
    rate = round(rng.uniform(low, high), 5)
    more = rng.sample((
        f'lr_scheduler_type="{rng.choice(("linear", "cosine", "constant", "polynomial", "constant_with_warmup"))}"',
        "warmup_steps=1", f"weight_decay={rng.choice((0.0, 0.01, 0.1))}", f"max_grad_norm={rng.choice((0.1, 0.5, 1.0, 10.0))}",
        f"seed={rng.randrange(1000)}", 'train_sampling_strategy="group_by_length"', "dataloader_num_workers=2", "disable_tqdm=True",
        "gradient_checkpointing=True", "bf16=False", "use_cpu=True", f"data_seed={rng.randrange(1000)}", "dataloader_pin_memory=False",
        "dataloader_drop_last=True", "logging_first_step=True", "remove_unused_columns=False", "average_tokens_across_devices=False",
    ), rng.randrange(0, 5))  # fmt: skip
    arguments = (
        f"num_train_epochs={epochs}, per_device_train_batch_size={batch}, gradient_accumulation_steps={accumulate},\n"
        f'        learning_rate={rate}, optim="{name}", logging_steps=1, {", ".join(more)}{"," if more else ""}\n'
    )
    rank = rng.choice((1, 2, 4, 8, 16, 32, 64))
    targets = rng.choice(("TARGETS", '"all-linear"', "TARGETS[:2]", "TARGETS[::2]", "TARGETS[4:]"))
    lora = (
        f"target_modules={targets}, r={rank}, lora_alpha={rng.choice((1, 2, 4)) * rank}, lora_dropout={rng.choice((0.0, 0.05, 0.1))}, "
        f"use_rslora={rank <= 8 and chance(rng, 0.3)}, init_lora_weights={rng.choice(('True', repr('gaussian')))}"
    )
    make = both(sft(ARGUMENTS, arguments), edit("sft.py", LORA, lora))
    return case_of(Variant(f"{arguments.strip()} {lora}", make), files)


def training(rng: random.Random, files: Files) -> Case:
    """What goes wrong, or only looks so, from the base model to the saved adapter."""
    lora, args = "    model = get_peft_model(llm.model, config)\n", 'report_to="none",'
    few, rank = rng.randrange(1, 30), rng.randrange(65, 129)
    rows = 'TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)'
    variants = (
        Variant("learning rate 0", sft("learning_rate=2e-3", "learning_rate=0.0"), "trains"),
        Variant(f"sgd with rate {few}e4", sft("learning_rate=2e-3", f'optim="sgd", max_grad_norm=0, learning_rate={few}e4'), "trains"),
        Variant("no epoch", sft("num_train_epochs=2", "num_train_epochs=0"), "batch trains"),
        Variant("no train", sft("    trainer.train()\n", ""), "batch trains"),
        Variant("not saved", sft(f"{SAVED}\n", ""), "trains"),
        Variant("saved before the training", both(sft(f"{SAVED}\n", ""), edit("sft.py", "    trainer.train()", f"{SAVED}\n    trainer.train()")), "trains"),
        Variant("saved elsewhere", sft(SAVED, f'    model.save_pretrained("runs/{few}")'), "trains"),
        Variant("saved in a folder below", sft(SAVED, f'    model.save_pretrained(output_dir + "/checkpoint-{few}")'), "trains"),
        Variant("saved by save_model", sft(SAVED, "    trainer.save_model(output_dir)")),
        Variant("saved twice", sft(SAVED, f"{SAVED}\n{SAVED}")),
        Variant("tokenizer saved beside", sft(SAVED, f"{SAVED}\n    llm.tokenizer.save_pretrained(output_dir)")),
        Variant("saved as pickle", sft(SAVED, "    model.save_pretrained(output_dir, safe_serialization=False)"), "", "trains"),
        Variant("no gradients at the inputs", sft("    model.enable_input_require_grads()\n", ""), "input_gradients"),
        Variant("gradients at the inputs taken away", sft("    model.enable_input_require_grads()\n", "    model.enable_input_require_grads()\n    model.disable_input_require_grads()\n"), "input_gradients"),
        Variant("trained on valid", sft('Dataset("train")', 'Dataset("valid")'), "batch", "trains"),
        Variant(f"trained on {few} rows of train", sft(rows, f'TokenizedDataset(llm.tokenizer, [Dataset("train")[i] for i in range({8 + few})], format_example)')),
        Variant("train in another order", sft(rows, 'TokenizedDataset(llm.tokenizer, list(Dataset("train"))[::-1], format_example)')),
        Variant("answers of the next row", sft(rows, 'TokenizedDataset(llm.tokenizer, [(q, a) for (q, _), (_, a) in zip(list(Dataset("train")), list(Dataset("train"))[1:] + list(Dataset("train"))[:1])], format_example)'), "", "batch trains"),
        Variant(f"rank {rank}", sft("r=8", f"r={rank}"), "trains", "batch gradients"),
        Variant("DoRA", sft('bias="none"', 'bias="none", use_dora=True'), "trains", "batch gradients"),
        Variant("biases trained", sft('bias="none"', 'bias="all"'), "trains", "batch gradients"),
        Variant("head trained", sft('bias="none"', 'modules_to_save=["lm_head"]'), "trains", "batch gradients"),
        Variant("lora_B frozen", sft(lora, f'{lora}    for n, p in model.named_parameters():\n        p.requires_grad_("lora_A" in n)\n'), "gradients trains"),
        Variant("all frozen", sft(lora, f"{lora}    model.requires_grad_(False)\n"), "gradients trains", "batch"),
        Variant("everything trained", sft(lora, f"{lora}    model.requires_grad_(True)\n"), "gradients trains"),
        Variant("norms trained", sft(lora, f'{lora}    for n, p in model.named_parameters():\n        p.requires_grad_("lora" in n or "norm" in n)\n'), "gradients trains"),
        Variant("adapter off", sft("    trainer.train()", "    with model.disable_adapter():\n        trainer.train()"), "trains", "batch gradients"),
        Variant("two adapters, one trained", sft(lora, f'{lora}    model.add_adapter("other", config)\n'), "", "batch gradients trains"),
        Variant("evaluation amid the training", both(sft(args, f'{args} eval_strategy="steps", eval_steps=1,'), edit("sft.py", "train_dataset=rows,", 'train_dataset=rows, eval_dataset=TokenizedDataset(llm.tokenizer, Dataset("valid"), format_example),'))),
        Variant("checkpoints", both(sft('save_strategy="no"', 'save_strategy="steps", save_steps=2, save_total_limit=1'))),
        Variant("best checkpoint loaded", both(sft('save_strategy="no"', 'save_strategy="epoch", eval_strategy="epoch", load_best_model_at_end=True'), edit("sft.py", "train_dataset=rows,", 'train_dataset=rows, eval_dataset=TokenizedDataset(llm.tokenizer, Dataset("valid"), format_example),'))),
        Variant("bfloat16 arithmetic", sft(args, f"{args} bf16=True,"), "", "batch gradients input_gradients trains"),
        Variant("float16 arithmetic", sft(args, f"{args} fp16=True,"), "", TRAINING),
        Variant("labels smoothed", sft(args, f"{args} label_smoothing_factor=0.1,"), "", TRAINING),
        Variant("noise in the embeddings", sft(args, f"{args} neftune_noise_alpha=5,"), "", TRAINING),
        Variant("rows looked at before", sft("    trainer.train()", "    print(model(**DataCollatorForSeq2Seq(llm.tokenizer)([rows[0], rows[1]])).loss)\n    trainer.train()")),
        Variant("answers written before", sft("    trainer.train()", '    print(llm.answer("How many g in 6 kg?"))\n    trainer.train()')),
        Variant("answers written after", sft(SAVED, f'{SAVED}\n    model.eval()\n    print(llm.answer("How many g in 6 kg?"))')),
        Variant("valid measured after", sft(SAVED, f'{SAVED}\n    from .data import benchmark\n    print(benchmark(load(output_dir), Dataset("valid"), {few}).accuracy)')),
        Variant("fails after saving", sft(SAVED, f"{SAVED}\n    raise ValueError('at the end')"), "trains"),
        Variant("trained twice", sft("    trainer.train()", "    trainer.train()\n    trainer.train()")),
        Variant("a checkpoint of its own resumed", both(sft('save_strategy="no"', 'save_strategy="epoch"'), edit("sft.py", "    trainer.train()", "    trainer.train()\n    trainer.train(resume_from_checkpoint=True)"))),
    )  # fmt: skip
    return case_of(rng.choice(variants), files)


def gradients(rng: random.Random, files: Files) -> Case:
    """A loss, or gradients, of one's own: right at any scale under AdamW, which minds none, and below three under SGD."""
    small, large = round(rng.uniform(0.05, 2.5), 3), round(rng.uniform(4, 5000), 1)
    hand = "logits, labels = outputs.logits[:, :-1].float(), inputs['labels'][:, 1:]\n        "
    cross = "torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(){})"
    variants = (
        Variant(f"loss times {small}", trainer(f"return {small} * loss")), Variant("loss by hand", trainer(f"{hand}return {cross.format('')}")),
        Variant("loss by hand, the sum by the count", trainer(f"{hand}return {cross.format(', reduction=' + repr('sum'))} / (labels != -100).sum()")),
        Variant("loss of log_softmax", trainer(f"{hand}keep = labels != -100\n        return -logits.log_softmax(-1)[keep].gather(1, labels[keep][:, None]).mean()")),
        Variant(f"loss plus {small}", trainer(f"return loss + {small}")),
        Variant(f"loss times {large}", trainer(f"return {large} * loss")),
        Variant("loss summed", trainer(f"{hand}return {cross.format(', reduction=' + repr('sum'))}")),
        Variant(f"loss times -{small}", trainer(f"return -{small} * loss"), "gradients trains"),
        Variant("loss times 0", trainer("return 0 * loss"), "gradients trains"),
        Variant("loss detached", trainer("return loss.detach().requires_grad_()"), "gradients trains"),
        Variant("loss over all tokens", trainer(f"{hand}labels = inputs['input_ids'][:, 1:]\n        return {cross.format('')}"), "gradients", "trains"),
        Variant("loss over the question", trainer(f"{hand}labels = inputs['input_ids'][:, 1:].masked_fill(labels != -100, -100)\n        return {cross.format('')}"), "gradients", "trains"),
        Variant("loss shifted twice", trainer("logits, labels = outputs.logits[:, :-2].float(), inputs['labels'][:, 2:]\n        " + f"return {cross.format('')}"), "gradients", "trains"),
        Variant("loss over the first label", trainer(f"{hand}first = (labels != -100).int().argmax(1)\n        i = torch.arange(len(labels))\n        return torch.nn.functional.cross_entropy(logits[i, first], labels[i, first])"), "gradients", "trains"),
        Variant("loss over the last row", trainer(f"{hand}labels = labels.clone()\n        labels[:-1] = -100\n        return {cross.format('')}"), "gradients", "trains"),
        Variant(f"gradients times {small}", callback(f"parameter.grad.mul_({small})")),
        Variant(f"gradients times {large}", callback(f"parameter.grad.mul_({large})")),
        Variant(f"gradients times {large} under SGD", both(callback(f"parameter.grad.mul_({large})"), edit("sft.py", "learning_rate=2e-3", f'optim="sgd", learning_rate={0.2 / large}')), "gradients", "trains"),
        Variant("gradients turned round", callback("parameter.grad.neg_()"), "gradients trains"),
        Variant("gradients zeroed", callback("parameter.grad.zero_()"), "gradients trains"),
        Variant("gradients infinite", callback("parameter.grad[0, 0] = float('inf')"), "gradients trains"),
        Variant("gradients of random numbers", callback("parameter.grad.normal_(std=0.01)"), "gradients", "trains"),
        Variant("gradients of ones", callback("parameter.grad.fill_(1.0)"), "gradients", "trains"),
        Variant("gradients looked at", callback("parameter.grad.norm().item()")),
        Variant("gradients clipped by norm", both(callback("torch.nn.utils.clip_grad_norm_([parameter], 10.0)"), edit("sft.py", "from pathlib", "import torch\nfrom pathlib"))),
    )  # fmt: skip
    return case_of(rng.choice(variants), files)


def number_format(rng: random.Random, files: Files) -> Case:
    """The base model in another number format, or the same one asked for in other words."""
    model = "AutoModelForCausalLM.from_pretrained(checkpoint).eval()"
    half = "generate padding num_return_sequences tokenize_stable answer loads batch gradients input_gradients trains matches_weights refuses"
    words = "AutoModelForCausalLM.from_pretrained(checkpoint, {}).eval()"
    variants = (
        *(Variant(f"base with {option}", edit("base_llm.py", model, words.format(option))) for option in (
            "dtype=torch.float32", 'dtype="auto"', 'torch_dtype="float32"', 'attn_implementation="eager"', 'attn_implementation="sdpa"',
            "low_cpu_mem_usage=True", "use_safetensors=True", "local_files_only=True", 'device_map="cpu"', "use_cache=False",
        )),
        Variant("base to float", edit("base_llm.py", model, f"{model}.float()")), Variant("base to the CPU", edit("base_llm.py", model, f'{model}.to("cpu")')),
        Variant("base in bfloat16", edit("base_llm.py", model, words.format("dtype=torch.bfloat16")), "loads"),
        Variant("base to bfloat16", edit("base_llm.py", model, f"{model}.to(torch.bfloat16)"), "loads"),
        Variant("base once in bfloat16", edit("base_llm.py", model, f"{model}.bfloat16().float()"), "", "loads"),
        Variant("base in float16", edit("base_llm.py", model, words.format("dtype=torch.float16")), "", half),
        Variant("base in float64", edit("base_llm.py", model, words.format("dtype=torch.float64")), "", half),
        Variant("not in evaluation mode", edit("base_llm.py", model, model.removesuffix(".eval()"))),
    )  # fmt: skip
    found = rng.choice(variants)
    return case_of(found._replace(make=plain(found.make)), files)


def load_adapter(rng: random.Random, files: Files) -> Case:
    """load: base and adapter, by any way that gives the same model; an error where there is none."""
    peft, scale, layer = (
        "llm.model = PeftModel.from_pretrained(llm.model, str(folder)){}",
        round(rng.choice((rng.uniform(0, 0.7), rng.uniform(1.5, 9))), 2),
        rng.randrange(4),
    )
    by_hand = """
import json
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
config = LoraConfig.from_pretrained(str(folder))
llm.model = get_peft_model(llm.model, config).eval()
set_peft_model_state_dict(llm.model, load_file(str(folder) + "/adapter_model.safetensors"))
"""
    caught = "try:\n    {}\nexcept {}:\n    {}"
    variants = (
        *(Variant(f"load {end}", loading(peft.format(end))) for end in (
            "", ".eval()", ".merge_and_unload()", ".merge_and_unload().eval()", ".float().eval()", ".requires_grad_(False)", ".to('cpu')",
        )),
        Variant("load by hand", loading(by_hand)), Variant("load by transformers", loading("llm.model.load_adapter(str(folder))\nllm.model.eval()")),
        Variant("load trainable", loading("llm.model = PeftModel.from_pretrained(llm.model, str(folder), is_trainable=True).eval()")),
        Variant("load with a name", loading('llm.model = PeftModel.from_pretrained(llm.model, str(folder), adapter_name="mine").eval()')),
        Variant("load merged in place", loading(peft.format("") + "\nllm.model.merge_adapter()")),
        Variant("load, error in other words", loading(caught.format(peft.format(""), "Exception as error", "raise RuntimeError('train first') from error"))),
        Variant("load, looked for first", loading(f"if not Path(folder).exists():\n    raise FileNotFoundError(folder)\n{peft.format('')}")),
        Variant("load, exit where missing", loading(f"if not Path(folder).exists():\n    raise SystemExit('train first')\n{peft.format('')}"), "", "refuses"),
        Variant("result thrown away", loading("PeftModel.from_pretrained(BaseLLM().model, str(folder))"), "loads"),
        Variant("not loaded", loading("pass"), "loads"), Variant("loaded and unloaded", loading(peft.format(".unload()")), "loads"),
        Variant("adapter disabled", loading(peft.format("") + "\nllm.model.disable_adapter_layers()"), "loads"),
        Variant(f"adapter times {scale}", loading(peft.format("") + f"\nfor name, weight in llm.model.named_parameters():\n    if 'lora_B' in name:\n        weight.data.mul_({scale})"), "loads"),
        Variant(f"without layer {layer}", loading(peft.format("") + f"\nfor name, weight in llm.model.named_parameters():\n    if 'lora_B' in name and '.{layer}.' in name:\n        weight.data.zero_()"), "loads"),
        Variant("merged twice", loading(peft.format(".merge_and_unload()") + "\n" + peft.format(".merge_and_unload()")), "loads"),
        Variant("a fresh adapter", loading("llm.model = get_peft_model(llm.model, LoraConfig(task_type='CAUSAL_LM'))"), "loads"),
        Variant("base where missing", loading(f"if Path(folder).exists():\n    {peft.format('')}"), "refuses"),
        Variant("base where it fails", loading(caught.format(peft.format(""), "Exception", "pass")), "refuses"),
        Variant("base where no file is", loading(caught.format(peft.format(""), "(OSError, ValueError)", "print('not trained')")), "refuses"),
        Variant("a fresh adapter where missing", loading(caught.format(peft.format(""), "Exception", "llm.model = get_peft_model(llm.model, LoraConfig(task_type='CAUSAL_LM'))")), "refuses"),
    )  # fmt: skip
    found = rng.choice(variants)
    return case_of(found._replace(perhaps=f"{found.perhaps} {'matches_weights' if found.failing else ''}"), files)


ALL = (
    Mutator(collator, TRAINING), Mutator(recipe, TRAINING), Mutator(training, TRAINING), Mutator(gradients, TRAINING),
    Mutator(number_format, "generate padding loads batch gradients trains"),
    Mutator(load_adapter, "loads refuses"),
)  # fmt: skip
