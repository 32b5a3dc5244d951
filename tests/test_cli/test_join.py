import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import join
from cli.home import Home
from test_cli.conftest import PASSPHRASE, Ran, a_person_at_the_keyboard, words_shown
from test_cli.loopback import Loopback, a_person
from vault import identity, wire
from vault.errors import BadUsage

Run = Callable[..., Ran]
PIN = "a" * 22


def _join(run: Run, url: str, *more: str, **how: object) -> Ran:
    return run("join", url, *more, **{"answers": a_person_at_the_keyboard(), **how})


def test_a_journalist_joins_and_is_told_what_comes_next(run: Run, server: Loopback) -> None:
    ran = _join(run, server.invite(), "--label", "Ana")
    assert ran.code == 0, ran.err
    assert "afterword address add" in ran.out
    with Home.open() as home:
        assert home.card.card.label == "Ana"
        assert " ".join(home.card.fingerprint.words()) in ran.out
        assert server.accounts[home.card.card.verify].hash == home.card.hash
        assert home.fact("role") == b"journalist"
        keyring = home.unlock(PASSPHRASE)
        words = words_shown(ran.err)
        again = identity.Keyring.from_seed(identity.RootSeed.from_words(words))
        assert again.sign.verify_key == keyring.sign.verify_key
    assert f"{server.url}/join#{server.card.fingerprint.write()}" in ran.err


def test_the_words_are_never_written_anywhere(run: Run, server: Loopback, home_path: Path) -> None:
    ran = _join(run, server.invite())
    kept = b"".join(each.read_bytes() for each in home_path.iterdir())
    words = words_shown(ran.err)
    for pair in itertools.pairwise(words):  # one word alone may well stand in a table's name
        assert " ".join(pair).encode() not in kept
        assert " ".join(pair) not in ran.out


def test_a_collaborator_pins_the_journalist_of_the_invite(run: Run, server: Loopback) -> None:
    _, ana = a_person("Ana")
    ran = _join(run, server.invite(ana), "--label", "Bea", "--language", "es", "--json")
    assert ran.code == 0, ran.err
    answer = json.loads(ran.out)
    assert (answer["role"], answer["inviter"]) == ("collaborator", "Ana")
    with Home.open() as home:
        (known,) = home.cards()
        assert (known.card.hash, known.label, known.role, known.compared) == (
            ana.hash,
            "Ana",
            "journalist",
            None,
        )


def test_a_second_invite_links_and_asks_for_no_new_words(run: Run, server: Loopback) -> None:
    _, ana = a_person("Ana")
    _, other_ana = a_person("Ana")
    _join(run, server.invite(ana), "--label", "Bea")
    ran = run("join", server.invite(other_ana))
    assert ran.code == 0, ran.err
    assert "24 words" not in ran.err
    with Home.open() as home:
        assert {each.card.hash for each in home.cards()} == {ana.hash, other_ana.hash}
        assert len({each.label for each in home.cards()}) == 2


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "#",
        "#code",
        f"#code.{PIN}.",
        f"#.{PIN}",
        "#code.short",
        f"#code.{PIN}.{PIN[:-1]}",
        f"#a.{PIN}.{PIN}.{PIN}",
    ],
)
def test_an_invite_without_its_whole_pin_is_refused_and_nothing_is_sent(
    run: Run, server: Loopback, tail: str
) -> None:
    ran = run("join", f"{server.url}/join{tail}")
    assert ran.code == 2
    assert "invite-without-pin" in ran.err
    assert server.asked == []


@pytest.mark.parametrize("url", ["hello", "http://example.org/join#a.b", "https://example.org/"])
def test_what_is_no_invite_is_refused(url: str) -> None:
    with pytest.raises(BadUsage):
        join.read_invitation(url)


def test_an_invite_for_another_server_is_refused_before_any_word_is_shown(run: Run, server: Loopback) -> None:
    _, stranger = a_person("Other", "server")
    ran = run("join", f"{server.url}/join#code.{stranger.fingerprint.write()}")
    assert (ran.code, "wrong-server" in ran.err) == (6, True)
    assert server.asked == ["GET /server"]
    assert not Home.exists()


def test_an_invite_of_another_server_is_not_taken_into_an_old_home(run: Run, server: Loopback) -> None:
    _join(run, server.invite())
    ran = run("join", f"{server.url}/join#code.{a_person('Other', 'server')[1].fingerprint.write()}")
    assert (ran.code, "other-server" in ran.err) == (3, True)


@pytest.mark.parametrize("shown", ["another card", "nobody"])
def test_a_journalist_other_than_the_invites_is_not_believed(run: Run, server: Loopback, shown: str) -> None:
    _, ana = a_person("Ana")
    url = server.invite(ana)
    code = next(iter(server.invites))
    server.invites[code] = a_person("Ana")[1] if shown == "another card" else None
    ran = _join(run, url)
    assert (ran.code, "wrong-inviter" in ran.err) == (6, True)
    with Home.open(unfinished=True) as home:
        assert home.cards() == []
        assert home.joined is None
    server.invites[code] = ana
    assert run("join", url).code == 0


def test_a_colleagues_invite_shortened_by_its_pin_spends_nothing_for_good(run: Run, server: Loopback) -> None:
    _, ana = a_person("Ana")
    url = server.invite(ana)
    ran = _join(run, url.rpartition(".")[0])
    assert (ran.code, "invite-without-pin" in ran.err) == (6, True)
    assert run("join", url).code == 0


