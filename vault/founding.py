"""How a server comes to be: out of nothing, or out of a backup.

Rule of this room: only where there is none. Nothing bears the server's name before all of it is whole and on the disk.
"""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vault import age, backups, custodian, soundness
from vault.backups import Copied
from vault.clock import SystemClock
from vault.compose import assemble, require_server
from vault.errors import Conflict, NoSpace, Refused, Untrusted
from vault.keyfile import forget_drafts, read_key, write_key
from vault.settings import Settings
from vault.storage.database import Database, file_of, open_database
from vault.storage.disk import told
from vault.storage.folders import make_folder
from vault.storage.folders import settle as settle_folder
from vault.storage.objects import open_objects
from vault.storage.records import VITAL, Records
from vault.storage.records.switches import Server

log = logging.getLogger("afterword.founding")


def settle(settings: Settings) -> None:
    """Before a part of a server begins that no parent has started: what `found` does for a whole one."""
    require_server(settings)
    database = open_database(settings.database)
    try:
        _settle(database)
        database.migrate()
        database.check(*VITAL)
    finally:
        database.close()


def _settle(database: Database) -> None:
    try:
        database.settle()
    except NoSpace as wrong:
        # Nothing of it is lost, and check-ins find the room that is kept for them.
        log.error("the log stays as it is: %s", wrong)


def found(settings: Settings, label: str = "Afterword server") -> bool:
    """Bring the database up to date, and on a fresh one make the server's keys; true if it was fresh."""
    clock = SystemClock()
    database = open_database(settings.database)
    try:
        _settle(database)
        database.migrate()
        records = Records(database, clock, settings.tick)
        if records.server() is not None:
            database.check(*VITAL)
            forget_drafts(settings.server_key_file)
            return False
        if not settings.server_key_file.exists():
            with told("The server key"):
                write_key(settings.server_key_file, age.Identity(os.urandom(32)))
        key = read_key(settings.server_key_file)
        keyring, card = custodian.found(key, label, clock.wall(), os.urandom)
        with database.transaction():
            if records.server() is None:
                records.found_service(secrets.token_hex(16))
                records.add_server(Server(keyring, card, str(key.recipient), None, 0))
        return True
    finally:
        database.close()


@told("What is restored")
def restore(settings: Settings, source: Path, *, anyway: bool = False) -> tuple[int, Copied]:
    """A server out of a backup (a file, or the newest in a folder), only where there is none yet.

    How many switches begin their ladder anew, and what became of the objects. Interrupted, it can be run again.
    `anyway`: even though objects are lost.
    """
    file = backups.newest(source, SystemClock().wall()) if source.is_dir() else source
    target = file_of(settings.database)
    with _draft(target) as draft:
        # A log without its database would be taken for the new one's, and spoil it.
        for there in (target, *_beside(target)):
            if there.exists():
                raise _lives_there(there)
        key = read_key(settings.server_key_file)
        make_folder(target.parent)
        try:
            backups.open_backup(file, key, draft)
        except Untrusted as wrong:
            raise Refused(
                f"{file.name} does not open ({wrong}) Point AFTERWORD_SERVER_KEY_FILE at the key of the server that "
                "was backed up, or take another backup.",
                code="wrong-server-key",
            ) from None
        begun, back = _come_back(settings, draft, file.parent, anyway=anyway)
        # Only now is there a server under its name. Not over one that was started here meanwhile: what is in its log
        # would be taken for this one's.
        try:
            os.link(draft, target)
        except FileExistsError:
            raise _lives_there(target) from None
        settle_folder(target.parent)
    return begun, back


def _come_back(settings: Settings, draft: Path, folder: Path, *, anyway: bool) -> tuple[int, Copied]:
    """Judge what was in the backup, bring in the objects from its `folder`, and let its new life begin."""
    database = open_database(f"sqlite:///{draft.absolute()}")
    try:
        database.migrate()
        database.check()
        vault = assemble(settings, database, open_objects(settings.objects))
        unsound = tuple(str(each) for each in soundness.flaws(vault.records, vault.custodian))
        if unsound and not anyway:
            raise Refused(
                f"This backup does not keep what its server had promised, in {len(unsound)} places: {unsound[0]}. "
                "Nothing was restored. Take an older backup; if none is sound, --anyway restores what is, and names "
                "the rest.",
                code="unsound",
            )
        back = backups.bring_objects(vault.records, vault.objects, folder, anyway=anyway)
        begun = backups.begin_anew(vault.records, vault.custodian, secrets.token_hex(16))
        if not database.forget():
            raise Conflict("Another process reads what is being restored; try again.", code="busy")
    finally:
        database.close()
    return begun, replace(back, unsound=unsound)


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Where a database is made whole before it gets its name. Nothing of it stays, whatever comes of it."""

    def clear() -> None:
        for left in target.parent.glob(f"{target.name}.restored*"):
            left.unlink(missing_ok=True)

    clear()
    try:
        # Under a name of its own: of two restores at once, neither may give the other's half its name.
        yield target.with_name(f"{target.name}.restored-{secrets.token_hex(4)}")
    finally:
        clear()


def _lives_there(there: Path) -> Refused:
    return Refused(
        f"{there} exists; a backup is restored only where there is no server, and none is started meanwhile. Choose "
        "another folder with --data.",
        code="not-empty",
    )


def _beside(database: Path) -> tuple[Path, ...]:
    """SQLite's log and index."""
    return tuple(database.with_name(database.name + end) for end in ("-wal", "-shm"))
