"""Where a dossier's dead-man's switch stands: its stage, since when, until when.  Spec: docs/spec/switch-v1.md.

Rule of this room: a switch that contradicts itself is Damaged and never comes to be; nothing is guessed in its place.
Times are milliseconds of service time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from vault.errors import Damaged, Malformed
from vault.plans import CROWD_WAITS, Plan

MOST_RENEWALS: Final = 2


class Stage(StrEnum):
    NEW = "new"
    ARMED = "armed"
    REMINDED = "reminded"
    WARNED = "warned"
    GRACE = "grace"
    PAUSED = "paused"
    RELEASED = "released"
    DESTROYED = "destroyed"


class Crowd(IntEnum):
    """Whether she fell silent together with many others, and whether the release has waited for it."""

    NO = 0
    YES = 1
    WAITED = 2


# The stages that begin with a letter to her, which must land or be tried for one dwell before their time runs.
LATE: Final = frozenset({Stage.REMINDED, Stage.WARNED, Stage.GRACE})


@dataclass(frozen=True, slots=True)
class Switch:
    """Where one dossier stands. Stored as it is, never derived; a switch that contradicts itself is Damaged.

    `due` is when the stage ends, or, while `trying`, when trying ends. `era` is the last gap this switch has taken
    note of. `renewals` counts this stage's fresh beginnings, `ladder` the climbs begun so far. `pause` is the length
    of the pause it is in. `held` is when a colleague's hold of this stage ends, `holds` counts those of this climb.
    """

    stage: Stage
    plan: Plan
    entered: int
    due: int | None = None
    trying: bool = False
    era: int = 0
    renewals: int = 0
    ladder: int = 0
    pause: int | None = None
    held: int | None = None
    holds: int = 0
    crowd: Crowd = Crowd.NO

    def __post_init__(self) -> None:
        # A row that was damaged into an early `due` must stand still, not release: so the least is checked here.
        lived = dwell(self)
        wrong = (
            (self.due is None) != (lived is None)
            or (self.due is not None and lived is not None and self.due < self.entered + lived)
            or (self.trying and self.stage not in LATE)
            or (self.pause is None) != (self.stage is not Stage.PAUSED)
            or not 0 <= self.renewals <= (MOST_RENEWALS if self.stage in LATE else 0)
            or self.ladder < (1 if self.stage in LATE or self.stage is Stage.RELEASED else 0)
            or (self.stage not in LATE and (self.holds, self.crowd) != (0, Crowd.NO))
            # No stage ends in the middle of a hold, and no hold began before its stage or outside every count.
            or (
                self.held is not None and not (self.holds > 0 and self.entered < self.held <= (self.due or 0))
            )
            or (self.crowd is Crowd.WAITED and self.stage is not Stage.GRACE)
        )
        if wrong:
            raise Damaged(
                f"A switch in {self.stage} contradicts itself; it stands still until an operator restores it."
            )

    @property
    def letter(self) -> str:
        """Names the letter that this beginning of this stage waits for; never the same twice in one life."""
        return f"{self.ladder}.{self.stage}.{self.renewals}"


def write_switch(switch: Switch) -> dict[str, int | str | None]:
    """A switch as columns."""
    return {
        "stage": switch.stage.value,
        "every": switch.plan.every,
        "remind": switch.plan.remind,
        "warn": switch.plan.warn,
        "grace": switch.plan.grace,
        "entered": switch.entered,
        "due": switch.due,
        "trying": int(switch.trying),
        "era": switch.era,
        "renewals": switch.renewals,
        "ladder": switch.ladder,
        "pause": switch.pause,
        "held": switch.held,
        "holds": switch.holds,
        "crowd": int(switch.crowd),
    }


def read_switch(row: Mapping[str, object]) -> Switch:
    """The switch that `write_switch` wrote (other columns are ignored), or Damaged: nothing is ever guessed."""

    def whole(name: str) -> int:
        value = row[name]
        if type(value) is not int or value < 0:
            raise TypeError
        return value

    def whole_or_none(name: str) -> int | None:
        return None if row[name] is None else whole(name)

    try:
        plan = Plan(whole("every"), whole("remind"), whole("warn"), whole("grace"))
        return Switch(
            stage=Stage(str(row["stage"])),
            plan=plan,
            entered=whole("entered"),
            due=whole_or_none("due"),
            trying={0: False, 1: True}[whole("trying")],
            era=whole("era"),
            renewals=whole("renewals"),
            ladder=whole("ladder"),
            pause=whole_or_none("pause"),
            held=whole_or_none("held"),
            holds=whole("holds"),
            crowd=Crowd(whole("crowd")),
        )
    except (KeyError, TypeError, ValueError, Malformed) as error:
        raise Damaged("A switch does not read; it stands still until an operator restores it.") from error


def is_held(switch: Switch, now: int) -> bool:
    """Whether time stands still at `now` because colleagues have signed."""
    return switch.held is not None and now < switch.held


def dwell(switch: Switch) -> int | None:
    """How long the stage it is in lasts by plan or pause, in ms; None where time changes nothing."""
    return lasts(switch.stage, switch.plan, switch.pause)


def lasts(stage: Stage, plan: Plan, pause: int | None) -> int | None:
    """How long a stage lasts by plan, or by the pause it is, in ms; None where time changes nothing."""
    return {
        Stage.ARMED: plan.every,
        Stage.REMINDED: plan.remind,
        Stage.WARNED: plan.warn,
        Stage.GRACE: plan.grace,
        Stage.PAUSED: pause,
    }.get(stage)


def crowd_waits(plan: Plan) -> int:
    """How long the release waits, once, for one of a crowd."""
    return min(CROWD_WAITS, plan.grace)
