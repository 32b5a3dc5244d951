"""A secret cut into shares, and one share as bytes.  Spec: docs/spec/share-v1.md.

Rule of this room: no branch and no look-up depends on a secret byte (indices are public); whatever read_share
accepts, write_share gives back byte for byte.  Combining too few or wrong shares raises nothing by itself: the
commitments are the check, and they come first.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, final

import msgspec

from vault.errors import Malformed, NotEnoughShares, Refused, Untrusted

Random = Callable[[int], bytes]
"""Gives that many unpredictable bytes."""

SHARE_SIZE: Final = 32
PADDED_SIZE: Final = 4096
LONGEST_TITLE: Final = 200
"""Bytes of the title as a JSON string in UTF-8, without its quotes."""

_MOST_SHARES = 255
_HIGHEST_EPOCH = 2**32 - 1


@final
@dataclass(frozen=True, slots=True, repr=False)
class Share:
    """The value at x = index of one polynomial per byte over GF(2^8)."""

    index: int
    value: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.index <= _MOST_SHARES or not self.value:
            raise Malformed(
                "A share has an index from 1 to 255 and at least one byte; ask its holder for it again."
            )

    def __repr__(self) -> str:
        return f"<Share {self.index}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A Share is not pickled or copied: write_share() it on purpose.")


@final
@dataclass(frozen=True, slots=True, repr=False)
class DealtShare:
    """A share with what it belongs to, as its holder finds it inside the seal."""

    journalist: bytes
    """Her verify key, 32 bytes."""
    dossier: bytes
    """The dossier's id, 16 bytes."""
    epoch: int
    share: Share
    title: str
    """Empty for a release share: a custodian is told nothing."""

    def __post_init__(self) -> None:
        _check_binding(self.journalist, self.dossier, self.epoch, self.share)

    def __repr__(self) -> str:
        return f"<DealtShare {self.share.index} of dossier {self.dossier.hex()}, epoch {self.epoch}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A DealtShare is not pickled or copied: write_share() it on purpose.")


def split(secret: bytes, threshold: int, count: int, random: Random) -> tuple[Share, ...]:
    """`count` shares with indices 1 to `count`, any `threshold` of which give the secret. Raises Refused.

    Threshold 1 is allowed: every share is then the secret itself.
    """
    if not secret:
        raise Refused("There is nothing to split: the secret is empty.", code="nothing-to-split")
    if count > _MOST_SHARES:
        raise Refused(f"At most {_MOST_SHARES} people can hold a share; name fewer.", code="too-many-shares")
    if not 1 <= threshold <= count:
        raise Refused(
            f"The threshold must lie between 1 and the number of people who hold a share ({count}), not {threshold}.",
            code="bad-threshold",
        )
    size = len(secret)
    drawn = random(size * (threshold - 1))
    # A short draw would leave coefficients at zero and give the secret to fewer people than agreed.
    if len(drawn) != size * (threshold - 1):
        raise Refused("The source of randomness gave too little; nothing was split.", code="no-randomness")
    falling = [_number(drawn[at : at + size]) for at in range(0, len(drawn), size)] + [_number(secret)]
    shares = []
    for index in range(1, count + 1):
        value = 0
        for coefficient in falling:  # Horner, from the highest power down to the secret
            value = _times(value, index, size) ^ coefficient
        shares.append(Share(index, value.to_bytes(size, "big")))
    return tuple(shares)


def combine(shares: Sequence[Share]) -> bytes:
    """The polynomial's value at 0. Check the commitments first, and the result afterwards."""
    if not shares:
        raise NotEnoughShares(have=0, need=1)
    _check_distinct(shares)
    return _at(0, [(share.index, share.value) for share in shares])


def check_one_polynomial(shares: Sequence[Share], threshold: int, secret: bytes) -> None:
    """All shares lie on one polynomial of degree below `threshold` whose value at 0 is `secret`.

    Raises Untrusted otherwise, NotEnoughShares when there are too few to tell.
    """
    if len(shares) < threshold or not shares:
        raise NotEnoughShares(have=len(shares), need=max(1, threshold))
    _check_distinct(shares)
    if threshold < 1 or len(secret) != len(shares[0].value):
        raise Malformed("Shares, threshold and secret do not fit together; deal the shares anew.")
    points = [(0, secret), *((share.index, share.value) for share in shares)]
    agreed = True
    for x, value in points[threshold:]:
        agreed &= hmac.compare_digest(_at(x, points[:threshold]), value)
    if not agreed:
        raise Untrusted("These shares do not belong together; discard them all and deal anew.")


def xor(a: bytes, b: bytes) -> bytes:
    """The two locks put together, or one taken off. Raises Malformed when the lengths differ."""
    if len(a) != len(b):
        raise Malformed("Two keys of different length cannot be put together; get both again.")
    return (_number(a) ^ _number(b)).to_bytes(len(a), "big")


def commitment(journalist: bytes, dossier: bytes, epoch: int, share: Share) -> bytes:
    """What the roster says of a collaborator's share: 32 bytes, telling nothing about the share's value."""
    return _commit(b"afterword/share/v1", journalist, dossier, epoch, share)


