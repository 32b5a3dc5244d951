"""The power goes at any moment, and the disk keeps what it likes of what was not made safe."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fire import shim, tally
from tests.fire.powercut import KINDS, Disk, Image, Stage, cuts
from tests.fire.shim import Call, Op

# The model.


def call(op: Op, path: str, second: str = "", data: bytes = b"", offset: int = 0, **given: int) -> Call:
    facts = {"length": 0, "inode": 0, "mode": 0, "result": len(data)} | given
    return Call(
        op,
        0,
        0,
        1,
        1,
        0,
        facts["result"],
        offset,
        facts["length"],
        facts["inode"],
        facts["mode"],
        path,
        second,
        data,
    )


def create(path: str, inode: int) -> Call:
    return call(Op.CREATE, path, offset=1, inode=inode, length=os.O_CREAT)


def images(disk: Disk, many: int = 400) -> Iterator[Image]:
    chance = random.Random(1)
    for number in range(many):
        yield disk.image(KINDS[number % len(KINDS)], chance)


def found(disk: Disk, path: str) -> set[bytes | str | None]:
    """Everything that may be found there; "gone" where nothing is."""
    return {each.found.get(path, "gone") for each in images(disk)}


def a_disk(tmp_path: Path, *calls: Call, **files: bytes) -> Disk:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    disk = Disk(tmp_path)
    for each in calls:
        disk.play(each)
    return disk


def test_what_was_not_made_safe_may_be_there_or_not(tmp_path: Path) -> None:
    disk = a_disk(tmp_path, call(Op.WRITE, "a", data=b"new"), a=b"old")
    assert found(disk, "a") == {b"old", b"new"}
    disk.play(call(Op.FSYNC, "a"))
    assert found(disk, "a") == {b"new"}
    assert not disk.pending()


def test_sectors_are_torn_and_lengths_come_without_data(tmp_path: Path) -> None:
    disk = a_disk(tmp_path, call(Op.WRITE, "a", data=b"n" * 1024), a=b"o" * 600)
    seen = found(disk, "a")
    assert b"n" * 512 + b"o" * 88 + bytes(424) in seen
    assert b"o" * 600 + bytes(424) in seen
    assert b"n" * 600 in seen
    assert b"o" * 512 + b"n" * 512 in seen
    assert all(len(each) in (600, 1024) for each in seen if isinstance(each, bytes))


def test_a_name_is_safe_only_with_its_folder_and_a_content_only_with_its_file(tmp_path: Path) -> None:
    disk = a_disk(tmp_path, create("a", 7), call(Op.WRITE, "a", data=b"text", inode=7))
    assert found(disk, "a") == {"gone", b"", b"text", bytes(4)}
    disk.play(call(Op.FSYNC, "a", inode=7))
    assert found(disk, "a") == {"gone", b"text"}
    disk.play(call(Op.FSYNC, ""))
    assert found(disk, "a") == {b"text"}


def test_a_rename_without_the_files_own_fsync_may_leave_an_empty_file(tmp_path: Path) -> None:
    disk = a_disk(
        tmp_path,
        create("a.new", 7),
        call(Op.WRITE, "a.new", data=b"new", inode=7),
        call(Op.RENAME, "a.new", "a"),
        call(Op.FSYNC, ""),
        a=b"old",
    )
    assert found(disk, "a") == {b"", b"new", bytes(3)}


def test_a_renamed_file_is_never_under_neither_of_its_names(tmp_path: Path) -> None:
    disk = a_disk(
        tmp_path,
        create("a.new", 7),
        call(Op.WRITE, "a.new", data=b"new", inode=7),
        call(Op.FSYNC, "a.new", inode=7),
        call(Op.FSYNC, ""),
        call(Op.RENAME, "a.new", "a"),
        a=b"old",
    )
    pairs = {(each.found.get("a"), each.found.get("a.new")) for each in images(disk)}
    assert pairs == {(b"old", b"new"), (b"new", None), (b"new", b"new")}
    (tmp_path / "into").mkdir()
    disk = a_disk(tmp_path, call(Op.RENAME, "a", "into/a"), call(Op.FSYNC, ""))
    assert {(each.found.get("a"), each.found.get("into/a")) for each in images(disk)} == {(None, b"old")}


def test_a_folder_that_was_never_entered_above_takes_everything_with_it(tmp_path: Path) -> None:
    disk = a_disk(
        tmp_path,
        call(Op.MKDIR, "d"),
        create("d/a", 7),
        call(Op.FSYNC, "d/a", inode=7),
        call(Op.FSYNC, "d"),
    )
    assert found(disk, "d/a") == {"gone", b""}
    disk.play(call(Op.FSYNC, ""))
    assert found(disk, "d/a") == {b""}


def test_a_later_write_to_a_sector_takes_the_earlier_one_with_it(tmp_path: Path) -> None:
    """The cache holds whole sectors, so the second byte is never on disk without the first."""
    writes = call(Op.WRITE, "a", data=b"1"), call(Op.WRITE, "a", data=b"2", offset=1)
    disk = a_disk(tmp_path, *writes, a=b"..")
    assert found(disk, "a") == {b"..", b"1.", b"12"}


def test_a_file_cut_short_and_filled_again_shows_each_of_its_lengths(tmp_path: Path) -> None:
    disk = a_disk(tmp_path, call(Op.TRUNCATE, "a"), call(Op.WRITE, "a", data=b"xy"), a=b"long")
    assert {b"long", b"", b"xy"} <= found(disk, "a")
    # Cut away is cut away: the old end never stands behind the new beginning.
    assert b"xyng" not in found(disk, "a")


def test_a_file_is_cut_short_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """Else a log of SQLite would lose its middle and keep its beginning, which no journal of a file system does."""
    old = b"o" * 2048
    disk = a_disk(tmp_path, call(Op.TRUNCATE, "a"), call(Op.WRITE, "a", data=b"n" * 1024), a=old)
    seen = {each for each in found(disk, "a") if isinstance(each, bytes)}
    assert old in seen
    assert all(b"o" not in each for each in seen - {old})
    assert {b"", bytes(1024), b"n" * 1024, b"n" * 512 + bytes(512)} <= seen


def test_every_promise_before_the_cut_is_held_against_the_image(tmp_path: Path) -> None:
    log = [
        call(Op.WRITE, "a", data=b"1"),
        call(Op.MARK, "", data=b"promised"),
        call(Op.FSYNC, "a"),
    ]
    (tmp_path / "a").write_bytes(b"0")
    seen = {(cut.marks, cut.image.found["a"]) for cut in cuts(Disk(tmp_path), log, 50, random.Random(1))}
    assert seen == {((), b"0"), ((), b"1"), (("promised",), b"0"), (("promised",), b"1")}


def test_an_image_is_laid_over_the_last_one_to_the_byte(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    big = bytes(1_000_000)
    for wanted in (
        {"a": b"1", "d": None, "d/b": big, "l": "a"},
        {"d": b"no folder", "b": big},
        {"d": None, "d/b": big, "d/c": b"", "a": b"2"},
        {"d": None, "d/b": big},
    ):
        folder = stage.lay(Image(wanted, "told"))
        there = {
            str(each.relative_to(folder)): os.readlink(each)
            if each.is_symlink()
            else None
            if each.is_dir()
            else each.read_bytes()
            for each in folder.rglob("*")
        }
        assert there == wanted


# The program on it.

IMAGES = tally.size(5_600, 130_000)


def outage(*flows: str, images: int, mistake: str | None = None) -> Iterator[dict[str, Any]]:  # Any: JSON
    """What tests/fire/outage.py answers, workflow by workflow; it runs under the shim, so in a process of its own."""
    more = [] if mistake is None else ["--mistake", mistake]
    root = Path(__file__).parents[2]
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.fire.outage", *flows, "--images", str(images), *more],
        cwd=root,
        env={**shim.environment(), "PYTHONPATH": f"{root}:{root / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # What it says meanwhile (a push that goes on with an interrupted one) must not fill the pipe.
    said: list[str] = []
    with running, ThreadPoolExecutor(1) as aside:
        assert running.stdout is not None
        assert running.stderr is not None
        reading = aside.submit(lambda: said.extend(running.stderr or ()))
        for line in running.stdout:
            yield json.loads(line)
        reading.result()
    assert running.returncode == 0, "".join(said)[-4_000:]


def flows() -> list[str]:
    made = subprocess.run(
        [sys.executable, "-c", "from tests.fire import outage; print(*outage.all_flows())"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.split()


def test_no_power_cut_breaks_a_promise() -> None:
    names = flows()
    seen, wrong = set(), []
    for found in outage(*names, images=IMAGES // len(names)):
        tally.count("power cuts", found["images"])
        seen.add(found["flow"])
        wrong += found["wrong"]
        print(found)
        # A log that is nearly empty would show nothing.
        assert found["calls"] > 20
        assert found["images"] > 20
    for each in wrong:
        kinds = {"forgotten": "lost check-ins", "when it was told": "lost check-ins", "'early'": "early"}
        for sign in (sign for sign in kinds if sign in each):
            tally.wrong(kinds[sign])
    assert not wrong, "\n".join(wrong)
    assert seen == set(names)


MISTAKES = {
    "no fsync of the folder after a rename": ("upload", "no-folder-fsync", 200),
    "object row before the object's fsync": ("upload", "no-object-fsync", 200),
    "folders made without a fsync above them": ("home", "plain-folders", 200),
    "collected before the archive is on disk": ("recover", "collected-too-soon", 100),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_power_cut_shows_a_planted_mistake(name: str) -> None:
    flow, mistake, images = MISTAKES[name]
    (found,) = outage(flow, images=images, mistake=mistake)
    print(found)
    assert found["broken"] > 0
    tally.killed(name, f"test_power_cuts: {found['broken']} of {found['images']} images of {flow}")


def test_the_same_run_with_synchronous_normal_is_not_without_a_fault() -> None:
    names = flows() if tally.FULL else ["many-check-ins"]
    found = list(outage(*names, images=tally.size(600, 300), mistake="normal"))
    broken = {each["flow"]: each["broken"] for each in found if each["broken"]}
    assert "many-check-ins" in broken
    many, images = sum(broken.values()), sum(each["images"] for each in found)
    tally.killed(
        "synchronous=NORMAL", f"test_power_cuts: {many} of {images} images, in {len(broken)} workflows"
    )
