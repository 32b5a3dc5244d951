"""One HTTP request to the server, and what can become of it.

Rule of this room: nobody else opens a connection. Whatever breaks on the way is `Unreachable`; a request whose
answer got lost is repeated only where repeating it changes nothing.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import urllib3

from cli.terminal import one_line, say
from vault import errors, settings, wire
from vault.errors import (
    AfterwordError,
    BadUsage,
    Malformed,
    NotFound,
    Refused,
    StaleSequence,
    Unauthenticated,
    Unreachable,
)

# Pauses before the second, third … attempt, in seconds.
PAUSES: Final = (0.0, 0.5, 1.5, 4.0)
BLOCK: Final = 64 * 1024
PATIENCE: Final = 90.0
"""Seconds that an answer may take to begin, and a transfer to go on."""
_CONNECTING: Final = 30.0
# These do something new each time; a lost answer is for the person to look at, not for us to repeat.
_ONCE: Final = {("POST", "/invites"), ("POST", "/addresses/confirm"), ("POST", "/sessions")}
_BUSY: Final = {429, 502, 503, 504}

# Where the status alone does not tell which class it was. A 409 of another code is a refusal.
_BY_CODE: Final[dict[str, type[AfterwordError]]] = {
    "damaged": errors.Damaged,
    "no-space": errors.NoSpace,
    "over-quota": errors.OverQuota,
    **dict.fromkeys(
        (
            "busy", "conflict", "head-conflict", "invite-used", "objects-missing",
            "stale-nonce", "stale-version", "wrong-epoch", "wrong-offset", "wrong-roster",
        ),
        errors.Conflict,
    ),
}  # fmt: skip
_BY_STATUS: Final[dict[int, type[AfterwordError]]] = {
    400: Malformed,
    401: Unauthenticated,
    404: NotFound,
    422: errors.Untrusted,
}

Upload = tuple[bytes, int, Callable[[int], None]]
"""Bytes, where in them to begin, and who hears how far they were sent."""


class Connection:
    """Connections to one server, kept open between requests. `token` is the session's, in memory only."""

    def __init__(
        self,
        url: str,
        proxy: str | None,
        pause: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        settings.check_url(url)
        self.url = url.rstrip("/")
        self._pause = pause
        self._timeout = urllib3.Timeout(connect=min(_CONNECTING, patience), read=patience)
        self._told = False
        self.token: str | None = None
        self._pool = _pool(self.url, proxy)

    def close(self) -> None:
        self._pool.clear()

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | Upload,
        headers: dict[str, str],
        *,
        expected: tuple[int, ...] = (),
        attempts: int = len(PAUSES) + 1,
    ) -> urllib3.BaseHTTPResponse:
        """A response that is good, or whose status is `expected`. Its body has not been read."""
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= attempts
            try:
                response = self._send(method, path, body, headers)
            except urllib3.exceptions.HTTPError as broken:
                never_sent = isinstance(
                    broken, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
                )
                certain = isinstance(broken, urllib3.exceptions.SSLError)
                if last or certain or not (never_sent or (method, path) not in _ONCE):
                    raise unreachable(broken) from None
                silent = isinstance(broken, urllib3.exceptions.ReadTimeoutError)
                self.wait(attempt - 1, tell=silent or attempt > 1)
                continue
            except (OSError, ssl.SSLError) as broken:
                raise unreachable(broken) from None
            if 200 <= response.status < 300 or response.status in expected:
                return response
            problem = _problem(response)
            if response.status in _BUSY and not last and (method, path) not in _ONCE:
                self.wait(attempt - 1, tell=attempt > 1)
                continue
            raise problem

    def wait(self, attempt: int, *, tell: bool) -> None:
        """Before another attempt. Whoever has waited for long (`tell`) hears why, once."""
        if tell and not self._told:
            say("No answer from the server yet; trying a few more times …")
            self._told = True
        self._pause(PAUSES[attempt])

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | Upload,
        headers: dict[str, str],
    ) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": "afterword", "Accept-Encoding": "identity", **headers}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        sent = body if isinstance(body, bytes) else _slices(*body)
        return self._pool.urlopen(
            method,
            f"{self.url}{wire.API}{path}",
            body=sent or None,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=self._timeout,
            preload_content=False,
        )


