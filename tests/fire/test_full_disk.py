"""A real server on a disk that is really full: uploads are refused first, proofs of life and a release last of all.

The disk is a tmpfs of a few megabytes; where nobody may mount one, this is skipped and says so.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rehearsal import COLLEAGUES, TITLE, fall_silent, stage_of
from theatre import Cast, Frozen, Person, until

from tests.fire import tally

Stage = Callable[..., Any]
LOW_WATER = 6 << 20


@contextlib.contextmanager
def a_small_disk(size: str, options: str = "") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700{options}", "none", made]
        refused = subprocess.run(mount, capture_output=True, text=True, check=False)
        if refused.returncode:
            pytest.skip(f"no disk can be mounted here: {refused.stderr.strip()}")
        try:
            yield Path(made)
        finally:
            subprocess.run(["umount", "--lazy", made], check=True)


def move_to(disk: Path, cast: Cast, **environment: str) -> None:
    cast.server.stop()
    shutil.copytree(cast.server.folder, disk / "server", symlinks=True)
    cast.server.folder = disk / "server"
    cast.server.environment = {**cast.server.environment, **environment}
    cast.server.start()


def fill(disk: Path) -> Path:
    """Somebody else writes into the last block that there is."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def push_much(ana: Person, folder: Path, name: str, megabytes: int) -> Any:
    work = folder / "work" / name
    work.mkdir(parents=True)
    (work / "film.mov").write_bytes(os.urandom(megabytes << 20))
    return ana.type("push", TITLE, str(work), code=None)


def test_on_a_full_disk_uploads_stop_first_and_check_ins_and_a_release_go_on_to_the_end(
    prepared: Frozen, stage: Stage
) -> None:
    with a_small_disk("24m") as disk, stage(prepared) as cast:
        server, ana = cast.server, cast["Ana"]
        ana.type("arm", TITLE)
        move_to(disk, cast, AFTERWORD_LOW_WATER=str(LOW_WATER))
        ballast = server.folder / "ballast"
        until(ballast.exists, "the ballast")

        # Uploads stop while there is still room, and say so.
        ended = [push_much(ana, cast.folder, f"film {number}", 4) for number in range(5)]
        assert ended[0].code == 0, ended[0].said
        assert "afterword: no-space" in ended[-1].err
        assert free(disk) >= LOW_WATER
        ana.type("checkin")

        # Somebody else takes the rest. What was kept for this moment is given up, and the operator is told.
        filler = fill(disk)
        until(lambda: not ballast.exists(), "the ballast to be given up")
        until(lambda: any("The disk is full." in line for line in list(server.lines)), "the operator is told")
        for _ in range(5):
            ana.type("checkin")
        assert stage_of(ana) == "armed"
        assert "no-space" in push_much(ana, cast.folder, "more", 2).err

        # Room is made: everything goes on, and the ballast comes back.
        filler.unlink()
        objects = server.folder / "objects"
        for part in objects.glob("*/partial/*"):
            part.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        until(ballast.exists, "the ballast to be back")
        assert ana.type("push", TITLE, str(cast.folder / "work" / "more")).code == 0

        # And once more full, she falls silent: the release commits, and its letters leave.
        ana.type("checkin")
        fall_silent(ana, every="20s")
        fill(disk)
        until(lambda: not ballast.exists(), "the ballast to be given up again")
        # An order that can wait is refused by now, as an upload is.
        assert "no-space" in ana.type("plan", TITLE, "--every", "10s", code=None).err
        until(lambda: stage_of(ana) == "released", "the release")
        for name in COLLEAGUES:
            cast.mail.saying(cast[name].address, "recover")
        assert server.process is not None
        assert server.process.poll() is None
        tally.count("full disks", 2)


def test_without_a_name_left_for_a_file_check_ins_still_commit(prepared: Frozen, stage: Stage) -> None:
    with a_small_disk("64m", ",nr_inodes=400") as disk, stage(prepared) as cast:
        ana = cast["Ana"]
        ana.type("arm", TITLE)
        move_to(disk, cast)
        taken = disk / "taken"
        taken.mkdir()
        with contextlib.suppress(OSError):
            for number in range(1_000):
                (taken / str(number)).touch()
        assert os.statvfs(disk).f_favail == 0
        assert "no-space" in push_much(ana, cast.folder, "more", 2).err
        ana.type("checkin")
        shutil.rmtree(taken)
        assert ana.type("push", TITLE, str(cast.folder / "work" / "more")).code == 0
        tally.count("full disks")
