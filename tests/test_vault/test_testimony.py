"""What people saw, told to a server that has forgotten it."""

import base64
from collections.abc import Callable

import msgspec
import pytest

from tests.world import Dossier, Snapshot, World, an_armed_dossier, change_roster, until
from vault import release, statements, switch, testimony, views, watch, wire
from vault.clock import DAY, HOUR
from vault.errors import AfterwordError, Conflict, NotFound, Untrusted
from vault.statements import Release
from vault.switch import Stage


def forget(world: World) -> tuple[Dossier, Snapshot, wire.Released]:
    """Armed, copied, released, seen by the first colleague, set back."""
    made = an_armed_dossier(world)
    made.hers.check_in()
    start = world.snapshot()
    until(made, Stage.RELEASED)
    seen = release.show(world.records, world.custodian, made.readers[0].account, made.id)
    world.rewind(start)
    return made, start, seen


def show_again(made: Dossier, seen: wire.Released | wire.SeenRelease, reader: int = 0) -> None:
    request = wire.SeenRelease(seen.release, seen.checkin)
    world = made.world
    testimony.recall(world.records, world.custodian, made.readers[reader].account, made.id, request)


def refusal(call: Callable[[], None]) -> str:
    with pytest.raises(AfterwordError) as refused:
        call()
    return refused.value.code


def test_a_release_that_somebody_saw_is_the_release_again_byte_for_byte(world: World) -> None:
    """S3: released never reverts, not even by a backup."""
    made, _, seen = forget(world)
    assert made.stage is Stage.ARMED
    show_again(made, seen)
    assert made.stage is Stage.RELEASED
    for reader in made.readers:
        again = release.show(world.records, world.custodian, reader.account, made.id)
        assert (again.release, again.checkin) == (seen.release, seen.checkin)
        assert again.shares
    world.pass_time(DAY)
    told = {to for to, kind in world.letters() if kind == "release"}
    assert told == {"c1@example.org", "c2@example.org", "c3@example.org"}
    assert ("ana@example.org", "released-her") in world.letters()
    state = views.dossier(world.records, made.hers.account, made.id)
    assert state.released == signed(seen).created


def signed(seen: wire.Released) -> Release:
    found = statements.peek(seen.release.encode())
    assert isinstance(found, Release)
    return found


def test_shown_twice_or_by_everybody_it_is_one_release(world: World) -> None:
    made, _, seen = forget(world)
    for reader in (0, 0, 1, 2):
        show_again(made, seen, reader)
    rows = world.database.all("SELECT id FROM outbox WHERE kind = 'release' AND climb = 0")
    assert len(rows) == 3


@pytest.mark.parametrize("stage", [Stage.REMINDED, Stage.WARNED, Stage.GRACE, Stage.PAUSED])
def test_from_every_stage_it_is_released_again(world: World, stage: Stage) -> None:
    made, _, seen = forget(world)
    if stage is Stage.PAUSED:
        made.hers.order(made.id, statements.Pause, length=DAY)
    else:
        until(made, stage)
    show_again(made, seen)
    assert made.stage is Stage.RELEASED


def test_only_this_servers_own_word_about_this_dossier_counts(world: World) -> None:
    made, _, seen = forget(world)
    other = made.hers.create(made.readers, 2)
    said = signed(seen)
    forged = statements.write(said, made.readers[0].keyring.sign).decode()
    flipped = msgspec.json.decode(seen.release)
    payload = base64.b64decode(flipped["payload"]).replace(b'"epoch":1', b'"epoch":2')
    flipped["payload"] = base64.b64encode(payload).decode()
    for bad in (forged, msgspec.json.encode(flipped).decode()):
        assert refusal(lambda bad=bad: show_again(made, wire.SeenRelease(bad, seen.checkin))) == "untrusted"  # type: ignore[misc]
    with pytest.raises(Untrusted):
        testimony.recall(
            world.records,
            world.custodian,
            made.readers[0].account,
            other.id,
            wire.SeenRelease(seen.release, seen.checkin),
        )
    assert made.stage is Stage.ARMED
    assert other.stage is Stage.NEW


def test_the_last_check_in_comes_with_it_or_nobody_would_believe_the_release(world: World) -> None:
    made, _, seen = forget(world)
    foreign, _ = made.readers[0].check_in(), None
    for checkin in (None, made.hers.checkin_request().statement, "{}"):
        code = refusal(lambda checkin=checkin: show_again(made, wire.SeenRelease(seen.release, checkin)))  # type: ignore[misc]
        assert code in {"untrusted", "malformed"}
    assert made.stage is Stage.ARMED
    assert foreign


def test_strangers_learn_and_change_nothing(world: World) -> None:
    made, _, seen = forget(world)
    eve = world.journalist("eve")
    with pytest.raises(NotFound):
        testimony.recall(
            world.records,
            world.custodian,
            eve.account,
            made.id,
            wire.SeenRelease(seen.release, seen.checkin),
        )
    assert made.stage is Stage.ARMED


