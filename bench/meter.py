"""Runs a command and looks at it from outside: time by the wall, and memory as the kernel counts it.

Rule of this room: memory is VmHWM of the process itself; what the kernel keeps of its files is not the process's.
"""

import contextlib
import os
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_EVERY = 0.02


class Broke(Exception):
    """What was to be measured did not run."""


@dataclass(frozen=True)
class Ran:
    """One run: seconds by the wall and of the processor, bytes of memory at the highest, and what it printed."""

    seconds: float
    cpu: float
    peak: int
    out: str


@dataclass(frozen=True)
class Figure:
    """One line of the table. A peer's line names whose figure it is compared with."""

    what: str
    value: str
    remark: str = ""


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Ran:
    spent = _spent()
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=None if environment is None else dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(process, peaks))
    watcher.start()
    try:
        out, err = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode:
        raise Broke(f"{' '.join(command)} ended with {process.returncode}:\n{err}")
    return Ran(seconds, _spent() - spent, max(peaks), out)


def _spent() -> float:
    """Seconds of the processor in all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent_so_far(pid: int) -> float:
    """Seconds of the processor in a running process and its children."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _watch(process: subprocess.Popen[str], peaks: list[int]) -> None:
    while process.poll() is None:
        peaks.append(high_water(process.pid))
        time.sleep(_LOOK_EVERY)


def high_water(pid: int) -> int:
    """The most memory that this process ever had, in bytes; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> list[int]:
    """A process and everything that descends from it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += family(int(child))
    return found


def runs(times: int, once: Callable[[], Ran]) -> list[Ran]:
    return [once() for _ in range(times)]


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def rate(size: int, seconds: Sequence[float]) -> str:
    """The median, and between what it lay."""
    each = sorted(size / 1e6 / one for one in seconds)
    return f"{middle(each):.0f} MB/s ({each[0]:.0f} to {each[-1]:.0f})"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
