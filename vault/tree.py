"""What a bundle completes, and what all bundles laid over each other hold.  Spec: docs/spec/tree-v1.md.

Rule of this room: whatever read_tree and read_root accept, write_tree and write_root lay out the same; and nothing
that was once deposited falls out of an archive, whatever was laid on top.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec

from vault.errors import Malformed, Refused
from vault.names import check_path as check_path
from vault.names import name_from_bytes as name_from_bytes
from vault.names import safe_name as safe_name
from vault.stream import CHUNK_MAX, Codec, compress, expand

LINE_LIMIT: Final = 16 * 1_048_576
"""Bytes of one line, its line feed included: a file of about a hundred gigabytes."""
TREE_LIMIT: Final = 64 * 1_048_576
"""Bytes of all lines of one tree; a writer ends its bundle before."""
ROOT_SIZE: Final = 4_096
NOTE_LIMIT: Final = 2_048

_LIMIT: Final = 2**53 - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=_LIMIT)]
_ChunkLength = Annotated[int, msgspec.Meta(ge=1, le=CHUNK_MAX)]
Type = Literal["file", "dir"]


class Extent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One chunk of a file: where its frame lies. Bundle 0 is the bundle whose tree says so."""

    bundle: _Count
    offset: _Count
    stored: _ChunkLength
    raw: _ChunkLength
    codec: Codec


