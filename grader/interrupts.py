"""Ctrl-C as one line, also while the libraries are imported: in those seconds it would become errors of theirs.

SIGTERM is one line too, and a KeyboardInterrupt inside: pytest takes a SystemExit for the failure of a test, so the
check that runs would be an error of the grader, and the next one would go on.
"""

import os
import signal
import sys
from collections.abc import Callable

SIGTERM = "SIGTERM"


def leave_at_once(result: str) -> None:
    """Until `raise_again`, let Ctrl-C end the process with one line, unless it was started with Ctrl-C off."""
    if is_heard():
        line = f"stopped by Ctrl-C: {result}\n".encode()
        signal.signal(signal.SIGINT, lambda *_: (os.write(2, line), os._exit(130)))


def raise_again() -> None:
    """From here on, Ctrl-C is a KeyboardInterrupt again."""
    if is_heard():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run(main: Callable[[], int], result: str) -> int:
    """The exit code of `main`; Ctrl-C and SIGTERM are one line each, and what `main` has opened is closed."""
    by, code = "Ctrl-C", 130

    def stop(*_: object) -> None:
        nonlocal by, code
        by, code = SIGTERM, 143
        raise KeyboardInterrupt(SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    raise_again()
    try:
        ended = main()
        return code if by == SIGTERM else ended
    except KeyboardInterrupt:
        print(f"stopped by {by}: {result}", file=sys.stderr)
        return code


def is_heard() -> bool:
    """Whether Ctrl-C is on: a shell starts what runs in its background without it."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
