"""A process that runs under the shim with everything imported and every workflow prepared, and forks for each point.

Rule of this room: it answers one line for each line it is asked, and changes nothing of itself: whatever is run is
run in a child.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.fire import clients, mutants, oracle, shim, workflows
from tests.fire.oracle import Broken
from tests.fire.shim import Mode, Op
from tests.fire.stand import (
    KILLED,
    Prepared,
    Promises,
    Said,
    a_folder,
    in_fork,
    play,
    read_promises,
    shim_off,
)
from vault.errors import AfterwordError

ROOT: Final = Path(__file__).parents[2]
FAILED_FOR_GOOD: Final = frozenset({errno.EIO, errno.EROFS})
WRITES: Final = frozenset({Op.WRITE, Op.FSYNC, Op.FDATASYNC})


@dataclass(frozen=True, slots=True)
class Point:
    """Where a workflow is interrupted. `only`: names of the calls that count, else all that change something."""

    flow: str
    mode: str = "COUNT"
    at: int = 0
    errno: int = 0
    every: int = 0
    only: tuple[str, ...] = ()
    to_the_end: bool = False
    mutant: str | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of it. `raised`, and `again` in the same process when the fault was gone: the error as (type, code
    or None, its last lines). `refused`: calls and paths. `late`: acknowledgements given after the disk had failed."""

    calls: int
    killed: bool
    raised: tuple[str, str | None, str] | None
    again: tuple[str, str | None, str] | None
    refused: list[tuple[str, str]]
    late: int
    broken: list[tuple[str, str]]


def names() -> list[str]:
    return [*workflows.FLOWS, *clients.NAMES]


def _prepared(name: str) -> Any:  # Any: a Prepared or a Client; both are copied, played and checked
    return clients.prepared(name) if name in clients.NAMES else workflows.prepared(name)


def _play(flow: Any, folder: Path, promises: Promises) -> None:  # Any: see _prepared
    if isinstance(flow, clients.Client):
        flow.play(folder, promises)
    else:
        play(flow, folder, promises)


def _check(flow: Any, folder: Path, said: list[Said], to_the_end: bool) -> list[Broken]:  # Any: see _prepared
    if isinstance(flow, clients.Client):
        return flow.check(folder, said)
    return oracle.check(flow, folder, said, to_the_end=to_the_end)


def show(point: Point) -> Shown:
    flow = _prepared(point.flow)
    with a_folder(flow) as (folder, path), mutants.planted(point.mutant):
        ended = in_fork(lambda: _interrupted(point, flow, folder, path))
        if ended.raised is not None:
            raise RuntimeError(ended.raised)
        calls, raised, again = ended.value or (point.at, None, None)
        said = [each for each in read_promises(path) if not each.get("late")]
        refused, late = _refused(path.with_name("log"), point)
        checked = in_fork(lambda: _check(flow, folder, said, point.to_the_end))
        broken = [(each.what, each.sentence) for each in checked.value or ()]
        if checked.raised is not None or checked.signal:
            broken.append(("", f"the oracle was stopped: {checked.raised or checked.signal}"))
        return Shown(calls, ended.signal == KILLED, raised, again, refused, late, broken)


def _interrupted(
    point: Point, flow: Any, folder: Path, path: Path
) -> Any:  # Any: see _prepared; calls and errors
    shim.watch(folder)
    promises = Promises(path)
    log = path.with_name("log") if point.mode == "ERROR" else None if point.log is None else Path(point.log)
    with shim.logging_to(log):
        shim.arm(
            Mode[point.mode],
            point.at,
            point.errno,
            point.every,
            frozenset(Op[name] for name in point.only) or None,
        )
        raised = _tried(lambda: _play(flow, folder, promises))
        calls = shim.calls()
        if raised is not None and point.errno in FAILED_FOR_GOOD and not isinstance(flow, clients.Client):
            _persevere(flow, promises)
    shim_off()
    if raised is None or point.errno in FAILED_FOR_GOOD:
        return calls, raised, None
    # The fault is gone, and the same process is asked once more, as by a client that tries again.
    if not isinstance(flow, clients.Client):
        with contextlib.suppress(AfterwordError, OSError):
            flow.base.server.put_down()
    return calls, raised, _tried(lambda: _play(flow, folder, promises))


def _persevere(flow: Prepared, promises: Promises) -> None:
    """The process lives on, and others come to it with what they want."""
    for step in flow.steps:
        with contextlib.suppress(Exception):
            step.act(flow.base.server)
            promises.say("did", step=step.name, answer=None, late=True, signed=step.signed)


def _refused(log: Path, point: Point) -> tuple[list[tuple[str, str]], int]:
    """What was refused, and how many acknowledgements came after a write to the server's data had failed for good."""
    if not log.exists():
        return [], 0
    refused, late, failed = [], 0, False
    for call in shim.read_log(log):
        if call.flags & shim.REFUSED:
            refused.append((call.op.name, call.path))
            kept = call.path in {"afterword.db", "afterword.db-wal"} or call.path.startswith("objects/")
            failed |= kept and call.op in WRITES and point.errno in FAILED_FOR_GOOD
        elif call.op is Op.MARK and failed:
            said = json.loads(call.data)
            late += said["what"] == "did" and bool(said.get("signed"))
    return refused, late


def _tried(act: Callable[[], None]) -> tuple[str, str | None, str] | None:
    import traceback

    try:
        act()
    except Exception as wrong:
        lines = [line for line in traceback.format_exc().strip().splitlines() if "^^^" not in line]
        code = wrong.code if isinstance(wrong, AfterwordError) else None
        return type(wrong).__name__, code, "\n".join(lines[-9:])
    return None


# The other side, in the process of the tests.


class Warm:
    """A warm process, asked from here."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from tests.fire import warm; warm.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**shim.environment(), "PYTHONPATH": str(ROOT)},
        )

    def ask(self, point: Point) -> Shown:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(point)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the warm process is gone at {point}")
        told = json.loads(line)
        if "mistake" in told:
            raise RuntimeError(f"{point}: {told['mistake']}")
        told["broken"] = [tuple(each) for each in told["broken"]]
        told["refused"] = [tuple(each) for each in told["refused"]]
        return Shown(**told)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def warmed() -> Iterator[Warm]:
    warm = Warm()
    try:
        yield warm
    finally:
        warm.close()


def serve() -> None:
    """Answer until nobody asks any more. What anybody prints goes elsewhere."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import logging

    logging.disable(logging.CRITICAL)
    # What is compiled or looked up once is done here, and not anew in every child.
    flow = workflows.prepared("arm")
    with a_folder(flow) as (folder, _):
        oracle.check(flow, folder, [], to_the_end=True)
    for line in sys.stdin:
        import traceback

        try:
            told: dict[str, Any] = asdict(show(Point(**json.loads(line))))  # Any: JSON
        except Exception:
            told = {"mistake": traceback.format_exc()}
        answers.write(json.dumps(told) + "\n")
        answers.flush()
