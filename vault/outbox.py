"""Letters as rows, from the transaction that needed them until they have arrived.

Rule of this room: save, then speak. A letter is delivered at least once, always under the same Message-ID;
one that is no longer true is withdrawn before the next is posted; nobody's trouble delays anybody else's.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from vault import identity, letters
from vault.clock import DAY, HOUR, MINUTE
from vault.couriers import Accepted, Courier, Parcel, PermanentFailure
from vault.custodian import Custodian
from vault.errors import AfterwordError, Conflict, Damaged
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Address, Letter

LEASE: Final = 3 * MINUTE
LONGEST_WAIT: Final = HOUR
HOPELESS_WAIT: Final = 6 * HOUR
RELEASE_AGAIN: Final = (HOUR, 6 * HOUR, DAY, DAY, DAY, 7 * DAY)
GIVE_UP: Final = 14 * DAY
# What nobody waits for any more after a while. Everything else is tried until it has arrived or is untrue.
PASSING: Final = frozenset({LetterKind.CODE, LetterKind.TEST})

log = logging.getLogger("afterword.outbox")


class Reach(msgspec.Struct, frozen=True):
    """Where and how somebody wants their letters; rests sealed."""

    address: str
    language: str
    subject: str
    phrase: str


@dataclass(frozen=True, slots=True)
class Sender:
    """What every letter of this server says of where it comes from. `operators` are the operator's addresses."""

    address: str
    host: str | None
    operators: tuple[str, ...]
    operator_language: str


def read_reach(custodian: Custodian, address: Address) -> Reach:
    return msgspec.json.decode(custodian.wake(address.sealed), type=Reach)


def write_reach(custodian: Custodian, reach: Reach) -> bytes:
    return custodian.rest(msgspec.json.encode(reach))


def post(
    records: Records,
    custodian: Custodian,
    now: Moment,
    kind: LetterKind,
    account: str,
    facts: Facts,
    *,
    dossier: str | None = None,
    climb: int | None = None,
    letter: str | None = None,
) -> int:
    """A row for every confirmed address of this account; how many there were."""
    addresses = records.confirmed_addresses_of(account)
    for address in addresses:
        post_to(records, custodian, now, kind, address, facts, dossier=dossier, climb=climb, letter=letter)
    return len(addresses)


def post_to(
    records: Records,
    custodian: Custodian,
    now: Moment,
    kind: LetterKind,
    address: Address,
    facts: Facts,
    *,
    dossier: str | None = None,
    climb: int | None = None,
    letter: str | None = None,
    wait: int = 0,
) -> None:
    """A row for one address, first tried after `wait` ms."""
    _add(records, custodian, now, kind, address.account, address.id, facts, dossier, climb, letter, wait)


def post_operator(
    records: Records,
    custodian: Custodian,
    now: Moment,
    kind: LetterKind,
    facts: Facts,
    dossier: str | None = None,
    climb: int | None = None,
    letter: str | None = None,
) -> None:
    """A row for the operator, whose addresses are the deliverer's to know."""
    _add(records, custodian, now, kind, None, None, facts, dossier, climb, letter, 0)


def _add(
    records: Records,
    custodian: Custodian,
    now: Moment,
    kind: LetterKind,
    account: str | None,
    address: str | None,
    facts: Facts,
    dossier: str | None,
    climb: int | None,
    letter: str | None,
    wait: int,
) -> None:
    told = msgspec.json.encode(facts)
    records.add_letter(
        Letter(
            id=custodian.short_id(),
            message_id=custodian.short_id(),
            account=account,
            address=address,
            kind=kind.value,
            dossier=dossier,
            climb=climb,
            letter=letter,
            # Dates and flags may lie open, a code may not.
            facts=custodian.rest(told) if kind is LetterKind.CODE else told,
            state="waiting",
            attempts=0,
            next=now.lived + wait,
            lease=0,
            reason=None,
            posted=now.lived,
            settled=None,
        )
    )


def claim(records: Records, limit: int) -> list[Letter]:
    """Letters that are due now and are ours alone until their lease ends."""
    with records.transaction() as now:
        records.save_delivery(now.lived)
        return [
            msgspec.structs.replace(letter, lease=now.lived + LEASE)
            for letter in records.due_letters(now.lived, limit)
            if records.claim_letter(letter, now.lived + LEASE)
        ]


def give_back(records: Records, letters: Sequence[Letter]) -> None:
    """Claimed, and not tried after all: whoever is next may have them."""
    with records.transaction():
        for letter in letters:
            records.unclaim_letter(letter)


def deliver(
    records: Records,
    custodian: Custodian,
    courier: Courier,
    sender: Sender,
    letter: Letter,
    landed: Callable[[Moment, Letter], None],
    chance: float,
) -> bool:
    """Carry one claimed letter and save how it went; true when it was accepted.

    `landed` runs in the transaction that saves an acceptance, in time or not. `chance` in 0…1 spreads the next attempt.
    """
    parcels = _parcels(records, custodian, sender, letter, chance)
    outcomes = [courier.carry(parcel) for parcel in parcels]
    if not outcomes:
        return False
    if any(isinstance(outcome, Accepted) for outcome in outcomes):
        try:
            _accepted(records, custodian, letter, landed)
        except Conflict:
            raise
        except AfterwordError as wrong:
            # Its switch does not read. The letter has arrived even so, and must not be sent for ever.
            log.error("letter %s arrived, and nothing follows from it: %s", letter.id, type(wrong).__name__)
            _accepted(records, custodian, letter, lambda now, row: None)
        return True
    failure = next(outcome for outcome in outcomes if not isinstance(outcome, Accepted))
    with records.transaction() as now:
        if letter.address is not None:
            records.mark_failing(letter.address, now.wall)
        if LetterKind(letter.kind) in PASSING and now.lived - letter.posted > GIVE_UP:
            records.settle_letter(letter.id, "failed", now.lived, failure.reason)
        else:
            hopeless = isinstance(failure, PermanentFailure)
            wait = _back_off(letter.attempts, now.tick, hopeless, chance)
            records.retry_letter(letter.id, now.lived + wait, failure.reason)
    return False