def test_of_another_roster_it_is_refused_and_says_what_to_do(world: World) -> None:
    made = an_armed_dossier(world)
    start = world.snapshot()
    change_roster(made, made.readers, 2)
    until(made, Stage.RELEASED)
    seen = release.show(world.records, world.custodian, made.readers[0].account, made.id)
    world.rewind(start)
    with pytest.raises(Conflict, match="newer backup") as refused:
        show_again(made, seen)
    assert refused.value.code == "wrong-roster"
    assert made.stage is Stage.ARMED


def test_what_was_destroyed_stays_destroyed(world: World) -> None:
    made, _, seen = forget(world)
    with world.records.transaction() as now:
        watch.apply(world.records, world.custodian, now, made.id, switch.Destroy())
    assert refusal(lambda: show_again(made, seen)) == "destroyed"


def another_journalist(world: World) -> Dossier:
    """With whom nobody of the first one's has anything to do."""
    ben = world.journalist("ben")
    ben.confirm("ben@example.org")
    made = ben.create([ben.colleague("dora")], 1)
    made.arm(anyway=True)
    return made


def left(made: Dossier) -> int:
    row, due = made.world.records.service(), made.world.records.switch(made.id).switch.due
    assert row is not None
    assert due is not None
    return due - row.served


def life(world: World) -> str:
    row = world.records.service()
    assert row is not None
    return row.life


def operators_trouble(world: World) -> int:
    return len(world.database.all("SELECT id FROM outbox WHERE kind = 'operator-trouble'"))


@pytest.mark.parametrize("why", ["released again", "wrong-roster", "destroyed"])
def test_a_release_that_was_forgotten_proves_that_others_check_ins_may_be_and_gives_them_their_time_again(
    world: World, why: str
) -> None:
    """S1: also where it cannot be called a release again; and what is refused twice is one loss."""
    made, his = an_armed_dossier(world), another_journalist(world)
    until(his, Stage.GRACE)
    made.hers.check_in()
    start = world.snapshot()
    if why == "wrong-roster":
        change_roster(made, made.readers, 2)
    his.hers.check_in()
    until(made, Stage.RELEASED)
    seen = release.show(world.records, world.custodian, made.readers[0].account, made.id)
    world.rewind(start)
    if why == "destroyed":
        with world.records.transaction() as now:
            watch.apply(world.records, world.custodian, now, made.id, switch.Destroy())
    world.skip(left(his) - HOUR)
    assert his.stage is Stage.GRACE
    before = life(world)
    for _ in range(2):
        if why == "released again":
            show_again(made, seen)
        else:
            assert refusal(lambda: show_again(made, seen)) == why
    assert life(world) != before
    assert operators_trouble(world) == 1
    shown = life(world)
    world.pass_time(2 * HOUR)
    assert his.stage is Stage.ARMED
    assert refusal(lambda: show_again(made, seen)) == why if why != "released again" else True
    assert life(world) == shown


def test_slow_changes_cool_anew_when_a_forgotten_release_is_shown(world: World) -> None:
    made, his = an_armed_dossier(world), another_journalist(world)
    made.hers.check_in()
    change = his.hers.order(his.id, statements.Destroy)
    world.beat()
    start = world.snapshot()
    until(made, Stage.RELEASED)
    seen = release.show(world.records, world.custodian, made.readers[0].account, made.id)
    world.rewind(start)
    show_again(made, seen)
    world.beat()
    found = world.records.change(change or "")
    assert found is not None
    assert found.life == life(world)


def test_a_release_older_than_the_present_life_is_a_loss_that_is_known(world: World) -> None:
    """Or whoever kept a hundred of them would buy a hundred ladders."""
    made, his = an_armed_dossier(world), another_journalist(world)
    second = made.hers.create(made.readers, 2)
    second.arm(anyway=True)
    made.hers.check_in()
    start = world.snapshot()
    until(made, Stage.RELEASED)
    until(second, Stage.RELEASED)
    shown = [
        release.show(world.records, world.custodian, made.readers[0].account, each.id)
        for each in (made, second)
    ]
    world.rewind(start)
    for _ in range(20):
        world.skip(DAY)
        his.hers.check_in()
        made.hers.check_in()
    show_again(made, shown[0])
    known = life(world)
    show_again(second, shown[1])
    assert (made.stage, second.stage) == (Stage.RELEASED, Stage.RELEASED)
    assert life(world) == known


def test_what_is_no_release_of_this_dossier_proves_nothing(world: World) -> None:
    made, _, seen = forget(world)
    other = made.hers.create(made.readers, 2)
    before = life(world)
    for dossier, checkin in ((other, seen.checkin), (made, None)):
        assert refusal(
            lambda dossier=dossier, checkin=checkin: show_again(
                dossier, wire.SeenRelease(seen.release, checkin)
            )
        ) in {"untrusted", "malformed"}  # type: ignore[misc]
    assert life(world) == before
