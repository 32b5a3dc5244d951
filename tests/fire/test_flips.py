"""Bits flip and pages go missing in the database of a server at work: it goes on as if nothing had happened because
nothing that matters did, or it refuses, or one dossier stands still and somebody is told. Nothing is guessed.

Each damaged file lives the same hours as the sound one, and is held against it.
"""

import dataclasses
import logging
import random
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fire import tally
from tests.world import Dossier, Snapshot, World, an_armed_dossier
from vault import cooling, statements, views
from vault.clock import HOUR, MINUTE
from vault.errors import AfterwordError
from vault.storage.records import VITAL, switches
from vault.switch import Stage

AHEAD = [
    *(Stage.NEW, Stage.ARMED, Stage.PAUSED, Stage.REMINDED, Stage.WARNED, Stage.GRACE, Stage.RELEASED),
    Stage.DESTROYED,
]


@dataclass
class Life:
    """What was seen of one life: the stage of each dossier at each hour, the letters, and what was cried out."""

    stages: list[dict[str, str]] = field(default_factory=list)
    letters: set[tuple[str, str]] = field(default_factory=set)
    acknowledged: bool = False
    shouts: list[str] = field(default_factory=list)
    untyped: str = ""


class Ear(logging.Handler):
    def __init__(self, life: Life) -> None:
        super().__init__(logging.ERROR)
        self.life = life

    def emit(self, record: logging.LogRecord) -> None:
        self.life.shouts.append(record.getMessage())


@dataclass
class Scene:
    """Three dossiers: one armed whose destruction cools, one whose grace is nearly over, one released while there is no
    mail."""

    world: World
    made: list[Dossier]
    start: Snapshot
    left: int

    def live(self, database: bytes, check_in: bool) -> Life:
        life = Life()
        ear = Ear(life)
        logging.getLogger("afterword").addHandler(ear)
        try:
            self._live(life, database, check_in)
        except AfterwordError as refusal:
            life.shouts.append(f"{type(refusal).__name__}: {refusal}")
        except Exception as wrong:
            life.untyped = repr(wrong)
        finally:
            logging.getLogger("afterword").removeHandler(ear)
            self.world.database.close()
        return life

    def _live(self, life: Life, database: bytes, check_in: bool) -> None:
        world = self.world
        world.rewind(dataclasses.replace(self.start, database=database))
        # As a server does when it starts, and its watch at its first tick.
        world.database.settle()
        world.database.check(*VITAL)
        world.delivering = False
        if check_in:
            try:
                _, refused = self.made[1].hers.check_in()
                life.acknowledged = not refused
                life.shouts += [f"check-in: {each.code}" for each in refused]
            except (AfterwordError, AssertionError) as refusal:
                life.shouts.append(f"check-in: {refusal}")
        for hour in (0, self.left - 2 * MINUTE, 4 * MINUTE, HOUR):
            if hour:
                world.skip(hour)
            for _ in range(3):
                world.clock.at += 2 * world.tick
                world.records.note_probe(world.clock.boot())
                ticked = world.watch.tick()
                life.shouts += [f"{each} stands still" for each in ticked.standing]
                cooling.take_effect(world.records, world.custodian, world.place)
            life.stages.append({made.id: self._stage(life, made) for made in self.made})
        for _ in range(2):
            world.deliver()
        life.letters = {
            (row["dossier"], row["address"])
            for row in world.database.all(
                "SELECT dossier, address FROM outbox WHERE state = 'accepted' AND kind = 'release'"
            )
        }

    def _stage(self, life: Life, made: Dossier) -> str:
        try:
            stage = self.world.stage(made.id).value
            views.dossier(self.world.records, made.hers.account, made.id)
        except (AfterwordError, AssertionError) as refusal:
            life.shouts.append(f"{made.id}: {refusal}")
            return "does not read"
        return stage


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield a_scene(Path(folder))


def a_scene(folder: Path) -> Scene:
    world = World(folder)
    released = an_armed_dossier(world)
    world.skip(10 * HOUR)
    late = an_armed_dossier(world)
    while released.stage is not Stage.RELEASED:
        world.delivering = released.stage is not Stage.GRACE or late.stage is not Stage.GRACE
        world.skip(max(0, min(_left(released), _left(late))))
        world.pass_time(10 * world.tick)
    calm = _armed_in_silence(world)
    return Scene(world, [released, late, calm], world.snapshot(), _left(late))


def _armed_in_silence(world: World) -> Dossier:
    """With nobody's address confirmed: a code would need the mail that is down."""
    bea = world.journalist("bea")
    made = bea.create([bea.colleague(f"of bea {number}") for number in range(3)], 2, cooling=72 * HOUR)
    made.push()
    made.prove()
    made.arm(anyway=True)
    bea.order(made.id, statements.Destroy)
    return made


def _left(made: Dossier) -> int:
    """How long its stage still lasts, in ms of service time."""
    service, due = made.world.records.service(), made.world.records.switch(made.id).switch.due
    assert service is not None
    assert due is not None
    return due - service.served


