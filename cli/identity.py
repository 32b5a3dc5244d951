"""Who I am and how I am reached: `afterword card`, `address`, `passphrase`, `wipe`.

Rule of this room: parse, call, print. A card counts as compared only when its words were heard from its owner.
"""

import os
from pathlib import Path
from typing import Final

import click
import msgspec

from cli import terminal
from cli.home import Home, KnownCard
from cli.session import Session, learn_links, signed_in
from vault import letters, letters_en, letters_es, wire
from vault.clock import SystemClock
from vault.errors import AfterwordError, BadUsage, Malformed, NotFound, Refused, Untrusted
from vault.identity import Fingerprint, Language

_TRIES: Final = 3
_WORDS: Final = 10
SUBJECTS: Final[dict[Language, str]] = {"en": letters_en.SUBJECT, "es": letters_es.SUBJECT}


class CardShown(msgspec.Struct, frozen=True):
    """What `card show` answers; `compared` in ms UTC, null for one's own."""

    label: str
    words: dict[Language, tuple[str, ...]]
    fingerprint: str
    compared: int | None
    mine: bool


@click.group()
def card() -> None:
    """Your contact card, and those of the people you work with."""


@card.command("show")
@click.argument("name", required=False)
@click.option("--language", type=click.Choice(["en", "es"]), help="Show the words of one list only.")
@terminal.passphrase_option
@terminal.json_option
def card_show(
    name: str | None, language: Language | None, passphrase_file: Path | None, as_json: bool
) -> None:
    """Show the ten words of your card, or of NAME's as this computer knows it."""
    with Home.open() as home:
        if name is None:
            shown = _shown(home.card.card.label, home.card.fingerprint, None, True, language)
        else:
            known = _known(home, name, passphrase_file)
            shown = _shown(known.label, known.card.fingerprint, known.compared, False, language)
    terminal.answer(shown, as_json, _render_card)


