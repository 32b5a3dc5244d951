"""Whole lives of a switch, against a model of truth that the test keeps, and mutants that the lives must kill.

The model knows when signs of life came, when letters landed and when stages began; it never looks at `due`, `trying`
or any other thing the switch believes. Names S1 to S13 are the invariants of the threat model.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.bounds import latest_release
from vault import switch as switches
from vault.clock import HOUR
from vault.errors import NotDue, Refused
from vault.letters import LetterKind as Kind
from vault.stages import read_switch, write_switch
from vault.switch import (
    LADDER_LETTERS,
    LATE,
    Arm,
    Audience,
    CheckIn,
    Crowd,
    Crowded,
    Destroy,
    Elapsed,
    Event,
    Held,
    Landed,
    Notice,
    Pause,
    Plan,
    Renewed,
    Replanned,
    Restored,
    Resume,
    Said,
    Stage,
    Switch,
    Tried,
    Waited,
    Withdraw,
    begin,
    projected,
)

CLIMB = {
    Stage.ARMED: Stage.REMINDED,
    Stage.REMINDED: Stage.WARNED,
    Stage.WARNED: Stage.GRACE,
    Stage.GRACE: Stage.RELEASED,
}
ON_ENTRY = {
    Stage.REMINDED: {(Kind.CHECK_IN, Audience.HER)},
    Stage.WARNED: {(Kind.LAST_WARNING, Audience.HER), (Kind.REACH_HER, Audience.COLLABORATORS)},
    Stage.GRACE: {(Kind.LAST_CALL, Audience.HER), (Kind.REACH_HER_AGAIN, Audience.COLLABORATORS)},
    Stage.RELEASED: {(Kind.RELEASE, Audience.COLLABORATORS), (Kind.RELEASED_HER, Audience.HER)},
}
HER_LETTER = {Stage.REMINDED: Kind.CHECK_IN, Stage.WARNED: Kind.LAST_WARNING, Stage.GRACE: Kind.LAST_CALL}
ALARMS = {Kind.REACH_HER, Kind.REACH_HER_AGAIN, Kind.UNREACHED}

lengths = st.integers(1, 9)
plans = st.builds(Plan, lengths, lengths, lengths, lengths)


@dataclass
class Row:
    notice: Notice
    accepted: bool = False


class Life(RuleBasedStateMachine):
    step = staticmethod(switches.step)
    next_event = staticmethod(switches.next_event)

    @initialize(plan=plans, reachable=st.sampled_from([True, True, True, False]), armed=st.integers(0, 9))
    def created(self, plan: Plan, reachable: bool, armed: int) -> None:
        self.now = 1_000
        self.era = 0
        self.reachable = reachable
        self.switch: Switch = begin(plan, self.now)
        self.outbox: list[Row] = []
        # What is true, as the test saw it happen.
        self.stage = Stage.NEW
        self.plan = plan
        self.alive = self.now  # last sign of life, or fresh start
        self.armed_until = 0
        self.pause_until = 0
        self.begun = self.now  # this beginning of this stage
        self.heard: int | None = None  # since when the time of a late stage runs
        self.beginnings = 0
        self.noted = 0  # the last gap taken note of
        self.climb = 0
        self.waited_for = ""  # name of her letter in this beginning
        self.names: list[str] = []
        self.held: list[tuple[int, int]] = []  # from when to when, in this climb
        self.crowd = Crowd.NO
        self.waits: int | None = None  # since when the release of one of a crowd waits
        if armed:
            self.she_arms()

    # What the world does.

    def apply(self, event: Event) -> Said:
        before = self.switch
        self.switch, said = self.step(before, event, self.now, reachable=self.reachable)
        for word in said:
            if isinstance(word, Withdraw):
                self.outbox = [
                    row for row in self.outbox if row.accepted or row.notice.kind not in word.kinds
                ]
            else:
                self.outbox.append(Row(word))
                if word.kind in ALARMS:
                    pending = [row for row in self.outbox if row.notice.kind is Kind.ALL_CLEAR]
                    assert not any(not row.accepted for row in pending), (
                        "an old all-clear can follow an alarm"
                    )
        return said

    def told(self, said: Said) -> set[tuple[Kind, Audience]]:
        return {(word.kind, word.audience) for word in said if isinstance(word, Notice)}

    def enters(self, stage: Stage, said: Said) -> None:
        """The truth after a stage has just begun, and what must have been said."""
        assert ON_ENTRY.get(stage, set()) <= self.told(said), f"nobody is told of {stage}"
        self.stage, self.begun, self.heard, self.waits = stage, self.now, None, None
        if stage not in LATE:
            self.held, self.crowd = [], Crowd.NO
        if stage is Stage.REMINDED and self.beginnings == 0:
            self.climb += 1
        if stage in HER_LETTER:
            (hers,) = [w for w in said if isinstance(w, Notice) and w.kind is HER_LETTER[stage]]
            assert hers.letter not in self.names, "two letters of one name"
            assert hers.climb == self.climb, "a letter of another climb"
            self.waited_for = hers.letter
            self.names.append(hers.letter)
            if not self.reachable:
                self.heard = self.now
        if stage is Stage.ARMED:
            self.alive = self.now
            self.armed_until = self.now + self.plan.every

    def dwell(self) -> int:
        return {
            Stage.REMINDED: self.plan.remind,
            Stage.WARNED: self.plan.warn,
            Stage.GRACE: self.plan.grace,
        }[self.stage]

    def over(self) -> int | None:
        """When time alone may change something: never before, and at the first tick from then on."""
        if self.stage in LATE and self.waits is not None:
            return self.lived(self.waits, min(HOUR * 12, self.dwell()))
        if self.stage in LATE:
            return self.lived(self.begun if self.heard is None else self.heard, self.dwell())
        return {Stage.ARMED: self.armed_until, Stage.PAUSED: self.pause_until}.get(self.stage)

    def lived(self, since: int, length: int) -> int:
        """When `length` will have passed since then without counting a moment of any hold."""
        at, left = since, length
        for begun, ended in self.held:
            if ended <= at:
                continue
            if begun - at >= left:
                break
            left -= max(0, begun - at)
            at = ended
        # A hold that came after the time was over, and before any watch did, holds as well.
        return max(at + left, max((ended for _, ended in self.held if ended > since), default=0))

    def waited(self, said: Said) -> None:
        over = self.over()
        assert self.stage is Stage.GRACE, "only a release waits for a crowd"
        assert self.heard is not None
        assert self.crowd is Crowd.YES, "waits without a crowd, or twice"
        assert over is not None
        assert self.now >= over
        assert not said
        self.crowd, self.waits = Crowd.WAITED, self.now

    def elapsed(self, said: Said) -> None:
        """S1 and S2: time moved the switch. Was it allowed to, and did it go to the right place?"""
        over = self.over()
        assert over is not None, f"time moved a switch out of {self.stage}"
        assert self.now >= over, f"{self.stage} was not lived to its end"
        assert self.stage not in LATE or self.heard is not None, "neither landed nor tried"
        assert self.stage is not Stage.GRACE or self.crowd is not Crowd.YES, "one of a crowd did not wait"
        if self.stage is Stage.PAUSED:
            assert (Kind.PAUSE_ENDED, Audience.HER) in self.told(said), "nobody says that the pause is over"
            goal = Stage.ARMED
        else:
            goal = CLIMB[self.stage]
        self.beginnings = 0
        self.enters(goal, said)
        if goal is Stage.RELEASED:
            assert self.now - self.alive >= self.plan.ladder(), (
                "S1: released before the whole ladder was served"
            )

    def tried(self, said: Said) -> None:
        assert self.stage in LATE, "tried outside the late stages"
        assert self.heard is None, "tried after the letter had landed"
        assert self.now >= self.lived(self.begun, self.dwell()), "not tried for long enough"
        expected = {(Kind.UNREACHED, Audience.COLLABORATORS), (Kind.OPERATOR_UNREACHED, Audience.OPERATOR)}
        assert self.told(said) == expected, "nobody is told that she could not be reached"
        self.heard = self.now

    @rule(by=st.integers(1, 12))
    def time_passes_untended(self, by: int) -> None:
        self.now += by

    @rule(short=st.sampled_from([-2, 0, 0, 0, 1]), ticks=st.integers(0, 3))
    def time_passes_to_the_very_end(self, short: int, ticks: int) -> None:
        for _ in range(ticks):
            over = self.over()
            if over is not None:
                self.now = max(self.now, over - short)
            self.the_watch_ticks()

    @rule()
    def the_watch_ticks(self) -> None:
        event = self.next_event(self.switch, self.now, self.era)
        over = self.over()
        late, behind = self.stage in LATE, self.noted != self.era
        due = over is not None and self.now >= over
        if event is None:
            overlooked = due or (late and behind)
            assert not overlooked, f"the watch overlooks a switch in {self.stage}"
            return
        said = self.apply(event)
        if behind and (late or (due and self.stage is Stage.ARMED)):
            self.noted = self.era
            if late and self.beginnings < 2:
                self.beginnings += 1
                self.enters(self.stage, said)
            else:
                assert not said, "more than two fresh beginnings"
        elif late and self.heard is None:
            self.tried(said)
        elif isinstance(event, Waited):
            self.waited(said)
        else:
            self.elapsed(said)

    @rule(event=st.sampled_from([Elapsed(), Tried(), Waited()]))
    def a_second_watch_is_early_or_late(self, event: Elapsed | Tried | Waited) -> None:
        try:
            said = self.apply(event)
        except (NotDue, Refused):
            over = self.over()
            if over is not None and self.now >= over:
                assert not isinstance(event, self.expected()), "a due event is refused"
            return
        if isinstance(event, Waited):
            self.waited(said)
        elif isinstance(event, Tried):
            self.tried(said)
        else:
            self.elapsed(said)

    def expected(self) -> type[Event]:
        """What time does next."""
        if self.stage in LATE and self.heard is None:
            return Tried
        return Waited if self.stage is Stage.GRACE and self.crowd is Crowd.YES else Elapsed

    @rule(length=st.integers(1, 12), signers=st.sampled_from([1, 1, 1, 2]))
    def colleagues_say_that_she_was_reached(self, length: int, signers: int) -> None:
        running = any(self.now < ended for _, ended in self.held)
        code = None
        if self.stage not in LATE:
            code = "not-possible-now"
        elif running:
            code = "already-held"
        elif len(self.held) >= 2 and signers < 2:
            code = "needs-another"
        if code is not None:
            with pytest.raises(Refused) as refusal:
                self.step(self.switch, Held(length, signers), self.now, reachable=self.reachable)
            assert refusal.value.code == code
            return
        assert not self.apply(Held(length, signers))
        self.held.append((self.now, self.now + length))

    @rule(other=st.booleans())
    def many_fall_silent_with_her(self, other: bool) -> None:
        if other or self.stage not in LATE:
            assert not self.apply(Crowded())
            if self.stage in LATE and self.crowd is Crowd.NO:
                self.crowd = Crowd.YES

    @rule(pick=st.sampled_from(["", "", "old", "doubled"]), number=st.integers(1, 3))
    def a_letter_of_hers_lands(self, pick: str, number: int) -> None:
        if not self.names:
            return
        name = self.names[-min(number, len(self.names))] if pick == "old" else self.waited_for
        for _ in range(2 if pick == "doubled" else 1):
            self.apply(Landed(name))
            if self.stage in LATE and self.heard is None and name == self.waited_for:
                self.heard = self.now
            if pick == "doubled":
                self.now += 1

    @rule(number=st.integers(0, 99))
    def some_letter_is_accepted(self, number: int) -> None:
        if self.outbox:
            self.outbox[number % len(self.outbox)].accepted = True

    @rule(again=st.booleans())
    def a_gap(self, again: bool) -> None:
        self.era += 1
        if again:  # a second watch takes note of the last gap once more: nothing may begin anew for it
            assert not self.apply(Renewed(self.noted)), "one gap counted twice"

    # What people do: one rule, so that climbs are not cut short at every second step.

    @rule(deed=st.integers(0, 19), length=st.integers(1, 30), plan=plans, reachable=st.booleans())
    def people_do_something(self, deed: int, length: int, plan: Plan, reachable: bool) -> None:
        if deed < 6:
            self.she_checks_in()
        elif deed < 9:
            self.she_pauses(length)
        elif deed < 11:
            self.she_resumes()
        elif deed < 15:
            self.her_plan_changes(plan)
        elif deed < 17:
            self.a_backup_is_restored()
        elif deed == 17 and len(self.names) > 3:
            self.it_is_destroyed()
        elif deed == 18:
            self.she_arms()
        elif self.stage not in LATE:  # removing an address cools, and takes effect in no late stage
            self.reachable = reachable

    def she_arms(self) -> None:
        if self.allowed(Arm(), {Stage.NEW}):
            self.enters(Stage.ARMED, self.apply(Arm()))

    def she_checks_in(self) -> None:
        if self.allowed(CheckIn(), {Stage.ARMED, Stage.PAUSED, *LATE}):
            said = self.apply(CheckIn())
            self.owes_the_all_clear(said)
            if self.stage is not Stage.PAUSED:
                self.beginnings = 0
                self.enters(Stage.ARMED, said)

    def she_pauses(self, length: int) -> None:
        if self.allowed(Pause(length), {Stage.ARMED, *LATE}):
            said = self.apply(Pause(length))
            self.owes_the_all_clear(said)
            self.beginnings = 0
            self.enters(Stage.PAUSED, said)
            self.pause_until = self.now + length

    def she_resumes(self) -> None:
        if self.allowed(Resume(), {Stage.PAUSED}):
            self.enters(Stage.ARMED, self.apply(Resume()))

    def her_plan_changes(self, plan: Plan) -> None:
        if not self.allowed(Replanned(plan), {Stage.NEW, Stage.ARMED, Stage.PAUSED}):
            return
        shorter = plan.every < self.plan.every
        self.plan = plan
        self.apply(Replanned(plan))
        if shorter:  # a whole new `every` from now, unless the old one ends before that
            self.armed_until = min(self.armed_until, self.now + plan.every)
        else:  # time already given is not taken away
            self.armed_until = max(self.armed_until, self.begun + plan.every)

    def it_is_destroyed(self) -> None:
        if self.allowed(Destroy(), set(Stage) - {Stage.RELEASED, Stage.DESTROYED}):
            self.enters(Stage.DESTROYED, self.apply(Destroy()))
            self.beginnings = 0

    def a_backup_is_restored(self) -> None:
        said = self.apply(Restored())
        if self.stage is Stage.ARMED or self.stage in LATE:
            assert not self.told(said), "a restored server knows nothing about her"
            # No release comes nearer by it than colleagues were told.
            held = [ended + self.plan.every for _, ended in self.held]
            kept = [self.armed_until] if self.stage is Stage.ARMED else held
            self.beginnings = 0
            self.enters(Stage.ARMED, said)
            self.armed_until = max([self.armed_until, *kept])

    def teardown(self) -> None:
        if hasattr(self, "switch") and (self.stage is Stage.ARMED or self.stage in LATE):
            self.she_falls_silent_for_good(
                lands=self.now % 2 == 0, lateness=self.now % 4, length=self.now % 5
            )
            self.nothing_takes_the_release_back()

    def she_falls_silent_for_good(self, lands: bool, lateness: int, length: int) -> None:
        """Liveness: with a healthy server the release comes, within the bounds that were projected, although one
        colleague holds it whenever that is possible."""
        self.the_watch_ticks()
        last = self.now if self.stage is Stage.RELEASED else latest_release(self.switch, self.now)
        moves, holding = 0, 0
        while self.stage is not Stage.RELEASED:
            moves += 1
            assert moves < 40, "never"
            if lands and self.stage in LATE:
                self.apply(Landed(self.waited_for))
                self.heard = self.now if self.heard is None else self.heard
            if length and self.stage in LATE:
                before = len(self.held)
                self.colleagues_say_that_she_was_reached(length, 1)
                holding += len(self.held) - before
            over = self.over()
            assert over is not None
            self.now = max(self.now, over + lateness)
            self.the_watch_ticks()
        assert holding <= 2, "one colleague alone held it more than twice"
        # Each move may come `lateness` after its time; two of a stage's moves are a note of a gap and the trying.
        assert last is not None
        # A hold adds its length, and what it came too late.
        assert self.now <= last + lateness * moves + holding * (length + lateness), "later than the latest"

    def nothing_takes_the_release_back(self) -> None:
        """S3."""
        for event in (Landed(self.waited_for), Renewed(self.era + 1), Restored(), Crowded()):
            assert not self.apply(event)
        for event in (
            Arm(),
            CheckIn(),
            Elapsed(),
            Tried(),
            Pause(1),
            Resume(),
            Destroy(),
            Replanned(self.plan),
            Held(1, 2),
            Waited(),
        ):
            assert not self.allowed(event, set())
        assert self.switch.stage is Stage.RELEASED

    def allowed(self, event: Event, stages: set[Stage]) -> bool:
        if self.stage in stages:
            return True
        before = self.switch
        with pytest.raises(Refused) as refusal:
            self.step(before, event, self.now, reachable=self.reachable)
        assert refusal.value.code == "not-possible-now"
        return False

    def owes_the_all_clear(self, said: Said) -> None:
        owed = [word for word in said if isinstance(word, Notice) and word.kind is Kind.ALL_CLEAR]
        if self.stage in LATE:
            assert [(word.audience, word.climb) for word in owed] == [(Audience.REACHED, self.climb)]
        else:
            assert not owed

    # What always holds.

    @invariant()
    def the_stage_is_the_one_that_truth_says(self) -> None:
        assert self.switch.stage is self.stage

    @invariant()
    def nothing_of_a_climb_that_is_over_is_still_to_be_sent(self) -> None:
        pending = {row.notice.kind for row in self.outbox if not row.accepted}
        assert self.stage in LATE or not pending & LADDER_LETTERS

    @invariant()
    def a_switch_survives_being_stored(self) -> None:
        assert read_switch(write_switch(self.switch)) == self.switch

    @invariant()
    def what_is_projected_is_never_later_than_the_latest(self) -> None:
        coming = projected(self.switch, self.now)
        assert (not coming) == (self.over() is None)
        times = [at for _, at in coming]
        assert [self.now, *times] == sorted([self.now, *times])
        if coming:
            assert coming[-1][0] is Stage.RELEASED
            latest = latest_release(self.switch, self.now)
            assert latest is not None
            assert latest >= times[-1]
            assert self.stage is Stage.PAUSED or times[-1] >= self.alive + self.plan.ladder()


CAREFUL = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_no_life_is_released_early_or_never_or_without_its_letters() -> None:
    run_state_machine_as_test(Life, settings=CAREFUL)


# Mutants: each is the honest step, or the honest watch, with one mistake in it.

Step = Callable[..., tuple[Switch, Said]]


def bent(switch: Switch, **fields: Any) -> Switch:  # Any: whatever a mistake would write there
    """A copy with other fields, past every check: a mistake would not have checked either."""
    other = copy.copy(switch)
    for name, value in fields.items():
        object.__setattr__(other, name, value)
    return other


def without(*kinds: Kind) -> Callable[[Said], Said]:
    return lambda said: tuple(w for w in said if not (isinstance(w, Notice) and w.kind in kinds))


def after(
    when: Callable[[Switch, Event, Switch], bool], mistake: Callable[[Switch, Switch, int], Switch]
) -> Step:
    def mutant(switch: Switch, event: Event, now: int, *, reachable: bool) -> tuple[Switch, Said]:
        honest, said = switches.step(switch, event, now, reachable=reachable)
        return (mistake(switch, honest, now) if when(switch, event, honest) else honest), said

    return mutant


def instead(
    when: Callable[[Switch, Event], bool], mistake: Callable[[Switch, Event, int], tuple[Switch, Said]]
) -> Step:
    def mutant(switch: Switch, event: Event, now: int, *, reachable: bool) -> tuple[Switch, Said]:
        if when(switch, event):
            return mistake(switch, event, now)
        return switches.step(switch, event, now, reachable=reachable)

    return mutant


def saying(change: Callable[[Said], Said]) -> Step:
    def mutant(switch: Switch, event: Event, now: int, *, reachable: bool) -> tuple[Switch, Said]:
        honest, said = switches.step(switch, event, now, reachable=reachable)
        return honest, change(said)

    return mutant


def believing(always: bool) -> Step:
    return lambda switch, event, now, *, reachable: switches.step(switch, event, now, reachable=always)


def step(switch: Switch, event: Event, now: int) -> tuple[Switch, Said]:
    return switches.step(switch, event, now, reachable=True)


def refusing(switch: Switch, event: Event, now: int) -> tuple[Switch, Said]:
    raise Refused("Too late.", code="not-possible-now")


def is_event(*kinds: type) -> Callable[..., bool]:
    return lambda switch, event, *_: isinstance(event, kinds)


def armed(switch: Switch, now: int) -> Switch:
    return bent(switch, stage=Stage.ARMED, entered=now, due=now + switch.plan.every, trying=False, pause=None)


def hushed(said: Said) -> Said:
    return tuple(
        Withdraw(word.kinds - {Kind.ALL_CLEAR}) if isinstance(word, Withdraw) else word for word in said
    )


STEP_MUTANTS: dict[str, Step] = {
    "a stage reckoned from when the last should have ended": after(
        lambda b, e, a: isinstance(e, Elapsed) and a.stage in LATE,
        lambda b, a, now: bent(a, due=(b.due or 0) + (a.due or 0) - a.entered, trying=False),
    ),
    "grace reckoned from the last check-in": after(
        lambda b, e, a: isinstance(e, Elapsed) and a.stage is Stage.GRACE,
        lambda b, a, now: bent(a, due=min(now, a.due or 0), trying=False),
    ),
    "a late check-in accepted after release": instead(
        lambda s, e: s.stage is Stage.RELEASED and isinstance(e, CheckIn),
        lambda s, e, now: (armed(s, now), ()),
    ),
    "a restore that takes a release back": instead(
        lambda s, e: s.stage is Stage.RELEASED and isinstance(e, Restored),
        lambda s, e, now: (armed(s, now), ()),
    ),
    "time skips a stage": instead(
        lambda s, e: s.stage is Stage.REMINDED and isinstance(e, Elapsed) and not s.trying,
        lambda s, e, now: step(bent(s, stage=Stage.WARNED), e, now),
    ),
    "every acceptance counts": after(
        lambda b, e, a: isinstance(e, Landed) and b.stage in LATE and e.letter == b.letter,
        lambda b, a, now: bent(a, due=now + (switches.dwell(a) or 0)),
    ),
    "any letter counts as this stage's": instead(
        is_event(Landed), lambda s, e, now: step(s, Landed(s.letter), now)
    ),
    "fresh beginnings without end": instead(
        lambda s, e: isinstance(e, Renewed) and s.stage in LATE and s.renewals == 2,
        lambda s, e, now: step(bent(s, renewals=1), e, now),
    ),
    "a fresh beginning without its letter": instead(
        lambda s, e: isinstance(e, Renewed) and s.stage in LATE, lambda s, e, now: (step(s, e, now)[0], ())
    ),
    "one gap counted twice": instead(
        lambda s, e: isinstance(e, Renewed) and s.stage in LATE,
        lambda s, e, now: step(bent(s, era=-1), e, now),
    ),
    "no fresh beginning after a gap": instead(
        lambda s, e: isinstance(e, Renewed) and s.stage in LATE,
        lambda s, e, now: (bent(s, era=e.era), ()) if isinstance(e, Renewed) else (s, ()),
    ),
    "a letter not waited for": instead(
        is_event(Elapsed), lambda s, e, now: step(bent(s, trying=False), e, now)
    ),
    "a millisecond early": instead(
        lambda s, e: isinstance(e, Elapsed) and s.due is not None,
        lambda s, e, now: step(bent(s, due=(s.due or 0) - 1), e, now),
    ),
    "due not looked at": instead(
        lambda s, e: isinstance(e, Elapsed) and s.due is not None,
        lambda s, e, now: step(bent(s, due=s.entered), e, now),
    ),
    "a check-in that gives no new time": instead(
        lambda s, e: isinstance(e, CheckIn) and s.stage is Stage.ARMED, lambda s, e, now: (s, ())
    ),
    "a check-in refused in grace": instead(
        lambda s, e: isinstance(e, CheckIn) and s.stage is Stage.GRACE, refusing
    ),
    "a check-in that ends a pause": instead(
        lambda s, e: isinstance(e, CheckIn) and s.stage is Stage.PAUSED,
        lambda s, e, now: step(s, Resume(), now),
    ),
    "a shorter plan that is over at once": after(
        lambda b, e, a: isinstance(e, Replanned) and a.stage is Stage.ARMED and a.plan.every < b.plan.every,
        lambda b, a, now: bent(a, due=now),
    ),
    "a plan that changes in the middle of the warnings": instead(
        lambda s, e: isinstance(e, Replanned) and s.stage in LATE,
        lambda s, e, now: (bent(s, plan=e.plan), ()) if isinstance(e, Replanned) else (s, ()),
    ),
    "a pause that ends in a reminder": instead(
        lambda s, e: isinstance(e, Elapsed) and s.stage is Stage.PAUSED,
        lambda s, e, now: step(bent(s, stage=Stage.ARMED, pause=None), e, now),
    ),
    "grace as short as the warning": after(
        lambda b, e, a: a.stage is Stage.GRACE and isinstance(e, Landed) and a is not b,
        lambda b, a, now: bent(a, due=now + a.plan.warn),
    ),
    "trying that gives no dwell": after(is_event(Tried), lambda b, a, now: bent(a, due=now)),
    "a restore that throws a hold away": after(
        lambda b, e, a: isinstance(e, Restored) and b.held is not None and a.stage is Stage.ARMED,
        lambda b, a, now: bent(a, due=now + a.plan.every),
    ),
    "a restore that goes on climbing": instead(is_event(Restored), lambda s, e, now: (s, ())),
    "a hold that is not counted": after(is_event(Held), lambda b, a, now: bent(a, holds=b.holds)),
    "a third hold by one": instead(
        lambda s, e: isinstance(e, Held) and s.holds >= 2, lambda s, e, now: step(bent(s, holds=1), e, now)
    ),
    "a hold upon a hold": instead(is_event(Held), lambda s, e, now: step(bent(s, held=None), e, now)),
    "a hold that takes the rest of the stage away": after(
        is_event(Held), lambda b, a, now: bent(a, due=a.held)
    ),
    "a hold when nothing is late": instead(
        lambda s, e: isinstance(e, Held) and s.stage is Stage.ARMED, lambda s, e, now: (s, ())
    ),
    "a letter that lands in a hold ends it": after(
        lambda b, e, a: isinstance(e, Landed) and b is not a and b.held is not None,
        lambda b, a, now: bent(a, held=None, due=now + (switches.dwell(a) or 0)),
    ),
    "a gap that ends a hold": after(
        lambda b, e, a: isinstance(e, Renewed) and b.renewals < a.renewals,
        lambda b, a, now: bent(a, held=None, due=now + (switches.dwell(a) or 0)),
    ),
    "holds that are still counted in the next climb": after(
        lambda b, e, a: isinstance(e, Elapsed) and a.stage is Stage.REMINDED and a.ladder > 1,
        lambda b, a, now: bent(a, holds=2),
    ),
    "one of a crowd waits again and again": after(
        is_event(Waited), lambda b, a, now: bent(a, crowd=Crowd.YES)
    ),
    "one of a crowd does not wait": instead(is_event(Crowded), lambda s, e, now: (s, ())),
    "a crowd that is not over with the check-in": after(
        lambda b, e, a: isinstance(e, Elapsed) and a.stage is Stage.REMINDED and a.ladder > 1,
        lambda b, a, now: bent(a, crowd=Crowd.YES),
    ),
    "she is always waited for": believing(True),
    "she is never waited for": believing(False),
    "no all-clear": saying(without(Kind.ALL_CLEAR)),
    "colleagues not asked": saying(without(Kind.REACH_HER)),
    "colleagues not asked again": saying(without(Kind.REACH_HER_AGAIN)),
    "nobody told that she could not be reached": saying(without(Kind.UNREACHED)),
    "a release that nobody is told of": saying(without(Kind.RELEASE)),
    "an end of a pause that nobody is told of": saying(without(Kind.PAUSE_ENDED)),
    "nothing withdrawn": saying(lambda said: tuple(w for w in said if isinstance(w, Notice))),
    "an all-clear that overtakes an alarm": saying(hushed),
}


def only_if(keep: Callable[[Switch, Event], bool]) -> Callable[[Switch, int, int], Event | None]:
    def mutant(switch: Switch, now: int, era: int) -> Event | None:
        event = switches.next_event(switch, now, era)
        return event if event is not None and keep(switch, event) else None

    return mutant


WATCH_MUTANTS: dict[str, Callable[[Switch, int, int], Event | None]] = {
    "trying for ever": only_if(lambda s, e: not isinstance(e, Tried)),
    "grace for ever": only_if(lambda s, e: not (s.stage is Stage.GRACE and isinstance(e, Elapsed))),
    "a crowd waits for ever": only_if(lambda s, e: not isinstance(e, Waited)),
    "a pause for ever": only_if(lambda s, e: s.stage is not Stage.PAUSED),
    "gaps overlooked": lambda s, now, era: switches.next_event(s, now, s.era),
    "one tick too late": lambda s, now, era: switches.next_event(s, now - 1, era),
    "one tick too early": lambda s, now, era: switches.next_event(s, now + 1, era),
}

# Ends at the first life that shows the mistake; which one that is depends on what else is imported.
QUICK = settings(
    CAREFUL,
    max_examples=5_000,
    phases=[Phase.generate],
    derandomize=True,
    report_multiple_bugs=False,
    print_blob=False,
)


@pytest.fixture
def no_guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the switch's own check of itself: the lives must find the mistake, not the guard."""
    with monkeypatch.context() as patch:
        patch.setattr(Switch, "__post_init__", lambda self: None)
        patch.setattr(Life, "a_switch_survives_being_stored", lambda self: None)
        yield


