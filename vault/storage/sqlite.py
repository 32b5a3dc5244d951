"""Rows in one SQLite file.

Rule of this room: no connection is used before it has confessed to `synchronous=FULL`, no statement runs outside
a transaction that was begun with the write lock, and no sqlite3 exception leaves.
"""

import fcntl
import importlib
import os
import pkgutil
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import sqlite_utils

from vault.errors import AfterwordError, BadUsage, Conflict, Damaged, NoSpace, Refused
from vault.storage import folders
from vault.storage.database import Migration, Row, Value
from vault.storage.disk import FULL, SCARCE, Disk, forget_error, last_error, scarce

BUSY_SECONDS: Final = 30.0
_LOOK: Final = 0.003
_WAY: Final = 0.01
_FORGETTING: Final = 200  # ms
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
_MIGRATIONS: Final = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
_Shape = dict[tuple[str, str], list[tuple[Value, ...]]]
_CHECKPOINT_AFTER: Final = 64  # commits of this process
_LARGE_LOG: Final = 4 << 20
_HUGE_LOG: Final = 64 << 20  # from which on whoever reads is waited for
_NARROW: Final = 4 << 20  # bytes left on the disk
_BLOCK: Final = 1 << 20
# A sector that does not read is damage; whatever else fails is a write, or stands before one.
_READING: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
    }
)
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
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
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

    def check(self, *tables: str) -> None:
        with self._translated():
            connection = self._connection()
            answers = [
                connection.execute(f"PRAGMA integrity_check({limit})").fetchone() for limit in tables or (1,)
            ]
            orphans = None if tables else connection.execute("PRAGMA foreign_key_check").fetchone()
            changed = bool(tables) and _shape(connection) != self._expected(connection)
        if any(answer is None or answer[0] != "ok" for answer in answers):
            raise Damaged("The database does not pass its integrity check; stop and restore a backup.")
        if changed:
            raise Damaged("The database has not the tables that it was made with; stop and restore a backup.")
        if orphans is not None:
            raise Damaged(f"The table {orphans[0]} points at rows that are gone; stop and restore a backup.")

    def migrate(self) -> None:
        known = load_migrations() if self._migrations is None else tuple(self._migrations)
        if [step.number for step in known] != list(range(1, len(known) + 1)):
            raise RuntimeError("Migrations are numbered 1, 2, 3 … without a gap.")
        with self.transaction(), self._translated():
            connection = self._connection()
            connection.execute(_MIGRATIONS)
            applied = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
            _refuse_strangers(applied, known)
            if not applied and len(_shape(connection)) > 1:
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

    def _expected(self, connection: "_Connection") -> _Shape:
        """What the migrations that were applied here make of nothing."""
        known = load_migrations() if self._migrations is None else tuple(self._migrations)
        applied = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
        _refuse_strangers(applied, known)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
            empty.execute(_MIGRATIONS)
            fresh = sqlite_utils.Database(empty, execute_plugins=False)
            for step in known[: len(applied)]:
                step.apply(fresh)
            return _shape(empty)

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
                _take_write_lock(connection)
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

    def _shorten_log(self, connection: "_Connection") -> None:
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
        self, connection: "_Connection", patience: int, how: Literal["TRUNCATE", "RESTART"] = "TRUNCATE"
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
            if _kind(wrong) == sqlite3.SQLITE_CANTOPEN:
                # It tried a second time, only for reading: that told it something else.
                number = _why_not(self._path) or number
            usable = self._path.is_file() and os.access(self._path, os.W_OK)
            translation = _translation(wrong, number, self._disk, self._served, usable)
            if translation is None:
                # Anything else is a mistake in our SQL, and its trace is what a developer needs.
                raise
            # The one error that quotes what the row holds: its text goes no further.
            raise translation from (None if "decode to UTF-8" in str(wrong) else wrong)
        except OSError as wrong:
            refusal = self._disk.refusal(wrong.errno, _full())
            raise refusal or _unusable(self._path, wrong.strerror) from wrong
        except UnicodeDecodeError:
            # A damaged schema, quoted by SQLite in a message that Python cannot read.
            raise _no_text() from None

    def _writer(self) -> "_Connection":
        connection = self._connection()
        if connection.state != "writing":
            raise RuntimeError("A row is written only inside transaction().")
        return connection

    def _reader(self, sql: str) -> "_Connection":
        connection = self._connection()
        if connection.state != "writing" and not _ONLY_READS.match(sql):
            raise RuntimeError("Outside transaction() only SELECT is answered.")
        return connection

    def _connection(self) -> "_Connection":
        if self._process != os.getpid():
            # SQLite's locks do not survive a fork: two processes would believe that they hold the same one.
            raise RuntimeError("This database was opened before a fork; open it anew in the child.")
        if self._closed:
            raise RuntimeError("This database has been closed.")
        mine: _Connection | None = getattr(self._mine, "connection", None)
        if mine is None:
            with self._opening:
                mine = self._mine.connection = _connect(self._path, self._disk)
                self._open.add(mine)
        return mine

    def _keep_copy(self, number: int) -> None:
        with closing(_connect(self._path, self._disk)) as other:
            _copy(other, self._path.with_name(f"{self._path.name}.before-{number:04}"))


