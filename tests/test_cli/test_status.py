import pytest

from cli import status
from test_cli.bureau import Bureau
from test_cli.newsroom import Newsroom
from vault import wire
from vault.clock import DAY, HOUR

pytestmark = pytest.mark.usefixtures("zone")

NOW = 1_795_363_425_000


def a_standing(**more: object) -> status.Standing:
    fields = {
        "dossier": "ab" * 16,
        "title": "Fishing licences",
        "role": "journalist",
        "journalist": "Ana",
        "stage": "armed",
        "since": NOW,
        "trying": False,
        "projected": tuple(
            wire.Projected(stage, NOW + place * DAY)
            for place, stage in enumerate(("reminded", "warned", "grace", "released"), 1)
        ),
        "k": 2,
        "holders": (
            status.Holder(1, "Bea", False, NOW - DAY, False, False, False),
            status.Holder(2, "Carlos", False, None, True, False, False),
        ),
        "bundles": 1274,
        "pushed": NOW - HOUR,
        "last_checkin": NOW - 2 * HOUR,
        "released": None,
        "changes": (),
        "missing": (),
    }
    return status.Standing(**{**fields, **more})


def a_status(*dossiers: status.Standing, **more: object) -> status.Status:
    fields = {
        "label": "Ana",
        "role": "journalist",
        "server": "https://x.example",
        "confirmed": 2,
        "addresses": 2,
        "now": NOW,
    }
    return status.Status(**{**fields, "used": 5, "quota": 10, "marked": False, "dossiers": dossiers, **more})


def test_one_screen_says_what_happens_next_and_when_the_release_would_be() -> None:
    shown = status.render(a_status(a_standing()))
    assert "Fishing licences: armed" in shown
    assert "next       a reminder, 2026-11-23 16:03 UTC, in 1d, unless you check in" in shown
    assert "release    2026-11-26 16:03 UTC, in 4d, after silence" in shown
    assert "1 274 bundles" in shown
    assert "Bea: proved 2026-11-21" in shown
    assert "Carlos: has left" in shown


def test_a_dossier_that_is_not_armed_says_what_is_missing() -> None:
    shown = status.render(a_status(a_standing(stage="new", projected=(), missing=("push", "address"))))
    assert "not armed" in shown
    assert "afterword push" in shown
    assert "afterword address add" in shown


def test_a_late_stage_is_loud_and_says_when_no_letter_landed() -> None:
    shown = status.render(a_status(a_standing(stage="grace", trying=True)))
    assert "LAST CALL" in shown
    assert "do         check in now: afterword checkin" in shown
    assert "has not been accepted" in shown


def test_a_colleague_is_not_asked_to_check_in_for_her() -> None:
    shown = status.render(a_status(a_standing(stage="warned", role="collaborator")))
    assert "checkin" not in shown
    assert "see: afterword inbox" in shown
    assert "unless they check in" in shown


def test_a_ladder_of_seconds_is_dated_to_the_second() -> None:
    soon = (wire.Projected("reminded", NOW + 40_000), wire.Projected("released", NOW + 85_000))
    shown = status.render(a_status(a_standing(projected=soon)))
    assert "16:04:25 UTC, in 40s" in shown
    assert "16:05:10 UTC, in 1m25s" in shown


def test_a_pause_shows_its_end_first() -> None:
    shown = status.render(
        a_status(a_standing(stage="paused", projected=(wire.Projected("armed", NOW + DAY),)))
    )
    assert "the pause ends, 2026-11-23 16:03 UTC, in 1d\n" in shown


def test_a_release_shows_who_has_given_and_collected() -> None:
    holder = status.Holder(1, "Bea", True, NOW, False, True, True)
    shown = status.render(
        a_status(a_standing(stage="released", released=NOW, holders=(holder,), role="collaborator"))
    )
    assert "RELEASED" in shown
    assert "afterword recover" in shown
    assert "Bea (you): proved" in shown
    assert "gave their share, has the archive" in shown
    assert "of         Ana" in shown


def test_slow_changes_are_in_full_view() -> None:
    cooling = wire.Change("c" * 64, "destroy", NOW, NOW + 7 * DAY, False)
    waiting = wire.Change("d" * 64, "roster", NOW, None, True)
    shown = status.render(a_status(a_standing(changes=(cooling, waiting))))
    assert "the destruction of this dossier, asked for" in shown
    assert "takes effect 2026-11-29" in shown
    assert "it waits for the next check-in" in shown
    assert "afterword cancel abababab dddddddddddddddd" in shown


def test_nobody_without_an_address_is_left_in_doubt() -> None:
    assert "NO CONFIRMED ADDRESS" in status.render(a_status(confirmed=0))
    assert "NO CONFIRMED ADDRESS" not in status.render(a_status())


def test_a_restored_server_is_said_to_be_one() -> None:
    assert "once set back to an older state" in status.render(a_status(marked=True))


def test_both_sides_of_a_dossier_see_the_same_people_and_their_proofs(newsroom: Newsroom) -> None:
    newsroom.journalist("Ana")
    newsroom.dossier()
    newsroom.ran("Bea", "drill")
    for who, me in (("Ana", [False, False]), ("Bea", [True, False])):
        (shown,) = newsroom.json(who, "status")["dossiers"]
        assert [each["label"] for each in shown["holders"]] == ["Bea", "Carlos"]
        assert [each["me"] for each in shown["holders"]] == me
        assert [each["proved"] is not None for each in shown["holders"]] == [True, False]
        assert shown["journalist"] == "Ana"
    assert "Bea (you): proved" in newsroom.ran("Bea", "status")
    assert "push" in newsroom.ran("Ana", "status")


def test_a_dossier_that_the_server_has_forgotten_is_named(bureau: Bureau) -> None:
    before = bureau.back_up()
    bureau.armed()
    assert "DOES NOT SHOW" not in bureau.does("status")
    bureau.restore(before)
    assert "Harbour: THE SERVER DOES NOT SHOW THIS DOSSIER" in bureau.does("status")


def test_an_address_of_mine_that_failed_for_a_day_shouts_and_a_short_failure_does_not() -> None:
    def address(since: int | None) -> wire.AddressState:
        return wire.AddressState("0a" * 8, "ana@example.org", "en", "Reminder", "", True, since, None)

    assert status.failing((address(None), address(NOW - HOUR)), NOW) == ()
    failing = status.failing((address(NOW - DAY),), NOW)
    assert failing == ("ana@example.org",)
    said = status.render(a_status(failing=failing))
    assert "NO LETTER HAS BEEN ACCEPTED BY ana@example.org FOR A DAY" in said
    assert "afterword address add" in said
