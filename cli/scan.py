"""Which files a push is about, before any of them is read.

Rule of this room: it looks and never opens a file; no link is followed, and whatever is left out is named.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vault import tree
from vault.errors import BadUsage, Malformed, NotFound, Refused

Reason = Literal[
    "link", "pipe", "socket", "device", "home", "unreadable", "vanished", "same-name", "bad-name"
]

HARMLESS: Final[frozenset[Reason]] = frozenset({"link", "pipe", "socket", "device", "home"})
"""Left out on purpose: a push without them is whole."""

WORDS: Final[dict[Reason, str]] = {
    "link": "a link, and links are not followed",
    "pipe": "a pipe",
    "socket": "a socket",
    "device": "a device",
    "home": "Afterword's own folder",
    "unreadable": "it cannot be read",
    "vanished": "it went away before it could be read",
    "same-name": "another file beside it has the same name in UTF-8",
    "bad-name": "its path is too long or has a part that no path may have",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One PATH of the command line. `name` is the first component of everything below it in the archive."""

    name: str
    at: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file, or a folder with nothing in it. The stamp is what `lstat` said when it was found."""

    p: str
    at: bytes
    kind: Literal["file", "dir"]
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @property
    def stamp(self) -> bytes:
        """Changes whenever the file does. Never stored as it is."""
        return b"%d %d %d %d %d" % (self.size, self.mode, self.mtime_ns, self.ctime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something below a source that is not in the archive, and why."""

    p: str
    why: Reason

    @property
    def harmless(self) -> bool:
        return self.why in HARMLESS

    @property
    def words(self) -> str:
        return WORDS[self.why]

    def __str__(self) -> str:
        return f"{self.p}: {self.words}"


@dataclass(frozen=True, slots=True)
class Renamed:
    """A name that is not UTF-8 and how it is written in the archive."""

    p: str


def choose_sources(
    paths: Sequence[str | bytes], renames: Mapping[str, str] | None = None
) -> tuple[Source, ...]:
    """The sources that the command line names. Refused when two overlap or share a name, NotFound when one is missing.

    `renames` maps a PATH as it was typed, or its last component, to the name it has in the archive.
    """
    if not paths:
        raise BadUsage("Name at least one file or folder to push.")
    unused = dict(renames or {})
    sources: list[Source] = []
    places: list[tuple[bytes, str]] = []
    for given in paths:
        typed = os.fsdecode(given)
        if not typed:
            raise BadUsage("One of the paths is empty; name files or folders.")
        at = os.path.abspath(os.fsencode(given))
        _check_there(at, typed)
        place = os.path.realpath(at)
        for other, said in places:
            if place == other:
                raise Refused(f"{typed} and {said} are the same place; name it once.", code="path-twice")
            if _inside(place, other) or _inside(other, place):
                inner, outer = (typed, said) if _inside(place, other) else (said, typed)
                raise Refused(f"{inner} lies inside {outer}; name only the outer one.", code="path-inside")
        places.append((place, typed))
        last, _ = tree.name_from_bytes(os.path.basename(at)) if os.path.basename(at) else ("", False)
        name = unused.pop(typed, None) or unused.pop(last, None) or last
        _check_name(name, typed)
        for known in sources:
            if known.name == name:
                raise Refused(
                    f"Two of the paths are called {name}; give one another name: --as {typed}=NEW-NAME",
                    code="same-name",
                )
        sources.append(Source(name, at))
    if unused:
        raise BadUsage(
            f"--as {next(iter(unused))}=… fits none of the paths; write OLD exactly like the path."
        )
    return tuple(sources)


def scan(source: Source, home: os.stat_result | None = None) -> Iterator[Found | Skipped | Renamed]:
    """Everything below a source, folders in byte order, except the folder that is `home`."""
    try:
        seen = os.lstat(source.at)
    except OSError as wrong:
        yield Skipped(source.name, _unreadable(wrong))
        return
    yield from _visit(source.name, source.at, seen, home)


def _visit(
    p: str, at: bytes, seen: os.stat_result, home: os.stat_result | None
) -> Iterator[Found | Skipped | Renamed]:
    # A stack of our own: a folder may be deeper than Python's.
    waiting = [(p, at, seen)]
    while waiting:
        p, at, seen = waiting.pop()
        kind = _kind(seen.st_mode)
        if kind == "file":
            yield _found(p, at, seen, "file")
        elif kind != "dir":
            yield Skipped(p, kind)
        elif home is not None and os.path.samestat(seen, home):
            yield Skipped(p, "home")
        else:
            below: list[tuple[str, bytes, os.stat_result]] = []
            try:
                with os.scandir(at) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as wrong:
                yield Skipped(p, _unreadable(wrong))
                continue
            if not listed:
                yield _found(p, at, seen, "dir")
            names: set[str] = set()
            for entry in listed:
                name, changed = tree.name_from_bytes(entry.name)
                child = f"{p}/{name}"
                try:
                    tree.check_path(child)
                except Malformed:
                    yield Skipped(child, "bad-name")
                    continue
                if name in names:
                    yield Skipped(child, "same-name")
                    continue
                names.add(name)
                try:
                    inside = entry.stat(follow_symlinks=False)
                except OSError as wrong:
                    yield Skipped(child, _unreadable(wrong))
                    continue
                if changed:
                    yield Renamed(child)
                below.append((child, entry.path, inside))
            waiting.extend(reversed(below))


def small_and_recent_first(found: Found) -> tuple[int, int, str]:
    """Sorts what can be saved quickly, and what she worked on last, to the front."""
    return (max(found.size >> 20, 1).bit_length() // 4, -found.mtime_ns, found.p)


def _found(p: str, at: bytes, seen: os.stat_result, kind: Literal["file", "dir"]) -> Found:
    size = seen.st_size if kind == "file" else 0
    mode = stat.S_IMODE(seen.st_mode) & 0o777
    return Found(p, at, kind, size, mode, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_dev, seen.st_ino)


def _kind(mode: int) -> Literal["file", "dir", "link", "pipe", "socket", "device"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _unreadable(wrong: OSError) -> Literal["vanished", "unreadable"]:
    return "vanished" if isinstance(wrong, FileNotFoundError | NotADirectoryError) else "unreadable"


def _check_there(at: bytes, typed: str) -> None:
    try:
        seen = os.lstat(at)
    except OSError as wrong:
        raise NotFound(
            f"{typed} cannot be pushed ({wrong.strerror}); check the path.", code="no-such-path"
        ) from None
    kind = _kind(seen.st_mode)
    if kind == "link":
        raise Refused(
            f"{typed} is a link, and links are not followed; name what it points to.", code="path-is-a-link"
        )
    if kind != "file" and kind != "dir":
        raise Refused(
            f"{typed} is {WORDS[kind]}; only files and folders can be pushed.", code="path-not-a-file"
        )


def _check_name(name: str, typed: str) -> None:
    try:
        tree.check_path(name)
    except Malformed:
        raise Refused(
            f"{typed} has no name that can stand in the archive; give it one: --as {typed}=NAME",
            code="bad-name",
        ) from None
    if "/" in name:
        raise Refused(f"--as {typed}={name}: the new name is one name, without a slash.", code="bad-name")


def _inside(inner: bytes, outer: bytes) -> bool:
    return inner.startswith(outer.rstrip(b"/") + b"/")
