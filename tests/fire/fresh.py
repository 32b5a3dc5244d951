"""Real server processes under the shim, killed as a whole or one of them alone, and started again.

Rule of this room: nothing here reaches inside. A check-in goes over HTTP, letters come by SMTP, and time is this
machine's own, counted by the test.
"""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Final

import theatre
from theatre import Mailroom, clean_environment

from tests.fire import oracle, shim, stand
from tests.fire.stand import Base, Prepared, Said
from tests.fire.workflows import Planned
from tests.world import Person
from vault import dossiers, statements
from vault.errors import AfterwordError
from vault.plans import Plan

SHORT: Final = 6
FULL: Final = 104
TICK: Final = 200
PLAN: Final = Plan(3_000, 1_000, 1_000, 1_500)
PATIENCE: Final = 90.0
RELEASED: Final = "can now be opened"
CALLS: Final = 1_000
"""About as many as such a life has; a number beyond its end means that the test kills it itself."""


@cache
def prepared() -> Prepared:
    server = stand.Server(stand.room() / "fresh", TICK, short=True)
    server.take_up(server.folder)
    ana = server.journalist()
    ana.confirm("ana@example.org")
    readers = [ana.colleague(f"colleague {number}") for number in (1, 2, 3)]
    for number, each in enumerate(readers, 1):
        each.confirm(f"c{number}@example.org")
    made = Planned(ana, readers)
    made.request = made.first_roster(PLAN, 4 * TICK)
    dossiers.create(server.records, server.custodian, ana.account, made.request, short=True)
    made.push()
    made.prove()
    made.arm()
    server.put_down()
    base = Base(server.folder, server, server.clock, made, {"ana": ana})
    base.secrets += [made.key.reveal(), made.c, made.r]
    return Prepared("fresh", base, [])


class Post:
    """A mail server, and when the first letter of a release came."""

    def __init__(self) -> None:
        self.room = Mailroom()
        self.released: float | None = None
        self.room.told = self._told

    def _told(self, letter: EmailMessage) -> None:
        if self.released is None and RELEASED in theatre.read(letter):
            self.released = time.monotonic()

    def reached_all(self) -> bool:
        return all(
            any(RELEASED in theatre.read(letter) for letter in self.room.to(f"c{number}@example.org"))
            for number in (1, 2, 3)
        )


@dataclass
class Process:
    """`afterword serve` in a session of its own."""

    folder: Path
    mail: Mailroom
    under: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("afterword")), "serve", "--data", str(self.folder), "--port", "0",
                "--allow-short",
            ],
            env=clean_environment()
            | {
                "AFTERWORD_SMTP": f"smtp://127.0.0.1:{self.mail.port}",
                "AFTERWORD_SENDER": "box@server.example",
                "AFTERWORD_OPERATOR": "op@ngo.example",
                "AFTERWORD_LOW_WATER": "256Ki",
                "AFTERWORD_WORKERS": "1",
                "AFTERWORD_THREADS": "2",
            }
            | self.under,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )  # fmt: skip
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def port(self) -> int | None:
        ready = [line for line in list(self.lines) if line.startswith("READY http://")]
        return int(ready[0].split()[1].rpartition(":")[2].split("/")[0]) if ready else None

    def end(self, how: signal.Signals) -> None:
        """The whole session; every process of it is one that we started."""
        with contextlib.suppress(ProcessLookupError):
            if how is signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
        self.process.wait(PATIENCE)
        if how is signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
        self._ear.join(PATIENCE)


def _waited(true: object, patience: float = PATIENCE) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if true():  # type: ignore[operator]  # a function
            return True
        time.sleep(0.02)
    return False


def _post(port: int, path: str, body: bytes) -> bytes | None:
    """The answer, if one came whole."""
    try:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        line.request("POST", f"/api/v1{path}", body, {"Content-Type": "application/json"})
        answer = line.getresponse()
        text = answer.read()
        line.close()
    except (OSError, http.client.HTTPException):
        return None
    return text if answer.status < 300 else None


def _sign(hers: Person, seq: int, nonce: str, dossier: statements.Covered, server: str) -> bytes:
    statement = statements.CheckIn(
        server=server, seq=seq, nonce=nonce, dossiers=(dossier,), created=int(time.time() * 1000)
    )
    signed = statements.write(statement, hers.keyring.checkin).decode()
    return json.dumps({"account": hers.card.hash.hex(), "statement": signed, "last": None}).encode()


