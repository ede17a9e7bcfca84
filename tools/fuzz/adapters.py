"""Mutators of what is handed in: the weights, their configuration, and the zip."""

import json
import math
import random
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load, save

from grader.rubric import CONFIG, WEIGHTS
from tests.submissions.plain import plain
from tests.submissions.recipe import Files, Maker, both
from tests.support import adapters, zips
from tools.fuzz.cases import Case, Mutator, Variant, case_of, chance

HANDED_IN = "adapter_present configured weights_valid"


def config(rng: random.Random, files: Files) -> Case:
    """adapter_config.json: what stock peft writes and what it says only, or what would change the model."""
    known = json.loads(files[CONFIG])
    folder = (
        rng.choice(("", "/", "./", "../", "/home/me/hw/", "C:\\course\\", "runs/../"))
        + "data/base_model"
        + rng.choice(("", "/"))
    )
    mixed = dict(sorted(known.items(), key=lambda _: rng.random()))
    right: tuple[dict[str, object], ...] = (
        {"base_model_name_or_path": folder}, {"task_type": None}, {"inference_mode": chance(rng)}, {"lora_dropout": round(rng.uniform(0, 0.9), 2)},
        {"target_modules": rng.sample(known["target_modules"], len(known["target_modules"]))}, {"init_lora_weights": rng.choice((True, "gaussian", "orthogonal"))},
        {"peft_version": f"0.{rng.randrange(10, 30)}.0"}, {"lora_alpha": float(known["lora_alpha"])}, {"revision": None}, {"bias": "none"},
        {"rank_pattern": {}, "alpha_pattern": {}}, {"modules_to_save": None}, {"megatron_config": None}, {"layers_to_transform": [0, 1]},
        {"use_dora": False, "use_qalora": False}, {"fan_in_fan_out": False}, {"exclude_modules": "x"},
    )  # fmt: skip
    wrong: tuple[tuple[dict[str, object], str], ...] = (
        ({"r": rng.choice((0, -1, 65, 4096, 8.5, "8", None, True, [8]))}, "configured"), ({"r": known["r"] + rng.choice((-1, 1, 2))}, "weights_valid"),
        ({"lora_alpha": rng.choice((0, -4, 1e9, "16", None, True, math.nan, math.inf))}, "configured"),
        ({"peft_type": rng.choice(("PROMPT_TUNING", "IA3", "LOHA", None, "lora"))}, "configured"), ({"task_type": "SEQ_CLS"}, "configured"),
        ({"base_model_name_or_path": rng.choice(("HuggingFaceTB/SmolLM2-360M-Instruct", "data", "gpt2", None, "base_model2"))}, "configured"),
        ({"target_modules": rng.choice(([], ["lm_head"], None, "", ["q_proj", "embed_tokens"], 5, {"q_proj": 1}))}, "configured"),
        ({"target_modules": known["target_modules"][1:]}, "weights_valid"), ({"lora_dropout": rng.choice((-0.1, 1.0, 9, "0.1", None))}, "configured"),
        ({"use_rslora": rng.choice((1, "true", None))}, "configured"),
        ({rng.choice(("use_dora", "use_qalora", "lora_bias", "fan_in_fan_out", "trust_remote_code")): True}, "configured"),
        ({"bias": rng.choice(("all", "lora_only"))}, "configured"), ({"modules_to_save": ["lm_head"]}, "configured"),
        ({rng.choice(("rank_pattern", "alpha_pattern")): {"q_proj": rng.randrange(1, 64)}}, "configured"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "configured"), ({"init_lora_weights": rng.choice(("pissa", "olora", "loftq"))}, "configured"),
        ({"megatron_core": "os"}, "configured"),
    )  # fmt: skip
    fields, failing = rng.choice((*((fields, "") for fields in rng.sample(right, 8)), *rng.sample(wrong, 8)))
    text = json.dumps({**mixed, **fields}, indent=rng.choice((None, 2, "\t"))).encode()
    if chance(rng, 0.2):
        text = b"\xef\xbb\xbf" + text
    words = f"adapter_config.json with {fields}"
    if fields.get("init_lora_weights") == "olora" or fields.get("use_rslora", 0) is None:
        return case_of(Variant(words, plain(lambda found: {**found, CONFIG: text}), "", "configured"), files)
    perhaps = "configured" if fields.get("lora_dropout", 0) is None else ""
    if text.startswith(b"\xef"):
        perhaps += " matches_weights"  # peft reads no such mark
    return case_of(
        Variant(
            words, plain(lambda found: {**found, CONFIG: text}), "" if "configured" in perhaps else failing, perhaps
        ),
        files,
    )


