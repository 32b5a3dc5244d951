"""Writing an opened archive to a folder, so that it can be interrupted and go on.

Rule of this room: a file is given its name only when its SHA-256 is the signed one; what cannot be had is named,
and everything else is written.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from cli.archive import Contents, Key, Slices, keys_of
from cli.writer import Part, Parts, Writer, lay_out, renamed
from vault.errors import Malformed, NoSpace, Refused, Untrusted
from vault.tree import Extent, Version

if TYPE_CHECKING:
    from cli.home import Home

EARLIER: Final = "earlier"
_LOOK_AHEAD_FILES: Final = 64
_LOOK_AHEAD_CHUNKS: Final = 64
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_DISK_FAILS: Final = {errno.EIO, errno.EROFS, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to write: where it stands in the recovered folder, and which version it is."""

    path: str
    version: Version


class Problem(msgspec.Struct, frozen=True):
    """A file that is not there as it should be, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Written:
    """What lies in the folder now."""

    files: int
    folders: int
    size: int
    problems: tuple[Problem, ...]
    renamed: dict[str, str]


class _Going(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of a recovery, so that it may go on in a folder that is not empty any more."""

    dossier: str


def choose(contents: Contents, only: Sequence[str] = (), *, all_versions: bool = False) -> list[Item]:
    """What is to be written. What lay below a fresh start goes under `earlier/`, once more for each further one."""
    archive = contents.archive
    tops = {path.partition("/")[0] for path in archive.current}
    tops |= {path.partition("/")[0] for aside in archive.set_aside for path in aside.current}
    earlier = EARLIER
    while earlier.casefold() in {top.casefold() for top in tops}:
        earlier += "~"
    items = [Item(path, version) for path, version in archive.current.items()]
    for depth, aside in enumerate(reversed(archive.set_aside), 1):
        above = f"{earlier}/" * depth
        items += [Item(above + path, version) for path, version in aside.current.items()]
    if all_versions:
        items += [
            Item(f"{earlier}/bundle {version.bundle}/{path}", version) for path, version in archive.earlier
        ]
    items = list(_apart(items))
    if only:
        items = [each for each in items if any(_fits(each, pattern) for pattern in only)]
    return items


