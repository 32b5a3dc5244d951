"""Which mail domains are slow just now, so that one of them does not hold every line of the deliverer.

Rule of this room: only what this process saw, nothing that rests; a slow domain has one letter under way at a time,
and is slow until a letter to it was quick.
"""

import threading
from collections import Counter
from typing import Final

SLOW: Final = 5_000
_MOST: Final = 10_000


class Roads:
    """Shared by the lines of one deliverer. `slow` in ms: an attempt that takes longer makes its domain a slow one."""

    def __init__(self, slow: int = SLOW) -> None:
        self._slow_after = slow
        self._slow: set[str] = set()
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, address: str) -> bool:
        """Whether a letter may set out now; whoever may must `leave`."""
        domain = _domain(address)
        with self._lock:
            if domain in self._slow and self._under_way[domain]:
                return False
            self._under_way[domain] += 1
            return True

    def leave(self, address: str, took: int) -> None:
        domain = _domain(address)
        with self._lock:
            self._under_way[domain] -= 1
            if not self._under_way[domain]:
                del self._under_way[domain]
            if took <= self._slow_after:
                self._slow.discard(domain)
            elif len(self._slow) < _MOST:
                self._slow.add(domain)


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()
