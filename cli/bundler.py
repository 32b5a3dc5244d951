"""Bundles in the making: chunks become frames, slices, sealed objects; a tree and a head commit them.

Rule of this room: objects first, head last, and the journal knows before the server does.  What waits between two
steps is bounded, so that memory stays flat; nothing unsealed is written down.
"""

import base64
import dataclasses
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from cli.journal import THIS, Arriving, Journal
from cli.scan import Found
from vault import age, envelope, statements, stream, tree
from vault.age import Random, Recipient
from vault.clock import MINUTE, Clock
from vault.envelope import SigningKey
from vault.errors import Conflict, Malformed, Refused
from vault.identity import DedupKey
from vault.statements import Head
from vault.stream import SLICE_SIZE, Frame, SealedObject, StreamWriter
from vault.tree import Entry, Extent

BUNDLE_OBJECTS: Final = 64
"""A bundle is committed before it has more objects than this, tree included."""
BUNDLE_TIME: Final = 10 * MINUTE

_FRAMES_WAITING: Final = 8 * 1024 * 1024
_SEALS_WAITING: Final = 3
_CONFLICTS: Final = 5
_FRAMES_COUNT: Final = 256
# Between two looks at it, a tree grows by three lines at most.
_TREE_ROOM: Final = tree.TREE_LIMIT - 3 * tree.LINE_LIMIT


@dataclass(eq=False, slots=True)
class OnItsWay:
    """A file that is being read, or whose chunks do not all have their place yet."""

    found: Found
    extents: list[Extent | None] = field(default_factory=list)
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A new chunk that is being compressed, and where in its file it belongs."""

    name: bytes
    raw: int
    frame: Future[Frame]
    file: OnItsWay
    place: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A head that the server has."""

    bundle: int
    hash: bytes
    objects: tuple[str, ...]
    replace: int | None


class Commits(Protocol):
    """How heads reach the server: `newest` is the one to follow, `send` raises Conflict when it was not."""

    def newest(self) -> tuple[int, str | None]: ...

    def send(self, head: bytes) -> None: ...

    def catch_up(self) -> None:
        """After a conflict: learn the heads of others, so that `newest` is right again."""


@dataclass(slots=True)
class Sums:
    """What was done so far."""

    bundles: list[int] = field(default_factory=list)
    objects: int = 0
    files: int = 0
    folders: int = 0
    size: int = 0
    new: int = 0
    """Bytes of stream: chunks not seen before, and trees."""


