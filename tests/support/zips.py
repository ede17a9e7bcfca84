"""Hostile and clumsy zips, made on the spot: what attacks and file managers make of a homework."""

import io
import pickle
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

Files = dict[str, bytes]
Maker = Callable[[Path, Files], None]


def write(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> None:
    """A zip of entries in their order, doubles included."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def good(path: Path, files: Files, top: str = "homework/") -> None:
    write(path, [(f"{top}{name}", content) for name, content in files.items()])


def with_extra(name: str, content: bytes = b"x") -> Maker:
    """A good zip and one file more, by its path in the zip."""

    def make(path: Path, files: Files) -> None:
        write(path, [*((f"homework/{known}", data) for known, data in files.items()), (name, content)])

    return make


def raw_name(name: str) -> Maker:
    """A path that zipfile would not write: put into the bytes afterwards."""

    def make(path: Path, files: Files) -> None:
        placeholder = "homework/" + "q" * (len(name) - 9)
        with_extra(placeholder)(path, files)
        path.write_bytes(path.read_bytes().replace(placeholder.encode(), name.encode()))

    return make


def link(path: Path, files: Files) -> None:
    entry = zipfile.ZipInfo("homework/link.py")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    write(path, [*((f"homework/{name}", data) for name, data in files.items()), (entry, b"/etc/passwd")])


def device(path: Path, files: Files) -> None:
    entry = zipfile.ZipInfo("homework/device.py")
    entry.external_attr = (stat.S_IFCHR | 0o666) << 16
    write(path, [(entry, b"")])


def double(path: Path, files: Files) -> None:
    with_extra("homework/sft.py", b"another")(path, {**files, "sft.py": b"one"})


def encrypted(path: Path, files: Files) -> None:
    good(path, files)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 1)
    path.write_bytes(content)


def many(path: Path, files: Files) -> None:
    write(path, [(f"homework/{index}.py", b"") for index in range(60_000)], zipfile.ZIP_STORED)


def many_that_say_few(path: Path, files: Files) -> None:
    """The end record says 3, the directory lists 60,000."""
    many(path, files)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x05\x06")
    struct.pack_into("<2H", content, at + 8, 3, 3)
    path.write_bytes(content)


def zip64(path: Path, files: Files) -> None:
    """An end record that sends the reader to a 64-bit directory."""
    good(path, files)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2H2L", content, content.rfind(b"PK\x05\x06") + 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    path.write_bytes(content)


def entry_beyond_all_files(path: Path, files: Files) -> None:
    """A first entry that stands at 2**64 - 1, by the 64-bit field of its own."""
    good(path, files)
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    size, start = struct.unpack_from("<2L", content, end + 12)
    first = content[start : start + 46 + sum(struct.unpack_from("<3H", content, start + 28))]
    name = first[46 : 46 + struct.unpack_from("<H", first, 28)[0]]
    field = struct.pack("<2HQ", 1, 8, 2**64 - 1)
    changed = first[:30] + struct.pack("<2H", len(field), 0) + first[34:42] + b"\xff" * 4 + name + field
    directory = changed + content[start + len(first) : start + size]
    tail = content[end : end + 12] + struct.pack("<L", len(directory)) + content[end + 16 :]
    path.write_bytes(content[:start] + directory + tail)


def zip64_behind_a_small_end(path: Path, files: Files) -> None:
    """The end record says 3 entries; a locator before it leads the reader to a directory of 60,000."""
    many(path, files)
    content = path.read_bytes()
    at = content.rfind(b"PK\x05\x06")
    size, offset = struct.unpack_from("<2L", content, at + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 60_000, 60_000, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, 100, 0, 0)
    path.write_bytes(content[:at] + record + locator + end)


def bomb(path: Path, files: Files) -> None:
    """1000 : 1."""
    with_extra("homework/sft_model/adapter_model.safetensors", bytes(40_000_000))(path, {"sft.py": b""})


def bomb_of_code(path: Path, files: Files) -> None:
    with_extra("homework/big.py", bytes(3_000_000))(path, files)


def lying_size(path: Path, files: Files) -> None:
    """The directory says 10 bytes, the data unpacks to two million."""
    with_extra("homework/lie.py", bytes(2_000_000))(path, files)
    content = bytearray(path.read_bytes())
    name = b"homework/lie.py"
    struct.pack_into("<L", content, content.find(name) - 30 + 22, 10)
    struct.pack_into("<L", content, content.rfind(name) - 46 + 24, 10)
    path.write_bytes(content)


def overlap(path: Path, files: Files) -> None:
    """Two entries of the directory share the data of one."""
    write(path, [("homework/a.py", b"x" * 5000), ("homework/b.py", b"y")], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    second = content.rfind(b"homework/b.py") - 46
    struct.pack_into("<L", content, second + 42, 10)  # the header's offset: inside the first one's data
    path.write_bytes(content)


def cut(path: Path, files: Files) -> None:
    good(path, files)
    path.write_bytes(path.read_bytes()[:-200])


def beheaded(path: Path, files: Files) -> None:
    good(path, files)
    path.write_bytes(path.read_bytes()[100:])


def garbage(path: Path, files: Files) -> None:
    path.write_bytes(random.Random(0).randbytes(5000))


def empty(path: Path, files: Files) -> None:
    write(path, [])


def empty_file(path: Path, files: Files) -> None:
    path.write_bytes(b"")


def nested(path: Path, files: Files) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.py", b"x")
    with_extra("homework/inner.zip", inner.getvalue())(path, files)


def unusual_method(path: Path, files: Files) -> None:
    write(path, [("homework/sft.py", b"x" * 100)], zipfile.ZIP_LZMA)


def canary_pickle(canary: Path) -> bytes:
    """A pickle that makes the canary file if anybody opens it."""

    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (canary,))

    return pickle.dumps(Payload())


def pickled_weights(path: Path, files: Files) -> None:
    with_extra("homework/sft_model/adapter_model.bin", canary_pickle(path.with_name("canary")))(path, files)


# How each is refused.
HOSTILE: dict[str, tuple[Maker, str]] = {
    "slip": (with_extra("../evil.py"), "leaves the folder"),
    "slip inside": (with_extra("homework/../../evil.py"), "leaves the folder"),
    "absolute": (with_extra("/etc/evil.py"), "leaves the folder"),
    "drive": (raw_name("C:/homework/e.py"), "characters that systems read differently"),
    "backslash": (raw_name("homework\\..\\evil.py"), "characters that systems read differently"),
    "NUL": (raw_name("homework/a.py\0.txt"), "characters that systems read differently"),
    "escape": (raw_name("homework/\x1b[31m.py"), "characters that systems read differently"),
    "link": (link, "is a link or a device"),
    "device": (device, "is a link or a device"),
    "double": (double, "are one file on some systems"),
    "case": (with_extra("homework/SFT.py"), "are one file on some systems"),
    "unicode": (with_extra("homework/\u017fft.py"), "are one file on some systems"),
    "encrypted": (encrypted, "is encrypted"),
    "many": (many, "too many files"),
    "many that say few": (many_that_say_few, "too many files"),
    "zip64": (zip64, "too many files"),
    "zip64 behind a small end": (zip64_behind_a_small_end, "64-bit directory"),
    "an entry beyond all files": (entry_beyond_all_files, "damaged or of a kind that is not read"),
    "long path": (with_extra("homework/" + "a/" * 150 + "x.py"), "has 313 characters"),
    "name of many bytes": (with_extra(f"homework/{'字' * 100}.py"), "a name of 303 bytes"),
    "file as a folder": (with_extra("homework/sft.py/y.py"), "is a file and the folder of"),
    "file as a folder in another case": (with_extra("homework/SFT.PY/y.py"), "is a file and the folder of"),
    "bomb": (bomb, "as a bomb does"),
    "bomb of code": (bomb_of_code, "as a bomb does"),
    "lying size": (lying_size, "damaged|another size"),
    "overlap": (overlap, "overlap in the zip|damaged"),
    "cut": (cut, "no zip file, or it was cut"),
    "beheaded": (beheaded, "damaged or of a kind that is not read"),
    "garbage": (garbage, "no zip file"),
    "empty": (empty, "the zip is empty"),
    "empty file": (empty_file, "no zip file"),
    "nested": (nested, "is an archive inside the submission"),
    "unusual method": (unusual_method, "an unusual method"),
    "pickle": (pickled_weights, "is a pickle or may be one"),
    "pth": (with_extra("homework/evil.pth"), "is a pickle or may be one"),
}
