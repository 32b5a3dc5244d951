"""age v1 files: everything Afterword encrypts.  Spec: docs/spec/age-v1.md.

Rule of this room: whatever it opens, it would write again byte for byte; exactly one stanza, the native
post-quantum recipient or a passphrase, never a classical fallback; keys that live here do not print.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from typing import Final, NoReturn, Self, final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from vault.errors import Malformed, Refused, Untrusted, WrongPassphrase

try:
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

    _SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    # Having the names is not having the algorithm: OpenSSL below may have been built without it.
    MLKEM768PrivateKey.from_seed_bytes(bytes(64))
except (ImportError, AttributeError, UnsupportedAlgorithm) as missing:
    raise Refused(
        "The installed `cryptography` has no ML-KEM, and Afterword does not fall back to anything weaker; "
        "install cryptography 50 or newer from its official wheels.",
        code="no-post-quantum",
    ) from missing

Random = Callable[[int], bytes]
"""Gives that many unpredictable bytes."""

Buffer = bytes | bytearray | memoryview

HEADER_SIZE: Final = 1627
CHUNK_SIZE: Final = 64 * 1024
DEFAULT_WORK_FACTOR: Final = 18
HIGHEST_WORK_FACTOR: Final = 20

_NONCE_SIZE = 16
_TAG_SIZE = 16
_FILE_KEY_SIZE = 16
_ENCAPSULATED_SIZE = 1120
_MLKEM_PUBLIC_SIZE = 1184
_RECIPIENT_SIZE = _MLKEM_PUBLIC_SIZE + 32
_SEED_SIZE = 32

_HPKE_INFO = b"age-encryption.org/mlkem768x25519"
_SCRYPT_LABEL = b"age-encryption.org/v1/scrypt"

_BASE64 = rb"[A-Za-z0-9+/]"
_TO_RECIPIENT = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"-> mlkem768x25519 (" + _BASE64 + rb"{1494})\n(" + _BASE64 + rb"{43})\n"
    rb"--- (" + _BASE64 + rb"{43})\n"
)
_TO_PASSPHRASE = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"-> scrypt (" + _BASE64 + rb"{22}) ([1-9][0-9]{0,8})\n(" + _BASE64 + rb"{43})\n"
    rb"--- (" + _BASE64 + rb"{43})\n"
)

_NOT_A_RECIPIENT = "This is not a whole, unaltered age1pq1… recipient; copy it again from where it came."
_NOT_AN_IDENTITY = (
    "This is not a whole, unaltered AGE-SECRET-KEY-PQ-1… identity; copy it again from where it is kept."
)
_NOT_TO_RECIPIENT = (
    "This is not an age file with exactly one post-quantum recipient; get it again from where it came."
)
_NOT_LOCKED = "This is not an age file locked with exactly one passphrase; get it again from where it came."
_CUT_SHORT = "This age file ends before its payload begins; get it again from where it came."
_BROKEN = (
    "This seal does not open: the file was altered or cut, or it is sealed to another key; "
    "get it again from where it came."
)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Recipient:
    """Whom something is sealed to: the public half of an Identity. `str()` is its `age1pq1…` text."""

    raw: bytes
    """ML-KEM-768 encapsulation key (1184) ‖ X25519 public key (32)."""
    _text: str = field(init=False, compare=False)
    _key: hpke.MLKEM768X25519PublicKey = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != _RECIPIENT_SIZE:
            raise Malformed(_NOT_A_RECIPIENT)
        try:
            x25519 = X25519PublicKey.from_public_bytes(self.raw[_MLKEM_PUBLIC_SIZE:])
            # A point of low order would only fail at the first seal, long after the card was accepted.
            X25519PrivateKey.from_private_bytes(bytes(32)).exchange(x25519)
            mlkem = MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC_SIZE])
            key = hpke.MLKEM768X25519PublicKey(mlkem, x25519)
        except ValueError:
            raise Malformed(_NOT_A_RECIPIENT) from None
        object.__setattr__(self, "_text", _bech32("age1pq", self.raw))
        object.__setattr__(self, "_key", key)

    @classmethod
    def read(cls, text: str) -> Self:
        """From `age1pq1…`, lower case, nothing around it. Raises Malformed."""
        recipient = cls(_read_bech32("age1pq", text))
        if recipient._text != text:
            raise Malformed(_NOT_A_RECIPIENT)
        return recipient

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Recipient {self._text[:13]}…>"

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return (type(self), (self.raw,))


@final
class Identity:
    """Who can open: a seed of 32 bytes that never prints, pickles or copies itself."""

    __slots__ = ("_key", "_recipient", "_seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _SEED_SIZE:
            raise Malformed("The seed of an age identity is 32 bytes; read the key file or the words again.")
        self._seed = bytes(seed)
        # X-Wing: the one seed becomes both private keys (design note in docs/spec/age-v1.md).
        expanded = hashlib.shake_256(self._seed).digest(96)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._key = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self._recipient = Recipient(
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    @property
    def recipient(self) -> Recipient:
        return self._recipient

    def reveal(self) -> bytes:
        """The seed itself, for the few places that must write it down."""
        return self._seed

    def write(self) -> str:
        """`AGE-SECRET-KEY-PQ-1…`, as stock age tools read it."""
        return _write_identity(self._seed)

    @classmethod
    def read(cls, text: str) -> Self:
        """From `AGE-SECRET-KEY-PQ-1…`, upper case, nothing around it. Raises Malformed."""
        # Asked first, because some letters outside ASCII become ASCII when lowered.
        seed = _read_bech32("age-secret-key-pq-", text.lower()) if text.isascii() else b""
        if len(seed) != _SEED_SIZE or not hmac.compare_digest(_write_identity(seed), text):
            raise Malformed(_NOT_AN_IDENTITY)
        return cls(seed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return hmac.compare_digest(self._seed, other._seed)

    def __hash__(self) -> int:
        return hash(self._recipient)

    def __repr__(self) -> str:
        return f"<Identity {str(self._recipient)[:9]}…>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("An Identity is not pickled or copied: hand it over, or reveal() it on purpose.")


def seal(plaintext: Buffer, to: Recipient, random: Random) -> bytes:
    """One age file, whole, in memory. `random` gives file key and nonce; OpenSSL's own generator encapsulates."""
    file_key = _draw(random, _FILE_KEY_SIZE)
    wrapped = _SUITE.encrypt(file_key, to._key, _HPKE_INFO)
    header = _write_header(
        b"mlkem768x25519 " + _base64(wrapped[:_ENCAPSULATED_SIZE]), wrapped[_ENCAPSULATED_SIZE:], file_key
    )
    return b"".join((header, *_payload_parts(plaintext, file_key, random)))


