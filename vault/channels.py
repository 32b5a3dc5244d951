"""What is known of an address as a way to a person: whether letters land there, since when they do not, who is told.

Rule of this room: measured in `lived`, never by the wall; one address's trouble is told of once, and taken back when it
is over; when nobody's letters are accepted it is the mail server that is ill, and no address is blamed for it.
"""

from typing import Final

from vault.clock import DAY
from vault.letters import LetterKind
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Address

SHOUTS_AFTER: Final = DAY


def failed(records: Records, now: Moment, address: str) -> tuple[Address, ...]:
    """Note a failure; the addresses of the same person that are to hear of it now."""
    records.mark_failing(address, now.wall, now.lived)
    row = records.address(address)
    if row is None or not row.confirmed or row.failing_told or row.failing_lived is None:
        return ()
    if now.lived - row.failing_lived < SHOUTS_AFTER or not records.accepted_since(row.failing_lived):
        return ()
    records.tell_failing(address)
    return _others(records, row)


def day_is_over(records: Records, now: Moment, address: str) -> int | None:
    """In how many ms of `lived` this address will have failed for a day, while that is still to come."""
    row = records.address(address)
    if row is None or row.failing_told or row.failing_lived is None:
        return None
    left = row.failing_lived + SHOUTS_AFTER - now.lived
    return left if left > 0 else None


def landed(records: Records, now: Moment, address: str) -> tuple[Address, ...]:
    """Note that a letter was accepted; the addresses that had heard of trouble and are to hear that it is over."""
    row = records.address(address)
    if row is None or row.failing_since is None:
        return ()
    records.clear_failing(address)
    if not row.failing_told:
        return ()
    # Who has not been told yet hears nothing at all.
    kind = LetterKind.ADDRESS_FAILING.value
    return tuple(
        each
        for each in _others(records, row)
        if not records.withdraw_letters_of_channel(each.id, address, kind, now.lived)
    )


def standstill(records: Records, now: Moment) -> int | None:
    """How long (ms of `lived`) no letter to anybody has been accepted while some waited, once it is a day.

    For `operator status`, `doctor` and the heartbeat: no letter could tell of it. Called inside a reading.
    """
    waiting = records.oldest_waiting(now.lived)
    if waiting is None:
        return None
    accepted = records.last_accepted()
    if accepted is not None:
        waiting = max(waiting, accepted)
    # Letters that were withdrawn meanwhile had failed too.
    failing = records.first_failing(-1 if accepted is None else accepted)
    since = waiting if failing is None else min(waiting, failing)
    return now.lived - since if now.lived - since >= SHOUTS_AFTER else None


def _others(records: Records, row: Address) -> tuple[Address, ...]:
    return tuple(each for each in records.confirmed_addresses_of(row.account) if each.id != row.id)
