"""Letters that nothing can refer to any more are deleted; every other one stays."""

import pytest

from tests.world import Dossier, World, an_armed_dossier, until
from vault import accounts, pruning, statements
from vault.clock import DAY, HOUR
from vault.couriers import PermanentFailure
from vault.letters import LetterKind
from vault.pruning import KEPT, Pruner
from vault.switch import Stage


def kinds(world: World, where: str = "1 = 1") -> list[str]:
    return [
        str(row["kind"])
        for row in world.database.all(f"SELECT kind FROM outbox WHERE {where} ORDER BY posted, id")  # noqa: S608
    ]


def names(world: World, where: str) -> set[str]:
    return {str(row["id"]) for row in world.database.all(f"SELECT id FROM outbox WHERE {where}")}  # noqa: S608


def prune(world: World) -> int:
    """Until a whole round brought nothing."""
    pruner, gone = Pruner(world.records), 0
    while some := sum(pruner.go_on() for _ in range(20)):
        gone += some
    return gone


def later(world: World, ms: int) -> None:
    """Time in which nothing happens but that it passes: what moves switches stands still."""
    with world.database.transaction():
        world.database.run("UPDATE service SET lived = lived + :ms", ms=ms)


def another_letter(world: World) -> None:
    """The newest that was accepted always stays; this one is not what the test is about."""
    world.journalist(f"late{world.clock.at}").confirm(f"late{world.clock.at}@example.org")


def released(world: World) -> Dossier:
    made = an_armed_dossier(world)
    until(made, Stage.RELEASED)
    world.pass_time(4 * world.tick)
    return made


def test_letters_of_nobodys_dossier_go_after_ninety_days_and_no_sooner(world: World) -> None:
    world.journalist().confirm("ana@example.org")
    later(world, KEPT - HOUR)
    another_letter(world)
    assert prune(world) == 0
    later(world, 2 * HOUR)
    assert prune(world) == 1
    assert KEPT >= 90 * DAY


def test_the_last_letter_that_was_accepted_stays_however_old_it_is(world: World) -> None:
    world.journalist().confirm("ana@example.org")
    later(world, 10 * KEPT)
    last = world.records.last_accepted()
    assert prune(world) == 0
    assert world.records.last_accepted() == last


def test_a_dossier_that_has_not_ended_keeps_every_letter(world: World) -> None:
    made = an_armed_dossier(world)
    until(made, Stage.WARNED)
    made.hers.check_in()
    world.pass_time(4 * world.tick)
    until(made, Stage.REMINDED)
    of_it = f"dossier = '{made.id}'"
    before = kinds(world, of_it)
    later(world, 2 * KEPT)
    another_letter(world)
    assert {"check-in", "last-warning", "all-clear"} <= set(before)
    prune(world)
    assert kinds(world, of_it) == before


def test_of_a_dossier_that_has_ended_the_last_climb_and_the_release_stay(world: World) -> None:
    made = an_armed_dossier(world)
    until(made, Stage.WARNED)
    made.hers.check_in()
    world.pass_time(4 * world.tick)
    until(made, Stage.RELEASED)
    world.pass_time(4 * world.tick)
    seen = world.records.switch(made.id).switch
    of_it = f"dossier = '{made.id}'"
    last = names(world, f"{of_it} AND (climb >= {seen.ladder} OR kind = 'release')")
    assert "release" in kinds(world, of_it)
    others = names(world, of_it) - last
    assert others
    later(world, 2 * KEPT)
    another_letter(world)
    assert prune(world) >= len(others)
    kept = names(world, of_it)
    assert last <= kept
    assert not others & kept


def test_a_release_is_told_again_until_it_is_collected_whatever_was_pruned(world: World) -> None:
    made = released(world)
    for _ in range(4):
        world.skip(KEPT)
        world.skip(HOUR)
        another_letter(world)
        prune(world)
    told = len(kinds(world, "kind = 'release' AND state = 'accepted'"))
    world.skip(8 * DAY)
    world.pass_time(4 * world.tick)
    assert len(kinds(world, "kind = 'release' AND state = 'accepted'")) > told
    assert world.records.has_letter(
        made.id,
        world.records.addresses_of(made.readers[0].account.id)[0].id,
        LetterKind.RELEASE.value,
    )


def test_whoever_is_told_of_a_change_that_waits_counts_as_told_for_ever(world: World) -> None:
    made = an_armed_dossier(world)
    change = made.hers.order(made.id, statements.Destroy)
    world.pass_time(4 * world.tick)
    assert change is not None
    told = world.records.letters_about(change, LetterKind.CHANGE_ASKED.value)
    later(world, 2 * KEPT)
    another_letter(world)
    prune(world)
    assert world.records.letters_about(change, LetterKind.CHANGE_ASKED.value) == told


