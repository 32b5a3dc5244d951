"""Roster changes on their way to the server: saved before they are sent, and sent again until it has them for good.

Rule of this room: in order, one epoch after the other, and D_j not before the change has cooled. A change that was
cancelled is forgotten here too; what a restored server forgot is given to it again.
"""

import msgspec

from cli import brief, calendar, terminal
from cli.dealing import Prepared
from cli.home import KnownDossier
from cli.orders import state_of, title_of
from cli.session import Session
from vault import envelope, wire
from vault.errors import AfterwordError, Conflict, Malformed, Refused


def kind(epoch: int) -> str:
    """Under which name the change to this epoch rests in the home."""
    return f"roster-{epoch}"


def save(session: Session, dossier: str, epoch: int, prepared: Prepared) -> None:
    session.home.save_pending(dossier, kind(epoch), msgspec.json.encode(prepared))


def saved(session: Session, dossier: str, epoch: int) -> Prepared | None:
    """The change to this epoch, as it was dealt here."""
    blob = session.home.pending(dossier, kind(epoch))
    if blob is None:
        return None
    try:
        return msgspec.json.decode(blob, type=Prepared)
    except msgspec.MsgspecError:
        raise Malformed("A saved roster change does not read; deal it again.") from None


def forget(session: Session, dossier: str, change: str) -> bool:
    """A change of this hash was cancelled: it is not to be sent again."""
    for known in session.home.dossiers():
        if known.id == dossier:
            epoch = len(session.home.rosters(dossier)) + 1
            prepared = saved(session, dossier, epoch)
            if prepared is not None and prepared.hash == change:
                session.home.drop_pending(dossier, kind(epoch))
                return True
    return False


def catch_up(session: Session, known: KnownDossier, state: wire.DossierState) -> wire.DossierState:
    """Send what this home has and the server lacks, epoch by epoch, as far as cooling lets it; the state then."""
    while (prepared := saved(session, known.id, state.epoch + 1)) is not None:
        before = state.epoch
        under_way = next((each for each in state.changes if each.change == prepared.hash), None)
        if under_way is None:
            state = _send(session, known, state, prepared)
        elif under_way.cooled and state.stage not in calendar.LATE:
            state = _correct(session, known, state.epoch + 1, prepared)
        if state.epoch == before:
            break
    return state


def _send(
    session: Session, known: KnownDossier, state: wire.DossierState, prepared: Prepared
) -> wire.DossierState:
    """The same bytes get the same answer; so a change that the server says it took and does not list was cancelled."""
    epoch = state.epoch + 1
    forgotten = epoch <= len(session.home.rosters(known.id))
    try:
        said = session.remote.call(
            "POST",
            f"/dossiers/{known.id}/rosters",
            prepared.request(cools=state.stage != "new"),
            wire.Acknowledged,
        )
    except (Conflict, Refused) as other:
        if other.code != "wrong-epoch" or forgotten:
            raise
        # Another computer of hers was faster: its change is in force, and this one fits no longer.
        session.home.drop_pending(known.id, kind(epoch))
        raise Refused(
            "The roster was changed from another computer meanwhile; this change was dropped, run the command again.",
            code="wrong-epoch",
        ) from None
    session.remote.acknowledged(session.home, prepared.roster.encode(), said.acknowledgement)
    now = said.dossier or state_of(session, known.id)
    if now.epoch == epoch and now.roster == prepared.hash:
        _installed(session, known, epoch, prepared, said.acknowledgement)
        return now
    if not any(each.change == prepared.hash for each in now.changes) and not forgotten:
        session.home.drop_pending(known.id, kind(epoch))
        terminal.warn(
            f"{title_of(session, known)}: the roster change to epoch {epoch} was cancelled, and is forgotten here too."
        )
    elif forgotten:
        terminal.warn(
            f"{title_of(session, known)}: the server had forgotten roster {epoch}; it has it again, and lets it cool."
        )
    return now


def _correct(session: Session, known: KnownDossier, epoch: int, prepared: Prepared) -> wire.DossierState:
    """It has cooled: the custodian gets D_j, and changes R in the transaction that installs the roster."""
    said = session.remote.call(
        "POST",
        f"/dossiers/{known.id}/rosters/{epoch}/corrections",
        wire.Corrections(prepared.corrections),
        wire.Acknowledged,
    )
    session.remote.acknowledged(session.home, prepared.roster.encode(), said.acknowledgement)
    state = said.dossier or state_of(session, known.id)
    if state.epoch == epoch and state.roster == prepared.hash:
        _installed(session, known, epoch, prepared, said.acknowledgement)
    return state


def _installed(
    session: Session, known: KnownDossier, epoch: int, prepared: Prepared, acknowledgement: str
) -> None:
    """In force. What was sent stays saved, because a server that is restored may forget it; and so does the
    custodian's signed word on what it withholds from now on."""
    home = session.home
    now = next((each for each in home.dossiers() if each.id == known.id), known)
    with home.transaction():
        home.remember_roster(known.id, epoch, prepared.roster.encode())
        home.save_pending(known.id, f"installed-{epoch}", acknowledgement.encode())
        home.remember_dossier(
            known.id,
            "journalist",
            epoch=epoch,
            roster_hash=envelope.statement_hash(prepared.roster.encode()).hex(),
            head_hash=now.head_hash,
            bundles=now.bundles,
        )
    terminal.say(
        f"{title_of(session, known)}: roster {epoch} is in force. Ask everybody on it to run: afterword drill"
    )
    try:
        if (readers := brief.seal_anew(session, now)) is not None:
            terminal.say(f"The brief is sealed anew, for {readers - 1} colleagues and you.")
    except AfterwordError as wrong:
        terminal.warn(
            f"the brief could not be sealed to the new roster ({wrong}); write it again: afterword brief NAME FILE"
        )
