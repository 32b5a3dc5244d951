"""How long a person waits before anything happens.

Rule of this room: a warm start, as on the second command of a day.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import theatre

from bench import meter, transfers
from bench.meter import Figure


def startup(folder: Path, times: int) -> Iterator[Figure]:
    with theatre.cast(folder) as cast:
        ana, _, _ = transfers.newsroom(cast)
        transfers.create(ana, "startup")
        bare = meter.runs(times, lambda: meter.run([sys.executable, "-c", "pass"]))
        theirs = meter.middle([each.seconds for each in bare])
        helped = meter.runs(times, lambda: meter.run([*theatre.AFTERWORD, "--help"]))
        yield _figure("afterword --help", [each.seconds for each in helped], theirs)
        asked = [_until_asked(ana.environment) for _ in range(times)]
        yield _figure("afterword checkin, until it asks for the passphrase", asked, theirs)
        checked = meter.runs(times, lambda: meter.run([*theatre.AFTERWORD, "checkin"], ana.environment))
        yield _figure(
            "afterword checkin, whole, without the passphrase's cost",
            [each.seconds for each in checked],
            theirs,
        )
        dear = cast.person("Dora")
        dear.join(cast.server.operator("operator", "invite", "--data", str(cast.server.folder)).out.strip())
        whole = meter.runs(
            min(times, 5), lambda: meter.run([*theatre.AFTERWORD, "checkin"], dear.environment)
        )
        yield _figure("afterword checkin, whole", [each.seconds for each in whole], theirs)
        yield Figure("    beside it: python -c pass", f"{theirs * 1000:.0f} ms")


def _figure(what: str, seconds: list[float], theirs: float) -> Figure:
    ours = meter.middle(seconds)
    return Figure(what, f"{ours * 1000:.0f} ms", f"{ours / theirs:.1f} times an empty Python")


def _until_asked(environment: Mapping[str, str]) -> float:
    given = {name: value for name, value in environment.items() if name != "AFTERWORD_PASSPHRASE_FILE"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*theatre.AFTERWORD, "checkin"],
        env=given,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    heard = b""
    while not heard.endswith(b": "):
        piece = os.read(process.stderr.fileno(), 1024)
        if not piece:
            raise meter.Broke(heard.decode())
        heard += piece
    seconds = time.perf_counter() - began
    process.kill()
    process.communicate()
    return seconds
