"""Whether a database still is what it has promised: before a backup takes the place of a server.

Rule of this room: reads only, and everything; every link is recomputed, every signature of the server verified, and
what does not hold is named with its account, dossier or slow change, so that a person can decide.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vault import envelope, ledger, statements
from vault.custodian import Custodian
from vault.envelope import VerifyKey
from vault.errors import AfterwordError, Damaged
from vault.statements import Acknowledgement, CheckIn, Release
from vault.storage.records import Records
from vault.storage.records.rows import Account
from vault.switch import Stage

_PAGE: Final = 1_000
# Of a value of another type than its column's, the second two.
_DAMAGE: Final = (AfterwordError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Flaw:
    """What does not hold: `what`, of this account, dossier or slow change."""

    of: str
    what: str

    def __str__(self) -> str:
        return f"{self.of}: {self.what}"


def flaws(records: Records, custodian: Custodian) -> list[Flaw]:
    """Everything that does not hold, in one consistent view; an empty list is a sound database."""
    with records.reading():
        found: list[Flaw] = []
        for account in records.names_of_accounts():
            found += _of_account(records, custodian, account)
        for dossier in records.names_of_dossiers():
            found += _of_dossier(records, custodian, dossier)
        for change in records.all_changes():
            found += _of_change(records, custodian, change)
        return found


def _of_account(records: Records, custodian: Custodian, name: str) -> Iterator[Flaw]:
    of = f"account {name}"
    try:
        account = records.account(name)
        if account is None:
            raise Damaged("it cannot be found under its own name")
        chain = _chain(records, account)
    except _DAMAGE as wrong:
        yield Flaw(of, str(wrong))
        return
    for hash in records.names_of_statements(name):
        try:
            stored = records.statement(hash)
            if stored is None:
                raise Damaged("it cannot be found under its own name")
            said = statements.read(stored.acknowledgement, custodian.card.verify_key, Acknowledgement)
        except AfterwordError:
            yield Flaw(of, f"the acknowledgement of statement {hash[:8]} is not signed by this server")
            continue
        if (said.server, said.account, said.statement) != (custodian.hash, account.card_hash, hash):
            yield Flaw(of, f"the acknowledgement of statement {hash[:8]} is of something else")
        elif chain.get(said.number) != said.history:
            yield Flaw(of, f"entry {said.number} of its history is not the one that was promised")


def _chain(records: Records, account: Account) -> dict[int, str]:
    """Number to hash; `Damaged` where a link does not follow from the one before."""
    chain: dict[int, str] = {}
    hash = ledger.FIRST
    while page := records.history(account.id, len(chain), _PAGE):
        for each in page:
            expected = hashlib.sha256(bytes.fromhex(hash) + each.entry.encode()).hexdigest()
            if each.number != len(chain) + 1 or each.hash != expected:
                raise Damaged(f"entry {len(chain) + 1} of its history does not follow from the one before")
            hash = expected
            chain[each.number] = hash
    if (account.number, account.history) != (len(chain), hash):
        raise Damaged(
            f"its history ends with entry {len(chain)}, and entry {account.number} is said to be the last"
        )
    return chain


def _of_dossier(records: Records, custodian: Custodian, name: str) -> Iterator[Flaw]:
    of = f"dossier {name}"
    try:
        dossier = records.dossier(name)
        journalist = None if dossier is None else records.account(dossier.journalist)
        if dossier is None or journalist is None:
            raise Damaged("it belongs to nobody")
        stage = records.switch(name).switch.stage
        records.cooling_of(name)
        records.collaborators(name)
        rosters = records.sealed_rosters(name)
        newest = custodian.wake(rosters[-1]) if rosters else b""
        if len(rosters) != dossier.epoch or envelope.statement_hash(newest).hex() != dossier.roster:
            raise Damaged(f"roster {dossier.epoch} is not the one that its row names")
        released = records.release(name)
        if (released is not None) != (stage is Stage.RELEASED):
            raise Damaged(f"its switch is {stage}, and its release says otherwise")
        if released is None:
            return
        said = statements.read(released.envelope, custodian.card.verify_key, Release)
        if (said.server, said.dossier, said.roster) != (custodian.hash, name, dossier.roster):
            raise Damaged("its release is of something else")
        if released.checkin is None:
            if said.checkin is not None:
                raise Damaged("the check-in that its release names is gone")
            return
        statements.read(released.checkin, VerifyKey.read(journalist.checkin), CheckIn)
        if envelope.statement_hash(released.checkin).hex() != said.checkin:
            raise Damaged("its release names another check-in than the one beside it")
    except _DAMAGE as wrong:
        yield Flaw(of, str(wrong))


def _of_change(records: Records, custodian: Custodian, name: str | None) -> Iterator[Flaw]:
    of = f"change {name}"
    try:
        change = None if name is None else records.change(name)
        if change is None:
            raise Damaged("it cannot be found under its own name")
        if change.dossier is not None and records.dossier_owner(change.dossier) != change.account:
            raise Damaged("it is of somebody else's dossier")
        custodian.wake(change.body)
    except _DAMAGE as wrong:
        yield Flaw(of, str(wrong))
