"""Speaking with the server, over HTTP.

Rule of this room: an answer counts only when its card, its hash or its signature says so.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import urllib3

from cli import promises
from cli.connection import BLOCK, PATIENCE, PAUSES, Connection, Upload, read_body, unreachable
from vault import envelope, identity, statements, wire
from vault.clock import SystemClock
from vault.errors import Conflict, StaleSequence, Unauthenticated, Unreachable, Untrusted
from vault.identity import ContactCard, Keyring
from vault.statements import Statement

if TYPE_CHECKING:
    from cli.home import Home

T = TypeVar("T", bound=msgspec.Struct)

OBJECT_SIZE: Final = 1_048_576
_LONGEST_ANSWER: Final = 64 * 1024 * 1024
_JSON: Final = {"Content-Type": "application/json"}


class Remote:
    """One server. `server` is its pinned card; without it only joining makes sense."""

    def __init__(
        self,
        url: str,
        server: ContactCard | None,
        proxy: str | None = None,
        pause: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self._connection = Connection(url, proxy or os.environ.get("AFTERWORD_PROXY"), pause, patience)
        self.url = self._connection.url
        self.server = server
        self.clock_ahead = 0
        """By how much the server's clock was ahead of ours when it was last asked, in ms."""
        self.account_card: ContactCard | None = None
        self.head: statements.Acknowledgement | None = None
        """Where the account's chain stood when we signed in, in the server's own signature."""
        self.trouble: promises.Trouble | None = None
        """What the server's word of today contradicts, as soon as it is known."""
        self._keyring: Keyring | None = None
        self._signing_in = threading.Lock()

    def close(self) -> None:
        self._connection.close()

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
        self.clock_ahead = said.now - SystemClock().wall()
        return said

    def nonce(self) -> str:
        return self.call("POST", "/nonces", None, wire.NonceGrant).nonce

    def sign_in(self, keyring: Keyring, home: "Home | None" = None) -> None:
        """A session for this keyring's account. The token stays in memory, and is renewed when it ends.

        With `home`, its last acknowledgement is presented, and what the server says of its chain is held against it.
        """
        if self.server is None:
            raise Untrusted("A server is signed in to only when its card is pinned.", code="server-changed")
        if self._keyring is None:
            self.info()
        last = None if home is None else home.last_acknowledgement()
        for again in (True, False):
            login = statements.Login(
                self.server.hash.hex(), keyring.sign.verify_key.hex, self.nonce(), SystemClock().wall()
            )
            signed = statements.write(login, keyring.sign)
            request = wire.SessionRequest(signed.decode(), None if last is None else last.decode())
            # Past _exchange: a refusal in here is not answered by signing in once more.
            try:
                response = self._connection.exchange("POST", "/sessions", wire.write(request), _JSON)
            except (Conflict, Unreachable):
                # The nonce was too old, or was spent by an answer that got lost.
                if not again:
                    raise
            else:
                break
        grant = wire.read(read_body(response, _LONGEST_ANSWER), wire.SessionGrant)
        card = identity.read_card(grant.card.encode())
        if card.verify_key != keyring.sign.verify_key:
            raise Untrusted(
                "The server answered with somebody else's account; nothing was done. Ask its operator, by another way."
            )
        self.account_card, self._keyring = card, keyring
        self._connection.token = grant.token
        if home is not None and grant.head is not None:
            self.head = self.acknowledged(home, signed, grant.head, last, grant.links)

    def sign_out(self) -> None:
        """End the session on the server too. Losing this request only leaves it to time out."""
        if self._connection.token is not None:
            read_body(self._exchange("DELETE", "/sessions", b"", {}), BLOCK)
            self._connection.token = self._keyring = None

    def call(self, method: str, path: str, request: msgspec.Struct | None, answer: type[T]) -> T:
        """`path` below /api/v1. A problem becomes the error that its code names."""
        body = b"" if request is None else wire.write(request)
        headers = {} if request is None else _JSON
        response = self._exchange(method, path, body, headers)
        return wire.read(read_body(response, _LONGEST_ANSWER), answer)

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
        signed, said = self.post_signed(
            home,
            f"/dossiers/{dossier}/statements",
            lambda seq: statements.write(make(seq), keyring.sign),
            lambda signed: wire.Submission(signed.decode(), blobs),
            wire.Acknowledged,
        )
        self.acknowledged(home, signed, said.acknowledgement)
        return said

    def post_signed(
        self,
        home: "Home",
        path: str,
        sign: Callable[[int], bytes],
        request: Callable[[bytes], msgspec.Struct],
        answer: type[T],
    ) -> tuple[bytes, T]:
        """What was signed under the next number, once more if that or a nonce was too old, and the server's answer."""
        for again in (True, False):
            signed = sign(home.next_seq())
            try:
                return signed, self.call("POST", path, request(signed), answer)
            except Conflict as stale:
                if isinstance(stale, StaleSequence):
                    home.seen_seq(stale.seen)
                elif stale.code != "stale-nonce":
                    raise
                if not again:
                    raise
        raise AssertionError

    def acknowledged(
        self,
        home: "Home",
        signed: bytes,
        acknowledgement: str,
        presented: bytes | None = None,
        links: Sequence[wire.HistoryEntry] = (),
    ) -> statements.Acknowledgement:
        """The server's signed word that it has durably stored exactly `signed`; home remembers it.

        `links`: what it shows of the chain after `presented`, the acknowledgement that was sent along.
        """
        if self.server is None:
            raise Untrusted("No card of this server is pinned.", code="server-changed")
        said = statements.read(acknowledgement.encode(), self.server.verify_key, statements.Acknowledgement)
        if (said.server, said.statement) != (self.server.hash.hex(), envelope.statement_hash(signed).hex()):
            raise Untrusted(
                "The server acknowledged something else than what was sent; run the command again, and tell its "
                "operator if this stays.",
                code="wrong-acknowledgement",
            )
        wrong = promises.take(home, acknowledgement.encode(), said, presented, links)
        self.trouble = wrong or self.trouble or promises.standing(home)
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
                read_body(self._exchange("PUT", path, (data, start, tell), headers, attempts=1), BLOCK)
                break
            except (Unreachable, Conflict) as cut:
                if attempt == len(PAUSES) or (isinstance(cut, Conflict) and cut.code != "wrong-offset"):
                    raise
                self._connection.wait(attempt, tell=attempt > 0)
                start = self._held(path, len(data))
            except Untrusted as spoilt:
                if spoilt.code != "object-mismatch" or not start:
                    raise
                # What the server held of it was spoilt, by a power cut perhaps, and is discarded.
                start = 0
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
                self._connection.wait(attempt, tell=attempt > 0)
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
        read_body(response, BLOCK)
        if response.status != 404:
            return size
        text = response.headers.get("Upload-Offset", "0")
        offset = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        return offset if offset < size else 0

    def _fetch(self, path: str, have: bytearray, progress: Callable[[int], None] | None) -> None:
        if len(have) == OBJECT_SIZE:
            return
        headers = {"Range": f"bytes={len(have)}-"} if have else {}
        response = self._exchange("GET", path, b"", headers)
        if have and response.status != 206:
            have.clear()
        try:
            for block in response.stream(BLOCK):
                have += block
                if len(have) > OBJECT_SIZE:
                    response.close()
                    raise Untrusted("The server sends more than one object may hold.", code="object-damaged")
                if progress is not None:
                    progress(len(block))
        except (urllib3.exceptions.HTTPError, OSError) as cut:
            raise unreachable(cut) from None
        if len(have) < OBJECT_SIZE:
            raise Unreachable("The connection was cut in the middle of an object; run the command again.")

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | Upload,
        headers: dict[str, str],
        *,
        expected: tuple[int, ...] = (),
        attempts: int = len(PAUSES) + 1,
    ) -> urllib3.BaseHTTPResponse:
        """One request; when the session has ended, a new one is begun and the request made once more."""
        used = self._connection.token
        try:
            return self._connection.exchange(
                method, path, body, headers, expected=expected, attempts=attempts
            )
        except Unauthenticated:
            keyring = self._keyring
            if keyring is None:
                raise
        with self._signing_in:
            if self._connection.token == used:  # no other thread was faster
                self.sign_in(keyring)
        return self._connection.exchange(method, path, body, headers, expected=expected, attempts=attempts)
