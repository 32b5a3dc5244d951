"""A person at work: their home unlocked, their server signed in, and what it shows, checked and remembered.

Rule of this room: what the server says about a dossier is remembered only when its signatures held.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli import chain, terminal
from cli.home import Home, KnownDossier
from cli.naming import folded
from cli.remote import Remote
from vault import age, envelope, identity, statements, titles, wire
from vault.clock import DAY, MINUTE, SystemClock
from vault.errors import AfterwordError, Malformed, Refused, Untrusted
from vault.identity import ContactCard, Keyring
from vault.statements import Proof

STALE_PROOF: Final = 90 * DAY
CLOCK_OFF: Final = 5 * MINUTE


@dataclass(frozen=True, slots=True)
class Session:
    """One command's hold on home and server."""

    home: Home
    keyring: Keyring
    remote: Remote

    def now(self) -> int:
        """The time by the server's clock, by which what it shows is dated; this computer's may be off by years."""
        return SystemClock().wall() + self.remote.clock_ahead


@dataclass(frozen=True, slots=True)
class Seen:
    """A dossier as the server shows it, with its title opened here."""

    state: wire.DossierState
    known: KnownDossier
    title: str | None

    @property
    def name(self) -> str:
        return self.title or self.known.id[:8]


@contextmanager
def signed_in(passphrase_file: Path | None = None) -> Iterator[Session]:
    """Asks for the passphrase; the server's card is checked before anything is said to it."""
    with Home.open() as home:
        keyring = home.unlock(terminal.passphrase(passphrase_file))
        with Remote(home.url, home.server) as remote:
            remote.sign_in(keyring, home)
            if (off := clock_off(remote)) is not None:
                terminal.warn(off)
            if remote.trouble is not None:
                terminal.warn(remote.trouble.sentence)
            yield Session(home, keyring, remote)


def clock_off(remote: Remote) -> str | None:
    """A sentence when this computer's clock and the server's differ. Nothing is decided by either."""
    off = abs(remote.clock_ahead)
    if off <= CLOCK_OFF:
        return None
    return (
        f"this computer's clock and the server's differ by {terminal.length(off)}. If this one is wrong, set it: "
        "nothing is released by the clock on the wall, but what you sign bears its date."
    )


def learn_links(home: Home, links: tuple[wire.Link, ...], *, restoring: bool = False) -> None:
    """Pin the cards of those who joined with our invites, and name what does not hold.

    A journalist's card comes from the invite that carries its fingerprint, never from here, unless a home is
    being restored; nobody's card counts as compared.
    """
    for link in links:
        if link.role == "journalist" and not restoring:
            continue
        try:
            card = identity.read_card(link.card.encode())
            if link.role == "journalist":
                pin_journalist(home, card)
            else:
                identity.check_label(link.label)
                home.pin(card, link.label, link.role)
        except (Malformed, Untrusted) as wrong:
            terminal.warn(str(wrong))


def pin_journalist(home: Home, card: ContactCard) -> str:
    """Under the name on her card. Two journalists may call themselves alike; the second gets a mark."""
    label = card.card.label
    taken = {folded(known.label) for known in home.cards() if known.card.hash != card.hash}
    if folded(label) in taken:
        label = f"{label} ({card.fingerprint.words()[0]})"
    home.pin(card, label, "journalist")
    return next(known.label for known in home.cards() if known.card.hash == card.hash)


def learn_dossiers(session: Session, *, restoring: bool = False) -> list[Seen]:
    """Every dossier of this account. One whose rosters do not hold is named and left out."""
    said = session.remote.call("GET", "/dossiers", None, wire.Dossiers)
    seen = []
    for state in said.dossiers:
        try:
            seen.append(learn_dossier(session, state, restoring=restoring))
        except (Malformed, Untrusted, Refused) as wrong:
            terminal.warn(f"Dossier {state.dossier[:8]}: {wrong}")
    shown = {state.dossier for state in said.dossiers}
    for known in session.home.dossiers():
        if known.role == "journalist" and known.id not in shown:
            title = session.home.title(known, session.keyring) or known.id[:8]
            terminal.warn(
                f"{terminal.one_line(title)}: THE SERVER DOES NOT SHOW THIS DOSSIER. Do not rely on it: ask its "
                "operator."
            )
    return seen