def open_folder(folder: Path, home: "Home", dossier: str) -> Writer:
    """The folder, made if need be. Refused unless it is empty or this same recovery has begun in it."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refused(f"{folder} is not a folder; name one that is new or empty.", code="not-a-folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    writer = Writer(folder)
    try:
        marker = _marker(home, folder, writer)
        if writer.is_empty():
            marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            marker.write_bytes(msgspec.json.encode(_Going(dossier)))
        elif not _goes_on(marker, dossier):
            raise Refused(
                f"{folder} is not empty; recover into a new folder, so that nothing of yours is mixed with it.",
                code="folder-not-empty",
            )
    except BaseException:
        writer.close()
        raise
    return writer


def write(items: Sequence[Item], slices: Slices, writer: Writer, advance: Callable[[int], None]) -> Written:
    """Write every item that is not there yet. Raises NoSpace, Unreachable: the same again goes on."""
    files = [each for each in items if each.version.entry.type == "file"]
    folders = [each for each in items if each.version.entry.type == "dir"]
    places = lay_out(
        (each.path for each in folders), (each.path for each in files), folding=writer.folds_names()
    )
    writer.keep_clear_of({parts[0] for parts in places.values() if parts})
    problems: list[Problem] = []
    done = size = 0
    absent: list[Item] = []
    for each in files:
        entry = each.version.entry
        with _told(each.path, problems):
            match writer.find(places[each.path], entry.size, _digest(each)):
                case "same":
                    done, size = done + 1, size + entry.size
                    advance(entry.size)
                case "absent":
                    absent.append(each)
                case "different":
                    why = "another file has this name already; it was left alone"
                    problems.append(Problem(each.path, why))
    _check_room(writer, absent)
    made = 0
    for each in folders:
        with _told(each.path, problems):
            writer.make_folder(places[f"{each.path}/"])
            made += 1
    absent.sort(key=_in_stream_order)
    for number, each in enumerate(absent):
        with _told(each.path, problems):
            coming = absent[number + 1 : number + _LOOK_AHEAD_FILES]
            _write_file(each, places[each.path], slices, writer, coming, advance)
            done, size = done + 1, size + each.version.entry.size
    writer.tidy()
    os.sync()
    wanted = {each.path for each in files}
    changed = {path: at for path, at in renamed(places).items() if path in wanted}
    return Written(done, made, size, tuple(problems), changed)


def _write_file(
    item: Item,
    parts: Parts,
    slices: Slices,
    writer: Writer,
    coming: Sequence[Item],
    advance: Callable[[int], None],
) -> None:
    entry = item.version.entry
    part = writer.begin(_digest(item))
    try:
        if not _fill(item, part, slices, writer, coming, advance):
            raise Untrusted("its content is not what its tree signs for")
        if not writer.finish(part, parts, entry.mode, entry.mtime):
            raise Untrusted("something else has its name already; that was left alone")
    except (Untrusted, Malformed):
        writer.drop(part)
        raise
    finally:
        os.close(part.handle)


def _fill(
    item: Item,
    part: Part,
    slices: Slices,
    writer: Writer,
    coming: Sequence[Item],
    advance: Callable[[int], None],
) -> bool:
    """Bring the part to its whole content; whether that has the signed hash."""
    extents = list(item.version.extents())
    kept, first = 0, 0
    while first < len(extents) and kept + extents[first].raw <= part.size:
        kept, first = kept + extents[first].raw, first + 1
    # What an earlier attempt left is believed only if the whole comes out right.
    for start, skipped in [(first, kept)] + ([(0, 0)] if first else []):
        hashed = writer.keep(part, skipped)
        advance(skipped)
        for number in range(start, len(extents)):
            data = slices.chunk(extents[number], _soon(extents, number, coming))
            part.append(data)
            hashed.update(data)
            advance(len(data))
        if hashed.digest() == item.version.entry.sha256:
            return True
        advance(-item.version.entry.size)
    return False


def _soon(extents: Sequence[Extent], number: int, coming: Sequence[Item]) -> Iterator[Key]:
    """The objects after this chunk: first of the same file, then of the next ones."""
    yield from keys_of(extents[number + 1 : number + _LOOK_AHEAD_CHUNKS])
    for each in coming:
        yield from keys_of(each.version.extents())


class _told:
    """Turns what is wrong with one file into a line of the report; what is wrong with everything passes."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self._path, self._problems = path, problems

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            if error.errno in _FULL:
                raise NoSpace(
                    "The disk that you recover to is full; make room and run the same command again: it goes on."
                ) from None
            if error.errno in _DISK_FAILS:
                return False
            self._problems.append(Problem(self._path, f"it cannot be written here ({error.strerror})"))
            return True
        if isinstance(error, Untrusted | Malformed | Refused) and not isinstance(error, NoSpace):
            self._problems.append(Problem(self._path, str(error)))
            return True
        return False


def _apart(items: Iterable[Item]) -> Iterator[Item]:
    """The same, no two under one path: her own folders may be called like those of ours."""
    seen: set[str] = set()
    for each in items:
        path = each.path
        while path in seen:
            path += "~"
        seen.add(path)
        yield each if path == each.path else Item(path, each.version)


def _check_room(writer: Writer, absent: Iterable[Item]) -> None:
    needed, free = sum(each.version.entry.size for each in absent), writer.free()
    if needed > free:
        from cli.terminal import size

        raise NoSpace(
            f"{size(needed)} are still to be written and the disk has {size(free)} left; make room, or recover to "
            "another disk. --only takes a part of it."
        )


def _digest(item: Item) -> str:
    return (item.version.entry.sha256 or b"").hex()


def _in_stream_order(item: Item) -> tuple[int, int, str]:
    first = next(item.version.extents(), None)
    return (0, 0, item.path) if first is None else (first.bundle, first.offset, item.path)


def _fits(item: Item, pattern: str) -> bool:
    folder = pattern.rstrip("/")
    return any(
        path == folder or path.startswith(f"{folder}/") or fnmatchcase(path, pattern)
        for path in (item.path, item.version.entry.path)
    )


def _marker(home: "Home", folder: Path, writer: Writer) -> Path:
    device, inode = writer.place()
    # A folder that was deleted and made again is another folder; which one it is says nothing to a thief.
    known = hashlib.sha256(f"{device} {inode} {folder.resolve()}".encode("utf-8", "surrogateescape"))
    return home.path / "recover" / known.hexdigest()


def _goes_on(marker: Path, dossier: str) -> bool:
    try:
        return msgspec.json.decode(marker.read_bytes(), type=_Going).dossier == dossier
    except (FileNotFoundError, msgspec.MsgspecError):
        return False
