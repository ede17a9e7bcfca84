"""The accuracy of an adapter, whoever trained it, in a process of its own: its seconds belong to no contender.

python -m benchmarks.accuracy data/base_model FOLDER --questions 950
"""

from pathlib import Path

from homework.base_llm import BaseLLM, score
from homework.common.cli import run
from homework.common.files import write_json
from homework.data import Dataset
from homework.training.evaluation import take_reported


def main(base: str, folder: str, *, questions: int = 950) -> None:
    """Ask the adapter in FOLDER/sft_model questions of valid, and write FOLDER/accuracy.json.

    Args:
        base: folder of the base model.
        folder: of the contender.
        questions: how many questions of valid to answer.
    """
    from peft import PeftModel

    llm = BaseLLM(base)
    llm.model = PeftModel.from_pretrained(llm.model, str(Path(folder) / "sft_model")).eval()
    result, _ = score(llm, take_reported(Dataset("valid"), questions))
    write_json(Path(folder) / "accuracy.json", {"accuracy": result.accuracy})


if __name__ == "__main__":
    run(main, "python -m benchmarks.accuracy")