def kill_once(number: int, place: Path) -> tuple[int, list[tuple[str, str]]]:
    """One life: started, killed at a call drawn by `number`, started again, lived to the last letter. How often
    something was killed, and what broke."""
    flow = prepared()
    folder = flow.copy(place / "data")
    chance = random.Random(f"fresh {number}")
    at = chance.randrange(1, 350) if number % 3 == 0 else chance.randrange(1, CALLS)
    alone = number % 4 == 3
    shared = place / "calls"
    under = {
        "LD_PRELOAD": str(shim.build()),
        "SHIM_FOLDER": str(folder),
        "SHIM_SHARED": str(shared),
        "SHIM_MODE": chance.choice(["before", "after", "half"]),
        "SHIM_AT": str(at),
        "SHIM_GROUP": "0" if alone else "1",
    }
    mail = Post()
    broken: list[tuple[str, str]] = []
    try:
        began = time.monotonic()
        first = Process(folder, mail.room, under)
        try:
            asked, answer, signed_at = _live(flow, first, mail)
        finally:
            # A life that came to its end before that call is killed there.
            calls = int.from_bytes(shared.read_bytes()[:8], sys.byteorder)
            killed = calls >= at
            if first.alive and not (killed and alone and mail.reached_all()):
                first.end(signal.SIGKILL)
                killed = True
            else:
                first.end(signal.SIGTERM)
        second = Process(folder, mail.room)
        try:
            if not _waited(lambda: second.port is not None or not second.alive):
                broken.append(("", "it did not start again"))
            if second.port is None:
                broken.append(("", "it did not start again: " + "\n".join(second.lines[-5:])))
            else:
                if (
                    asked is not None
                    and answer is not None
                    and _post(second.port, "/check-ins", asked) is None
                ):
                    broken.append(("lost check-ins", "a check-in that was acknowledged is refused"))
                if not _waited(lambda: mail.reached_all()):
                    broken.append(("forgotten", "after a restart the release never reached everybody"))
        finally:
            second.end(signal.SIGTERM)
        released = mail.released
        if released is not None:
            counted = signed_at if answer is not None else began
            if released - counted < (sum(PLAN.dwells()) - oracle.SLACK_TICKS * TICK) / 1000:
                broken.append(("early", f"released {released - counted:.1f} s after the last sign of life"))
        broken += _afterwards(flow, folder, mail)
    finally:
        mail.room.close()
        shutil.rmtree(folder, ignore_errors=True)
    return int(killed), broken


def _live(flow: Prepared, server: Process, mail: Post) -> tuple[bytes | None, bytes | None, float]:
    """Until it is dead or everybody was told: one check-in on the way. What was asked, answered, and when."""
    made = flow.base.made
    assert made is not None
    _waited(lambda: server.port is not None or not server.alive)
    asked = answer = None
    signed_at = time.monotonic()
    if server.port is not None:
        granted = _post(server.port, "/nonces", b"")
        if granted is not None:
            nonce = json.loads(granted)["nonce"]
            # The roster's hash and the head are for colleagues to look at; the server takes what she says.
            covered = statements.Covered(made.id, 1, None)
            asked = _sign(made.hers, 9, nonce, covered, flow.base.server.custodian.hash)
            signed_at = time.monotonic()
            answer = _post(server.port, "/check-ins", asked)
    _waited(lambda: not server.alive or mail.reached_all(), PATIENCE / 3)
    return asked, answer, signed_at


def _afterwards(flow: Prepared, folder: Path, mail: Post) -> list[tuple[str, str]]:
    said: list[Said] = [
        {"what": "carried", "message": str(letter["Message-ID"]).strip(), "to": address, "at": 0}
        for address in (
            "ana@example.org",
            "c1@example.org",
            "c2@example.org",
            "c3@example.org",
            "op@ngo.example",
        )
        for letter in mail.room.to(address)
    ]
    server = flow.base.server
    try:
        server.take_up(folder)
        try:
            found = [*oracle.rows(flow, server, said), *oracle.files(flow, server)]
        finally:
            server.put_down()
    except AfterwordError as wrong:
        return [("", f"it does not open: {wrong}")]
    return [(each.what, each.sentence) for each in found]
