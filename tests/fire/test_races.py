"""A check-in against the release, at the same moment, from two processes (T10, S3, S5).

Rule of this room: one of them wins, she is told which, and both happen often enough for the race to be one.
"""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fire import tally
from tests.fire.together import beside
from tests.world import TICK, World, an_armed_dossier, until
from vault import notices, switch, watch, wire
from vault.errors import AfterwordError
from vault.plans import Plan
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Dossier as Row
from vault.storage.sqlite import SqliteDatabase
from vault.switch import CheckIn, Stage

RACES = tally.size(1_000, 10_000)
MUTANT_RACES = 4_000
PLAN = Plan(40 * TICK, 20 * TICK, 20 * TICK, 30 * TICK)
RELEASED = ("release", "released-her")


@dataclass(frozen=True)
class Answer:
    """What she was told, and what stood in the database when she had heard it."""

    told: str
    acknowledged: bool
    stage: str
    released: bool
    letters: int


class Race:
    """One dossier at the very end of grace, set back after every race; her computer is another process."""

    def __init__(self, world: World) -> None:
        world.short = True
        self.world = world
        self.made = an_armed_dossier(world, PLAN)
        until(self.made, Stage.GRACE)
        with world.database.transaction():
            world.database.run("DELETE FROM outbox WHERE state = 'waiting'")
            due = world.records.switch(self.made.id).switch.due
            assert due is not None
            world.database.run("UPDATE service SET served = :due, lived = :due", due=due)
        self.start = world.database.all("SELECT * FROM switches")[0]
        world.close()
        self.head_start = 0.0
        self.chance = random.Random(5)
        # The whole pair is forked with nothing open, and reopened here afterwards.
        self.child, self.pipe = beside(self._her_computer)
        world.reopen()

    def close(self) -> None:
        self.pipe.close()
        self.child.join(30)

    def _her_computer(self, pipe: Any) -> None:  # Any: a connection of multiprocessing
        world = self.world
        database = SqliteDatabase(world.folder / "afterword.db")
        records = Records(database, world.clock, TICK)
        dossier = self.made.id
        while True:
            request, at = pipe.recv()
            _spin_until(at)
            try:
                acknowledgement, refused = watch.check_in(records, world.custodian, request)
            except AfterwordError as wrong:
                told, acknowledged = wrong.code, False
            else:
                told = refused[0].sentence if refused else "armed again"
                acknowledged = bool(acknowledgement)
            with records.reading():
                rows = database.all(
                    "SELECT s.stage, r.dossier AS released, (SELECT COUNT(*) FROM outbox o WHERE o.dossier = s.dossier "
                    "AND o.kind = 'release') AS letters FROM switches s LEFT JOIN releases r ON r.dossier = s.dossier "
                    "WHERE s.dossier = :d",
                    d=dossier,
                )
            stage, released, letters = rows[0]["stage"], rows[0]["released"] is not None, rows[0]["letters"]
            pipe.send(Answer(told, acknowledged, str(stage), released, int(str(letters))))

    def run(self) -> tuple[Answer, Exception | None]:
        """One race: her check-in and the watch's tick, the later of the two a little behind."""
        request = self._set_back()
        # Both spin until the same instant of the machine's clock, which every process reads alike.
        at = time.monotonic() + 0.0005
        jitter = self.head_start + self.chance.uniform(-0.0004, 0.0004)
        self.pipe.send((request, at + max(0.0, jitter)))
        _spin_until(at + max(0.0, -jitter))
        trouble = None
        try:
            ticked = self.world.watch.tick()
            assert not ticked.standing, "the loser of a race is no switch that stands still"
        except AssertionError:
            raise
        except Exception as wrong:
            trouble = wrong
        answer = self.pipe.recv()
        assert isinstance(answer, Answer), answer
        # On any machine, under any load: whoever won is given a worse start next time.
        self.head_start += 0.00005 if answer.stage == "armed" else -0.00005
        self.head_start = min(max(self.head_start, -0.05), 0.05)
        return answer, trouble

    def _set_back(self) -> wire.CheckInRequest:
        database = self.world.database
        with database.transaction():
            names = [name for name in self.start if name not in ("dossier", "version")]
            database.run(
                f"UPDATE switches SET {', '.join(f'{n} = :{n}' for n in names)} WHERE dossier = :d",  # noqa: S608
                d=self.made.id,
                **{name: self.start[name] for name in names},
            )
            database.run("DELETE FROM releases")
            database.run("DELETE FROM outbox")
            # Ten thousand check-ins of one person within a second of the server's would be refused as too many.
            database.run("DELETE FROM history")
            database.run("UPDATE accounts SET number = 0, history = :first", first="0" * 64)
        self.before = self._newest()
        return self.made.hers.checkin_request()

    def _newest(self) -> int:
        return self.made.hers.account.number

    def check(self, answer: Answer) -> bool:
        """Whether the check-in won. AssertionError: both, neither, or she was told something else."""
        records = self.world.records
        stage = self.made.stage
        release = records.release(self.made.id)
        kinds = [
            str(row["kind"])
            for row in self.world.database.all(
                "SELECT kind FROM outbox WHERE dossier = :d AND state = 'waiting'", d=self.made.id
            )
        ]
        entries = [
            json.loads(str(row["entry"]))
            for row in self.world.database.all(
                "SELECT entry FROM history WHERE account = :a AND number > :n ORDER BY number",
                a=self.made.hers.account.id,
                n=self.before,
            )
        ]
        moves = [(each["before"], each["after"]) for each in entries if each["what"] == "moved"]
        accepted = [each for each in entries if each["what"] == "checkin"]
        # A check-in that could move nothing is a proof of life all the same, and is acknowledged as one.
        assert answer.acknowledged
        assert len(accepted) == 1
        assert stage in (Stage.ARMED, Stage.RELEASED)
        assert (release is not None) == (stage is Stage.RELEASED)
        # What stood there when she had her answer is what stands there when all is over.
        assert answer.stage == stage.value
        assert answer.released == (stage is Stage.RELEASED)
        assert moves == [("grace", stage.value)]
        if stage is Stage.ARMED:
            assert answer.told == "armed again"
            assert not set(kinds) & set(RELEASED)
            assert answer.letters == 0
            standing = records.switch(self.made.id).switch
            service = records.service()
            assert service is not None
            assert standing.due is not None
            assert standing.due >= service.served + PLAN.every
        else:
            assert "released" in answer.told
            assert sorted(kinds) == ["release"] * 3 + ["released-her"]
            assert answer.letters == 3
        return stage is Stage.ARMED


