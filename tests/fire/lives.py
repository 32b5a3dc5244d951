"""Whole lives on the real engine over real SQLite: one journalist, two switches, and everything that can go wrong
around them. tests/fire/truth.py judges.

Rule of this room: a rule does something that may happen in the world, and tells the truth what people know of it.
"""

import copy
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

import msgspec
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.fire.cast import Cast
from tests.fire.truth import ENDS, SLACK, Hold, Truth, Witness, must
from tests.world import TICK, Host, Person, Snapshot
from vault import (
    accounts,
    backups,
    crowds,
    dossiers,
    orders,
    outbox,
    release,
    statements,
    testimony,
    wire,
)
from vault.clock import HOUR
from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.errors import AfterwordError, Conflict
from vault.service import Moment
from vault.statements import Acknowledgement, Dwells
from vault.storage.records import Records
from vault.storage.records.rows import Letter
from vault.switch import LATE, Stage


class Stop(Exception):
    """The process dies here."""


@dataclass(frozen=True)
class Captured:
    """A request that was taken: whoever listened may send it again. `numbered`: it carries a `seq`."""

    who: str
    send: Callable[[], object]
    numbered: bool


@dataclass(frozen=True)
class Copy:
    """The files of the database as they were, and what was true then."""

    files: Snapshot
    truth: dict[str, Truth]
    asked: dict[str, tuple[float, int]]
    corrections: dict[str, wire.Corrections]
    captured: list[Captured]
    address_gone: bool
    real: float
    gaps: int


