"""Who has held a dossier, as their own signatures say.

Rule of this room: the server may say that time stands still; that a colleague said so is believed only of a statement
that verifies with the card of a roster that holds. Nobody is named for anything else.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from cli import terminal
from cli.home import Home
from vault import identity, statements, wire
from vault.errors import AfterwordError
from vault.identity import ContactCard

BECAUSE: Final = {
    "reached": "spoken with",
    "hospital": "in a hospital",
    "known-safe": "known to be safe",
}


class Holding(msgspec.Struct, frozen=True):
    """One signature. `who` is null when it does not hold; `until` (ms UTC) while, or as long as, time stood still for
    it; `pending` while a second colleague has to sign as well."""

    who: str | None
    because: str
    asked: int
    until: int | None
    pending: bool


def read(home: Home, state: wire.DossierState) -> tuple[Holding, ...]:
    """The newest of this climb, the newest first."""
    if not state.holds:
        return ()
    cards = _cards(home, state.dossier)
    pinned = {known.card.hash.hex(): known.label for known in home.cards()}
    mine = home.card.hash.hex()
    shown = []
    for each in state.holds:
        card = cards.get(each.card)
        who = None
        if card is not None and _is_theirs(each, card, state, home.server.hash.hex()):
            name = pinned.get(each.card) or card.card.label
            who = "you" if each.card == mine else terminal.one_line(name)
        shown.append(Holding(who, each.because, each.asked, each.until, each.pending))
    return tuple(shown)


def sentences(held: Sequence[Holding], now: int) -> Iterator[str]:
    """What stands still, or waits for a second signature, at this moment."""
    for each in held:
        running = each.until is not None and now < each.until
        if not (running or each.pending):
            continue
        if each.who is None:
            yield (
                "THE SERVER SHOWS A HOLD THAT NO COLLEAGUE HAS SIGNED. Do not count on it, and ask the server's "
                "operator."
            )
        elif running and each.until is not None:
            yield (
                f"held by {each.who} ({BECAUSE[each.because]}), signed {terminal.local(each.asked)}: no time passes "
                f"until {terminal.ahead(each.until, now)}"
            )
        else:
            yield (
                f"{each.who} asked to hold it ({BECAUSE[each.because]}), signed {terminal.local(each.asked)}: nothing "
                "stands still until a second colleague signs, with `afterword hold`"
            )


def told(held: Sequence[Holding], since: int) -> Iterator[str]:
    """What was signed after `since`, for her who comes back."""
    for each in held:
        if each.who is not None and each.asked > since:
            yield (
                f"while you were silent, {each.who} signed that you were {BECAUSE[each.because]} "
                f"({terminal.local(each.asked)})"
            )


def _is_theirs(each: wire.HoldState, card: ContactCard, state: wire.DossierState, server: str) -> bool:
    try:
        said = statements.read(each.statement.encode(), card.verify_key, statements.Hold)
    except AfterwordError:
        return False
    return (said.server, said.dossier, said.climb, said.because) == (
        server,
        state.dossier,
        state.climb,
        each.because,
    )


def _cards(home: Home, dossier: str) -> dict[str, ContactCard]:
    """Of everybody who was ever on a roster that this computer has verified."""
    found = {}
    for signed in home.rosters(dossier):
        opened = statements.peek(signed)
        if isinstance(opened, statements.Roster):
            for each in opened.collaborators:
                card = identity.read_card(each.card.encode())
                found[card.hash.hex()] = card
    return found
