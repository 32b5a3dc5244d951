"""What a server has promised each account, and the order in which it did.

Rule of this room: the same bytes get the same answer, `seq` only rises, and everything that was accepted or
happened is one more link in that account's chain before anybody hears of it.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from vault import envelope, outbox, statements, wire
from vault.clock import SECOND
from vault.custodian import Custodian
from vault.errors import AfterwordError, Conflict, Damaged, NotFound, Refused, StaleSequence, is_damage
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.statements import MAX_AHEAD, Acknowledgement, CheckIn, Release, Roster, Statement
from vault.storage.records import Records
from vault.storage.records.people import Entry
from vault.storage.records.rows import Account, Stored

FIRST = "0" * 64
UNHURRIED: Final = 10_000
"""Links of a chain, from which on an account may say the same thing once a second: each link stays for ever, and a
life of daily check-ins never comes to this many."""
AT_ONCE: Final = 16
"""So many things altogether may such an account say within a second."""
URGENT: Final = frozenset({"cancel", "checkin", "hold", "pause", "resume"})
"""Kinds that nothing else she has said, and no lack of room, may stand in the way of."""
_RECENT: Final = 4 * AT_ONCE
SHOWN: Final = 100
"""Links after a presented acknowledgement that are answered with."""

log = logging.getLogger("afterword.ledger")


@dataclass(frozen=True, slots=True)
class Presented:
    """What came of a person's last acknowledgement: the account as it is now, the moment (in a new life, if one
    began), and whether switches may have forgotten something."""

    account: Account
    now: Moment
    lost: bool


def answered(records: Records, signed: bytes) -> Stored | None:
    """What was stored when exactly these bytes were accepted before."""
    return records.statement(envelope.statement_hash(signed).hex())


def check(
    records: Records, custodian: Custodian, now: Moment, account: Account, statement: Statement
) -> None:
    """This statement is meant for this server, is newer than all before, and its nonce is fresh and now spent."""
    server = getattr(statement, "server", custodian.hash)
    if server != custodian.hash:
        raise Refused("This statement is meant for another server.", code="wrong-server")
    # Read inside of this transaction: what the session knew may be older than a statement that was faster.
    row = records.account(account.id)
    if row is None:
        raise NotFound("There is no such account.")
    seq = getattr(statement, "seq", None)
    if seq is not None and seq <= row.seq:
        raise StaleSequence(row.seq)
    if seq is not None and seq > row.seq + MAX_AHEAD:
        raise Refused(
            "The number of this statement lies too far above the last one; restore this home from the paper words: "
            "afterword join --from-words.",
            code="sequence-too-far",
        )
    if seq is not None:
        _require_calm(records, now, row, statement)
    nonce = getattr(statement, "nonce", None)
    if nonce is not None and not records.spend_nonce(
        nonce, custodian.check_nonce(nonce, now.lived, now.life)
    ):
        raise Refused("The server's number was used before; run the command again.", code="stale-nonce")


def acknowledge(
    records: Records,
    custodian: Custodian,
    now: Moment,
    account: str,
    signed: bytes,
    statement: Statement,
    *,
    change: str | None = None,
    commitment: str | None = None,
    again: bool = False,
) -> bytes:
    """Link an accepted statement into its account's chain and sign that it is there.

    `again` replaces the answer that a roster got when it began to cool.
    """
    hash = envelope.statement_hash(signed).hex()
    dossier = getattr(statement, "dossier", None)
    before = records.account(account)
    if before is not None and getattr(statement, "seq", None) is None and not again:
        # Bundles and rosters have an order of their own, and do not come by way of `check`.
        _require_calm(records, now, before, statement)
    row = note(
        records, now, account, statement.kind, seq=getattr(statement, "seq", None), dossier=dossier, hash=hash
    )
    answer = _sign(custodian, now, row, hash, commitment)
    if again:
        records.forget_statement(hash)
    # A roster names people, so it rests sealed in a table of its own and not here.
    kept = b"" if isinstance(statement, Roster) else signed
    records.add_statement(Stored(hash, account, dossier, statement.kind, kept, answer, change))
    return answer


def head(custodian: Custodian, now: Moment, account: Account, signed: bytes) -> bytes:
    """Where this account's chain stands, signed in answer to its login: an acknowledgement that adds no link."""
    return _sign(custodian, now, account, envelope.statement_hash(signed).hex(), None)


