import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli import journalist, terminal
from test_cli.bureau import Bureau
from vault import age, deposit, statements, wire
from vault.age import Recipient
from vault.clock import DAY, HOUR, MINUTE, SystemClock, read_duration
from vault.errors import BadUsage, Refused
from vault.stream import SLICE_SIZE, seal_object
from vault.switch import Stage

AT = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)


def test_arming_says_what_is_missing_and_anyway_overrides_it(bureau: Bureau) -> None:
    id = bureau.create()
    assert bureau.refused("arm", "Harbour") == "not-ready"
    assert bureau.world.stage(id) is Stage.NEW
    said = bureau.does("arm", "Harbour", "--anyway")
    assert "nothing was pushed yet" in said
    assert "Harbour is armed. If you fall silent now:" in said
    assert "Check in every 1h or more often" in said
    assert bureau.world.stage(id) is Stage.ARMED


def test_a_short_pause_takes_effect_at_once_and_resuming_ends_it(bureau: Bureau) -> None:
    id = bureau.armed()
    assert "paused for 10h" in bureau.does("pause", "Harbour", "--until", "10h")
    assert bureau.world.stage(id) is Stage.PAUSED
    assert "armed again" in bureau.does("resume", "Harbour")
    assert bureau.world.stage(id) is Stage.ARMED


def test_a_long_pause_cools_and_says_how_to_take_it_back(bureau: Bureau) -> None:
    id = bureau.armed()
    done = bureau.json("pause", "Harbour", "--until", "73h")
    assert done["change"] is not None
    assert bureau.world.stage(id) is Stage.ARMED
    said = bureau.does("cancel", "Harbour", str(done["change"])[:12])
    assert "taken back, and all are told: a long pause" in said


def test_a_pause_that_cools_tells_her_to_go_on_checking_in(bureau: Bureau) -> None:
    bureau.armed()
    said = bureau.does("pause", "Harbour", "--until", "10d")
    assert "takes effect 20" in said
    assert "go on checking in" in said


@pytest.mark.parametrize(
    ("text", "length"),
    [("36h", 36 * HOUR), ("2026-11-23T12:00+00:00", DAY), ("2026-11-22T13:00Z", HOUR), ("90d", 90 * DAY)],
)
def test_until_is_a_date_or_a_duration(text: str, length: int) -> None:
    assert journalist.length_until(journalist.read_until(text), AT, 7 * DAY) == length


def test_a_date_without_a_zone_is_meant_where_she_is(zone: Callable[[str], None]) -> None:
    zone("America/Bogota")
    assert journalist.length_until(journalist.read_until("2026-11-23"), AT, 7 * DAY) == 17 * HOUR


