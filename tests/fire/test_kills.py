"""kill -9 before, after and in the middle of every call that changes a file, in everything that a server does."""

import collections
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fire import clients, fresh, mutants, shim, tally, workflows
from tests.fire.shim import Op
from tests.fire.warm import ROOT, Point, Shown, Warm, warmed

SEED: Final = 20_260_101
SHORT_POINTS: Final = 440
KINDS: Final = ("BEFORE", "AFTER")
FLOWS: Final = (*workflows.FLOWS, *clients.NAMES)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warmed() as made:
        yield made


def blame(shown: Shown, point: Point) -> None:
    for what, sentence in shown.broken:
        if what:
            tally.wrong(what)
        pytest.fail(f"{point}: {sentence}")


def points_of(warm: Warm, flow: str) -> Iterator[Point]:
    """Before and after each call; in the short form a fair share of them, always the same. A few in the middle."""
    calls = warm.ask(Point(flow)).calls
    every = [(mode, at) for at in range(1, calls + 1) for mode in KINDS]
    chance = random.Random(f"{SEED} {flow}")
    chosen = every if tally.FULL else chance.sample(every, min(len(every), -(-SHORT_POINTS // len(FLOWS))))
    torn = chance.sample(range(1, calls + 1), min(calls, tally.size(1, 20)))
    for place, (mode, at) in enumerate([*chosen, *(("HALF", at) for at in torn)]):
        yield Point(flow, mode, at, to_the_end=place % 4 == 0)


@pytest.mark.parametrize("flow", FLOWS)
def test_killed_anywhere_nothing_that_was_promised_is_lost(warm: Warm, flow: str) -> None:
    killed = 0
    for point in points_of(warm, flow):
        shown = warm.ask(point)
        assert shown.raised is None, shown.raised
        blame(shown, point)
        # A path may be one call shorter this time; then nobody died, and nothing was shown.
        killed += shown.killed
    tally.count("crash points", killed)
    assert killed >= tally.size(8, 30)


@pytest.mark.parametrize("mutant", mutants.MUTANTS)
def test_the_sweep_finds_what_is_planted(warm: Warm, mutant: str, request: pytest.FixtureRequest) -> None:
    _, flow = mutants.MUTANTS[mutant]
    well = warm.ask(Point(flow, mutant=mutant, to_the_end=True))
    assert not well.broken, "killed by nobody, it shows nothing"
    calls, found = well.calls, set()
    for at in random.Random(SEED).sample(range(1, calls + 1), calls):
        found |= set(warm.ask(Point(flow, "AFTER", at, mutant=mutant)).broken)
        if found:
            break
    assert found, f"{mutant!r} lived through {calls} kills"
    tally.killed(mutant, by=request.node.originalname)


# No call escapes.

_STRACED: Final = (
    "write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,open,openat,openat2,creat,truncate,ftruncate,fallocate,"
    "copy_file_range,sendfile,splice,vmsplice,tee,io_uring_enter,io_submit,mmap,mremap,sync,syncfs,mknod,mknodat"
)
_KIND: Final = {
    "write": Op.WRITE, "pwrite64": Op.WRITE, "writev": Op.WRITE, "pwritev": Op.WRITE, "pwritev2": Op.WRITE,
    "copy_file_range": Op.WRITE, "sendfile": Op.WRITE, "fsync": Op.FSYNC, "fdatasync": Op.FDATASYNC,
    "sync_file_range": Op.SYNC_RANGE, "rename": Op.RENAME, "renameat": Op.RENAME, "renameat2": Op.RENAME,
    "link": Op.LINK, "linkat": Op.LINK, "symlink": Op.SYMLINK, "symlinkat": Op.SYMLINK, "unlink": Op.UNLINK,
    "rmdir": Op.RMDIR, "mkdir": Op.MKDIR, "mkdirat": Op.MKDIR, "truncate": Op.TRUNCATE, "ftruncate": Op.TRUNCATE,
    "fallocate": Op.ALLOCATE, "creat": Op.CREATE,
}  # fmt: skip


def seen_by_strace(log: Path, folder: str) -> list[Op]:
    """What changes a file below `folder`, by the kernel's own account."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        parts = re.match(r"(?:\d+\s+)?(\w+)\((.*)", line)
        if parts is None or folder not in line:
            continue
        name, rest = parts[1], parts[2]
        if name in {"open", "openat", "openat2"}:
            if re.search(r"O_CREAT|O_TRUNC|O_TMPFILE", rest):
                found.append(Op.CREATE)
        elif name == "unlinkat":
            found.append(Op.RMDIR if "AT_REMOVEDIR" in rest else Op.UNLINK)
        elif name == "mmap":
            assert "PROT_WRITE" not in rest or "MAP_SHARED" not in rest or "-shm>" in rest, line
        elif name in _KIND:
            # Of two descriptors, the one that is written to counts.
            at = {"copy_file_range": 2, "sendfile": 0}.get(name)
            if at is None or folder in rest.split(",")[at]:
                found.append(_KIND[name])
        else:
            raise AssertionError(f"a call that the shim does not know: {line}")
    return found


ONCE: Final = """
import json, sys
from pathlib import Path
from tests.fire import shim, stand, warm
flow = warm._prepared(sys.argv[1])
folder = flow.copy(Path(sys.argv[2]))
shim.watch(folder)
before = int(Path("/proc/self/io").read_text().split("syscw: ")[1].split()[0])
with shim.logging_to(Path(sys.argv[3])):
    shim.arm(shim.Mode.COUNT)
    sys.stderr.write("BEGIN-" + "SHIM\\n"); sys.stderr.flush()
    warm._play(flow, folder, stand.Promises(None))
    sys.stderr.write("END-" + "SHIM\\n"); sys.stderr.flush()
after = int(Path("/proc/self/io").read_text().split("syscw: ")[1].split()[0])
print(json.dumps([before, after, shim.calls()]))
"""


def can_trace() -> bool:
    strace = shutil.which("strace")
    assert strace is not None, "strace is needed; `make test` installs it"
    return (
        subprocess.run(
            [strace, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.mark.parametrize(
    "flow",
    (
        FLOWS
        if tally.FULL
        else ("create", "upload", "release", "backup", "found", "migration", "home", "recover")
    ),
)
def test_no_write_escapes_the_shim(tmp_path: Path, flow: str) -> None:
    folder, log, trace = tmp_path / "data", tmp_path / "log", tmp_path / "trace"
    command = [sys.executable, "-P", "-c", ONCE, flow, str(folder), str(log)]
    traced = can_trace()
    if traced:
        preload = shim.build()
        command = [
            "strace", "-f", "-qq", "-y", "-s", "0", "-e", f"trace={_STRACED}", "-o", str(trace),
            "-E", f"LD_PRELOAD={preload}", *command,
        ]  # fmt: skip
    environment = {**os.environ} if traced else shim.environment()
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    ours = [call for call in shim.read_log(log) if call.op is not Op.MARK]
    assert all(call.path.endswith("-shm") for call in ours if call.op is Op.MMAP)
    ours = [call for call in ours if call.op is not Op.MMAP]
    assert ours
    if traced:
        text = trace.read_text(errors="replace")
        # The copy was made before the shim looked; it counts from its own first call on.
        armed = tmp_path / "armed"
        armed.write_text(text[text.index(str(log)) :])
        theirs = seen_by_strace(armed, f"{folder}")
        assert [call.op for call in ours] == theirs[: len(ours)], _difference([c.op for c in ours], theirs)
        assert len(theirs) == len(ours)
    else:
        before, after, _ = json.loads(ended.stdout.splitlines()[-1])
        written = sum(call.op is Op.WRITE for call in ours) + len(shim.read_log(log))
        # The two words on stderr, and what was printed for us.
        assert 0 <= after - before - written <= 4
    tally.count("calls seen by the kernel too", len(ours))


def _difference(ours: list[Op], theirs: list[Op]) -> str:
    return f"ours {collections.Counter(ours)}, the kernel's {collections.Counter(theirs)}"


# Real processes, killed as a whole.


@pytest.mark.parametrize("number", range(tally.size(fresh.SHORT, fresh.FULL)))
def test_a_real_server_killed_anywhere_keeps_what_it_promised(number: int, tmp_path: Path) -> None:
    killed, broken = fresh.kill_once(number, tmp_path)
    for what, sentence in broken:
        if what:
            tally.wrong(what)
        pytest.fail(f"server {number}: {sentence}")
    tally.count("crash points", killed)
    tally.count("servers killed and started again", killed)