def _spin_until(at: float) -> None:
    while time.monotonic() < at:
        pass


@contextmanager
def a_race() -> Iterator[Race]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    world = World(folder)
    race = Race(world)
    try:
        yield race
    finally:
        race.close()
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_of_a_check_in_and_the_release_one_wins_and_she_is_told_which() -> None:
    won = 0
    with a_race() as race:
        for _ in range(RACES):
            answer, trouble = race.run()
            assert trouble is None
            try:
                won += race.check(answer)
            except AssertionError:
                tally.wrong("lost check-ins" if race.made.stage is Stage.RELEASED else "early")
                raise
        tally.count("check-in/release races", RACES)
    # Whoever wins is given a worse start, so a race that is one comes out even.
    assert RACES / 5 < won < RACES * 4 / 5, f"the check-in won {won} of {RACES}"


# mistakes


def seen_before_the_lock(self: watch.Watch, names: list[str], done: watch.Ticked) -> None:
    """Check, then act: it releases what was in grace when it looked."""
    with self._records.reading() as now:
        found = [(each, self._records.switch(each).switch) for each in names]
        due = [(each, was) for each, was in found if switch.next_event(was, now.served, now.era)]
    with self._records.transaction() as now:
        for each, was in due:
            row = self._records.dossier(each)
            assert row is not None
            after, said = switch.step(was, switch.Elapsed(), now.served, reachable=False)
            self._records.save_switch(self._records.switch(each), after, now.wall)
            notices.post(self._records, self._custodian, now, row, after, said)
            if after.stage is Stage.RELEASED:
                watch.release.let_go(self._records, self._custodian, now, row)
            watch.ledger.note(
                self._records,
                now,
                row.journalist,
                "moved",
                dossier=each,
                before=was.stage.value,
                after=after.stage.value,
            )


def check_then_act(plant: pytest.MonkeyPatch) -> None:
    plant.setattr(watch.Watch, "_move", seen_before_the_lock)


def late_check_in_accepted(plant: pytest.MonkeyPatch) -> None:
    plant.setitem(switch.MOVES, Stage.RELEASED, {CheckIn: Stage.ARMED})  # type: ignore[arg-type]


def release_split_over_two_transactions(plant: pytest.MonkeyPatch) -> None:
    let_go, move = watch.release.let_go, watch.Watch._move
    put_off: list[Row] = []

    def later(records: Records, custodian: object, now: Moment, row: Row) -> None:
        put_off.append(row)

    def move_and_then(self: watch.Watch, names: list[str], done: watch.Ticked) -> None:
        move(self, names, done)
        while put_off:
            row = put_off.pop()
            # A busy machine: something else runs in between.
            _spin_until(time.monotonic() + 0.002)
            with self._records.transaction() as now:
                let_go(self._records, self._custodian, now, row)

    plant.setattr(watch.release, "let_go", later)
    plant.setattr(watch.Watch, "_move", move_and_then)


MISTAKES: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("check-then-act", check_then_act),
    ("a late check-in accepted after release", late_check_in_accepted),
    ("release split over two transactions", release_split_over_two_transactions),
]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[name.replace(" ", "-") for name, _ in MISTAKES])
def test_a_planted_mistake_loses_a_race(
    monkeypatch: pytest.MonkeyPatch, name: str, mistake: Callable[[pytest.MonkeyPatch], None]
) -> None:
    # Before the fork, so that both processes make it.
    mistake(monkeypatch)
    with a_race() as race:
        for number in range(MUTANT_RACES):
            try:
                answer, trouble = race.run()
                assert trouble is None
                race.check(answer)
            except AssertionError:
                print(f"{name}: caught by race {number}")
                tally.killed(name, "test_races: a check-in against the release")
                return
    pytest.fail(f"{MUTANT_RACES} races, and nobody noticed: {name}")
