"""How a dossier begins, and how its roster changes.

Rule of this room: an epoch follows only the one before it, and R changes in the transaction that installs it.
"""

from typing import Final

import msgspec

from vault import accounts, cooling, envelope, ledger, letters, release, rosters, sharing, switch, wire
from vault.age import Recipient
from vault.clock import write_duration
from vault.custodian import Custodian
from vault.errors import Conflict, Malformed, NotFound, Refused, Untrusted
from vault.identity import ContactCard
from vault.plans import SHORTEST_COOLING, Plan
from vault.statements import Roster
from vault.storage.records import Records
from vault.storage.records.rows import Account, Collaborator, Dossier
from vault.switch import Stage

MOST_DOSSIERS: Final = 1_000
LONGEST_CHAIN: Final = 16 * 1024 * 1024
"""Bytes of all rosters of one dossier. Whoever is on it is shown all of them at once: a chain without end would be
more than a client takes, and more than the server has memory for."""
MOST_LINES: Final = 20_000
"""Of all rosters of one journalist together: each is shown to everybody on it, whenever they ask for anything, and a
colleague whom two journalists drowned in names could open nothing of a third."""
CLOSED: Final = frozenset({Stage.RELEASED, Stage.DESTROYED})


def create(
    records: Records,
    custodian: Custodian,
    account: Account,
    request: wire.DossierCreation,
    *,
    short: bool,
) -> tuple[str, bytes]:
    """A new dossier from its first roster: its id, and the acknowledgement. The same roster again is answered alike."""
    if not account.journalist:
        raise Refused("Only a journalist's account can do this.", code="not-a-journalist")
    signed = request.roster.encode()
    roster = ledger.read_person(signed, account, Roster)
    cards = rosters.check_roster(roster, envelope.VerifyKey.read(account.verify))
    if roster.epoch != 1 or roster.prev is not None:
        raise Refused("A dossier begins with epoch 1.", code="wrong-epoch")
    if roster.cooling < SHORTEST_COOLING and not short:
        raise Refused(
            f"Cooling lasts at least {write_duration(SHORTEST_COOLING)} on this server.",
            code="cooling-too-short",
        )
    plan = cooling.read_plan(roster.plan)
    check_plan(plan, records.tick, short=short)
    shares, (deal, title) = _blobs(request.shares), _blobs((request.deal, request.title))
    given = _blobs(request.release_shares)
    _check_custodian(custodian, roster)
    _check_sealed(roster, shares, deal, given)
    journalist = bytes.fromhex(account.verify)
    withheld = custodian.take_release_share(
        given[0], journalist=journalist, dossier=bytes.fromhex(roster.dossier), epoch=1, index=1
    )
    commitment = sharing.release_commitment(journalist, bytes.fromhex(roster.dossier), 1, withheld).hex()
    if commitment != roster.custodians[0].commitment:
        raise Untrusted("The release share is not the one the roster commits to; create the dossier anew.")
    with records.transaction() as now:
        stored = ledger.answered(records, signed)
        if stored is not None and stored.account == account.id:
            return roster.dossier, stored.acknowledgement
        if records.dossier(roster.dossier) is not None:
            raise Conflict("This dossier's id is taken; create it anew.", code="taken")
        if len(records.dossiers_of(account.id)) >= MOST_DOSSIERS:
            raise Refused("You have as many dossiers as an account can have.", code="too-many-dossiers")
        _require_lines(records, account, None, roster)
        hash = envelope.statement_hash(signed).hex()
        records.add_dossier(
            Dossier(
                id=roster.dossier,
                journalist=account.id,
                title=title,
                deal=deal,
                recipient=roster.recipient,
                release_share=release.withhold(custodian, withheld),
                epoch=1,
                roster=hash,
                threshold=roster.k,
                minimum=roster.minimum,
                cooling=roster.cooling,
                bundles=0,
                head=None,
                pushed=None,
                brief=None,
                created=now.wall,
            )
        )
        records.add_switch(roster.dossier, switch.begin(plan, now.stamp), now.wall)
        records.add_roster(roster.dossier, 1, hash, custodian.rest(signed))
        records.replace_collaborators(roster.dossier, _lines(records, account, roster, cards, shares))
        answer = ledger.acknowledge(
            records, custodian, now, account.id, signed, roster, commitment=commitment
        )
    return roster.dossier, answer


