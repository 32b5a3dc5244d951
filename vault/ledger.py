"""What a server has promised each account, and the order in which it did.

Rule of this room: the same bytes get the same answer, `seq` only rises, and everything that was accepted or
happened is one more link in that account's chain before anybody hears of it.
"""

import hashlib
from typing import Final

import msgspec

from vault import envelope, statements
from vault.clock import SECOND
from vault.custodian import Custodian
from vault.errors import NotFound, Refused, StaleSequence
from vault.service import Moment
from vault.statements import MAX_AHEAD, Acknowledgement, Roster, Statement
from vault.storage.records import Records
from vault.storage.records.rows import Account, Stored

FIRST = "0" * 64
UNHURRIED: Final = 10_000
"""Links of a chain, from which on an account may say the same thing once a second: each link stays for ever, and a
life of daily check-ins never comes to this many."""


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
    if seq is not None and row.number >= UNHURRIED:
        last = records.last_statement(account.id, statement.kind, getattr(statement, "dossier", None))
        if last is not None and now.lived - _accepted(last) < SECOND:
            raise Refused("The same was said a moment ago; wait a second and say it again.", code="too-many")
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
    row = note(
        records, now, account, statement.kind, seq=getattr(statement, "seq", None), dossier=dossier, hash=hash
    )
    answer = custodian.sign(
        Acknowledgement(
            server=custodian.hash,
            account=row.card_hash,
            statement=hash,
            seq=row.seq,
            lived=now.lived,
            served=now.served,
            number=row.number,
            history=row.history,
            commitment=commitment,
            created=now.wall,
        )
    )
    if again:
        records.forget_statement(hash)
    # A roster names people, so it rests sealed in a table of its own and not here.
    kept = b"" if isinstance(statement, Roster) else signed
    records.add_statement(Stored(hash, account, dossier, statement.kind, kept, answer, change))
    return answer


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
    hash = hashlib.sha256(bytes.fromhex(row.history) + entry.encode()).hexdigest()
    seq = max(row.seq, seq or 0)
    records.extend_history(account, seq, number, entry, hash)
    return msgspec.structs.replace(row, seq=seq, number=number, history=hash)


def _accepted(stored: Stored) -> int:
    """`lived` when it was acknowledged."""
    said = envelope.peek(stored.acknowledgement).payload
    return envelope.read_payload(said, Acknowledgement).lived


def read_person(signed: bytes, account: Account, kind: type[statements.S]) -> statements.S:
    """A statement of this account, signature first."""
    return statements.read(signed, envelope.VerifyKey.read(account.verify), kind)
