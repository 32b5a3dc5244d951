"""What was entrusted to this person as a collaborator, checked piece by piece.

Rule of this room: a roster counts only under the journalist's pinned card, a share only against the commitment in
that roster, a release only under the server's pinned card. What does not hold is kept apart and says why.
"""

import hashlib
import os
from dataclasses import dataclass, field
from typing import Final

from cli import chain, combine, naming, promises, terminal
from cli.chain import SignedRoster
from cli.home import KnownCard, KnownDossier
from cli.released import Case, open_case
from cli.session import Session
from cli.terminal import one_line
from vault import age, sharing, titles, wire
from vault.errors import (
    AfterwordError,
    Conflict,
    Damaged,
    Malformed,
    NotFound,
    Refused,
    Untrusted,
)
from vault.identity import ContactCard
from vault.sharing import DealtShare
from vault.statements import Collaborator

WRONG_SHARE: Final = "share-forged"
# One dossier that does not hold must not hide the others; a server that is away hides them all.
_ABOUT_ONE: Final = (Malformed, Untrusted, Refused, NotFound, Damaged, Conflict)


@dataclass(frozen=True, slots=True)
class Sound:
    """A dossier whose rosters hold and of which we have a genuine share. `case` once it is released."""

    state: wire.DossierState
    journalist: KnownCard
    roster: SignedRoster
    cards: tuple[ContactCard, ...] = field(repr=False)
    line: Collaborator = field(repr=False)
    share: DealtShare = field(repr=False)
    case: Case | None = field(repr=False)

    @property
    def title(self) -> str | None:
        return one_line(self.share.title) or None

    @property
    def left(self) -> bool:
        return any(each.left for each in self.state.collaborators if each.index == self.line.index)

    def others(self) -> tuple[str, ...]:
        """What the other collaborators call themselves."""
        return tuple(label for index, label in self.labels().items() if index != self.line.index)

    def labels(self) -> dict[int, str]:
        """By index of the share, what every collaborator calls themselves."""
        lines = zip(self.roster.roster.collaborators, self.cards, strict=True)
        return {line.index: card.card.label for line, card in lines}


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A dossier about which something does not hold."""

    state: wire.DossierState
    journalist: KnownCard | None
    title: str | None
    wrong: AfterwordError


@dataclass(frozen=True, slots=True)
class Gone:
    """A dossier that its journalist has destroyed, says the server; there is nothing left to hold."""

    state: wire.DossierState
    journalist: KnownCard | None
    title: str | None


Entrusted = Sound | Doubtful | Gone


def entrusted(session: Session) -> list[Entrusted]:
    """Everything that this person is a collaborator of, as far as the server shows it."""
    said = session.remote.call("GET", "/dossiers", None, wire.Dossiers)
    return [look(session, state) for state in said.dossiers if state.role == "collaborator"]


def look(session: Session, state: wire.DossierState) -> Entrusted:
    """One dossier: its rosters verified and remembered, its share opened, its release verified."""
    known = next((each for each in session.home.dossiers() if each.id == state.dossier), None)
    title = None if known is None else session.home.title(known, session.keyring)
    title = one_line(title) or None if title is not None else None
    journalist = session.home.journalist(state.journalist)
    try:
        state = _recall(session, state)
    except _ABOUT_ONE as wrong:
        return Doubtful(state, journalist, title, wrong)
    if state.stage == "destroyed":
        return Gone(state, journalist, title)
    try:
        if journalist is None:
            raise Untrusted(
                f"Dossier {state.dossier[:8]} is shown under a journalist whose invite was never used here: it may "
                "be a copy under a false name. Prove and give nothing. If you know who it is from, ask them by voice "
                "for an invite, and run: afterword join INVITE-URL",
                code="unknown-journalist",
            )
        roster = _rosters(session, state.dossier, journalist.card)
        cards = roster.cards()
        place = next((at for at, card in enumerate(cards) if card.hash == session.home.card.hash), None)
        if place is None:
            raise Refused(
                f"{journalist.label} has taken you off this dossier's roster: there is nothing more for you to do.",
                code="not-on-the-roster",
            )
        line = roster.roster.collaborators[place]
        share = _own_share(session, journalist, roster, line)
        _remember(session, known, roster, share, title)
        released = state.stage == "released" or state.released is not None
        case = open_case(session.home, session.remote, state.dossier) if released else None
    except _ABOUT_ONE as wrong:
        return Doubtful(state, journalist, title, wrong)
    return Sound(state, journalist, roster, cards, line, share, case)


def _recall(session: Session, state: wire.DossierState) -> wire.DossierState:
    """A server that has forgotten a release is shown its own signature, and releases it again."""
    if state.stage == "released" or state.released is not None:
        return state
    seen = promises.kept_release(session.home, state.dossier)
    if seen is None:
        return state
    try:
        again = session.remote.call("POST", f"/dossiers/{state.dossier}/release", seen, wire.DossierState)
    except (Conflict, Refused, Untrusted, Malformed) as why:
        raise Untrusted(
            f"Dossier {state.dossier[:8]} was released: this computer holds the server's own signature on it. Now the "
            f"server shows it as {state.stage}, and does not take that back: {why} What you have of it stays yours; "
            "speak with the others, and with the server's operator, by another way.",
            code="release-forgotten",
        ) from None
    terminal.warn(
        f"the server had forgotten that dossier {state.dossier[:8]} is released. It was shown its own signature, and "
        "has released it again."
    )
    return again


def named(session: Session, name: str) -> Entrusted:
    """By title, or by the beginning of the dossier's id. NotFound with code `no-such-dossier` lists what there is."""
    everything = entrusted(session)
    found = naming.dossier_called(name, [(each, each.state.dossier, each.title) for each in everything])
    if found is not None:
        return found
    listed = ", ".join(each.title or each.state.dossier[:8] for each in everything) or "none yet"
    own = any(known.role == "journalist" for known in session.home.dossiers())
    hers = " What you deposited yourself only your colleagues can take out, after a release." if own else ""
    raise NotFound(
        f"You are not a collaborator of a dossier {name!r}; those you are a collaborator of: {listed}.{hers}",
        code="no-such-dossier",
    )


