"""A disk that is full, broken, read-only, over its quota, or a process out of descriptors, at any call."""

import errno
import itertools
import random
from collections.abc import Iterator
from typing import Final

import pytest

from tests.fire import clients, tally, workflows
from tests.fire.shim import CHANGES
from tests.fire.warm import Point, Shown, Warm, warmed

SEED: Final = 20_260_102
SHORT_POINTS: Final = 185
FLOWS: Final = (*workflows.FLOWS, *clients.NAMES)
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
BROKEN: Final = (errno.EIO, errno.EROFS)
CHANGING: Final = tuple(sorted(op.name for op in CHANGES))
OPENS: Final = ("CREATE", "OPEN")
# On her own computer the door says what is wrong with a disk (cli/main.py), so these may come as they are.
AT_THE_DOOR: Final = frozenset({"OSError", "OperationalError", "DatabaseError", "sqlite3.Error"})


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warmed() as made:
        yield made


def points_of(warm: Warm, flow: str) -> list[Point]:
    """Every call with an error of a full disk and with one of a broken one, every opening also with too many files;
    once, or from there on for as long as the process lives. In the short form a fair share, always the same."""
    chance = random.Random(f"{SEED} {flow}")
    every = []
    for numbers, only in ((FULL, CHANGING), (BROKEN, CHANGING), ((errno.EMFILE,), OPENS)):
        calls = warm.ask(Point(flow, only=only)).calls
        every += [
            Point(flow, "ERROR", at, number, lasts, only)
            for at, lasts, number in zip(
                range(1, calls + 1),
                itertools.cycle((0, 0, -1, -1)),
                itertools.cycle(chance.sample(numbers, len(numbers))),
                strict=False,
            )
        ]
    if tally.FULL:
        return every
    return chance.sample(every, min(len(every), -(-SHORT_POINTS // len(FLOWS))))


def typed(shown: Shown, flow: str) -> None:
    for raised in (shown.raised, shown.again):
        if raised is None:
            continue
        name, code, lines = raised
        assert code is not None or (flow in clients.NAMES and name in AT_THE_DOOR), lines


@pytest.mark.parametrize("flow", FLOWS)
def test_whatever_the_disk_refuses_nothing_promised_is_lost_and_it_goes_on_afterwards(
    warm: Warm, flow: str
) -> None:
    refused = 0
    for point in points_of(warm, flow):
        shown = warm.ask(point)
        typed(shown, flow)
        for what, sentence in shown.broken:
            if what:
                tally.wrong(what)
            pytest.fail(f"{point}: {sentence}\nrefused: {shown.refused[:3]}\nraised: {shown.raised}")
        assert not shown.late, f"{point}: acknowledged after {shown.refused[0]} had failed"
        assert shown.again is None, (
            f"{point}: the fault is gone, and the same process still says {shown.again}"
        )
        refused += bool(shown.refused)
    tally.count("injected errors", refused)
    assert refused >= tally.size(3, 50)


def test_a_process_that_goes_on_after_a_failed_write_is_found(
    warm: Warm, request: pytest.FixtureRequest
) -> None:
    mutant, flow = "goes on after a failed write", "pause-and-resume"
    calls = warm.ask(Point(flow, mutant=mutant)).calls
    for at in range(1, calls + 1):
        if warm.ask(Point(flow, "ERROR", at, errno.EIO, 0, CHANGING, mutant=mutant)).late:
            tally.killed(mutant, by=request.node.name)
            return
    pytest.fail(f"{mutant!r} lived through {calls} errors")
