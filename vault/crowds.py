"""Many who fall silent together: more likely our trouble, or a region's, than as many murders.

Rule of this room: it counts, remembers and tells the operator; it moves nothing. What it asks of the database costs
nothing as long as nobody falls silent, and never more than a few times as many rows as did.
"""

import logging
from typing import Final

import msgspec

from vault import outbox
from vault.clock import DAY, HOUR
from vault.custodian import Custodian
from vault.errors import Damaged, DiskFailed
from vault.letters import Facts, LetterKind
from vault.plans import CROWD_WAITS
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Wave

WITHIN: Final = HOUR
FEW: Final = 5
"""So many may fall silent together without any alarm, however small the server is."""
PART: Final = 10
REMEMBERED: Final = 14 * DAY

log = logging.getLogger("afterword.crowds")


def is_wave(records: Records, now: Moment) -> bool:
    """Whether more than five, and more than a tenth of those who were armed, fell silent within the last hour."""
    late = records.count_newly_late(now.served - WITHIN)
    # Those who just fell silent were armed as well: late > (armed + late) / 10.
    enough = (PART - 1) * late
    return late > FEW and records.count_armed(enough) < enough


def note(records: Records, custodian: Custodian, now: Moment, marked: int) -> None:
    """So many more were marked. The first of a wave are told to the operator, once."""
    wave = _remembered(records, now)
    if wave is not None and now.served - wave.last < WITHIN:
        records.save_wave(msgspec.structs.replace(wave, many=wave.many + marked, last=now.served))
        return
    number = 1 if wave is None else wave.number + 1
    records.save_wave(Wave(number=number, many=marked, last=now.served, waited=None, wall=now.wall))
    late = records.count_newly_late(now.served - WITHIN)
    outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_CROWD, Facts(many=late))


def newest(records: Records, now: Moment) -> Wave | None:
    """The last wave, if it is not long ago."""
    wave = records.newest_wave()
    return None if wave is None or now.served - wave.last > REMEMBERED else wave


def tell_waiting(records: Records, custodian: Custodian, now: Moment) -> None:
    """A release waits because it is one of a wave: the operator hears of the first in twelve hours."""
    wave = _remembered(records, now)
    if wave is None or (wave.waited is not None and now.served - wave.waited < CROWD_WAITS):
        return
    records.save_wave(msgspec.structs.replace(wave, waited=now.served))
    still = Facts(many=records.count_crowd())
    outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_CROWD_WAITS, still)


def _remembered(records: Records, now: Moment) -> Wave | None:
    """One that does not read is taken for long over: what it remembers must hold up neither a mark nor a release."""
    try:
        return records.newest_wave()
    except DiskFailed:
        raise
    except Damaged as wrong:
        log.error("the last wave does not read: %s", type(wrong).__name__)
        long_ago = now.served - WITHIN
        return Wave(number=records.last_wave() + 1, many=0, last=long_ago, waited=None, wall=now.wall)