@dataclass(frozen=True, slots=True)
class Entry:
    """One path. `mode` holds permission bits, `mtime` is microseconds since 1970 and may be negative."""

    path: str
    type: Type
    size: int
    mode: int
    mtime: int
    sha256: bytes | None
    extents: tuple[Extent, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class StoredTree:
    """A tree as it goes into the stream, and what a root says about it."""

    stored: bytes = field(repr=False)
    raw: int
    files: int
    folders: int
    size: int


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a head seals: where the tree lies in the stream, what it counts up to, and a note."""

    offset: _Count
    stored: Annotated[int, msgspec.Meta(ge=1, le=_LIMIT)]
    raw: Annotated[int, msgspec.Meta(ge=0, le=TREE_LIMIT)]
    files: _Count
    folders: _Count
    size: _Count
    note: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A path as one bundle left it."""

    entry: Entry
    bundle: int

    def extents(self) -> Iterator[Extent]:
        """The entry's extents, each with the number of a real bundle."""
        for extent in self.entry.extents:
            yield extent if extent.bundle else msgspec.structs.replace(extent, bundle=self.bundle)


@dataclass(frozen=True, slots=True)
class SetAside:
    """What the archive held when bundle `start` began afresh (`push --replace`)."""

    start: int
    current: dict[str, Version] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Archive:
    """Every version of every file, in three places, each sorted by path (versions of one path: newest first)."""

    current: dict[str, Version] = field(repr=False)
    earlier: list[tuple[str, Version]] = field(repr=False)
    set_aside: list[SetAside] = field(repr=False)


# --- one tree


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    p: str
    t: Type
    s: _Count
    m: Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    mt: Annotated[int, msgspec.Meta(ge=-_LIMIT, le=_LIMIT)]
    h: str | None
    c: tuple[Extent, ...]


_lines: Final = msgspec.json.Decoder(_Line)
_roots: Final = msgspec.json.Decoder(Root)


def write_line(entry: Entry) -> bytes:
    """The entry's line with its line feed: a writer adds these up to stay below TREE_LIMIT.

    Raises Malformed for what is no entry, Refused for a file of too many pieces.
    """
    line = _encode(entry)
    if _decode(line) != entry:
        raise Malformed("An entry does not survive being written; the program that made it is at fault.")
    return line


def write_tree(entries: Iterable[Entry]) -> StoredTree:
    """Entries must come sorted by path, each path once. Raises Malformed, Refused."""
    lines = bytearray()
    files = folders = size = 0
    last = ""
    for entry in entries:
        if entry.path <= last:
            raise Malformed("Paths of a tree are not sorted, or one of them comes twice.")
        last = entry.path
        lines += write_line(entry)
        if len(lines) > TREE_LIMIT:
            raise Malformed("A tree is too large; the program should have ended its bundle before.")
        if entry.type == "file":
            files, size = files + 1, size + entry.size
        else:
            folders += 1
    return StoredTree(compress(bytes(lines)), len(lines), files, folders, size)


def read_tree(stored: bytes, raw: int) -> Iterator[Entry]:
    """The entries in order; takes `raw` bytes of memory and one line at a time. Raises Malformed, also midway."""
    if not 0 <= raw <= TREE_LIMIT:
        raise Malformed("A tree announces more bytes than any tree has.")
    lines = expand(stored, raw)
    last = ""
    start = 0
    while start < raw:
        stop = lines.find(b"\n", start, start + LINE_LIMIT) + 1
        if not stop:
            raise Malformed("A line of a tree does not end.")
        line = lines[start:stop]
        entry = _decode(line)
        if _encode(entry) != line:
            raise Malformed("A line of a tree is not written the one way it may be.")
        if entry.path <= last:  # comparing code points is comparing UTF-8 bytes
            raise Malformed("Paths of a tree are not sorted, or one of them comes twice.")
        last = entry.path
        start = stop
        yield entry


def _encode(entry: Entry) -> bytes:
    digest = None if entry.sha256 is None else entry.sha256.hex()
    try:
        line = msgspec.json.encode(
            _Line(entry.path, entry.type, entry.size, entry.mode, entry.mtime, digest, entry.extents)
        )
    except UnicodeEncodeError:
        raise Malformed("A path is not valid Unicode text; rename the file.") from None
    if len(line) >= LINE_LIMIT:
        raise Refused(
            "A file has too many pieces for one line of a tree (about 100 GB); split it and push again.",
            code="file-too-large",
        )
    return line + b"\n"


def _decode(line: bytes) -> Entry:
    """One line, its line feed included, as an entry that means something."""
    try:
        read = _lines.decode(line)
        digest = None if read.h is None else bytes.fromhex(read.h)
    except (ValueError, RecursionError):
        raise Malformed("A line of a tree is not what the format says.") from None
    check_path(read.p)
    if read.t == "dir":
        if read.s or digest is not None or read.c:
            raise Malformed("A folder of a tree has a content.")
    elif digest is None or len(digest) != 32:
        raise Malformed("A file of a tree has no SHA-256.")
    elif read.s != sum(extent.raw for extent in read.c):
        raise Malformed("A file of a tree is not as long as its pieces.")
    for extent in read.c:
        if extent.stored > extent.raw or (extent.codec == "raw") != (extent.stored == extent.raw):
            raise Malformed("A piece of a file is stored in more bytes than it has.")
    return Entry(read.p, read.t, read.s, read.m, read.mt, digest, read.c)


def clamp_time(nanoseconds: int) -> int:
    """A file's time stamp as a tree holds it: microseconds, years that no tree can hold drawn to the nearest."""
    return max(-_LIMIT, min(_LIMIT, nanoseconds // 1_000))


# --- a head's root


def write_root(root: Root) -> bytes:
    """4 096 bytes. Raises Refused when the note is too long, Malformed when a number cannot be."""
    try:
        note = len(msgspec.json.encode(root.note))
    except UnicodeEncodeError:
        raise Refused("The note is not valid text; type it again.", code="note-not-text") from None
    if note > NOTE_LIMIT:
        raise Refused(
            f"The note takes {note} bytes of at most {NOTE_LIMIT}; shorten it, or put it into a file and push that.",
            code="note-too-long",
        )
    written = msgspec.json.encode(root).ljust(ROOT_SIZE, b"\0")
    if read_root(written) != root:
        raise Malformed("A root does not survive being written; the program that made it is at fault.")
    return written


def read_root(padded: bytes) -> Root:
    """Raises Malformed."""
    if len(padded) != ROOT_SIZE:
        raise Malformed("The root of a bundle is not padded to its one length.")
    try:
        root = _roots.decode(padded.rstrip(b"\0"))
    except (ValueError, RecursionError):
        raise Malformed("The root of a bundle is not what the format says.") from None
    if len(msgspec.json.encode(root.note)) > NOTE_LIMIT:
        raise Malformed("The note of a bundle is longer than any note may be.")
    if msgspec.json.encode(root).ljust(ROOT_SIZE, b"\0") != padded:
        raise Malformed("The root of a bundle is not written the one way it may be.")
    return root


# --- all trees laid over each other


def overlay(trees: Iterable[tuple[int, int | None, Iterable[Entry]]]) -> Archive:
    """(bundle, its head's `replace`, the entries of its tree), bundles rising; missing ones may be left out.

    Entries lie one on top of the other in this order. An older version leaves `current` when a newer entry has its
    path, makes a file of a folder it lies in, or makes a folder of it. A bundle's `replace` says that the archive
    begins afresh with the bundle of that number; a push that was interrupted never said so, and only adds.
    """
    layers = list(trees)
    previous = 0
    for bundle, replace, _ in layers:
        if bundle <= previous:
            raise Malformed("Bundles are to be laid in rising order.")
        if replace is not None and not 1 <= replace <= bundle:
            raise Malformed(f"Bundle {bundle} says that a bundle after it began afresh.")
        previous = bundle
    starts = sorted({replace for _, replace, _ in layers if replace is not None}, reverse=True)
    laid: list[Version] = []
    earlier: list[tuple[str, Version]] = []
    set_aside: list[SetAside] = []
    for bundle, _, entries in layers:
        while starts and starts[-1] <= bundle:
            start = starts.pop()
            if laid:
                current, older = _settle(laid)
                set_aside.append(SetAside(start, current))
                earlier += older
                laid = []
        laid.extend(Version(entry, bundle) for entry in entries)
    current, older = _settle(laid)
    earlier += older
    earlier.sort(key=lambda item: (item[0], -item[1].bundle))
    return Archive(current, earlier, set_aside)


@dataclass(slots=True)
class _Place:
    """A path while what lies below it is being looked at; versions are named by their place in the laying."""

    key: str
    covered: int  # the newest file among the folders above
    newest: int = -1
    newest_file: int = -1
    below: int = -1  # the newest entry of anything below
    versions: list[int] = field(default_factory=list)


def _settle(laid: list[Version]) -> tuple[dict[str, Version], list[tuple[str, Version]]]:
    """(what lies on top, the files that do not): one sort and one walk, whatever a hostile tree says.

    With NUL for the slash, what lies below a path follows it directly when sorted.
    """
    keys = [version.entry.path.replace("/", "\0") for version in laid]
    current: dict[str, Version] = {}
    earlier: list[tuple[str, Version]] = []
    above: list[_Place] = []

    def leave() -> None:
        place = above.pop()
        if above:
            above[-1].below = max(above[-1].below, place.below, place.newest)
        for number in place.versions:
            version = laid[number]
            is_file = version.entry.type == "file"
            if number == place.newest > place.covered and not (is_file and number < place.below):
                current[version.entry.path] = version
            elif is_file:
                earlier.append((version.entry.path, version))

    for number in sorted(range(len(laid)), key=keys.__getitem__):
        key = keys[number]
        while above and above[-1].key != key and not key.startswith(above[-1].key + "\0"):
            leave()
        if not above:
            above.append(_Place(key, covered=-1))
        elif above[-1].key != key:
            above.append(_Place(key, covered=max(above[-1].covered, above[-1].newest_file)))
        place = above[-1]
        place.versions.append(number)
        place.newest = number
        if laid[number].entry.type == "file":
            place.newest_file = number
    while above:
        leave()
    return dict(sorted(current.items())), earlier
