import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.home import Home
from cli.remote import OBJECT_SIZE, Remote
from test_cli.loopback import Loopback, a_person, a_problem, no_pause
from test_cli.test_home import a_home
from vault import errors, identity, statements, wire
from vault.errors import StaleSequence, Unauthenticated, Unreachable, Untrusted

DOSSIER = "ab" * 16


@pytest.fixture
def remote(server: Loopback) -> Iterator[Remote]:
    with Remote(server.url, server.card, pause=no_pause) as one:
        yield one


def an_account(server: Loopback) -> identity.Keyring:
    keyring, card = a_person("Ana")
    server.accounts[card.card.verify] = card
    return keyring


def an_object() -> tuple[str, bytes]:
    data = secrets.token_bytes(OBJECT_SIZE)
    return hashlib.sha256(data).hexdigest(), data


def a_destroy(server: Loopback, seq: int) -> statements.Destroy:
    return statements.Destroy(server=server.card.hash.hex(), dossier=DOSSIER, seq=seq, created=1)


def test_a_server_with_another_card_is_refused_before_anything_is_said(server: Loopback) -> None:
    with Remote(server.url, a_person("Server", "server")[1], pause=no_pause) as remote:
        with pytest.raises(Untrusted) as refused:
            remote.sign_in(an_account(server))
        assert refused.value.code == "server-changed"
    assert server.asked == ["GET /server"]


