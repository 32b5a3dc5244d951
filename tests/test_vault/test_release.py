"""Letting go, and what colleagues then hand each other."""

import os

import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, change_roster, digest, until
from vault import age, envelope, release, sharing, statements, wire
from vault.clock import HOUR
from vault.errors import AfterwordError, Conflict, NotFound, Refused, Untrusted
from vault.plans import Plan
from vault.sharing import DealtShare, Share
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)


def show(made: Dossier, who: Person) -> wire.Released:
    return release.show(made.world.records, made.world.custodian, who.account, made.id)


def my_share(made: Dossier, reader: Person) -> Share:
    line = made.world.records.collaborator(made.id, reader.account.id)
    assert line is not None
    return sharing.read_share(age.open_sealed(line.share, reader.keyring.seal)).share


def contribution(
    made: Dossier, giver: Person, readers: list[Person], share: Share | None = None, **changed: object
) -> tuple[statements.Contribution, tuple[bytes, ...]]:
    world = made.world
    row = world.records.dossier(made.id)
    line = world.records.collaborator(made.id, giver.account.id)
    assert row is not None
    assert line is not None
    journalist, dossier = bytes.fromhex(made.hers.account.verify), bytes.fromhex(made.id)
    dealt = DealtShare(journalist, dossier, row.epoch, share or my_share(made, giver), "Title")
    blobs = tuple(age.seal(sharing.write_share(dealt), each.card.recipient, os.urandom) for each in readers)
    fields: dict[str, object] = {
        "epoch": row.epoch,
        "roster": row.roster,
        "index": line.place,
        "readers": tuple(
            statements.SealedTo(each.card.hash.hex(), digest(blob))
            for each, blob in zip(readers, blobs, strict=True)
        ),
        **changed,
    }
    given = statements.Contribution(
        server=world.custodian.hash,
        dossier=made.id,
        seq=giver.account.seq + 1,
        created=world.clock.wall(),
        **fields,  # type: ignore[arg-type]
    )
    return given, blobs


def give(made: Dossier, giver: Person, readers: list[Person], **changed: object) -> None:
    given, blobs = contribution(made, giver, readers, **changed)  # type: ignore[arg-type]
    fields = {name: getattr(given, name) for name in ("epoch", "roster", "index", "readers")}
    giver.order(made.id, statements.Contribution, blobs, **fields)


