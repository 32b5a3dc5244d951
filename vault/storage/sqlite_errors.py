"""What SQLite says when it does not work, in our words.

Rule of this room: what the disk refused is told apart from what is damaged, and neither quotes what a row holds.
"""

import sqlite3
from pathlib import Path
from typing import Final

from vault.errors import AfterwordError, BadUsage, Conflict, Damaged, NoSpace
from vault.storage.disk import FULL, SCARCE, Disk, scarce

# A sector that does not read is damage; whatever else fails is a write, or stands before one.
_READING: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
    }
)


def translation(
    wrong: sqlite3.Error, refused: int | None, disk: Disk, served: bool, usable: bool
) -> AfterwordError | None:
    """What an error of SQLite is in our words. `refused`: the system's last error number; `served`: whether this
    database had been opened, so that what cannot be written now could be before; `usable`: whether its file is
    there and ours."""
    number = getattr(wrong, "sqlite_errorcode", None)
    name = getattr(wrong, "sqlite_errorname", "")
    match kind(wrong):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Conflict("Another process is writing to the database; try again.", code="busy")
        case sqlite3.SQLITE_FULL:
            return full()
        case sqlite3.SQLITE_NOMEM:
            return scarce()
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return unreadable(name)
        case sqlite3.SQLITE_IOERR if number in _READING:
            return disk.refusal(refused, full()) if refused in SCARCE else unreadable(name)
        case sqlite3.SQLITE_IOERR:
            return (disk.refusal(refused, full()) if refused in FULL | SCARCE else None) or disk.fail()
        case sqlite3.SQLITE_CANTOPEN if (refusal := disk.refusal(refused, full())) is not None:
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
        case sqlite3.SQLITE_ERROR if "foreign key mismatch" in str(wrong):
            # Said of tables, not of a statement: what stands in the file about them is not what we wrote there.
            return unreadable(name)
        case None if "decode to UTF-8" in str(wrong):
            return no_text()
    return None


def kind(wrong: sqlite3.Error) -> int | None:
    number = getattr(wrong, "sqlite_errorcode", None)
    return None if number is None else number & 0xFF


def full() -> NoSpace:
    return NoSpace("The disk that holds the database is full; free some space.")


def unreadable(name: str) -> Damaged:
    return Damaged(f"The database does not read ({name}); stop and restore a backup.")


def unusable(path: Path, reason: str | None) -> BadUsage:
    return BadUsage(f"The database at {path} cannot be made or opened ({reason}).", code="bad-setting")


def no_text() -> Damaged:
    return Damaged("The database holds text that is none; stop and restore a backup.")
