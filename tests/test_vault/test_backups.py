"""Copies of a server, and coming back from one.  Spec: docs/spec/backup-v1.md."""

import contextlib
import io
import os
from pathlib import Path

import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, until
from vault import accounts, age, backups, deposit, keeping, statements, wire
from vault.backups import Copied
from vault.clock import DAY, HOUR, MINUTE
from vault.errors import (
    AfterwordError,
    Conflict,
    Damaged,
    DiskFailed,
    Malformed,
    NoSpace,
    NotFound,
    Refused,
    Unauthenticated,
    Untrusted,
)
from vault.plans import DEFAULT_PLAN
from vault.statements import Login
from vault.storage.records import Records
from vault.storage.sqlite import SqliteDatabase
from vault.stream import OBJECT_SIZE, SLICE_SIZE, seal_object
from vault.switch import Stage

VECTORS = sorted((Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "backup").glob("*.txt"))


def fields(path: Path) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_backup_is_read_or_refused_as_its_vector_says(path: Path, tmp_path: Path) -> None:
    told = fields(path)
    file, target = tmp_path / "given", tmp_path / "database"
    file.write_bytes(bytes.fromhex(told.get("backup", "")))
    refusal = {"malformed": Malformed, "untrusted": Untrusted}.get(told["expect"])
    with pytest.raises(refusal) if refusal else contextlib.nullcontext():
        backups.open_backup(file, age.Identity.read(told["key"]), target)
    if refusal is None:
        assert target.read_bytes() == bytes.fromhex(told.get("database", ""))
    else:
        assert list(tmp_path.iterdir()) == [file], "something half-written was left"


def test_most_vectors_fail() -> None:
    expected = [fields(path)["expect"] for path in VECTORS]
    assert expected.count("ok") < len(expected) / 4


@pytest.mark.parametrize(
    "size", [0, 1, backups.BLOCK - 1, backups.BLOCK, backups.BLOCK + 1, 2 * backups.BLOCK]
)
def test_a_database_of_any_length_comes_back_byte_for_byte(size: int) -> None:
    key = age.Identity(os.urandom(32))
    database = os.urandom(size)
    written = io.BytesIO()
    backups._write_blocks(
        io.BytesIO(database), written, lambda plain: age.seal(plain, key.recipient, os.urandom)
    )
    assert b"".join(backups._read_blocks(io.BytesIO(written.getvalue()), key)) == database


def back_up(world: World, folder: Path, reserve: int = 0) -> Copied:
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return backups.back_up(
        world.database, world.records, world.objects, world.custodian, scratch, folder, reserve=reserve
    )


def come_back(world: World, made: Copied, folder: Path) -> int:
    """Put this world on its own backup, as `founding.restore` does, with an empty store of objects."""
    backups.open_backup(made.file, world.key, folder / "restored.db")
    world.database.close()
    world.database = SqliteDatabase(folder / "restored.db")
    world.database.check()
    world.records = Records(world.database, world.clock, world.tick)
    world.objects = type(world.objects)()
    backups.bring_objects(world.records, world.objects, made.file.parent)
    begun = backups.begin_anew(world.records, world.custodian, "5e" * 16)
    world.watch = type(world.watch)(world.records, world.custodian)
    return begun


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "server").mkdir()
    return World(tmp_path / "server")


@pytest.fixture
def armed(world: World) -> Dossier:
    return an_armed_dossier(world)


def test_a_backup_shows_nothing_without_the_key(world: World, armed: Dossier, tmp_path: Path) -> None:
    made = back_up(world, tmp_path / "copies")
    whole = made.file.read_bytes()
    backups.open_backup(made.file, world.key, tmp_path / "with the key")
    inside = (tmp_path / "with the key").read_bytes()
    # Words too long to come up by chance in what is sealed.
    for word in (b"SQLite format 3", b"collaborator", b"CREATE TABLE", armed.id.encode()):
        assert word in inside
        assert word not in whole
    with pytest.raises(Untrusted):
        backups.open_backup(made.file, age.Identity(os.urandom(32)), tmp_path / "opened")
    assert not (tmp_path / "opened").exists()