def change_roster(
    records: Records, custodian: Custodian, account: Account, dossier: str, request: wire.RosterChange
) -> tuple[bytes, str | None]:
    """Install epoch e+1 at once while the dossier is new, else let it cool; the acknowledgement and the change."""
    signed = request.roster.encode()
    roster = ledger.read_person(signed, account, Roster)
    cards = rosters.check_roster(roster, envelope.VerifyKey.read(account.verify))
    _check_custodian(custodian, roster)
    with records.transaction() as now:
        row = own(records, account, dossier)
        stored = ledger.answered(records, signed)
        if stored is not None and stored.account == account.id:
            return stored.acknowledgement, stored.change
        seen = records.switch(dossier).switch
        if seen.stage in CLOSED:
            raise Conflict("This dossier has ended; its roster changes no more.", code="released")
        if roster.dossier != dossier or roster.epoch != row.epoch + 1:
            raise Conflict("The roster was changed in between; run the command again.", code="wrong-epoch")
        rosters.follows(roster, _installed(records, custodian, row), row.roster)
        shares, (deal,) = _blobs(request.shares), _blobs((request.deal,))
        corrections = None if request.corrections is None else _blobs(request.corrections)
        _check_sealed(roster, shares, deal, corrections)
        _lines(records, account, roster, cards, shares)
        _require_lines(records, account, dossier, roster)
        if records.size_of_rosters(dossier) + len(signed) > LONGEST_CHAIN:
            raise Refused(
                "The roster of this dossier was changed as often as it can be; create a new dossier.",
                code="too-many-rosters",
            )
        if not cooling.is_armed(seen.stage):
            if corrections is None:
                raise Malformed("The corrections of this roster are missing; run the command again.")
            commitment = _install(
                records, custodian, account, row, roster, signed, cards, shares, deal, corrections
            )
            answer = ledger.acknowledge(
                records, custodian, now, account.id, signed, roster, commitment=commitment
            )
            change = None
        else:
            if corrections is not None:
                raise Refused("Keep the corrections until the change has cooled.", code="too-early")
            hash = envelope.statement_hash(signed).hex()
            body = msgspec.json.encode(request)
            change = cooling.ask(records, custodian, now, row, letters.Change.ROSTER, hash, body)
            answer = ledger.acknowledge(records, custodian, now, account.id, signed, roster, change=change)
    records.db.forget()
    return answer, change


def correct_roster(
    records: Records,
    custodian: Custodian,
    account: Account,
    dossier: str,
    epoch: int,
    request: wire.Corrections,
) -> bytes:
    """The sealed D_j of a roster that has cooled: R changes in the transaction that installs the roster."""
    with records.transaction() as now:
        row = own(records, account, dossier)
        if row.epoch == epoch and (stored := records.statement(row.roster)) is not None:
            return stored.acknowledgement
        pending = next((each for each in records.changes_of_dossier(dossier) if each.kind == "roster"), None)
        if pending is None or row.epoch + 1 != epoch:
            raise Conflict("No change of the roster to this epoch is under way.", code="wrong-epoch")
        stage = records.switch(dossier).switch.stage
        if not cooling.has_cooled(records, now, pending) or stage not in cooling.CALM:
            raise Conflict(
                "The change of the roster has not cooled yet; check in later again.", code="too-early"
            )
        change = wire.read(custodian.wake(pending.body), wire.RosterChange)
        signed = change.roster.encode()
        roster = ledger.read_person(signed, account, Roster)
        corrections = _blobs(request.corrections)
        shares, deal = _blobs(change.shares), wire.read_blob(change.deal)
        _check_sealed(roster, shares, deal, corrections)
        former = [each.account for each in records.readable_lines(dossier) if not each.has_left]
        commitment = _install(
            records,
            custodian,
            account,
            row,
            roster,
            signed,
            rosters.check_roster(roster, envelope.VerifyKey.read(account.verify)),
            shares,
            deal,
            corrections,
        )
        cooling.finish(records, custodian, now, pending, former)
        answer = ledger.acknowledge(
            records, custodian, now, account.id, signed, roster, commitment=commitment, again=True
        )
    records.db.forget()
    return answer


