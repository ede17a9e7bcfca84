"""Ctrl-C while the libraries are imported, which takes seconds: there they turn it into errors of their own.

python -m grader homework             # and Ctrl-C at once: one line, exit code 130
"""

import os
import signal


def leave_at_once(said: str) -> None:
    """Until `raise_again`, let Ctrl-C end the process with one line, unless it was started with Ctrl-C off."""
    if is_heard():
        line = f"stopped by Ctrl-C: {said}\n".encode()
        signal.signal(signal.SIGINT, lambda *_: (os.write(2, line), os._exit(130)))


def raise_again() -> None:
    """From here on, Ctrl-C is a KeyboardInterrupt again."""
    if is_heard():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_heard() -> bool:
    """Whether Ctrl-C is on: a shell starts what runs in its background without it."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
