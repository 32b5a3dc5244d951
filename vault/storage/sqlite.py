"""Rows in one SQLite file.

Rule of this room: nothing is written outside a transaction that was begun with the write lock, and no sqlite3
exception leaves.
"""

import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import sqlite_utils

from vault.errors import AfterwordError, Damaged, NoSpace, Refused
from vault.storage import folders
from vault.storage.database import Migration, Row, Value
from vault.storage.disk import Disk, last_error
from vault.storage.migrating import MIGRATIONS, expected, load_migrations, refuse_strangers, shape
from vault.storage.sqlite_connection import BUSY_SECONDS, Connection, connect, take_write_lock
from vault.storage.sqlite_errors import full, kind, no_text, translation, unusable

_WAY: Final = 0.01
_FORGETTING: Final = 200  # ms
_CHECKPOINT_AFTER: Final = 64  # commits of this process
_LARGE_LOG: Final = 4 << 20
_HUGE_LOG: Final = 64 << 20  # from which on whoever reads is waited for
_NARROW: Final = 4 << 20  # bytes left on the disk
_BLOCK: Final = 1 << 20
_ONLY_READS: Final = re.compile(r"\s*(?:SELECT|WITH)\b(?!.*\bRETURNING\b)", re.IGNORECASE | re.DOTALL)


