"""Eight watches and eight deliverers on one database (T8, S9, S11)."""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.fire import tally
from tests.fire.together import once_for_all, together
from tests.world import TICK, World
from vault import notices, outbox, stages, switch, watch
from vault.clock import HOUR
from vault.couriers import Accepted, Outcome, Parcel
from vault.plans import Plan
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Letter
from vault.storage.sqlite import SqliteDatabase
from vault.switch import Elapsed, Stage, Switch

MANY = 8
AT_ONCE = 20
SWITCHES = tally.size(2_000, 10_000)
LETTERS = tally.size(2_000, 10_000)
JOURNALISTS = 4
PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
NEXT = {
    Stage.ARMED: Stage.REMINDED,
    Stage.REMINDED: Stage.WARNED,
    Stage.WARNED: Stage.GRACE,
    Stage.GRACE: Stage.RELEASED,
}
# What one address of hers and three of her colleagues' are told on entering each stage.
SAID = {
    Stage.REMINDED: {"check-in": 1},
    Stage.WARNED: {"last-warning": 1, "reach-her": 3},
    Stage.GRACE: {"last-call": 1, "reach-her-again": 3},
    Stage.RELEASED: {"release": 3, "released-her": 1},
}


@dataclass(frozen=True)
class Crowd:
    world: World
    began: dict[str, Stage]

    def open(self) -> Records:
        return Records(SqliteDatabase(self.world.folder / "afterword.db"), self.world.clock, TICK)


def a_crowd(world: World, switches: int) -> Crowd:
    """A few people who really joined, and very many dossiers of theirs, all due, a quarter in each stage."""
    world.short = True
    templates = []
    for each in range(JOURNALISTS):
        her = world.journalist(f"journalist {each}")
        her.confirm(f"j{each}@example.org")
        readers = [her.colleague(f"colleague {each}.{n}") for n in range(3)]
        for number, reader in enumerate(readers):
            reader.confirm(f"c{each}.{number}@example.org")
        made = her.create(readers, 2, PLAN)
        made.prove()
        made.arm(anyway=True)
        templates.append(made.id)
    began: dict[str, Stage] = {}
    standing_in = list(NEXT)
    with world.database.transaction():
        world.database.run("DELETE FROM outbox")
        service = world.records.service()
        assert service is not None
        columns = {
            table: [str(row["name"]) for row in world.database.all(f"PRAGMA table_info({table})")]
            for table in ("dossiers", "collaborators", "switches")
        }
        kept = {
            (table, template): world.database.all(
                f"SELECT * FROM {table} WHERE {'id' if table == 'dossiers' else 'dossier'} = :d",  # noqa: S608
                d=template,
            )
            for table in columns
            for template in templates
        }
        rows: dict[str, list[dict[str, int | str | bytes | None]]] = {table: [] for table in columns}
        for number in range(switches):
            name, template = hashlib.sha256(b"%d" % number).hexdigest()[:32], templates[number % JOURNALISTS]
            # Not in step with the journalists, so that each has switches in every stage.
            stage = standing_in[number // JOURNALISTS % len(standing_in)]
            began[name] = stage
            for table in columns:
                own = {"id" if table == "dossiers" else "dossier": name}
                rows[table] += [{**row, **own} for row in kept[table, template]]
            lasts = stages.lasts(stage, PLAN, None) or 0
            standing = Switch(
                stage,
                PLAN,
                entered=0,
                due=lasts,
                era=service.era,
                ladder=int(stage is not Stage.ARMED),
            )
            rows["switches"][-1] |= stages.write_switch(standing)
        for table, names in columns.items():
            world.database.many(
                f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + n for n in names)})",  # noqa: S608
                rows[table],
            )
        for template in templates:
            world.database.run("UPDATE switches SET due = NULL, stage = 'new' WHERE dossier = :d", d=template)
        world.database.run(
            "UPDATE service SET served = :ms, lived = :ms, at = :at, grown = :at, probed = :at",
            ms=400 * HOUR,
            at=world.clock.boot(),
        )
    return Crowd(world, began)


