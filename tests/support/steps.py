"""How long the training of the bundled model is."""

import math

from homework.common.base_model import BUNDLED_NAME
from homework.data import Dataset
from homework.training.recipe import RECIPES


def bundled_steps() -> int:
    """Optimizer steps of the bundled model's recipe on data/train.json."""
    recipe = RECIPES[BUNDLED_NAME]
    return recipe.epochs * math.ceil(len(Dataset("train")) / recipe.batch_size)
