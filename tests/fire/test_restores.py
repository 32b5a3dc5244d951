"""A server comes back from an older state: every stage it may be of, everything that may have happened since, every way
in which operators bring one back (T12).

Rule of this room: the oracle counts what people were really served, and knows what clients hold; what nobody can prove
to the server any more is not asked of it.
"""

import contextlib
import copy
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fire import tally
from tests.world import Dossier, Snapshot, World, an_armed_dossier, change_roster, cool, until
from vault import (
    accounts,
    backups,
    founding,
    release,
    soundness,
    statements,
    testimony,
    watch,
    wire,
)
from vault.clock import HOUR
from vault.errors import Conflict, Damaged
from vault.settings import read_settings
from vault.statements import Acknowledgement
from vault.switch import Stage

STAGES = (Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE, Stage.PAUSED, Stage.RELEASED)
AFTER = ("nothing", "check-in", "release", "pause", "destroy", "roster", "new dossier")
WAYS = ("restore", "restore anyway", "rollback", "rollback with a log left behind")
SLACK = 28  # ticks: fourteen for each gap, and coming back is one


@dataclass
class Seen:
    """What people hold when the server goes back."""

    kept: bytes
    release: wire.Released | None
    seq: int


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[Stage, tuple[World, Dossier, Snapshot, Path]]:
    """For each stage a world that stands in it, its copy, and a backup."""
    found = {}
    for stage in STAGES:
        folder = tmp_path_factory.mktemp(stage.value)
        (folder / "server").mkdir()
        world = World(folder / "server")
        made = an_armed_dossier(world)
        made.hers.check_in()
        if stage is Stage.PAUSED:
            made.hers.order(made.id, statements.Pause, length=48 * HOUR)
        else:
            until(made, stage)
        (folder / "scratch").mkdir()
        backups.back_up(
            world.database,
            world.records,
            world.objects,
            world.custodian,
            folder / "scratch",
            folder / "copies",
        )
        (folder / "server.key").write_text(world.key.write())
        found[stage] = (world, made, world.snapshot(), folder)
    return found


def possible(stage: Stage, after: str) -> bool:
    if stage is Stage.RELEASED:
        return after in {"nothing", "check-in", "new dossier"}
    return not (stage is Stage.PAUSED and after == "pause")


MATRIX = [each for each in itertools.product(STAGES, AFTER, WAYS) if possible(each[0], each[1])]
STEP = tally.size(4, 1)


def happen(made: Dossier, after: str) -> None:
    match after:
        case "check-in":
            made.hers.check_in()
        case "release":
            until(made, Stage.RELEASED)
        case "pause":
            made.hers.order(made.id, statements.Pause, length=HOUR)
        case "destroy":
            made.hers.order(made.id, statements.Destroy)
            cool(made)
            made.world.beat()
        case "roster":
            change_roster(made, made.readers, 2)
        case "new dossier":
            made.hers.create(made.readers, 2)


def live_on(made: Dossier, after: str) -> Seen:
    """What happens after the copy was made, and what a colleague keeps of it."""
    world, bea = made.world, made.readers[0]
    kept, _ = bea.check_in()
    seen = None
    if after != "nothing":
        happen(made, after)
        world.deliver()
        if made.stage is Stage.RELEASED:
            seen = release.show(world.records, world.custodian, bea.account, made.id)
        kept, _ = bea.check_in()
    return Seen(kept, seen, bea.account.seq)


def go_back(world: World, copied: Snapshot, folder: Path, way: str, fresh: Path) -> None:
    """`Damaged` if the server would not start."""
    path = world.folder / "afterword.db"
    match way:
        case "restore" | "restore anyway":
            if way == "restore anyway":
                shutil.copytree(folder / "copies", fresh / "copies")
                next(each for each in (fresh / "copies" / "objects").rglob("?" * 64)).unlink()
            source = (fresh if way == "restore anyway" else folder) / "copies"
            settings = read_settings(
                {"AFTERWORD_SERVER_KEY_FILE": str(folder / "server.key")}, data=fresh / "server"
            )
            founding.restore(settings, source, anyway=way == "restore anyway")
            objects = dict(copied.objects)
            world.rewind(Snapshot((fresh / "server" / "afterword.db").read_bytes(), at_now(world), objects))
        case "rollback":
            world.rewind(Snapshot(copied.database, at_now(world), copied.objects))
        case _:
            log = path.with_name("afterword.db-wal")
            left = log.read_bytes() if log.exists() else b""
            world.database.close()
            path.write_bytes(copied.database)
            log.write_bytes(left)
            world.reopen()
            world.database.check()


def at_now(world: World) -> object:
    # The machine runs on: only its database is old.
    return copy.copy(world.clock)


def served(world: World) -> int:
    row = world.records.service()
    assert row is not None
    return row.served


def log_in(made: Dossier, kept: bytes) -> Acknowledgement:
    """The colleague's next command."""
    world, bea = made.world, made.readers[0]
    login = statements.Login(world.custodian.hash, bea.card.verify_key.hex, bea.nonce(), 1)
    request = wire.SessionRequest(bea.sign(login), kept.decode())
    grant = accounts.sign_in(world.records, world.custodian, request)
    return read(world, (grant.head or "").encode())


def read(world: World, signed: bytes) -> Acknowledgement:
    return statements.read(signed, world.custodian.card.verify_key, Acknowledgement)


def broke(what: str, sentence: str) -> None:
    tally.wrong(what)
    pytest.fail(sentence)


