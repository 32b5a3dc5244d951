"""Nothing quick under a gun: changes that take days, in full view of everybody concerned.

Rule of this room: what would destroy, redirect, lengthen or silence an armed switch is told at once, can be
cancelled until it has cooled, and takes effect only while she is known to be well.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from vault import ledger, letters, notices, outbox, switch, watch
from vault.custodian import Custodian
from vault.errors import Damaged, DiskFailed, NotFound, Refused
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.statements import Dwells, Pause, PlanChange
from vault.storage.records import Records
from vault.storage.records.rows import Account, Address, Change, Dossier
from vault.switch import Plan, Stage

PAGE: Final = 100
LOOKS: Final = 500
"""How many changes one tick looks at, so that it stays short however many there are. The next one goes on there."""
AGAIN: Final = 12
"""Ticks from the end of what is told anew until what failed of it is tried once more."""
_BELOW: Final = (-(2**63), "")
# In these a change may take effect; a long pause only where the switch's own table lets one begin.
CALM: Final = frozenset({Stage.ARMED, Stage.PAUSED})
UNARMED: Final = frozenset({Stage.NEW, Stage.RELEASED, Stage.DESTROYED})

log = logging.getLogger("afterword.cooling")


@dataclass(slots=True)
class Place:
    """How far a watch has come with the slow changes; forgotten, it begins with the first again."""

    after: tuple[int, str] = _BELOW
    """The last that was looked at of those that have cooled."""
    life: str = ""
    told: str = ""
    """The last that was told anew in this life of the server, or at least tried."""
    failed: bool = False
    """One of those was not told: perhaps the disk was full, and it can be told later."""
    wait: int = 0
    """Ticks until all that is left is tried once more."""
    all_told: bool = False


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
    # One that does not read never takes effect, and must not stand in the way of the one that mends it.
    if any(each.kind is kind for each in records.changes_of_dossier(dossier.id)):
        raise Refused(
            "A change of this kind is cooling already; wait for it, or run `afterword cancel` first.",
            code="change-pending",
        )
    change = Change(
        hash,
        dossier.journalist,
        dossier.id,
        kind,
        custodian.rest(body),
        now.wall,
        now.stamp + records.cooling_of(dossier.id),
        0,
        now.life,
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
    longest = max(records.cooling_of(dossier) for dossier in _armed(records, account.id))
    body = custodian.rest(address.id.encode())
    kind = letters.Change.ADDRESS
    change = Change(hash, account.id, None, kind, body, now.wall, now.stamp + longest, 0, now.life)
    records.add_change(change)
    records.mark_removal(address.id, hash)
    ledger.note(records, now, account.id, "change-asked", kind=kind.value, change=hash)
    _tell(records, custodian, now, LetterKind.CHANGE_ASKED, change)
    return hash


def cancel(records: Records, custodian: Custodian, now: Moment, account: Account, hash: str) -> None:
    """Take back a change of hers that has not taken effect."""
    change = _asked(records, hash)
    if records.drop_change_of(account.id, hash) != 1:
        raise NotFound("No such change is under way; `afterword status` lists them.", code="no-such-change")
    _withdraw(records, now, hash)
    records.unmark_removal(account.id, hash)
    if change is None:
        ledger.note(records, now, account.id, "change-cancelled", change=hash)
        return
    ledger.note(
        records, now, account.id, "change-cancelled", dossier=change.dossier, kind=change.kind, change=hash
    )
    _tell(records, custodian, now, LetterKind.CHANGE_CANCELLED, change)


def is_under_way(records: Records, hash: str) -> bool:
    """One that does not read never takes effect, and can be asked for anew."""
    try:
        return records.change(hash) is not None
    except DiskFailed:
        raise
    except Damaged:
        return False


def _asked(records: Records, hash: str) -> Change | None:
    """A change; of one that does not read, what the statement said that asked for it, if that reads."""
    with contextlib.suppress(Damaged):
        return records.change(hash)
    with contextlib.suppress(Damaged, ValueError):
        said = records.statement(hash)
        if said is not None:
            kind = letters.Change(said.kind)
            return Change(hash, said.account, said.dossier, kind, b"", 0, 0, 0, None)
    return None


def _cool_anew(records: Records, custodian: Custodian, now: Moment, hash: str) -> None:
    """This server was set back: what was asked may have been cancelled since. Everybody is told again, and it cools
    again from now. Once in each life of the server. Nothing is written if it cannot be told."""
    change = records.change(hash)
    if change is None or change.life == now.life:
        return
    again = msgspec.structs.replace(change, cooled=cooled_at(records, now, change), life=now.life)
    about = _concerned(records, again)
    records.cool_again(again.hash, again.cooled, now.life)
    # A letter of before that arrived is no view of what is under way now.
    records.disown_letters_about(again.hash, LetterKind.CHANGE_ASKED.value, now.lived)
    _post(records, custodian, now, LetterKind.CHANGE_ASKED, again, about)


def finish(
    records: Records, custodian: Custodian, now: Moment, change: Change, former: Iterable[str] = ()
) -> None:
    """Say and note that a change has taken effect, and forget it. `former`: accounts it took off the roster."""
    records.drop_change(change.hash)
    _withdraw(records, now, change.hash)
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


def take_effect(records: Records, custodian: Custodian, place: Place | None = None) -> int:
    """Everything that has cooled and whose moment it is; how many changes took effect. Before, what was told in an
    earlier life of the server is told anew.

    One call looks at `LOOKS` changes at most and tells a page anew; the next goes on at `place`. What waits keeps its
    time, but not its place in the queue: however many wait or do not read, each other one has its turn.
    """
    place = Place() if place is None else place
    with records.reading() as now:
        if not now.exact:
            return 0
    _tell_anew(records, custodian, place)
    done = []
    for looked in range(0, LOOKS, PAGE):
        if looked:
            # A check-in that waits for the lock must not wait for all of them.
            records.db.give_way()
        with records.reading() as now:
            page = records.ready_changes(now.served, PAGE, place.after)
            known = [each for each in page if each is not None]
            ready = []
            for each in known:
                # Looked at without the lock that check-ins queue for: most of what is still here only waits.
                with _alone(each.hash):
                    change = records.change(each.hash)
                    if change is not None and _may_take_effect(records, now, change):
                        ready.append(each.hash)
        for hash in ready:
            with _alone(hash):
                done.append(_take_effect(records, custodian, hash))
        last = (known[-1].cooled, known[-1].hash) if known else place.after
        # A page that ends where the last one did would be found for ever: its number is damaged.
        if len(page) < PAGE or last == place.after:
            place.after = _BELOW
            break
        place.after = last
    if letters.Change.DESTROY in done:
        records.db.forget()
    return sum(1 for kind in done if kind is not None)


def _tell_anew(records: Records, custodian: Custodian, place: Place) -> None:
    with records.reading() as now:
        if place.life != now.life:
            place.life, place.told, place.failed, place.wait, place.all_told = now.life, "", False, 0, False
        if place.wait or place.all_told:
            # Whatever is asked for in this life is told in it.
            place.wait = max(0, place.wait - 1)
            return
        page = records.changes_of_other_lives(now.life, PAGE, place.told)
    for hash in page:
        if hash is None:
            continue
        with _alone(hash, place), records.transaction() as now:
            _cool_anew(records, custodian, now, hash)
        place.told = hash
    if len(page) == PAGE:
        return
    # Whether what failed is damaged for ever, or the disk was full for a moment, is seen the next time.
    place.all_told = not place.failed
    place.told, place.failed, place.wait = "", False, AGAIN if place.failed else 0


@contextlib.contextmanager
def _alone(hash: str, place: Place | None = None) -> Iterator[None]:
    """One that does not read stands still alone; `place` remembers that there is one."""
    try:
        yield
    except DiskFailed:
        raise
    except Exception as wrong:
        log.error("change %s stands still: %s", hash, type(wrong).__name__)
        if place is not None:
            place.failed = True


def _may_take_effect(records: Records, now: Moment, change: Change) -> bool:
    return has_cooled(records, now, change) and _is_calm(records, change)


def _take_effect(records: Records, custodian: Custodian, hash: str) -> letters.Change | None:
    with records.transaction() as now:
        change = records.change(hash)
        if change is None or not _may_take_effect(records, now, change):
            # A check-in or a pause came in between; its moment will come again.
            return None
        _effect(records, custodian, now, change)
        return change.kind


def has_cooled(records: Records, now: Moment, change: Change) -> bool:
    """Whether its time was served in full view. Where no letter about it could be handed over, to her or to any of
    the others, that is no view: it waits for one, though not for longer than once more its cooling time. And what was
    told in another life of the server may have been cancelled in it: it is told anew first."""
    if change.life != now.life or change.cooled > now.served:
        return False
    return change.cooled + _cooling_of(records, change) <= now.served or _is_told(records, change)


def cooled_at(records: Records, now: Moment, change: Change) -> int:
    """`served` at which its time will have been served; it begins only now for what another life has told."""
    if change.life == now.life:
        return change.cooled
    return max(change.cooled, now.stamp + _cooling_of(records, change))


def waits_for_mail(records: Records, now: Moment, change: Change) -> int | None:
    """Until when (`served`) a change that has served its time waits for its letters; None if it does not."""
    if cooled_at(records, now, change) > now.served or has_cooled(records, now, change):
        return None
    return change.cooled + _cooling_of(records, change)


def _cooling_of(records: Records, change: Change) -> int:
    if change.dossier is None:
        return max((records.cooling_of(each) for each in _armed(records, change.account)), default=0)
    return records.cooling_of(change.dossier)


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
    return stage in CALM and (stage, change.kind) != (Stage.PAUSED, letters.Change.PAUSE)


def _effect(records: Records, custodian: Custodian, now: Moment, change: Change) -> None:
    body = custodian.wake(change.body)
    if change.dossier is None:
        address = body.decode()
        records.withdraw_letters_to(address, now.lived)
        finish(records, custodian, now, change)
        records.remove_address(address)
        outbox.address_is_gone(records, custodian, now, change.account)
        return
    match change.kind:
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


def _withdraw(records: Records, now: Moment, hash: str) -> None:
    """Who has not heard yet that it was asked for hears only how it ended."""
    records.withdraw_letters_about(hash, LetterKind.CHANGE_ASKED.value, now.lived)


def read_plan(dwells: Dwells) -> Plan:
    return Plan(dwells.every, dwells.remind, dwells.warn, dwells.grace)


def has_armed(records: Records, account: str) -> bool:
    """Whether any switch of hers runs: from then on her changes are slow."""
    return any(True for _ in _armed(records, account))


def is_armed(stage: Stage) -> bool:
    return stage not in UNARMED


def _armed(records: Records, account: str) -> Iterable[str]:
    return (
        dossier for dossier in records.names_of(account) if is_armed(records.switch(dossier).switch.stage)
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
    lines = [] if change.dossier is None else records.lines_of(change.dossier)
    for place, line in enumerate(lines, 1):
        if line is None:
            notices.tell_of_line(records, custodian, now, change.dossier or "", place, kind)
    _post(records, custodian, now, kind, change, _concerned(records, change, former))


def _concerned(records: Records, change: Change, former: Iterable[str] = ()) -> dict[str, str | None]:
    """Whom to tell, and of which dossier."""
    concerned = [*_armed(records, change.account)] if change.dossier is None else [change.dossier]
    about: dict[str, str | None] = {change.account: change.dossier}
    for dossier in concerned:
        # One line that does not read must keep her neither from a cancel nor from the new roster that mends it.
        for reader in records.readable_lines(dossier):
            if not reader.has_left:
                about.setdefault(reader.account, dossier)
    for account in former:
        about.setdefault(account, change.dossier)
    return about


def _post(
    records: Records,
    custodian: Custodian,
    now: Moment,
    kind: LetterKind,
    change: Change,
    about: dict[str, str | None],
) -> None:
    effect = now.project(change.cooled) if kind is LetterKind.CHANGE_ASKED else None
    for account, dossier in about.items():
        facts = Facts(hers=account == change.account, change=change.kind, effect=effect)
        outbox.post(records, custodian, now, kind, account, facts, dossier=dossier, letter=change.hash)
