"""Folders that are still there when the power comes back."""

import os
from pathlib import Path

import pytest

from vault.storage import folders


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder that was brought to the disk, in order."""
    seen: list[Path] = []
    settle = folders.settle

    def noting(folder: Path) -> None:
        settle(folder)
        seen.append(folder)

    monkeypatch.setattr(folders, "settle", noting)
    return seen


def test_each_folder_is_on_disk_in_the_one_above_before_anything_is_put_inside(
    tmp_path: Path, settled: list[Path]
) -> None:
    folders.make_folder(tmp_path / "a" / "b" / "c")
    assert settled == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a/b/c")] == [0o700] * 2


def test_a_folder_that_was_there_is_brought_to_the_disk_for_whoever_made_it(
    tmp_path: Path, settled: list[Path]
) -> None:
    (tmp_path / "a").mkdir()
    folders.make_folder(tmp_path / "a")
    assert settled == [tmp_path]


def test_a_folder_that_was_there_may_lie_where_we_may_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()

    def forbidden(folder: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(folders, "settle", forbidden)
    folders.make_folder(tmp_path / "a")
    with pytest.raises(PermissionError):
        folders.make_folder(tmp_path / "b")


def test_a_file_in_the_way_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OSError, match="a"):
        folders.make_folder(tmp_path / "a" / "b")


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    folders.settle(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
