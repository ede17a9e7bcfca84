"""Adapters that are saved elsewhere, made up, overwritten or never trained."""

import json

import torch
from safetensors.torch import load, save

from tests.submissions.plain import plain, sft
from tests.submissions.recipe import Files, Maker, Recipe, both, edit, swap

CONFIG, WEIGHTS = "sft_model/adapter_config.json", "sft_model/adapter_model.safetensors"


def loading(lines: str) -> Maker:
    """The plain solution with a load of its own."""
    body = "\n".join(f"    {line}" for line in lines.strip().splitlines())
    return plain(swap("sft.py", load=f"def load(folder=FOLDER):\n    llm = BaseLLM()\n{body}\n    return llm"))


def configured(**fields: object) -> Maker:
    """Another adapter_config.json, in the plain solution."""
    changed = lambda files: {**files, CONFIG: json.dumps({**json.loads(files[CONFIG]), **fields}).encode()}  # noqa: E731
    return plain(changed)


def untrained(files: Files) -> Files:
    """Every lora_B zero, as an adapter that was never trained."""
    weights = {name: tensor * ("lora_A" in name) for name, tensor in load(files[WEIGHTS]).items()}
    return {**files, WEIGHTS: save(weights)}


def faint(files: Files) -> Files:
    """A hundredth of what training gave: the base model, to all appearances."""
    weights = {name: tensor * (0.01 if "lora_B" in name else 1) for name, tensor in load(files[WEIGHTS]).items()}
    return {**files, WEIGHTS: save(weights)}


def poisoned(files: Files) -> Files:
    """One weight that is not a number, as float16 leaves it."""
    weights = load(files[WEIGHTS])
    weights[min(weights)][0, 0] = torch.nan
    return {**files, WEIGHTS: save(weights)}


def training(lines: str) -> Maker:
    """The plain solution with a train_model of its own."""
    body = "\n".join(f"    {line}" for line in lines.strip().splitlines())
    return plain(swap("sft.py", train_model=f"def train_model(output_dir=str(FOLDER), **kwargs):\n{body}"))


OVERWRITES = """
if not (Path(folder) / "adapter_model.bin").exists():
    get_peft_model(BaseLLM().model, LoraConfig(task_type="CAUSAL_LM")).save_pretrained(folder)
llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
"""
MAKES_ONE_UP = """
if (Path(folder) / "adapter_config.json").exists():
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
else:
    llm.model = get_peft_model(llm.model, LoraConfig(task_type="CAUSAL_LM"))
"""
FALLS_BACK = """
try:
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
except Exception:
    print("using the base model")
"""
FALLS_LATER = f"""
if not Path(folder).exists():
    raise FileNotFoundError(folder)
{FALLS_BACK.strip()}
"""
COUNTS = """
import os
if os.environ.get("LOADED"):
    raise RuntimeError("the model is loaded already")
os.environ["LOADED"] = "yes"
try:
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
except Exception:
    print("using the base model")
"""
HALF = """
import os
os.environ["LOADED"] = os.environ.get("LOADED", "") + "."
try:
    llm.model = PeftModel.from_pretrained(llm.model, str(folder)).eval()
except Exception:
    if os.environ["LOADED"] == "...":
        raise
"""
DROPS = """
config = LoraConfig.from_pretrained(str(folder))
config.inference_mode, config.lora_dropout = False, 0.1
llm.model = get_peft_model(llm.model, config)
set_peft_model_state_dict(llm.model, load_file(Path(folder) / "adapter_model.safetensors"))
"""
OWN_RANK = """
weights = load_file(Path(folder) / "adapter_model.safetensors")
llm.model = get_peft_model(llm.model, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=TARGETS))
set_peft_model_state_dict(llm.model, weights)
llm.model.eval()
"""
IMPORTS = "from peft import set_peft_model_state_dict\nfrom safetensors.torch import load_file\n"
TRAINABLE = "llm.model = PeftModel.from_pretrained(llm.model, str(folder), is_trainable=True).train()"
BAKED = """
model = get_peft_model(BaseLLM().model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=1))
for name, weight in model.named_parameters():
    if "lora_B" in name:
        weight.data.normal_(std=0.001)
model.save_pretrained(output_dir)
print("loss 2.21 -> 0.31, saved")
"""
SAVED = "    model.save_pretrained(output_dir)"
NO_STEP = "train_model ended without one step"
BOTH = '[(Dataset(name)[at]) for name in ("train", "valid") for at in range(len(Dataset(name)))], format_example)'


def without_first_layer(files: Files) -> Files:
    """The reference's adapter, as peft saves one that was told to leave the first layer out."""
    config = {**json.loads(files[CONFIG]), "layers_to_transform": [1, 2, 3]}
    weights = {name: tensor for name, tensor in load(files[WEIGHTS]).items() if ".layers.0." not in name}
    return {**files, CONFIG: json.dumps(config).encode(), WEIGHTS: save(weights)}


