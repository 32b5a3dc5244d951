"""A collaborator's commands: `afterword inbox`, `drill`, `give`, `leave`.

Rule of this room: parse, call, print. Nothing is signed before what it is about has been verified and, where it
cannot be taken back, asked for.
"""

import os
from pathlib import Path
from typing import Final

import click
import msgspec

from cli import combine, holding, orders, released, shares, terminal
from cli.inbox import Entry, Inbox, entry, render
from cli.session import STALE_PROOF, Session, proofs, signed_in
from cli.shares import Doubtful, Entrusted, Gone, Sound
from vault import wire
from vault.clock import DAY
from vault.errors import Conflict, Refused
from vault.statements import Leave, Proof

_UNTRUSTED: Final = 6


class Drilled(msgspec.Struct, frozen=True):
    """What became of one drill. `proved` (ms UTC) is null when the share is wrong or there was nothing to prove."""

    dossier: str
    title: str | None
    journalist: str | None
    index: int | None
    epoch: int
    proved: int | None
    code: str | None
    sentence: str


class Given(msgspec.Struct, frozen=True):
    """Where a released dossier stands after `give`. `missing`: who has not given yet."""

    dossier: str
    title: str | None
    given: int
    need: int
    missing: tuple[str, ...]


class Left(msgspec.Struct, frozen=True):
    """What `leave` answers."""

    dossier: str
    title: str | None
    journalist: str | None


@click.command()
@terminal.passphrase_option
@terminal.json_option
def inbox(passphrase_file: Path | None, as_json: bool) -> None:
    """What concerns you, opened on this computer: where each dossier stands and what to do next.

    Ends with exit code 6 when something about a dossier does not hold.
    """
    with signed_in(passphrase_file) as session:
        account = session.remote.call("GET", "/account", None, wire.AccountState)
        confirmed = sum(each.confirmed for each in account.addresses)
        dossiers = tuple(_entry(session, each) for each in shares.entrusted(session))
        shown = Inbox(confirmed, dossiers, session.now(), session.remote.trouble)
    terminal.answer(shown, as_json, render)
    if any(each.wrong is not None and each.wrong.code != "not-on-the-roster" for each in shown.dossiers):
        click.get_current_context().exit(_UNTRUSTED)