@card.command("compare")
@click.argument("name", required=False)
@terminal.passphrase_option
@terminal.json_option
def card_compare(name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Compare NAME's card by voice: they read their ten words, you type what you hear."""
    with Home.open() as home:
        known = _known(home, name or terminal.ask("Whose card"), passphrase_file)
        terminal.say(
            f"Call {known.label} on a line where you know their voice. They run `afterword card show` and read ten "
            "words; type what you hear."
        )
        if _hear() != known.card.fingerprint:
            raise Untrusted(
                f"These are not the words of the card that is known here for {known.label}. Either a word was "
                "misheard: run the command again; or somebody has put another card in between: tell each other, "
                "and send nothing to it. Nothing was marked.",
                code="card-differs",
            )
        home.mark_compared(known.card.hash, SystemClock().wall())
        terminal.say("The same. Now read them yours, so that they can do as you did:")
        terminal.say(f"    {' '.join(home.card.fingerprint.words())}")
        terminal.say(f"    {' '.join(home.card.fingerprint.words('es'))}")
        known = home.card_named(known.label)
        shown = _shown(known.label, known.card.fingerprint, known.compared, False, None)
    terminal.answer(shown, as_json, lambda one: f"{one.label}: compared.")


def _known(home: Home, name: str, passphrase_file: Path | None) -> KnownCard:
    """Somebody who joined since this computer last asked is looked up on the server."""
    try:
        return home.card_named(name)
    except NotFound:
        with signed_in(passphrase_file) as session:
            learn_links(session.home, _account(session).links)
    return home.card_named(name)


def _hear() -> Fingerprint:
    for left in reversed(range(_TRIES)):
        words: list[str] = []
        while len(words) < _WORDS:
            words += terminal.ask(f"Words heard ({len(words)} of {_WORDS})").split()
        try:
            return Fingerprint.from_words(words)
        except Malformed as wrong:
            if not left:
                raise
            terminal.say(f"{wrong} Ask for them once more.")
    raise AssertionError


def _shown(
    label: str, fingerprint: Fingerprint, compared: int | None, mine: bool, language: Language | None
) -> CardShown:
    lists: tuple[Language, ...] = (language,) if language else ("en", "es")
    words = {each: fingerprint.words(each) for each in lists}
    return CardShown(label, words, fingerprint.write(), compared, mine)


def _render_card(shown: CardShown) -> str:
    lines = [shown.label, *(f"    {' '.join(words)}" for words in shown.words.values())]
    if not shown.mine:
        compared = f"compared {terminal.local(shown.compared)}" if shown.compared else "never compared"
        lines.append(f"    {compared}")
    return "\n".join(lines)


@click.group()
def address() -> None:
    """Where letters reach you. Two or more addresses are wise; letters give nothing away."""


@address.command("add")
@click.argument("where", metavar="ADDRESS", required=False)
@click.option("--language", type=click.Choice(["en", "es"]), default="en", help="Of the letters.")
@click.option("--subject", help="What every letter to this address has as its subject.")
@click.option("--phrase", help="A phrase of your own that every genuine letter carries.")
@terminal.passphrase_option
@terminal.json_option
def address_add(
    where: str | None,
    language: Language,
    subject: str | None,
    phrase: str | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Add ADDRESS; a code is sent there. Asking again for the same address sends a new code."""
    where = where or terminal.ask("Address")
    if phrase is None:
        terminal.say(
            "Choose a few words that only you and this server know: your recognition phrase. Once the address is "
            "confirmed, every genuine letter carries it. It is not your passphrase, and stands in mails."
        )
        phrase = terminal.ask("Recognition phrase")
    if not phrase:
        raise BadUsage("Without a phrase of yours you could not tell genuine letters from forged ones.")
    request = wire.AddressRequest(
        where.strip(),
        language,
        letters.read_subject(subject or SUBJECTS[language]),
        letters.read_phrase(phrase),
    )
    with signed_in(passphrase_file) as session:
        state = session.remote.call("POST", "/addresses", request, wire.AddressState)
    terminal.answer(
        state,
        as_json,
        lambda one: f"A code is on its way to {one.address}; then run: afterword address confirm CODE",
    )


@address.command("confirm")
@click.argument("code", required=False)
@terminal.passphrase_option
@terminal.json_option
def address_confirm(code: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Confirm an address with the CODE that arrived there."""
    request = wire.AddressConfirmation((code or terminal.ask("The code in the letter")).strip())
    with signed_in(passphrase_file) as session:
        state = session.remote.call("POST", "/addresses/confirm", request, wire.AddressState)
    terminal.answer(state, as_json, lambda one: f"{one.address} is confirmed.")


@address.command("remove")
@click.argument("where", metavar="ADDRESS", required=False)
@terminal.passphrase_option
@terminal.json_option
def address_remove(where: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Remove ADDRESS. A journalist's confirmed address goes only after the cooling time."""
    wanted = (where or terminal.ask("Address")).strip().casefold()
    with signed_in(passphrase_file) as session:
        addresses = _account(session).addresses
        found = [each for each in addresses if wanted in (each.address.casefold(), each.id.casefold())]
        if not found:
            listed = ", ".join(each.address for each in addresses) or "none"
            raise NotFound(f"You have no such address; your addresses: {listed}.", code="no-such-address")
        removed = session.remote.call("DELETE", f"/addresses/{found[0].id}", None, wire.AddressRemoved)
    terminal.answer(
        removed,
        as_json,
        lambda one: (
            f"{found[0].address} is removed."
            if one.change is None
            else f"{found[0].address} will be removed after the cooling time; all your addresses and colleagues are "
            f"told. To take it back: afterword cancel NAME (change {one.change[:16]})"
        ),
    )


@address.command("list")
@terminal.passphrase_option
@terminal.json_option
def address_list(passphrase_file: Path | None, as_json: bool) -> None:
    """List your addresses."""
    with signed_in(passphrase_file) as session:
        addresses = _account(session).addresses
    terminal.answer({"addresses": addresses}, as_json, lambda _: _render_addresses(addresses))


def _render_addresses(addresses: tuple[wire.AddressState, ...]) -> str:
    if not addresses:
        return "No address yet; run: afterword address add ADDRESS"
    lines = []
    for each in addresses:
        standing = "confirmed" if each.confirmed else "not confirmed yet"
        if each.failing_since is not None:
            standing += f", letters fail since {terminal.local(each.failing_since)}"
        if each.removal is not None:
            standing += f", removal is cooling (change {each.removal[:16]})"
        lines.append(f"{each.address}: {standing}; {each.language}, subject {each.subject!r}")
    return "\n".join(lines)


def _account(session: Session) -> wire.AccountState:
    return session.remote.call("GET", "/account", None, wire.AccountState)


@click.command()
@terminal.passphrase_option
@click.option(
    "--new-passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the new passphrase from the first line of this file.",
)
def passphrase(passphrase_file: Path | None, new_passphrase_file: Path | None) -> None:
    """Change the passphrase of your keyring. The paper words stay as they are."""
    with Home.open() as home:
        keyring = home.unlock(terminal.passphrase(passphrase_file, prompt="Present passphrase"))
        if new_passphrase_file is None:
            new = terminal.new_passphrase("New passphrase")
        else:
            new = terminal.passphrase(new_passphrase_file, confirm=True)
        home.lock_with(keyring, new, os.urandom)
    terminal.say("The passphrase is changed. Copies of this folder made earlier still open with the old one.")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def wipe(yes: bool) -> None:
    """Remove everything of Afterword from this computer."""
    with Home.open(unfinished=True) as home:
        path = home.path
        terminal.say(
            f"This overwrites and removes {path}: your keys, your titles, what was sent before.\n"
            "It cannot be undone. Only your 24 paper words bring your identity back, and without them you can "
            "neither check in nor cancel anything, nor open what colleagues leave to you.\n"
            "It stops nothing: dossiers stay on the server, armed switches run on and release in your silence. "
            "A solid-state disk, a snapshot or a backup may keep old copies of these files."
        )
    if not yes and terminal.ask("Type wipe to go on") != "wipe":
        raise Refused("Nothing was removed.", code="not-confirmed")
    _overwrite_and_remove(path)
    terminal.say("Removed.")


def _overwrite_and_remove(path: Path) -> None:
    """Keys first: whatever interrupts this, what is left opens nothing."""
    files = [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]
    for each in sorted(files, key=lambda one: (one.name != "keyring.age", len(one.parts))):
        with each.open("r+b") as file:
            left = file.seek(0, os.SEEK_END)
            file.seek(0)
            while left > 0:
                left -= file.write(os.urandom(min(left, 1024 * 1024)))
            file.flush()
            os.fsync(file.fileno())
        each.unlink()
    for each in sorted(path.rglob("*"), key=lambda one: -len(one.parts)):
        if each.is_dir() and not each.is_symlink():
            each.rmdir()
        else:
            each.unlink()
    try:
        path.rmdir()
    except OSError as held:
        raise AfterwordError(f"{path} is empty, but stays ({held.strerror}).", code="os-error") from None
