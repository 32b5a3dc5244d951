"""What an operator's server does for itself: founded, tidied, backed up, restored, brought up to date.

Rule of this room: every step may be taken twice.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import sqlite_utils

from tests.fire.bases import FLOWS, armed, at, founded, life_sign, lived, the, workflow
from tests.fire.flows_dossiers import objects_of
from tests.fire.stand import Base, Prepared, Said, Server, Step, room, settings_of
from vault import (
    backups,
    compose,
    deposit,
    founding,
    keyfile,
    rounds,
)
from vault.clock import DAY
from vault.errors import AfterwordError, Refused
from vault.storage.migrating import load_migrations
from vault.switch import Stage


@workflow(armed)
def housekeeping(server: Server, base: Base) -> list[Step]:
    made = the(base)
    for each in objects_of(made, 2):
        deposit.receive(
            server.records, server.objects, made.hers.account, made.id, each.name, 0, [each.data], 0
        )
    with server.database.transaction():
        server.database.run("UPDATE service SET lived = lived + :ms, at = at + :ms", ms=31 * DAY)
    server.clock.at += 31 * DAY
    return [Step("tidied", lambda server: rounds._tidy(server.vault)), lived("a while")]


@workflow(armed)
def ballast(server: Server, base: Base) -> list[Step]:
    """Taken with the first beat, given up when the disk is full, taken again when there is room."""
    (server.folder / "ballast").unlink(missing_ok=True)

    def full(server: Server) -> None:
        real = os.statvfs

        def none_left(path: Any) -> os.statvfs_result:  # Any: whatever statvfs takes
            seen = real(path)
            return os.statvfs_result((*seen[:3], 0, 0, *seen[5:]))

        os.statvfs = none_left
        try:
            server.beat()
        finally:
            os.statvfs = real

    return [Step("taken", Server.beat), Step("given up", full), Step("taken again", Server.beat)]


def _opens(server: Server, said: list[Said]) -> list[str]:
    """Every backup that was promised opens, and nothing half-written lies about."""
    wrong = []
    for each in said:
        if each["what"] == "backup":
            target = server.folder.parent / "opened.db"
            try:
                backups.open_backup(
                    server.folder / "backups" / each["file"],
                    keyfile.read_key(server.folder / "server.key"),
                    target,
                )
            except (AfterwordError, OSError) as reason:
                wrong.append(f"the backup {each['file']} does not open: {reason}")
            target.unlink(missing_ok=True)
    return wrong


@workflow(armed, after=_opens)
def backup(server: Server, base: Base) -> list[Step]:
    def act(server: Server) -> None:
        made = backups.back_up(
            server.database, server.records, server.objects, server.custodian, server.folder,
            server.folder / "backups",
        )  # fmt: skip
        server.promises.say("backup", file=made.file.name)

    return [Step("backed up", act)]


def _fresh(
    name: str, live: Callable[[Path], list[Step]], of: Base, **more: Any
) -> Prepared:  # Any: of Prepared
    folder = room() / f"flow-{name}"
    folder.mkdir(mode=0o700)
    steps = live(folder)
    return Prepared(
        name,
        Base(folder, of.server, of.clock, of.made, of.people, of.secrets),
        steps,
        opens=False,
        **more,
    )


@cache
def _found() -> Prepared:
    def live(folder: Path) -> list[Step]:
        def act(server: Server) -> bytes:
            settings = settings_of(server.folder)
            founding.found(settings)
            vault = compose.open_vault(settings)
            vault.records.db.close()
            return vault.custodian.card.envelope

        return [Step("founded", act)]

    return _fresh("found", live, founded())


@cache
def _restore() -> Prepared:
    of = at(Stage.GRACE)
    server = of.server

    def live(folder: Path) -> list[Step]:
        server.take_up(of.folder, of.clock)
        backups.back_up(
            server.database, server.records, server.objects, server.custodian, room(), folder / "backups"
        )
        server.put_down()
        (folder / "server.key").write_bytes((of.folder / "server.key").read_bytes())

        def act(server: Server) -> None:
            try:
                founding.restore(settings_of(server.folder), server.folder / "backups")
            except Refused as refused:
                if refused.code != "not-empty":
                    raise

        return [Step("restored", act)]

    return _fresh("restore", live, of, known=of.folder / "afterword.db")


@cache
def _migration() -> Prepared:
    """The database of a server from before the second migration, with people and an armed switch in it."""
    base = armed()
    folder = room() / "flow-migration"
    shutil.copytree(base.folder, folder)
    older(folder / "afterword.db")
    base.server.take_up(base.folder, base.clock)
    step = life_sign(the(base).hers)
    base.server.put_down()
    return Prepared(
        "migration",
        Base(folder, base.server, base.clock, base.made, base.people, base.secrets),
        [step],
    )


def older(path: Path) -> None:
    """Take a database back to the first shape, rows and all."""
    newer = path.with_name("newer.db")
    path.rename(newer)
    first = load_migrations()[0]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        first.apply(sqlite_utils.Database(db, execute_plugins=False))
        db.execute("INSERT INTO migrations VALUES (?, ?)", (first.number, first.name))
        db.execute("ATTACH ? AS newer", (str(newer),))
        tables = [
            row[0]
            for row in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
            if row[0] != "migrations"
        ]
        for table in tables:
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")  # noqa: S608 our own names
        db.execute("DETACH newer")
    newer.unlink()
    path.chmod(0o600)


FLOWS.update({"found": _found, "restore": _restore, "migration": _migration})
