"""Speaking with the server, over HTTP.

Rule of this room: nobody else opens a connection. An answer counts only when its card, its hash or its
signature says so; whatever breaks on the way is `Unreachable`, and the same call may be made again.
"""

import hashlib
import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import urllib3

from cli.terminal import one_line
from vault import envelope, identity, settings, statements, wire
from vault.clock import SystemClock
from vault.errors import (
    AfterwordError,
    BadUsage,
    Conflict,
    Damaged,
    Malformed,
    NotFound,
    OverQuota,
    Refused,
    StaleSequence,
    Unauthenticated,
    Unreachable,
    Untrusted,
)
from vault.identity import ContactCard, Keyring
from vault.statements import Statement

if TYPE_CHECKING:
    from cli.home import Home

T = TypeVar("T", bound=msgspec.Struct)

OBJECT_SIZE: Final = 1_048_576
# Pauses before the second, third … attempt, in seconds.
PAUSES: Final = (0.0, 0.5, 1.5, 4.0)
_TIMEOUT: Final = urllib3.Timeout(connect=30, read=90)
_LONGEST_ANSWER: Final = 64 * 1024 * 1024
_BLOCK: Final = 64 * 1024
# These do something new each time; a lost answer is for the person to look at, not for us to repeat.
_ONCE: Final = {("POST", "/invites"), ("POST", "/addresses/confirm"), ("POST", "/sessions")}
_BUSY: Final = {429, 502, 503, 504}

_BY_CODE: Final[dict[str, type[AfterwordError]]] = {
    "over-quota": OverQuota,
    "untrusted": Untrusted,
    "malformed": Malformed,
    "damaged": Damaged,
    "not-ready": Refused,
    "not-released": Refused,
    "released": Refused,
    "wrong-code": Refused,
    "invite-used": Refused,
    "invite-expired": Refused,
    "invite-unknown": Refused,
}
_BY_STATUS: Final[dict[int, type[AfterwordError]]] = {
    400: Malformed,
    401: Unauthenticated,
    404: NotFound,
    409: Conflict,
    422: Malformed,
}