def broken_promises(sound: Life, life: Life) -> Iterator[tuple[str, str]]:
    """(what was broken, how): held against the life that nothing had happened to."""
    for expected, seen in zip(sound.stages, life.stages, strict=False):
        for dossier, stage in seen.items():
            if stage == "does not read":
                continue
            if AHEAD.index(Stage(stage)) > AHEAD.index(Stage(expected[dossier])):
                yield "early", f"{stage} instead of {expected[dossier]}"
            if life.acknowledged and expected[dossier] == "armed" != stage:
                yield "lost check-ins", f"{stage} after a check-in"
            if stage != expected[dossier] and not life.shouts:
                yield "forgotten", f"{stage} instead of {expected[dossier]}, and nobody is told"
    if life.untyped:
        yield "forgotten", f"an untyped error: {life.untyped}"
    if not life.shouts and len(life.stages) == len(sound.stages):
        for letter in sound.letters - life.letters:
            yield "forgotten", f"the letter {letter}, and nobody is told"


def flips(sound: bytes, many: int, seed: int) -> Iterator[bytes]:
    """A bit, a byte, a few bytes, a sector; the file cut off, or two of its pages changed about."""
    chance = random.Random(seed)
    for _ in range(many):
        broken = bytearray(sound)
        at = chance.randrange(len(broken))
        match chance.randrange(8):
            case 0 | 1 | 2:
                broken[at] ^= 1 << chance.randrange(8)
            case 3:
                broken[at] = chance.randrange(256)
            case 4:
                broken[at : at + 8] = chance.randbytes(len(broken[at : at + 8]))
            case 5:
                sector = at - at % 512
                broken[sector : sector + 512] = chance.choice([bytes(512), chance.randbytes(512)])
            case 6:
                del broken[at:]
            case 7:
                one, other = (chance.randrange(len(broken) // 4096) * 4096 for _ in range(2))
                first, second = sound[one : one + 4096], sound[other : other + 4096]
                broken[one : one + 4096], broken[other : other + 4096] = second, first
        yield bytes(broken)


def vital_bits(scene: Scene) -> Iterator[bytes]:
    """One bit at a time of the numbers that decide when a switch moves or a change takes effect, wherever they lie in
    the file."""
    start = scene.start.database
    with sqlite3.connect(":memory:") as db:
        # In memory there is no log beside it.
        db.deserialize(start[:18] + b"\1\1" + start[20:])
        numbers = [
            row[0] for row in db.execute("SELECT served FROM service UNION ALL SELECT cooled FROM changes")
        ]
        for column in ("due", "entered", "grace"):
            numbers += [
                row[0]
                for row in db.execute(f"SELECT {column} FROM switches")  # noqa: S608
                if row[0]
            ]
    db.close()
    for number in numbers:
        needle = number.to_bytes(6 if number >= 1 << 31 else 4, "big")
        at = start.find(needle)
        while at >= 0:
            for bit in range(len(needle) * 8):
                broken = bytearray(start)
                broken[at + bit // 8] ^= 1 << bit % 8
                yield bytes(broken)
            at = start.find(needle, at + 1)


def lives(scene: Scene, damaged: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    sound = {check_in: scene.live(scene.start.database, check_in) for check_in in (False, True)}
    for life in sound.values():
        assert (life.shouts, life.untyped, len(life.stages)) == ([], "", 4)
    assert sound[True].acknowledged
    for number, database in enumerate(damaged):
        life = scene.live(database, number % 3 == 0)
        # A check-in that was refused has not happened.
        yield from broken_promises(sound[life.acknowledged], life)


def test_the_sound_life_is_worth_being_held_against(scene: Scene) -> None:
    released, late, calm = (each.id for each in scene.made)
    life = scene.live(scene.start.database, False)
    assert [seen[late] for seen in life.stages] == ["grace", "grace", "released", "released"]
    assert {seen[released] for seen in life.stages} == {"released"}
    assert {seen[calm] for seen in life.stages} == {"armed"}
    assert len(life.letters) == 6


def test_no_damage_releases_early_forgets_or_is_passed_over_in_silence(scene: Scene) -> None:
    many = tally.size(60, 2_000)
    broken = list(lives(scene, flips(scene.start.database, many, seed=3)))
    for what, _ in broken:
        tally.wrong(what)
    assert broken == []
    tally.count("damaged databases", many)


def test_no_single_bit_of_a_number_that_decides_moves_a_switch(scene: Scene) -> None:
    damaged = list(vital_bits(scene))
    chosen = damaged if tally.FULL else random.Random(4).sample(damaged, 60)
    broken = list(lives(scene, chosen))
    for what, _ in broken:
        tally.wrong(what)
    assert broken == []
    tally.count("damaged databases", len(chosen))


def test_a_server_that_believes_every_number_is_noticed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switches, "adds_up", lambda *given: True)
    assert any(what == "early" for what, _ in lives(scene, vital_bits(scene)))
    tally.killed("damaged numbers believed", by="test_flips")
