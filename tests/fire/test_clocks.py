"""Whatever the clock on the wall says, every switch moves at the same instants.

The same life is lived under each of more than two hundred clocks; what it left behind (every move with its service
time, every letter with its kind and its hour) must be the same to the letter. Then real servers live under a few.
"""

import itertools
import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rehearsal
import theatre
from theatre import Frozen

from tests.fire.cast import a_stage
from tests.fire.tally import count, size, wrong
from tests.world import TICK, Dossier, Hands, Snapshot
from vault.clock import DAY, HOUR
from vault.errors import AfterwordError
from vault.plans import Plan
from vault.switch import Stage

PLAN = Plan(12 * TICK, 6 * TICK, 6 * TICK, 8 * TICK)
YEAR = 365 * DAY + DAY // 4
NOW = 1_800_000_000_000
Wall = Callable[[int], int]
"""What the wall clock says (ms UTC) when the boot clock, which is right, says so much since the life began."""

# POSIX rules, so that no table of zones has to be installed.
ZONES = {
    "Madrid": "CET-1CEST,M3.5.0,M10.5.0/3",
    "London": "GMT0BST,M3.5.0/1,M10.5.0",
    "Athens": "EET-2EEST,M3.5.0/3,M10.5.0/4",
    "Moscow": "MSK-3",
    "New York": "EST5EDT,M3.2.0,M11.1.0",
    "Chicago": "CST6CDT,M3.2.0,M11.1.0",
    "Denver": "MST7MDT,M3.2.0,M11.1.0",
    "Los Angeles": "PST8PDT,M3.2.0,M11.1.0",
    "Anchorage": "AKST9AKDT,M3.2.0,M11.1.0",
    "St John's": "NST3:30NDT,M3.2.0,M11.1.0",
    "Havana": "CST5CDT,M3.2.0/0,M11.1.0/1",
    "Santiago": "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
    "Asuncion": "<-04>4<-03>,M10.1.0/0,M3.4.0/0",
    "Nuuk": "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
    "Cairo": "EET-2EEST,M4.5.5/0,M10.5.4/24",
    "Beirut": "EET-2EEST,M3.5.0/0,M10.5.0/0",
    "Jerusalem": "IST-2IDT,M3.4.4/26,M10.5.0",
    "Sydney": "AEST-10AEDT,M10.1.0,M4.1.0/3",
    "Lord Howe": "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "Chatham": "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
}


def edges(rule: str) -> list[int]:
    """The instants (ms UTC) of 2027 at which a zone changes its offset, or its new year where it never does."""
    os.environ["TZ"] = rule
    time.tzset()
    begin = 1_798_761_600
    offsets = [(at, time.localtime(at).tm_gmtoff) for at in range(begin, begin + 366 * 86_400, 3_600)]
    found = [at * 1000 for (_, before), (at, after) in itertools.pairwise(offsets) if before != after]
    return found or [begin * 1000]


def clocks() -> Iterator[tuple[str, Wall]]:
    """Every clock by name."""
    yield "right", lambda at: NOW + at
    for by in (1, 2, 10, 59, 60, 61, 3_599, 3_600, 86_399, 86_400, 604_800, 2_592_000):
        for sign in (1, -1):
            off = sign * by * 1000
            yield f"off by {sign * by} s", lambda at, off=off: NOW + at + off  # type: ignore[misc]
            yield (
                f"jumps by {sign * by} s",
                lambda at, off=off: NOW + at + (off if at > 15 * TICK else 0),  # type: ignore[misc]
            )
    for years in (1, 2, 5, 10, 20, 50, 100, 200):
        for sign in (1, -1):
            off = sign * years * YEAR
            yield f"off by {sign * years} years", lambda at, off=off: NOW + at + off  # type: ignore[misc]
            for ticks in (5, 14, 22, 30):
                yield (
                    f"jumps by {sign * years} years after {ticks} ticks",
                    lambda at, off=off, ticks=ticks: NOW + at + (off if at > ticks * TICK else 0),  # type: ignore[misc]
                )
    for at_tick in (0, 11, 19, 27):
        frozen = at_tick * TICK
        yield f"frozen after {at_tick} ticks", lambda at, frozen=frozen: NOW + min(at, frozen)  # type: ignore[misc]
    for swing in (1_000, HOUR, DAY, YEAR):
        yield (
            f"oscillating by {swing} ms",
            lambda at, swing=swing: NOW + at + (swing if at // TICK % 2 else -swing),  # type: ignore[misc]
        )
    for rate in (-100, -1, 0.5, 2, 100, 10_000):
        yield f"running at {rate} times", lambda at, rate=rate: NOW + int(at * rate)  # type: ignore[misc]
    for name, instant in {
        "1970": 0,
        "a second before 1970": -1_000,
        "1 ms": 1,
        "2000": 946_684_800_000,
        "2038": 2**31 * 1000,
        "2106": 2**32 * 1000,
        "1901": -(2**31) * 1000,
        "a leap second": 1_483_228_799_500,
        "29 February": 1_835_395_200_000,
        "March 2100": 4_107_542_400_000,
        "year 9999": 253_402_300_799_000,
    }.items():
        yield f"{name}, running", lambda at, instant=instant: instant + at  # type: ignore[misc]
        yield f"{name}, standing", lambda at, instant=instant: instant  # type: ignore[misc]
        yield f"across {name}", lambda at, instant=instant: instant - 20 * TICK + at  # type: ignore[misc]
    chance = random.Random(8)
    for number in range(size(20, 400)):
        # Between each two looks anything at all may have happened to it.
        seed = chance.random()
        yield (
            f"chaos {number}",
            lambda at, seed=seed: NOW + int(random.Random(f"{seed} {at // TICK}").gauss(0, 10 * YEAR)),  # type: ignore[misc]
        )


@dataclass
class Lying:
    """The server's clocks: the right ones, but for what the wall says. People's own computers are not asked."""

    right: Hands
    script: Wall
    began: int

    def wall(self) -> int:
        return self.script(self.right.at - self.began)

    def boot(self) -> int:
        return self.right.at

    def boot_id(self) -> str:
        return self.right.boot_name


@dataclass(frozen=True)
class Left:
    """What a life left behind, without a word of the wall clock."""

    moves: tuple[tuple[object, ...], ...]
    letters: tuple[tuple[object, ...], ...]
    released: int


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Dossier, Snapshot]]:
    with a_stage(PLAN) as begun:
        yield begun


