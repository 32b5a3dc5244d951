"""What tests of the commands share: a server on the loopback, an empty home, and a way to run a command line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from test_cli.loopback import Loopback


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
    return path


@pytest.fixture
def run(
    home_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run one command line in this process; `answers` are typed line by line, or by asking a function."""
    import sys

    from cli import main

    class Typed:
        def __init__(self, answers: object) -> None:
            self.answers = iter(answers) if not callable(answers) else None
            self.answer = answers

        def isatty(self) -> bool:
            return False

        def readline(self) -> str:
            if self.answers is None:
                return f"{self.answer()}\n"
            return next((f"{each}\n" for each in self.answers), "")

    def running(*arguments: str, answers: object = ()) -> Ran:
        monkeypatch.setattr(sys, "stdin", Typed(answers))
        capfd.readouterr()
        code = main.invoke(arguments)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return running
