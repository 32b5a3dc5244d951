"""What the server has promised this person, held against what it says now.

Rule of this room: every head that the server has signed is kept, and a word that contradicts one is never passed over
in silence; but nothing that is found here keeps anybody from a check-in.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from vault import statements, wire
from vault.errors import AfterwordError
from vault.statements import Acknowledgement

if TYPE_CHECKING:
    from cli.home import Home

MOST_KEPT: Final = 10_000
"""Heads, the newest: a quarter of a century of daily check-ins."""
PAGE: Final = 100
FORKED: Final = "history-forked"
SHORTER: Final = "history-shorter"
BROKEN: Final = "history-broken"
WENT_BACK: Final = "went-back"
_FACT: Final = "history-trouble"
_WHAT_NOW: Final = (
    "Go on checking in. Ask the operator what happened, by another way than this server, and tell the people of your "
    "dossiers; `afterword history` shows where it parts from what was promised."
)
_SENTENCES: Final = {
    FORKED: f"THE SERVER CONTRADICTS ITSELF: it has signed two different histories about you. {_WHAT_NOW}",
    SHORTER: f"THE SERVER HAS FORGOTTEN what it had promised you, and does not say so. {_WHAT_NOW}",
    WENT_BACK: (
        "The server has gone back to an older state: it was restored from a backup, and has forgotten what came after "
        "it. It knows that now, and has given every switch that this concerns all its time again, but for one that is "
        "paused: if you had ended a pause, end it again with `afterword resume`."
    ),
}


class Trouble(msgspec.Struct, frozen=True):
    """What does not hold between the server's word now and its word before. `code` is stable."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Head:
    """One signed head, as it was kept. `at` is when it was signed (ms UTC, the server's clock)."""

    life: str
    number: int
    hash: str
    served: int
    at: int


def last(home: "Home") -> Acknowledgement | None:
    """The newest that was kept."""
    return _read(home.last_acknowledgement())


def heads(home: "Home") -> list[Head]:
    """In the order in which they were received."""
    rows = home.db.execute("SELECT life, number, hash, served, at FROM heads ORDER BY rowid")
    return [Head(*row) for row in rows.fetchall()]


def take(
    home: "Home",
    signed: bytes,
    said: Acknowledgement,
    presented: bytes | None = None,
    links: Sequence[wire.HistoryEntry] = (),
) -> Trouble | None:
    """Keep a verified acknowledgement, and say whether it contradicts what was kept before.

    `presented`: the acknowledgement that was sent along with what it answers; `links`: what the server shows of the
    chain after that one. (Not the newest kept: another command may have been faster meanwhile.)
    """
    with home.transaction():
        wrong = _contradicts(home, presented, said, links)
        kept = last(home)
        if kept is None or _follows(home, kept, said):
            home.remember_acknowledgement(signed)
        home.db.execute(
            "INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?)",
            (said.life, said.number, said.history, said.served, said.created),
        )
        home.db.execute("DELETE FROM heads WHERE rowid <= (SELECT max(rowid) FROM heads) - ?", (MOST_KEPT,))
        if wrong in (FORKED, SHORTER):
            home.remember(_FACT, wrong.encode())
    return None if wrong is None else Trouble(wrong, _SENTENCES[wrong])


def standing(home: "Home") -> Trouble | None:
    """What was found once and has no innocent explanation: it is said each time."""
    code = (home.fact(_FACT) or b"").decode("utf-8", "replace")
    return Trouble(code, _SENTENCES[code]) if code in _SENTENCES else None


def continues(kept: Acknowledgement, said: Acknowledgement, links: Sequence[wire.HistoryEntry]) -> bool:
    """Whether `links` lead from the one to the other. What a page is too short for is left to `history`."""
    if said.number < kept.number:
        return False
    number, hash = kept.number, kept.history
    for each in links:
        if number == said.number:
            break
        if each.number != number + 1 or each.hash != link(hash, each.entry):
            return False
        number, hash = each.number, each.hash
    if number == said.number:
        return hash == said.history
    return len(links) >= PAGE


def link(before: str, entry: str) -> str:
    """The hash of a chain with one more entry."""
    return hashlib.sha256(bytes.fromhex(before) + entry.encode()).hexdigest()


def _contradicts(
    home: "Home", presented: bytes | None, said: Acknowledgement, links: Sequence[wire.HistoryEntry]
) -> str | None:
    known = home.db.execute(
        "SELECT hash FROM heads WHERE life = ? AND number = ?", (said.life, said.number)
    ).fetchall()
    if known and (said.history,) not in known:
        return FORKED
    before = _read(presented)
    if before is None:
        return None
    if said.life != before.life:
        # Lives only follow each other: one that had ended and is back has forgotten the one in between.
        if _began(home, said.life) < _began(home, before.life):
            return SHORTER
        return None if continues(before, said, links) else WENT_BACK
    if said.number < before.number:
        return SHORTER
    return None if continues(before, said, links) else FORKED


def _follows(home: "Home", kept: Acknowledgement, said: Acknowledgement) -> bool:
    """Whether it is the newer of the two: the one to present next time."""
    if said.life != kept.life:
        return _began(home, said.life) > _began(home, kept.life)
    return said.number > kept.number


def _began(home: "Home", life: str) -> float:
    """Lives in the order in which they were met."""
    (first,) = home.db.execute("SELECT min(rowid) FROM heads WHERE life = ?", (life,)).fetchone()
    return math.inf if first is None else float(first)


def _read(signed: bytes | None) -> Acknowledgement | None:
    """What was verified before it was kept."""
    try:
        said = None if signed is None else statements.peek(signed)
    except AfterwordError:
        return None
    return said if isinstance(said, Acknowledgement) else None


# Releases that were seen.


def keep_release(home: "Home", dossier: str, shown: wire.Released) -> None:
    """A verified release: should the server forget it, this brings it back."""
    home.db.execute(
        "INSERT INTO releases VALUES (?, ?, ?) ON CONFLICT (dossier) DO NOTHING",
        (dossier, shown.release.encode(), None if shown.checkin is None else shown.checkin.encode()),
    )


def kept_release(home: "Home", dossier: str) -> wire.SeenRelease | None:
    row = home.db.execute("SELECT envelope, checkin FROM releases WHERE dossier = ?", (dossier,)).fetchone()
    if row is None:
        return None
    return wire.SeenRelease(bytes(row[0]).decode(), None if row[1] is None else bytes(row[1]).decode())
