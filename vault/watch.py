"""The one way in which a switch moves, and the watch that moves it when nobody does.

Rule of this room: load, step, save where the version still matches, post the letters as rows, note it in the
history; all in one transaction. Running it twice is harmless, never running it is not.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from vault import alarms, crowds, envelope, ledger, notices, release, statements, switch, wire
from vault.custodian import Custodian
from vault.errors import AfterwordError, Conflict, Damaged, DiskFailed, NoSpace, NotFound, is_damage
from vault.letters import LetterKind
from vault.service import GAP, TAKEOVER_TICKS, Moment, Service
from vault.statements import CheckIn
from vault.storage.records import Records
from vault.storage.records.rows import Account, Dossier, Letter
from vault.storage.records.switches import Versioned
from vault.switch import (
    LATE,
    Crowded,
    Elapsed,
    Event,
    Landed,
    Renewed,
    Replanned,
    Restored,
    Stage,
    Tried,
    Waited,
)

BATCH: Final = 200
# What she is waited for: the letter that begins each late stage.
STAGE_LETTERS: Final = frozenset({LetterKind.CHECK_IN, LetterKind.LAST_WARNING, LetterKind.LAST_CALL})
_BELOW: Final = (-(2**63), "")

log = logging.getLogger("afterword.watch")


def apply(
    records: Records,
    custodian: Custodian,
    now: Moment,
    dossier: str,
    event: Event,
    *,
    seen_release: release.Seen | None = None,
) -> switch.Switch:
    """Inside the caller's transaction: let one event happen to one dossier's switch.

    `seen_release` goes with `Recalled`: the very statement that was signed then, which is the release from now on.
    """
    row = records.dossier(dossier)
    if row is None:
        raise NotFound("There is no such dossier.")
    seen = records.switch(dossier)
    reachable = records.reachable(row.journalist)
    # What is compared with the time uses it as it is; what begins a dwell uses it rounded up.
    at = now.served if isinstance(event, Elapsed | Tried | Waited) else max(now.stamp, seen.switch.entered)
    after, said = switch.step(seen.switch, event, at, reachable=reachable)
    if after is seen.switch:
        return after
    records.save_switch(seen, after, now.wall)
    if after.stage is Stage.ARMED and seen.begun != now.life and not isinstance(event, Renewed | Replanned):
        records.note_ladder(dossier, now.life)
    notices.post(records, custodian, now, row, after, said)
    if after.stage is not seen.switch.stage:
        ledger.note(
            records,
            now,
            row.journalist,
            "moved",
            dossier=dossier,
            before=seen.switch.stage.value,
            after=after.stage.value,
            by=type(event).__name__.lower(),
        )
    if isinstance(event, Waited):
        ledger.note(records, now, row.journalist, "waited", dossier=dossier)
        crowds.tell_waiting(records, custodian, now)
    if after.stage is Stage.RELEASED:
        release.let_go(records, custodian, now, row, seen_release)
    if after.stage in (Stage.RELEASED, Stage.DESTROYED):
        # They decide no release, so it does not matter whether they read.
        records.withdraw_letters_of_changes(dossier, now.lived)
        records.drop_changes_of_dossier(dossier)
    if after.stage is Stage.DESTROYED:
        records.destroy_dossier(dossier)
    return after


def landed(records: Records, custodian: Custodian, now: Moment, letter: Letter) -> None:
    """A letter was accepted: a stage that waited for just this one runs from now. An alarm that arrived after it
    was over is followed by its all-clear."""
    alarms.landed(records, custodian, now, letter)
    dossier = None if letter.dossier is None else records.dossier(letter.dossier)
    if dossier is None:
        return
    kind = LetterKind(letter.kind)
    if kind in STAGE_LETTERS and letter.letter is not None:
        apply(records, custodian, now, dossier.id, Landed(letter.letter))
    stage = records.switch(dossier.id).switch.stage
    if kind in notices.ALARMS and (
        stage is Stage.PAUSED or (stage is Stage.ARMED and _alive_since(records, dossier, letter))
    ):
        notices.all_clear(records, custodian, now, dossier, LetterKind.ALL_CLEAR, letter)


def _alive_since(records: Records, dossier: Dossier, letter: Letter) -> bool:
    """Whether she has checked in since this alarm was written: a switch that was given all its time again is armed
    as well, and nobody has heard of her."""
    last = records.last_checkin(dossier.journalist)
    try:
        return last is not None and ledger.accepted_at(last) >= letter.posted
    except AfterwordError:
        # An all-clear too few is bearable; a letter that arrived and is sent again for ever is not.
        return False


def check_in(
    records: Records, custodian: Custodian, request: wire.CheckInRequest
) -> tuple[bytes, list[wire.NotMoved]]:
    """Take a signed proof of life: every switch of hers that can move moves, the rest is reported."""
    signed = request.statement.encode()
    with records.reading():
        known = records.account_with_card(request.account)
    # Of a card that nobody here has, no key verifies anything: the same answer as to a forged signature. And what
    # is forged never gets as far as the lock that real check-ins queue for.
    key = custodian.card.card.checkin if known is None else known.checkin
    given = statements.read(signed, envelope.VerifyKey.read(key), CheckIn)
    with records.transaction() as now:
        account = records.account_with_card(request.account)
        if account is None or account.checkin != key:
            raise NotFound("This server knows no such account.")
        stored = ledger.answered(records, signed)
        if stored is not None:
            # The same answer, and the truth of today: what cannot be moved now was not moved by it either.
            return stored.acknowledgement, _unmoved(records, now, account)
        known_to_her = ledger.present(records, custodian, now, account, request.last)
        # Her nonce is of the life that she asked it in.
        ledger.check(records, custodian, now, account, given)
        now = known_to_her.now
        refused = _unmoved(records, now, account)
        left = {each.dossier for each in refused}
        for dossier in records.names_of(account.id):
            if dossier not in left:
                apply(records, custodian, now, dossier, switch.CheckIn())
                make_up_for_silence(records, custodian, now, dossier)
        if known_to_her.lost:
            give_time_again(records, custodian, now, account.id)
        records.set_checked_in(account.id, now.wall)
        return ledger.acknowledge(records, custodian, now, account.id, signed, given), refused


def make_up_for_silence(records: Records, custodian: Custodian, now: Moment, dossier: str) -> None:
    """A restore ends an alarm and tells nobody so, since it knows nothing about her. Now she has spoken, whatever has
    happened since. After the move that it brought, which tells those of the present climb."""
    row = records.dossier(dossier)
    if row is not None and records.switch(dossier).anew is not None:
        notices.tell_unrelieved(records, custodian, now, row)


def _unmoved(records: Records, now: Moment, account: Account) -> list[wire.NotMoved]:
    """Those that a check-in cannot move, or that cannot be read: they must not cost her the others."""
    refused = []
    for dossier in records.names_of(account.id):
        try:
            records.dossier(dossier)
            seen = records.switch(dossier).switch
            switch.step(seen, switch.CheckIn(), max(now.stamp, seen.entered), reachable=False)
        except AfterwordError as reason:
            refused.append(wire.NotMoved(dossier, reason.code, str(reason)))
    return refused


def give_time_again(records: Records, custodian: Custodian, now: Moment, account: str) -> None:
    """This server has forgotten something of this person's: a check-in may be among it, so every switch that they
    are concerned with has its whole ladder before it again. Once in each life of the server, whoever asks."""
    for dossier in (*records.names_of(account), *records.names_shared_with(account)):
        try:
            restored(records, custodian, now, dossier)
        except Exception as wrong:
            if not is_damage(wrong):
                raise
            # What does not read stands still alone; neither the others nor this person must stand still with it.
            log.error("dossier %s: no time can be given again: %s", dossier, type(wrong).__name__)


def restored(records: Records, custodian: Custodian, now: Moment, dossier: str) -> None:
    """A whole new ladder for a switch that may have forgotten a check-in, once in each life of the server. One that
    began its ladder in this life has forgotten nothing."""
    if _is_owed(records.switch(dossier), now):
        apply(records, custodian, now, dossier, Restored())
        # Only what was given is noted as given.
        records.note_anew(dossier, now.life)


def _is_owed(seen: Versioned, now: Moment) -> bool:
    return now.life not in (seen.begun, seen.anew)


@dataclass(slots=True)
class Ticked:
    """What one tick did."""

    moved: int = 0
    silent: int = 0  # of these, how many have just fallen silent
    standing: list[str] = field(default_factory=list)


class Watch:
    """Remembers nothing that matters: only what it saw last of a row that another host was counting on."""

    def __init__(self, records: Records, custodian: Custodian, *, mass_hold: bool = True) -> None:
        self._records = records
        self._custodian = custodian
        self._mass_hold = mass_hold
        # Whoever watched before may have died between moving a crowd and counting it.
        self._counted = False
        self._seen: tuple[Service, int] | None = None
        self._lookout = alarms.Lookout(records, custodian)

    def tick(self) -> Ticked:
        """Advance time and move what is due, one move for each switch. Raises `Damaged` if the database is."""
        done = Ticked()
        with self._records.transaction() as now:
            row = self._records.service()
            before = self._lookout.last_seen()
            boot = self._records.clock.boot()
            if now.exact:
                self._records.save_beat(boot)
        if not now.exact:
            self._consider_take_over(now)
            return done
        if row is not None and before is not None:
            self._lookout.look(row, before)
        if row is None or boot - row.grown > GAP:
            # What ran out just before a long gap waits for its end, when late stages begin anew.
            return done
        for number, names in enumerate(self._late(now)):
            if number:
                # A check-in that waits for the lock must not wait for ten thousand moves.
                self._records.db.give_way()
            self._move(names, done)
        if done.silent:
            self._counted = False
        if self._mass_hold and not self._counted:
            self._counted = self._mark_crowd(done)
        return done

    def _late(self, now: Moment) -> Iterator[list[str]]:
        # The list is made before anything moves, so that no switch is moved twice in one tick. It begins below every
        # number, and ends where a page brings nothing new: a damaged one must neither hide a switch nor be found for
        # ever.
        names: list[str] = []
        behind = _BELOW
        while page := self._records.switches_behind(now.era, BATCH, behind):
            names += [dossier for _, dossier in page]
            if page[-1] == behind:
                break
            behind = page[-1]
        known = set(names)
        after = _BELOW
        while due := self._records.due_switches(now.served, BATCH, after):
            names += [dossier for _, dossier in due if dossier not in known]
            if due[-1] == after:
                break
            after = due[-1]
        # What no time would ever reach is looked at as well, so that it is missed.
        names += self._records.switches_out_of_time(BATCH)
        for start in range(0, len(names), BATCH):
            yield names[start : start + BATCH]

    def _move(self, names: list[str], done: Ticked) -> None:
        try:
            with self._records.transaction() as now:
                after = [self._move_one(now, name) for name in names]
            done.moved += sum(each is not None for each in after)
            done.silent += sum(each is Stage.REMINDED for each in after)
        except DiskFailed:
            raise
        except Exception as reason:
            if len(names) == 1:
                log.error("dossier %s stands still: %s", names[0], type(reason).__name__)
                done.standing.append(names[0])
                return
            for name in names:
                self._move([name], done)

    def _move_one(self, now: Moment, dossier: str) -> Stage | None:
        seen = self._records.switch(dossier)
        event = switch.next_event(seen.switch, now.served, now.era)
        if event is None:
            return None
        if not self._may_have_forgotten(now, seen):
            return apply(self._records, self._custodian, now, dossier, event).stage
        restored(self._records, self._custodian, now, dossier)
        return Stage.ARMED

    def _may_have_forgotten(self, now: Moment, seen: Versioned) -> bool:
        """Whether this server was set back since the ladder began: a check-in may be missing that nobody has shown.
        Asked only when time would move it, so that noticing a setback touches no more switches than are due."""
        return (
            _is_owed(seen, now)
            and (seen.switch.stage is Stage.ARMED or seen.switch.stage in LATE)
            and self._records.is_after_setback(now.life)
        )

    def _mark_crowd(self, done: Ticked) -> bool:
        """Whether all of it that reads is marked now; the rest waits for the next tick."""
        with self._records.reading() as now:
            if not crowds.is_wave(self._records, now):
                return True
        since = now.served - crowds.WITHIN
        damaged: set[str] = set()
        while names := [
            each for each in self._records.newly_late(since, BATCH + len(damaged)) if each not in damaged
        ]:
            self._records.db.give_way()
            try:
                damaged |= self._mark(names, done)
            except (NoSpace, Conflict) as passing:
                log.error("a crowd is marked in part only: %s", type(passing).__name__)
                return False
        return True

    def _mark(self, names: list[str], done: Ticked) -> set[str]:
        """Those that could not be marked."""
        try:
            with self._records.transaction() as now:
                marked = sum(self._mark_one(now, name) for name in names)
                if marked:
                    crowds.note(self._records, self._custodian, now, marked)
        except DiskFailed:
            raise
        except Exception as reason:
            if len(names) > 1:
                return {wrong for name in names for wrong in self._mark([name], done)}
            if isinstance(reason, NoSpace | Conflict) and not is_damage(reason):
                raise
            log.error("dossier %s stands still: %s", names[0], type(reason).__name__)
            done.standing.append(names[0])
            return set(names)
        return set()

    def _mark_one(self, now: Moment, dossier: str) -> bool:
        """Whether it was this watch that marked it."""
        before = self._records.switch(dossier).switch.crowd
        return apply(self._records, self._custodian, now, dossier, Crowded()).crowd is not before

    def _consider_take_over(self, now: Moment) -> None:
        row = self._records.service()
        boot = self._records.clock.boot()
        if row is None:
            raise Damaged("The row of service time is gone.")
        if self._seen is None or self._seen[0] != row:
            self._seen = (row, boot)
        elif boot - self._seen[1] >= TAKEOVER_TICKS * now.tick:
            self._records.take_over(self._seen[0])
            self._seen = None
