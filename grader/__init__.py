"""The course's side: grades a submission, never imports homework/, and never unpickles."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (before a file is read that it can't read)
    sys.exit(f"error: Python {sys.version.split()[0]} is too old: make .venv with Python 3.11 or newer")
