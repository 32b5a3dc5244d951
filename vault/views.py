"""How a dossier looks to those who may see it.

Rule of this room: reads only; people are shown projected dates, which hold if the server keeps running.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final

from vault import holds, ledger, orders, release, switch, wire
from vault.cooling import CALM, cooled_at, has_cooled, waits_for_mail
from vault.custodian import Custodian
from vault.dossiers import own
from vault.errors import Damaged, NotFound
from vault.service import Moment
from vault.statements import Dwells
from vault.storage.records import Records
from vault.storage.records.rows import Account, Change, Collaborator, Dossier
from vault.switch import Stage

PAGE: Final = 100

log = logging.getLogger("afterword.views")


def dossiers(records: Records, account: Account) -> wire.Dossiers:
    """Hers first, then those she is a collaborator of."""
    with records.reading() as now:
        names = [*records.names_of(account.id), *records.names_shared_with(account.id)]
        return wire.Dossiers(_legible(records, now, account, names), now.wall)


def hers(records: Records, account: Account) -> tuple[wire.DossierState, ...]:
    """What a check-in answers with."""
    with records.reading() as now:
        return _legible(records, now, account, records.names_of(account.id))


def _legible(
    records: Records, now: Moment, account: Account, names: list[str]
) -> tuple[wire.DossierState, ...]:
    """One that does not read must not hide the others; asked for by name it answers `damaged`."""
    states = []
    for name in names:
        try:
            states.append(_state(records, now, account, orders.find(records, account, name)))
        except Damaged:
            log.error("dossier %s does not read", name)
    return tuple(states)


def dossier(records: Records, account: Account, dossier: str) -> wire.DossierState:
    with records.reading() as now:
        return _state(records, now, account, orders.find(records, account, dossier))


def _state(records: Records, now: Moment, account: Account, row: Dossier) -> wire.DossierState:
    journalist = records.account(row.journalist)
    if journalist is None:
        raise Damaged(f"Dossier {row.id} belongs to nobody.")
    seen = records.switch(row.id)
    mine = row.journalist == account.id
    released = records.release(row.id)
    changes = records.changes_of_dossier(row.id)
    if mine:
        changes += [each for each in records.changes_of_account(account.id) if each.dossier is None]
    return wire.DossierState(
        dossier=row.id,
        role="journalist" if mine else "collaborator",
        journalist=journalist.card_hash,
        title=wire.write_blob(row.title) if mine and row.title else None,
        stage=seen.switch.stage.value,
        since=seen.since,
        trying=seen.switch.trying,
        projected=tuple(
            wire.Projected(stage.value, now.project(at))
            for stage, at in switch.projected(seen.switch, now.served)
        ),
        plan=Dwells(*seen.switch.plan.dwells()),
        cooling=row.cooling,
        epoch=row.epoch,
        roster=row.roster,
        k=row.threshold,
        collaborators=tuple(_line(each) for each in records.readable_lines(row.id)),
        bundles=row.bundles,
        head=row.head,
        pushed=row.pushed,
        last_checkin=journalist.checked_in,
        changes=tuple(_changes(records, now, changes, seen.switch.stage)),
        missing=orders.missing(records, row) if mine and seen.switch.stage is Stage.NEW else (),
        brief=row.brief is not None and records.copy(row.brief, account.card_hash) is not None,
        released=None if released is None else released.released,
        climb=seen.switch.ladder,
        held=now.project(seen.switch.held)
        if seen.switch.held is not None and switch.is_held(seen.switch, now.served)
        else None,
        crowd=seen.switch.crowd.value,
        holds=_holds(records, now, row, seen.switch),
        due=None if seen.switch.due is None else now.project(seen.switch.due),
        renewals=seen.switch.renewals,
    )


def _holds(records: Records, now: Moment, row: Dossier, seen: switch.Switch) -> tuple[wire.HoldState, ...]:
    if seen.ladder == 0:
        return ()
    waiting = {each.hash for each in holds.pending(records, now, row, seen)}
    return tuple(
        wire.HoldState(
            card=each.card,
            because=each.because,  # type: ignore[arg-type]  # written by holds from statements.Because only
            asked=each.wall,
            # A check-in, a pause or a release ended it before its time.
            until=None
            if each.until is None
            else now.project(each.until if seen.stage in switch.LATE else min(each.until, seen.entered)),
            pending=each.hash in waiting,
            statement=each.statement.decode(),
        )
        for each in records.newest_holds(row.id, seen.ladder, holds.SHOWN)
    )


def _line(each: Collaborator) -> wire.ProofState:
    return wire.ProofState(
        index=each.place,
        card=each.card_hash,
        proved=each.proved,
        left=bool(each.has_left),
        collected=each.collected is not None,
        contributed=each.contribution is not None,
    )


def _changes(records: Records, now: Moment, changes: Iterable[Change], stage: Stage) -> Iterator[wire.Change]:
    """One that cannot be told when it takes effect, as its cooling time does not read, must not hide the dossier."""
    for each in changes:
        try:
            yield _change(records, now, each, stage)
        except Damaged as wrong:
            log.error("change %s does not read: %s", each.hash, type(wrong).__name__)


def _change(records: Records, now: Moment, change: Change, stage: Stage) -> wire.Change:
    cooled = has_cooled(records, now, change)
    mail = waits_for_mail(records, now, change)
    # What concerns her and not one dossier waits for all of them.
    calm = frozenset({Stage.ARMED}) if change.kind == "pause" else CALM
    waits = records.is_late(change.account) if change.dossier is None else stage not in calm
    return wire.Change(
        change=change.hash,
        kind=change.kind.value,
        asked=change.asked,
        effective=None
        if waits and cooled
        else now.project(mail or max(cooled_at(records, now, change), now.served)),
        cooled=cooled,
    )


def rosters(records: Records, custodian: Custodian, account: Account, dossier: str) -> wire.Rosters:
    with records.reading():
        row = orders.find(records, account, dossier)
        journalist = records.account(row.journalist)
        if journalist is None:
            raise Damaged(f"Dossier {row.id} belongs to nobody.")
        chain = tuple(custodian.wake(sealed).decode() for sealed in records.sealed_rosters(row.id))
        card = custodian.wake(journalist.card).decode()
        change = next((each for each in records.changes_of_dossier(row.id) if each.kind == "roster"), None)
        pending = None if change is None else wire.read(custodian.wake(change.body), wire.RosterChange).roster
    return wire.Rosters(journalist=card, rosters=chain, pending=pending)


def deal(records: Records, account: Account, dossier: str) -> wire.Deal:
    with records.reading():
        row = own(records, account, dossier)
        release.require_kept(row)
    return wire.Deal(row.epoch, wire.write_blob(row.deal), wire.write_blob(row.title))


def share(records: Records, account: Account, dossier: str) -> wire.SealedShare:
    with records.reading():
        row, me = release.reader_of(records, account, dossier)
        release.require_kept(row)
    return wire.SealedShare(row.epoch, row.roster, wire.write_blob(me.share))


def brief(records: Records, account: Account, dossier: str) -> wire.SealedBrief:
    with records.reading():
        row = orders.find(records, account, dossier)
        stored = None if row.brief is None else records.statement(row.brief)
        copy = None if row.brief is None else records.copy(row.brief, account.card_hash)
    if stored is None or copy is None:
        raise NotFound("There is no brief for you in this dossier yet.", code="no-brief")
    return wire.SealedBrief(stored.envelope.decode(), wire.write_blob(copy))


def proofs(records: Records, account: Account, dossier: str) -> wire.Proofs:
    with records.reading():
        row = orders.find(records, account, dossier)
        lines = records.readable_lines(row.id)
    return wire.Proofs(tuple(each.proof.decode() for each in lines if each.proof is not None))


def history(records: Records, account: Account, after: int) -> wire.History:
    with records.reading():
        entries = ledger.links(records, account, after, PAGE + 1)
    return wire.History(entries[:PAGE], len(entries) > PAGE)
