"""What a server costs as it grows: from a thousand armed switches to a million in one SQLite database.

Rule of this room: the real watch over a real file on disk, on a clock that is turned by hand; each time is one durable
transaction or more, by the wall.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench.meter import Figure
from tests.multiply import multiply
from tests.world import Dossier, World, an_armed_dossier
from vault import outbox
from vault.clock import HOUR
from vault.storage.records import VITAL

SIZES = (1_000, 10_000, 100_000, 1_000_000)
DUE = 10_000
CLOUD = 200


def scale(folder: Path, sizes: tuple[int, ...] = SIZES) -> Iterator[Figure]:
    for size in sizes:
        place = folder / str(size)
        place.mkdir()
        yield from _one(place, size)


def _one(place: Path, size: int) -> Iterator[Figure]:
    world = World(place)
    made = an_armed_dossier(world)
    world.skip(400 * HOUR)
    made.hers.check_in()
    multiply(made, size - 1)
    world.reopen()
    idle = sorted(_tick(world) for _ in range(100))
    whole = f"{size:,} switches".replace(",", " ")
    yield Figure(
        f"an idle tick, {whole}", f"{_ms(statistics.median(idle))} ms", f"p99 {_ms(idle[-2])} ms; one commit"
    )
    lasted = [_timed(made.hers.check_in) for _ in range(CLOUD)]
    yield Figure(f"check-ins in the same process, {whole}", f"{1 / statistics.median(lasted):.0f} a second")
    due = min(DUE, size // 2)
    _let_fall_due(made, due)
    seconds = _tick(world)
    waiting = world.records.count_letters()["waiting"]
    assert world.records.count_stages()["reminded"] == due, world.records.count_stages()
    assert waiting >= due, waiting
    yield Figure(f"{due} due at once, moved with their letters, {whole}", f"{seconds:.2f} s", "one tick")
    claim = _timed(lambda: outbox.claim(world.records, 20))
    yield Figure(f"20 letters claimed of {waiting}, {whole}", f"{_ms(claim)} ms")
    look = _timed(lambda: world.database.check(*VITAL))
    yield Figure(f"the hourly look at what is vital, {whole}", f"{look:.1f} s", "reads only")
    world.close()


def _let_fall_due(made: Dossier, many: int) -> None:
    """The first copies' time is over, and a mail server is not to be waited for."""
    db = made.world.database
    row = made.world.records.service()
    assert row is not None
    with db.transaction():
        db.run(
            "UPDATE switches SET entered = :served - every - 1000, due = :served - 1000 "
            "WHERE dossier IN (SELECT dossier FROM switches WHERE stage = 'armed' "
            "ORDER BY substr(dossier, -4), dossier LIMIT :many)",
            served=row.served,
            many=many,
        )


def _tick(world: World) -> float:
    world.clock.at += world.tick
    world.records.note_probe(world.clock.boot())
    return _timed(world.watch.tick)


def _timed(do: object) -> float:
    began = time.perf_counter()
    do()  # type: ignore[operator]  # anything that can be called
    return time.perf_counter() - began


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
