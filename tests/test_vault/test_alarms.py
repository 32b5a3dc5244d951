"""Our own trouble: who is told, when, once, and that they hear when it is over."""

from collections import Counter

import pytest

from tests.world import TICK, Dossier, World, an_armed_dossier
from vault import alarms, outbox, watch
from vault.alarms import AGAIN_TICKS, DAY_TICKS, STILL_TICKS, Alarm, GapKind
from vault.clock import DAY, HOUR, MINUTE
from vault.letters import LetterKind
from vault.plans import Plan
from vault.service import Service
from vault.storage.records.gaps import KEPT, Vigil
from vault.switch import Stage

PLAN = Plan(48 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
STILL = STILL_TICKS * TICK


def vigil(world: World) -> Vigil:
    seen = world.records.vigil()
    assert seen is not None
    return seen


def service(world: World) -> Service:
    row = world.records.service()
    assert row is not None
    return row


def stand_still(world: World, ms: int) -> None:
    """As if the door had been shut for `ms` more, in which the watch ticked; then one real tick."""
    with world.database.transaction():
        world.database.run(
            "UPDATE service SET lived = lived + :ms, stood = stood + :ms, at = at + :ms, beat = beat + :ms",
            ms=ms,
        )
    world.clock.at += ms
    world.beat()


def told(world: World, kind: LetterKind) -> list[str]:
    return sorted(to for to, said in world.letters() if said == kind.value)


def troubles(world: World) -> list[str]:
    """What the operator's letters are about, in the order they were posted."""
    return [
        next(
            words
            for words in ("ten minutes", "whole day", "reached through", "clock jumped")
            if words in body
        )
        for body in (
            " ".join(parcel.body.split()) for parcel in world.courier.carried if parcel.to == "op@ngo.example"
        )
        if "The server needs you" in body
    ]


def shut(world: World, ms: int = STILL + 4 * TICK) -> None:
    world.reachable = False
    world.pass_time(20 * TICK)
    # What an open door vouched for is over by now; the rest of the time goes by at once.
    stand_still(world, max(0, ms - service(world).stood))
    world.pass_time(2 * TICK)


def reopen_door(world: World) -> None:
    world.reachable = True
    world.pass_time(10 * TICK)


@pytest.fixture
def armed(world: World) -> Dossier:
    made = an_armed_dossier(world, PLAN)
    world.pass_time(20 * TICK)
    return made


def test_ten_minutes_without_service_are_told_to_the_operator_alone(world: World, armed: Dossier) -> None:
    world.reachable = False
    world.pass_time(12 * TICK)
    world.pass_time(STILL - 2 * TICK)
    assert troubles(world) == []
    world.pass_time(6 * TICK)
    assert troubles(world) == ["ten minutes"]
    world.pass_time(2 * STILL)
    assert troubles(world) == ["ten minutes"]
    assert told(world, LetterKind.OUTAGE) == []


def test_while_people_are_served_nobody_is_told_of_anything(world: World, armed: Dossier) -> None:
    world.pass_time(2 * STILL)
    assert troubles(world) == []
    assert world.records.gaps() == []
    assert vigil(world).alarm == Alarm.QUIET


def test_when_service_grows_again_whoever_heard_of_the_outage_hears_it(world: World, armed: Dossier) -> None:
    shut(world)
    reopen_door(world)
    assert troubles(world) == ["ten minutes", "reached through"]
    world.pass_time(2 * STILL)
    assert troubles(world) == ["ten minutes", "reached through"]
    assert told(world, LetterKind.OUTAGE_OVER) == []
    (gap,) = world.records.gaps()
    assert gap.kind == GapKind.OUTAGE
    assert gap.length is not None
    assert STILL < gap.length < STILL + 40 * TICK


def test_after_a_day_she_and_her_colleagues_are_told_once_and_once_that_it_is_over(
    world: World, armed: Dossier
) -> None:
    everybody = ["ana@example.org", "c1@example.org", "c2@example.org", "c3@example.org"]
    shut(world, DAY_TICKS * TICK - 10 * TICK)
    assert told(world, LetterKind.OUTAGE) == []
    world.pass_time(30 * TICK)
    assert told(world, LetterKind.OUTAGE) == everybody
    stand_still(world, 2 * DAY)
    world.pass_time(10 * TICK)
    assert told(world, LetterKind.OUTAGE) == everybody
    reopen_door(world)
    assert told(world, LetterKind.OUTAGE_OVER) == everybody
    assert troubles(world) == ["ten minutes", "whole day", "reached through"]
    assert armed.stage is Stage.ARMED
    assert vigil(world).alarm == Alarm.QUIET


@pytest.mark.parametrize(("stage", "concerned"), [("new", 0), ("paused", 4), ("grace", 4), ("released", 0)])
def test_only_those_with_a_switch_that_could_still_run_are_told(
    world: World, armed: Dossier, stage: str, concerned: int
) -> None:
    with world.database.transaction():
        world.database.run("UPDATE switches SET stage = :stage, due = NULL", stage=stage)
    assert len(world.records.concerned("", 100)) == concerned


def test_a_colleague_who_has_left_is_not_concerned_any_more(world: World, armed: Dossier) -> None:
    with world.database.transaction():
        world.database.run("UPDATE collaborators SET has_left = 1 WHERE place = 1")
    assert armed.readers[0].account.id not in world.records.concerned("", 100)
    assert len(world.records.concerned("", 100)) == 3


def test_many_are_told_in_batches_over_several_ticks_and_nobody_twice(
    world: World, armed: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "BATCH", 1)
    shut(world, DAY_TICKS * TICK)
    world.pass_time(6 * TICK)
    # In the middle of it the process dies.
    world.reopen()
    world.pass_time(40 * TICK)
    assert Counter(told(world, LetterKind.OUTAGE)).most_common(1)[0][1] == 1
    assert len(told(world, LetterKind.OUTAGE)) == 4
    world.reachable = True
    world.pass_time(4 * TICK)
    world.reopen()
    world.pass_time(30 * TICK)
    assert len(told(world, LetterKind.OUTAGE_OVER)) == len(set(told(world, LetterKind.OUTAGE_OVER))) == 4


def test_eight_watches_send_one_set_of_letters(world: World, armed: Dossier) -> None:
    world.delivering = False
    watches = [watch.Watch(world.records, world.custodian) for _ in range(8)]
    world.reachable = False

    def live(ticks: int) -> None:
        for _ in range(ticks):
            world.clock.at += TICK
            for each in watches:
                each.tick()

    live(STILL_TICKS + 30)
    stand_still(world, DAY)
    live(20)
    posted = Counter(
        (row["kind"], row["address"])
        for row in world.database.all("SELECT kind, address FROM outbox WHERE kind LIKE '%outage%'")
    )
    assert len(posted) == 4
    assert set(posted.values()) == {1}
    (row,) = world.database.all("SELECT COUNT(*) AS many FROM outbox WHERE kind = 'operator-trouble'")
    assert row["many"] == 2


def test_one_who_cannot_be_read_keeps_nobody_else_from_hearing(world: World, armed: Dossier) -> None:
    with world.database.transaction():
        world.database.run(
            "UPDATE addresses SET created = 'never' WHERE account = :id", id=armed.hers.account.id
        )
    shut(world, DAY_TICKS * TICK)
    world.pass_time(20 * TICK)
    (row,) = world.database.all("SELECT COUNT(*) AS many FROM outbox WHERE kind = 'outage'")
    assert row["many"] == 3


def test_what_has_not_arrived_when_it_is_over_is_not_sent_any_more(world: World, armed: Dossier) -> None:
    world.delivering = False
    shut(world, DAY_TICKS * TICK)
    world.pass_time(20 * TICK)
    world.reachable = True
    world.pass_time(10 * TICK)
    world.delivering = True
    world.pass_time(10 * TICK)
    assert [
        kind for _, kind in world.letters() if kind in ("outage", "outage-over", "operator-trouble")
    ] == []


def test_a_letter_that_was_under_way_when_it_ended_is_followed_by_its_end(
    world: World, armed: Dossier
) -> None:
    world.delivering = False
    shut(world, DAY_TICKS * TICK)
    world.pass_time(20 * TICK)
    carried = outbox.claim(world.records, 100)
    parcels = {
        each.id: outbox._parcels(world.records, world.custodian, world.sender, each, 0.5) for each in carried
    }
    assert len(parcels) == 6
    world.reachable = True
    world.pass_time(10 * TICK)
    for letter in carried:
        outbox._accepted(
            world.records,
            world.custodian,
            letter,
            lambda now, row: watch.landed(world.records, world.custodian, now, row),
        )
    world.delivering = True
    world.pass_time(10 * TICK)
    assert len(told(world, LetterKind.OUTAGE_OVER)) == 4
    over = [row for row in world.records.operator_letters("outage-1") if b"door-open" in row.facts]
    assert len(over) == 1


def test_an_end_is_told_to_an_address_once_however_it_was_found(world: World, armed: Dossier) -> None:
    shut(world, DAY_TICKS * TICK)
    world.pass_time(20 * TICK)
    (address, *_) = world.records.addresses_told("outage-1", "outage", "", 10)
    for _ in range(2):
        with world.records.transaction() as now:
            alarms._tell_over(world.records, world.custodian, now, address, 1)
    (row,) = world.database.all("SELECT COUNT(*) AS many FROM outbox WHERE kind = 'outage-over'")
    assert row["many"] == 1


def test_a_door_that_flaps_is_one_trouble_and_not_fifty(world: World, armed: Dossier) -> None:
    shut(world)
    reopen_door(world)
    for _ in range(3):
        shut(world)
        reopen_door(world)
    assert troubles(world) == ["ten minutes", "reached through"]
    shut(world, AGAIN_TICKS * TICK + 4 * TICK)
    assert troubles(world) == ["ten minutes", "reached through", "ten minutes"]


def test_a_watch_that_has_just_begun_knocks_before_it_complains(world: World, armed: Dossier) -> None:
    # People came in, and so time was lived, while the watch was away.
    stand_still(world, 0)
    with world.database.transaction():
        world.database.run("UPDATE service SET stood = :long, probed = NULL", long=2 * STILL)
    world.reachable = False
    world.reopen()
    world.pass_time(8 * TICK)
    assert troubles(world) == []
    world.reachable = True
    world.pass_time(20 * TICK)
    assert troubles(world) == []


def test_a_watch_that_did_not_tick_for_long_notes_how_long(world: World, armed: Dossier) -> None:
    world.clock.at += HOUR
    world.beat()
    assert world.records.gaps() == []
    world.clock.at += 3 * HOUR
    world.beat()
    world.pass_time(10 * TICK)
    (gap,) = world.records.gaps()
    assert (gap.kind, gap.length) == (GapKind.STALL, 3 * HOUR)


def test_a_new_start_of_the_machine_is_noted_once(world: World, armed: Dossier) -> None:
    world.reboot("second-boot")
    world.pass_time(30 * TICK)
    assert [(gap.kind, gap.length) for gap in world.records.gaps()] == [(GapKind.TAKEOVER, None)]
    assert service(world).boot == "second-boot"


def test_another_host_does_not_compare_its_clock_with_the_first_ones_beat(
    world: World, armed: Dossier
) -> None:
    other = world.another_host()
    other.clock.at = world.clock.at + 5 * HOUR
    for _ in range(8):
        other.beat(TICK)
    assert [gap.kind for gap in world.records.gaps()] == [GapKind.TAKEOVER]


def test_the_newest_hundred_of_each_kind_are_kept(world: World) -> None:
    with world.records.transaction() as now:
        first = world.records.note_gap(GapKind.OUTAGE, None, now.lived, now.wall)
        world.records.save_alarm(vigil(world), Alarm.OPERATOR, first, "")
        for number in range(KEPT + 20):
            world.records.note_gap(GapKind.OUTAGE, number, now.lived, now.wall)
            world.records.note_gap(GapKind.WALL, number, now.lived, now.wall)
    kept = Counter(gap.kind for gap in world.records.gaps(1_000))
    assert kept == {GapKind.OUTAGE: KEPT + 1, GapKind.WALL: KEPT}
    assert world.records.gap(first) is not None


@pytest.mark.parametrize("jump", [-30 * DAY, -5 * MINUTE - 1, 5 * MINUTE + 1, 200 * 365 * DAY])
def test_a_jump_of_the_wall_clock_is_told_to_the_operator_and_moves_nothing(
    world: World, armed: Dossier, jump: int
) -> None:
    before = service(world)
    world.clock.wall_off += jump
    world.pass_time(4 * TICK)
    assert troubles(world) == ["clock jumped"]
    (gap,) = world.records.gaps()
    assert (gap.kind, gap.length) == (GapKind.WALL, jump)
    after = service(world)
    assert (after.served - before.served, after.era) == (4 * TICK, before.era)
    assert armed.stage is Stage.ARMED


def test_a_clock_that_is_set_right_by_little_is_nothing_to_tell(world: World, armed: Dossier) -> None:
    world.clock.wall_off += 5 * MINUTE
    world.pass_time(4 * TICK)
    assert (troubles(world), world.records.gaps()) == ([], [])


def test_a_clock_that_swings_is_noted_each_time_and_told_once_a_day(world: World, armed: Dossier) -> None:
    for turn in range(6):
        world.clock.wall_off += DAY if turn % 2 else -DAY
        world.pass_time(4 * TICK)
    assert len(world.records.gaps()) == 6
    assert troubles(world) == ["clock jumped"]


def test_another_boot_compares_with_its_own_beginning(world: World, armed: Dossier) -> None:
    world.clock.wall_off += DAY  # while the machine is off, somebody sets its clock
    world.reboot("second-boot")
    world.pass_time(20 * TICK)
    assert [gap.kind for gap in world.records.gaps()] == [GapKind.TAKEOVER]
    assert troubles(world) == []


def test_an_alarm_that_fails_costs_nobody_a_move(
    world: World, armed: Dossier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(alarms, "_mind_door", broken)
    world.skip(49 * HOUR)
    world.pass_time(20 * TICK)
    assert armed.stage is Stage.REMINDED
    assert "RuntimeError" in caplog.text


def test_a_quiet_tick_opens_no_transaction_of_its_own(world: World, armed: Dossier) -> None:
    world.pass_time(4 * TICK)
    opened = []
    real = world.records.transaction

    def counted():  # type: ignore[no-untyped-def]  # a context manager passed on
        opened.append(1)
        return real()

    world.records.transaction = counted  # type: ignore[method-assign]
    world.clock.at += TICK
    world.watch.tick()
    assert len(opened) == 1


def test_an_unfinished_outage_outlives_the_process_and_the_machine(world: World, armed: Dossier) -> None:
    shut(world)
    world.reboot("second-boot")
    world.pass_time(30 * TICK)
    assert troubles(world) == ["ten minutes"]
    reopen_door(world)
    assert troubles(world) == ["ten minutes", "reached through"]


def test_a_letter_that_does_not_read_keeps_no_outage_from_ending(world: World, armed: Dossier) -> None:
    shut(world)
    world.pass_time(MINUTE)
    with world.database.transaction():
        world.database.run("UPDATE outbox SET attempts = 'x' WHERE kind = 'operator-trouble'")
    reopen_door(world)
    world.pass_time(MINUTE)
    assert vigil(world).alarm == Alarm.QUIET
