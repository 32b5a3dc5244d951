"""The operator's commands, and a whole server in real processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import operator, terminal
from cli.main import invoke
from tests.detour import a_proxy
from tests.world import World, an_armed_dossier
from vault import backups, compose, founding, keeping, wire
from vault.backups import Copied
from vault.clock import DAY
from vault.couriers.probe import Door
from vault.settings import read_settings

PATIENCE = 120.0
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("AFTERWORD_")}


@pytest.fixture(autouse=True)
def _no_settings_of_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(CLEAN):
        monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A founded server that does not run."""
    (tmp_path / "data").mkdir(mode=0o700)
    founding.found(read_settings({}, data=tmp_path / "data"))
    return tmp_path / "data"


def run(*words: str) -> int:
    return invoke(["operator", *words])


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parts_of(parent: int) -> dict[str, int]:
    """The parts that run under this parent, by name."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    words = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in children}
    return {line[line.index("operator") + 1]: int(pid) for pid, line in words.items() if "operator" in line}


@contextmanager
def a_server(data: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`afterword serve`, and what it said on stdout until it was ready."""
    with (data.parent / "errors").open("a") as errors:
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", "from cli.main import run; run()", "serve",
             "--data", str(data), "--port", "0", "--allow-short"],
            stdout=subprocess.PIPE, stderr=errors, text=True, env={**CLEAN, "AFTERWORD_WORKERS": "1", **environment},
        )  # fmt: skip
    assert server.stdout is not None
    said: list[str] = []
    try:
        while not said or not said[-1].startswith("READY"):
            line = server.stdout.readline()
            assert line, (data.parent / "errors").read_text()
            said.append(line.rstrip())
        yield server, said
    finally:
        parts = list(parts_of(server.pid).values()) if server.poll() is None else []
        if server.poll() is None:
            server.kill()
        server.wait(PATIENCE)
        server.stdout.close()
        for pid in parts:
            eventually(lambda pid=pid: not alive(pid), "the parts end with their parent")


