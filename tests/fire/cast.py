"""Who the lives are about: a journalist, three colleagues, a fourth in reserve, somebody who has nothing to do with
them, and the server they all begin on.

Rule of this room: everybody is real and speaks the real protocol; nothing here judges.
"""

import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.world import TICK, Dossier, Person, Snapshot, World, an_armed_dossier
from vault import identity
from vault.custodian import Custodian
from vault.plans import Plan

PLAN = Plan(60 * TICK, 30 * TICK, 30 * TICK, 40 * TICK)
COOLING = 50 * TICK
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass
class Cast:
    """One server with two armed dossiers of one journalist, and one of another, with a colleague of his own."""

    world: World
    first: Dossier
    second: Dossier
    his: Dossier
    start: Snapshot
    spare: Person
    extra_address: str

    @property
    def hers(self) -> Person:
        return self.first.hers

    @property
    def neighbour(self) -> Person:
        """Another journalist on the same server, with whom she has nothing to do."""
        return self.his.hers

    @property
    def dossiers(self) -> tuple[Dossier, ...]:
        return self.first, self.second, self.his


@contextmanager
def a_stage(plan: Plan) -> Iterator[tuple[Dossier, Snapshot]]:
    """One armed dossier, and the moment to which every scene rewinds."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    world = World(folder, short=True)
    made = an_armed_dossier(world, plan, cooling=COOLING)
    world.beat()
    try:
        yield made, world.snapshot()
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


def another_dossier(whose: Person, readers: list[Person], k: int) -> Dossier:
    made = whose.create(readers, k, PLAN, COOLING)
    made.push()
    made.prove()
    made.arm()
    return made


@contextmanager
def a_cast() -> Iterator[Cast]:
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    world = World(folder, short=True)
    first = an_armed_dossier(world, PLAN, cooling=COOLING)
    hers = first.hers
    hers.confirm("ana@elsewhere.example")
    second = another_dossier(hers, first.readers, 2)
    spare = hers.colleague("spare")
    spare.confirm("spare@example.org")
    neighbour = world.journalist("ben")
    neighbour.confirm("ben@example.org")
    dora = neighbour.colleague("dora")
    dora.confirm("dora@example.org")
    his = another_dossier(neighbour, [dora], 1)
    hers.check_in()
    neighbour.check_in()
    row = world.records.addresses_of(hers.account.id)
    # The bundles were committed, and no life sends another: so nobody carries their bytes along.
    world.objects._stored.clear()
    try:
        yield Cast(world, first, second, his, world.snapshot(), spare, row[-1].id)
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def remembered() -> Iterator[None]:
    """What is sealed does not change: the same bytes are opened and read once here, not ten thousand times."""
    wake, opened = Custodian.wake, dict[bytes, bytes]()

    def wake_once(self: Custodian, blob: bytes) -> bytes:
        if blob not in opened:
            opened[blob] = wake(self, blob)
        return opened[blob]

    with pytest.MonkeyPatch.context() as faster:
        faster.setattr(identity, "read_card", functools.lru_cache(512)(identity.read_card))
        faster.setattr(Custodian, "wake", wake_once)
        yield
