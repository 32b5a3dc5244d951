"""What an operator reads in `operator status` says what is wrong, and for how long."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cli.glance import gap_text, show
from tests.world import TICK, World
from vault import keeping
from vault.alarms import Alarm
from vault.clock import DAY, HOUR, MINUTE
from vault.keeping import Glance
from vault.settings import Settings, read_settings
from vault.storage.records.gaps import Gap

WALL = 1_700_000_000_000


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Glance]:
    world = World(tmp_path)
    world.pass_time(20 * TICK)
    yield keeping.glance(world.records, world.objects)
    world.close()


def settings(**given: str) -> Settings:
    environment = {f"AFTERWORD_{name}": value for name, value in given.items()}
    return read_settings(environment, data=Path("/nowhere"))


MAIL = settings(SMTP="smtp://127.0.0.1")


def test_a_server_that_is_well_says_so_in_few_words(seen: Glance) -> None:
    said = show(seen, MAIL)
    for words in ("The watch ticked 0s ago.", "The public door is open.", "The deliverer is up."):
        assert words in said
    for words in ("Gap", "clock", "watcher", "Nobody"):
        assert words not in said


def test_a_deliverer_that_stopped_is_said_with_since_when(seen: Glance) -> None:
    stopped = msgspec.structs.replace(seen, delivered_age=2 * HOUR)
    assert "The deliverer stopped 2h ago" in show(stopped, MAIL)
    never = msgspec.structs.replace(seen, delivered_age=None)
    assert "No deliverer has ever run here" in show(never, MAIL)
    assert "deliverer" not in show(never, settings()), "without mail there is none to miss"


def test_a_slow_change_that_stands_still_is_said(seen: Glance) -> None:
    assert "The slow change c0ffee" in show(msgspec.structs.replace(seen, standing=("c0ffee",)), MAIL)


def test_whatever_stopped_is_said_with_how_to_start_it_with_systemd_and_without(seen: Glance) -> None:
    both = "To start it: systemctl restart afterword, or without systemd: afterword serve --data /nowhere"
    assert both not in show(seen, MAIL)
    for stopped in ({"tick_age": HOUR}, {"tick_age": None}, {"delivered_age": HOUR}, {"delivered_age": None}):
        assert show(msgspec.structs.replace(seen, **stopped), MAIL).count(both) == 1, stopped


@pytest.mark.parametrize(
    ("alarm", "words"),
    [
        (Alarm.OPERATOR, "the operator was written to; after a day everybody"),
        (Alarm.TELLING, "is being written to"),
        (Alarm.EVERYBODY, "everybody with a running switch was written to"),
        (Alarm.ENDING, "it is over"),
    ],
)
def test_an_outage_says_who_was_told(seen: Glance, alarm: Alarm, words: str) -> None:
    assert words in show(msgspec.structs.replace(seen, alarm=int(alarm), stood=25 * HOUR), MAIL)


def test_a_server_without_mail_and_what_else_is_wrong_is_said_with_where_to_read_on(seen: Glance) -> None:
    assert "No mail server is set" in show(seen, settings())
    assert "No mail" not in show(seen, MAIL)
    wrong = msgspec.structs.replace(seen, tick_age=MINUTE + 1, wrong=("not-ticking", "door-shut"))
    said = show(wrong, MAIL)
    assert "The watch does NOT tick for 1m" in said
    assert said.endswith(
        "WRONG: not-ticking, door-shut. For what to do, run: afterword doctor --data /nowhere"
    )
    assert "WRONG" not in show(msgspec.structs.replace(seen, wrong=()), MAIL)


def test_an_outside_watcher_is_spoken_of_only_where_there_is_one(seen: Glance) -> None:
    watched = settings(SMTP="smtp://127.0.0.1", HEARTBEAT_URL="https://hc.example/geheim")
    assert "has not heard of this server yet" in show(seen, watched)
    heard = show(msgspec.structs.replace(seen, pulse_age=MINUTE), watched)
    assert "last heard that all is well 1m ago" in heard
    assert "geheim" not in heard


def test_a_clock_that_went_off_is_said_with_where_to(seen: Glance) -> None:
    assert "clock went 10m back" in show(msgspec.structs.replace(seen, drift=-10 * MINUTE), MAIL)
    assert "clock" not in show(msgspec.structs.replace(seen, drift=999), MAIL)


@pytest.mark.parametrize(
    ("kind", "length", "words"),
    [
        ("stall", 3 * HOUR, "the watch did not tick for 3h"),
        ("takeover", None, "began to count"),
        ("outage", None, "nobody has been served since"),
        ("outage", 2 * DAY, "nobody was served for 2d"),
        ("wall", -HOUR, "clock jumped, 1h back"),
        ("wall", HOUR, "clock jumped, 1h forward"),
        ("something newer", 1, "something newer"),
    ],
)
def test_every_kind_of_gap_has_its_words(kind: str, length: int | None, words: str) -> None:
    assert words in gap_text(Gap(1, kind, length, 0, WALL))


def test_the_newest_gaps_are_shown_first_and_not_a_hundred_of_them(seen: Glance) -> None:
    gaps = tuple(Gap(number, "stall", number * HOUR, 0, WALL) for number in range(40, 0, -1))
    said = show(msgspec.structs.replace(seen, gaps=gaps), MAIL)
    assert said.count("did not tick") == 5
    assert "1d16h" in said


def test_many_who_fell_silent_together_are_loud_until_it_is_long_ago(seen: Glance) -> None:
    assert "SILENT" not in show(seen, MAIL)
    crowd = msgspec.structs.replace(seen, crowd=240, crowd_age=3 * HOUR)
    assert "MANY FELL SILENT TOGETHER: 240" in show(crowd, MAIL)
    assert "will wait once" in show(crowd, MAIL)
    assert "has waited" in show(msgspec.structs.replace(crowd, crowd_waited=True), MAIL)


def test_mail_that_stands_still_is_said_loudly_and_no_account_is_blamed(seen: Glance) -> None:
    dead = msgspec.structs.replace(seen, mail_still=30 * HOUR, failing=("0a1b",))
    said = show(dead, MAIL)
    assert "NO LETTER TO ANYBODY HAS BEEN ACCEPTED FOR 1d6h" in said
    assert "0a1b" not in said


def test_accounts_that_letters_do_not_reach_are_named_by_their_id(seen: Glance) -> None:
    said = show(msgspec.structs.replace(seen, failing=("0a1b",), unreachable=("2c3d",)), MAIL)
    assert "An address of account 0a1b has accepted no letter for a day." in said
    assert "Account 2c3d has something released to collect, and no address" in said