@pytest.mark.parametrize("name", STEP_MUTANTS)
@pytest.mark.usefixtures("no_guard")
def test_a_step_with_this_mistake_does_not_live(name: str) -> None:
    class Mutant(Life):
        step = staticmethod(STEP_MUTANTS[name])  # type: ignore[assignment]  # that is the point

    with pytest.raises((AssertionError, Refused, pytest.fail.Exception)):
        run_state_machine_as_test(Mutant, settings=QUICK)


@pytest.mark.parametrize("name", WATCH_MUTANTS)
def test_a_watch_with_this_mistake_does_not_live(name: str) -> None:
    class Mutant(Life):
        next_event = staticmethod(WATCH_MUTANTS[name])  # type: ignore[assignment]  # that is the point

    with pytest.raises((AssertionError, NotDue)):
        run_state_machine_as_test(Mutant, settings=QUICK)


def test_the_lives_reach_every_stage() -> None:
    """A suite whose lives all end young would let mutants live."""
    seen: set[Stage] = set()

    class Seeing(Life):
        def apply(self, event: Event) -> Said:
            said = super().apply(event)
            seen.add(self.switch.stage)
            return said

    run_state_machine_as_test(Seeing, settings=settings(QUICK, max_examples=1_000))
    assert seen >= set(Stage) - {Stage.NEW}
