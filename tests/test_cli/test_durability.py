"""Whether the disk keeps what it says is judged on what can be seen, and no further."""

import errno
import os
from pathlib import Path

import pytest

from cli import durability
from cli.durability import Mount, examine_durability, flush, judge, mount_of

FOLDER = Path("/var/lib/afterword")
PLAIN = Mount("/", "ext4", frozenset({"rw", "relatime"}))

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
23 22 0:21 / /var/lib rw - xfs /dev/vdb rw,nobarrier
24 22 0:22 / /var/lib/after\\040word rw,nosuid shared:3 - tmpfs none rw,size=1024k
25 22 0:23 / /over rw - ext4 /dev/vdc rw
26 22 0:24 / /over rw - overlay overlay rw,volatile
27 22 0:25 / /variety rw - nfs4 far:/x rw
a line of another kernel
"""


def levels(mount: Mount | None, spent: float = 2.0, preload: str = "", libraries: str = "") -> dict[str, str]:
    environment = {"LD_PRELOAD": preload} if preload else {}
    return {each.code: each.level for each in judge(FOLDER, mount, [spent] * 3, environment, libraries)}


@pytest.mark.parametrize(
    ("folder", "point", "kind", "option"),
    [
        ("/home/x", "/", "ext4", "discard"),
        ("/var/lib/afterword", "/var/lib", "xfs", "nobarrier"),
        ("/var/lib/after word/data", "/var/lib/after word", "tmpfs", "nosuid"),
        ("/over/data", "/over", "overlay", "volatile"),
        ("/variety", "/variety", "nfs4", "rw"),
        ("/various", "/", "ext4", "rw"),
    ],
)
def test_a_folder_lies_on_the_innermost_mount_and_the_last_one_there(
    folder: str, point: str, kind: str, option: str
) -> None:
    mount = mount_of(Path(folder), MOUNTS)
    assert mount is not None
    assert (mount.point, mount.kind) == (point, kind)
    assert option in mount.options


def test_a_plain_disk_is_well_and_says_what_it_cannot_know() -> None:
    (found,) = judge(FOLDER, PLAIN, [1.0, 2.0, 300.0], {}, "")
    assert (found.level, found.code) == ("ok", "fsync")
    assert "2 ms" in found.sentence
    assert "cannot be seen from here" in found.sentence


@pytest.mark.parametrize(
    ("mount", "code", "level"),
    [
        (Mount("/", "tmpfs", frozenset()), "disk-in-memory", "problem"),
        (Mount("/", "ramfs", frozenset()), "disk-in-memory", "problem"),
        (Mount("/", "overlay", frozenset({"volatile"})), "disk-promises-nothing", "problem"),
        *(
            (Mount("/", kind, frozenset()), "disk-elsewhere", "warning")
            for kind in ("9p", "vboxsf", "nfs", "nfs4", "cifs", "fuse", "fuse.sshfs", "virtiofs")
        ),
        *(
            (Mount("/", "ext4", frozenset({option})), "disk-no-barrier", "warning")
            for option in ("nobarrier", "barrier=0", "async")
        ),
    ],
)
def test_what_keeps_nothing_is_a_problem_and_what_may_not_is_a_warning(
    mount: Mount, code: str, level: str
) -> None:
    assert levels(mount) == {code: level}


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "f2fs"])
def test_a_disk_of_this_computer_is_not_doubted(kind: str) -> None:
    assert levels(Mount("/", kind, frozenset({"rw"}))) == {"fsync": "ok"}


def test_a_library_that_eats_flushes_is_named_however_it_was_loaded() -> None:
    assert levels(PLAIN, preload="/usr/lib/libeatmydata.so") == {"fsync-eaten": "warning"}
    assert levels(PLAIN, libraries="7f r-xp /usr/lib/libeatmydata.so.1") == {"fsync-eaten": "warning"}
    assert levels(PLAIN, preload="libjemalloc.so") == {"preloaded": "warning", "fsync": "ok"}


def test_a_flush_sooner_than_any_disk_answers_is_not_believed() -> None:
    assert levels(PLAIN, spent=0.002) == {"fsync-too-fast": "warning"}


def test_no_mount_table_is_no_evidence_against_anything() -> None:
    assert levels(None) == {"fsync": "ok"}


def test_the_file_that_is_flushed_is_gone_afterwards(tmp_path: Path) -> None:
    assert len(flush(tmp_path, 3)) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_flush_that_fails_is_a_problem_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durability.os, "fsync", broken)
    (found,) = examine_durability(tmp_path)
    assert (found.level, found.code) == ("problem", "fsync-failed")
    assert list(tmp_path.iterdir()) == []


def test_this_very_disk_can_be_examined(tmp_path: Path) -> None:
    found = list(examine_durability(tmp_path))
    assert found
    assert {each.code for each in found} <= {
        "fsync", "fsync-too-fast", "preloaded", "disk-in-memory", "disk-elsewhere", "disk-no-barrier", "fsync-eaten",
        "disk-promises-nothing",
    }  # fmt: skip