def learn_dossier(session: Session, state: wire.DossierState, *, restoring: bool = False) -> Seen:
    """Verify its rosters where they are new, open its title, remember both. Heads are followed when `restoring`."""
    home = session.home
    known = next((each for each in home.dossiers() if each.id == state.dossier), None)
    journalist = journalist_of(home, state)
    head, bundles = (known.head_hash, known.bundles) if known else (None, 0)
    if known is None or known.roster_hash != state.roster:
        rosters = chain.fetch_rosters(session.remote, state.dossier, journalist, home.rosters(state.dossier))
        for each in rosters:
            home.remember_roster(state.dossier, each.roster.epoch, each.envelope)
        epoch, roster = rosters[-1].roster.epoch, rosters[-1].hash.hex()
    else:
        epoch, roster = known.epoch, known.roster_hash
    if restoring and state.role == "journalist":
        for followed in chain.fetch_heads(session.remote, state.dossier, journalist.verify_key):
            head, bundles = followed.hash.hex(), followed.bundle
    title = known.title_sealed if known else None
    if title is None:
        title = _learn_title(session, state)
    home.remember_dossier(
        state.dossier,
        state.role,
        epoch=epoch,
        roster_hash=roster,
        title_sealed=title,
        head_hash=head,
        bundles=bundles,
    )
    now_known = KnownDossier(state.dossier, state.role, title, epoch, roster, head, bundles)
    return Seen(state, now_known, home.title(now_known, session.keyring))


def journalist_of(home: Home, state: wire.DossierState) -> ContactCard:
    """The pinned card of whoever owns this dossier."""
    if state.role == "journalist":
        return home.card
    if (known := home.journalist(state.journalist)) is not None:
        return known.card
    raise Untrusted(
        "it is shown under a journalist whose invite was never used here; if you know who it is, ask them for an "
        "invite and run: afterword join INVITE-URL",
        code="unknown-journalist",
    )


def proofs(session: Session, dossier: str) -> dict[int, int]:
    """By index, when each collaborator of the newest roster proved their share (ms UTC, in their own signature)."""
    rosters = session.home.rosters(dossier)
    if not rosters:
        return {}
    opened = statements.peek(rosters[-1])
    if not isinstance(opened, statements.Roster):
        return {}
    hash = envelope.statement_hash(rosters[-1]).hex()
    keys = {each.index: identity.read_card(each.card.encode()).verify_key for each in opened.collaborators}
    proved: dict[int, int] = {}
    for signed in session.remote.call("GET", f"/dossiers/{dossier}/proofs", None, wire.Proofs).proofs:
        try:
            claimed = statements.peek(signed.encode())
            if isinstance(claimed, Proof) and claimed.index in keys:
                proof = statements.read(signed.encode(), keys[claimed.index], Proof)
                if (proof.dossier, proof.roster) == (dossier, hash):
                    proved[proof.index] = max(proof.created, proved.get(proof.index, 0))
        except AfterwordError:
            terminal.warn(
                f"The server shows a proof for dossier {dossier[:8]} that nobody on its roster signed."
            )
    return proved


def _learn_title(session: Session, state: wire.DossierState) -> bytes | None:
    """Sealed to ourselves: hers as the server keeps it, a colleague's out of their share."""
    if state.role == "journalist":
        sealed = None if state.title is None else wire.read_blob(state.title)
        if sealed is not None:
            titles.read_title(age.open_sealed(sealed, session.keyring.seal), state.dossier)
        return sealed
    # Only a share that holds against roster and commitment may say what a dossier is called.
    from cli import shares

    entrusted = shares.look(session, state)
    if isinstance(entrusted, shares.Doubtful):
        raise entrusted.wrong
    if not isinstance(entrusted, shares.Sound):
        return None
    written = titles.write_title(state.dossier, entrusted.share.title)
    return age.seal(written, session.keyring.seal.recipient, os.urandom)
