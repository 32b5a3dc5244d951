"""An order about one dossier: found by its name, signed, sent, and what came of it.

Rule of this room: every order of a journalist goes this one way, and ends by saying where the dossier stands now.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from cli import terminal
from cli.calendar import ENDED
from cli.home import KnownDossier
from cli.session import Session, learn_dossier, signed_in
from vault import wire
from vault.clock import SystemClock, read_duration, write_duration
from vault.errors import BadUsage, NotFound, Refused
from vault.statements import Dwells, Statement


class Duration(click.ParamType[int]):
    """`36h`, `7d`, as milliseconds."""

    name = "duration"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> int:
        return value if isinstance(value, int) else read_duration(str(value))


DURATION = Duration()


class Done(msgspec.Struct, frozen=True):
    """What an order answers. `change` when it waits for the cooling time, `effective` then (ms UTC, projected)."""

    dossier: str
    title: str
    stage: str
    change: str | None
    effective: int | None
    projected: tuple[wire.Projected, ...]
    plan: Dwells
    now: int


def asked_name(name: str | None) -> str:
    """From the command line, or asked for (also for -), so that it need not stay in the shell's history."""
    given = (name if name not in (None, "-") else terminal.ask("Name of the dossier")).strip()
    if not given:
        raise BadUsage("A dossier is called by its name or by the beginning of its id.", code="bad-title")
    return given


def find(session: Session, name: str) -> KnownDossier:
    """By title or the beginning of its id; what this computer never met is looked for on the server."""
    try:
        return session.home.dossier_named(name, session.keyring)
    except NotFound:
        met = {known.id for known in session.home.dossiers()}
        for state in session.remote.call("GET", "/dossiers", None, wire.Dossiers).dossiers:
            if state.dossier not in met:
                learn_dossier(session, state, restoring=True)
        return session.home.dossier_named(name, session.keyring)


def find_own(session: Session, name: str) -> KnownDossier:
    """Only one that she is the journalist of."""
    known = find(session, name)
    if known.role != "journalist":
        raise Refused(
            "You are a collaborator of this dossier; only its journalist can do this.",
            code="not-a-journalist",
        )
    return known


@contextmanager
def own_dossier(name: str | None, passphrase_file: Path | None) -> Iterator[tuple[Session, KnownDossier]]:
    """A session, and the dossier of hers that is called so. What is missing is asked for, the passphrase last."""
    title = asked_name(name)
    with signed_in(passphrase_file) as session:
        yield session, find_own(session, title)


def title_of(session: Session, dossier: KnownDossier) -> str:
    """As she named it; the beginning of its id where this computer does not know."""
    return terminal.one_line(session.home.title(dossier, session.keyring) or dossier.id[:8])


def state_of(session: Session, dossier: str) -> wire.DossierState:
    return session.remote.call("GET", f"/dossiers/{dossier}", None, wire.DossierState)


def require_going_on(session: Session, known: KnownDossier, state: wire.DossierState) -> None:
    """Refused once it has ended: from then on it stays as it is."""
    if state.stage in ENDED:
        raise Refused(
            f"{title_of(session, known)} is {state.stage}, and stays as it is. What is new belongs into a new dossier: "
            "afterword dossier create",
            code=state.stage,
        )


def server_of(session: Session) -> str:
    """This server's card, as statements name it."""
    return session.home.server.hash.hex()


def wall() -> int:
    """For the `created` of statements: what this computer believes the time is."""
    return SystemClock().wall()


def order(
    session: Session, known: KnownDossier, make: Callable[[int], Statement], sealed: Sequence[bytes] = ()
) -> Done:
    """Sign and send; where the dossier stands afterwards."""
    said = session.remote.submit(session.home, session.keyring, known.id, make, sealed)
    return done(session, known, said)


def done(session: Session, known: KnownDossier, said: wire.Acknowledged) -> Done:
    state = said.dossier or state_of(session, known.id)
    change = next((each for each in state.changes if each.change == said.change), None)
    return Done(
        dossier=known.id,
        title=title_of(session, known),
        stage=state.stage,
        change=said.change,
        effective=None if change is None else change.effective,
        projected=state.projected,
        plan=state.plan,
        now=session.now(),
    )


def cooling_text(order: Done, what: str) -> str:
    """What to expect of an order that was taken as a slow change."""
    when = (
        f"{terminal.ahead(order.effective, order.now)}, if the server keeps running"
        if order.effective is not None
        else "after your next check-in"
    )
    return (
        f"{order.title}: {what} was asked for and takes effect {when}. All your addresses and your colleagues are "
        f"told. To take it back: afterword cancel {order.dossier[:8]} {(order.change or '')[:16]}"
    )


def plan_text(plan: Dwells) -> str:
    """The four dwells as the options that would set them."""
    return (
        f"--every {write_duration(plan.every)} --remind {write_duration(plan.remind)} "
        f"--warn {write_duration(plan.warn)} --grace {write_duration(plan.grace)}"
    )
