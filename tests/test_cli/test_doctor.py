import importlib.metadata
import shutil
import sys
from collections import namedtuple

import pytest

from cli import doctor, status
from cli.home import KEYRING, Home
from test_cli.newsroom import Newsroom
from test_cli.test_status import NOW, a_standing
from vault import wire
from vault.clock import DAY, HOUR, MINUTE, SystemClock


def codes(newsroom: Newsroom, who: str) -> dict[str, str]:
    return {each["code"]: each["level"] for each in newsroom.json(who, "doctor")["findings"]}


def test_a_fresh_journalist_is_told_what_is_missing_and_the_exit_code_says_so(newsroom: Newsroom) -> None:
    newsroom.journalist("Ana")
    newsroom.dossier()
    newsroom.ran("Bea", "drill")
    ran = newsroom.run("Ana", "doctor")
    assert ran.code == 3
    assert "Carlos never proved the share" in ran.out
    assert "Bea never proved" not in ran.out
    found = codes(newsroom, "Ana")
    assert (
        found["words-written"] == found["home-private"] == found["server"] == found["cards-compared"] == "ok"
    )
    assert found["no-address"] == found["share-not-proved"] == "problem"
    assert found["not-armed"] == found["rehearsal"] == "warning"


def test_a_collaborator_hears_of_their_own_share_only(newsroom: Newsroom) -> None:
    newsroom.journalist("Ana")
    newsroom.dossier()
    newsroom.ran("Bea", "drill")
    assert codes(newsroom, "Bea")["shares-proved"] == "ok"
    assert "share-not-proved" not in codes(newsroom, "Bea")
    assert codes(newsroom, "Carlos")["share-not-proved"] == "problem"
    assert codes(newsroom, "Bea")["card-not-compared"] == "problem"


def test_a_home_others_can_read_is_found(newsroom: Newsroom) -> None:
    newsroom.journalist("Ana")
    (newsroom.home("Ana") / KEYRING).chmod(0o644)
    assert codes(newsroom, "Ana")["home-exposed"] == "problem"


def test_a_server_that_is_away_does_not_hide_what_is_wrong_here(newsroom: Newsroom) -> None:
    newsroom.journalist("Ana")
    with Home.open(newsroom.home("Ana")) as home:
        home.remember("url", b"http://127.0.0.1:1")
        home.db.execute("DELETE FROM facts WHERE name = 'words-written'")
    found = codes(newsroom, "Ana")
    assert found["unreachable"] == found["words-not-written"] == "problem"


@pytest.mark.parametrize(("off", "level"), [(3 * HOUR, "warning"), (-3 * HOUR, "warning"), (MINUTE, None)])
def test_a_clock_that_is_off_is_named_without_alarm(
    newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch, off: int, level: str | None
) -> None:
    newsroom.journalist("Ana")
    real = SystemClock().wall()
    monkeypatch.setattr("cli.remote.SystemClock", lambda: type("C", (), {"wall": lambda _: real + off})())
    assert codes(newsroom, "Ana").get("clock-off") == level


@pytest.mark.parametrize(("free", "level"), [(10**12, None), (9 * 10**8, "warning"), (10**6, "problem")])
def test_a_disk_that_fills_up_is_found_before_it_is_full(
    newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch, free: int, level: str | None
) -> None:
    newsroom.journalist("Ana")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free, 0, free))
    assert codes(newsroom, "Ana").get("little-space") == level


def test_packages_of_a_stranger_in_this_environment_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.level for each in doctor.examine_installation()] == ["ok"]
    monkeypatch.setattr(
        importlib.metadata, "packages_distributions", lambda: {"web": ["afterword", "web.py"]}
    )
    (found,) = doctor.examine_installation()
    assert (found.level, found.code) == ("problem", "packages")
    assert "web.py" in found.sentence


def test_packages_that_lie_in_different_places_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_origin", lambda name: f"/{name}/somewhere/{name}/__init__.py")
    (found,) = doctor.examine_installation()
    assert found.level == "problem"


def test_looking_at_the_packages_does_not_import_the_server() -> None:
    import subprocess

    code = "import sys; from cli import doctor; list(doctor.examine_installation()); print('flask' in sys.modules)"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def _of(standing: object, now: int = NOW) -> dict[str, str]:
    return {each.code: each.level for each in doctor._examine_dossier(standing, now)}  # type: ignore[arg-type]


def test_a_proof_older_than_ninety_days_is_stale() -> None:
    assert "share-stale" not in _of(a_standing(), NOW + 88 * DAY)
    assert _of(a_standing(), NOW + 90 * DAY)["share-stale"] == "warning"


def test_how_old_the_oldest_proof_is_is_said(zone: object) -> None:
    holders = tuple(
        status.Holder(at, name, False, NOW - at * DAY, False, False, False)
        for at, name in ((1, "Bea"), (2, "Carlos"))
    )
    (said,) = [
        each.sentence
        for each in doctor._examine_dossier(a_standing(holders=holders), NOW)
        if each.code == "shares-proved"
    ]
    assert said == "Fishing licences: 2 of 2 shares are proved, the oldest proof is of 2026-11-20 16:03 UTC."


def test_whoever_left_an_overdue_check_in_and_a_slow_change_are_all_named() -> None:
    change = wire.Change("c" * 64, "destroy", NOW, NOW, False)
    found = _of(a_standing(stage="warned", changes=(change,)))
    assert found["collaborator-left"] == found["change-waiting"] == "warning"
    assert found["late"] == "problem"


def test_a_destroyed_dossier_is_nobodys_worry() -> None:
    assert _of(a_standing(stage="destroyed")) == {}


def test_an_account_with_one_failing_address_and_little_room_is_told() -> None:
    address = wire.AddressState("1", "a@b.org", "en", "s", "p", True, NOW, None)
    account = wire.AccountState("", "journalist", 0, 100, 80, 5, (address,), (), (), True)
    found = {each.code: each.level for each in doctor._examine_account(account)}
    assert found == {
        "one-address": "warning",
        "address-failing": "problem",
        "nearly-full": "warning",
        "server-restored": "warning",
    }
