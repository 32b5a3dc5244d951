"""A file as it is read, although somebody may be writing to it.

Rule of this room: what it gives is what was there from the first byte to the last, or it says that it was not.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from cli.scan import Found
from vault import stream

AGAIN_BELOW: Final = 256 * 1024 * 1024
"""Files above this are read once, however they change meanwhile."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A file read to its end. `found` is what it was when it was opened; `steady`: nobody wrote to it meanwhile."""

    found: Found
    size: int
    digest: bytes
    steady: bool


class Vanished(OSError):
    """There is something else under this name now, or nothing."""


def read_file(found: Found, take: Callable[[bytes], None]) -> Whole:
    """Hand each chunk to `take`. Reads no further than the size at opening, so that a log that grows comes to an
    end. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0)
    with open(os.open(found.at, flags), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise Vanished
        bounded = _Bounded(file.read, before.st_size)
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(bounded):
            digest.update(chunk)
            size += len(chunk)
            take(chunk)
        after = os.fstat(file.fileno())
    now = replace(
        found,
        size=size,
        mode=stat.S_IMODE(before.st_mode) & 0o777,
        mtime_ns=before.st_mtime_ns,
        ctime_ns=before.st_ctime_ns,
        device=before.st_dev,
        inode=before.st_ino,
    )
    same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    return Whole(now, size, digest.digest(), same and size == before.st_size)


def _chunks(source: "_Bounded") -> Iterator[bytes]:
    # Most files are smaller than the smallest chunk: cutting them would cost more than reading them.
    first = source.read(stream.CHUNK_MIN)
    if len(first) < stream.CHUNK_MIN:
        if first:
            yield first
        return
    source.push_back(first)
    yield from stream.chunks(source)


class _Bounded:
    """The first `size` bytes of a file."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read, self._left, self._again = read, size, b""

    def push_back(self, data: bytes) -> None:
        self._again, self._left = data, self._left + len(data)

    def read(self, size: int = -1, /) -> bytes:
        wanted = min(size if size >= 0 else self._left, self._left)
        data, self._again = self._again[:wanted], self._again[wanted:]
        while len(data) < wanted:
            more = self._read(wanted - len(data))
            if not more:
                break
            data += more
        self._left -= len(data)
        return data
