"""Creating a dossier: `afterword dossier create`.

Rule of this room: one request, saved before it is sent and forgotten when it is answered, so that an interrupted
creation leaves one dossier or none, never two.
"""

import os
from pathlib import Path
from typing import Final

import click
import msgspec

from cli import dealing, orders, terminal
from cli.dealing import Terms
from cli.naming import folded
from cli.orders import DURATION
from cli.people import choose, meet
from cli.session import Session, signed_in
from vault import age, envelope, statements, titles, wire
from vault.clock import write_duration
from vault.errors import AfterwordError, Conflict, Malformed, NotFound, Refused, Unreachable, Untrusted
from vault.plans import DEFAULT_COOLING, DEFAULT_PLAN, Plan
from vault.statements import Dwells, Roster

FIRST_LINE: Final = (
    "This is not a backup; you cannot take files out again, your colleagues can, after a release."
)
_CREATION: Final = "creation"
# Under which the request rests: before the server has it there is no dossier to file it under.
_NO_DOSSIER: Final = ""


class Created(msgspec.Struct, frozen=True):
    """What `dossier create` answers."""

    dossier: str
    title: str
    recipient: str
    k: int
    collaborators: tuple[str, ...]
    unverified: tuple[str, ...]
    plan: Dwells
    cooling: int


@click.group()
def dossier() -> None:
    """Dossiers: one for each investigation."""


