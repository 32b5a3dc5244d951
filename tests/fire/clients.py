"""What her own computer must not lose: the journal of a push, a home and its keys, a recovery half written.

Rule of this room: each workflow can be run again from its beginning, and says itself what must be true whatever
happened before; scrypt is left out, since no disk hears of it.
"""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from cli import disk, sealed
from cli.home import KEYRING, Home
from cli.journal import Arriving, Journal
from cli.writer import SCRATCH, Writer
from tests.fire.oracle import Broken
from tests.fire.stand import Promises, Said, read_promises, room
from vault import identity, statements
from vault.errors import AfterwordError
from vault.tree import Extent

OLD, NEW = b"the keyring under the first passphrase" * 20, b"the keyring under the second passphrase" * 20
DEALT: Final = b"a sealed D that was dealt and not handed over yet" * 40


@dataclass(frozen=True)
class Client:
    """One workflow on her computer; `hold` says what is not true of the folder, given what was promised."""

    name: str
    folder: Path
    run: Callable[[Path, Promises], None]
    hold: Callable[[Path, list[Said]], list[str]]

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to)
        return to

    def play(self, folder: Path, promises: Promises) -> None:
        promises.say("begin", flow=self.name)
        self.run(folder, promises)

    def check(self, folder: Path, said: list[Said]) -> list[Broken]:
        try:
            found = self.hold(folder, said)
            again = folder.parent / "again"
            self.run(folder, Promises(again))
            found += self.hold(folder, [*said, *read_promises(again)])
        except AfterwordError as wrong:
            found = [f"it does not go on: {type(wrong).__name__} ({wrong.code}): {wrong}"]
        return [Broken("", sentence) for sentence in found]


def _did(said: list[Said]) -> set[str]:
    return {each["step"] for each in said if each["what"] == "did"}


# The journal of a push.

_OBJECTS: Final = [bytes([number]) * 40_000 for number in (1, 2)]
_NAMES: Final = [hashlib.sha256(each).hexdigest() for each in _OBJECTS]
_HEAD: Final = hashlib.sha256(b"head").digest()


def _push(folder: Path, promises: Promises) -> None:
    with Journal(folder / "journal") as journal:
        if 1 not in journal.bundles():
            # As a push goes on: what is known and whole is kept, the rest is made anew.
            kept = [
                name for name in journal.objects() if name in _NAMES and journal.spooled(name) is not None
            ]
            if len(kept) != len(journal.objects()):
                journal.cut(0, 100_000)
                kept = []
            for number, (name, data) in enumerate(zip(_NAMES, _OBJECTS, strict=True)):
                if name not in kept:
                    journal.place(hashlib.sha256(data).digest(), Extent(0, number * 100, 100, 100, "raw"))
                    journal.seal(name, data)
                promises.say("did", step=f"sealed {number}")
            if journal.saved_head() is None:
                journal.save_head(b"signed head", [Arriving(b"path", b"stamp", b"content")])
            promises.say("did", step="head saved")
            journal.arrived(_NAMES)
            promises.say("did", step="sent")
            journal.commit(1, _HEAD, _NAMES, None)
        promises.say("did", step="committed")


def _push_holds(folder: Path, said: list[Said]) -> list[str]:
    wrong = []
    did = _did(said)
    with Journal(folder / "journal") as journal:
        committed = 1 in journal.bundles()
        if "committed" in did and not committed:
            wrong.append("a committed bundle was forgotten")
        if committed:
            if journal.known(b"path") is None or journal.objects() or journal.saved_head() is not None:
                wrong.append("a bundle was committed by halves")
            return wrong
        for number, name in enumerate(_NAMES):
            if f"sealed {number}" in did and name not in journal.objects():
                wrong.append("an object that was sealed was forgotten")
        for name in journal.objects():
            # Once sending began, a file may be gone; before, each that counts is whole.
            if "head saved" not in did and journal.saved_head() is None and journal.spooled(name) is None:
                wrong.append("an object counts and is not whole")
        if "head saved" in did and journal.saved_head() != b"signed head":
            wrong.append("a head that was saved before it was sent was forgotten")
    return wrong


# A home: made, joined, numbered, its keyring sealed anew, a dealt D kept until it is handed over.


@cache
def _people() -> tuple[identity.ContactCard, identity.ContactCard]:
    made = []
    for name, by in (("server", "server"), ("ana", "cli")):
        keyring = identity.Keyring.from_seed(identity.RootSeed(os.urandom(32)))
        signed = identity.write_card(name, keyring, 1_700_000_000_000, by)  # type: ignore[arg-type]  # one of its words
        made.append(identity.read_card(signed))
    return made[0], made[1]