@pytest.fixture
def zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def plain(made: Dossier) -> None:
    """A check-in while colleagues are being asked, another one that is only just in time, then silence."""
    live(made, until=Stage.WARNED)
    made.hers.check_in()
    live(made, ticks=3)
    made.hers.check_in()
    live(made, until=Stage.RELEASED)
    live(made, ticks=3)


def interrupted(made: Dossier) -> None:
    """The same with a machine that is suspended in the middle of a stage, and one that starts anew in the next."""
    live(made, until=Stage.WARNED)
    made.world.clock.at += 10_000 * TICK
    live(made, ticks=4)
    made.hers.check_in()
    live(made, until=Stage.REMINDED)
    lying = made.world.records.clock
    assert isinstance(lying, Lying)
    gone = made.world.clock.at - 1_000
    made.world.reboot("another-boot")
    made.world.records.clock = Lying(made.world.clock, lying.script, lying.began - gone)
    live(made, until=Stage.RELEASED)


def live(made: Dossier, ticks: int = 0, until: Stage | None = None) -> None:
    for _ in range(ticks or 400):
        if until is not None and made.stage is until:
            return
        made.world.clock.at += TICK
        made.world.beat()
    assert until is None, f"{made.stage}, not {until}"


def lead(made: Dossier, start: Snapshot, wall: Wall, life: Callable[[Dossier], None]) -> Left:
    world = made.world
    world.rewind(start)
    world.records.clock = Lying(world.clock, wall, world.clock.at)
    life(made)
    seen = {
        row["id"]: row["account"]
        for row in world.database.all("SELECT id, account FROM outbox WHERE account IS NOT NULL")
    }
    moves = world.database.all(
        "SELECT entry FROM history WHERE entry LIKE '%\"moved\"%' ORDER BY account, number"
    )
    letters = world.database.all(
        "SELECT id, kind, climb, letter, state, attempts, posted, settled FROM outbox WHERE account IS NOT NULL "
        "ORDER BY posted, account, kind, climb, letter"
    )
    releases = world.database.all("SELECT dossier FROM releases")
    return Left(
        tuple((row["entry"],) for row in moves),
        tuple((seen[row["id"]], *list(row.values())[1:]) for row in letters),
        len(releases),
    )


def judge(name: str, left: Left, right: Left) -> None:
    if left != right:
        wrong("early" if left.released > right.released else "forgotten")
    assert left.moves == right.moves, name
    assert left.letters == right.letters, name


@pytest.mark.parametrize("life", [plain, interrupted], ids=["plain", "interrupted"])
def test_every_clock_gives_the_same_moves_and_the_same_letters(
    stage: tuple[Dossier, Snapshot], life: Callable[[Dossier], None]
) -> None:
    made, start = stage
    told = list(clocks())
    if life is interrupted:
        told = told[:: size(5, 1)]
    right = lead(made, start, told[0][1], life)
    assert right.released == 1
    assert [each for each in right.moves if '"released"' in str(each)]
    for name, wall in told:
        judge(name, lead(made, start, wall, life), right)
    if life is plain:  # or the same clocks would be counted twice
        count("clocks", len(told))


