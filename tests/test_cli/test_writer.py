"""Hostile archives, and folders that somebody else has prepared."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from cli.writer import SCRATCH, Writer, lay_out, renamed
from vault.errors import Malformed, Refused

DIGEST = hashlib.sha256(b"data").hexdigest()

# Names that a recovery must survive: each is written somewhere below the folder, under a name of its own.
HOSTILE = [
    "CON", "con.txt", "nul", "LPT1", "aux.c", "a\nb", "a\rb", "a\tb", "\x1b[2Jclear", "\x07", "\u202egpj.exe",
    "\u2066hidden\u2069", "zero\u200bwidth", "\ufeffbom", "trailing.", "trailing ", " leading", "C:", "C:\\x",
    "a\\b", "file:stream", "*", "?", "<>", "|", '"', "-rf", "~", "~root", "$(reboot)", "`x`", "%2e%2e", "..%2f",
    "...", "....", "x" * 255, "é" * 127, "\U0001f469\u200d\U0001f52c", "desktop.ini", ".htaccess", ".git",
    "\udfff".encode("utf-16", "surrogatepass").decode("utf-16", "replace"), "％００", "a%00b", SCRATCH,
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "to").mkdir()
    return tmp_path / "to"


def put(writer: Writer, *parts: str, data: bytes = b"data", mode: int = 0o600) -> bool:
    part = writer.begin(hashlib.sha256(data).hexdigest())
    try:
        part.append(data)
        return writer.finish(part, parts, mode, 0)
    finally:
        os.close(part.handle)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_written_inside_the_folder_and_nowhere_else(folder: Path, name: str) -> None:
    places = lay_out([], [f"{name}/{name}", "other"], folding=False)
    parts = places[f"{name}/{name}"]
    with Writer(folder) as writer:
        writer.keep_clear_of({each[0] for each in places.values() if each})
        assert put(writer, *parts)
        writer.tidy()
    assert (folder.joinpath(*parts)).read_bytes() == b"data"
    assert os.listdir(folder.parent) == ["to"]
    assert len(parts) == 2
    assert all((len(part.encode()) <= 255 and part.isprintable()) or "\u200d" in part for part in parts)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a//x", "./x", "", "a/", "..", "a/./b", "x\0y"]
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(Malformed):
        lay_out([], [path], folding=False)


def test_different_paths_never_share_a_place() -> None:
    paths = ["CON", "%43ON", "a\nb", "a%0Ab", "x.", "x%2E", "n" * 300 + "1", "n" * 300 + "2"]
    assert len(set(lay_out([], paths, folding=False).values())) == len(paths) + 1


def test_names_that_differ_in_case_only_are_kept_apart_where_the_disk_folds_them() -> None:
    places = lay_out([], ["Notes.txt", "notes.txt", "NOTES.TXT", "é", "e\u0301"], folding=True)
    names = [parts[-1] for path, parts in places.items() if path != "/"]
    assert len({name.casefold() for name in names}) == 5
    assert places["notes.txt"] == ("notes~3.txt",)


def test_names_that_differ_in_case_only_are_left_as_they_are_elsewhere() -> None:
    places = lay_out([], ["A/x", "a/x"], folding=False)
    assert not renamed(places)


def test_a_file_in_the_way_of_a_folder_gets_another_name() -> None:
    places = lay_out(["a"], ["a", "a/b"], folding=False)
    assert (places["a/"], places["a/b"], places["a"]) == (("a",), ("a", "b"), ("a~2",))


def test_nothing_that_exists_is_overwritten(folder: Path) -> None:
    (folder / "x").write_text("mine")
    with Writer(folder) as writer:
        assert not put(writer, "x")
    assert (folder / "x").read_text() == "mine"


def test_a_link_in_place_of_a_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "a").symlink_to(tmp_path / "outside")
    with Writer(folder) as writer:
        for write in (lambda: put(writer, "a", "x"), lambda: writer.make_folder(("a", "b"))):
            with pytest.raises(Refused) as refused:
                write()
            assert refused.value.code == "folder-in-the-way"
    assert os.listdir(tmp_path / "outside") == []


def test_a_link_in_place_of_a_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("before")
    (folder / "x").symlink_to(tmp_path / "outside")
    with Writer(folder) as writer:
        assert writer.find(("x",), 4, DIGEST) == "different"
        assert not put(writer, "x")
    assert (tmp_path / "outside").read_text() == "before"


def test_a_link_in_the_scratch_folder_is_not_written_through(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("before")
    (folder / SCRATCH).mkdir()
    (folder / SCRATCH / DIGEST).symlink_to(tmp_path / "outside")
    with Writer(folder) as writer:
        assert put(writer, "x")
    assert (tmp_path / "outside").read_text() == "before"


def test_a_scratch_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / SCRATCH).symlink_to(tmp_path / "outside")
    with Writer(folder) as writer, pytest.raises(OSError, match=SCRATCH):
        put(writer, "x")
    assert os.listdir(tmp_path / "outside") == []


def test_only_the_owner_may_read_and_nothing_is_set_id(folder: Path) -> None:
    with Writer(folder) as writer:
        for name, mode in (("a", 0o7777), ("b", 0o644), ("c", 0o000)):
            put(writer, name, data=name.encode(), mode=mode)
        writer.make_folder(("d", "e"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (*folder.iterdir(), folder / "d/e")}
    assert (modes["a"], modes["b"], modes["c"], modes["d"], modes["e"]) == (0o700, 0o600, 0o600, 0o700, 0o700)


@pytest.mark.parametrize("mtime", [-(2**53) + 1, 0, 2**53 - 1])
def test_no_time_stamp_breaks_it(folder: Path, mtime: int) -> None:
    with Writer(folder) as writer:
        part = writer.begin(DIGEST)
        part.append(b"data")
        assert writer.finish(part, ("x",), 0o600, mtime)
        os.close(part.handle)


def test_a_part_is_found_again_and_cut_to_what_is_believed(folder: Path) -> None:
    with Writer(folder) as writer:
        part = writer.begin(DIGEST)
        part.append(b"datX")
        os.close(part.handle)
        again = writer.begin(DIGEST)
        assert again.size == 4
        assert writer.keep(again, 3).digest() == hashlib.sha256(b"dat").digest()
        again.append(b"a")
        assert writer.finish(again, ("x",), 0o600, 0)
        os.close(again.handle)
    assert (folder / "x").read_bytes() == b"data"


def test_on_a_disk_without_second_names_files_are_moved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    with Writer(folder) as writer:
        assert put(writer, "x")
        assert not put(writer, "x")
        writer.tidy()
    assert os.listdir(folder) == ["x"]


def test_this_disk_says_whether_it_folds_names(folder: Path) -> None:
    (folder / "probe").touch()
    with Writer(folder) as writer:
        assert writer.folds_names() == (folder / "PROBE").exists()
    assert os.listdir(folder) == ["probe"]
