"""Cutting a dossier's key into shares, for the first roster and for every later one.

Rule of this room: what was cut is checked before it is sealed, and forgotten before this room is left. No terminal,
no network, no disk: a deal is only what comes back from here, and nothing in that is secret any more.
"""

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from vault import age, envelope, rosters, sharing, statements, titles, wire
from vault.errors import Refused, Untrusted
from vault.identity import ContactCard, Keyring
from vault.rosters import SealedDeal
from vault.sharing import DealtShare, Share
from vault.statements import Collaborator, Custodian, Dwells, Roster

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is to hold a share; `verified` when the card's words were compared by voice."""

    label: str
    card: ContactCard
    verified: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What is fixed when a dossier is created, apart from who."""

    plan: Dwells
    cooling: int
    minimum: int


class Prepared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A roster change as it rests in the home until the server has it for good."""

    roster: str
    shares: tuple[str, ...]
    deal: str
    corrections: tuple[str, ...]

    def request(self, *, cools: bool) -> wire.RosterChange:
        """While it cools, the server is not to have what would let it take the change early."""
        return wire.RosterChange(self.roster, self.shares, self.deal, None if cools else self.corrections)

    @property
    def hash(self) -> str:
        return envelope.statement_hash(self.roster.encode()).hex()


def check_people(people: Sequence[Person], threshold: int, own: ContactCard, *, unverified: bool) -> None:
    """Refused, with a sentence each, for whatever would make a roster weaker than it looks."""
    if not people:
        raise Refused(
            "Nobody would be able to open this; name at least one collaborator.", code="no-collaborators"
        )
    if not 1 <= threshold <= len(people):
        raise Refused(
            f"{threshold} of {len(people)} is not possible: the threshold lies between 1 and the number of "
            f"collaborators, which is {len(people)}.",
            code="bad-threshold",
        )
    seen: dict[str, str] = dict.fromkeys(_keys(own), "yourself")
    for person in people:
        for key in _keys(person.card):
            if (other := seen.get(key)) is not None:
                raise _counted_twice(person.label, other)
        seen |= dict.fromkeys(_keys(person.card), person.label)
    never = [person.label for person in people if not person.verified]
    if len(never) >= threshold and not unverified:
        raise Refused(
            f"The cards of {', '.join(never)} were never compared by voice, and {threshold} of them could open "
            f"everything: a dishonest server could have put its own in their place. Run `afterword card compare "
            f"{shlex.quote(never[0])}` first, or take the risk with --unverified.",
            code="not-compared",
        )


def deal_first(
    dossier: str,
    title: str,
    people: Sequence[Person],
    threshold: int,
    terms: Terms,
    server: ContactCard,
    keyring: Keyring,
    random: Random,
) -> wire.DossierCreation:
    """A new key for a new dossier, locked twice."""
    key, closed = random(32), random(32)
    withheld = sharing.xor(key, closed)
    recipient = age.Identity(key).recipient
    shares = _split(closed, threshold, len(people), random)
    release_shares = _split(withheld, 1, 1, random)
    _check_opens(shares, threshold, release_shares, recipient)
    dealer = _Dealer(keyring, dossier, 1, random)
    sealed = dealer.seal_to([person.card for person in people], shares, title)
    sealed_release = dealer.seal_to([server], release_shares, "")
    deal = dealer.seal_deal(closed)
    roster = Roster(
        dossier=dossier,
        epoch=1,
        prev=None,
        recipient=str(recipient),
        k=threshold,
        collaborators=dealer.lines(people, shares, sealed),
        t=1,
        custodians=(
            Custodian(
                1,
                server.envelope.decode(),
                _digest(sealed_release[0]),
                dealer.release_commitment(release_shares[0]),
            ),
        ),
        deal=_digest(deal),
        minimum=terms.minimum,
        plan=terms.plan,
        cooling=terms.cooling,
    )
    return wire.DossierCreation(
        roster=dealer.sign(roster),
        shares=_blobs(sealed),
        release_shares=_blobs(sealed_release),
        deal=wire.write_blob(deal),
        title=wire.write_blob(age.seal(titles.write_title(dossier, title), keyring.seal.recipient, random)),
    )


