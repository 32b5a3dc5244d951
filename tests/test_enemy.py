"""What an enemy tried, across rooms: each of these was possible once, or nearly.

Rule of this room: one sentence for one attack; whatever only needs the engine is told on a clock that is turned.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask

from tests.world import TICK, World, an_armed_dossier
from vault import (
    accounts,
    backups,
    compose,
    deposit,
    dossiers,
    founding,
    keyfile,
    ledger,
    outbox,
    release,
    rounds,
    statements,
    wire,
)
from vault.clock import DAY, HOUR, SECOND
from vault.couriers import Accepted, MemoryCourier, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.couriers.probe import Door
from vault.errors import Damaged, Malformed, Refused
from vault.letters import Facts, LetterKind
from vault.plans import Plan
from vault.settings import Settings, read_settings
from vault.switch import Stage
from web import create_app


def settings_in(folder: Path) -> Settings:
    return read_settings({}, data=folder, url="https://vault.example", short=True)


class DoorTo(Door):
    """A public door behind which one application stands."""

    def __init__(self, app: Flask) -> None:
        super().__init__("http://door.invalid")
        self._client = app.test_client()

    def health(self, mark: str | None = None) -> wire.Health | None:
        headers = {} if mark is None else {wire.MARK: mark}
        return wire.read(self._client.get("/api/v1/health", headers=headers).data, wire.Health)


@pytest.fixture
def original(tmp_path: Path) -> Iterator[compose.Vault]:
    settings = settings_in(tmp_path / "original")
    founding.found(settings)
    vault = compose.open_vault(settings)
    yield vault
    vault.records.db.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world", short=True)
    yield world
    world.close()


# Too early


def test_no_time_counts_in_a_copy_of_a_server_while_people_reach_the_original(
    original: compose.Vault, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy = compose.open_vault(settings_in(tmp_path / "copy"))
    door = DoorTo(create_app(original))
    assert rounds.knock(original, door)
    assert not rounds.knock(copy, door)
    copy.records.db.close()


def test_nobody_with_her_keys_for_a_minute_can_make_her_last_statement_for_her(world: World) -> None:
    made = an_armed_dossier(world)
    thief = made.hers
    with pytest.raises(Refused, match="too far"):
        thief.check_in(thief.checkin_request(seq=2**53 - 1))
    made.hers.check_in()


# Without bound


def rows(world: World, table: str) -> int:
    found = world.database.one(f"SELECT COUNT(*) AS many FROM {table}")  # noqa: S608
    assert found is not None
    return int(found["many"])


def test_a_colleague_who_proves_all_day_long_leaves_no_more_than_one_who_proves_once(world: World) -> None:
    made = an_armed_dossier(world)
    kept, hers = rows(world, "statements"), made.hers.account.number
    for _ in range(20):
        made.prove(made.readers[0])
    assert (rows(world, "statements"), made.hers.account.number) == (kept, hers)


def test_a_chain_that_grows_like_no_persons_grows_once_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = an_armed_dossier(world)
    monkeypatch.setattr(ledger, "UNHURRIED", 1)
    made.hers.check_in()
    with pytest.raises(Refused, match="a second") as refused:
        made.hers.check_in()
    assert refused.value.code == "too-many"
    world.pass_time(SECOND)
    # What a colleague adds to her chain in this second costs her nothing.
    made.prove(made.readers[0])
    made.hers.check_in()


def test_nobody_can_have_this_server_write_to_strangers_all_day_long(world: World) -> None:
    somebody = world.journalist().colleague("somebody")

    def write_to(victim: str) -> None:
        request = wire.AddressRequest(victim, "en", "Hello", "hello")
        added = accounts.add_address(world.records, world.custodian, somebody.account, request)
        accounts.remove_address(world.records, world.custodian, somebody.account, added.id)

    for number in range(accounts.MOST_CODES):
        write_to(f"victim{number}@example.org")
    with pytest.raises(Refused, match="tomorrow"):
        write_to("one-more@example.org")
    world.skip(DAY + SECOND)
    write_to("one-more@example.org")


def test_codes_that_nobody_can_use_any_more_are_not_kept(world: World) -> None:
    world.journalist().confirm("ana@example.org")
    world.skip(accounts.CODE_LIVES + SECOND)
    accounts.forget_expired(world.records)
    assert rows(world, "outbox") == 0


def test_an_account_has_no_more_sessions_than_a_person_has_computers(world: World) -> None:
    ana = world.journalist()
    for _ in range(accounts.MOST_SESSIONS + 10):
        login = statements.Login(world.custodian.hash, ana.card.verify_key.hex, ana.nonce(), 1)
        granted = accounts.sign_in(world.records, world.custodian, wire.SessionRequest(ana.sign(login)))
        world.clock.at += 1
    assert rows(world, "sessions") == accounts.MOST_SESSIONS
    assert accounts.session(world.records, granted.token).id == ana.account.id


@pytest.mark.parametrize("door", ["accounts", "invites", "addresses", "dossiers"])
def test_what_can_wait_leaves_the_last_of_a_disk_to_check_ins(original: compose.Vault, door: str) -> None:
    full = compose.Vault(
        replace(original.settings, low_water=1 << 60), original.records, original.objects, original.custodian
    )
    client = create_app(full).test_client()
    answer = client.post(f"/api/v1/{door}", json={})
    assert wire.read(answer.data, wire.Problem).code == "no-space"
    assert client.post("/api/v1/nonces").status_code == 200
    assert wire.read(client.post("/api/v1/check-ins", json={}).data, wire.Problem).code == "malformed"


def test_an_order_that_can_wait_leaves_the_room_that_uploads_leave(world: World) -> None:
    made = an_armed_dossier(world)
    settings = read_settings({"AFTERWORD_LOW_WATER": str(1 << 60)}, data=world.folder)
    client = create_app(compose.Vault(settings, world.records, world.objects, world.custodian)).test_client()
    login = statements.Login(world.custodian.hash, made.hers.card.verify_key.hex, made.hers.nonce(), 1)
    granted = client.post("/api/v1/sessions", json={"login": made.hers.sign(login)})
    token = wire.read(granted.data, wire.SessionGrant).token
    here: dict[str, Any] = {"server": world.custodian.hash, "dossier": made.id, "created": world.clock.wall()}

    def code_of(statement: statements.Statement) -> str | None:
        answer = client.post(
            f"/api/v1/dossiers/{made.id}/statements",
            json={"statement": made.hers.sign(statement), "sealed": []},
            headers={"Authorization": f"Bearer {token}"},
        )
        return None if answer.status_code == 200 else wire.read(answer.data, wire.Problem).code

    seq = made.hers.account.seq
    assert code_of(statements.Destroy(seq=seq + 1, **here)) == "no-space"
    assert code_of(statements.Pause(seq=seq + 1, nonce=made.hers.nonce(), length=HOUR, **here)) is None


# Quick under a gun


def test_a_restored_server_does_not_destroy_what_she_has_saved_since_the_backup(world: World) -> None:
    made = an_armed_dossier(world, cooling=100 * TICK)
    made.hers.order(made.id, statements.Destroy)
    world.pass_time(90 * TICK)
    backup = world.snapshot()
    (change,) = world.records.changes_of_dossier(made.id)
    made.hers.order(made.id, statements.Cancel, change=change.hash)
    world.rewind(backup)
    backups.begin_anew(world.records, world.custodian, "5e" * 16)
    told = len(world.letters())
    world.pass_time(90 * TICK)
    assert world.stage(made.id) is Stage.ARMED
    assert {kind for _, kind in world.letters()[told:]} >= {"change-asked"}
    world.pass_time(20 * TICK)
    assert world.stage(made.id) is Stage.DESTROYED


# Never


def test_a_key_that_was_made_is_not_made_again_by_an_attempt_that_was_killed(tmp_path: Path) -> None:
    key = tmp_path / "server.key"
    keyfile.make_key(key)
    kept = key.read_bytes()
    # Killed between giving the key its name and taking its draft's away.
    (tmp_path / "server.key.new").hardlink_to(key)
    with pytest.raises(Refused):
        keyfile.make_key(key)
    assert key.read_bytes() == kept


def test_no_second_name_of_a_key_outlives_a_start(original: compose.Vault, tmp_path: Path) -> None:
    folder = tmp_path / "original"
    (folder / "server.key.new-5f").hardlink_to(folder / "server.key")
    assert not founding.found(settings_in(folder))
    assert [path.name for path in folder.glob("server.key*")] == ["server.key"]


# In the wrong hands


def test_a_backup_that_was_killed_leaves_nothing_after_the_next(world: World, tmp_path: Path) -> None:
    left = world.folder / "backup-1.db"
    left.write_bytes(b"a share that was replaced since")
    (world.folder / "backup-2.db.partial").write_bytes(b"another")
    backups.back_up(
        world.database, world.records, world.objects, world.custodian, world.folder, tmp_path / "copies"
    )
    assert [path.name for path in world.folder.glob("backup-*")] == []


# Letters


def test_a_thousand_letters_of_one_journalist_do_not_stand_before_the_one_of_another(world: World) -> None:
    world.delivering = False
    many = an_armed_dossier(world)
    one = an_armed_dossier(world)
    with world.records.transaction() as now:
        for _ in range(1_000):
            outbox.post(
                world.records,
                world.custodian,
                now,
                LetterKind.TEST,
                many.hers.account.id,
                Facts(),
                dossier=many.id,
            )
    world.clock.at += TICK
    with world.records.transaction() as now:
        outbox.post(
            world.records,
            world.custodian,
            now,
            LetterKind.TEST,
            one.readers[0].account.id,
            Facts(),
            dossier=one.id,
        )
    assert one.id in {letter.dossier for letter in outbox.claim(world.records, 2)}


def test_slow_mail_holds_up_what_was_claimed_and_not_what_was_posted_since(
    world: World, original: compose.Vault
) -> None:
    made = an_armed_dossier(world)
    world.beat()
    with world.records.transaction() as now:
        for _ in range(10):
            outbox.post(
                world.records,
                world.custodian,
                now,
                LetterKind.TEST,
                made.hers.account.id,
                Facts(),
                dossier=made.id,
            )

    def slowly(parcel: Parcel) -> Outcome:
        world.clock.at += 20 * SECOND
        return TemporaryFailure("it took too long")

    vault = compose.Vault(original.settings, world.records, world.objects, world.custodian)
    asked: list[Parcel] = []
    courier = MemoryCourier(lambda parcel: (asked.append(parcel), slowly(parcel))[1])
    rounds.deliver_some(vault, courier, world.sender)
    assert len(asked) == 2
    assert len(outbox.claim(world.records, 100)) >= 8  # the two that failed may be due again


def test_nobody_drowns_a_colleague_in_rosters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = an_armed_dossier(world, readers=3)
    monkeypatch.setattr(dossiers, "MOST_LINES", 7)
    second = made.hers.create(made.readers, 2)
    with pytest.raises(Refused, match="together"):
        made.hers.create(made.readers[:2], 1)
    made.hers.create(made.readers[:1], 1)
    # Lines that a change replaces are not counted twice.
    change, corrections, _ = second.next_roster(made.readers[:2], 1)
    dossiers.change_roster(
        world.records,
        world.custodian,
        made.hers.account,
        second.id,
        msgspec.structs.replace(change, corrections=corrections.corrections),
    )


@pytest.mark.parametrize("row", ["accounts SET card", "dossiers SET title", "dossiers SET deal"])
def test_no_row_of_hers_that_does_not_read_keeps_a_release_from_being_told(world: World, row: str) -> None:
    made = an_armed_dossier(world, Plan(*[10 * TICK] * 4))
    with world.database.transaction():
        id = made.id if row.startswith("dossiers") else made.hers.account.id
        world.database.run(f"UPDATE {row} = x'00' WHERE id = :id", id=id)
    world.pass_time(60 * TICK)
    assert {to for to, kind in world.letters() if kind == "release"} == {
        f"c{n}@example.org" for n in (1, 2, 3)
    }


def test_an_index_that_lost_a_line_stops_the_watch_instead_of_hiding_a_switch(
    world: World, original: compose.Vault
) -> None:
    made = an_armed_dossier(world, Plan(*[10 * TICK] * 4))
    assert world.database.forget()
    place = world.database.one("SELECT rootpage FROM sqlite_master WHERE name = 'switches_due'")
    due = world.records.switch(made.id).switch.due
    assert place is not None
    assert due is not None
    world.database.close()
    file = world.folder / "afterword.db"
    page = bytearray(file.read_bytes())
    start = (int(place["rootpage"]) - 1) * 4096
    # The instant in the index, as SQLite writes whole numbers: put off for ever.
    size = next(each for each in (1, 2, 3, 4, 6, 8) if due < 1 << (8 * each - 1))
    at = page.rindex(due.to_bytes(size, "big"), start, start + 4096)
    page[at : at + size] = b"\x7f" + b"\xff" * (size - 1)
    file.write_bytes(page)
    world.reopen()
    world.pass_time(100 * TICK)
    assert made.stage is Stage.ARMED  # and nobody would ever hear of it
    vault = compose.Vault(
        replace(original.settings, low_water=0), world.records, world.objects, world.custodian
    )
    with pytest.raises(Damaged):
        rounds.examiner(vault)()


def test_no_chain_of_rosters_grows_beyond_what_its_readers_can_take(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = world.journalist()
    made = ana.create([ana.colleague("ben"), ana.colleague("cem")], 2)
    change, corrections, _ = made.next_roster(made.readers, 2)
    request = msgspec.structs.replace(change, corrections=corrections.corrections)
    monkeypatch.setattr(dossiers, "LONGEST_CHAIN", len(change.roster) + 1)
    with pytest.raises(Refused, match="as often as it can be"):
        dossiers.change_roster(world.records, world.custodian, ana.account, made.id, request)


def test_nothing_is_kept_in_the_place_of_a_share_that_is_longer_than_a_share(world: World) -> None:
    ana = world.journalist()
    made = ana.create([ana.colleague("ben"), ana.colleague("cem")], 2)
    change, corrections, _ = made.next_roster(made.readers, 2)
    long = wire.write_blob(bytes(release.LARGEST_SEALED + 1))
    for request in (
        msgspec.structs.replace(change, deal=long, corrections=corrections.corrections),
        msgspec.structs.replace(change, shares=(long, long), corrections=corrections.corrections),
    ):
        with pytest.raises(Malformed, match="longer than any share"):
            dossiers.change_roster(world.records, world.custodian, ana.account, made.id, request)


def test_a_head_is_no_longer_than_its_readers_can_take_a_hundred_of(world: World) -> None:
    made = an_armed_dossier(world)
    row = world.records.dossier(made.id)
    assert row is not None
    root = "A" * (deposit.LONGEST_ROOT + 4)
    head = statements.Head(made.id, row.bundles + 1, row.head, ("00" * 32, "11" * 32), root, None, 1)
    with pytest.raises(Refused, match="longer than any root"):
        deposit.commit(
            world.records, world.custodian, made.hers.account, made.id, wire.Submission(made.hers.sign(head))
        )


def test_nothing_cools_unseen_while_no_letter_can_be_handed_over(world: World) -> None:
    made = an_armed_dossier(world, Plan(*[10_000 * TICK] * 4), cooling=100 * TICK)
    world.courier.answer = lambda parcel: TemporaryFailure("the mail server is down")
    made.hers.order(made.id, statements.Destroy)
    world.pass_time(150 * TICK)
    assert made.stage is Stage.ARMED
    world.courier.answer = lambda parcel: (
        Accepted() if parcel.to == "ana@example.org" else TemporaryFailure("still down")
    )
    world.pass_time(30 * TICK)
    assert made.stage is Stage.ARMED
    world.courier.answer = None
    world.pass_time(20 * TICK)
    assert made.stage is Stage.DESTROYED


def test_mail_that_never_works_holds_a_slow_change_for_as_long_again_and_no_longer(world: World) -> None:
    made = an_armed_dossier(world, Plan(*[10_000 * TICK] * 4), cooling=100 * TICK)
    world.courier.answer = lambda parcel: PermanentFailure("no such mailbox")
    made.hers.order(made.id, statements.Destroy)
    world.pass_time(195 * TICK)
    assert made.stage is Stage.ARMED
    world.pass_time(15 * TICK)
    assert made.stage is Stage.DESTROYED
