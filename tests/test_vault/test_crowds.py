"""Many who fall silent together: when that is noticed, what waits, and who is told."""

import sqlite3
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.world import Dossier, World, until
from vault import crowds, statements, watch
from vault.clock import HOUR
from vault.errors import Conflict, DiskFailed, NoSpace
from vault.plans import Plan
from vault.service import Moment
from vault.storage.records import Records
from vault.switch import Crowd, Stage
from vault.watch import Ticked, Watch

SOON = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 48 * HOUR)
LATER = Plan(1_000 * HOUR, 12 * HOUR, 12 * HOUR, 48 * HOUR)


def some_dossiers(world: World, *plans: Plan) -> list[Dossier]:
    ana = world.journalist()
    ana.confirm("ana@example.org")
    colleague = ana.colleague("c")
    colleague.confirm("c@example.org")
    made = [ana.create([colleague], 1, plan) for plan in plans]
    for each in made:
        each.arm(anyway=True)
    return made


def told(world: World) -> list[str]:
    """What the operator was told, in order."""
    world.deliver()
    return [kind for to, kind in world.letters() if to == "operator"]


def crowd_of(made: Dossier) -> Crowd:
    return made.world.records.switch(made.id).switch.crowd


def lived_until_release(made: Dossier) -> int:
    """Service time from the entry of `grace` to the release."""
    until(made, Stage.GRACE)
    before = made.world.records.service()
    until(made, Stage.RELEASED)
    after = made.world.records.service()
    assert before is not None
    assert after is not None
    return after.served - before.served


@pytest.mark.parametrize(
    ("late", "armed", "wave"), [(5, 0, False), (6, 0, True), (6, 53, True), (6, 54, False), (100, 899, True)]
)
def test_a_wave_is_more_than_five_and_more_than_a_tenth(late: int, armed: int, wave: bool) -> None:
    counts = SimpleNamespace(count_newly_late=lambda since: late, count_armed=lambda most: min(armed, most))
    now = Moment("life", 0, 10 * HOUR, 0, 0, 5_000, exact=True)
    assert crowds.is_wave(cast(Records, counts), now) == wave


def test_the_release_of_one_of_a_crowd_waits_twelve_hours_once(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 6, *[LATER] * 4)
    world.skip(25 * HOUR)
    assert [crowd_of(each) for each in several] == [Crowd.YES] * 6 + [Crowd.NO] * 4
    assert told(world) == ["operator-crowd"]
    lived = lived_until_release(several[0])
    assert 60 * HOUR <= lived <= 61 * HOUR
    assert told(world) == ["operator-crowd", "operator-crowd-waits"]
    assert {each.stage for each in several[:6]} == {Stage.RELEASED}


def test_a_short_last_stage_is_doubled_and_no_more(world: World) -> None:
    short = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 2 * HOUR)
    several = some_dossiers(world, *[short] * 6)
    world.skip(25 * HOUR)
    lived = lived_until_release(several[0])
    assert 4 * HOUR <= lived <= 5 * HOUR


def test_five_who_fall_silent_are_no_crowd(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 5)
    world.skip(25 * HOUR)
    assert {crowd_of(each) for each in several} == {Crowd.NO}
    assert told(world) == []


def test_those_who_fall_silent_hour_by_hour_are_no_crowd(world: World) -> None:
    plans = [Plan((24 + 2 * number) * HOUR, 40 * HOUR, 12 * HOUR, 48 * HOUR) for number in range(7)]
    several = some_dossiers(world, *plans)
    for _ in range(42):
        world.skip(HOUR)
    assert {each.stage for each in several} == {Stage.REMINDED}
    assert {crowd_of(each) for each in several} == {Crowd.NO}


def test_a_check_in_ends_it(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 6)
    world.skip(25 * HOUR)
    several[0].hers.check_in()
    assert {crowd_of(each) for each in several} == {Crowd.NO}


