"""The sandbox holds: its canary finds nothing open, nothing outlives a job, and no job output breaks the grader."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from grader.errors import GraderFault
from grader.harness.job_report import last_words
from grader.sandbox import tiers
from grader.sandbox.guest.folders import measure, read_file, remove
from grader.sandbox.host import DISK, LIMITS, Sandbox
from grader.sandbox.job_output import outputs
from grader.sandbox.tiers import FIRST_UID, Tier
from homework.common.base_model import ROOT
from tests.support.rows import rest

# Files that are deleted, and then mapped, or open, and filled: no folder lists them, and nothing is written to them.
HIDES = """
import mmap, os
kept = []
for number in range(20):
    file = os.open("tmp/hidden", os.O_RDWR | os.O_CREAT)
    os.unlink("tmp/hidden")
    os.ftruncate(file, 32 << 20)
    kept.append(mmap.mmap(file, 32 << 20))
    os.close(file)
    try: kept[-1][:] = bytes(32 << 20)
    except OSError: break
"""
TIERS = (Tier.BUBBLEWRAP, Tier.LANDLOCK)


@pytest.fixture(autouse=True)
def scratch(monkeypatch):
    """A temporary directory of the test alone, that every user may pass through; nothing may be left in it."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-"))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    wait_until(lambda: not processes_in(folder))  # those of a killed bubblewrap end a moment after it
    shutil.rmtree(folder)


