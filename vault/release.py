"""Letting go: the one secret a server withholds, and what colleagues then hand each other.

Rule of this room: no byte of a release share leaves before the transaction that released is durable.
"""

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from typing import Final

from vault import envelope, identity, ledger, outbox, sharing, statements, wire
from vault.custodian import Custodian
from vault.envelope import VerifyKey
from vault.errors import (
    AfterwordError,
    Conflict,
    Damaged,
    DiskFailed,
    Malformed,
    NotFound,
    Refused,
    Untrusted,
)
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.sharing import DealtShare, Share
from vault.statements import CheckIn, Collected, Contribution, Release
from vault.storage.records import Records
from vault.storage.records.rows import Account, Collaborator, Dossier, Stored

LARGEST_SEALED: Final = 16 * 1024
"""Bytes of a sealed share: three times what one has, and little enough for a reader of 255 of them."""

log = logging.getLogger("afterword.release")


@dataclass(frozen=True, slots=True)
class Seen:
    """A release of this server's that a client kept, verified: its envelope, and the last check-in that it names."""

    release: Release
    envelope: bytes
    checkin: bytes | None


def let_go(
    records: Records, custodian: Custodian, now: Moment, dossier: Dossier, seen: Seen | None = None
) -> None:
    """Write the signed release, in the transaction in which the switch moved; the one that was `seen`, if any was."""
    if seen is not None:
        records.add_release(dossier.id, seen.envelope, seen.checkin, seen.release.created)
        return
    journalist = records.account(dossier.journalist)
    if journalist is None:
        raise Damaged(f"Dossier {dossier.id} belongs to nobody.")
    last = _last_checkin(records, custodian, now, journalist, dossier.id)
    released = Release(
        server=custodian.hash,
        dossier=dossier.id,
        journalist=journalist.card_hash,
        epoch=dossier.epoch,
        roster=dossier.roster,
        head=dossier.head,
        bundle=dossier.bundles,
        checkin=None if last is None else last.hash,
        served=now.served,
        created=now.wall,
    )
    records.add_release(
        dossier.id, custodian.sign(released), None if last is None else last.envelope, now.wall
    )


def _last_checkin(
    records: Records, custodian: Custodian, now: Moment, journalist: Account, dossier: str
) -> Stored | None:
    """The last sign of life, if it still is one. A row that was damaged must not hold back the release: it goes
    without, says so in what is signed, and the operator is told."""
    try:
        last = records.last_checkin(journalist.id)
        if last is not None:
            statements.read(last.envelope, VerifyKey.read(journalist.checkin), CheckIn)
            if envelope.statement_hash(last.envelope).hex() != last.hash:
                raise Damaged(f"The last check-in of account {journalist.id} is another than its hash says.")
    except AfterwordError as wrong:
        log.error("dossier %s goes without its last check-in: %s", dossier, type(wrong).__name__)
        trouble = f"the last check-in of account {journalist.id} does not read; a release goes without it."
        facts = Facts(account=journalist.id, trouble=trouble)
        outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_TROUBLE, facts, dossier)
        return None
    return last


def show(records: Records, custodian: Custodian, account: Account, dossier: str) -> wire.Released:
    """The release as this collaborator may have it: everything is read in one view, and sealed to them alone."""
    with records.reading():
        row = records.shared_dossier(dossier, account.id) or records.own_dossier(dossier, account.id)
        if row is None:
            raise NotFound("There is no such dossier.")
        released = records.release(dossier)
        if released is None:
            raise Conflict("This dossier has not been released.", code="not-released")
        # One whose own line does not read hears so; nobody else waits for it.
        me = records.collaborator(dossier, account.id)
        shares: tuple[wire.SentReleaseShare, ...] = ()
        contributions: tuple[wire.SentContribution, ...] = ()
        if me is not None:
            journalist = records.account(row.journalist)
            if journalist is None:
                raise Damaged(f"Dossier {dossier} belongs to nobody.")
            reader = identity.read_card(custodian.wake(account.card))
            withheld = withheld_share(custodian, row)
            dealt = DealtShare(
                bytes.fromhex(journalist.verify), bytes.fromhex(dossier), row.epoch, withheld, ""
            )
            shares = (
                wire.SentReleaseShare(withheld.index, wire.write_blob(custodian.hand_over(dealt, reader))),
            )
            contributions = tuple(
                sent
                for each in records.readable_lines(dossier)
                if (sent := _contribution(records, each, account)) is not None
            )
    return wire.Released(
        release=released.envelope.decode(),
        checkin=None if released.checkin is None else released.checkin.decode(),
        shares=shares,
        contributions=contributions,
    )


