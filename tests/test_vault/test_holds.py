"""A colleague's hand on the brake: how long one alone can hold, what two can do, and who hears of it."""

from contextlib import suppress
from dataclasses import replace

import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, change_roster, until
from vault import orders, statements, views, wire
from vault.clock import HOUR
from vault.errors import AfterwordError
from vault.plans import HOLD, Plan, hold_length
from vault.switch import LATE, Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 24 * HOUR, 48 * HOUR)


def code_of(do: object) -> str:
    with pytest.raises(AfterwordError) as refused:
        do()  # type: ignore[operator]
    return refused.value.code


def a_hold(made: Dossier, person: Person, because: str = "reached", **other: object) -> wire.Submission:
    seen = made.world.records.switch(made.id).switch
    fields: dict[str, object] = {
        "server": made.world.custodian.hash,
        "dossier": made.id,
        "seq": person.account.seq + 1,
        "nonce": person.nonce(),
        "climb": max(1, seen.ladder),
        "because": because,
        "created": made.world.clock.wall(),
    }
    return wire.Submission(person.sign(statements.Hold(**{**fields, **other})))  # type: ignore[arg-type]


def send(made: Dossier, person: Person, given: wire.Submission) -> bytes:
    world = made.world
    return orders.submit(world.records, world.custodian, person.account, made.id, given, short=world.short)[0]


def hold(made: Dossier, person: Person, because: str = "reached", **other: object) -> bytes:
    return send(made, person, a_hold(made, person, because, **other))


def left_of_it(made: Dossier) -> int:
    """Until the release, as it is projected."""
    state = views.dossier(made.world.records, made.hers.account, made.id)
    return state.projected[-1].at - made.world.clock.wall()


@pytest.fixture
def late(world: World) -> Dossier:
    """A dossier in `warned`, its letters landed."""
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.WARNED)
    world.courier.carried.clear()
    return made


def test_a_hold_puts_the_release_off_by_three_served_days(late: Dossier) -> None:
    before = left_of_it(late)
    hold(late, late.readers[0])
    assert left_of_it(late) == before + HOLD
    late.world.skip(HOLD - HOUR)
    assert late.stage is Stage.WARNED
    until(late, Stage.RELEASED)


def test_her_and_every_colleague_hear_who_holds_it_and_why(late: Dossier) -> None:
    hold(late, late.readers[0], "hospital")
    late.world.deliver()
    told = {parcel.to: parcel.body for parcel in late.world.courier.carried}
    assert set(told) == {"ana@example.org", "c1@example.org", "c2@example.org", "c3@example.org"}
    for body in told.values():
        assert "colleague 1" in body
        assert "in a hospital" in body
    assert "This is not a check-in" in told["ana@example.org"]


def test_no_name_lies_open_in_the_row_of_such_a_letter(late: Dossier) -> None:
    hold(late, late.readers[0])
    rows = late.world.database.all("SELECT facts FROM outbox WHERE kind = 'held'")
    assert rows
    assert not [row for row in rows if b"colleague 1" in bytes(row["facts"])]


def test_a_damaged_address_of_one_costs_nobody_else_the_letter_or_the_hold(late: Dossier) -> None:
    with late.world.database.transaction():
        account = late.readers[1].account.id
        late.world.database.run("UPDATE addresses SET tries = 'x' WHERE account = :id", id=account)
    hold(late, late.readers[0])
    late.world.deliver()
    told = {parcel.to for parcel in late.world.courier.carried}
    assert told == {"ana@example.org", "c1@example.org", "c3@example.org", "op@ngo.example"}
    assert views.dossier(late.world.records, late.hers.account, late.id).held is not None


def test_one_colleague_alone_holds_twice_and_not_a_third_time(late: Dossier) -> None:
    one = late.readers[0]
    before = left_of_it(late)
    for _ in range(2):
        hold(late, one)
        late.world.skip(HOLD)
    assert left_of_it(late) + 2 * HOLD == before + 2 * HOLD
    hold(late, one)
    assert left_of_it(late) == before
    assert views.dossier(late.world.records, one.account, late.id).held is None
    assert code_of(lambda: hold(late, one)) == "needs-another"
    until(late, Stage.RELEASED)


