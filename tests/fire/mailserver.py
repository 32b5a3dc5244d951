"""A mail server that can be ill in every way a mail server can.

Rule of this room: real sockets, real answers, no opinion: it remembers every recipient it was asked to take and every
letter whose dot it saw, and whether it said so; what that proves is for the tests.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

CLOSES: Final = b"\0closes"
SILENT: Final = b"\0silent"
DRIPS: Final = b"\0drips"
KEEPS: Final = b"\0keeps the letter and dies"
MIDDLE: Final = b"\0dies in the middle of the letter"
_DRIP: Final = 0.05
_LONGEST: Final = 8.0


@dataclass(frozen=True)
class Fault:
    """What it does at one verb (`greeting`, EHLO, MAIL, RCPT, DATA, `letter`, `dot`, AUTH, STARTTLS) instead of
    answering well; to `only` these recipients, from RCPT on."""

    at: str
    how: bytes
    only: frozenset[str] = frozenset()
    also: str = ""
    """A verb that meets the same fate, like HELO after EHLO."""

    def __str__(self) -> str:
        return f"{self.at}: {self.how[:40].decode('latin-1').strip(chr(0))}" + (
            " of one" if self.only else ""
        )


@dataclass(frozen=True)
class Copy:
    """A letter whose dot was seen. `told`: a 250 was written. `at`: when, by the clock of the test."""

    message: str
    to: str
    told: bool
    at: int


@dataclass
class MailServer:
    now: Callable[[], int] = lambda: 0
    fault: Fault | None = None
    offers: tuple[bytes, ...] = ()
    context: ssl.SSLContext | None = None
    copies: list[Copy] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def accepted(self) -> list[Copy]:
        return [copy for copy in self.copies if copy.told]

    @contextmanager
    def open(self) -> Iterator["MailServer"]:
        listening = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = int(listening.getsockname()[1])
        ended = threading.Event()
        talks: list[threading.Thread] = []
        lines: list[socket.socket] = []

        def listen() -> None:
            while not ended.is_set():
                try:
                    line, _ = listening.accept()
                except OSError:
                    return
                lines.append(line)
                talks.append(threading.Thread(target=self._talk, args=(line, ended), daemon=True))
                talks[-1].start()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield self
        finally:
            ended.set()
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            listener.join(_LONGEST)
            for line in lines:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
            for talk in talks:
                talk.join(_LONGEST)
            for line in lines:
                line.close()

    def _talk(self, line: socket.socket, ended: threading.Event) -> None:
        line.settimeout(_LONGEST)
        talk = _Talk(self, line, ended)
        with suppress(OSError, ValueError, EOFError):
            talk.run()
        with suppress(OSError):
            talk.lines.close()
            talk.line.close()
            line.close()


class _Talk:
    def __init__(self, server: MailServer, line: socket.socket, ended: threading.Event) -> None:
        self.server, self.line, self.ended = server, line, ended
        self.lines = line.makefile("rb")
        self.to = ""

    def run(self) -> None:
        self.say("greeting", b"220 hello")
        while verb := self.lines.readline(4096).strip():
            name = verb.split()[0].decode("latin-1").upper()
            if name == "QUIT":
                return
            if name == "DATA":
                self.take()
            elif name in {"EHLO", "HELO"}:
                offers = self.server.offers if name == "EHLO" else ()
                answer = b"250-well\r\n" + b"".join(b"250-" + each + b"\r\n" for each in offers) + b"250 HELP"
                self.say(name, answer)
            elif name == "STARTTLS":
                self.start_tls()
            else:
                if name == "RCPT":
                    found = re.search(rb"<([^>]*)>", verb)
                    self.to = found[1].decode("latin-1") if found else ""
                    self.server.asked.append((self.to, self.server.now()))
                self.say(name, {"AUTH": b"235 welcome"}.get(name, b"250 well"))

    def start_tls(self) -> None:
        self.say("STARTTLS", b"220 go")
        if self.server.context is not None:
            self.lines.close()
            self.line = self.server.context.wrap_socket(self.line, server_side=True)
            self.lines = self.line.makefile("rb")

    def take(self) -> None:
        if not self.say("DATA", b"354 go on").startswith(b"354"):
            return
        if self.fault("letter") == MIDDLE:
            self.server.reached.set()
            self.lines.readline()
            raise EOFError
        letter = []
        while (each := self.lines.readline()) not in {b".\r\n", b""}:
            letter.append(each)
        if not each:
            raise EOFError  # the other side hung up before the dot
        found = re.search(rb"(?im)^message-id:\s*<([^>]*)>", b"".join(letter))
        message = found[1].decode("latin-1") if found else ""
        how = self.fault("dot")
        told = how is None or (how.startswith(b"250") and how.endswith(b"\n"))
        if told or how == KEEPS:
            # Before it is said, as a real server keeps it before it says so.
            self.server.copies.append(Copy(message, self.to, told, self.server.now()))
        self.say("dot", b"250 taken")

    def fault(self, verb: str) -> bytes | None:
        fault = self.server.fault
        if fault is None or verb not in {fault.at, fault.also}:
            return None
        return fault.how if not fault.only or self.to in fault.only else None

    def say(self, verb: str, well: bytes) -> bytes:
        """Answer, or do what the fault says; what was answered."""
        how = self.fault(verb)
        if how is None:
            self.line.sendall(well + b"\r\n")
            return well
        self.server.reached.set()
        if how in {CLOSES, KEEPS, MIDDLE}:
            raise EOFError
        if how == SILENT:
            while self.line.recv(4096):
                pass
            raise EOFError
        if how == DRIPS:
            began = time.monotonic()
            while not self.ended.is_set() and time.monotonic() - began < _LONGEST:
                self.line.sendall(b"2")
                time.sleep(_DRIP)
            raise EOFError
        self.line.sendall(how)
        if not how.endswith(b"\n"):
            raise EOFError  # half an answer, and then nothing
        return how
