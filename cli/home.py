"""What one person's computer remembers between commands: AFTERWORD_HOME.

Rule of this room: nothing secret rests here in clear. The keyring is an age file, titles are sealed to their
owner; whoever takes this folder learns who wrote to whom, and can open nothing that was sent.
"""

import os
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cli import disk, naming
from vault import age, identity, titles
from vault.errors import Damaged, Malformed, NotFound, Refused, Untrusted, WrongPassphrase
from vault.identity import ContactCard, Keyring
from vault.statements import MAX_AHEAD, Role
from vault.storage.folders import make_folder

KEYRING: Final = "keyring.age"
STATE: Final = "state.db"


@dataclass(frozen=True, slots=True)
class KnownCard:
    """Somebody's card, pinned. `role` is theirs towards us; `compared` is when its words were heard (ms UTC)."""

    card: ContactCard
    label: str
    role: Role
    compared: int | None


@dataclass(frozen=True, slots=True)
class KnownDossier:
    """A dossier as this computer last saw it. Hashes in hex; `title_sealed` is sealed to our own identity."""

    id: str
    role: Role
    title_sealed: bytes | None = field(repr=False)
    epoch: int
    roster_hash: str
    head_hash: str | None
    bundles: int


def default_path() -> Path:
    """AFTERWORD_HOME, else where this platform keeps a program's data."""
    if named := os.environ.get("AFTERWORD_HOME"):
        return Path(named)
    import platformdirs

    return platformdirs.user_data_path("afterword")


