"""How a home lies on its disk: private files, a database that keeps what it was told, locks that a crash opens.

Rule of this room: nothing is readable for anybody else at any moment, and no file is ever half of itself.
"""

import errno
import fcntl
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from vault.errors import Conflict, Damaged, Refused

_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

# Numbered by user_version; never edited once released, only added to.
MIGRATIONS: Final = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE cards (
        hash BLOB NOT NULL, role TEXT NOT NULL, verify TEXT NOT NULL, label TEXT NOT NULL, folded TEXT NOT NULL,
        envelope BLOB NOT NULL, compared INTEGER, PRIMARY KEY (hash, role)
    );
    CREATE TABLE dossiers (
        id TEXT PRIMARY KEY, role TEXT NOT NULL, title BLOB, epoch INTEGER NOT NULL, roster TEXT NOT NULL,
        head TEXT, bundles INTEGER NOT NULL
    );
    CREATE TABLE rosters (
        dossier TEXT NOT NULL, epoch INTEGER NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (dossier, epoch)
    );
    CREATE TABLE pending (dossier TEXT NOT NULL, kind TEXT NOT NULL, blob BLOB NOT NULL, PRIMARY KEY (dossier, kind));
    """,
    """
    CREATE TABLE heads (
        life TEXT NOT NULL, number INTEGER NOT NULL, hash TEXT NOT NULL, served INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (life, number, hash)
    );
    CREATE TABLE releases (dossier TEXT PRIMARY KEY, envelope BLOB NOT NULL, checkin BLOB);
    """,
)


def write_private(path: Path, data: bytes) -> None:
    """A whole file, for its owner only, durable before it takes its name."""
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def lock(path: Path, name: str) -> Iterator[None]:
    """An flock on a file of its own, which the kernel lets go of when its process ends, however it ends."""
    descriptor = os.open(path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Another `afterword {name}` is at work in this home; wait until it has finished.",
                code="busy",
            ) from None
        yield
    finally:
        os.close(descriptor)


def exposed(path: Path) -> list[Path]:
    """What in this home other users of the computer could read."""
    return [each for each in (path, *sorted(path.iterdir())) if stat.S_IMODE(each.lstat().st_mode) & 0o077]


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    if db.in_transaction:  # part of the one around it
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def is_unwritable(wrong: BaseException) -> bool:
    """Whether what is wrong is a disk that is full, read-only or failing."""
    if isinstance(wrong, sqlite3.Error):
        said = getattr(wrong, "sqlite_errorname", None) or ""
        return said.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN"))
    return isinstance(wrong, OSError) and wrong.errno in _UNWRITABLE


def connect_in_memory(path: Path) -> sqlite3.Connection:
    """What the database of a home says, without one byte being written: what it is told now, it forgets."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as kept:
        kept.backup(memory)
    _migrate(memory)
    return memory


def connect(path: Path) -> sqlite3.Connection:
    """The database of a home, brought up to the newest migration."""
    # The file is made before SQLite would make it with whatever the umask leaves; -wal and -shm follow its mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=10, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        _migrate(db)
    except UnicodeDecodeError:  # SQLite quotes the damaged page in its own complaint
        db.close()
        raise Damaged(f"{path} is damaged; restore this home from the paper words.") from None
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    with transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise Refused(
                "This home was last used by a newer Afterword; update the program.", code="newer-home"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            for command in filter(str.strip, script.split(";")):
                db.execute(command)
            db.execute(f"PRAGMA user_version = {number}")
