"""Runs Python in a process forked where the libraries are imported already, which saves most of a short run."""

import multiprocessing
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "transformers", "peft", "pytest", "matplotlib.pyplot"])
SECONDS = 300
LOG = "forked.log"
# The packages of the folder take the place of those that the server has imported.
BEGIN = """
import os, sys
os.chdir(FOLDER)
sys.path.insert(0, FOLDER)
for name in [name for name in sys.modules if name.partition(".")[0] in ("homework", "tests", "grader")]:
    del sys.modules[name]
os.dup2(os.open(LOG, os.O_WRONLY | os.O_CREAT), 1)
os.dup2(1, 2)
"""


def run_forked(code: str, folder: Path) -> str:
    """Run code in a folder whose packages it imports; what it printed."""
    begin = BEGIN.replace("FOLDER", repr(str(folder))).replace("LOG", repr(LOG))
    process = PROCESSES.Process(target=exec, args=(begin + code, {}))
    process.start()
    process.join(SECONDS)
    process.kill()
    return (folder / LOG).read_text(encoding="utf-8")
