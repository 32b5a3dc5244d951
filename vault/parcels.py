"""A letter as it leaves: words, address and name put together at the last moment.

Rule of this room: what rests sealed is opened here and goes no further than the parcel; what is missing is left out,
since a letter without a name is better than no letter.
"""

import logging
from dataclasses import dataclass, replace

import msgspec

from vault import identity, letters
from vault.couriers import Parcel
from vault.custodian import Custodian
from vault.errors import AfterwordError, Damaged
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Address, Letter

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


def write(
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
    facts = replace(facts, label=label, colleague=_colleagues(records, custodian, facts), host=sender.host)
    domain = sender.address.rpartition("@")[2]
    parcels = []
    for place, reach in enumerate(reaches):
        phrase = None if letter.address is None else reach.phrase
        text = letters.write(kind, reach.language, reach.subject, phrase, facts)
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


def _colleagues(records: Records, custodian: Custodian, facts: Facts) -> str | None:
    """What those whom a letter is about call themselves; their accounts stand in the row, their names nowhere."""
    labels = []
    for each in facts.by:
        try:
            account = records.account(each)
            if account is not None:
                labels.append(identity.read_card(custodian.wake(account.card)).card.label)
        except AfterwordError as wrong:
            log.error("a letter goes without a name: %s", type(wrong).__name__)
    return ", ".join(labels) or None


def _label(records: Records, custodian: Custodian, letter: Letter) -> str | None:
    """What the journalist of this dossier calls herself on her card, for those who are asked to reach her."""
    dossier = None if letter.dossier is None else records.dossier(letter.dossier)
    if dossier is None:
        return None
    journalist = records.account(dossier.journalist)
    if journalist is None:
        raise Damaged(f"Dossier {dossier.id} belongs to nobody.")
    return identity.read_card(custodian.wake(journalist.card)).card.label