def test_what_is_not_sealed_yet_never_touches_the_folder_and_does_not_stay(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    made = back_up(world, tmp_path / "copies")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {made.file.name, "objects"}
    assert made.file.stat().st_mode & 0o777 == 0o600


def test_only_objects_that_the_folder_lacks_are_copied(world: World, armed: Dossier, tmp_path: Path) -> None:
    first = back_up(world, tmp_path / "copies")
    armed.push(3)
    world.clock.at += 1
    second = back_up(world, tmp_path / "copies")
    assert (first.copied, first.objects, second.copied, second.objects) == (2, 2, 3, 5)
    assert all(path.stat().st_size == OBJECT_SIZE for path in (tmp_path / "copies/objects").rglob("?" * 64))


def test_an_object_that_rotted_is_not_passed_on_as_a_copy(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    place = next(iter(world.objects._stored))
    world.objects._stored[place] = bytes(OBJECT_SIZE)
    with pytest.raises(Damaged):
        back_up(world, tmp_path / "copies")
    assert not (tmp_path / "copies/objects" / armed.id / place[1]).exists()


def test_one_object_that_is_gone_costs_the_backup_no_other(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    names = armed.push(3)
    world.objects.delete(f"{armed.id}/{names[0]}")
    with pytest.raises(Damaged, match=names[0]):
        back_up(world, tmp_path / "copies")
    assert len(list((tmp_path / "copies/objects").rglob("?" * 64))) == 4
    assert len(list((tmp_path / "copies").glob("*.backup"))) == 1


@pytest.mark.parametrize("stage", [Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE])
def test_a_restored_switch_has_a_whole_ladder_before_it(
    world: World, armed: Dossier, tmp_path: Path, stage: Stage
) -> None:
    while armed.stage is not stage:
        world.skip(HOUR)
    made = back_up(world, tmp_path / "copies")
    assert come_back(world, made, tmp_path) == 1
    assert armed.stage is Stage.ARMED
    seen = world.records.switch(armed.id).switch
    row = world.records.service()
    assert row is not None
    assert seen.due is not None
    assert seen.due - row.served >= DEFAULT_PLAN.every


def test_a_restore_says_nothing_to_colleagues(world: World, armed: Dossier, tmp_path: Path) -> None:
    while armed.stage is not Stage.WARNED:
        world.skip(HOUR)
    made = back_up(world, tmp_path / "copies")
    said = world.letters()
    come_back(world, made, tmp_path)
    world.deliver()
    assert world.letters() == said


def test_what_was_released_stays_released(world: World, armed: Dossier, tmp_path: Path) -> None:
    while armed.stage is not Stage.RELEASED:
        world.skip(2 * HOUR)
    made = back_up(world, tmp_path / "copies")
    assert come_back(world, made, tmp_path) == 0
    assert armed.stage is Stage.RELEASED
    assert world.records.release(armed.id) is not None


def test_a_paused_dossier_stays_paused(world: World, armed: Dossier, tmp_path: Path) -> None:
    armed.hers.order(armed.id, statements.Pause, length=48 * HOUR)
    assert come_back(world, back_up(world, tmp_path / "copies"), tmp_path) == 0
    assert armed.stage is Stage.PAUSED


def test_a_switch_that_does_not_read_keeps_no_other_from_its_fresh_ladder(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    other = armed.hers.create(armed.readers, 2)
    armed.hers.order(other.id, statements.Arm, epoch=1, anyway=True)
    with world.database.transaction():
        world.database.run("UPDATE switches SET due = entered WHERE dossier = :d", d=armed.id)
    while other.stage is not Stage.REMINDED:
        world.skip(HOUR)
    come_back(world, back_up(world, tmp_path / "copies"), tmp_path)
    assert other.stage is Stage.ARMED
    with pytest.raises(Damaged):
        world.records.switch(armed.id)


DAMAGE = {
    "a history that is none": "UPDATE accounts SET history = 'p' || substr(history, 2) WHERE id = :a",
    "a history that goes on": "UPDATE accounts SET number = number - 1 WHERE id = :a",
    "an account that does not read": "UPDATE accounts SET created = 'x' WHERE id = :a",
    "a change of no kind": "UPDATE changes SET kind = 'eestroy' WHERE account = :a",
    "a dossier that does not read": "UPDATE dossiers SET epoch = 'x' WHERE journalist = :a",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_no_damaged_row_of_one_journalist_keeps_another_from_the_fresh_ladder(
    world: World, armed: Dossier, what: str
) -> None:
    other = an_armed_dossier(world)
    armed.hers.order(armed.id, statements.Destroy)
    other.hers.order(other.id, statements.Destroy)
    until(other, Stage.WARNED)
    with world.database.transaction():
        world.database.run(DAMAGE[what], a=armed.hers.account.id)
    backups.begin_anew(world.records, world.custodian, "ab" * 16)
    assert other.stage is Stage.ARMED
    asked = world.letters().count(("c1@example.org", "change-asked"))
    world.pass_time(MINUTE)
    assert world.letters().count(("c1@example.org", "change-asked")) > asked


@pytest.mark.parametrize(
    "passing", [NoSpace("full"), Conflict("busy", code="busy"), DiskFailed("gone")], ids=lambda e: e.code
)
def test_what_passes_is_not_taken_for_damage_and_the_restore_can_be_run_again(
    world: World, armed: Dossier, monkeypatch: pytest.MonkeyPatch, passing: AfterwordError
) -> None:
    life = world.records.service()

    def refuse(*given: object) -> None:
        raise passing

    monkeypatch.setattr(world.records, "save_switch", refuse)
    with pytest.raises(type(passing)):
        backups.begin_anew(world.records, world.custodian, "ab" * 16)
    now = world.records.service()
    assert life is not None
    assert now is not None
    assert now.life == life.life


def test_every_object_comes_back_and_is_what_it_was(world: World, armed: Dossier, tmp_path: Path) -> None:
    names = armed.push(2)
    before = b"".join(world.objects.read(f"{armed.id}/{names[1]}"))
    come_back(world, back_up(world, tmp_path / "copies"), tmp_path)
    assert b"".join(world.objects.read(f"{armed.id}/{names[1]}")) == before


@pytest.mark.parametrize("fault", ["missing", "short", "altered"])
def test_a_backup_that_lacks_an_object_is_not_taken_for_whole_and_gives_the_others(
    world: World, armed: Dossier, tmp_path: Path, fault: str
) -> None:
    names = armed.push(3)
    made = back_up(world, tmp_path / "copies")
    copy = tmp_path / "copies/objects" / armed.id / names[1]
    whole = copy.read_bytes()
    match fault:
        case "missing":
            copy.unlink()
        case "short":
            copy.write_bytes(whole[:-1])
        case "altered":
            copy.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    world.objects = type(world.objects)()
    with pytest.raises(Refused) as refused:
        backups.bring_objects(world.records, world.objects, made.file.parent)
    assert refused.value.code == "incomplete"
    assert sum(1 for _ in world.objects.names(armed.id)) == 4
    assert list(world.objects.unfinished(armed.id)) == []
    copy.write_bytes(whole)
    assert backups.bring_objects(world.records, world.objects, made.file.parent).copied == 1


def test_a_lost_object_is_given_up_only_on_request_and_then_asked_for_again(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    names = armed.push(3)
    made = back_up(world, tmp_path / "copies")
    (tmp_path / "copies/objects" / armed.id / names[1]).unlink()
    world.objects = type(world.objects)()
    used = armed.hers.account.used
    back = backups.bring_objects(world.records, world.objects, made.file.parent, anyway=True)
    assert back.lost == (f"{armed.id}/{names[1]}",)
    assert back.copied == back.objects - 1 == 4
    assert armed.hers.account.used == used - OBJECT_SIZE
    asked = deposit.missing(world.records, armed.hers.account, armed.id, tuple(names))
    assert asked.missing == (names[1],)
    head = deposit.heads(world.records, armed.hers.account, armed.id, 1).heads[0]
    assert statements.read(head.encode(), armed.hers.card.verify_key, statements.Head).objects == tuple(names)
    assert backups.bring_objects(world.records, world.objects, made.file.parent).lost == ()


def test_no_head_can_name_an_object_that_was_adrift_when_the_backup_was_made(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    ana = armed.hers
    drifting = seal_object(bytes(SLICE_SIZE), armed.key.recipient, os.urandom)
    deposit.receive(world.records, world.objects, ana.account, armed.id, drifting.name, 0, [drifting.data], 0)
    used = ana.account.used
    come_back(world, back_up(world, tmp_path / "copies"), tmp_path)
    assert ana.account.used == used - OBJECT_SIZE
    assert deposit.missing(world.records, ana.account, armed.id, (drifting.name,)).missing == (drifting.name,)


def test_no_session_and_no_nonce_of_the_life_before_is_taken(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    ana = armed.hers
    grant = accounts.sign_in(world.records, world.custodian, wire.SessionRequest(a_login(ana)))
    assert accounts.session(world.records, grant.token).id == ana.account.id
    unspent = a_login(ana)
    come_back(world, back_up(world, tmp_path / "copies"), tmp_path)
    with pytest.raises(Unauthenticated):
        accounts.session(world.records, grant.token)
    with pytest.raises(Refused) as refused:
        accounts.sign_in(world.records, world.custodian, wire.SessionRequest(unspent))
    assert refused.value.code == "stale-nonce"


def a_login(person: Person) -> str:
    verify = person.card.verify_key.hex
    return person.sign(Login(person.world.custodian.hash, verify, person.nonce(), person.world.clock.wall()))


def test_a_check_in_after_the_backup_is_remembered_by_her_and_then_by_the_server(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    ana = armed.hers
    made = back_up(world, tmp_path / "copies")
    for _ in range(3):
        last, _ = ana.check_in()
    number = ana.account.seq
    come_back(world, made, tmp_path)
    assert ana.account.seq < number
    ana.check_in(ana.checkin_request(seq=number + 1, last=last.decode()))
    assert ana.account.seq == number + 1
    assert ana.account.marked
    assert keeping.glance(world.records, world.objects).marked == (ana.account.id,)


def test_service_time_goes_on_from_the_copy_and_is_taken_from_nobody(
    world: World, armed: Dossier, tmp_path: Path
) -> None:
    world.skip(DAY)
    made = back_up(world, tmp_path / "copies")
    before = keeping.glance(world.records, world.objects)
    world.skip(30 * HOUR)
    come_back(world, made, tmp_path)
    after = keeping.glance(world.records, world.objects)
    assert after.life == "5e" * 16 != before.life
    assert before.served <= after.served <= before.served + 2 * world.tick


def test_a_backup_removes_what_a_killed_one_left_half_written(world: World, tmp_path: Path) -> None:
    (tmp_path / "afterword-1.backup.part").write_bytes(b"half of it")
    (tmp_path / "afterword-1.backup").write_bytes(b"an older one")
    made = back_up(world, tmp_path)
    assert {path.name for path in tmp_path.glob("afterword-*")} == {"afterword-1.backup", made.file.name}


def test_the_newest_of_a_folder_is_the_one_with_the_highest_number_and_not_the_last_of_the_alphabet(
    tmp_path: Path,
) -> None:
    """A clock that was lost, and stood in 2001, wrote a digit less."""
    names = ["afterword-1700000000000.backup", "afterword-999000000000.backup", "by hand.backup"]
    for name in [*names, "afterword-1800000000000.backup.part"]:
        (tmp_path / name).write_bytes(b"")
    assert backups.newest(tmp_path, 1_750_000_000_000).name == "afterword-1700000000000.backup"


def test_a_backup_of_a_day_to_come_is_never_taken_for_the_newest(tmp_path: Path) -> None:
    for number in (1_700_000_000_000, 4_000_000_000_000):
        (tmp_path / f"afterword-{number}.backup").write_bytes(b"")
    with pytest.raises(Refused, match=r"4000000000000\.backup is of a day to come") as refusal:
        backups.newest(tmp_path, 1_750_000_000_000)
    assert refusal.value.code == "unclear-newest"


def test_a_backup_that_was_renamed_is_restored_only_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "by hand.backup").write_bytes(b"")
    assert backups.begun_at(tmp_path / "by hand.backup") is None
    with pytest.raises(NotFound, match="by giving the file itself"):
        backups.newest(tmp_path, 1_750_000_000_000)


def test_a_copy_that_landed_one_level_too_deep_is_pointed_at_and_not_taken(tmp_path: Path) -> None:
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "afterword-1700000000000.backup").write_bytes(b"")
    with pytest.raises(NotFound, match="there is one in its folder copied") as refusal:
        backups.newest(tmp_path, 1_750_000_000_000)
    assert refusal.value.code == "no-backup"


MIB = 1 << 20


def short_of_room(world: World, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """From now on so much is free above what the database and its log take, wherever one looks."""
    monkeypatch.setattr(backups, "_free", lambda folder: world.database.size() + left)


def test_a_backup_asks_for_room_on_the_servers_disk_before_it_writes_anything(
    world: World, armed: Dossier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(type(world.database), "backup", lambda self, target: written.append(target))
    short_of_room(world, monkeypatch, 10 * MIB - 1)
    with pytest.raises(NoSpace, match="own disk"):
        back_up(world, tmp_path / "copies", reserve=10 * MIB)
    assert not written
    assert not list((tmp_path / "scratch").iterdir())
    assert not list((tmp_path / "copies").iterdir())


def test_where_both_copies_lie_on_one_disk_there_must_be_room_for_both(
    world: World, armed: Dossier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_room(world, monkeypatch, 10 * MIB)
    with pytest.raises(NoSpace):
        back_up(world, tmp_path / "copies", reserve=10 * MIB)
    short_of_room(world, monkeypatch, 20 * MIB + 2 * world.database.size())
    assert back_up(world, tmp_path / "copies", reserve=10 * MIB).objects == 2


def test_a_backup_on_the_servers_own_disk_leaves_the_room_that_is_kept_for_check_ins(
    world: World, armed: Dossier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [1 << 40, 10 * MIB + OBJECT_SIZE, 10 * MIB]
    monkeypatch.setattr(backups, "_free", lambda folder: room.pop(0))
    with pytest.raises(NoSpace):
        back_up(world, tmp_path / "copies", reserve=10 * MIB)
    assert len(list((tmp_path / "copies/objects").rglob("?" * 64))) == 1
    monkeypatch.setattr(backups, "_free", lambda folder: 1 << 40)
    world.clock.at += 1
    assert back_up(world, tmp_path / "copies", reserve=10 * MIB).copied == 1


def test_what_a_killed_backup_left_is_no_reason_to_refuse_the_next(
    world: World, armed: Dossier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    left = tmp_path / "scratch" / "backup-1.db"
    left.write_bytes(bytes(MIB))
    monkeypatch.setattr(backups, "_free", lambda folder: 0 if left.exists() else 1 << 40)
    assert back_up(world, tmp_path / "copies", reserve=MIB).objects == 2


def test_the_size_of_a_database_is_that_of_its_file_and_its_log(world: World, armed: Dossier) -> None:
    files = (world.folder / "afterword.db", world.folder / "afterword.db-wal")
    assert world.database.size() == sum(each.stat().st_size for each in files)
