"""What a move says, when one of those it is said to cannot be read."""

import pytest

from tests.test_vault.test_release import give, my_share, show
from tests.world import TICK, Dossier, Person, World, an_armed_dossier, until
from vault import age, sharing, statements, views, wire
from vault.clock import HOUR
from vault.errors import Damaged
from vault.plans import Plan
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)


def damage_line(made: Dossier, column: str, value: str | int | bytes, reader: Person) -> None:
    with made.world.database.transaction():
        made.world.database.run(
            f"UPDATE collaborators SET {column} = :value WHERE dossier = :d AND account = :a",  # noqa: S608 ours
            d=made.id,
            value=value,
            a=reader.account.id,
        )


def opens(made: Dossier, opener: Person, other: Person) -> bool:
    """Whether one colleague comes to the key by what the server hands out and what another one gave."""
    give(made, other, [each for each in made.readers if each is not other])
    shown = show(made, opener)
    (released,), (given,) = shown.shares, shown.contributions
    r, theirs = (
        sharing.read_share(age.open_sealed(wire.read_blob(sealed), opener.keyring.seal)).share
        for sealed in (released.sealed, given.sealed)
    )
    key = sharing.xor(sharing.combine([my_share(made, opener), theirs]), r.value)
    return age.Identity(key).recipient == made.key.recipient


def test_a_colleagues_line_that_does_not_read_costs_nobody_else_a_warning_or_the_release(
    world: World,
) -> None:
    made = an_armed_dossier(world, PLAN)
    one, two, three = made.readers
    damage_line(made, "proved", "x", three)
    until(made, Stage.RELEASED)
    world.pass_time(20 * TICK)
    told = world.letters()
    for each in ("c1@example.org", "c2@example.org"):
        assert [kind for to, kind in told if to == each] == [
            "code",
            "reach-her",
            "reach-her-again",
            "release",
        ]
    assert [kind for to, kind in told if to == "c3@example.org"] == ["code"]
    assert [kind for _, kind in told].count("operator-trouble") == 3, "a warning, the last one, the release"
    (said, *_) = [
        each.body for each in world.courier.carried if "does not read" in " ".join(each.body.split())
    ]
    assert f"line 3 of the roster of dossier {made.id}" in " ".join(said.split())
    assert opens(made, one, two)
    assert [each.dossier for each in views.dossiers(world.records, one.account).dossiers] == [made.id]


def test_a_release_that_one_line_was_missing_from_stays_the_same_when_the_line_reads_again(
    world: World,
) -> None:
    made = an_armed_dossier(world, PLAN)
    one, _, three = made.readers
    damage_line(made, "has_left", "x", three)
    until(made, Stage.RELEASED)
    before = show(made, one).release
    with pytest.raises(Damaged):
        show(made, three)
    damage_line(made, "has_left", 0, three)
    assert show(made, three).release == show(made, one).release == before
    assert opens(made, three, one)


def test_a_contribution_that_does_not_read_keeps_nobody_from_the_others(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    one, two, three = made.readers
    until(made, Stage.RELEASED)
    give(made, three, [one, two])
    damage_line(made, "contribution", b"\xff\xfe", three)
    assert opens(made, one, two)
    give(made, three, [one, two])
    assert len(show(made, one).contributions) == 2


def test_with_a_line_that_does_not_read_she_still_cancels_what_was_asked_for_in_her_name(
    world: World,
) -> None:
    made = an_armed_dossier(world, PLAN)
    asked = made.hers.order(made.id, statements.Destroy)
    assert asked is not None
    damage_line(made, "proved", "x", made.readers[2])
    made.hers.order(made.id, statements.Cancel, change=asked)
    assert world.records.change(asked) is None
    world.deliver()
    assert ("c1@example.org", "change-cancelled") in world.letters()