def test_one_connection_serves_many_requests(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    remote.sign_in(an_account(server))
    remote.put_object(DOSSIER, name, data)
    for _ in range(5):
        remote.info()
        remote.get_object(DOSSIER, name)
    with pytest.raises(errors.NotFound):
        remote.call("GET", "/nothing", None, wire.ServerInfo)
    remote.sign_out()
    assert server.tokens == set()
    assert server.connections == 1


def test_a_session_that_ended_is_renewed_without_a_word(server: Loopback, remote: Remote) -> None:
    remote.sign_in(an_account(server))
    server.tokens.clear()
    assert remote.call("GET", "/account", None, wire.AccountState).seq == 0
    assert server.asked.count("POST /sessions") == 2


def test_a_stranger_is_not_signed_in_over_and_over(server: Loopback, remote: Remote) -> None:
    with pytest.raises(Unauthenticated):
        remote.sign_in(a_person("Eve")[0])
    with pytest.raises(Unauthenticated):
        remote.call("GET", "/account", None, wire.AccountState)
    assert server.asked.count("POST /sessions") == 1


def test_a_sign_in_whose_answer_got_lost_takes_a_new_nonce(server: Loopback, remote: Remote) -> None:
    keyring = an_account(server)
    server.faults += [None, None, "cut"]
    remote.sign_in(keyring)
    assert server.asked.count("POST /nonces") == 2
    assert remote.account_card is not None
    assert remote.account_card.verify_key == keyring.sign.verify_key


def test_a_server_that_answers_with_somebody_elses_account_is_refused(
    server: Loopback, remote: Remote
) -> None:
    keyring = an_account(server)
    grant = wire.SessionGrant("token", 1, a_person("Eve")[1].envelope.decode())
    server.answers["POST", "/sessions"] = grant
    with pytest.raises(Untrusted):
        remote.sign_in(keyring)


# Statements.


@pytest.fixture
def at_work(server: Loopback, remote: Remote, tmp_path: Path) -> Iterator[tuple[Home, identity.Keyring]]:
    home, keyring = a_home(tmp_path / "home")
    server.accounts[home.card.card.verify] = home.card
    remote.sign_in(keyring)
    yield home, keyring
    home.close()


def test_an_acknowledgement_is_verified_and_remembered(
    server: Loopback, remote: Remote, at_work: tuple[Home, identity.Keyring]
) -> None:
    home, keyring = at_work
    said = remote.submit(home, keyring, DOSSIER, lambda seq: a_destroy(server, seq))
    assert home.last_acknowledgement() == said.acknowledgement.encode()
    assert server.seq == 1


def test_a_number_below_the_servers_is_signed_anew_once(
    server: Loopback, remote: Remote, at_work: tuple[Home, identity.Keyring]
) -> None:
    home, keyring = at_work
    server.seq = 30
    remote.submit(home, keyring, DOSSIER, lambda seq: a_destroy(server, seq))
    assert server.seq == 31
    server.faults += [a_problem(409, "stale-sequence", seen=50), a_problem(409, "stale-sequence", seen=60)]
    with pytest.raises(StaleSequence):
        remote.submit(home, keyring, DOSSIER, lambda seq: a_destroy(server, seq))
    assert home.next_seq() == 61


def test_a_nonce_that_was_too_old_is_asked_for_anew(
    server: Loopback, remote: Remote, at_work: tuple[Home, identity.Keyring]
) -> None:
    home, keyring = at_work
    server.faults += [None, a_problem(409, "stale-nonce")]
    made = []

    def make(seq: int) -> statements.Resume:
        made.append(remote.nonce())
        return statements.Resume(server.card.hash.hex(), DOSSIER, seq, made[-1], 1)

    remote.submit(home, keyring, DOSSIER, make)
    assert len(set(made)) == 2


@pytest.mark.parametrize("lie", ["another statement", "another key", "another server"])
def test_an_acknowledgement_of_something_else_is_no_acknowledgement(
    server: Loopback, remote: Remote, at_work: tuple[Home, identity.Keyring], lie: str
) -> None:
    home, keyring = at_work
    signed = statements.write(a_destroy(server, 9), keyring.sign)
    stranger, strangers_card = a_person("Other", "server")
    honest = server.card
    if lie == "another server":
        server.card = strangers_card
    said = server.acknowledge(signed, stranger.sign if lie == "another key" else None)
    server.card = honest
    sent = statements.write(a_destroy(server, 10), keyring.sign) if lie == "another statement" else signed
    with pytest.raises(Untrusted):
        remote.acknowledged(home, sent, said.acknowledgement)
    assert home.last_acknowledgement() is None


# Objects.


def test_an_object_arrives_whole_and_every_byte_is_told_once(server: Loopback, remote: Remote) -> None:
    remote.sign_in(an_account(server))
    name, data = an_object()
    told: list[int] = []
    remote.put_object(DOSSIER, name, data, told.append)
    assert server.objects[name] == data
    assert sum(told) == OBJECT_SIZE
    assert len(told) > 4


def test_a_cut_upload_goes_on_where_it_stopped(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    told: list[int] = []
    server.faults += [("cut", 300_000), None, ("cut", 200_000), None, None]
    remote.put_object(DOSSIER, name, data, told.append)
    assert server.objects[name] == data
    assert sum(told) == OBJECT_SIZE
    puts = [each for each in server.asked if each.startswith("PUT")]
    assert len(puts) == 3


def test_what_a_power_cut_spoilt_of_an_upload_is_sent_again_from_its_beginning(
    server: Loopback, remote: Remote
) -> None:
    name, data = an_object()
    server.partial[name] = bytes(1_000_000)
    told: list[int] = []
    remote.put_object(DOSSIER, name, data, told.append, resuming=True)
    assert server.objects[name] == data
    assert sum(told) == OBJECT_SIZE


@pytest.mark.parametrize("lie", ["9" * 5_000, "-1", "", "a", "1048577"])
def test_a_server_that_lies_about_what_it_holds_gets_all_of_it(
    server: Loopback, remote: Remote, lie: str
) -> None:
    name, data = an_object()
    server.offset = lie
    remote.put_object(DOSSIER, name, data, resuming=True)
    assert server.objects[name] == data


def test_bytes_that_never_fit_their_name_are_refused_at_once(server: Loopback, remote: Remote) -> None:
    _, data = an_object()
    with pytest.raises(Untrusted):
        remote.put_object(DOSSIER, "00" * 32, data)
    assert len([each for each in server.asked if each.startswith("PUT")]) == 1


def test_an_upload_of_an_earlier_process_goes_on_where_it_stopped(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    server.partial[name] = data[:1_000_000]
    told: list[int] = []
    remote.put_object(DOSSIER, name, data, told.append, resuming=True)
    assert server.objects[name] == data
    assert told[0] == 1_000_000
    remote.put_object(DOSSIER, name, data, resuming=True)
    assert len([each for each in server.asked if each.startswith("PUT")]) == 1


def test_an_upload_that_is_cut_every_time_gives_up(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    server.faults += [("cut", 10), None] * 5
    with pytest.raises(Unreachable):
        remote.put_object(DOSSIER, name, data)


def test_a_refused_upload_is_not_sent_again(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    server.faults += [a_problem(413, "over-quota")]
    with pytest.raises(errors.OverQuota):
        remote.put_object(DOSSIER, name, data)
    assert len(server.asked) == 1


def test_an_upload_that_lost_its_session_signs_in_and_goes_on(server: Loopback, remote: Remote) -> None:
    remote.sign_in(an_account(server))
    name, data = an_object()
    server.faults += [a_problem(401, "unauthenticated")]
    remote.put_object(DOSSIER, name, data)
    assert server.objects[name] == data


def test_a_cut_download_goes_on_where_it_stopped(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    server.objects[name] = data
    server.faults += [("cut", 400_000), ("cut", 100_000), None]
    told: list[int] = []
    assert remote.get_object(DOSSIER, name, progress=told.append) == data
    assert sum(told) == OBJECT_SIZE


def test_what_is_here_already_is_not_fetched_again(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    server.objects[name] = data
    told: list[int] = []
    assert remote.get_object(DOSSIER, name, data[:1_000_000], told.append) == data
    assert sum(told) == OBJECT_SIZE - 1_000_000


def test_a_beginning_that_was_broken_here_is_fetched_again_whole(server: Loopback, remote: Remote) -> None:
    name, data = an_object()
    server.objects[name] = data
    assert remote.get_object(DOSSIER, name, b"\0" * 1000) == data


@pytest.mark.parametrize("wrong", ["flipped", "longer", "shorter"])
def test_an_object_that_is_not_what_its_name_says_is_refused(
    server: Loopback, remote: Remote, wrong: str
) -> None:
    name, data = an_object()
    changed = {"flipped": bytes([data[0] ^ 1]) + data[1:], "longer": data + b"\0", "shorter": data[:-1]}
    server.objects[name] = changed[wrong]
    with pytest.raises((Untrusted, Unreachable)) as refused:
        remote.get_object(DOSSIER, name)
    assert refused.value.code == ("unreachable" if wrong == "shorter" else "object-damaged")


def test_an_object_the_server_lacks_is_not_found(server: Loopback, remote: Remote) -> None:
    with pytest.raises(errors.NotFound):
        remote.get_object(DOSSIER, "00" * 32)


def test_ten_thousand_names_are_asked_for_in_batches(server: Loopback, remote: Remote) -> None:
    remote.sign_in(an_account(server))
    names = [f"{number:064x}" for number in range(10_000)]
    server.objects[names[5]] = b""
    server.objects[names[9_999]] = b""
    assert remote.missing(DOSSIER, names) == [*names[:5], *names[6:9_999]]
    assert remote.missing(DOSSIER, []) == []
    assert len([each for each in server.asked if each.endswith("missing")]) == 3


def test_a_remote_prints_nothing_secret(remote: Remote, server: Loopback) -> None:
    remote.sign_in(an_account(server))
    (token,) = server.tokens
    assert token not in repr(remote)
    assert repr(remote) == f"<Remote {server.url}>"
