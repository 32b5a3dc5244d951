"""The line between people and a server: it carries everything, until a story cuts it, holds it, or lies on it.

Rule of this room: what no rule of a story touches goes through byte for byte.
"""

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PATIENCE = 120.0
_BLOCK = 64 * 1024
_NOT_PASSED_ON = {"connection", "content-length", "transfer-encoding", "keep-alive"}


@dataclass
class Rule:
    """What happens to requests of this method whose path fits; the first `skip` of them go through."""

    method: str
    path: str
    times: int | None = None
    skip: int = 0
    drops: bool = False
    refuses: bool = False
    cuts: int | None = None
    lie: Callable[[bytes], bytes] | None = None
    halves: bool = False
    holds: bool = False
    met: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    goes_on: bool = False

    def go_on(self) -> None:
        """What was held is carried after all."""
        self.goes_on = True
        self.let_go.set()

    def fits(self, method: str, path: str) -> bool:
        return method == self.method and re.search(self.path, path) is not None


class Line:
    """A proxy on an address of its own, so that the server behind it may go, come back, or be another one."""

    def __init__(self) -> None:
        self.server = ""
        self.down = False
        self.uploaded = 0
        """Bytes of object bodies that were sent into it."""
        self.asked: list[tuple[str, str]] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        line = self

        class Handler(_Handler):
            pass

        Handler.line = line
        self._listener = _Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown()
        with self._lock:
            for rule in self._rules:
                rule.let_go.set()
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._listener.server_close()
        self._thread.join(PATIENCE)

    # What a story can do to it.

    @contextmanager
    def under(self, rule: Rule) -> Iterator[Rule]:
        """This rule holds inside; a rule that met nothing is a story that was not told."""
        with self._lock:
            self._rules.append(rule)
        try:
            yield rule
        finally:
            with self._lock:
                self._rules.remove(rule)
            rule.let_go.set()
        assert rule.met > rule.skip, f"nothing went through {rule.method} {rule.path}"

    def dropping(self, method: str, path: str, times: int | None = None):
        """The server hears the request, and its answer never arrives."""
        return self.under(Rule(method, path, times=times, drops=True))

    def refusing(self, method: str, path: str, times: int | None = None):
        """The request never reaches the server."""
        return self.under(Rule(method, path, times=times, refuses=True))

    def cutting(self, method: str, path: str, after: int, skip: int = 0, times: int | None = None):
        """The request reaches the server with so many bytes of its body, and then the line is cut."""
        return self.under(Rule(method, path, times=times, skip=skip, cuts=after))

    def lying(self, method: str, path: str, lie: Callable[[bytes], bytes]):
        """The answer's body is another than the server's."""
        return self.under(Rule(method, path, lie=lie))

    def holding(
        self, method: str, path: str, skip: int = 0, *, answer: bool = False, times: int | None = None
    ):
        """The request (or with `answer` its answer) waits on the way and is lost at the end, unless the story lets
        it `go_on`; `held` says when."""
        return self.under(Rule(method, path, skip=skip, holds=True, drops=answer, times=times))

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Nobody gets through, the server's own probe neither."""
        self.down = True
        try:
            yield
        finally:
            self.down = False

    def counting(self) -> "Count":
        return Count(self, self.uploaded, len(self.asked))

    def rule_for(self, method: str, path: str) -> Rule | None:
        with self._lock:
            self.asked.append((method, path))
            for rule in self._rules:
                if rule.fits(method, path):
                    rule.met += 1
                    if rule.met > rule.skip and (rule.times is None or rule.met <= rule.skip + rule.times):
                        return rule
        return None

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def count(self, sent: int) -> None:
        with self._lock:
            self.uploaded += sent


@dataclass(frozen=True)
class Count:
    """What went over the line since."""

    line: Line
    uploaded_before: int
    asked_before: int

    @property
    def uploaded(self) -> int:
        return self.line.uploaded - self.uploaded_before

    def requests(self, method: str, path: str = "") -> int:
        return sum(
            verb == method and re.search(path, where) is not None
            for verb, where in self.line.asked[self.asked_before :]
        )


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, address: object) -> None:
        """People hang up; that is no news."""


class _Gone(Exception):
    """The line to this person is cut."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    line: Line

    def setup(self) -> None:
        super().setup()
        self._upstream: http.client.HTTPConnection | None = None
        self.line.opened(self.connection)

    def finish(self) -> None:
        self.line.closed(self.connection)
        if self._upstream is not None:
            self._upstream.close()
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def _carry(self) -> None:
        try:
            self._carry_one()
        except (_Gone, OSError, http.client.HTTPException):
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _carry

    def _carry_one(self) -> None:
        rule = self.line.rule_for(self.command, self.path)
        size = int(self.headers.get("Content-Length") or 0)
        if self.line.down or (rule is not None and rule.refuses):
            raise _Gone
        if rule is not None and rule.cuts is not None and size:
            self._cut(rule.cuts, size)
        if rule is not None and rule.holds and not rule.drops:
            self._hold(rule)
        body = self._read(size)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        answer, said = self._ask(body, headers)
        if rule is not None and rule.drops:
            if rule.holds:
                self._hold(rule)
            else:
                raise _Gone
        if rule is not None and rule.lie is not None:
            said = rule.lie(said)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(said))
        if length is not None and answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if rule is not None and rule.halves:
            self.wfile.write(said[: len(said) // 2])
            raise _Gone
        self.wfile.write(said)

    def _ask(self, body: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        for fresh in (False, True):
            if self._upstream is None or fresh:
                if self._upstream is not None:
                    self._upstream.close()
                there = urlsplit(self.line.server)
                fresh = True
                self._upstream = http.client.HTTPConnection(
                    there.hostname or "", there.port, timeout=PATIENCE
                )
            try:
                self._upstream.request(self.command, self.path, body or None, headers)
                answer = self._upstream.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                # A connection that the server closed while nobody spoke.
                if fresh:
                    raise
                continue
            return answer, answer.read()
        raise AssertionError

    def _hold(self, rule: Rule) -> None:
        rule.held.set()
        rule.let_go.wait(PATIENCE)
        if not rule.goes_on:
            raise _Gone

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            piece = self.rfile.read1(min(size, _BLOCK))
            if not piece:
                raise _Gone
            if self.command == "PUT":
                self.line.count(len(piece))
            size -= len(piece)
            parts.append(piece)
        return b"".join(parts)

    def _cut(self, after: int, size: int) -> None:
        there = urlsplit(self.line.server)
        with socket.create_connection((there.hostname or "", there.port or 0), PATIENCE) as upstream:
            head = [f"{self.command} {self.path} HTTP/1.1"]
            head += [f"{name}: {value}" for name, value in self.headers.items()]
            upstream.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
            upstream.sendall(self._read(min(after, size)))
            # The other side must have read it before it hears that nothing more comes.
            upstream.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while upstream.recv(_BLOCK):
                    pass
        raise _Gone
