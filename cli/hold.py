"""`afterword hold`: a colleague says, under their own name, that the journalist was reached.

Rule of this room: nothing is signed before the person has read what it does and does not do, and who will hear of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from cli import calendar, holding, orders, shares, terminal
from cli.session import Session, signed_in
from cli.shares import Doubtful, Gone, Sound
from vault import wire
from vault.errors import NotFound, Refused
from vault.plans import HOLDS_ALONE, Plan, hold_length
from vault.statements import Because, Hold


class Held(msgspec.Struct, frozen=True):
    """What `hold` answers. `until` (ms UTC, projected) is null when a second colleague must sign as well."""

    dossier: str
    title: str | None
    journalist: str
    until: int | None
    projected: tuple[wire.Projected, ...]
    now: int


@click.command()
@click.argument("name", required=False)
@click.option(
    "--because",
    type=click.Choice(list(holding.BECAUSE)),
    help="How you know: you spoke with them; they are in a hospital; somebody you trust knows that they are safe.",
)
@click.option("--yes", is_flag=True, help="You have read what it does; do not ask.")
@terminal.passphrase_option
@terminal.json_option
def hold(
    name: str | None, because: Because | None, yes: bool, passphrase_file: Path | None, as_json: bool
) -> None:
    """The journalist of NAME was reached: let time stand still for three days, before a release.

    Only while a check-in is overdue. It ends no alarm: only a check-in does. Everybody hears that it was you. Two
    holds of one alarm need one signature each; after that two different colleagues must sign.
    """
    title = orders.asked_name(name)
    with _told_if_it_fails(), signed_in(passphrase_file) as session:
        sound = _holdable(_entrusted(session, title))
        state, who = sound.state, sound.journalist.label
        for line in holding.sentences(holding.read(session.home, state), session.now()):
            terminal.say(f"Now: {line}")
        if state.held is not None:
            raise Refused(
                f"It is held already, until {terminal.ahead(state.held, session.now())}; nothing is added to a hold "
                "while it runs. If it is still needed then, sign after that.",
                code="already-held",
            )
        mine = session.home.card.hash.hex()
        if any(each.pending and each.card == mine for each in state.holds):
            raise Refused(
                "You have signed this already; it takes effect when another colleague signs too. Ask one to run: "
                "afterword hold",
                code="needs-another",
            )
        why = because or _asked_why()
        _explain(sound, why, short=session.remote.info().short)
        if not (yes or terminal.confirm("Sign this under your name")):
            raise Refused("You did not say yes; nothing was signed, and time goes on.", code="not-confirmed")
        dossier, server = state.dossier, orders.server_of(session)
        said = session.remote.submit(
            session.home,
            session.keyring,
            dossier,
            lambda seq: Hold(server, dossier, seq, session.remote.nonce(), state.climb, why, orders.wall()),
        )
        after = said.dossier or orders.state_of(session, dossier)
        held = Held(dossier, sound.title, who, after.held, after.projected, session.now())
    terminal.answer(held, as_json, _render)


@contextmanager
def _told_if_it_fails() -> Iterator[None]:
    """Above a reason that does not say what it means for her: what is refused says it."""
    try:
        yield
    except BaseException as wrong:
        if not isinstance(wrong, Refused):
            terminal.say("COUNT ON NOTHING STANDING STILL: the server has confirmed no hold.")
        raise


def _entrusted(session: Session, name: str) -> shares.Entrusted:
    try:
        return shares.named(session, name)
    except NotFound as missing:
        try:
            known = orders.find(session, name)
        except NotFound:
            raise missing from None
        if known.role != "journalist":
            raise
    raise Refused(
        "It is yours: afterword checkin (or afterword pause). Nobody holds their own dossier.",
        code="own-dossier",
    )


def _asked_why() -> Because:
    """Asked again on a word that is none of them; nothing at all is a no."""
    while given := terminal.ask(f"How do you know? ({', '.join(holding.BECAUSE)})").casefold():
        for each in holding.BECAUSE:
            if given == each:
                return each  # type: ignore[return-value]  # the keys of BECAUSE are those of the statement
        terminal.say(
            f"One of these words: {', '.join(holding.BECAUSE)}. If you do not know, only press return."
        )
    raise Refused("Nothing was signed: whoever does not know should not sign.", code="not-confirmed")


def _holdable(found: shares.Entrusted) -> Sound:
    match found:
        case Doubtful(wrong=wrong):
            raise wrong
        case Gone():
            raise Refused("This dossier was destroyed; there is nothing left to hold.", code="destroyed")
    who = found.journalist.label
    if found.case is not None:
        raise Refused(
            "This dossier is released, and nothing takes that back. See: afterword inbox", code="released"
        )
    if found.left:
        raise Refused("You have left this dossier, so you cannot hold it any more.", code="left")
    if found.state.stage not in calendar.LATE:
        raise Refused(f"{who} is not overdue, so there is nothing to hold.", code="not-possible-now")
    return found


def _explain(sound: Sound, why: Because, *, short: bool) -> None:
    length = terminal.length(hold_length(Plan(*msgspec.structs.astuple(sound.state.plan)), short=short))
    who, title = sound.journalist.label, sound.title or sound.state.dossier[:8]
    terminal.say(f"You are about to sign, of {title}, from {who}: {holding.BECAUSE[why]}.")
    holds = sound.state.holds
    # A hold that two have signed ends for both at once.
    many = len({each.until for each in holds if each.until is not None})
    if many >= HOLDS_ALONE and not any(each.pending for each in holds):
        terminal.say(
            "  It was held twice already: nothing stands still until a second colleague signs as well."
        )
        terminal.say(f"  Then no time passes towards the release for {length}.")
    else:
        terminal.say(f"  No time passes towards the release for {length}; then it goes on from where it was.")
    terminal.say(f"  It does not end the alarm. Only a check-in by {who} does: ask for one.")
    terminal.say(f"  {who} and all colleagues get a letter that names you and this reason.")
    terminal.say("  Sign only what you know yourself, and not because somebody presses you to.")


def _render(held: Held) -> str:
    title = held.title or held.dossier[:8]
    release = next((each.at for each in held.projected if each.stage == "released"), None)
    last = (
        ""
        if release is None
        else f" Without a check-in it is released, not before: {terminal.ahead(release, held.now)}."
    )
    if held.until is None:
        return (
            f"{title}: signed, and NOTHING STANDS STILL YET. It was held twice already, so a second colleague must "
            f"sign within three days: ask one to run `afterword hold`.{last}"
        )
    return (
        f"{title} is held until {terminal.ahead(held.until, held.now)}. {held.journalist} and all colleagues are told "
        f"that you signed it.{last}"
    )