@pytest.fixture(params=TIERS)
def tier(request) -> Tier:
    """Each tier that this machine can try."""
    if reason := tiers.why_not(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def guest(scratch, monkeypatch) -> Path:
    """A copy of the guest that may be changed; its canary runs the lines that it is given, without torch."""
    folder = scratch / "sandbox" / "guest"
    shutil.copytree(tiers.GUEST, folder)
    shutil.copy(tiers.GUEST.with_name("host.py"), folder.parent)
    monkeypatch.setattr(tiers, "GUEST", folder)
    return folder


def run_code(sandbox: Sandbox, code: str, seconds: float = 20, wall: float = 60):
    """What became of a job of these lines."""
    (tiers.GUEST / "canary.py").write_text("def attempt(targets): exec(targets['code'], {})")
    return sandbox.run("canary", {}, {"inputs.json": json.dumps({"code": code}).encode()}, seconds, wall)


def processes_in(folder: Path) -> list[str]:
    """The processes whose command line or environment names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            said = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
        except OSError:
            continue
        if bytes(folder) in said:
            found.append(said.decode(errors="replace")[-200:])
    return found


def test_the_canary_finds_nothing_open(tier):
    with Sandbox(tier) as sandbox:
        assert sandbox.run_canary() == ""


@pytest.mark.parametrize(
    ("line", "plant", "leak"),
    [
        ('"socket", "socketpair", ', "", "send to a socket by a pair"),
        rest('"symlink", "symlinkat", "truncate",', "", ""),  # Landlock bounds these too: one layer less is no hole
        rest('"chmod", "fchmod", "fchmodat",', "", "change a file's rights"),
        ("seccomp.Arg(1, seccomp.GT, max(IOCTLS))", "seccomp.Arg(1, seccomp.EQ, 0)", "reserve disk space by ioctl"),
        ("SUID, SGID = 0o4000, 0o2000", "SUID, SGID = 1 << 20, 1 << 20", "make a file with the suid bit"),
        rest('"vmsplice", ', "", "pin memory in a pipe"),
        rest("    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)", "    pass", "take huge pages"),
        ('"maps", "smaps"', '"maps", "net"', "read the host's connections"),
        ('"maps", "smaps"', '"maps", "task"', "read them by a thread's name"),
        rest("landlock([*allowed,", "landlock([('/', WRITING), *allowed,", "read the answers"),
        rest('    "setpriority", "sched_setaffinity",\n', "", ""),
        rest("SHARED_ANONYMOUS = 0x21", "SHARED_ANONYMOUS = 1 << 30", "share memory with nobody"),
        rest("filter_calls()\n\n\ndef limit", "pass\n\n\ndef limit", "start a program"),
    ],
)  # fmt: skip
def test_the_canary_fires_when_a_tier_is_weakened(line, plant, leak, guest):
    """Each line is taken out of a copy of the guest."""
    if reason := tiers.why_not(Tier.LANDLOCK):
        pytest.skip(reason)
    source = (guest / "confine.py").read_text()
    assert line in source
    (guest / "confine.py").write_text(source.replace(line, plant, 1))
    with Sandbox(Tier.LANDLOCK) as sandbox:
        if leak == "change a file's rights" and sandbox.uid is not None:
            pytest.skip("the files of another user are closed by their rights already")
        found = sandbox.run_canary()
    assert f"{leak}: was possible" in found if leak else "the answers" not in found, found


def test_bubblewrap_alone_keeps_its_files_closed(guest):
    """On a kernel without Landlock: what may be written is emptied after each job."""
    if reason := tiers.why_not(Tier.BUBBLEWRAP):
        pytest.skip(reason)
    source = (guest / "confine.py").read_text()
    (guest / "confine.py").write_text(source.replace("if landlock_abi():", "if False:"))
    with Sandbox(Tier.BUBBLEWRAP) as sandbox:
        assert sandbox.run_canary() == ""
        run_code(sandbox, "open('../beside', 'w').write('for the next')")
        assert not list(sandbox.jobs.iterdir())


def test_tier_two_is_taken_where_namespaces_are_forbidden(monkeypatch, scratch):
    if reason := tiers.why_not(Tier.LANDLOCK):
        pytest.skip(reason)
    refusing = scratch / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scratch}:{os.environ['PATH']}")
    monkeypatch.setattr(tiers, "why_not", lambda tier: "")
    former = tiers.command
    monkeypatch.setattr(tiers, "command", lambda *a: [str(refusing) if w == "bwrap" else w for w in former(*a)])
    with Sandbox.open("auto", required=True) as sandbox:
        assert sandbox.tier is Tier.LANDLOCK
        assert "No permissions" in sandbox.describe()["not used"]["bubblewrap"]


def test_nothing_runs_where_nothing_holds(monkeypatch):
    monkeypatch.setattr(tiers, "why_not", lambda tier: "" if tier is Tier.NONE else "not here")
    with pytest.raises(GraderFault, match="no sandbox holds here"):
        Sandbox.open("auto", required=True)
    with Sandbox.open("auto") as sandbox:
        assert sandbox.tier is Tier.NONE


def test_the_inputs_are_gone_before_the_code_runs(tier, guest):
    """They hold right outputs of some functions, for those that build upon them."""
    with Sandbox(tier) as sandbox:
        assert run_code(sandbox, "import os; print(os.listdir('in'), flush=True)").output == "[]\n"


def test_a_job_that_waits_for_its_own_threads_is_not_delayed(monkeypatch, tmp_path):
    """Sixty threads on one core: the first waits nearly all the time, and the machine has a CPU for the job."""
    monkeypatch.syspath_prepend(str(ROOT / "grader" / "sandbox" / "guest"))
    import watch  # type: ignore[import-not-found]

    (tmp_path / "job").mkdir()
    one = watch.Watch(os.getpid(), str(tmp_path / "job"), {"entries": 10, "disk": 10, "idle": 30}, False)
    one.started -= 31
    monkeypatch.setattr(watch, "queued_seconds", lambda _: 27.8)
    for computed, delay in ((30.9, 0.1), (10.0, 21.0), (1.0, 27.8)):
        monkeypatch.setattr(watch, "computing_seconds", lambda _, computed=computed: computed)
        one.taken()
        assert one.delay == pytest.approx(delay, abs=0.5)


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("import ctypes; ctypes.string_at(0)", "signal SIGSEGV"),
        rest("import signal; signal.raise_signal(40)", "signal 40"),
        ("import ctypes, time\nctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0)\nend = time.monotonic() + 0.5\n"
         "while time.monotonic() < end: pass", "exit 0"),
        ("while True: pass", "time"),
        rest("import os\nos.chdir('tmp')\nfor i in range(1500): os.mkdir('d'); os.chdir('d')\nos._exit(3)", "exit 3"),
        rest("import os\nos.chdir('tmp')\nfor i in range(20): os.mkdir('x' * 250); os.chdir('x' * 250)\n"
         "while True: pass", "entries"),
        rest("import os\nfor i in range(9999): open(f'tmp/{i}', 'w').close()\nwhile True: pass", "entries"),
        rest("import os\nwhile True:\n f = open('tmp/f', 'wb'); os.unlink('tmp/f'); f.write(bytes(1 << 24))",
             "written"),
        (f"{HIDES}\nwhile True: pass", "disk"),
        ("import time\ntime.sleep(99)", "idle"),
        rest("import time\nwhile True: time.sleep(0.01); sum(range(99999))", "wall"),
    ],
)  # fmt: skip
def test_no_file_outlives_a_job_and_the_next_one_runs(code, ended, tier, guest, scratch, monkeypatch):
    monkeypatch.setitem(LIMITS, "idle", 1)
    with Sandbox(tier) as sandbox:
        found = run_code(sandbox, code, seconds=30 if ended != "time" else 1, wall=3 if ended == "wall" else 60)
        assert found.ended == ended
        assert not list(sandbox.jobs.iterdir())
        assert run_code(sandbox, "print('next', flush=True)").output == "next\n"
    assert list(scratch.iterdir()) == [guest.parent]


def test_a_job_whose_first_thread_has_ended_is_watched_all_the_same(tier, guest, monkeypatch):
    """Of a process whose first thread has ended, /proc shows neither memory nor files."""
    monkeypatch.setitem(LIMITS, "resident", 1 << 30)
    code = """
import ctypes, os, threading, time
def hold():
    time.sleep(0.5)
    held = b"x" * (3 << 29)
    while True: pass
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""
    with Sandbox(tier) as sandbox:
        assert run_code(sandbox, code, seconds=5).ended == "resident"


def weaken(guest: Path, name: str, line: str, plant: str) -> None:
    """Put other words in the place of a line of the guest, which has to be there once."""
    source = (guest / name).read_text()
    assert source.count(line) == 1
    (guest / name).write_text(source.replace(line, plant))


@pytest.mark.parametrize("code", ["for i in range(99): open(f'tmp/{i}', 'wb').write(bytes(1 << 24))", HIDES])
def test_a_job_that_wants_more_than_its_disk_leaves_the_others_theirs(code, tier, guest):
    """The kernel bounds the disk of the jobs, so that no burst between two looks can fill the machine's."""
    with Sandbox(tier) as sandbox:
        outcome = run_code(sandbox, f"import os\n{code}")
        if not sandbox.describe()["own disk"]:
            pytest.skip("a disk of one's own can't be mounted here")
        assert outcome.ended == "disk"
        said = run_code(
            sandbox, "import os; s = os.statvfs('.'); print(s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize)"
        )
        size, free = map(int, said.output.split())
        assert size == DISK and free > size - (1 << 20), "and the next job has all of it"


def test_the_canary_fires_where_a_disk_is_larger_than_it_may_be(guest):
    if reason := tiers.why_not(Tier.LANDLOCK):
        pytest.skip(reason)
    weaken(guest, "disk.py", 'f"size={size},mode', 'f"size={2 * size},mode')
    weaken(guest, "disk.py", "f_frsize <= size", "f_frsize <= 2 * size")
    with Sandbox(Tier.LANDLOCK) as sandbox:
        found = sandbox.run_canary()
        if not sandbox.describe()["own disk"]:
            pytest.skip("a disk of one's own can't be mounted here")
    assert found == "fill more than its disk: was possible"


@pytest.mark.parametrize(("code", "ended"), [("print('right')", ""), (f"{HIDES}\nwhile True: pass", "disk")])
@pytest.mark.parametrize(
    ("line", "plant", "lack"),
    [
        ("disk.f_bavail * disk.f_frsize", "0", "disk"),
        rest('found.get("MemAvailable", LEAST_MEMORY) + found.get("SwapFree", 0)', "0", "memory"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_a_student(code, ended, line, plant, lack, guest):
    """Without a disk of their own: where the machine has none to give, but a job that takes too much is named."""
    if reason := tiers.why_not(Tier.LANDLOCK):
        pytest.skip(reason)
    weaken(guest, "disk.py", "        return is_bounded(jobs, size)\n", "        return False\n")
    weaken(guest, "disk.py", "            mount(jobs, size)\n", "            raise OSError\n")
    weaken(guest, "watch.py", line, plant)
    with Sandbox(Tier.LANDLOCK) as sandbox:
        if ended:
            assert run_code(sandbox, code).ended == ended and not sandbox.describe()["own disk"]
        else:
            with pytest.raises(GraderFault, match=f"the machine lacks {lack}"):
                run_code(sandbox, code)


def test_nothing_reaches_out_of_a_job(tier, guest, scratch):
    victim = scratch / "victim"
    victim.write_text("kept")
    code = f"""
        import fcntl, os
        for call in (lambda: os.chmod({str(victim)!r}, 0o777), lambda: os.utime({str(victim)!r}, (1, 1))):
            try: call()
            except OSError: pass
        for call in (lambda: os.fork(), lambda: fcntl.fcntl(0, 8, os.getppid()), lambda: os.posix_fallocate(9, 0, 9),
                     lambda: os.open({str(victim)!r}, os.O_TRUNC), lambda: os.symlink("/", "out/link")):
            try: call()
            except OSError as error: print("refused", flush=True)
    """
    mode, changed = victim.stat().st_mode, victim.stat().st_mtime
    with Sandbox(tier) as sandbox:
        outcome = run_code(sandbox, "\n".join(line[8:] for line in code.splitlines()))
    assert outcome.output.count("refused") == 5
    assert (victim.stat().st_mode, victim.stat().st_mtime, victim.read_text()) == (mode, changed, "kept")


@pytest.mark.parametrize("sent", [signal.SIGKILL, rest(signal.SIGTERM), rest(signal.SIGINT)])
def test_nothing_outlives_a_grader_that_is_killed(sent, tier, guest, scratch):
    (guest / "canary.py").write_text("def attempt(targets):\n open('tmp/started', 'w').close()\n while True: pass")
    program = (
        "import signal\nfrom pathlib import Path\n"
        "from grader.sandbox import tiers\nfrom grader.sandbox.host import Sandbox\n"
        # A shell starts what runs in the background with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"tiers.GUEST = Path({str(guest)!r})\n"
        f"with Sandbox(tiers.Tier({str(tier)!r})) as sandbox: sandbox.run('canary', {{}}, {{}}, 60)"
    )
    environment = {**os.environ, "TMPDIR": str(scratch)}
    grader = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    places = (str(scratch)[1:], f"proc/[0-9]*/root{scratch}")  # on a disk of its own, only its processes see it
    wait_until(lambda: any(list(Path("/").glob(f"{place}/*/jobs/*/tmp/started")) for place in places))
    grader.send_signal(sent)
    grader.wait(20)  # well before the job's own end
    wait_until(lambda: not processes_in(scratch))
    assert not list(scratch.glob("*/jobs/*"))
    with Sandbox(Tier.NONE):  # the next one takes away what the killed one could not
        assert len(list(scratch.glob("grader-job-*"))) == 1


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_user_of_its_own(guest):
    if reason := tiers.why_not(Tier.LANDLOCK):
        pytest.skip(reason)
    if os.geteuid() != 0 or not all(map(tiers.is_public, tiers.readable_paths())):
        pytest.skip("this is not root, or other users may not read this Python")
    with Sandbox(Tier.LANDLOCK) as sandbox:
        outcome = run_code(sandbox, "import os; print(os.getuid(), os.getgroups(), flush=True)")
    assert int(outcome.output.split()[0]) >= FIRST_UID and "[]" in outcome.output


def test_remove_touches_nothing_beside(tmp_path):
    for name in ("gone", "link"):
        (tmp_path / "beside").mkdir(exist_ok=True)
        (tmp_path / "beside" / "kept").touch()
        (tmp_path / "work").mkdir(exist_ok=True)
        if name == "link":
            (tmp_path / "work" / name).symlink_to(tmp_path / "beside")
        mode = (tmp_path / "work").stat().st_mode
        remove(str(tmp_path / "work" / name))
        assert (tmp_path / "work").stat().st_mode == mode
        remove(str(tmp_path / "work"))
        assert not (tmp_path / "work").exists() and (tmp_path / "beside" / "kept").exists()


def test_a_folder_in_the_place_of_a_file_is_no_file_and_costs_no_descriptor(tmp_path):
    (tmp_path / "results.jsonl").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    assert read_file(str(tmp_path / "results.jsonl"), 5) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_of_what_was_printed_the_end_is_read(tmp_path):
    (tmp_path / "output.txt").write_bytes(b"first\nlast")
    assert [read_file(str(tmp_path / "output.txt"), most) for most in (5, -4, -99)] == [
        b"first",
        b"last",
        b"first\nlast",
    ]
    assert dict(outputs())["out/output.txt"] < 0


def test_the_last_words_of_a_job_are_its_own():
    bar, warning = "Loading weights: 100%|███| 3/3 [00:00]", "/x.py:3: FutureWarning: old\n  warnings.warn("
    assert last_words(f"one\nwhy I die\r{bar}\n{warning}\n\n") == "why I die"
    assert last_words(f"{bar}\n") == last_words("") == "" and len(last_words("x" * 300)) == 200


def test_what_cannot_be_looked_into_is_too_much(tmp_path):
    assert measure(str(tmp_path), 5) == (0, 0)
    for name in range(4):
        (tmp_path / str(name)).mkdir()
    assert measure(str(tmp_path), 5)[0] == 4
    assert measure(str(tmp_path), 2)[0] == 3
    assert json.dumps(measure("x" * 300, 5)) == "[6, 0]"
