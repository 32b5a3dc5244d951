"""The shim from Python: built, loaded into a process, armed, and its log read back.

Rule of this room: it knows calls and bytes, and nothing of what they mean. The log is written down in shim.c.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("shim.c")
_HEAD: Final = struct.Struct("<IBBHHHIIQqqqQII")
REFUSED: Final = 1
HALF: Final = 2


class Op(IntEnum):
    WRITE = 1
    FSYNC = 2
    FDATASYNC = 3
    SYNC_RANGE = 4
    RENAME = 5
    LINK = 6
    SYMLINK = 7
    UNLINK = 8
    RMDIR = 9
    MKDIR = 10
    CREATE = 11
    TRUNCATE = 12
    ALLOCATE = 13
    MMAP = 14
    OPEN = 15
    MARK = 16


class Mode(IntEnum):
    COUNT = 0
    BEFORE = 1
    AFTER = 2
    HALF = 3
    ERROR = 4


CHANGES: Final = frozenset(Op) - {Op.MMAP, Op.OPEN, Op.MARK}


@dataclass(frozen=True, slots=True)
class Call:
    """One record of the log; the fields are those of shim.c."""

    op: Op
    flags: int
    call: int
    pid: int
    tid: int
    number: int
    result: int
    offset: int
    length: int
    inode: int
    mode: int
    path: str
    second: str
    data: bytes


def read_log(path: Path) -> list[Call]:
    """Every record, in order. One that the log ends in the middle of is a mistake and raises."""
    whole = path.read_bytes()
    found, at = [], 0
    while at < len(whole):
        (
            size,
            op,
            flags,
            first,
            second,
            call,
            pid,
            tid,
            number,
            result,
            offset,
            length,
            inode,
            mode,
            data,
        ) = _HEAD.unpack_from(whole, at)
        body = whole[at + _HEAD.size : at + size]
        if len(body) != size - _HEAD.size or size != _HEAD.size + first + second + data:
            raise ValueError(f"The log breaks off at {at}.")
        found.append(
            Call(
                Op(op),
                flags,
                call,
                pid,
                tid,
                number,
                result,
                offset,
                length,
                inode,
                mode,
                os.fsdecode(body[:first]),
                os.fsdecode(body[first : first + second]),
                body[first + second :],
            )
        )
        at += size
    return found


@cache
def build() -> Path:
    """The library, compiled once for this user and source. An error if there is no compiler: nothing here may be
    skipped."""
    place = Path(tempfile.gettempdir()) / f"afterword-shim-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    made = place / f"{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if made.exists():
        return made
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("A C compiler is needed; run `make test`, which installs one.")
    # Under a name of its own first: several processes may be at it.
    draft = place / f"{os.getpid()}.so"
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-O2",
            "-Wall",
            "-Werror",
            "-o",
            str(draft),
            str(SOURCE),
            "-ldl",
            "-lpthread",
        ],
        check=True,
    )
    draft.replace(made)
    return made


def environment(**settings: object) -> dict[str, str]:
    """For a process that starts under the shim: folder=, log=, shared=, mode="before", at=, errno=, every=, only=."""
    given = {f"SHIM_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "LD_PRELOAD": str(build()), **given}


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.shim_calls.restype = ctypes.c_uint64
    library.shim_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_uint64]
    library.shim_mark.argtypes = [ctypes.c_char_p, ctypes.c_long]
    return library


def loaded() -> bool:
    """Whether this process runs under the shim."""
    return hasattr(ctypes.CDLL(None), "shim_arm")


def watch(folder: Path | None) -> None:
    """Look at calls below `folder` from now on."""
    _library().shim_folder(b"" if folder is None else os.fsencode(folder.resolve()))


def arm(mode: Mode, at: int = 0, errno: int = 0, every: int = 0, only: frozenset[Op] | None = None) -> None:
    """Begin to count at nought. `every`: 0 once, -1 from `at` on, n at every nth from `at`."""
    bits = sum(1 << op for op in only) if only else 0
    _library().shim_arm(int(mode), at, errno, every, bits)


def calls() -> int:
    """How many counted calls there were since arming."""
    return int(_library().shim_calls())


def mark(text: str) -> None:
    """A line for whoever reads the log. Nothing when no log is written."""
    raw = text.encode()
    _library().shim_mark(raw, len(raw))


@contextlib.contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Log every call and mark inside of the `with`."""
    if path is not None and _library().shim_log(os.fsencode(path)) != 0:
        raise RuntimeError(f"{path} cannot be written.")
    try:
        yield
    finally:
        _library().shim_log(b"")
