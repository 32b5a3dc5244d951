"""A real server in this process, and the people of one dossier with homes of their own, all by their commands."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from test_cli.conftest import PASSPHRASE, Ran, a_person_at_the_keyboard
from vault import accounts, compose, founding
from vault.settings import read_settings
from web import create_app


class Newsroom:
    """Ana is the journalist; Bea and Carlos hold the shares of "Fishing licences", 2 of 2."""

    def __init__(self, folder: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._run, self._monkeypatch = folder, run, monkeypatch
        settings = read_settings({}, data=folder / "server", short=True)
        founding.found(settings)
        self.vault = compose.open_vault(settings)
        self._server = make_server("127.0.0.1", 0, create_app(self.vault), threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def home(self, who: str) -> Path:
        return self.folder / who

    def run(self, who: str, *arguments: str, answers: object = None) -> Ran:
        """By default the passphrase is all that is asked for."""
        self._monkeypatch.setenv("AFTERWORD_HOME", str(self.home(who)))
        return self._run(*arguments, answers=[PASSPHRASE] * 3 if answers is None else answers)

    def ran(self, who: str, *arguments: str, answers: object = None) -> str:
        done = self.run(who, *arguments, answers=answers)
        assert done.code == 0, done.err
        return done.out

    def json(self, who: str, *arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run(who, *arguments, "--json").out)
        return found

    @property
    def restore_address(self) -> str:
        return f"{self.url}/join#{self.vault.custodian.card.fingerprint.write()}"

    def journalist(self, who: str) -> str:
        """Everything `join` said on stderr, words included."""
        code = accounts.invite_journalist(self.vault.records, self.vault.custodian)
        url = f"{self.url}/join#{code}.{self.vault.custodian.card.fingerprint.write()}"
        done = self.run(who, "join", url, "--label", who, answers=a_person_at_the_keyboard())
        assert done.code == 0, done.err
        return done.err

    def collaborator(self, who: str, journalist: str = "Ana") -> None:
        url = self.ran(journalist, "collaborator", "invite", who).splitlines()[0]
        self.ran(who, "join", url, "--label", who, answers=a_person_at_the_keyboard())

    def compare(self, who: str, whom: str) -> None:
        words = self.json(whom, "card", "show")["words"]
        self.ran(who, "card", "compare", whom, answers=[" ".join(words["en"]), PASSPHRASE])

    def dossier(self, title: str = "Fishing licences") -> None:
        for who in ("Bea", "Carlos"):
            self.collaborator(who)
            self.run("Ana", "status")  # learns who has joined
            self.compare("Ana", who)
        plan = ("--every", "1h", "--remind", "1h", "--warn", "1h", "--grace", "1h", "--cooling", "1h")
        people = ("--collaborator", "Bea", "--collaborator", "Carlos", "--threshold", "2")
        self.ran("Ana", "dossier", "create", title, *people, *plan)
