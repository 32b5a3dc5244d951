"""Reading clocks, and durations as people write them.

Rule of this room: nobody else looks at a clock. Instants and durations are whole milliseconds.
"""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from vault.errors import BadUsage

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_UNITS: Final = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_LONGEST: Final = 3_650 * DAY


class Clock(Protocol):
    """What the world says about time; the product has one real clock, tests bring their own."""

    def wall(self) -> int:
        """Milliseconds since 1970 UTC, for display only: it may be wrong by any amount."""

    def boot(self) -> int:
        """Milliseconds since this kernel started, suspension included (CLOCK_BOOTTIME)."""

    def boot_id(self) -> str:
        """Names the run of the kernel that `boot` counts from."""


class SystemClock:
    """The machine's own clocks. `boot` and `boot_id` need Linux; clients use only `wall`."""

    def wall(self) -> int:
        return time.time_ns() // 1_000_000

    def boot(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def boot_id(self) -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def read_duration(text: str) -> int:
    """`90s`, `48h`, `7d`, `1d12h` as milliseconds; at least one millisecond, at most ten years."""
    parts = re.findall(r"([0-9]{1,12})(ms|[smhdw])", text)
    if not parts or "".join(count + unit for count, unit in parts) != text:
        raise BadUsage(f"{text!r} is not a duration; write it like 90s, 48h or 7d.", code="bad-duration")
    total = sum(int(count) * _UNITS[unit] for count, unit in parts)
    if not 0 < total <= _LONGEST:
        raise BadUsage(f"{text!r} is out of range; between 1ms and 3650d is possible.", code="bad-duration")
    return total


def write_duration(ms: int) -> str:
    """The shortest exact text that `read_duration` takes back; `0s` for nothing."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def write_instant(ms: int) -> str:
    """An instant in UTC, to the second, as ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
