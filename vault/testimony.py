"""What people saw, told to a server that has forgotten it.

Rule of this room: only this very server's own signature is believed, only about what it still holds, and then it is
as if it had never been forgotten.
"""

from vault import envelope, ledger, orders, release, statements, switch, watch, wire
from vault.custodian import Custodian
from vault.envelope import VerifyKey
from vault.errors import Conflict, Damaged, Untrusted
from vault.statements import CheckIn, Release
from vault.storage.records import Records
from vault.storage.records.rows import Account, Dossier
from vault.switch import Stage


def recall(
    records: Records, custodian: Custodian, account: Account, dossier: str, request: wire.SeenRelease
) -> None:
    """Release again what this server had released before it was set back, byte for byte as it was signed then. That it
    was forgotten proves that everybody's check-ins may be, also where it cannot be released again.

    Changes nothing if it is released. Untrusted for anything that this server has not signed about this dossier;
    Conflict `wrong-roster` if the roster of then is not the present one, `destroyed` if nothing is left.
    """
    signed = request.release.encode()
    seen = statements.read(signed, custodian.card.verify_key, Release)
    if (seen.server, seen.dossier) != (custodian.hash, dossier):
        raise Untrusted("This release is of another server or dossier than the one it was sent to.")
    with records.transaction() as now:
        row = orders.find(records, account, dossier)
        journalist = records.account(row.journalist)
        if journalist is None:
            raise Damaged(f"Dossier {dossier} belongs to nobody.")
        if records.release(dossier) is not None:
            return
        if seen.journalist != journalist.card_hash:
            raise Untrusted("This release is of another journalist's dossier.")
        checkin = _checkin(request.checkin, seen, VerifyKey.read(journalist.checkin))
        now = ledger.forgot_release(records, custodian, now, account, signed, seen)
        refusal = _refusal(row, records.switch(dossier).switch.stage, seen)
        if refusal is None:
            again = release.Seen(seen, signed, checkin)
            watch.apply(records, custodian, now, dossier, switch.Recalled(), seen_release=again)
    if refusal is not None:
        # Only now: that something was lost stays noted.
        raise refusal


def _refusal(row: Dossier, stage: Stage, seen: Release) -> Conflict | None:
    if row.release_share is None or stage is Stage.DESTROYED:
        return Conflict("This dossier has been destroyed; nothing of it is left.", code="destroyed")
    if (seen.epoch, seen.roster) != (row.epoch, row.roster):
        return Conflict(
            f"This server released the dossier with roster {seen.epoch}, and was set back since to roster "
            f"{row.epoch}: the shares of the two do not fit together. Keep what you have, and ask its operator "
            "to bring back a newer backup.",
            code="wrong-roster",
        )
    return None


def _checkin(given: str | None, seen: Release, key: VerifyKey) -> bytes | None:
    """The last check-in as the release names it. Without it nobody's client would believe the release."""
    if seen.checkin is None and given is None:
        return None
    signed = (given or "").encode()
    if given is None or envelope.statement_hash(signed).hex() != seen.checkin:
        raise Untrusted("The last check-in that belongs to this release is missing, or is another one.")
    statements.read(signed, key, CheckIn)
    return signed
