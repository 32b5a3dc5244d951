"""A release that is believed, and what is said of it."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from cli import promises, released
from test_cli.archive_world import World
from test_cli.loopback import a_person
from vault import envelope, statements
from vault.errors import Refused, Untrusted


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.release()
    return world


def test_before_the_release_nothing_is_given(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(Refused) as refused:
        world.case(world.people[0])
    assert refused.value.code == "not-released"


def test_a_dossier_of_a_journalist_who_was_never_pinned_gets_no_share(world: World) -> None:
    _, stranger = a_person("Ana")
    world.server.journalist = stranger
    with pytest.raises(Untrusted) as refused:
        world.case(world.people[0])
    assert refused.value.code == "unknown-journalist"
    assert not world.server.contributions


def test_a_roster_cloned_under_another_key_gets_no_share(world: World) -> None:
    keyring, _stranger = a_person("Ana")
    roster = statements.peek(world.server.rosters[0])
    world.server.rosters = [statements.write(roster, keyring.sign)]
    with pytest.raises(Untrusted) as refused:
        world.case(world.people[0])
    assert refused.value.code == "roster-forged"
    assert not world.server.contributions


@pytest.mark.parametrize(
    "changes",
    [
        {"dossier": "cd" * 16},
        {"epoch": 2},
        {"roster": "11" * 32},
        {"journalist": "11" * 32},
        {"server": "11" * 32},
    ],
)
def test_a_release_of_something_else_moves_nobody(world: World, changes: dict) -> None:
    said = msgspec.structs.replace(statements.peek(world.server.release), **changes)
    world.server.release = statements.write(said, world.server.keyring.sign)
    with pytest.raises(Untrusted) as refused:
        world.case(world.people[0])
    assert refused.value.code == "release-forged"
    assert not world.server.contributions


def test_a_release_by_another_key_moves_nobody(world: World) -> None:
    said = statements.peek(world.server.release)
    world.server.release = statements.write(said, world.people[2].keyring.sign)
    with pytest.raises(Untrusted) as refused:
        world.case(world.people[0])
    assert refused.value.code == "release-forged"


def test_a_check_in_that_she_did_not_sign_is_not_shown(world: World) -> None:
    said = statements.peek(world.server.checkin)
    world.server.checkin = statements.write(said, world.people[2].keyring.checkin)
    with pytest.raises(Untrusted) as refused:
        world.case(world.people[0])
    assert refused.value.code == "checkin-forged"


def test_a_release_of_a_roster_that_she_had_left_behind_is_not_kept_to_be_shown_again(world: World) -> None:
    known = statements.peek(world.server.checkin)
    assert isinstance(known, statements.CheckIn)
    covered = tuple(msgspec.structs.replace(each, epoch=each.epoch + 1) for each in known.dossiers)
    world.server.checkin = statements.write(
        msgspec.structs.replace(known, dossiers=covered), world.ana.keyring.checkin
    )
    named = envelope.statement_hash(world.server.checkin).hex()
    said = msgspec.structs.replace(statements.peek(world.server.release), checkin=named)
    world.server.release = statements.write(said, world.server.keyring.sign)
    reader = world.people[0]
    with pytest.raises(Untrusted) as refused:
        world.case(reader)
    assert refused.value.code == "roster-rolled-back"
    assert promises.kept_release(reader.home, said.dossier) is None


def test_the_story_names_her_and_the_last_check_in(world: World) -> None:
    lines = released.story(world.case(world.people[0]), "Harbour", given=False)
    assert lines[0] == "Harbour, from Ana"
    assert any("The last sign of life: Ana's last signed check-in is of 2026-09-" in line for line in lines)
    assert "cannot be taken back" in lines[-1]


def test_a_journalist_whose_card_was_never_compared_here_is_said_to_be_so(world: World) -> None:
    """A home that was restored from paper words knows her card from the server alone."""
    bo = world.people[0]
    said = "The card of Ana was never compared on this computer"
    assert said in "\n".join(released.story(world.case(bo), "Harbour", given=False))
    bo.home.mark_compared(world.ana.card.hash, 1)
    assert said not in "\n".join(released.story(world.case(bo), "Harbour", given=False))


def test_no_check_in_shown_is_not_said_to_be_none_made(world: World) -> None:
    case = dataclasses.replace(world.case(world.people[0]), checkin=None)
    lines = "\n".join(released.story(case, "Harbour", given=False))
    assert "the server shows no check-in of Ana's" in lines


def test_whoever_has_given_is_not_warned_of_giving(world: World) -> None:
    lines = released.story(world.case(world.people[0]), "Harbour", given=True)
    assert "given your share already" in lines[-1]
    assert not any("cannot be taken back" in line for line in lines)
