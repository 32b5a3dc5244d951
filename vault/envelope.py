"""Signed statements: DSSE v1 envelopes under Ed25519.  Spec: docs/spec/envelope-v1.md.

Rule of this room: nothing is believed before its signature held, and whatever it reads re-encodes byte for byte.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar

import msgspec
from nacl import bindings as sodium
from nacl.exceptions import BadSignatureError

from vault.errors import Malformed, Untrusted

# The longest statement is a roster of 255 people, each with a whole card: 1.2 MiB.
MAX_ENVELOPE: Final = 2 * 1024 * 1024
# What every JSON reader, a browser's among them, still counts exactly.
INTEGER_BOUND: Final = 2**53

_KIND: Final = re.compile(r"[a-z]{1,32}")
_TYPE: Final = re.compile(r"application/vnd\.afterword\.([a-z]{1,32})\.v1\+json")
_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """The public half of a signing key: a canonical Ed25519 point of prime order, 32 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if (
            not isinstance(self.raw, bytes)
            or len(self.raw) != 32
            or not sodium.crypto_core_ed25519_is_valid_point(self.raw)
        ):
            raise Malformed("This is not an Ed25519 verify key; ask for the card it came from again.")

    @classmethod
    def read(cls, text: str) -> "VerifyKey":
        """From 64 lower-case hexadecimal digits."""
        if not _HEX_KEY.fullmatch(text):
            raise Malformed("A verify key is written as 64 lower-case hexadecimal digits.")
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        return self.raw.hex()


class SigningKey:
    """The private half, from a 32-byte seed. It does not print, and it refuses to be pickled or copied."""

    __slots__ = ("_secret", "verify_key")
    verify_key: VerifyKey

    def __init__(self, seed: bytes) -> None:
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise Malformed("The seed of a signing key is 32 bytes; read the key file or the words again.")
        public, self._secret = sodium.crypto_sign_seed_keypair(seed)
        self.verify_key = VerifyKey(public)

    def reveal(self) -> bytes:
        """The seed, for the keyring's writer and nobody else."""
        return self._secret[:32]

    def __repr__(self) -> str:
        return f"<SigningKey of {self.verify_key.hex[:8]}…>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not copied or pickled")


@dataclass(frozen=True, slots=True)
class Opened:
    """A statement out of its envelope. `hash` is SHA-256 of the PAE, by which other statements refer to it."""

    kind: str
    payload: bytes = field(repr=False)
    hash: bytes


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sig: str


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    payloadType: str
    signatures: list[_Signature]


@dataclass(frozen=True, slots=True)
class _Parts:
    kind: str
    payload: bytes
    signed: bytes
    signature: bytes

    def opened(self) -> Opened:
        return Opened(self.kind, self.payload, hashlib.sha256(self.signed).digest())


def payload_type(kind: str) -> str:
    """The DSSE payload type of a kind, which is one lower-case word."""
    if not _KIND.fullmatch(kind):
        raise ValueError("a kind is one lower-case word of at most 32 letters")
    return f"application/vnd.afterword.{kind}.v1+json"


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed and hashed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def sign(kind: str, payload: bytes, key: SigningKey) -> bytes:
    """An envelope around `payload` as it is; write_payload makes payloads that read_payload accepts."""
    name = payload_type(kind)
    envelope = _write(name, payload, _signature(pae(name, payload), key))
    if len(envelope) > MAX_ENVELOPE:
        raise Malformed(f"A {kind} this long would be refused by everybody; make it shorter.")
    return envelope


def open_envelope(envelope: bytes, key: VerifyKey, kind: str | None = None) -> Opened:
    """What `key` signed. Malformed if this is no envelope; Untrusted if the signature does not hold under
    `key`, or if it is a statement of another kind than `kind`."""
    parts = _take_apart(envelope)
    try:
        sodium.crypto_sign_open(parts.signature + parts.signed, key.raw)
    except BadSignatureError:
        raise Untrusted("The signature on this statement does not hold; do not act on it.") from None
    if kind is not None and parts.kind != kind:
        raise Untrusted(f"A statement of kind {kind} was expected and one of kind {parts.kind} arrived.")
    return parts.opened()


def peek(envelope: bytes) -> Opened:
    """What an envelope CLAIMS, its signature NOT verified: anybody may have written every byte of this.

    Only for finding out whose key to verify with (a card names its own, other statements their signer's).
    Nothing peeked at may be acted on, stored or shown: call open_envelope with the key found, and use that.
    """
    return _take_apart(envelope).opened()


def statement_hash(envelope: bytes) -> bytes:
    """SHA-256 of the PAE. Says which statement this is, not that its signature holds."""
    return _take_apart(envelope).opened().hash


def write_payload(payload: msgspec.Struct) -> bytes:
    """Compact UTF-8 JSON, keys in declared order; refuses whatever read_payload would refuse."""
    try:
        written = msgspec.json.encode(payload)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, TypeError, RecursionError):
        raise Malformed("This cannot be written as a statement's payload.") from None
    read_payload(written, type(payload))
    return written


def read_payload(payload: bytes, type: type[T]) -> T:
    """Strictly: only the bytes that write_payload would give for the value they hold. No duplicate, unknown or
    left-out keys, no white space, no floats, no other spelling of a string; integers |x| < 2^53."""
    try:
        value = msgspec.json.decode(payload, type=type)
        canonical = msgspec.json.encode(value) == payload
        _check_numbers(msgspec.json.decode(payload))
    except (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError):
        # Not `from error`: the decoder quotes what it read.
        raise Malformed("This statement's payload is not what its format says.") from None
    if not canonical:
        raise Malformed("This statement's payload is JSON, but not in the one spelling that is allowed.")
    return value


def _check_numbers(value: object) -> None:
    """ValueError for any float, and for any integer that some reader could not hold."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case bool() | str() | None:
                pass
            case int() as number if -INTEGER_BOUND < number < INTEGER_BOUND:
                pass
            case dict() as members:
                waiting.extend(members.values())
            case list() as items:
                waiting.extend(items)
            case _:
                raise ValueError("a number out of bounds")


def _signature(message: bytes, key: SigningKey) -> bytes:
    return sodium.crypto_sign(message, key._secret)[:64]


def _write(name: str, payload: bytes, signature: bytes) -> bytes:
    signatures = [_Signature(base64.b64encode(signature).decode())]
    return msgspec.json.encode(_Envelope(base64.b64encode(payload).decode(), name, signatures))


def _take_apart(envelope: bytes) -> _Parts:
    if len(envelope) > MAX_ENVELOPE:
        raise Malformed("This is longer than any statement may be.")
    try:
        read = msgspec.json.decode(envelope, type=_Envelope)
        payload = base64.b64decode(read.payload, validate=True)
        (signature,) = (base64.b64decode(one.sig, validate=True) for one in read.signatures)
    except (msgspec.MsgspecError, UnicodeError, binascii.Error, ValueError, RecursionError):
        raise Malformed("This is not a signed statement.") from None
    named = _TYPE.fullmatch(read.payloadType)
    if named is None or len(signature) != 64 or _write(read.payloadType, payload, signature) != envelope:
        raise Malformed("This is not a signed statement in the one form that is allowed.")
    return _Parts(named[1], payload, pae(read.payloadType, payload), signature)
