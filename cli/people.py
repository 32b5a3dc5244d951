"""The colleagues a journalist has invited: `afterword collaborator`.

Rule of this room: cards travel through the server, trust does not. A card is pinned when it is first seen, and counts
as compared only when its words were heard.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from cli import terminal
from cli.dealing import Person
from cli.home import Home, KnownCard
from cli.naming import folded
from cli.session import signed_in
from vault import identity, wire
from vault.clock import write_duration
from vault.errors import AfterwordError, Malformed, NotFound, Refused, Untrusted


@dataclass(frozen=True, slots=True)
class Met:
    """Everybody linked as a collaborator. `changed`: those for whom the server shows another card than before."""

    known: tuple[KnownCard, ...]
    changed: dict[str, AfterwordError]


class Listed(msgspec.Struct, frozen=True):
    """One line of `collaborator list`."""

    label: str
    state: str
    fingerprint: str | None = None
    compared: int | None = None
    expires: int | None = None


def meet(home: Home, account: wire.AccountState) -> Met:
    """Pin whoever is new. A changed card is kept out; whether that matters depends on who is needed."""
    changed: dict[str, AfterwordError] = {}
    hashes = set()
    for link in account.links:
        if link.role != "collaborator":
            continue
        try:
            card = identity.read_card(link.card.encode())
            identity.check_label(link.label)
            home.pin(card, link.label, "collaborator")
        except (Malformed, Untrusted) as wrong:
            changed[terminal.one_line(link.label)] = wrong
        else:
            hashes.add(card.hash)
    known = (each for each in home.cards() if each.role == "collaborator" and each.card.hash in hashes)
    return Met(tuple(known), changed)


def choose(met: Met, label: str) -> Person:
    """A collaborator by the label she gave them."""
    wanted = folded(label)
    for changed, wrong in met.changed.items():
        if folded(changed) == wanted:
            raise wrong
    for known in met.known:
        if folded(known.label) == wanted:
            return Person(known.label, known.card, known.compared is not None)
    listed = ", ".join(each.label for each in met.known) or "nobody yet"
    raise NotFound(
        f"No collaborator called {label!r} has joined; those who have: {listed}. "
        "Invite somebody with: afterword collaborator invite LABEL",
        code="no-such-collaborator",
    )


@click.group()
def collaborator() -> None:
    """Invite colleagues, and see who has joined."""


@collaborator.command("invite")
@click.argument("label", required=False)
@terminal.passphrase_option
@terminal.json_option
def invite(label: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Make an invite for one colleague. LABEL is what you call this person; the server keeps it for you."""
    label = (label if label is not None else terminal.ask("What do you call this person")).strip()
    identity.check_label(label)
    with signed_in(passphrase_file) as at:
        account = at.remote.call("GET", "/account", None, wire.AccountState)
        _require_free(label, account)
        made = at.remote.call("POST", "/invites", wire.InviteRequest(label), wire.Invite)
        server, own = at.home.server.fingerprint.write(), at.home.card.fingerprint.write()
        url = f"{at.remote.url}/join#{made.code}.{server}.{own}"
    terminal.answer({"label": label, "url": url, "lives": made.lives}, as_json, lambda _: url)
    terminal.say(
        f"Give this address to {label} by a way you trust; it works once, for {write_duration(made.lives)}. They run: "
        f"afterword join URL. Afterwards compare cards by voice: afterword card compare {shlex.quote(label)}"
    )


@collaborator.command("list")
@terminal.passphrase_option
@terminal.json_option
def listing(passphrase_file: Path | None, as_json: bool) -> None:
    """Who has joined, whose card was compared, and which invites are open."""
    with signed_in(passphrase_file) as at:
        account = at.remote.call("GET", "/account", None, wire.AccountState)
        met = meet(at.home, account)
    lines = [
        Listed(
            known.label,
            "compared" if known.compared is not None else "never compared",
            known.card.fingerprint.write(),
            known.compared,
        )
        for known in met.known
    ]
    lines += [Listed(label, "card changed") for label in met.changed]
    lines += [Listed(each.label, "invited", expires=each.expires) for each in account.invites]
    terminal.answer({"collaborators": lines}, as_json, lambda _: _table(lines))
    for wrong in met.changed.values():
        terminal.warn(str(wrong))
    if any(each.state == "never compared" for each in lines):
        terminal.say("Compare a card by voice with: afterword card compare LABEL")


def _table(lines: list[Listed]) -> str:
    if not lines:
        return "Nobody yet. Invite a colleague with: afterword collaborator invite LABEL"
    width = max(len(each.label) for each in lines)
    shown = []
    for each in lines:
        since = f" on {terminal.local(each.compared)}" if each.compared is not None else ""
        shown.append(f"{each.label:<{width}}  {each.state}{since}")
    return "\n".join(shown)


def _require_free(label: str, account: wire.AccountState) -> None:
    taken = {folded(link.label) for link in account.links if link.role == "collaborator"}
    if folded(label) in taken:
        raise Refused(f"You call somebody {label} already; choose another label.", code="label-taken")
    if folded(label) in {folded(each.label) for each in account.invites}:
        terminal.warn(
            f"an invite for {label} is open already; whoever uses the second one would be called alike."
        )
