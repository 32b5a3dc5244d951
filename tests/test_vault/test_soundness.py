"""A backup is held against what its server had promised, before it takes its place."""

import json
import os
from pathlib import Path

import pytest

from cli.main import invoke
from tests.world import Dossier, World, an_armed_dossier, until
from vault import backups, founding, soundness, statements
from vault.errors import Refused
from vault.settings import read_settings
from vault.switch import Stage

SPOILT = {
    "an entry was altered": "UPDATE history SET entry = replace(entry, 'arm', 'ARM') WHERE entry LIKE '%\"arm\"%'",
    "an entry is gone": "DELETE FROM history WHERE number = 3",
    "the newest entries are gone": "DELETE FROM history WHERE number > 4",
    "the last number is another": "UPDATE accounts SET number = number + 1",
    "an acknowledgement was altered": "UPDATE statements SET acknowledgement = replace(acknowledgement, 'a', 'b')",
    "an acknowledgement is of something else": (
        "UPDATE statements SET acknowledgement = (SELECT min(acknowledgement) FROM statements)"
    ),
    "a release was altered": "UPDATE releases SET envelope = replace(envelope, 'a', 'b')",
    "a release is gone": "DELETE FROM releases",
    "its check-in is gone": "UPDATE releases SET checkin = NULL",
    "a switch does not read": "UPDATE switches SET entered = 'garbage'",
    "a roster is gone": "DELETE FROM rosters",
    "a roster is another": "UPDATE dossiers SET roster = 'aa'",
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Dossier:
    made = an_armed_dossier(World(tmp_path_factory.mktemp("server")))
    made.hers.check_in()
    until(made, Stage.RELEASED)
    return made


def test_a_sound_server_has_no_flaw(released: Dossier) -> None:
    world = released.world
    assert soundness.flaws(world.records, world.custodian) == []


@pytest.mark.parametrize("what", SPOILT)
def test_whatever_does_not_hold_is_named(released: Dossier, what: str) -> None:
    world = released.world
    start = world.snapshot()
    with world.records.transaction():
        world.database.run(SPOILT[what])
    try:
        found = soundness.flaws(world.records, world.custodian)
    finally:
        world.rewind(start)
    assert found, what
    assert all(each.of.startswith(("account ", "dossier ")) for each in found)


CHANGES = {
    "its kind is none": "UPDATE changes SET kind = 'eestroy'",
    "its kind is another": "UPDATE changes SET kind = 'address'",
    "it does not add up": "UPDATE changes SET total = total + 7",
    "a word is no text": "UPDATE changes SET life = CAST(x'ff' AS TEXT)",
    "its name is none": "UPDATE changes SET hash = x'ff'",
    "what it says does not open": "UPDATE changes SET body = x'00'",
    "it is of another dossier": "UPDATE changes SET dossier = 'aa'",
    "its dossier's cooling time is another": "UPDATE dossiers SET total = total - 3",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_slow_change_that_does_not_hold_is_named(world: World, what: str) -> None:
    made = an_armed_dossier(world)
    hash = made.hers.order(made.id, statements.Destroy)
    assert soundness.flaws(world.records, world.custodian) == []
    with world.records.transaction():
        world.database.run(CHANGES[what])
    (flaw,) = soundness.flaws(world.records, world.custodian)
    named = f"dossier {made.id}" if "cooling" in what else f"change {None if 'name' in what else hash}"
    assert flaw.of == named


def test_an_unsound_backup_replaces_nothing_and_can_be_taken_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "before").mkdir()
    world = World(tmp_path / "before")
    made = an_armed_dossier(world)
    with world.records.transaction():
        world.database.run("DELETE FROM history WHERE number = 3 AND account = :a", a=made.hers.account.id)
    backups.back_up(
        world.database, world.records, world.objects, world.custodian, tmp_path, tmp_path / "kept"
    )
    (tmp_path / "key").write_text(world.key.write())
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(tmp_path / "key"))
    again = ["operator", "restore", str(tmp_path / "kept"), "--data", str(tmp_path / "back")]
    assert invoke(again) == 3
    said = capsys.readouterr().err
    assert "afterword: unsound" in said
    assert f"account {made.hers.account.id}" in said
    assert not (tmp_path / "back" / "afterword.db").exists()
    assert invoke([*again, "--anyway", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (len(told["unsound"]), told["switches"]) == (1, 1)


def test_a_restore_that_was_killed_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it ends, there is no server under its name, or a whole one."""
    (tmp_path / "before").mkdir()
    world = World(tmp_path / "before")
    an_armed_dossier(world)
    backups.back_up(
        world.database, world.records, world.objects, world.custodian, tmp_path, tmp_path / "kept"
    )
    (tmp_path / "key").write_text(world.key.write())
    settings = read_settings({"AFTERWORD_SERVER_KEY_FILE": str(tmp_path / "key")}, data=tmp_path / "back")
    for room, name in (
        (soundness, "flaws"),
        (backups, "bring_objects"),
        (backups, "begin_anew"),
        (os, "fsync"),
    ):
        genuine = getattr(room, name)

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(room, name, killed)
        with pytest.raises(KeyboardInterrupt):
            founding.restore(settings, tmp_path / "kept")
        monkeypatch.setattr(room, name, genuine)
        assert not (tmp_path / "back" / "afterword.db").exists()
    assert founding.restore(settings, tmp_path / "kept")[0] == 1
    with pytest.raises(Refused) as refused:
        founding.restore(settings, tmp_path / "kept")
    assert refused.value.code == "not-empty"