def test_two_alone_holds_may_be_of_two_people_and_are_still_two(late: Dossier) -> None:
    for each in late.readers[:2]:
        hold(late, each)
        late.world.skip(HOLD)
    hold(late, late.readers[2])
    assert views.dossier(late.world.records, late.hers.account, late.id).held is None


def test_from_the_third_hold_on_two_different_colleagues_hold_it(late: Dossier) -> None:
    for _ in range(2):
        hold(late, late.readers[0])
        late.world.skip(HOLD)
    late.world.deliver()
    late.world.courier.carried.clear()
    before = left_of_it(late)
    hold(late, late.readers[0])
    late.world.deliver()
    asked = [parcel for parcel in late.world.courier.carried if "held twice already" in parcel.body]
    assert len(asked) == 4
    late.world.skip(HOUR)
    hold(late, late.readers[1])
    late.world.deliver()
    assert left_of_it(late) == before - HOUR + HOLD
    assert "colleague 1, colleague 2" in late.world.courier.carried[-1].body


def test_of_two_who_sign_for_different_reasons_neither_is_quoted_with_the_others(late: Dossier) -> None:
    for _ in range(2):
        hold(late, late.readers[0])
        late.world.skip(HOLD)
    for first, second, quoted in [("known-safe", "reached", 0), ("hospital", "hospital", 4)]:
        hold(late, late.readers[0], first)
        late.world.deliver()
        late.world.courier.carried.clear()
        hold(late, late.readers[1], second)
        late.world.deliver()
        told = [parcel.body for parcel in late.world.courier.carried]
        assert len(told) == 4
        assert sum("The reason given" in body for body in told) == quoted
        late.world.skip(HOLD)


@pytest.mark.parametrize("other", ["late", "gone"])
def test_a_first_signature_counts_only_in_its_time_and_of_who_is_still_there(
    world: World, other: str
) -> None:
    made = an_armed_dossier(world, replace(PLAN, warn=400 * HOUR))
    one, two, three = made.readers
    until(made, Stage.WARNED)
    for _ in range(2):
        hold(made, one)
        world.skip(HOLD)
    hold(made, one)
    if other == "late":
        world.skip(HOLD)
    else:
        one.order(made.id, statements.Leave)
    hold(made, two)
    assert views.dossier(world.records, made.hers.account, made.id).held is None
    hold(made, three)
    assert views.dossier(world.records, made.hers.account, made.id).held is not None


def test_nothing_is_added_to_a_hold_while_it_runs(late: Dossier) -> None:
    hold(late, late.readers[0])
    with pytest.raises(AfterwordError, match="held already, until about 20") as refused:
        hold(late, late.readers[1])
    assert refused.value.code == "already-held"


@pytest.mark.parametrize("stage", [Stage.ARMED, Stage.PAUSED, Stage.RELEASED])
def test_what_is_not_late_cannot_be_held(world: World, stage: Stage) -> None:
    made = an_armed_dossier(world, PLAN)
    if stage is Stage.PAUSED:
        made.hers.order(made.id, statements.Pause, length=HOUR)
    until(made, stage)
    assert code_of(lambda: hold(made, made.readers[0])) == "not-possible-now"