def _home(folder: Path, promises: Promises) -> None:
    server, card = _people()
    path = folder / "home"
    if not Home.exists(path):
        Home.create(path, url="https://s.example", server=server, card=card, keyring=OLD).close()
    promises.say("did", step="created")
    with Home.open(path, unfinished=True) as home:
        if home.joined is None:
            home.finish_joining(1_700_000_000_000)
        promises.say("did", step="joined")
        for _ in range(2):
            promises.say("did", step="numbered", number=home.next_seq())
        home.save_pending("d" * 32, "roster", DEALT)
        promises.say("did", step="dealt")
        home.remember_acknowledgement(b"acknowledged")
        promises.say("did", step="acknowledged")
        disk.write_private(path / KEYRING, NEW)
        promises.say("did", step="sealed anew")


def _home_holds(folder: Path, said: list[Said]) -> list[str]:
    wrong = []
    did = _did(said)
    path = folder / "home"
    if not Home.exists(path):
        return ["a home that was made is gone"] if "created" in did else []
    keyring = (path / KEYRING).read_bytes()
    if keyring not in (OLD, NEW) or ("sealed anew" in did and keyring != NEW):
        wrong.append("the keyring is neither the old nor the new one")
    for each in (path, *path.iterdir()):
        if each.lstat().st_mode & 0o077:
            wrong.append(f"others may read {each.name}")
    with Home.open(path, unfinished=True) as home:
        if "joined" in did and home.joined is None:
            wrong.append("joining was forgotten")
        if "dealt" in did and home.pending("d" * 32, "roster") != DEALT:
            wrong.append("a sealed D was forgotten")
        if "acknowledged" in did and home.last_acknowledgement() != b"acknowledged":
            wrong.append("an acknowledgement was forgotten")
        given = [each["number"] for each in said if each["what"] == "did" and each["step"] == "numbered"]
        if len(set(given)) != len(given):
            wrong.append("a number was given twice")
        if given and int(home.fact("seq") or b"0") < max(given):
            wrong.append("a number that was given was forgotten")
    return wrong


# A recovery: files written below one folder.

_FILES: Final = {
    ("a.txt",): b"short",
    ("notes", "b.bin"): bytes(range(256)) * 400,
    ("notes", "deep", "c.bin"): b"c" * 150_000,
}


def _recover(folder: Path, promises: Promises) -> None:
    target = folder / "recovered"
    target.mkdir(exist_ok=True)
    with Writer(target) as writer:
        for parts, data in _FILES.items():
            digest = hashlib.sha256(data).hexdigest()
            if writer.find(parts, len(data), digest) != "same":
                part = writer.begin(digest)
                try:
                    writer.keep(part, min(part.size, len(data)) // 2)
                    part.append(data[min(part.size, len(data)) // 2 :])
                    if not writer.finish(part, parts, 0o644, 1_600_000_000_000_000):
                        raise AssertionError("something stands in the way")
                finally:
                    os.close(part.handle)
            promises.say("did", step="/".join(parts))
        writer.tidy()
        promises.say("did", step="tidied")


def _recover_holds(folder: Path, said: list[Said]) -> list[str]:
    wrong = []
    did = _did(said)
    target = folder / "recovered"
    for parts, data in _FILES.items():
        path = target.joinpath(*parts)
        if path.exists() and path.read_bytes() != data:
            wrong.append(f"{path.name} is half-written under its own name")
        if "/".join(parts) in did and not path.exists():
            wrong.append(f"{path.name} was recovered and is gone")
    if "tidied" in did and (target / SCRATCH).exists():
        wrong.append("parts lie about after the end")
    return wrong


# An archive kept sealed.


class _Remote:
    """The server of `recover --keep-sealed`, with two objects and no head."""

    def get_object(self, dossier: str, name: str) -> bytes:
        return _OBJECTS[_NAMES.index(name)]


def _keep_sealed(folder: Path, promises: Promises) -> None:
    _, card = _people()
    head = statements.Head("d" * 32, 1, None, tuple(_NAMES), "", None, 1)

    class Signed:
        def __init__(self) -> None:
            self.head = head

    real = sealed._lines_of
    sealed._lines_of = lambda remote, dossier, journalist, heads: b"heads\n"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            sealed.keep(_Remote(), "d" * 32, card, [Signed()], folder / "kept")  # type: ignore[arg-type, list-item]  # as little of each as it asks for
    finally:
        sealed._lines_of = real
    promises.say("did", step="kept")


def _sealed_holds(folder: Path, said: list[Said]) -> list[str]:
    wrong = []
    objects = folder / "kept" / "objects"
    for name in _NAMES:
        place = objects / name
        if place.exists() and hashlib.sha256(place.read_bytes()).hexdigest() != name:
            wrong.append("a kept object is half-written")
        if "kept" in _did(said) and not place.exists():
            wrong.append("a kept object is gone")
    return wrong


_ALL: Final = {
    "push-journal": (_push, _push_holds),
    "home": (_home, _home_holds),
    "recover": (_recover, _recover_holds),
    "keep-sealed": (_keep_sealed, _sealed_holds),
}
NAMES: Final = tuple(_ALL)


@cache
def prepared(name: str) -> Client:
    folder = room() / f"client-{name}"
    folder.mkdir(mode=0o700)
    _people()
    return Client(name, folder, *_ALL[name])
