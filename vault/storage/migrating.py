"""Which migrations a database has had, and what they make of nothing.

Rule of this room: reads only. Whoever applies a migration does it in a transaction of its own.
"""

import importlib
import pkgutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import sqlite_utils

from vault.errors import Damaged, Refused
from vault.storage.database import Migration, Value

MIGRATIONS: Final = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
Shape = dict[tuple[str, str], list[tuple[Value, ...]]]


def load_migrations() -> tuple[Migration, ...]:
    """The modules of vault/storage/migrations, in order of their numbers."""
    package = importlib.import_module("vault.storage.migrations")
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return tuple(Migration(module.number, module.name, module.apply) for module in modules)


def expected(connection: sqlite3.Connection, known: Sequence[Migration]) -> Shape:
    """What the migrations that were applied here make of nothing."""
    applied = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
    refuse_strangers(applied, known)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        empty.execute(MIGRATIONS)
        fresh = sqlite_utils.Database(empty, execute_plugins=False)
        for step in known[: len(applied)]:
            step.apply(fresh)
        return shape(empty)


def shape(connection: sqlite3.Connection) -> Shape:
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


def refuse_strangers(applied: list[tuple[int, str]], known: Sequence[Migration]) -> None:
    if len(applied) > len(known):
        raise Refused(
            "This database was written by a newer afterword; install that version or a later one.",
            code="newer-database",
        )
    for (number, name), step in zip(applied, known, strict=False):
        if (number, name) != (step.number, step.name):
            raise Damaged(f"The database has had another migration {number} than this program knows.")
