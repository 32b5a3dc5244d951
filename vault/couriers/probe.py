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

    def health(self, mark: str | None = None) -> wire.Health | None:
        """What the server says of itself, or None if it was not a server of our kind that answered."""
        try:
            with self._pool.request(
                "GET",
                self._address,
                headers={"Connection": "close"} | ({} if mark is None else {wire.MARK: mark}),
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

    def opens(self, mark: str) -> bool:
        """Whether a check-in could come in to where `mark` was left: our server answers, over our own database, and
        what it lacks is at most the watch itself. At our address may stand another, of which ours is a copy."""
        health = self.health(mark)
        # `ok` waits for the first tick and the ticks count only while the door is open: one of them must begin.
        return health is not None and health.mark == mark and (health.ok or not health.ticking)
