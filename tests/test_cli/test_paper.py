import io
import secrets
import sys

import pytest

from cli import paper
from test_cli.conftest import words_shown
from vault.errors import Malformed, Refused
from vault.identity import RootSeed


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Typing:
    """A person at a terminal, who answers from what stands on the screen."""

    def __init__(self, screen: io.StringIO, wrong: int = 0) -> None:
        self.screen, self.wrong = screen, wrong

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        said = self.screen.getvalue()
        place = said.rstrip().rpartition("Word ")[2].rstrip(":")
        if not place.isdigit():
            return "\n"
        self.wrong -= 1
        return "wrong\n" if self.wrong >= 0 else f"{words_shown(said)[int(place) - 1]}\n"


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_words_are_off_the_screen_before_three_of_them_are_asked_back(
    monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdin", _Typing(screen))
    root = RootSeed.generate(secrets.token_bytes)
    paper.show_words(root, language, "https://x.example/join#server")
    shown, cleared, after = screen.getvalue().partition("\x1b[H\x1b[2J\x1b[3J")
    assert tuple(words_shown(shown)) == root.words(language)
    assert "https://x.example/join#server" in shown
    assert cleared
    assert after.count("Word ") == paper.ASKED_BACK


def test_two_slips_are_forgiven_and_the_third_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    root = RootSeed.generate(secrets.token_bytes)
    monkeypatch.setattr(sys, "stdin", _Typing(screen, wrong=2))
    paper.show_words(root, "en", "address")
    monkeypatch.setattr(sys, "stdin", _Typing(screen, wrong=3))
    with pytest.raises(Refused) as refused:
        paper.show_words(root, "en", "address")
    assert refused.value.code == "words-not-written"


def test_words_come_back_however_they_are_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    root = RootSeed.generate(secrets.token_bytes)
    numbered = [f"{place}. {word.upper()}" for place, word in enumerate(root.words(), 1)]
    lines = [" ".join(numbered[:7]), "", *numbered[7:20], "  ".join(numbered[20:])]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    assert paper.ask_words().words() == root.words()


def test_words_that_do_not_fit_three_times_are_refused_without_quoting_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(("abandon " * 24 + "\n") * 3))
    with pytest.raises(Malformed) as refused:
        paper.ask_words()
    assert refused.value.code == "wrong-words"
    assert "abandon" not in str(refused.value) + capsys.readouterr().err
