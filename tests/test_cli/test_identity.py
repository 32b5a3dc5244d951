import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import session
from cli.home import KEYRING, Home
from test_cli.conftest import PASSPHRASE, Ran, a_person_at_the_keyboard
from test_cli.loopback import Loopback, a_person
from vault import wire
from vault.errors import WrongPassphrase
from vault.identity import ContactCard

Run = Callable[..., Ran]


@pytest.fixture
def ana(run: Run, server: Loopback) -> ContactCard:
    """Somebody who has joined, and is at the keyboard of the tests."""
    ran = run("join", server.invite(), "--label", "Ana", answers=a_person_at_the_keyboard())
    assert ran.code == 0, ran.err
    with Home.open() as home:
        return home.card


@pytest.fixture
def bea(ana: ContactCard) -> ContactCard:
    _, card = a_person("Bea")
    with Home.open() as home:
        home.pin(card, "Bea", "collaborator")
    return card


def an_address(**more: object) -> wire.AddressState:
    fields = {
        "id": "0a" * 8,
        "address": "ana@example.org",
        "language": "en",
        "subject": "Reminder",
        "phrase": "blue heron",
        "confirmed": False,
        "failing_since": None,
        "removal": None,
    }
    return wire.AddressState(**{**fields, **more})


def _account(server: Loopback, card: ContactCard, **more: object) -> None:
    import msgspec

    server.answers["GET", "/account"] = msgspec.structs.replace(server.account(card), **more)


def test_my_card_is_shown_in_both_lists_without_a_passphrase(
    run: Run, ana: ContactCard, server: Loopback
) -> None:
    asked = len(server.asked)
    shown = run("card", "show")
    assert " ".join(ana.fingerprint.words("en")) in shown.out
    assert " ".join(ana.fingerprint.words("es")) in shown.out
    only = json.loads(run("card", "show", "--language", "es", "--json").out)
    assert only["words"] == {"es": list(ana.fingerprint.words("es"))}
    assert len(server.asked) == asked


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_right_words_mark_a_card_as_compared(run: Run, bea: ContactCard, language: str) -> None:
    heard = bea.fingerprint.words(language)
    ran = run("card", "compare", "bea", answers=[" ".join(heard[:4]), " ".join(heard[4:]).upper()])
    assert ran.code == 0, ran.err
    with Home.open() as home:
        assert home.card_named("Bea").compared is not None
    assert "never compared" not in run("card", "show", "Bea").out


def test_wrong_words_mark_nothing_and_say_that_the_card_differs(run: Run, bea: ContactCard) -> None:
    ran = run("card", "compare", "Bea", answers=[" ".join(a_person("Eve")[1].fingerprint.words())])
    assert (ran.code, "card-differs" in ran.err) == (6, True)
    with Home.open() as home:
        assert home.card_named("Bea").compared is None


def test_the_words_to_be_heard_are_not_on_the_screen_before_they_are_typed(
    run: Run, bea: ContactCard
) -> None:
    ran = run("card", "compare", "Bea", answers=[])
    assert ran.code == 2
    words = bea.fingerprint.words()
    assert not any(" ".join(pair) in ran.err for pair in itertools.pairwise(words))


def test_a_misspelled_word_may_be_asked_for_again(run: Run, bea: ContactCard) -> None:
    heard = " ".join(bea.fingerprint.words())
    assert run("card", "compare", "Bea", answers=["xqz " * 10, heard]).code == 0
    assert run("card", "compare", "Bea", answers=["xqz " * 10] * 3).code == 7


def test_somebody_who_joined_since_is_looked_up_on_the_server(
    run: Run, ana: ContactCard, server: Loopback
) -> None:
    _, carlos = a_person("Carlos")
    _account(server, ana, links=(wire.Link(carlos.envelope.decode(), "Carlos", "collaborator", 1),))
    ran = run("card", "compare", "Carlos", answers=[PASSPHRASE, " ".join(carlos.fingerprint.words())])
    assert ran.code == 0, ran.err


def test_a_card_that_the_server_changed_later_is_pointed_out_and_not_taken(
    run: Run, bea: ContactCard, ana: ContactCard, server: Loopback
) -> None:
    _, forged = a_person("Bea")
    _account(server, ana, links=(wire.Link(forged.envelope.decode(), "Bea", "collaborator", 1),))
    ran = run("card", "show", "Carlos", answers=[PASSPHRASE])
    assert ran.code == 4
    assert "another card for Bea" in ran.err
    with Home.open() as home:
        assert home.card_named("Bea").card.hash == bea.hash


def test_a_journalist_whom_no_invite_named_is_never_pinned_from_the_server(ana: ContactCard) -> None:
    _, forged = a_person("Ana's editor")
    with Home.open() as home:
        session.learn_links(home, (wire.Link(forged.envelope.decode(), "Editor", "journalist", 1),))
        assert home.cards() == []


