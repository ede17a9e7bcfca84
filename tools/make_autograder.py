"""Makes the zip that Gradescope installs as its autograder: grader, base model, pinned versions, no network later.

    python -m tools.make_autograder autograder.zip --key-file staff.key
    python -m tools.make_autograder autograder.zip --key-file staff.key --hidden hidden.json
    python -m tools.make_autograder autograder.zip --public --minutes 20 --index URL-OF-CPU-WHEELS

In the assignment's settings choose Ubuntu 22.04 or newer, the memory that is printed, and the time given as --minutes.
Key and hidden questions lie in the zip: whoever may download it may ask the official questions.
"""

import argparse
import re
import sys
import zipfile
from pathlib import Path

from grader.autograder import add_questions, refuse_unclear
from grader.errors import GraderFault
from grader.own_questions import read_hidden
from grader.seed import official_seed, read_key

ROOT = Path(__file__).resolve().parent.parent
TAKEN = ("grader", "data", "requirements.txt", "requirements.lock", "LICENSE")
LEFT_OUT = {"__pycache__", "classroom", ".DS_Store"}
EPOCH = (1980, 1, 1, 0, 0, 0)
SECRETS = {"staff.key": "--key-file", "hidden.json": "--hidden"}  # in the zip, and how the grader is told of them
MEMORY = "3 GB"  # of the platform's choices: the measured peak in docs/staff.md, and room for a student's own mistakes
SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, with network, when the autograder is uploaded. Nothing is fetched later.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
install() {{ apt-get install -y --no-install-recommends "$@"; }}
released() {{ "$1" -c 'import sys; sys.exit(not ((3, 11, 1) <= sys.version_info < (4,)))'; }}
apt-get update
install bubblewrap libseccomp2 ca-certificates python3 python3-venv
python=python3
if ! released python3; then
  # Ubuntu 22.04 has Python 3.10, and of 3.11 only a release candidate, on which torch does not run.
  install software-properties-common
  python=python3.11
  if ! {{ add-apt-repository -y ppa:deadsnakes/ppa && install $python $python-venv && released $python; }}; then
    echo "error: this Ubuntu has no released Python of 3.11 or newer, and ppa:deadsnakes/ppa gave none" >&2
    exit 1
  fi
fi
cd /autograder/source
"$python" -m venv /autograder/venv
/autograder/venv/bin/pip install --no-cache-dir {index}-r requirements.lock
for secret in staff.key hidden.json; do [ ! -f $secret ] || chmod 600 $secret; done
/autograder/venv/bin/python -c "import grader.reference, grader.sandbox.host; grader.reference.load_base()"
"""
RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for each submission. Whatever happens, results/results.json is valid when it ends.
root="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
python="$root/venv/bin/python"
[ -x "$python" ] || python="${{PYTHON:-python3}}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
mkdir -p "$root/results"
cd "$root/source" && "$python" -m grader.autograder "$root" --minutes {minutes:g} {questions}
if [ ! -s "$root/results/results.json" ]; then
  echo '{{"output": "NO SCORE: the autograder did not start. This is no zero: ask the staff.", "tests": []}}' \\
    > "$root/results/results.json"
fi
"""


def list_files(root: Path) -> list[Path]:
    """What goes in, relative to the repository."""
    found = [
        path for name in TAKEN for path in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
    ]
    relative = (path.relative_to(root) for path in found if path.is_file())
    return sorted(path for path in relative if not LEFT_OUT & set(path.parts) and path.suffix != ".pyc")


def build(root: Path, target: Path, minutes: float, secrets: dict[str, bytes], index: str) -> None:
    """Write the zip with its secrets, staff.key and hidden.json; the same files give the same bytes."""
    words = [f"{option} {name}" for name, option in SECRETS.items() if name in secrets]
    questions = " ".join(words) or "--public"
    content = {path.as_posix(): (root / path).read_bytes() for path in list_files(root)}
    content["setup.sh"] = SETUP.format(index=f"--extra-index-url {index} " if index else "").encode()
    content["run_autograder"] = RUN.format(minutes=minutes, questions=questions).encode()
    content |= secrets
    scratch = target.with_name(f".{target.name}")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (0o100755 if name in ("setup.sh", "run_autograder") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    scratch.replace(target)


def read_secrets(key_file: str | None, hidden: str | None) -> dict[str, bytes]:
    """Key and hidden questions, by their names in the zip.

    Raises:
        GraderFault: if one can't be read, the key is too short, or the questions are not hidden.
    """
    secrets = {}
    if key_file:
        secrets["staff.key"] = read_key(key_file)
        official_seed(secrets["staff.key"])  # refuses one that is too short
    if hidden:
        read_hidden(hidden)  # refuses what could not be asked
        secrets["hidden.json"] = Path(hidden).read_bytes()
    return secrets


def main(words: list[str] | None = None) -> int:
    """Build the zip and say how to set the platform; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_autograder", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("target", type=Path, help="the zip to write")
    parser.add_argument(
        "--minutes", type=float, default=10, help="the time that the platform's settings allow: 10 to 40"
    )
    parser.add_argument("--index", default="", metavar="URL", help="of wheels of torch for CPUs, which are far smaller")
    add_questions(parser)
    arguments = parser.parse_args(words)
    refuse_unclear(parser, arguments)
    if not 3 <= arguments.minutes <= 40:
        parser.error(f"--minutes must be 3 to 40, as the platform allows, not {arguments.minutes:g}")
    if arguments.index and not re.fullmatch(r"https://[\w./+-]+", arguments.index):
        parser.error("--index must be an https address")
    try:
        secrets = read_secrets(arguments.key_file, arguments.hidden)
        build(ROOT, arguments.target, arguments.minutes, secrets, arguments.index)
    except (GraderFault, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = arguments.target.stat().st_size
    print(f"{arguments.target}: {size:,} bytes. Upload it under Configure Autograder, with Ubuntu 22.04 or newer.")
    print(f"Settings: container memory at least {MEMORY}, autograder timeout {arguments.minutes:g} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
