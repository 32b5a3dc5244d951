"""Service time grows only while people were really served."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.world import TICK, World, an_armed_dossier
from vault import alarms
from vault.clock import DAY, HOUR
from vault.plans import Plan
from vault.service import Moment, Service, advance, moment, probed, take_over
from vault.switch import Stage

BOOT = "boot"


def a_service(**given: object) -> Service:
    row = Service(
        "life", BOOT, at=1_000_000, lived=500_000, served=400_000, probed=1_000_000, grown=1_000_000, era=3
    )
    return replace(row, **given)  # type: ignore[arg-type]


def test_a_tick_is_counted_in_both() -> None:
    after = advance(a_service(), BOOT, 1_000_000 + TICK, TICK)
    assert (after.lived, after.served, after.at) == (505_000, 405_000, 1_005_000)


def test_a_stall_counts_as_two_ticks_however_long_it_was() -> None:
    after = advance(a_service(probed=1_000_000 + 50 * HOUR), BOOT, 1_000_000 + 50 * HOUR, TICK)
    assert after.lived == 500_000 + 2 * TICK
    assert after.served == 400_000 + 2 * TICK


def test_a_clock_that_goes_back_adds_nothing_and_takes_nothing() -> None:
    assert advance(a_service(), BOOT, 500, TICK) == a_service()


def test_another_host_advances_nothing() -> None:
    assert advance(a_service(), "other", 1_000_000 + TICK, TICK) == a_service()
    assert probed(a_service(), "other", 9_999_999) == a_service()


@pytest.mark.parametrize(("ticks", "counts"), [(1, True), (12, True), (13, False)])
def test_an_answer_at_the_public_door_vouches_for_twelve_ticks(ticks: int, counts: bool) -> None:
    now = 2_000_000
    row = a_service(at=now - TICK, probed=now - ticks * TICK, grown=now - TICK)
    after = advance(row, BOOT, now, TICK)
    assert after.lived == row.lived + TICK
    assert (after.served > row.served) is counts


def test_without_any_answer_at_the_door_nothing_is_served() -> None:
    assert advance(a_service(probed=None), BOOT, 1_000_000 + TICK, TICK).served == 400_000


@pytest.mark.parametrize(("gap", "era"), [(HOUR, 3), (HOUR + 1, 4)])
def test_more_than_an_hour_without_service_is_a_gap_and_counted_once(gap: int, era: int) -> None:
    now = 1_000_000 + gap
    after = advance(a_service(at=now - TICK, probed=now), BOOT, now, TICK)
    assert after.era == era
    assert advance(after, BOOT, now + TICK, TICK).era == era


def test_taking_over_adds_nothing_and_is_a_gap() -> None:
    after = take_over(a_service(), "other", 77)
    assert (after.lived, after.served, after.era) == (500_000, 400_000, 4)
    assert (after.boot, after.at, after.probed) == ("other", 77, None)


def test_an_older_answer_at_the_door_does_not_hide_a_newer_one() -> None:
    assert probed(a_service(probed=2_000_000), BOOT, 1_500_000).probed == 2_000_000


@given(
    st.lists(
        st.tuples(st.integers(-100_000, 3 * HOUR), st.sampled_from(["look", "probe", "other", "take"])),
        max_size=60,
    )
)
def test_neither_counter_ever_falls_or_outruns_the_boot_clock(steps: list[tuple[int, str]]) -> None:
    row, now, owner = a_service(), 1_000_000, BOOT
    highest, real = now, 0
    for by, what in steps:
        now += by
        before = row
        match what:
            case "look":
                row = advance(row, owner, now, TICK)
            case "probe":
                row = probed(row, owner, now)
            case "other":
                row = advance(row, "nobody", now, TICK)
            case _:
                owner = "second" if owner == BOOT else BOOT
                row = take_over(row, owner, now)
        real += max(0, now - highest) if what == "look" else 0
        highest = max(highest, now) if what == "look" else (now if what == "take" else highest)
        assert row.lived >= before.lived
        assert row.served >= before.served
        assert row.era >= before.era
        assert row.served - before.served <= row.lived - before.lived <= 2 * TICK


@pytest.mark.parametrize(("behind", "exact"), [(0, True), (2 * TICK, True), (2 * TICK + 1, False)])
def test_a_clock_far_behind_the_row_is_another_clock_whatever_its_name(behind: int, exact: bool) -> None:
    row = a_service()
    assert moment(row, BOOT, row.at - behind, 1_700_000_000_000, TICK).exact is exact


def a_moment(exact: bool) -> Moment:
    return moment(a_service(boot=BOOT if exact else "other"), BOOT, 1_000_000, 1_700_000_000_000, TICK)


def test_a_host_that_may_not_look_rounds_in_her_favour() -> None:
    assert a_moment(exact=True).stamp == 400_000
    assert a_moment(exact=False).stamp == 400_000 + 2 * TICK


def test_dates_for_people_are_counted_from_the_wall_clock_of_now() -> None:
    assert a_moment(exact=True).project(400_000 + HOUR) == 1_700_000_000_000 + HOUR


PLAN = Plan(30 * TICK, 12 * TICK, 12 * TICK, 20 * TICK)


def test_fifty_wall_clocks_give_one_and_the_same_log(world: World) -> None:
    """T6, S10: the wall clock has no influence on moves."""
    world.short = True
    made = an_armed_dossier(world, Plan(10 * TICK, 4 * TICK, 4 * TICK, 6 * TICK))
    start = world.snapshot()
    logs = set()
    for script in range(50):
        world.rewind(start)
        log = []
        for beat in range(21):
            # Forward, back, by seconds and by decades, before and behind every due time.
            jump = (script - 25) * 37 ** (beat % 7) * (-1) ** (beat // 3)
            world.clock.wall_off = max(0, 1_700_000_000_000 + jump)
            world.clock.at += 2 * TICK
            world.beat()
            log.append(world.stage(made.id))
            if beat == 6:
                made.hers.check_in()
        logs.add(tuple(log))
    assert len(logs) == 1
    assert {Stage.REMINDED, Stage.ARMED, Stage.RELEASED} < set(logs.pop())


def test_a_month_without_power_costs_nobody_a_warning(world: World) -> None:
    """T7: the kernel starts anew; the stage begins anew, letter included, and is lived in full."""
    world.short = True
    made = an_armed_dossier(world, PLAN)
    while made.stage is not Stage.GRACE:
        world.pass_time(2 * TICK)
    world.pass_time(16 * TICK)
    world.clock.wall_off += 30 * 24 * HOUR
    world.reboot("a month later")
    told = world.letters().count(("ana@example.org", "last-call"))
    lived = 0
    while made.stage is not Stage.RELEASED:
        world.pass_time(2 * TICK)
        lived += 2 * TICK
        assert lived < 60 * TICK
    assert lived >= PLAN.grace
    assert world.letters().count(("ana@example.org", "last-call")) == told + 1


def test_what_ran_out_just_before_a_long_gap_is_not_taken_from_her_after_it(world: World) -> None:
    """The last tick before the process died made it due; she could not have checked in since."""
    world.short = True
    made = an_armed_dossier(world, PLAN)
    while made.stage is not Stage.GRACE:
        world.pass_time(2 * TICK)
    due = world.records.switch(made.id).switch.due
    assert due is not None
    while True:
        # Time is counted by every transaction, the switch is moved only by the watch, which is dead.
        world.clock.at += 2 * TICK
        world.records.note_probe(world.clock.boot())
        with world.records.transaction() as now:
            pass
        if now.served >= due:
            break
    world.clock.at += 3 * HOUR
    world.reopen()
    world.beat()
    assert made.stage is Stage.GRACE
    world.pass_time(PLAN.grace - 4 * TICK)
    assert made.stage is Stage.GRACE
    world.pass_time(10 * TICK)
    assert made.stage is Stage.RELEASED


def test_a_clock_that_was_set_back_under_one_name_is_taken_over_and_never_stands_still_in_silence(
    world: World,
) -> None:
    """A container with a time of its own, a process that was frozen and thawed: one boot id, days behind the row."""
    made = an_armed_dossier(world)
    world.clock.at += 5 * DAY
    world.pass_time(100 * TICK)
    before = world.records.service()
    assert before is not None
    world.clock.at -= 5 * DAY
    world.reopen()
    with world.records.transaction() as now:
        assert not now.exact
    assert "not-ticking" in alarms.ailments(world.records, mail=False)
    world.pass_time(HOUR)
    after = world.records.service()
    assert after is not None
    assert before.served + HOUR - 20 * TICK < after.served <= before.served + HOUR
    assert before.lived + HOUR - 10 * TICK < after.lived <= before.lived + HOUR
    assert after.era > before.era
    assert [each.kind for each in world.records.gaps()].count("takeover") == 1
    assert made.stage is Stage.ARMED


def test_of_two_clocks_of_one_name_the_one_behind_waits_while_the_other_counts(world: World) -> None:
    world.short = True
    an_armed_dossier(world, PLAN)
    world.clock.at += 5 * DAY
    world.pass_time(10 * TICK)
    before = world.records.service()
    behind = world.another_host()
    behind.clock.boot_name, behind.clock.at = world.clock.boot_name, world.clock.at - 5 * DAY
    for _ in range(30):
        world.pass_time(TICK)
        behind.beat(TICK)
    after = world.records.service()
    assert before is not None
    assert after is not None
    assert after.lived == before.lived + 30 * TICK
    assert after.era == before.era