def test_a_wave_that_grows_is_told_once(world: World) -> None:
    some_dossiers(world, *[SOON] * 6, *[Plan(24 * HOUR + HOUR // 2, 12 * HOUR, 12 * HOUR, 48 * HOUR)] * 6)
    for _ in range(50):
        world.skip(HOUR // 2)
    assert told(world) == ["operator-crowd"]
    wave = world.records.newest_wave()
    assert wave is not None
    assert (wave.number, wave.many) == (1, 12)


def test_what_another_watch_has_marked_already_is_not_counted_again(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 6)
    world.skip(25 * HOUR)
    assert world.watch._mark([each.id for each in several], Ticked()) == set()
    wave = world.records.newest_wave()
    assert wave is not None
    assert wave.many == 6
    assert told(world) == ["operator-crowd"]


def test_who_holds_a_release_of_a_crowd_holds_it_besides(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 6)
    world.skip(25 * HOUR)
    until(several[0], Stage.GRACE)
    several[0].readers[0].order(several[0].id, statements.Hold, climb=1, because="reached")
    assert 132 * HOUR - HOUR <= lived_until_release(several[0]) <= 132 * HOUR + HOUR


def test_switched_off_nothing_waits_and_nobody_is_told(world: World) -> None:
    world.watch = Watch(world.records, world.custodian, mass_hold=False)
    several = some_dossiers(world, *[SOON] * 8)
    world.skip(25 * HOUR)
    assert {crowd_of(each) for each in several} == {Crowd.NO}
    assert told(world) == []


def test_a_watch_that_died_before_it_had_counted_is_made_up_for_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = some_dossiers(world, *[SOON] * 6)
    world.beat()

    def die(self: Watch, done: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(Watch, "_mark_crowd", die)
        with pytest.raises(SystemExit):
            world.skip(25 * HOUR)
    assert {each.stage for each in several} == {Stage.REMINDED}
    world.reopen()
    world.beat()
    assert {crowd_of(each) for each in several} == {Crowd.YES}
    assert told(world) == ["operator-crowd"]


def test_one_whose_row_does_not_read_keeps_nobody_from_being_marked(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 8)
    world.beat()
    world.skip(24 * HOUR - HOUR)
    with world.database.transaction():
        world.database.run("UPDATE dossiers SET cooling = 'x' WHERE id = :id", id=several[3].id)
        world.database.run(
            "UPDATE switches SET stage = 'reminded', entered = :now, due = 1 WHERE dossier = :id",
            id=several[3].id,
            now=(24 * HOUR),
        )
    world.skip(HOUR)
    others = [each for each in several if each is not several[3]]
    assert {crowd_of(each) for each in others} == {Crowd.YES}


def test_a_gap_that_begins_reminders_anew_makes_no_crowd(world: World) -> None:
    several = some_dossiers(
        world, *[Plan((24 + 2 * n) * HOUR, 40 * HOUR, 12 * HOUR, 48 * HOUR) for n in range(7)]
    )
    for _ in range(42):
        world.skip(HOUR)
    world.reboot("second-boot")
    for _ in range(20):
        world.clock.at += 2 * world.tick
        world.beat()
    assert {world.records.switch(each.id).switch.renewals for each in several} == {1}
    assert {crowd_of(each) for each in several} == {Crowd.NO}


def test_nobody_is_counted_as_long_as_nobody_falls_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_dossiers(world, *[SOON] * 6)
    world.beat()

    def counted(*given: object) -> bool:
        raise AssertionError("counted for nothing")

    monkeypatch.setattr(crowds, "is_wave", counted)
    world.pass_time(20 * world.tick)


def test_counting_reads_lines_of_an_index_and_no_table(world: World) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Overheard:
        def one(self, sql: str, **params: Any) -> Any:
            asked.append((sql, params))
            return world.database.one(sql, **params)

        def all(self, sql: str, **params: Any) -> Any:
            asked.append((sql, params))
            return world.database.all(sql, **params)

    records = Records(cast(Any, Overheard()), world.clock, world.tick)
    records.count_newly_late(5)
    records.count_armed(9)
    records.newly_late(5, 200)
    looking = sqlite3.connect(world.folder / "afterword.db")
    for sql, params in asked:
        text = "; ".join(row[3] for row in looking.execute("EXPLAIN QUERY PLAN " + sql, params))
        assert "COVERING INDEX switches_" in text or "newly_late (crowd=? AND entered>?)" in text, text
        assert "TEMP B-TREE" not in text, text
    assert len(asked) == 3
    looking.close()


def test_how_to_switch_it_off_is_written_down() -> None:
    text = (Path(__file__).parents[2] / "docs" / "decisions" / "two-brakes.md").read_text()
    assert "AFTERWORD_MASS_HOLD=off" in text


@pytest.mark.parametrize("column", ["many", "last", "waited"])
def test_a_wave_that_does_not_read_holds_up_no_release_and_no_mark(world: World, column: str) -> None:
    several = some_dossiers(world, *[SOON] * 6, *[Plan(27 * HOUR, 12 * HOUR, 12 * HOUR, 48 * HOUR)] * 6)
    world.skip(25 * HOUR)
    with world.database.transaction():
        world.database.run(f"UPDATE waves SET {column} = 'x'")  # noqa: S608 our own
    world.skip(3 * HOUR)
    assert {crowd_of(each) for each in several} == {Crowd.YES}
    until(several[0], Stage.RELEASED)
    assert told(world) == ["operator-crowd", "operator-crowd", "operator-crowd-waits"]


def test_a_crowd_that_could_not_be_counted_is_counted_in_the_next_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = some_dossiers(world, *[SOON] * 6)
    world.beat()

    def busy(*given: object) -> bool:
        raise Conflict("Another writer keeps the lock; try again.", code="busy")

    with monkeypatch.context() as once:
        once.setattr(crowds, "is_wave", busy)
        with pytest.raises(Conflict):
            world.skip(25 * HOUR)
    world.beat()
    assert {crowd_of(each) for each in several} == {Crowd.YES}


def test_a_disk_that_fails_while_a_crowd_is_marked_ends_the_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_dossiers(world, *[SOON] * 6)
    world.beat()

    def fail(*given: object) -> None:
        raise DiskFailed("The disk refused what was being written.")

    monkeypatch.setattr(crowds, "note", fail)
    with pytest.raises(DiskFailed):
        world.skip(25 * HOUR)


def test_the_operator_hears_how_many_still_wait_and_not_how_many_once_fell_silent(world: World) -> None:
    several = some_dossiers(world, *[SOON] * 6)
    olga = world.journalist("olga")
    olga.confirm("olga@example.org")
    friend = olga.colleague("f")
    for _ in range(2):
        olga.create([friend], 1, SOON).arm(anyway=True)
    world.skip(25 * HOUR)
    olga.check_in()
    until(several[0], Stage.GRACE)
    until(several[0], Stage.RELEASED)
    world.deliver()
    (said,) = [
        each
        for each in world.courier.carried
        if "comes to the end" in each.body or "has come to" in each.body
    ]
    assert "6 in all" in " ".join(said.body.split())


def test_who_checks_in_need_not_wait_until_a_whole_crowd_is_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = some_dossiers(world, *[SOON] * 9)
    world.beat()
    monkeypatch.setattr(watch, "BATCH", 2)
    turns: list[Counter[Crowd]] = []
    monkeypatch.setattr(
        type(world.database),
        "give_way",
        lambda self: turns.append(Counter(crowd_of(each) for each in several)),
    )
    world.skip(25 * HOUR)
    assert {each[Crowd.YES] for each in turns} >= {0, 2, 4, 6, 8}


@pytest.mark.parametrize(
    "wrong", [NoSpace("The disk is full."), Conflict("Try again.", code="busy")], ids=str
)
def test_a_crowd_for_whose_marks_there_was_no_room_is_marked_in_the_next_tick(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    several = some_dossiers(world, *[SOON] * 7)
    world.beat()

    def refuse(*given: object) -> None:
        raise wrong

    with monkeypatch.context() as once:
        once.setattr(crowds, "note", refuse)
        world.skip(25 * HOUR)
    assert {crowd_of(each) for each in several} == {Crowd.NO}
    world.beat()
    assert {crowd_of(each) for each in several} == {Crowd.YES}
    assert told(world) == ["operator-crowd"]
