"""The one error that a student can mend: its message says what is wrong, where, and what to do."""


class HomeworkError(ValueError):
    """Raised by homework/ for bad input, data, checkpoints and adapters; printed in one line by `homework.cli`."""
