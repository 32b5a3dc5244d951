"""A dossier opened: objects fetched and checked, trees read, all bundles laid over each other.

Rule of this room: every byte is held to a hash that the journalist signed; what fails is named and remembered, and
does not stop the rest.  Memory holds a few slices, whatever the archive's size.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cli.chain import SignedHead
from vault import age, stream, tree, wire
from vault.errors import Damaged, Malformed, NotFound, Refused, Unreachable, Untrusted
from vault.tree import Archive, Entry, Extent, Root

if TYPE_CHECKING:
    from cli.remote import Remote

KEPT: Final = 16
"""Slices in memory, a mebibyte each."""
AHEAD: Final = 6
LINES: Final = 3
_LONGEST_TREE: Final = tree.TREE_LIMIT + 1_048_576

Key = tuple[int, int]
"""A bundle's number, and the place of an object in it."""


class BadObject(Untrusted):
    """An object that cannot be used; everything that does not need it is not concerned."""

    code = "object-damaged"


@dataclass(frozen=True, slots=True)
class Opened:
    """One bundle: its head, and its root if that could be read."""

    head: SignedHead
    root: Root


@dataclass(frozen=True, slots=True)
class Broken:
    """A bundle whose root or tree cannot be read, or not to its end: what it completed is lost to this recovery."""

    bundle: int
    why: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What the bundles hold."""

    archive: Archive
    bundles: tuple[Opened, ...]
    broken: tuple[Broken, ...]


class Slices:
    """The streams of all bundles, read by place."""

    def __init__(
        self, remote: "Remote", dossier: str, heads: Sequence[SignedHead], identity: age.Identity
    ) -> None:
        self._remote, self._dossier, self._identity = remote, dossier, identity
        self._objects = {each.bundle: each.head.objects for each in heads}
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._coming: dict[Key, Future[bytes]] = {}
        self._bad: dict[Key, str] = {}
        self._threads = ThreadPoolExecutor(LINES, "fetch")
        self.fetched = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def read(self, bundle: int, offset: int, length: int, soon: Iterable[Key] = ()) -> bytes:
        """Bytes of a bundle's stream. `soon`: what will be asked for next. Raises BadObject, Malformed, Unreachable."""
        parts = []
        for number, start, stop in stream.slices_of(offset, length):
            piece = self._slice((bundle, number), soon)
            parts.append(piece[start:stop])
        return b"".join(parts)

    def chunk(self, extent: Extent, soon: Iterable[Key] = ()) -> bytes:
        """One chunk of a file. Raises BadObject, Malformed, Unreachable."""
        stored = self.read(extent.bundle, extent.offset, extent.stored, soon)
        return stream.unframe(extent.codec, stored, extent.raw)

    def _slice(self, key: Key, soon: Iterable[Key]) -> bytes:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key in self._bad:
            raise BadObject(self._bad[key])
        coming = self._coming.pop(key, None) or self._threads.submit(self._fetch, key)
        self._look_ahead(key, soon)
        try:
            piece = coming.result()
        except BadObject as bad:
            self._bad[key] = str(bad)
            raise
        self.fetched += 1
        self._kept[key] = piece
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return piece

    def _look_ahead(self, now: Key, soon: Iterable[Key]) -> None:
        wanted: list[Key] = []
        for key in islice(soon, 256):
            if len(wanted) == AHEAD:
                break
            if key != now and key not in self._kept and key not in self._bad and key not in wanted:
                wanted.append(key)
        # What was expected and is not any more must not fill the waiting room for ever.
        for key in [key for key in self._coming if key not in wanted]:
            self._coming.pop(key).cancel()
        for key in wanted:
            if key not in self._coming:
                self._coming[key] = self._threads.submit(self._fetch, key)

    def _fetch(self, key: Key) -> bytes:
        bundle, number = key
        objects = self._objects.get(bundle, ())
        if number >= len(objects):
            raise BadObject(f"bundle {bundle} has no object {number + 1}")
        name = objects[number]
        called = f"object {number + 1} of bundle {bundle} ({name[:12]}…)"
        try:
            data = self._remote.get_object(self._dossier, name)
        except NotFound:
            raise BadObject(f"{called} is missing on the server") from None
        except Unreachable:
            # A server that answers everything else but cuts this one off has only a part of it.
            self._remote.call("GET", "/server", None, wire.ServerInfo)
            raise BadObject(f"{called} is cut short on the server") from None
        except (Untrusted, Malformed, Damaged, Refused):
            raise BadObject(f"{called} is damaged on the server") from None
        try:
            return stream.open_object(data, name, self._identity)
        except (Untrusted, Malformed):
            raise BadObject(f"{called} is not what its name says, or does not open") from None


def open_contents(heads: Sequence[SignedHead], slices: Slices, identity: age.Identity) -> Contents:
    """Read every root and tree."""
    opened: list[Opened] = []
    broken: list[Broken] = []
    for head in heads:
        try:
            opened.append(Opened(head, _open_root(head, identity)))
        except (Malformed, Untrusted) as wrong:
            broken.append(Broken(head.bundle, f"its root does not open: {wrong}"))
    layers: list[tuple[int, int | None, list[Entry]]] = []
    for place, each in enumerate(opened):
        soon = [key for later in opened[place : place + 4] for key in _tree_keys(later)]
        entries: list[Entry] = []
        bundle = each.head.bundle
        try:
            for entry in _read_tree(each, slices, soon):
                entries.append(entry)
        except (Malformed, BadObject) as wrong:
            broken.append(Broken(bundle, f"its tree cannot be read: {wrong}"))
        layers.append((bundle, each.head.head.replace, entries))
    broken.sort(key=lambda each: each.bundle)
    return Contents(tree.overlay(layers), tuple(opened), tuple(broken))


def keys_of(extents: Iterable[Extent]) -> Iterator[Key]:
    """The objects in which these lie, in order."""
    last = None
    for extent in extents:
        for number, _, _ in stream.slices_of(extent.offset, extent.stored):
            if (extent.bundle, number) != last:
                last = (extent.bundle, number)
                yield last


def _open_root(head: SignedHead, identity: age.Identity) -> Root:
    try:
        sealed = base64.b64decode(head.head.root, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("The root of a bundle is not standard base64.") from None
    return tree.read_root(age.open_sealed(sealed, identity))


def _tree_keys(opened: Opened) -> Iterator[Key]:
    if opened.root.stored <= _LONGEST_TREE:
        for number, _, _ in stream.slices_of(opened.root.offset, opened.root.stored):
            yield opened.head.bundle, number


def _read_tree(opened: Opened, slices: Slices, soon: Sequence[Key]) -> Iterator[Entry]:
    root = opened.root
    if root.stored > _LONGEST_TREE:
        raise Malformed("it claims more bytes than any tree has")
    files = folders = size = 0
    for entry in tree.read_tree(slices.read(opened.head.bundle, root.offset, root.stored, soon), root.raw):
        files, folders = files + (entry.type == "file"), folders + (entry.type == "dir")
        size += entry.size
        yield entry
    if (files, folders, size) != (root.files, root.folders, root.size):
        raise Malformed("it does not add up to what its root counts")
