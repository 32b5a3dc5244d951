import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import terminal
from vault.clock import HOUR
from vault.errors import BadUsage, Refused


class _Typed(io.StringIO):
    """A script's standard input."""


def test_results_go_to_stdout_and_talk_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.result("the answer")
    terminal.say("the talk")
    terminal.warn("mind this")
    out, err = capsys.readouterr()
    assert out == "the answer\n"
    assert err == "the talk\nWarning: mind this\n"


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\u202e", "\x9b", "\r", "\x00", "\udce9", "\u2066"])
def test_nothing_that_is_printed_can_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], nasty: str
) -> None:
    terminal.result(f"a{nasty}b")
    assert nasty not in capsys.readouterr().out


def test_json_stays_json_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"title": "a\x1b[2J\u202eb\x7f\x85\n"}
    terminal.answer(value, True, lambda _: None)
    assert json.loads(capsys.readouterr().out) == value


def test_an_answer_without_json_is_rendered_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.answer({"n": 3}, False, lambda one: f"three: {one['n']}")
    assert capsys.readouterr().out == "three: 3\n"


def test_a_strangers_sentence_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.one_line("no.\nWord 7: \x1b[1mtype it") == "no. Word 7: \\u001b[1mtype it"
    assert len(terminal.one_line("x" * 9_999)) == 500


def test_a_script_holds_the_conversation_on_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Typed("  Ana \n  a secret \ny\n"))
    assert terminal.ask("Name") == "Ana"
    assert terminal.ask_secret("Passphrase") == "  a secret "
    assert terminal.confirm("Go on?")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Name: \nPassphrase: \nGo on? [y/N]: \n"


def test_a_question_that_nobody_answers_is_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Typed(""))
    with pytest.raises(BadUsage) as refused:
        terminal.ask("Name")
    assert refused.value.code == "no-answer"


@pytest.mark.parametrize("typed", ["", "n", "no", "yess", "1"])
def test_only_a_clear_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr(sys, "stdin", _Typed(f"{typed}\n"))
    assert not terminal.confirm("Go on?")


def test_the_passphrase_comes_from_the_option_before_the_environment_before_the_prompt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("option", "variable"):
        (tmp_path / name).write_text(f"from the {name}\nsecond line")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setattr(sys, "stdin", _Typed("typed by hand\n"))
    monkeypatch.setenv("AFTERWORD_PASSPHRASE_FILE", str(tmp_path / "variable"))
    assert terminal.passphrase(tmp_path / "option") == "from the option"
    assert terminal.passphrase() == "from the variable"
    monkeypatch.delenv("AFTERWORD_PASSPHRASE_FILE")
    assert terminal.passphrase() == "typed by hand"


def test_a_passphrase_file_that_others_can_read_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a good passphrase")
    (tmp_path / "file").chmod(0o644)
    assert terminal.passphrase(tmp_path / "file") == "a good passphrase"
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"\nsecond", b"\xff\xfe"])
def test_a_passphrase_file_that_holds_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadUsage) as refused:
        terminal.passphrase(tmp_path / "file")
    assert refused.value.code == "bad-passphrase-file"


def test_a_new_passphrase_is_typed_twice_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "stdin", _Typed("one of these words\nanother of these\nfive random words\nfive random words\n")
    )
    assert terminal.passphrase(confirm=True) == "five random words"


def test_a_new_passphrase_that_never_matches_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Typed("a long passphrase\nb long passphrase\n" * 3))
    with pytest.raises(BadUsage) as refused:
        terminal.passphrase(confirm=True)
    assert refused.value.code == "passphrases-differ"


def test_a_new_passphrase_of_seven_characters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Typed("seven77\n" * 3))
    with pytest.raises(Refused) as refused:
        terminal.passphrase(confirm=True)
    assert refused.value.code == "passphrase-too-short"


def test_a_person_may_slip_as_often_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["short", "a long passphrase", "a lang passphrase"] * 5 + ["five random words"] * 2)
    monkeypatch.setattr(terminal, "interactive", lambda: True)
    monkeypatch.setattr(terminal, "_read_unseen", lambda _: next(typed))
    assert terminal.new_passphrase("New passphrase") == "five random words"


