"""What people order about a dossier, signed: arm, pause, plan, destroy, brief, prove, contribute, hold, leave.

Rule of this room: verified, then checked for freshness, then done, then acknowledged, in one transaction; what
would be quick under a gun goes to cooling instead.
"""

from collections.abc import Callable
from typing import Final

from vault import (
    cooling,
    dossiers,
    envelope,
    holds,
    ledger,
    letters,
    outbox,
    release,
    statements,
    switch,
    watch,
    wire,
)
from vault.clock import DAY
from vault.custodian import Custodian
from vault.errors import Conflict, NotFound, Refused
from vault.plans import PAUSE_AT_ONCE, check_pause
from vault.service import Moment
from vault.statements import Statement
from vault.storage.records import Records
from vault.storage.records.rows import Account, Dossier

_LACKING: Final = {
    "push": "nothing has been pushed yet",
    "proofs": "too few collaborators have proved their share (`afterword drill`)",
    "address": "none of your addresses is confirmed",
}


def submit(
    records: Records,
    custodian: Custodian,
    account: Account,
    dossier: str,
    request: wire.Submission,
    *,
    short: bool,
    require_room: Callable[[], None] = lambda: None,
) -> tuple[bytes, str | None]:
    """Take any signed order about one dossier; the acknowledgement, and the change if it has to cool.

    `require_room` raises NoSpace where only what cannot wait may still be written.
    """
    signed = request.statement.encode()
    kind = type(statements.peek(signed))
    if kind not in _ORDERS:
        raise Refused("A statement of this kind goes elsewhere.", code="wrong-kind")
    given = ledger.read_person(signed, account, kind)
    sealed = tuple(wire.read_blob(blob) for blob in request.sealed)
    if kind.kind not in _ALWAYS:
        with records.reading():
            known = ledger.answered(records, signed)
        if known is None:
            require_room()
    with records.transaction() as now:
        if getattr(given, "dossier", None) != dossier:
            raise NotFound("There is no such dossier.")
        row = find(records, account, dossier)
        stored = ledger.answered(records, signed)
        if stored is not None and stored.account == account.id:
            return stored.acknowledgement, stored.change
        ledger.check(records, custodian, now, account, given)
        change = _order(records, custodian, now, account, row, signed, given, sealed, short=short)
        answer = ledger.acknowledge(records, custodian, now, account.id, signed, given, change=change)
    if isinstance(given, statements.Destroy) and change is None:
        records.db.forget()
    return answer, change


_ORDERS: Final[frozenset[type[Statement]]] = frozenset(
    {
        statements.Arm, statements.Pause, statements.Resume, statements.PlanChange, statements.Destroy,
        statements.Cancel, statements.Brief, statements.Proof, statements.Contribution, statements.Collected,
        statements.Leave, statements.Hold,
    }
)  # fmt: skip


# A full disk must keep nobody from silencing or taking back what is under way, nor a release from being collected.
_ALWAYS: Final = ledger.URGENT | {"collected", "contribution"}


def _order(
    records: Records,
    custodian: Custodian,
    now: Moment,
    account: Account,
    row: Dossier,
    signed: bytes,
    given: Statement,
    sealed: tuple[bytes, ...],
    *,
    short: bool,
) -> str | None:
    match given:
        case statements.Proof():
            _prove(records, now, account, signed, given)
        case statements.Contribution():
            release.contribute(records, now, account, signed, given, sealed)
        case statements.Collected():
            release.collect(records, now, account, given)
        case statements.Leave():
            _leave(records, custodian, now, account, row)
        case statements.Hold():
            holds.take(records, custodian, now, account, row, signed, given, short=short)
        case _:
            dossiers.own(records, account, row.id)
            return _order_hers(records, custodian, now, row, signed, given, sealed, short=short)
    return None


