"""A small server on a real socket, for tests of the client: real HTTP, real signatures, nothing kept on disk.

It answers what the client's own rooms need and no more. `faults` says what goes wrong with the next requests:
"cut" hangs up unanswered, ("cut", n) after n bytes of the body or answer, a number is an HTTP status without a
body, a Problem is sent as it is, and None lets one pass.
"""

import hashlib
import re
import secrets
import socket
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from vault import envelope, identity, statements, wire
from vault.clock import SystemClock

Fault = str | tuple[str, int] | int | wire.Problem | None


def a_person(label: str, made_by: str = "cli") -> tuple[identity.Keyring, identity.ContactCard]:
    keyring = identity.Keyring.from_seed(identity.RootSeed.generate(secrets.token_bytes))
    return keyring, identity.read_card(identity.write_card(label, keyring, 1_790_000_000_000, made_by))


def a_problem(status: int, code: str, detail: str = "No.", seen: int | None = None) -> wire.Problem:
    return wire.Problem("about:blank", "No", status, detail, code, seen)


def no_pause(_: float) -> None:
    """Tests do not sleep."""


class Loopback:
    def __init__(self) -> None:
        self.keyring, self.card = a_person("Server", "server")
        self.faults: deque[Fault] = deque()
        self.asked: list[str] = []
        self.invites: dict[str, identity.ContactCard | None] = {}
        self.used: dict[str, bytes] = {}
        self.accounts: dict[str, identity.ContactCard] = {}
        self.seq = 0
        self.tokens: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.offset: str | None = None
        """What it says of a part that it holds, if that is a lie."""
        self.answers: dict[tuple[str, str], msgspec.Struct] = {}
        self.connections = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def invite(self, inviter: identity.ContactCard | None = None) -> str:
        """A whole invite address."""
        code = secrets.token_urlsafe(12)
        self.invites[code] = inviter
        pins = [code, self.card.fingerprint.write()] + (
            [] if inviter is None else [inviter.fingerprint.write()]
        )
        return f"{self.url}/join#{'.'.join(pins)}"

    def info(self) -> wire.ServerInfo:
        limits = wire.Limits(1_048_576, 64, 4096, wire.MAX_BODY, 65536, 255, 10**9, 0, 0, 0, 10**9)
        now = SystemClock().wall()
        return wire.ServerInfo(self.card.envelope.decode(), "0", "life", 5000, False, limits, 0, 0, now)

    def account(self, card: identity.ContactCard) -> wire.AccountState:
        return wire.AccountState(card.envelope.decode(), "journalist", self.seq, 0, 0, 0, (), (), (), False)

    def acknowledge(self, signed: bytes, key: envelope.SigningKey | None = None) -> wire.Acknowledged:
        said = statements.Acknowledgement(
            server=self.card.hash.hex(),
            account="00" * 32,
            statement=envelope.statement_hash(signed).hex(),
            seq=self.seq,
            life="1f" * 16,
            lived=0,
            served=0,
            number=1,
            history="00" * 32,
            commitment=None,
            created=1,
        )
        return wire.Acknowledged(statements.write(said, key or self.keyring.sign).decode(), None)

    # What each address answers: a struct, a problem, or None for 204.

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> msgspec.Struct | None:
        if (method, path) in self.answers:
            return self.answers[method, path]
        match method, path:
            case "GET", "/server":
                return self.info()
            case "POST", "/nonces":
                return wire.NonceGrant(secrets.token_hex(32), 600_000)
            case "POST", "/accounts":
                return self._join(wire.read(body, wire.Joining))
            case "POST", "/sessions":
                return self._sign_in(wire.read(body, wire.SessionRequest).login.encode())
        if token not in self.tokens:
            return a_problem(401, "unauthenticated")
        match method, path:
            case "DELETE", "/sessions":
                self.tokens.discard(token)
                return None
            case "GET", "/account":
                return self.account(next(iter(self.accounts.values())))
            case "GET", "/dossiers":
                return wire.Dossiers((), 0)
            case "POST", _ if path.endswith("/statements"):
                signed = wire.read(body, wire.Submission).statement.encode()
                claimed = statements.peek(signed)
                if claimed.seq <= self.seq:
                    return a_problem(409, "stale-sequence", seen=self.seq)
                self.seq = claimed.seq
                return self.acknowledge(signed)
            case "POST", _ if path.endswith("/objects/missing"):
                names = wire.read(body, wire.NamesRequest).names
                return wire.MissingNames(tuple(name for name in names if name not in self.objects))
        return a_problem(404, "not-found")

    def _join(self, joining: wire.Joining) -> msgspec.Struct:
        if joining.code not in self.invites:
            return a_problem(404, "invite-unknown", "This server knows no such invite.")
        if self.used.setdefault(joining.code, joining.card.encode()) != joining.card.encode():
            return a_problem(409, "invite-used", "This invite was used.")
        card = identity.read_card(joining.card.encode())
        self.accounts[card.card.verify] = card
        inviter = self.invites[joining.code]
        return wire.Joined(
            "journalist" if inviter is None else "collaborator", inviter and inviter.envelope.decode()
        )

    def _sign_in(self, signed: bytes) -> msgspec.Struct:
        claimed = statements.peek(signed)
        account = self.accounts.get(claimed.verify)
        if account is None:
            return a_problem(401, "unauthenticated")
        login = statements.read(signed, account.verify_key, statements.Login)
        assert login.server == self.card.hash.hex()
        token = secrets.token_hex(16)
        self.tokens.add(token)
        return wire.SessionGrant(token, 1_800_000, account.envelope.decode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True

            def _cut(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def _serve(self) -> None:
                path = self.path.removeprefix("/api/v1")
                server.asked.append(f"{self.command} {path}")
                fault = server.faults.popleft() if server.faults else None
                length = int(self.headers.get("Content-Length", 0))
                name = re.fullmatch(r"/dossiers/[0-9a-f]+/objects/([0-9a-f]{64})", path)
                if isinstance(fault, tuple) and self.command == "PUT":
                    held = server.partial.get(name[1], b"")[: self._start()]
                    server.partial[name[1]] = held + self.rfile.read(fault[1])
                    return self._cut()
                body = self.rfile.read(length)
                if fault == "cut":
                    return self._cut()
                if isinstance(fault, int):
                    return self._say(fault, b"", "text/html", {})
                if isinstance(fault, wire.Problem):
                    return self._tell(fault)
                if name is not None:
                    return self._object(name[1], body, fault)
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                return self._tell(server.answer(self.command, path, body, token))

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

            def _start(self) -> int:
                found = re.match(r"bytes (\d+)-", self.headers.get("Content-Range", ""))
                return int(found[1]) if found else 0

            def _object(self, name: str, body: bytes, fault: Fault) -> None:
                if self.command == "PUT":
                    whole = server.partial.get(name, b"")[: self._start()] + body
                    if hashlib.sha256(whole).hexdigest() != name:
                        return self._tell(a_problem(422, "object-mismatch"))
                    server.objects[name] = whole
                    return self._say(201, b"", "text/plain", {})
                if name not in server.objects:
                    offset = server.offset or str(len(server.partial.get(name, b"")))
                    return self._say(404, b"", "text/plain", {"Upload-Offset": offset})
                data, status = server.objects[name], 200
                if found := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
                    data, status = data[int(found[1]) :], 206
                if isinstance(fault, tuple):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: fault[1]])
                    self.wfile.flush()
                    return self._cut()
                return self._say(status, data, "application/octet-stream", {})

            def _tell(self, said: msgspec.Struct | None) -> None:
                if said is None:
                    return self._say(204, b"", "text/plain", {})
                if isinstance(said, wire.Problem):
                    return self._say(said.status, wire.write(said), "application/problem+json", {})
                return self._say(200, wire.write(said), "application/json", {})

            def _say(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        return Handler
