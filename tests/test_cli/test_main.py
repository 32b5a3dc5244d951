import errno
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli import main
from vault import errors

HEAVY = ("flask", "sqlite_utils", "cryptography", "nacl", "rich", "urllib3", "msgspec")


def _run(*arguments: str, code: str = "from cli.main import run; run()") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cli.main import invoke; exit_code = invoke(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], exit_code, file=sys.stderr)"
    )
    ran = _run(code=code)
    assert ran.stderr == "[] 0\n"
    for name, place in main.PLACES.items():
        assert name in ran.stdout
        assert place.help.split()[0] in ran.stdout


def test_an_unknown_command_imports_nothing_heavy_either() -> None:
    code = "import sys; from cli.main import invoke; invoke(['chekin']); "
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    assert _run(code=code).stdout == "[]\n"


def test_every_command_of_the_design_is_in_the_table() -> None:
    commands = (
        "serve operator doctor join card address passphrase status wipe collaborator dossier brief push bundles arm "
        "checkin calendar pause resume plan roster destroy cancel inbox drill recover give leave history hold"
    )
    assert set(commands.split()) == set(main.PLACES)


@pytest.mark.parametrize("name", sorted(main.PLACES))
def test_every_command_that_is_there_says_how_it_is_used(name: str) -> None:
    ran = _run(name, "--help")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"Usage: afterword {name}")


def test_a_part_that_is_missing_leaves_the_help_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(main.PLACES, "push", main.Lazy("cli.not_there", "push", "Push."))
    assert main.invoke(["--help"]) == 0
    assert main.invoke(["push"]) == main.BUG
    assert "cli.not_there" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown_and_nothing_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.invoke([]) == 2
    assert "Usage: afterword" in capsys.readouterr().err


def _raising(error: BaseException) -> click.Command:
    def fail(**_: object) -> None:
        raise error

    return click.Command("fail", callback=fail, params=[click.Option(["--json"], is_flag=True)])


def _sqlite(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("detail of the database")
    error.sqlite_errorname = name
    return error


FAILURES: list[tuple[BaseException, int, str]] = [
    (errors.BadUsage("Do this."), 2, "usage"),
    (errors.BadUsage("Do this.", code="bad-url"), 2, "bad-url"),
    (click.UsageError("Do this."), 2, "usage"),
    (click.BadParameter("Do this."), 2, "usage"),
    (errors.Refused("Do this.", code="not-ready"), 3, "not-ready"),
    (errors.OverQuota("Do this."), 3, "over-quota"),
    (errors.NotEnoughShares(1, 2), 3, "not-enough-shares"),
    (errors.NotFound("Do this."), 4, "not-found"),
    (errors.Conflict("Do this."), 5, "conflict"),
    (errors.StaleSequence(3), 5, "stale-sequence"),
    (errors.Untrusted("Do this.", code="card-differs"), 6, "card-differs"),
    (errors.WrongPassphrase("Do this."), 6, "wrong-passphrase"),
    (errors.Unauthenticated("Do this."), 6, "unauthenticated"),
    (errors.Malformed("Do this."), 7, "malformed"),
    (errors.Unreachable("Do this."), 8, "unreachable"),
    (errors.Damaged("Do this."), 9, "damaged"),
    (errors.NoSpace("Do this."), 10, "no-space"),
    (OSError(errno.ENOSPC, "No space left on device"), 10, "no-space"),
    (PermissionError(errno.EACCES, "Permission denied", "/a/file"), 10, "os-error"),
    (_sqlite("SQLITE_FULL"), 10, "no-space"),
    (_sqlite("SQLITE_IOERR_WRITE"), 10, "os-error"),
    (_sqlite("SQLITE_BUSY"), 5, "busy"),
    (_sqlite("SQLITE_CORRUPT"), 9, "damaged"),
    (_sqlite("SQLITE_ERROR"), 70, "bug"),
    (errors.AfterwordError("Do this."), 1, "error"),
    (ModuleNotFoundError("No module named 'flask'", name="flask"), 3, "server-extra"),
    (ModuleNotFoundError("No module named 'flask.app'", name="flask.app"), 3, "server-extra"),
    (ModuleNotFoundError("No module named 'cli.x'", name="cli.x"), 70, "bug"),
    (click.exceptions.Abort(), 130, "interrupted"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (ValueError("a secret title"), 70, "bug"),
    (RecursionError(), 70, "bug"),
    (MemoryError(), 70, "bug"),
]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    def fail_with(error: BaseException) -> None:
        monkeypatch.setattr(main.Commands, "get_command", lambda *_: _raising(error))

    return fail_with


@pytest.mark.parametrize(("error", "exit_code", "code"), FAILURES, ids=lambda each: type(each).__name__)
def test_every_failure_is_a_sentence_a_code_and_an_exit_code(
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    exit_code: int,
    code: str,
) -> None:
    failing(error)
    assert main.invoke(["fail"]) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"\nafterword: {code}\n")
    assert "Traceback" not in err
    assert "a secret title" not in err
    assert "detail of the database" not in err

    assert main.invoke(["fail", "--json"]) == exit_code
    out, again = capsys.readouterr()
    assert again == err
    assert json.loads(out)["error"] == {
        "code": code,
        "sentence": err.strip().removesuffix(f"\nafterword: {code}"),
    }


def test_every_error_class_has_a_place_in_the_table() -> None:
    kinds = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.AfterwordError)
    ]
    shadowed = [
        (later, earlier)
        for place, (later, _) in enumerate(main.EXIT_CODES)
        for earlier, _ in main.EXIT_CODES[:place]
        if issubclass(later, earlier)
    ]
    assert shadowed == []
    for kind in kinds:
        assert any(issubclass(kind, listed) for listed, _ in main.EXIT_CODES)


def test_a_traceback_is_shown_to_those_who_ask_for_it(
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(ValueError("why"))
    monkeypatch.setenv("AFTERWORD_DEBUG", "1")
    assert main.invoke(["fail"]) == 70
    assert "ValueError: why" in capsys.readouterr().err


def test_an_answer_nobody_reads_is_no_crash() -> None:
    line = f"{sys.executable} -P -c 'from cli.main import run; run()' --help | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert "Exception" not in ran.stderr
    assert ran.stdout in ("0\n", "1\n", "141\n")


def test_whatever_the_program_writes_it_writes_for_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cli import main;"
        "main.invoke = lambda _: Path(sys.argv[1]).write_text('x'); main.run()"
    )
    _run(str(tmp_path / "file"), code=code)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_the_version_is_told() -> None:
    ran = _run("--version")
    assert ran.stdout.startswith("afterword 0.")
    assert ran.returncode == 0
