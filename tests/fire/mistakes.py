"""The mistakes that would make all of this worthless, each as somebody might make it.

Rule of this room: a mistake is planted from outside into the parts as they are, for as long as `plant` lasts.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.world import Dossier
from vault import cooling, holds, ledger, outbox, parcels, release, service, statements, switch, watch
from vault.couriers import Parcel
from vault.errors import AfterwordError
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Dossier as Row
from vault.storage.records.rows import Hold, Letter
from vault.switch import CheckIn, Elapsed, Stage, Switch

Mistake = Callable[[pytest.MonkeyPatch, Dossier], None]


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

    def claim_and_settle(records: Records, limit: int, length: int | None = None) -> list[Letter]:
        found = claim(records, limit, length)
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
    write = parcels.write

    def another_id(*given: object) -> list[Parcel]:
        return [replace(each, message_id=f"<{os.urandom(8).hex()}@x>") for each in write(*given)]  # type: ignore[arg-type]

    plant.setattr(outbox, "write_parcels", another_id)


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
            yield service.moment(row, self.clock.boot_id(), self.clock.boot(), self.clock.wall(), self.tick)

    plant.setattr(watch.Watch, "tick", only_the_watch_looks)
    plant.setattr(Records, "transaction", as_of_the_last_tick)


def release_split_over_two_transactions(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    let_go = release.let_go

    def later(records: Records, custodian: object, now: Moment, row: Row) -> None:
        with suppress(AfterwordError):
            let_go(records, custodian, now, row)  # type: ignore[arg-type]

    plant.setattr(release, "let_go", later)


def holds_counted_in_the_process(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    """And so forgotten with it."""
    counted: dict[int, int] = {}
    step = switch._hold

    def of_this_process(before: Switch, event: switch.Held, now: int) -> Switch:
        process = id(made.world.records)
        after = step(replace(before, holds=counted.get(process, 0), held=None), event, now)
        counted[process] = after.holds
        return after

    plant.setattr(switch.Switch, "__post_init__", lambda self: None)
    plant.setattr(switch, "_hold", of_this_process)
    plant.setattr(holds, "HOLDS_ALONE", 10**9)


def holds_counted_by_stage(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    enter = switch._enter
    plant.setattr(switch, "_enter", lambda *given, **more: replace(enter(*given, **more), holds=0, held=None))


def a_third_hold_by_one(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(switch, "HOLDS_ALONE", 10**9)
    plant.setattr(holds, "HOLDS_ALONE", 10**9)


def the_same_person_signs_twice(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    pending = holds.pending

    def under_another_name(*given: object) -> list[Hold]:
        return [msgspec.structs.replace(each, account="another") for each in pending(*given)]  # type: ignore[arg-type]

    plant.setattr(holds, "pending", under_another_name)


def a_hold_that_may_be_replayed(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    """Neither the stored answer, nor the nonce, nor `seq`, nor its climb is looked at."""
    plant.setattr(ledger, "answered", lambda records, signed: None)
    plant.setattr(ledger, "check", lambda *given: None)
    plant.setattr(ledger, "acknowledge", lambda *given, **more: b"")
    take = holds.take

    def whenever(
        records: Records, custodian: object, now: Moment, account: object, row: Row, *rest: Any
    ) -> None:
        _, given = rest
        climb = records.switch(row.id).switch.ladder
        again = msgspec.structs.replace(given, climb=climb, nonce=os.urandom(32).hex())
        fresh = statements.write(again, made.readers[1].keyring.sign)
        take(records, custodian, now, account, row, fresh, again, short=True)  # type: ignore[arg-type]

    plant.setattr(holds, "take", lambda *given, short: whenever(*given))


def a_signature_of_an_earlier_climb(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    of_climb = Records.holds_of

    def of_all(self: Records, dossier: str, ladder: int) -> list[Hold]:
        # One that found no second signer in its own climb.
        old = [msgspec.structs.replace(each, until=None) for each in of_climb(self, dossier, ladder - 1)[:1]]
        return [*old, *of_climb(self, dossier, ladder)]

    plant.setattr(Records, "holds_of", of_all)


def a_hold_that_outlives_the_check_in(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    enter = switch._enter

    def go_on_holding(before: Switch, to: Stage, now: int, **rest: Any) -> Switch:
        after = enter(before, to, now, **rest)
        left = 0 if before.held is None else max(0, before.held - now)
        return after if after.due is None else replace(after, due=after.due + left)

    plant.setattr(switch, "_enter", go_on_holding)


def a_crowd_that_waits_twice(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    save, waited = Records.save_switch, set[str]()

    def forget_the_first_time(self: Records, seen: Any, after: Switch, wall: int) -> None:
        if after.crowd is switch.Crowd.WAITED and seen.dossier not in waited:
            waited.add(seen.dossier)
            after = replace(after, crowd=switch.Crowd.YES)
        save(self, seen, after, wall)

    plant.setattr(Records, "save_switch", forget_the_first_time)


def a_crowd_that_nobody_counts(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(watch.Watch, "_mark_crowd", lambda self, done: None)


def a_server_that_forgot_gives_nobody_a_new_ladder(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(watch, "give_time_again", lambda *given: None)


def a_server_that_forgot_thinks_only_of_who_noticed(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(watch.Watch, "_may_have_forgotten", lambda *given: False)


def a_forgotten_cancellation_stays_forgotten(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    cooled = cooling.has_cooled
    plant.setattr(
        cooling,
        "has_cooled",
        lambda records, now, change: cooled(records, replace(now, life=change.life), change),
    )
    plant.setattr(cooling, "_tell_anew", lambda *given: None)


def a_restored_server_gives_nobody_a_new_ladder(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(watch, "restored", lambda *given: None)


def a_release_that_was_forgotten_proves_nothing(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    plant.setattr(ledger, "forgot_release", lambda records, custodian, now, *given: now)


def a_restore_throws_a_hold_away(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    def at_once(before: Switch, now: int, *, reachable: bool) -> Switch:
        return switch._enter(before, Stage.ARMED, now, reachable=reachable)

    plant.setattr(switch, "_restore", at_once)


def a_loss_that_is_over_ends_an_alarm(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    """Whenever in a life of the server did her ladder begin, whoever comes late gives it to her again."""
    plant.setattr(watch, "_is_owed", lambda seen, now: seen.anew != now.life)


def a_release_that_was_shown_again_is_signed_anew(plant: pytest.MonkeyPatch, made: Dossier) -> None:
    let_go = release.let_go
    plant.setattr(release, "let_go", lambda *given: let_go(*given[:4]))


NAMED = {
    "grace reckoned from the last check-in": grace_reckoned_from_the_last_check_in,
    "wall clock used": wall_clock_used,
    "outage counted": outage_counted,
    "letter marked sent before sending": letter_marked_sent_before_sending,
    "check-then-act": check_then_act,
    "no stable message id": no_stable_message_id,
    "a late check-in accepted after release": late_check_in_accepted,
    "stamps from the last tick": stamps_from_the_last_tick,
    "release split over two transactions": release_split_over_two_transactions,
}
"""Those that the threat model names, by its names."""


def name_of(mistake: Mistake) -> str:
    known = {planted.__name__: name for name, planted in NAMED.items()}
    return known.get(mistake.__name__, mistake.__name__.replace("_", " "))
