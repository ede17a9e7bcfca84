"""What Python finds in the place of the package where a file of it is run by its path: says how to run it.

`python homework/sft.py` puts this folder on Python's path, and not the one above it: there, `homework` is this file.
"""

import shlex
import sys
from pathlib import Path

if __name__ == "homework":  # as a part of the package its name is homework.homework
    file, root = Path(sys.argv[0]), Path(__file__).resolve().parent.parent
    words = ["python", "-m", f"homework.{file.stem}", *sys.argv[1:]]
    line = shlex.join(words) if file.suffix == ".py" else "the same command"
    where = "" if Path.cwd() == root else f" in the folder {root}"
    print(f"error: homework is a package, so run {line}{where}", file=sys.stderr)
    sys.exit(2)
