"""Letters that nothing can refer to any more are deleted, a few at a time.

Rule of this room: whatever is in doubt stays. A letter goes only when it was settled long ago and nothing it is about
is under way; what does not read is kept; a release is never forgotten.
"""

from typing import Final

import msgspec

from vault.clock import DAY
from vault.errors import Damaged, DiskFailed
from vault.letters import LetterKind
from vault.storage.records import Records
from vault.storage.records.rows import Settled
from vault.switch import Stage

KEPT: Final = 90 * DAY
"""Of `lived`, since it was settled."""
PAGE: Final = 200
_ENDED: Final = frozenset({Stage.RELEASED, Stage.DESTROYED})
_OUTAGES: Final = frozenset({LetterKind.OUTAGE, LetterKind.OUTAGE_OVER, LetterKind.OPERATOR_TROUBLE})
_CHANGES: Final = frozenset({LetterKind.CHANGE_ASKED, LetterKind.CHANGE_CANCELLED, LetterKind.CHANGE_DONE})
_BEGINNING: Final = (-(2**63), "")


class Pruner:
    """Goes through what was settled, the oldest first, a page at each call; at the end it begins anew. Remembers only
    where it is, so that what stays is not looked at again and again."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._after = _BEGINNING

    def go_on(self) -> int:
        """How many letters were deleted."""
        records = self._records
        with records.reading() as now:
            before = now.lived - KEPT
            page = records.settled_letters(before, PAGE, self._after)
            known = [each for each in page if each is not None]
            gone = [each.id for each in known if not _is_needed(records, each)]
        # What nothing refers to now, nothing will: what has ended has, and what is newest only grows newer.
        if gone:
            with records.transaction():
                gone = [letter for letter in gone if records.forget_letter(letter, before)]
        at_end = len(page) < PAGE or not known
        self._after = _BEGINNING if at_end else (known[-1].settled, known[-1].id)
        return len(gone)


def _is_needed(records: Records, letter: Settled) -> bool:
    try:
        return _refers(records, letter)
    except DiskFailed:
        raise
    except (Damaged, ValueError, msgspec.MsgspecError):
        # A row that it depends on does not read, or its kind is none.
        return True


def _refers(records: Records, letter: Settled) -> bool:
    kind = LetterKind(letter.kind)
    if kind is LetterKind.RELEASE:
        return True  # who was told of a release must not be told as if they had not been
    last = records.last_accepted()
    if last is None or letter.settled >= last:
        return True  # by the last that was accepted it is known whether the mail server is ill
    if kind in _CHANGES and (letter.lane is None or records.has_changes(letter.lane)):
        return True
    if kind in _OUTAGES and letter.letter is not None:
        seen = records.vigil()
        if seen is None or letter.letter == f"outage-{seen.outage}":
            return True  # who was told that it began has yet to hear that it is over
    return letter.dossier is not None and _is_under_way(records, letter.dossier, letter.climb)


def _is_under_way(records: Records, dossier: str, climb: int | None) -> bool:
    """A dossier that has not ended keeps all of its letters; one that has, those of its last climb."""
    seen = records.switch(dossier).switch
    return seen.stage not in _ENDED or (climb is not None and climb >= seen.ladder)
