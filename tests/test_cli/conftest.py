"""What tests of the commands share: a server on the loopback, an empty home, and a way to run a command line."""

import functools
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli import connection
from test_cli.loopback import Loopback
from vault import identity

if TYPE_CHECKING:
    from test_cli.bureau import Bureau
    from test_cli.newsroom import Newsroom

PASSPHRASE = "five random words here"


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def server() -> Iterator[Loopback]:
    running = Loopback()
    yield running
    running.close()


@pytest.fixture
def home_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("AFTERWORD_HOME", str(path))
    monkeypatch.delenv("AFTERWORD_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("AFTERWORD_PROXY", raising=False)
    monkeypatch.setattr(connection, "PAUSES", (0.0,) * len(connection.PAUSES))
    # A keyring that opens in a moment instead of a second.
    quick = functools.partial(identity.write_keyring, work_factor=2)
    monkeypatch.setattr(identity, "write_keyring", quick)
    return path


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """UTC, until the test sets another."""

    def be(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    be("UTC")
    yield be
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def run(
    home_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run one command line in this process. `answers` are typed line by line, or a function gives each, seeing
    what was said so far."""
    from cli import main

    def running(*arguments: str, answers: Iterable[str] | Callable[[str], str] = ()) -> Ran:
        seen = {"out": "", "err": ""}
        waiting = None if callable(answers) else iter(answers)

        def look() -> None:
            out, err = capfd.readouterr()
            seen["out"] += out
            seen["err"] += err

        class Typed:
            def isatty(self) -> bool:
                return False

            def readline(self) -> str:
                look()
                if waiting is None:
                    return f"{answers(seen['err'])}\n"
                return next((f"{each}\n" for each in waiting), "")

        monkeypatch.setattr(sys, "stdin", Typed())
        capfd.readouterr()
        code = main.invoke(arguments)
        look()
        return Ran(code, seen["out"], seen["err"])

    return running


def words_shown(err: str) -> list[str]:
    """The 24 words, off the screen."""
    found = {int(place): word for place, word in re.findall(r" (\d{1,2}) (\S+)", err)}
    return [found[place] for place in range(1, 25)]


def a_person_at_the_keyboard(label: str = "Ana", passphrase: str = PASSPHRASE) -> Callable[[str], str]:
    """Answers what `join` asks, reading the words off the screen."""

    def answer(err: str) -> str:
        question = err.rstrip().splitlines()[-1]
        if found := re.fullmatch(r"Word (\d+):", question):
            return words_shown(err)[int(found[1]) - 1]
        return passphrase if question.startswith("Passphrase") else label

    return answer


@pytest.fixture
def newsroom(
    tmp_path: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Newsroom]":
    from test_cli.newsroom import Newsroom

    room = Newsroom(tmp_path / "newsroom", run, monkeypatch)
    yield room
    room.close()


@pytest.fixture
def bureau(tmp_path: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> "Bureau":
    from test_cli.bureau import Bureau

    return Bureau(tmp_path / "bureau", run, monkeypatch)
