"""The one way in which a switch moves."""

import copy
import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from tests.world import TICK, Dossier, Host, Person, World, an_armed_dossier, until
from vault import accounts, alarms, backups, compose, cooling, rounds, statements, switch, views, watch, wire
from vault.clock import HOUR
from vault.couriers import TemporaryFailure
from vault.errors import AfterwordError, Conflict, Damaged, DiskFailed, NoSpace
from vault.plans import Plan
from vault.settings import read_settings
from vault.storage.records import Records
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
SHORT = Plan(40 * TICK, 20 * TICK, 20 * TICK, 30 * TICK)


def damage(made: Dossier, column: str = "due", value: object = 0) -> None:
    with made.world.database.transaction():
        made.world.database.run(
            f"UPDATE switches SET {column} = :value WHERE dossier = :d",  # noqa: S608
            value=value,  # type: ignore[arg-type]
            d=made.id,
        )


def another(made: Dossier) -> Dossier:
    second = made.hers.create(made.readers, 2, made.plan, made.cooling)
    second.push()
    second.prove()
    second.arm()
    return second


def test_silence_on_a_healthy_server_ends_in_a_release_within_two_ticks_of_the_ladder(world: World) -> None:
    world.short = True
    made = an_armed_dossier(world, SHORT)
    begun = world.clock.at
    while made.stage is not Stage.RELEASED:
        world.pass_time(TICK)
    ticks = (world.clock.at - begun) / TICK
    # Each of the three letters lands up to a tick after its stage began, and each move waits for its tick.
    assert SHORT.ladder() / TICK <= ticks <= SHORT.ladder() / TICK + 2 + 3 * 2


def test_a_check_in_moves_every_switch_of_hers_and_of_nobody_else(world: World) -> None:
    world.short = True
    made = an_armed_dossier(world, SHORT)
    second = another(made)
    bea = world.journalist("bea")
    foreign = bea.create([bea.colleague("c")], 1, SHORT)
    foreign.arm(anyway=True)
    until(made, Stage.WARNED)
    assert foreign.stage is not Stage.ARMED
    made.hers.check_in()
    assert (made.stage, second.stage) == (Stage.ARMED, Stage.ARMED)
    assert foreign.stage is not Stage.ARMED


