"""Whether the disk keeps what the server was told is kept: part of the operator's `afterword doctor`.

Rule of this room: a problem is said only on certain evidence, and what cannot be seen from here is said to be so.
"""

import os
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.doctor import Finding, ok, problem, warning

TIMES: Final = 20
# No disk, and no controller with a battery, answers sooner; only something that does not ask it does. In ms.
TOO_FAST: Final = 0.01
_MEMORY: Final = frozenset({"tmpfs", "ramfs", "rootfs"})
_ELSEWHERE: Final = re.compile(
    r"9p|vboxsf|virtiofs|prl_fs|vmhgfs|fuse.*|nfs\d*|cifs|smb\d*|smbfs|ceph|afs|glusterfs"
)
_NO_BARRIER: Final = frozenset({"nobarrier", "barrier=0", "barrier=none", "async"})


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a folder lies: the mount point, the kind of file system, and every option, its own and the disk's."""

    point: str
    kind: str
    options: frozenset[str]


def examine_durability(folder: Path) -> Iterator[Finding]:
    """Writes and flushes a small file in `folder` a few times, and deletes it."""
    try:
        spent = flush(folder, TIMES)
    except OSError as wrong:
        yield problem(
            "fsync-failed",
            f"Writing into {folder} and flushing it failed ({wrong.strerror}), so nothing can be promised; look at the "
            "disk before anything else.",
        )
        return
    try:
        mount = mount_of(folder.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        libraries = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        mount, libraries = None, ""
    yield from judge(folder, mount, spent, os.environ, libraries)


def judge(
    folder: Path,
    mount: Mount | None,
    spent: Sequence[float],
    environment: Mapping[str, str],
    libraries: str,
) -> Iterator[Finding]:
    """What follows from what was seen; `spent` in ms for each flush, `libraries` as in /proc/PID/maps."""
    kind = "a file system that does not say what it is" if mount is None else mount.kind
    middle = statistics.median(spent)
    certain = True
    if mount is not None and mount.kind in _MEMORY:
        certain = False
        yield problem(
            "disk-in-memory",
            f"{folder} lies in memory ({mount.kind}): everything is lost when this computer stops. Move it to a disk.",
        )
    if mount is not None and mount.kind == "overlay" and "volatile" in mount.options:
        certain = False
        yield problem(
            "disk-promises-nothing",
            f"{folder} lies on an overlay mounted volatile, which flushes nothing. Give it a volume of its own.",
        )
    if mount is not None and _ELSEWHERE.fullmatch(mount.kind):
        certain = False
        yield warning(
            "disk-elsewhere",
            f"{folder} lies on {mount.kind}, a disk shared by another computer or program; whether that one keeps what "
            "it says it keeps cannot be seen from here, and SQLite's locks may not hold there. Use a disk of this "
            "computer.",
        )
    if mount is not None and (found := sorted(_NO_BARRIER & mount.options)):
        certain = False
        yield warning(
            "disk-no-barrier",
            f"{mount.point} is mounted with {', '.join(found)}: after a power cut, check-ins that were acknowledged "
            "may be gone. Mount it without.",
        )
    preloaded = environment.get("LD_PRELOAD", "")
    if "eatmydata" in preloaded or "eatmydata" in libraries:
        certain = False
        yield warning(
            "fsync-eaten",
            "This command runs under libeatmydata, which flushes nothing. If the server does too, what it acknowledges "
            "is not kept: start it without.",
        )
    elif preloaded:
        yield warning(
            "preloaded",
            f"LD_PRELOAD is set ({preloaded}): what such a library does with writes cannot be seen from here.",
        )
    if certain and middle < TOO_FAST:
        certain = False
        yield warning(
            "fsync-too-fast",
            f"A flush took {middle * 1000:.0f} µs, sooner than any disk answers: something in between says that it is "
            "done and is not. In a virtual machine, look at the cache mode of its disk.",
        )
    if certain:
        yield ok(
            "fsync",
            f"What is written is flushed: {len(spent)} times, {middle:.2g} ms each, on {kind}. What the disk itself, "
            "or the host of a virtual machine, loses in a power cut cannot be seen from here.",
        )


def flush(folder: Path, times: int) -> list[float]:
    """How long each of some flushes of a small file took, ms."""
    draft = folder / f".flushed-{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    spent = []
    try:
        for number in range(times):
            os.write(descriptor, number.to_bytes(1, "big") * 4_096)
            begun = time.perf_counter()
            os.fsync(descriptor)
            spent.append((time.perf_counter() - begun) * 1_000)
    finally:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
    return spent


def mount_of(folder: Path, mountinfo: str) -> Mount | None:
    """The mount that a folder (absolute, without links) lies on, from the text of /proc/self/mountinfo."""
    best: Mount | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        where, what = left.split(" "), right.split(" ")
        if len(where) < 6 or len(what) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), where[4])
        if not folder.is_relative_to(point):
            continue
        # What is mounted later over the same place hides what was there.
        if best is None or len(point) >= len(best.point):
            best = Mount(point, what[0], frozenset([*where[5].split(","), *what[2].split(",")]))
    return best
