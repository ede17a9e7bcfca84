"""Opens a submission, a zip or a folder, as bytes: harmless oddities are cleaned up and noted, hostile ones refused.

Nothing is ever written to a path that a submission names, nothing is followed, nothing is executed, and no more is read
than the rubric allows, whatever the zip says of its own sizes.
"""

import hashlib
import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from grader import rubric
from grader.errors import Refusal

BUNDLE_AGAIN = "make the zip with python bundle.py homework ID (README, Hand in)"
JUNK_PARTS = {"__MACOSX", "__pycache__", ".git", ".venv", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache"}
JUNK_NAMES = {".DS_Store", "Thumbs.db", "desktop.ini", ".gitignore", ".lock"}
PICKLES = (".bin", ".pt", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".dill")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".whl")
CODE_FILES = (".py", ".json", ".safetensors")
TASK_FILES = ("base_llm.py", "sft.py")  # by one of them, or by an adapter, a folder is known to hold a homework
TRAINERS_OWN = "training_args.bin"  # a pickle that the Trainer writes beside every adapter: left out unread
READ_FILES = (*CODE_FILES, *PICKLES, *ARCHIVES, ".pth")  # the others are left out by their names
CUT = {rubric.ANSWERS: rubric.ANSWERS_BYTES, rubric.REASONS: rubric.CODE_BYTES}  # bytes; they decide no score
HERE = "./"
NAME_BYTES = 255  # of one file or folder, which file systems hold; other letters than a to z take two to four each
END = struct.Struct("<4s4H2LH")  # the end-of-central-directory record


class Submission(NamedTuple):
    """What was handed in: files by their path in the package, what was cleaned up, and the hash of the files.

    The answers in words stand apart: they decide no score, so they are in no hash and reach no sandbox. One byte above
    `rubric.ANSWERS_BYTES` says that they go on.
    """

    name: str
    files: dict[str, bytes]
    notes: list[str]
    sha256: str
    answers: bytes = b""


def open_submission(path: Path, own: bool = False) -> Submission:
    """Open a zip or a folder.

    Args:
        path: of the submission.
        own: whether it is the student's own folder, of which only some files will be bundled; others are not looked at.

    Raises:
        Refusal: naming what is wrong with it and what to do.
    """
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        raise Refusal(f"there is no submission at {path}", do="name the folder homework or the ID.zip")
    found = dict(read_folder(path, CODE_FILES if own else READ_FILES) if path.is_dir() else read_zip(path))
    cleaned, notes = clean(found)
    answers = cleaned.pop(rubric.ANSWERS, b"")
    if not cleaned:
        raise Refusal("the submission holds no file of a homework", do=BUNDLE_AGAIN)
    digest = hashlib.sha256()
    for name in sorted(cleaned):
        digest.update(f"{name}\0{len(cleaned[name])}\0".encode() + cleaned[name])
    return Submission(path.name, cleaned, notes, digest.hexdigest(), answers)


def find_zips(folder: Path) -> list[Path]:
    """The zips at the top of a folder that holds no homework itself, whatever else lies beside them."""
    zips = [one for one in folder.iterdir() if one.suffix.lower() == ".zip" and one.is_file() and not is_junk(one.name)]
    own = [path for path in folder.rglob("*") if path.name in TASK_FILES or path.suffix == ".safetensors"]
    return [] if any(not is_junk(path.relative_to(folder).as_posix()) for path in own) else zips