def test_one_move_for_each_switch_and_tick(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    world.skip(30 * 24 * HOUR)
    assert made.stage is Stage.REMINDED


def test_a_check_in_after_the_release_is_told_the_truth_and_moves_nothing(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    second = made.hers.create(made.readers, 2, Plan(60 * 24 * HOUR, 12 * HOUR, 12 * HOUR, 12 * HOUR))
    second.push()
    second.prove()
    second.arm()
    until(made, Stage.RELEASED)
    assert second.stage is Stage.ARMED
    request = made.hers.checkin_request()
    acknowledged, refused = made.hers.check_in(request)
    assert [(each.dossier, each.code) for each in refused] == [(made.id, "not-possible-now")]
    assert "released" in refused[0].sentence
    assert made.stage is Stage.RELEASED
    # The answer got lost and she asks again: the same answer, and the same truth.
    assert made.hers.check_in(request) == (acknowledged, refused)


def test_a_check_in_races_the_release_and_exactly_one_of_them_wins(world: World) -> None:
    """T10, from two threads on the one file."""
    world.short = True
    made = an_armed_dossier(world, SHORT)
    until(made, Stage.GRACE)
    due = world.records.switch(made.id).switch.due
    assert due is not None
    with world.database.transaction():
        world.database.run("UPDATE service SET served = :due", due=due)
    start = world.snapshot()
    for _ in range(40):
        world.rewind(start)
        request = made.hers.checkin_request()
        barrier = threading.Barrier(2)
        told: list[bool] = []

        def release(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            world.watch.tick()

        def check_in(
            barrier: threading.Barrier = barrier,
            told: list[bool] = told,
            request: wire.CheckInRequest = request,
        ) -> None:
            barrier.wait()
            told.append(not made.hers.check_in(request)[1])

        threads = [threading.Thread(target=each) for each in (release, check_in)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (saved,) = told
        assert saved == (made.stage is Stage.ARMED)
        assert saved != (made.stage is Stage.RELEASED)
        assert (world.records.release(made.id) is not None) == (made.stage is Stage.RELEASED)


def test_eight_watches_move_each_switch_once(world: World) -> None:
    """T8, S9: on one database, each from a thread of its own."""
    many = 240
    world.short = True
    made = an_armed_dossier(world, SHORT)
    row = world.records.dossier(made.id)
    assert row is not None
    with world.records.transaction() as now:
        for number in range(many - 1):
            copy = msgspec.structs.replace(row, id=f"{number:032x}")
            world.records.add_dossier(copy)
            armed, _ = switch.step(switch.begin(SHORT, now.stamp), switch.Arm(), now.stamp, reachable=False)
            world.records.add_switch(copy.id, armed, now.wall)
    with world.database.transaction():
        world.database.run("UPDATE service SET served = served + 400000, lived = lived + 400000")
    world.clock.at += TICK
    world.records.note_probe(world.clock.boot())
    barrier = threading.Barrier(8)

    def tick() -> None:
        keeper = watch.Watch(Records(world.database, world.clock, TICK), world.custodian)
        barrier.wait()
        keeper.tick()

    threads = [threading.Thread(target=tick) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.records.count_stages() == {"reminded": many}
    moved = world.database.all(
        'SELECT COUNT(*) AS many FROM history WHERE entry LIKE \'%"what":"moved"%armed","after":"reminded%\''
    )
    assert moved[0]["many"] == many
    letters = world.database.all("SELECT COUNT(*) AS many FROM outbox WHERE kind = 'check-in'")
    assert letters[0]["many"] == many


def test_a_second_host_ticks_in_vain_while_the_first_one_lives(world: World) -> None:
    world.short = True
    made = an_armed_dossier(world, SHORT)
    other = Host(world)
    for _ in range(30):
        world.pass_time(TICK)
        other.beat(TICK)
    row = world.records.service()
    assert row is not None
    assert row.boot == "first-boot"
    assert row.served <= 31 * TICK + world.tick
    assert made.stage is Stage.ARMED


def test_a_host_takes_over_after_three_ticks_of_silence_and_adds_nothing(world: World) -> None:
    world.short = True
    made = an_armed_dossier(world, SHORT)
    world.pass_time(10 * TICK)
    before = world.records.service()
    assert before is not None
    other = Host(world)
    other.beat(TICK)
    for _ in range(2):
        other.beat(TICK)
    held = world.records.service()
    assert held is not None
    assert held.boot == "first-boot"
    other.beat(TICK)
    after = world.records.service()
    assert after is not None
    assert (after.boot, after.served, after.lived) == ("second-host", before.served, before.lived)
    for _ in range(200):
        other.beat(TICK)
    assert made.stage is not Stage.ARMED


def test_one_switch_that_does_not_read_stands_still_alone_and_shouts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """S11, S12."""
    made = an_armed_dossier(world, PLAN)
    second = another(made)
    damage(made)
    with caplog.at_level(logging.ERROR):
        until(second, Stage.RELEASED)
    row = world.database.one("SELECT stage FROM switches WHERE dossier = :d", d=made.id)
    assert row is not None
    assert row["stage"] == "armed"
    assert made.id in caplog.text
    assert world.records.release(made.id) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stage", "gone"),
        ("due", 1),
        ("due", None),
        ("entered", 10**15),
        ("every", 0),
        ("trying", 7),
        ("ladder", -1),
    ],
)
def test_whatever_a_damaged_switch_says_it_releases_nothing(world: World, column: str, value: object) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.GRACE)
    damage(made, column, value)
    for _ in range(3):
        world.skip(30 * 24 * HOUR)
    assert world.records.release(made.id) is None
    with pytest.raises(Damaged):
        world.records.switch(made.id)


@pytest.mark.parametrize("column", ["stage", "version", "since"])
def test_one_switch_that_does_not_read_costs_her_neither_the_check_in_nor_the_view_of_the_others(
    world: World, column: str
) -> None:
    made = an_armed_dossier(world, PLAN)
    second = another(made)
    until(second, Stage.WARNED)
    damage(made, column, "nonsense")
    _, refused = made.hers.check_in()
    assert [(each.dossier, each.code) for each in refused] == [(made.id, "damaged")]
    assert second.stage is Stage.ARMED
    assert [each.dossier for each in views.hers(world.records, made.hers.account)] == [second.id]
    assert [each.dossier for each in views.dossiers(world.records, made.readers[0].account).dossiers] == [
        second.id
    ]
    with pytest.raises(Damaged):
        views.dossier(world.records, made.hers.account, made.id)


def test_a_row_of_one_dossier_that_does_not_read_costs_her_no_check_in_either(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    second = another(made)
    request = made.hers.checkin_request()
    with world.database.transaction():
        world.database.run("UPDATE dossiers SET roster = x'ff' WHERE id = :d", d=made.id)
    _, refused = made.hers.check_in(request)
    assert [(each.dossier, each.code) for each in refused] == [(made.id, "damaged")]
    assert [each.dossier for each in views.hers(world.records, made.hers.account)] == [second.id]
    assert [each.dossier for each in views.dossiers(world.records, made.readers[0].account).dossiers] == [
        second.id
    ]


def test_an_outbox_row_that_does_not_read_costs_an_all_clear_and_not_her_check_in(world: World) -> None:
    made = an_armed_dossier(world)
    world.skip(36 * HOUR + 1)
    assert made.stage is Stage.REMINDED
    with world.database.transaction():
        world.database.run("UPDATE outbox SET attempts = 'many' WHERE kind = 'check-in'")
    assert made.hers.check_in()[1] == []
    assert made.stage is Stage.ARMED


def test_an_outbox_row_that_does_not_read_costs_nobody_else_their_all_clear(world: World) -> None:
    made = an_armed_dossier(world)
    until(made, Stage.WARNED)
    world.pass_time(20 * TICK)
    with world.database.transaction():
        world.database.run("UPDATE outbox SET attempts = 'many' WHERE kind = 'check-in'")
    made.hers.check_in()
    world.pass_time(20 * TICK)
    assert {"c1@example.org", "c2@example.org", "c3@example.org"} <= {
        each.to for each in world.courier.carried if "is over" in each.body
    }


def test_a_lost_row_of_time_stops_the_watch(world: World) -> None:
    an_armed_dossier(world, PLAN)
    with world.database.transaction():
        world.database.run("DELETE FROM service")
    with pytest.raises(Damaged):
        world.watch.tick()


def test_a_store_that_does_not_work_keeps_no_switch_from_moving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tidying up is the only thing the watch does with objects."""
    made = an_armed_dossier(world, PLAN)

    def broken(*given: object) -> int:
        raise Damaged("The object store does not work.")

    monkeypatch.setattr(rounds.deposit, "sweep", broken)
    tick = rounds.watch_ticker(
        compose.Vault(
            read_settings({"AFTERWORD_LOW_WATER": "0"}, data=world.folder),
            world.records,
            world.objects,
            world.custodian,
        ),
        lambda said: None,
    )
    world.skip(25 * HOUR)
    world.clock.at += HOUR
    tick()
    assert made.stage is Stage.REMINDED


def test_health_speaks_of_the_watch_and_not_of_whoever_else_is_busy(world: World) -> None:
    assert not alarms.ticking(world.records)
    world.beat()
    assert alarms.ticking(world.records)
    for _ in range(20):
        # The web and the deliverer go on; nobody moves a switch.
        world.clock.at += TICK
        world.deliver()
    assert not alarms.ticking(world.records)


def test_a_crash_anywhere_in_a_move_leaves_all_of_it_or_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T9, S6: at every write of the release in turn."""
    world.short = True
    made = an_armed_dossier(world, SHORT)
    until(made, Stage.GRACE)
    due = world.records.switch(made.id).switch.due
    assert due is not None
    with world.database.transaction():
        world.database.run("UPDATE service SET served = :due, grown = at", due=due)
    start = world.snapshot()
    crashes = 0
    for allowed in range(40):
        world.rewind(start)
        left = [allowed]
        run = type(world.database).run

        def until_the_power_goes(self: object, sql: str, /, **params: object) -> int:
            if left[0] == 0:  # noqa: B023
                raise Conflict("The power went.", code="busy")
            left[0] -= 1  # noqa: B023
            return run(self, sql, **params)  # type: ignore[arg-type]  # noqa: B023

        with monkeypatch.context() as broken:
            broken.setattr(type(world.database), "run", until_the_power_goes)
            try:
                world.watch.tick()
            except Conflict:
                crashes += 1
        world.reopen()
        released = made.stage is Stage.RELEASED
        assert released == (world.records.release(made.id) is not None)
        letters = world.database.all("SELECT id FROM outbox WHERE kind = 'release'")
        assert len(letters) == (3 if released else 0)
        if released and left[0] > 0:
            break
    else:
        raise AssertionError("it never got through")
    assert allowed > 5
    world.rewind(start)


def test_a_release_withdraws_what_the_ladder_had_left_to_say(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    waiting = {row["kind"] for row in world.database.all("SELECT kind FROM outbox WHERE state = 'waiting'")}
    assert waiting <= {"release", "released-her"}


def test_nothing_leaves_released(world: World) -> None:
    """S3."""
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    before = world.records.release(made.id)
    made.hers.check_in()
    for kind, fields in (
        (statements.Pause, {"length": HOUR}),
        (statements.Resume, {}),
        (statements.Destroy, {}),
        (statements.PlanChange, {"plan": statements.Dwells(*[24 * HOUR] * 4)}),
        (statements.Arm, {"epoch": 1, "anyway": True}),
    ):
        with pytest.raises(AfterwordError):
            made.hers.order(made.id, kind, **fields)
    with world.records.transaction() as now:
        watch.apply(world.records, world.custodian, now, made.id, switch.Restored())
    world.skip(365 * 24 * HOUR)
    cooling.take_effect(world.records, world.custodian)
    assert made.stage is Stage.RELEASED
    assert world.records.release(made.id) == before


def test_a_damaged_address_of_hers_takes_neither_the_others_their_warnings_nor_anybody_the_release(
    world: World,
) -> None:
    made = an_armed_dossier(world, PLAN)
    (first,) = world.records.addresses_of(made.hers.account.id)
    made.hers.confirm("ana@elsewhere.example")
    with world.database.transaction():
        world.database.run("UPDATE addresses SET tries = 'x' WHERE id = :id", id=first.id)
    until(made, Stage.RELEASED)
    world.pass_time(20 * TICK)
    hers = [each.body for each in world.courier.carried if each.to == "ana@elsewhere.example"]
    assert len(hers) == 5, "a code, three warnings, and that it was released"
    assert any("does not read" in " ".join(each.body.split()) for each in world.courier.carried)


@pytest.mark.parametrize("damage", ["pulse = 'x'", "told = CAST(x'ff' AS TEXT)", "lead = 'x'", "alarm = 'x'"])
def test_what_alarms_remember_stops_no_tick_when_it_does_not_read(world: World, damage: str) -> None:
    made = an_armed_dossier(world, PLAN)
    with world.database.transaction():
        world.database.run(f"UPDATE service SET {damage}")  # noqa: S608 our own
    until(made, Stage.WARNED)


def test_after_a_restore_it_is_her_check_in_that_ends_the_alarm_for_everybody_who_heard_of_it(
    world: World,
) -> None:
    made = alarmed_and_restored(world)
    assert made.stage is Stage.ARMED
    assert relieved(world) == []
    for _ in range(3):
        made.hers.check_in()
        world.pass_time(20 * TICK)
    assert relieved(world) == EVERYBODY


EVERYBODY = ["ana@example.org", "c1@example.org", "c2@example.org", "c3@example.org"]


def alarmed_and_restored(world: World, number: int = 1, made: Dossier | None = None) -> Dossier:
    """Her colleagues were asked to reach her; then the server came back from an older state."""
    made = made or an_armed_dossier(world, PLAN)
    until(made, Stage.WARNED)
    world.pass_time(20 * TICK)
    backups.begin_anew(world.records, world.custodian, f"{number:032x}")
    world.pass_time(20 * TICK)
    return made


def relieved(world: World) -> list[str]:
    return sorted(to for to, kind in world.letters() if kind == "all-clear")


@pytest.mark.parametrize("stage", [Stage.REMINDED, Stage.WARNED])
@pytest.mark.parametrize("by", ["check-in", "pause"])
def test_who_was_alarmed_before_a_restore_hears_the_all_clear_whenever_she_speaks(
    world: World, stage: Stage, by: str
) -> None:
    """Mostly she answers the next reminder, which begins another climb."""
    made = alarmed_and_restored(world)
    until(made, stage)
    for _ in range(3):
        if by == "check-in":
            made.hers.check_in()
        elif made.stage is not Stage.PAUSED:
            made.hers.order(made.id, statements.Pause, length=HOUR)
        world.pass_time(20 * TICK)
    assert relieved(world) == EVERYBODY


def test_two_restores_and_three_alarms_end_in_one_all_clear_for_each(world: World) -> None:
    made = alarmed_and_restored(world)
    alarmed_and_restored(world, 2, made)
    until(made, Stage.GRACE)
    made.hers.check_in()
    world.pass_time(20 * TICK)
    assert relieved(world) == EVERYBODY


def test_a_colleague_whom_no_alarm_reached_before_a_restore_hears_no_all_clear(world: World) -> None:
    made = alarmed_and_restored(world)
    with world.database.transaction():
        world.database.run(
            "UPDATE outbox SET state = 'failed' WHERE kind = 'reach-her' AND account = :a",
            a=made.readers[0].account.id,
        )
    made.hers.check_in()
    world.pass_time(20 * TICK)
    assert relieved(world) == [each for each in EVERYBODY if each != "c1@example.org"]


def bobs(world: World) -> Dossier:
    """Another journalist, whom nobody of the first one's knows."""
    bob = world.journalist("bob")
    bob.confirm("bob@example.org")
    made = bob.create([bob.colleague("x")], 1, PLAN)
    made.arm(anyway=True)
    return made


def set_back(made: Dossier, meanwhile: Callable[[], object]) -> None:
    """The server forgets what happened `meanwhile`, and a check-in of this journalist's, who shows that she made it."""
    world, hers = made.world, made.hers
    hers.check_in()
    before = world.snapshot()
    kept, _ = hers.check_in()
    seq = hers.account.seq
    meanwhile()
    world.rewind(replace(before, clock=copy.copy(world.clock)))
    hers.check_in(hers.checkin_request(seq=seq + 1, last=kept.decode()))


def left(made: Dossier) -> int:
    row, due = made.world.records.service(), made.world.records.switch(made.id).switch.due
    assert row is not None
    assert due is not None
    return due - row.served


@pytest.mark.parametrize("stage", [Stage.ARMED, Stage.REMINDED, Stage.GRACE])
def test_after_a_proved_setback_a_journalist_who_is_silent_has_her_whole_ladder_again(
    world: World, stage: Stage
) -> None:
    """S1: her check-in was acknowledged, and is forgotten; somebody else found out."""
    made, his = an_armed_dossier(world, PLAN), bobs(world)
    until(his, stage)
    world.skip(left(his) - 2 * HOUR)
    assert his.stage is stage
    set_back(made, his.hers.check_in)
    begun = world.clock.at
    until(his, Stage.RELEASED)
    assert world.clock.at - begun >= PLAN.ladder()
    # What was armed notices when its time comes, and has it once more then.
    assert world.clock.at - begun <= PLAN.ladder() + 3 * HOUR


def test_a_setback_gives_each_switch_one_ladder_however_often_it_is_looked_at(world: World) -> None:
    made, his = an_armed_dossier(world, PLAN), bobs(world)
    until(his, Stage.WARNED)
    set_back(made, lambda: None)
    for expected in (Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE, Stage.RELEASED):
        world.pass_time(4 * TICK)
        assert his.stage is expected
        if expected is not Stage.RELEASED:
            world.skip(left(his))


def test_who_checked_in_since_the_setback_gets_no_second_ladder(world: World) -> None:
    made, his = an_armed_dossier(world, PLAN), bobs(world)
    set_back(made, lambda: None)
    his.hers.check_in()
    begun = world.clock.at
    until(his, Stage.RELEASED)
    assert PLAN.ladder() <= world.clock.at - begun <= PLAN.ladder() + HOUR


def test_a_pause_that_a_setback_met_ends_when_it_would_have(world: World) -> None:
    made, his = an_armed_dossier(world, PLAN), bobs(world)
    his.hers.order(his.id, statements.Pause, length=30 * HOUR)
    set_back(made, lambda: None)
    assert his.stage is Stage.PAUSED
    world.skip(31 * HOUR)
    assert his.stage is Stage.ARMED
    begun = world.clock.at
    until(his, Stage.RELEASED)
    assert world.clock.at - begun <= PLAN.ladder() + HOUR


def test_to_notice_a_setback_touches_no_switch_that_is_not_due(world: World) -> None:
    made, his = an_armed_dossier(world, PLAN), bobs(world)
    set_back(made, lambda: None)
    before = world.records.switch(his.id)
    world.pass_time(20 * TICK)
    assert world.records.switch(his.id) == before


def sign_in(who: Person, last: bytes | str | None) -> None:
    login = statements.Login(who.world.custodian.hash, who.card.verify_key.hex, who.nonce(), 1)
    shown = last.decode() if isinstance(last, bytes) else last
    accounts.sign_in(who.world.records, who.world.custodian, wire.SessionRequest(who.sign(login), shown))


@pytest.mark.parametrize("how", ["a neighbour proves it", "the operator restores a paused one"])
def test_a_colleague_who_comes_because_of_the_alarm_does_not_end_it_by_a_loss_that_is_over(
    world: World, how: str
) -> None:
    """Her ladder began after the loss: nothing of it is forgotten."""
    made, his = an_armed_dossier(world, PLAN), bobs(world)
    called = made.readers[0]
    if how.startswith("the operator"):
        made.hers.order(made.id, statements.Pause, length=HOUR)
    before = world.snapshot()
    kept, _ = his.hers.check_in()
    hoarded, _ = called.check_in()
    world.rewind(before)
    if how.startswith("the operator"):
        backups.begin_anew(world.records, world.custodian, "ab" * 16)
        made.hers.order(made.id, statements.Resume)
    else:
        sign_in(his.hers, kept)
    made.hers.check_in()
    until(made, Stage.GRACE)
    sign_in(called, hoarded)
    assert called.account.marked
    assert made.stage is Stage.GRACE


def test_what_could_not_be_given_again_is_not_noted_as_given(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.GRACE)
    world.skip(left(made) - HOUR)
    before = world.snapshot()
    kept, _ = made.readers[0].check_in()
    made.hers.check_in()
    world.rewind(before)
    with world.database.transaction():
        world.database.run("UPDATE dossiers SET created = 'x' WHERE id = :d", d=made.id)
    sign_in(made.readers[0], kept)
    assert made.stage is Stage.GRACE
    with world.database.transaction():
        world.database.run("UPDATE dossiers SET created = 1 WHERE id = :d", d=made.id)
    world.pass_time(4 * TICK)
    assert made.stage is Stage.ARMED


@pytest.mark.parametrize(
    ("wrong", "passes"),
    [
        (Damaged("A row does not read."), False),
        (ValueError("non-hexadecimal number"), False),
        (Conflict("Such a row exists already.", code="taken"), False),
        (Conflict("Another writer keeps the lock; try again.", code="busy"), True),
        (NoSpace("The disk is full."), True),
        (DiskFailed("The disk refused what was being written."), True),
    ],
    ids=lambda each: type(each).__name__,
)
def test_one_broken_row_costs_nobody_their_sign_in_and_what_passes_is_not_taken_for_one(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: Exception, passes: bool
) -> None:
    made = an_armed_dossier(world, PLAN)
    second = another(made)
    until(second, Stage.REMINDED)
    before = world.snapshot()
    kept, _ = made.readers[0].check_in()
    world.rewind(before)
    apply = watch.apply

    def break_down(records: Records, custodian: object, now: object, dossier: str, *rest: object) -> object:
        if dossier == made.id:
            raise wrong
        return apply(records, custodian, now, dossier, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(watch, "apply", break_down)
    if passes:
        with pytest.raises(type(wrong)):
            sign_in(made.readers[0], kept)
        return
    sign_in(made.readers[0], kept)
    assert second.stage is Stage.ARMED


@pytest.mark.parametrize("column", ["life", "body", "hash"])
def test_a_slow_change_that_does_not_read_holds_up_no_release(world: World, column: str) -> None:
    """A change decides no release; one flipped bit in it used to keep an archive for ever."""
    made = an_armed_dossier(world, PLAN)
    made.hers.order(made.id, statements.Destroy)
    with world.database.transaction():
        world.database.run(
            f"UPDATE changes SET {column} = CAST(x'e6' || substr({column}, 2) AS TEXT)"  # noqa: S608
        )
    until(made, Stage.RELEASED)
    assert world.database.all("SELECT 1 AS yes FROM changes") == []


def test_a_release_calls_back_what_was_still_to_be_said_of_changes_that_it_ended(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    second = another(made)
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    made.hers.order(made.id, statements.Destroy)
    second.hers.order(second.id, statements.PlanChange, plan=statements.Dwells(*[72 * HOUR] * 4))
    until(made, Stage.RELEASED)
    world.courier.answer = None
    world.pass_time(3 * HOUR)
    about = world.database.all("SELECT dossier, state FROM outbox WHERE kind = 'change-asked'")
    states = {(str(row["dossier"]) == made.id, str(row["state"])) for row in about}
    assert (True, "withdrawn") in states
    assert (True, "accepted") not in states
