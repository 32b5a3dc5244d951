"""Nothing quick under a gun: changes that take days, in full view of everybody concerned.

Rule of this room: what would destroy, redirect, lengthen or silence an armed switch is told at once, can be
cancelled until it has cooled, and takes effect only while she is known to be well.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from vault import ledger, letters, outbox, switch, watch
from vault.custodian import Custodian
from vault.errors import Damaged, DiskFailed, NotFound, Refused
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.statements import Dwells, Pause, PlanChange
from vault.storage.records import Records
from vault.storage.records.rows import Account, Address, Change, Dossier
from vault.switch import Plan, Stage

BATCH: Final = 100
# In these a change may take effect; a long pause only where the switch's own table lets one begin.
CALM: Final = frozenset({Stage.ARMED, Stage.PAUSED})
UNARMED: Final = frozenset({Stage.NEW, Stage.RELEASED, Stage.DESTROYED})

log = logging.getLogger("afterword.cooling")


def ask(
    records: Records,
    custodian: Custodian,
    now: Moment,
    dossier: Dossier,
    kind: letters.Change,
    hash: str,
    body: bytes,
) -> str:
    """Take up a slow change of one dossier; one of each kind at a time."""
    if any(each.kind == kind.value for each in records.changes_of_dossier(dossier.id)):
        raise Refused(
            "A change of this kind is cooling already; wait for it, or run `afterword cancel` first.",
            code="change-pending",
        )
    change = Change(
        hash,
        dossier.journalist,
        dossier.id,
        kind.value,
        custodian.rest(body),
        now.wall,
        now.stamp + dossier.cooling,
        0,
    )
    records.add_change(change)
    ledger.note(
        records, now, dossier.journalist, "change-asked", dossier=dossier.id, kind=kind.value, change=hash
    )
    _tell(records, custodian, now, LetterKind.CHANGE_ASKED, change)
    return hash


def ask_address(
    records: Records, custodian: Custodian, now: Moment, account: Account, address: Address
) -> str:
    """Take up the removal of one of her confirmed addresses; it cools for the longest of her dossiers' times."""
    hash = hashlib.sha256(
        b"afterword/removal/v1" + bytes.fromhex(address.id) + bytes.fromhex(account.history)
    ).hexdigest()
    longest = max(dossier.cooling for dossier in _armed(records, account.id))
    body = custodian.rest(address.id.encode())
    kind = letters.Change.ADDRESS
    change = Change(hash, account.id, None, kind.value, body, now.wall, now.stamp + longest, 0)
    records.add_change(change)
    records.mark_removal(address.id, hash)
    ledger.note(records, now, account.id, "change-asked", kind=kind.value, change=hash)
    _tell(records, custodian, now, LetterKind.CHANGE_ASKED, change)
    return hash


def cancel(records: Records, custodian: Custodian, now: Moment, account: Account, hash: str) -> None:
    """Take back a change of hers that has not taken effect."""
    change = records.change(hash)
    if change is None or change.account != account.id:
        raise NotFound("No such change is under way; `afterword status` lists them.", code="no-such-change")
    _close(records, now, change)
    if change.dossier is None:
        records.mark_removal(custodian.wake(change.body).decode(), None)
    ledger.note(
        records, now, account.id, "change-cancelled", dossier=change.dossier, kind=change.kind, change=hash
    )
    _tell(records, custodian, now, LetterKind.CHANGE_CANCELLED, change)


def begin_anew(records: Records, custodian: Custodian, now: Moment) -> None:
    """After a restore: what was asked may have been cancelled since. Everybody is told again, and it cools again."""
    for hash in records.all_changes():
        # One that does not read stands still alone.
        with contextlib.suppress(Damaged):
            change = records.change(hash)
            if change is None:
                continue
            lasts = _cooling_of(records, change)
            again = msgspec.structs.replace(change, cooled=max(change.cooled, now.stamp + lasts))
            records.cool_again(again.hash, again.cooled)
            _tell(records, custodian, now, LetterKind.CHANGE_ASKED, again)


def finish(
    records: Records, custodian: Custodian, now: Moment, change: Change, former: Iterable[str] = ()
) -> None:
    """Say and note that a change has taken effect, and forget it. `former`: accounts it took off the roster."""
    _close(records, now, change)
    ledger.note(
        records,
        now,
        change.account,
        "change-done",
        dossier=change.dossier,
        kind=change.kind,
        change=change.hash,
    )
    _tell(records, custodian, now, LetterKind.CHANGE_DONE, change, former)


def take_effect(records: Records, custodian: Custodian) -> int:
    """Everything that has cooled and whose moment it is; how many changes took effect."""
    with records.transaction() as now:
        ready = records.ready_changes(now.served, BATCH) if now.exact else []
    done = []
    for hash in ready:
        try:
            done.append(_take_effect(records, custodian, hash))
        except DiskFailed:
            raise
        except Exception as wrong:
            # One that does not read stands still alone.
            log.error("change %s stands still: %s", hash, type(wrong).__name__)
    if letters.Change.DESTROY in done:
        records.db.forget()
    return sum(1 for kind in done if kind is not None)


