"""Who the collaborators of a dossier are, from the first epoch to the newest.  Spec: docs/spec/roster-v1.md.

Rule of this room: a roster is believed only signed, in its place in the chain, with keys that nobody shares; what
the first one fixed stays fixed. Servers and clients ask here, so that all of them refuse alike.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, final

import msgspec

from vault import age, envelope, identity, statements
from vault.envelope import VerifyKey
from vault.errors import Malformed, Untrusted
from vault.identity import ContactCard
from vault.sharing import PADDED_SIZE, SHARE_SIZE
from vault.statements import Roster

FORGED: Final = "roster-forged"
FORKED: Final = "roster-forked"
ROLLED_BACK: Final = "roster-rolled-back"


def read_chain(
    envelopes: Sequence[bytes], journalist: VerifyKey, dossier: str | None = None
) -> tuple[Roster, ...]:
    """Every roster from epoch 1 on, verified and linked. Untrusted with code `roster-forged` otherwise; an altered
    card inside is Untrusted too, and a roster that contradicts itself is Malformed, though she signed it."""
    rosters: list[Roster] = []
    before_hash: str | None = None
    for signed in envelopes:
        roster = read_roster(signed, journalist)
        if dossier is not None and roster.dossier != dossier:
            raise _forged(roster, "it belongs to another dossier")
        if before_hash is not None:
            follows(roster, rosters[-1], before_hash)
        elif roster.epoch != 1:
            raise _forged(roster, "the rosters before it are not shown")
        rosters.append(roster)
        before_hash = envelope.statement_hash(signed).hex()
    if not rosters:
        raise Untrusted("No roster is shown at all; ask the server's operator what happened.", code=FORGED)
    return tuple(rosters)


def read_roster(signed: bytes, journalist: VerifyKey) -> Roster:
    """One roster, signed by its journalist and consistent in itself. Whom it follows is for `follows` to say."""
    try:
        roster = statements.read(signed, journalist, Roster)
    except Untrusted:
        raise Untrusted(
            "A roster was not signed by this dossier's journalist; do nothing with it until you have spoken with them.",
            code=FORGED,
        ) from None
    check_roster(roster, journalist)
    return roster


def check_roster(roster: Roster, journalist: VerifyKey | None = None) -> tuple[ContactCard, ...]:
    """The collaborators' cards, in order. Malformed unless the roster makes sense by itself, Untrusted for a card
    whose own signature does not hold. `journalist`: nobody on it may have her key."""
    people, servers = roster.collaborators, roster.custodians
    if [each.index for each in people] != list(range(1, len(people) + 1)):
        raise _wrong("its collaborators are not numbered 1, 2, 3 …")
    if [each.index for each in servers] != list(range(1, len(servers) + 1)):
        raise _wrong("its custodians are not numbered 1, 2, 3 …")
    if roster.k > len(people):
        raise _wrong(f"it asks for {roster.k} shares and names {len(people)} collaborators")
    if roster.t > len(servers):
        raise _wrong(f"it asks for {roster.t} release shares and names {len(servers)} custodians")
    if (roster.prev is None) != (roster.epoch == 1):
        raise _wrong("only the first roster, and every first roster, follows none")
    if any((each.commitment is None) != (roster.epoch > 1) for each in servers):
        raise _wrong("custodians' shares are committed to in the first roster, and only there")
    age.Recipient.read(roster.recipient)
    cards = tuple(identity.read_card(each.card.encode()) for each in people)
    _check_keys_differ(roster, (*cards, *custodians_of(roster)), journalist)
    return cards


def custodians_of(roster: Roster) -> tuple[ContactCard, ...]:
    """The custodians' cards, in order. Untrusted for one whose own signature does not hold."""
    return tuple(identity.read_card(each.card.encode()) for each in roster.custodians)


def follows(roster: Roster, before: Roster, before_hash: str) -> None:
    """`roster` is the next epoch after `before`, of which `before_hash` is the hash in hex. Untrusted otherwise."""
    if roster.dossier != before.dossier:
        raise _forged(roster, "it belongs to another dossier")
    if roster.epoch != before.epoch + 1 or roster.prev != before_hash:
        raise _forged(roster, "it does not follow the roster before it")
    # Another recipient would send the next push to somebody else; other custodians would let go by other rules.
    if roster.recipient != before.recipient:
        raise _forged(roster, "it names another recipient, which is fixed when a dossier is created")
    if (roster.t, [each.card for each in roster.custodians]) != (
        before.t,
        [each.card for each in before.custodians],
    ):
        raise _forged(roster, "it names other custodians, who are fixed when a dossier is created")
    if roster.cooling != before.cooling:
        raise _forged(roster, "it names another cooling time, which is fixed when a dossier is created")


@final
@dataclass(frozen=True, slots=True, repr=False)
class SealedDeal:
    """What lies inside the seal to the deal identity: C, and which roster it belongs to."""

    dossier: bytes
    """16 bytes."""
    epoch: int
    secret: bytes
    """C, 32 bytes."""

    def __post_init__(self) -> None:
        sizes = (len(self.dossier), len(self.secret))
        if sizes != (16, SHARE_SIZE) or not 1 <= self.epoch < 2**32:
            raise Malformed(_BAD_DEAL)

    def __repr__(self) -> str:
        return f"<SealedDeal of dossier {self.dossier.hex()}, epoch {self.epoch}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A SealedDeal is not pickled or copied: write_deal() it on purpose.")


class _DealBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"secret": "C"}):
    dossier: str
    epoch: int
    secret: str


_BAD_DEAL: Final = "This is not a dossier's secret as Afterword writes it; use the one the server keeps."


def write_deal(deal: SealedDeal) -> bytes:
    """Exactly 4096 bytes to be sealed to the deal recipient: JSON, then zeros."""
    body = _DealBody(deal.dossier.hex(), deal.epoch, deal.secret.hex())
    return msgspec.json.encode(body).ljust(PADDED_SIZE, b"\0")


def read_deal(plaintext: bytes) -> SealedDeal:
    """What was inside the seal. Malformed for anything that write_deal would not have written."""
    try:
        body = msgspec.json.decode(plaintext.rstrip(b"\0"), type=_DealBody)
        deal = SealedDeal(bytes.fromhex(body.dossier), body.epoch, bytes.fromhex(body.secret))
        written = write_deal(deal)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        raise Malformed(_BAD_DEAL) from None
    if not hmac.compare_digest(written, plaintext):
        raise Malformed(_BAD_DEAL)
    return deal


def _check_keys_differ(roster: Roster, cards: Sequence[ContactCard], journalist: VerifyKey | None) -> None:
    """One key in two places would count one person twice, or let a server open what it is to withhold."""
    keys = [key for each in cards for key in (each.card.recipient, each.card.verify, each.card.checkin)]
    keys.append(roster.recipient)
    if journalist is not None:
        keys.append(journalist.hex)
    if len(set(keys)) != len(keys):
        raise _wrong("two of its entries share a key")


def _wrong(why: str) -> Malformed:
    return Malformed(f"This roster contradicts itself: {why}. Deal it anew.", code="bad-roster")


def _forged(roster: Roster, why: str) -> Untrusted:
    return Untrusted(
        f"Roster {roster.epoch} of dossier {roster.dossier[:8]} cannot be trusted: {why}. Do nothing with this dossier "
        "until you have spoken with its journalist and the other collaborators.",
        code=FORGED,
    )
