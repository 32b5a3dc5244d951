"""An older state of the server comes back, and people who remember more meet it. Part of tests/fire/lives.py.

Rule of this room: what somebody's computer holds is true, whatever the server says; what nobody holds may be lost.
"""

import copy
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.fire.truth import ENDS, Truth, Witness, must
from tests.world import TICK, Snapshot
from vault import accounts, backups, release, statements, testimony, wire
from vault.errors import AfterwordError
from vault.statements import Acknowledgement
from vault.switch import LATE, Stage


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


class Setbacks(Witness):
    """What a machine of lives can do about the past."""

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
        by_operator=st.booleans(), first=st.integers(0, 5), saw=st.integers(0, 3), strides=st.integers(0, 4)
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
        by_operator=st.booleans(), first=st.integers(0, 5), saw=st.integers(0, 2), strides=st.integers(0, 4)
    )
    def set_back_behind_a_release(self, by_operator: bool, first: int, saw: int, strides: int) -> None:
        self.she_is_gone(110)
        self.set_back(by_operator, first, saw, strides)

    def _show_releases(self, saw: int) -> None:
        for dossier, truth in self.truth.items():
            readers = self.readers[dossier]
            if truth.release is None or saw >= len(readers):
                continue
            reader = readers[saw]
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
        self.lost_releases = {
            dossier
            for dossier, truth in self.truth.items()
            if truth.release is not None and old.truth[dossier].release is None
        }
        by, gaps = self.real - old.real, self.gaps - 1 - old.gaps
        self.truth = {dossier: truth.moved_on(by, gaps) for dossier, truth in old.truth.items()}
        self.asked = {key: (at + by, seen + gaps) for key, (at, seen) in old.asked.items()}
        self.corrections, self.address_gone = dict(old.corrections), old.address_gone
        self.lost = [each for each in (*self.captured, *self.lost) if each not in old.captured]
        self.captured = list(old.captured)
        self.owed = set(self.people)
        self.life, self.came_back_in = "", self.sql("SELECT life FROM service")[0][0]
        self.anew = {row[0] for row in self.sql("SELECT dossier FROM switches, service WHERE anew = life")}
        if by_operator:
            backups.begin_anew(world.records, world.custodian, os.urandom(16).hex())
            must(self.sql("SELECT life FROM service")[0][0] != life, "S8", "a restore begins a new life")
            self.anew = set()
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
            if truth.begun == self.sql("SELECT life FROM service")[0][0]:
                # What was lost was lost before, and who comes late stops no alarm by it.
                must(stages[dossier] is truth.stage, "liveness", f"{truth.stage} was begun anew for nothing")
                continue
            must(stages[dossier] is Stage.ARMED, "S1", f"nothing was given again to one in {stages[dossier]}")
            self.is_given_again(truth)
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
            self._all_are_owed()
        # From here on what was captured of this person is old again.
        self.captured += [each for each in self.lost if each.who == name and each.numbered]
        self.lost = [each for each in self.lost if each.who != name]

    def _all_are_owed(self) -> None:
        """A life began, since something was lost of the one before."""
        self.anew = set()
        for truth in self.truth.values():
            # Of these switches too a check-in may be missing.
            truth.owed = truth.stage is Stage.ARMED or truth.stage in LATE
        # Any of them may have been cancelled in what was lost.
        self.asked = dict.fromkeys(self.asked, (self.real, self.gaps))

    def _recall(self, dossier: str) -> None:
        """Colleagues who saw a release show it to a server that may have forgotten it."""
        reader, seen = self.shown[dossier]
        self._meet(reader.name)
        self.look()
        truth, before, life = self.truth[dossier], self.rows()[dossier], self.life
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
            self._is_proved_by(dossier, life)
            fits = (signed.epoch, signed.roster) == (row.epoch, row.roster)
            must(
                not fits or before.stage is Stage.DESTROYED, "S3", "a release that somebody saw was forgotten"
            )
            return
        after = self.rows()[dossier]
        must(after.stage is Stage.RELEASED, "S3", "a release that somebody saw was forgotten")
        if before.release is None:
            self._is_proved_by(dossier, life)
            self.met["recalled"] += 1
            must(after.release == seen.release.encode(), "S3", "a release was signed anew")
        truth.stage, truth.release, truth.held, truth.signed = Stage.RELEASED, after.release, [], set()
        truth.owed = False

    def _is_proved_by(self, dossier: str, life: str) -> None:
        """It was released in what was lost: whose check-ins are lost besides nobody knows, if nobody knew of it yet."""
        now = self.sql("SELECT life FROM service")[0][0]
        must(
            now != life or life != self.came_back_in or dossier not in self.lost_releases,
            "S8",
            "the life goes on in which a release was forgotten",
        )
        if now != life:
            self.met["proved by a release"] += 1
            self._all_are_owed()