class Remote:
    """One server. `server` is its pinned card; without it only joining makes sense."""

    def __init__(
        self,
        url: str,
        server: ContactCard | None,
        proxy: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        settings.check_url(url)
        self.url = url.rstrip("/")
        self.server = server
        self.account_card: ContactCard | None = None
        self._pause = pause
        self._keyring: Keyring | None = None
        self._token: str | None = None
        self._pool = _pool(self.url, proxy or os.environ.get("AFTERWORD_PROXY"))

    def close(self) -> None:
        self._pool.clear()

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Remote {self.url}>"

    def info(self) -> wire.ServerInfo:
        """What the server says of itself; Untrusted with code `server-changed` if its card is not the pinned one."""
        said = self.call("GET", "/server", None, wire.ServerInfo)
        card = identity.read_card(said.card.encode())
        if self.server is not None and card.hash != self.server.hash:
            raise Untrusted(
                "This server shows another card than the one pinned when you joined: it is another server, or "
                "somebody stands in between. Nothing was sent. Ask its operator, by another way than this address.",
                code="server-changed",
            )
        return said

    def nonce(self) -> str:
        return self.call("POST", "/nonces", None, wire.NonceGrant).nonce

    def sign_in(self, keyring: Keyring) -> None:
        """A session for this keyring's account. The token stays in memory, and is renewed when it ends."""
        if self.server is None:
            raise Untrusted("A server is signed in to only when its card is pinned.", code="server-changed")
        if self._keyring is None:
            self.info()
        self._token = self._keyring = None  # a refusal in here is not answered by signing in once more
        for again in (True, False):
            login = statements.Login(
                self.server.hash.hex(), keyring.sign.verify_key.hex, self.nonce(), SystemClock().wall()
            )
            request = wire.SessionRequest(statements.write(login, keyring.sign).decode())
            try:
                grant = self.call("POST", "/sessions", request, wire.SessionGrant)
            except (Conflict, Unreachable):
                # The nonce was too old, or was spent by an answer that got lost.
                if not again:
                    raise
            else:
                break
        card = identity.read_card(grant.card.encode())
        if card.verify_key != keyring.sign.verify_key:
            raise Untrusted("The server answered with somebody else's account; nothing was done.")
        self.account_card, self._token, self._keyring = card, grant.token, keyring

    def sign_out(self) -> None:
        """End the session on the server too. Losing this request only leaves it to time out."""
        if self._token is not None:
            _read(self._exchange("DELETE", "/sessions", b"", {}), _BLOCK)
            self._token = self._keyring = None

    def call(self, method: str, path: str, request: msgspec.Struct | None, answer: type[T]) -> T:
        """`path` below /api/v1. A problem becomes the error that its code names."""
        body = b"" if request is None else wire.write(request)
        headers = {} if request is None else {"Content-Type": "application/json"}
        response = self._exchange(method, path, body, headers)
        return wire.read(_read(response, _LONGEST_ANSWER), answer)

    def submit(
        self,
        home: "Home",
        keyring: Keyring,
        dossier: str,
        make: Callable[[int], Statement],
        sealed: Sequence[bytes] = (),
    ) -> wire.Acknowledged:
        """Sign what `make` makes of the next number, and post it. A number or nonce that is too old is signed anew
        once. The answer's acknowledgement has been verified, and home remembers it."""
        blobs = tuple(wire.write_blob(blob) for blob in sealed)
        for again in (True, False):
            signed = statements.write(make(home.next_seq()), keyring.sign)
            try:
                said = self.call(
                    "POST",
                    f"/dossiers/{dossier}/statements",
                    wire.Submission(signed.decode(), blobs),
                    wire.Acknowledged,
                )
            except Conflict as stale:
                if isinstance(stale, StaleSequence):
                    home.seen_seq(stale.seen)
                elif stale.code != "stale-nonce":
                    raise
                if not again:
                    raise
            else:
                break
        self.acknowledged(home, signed, said.acknowledgement)
        return said

    def acknowledged(self, home: "Home", signed: bytes, acknowledgement: str) -> statements.Acknowledgement:
        """The server's signed word that it has durably stored exactly `signed`; home remembers it."""
        if self.server is None:
            raise Untrusted("No card of this server is pinned.", code="server-changed")
        said = statements.read(acknowledgement.encode(), self.server.verify_key, statements.Acknowledgement)
        if (said.server, said.statement) != (self.server.hash.hex(), envelope.statement_hash(signed).hex()):
            raise Untrusted(
                "The server acknowledged something else than what was sent; run the command again, and tell its "
                "operator if this stays.",
                code="wrong-acknowledgement",
            )
        home.remember_acknowledgement(acknowledgement.encode())
        return said

    # Objects.

    def missing(self, dossier: str, names: Sequence[str]) -> list[str]:
        """Those of `names` that the server lacks, in the same order."""
        lacking: list[str] = []
        for start in range(0, len(names), wire.MAX_BATCH):
            request = wire.NamesRequest(tuple(names[start : start + wire.MAX_BATCH]))
            lacking += self.call(
                "POST", f"/dossiers/{dossier}/objects/missing", request, wire.MissingNames
            ).missing
        return lacking

    def put_object(
        self,
        dossier: str,
        name: str,
        data: bytes,
        progress: Callable[[int], None] | None = None,
        *,
        resuming: bool = False,
    ) -> None:
        """Send an object. After a cut, or when `resuming` an earlier process's attempt, only what is still
        missing is sent. `progress` hears of each byte once."""
        path = f"/dossiers/{dossier}/objects/{name}"
        told = 0

        def tell(position: int) -> None:
            nonlocal told
            if position > told:
                if progress is not None:
                    progress(position - told)
                told = position

        start = self._held(path, len(data)) if resuming else 0
        tell(start)
        for attempt in range(len(PAUSES) + 1):
            if start == len(data):
                break
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data) - start)}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            try:
                _read(self._exchange("PUT", path, (data, start, tell), headers, attempts=1), _BLOCK)
                break
            except (Unreachable, Conflict) as cut:
                if attempt == len(PAUSES) or (isinstance(cut, Conflict) and cut.code != "wrong-offset"):
                    raise
                self._pause(PAUSES[attempt])
                start = self._held(path, len(data))
        tell(len(data))

    def get_object(
        self,
        dossier: str,
        name: str,
        resume: bytes = b"",
        progress: Callable[[int], None] | None = None,
    ) -> bytes:
        """A whole object, of which `resume` is here already; Untrusted with code `object-damaged` if it is not
        what its name says."""
        path = f"/dossiers/{dossier}/objects/{name}"
        have = bytearray(resume[:OBJECT_SIZE])
        for attempt in range(len(PAUSES) + 1):
            try:
                self._fetch(path, have, progress)
                break
            except Unreachable:
                if attempt == len(PAUSES):
                    raise
                self._pause(PAUSES[attempt])
        if hashlib.sha256(have).hexdigest() != name:
            if resume:  # what lay here may have been the broken part
                return self.get_object(dossier, name, b"", None)
            raise Untrusted(
                f"Object {name[:16]}… arrived damaged: the server holds something else under this name.",
                code="object-damaged",
            )
        return bytes(have)

    def _held(self, path: str, size: int) -> int:
        """How many bytes of this object the server has."""
        response = self._exchange("HEAD", path, b"", {}, expected=(404,))
        _read(response, _BLOCK)
        if response.status != 404:
            return size
        text = response.headers.get("Upload-Offset", "0")
        offset = int(text) if text.isascii() and text.isdigit() else 0
        return offset if offset < size else 0

    def _fetch(self, path: str, have: bytearray, progress: Callable[[int], None] | None) -> None:
        if len(have) == OBJECT_SIZE:
            return
        headers = {"Range": f"bytes={len(have)}-"} if have else {}
        response = self._exchange("GET", path, b"", headers)
        if have and response.status != 206:
            have.clear()
        try:
            for block in response.stream(_BLOCK):
                have += block
                if len(have) > OBJECT_SIZE:
                    response.close()
                    raise Untrusted("The server sends more than one object may hold.", code="object-damaged")
                if progress is not None:
                    progress(len(block))
        except (urllib3.exceptions.HTTPError, OSError) as cut:
            raise _unreachable(cut) from None
        if len(have) < OBJECT_SIZE:
            raise Unreachable("The connection was cut in the middle of an object; run the command again.")

    # One request.

    def _exchange(
        self,
        method: str,
        path: str,
        body: "bytes | tuple[bytes, int, Callable[[int], None]]",
        headers: dict[str, str],
        *,
        expected: tuple[int, ...] = (),
        attempts: int = len(PAUSES) + 1,
    ) -> urllib3.BaseHTTPResponse:
        """A response that is good, or whose status is `expected`. Its body has not been read."""
        renewed = False
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
                    raise _unreachable(broken) from None
                self._pause(PAUSES[attempt - 1])
                continue
            except (OSError, ssl.SSLError) as broken:
                raise _unreachable(broken) from None
            if 200 <= response.status < 300 or response.status in expected:
                return response
            problem = _problem(response)
            if isinstance(problem, Unauthenticated) and self._keyring is not None and not renewed:
                renewed = True
                self.sign_in(self._keyring)
                attempt -= 1
                continue
            if response.status in _BUSY and not last and (method, path) not in _ONCE:
                self._pause(PAUSES[attempt - 1])
                continue
            raise problem

    def _send(
        self,
        method: str,
        path: str,
        body: "bytes | tuple[bytes, int, Callable[[int], None]]",
        headers: dict[str, str],
    ) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": "afterword", "Accept-Encoding": "identity", **headers}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        sent = body if isinstance(body, bytes) else _slices(*body)
        return self._pool.urlopen(
            method,
            f"{self.url}{wire.API}{path}",
            body=sent or None,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=_TIMEOUT,
            preload_content=False,
        )


