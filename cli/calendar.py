"""What comes if a journalist falls silent: `afterword calendar`.

Rule of this room: dates are projections and say so. A calendar file tells whoever looks into the telephone nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from cli import holding, terminal
from vault import wire
from vault.errors import BadUsage, Refused

# Stages of a switch by what they have in common.
LATE: Final = frozenset({"reminded", "warned", "grace"})
ENDED: Final = frozenset({"released", "destroyed"})
# By the stage that begins: what happens then, in the switch's own order. A test holds this against vault.switch.
HAPPENS: Final = {
    "armed": "the pause ends, and a letter tells you",
    "reminded": "a letter asks you to check in",
    "warned": "a last warning to you; your colleagues are asked to try to reach you",
    "grace": "a last call to you; your colleagues are asked once more",
    "released": "RELEASE: your colleagues can open it; you are told",
}
# What a slow change is, in words for whoever it concerns.
CHANGES: Final = {
    "destroy": "the destruction of this dossier",
    "roster": "a change of who can open it",
    "plan": "longer times between the warnings",
    "pause": "a long pause, in which no check-in is expected",
    "address": "the removal of an address that letters go to",
}
# What stands in a calendar that anybody may look into.
NEUTRAL: Final = {
    "armed": "Back again",
    "reminded": "Reminder",
    "warned": "Reminder 2",
    "grace": "Reminder 3",
    "released": "Final reminder",
    "change": "Appointment",
}
_EPOCH: Final = 1_577_836_800_000  # 2020-01-01, so that a SEQUENCE in minutes stays a small number


class Coming(msgspec.Struct, frozen=True):
    """One date to come (ms UTC, projected). `stage` that begins, or `change` for a slow change taking effect."""

    at: int
    stage: str
    what: str


class Listed(msgspec.Struct, frozen=True):
    """One dossier's dates. `holds`: what holds them off now, a sentence each."""

    dossier: str
    title: str
    stage: str
    trying: bool
    coming: tuple[Coming, ...]
    holds: tuple[str, ...] = ()


def coming(state: wire.DossierState) -> tuple[Coming, ...]:
    """Every date that is to come, if nothing is done and the server keeps running."""
    dates = [Coming(each.at, each.stage, HAPPENS.get(each.stage, each.stage)) for each in state.projected]
    dates += [
        Coming(each.effective, "change", f"takes effect: {change_words(each)} ({each.change[:16]})")
        for each in state.changes
        if each.effective is not None and not each.cooled
    ]
    return tuple(sorted(dates, key=lambda one: one.at))


def change_words(change: wire.Change) -> str:
    return CHANGES.get(change.kind, change.kind)


def change_text(change: wire.Change, now: int) -> str:
    """A slow change that is under way, on one line."""
    if change.cooled or change.effective is None:
        when = "it waits for the next check-in"
    else:
        when = f"takes effect {terminal.ahead(change.effective, now)}"
    return f"{change_words(change)}, asked for {terminal.local(change.asked)}; {when}"


def lines(dates: Sequence[Coming], now: int) -> Iterator[str]:
    """One line per date: local time and UTC, and how long from `now`, which is the server's."""
    for each in dates:
        yield f"    {terminal.ahead(each.at, now)}: {each.what}"


@click.command()
@click.argument("name", required=False)
@click.option("--ics", is_flag=True, help="As a calendar file, with neutral entries.")
@click.option(
    "--suppose",
    "supposed",
    multiple=True,
    metavar="TEXT",
    help='What would happen: "away 10d", "server down 3d", "mail dead". May be given several times.',
)
@terminal.passphrase_option
@terminal.json_option
def calendar(
    name: str | None, ics: bool, supposed: tuple[str, ...], passphrase_file: Path | None, as_json: bool
) -> None:
    """Every letter and the release to come, if you fell silent now: of NAME, or of all your dossiers."""
    if supposed:
        if ics:
            raise BadUsage(
                "A calendar file has dates that hold, not supposed ones: leave out --ics or --suppose."
            )
        _suppose(name, supposed, passphrase_file, as_json)
        return
    from cli.orders import find_own, title_of
    from cli.session import learn_dossiers, signed_in

    with signed_in(passphrase_file) as session:
        wanted = None if name is None else find_own(session, name)
        listed = []
        for seen in learn_dossiers(session):
            if seen.state.role == "journalist" and (wanted is None or wanted.id == seen.known.id):
                state = seen.state
                title = title_of(session, seen.known)
                held = tuple(holding.sentences(holding.read(session.home, state), session.now()))
                listed.append(
                    Listed(state.dossier, title, state.stage, state.trying, coming(state), holds=held)
                )
        now = session.now()
    if ics:
        if not any(each.coming for each in listed):
            raise Refused(
                "Nothing is armed, so there is no date to write; run: afterword arm NAME",
                code="nothing-to-come",
            )
        terminal.document(write_ics(listed, now))
        return
    terminal.answer({"dossiers": listed}, as_json, lambda _: _render(listed, now))
    if any(each.coming for each in listed):
        terminal.say(
            "If the server keeps running and you do not check in. Each of your three letters is waited for until one "
            "of your addresses accepts it, at most as long as its stage lasts: so a date can be later, never earlier."
        )


