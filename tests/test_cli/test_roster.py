import pytest

from test_cli.bureau import Bureau
from vault import age, release, rosters, sharing
from vault.clock import MINUTE
from vault.rosters import SealedDeal


def key_of(bureau: Bureau, dossier: str, *people: str) -> str:
    """The recipient that these people's shares and what the server withholds give: what a release would open."""
    records = bureau.world.records
    row = records.dossier(dossier)
    assert row is not None
    shares = []
    for name in people:
        person = bureau.people[name]
        line = records.collaborator(dossier, person.account.id)
        assert line is not None
        shares.append(sharing.read_share(age.open_sealed(line.share, person.keyring.seal)).share)
    withheld = release.withheld_share(bureau.world.custodian, row).value
    return str(age.Identity(sharing.xor(sharing.combine(shares), withheld)).recipient)


def epoch(bureau: Bureau, dossier: str) -> int:
    row = bureau.world.records.dossier(dossier)
    assert row is not None
    with bureau.home() as home:
        (known,) = home.dossiers()
        assert len(home.rosters(dossier)) == known.epoch
    return row.epoch


def test_without_options_it_shows_who_they_are(bureau: Bureau) -> None:
    bureau.create("Harbour", "--unverified", people=("Ben", "Dora"))
    said = bureau.does("roster", "Harbour")
    assert "roster 1: 2 of 2" in said
    assert "Dora  (card never compared)" in said
    assert "24 paper words" not in said


def test_before_arming_a_change_is_in_force_at_once_and_gives_the_same_key_to_other_people(
    bureau: Bureau,
) -> None:
    id = bureau.create()
    row = bureau.world.records.dossier(id)
    assert row is not None
    said = bureau.does("roster", "Harbour", "--add", "Dora", "--remove", "Cem", answers=(bureau.words(),))
    assert "roster 2 is in force" in said
    assert epoch(bureau, id) == 2
    assert key_of(bureau, id, "Ben", "Dora") == row.recipient
    assert bureau.refused("roster", "Harbour", "--threshold", "1") == "not-compared"
    bureau.compare("Dora")
    bureau.does("roster", "Harbour", "--threshold", "1", answers=(bureau.words(),))
    assert key_of(bureau, id, "Dora") == row.recipient


def test_a_second_change_waits_for_the_first_or_for_its_cancelling(bureau: Bureau) -> None:
    id = bureau.armed()
    bureau.does("roster", "Harbour", "--add", "Dora", answers=(bureau.words(),))
    assert bureau.refused("roster", "Harbour", "--threshold", "1") == "change-pending"
    assert "This is still in force" in bureau.does("roster", "Harbour")
    bureau.does("cancel", "Harbour")
    assert "This is still in force" not in bureau.does("roster", "Harbour")
    bureau.does("checkin")
    assert epoch(bureau, id) == 1
    bureau.does("roster", "Harbour", "--threshold", "1", answers=(bureau.words(),))
    for _ in range(3):
        bureau.world.skip(50 * MINUTE)
        bureau.does("checkin")
    assert epoch(bureau, id) == 2


def test_the_words_of_somebody_else_deal_nothing(bureau: Bureau) -> None:
    id = bureau.create()
    change = ("roster", "Harbour", "--threshold", "1")
    assert bureau.refused(*change, answers=(bureau.words("Ben"),)) == "wrong-words"
    assert epoch(bureau, id) == 1
    with bureau.home() as home:
        assert home.pending(id, "roster-2") is None


def test_a_deal_that_the_server_exchanged_is_not_dealt_from(bureau: Bureau) -> None:
    id = bureau.create()
    forged = rosters.write_deal(SealedDeal(bytes.fromhex(id), 1, bytes(32)))
    sealed = age.seal(forged, bureau.ana.keyring.deal_recipient, lambda count: b"7" * count)
    with bureau.world.database.transaction():
        bureau.world.database.run("UPDATE dossiers SET deal = :deal WHERE id = :id", deal=sealed, id=id)
    assert bureau.refused("roster", "Harbour", "--threshold", "1", answers=(bureau.words(),)) == "wrong-deal"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--threshold", "3"), "bad-threshold"),
        (("--threshold", "0"), "bad-threshold"),
        (("--remove", "Ben"), "bad-threshold"),
        (("--remove", "Dora"), "no-such-collaborator"),
        (("--add", "Ben"), "named-twice"),
        (("--add", "Nobody"), "no-such-collaborator"),
        (("--threshold", "2"), "nothing-changed"),
        (("--remove", "Ben", "--remove", "Cem", "--add", "Dora", "--threshold", "1"), "not-compared"),
    ],
)
def test_a_roster_that_cannot_be_is_refused_before_the_words_are_asked_for(
    bureau: Bureau, options: tuple[str, ...], code: str
) -> None:
    bureau.create()
    assert bureau.refused("roster", "Harbour", *options) == code


def test_a_collaborator_cannot_change_the_roster(bureau: Bureau) -> None:
    id = bureau.create()
    assert bureau.refused("roster", id[:8], "--threshold", "1", who="Ben") == "not-a-journalist"