def test_an_address_is_added_with_a_phrase_of_ones_own(run: Run, ana: ContactCard, server: Loopback) -> None:
    server.answers["POST", "/addresses"] = an_address()
    ran = run("address", "add", "ana@example.org", answers=["blue heron", PASSPHRASE])
    assert ran.code == 0, ran.err
    assert "afterword address confirm" in ran.out
    assert run("address", "add", "ana@example.org", answers=["", PASSPHRASE]).code == 2
    assert run("address", "add", "a@b.org", "--phrase", "x" * 61, answers=[PASSPHRASE]).code == 7


def test_an_address_is_confirmed_with_its_code(run: Run, ana: ContactCard, server: Loopback) -> None:
    server.answers["POST", "/addresses/confirm"] = an_address(confirmed=True)
    assert "is confirmed" in run("address", "confirm", "123456", answers=[PASSPHRASE]).out
    assert "is confirmed" in run("address", "confirm", answers=["123456", PASSPHRASE]).out


def test_addresses_are_listed_with_what_is_wrong_with_them(
    run: Run, ana: ContactCard, server: Loopback
) -> None:
    assert "No address yet" in run("address", "list", answers=[PASSPHRASE]).out
    _account(server, ana, addresses=(an_address(failing_since=1_790_000_000_000),))
    shown = run("address", "list", answers=[PASSPHRASE]).out
    assert "not confirmed yet" in shown
    assert "letters fail since" in shown


@pytest.mark.parametrize("change", [None, "c" * 64])
def test_an_address_is_removed_at_once_or_after_cooling(
    run: Run, ana: ContactCard, server: Loopback, change: str | None
) -> None:
    _account(server, ana, addresses=(an_address(),))
    server.answers["DELETE", "/addresses/" + "0a" * 8] = wire.AddressRemoved(change)
    shown = run("address", "remove", "ANA@example.org", answers=[PASSPHRASE]).out
    assert ("cooling" in shown) == (change is not None)
    assert run("address", "remove", "nobody@example.org", answers=[PASSPHRASE]).code == 4


def test_a_new_passphrase_opens_and_the_old_one_no_longer_does(
    run: Run, ana: ContactCard, tmp_path: Path
) -> None:
    new = "another five random words"
    assert run("passphrase", answers=[PASSPHRASE, new, new]).code == 0
    with Home.open() as home:
        assert home.unlock(new).sign.verify_key == ana.verify_key
        with pytest.raises(WrongPassphrase):
            home.unlock(PASSPHRASE)
    (tmp_path / "file").write_text(PASSPHRASE + "\n")
    ran = run("passphrase", "--new-passphrase-file", str(tmp_path / "file"), answers=[new])
    assert ran.code == 0, ran.err
    with Home.open() as home:
        home.unlock(PASSPHRASE)


def test_a_wrong_passphrase_changes_nothing(run: Run, ana: ContactCard, home_path: Path) -> None:
    before = (home_path / KEYRING).read_bytes()
    ran = run("passphrase", answers=["not the passphrase", "a" * 20, "a" * 20])
    assert (ran.code, "wrong-passphrase" in ran.err) == (6, True)
    assert (home_path / KEYRING).read_bytes() == before


def test_wiping_is_confirmed_and_leaves_nothing(run: Run, ana: ContactCard, home_path: Path) -> None:
    (home_path / "dossiers").mkdir()
    (home_path / "dossiers" / "object").write_bytes(b"sealed")
    (home_path / "dossiers" / "link").symlink_to("/etc/passwd")
    ran = run("wipe", answers=["yes"])
    assert (ran.code, "not-confirmed" in ran.err) == (3, True)
    assert (home_path / KEYRING).exists()
    ran = run("wipe", answers=["wipe"])
    assert ran.code == 0, ran.err
    assert "cannot be undone" in ran.err
    assert not home_path.exists()
    assert Path("/etc/passwd").exists()


def test_what_is_wiped_was_overwritten_first_and_the_keyring_before_all_else(
    run: Run, ana: ContactCard, home_path: Path
) -> None:
    import os

    held = os.open(home_path / KEYRING, os.O_RDONLY)
    before = (home_path / KEYRING).read_bytes()
    assert run("wipe", "--yes").code == 0
    assert os.pread(held, len(before), 0)[:30] != before[:30]
    os.close(held)


def test_no_command_works_before_joining(run: Run) -> None:
    for arguments in (["card", "show"], ["address", "list"], ["passphrase"], ["status"], ["wipe", "--yes"]):
        ran = run(*arguments)
        assert (ran.code, "no-home" in ran.err) == (3, True), arguments
