"""A dossier's dead-man's switch: which stage follows which event, and who is told.  Spec: docs/spec/switch-v1.md.

Rule of this room: two mistakes can kill, too early and never. Every stage is lived for its full dwell from its own
entry, time alone moves a switch by exactly one stage, and nothing leaves `released`. No clock and no disk in here:
`now` comes in by the door, in milliseconds of service time, and so does whether she has a confirmed address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from vault.errors import Damaged, NotDue, Refused
from vault.events import Arm as Arm
from vault.events import CheckIn as CheckIn
from vault.events import Crowded as Crowded
from vault.events import Destroy as Destroy
from vault.events import Elapsed as Elapsed
from vault.events import Event as Event
from vault.events import Held as Held
from vault.events import Landed as Landed
from vault.events import Move as Move
from vault.events import Pause as Pause
from vault.events import Recalled as Recalled
from vault.events import Renewed as Renewed
from vault.events import Replanned as Replanned
from vault.events import Restored as Restored
from vault.events import Resume as Resume
from vault.events import Tried as Tried
from vault.events import Waited as Waited
from vault.letters import LetterKind
from vault.plans import DEFAULT_PLAN as DEFAULT_PLAN
from vault.plans import HOLDS_ALONE, check_pause
from vault.plans import Plan as Plan
from vault.stages import LATE as LATE
from vault.stages import MOST_RENEWALS as MOST_RENEWALS
from vault.stages import Crowd as Crowd
from vault.stages import Stage as Stage
from vault.stages import Switch as Switch
from vault.stages import crowd_waits as crowd_waits
from vault.stages import dwell as dwell
from vault.stages import is_held as is_held
from vault.stages import lasts

# The whole table. What is not in it is refused; the diagram in the documents is drawn from it.
# fmt: off
MOVES: Final[Mapping[Stage, Mapping[type[Move], Stage]]] = {
    Stage.NEW:      {Arm: Stage.ARMED, Destroy: Stage.DESTROYED},
    Stage.ARMED:    {CheckIn: Stage.ARMED, Elapsed: Stage.REMINDED, Pause: Stage.PAUSED, Destroy: Stage.DESTROYED},
    Stage.REMINDED: {CheckIn: Stage.ARMED, Elapsed: Stage.WARNED, Pause: Stage.PAUSED, Destroy: Stage.DESTROYED},
    Stage.WARNED:   {CheckIn: Stage.ARMED, Elapsed: Stage.GRACE, Pause: Stage.PAUSED, Destroy: Stage.DESTROYED},
    Stage.GRACE:    {CheckIn: Stage.ARMED, Elapsed: Stage.RELEASED, Pause: Stage.PAUSED, Destroy: Stage.DESTROYED},
    Stage.PAUSED:   {CheckIn: Stage.PAUSED, Elapsed: Stage.ARMED, Resume: Stage.ARMED, Destroy: Stage.DESTROYED},
    Stage.RELEASED: {},
    Stage.DESTROYED: {},
}
# fmt: on


class Audience(StrEnum):
    HER = "her"
    COLLABORATORS = "collaborators"
    OPERATOR = "operator"
    REACHED = "reached"  # whoever accepted a ladder letter of the climb named by the notice


@dataclass(frozen=True, slots=True)
class Notice:
    """A letter to post as rows, one per address of the audience. `climb` and `letter` are kept in the rows."""

    kind: LetterKind
    audience: Audience
    climb: int
    letter: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Withdraw this dossier's letters of these kinds that nobody has accepted yet, before posting what follows."""

    kinds: frozenset[LetterKind]


