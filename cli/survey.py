"""What a push would have to read, and how much of it would be new.

Rule of this room: it changes nothing, here or on the server; it decides before the first byte is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.journal import Journal
from cli.reading import read_file
from cli.scan import Found, Renamed, Skipped, Source, scan, small_and_recent_first
from cli.terminal import Progress, number, size
from vault import stream
from vault.errors import OverQuota, Refused
from vault.identity import DedupKey
from vault.settings import NEARLY_FULL
from vault.stream import OBJECT_SIZE, SLICE_SIZE
from vault.wire import AccountState

_FEWER: Final = 2
_WORTH_A_WORD: Final = 10
_LINE: Final = 400
"""What a path takes in a tree, at most in all likelihood."""


@dataclass(frozen=True, slots=True)
class Names:
    """Keyed hashes of what the journal must recognise and may not hold."""

    key: DedupKey

    def path(self, p: str) -> bytes:
        return self.key.name(b"afterword/path\0" + p.encode())

    def stamp(self, found: Found) -> bytes:
        return self.key.name(b"afterword/stamp\0" + found.stamp)

    def content(self, found: Found, digest: bytes | None) -> bytes:
        what = b"afterword/content\0%b\0%o\0" % (found.kind.encode(), found.mode)
        return self.key.name(what + (digest or b""))

    def source(self, name: str) -> bytes:
        return self.key.name(b"afterword/source\0" + name.encode())

    def sources(self, names: Sequence[str]) -> bytes:
        return self.key.name(b"afterword/sources\0" + "\0".join(sorted(names)).encode())


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies below the sources. `changed` in the order in which it is to be read."""

    changed: tuple[Found, ...]
    unchanged: int
    skipped: tuple[Skipped, ...]
    renamed: tuple[Renamed, ...]
    extents: tuple[tuple[str, int, int], ...]
    """Of each source: its name, files and bytes below it."""

    @property
    def size(self) -> int:
        return sum(found.size for found in self.changed)


def survey(
    sources: Sequence[Source], journal: Journal, names: Names, home: Path, since: int | None = None
) -> Survey:
    """Look at everything. `since`: count as unchanged only what that bundle or a later one has listed."""
    changed: list[Found] = []
    skipped: list[Skipped] = []
    renamed: list[Renamed] = []
    extents = []
    unchanged = 0
    own = home.stat() if home.exists() else None
    for source in sources:
        files = total = 0
        for each in scan(source, own):
            if isinstance(each, Skipped):
                skipped.append(each)
            elif isinstance(each, Renamed):
                renamed.append(each)
            else:
                files, total = files + (each.kind == "file"), total + each.size
                known = journal.known(names.path(each.p))
                fresh = since is not None and (known is None or known.bundle < since)
                if known is not None and known.stamp == names.stamp(each) and not fresh:
                    unchanged += each.kind == "file"
                else:
                    changed.append(each)
        extents.append((source.name, files, total))
    if not any(files for _, files, _ in extents):
        reason = f" ({skipped[0]})" if skipped else ""
        raise Refused(
            f"There is no file in what you named{reason}, so nothing was sent. Is the disk there that it should be on?",
            code="nothing-to-push",
        )
    changed.sort(key=small_and_recent_first)
    return Survey(tuple(changed), unchanged, tuple(skipped), tuple(renamed), tuple(extents))


def shrunk(journal: Journal, names: Names, seen: Survey) -> list[str]:
    """A sentence for each source without a file, or with less than half of what it had at the last push."""
    sentences = []
    for name, files, total in seen.extents:
        before = journal.last_extent(names.source(name))
        if before is None:
            sentences += [] if files else [f"{name} holds no file."]
            continue
        fewer = before[0] >= _WORTH_A_WORD and files * _FEWER < before[0]
        smaller = before[1] >= OBJECT_SIZE and total * _FEWER < before[1]
        if fewer or smaller:
            sentences.append(
                f"{name} has shrunk since the last push: {number(before[0])} files, {size(before[1])} then; "
                f"{number(files)} files, {size(total)} now. Nothing deposited is lost by this push."
            )
    return sentences


def at_most(seen: Survey, minimum: int) -> int:
    """Bytes on the server if everything changed were new and did not compress."""
    return _on_server(seen.size + _LINE * len(seen.changed), minimum) if seen.changed else 0


def measure(seen: Survey, journal: Journal, naming: DedupKey, minimum: int, progress: Progress) -> int:
    """Bytes on the server, from reading everything once: exact but for what changes until the push."""
    new: set[bytes] = set()
    total = 0

    def take(chunk: bytes) -> None:
        nonlocal total
        name = naming.name(chunk)
        progress.advance(len(chunk))
        if name not in new and journal.place_of(name) is None:
            new.add(name)
            total += len(stream.frame(chunk).data)

    for found in seen.changed:
        if found.kind == "file":
            try:
                read_file(found, take)
            except OSError:
                continue  # the push itself will name it
    return _on_server(total + _LINE * len(seen.changed), minimum)


def check_room(needed: int, account: AccountState, largest: int) -> None:
    """OverQuota, before anything is sent. A part of the quota is kept for pushes that fit into it."""
    left = account.quota - account.used
    free = left - account.reserve if needed > account.reserve else left
    if needed > free:
        raise OverQuota(
            f"This push needs about {size(needed)} and {size(max(free, 0))} of your {size(account.quota)} are left"
            f"{f' (the last {size(account.reserve)} are kept for small pushes)' if needed > account.reserve else ''}. "
            "Nothing was sent. Push less, or ask the operator for more."
        )
    if needed > largest:
        raise OverQuota(
            f"This push needs about {size(needed)} and the server's disk has {size(largest)} left. Nothing was sent; "
            "tell its operator.",
            code="no-space",
        )


def nearly_full(account: AccountState, sent: int) -> str | None:
    """A sentence once four fifths of the quota are used, while there is still time to ask for more."""
    used = account.used + sent
    if used * 100 < account.quota * NEARLY_FULL:
        return None
    return f"{size(used)} of your {size(account.quota)} on this server are used; ask the operator for more in time."


def _on_server(length: int, minimum: int) -> int:
    full, rest = divmod(length, 64 * SLICE_SIZE)
    return (full * 64 + (stream.objects_for(rest, minimum) if rest else 0)) * OBJECT_SIZE
