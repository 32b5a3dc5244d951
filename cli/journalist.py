"""A journalist's orders to the switch: `arm`, `pause`, `resume`, `plan`, `destroy`, `cancel`; and `bundles`.

Rule of this room: parse, sign, print. What the server took as a slow change is said to be one, with how to take it
back.
"""

import unicodedata
from datetime import datetime
from pathlib import Path

import click
import msgspec

from cli import calendar, handover, orders, terminal
from cli.calendar import change_words
from cli.home import KnownDossier
from cli.orders import DURATION, order, own_dossier, server_of, state_of, wall
from cli.remote import OBJECT_SIZE
from cli.session import Session
from cli.status import LACKING
from vault import statements, wire
from vault.clock import read_duration, write_duration
from vault.errors import BadUsage, NotFound, Refused
from vault.plans import PAUSE_AT_ONCE, Plan, check_pause
from vault.statements import Dwells


class Bundle(msgspec.Struct, frozen=True):
    """One line of `bundles`: only what a head shows in the open; `size` in bytes of ciphertext."""

    number: int
    created: int
    objects: int
    size: int
    replace: int | None


@click.command()
@click.argument("name", required=False)
@terminal.passphrase_option
@terminal.json_option
def bundles(name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """What was deposited into NAME, and when. What is in it, only your colleagues can open, after a release."""
    from cli import chain

    with own_dossier(name, passphrase_file) as (session, known):
        heads = list(chain.fetch_heads(session.remote, known.id, session.home.card.verify_key))
        if known.head_hash is not None:
            chain.check_reaches(heads, known.bundles, known.head_hash, "this computer pushed")
    listed = [
        Bundle(
            each.bundle,
            each.head.created,
            len(each.head.objects),
            len(each.head.objects) * OBJECT_SIZE,
            each.head.replace,
        )
        for each in heads
    ]
    terminal.answer({"dossier": known.id, "bundles": listed}, as_json, lambda _: _render_bundles(listed))


def _render_bundles(listed: list[Bundle]) -> str:
    if not listed:
        return "Nothing was deposited yet; run: afterword push NAME PATH…"
    shown = [
        f"{each.number:>5}  {terminal.local(each.created)}  {terminal.number(each.objects):>6} objects  "
        f"{terminal.size(each.size):>9}" + ("" if each.replace is None else "  started afresh")
        for each in listed
    ]
    count = "1 bundle" if len(listed) == 1 else f"{terminal.number(len(listed))} bundles"
    shown.append(f"{count}, {terminal.size(sum(each.size for each in listed))} of ciphertext")
    return "\n".join(shown)


@click.command()
@click.argument("name", required=False)
@click.option("--anyway", is_flag=True, help="Although something on the list is missing.")
@terminal.passphrase_option
@terminal.json_option
def arm(name: str | None, anyway: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """Start the switch of NAME. From now on, falling silent counts."""
    with own_dossier(name, passphrase_file) as (session, known):
        state = state_of(session, known.id)
        if anyway and state.missing:
            missing = "; ".join(LACKING.get(each, each) for each in state.missing)
            terminal.warn(f"it is armed although {missing}.")
        done = order(
            session,
            known,
            lambda seq: statements.Arm(
                server_of(session), known.id, seq, _epoch(session, known, state), anyway, wall()
            ),
        )
        coming = calendar.coming(state_of(session, known.id))
    terminal.answer(
        done,
        as_json,
        lambda one: _render_dates(f"{one.title} is armed. If you fall silent now:", coming, one.now),
    )
    terminal.say(f"Check in every {write_duration(done.plan.every)} or more often: afterword checkin")


def _epoch(session: Session, known: KnownDossier, state: wire.DossierState) -> int:
    """She arms the roster that she knows, not whichever the server says."""
    if state.roster != known.roster_hash:
        from cli.session import learn_dossier

        return learn_dossier(session, state).known.epoch
    return known.epoch


@click.command()
@click.argument("name", required=False)
@click.option("--until", required=True, metavar="DATE|DURATION", help="2026-12-24, 2026-12-24T18:00, or 10d.")
@terminal.passphrase_option
@terminal.json_option
def pause(name: str | None, until: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Let the switch of NAME stand still; afterwards it begins afresh. Beyond 72 hours it has to cool first."""
    end = read_until(until)
    with own_dossier(name, passphrase_file) as (session, known):
        length = length_until(end, session.now(), state_of(session, known.id).cooling)
        done = order(
            session,
            known,
            lambda seq: statements.Pause(
                server_of(session), known.id, seq, session.remote.nonce(), length, wall()
            ),
        )
        coming = calendar.coming(state_of(session, known.id))
    if done.change is not None:
        said = orders.cooling_text(done, f"a pause of {write_duration(length)}")
        if done.effective is not None:
            said += f"\nIt then lasts until about {terminal.local(done.effective + length)}."
    else:
        said = _render_dates(f"{done.title} is paused for {write_duration(length)}.", coming, done.now)
    terminal.answer(done, as_json, lambda _: said)
    if done.change is not None:
        terminal.say("Until it takes effect, go on checking in.")


def read_until(text: str) -> datetime | int:
    """A date, in this computer's zone if it names none, or a duration in ms."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        pass
    try:
        return read_duration(text)
    except BadUsage:
        raise BadUsage(
            f"{text!r} is neither a date nor a duration; write 2026-12-24, 2026-12-24T18:00, or 10d.",
            code="bad-until",
        ) from None


def length_until(end: datetime | int, now: int, cooling: int) -> int:
    """From `now`, by the server's clock, so that a laptop's wrong one makes no wrong pause; to a date, a pause that
    cools is shorter by that time, or it would end so much after it. Refused beyond 90 days."""
    if isinstance(end, int):
        check_pause(end)
        return end
    date = int(end.timestamp() * 1000)
    if date <= now:
        raise BadUsage(f"{end:%Y-%m-%d %H:%M} is over already; choose a later date.", code="bad-until")
    length = date - now
    check_pause(length)
    if length <= PAUSE_AT_ONCE:
        return length
    if length - cooling <= PAUSE_AT_ONCE:
        raise Refused(
            f"A pause of more than {write_duration(PAUSE_AT_ONCE)} has to cool for {write_duration(cooling)} first; "
            f"{end:%Y-%m-%d %H:%M} is over then, or near. Check in until {terminal.local(date - PAUSE_AT_ONCE)} and "
            "run this again: so short a pause takes effect at once.",
            code="pause-too-late",
        )
    return length - cooling


@click.command()
@click.argument("name", required=False)
@terminal.passphrase_option
@terminal.json_option
def resume(name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """End the pause of NAME now; its time begins afresh."""
    with own_dossier(name, passphrase_file) as (session, known):
        done = order(
            session,
            known,
            lambda seq: statements.Resume(server_of(session), known.id, seq, session.remote.nonce(), wall()),
        )
        coming = calendar.coming(state_of(session, known.id))
    terminal.answer(done, as_json, lambda one: _render_dates(f"{one.title} is armed again.", coming, one.now))


@click.command()
@click.argument("name", required=False)
@click.option("--every", type=DURATION, help="Check in this often.")
@click.option("--remind", type=DURATION, help="How long the reminder lasts.")
@click.option("--warn", type=DURATION, help="How long colleagues look for you before the last call.")
@click.option("--grace", type=DURATION, help="How long the last call lasts before the release.")
@terminal.passphrase_option
@terminal.json_option
def plan(
    name: str | None,
    every: int | None,
    remind: int | None,
    warn: int | None,
    grace: int | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Change how long each stage of NAME lasts; without options, show it. Whatever gets longer has to cool first."""
    with own_dossier(name, passphrase_file) as (session, known):
        state = state_of(session, known.id)
        old = state.plan
        new = Plan(every or old.every, remind or old.remind, warn or old.warn, grace or old.grace)
        dwells = Dwells(*new.dwells())
        if dwells == old:
            if any(each is not None for each in (every, remind, warn, grace)):
                raise BadUsage("That is the plan as it is; nothing was changed.", code="nothing-changed")
            name_shown = orders.title_of(session, known)
            terminal.answer(old, as_json, lambda one: f"{name_shown}: {orders.plan_text(one)}")
            return
        done = order(
            session,
            known,
            lambda seq: statements.PlanChange(server_of(session), known.id, seq, dwells, wall()),
        )
    if done.change is not None:
        said = orders.cooling_text(done, f"the plan {orders.plan_text(dwells)}")
    else:
        said = f"{done.title}: {orders.plan_text(done.plan)}"
    terminal.answer(done, as_json, lambda _: said)


@click.command()
@click.argument("name", required=False)
@terminal.passphrase_option
@terminal.json_option
def destroy(name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Give up NAME for ever: nobody will be able to open it. Once armed, this has to cool first."""
    with own_dossier(name, passphrase_file) as (session, known):
        own = orders.title_of(session, known)
        state = state_of(session, known.id)
        orders.require_going_on(session, known, state)
        terminal.say(
            f"This gives up {own} for ever: what the server withholds is erased, and then nobody can open what was "
            "deposited, not even all your colleagues together."
        )
        if state.stage != "new":
            terminal.say("It takes effect after the cooling time, and everybody concerned is told.")
        if not terminal.confirm(f"Destroy {own}"):
            raise Refused("Nothing was destroyed.", code="not-confirmed")
        typed = terminal.ask(f"Type its name, {own}, to destroy it")
        if unicodedata.normalize("NFC", typed) != unicodedata.normalize("NFC", own):
            raise Refused("That is not its name; nothing was destroyed.", code="not-confirmed")
        done = order(
            session, known, lambda seq: statements.Destroy(server_of(session), known.id, seq, wall())
        )
    said = (
        orders.cooling_text(done, "its destruction")
        if done.change is not None
        else f"{done.title} is destroyed."
    )
    terminal.answer(done, as_json, lambda _: said)


@click.command()
@click.argument("name", required=False)
@click.argument("change", required=False)
@terminal.passphrase_option
@terminal.json_option
def cancel(name: str | None, change: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Take back a slow change of NAME before it takes effect; CHANGE is needed when several are under way."""
    with own_dossier(name, passphrase_file) as (session, known):
        meant = _chosen(orders.title_of(session, known), state_of(session, known.id), change)
        done = order(
            session,
            known,
            lambda seq: statements.Cancel(server_of(session), known.id, seq, meant.change, wall()),
        )
        if meant.kind == "roster":
            handover.forget(session, known.id, meant.change)
    terminal.answer(
        done, as_json, lambda one: f"{one.title}: taken back, and all are told: {change_words(meant)}."
    )


def _chosen(title: str, state: wire.DossierState, given: str | None) -> wire.Change:
    if not state.changes:
        raise NotFound(
            f"No slow change of {title} is under way: it was taken back, or has taken effect. See: afterword status",
            code="no-such-change",
        )
    wanted = (given or "").strip().casefold()
    found = [each for each in state.changes if each.change.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{each.change[:16]} ({change_words(each)})" for each in state.changes)
    if not found:
        raise NotFound(f"No such change is under way; under way: {listed}.", code="no-such-change")
    raise BadUsage(f"Several changes are under way; name one of them: {listed}.", code="ambiguous")


def _render_dates(first: str, dates: tuple[calendar.Coming, ...], now: int) -> str:
    return "\n".join([first, *calendar.lines(dates, now)])
