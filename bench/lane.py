"""Check-ins through the shipped nginx while 500 stand in the door and 200 upload.

Rule of this room: a check-in counts once its acknowledgement was verified; each is timed from its first request on.
"""

from collections.abc import Iterator
from pathlib import Path

import front
import theatre
from crowd import SLOW, UPLOADS, check_ins, crowd
from theatre import Cast, Person

from bench import meter
from bench.meter import Figure


def lane(folder: Path, count: int) -> Iterator[Figure]:
    """The same check-ins on a quiet door and on a crowded one, in one run."""
    with theatre.cast(folder / "cast") as cast:
        ana, dossier = journalist_with_a_dossier(cast)
        port = int(cast.server.url.rpartition(":")[2])
        with front.front(folder / "nginx", port) as door:
            quiet = check_ins(door.url, ana, count)
            with crowd(door.url, ana, dossier, SLOW, UPLOADS) as done:
                crowded = check_ins(door.url, ana, count)
    if done.code:
        raise meter.Broke(f"uploads were lost: {done.said}")
    for what, lasted in (("on a quiet door", quiet), (f"beside {SLOW} slow and {UPLOADS} uploads", crowded)):
        lasted.sort()
        yield Figure(
            f"a check-in through nginx, {what}",
            f"{lasted[len(lasted) // 2] * 1000:.0f} ms",
            f"p99 {lasted[int(len(lasted) * 0.99) - 1] * 1000:.0f} ms, of {count}; three requests each",
        )


def journalist_with_a_dossier(cast: Cast) -> tuple[Person, str]:
    ana, others = cast.newsroom("Ana", ["Bruno", "Chiara"], quickly=True)
    names = [word for other in others for word in ("--collaborator", other.name)]
    ana.type("dossier", "create", "Lane", *names, "--threshold", "2", "--every", "1h", "--cooling", "2s")
    return ana, ana.ask("status")["dossiers"][0]["dossier"]
