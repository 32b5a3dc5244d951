"""A released archive as it lies on the server: heads and objects, kept on this computer without opening them.

Rule of this room: nothing is decrypted here. What is kept was verified first, lies under the name of its own hash, and
is not fetched twice; docs/recover-without-afterword.md opens it, on another computer or in another year.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from cli import chain, disk, terminal
from cli.chain import SignedHead
from vault import wire
from vault.errors import Damaged, Malformed, NotFound, Refused, Untrusted
from vault.identity import ContactCard
from vault.stream import OBJECT_SIZE

if TYPE_CHECKING:
    from cli.remote import Remote

HEADS: Final = "heads.jsonl"
CARD: Final = "card.json"
_LINES: Final = 3


class Kept(msgspec.Struct, frozen=True):
    """What `recover --keep-sealed` answers; `size` in bytes of ciphertext, `missing` what is lost or spoilt there."""

    dossier: str
    bundles: int
    objects: int
    size: int
    folder: str
    missing: tuple[str, ...]


def keep(
    remote: "Remote", dossier: str, journalist: ContactCard, heads: Sequence[SignedHead], folder: Path
) -> Kept:
    """Heads as signed, oldest first, one to a line; the journalist's card; every object. It can be interrupted."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refused(f"{folder} is not a folder; name one that is new or empty.", code="not-a-folder")
    objects = folder / "objects"
    objects.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.write_private(folder / CARD, journalist.envelope + b"\n")
    disk.write_private(folder / HEADS, _lines_of(remote, dossier, journalist, heads))
    names = list(dict.fromkeys(name for each in heads for name in each.head.objects))
    missing: list[str] = []
    with terminal.progress("Keeping", len(names) * OBJECT_SIZE) as progress:

        def fetch(name: str) -> None:
            place = objects / name
            with suppress(FileNotFoundError):
                # Written whole or not at all, under a name that says what it is.
                if place.stat().st_size == OBJECT_SIZE:
                    return progress.advance(OBJECT_SIZE)
            try:
                whole = remote.get_object(dossier, name)
            except (NotFound, Untrusted, Malformed, Damaged):
                # One that is spoilt costs what needs it, and nothing else.
                return missing.append(name)
            disk.write_private(place, whole)
            return progress.advance(OBJECT_SIZE)

        threads = ThreadPoolExecutor(_LINES, "keep")
        try:
            for _ in threads.map(fetch, names):
                pass
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
    os.sync()
    held = len(names) - len(missing)
    return Kept(dossier, len(heads), held, held * OBJECT_SIZE, str(folder), tuple(sorted(missing)))


def render(kept: Kept) -> str:
    lines = [f"PROBLEM: object {name} is missing or damaged on the server" for name in kept.missing]
    said = (
        f"{kept.bundles} bundles, {terminal.number(kept.objects)} objects ({terminal.size(kept.size)}) are kept in "
        f"{kept.folder}, sealed as they are. With the key (--write-identity) stock tools open them: see "
        "docs/recover-without-afterword.md."
    )
    return "\n".join([*lines, said])


def _lines_of(remote: "Remote", dossier: str, journalist: ContactCard, heads: Sequence[SignedHead]) -> bytes:
    """The envelopes of these heads, asked for once more: whoever only opens an archive need not hold them all."""
    lines: list[bytes] = []
    while len(lines) < len(heads):
        page = remote.call("GET", f"/dossiers/{dossier}/heads?after={len(lines)}", None, wire.Heads)
        for signed in page.heads[: len(heads) - len(lines)]:
            before = heads[len(lines) - 1] if lines else None
            read = chain.read_head(signed.encode(), journalist.verify_key, dossier, before)
            if read.hash != heads[len(lines)].hash:
                page = wire.Heads((), False)
                break
            lines.append(signed.encode() + b"\n")
        if not page.heads:
            raise Untrusted(
                "The server shows other heads than a moment ago; speak with the others before you believe them.",
                code="head-forked",
            )
    return b"".join(lines)
