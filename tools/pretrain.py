"""Pre-train the bundled base model from scratch on the text of ``tools/pretrain_text.py``.

    python -m tools.pretrain --out runs/pretrain                # two hours on two CPU cores, minutes on a GPU
    python -m tools.pretrain --out runs/pretrain                # the same line resumes after an interruption
    python -m tools.pretrain --out runs/try --steps 20          # a quick look
    python -m tools.pretrain --start data/base_model --seed 1   # another stretch on finished weights

The text is streamed: the batch of a step depends on the seed and the step alone, so nothing but the step number is
needed to resume it. At the end `OUT/model` is a complete checkpoint folder with its model card, in which every stretch
of pre-training has its line.
"""

import hashlib
import json
import platform
import random
import shutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from homework.common.cli import run
from homework.common.errors import HomeworkError
from tools import pretrain_text
from tools.model_card import STRETCHES, write_model_card
from tools.pretrain_text import documents, marked_documents

Batch = tuple[torch.Tensor, torch.Tensor]  # token ids and their weights in the loss, each (rows, CONTEXT)

# SmolLM2's own list and order: unk, bos and eos = pad are the first three.
SPECIAL_TOKENS = (
    "<|endoftext|> <|im_start|> <|im_end|> <repo_name> <reponame> <file_sep> <filename> <gh_stars> <issue_start> "
    "<issue_comment> <issue_closed> <jupyter_start> <jupyter_text> <jupyter_code> <jupyter_output> <jupyter_script> "
    "<empty_output>"
).split()
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
VOCABULARY, CONTEXT = 1024, 256
UNMARKED = 0.1  # weight in the loss of what can't be known; marked text weighs 1
CHECKPOINT_EVERY = 10  # log lines
WARMUP = 300  # steps
QUERY_BLOCKS = 4  # of `causal_blocks`; eight are slower again


