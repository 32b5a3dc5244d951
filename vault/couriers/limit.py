"""So long a request may take in all, and not a byte longer.

Rule of this room: a timeout holds for each wait, and a front that lets its bytes drip meets none; so whoever asks here
is cut off from outside, wherever they wait, in the middle of a TLS handshake too.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import urllib3
from urllib3.contrib.socks import SOCKSProxyManager


class _Turn:
    """One request. A timer that comes too late finds only its own."""

    def __init__(self) -> None:
        self.over = False
        self._handles: list[socket.socket] = []
        self._lock = threading.Lock()

    def hold(self, raw: socket.socket) -> socket.socket:
        with self._lock:
            if self.over:
                raw.close()
                raise TimeoutError
            # A TLS handshake takes the socket away from its object; its double stays.
            self._handles.append(raw.dup())
        return raw

    def cut(self) -> None:
        with self._lock:
            self.over = True
            for handle in self._handles:
                with suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()


class Limited:
    """Connections of one thread at a time, perhaps by way of a SOCKS proxy."""

    def __init__(self, proxy: str | None = None) -> None:
        self.pool = SOCKSProxyManager(proxy) if proxy else urllib3.PoolManager()
        self.pool.pool_classes_by_scheme = {
            scheme: self._held(pool) for scheme, pool in self.pool.pool_classes_by_scheme.items()
        }
        self._turn = _Turn()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """`TimeoutError` if what is done inside takes longer, however it ended otherwise."""
        turn = self._turn = _Turn()
        timer = threading.Timer(seconds, turn.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
            if turn.over:
                raise TimeoutError
        finally:
            timer.cancel()
            turn.let_go()

    def status(self, method: str, url: str, seconds: float) -> int | None:
        """What is answered there, without a look at the body; None if nothing came in time. A request that says nothing
        of who asks."""
        try:
            with (
                self.within(seconds),
                self.pool.request(
                    method,
                    url,
                    headers={"Connection": "close", "User-Agent": "-"},
                    timeout=urllib3.Timeout(total=seconds),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                ) as answer,
            ):
                return int(answer.status)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return None

    def _held(self, pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
        plain = pool.ConnectionCls

        def connect(connection: urllib3.connection.HTTPConnection) -> socket.socket:
            return self._turn.hold(plain._new_conn(connection))  # type: ignore[attr-defined]  # a Protocol

        held = type(plain.__name__, (plain,), {"_new_conn": connect})
        return type(pool.__name__, (pool,), {"ConnectionCls": held})
