"""A bundle's bytes: chunks of files, frames, slices, objects of one size.  Spec: docs/spec/stream-v1.md, object-v1.md.

Rule of this room: sizes tell nothing. Whatever goes in comes out as whole objects of one length, in a padded count,
and nothing read here grows beyond the length it was announced with.
"""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import zstandard

from vault.age import Identity, Random, Recipient, open_sealed, seal
from vault.errors import Malformed, Refused, Untrusted

OBJECT_SIZE: Final = 1_048_576
SLICE_SIZE: Final = 1_046_677
"""What is left of an object after age's header, nonce and sixteen tags."""

CHUNK_MIN: Final = 65_536
CHUNK_AVERAGE: Final = 262_144
CHUNK_MAX: Final = 1_048_576

MINIMUM_MAX: Final = 64
"""The largest number of objects that a dossier may ask of its smallest bundle."""

_LEVEL: Final = 3
_WINDOW_MAX: Final = 8 * 1_048_576
_SAMPLE: Final = 4_096
_WORTH_IT: Final = 0.97

Codec = Literal["raw", "zstd"]


class Source(Protocol):
    """Whatever can be read from the front, such as a file opened in binary mode."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """A chunk as it lies in the stream; `raw` is its length before compression."""

    codec: Codec
    data: bytes = field(repr=False)
    raw: int


@dataclass(frozen=True, slots=True)
class SealedObject:
    """An object under its name, the SHA-256 of `data` in hex."""

    name: str
    data: bytes = field(repr=False)


# --- files to frames


def chunks(source: Source) -> Iterator[bytes]:
    """The source cut where its content says (FastCDC), so that an insertion moves few cuts. Holds about 3 MiB.

    An empty source has no chunks. What reading raises (OSError) passes through.
    """
    import pyfastcdc  # only who pushes needs it: recovery must work where its extension does not

    if not pyfastcdc.FastCDC.__module__.startswith("pyfastcdc.cy"):
        raise Refused(
            "The C extension of pyfastcdc is missing from this installation and cutting files without it takes "
            "days: reinstall with PYFASTCDC_REQUIRE_CYTHON=1 pip install --force-reinstall pyfastcdc.",
            code="installation",
        )
    cutter = pyfastcdc.FastCDC(CHUNK_AVERAGE, min_size=CHUNK_MIN, max_size=CHUNK_MAX, normalized_chunking=1)
    for piece in cutter.cut_stream(source):
        yield bytes(piece.data)  # the view is only good until the next piece


_own = threading.local()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """One for each thread and level: zstandard's objects may not be used by two threads at once."""
    kept: dict[int, zstandard.ZstdCompressor] = _own.__dict__.setdefault("compressors", {})
    if level not in kept:
        kept[level] = zstandard.ZstdCompressor(level=level)
    return kept[level]


def frame(chunk: bytes) -> Frame:
    """zstd where it makes the chunk smaller, else as it is. Any number of threads may call it."""
    if not 1 <= len(chunk) <= CHUNK_MAX:
        raise ValueError("a frame holds 1 to 1 048 576 bytes")
    if _promising(chunk):
        smaller = compress(chunk)
        if len(smaller) < len(chunk):
            return Frame("zstd", smaller, len(chunk))
    return Frame("raw", chunk, len(chunk))


def _promising(chunk: bytes) -> bool:
    """Whether three samples shrink at all: photographs, films and archives are most bytes and never do."""
    if len(chunk) <= CHUNK_MIN:
        return True
    middle = len(chunk) // 2
    sample = chunk[:_SAMPLE] + chunk[middle : middle + _SAMPLE] + chunk[-_SAMPLE:]
    return len(_compressor(1).compress(sample)) < _WORTH_IT * len(sample)


def unframe(codec: str, data: bytes, raw: int) -> bytes:
    """The chunk of exactly `raw` bytes. Raises Malformed."""
    if not 1 <= raw <= CHUNK_MAX:
        raise Malformed(
            "A frame announces a length that no chunk has; recover this file from another bundle."
        )
    if codec == "raw" and len(data) == raw:
        return bytes(data)
    if codec == "zstd" and len(data) < raw:
        return expand(data, raw)
    raise Malformed("A frame is not as long as its tree says; recover this file from another bundle.")


def compress(data: bytes) -> bytes:
    """One zstd frame that declares the length of its content."""
    return _compressor(_LEVEL).compress(data)


