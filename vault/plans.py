"""How long each stage of a switch lasts, and what may be chosen.

Rule of this room: lengths are whole milliseconds of service time; what is too short is said here, nowhere else.
"""

from dataclasses import dataclass
from typing import Final

from vault.clock import DAY, HOUR, write_duration
from vault.errors import Malformed, Refused

SHORTEST_LADDER: Final = 24 * HOUR
TICKS_PER_DWELL: Final = 4
PAUSE_AT_ONCE: Final = 72 * HOUR  # a longer pause is a slow change
LONGEST_PAUSE: Final = 90 * DAY
HOLD: Final = 72 * HOUR  # what a colleague's signature adds
HOLDS_ALONE: Final = 2  # holds of one climb that one signature is enough for
CROWD_WAITS: Final = 12 * HOUR
DEFAULT_COOLING: Final = 7 * DAY
SHORTEST_COOLING: Final = 72 * HOUR


def check_pause(length: int) -> None:
    """`Refused` pause-too-long."""
    if not 0 < length <= LONGEST_PAUSE:
        raise Refused(
            f"A pause lasts at most {write_duration(LONGEST_PAUSE)}; choose an earlier end.",
            code="pause-too-long",
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The dwells of `armed`, `reminded`, `warned` and `grace`."""

    every: int
    remind: int
    warn: int
    grace: int

    def __post_init__(self) -> None:
        if any(type(dwell) is not int or dwell < 1 for dwell in self.dwells()):
            raise Malformed(
                "Each length of a plan is a whole number of milliseconds above zero.", code="bad-plan"
            )

    def dwells(self) -> tuple[int, int, int, int]:
        return (self.every, self.remind, self.warn, self.grace)

    def ladder(self) -> int:
        """The least service time from a sign of life to a release."""
        return sum(self.dwells())

    def longer_than(self, other: "Plan") -> bool:
        """Whether any single dwell grew: such a plan is a slow change, even if its total fell."""
        return any(mine > theirs for mine, theirs in zip(self.dwells(), other.dwells(), strict=True))

    def require_unhurried(self, tick: int) -> None:
        """Refuse what only a rehearsal may have: a ladder under a day, or a dwell under four ticks."""
        least = TICKS_PER_DWELL * tick
        if self.ladder() < SHORTEST_LADDER or min(self.dwells()) < least:
            raise Refused(
                f"This plan goes from a check-in to a release in {write_duration(self.ladder())}. The whole "
                f"ladder lasts at least {write_duration(SHORTEST_LADDER)} and each stage at least "
                f"{write_duration(least)}: choose longer times, or rehearse on a server started with --allow-short.",
                code="plan-too-short",
            )


def hold_length(plan: Plan, *, short: bool) -> int:
    """What one hold adds. In a rehearsal it is no longer than the whole ladder that it interrupts."""
    return min(HOLD, plan.ladder()) if short else HOLD


# Alarm early, release late: colleagues hear after two days, the archive opens after a week.
DEFAULT_PLAN: Final = Plan(every=36 * HOUR, remind=12 * HOUR, warn=24 * HOUR, grace=96 * HOUR)
