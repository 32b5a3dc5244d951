"""Whole lives on the real engine over real SQLite: a journalist with two switches, another with one, and everything
that can go wrong around them. tests/fire/truth.py judges.

Rule of this room: a rule does something that may happen in the world, and tells the truth what people know of it.
"""

import sys
from collections import Counter
from contextlib import suppress
from typing import ClassVar
from unittest import mock

import msgspec
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.fire.cast import Cast
from tests.fire.setbacks import Captured
from tests.fire.signed import Signed
from tests.fire.truth import ENDS, must
from tests.world import TICK, Host, Person
from vault import crowds, outbox, wire
from vault.clock import HOUR
from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.errors import Conflict
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Letter
from vault.switch import LATE, Stage


class Stop(Exception):
    """The process dies here."""


class Life(Signed, RuleBasedStateMachine):
    """What happens to one server and its people."""

    cast: ClassVar[Cast]
    begun: ClassVar[int] = 0
    met: ClassVar[Counter[str]] = Counter()

    @initialize(alone=st.booleans(), silent=st.integers(0, 2))
    def begin(self, alone: bool, silent: int) -> None:
        type(self).begun += 1
        # In every other life two are a crowd.
        crowds.FEW = 5 if alone else 0  # type: ignore[misc]  # restored by whoever runs lives
        self.alone, self.silent = alone, silent == 0
        self.world = self.cast.world
        self.world.rewind(self.cast.start)
        self.mode: Outcome | None = Accepted()
        self.other: Host | None = None
        self.boots = 0
        self.captured: list[Captured] = []
        self.corrections: dict[str, wire.Corrections] = {}
        self.ids: dict[str, str] = {}
        cast = self.cast
        theirs = (cast.hers, *cast.first.readers, cast.neighbour, *cast.his.readers)
        self.people = {each.name: each for each in theirs}
        self.kept: dict[str, bytes] = {}  # the last acknowledgement that each person's computer holds
        self.owed: set[str] = set()  # who has not spoken since the server was set back
        self.lost: list[Captured] = []
        self.anew: set[str] = set()
        self.came_back_in = ""  # the life of the server as it came back, and what it had released and forgot
        self.lost_releases: set[str] = set()
        self.shown: dict[str, tuple[Person, wire.Released]] = {}
        self.begin_to_look()
        self._wire_up()
        self.copy = self._copy()

    def _wire_up(self) -> None:
        self.world.courier.answer = self._carry
        self.world.heard = self._heard

    def _carry(self, parcel: Parcel) -> Outcome:
        self.ids[parcel.to] = parcel.message_id
        return self.mode or TemporaryFailure("tarpit")

    def _heard(self, letter: Letter, accepted: bool) -> None:
        ids, self.ids = self.ids, {}
        self.arrived(letter, ids, accepted)

    def _pick(self, which: bool) -> str:
        return self.cast.second.id if which else self.cast.first.id

    # time

    def _stride(self, ms: int) -> None:
        boot = self._boot()
        self.world.clock.at += ms
        if self.world.reachable:
            self.real += ms
        if self.other is not None:
            self.other.beat(ms)
            self.look()
        self.world.beat()
        if self._boot() != boot:
            self.gaps += 1
        self.look()

    def _boot(self) -> object:
        return self.sql("SELECT boot FROM service")[0][0]

    @rule(strides=st.integers(1, 25))
    def live(self, strides: int) -> None:
        for _ in range(strides):
            self._stride(2 * TICK)

    @rule(strides=st.integers(40, 150))
    def she_is_gone(self, strides: int) -> None:
        """For good, or so it seems."""
        for _ in range(strides):
            self._stride(2 * TICK)
            if all(truth.stage in (*ENDS, Stage.PAUSED) for truth in self.truth.values()):
                return

    @rule(ticks=st.sampled_from([3, 10, 100, 2_000]))
    def stall(self, ticks: int) -> None:
        """The machine is suspended: nobody could have checked in."""
        self.gaps += 1
        self.world.clock.at += ticks * TICK
        if self.other is not None:
            self.other.clock.at += ticks * TICK
        self.world.beat()
        self.look()

    @rule(strides=st.integers(1, 30))
    def outage(self, strides: int) -> None:
        self.world.reachable = False
        self.gaps += 1
        for _ in range(strides):
            self._stride(2 * TICK)
        self.world.reachable = True
        for truth in self.truth.values():
            # What began while it lasted began within this gap.
            truth.gaps_entered = min(truth.gaps_entered, self.gaps - 1)
            truth.gaps_alive = min(truth.gaps_alive, self.gaps - 1)
            for hold in truth.held:
                hold.gaps = min(hold.gaps, self.gaps - 1)

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
        self._second_watch_too()
        self.world.beat()
        self.look()

    def _second_watch_too(self) -> None:
        if self.other is not None:
            clock, self.other = self.other.clock, Host(self.world)
            # Its process begins anew; its machine runs on.
            self.other.clock.at = clock.at

    @rule()
    def a_second_watch(self) -> None:
        self.other = Host(self.world) if self.other is None else None
        if self.other is not None:
            self.other.clock.at = max(self.other.clock.at, self.world.clock.at)

    @rule(strides=st.integers(1, 10))
    def the_disk_refuses_a_release(self, strides: int) -> None:
        def no_disk(*given: object) -> None:
            raise Conflict("The power went.", code="busy")

        with mock.patch.object(Records, "add_release", no_disk):
            self.live(strides)

    # letters

    @rule(how=st.sampled_from(["accepted", "tarpit", "refused"]))
    def mail(self, how: str) -> None:
        self.mode = {"accepted": Accepted(), "tarpit": None, "refused": PermanentFailure("no")}[how]

    @rule(strides=st.integers(1, 20))
    def the_deliverer_dies_before_it_said_a_word(self, strides: int) -> None:
        self.world.delivering = False
        self.live(strides)
        self.world.delivering = True
        outbox.claim(self.world.records, 20)

    @rule()
    def the_deliverer_dies_after_the_mail_server_said_yes(self) -> None:
        """The letter has arrived and nobody knows."""
        world = self.world
        for letter in outbox.claim(world.records, 3):
            with suppress(Stop):
                outbox.deliver(
                    world.records, world.custodian, world.courier, world.sender, letter, self._die, 0.5
                )
            ids, self.ids = self.ids, {}
            self.arrived(letter, ids, False)

    @staticmethod
    def _die(now: Moment, letter: Letter) -> None:
        raise Stop

    # the end

    def teardown(self) -> None:
        if not hasattr(self, "copy") or sys.exc_info()[0] is not None:
            return
        for truth in self.truth.values():
            self.met[f"left in {truth.stage}"] += 1
        if self.silent:
            self._silence()
        self._moves_form_a_chain()

    def _silence(self) -> None:
        """From here on, on a healthy server: everything armed is released, and nobody is forgotten."""
        self.world.reachable, self.mode, self.other = True, Accepted(), None
        # Armed, then three stages that are tried, lived, and begun anew twice; two holds, a crowd, a take-over.
        longest = (60 + 20 + 3 * 60 * 2 * 3 + 2 * 240 + 60 + 10) // 2
        tried = 0
        for _ in range(longest):
            self._stride(2 * TICK)
            first = self.truth[self.cast.first.id]
            if first.stage in LATE and tried < 4 and not (first.held and self.real < first.held[-1].ended):
                # One colleague alone does not block it for long.
                self.a_colleague_says_that_she_was_reached(False, 0)
                tried += 1
            if all(truth.stage in (*ENDS, Stage.PAUSED) for truth in self.truth.values()):
                break
        for dossier, truth in self.truth.items():
            must(
                truth.stage in (*ENDS, Stage.PAUSED),
                "liveness",
                f"silence, and it still stands in {truth.stage}",
            )
            if truth.stage is Stage.RELEASED:
                self._everybody_is_told(dossier)

    def _everybody_is_told(self, dossier: str) -> None:
        wanted = {(dossier, each.account) for each in self.world.records.collaborators(dossier)}
        for _ in range(30):
            if wanted <= self.told:
                return
            # A letter that was refused before is tried again when its back-off is over.
            self.real += HOUR
            self.world.skip(HOUR)
        must(False, "liveness", "somebody was never told of a release")

    def _moves_form_a_chain(self) -> None:
        """S9, S5: each move happened once, one after the other."""
        last: dict[str, str] = {}
        for journalist in (self.cast.hers, self.cast.neighbour):
            for each in self.world.records.history(journalist.account.id, 0, 10_000):
                entry = msgspec.json.decode(each.entry)
                if entry["what"] == "moved":
                    dossier = entry["dossier"]
                    must(last.get(dossier, entry["before"]) == entry["before"], "S9", "a move happened twice")
                    last[dossier] = entry["after"]


def run(cast: Cast, lives: int, steps: int, number: int, *, shrink: bool = True) -> int:
    """Live that many lives, the same ones for the same number; how many were begun."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]

    class These(Life):
        begun = 0

    These.cast = cast
    few = crowds.FEW
    try:
        run_state_machine_as_test(
            seed(number)(These),
            settings=settings(
                max_examples=lives,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=phases,
                report_multiple_bugs=False,
                print_blob=False,
                suppress_health_check=list(HealthCheck),
            ),
            # Or every third life would be over before it began.
            _min_steps=steps - 5,
        )
    finally:
        crowds.FEW = few  # type: ignore[misc]
    return These.begun