def test_before_the_release_nobody_gets_anything(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    for stage in (Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE):
        until(made, stage)
        for who in (made.hers, *made.readers):
            with pytest.raises(Conflict) as refused:
                show(made, who)
            assert refused.value.code == "not-released"


def test_after_the_release_each_colleague_gets_r_sealed_to_them_alone_and_it_opens_the_key(
    world: World,
) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    shares = [my_share(made, each) for each in made.readers[:2]]
    for reader in made.readers:
        released = show(made, reader)
        (sent,) = released.shares
        dealt = sharing.read_share(age.open_sealed(wire.read_blob(sent.sealed), reader.keyring.seal))
        key = sharing.xor(sharing.combine(shares), dealt.share.value)
        assert age.Identity(key).recipient == made.key.recipient
        other = next(each for each in made.readers if each is not reader)
        with pytest.raises(Untrusted):
            age.open_sealed(wire.read_blob(sent.sealed), other.keyring.seal)


def test_the_signed_release_says_what_ran_out_and_when_she_was_last_heard(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    request = made.hers.checkin_request()
    made.hers.check_in(request)
    until(made, Stage.RELEASED)
    released = show(made, made.readers[0])
    said = statements.read(released.release.encode(), world.custodian.card.verify_key, statements.Release)
    row = world.records.dossier(made.id)
    assert row is not None
    assert (said.dossier, said.epoch, said.roster, said.head) == (made.id, 1, row.roster, row.head)
    assert said.checkin == envelope.statement_hash(request.statement.encode()).hex()
    assert released.checkin == request.statement
    assert said.journalist == made.hers.card.hash.hex()


def test_the_journalist_sees_her_release_but_no_share(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    assert show(made, made.hers).shares == ()


def test_a_stranger_is_told_that_there_is_no_such_dossier_before_and_after(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    bea = world.journalist("bea")
    said = []
    for _ in range(2):
        for dossier in (made.id, "00" * 16):
            with pytest.raises(NotFound) as refused:
                release.show(world.records, world.custodian, bea.account, dossier)
            said.append(str(refused.value))
        until(made, Stage.RELEASED)
    assert len(set(said)) == 1


def test_contributions_reach_each_other_colleague_and_nobody_else(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    one, two, three = made.readers
    give(made, one, [two, three])
    for reader in (two, three):
        (sent,) = show(made, reader).contributions
        statements.read(sent.statement.encode(), one.card.verify_key, statements.Contribution)
        dealt = sharing.read_share(age.open_sealed(wire.read_blob(sent.sealed), reader.keyring.seal))
        assert dealt.share == my_share(made, one)
    assert show(made, one).contributions == ()
    assert show(made, made.hers).contributions == ()


def test_a_later_contribution_takes_the_place_of_the_first(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    one, two, three = made.readers
    give(made, one, [two])
    assert show(made, three).contributions == ()
    give(made, one, [two, three])
    (sent,) = show(made, three).contributions
    assert len(show(made, two).contributions) == 1
    age.open_sealed(wire.read_blob(sent.sealed), three.keyring.seal)


def test_a_contribution_before_the_release_is_refused(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    with pytest.raises(Conflict):
        give(made, made.readers[0], made.readers[1:])


@pytest.mark.parametrize(
    "wrong",
    [{"epoch": 2}, {"roster": "ab" * 32}, {"index": 2}],
    ids=["epoch", "roster", "index"],
)
def test_a_contribution_for_another_roster_or_line_is_refused(world: World, wrong: dict[str, object]) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    with pytest.raises(Conflict) as refused:
        give(made, made.readers[0], made.readers[1:], **wrong)
    assert refused.value.code == "wrong-roster"


def test_a_contribution_goes_only_to_the_other_colleagues_each_once(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    one, two, _ = made.readers
    stranger = world.journalist("bea")
    for readers in ([stranger], [one], [two, two], [made.hers]):
        with pytest.raises(Refused) as refused:
            give(made, one, readers)
        assert refused.value.code == "wrong-readers"


def test_a_contribution_whose_copies_were_swapped_or_left_out_is_refused(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    one, two, three = made.readers
    given, blobs = contribution(made, one, [two, three])
    fields = {name: getattr(given, name) for name in ("epoch", "roster", "index", "readers")}
    for wrong in (blobs[::-1], blobs[:1], (), (*blobs, b"more")):
        with pytest.raises(Untrusted):
            one.order(made.id, statements.Contribution, wrong, **fields)
    assert show(made, two).contributions == ()


def test_who_was_taken_off_the_roster_gets_nothing_from_the_release(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    gone = made.readers[2]
    change_roster(made, made.readers[:2], 2)
    until(made, Stage.RELEASED)
    with pytest.raises(NotFound):
        show(made, gone)
    assert show(made, made.readers[0]).shares


def test_a_word_of_collecting_for_another_roster_or_too_early_changes_nothing(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    reader = made.readers[0]
    row = world.records.dossier(made.id)
    assert row is not None
    with pytest.raises(Conflict) as early:
        reader.order(made.id, statements.Collected, roster=row.roster)
    assert early.value.code == "not-released"
    until(made, Stage.RELEASED)
    with pytest.raises(Conflict) as other:
        reader.order(made.id, statements.Collected, roster="ab" * 32)
    assert other.value.code == "wrong-roster"
    line = world.records.collaborator(made.id, reader.account.id)
    assert line is not None
    assert line.collected is None


def test_a_release_shows_the_same_signed_bytes_to_everybody_and_for_ever(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    first = {show(made, each).release for each in made.readers}
    world.skip(90 * 24 * HOUR)
    world.reopen()
    assert first == {show(made, each).release for each in made.readers}
    assert len(first) == 1


def test_no_k_minus_one_shares_and_no_share_without_r_open_anything(world: World) -> None:
    """T18: for every colleague alone, with R and without it, and for all of them without R."""
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    (sent,) = show(made, made.readers[0]).shares
    r = sharing.read_share(
        age.open_sealed(wire.read_blob(sent.sealed), made.readers[0].keyring.seal)
    ).share.value
    shares = [my_share(made, each) for each in made.readers]
    wrong = [sharing.xor(each.value, r) for each in shares] + [each.value for each in shares]
    wrong += [r, sharing.combine(shares[:2]), sharing.combine(shares)]
    for key in wrong:
        assert age.Identity(key).recipient != made.key.recipient
    for one, other in ((0, 1), (0, 2), (1, 2)):
        key = sharing.xor(sharing.combine([shares[one], shares[other]]), r)
        assert age.Identity(key).recipient == made.key.recipient


def test_every_refusal_here_has_a_sentence_and_a_code(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    with pytest.raises(AfterwordError) as refused:
        show(made, made.readers[0])
    assert str(refused.value).endswith(".")
    assert refused.value.code
