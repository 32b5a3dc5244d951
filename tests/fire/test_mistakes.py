"""The mistakes of tests/fire/mistakes.py planted one by one, and the scene in which each is caught.

Rule of this room: a scene passes on the engine as it is and fails with its mistake in place: a suite that lets one live
proves nothing.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.fire import mistakes, tally
from tests.fire.cast import PLAN, a_stage
from tests.world import TICK, Dossier, Person, Snapshot
from vault import crowds, orders, outbox, statements, wire
from vault.couriers import Parcel, TemporaryFailure
from vault.errors import AfterwordError, Conflict
from vault.service import Moment
from vault.storage.records import Records
from vault.switch import Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Dossier, Snapshot]]:
    with a_stage(PLAN) as begun:
        yield begun


@pytest.fixture
def armed(stage: tuple[Dossier, Snapshot]) -> Dossier:
    made, start = stage
    made.world.rewind(start)
    return made


def live(made: Dossier, ticks: int) -> None:
    """Tick by tick, as a healthy server does."""
    for _ in range(ticks):
        made.world.clock.at += TICK
        made.world.beat()


def until(made: Dossier, stage: Stage, most: int) -> int:
    """Ticks lived until the switch stands in `stage`."""
    for lived in range(most):
        if made.stage is stage:
            return lived
        live(made, 1)
    raise AssertionError(f"still {made.stage} after {most} ticks")


# scenes


def grace_is_lived_in_full_after_its_letter(made: Dossier) -> None:
    until(made, Stage.WARNED, 100)
    made.world.courier.answer = lambda parcel: TemporaryFailure("greylisted")
    until(made, Stage.GRACE, 70)
    live(made, 20)
    made.world.courier.answer = None
    while made.world.records.switch(made.id).switch.trying:
        live(made, 1)
    assert until(made, Stage.RELEASED, 60) >= PLAN.grace // TICK


def a_wall_clock_set_forward_moves_nothing(made: Dossier) -> None:
    made.world.beat()
    made.world.clock.wall_off += 10 * (PLAN.ladder())
    live(made, 5)
    assert made.stage is Stage.ARMED


def an_outage_does_not_count(made: Dossier) -> None:
    live(made, 10)
    made.world.reachable = False
    live(made, 200)
    assert made.stage is Stage.ARMED


def a_letter_goes_out_although_its_first_deliverer_died(made: Dossier) -> None:
    made.world.delivering = False
    until(made, Stage.REMINDED, 80)
    made.world.courier.carried.clear()
    claimed = outbox.claim(made.world.records, 100, 10 * TICK)
    assert len(claimed) == 1
    # The deliverer dies here, before it has said a word to anybody.
    live(made, 5)
    assert made.world.deliver() == 0
    live(made, 6)
    made.world.deliver()
    assert [parcel.to for parcel in made.world.courier.carried] == ["ana@example.org"]


def a_check_in_between_looking_and_moving_wins(made: Dossier) -> None:
    until(made, Stage.GRACE, 200)
    keeper = made.world.watch
    late = keeper._late

    def then_she_checks_in(now: Moment) -> Iterator[list[str]]:
        found = list(late(now))
        if found:
            made.hers.check_in()
        return iter(found)

    keeper._late = then_she_checks_in  # type: ignore[method-assign]
    live(made, PLAN.grace // TICK + 5)
    assert made.stage is Stage.ARMED


def a_letter_sent_twice_is_one_letter(made: Dossier) -> None:
    seen: list[str] = []

    def lose_the_answer(parcel: Parcel) -> TemporaryFailure:
        seen.append(parcel.message_id)
        return TemporaryFailure("the line went dead after DATA")

    made.world.courier.answer = lose_the_answer
    until(made, Stage.REMINDED, 80)
    live(made, 20)
    assert len(seen) >= 3
    assert len(set(seen)) == 1


def a_check_in_after_the_release_moves_nothing(made: Dossier) -> None:
    until(made, Stage.RELEASED, 300)
    _, refused = made.hers.check_in()
    assert made.stage is Stage.RELEASED
    assert [each.dossier for each in refused] == [made.id]


def a_check_in_is_stamped_with_its_own_moment(made: Dossier) -> None:
    live(made, 30)
    # Nobody ticks, and she checks in meanwhile.
    made.world.clock.at += 2 * TICK
    made.hers.check_in()
    assert until(made, Stage.REMINDED, 80) >= PLAN.every // TICK


def a_crash_while_releasing_leaves_all_or_nothing(made: Dossier) -> None:
    until(made, Stage.GRACE, 200)

    def no_disk(*given: object) -> None:
        raise Conflict("The power went.", code="busy")

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Records, "add_release", no_disk)
        live(made, PLAN.grace // TICK + 5)
    released = made.world.records.release(made.id) is not None
    assert released == (made.stage is Stage.RELEASED)
    made.world.reopen()
    until(made, Stage.RELEASED, 20)
    assert made.world.records.release(made.id) is not None


def sign(made: Dossier, person: Person, climb: int | None = None) -> wire.Submission:
    ladder = made.world.records.switch(made.id).switch.ladder if climb is None else climb
    server, seq = made.world.custodian.hash, person.account.seq + 1
    given = statements.Hold(server, made.id, seq, person.nonce(), ladder, "reached", 1)
    return wire.Submission(person.sign(given))


def held_by(made: Dossier, person: Person, given: wire.Submission | None = None) -> bool:
    """Whether time stands still after this person has signed."""
    world, submission = made.world, given or sign(made, person)
    before = world.records.switch(made.id).switch.held
    with suppress(AfterwordError):
        orders.submit(world.records, world.custodian, person.account, made.id, submission, short=True)
    after = world.records.switch(made.id).switch
    return after.held is not None and after.held != before


def hold_it_out(made: Dossier, person: Person) -> None:
    assert held_by(made, person)
    live(made, made.plan.ladder() // TICK + 1)


def one_colleague_holds_twice_in_a_climb(made: Dossier) -> None:
    """Also if the process dies in between, and whatever stage it is in."""
    one = made.readers[0]
    until(made, Stage.REMINDED, 100)
    hold_it_out(made, one)
    made.world.reopen()
    until(made, Stage.WARNED, 100)
    hold_it_out(made, one)
    made.world.reopen()
    assert not held_by(made, one)
    until(made, Stage.GRACE, 100)
    assert not held_by(made, one)
    until(made, Stage.RELEASED, 100)


def a_third_hold_needs_two_different_people(made: Dossier) -> None:
    one, two, _ = made.readers
    until(made, Stage.WARNED, 200)
    hold_it_out(made, one)
    hold_it_out(made, one)
    assert not held_by(made, one)
    assert not held_by(made, one)
    assert held_by(made, two)


def a_hold_counts_for_the_climb_it_was_signed_in(made: Dossier) -> None:
    one, two, _ = made.readers
    until(made, Stage.REMINDED, 100)
    hold_it_out(made, one)
    hold_it_out(made, one)
    assert not held_by(made, one)
    used, kept = sign(made, two), sign(made, two)
    assert held_by(made, two, used)
    made.hers.check_in()
    until(made, Stage.REMINDED, 200)
    assert not held_by(made, two, used)
    assert not held_by(made, two, kept)
    # This climb has two of its own; what was signed in the last is no first signature in this.
    hold_it_out(made, one)
    hold_it_out(made, one)
    assert not held_by(made, two)


def a_check_in_ends_a_hold(made: Dossier) -> None:
    until(made, Stage.WARNED, 200)
    assert held_by(made, made.readers[0])
    made.hers.check_in()
    assert until(made, Stage.RELEASED, 300) <= made.plan.ladder() // TICK + 20


def a_crowd_waits_once(made: Dossier) -> None:
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr(crowds, "FEW", 0)
        until(made, Stage.GRACE, 200)
        lived = until(made, Stage.RELEASED, 200)
    assert 2 * made.plan.grace // TICK <= lived <= 2 * made.plan.grace // TICK + 5


def a_forgotten_cancellation_costs_a_whole_cooling_time(made: Dossier) -> None:
    change = made.hers.order(made.id, statements.Destroy)
    live(made, 40)
    image = made.world.snapshot()
    made.hers.order(made.id, statements.Cancel, change=change)
    seen, _ = made.hers.check_in()
    made.world.rewind(Snapshot(image.database, copy.copy(made.world.clock), image.objects))
    made.hers.check_in(made.hers.checkin_request(made.hers.account.seq + 5, seen.decode()))
    cooling = made.cooling // TICK
    assert cooling - 1 <= until(made, Stage.DESTROYED, cooling + 3)


SCENES: dict[str, Callable[[Dossier], None]] = {
    scene.__name__: scene
    for scene in (
        grace_is_lived_in_full_after_its_letter,
        a_wall_clock_set_forward_moves_nothing,
        an_outage_does_not_count,
        a_letter_goes_out_although_its_first_deliverer_died,
        a_check_in_between_looking_and_moving_wins,
        a_letter_sent_twice_is_one_letter,
        a_check_in_after_the_release_moves_nothing,
        a_check_in_is_stamped_with_its_own_moment,
        a_crash_while_releasing_leaves_all_or_nothing,
        one_colleague_holds_twice_in_a_climb,
        a_third_hold_needs_two_different_people,
        a_hold_counts_for_the_climb_it_was_signed_in,
        a_check_in_ends_a_hold,
        a_crowd_waits_once,
        a_forgotten_cancellation_costs_a_whole_cooling_time,
    )
}


@pytest.mark.parametrize("name", SCENES)
def test_the_engine_as_it_is_passes_every_scene(armed: Dossier, name: str) -> None:
    SCENES[name](armed)


MISTAKES = [
    (mistakes.grace_reckoned_from_the_last_check_in, grace_is_lived_in_full_after_its_letter),
    (mistakes.wall_clock_used, a_wall_clock_set_forward_moves_nothing),
    (mistakes.outage_counted, an_outage_does_not_count),
    (mistakes.letter_marked_sent_before_sending, a_letter_goes_out_although_its_first_deliverer_died),
    (mistakes.check_then_act, a_check_in_between_looking_and_moving_wins),
    (mistakes.no_stable_message_id, a_letter_sent_twice_is_one_letter),
    (mistakes.late_check_in_accepted, a_check_in_after_the_release_moves_nothing),
    (mistakes.stamps_from_the_last_tick, a_check_in_is_stamped_with_its_own_moment),
    (mistakes.release_split_over_two_transactions, a_crash_while_releasing_leaves_all_or_nothing),
    (mistakes.holds_counted_in_the_process, one_colleague_holds_twice_in_a_climb),
    (mistakes.holds_counted_by_stage, one_colleague_holds_twice_in_a_climb),
    (mistakes.a_third_hold_by_one, a_third_hold_needs_two_different_people),
    (mistakes.the_same_person_signs_twice, a_third_hold_needs_two_different_people),
    (mistakes.a_hold_that_may_be_replayed, a_hold_counts_for_the_climb_it_was_signed_in),
    (mistakes.a_signature_of_an_earlier_climb, a_hold_counts_for_the_climb_it_was_signed_in),
    (mistakes.a_hold_that_outlives_the_check_in, a_check_in_ends_a_hold),
    (mistakes.a_crowd_that_waits_twice, a_crowd_waits_once),
    (mistakes.a_crowd_that_nobody_counts, a_crowd_waits_once),
    (
        mistakes.a_forgotten_cancellation_stays_forgotten,
        a_forgotten_cancellation_costs_a_whole_cooling_time,
    ),
]


@pytest.mark.parametrize(("mistake", "scene"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES])
def test_each_mistake_is_caught(
    armed: Dossier,
    monkeypatch: pytest.MonkeyPatch,
    mistake: mistakes.Mistake,
    scene: Callable[[Dossier], None],
) -> None:
    with monkeypatch.context() as planted:
        mistake(planted, armed)
        with pytest.raises(AssertionError):
            scene(armed)
    tally.killed(mistakes.name_of(mistake), by=f"test_mistakes: {scene.__name__.replace('_', ' ')}")


def test_every_mistake_of_the_threat_model_is_planted() -> None:
    threats = set(mistakes.NAMED.values())
    assert threats <= {mistake for mistake, _ in MISTAKES}
    assert len(threats) == 9