def _slices(data: bytes, start: int, tell: Callable[[int], None]) -> Iterator[memoryview]:
    view = memoryview(data)
    for position in range(start, len(data), BLOCK):
        yield view[position : position + BLOCK]
        tell(min(position + BLOCK, len(data)))


def _pool(url: str, proxy: str | None) -> urllib3.PoolManager:
    host = urlsplit(url).hostname or ""
    if host.endswith(".onion") and not proxy:
        raise BadUsage(
            "An .onion address needs Tor: start it, and set AFTERWORD_PROXY=socks5h://127.0.0.1:9050",
            code="needs-proxy",
        )
    if not proxy or host in {"127.0.0.1", "::1", "localhost"}:
        return urllib3.PoolManager(maxsize=8, blocksize=BLOCK)
    if urlsplit(proxy).scheme != "socks5h":
        raise BadUsage(
            "AFTERWORD_PROXY is written socks5h://HOST:PORT; anything else would tell the local network "
            "which server is meant.",
            code="bad-proxy",
        )
    from urllib3.contrib.socks import SOCKSProxyManager

    return SOCKSProxyManager(proxy, maxsize=8, blocksize=BLOCK)


def read_body(response: urllib3.BaseHTTPResponse, longest: int) -> bytes:
    """All of it, unless it is longer than `longest` bytes."""
    try:
        body = response.read(longest + 1)
        if len(body) > longest:
            response.close()
            raise Malformed("The server's answer is longer than any that makes sense.")
    except (urllib3.exceptions.HTTPError, OSError) as cut:
        raise unreachable(cut) from None
    return body


def _problem(response: urllib3.BaseHTTPResponse) -> AfterwordError:
    """What a refusal says. Its sentence comes from a stranger, so it is made one harmless line."""
    status = response.status
    try:
        said = wire.read(read_body(response, BLOCK), wire.Problem)
    except AfterwordError:
        if status in _BUSY or status >= 500:
            return Unreachable(f"The server cannot answer just now (HTTP {status}); try again in a while.")
        if status == 404:
            return NotFound("Nothing like that is on this server.")
        return Malformed(
            f"What answers at this address is no Afterword server (HTTP {status}); check the address.",
            code="not-afterword",
        )
    code, sentence = one_line(said.code, 64), one_line(said.detail or said.title)
    if code == StaleSequence.code and said.seen is not None:
        return StaleSequence(said.seen)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = Unreachable if status in _BUSY or status >= 500 else Refused
    return kind(sentence, code=code)


def unreachable(broken: Exception) -> Unreachable:
    """Why, in a word that helps; never the library's own text, which quotes addresses and objects."""
    told: BaseException | None = broken
    while told is not None:
        if isinstance(told, ssl.SSLError | urllib3.exceptions.SSLError):
            return Unreachable(
                "The server's TLS certificate cannot be trusted from here, so nothing was sent; check the address "
                "and this computer's date.",
                code="tls-failed",
            )
        # PySocks' own, which is not imported where there is no proxy: what lies beyond it has other names.
        if type(told).__name__ in {"ProxyConnectionError", "GeneralProxyError"}:
            return Unreachable(
                "The proxy in AFTERWORD_PROXY does not answer; is Tor running?", code="proxy-failed"
            )
        told = told.__cause__ or told.__context__
    if isinstance(broken, urllib3.exceptions.NameResolutionError):
        why = "its name is not known; check the address and your network"
    elif isinstance(broken, urllib3.exceptions.NewConnectionError):
        why = "nothing answers at its address"
    elif isinstance(broken, urllib3.exceptions.TimeoutError | TimeoutError):
        why = "it did not answer in time"
    else:
        why = "the connection was cut"
    return Unreachable(f"The server cannot be reached: {why}. Nothing was lost; run the same command again.")
