"""What a move says, as rows: to her, to her colleagues, to the operator, and to whoever was alarmed before.

Rule of this room: called inside the transaction of the move, after it; a row of somebody that does not read costs
nobody else their letter, and never the move.
"""

import logging
from typing import Final

from vault import outbox, switch
from vault.custodian import Custodian
from vault.errors import Damaged
from vault.letters import Facts, LetterKind
from vault.service import Moment
from vault.storage.records import Records
from vault.storage.records.rows import Dossier, Letter
from vault.switch import Audience, Notice, Stage, Withdraw

ALARMS: Final = switch.LADDER_LETTERS | switch.HOLD_LETTERS
"""What is owed the all-clear when the climb ends."""

log = logging.getLogger("afterword.notices")


def post(
    records: Records,
    custodian: Custodian,
    now: Moment,
    dossier: Dossier,
    after: switch.Switch,
    said: tuple[Notice | Withdraw, ...],
) -> None:
    """Withdraw what is no longer true, then post a row for every address of each audience."""
    coming = dict(switch.projected(after, now.served))
    following = switch.projected(after, now.served)[:1]
    dates = Facts(
        due=now.project(following[0][1]) if following else None,
        release=now.project(coming[Stage.RELEASED]) if Stage.RELEASED in coming else None,
    )
    hers = Facts(hers=True, due=dates.due, release=dates.release)
    for each in said:
        match each:
            case Withdraw(kinds):
                records.withdraw_letters(dossier.id, [kind.value for kind in kinds], now.lived)
            case Notice(kind, Audience.HER, climb, name):
                outbox.post(
                    records,
                    custodian,
                    now,
                    kind,
                    dossier.journalist,
                    hers,
                    dossier=dossier.id,
                    climb=climb,
                    letter=name,
                )
            case Notice(kind, Audience.COLLABORATORS, climb, name):
                for place, reader in enumerate(records.lines_of(dossier.id), 1):
                    if reader is None:
                        tell_of_line(records, custodian, now, dossier.id, place, kind)
                        continue
                    if reader.has_left:
                        continue
                    numbered = 0 if kind is LetterKind.RELEASE else climb
                    told = outbox.post(
                        records,
                        custodian,
                        now,
                        kind,
                        reader.account,
                        dates,
                        dossier=dossier.id,
                        climb=numbered,
                        letter=name,
                    )
                    if kind is LetterKind.RELEASE and not told:
                        outbox.tell_unreachable(records, custodian, now, dossier.id, reader.account)
            case Notice(kind, Audience.OPERATOR, climb, _):
                facts = Facts(account=dossier.journalist, due=dates.due, release=dates.release)
                outbox.post_operator(records, custodian, now, kind, facts, dossier.id, climb)
            case Notice(kind, Audience.REACHED, climb, _):
                tell_reached(records, custodian, now, dossier, kind, climb)


def tell_of_line(
    records: Records, custodian: Custodian, now: Moment, dossier: str, place: int, kind: LetterKind
) -> None:
    """To the operator: of a colleague that nobody here can write to. The others are written to."""
    log.error("dossier %s: a %s letter is missing, line %d does not read", dossier, kind.value, place)
    trouble = (
        f"line {place} of the roster of dossier {dossier} does not read; a {kind.value} letter is missing."
    )
    facts = Facts(account=records.dossier_owner(dossier), trouble=trouble)
    outbox.post_operator(records, custodian, now, LetterKind.OPERATOR_TROUBLE, facts, dossier)


def tell_reached(
    records: Records,
    custodian: Custodian,
    now: Moment,
    dossier: Dossier,
    kind: LetterKind,
    climb: int,
) -> None:
    """To each address that accepted an alarm of this climb, once."""
    told = set()
    for letter in records.accepted_letters(dossier.id, climb):
        # One whose kind does not read is no alarm that anybody got.
        if letter.kind not in ALARMS or letter.address in told:
            continue
        told.add(letter.address)
        _tell_over(records, custodian, now, dossier, kind, letter)


def tell_unrelieved(records: Records, custodian: Custodian, now: Moment, dossier: Dossier) -> None:
    """To each address that accepted an alarm, of whichever climb, and was not told since that it is over: a server that
    was set back ends alarms and tells nobody so."""
    letters = records.letters_of_dossier(dossier.id, (*ALARMS, LetterKind.ALL_CLEAR))
    told: dict[str | None, int] = {}
    for letter in letters:
        if letter.kind == LetterKind.ALL_CLEAR:
            told.setdefault(letter.address, letter.posted)
    for letter in letters:
        if letter.kind not in ALARMS or letter.state != "accepted":
            continue
        if told.get(letter.address, -1) < letter.posted:
            told[letter.address] = now.lived
            _tell_over(records, custodian, now, dossier, LetterKind.ALL_CLEAR, letter)


def _tell_over(
    records: Records, custodian: Custodian, now: Moment, dossier: Dossier, kind: LetterKind, letter: Letter
) -> None:
    # A row that does not read may cost somebody an all-clear; but nobody else theirs, and not her the check-in.
    try:
        all_clear(records, custodian, now, dossier, kind, letter)
    except Damaged as wrong:
        log.error("dossier %s: an all-clear is missing: %s", dossier.id, type(wrong).__name__)


def all_clear(
    records: Records, custodian: Custodian, now: Moment, dossier: Dossier, kind: LetterKind, letter: Letter
) -> None:
    """To the one address that accepted `letter`."""
    if letter.address is None:
        facts = Facts(account=dossier.journalist)
        outbox.post_operator(records, custodian, now, kind, facts, dossier.id, letter.climb)
        return
    address = records.address(letter.address)
    if address is not None:
        facts = Facts(hers=address.account == dossier.journalist)
        outbox.post_to(records, custodian, now, kind, address, facts, dossier=dossier.id, climb=letter.climb)
