"""What the watch notices about its own server, and who is told: service that stands still, ticks that were missed, a
clock on the wall that jumps.

Rule of this room: it moves no switch, and nothing it does can keep one from moving. Whoever was told of trouble hears
that it is over, each once, however many watches there are.
"""

import logging
from enum import IntEnum
from typing import Final

from vault import channels, outbox
from vault.clock import MINUTE, SECOND, Clock
from vault.custodian import Custodian
from vault.errors import Damaged, DiskFailed
from vault.letters import Facts, LetterKind, Trouble
from vault.service import FRESH_TICKS, GAP, Moment, Service
from vault.storage.records import Records
from vault.storage.records.gaps import Vigil
from vault.storage.records.rows import Address, Letter

# Ten minutes, an hour and a day of a server that ticks every five seconds; rehearsals tick faster and alarm sooner.
STILL_TICKS: Final = 120
AGAIN_TICKS: Final = 720
DAY_TICKS: Final = 17_280
# How long after its time a switch is called standing still.
LATE_TICKS: Final = 10
JUMP: Final = 5 * MINUTE
BATCH: Final = 200

log = logging.getLogger("afterword.alarms")


class Alarm(IntEnum):
    """How far an outage has been told; a column holds it, so the numbers never change."""

    QUIET = 0
    OPERATOR = 1
    TELLING = 2
    EVERYBODY = 3
    ENDING = 4


class GapKind:
    """What is noted. `STALL`: the watch did not tick. `TAKEOVER`: another host, or a new start of this one, counts on.
    `OUTAGE`: nobody got in. `WALL`: the clock on the wall jumped."""

    STALL = "stall"
    TAKEOVER = "takeover"
    OUTAGE = "outage"
    WALL = "wall"


class Lookout:
    """One watch's eye on its own server. Remembers only since when it has been looking."""

    def __init__(self, records: Records, custodian: Custodian) -> None:
        self._records = records
        self._custodian = custodian
        self._begun: int | None = None

    def last_seen(self) -> Vigil | None:
        """What is remembered of trouble, read in the tick's own transaction; None where it does not read."""
        try:
            return self._records.vigil()
        except DiskFailed:
            raise
        except Damaged as wrong:
            log.error("no alarm can be raised: %s", type(wrong).__name__)
            return None

    def look(self, row: Service, seen: Vigil) -> None:
        """After a tick of the host that counts: `row` as it is now, `seen` as it was before the tick. On a quiet tick
        it only compares; whatever goes wrong here must not cost anybody a move."""
        try:
            self._look(row, seen)
        except Exception as wrong:
            log.error("an alarm could not be raised: %s", type(wrong).__name__)

    def _look(self, row: Service, seen: Vigil) -> None:
        records = self._records
        boot = records.clock.boot()
        if self._begun is None:
            self._begun = boot
        stalled = None if seen.beat is None else row.at - seen.beat
        if stalled is not None and stalled > GAP:
            with records.transaction() as now:
                records.note_gap(GapKind.STALL, stalled, now.lived, now.wall)
        _mind_wall(records, self._custodian, row, seen)
        # A watch that has just begun has not knocked yet: what stood still without it is not the door's fault.
        if boot - self._begun >= FRESH_TICKS * records.tick:
            _mind_door(records, self._custodian, row, seen)


def ailments(records: Records, mail: bool) -> tuple[str, ...]:
    """What is wrong with this server just now, as the codes of `doctor`. Cheap, however many switches there are.

    `mail`: letters are meant to go out from here.
    """
    with records.reading() as now:
        return ailing(records, now, mail)


def ailing(records: Records, now: Moment, mail: bool) -> tuple[str, ...]:
    """The same, inside a reading."""
    row, seen = records.service(), records.vigil()
    if row is None or seen is None:
        raise Damaged("The row of service time is gone.")
    tick = records.tick
    due = records.oldest_due(now.lived) if mail else None
    wrong = {
        "not-ticking": not fresh(beat_age(records.clock, row, seen.beat), tick),
        "door-shut": row.stood > FRESH_TICKS * tick,
        "switch-stands-still": bool(records.due_switches(now.served - LATE_TICKS * tick, 1)),
        "mail-dead": mail and channels.standstill(records, now) is not None,
        "letters-waiting": due is not None and now.lived - due > AGAIN_TICKS * tick,
        "not-delivering": mail and now.lived - (seen.delivered or 0) > STILL_TICKS * tick,
    }
    return tuple(code for code, so in wrong.items() if so)


def ticking(records: Records) -> bool:
    """Whether the watch itself has ticked lately: time is moved on by every transaction, switches only by the watch."""
    row = records.service()
    if row is None:
        raise Damaged("The row of service time is gone.")
    return fresh(beat_age(records.clock, row, records.last_beat()), records.tick)


def beat_age(clock: Clock, row: Service, beat: int | None) -> int | None:
    """How long ago (ms) the watch ticked on this host; None if it never did, or if another host keeps the time."""
    if beat is None or row.boot != clock.boot_id():
        return None
    age = clock.boot() - beat
    return age if age >= 0 else None


def fresh(age: int | None, tick: int) -> bool:
    """Whether what recurs with the ticks was seen so lately that it is not missed yet."""
    return age is not None and age <= FRESH_TICKS * tick


def lead(clock: Clock) -> int | None:
    """Wall minus boot, ms; None if whoever asked was held up between the two readings."""
    before = clock.boot()
    wall = clock.wall()
    return wall - before if clock.boot() - before < SECOND else None


