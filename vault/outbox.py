"""Letters as rows, from the transaction that needed them until they have arrived.

Rule of this room: save, then speak. A letter is delivered at least once, always under the same Message-ID;
one that is no longer true is withdrawn before the next is posted; nobody's trouble delays anybody else's.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from vault import channels
from vault.clock import DAY, HOUR, MINUTE
from vault.couriers import Accepted, Courier, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.couriers.roads import Roads
from vault.custodian import Custodian
from vault.errors import Damaged, DiskFailed
from vault.letters import Facts, LetterKind
from vault.parcels import Reach as Reach
from vault.parcels import Sender as Sender
from vault.parcels import read_reach as read_reach
from vault.parcels import write as write_parcels
from vault.parcels import write_reach as write_reach
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Address, Letter

LEASE_TICKS: Final = 36
OFF_TICKS: Final = 24
"""How long a letter to a slow domain is put off while another is under way there."""
WINDOW: Final = 200
LANES: Final = 5_000
_OPERATOR: Final = "operator"
LONGEST_WAIT: Final = HOUR
HOPELESS_WAIT: Final = 6 * HOUR
RELEASE_AGAIN: Final = (HOUR, 6 * HOUR, DAY, DAY, DAY, 7 * DAY)
GIVE_UP: Final = 14 * DAY
# What nobody waits for any more after a while. Everything else is tried until it has arrived or is untrue.
PASSING: Final = frozenset({LetterKind.CODE, LetterKind.TEST})

log = logging.getLogger("afterword.outbox")


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
    """A row for every confirmed address of this account; how many there were. One that does not read costs neither the
    others their letter nor anybody what the letter is about: the operator hears of it."""
    ways = records.ways_to(account)
    told = [each for each in ways if each is not None]
    for address in told:
        post_to(records, custodian, now, kind, address, facts, dossier=dossier, climb=climb, letter=letter)
    if len(told) < len(ways):
        log.error("account %s: a %s letter is missing, an address does not read", account, kind.value)
        trouble = Facts(
            account=account, trouble=f"an address of account {account} does not read; a letter is missing."
        )
        post_operator(records, custodian, now, LetterKind.OPERATOR_TROUBLE, trouble, dossier)
    return len(told)


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
    about = None if dossier is None else records.dossier_owner(dossier)
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
            # A repeat that is not due yet waits for nobody.
            posted=now.lived + wait,
            settled=None,
            lane=about or account or _OPERATOR,
        )
    )


def lease(tick: int, longest: int = 0) -> int:
    """For how long (ms of `lived`) a claimed letter is its deliverer's alone: never shorter than it may take."""
    return max(LEASE_TICKS * tick, longest + 2 * tick)


def lane_of(letter: Letter) -> str:
    """In whose turn this letter goes: of the journalist whose dossier it is about, else of whoever gets it."""
    return letter.lane or letter.account or _OPERATOR


def claim(records: Records, limit: int, length: int | None = None) -> list[Letter]:
    """Letters that are due now and are ours alone until their lease ends."""
    claimed, _ = claim_fairly(records, limit, lease(records.tick) if length is None else length)
    return claimed


def claim_fairly(
    records: Records, limit: int, length: int, *, after: str = "", without: Collection[str] = ()
) -> tuple[list[Letter], str]:
    """Due letters in turns, one of each lane after another's: a thousand of one, however slowly each is taken, must
    not stand before the one of somebody else. None of the lanes in `without`; `after` is where the last call ended.
    """
    with records.transaction() as now:
        # Whoever looks for letters is alive, whether or not there are any.
        records.save_delivery(now.lived)
        chosen, after = _choose(records, now.lived, limit, after, without)
        until = now.lived + length
        return [
            msgspec.structs.replace(letter, lease=until)
            for letter in chosen
            if records.claim_letter(letter, until)
        ], after


def _choose(
    records: Records, lived: int, limit: int, after: str, without: Collection[str]
) -> tuple[list[Letter], str]:
    # However many are due, only so many are looked at: a window of the oldest, and the first of so many lanes.
    window = records.due_letters(lived, WINDOW)
    found = []
    if len(window) < WINDOW:
        after = ""  # these are all
    else:
        lanes, after = records.lanes_due(after, lived, LANES, limit + len(without))
        for lane in lanes:
            first = None if lane in without else records.first_due(lane, lived)
            if first is not None:
                found.append(first)
            if len(found) == limit:
                after = lane
                break
    seen = {letter.id for letter in found}
    turns: Counter[str] = Counter()
    order = []
    for letter in window:
        lane = lane_of(letter)
        if letter.id not in seen and lane not in without:
            order.append((turns[lane], letter.next, letter.id, letter))
            turns[lane] += 1
    order.sort(key=lambda each: each[:3])
    return [*found, *(letter for *_, letter in order)][:limit], after


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
    roads: Roads | None = None,
) -> bool:
    """Carry one claimed letter and save how it went; true when it was accepted.

    `landed` runs in the transaction that saves an acceptance, in time or not. `chance` in 0…1 spreads the next attempt.
    A letter to a domain where another line is held up already is put off instead.
    """
    parcels = _parcels(records, custodian, sender, letter, chance)
    if not parcels:
        return False
    outcomes = [_carry(records, courier, parcel, roads or Roads()) for parcel in parcels]
    if any(isinstance(outcome, Accepted) for outcome in outcomes):
        try:
            _accepted(records, custodian, letter, landed)
        except DiskFailed:
            raise
        except Damaged as wrong:
            # Its switch does not read. The letter has arrived even so, and must not be sent for ever. Whatever else
            # stands in the way passes, a full disk too, and then what follows from it is not lost.
            log.error("letter %s arrived, and nothing follows from it: %s", letter.id, type(wrong).__name__)
            _accepted(records, custodian, letter, lambda now, row: None)
        return True
    failure = next(
        (outcome for outcome in outcomes if outcome is not None and not isinstance(outcome, Accepted)), None
    )
    with records.transaction() as now:
        if failure is None:
            wait = int(OFF_TICKS * now.tick * (0.75 + chance / 2))
            records.put_off_letter(letter, now.lived + wait)
        else:
            _failed(records, custodian, now, letter, failure, chance)
    return False


