"""Durations as people write them, and the machine's own clocks."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import DAY, HOUR, SECOND, SystemClock, read_duration, write_duration, write_instant
from vault.errors import BadUsage


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", 90 * SECOND),
        ("48h", 48 * HOUR),
        ("7d", 7 * DAY),
        ("2w", 14 * DAY),
        ("250ms", 250),
        ("1d12h", 36 * HOUR),
        ("1h30m15s", 5_415 * SECOND),
        ("3650d", 3_650 * DAY),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, ms: int) -> None:
    assert read_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "s",
        "-1h",
        "1.5h",
        "1h 30m",
        " 1h",
        "1h\n",
        "1y",
        "٣h",
        "0s",
        "3651d",
        "1" * 13 + "s",
        "12h!",
        "H",
    ],
)
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(BadUsage) as refused:
        read_duration(text)
    assert refused.value.code == "bad-duration"


@given(st.integers(1, 3_650 * DAY))
def test_a_duration_is_written_so_that_it_reads_back(ms: int) -> None:
    assert read_duration(write_duration(ms)) == ms


def test_nothing_lasts_nought_seconds_and_an_instant_names_its_zone() -> None:
    assert write_duration(0) == "0s"
    assert write_instant(1_790_000_000_999) == "2026-09-21T14:13:20Z"


@pytest.mark.skipif(sys.platform != "linux", reason="the boot clock is Linux's")
def test_the_boot_clock_goes_on_and_names_its_boot() -> None:
    clock = SystemClock()
    before = clock.boot()
    assert 0 < before <= clock.boot()
    assert clock.boot_id() == SystemClock().boot_id()
    assert len(clock.boot_id()) == 36
