"""What works at home and not in the sandbox: other processes, the network, a folder outside of the submission's."""

from tests.submissions.plain import sft
from tests.submissions.recipe import Maker, Recipe


def training_that(lines: str) -> Maker:
    """The plain solution, whose training does something else before its rows are made."""
    own = "".join(f"    {line}\n" for line in lines.strip().splitlines())
    return sft("    rows = TokenizedDataset", f"{own}    rows = TokenizedDataset")


POOL = """
import multiprocessing
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, [1, 2]))
"""
PROGRAM = """
import subprocess
subprocess.run(["nvidia-smi"], check=False)
"""
LOG = """
with open("/tmp/train.log", "w") as log:
    log.write("begun")
"""
FOLDER = """
import os
os.makedirs("/tmp/logs/mine", exist_ok=True)
"""
DOWNLOAD = """
import urllib.request
urllib.request.urlopen("http://example.com")
"""
LINK = """
import os
os.symlink("run-7", "runs/latest")
"""
NO_PROCESS = "; the sandbox has no other processes"
NO_FOLDER = "; in the sandbox only the folder of the submission can be"

ALL = [
    Recipe("pool of processes", training_that(POOL), "batch trains", NO_PROCESS),
    Recipe("another program", training_that(PROGRAM), "batch trains", NO_PROCESS),
    Recipe("log in /tmp", training_that(LOG), "batch trains", f"'/tmp/train.log'{NO_FOLDER}"),
    Recipe("folder in /tmp", training_that(FOLDER), "batch trains", NO_FOLDER),
    Recipe("link to the latest run", training_that(LINK), "batch trains", "; the sandbox makes no links"),
    Recipe("download", training_that(DOWNLOAD), "batch trains", "; the sandbox has no network"),
]