def case_of(session: Session, found: Entrusted) -> Case:
    """What is released, verified. Refused with code `not-released`, and with what to do instead."""
    if found.state.stage != "released":
        who = found.journalist.label if found.journalist else "the journalist"
        raise Refused(
            f"This dossier has not been released, so nothing can be given or opened yet. Try to reach {who} first; "
            "see: afterword inbox",
            code="not-released",
        )
    if isinstance(found, Sound) and found.case is not None:
        return found.case
    return open_case(session.home, session.remote, found.state.dossier)


def _rosters(session: Session, dossier: str, journalist: ContactCard) -> SignedRoster:
    rosters = chain.fetch_rosters(session.remote, dossier, journalist, session.home.rosters(dossier))
    with session.home.transaction():
        for each in rosters:
            session.home.remember_roster(dossier, each.roster.epoch, each.envelope)
    return rosters[-1]


def _own_share(
    session: Session, journalist: KnownCard, roster: SignedRoster, line: Collaborator
) -> DealtShare:
    """Untrusted with code `share-forged`, whatever is wrong with it."""
    dossier, epoch = roster.roster.dossier, roster.roster.epoch
    said = session.remote.call("GET", f"/dossiers/{dossier}/share", None, wire.SealedShare)
    if said.epoch > epoch:
        raise Conflict(
            "The roster was changed at this very moment; run the command again.", code="wrong-roster"
        )

    def wrong(why: str) -> Untrusted:
        return Untrusted(
            f"YOUR SHARE IS WRONG: {why}. With it this archive could not be opened on the day, and nothing was proved. "
            f"Tell {journalist.label} by voice; they deal new shares with `afterword roster`.",
            code=WRONG_SHARE,
        )

    try:
        blob = wire.read_blob(said.sealed)
    except Malformed:
        raise wrong("what the server hands out is no sealed share at all") from None
    if hashlib.sha256(blob).hexdigest() != line.sealed:
        raise wrong("the server hands out another one than the roster names for you")
    try:
        dealt = sharing.read_share(age.open_sealed(blob, session.keyring.seal))
    except Untrusted:
        raise wrong("it was sealed to another key than yours, or damaged") from None
    except Malformed:
        raise wrong("what is inside the seal is no share") from None
    try:
        combine.check_share(dealt, journalist.card, roster.roster, line)
    except Untrusted as why:
        raise wrong(str(why)) from None
    return dealt


def _remember(
    session: Session, known: KnownDossier | None, roster: SignedRoster, share: DealtShare, title: str | None
) -> None:
    """The title rests here only sealed to ourselves, and is sealed anew only when it has changed."""
    same = known is not None and known.title_sealed is not None and title == (one_line(share.title) or None)
    written = titles.write_title(roster.roster.dossier, share.title)
    sealed = None if same else age.seal(written, session.keyring.seal.recipient, os.urandom)
    session.home.remember_dossier(
        roster.roster.dossier,
        "collaborator",
        epoch=roster.roster.epoch,
        roster_hash=roster.hash.hex(),
        title_sealed=sealed,
        head_hash=known.head_hash if known else None,
        bundles=known.bundles if known else 0,
    )