def come_back(
    life: tuple[World, Dossier, Snapshot, Path], stage: Stage, after: str, way: str, fresh: Path
) -> None:
    world, made, copied, folder = life
    world.rewind(copied)
    seen = live_on(made, after)
    go_back(world, copied, folder, way, fresh)
    forgot = not way.endswith("behind") or made.readers[0].account.seq < seen.seq
    stands = made.stage
    if way.startswith("restore"):
        assert soundness.flaws(world.records, world.custodian) == []
    # The oracle begins to count before the colleague comes: what is given then cannot be given sooner.
    begun = served(world)
    head = log_in(made, seen.kept)
    kept = read(world, seen.kept)
    account = made.readers[0].account
    if head.life == kept.life and head.number < kept.number:
        broke("lost check-ins", "S8: within one life a number fell")
    if account.seq < seen.seq:
        broke("lost check-ins", "S8: a number that the client proves was not taken over")
    if bool(account.marked) is not forgot:
        broke("lost check-ins", "a loss was not noticed, or one noticed that is none")
    if stands is Stage.RELEASED and made.stage is not Stage.RELEASED:
        broke("forgotten", "S3: a release reverted")
    if seen.release is not None:
        _show_again(made, seen.release, after)
        return
    if made.stage is Stage.DESTROYED or stage is Stage.RELEASED:
        return
    if stands is Stage.PAUSED:
        if made.stage is not Stage.PAUSED:
            broke("early", "a pause was not left alone")
        begun = served(world)
    new_ladder = forgot or way.startswith("restore")
    if new_ladder and stands is not Stage.PAUSED and made.stage is not Stage.ARMED:
        broke("early", f"{stage} before, {after} since, {way}: no new ladder was given")
    until(made, Stage.RELEASED)
    lasted = world.records.switch(made.id).switch.entered - begun
    whole = sum(made.plan.dwells())
    if new_ladder and lasted < whole - SLACK * world.tick:
        broke("early", f"S1: released after {lasted / HOUR:.1f} h of {whole / HOUR:.0f} h")
    told = {account for account, _ in _release_letters(world, made)}
    if told != {each.account.id for each in made.readers}:
        broke("forgotten", "liveness: somebody has no release letter")


def _release_letters(world: World, made: Dossier) -> set[tuple[str, str]]:
    rows = world.database.all("SELECT account, address FROM outbox WHERE kind = 'release'")
    return {(str(row["account"]), str(row["address"])) for row in rows}


def _show_again(made: Dossier, shown: wire.Released, after: str) -> None:
    world, bea = made.world, made.readers[0]
    request = wire.SeenRelease(shown.release, shown.checkin)
    testimony.recall(world.records, world.custodian, bea.account, made.id, request)
    again = release.show(world.records, world.custodian, bea.account, made.id)
    if made.stage is not Stage.RELEASED or (again.release, again.checkin) != (shown.release, shown.checkin):
        broke("forgotten", "S3: a release that somebody saw was forgotten")


@pytest.mark.parametrize("part", range(8))
def test_whatever_comes_back_releases_nobody_early_and_forgets_no_release_that_was_seen(
    lives: dict[Stage, tuple[World, Dossier, Snapshot, Path]], tmp_path: Path, part: int
) -> None:
    for place, (stage, after, way) in enumerate(MATRIX):
        # Every stage, every event and every way is met in the shorter form too, in ever other company.
        if place % 8 != part or (place * 5 + place // 28) % STEP:
            continue
        fresh = tmp_path / str(place)
        fresh.mkdir()
        closed = contextlib.suppress(Damaged) if way.endswith("behind") else contextlib.nullcontext()
        with closed:
            come_back(lives[stage], stage, after, way, fresh)
        shutil.rmtree(fresh)
        tally.count("restores")


MISTAKES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Stage, str, str]] = {
    "a server that forgot gives nobody a new ladder": (
        lambda plant: plant.setattr(watch, "give_time_again", lambda *_: None),
        Stage.GRACE,
        "check-in",
        "rollback",
    ),
    "a restored server gives nobody a new ladder": (
        lambda plant: plant.setattr(watch, "restored", lambda *_: None),
        Stage.GRACE,
        "check-in",
        "restore",
    ),
    "a release that was shown again is signed anew": (
        lambda plant: plant.setattr(release, "let_go", _let_go_anew),
        Stage.WARNED,
        "release",
        "rollback",
    ),
}
_genuine = release.let_go


def _let_go_anew(records: object, custodian: object, now: object, row: object, seen: object = None) -> None:
    _genuine(records, custodian, now, row)  # type: ignore[arg-type]  # handed on as they came


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_oracle_of_coming_back_finds_planted_mistakes(
    lives: dict[Stage, tuple[World, Dossier, Snapshot, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    plant, stage, after, way = MISTAKES[mistake]
    come_back(lives[stage], stage, after, way, tmp_path)
    shutil.rmtree(tmp_path / "server", ignore_errors=True)
    plant(monkeypatch)
    monkeypatch.setattr(tally, "wrong", lambda what: None)
    with pytest.raises(pytest.fail.Exception):
        come_back(lives[stage], stage, after, way, tmp_path)
    tally.killed(mistake, by="test_the_oracle_of_coming_back_finds_planted_mistakes")


def test_of_another_roster_a_release_is_not_taken_back_and_the_sentence_says_what_helps(
    lives: dict[Stage, tuple[World, Dossier, Snapshot, Path]],
) -> None:
    world, made, copied, _ = lives[Stage.ARMED]
    world.rewind(copied)
    change_roster(made, made.readers, 2)
    seen = live_on(made, "release")
    world.rewind(Snapshot(copied.database, at_now(world), copied.objects))  # type: ignore[arg-type]  # its own clock
    log_in(made, seen.kept)
    with pytest.raises(Conflict, match="newer backup"):
        _show_again(made, seen.release, "release")  # type: ignore[arg-type]  # it was released
    assert made.stage is Stage.ARMED
