"""One connection to one SQLite file, and the lock to write through it.

Rule of this room: no connection leaves before it has confessed to `synchronous=FULL` and to all else it was told.
"""

import fcntl
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final, Literal

from vault.errors import Damaged
from vault.storage.disk import Disk, forget_error, last_error
from vault.storage.sqlite_errors import full

BUSY_SECONDS: Final = 30.0
_LOOK: Final = 0.003
PRAGMAS: Final = {
    # WAL with NORMAL loses acknowledged rows in a power cut; kill -9 alone never shows it.
    "synchronous": 2,
    "foreign_keys": 1,
    # A release share that was replaced must not be read out of a free page.
    "secure_delete": 1,
    "trusted_schema": 0,
    "cell_size_check": 1,
    # fsync alone leaves data in the drive's cache on macOS.
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    # What fails in SQLite's own checkpoint after a commit, it tells nobody.
    "wal_autocheckpoint": 0,
}


class Connection(sqlite3.Connection):
    """A connection that knows what its thread is doing with it, and may be closed by another thread."""

    state: Literal["idle", "reading", "writing"] = "idle"


def connect(path: Path, disk: Disk) -> Connection:
    forget_error()
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=Connection
    )
    try:
        # Of a file that could not be opened for writing SQLite makes one that is only read, and says nothing.
        if (refusal := disk.refusal(last_error(), full())) is not None:
            raise refusal
        for name, value in PRAGMAS.items():
            connection.execute(f"PRAGMA {name} = {value}")
        if _pragma(connection, "journal_mode") != "wal":
            _turn_to_wal(connection, path)
        for name, needed in (*PRAGMAS.items(), ("journal_mode", "wal")):
            if (held := _pragma(connection, name)) != needed:
                raise Damaged(f"SQLite answers {name} = {held}, and {needed} is needed; nothing was written.")
    except BaseException:
        connection.close()
        raise
    return connection


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return None if row is None else row[0]


def _turn_to_wal(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not wait for others here, so processes that start together queue up at the folder.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        os.close(folder)


def take_write_lock(connection: sqlite3.Connection) -> None:
    """SQLite's own naps last up to a tenth of a second, and whoever works in batches would have the lock again by
    then: beside ten thousand moves a check-in would starve. So whoever waits looks every few milliseconds."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        for _ in range(int(BUSY_SECONDS / _LOOK)):
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as wrong:
                if wrong.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            threading.Event().wait(_LOOK)
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
