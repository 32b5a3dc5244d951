"""How a dossier begins, and how its roster changes."""

import os
import threading

import msgspec
import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, ask, change_roster, cool, hand_over, until
from vault import age, dossiers, release, sharing, statements, wire
from vault.clock import HOUR
from vault.errors import AfterwordError, Conflict, Malformed, NotFound, Refused, Untrusted
from vault.plans import Plan
from vault.sharing import Share
from vault.switch import Stage

PLAN = Plan(72 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
COOLING = 72 * HOUR


def withheld(made: Dossier) -> Share:
    row = made.world.records.dossier(made.id)
    assert row is not None
    return release.withheld_share(made.world.custodian, row)


def shares(made: Dossier, readers: list[Person]) -> list[Share]:
    found = []
    for reader in readers:
        line = made.world.records.collaborator(made.id, reader.account.id)
        assert line is not None
        found.append(sharing.read_share(age.open_sealed(line.share, reader.keyring.seal)).share)
    return found


@pytest.fixture
def new(world: World) -> Dossier:
    ana = world.journalist()
    return ana.create([ana.colleague(f"c{n}") for n in range(3)], 2, PLAN, COOLING)


def again(made: Dossier, **changed: object) -> tuple[str, bytes]:
    """Create with a roster that was changed and signed anew."""
    before = statements.read(made.request.roster.encode(), made.hers.card.verify_key, statements.Roster)
    fields = {"dossier": os.urandom(16).hex(), **changed}
    roster = made.hers.sign(msgspec.structs.replace(before, **fields))
    return dossiers.create(
        made.world.records,
        made.world.custodian,
        made.hers.account,
        msgspec.structs.replace(made.request, roster=roster),
        short=False,
    )


def code_of(do: object) -> str:
    with pytest.raises(AfterwordError) as refused:
        do()  # type: ignore[operator]
    return refused.value.code


# creating


def test_the_same_creation_twice_is_one_dossier_and_one_answer(new: Dossier) -> None:
    world = new.world
    answers = {
        dossiers.create(world.records, world.custodian, new.hers.account, new.request, short=False)
        for _ in range(2)
    }
    assert len(answers) == 1
    assert len(world.records.dossiers_of(new.hers.account.id)) == 1


def test_a_release_share_that_is_not_the_one_committed_to_is_refused(new: Dossier) -> None:
    other = new.for_custodian(os.urandom(32), 1)
    assert code_of(
        lambda: dossiers.create(
            new.world.records,
            new.world.custodian,
            new.hers.account,
            msgspec.structs.replace(new.request, release_shares=(wire.write_blob(other),)),
            short=False,
        )
    ) in {"untrusted"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"k": 4}, "bad-roster"),
        ({"epoch": 2, "prev": "ab" * 32}, "bad-roster"),
        ({"prev": "ab" * 32}, "bad-roster"),
        ({"t": 2}, "bad-roster"),
        ({"cooling": HOUR}, "cooling-too-short"),
        ({"plan": statements.Dwells(1, 1, 1, 1)}, "plan-too-short"),
        ({"plan": statements.Dwells(HOUR, HOUR, HOUR, HOUR)}, "plan-too-short"),
        ({"recipient": "age1pq1nonsense"}, "malformed"),
        ({}, "untrusted"),  # the release share was sealed for another dossier id
    ],
    ids=lambda given: str(given)[:30],
)
def test_a_first_roster_that_makes_no_sense_is_refused(
    new: Dossier, changed: dict[str, object], code: str
) -> None:
    assert code_of(lambda: again(new, **changed)) == code
    assert len(new.world.records.dossiers_of(new.hers.account.id)) == 1


def test_a_threshold_of_nobody_cannot_even_be_said(new: Dossier) -> None:
    assert code_of(lambda: again(new, k=0)) == "malformed"


def test_the_same_colleague_twice_is_refused(new: Dossier) -> None:
    one, *_ = new.readers
    ana = new.hers
    assert code_of(lambda: ana.create([one, one], 2, PLAN)) == "bad-roster"


def test_who_never_joined_by_an_invite_of_hers_cannot_be_on_her_roster(new: Dossier) -> None:
    bea = new.world.journalist("bea")
    theirs = bea.colleague("theirs")
    assert code_of(lambda: new.hers.create([theirs, new.readers[0]], 1, PLAN)) == "unknown-collaborator"
    assert code_of(lambda: new.hers.create([bea, new.readers[0]], 1, PLAN)) == "unknown-collaborator"


def test_a_collaborator_cannot_create_a_dossier(new: Dossier) -> None:
    reader = new.readers[0]
    assert code_of(lambda: reader.create([new.readers[1]], 1, PLAN)) == "not-a-journalist"


