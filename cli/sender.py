"""Objects on their way to the server while the computer seals the next ones.

Rule of this room: a bounded number is under way; the first failure stops everything and is raised where it is awaited.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from cli.remote import Remote

LINES: Final = 2
"""Connections at once: one sends while the other waits for its answer."""
UNDER_WAY: Final = 6


class Sender:
    """Sends files that hold one sealed object each."""

    def __init__(self, remote: "Remote", dossier: str, told: Callable[[int], None]) -> None:
        self._remote = remote
        self._dossier = dossier
        self._told = told
        self._threads = ThreadPoolExecutor(LINES, "send")
        self._under_way: deque[tuple[str, Future[None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def send(self, name: str, path: Path, *, resuming: bool = False) -> list[str]:
        """Take one more; waits while too many are under way. The names that have arrived meanwhile."""
        arrived = self._arrived(UNDER_WAY - 1)
        self._under_way.append((name, self._threads.submit(self._put, name, path, resuming)))
        return arrived

    def finish(self) -> list[str]:
        """Wait until everything has arrived; the names that were still under way."""
        return self._arrived(0)

    def _arrived(self, left: int) -> list[str]:
        names = []
        while self._under_way and (len(self._under_way) > left or self._under_way[0][1].done()):
            name, sending = self._under_way.popleft()
            sending.result()
            names.append(name)
        return names

    def _put(self, name: str, path: Path, resuming: bool) -> None:
        data = path.read_bytes()
        self._remote.put_object(self._dossier, name, data, resuming=resuming)
        self._told(len(data))