class _Connection(sqlite3.Connection):
    """A connection that knows what its thread is doing with it, and may be closed by another thread."""

    state: Literal["idle", "reading", "writing"] = "idle"


def _translation(
    wrong: sqlite3.Error, refused: int | None, disk: Disk, served: bool, usable: bool
) -> AfterwordError | None:
    """What an error of SQLite is in our words. `refused`: the system's last error number; `served`: whether this
    database had been opened, so that what cannot be written now could be before; `usable`: whether its file is
    there and ours."""
    number = getattr(wrong, "sqlite_errorcode", None)
    name = getattr(wrong, "sqlite_errorname", "")
    match _kind(wrong):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Conflict("Another process is writing to the database; try again.", code="busy")
        case sqlite3.SQLITE_FULL:
            return _full()
        case sqlite3.SQLITE_NOMEM:
            return scarce()
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _unreadable(name)
        case sqlite3.SQLITE_IOERR if number in _READING:
            return disk.refusal(refused, _full()) if refused in SCARCE else _unreadable(name)
        case sqlite3.SQLITE_IOERR:
            return (disk.refusal(refused, _full()) if refused in FULL | SCARCE else None) or disk.fail()
        case sqlite3.SQLITE_CANTOPEN if (refusal := disk.refusal(refused, _full())) is not None:
            return refusal
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM if served:
            return disk.fail()
        case sqlite3.SQLITE_CANTOPEN if usable:
            return Conflict("The database could not be opened just now; try again.", code="busy")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return BadUsage(
                f"The database cannot be opened for writing ({name}); see who owns its folder and file.",
                code="bad-setting",
            )
        case sqlite3.SQLITE_CONSTRAINT if name in {
            "SQLITE_CONSTRAINT_UNIQUE",
            "SQLITE_CONSTRAINT_PRIMARYKEY",
            "SQLITE_CONSTRAINT_ROWID",
        }:
            return Conflict("Such a row exists already.", code="taken")
        case sqlite3.SQLITE_CONSTRAINT if name == "SQLITE_CONSTRAINT_FOREIGNKEY":
            return Conflict("What this row belongs to is gone.", code="orphan")
        case None if "decode to UTF-8" in str(wrong):
            return _no_text()
    return None


def _kind(wrong: sqlite3.Error) -> int | None:
    number = getattr(wrong, "sqlite_errorcode", None)
    return None if number is None else number & 0xFF


def _why_not(path: Path) -> int | None:
    """Why no file can be made beside the database, as the number of an error; None if one can."""
    probe = path.with_name(f"{path.name}.probe")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        probe.unlink(missing_ok=True)
    except OSError as wrong:
        return wrong.errno
    return None


def _full() -> NoSpace:
    return NoSpace("The disk that holds the database is full; free some space.")


def _unreadable(name: str) -> Damaged:
    return Damaged(f"The database does not read ({name}); stop and restore a backup.")


def _unusable(path: Path, reason: str | None) -> BadUsage:
    return BadUsage(f"The database at {path} cannot be made or opened ({reason}).", code="bad-setting")


def load_migrations() -> tuple[Migration, ...]:
    """The modules of vault/storage/migrations, in order of their numbers."""
    package = importlib.import_module("vault.storage.migrations")
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return tuple(Migration(module.number, module.name, module.apply) for module in modules)


def _connect(path: Path, disk: Disk) -> _Connection:
    forget_error()
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
    )
    try:
        # Of a file that could not be opened for writing SQLite makes one that is only read, and says nothing.
        if (refusal := disk.refusal(last_error(), _full())) is not None:
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


def _take_write_lock(connection: sqlite3.Connection) -> None:
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


def _shape(connection: sqlite3.Connection) -> _Shape:
    """Every table with its columns, every index with its own, and the words of every trigger."""
    details = {
        "table": 'SELECT name, type, "notnull", pk FROM pragma_table_info(?)',
        "index": "SELECT name FROM pragma_index_info(?)",
    }
    words = "SELECT sql FROM sqlite_schema WHERE name = ?"
    found = connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {
        (kind, name): connection.execute(details.get(kind, words), (name,)).fetchall() for kind, name in found
    }


def _refuse_strangers(applied: list[tuple[int, str]], known: Sequence[Migration]) -> None:
    if len(applied) > len(known):
        raise Refused(
            "This database was written by a newer afterword; install that version or a later one.",
            code="newer-database",
        )
    for (number, name), step in zip(applied, known, strict=False):
        if (number, name) != (step.number, step.name):
            raise Damaged(f"The database has had another migration {number} than this program knows.")


def _no_text() -> Damaged:
    return Damaged("The database holds text that is none; stop and restore a backup.")


def _named(cursor: sqlite3.Cursor, row: tuple[Value, ...]) -> Row:
    return dict(zip((column[0] for column in cursor.description), row, strict=True))