def _slices(data: bytes, start: int, tell: Callable[[int], None]) -> Iterator[memoryview]:
    view = memoryview(data)
    for position in range(start, len(data), _BLOCK):
        yield view[position : position + _BLOCK]
        tell(min(position + _BLOCK, len(data)))


def _pool(url: str, proxy: str | None) -> urllib3.PoolManager:
    host = urlsplit(url).hostname or ""
    if host.endswith(".onion") and not proxy:
        raise BadUsage(
            "An .onion address needs Tor: start it, and set AFTERWORD_PROXY=socks5h://127.0.0.1:9050",
            code="needs-proxy",
        )
    if not proxy or host in {"127.0.0.1", "::1", "localhost"}:
        return urllib3.PoolManager(maxsize=8, blocksize=_BLOCK)
    if urlsplit(proxy).scheme != "socks5h":
        raise BadUsage(
            "AFTERWORD_PROXY is written socks5h://HOST:PORT; anything else would tell the local network "
            "which server is meant.",
            code="bad-proxy",
        )
    from urllib3.contrib.socks import SOCKSProxyManager

    return SOCKSProxyManager(proxy, maxsize=8, blocksize=_BLOCK)


def _read(response: urllib3.BaseHTTPResponse, longest: int) -> bytes:
    try:
        body = response.read(longest + 1)
        if len(body) > longest:
            response.close()
            raise Malformed("The server's answer is longer than any that makes sense.")
    except (urllib3.exceptions.HTTPError, OSError) as cut:
        raise _unreachable(cut) from None
    return body


def _problem(response: urllib3.BaseHTTPResponse) -> AfterwordError:
    """What a refusal says. Its sentence comes from a stranger, so it is made one harmless line."""
    status = response.status
    try:
        said = wire.read(_read(response, _BLOCK), wire.Problem)
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
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or (Unreachable if status >= 500 else Refused)
    return kind(sentence, code=Unreachable.code if kind is Unreachable and status >= 500 else code)


def _unreachable(broken: Exception) -> Unreachable:
    """Why, in a word that helps; never the library's own text, which quotes addresses and objects."""
    told: BaseException | None = broken
    while told is not None:
        if isinstance(told, ssl.SSLError | urllib3.exceptions.SSLError):
            return Unreachable(
                "The server's TLS certificate cannot be trusted from here, so nothing was sent; check the address "
                "and this computer's date.",
                code="tls-failed",
            )
        told = told.__cause__ or told.__context__
    if isinstance(broken, urllib3.exceptions.ProxyError):
        return Unreachable(
            "The proxy in AFTERWORD_PROXY does not answer; is Tor running?", code="proxy-failed"
        )
    if isinstance(broken, urllib3.exceptions.NameResolutionError):
        why = "its name is not known; check the address and your network"
    elif isinstance(broken, urllib3.exceptions.TimeoutError | TimeoutError):
        why = "it did not answer in time"
    elif isinstance(broken, urllib3.exceptions.NewConnectionError):
        why = "nothing answers at its address"
    else:
        why = "the connection was cut"
    return Unreachable(f"The server cannot be reached: {why}. Nothing was lost; run the same command again.")