def contribute(
    records: Records,
    now: Moment,
    account: Account,
    signed: bytes,
    given: Contribution,
    sealed: tuple[bytes, ...],
) -> None:
    """Keep a collaborator's share for the others it is sealed to; a later one replaces it."""
    row, me = reader_of(records, account, given.dossier)
    if records.release(row.id) is None:
        raise Conflict("This dossier has not been released.", code="not-released")
    if (given.epoch, given.roster, given.index) != (row.epoch, row.roster, me.place):
        raise Conflict("This contribution is for another roster; run the command again.", code="wrong-roster")
    others = records.cards_on_roster(row.id) - {account.card_hash}
    readers = [each.card for each in given.readers]
    if len(set(readers)) != len(readers) or not set(readers) <= others:
        raise Refused("A contribution goes to the other collaborators, each once.", code="wrong-readers")
    check_sealed(tuple(each.sealed for each in given.readers), sealed)
    if any(len(blob) > LARGEST_SEALED for blob in sealed):
        raise Malformed("A sealed share is longer than any share is; is the program out of date?")
    if me.contribution is not None:
        # What is left of one that was damaged keeps nobody from giving it again.
        with contextlib.suppress(Malformed, Untrusted):
            records.forget_copies(envelope.statement_hash(me.contribution).hex())
    statement = envelope.statement_hash(signed).hex()
    for each, blob in zip(given.readers, sealed, strict=True):
        records.add_copy(statement, each.card, blob)
    records.set_contribution(row.id, me.place, signed)
    if me.contribution is None:
        ledger.note(records, now, row.journalist, "contributed", dossier=row.id, index=me.place)


def collect(records: Records, now: Moment, account: Account, given: Collected) -> None:
    """A collaborator has the archive: no more release letters to them."""
    row, _ = reader_of(records, account, given.dossier)
    if records.release(row.id) is None:
        raise Conflict("This dossier has not been released.", code="not-released")
    if given.roster != row.roster:
        raise Conflict("This statement is for another roster; run the command again.", code="wrong-roster")
    records.set_collected(row.id, account.id, now.wall)
    records.withdraw_releases_to(row.id, account.id, now.lived)


def reader_of(records: Records, account: Account, dossier: str) -> tuple[Dossier, Collaborator]:
    """The dossier and this account's line of its roster; foreign and unknown are one answer."""
    row = records.shared_dossier(dossier, account.id)
    me = records.collaborator(dossier, account.id)
    if row is None or me is None:
        raise NotFound("There is no such dossier.")
    return row, me


def require_kept(dossier: Dossier) -> None:
    """Of a destroyed dossier nothing is left to be given or taken."""
    if dossier.release_share is None:
        raise Conflict("This dossier has been destroyed; nothing of it is left.", code="destroyed")


def check_sealed(hashes: tuple[str, ...], sealed: tuple[bytes, ...]) -> None:
    """Every blob is there, in order, and is the one that was signed for."""
    if len(hashes) != len(sealed) or any(
        hashlib.sha256(blob).hexdigest() != hash for hash, blob in zip(hashes, sealed, strict=False)
    ):
        raise Untrusted("What is sealed beside the statement is not what the statement names.")


def withhold(custodian: Custodian, share: Share) -> bytes:
    """R_j as it rests."""
    return custodian.rest(bytes([share.index]) + share.value)


def withheld_share(custodian: Custodian, dossier: Dossier) -> Share:
    if dossier.release_share is None:
        raise NotFound("There is no such dossier.")
    raw = custodian.wake(dossier.release_share)
    try:
        return Share(raw[0], raw[1:])
    except (IndexError, Malformed):
        raise Damaged(f"The release share of dossier {dossier.id} does not read.") from None


def corrected(custodian: Custodian, dossier: Dossier, correction: Share) -> Share:
    """R_j xor D_j, for the next epoch."""
    before = withheld_share(custodian, dossier)
    if before.index != correction.index:
        raise Untrusted("The correction is for another custodian.")
    return Share(before.index, sharing.xor(before.value, correction.value))


def _contribution(records: Records, each: Collaborator, reader: Account) -> wire.SentContribution | None:
    if each.contribution is None or each.account == reader.id:
        return None
    try:
        copy = records.copy(envelope.statement_hash(each.contribution).hex(), reader.card_hash)
        return (
            None if copy is None else wire.SentContribution(each.contribution.decode(), wire.write_blob(copy))
        )
    except DiskFailed:
        raise
    except (AfterwordError, UnicodeError) as wrong:
        # Their word is lost; whoever has enough of the others' opens it all the same.
        log.error(
            "dossier %s: contribution %d does not read: %s", each.dossier, each.place, type(wrong).__name__
        )
        return None
