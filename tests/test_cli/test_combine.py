"""Shares that come together, and shares that must not."""

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from cli import combine
from test_cli.archive_world import DOSSIER, Person, World
from vault import age, sharing, statements
from vault.errors import NotEnoughShares, Untrusted
from vault.sharing import DealtShare, Share
from vault.statements import Contribution


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.release()
    return made


def give(world: World, who: Person) -> combine.Gathered:
    return combine.give(who.home, who.remote, who.keyring, world.case(who), os.urandom)


def contributed(world: World, index: int) -> Contribution:
    return statements.peek(world.server.contributions[index][0])


def replaced(world: World, of: int, key=None, blob: bytes | None = None, **changes) -> None:
    """Put something else in the place of a contribution, as a server or its sender could."""
    _signed, copies = world.server.contributions[of]
    if blob is not None:
        copies = dict.fromkeys(copies, blob)
        sealed = hashlib.sha256(blob).hexdigest()
        changes["readers"] = tuple(
            msgspec.structs.replace(each, sealed=sealed) for each in contributed(world, of).readers
        )
    said = msgspec.structs.replace(contributed(world, of), **changes)
    signer = key or world.people[of - 1].keyring.sign
    world.server.contributions[of] = (statements.write(said, signer), copies)


def test_a_contribution_reaches_every_other_colleague_and_is_posted_once(world: World) -> None:
    bo, cem, dua = world.people
    assert give(world, bo).missing == ("Cem", "Dua")
    give(world, bo)
    assert world.server.seq == 1
    assert {each.card for each in contributed(world, 1).readers} == {cem.card.hash.hex(), dua.card.hash.hex()}
    gathered = give(world, cem)
    assert (len(gathered.good), gathered.bad, gathered.missing) == (2, (), ("Dua",))
    assert combine.combine(cem.keyring, world.case(cem), gathered) == world.key


def test_fewer_than_k_shares_open_nothing(world: World) -> None:
    bo = world.people[0]
    with pytest.raises(NotEnoughShares):
        combine.combine(bo.keyring, world.case(bo), give(world, bo))


@pytest.mark.parametrize(
    "what", ["forged", "other epoch", "other dossier", "other journalist", "other index"]
)
def test_a_bad_share_is_named_with_its_sender_and_gone_on_without(world: World, what: str) -> None:
    bo, cem, dua = world.people
    give(world, bo)
    her, dossier, epoch, index = world.ana.card.verify_key.raw, bytes.fromhex(DOSSIER), 1, 1
    value = bytes(32)
    if what == "other epoch":
        epoch = 2
    if what == "other dossier":
        dossier = bytes(16)
    if what == "other journalist":
        her = cem.card.verify_key.raw
    if what == "other index":
        index = 2
    dealt = sharing.write_share(DealtShare(her, dossier, epoch, Share(index, value), ""))
    replaced(world, 1, blob=age.seal(dealt, cem.card.recipient, os.urandom))
    gathered = give(world, cem)
    assert [each.label for each in gathered.bad] == ["Bo"]
    assert gathered.missing == ("Dua",)
    give(world, dua)
    case = world.case(cem)
    gathered = combine.gather(cem.keyring, case, combine.open_own_share(cem.remote, cem.keyring, case))
    assert [each.label for each in gathered.bad] == ["Bo"]
    assert combine.combine(cem.keyring, case, gathered) == world.key


def test_a_contribution_that_its_sender_did_not_sign_is_bad(world: World) -> None:
    bo, cem, _ = world.people
    give(world, bo)
    replaced(world, 1, key=cem.keyring.sign)
    assert [each.label for each in give(world, cem).bad] == ["Bo"]


@pytest.mark.parametrize(
    "changes", [{"roster": "11" * 32}, {"epoch": 7}, {"dossier": "cd" * 16}, {"server": "11" * 32}]
)
def test_a_contribution_to_something_else_cannot_be_replayed_here(world: World, changes: dict) -> None:
    bo, cem, _ = world.people
    give(world, bo)
    replaced(world, 1, **changes)
    assert [each.label for each in give(world, cem).bad] == ["Bo"]


def test_a_copy_that_the_server_exchanged_is_bad(world: World) -> None:
    bo, cem, _ = world.people
    give(world, bo)
    signed, copies = world.server.contributions[1]
    world.server.contributions[1] = (signed, dict.fromkeys(copies, b"something else"))
    assert "not the one that its sender signed" in give(world, cem).bad[0].why


def test_somebody_who_is_not_on_the_roster_counts_for_nothing(world: World) -> None:
    bo, cem, _ = world.people
    give(world, bo)
    replaced(world, 1, index=9)
    gathered = give(world, cem)
    assert [each.label for each in gathered.bad] == ["somebody"]
    assert gathered.missing == ("Bo", "Dua")


def test_a_wrong_release_share_is_not_taken_for_bad_colleagues(world: World) -> None:
    bo, cem, _ = world.people
    give(world, bo)
    gathered = give(world, cem)
    world.server.withheld = Share(1, bytes(32))
    with pytest.raises(Untrusted, match=r"can be used \(Release share 1") as refused:
        combine.combine(cem.keyring, world.case(cem), gathered)
    assert refused.value.code == "no-release-share"


def test_a_share_that_the_server_exchanged_is_never_passed_on(world: World) -> None:
    bo, cem, _ = world.people
    world.server.shares[bo.card.hash.hex()] = world.server.shares[cem.card.hash.hex()]
    gathered = give(world, bo)
    assert [each.label for each in gathered.bad] == ["Bo"]
    assert "another share than the one the roster names" in gathered.bad[0].why
    assert not world.server.contributions


def test_with_a_bad_share_of_my_own_the_others_are_still_enough(world: World) -> None:
    bo, cem, dua = world.people
    world.server.shares[bo.card.hash.hex()] = world.server.shares[cem.card.hash.hex()]
    give(world, cem)
    give(world, dua)
    gathered = give(world, bo)
    assert combine.combine(bo.keyring, world.case(bo), gathered) == world.key