@pytest.fixture
def world() -> Iterator[World]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    made = World(folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def eight_watches(crowd: Crowd, ticks: int = 1) -> list[watch.Ticked]:
    def tick(number: int, ready: Callable[[], None]) -> watch.Ticked:
        records = crowd.open()
        keeper = watch.Watch(records, crowd.world.custodian, mass_hold=False)
        done = watch.Ticked()
        ready()
        for _ in range(ticks):
            ticked = keeper.tick()
            done.moved += ticked.moved
            done.standing += ticked.standing
        return done

    crowd.world.close()
    try:
        return together(MANY, tick)
    finally:
        crowd.world.reopen()


def check_moves(crowd: Crowd) -> None:
    """Every switch has moved once, said its letters once, and noted it once."""
    db = crowd.world.database
    reached = {
        str(row["dossier"]): str(row["stage"]) for row in db.all("SELECT dossier, stage FROM switches")
    }
    for dossier, stage in crowd.began.items():
        if reached[dossier] != NEXT[stage].value:
            tally.wrong("early" if reached[dossier] == "released" else "forgotten")
        assert reached[dossier] == NEXT[stage].value, (dossier, stage)
    posted: dict[str, Counter[str]] = {}
    addressed: Counter[tuple[str, str, str]] = Counter()
    for row in db.all("SELECT dossier, kind, address FROM outbox"):
        if row["dossier"] is not None:
            posted.setdefault(str(row["dossier"]), Counter())[str(row["kind"])] += 1
            addressed[str(row["dossier"]), str(row["kind"]), str(row["address"])] += 1
    twice = [each for each, many in addressed.items() if many > 1]
    if twice:
        tally.wrong("doubled releases", sum(kind == "release" for _, kind, _ in twice))
    assert not twice
    for dossier, stage in crowd.began.items():
        assert posted.get(dossier, Counter()) == SAID[NEXT[stage]], (dossier, stage)
    assert set(posted) == set(crowd.began)
    released = {str(row["dossier"]) for row in db.all("SELECT dossier FROM releases")}
    assert released == {each for each, stage in crowd.began.items() if stage is Stage.GRACE}
    check_history(crowd)


def check_history(crowd: Crowd) -> None:
    moved: Counter[str] = Counter()
    accounts = crowd.world.database.all("SELECT id, number, history FROM accounts")
    for account in accounts:
        hash, number = "0" * 64, 0
        for row in crowd.world.database.all(
            "SELECT number, entry, hash FROM history WHERE account = :a ORDER BY number", a=account["id"]
        ):
            number += 1
            entry = str(row["entry"])
            hash = hashlib.sha256(bytes.fromhex(hash) + entry.encode()).hexdigest()
            assert (row["number"], row["hash"]) == (number, hash)
            told = json.loads(entry)
            if told["what"] == "moved" and told["dossier"] in crowd.began:
                moved[told["dossier"]] += 1
        assert (account["number"], account["history"]) == (number, hash)
    assert moved == dict.fromkeys(crowd.began, 1)


def test_of_eight_watches_that_find_the_same_switches_due_each_move_is_made_by_one(world: World) -> None:
    crowd = a_crowd(world, SWITCHES)
    done = eight_watches(crowd)
    # Nobody gave up, and nothing stands still because somebody else held the lock.
    assert [each.standing for each in done] == [[]] * MANY
    assert sum(each.moved for each in done) == SWITCHES
    check_moves(crowd)
    tally.count("switches moved by eight watches", SWITCHES)


def test_eight_watches_that_tick_on_move_nothing_before_its_time(world: World) -> None:
    """The dwell of the next stage begins with the move, whoever made it and however many look again at once."""
    crowd = a_crowd(world, 400)
    done = eight_watches(crowd, ticks=4)
    assert sum(each.moved for each in done) == 400
    check_moves(crowd)


def test_a_check_in_does_not_wait_until_everything_has_moved(world: World) -> None:
    crowd = a_crowd(world, 2_000)
    her = world.journalist("somebody else")
    request = her.checkin_request()

    def live(number: int, ready: Callable[[], None]) -> int:
        records = crowd.open()
        ready()
        if number == 0:
            watch.Watch(records, world.custodian, mass_hold=False).tick()
            return 0
        # Only once it has begun, so that the lock is the watch's.
        while _due(records) == 2_000:
            pass
        watch.check_in(records, world.custodian, request)
        return _due(records)

    world.close()
    try:
        _, still_due = together(2, live)
    finally:
        world.reopen()
    assert still_due > 0
    assert _due(world.records) == 0


def _due(records: Records) -> int:
    service = records.service()
    assert service is not None
    return len(records.due_switches(service.served, 3_000))


def eight_deliverers(crowd: Crowd) -> list[list[str]]:
    """Message-IDs that each of them handed over."""

    class Noting:
        def __init__(self) -> None:
            self.carried: list[str] = []

        def carry(self, parcel: Parcel) -> Outcome:
            self.carried.append(parcel.message_id)
            return Accepted()

    def deliver(number: int, ready: Callable[[], None]) -> list[str]:
        records, courier, world = crowd.open(), Noting(), crowd.world

        def landed(now: Moment, letter: Letter) -> None:
            watch.landed(records, world.custodian, now, letter)

        ready()
        while claimed := outbox.claim(records, AT_ONCE):
            for letter in claimed:
                outbox.deliver(records, world.custodian, courier, world.sender, letter, landed, 0.5)
        return courier.carried

    crowd.world.close()
    try:
        return together(MANY, deliver)
    finally:
        crowd.world.reopen()


def letters_waiting(world: World, many: int) -> Crowd:
    """As many letters, each to a real address about a real dossier; releases, which follow nothing but a repetition."""
    crowd = a_crowd(world, JOURNALISTS * len(NEXT))
    released = [each for each, stage in crowd.began.items() if stage is Stage.GRACE]
    world.watch.tick()
    with world.database.transaction():
        template = world.database.all("SELECT * FROM outbox WHERE kind = 'release' ORDER BY dossier, id")
        assert len(template) == 3 * len(released)
        names = [str(row["name"]) for row in world.database.all("PRAGMA table_info(outbox)")]
        world.database.run("DELETE FROM outbox")
        world.database.many(
            f"INSERT INTO outbox ({', '.join(names)}) VALUES ({', '.join(':' + n for n in names)})",  # noqa: S608
            [
                {**template[n % len(template)], "id": f"{n:032x}", "message_id": f"{n:032x}"}
                for n in range(many)
            ],
        )
    return crowd


def check_deliveries(crowd: Crowd, carried: list[list[str]], many: int) -> None:
    handed = Counter(each for one in carried for each in one)
    expected = {f"<{n:032x}@server.example>" for n in range(many)}
    if missing := expected - set(handed):
        tally.wrong("forgotten", len(missing))
    assert not missing
    assert set(handed) == expected
    twice = [each for each, times in handed.items() if times > 1]
    assert not twice, f"{len(twice)} letters were handed over twice although no lease had run out"
    states = crowd.world.records.count_letters()
    # Each is told again after an hour, and there is one repetition for each that was accepted.
    assert states == {"accepted": many, "waiting": many}


def test_of_eight_deliverers_each_letter_has_one(world: World) -> None:
    crowd = letters_waiting(world, LETTERS)
    carried = eight_deliverers(crowd)
    check_deliveries(crowd, carried, LETTERS)
    tally.count("letters handed over by eight deliverers", LETTERS)


# mistakes; all eight have looked before any of them acts, so that nothing hangs on who is scheduled when


def check_then_act(all_have_looked: Callable[[], None]) -> Callable[..., None]:
    def move(self: watch.Watch, names: list[str], done: watch.Ticked) -> None:
        """What is due is read in one transaction, and moved in another whatever happened in between."""
        with self._records.reading() as now:
            found = [(each, self._records.switch(each).switch) for each in names]
            due = [(each, was) for each, was in found if switch.next_event(was, now.served, now.era)]
        all_have_looked()
        with self._records.transaction() as now:
            for each, was in due:
                row = self._records.dossier(each)
                assert row is not None
                after, said = switch.step(was, Elapsed(), now.served, reachable=False)
                # The version is read anew, so the compare-and-swap sees nothing wrong.
                self._records.save_switch(self._records.switch(each), after, now.wall)
                notices.post(self._records, self._custodian, now, row, after, said)
                done.moved += 1

    return move


def test_a_watch_that_looks_before_it_has_the_lock_is_caught(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = a_crowd(world, 160)
    monkeypatch.setattr(watch.Watch, "_move", check_then_act(once_for_all(MANY)))
    done = eight_watches(crowd)
    letters = world.database.all("SELECT COUNT(*) AS many FROM outbox")[0]["many"]
    expected = sum(sum(SAID[NEXT[stage]].values()) for stage in crowd.began.values())
    assert sum(each.moved for each in done) > 160
    assert isinstance(letters, int)
    assert letters > expected
    tally.killed("check-then-act", "test_watches: eight watches")


def claim_without_a_condition(all_have_looked: Callable[[], None]) -> Callable[..., list[Letter]]:
    def claim(records: Records, limit: int) -> list[Letter]:
        """Two deliverers that look at the same moment both believe that a letter is theirs."""
        with records.reading() as now:
            due = records.due_letters(now.lived, limit)
        all_have_looked()
        with records.transaction() as now:
            until = now.lived + HOUR
            for each in due:
                records.db.run("UPDATE outbox SET lease = :until WHERE id = :id", until=until, id=each.id)
        return [msgspec.structs.replace(each, lease=until) for each in due]

    return claim


def test_deliverers_that_claim_without_a_condition_are_caught(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = letters_waiting(world, 160)
    # Whoever carries looks once more whether it still holds the letter; two that hold it alike do not see it.
    monkeypatch.setattr(outbox, "claim", claim_without_a_condition(once_for_all(MANY)))
    monkeypatch.setattr(outbox, "_parcels", whoever_was_there(once_for_all(MANY), outbox._parcels))
    with pytest.raises(AssertionError, match="handed over twice"):
        check_deliveries(crowd, eight_deliverers(crowd), 160)
    tally.killed("claim without a condition", "test_watches: eight deliverers")


def whoever_was_there(
    all_have_looked: Callable[[], None], parcels: Callable[..., list[Parcel]]
) -> Callable[..., list[Parcel]]:
    def write(*given: object) -> list[Parcel]:
        found = parcels(*given)
        all_have_looked()
        return found

    return write
