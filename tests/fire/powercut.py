"""What a disk may hold after the power went, played from a log of what a program asked of it.

Rule of this room: it knows files, folders and sectors, and nothing of what they mean. Whatever it shows, some disk
under some file system may show after a power cut; what was made durable is always there.

THE MODEL. A file is a durable content and the writes since its last fsync. Of those, each sector (512 or 4 096 bytes)
holds what it held after any one of them, whatever the other sectors hold: lost, torn, reordered. Its length is that
after any one of them too, so there are longer files full of zeros and data without the length that goes with it. That
a file was cut short is true of all of it or of nothing (the new length is in the journal before any block is freed).
fsync and fdatasync make content and length durable, and never the name. A folder is its durable entries and, for each
name, what stood there since: any one of these may be found, each name for itself, until the folder is fsynced. That is
how creates, links, unlinks and renames are lost, kept, and reordered against each other and against data. A renamed
file is under its old name, its new one or both; never under neither, as every journal of a file system sees to that.
fsync of a folder makes its own entries durable, not the folder's own name in the folder above.

WHERE FROM. POSIX (fsync, rename: nothing is promised before fsync returns); SQLite's documents "Atomic Commit In
SQLite" and "File Locking And Concurrency" (what it asks of a disk); T. S. Pillai et al., "All File Systems Are Not
Created Equal" (OSDI 2014: which of these states ext3, ext4, btrfs and others really show); the kernel's own documents
on ext4's modes, on xfs's delayed logging and on btrfs (crash consistency of fsync and rename).

WEAKER THAN A REAL DISK, so not shown here: a drive that answers a flush and does not (then nobody can keep a promise);
sectors that come back with rubbish, or that differ from all they ever held; stale bytes of deleted files in place of
zeros (ext4 with data=writeback); what is mapped into memory (only SQLite's -shm is, and it is given back as rubbish);
half of a sector of 512 bytes. STRONGER than most: entries are lost one by one, although ext4, xfs and btrfs keep their
journals in order, and fsync of a new file does not keep its name, which on these it does.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fire.shim import REFUSED, Call, Op

SECTORS: Final = (512, 4_096)
BIG: Final = 900_000
NOW: Final = 1 << 60
PROMISED: Final = 4
"""So many images at least of a moment at which something was promised."""
SYNCED: Final = b"sync()"
"""A mark that stands for sync(), which names no file and so is not in the log."""


@dataclass(eq=False, slots=True)
class File:
    """`durable` is what is safe; `since` what was asked afterwards, as (when, offset, bytes) and (when, length)."""

    durable: bytes = b""
    size: int = 0
    since: list[tuple[int, int, bytes | None]] = field(default_factory=list)

    def write(self, when: int, offset: int, data: bytes) -> None:
        self.since.append((when, offset, data))
        self.size = max(self.size, offset + len(data))

    def resize(self, when: int, length: int) -> None:
        self.since.append((when, length, None))
        self.size = length

    def settle(self) -> None:
        if self.since:
            self.durable = self.after(self.since[-1][0])
            self.since = []

    def after(self, when: int) -> bytes:
        """The content as a program saw it then."""
        return self.torn(lambda sector: when, when, 1 << 40)

    def torn(self, of_sector: Callable[[int], int], of_length: int, sector: int) -> bytes:
        """Each sector as it was at some time, and the length as it was at some time."""
        if not self.since:
            return self.durable
        longest = max([len(self.durable), *(at + len(data or b"") for _, at, data in self.since)])
        content = bytearray(self.durable)
        content += bytes(longest - len(content))
        length = len(self.durable)
        times: dict[int, int] = {}
        done, next_cut = self._cuts(of_length)

        def time(number: int) -> int:
            if number not in times:
                # What was cut off is gone everywhere or nowhere, and what came after it comes with it.
                gone = max((when for when, at in done if at < (number + 1) * sector), default=-1)
                times[number] = max(gone, min(of_sector(number), next_cut - 1))
            return times[number]

        for when, at, data in self.since:
            if when <= of_length:
                length = at if data is None else max(length, at + len(data))
            if data is None:
                for number in range(at // sector, (longest - 1) // sector + 1):
                    if when <= time(number):
                        begin = max(at, number * sector)
                        end = min(longest, (number + 1) * sector)
                        content[begin:end] = bytes(max(0, end - begin))
            else:
                for number in range(at // sector, (at + len(data) - 1) // sector + 1 if data else 0):
                    if when <= time(number):
                        begin, end = max(at, number * sector), min(at + len(data), (number + 1) * sector)
                        content[begin:end] = data[begin - at : end - at]
        if length > len(content):
            content += bytes(length - len(content))
        return bytes(content[:length])

    def _cuts(self, until: int) -> tuple[list[tuple[int, int]], int]:
        """(when, to what length) the file was cut short up to a time, and when it was cut short next."""
        done, following, size = [], NOW + 1, len(self.durable)
        for when, at, data in self.since:
            if data is None and at < size:
                if when <= until:
                    done.append((when, at))
                else:
                    following = min(following, when)
            size = at if data is None else max(size, at + len(data))
        return done, following


@dataclass(eq=False, slots=True)
class Folder:
    """For each name what has stood there since the last fsync of this folder, the oldest first: (when, what)."""

    entries: "dict[str, list[tuple[int, Node]]]" = field(default_factory=dict)

    def now(self, name: str) -> "Node":
        return self.entries[name][-1][1] if name in self.entries else None

    def put(self, when: int, name: str, what: "Node") -> None:
        self.entries.setdefault(name, [(-1, None)]).append((when, what))

    def settle(self) -> None:
        self.entries = {
            name: [(-1, states[-1][1])] for name, states in self.entries.items() if states[-1][1] is not None
        }


@dataclass(frozen=True, slots=True)
class Link:
    says: str


Node = File | Folder | Link | None


@dataclass(frozen=True, slots=True)
class Move:
    """A rename whose two ends are not both safe yet."""

    when: int
    what: File | Folder
    source: Folder
    name: str
    target: Folder
    goal: str


@dataclass(frozen=True, slots=True)
class Image:
    """What is found: bytes of files, None for folders, the text of links as `str`. Names relative to the top."""

    found: Mapping[str, bytes | str | None]
    name: str

    def digest(self, known: dict[int, tuple[bytes, bytes]]) -> bytes:
        """`known` remembers contents that come again and again."""
        whole = hashlib.blake2b(digest_size=16)
        for path in sorted(self.found):
            content = self.found[path]
            whole.update(path.encode(errors="surrogateescape") + b"\0")
            if isinstance(content, bytes):
                seen = known.get(id(content))
                if seen is None or seen[0] is not content:
                    seen = content, hashlib.blake2b(content, digest_size=16).digest()
                    if len(content) > 16_384:
                        known[id(content)] = seen
                whole.update(seen[1])
            else:
                whole.update(repr(content).encode())
        return whole.digest()


class Disk:
    """One folder and everything below it, from how it lies there now through a log of calls."""

    def __init__(self, top: Path) -> None:
        self.top = Folder()
        self._inodes: dict[int, File] = {}
        self._load(top, self.top)
        self._moves: list[Move] = []
        self.when = 0

    def _load(self, path: Path, into: Folder) -> None:
        for each in os.scandir(path):
            if each.is_symlink():
                into.entries[each.name] = [(-1, Link(os.readlink(each.path)))]
            elif each.is_dir():
                inner = Folder()
                into.entries[each.name] = [(-1, inner)]
                self._load(Path(each.path), inner)
            else:
                content = Path(each.path).read_bytes()
                number = each.stat().st_ino
                file = self._inodes.setdefault(number, File(content, len(content)))
                into.entries[each.name] = [(-1, file)]

    # Playing.

    def play(self, call: Call) -> None:
        """One more call has returned."""
        self.when += 1
        if call.result < 0 or call.flags & REFUSED:
            return
        match call.op:
            case Op.WRITE:
                self._file(call).write(self.when, call.offset, call.data)
            case Op.TRUNCATE:
                self._file(call).resize(self.when, call.offset)
            case Op.ALLOCATE:
                file = self._file(call)
                if call.mode == 0:
                    file.resize(self.when, max(file.size, call.offset + call.length))
                else:
                    raise NotImplementedError("This kind of fallocate() is not in the model.")
            case Op.FSYNC | Op.FDATASYNC:
                there = self._at(call.path)
                if isinstance(there, Folder):
                    self._settle(there)
                else:
                    self._file(call).settle()
            case Op.CREATE:
                self._create(call)
            case Op.MKDIR:
                folder, name = self._place(call.path)
                folder.put(self.when, name, Folder())
            case Op.UNLINK | Op.RMDIR:
                folder, name = self._place(call.path)
                folder.put(self.when, name, None)
            case Op.LINK:
                folder, name = self._place(call.second)
                folder.put(self.when, name, self._at(call.path))
            case Op.SYMLINK:
                folder, name = self._place(call.path)
                folder.put(self.when, name, Link(call.second))
            case Op.RENAME:
                self._rename(call)
            case Op.SYNC_RANGE | Op.OPEN | Op.MARK | Op.MMAP:
                # sync_file_range() promises nothing; what is stored into a mapping is not in the model.
                pass

    def settle_all(self) -> None:
        """sync(): everything there is."""
        for file in list(self._files()):
            file.settle()
        for folder in list(self._folders()):
            self._settle(folder)

    def _create(self, call: Call) -> None:
        if call.length & os.O_TMPFILE == os.O_TMPFILE:
            raise NotImplementedError("A file without a name is not in the model.")
        if call.offset:
            folder, name = self._place(call.path)
            file = self._inodes[call.inode] = File()
            folder.put(self.when, name, file)
        elif call.length & os.O_TRUNC:
            self._file(call).resize(self.when, 0)

    def _rename(self, call: Call) -> None:
        if call.path.startswith("/") or call.second.startswith("/") or call.mode & ~1:
            raise NotImplementedError(
                "A rename into or out of the folder, or an exchange, is not in the model."
            )
        source, name = self._place(call.path)
        target, goal = self._place(call.second)
        what = source.now(name)
        assert isinstance(what, File | Folder), call.path
        if target.now(goal) is what:
            return  # two names of one file: nothing happens
        source.put(self.when, name, None)
        target.put(self.when, goal, what)
        self._moves.append(Move(self.when, what, source, name, target, goal))

    def _settle(self, folder: Folder) -> None:
        folder.settle()
        # Once its new name is safe a file cannot be lost; while only its old one is gone for sure, it is there too.
        self._moves = [move for move in self._moves if move.target is not folder]
        for move in self._moves:
            if move.source is folder and move.target is not folder:
                move.target.entries[move.goal] = [(-1, move.what)]

    def _at(self, path: str) -> Node:
        here: Node = self.top
        for name in filter(None, path.split("/")):
            here = here.now(name) if isinstance(here, Folder) else None
        return here

    def _place(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._at(above)
        assert isinstance(folder, Folder), path
        return folder, name

    def _file(self, call: Call) -> File:
        there = self._at(call.path)
        if isinstance(there, File):
            return there
        return self._inodes[call.inode]

    # What may be found.

    def pending(self) -> bool:
        """Whether the power going now could show more than one image."""
        return any(
            len(states) > 1 for folder in self._folders() for states in folder.entries.values()
        ) or any(file.since for file in self._files())

    def _folders(self) -> Iterator[Folder]:
        found, seen = [self.top], {id(self.top)}
        while found:
            folder = found.pop()
            yield folder
            for states in folder.entries.values():
                for _, what in states:
                    if isinstance(what, Folder) and id(what) not in seen:
                        seen.add(id(what))
                        found.append(what)

    def _files(self) -> Iterator[File]:
        seen = set()
        for folder in self._folders():
            for states in folder.entries.values():
                for _, what in states:
                    if isinstance(what, File) and id(what) not in seen:
                        seen.add(id(what))
                        yield what

    def image(self, name: str, chance: random.Random) -> Image:
        """One of the images that a power cut at this moment may leave; `name` is one of KINDS."""
        return _Cut(self, name, chance).image()


KINDS: Final = (
    "nothing kept",
    "everything kept",
    "up to a moment",
    "names without contents",
    "contents without names",
    "lengths without data",
    "data without lengths",
    "one thing lost",
    "one thing kept",
    "torn at 512",
    "torn at 4096",
    "torn in one file",
    "names in order, contents at random",
    "anything",
)


class _Cut:
    """The choices of one image."""

    def __init__(self, disk: Disk, kind: str, chance: random.Random) -> None:
        self.disk = disk
        self.kind = kind
        self.chance = chance
        self.sector = {"torn at 512": 512, "torn at 4096": 4_096}.get(kind) or chance.choice(SECTORS)
        self.moment = chance.randint(0, disk.when)
        things: list[object] = []
        if kind in ("one thing lost", "one thing kept", "torn in one file"):
            things += [file for file in disk._files() if file.since]
            if kind != "torn in one file":
                for folder in disk._folders():
                    things += [(folder, name) for name, states in folder.entries.items() if len(states) > 1]
        self.thing = chance.choice(things) if things else None

    def image(self) -> Image:
        found: dict[str, bytes | str | None] = {}
        names: dict[tuple[int, str], Node] = {}
        chosen: dict[tuple[int, str], int] = {}
        for folder in self.disk._folders():
            for name, states in folder.entries.items():
                key = id(folder), name
                chosen[key], names[key] = self._name(folder, name, states)
        for move in self.disk._moves:
            kept = {id(what) for what in names.values() if isinstance(what, File | Folder)}
            lost = id(move.what) not in kept and move.target.now(move.goal) is move.what
            # That its first name was never on disk is another thing.
            if not lost or chosen.get((id(move.source), move.name), NOW) < move.when:
                continue
            # No journal loses a file between its two names.
            old = names.get((id(move.source), move.name))
            place = (move.source, move.name) if old is None else (move.target, move.goal)
            names[id(place[0]), place[1]] = move.what
        contents: dict[int, bytes] = {}
        self._lay(self.disk.top, "", names, contents, found, set())
        return Image(found, self.kind)

    def _lay(
        self,
        folder: Folder,
        above: str,
        names: dict[tuple[int, str], Node],
        contents: dict[int, bytes],
        found: dict[str, bytes | str | None],
        within: set[int],
    ) -> None:
        for name in folder.entries:
            what = names[id(folder), name]
            match what:
                case None:
                    continue
                case Link(says):
                    found[above + name] = says
                case File():
                    if id(what) not in contents:
                        contents[id(what)] = self._content(what)
                    if name.endswith("-shm") and self.chance.random() < 0.2:
                        # It is mapped, so the log does not know what is in it.
                        contents[id(what)] = self.chance.randbytes(len(contents[id(what)]))
                    found[above + name] = contents[id(what)]
                case Folder():
                    if id(what) in within:
                        continue
                    found[above + name] = None
                    self._lay(what, f"{above}{name}/", names, contents, found, within | {id(what)})

    def _name(self, folder: Folder, name: str, states: list[tuple[int, Node]]) -> tuple[int, Node]:
        if len(states) == 1:
            return states[0]
        mine = isinstance(self.thing, tuple) and self.thing[0] is folder and self.thing[1] == name
        match self.kind:
            case "nothing kept" | "contents without names":
                return states[0]
            case (
                "everything kept"
                | "names without contents"
                | "lengths without data"
                | "data without lengths"
                | "torn in one file"
            ):
                return states[-1]
            case "up to a moment" | "names in order, contents at random":
                return next(state for state in reversed(states) if state[0] <= self.moment)
            case "one thing lost":
                return states[0] if mine else states[-1]
            case "one thing kept":
                return states[-1] if mine else states[0]
            case "torn at 512" | "torn at 4096":
                return states[-1] if self.chance.random() < 0.8 else self.chance.choice(states)
            case _:
                return self.chance.choice(states)

    def _content(self, file: File) -> bytes:
        if not file.since:
            return file.durable
        mine = self.thing is file
        # The same time for every sector needs no sectors: one as large as can be.
        whole = 1 << 40
        match self.kind:
            case "nothing kept" | "names without contents":
                return file.durable
            case "everything kept" | "contents without names":
                return file.after(NOW)
            case "up to a moment":
                return self._up_to_a_moment(file)
            case "lengths without data":
                return file.torn(lambda sector: -1, NOW, whole)
            case "data without lengths":
                return file.torn(lambda sector: NOW, -1, whole)
            case "one thing lost":
                return file.durable if mine else file.after(NOW)
            case "one thing kept":
                return file.after(NOW) if mine else file.durable
            case "torn in one file":
                return self._torn(file) if mine else file.after(NOW)
            case _:
                return self._torn(file)

    def _torn(self, file: File) -> bytes:
        times = [-1, *(when for when, _, _ in file.since)]
        # Mostly there, mostly gone, or as it falls.
        bias = self.chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))

        def time(sector: int) -> int:
            if self.chance.random() < 0.3:
                return self.chance.choice(times)
            return times[-1] if self.chance.random() < bias else times[0]

        length = times[-1] if self.chance.random() < 0.7 else self.chance.choice(times)
        return file.torn(time, length, self.sector)

    def _up_to_a_moment(self, file: File) -> bytes:
        """Everything before it, nothing after it, and of the write under way some sectors."""
        until = [when for when, _, _ in file.since if when <= self.moment]
        last = until[-1] if until else -1
        before = until[-2] if len(until) > 1 else -1
        if self.chance.random() < 0.5:
            before = last
        return file.torn(
            lambda sector: last if self.chance.random() < 0.5 else before,
            self.chance.choice((last, before)),
            self.sector,
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut: what had been promised before it, what is found after it. `when` counts calls and marks."""

    marks: tuple[str, ...]
    image: Image
    when: int
    digest: bytes


