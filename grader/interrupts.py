"""Ctrl-C as one line, also while the libraries are imported: in those seconds it would become errors of theirs."""

import os
import signal
import sys
from collections.abc import Callable


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
    """The exit code of `main`; Ctrl-C is one line, and SIGTERM still closes what `main` has opened."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_again()
    try:
        return main()
    except KeyboardInterrupt:
        print(f"stopped by Ctrl-C: {result}", file=sys.stderr)
        return 130


def is_heard() -> bool:
    """Whether Ctrl-C is on: a shell starts what runs in its background without it."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
