"""What really happened, kept by the test: S1 to S13 are the invariants of the threat model.

Rule of this room: it counts for itself when a correct client could have checked in, when letters were accepted and what
was acknowledged; it never believes `served`, `due` or `entered`, and it reads only rows, never what the product says.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tests.fire.cast import COOLING, PLAN, Cast
from tests.world import TICK, World
from vault.clock import HOUR
from vault.plans import Plan
from vault.storage.records.rows import Letter
from vault.switch import LATE, Stage

SLACK: Final = 14 * TICK
LATE_BY: Final = 8 * TICK  # two strides, one to take note of a gap, and a stamp rounded up
ENDS: Final = (Stage.RELEASED, Stage.DESTROYED)
WORDS: Final = {
    "S1": "early",
    "S2": "early",
    "S3": "forgotten",
    "S4": "lost check-ins",
    "S6": "early",
    "S8": "lost check-ins",
    "S9": "doubled releases",
    "S13": "early",
    "T10": "lost check-ins",
    "liveness": "forgotten",
}


class Broken(AssertionError):
    """An invariant does not hold. `word` is what the report calls it, if it has a word for it."""

    def __init__(self, law: str, sentence: str) -> None:
        super().__init__(f"{law}: {sentence}")
        self.word = WORDS.get(law)


def must(holds: bool, law: str, sentence: str) -> None:
    if not holds:
        raise Broken(law, sentence)


@dataclass
class Hold:
    """A colleague's hold, in real time, and how many gaps there had been when it was signed."""

    begun: float
    ended: float
    gaps: int


@dataclass
class Truth:
    """What really happened to one dossier. Times in served time as the test counts it."""

    stage: Stage = Stage.ARMED
    alive: float = 0.0
    gaps_alive: int = 0
    entered: float = 0.0
    gaps_entered: int = 0
    landed: float | None = None
    least: list[int] = field(default_factory=lambda: list(PLAN.dwells()))
    longest: int = PLAN.every
    plan: Plan = PLAN
    release: bytes | None = None
    paused_for: int = 0
    held: list[Hold] = field(default_factory=list)
    signed: set[int] = field(default_factory=set)  # who waits for a second signature
    owed: bool = False  # a setback was proved, and its ladder may lack a check-in
    begun: str = ""  # the life of the server in which its ladder began
    kept: float = 0.0  # how long after `alive` a hold runs on that a setback met
    surely: float = 0.0  # the same, whatever a gap may have counted

    def held_since(self, start: float, now: float, slack: Callable[[int], int]) -> float:
        """How much of the time from `start` to `now` was surely held: a hold too runs on for some ticks into a gap."""
        return sum(
            max(0.0, min(now, hold.ended - slack(hold.gaps)) - max(start, hold.begun)) for hold in self.held
        )

    def moved_on(self, by: float, gaps: int) -> "Truth":
        """As a server sees it that was set back: what it had lived then it has lived now, and no more."""
        return replace(
            copy.deepcopy(self),
            alive=self.alive + by,
            gaps_alive=self.gaps_alive + gaps,
            entered=self.entered + by,
            gaps_entered=self.gaps_entered + gaps,
            landed=None if self.landed is None else self.landed + by,
            held=[Hold(each.begun + by, each.ended + by, each.gaps + gaps) for each in self.held],
        )


@dataclass(frozen=True)
class Row:
    """One dossier as its rows have it."""

    stage: Stage
    plan: Plan
    epoch: int
    release: bytes | None
    anew: str | None = None