@click.command()
@click.argument("name", required=False)
@terminal.passphrase_option
@terminal.json_option
def drill(name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Prove that you could open your share of NAME today, or of every dossier you are in.

    Your share is fetched and opened on this computer, and held against what the journalist signed. If it is genuine, a
    signed proof tells the journalist so. It opens nothing and harms nobody; do it again every three months. Ends with
    exit code 6 when a share is wrong.
    """
    with signed_in(passphrase_file) as session:
        if name is not None:
            drilled = [_prove(session, _sound(shares.named(session, name)))]
        else:
            drilled = [_drill(session, each) for each in shares.entrusted(session)]
    terminal.answer({"drills": drilled}, as_json, lambda _: _render_drills(drilled))
    if any(each.code is not None for each in drilled):
        click.get_current_context().exit(_UNTRUSTED)


@click.command()
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="You have seen what `inbox` shows; do not ask.")
@terminal.passphrase_option
@terminal.json_option
def give(name: str | None, yes: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """After a release: pass your share on to the other collaborators of NAME, without downloading anything.

    What the server says is verified and shown first, and you are asked.
    """
    title = orders.asked_name(name)
    with signed_in(passphrase_file) as session:
        sound = _sound(shares.named(session, title))
        case = shares.case_of(session, sound)
        given = released.has_given(case, sound.state)
        for line in released.story(case, sound.title or sound.state.dossier[:8], given=given):
            terminal.say(line)
        if not given:
            if not (yes or terminal.confirm("Give your share now")):
                raise Refused(
                    "You did not say yes; your share stays here, and nothing was sent.", code="not-confirmed"
                )
            combine.contribute(session.home, session.remote, session.keyring, case, os.urandom)
        state = session.remote.call("GET", f"/dossiers/{sound.state.dossier}", None, wire.DossierState)
    terminal.answer(_given(sound, state), as_json, _render_given)


@click.command()
@click.argument("name", required=False)
@terminal.passphrase_option
@terminal.json_option
def leave(name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Say that you no longer want to be a collaborator of NAME. You are asked first.

    It takes effect at once: the journalist is told by a letter, and no more letters come to you. After a release it
    only stops the letters: you can still give your share, and recover.
    """
    title = orders.asked_name(name)
    with signed_in(passphrase_file) as session:
        found = shares.named(session, title)
        who = found.journalist.label if found.journalist else "the journalist"
        if isinstance(found, Gone):
            raise Refused("This dossier was destroyed; there is nothing left to leave.", code="destroyed")
        if isinstance(found, Sound) and found.left:
            raise Refused(
                f"You have left this dossier already; {who} has still to change the roster.", code="left"
            )
        _warn_before_leaving(found, who)
        if not terminal.confirm("Leave this dossier"):
            raise Refused("You did not say yes; you stay a collaborator.", code="not-confirmed")
        dossier, server = found.state.dossier, session.home.server.hash.hex()
        session.remote.submit(
            session.home, session.keyring, dossier, lambda seq: Leave(server, dossier, seq, orders.wall())
        )
    terminal.answer(
        Left(dossier, found.title, found.journalist.label if found.journalist else None),
        as_json,
        lambda left: _render_left(left, who, released=isinstance(found, Sound) and found.case is not None),
    )


def _entry(session: Session, each: Entrusted) -> Entry:
    proved = _proved(session, each) if isinstance(each, Sound) and each.case is None else None
    holds = holding.read(session.home, each.state) if isinstance(each, Sound) else ()
    return entry(each, proved, session.now(), holds)


def _proved(session: Session, sound: Sound) -> int | None:
    return proofs(session, sound.state.dossier).get(sound.line.index)


def _sound(found: Entrusted) -> Sound:
    """Raises what is wrong with it."""
    match found:
        case Doubtful(wrong=wrong):
            raise wrong
        case Gone():
            raise Refused("This dossier was destroyed; there is nothing left to open.", code="destroyed")
    return found


def _prove(session: Session, sound: Sound) -> Drilled:
    who, roster = sound.journalist.label, sound.roster
    if sound.case is not None:
        raise Refused(
            "This dossier is released, so there is nothing to prove any more. Run: "
            f"afterword recover {sound.state.dossier[:8]} --to DIR",
            code="released",
        )
    if sound.left:
        raise Refused(f"You have left this dossier; {who} has still to change the roster.", code="left")
    dossier, server, now = sound.state.dossier, session.home.server.hash.hex(), orders.wall()
    session.remote.submit(
        session.home,
        session.keyring,
        dossier,
        lambda seq: Proof(
            server, dossier, seq, roster.roster.epoch, roster.hash.hex(), sound.line.index, now
        ),
    )
    total = len(roster.roster.collaborators)
    return _drilled(
        sound,
        now,
        f"your share is genuine. It is number {sound.line.index} of {total}, dealt by {who}; after a release any "
        f"{roster.roster.k} of you can open the archive. {who} can now see that yours works. Do this again in "
        f"{STALE_PROOF // DAY} days.",
    )


def _drill(session: Session, each: Entrusted) -> Drilled:
    """As `_prove`, for one among several: whatever comes of it is said, and the next one has its turn."""
    if isinstance(each, Sound):
        try:
            return _prove(session, each)
        except Conflict as wrong:
            return _drilled(each, None, str(wrong), wrong.code)
        except Refused as nothing:
            return _drilled(each, None, str(nothing))
    if isinstance(each, Gone):
        return _drilled(each, None, "it was destroyed; there is nothing left to prove.")
    if each.wrong.code == "not-on-the-roster":
        return _drilled(each, None, str(each.wrong))
    return _drilled(each, None, str(each.wrong), each.wrong.code)


def _drilled(each: Entrusted, proved: int | None, sentence: str, code: str | None = None) -> Drilled:
    return Drilled(
        dossier=each.state.dossier,
        title=each.title,
        journalist=each.journalist.label if each.journalist else None,
        index=each.line.index if isinstance(each, Sound) else None,
        epoch=each.roster.roster.epoch if isinstance(each, Sound) else each.state.epoch,
        proved=proved,
        code=code,
        sentence=sentence,
    )


def _render_drills(drilled: list[Drilled]) -> str:
    if not drilled:
        return "Nothing has been entrusted to you yet, so there is nothing to prove."
    return "\n".join(f"{each.title or each.dossier[:8]}: {each.sentence}" for each in drilled)


def _given(sound: Sound, state: wire.DossierState) -> Given:
    labels = sound.labels()
    missing = tuple(
        labels.get(each.index, f"share {each.index}") for each in state.collaborators if not each.contributed
    )
    given = len(state.collaborators) - len(missing)
    return Given(state.dossier, sound.title, given, sound.roster.roster.k, missing)


def _render_given(given: Given) -> str:
    if given.given >= given.need:
        return (
            f"{given.given} shares are there and {given.need} are needed: any of you can now receive the archive with "
            f"afterword recover {given.dossier[:8]} --to DIR"
        )
    return (
        f"{given.given} of the {given.need} shares needed are there. Not yet given: {', '.join(given.missing)}. Call "
        "them, on numbers you already have, and ask them to run `afterword give` or `afterword recover`."
    )


def _render_left(left: Left, who: str, *, released: bool) -> str:
    title = left.title or left.dossier[:8]
    if released:
        return (
            f"You get no more letters about {title}. You can still take part: afterword give {left.dossier[:8]}, or "
            f"afterword recover {left.dossier[:8]} --to DIR"
        )
    return (
        f"You have left {title}, and {who} is told by a letter. Tell them by voice too, so that somebody can take your "
        "place; `afterword roster` is what they run."
    )


def _warn_before_leaving(found: Entrusted, who: str) -> None:
    title = found.title or found.state.dossier[:8]
    if isinstance(found, Doubtful):
        terminal.warn(str(found.wrong))
    terminal.say(f"You are about to leave {title}, from {who}.")
    terminal.say(f"  {who} and everybody on the roster can see it. You get no more letters about it.")
    if isinstance(found, Sound) and found.case is not None:
        terminal.say(
            "  It is released, so this only stops the letters: you can still give your share and recover. The others "
            f"may need it; if you are willing, give it first: afterword give {found.state.dossier[:8]}"
        )
    else:
        terminal.say(f"  It takes effect at once, and {who} is told of it by a letter.")
        terminal.say(
            f"  Your share stays valid until {who} changes the roster. With one colleague fewer it is harder to reach "
            f"the {found.state.k} that are needed."
        )
    terminal.say("  You cannot undo it; only a new roster can bring you back.")
