import pytest

from cli import roster as roster_module
from test_cli.bureau import Bureau
from vault import age, release, rosters, sharing
from vault.clock import HOUR, MINUTE
from vault.errors import Malformed
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


def test_once_armed_a_change_cools_and_the_next_check_in_hands_it_over(bureau: Bureau) -> None:
    id = bureau.armed()
    row = bureau.world.records.dossier(id)
    assert row is not None
    said = bureau.does("roster", "Harbour", "--add", "Dora", answers=(bureau.words(),))
    assert "This is still in force" in said
    assert epoch(bureau, id) == 1
    bureau.does("checkin")
    assert epoch(bureau, id) == 1
    bureau.world.skip(HOUR)
    bureau.does("checkin")
    bureau.world.skip(HOUR)
    assert "roster 2 is in force" in bureau.does("checkin")
    assert epoch(bureau, id) == 2
    assert key_of(bureau, id, "Cem", "Dora") == row.recipient


def test_while_it_cools_the_server_has_nothing_that_lets_it_take_the_change_early(bureau: Bureau) -> None:
    bureau.armed()
    bureau.does("roster", "Harbour", "--add", "Dora", answers=(bureau.words(),))
    (sent,) = [body for asked, body in bureau.asked if asked.endswith("/rosters") and body]
    assert b'"corrections":null' in sent


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


def test_a_change_cancelled_from_another_computer_is_forgotten_here_too(bureau: Bureau) -> None:
    id = bureau.armed()
    bureau.does("roster", "Harbour", "--add", "Dora", answers=(bureau.words(),))
    with bureau.home() as home:
        blob = home.pending(id, "roster-2")
        assert blob is not None
    bureau.does("cancel", "Harbour")
    with bureau.home() as home:
        assert home.pending(id, "roster-2") is None
        home.save_pending(id, "roster-2", blob)
    assert "was cancelled" in bureau.does("checkin")
    with bureau.home() as home:
        assert home.pending(id, "roster-2") is None


def test_a_change_whose_answer_was_lost_is_sent_again_as_it_was(bureau: Bureau) -> None:
    id = bureau.create()
    path = f"/dossiers/{id}/rosters"
    bureau.unsent.extend([path] * 5)
    with bureau.home() as home:
        assert home.pending(id, "roster-2") is None
    # The first request for this address is a GET, which is retried; so all of them are cut once its turn has come.
    assert bureau.run("Ana", "roster", "Harbour", "--threshold", "1", answers=(bureau.words(),)).code == 8
    bureau.unsent.clear()
    bureau.does("roster", "Harbour", "--threshold", "1", answers=(bureau.words(),))
    assert epoch(bureau, id) == 2


def test_killed_after_saving_the_next_command_installs_what_was_dealt_and_asks_for_no_words(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = bureau.create()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(roster_module.handover, "_send", killed)
        assert bureau.run("Ana", "roster", "Harbour", "--add", "Dora", answers=(bureau.words(),)).code == 130
    assert epoch(bureau, id) == 1
    assert "roster 2 is in force" in bureau.does("roster", "Harbour")
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
    assert bureau.refused("roster", id[:8], "--threshold", "1", who="Ben") == "not-journalist"


def test_a_server_that_forgot_a_roster_gets_it_again_and_nothing_is_dealt_meanwhile(bureau: Bureau) -> None:
    id = bureau.create()
    backup = bureau.back_up()
    bureau.does("roster", "Harbour", "--add", "Dora", answers=(bureau.words(),))
    bureau.does("arm", "Harbour", "--anyway")
    bureau.restore(backup)
    row = bureau.world.records.dossier(id)
    assert row is not None
    assert row.epoch == 1
    said = bureau.does("roster", "Harbour")
    assert "roster 2 is in force" in said
    assert epoch(bureau, id) == 2
    assert key_of(bureau, id, "Ben", "Dora") == row.recipient


def test_an_armed_server_that_forgot_a_roster_lets_it_cool_again(bureau: Bureau) -> None:
    id = bureau.armed()
    backup = bureau.back_up()
    bureau.does("roster", "Harbour", "--add", "Dora", answers=(bureau.words(),))
    bureau.world.skip(HOUR)
    bureau.does("checkin")
    bureau.world.skip(HOUR)
    bureau.does("checkin")
    assert epoch(bureau, id) == 2
    bureau.restore(backup)
    assert "had forgotten roster 2" in bureau.does("checkin")
    assert bureau.refused("roster", "Harbour", "--threshold", "1") == "epochs-differ"
    bureau.world.skip(HOUR)
    bureau.does("checkin")
    bureau.world.skip(HOUR)
    assert "roster 2 is in force" in bureau.does("checkin")
    assert epoch(bureau, id) == 2


def test_a_saved_change_that_does_not_read_is_said_to_be_so(bureau: Bureau) -> None:
    id = bureau.create()
    with bureau.home() as home:
        home.save_pending(id, "roster-2", b"{")
    assert bureau.refused("roster", "Harbour") == Malformed.code