def _mind_wall(records: Records, custodian: Custodian, row: Service, seen: Vigil) -> None:
    ahead = lead(records.clock)
    if ahead is None:
        return
    jumped = 0 if seen.lead is None or seen.lead_boot != row.boot else ahead - seen.lead
    if seen.lead is not None and seen.lead_boot == row.boot and abs(jumped) <= JUMP:
        return
    with records.transaction() as now:
        before = records.newest_gap(GapKind.WALL)
        records.save_lead(ahead, row.boot)
        if not jumped:
            return
        records.note_gap(GapKind.WALL, jumped, now.lived, now.wall)
        # A clock that swings would otherwise fill the operator's inbox.
        if before is None or now.lived - before.lived > DAY_TICKS * records.tick:
            facts = Facts(trouble=Trouble.CLOCK_JUMPED.value)
            outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_TROUBLE, facts)


def _mind_door(records: Records, custodian: Custodian, row: Service, seen: Vigil) -> None:
    if seen.alarm == Alarm.QUIET and row.stood <= STILL_TICKS * records.tick:
        return
    if seen.alarm == Alarm.OPERATOR and 0 < row.stood <= DAY_TICKS * records.tick:
        return
    if seen.alarm == Alarm.EVERYBODY and row.stood:
        return
    with records.transaction() as now:
        fresh, vigil = records.service(), records.vigil()
        if fresh is None or vigil is None:
            raise Damaged("The row of service time is gone.")
        _next(records, custodian, now, fresh, vigil)


def _next(records: Records, custodian: Custodian, now: Moment, row: Service, seen: Vigil) -> None:
    """One step of an outage, in the caller's transaction, from what the row says by now."""
    tick = records.tick
    match Alarm(seen.alarm):
        case Alarm.QUIET:
            before = records.newest_gap(GapKind.OUTAGE)
            # Soon after another, only a longer one is worth a letter: a door that flaps is one trouble, not fifty.
            calm = before is None or now.lived - before.lived - (before.length or 0) > AGAIN_TICKS * tick
            if row.stood > (STILL_TICKS if calm else AGAIN_TICKS) * tick:
                number = records.note_gap(GapKind.OUTAGE, None, now.lived - row.stood, now.wall - row.stood)
                if records.save_alarm(seen, Alarm.OPERATOR, number, ""):
                    _tell_operator(records, custodian, now, Trouble.DOOR_SHUT, number)
        case Alarm.OPERATOR | Alarm.TELLING | Alarm.EVERYBODY if not row.stood:
            if records.save_alarm(seen, Alarm.ENDING, seen.outage, ""):
                _end(records, custodian, now, seen.outage)
        case Alarm.OPERATOR:
            if row.stood > DAY_TICKS * tick and records.save_alarm(seen, Alarm.TELLING, seen.outage, ""):
                _tell_operator(records, custodian, now, Trouble.DOOR_SHUT_LONG, seen.outage)
        case Alarm.TELLING:
            names = records.concerned(seen.told, BATCH)
            after = (Alarm.TELLING, names[-1]) if names else (Alarm.EVERYBODY, "")
            if records.save_alarm(seen, after[0], seen.outage, after[1]):
                for account in names:
                    outbox.post(
                        records,
                        custodian,
                        now,
                        LetterKind.OUTAGE,
                        account,
                        Facts(),
                        letter=_name(seen.outage),
                    )
        case Alarm.ENDING:
            told = records.addresses_told(_name(seen.outage), LetterKind.OUTAGE.value, seen.told, BATCH)
            after = (Alarm.ENDING, told[-1]) if told else (Alarm.QUIET, "")
            if records.save_alarm(seen, after[0], seen.outage, after[1]):
                for address in told:
                    _tell_over(records, custodian, now, address, seen.outage)


def _name(outage: int) -> str:
    return f"outage-{outage}"


def _tell_operator(
    records: Records, custodian: Custodian, now: Moment, trouble: Trouble, outage: int
) -> None:
    facts = Facts(trouble=trouble.value)
    outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_TROUBLE, facts, letter=_name(outage))


def _end(records: Records, custodian: Custodian, now: Moment, outage: int) -> None:
    """Service grows again: nothing more goes out about it that has not arrived, and the operator hears it if they
    heard of it."""
    begun = records.gap(outage)
    if begun is not None:
        records.end_gap(outage, now.lived - begun.lived)
    heard = any(each.state == "accepted" for each in records.operator_letters(_name(outage)))
    records.withdraw_named(_name(outage), now.lived)
    if heard:
        _tell_operator(records, custodian, now, Trouble.DOOR_OPEN, outage)


def _tell_over(records: Records, custodian: Custodian, now: Moment, address: str, outage: int) -> None:
    try:
        row: Address | None = records.address(address)
        if row is not None and not records.has_named(_name(outage), address, LetterKind.OUTAGE_OVER.value):
            outbox.post_to(
                records, custodian, now, LetterKind.OUTAGE_OVER, row, Facts(), letter=_name(outage)
            )
    except Damaged as wrong:
        log.error("address %s is not told that the outage is over: %s", address, type(wrong).__name__)


def landed(records: Records, custodian: Custodian, now: Moment, letter: Letter) -> None:
    """A letter about an outage that was carried while it ended arrives after all: the rest follows it."""
    if letter.letter is None or not letter.letter.startswith("outage-"):
        return
    outage = int(letter.letter.removeprefix("outage-"))
    over = records.gap(outage)
    if over is not None and over.length is None:
        return
    if letter.kind == LetterKind.OUTAGE.value and letter.address is not None:
        _tell_over(records, custodian, now, letter.address, outage)
    # The last word is of the same kind and name; it may be this very letter, or be on its way already.
    last = f'"{Trouble.DOOR_OPEN.value}"'.encode()
    if letter.kind == LetterKind.OPERATOR_TROUBLE.value and not any(
        last in each.facts for each in records.operator_letters(letter.letter)
    ):
        _tell_operator(records, custodian, now, Trouble.DOOR_OPEN, outage)