class SqliteDatabase:
    """The file at `path`, made if it is not there, in a folder of its own that nobody else may enter."""

    def __init__(
        self, path: Path, migrations: Sequence[Migration] | None = None, disk: Disk | None = None
    ) -> None:
        self._path = path.absolute()
        self._log = self._path.with_name(f"{self._path.name}-wal")
        self._disk = disk or Disk()
        self._served = False
        self._commits = 0
        self._huge = _HUGE_LOG
        self._migrations = migrations
        self._process = os.getpid()
        self._mine = threading.local()
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._opening = threading.Lock()
        self._turn = threading.RLock()
        self._closed = False
        with self._translated():
            _make_file(self._path)
            self._connection()
        self._served = True

    def __repr__(self) -> str:
        return f"<SqliteDatabase {self._path.name}>"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        # Whoever waits for SQLite's lock naps and tries again, in no order: among forty uploads a check-in would wait
        # for seconds. Threads take turns here, and only processes contend there.
        with self._turn, self._within("writing"):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._within("reading"):
            yield

    def run(self, sql: str, /, **params: Value) -> int:
        with self._translated():
            return max(0, self._writer().execute(sql, params).rowcount)

    def many(self, sql: str, rows: Iterable[Mapping[str, Value]], /) -> int:
        with self._translated():
            return max(0, self._writer().executemany(sql, rows).rowcount)

    def one(self, sql: str, /, **params: Value) -> Row | None:
        with self._translated(), closing(self._reader(sql).execute(sql, params)) as cursor:
            row = cursor.fetchone()
            return None if row is None else _named(cursor, row)

    def all(self, sql: str, /, **params: Value) -> list[Row]:
        with self._translated(), closing(self._reader(sql).execute(sql, params)) as cursor:
            return [_named(cursor, row) for row in cursor]

    def backup(self, target: Path) -> None:
        with self._translated():
            connection = self._connection()
            if connection.state != "idle":
                raise RuntimeError("A backup is taken outside of any transaction.")
            _copy(connection, target)

    def size(self) -> int:
        with self._translated():
            log = self._log.stat().st_size if self._log.exists() else 0
            return self._path.stat().st_size + log

    def check(self, *tables: str) -> None:
        with self._translated():
            connection = self._connection()
            answers = [
                connection.execute(f"PRAGMA integrity_check({limit})").fetchone() for limit in tables or (1,)
            ]
            orphans = None if tables else connection.execute("PRAGMA foreign_key_check").fetchone()
            changed = bool(tables) and shape(connection) != expected(connection, self._known())
        if any(answer is None or answer[0] != "ok" for answer in answers):
            raise Damaged("The database does not pass its integrity check; stop and restore a backup.")
        if changed:
            raise Damaged("The database has not the tables that it was made with; stop and restore a backup.")
        if orphans is not None:
            raise Damaged(f"The table {orphans[0]} points at rows that are gone; stop and restore a backup.")

    def migrate(self) -> None:
        known = self._known()
        if [step.number for step in known] != list(range(1, len(known) + 1)):
            raise RuntimeError("Migrations are numbered 1, 2, 3 … without a gap.")
        with self.transaction(), self._translated():
            connection = self._connection()
            connection.execute(MIGRATIONS)
            applied = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
            refuse_strangers(applied, known)
            if not applied and len(shape(connection)) > 1:
                raise Damaged("The database does not say what it is any more; stop and restore a backup.")
            if applied and len(applied) < len(known):
                # What a migration spoils can be had back; another connection sees the state before it.
                self._keep_copy(len(applied) + 1)
            database = sqlite_utils.Database(connection, execute_plugins=False)
            for step in known[len(applied) :]:
                connection.execute("PRAGMA defer_foreign_keys = ON")
                step.apply(database)
                if not connection.in_transaction:
                    raise RuntimeError(f"Migration {step.number} ended the transaction that it was given.")
                connection.execute(
                    "INSERT INTO migrations (number, name) VALUES (?, ?)", (step.number, step.name)
                )
            if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise Damaged("A migration would leave rows that point at nothing; it was not applied.")

    def _known(self) -> tuple[Migration, ...]:
        return load_migrations() if self._migrations is None else tuple(self._migrations)

    def settle(self) -> None:
        self._disk.check()
        with self._translated():
            connection = self._connection()
            # With the write lock, so that nobody lengthens or restarts the log meanwhile.
            connection.execute("BEGIN IMMEDIATE")
            try:
                _write_anew(self._log)
            finally:
                connection.execute("ROLLBACK")
            # What is in the log is on disk now. Bringing it into the file may wait for whoever reads beside us; to
            # keep check-ins waiting as long, in parts that run already, it may not.
            self._checkpoint(connection, _FORGETTING)

    def give_way(self) -> None:
        threading.Event().wait(_WAY)

    def forget(self, *, copies: bool = True) -> bool:
        self._disk.check()
        with self._translated():
            if copies:
                for kept in self._path.parent.glob(f"{self._path.name}.before-*"):
                    kept.unlink(missing_ok=True)
            connection = self._connection()
            if connection.state != "idle":
                raise RuntimeError("What a transaction deletes can be overwritten only after it has ended.")
            # While it waits for readers it keeps everybody from writing, check-ins too: so not for long.
            return self._checkpoint(connection, _FORGETTING)

    def close(self) -> None:
        self._closed = True
        for connection in list(self._open):
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def _within(self, state: Literal["reading", "writing"]) -> Iterator[None]:
        if state == "writing":
            self._disk.check()
        with self._translated():
            connection = self._connection()
            if connection.state != "idle":
                raise RuntimeError(f"This thread is already {connection.state}; transactions do not nest.")
            if state == "writing":
                take_write_lock(connection)
            else:
                connection.execute("BEGIN DEFERRED")
        connection.state = state
        try:
            yield
            if state == "writing":
                # It may have failed in another thread since we began.
                self._disk.check()
            with self._translated():
                connection.execute("COMMIT")
        except BaseException as wrong:
            # A full disk or an I/O error may have rolled back already.
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(wrong, NoSpace):
                # The log's own room can be used again, for whoever comes next.
                with suppress(AfterwordError), self._translated():
                    self._checkpoint(connection, 0, "RESTART")
            raise
        finally:
            connection.state = "idle"
        if state == "writing":
            self._shorten_log(connection)

    def _shorten_log(self, connection: Connection) -> None:
        """Now and then after a commit, which is durable whatever becomes of this."""
        self._commits += 1
        try:
            with self._translated():
                state = os.statvfs(self._path.parent)
                # On a disk that is nearly full the log stays short, and keeps the room that it has.
                narrow = state.f_bavail * state.f_frsize < _NARROW
                often = self._commits % _CHECKPOINT_AFTER == 0
                size = self._log.stat().st_size
                if narrow:
                    self._checkpoint(connection, 0, "RESTART")
                elif size >= self._huge or (often and size >= _LARGE_LOG):
                    # Readers that overlap without end stand in the way without end, and the log would fill the disk.
                    # One that reads for minutes is waited for in vain: again when the log has doubled, no sooner.
                    huge = size >= self._huge
                    done = self._checkpoint(connection, _FORGETTING if huge else 0)
                    if done or huge:
                        self._huge = _HUGE_LOG if done else 2 * size
        except AfterwordError:
            # Who reads stands in the way, or the disk is full: another time. But a disk that fails is the end.
            self._disk.check()

    def _checkpoint(
        self, connection: Connection, patience: int, how: Literal["TRUNCATE", "RESTART"] = "TRUNCATE"
    ) -> bool:
        """Bring the log into the file; true if nobody stood in the way for `patience` ms, and it begins anew: empty,
        or in the room that it has."""
        connection.execute(f"PRAGMA busy_timeout = {patience}")
        try:
            busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        return not busy

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say what SQLite says in our words. Its own words name tables and columns, never values."""
        try:
            yield
        except sqlite3.Error as wrong:
            # First of all: the next call that fails would overwrite it.
            number = last_error()
            if kind(wrong) == sqlite3.SQLITE_CANTOPEN:
                # It tried a second time, only for reading: that told it something else.
                number = _why_not(self._path) or number
            usable = self._path.is_file() and os.access(self._path, os.W_OK)
            refusal = translation(wrong, number, self._disk, self._served, usable)
            if refusal is None:
                # Anything else is a mistake in our SQL, and its trace is what a developer needs.
                raise
            # The one error that quotes what the row holds: its text goes no further.
            raise refusal from (None if "decode to UTF-8" in str(wrong) else wrong)
        except OSError as wrong:
            raise self._disk.refusal(wrong.errno, full()) or unusable(self._path, wrong.strerror) from wrong
        except UnicodeDecodeError:
            # A damaged schema, quoted by SQLite in a message that Python cannot read.
            raise no_text() from None

    def _writer(self) -> Connection:
        connection = self._connection()
        if connection.state != "writing":
            raise RuntimeError("A row is written only inside transaction().")
        return connection

    def _reader(self, sql: str) -> Connection:
        connection = self._connection()
        if connection.state != "writing" and not _ONLY_READS.match(sql):
            raise RuntimeError("Outside transaction() only SELECT is answered.")
        return connection

    def _connection(self) -> Connection:
        if self._process != os.getpid():
            # SQLite's locks do not survive a fork: two processes would believe that they hold the same one.
            raise RuntimeError("This database was opened before a fork; open it anew in the child.")
        if self._closed:
            raise RuntimeError("This database has been closed.")
        mine: Connection | None = getattr(self._mine, "connection", None)
        if mine is None:
            with self._opening:
                mine = self._mine.connection = connect(self._path, self._disk)
                self._open.add(mine)
        return mine

    def _keep_copy(self, number: int) -> None:
        with closing(connect(self._path, self._disk)) as other:
            _copy(other, self._path.with_name(f"{self._path.name}.before-{number:04}"))


def _make_file(path: Path) -> None:
    """An empty file that only we may read; SQLite gives its log and index the same mode."""
    folders.make_folder(path.parent)
    try:
        # Never opened when it exists: closing any descriptor of it drops the locks of the whole process.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            with suppress(FileNotFoundError):
                path.with_name(name).chmod(0o600)
    else:
        folders.settle(path.parent)


def _why_not(path: Path) -> int | None:
    """Why no file can be made beside the database, as the number of an error; None if one can."""
    probe = path.with_name(f"{path.name}.probe")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        probe.unlink(missing_ok=True)
    except OSError as wrong:
        return wrong.errno
    return None


def _write_anew(log: Path) -> None:
    """The same bytes in the same places. What a failed disk left in memory only is marked there as written, and no
    fsync would bring it to the disk; nor may a checkpoint build on it."""
    try:
        # SQLite puts no lock on its log, so that closing it here drops none.
        descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        place = 0
        while block := os.pread(descriptor, _BLOCK, place):
            view = memoryview(block)
            while view:
                written = os.pwrite(descriptor, view, place)
                place, view = place + written, view[written:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Copy in one step, so that writers cannot make it begin anew, and let it be seen only when it is whole."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            source.backup(copy, pages=-1)
            # One plain file, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
        descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(target)
        folders.settle(target.parent)
    except OSError as wrong:
        raise Refused(
            f"The copy {target} cannot be written ({wrong.strerror}).", code="backup-failed"
        ) from wrong
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _named(cursor: sqlite3.Cursor, row: tuple[Value, ...]) -> Row:
    return dict(zip((column[0] for column in cursor.description), row, strict=True))