def _parcels(
    records: Records, custodian: Custodian, sender: Sender, letter: Letter, chance: float
) -> list[Parcel]:
    """What is to be carried for this letter; nothing when it is not ours or not true any more."""
    try:
        with records.reading() as now:
            held = records.letter(letter.id)
            if held is None or held.state != "waiting" or held.lease != letter.lease:
                return []
            parcels = _write(records, custodian, sender, letter, now)
    except Exception as wrong:
        # Whatever is wrong with one account's rows, the letters of the others go out.
        log.error("letter %s cannot be written: %s", letter.id, type(wrong).__name__)
        with records.transaction() as now:
            wait = _back_off(letter.attempts, now.tick, False, chance)
            records.retry_letter(letter.id, now.lived + wait, "the letter cannot be written")
        return []
    if not parcels:
        with records.transaction() as now:
            records.settle_letter(letter.id, "withdrawn", now.lived, "there is no address to write to")
    return parcels


def _accepted(
    records: Records, custodian: Custodian, letter: Letter, landed: Callable[[Moment, Letter], None]
) -> None:
    with records.transaction() as now:
        # Withdrawn while it was on its way: it has arrived all the same, and whoever got it must hear the rest.
        if records.settle_letter(letter.id, "accepted", now.lived) or records.settle_late(
            letter.id, now.lived
        ):
            landed(now, letter)
            if letter.address is not None:
                records.mark_failing(letter.address, None)
            _repeat(records, custodian, now, letter)


def post_release(records: Records, custodian: Custodian, now: Moment, dossier: str, address: Address) -> None:
    """For an address that was confirmed after the release: nobody is forgotten for having been late."""
    reader = records.collaborator(dossier, address.account)
    if reader is None or reader.collected is not None or reader.has_left:
        return
    if not records.has_letter(dossier, address.id, LetterKind.RELEASE.value):
        post_to(records, custodian, now, LetterKind.RELEASE, address, Facts(), dossier=dossier, climb=0)


def _back_off(attempts: int, tick: int, hopeless: bool, chance: float) -> int:
    wait = min(2 * tick * 2 ** min(attempts, 20), LONGEST_WAIT)
    if hopeless:
        # A mailbox that said no may still be repaired by its owner, so even then it is asked again.
        wait = min(max(wait, 40 * tick) * 4, HOPELESS_WAIT)
    return int(wait * (0.75 + chance / 2))


def _repeat(records: Records, custodian: Custodian, now: Moment, letter: Letter) -> None:
    """A release is told again until its reader has collected: 1 h, 6 h, daily, then weekly."""
    if letter.kind != LetterKind.RELEASE.value or letter.dossier is None or letter.address is None:
        return
    reader = records.collaborator(letter.dossier, letter.account or "")
    address = records.address(letter.address)
    if reader is None or reader.collected is not None or reader.has_left or address is None:
        return
    told = letter.climb or 0
    post_to(
        records,
        custodian,
        now,
        LetterKind.RELEASE,
        address,
        Facts(),
        dossier=letter.dossier,
        climb=told + 1,
        wait=RELEASE_AGAIN[min(told, len(RELEASE_AGAIN) - 1)],
    )


def _write(
    records: Records, custodian: Custodian, sender: Sender, letter: Letter, now: Moment
) -> list[Parcel]:
    """The letter as it leaves; none when its address is gone, or the operator has none."""
    kind = LetterKind(letter.kind)
    told = custodian.wake(letter.facts) if kind is LetterKind.CODE else letter.facts
    facts = msgspec.json.decode(told, type=Facts)
    if letter.address is None:
        reaches = [Reach(each, sender.operator_language, "", "") for each in sender.operators]
    else:
        address = records.address(letter.address)
        reaches = [] if address is None else [read_reach(custodian, address)]
    try:
        label = _label(records, custodian, letter)
    except AfterwordError as wrong:
        # What she calls herself is a comfort. That something was released must be said without it.
        log.error("letter %s goes without a name: %s", letter.id, type(wrong).__name__)
        label = None
    facts = replace(facts, label=label, host=sender.host)
    domain = sender.address.rpartition("@")[2]
    parcels = []
    for place, reach in enumerate(reaches):
        text = letters.write(kind, reach.language, reach.subject, reach.phrase, facts)
        suffix = f".{place}" if place else ""
        parcels.append(
            Parcel(
                message_id=f"<{letter.message_id}{suffix}@{domain}>",
                to=reach.address,
                sender=sender.address,
                subject=text.subject,
                body=text.body,
                language=reach.language,
                date=now.wall,
            )
        )
    return parcels


def _label(records: Records, custodian: Custodian, letter: Letter) -> str | None:
    """What the journalist of this dossier calls herself on her card, for those who are asked to reach her."""
    dossier = None if letter.dossier is None else records.dossier(letter.dossier)
    if dossier is None:
        return None
    journalist = records.account(dossier.journalist)
    if journalist is None:
        raise Damaged(f"Dossier {dossier.id} belongs to nobody.")
    return identity.read_card(custodian.wake(journalist.card)).card.label
