"""Who somebody is: root seed and its words, keyring, contact card.  Specs: docs/spec/identity-v1.md, card-v1.md.

Rule of this room: secrets do not print, and no message quotes a word or a seed; whatever a reader accepts,
its writer gives back byte for byte (paper words alone are read forgivingly, because people type them).
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Final, Literal, NoReturn

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vault import age
from vault.envelope import SigningKey, VerifyKey, open_envelope, peek, read_payload, sign, write_payload
from vault.errors import Malformed, Untrusted

Random = Callable[[int], bytes]
Language = Literal["en", "es"]
MadeBy = Literal["cli", "kit", "page", "server"]

MAX_CARD: Final = 4096
MAX_LABEL: Final = 200

_LANGUAGES: Final[dict[Language, str]] = {"en": "english", "es": "spanish"}
_WORD_BITS: Final = 11
_SEED_WORDS: Final = 24
_FINGERPRINT_WORDS: Final = 10
_FINGERPRINT_TEXT: Final = re.compile(r"[a-z2-7]{22}")

# Listed one by one because Unicode's own classes grow from year to year, and a card must not stop reading.
# C0, C1, soft hyphen, everything that turns direction or takes no room; the joiners 200C and 200D are letters'.
_FORBIDDEN_IN_LABELS: Final = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)

# \Z and not $, which would let a line feed follow.
HexKey = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class RootSeed:
    """The 32 bytes from which a person's keys are derived; shown once as 24 words, then forgotten."""

    __slots__ = ("_seed",)

    def __init__(self, seed: bytes) -> None:
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise Malformed("A root seed is 32 bytes; read its words or its file again.")
        self._seed = seed

    @classmethod
    def generate(cls, random: Random) -> "RootSeed":
        return cls(random(32))

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "RootSeed":
        """From 24 words of either list. Case, accents, numbering and spaces do not matter; a wrong word does."""
        for number in _read_words(words, _SEED_WORDS):
            seed, checksum = (number >> 8).to_bytes(32, "big"), number & 0xFF
            if hashlib.sha256(seed).digest()[0] == checksum:
                return cls(seed)
        raise Malformed(
            "Each word is in the list, but together they do not fit: one is wrong or two have changed places. "
            "Compare them with the paper once more.",
            code="wrong-words",
        )

    def words(self, language: Language = "en") -> tuple[str, ...]:
        """BIP-39: the seed itself as entropy, its checksum behind it."""
        checksum = hashlib.sha256(self._seed).digest()[:1]
        return _write_words(int.from_bytes(self._seed + checksum, "big"), _SEED_WORDS, language)

    def _derive(self, name: str) -> bytes:
        return _derive(self._seed, b"afterword/identity/" + name.encode())

    def __repr__(self) -> str:
        return "<RootSeed>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a root seed is not copied or pickled")


class Keyring:
    """The keys that a person's computer, or a server, works with."""

    __slots__ = ("checkin", "deal_recipient", "seal", "sign")

    def __init__(
        self, seal: age.Identity, sign: SigningKey, checkin: SigningKey, deal_recipient: age.Recipient
    ) -> None:
        self.seal = seal
        self.sign = sign
        self.checkin = checkin
        self.deal_recipient = deal_recipient

    @classmethod
    def from_seed(cls, root: RootSeed) -> "Keyring":
        return cls(
            age.Identity(root._derive("seal")),
            SigningKey(root._derive("sign")),
            SigningKey(root._derive("checkin")),
            deal_identity(root).recipient,
        )

    def dedup_key(self, dossier: bytes) -> "DedupKey":
        """For the dossier of this 16-byte id; another dossier's names tell nothing about this one's."""
        if len(dossier) != 16:
            raise ValueError("a dossier id is 16 bytes")
        return DedupKey(_derive(self.seal.reveal(), b"afterword/dedup" + dossier))

    def __repr__(self) -> str:
        return f"<Keyring of {self.sign.verify_key.hex[:8]}…>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is not copied or pickled")