def _suppose(name: str | None, texts: tuple[str, ...], passphrase_file: Path | None, as_json: bool) -> None:
    from cli import supposing
    from cli.orders import find_own, title_of
    from cli.session import learn_dossiers, signed_in

    supposition = supposing.read_supposition(texts)
    with signed_in(passphrase_file) as session:
        wanted = None if name is None else find_own(session, name)
        tick = session.remote.info().tick
        addresses = session.remote.call("GET", "/account", None, wire.AccountState).addresses
        reachable = any(each.confirmed for each in addresses)
        found = []
        cooling = False
        for seen in learn_dossiers(session):
            if seen.state.role == "journalist" and (wanted is None or wanted.id == seen.known.id):
                title = title_of(session, seen.known)
                now = session.now()
                found.append(
                    supposing.suppose(seen.state, title, supposition, now, tick, reachable=reachable)
                )
                cooling = cooling or bool(seen.state.changes)
        now = session.now()
    terminal.answer({"dossiers": found}, as_json, lambda _: supposing.render(found, now))
    if any(each.happenings for each in found):
        terminal.say(
            "Nothing of this was done or sent: it is what the server's switch would do from now on, and a date can be "
            "later, never earlier."
        )
    if cooling:
        terminal.say("Slow changes that are under way are left out; `afterword calendar` lists them.")


def _render(listed: Sequence[Listed], now: int) -> str:
    if not listed:
        return "You have no dossier here."
    shown = []
    for each in listed:
        late = ", its letter is still being delivered" if each.trying else ""
        shown.append(f"{each.title} ({each.stage}{late})")
        shown += [f"    {sentence}" for sentence in each.holds]
        shown += list(lines(each.coming, now)) or ["    nothing is to come"]
    return "\n".join(shown)


def write_ics(listed: Sequence[Listed], now: int) -> str:
    """RFC 5545. The same date of the same dossier has the same UID each time, so that importing again moves it."""
    text = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Reminders//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
    ]
    for dossier in listed:
        for each in dossier.coming:
            named = each.what if each.stage == "change" else each.stage
            text += [
                "BEGIN:VEVENT",
                f"UID:{_uid(dossier.dossier, named)}",
                f"DTSTAMP:{_stamp(now)}",
                f"SEQUENCE:{max(0, now - _EPOCH) // 60_000}",
                f"DTSTART:{_stamp(each.at)}",
                "DURATION:PT15M",
                f"SUMMARY:{NEUTRAL.get(each.stage, 'Appointment')}",
                "CLASS:PRIVATE",
                "TRANSP:TRANSPARENT",
            ]
            if each.stage == "reminded":
                text += [
                    "BEGIN:VALARM",
                    "ACTION:DISPLAY",
                    "DESCRIPTION:Reminder",
                    "TRIGGER:-PT2H",
                    "END:VALARM",
                ]
            text.append("END:VEVENT")
    text.append("END:VCALENDAR")
    return "".join(f"{folded}\r\n" for line in text for folded in _fold(line))


def _uid(dossier: str, name: str) -> str:
    """Stable, and for others a number like any other: the dossier's id does not stand in it."""
    return (
        hashlib.sha256(f"afterword/calendar/{dossier}/{name}".encode()).hexdigest()[:32]
        + "@reminders.invalid"
    )


def _stamp(ms: int) -> str:
    return f"{terminal.utc(ms):%Y%m%dT%H%M%SZ}"


def _fold(line: str) -> Iterator[str]:
    """Lines of at most 75 octets; a continuation begins with a blank."""
    yield line[:75]
    for start in range(75, len(line), 74):
        yield " " + line[start : start + 74]