def test_only_who_is_on_the_roster_and_has_not_left_can_hold(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    former, *others = made.readers
    change_roster(made, others, 2)
    others[0].order(made.id, statements.Leave)
    until(made, Stage.WARNED)
    assert code_of(lambda: hold(made, former)) == "not-found"
    assert code_of(lambda: hold(made, made.hers)) == "not-found"
    assert code_of(lambda: hold(made, world.journalist("eva"))) == "not-found"
    assert code_of(lambda: hold(made, others[0])) == "left"
    hold(made, others[1])


def test_a_hold_of_an_earlier_climb_holds_nothing(late: Dossier) -> None:
    one, two, _ = late.readers
    used = a_hold(late, two)
    first = send(late, two, used)
    late.hers.check_in()
    until(late, Stage.WARNED)
    assert send(late, two, used) == first
    assert views.dossier(late.world.records, one.account, late.id).held is None
    for climb in (1, 3):
        assert code_of(lambda: hold(late, one, climb=climb)) == "wrong-climb"  # noqa: B023
    hold(late, one, climb=2)


def test_a_hold_kept_in_a_drawer_for_the_last_day_is_worth_nothing(late: Dossier) -> None:
    kept = a_hold(late, late.readers[0])
    late.world.skip(HOUR)
    assert code_of(lambda: send(late, late.readers[0], kept)) == "stale-nonce"


def test_the_same_hold_sent_again_is_answered_alike_and_holds_no_longer(late: Dossier) -> None:
    given = a_hold(late, late.readers[0])
    answer = send(late, late.readers[0], given)
    before = late.world.records.switch(late.id)
    late.world.skip(HOUR)
    assert send(late, late.readers[0], given) == answer
    assert late.world.records.switch(late.id).switch == before.switch


def test_a_check_in_ends_the_hold_and_whoever_heard_of_it_hears_that(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.REMINDED)
    hold(made, made.readers[0])
    world.deliver()
    world.courier.carried.clear()
    made.hers.check_in()
    world.deliver()
    assert made.stage is Stage.ARMED
    assert {parcel.to for parcel in world.courier.carried} >= {
        "c1@example.org",
        "c2@example.org",
        "c3@example.org",
    }
    until(made, Stage.WARNED)
    assert views.dossier(world.records, made.hers.account, made.id).holds == ()


def test_a_letter_about_a_hold_that_has_not_arrived_is_called_back_by_a_check_in(late: Dossier) -> None:
    late.world.delivering = False
    hold(late, late.readers[0])
    late.hers.check_in()
    late.world.deliver()
    assert not [
        parcel for parcel in late.world.courier.carried if "so everything stands still" in parcel.body
    ]


def test_those_who_may_see_the_dossier_see_who_signed_and_what(late: Dossier) -> None:
    given = a_hold(late, late.readers[0], "known-safe")
    send(late, late.readers[0], given)
    for person in (late.hers, late.readers[1]):
        state = views.dossier(late.world.records, person.account, late.id)
        (shown,) = state.holds
        assert shown.statement == given.statement
        assert (shown.card, shown.because) == (late.readers[0].card.hash.hex(), "known-safe")
        assert shown.until == state.held
        assert not shown.pending
        assert state.climb == 1


def test_her_chain_says_that_it_was_held(late: Dossier) -> None:
    hold(late, late.readers[0])
    entries = late.world.records.history(late.hers.account.id, 0, 1_000)
    assert '"what":"held"' in entries[-1].entry


def test_in_a_rehearsal_a_hold_is_no_longer_than_the_ladder() -> None:
    short = Plan(4_000, 4_000, 4_000, 4_000)
    assert hold_length(short, short=True) == 16_000
    assert hold_length(short, short=False) == HOLD
    assert hold_length(PLAN, short=True) == HOLD


@pytest.mark.parametrize("stage", sorted(LATE))
def test_one_colleague_delays_a_release_by_six_days_at_most_whenever_they_sign(
    world: World, stage: Stage
) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.REMINDED)
    meant = left_of_it(made) + world.clock.wall()
    until(made, stage)
    for _ in range(60):
        with suppress(AfterwordError):
            hold(made, made.readers[0])
        world.skip(12 * HOUR)
        world.pass_time(4 * world.tick)
        if made.stage is Stage.RELEASED:
            break
    released = world.records.release(made.id)
    assert released is not None
    assert released.released <= meant + 2 * HOLD + 24 * HOUR


def test_a_hold_that_a_check_in_has_ended_is_not_shown_as_running(late: Dossier) -> None:
    hold(late, late.readers[0])
    late.world.skip(HOUR)
    ended = late.world.clock.wall()
    late.hers.check_in()
    late.world.skip(HOUR)
    for person in (late.hers, late.readers[1]):
        state = views.dossier(late.world.records, person.account, late.id)
        assert state.held is None
        assert [each.until for each in state.holds] == [ended]


def test_a_hold_that_does_not_read_hides_no_dossier_and_keeps_nobody_from_holding(late: Dossier) -> None:
    hold(late, late.readers[0])
    with late.world.database.transaction():
        late.world.database.run("UPDATE holds SET asked = 'x'")
    (state,) = views.hers(late.world.records, late.hers.account)
    assert state.held is not None
    assert state.holds == ()
    late.world.skip(HOLD)
    hold(late, late.readers[1])