def test_whoever_was_told_that_an_address_goes_counts_as_told_while_it_waits(world: World) -> None:
    made = an_armed_dossier(world)
    made.hers.confirm("second@example.org")
    gone = world.records.addresses_of(made.hers.account.id)[1]
    accounts.remove_address(world.records, world.custodian, made.hers.account, gone.id)
    world.pass_time(4 * world.tick)
    (change,) = world.records.changes_of_account(made.hers.account.id)
    told = world.records.letters_about(change.hash, LetterKind.CHANGE_ASKED.value)
    assert made.hers.account.id in {account for account, _ in told}
    later(world, 2 * KEPT)
    another_letter(world)
    prune(world)
    assert world.records.letters_about(change.hash, LetterKind.CHANGE_ASKED.value) == told


def test_while_a_change_of_hers_does_not_read_letters_about_changes_stay(world: World) -> None:
    made = an_armed_dossier(world)
    made.hers.confirm("second@example.org")
    gone = world.records.addresses_of(made.hers.account.id)[1]
    change = accounts.remove_address(world.records, world.custodian, made.hers.account, gone.id).change
    world.pass_time(4 * world.tick)
    told = world.records.letters_about(str(change), LetterKind.CHANGE_ASKED.value)
    with world.database.transaction():
        world.database.run("UPDATE changes SET total = total + 1")
    later(world, 2 * KEPT)
    another_letter(world)
    prune(world)
    assert world.records.letters_about(str(change), LetterKind.CHANGE_ASKED.value) == told


def test_who_was_told_of_an_outage_hears_that_it_is_over_however_long_it_lasted(world: World) -> None:
    an_armed_dossier(world)
    world.reachable = False
    for _ in range(6):
        world.skip(HOUR)
    with world.database.transaction():
        world.database.run("UPDATE service SET outage = 7, alarm = 3")
        world.database.run("UPDATE outbox SET letter = 'outage-7', kind = 'outage', dossier = NULL")
    told = kinds(world, "state = 'accepted'")
    later(world, 2 * KEPT)
    another_letter(world)
    prune(world)
    assert len(kinds(world, "state = 'accepted' AND letter = 'outage-7'")) == len(told)
    with world.database.transaction():
        world.database.run("UPDATE service SET outage = 8")
    assert prune(world) == len(told)


def test_a_letter_that_has_not_arrived_is_never_deleted(world: World) -> None:
    released(world)
    world.courier.answer = lambda parcel: PermanentFailure("no such mailbox")
    world.skip(9 * DAY)
    waiting = kinds(world, "state = 'waiting'")
    assert waiting
    later(world, 3 * KEPT)
    prune(world)
    assert kinds(world, "state = 'waiting'") == waiting


@pytest.mark.parametrize(
    "damage", ["kind = 'relfase'", "state = 'waitinf'", "settled = 'x'", "dossier = 'gone'", "climb = 'x'"]
)
def test_what_does_not_read_is_kept_and_hides_nothing_behind_it(
    world: World, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(pruning, "PAGE", 2)
    for number in range(5):
        world.journalist(f"p{number}").confirm(f"p{number}@example.org")
        world.pass_time(world.tick)
    later(world, 2 * KEPT)
    another_letter(world)
    ids = [str(row["id"]) for row in world.database.all("SELECT id FROM outbox ORDER BY settled, id")]
    with world.database.transaction():
        world.database.run(f"UPDATE outbox SET {damage} WHERE id = :id", id=ids[1])  # noqa: S608 our own
    assert prune(world) == 4
    kept = {str(row["id"]) for row in world.database.all("SELECT id FROM outbox")}
    assert kept == {ids[1], ids[5]}


def test_a_switch_that_does_not_read_keeps_its_letters(world: World) -> None:
    made = released(world)
    with world.database.transaction():
        world.database.run("UPDATE switches SET total = total + 1")
    before = names(world, f"dossier = '{made.id}'")
    later(world, 2 * KEPT)
    another_letter(world)
    prune(world)
    assert names(world, f"dossier = '{made.id}'") >= before


def test_a_round_looks_at_a_page_and_not_at_what_stays_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PAGE", 2)
    an_armed_dossier(world)  # its letters stay, and are the oldest
    for number in range(3):
        world.journalist(f"p{number}").confirm(f"p{number}@example.org")
    later(world, 2 * KEPT)
    another_letter(world)
    with world.database.transaction():
        world.database.run(
            "UPDATE outbox SET dossier = (SELECT id FROM dossiers) WHERE account IN (SELECT journalist FROM dossiers)"
        )
    pruner = Pruner(world.records)
    rounds = [pruner.go_on() for _ in range(30)]
    assert max(rounds) <= 2
    assert sum(rounds) >= 3
