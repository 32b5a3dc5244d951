"""`python -P -m bench`: all figures, or those named, as a table.

Rule of this room: whatever was made is removed, however it ends; the load of the machine stands above the figures.
"""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import lane, rates, scale, startup, transfers
from bench.meter import Broke, Figure

MB, GIB = 10**6, 2**30


def measures(quick: bool) -> dict[str, Callable[[Path], Iterator[Figure]]]:
    times = 3
    return {
        "startup": lambda at: startup.startup(at, 5 if quick else 15),
        "checkins": lambda at: rates.checkins(at, 50 if quick else 300, times),
        "letters": lambda at: rates.letters(at, 50 if quick else 300, times),
        "lane": lambda at: lane.lane(at, 50 if quick else 400),
        "scale": lambda at: scale.scale(at, scale.SIZES[:2] if quick else scale.SIZES),
        "speed": lambda at: transfers.speed(at, 100 * MB if quick else GIB, times),
        "increments": lambda at: transfers.increments(at, 100 * MB if quick else GIB, times),
        "memory": lambda at: transfers.memory(at, (100 * MB, 400 * MB) if quick else (100 * MB, 4 * GIB)),
    }


def main() -> int:
    names = list(measures(True))
    parser = argparse.ArgumentParser(prog="make bench", description="Medians of several runs.")
    parser.add_argument("name", nargs="*", choices=[*names, []], help="all of them when none is named")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, a minute or two; the figures are rough"
    )
    parser.add_argument("--folder", type=Path, help="where to work; 45 GB free for the full sizes")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="afterword-bench-", dir=chosen.folder))
    need, free = (2 * 10**9 if chosen.quick else 16 * 10**9), shutil.disk_usage(folder).free
    try:
        if free < need:
            print(
                f"{folder} has {free / 1e9:.0f} GB free, {need / 1e9:.0f} are needed; name another with --folder."
            )
            return 1
        print(f"{time.strftime('%Y-%m-%d %H:%M')}, {_machine()}, load before {os.getloadavg()[0]:.1f}\n")
        print("| what | median | |\n|---|---|---|")
        for name in chosen.name or names:
            place = folder / name
            place.mkdir()
            for figure in measures(chosen.quick)[name](place):
                print(f"| {figure.what} | {figure.value} | {figure.remark} |", flush=True)
            shutil.rmtree(place, ignore_errors=True)
        return 0
    except Broke as broke:
        print(f"\nThe bench broke: {broke}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