# Letters that speak of one climb: whoever got one is owed the all-clear.
LADDER_LETTERS: Final = frozenset(
    {
        LetterKind.CHECK_IN,
        LetterKind.LAST_WARNING,
        LetterKind.LAST_CALL,
        LetterKind.REACH_HER,
        LetterKind.REACH_HER_AGAIN,
        LetterKind.UNREACHED,
        LetterKind.OPERATOR_UNREACHED,
    }
)
# Letters about a hold say who held and until when, so they outlive the stage they were written in, and no climb.
HOLD_LETTERS: Final = frozenset({LetterKind.HELD, LetterKind.HOLD_ASKED})
# An all-clear still under way must not arrive after a newer alarm, so alarms to colleagues call it back.
_ALL_CLEAR: Final = frozenset({LetterKind.ALL_CLEAR})
_PAUSE_ENDED: Final = frozenset({LetterKind.PAUSE_ENDED})
_SUPERSEDED: Final[Mapping[Stage, frozenset[LetterKind]]] = {
    Stage.ARMED: LADDER_LETTERS | HOLD_LETTERS,
    Stage.REMINDED: LADDER_LETTERS | _PAUSE_ENDED,
    Stage.WARNED: LADDER_LETTERS | _ALL_CLEAR,
    Stage.GRACE: LADDER_LETTERS | _ALL_CLEAR,
    Stage.PAUSED: LADDER_LETTERS | HOLD_LETTERS | _PAUSE_ENDED,
    Stage.RELEASED: LADDER_LETTERS | HOLD_LETTERS | _ALL_CLEAR,
    Stage.DESTROYED: LADDER_LETTERS | HOLD_LETTERS | _PAUSE_ENDED,
}
_SAID_ON_ENTRY: Final[Mapping[Stage, tuple[tuple[LetterKind, Audience], ...]]] = {
    Stage.REMINDED: ((LetterKind.CHECK_IN, Audience.HER),),
    Stage.WARNED: ((LetterKind.LAST_WARNING, Audience.HER), (LetterKind.REACH_HER, Audience.COLLABORATORS)),
    Stage.GRACE: ((LetterKind.LAST_CALL, Audience.HER), (LetterKind.REACH_HER_AGAIN, Audience.COLLABORATORS)),
    Stage.RELEASED: ((LetterKind.RELEASE, Audience.COLLABORATORS), (LetterKind.RELEASED_HER, Audience.HER)),
}

Said = tuple[Notice | Withdraw, ...]


def begin(plan: Plan, now: int) -> Switch:
    """The switch of a dossier that has just been created."""
    return Switch(Stage.NEW, plan, entered=now)


def step(switch: Switch, event: Event, now: int, *, reachable: bool) -> tuple[Switch, Said]:
    """The switch after `event`, and what is to be said about it; the very same object if nothing changed.

    `reachable`: she has a confirmed address; without one nothing is waited for. Raises Refused
    (`not-possible-now`) where the table has no cell, NotDue before the time, Damaged if `now` lies before the
    switch's own entry, which service time never does. A hold is Refused also with `already-held` and `needs-another`.
    """
    if now < switch.entered and not isinstance(event, Restored):
        raise Damaged(
            "This switch was entered at a service time still to come; it stands still until restored."
        )
    match event:
        case Landed(letter):
            if not switch.trying or letter != switch.letter:
                return switch, ()  # only the first acceptance of the letter waited for counts
            return _runs(switch, now), ()
        case Tried():
            if not switch.trying:
                raise _impossible(switch, event)
            _require_due(switch, now)
            return _runs(switch, now), (
                Withdraw(_ALL_CLEAR),
                _notice(switch, LetterKind.UNREACHED, Audience.COLLABORATORS),
                _notice(switch, LetterKind.OPERATOR_UNREACHED, Audience.OPERATOR),
            )
        case Renewed(era):
            return _renew(switch, era, now, reachable=reachable)
        case Replanned(plan):
            return _replan(switch, plan, now), ()
        case Restored():
            if switch.stage is not Stage.ARMED and switch.stage not in LATE:
                return switch, ()
            # No all-clear: that a server came back says nothing about her.
            fresh = _restore(switch, now, reachable=reachable)
            return fresh, _withdrawn(switch, fresh)
        case Recalled():
            if switch.stage is Stage.RELEASED:
                return switch, ()
            if switch.stage is Stage.DESTROYED:
                raise _impossible(switch, event)
            # It was released on a climb that is forgotten; whoever counts climbs begins with the first.
            climbed = replace(switch, ladder=max(1, switch.ladder))
            again = _enter(climbed, Stage.RELEASED, now, reachable=reachable)
            return again, (*_withdrawn(switch, again), *_said_on_entry(again))
        case Held():
            return _hold(switch, event, now), ()  # who holds, and why, is for the caller to say
        case Crowded():
            if switch.stage not in LATE or switch.crowd is not Crowd.NO:
                return switch, ()
            return replace(switch, crowd=Crowd.YES), ()
        case Waited():
            if not _waits(switch):
                raise _impossible(switch, event)
            _require_due(switch, now)
            return replace(switch, crowd=Crowd.WAITED, due=now + crowd_waits(switch.plan)), ()
        case Arm() | CheckIn() | Elapsed() | Pause() | Resume() | Destroy():
            return _move(switch, event, now, reachable=reachable)
        case _:
            assert_never(event)