def present(
    records: Records, custodian: Custodian, now: Moment, account: Account, last: str | None
) -> Presented:
    """Hold the last acknowledgement that somebody kept against what is here.

    If this server signed a link that its chain does not have, it was set back: it begins a new life, marks the
    account, adopts the higher `seq` and tells the operator. Nothing is refused for it, and what does not read or is
    somebody else's is passed over: neither may cost anybody a check-in. A loss is believed once: of a life that is
    over it is known already, and a hoard of old acknowledgements proves nothing new.
    """
    kept = _kept(custodian, account, last)
    if kept is None:
        return Presented(account, now, lost=False)
    entry = _entry(records, account, kept.number)
    if entry is not None and entry.hash == kept.history:
        return Presented(account, now, lost=False)
    # Whatever this life or an unknown one promised lies on a branch that is lost as of now.
    new = kept.life == now.life or not records.is_past_life(kept.life)
    if new:
        now = _begin_life(records, custodian, now, kept.life)
    if new or not account.marked or kept.seq > account.seq:
        forked = entry is not None
        account = note(
            records, now, account.id, "forked" if forked else "forgot", seq=kept.seq, number=kept.number
        )
        if new or not account.marked:
            how = "contradicts" if forked else "has forgotten"
            _tell_of_loss(records, custodian, now, account, "a promise of this server", how)
        records.mark_account(account.id)
        account = msgspec.structs.replace(account, marked=1)
    return Presented(account, now, lost=True)


def forgot_release(
    records: Records, custodian: Custodian, now: Moment, account: Account, signed: bytes, given: Release
) -> Moment:
    """Somebody shows a release of this server's that the database lacks, which proves a loss as well: the moment, in a
    new life if one began. Each is believed once, and none that is older than the present life: what was lost before it
    began is known already."""
    hash = envelope.statement_hash(signed).hex()
    if records.is_past_life(hash) or given.served < records.life_began(now.served):
        return now
    now = _begin_life(records, custodian, now, hash)
    what = f"a release of dossier {given.dossier} by this server"
    _tell_of_loss(records, custodian, now, account, what, "has forgotten")
    return now


def _begin_life(records: Records, custodian: Custodian, now: Moment, lost: str) -> Moment:
    """This server was set back: of the present life and of `lost` nothing more is news, and everybody's check-ins may
    be missing."""
    life = custodian.short_id()
    for ended in (now.life, lost):
        records.end_life(ended)
    records.begin_new_life(life)
    records.note_setback(life)
    return replace(now, life=life)


def _tell_of_loss(
    records: Records, custodian: Custodian, now: Moment, account: Account, what: str, how: str
) -> None:
    trouble = (
        f"account {account.id} holds {what} that the database {how}. It was set back to an older state (a backup, a "
        "snapshot, a damaged file), or runs twice. What may have been forgotten gets all its time again; ask this "
        "person to check in and to push."
    )
    facts = Facts(account=account.id, trouble=trouble)
    outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_TROUBLE, facts)


def links_since(
    records: Records, custodian: Custodian, account: Account, last: str | None
) -> tuple[wire.HistoryEntry, ...]:
    """What follows the acknowledgement that was presented, so that its holder can follow the chain from there."""
    kept = _kept(custodian, account, last)
    try:
        return () if kept is None else links(records, account, kept.number, SHOWN)
    except Damaged:
        log.error("the history of account %s does not read", account.id)
        return ()


def links(records: Records, account: Account, after: int, limit: int) -> tuple[wire.HistoryEntry, ...]:
    return tuple(
        wire.HistoryEntry(each.number, each.entry, each.hash)
        for each in records.history(account.id, after, limit)
    )


