"""One row of one dossier is damaged, column by column: everybody else's life goes on as if nothing were (S11, S12).

Rule of this room: a damaged switch stands still alone, and everything else goes without what is damaged; nothing is
released early, and nobody takes anybody else with them.
"""

import sqlite3
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.fire import tally
from tests.test_vault.test_notices import opens
from tests.world import Dossier, Snapshot, World, an_armed_dossier, until
from vault import release, statements, views
from vault.clock import DAY, HOUR
from vault.errors import Damaged
from vault.statements import Release, peek
from vault.switch import Stage

TABLES = {
    "switches": "dossier = :dossier",
    "dossiers": "id = :dossier",
    "collaborators": "dossier = :dossier",
    "accounts": "id = :hers",
    "statements": "account = :hers",
    "addresses": "account = :hers",
    "changes": "account = :hers",
}
GARBAGE = ("garbage", b"\xff\xfe", -(2**62), 2.5)


class Lives:
    """Ana's dossier, which is damaged, and Olga's, which is not."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.ana = an_armed_dossier(self.world)
        self.olga = _second(self.world)
        for each in (self.ana, self.olga):
            each.hers.check_in()
        self.hers = self.ana.hers.account.id
        self.ana.hers.order(self.ana.id, statements.Destroy)
        self.world.pass_time(10 * self.world.tick)
        self.start: Snapshot = self.world.snapshot()

    def damage(self, table: str, column: str, value: object, where: str = "") -> bool:
        """False where the server does not even start: a row that points at nothing is found before anything moves."""
        self.world.rewind(self.start)
        self.world.database.close()
        database = sqlite3.connect(self.world.folder / "afterword.db")
        given = {"value": value, "dossier": self.ana.id, "hers": self.hers}
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute(
            f"UPDATE OR IGNORE {table} SET {column} = :value WHERE {where or TABLES[table]}",  # noqa: S608 our own names
            given,
        )
        database.commit()
        database.close()
        try:
            self.world.reopen()
        except Damaged:
            return False
        return True

    def damages(self, table: str, where: str = "") -> Iterator[str]:
        """Each column with each kind of garbage, wherever the server still starts: what was damaged, in words."""
        names = [
            str(row["name"])
            for row in self.world.database.all("SELECT name FROM pragma_table_info(:table)", table=table)
        ]
        for place, (column, value) in enumerate(product(names, GARBAGE)):
            if place % tally.size(3, 1) == 0:
                tally.count("damaged columns")
                if self.damage(table, column, value, where):
                    yield f"{table}.{column} = {value!r}"


def _second(world: World) -> Dossier:
    olga = world.journalist("olga")
    olga.confirm("olga@example.org")
    readers = [olga.colleague(f"friend {number}") for number in range(2)]
    for number, each in enumerate(readers):
        each.confirm(f"f{number}@example.org")
    made = olga.create(readers, 2)
    made.push()
    made.prove()
    made.arm()
    return made


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tmp_path_factory.mktemp("server"))


@pytest.mark.parametrize("table", TABLES)
def test_no_damaged_column_of_one_dossier_holds_up_another(lives: Lives, table: str) -> None:
    world, olga = lives.world, lives.olga
    for told in lives.damages(table):
        world.skip(37 * HOUR)
        world.pass_time(30 * world.tick)
        assert olga.stage is Stage.REMINDED, told
        assert [each.to for each in world.courier.carried].count("olga@example.org") == 1, told
        assert olga.hers.check_in()[1] == [], told
        assert olga.stage is Stage.ARMED, told
        due = world.records.switch(olga.id).switch.due
        assert due is not None
        row = world.database.one("SELECT COUNT(*) AS many FROM releases")
        if row is None or row["many"]:
            tally.wrong("early")
            pytest.fail(f"{told}: something was released after 37 hours")


def test_no_damaged_column_of_a_colleagues_line_keeps_the_others_from_the_warning_the_release_and_the_key(
    lives: Lives,
) -> None:
    world, ana = lives.world, lives.ana
    one, two, _ = ana.readers
    for told in lives.damages("collaborators", "dossier = :dossier AND place = 3"):
        for hour in (37, 13, 25, 95):
            if world.records.release(ana.id) is not None:
                tally.wrong("early")
                pytest.fail(f"{told}: released early")
            world.skip(hour * HOUR)
            world.pass_time(6 * world.tick)
        until(ana, Stage.RELEASED)
        world.pass_time(12 * world.tick)
        row = world.records.release(ana.id)
        assert row is not None
        letters = world.letters()
        for each in ("c1@example.org", "c2@example.org"):
            kinds = [kind for to, kind in letters if to == each]
            if kinds[-3:] != ["reach-her", "reach-her-again", "release"]:
                tally.wrong("forgotten")
                pytest.fail(f"{told}: {each} was told {kinds}")
        assert opens(ana, one, two), told
        assert (
            release.show(world.records, world.custodian, two.account, ana.id).release.encode() == row.envelope
        )


def test_no_damaged_column_of_a_slow_change_holds_up_the_release_or_hides_the_dossier(lives: Lives) -> None:
    world, ana = lives.world, lives.ana
    for told in lives.damages("changes"):
        for each in (ana.hers, ana.readers[0]):
            assert len(views.dossiers(world.records, each.account).dossiers) == 1, told
        until(ana, Stage.RELEASED)
        assert views.dossier(world.records, ana.hers.account, ana.id).changes == (), told


def test_a_switch_that_time_can_never_find_is_named_all_the_same(lives: Lives) -> None:
    """An end that is no number is never reached: in silence, but for this."""
    for value in ("garbage", b"\xff"):
        lives.damage("switches", "due", value)
        lives.world.clock.at += lives.world.tick
        assert lives.world.watch.tick().standing == [lives.ana.id]


@pytest.mark.parametrize("column", ["envelope", "acknowledgement", "hash"])
def test_a_damaged_last_check_in_holds_up_no_release(lives: Lives, column: str) -> None:
    """S12 and `never forgotten` pull apart here: the release goes without the last sign of life, and says so."""
    world, ana = lives.world, lives.ana
    lives.damage("addresses", "created", 1)  # nothing that matters
    row = world.database.one(
        "SELECT hash FROM statements WHERE kind = 'checkin' AND account = :a", a=lives.hers
    )
    assert row is not None
    world.database.close()
    database = sqlite3.connect(world.folder / "afterword.db")
    database.execute("PRAGMA foreign_keys = OFF")
    database.execute(
        f"UPDATE statements SET {column} = ? WHERE hash = ?",  # noqa: S608 our own names
        ("spoilt", row["hash"]),
    )
    database.commit()
    database.close()
    world.reopen()
    until(ana, Stage.RELEASED)
    shown = release.show(world.records, world.custodian, ana.readers[0].account, ana.id)
    signed = peek(shown.release.encode())
    assert isinstance(signed, Release)
    if column in {"envelope", "hash"}:
        assert (signed.checkin, shown.checkin) == (None, None)
        world.pass_time(DAY // 24)
        rows = world.database.all("SELECT facts FROM outbox WHERE kind = 'operator-trouble'")
        assert any(b"does not read" in bytes(each["facts"]) for each in rows)
    world.pass_time(30 * world.tick)
    told = {to for to, kind in world.letters() if kind == "release"}
    assert told >= {"c1@example.org", "c2@example.org", "c3@example.org"}


@pytest.mark.parametrize("column", ["sealed", "confirmed", "tries"])
def test_one_colleagues_damaged_address_costs_nobody_else_the_release(lives: Lives, column: str) -> None:
    world, ana = lives.world, lives.ana
    lives.damage("addresses", "created", 1)
    with world.records.transaction():
        world.database.run(
            f"UPDATE addresses SET {column} = 'spoilt' WHERE account = :a",  # noqa: S608 our own names
            a=ana.readers[0].account.id,
        )
    until(ana, Stage.RELEASED)
    world.pass_time(30 * world.tick)
    assert {"c2@example.org", "c3@example.org"} <= {each.to for each in world.courier.carried}
    rows = world.database.all("SELECT account FROM outbox WHERE kind = 'release' AND state = 'accepted'")
    assert {str(row["account"]) for row in rows} >= {each.account.id for each in ana.readers[1:]}
    said = world.database.all("SELECT facts FROM outbox WHERE kind LIKE 'operator-%'")
    assert any(ana.readers[0].account.id.encode() in bytes(each["facts"]) for each in said)
