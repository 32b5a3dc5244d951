"""Ciphertext objects, each named by the SHA-256 of its bytes, under its dossier.

Rule of this room: what is called stored has its name's hash; a partial upload is never read back as an object;
no key goes further before its shape is checked.
"""

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from vault.errors import BadUsage, Conflict, Malformed, NoSpace, NotFound, Untrusted, WrongOffset
from vault.storage.disk import Disk

BLOCK: Final = 1 << 20
_DOSSIER: Final = re.compile(r"[0-9a-f]{32}")
_KEY: Final = re.compile(r"([0-9a-f]{32})/([0-9a-f]{64})")
_ROOM_FOR_TESTS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Stored:
    """The whole object is on disk under its name."""


@dataclass(frozen=True, slots=True)
class Partial:
    """The body ended early; the next upload may begin at `held`."""

    held: int


Received = Stored | Partial


class Objects(Protocol):
    """A store of objects under keys `DOSSIER/NAME` (32 and 64 hex digits; anything else is Malformed).

    Every verb may raise NoSpace (a full disk), Damaged (a store that does not work), Conflict `busy` (too much is
    open) and DiskFailed (a disk that does not take what is written: then nothing is written any more).
    """

    def receive(self, key: str, offset: int, body: Iterable[bytes], size: int) -> Received:
        """Take `body` as the bytes from `offset` of an object of `size` bytes.

        An object that is there already is Stored without reading the body. WrongOffset(held) if `offset` is not
        where the interrupted upload stopped; Conflict `busy` while another upload of the same key goes on;
        Untrusted `object-mismatch`, with everything held of it discarded, if the bytes are too many or do not
        have the name's hash. If the body raises, what arrived before is kept, and its exception goes on.
        """
        ...

    def held(self, key: str) -> int:
        """How many bytes of an interrupted upload are here."""
        ...

    def has(self, key: str) -> bool:
        """Whether the whole object is here."""
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, or as far as there are any. NotFound at once, not at the first."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object and any upload of it. Removing what is not there is no error."""
        ...

    def discard(self, key: str) -> None:
        """Give up an interrupted upload. One that is going on, and the stored object, stay as they are."""
        ...

    def delete_dossier(self, dossier: str) -> None:
        """Remove every object and upload of a dossier."""
        ...

    def names(self, dossier: str) -> Iterator[str]:
        """The names of the whole objects of a dossier, in order."""
        ...

    def unfinished(self, dossier: str) -> Iterator[str]:
        """The names that have an interrupted upload, in order. How old one is, the caller's rows know."""
        ...

    def free(self) -> int:
        """Bytes that may still be written."""
        ...


def open_objects(url: str, disk: Disk | None = None) -> Objects:
    """The store at `file:///absolute/path`."""
    scheme, found, rest = url.partition("://")
    if scheme == "file" and found and rest.startswith("/") and rest.strip("/"):
        from vault.storage.files import FileObjects

        return FileObjects(Path("/" + rest.lstrip("/")), disk)
    if scheme == "s3":
        raise BadUsage(
            "S3 is not supported yet; set AFTERWORD_OBJECTS to file:///absolute/path.", code="bad-setting"
        )
    raise BadUsage("AFTERWORD_OBJECTS is written file:///absolute/path.", code="bad-setting")


