"""Objects first, then the head that commits them."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.world import Dossier, World, an_armed_dossier, until
from vault import age, deposit, envelope, statements, wire
from vault.clock import DAY, HOUR
from vault.errors import (
    AfterwordError,
    Conflict,
    NoSpace,
    NotFound,
    OverQuota,
    Refused,
    Untrusted,
    WrongOffset,
)
from vault.plans import Plan
from vault.storage.files import FileObjects
from vault.storage.objects import MemoryObjects
from vault.stream import OBJECT_SIZE, SLICE_SIZE, SealedObject, seal_object
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)


@pytest.fixture
def made(world: World) -> Dossier:
    ana = world.journalist()
    return ana.create([ana.colleague(f"c{number}") for number in range(2)], 2, PLAN)


def an_object(made: Dossier) -> SealedObject:
    return seal_object(os.urandom(16) + bytes(SLICE_SIZE - 16), made.key.recipient, os.urandom)


def put(made: Dossier, sealed: SealedObject, offset: int = 0, body: object = None, **other: object) -> bool:
    world = made.world
    return deposit.receive(
        world.records,
        world.objects,
        other.get("account", made.hers.account),  # type: ignore[arg-type]
        made.id,
        sealed.name,
        offset,
        [sealed.data[offset:]] if body is None else body,  # type: ignore[arg-type]
        int(other.get("low_water", 0)),  # type: ignore[call-overload]
    )


def head(made: Dossier, names: list[str], **changed: object) -> statements.Head:
    row = made.world.records.dossier(made.id)
    assert row is not None
    root = wire.write_blob(age.seal(bytes(4096), made.key.recipient, os.urandom))
    given = statements.Head(made.id, row.bundles + 1, row.head, tuple(names), root, None, 1)
    return msgspec.structs.replace(given, **changed)


def commit(made: Dossier, given: statements.Head) -> bytes:
    world = made.world
    submission = wire.Submission(made.hers.sign(given))
    return deposit.commit(world.records, world.custodian, made.hers.account, made.id, submission)


def set_quota(made: Dossier, objects: int) -> None:
    with made.world.records.transaction():
        made.world.records.set_quota(made.hers.account.id, objects * OBJECT_SIZE)


def files(made: Dossier) -> set[str]:
    return set(made.world.objects.names(made.id))


# objects


def test_an_object_is_stored_once_and_counted_once(made: Dossier) -> None:
    sealed = an_object(made)
    assert put(made, sealed)
    assert not put(made, sealed)
    assert made.hers.account.used == OBJECT_SIZE
    stored = deposit.read(
        made.world.records, made.world.objects, made.hers.account, made.id, sealed.name, 0, None
    )
    assert b"".join(stored) == sealed.data


def test_an_interrupted_upload_goes_on_where_it_stopped(made: Dossier) -> None:
    sealed = an_object(made)

    def cut() -> Iterator[bytes]:
        yield sealed.data[:300_000]
        raise ConnectionError("the line went dead")

    with pytest.raises(ConnectionError):
        put(made, sealed, body=cut())
    held = deposit.held(made.world.records, made.world.objects, made.hers.account, made.id, sealed.name)
    assert held == (False, 300_000)
    with pytest.raises(Refused) as refused:
        put(made, sealed, 300_000, [sealed.data[300_000:400_000]])
    assert refused.value.code == "partial"
    with pytest.raises(WrongOffset):
        put(made, sealed, 300_000)
    assert made.hers.account.used == 0
    assert put(made, sealed, 400_000)
    assert made.hers.account.used == OBJECT_SIZE


@pytest.mark.parametrize("what", ["altered", "too long", "another's bytes"])
def test_bytes_that_are_not_what_their_name_says_are_not_kept(made: Dossier, what: str) -> None:
    sealed = an_object(made)
    body = {
        "altered": bytes([sealed.data[0] ^ 1]) + sealed.data[1:],
        "too long": sealed.data + b"x",
        "another's bytes": an_object(made).data,
    }[what]
    with pytest.raises(Untrusted) as refused:
        put(made, sealed, body=[body])
    assert refused.value.code == "object-mismatch"
    assert deposit.held(made.world.records, made.world.objects, made.hers.account, made.id, sealed.name) == (
        False,
        0,
    )
    assert made.hers.account.used == 0


def test_what_does_not_fit_the_quota_is_refused_before_its_first_byte(made: Dossier) -> None:
    set_quota(made, 1)
    put(made, an_object(made))

    def untouched() -> Iterator[bytes]:
        raise AssertionError("a byte was read")
        yield b""

    with pytest.raises(OverQuota):
        put(made, an_object(made), body=untouched())


def test_uploads_that_race_for_the_last_of_a_quota_never_exceed_it_and_leave_nothing_behind(
    made: Dossier,
) -> None:
    set_quota(made, 3)
    many = [an_object(made) for _ in range(8)]
    account = made.hers.account
    barrier = threading.Barrier(len(many))
    taken: list[str] = []

    def upload(sealed: SealedObject) -> None:
        def all_at_once() -> Iterator[bytes]:
            barrier.wait()
            yield sealed.data

        try:
            put(made, sealed, body=all_at_once(), account=account)
            taken.append(sealed.name)
        except OverQuota:
            pass

    threads = [threading.Thread(target=upload, args=(each,)) for each in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 3
    assert made.hers.account.used == 3 * OBJECT_SIZE
    assert files(made) == set(taken)


def test_a_disk_that_is_nearly_full_takes_no_object_and_still_takes_a_check_in(world: World) -> None:
    """T14."""
    made = an_armed_dossier(world, PLAN)
    with pytest.raises(NoSpace):
        put(made, an_object(made), low_water=1 << 50)
    assert made.hers.check_in()[1] == []


def test_interrupted_uploads_cannot_fill_the_disk_past_the_quota(made: Dossier) -> None:
    for _ in range(deposit.MOST_UNFINISHED + 5):
        with pytest.raises(Refused):
            put(made, SealedObject(os.urandom(32).hex(), b""), body=[b"x"])
    assert len(list(made.world.objects.unfinished(made.id))) <= deposit.MOST_UNFINISHED


def test_missing_names_are_answered_in_the_order_asked(made: Dossier) -> None:
    sealed = an_object(made)
    put(made, sealed)
    asked = ("ab" * 32, sealed.name, "cd" * 32)
    answer = deposit.missing(made.world.records, made.hers.account, made.id, asked)
    assert answer.missing == ("ab" * 32, "cd" * 32)


def test_a_colleague_reads_objects_and_heads_only_after_the_release(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    reader = made.readers[0].account
    (name, _) = (row["name"] for row in world.database.all("SELECT name FROM objects ORDER BY name"))
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            deposit.read(world.records, world.objects, reader, made.id, str(name), 0, None)
        assert refused.value.code == "not-released"
        with pytest.raises(Conflict):
            deposit.heads(world.records, reader, made.id, 0)
        until(made, Stage.GRACE)
    until(made, Stage.RELEASED)
    assert (
        len(b"".join(deposit.read(world.records, world.objects, reader, made.id, str(name), 0, None)))
        == OBJECT_SIZE
    )
    assert len(deposit.heads(world.records, reader, made.id, 0).heads) == 1


def test_a_colleague_can_never_put_or_commit(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    sealed = an_object(made)
    with pytest.raises(NotFound):
        put(made, sealed, account=made.readers[0].account)
    given = wire.Submission(made.readers[0].sign(head(made, [sealed.name])))
    with pytest.raises(NotFound):
        deposit.commit(world.records, world.custodian, made.readers[0].account, made.id, given)


def test_foreign_and_unknown_dossiers_are_one_answer(world: World, made: Dossier) -> None:
    bea = world.journalist("bea").account
    records, objects = world.records, world.objects
    said = set()
    for dossier in (made.id, "00" * 16):
        for do in (
            lambda d: deposit.missing(records, bea, d, ("ab" * 32,)),
            lambda d: deposit.held(records, objects, bea, d, "ab" * 32),
            lambda d: deposit.receive(records, objects, bea, d, "ab" * 32, 0, [b"x"], 0),
            lambda d: deposit.read(records, objects, bea, d, "ab" * 32, 0, None),
            lambda d: deposit.heads(records, bea, d, 0),
        ):
            with pytest.raises(NotFound) as refused:
                do(dossier)
            said.add((refused.value.code, str(refused.value)))
    assert len(said) == 1


# heads


def test_a_head_commits_and_is_answered_alike_when_sent_again(made: Dossier) -> None:
    names = []
    for _ in range(2):
        sealed = an_object(made)
        put(made, sealed)
        names.append(sealed.name)
    given = head(made, names)
    assert commit(made, given) == commit(made, given)
    row = made.world.records.dossier(made.id)
    assert row is not None
    signed = made.hers.sign(given).encode()
    assert (row.bundles, row.head) == (1, envelope.statement_hash(signed).hex())
    assert deposit.heads(made.world.records, made.hers.account, made.id, 0).heads == (signed.decode(),)


def test_of_two_clients_that_push_at_once_one_goes_on_from_the_other(made: Dossier) -> None:
    made.push()
    names = [made_object.name for made_object in (an_object(made), an_object(made)) if put(made, made_object)]
    one, other = head(made, names), head(made, names, created=2)
    commit(made, one)
    with pytest.raises(Conflict) as refused:
        commit(made, other)
    assert refused.value.code == "head-conflict"


@pytest.mark.parametrize(
    "changed",
    [{"bundle": 1}, {"bundle": 3}, {"prev": None}, {"prev": "ab" * 32}],
    ids=["forked", "ahead", "from nothing", "from elsewhere"],
)
def test_a_head_that_does_not_follow_the_newest_is_refused(made: Dossier, changed: dict[str, object]) -> None:
    names = made.push()
    with pytest.raises(Conflict) as refused:
        commit(made, head(made, names, **changed))
    assert refused.value.code == "head-conflict"


def test_a_head_whose_objects_are_not_all_here_commits_nothing(made: Dossier) -> None:
    sealed = an_object(made)
    put(made, sealed)
    with pytest.raises(Conflict) as refused:
        commit(made, head(made, [sealed.name, "ab" * 32]))
    assert refused.value.code == "objects-missing"
    assert made.world.database.all("SELECT bundle FROM objects") == [{"bundle": None}]


def test_an_object_of_another_dossier_is_not_here(made: Dossier) -> None:
    names = made.push()
    second = made.hers.create(made.readers, 2, PLAN)
    with pytest.raises(Conflict) as refused:
        commit(second, head(second, names))
    assert refused.value.code == "objects-missing"


@pytest.mark.parametrize("what", ["one twice", "too few", "a fresh start ahead of itself"])
def test_a_head_that_lists_its_bundle_wrongly_is_refused(made: Dossier, what: str) -> None:
    names = made.push()
    changed: dict[str, object] = {
        "one twice": {"objects": (names[0], names[0])},
        "too few": {"objects": (names[0],)},
        "a fresh start ahead of itself": {"replace": 3},
    }[what]
    with pytest.raises(Refused) as refused:
        commit(made, head(made, names, **changed))
    assert refused.value.code == "wrong-head"


def test_a_head_signed_by_somebody_else_or_for_another_dossier_is_refused(made: Dossier) -> None:
    names = made.push()
    world = made.world
    forged = wire.Submission(made.readers[0].sign(head(made, names)))
    with pytest.raises(Untrusted):
        deposit.commit(world.records, world.custodian, made.hers.account, made.id, forged)
    with pytest.raises(NotFound):
        commit(made, head(made, names, dossier="ab" * 16))


def test_after_the_release_nothing_is_added(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    sealed = an_object(made)
    put(made, sealed)
    until(made, Stage.RELEASED)
    for do in (lambda: put(made, an_object(made)), lambda: commit(made, head(made, [sealed.name]))):
        with pytest.raises(Conflict) as refused:
            do()
        assert refused.value.code == "released"


def test_a_release_in_the_middle_of_an_upload_leaves_no_object_without_a_row(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.GRACE)
    before = files(made)
    sealed = an_object(made)

    def meanwhile() -> Iterator[bytes]:
        until(made, Stage.RELEASED)
        yield sealed.data

    with pytest.raises(Conflict):
        put(made, sealed, body=meanwhile())
    assert files(made) == before


def test_heads_come_in_pages(made: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deposit, "PAGE", 2)
    for _ in range(3):
        made.push()
    first = deposit.heads(made.world.records, made.hers.account, made.id, 0)
    rest = deposit.heads(made.world.records, made.hers.account, made.id, 2)
    assert (len(first.heads), first.more, len(rest.heads), rest.more) == (2, True, 1, False)


# sweeping


def test_what_no_head_names_is_kept_for_thirty_days_and_not_longer(made: Dossier) -> None:
    world = made.world
    world.pass_time(2 * world.tick)
    sealed = an_object(made)
    put(made, sealed)
    world.skip(30 * DAY - HOUR)
    assert deposit.sweep(world.records, world.objects) == 0
    world.skip(HOUR)
    assert deposit.sweep(world.records, world.objects) == 1
    assert files(made) == set()
    assert made.hers.account.used == 0


def test_an_object_of_the_very_first_moment_is_not_swept_before_its_time(made: Dossier) -> None:
    world = made.world
    sealed = an_object(made)
    put(made, sealed)
    row = world.records.service()
    assert row is not None
    assert row.lived == 0
    assert deposit.sweep(world.records, world.objects) == 0


def test_nothing_that_a_head_names_is_ever_swept(made: Dossier) -> None:
    names = made.push()
    for _ in range(4):
        made.world.skip(200 * DAY)
        assert deposit.sweep(made.world.records, made.world.objects) == 0
    assert files(made) == set(names)


def test_an_object_named_by_a_second_head_stays_with_the_first(made: Dossier) -> None:
    names = made.push()
    commit(made, head(made, names))
    rows = made.world.database.all("SELECT bundle FROM objects")
    assert {row["bundle"] for row in rows} == {1}


def test_sending_again_what_is_being_swept_never_leaves_a_row_that_points_at_nothing(made: Dossier) -> None:
    """The row is gone and the file is not yet, when her computer comes back after a month."""
    world = made.world
    sealed = an_object(made)
    put(made, sealed)
    world.skip(31 * DAY)

    class Slow(MemoryObjects):
        def delete(self, key: str) -> None:
            raise AssertionError("not reached")

    world.objects.__class__ = Slow
    with pytest.raises(AssertionError):
        deposit.sweep(world.records, world.objects)
    world.objects.__class__ = MemoryObjects
    assert files(made) == {sealed.name}
    assert deposit.missing(world.records, made.hers.account, made.id, (sealed.name,)).missing
    # The file is still there, so the store says at once that it has it.
    assert put(made, sealed)
    assert deposit.sweep(world.records, world.objects) == 0
    assert files(made) == {sealed.name}


def test_a_file_swept_between_its_arrival_and_its_row_gets_no_row(
    made: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = made.world
    sealed = an_object(made)
    receive = type(world.objects).receive

    def and_gone(self: MemoryObjects, key: str, *rest: object) -> object:
        stored = receive(self, key, *rest)  # type: ignore[arg-type]
        self.delete(key)
        return stored

    with monkeypatch.context() as sweeping:
        sweeping.setattr(type(world.objects), "receive", and_gone)
        with pytest.raises(AfterwordError) as refused:
            put(made, sealed)
    assert refused.value.code == "busy"
    assert deposit.missing(world.records, made.hers.account, made.id, (sealed.name,)).missing
    assert made.hers.account.used == 0
    assert put(made, sealed)


def test_a_destroyed_dossier_gives_back_its_room_and_leaves_no_file(made: Dossier, tmp_path: Path) -> None:
    world = made.world
    world.objects = FileObjects(tmp_path / "objects")  # type: ignore[assignment]
    other = made.hers.create(made.readers, 2, PLAN)
    kept = other.push()
    made.push()
    made.push()
    with pytest.raises(Refused):
        put(made, an_object(made), body=[b"half of it"])
    made.hers.order(made.id, statements.Destroy)
    world.skip(HOUR)
    assert deposit.sweep(world.records, world.objects) == 4
    deposit.sweep(world.records, world.objects)
    assert not (tmp_path / "objects" / made.id).exists()
    assert made.hers.account.used == len(kept) * OBJECT_SIZE
    assert set(world.objects.names(other.id)) == set(kept)


def test_a_sweep_does_a_little_at_a_time(made: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deposit, "SWEEP", 2)
    world = made.world
    for _ in range(5):
        put(made, an_object(made))
    world.skip(31 * DAY)
    assert [deposit.sweep(world.records, world.objects) for _ in range(4)] == [2, 2, 1, 0]
    assert made.hers.account.used == 0


def swept_dossiers(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every dossier that a sweep from now on clears away, in order."""
    cleared: list[str] = []
    real = world.objects.delete_dossier

    def clear(dossier: str) -> None:
        cleared.append(dossier)
        real(dossier)

    monkeypatch.setattr(world.objects, "delete_dossier", clear)
    return cleared


