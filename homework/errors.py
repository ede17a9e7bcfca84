"""The one error that a student can mend: its message says what is wrong, where, and what to do."""


class HomeworkError(ValueError):
    """Raised by homework/ for bad input, data, checkpoints and adapters; printed in one line by `homework.cli`."""


def one_line(error: Exception) -> str:
    """The first words of an error's message.  Example: ValueError('bad\\n  header') -> 'bad header'"""
    return f"{' '.join(str(error).split()):.160}" or type(error).__name__