class MemoryObjects:
    """The same promises without a disk, for tests and as a plain statement of what they are."""

    def __init__(self, room: int = _ROOM_FOR_TESTS) -> None:
        self.room = room
        self._stored: dict[tuple[str, str], bytes] = {}
        self._partial: dict[tuple[str, str], bytes] = {}
        self._busy: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def receive(self, key: str, offset: int, body: Iterable[bytes], size: int) -> Received:
        place = parts_of(key)
        if place in self._stored:
            return Stored()
        with self._lock:
            if place in self._busy:
                raise busy()
            self._busy.add(place)
        try:
            return self._continue(place, offset, body, size)
        finally:
            if not self._partial.get(place, b"-"):
                del self._partial[place]
            self._busy.discard(place)

    def held(self, key: str) -> int:
        return len(self._partial.get(parts_of(key), b""))

    def has(self, key: str) -> bool:
        return parts_of(key) in self._stored

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        check_range(start, stop)
        place = parts_of(key)
        if place not in self._stored:
            raise missing()
        whole = self._stored[place][start:stop]
        return iter([whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK)])

    def delete(self, key: str) -> None:
        place = parts_of(key)
        self._stored.pop(place, None)
        self._partial.pop(place, None)

    def discard(self, key: str) -> None:
        place = parts_of(key)
        with self._lock:
            if place not in self._busy:
                self._partial.pop(place, None)

    def delete_dossier(self, dossier: str) -> None:
        dossier_of(dossier)
        for held in (self._stored, self._partial):
            for place in [place for place in held if place[0] == dossier]:
                del held[place]

    def names(self, dossier: str) -> Iterator[str]:
        return self._of(dossier_of(dossier), self._stored)

    def unfinished(self, dossier: str) -> Iterator[str]:
        return self._of(dossier_of(dossier), self._partial)

    def free(self) -> int:
        return self.room - sum(len(whole) for whole in (*self._stored.values(), *self._partial.values()))

    def _continue(self, place: tuple[str, str], offset: int, body: Iterable[bytes], size: int) -> Received:
        held = self._partial.get(place, b"")
        if len(held) == size:
            if hashlib.sha256(held).hexdigest() == place[1]:
                return self._store(place)
            held = self._partial.pop(place)[:0]
        if offset != len(held):
            raise WrongOffset(len(held))
        self._partial[place] = held
        try:
            for block in gathered(body, Room(size - len(held))):
                if len(block) > self.free():
                    raise full()
                if place not in self._partial:
                    raise gone()
                self._partial[place] = held = held + block
            if len(held) == size and hashlib.sha256(held).hexdigest() != place[1]:
                raise mismatch(place[1])
        except (NoSpace, Untrusted):
            self._partial.pop(place, None)
            raise
        if len(held) < size:
            return Partial(len(held))
        return self._store(place)

    @staticmethod
    def _of(dossier: str, places: Iterable[tuple[str, str]]) -> Iterator[str]:
        return iter(sorted(name for home, name in places if home == dossier))

    def _store(self, place: tuple[str, str]) -> Received:
        if place not in self._partial:
            raise gone()
        self._stored[place] = self._partial.pop(place)
        return Stored()


@dataclass(slots=True)
class Room:
    """How many more bytes an upload may bring."""

    left: int


def gathered(body: Iterable[bytes], room: Room) -> Iterator[bytes]:
    """The body in blocks of a megabyte, so that an object is one write whatever the network cut it into.

    What had arrived when the body failed comes out before its exception does; a client that went away after its
    last byte has sent everything, and no exception comes out.
    """
    buffer = bytearray()
    try:
        for piece in body:
            if len(piece) > room.left:
                raise mismatch(None)
            room.left -= len(piece)
            buffer += piece
            if len(buffer) >= BLOCK:
                yield bytes(buffer)
                buffer.clear()
    except Untrusted:
        raise
    except Exception:
        if buffer:
            yield bytes(buffer)
        if room.left > 0:
            raise
        return
    if buffer:
        yield bytes(buffer)


def parts_of(key: str) -> tuple[str, str]:
    if not (match := _KEY.fullmatch(key)):
        raise Malformed("An object is named by 32 and 64 hexadecimal digits.", code="bad-name")
    return match[1], match[2]


def dossier_of(dossier: str) -> str:
    if not _DOSSIER.fullmatch(dossier):
        raise Malformed("A dossier is named by 32 hexadecimal digits.", code="bad-name")
    return dossier


def check_range(start: int, stop: int | None) -> None:
    if start < 0 or (stop is not None and stop < start):
        raise ValueError("A range goes forward from zero.")


def mismatch(name: str | None) -> Untrusted:
    what = "bytes do not have the hash that names them" if name else "bytes are more than the object has"
    return Untrusted(f"The object's {what}; send it again from its beginning.", code="object-mismatch")


def busy() -> Conflict:
    return Conflict("Another upload of this object is going on; try again when it has ended.", code="busy")


def full() -> NoSpace:
    return NoSpace("The disk that holds the objects is full; nothing of this object was kept.")


def missing() -> NotFound:
    return NotFound("There is no such object.")


def gone() -> NotFound:
    return NotFound("The object was deleted while it arrived.")
