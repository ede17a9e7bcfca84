"""The test submissions: good, broken and hostile ones, each with the verdict that the grader has to reach."""

from tests.submissions import batches, closed, hostile, labels, numerics, saving, starter, texts, unusual
from tests.submissions.recipe import Recipe

SUBMISSIONS: dict[str, Recipe] = {
    recipe.name: recipe
    for module in (starter, labels, batches, texts, numerics, saving, closed, hostile, unusual)
    for recipe in module.ALL
}
