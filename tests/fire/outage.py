"""Workflows played under the shim, the power cut all along each, and every image opened and judged.

Rule of this room: it runs as a process of its own, started under the shim (`python -m tests.fire.outage`), and its
answer is one JSON line for each workflow. Nothing is judged but what is on the disk; all that is remembered from
before the cut is what had been promised to somebody outside.
"""

import argparse
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.fire import shim
from tests.fire.powercut import PROMISED, Cut, Disk, Stage, cuts
from tests.fire.shim import Call

MEMORY: Final = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
MOST: Final = 5
"""Broken promises of one workflow that are told in full."""


@dataclass(frozen=True)
class Ready:
    """A workflow about to begin: its folder as it lies there, what happens, and how an image of it is judged.

    `judge` gets a folder that was found, and what had been promised; it answers with a sentence for each promise
    broken, and may change the folder.
    """

    name: str
    folder: Path
    play: Callable[[], None]
    judge: Callable[[Path, Sequence[str]], list[str]]
    slow: int = 1
    """Of how many images that others get this one gets one."""


def logged(ready: Ready, log: Path) -> tuple[Disk, list[Call]]:
    """The disk before the workflow, and all that it did."""
    disk = Disk(ready.folder)
    shim.watch(ready.folder)
    try:
        with shim.logging_to(log):
            ready.play()
    finally:
        shim.watch(None)
    return disk, shim.read_log(log)


def judged(ready: Ready, many: int, seed: int, workers: int, log: Path) -> dict[str, Any]:  # Any: JSON
    """Cut the power in `many` different ways; what was found."""
    began = time.monotonic()
    disk, calls = logged(ready, log)
    parts = [
        _forked(lambda part=part: _judge_part(ready, disk, calls, many // workers, seed, (part, workers)))
        for part in range(workers)
    ]
    found = [_answer(*part) for part in parts]
    wrong = [each for one in found for each in one[1]][:MOST]
    return {
        "flow": ready.name,
        "calls": sum(call.op in shim.CHANGES for call in calls),
        "images": len(set().union(*(one[0] for one in found))),
        "broken": sum(one[2] for one in found),
        "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1),
    }


def _judge_part(
    ready: Ready, disk: Disk, calls: list[Call], many: int, seed: int, part: tuple[int, int]
) -> tuple[set[bytes], list[str], int]:
    wrong: list[str] = []
    images = 0
    seen: set[bytes] = set()
    folder = Path(tempfile.mkdtemp(prefix="afterword-cut-", dir=MEMORY))
    try:
        stage = Stage(folder / "data")
        chance = random.Random(f"{seed} {ready.name} {part[0]}")
        for cut in cuts(disk, calls, many, chance, part, max(1, PROMISED // ready.slow)):
            seen.add(cut.digest)
            try:
                broken = ready.judge(stage.lay(cut.image), cut.marks)
            except Exception:
                broken = [traceback.format_exc()]
            images += bool(broken)
            if len(wrong) < MOST:
                wrong += [_told(ready, calls, cut, each) for each in broken]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return seen, wrong, images


def _told(ready: Ready, calls: list[Call], cut: Cut, what: str) -> str:
    last = next((call for call in reversed(calls[: cut.when]) if call.op in shim.CHANGES), None)
    where = "at the beginning" if last is None else f"after {last.op.name.lower()} of {last.path}"
    return f"{ready.name}, call {cut.when} ({where}), {cut.image.name}: {what}"


def _forked(act: Callable[[], Any]) -> tuple[int, int]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    os.close(ours)
    try:
        answer = pickle.dumps((True, act()))
    except BaseException:
        answer = pickle.dumps((False, traceback.format_exc()))
    with os.fdopen(theirs, "wb") as pipe:
        pipe.write(answer)
    os._exit(0)


def _answer(child: int, pipe: int) -> Any:  # Any: what the child returned
    with os.fdopen(pipe, "rb") as file:
        written = file.read()
    os.waitpid(child, 0)
    well, said = pickle.loads(written) if written else (False, "a judge ended without a word")  # noqa: S301 our own
    if not well:
        raise RuntimeError(said)
    return said


def all_flows() -> dict[str, Callable[[], Ready]]:
    from tests.fire import cut_homes, cut_servers

    return {**cut_servers.flows(), **cut_homes.flows()}


@contextmanager
def planted(mistake: str | None) -> Iterator[None]:
    """One of MISTAKES, made while the workflow is played and not while it is judged."""
    from tests.fire import cut_mistakes

    with cut_mistakes.planted(mistake):
        yield


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("flows", nargs="*")
    parser.add_argument("--images", type=int, default=100, help="of each workflow; of a slow one a part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mistake")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    flows = all_flows()
    if given.list:
        print(json.dumps(list(flows)))
        return
    with tempfile.TemporaryDirectory(prefix="afterword-cuts-", dir=MEMORY) as kept:
        for name in given.flows or flows:
            ready = flows[name]()
            wrapped = replace(ready, name=name, play=_with(given.mistake, ready.play))
            log = Path(kept) / "log"
            found = judged(wrapped, given.images // ready.slow, given.seed, given.workers, log)
            print(json.dumps(found), flush=True)
            log.unlink()


def _with(mistake: str | None, play: Callable[[], None]) -> Callable[[], None]:
    def played() -> None:
        with planted(mistake):
            play()

    return played


if __name__ == "__main__":
    sys.exit(main())
