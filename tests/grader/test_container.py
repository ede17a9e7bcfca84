"""The grader in an unprivileged container, whose filter forbids every namespace: the second tier holds."""

import json
import subprocess
import sys

import pytest

from grader.check_list import check_names
from grader.sandbox import tiers
from grader.sandbox.tiers import Tier
from homework.common.base_model import ROOT
from tests.support import zips

# As Docker's default filter does it: no unshare, no mount, no clone into a new user namespace, then the command itself.
CONTAINER = """
import errno, os, sys
import pyseccomp as seccomp
rules, user_namespace = seccomp.SyscallFilter(seccomp.ALLOW), 0x10000000
for name in ("unshare", "setns", "mount", "umount2", "pivot_root"):
    rules.add_rule(seccomp.ERRNO(errno.EPERM), name)
rules.add_rule(seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, user_namespace, user_namespace))
rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
rules.load()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.everything
def test_both_halves_are_graded_where_namespaces_are_forbidden(reference_files, tmp_path):
    if reason := tiers.why_not(Tier.LANDLOCK):
        pytest.skip(reason)
    zips.good(tmp_path / "x.zip", reference_files)
    code = [name for file in ("answering", "labels", "training", "loading") for name in check_names(file)]
    line = ["-m", "grader", str(tmp_path / "x.zip"), "--sandbox", "required", "--json", str(tmp_path / "r.json")]
    words = [sys.executable, "-c", CONTAINER, *line, "--only", ",".join(code)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "r.json").read_text())["extra_data"]
    assert found["provenance"]["sandbox"]["tier"] == Tier.LANDLOCK, found["provenance"]
    assert set(found["states"].values()) == {"passed"} and set(code) <= set(found["states"])
    if not tiers.why_not(Tier.BUBBLEWRAP):
        assert "bubblewrap" in found["provenance"]["sandbox"]["not used"]
