"""The metronome: calls a function again and again, and knows nothing of what it does.

Rule of this room: all truth is in our rows, so losing or doubling any beat is harmless. One thing it must not do is
stand still: a beat that fails is logged and forgotten, the wall clock, which APScheduler reads, may jump, and whoever
started this process hears a pulse after each turn, so that one that hangs is noticed from outside.
"""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from vault.errors import Damaged

log = logging.getLogger("afterword.scheduler")
_quiet = logging.getLogger("afterword.scheduler.parts")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False

_MISSED_BEATS: Final = 3
_REVIVALS: Final = 3


@dataclass(frozen=True, slots=True)
class Chore:
    """Something else to be done now and then, in a thread of its own. `every` in ms."""

    name: str
    do: Callable[[], object]
    every: int


def unheard() -> None:
    """The pulse of a process that nobody listens to."""


def run_watch(
    tick: Callable[[], object],
    every: int,
    probe: Callable[[], bool],
    probe_every: int,
    on_probe: Callable[[bool], None],
    stop: threading.Event,
    chores: Sequence[Chore] = (),
    pulse: Callable[[], None] = unheard,
) -> None:
    """Tick every `every` ms and knock at the public door every `probe_every` ms, until `stop` is set. `pulse` is
    called after each tick, good or bad.

    `probe` may hang: it has a thread of its own, and `on_probe` hears what it found. Nothing stops the ticks but
    `Damaged`, from any of them: it is raised here after the last running call has ended.
    """

    def heard_tick() -> None:
        try:
            tick()
        finally:
            pulse()

    knock = Chore("probe", lambda: on_probe(probe()), probe_every)
    _run([Chore("tick", heard_tick, every), knock, *chores], stop)


def run_deliver(
    deliver: Callable[[], int],
    every: int,
    stop: threading.Event,
    pulse: Callable[[], None] = unheard,
    beside: Sequence[Callable[[], int]] = (),
) -> None:
    """Deliver what is waiting every `every` ms, and go on at once while there was something. `pulse` is called after
    each round. `beside`: further lines that do the same at the same time, each in a thread of its own."""

    def heard_round() -> int:
        try:
            return deliver()
        finally:
            pulse()

    def emptying(line: Callable[[], int]) -> Callable[[], None]:
        def empty_the_outbox() -> None:
            while not stop.is_set() and line():
                pass

        return empty_the_outbox

    names = [f"deliver beside {number}" for number, _ in enumerate(beside, 1)]
    others = [Chore(name, emptying(line), every) for name, line in zip(names, beside, strict=True)]
    _run([Chore("deliver", emptying(heard_round), every), *others], stop)


def until_told() -> threading.Event:
    """Set by the first SIGTERM or SIGINT. Call it before any thread is started.

    A thread waits for the signals: a handler would run inside of `Event.wait`, and could not take its lock.
    """
    told = threading.Event()
    wanted = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)

    def listen() -> None:
        signal.sigwait(wanted)
        told.set()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    return told


class _FromNow(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """Now, and then so long after the last turn was noticed.

    APScheduler's own interval would count up every turn that a wall clock put forward has passed over, one by one:
    with a clock set from 1970, hundreds of millions.
    """

    def __init__(self, every: int) -> None:
        self._every = timedelta(milliseconds=every)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return now if previous is None else now + self._every


class _Beat:
    """One thing to be done again and again; survives whatever it raises, except `Damaged`."""

    def __init__(self, chore: Chore, stop: threading.Event) -> None:
        self.name = chore.name
        self.trigger = _FromNow(chore.every)
        self.every = chore.every
        self.begun = 0
        self.ended = 0
        self.damaged: Damaged | None = None
        self._do = chore.do
        self._stop = stop

    def __call__(self) -> None:
        if self._stop.is_set():
            return
        self.begun += 1
        try:
            self._do()
        except Damaged as damaged:
            self.damaged = damaged
            self._stop.set()
        except Exception as wrong:  # whatever it is, the next beat may succeed
            log.error("%s failed: %s", self.name, type(wrong).__name__)
        finally:
            self.ended += 1


def _run(chores: Sequence[Chore], stop: threading.Event) -> None:
    beats = [_Beat(chore, stop) for chore in chores]
    scheduler = BackgroundScheduler(
        logger=_quiet,
        timezone="UTC",
        executors={beat.name: ThreadPoolExecutor(1) for beat in beats},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    for beat in beats:
        scheduler.add_job(beat, beat.trigger, id=beat.name, executor=beat.name)
    scheduler.start()
    try:
        _watch_over(scheduler, beats, stop)
    finally:
        stop.set()
        scheduler.shutdown(wait=True)
    for beat in beats:
        if beat.damaged is not None:
            raise beat.damaged


def _watch_over(scheduler: BackgroundScheduler, beats: list[_Beat], stop: threading.Event) -> None:
    """Begin a beat's schedule anew when it has missed several turns: the wall clock was put back.

    APScheduler waits for an instant of the wall clock. If somebody sets that clock back by a day, it waits a day.
    """
    turn = min(beat.every for beat in beats)
    idle = dict.fromkeys((beat.name for beat in beats), 0)
    revived = dict.fromkeys((beat.name for beat in beats), 0)
    seen = {beat.name: beat.begun for beat in beats}
    while not stop.wait(turn / 1000):
        for beat in beats:
            if beat.begun != seen[beat.name] or beat.begun != beat.ended:
                seen[beat.name], idle[beat.name], revived[beat.name] = beat.begun, 0, 0
                continue
            idle[beat.name] += turn
            if idle[beat.name] >= _MISSED_BEATS * beat.every:
                idle[beat.name] = 0
                revived[beat.name] += 1
                if revived[beat.name] > _REVIVALS:
                    # Not the clock, then. A new process is the better doctor.
                    raise RuntimeError(f"The metronome does not {beat.name} any more.")
                scheduler.reschedule_job(beat.name, trigger=beat.trigger)