def test_an_id_that_is_taken_by_somebody_else_is_refused(new: Dossier) -> None:
    bea = new.world.journalist("bea")
    mine = bea.create([bea.colleague("c")], 1, PLAN)
    mine.id = new.id
    request = mine.first_roster(PLAN, COOLING)
    assert (
        code_of(
            lambda: dossiers.create(new.world.records, new.world.custodian, bea.account, request, short=False)
        )
        == "taken"
    )


def test_a_roster_that_another_server_is_to_keep_is_refused(new: Dossier) -> None:
    before = statements.read(new.request.roster.encode(), new.hers.card.verify_key, statements.Roster)
    keeper = msgspec.structs.replace(before.custodians[0], card=new.readers[0].card.envelope.decode())
    assert code_of(lambda: again(new, custodians=(keeper,))) in {"wrong-custodian", "bad-roster"}


def test_what_is_sealed_beside_a_roster_is_what_it_names(new: Dossier) -> None:
    world = new.world
    for wrong in (
        {"shares": new.request.shares[::-1]},
        {"shares": new.request.shares[:-1]},
        {"deal": new.request.title},
        {"release_shares": ()},
        {"shares": ("not base64!", *new.request.shares[1:])},
    ):
        request = msgspec.structs.replace(new.request, **wrong)
        with pytest.raises((Untrusted, Malformed)):
            dossiers.create(world.records, world.custodian, new.hers.account, request, short=False)


# changing


def test_before_arming_a_roster_changes_at_once_and_r_with_it(new: Dossier) -> None:
    before = withheld(new)
    change, corrections, d = new.next_roster(new.readers[:2], 2)
    _, cooling = ask(new, msgspec.structs.replace(change, corrections=corrections.corrections))
    assert cooling is None
    assert withheld(new).value == sharing.xor(before.value, d)
    assert len(new.world.records.collaborators(new.id)) == 2


