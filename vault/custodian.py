"""A server in its role of withholding: what it does with its own keys.

Rule of this room: what names or reaches a person, and every release share, rests sealed under the server key;
whatever leaves signed was signed here. The server key itself never enters the database.
"""

import hashlib
import hmac
from typing import Final

from vault import age, identity, sharing, statements
from vault.age import Random
from vault.clock import MINUTE
from vault.errors import Damaged, Malformed, Refused, Untrusted
from vault.identity import ContactCard, Keyring
from vault.sharing import DealtShare, Share

NONCE_LIVES: Final = 10 * MINUTE
_NONCE_PURPOSE = b"afterword/nonces"  # 16 bytes, in the place of a dossier id


class Custodian:
    """`key` seals at rest and may live outside the data; the keyring signs, and opens what was sealed to the card."""

    def __init__(self, key: age.Identity, keyring: Keyring, card: ContactCard, random: Random) -> None:
        if card.verify_key != keyring.sign.verify_key or card.recipient != keyring.seal.recipient:
            raise Damaged("The server's card is not of its own keys; restore the database from a backup.")
        self._key = key
        self._keyring = keyring
        self._naming = keyring.dedup_key(_NONCE_PURPOSE)
        self._random = random
        self.card = card
        self.hash = card.hash.hex()

    def __repr__(self) -> str:
        return f"<Custodian {self.card.fingerprint}>"

    def rest(self, blob: bytes) -> bytes:
        """Sealed for the database."""
        return age.seal(blob, self._key.recipient, self._random)

    def wake(self, sealed: bytes) -> bytes:
        """What `rest` sealed, or `Damaged`."""
        try:
            return age.open_sealed(sealed, self._key)
        except (Malformed, Untrusted):
            raise Damaged(
                "A row does not open under the server key: is AFTERWORD_SERVER_KEY_FILE the key of this database?"
            ) from None

    def sign(self, statement: statements.Acknowledgement | statements.Release) -> bytes:
        return statements.write(statement, self._keyring.sign)

    def grant_nonce(self, lived: int, life: str) -> str:
        """32 bytes in hex: when it was granted, chance, and a keyed hash of both, so that nothing need be stored.

        `life` is hashed too: a server that comes back from a backup must not take again what it has forgotten.
        """
        body = lived.to_bytes(8, "big") + self._random(8)
        return (body + self._naming.name(body + life.encode())[:16]).hex()

    def check_nonce(self, nonce: str, lived: int, life: str) -> int:
        """The `lived` at which this nonce of ours ends; `Refused` stale-nonce when it is not ours or is over."""
        raw = bytes.fromhex(nonce)
        granted = int.from_bytes(raw[:8], "big")
        ours = hmac.compare_digest(self._naming.name(raw[:16] + life.encode())[:16], raw[16:])
        if not ours or not granted <= lived <= granted + NONCE_LIVES:
            raise Refused(
                "This took too long since the server gave its number; run the command again.",
                code="stale-nonce",
            )
        return granted + NONCE_LIVES

    def take_release_share(
        self, sealed: bytes, *, journalist: bytes, dossier: bytes, epoch: int, index: int
    ) -> Share:
        """R_j (or D_j) as it was sealed to this server's card, its binding checked."""
        dealt = sharing.read_share(age.open_sealed(sealed, self._keyring.seal))
        if (dealt.journalist, dealt.dossier, dealt.epoch, dealt.share.index) != (
            journalist,
            dossier,
            epoch,
            index,
        ):
            raise Untrusted("A release share was sealed for another dossier; create the dossier anew.")
        return dealt.share

    def hand_over(self, dealt: DealtShare, reader: ContactCard) -> bytes:
        """A release share sealed to one collaborator, after the release is durable."""
        return age.seal(sharing.write_share(dealt), reader.recipient, self._random)

    def token(self) -> str:
        """A bearer token: 32 bytes of chance in hex."""
        return self._random(32).hex()

    def short_id(self) -> str:
        return self._random(16).hex()

    def code(self) -> str:
        """A code that a person may have to type: 80 bits in base32, without look-alikes."""
        number = int.from_bytes(self._random(10), "big")
        return "".join("abcdefghjklmnpqrstuvwxyz23456789"[number >> 5 * place & 31] for place in range(16))


def digest(secret: str) -> str:
    """How tokens and codes rest: a hash of something that cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def found(key: age.Identity, label: str, created: int, random: Random) -> tuple[bytes, bytes]:
    """A new server's keyring, sealed under `key`, and its card."""
    seed = random(32)
    keyring = Keyring.from_seed(identity.RootSeed(seed))
    return age.seal(seed, key.recipient, random), identity.write_card(label, keyring, created, "server")


def open_custodian(key: age.Identity, sealed_keyring: bytes, card: bytes, random: Random) -> Custodian:
    """`Refused` wrong-server-key when the key does not fit the database."""
    try:
        root = identity.RootSeed(age.open_sealed(sealed_keyring, key))
    except (Malformed, Untrusted):
        raise Refused(
            "The server key does not open this database; point AFTERWORD_SERVER_KEY_FILE at the copy you keep.",
            code="wrong-server-key",
        ) from None
    return Custodian(key, Keyring.from_seed(root), identity.read_card(card), random)