def open_sealed(sealed: Buffer, identity: Identity) -> bytes:
    """The plaintext; nothing at all if any part fails. Raises Malformed, Untrusted."""
    found = _TO_RECIPIENT.match(sealed)
    if found is None:
        raise Malformed(_NOT_TO_RECIPIENT)
    encapsulated, wrapped, mac = (_read_base64(part, _NOT_TO_RECIPIENT) for part in found.groups())
    try:
        file_key = _SUITE.decrypt(encapsulated + wrapped, identity._key, _HPKE_INFO)
    except (InvalidTag, ValueError):
        raise Untrusted(_BROKEN) from None
    return _open_rest(memoryview(sealed), found.start(3), mac, file_key)


def seal_with_passphrase(
    plaintext: Buffer, passphrase: str, random: Random, work_factor: int = DEFAULT_WORK_FACTOR
) -> bytes:
    """One age file under a passphrase. Work factor 18 costs a second and 256 MiB, each step doubles both."""
    if not 1 <= work_factor <= HIGHEST_WORK_FACTOR:
        raise Refused(f"A work factor lies between 1 and {HIGHEST_WORK_FACTOR}.", code="work-factor")
    try:
        secret = passphrase.encode()
    except UnicodeEncodeError:
        raise Refused(
            "This passphrase is not valid text; choose another.", code="passphrase-not-text"
        ) from None
    file_key = _draw(random, _FILE_KEY_SIZE)
    salt = _draw(random, 16)
    wrapped = ChaCha20Poly1305(_stretch(secret, salt, work_factor)).encrypt(bytes(12), file_key, None)
    header = _write_header(b"scrypt %b %d" % (_base64(salt), work_factor), wrapped, file_key)
    return b"".join((header, *_payload_parts(plaintext, file_key, random)))


def open_with_passphrase(sealed: Buffer, passphrase: str) -> bytes:
    """The plaintext. Raises Malformed (before any stretching), WrongPassphrase, Untrusted."""
    found = _TO_PASSPHRASE.match(sealed)
    if found is None:
        raise Malformed(_NOT_LOCKED)
    salt, wrapped, mac = (_read_base64(found[part], _NOT_LOCKED) for part in (1, 3, 4))
    work_factor = int(found[2])
    if work_factor > HIGHEST_WORK_FACTOR:
        raise Malformed(
            f"This file asks for a work factor of {work_factor}; more than {HIGHEST_WORK_FACTOR} is refused, "
            "so that a forged file cannot exhaust this computer. Get it again from where it came."
        )
    try:
        key = _stretch(passphrase.encode(), salt, work_factor)
        file_key = ChaCha20Poly1305(key).decrypt(bytes(12), wrapped, None)
    except (InvalidTag, UnicodeEncodeError):
        raise WrongPassphrase("This passphrase does not open it; try again.") from None
    return _open_rest(memoryview(sealed), found.start(4), mac, file_key)