def test_a_fresh_server_prints_its_address_and_one_invite_and_a_known_one_no_second(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with a_server(data) as (server, said):
        address = said[-1].removeprefix("READY ")
        invites = [line for line in said if "/join#" in line]
        assert len(invites) == 1
        assert f"Invite for one journalist: {address}/join#" in invites[0]
        assert any(line.startswith(f"Afterword serves {address} from") for line in said)
        assert Door(address).health() == wire.Health(ok=True, ticking=True)
        assert set(parts_of(server.pid)) == {"web", "watch"}
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
    with a_server(data) as (_, said):
        assert not any("/join#" in line for line in said)
    assert "no mail server is set" in (tmp_path / "errors").read_text()


def test_a_killed_server_comes_back_on_the_same_data_and_every_part_was_ended(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with a_server(data, AFTERWORD_SMTP="smtp://127.0.0.1:9") as (server, _):
        eventually(lambda: set(parts_of(server.pid)) == {"web", "watch", "deliver"}, "all three run")
        parts = parts_of(server.pid)
        os.kill(parts["watch"], signal.SIGKILL)
        eventually(lambda: parts_of(server.pid).get("watch", parts["watch"]) != parts["watch"], "a new watch")
        parts = parts_of(server.pid)
        server.kill()
        server.wait(PATIENCE)
        for pid in parts.values():
            eventually(lambda pid=pid: not alive(pid), "the parts end with their parent")
    with a_server(data) as (server, _):
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


def test_a_second_server_on_the_same_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with a_server(tmp_path / "data"):
        second = subprocess.run(
            [sys.executable, "-P", "-c", "from cli.main import run; run()", "serve",
             "--data", str(tmp_path / "data"), "--port", "0"],
            capture_output=True, text=True, timeout=PATIENCE, env=CLEAN, check=False,
        )  # fmt: skip
    assert second.returncode == 3
    assert "already runs" in second.stderr
    assert "afterword: already-served" in second.stderr


@pytest.mark.parametrize("smtp", ["mail.example", "smtp://ana:secret@mail.example"])
def test_a_mail_server_that_cannot_be_used_is_said_before_anything_is_founded(
    tmp_path: Path, smtp: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", "from cli.main import run; run()", "serve",
         "--data", str(tmp_path / "data"), "--port", "0"],
        capture_output=True, text=True, timeout=PATIENCE, env={**CLEAN, "AFTERWORD_SMTP": smtp}, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "AFTERWORD_SMTP" in ended.stderr
    assert "afterword: bad-setting" in ended.stderr
    assert "secret" not in ended.stderr
    assert not (tmp_path / "data" / "afterword.db").exists()


def test_under_systemd_no_invite_is_left_in_the_journal(tmp_path: Path) -> None:
    with a_server(tmp_path / "data", NOTIFY_SOCKET=str(tmp_path / "nobody")) as (_, said):
        assert not any("/join#" in line for line in said)
        assert any("afterword operator invite" in line for line in said)


def test_an_invite_leads_to_the_public_address_with_the_servers_fingerprint(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invite", "--data", str(data), "--url", "https://vault.example/") == 0
    link = capsys.readouterr().out.strip()
    code, fingerprint = link.removeprefix("https://vault.example/join#").split(".")
    assert (len(code), len(fingerprint)) == (16, 22)
    assert run("invite", "--data", str(data), "--json") == 0
    assert json.loads(capsys.readouterr().out)["invite"] != link


def test_a_copy_that_is_started_without_an_address_knocks_where_the_original_lives_and_counts_no_time(
    tmp_path: Path,
) -> None:
    original, copy = tmp_path / "one" / "data", tmp_path / "two" / "data"
    original.parent.mkdir()
    with a_proxy() as proxy:
        public = {"AFTERWORD_URL": "http://vault.onion", "AFTERWORD_PROBE_PROXY": proxy.url}
        with a_server(original, **public):
            pass
        shutil.copytree(original.parent, copy.parent)
        with a_server(original, **public) as (_, said):
            proxy.names = {"vault.onion": int(said[-1].rpartition(":")[2])}
            eventually(lambda: served(original), "time to count where the door leads")
            before = len(proxy.asked)
            with a_server(copy, AFTERWORD_PROBE_PROXY=proxy.url) as (_, also):
                assert any("vault.onion" in line for line in also)
                # The original knocks as well, so at least half of these are the copy's.
                eventually(lambda: len(proxy.asked) >= before + 8, "some knocks")
                assert served(copy) == 0
                assert "remembers, http://vault.onion" in (copy.parent / "errors").read_text()
            # Told where it is now, it counts.
            with a_server(copy, AFTERWORD_URL="http://127.0.0.1:1", AFTERWORD_PROBE_URL="") as (_, also):
                pass
            assert remembered(copy) is None


def served(data: Path) -> int:
    vault = compose.open_vault(read_settings({}, data=data))
    try:
        row = vault.records.service()
        assert row is not None
        return row.served
    finally:
        vault.records.db.close()


def remembered(data: Path) -> str | None:
    vault = compose.open_vault(read_settings({}, data=data))
    try:
        return compose.public_url(vault)
    finally:
        vault.records.db.close()


def test_the_address_a_server_was_started_with_is_remembered_until_another_is_given(data: Path) -> None:
    def start(url: str | None) -> str | None:
        vault = compose.open_vault(read_settings({}, data=data, url=url))
        compose.remember_url(vault)
        known = compose.public_url(vault)
        vault.records.db.close()
        return known

    assert start(None) is None
    assert start("https://vault.example") == start(None) == "https://vault.example"
    assert start("https://moved.example") == start(None) == "https://moved.example"
    assert start("http://127.0.0.1:8470") == "http://127.0.0.1:8470"
    assert start(None) is None, "an address of this computer is nothing to knock at from elsewhere"


def test_an_operators_command_with_another_address_changes_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = compose.open_vault(read_settings({}, data=data, url="https://vault.example"))
    compose.remember_url(vault)
    vault.records.db.close()
    assert run("invite", "--data", str(data)) == 0
    assert capsys.readouterr().out.startswith("https://vault.example/join#")
    monkeypatch.setenv("AFTERWORD_URL", "https://other.example")
    assert run("invite", "--data", str(data)) == 0
    assert run("accounts", "--data", str(data)) == 0
    assert remembered(data) == "https://vault.example"


def test_commands_on_a_folder_without_a_server_make_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["invite"],
        ["accounts"],
        ["status"],
        ["quota", "x", "1GB"],
        ["key"],
        ["backup", str(tmp_path)],
    ):
        assert run(*words, "--data", str(tmp_path / "nowhere")) == 3
        refused = capsys.readouterr().err
        assert "afterword: no-server" in refused
        # Whoever forgot to name their folder must not be sent to begin a second server.
        said = " ".join(refused.split())
        assert said.index("name its folder") < said.index("afterword serve")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("words", [["status"], ["key", "--confirm-copy", "copy"], ["watch"], ["doctor"]])
def test_a_look_at_an_empty_folder_leaves_it_empty_and_a_restore_goes_there_afterwards(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    assert run("backup", str(tmp_path / "backups"), "--data", str(data)) == 0
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    capsys.readouterr()
    line = words if words == ["doctor"] else ["operator", *words]
    assert invoke([*line, "--data", str(empty)]) == 3
    assert "afterword: no-server" in capsys.readouterr().err
    assert list(empty.iterdir()) == []
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    assert run("restore", str(tmp_path / "backups"), "--data", str(empty)) == 0


def test_status_says_that_nothing_ticks_while_no_server_runs(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "--data", str(data)) == 3
    assert "Nobody gets through the public door" in capsys.readouterr().out
    assert run("status", "--data", str(data), "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert said["accounts"] == 0
    assert said["wrong"] == ["not-ticking", "no-mail"]


def test_accounts_of_a_new_server_are_none_and_an_unknown_one_gets_no_quota(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("accounts", "--data", str(data)) == 0
    assert "Nobody has joined yet" in capsys.readouterr().out
    assert run("quota", "abc", "50GiB", "--data", str(data)) == 4
    assert "afterword: no-such-account" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("addresses", "failing", "words"),
    [(0, 0, "  no addresses  "), (1, 1, "  1 address, 1 failing  "), (3, 0, "  3 addresses  ")],
)
def test_accounts_show_how_many_ways_lead_to_somebody_and_whether_one_fails(
    addresses: int, failing: int, words: str
) -> None:
    held = keeping.Held("0a1b", "Ana", "journalist", 10, 1, 1, addresses, failing, None, False)
    assert words in operator._show_accounts([held])


def test_an_account_that_is_four_fifths_full_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    world = World(tmp_path / "data")
    an_armed_dossier(world)  # two objects
    (tmp_path / "data" / "server.key").write_text(world.key.write())
    hers = next(each.id for each in keeping.list_accounts(world.records, world.custodian) if each.used)
    world.close()
    for size, full in (("3MiB", False), ("2MiB", True)):
        assert run("quota", hers, size, "--data", str(tmp_path / "data")) == 0
        assert run("accounts", "--data", str(tmp_path / "data")) == 0
        assert ("nearly full" in capsys.readouterr().out) is full


def test_a_copy_of_the_key_is_confirmed_only_if_it_is_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, foreign = tmp_path / "copy", tmp_path / "foreign"
    copy.write_text((data / "server.key").read_text())
    (tmp_path / "other").mkdir()
    founding.found(read_settings({}, data=tmp_path / "other"))
    foreign.write_text((tmp_path / "other" / "server.key").read_text())
    for wrong in (data / "server.key", foreign):
        assert run("key", "--data", str(data), "--confirm-copy", str(wrong)) == 3
        assert "afterword: not-a-copy" in capsys.readouterr().err
    assert run("key", "--data", str(data)) == 0
    assert "No copy of it was ever confirmed" in capsys.readouterr().out
    assert run("key", "--data", str(data), "--confirm-copy", str(copy)) == 0
    assert "A copy was confirmed" in capsys.readouterr().out


def test_a_key_can_be_made_before_there_is_a_server_and_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "etc" / "server.key"
    assert run("key", "--new", str(key)) == 0
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_text()
    assert run("key", "--new", str(key)) == 3
    assert "afterword: key-exists" in capsys.readouterr().err
    assert key.read_text() == before
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(key))
    founding.found(read_settings(os.environ, data=tmp_path / "data"))
    assert not (tmp_path / "data" / "server.key").exists()
    assert run("accounts", "--data", str(tmp_path / "data")) == 0


def test_a_backup_comes_back_as_the_same_server_with_a_new_life_and_only_with_its_key(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = compose.open_vault(read_settings({}, data=data))
    assert run("backup", str(tmp_path / "kept"), "--data", str(data), "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert Path(made["file"]).exists()
    assert b"SQLite" not in Path(made["file"]).read_bytes()

    back = tmp_path / "back"
    assert run("restore", str(tmp_path / "kept"), "--data", str(back)) == 2
    assert "afterword: no-server-key" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    founding.found(read_settings({}, data=tmp_path / "other"))
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(tmp_path / "other" / "server.key"))
    assert run("restore", str(tmp_path / "kept"), "--data", str(back)) == 3
    assert "afterword: wrong-server-key" in capsys.readouterr().err
    assert not (back / "afterword.db").exists()

    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    assert run("restore", str(tmp_path / "kept"), "--data", str(back)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "under systemd: systemctl enable --now afterword.service afterword-backup.timer" in told
    assert f"otherwise, with AFTERWORD_SERVER_KEY_FILE as it is now: afterword serve --data {back}" in told
    after = compose.open_vault(read_settings(os.environ, data=back))
    assert after.custodian.hash == before.custodian.hash
    lives = [each.records.service().life for each in (before, after) if each.records.service() is not None]
    assert lives[0] != lives[1]

    capsys.readouterr()
    assert run("restore", made["file"], "--data", str(back)) == 3
    assert "afterword: not-empty" in capsys.readouterr().err
    after.records.db.close()
    assert {path.name for path in back.iterdir()} == {"afterword.db", "objects"}


def test_a_restore_says_first_which_backup_it_takes_and_of_when(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    run("backup", str(kept), "--data", str(data))
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    (made,) = kept.glob("*.backup")
    three_days_ago = int(made.name.split("-")[1].split(".")[0]) - 3 * DAY
    older = made.rename(kept / f"afterword-{three_days_ago}.backup")
    # What another clock wrote has a digit less, and comes last in the alphabet.
    (kept / "afterword-999000000000.backup").write_bytes(b"of 2001")
    capsys.readouterr()
    assert run("restore", str(kept), "--data", str(tmp_path / "back"), "--json") == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f"What is restored is {older}, of {terminal.local(three_days_ago)}, 3d old."
    by_hand = older.rename(kept / "by hand.backup")
    assert run("restore", str(by_hand), "--data", str(tmp_path / "again")) == 0
    assert "by hand.backup, whose name has no date." in capsys.readouterr().err


def test_a_log_that_another_database_left_behind_stops_a_restore(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("backup", str(tmp_path / "kept"), "--data", str(data))
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "afterword.db-wal").write_bytes(b"what belonged to a database that was moved away")
    assert run("restore", str(tmp_path / "kept"), "--data", str(tmp_path / "back")) == 3
    assert "afterword.db-wal exists" in capsys.readouterr().err
    assert not (tmp_path / "back" / "afterword.db").exists()


def test_a_restore_does_not_take_the_place_of_a_server_that_was_started_meanwhile(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("backup", str(tmp_path / "kept"), "--data", str(data))
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    settings = read_settings(os.environ, data=tmp_path / "back")
    started = []
    bring = backups.bring_objects

    def slowly(*args: Any, **kwargs: Any) -> Copied:  # Any: as bring_objects takes them
        founding.found(settings)
        started.append(compose.open_vault(settings))
        return bring(*args, **kwargs)

    monkeypatch.setattr(backups, "bring_objects", slowly)
    assert run("restore", str(tmp_path / "kept"), "--data", str(tmp_path / "back")) == 3
    assert "afterword: not-empty" in capsys.readouterr().err
    (there,) = started
    life = there.records.service()
    there.records.db.close()
    again = compose.open_vault(settings)
    assert again.records.service() == life
    assert not list((tmp_path / "back").glob("*.restored*"))
    again.records.db.close()


def test_of_two_restores_at_once_neither_gives_the_others_half_its_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("backup", str(tmp_path / "kept"), "--data", str(data))
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    place = tmp_path / "back"
    bring = backups.bring_objects

    def beside_another(*args: Any, **kwargs: Any) -> Copied:  # Any: as bring_objects takes them
        (draft,) = (each for each in place.glob("*.restored*") if not each.name.endswith(("-wal", "-shm")))
        name = re.sub("[0-9a-f]{8}$", "01234567", draft.name)
        for each in place.glob("*.restored*"):
            each.unlink()
        (place / name).write_bytes(b"half")
        return bring(*args, **kwargs)

    monkeypatch.setattr(backups, "bring_objects", beside_another)
    assert run("restore", str(tmp_path / "kept"), "--data", str(place)) == 3
    assert not (place / "afterword.db").exists()
    monkeypatch.setattr(backups, "bring_objects", bring)
    assert run("restore", str(tmp_path / "kept"), "--data", str(place)) == 0
    assert {path.name for path in place.iterdir()} == {"afterword.db", "objects"}


def test_a_cut_or_altered_backup_restores_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("backup", str(tmp_path / "kept"), "--data", str(data), "--json")
    file = Path(json.loads(capsys.readouterr().out)["file"])
    whole = file.read_bytes()
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(data / "server.key"))
    middle = len(whole) // 2
    for spoilt in (
        whole[:-1],
        whole[:middle],
        b"",
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        whole + b"x",
    ):
        file.write_bytes(spoilt)
        assert run("restore", str(file), "--data", str(tmp_path / "back")) in {3, 7}
        assert not (tmp_path / "back" / "afterword.db").exists()


def test_a_restore_that_lacks_an_object_names_it_and_goes_on_only_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "before").mkdir()
    world = World(tmp_path / "before")
    names = an_armed_dossier(world).push(2)
    made = backups.back_up(
        world.database, world.records, world.objects, world.custodian, tmp_path, tmp_path / "kept"
    )
    (key := tmp_path / "key").write_text(world.key.write())
    world.close()
    next(made.file.parent.rglob(names[0])).unlink()
    monkeypatch.setenv("AFTERWORD_SERVER_KEY_FILE", str(key))
    again = ["restore", str(made.file), "--data", str(tmp_path / "back")]
    assert run(*again) == 3
    assert "afterword: incomplete" in capsys.readouterr().err
    assert not (tmp_path / "back" / "afterword.db").exists()
    assert run(*again, "--anyway") == 0
    said = capsys.readouterr()
    assert f"object {names[0]} of dossier" in said.err
    assert "Restored, with 3 objects; switches that begin their whole ladder anew: 1." in said.out


def test_the_doctor_names_what_is_wrong_with_a_server(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data.chmod(0o755)
    assert invoke(["doctor", "--data", str(data), "--json"]) == 3
    found = {each["code"]: each["level"] for each in json.loads(capsys.readouterr().out)["findings"]}
    assert found["files-exposed"] == "problem"
    assert found["key-not-copied"] == "problem"
    assert found["no-mail"] == "problem"
    assert found["door-shut"] == "problem"
    assert found["database"] == "ok"
    monkeypatch.setenv("AFTERWORD_SMTP", "smtp://127.0.0.1:9")
    monkeypatch.setenv("AFTERWORD_OPERATOR", "op@ngo.example")
    assert invoke(["doctor", "--data", str(data)]) == 3
    told = capsys.readouterr().out
    assert "A letter to operator address 1 was not taken" in told
    assert "op@ngo.example" not in told


def test_a_doctor_who_is_told_of_a_server_and_finds_no_home_examines_the_server(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFTERWORD_HOME", str(tmp_path / "nobody"))
    assert invoke(["doctor"]) == 3
    refused = capsys.readouterr().err
    assert "afterword: no-home" in refused
    assert "afterword doctor --data FOLDER" in " ".join(refused.split())
    monkeypatch.setenv("AFTERWORD_DATA", str(data))
    assert invoke(["doctor"]) == 3
    said = capsys.readouterr().out
    assert "The database reads" in said
    # The operator's book is keyed by these codes.
    assert re.search(r"^WRONG  .* \(key-not-copied\)$", said, re.MULTILINE)
    assert "(database)" not in said


def test_the_doctor_finds_a_damaged_database(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = data / "afterword.db"
    content = bytearray(database.read_bytes())
    content[4_096:20_480] = os.urandom(16_384)
    database.write_bytes(content)
    assert invoke(["doctor", "--data", str(data), "--json"]) == 3
    found = {each["code"]: each["level"] for each in json.loads(capsys.readouterr().out)["findings"]}
    assert found["damaged"] == "problem"