class Home:
    """One person on one server."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self.db = db
        self.url = self._text("url")
        self.server = identity.read_card(self._fact("server"))
        self.card = identity.read_card(self._fact("card"))

    @staticmethod
    def exists(path: Path | None = None) -> bool:
        """Whether somebody has joined here, or is about to."""
        path = path or default_path()
        return (path / KEYRING).exists() and (path / STATE).exists()

    @classmethod
    def discard_unfinished(cls, path: Path | None = None) -> None:
        """Forget keys that never joined anything."""
        if cls.exists(path):
            with cls.open(path, unfinished=True) as home:
                if home.joined is not None:
                    raise _exists(home.path)
            (home.path / KEYRING).unlink()

    @classmethod
    def open(cls, path: Path | None = None, *, unfinished: bool = False) -> Self:
        """Refused with code `no-home` when nobody joined here; `unfinished` takes one that is still joining."""
        path = path or default_path()
        if not cls.exists(path):
            raise Refused(
                f"Nobody has joined from this computer yet ({path} is empty); run: afterword join INVITE-URL",
                code="no-home",
            )
        home = cls(path, disk.connect(path / STATE))
        if not unfinished and not home.joined:
            home.close()
            raise Refused(
                "Joining was interrupted; run the same `afterword join INVITE-URL` again.", code="no-home"
            )
        return home

    @classmethod
    def open_unwritten(cls, path: Path | None = None) -> Self:
        """A home on a disk that takes nothing any more, good for one check-in; what it learns is forgotten."""
        path = path or default_path()
        return cls(path, disk.connect_in_memory(path / STATE))

    @classmethod
    def create(
        cls, path: Path | None = None, *, url: str, server: ContactCard, card: ContactCard, keyring: bytes
    ) -> Self:
        """A home that has not joined yet. The keyring is written last: without it there is no home."""
        path = path or default_path()
        if (path / KEYRING).exists():
            raise _exists(path)
        make_folder(path)
        _clear_remains(path)
        path.chmod(0o700)
        db = disk.connect(path / STATE)
        with disk.transaction(db):
            for name, value in (("url", url.encode()), ("server", server.envelope), ("card", card.envelope)):
                db.execute("INSERT INTO facts VALUES (?, ?)", (name, value))
        disk.write_private(path / KEYRING, keyring)
        return cls(path, db)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Home {self.path}>"

    def unlock(self, passphrase: str) -> Keyring:
        """WrongPassphrase, or Damaged if this keyring is not the one that our card names."""
        try:
            keyring = identity.read_keyring((self.path / KEYRING).read_bytes(), passphrase)
        except WrongPassphrase:
            raise WrongPassphrase(
                f"This is not the passphrase of {self.path}; try again. If it is lost, your paper words restore "
                "everything into another AFTERWORD_HOME: afterword join --from-words"
            ) from None
        if keyring.sign.verify_key != self.card.verify_key:
            raise Damaged(
                "The keyring and the card in this home belong to different people; restore it from the paper words."
            )
        return keyring

    def lock_with(self, keyring: Keyring, passphrase: str, random: identity.Random) -> None:
        """Seal the keyring under another passphrase; at every moment the old or the new file is whole."""
        disk.write_private(self.path / KEYRING, identity.write_keyring(keyring, passphrase, random))

    # Facts: one value each.

    def fact(self, name: str) -> bytes | None:
        row = self.db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else _blob(row[0])

    def remember(self, name: str, value: bytes) -> None:
        self.db.execute(
            "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    @property
    def joined(self) -> int | None:
        """When the server took our card (ms UTC)."""
        return self._number("joined")

    def finish_joining(self, now: int) -> None:
        self.remember("joined", b"%d" % now)

    def move_to(self, url: str, server: ContactCard) -> None:
        """Only before anything was joined: another server for the same keys."""
        if self.joined is not None:
            raise Refused("This home has joined a server already.", code="home-exists")
        with self.transaction():
            self.remember("url", url.encode())
            self.remember("server", server.envelope)
        self.url, self.server = url, server

    def next_seq(self) -> int:
        """The number for the next statement; never given twice, not even after a crash."""
        with self.transaction():
            number = (self._number("seq") or 0) + 1
            self.remember("seq", b"%d" % number)
        return number

    def seen_seq(self, seen: int) -> None:
        """The server knows numbers up to `seen`; ours go on above it. Untrusted if no honest server can."""
        with self.transaction():
            mine = self._number("seq") or 0
            if seen > mine + MAX_AHEAD and mine:
                raise Untrusted(
                    "The server claims to have statements from you that you cannot have made; ask its operator.",
                    code="false-sequence",
                )
            self.remember("seq", b"%d" % max(seen, mine))

    def remember_acknowledgement(self, envelope: bytes) -> None:
        self.remember("acknowledgement", envelope)

    def last_acknowledgement(self) -> bytes | None:
        return self.fact("acknowledgement")

    # Cards.

    def cards(self) -> list[KnownCard]:
        rows = self.db.execute("SELECT envelope, label, role, compared FROM cards ORDER BY folded, role")
        return [KnownCard(identity.read_card(_blob(card)), *rest) for card, *rest in rows.fetchall()]

    def pin(self, card: ContactCard, label: str, role: Role, compared: int | None = None) -> None:
        """Remember a card. Untrusted with code `card-changed` if its person or label is known with another."""
        with self.transaction():
            known = self.db.execute(
                "SELECT label FROM cards WHERE hash <> ? AND (verify = ? OR folded = ?)",
                (card.hash, card.card.verify, naming.folded(label)),
            ).fetchone()
            if known is not None:
                raise Untrusted(
                    f"The server shows another card for {known[0]} than the one known here. Ask {known[0]} by "
                    "voice whether there is a new one; until then nothing is sent to it.",
                    code="card-changed",
                )
            self.db.execute(
                "INSERT INTO cards VALUES (:hash, :role, :verify, :label, :folded, :envelope, :compared)"
                " ON CONFLICT (hash, role) DO UPDATE SET compared = coalesce(excluded.compared, compared)",
                {
                    "hash": card.hash,
                    "role": role,
                    "verify": card.card.verify,
                    "label": label,
                    "folded": naming.folded(label),
                    "envelope": card.envelope,
                    "compared": compared,
                },
            )

    def mark_compared(self, hash: bytes, now: int) -> None:
        if not self.db.execute("UPDATE cards SET compared = ? WHERE hash = ?", (now, hash)).rowcount:
            raise NotFound("No such card is known here.")

    def journalist(self, hash: str) -> KnownCard | None:
        """Whoever has the card of this hash (hex), if an invite made them a journalist here: a server could introduce
        anybody as anybody."""
        for known in self.cards():
            if known.role == "journalist" and known.card.hash.hex() == hash:
                return known
        return None

    def card_named(self, name: str) -> KnownCard:
        """By label, as typed; NotFound with code `no-such-card` says whose cards there are."""
        cards = self.cards()
        for known in cards:
            if naming.folded(known.label) == naming.folded(name):
                return known
        listed = ", ".join(sorted({known.label for known in cards})) or "nobody's yet"
        raise NotFound(f"There is no card of {name!r} here; known cards: {listed}.", code="no-such-card")

    # Dossiers and their rosters.

    def dossiers(self) -> list[KnownDossier]:
        rows = self.db.execute(
            "SELECT id, role, title, epoch, roster, head, bundles FROM dossiers ORDER BY rowid"
        )
        return [KnownDossier(*row) for row in rows.fetchall()]

    def remember_dossier(
        self,
        id: str,
        role: Role,
        *,
        epoch: int,
        roster_hash: str,
        title_sealed: bytes | None = None,
        head_hash: str | None = None,
        bundles: int = 0,
    ) -> None:
        """What was just seen of it. A title that is not given stays as it was."""
        self.db.execute(
            "INSERT INTO dossiers VALUES (:id, :role, :title, :epoch, :roster, :head, :bundles)"
            " ON CONFLICT (id) DO UPDATE SET role = :role, title = coalesce(:title, title), epoch = :epoch,"
            " roster = :roster, head = :head, bundles = :bundles",
            {
                "id": id,
                "role": role,
                "title": title_sealed,
                "epoch": epoch,
                "roster": roster_hash,
                "head": head_hash,
                "bundles": bundles,
            },
        )

    def title(self, dossier: KnownDossier, keyring: Keyring) -> str | None:
        """Its title, opened; None where this computer has not learned it yet, or cannot read it any more."""
        if dossier.title_sealed is None:
            return None
        try:
            return titles.read_title(age.open_sealed(dossier.title_sealed, keyring.seal), dossier.id)
        except (Malformed, Untrusted):
            # What was stored here had been verified; a spoilt one hides neither this dossier nor the others.
            return None

    def dossier_named(self, title: str, keyring: Keyring) -> KnownDossier:
        """By title, or by the beginning of its id. Refused with code `no-such-dossier` lists what there is."""
        known = [(each, each.id, self.title(each, keyring)) for each in self.dossiers()]
        if (found := naming.dossier_called(title, known)) is not None:
            return found
        listed = ", ".join(own or id[:8] for _, id, own in known) or "none yet"
        raise NotFound(
            f"There is no dossier {title!r} here; known dossiers: {listed}.", code="no-such-dossier"
        )

    def rosters(self, dossier: str) -> list[bytes]:
        """Envelopes that were verified when they were stored, epoch by epoch."""
        rows = self.db.execute("SELECT envelope FROM rosters WHERE dossier = ? ORDER BY epoch", (dossier,))
        return [_blob(row[0]) for row in rows.fetchall()]

    def remember_roster(self, dossier: str, epoch: int, envelope: bytes) -> None:
        """Untrusted with code `roster-forked` if another roster was seen for this epoch."""
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO rosters VALUES (?, ?, ?)", (dossier, epoch, envelope))
            (kept,) = self.db.execute(
                "SELECT envelope FROM rosters WHERE dossier = ? AND epoch = ?", (dossier, epoch)
            ).fetchone()
            if _blob(kept) != envelope:
                raise Untrusted(
                    f"The server shows another roster for epoch {epoch} of dossier {dossier[:8]} than before; "
                    "do nothing with this dossier until you have spoken with the others.",
                    code="roster-forked",
                )

    # Saved before it is sent.

    def save_pending(self, dossier: str, kind: str, blob: bytes) -> None:
        self.db.execute(
            "INSERT INTO pending VALUES (?, ?, ?) ON CONFLICT (dossier, kind) DO UPDATE SET blob = excluded.blob",
            (dossier, kind, blob),
        )

    def pending(self, dossier: str, kind: str) -> bytes | None:
        row = self.db.execute(
            "SELECT blob FROM pending WHERE dossier = ? AND kind = ?", (dossier, kind)
        ).fetchone()
        return None if row is None else _blob(row[0])

    def drop_pending(self, dossier: str, kind: str) -> None:
        self.db.execute("DELETE FROM pending WHERE dossier = ? AND kind = ?", (dossier, kind))

    def transaction(self) -> AbstractContextManager[None]:
        """One or none of what is written inside; may stand within another."""
        return disk.transaction(self.db)

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by one process at a time, Conflict with code `busy`; a crash lets go of it."""
        return disk.lock(self.path, name)

    def _fact(self, name: str) -> bytes:
        if (value := self.fact(name)) is None:
            raise Damaged(f"{self.path / STATE} lacks its {name}; restore this home from the paper words.")
        return value

    def _text(self, name: str) -> str:
        return self._fact(name).decode("utf-8", "replace")

    def _number(self, name: str) -> int | None:
        value = self.fact(name)
        if value is not None and not (value.isdigit() and len(value) < 20):
            raise Damaged(
                f"{self.path / STATE} has no number in {name}; restore this home from the paper words."
            )
        return None if value is None else int(value)


def _blob(value: object) -> bytes:
    """What a column of bytes holds; a damaged page may hold anything."""
    if not isinstance(value, bytes):
        raise Damaged("A row of this home does not read; restore it from the paper words.")
    return value


def _exists(path: Path) -> Refused:
    return Refused(
        f"There is a home in {path} already; point AFTERWORD_HOME to another folder for another one.",
        code="home-exists",
    )


def _clear_remains(path: Path) -> None:
    """What an interrupted `create` left. A folder with anything else in it is not taken: `wipe` removes it all."""
    remains = list(path.iterdir())
    if any(not each.name.startswith((STATE, f".{KEYRING}.")) for each in remains):
        raise Refused(
            f"{path} holds other files; point AFTERWORD_HOME to an empty folder, or to one that does not exist.",
            code="home-not-empty",
        )
    for each in remains:
        each.unlink()
