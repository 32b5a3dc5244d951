"""What is found, what is skipped, and which paths cannot go together."""

import os
from pathlib import Path

import pytest

from cli.scan import Found, Renamed, Skipped, choose_sources, scan, small_and_recent_first
from vault.errors import BadUsage, NotFound, Refused


@pytest.fixture
def case(tmp_path: Path) -> Path:
    (tmp_path / "case" / "sub").mkdir(parents=True)
    (tmp_path / "case" / "sub" / "x").write_text("x")
    (tmp_path / "case" / "y").write_text("yy")
    return tmp_path / "case"


def code_of(*paths: object, **renames: str) -> str:
    with pytest.raises((Refused, NotFound, BadUsage)) as refused:
        choose_sources([str(path) for path in paths], renames)
    return refused.value.code


def found(path: Path) -> list[str]:
    (source,) = choose_sources([str(path)])
    return [each.p for each in scan(source) if isinstance(each, Found)]


def test_a_path_is_called_by_its_last_component(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(case) == ["case/sub/x", "case/y"]
    assert found(case / "y") == ["y"]
    monkeypatch.chdir(case)
    assert [each.name for each in choose_sources(["."])] == ["case"]
    assert [each.name for each in choose_sources(["sub/"])] == ["sub"]


def test_a_path_given_twice_is_refused_however_it_is_written(case: Path, tmp_path: Path) -> None:
    assert code_of(case, case) == "path-twice"
    assert code_of(case, f"{case}/sub/..") == "path-twice"
    (tmp_path / "other way").symlink_to(tmp_path)
    assert code_of(case, tmp_path / "other way" / "case") == "path-twice"


def test_a_folder_inside_another_is_refused_in_either_order(case: Path) -> None:
    assert code_of(case, case / "sub") == "path-inside"
    assert code_of(case / "sub" / "x", case) == "path-inside"


def test_two_sources_of_one_name_are_refused_unless_renamed(case: Path, tmp_path: Path) -> None:
    (tmp_path / "b" / "case").mkdir(parents=True)
    other = str(tmp_path / "b" / "case")
    assert code_of(case, other) == "same-name"
    sources = choose_sources([str(case), other], {other: "case of b"})
    assert [each.name for each in sources] == ["case", "case of b"]
    assert code_of(case, **{"something else": "x"}) == "usage"
    assert code_of(case, **{str(case): "a/b"}) == "bad-name"
    assert code_of(case, **{str(case): ".."}) == "bad-name"


def test_a_neighbour_whose_name_begins_alike_is_not_inside(case: Path, tmp_path: Path) -> None:
    (tmp_path / "case2").mkdir()
    assert len(choose_sources([str(case), str(tmp_path / "case2")])) == 2


def test_what_is_not_there_or_a_link_or_a_device_is_refused_by_name(case: Path, tmp_path: Path) -> None:
    assert code_of(tmp_path / "nowhere") == "no-such-path"
    (tmp_path / "link").symlink_to(case)
    assert code_of(tmp_path / "link") == "path-is-a-link"
    assert code_of("/dev/null") == "path-not-a-file"
    assert code_of("/") == "bad-name"


def test_links_pipes_and_folders_that_hold_them_are_told_apart(case: Path) -> None:
    (case / "link").symlink_to("y")
    os.mkfifo(case / "pipe")
    (source,) = choose_sources([str(case)])
    skipped = {each.p: each.why for each in scan(source) if isinstance(each, Skipped)}
    assert skipped == {"case/link": "link", "case/pipe": "pipe"}


def test_an_empty_folder_is_found_and_a_full_one_is_not(case: Path) -> None:
    (case / "hollow" / "inside").mkdir(parents=True)
    (source,) = choose_sources([str(case)])
    assert [each.p for each in scan(source) if isinstance(each, Found) and each.kind == "dir"] == [
        "case/hollow/inside"
    ]


def test_names_outside_utf_8_are_renamed_and_said_and_never_collide(case: Path) -> None:
    for name in (b"caf\xe9", b"caf%E9"):
        Path(os.fsdecode(os.fsencode(case) + b"/" + name)).touch()
    (source,) = choose_sources([str(case)])
    seen = list(scan(source))
    assert not [each for each in seen if isinstance(each, Renamed)]
    kept = [each.p for each in seen if isinstance(each, Found)]
    assert len(kept) == len(set(kept))
    assert [each.why for each in seen if isinstance(each, Skipped)] == ["same-name"]


def test_a_folder_that_cannot_be_listed_is_named(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(at):
        if at.endswith(b"/sub"):
            raise PermissionError(13, "Permission denied")
        return real(at)

    monkeypatch.setattr(os, "scandir", refuse)
    (source,) = choose_sources([str(case)])
    assert [each.p for each in scan(source) if isinstance(each, Skipped)] == ["case/sub"]


def test_a_thousand_folders_deep_is_not_too_deep(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    assert found(tmp_path / "d")[0].count("/") == 999
    # pytest's own tidying goes one Python frame deeper per folder.
    for depth in range(1_000, 0, -1):
        os.rmdir(tmp_path / "/".join(["d"] * depth))


def test_small_and_recent_files_come_first() -> None:
    def a_file(p: str, size: int, mtime: int) -> Found:
        return Found(p, b"", "file", size, 0o600, mtime, mtime, 1, 1)

    files = [
        a_file("film", 5 << 30, 99),
        a_file("old", 10, 1),
        a_file("new", 4 << 20, 50),
        a_file("pdf", 40 << 20, 60),
    ]
    assert [each.p for each in sorted(files, key=small_and_recent_first)] == ["new", "old", "pdf", "film"]
