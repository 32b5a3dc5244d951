"""Reading what changed into bundles, whatever happens to the files meanwhile.

Rule of this room: one file's trouble is that file's alone: it is named, and the rest goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from cli import terminal
from cli.bundler import Bundler, OnItsWay
from cli.journal import Arriving, Journal
from cli.reading import AGAIN_BELOW, Vanished, Whole, read_file
from cli.scan import Found, Skipped
from cli.survey import Names, Survey
from vault.clock import Clock

_TRIES: Final = 3
_TICK: Final = 50_000_000
"""Nanoseconds."""


class Left(msgspec.Struct, frozen=True):
    """Something that is not in the archive as it is on the disk."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """What could not be deposited as it is, and how many files turned out to be as they were."""

    problems: tuple[Left, ...]
    same: int


def deposit(
    seen: Survey, bundler: Bundler, journal: Journal, names: Names, clock: Clock, fresh: int | None
) -> Done:
    """Everything that changed, in order, and the last head. `fresh`: the first bundle of a fresh start."""
    problems = [Left(each.p, each.words) for each in seen.skipped if not each.harmless]
    try:
        more, same = _read_all(seen, bundler, journal, names, clock, listing=fresh is not None)
        problems += more
        # A file that could not be read must not be set aside by its own absence.
        bundler.finish(
            fresh=lambda: None if problems or bundler.refused else fresh,
            even_empty=fresh is not None and not problems,
        )
    except BaseException:
        bundler.abandon()
        raise
    problems += [Left(path, why) for path, why in bundler.refused.items()]
    return Done(tuple(problems), same)


def _read_all(
    seen: Survey, bundler: Bundler, journal: Journal, names: Names, clock: Clock, *, listing: bool
) -> tuple[list[Left], int]:
    """Read what changed; `listing`: every path is to stand in a tree. The problems, and how many were as before."""
    problems: list[Left] = []
    same = 0
    with terminal.progress("Pushing", seen.size) as progress:
        for found in seen.changed:
            if found.kind == "dir":
                arriving = Arriving(names.path(found.p), names.stamp(found), names.content(found, None))
                bundler.end(bundler.begin(found), found, 0, None, arriving)
                continue
            try:
                file, whole = _read(found, bundler, progress.advance)
            except OSError as wrong:
                gone = isinstance(wrong, FileNotFoundError | Vanished)
                problems.append(Left(found.p, Skipped(found.p, "vanished" if gone else "unreadable").words))
                continue
            if not whole.steady:
                why = "it was written to while it was read; what was read is deposited"
                problems.append(Left(found.p, why))
            arriving = Arriving(
                names.path(found.p), _stamp(whole, names, clock), names.content(whole.found, whole.digest)
            )
            known = journal.known(arriving.name)
            if known is not None and known.content == arriving.content and not listing:
                bundler.drop(file)
                journal.touch(arriving.name, arriving.stamp)
                same += 1
            else:
                bundler.end(file, whole.found, whole.size, whole.digest, arriving)
    return problems, same


def _read(found: Found, bundler: Bundler, advance: Callable[[int], None]) -> tuple[OnItsWay, Whole]:
    """One file, again if somebody wrote to it meanwhile. OSError leaves nothing of it in the tree."""
    for left in range(_TRIES - 1, -1, -1):
        file = bundler.begin(found)
        advanced = 0

        def take(chunk: bytes, file: OnItsWay = file) -> None:
            nonlocal advanced
            bundler.add(file, chunk)
            advanced += len(chunk)
            advance(len(chunk))

        try:
            whole = read_file(found, take)
        except BaseException:
            bundler.drop(file)
            raise
        if whole.steady or not left or whole.size > AGAIN_BELOW:
            break
        bundler.drop(file)
        advance(-advanced)
    return file, whole


def _stamp(whole: Whole, names: Names, clock: Clock) -> bytes:
    """By which the file is known as unchanged next time; one that fits nothing if it may be changing right now."""
    # Time stamps are only as fine as the kernel's tick: a change right after this read might not show in them.
    settled = whole.steady and abs(clock.wall() * 1_000_000 - whole.found.ctime_ns) > _TICK
    return names.stamp(whole.found) if settled else b""
