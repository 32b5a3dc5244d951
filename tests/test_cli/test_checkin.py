import errno
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from cli import disk
from cli.home import Home
from test_cli.bureau import Bureau
from vault import statements, watch, wire
from vault.clock import HOUR
from vault.errors import StaleSequence
from vault.statements import CheckIn
from vault.switch import Stage


def last_check_in(bureau: Bureau) -> tuple[wire.CheckInRequest, CheckIn]:
    body = next(body for asked, body in reversed(bureau.asked) if asked == "POST /check-ins")
    request = wire.read(body, wire.CheckInRequest)
    key = bureau.ana.keyring.checkin.verify_key
    return request, statements.read(request.statement.encode(), key, CheckIn)


def test_a_check_in_begins_the_time_anew_and_prints_every_date_to_come(bureau: Bureau) -> None:
    id = bureau.armed()
    bureau.world.skip(HOUR)
    assert bureau.world.stage(id) is Stage.REMINDED
    said = bureau.does("checkin")
    assert bureau.world.stage(id) is Stage.ARMED
    dates = [line for line in said.splitlines() if line.startswith("    2")]
    assert [line.partition(": ")[2].split(";")[0] for line in dates] == [
        "a letter asks you to check in",
        "a last warning to you",
        "a last call to you",
        "RELEASE: your colleagues can open it",
    ]
    assert all("UTC" in line for line in dates)
    assert "in 1h" in dates[0]


def test_it_needs_no_session(bureau: Bureau) -> None:
    bureau.armed()
    bureau.asked.clear()
    bureau.does("checkin")
    assert {asked for asked, _ in bureau.asked} <= {"GET /server", "POST /nonces", "POST /check-ins"}


def test_it_says_what_she_knew_of_each_dossier_and_sends_the_last_acknowledgement(bureau: Bureau) -> None:
    id = bureau.armed()
    with bureau.home() as home:
        home.remember_dossier(id, "journalist", epoch=1, roster_hash="0" * 64, head_hash="ab" * 32, bundles=1)
        kept = home.last_acknowledgement()
    bureau.does("checkin")
    request, signed = last_check_in(bureau)
    assert [(each.dossier, each.epoch, each.head) for each in signed.dossiers] == [(id, 1, "ab" * 32)]
    assert kept is not None
    assert request.last == kept.decode()
    with bureau.home() as home:
        assert home.last_acknowledgement() != kept


def test_a_number_the_server_knows_already_is_signed_anew_once(bureau: Bureau) -> None:
    id = bureau.armed()
    with bureau.home() as home:
        home.remember("seq", b"0")
        home.db.execute("DELETE FROM facts WHERE name = 'acknowledgement'")
    bureau.does("checkin")
    assert bureau.world.stage(id) is Stage.ARMED
    assert len([asked for asked, _ in bureau.asked if asked == "POST /check-ins"]) == 2


def test_a_check_in_whose_answer_was_lost_counts_once_and_is_answered(bureau: Bureau) -> None:
    bureau.armed()
    bureau.lost.append("/check-ins")
    assert "Checked in" in bureau.does("checkin")


def test_without_the_network_nothing_is_claimed(bureau: Bureau) -> None:
    bureau.armed()
    bureau.unsent.extend(["/check-ins"] * 5)
    done = bureau.run("Ana", "checkin")
    assert (done.code, done.out) == (8, "")
    assert "YOU ARE NOT CHECKED IN" in done.err
    assert done.err.endswith("afterword: unreachable\n")


