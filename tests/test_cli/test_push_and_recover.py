"""`afterword push` and `afterword recover` as commands, against the real server over real HTTP."""

import hashlib
import json
import random
from pathlib import Path

import pytest

from test_cli.archive_world import contents
from test_cli.conftest import PASSPHRASE
from test_cli.newsroom import Newsroom
from vault import release
from vault.switch import Stage, Switch

TITLE = "Fishing licences"


@pytest.fixture
def room(newsroom: Newsroom) -> Newsroom:
    newsroom.journalist("Ana")
    newsroom.dossier(TITLE)
    return newsroom


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "one.txt").write_text("first note\n" * 50)
    (folder / "film.bin").write_bytes(random.Random(1).randbytes(3_000_000))
    return folder


def let_go(room: Newsroom) -> None:
    """The end of a silence, without the silence."""
    records = room.vault.records
    with records.transaction() as now:
        (dossier,) = [str(row["id"]) for row in records.db.all("SELECT id FROM dossiers")]
        seen = records.switch(dossier)
        after = Switch(Stage.RELEASED, seen.switch.plan, now.served, ladder=1)
        records.save_switch(seen, after, now.wall)
        release.let_go(records, room.vault.custodian, now, records.dossier(dossier))


def test_a_deposit_and_its_recovery_by_two_colleagues(room: Newsroom, case: Path, tmp_path: Path) -> None:
    out = room.ran("Ana", "push", TITLE, str(case), "--note", "ask Bea")
    assert "Deposited 2 files, 3.0 MB as bundle 1" in out
    assert "This was not a check-in." in out
    (case / "notes" / "two.txt").write_text("second note")
    assert room.json("Ana", "push", TITLE, str(case))["objects"] == 2
    assert "Nothing has changed" in room.ran("Ana", "push", TITLE, str(case))

    early = room.run("Bea", "recover", TITLE, "--to", str(tmp_path / "early"))
    assert (early.code, "afterword: not-released" in early.err) == (3, True)
    assert "Try to reach Ana first" in early.err
    own = room.run("Ana", "recover", TITLE, "--list")
    assert (own.code, "only your colleagues can take out" in own.err) == (4, True)
    let_go(room)

    alone = room.run("Bea", "recover", TITLE, "--to", str(tmp_path / "bea"), answers=[PASSPHRASE, "y"])
    assert (alone.code, "afterword: not-enough-shares" in alone.err) == (3, True)
    assert "Still missing: Carlos" in alone.err
    for who in ("Carlos", "Bea"):
        out = room.ran(who, "recover", TITLE, "--to", str(tmp_path / who), "--yes")
        assert "3 files, 3.0 MB, 2 bundles of" in out
        assert "complete, signed by Ana." in out
        assert contents(tmp_path / who / "case") == contents(case)
    again = room.run("Bea", "recover", TITLE, "--list")
    assert again.code == 0, again.err
    assert "You have given your share already" in again.err
    assert "[y/N]" not in again.err
    part = room.ran("Bea", "recover", TITLE, "--to", str(tmp_path / "part"), "--only", "*.txt")
    assert "all that was asked for, signed by Ana" in part


def test_whoever_says_no_gives_nothing(room: Newsroom, case: Path, tmp_path: Path) -> None:
    room.ran("Ana", "push", TITLE, str(case))
    let_go(room)
    done = room.run("Bea", "recover", TITLE, "--to", str(tmp_path / "to"), answers=[PASSPHRASE, "n"])
    assert (done.code, "afterword: not-confirmed" in done.err) == (3, True)
    assert not (tmp_path / "to").exists()
    assert "the server shows no check-in of Ana's" in done.err
    assert room.json("Carlos", "give", TITLE, "--yes")["given"] == 1


def test_nothing_is_read_for_a_dossier_that_is_released(room: Newsroom, case: Path) -> None:
    room.ran("Ana", "push", TITLE, str(case / "notes"))
    let_go(room)
    done = room.run("Ana", "push", TITLE, str(case))
    assert (done.code, done.out) == (3, "")
    assert "is released, and stays as it is" in done.err
    assert "Pushing" not in done.err


def test_the_key_for_stock_tools_and_the_list(room: Newsroom, case: Path, tmp_path: Path) -> None:
    room.ran("Ana", "push", TITLE, str(case))
    let_go(room)
    room.ran("Carlos", "give", TITLE, "--yes")
    key = tmp_path / "key.txt"
    listed = room.ran("Bea", "recover", TITLE, "--list", "--yes", "--json", "--write-identity", str(key))
    digest = hashlib.sha256((case / "film.bin").read_bytes()).hexdigest()
    assert digest in {each["sha256"] for each in json.loads(listed)["entries"]}
    assert key.read_text().splitlines()[-1].startswith("AGE-SECRET-KEY-PQ-1")


def test_an_unreadable_file_gives_a_code_of_its_own_and_the_rest_is_there(
    room: Newsroom, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli import depositing

    real = depositing.read_file

    def read(found, take):
        if found.p.endswith("one.txt"):
            raise PermissionError(13, "Permission denied")
        return real(found, take)

    monkeypatch.setattr(depositing, "read_file", read)
    done = room.run("Ana", "push", TITLE, str(case))
    assert done.code == 3
    assert "afterword: incomplete" in done.err
    assert "PROBLEM: case/notes/one.txt: it cannot be read" in done.out
    assert "Deposited 1 file, " in done.out


def test_what_is_wrong_with_the_paths_is_said_before_the_passphrase(room: Newsroom, case: Path) -> None:
    done = room.run("Ana", "push", TITLE, str(case), str(case), answers=[])
    assert (done.code, "afterword: path-twice" in done.err) == (3, True)
    done = room.run("Bea", "recover", TITLE, answers=[])
    assert (done.code, "--to FOLDER" in done.err) == (2, True)


def test_somebody_elses_dossier_cannot_be_pushed_to(room: Newsroom, case: Path) -> None:
    room.ran("Bea", "inbox")
    done = room.run("Bea", "push", TITLE, str(case))
    assert (done.code, "afterword: not-a-journalist" in done.err) == (3, True)
