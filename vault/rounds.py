"""What the processes of a server do again and again, one round at a time.

Rule of this room: a round ends. What fails in it is tried in the next one; only a disk that fails, or a database that
does not read, ends the process.
"""

import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vault import accounts, alarms, cooling, deposit, outbox, pruning, watch
from vault.clock import HOUR, MINUTE
from vault.compose import Vault, courier
from vault.couriers import Courier
from vault.couriers.heartbeat import Heartbeat
from vault.couriers.probe import Door
from vault.errors import Damaged, DiskFailed
from vault.outbox import Sender
from vault.scheduler import unheard
from vault.service import FRESH_TICKS, Moment, counts_on
from vault.storage.ballast import Ballast
from vault.storage.records import VITAL
from vault.storage.records.rows import Letter
from vault.turns import LINES, Turns

HOUSEKEEPING: Final = MINUTE
CHECKED: Final = HOUR
SLOW_MAIL: Final = MINUTE // 2
MARK_LIVES: Final = MINUTE
log = logging.getLogger("afterword.rounds")


def watch_ticker(vault: Vault, say: Callable[[str], None]) -> Callable[[], None]:
    """One beat of the watch: move what is due, let what has cooled take effect, now and then tidy up."""
    keeper = watch.Watch(vault.records, vault.custodian, mass_hold=vault.settings.mass_hold)
    ballast = Ballast(vault.settings.data, vault.settings.low_water)
    place = cooling.Place()
    standing: set[str] = set()
    tidied = [-HOUSEKEEPING]
    pruner = pruning.Pruner(vault.records)

    def tick() -> None:
        if ballast.mind():
            say("The disk is full. The room kept for check-ins is given up now; make room at once.")
        ticked = keeper.tick()
        cooling.take_effect(vault.records, vault.custodian, place)
        for dossier in set(ticked.standing) - standing:
            say(
                f"The switch of dossier {dossier} cannot be moved and stands still; see `afterword operator status`."
            )
        standing.clear()
        standing.update(ticked.standing)
        boot = vault.records.clock.boot()
        if boot - tidied[0] >= HOUSEKEEPING:
            tidied[0] = boot
            _tidy(vault, pruner)

    return tick


def examiner(vault: Vault) -> Callable[..., None]:
    """Reads what is vital, every page and index of it: an index that has lost a line would let its switch stand still
    for ever, and say nothing. Once before the first tick: whoever is started again after damage was found must not go
    on where it stopped. Then in a thread of its own, because a million switches take minutes; and it rests for twenty
    times as long as it took. `pulse` is called after each table."""
    rested = [0]

    def examine(pulse: Callable[[], None] = unheard) -> None:
        began = vault.records.clock.boot()
        if began >= rested[0]:
            for table in VITAL:
                vault.records.db.check(table)
                pulse()
            ended = vault.records.clock.boot()
            rested[0] = ended + 20 * (ended - began)

    return examine


def _tidy(vault: Vault, pruner: pruning.Pruner | None = None) -> None:
    """Housekeeping: an object store that does not work must not keep a single switch from moving."""
    try:
        accounts.forget_expired(vault.records)
        (pruner or pruning.Pruner(vault.records)).go_on()
        deposit.sweep(vault.records, vault.objects)
        # Whoever deleted a secret asked for this at once, and may have found a reader in the way.
        vault.records.db.forget(copies=False)
    except DiskFailed:
        raise
    except Exception as wrong:
        log.error("tidying up failed: %s", type(wrong).__name__)


def heartbeat(vault: Vault, outside: Heartbeat) -> Callable[[], None]:
    """Tell an outside watcher that all is well, now and then; once that it is not, and then nothing until it is."""
    clock, settings = vault.records.clock, vault.settings
    begun = clock.boot()
    cried = False

    def beat() -> None:
        nonlocal cried
        if clock.boot() - begun < FRESH_TICKS * settings.tick:
            return
        row = vault.records.service()
        if row is not None and not counts_on(row, clock.boot_id(), clock.boot(), settings.tick):
            return  # another host counts, and speaks
        try:
            ill = bool(alarms.ailments(vault.records, settings.mail is not None))
        except DiskFailed:
            raise
        except Damaged:
            ill = True  # if it is what moves switches, the tick finds it and stops
        if ill:
            cried = cried or outside.ill()
            return
        cried = False
        if outside.well():
            with vault.records.transaction() as now:
                vault.records.save_pulse(now.lived)

    return beat


def knock(vault: Vault, door: Door) -> bool:
    """Whether a check-in could come in through the public door, and to this very database: if another server stands
    at our address (the one this is a copy or a backup of), people check in there, and no time must count here."""
    mark = secrets.token_hex(32)
    with vault.records.transaction() as now:
        vault.records.leave_mark(mark, now.lived + MARK_LIVES)
    return door.opens(mark)


def note_probe(vault: Vault, reached: bool) -> None:
    """What the knock at the public door found."""
    if reached:
        vault.records.note_probe(vault.records.clock.boot())


def deliver_some(vault: Vault, courier: Courier, sender: Sender, turns: Turns | None = None) -> int:
    """Try letters that are due now; how many were accepted. One line of those that share `turns`, each with a courier
    of its own."""
    accepted = 0
    clock = vault.records.clock
    began = clock.boot()
    alone = turns is None
    turns = turns or turns_of(vault, courier, sender, lines=1)

    def landed(now: Moment, carried: Letter) -> None:
        watch.landed(vault.records, vault.custodian, now, carried)

    # Not for ever: its caller wants to know whether to stop.
    while clock.boot() - began <= SLOW_MAIL:
        with turns.next() as letter:
            if letter is None:
                break
            try:
                accepted += outbox.deliver(
                    vault.records,
                    vault.custodian,
                    courier,
                    sender,
                    letter,
                    landed,
                    random.random(),  # noqa: S311 jitter
                    turns.roads,
                )
            except DiskFailed:
                raise
            except Exception as wrong:
                # Its lease ends by itself; the letters behind it do not wait.
                log.error("letter %s was put aside: %s", letter.id, type(wrong).__name__)
    if alone:
        turns.give_back()
    return accepted


@dataclass(frozen=True, slots=True)
class Line:
    """One of several that carry letters at the same time, each from its own thread over its own connection."""

    vault: Vault
    courier: Courier
    sender: Sender
    turns: Turns

    def deliver(self) -> int:
        return deliver_some(self.vault, self.courier, self.sender, self.turns)

    def close(self) -> None:
        self.turns.give_back()
        self.courier.close()


def deliver_lines(vault: Vault, sender: Sender) -> tuple[Line, ...]:
    """All lines of one deliverer."""
    couriers = [courier(vault.settings) for _ in range(LINES)]
    turns = turns_of(vault, couriers[0], sender)
    return tuple(Line(vault, each, sender, turns) for each in couriers)


def turns_of(vault: Vault, courier: Courier, sender: Sender, lines: int = LINES) -> Turns:
    """Who is next, for so many lines together. A letter to the operator goes to every address in one go."""
    return Turns(vault.records, courier.longest * max(1, len(sender.operators)), lines)