def deal_identity(root: RootSeed) -> age.Identity:
    """What opens the sealed C. It can be had from the paper words only, and is never written anywhere."""
    return age.Identity(root._derive("deal"))


class DedupKey:
    """Names the chunks of one dossier, so that a list of names without the keyring tells nothing."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def name(self, data: bytes | bytearray | memoryview) -> bytes:
        """BLAKE2b-256, keyed. Any thread may call it, and it lets the others run."""
        # The standard library's, because it reads a memoryview where it lies.
        return hashlib.blake2b(data, digest_size=32, key=self._key).digest()

    def __repr__(self) -> str:
        return "<DedupKey>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a de-duplication key is not copied or pickled")


class _KeyringFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["afterword/keyring/v1"]
    seal: HexKey
    sign: HexKey
    checkin: HexKey
    deal: str

    def __repr__(self) -> str:
        return "<keyring file>"


def write_keyring(keyring: Keyring, passphrase: str, random: Random, work_factor: int = 18) -> bytes:
    """An age passphrase file. Of the deal identity it holds the public half only."""
    content = _KeyringFile(
        "afterword/keyring/v1",
        keyring.seal.reveal().hex(),
        keyring.sign.reveal().hex(),
        keyring.checkin.reveal().hex(),
        str(keyring.deal_recipient),
    )
    return age.seal_with_passphrase(write_payload(content), passphrase, random, work_factor)


def read_keyring(sealed: bytes, passphrase: str) -> Keyring:
    """WrongPassphrase if it does not open it, Malformed if what it opens is no keyring."""
    content = read_payload(age.open_with_passphrase(sealed, passphrase), _KeyringFile)
    if len({content.seal, content.sign, content.checkin}) != 3:
        raise Malformed("This keyring holds one key twice; restore it from its paper words.")
    return Keyring(
        age.Identity(bytes.fromhex(content.seal)),
        SigningKey(bytes.fromhex(content.sign)),
        SigningKey(bytes.fromhex(content.checkin)),
        age.Recipient.read(content.deal),
    )


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contact card says: a name, and the three public keys to write to and to believe."""

    label: str
    recipient: str
    verify: HexKey
    checkin: HexKey
    created: Annotated[int, msgspec.Meta(ge=0)]
    made_by: MadeBy


@dataclass(frozen=True, slots=True, repr=False)
class Fingerprint:
    """The first 110 bits of a card's hash: ten words for the telephone, 22 characters for a URL."""

    bits: int

    def __post_init__(self) -> None:
        if not 0 <= self.bits < 1 << 110:
            raise ValueError("a fingerprint is 110 bits")

    @classmethod
    def of(cls, statement_hash: bytes) -> "Fingerprint":
        return cls(int.from_bytes(statement_hash, "big") >> (8 * len(statement_hash) - 110))

    @classmethod
    def read(cls, text: str) -> "Fingerprint":
        """From 22 lower-case base32 characters, as they stand in an invite."""
        if not _FINGERPRINT_TEXT.fullmatch(text):
            raise Malformed(
                "A fingerprint is 22 characters, a to z and 2 to 7; copy the whole address again."
            )
        return cls(int.from_bytes(base64.b32decode(text.upper() + "AA"), "big") >> 10)

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Fingerprint":
        """From the ten words of either list, typed as they were heard."""
        return cls(_read_words(words, _FINGERPRINT_WORDS)[0])

    def words(self, language: Language = "en") -> tuple[str, ...]:
        return _write_words(self.bits, _FINGERPRINT_WORDS, language)

    def write(self) -> str:
        return base64.b32encode((self.bits << 2).to_bytes(14, "big"))[:22].decode().lower()

    def __repr__(self) -> str:
        return f"<Fingerprint {self.write()}>"


@dataclass(frozen=True, slots=True)
class ContactCard:
    """A card whose signature held. That it is hers, only comparing its fingerprint by voice can tell."""

    card: Card = field(repr=False)
    envelope: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    fingerprint: Fingerprint

    @property
    def recipient(self) -> age.Recipient:
        return age.Recipient.read(self.card.recipient)

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey.read(self.card.verify)

    @property
    def checkin_key(self) -> VerifyKey:
        return VerifyKey.read(self.card.checkin)