def clean(found: dict[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """Files relative to the package, without junk, a parent folder and what nobody reads; and what was done."""
    notes, kept = [], {name: content for name, content in found.items() if not is_junk(name)}
    if junk := len(found) - len(kept):
        notes.append(f"left out {junk} files of the system (__MACOSX, .DS_Store, caches)")
    read = [name for name in kept if is_read(name, READ_FILES)]
    parents = find_package(read)
    top = "".join(f"{parent}/" for parent in parents)
    if beside := [name for name in read if not name.startswith(top)]:
        notes.append(f"left out {len(beside)} files beside {top}: {', '.join(sorted(beside)[:3])[:200]}")
    answers = f"{top}{rubric.ANSWERS}"
    other = [name for name in kept if name not in read and name != answers]
    if other:
        names = ", ".join(sorted(name.rpartition("/")[2] for name in other)[:3])
        notes.append(f"left out {len(other)} files that are no code: {names}")
    if len(parents) > 1:
        notes.append(f"the homework lies in {'/'.join(parents)}, not at the top: taken from there")
    inside = {*read, answers}.difference(beside)
    kept = {name.removeprefix(top): content for name, content in kept.items() if name in inside}
    for name in kept:
        refuse_name(name)
    if long := [
        name for name in kept if PurePosixPath(name).name == rubric.REASONS and len(kept[name]) > size_limit(name)
    ]:
        notes.append(f"left out {', '.join(long)[:200]}: more than {rubric.CODE_BYTES:,} bytes")
    return {name: content for name, content in kept.items() if name not in long}, notes


def is_read(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is looked at, by its path; the others are left out."""
    return name.lower().endswith(suffixes) and name.rpartition("/")[2] != TRAINERS_OWN


def is_junk(name: str) -> bool:
    """Whether a path is rubbish of an operating system, an editor or Python."""
    parts = name.split("/")
    return (
        bool(JUNK_PARTS & set(parts)) or parts[-1] in JUNK_NAMES or parts[-1].startswith("._") or name.endswith(".pyc")
    )


def find_package(names: list[str]) -> list[str]:
    """The folders above the files of the package: the highest homework/ that holds a task or an adapter, else the
    highest folder that does, else what all files share.

    Example: ['ID/hw1/sft.py', 'ID/data/rft.json'] -> ['ID', 'hw1']

    Raises:
        Refusal: naming the folders, if more than one is such.
    """
    parents = {parent for name in names if (parent := homework_of(name.split("/"))) is not None}
    fitting = {parent for parent in parents if parent[-1:] == ("homework",)} or parents
    highest = sorted(parent for parent in fitting if len(parent) == min(map(len, fitting)))
    if len(highest) > 1:
        which = ", ".join("/".join(parent) for parent in highest[:3])[:200]
        raise Refusal("more than one folder holds a homework", expected="one", actual=which, do=BUNDLE_AGAIN)
    return list(highest[0]) if highest else shared_parents(names)


def homework_of(parts: list[str]) -> tuple[str, ...] | None:
    """The folder of the homework that a file belongs to, if its path shows one: it is a task's, or an adapter's.

    Example: ['hw1', 'sft_model', 'adapter_config.json'] -> ('hw1',)
    """
    for depth, part in enumerate(parts):
        if part in TASK_FILES or part in (rubric.ADAPTER_DIR, rubric.REASONING_DIR):
            return tuple(parts[:depth])
    return None


def shared_parents(names: list[str]) -> list[str]:
    """The folders that all files share, above the package's own sub-folders.

    Example: ['ID/homework/sft.py', 'ID/homework/sft_model/x'] -> ['ID', 'homework']
    """
    parents = [name.split("/")[:-1] for name in names]
    shared: list[str] = []
    for level in zip(*parents, strict=False):
        if len(set(level)) > 1 or level[0] in (rubric.ADAPTER_DIR, rubric.REASONING_DIR):
            break
        shared.append(level[0])
    return shared


def refuse_name(name: str) -> None:
    """Refuse pickled weights and archives.

    Names of libraries are free: only the folder above homework/ is ever on Python's path, so that torch.py of a
    submission is homework.torch and nothing else.
    """
    lower = name.lower()
    if lower.endswith((*PICKLES, ".pth")):
        raise Refusal(f"{name[:100]!r} is a pickle or may be one: it could run code when it is opened",
                      expected="weights as .safetensors", do="delete it, and bundle again")  # fmt: skip
    if lower.endswith(ARCHIVES):
        raise Refusal(f"{name[:100]!r} is an archive inside the submission", do=BUNDLE_AGAIN)


def read_folder(folder: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The files of some kinds below a folder, by their path with the folder's name in front. Links are refused."""
    total, paths = 0, sorted(path for path in folder.rglob("*") if not is_junk(path.relative_to(folder).as_posix()))
    if len(paths) > 10 * rubric.FILES:
        raise Refusal(f"{folder.name} holds {len(paths)} files", expected=f"at most {rubric.FILES}", do=BUNDLE_AGAIN)
    for path in paths:
        name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
        if path.is_symlink():
            raise Refusal(f"{name[:100]!r} is a link", do="put the file itself in its place")
        if any(0xD800 <= ord(char) <= 0xDFFF for char in name):
            raise Refusal(f"the file name {name[:100]!r} is no UTF-8", do="rename the file")
        if path.is_file() and is_cut(name):
            with path.open("rb") as file:
                content = file.read(size_limit(name) + 1)
            total += len(content)
            check_size(name, 0, total)
            yield name, content
        elif path.is_file() and is_wanted(name):
            total += path.stat().st_size
            check_size(name, path.stat().st_size, total)
            yield name, path.read_bytes()
        elif path.is_file() and is_read(name, suffixes):
            yield name, b""


def is_wanted(name: str) -> bool:
    """Whether a file is read; the others are left out, or refused by their name, whatever their size."""
    return name.lower().endswith(CODE_FILES) or is_cut(name)


def path_of(entry: zipfile.ZipInfo) -> str:
    """The path of an entry.  Example: './homework/sft.py', as tar writes it -> 'homework/sft.py'"""
    return entry.filename.removeprefix(HERE)


def is_cut(name: str) -> bool:
    """Whether a path, wherever it stands, is called as the answers or the rows with reasons are.

    They are cut instead of refused: their length costs nobody the points of the rest.
    """
    return PurePosixPath(name).name in CUT


def size_limit(name: str) -> int:
    """The most bytes of a file: weights may be large, in the wrong folder too, or nobody would be told which it is."""
    weights_or_code = rubric.ZIP_BYTES if name.endswith(".safetensors") else rubric.CODE_BYTES
    return CUT.get(PurePosixPath(name).name, weights_or_code)


def check_size(name: str, size: int, total: int) -> None:
    """Refuse a file, or a sum of files, above the limits of the rubric."""
    limit = size_limit(name)
    if size > limit:
        raise Refusal(
            f"{name[:100]!r} is too large", expected=f"at most {limit:,} bytes", actual=f"{size:,}", do=BUNDLE_AGAIN
        )
    if total > rubric.UNPACKED_BYTES:
        raise Refusal(
            "the submission is too large", expected=f"at most {rubric.UNPACKED_BYTES:,} bytes", do=BUNDLE_AGAIN
        )


def read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file in a zip, as bytes, counted while they are read.

    Raises:
        Refusal: for anything that a bundle never holds.
    """
    size = path.stat().st_size
    if size > rubric.ZIP_BYTES:
        raise Refusal("the zip is too large", expected=f"at most {rubric.ZIP_BYTES:,} bytes", actual=f"{size:,}",
                      do="python -m homework.check shows what takes the space")  # fmt: skip
    content = path.read_bytes()
    check_directory(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            check_entries(entries)
            total = 0
            for entry in (entry for entry in entries if not entry.is_dir()):
                name = path_of(entry)
                data = read_entry(archive, entry) if is_wanted(name) else b""
                total += len(data)
                check_size(name, 0 if is_cut(name) else len(data), total)
                yield name, data
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        ValueError,
        OverflowError,
        struct.error,
        OSError,
    ) as error:
        raise Refusal(
            "the zip is damaged or of a kind that is not read", actual=f"{error}"[:200], do=BUNDLE_AGAIN
        ) from error


def check_directory(content: bytes) -> None:
    """Refuse a file whose directory of entries is missing, too long to be read, or of the 64-bit kind."""
    start = content.rfind(b"PK\x05\x06", max(0, len(content) - END.size - 65_536))
    if start < 0 or start + END.size > len(content):
        raise Refusal("this is no zip file, or it was cut", actual=f"it begins with {content[:8]!r}", do=BUNDLE_AGAIN)
    _, _, _, _, entries, size, _, _ = END.unpack_from(content, start)
    if content[max(0, start - 20) :].startswith(b"PK\x06\x07"):
        raise Refusal(
            "the zip sends its reader to a 64-bit directory", expected="at most 200 small files", do=BUNDLE_AGAIN
        )
    if entries == 0xFFFF or size == 0xFFFFFFFF or entries > rubric.FILES or size > 1000 * rubric.FILES:
        raise Refusal(
            "the zip holds too many files", expected=f"at most {rubric.FILES}", actual=f"{entries}", do=BUNDLE_AGAIN
        )
    if not entries:
        raise Refusal("the zip is empty", do=BUNDLE_AGAIN)


def check_entries(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse entries by what the directory says of them, before any is opened."""
    seen: dict[str, str] = {}
    if len(entries) > rubric.FILES:
        raise Refusal(
            "the zip holds too many files",
            expected=f"at most {rubric.FILES}",
            actual=f"{len(entries)}",
            do=BUNDLE_AGAIN,
        )
    for entry in (entry for entry in entries if entry.filename != HERE):
        name = path_of(entry)
        check_path(name, entry.orig_filename.removeprefix(HERE))
        mode = entry.external_attr >> 16
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode):
            raise Refusal(f"{name[:100]!r} is a link or a device", do="put the file itself in its place")
        if entry.flag_bits & 0x1:
            raise Refusal(f"{name[:100]!r} is encrypted", do="make the zip without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refusal(
                f"{name[:100]!r} is packed by an unusual method", expected="stored or deflated", do=BUNDLE_AGAIN
            )
        if is_wanted(name) and entry.file_size > 100 * max(entry.compress_size, 1000):
            raise Refusal(f"{name[:100]!r} unpacks to {entry.file_size:,} bytes, as a bomb does", do=BUNDLE_AGAIN)
        key = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        if key in seen:
            raise Refusal(
                f"{name[:100]!r} and {seen[key][:100]!r} are one file on some systems", do="rename one of them"
            )
        seen[key] = name
    refuse_file_as_folder(seen)
    spans = sorted(
        (entry.header_offset, entry.header_offset + 30 + entry.compress_size, entry.filename) for entry in entries
    )
    for (_, end, first), (start, _, second) in pairwise(spans):
        if start < end:
            raise Refusal(f"{first[:60]!r} and {second[:60]!r} overlap in the zip, as in a bomb", do=BUNDLE_AGAIN)


def refuse_file_as_folder(seen: dict[str, str]) -> None:
    """Refuse a path below a file: no system can unpack both. Keys are the paths as the strictest system reads them."""
    for key, name in seen.items():
        for above in (seen.get(str(parent), "/") for parent in PurePosixPath(key).parents):
            if not above.endswith("/"):
                raise Refusal(f"{above[:100]!r} is a file and the folder of {name[:100]!r}", do="rename one of them")


def check_path(name: str, original: str) -> None:
    """Refuse a path that leaves the folder, or that systems read differently."""
    parts = name.rstrip("/").split("/")
    if name != original or "\\" in name or ":" in name or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise Refusal(f"the path {original[:100]!r} holds characters that systems read differently", do=BUNDLE_AGAIN)
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise Refusal(f"the path {name[:100]!r} leaves the folder", do=BUNDLE_AGAIN)
    if len(name) > 240:
        raise Refusal(f"the path {name[:60]!r}… has {len(name)} characters", expected="at most 240", do="shorten it")
    if (longest := max(len(part.encode()) for part in parts)) > NAME_BYTES:
        raise Refusal(f"the path {name[:60]!r}… holds a name of {longest} bytes", expected=f"at most {NAME_BYTES}",
                      do="shorten it")  # fmt: skip


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry, at most what its limit allows, whatever size it claims."""
    limit = size_limit(entry.filename)
    with archive.open(entry) as file:
        content = file.read(limit + 1)
    if len(content) != entry.file_size and len(content) <= limit:
        raise Refusal(f"{entry.filename[:100]!r} has another size than the zip says", do=BUNDLE_AGAIN)
    return content
