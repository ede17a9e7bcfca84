"""Chain of thought: a prompt that makes the base model reason before it answers, without any training.

    python -m homework.cot test                           # the base model with the prompt, on questions of valid
    python -m homework.chat --cot                         # your own questions

The prompt shows one question with its answer written out as a chain of equations, and the model goes on like that.
"""

from pathlib import Path

from homework.base_llm import BaseLLM
from homework.common.cli import run
from homework.data import Dataset, take_rows
from homework.guards.reasoning_check import check_chat_template, check_cot_prompt
from homework.reporting.results import report_accuracy

# A factor with an exponent times a value of four digits takes 130 tokens in the bundled tokenizer.
CHAIN_TOKENS = 144


def worked_example() -> tuple[str, str]:
    """A question and its answer as a chain: the factor in words, the product in small steps, the result in the tag.

    The equations have to hold, the answer is copied from the last of them, and the question is none of `valid`. A small
    model multiplies well by one digit at a time, and adds two numbers at a time.
    """
    # BEGIN SOLUTION task 5: worked_example
    # Hint: '1 A is F B.', then VALUE * F = a product for each digit + ... = their sum, then the answer.
    # Hint: the base writes such chains by itself: python -m homework.chat --base, 'Q: 35 inches in cm? A: 1 inch is'.
    return "Convert 46 ft to m.", "1 ft is 0.305 m. 46 * 0.305 = 12.2 + 1.83 = 14.03. <answer>14.03</answer>"
    # END SOLUTION


class CoTModel(BaseLLM):
    """The base model behind a prompt that makes it reason. Without an adapter; what it writes ends in the tag.

    Raises:
        HomeworkError: as BaseLLM, and if the base model has no chat template.
    """

    max_new_tokens = CHAIN_TOKENS

    def __init__(self, checkpoint: str | Path | None = None) -> None:
        super().__init__(checkpoint)
        check_chat_template(self)

    def format_prompt(self, question: str) -> str:
        """The worked example and the question as turns of a chat, open for the turn of the assistant."""
        # BEGIN SOLUTION task 5: cot_prompt
        # Hint: self.tokenizer.apply_chat_template with tokenize=False and add_generation_prompt=True.
        asked, answered = worked_example()
        turns = [("user", asked), ("assistant", answered), ("user", question)]
        messages = [{"role": role, "content": content} for role, content in turns]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        # END SOLUTION


def load(checkpoint: str | Path | None = None) -> CoTModel:
    """The base model that reasons by its prompt."""
    return CoTModel(checkpoint)


def test_model(*, checkpoint: str | None = None, questions: int | None = None) -> None:
    """Check the prompt, ask the questions of valid, and print mistakes and accuracy.

    Args:
        checkpoint: folder or hub name of the base model; else HOMEWORK_CHECKPOINT, else the bundled model.
        questions: how many questions to ask; all by default.
    """
    llm, valid = load(checkpoint), Dataset("valid")
    check_cot_prompt(llm, Dataset("train"), valid)
    report_accuracy(llm, take_rows(valid, questions), "valid")


COMMANDS = {"test": test_model}

if __name__ == "__main__":
    run(COMMANDS, "python -m homework.cot")
