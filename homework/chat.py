"""Ask the base model or the trained adapter, and see which tokens it was unsure of.

    python -m homework.chat                                       # the adapter if there is one, else the base model
    python -m homework.chat --base                                # the base model, although there is an adapter
    python -m homework.chat --cot                                 # the base model with the prompt of task 5
    python -m homework.chat --rft                                 # the adapter that reasons, of task 7
    python -m homework.chat --temperature 0.7 --samples 5         # five sampled texts a question
    echo "How many m are 2 km?" | python -m homework.chat         # questions from a pipe or a file, one a line

torch is imported where it is used: it takes seconds, and ``--help`` should not.
"""

import contextlib
import copy
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from homework.base_llm import BaseLLM, check_temperature
from homework.common.cli import run
from homework.common.errors import HomeworkError
from homework.common.zip_contents import ADAPTER_FILES
from homework.cot import load as load_cot
from homework.rft import ADAPTER_FOLDER as RFT_FOLDER
from homework.rft import load as load_rft
from homework.sft import ADAPTER_FOLDER, load

if TYPE_CHECKING:
    from torch import Tensor

UNSURE = 0.5  # a token of a lower probability is marked
PROMPT = "> "
QUIT = "quit"


class Token(NamedTuple):
    """A token that the model wrote, and the probability that it gave to it."""

    text: str
    probability: float


class Reply(NamedTuple):
    """One text of the model: its tokens with EOS, the number in it (NaN for none), and whether it ended by itself."""

    tokens: list[Token]
    answer: float
    ended: bool


class Recorder:
    """Stands in the place of a model, and keeps the ids that `generate` writes: a text alone does not tell them."""

    def __init__(self, model: Any) -> None:
        self.real = model
        self.written: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self, *arguments: Any, **options: Any) -> "Tensor":
        """As the model's own: the prompts (B, T) with what was written after them."""
        prompts = options["input_ids"] if "input_ids" in options else arguments[0]
        output = self.real.generate(*arguments, **options)
        self.written += output[:, prompts.shape[1] :].tolist()
        return output


def ask(llm: BaseLLM, question: str, temperature: float = 0, samples: int = 1) -> list[Reply]:
    """The texts that the model writes after a question.

    Args:
        llm: the base model, with or without an adapter.
        question: as it is typed; `llm.format_prompt` makes the prompt of it.
        temperature: 0 is greedy, above 0 samples.
        samples: how many texts.

    Raises:
        HomeworkError: if the model can't read the prompt, or `llm.complete` does not write by `llm.model.generate`.
    """
    prompt = llm.format_prompt(question)
    recorded = copy.copy(llm)
    recorded.model = recorder = Recorder(llm.model)
    completions = recorded.complete([prompt] * samples, temperature)
    if len(recorder.written) != samples:
        raise HomeworkError(
            f"{samples} texts, but self.model.generate wrote {len(recorder.written)}: see complete_batch"
        )
    return [
        Reply(read_tokens(llm, llm.encode_prompt(prompt), ids), llm.parse_answer(completion.text), completion.ended)
        for completion, ids in zip(completions, recorder.written, strict=True)
    ]


def read_tokens(llm: BaseLLM, prompt: list[int], written: list[int]) -> list[Token]:
    """The tokens after a prompt up to the first EOS, EOS included, with their probabilities; one forward pass."""
    import torch

    eos = llm.tokenizer.eos_token_id
    written = written[: written.index(eos) + 1] if eos in written else written
    ids = [*prompt, *written]
    with torch.inference_mode():
        logits = llm.model(input_ids=torch.tensor([ids], device=llm.device)).logits[0]
    probabilities = token_probabilities(logits, ids, len(prompt))
    return [Token(*pair) for pair in zip(token_texts(llm.tokenizer, written), probabilities, strict=True)]


def token_probabilities(logits: "Tensor", ids: Sequence[int], first: int) -> list[float]:
    """The probability that the model gave to each token from position `first` on, at temperature 1.

    Args:
        logits: (T, V); those at position t are of the token at t + 1.
        ids: the T tokens that the model has read.
        first: how many of them are the prompt, at least 1.

    Returns:
        T - first probabilities.
    """
    import torch

    chosen = torch.tensor(ids[first:], device=logits.device)
    return logits[first - 1 : -1].float().softmax(dim=-1).gather(1, chosen[:, None])[:, 0].tolist()


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text that each token adds. A character of several tokens stands at its last one, the others are ''."""
    texts = [tokenizer.decode(ids[:end]) for end in range(len(ids) + 1)]
    # Half a character is decoded to U+FFFD, until the token with its other half is there.
    starts = [len(text.rstrip("\ufffd")) for text in texts[:-1]]
    return [texts[-1][start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def render_reply(reply: Reply, colour: bool) -> str:
    """The text with the unsure tokens marked; below it the number that was read, and how the text ended."""
    text = "".join(show_token(token, colour) for token in reply.tokens).replace("\n", "\n  ")
    number = "no answer can be read" if math.isnan(reply.answer) else f"answer {reply.answer:.10g}"
    end = "ended by itself (EOS)" if reply.ended else f"cut at the cap of {len(reply.tokens)} tokens"
    return f"  {text}\n    {number}; {end}"


def show_token(token: Token, colour: bool) -> str:
    """The token as it is, or marked: reversed in a terminal with colours, else with its probability.

    Example: ('Ġkm', 0.9) -> ' km', ('2', 0.31) -> '[2|0.31]'
    """
    # A model can write any byte, also those that would control the terminal.
    text = "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in token.text)
    if token.probability >= UNSURE:
        return text
    text = text.replace("\n", "\\n")
    return f"\033[7;33m{text}\033[0m" if colour else f"[{text}|{token.probability:.2f}]"


def read_questions() -> Iterator[str]:
    """The lines of stdin until it ends or one says `quit`, without the empty ones."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # a line in another encoding is asked with its odd characters replaced
    for line in map(str.strip, typed_lines() if sys.stdin.isatty() else sys.stdin):
        if line == QUIT:
            return
        if line:
            yield line


