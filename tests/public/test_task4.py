"""Public tests of task 4, homework/sft.py: collator, LoRA, arguments, training and loading.

python -m pytest tests/public/test_task4.py
"""


def test_collate(check):
    """Rows of different length as one batch, padded on the right; padding is masked, labels are kept."""
    check("collate")


def test_add_lora(check):
    """The base is frozen, LoRA on all linear layers is trained, gradients reach it with checkpointing too."""
    check("add_lora")


def test_training_arguments(check):
    """The recipe's numbers and the flags reach the Trainer."""
    check("training_arguments")


def test_load(check):
    """Raises where there is no adapter: an untrained model must never pass for a trained one."""
    check("load")


def test_train_model(check, check_training):
    """Two steps: the adapter is saved, and all of its weights have moved."""
    check("train_model")
    from homework.sft import train_model  # not above: a file that does not compile would stop all tests

    check_training(train_model)