def cuts(
    disk: Disk,
    log: Sequence[Call],
    many: int,
    chance: random.Random,
    part: tuple[int, int] = (0, 1),
    promised: int = PROMISED,
) -> Iterator[Cut]:
    """Cuts all along the log, about `many` of them, each image once; fewer where there are not as many.

    `part` (k, n): every nth moment from the kth, so that n processes share the work.
    """
    seen: set[bytes] = set()
    known: dict[int, tuple[bytes, bytes]] = {}
    marks: tuple[str, ...] = ()
    given = 0
    for number, call in enumerate([None, *log]):
        if call is not None and call.op is Op.MARK:
            if call.data == SYNCED:
                disk.settle_all()
                continue
            marks = (*marks, call.data.decode())
        elif call is not None:
            disk.play(call)
        if number % part[1] != part[0]:
            continue
        # What an early moment could not use is left for the later ones.
        expected = (many - given) / ((len(log) - number) // part[1] + 1)
        share = int(expected) + (chance.random() < expected % 1)
        # The moment after a promise is the one to look at, and the end is after all of them.
        if number == len(log):
            share = max(share, 2 * len(KINDS))
        elif call is not None and call.op is Op.MARK:
            share = max(share, promised)
        fresh = 0
        for attempt in range(max(len(KINDS), 3 * share) if disk.pending() else 1):
            if fresh >= share:
                break
            kind = KINDS[(attempt + number) % len(KINDS)]
            image = disk.image(kind, chance)
            # A promise more is another question to the same image.
            digest = image.digest(known) + len(marks).to_bytes(4, "big")
            if digest in seen:
                continue
            seen.add(digest)
            fresh += 1
            given += 1
            yield Cut(marks, image, number, digest)


class Stage:
    """A folder in memory on which one image after another is laid; what stays the same is not written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._big: dict[str, tuple[bytes, tuple[int, int, int]]] = {}

    def lay(self, image: Image) -> Path:
        wanted = image.found
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._clear(self.folder, "", wanted)
        for path in sorted(wanted):
            content, place = wanted[path], self.folder / path
            if content is None:
                if not place.is_dir():
                    place.mkdir(mode=0o700)
            elif isinstance(content, str):
                place.symlink_to(content)
            elif not self._still_there(path, content, place):
                handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with open(handle, "wb", buffering=0) as file:
                    file.write(content)
                if len(content) >= BIG:
                    self._big[path] = content, _stamp(place)
        return self.folder

    def _still_there(self, path: str, content: bytes, place: Path) -> bool:
        if len(content) < BIG or path not in self._big or path.endswith((".db", "-wal")):
            return False
        kept, stamp = self._big[path]
        return kept is content and place.exists() and _stamp(place) == stamp

    def _clear(self, folder: Path, above: str, wanted: Mapping[str, bytes | str | None]) -> None:
        for each in list(os.scandir(folder)):
            path = above + each.name
            is_folder = each.is_dir(follow_symlinks=False)
            if is_folder:
                self._clear(Path(each.path), f"{path}/", wanted)
                if path not in wanted or wanted[path] is not None:
                    os.rmdir(each.path)
            elif not isinstance(wanted.get(path), bytes) or each.is_symlink():
                os.unlink(each.path)


def _stamp(place: Path) -> tuple[int, int, int]:
    there = place.stat()
    return there.st_ino, there.st_size, there.st_mtime_ns
