"""A sign of life: `afterword checkin`.

Rule of this room: it is what a frightened person runs once a day, so it is short, quick, and asks for one thing. No
session: the statement itself is the proof. Whatever else is due is done afterwards, and never costs the check-in.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec

from cli import calendar, disk, holding, terminal
from cli.home import Home
from cli.promises import WENT_BACK, Trouble
from cli.remote import Remote
from vault import age, statements, titles, wire
from vault.clock import SystemClock
from vault.errors import AfterwordError
from vault.identity import Keyring
from vault.statements import CheckIn, Covered

# Seconds for each answer: she waits for it, and a line that has died is better tried anew.
_PATIENCE: Final = 30.0
_FACT: Final = "checked-in"
NOT_SHOWN: Final = "not-shown"


class Standing(msgspec.Struct, frozen=True):
    """One dossier after the check-in. `refused`: why its switch did not move, or null. `holds`: what colleagues signed
    since the last one from this computer, a sentence each."""

    dossier: str
    title: str
    stage: str
    coming: tuple[calendar.Coming, ...]
    refused: str | None
    changes: tuple[wire.Change, ...]
    holds: tuple[str, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """What `checkin` answers; `at` is the server's time (ms UTC). `went_back`: the server has forgotten what it had
    acknowledged before. `history`: what its word of today contradicts, or null."""

    at: int
    from_file: bool
    dossiers: tuple[Standing, ...]
    went_back: bool = False
    history: Trouble | None = None


@click.command()
@terminal.passphrase_option
@terminal.json_option
def checkin(passphrase_file: Path | None, as_json: bool) -> None:
    """Show that you are well: every dossier of yours begins its time anew."""
    from_file = passphrase_file is not None or bool(os.environ.get("AFTERWORD_PASSPHRASE_FILE"))
    with _home() as (home, written), Remote(home.url, home.server, patience=_PATIENCE) as remote:
        with _told_if_it_fails():
            keyring = home.unlock(terminal.passphrase(passphrase_file))
            before = _last_from_here(home)
            said = check_in(home, keyring, remote)
        standing = tuple(
            _standing(each, said.refused, keyring, tuple(holding.told(holding.read(home, each), before)))
            for each in said.dossiers
        )
        standing += _not_shown(home, keyring, said)
        wrong = remote.trouble
        went_back = wrong is not None and wrong.code == WENT_BACK
        result = Result(said.now, from_file, standing, went_back, wrong)
        terminal.answer(result, as_json, _render)
        if from_file:
            terminal.warn("a check-in from a passphrase file proves that the computer lives, not the person.")
        if written:
            # Only now: whoever was not told is told the next time.
            home.remember(_FACT, b"%d" % said.now)
            _after(home, keyring, remote, said)


@contextmanager
def _home() -> Iterator[tuple[Home, bool]]:
    """Hers, and whether it can be written. A disk that is full or read-only must not cost her the check-in: for that a
    copy in memory will do; a number that is given twice is signed anew."""
    try:
        home = Home.open()
        try:
            home.remember("written", b"1")
        except BaseException:
            home.close()
            raise
        written = True
    except (OSError, sqlite3.Error) as wrong:
        if not disk.is_unwritable(wrong):
            raise
        home, written = Home.open_unwritten(), False
        terminal.warn(
            "this computer's disk takes nothing any more; the check-in is made without it. Make room."
        )
    with home:
        yield home, written


@contextmanager
def _told_if_it_fails() -> Iterator[None]:
    """Above all other reasons stands what it means for her."""
    try:
        yield
    except BaseException:
        terminal.say("YOU ARE NOT CHECKED IN: the server has confirmed nothing.")
        raise


def check_in(home: Home, keyring: Keyring, remote: Remote) -> wire.CheckedIn:
    """Signed with the check-in key over a fresh number of the server's; signed anew once when either was too old."""
    covered = tuple(
        Covered(known.id, known.epoch, known.head_hash)
        for known in home.dossiers()
        if known.role == "journalist"
    )
    server, last = home.server.hash.hex(), home.last_acknowledgement()
    remote.info()  # whoever answers here may be another server, which is to learn nothing

    def sign(seq: int) -> bytes:
        given = CheckIn(server, seq, remote.nonce(), dossiers=covered, created=SystemClock().wall())
        return statements.write(given, keyring.checkin)

    def request(signed: bytes) -> wire.CheckInRequest:
        return wire.CheckInRequest(home.card.hash.hex(), signed.decode(), last.decode() if last else None)

    signed, said = remote.post_signed(home, "/check-ins", sign, request, wire.CheckedIn)
    # The answer is taken first: whatever is wrong with the server's memory, she has checked in.
    remote.acknowledged(home, signed, said.acknowledgement, last, said.links)
    return said


