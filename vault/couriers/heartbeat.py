"""Telling an outside watcher that this server is well, so that its silence is noticed where it cannot speak.

Rule of this room: it says nothing about anybody, not even what is wrong; it never raises, never follows a redirect,
and asks an address as healthchecks.io and its like want to be asked.
"""

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from vault.couriers.limit import Limited

TIMEOUT: Final = 10_000


class Heartbeat:
    """An outside watcher's address, which is a secret, perhaps by way of a SOCKS proxy. `timeout` in ms."""

    def __init__(self, url: str, proxy: str | None = None, timeout: int = TIMEOUT) -> None:
        self._url = url
        self._patience = timeout / 1000
        self._limit = Limited(proxy)

    def __repr__(self) -> str:
        return "<Heartbeat>"

    def well(self) -> bool:
        """All is well; whether the watcher took note."""
        return self._ask(self._url)

    def ill(self) -> bool:
        """Something is wrong: the watcher need not wait until it misses us."""
        parts = urlsplit(self._url)
        return self._ask(urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/fail")))

    def _ask(self, url: str) -> bool:
        status = self._limit.status("GET", url, self._patience)
        return status is not None and 200 <= status < 300
