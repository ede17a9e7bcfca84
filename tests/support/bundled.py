"""What the bundled base model's recipe and card say, for tests that must not repeat their figures."""

import json
import math

from homework.common.base_model import BUNDLED, BUNDLED_NAME
from homework.data import Dataset
from homework.training.recipe import RECIPES
from tools.model_card import MEASURES


def bundled_steps() -> int:
    """Optimizer steps of the bundled model's recipe on data/train.json."""
    recipe = RECIPES[BUNDLED_NAME]
    return recipe.epochs * math.ceil(len(Dataset("train")) / recipe.batch_size)


def card_accuracy(line: str) -> float:
    """What the model card says that the base reaches on a line of its gate, after fine-tuning."""
    return json.loads((BUNDLED / MEASURES).read_text(encoding="utf-8"))[line]