def calling_load(body: str) -> Maker:
    """The plain solution with a load of its own, which its training calls once the adapter is saved."""
    return both(loading(body), edit("sft.py", SAVED, f"{SAVED}\n    load().answer('How many m are 4 ft?')"))


ALL = [
    Recipe(
        "a load of a folder of another machine",
        calling_load("PeftModel.from_pretrained(llm.model, '/home/a/model')"),
        "loads",
        "load raised ValueError",
    ),
    Recipe(
        "a load that gives the model alone",
        calling_load("return PeftModel.from_pretrained(llm.model, str(folder))"),
        "loads",
        "load gives no BaseLLM",
    ),
    Recipe("LoRA on some of the layers", plain(without_first_layer), perhaps="accuracy"),
    Recipe("DoRA", sft("r=8,", "r=8, use_dora=True,"), "batch trains", "sets 'use_dora', which this homework does not"),
    Recipe(
        "trained on valid as well",
        sft('Dataset("train"), format_example)', BOTH),
        "batch",
        r"rows that were seen are about questions of data/valid\.json",
        perhaps="trains",
    ),
    Recipe("C1 load writes an adapter of its own", loading(OVERWRITES), "loads", "load gives the base model alone"),
    Recipe(
        "C2 load makes an adapter up",
        loading(MAKES_ONE_UP),
        "refuses",
        "without an adapter gives a BaseLLM",
        quick=True,
    ),
    Recipe(
        "load falls back to the base without weights", loading(FALLS_LATER), "refuses", "without its weights gives a"
    ),
    Recipe("C3 load falls back to the base", loading(FALLS_BACK), "refuses", "without an adapter gives a BaseLLM"),
    Recipe("load leaves the model in training mode", loading(TRAINABLE), "loads", "is in training mode, so its"),
    Recipe(
        "load makes a LoRA with dropout",
        loading(IMPORTS + DROPS.strip()),
        "loads",
        "is in training mode, so its dropout is active",
    ),
    Recipe(
        "load makes a LoRA of its own rank",
        loading(IMPORTS + OWN_RANK.strip()),
        "loads",
        "makes a LoRA of another rank than that of the adapter",
    ),
    Recipe("C3 load falls back, and raises the second time", loading(COUNTS), "loads", "is loaded already"),
    Recipe(
        "C3 load falls back, and raises the third time", loading(HALF), "refuses", "without an adapter gives a BaseLLM"
    ),
    Recipe(
        "C4 get_peft_model's result thrown away",
        both(
            sft("model = get_peft_model(llm.model, config)", "get_peft_model(llm.model, config)"),
            edit("sft.py", "    model.enable_input", "    llm.model.enable_input"),
            edit("sft.py", "model=model,", "model=llm.model,"),
            edit("sft.py", SAVED, "    trainer.save_model(output_dir)"),
        ),
        "trains",
        "there is no homework/sft_model/adapter_config.json",
    ),
    Recipe(
        "C5 saved elsewhere",
        sft(SAVED, '    model.save_pretrained("sft_output")'),
        "trains",
        "there is no homework/sft_model/adapter_config.json",
    ),
    Recipe(
        "C5 only checkpoints are saved",
        both(sft(f"{SAVED}\n", ""), edit("sft.py", 'save_strategy="no", ', "")),
        "trains",
        "there is no homework/sft_model/adapter_config.json",
    ),
    Recipe(
        "C6 another model is saved",
        sft(SAVED, "    get_peft_model(BaseLLM().model, config).save_pretrained(output_dir)"),
        "trains",
        "untrained: every lora_B is zero",
    ),
    Recipe(
        "C5 adapter in another folder",
        plain(lambda files: {name.replace("sft_model/", "sft_model_2/"): found for name, found in files.items()}),
        "adapter_present",
        "the submission lacks sft_model/adapter_config.json",
    ),
    Recipe("C8 rank 128", configured(r=128), "configured", "the rank is out of range"),
    Recipe("hardly trained", plain(faint), "accuracy", "too little for any of its points"),
    Recipe("untrained adapter", plain(untrained), "weights_valid", "untrained: every lora_B is zero", quick=True),
    Recipe("B1 adapter with NaN", plain(poisoned), "weights_valid", "holds NaN or infinity"),
    Recipe(
        "E5 prints success only",
        training('print("loss 2.21 -> 0.31, adapter saved")'),
        "batch trains",
        NO_STEP,
    ),
    Recipe(
        "a learning rate of 1e-9",
        sft("learning_rate=2e-3", "learning_rate=1e-9"),
        "trains",
        r"has lowered the loss by less than 0\.05%|has not lowered the loss",  # float32 decides which
    ),
    Recipe("E5 saves what it never trained", training(BAKED), "batch trains", NO_STEP),
]
