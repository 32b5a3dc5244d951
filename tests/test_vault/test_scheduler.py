"""The metronome beats through failures, hangs and jumping clocks, and stops when it must."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from apscheduler.schedulers import base

from vault.errors import Damaged, DiskFailed
from vault.scheduler import run_deliver, run_watch

PATIENCE = 60


class Turns:
    """Counts, fails as it was told, and sets `stop` after the last turn that is wanted."""

    def __init__(
        self, wanted: int, stop: threading.Event, fail: Callable[[int], None] = lambda turn: None
    ) -> None:
        self.count, self.wanted, self.stop, self.fail = 0, wanted, stop, fail

    def __call__(self) -> bool:
        self.count += 1
        if self.count >= self.wanted:
            self.stop.set()
        self.fail(self.count)
        return True


def raising(error: Exception) -> Callable[[int], None]:
    def fail(turn: int) -> None:
        raise error

    return fail


def an_end() -> threading.Event:
    """Set by the test; a timer sets it too, so that a metronome that stands still fails instead of hanging."""
    stop = threading.Event()
    timer = threading.Timer(PATIENCE, stop.set)
    timer.daemon = True
    timer.start()
    return stop


def test_the_watch_ticks_again_and_again_until_it_is_stopped() -> None:
    stop = an_end()
    tick = Turns(5, stop)
    run_watch(tick, 20, lambda: True, 1_000, lambda opened: None, stop)
    assert tick.count == 5


def test_a_tick_that_fails_does_not_stop_the_next_and_only_its_class_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop = an_end()
    tick = Turns(4, stop, raising(RuntimeError("the title of her dossier")))
    with caplog.at_level(logging.ERROR):
        run_watch(tick, 20, lambda: True, 1_000, lambda opened: None, stop)
    assert tick.count == 4
    assert "tick failed: RuntimeError" in caplog.text
    assert "title" not in caplog.text


def test_a_damaged_database_stops_the_watch_at_once() -> None:
    stop = an_end()
    tick = Turns(100, stop, raising(Damaged("This database does not read.")))
    with pytest.raises(Damaged, match="does not read"):
        run_watch(tick, 20, lambda: True, 1_000, lambda opened: None, stop)
    assert tick.count == 1


def test_a_probe_that_hangs_does_not_hold_up_a_tick() -> None:
    stop, hang = an_end(), threading.Event()
    tick = Turns(10, stop)

    def ten_ticks_then_let_go() -> None:
        tick()
        if stop.is_set():
            hang.set()

    def probe() -> bool:
        return hang.wait(PATIENCE)

    run_watch(ten_ticks_then_let_go, 20, probe, 20, lambda opened: None, stop)
    assert tick.count == 10


def test_what_the_probe_found_is_told_whether_good_or_bad() -> None:
    stop, heard = an_end(), []
    answers = iter([True, False, True])

    def on_probe(opened: bool) -> None:
        heard.append(opened)
        if len(heard) == 3:
            stop.set()

    run_watch(lambda: None, 1_000, lambda: next(answers), 20, on_probe, stop)
    assert heard == [True, False, True]


class JumpingClock(datetime):
    """The wall clock as APScheduler sees it."""

    offset = timedelta()

    @classmethod
    def now(cls, tz=None):  # type: ignore[no-untyped-def, override]  # as in the standard library
        return datetime.now(tz) + cls.offset


@pytest.mark.parametrize("years", [-30, 56])
def test_a_wall_clock_put_back_or_forward_by_decades_does_not_stop_the_ticks(
    monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    monkeypatch.setattr(base, "datetime", JumpingClock)
    monkeypatch.setattr(JumpingClock, "offset", timedelta())
    stop = an_end()

    def jump_after_two(turn: int) -> None:
        if turn == 2:
            JumpingClock.offset = timedelta(days=365 * years)

    tick = Turns(6, stop, jump_after_two)
    run_watch(tick, 20, lambda: True, 1_000, lambda opened: None, stop)
    assert tick.count == 6


def test_the_deliverer_goes_on_at_once_while_something_is_waiting() -> None:
    stop = an_end()
    waiting = iter([5, 3, 0])
    turns = 0

    def deliver() -> int:
        nonlocal turns
        turns += 1
        sent = next(waiting, 0)
        if not sent:
            stop.set()
        return sent

    run_deliver(deliver, 3_600_000, stop)
    assert turns == 3


def test_no_two_ticks_run_at_the_same_time() -> None:
    stop = an_end()
    running, most = 0, 0
    tick = Turns(5, stop)
    pause = threading.Event()

    def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        pause.wait(0.05)  # longer than the beat
        running -= 1
        tick()

    run_watch(slow, 10, lambda: True, 1_000, lambda opened: None, stop)
    assert most == 1


def test_a_metronome_whose_own_thread_has_died_ends_its_process_instead_of_standing_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = an_end()
    monkeypatch.setattr(base.BaseScheduler, "_process_jobs", lambda self: 3_600)
    with pytest.raises(RuntimeError, match="does not tick any more"):
        run_watch(lambda: None, 20, lambda: True, 60_000, lambda opened: None, stop)


def test_a_pulse_follows_every_tick_good_or_bad_and_every_round_of_letters() -> None:
    stop = an_end()
    beaten: list[str] = []
    tick = Turns(4, stop, raising(RuntimeError("a bad tick")))
    run_watch(tick, 20, lambda: True, 1_000, lambda opened: None, stop, pulse=lambda: beaten.append("tick"))
    assert beaten == ["tick"] * 4
    stop = an_end()
    waiting = iter([5, 3, 0])

    def deliver() -> int:
        sent = next(waiting, 0)
        if not sent:
            stop.set()
        return sent

    run_deliver(deliver, 3_600_000, stop, lambda: beaten.append("round"))
    assert beaten[4:] == ["round"] * 3


def test_a_disk_that_fails_stops_the_deliverer_too() -> None:
    def deliver() -> int:
        raise DiskFailed("This disk takes nothing.")

    with pytest.raises(DiskFailed):
        run_deliver(deliver, 20, an_end())