def train_tokenizer(seed: int, count: int = 60_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE that splits digits one by one, as SmolLM2's does.

    Raises:
        ValueError: if ' <' did not become one token, on which the homework's label span depends.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(islice(documents(random.Random(f"tokenizer:{seed}")), count), trainer)
    if tokenizer.token_to_id("Ġ<") is None:
        raise ValueError("' <' is not one token: the text has too little markup")
    unk, bos, eos = SPECIAL_TOKENS[:3]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unk, bos_token=bos, eos_token=eos, pad_token=eos, model_max_length=CONTEXT
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of 2.82 million parameters with random weights, at most 12 MB in float32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=576,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def causal_blocks(module, query, key, value, attention_mask, scaling: float, **_) -> tuple[torch.Tensor, None]:
    """Causal attention, a block of queries at a time; query is (rows, heads, tokens, size), the result has heads third.

    torch's own for the CPU takes 45 % of a step of this model. Blocks skip the keys that come after them, and the
    queries that share a key head are one matrix: forward and backward took 0.32 s instead of 0.56 (8,192 tokens).
    """
    (rows, heads, tokens, size), groups = query.shape, key.shape[1]
    block, per_group = tokens // QUERY_BLOCKS, heads // groups
    query = (query * scaling).view(rows, groups, per_group, tokens, size)
    later = torch.full((tokens, tokens), float("-inf"), dtype=query.dtype).triu(1)
    parts = []
    for start in range(0, tokens, block):
        end = start + block
        queries = query[:, :, :, start:end].reshape(rows, groups, per_group * block, size)
        scores = (queries @ key[:, :, :end].mT).view(rows, groups, per_group, block, end) + later[start:end, :end]
        chances = scores.softmax(-1, dtype=torch.float32).to(query.dtype).view(rows, groups, per_group * block, end)
        parts.append((chances @ value[:, :, :end]).view(rows, heads, block, size))
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def pack_rows(
    texts: Iterator[tuple[str, list[tuple[int, int]]]], tokenizer: PreTrainedTokenizerFast, rows: int
) -> Batch:
    """Token ids and their weights in the loss, each (rows, CONTEXT).

    Each row begins with a document, and every document ends with EOS. A token that overlaps a marked span weighs 1, as
    EOS does, any other `UNMARKED`.
    """
    encode = tokenizer.backend_tokenizer.encode  # without the checks of __call__, which cost more than the encoding
    packed, weights = [], []
    for _ in range(rows):
        ids: list[int] = []
        weight: list[float] = []
        while len(ids) < CONTEXT:
            text, spans = next(texts)
            encoding = encode(text)
            known = bytearray(len(text))
            for start, end in spans:
                known[start:end] = b"\1" * (end - start)
            ids += [*encoding.ids, tokenizer.eos_token_id]
            weight += [*(1.0 if any(known[start:end]) else UNMARKED for start, end in encoding.offsets), 1.0]
        packed.append(ids[:CONTEXT])
        weights.append(weight[:CONTEXT])
    return torch.tensor(packed), torch.tensor(weights)


def make_batch(tokenizer: PreTrainedTokenizerFast, seed: int, step: int, rows: int) -> Batch:
    """Ids and weights of one step, each (rows, CONTEXT); step -1 is the held-out one."""
    return pack_rows(marked_documents(random.Random(f"text:{seed}:{step}")), tokenizer, rows)


def weighted_loss(model, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of -log p in nats a token; ids and weights are (rows, CONTEXT)."""
    logits = model(input_ids=ids).logits[:, :-1].float()
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over `WARMUP` steps, the peak until 40 % of all, then linear to zero, where the loss falls fastest."""
    warmup, decay = min(WARMUP, max(1, steps // 10)), int(steps * 0.6)
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / max(1, decay))


def make_optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the layers, AdamW on embeddings and norms.

    After 1.2 million tokens of this text Muon's held-out loss was 1.75 nats and AdamW's alone 2.20, at 6 % fewer tokens
    a second. Its matched RMS lets both be set by a rate relative to their peak. It orthogonalises in bfloat16: on a CPU
    without such units that is two thirds of a step.
    """
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    outer = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=0.0, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def has_bfloat16(device: str) -> bool:
    """Whether matrix products in bfloat16 are faster here; the weights stay in float32 either way."""
    return torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()


def take_step(
    loss_of, optimizers: list[torch.optim.Optimizer], batch: Batch,
    rates: list[float], bfloat16: bool = False,
) -> float:  # fmt: skip
    """One optimizer step on a batch of ids and weights, each (rows, CONTEXT); `loss_of` gives its loss.

    Raises:
        HomeworkError: before the step, if the loss is not finite.
    """
    with torch.autocast(batch[0].device.type, dtype=torch.bfloat16, enabled=bfloat16):
        loss = loss_of(*batch)
    if not torch.isfinite(loss):
        raise HomeworkError(f"the loss is {loss.item()}: nothing was written, lower the learning rate")
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizers for p in group.param_groups[0]["params"]], 1.0)
    for optimizer, rate in zip(optimizers, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def held_out_loss(model, batch: Batch) -> float:
    """Weighted mean loss in nats a token on text that no step draws."""
    return weighted_loss(model, *batch).item()


def save_checkpoint(path: Path, model, optimizers, step: int, seconds: float, settings: dict) -> None:
    """Write everything that a resumed run needs; the old file stays until the new one is whole."""
    state = {
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "settings": settings,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_checkpoint(path: Path, model, optimizers, settings: dict) -> tuple[int, float]:
    """Restore model and optimizers in place; the step to go on from, and the seconds of training so far.

    Raises:
        HomeworkError: if the checkpoint belongs to a run with other settings.
    """
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["settings"] != settings:
        raise HomeworkError(f"{path} is of a run with {state['settings']}: take another --out, or remove it")
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["seconds"]


def begin(start: str | None, seed: int) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM, list[dict]]:
    """Tokenizer, model and former stretches: new ones, or those of the folder `start`.

    Raises:
        HomeworkError: if the folder lacks the weights or the list of stretches.
    """
    if start is None:
        tokenizer = train_tokenizer(seed)
        return tokenizer, build_model(tokenizer, seed), []
    missing = [name for name in ("model.safetensors", STRETCHES) if not (Path(start) / name).is_file()]
    if missing:
        raise HomeworkError(f"{start} has no {' and no '.join(missing)}: give the model folder of a finished run")
    stretches = json.loads((Path(start) / STRETCHES).read_text(encoding="utf-8"))
    model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(start), model, stretches


def on_device(batch: Batch, device: str) -> Batch:
    return batch[0].to(device), batch[1].to(device)


def describe_stretch(settings: dict, seconds: float, first_loss: float, last_loss: float) -> dict:
    """What the model card says about one stretch of pre-training."""
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return settings | {
        "tokens": settings["steps"] * settings["rows"] * CONTEXT,
        "seconds": round(seconds),
        "text": hashlib.sha256(Path(pretrain_text.__file__).read_bytes()).hexdigest()[:12],
        "held_out_before": round(first_loss, 4),
        "held_out_after": round(last_loss, 4),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def main(
    *,
    out: str = "runs/pretrain",
    start: str | None = None,
    steps: int = 10_000,
    rows: int = 32,
    peak_muon: float = 5e-3,
    peak_adamw: float = 3e-3,
    seed: int = 0,
    compile: bool = True,
    every: int = 100,
) -> None:
    """Train tokenizer and model, and write `OUT/model`.

    Args:
        out: folder of the checkpoint and of the result.
        start: go on from the weights in this folder, with its tokenizer and a fresh optimizer.
        steps: optimizer steps; each reads rows * 256 tokens.
        rows: rows in a batch.
        peak_muon: highest learning rate of the matrices in the layers.
        peak_adamw: highest learning rate of embeddings and norms.
        seed: of weights and text; take another one for another stretch.
        compile: use torch.compile; about a third faster after a minute.
        every: steps between two log lines; every tenth line writes a checkpoint.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder, bfloat16 = Path(out), has_bfloat16(device)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"steps": steps, "rows": rows, "peak_muon": peak_muon, "peak_adamw": peak_adamw, "seed": seed}
    tokenizer, model, stretches = begin(start, seed)
    model.to(device)
    optimizers = make_optimizers(model)
    if device == "cpu":
        AttentionInterface.register("causal_blocks", causal_blocks)
        model.set_attn_implementation("causal_blocks")
    held_out = on_device(make_batch(tokenizer, seed, -1, 128), device)
    before = sample = held_out_loss(model, held_out)
    first, seconds = load_checkpoint(folder / "checkpoint.pt", model, optimizers, settings | {"start": start})
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}, "
        f"{'bfloat16' if bfloat16 else 'float32'} products, steps {first} to {steps}, held-out {before:.4f} at first",
        flush=True,
    )
    loss_of = torch.compile(partial(weighted_loss, model)) if compile else partial(weighted_loss, model)
    started = time.perf_counter()
    for step in range(first, steps):
        batch = on_device(make_batch(tokenizer, seed, step, rows), device)
        rates = [learning_rate(step, steps, peak) for peak in (peak_muon, peak_adamw)]
        loss = take_step(loss_of, optimizers, batch, rates, bfloat16)
        spent = time.perf_counter() - started
        if (step + 1) % every == 0 or step + 1 == steps:
            sample = held_out_loss(model, held_out)
            speed = (step + 1 - first) * rows * CONTEXT / spent
            print(f"step {step + 1}  loss {loss:.4f}  held-out {sample:.4f}  {speed:,.0f} tokens/s", flush=True)
        if (step + 1) % (CHECKPOINT_EVERY * every) == 0:
            save_checkpoint(
                folder / "checkpoint.pt", model, optimizers, step + 1, seconds + spent, settings | {"start": start}
            )
    model.float().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    for path in Path(start).glob("tokenizer*.json") if start else ():  # saved again, they tell where they came from
        shutil.copyfile(path, folder / "model" / path.name)
    stretch = describe_stretch(settings, seconds + time.perf_counter() - started, before, sample)
    (folder / "model" / STRETCHES).write_text(json.dumps([*stretches, stretch], indent=1) + "\n", encoding="utf-8")
    write_model_card(folder / "model")
    print(f"wrote {folder / 'model'}")


if __name__ == "__main__":
    run(main, "python -m tools.pretrain")
