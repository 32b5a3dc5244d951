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
ERRORS: Final = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)
OPENS: Final = ("CREATE", "OPEN")
# On her own computer the door says what is wrong with a disk (cli/main.py), so these may come as they are.
AT_THE_DOOR: Final = frozenset({"OSError", "OperationalError", "DatabaseError", "sqlite3.Error"})


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warmed() as made:
        yield made


def points_of(warm: Warm, flow: str) -> list[Point]:
    """Every call with every error; in the short form a fair share of them, always the same."""
    chance = random.Random(f"{SEED} {flow}")
    every = []
    for number in ERRORS:
        only = OPENS if number == errno.EMFILE else tuple(op.name for op in CHANGES)
        calls = warm.ask(Point(flow, only=only)).calls
        # Once, or from there on for as long as the process lives.
        every += [
            Point(flow, "ERROR", at, number, lasts, only)
            for at, lasts in zip(range(1, calls + 1), itertools.cycle((0, -1)), strict=False)
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