def sealed_size(plaintext_size: int) -> int:
    """The exact size of what `seal` gives for that many bytes."""
    chunks = max(1, -(-plaintext_size // CHUNK_SIZE))
    return HEADER_SIZE + _NONCE_SIZE + plaintext_size + chunks * _TAG_SIZE


def open_payload(payload: Buffer, file_key: bytes) -> bytes:
    """The plaintext below a header, all of it or nothing. Raises Malformed, Untrusted."""
    view = memoryview(payload)
    if len(view) < _NONCE_SIZE:
        raise Malformed(_CUT_SHORT)
    key = ChaCha20Poly1305(_hkdf(file_key, bytes(view[:_NONCE_SIZE]), b"payload"))
    chunks = []
    try:
        for nonce, chunk in _chunks(view[_NONCE_SIZE:], CHUNK_SIZE + _TAG_SIZE):
            chunks.append(key.decrypt(nonce, chunk, None))
    except (InvalidTag, ValueError):
        raise Untrusted(_BROKEN) from None
    # An empty last chunk after others would be a second way to write the same plaintext.
    if len(chunks) > 1 and not chunks[-1]:
        raise Untrusted(_BROKEN)
    return b"".join(chunks)


def _payload_parts(plaintext: Buffer, file_key: bytes, random: Random) -> Iterator[bytes]:
    nonce = _draw(random, _NONCE_SIZE)
    key = ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))
    yield nonce
    for chunk_nonce, chunk in _chunks(memoryview(plaintext), CHUNK_SIZE):
        yield key.encrypt(chunk_nonce, chunk, None)


def _chunks(view: memoryview, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk with its STREAM nonce: an 11-byte counter, and 1 for the last one (there is always a last)."""
    last = max(1, -(-len(view) // size)) - 1
    for counter in range(last + 1):
        start = counter * size
        yield counter.to_bytes(11, "big") + bytes([counter == last]), view[start : start + size]


def _open_rest(sealed: memoryview, mac_starts: int, mac: bytes, file_key: bytes) -> bytes:
    # The MAC covers the header up to and including "---"; one space lies between that and its own text.
    expected = _header_mac(bytes(sealed[: mac_starts - 1]), file_key)
    if not hmac.compare_digest(expected, mac):
        raise Untrusted(_BROKEN)
    return open_payload(sealed[mac_starts + 44 :], file_key)


def _write_header(stanza: bytes, body: bytes, file_key: bytes) -> bytes:
    unsigned = b"age-encryption.org/v1\n-> %b\n%b\n---" % (stanza, _base64(body))
    return b"%b %b\n" % (unsigned, _base64(_header_mac(unsigned, file_key)))


def _header_mac(unsigned: bytes, file_key: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, None, b"header"), unsigned, "sha256")


def _hkdf(file_key: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _stretch(passphrase: bytes, salt: bytes, work_factor: int) -> bytes:
    try:
        return Scrypt(salt=_SCRYPT_LABEL + salt, length=32, n=1 << work_factor, r=8, p=1).derive(passphrase)
    except MemoryError:
        raise Refused(
            f"Opening or locking with a passphrase needs {1 << work_factor >> 10} MiB of free memory here; "
            "close other programs and try again.",
            code="not-enough-memory",
        ) from None


def _draw(random: Random, size: int) -> bytes:
    drawn = random(size)
    # A short draw would silently weaken every key made from it.
    if len(drawn) != size:
        raise Refused("The source of randomness gave too little; nothing was sealed.", code="no-randomness")
    return drawn


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _read_base64(text: bytes, sentence: str) -> bytes:
    data = base64.b64decode(text + b"=" * (-len(text) % 4))
    if _base64(data) != text:  # spare bits at the end that are not zero
        raise Malformed(sentence)
    return data


# Bech32 (BIP-173) without its limit of 90 characters, as age uses it.  The standard library's base32 groups
# the bits the same way, so only the alphabet and the checksum are ours.
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_BECH32 = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_TO_BECH32 = bytes.maketrans(_BASE32, _BECH32)
_FROM_BECH32 = bytes.maketrans(_BECH32, _BASE32)
_TO_VALUE = bytes.maketrans(_BECH32, bytes(range(32)))


def _bech32(prefix: str, data: bytes) -> str:
    letters = base64.b32encode(data).rstrip(b"=").translate(_TO_BECH32)
    spelled = prefix.encode()
    check = _polymod(
        bytes(c >> 5 for c in spelled) + b"\0" + bytes(c & 31 for c in spelled)
        + letters.translate(_TO_VALUE) + bytes(6)
    ) ^ 1  # fmt: skip
    checksum = bytes(_BECH32[check >> 5 * (5 - place) & 31] for place in range(6))
    return f"{prefix}1{(letters + checksum).decode()}"


def _write_identity(seed: bytes) -> str:
    return _bech32("age-secret-key-pq-", seed).upper()


def _read_bech32(prefix: str, text: str) -> bytes:
    """The bytes, not yet trusted: writing them again and comparing checks prefix, checksum, case and spare bits."""
    try:
        letters = text.encode("ascii")[len(prefix) + 1 : -6].translate(_FROM_BECH32)
        return base64.b32decode(letters + b"=" * (-len(letters) % 8))
    except (UnicodeEncodeError, binascii.Error):
        return b""


def _polymod(values: bytes) -> int:
    check = 1
    for value in values:
        check = (check & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[check >> 25]
    return check


_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_FEEDBACK = tuple(
    reduce(xor, (g for place, g in enumerate(_GENERATORS) if top >> place & 1), 0) for top in range(32)
)