def _after(home: Home, keyring: Keyring, remote: Remote, said: wire.CheckedIn) -> None:
    """Roster changes that have cooled, or that the server forgot, are handed over; a failure is told, no more."""
    from cli.session import Session, clock_off

    if (off := clock_off(remote)) is not None:
        terminal.warn(off)
    known = {each.id: each for each in home.dossiers()}
    waiting = [
        state
        for state in said.dossiers
        if state.stage not in calendar.ENDED
        and state.dossier in known
        and home.pending(state.dossier, f"roster-{state.epoch + 1}") is not None
    ]
    if not waiting:
        return
    from cli import handover

    session = Session(home, keyring, remote)
    try:
        remote.sign_in(keyring, home)
        for state in waiting:
            handover.catch_up(session, known[state.dossier], state)
    except AfterwordError as wrong:
        terminal.warn(f"you are checked in, but a roster change could not be handed over: {wrong}")


def _last_from_here(home: Home) -> int:
    """When the last check-in was told here (ms UTC, the server's clock): what colleagues signed after that is news."""
    kept = home.fact(_FACT) or b""
    return int(kept) if kept.isdigit() and len(kept) < 20 else 0


def _standing(
    state: wire.DossierState, refused: Sequence[wire.NotMoved], keyring: Keyring, holds: tuple[str, ...]
) -> Standing:
    why = next((each.sentence for each in refused if each.dossier == state.dossier), None)
    return Standing(
        dossier=state.dossier,
        title=_title(state, keyring),
        stage=state.stage,
        coming=calendar.coming(state),
        refused=why,
        changes=state.changes,
        holds=holds,
    )


def _not_shown(home: Home, keyring: Keyring, said: wire.CheckedIn) -> tuple[Standing, ...]:
    """Dossiers of hers that this computer knows and the server leaves out: she relies on them."""
    shown = {each.dossier for each in said.dossiers}
    return tuple(
        Standing(
            dossier=known.id,
            title=terminal.one_line(home.title(known, keyring) or known.id[:8]),
            stage=NOT_SHOWN,
            coming=(),
            refused=next((each.sentence for each in said.refused if each.dossier == known.id), None),
            changes=(),
        )
        for known in home.dossiers()
        if known.role == "journalist" and known.id not in shown
    )


def _title(state: wire.DossierState, keyring: Keyring) -> str:
    """As it rests on the server, sealed to herself: a dossier made on another computer has its name here too."""
    if state.title is None:
        return state.dossier[:8]
    try:
        opened = age.open_sealed(wire.read_blob(state.title), keyring.seal)
        return terminal.one_line(titles.read_title(opened, state.dossier))
    except AfterwordError:
        return state.dossier[:8]


def _render(done: Result) -> str:
    shown = [f"Checked in at {terminal.local(done.at)}."]
    if done.history is not None:
        shown.append(done.history.sentence)
    if done.went_back:
        shown.append("Push again, and arm or resume again what is not armed below.")
    for each in done.dossiers:
        if each.stage == NOT_SHOWN:
            why = "" if each.refused is None else f" ({terminal.one_line(each.refused)})"
            shown.append(
                f"{each.title}: THE SERVER DOES NOT SHOW THIS DOSSIER{why}. Do not rely on it: ask its operator."
            )
            continue
        if each.stage == "destroyed":
            shown.append(f"{each.title}: destroyed.")
            continue
        if each.stage == "released":
            shown.append(f"{each.title}: RELEASED. Your colleagues can open it; no check-in takes that back.")
            continue
        if each.stage == "new":
            shown.append(f"{each.title}: not armed, so nothing happens if you fall silent.")
            continue
        if each.stage == "paused":
            shown.append(
                f"{each.title} (paused; to end that now: afterword resume {each.dossier[:8]}), if you do nothing:"
            )
        else:
            shown.append(f"{each.title} ({each.stage}), if you fall silent now:")
        shown += calendar.lines(each.coming, done.at)
        shown += [f"    {sentence}" for sentence in each.holds]
        if each.refused is not None:
            shown.append(f"    not moved: {terminal.one_line(each.refused)}")
    if not done.dossiers:
        shown.append("You have no dossier on this server, so nothing waits for a check-in of yours.")
    return "\n".join(shown)