def write_card(label: str, keyring: Keyring, created: int, made_by: MadeBy) -> bytes:
    """A card's envelope, signed by the key it names. `created`: ms UTC."""
    check_label(label)
    card = Card(
        label,
        str(keyring.seal.recipient),
        keyring.sign.verify_key.hex,
        keyring.checkin.verify_key.hex,
        created,
        made_by,
    )
    return sign("card", write_payload(card), keyring.sign)


def read_card(envelope: bytes) -> ContactCard:
    """A card is its own witness: the signature shows that whoever wrote it holds the key, not who that is."""
    if len(envelope) > MAX_CARD:
        raise Malformed("This is longer than any contact card.")
    claimed = peek(envelope)
    if claimed.kind != "card":
        raise Untrusted(f"A contact card was expected and a statement of kind {claimed.kind} arrived.")
    card = read_payload(claimed.payload, Card)
    opened = open_envelope(envelope, VerifyKey.read(card.verify), "card")
    VerifyKey.read(card.checkin)
    age.Recipient.read(card.recipient)
    check_label(card.label)
    if card.verify == card.checkin:
        raise Malformed("This card uses one key for two purposes; ask for a new one.")
    return ContactCard(card, envelope, opened.hash, Fingerprint.of(opened.hash))


def check_label(label: str) -> None:
    """Malformed unless it can be shown next to a decision: visible, on one line, reading in its own direction."""
    if not label or label != label.strip(" "):
        raise Malformed("A label is at least one character, without spaces around it.", code="bad-label")
    if len(label.encode("utf-8", "surrogatepass")) > MAX_LABEL:
        raise Malformed(f"A label is at most {MAX_LABEL} bytes long; choose a shorter one.", code="bad-label")
    if _FORBIDDEN_IN_LABELS.search(label):
        raise Malformed(
            "A label has no control characters and none that turn the direction of writing.", code="bad-label"
        )


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def _write_words(number: int, count: int, language: Language) -> tuple[str, ...]:
    words = _word_list(language)
    shifts = range(_WORD_BITS * (count - 1), -1, -_WORD_BITS)
    return tuple(words[number >> shift & 0x7FF] for shift in shifts)


def _read_words(words: Sequence[str], count: int) -> tuple[int, ...]:
    """The number that the words spell: once for each list that has them all, English first."""
    typed = tuple(_fold_all([words] if isinstance(words, str) else words))
    if len(typed) != count:
        raise Malformed(f"{count} words are needed, and there are {len(typed)}.", code="wrong-words")
    unknown = {
        language: [place for place, word in enumerate(typed, 1) if word not in _places(language)]
        for language in _LANGUAGES
    }
    readable = [language for language in _LANGUAGES if not unknown[language]]
    if not readable:
        nearest = min(unknown, key=lambda language: len(unknown[language]))
        which = ", ".join(str(place) for place in unknown[nearest])
        raise Malformed(
            f"Not in the {_LANGUAGES[nearest].capitalize()} list: word {which}. Look at the spelling again.",
            code="wrong-words",
        )
    return tuple(_number(typed, _places(language)) for language in readable)


def _number(folded: Iterable[str], places: dict[str, int]) -> int:
    number = 0
    for word in folded:
        number = number << _WORD_BITS | places[word]
    return number


def _fold_all(words: Iterable[str]) -> Iterable[str]:
    for typed in " ".join(words).split():
        if folded := fold(typed).strip("0123456789.,;:()"):
            yield folded


def fold(word: str) -> str:
    """Without case and accents, in which no two words of either list are alike."""
    apart = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


@cache
def _word_list(language: Language) -> tuple[str, ...]:
    from mnemonic import Mnemonic  # here, because most commands never need a word

    return tuple(unicodedata.normalize("NFC", word) for word in Mnemonic(_LANGUAGES[language]).wordlist)


@cache
def _places(language: Language) -> dict[str, int]:
    return {fold(word): place for place, word in enumerate(_word_list(language))}
