import os
import secrets
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli import disk
from cli.home import KEYRING, Home
from test_cli.loopback import a_person
from vault import age, identity, titles
from vault.errors import BadUsage, Damaged, NotFound, Refused, Untrusted, WrongPassphrase

ID, OTHER = "ab" * 16, "abcd" + "00" * 14
PASSPHRASE = "five random words here"


def a_home(path: Path, joined: bool = True) -> tuple[Home, identity.Keyring]:
    keyring, card = a_person("Ana")
    sealed = identity.write_keyring(keyring, PASSPHRASE, secrets.token_bytes, work_factor=2)
    home = Home.create(
        path, url="http://127.0.0.1:1", server=a_person("Server", "server")[1], card=card, keyring=sealed
    )
    if joined:
        home.finish_joining(5)
    return home, keyring


def a_dossier(home: Home, keyring: identity.Keyring, id: str = ID, title: str = "Fishing licences") -> None:
    sealed = age.seal(titles.write_title(id, title), keyring.seal.recipient, secrets.token_bytes)
    home.remember_dossier(id, "journalist", epoch=1, roster_hash="0" * 64, title_sealed=sealed)


def test_before_joining_there_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        Home.open(tmp_path / "none")
    assert refused.value.code == "no-home"
    assert not (tmp_path / "none").exists()


def test_a_home_that_was_interrupted_while_joining_opens_for_joining_only(tmp_path: Path) -> None:
    a_home(tmp_path / "home", joined=False)[0].close()
    with pytest.raises(Refused) as refused:
        Home.open(tmp_path / "home")
    assert refused.value.code == "no-home"
    with Home.open(tmp_path / "home", unfinished=True) as home:
        assert home.joined is None