class Bundler:
    """One push. `send_object` takes a sealed object and may wait; `await_objects` returns when all have arrived."""

    def __init__(
        self,
        dossier: str,
        journal: Journal,
        commits: Commits,
        *,
        naming: DedupKey,
        signing: SigningKey,
        recipient: Recipient,
        minimum: int,
        random: Random,
        clock: Clock,
        threads: Executor,
        send_object: Callable[[str, Path], None],
        await_objects: Callable[[], None],
        note: str = "",
    ) -> None:
        self._dossier, self._journal, self._commits = dossier, journal, commits
        self._naming, self._signing, self._recipient = naming, signing, recipient
        self._minimum, self._random, self._clock, self._threads = minimum, random, clock, threads
        self._send_object, self._await_objects, self._note = send_object, await_objects, note
        self._writer = _continue(len(journal.objects()))
        self._frames: deque[_Waiting] = deque()
        self._frames_size = 0
        self._new: set[bytes] = set()
        self._seals: deque[Future[SealedObject]] = deque()
        self._reading: dict[OnItsWay, None] = {}
        self._ends: dict[OnItsWay, tuple[Entry, Arriving]] = {}
        self._entries: dict[str, Entry] = {}
        self._arriving: dict[str, Arriving] = {}
        self._tree_size = 0
        self._since = clock.wall()
        self.sums = Sums()
        self.refused: dict[str, str] = {}
        """Files that no tree can hold, and why."""

    def begin(self, found: Found) -> OnItsWay:
        if self._tree_size > _TREE_ROOM:
            self._commit()
        file = OnItsWay(found)
        self._reading[file] = None
        return file

    def add(self, file: OnItsWay, chunk: bytes) -> None:
        """The next chunk of this file, whether or not it was seen before."""
        name = self._naming.name(chunk)
        while name in self._new:
            self._place_next()
        at = self._journal.place_of(name)
        file.extents.append(at)
        if at is not None:
            return
        framing = self._threads.submit(stream.frame, chunk)
        self._frames.append(_Waiting(name, len(chunk), framing, file, len(file.extents) - 1))
        self._frames_size += len(chunk)
        self._new.add(name)
        file.waiting += 1
        while self._frames_size > _FRAMES_WAITING or len(self._frames) > _FRAMES_COUNT:
            self._place_next()

    def drop(self, file: OnItsWay) -> None:
        """This file is not deposited after all; chunks of it that were sent stay known."""
        del self._reading[file]

    def end(self, file: OnItsWay, found: Found, size: int, digest: bytes | None, arriving: Arriving) -> None:
        """The whole file was read. It stands in the tree of the bundle in which its last chunk finds a place."""
        entry = Entry(found.p, found.kind, size, found.mode, tree.clamp_time(found.mtime_ns), digest)
        self._ends[file] = (entry, arriving)
        if not file.waiting:
            self._complete(file)

    def finish(self, *, fresh: Callable[[], int | None] = lambda: None, even_empty: bool = False) -> None:
        """Commit what is left. `fresh` gives the first bundle of a push that starts afresh."""
        while self._frames:
            self._place_next()
        if self._entries or even_empty:
            self._commit(fresh)

    def abandon(self) -> None:
        """Something went wrong: start nothing more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _place_next(self) -> None:
        waiting = self._frames.popleft()
        framed = waiting.frame.result()
        if self._is_full(len(framed.data)):
            self._commit()
        if self._writer.offset == 0:
            self._since = self._clock.wall()
        offset, slices = self._writer.append(framed.data)
        at = Extent(THIS, offset, len(framed.data), waiting.raw, framed.codec)
        self._journal.place(waiting.name, at)
        self._frames_size -= waiting.raw
        self._new.remove(waiting.name)
        self.sums.new += len(framed.data)
        self._seal(slices)
        file = waiting.file
        file.extents[waiting.place] = at
        file.waiting -= 1
        if not file.waiting and file in self._ends:
            self._complete(file)

    def _is_full(self, more: int) -> bool:
        if not self._writer.offset and not self._entries:
            return False
        size = self._writer.offset + more + self._tree_size + 1024
        if size > BUNDLE_OBJECTS * SLICE_SIZE or self._tree_size > _TREE_ROOM:
            return True
        long = abs(self._clock.wall() - self._since) >= BUNDLE_TIME
        return bool(self._entries) and long and size >= self._minimum * SLICE_SIZE

    def _complete(self, file: OnItsWay) -> None:
        entry, arriving = self._ends.pop(file)
        self.drop(file)
        whole = tuple(each for each in file.extents if each is not None)
        entry = dataclasses.replace(entry, extents=whole)
        try:
            self._tree_size += len(tree.write_line(entry))
        except (Malformed, Refused) as wrong:
            self.refused[entry.path] = str(wrong)
            return
        self._entries[entry.path] = entry
        self._arriving[entry.path] = arriving

    def _seal(self, slices: list[bytes]) -> None:
        for piece in slices:
            self._seals.append(self._threads.submit(stream.seal_object, piece, self._recipient, self._random))
            while len(self._seals) > _SEALS_WAITING:
                self._keep_next()

    def _keep_next(self) -> None:
        sealed = self._seals.popleft().result()
        path = self._journal.seal(sealed.name, sealed.data)
        self.sums.objects += 1
        self._send_object(sealed.name, path)

    def _commit(self, fresh: Callable[[], int | None] = lambda: None) -> None:
        stored = tree.write_tree(self._entries[path] for path in sorted(self._entries))
        offset, slices = self._writer.append(stored.stored)
        self._seal(slices)
        self._seal(self._writer.finish(self._minimum))
        while self._seals:
            self._keep_next()
        self._await_objects()
        sums = self.sums
        root = tree.Root(
            offset, len(stored.stored), stored.raw, stored.files, stored.folders, stored.size, self._note
        )
        sealed_root = base64.b64encode(
            age.seal(tree.write_root(root), self._recipient, self._random)
        ).decode()
        committed = self._send_head(sealed_root, fresh)
        sums.bundles.append(committed.bundle)
        sums.files, sums.folders = sums.files + stored.files, sums.folders + stored.folders
        sums.size, sums.new = sums.size + stored.size, sums.new + len(stored.stored)
        for file in self._reading:
            file.extents[:] = [each and _settled(each, committed.bundle) for each in file.extents]
        self._entries, self._arriving, self._tree_size = {}, {}, 0
        self._writer = StreamWriter()

    def _send_head(self, root: str, fresh: Callable[[], int | None]) -> Committed:
        arriving: list[Arriving] | None = list(self._arriving.values())
        objects = self._journal.objects()
        for left in range(_CONFLICTS - 1, -1, -1):
            last, prev = self._commits.newest()
            replace = fresh()
            head = Head(self._dossier, last + 1, prev, objects, root, replace, self._clock.wall())
            signed = statements.write(head, self._signing)
            self._journal.save_head(signed, arriving)
            arriving = None
            try:
                self._commits.send(signed)
            except Conflict as conflict:
                if conflict.code != "head-conflict" or not left:
                    raise
                # Another computer of hers was quicker. The objects stay as they are; only the head is signed anew.
                self._commits.catch_up()
            else:
                break
        committed = Committed(last + 1, envelope.statement_hash(signed), objects, replace)
        self._journal.commit(committed.bundle, committed.hash, objects, replace)
        return committed


def _settled(extent: Extent, bundle: int) -> Extent:
    """An extent of the bundle in the making, once that has its number."""
    return msgspec.structs.replace(extent, bundle=bundle) if extent.bundle == THIS else extent


def _continue(objects: int) -> StreamWriter:
    """After the sealed objects that an interrupted push left; the slice it had begun is forgotten."""
    return StreamWriter(objects * SLICE_SIZE)
