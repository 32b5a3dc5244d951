"""Whose letter is next, when several lines carry letters at once.

Rule of this room: one letter of each journalist after the other, however many wait; nobody's letters hold all lines;
a letter that was claimed and cannot be carried soon is given back, so that no other deliverer waits for it.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vault import outbox
from vault.clock import MINUTE
from vault.couriers.roads import Roads
from vault.storage.records import Records
from vault.storage.records.rows import Letter

LINES: Final = 4
AT_ONCE: Final = 20
HELD_AT_MOST: Final = MINUTE // 2
"""How long (ms of the boot clock) a claimed letter waits for a line."""


class Turns:
    """Shared by the lines of one deliverer. `longest`: ms that one letter may take in all."""

    def __init__(self, records: Records, longest: int, lines: int = LINES) -> None:
        self.roads = Roads()
        self._records = records
        self._most = max(1, lines // 2)
        self._lease = outbox.lease(records.tick, HELD_AT_MOST + longest)
        self._lock = threading.Lock()
        self._ready: deque[Letter] = deque()
        self._claimed = 0
        self._empty: int | None = None
        self._after = ""
        self._busy: Counter[str] = Counter()

    @contextmanager
    def next(self) -> Iterator[Letter | None]:
        """A claimed letter, or None when there is nothing to do for this line just now."""
        with self._lock:
            letter = self._take()
            if letter is not None:
                self._busy[outbox.lane_of(letter)] += 1
        try:
            yield letter
        finally:
            if letter is not None:
                with self._lock:
                    self._busy[outbox.lane_of(letter)] -= 1

    def give_back(self) -> None:
        """What was claimed and not begun: whoever is next may have it."""
        with self._lock:
            self._give_back()

    def _give_back(self) -> None:
        if self._ready:
            letters, self._ready = list(self._ready), deque()
            outbox.give_back(self._records, letters)

    def _take(self) -> Letter | None:
        boot = self._records.clock.boot()
        if self._ready and boot - self._claimed > HELD_AT_MOST:
            self._give_back()
        letter = self._pick()
        if letter is not None:
            return letter
        if self._empty is not None and 0 <= boot - self._empty < self._records.tick:
            return None  # somebody has just looked
        # What is left belongs to those whose letters hold lines enough: others may be behind them.
        self._give_back()
        full = {lane for lane, many in self._busy.items() if many >= self._most}
        while True:
            claimed, self._after = outbox.claim_fairly(
                self._records, AT_ONCE, self._lease, after=self._after, without=full
            )
            if claimed or not self._after:
                break
        self._ready.extend(claimed)
        self._claimed = boot
        self._empty = None if claimed else boot
        return self._pick()

    def _pick(self) -> Letter | None:
        for place, letter in enumerate(self._ready):
            if self._busy[outbox.lane_of(letter)] < self._most:
                del self._ready[place]
                return letter
        return None