def own(records: Records, account: Account, dossier: str) -> Dossier:
    """One lookup by id and owner, so that foreign and unknown are one answer."""
    row = records.own_dossier(dossier, account.id)
    if row is None:
        raise NotFound("There is no such dossier.")
    return row


def check_plan(plan: Plan, tick: int, *, short: bool) -> None:
    """Refuse what only a rehearsal may have, and what not even a rehearsal can show."""
    if not short:
        plan.require_unhurried(tick)
    elif min(plan.dwells()) < 4 * tick:
        raise Refused(
            f"Each stage lasts at least {write_duration(4 * tick)} on this server.", code="plan-too-short"
        )


def _install(
    records: Records,
    custodian: Custodian,
    account: Account,
    row: Dossier,
    roster: Roster,
    signed: bytes,
    cards: tuple[ContactCard, ...],
    shares: list[bytes],
    deal: bytes,
    corrections: list[bytes],
) -> str:
    journalist, dossier = bytes.fromhex(account.verify), bytes.fromhex(row.id)
    correction = custodian.take_release_share(
        corrections[0], journalist=journalist, dossier=dossier, epoch=roster.epoch, index=1
    )
    withheld = release.corrected(custodian, row, correction)
    hash = envelope.statement_hash(signed).hex()
    resting = release.withhold(custodian, withheld)
    moved = records.move_epoch(row.id, row.epoch, hash, roster.k, roster.minimum, resting, deal)
    if moved != 1:
        raise Conflict("The roster was changed in between; run the command again.", code="wrong-epoch")
    records.add_roster(row.id, roster.epoch, hash, custodian.rest(signed))
    records.replace_collaborators(row.id, _lines(records, account, roster, cards, shares))
    return sharing.release_commitment(journalist, dossier, roster.epoch, withheld).hex()


def _installed(records: Records, custodian: Custodian, row: Dossier) -> Roster:
    newest = custodian.wake(records.sealed_rosters(row.id)[-1])
    return envelope.read_payload(envelope.peek(newest).payload, Roster)


def _lines(
    records: Records, account: Account, roster: Roster, cards: tuple[ContactCard, ...], shares: list[bytes]
) -> list[Collaborator]:
    people = accounts.linked_accounts(records, account.id, [card.hash.hex() for card in cards])
    return [
        Collaborator(
            roster.dossier, entry.index, person.id, person.card_hash, share, None, None, 0, None, None
        )
        for entry, person, share in zip(roster.collaborators, people, shares, strict=True)
    ]


def _require_lines(records: Records, account: Account, dossier: str | None, roster: Roster) -> None:
    if records.count_lines(account.id, dossier) + len(roster.collaborators) > MOST_LINES:
        raise Refused(
            "All your dossiers together name as many colleagues as an account can have.",
            code="too-many-dossiers",
        )


def _blobs(texts: tuple[str, ...]) -> list[bytes]:
    blobs = [wire.read_blob(text) for text in texts]
    if any(len(blob) > release.LARGEST_SEALED for blob in blobs):
        raise Malformed("A sealed share is longer than any share is; is the program out of date?")
    return blobs


def _check_custodian(custodian: Custodian, roster: Roster) -> None:
    if [entry.card.encode() for entry in roster.custodians] != [custodian.card.envelope] or roster.t != 1:
        raise Refused("This server must be the one custodian of the roster.", code="wrong-custodian")
    if Recipient.read(roster.recipient) == custodian.card.recipient:
        raise Refused("A dossier has a key of its own.", code="wrong-recipient")


def _check_sealed(roster: Roster, shares: list[bytes], deal: bytes, given: list[bytes] | None) -> None:
    release.check_sealed(tuple(entry.sealed for entry in roster.collaborators), tuple(shares))
    release.check_sealed((roster.deal,), (deal,))
    if given is not None:
        release.check_sealed(tuple(entry.sealed for entry in roster.custodians), tuple(given))