def weights(rng: random.Random, files: Files) -> Case:
    """adapter_model.safetensors: the same model in other numbers, a damaged one, or hardly one."""
    scale, faint = 2.0 ** rng.randrange(-4, 5), rng.uniform(0.0, 0.02)
    rank, generator = json.loads(files[CONFIG])["r"], torch.Generator().manual_seed(rng.randrange(2**31))
    turn = torch.linalg.qr(torch.randn(rank, rank, generator=generator))[0]
    rescaled = adapters.with_weights(lambda w: {n: t * (scale if "lora_A" in n else 1 / scale) for n, t in w.items()})
    turned = adapters.with_weights(
        lambda w: {n: (turn.T @ t if "lora_A" in n else t @ turn).contiguous() for n, t in w.items()}
    )
    spot = adapters.with_weights(lambda w: poisoned(rng, w))
    variants = (
        Variant(f"lora_A times {scale}, lora_B divided", rescaled), Variant("both turned in their rank", turned),
        Variant("in bfloat16", adapters.with_weights(lambda w: {n: t.bfloat16() for n, t in w.items()})),
        Variant("in float16", adapters.with_weights(lambda w: {n: t.half() for n, t in w.items()})),
        Variant("other metadata", lambda f: {**f, WEIGHTS: save(load(f[WEIGHTS]), metadata={"by": str(rng.random())})}),
        Variant("one value poisoned", spot, "weights_valid"), Variant("cut", adapters.with_bytes(lambda c: c[: -rng.randrange(1, 5000)]), "weights_valid"),
        Variant("bytes beside", adapters.with_bytes(lambda c: c + rng.randbytes(rng.randrange(1, 99))), "weights_valid"),
        Variant("a tensor less", adapters.with_weights(lambda w: dict(rng.sample(sorted(w.items()), len(w) - rng.randrange(1, 6)))), "weights_valid"),
        Variant("a tensor more", adapters.with_weights(lambda w: {**w, f"lm_head.{rng.randrange(9)}": torch.ones(2)}), "weights_valid"),
        Variant("a name changed", adapters.with_weights(lambda w: {n.replace("layers.0", f"layers.{rng.randrange(9, 99)}"): t for n, t in w.items()}), "weights_valid"),
        Variant("integers", adapters.with_weights(lambda w: {n: t.to(rng.choice((torch.int32, torch.int8, torch.float64))) for n, t in w.items()}), "weights_valid"),
        Variant("lora_B zero", adapters.with_weights(adapters.untrained), "weights_valid"),
        Variant(f"lora_B times {faint:.4f}", adapters.with_weights(lambda w: {n: t * (1 if "lora_A" in n else faint) for n, t in w.items()}), "accuracy"),
        Variant("lora_B turned round", adapters.with_weights(lambda w: {n: t * (1 if "lora_A" in n else -1) for n, t in w.items()}), "accuracy"),
        Variant("lora_B of random numbers", adapters.with_weights(lambda w: {n: t if "lora_A" in n else torch.randn(t.shape, generator=generator) for n, t in w.items()}), "accuracy"),
        Variant("no weights", lambda f: {n: c for n, c in f.items() if n != WEIGHTS}, "adapter_present"),
        Variant("no configuration", lambda f: {n: c for n, c in f.items() if n != CONFIG}, "adapter_present"),
        Variant("called otherwise", lambda f: {n.replace("sft_model/", f"sft_model{rng.randrange(9)}/"): c for n, c in f.items()}, "adapter_present"),
        Variant("a checkpoint's folder", lambda f: {n.replace("sft_model/", f"sft_model/checkpoint-{rng.randrange(99)}/"): c for n, c in f.items()}, "adapter_present"),
    )  # fmt: skip
    found = rng.choice(variants)
    return case_of(found._replace(make=plain(found.make)), files)