def typed_lines() -> Iterator[str]:
    """What is typed after the prompt sign, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (gives input() its history; Windows has none)
    with contextlib.suppress(EOFError):
        while True:
            yield input(PROMPT)
    print()


def converse(llm: BaseLLM, temperature: float, samples: int) -> None:
    """Answer the questions of stdin. One that can't be asked, or is stopped in a terminal, does not end the session."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    typed = sys.stdin.isatty()
    print(f"{show_token(Token('token', 0.31), colour)} marks a token that the model gave a probability below {UNSURE}")
    if typed:
        print(f"one question a line; {QUIT} or Ctrl-D ends, Ctrl-C stops an answer")
    for question in read_questions():
        if not typed:
            print(question)
        try:
            for reply in ask(llm, question, temperature, samples):
                print(render_reply(reply, colour), flush=True)
        except HomeworkError as error:
            print(f"  not asked: {error}", flush=True)
        except KeyboardInterrupt:
            if not typed:
                raise
            print("\n  stopped")


def choose_model(adapter: str | None, base: bool, cot: bool, rft: bool) -> tuple[Callable[..., BaseLLM], str]:
    """What loads the model, given a checkpoint, and the line that says which model and why.

    Raises:
        HomeworkError: if two models are asked for.
    """
    asked = {"--base": base, "--cot": cot, "--rft": rft, "--adapter": bool(adapter) and not rft}
    if sum(asked.values()) > 1:
        names = " and ".join(name for name, given in asked.items() if given)
        raise HomeworkError(f"{names} exclude each other: give one of them")
    if base:
        return BaseLLM, "asking the base model (--base)"
    if cot:
        return load_cot, "asking the base model with the prompt of task 5 (--cot)"
    folder = Path(adapter).expanduser() if adapter else RFT_FOLDER if rft else ADAPTER_FOLDER
    # One of the two files is enough: `load` then says what is missing.
    if adapter or rft or any((folder / name).exists() for name in ADAPTER_FILES):
        return partial(load_rft if rft else load, folder), f"asking the adapter in {folder}"
    return BaseLLM, f"asking the base model: there is no adapter in {folder}"


def chat(
    *,
    adapter: str | None = None,
    base: bool = False,
    cot: bool = False,
    rft: bool = False,
    checkpoint: str | None = None,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
) -> None:
    """Ask your adapter, or the base model, one question a line, and see the tokens that it was unsure of.

    The questions are typed, or come from a pipe or a file; quit, Ctrl-D or the end of the file ends the session. Below
    each text stands the number that parse_answer reads in it, and whether the model ended it by itself. A token is
    marked if the model gave it a probability below 0.5, at temperature 1, after all that stands before it.

    Args:
        adapter: folder of the adapter; homework/sft_model if left out, and the base model if that holds none.
        base: ask the base model, although there is an adapter.
        cot: ask the base model with the prompt that makes it reason.
        rft: ask the adapter that reasons, in homework/rft_model or in the folder of --adapter.
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        temperature: 0 takes the most probable token each time (greedy); 0.01 to 100 samples, higher is more varied.
        samples: how many texts a question; more than one needs a temperature above 0.
        seed: of the sampling; the same seed and the same questions give the same texts.
    """
    check_temperature(temperature)
    if samples < 1:
        raise HomeworkError(f"--samples must be at least 1, got {samples}")
    if samples > 1 and temperature == 0:
        raise HomeworkError(f"greedy texts are all the same: give --temperature 0.7, for one, with --samples {samples}")
    make, choice = choose_model(adapter, base, cot, rft)
    print(choice, flush=True)
    llm = make(checkpoint)
    import torch

    torch.manual_seed(seed)
    try:
        converse(llm, temperature, samples)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped") from None


if __name__ == "__main__":
    run(chat, "python -m homework.chat")