def release_commitment(journalist: bytes, dossier: bytes, epoch: int, share: Share) -> bytes:
    """What a custodian's share of R is held to."""
    return _commit(b"afterword/release-share/v1", journalist, dossier, epoch, share)


def check_commitment(share: Share, expected: bytes, *, journalist: bytes, dossier: bytes, epoch: int) -> None:
    """Raises Untrusted unless this very share was dealt, for this dossier, in this epoch, by this journalist."""
    if not hmac.compare_digest(commitment(journalist, dossier, epoch, share), expected):
        raise Untrusted(
            f"Share {share.index} is not the one that was dealt; go on without it and ask its sender."
        )


def check_release_commitment(
    share: Share, expected: bytes, *, journalist: bytes, dossier: bytes, epoch: int
) -> None:
    """Likewise for a custodian's release share. Raises Untrusted."""
    if not hmac.compare_digest(release_commitment(journalist, dossier, epoch, share), expected):
        raise Untrusted(
            f"Release share {share.index} is not the one that was dealt; ask the server's operator what happened."
        )


class _ShareBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    journalist: str
    dossier: str
    epoch: int
    index: int
    share: str
    title: str


_BAD_SHARE = "This is not a share as Afterword writes it; ask the journalist to deal it again."


def write_share(dealt: DealtShare) -> bytes:
    """Exactly 4096 bytes to be sealed: JSON, then zeros, so that a seal's size tells nothing of the title."""
    body = _ShareBody(
        journalist=dealt.journalist.hex(),
        dossier=dealt.dossier.hex(),
        epoch=dealt.epoch,
        index=dealt.share.index,
        share=dealt.share.value.hex(),
        title=dealt.title,
    )
    try:
        text = msgspec.json.encode(body)
        title_size = len(msgspec.json.encode(dealt.title)) - 2
    except UnicodeEncodeError:
        raise Refused("This title is not valid text; choose another.", code="bad-title") from None
    if title_size > LONGEST_TITLE:
        raise Refused(f"A title has at most {LONGEST_TITLE} bytes; choose a shorter one.", code="bad-title")
    return text.ljust(PADDED_SIZE, b"\0")


def read_share(plaintext: bytes) -> DealtShare:
    """What was inside the seal. Raises Malformed for anything that write_share would not have written."""
    try:
        body = msgspec.json.decode(plaintext.rstrip(b"\0"), type=_ShareBody)
        dealt = DealtShare(
            journalist=bytes.fromhex(body.journalist),
            dossier=bytes.fromhex(body.dossier),
            epoch=body.epoch,
            share=Share(body.index, bytes.fromhex(body.share)),
            title=body.title,
        )
        written = write_share(dealt)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, Refused):
        raise Malformed(_BAD_SHARE) from None
    # One stroke against repeated or reordered keys, blanks, capitals in hex, padding that is not zero or not whole.
    if not hmac.compare_digest(written, plaintext):
        raise Malformed(_BAD_SHARE)
    return dealt


def _commit(label: bytes, journalist: bytes, dossier: bytes, epoch: int, share: Share) -> bytes:
    _check_binding(journalist, dossier, epoch, share)
    return hashlib.sha256(
        label + journalist + dossier + epoch.to_bytes(4, "big") + bytes([share.index]) + share.value
    ).digest()


def _check_binding(journalist: bytes, dossier: bytes, epoch: int, share: Share) -> None:
    # Every field has one length, so that no two different tuples are hashed as the same bytes.
    sizes = (len(journalist), len(dossier), len(share.value))
    if sizes != (32, 16, SHARE_SIZE) or not 1 <= epoch <= _HIGHEST_EPOCH:
        raise Malformed(_BAD_SHARE)


def _check_distinct(shares: Sequence[Share]) -> None:
    if len({share.index for share in shares}) != len(shares):
        raise Malformed("The same share was given twice; leave one of the two out.")
    if len({len(share.value) for share in shares}) != 1:
        raise Malformed("These shares have different lengths, so they do not belong together.")


def _at(x: int, points: Sequence[tuple[int, bytes]]) -> bytes:
    """Lagrange: the value at x of the one polynomial through all points. Every x is public, every value secret."""
    size = len(points[0][1])
    total = 0
    for own, value in points:
        above = below = 1
        for other, _ in points:
            if other != own:
                above = _times(above, x ^ other, 1)
                below = _times(below, own ^ other, 1)
        total ^= _times(_number(value), _times(above, _inverse(below), 1), size)
    return total.to_bytes(size, "big")


def _times(vector: int, scalar: int, size: int) -> int:
    """`size` bytes side by side, each multiplied by the public `scalar` in GF(2^8), polynomial 0x11b."""
    ones = _number(b"\x01" * size)
    product = 0
    for bit in range(8):
        product ^= vector & -(scalar >> bit & 1)
        carried = vector >> 7 & ones
        vector = (vector ^ carried << 7) << 1 ^ carried * 0x1B
    return product


def _inverse(scalar: int) -> int:
    """1/scalar = scalar^254: the product of scalar^2, ^4, … ^128."""
    result = 1
    for _ in range(7):
        scalar = _times(scalar, scalar, 1)
        result = _times(result, scalar, 1)
    return result


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
