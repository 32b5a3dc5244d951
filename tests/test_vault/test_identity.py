"""Words, keyrings and cards: what comes back, what is refused, and that no secret shows."""

import contextlib
import copy
import hmac
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_generichash_blake2b_salt_personal

from vault import age, identity
from vault.envelope import SigningKey, open_envelope, peek, sign
from vault.errors import Malformed, Untrusted, WrongPassphrase
from vault.identity import Fingerprint, Keyring, RootSeed, read_card, read_keyring, write_card, write_keyring

VECTORS = Path(__file__).parents[2] / "docs/spec/vectors"
REFUSALS = {"malformed": Malformed, "untrusted": Untrusted}
ROOT = RootSeed(bytes(range(32)))
ANA = Keyring.from_seed(ROOT)
seeds = st.binary(min_size=32, max_size=32)
languages = st.sampled_from(["en", "es"])


def vectors(folder: str) -> list[Any]:
    def read(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return dict(line.split(": ", 1) for line in lines)

    return [pytest.param(read(path), id=path.stem) for path in sorted((VECTORS / folder).glob("*.txt"))]


def seed_of(root: RootSeed) -> bytes:
    return root._seed  # there is no other way to see it, on purpose


def bip39(language: str) -> list[list[str]]:
    cases: list[list[str]] = json.loads(
        (VECTORS / "foreign/bip39-24-words.json").read_text(encoding="utf-8")
    )[language]
    assert len(cases) == 8
    return cases


# Root seed and words


@pytest.mark.parametrize("vector", vectors("identity"))
def test_the_identity_vectors_say_what_they_expect(vector):
    words = vector["words"].split(" ")
    if vector["expect"] == "malformed":
        with pytest.raises(Malformed) as refusal:
            RootSeed.from_words(words)
        assert refusal.value.code == "wrong-words"
        return
    root = RootSeed.from_words(words)
    keyring, deal = Keyring.from_seed(root), identity.deal_identity(root)
    name = keyring.dedup_key(bytes.fromhex(vector["dossier"])).name(bytes.fromhex(vector["chunk-hex"]))
    assert {
        "seed": seed_of(root).hex(),
        "words-en": " ".join(root.words("en")),
        "words-es": " ".join(root.words("es")),
        "seal": keyring.seal.reveal().hex(),
        "sign": keyring.sign.reveal().hex(),
        "checkin": keyring.checkin.reveal().hex(),
        "deal": deal.reveal().hex(),
        "recipient": str(keyring.seal.recipient),
        "verify": keyring.sign.verify_key.hex,
        "checkin-verify": keyring.checkin.verify_key.hex,
        "deal-recipient": str(deal.recipient),
        "chunk-name": name.hex(),
    }.items() <= vector.items()
    assert keyring.deal_recipient == deal.recipient


@pytest.mark.parametrize(("language", "code"), [("english", "en"), ("spanish", "es")])
def test_words_are_those_of_bip39(language, code):
    for entropy, words in bip39(language):
        root = RootSeed(bytes.fromhex(entropy))
        assert " ".join(root.words(code)) == words
        assert seed_of(RootSeed.from_words(words.split())).hex() == entropy


@given(seeds, languages)
def test_either_language_gives_the_seed_back(seed, language):
    assert seed_of(RootSeed.from_words(RootSeed(seed).words(language))) == seed


@given(seeds, languages, st.integers(0, 23), st.integers(0, 2047))
def test_a_word_taken_for_another_is_noticed_or_is_one_in_256(seed, language, place, other):
    words = list(RootSeed(seed).words(language))
    words[place] = identity._word_list(language)[other]
    with contextlib.suppress(Malformed):
        assert tuple(words) == RootSeed.from_words(words).words(language)


def test_a_whole_line_may_be_pasted_instead_of_24_words():
    assert seed_of(RootSeed.from_words(" ".join(ROOT.words()))) == seed_of(ROOT)


def test_a_word_not_in_the_list_is_named_by_its_place_and_not_quoted():
    words = list(ROOT.words("es"))
    words[3] = words[10] = "xylofon"
    with pytest.raises(Malformed, match="Spanish list: word 4, 11") as refusal:
        RootSeed.from_words(words)
    assert "xylofon" not in str(refusal.value)


@given(st.lists(st.text(max_size=12), max_size=30))
def test_no_garbage_is_a_seed(words):
    with pytest.raises(Malformed):
        RootSeed.from_words(words)


def test_no_two_words_of_a_list_are_alike_without_accents():
    for language in ("en", "es"):
        assert len(identity._places(language)) == 2048


def test_a_seed_is_drawn_from_the_randomness_it_is_given():
    assert seed_of(RootSeed.generate(lambda size: bytes(range(size)))) == bytes(range(32))
    with pytest.raises(Malformed):
        RootSeed.generate(lambda size: b"too little")


# Keyring


def test_keys_are_derived_as_rfc_5869_says():
    def derive(secret: bytes, info: bytes) -> bytes:
        return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")

    assert ANA.sign.reveal() == derive(seed_of(ROOT), b"afterword/identity/sign")
    assert ANA.dedup_key(b"d" * 16)._key == derive(ANA.seal.reveal(), b"afterword/dedup" + b"d" * 16)


def test_every_key_of_a_person_is_another():
    keys = {
        ANA.seal.reveal(),
        ANA.sign.reveal(),
        ANA.checkin.reveal(),
        identity.deal_identity(ROOT).reveal(),
        seed_of(ROOT),
    }
    assert len(keys) == 5


def test_no_secret_prints_or_travels():
    dedup = ANA.dedup_key(bytes(16))
    secrets = [ANA.seal.reveal(), ANA.sign.reveal(), ANA.checkin.reveal(), seed_of(ROOT), dedup._key]
    for thing in (ROOT, ANA, dedup):
        shown = f"{thing!r} {thing}"
        for secret in secrets:
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                attempt(thing)
        assert not hasattr(thing, "__dict__")


@pytest.mark.parametrize("vector", vectors("keyring"))
def test_the_keyring_vectors_say_what_they_expect(vector):
    sealed = bytes.fromhex(vector["keyring-hex"])
    if vector["expect"] != "ok":
        with pytest.raises(REFUSALS[vector["expect"]]):
            read_keyring(sealed, vector["passphrase"])
        return
    keyring = read_keyring(sealed, vector["passphrase"])
    assert json.loads(vector["content"]) == {
        "format": "afterword/keyring/v1",
        "seal": keyring.seal.reveal().hex(),
        "sign": keyring.sign.reveal().hex(),
        "checkin": keyring.checkin.reveal().hex(),
        "deal": str(keyring.deal_recipient),
    }
    again = write_keyring(keyring, vector["passphrase"], os.urandom, 10)
    assert age.open_with_passphrase(again, vector["passphrase"]).decode() == vector["content"]


def test_a_keyring_costs_a_second_to_guess_unless_asked_otherwise():
    sealed = write_keyring(ANA, "a passphrase", os.urandom)
    assert b" 18\n" in sealed.split(b"---")[0]
    with pytest.raises(WrongPassphrase):
        read_keyring(sealed, "another passphrase")


def test_a_keyring_holds_no_private_half_of_the_deal_identity_and_not_the_root():
    content = age.open_with_passphrase(write_keyring(ANA, "p", os.urandom, 4), "p").decode()
    deal = identity.deal_identity(ROOT)
    for secret in (deal.reveal().hex(), deal.write(), seed_of(ROOT).hex()):
        assert secret not in content
    assert str(deal.recipient) in content


def test_a_keyring_file_does_not_print_what_it_holds():
    held = identity._KeyringFile("afterword/keyring/v1", "aa" * 32, "bb" * 32, "cc" * 32, "age1pq1")
    assert "aa" not in repr(held)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_garbage_is_a_keyring(garbage):
    with pytest.raises((Malformed, Untrusted)):
        read_keyring(garbage, "p")


# De-duplication


def test_chunk_names_are_keyed_by_person_and_by_dossier():
    eve = Keyring.from_seed(RootSeed(bytes(32)))
    names = {
        key.name(b"chunk")
        for key in (ANA.dedup_key(bytes(16)), ANA.dedup_key(b"1" * 16), eve.dedup_key(bytes(16)))
    }
    assert len(names) == 3
    with pytest.raises(ValueError, match="16 bytes"):
        ANA.dedup_key(b"")


@given(st.binary(max_size=500))
def test_chunk_names_are_keyed_blake2b_as_libsodium_has_it(data):
    dedup = ANA.dedup_key(bytes(16))
    assert dedup.name(data) == crypto_generichash_blake2b_salt_personal(data, 32, dedup._key)
    assert dedup.name(memoryview(data)) == dedup.name(data)


def test_chunk_names_are_the_same_from_any_thread():
    dedup = ANA.dedup_key(bytes(16))
    chunks = [bytes([number]) * 100_000 for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dedup.name, chunks)) == [dedup.name(chunk) for chunk in chunks]


