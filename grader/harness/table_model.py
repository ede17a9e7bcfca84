"""A real Llama checkpoint whose greedy decoding is known beforehand: each token decides the next one.

Attention and MLP add nothing, embeddings are unit vectors, so the output layer is a table from token to token. After a
prompt it writes <answer>NUMBER</answer>; after one whose last word is `SILENT` it writes nothing. It holds no code that
a submission could detect or change: its generate and answer see an ordinary model.
"""

import tempfile
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grader.harness.tokenizers import read_chat_template

SILENT = "silence"
PREFIX = "abcdef"  # that transformers puts before each token, to see what `stop_strings` are made of
WRITTEN = ["<unk>", "<|im_start|>", "<|im_end|>", "<answer>", "</answer>", SILENT, PREFIX, *"0123456789", *"?.,:"]
SIZE = 256  # of the vocabulary: who samples by hand takes the 50 or 100 likeliest
TOKENS = [*WRITTEN, *(f"<unused {at}>" for at in range(len(WRITTEN), SIZE))]
UNKNOWN_DIGIT = "\u0660"  # a digit to whoever splits texts, but in no vocabulary here
EOS = 2


def make_checkpoint(number: str) -> dict[str, bytes]:
    """The files of a checkpoint that answers `number`, whose digits are all different."""
    table = dict.fromkeys(TOKENS, "<answer>")
    chain = ["<answer>", *number, "</answer>"]
    table |= dict(zip(chain, [*chain[1:], "<|im_end|>"], strict=True))
    table |= {SILENT: "<|im_end|>"}
    with tempfile.TemporaryDirectory() as folder:
        make_model(table).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def make_model(table: dict[str, str]) -> LlamaForCausalLM:
    """A model that writes after each token the one that `table` names."""
    config = LlamaConfig(
        vocab_size=SIZE, hidden_size=SIZE, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=SIZE, max_position_embeddings=512, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(SIZE))
        for token, following in table.items():
            model.lm_head.weight[TOKENS.index(following), TOKENS.index(token)] = 1.0
    return model


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, and digits one by one, as real tokenizers have them; whatever it does not know is one token.

    A digit of a prompt becomes one that it does not know: after "in mm^3", the 3 would go on with the number's digits.
    """
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(TOKENS)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(Regex("[0-9]"), UNKNOWN_DIGIT)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<|im_start|>", eos_token="<|im_end|>",
        pad_token="<|im_end|>", chat_template=read_chat_template(),
    )  # fmt: skip


def answer_to(prompt: str, number: str) -> float:
    """What the checkpoint answers to a prompt: the number, or NaN."""
    words = prompt.split()
    return float("nan") if words and words[-1] == SILENT else float(number)