def _take_effect(records: Records, custodian: Custodian, hash: str) -> letters.Change | None:
    with records.transaction() as now:
        change = records.change(hash)
        if change is None or not has_cooled(records, now, change) or not _is_calm(records, change):
            # A check-in or a pause came in between, or nobody could be told yet; its moment will come again.
            return None
        kind = letters.Change(change.kind)
        _effect(records, custodian, now, change, kind)
        return kind


def has_cooled(records: Records, now: Moment, change: Change) -> bool:
    """Whether its time was served in full view. Where no letter about it could be handed over, to her or to any of
    the others, that is no view: it waits for one, though not for longer than once more its cooling time."""
    if change.cooled > now.served:
        return False
    return change.cooled + _cooling_of(records, change) <= now.served or _is_told(records, change)


def waits_for_mail(records: Records, now: Moment, change: Change) -> int | None:
    """Until when (`served`) a change that has served its time waits for its letters; None if it does not."""
    if change.cooled > now.served or has_cooled(records, now, change):
        return None
    return change.cooled + _cooling_of(records, change)


def _cooling_of(records: Records, change: Change) -> int:
    if change.dossier is None:
        return max((each.cooling for each in _armed(records, change.account)), default=0)
    dossier = records.dossier(change.dossier)
    return 0 if dossier is None else dossier.cooling


def _is_told(records: Records, change: Change) -> bool:
    letters_of = records.letters_about(change.hash, LetterKind.CHANGE_ASKED.value)
    for hers in (True, False):
        states = {state for account, state in letters_of if (account == change.account) is hers}
        if states and "accepted" not in states:
            return False
    return True


def _is_calm(records: Records, change: Change) -> bool:
    if change.dossier is None:
        return not records.is_late(change.account)
    stage = records.switch(change.dossier).switch.stage
    return stage in CALM and (stage, change.kind) != (Stage.PAUSED, letters.Change.PAUSE.value)


def _effect(
    records: Records, custodian: Custodian, now: Moment, change: Change, kind: letters.Change
) -> None:
    body = custodian.wake(change.body)
    if change.dossier is None:
        address = body.decode()
        records.withdraw_letters_to(address, now.lived)
        finish(records, custodian, now, change)
        records.remove_address(address)
        outbox.address_is_gone(records, custodian, now, change.account)
        return
    match kind:
        case letters.Change.DESTROY:
            # Said before it is done, while the dossier still says who is concerned.
            finish(records, custodian, now, change)
            watch.apply(records, custodian, now, change.dossier, switch.Destroy())
        case letters.Change.PLAN:
            plan = msgspec.json.decode(body, type=PlanChange).plan
            watch.apply(records, custodian, now, change.dossier, switch.Replanned(read_plan(plan)))
            finish(records, custodian, now, change)
        case letters.Change.PAUSE:
            length = msgspec.json.decode(body, type=Pause).length
            watch.apply(records, custodian, now, change.dossier, switch.Pause(length))
            finish(records, custodian, now, change)
        case letters.Change.ROSTER | letters.Change.ADDRESS:
            raise Damaged(f"Change {change.hash} does not take effect by time alone.")


def _close(records: Records, now: Moment, change: Change) -> None:
    records.drop_change(change.hash)
    # Who has not heard yet that it was asked for hears only how it ended.
    records.withdraw_letters_about(change.hash, LetterKind.CHANGE_ASKED.value, now.lived)


def read_plan(dwells: Dwells) -> Plan:
    return Plan(dwells.every, dwells.remind, dwells.warn, dwells.grace)


def has_armed(records: Records, account: str) -> bool:
    """Whether any switch of hers runs: from then on her changes are slow."""
    return any(True for _ in _armed(records, account))


def is_armed(stage: Stage) -> bool:
    return stage not in UNARMED


def _armed(records: Records, account: str) -> Iterable[Dossier]:
    return (
        dossier
        for dossier in records.dossiers_of(account)
        if is_armed(records.switch(dossier.id).switch.stage)
    )


def _tell(
    records: Records,
    custodian: Custodian,
    now: Moment,
    kind: LetterKind,
    change: Change,
    former: Iterable[str] = (),
) -> None:
    """To all her addresses, and to every collaborator it concerns."""
    what = letters.Change(change.kind)
    effect = now.project(change.cooled) if kind is LetterKind.CHANGE_ASKED else None
    concerned = (
        [dossier.id for dossier in _armed(records, change.account)]
        if change.dossier is None
        else [change.dossier]
    )
    about: dict[str, str | None] = {change.account: change.dossier}
    for dossier in concerned:
        for reader in records.collaborators(dossier):
            if not reader.has_left:
                about.setdefault(reader.account, dossier)
    for account in former:
        about.setdefault(account, change.dossier)
    for account, dossier_of in about.items():
        facts = Facts(hers=account == change.account, change=what, effect=effect)
        outbox.post(records, custodian, now, kind, account, facts, dossier=dossier_of, letter=change.hash)
