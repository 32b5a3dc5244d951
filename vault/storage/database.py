"""What every database can do for the records, whoever made it.

Rule of this room: few verbs, plain SQL with named parameters, whole integers for time; no SQL lives here.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vault.errors import BadUsage
from vault.storage.disk import Disk

if TYPE_CHECKING:
    import sqlite_utils

Value = int | str | bytes | None
Row = Mapping[str, Any]  # Any: a column's type is known to its SQL and not to Python


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema. Never edited once released."""

    number: int
    name: str
    apply: Callable[["sqlite_utils.Database"], None]


class Database(Protocol):
    """Rows. Each thread has a connection of its own; a transaction belongs to the thread that began it.

    Every verb may raise Damaged (the file does not read), DiskFailed (it does not take what is written: then nothing
    is written any more), NoSpace (a full disk), and Conflict with the codes `busy` (another writer kept the lock, or
    something else is scarce; try again), `taken` (such a row exists) and `orphan` (the row it points at is gone).
    """

    def transaction(self) -> AbstractContextManager[None]:
        """Take the write lock at once; commit durably at the end, roll back on any exception. Never nested."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Everything read inside is of one moment. Never nested, and nothing is written inside."""
        ...

    def run(self, sql: str, /, **params: Value) -> int:
        """Execute one statement inside a transaction; the number of rows it touched."""
        ...

    def many(self, sql: str, rows: Iterable[Mapping[str, Value]], /) -> int:
        """Execute one statement for each row inside a transaction; the number of rows touched in all."""
        ...

    def one(self, sql: str, /, **params: Value) -> Row | None:
        """The first row, or none. With RETURNING only inside a transaction."""
        ...

    def all(self, sql: str, /, **params: Value) -> list[Row]:
        """Every row. With RETURNING only inside a transaction."""
        ...

    def backup(self, target: Path) -> None:
        """A consistent copy of this moment at `target`, on disk when this returns; writers are not stopped."""
        ...

    def size(self) -> int:
        """Bytes that such a copy may take: those of the file and of its log."""
        ...

    def check(self, *tables: str) -> None:
        """Read every page and every reference, or these tables, their indexes and what tables there should be; Damaged
        if anything does not hold."""
        ...

    def migrate(self) -> None:
        """Bring the schema up to date, once, however many processes ask for it together."""
        ...

    def settle(self) -> None:
        """Before anything is served: put on disk whatever may lie only in memory since a disk failed."""
        ...

    def give_way(self) -> None:
        """Between two of many transactions: whoever waits for the write lock has it first."""
        ...

    def forget(self, *, copies: bool = True) -> bool:
        """Overwrite what was deleted wherever this database still keeps a copy of it: its log, and the copies that
        were kept before migrations.

        False if somebody who is reading stood in the way: ask again later.
        """
        ...

    def close(self) -> None:
        """Close every thread's connection. Nothing may be asked afterwards."""
        ...


def open_database(url: str, disk: Disk | None = None) -> Database:
    """The database at `sqlite:///absolute/path`, made if it is not there; on a disk of its own unless it shares one."""
    file = file_of(url)
    # Only who opens a SQLite database needs sqlite_utils, which the bare client does not have.
    from vault.storage.sqlite import SqliteDatabase

    return SqliteDatabase(file, disk=disk)


def file_of(url: str) -> Path:
    """Where the database at `sqlite:///absolute/path` lies; `BadUsage` for any other address."""
    scheme, found, rest = url.partition("://")
    if scheme == "sqlite" and found and rest.strip("/") and "?" not in rest:
        return Path("/" + rest.lstrip("/"))
    if scheme in {"postgresql", "postgres"}:
        raise BadUsage(
            "PostgreSQL is not supported yet; set AFTERWORD_DATABASE to sqlite:///absolute/path/afterword.db.",
            code="bad-setting",
        )
    raise BadUsage(
        "AFTERWORD_DATABASE is written sqlite:///absolute/path/afterword.db.",
        code="bad-setting",
    )