def poisoned(rng: random.Random, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with one value that is not finite."""
    name = rng.choice(sorted(tensors))
    values = tensors[name].clone()
    values[rng.randrange(values.shape[0]), rng.randrange(values.shape[1])] = rng.choice((math.nan, math.inf, -math.inf))
    return {**tensors, name: values}


JUNK = (
    "__MACOSX/._sft.py", "__MACOSX/homework/._base_llm.py", "homework/.DS_Store", "homework/__pycache__/sft.cpython-311.pyc", "homework/Thumbs.db",
    "homework/.git/HEAD", "homework/.ipynb_checkpoints/sft-checkpoint.py", "homework/notes.txt", "homework/report.pdf", "homework/plot.png",
    "homework/work.ipynb", "homework/README.md", "homework/sft_model/README.md", "homework/sft_model/training_args.bin", "homework/.gitignore",
    "homework/requirements.txt", "homework/helpers.py", "homework/unused/__init__.py", "homework/data.json", "homework/sft_model/trainer_state.json",
    "homework/sft_model/tokenizer.json", "homework/ANSWERS.md", "homework/größe.py", "homework/run.sh", "homework/.vscode/settings.json",
)  # fmt: skip
TOPS = (
    "homework/",
    "homework/",
    "",
    "123456/homework/",
    "Homework/",
    "hw-final (2)/",
    "a/b/c/homework/",
    "submission_123456/",
    "größe/homework/",
)


def archive(rng: random.Random, files: Files) -> Case:
    """The zip: its folders, its junk, its order; or what is no honest zip."""
    if chance(rng, 0.4):
        name = rng.choice(sorted(zips.HOSTILE))
        pack, _ = zips.HOSTILE[name]
        return case_of(Variant(f"zip: {name}", dict, "submission"), files)._replace(pack=pack)
    top, extra = rng.choice(TOPS), tuple(rng.sample(JUNK, rng.randrange(0, 6)))
    method, folders, seed = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), chance(rng), rng.random()

    def pack(path: Path, given: Files) -> None:
        entries: list[tuple[str | zipfile.ZipInfo, bytes]] = [
            (f"{top}{name}", content) for name, content in given.items()
        ]
        entries += [
            (name.replace("homework/", top), b"") for name in extra if name.removeprefix("homework/") not in given
        ]
        entries += (
            [(folder, b"") for folder in sorted({f"{name.rpartition('/')[0]}/" for name, _ in entries} - {"/"})]
            if folders
            else []
        )  # type: ignore[union-attr]
        random.Random(seed).shuffle(entries)
        zips.write(path, entries, method)

    words = f"zip: top {top!r}, with {extra}, {'folders, ' if folders else ''}method {method}"
    return case_of(Variant(words, plain()), files)._replace(pack=pack)


def style_only(rng: random.Random, files: Files) -> Case:
    """The plain solution, or the reference, with nothing but its style changed."""
    make: Maker = plain() if chance(rng, 0.6) else both()
    return case_of(
        Variant("the plain solution" if "Trainer(" in make(files)["sft.py"].decode() else "the reference", make), files
    )


ALL = (
    Mutator(config, HANDED_IN), Mutator(weights, f"{HANDED_IN} accuracy"), Mutator(archive, HANDED_IN),
    Mutator(style_only, "parser generate padding answer metric scoring format supervised spans tokenize_stable dataset batch trains loads"),
)  # fmt: skip