# Cards


@pytest.mark.parametrize("vector", vectors("card"))
def test_the_card_vectors_say_what_they_expect(vector):
    envelope = vector["envelope"].encode()
    if vector["expect"] != "ok":
        with pytest.raises(REFUSALS[vector["expect"]]):
            read_card(envelope)
        return
    read = read_card(envelope)
    keyring = Keyring.from_seed(RootSeed(bytes.fromhex(vector["seed"])))
    assert (read.card.label, str(read.card.created), read.card.made_by) == (
        vector["label"],
        vector["created"],
        vector["made-by"],
    )
    assert read.hash.hex() == vector["hash"]
    assert read.fingerprint.write() == vector["fingerprint"]
    assert " ".join(read.fingerprint.words("en")) == vector["words-en"]
    assert " ".join(read.fingerprint.words("es")) == vector["words-es"]
    assert write_card(read.card.label, keyring, read.card.created, read.card.made_by) == envelope


def test_refusals_outnumber_acceptances_in_every_folder():
    for folder in ("card", "identity", "keyring", "fingerprint"):
        expected = [vector.values[0]["expect"] for vector in vectors(folder)]
        assert expected.count("ok") < len(expected) / 2, folder


def test_a_card_names_the_keys_of_its_keyring():
    read = read_card(write_card("Ana", ANA, 1, "cli"))
    assert read.recipient == ANA.seal.recipient
    assert read.verify_key == ANA.sign.verify_key
    assert read.checkin_key == ANA.checkin.verify_key
    assert open_envelope(read.envelope, read.verify_key, "card").hash == read.hash


