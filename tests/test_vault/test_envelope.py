"""Envelopes: what holds, what is refused, and that nobody else's bytes mean the same."""

import contextlib
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import cryptography_vectors
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings as sodium
from nacl.exceptions import BadSignatureError

from vault import envelope
from vault.envelope import MAX_ENVELOPE, SigningKey, VerifyKey, open_envelope, peek, sign, statement_hash
from vault.errors import Malformed, Untrusted

VECTORS = Path(__file__).parents[2] / "docs/spec/vectors"
KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))
kinds = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=32)


def vectors(folder: str) -> list[Any]:
    def read(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return dict(line.split(": ", 1) for line in lines)

    return [pytest.param(read(path), id=path.stem) for path in sorted((VECTORS / folder).glob("*.txt"))]


def vector_envelope(vector: dict[str, str]) -> bytes:
    if "envelope-hex" in vector:
        return bytes.fromhex(vector["envelope-hex"])
    return vector["envelope"].encode()


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    number: int = 0
    more: list[Any] = []  # whatever JSON can hold, to look for numbers everywhere


@pytest.mark.parametrize("vector", vectors("envelope"))
def test_the_vectors_say_what_they_expect(vector):
    expect, kind = vector["expect"], vector.get("kind") or vector.get("expected-kind")
    if expect == "ok":
        key = SigningKey(bytes.fromhex(vector["seed"]))
        payload = (
            bytes.fromhex(vector["payload-hex"]) if "payload-hex" in vector else vector["payload"].encode()
        )
        opened = open_envelope(vector_envelope(vector), VerifyKey.read(vector["verify"]), kind)
        assert (opened.kind, opened.payload, opened.hash.hex()) == (kind, payload, vector["hash"])
        assert sign(kind, payload, key) == vector_envelope(vector)
        return
    refusal = {"malformed": Malformed, "untrusted": Untrusted}[expect]
    with pytest.raises(refusal):
        open_envelope(vector_envelope(vector), VerifyKey.read(vector["verify"]), kind)


def test_more_vectors_fail_than_succeed():
    assert sum(v.values[0]["expect"] == "ok" for v in vectors("envelope")) < 10 < len(vectors("envelope"))


def test_pre_authentication_encoding_is_that_of_dsse():
    # The example of the DSSE protocol document.
    assert envelope.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(kinds, st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_what_was_signed_opens_and_signs_to_the_same_bytes(kind, payload, seed):
    key = SigningKey(seed)
    written = sign(kind, payload, key)
    opened = open_envelope(written, key.verify_key, kind)
    assert (opened.kind, opened.payload, opened.hash) == (kind, payload, statement_hash(written))
    assert peek(written) == opened
    assert sign(opened.kind, opened.payload, key) == written


@given(st.data())
def test_no_byte_of_an_envelope_can_be_changed(data):
    written = bytearray(sign("login", b'{"a":1}', KEY))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Malformed, Untrusted)):
        open_envelope(bytes(written), KEY.verify_key)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
looks_like_one = st.fixed_dictionaries(
    {
        "payload": st.sampled_from(["", "e30=", "e30", "=", "ñ"]) | json_values,
        "payloadType": st.just("application/vnd.afterword.card.v1+json") | json_values,
        "signatures": st.lists(st.fixed_dictionaries({"sig": st.just("A" * 86 + "==") | json_values})),
    }
).map(lambda value: json.dumps(value, separators=(",", ":")).encode())


@given(st.binary() | json_values.map(lambda v: json.dumps(v).encode()) | looks_like_one)
def test_garbage_is_malformed_or_untrusted_and_nothing_else(garbage):
    with pytest.raises((Malformed, Untrusted)):
        open_envelope(garbage, KEY.verify_key)
    for read in (peek, statement_hash):
        with contextlib.suppress(Malformed):
            read(garbage)
    with pytest.raises(Malformed):
        envelope.read_payload(garbage + b" ", Note)


@pytest.mark.parametrize("deep", [b"[" * 200_000, b'{"payload":' * 100_000])
def test_depth_does_not_exhaust_the_reader(deep):
    with pytest.raises(Malformed):
        peek(deep)
    with pytest.raises(Malformed):
        envelope.read_payload(b'{"text":"","number":0,"more":' + deep, Note)


def test_an_envelope_beyond_the_bound_is_refused_unread_and_cannot_be_signed():
    with pytest.raises(Malformed, match="longer"):
        open_envelope(b" " * (MAX_ENVELOPE + 1), KEY.verify_key)
    with pytest.raises(Malformed, match="shorter"):
        sign("head", bytes(MAX_ENVELOPE), KEY)


@pytest.mark.parametrize("kind", ["", "Card", "card.v1", "ça", "a" * 33, "card\n", "check-in"])
def test_a_kind_is_one_lower_case_word(kind):
    with pytest.raises(ValueError, match="kind"):
        sign(kind, b"", KEY)


def test_another_kind_is_untrusted_even_under_the_right_key():
    written = sign("login", b"{}", KEY)
    with pytest.raises(Untrusted, match=r"pause.*login"):
        open_envelope(written, KEY.verify_key, "pause")


def test_the_hash_does_not_depend_on_who_signed():
    assert statement_hash(sign("head", b"{}", KEY)) == statement_hash(sign("head", b"{}", OTHER))
    assert statement_hash(sign("head", b"{}", KEY)) != statement_hash(sign("brief", b"{}", KEY))


# Keys