class Witness:
    """The truth about one life, and every comparison of it with the server."""

    cast: Cast
    world: World
    alone: bool

    def begin_to_look(self) -> None:
        self.real = 0.0
        self.gaps = 0
        self.truth = {each.id: Truth() for each in self.cast.dossiers}
        self.readers = {each.id: each.readers for each in self.cast.dossiers}
        self.accounts = {each.id: each.hers.account.id for each in self.cast.dossiers}
        self.of_hers = [self.cast.first.id, self.cast.second.id]
        self.asked: dict[str, tuple[float, int]] = {}
        self.address_gone = False
        self.life = ""
        self.seen: tuple[int, ...] = ()
        self.anew: set[str] = set()  # which were given all their time again in this life of the server
        self.told: set[tuple[str, str]] = set()  # (dossier, account) of release letters that arrived
        self.names: dict[tuple[str, str], str] = {}  # (letter, address): its message id
        self.look()

    def sql(self, query: str, *given: object) -> list[tuple]:  # type: ignore[type-arg]
        return self.world.database._connection().execute(query, given).fetchall()

    def rows(self) -> dict[str, Row]:
        found = self.sql(
            "SELECT s.dossier, s.stage, s.every, s.remind, s.warn, s.grace, d.epoch, r.envelope, s.anew "
            "FROM switches s JOIN dossiers d ON d.id = s.dossier LEFT JOIN releases r ON r.dossier = s.dossier"
        )
        return {row[0]: Row(Stage(row[1]), Plan(*row[2:6]), *row[6:]) for row in found}

    def stages(self) -> dict[str, Stage]:
        return {dossier: Stage(name) for dossier, name in self.sql("SELECT dossier, stage FROM switches")}

    def look(self) -> None:
        """Compare where the switches stand with what may have happened since the last look."""
        rows = self.rows()
        counted = self.sql(
            "SELECT v.life, v.served, v.lived, a.seq, a.number FROM service v, accounts a "
            "WHERE a.id IN (SELECT journalist FROM dossiers) ORDER BY a.id"
        )
        life = counted[0][0]
        now = (*(each for row in counted for each in row[1:]), *(rows[each].epoch for each in sorted(rows)))
        if life == self.life:
            must(
                all(new >= old for new, old in zip(now, self.seen, strict=True)),
                "S8",
                "a number fell within one life",
            )
        self.life, self.seen = life, now
        for dossier, truth in self.truth.items():
            row = rows[dossier]
            must((row.release is not None) == (row.stage is Stage.RELEASED), "S6", "a release is not whole")
            if truth.release is not None:
                must(row.stage is Stage.RELEASED and row.release == truth.release, "S3", "a release reverted")
            if truth.owed and row.anew == life:
                # Whatever it says, from here on all the time must be lived.
                must(row.stage is Stage.ARMED, "S1", f"nothing was given again to one in {row.stage}")
                self.is_given_again(truth)
                self.anew.add(dossier)
            if row.stage is not truth.stage:
                self._moved(dossier, truth, row)
            elif row.stage is Stage.ARMED:
                late = self.real - truth.alive - truth.kept - truth.longest - self.slack(truth.gaps_alive)
                must(late <= LATE_BY, "liveness", f"no reminder, {late / TICK} ticks after its time")
            if row.plan != truth.plan:
                if row.plan.longer_than(truth.plan):
                    self.effective(f"{dossier}:plan")
                if row.plan.every < truth.plan.every:
                    # It gives a whole new `every` from now, and no more.
                    truth.surely = min(truth.surely, self.real - truth.alive)
                truth.plan, truth.longest = row.plan, max(truth.longest, row.plan.every)
                truth.least = [min(one, two) for one, two in zip(truth.least, row.plan.dwells(), strict=True)]
        self._look_at_the_address(rows)

    def _moved(self, dossier: str, truth: Truth, row: Row) -> None:
        stage = row.stage
        if stage in LATE or stage is Stage.RELEASED:
            must(not truth.owed, "S1", f"{truth.stage} ran out as if nothing had been forgotten")
            self._elapsed(truth, stage)
        elif stage is Stage.DESTROYED:
            self.effective(f"{dossier}:destroy")
        elif stage is Stage.PAUSED:
            if truth.paused_for > 72 * HOUR:
                self.effective(f"{dossier}:pause")
        else:
            must(truth.stage is Stage.PAUSED, "liveness", f"nobody spoke, and {truth.stage} fell to {stage}")
            self.came_alive(truth)
        if stage is Stage.RELEASED:
            self._released(dossier, truth)
            truth.release = row.release
        if stage not in LATE:
            truth.held, truth.signed = [], set()
        truth.stage, truth.entered, truth.landed, truth.gaps_entered = stage, self.real, None, self.gaps

    def _elapsed(self, truth: Truth, stage: Stage) -> None:
        before = {Stage.REMINDED: Stage.ARMED, Stage.WARNED: Stage.REMINDED, Stage.GRACE: Stage.WARNED}
        must(truth.stage is before.get(stage, Stage.GRACE), "S2", f"{truth.stage} went to {stage}")
        if truth.stage not in LATE:
            armed = self.real - truth.alive - truth.surely + self.slack(truth.gaps_alive)
            must(armed >= truth.least[0], "S1", f"reminded after {armed / TICK} ticks")
            return
        dwell = truth.plan.dwells()[{Stage.REMINDED: 1, Stage.WARNED: 2, Stage.GRACE: 3}[truth.stage]]
        tried = truth.entered + dwell
        start = tried if truth.landed is None else min(tried, truth.landed)
        lived = (
            self.real
            - start
            - truth.held_since(start, self.real, self.slack)
            + self.slack(truth.gaps_entered)
        )
        must(lived >= dwell, "S2", f"{truth.stage} was not lived")
        if stage is Stage.RELEASED and not self.alone:
            must(lived >= 2 * dwell, "S2", "one of a crowd did not wait")

    def _released(self, dossier: str, truth: Truth) -> None:
        lived = self.real - truth.alive - truth.held_since(truth.alive, self.real, self.slack)
        must(
            lived + self.slack(truth.gaps_alive) >= sum(truth.least),
            "S1",
            f"released after {lived / TICK} ticks of {sum(truth.least) / TICK}",
        )
        twice = self.sql(
            "SELECT address FROM outbox WHERE kind = 'release' AND climb = 0 AND dossier = ? "
            "GROUP BY address HAVING COUNT(*) > 1",
            dossier,
        )
        must(not twice, "S9", "two sets of release letters")

    def _look_at_the_address(self, rows: dict[str, Row]) -> None:
        if self.address_gone or self.sql("SELECT 1 FROM addresses WHERE id = ?", self.cast.extra_address):
            return
        self.address_gone = True
        stages = [rows[dossier].stage for dossier in self.of_hers]
        if any(each in (*LATE, Stage.ARMED, Stage.PAUSED) for each in stages):
            self.effective("hers:address")
        must(not any(each in LATE for each in stages), "S13", "she is not known to be well")

    def slack(self, gaps: int) -> int:
        return SLACK * (self.gaps - gaps)

    def effective(self, key: str) -> None:
        must(key in self.asked, "S13", f"{key} was never asked for")
        at, gaps = self.asked[key]
        must(self.real - at >= COOLING - self.slack(gaps), "S13", f"{key} did not cool")

    def came_alive(self, truth: Truth) -> None:
        truth.alive, truth.gaps_alive, truth.owed = self.real, self.gaps, False
        truth.least, truth.longest = list(truth.plan.dwells()), truth.plan.every
        truth.kept = truth.surely = 0.0
        truth.begun = self.sql("SELECT life FROM service")[0][0]

    def is_given_again(self, truth: Truth) -> None:
        """The server noticed that it forgot. What colleagues were told is held is held all the same."""
        ends = [truth.alive + truth.kept, *(each.ended for each in truth.held)]
        surely = [truth.alive + truth.surely, *(each.ended - self.slack(each.gaps) for each in truth.held)]
        self.begins_anew(truth)
        truth.kept, truth.surely = (max(0.0, max(each) - self.real) for each in (ends, surely))

    def begins_anew(self, truth: Truth) -> None:
        """Somebody spoke, or a server noticed that it forgot: all the time is there again."""
        self.came_alive(truth)
        if truth.stage in LATE or truth.stage is Stage.ARMED:
            truth.stage, truth.entered, truth.gaps_entered = Stage.ARMED, self.real, self.gaps
            truth.landed, truth.held, truth.signed = None, [], set()

    def arrived(self, letter: Letter, ids: dict[str, str], accepted: bool) -> None:
        """A letter was carried, to these addresses under these message ids."""
        for to, id in ids.items():
            must(self.names.setdefault((letter.id, to), id) == id, "T15", "a letter has two message ids")
        if not accepted or letter.dossier not in self.truth:
            return
        if letter.kind == "release" and letter.account is not None:
            self.told.add((letter.dossier, letter.account))
        if letter.account != self.accounts[letter.dossier]:
            return
        self.look()
        truth = self.truth[letter.dossier]
        wanted = {"check-in": Stage.REMINDED, "last-warning": Stage.WARNED, "last-call": Stage.GRACE}
        if wanted.get(letter.kind) is truth.stage and truth.landed is None:
            truth.landed = self.real

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        tables = (
            "accounts", "dossiers", "switches", "changes", "statements", "history", "outbox", "releases", "holds",
            "waves", "lives",
        )  # fmt: skip
        return {table: sorted(self.sql(f"SELECT * FROM {table}"), key=repr) for table in tables}  # noqa: S608 our own