def test_a_short_new_passphrase_is_taken_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Typed("eight888\neight888\n"))
    assert terminal.passphrase(confirm=True) == "eight888"
    assert "short" in capsys.readouterr().err


def test_progress_without_a_terminal_is_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("Pushing", 20_000_000) as bar:
        for _ in range(1000):
            bar.advance(20_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "Pushing: 20.0 MB of 20.0 MB (100 %)"


@pytest.mark.parametrize(("total", "lines"), [(0, 0), (999_999, 0), (3_000_000, 3)])
def test_what_is_moved_in_a_moment_needs_few_lines(
    capsys: pytest.CaptureFixture[str], total: int, lines: int
) -> None:
    with terminal.progress("Pushing", total) as bar:
        for _ in range(10):
            bar.advance(total // 10 + 1)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_progress_on_a_terminal_draws_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.progress("[bold]Pushing", 10) as bar:
        bar.advance(10)
    assert "[bold]Pushing" in screen.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_100_000_000, "2.1 GB"),
        (999_960, "1.0 MB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes_read_as_people_write_them(count: int, text: str) -> None:
    assert terminal.size(count) == text


def test_an_instant_is_shown_here_and_in_utc(zone: Callable[[str], None]) -> None:
    at = 1_795_527_780_000
    for name, shown in {
        "UTC": "2026-11-24 13:43 UTC",
        "CET-1": "2026-11-24 14:43 CET (13:43 UTC)",
        "NZST-12": "2026-11-25 01:43 NZST (2026-11-24 13:43 UTC)",
    }.items():
        zone(name)
        assert terminal.local(at) == shown


def test_a_count_has_gaps() -> None:
    assert terminal.number(1274) == "1 274"


def test_a_long_line_is_broken_between_words_and_goes_on_under_its_own() -> None:
    folded = terminal.fold("  next       a reminder on Tuesday, without a check-in\nshort", 32)
    assert (
        folded == "  next       a reminder on\n             Tuesday, without a\n             check-in\nshort"
    )


def test_an_address_is_never_broken() -> None:
    invite = "http://127.0.0.1:8470/join#" + "a" * 60
    assert terminal.fold(f"Use {invite} once", 40) == f"Use\n{invite}\nonce"


def test_what_goes_into_a_pipe_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.result("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_line_end_in_a_name_is_spelled_out() -> None:
    assert terminal.name("a\nDeposited 1 file") == "a\\u000aDeposited 1 file"


@pytest.mark.parametrize("name", ["LINT-14", "HST10", "UTC"])
def test_no_claimed_time_is_too_absurd_to_be_shown(name: str, zone: Callable[[str], None]) -> None:
    zone(name)
    for at in (2**53 - 1, -(2**53)):
        assert "UTC" in terminal.local(at)
    assert terminal.day(2**53 - 1) == "9999-12-31"


@pytest.mark.parametrize(
    ("left", "shown"),
    [
        (40_900, "17:04:25 UTC, in 40s"),
        (2 * HOUR, "19:03 UTC, in 2h"),
        (999, "17:03:45 UTC, now"),
        (-5, "17:03:44 UTC, now"),
    ],
)
@pytest.mark.usefixtures("zone")
def test_what_is_near_is_dated_to_the_second(left: int, shown: str) -> None:
    assert terminal.ahead(1_795_367_025_000 + left, 1_795_367_025_000) == f"2026-11-22 {shown}"


def test_one_of_a_thing_is_not_several() -> None:
    assert [terminal.count(n, "bundle") for n in (0, 1, 1274)] == ["0 bundles", "1 bundle", "1 274 bundles"]


def test_what_a_command_is_for_is_folded_under_itself_and_not_under_the_command() -> None:
    line = "    afterword address add ADDRESS  where letters reach you; without one you hear nothing"
    assert terminal.fold(line, 70).splitlines() == [
        "    afterword address add ADDRESS  where letters reach you; without",
        f"{' ' * 35}one you hear nothing",
    ]
