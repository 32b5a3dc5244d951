"""A journalist and her colleagues with homes of their own, over a whole server in this process on a clock that turns.

Commands, requests and answers are the real ones; only the socket is left out. `lost` answers arrive at the server and
are cut on their way back; `unsent` requests never arrive. Both name a path, or a method and a path.
"""

import io
import json
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3
from world import Person, World

from cli.connection import Connection
from cli.home import Home
from test_cli.conftest import PASSPHRASE, Ran
from vault import identity
from vault.clock import SystemClock
from vault.settings import read_settings
from vault.storage.records import Records
from vault.storage.sqlite import SqliteDatabase
from vault.watch import Watch
from web import create_app

PLAN = ("--every", "1h", "--remind", "1h", "--warn", "1h", "--grace", "1h", "--cooling", "2h")


class Bureau:
    """Ana is the journalist; Ben, Cem and Dora have joined by her invites; she has compared Ben's and Cem's cards."""

    def __init__(self, folder: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._run, self._monkeypatch = folder, run, monkeypatch
        (folder / "server").mkdir(parents=True)
        self.world = World(folder / "server", short=True)
        self.lost: deque[str] = deque()
        self.unsent: deque[str] = deque()
        self.asked: list[tuple[str, bytes]] = []
        self.vault = SimpleNamespace(
            settings=read_settings({}, data=folder / "server", short=True),
            records=self.world.records,
            objects=self.world.objects,
            custodian=self.world.custodian,
        )
        self._client = create_app(self.vault).test_client()  # type: ignore[arg-type]  # a vault of the same shape
        monkeypatch.setattr(Connection, "_send", self._send())
        monkeypatch.setattr(SystemClock, "wall", lambda _: self.world.clock.wall())
        self.people: dict[str, Person] = {}
        self.ana = self._settle("Ana", self.world.journalist("Ana"), "journalist")
        for name in ("Ben", "Cem", "Dora"):
            self.join(name)
        for name in ("Ben", "Cem"):
            self.compare(name)

    def join(self, name: str) -> Person:
        return self._settle(name, self.people["Ana"].colleague(name), "collaborator")

    def compare(self, name: str) -> None:
        with Home.open(self.folder / "Ana") as home:
            home.pin(self.people[name].card, name, "collaborator", self.world.clock.wall())

    def home(self, who: str = "Ana") -> Home:
        return Home.open(self.folder / who)

    def run(self, who: str, *arguments: str, answers: tuple[str, ...] = ()) -> Ran:
        """The passphrase is asked for first, then comes what `answers` say."""
        return self.types(who, *arguments, answers=(PASSPHRASE, *answers))

    def types(self, who: str, *arguments: str, answers: tuple[str, ...]) -> Ran:
        """Everything that is asked for is in `answers`."""
        self._monkeypatch.setenv("AFTERWORD_HOME", str(self.folder / who))
        return self._run(*arguments, answers=answers)

    def does(self, *arguments: str, answers: tuple[str, ...] = (), who: str = "Ana") -> str:
        done = self.run(who, *arguments, answers=answers)
        assert done.code == 0, done.err
        return done.out + done.err

    def refused(self, *arguments: str, answers: tuple[str, ...] = (), who: str = "Ana") -> str:
        """The stable code of a command that fails."""
        done = self.run(who, *arguments, answers=answers)
        assert done.code != 0, done.out
        assert done.out == ""
        return done.err.rstrip().rpartition("afterword: ")[2]

    def json(self, *arguments: str, answers: tuple[str, ...] = (), who: str = "Ana") -> dict[str, object]:
        done = self.run(who, *arguments, "--json", answers=answers)
        assert done.code == 0, done.err
        found: dict[str, object] = json.loads(done.out)
        return found

    def create(self, title: str = "Harbour", *more: str, people: tuple[str, ...] = ("Ben", "Cem")) -> str:
        """A dossier, 2 of them needed; its id."""
        named = [part for name in people for part in ("--collaborator", name)]
        made = self.json("dossier", "create", title, *named, "--threshold", "2", *PLAN, *more)
        return str(made["dossier"])

    def armed(self) -> str:
        dossier = self.create()
        self.does("arm", "Harbour", "--anyway")
        return dossier

    def allow_short(self, short: bool) -> None:
        self.vault.settings = read_settings({}, data=self.folder / "server", short=short)

    def back_up(self) -> bytes:
        """The server's database as it is now."""
        copy = self.folder / "copy.db"
        with (
            closing(sqlite3.connect(self.folder / "server" / "afterword.db")) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy.read_bytes()

    def restore(self, backup: bytes) -> None:
        """The server forgets what came after; its clock goes on."""
        self.world.database.close()
        path = self.folder / "server" / "afterword.db"
        for name in (path, path.with_name("afterword.db-wal"), path.with_name("afterword.db-shm")):
            name.unlink(missing_ok=True)
        path.write_bytes(backup)
        self.world.database = SqliteDatabase(path)
        self.world.records = Records(self.world.database, self.world.clock, self.world.tick)
        self.world.watch = Watch(self.world.records, self.world.custodian)
        self.vault.records = self.world.records

    def words(self, who: str = "Ana") -> str:
        return " ".join(self.people[who].root.words())

    def lose(self, path: str) -> None:
        """The answers to requests for this path get lost, retries and all, until the command gives up."""
        self.lost.extend([path] * 5)

    def _settle(self, name: str, person: Person, role: str) -> Person:
        self.people[name] = person
        home = Home.create(
            self.folder / name,
            url="http://127.0.0.1:1",
            server=self.world.custodian.card,
            card=person.card,
            keyring=identity.write_keyring(person.keyring, PASSPHRASE, os.urandom),
        )
        home.remember("role", role.encode())
        home.finish_joining(1)
        if role == "collaborator":
            home.pin(self.people["Ana"].card, "Ana", "journalist")
        home.close()
        return person

    def _send(self) -> Callable[..., urllib3.HTTPResponse]:
        def send(
            connection: Connection, method: str, path: str, body: object, headers: dict[str, str]
        ) -> urllib3.HTTPResponse:
            assert isinstance(body, bytes)
            self.asked.append((f"{method} {path}", body))
            if self.unsent and self.unsent[0] in (path, f"{method} {path}"):
                self.unsent.popleft()
                raise urllib3.exceptions.ProtocolError("cut")
            if connection.token is not None:
                headers = {**headers, "Authorization": f"Bearer {connection.token}"}
            answer = self._client.open(f"/api/v1{path}", method=method, data=body, headers=headers)
            if self.lost and self.lost[0] in (path, f"{method} {path}"):
                self.lost.popleft()
                raise urllib3.exceptions.ProtocolError("cut")
            return urllib3.HTTPResponse(
                io.BytesIO(answer.get_data()), dict(answer.headers), answer.status_code, preload_content=False
            )

        return send