def test_once_armed_a_roster_cools_and_r_stays_until_the_corrections_come(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    before = withheld(made)
    spare = made.hers.colleague("spare")
    change, corrections, d = made.next_roster([*made.readers[:2], spare], 2)
    _, hash = ask(made, change)
    assert hash is not None
    assert code_of(lambda: hand_over(made, corrections)) == "too-early"
    cool(made)
    assert withheld(made) == before
    hand_over(made, corrections)
    assert withheld(made).value == sharing.xor(before.value, d)
    assert world.records.change(hash) is None


def test_after_a_change_the_new_shares_open_the_same_key_and_the_old_ones_do_not(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    old = shares(made, made.readers)
    spare = made.hers.colleague("spare")
    change_roster(made, [*made.readers[1:], spare], 2)
    new = shares(made, made.readers)
    r = withheld(made).value

    def opens(given: list[Share]) -> bool:
        return age.Identity(sharing.xor(sharing.combine(given), r)).recipient == made.key.recipient

    assert opens(new[:2])
    assert opens(new[1:])
    assert not opens(old[:2])
    assert not opens(old)
    assert not opens([old[0], new[1]])
    assert not opens([new[0], old[1]])


def test_a_correction_is_taken_once(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    ask(made, change)
    cool(made)
    first = hand_over(made, corrections)
    after = withheld(made)
    assert hand_over(made, corrections, epoch=2) == first
    assert withheld(made) == after
    assert code_of(lambda: hand_over(made, corrections, epoch=3)) == "wrong-epoch"
    assert code_of(lambda: hand_over(made, corrections, epoch=1)) == "wrong-epoch"
    assert withheld(made) == after


def test_an_old_correction_does_not_fit_the_next_change(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    change, old, _ = made.next_roster(made.readers[:2], 2)
    ask(made, change)
    cool(made)
    hand_over(made, old)
    made.readers = made.readers[:2]
    change, _, _ = made.next_roster(made.readers, 2)
    ask(made, change)
    cool(made)
    before = withheld(made)
    with pytest.raises(Untrusted):
        hand_over(made, old)
    assert withheld(made) == before


def test_the_answer_commits_to_the_new_r(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    ask(made, change)
    cool(made)
    answer = statements.read(
        hand_over(made, corrections), world.custodian.card.verify_key, statements.Acknowledgement
    )
    wanted = sharing.release_commitment(
        bytes.fromhex(made.hers.account.verify), bytes.fromhex(made.id), 2, withheld(made)
    )
    assert answer.commitment == wanted.hex()


def test_two_rosters_never_both_follow_the_same_one(new: Dossier) -> None:
    """A compare-and-swap on the epoch, from two threads."""
    given = []
    for readers in (new.readers[:2], new.readers[1:]):
        change, corrections, _ = new.next_roster(readers, 2)
        given.append(msgspec.structs.replace(change, corrections=corrections.corrections))
    barrier = threading.Barrier(2)
    codes: list[str] = []

    def send(change: wire.RosterChange) -> None:
        barrier.wait()
        try:
            ask(new, change)
            codes.append("done")
        except AfterwordError as refused:
            codes.append(refused.code)

    threads = [threading.Thread(target=send, args=(each,)) for each in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["done", "wrong-epoch"]
    row = new.world.records.dossier(new.id)
    assert row is not None
    assert row.epoch == 2


@pytest.mark.parametrize("what", ["recipient", "cooling", "prev", "epoch"])
def test_what_the_first_roster_fixed_stays_fixed(new: Dossier, what: str) -> None:
    change, corrections, _ = new.next_roster(new.readers[:2], 2)
    before = statements.read(change.roster.encode(), new.hers.card.verify_key, statements.Roster)
    other: dict[str, object] = {
        "recipient": str(age.Identity(os.urandom(32)).recipient),
        "cooling": 100 * HOUR,
        "prev": "ab" * 32,
        "epoch": 3,
    }
    roster = new.hers.sign(msgspec.structs.replace(before, **{what: other[what]}))
    with pytest.raises((Untrusted, Conflict)):
        ask(
            new,
            msgspec.structs.replace(change, roster=roster, corrections=corrections.corrections),
        )
    assert len(new.world.records.sealed_rosters(new.id)) == 1


def test_corrections_that_come_before_their_time_are_sent_back(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    assert (
        code_of(lambda: ask(made, msgspec.structs.replace(change, corrections=corrections.corrections)))
        == "too-early"
    )


def test_a_dossier_that_is_not_armed_needs_the_corrections_at_once(new: Dossier) -> None:
    change, _, _ = new.next_roster(new.readers[:2], 2)
    assert code_of(lambda: ask(new, change)) == "malformed"


def test_in_a_late_stage_a_cooled_roster_waits_for_a_check_in(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    ask(made, change)
    until(made, Stage.REMINDED)
    world.skip(HOUR)
    assert code_of(lambda: hand_over(made, corrections)) == "too-early"
    made.hers.check_in()
    hand_over(made, corrections)


def test_a_release_ends_a_change_that_was_cooling(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=400 * HOUR)
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    _, hash = ask(made, change)
    until(made, Stage.RELEASED)
    assert hash is not None
    assert world.records.change(hash) is None
    world.skip(1_000 * HOUR)
    assert code_of(lambda: hand_over(made, corrections)) == "wrong-epoch"
    assert code_of(lambda: ask(made, made.next_roster(made.readers[:2], 2)[0])) == "released"
    assert len(world.records.collaborators(made.id)) == 3


def test_a_new_roster_asks_everybody_for_a_new_proof(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    change_roster(made, made.readers[:2], 2)
    assert all(line.proof is None for line in world.records.collaborators(made.id))
    made.prove()
    assert all(line.proof is not None for line in world.records.collaborators(made.id))


def test_the_old_r_is_nowhere_in_the_database_files_any_more(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    row = world.records.dossier(made.id)
    assert row is not None
    old = row.release_share
    assert old is not None
    change_roster(made, made.readers[:2], 2)
    for file in world.folder.glob("afterword.db*"):
        assert old[200:264] not in file.read_bytes(), file.name


def test_foreign_and_unknown_dossiers_are_one_answer(new: Dossier) -> None:
    bea = new.world.journalist("bea")
    mine = bea.create([bea.colleague("c")], 1, PLAN)
    change, corrections, _ = mine.next_roster(mine.readers, 1)
    for dossier in (new.id, "00" * 16):
        with pytest.raises(NotFound):
            dossiers.change_roster(new.world.records, new.world.custodian, bea.account, dossier, change)
        with pytest.raises(NotFound):
            dossiers.correct_roster(
                new.world.records, new.world.custodian, bea.account, dossier, 2, corrections
            )


def test_a_plan_for_a_rehearsal_needs_a_server_for_rehearsals(new: Dossier) -> None:
    tick = new.world.tick
    quick = Plan(*[4 * tick] * 4)
    with pytest.raises(Refused):
        dossiers.check_plan(quick, tick, short=False)
    dossiers.check_plan(quick, tick, short=True)
    with pytest.raises(Refused):
        dossiers.check_plan(Plan(4 * tick, 4 * tick, 4 * tick, 4 * tick - 1), tick, short=True)