class Life(Witness, RuleBasedStateMachine):
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
        self.people = {each.name: each for each in (self.cast.hers, *self.cast.first.readers)}
        self.kept: dict[str, bytes] = {}  # the last acknowledgement that each person's computer holds
        self.owed: set[str] = set()  # who has not spoken since the server was set back
        self.lost: list[Captured] = []
        self.anew: set[str] = set()
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

    # set back

    def _copy(self) -> Copy:
        return Copy(
            self.world.snapshot(), copy.deepcopy(self.truth), dict(self.asked), dict(self.corrections),
            list(self.captured), self.address_gone, self.real, self.gaps,
        )  # fmt: skip

    @rule(strides=st.sampled_from([0, 20, 35, 55, 75]))
    def copy_the_database(self, strides: int) -> None:
        self.live(strides)
        self.copy = self._copy()

    @rule(
        by_operator=st.booleans(), first=st.integers(0, 3), saw=st.integers(0, 3), strides=st.integers(0, 4)
    )
    def set_back(self, by_operator: bool, first: int, saw: int, strides: int) -> None:
        """An older state comes back. Somebody who remembers more speaks first; the others as they come."""
        self.met["set back"] += 1
        self._show_releases(saw)
        self._put_back(by_operator)
        for _ in range(strides):
            self._stride(2 * TICK)
        self._meet([*self.people][first])
        for dossier in sorted(self.shown):
            self._recall(dossier)
        self.look()

    @precondition(lambda self: not any(truth.release for truth in self.copy.truth.values()))
    @rule(
        by_operator=st.booleans(), first=st.integers(0, 3), saw=st.integers(0, 2), strides=st.integers(0, 4)
    )
    def set_back_behind_a_release(self, by_operator: bool, first: int, saw: int, strides: int) -> None:
        self.she_is_gone(110)
        self.set_back(by_operator, first, saw, strides)

    def _show_releases(self, saw: int) -> None:
        for dossier, truth in self.truth.items():
            if truth.release is None or saw >= len(self.cast.first.readers):
                continue
            reader = self.cast.first.readers[saw]
            with suppress(AfterwordError):
                seen = release.show(self.world.records, self.world.custodian, reader.account, dossier)
                must(seen.release.encode() == truth.release, "S3", "another release is shown than was signed")
                self.shown[dossier] = (reader, seen)

    def _put_back(self, by_operator: bool) -> None:
        old, world = self.copy, self.world
        life, reachable = self.life, world.reachable
        world.rewind(Snapshot(old.files.database, copy.copy(world.clock), old.files.objects))  # type: ignore[arg-type]  # as it runs
        world.reachable = reachable
        self._wire_up()
        self._second_watch_too()
        self.gaps += 1
        by, gaps = self.real - old.real, self.gaps - 1 - old.gaps
        self.truth = {dossier: truth.moved_on(by, gaps) for dossier, truth in old.truth.items()}
        self.asked = {key: (at + by, seen + gaps) for key, (at, seen) in old.asked.items()}
        self.corrections, self.address_gone = dict(old.corrections), old.address_gone
        self.lost = [each for each in (*self.captured, *self.lost) if each not in old.captured]
        self.captured = list(old.captured)
        self.owed = set(self.people)
        self.anew, self.life = set(), ""
        if by_operator:
            backups.begin_anew(world.records, world.custodian, os.urandom(16).hex())
            must(self.sql("SELECT life FROM service")[0][0] != life, "S8", "a restore begins a new life")
            self._all_time_again(list(self.truth))
            self.asked = dict.fromkeys(self.asked, (self.real, self.gaps))
        self.look()

    def _forgot(self, name: str) -> bool:
        """Whether what this person's computer holds is not in the chain any more."""
        if name not in self.kept:
            return False
        kept = self._read(self.kept[name])
        links = self.sql(
            "SELECT h.hash FROM history h JOIN accounts a ON a.id = h.account WHERE a.card_hash = ? AND h.number = ?",
            kept.account,
            kept.number,
        )
        return kept.number > 0 and links != [(kept.history,)]

    def _read(self, signed: bytes) -> Acknowledgement:
        return statements.read(signed, self.world.custodian.card.verify_key, Acknowledgement)

    def _all_time_again(self, concerned: list[str]) -> None:
        stages = self.stages()
        for dossier in concerned:
            truth = self.truth[dossier]
            if dossier in self.anew or stages[dossier] in (*ENDS, Stage.PAUSED):
                continue
            must(stages[dossier] is Stage.ARMED, "S1", f"nothing was given again to one in {stages[dossier]}")
            self.begins_anew(truth)
            self.anew.add(dossier)

    def _meet(self, name: str) -> None:
        """This person's computer signs in, as before any command but a check-in, and shows what it holds."""
        if name not in self.owed:
            return
        self.look()
        # Asked only now: a server that was set back may have come to the very same links again.
        lost, life, stages = self._forgot(name), self.life, self.stages()
        self.owed.remove(name)
        person = self.people[name]
        login = statements.Login(self.world.custodian.hash, person.card.verify_key.hex, person.nonce(), 1)
        shown = self.kept.get(name)
        request = wire.SessionRequest(person.sign(login), None if shown is None else shown.decode())
        grant = accounts.sign_in(self.world.records, self.world.custodian, request)
        self.kept[name] = (grant.head or "").encode()
        if not lost:
            must(self.stages() == stages, "S3", "a login moved something")
            return
        self._noticed(name, shown or b"", life)
        mine = {row[0] for row in self.sql(
            "SELECT id FROM dossiers WHERE journalist = ? UNION SELECT dossier FROM collaborators WHERE account = ?",
            person.account.id, person.account.id,
        )}  # fmt: skip
        self._all_time_again(sorted(mine & set(self.truth)))
        self.look()

    def _noticed(self, name: str, shown: bytes, life: str) -> None:
        """A promise was forgotten, and it showed."""
        self.met["noticed"] += 1
        account, kept = self.people[name].account, self._read(shown)
        must(account.seq >= kept.seq, "S8", "the higher number was not taken over")
        must(bool(account.marked), "S4", "a loss was not noticed")
        now = self.sql("SELECT life FROM service")[0][0]
        must(now != kept.life, "S8", "the life goes on in which something was forgotten")
        if now != life:
            self.anew = set()
        # From here on what was captured of this person is old again.
        self.captured += [each for each in self.lost if each.who == name and each.numbered]
        self.lost = [each for each in self.lost if each.who != name]

    def _recall(self, dossier: str) -> None:
        """Colleagues who saw a release show it to a server that may have forgotten it."""
        reader, seen = self.shown[dossier]
        self._meet(reader.name)
        self.look()
        truth, before = self.truth[dossier], self.rows()[dossier]
        row = self.world.records.dossier(dossier)
        assert row is not None
        signed = statements.read(
            seen.release.encode(), self.world.custodian.card.verify_key, statements.Release
        )
        try:
            testimony.recall(
                self.world.records,
                self.world.custodian,
                reader.account,
                dossier,
                wire.SeenRelease(seen.release, seen.checkin),
            )
        except AfterwordError:
            fits = (signed.epoch, signed.roster) == (row.epoch, row.roster)
            must(
                not fits or before.stage is Stage.DESTROYED, "S3", "a release that somebody saw was forgotten"
            )
            return
        after = self.rows()[dossier]
        must(after.stage is Stage.RELEASED, "S3", "a release that somebody saw was forgotten")
        if before.release is None:
            self.met["recalled"] += 1
            must(after.release == seen.release.encode(), "S3", "a release was signed anew")
        truth.stage, truth.release, truth.held, truth.signed = Stage.RELEASED, after.release, [], set()

    # what she does

    def _send(self, name: str, do: Callable[[], Any], *, signed: bool = True, numbered: bool = True) -> Any:
        """A request; whatever was taken may be sent again by somebody else, at any time.

        What is not signed lives and dies with its session: who sends it again must hold the token, and may ask anew
        (docs/decisions/removing-an-address.md).
        """
        try:
            answer = do()
        except AfterwordError:
            return None
        if signed:
            self.captured.append(Captured(name, do, numbered))
            self.kept[name] = answer[0] if isinstance(answer, tuple) else answer
        return answer

    def _next(self, name: str) -> int:
        """One above the highest that her computer knows or the server reports."""
        kept = self._read(self.kept[name]).seq if name in self.kept else 0
        return max(self.people[name].account.seq, kept) + 1

    @rule()
    def check_in(self) -> None:
        hers = self.cast.hers
        self.look()
        before, life = self.stages(), self.life
        shown = self.kept.get(hers.name)
        lost = hers.name in self.owed and self._forgot(hers.name)
        self.owed.discard(hers.name)
        request = hers.checkin_request(self._next(hers.name), None if shown is None else shown.decode())
        answer = self._send(hers.name, lambda: hers.check_in(request))
        must(answer is not None, "S4", "a check-in was refused")
        told = {each.dossier for each in answer[1]}
        must(
            told == {dossier for dossier, stage in before.items() if stage in ENDS}, "T10", "she was not told"
        )
        if lost:
            self._noticed(hers.name, shown or b"", life)
        stages = self.stages()
        for dossier, truth in self.truth.items():
            if dossier not in told:
                must(stages[dossier] in (Stage.ARMED, Stage.PAUSED), "S4", "a check-in moved nothing")
                self.begins_anew(truth)
                if lost:
                    self.anew.add(dossier)
        self.look()

    @rule(ms=st.sampled_from([TICK, 2 * TICK]), strides=st.sampled_from([0, 0, 35, 70]))
    def check_in_between_two_ticks(self, ms: int, strides: int) -> None:
        """Nobody has looked at the clock for a while when it comes."""
        self.world.clock.at += ms
        if self.other is not None:
            self.other.clock.at += ms
        if self.world.reachable:
            self.real += ms
        self.check_in()
        # The next tick comes soon: what a stamp forgot is caught up with at once.
        self._stride(TICK)
        self.live(strides)

    @rule()
    def check_in_while_the_watch_looks(self) -> None:
        """Between the list of what is due and the moves."""
        late = self.world.watch._late

        def then_she_checks_in(now: Moment) -> Iterator[list[str]]:
            found = list(late(now))
            self.check_in()
            return iter(found)

        keeper = self.world.watch
        keeper._late = then_she_checks_in  # type: ignore[method-assign]
        try:
            self._stride(2 * TICK)
        finally:
            del keeper._late  # type: ignore[method-assign]

    @rule(strides=st.integers(30, 110))
    def fall_silent_and_come_back(self, strides: int) -> None:
        self.live(strides)
        self.check_in()

    def _submit(self, name: str, dossier: str, statement: statements.Statement) -> str | None:
        person = self.people[name]
        submission = wire.Submission(person.sign(statement))

        def send() -> tuple[bytes, str | None]:
            return orders.submit(
                self.world.records, self.world.custodian, person.account, dossier, submission, short=True
            )

        answer = self._send(name, send)
        return None if answer is None else answer[1] or ""

    def _order(self, dossier: str, kind: type[statements.Statement], **fields: object) -> str | None:
        """The hash of what has to cool; None if it was refused."""
        hers = self.cast.hers
        self._meet(hers.name)
        if kind in (statements.Pause, statements.Resume):
            fields["nonce"] = hers.nonce()
        server, seq = self.world.custodian.hash, self._next(hers.name)
        return self._submit(
            hers.name, dossier, kind(server=server, dossier=dossier, seq=seq, created=1, **fields)
        )

    @rule(which=st.booleans(), who=st.sampled_from([0, 0, 1, 2]))
    def a_colleague_says_that_she_was_reached(self, which: bool, who: int) -> None:
        dossier = self._pick(which)
        reader = self.cast.first.readers[who]
        self._meet(reader.name)
        self.look()
        truth = self.truth[dossier]
        before = self.world.records.switch(dossier).switch
        given = statements.Hold(
            server=self.world.custodian.hash,
            dossier=dossier,
            seq=self._next(reader.name),
            nonce=reader.nonce(),
            climb=max(1, before.ladder),
            because="reached",
            created=1,
        )
        answer = self._submit(reader.name, dossier, given)
        after = self.world.records.switch(dossier).switch
        if after.holds == before.holds:
            assert after == before
            if answer is not None:
                assert len(truth.held) >= 2, "one signature is enough twice"
                truth.signed.add(who)
            return
        assert answer is not None
        must(truth.stage in LATE, "liveness", "a hold of what does not run")
        must(not truth.held or self.real >= truth.held[-1].ended - SLACK, "liveness", "a hold upon a hold")
        must(
            len(truth.held) < 2 or bool(truth.signed - {who}),
            "liveness",
            "one colleague alone held it thrice",
        )
        truth.held.append(Hold(self.real, self.real + truth.plan.ladder(), self.gaps))
        truth.signed = set()

    @rule(which=st.booleans(), length=st.sampled_from([20 * TICK, 73 * HOUR]))
    def pause(self, which: bool, length: int) -> None:
        dossier = self._pick(which)
        truth = self.truth[dossier]
        change = self._order(dossier, statements.Pause, length=length)
        truth = self.truth[dossier]
        if self._take_up(f"{dossier}:pause", change):
            truth.paused_for = length
        elif self.world.stage(dossier) is Stage.PAUSED and truth.stage is not Stage.PAUSED:
            must(length <= 72 * HOUR, "S13", "a long pause did not cool")
            truth.paused_for = 0
            self.came_alive(truth)
        self.look()

    @rule(which=st.booleans())
    def resume(self, which: bool) -> None:
        self._order(self._pick(which), statements.Resume)
        self.look()

    @rule(which=st.booleans(), dwells=st.tuples(*[st.sampled_from([20, 30, 45, 60])] * 4))
    def plan(self, which: bool, dwells: tuple[int, ...]) -> None:
        dossier = self._pick(which)
        lengths = [each * TICK for each in dwells]
        self._take_up(f"{dossier}:plan", self._order(dossier, statements.PlanChange, plan=Dwells(*lengths)))
        self.look()

    @rule(which=st.booleans())
    def destroy(self, which: bool) -> None:
        dossier = self._pick(which)
        self._take_up(f"{dossier}:destroy", self._order(dossier, statements.Destroy))
        self.look()

    @rule()
    def remove_an_address(self) -> None:
        hers = self.cast.hers
        self._meet(hers.name)
        address = self.cast.extra_address
        if self.world.records.address(address) is None or "hers:address" in self.asked:
            return
        removed = self._send(
            hers.name,
            lambda: accounts.remove_address(self.world.records, self.world.custodian, hers.account, address),
            signed=False,
        )
        if removed is not None:
            self._take_up("hers:address", removed.change)
        self.look()

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 10))
    def cancel(self, pick: int) -> None:
        self._meet(self.cast.hers.name)
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
        hers = self.cast.hers
        self._meet(hers.name)
        made = self.cast.second if which else self.cast.first
        if self.world.stage(made.id) in ENDS:
            return
        people = [*self.cast.first.readers, self.cast.spare][-size:]
        change, corrections, _ = made.next_roster(people, 2)
        answer = self._send(
            hers.name,
            lambda: dossiers.change_roster(
                self.world.records, self.world.custodian, hers.account, made.id, change
            ),
            numbered=False,
        )
        if answer is not None and self._take_up(f"{made.id}:roster", answer[1]):
            self.corrections[made.id] = corrections

    @rule(which=st.booleans(), well=st.booleans())
    def hand_over_corrections(self, which: bool, well: bool) -> None:
        dossier, hers = self._pick(which), self.cast.hers
        if well and dossier not in self.corrections:
            self.another_roster(which, 3)
        if well and dossier in self.corrections:
            for _ in range(2):
                self.check_in()
                self.live(14)
        self._meet(hers.name)
        row = self.world.records.dossier(dossier)
        assert row is not None
        corrections = self.corrections.get(dossier)
        if corrections is None:
            return
        answer = self._send(
            hers.name,
            lambda: dossiers.correct_roster(
                self.world.records, self.world.custodian, hers.account, dossier, row.epoch + 1, corrections
            ),
            numbered=False,
        )
        after = self.world.records.dossier(dossier)
        assert after is not None
        assert (answer is None) == (after.epoch == row.epoch)
        assert (after.release_share != row.release_share) == (after.epoch != row.epoch), (
            "R changes with its roster"
        )
        if answer is not None:
            self.met["new roster"] += 1
            self.effective(f"{dossier}:roster")
            del self.corrections[dossier], self.asked[f"{dossier}:roster"]

    def _take_up(self, key: str, change: str | None) -> bool:
        if not change:
            return False
        self.asked[key] = (self.real, self.gaps)
        about = key.split(":")[0]
        running = [dossier for dossier, stage in self.stages().items() if stage not in ENDS]
        concerned = {self.cast.hers.account.id} | {
            each.account
            for dossier in (running if about == "hers" else [about])
            for each in self.world.records.collaborators(dossier)
        }
        told = self.sql("SELECT account FROM outbox WHERE kind = 'change-asked' AND letter = ?", change)
        must({row[0] for row in told} == concerned, "S13", "somebody was not told")
        return True

    @precondition(lambda self: self.captured)
    @rule(pick=st.integers(0, 1_000))
    def somebody_replays_a_request(self, pick: int) -> None:
        before = self.everything()
        with suppress(AfterwordError):
            self.captured[pick % len(self.captured)].send()
        must(self.everything() == before, "S7", "a request that was sent again changed something")

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
            self.world.skip(HOUR)
        must(False, "liveness", "somebody was never told of a release")

    def _moves_form_a_chain(self) -> None:
        """S9, S5: each move happened once, one after the other."""
        last: dict[str, str] = {}
        for each in self.world.records.history(self.cast.hers.account.id, 0, 10_000):
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
