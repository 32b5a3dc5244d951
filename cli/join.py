"""Joining a server: `afterword join`.

Rule of this room: nothing is spent before it is safely kept. Words are on paper and the keyring on disk before
the invite leaves this computer; killed anywhere, the same command goes on, or begins anew with nothing lost.
"""

import os
import re
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click
import msgspec

from cli import terminal
from cli.home import Home, default_path
from cli.paper import ask_words, show_words
from cli.remote import Remote
from cli.session import Session, learn_dossiers, learn_links, pin_journalist
from vault import identity, settings, wire
from vault.clock import SystemClock
from vault.errors import BadUsage, Malformed, NotFound, Refused, Unauthenticated, Untrusted
from vault.identity import ContactCard, Fingerprint, Keyring, Language, RootSeed

if TYPE_CHECKING:
    from vault.statements import Role

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invite's address says: which server (by its card), with which code, from whom (by her card)."""

    url: str
    server: Fingerprint
    code: str | None
    card: Fingerprint | None


class Welcome(msgspec.Struct, frozen=True):
    """What `join` answers."""

    role: Literal["journalist", "collaborator"]
    label: str
    words: dict[Language, tuple[str, ...]]
    fingerprint: str
    inviter: str | None
    restore: str
    dossiers: int | None = None


@click.command()
@click.argument("invite_url", required=False)
@click.option("--label", help="The name, or pseudonym, that others see on your card.")
@click.option("--language", type=click.Choice(["en", "es"]), help="Of the paper words.")
@click.option("--from-words", is_flag=True, help="On a new computer: restore from your 24 paper words.")
@terminal.passphrase_option
@terminal.json_option
def join(
    invite_url: str | None,
    label: str | None,
    language: Language | None,
    from_words: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Join a server with the invite you were given.

    INVITE-URL is asked for when it is not given here, so that it need not stay in the shell's history. A second
    invite links you with another journalist on the same server. With --from-words it is the address that stands
    beside your paper words.
    """
    invitation = read_invitation(
        invite_url or terminal.ask("The whole address you were given"), restoring=from_words
    )
    if from_words:
        welcome = _restore(invitation, passphrase_file)
    else:
        with _home_for(invitation, label, language or _language(), passphrase_file) as home:
            welcome = _spend(home, invitation)
    terminal.answer(welcome, as_json, _render)


def read_invitation(text: str, *, restoring: bool = False) -> Invitation:
    """`https://HOST/join#CODE.SERVER.CARD`, `#CODE.SERVER`, or for restoring `#SERVER`."""
    address, _, pins = text.strip().partition("#")
    if not address.endswith("/join"):
        raise BadUsage(
            "An invite looks like https://HOST/join#…; copy the whole address you were given.",
            code="bad-invite",
        )
    url = address.removesuffix("/join")
    settings.check_url(url)
    parts = pins.split(".")
    if restoring:
        # An old invite holds the server's pin too, and her words prove the rest.
        return Invitation(url, _pin(parts[0] if len(parts) == 1 else parts[1]), None, None)
    if len(parts) not in (2, 3) or not all(parts) or not _CODE.fullmatch(parts[0]):
        raise BadUsage(
            "This invite came without its pin: the part after # must be CODE.SERVER, or CODE.SERVER.CARD for a "
            "colleague. Copy the whole address, or ask for it again. Nothing was sent.",
            code="invite-without-pin",
        )
    return Invitation(url, _pin(parts[1]), parts[0], _pin(parts[2]) if len(parts) == 3 else None)


def _pin(text: str) -> Fingerprint:
    try:
        return Fingerprint.read(text)
    except Malformed:
        raise BadUsage(
            "The pin in this address is not whole; copy the whole address, or ask for it again. Nothing was sent.",
            code="invite-without-pin",
        ) from None


def _home_for(
    invitation: Invitation, label: str | None, language: Language, passphrase_file: Path | None
) -> Home:
    """The home that spends this invite: an old one, one that was interrupted while joining, or a new one."""
    try:
        home = Home.open(unfinished=True)
    except Refused as none:
        if none.code != "no-home":
            raise
        home = None
    if home is None:
        with Remote(invitation.url, None) as remote:
            server = _check_server(remote, invitation)
        return _begin(invitation, server, label, language, passphrase_file)
    try:
        if home.joined is None:
            terminal.say(
                "Joining was interrupted here; going on with the same keys and the same paper words."
            )
            with Remote(invitation.url, None) as remote:
                home.move_to(remote.url, _check_server(remote, invitation))
        elif home.server.fingerprint != invitation.server:
            raise Refused(
                f"This home belongs to the server at {home.url}, and the invite is for another one; set "
                "AFTERWORD_HOME to another folder for it.",
                code="other-server",
            )
        elif label is not None and label != home.card.card.label:
            terminal.warn(f"your card is made already and stays {home.card.card.label!r}.")
    except BaseException:
        home.close()
        raise
    return home


def _check_server(remote: Remote, invitation: Invitation) -> ContactCard:
    card = identity.read_card(remote.info().card.encode())
    if card.fingerprint != invitation.server:
        raise Untrusted(
            f"The server at {invitation.url} is not the one that this address names: its card is another. Nothing "
            "was sent. Ask whoever gave you the address, by another way.",
            code="wrong-server",
        )
    return card


def _begin(
    invitation: Invitation,
    server: ContactCard,
    label: str | None,
    language: Language,
    passphrase_file: Path | None,
) -> Home:
    """Label, words, passphrase, in this order; then the home. Until its keyring is written nothing has happened."""
    label = label or terminal.ask("Your name or pseudonym, as others will see it")
    identity.check_label(label)
    root = RootSeed.generate(secrets.token_bytes)
    show_words(root, language, restore_address(invitation.url, server))
    keyring = Keyring.from_seed(root)
    del root
    home = _new_home(invitation.url, server, label, keyring, passphrase_file)
    home.remember("words-written", b"%d" % SystemClock().wall())
    return home


def _new_home(
    url: str,
    server: ContactCard,
    label: str,
    keyring: Keyring,
    passphrase_file: Path | None,
    card: ContactCard | None = None,
) -> Home:
    terminal.say("\nNow a passphrase for this computer. It is asked for by nearly every command.")
    passphrase = terminal.passphrase(passphrase_file, confirm=True)
    now = SystemClock().wall()
    return Home.create(
        url=url,
        server=server,
        card=card or identity.read_card(identity.write_card(label, keyring, now, "cli")),
        keyring=identity.write_keyring(keyring, passphrase, os.urandom),
    )


def restore_address(url: str, server: ContactCard) -> str:
    return f"{url}/join#{server.fingerprint.write()}"


def _spend(home: Home, invitation: Invitation) -> Welcome:
    """Hand over the card with the code. The same again gets the same answer, so a lost answer costs nothing."""
    if invitation.code is None:
        raise BadUsage("This address has no invite code in it.", code="invite-without-pin")
    with Remote(home.url, home.server) as remote:
        remote.info()
        request = wire.Joining(invitation.code, home.card.envelope.decode())
        joined = remote.call("POST", "/accounts", request, wire.Joined)
    inviter = None if joined.inviter is None else _check_inviter(joined.inviter, invitation)
    if inviter is None and invitation.card is not None:
        raise Untrusted(
            "This invite names a journalist, and the server answered as if nobody had invited you; ask her for a "
            "new invite, and tell her so.",
            code="wrong-inviter",
        )
    label = None if inviter is None else pin_journalist(home, inviter)
    if home.joined is None or joined.role == "journalist":
        home.remember("role", joined.role.encode())
    if home.joined is None:
        home.finish_joining(SystemClock().wall())
    return _welcome(home, joined.role, label)


def _check_inviter(envelope: str, invitation: Invitation) -> ContactCard:
    card = identity.read_card(envelope.encode())
    if invitation.card is None:
        raise Untrusted(
            "This is a colleague's invite without its last part, the journalist's pin. Run the command again with "
            "the whole address: https://HOST/join#CODE.SERVER.CARD",
            code="invite-without-pin",
        )
    if card.fingerprint != invitation.card:
        raise Untrusted(
            "The server shows another journalist's card than the one in your invite; nothing was believed. Tell the "
            "journalist, by another way.",
            code="wrong-inviter",
        )
    return card


def _restore(invitation: Invitation, passphrase_file: Path | None) -> Welcome:
    path = default_path()
    if Home.exists(path):
        with Home.open(path, unfinished=True) as home:
            if home.joined is not None:
                raise Refused(
                    f"There is a home in {path} already; set AFTERWORD_HOME to an empty folder.",
                    code="home-exists",
                )
    keyring = Keyring.from_seed(ask_words())
    with Remote(invitation.url, None) as unpinned:
        server = _check_server(unpinned, invitation)
    with Remote(invitation.url, server) as remote:
        try:
            remote.sign_in(keyring)
        except Unauthenticated:
            raise NotFound(
                "No account on this server belongs to these words; is it the right server, and the right paper?",
                code="no-account",
            ) from None
        card = remote.account_card
        if (
            card is None
            or card.recipient != keyring.seal.recipient
            or card.checkin_key != keyring.checkin.verify_key
        ):
            raise Untrusted(
                "The server's copy of your card has other keys than your words; nothing was kept. Ask its operator, by "
                "another way."
            )
        account = remote.call("GET", "/account", None, wire.AccountState)
        Home.discard_unfinished(path)
        with _new_home(invitation.url, server, card.card.label, keyring, passphrase_file, card) as home:
            home.seen_seq(account.seq)
            home.remember("role", account.role.encode())
            home.remember("words-written", b"%d" % SystemClock().wall())
            learn_links(home, account.links, restoring=True)
            seen = learn_dossiers(Session(home, keyring, remote), restoring=True)
            home.finish_joining(SystemClock().wall())
            return _welcome(home, account.role, None, len(seen))


def _welcome(home: Home, role: "Role", inviter: str | None, dossiers: int | None = None) -> Welcome:
    card = home.card
    return Welcome(
        role=role,
        label=card.card.label,
        words={"en": card.fingerprint.words("en"), "es": card.fingerprint.words("es")},
        fingerprint=card.fingerprint.write(),
        inviter=inviter,
        restore=restore_address(home.url, home.server),
        dossiers=dossiers,
    )


def _render(welcome: Welcome) -> str:
    lines = [
        f"You are {welcome.label}, a {welcome.role} on this server.",
        "Your card, to be read aloud when somebody compares it:",
        f"    {' '.join(welcome.words['en'])}",
        f"    {' '.join(welcome.words['es'])}",
    ]
    if welcome.dossiers is not None:
        again = " The next push reads everything once more." if welcome.role == "journalist" else ""
        lines += [
            f"Restored. Dossiers found: {terminal.number(welcome.dossiers)}.{again}",
            "Cards count as never compared on this computer; compare them again: afterword card compare NAME",
        ]
        return "\n".join(lines)
    steps = [("afterword address add ADDRESS", "where letters reach you; without one you hear nothing")]
    if welcome.inviter is not None:
        steps += [
            (
                f"afterword card compare {shlex.quote(welcome.inviter)}",
                "by voice, on a line where you know each other",
            ),
            ("afterword inbox", "what you were asked to keep"),
        ]
    else:
        steps += [
            ("afterword collaborator invite LABEL", "for each colleague"),
            ("afterword dossier create NAME", "when they have joined and their cards are compared"),
        ]
    width = max(len(command) for command, _ in steps)
    lines += ["Next:", *(f"    {command:<{width}}  {why}" for command, why in steps)]
    return "\n".join(lines)


def _language() -> Language:
    spoken = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "es" if spoken.startswith("es") else "en"