def _entry(records: Records, account: Account, number: int) -> Entry | None:
    """One that does not read is as good as gone: it must not cost anybody the check-in that it was shown with."""
    try:
        return records.history_entry(account.id, number)
    except Damaged:
        log.error("entry %d in the history of account %s does not read", number, account.id)
        return None


def _kept(custodian: Custodian, account: Account, last: str | None) -> Acknowledgement | None:
    if last is None:
        return None
    try:
        kept = statements.read(last.encode(), custodian.card.verify_key, Acknowledgement)
    except (AfterwordError, UnicodeError):
        kept = None
    if kept is None or (kept.account, kept.server) != (account.card_hash, custodian.hash):
        log.warning("account %s sent along what this server never acknowledged to it", account.id)
        return None
    return kept


def _sign(custodian: Custodian, now: Moment, row: Account, statement: str, commitment: str | None) -> bytes:
    return custodian.sign(
        Acknowledgement(
            server=custodian.hash,
            account=row.card_hash,
            statement=statement,
            seq=row.seq,
            life=now.life,
            lived=now.lived,
            served=now.served,
            number=row.number,
            history=row.history,
            commitment=commitment,
            created=now.wall,
        )
    )


def note(
    records: Records,
    now: Moment,
    account: str,
    what: str,
    *,
    seq: int | None = None,
    **facts: str | int | None,
) -> Account:
    """One more link: what happened, with ids only. The account as it stands afterwards."""
    row = records.account(account)
    if row is None:
        raise NotFound("There is no such account.")
    number = row.number + 1
    told = {key: value for key, value in facts.items() if value is not None}
    entry = msgspec.json.encode({"n": number, "served": now.served, "what": what, **told}).decode()
    seq = max(row.seq, seq or 0)
    try:
        hash = hashlib.sha256(bytes.fromhex(row.history) + entry.encode()).hexdigest()
        records.extend_history(account, seq, number, entry, hash)
    except (Conflict, ValueError) as wrong:
        if not is_damage(wrong):
            raise
        raise Damaged(f"The history of account {account} does not end where its row says.") from wrong
    return msgspec.structs.replace(row, seq=seq, number=number, history=hash)


def _require_calm(records: Records, now: Moment, account: Account, statement: Statement) -> None:
    if account.number < UNHURRIED:
        return
    kind, dossier = statement.kind, getattr(statement, "dossier", None)
    last = records.last_statement(account.id, kind, dossier)
    if kind != CheckIn.kind:
        said = _just_said(records, now, account)
        if len(said) >= AT_ONCE and kind not in URGENT:
            raise Refused("Too much was said in one second; wait a moment and say it again.", code="too-many")
        last = last or next((each for each in said if (each.kind, each.dossier) == (kind, dossier)), None)
    if last is not None and _within_a_second(last, now):
        raise Refused("The same was said a moment ago; wait a second and say it again.", code="too-many")


def _just_said(records: Records, now: Moment, account: Account) -> list[Stored]:
    """What this account was answered within the last second, by the newest links of its chain."""
    said = []
    for link in records.newest_links(account.id, _RECENT):
        try:
            hash = msgspec.json.decode(link.entry, type=_Said).hash
            stored = None if hash is None else records.statement(hash)
        except (msgspec.MsgspecError, Damaged):
            continue  # what does not read costs nobody their next word
        if stored is not None and not _within_a_second(stored, now):
            break
        if stored is not None:
            said.append(stored)
    return said


class _Said(msgspec.Struct, frozen=True):
    """What a link says of the statement that it is about, if it is about one."""

    hash: str | None = None


def _within_a_second(stored: Stored, now: Moment) -> bool:
    """Whether it was acknowledged just now. What does not read costs nobody their next word."""
    try:
        return now.lived - accepted_at(stored) < SECOND
    except AfterwordError:
        return False


def accepted_at(stored: Stored) -> int:
    """`lived` when it was acknowledged."""
    said = envelope.peek(stored.acknowledgement).payload
    return envelope.read_payload(said, Acknowledgement).lived


def read_person(signed: bytes, account: Account, kind: type[statements.S]) -> statements.S:
    """A statement of this account, signature first."""
    return statements.read(signed, envelope.VerifyKey.read(account.verify), kind)
