"""Knocking at our own public door, as somebody from outside would.

Rule of this room: every way of not being answered is the same `None` or `False`; no redirect is followed, nothing
is asked twice, and nobody waits longer than the timeout.
"""

from typing import Final

import urllib3
from urllib3.contrib.socks import SOCKSProxyManager

from vault import wire
from vault.errors import Malformed

TIMEOUT: Final = 5_000
_LONGEST: Final = 4_096


class Door:
    """A server's address, perhaps by way of a SOCKS proxy (`socks5h://…`), from this process. `timeout` in ms."""

    def __init__(self, url: str, proxy: str | None = None, timeout: int = TIMEOUT) -> None:
        self._address = f"{url.rstrip('/')}{wire.API}/health"
        self._timeout = urllib3.Timeout(total=timeout / 1000)
        self._pool = SOCKSProxyManager(proxy) if proxy else urllib3.PoolManager()

    def health(self) -> wire.Health | None:
        """What the server says of itself, or None if it was not our server that answered."""
        try:
            with self._pool.request(
                "GET",
                self._address,
                headers={"Connection": "close"},
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            ) as answer:
                if answer.status not in {200, 503}:
                    return None
                return wire.read(answer.read(_LONGEST, decode_content=False), wire.Health)
        except (urllib3.exceptions.HTTPError, OSError, ValueError, Malformed):
            return None

    def opens(self) -> bool:
        """Whether a check-in could come in: our server answers, and what it lacks is at most the watch itself."""
        health = self.health()
        # `ok` waits for the first tick and the ticks count only while the door is open: one of them must begin.
        return health is not None and (health.ok or not health.ticking)
