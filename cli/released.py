"""A released dossier as signatures show it, before any share is opened.

Rule of this room: a release counts only under the pinned server's card, a roster only under the pinned journalist's;
what a person has to judge is told apart from what is certain.
"""

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cli import chain, promises, terminal
from cli.chain import SignedRoster
from vault import envelope, identity, statements, wire
from vault.errors import AfterwordError, Refused, Untrusted
from vault.identity import ContactCard
from vault.rosters import ROLLED_BACK
from vault.statements import CheckIn, Release

if TYPE_CHECKING:
    from cli.home import Home
    from cli.remote import Remote

_NOTHING: Final = "Nothing of yours was sent: speak with the others, by another way, before you do anything."


@dataclass(frozen=True, slots=True)
class Case:
    """A released dossier, as far as signatures can tell before any share is opened."""

    dossier: str
    server: str
    journalist: ContactCard
    roster: SignedRoster
    cards: tuple[ContactCard, ...]
    place: int
    """Where I stand in the roster's list of collaborators, from 0."""
    release: Release
    checkin: CheckIn | None
    compared: bool
    """Whether the journalist's words were ever heard on this computer."""
    released: wire.Released = field(repr=False)

    def label(self, index: int) -> str:
        """What the collaborator with this share index is called."""
        for line, card in zip(self.roster.roster.collaborators, self.cards, strict=True):
            if line.index == index:
                return card.card.label
        return f"share {index}"


def open_case(home: "Home", remote: "Remote", dossier: str) -> Case:
    """Fetch and verify rosters, release and last check-in.

    Refused `not-released` before the day; Untrusted when the release is not the pinned server's word about the
    newest roster of a journalist whose card is pinned here.
    """
    shown = remote.call("GET", f"/dossiers/{dossier}/rosters", None, wire.Rosters)
    journalist = identity.read_card(shown.journalist.encode())
    pinned = [known for known in home.cards() if known.card.hash == journalist.hash]
    if not any(known.role == "journalist" for known in pinned):
        raise Untrusted(
            f"Dossier {dossier[:8]} claims a journalist whose card was never pinned here: it may be a copy of "
            f"another's roster under a false name. {_NOTHING}",
            code="unknown-journalist",
        )
    rosters = chain.fetch_rosters(remote, dossier, journalist, home.rosters(dossier))
    for epoch, each in enumerate(rosters, 1):
        home.remember_roster(dossier, epoch, each.envelope)
    roster = rosters[-1]
    cards = roster.cards()
    place = next((at for at, card in enumerate(cards) if card.hash == home.card.hash), None)
    if place is None:
        raise Refused(
            f"{journalist.card.label} has taken you off this dossier's roster: there is nothing more for you to do.",
            code="not-on-the-roster",
        )
    released = remote.call("GET", f"/dossiers/{dossier}/release", None, wire.Released)
    release = _read_release(released, home.server, dossier, journalist, roster)
    checkin = _read_checkin(released, release, journalist)
    covered = next((each for each in checkin.dossiers if each.dossier == dossier), None) if checkin else None
    if covered is not None and covered.epoch > release.epoch:
        raise Untrusted(
            f"The last check-in knew roster {covered.epoch} and the server releases roster {release.epoch}: it has "
            "gone back to an older state. Ask its operator.",
            code=ROLLED_BACK,
        )
    promises.keep_release(home, dossier, released)
    compared = any(known.compared is not None for known in pinned)
    return Case(
        dossier,
        home.server.hash.hex(),
        journalist,
        roster,
        cards,
        place,
        release,
        checkin,
        compared,
        released,
    )


def has_given(case: Case, state: wire.DossierState) -> bool:
    """Whether I have passed my share on already."""
    own = case.roster.roster.collaborators[case.place].index
    return any(each.contributed for each in state.collaborators if each.index == own)


def story(case: Case, title: str, *, given: bool) -> list[str]:
    """What is certain, and what a person has to judge before a share leaves this computer, line by line."""
    her, own = case.journalist.card.label, case.cards[case.place]
    others = ", ".join(card.card.label for card in case.cards if card is not own) or "nobody else"
    lines = [
        f"{title}, from {her}",
        f"  The server you joined has signed that it released this on {terminal.local(case.release.created)}.",
    ]
    if case.checkin is None:
        # Nobody signs that something did not happen: a server could hide every check-in there was.
        lines.append(
            f"  There is no sign of life: the server shows no check-in of {her}'s, not even an old one."
        )
    else:
        when = terminal.local(case.checkin.created)
        lines.append(
            f"  The last sign of life: {her}'s last signed check-in is of {when}, by the clock of their own computer."
        )
    if not case.compared:
        # A home that was restored from words has this card from the server alone.
        lines.append(
            f"  The card of {her} was never compared on this computer. Compare its ten words with the others' before "
            f"you believe what you see: afterword card show {shlex.quote(her)}"
        )
    if given:
        return [*lines, "  You have given your share already."]
    return [
        *lines,
        f"  Once {case.roster.roster.k} of the {len(case.cards)} colleagues have given their share, each of them can "
        f"open it. Yours goes to: {others}.",
        "  A share that was given cannot be taken back, and nothing is deleted while you wait. If you can still hope "
        f"to reach {her}, or the date above surprises you, speak with the others first.",
    ]


def _read_release(
    released: wire.Released, server: ContactCard, dossier: str, journalist: ContactCard, roster: SignedRoster
) -> Release:
    try:
        release = statements.read(released.release.encode(), server.verify_key, Release)
    except AfterwordError:
        raise Untrusted(
            f"What the server shows as a release is not signed by the server you joined. {_NOTHING}",
            code="release-forged",
        ) from None
    expected = (server.hash.hex(), dossier, journalist.hash.hex(), roster.roster.epoch, roster.hash.hex())
    if (release.server, release.dossier, release.journalist, release.epoch, release.roster) != expected:
        raise Untrusted(
            f"The server's release is of another dossier, journalist or roster than the one it shows. {_NOTHING}",
            code="release-forged",
        )
    return release


def _read_checkin(released: wire.Released, release: Release, journalist: ContactCard) -> CheckIn | None:
    if released.checkin is None and release.checkin is None:
        return None
    signed = (released.checkin or "").encode()
    try:
        checkin = statements.read(signed, journalist.checkin_key, CheckIn)
        same = envelope.statement_hash(signed).hex() == release.checkin
    except AfterwordError:
        same = False
    if not same:
        raise Untrusted(
            "The last check-in that the server shows is not signed by the journalist, or not the one its release "
            f"names. {_NOTHING}",
            code="checkin-forged",
        )
    return checkin