def expand(stored: bytes, raw: int) -> bytes:
    """Undo `compress`; allocates `raw` bytes and never more. The caller bounds `raw`. Raises Malformed.

    libzstd trusts the length a frame declares over any limit it is given, so the declaration is compared first.
    """
    try:
        declared = zstandard.get_frame_parameters(stored)
        if declared.content_size != raw:
            raise Malformed("Compressed bytes declare another length than announced; they were altered.")
        if declared.window_size > _WINDOW_MAX or declared.dict_id:
            raise Malformed("Compressed bytes ask for more memory, or a dictionary, than any reader has.")
        found = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX).decompress(
            stored, allow_extra_data=False
        )
    except zstandard.ZstdError:
        raise Malformed("Compressed bytes do not open as one whole zstd frame; they were altered.") from None
    if len(found) != raw:
        raise Malformed("Compressed bytes hold another length than announced; they were altered.")
    return found


# --- frames to slices


def padme(length: int) -> int:
    """PADMÉ: the next length that gives away only O(log log length) bits, at most 12 % more."""
    if length < 0:
        raise ValueError("a length is not negative")
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def objects_for(length: int, minimum: int) -> int:
    """How many objects a bundle has whose stream is `length` bytes long."""
    if not 1 <= minimum <= MINIMUM_MAX:
        raise ValueError("a dossier's minimum is 1 to 64 objects")
    return max(minimum, padme(-(-length // SLICE_SIZE)))


class StreamWriter:
    """Takes frames, hands out full slices, keeps what does not fill one.

    Saving `offset` and `partial` is enough to go on after a crash: StreamWriter(offset, partial).
    """

    __slots__ = ("_finished", "_offset", "_partial")

    def __init__(self, offset: int = 0, partial: bytes = b"") -> None:
        if offset < 0 or len(partial) != offset % SLICE_SIZE:
            raise Malformed(
                "The saved end of an interrupted push does not fit its length; discard it and push again."
            )
        self._offset = offset
        self._partial = bytearray(partial)
        self._finished = False

    @property
    def offset(self) -> int:
        """Where the next frame will lie; the number of full slices is this by SLICE_SIZE, rounded down."""
        return self._offset

    @property
    def partial(self) -> bytes:
        """The bytes after the last full slice."""
        return bytes(self._partial)

    def append(self, data: bytes) -> tuple[int, list[bytes]]:
        """(offset of these bytes, slices that they completed). Long data may come in several calls."""
        if self._finished:
            raise ValueError("this stream is finished")
        at = self._offset
        self._offset += len(data)
        self._partial += data
        whole = len(self._partial) // SLICE_SIZE * SLICE_SIZE
        with memoryview(self._partial) as view:
            full = [bytes(view[start : start + SLICE_SIZE]) for start in range(0, whole, SLICE_SIZE)]
        del self._partial[:whole]
        return at, full

    def finish(self, minimum: int) -> list[bytes]:
        """The slices that are left, zero padded, up to the count that `objects_for` says."""
        missing = objects_for(self._offset, minimum) - self._offset // SLICE_SIZE
        self._finished = True
        if not missing:
            return []
        zeros = bytes(SLICE_SIZE)
        last = bytes(self._partial).ljust(SLICE_SIZE, b"\0")
        self._partial.clear()
        return [last] + [zeros] * (missing - 1)


def slices_of(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Where `length` bytes from `offset` of a stream lie: (number of the slice, start in it, stop in it)."""
    if offset < 0 or length < 0:
        raise ValueError("an extent is not negative")
    end = offset + length
    while offset < end:
        index, start = divmod(offset, SLICE_SIZE)
        stop = min(SLICE_SIZE, start + end - offset)
        yield index, start, stop
        offset += stop - start


# --- slices to objects


def seal_object(piece: bytes, recipient: Recipient, random: Random) -> SealedObject:
    """A slice as an object of exactly OBJECT_SIZE bytes."""
    if len(piece) != SLICE_SIZE:
        raise ValueError("an object holds a whole slice")
    data = seal(piece, recipient, random)
    if len(data) != OBJECT_SIZE:
        raise ValueError(
            "an object came out at another size than every other"
        )  # it would stand out: never send
    return SealedObject(hashlib.sha256(data).hexdigest(), data)


def open_object(data: bytes, name: str, identity: Identity) -> bytes:
    """The slice. Size and hash are looked at before anything is opened. Raises Untrusted, Malformed."""
    if len(data) != OBJECT_SIZE:
        raise Untrusted(f"Object {name} is {len(data)} bytes long instead of {OBJECT_SIZE}; fetch it again.")
    if hashlib.sha256(data).hexdigest() != name:
        raise Untrusted(
            f"Object {name} is not what its name says: it was altered or swapped; fetch it again."
        )
    piece = open_sealed(data, identity)
    if len(piece) != SLICE_SIZE:
        raise Malformed(
            f"Object {name} does not hold one whole slice; the program that sealed it is at fault."
        )
    return piece
