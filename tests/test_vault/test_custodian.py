"""What a server does with its own keys."""

import os

import pytest

from vault import age, custodian, identity
from vault.custodian import NONCE_LIVES, Custodian
from vault.errors import Damaged, Refused, Untrusted

LIFE = "life"


def a_custodian(key: age.Identity | None = None) -> Custodian:
    key = key or age.Identity(os.urandom(32))
    keyring, card = custodian.found(key, "server", 1_700_000_000_000, os.urandom)
    return custodian.open_custodian(key, keyring, card, os.urandom)


def test_what_rests_wakes_and_opens_under_no_other_key() -> None:
    ours, theirs = a_custodian(), a_custodian()
    resting = ours.rest(b"name@example.org")
    assert b"example" not in resting
    assert ours.wake(resting) == b"name@example.org"
    with pytest.raises(Damaged):
        theirs.wake(resting)
    with pytest.raises(Damaged):
        ours.wake(resting[:-1] + bytes([resting[-1] ^ 1]))


def test_a_server_key_of_another_database_is_refused_by_name() -> None:
    keyring, card = custodian.found(age.Identity(os.urandom(32)), "server", 1, os.urandom)
    with pytest.raises(Refused) as refused:
        custodian.open_custodian(age.Identity(os.urandom(32)), keyring, card, os.urandom)
    assert refused.value.code == "wrong-server-key"


def test_a_card_of_other_keys_is_damage() -> None:
    key = age.Identity(os.urandom(32))
    keyring, _ = custodian.found(key, "server", 1, os.urandom)
    _, another = custodian.found(key, "server", 1, os.urandom)
    with pytest.raises(Damaged):
        custodian.open_custodian(key, keyring, another, os.urandom)


def test_a_nonce_is_good_for_ten_minutes_of_one_life_of_one_server() -> None:
    ours, theirs = a_custodian(), a_custodian()
    nonce = ours.grant_nonce(1_000, LIFE)
    assert ours.check_nonce(nonce, 1_000, LIFE) == 1_000 + NONCE_LIVES
    assert ours.check_nonce(nonce, 1_000 + NONCE_LIVES, LIFE) == 1_000 + NONCE_LIVES
    for server, lived, life in (
        (ours, 999, LIFE),
        (ours, 1_001 + NONCE_LIVES, LIFE),
        (ours, 1_000, "another life"),
        (theirs, 1_000, LIFE),
    ):
        with pytest.raises(Refused) as refused:
            server.check_nonce(nonce, lived, life)
        assert refused.value.code == "stale-nonce"


def test_no_bit_of_a_nonce_may_be_another() -> None:
    ours = a_custodian()
    raw = bytearray(bytes.fromhex(ours.grant_nonce(1_000, LIFE)))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(Refused):
            ours.check_nonce(raw.hex(), 1_000, LIFE)
        raw[place] ^= 1


def test_a_code_can_be_read_out_and_typed() -> None:
    ours = a_custodian()
    codes = {ours.code() for _ in range(50)}
    assert len(codes) == 50
    assert all(len(code) == 16 and not set(code) & set("io01") and code.islower() for code in codes)


def test_nothing_secret_is_printed() -> None:
    ours = a_custodian()
    assert repr(ours) == f"<Custodian {ours.card.fingerprint}>"


def test_the_card_says_that_it_is_a_server() -> None:
    assert a_custodian().card.card.made_by == "server"
    assert isinstance(a_custodian().card, identity.ContactCard)


def test_a_release_share_of_another_dossier_is_not_taken() -> None:
    from vault import sharing
    from vault.sharing import DealtShare, Share

    ours = a_custodian()
    dealt = DealtShare(b"j" * 32, b"d" * 16, 1, Share(1, b"s" * 32), "")
    sealed = age.seal(sharing.write_share(dealt), ours.card.recipient, os.urandom)
    assert (
        ours.take_release_share(sealed, journalist=b"j" * 32, dossier=b"d" * 16, epoch=1, index=1).value
        == b"s" * 32
    )
    for other in (
        {"journalist": b"x" * 32},
        {"dossier": b"x" * 16},
        {"epoch": 2},
        {"index": 2},
    ):
        asked = {"journalist": b"j" * 32, "dossier": b"d" * 16, "epoch": 1, "index": 1, **other}
        with pytest.raises(Untrusted):
            ours.take_release_share(sealed, **asked)  # type: ignore[arg-type]
