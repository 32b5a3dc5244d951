"""Room kept for the day on which there is none left."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from vault.storage.ballast import Ballast

LOW_WATER = 8 << 20
SIZE = 1 << 20


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A disk that has as much room as a test says."""
    said = SimpleNamespace(f_bavail=1 << 30, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: said)
    return said


def test_room_is_taken_while_there_is_plenty_and_given_up_when_there_is_none(
    tmp_path: Path, disk: SimpleNamespace
) -> None:
    ballast = Ballast(tmp_path, LOW_WATER)
    assert not ballast.mind()
    kept = tmp_path / "ballast"
    assert kept.stat().st_size == SIZE
    assert kept.stat().st_blocks * 512 >= SIZE
    assert kept.stat().st_mode & 0o777 == 0o600
    disk.f_bavail = SIZE // 2 - 1
    assert ballast.mind()
    assert not kept.exists()
    assert not ballast.mind()


def test_room_is_not_taken_again_before_uploads_are_possible_again(
    tmp_path: Path, disk: SimpleNamespace
) -> None:
    disk.f_bavail = LOW_WATER
    assert not Ballast(tmp_path, LOW_WATER).mind()
    assert list(tmp_path.iterdir()) == []


def test_a_server_without_a_low_water_mark_keeps_no_room(tmp_path: Path, disk: SimpleNamespace) -> None:
    assert not Ballast(tmp_path, 0).mind()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    assert not Ballast(tmp_path / "gone", LOW_WATER).mind()