def test_a_destroyed_dossier_is_cleared_away_at_once_and_a_day_later_and_then_never_again(
    made: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = made.world
    made.push()
    cleared = swept_dossiers(world, monkeypatch)
    made.hers.order(made.id, statements.Destroy)
    for _ in range(5):
        deposit.sweep(world.records, world.objects)
    assert cleared == [made.id]
    world.skip(DAY)
    for _ in range(5):
        deposit.sweep(world.records, world.objects)
    assert cleared == [made.id] * 2
    world.skip(100 * DAY)
    deposit.sweep(world.records, world.objects)
    assert cleared == [made.id] * 2


def test_a_sweep_that_was_killed_while_it_cleared_a_dossier_away_does_it_again(
    made: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = made.world
    names = made.push()

    def killed(dossier: str) -> None:
        raise KeyboardInterrupt

    made.hers.order(made.id, statements.Destroy)
    with monkeypatch.context() as once:
        once.setattr(world.objects, "delete_dossier", killed)
        with pytest.raises(KeyboardInterrupt):
            deposit.sweep(world.records, world.objects)
    cleared = swept_dossiers(world, monkeypatch)
    for _ in range(2):
        deposit.sweep(world.records, world.objects)
    assert cleared == [made.id]
    assert names
    assert not files(made)


def test_an_upload_that_was_under_way_when_its_dossier_was_destroyed_leaves_nothing_for_long(
    made: Dossier,
) -> None:
    world = made.world
    made.push()
    made.hers.order(made.id, statements.Destroy)
    for _ in range(2):
        deposit.sweep(world.records, world.objects)
    late = an_object(made)
    world.objects.receive(f"{made.id}/{late.name}", 0, [late.data], OBJECT_SIZE)  # and its worker died here
    assert files(made) == {late.name}
    world.skip(DAY)
    deposit.sweep(world.records, world.objects)
    assert not files(made)


def test_dossiers_that_still_have_objects_to_delete_keep_no_other_from_being_cleared_away(
    made: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = made.world
    monkeypatch.setattr(deposit, "SWEEP", 1)
    made.push()
    other = made.hers.create(made.readers, 2, PLAN)
    cleared = swept_dossiers(world, monkeypatch)
    made.hers.order(made.id, statements.Destroy)
    made.hers.order(other.id, statements.Destroy)
    deposit.sweep(world.records, world.objects)
    assert cleared == [other.id]