def test_a_signing_key_neither_prints_nor_travels():
    secret = KEY.reveal()
    for shown in (repr(KEY), str(KEY), f"{KEY}"):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not copied"):
            attempt(KEY)
    assert not hasattr(KEY, "__dict__")


def test_an_opened_statement_does_not_print_its_payload():
    assert "secret" not in repr(peek(sign("brief", b"secret", KEY)))


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), "0" * 32])
def test_a_seed_is_32_bytes(seed):
    with pytest.raises(Malformed):
        SigningKey(seed)


def test_keys_are_read_as_they_are_written():
    assert VerifyKey.read(KEY.verify_key.hex) == KEY.verify_key
    assert SigningKey(KEY.reveal()).verify_key == KEY.verify_key


@given(st.text(max_size=70) | st.binary(max_size=40))
def test_no_garbage_is_a_verify_key(garbage):
    with pytest.raises(Malformed):
        VerifyKey.read(garbage) if isinstance(garbage, str) else VerifyKey(garbage + bytes(32))


def test_signatures_are_those_of_rfc_8032_and_of_its_authors():
    # sign.input of ed25519.cr.yp.to, of which RFC 8032's section 7.1 is a part.
    path = Path(cryptography_vectors.__file__).parent / "asymmetric/Ed25519/sign.input"
    lines = path.read_text().splitlines()
    assert len(lines) == 1024
    for line in lines:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        key = SigningKey(secret[:32])
        assert key.verify_key.raw == public
        assert (
            envelope._signature(message, key) == signed[:64]
        )  # the bare primitive, which nobody else may use


def speccheck() -> list[dict[str, str]]:
    cases: list[dict[str, str]] = json.loads((VECTORS / "foreign/ed25519-speccheck.json").read_text())[
        "cases"
    ]
    return cases


def test_edge_cases_are_judged_as_libsodium_is_known_to_judge_them():
    accepted = set()
    for number, case in enumerate(speccheck()):
        message, key, signature = (bytes.fromhex(case[name]) for name in ("message", "pub_key", "signature"))
        try:
            sodium.crypto_sign_open(signature + message, key)
            accepted.add(number)
        except BadSignatureError:
            pass
    assert accepted == {6}  # a key of mixed order, and the signature is good under both equations


def test_every_key_of_small_or_mixed_order_or_long_spelling_is_refused_before_it_verifies_anything():
    refused = 0
    for case in speccheck():
        try:
            VerifyKey.read(case["pub_key"])
        except Malformed:
            refused += 1
    assert refused == 13  # the two others have good keys and S beyond L


# Payloads


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.booleans() | st.none()),
)
def test_payloads_come_back_and_are_spelled_as_other_languages_spell_them(text, number, more):
    note = Note(text, number, more)
    written = envelope.write_payload(note)
    assert envelope.read_payload(written, Note) == note
    # Python's json writes what JSON.stringify writes, but for lone surrogates, which have no UTF-8.
    other = json.dumps(
        {"text": text, "number": number, "more": more}, ensure_ascii=False, separators=(",", ":")
    )
    assert written == other.encode()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"text":"a","text":"b","number":0,"more":[]}',
        b'{"text":"a","number":0,"more":[{"a":1,"a":2}]}',
        b'{"text":"a"}',
        b'{"text":"a","number":0,"more":[],"x":1}',
        b'{"number":0,"text":"a","more":[]}',
        b'{"text":"a", "number":0,"more":[]}',
        b'{"text":"a","number":0,"more":[]}\n',
        b'\xef\xbb\xbf{"text":"a","number":0,"more":[]}',
        b'{"text":"\\u0061","number":0,"more":[]}',
        b'{"text":"\\/","number":0,"more":[]}',
        b'{"text":"\\ud800","number":0,"more":[]}',
        b'{"text":"\xed\xa0\x80","number":0,"more":[]}',
        b'{"text":"a","number":0.0,"more":[]}',
        b'{"text":"a","number":1e3,"more":[]}',
        b'{"text":"a","number":-0,"more":[]}',
        b'{"text":"a","number":9007199254740992,"more":[]}',
        b'{"text":"a","number":-9007199254740992,"more":[]}',
        b'{"text":"a","number":0,"more":[1.5]}',
        b'{"text":"a","number":0,"more":[{"deep":[[9007199254740992]]}]}',
        b'{"text":"a","number":0,"more":[36893488147419103232]}',
        b'{"text":"a","number":"0","more":[]}',
        b'{"text":"a","number":true,"more":[]}',
        b'{"text":null,"number":0,"more":[]}',
        b'["a",0,[]]',
        b"null",
        b"",
    ],
)
def test_a_payload_has_one_spelling(payload):
    with pytest.raises(Malformed):
        envelope.read_payload(payload, Note)


@pytest.mark.parametrize(
    "note",
    [
        Note("\ud800"),
        Note("", 2**53),
        Note("", -(2**70)),
        Note("", 0, [0.5]),
        Note("", "1"),  # type: ignore[arg-type]  # msgspec does not look at types when constructing
        Note("", 0, [object()]),
    ],
)
def test_nothing_is_written_that_would_not_be_read(note):
    with pytest.raises(Malformed):
        envelope.write_payload(note)


def test_a_refusal_does_not_quote_the_payload():
    with pytest.raises(Malformed) as refusal:
        envelope.read_payload(b'{"text":"a","number":0,"more":[],"the-source-is-jo":1}', Note)
    assert "source" not in str(refusal.value)
    assert refusal.value.__suppress_context__
