"""Changing who the collaborators are: `afterword roster`.

Rule of this room: the paper words are asked for last, used for one thing, and forgotten. Nothing is dealt while home
and server are not at the same epoch.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from cli import dealing, handover, orders, terminal
from cli.calendar import ENDED
from cli.chain import SignedRoster, read_rosters
from cli.dealing import Person, Prepared
from cli.home import KnownDossier
from cli.naming import folded
from cli.people import Met, choose, meet
from cli.session import Session
from vault import age, envelope, identity, rosters, wire
from vault.errors import BadUsage, Conflict, Damaged, NotFound, Refused, Untrusted
from vault.identity import Keyring
from vault.rosters import SealedDeal


class Line(msgspec.Struct, frozen=True):
    """One collaborator of a roster."""

    index: int
    label: str
    verified: bool


class Shown(msgspec.Struct, frozen=True):
    """What `roster` answers: the roster in force, and the change that was asked for, if it has to cool."""

    dossier: str
    title: str
    epoch: int
    k: int
    collaborators: tuple[Line, ...]
    change: str | None = None
    effective: int | None = None


@click.command()
@click.argument("name", required=False)
@click.option("--add", "added", multiple=True, metavar="LABEL", help="Somebody who has joined. Repeat it.")
@click.option(
    "--remove", "removed", multiple=True, metavar="LABEL", help="Somebody on the roster. Repeat it."
)
@click.option("--threshold", type=int, help="How many it takes from now on.")
@click.option("--unverified", is_flag=True, help="Go on although cards were never compared.")
@terminal.passphrase_option
@terminal.json_option
def roster(
    name: str | None,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    threshold: int | None,
    unverified: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Change who can open NAME, or how many it takes; without options, show who they are.

    Asks for your 24 paper words. Once armed, the change waits for the cooling time, in full view of everybody.
    Somebody who is removed keeps nothing that opens anything together with the server as it is then; but against
    one who may have an old copy of the server, make a new dossier.
    """
    with orders.own_dossier(name, passphrase_file) as (session, known), session.home.lock("roster"):
        before, state = _agreed(session, known)
        cooling = next((each for each in state.changes if each.kind == "roster"), None)
        if not added and not removed and threshold is None:
            shown = _shown(session, known, before, cooling)
        else:
            orders.require_going_on(session, known, state)
            if cooling is not None:
                raise Refused(
                    "A change of this roster is cooling already. Wait until it is in force, or take it back first: "
                    f"afterword cancel {known.id[:8]} {cooling.change[:16]}",
                    code="change-pending",
                )
            account = session.remote.call("GET", "/account", None, wire.AccountState)
            met = meet(session.home, account)
            people = _people(session, met, before, added, removed)
            k = before.roster.k if threshold is None else threshold
            dealing.check_people(people, k, session.home.card, unverified=unverified)
            _check_changes(before, people, k)
            prepared = _deal(session, known, before, people, k)
            handover.save(session, known.id, before.roster.epoch + 1, prepared)
            state = handover.catch_up(session, known, state)
            shown = _outcome(session, known, before, prepared, state)
    terminal.answer(shown, as_json, _render)


def _agreed(session: Session, known: KnownDossier) -> tuple[SignedRoster, wire.DossierState]:
    """The roster in force, of which home and server say the same; what the server lacks is sent first."""
    state = orders.state_of(session, known.id)
    if state.stage not in ENDED:
        state = handover.catch_up(session, known, state)
    kept = session.home.rosters(known.id)
    said = session.remote.call("GET", f"/dossiers/{known.id}/rosters", None, wire.Rosters)
    shown = [each.encode() for each in said.rosters]
    if len(shown) < len(kept):
        raise Conflict(
            f"The server is at roster {len(shown)} and this computer at {len(kept)}: what the server forgot was sent "
            "again and cools there. Nothing is dealt until both agree; run `afterword checkin` as usual.",
            code="epochs-differ",
        )
    chain = read_rosters(shown, session.home.card.verify_key, known.id)
    with session.home.transaction():
        for each in chain:
            session.home.remember_roster(known.id, each.roster.epoch, each.envelope)
    newest = chain[-1]
    if (state.epoch, state.roster) != (newest.roster.epoch, newest.hash.hex()):
        raise Conflict("The roster was changed in between; run the command again.", code="epochs-differ")
    return newest, state