def _order_hers(
    records: Records,
    custodian: Custodian,
    now: Moment,
    row: Dossier,
    signed: bytes,
    given: Statement,
    sealed: tuple[bytes, ...],
    *,
    short: bool,
) -> str | None:
    seen = records.switch(row.id).switch
    running = cooling.is_armed(seen.stage)
    hash = envelope.statement_hash(signed).hex()
    payload = envelope.write_payload(given)
    match given:
        case statements.Arm():
            lacking = missing(records, row)
            if lacking and not given.anyway:
                raise Refused(
                    f"This dossier is not ready to be armed: {'; '.join(_LACKING[each] for each in lacking)}. "
                    "`--anyway` arms it nevertheless.",
                    code="not-ready",
                )
            if given.epoch != row.epoch:
                raise Conflict(
                    "The roster was changed in between; run the command again.", code="wrong-epoch"
                )
            watch.apply(records, custodian, now, row.id, switch.Arm())
        case statements.Pause(length=length):
            check_pause(length)
            if running and length > PAUSE_AT_ONCE:
                return cooling.ask(records, custodian, now, row, letters.Change.PAUSE, hash, payload)
            watch.apply(records, custodian, now, row.id, switch.Pause(length))
            watch.make_up_for_silence(records, custodian, now, row.id)
        case statements.Resume():
            watch.apply(records, custodian, now, row.id, switch.Resume())
        case statements.PlanChange(plan=dwells):
            plan = cooling.read_plan(dwells)
            dossiers.check_plan(plan, records.tick, short=short)
            if running and plan.longer_than(seen.plan):
                return cooling.ask(records, custodian, now, row, letters.Change.PLAN, hash, payload)
            watch.apply(records, custodian, now, row.id, switch.Replanned(plan))
        case statements.Destroy():
            if running:
                return cooling.ask(records, custodian, now, row, letters.Change.DESTROY, hash, payload)
            watch.apply(records, custodian, now, row.id, switch.Destroy())
        case statements.Cancel(change=change):
            account = records.account(row.journalist)
            if account is not None:
                cooling.cancel(records, custodian, now, account, change)
        case statements.Brief():
            _brief(records, row, hash, given, sealed)
        case _:
            raise Refused("A statement of this kind goes elsewhere.", code="wrong-kind")
    return None


def missing(records: Records, row: Dossier) -> tuple[str, ...]:
    """What stands between this dossier and being armed."""
    lacking = []
    if row.bundles == 0:
        lacking.append("push")
    proved = sum(
        1 for each in records.readable_lines(row.id) if each.proved is not None and not each.has_left
    )
    if proved < row.threshold:
        lacking.append("proofs")
    if not records.reachable(row.journalist):
        lacking.append("address")
    return tuple(lacking)


def find(records: Records, account: Account, dossier: str) -> Dossier:
    """A dossier of hers, or one that she is a collaborator of; both are looked up, whichever it is."""
    hers = records.own_dossier(dossier, account.id)
    shared = records.shared_dossier(dossier, account.id)
    row = hers or shared
    if row is None:
        raise NotFound("There is no such dossier.")
    return row


def _prove(records: Records, now: Moment, account: Account, signed: bytes, given: statements.Proof) -> None:
    row, me = release.reader_of(records, account, given.dossier)
    release.require_kept(row)
    if (given.epoch, given.roster, given.index) != (row.epoch, row.roster, me.place):
        raise Conflict("The roster was changed in between; run the command again.", code="wrong-roster")
    records.set_proof(row.id, me.place, signed, now.wall)
    # Her chain stays for ever: a colleague who proves all day long makes it no longer.
    if me.proved is None or not 0 <= now.wall - me.proved < DAY:
        ledger.note(records, now, row.journalist, "proved", dossier=row.id, index=me.place)


def _leave(records: Records, custodian: Custodian, now: Moment, account: Account, row: Dossier) -> None:
    """Before a release she is told, since it may be somebody else's wish. After one it stops the letters, no more."""
    _, me = release.reader_of(records, account, row.id)
    records.set_left(row.id, me.place)
    records.withdraw_releases_to(row.id, account.id, now.lived)
    if me.has_left:
        return
    ledger.note(records, now, row.journalist, "left", dossier=row.id, index=me.place)
    if records.switch(row.id).switch.stage not in dossiers.CLOSED:
        facts = letters.Facts(hers=True, by=(account.id,))
        outbox.post(records, custodian, now, letters.LetterKind.LEFT, row.journalist, facts, dossier=row.id)


def _brief(
    records: Records, row: Dossier, hash: str, given: statements.Brief, sealed: tuple[bytes, ...]
) -> None:
    release.require_kept(row)
    if given.epoch != row.epoch:
        raise Conflict("The roster was changed in between; run the command again.", code="wrong-epoch")
    journalist = records.account(row.journalist)
    allowed = records.cards_on_roster(row.id)
    readers = [each.card for each in given.readers]
    if (
        journalist is None
        or len(set(readers)) != len(readers)
        or not set(readers) <= allowed | {journalist.card_hash}
    ):
        raise Refused(
            "A brief goes to the collaborators of the roster and to you, each once.", code="wrong-readers"
        )
    release.check_sealed(tuple(each.sealed for each in given.readers), sealed)
    if row.brief is not None:
        records.forget_copies(row.brief)
    for each, blob in zip(given.readers, sealed, strict=True):
        records.add_copy(hash, each.card, blob)
    records.set_brief(row.id, hash)
