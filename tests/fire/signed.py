"""What she and her colleagues sign and send, and what whoever listened sends again. Part of tests/fire/lives.py.

Rule of this room: what is refused changes nothing, and what is taken is told to the truth at once.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.fire.setbacks import Captured, Setbacks
from tests.fire.truth import ENDS, SLACK, Hold, must
from tests.world import TICK, Person
from vault import accounts, dossiers, orders, statements, wire
from vault.clock import HOUR
from vault.errors import AfterwordError
from vault.service import Moment
from vault.statements import Dwells
from vault.switch import LATE, Stage


class Signed(Setbacks):
    """What people can do in a machine of lives."""

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
        self._check_in(self.cast.hers, self.of_hers)

    @rule()
    def a_neighbour_checks_in(self) -> None:
        self._check_in(self.cast.neighbour, [self.cast.his.id])

    def _check_in(self, hers: Person, about: list[str]) -> None:
        self.look()
        before, life = self.stages(), self.life
        shown = self.kept.get(hers.name)
        lost = hers.name in self.owed and self._forgot(hers.name)
        self.owed.discard(hers.name)
        request = hers.checkin_request(self._next(hers.name), None if shown is None else shown.decode())
        answer = self._send(hers.name, lambda: hers.check_in(request))
        must(answer is not None, "S4", "a check-in was refused")
        told = {each.dossier for each in answer[1]}
        must(told == {dossier for dossier in about if before[dossier] in ENDS}, "T10", "she was not told")
        if lost:
            self._noticed(hers.name, shown or b"", life)
        stages = self.stages()
        for dossier in about:
            if dossier not in told:
                must(stages[dossier] in (Stage.ARMED, Stage.PAUSED), "S4", "a check-in moved nothing")
                self.begins_anew(self.truth[dossier])
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

    @rule(which=st.booleans(), by_operator=st.booleans(), strides=st.integers(30, 60))
    def set_back_in_a_hold(self, which: bool, by_operator: bool, strides: int) -> None:
        """What was lost has nothing to do with her; it is held all the same."""
        self.live(strides)
        self.a_colleague_says_that_she_was_reached(which, 0)
        self.copy_the_database(0)
        self.a_neighbour_checks_in()
        self.set_back(by_operator, [*self.people].index(self.cast.neighbour.name), 3, 0)
        self.live(35)

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
        stages = self.stages()
        running = [dossier for dossier in self.of_hers if stages[dossier] not in ENDS]
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
