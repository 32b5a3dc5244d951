"""A colleague's hand on the brake: signed statements that she was reached, and the time that they hold.

Rule of this room: one colleague alone delays a release twice per climb and no further; whoever holds is named to her
and to all colleagues; nothing here can bring a release nearer.
"""

from typing import Final

from vault import envelope, ledger, outbox, release, switch, watch
from vault.clock import write_instant
from vault.custodian import Custodian
from vault.errors import Conflict, Refused
from vault.letters import Facts, LetterKind
from vault.plans import HOLD, HOLDS_ALONE, hold_length
from vault.service import Moment
from vault.statements import Hold
from vault.storage.records import Records, rows
from vault.storage.records.rows import Account, Dossier
from vault.switch import LATE, Stage, Switch

SHOWN: Final = 20


def take(
    records: Records,
    custodian: Custodian,
    now: Moment,
    account: Account,
    row: Dossier,
    signed: bytes,
    given: Hold,
    *,
    short: bool,
) -> None:
    """Inside the caller's transaction: hold, or keep the signature until a second colleague signs."""
    _, me = release.reader_of(records, account, row.id)
    if me.has_left:
        raise Refused("You have left this dossier, so you cannot hold it any more.", code="left")
    seen = records.switch(row.id).switch
    at = max(now.stamp, seen.entered)
    if seen.stage in LATE and given.climb != seen.ladder:
        raise Conflict(
            "Things have changed since this was signed: there was a sign of life in between. See: afterword inbox",
            code="wrong-climb",
        )
    if seen.held is not None and switch.is_held(seen, at):
        raise Refused(
            f"This dossier is held already, until about {write_instant(now.project(seen.held))}; nothing is added to a "
            "hold while it runs. Sign again after that, if it is still needed.",
            code="already-held",
        )
    length = hold_length(seen.plan, short=short)
    waiting = pending(records, now, row, seen)
    if any(each.account == account.id for each in waiting):
        raise Refused(
            "You have signed this already; it takes effect when another colleague signs too. Ask one to run: "
            "afterword hold",
            code="needs-another",
        )
    partner = waiting[-1] if waiting else None
    until = None
    if partner is not None or seen.stage not in LATE or seen.holds < HOLDS_ALONE:
        signers = 1 if partner is None else 2
        until = watch.apply(records, custodian, now, row.id, switch.Held(length, signers)).held
    if partner is not None and until is not None:
        records.begin_hold(partner.hash, until)
    hash = envelope.statement_hash(signed).hex()
    records.add_hold(
        rows.Hold(hash, row.id, account.id, seen.ladder, given.because, now.served, until, now.wall)
    )
    what = "hold-asked" if until is None else "held"
    ledger.note(records, now, row.journalist, what, dossier=row.id, index=me.place, hash=hash)
    by = (account.id,) if partner is None else (partner.account, account.id)
    # Nobody is quoted with the reason of somebody else: where two differ, none is given.
    because = given.because if partner is None or partner.because == given.because else None
    _tell(records, custodian, now, row, by, because, until)


def pending(records: Records, now: Moment, row: Dossier, seen: Switch) -> list[rows.Hold]:
    """Signatures of this climb that wait for a second one, of those who may still sign."""
    if seen.stage not in LATE or seen.holds < HOLDS_ALONE:
        return []
    allowed = {each.account for each in records.readable_lines(row.id) if not each.has_left}
    return [
        each
        for each in records.holds_of(row.id, seen.ladder)
        if each.until is None and each.account in allowed and now.served < each.asked + HOLD
    ]


def _tell(
    records: Records,
    custodian: Custodian,
    now: Moment,
    row: Dossier,
    by: tuple[str, ...],
    because: str | None,
    until: int | None,
) -> None:
    after = records.switch(row.id).switch
    coming = dict(switch.projected(after, now.served))
    kind = LetterKind.HOLD_ASKED if until is None else LetterKind.HELD
    told = [row.journalist, *(each.account for each in records.readable_lines(row.id) if not each.has_left)]
    # What was said of the hold before is over; what has not arrived of it must not arrive after this.
    records.withdraw_letters(row.id, [each.value for each in switch.HOLD_LETTERS], now.lived)
    for account in told:
        facts = Facts(
            hers=account == row.journalist,
            by=by,
            because=because,
            until=None if until is None else now.project(until),
            release=now.project(coming[Stage.RELEASED]),
        )
        outbox.post(records, custodian, now, kind, account, facts, dossier=row.id, climb=after.ladder)
