"""Whole lives on the real engine over real SQLite, against a truth that the test keeps for itself.

The test knows when a correct client could have checked in, when letters were accepted and what was acknowledged; it
never believes `served`, `due` or `entered`. S1 to S13 are the invariants of the threat model.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.world import TICK, Dossier, Host, Person, Snapshot, World, an_armed_dossier
from vault import accounts, crowds, dossiers, orders, outbox, statements, wire
from vault.clock import HOUR
from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.errors import AfterwordError
from vault.plans import Plan
from vault.service import Moment
from vault.statements import Dwells
from vault.storage.records.rows import Letter
from vault.switch import LATE, Stage

PLAN = Plan(60 * TICK, 30 * TICK, 30 * TICK, 40 * TICK)
COOLING = 50 * TICK
SLACK = 14 * TICK
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Stop(Exception):
    """The process dies here."""


@dataclass
class Cast:
    """One server with two armed dossiers of one journalist, to which every life rewinds."""

    world: World
    first: Dossier
    second: Dossier
    start: Snapshot
    spare: Person
    extra_address: str

    @property
    def hers(self) -> Person:
        return self.first.hers


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    world = World(folder, short=True)
    first = an_armed_dossier(world, PLAN, cooling=COOLING)
    hers = first.hers
    hers.confirm("ana@elsewhere.example")
    second = hers.create(first.readers, 2, PLAN, COOLING)
    second.push()
    second.prove()
    second.arm()
    spare = hers.colleague("spare")
    spare.confirm("spare@example.org")
    hers.check_in()
    row = world.records.addresses_of(hers.account.id)
    made = Cast(world, first, second, world.snapshot(), spare, row[-1].id)
    yield made
    world.close()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Truth:
    """What really happened to one dossier. Times in served time as the test counts it."""

    stage: Stage = Stage.ARMED
    alive: float = 0.0
    gaps_alive: int = 0
    entered: float = 0.0
    gaps_entered: int = 0
    landed: float | None = None
    least: list[int] = field(default_factory=list)
    plan: Plan = PLAN
    release: bytes | None = None
    paused_for: int = 0
    held: list[tuple[float, float]] = field(default_factory=list)
    signed: set[int] = field(default_factory=set)  # who waits for a second signature

    def held_since(self, start: float, now: float) -> float:
        """How much of the time from `start` to `now` was held."""
        return sum(max(0.0, min(now, ended) - max(start, begun)) for begun, ended in self.held)


class Life(RuleBasedStateMachine):
    """One journalist, two switches, one or two watches, and everything that can go wrong around them."""

    cast: ClassVar[Cast]

    @initialize(alone=st.booleans())
    def begin(self, alone: bool) -> None:
        # In every other life two are a crowd.
        crowds.FEW = 5 if alone else 0  # type: ignore[misc]  # restored by the test
        self.alone = alone
        self.world = self.cast.world
        self.world.rewind(self.cast.start)
        self.world.courier.answer = self._carry
        self.world.heard = self._heard
        self.mode: Outcome | None = Accepted()
        self.other: Host | None = None
        self.real = 0.0
        self.gaps = 0
        self.boots = 0
        self.truth = {
            each.id: Truth(least=list(PLAN.dwells())) for each in (self.cast.first, self.cast.second)
        }
        self.captured: list[Callable[[], object]] = []
        self.asked: dict[str, tuple[float, int]] = {}
        self.corrections: dict[str, wire.Corrections] = {}
        self.rosters: dict[str, tuple[list[Person], int]] = {}
        self.seen = self._counters()
        self.address_gone = False

    # what the test knows

    def _carry(self, parcel: Parcel) -> Outcome:
        return self.mode or TemporaryFailure("tarpit")

    def _heard(self, letter: Letter, accepted: bool) -> None:
        if not accepted or letter.dossier not in self.truth or letter.account != self.cast.hers.account.id:
            return
        self._look()
        truth = self.truth[letter.dossier]
        wanted = {"check-in": Stage.REMINDED, "last-warning": Stage.WARNED, "last-call": Stage.GRACE}
        if wanted.get(letter.kind) is truth.stage and truth.landed is None:
            truth.landed = self.real

    def _counters(self) -> tuple[int, ...]:
        row = self.world.records.service()
        assert row is not None
        dossiers_ = [self.world.records.dossier(each) for each in sorted(self.truth)]
        account = self.cast.hers.account
        return (
            row.served,
            row.lived,
            account.seq,
            account.number,
            *(each.epoch for each in dossiers_ if each),
        )

    def _look(self) -> None:
        """Compare where the switches stand with what may have happened since the last look."""
        now = self._counters()
        assert all(new >= old for new, old in zip(now, self.seen, strict=True)), "S8"
        self.seen = now
        for dossier, truth in self.truth.items():
            stage = self.world.stage(dossier)
            held = self.world.records.release(dossier)
            assert (held is not None) == (stage is Stage.RELEASED), (
                "S6: release and stage are one transaction"
            )
            if truth.release is not None:
                assert stage is Stage.RELEASED, "S3"
                assert held is not None
                assert held.envelope == truth.release, "S3"
            if stage is truth.stage:
                continue
            if stage in LATE or stage is Stage.RELEASED:
                self._elapsed(dossier, truth, stage)
            elif stage is Stage.DESTROYED:
                self._effective(f"{dossier}:destroy")
            elif stage is Stage.PAUSED and truth.paused_for > 72 * HOUR:
                self._effective(f"{dossier}:pause")
            elif stage is Stage.ARMED and truth.stage is Stage.PAUSED:
                self._alive(truth)
            if stage is Stage.RELEASED:
                assert held is not None
                truth.release = held.envelope
                assert self.real - truth.alive >= sum(truth.least) - SLACK * (
                    self.gaps - truth.gaps_alive + 1
                ) + truth.held_since(truth.alive, self.real), "S1"
            if stage not in LATE:
                truth.held, truth.signed = [], set()
            truth.stage, truth.entered, truth.landed = stage, self.real, None
            truth.gaps_entered = self.gaps
        self._look_at_plans()
        if not self.address_gone and self.world.records.address(self.cast.extra_address) is None:
            self.address_gone = True
            if any(stage_of in (*LATE, Stage.ARMED, Stage.PAUSED) for stage_of in self._stages()):
                self._effective("hers:address")
            assert not any(stage_of in LATE for stage_of in self._stages()), (
                "S13: she is not known to be well"
            )

    def _stages(self) -> list[Stage]:
        return [self.world.stage(each) for each in self.truth]

    def _elapsed(self, dossier: str, truth: Truth, stage: Stage) -> None:
        before = {Stage.REMINDED: Stage.ARMED, Stage.WARNED: Stage.REMINDED, Stage.GRACE: Stage.WARNED}
        assert truth.stage is before.get(stage, Stage.GRACE), f"S2: {truth.stage} went to {stage}"
        if truth.stage in LATE:
            place = {Stage.REMINDED: 1, Stage.WARNED: 2, Stage.GRACE: 3}[truth.stage]
            dwell = truth.plan.dwells()[place]
            tried = truth.entered + dwell
            start = tried if truth.landed is None else min(tried, truth.landed)
            slack = SLACK * (self.gaps - truth.gaps_entered + 1)
            held = truth.held_since(start, self.real)
            assert self.real - start - held >= dwell - slack, "S2"
            if stage is Stage.RELEASED and not self.alone:
                assert self.real - start - held >= 2 * dwell - slack, "one of a crowd did not wait"

    def _effective(self, key: str) -> None:
        assert key in self.asked, f"S13: {key} was never asked for"
        at, gaps = self.asked[key]
        assert self.real - at >= COOLING - SLACK * (self.gaps - gaps + 1), f"S13: {key}"

    def _alive(self, truth: Truth) -> None:
        truth.alive, truth.gaps_alive = self.real, self.gaps
        truth.least = list(truth.plan.dwells())

    def _send(self, do: Callable[[], Any], signed: bool = True) -> Any:
        """A request of hers; whatever was taken may be sent again by somebody else, at any time.

        What is not signed lives and dies with its session: who sends it again must hold the token, and may ask anew
        (docs/decisions/removing-an-address.md).
        """
        try:
            answer = do()
        except AfterwordError:
            return None
        if signed:
            self.captured.append(do)
        return answer

    # time

    def _stride(self, ms: int) -> None:
        host_before = self._boot()
        self.world.clock.at += ms
        if self.world.reachable:
            self.real += ms
        if self.other is not None:
            self.other.beat(ms)
            self._look()
        self.world.beat()
        if self._boot() != host_before:
            self.gaps += 1
        self._look()

    def _boot(self) -> str:
        row = self.world.records.service()
        assert row is not None
        return row.boot

    @rule(strides=st.integers(1, 20))
    def live(self, strides: int) -> None:
        for _ in range(strides):
            self._stride(2 * TICK)

    @rule(ticks=st.sampled_from([3, 10, 100, 2_000]))
    def stall(self, ticks: int) -> None:
        """The machine is suspended: nobody could have checked in."""
        self.gaps += 1
        self.world.clock.at += ticks * TICK
        if self.other is not None:
            self.other.clock.at += ticks * TICK
        self.world.beat()
        self._look()

    @rule(strides=st.integers(1, 30))
    def outage(self, strides: int) -> None:
        self.world.reachable = False
        self.gaps += 1
        for _ in range(strides):
            self._stride(2 * TICK)
        self.world.reachable = True

    @rule(by=st.sampled_from([-(10**11), -3_600_000, 86_400_000, 10**12]))
    def wall_clock_jumps(self, by: int) -> None:
        self.world.clock.wall_off = max(0, self.world.clock.wall_off + by)

    @rule(again=st.booleans())
    def crash(self, again: bool) -> None:
        self.gaps += 1
        if again:
            self.boots += 1
            self.world.reboot(f"boot-{self.boots}")
        else:
            self.world.reopen()
        if self.other is not None:
            self.other = Host(self.world)
        self.world.beat()
        self._look()

    @rule()
    def a_second_watch(self) -> None:
        self.other = Host(self.world) if self.other is None else None

    # letters

    @rule(how=st.sampled_from(["accepted", "tarpit", "refused"]))
    def mail(self, how: str) -> None:
        self.mode = {"accepted": Accepted(), "tarpit": None, "refused": PermanentFailure("no")}[how]

    @rule()
    def the_deliverer_dies_after_the_mail_server_said_yes(self) -> None:
        """The letter has arrived and nobody knows."""
        for letter in outbox.claim(self.world.records, 3):
            with suppress(Stop):
                outbox.deliver(
                    self.world.records,
                    self.world.custodian,
                    self.world.courier,
                    self.world.sender,
                    letter,
                    self._die,
                    0.5,
                )

    @staticmethod
    def _die(now: Moment, letter: Letter) -> None:
        raise Stop

    # what she does

    @rule()
    def check_in(self) -> None:
        hers = self.cast.hers
        before = {dossier: self.world.stage(dossier) for dossier in self.truth}
        request = hers.checkin_request()
        answer = self._send(lambda: hers.check_in(request))
        assert answer is not None, "S4"
        _, refused = answer
        told = {each.dossier for each in refused}
        assert told == {d for d, stage in before.items() if stage in (Stage.RELEASED, Stage.DESTROYED)}, "T10"
        for dossier, truth in self.truth.items():
            if dossier not in told:
                assert self.world.stage(dossier) in (Stage.ARMED, Stage.PAUSED), "S4"
                self._alive(truth)
        self._look()

    def _order(self, dossier: str, kind: type[statements.Statement], **fields: object) -> str | None:
        hers = self.cast.hers
        common: dict[str, object] = {
            "server": self.world.custodian.hash,
            "dossier": dossier,
            "seq": hers.account.seq + 1,
            "created": 1,
        }
        if kind in (statements.Pause, statements.Resume):
            common["nonce"] = hers.nonce()
        submission = wire.Submission(hers.sign(kind(**common, **fields)))

        def send() -> tuple[bytes, str | None]:
            return orders.submit(
                self.world.records, self.world.custodian, hers.account, dossier, submission, short=True
            )

        answer = self._send(send)
        return None if answer is None else answer[1]

    @rule(which=st.booleans(), who=st.sampled_from([0, 0, 1, 2]))
    def a_colleague_says_that_she_was_reached(self, which: bool, who: int) -> None:
        dossier = self._pick(which)
        self._look()
        truth, reader = self.truth[dossier], self.cast.first.readers[who]
        before = self.world.records.switch(dossier).switch
        submission = wire.Submission(
            reader.sign(
                statements.Hold(
                    server=self.world.custodian.hash,
                    dossier=dossier,
                    seq=reader.account.seq + 1,
                    nonce=reader.nonce(),
                    climb=max(1, before.ladder),
                    because="reached",
                    created=1,
                )
            )
        )

        def send() -> tuple[bytes, str | None]:
            return orders.submit(
                self.world.records, self.world.custodian, reader.account, dossier, submission, short=True
            )

        answer = self._send(send)
        after = self.world.records.switch(dossier).switch
        if after.holds == before.holds:
            assert after == before
            if answer is not None:
                assert len(truth.held) >= 2, "one signature is enough twice"
                truth.signed.add(who)
            return
        assert answer is not None
        assert truth.stage in LATE
        assert not truth.held or self.real >= truth.held[-1][1] - SLACK, "a hold upon a hold"
        assert len(truth.held) < 2 or truth.signed - {who}, "one colleague alone held it more than twice"
        truth.held.append((self.real, self.real + truth.plan.ladder()))
        truth.signed = set()

    @rule(which=st.booleans(), length=st.sampled_from([20 * TICK, 73 * HOUR]))
    def pause(self, which: bool, length: int) -> None:
        dossier = self._pick(which)
        if self._take_up(f"{dossier}:pause", self._order(dossier, statements.Pause, length=length)):
            self.truth[dossier].paused_for = length
        elif self.world.stage(dossier) is Stage.PAUSED and self.truth[dossier].stage is not Stage.PAUSED:
            assert length <= 72 * HOUR, "S13"
            self.truth[dossier].paused_for = 0
            self._alive(self.truth[dossier])
        self._look()

    @rule(which=st.booleans())
    def resume(self, which: bool) -> None:
        self._order(self._pick(which), statements.Resume)
        self._look()

    @rule(which=st.booleans(), dwells=st.tuples(*[st.sampled_from([20, 30, 45, 60])] * 4))
    def plan(self, which: bool, dwells: tuple[int, ...]) -> None:
        dossier = self._pick(which)
        lengths = [each * TICK for each in dwells]
        self._take_up(f"{dossier}:plan", self._order(dossier, statements.PlanChange, plan=Dwells(*lengths)))
        self._look()

    @rule(which=st.booleans())
    def destroy(self, which: bool) -> None:
        dossier = self._pick(which)
        self._take_up(f"{dossier}:destroy", self._order(dossier, statements.Destroy))
        self._look()

    @rule()
    def remove_an_address(self) -> None:
        hers = self.cast.hers
        address = self.cast.extra_address
        if self.world.records.address(address) is None or "hers:address" in self.asked:
            return
        removed = self._send(
            lambda: accounts.remove_address(self.world.records, self.world.custodian, hers.account, address),
            signed=False,
        )
        if removed is not None:
            self._take_up("hers:address", removed.change)
        self._look()

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 10))
    def cancel(self, pick: int) -> None:
        key = sorted(self.asked)[pick % len(self.asked)]
        dossier, kind = key.split(":")
        changes = self.world.records.changes_of_account(self.cast.hers.account.id)
        change = next(
            (each for each in changes if each.kind == kind and dossier in (each.dossier, "hers")), None
        )
        dossier = self.cast.first.id if dossier == "hers" else dossier
        if change is not None:
            self._order(dossier, statements.Cancel, change=change.hash)
            assert self.world.records.change(change.hash) is None
            del self.asked[key]

    @rule(which=st.booleans(), size=st.sampled_from([2, 3]))
    def another_roster(self, which: bool, size: int) -> None:
        made = self.cast.second if which else self.cast.first
        if self.world.stage(made.id) in (Stage.RELEASED, Stage.DESTROYED):
            return
        people = [*self.cast.first.readers, self.cast.spare][-size:]
        change, corrections, _ = made.next_roster(people, 2)
        hers = self.cast.hers
        answer = self._send(
            lambda: dossiers.change_roster(
                self.world.records, self.world.custodian, hers.account, made.id, change
            )
        )
        if answer is not None and self._take_up(f"{made.id}:roster", answer[1]):
            self.corrections[made.id] = corrections

    @rule(strides=st.integers(30, 110))
    def fall_silent_and_come_back(self, strides: int) -> None:
        self.live(strides)
        self.check_in()

    @rule(which=st.booleans(), well=st.booleans())
    def hand_over_corrections(self, which: bool, well: bool) -> None:
        dossier = self._pick(which)
        if well and dossier in self.corrections:
            for _ in range(2):
                self.check_in()
                self.live(14)
        row = self.world.records.dossier(dossier)
        assert row is not None
        corrections = self.corrections.get(dossier)
        if corrections is None:
            return
        hers = self.cast.hers
        answer = self._send(
            lambda: dossiers.correct_roster(
                self.world.records, self.world.custodian, hers.account, dossier, row.epoch + 1, corrections
            )
        )
        after = self.world.records.dossier(dossier)
        assert after is not None
        assert (answer is None) == (after.epoch == row.epoch)
        assert (after.release_share != row.release_share) == (after.epoch != row.epoch), (
            "R changes with its roster"
        )
        if answer is not None:
            self._effective(f"{dossier}:roster")
            del self.corrections[dossier], self.asked[f"{dossier}:roster"]

    @precondition(lambda self: self.captured)
    @rule(pick=st.integers(0, 1_000))
    def somebody_replays_a_request(self, pick: int) -> None:
        before = self._everything()
        with suppress(AfterwordError):
            self.captured[pick % len(self.captured)]()
        assert self._everything() == before, "S7"

    def teardown(self) -> None:
        """Silence, from here on, on a healthy server: everything armed is released, and nobody is forgotten."""
        if not hasattr(self, "truth") or self.gaps % 3:
            return
        self.world.reachable, self.mode, self.other = True, Accepted(), None
        longest = 2 * (60 + 3 * 60 * 3) + 60
        paused = [each for each in self.truth if self.world.stage(each) is Stage.PAUSED]
        for _ in range(longest):
            self._stride(2 * TICK)
            # One colleague alone does not block it for long.
            self.a_colleague_says_that_she_was_reached(False, 0)
            if all(
                self.world.stage(each) in (Stage.RELEASED, Stage.DESTROYED, Stage.PAUSED)
                for each in self.truth
            ):
                break
        for dossier in self.truth:
            stage = self.world.stage(dossier)
            assert stage in (Stage.RELEASED, Stage.DESTROYED) or dossier in paused or stage is Stage.PAUSED, (
                "liveness"
            )
            if stage is Stage.RELEASED:
                for _ in range(3):
                    self._stride(2 * TICK)
                told = {
                    letter["account"]
                    for letter in self.world.database.all(
                        "SELECT account FROM outbox WHERE dossier = :d AND kind = 'release' AND state = 'accepted'",
                        d=dossier,
                    )
                }
                lines = self.world.records.collaborators(dossier)
                waiting = self.world.records.count_letters().get("waiting", 0)
                assert told == {each.account for each in lines} or waiting, "liveness: somebody was forgotten"
        self._moves_form_a_chain()

    def _moves_form_a_chain(self) -> None:
        """S9, S5: each move happened once, one after the other."""
        last = dict.fromkeys(self.truth, "armed")
        entries = self.world.records.history(self.cast.hers.account.id, 0, 10_000)
        begun = dict.fromkeys(self.truth, False)
        for each in entries:
            entry = msgspec.json.decode(each.entry)
            if entry["what"] == "moved":
                dossier = entry["dossier"]
                if begun[dossier]:
                    assert entry["before"] == last[dossier], "S9"
                begun[dossier], last[dossier] = True, entry["after"]

    def _take_up(self, key: str, change: str | None) -> bool:
        if change is None:
            return False
        self.asked[key] = (self.real, self.gaps)
        about = key.split(":")[0]
        running = [
            each for each in self.truth if self.world.stage(each) not in (Stage.RELEASED, Stage.DESTROYED)
        ]
        concerned = {self.cast.hers.account.id} | {
            each.account
            for dossier in (running if about == "hers" else [about])
            for each in self.world.records.collaborators(dossier)
        }
        told = {
            row["account"]
            for row in self.world.database.all(
                "SELECT account FROM outbox WHERE kind = 'change-asked' AND letter = :c", c=change
            )
        }
        assert told == concerned, "S13: told to all"
        return True

    def _look_at_plans(self) -> None:
        for dossier, truth in self.truth.items():
            plan = self.world.records.switch(dossier).switch.plan
            if plan == truth.plan:
                continue
            if plan.longer_than(truth.plan):
                self._effective(f"{dossier}:plan")
            truth.plan = plan
            truth.least = [min(one, two) for one, two in zip(truth.least, plan.dwells(), strict=True)]

    def _pick(self, which: bool) -> str:
        return self.cast.second.id if which else self.cast.first.id

    def _everything(self) -> dict[str, list[tuple[object, ...]]]:
        tables = (
            "accounts",
            "dossiers",
            "switches",
            "changes",
            "statements",
            "history",
            "outbox",
            "releases",
            "holds",
            "waves",
        )
        return {
            table: sorted(tuple(row.values()) for row in self.world.database.all(f"SELECT * FROM {table}"))  # noqa: S608
            for table in tables
        }


def test_no_life_breaks_an_invariant(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    Life.cast = cast
    monkeypatch.setattr(crowds, "FEW", crowds.FEW)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=int(os.environ.get("LIVES", "25")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
