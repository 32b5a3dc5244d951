"""What the server has promised, held against what it says now."""

import os
from pathlib import Path

import pytest

from cli import promises
from cli.home import Home
from vault import identity, statements, wire
from vault.identity import Keyring, RootSeed
from vault.statements import Acknowledgement

SERVER = Keyring.from_seed(RootSeed(os.urandom(32)))
ENTRIES = [f'{{"n":{n},"served":{n * 1000},"what":"checkin"}}' for n in range(1, 12)]
OTHERS = [each.replace("checkin", "moved") for each in ENTRIES]


def hashes(entries: list[str]) -> list[str]:
    found = ["0" * 64]
    for each in entries:
        found.append(promises.link(found[-1], each))
    return found


TRUE, FALSE = hashes(ENTRIES), hashes(ENTRIES[:3] + OTHERS[3:])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    keyring = Keyring.from_seed(RootSeed(os.urandom(32)))
    return Home.create(
        tmp_path / "home",
        url="https://server.example",
        server=identity.read_card(identity.write_card("server", SERVER, 1, "server")),
        card=identity.read_card(identity.write_card("Ana", keyring, 1, "cli")),
        keyring=b"sealed",
    )


def said(number: int, chain: list[str], life: str = "a" * 32) -> Acknowledgement:
    return Acknowledgement(
        server="1" * 64, account="2" * 64, statement="3" * 64, seq=number, life=life, lived=number * 1000,
        served=number * 1000, number=number, history=chain[number], commitment=None, created=number * 1000,
    )  # fmt: skip


def take(
    home: Home, given: Acknowledgement, chain: list[str] | None = None, entries: list[str] = ENTRIES
) -> str | None:
    """With `chain`, as the answer to a login or check-in; without, as that to any other statement."""
    presented = home.last_acknowledgement() if chain is not None else None
    kept = promises.last(home)
    links = (
        tuple(
            wire.HistoryEntry(n, entries[n - 1], chain[n]) for n in range(kept.number + 1, given.number + 1)
        )
        if chain is not None and kept is not None
        else ()
    )
    wrong = promises.take(home, statements.write(given, SERVER.sign), given, presented, links)
    return None if wrong is None else wrong.code


def test_a_chain_that_goes_on_is_kept_and_nothing_is_said(home: Home) -> None:
    for number in (1, 2, 5, 5, 9):
        assert take(home, said(number, TRUE), TRUE) is None
    assert [each.number for each in promises.heads(home)] == [1, 2, 5, 9]
    kept = promises.last(home)
    assert kept is not None
    assert kept.number == 9
    assert promises.standing(home) is None


def test_another_history_in_the_same_life_is_a_fork_and_is_said_from_then_on(home: Home) -> None:
    assert take(home, said(5, TRUE), TRUE) is None
    entries = ENTRIES[:3] + OTHERS[3:]
    assert take(home, said(7, FALSE), FALSE, entries) == "history-forked"
    standing = promises.standing(home)
    assert standing is not None
    assert "operator" in standing.sentence
    assert "Go on checking in" in standing.sentence


@pytest.mark.parametrize("asked", [True, False])
def test_another_hash_under_a_number_that_was_kept_is_a_fork_however_it_arrives(
    home: Home, asked: bool
) -> None:
    for number in (4, 6):
        assert take(home, said(number, TRUE), TRUE) is None
    assert take(home, said(4, FALSE), FALSE if asked else None) == "history-forked"


def test_a_lower_number_in_the_same_life_is_a_loss_that_is_not_admitted(home: Home) -> None:
    assert take(home, said(6, TRUE), TRUE) is None
    assert take(home, said(5, TRUE), TRUE) == "history-shorter"


def test_a_new_life_that_does_not_go_on_where_the_last_one_ended_has_gone_back_and_says_so(
    home: Home,
) -> None:
    assert take(home, said(6, TRUE), TRUE) is None
    assert take(home, said(4, FALSE, "b" * 32), FALSE) == "went-back"
    assert promises.standing(home) is None, "it is said once: the server knows it"
    kept = promises.last(home)
    assert kept is not None
    assert (kept.number, kept.life) == (4, "b" * 32), "from now on this one is presented"
    assert take(home, said(5, FALSE, "b" * 32), FALSE, ENTRIES[:3] + OTHERS[3:]) is None
    assert take(home, said(7, TRUE), TRUE) == "history-shorter", "a life that was over came back"


def test_entries_invented_behind_a_promise_do_not_lead_to_one_before_it(home: Home) -> None:
    assert take(home, said(6, TRUE), TRUE) is None
    presented, given = home.last_acknowledgement(), said(4, FALSE, "b" * 32)
    invented, hash = [], TRUE[6]
    for number in range(7, 7 + promises.PAGE):
        hash = promises.link(hash, "{}")
        invented.append(wire.HistoryEntry(number, "{}", hash))
    wrong = promises.take(home, statements.write(given, SERVER.sign), given, presented, invented)
    assert wrong is not None
    assert wrong.code == "went-back"


def test_a_restored_server_that_lost_nothing_of_hers_frightens_nobody(home: Home) -> None:
    assert take(home, said(4, TRUE), TRUE) is None
    assert take(home, said(6, TRUE, "b" * 32), TRUE) is None


def test_an_old_stored_answer_says_nothing_and_does_not_become_the_newest(home: Home) -> None:
    """What another command of the same home, or a repeated statement, brings in a little late."""
    for number in (3, 6):
        assert take(home, said(number, TRUE), TRUE) is None
    for number in (3, 4):
        assert take(home, said(number, TRUE)) is None
    kept = promises.last(home)
    assert kept is not None
    assert kept.number == 6


def test_heads_are_bounded_and_the_newest_stay(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "MOST_KEPT", 4)
    for number in range(1, 11):
        assert take(home, said(number, TRUE), TRUE) is None
    assert [each.number for each in promises.heads(home)] == [7, 8, 9, 10]


def test_a_spoilt_memory_of_promises_is_passed_over(home: Home) -> None:
    home.remember_acknowledgement(b"spoilt")
    assert take(home, said(3, TRUE), TRUE) is None
    kept = promises.last(home)
    assert kept is not None
    assert kept.number == 3


def test_the_first_release_that_was_seen_is_the_one_that_is_kept(home: Home) -> None:
    assert promises.kept_release(home, "ab") is None
    for text in ("first", "second"):
        promises.keep_release(home, "ab", wire.Released(text, None, (), ()))
    assert promises.kept_release(home, "ab") == wire.SeenRelease("first", None)