def _carry(records: Records, courier: Courier, parcel: Parcel, roads: Roads) -> Outcome | None:
    """None when it has to wait because others to its domain are held up."""
    if not roads.enter(parcel.to):
        return None
    began = records.clock.boot()
    try:
        return courier.carry(parcel)
    finally:
        roads.leave(parcel.to, records.clock.boot() - began)


def _failed(
    records: Records,
    custodian: Custodian,
    now: Moment,
    letter: Letter,
    failure: TemporaryFailure | PermanentFailure,
    chance: float,
) -> None:
    told = () if letter.address is None else channels.failed(records, now, letter.address)
    for address in told:
        facts = Facts()
        post_to(records, custodian, now, LetterKind.ADDRESS_FAILING, address, facts, letter=letter.address)
    if LetterKind(letter.kind) in PASSING and now.lived - letter.posted > GIVE_UP:
        records.settle_letter(letter.id, "failed", now.lived, failure.reason)
        return
    wait = _back_off(letter.attempts, now.tick, isinstance(failure, PermanentFailure), chance)
    left = None if letter.address is None else channels.day_is_over(records, now, letter.address)
    if left is not None and left < wait:
        # Whether it has failed for a whole day is found out then, and not hours later.
        wait = left + int(chance * MINUTE)
    records.retry_letter(letter, now.lived + wait, failure.reason)


def _parcels(
    records: Records, custodian: Custodian, sender: Sender, letter: Letter, chance: float
) -> list[Parcel]:
    """What is to be carried for this letter; nothing when it is not ours or not true any more."""
    try:
        with records.reading() as now:
            held = records.letter(letter.id)
            if held is None or held.state != "waiting" or held.lease != letter.lease:
                return []
            parcels = write_parcels(records, custodian, sender, letter, now)
    except DiskFailed:
        raise
    except Exception as wrong:
        # Whatever is wrong with one account's rows, the letters of the others go out.
        log.error("letter %s cannot be written: %s", letter.id, type(wrong).__name__)
        with records.transaction() as now:
            wait = _back_off(letter.attempts, now.tick, False, chance)
            records.retry_letter(letter, now.lived + wait, "the letter cannot be written")
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
                for address in channels.landed(records, now, letter.address):
                    post_to(records, custodian, now, LetterKind.ADDRESS_WELL, address, Facts())
            _repeat(records, custodian, now, letter)


def tell_unreachable(records: Records, custodian: Custodian, now: Moment, dossier: str, account: str) -> None:
    """To the operator: of a release that no letter can tell this account of, while it has no address."""
    reader = records.collaborator(dossier, account)
    if reader is None or reader.collected is not None or reader.has_left or records.reachable(account):
        return
    facts = Facts(account=account)
    post_operator(records, custodian, now, LetterKind.OPERATOR_NO_ADDRESS, facts, dossier)


def address_is_gone(records: Records, custodian: Custodian, now: Moment, account: str) -> None:
    """An address was removed. If it was the last, whoever waits for its owner to collect a release has to know."""
    for dossier in records.dossiers_shared_with(account):
        if records.release(dossier.id) is not None:
            tell_unreachable(records, custodian, now, dossier.id, account)


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


def _awaited(records: Records, dossier: str, account: str) -> bool:
    """Whether it is still to be collected. One line of a roster that does not read is told again, in its turn."""
    try:
        reader = records.collaborator(dossier, account)
    except DiskFailed:
        raise
    except Damaged:
        return True
    return reader is not None and reader.collected is None and not reader.has_left


def _repeat(records: Records, custodian: Custodian, now: Moment, letter: Letter) -> None:
    """A release is told again until its reader has collected: 1 h, 6 h, daily, then weekly."""
    if letter.kind != LetterKind.RELEASE.value or letter.dossier is None or letter.address is None:
        return
    address = records.address(letter.address)
    if address is None or not _awaited(records, letter.dossier, letter.account or ""):
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