def next_event(switch: Switch, now: int, era: int) -> Tried | Elapsed | Renewed | Waited | None:
    """What time by itself does to this switch now; the watch applies one per switch and tick.

    Only switches with `due <= now`, and those in a LATE stage whose `era` differs, need to be looked at.
    """
    behind = switch.era != era
    if switch.stage in LATE and behind:
        return Renewed(era)
    if switch.due is None or now < switch.due:
        return None
    if switch.stage is Stage.ARMED and behind:
        # Takes note of gaps met while armed, lest the reminder be begun anew one tick after it was sent.
        return Renewed(era)
    if switch.trying:
        return Tried()
    return Waited() if _waits(switch) else Elapsed()


def projected(switch: Switch, now: int) -> tuple[tuple[Stage, int], ...]:
    """Each stage still to come and the service time at which it begins, if nothing happens and letters land at once."""
    if switch.due is None:
        return ()
    at = _runs_from(switch, now) + (dwell(switch) or 0) if switch.trying else max(now, switch.due)
    coming = []
    stage = MOVES[switch.stage][Elapsed]
    while True:
        if stage is Stage.RELEASED and switch.crowd is Crowd.YES:
            at += crowd_waits(switch.plan)
        coming.append((stage, at))
        if stage is Stage.RELEASED:
            return tuple(coming)
        at += lasts(stage, switch.plan, None) or 0
        stage = MOVES[stage][Elapsed]


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documents."""
    lines = ["stateDiagram-v2", f"    [*] --> {Stage.NEW}"]
    for stage, row in MOVES.items():
        goals = dict.fromkeys(row.values())
        for goal in goals:
            events = ", ".join(kind.__name__ for kind, target in row.items() if target is goal)
            lines.append(f"    {stage} --> {goal}: {events}")
        if not row:
            lines.append(f"    {stage} --> [*]")
    return "\n".join(lines) + "\n"


def _move(switch: Switch, event: Move, now: int, *, reachable: bool) -> tuple[Switch, Said]:
    stage = MOVES[switch.stage].get(type(event))
    if stage is None:
        raise _impossible(switch, event)
    length = None
    match event:
        case Elapsed():
            if switch.trying:
                raise NotDue("This stage's letter has neither landed nor been tried for long enough.")
            if _waits(switch):
                raise NotDue("Many fell silent together, so this release waits once more.")
            _require_due(switch, now)
        case CheckIn() if stage is Stage.PAUSED:
            return switch, ()
        case Pause():
            length = event.length
            check_pause(length)
    after = _enter(switch, stage, now, reachable=reachable, pause=length)
    said: list[Notice | Withdraw] = [*_withdrawn(switch, after)]
    if switch.stage in LATE and isinstance(event, CheckIn | Pause):  # both are signed over a fresh nonce
        said.append(_notice(switch, LetterKind.ALL_CLEAR, Audience.REACHED))
    if switch.stage is Stage.PAUSED and isinstance(event, Elapsed):
        said.append(_notice(after, LetterKind.PAUSE_ENDED, Audience.HER))
    return after, (*said, *_said_on_entry(after))


def _renew(switch: Switch, era: int, now: int, *, reachable: bool) -> tuple[Switch, Said]:
    if era == switch.era or (switch.stage is not Stage.ARMED and switch.stage not in LATE):
        return switch, ()  # taking note of the same gap twice must not begin anything twice
    noted = replace(switch, era=era)
    if switch.stage not in LATE or switch.renewals == MOST_RENEWALS:
        return noted, ()
    fresh = replace(_enter(noted, switch.stage, now, reachable=reachable), renewals=switch.renewals + 1)
    return fresh, (*_withdrawn(switch, fresh), *_said_on_entry(fresh))


def _restore(switch: Switch, now: int, *, reachable: bool) -> Switch:
    fresh = _enter(switch, Stage.ARMED, now, reachable=reachable)
    if now < switch.entered:
        return fresh  # nothing that it says of time is worth keeping
    # What colleagues were told is held stays held, also if the server finds out twice that it forgot.
    kept = switch.due if switch.stage is Stage.ARMED else _runs_from(switch, now) + switch.plan.every
    return replace(fresh, due=max(fresh.due or 0, kept or 0))


def _replan(switch: Switch, plan: Plan, now: int) -> Switch:
    if switch.stage not in (Stage.NEW, Stage.ARMED, Stage.PAUSED):
        raise _impossible(switch, Replanned(plan))
    if switch.stage is not Stage.ARMED or switch.due is None:
        return replace(switch, plan=plan)
    # A statement that shortens carries no nonce and proves no life: so it may bring the end of `armed` forward, but
    # only to a whole `every` from now; and one that lengthens never takes time away that was already given.
    if plan.every >= switch.plan.every:
        due = max(switch.due, switch.entered + plan.every)
    else:
        due = min(switch.due, now + plan.every)
    return replace(switch, plan=plan, due=due)


def _enter(switch: Switch, stage: Stage, now: int, *, reachable: bool, pause: int | None = None) -> Switch:
    """`stage`, begun at `now`: dwelt in from here, never from anything that happened before."""
    length = lasts(stage, switch.plan, pause)
    climbing = switch.stage in LATE and stage in LATE
    # A stage that begins anew in the middle of a hold dwells from its end; every other begins without one.
    held = switch.held if stage is switch.stage and climbing and is_held(switch, now) else None
    return replace(
        switch,
        stage=stage,
        entered=now,
        due=None if length is None else (held or now) + length,
        trying=reachable and stage in LATE,
        renewals=0,
        ladder=switch.ladder + (stage is Stage.REMINDED and switch.stage is not Stage.REMINDED),
        pause=pause,
        held=held,
        holds=switch.holds if climbing else 0,
        crowd=switch.crowd if climbing else Crowd.NO,
    )


def _hold(switch: Switch, event: Held, now: int) -> Switch:
    if switch.stage not in LATE or switch.due is None:
        raise _not_held(switch)
    if is_held(switch, now):
        raise Refused(
            "This dossier is held already; nothing is added to a hold while it runs.", code="already-held"
        )
    if switch.holds >= HOLDS_ALONE and event.signers < 2:
        raise Refused(
            f"This dossier was held {HOLDS_ALONE} times since the last check-in; now two different colleagues must "
            "sign. Ask another one to run `afterword hold` too.",
            code="needs-another",
        )
    # What was left of the stage, or of the trying, is left at the end of the hold.
    return replace(
        switch, due=max(switch.due, now) + event.length, held=now + event.length, holds=switch.holds + 1
    )


def _runs(switch: Switch, now: int) -> Switch:
    """The wait for the letter is over, one way or the other: from here the stage dwells its full length."""
    return replace(switch, trying=False, due=_runs_from(switch, now) + (dwell(switch) or 0))


def _runs_from(switch: Switch, now: int) -> int:
    """When time runs again: at once, or at the end of the hold."""
    return now if switch.held is None else max(now, switch.held)


def _waits(switch: Switch) -> bool:
    return switch.stage is Stage.GRACE and switch.crowd is Crowd.YES and not switch.trying


def _require_due(switch: Switch, now: int) -> None:
    if switch.due is None or now < switch.due or is_held(switch, now):
        raise NotDue(f"The time of stage {switch.stage} is not over.")


def _notice(switch: Switch, kind: LetterKind, audience: Audience) -> Notice:
    return Notice(kind, audience, switch.ladder, switch.letter)


def _said_on_entry(switch: Switch) -> tuple[Notice, ...]:
    return tuple(_notice(switch, kind, audience) for kind, audience in _SAID_ON_ENTRY.get(switch.stage, ()))


def _withdrawn(before: Switch, after: Switch) -> tuple[Withdraw, ...]:
    if after.stage is Stage.ARMED and before.stage not in LATE:
        return ()  # the everyday check-in has nothing to call back
    kinds = _SUPERSEDED.get(after.stage)
    return () if kinds is None else (Withdraw(kinds),)


def _impossible(switch: Switch, event: Event) -> Refused:
    why = {
        Stage.NEW: "this dossier is not armed yet; run `afterword arm` first",
        Stage.ARMED: "this dossier is armed and waits for the next check-in",
        Stage.REMINDED: "a check-in is overdue; run `afterword checkin` first",
        Stage.WARNED: "a check-in is overdue and colleagues were told; run `afterword checkin` first",
        Stage.GRACE: "the last days before the release are running; run `afterword checkin` first",
        Stage.PAUSED: "this dossier is paused; run `afterword resume` first",
        Stage.RELEASED: "this dossier has been released to the collaborators, and nothing takes that back",
        Stage.DESTROYED: "this dossier has been destroyed, and nothing brings it back",
    }[switch.stage]
    return Refused(f"{type(event).__name__} is not possible now: {why}.", code="not-possible-now")


def _not_held(switch: Switch) -> Refused:
    why = {
        Stage.NEW: "it is not armed yet, so nothing is running",
        Stage.ARMED: "no check-in is overdue, so there is nothing to hold",
        Stage.PAUSED: "it is paused, so nothing is running",
        Stage.RELEASED: "it has been released, and nothing takes that back; run `afterword inbox`",
    }.get(switch.stage, "it has ended")
    return Refused(f"This dossier cannot be held: {why}.", code="not-possible-now")