@dossier.command("create")
@click.argument("name", required=False)
@click.option(
    "--collaborator", "labels", multiple=True, required=True, help="A colleague, by your label. Repeat it."
)
@click.option("--threshold", type=int, required=True, help="How many of them it takes to open everything.")
@click.option("--every", type=DURATION, default=DEFAULT_PLAN.every, help="Check in this often (36h).")
@click.option(
    "--remind", type=DURATION, default=DEFAULT_PLAN.remind, help="Then you are reminded, for (12h)."
)
@click.option(
    "--warn", type=DURATION, default=DEFAULT_PLAN.warn, help="Then colleagues look for you, for (24h)."
)
@click.option(
    "--grace", type=DURATION, default=DEFAULT_PLAN.grace, help="Then a last call, for (96h); then release."
)
@click.option("--cooling", type=DURATION, default=DEFAULT_COOLING, help="How long slow changes wait (7d).")
@click.option(
    "--minimum", type=click.IntRange(1, 64), default=2, help="Least objects of 1 MiB per deposit (2)."
)
@click.option("--unverified", is_flag=True, help="Go on although cards were never compared.")
@terminal.passphrase_option
@terminal.json_option
def create(
    name: str | None,
    labels: tuple[str, ...],
    threshold: int,
    every: int,
    remind: int,
    warn: int,
    grace: int,
    cooling: int,
    minimum: int,
    unverified: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Create a dossier that K of the named colleagues can open together after a release.

    NAME is asked for when it is not given here; the server never sees it.
    """
    terminal.say(FIRST_LINE)
    title = orders.asked_name(name)
    id = os.urandom(16).hex()
    _check_title(id, title)
    plan = Plan(every, remind, warn, grace)
    with signed_in(passphrase_file) as session, session.home.lock("dossier"):
        if (earlier := _finish_interrupted(session)) is not None:
            terminal.say(f"An earlier creation had not been answered; {earlier.title!r} is now there.")
            if folded(earlier.title) == folded(title):
                terminal.answer(earlier, as_json, _render)
                return
        _check_free(session, title)
        account = session.remote.call("GET", "/account", None, wire.AccountState)
        met = meet(session.home, account)
        people = [choose(met, label) for label in labels]
        dealing.check_people(people, threshold, session.home.card, unverified=unverified)
        _check_terms(session.remote.info(), plan, cooling)
        request = dealing.deal_first(
            id,
            title,
            people,
            threshold,
            Terms(Dwells(*plan.dwells()), cooling, minimum),
            session.home.server,
            session.keyring,
            os.urandom,
        )
        session.home.save_pending(_NO_DOSSIER, _CREATION, msgspec.json.encode(request))
        created = _send(session, request)
    terminal.answer(created, as_json, _render)


def _finish_interrupted(session: Session) -> Created | None:
    """A request whose answer was lost: the same bytes get the same answer, or make the dossier now."""
    blob = session.home.pending(_NO_DOSSIER, _CREATION)
    if blob is None:
        return None
    try:
        request = msgspec.json.decode(blob, type=wire.DossierCreation)
    except msgspec.MsgspecError:
        raise Malformed("A saved creation does not read; restore this home from the paper words.") from None
    try:
        return _send(session, request)
    except Unreachable:
        raise
    except AfterwordError:
        roster = statements.read(request.roster.encode(), session.keyring.sign.verify_key, Roster)
        try:
            orders.state_of(session, roster.dossier)
        except NotFound:
            # It never arrived, and now it cannot: so it is discarded, and creation begins anew.
            session.home.drop_pending(_NO_DOSSIER, _CREATION)
            return None
        raise


def _send(session: Session, request: wire.DossierCreation) -> Created:
    home = session.home
    signed = request.roster.encode()
    try:
        said = session.remote.call("POST", "/dossiers", request, wire.Acknowledged)
        promised = session.remote.acknowledged(home, signed, said.acknowledgement).commitment
    except (Refused, Conflict):
        home.drop_pending(_NO_DOSSIER, _CREATION)
        raise
    # After any other failure nobody knows whether it arrived: it is kept, and sent again by the next creation.
    roster = statements.read(signed, session.keyring.sign.verify_key, Roster)
    if promised is not None and promised != roster.custodians[0].commitment:
        raise Untrusted(
            "The server acknowledged another release share than the one it was given; ask its operator what happened, "
            "and put nothing into this dossier.",
            code="wrong-acknowledgement",
        )
    sealed_title = wire.read_blob(request.title)
    with home.transaction():
        home.remember_roster(roster.dossier, 1, signed)
        home.remember_dossier(
            roster.dossier,
            "journalist",
            epoch=1,
            roster_hash=envelope.statement_hash(signed).hex(),
            title_sealed=sealed_title,
        )
        home.drop_pending(_NO_DOSSIER, _CREATION)
    by_card = {known.card.envelope.decode(): known.label for known in home.cards()}
    return Created(
        dossier=roster.dossier,
        title=titles.read_title(age.open_sealed(sealed_title, session.keyring.seal), roster.dossier),
        recipient=roster.recipient,
        k=roster.k,
        collaborators=tuple(by_card.get(each.card, "?") for each in roster.collaborators),
        unverified=tuple(by_card.get(each.card, "?") for each in roster.collaborators if not each.verified),
        plan=roster.plan,
        cooling=roster.cooling,
    )


def _check_title(id: str, title: str) -> None:
    titles.write_title(id, title)
    if title != terminal.one_line(title):
        raise Refused("A name is one line without control characters; choose another.", code="bad-title")


def _check_free(session: Session, title: str) -> None:
    for known in session.home.dossiers():
        own = session.home.title(known, session.keyring)
        if own is not None and folded(own) == folded(title):
            raise Refused(
                f"There is a dossier called {own!r} already; choose another name.", code="title-taken"
            )


def _check_terms(info: wire.ServerInfo, plan: Plan, cooling: int) -> None:
    """What this server would refuse, said before anything is dealt."""
    if not info.short:
        plan.require_unhurried(info.tick)
    if min(plan.dwells()) < info.limits.shortest_dwell or plan.ladder() < info.limits.shortest_ladder:
        ladder = info.limits.shortest_ladder
        together = f", and all together at least {write_duration(ladder)}" if ladder else ""
        raise Refused(
            f"On this server each stage lasts at least {write_duration(info.limits.shortest_dwell)}{together}; choose "
            "longer times.",
            code="plan-too-short",
        )
    if cooling < info.limits.shortest_cooling:
        least = write_duration(info.limits.shortest_cooling)
        raise Refused(
            f"Cooling lasts at least {least} on this server; choose a longer one.", code="cooling-too-short"
        )


def _render(created: Created) -> str:
    count, plan = len(created.collaborators), created.plan
    every, remind, warn, grace = map(write_duration, (plan.every, plan.remind, plan.warn, plan.grace))
    shown = [
        f"{created.title} is created ({created.dossier[:8]}): {created.k} of {count} open it after a release: "
        f"{', '.join(created.collaborators)}.",
        f"Check in every {every} or more often. After that come a reminder (for {remind}), a warning to you and your "
        f"colleagues (for {warn}), a last call (for {grace}), and the release.",
        f"What would destroy it or change who can open it waits {write_duration(created.cooling)}, once it is armed.",
    ]
    if created.unverified:
        shown.append(f"Never compared, and written into the roster so: {', '.join(created.unverified)}.")
    if created.k == 1:
        shown.append("Any single one of them can open it, after a release.")
    if created.k == count and count > 1:
        shown.append("All of them are needed: if one is lost, so is the archive.")
    shown += [
        "Next:",
        "    afterword brief NAME FILE     whom to call, what not to publish; they can read it from today",
        "    afterword push NAME PATH…     deposit",
        "    (colleagues) afterword drill  prove that they could open their share",
        "    afterword arm NAME            start the switch",
    ]
    return "\n".join(shown)
