"""A server on real files that can be copied, killed in the middle of something, and taken up again.

Rule of this room: the hands are the product's own (SQLite, the object store, the key file, the assembly); only the
clock and the mail are the test's. What a server promised is written down outside of its folder before anybody acts
on it, so that it outlives the server.
"""

import copy
import hashlib
import json
import os
import pickle
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.fire import shim
from tests.world import TICK, Dossier, Hands, Person, World
from vault import compose, rounds, watch
from vault.couriers import MemoryCourier, Outcome, Parcel
from vault.settings import Settings, read_settings
from vault.storage.database import open_database
from vault.storage.disk import Disk
from vault.storage.objects import open_objects
from vault.storage.records import Records

ENVIRONMENT: Final = {"AFTERWORD_LOW_WATER": "256Ki", "AFTERWORD_OPERATOR": "op@ngo.example"}
MEMORY: Final = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())

Said = dict[str, Any]
"""One promise as it was written down."""


class Promises:
    """Lines in a file that no shim looks at, and marks in its log. Without a path they are only marked."""

    def __init__(self, path: Path | None) -> None:
        self._handle = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, what: str, **facts: object) -> None:
        line = json.dumps({"what": what, **facts})
        if self._handle is not None:
            os.write(self._handle, line.encode() + b"\n")
        if shim.loaded():
            shim.mark(line)


def read_promises(path: Path) -> list[Said]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Recorder(MemoryCourier):
    """Whoever gets letters: what was taken was written down before the server heard that it was."""

    def __init__(self, server: "Server") -> None:
        super().__init__()
        self._server = server

    def carry(self, parcel: Parcel) -> Outcome:
        self._server.promises.say(
            "carried", message=parcel.message_id, to=parcel.to, at=self._server.clock.at
        )
        return super().carry(parcel)


def settings_of(folder: Path, short: bool = False) -> Settings:
    return read_settings(ENVIRONMENT, data=folder, bind="127.0.0.1", port=0, short=short)


class Server(World):
    """A World whose hands are those of a real process."""

    vault: compose.Vault
    ticker: Callable[[], None]

    def __init__(self, folder: Path, tick: int = TICK, short: bool = False) -> None:
        folder.mkdir(mode=0o700)
        super().__init__(folder, tick, short)
        handle = os.open(folder / "server.key", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(handle, self.key.write().encode() + b"\n")
        os.close(handle)
        self.promises = Promises(None)
        self.put_down()

    def take_up(self, folder: Path, clock: Hands | None = None) -> None:
        """What every process of a server does when it starts."""
        self.folder = folder
        if clock is not None:
            self.clock = copy.copy(clock)
        settings = settings_of(folder, self.short)
        disk = Disk()
        self.database = open_database(settings.database, disk)
        self.database.migrate()
        vault = compose.assemble(settings, self.database, open_objects(settings.objects, disk))
        self.records = Records(self.database, self.clock, self.tick)
        self.vault = replace(vault, records=self.records)
        self.custodian, self.objects = vault.custodian, vault.objects
        self.courier = Recorder(self)
        self.watch = watch.Watch(self.records, self.custodian)
        self.ticker = rounds.watch_ticker(self.vault, lambda said: None)

    def put_down(self) -> None:
        self.database.close()

    def beat(self) -> None:
        if self.reachable:
            self.records.note_probe(self.clock.boot())
        self.ticker()
        if self.delivering:
            self.deliver()

    def deliver(self) -> int:
        carried = 0
        while some := rounds.deliver_some(self.vault, self.courier, self.sender):
            carried += some
        return carried

    def numbers(self) -> Said:
        """What may never fall, and where every switch stands, as anybody could see it from outside now."""
        service = self.records.service()
        return {
            "at": self.clock.at,
            "life": service and service.life,
            "lived": service and service.lived,
            "served": service and service.served,
            "accounts": {
                row["id"]: [row["seq"], row["number"]]
                for row in self.database.all("SELECT id, seq, number FROM accounts")
            },
            "stages": {
                row["dossier"]: row["stage"]
                for row in self.database.all("SELECT dossier, stage FROM switches")
            },
        }


@dataclass(frozen=True)
class Step:
    """Something that is asked for and answered. Asked again, the answer is the same bytes."""

    name: str
    act: Callable[[Server], bytes | None]
    proves_life: bool = False
    # The answer is the acknowledgement of a signed statement.
    signed: bool = False


@dataclass
class Base:
    """A server as it stood at one moment, with the people who know it."""

    folder: Path
    server: Server
    clock: Hands
    made: Dossier | None = None
    people: dict[str, Person] = field(default_factory=dict)
    secrets: list[bytes] = field(default_factory=list)


@dataclass
class Prepared:
    """One workflow, ready to be run as often as anybody likes."""

    name: str
    base: Base
    steps: list[Step]
    opens: bool = True
    # The database whose accepted letters are older than the workflow, where it is not the prepared one.
    known: Path | None = None
    # What is to be true of the folder besides, after the workflow ran to its end: a sentence for each that is not.
    after: Callable[[Server, list[Said]], list[str]] = lambda server, said: []

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.base.folder, to)
        to.chmod(0o700)
        return to


def play(prepared: Prepared, folder: Path, promises: Promises) -> None:
    """Run it in this process, from taking the server up to putting it down."""
    server = prepared.base.server
    server.promises = promises
    promises.say("begin", flow=prepared.name)
    if prepared.opens:
        server.take_up(folder, prepared.base.clock)
    else:
        server.folder = folder
    act_all(prepared, server, promises)
    server.put_down()


def act_all(prepared: Prepared, server: Server, promises: Promises) -> None:
    for step in prepared.steps:
        promises.say("try", step=step.name)
        answer = step.act(server)
        digest = None if answer is None else hashlib.sha256(answer).hexdigest()
        numbers = server.numbers() if prepared.opens else {}
        promises.say(
            "did", step=step.name, answer=digest, life_sign=step.proves_life, signed=step.signed, **numbers
        )


@cache
def room() -> Path:
    """A folder in memory for this process, gone with it."""
    made = Path(tempfile.mkdtemp(prefix="afterword-fire-", dir=MEMORY))
    owner = os.getpid()
    import atexit

    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    return made


@dataclass(frozen=True, slots=True)
class Ended:
    """How a forked child ended: by a signal, or with what it returned, or with what it raised."""

    signal: int
    value: Any  # whatever the function returned
    raised: str | None


def in_fork(act: Callable[[], Any]) -> Ended:
    """Run it in a child of this process that may be killed in the middle. Nothing it changes in memory comes back."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        answer: tuple[Any, str | None] = None, None
        try:
            answer = act(), None
        except BaseException:
            answer = None, traceback.format_exc()
        shim_off()
        with os.fdopen(theirs, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ended(os.WTERMSIG(status), None, None)
    value, raised = pickle.loads(written)  # noqa: S301 our own child wrote it
    return Ended(0, value, raised)


def shim_off() -> None:
    if shim.loaded():
        shim.arm(shim.Mode.COUNT)
        shim.watch(None)


KILLED: Final = int(signal.SIGKILL)


@contextmanager
def a_folder(prepared: Prepared, name: str = "point") -> Iterator[tuple[Path, Path]]:
    """A copy of the prepared folder, and the place beside it for what is promised."""
    outer = Path(tempfile.mkdtemp(prefix=name, dir=room()))
    try:
        yield prepared.copy(outer / "data"), outer / "promises"
    finally:
        shutil.rmtree(outer, ignore_errors=True)