def test_nobody_else_can_read_anything_of_a_home_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home, _ = a_home(tmp_path / "home")
        home.next_seq()
        with home.lock("push"):
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in home.path.iterdir()}
            assert disk.exposed(home.path) == []
    finally:
        os.umask(before)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert {"keyring.age", "state.db", "state.db-wal", "push.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Refused) as refused:
        a_home(tmp_path)
    assert refused.value.code == "home-not-empty"
    assert (tmp_path / "thesis.txt").exists()


def test_what_an_interrupted_creation_left_is_begun_anew(tmp_path: Path) -> None:
    a_home(tmp_path / "home", joined=False)[0].close()
    (tmp_path / "home" / KEYRING).unlink()
    (tmp_path / "home" / ".keyring.age.x1").write_bytes(b"half")
    home, _ = a_home(tmp_path / "home")
    assert not (tmp_path / "home" / ".keyring.age.x1").exists()
    assert home.joined == 5


def test_a_home_is_never_made_over_another(tmp_path: Path) -> None:
    a_home(tmp_path / "home")
    with pytest.raises(Refused) as refused:
        a_home(tmp_path / "home")
    assert refused.value.code == "home-exists"


def test_the_right_passphrase_opens_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    home, keyring = a_home(tmp_path / "home")
    assert home.unlock(PASSPHRASE).sign.verify_key == keyring.sign.verify_key
    with pytest.raises(WrongPassphrase):
        home.unlock("five random words her")


def test_a_keyring_swapped_for_another_persons_is_refused(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    stranger = identity.write_keyring(a_person("Eve")[0], PASSPHRASE, secrets.token_bytes, work_factor=2)
    (home.path / KEYRING).write_bytes(stranger)
    with pytest.raises(Damaged):
        home.unlock(PASSPHRASE)


def test_numbers_are_never_given_twice_not_even_to_a_second_process(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    with Home.open(home.path) as second:
        given = [home.next_seq(), second.next_seq(), home.next_seq()]
        assert given == [1, 2, 3]
        second.seen_seq(40)
        second.seen_seq(7)
        assert home.next_seq() == 41


def test_a_committed_number_needs_no_goodbye(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    code = "import sys, os; from pathlib import Path; from cli.home import Home; "
    code += "Home.open(Path(sys.argv[1])).next_seq(); os._exit(9)"
    subprocess.run([sys.executable, "-P", "-c", code, str(home.path)], check=False)
    assert home.next_seq() == 2


def test_a_home_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    home.db.execute("PRAGMA user_version = 99")
    home.close()
    with pytest.raises(Refused) as refused:
        Home.open(tmp_path / "home")
    assert refused.value.code == "newer-home"


def test_titles_are_nowhere_in_the_folder_in_clear(tmp_path: Path) -> None:
    home, keyring = a_home(tmp_path / "home")
    a_dossier(home, keyring, title="Operation Zarzuela")
    assert home.title(home.dossiers()[0], keyring) == "Operation Zarzuela"
    home.close()
    for each in (tmp_path / "home").iterdir():
        assert b"Zarzuela" not in each.read_bytes()


def test_a_dossier_is_found_by_title_or_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    home, keyring = a_home(tmp_path / "home")
    a_dossier(home, keyring)
    a_dossier(home, keyring, OTHER, "Señores de la costa")
    assert home.dossier_named("fishing LICENCES ", keyring).id == ID
    assert home.dossier_named("Sen\u0303ores de la costa", keyring).id == OTHER
    assert home.dossier_named("abab", keyring).id == ID


def test_a_title_that_was_spoilt_hides_neither_its_dossier_nor_the_others(tmp_path: Path) -> None:
    home, keyring = a_home(tmp_path / "home")
    a_dossier(home, keyring)
    a_dossier(home, keyring, OTHER, "Zarzuela")
    home.db.execute("UPDATE dossiers SET title = ? WHERE id = ?", (b"spoilt", ID))
    assert home.dossier_named("Zarzuela", keyring).id == OTHER
    assert home.dossier_named("abab", keyring).id == ID


def test_a_name_that_fits_nothing_or_two_is_refused_with_what_there_is(tmp_path: Path) -> None:
    home, keyring = a_home(tmp_path / "home")
    a_dossier(home, keyring)
    with pytest.raises(NotFound) as none:
        home.dossier_named("fish", keyring)
    assert none.value.code == "no-such-dossier"
    assert "Fishing licences" in str(none.value)
    a_dossier(home, keyring, OTHER)
    with pytest.raises(BadUsage) as two:
        home.dossier_named("Fishing licences", keyring)
    assert two.value.code == "ambiguous"


def test_a_title_once_learned_outlives_an_update_without_it(tmp_path: Path) -> None:
    home, keyring = a_home(tmp_path / "home")
    a_dossier(home, keyring)
    home.remember_dossier(ID, "journalist", epoch=2, roster_hash="1" * 64, head_hash="2" * 64, bundles=3)
    (known,) = home.dossiers()
    assert (known.epoch, known.bundles, known.head_hash) == (2, 3, "2" * 64)
    assert home.title(known, keyring) == "Fishing licences"


def test_a_pinned_card_that_changes_is_refused_by_person_and_by_label(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    keyring, bea = a_person("Bea")
    home.pin(bea, "Bea", "collaborator")
    renewed = identity.read_card(identity.write_card("Bea B", keyring, 1_790_000_000_001, "cli"))
    for card, label in ((renewed, "Bea B"), (a_person("Bea")[1], "bea ")):
        with pytest.raises(Untrusted) as refused:
            home.pin(card, label, "collaborator")
        assert refused.value.code == "card-changed"
    assert [each.card.hash for each in home.cards()] == [bea.hash]


def test_pinning_again_does_not_forget_that_a_card_was_compared(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    _, bea = a_person("Bea")
    home.pin(bea, "Bea", "collaborator")
    assert home.card_named("bea").compared is None
    home.mark_compared(bea.hash, 77)
    home.pin(bea, "Bea", "collaborator")
    assert home.card_named("Bea").compared == 77


def test_somebody_can_be_both_colleague_and_journalist_with_one_comparison(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    _, bea = a_person("Bea")
    home.pin(bea, "Bea", "collaborator")
    home.pin(bea, "Bea", "journalist")
    home.mark_compared(bea.hash, 77)
    assert [(each.role, each.compared) for each in home.cards()] == [("collaborator", 77), ("journalist", 77)]


def test_an_unknown_card_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    home.pin(a_person("Bea")[1], "Bea", "collaborator")
    with pytest.raises(NotFound, match="Bea") as refused:
        home.card_named("Carlos")
    assert refused.value.code == "no-such-card"
    with pytest.raises(NotFound):
        home.mark_compared(b"\0" * 32, 1)


def test_a_second_roster_for_one_epoch_is_a_fork(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    home.remember_roster(ID, 1, b"first")
    home.remember_roster(ID, 1, b"first")
    home.remember_roster(ID, 2, b"second")
    with pytest.raises(Untrusted) as refused:
        home.remember_roster(ID, 1, b"other")
    assert refused.value.code == "roster-forked"
    assert home.rosters(ID) == [b"first", b"second"]


def test_what_is_pending_survives_until_it_is_dropped(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    home.save_pending(ID, "roster", b"\x00sealed")
    home.close()
    with Home.open(tmp_path / "home") as again:
        assert again.pending(ID, "roster") == b"\x00sealed"
        again.drop_pending(ID, "roster")
        assert again.pending(ID, "roster") is None


def test_a_transaction_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")

    def fail() -> None:
        with home.transaction():
            home.remember("one", b"1")
            assert home.next_seq() == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert home.fact("one") is None
    assert home.next_seq() == 1


def test_a_damaged_database_is_no_home_to_guess_about(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    home.db.execute("DELETE FROM facts WHERE name = 'server'")
    home.close()
    with pytest.raises(Damaged):
        Home.open(tmp_path / "home")
    (tmp_path / "home" / "state.db").write_bytes(b"not a database at all" * 400)
    for side in ("state.db-wal", "state.db-shm"):
        (tmp_path / "home" / side).unlink(missing_ok=True)
    with pytest.raises(sqlite3.DatabaseError):
        Home.open(tmp_path / "home")
