"""The mistakes that would make all of this worthless, planted one by one, and the scene in which each is caught.

A scene passes on the engine as it is and fails with its mistake in place: a suite that lets one live proves nothing.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.world import TICK, Dossier, Snapshot, World, an_armed_dossier
from vault import outbox, service, switch, watch
from vault.couriers import Parcel, TemporaryFailure
from vault.errors import AfterwordError, Conflict
from vault.plans import Plan
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Dossier as Row
from vault.storage.records.rows import Letter
from vault.switch import CheckIn, Elapsed, Stage, Switch

PLAN = Plan(60 * TICK, 30 * TICK, 30 * TICK, 40 * TICK)


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Dossier, Snapshot]]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    world = World(folder, short=True)
    made = an_armed_dossier(world, PLAN, cooling=50 * TICK)
    world.beat()
    yield made, world.snapshot()
    world.close()
    shutil.rmtree(folder, ignore_errors=True)


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
    with pytest.MonkeyPatch.context() as shorter:
        shorter.setattr(outbox, "LEASE", 10 * TICK)
        claimed = outbox.claim(made.world.records, 100)
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
    )
}


@pytest.mark.parametrize("name", SCENES)
def test_the_engine_as_it_is_passes_every_scene(armed: Dossier, name: str) -> None:
    SCENES[name](armed)


# mistakes


def grace_reckoned_from_the_last_check_in(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    begun: dict[str, int] = {}
    enter, runs = switch._enter, switch._runs

    def remember(before: Switch, to: Stage, now: int, **rest: object) -> Switch:
        if to is Stage.REMINDED:
            begun["armed"] = now - before.plan.every
        return shortened(enter(before, to, now, **rest))  # type: ignore[arg-type]

    def shortened(after: Switch) -> Switch:
        if after.stage is not Stage.GRACE:
            return after
        return replace(after, due=begun["armed"] + after.plan.ladder(), trying=False)

    plant.setattr(switch.Switch, "__post_init__", lambda self: None)
    plant.setattr(switch, "_enter", remember)
    plant.setattr(switch, "_runs", lambda before, now: shortened(runs(before, now)))


def wall_clock_used(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    clock = made.world.clock
    plant.setattr(type(clock), "boot", lambda self: self.wall())
    plant.setattr(service, "CLAMP_TICKS", 10**9)


def outage_counted(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(service, "FRESH_TICKS", 10**9)


def letter_marked_sent_before_sending(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    claim = outbox.claim

    def claim_and_settle(records: Records, limit: int) -> list[Letter]:
        found = claim(records, limit)
        with records.transaction() as now:
            for each in found:
                records.settle_letter(each.id, "accepted", now.lived)
        return found

    plant.setattr(outbox, "claim", claim_and_settle)


def check_then_act(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    """What was seen when the list was made is acted upon, whatever happened since."""

    def move(self: watch.Watch, now: Moment, dossier: str) -> int:
        records = self._records
        row = records.dossier(dossier)
        assert row is not None
        seen = records.switch(dossier)
        after, _ = switch.step(
            replace(seen.switch, stage=Stage.GRACE, due=seen.switch.entered, trying=False, ladder=1),
            Elapsed(),
            max(now.served, seen.switch.entered),
            reachable=True,
        )
        records.save_switch(seen, after, now.wall)
        return 1

    plant.setattr(switch.Switch, "__post_init__", lambda self: None)
    plant.setattr(watch.Watch, "_move_one", move)


def no_stable_message_id(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    write = outbox._write

    def another_id(*given: object) -> list[Parcel]:
        return [replace(each, message_id=f"<{os.urandom(8).hex()}@x>") for each in write(*given)]  # type: ignore[arg-type]

    plant.setattr(outbox, "_write", another_id)


def late_check_in_accepted(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setitem(switch.MOVES, Stage.RELEASED, {CheckIn: Stage.ARMED})  # type: ignore[arg-type]


def stamps_from_the_last_tick(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    ticking: list[bool] = []
    tick = watch.Watch.tick
    transaction = Records.transaction

    def only_the_watch_looks(self: watch.Watch) -> object:
        ticking.append(True)
        try:
            return tick(self)
        finally:
            ticking.pop()

    @contextmanager
    def as_of_the_last_tick(self: Records) -> Iterator[Moment]:
        if ticking:
            with transaction(self) as now:
                yield now
            return
        with self.db.transaction():
            row = self.service()
            assert row is not None
            yield service.moment(row, self.clock.boot_id(), self.clock.wall(), self.tick)

    plant.setattr(watch.Watch, "tick", only_the_watch_looks)
    plant.setattr(Records, "transaction", as_of_the_last_tick)


def release_split_over_two_transactions(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    let_go = watch.release.let_go

    def later(records: Records, custodian: object, now: Moment, row: Row) -> None:
        with suppress(AfterwordError):
            let_go(records, custodian, now, row)  # type: ignore[arg-type]

    plant.setattr(watch.release, "let_go", later)


MISTAKES = [
    (grace_reckoned_from_the_last_check_in, grace_is_lived_in_full_after_its_letter),
    (wall_clock_used, a_wall_clock_set_forward_moves_nothing),
    (outage_counted, an_outage_does_not_count),
    (letter_marked_sent_before_sending, a_letter_goes_out_although_its_first_deliverer_died),
    (check_then_act, a_check_in_between_looking_and_moving_wins),
    (no_stable_message_id, a_letter_sent_twice_is_one_letter),
    (late_check_in_accepted, a_check_in_after_the_release_moves_nothing),
    (stamps_from_the_last_tick, a_check_in_is_stamped_with_its_own_moment),
    (release_split_over_two_transactions, a_crash_while_releasing_leaves_all_or_nothing),
]


@pytest.mark.parametrize(("mistake", "scene"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES])
def test_each_mistake_is_caught(
    armed: Dossier,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch, Dossier], None],
    scene: Callable[[Dossier], None],
) -> None:
    with monkeypatch.context() as planted:
        mistake(planted, armed)
        with pytest.raises(AssertionError):
            scene(armed)