def test_the_hours_that_twenty_zones_skip_and_repeat_change_nothing(
    stage: tuple[Dossier, Snapshot], zone: None
) -> None:
    made, start = stage
    right = lead(made, start, lambda at: NOW + at, plain)
    for name, rule in ZONES.items():
        for edge in edges(rule):
            # The edge lies in the middle of the life; then the clock of somebody who sets it by hand.
            judge(name, lead(made, start, lambda at, edge=edge: edge - 20 * TICK + at, plain), right)  # type: ignore[misc]
            by_hand: Wall = lambda at, edge=edge: edge + at + (HOUR if at > 20 * TICK else 0)  # type: ignore[misc] # noqa: E731
            judge(name, lead(made, start, by_hand, plain), right)
            count("clocks", 2)
    assert len(ZONES) == 20


def test_a_clock_that_counts_would_be_found_out(stage: tuple[Dossier, Snapshot]) -> None:
    """The judge can tell: with the wall clock in place of the boot clock, lives differ."""
    made, start = stage

    def by_the_wall(made: Dossier) -> None:
        clock = made.world.records.clock
        clock.boot = lambda: clock.wall() - NOW + 1_000_000  # type: ignore[method-assign]
        with pytest.raises((AssertionError, AfterwordError)):
            plain(made)

    right = lead(made, start, lambda at: NOW + at, plain)
    assert lead(made, start, lambda at: NOW, by_the_wall) != right


# real processes


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("wall") / "wall.so"
    source = Path(__file__).with_name("wall.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


SECOND = 10**9
REAL = {
    "stands in 1970 and runs on": (lambda: -time.time_ns(), lambda: -time.time_ns()),
    "jumps into 2038": (lambda: 0, lambda: 2**31 * SECOND - time.time_ns()),
    "jumps back by a year": (lambda: 0, lambda: -365 * 86_400 * SECOND),
    "jumps ahead by two hundred years": (lambda: 0, lambda: 200 * 365 * 86_400 * SECOND),
}


@pytest.mark.parametrize("name", list(REAL)[:: size(4, 1)])
def test_a_real_server_lives_every_stage_whatever_its_clock_says(
    prepared: Frozen, tmp_path: Path, preload: Path, name: str
) -> None:
    told = tmp_path / "told"
    first, then = REAL[name]
    told.write_bytes(struct.pack("=qq", first(), 0))
    environment = {"LD_PRELOAD": str(preload), "AFTERWORD_TEST_WALL": str(told)}
    with prepared.thaw(tmp_path / "cast", environment=environment) as cast:
        ana = cast["Ana"]
        ana.type("arm", rehearsal.TITLE)
        with told.open("r+b") as file:
            file.write(struct.pack("=q", then()))
        ana.type("checkin")
        ana.type("plan", rehearsal.TITLE, "--every", "2s", "--remind", "2s", "--warn", "2s", "--grace", "2s")
        for who in rehearsal.COLLEAGUES:
            cast.mail.saying(cast[who].address, "can now be opened")
        check_lived(cast)
    count("clocks")


@pytest.mark.parametrize("seconds", [3.0])
def test_a_server_that_is_stopped_and_goes_on_owes_every_stage_in_full(
    prepared: Frozen, tmp_path: Path, seconds: float
) -> None:
    """SIGSTOP to every process of a server, as a suspended machine looks: what was not lived is not counted."""
    with prepared.thaw(tmp_path / "cast") as cast:
        ana = cast["Ana"]
        ana.type("plan", rehearsal.TITLE, "--every", "2s", "--remind", "2s", "--warn", "4s", "--grace", "2s")
        ana.type("arm", rehearsal.TITLE)
        rehearsal.wait_for_stage(cast, "warned")
        assert cast.server.process is not None
        everybody = _family(cast.server.process.pid)
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)  # the boot clock of the machine is the door here, and nobody else can turn it
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        for who in rehearsal.COLLEAGUES:
            cast.mail.saying(cast[who].address, "can now be opened")
        check_lived(cast, warned=4_000)
    count("clocks")


def check_lived(cast: theatre.Cast, remind: int = 2_000, warned: int = 2_000, grace: int = 2_000) -> None:
    told = rehearsal.moves(cast)
    assert [each.after for each in told][-4:] == ["reminded", "warned", "grace", "released"]
    assert [each.after for each in told].count("released") == 1
    times = [each.served for each in told[-4:]]
    lasted = [after - before for before, after in itertools.pairwise(times)]
    if any(short < least for short, least in zip(lasted, (remind, warned, grace), strict=True)):
        wrong("early")
    assert all(short >= least for short, least in zip(lasted, (remind, warned, grace), strict=True)), lasted


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]