def deal_again(
    before: Roster,
    before_hash: str,
    held: SealedDeal,
    title: str,
    people: Sequence[Person],
    threshold: int,
    keyring: Keyring,
    random: Random,
) -> Prepared:
    """The same key for other people: C changes by D, and so does what the custodians withhold."""
    if (held.dossier.hex(), held.epoch) != (before.dossier, before.epoch):
        raise Untrusted(
            "The secret that the server keeps for you is of another dossier or an older roster; nothing was dealt. "
            "Ask its operator what happened.",
            code="wrong-deal",
        )
    epoch = before.epoch + 1
    difference = random(32)
    closed = sharing.xor(held.secret, difference)
    shares = _split(closed, threshold, len(people), random)
    corrections = _split(difference, before.t, len(before.custodians), random)
    dealer = _Dealer(keyring, before.dossier, epoch, random)
    sealed = dealer.seal_to([person.card for person in people], shares, title)
    sealed_corrections = dealer.seal_to(rosters.custodians_of(before), corrections, "")
    deal = dealer.seal_deal(closed)
    roster = Roster(
        dossier=before.dossier,
        epoch=epoch,
        prev=before_hash,
        recipient=before.recipient,
        k=threshold,
        collaborators=dealer.lines(people, shares, sealed),
        t=before.t,
        custodians=tuple(
            Custodian(each.index, each.card, _digest(blob), None)
            for each, blob in zip(before.custodians, sealed_corrections, strict=True)
        ),
        deal=_digest(deal),
        minimum=before.minimum,
        plan=before.plan,
        cooling=before.cooling,
    )
    rosters.follows(roster, before, before_hash)
    return Prepared(
        roster=dealer.sign(roster),
        shares=_blobs(sealed),
        deal=wire.write_blob(deal),
        corrections=_blobs(sealed_corrections),
    )


@dataclass(frozen=True, slots=True)
class _Dealer:
    """Who deals, which dossier, which epoch: what every share is bound to."""

    keyring: Keyring
    dossier: str
    epoch: int
    random: Random

    @property
    def _journalist(self) -> bytes:
        return self.keyring.sign.verify_key.raw

    def seal_to(self, cards: Sequence[ContactCard], shares: Sequence[Share], title: str) -> list[bytes]:
        dossier = bytes.fromhex(self.dossier)
        return [
            age.seal(
                sharing.write_share(DealtShare(self._journalist, dossier, self.epoch, share, title)),
                card.recipient,
                self.random,
            )
            for card, share in zip(cards, shares, strict=True)
        ]

    def seal_deal(self, secret: bytes) -> bytes:
        deal = SealedDeal(bytes.fromhex(self.dossier), self.epoch, secret)
        return age.seal(rosters.write_deal(deal), self.keyring.deal_recipient, self.random)

    def lines(
        self, people: Sequence[Person], shares: Sequence[Share], sealed: Sequence[bytes]
    ) -> tuple[Collaborator, ...]:
        dossier = bytes.fromhex(self.dossier)
        return tuple(
            Collaborator(
                index=share.index,
                card=person.card.envelope.decode(),
                verified=person.verified,
                commitment=sharing.commitment(self._journalist, dossier, self.epoch, share).hex(),
                sealed=_digest(blob),
            )
            for person, share, blob in zip(people, shares, sealed, strict=True)
        )

    def release_commitment(self, share: Share) -> str:
        dossier = bytes.fromhex(self.dossier)
        return sharing.release_commitment(self._journalist, dossier, self.epoch, share).hex()

    def sign(self, roster: Roster) -> str:
        rosters.check_roster(roster, self.keyring.sign.verify_key)
        return statements.write(roster, self.keyring.sign).decode()


def _split(secret: bytes, threshold: int, count: int, random: Random) -> tuple[Share, ...]:
    """Shares of which all, not only some, are known to belong together."""
    shares = sharing.split(secret, threshold, count, random)
    sharing.check_one_polynomial(shares, threshold, secret)
    return shares


def _check_opens(
    shares: Sequence[Share], threshold: int, release_shares: Sequence[Share], recipient: age.Recipient
) -> None:
    """What k people and the custodian will do on the day, done once while it can still be put right."""
    key = sharing.xor(sharing.combine(shares[-threshold:]), sharing.combine(release_shares))
    if age.Identity(key).recipient != recipient:
        raise Untrusted(
            "The shares do not give back the key they were cut from; nothing was dealt, try again."
        )


def _keys(card: ContactCard) -> tuple[str, str, str]:
    return card.card.recipient, card.card.verify, card.card.checkin


def _counted_twice(label: str, other: str) -> Refused:
    if other == label:
        return Refused(f"{label} is named twice; one person holds one share.", code="named-twice")
    if other == "yourself":
        return Refused(
            f"{label} is yourself; a share of your own would be taken with your computer.", code="named-self"
        )
    return Refused(f"{label} and {other} have the same key, so they would count twice.", code="same-key")


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _blobs(sealed: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(wire.write_blob(blob) for blob in sealed)