def test_a_pause_ends_when_she_meant_although_her_clock_is_wrong(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = bureau.armed()
    end = terminal.utc(bureau.world.clock.wall() + 10 * HOUR)
    monkeypatch.setattr(SystemClock, "wall", lambda _: bureau.world.clock.wall() - 4000 * DAY)
    (length,) = re.findall(
        r"is paused for (\S+)\.", bureau.does("pause", "Harbour", "--until", end.isoformat())
    )
    assert abs(read_duration(length) - 10 * HOUR) < MINUTE
    assert bureau.world.stage(id) is Stage.PAUSED


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-11-21", "2026-13-01", "10", "-5h"])
def test_what_is_no_date_to_come_is_refused(text: str) -> None:
    with pytest.raises(BadUsage) as refused:
        journalist.length_until(journalist.read_until(text), AT, 7 * DAY)
    assert refused.value.code == "bad-until"


def test_a_pause_that_cools_ends_at_the_date_that_was_named(bureau: Bureau) -> None:
    bureau.armed()
    end = bureau.world.clock.wall() + 20 * DAY
    said = bureau.does("pause", "Harbour", "--until", terminal.utc(end).isoformat())
    assert "a pause of 19d22h was asked for" in said  # two hours of the twenty days go by before it begins
    assert f"It then lasts until about {terminal.local(end)[:13]}" in said


def test_a_pause_that_could_begin_only_when_it_is_over_says_when_to_ask_again() -> None:
    for text in ("2026-11-26", "2026-12-02T11:00Z"):
        with pytest.raises(Refused) as refused:
            journalist.length_until(journalist.read_until(text), AT, 7 * DAY)
        assert refused.value.code == "pause-too-late"
    assert journalist.length_until(journalist.read_until("2026-12-02T13:00Z"), AT, 7 * DAY) == 73 * HOUR


@pytest.mark.parametrize("text", ["91d", "2027-06-01"])
def test_no_pause_lasts_longer_than_ninety_days(text: str) -> None:
    with pytest.raises(Refused) as refused:
        journalist.length_until(journalist.read_until(text), AT, 7 * DAY)
    assert refused.value.code == "pause-too-long"


def test_a_plan_can_be_shown_shortened_at_once_and_lengthened_slowly(bureau: Bureau) -> None:
    bureau.armed()
    assert "--every 1h --remind 1h --warn 1h --grace 1h" in bureau.does("plan", "Harbour")
    shorter = bureau.json("plan", "Harbour", "--every", "30m")
    assert shorter["change"] is None
    assert "--every 30m" in bureau.does("plan", "Harbour")
    longer = bureau.does("plan", "Harbour", "--grace", "2h")
    assert "takes effect 20" in longer
    assert "--grace 1h" in bureau.does("plan", "Harbour")
    assert bureau.refused("plan", "Harbour", "--every", "30m") == "nothing-changed"


def test_destroying_asks_twice_and_believes_only_the_name(bureau: Bureau) -> None:
    id = bureau.create()
    assert bureau.refused("destroy", "Harbour", answers=("n",)) == "not-confirmed"
    assert bureau.refused("destroy", "Harbour", answers=("y", "harbor")) == "not-confirmed"
    assert bureau.refused("destroy", "Harbour", answers=("y",)) == "no-answer"
    assert bureau.world.stage(id) is Stage.NEW
    assert "Harbour is destroyed." in bureau.does("destroy", "Harbour", answers=("y", "Harbour"))
    assert bureau.world.stage(id) is Stage.DESTROYED
    assert bureau.refused("destroy", "Harbour") == "destroyed"


def test_once_armed_destruction_takes_days_and_can_be_taken_back(bureau: Bureau) -> None:
    id = bureau.armed()
    said = bureau.does("destroy", "Harbour", answers=("y", "Harbour"))
    assert "takes effect 20" in said
    assert bureau.world.stage(id) is Stage.ARMED
    bureau.does("cancel", "Harbour")
    bureau.world.skip(HOUR // 2)
    bureau.does("checkin")
    bureau.world.skip(2 * HOUR)
    assert bureau.world.stage(id) is not Stage.DESTROYED


def test_cancelling_names_what_is_under_way(bureau: Bureau) -> None:
    bureau.armed()
    assert bureau.refused("cancel", "Harbour") == "no-such-change"
    bureau.does("destroy", "Harbour", answers=("y", "Harbour"))
    bureau.does("pause", "Harbour", "--until", "10d")
    assert bureau.refused("cancel", "Harbour") == "ambiguous"
    assert bureau.refused("cancel", "Harbour", "ffff") == "no-such-change"


def test_an_order_whose_number_was_used_on_another_computer_is_signed_anew(bureau: Bureau) -> None:
    bureau.armed()
    with bureau.home() as home:
        home.remember("seq", b"0")
    bureau.does("pause", "Harbour", "--until", "1h")


def test_every_order_is_found_by_title_by_id_and_not_by_a_stranger(bureau: Bureau) -> None:
    id = bureau.armed()
    bureau.does("pause", id[:8], "--until", "1h")
    assert bureau.refused("resume", "Quarry") == "no-such-dossier"
    assert bureau.refused("arm", id[:8], who="Ben") == "not-a-journalist"
    assert bureau.refused("pause", id[:8], "--until", "1h", who="Dora") == "no-such-dossier"


def test_a_dossier_made_on_another_computer_is_found_on_the_server_and_verified(bureau: Bureau) -> None:
    id = bureau.armed()
    deposited(bureau, id)
    with bureau.home() as home:
        home.db.execute("DELETE FROM dossiers")
        home.db.execute("DELETE FROM rosters")
    bureau.does("pause", "Harbour", "--until", "1h")
    with bureau.home() as home:
        (known,) = home.dossiers()
        assert (known.id, known.bundles) == (id, 1)
        assert known.head_hash is not None
        assert len(home.rosters(id)) == 1


def deposited(bureau: Bureau, dossier: str, objects: int = 2) -> None:
    """A bundle, as a push would leave it on the server."""
    world, ana = bureau.world, bureau.ana
    row = world.records.dossier(dossier)
    assert row is not None
    recipient = Recipient.read(row.recipient)
    names = []
    for _ in range(objects):
        made = seal_object(os.urandom(16) + bytes(SLICE_SIZE - 16), recipient, os.urandom)
        deposit.receive(world.records, world.objects, ana.account, dossier, made.name, 0, [made.data], 0)
        names.append(made.name)
    root = wire.write_blob(age.seal(bytes(4096), recipient, os.urandom))
    head = statements.Head(dossier, row.bundles + 1, row.head, tuple(names), root, None, AT)
    deposit.commit(world.records, world.custodian, ana.account, dossier, wire.Submission(ana.sign(head)))


def test_bundles_shows_what_heads_show_and_nothing_more(bureau: Bureau, tmp_path: Path) -> None:
    id = bureau.create()
    assert "Nothing was deposited yet" in bureau.does("bundles", "Harbour")
    deposited(bureau, id)
    deposited(bureau, id, 3)
    said = bureau.does("bundles", "Harbour")
    assert "2 objects     2.1 MB" in said
    assert "2 bundles, 5.2 MB of ciphertext" in said
    listed = bureau.json("bundles", "Harbour")["bundles"]
    assert listed == [
        {"number": 1, "created": AT, "objects": 2, "size": 2_097_152, "replace": None},
        {"number": 2, "created": AT, "objects": 3, "size": 3_145_728, "replace": None},
    ]


def test_a_head_that_this_computer_pushed_and_the_server_lost_is_missed(bureau: Bureau) -> None:
    id = bureau.create()
    with bureau.home() as home:
        home.remember_dossier(id, "journalist", epoch=1, roster_hash="0" * 64, head_hash="ab" * 32, bundles=1)
    assert bureau.refused("bundles", "Harbour") == "head-rolled-back"
