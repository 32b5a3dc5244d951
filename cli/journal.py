"""What a push remembers on this computer, of one dossier: docs/decisions/journal-of-a-push.md.

Rule of this room: never a name, a content, a file's stamp or a key: only keyed hashes, places, and sealed objects.
Whatever is lost here costs sending something twice, and nothing else.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vault.errors import Damaged
from vault.storage.folders import make_folder
from vault.tree import Extent

THIS: Final = 0
"""Stands for the bundle that no head has committed yet."""

# Numbered by user_version; never edited once released, only added to.
MIGRATIONS: Final = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE bundles (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, objects BLOB NOT NULL);
    CREATE TABLE chunks (
        name BLOB PRIMARY KEY, bundle INTEGER NOT NULL, start INTEGER NOT NULL, stored INTEGER NOT NULL,
        raw INTEGER NOT NULL, codec TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX unfinished ON chunks (bundle) WHERE bundle = 0;
    CREATE TABLE paths (
        name BLOB PRIMARY KEY, bundle INTEGER NOT NULL, stamp BLOB NOT NULL, content BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE arriving (name BLOB PRIMARY KEY, stamp BLOB NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE objects (number INTEGER PRIMARY KEY, name BLOB NOT NULL);
    CREATE TABLE sources (name BLOB PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class Known:
    """A path as it was deposited last: keyed hashes of its stamp and of its content."""

    bundle: int
    stamp: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Arriving:
    """A path that the bundle now being built completes."""

    name: bytes
    stamp: bytes
    content: bytes


class Journal:
    """The state of all pushes into one dossier."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spool = folder / "objects"
        make_folder(self._spool)
        self._db = _connect(folder / "journal.db")

    def close(self) -> None:
        # What was placed since the last sealed object is not in any object: it is forgotten on purpose.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Bundles that heads have committed.

    def bundles(self) -> dict[int, bytes]:
        """The hash of each known head, by number."""
        return {number: bytes(head) for number, head in self._db.execute("SELECT number, hash FROM bundles")}

    def objects_relied_on(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The objects of every bundle that holds a chunk known here."""
        rows = self._db.execute(
            "SELECT number, objects FROM bundles WHERE number IN (SELECT DISTINCT bundle FROM chunks)"
        ).fetchall()
        for number, objects in rows:
            yield number, tuple(bytes(objects)[at : at + 32].hex() for at in range(0, len(objects), 32))

    def adopt(self, number: int, head: bytes, objects: Sequence[str], replace: int | None) -> None:
        """A bundle that the server has: another computer's, or ours whose acknowledgement was lost."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO bundles VALUES (?, ?, ?)", (number, head, _join(objects)))
            if replace is not None:
                db.execute("DELETE FROM paths WHERE bundle < ?", (replace,))

    def forget_after(self, number: int) -> None:
        """The server has lost every bundle above `number`: what they held is to be sent again."""
        with self._transaction() as db:
            for table, column in (("bundles", "number"), ("chunks", "bundle"), ("paths", "bundle")):
                db.execute(f"DELETE FROM {table} WHERE {column} > ?", (number,))  # noqa: S608  # names of our own

    def forget_chunks_of(self, numbers: Iterable[int]) -> None:
        """These bundles have heads but lack objects. Any path may rest on them, so every file is read again."""
        with self._transaction() as db:
            db.executemany("DELETE FROM chunks WHERE bundle = ?", [(number,) for number in numbers])
            db.execute("DELETE FROM paths")

    # Chunks and paths.

    def place_of(self, chunk: bytes) -> Extent | None:
        row = self._db.execute(
            "SELECT bundle, start, stored, raw, codec FROM chunks WHERE name = ?", (chunk,)
        ).fetchone()
        return None if row is None else Extent(*row)

    def place(self, chunk: bytes, at: Extent) -> None:
        """Becomes durable with the next object, and only as far as that object reaches."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
            (chunk, at.bundle, at.offset, at.stored, at.raw, at.codec),
        )

    def known(self, path: bytes) -> Known | None:
        row = self._db.execute("SELECT bundle, stamp, content FROM paths WHERE name = ?", (path,)).fetchone()
        return None if row is None else Known(row[0], bytes(row[1]), bytes(row[2]))

    def touch(self, path: bytes, stamp: bytes) -> None:
        """Only its stamp has changed, not its content."""
        self._db.execute("UPDATE paths SET stamp = ? WHERE name = ?", (stamp, path))

    def last_extent(self, source: bytes) -> tuple[int, int] | None:
        """Files and bytes below a source at the last complete push."""
        found: tuple[int, int] | None = self._db.execute(
            "SELECT files, bytes FROM sources WHERE name = ?", (source,)
        ).fetchone()
        return found

    def note_extent(self, source: bytes, files: int, size: int) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", (source, files, size))

    # The bundle that is being built: its objects so far, sealed.

    def objects(self) -> tuple[str, ...]:
        rows = self._db.execute("SELECT name FROM objects ORDER BY number")
        return tuple(bytes(name).hex() for (name,) in rows)

    def seal(self, name: str, data: bytes) -> Path:
        """One more object of the unfinished bundle. The file first, then the row that makes it count."""
        path = self._spool / name
        try:
            _write(path, data)
        except OSError:
            # The last of a full disk is for her check-ins, which have to write a few bytes too.
            path.unlink(missing_ok=True)
            raise
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "INSERT INTO objects VALUES ((SELECT coalesce(max(number), 0) + 1 FROM objects), ?)",
            (bytes.fromhex(name),),
        )
        self._db.execute("COMMIT")
        return path

    def spooled(self, name: str) -> Path | None:
        """The file of an object that may not have been sent, if it is whole."""
        path = self._spool / name
        try:
            whole = hashlib.sha256(path.read_bytes()).hexdigest() == name
        except FileNotFoundError:
            return None
        return path if whole else None

    def arrived(self, names: Iterable[str]) -> None:
        """The server has these objects."""
        for name in names:
            (self._spool / name).unlink(missing_ok=True)

    def cut(self, count: int, size: int) -> None:
        """Keep the first `count` objects of the unfinished bundle, of `size` stream bytes each; its head is void."""
        with self._transaction() as db:
            db.execute("DELETE FROM objects WHERE number > ?", (count,))
            db.execute("DELETE FROM chunks WHERE bundle = 0 AND start + stored > ?", (count * size,))
            db.execute("DELETE FROM arriving")
            db.execute("DELETE FROM facts WHERE name = 'head'")
        kept = set(self.objects())
        for path in self._spool.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    # Its head.

    def save_head(self, envelope: bytes, arriving: Iterable[Arriving] | None) -> None:
        """Before it is sent. `arriving` None: the same bundle under a newer head than the one saved before."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('head', ?)", (envelope,))
            if arriving is not None:
                db.execute("DELETE FROM arriving")
                db.executemany(
                    "INSERT OR REPLACE INTO arriving VALUES (?, ?, ?)",
                    ((each.name, each.stamp, each.content) for each in arriving),
                )

    def saved_head(self) -> bytes | None:
        return self._fact("head")

    def commit(self, number: int, head: bytes, objects: Sequence[str], replace: int | None) -> None:
        """The server has the head: what was unfinished is bundle `number` now."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO bundles VALUES (?, ?, ?)", (number, head, _join(objects)))
            db.execute("UPDATE chunks SET bundle = ? WHERE bundle = 0", (number,))
            db.execute("INSERT OR REPLACE INTO paths SELECT name, ?, stamp, content FROM arriving", (number,))
            if replace is not None:
                db.execute("DELETE FROM paths WHERE bundle < ?", (replace,))
            for table in ("arriving", "objects"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608  # names of our own
            db.execute("DELETE FROM facts WHERE name = 'head'")
        for path in self._spool.iterdir():
            path.unlink(missing_ok=True)

    # A fresh start that may take several bundles: where it began, and of what.

    def fresh_start(self) -> tuple[int, bytes] | None:
        found = self._fact("fresh")
        return None if found is None else (int.from_bytes(found[:8], "big"), found[8:])

    def note_fresh_start(self, first: int, sources: bytes) -> None:
        with self._transaction() as db:
            value = first.to_bytes(8, "big") + sources
            db.execute("INSERT OR REPLACE INTO facts VALUES ('fresh', ?)", (value,))

    def end_fresh_start(self) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM facts WHERE name = 'fresh'")

    def _fact(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA secure_delete=ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {migration} PRAGMA user_version = {number}; COMMIT;")
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # it quotes the damaged page in its own complaint
        db.close()
        raise Damaged(
            f"{path} cannot be read. It only saves sending things twice: delete {path.parent} and push again."
        ) from None
    return db


def _join(objects: Sequence[str]) -> bytes:
    return b"".join(bytes.fromhex(name) for name in objects)


def _write(path: Path, data: bytes) -> None:
    # No fsync: after a power cut the name does not fit the content, and the object is made anew.
    handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(handle, "wb") as file:
        file.write(data)
