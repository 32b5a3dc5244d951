"""Knocking at our own public door, as somebody from outside would.

Rule of this room: every way of not being answered is the same `None` or `False`; no redirect is followed, nothing
is asked twice, and nobody waits longer than the timeout.
"""

from collections.abc import Sequence
from typing import Final

import urllib3

from vault import wire
from vault.couriers.limit import Limited
from vault.errors import Malformed

TIMEOUT: Final = 5_000
_LONGEST: Final = 4_096


class Door:
    """A server's address, perhaps by way of a SOCKS proxy (`socks5h://…`), from this process. `timeout` in ms.

    `witnesses`: addresses of others, of which one must answer too. A door in our own wall opens even when the house
    is cut off; a witness tells.
    """

    def __init__(
        self, url: str, proxy: str | None = None, timeout: int = TIMEOUT, witnesses: Sequence[str] = ()
    ) -> None:
        self._address = f"{url.rstrip('/')}{wire.API}/health"
        self._patience = timeout / 1000
        self._witnesses = tuple(witnesses)
        self._share = self._patience / max(1, len(self._witnesses))
        self._limit = Limited(proxy)

    def health(self, mark: str | None = None) -> wire.Health | None:
        """What the server says of itself, or None if it was not a server of our kind that answered."""
        try:
            with (
                self._limit.within(self._patience),
                self._limit.pool.request(
                    "GET",
                    self._address,
                    headers={"Connection": "close"} | ({} if mark is None else {wire.MARK: mark}),
                    timeout=urllib3.Timeout(total=self._patience),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                ) as answer,
            ):
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
        known = health is not None and health.mark == mark and (health.ok or not health.ticking)
        return known and self.witnessed()

    def witnessed(self) -> bool:
        """Whether the world beyond our own house answers, whatever it says; so it is when nobody is asked."""
        return not self._witnesses or any(
            self._limit.status("HEAD", each, self._share) is not None for each in self._witnesses
        )