def _people(
    session: Session, met: Met, before: SignedRoster, added: Sequence[str], removed: Sequence[str]
) -> list[Person]:
    """Those who stay, in their order, then those who come."""
    compared = {known.card.hash for known in session.home.cards() if known.compared is not None}
    staying = [
        Person(_label(session, card), card, line.verified or card.hash in compared)
        for line, card in zip(before.roster.collaborators, before.cards(), strict=True)
    ]
    for label in removed:
        gone = [person for person in staying if folded(person.label) == folded(label)]
        if len(gone) != 1:
            listed = ", ".join(person.label for person in staying) or "nobody"
            raise NotFound(
                f"{label!r} is not on this roster, or not alone; on it: {listed}.",
                code="no-such-collaborator",
            )
        staying.remove(gone[0])
    coming = [choose(met, label) for label in added]
    for person in coming:
        if any(person.card.hash == other.card.hash for other in staying):
            raise Refused(f"{person.label} is on this roster already.", code="named-twice")
    return staying + coming


def _check_changes(before: SignedRoster, people: Sequence[Person], k: int) -> None:
    same = [card.hash for card in before.cards()] == [person.card.hash for person in people]
    if same and k == before.roster.k:
        raise BadUsage("That is the roster as it is; nothing was changed.", code="nothing-changed")


def _deal(
    session: Session, known: KnownDossier, before: SignedRoster, people: Sequence[Person], k: int
) -> Prepared:
    """Open C with the paper words, and deal it anew under another difference."""
    said = session.remote.call("GET", f"/dossiers/{known.id}/deal", None, wire.Deal)
    sealed = wire.read_blob(said.deal)
    if said.epoch != before.roster.epoch or hashlib.sha256(sealed).hexdigest() != before.roster.deal:
        raise Untrusted(
            "The server does not give back the secret that you left with it for this roster; nothing was dealt. Ask "
            "its operator what happened.",
            code="wrong-deal",
        )
    terminal.say(
        "Dealing anew needs your 24 paper words. Type them only on a computer that you trust; they are not kept."
    )
    title = session.home.title(known, session.keyring)
    if title is None:
        raise Damaged("This home cannot read the dossier's name any more; restore it from the paper words.")
    held = _open(session.keyring, sealed)
    return dealing.deal_again(
        before.roster,
        before.hash.hex(),
        held,
        title,
        people,
        k,
        session.keyring,
        os.urandom,
    )


def _open(keyring: Keyring, sealed: bytes) -> SealedDeal:
    from cli.paper import ask_words

    root = ask_words()
    if Keyring.from_seed(root).sign.verify_key != keyring.sign.verify_key:
        raise Untrusted(
            "These words belong to somebody else, or to another home; nothing was dealt. Look for the right paper.",
            code="wrong-words",
        )
    return rosters.read_deal(age.open_sealed(sealed, identity.deal_identity(root)))


def _outcome(
    session: Session, known: KnownDossier, before: SignedRoster, prepared: Prepared, state: wire.DossierState
) -> Shown:
    """The new roster when it is in force, else the old one with the change that cools."""
    change = next((each for each in state.changes if each.change == prepared.hash), None)
    if change is not None:
        return _shown(session, known, before, change)
    signed = prepared.roster.encode()
    dealt = rosters.read_roster(signed, session.keyring.sign.verify_key)
    return _shown(session, known, SignedRoster(dealt, envelope.statement_hash(signed), signed), None)


def _label(session: Session, card: identity.ContactCard) -> str:
    for known in session.home.cards():
        if known.card.hash == card.hash:
            return known.label
    return card.card.label


def _shown(session: Session, known: KnownDossier, signed: SignedRoster, change: wire.Change | None) -> Shown:
    return Shown(
        dossier=known.id,
        title=orders.title_of(session, known),
        epoch=signed.roster.epoch,
        k=signed.roster.k,
        collaborators=tuple(
            Line(line.index, _label(session, card), line.verified)
            for line, card in zip(signed.roster.collaborators, signed.cards(), strict=True)
        ),
        change=None if change is None else change.change,
        effective=None if change is None or change.cooled else change.effective,
    )


def _render(shown: Shown) -> str:
    text = [
        f"{shown.title}, roster {shown.epoch}: {shown.k} of {len(shown.collaborators)} open it after a release"
    ]
    text += [
        f"    {each.index}  {terminal.one_line(each.label)}{'' if each.verified else '  (card never compared)'}"
        for each in shown.collaborators
    ]
    if shown.change is not None:
        when = (
            "after your next check-in"
            if shown.effective is None
            else f"about {terminal.local(shown.effective)}"
        )
        text.append(
            f"This is still in force. The change was asked for and will have cooled {when}; all your addresses and "
            "your colleagues are told. Your first `afterword checkin` or `roster` after that hands it over. To take it "
            f"back: afterword cancel {shown.dossier[:8]} {shown.change[:16]}"
        )
    return "\n".join(text)