forbidden = "\0\t\n\r\x1b\x7f\x85\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\U000e0041"


@pytest.mark.parametrize("letter", forbidden, ids=lambda letter: f"U+{ord(letter):04X}")
def test_a_label_cannot_hide_or_turn_anything(letter):
    with pytest.raises(Malformed) as refusal:
        write_card(f"An{letter}a", ANA, 1, "cli")
    assert refusal.value.code == "bad-label"


@pytest.mark.parametrize("label", ["", " ", " Ana", "Ana ", "ñ" * 101, "\ud800"])
def test_a_label_is_something_short(label):
    with pytest.raises(Malformed):
        write_card(label, ANA, 1, "cli")


def test_the_longest_card_fits_the_bound():
    assert len(write_card('"' * 200, ANA, 2**53 - 1, "server")) <= identity.MAX_CARD


@given(st.text(min_size=1, max_size=60), st.integers(0, 2**53 - 1))
def test_what_may_be_written_on_a_card_is_read_from_it(label, created):
    try:
        envelope = write_card(label, ANA, created, "kit")
    except Malformed:
        return
    assert (read_card(envelope).card.label, read_card(envelope).card.created) == (label, created)


@given(st.data())
def test_no_bit_of_a_card_can_be_changed(data):
    envelope = bytearray(write_card("Ana", ANA, 1, "cli"))
    bit = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Malformed, Untrusted)):
        read_card(bytes(envelope))


@given(st.binary(max_size=300))
def test_no_garbage_is_a_card(garbage):
    with pytest.raises((Malformed, Untrusted)):
        read_card(garbage)
    with pytest.raises((Malformed, Untrusted)):
        read_card(sign("card", garbage, ANA.sign))


def test_a_card_that_is_signed_by_its_own_witness_only_is_still_not_somebody_elses():
    eve = SigningKey(bytes(32))
    claimed = peek(write_card("Ana", ANA, 1, "cli")).payload
    with pytest.raises(Untrusted):
        read_card(sign("card", claimed, eve))


def test_a_card_does_not_print_its_label():
    assert "Ana" not in repr(read_card(write_card("Ana", ANA, 1, "cli")))


# Fingerprints


@pytest.mark.parametrize("vector", vectors("fingerprint"))
def test_the_fingerprint_vectors_say_what_they_expect(vector):
    if vector["expect"] == "malformed":
        with pytest.raises(Malformed):
            Fingerprint.read(vector["text"])
        return
    fingerprint = Fingerprint.read(vector["text"])
    assert fingerprint.write() == vector["text"]
    assert " ".join(fingerprint.words("en")) == vector["words-en"]
    assert " ".join(fingerprint.words("es")) == vector["words-es"]


@given(st.binary(min_size=32, max_size=32), languages)
def test_words_and_characters_name_the_same_first_110_bits(hash, language):
    fingerprint = Fingerprint.of(hash)
    spelled = f"{int.from_bytes(hash, 'big'):0256b}"[:110]
    assert f"{fingerprint.bits:0110b}" == spelled
    assert Fingerprint.read(fingerprint.write()) == fingerprint
    assert Fingerprint.from_words(fingerprint.words(language)) == fingerprint
    assert len(fingerprint.words(language)) == 10
    assert len(fingerprint.write()) == 22


@given(st.text(max_size=30) | st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=22, max_size=22))
def test_a_fingerprint_reads_only_what_it_writes(text):
    try:
        assert Fingerprint.read(text).write() == text
    except Malformed:
        assert len(text) != 22 or set(text) - set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("bits", [-1, 1 << 110])
def test_a_fingerprint_is_110_bits(bits):
    with pytest.raises(ValueError, match="110"):
        Fingerprint(bits)


def test_no_word_list_is_loaded_before_a_word_is_needed():
    loaded = "import sys, vault.identity; print('mnemonic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