def test_words_that_were_not_written_down_keep_nothing(run: Run, server: Loopback) -> None:
    ran = run("join", server.invite(), "--label", "Ana", answers=["wrong"] * 9)
    assert (ran.code, "words-not-written" in ran.err) == (3, True)
    assert not Home.exists()
    assert "POST /accounts" not in server.asked
    assert _join(run, server.invite()).code == 0


def test_a_slip_in_a_word_may_be_mended(run: Run, server: Loopback) -> None:
    slips = iter(["oops", "OOPS"])
    right = a_person_at_the_keyboard()

    def answer(err: str) -> str:
        if err.rstrip().splitlines()[-1].startswith("Word"):
            return next(slips, right(err).upper())
        return right(err)

    assert run("join", server.invite(), answers=answer).code == 0


def test_a_label_that_could_mislead_is_refused_before_any_word_is_shown(run: Run, server: Loopback) -> None:
    ran = run("join", server.invite(), "--label", "Ana\u202e")
    assert (ran.code, "bad-label" in ran.err) == (7, True)
    assert not Home.exists()


@pytest.mark.parametrize("faults", [["cut"] * 5, [503] * 5])
def test_a_server_that_vanishes_while_joining_costs_only_the_same_command_again(
    run: Run, server: Loopback, faults: list[object]
) -> None:
    url = server.invite(a_person("Ana")[1])
    server.faults += [None, None, *faults]
    assert _join(run, url).code == 8
    with Home.open(unfinished=True) as home:
        first = home.card.hash
    ran = run("join", url)
    assert ran.code == 0, ran.err
    with Home.open() as home:
        assert home.card.hash == first
        assert len(server.accounts) == 1


def test_an_answer_that_got_lost_is_given_again_and_the_invite_counts_once(
    run: Run, server: Loopback
) -> None:
    server.faults += [None, None, "cut"]
    assert _join(run, server.invite()).code == 0
    assert server.asked.count("POST /accounts") == 2
    assert len(server.accounts) == 1


def test_an_interrupted_joining_may_go_on_with_a_new_invite_on_another_server(
    run: Run, server: Loopback
) -> None:
    ran = _join(run, f"{server.url}/join#unknown.{server.card.fingerprint.write()}")
    assert (ran.code, "invite-unknown" in ran.err) == (4, True)
    other = Loopback()
    try:
        ran = run("join", other.invite())
        assert ran.code == 0, ran.err
        with Home.open() as home:
            assert (home.url, home.server.hash) == (other.url, other.card.hash)
    finally:
        other.close()


def test_an_invite_used_by_somebody_else_is_refused(run: Run, server: Loopback) -> None:
    url = server.invite()
    server.used[next(iter(server.invites))] = a_person("Eve")[1].envelope
    ran = _join(run, url)
    assert (ran.code, "invite-used" in ran.err) == (5, True)


def _restored(run: Run, words: list[str], url: str) -> Ran:
    return run("join", "--from-words", url, answers=[" ".join(words), PASSPHRASE, PASSPHRASE])


def test_paper_words_restore_the_same_card_on_a_new_computer(
    run: Run, server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_shown(_join(run, server.invite()).err)
    with Home.open() as home:
        old = home.card
    _, bea = a_person("Bea")
    server.answers["GET", "/account"] = wire.AccountState(
        old.envelope.decode(),
        "journalist",
        17,
        0,
        0,
        0,
        (),
        (wire.Link(bea.envelope.decode(), "Bea", "collaborator", 1),),
        (),
        False,
    )
    monkeypatch.setenv("AFTERWORD_HOME", str(tmp_path / "new"))
    ran = _restored(run, words, f"{server.url}/join#{server.card.fingerprint.write()}")
    assert ran.code == 0, ran.err
    with Home.open() as home:
        assert home.card.hash == old.hash
        assert home.next_seq() == 18
        assert home.unlock(PASSPHRASE).sign.verify_key == old.verify_key
        assert [(each.label, each.compared) for each in home.cards()] == [("Bea", None)]


def test_words_of_nobody_restore_nothing(run: Run, server: Loopback) -> None:
    words = identity.RootSeed(bytes(32)).words()
    ran = _restored(run, list(words), f"{server.url}/join#{server.card.fingerprint.write()}")
    assert (ran.code, "no-account" in ran.err) == (4, True)
    assert not Home.exists()


def test_words_typed_one_to_a_line_with_a_slip_are_asked_for_again(
    run: Run, server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_shown(_join(run, server.invite()).err)
    monkeypatch.setenv("AFTERWORD_HOME", str(tmp_path / "new"))
    slip = ["xqzw", *words[1:]]
    url = f"{server.url}/join#{server.card.fingerprint.write()}"
    answers = [*slip, *(f"{place}. {word}" for place, word in enumerate(words, 1)), PASSPHRASE, PASSPHRASE]
    assert run("join", "--from-words", url, answers=answers).code == 0


def test_restoring_over_a_home_is_refused(run: Run, server: Loopback) -> None:
    words = words_shown(_join(run, server.invite()).err)
    ran = _restored(run, words, f"{server.url}/join#{server.card.fingerprint.write()}")
    assert (ran.code, "home-exists" in ran.err) == (3, True)


def test_restoring_from_another_server_is_refused_before_signing_in(run: Run, server: Loopback) -> None:
    words = identity.RootSeed(bytes(32)).words()
    ran = _restored(run, list(words), f"{server.url}/join#{PIN}")
    assert (ran.code, "wrong-server" in ran.err) == (6, True)
    assert server.asked == ["GET /server"]
