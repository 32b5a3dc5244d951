import pytest

from cli import handover
from test_cli.bureau import Bureau
from test_cli.test_roster import epoch, key_of
from vault import sharing, statements
from vault.clock import HOUR
from vault.errors import Malformed
from vault.release import withheld_share


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


@pytest.mark.parametrize("cut", ["lost", "unsent"])
def test_a_change_that_was_cut_on_its_way_is_sent_again_as_it_was_without_the_words(
    bureau: Bureau, cut: str
) -> None:
    id = bureau.create()
    getattr(bureau, cut).extend([f"POST /dossiers/{id}/rosters"] * 5)
    change = ("roster", "Harbour", "--threshold", "1")
    assert bureau.refused(*change, answers=(bureau.words(),)) == "unreachable"
    with bureau.home() as home:
        assert len(home.rosters(id)) == 1
    bureau.does("checkin")
    assert epoch(bureau, id) == 2
    bodies = {body for asked, body in bureau.asked if asked == f"POST /dossiers/{id}/rosters"}
    assert len(bodies) == 1


def test_killed_after_saving_the_next_command_installs_what_was_dealt_and_asks_for_no_words(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = bureau.create()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(handover, "_send", killed)
        assert bureau.run("Ana", "roster", "Harbour", "--add", "Dora", answers=(bureau.words(),)).code == 130
    assert epoch(bureau, id) == 1
    assert "roster 2 is in force" in bureau.does("roster", "Harbour")
    assert epoch(bureau, id) == 2


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


def test_the_custodians_word_on_what_it_withholds_now_is_kept(bureau: Bureau) -> None:
    id = bureau.create()
    bureau.does("roster", "Harbour", "--threshold", "1", answers=(bureau.words(),))
    with bureau.home() as home:
        kept = home.pending(id, "installed-2")
    assert kept is not None
    server = bureau.world.custodian
    said = statements.read(kept, server.card.verify_key, statements.Acknowledgement)
    row = bureau.world.records.dossier(id)
    assert row is not None
    promised = sharing.release_commitment(
        bureau.ana.keyring.sign.verify_key.raw, bytes.fromhex(id), 2, withheld_share(server, row)
    )
    assert said.commitment == promised.hex()