def test_an_acknowledgement_that_another_server_signed_is_no_check_in(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.home import Home
    from test_cli.loopback import a_person

    bureau.armed()
    with Home.open(bureau.folder / "Ana") as home:
        home.remember("server", a_person("server", "server")[1].envelope)
    assert bureau.refused("checkin") in {"untrusted", "wrong-server", "server-changed"}


def test_the_wrong_passphrase_checks_nobody_in(bureau: Bureau) -> None:
    bureau.armed()
    done = bureau.types("Ana", "checkin", answers=("something else",))
    assert (done.code, done.out) == (6, "")
    assert not [asked for asked, _ in bureau.asked if asked == "POST /check-ins"]


def test_a_copied_home_checks_in_beside_the_original_and_needs_the_passphrase_each_time_as_it_does(
    bureau: Bureau,
) -> None:
    id = bureau.armed()
    shutil.copytree(bureau.folder / "Ana", bureau.folder / "copy")
    bureau.world.skip(HOUR)
    for answers in ((), ("something else",)):
        bureau.asked.clear()
        assert bureau.types("copy", "checkin", answers=answers).code != 0
        assert not [asked for asked, _ in bureau.asked if asked == "POST /check-ins"]
    assert bureau.world.stage(id) is Stage.REMINDED
    # With the passphrase it is she, as far as anybody can tell; and it is asked for again the next time.
    assert "Checked in" in bureau.does("checkin", who="copy")
    assert bureau.world.stage(id) is Stage.ARMED
    assert bureau.types("copy", "checkin", answers=()).code != 0
    captured = next(body for asked, body in reversed(bureau.asked) if asked == "POST /check-ins")
    bureau.world.skip(HOUR)
    # The original is neither locked out nor taken for a fork, and sees what it did not do itself.
    assert "in " in bureau.does("status")
    assert bureau.world.stage(id) is Stage.REMINDED
    assert "Checked in" in bureau.does("checkin")
    assert "Checked in" in bureau.does("checkin", who="copy")
    for who in ("Ana", "copy"):
        said = bureau.does("history", who=who)
        assert said.count("you checked in") == 3, said
        assert "It holds" in said
    # What the copy once sent is worth nothing when somebody sends it again.
    bureau.world.skip(HOUR)
    number = bureau.world.records.account(bureau.ana.account.id).number
    request = wire.read(captured, wire.CheckInRequest)
    with pytest.raises(StaleSequence):
        watch.check_in(bureau.world.records, bureau.world.custodian, request)
    assert bureau.world.stage(id) is Stage.REMINDED
    assert bureau.world.records.account(bureau.ana.account.id).number == number


def test_from_a_file_it_says_that_only_the_computer_was_proved_alive(bureau: Bureau, tmp_path: Path) -> None:
    bureau.armed()
    file = tmp_path / "passphrase"
    file.write_text("five random words here\n")
    file.chmod(0o600)
    done = bureau.types("Ana", "checkin", "--passphrase-file", str(file), answers=())
    assert "proves that the computer lives, not the person" in done.err
    assert "proves that" not in bureau.does("checkin")


def test_what_could_not_be_moved_is_named_with_the_reason(bureau: Bureau) -> None:
    bureau.create()
    answered = bureau.json("checkin")
    dossiers = answered["dossiers"]
    assert isinstance(dossiers, list)
    assert dossiers[0]["title"] == "Harbour"
    assert "not armed yet" in dossiers[0]["refused"]
    assert "nothing happens if you fall silent" in bureau.does("checkin")


def test_after_a_release_it_says_so_and_claims_nothing_else(bureau: Bureau) -> None:
    bureau.armed()
    for _ in range(4):
        bureau.world.skip(HOUR)
    for _ in range(8):
        bureau.world.skip(HOUR)
    assert "Harbour: RELEASED" in bureau.does("checkin")


def test_a_paused_dossier_stays_paused(bureau: Bureau) -> None:
    id = bureau.armed()
    bureau.does("pause", "Harbour", "--until", "10h")
    said = bureau.does("checkin")
    assert bureau.world.stage(id) is Stage.PAUSED
    (line,) = [line for line in said.splitlines() if "the pause ends" in line]
    assert "in 10h" in line
    assert f"to end that now: afterword resume {id[:8]})" in said


def test_whose_ended_pause_was_forgotten_is_told_that_it_runs_and_how_it_ends(bureau: Bureau) -> None:
    id = bureau.armed()
    bureau.does("pause", "Harbour", "--until", "10h")
    before = bureau.back_up()
    bureau.does("resume", "Harbour")
    bureau.does("checkin")
    bureau.restore(before)
    first = bureau.does("status")
    assert "but for one that is paused" in first
    assert "end it again with `afterword resume`" in first
    bureau.does("resume", id[:8])
    bureau.restore(before)
    said = bureau.does("checkin")
    assert "resume again what is not armed below" in said
    assert f"afterword resume {id[:8]}" in said


def test_a_roster_change_that_cannot_be_handed_over_does_not_cost_the_check_in(bureau: Bureau) -> None:
    id = bureau.armed()
    with bureau.home() as home:
        home.save_pending(id, "roster-2", b"{")
    said = bureau.does("checkin")
    assert "Checked in" in said
    assert "could not be handed over" in said


def test_it_loads_nothing_that_only_others_need() -> None:
    script = "import cli.checkin, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    assert not modules & {
        "flask",
        "sqlite_utils",
        "rich",
        "mnemonic",
        "vault.switch",
        "vault.letters",
        "zstandard",
    }


def test_a_dossier_that_the_server_cannot_show_is_named_and_not_left_out(bureau: Bureau) -> None:
    id = bureau.armed()
    with bureau.world.database.transaction():
        bureau.world.database.run("UPDATE switches SET due = 0 WHERE dossier = :id", id=id)
    said = bureau.does("checkin")
    assert "Harbour" in said
    assert "ask its operator" in said
    assert "no dossier on this server" not in said


def test_a_dossier_that_the_server_has_forgotten_is_named_too(bureau: Bureau) -> None:
    before = bureau.back_up()
    bureau.armed()
    bureau.restore(before)
    said = bureau.does("checkin")
    assert "Harbour" in said
    assert "ask its operator" in said


def test_a_server_that_went_back_tells_her_so_by_its_own_last_word(bureau: Bureau) -> None:
    bureau.create()
    before = bureau.back_up()
    bureau.does("arm", "Harbour", "--anyway")
    assert "gone back" not in bureau.does("checkin")
    bureau.restore(before)
    said = bureau.does("checkin")
    assert "gone back" in said
    assert "not armed" in said
    assert "gone back" not in bureau.does("checkin")


def a_full_disk(*given: object) -> NoReturn:
    with closing(sqlite3.connect(":memory:")) as small:
        small.execute("PRAGMA max_page_count = 1")
        small.execute("CREATE TABLE more (than TEXT)")
    raise AssertionError("it fits")


def a_disk_for_reading(*given: object) -> NoReturn:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("fails", [a_full_disk, a_disk_for_reading])
@pytest.mark.parametrize("opens", [True, False])
def test_a_disk_that_takes_nothing_any_more_does_not_cost_the_check_in(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., NoReturn], opens: bool
) -> None:
    id = bureau.armed()
    bureau.world.skip(HOUR)
    assert bureau.world.stage(id) is Stage.REMINDED
    with monkeypatch.context() as broken:
        if opens:
            remember = Home.remember
            file = bureau.folder / "Ana" / "state.db"

            def refuse(home: Home, name: str, value: bytes) -> None:
                (_, _, place) = home.db.execute("PRAGMA database_list").fetchone()
                if Path(place) == file:
                    fails()
                remember(home, name, value)

            broken.setattr(Home, "remember", refuse)
        else:
            broken.setattr(disk, "connect", fails)
        said = bureau.does("checkin")
    assert bureau.world.stage(id) is Stage.ARMED
    assert "Make room" in said
    assert "Make room" not in bureau.does("checkin")
