"""What the server has noted about a person, every link recomputed: `afterword history`.

Rule of this room: a chain is shown only as far as its hashes hold, and held against every promise that was kept here;
what does not hold ends the command with its own code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from cli import promises, terminal
from cli.promises import BROKEN, FORKED, PAGE, SHORTER, Head
from cli.session import Session, signed_in
from vault import wire
from vault.errors import Untrusted
from vault.statements import Acknowledgement

_FIRST: Final = "0" * 64
_WORDS: Final = {
    "joined": "you joined",
    "invited": "you invited a colleague",
    "address-confirmed": "an address of yours was confirmed",
    "address-removed": "an address of yours was removed",
    "quota": "the operator changed your quota",
    "roster": "a roster of yours was taken",
    "head": "a bundle was deposited",
    "brief": "a brief was written",
    "arm": "you armed the switch",
    "checkin": "you checked in",
    "pause": "you paused it",
    "resume": "you ended a pause",
    "plan": "you changed the plan",
    "destroy": "you asked for its destruction",
    "cancel": "you took a change back",
    "proof": "you proved your share",
    "contribution": "you gave your share",
    "collected": "you said that you have the archive",
    "leave": "you left",
    "hold": "you signed that she was reached",
    "held": "a colleague signed that you were reached, and time stood still",
    "hold-asked": "a colleague asked to hold it; a second one must sign",
    "proved": "a colleague proved a share",
    "contributed": "a colleague gave a share",
    "left": "a colleague left",
    "change-asked": "a slow change was asked for",
    "change-cancelled": "a slow change was taken back",
    "change-done": "a slow change took effect",
    "waited": "the release waited, because many fell silent at once",
    "forgot": "THE SERVER HAD GONE BACK to an older state, and noticed by what you had kept",
    "forked": "THE SERVER HAD GONE BACK to an older state and gone on from there, and noticed by what you had kept",
}
_STAGES: Final = {
    "new": "not armed",
    "reminded": "reminded",
    "warned": "warned",
    "grace": "last call",
}


class Line(msgspec.Struct, frozen=True):
    """One entry. `at` in ms UTC by the server's clock; not `exact`: reckoned from how long it had served."""

    number: int
    what: str
    text: str
    dossier: str | None
    served: int
    at: int
    exact: bool


class History(msgspec.Struct, frozen=True):
    """What `history` answers. `promises`: how many kept ones hold; `lost`: numbers of those from before the server went
    back, which it has said itself. `code`: why the rest does not hold, or null."""

    entries: tuple[Line, ...]
    promises: int
    lost: tuple[int, ...]
    code: str | None
    sentence: str | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How far a chain holds, and what is wrong behind that."""

    good: tuple[wire.HistoryEntry, ...]
    held: int
    lost: tuple[int, ...]
    code: str | None = None
    sentence: str | None = None


@click.command()
@terminal.passphrase_option
@terminal.json_option
def history(passphrase_file: Path | None, as_json: bool) -> None:
    """What the server has noted about you, link by link, held against all that it ever promised this computer.

    Ends with exit code 6 when it does not hold.
    """
    with signed_in(passphrase_file) as session:
        # First: what another command is promised meanwhile need not be in what is fetched now.
        kept = promises.heads(session.home)
        entries = fetch(session)
        titles = {each.id: session.home.title(each, session.keyring) for each in session.home.dossiers()}
        head = session.remote.head
    verdict = verify(entries, kept, head)
    shown = History(
        entries=_lines(verdict.good, kept),
        promises=verdict.held,
        lost=verdict.lost,
        code=verdict.code,
        sentence=verdict.sentence,
    )
    terminal.answer(shown, as_json, lambda answer: _render(answer, titles))
    if verdict.code is not None:
        raise Untrusted(verdict.sentence or "", code=verdict.code)


def fetch(session: Session) -> list[wire.HistoryEntry]:
    """The whole chain, as the server shows it."""
    entries: list[wire.HistoryEntry] = []
    while True:
        page = session.remote.call("GET", f"/history?after={len(entries)}", None, wire.History)
        entries += page.entries
        if not page.more or len(page.entries) < PAGE:
            return entries


def verify(
    entries: Sequence[wire.HistoryEntry], kept: Sequence[Head], head: Acknowledgement | None
) -> _Verdict:
    """`head`: where the chain stands by the server's signature of just now."""
    hash, good = _FIRST, 0
    for number, each in enumerate(entries, 1):
        if each.number != number or each.hash != promises.link(hash, each.entry) or not _reads(each):
            break
        hash, good = each.hash, number
    holds = tuple(entries[:good])
    if good < len(entries):
        return _wrong(
            holds,
            BROKEN,
            f"Entry {good + 1} does not follow from the one before it: the history that the server shows was altered.",
        )
    # Whatever it signs is an entry itself, so there is no number 0.
    if head is not None and not 1 <= head.number <= good:
        return _wrong(
            holds, SHORTER, f"The server has just signed {head.number} entries and shows {good} of them."
        )
    if head is not None and holds[head.number - 1].hash != head.history:
        return _wrong(holds, FORKED, f"Entry {head.number} is another one than the server has just signed.")
    held, lost = 0, []
    for promise in kept:
        when = terminal.local(promise.at)
        if 1 <= promise.number <= good and holds[promise.number - 1].hash == promise.hash:
            held += 1
        elif head is not None and promise.life != head.life:
            # It has begun another life since, which is how a server says that it had gone back.
            lost.append(promise.number)
        elif not 1 <= promise.number <= good:
            return _wrong(
                holds,
                SHORTER,
                f"The server had promised entry {promise.number} on {when}, and its history ends with entry {good}.",
            )
        else:
            return _wrong(
                holds,
                FORKED,
                f"Entry {promise.number} is another one than the server had promised on {when}.",
            )
    return _Verdict(holds, held, tuple(sorted(set(lost))))


def _wrong(holds: tuple[wire.HistoryEntry, ...], code: str, sentence: str) -> _Verdict:
    return _Verdict(
        holds,
        0,
        (),
        code,
        f"{sentence} Go on checking in; ask its operator what happened, by another way, and tell the people of your "
        "dossiers.",
    )


def _reads(each: wire.HistoryEntry) -> bool:
    read = _read(each)
    return (
        read.get("n") == each.number and type(read.get("served")) is int and isinstance(read.get("what"), str)
    )


def _read(each: wire.HistoryEntry) -> dict[str, Any]:  # Any: it is looked at before it is believed
    try:
        read = msgspec.json.decode(each.entry)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _lines(entries: Sequence[wire.HistoryEntry], kept: Sequence[Head]) -> tuple[Line, ...]:
    """With dates: exact where a promise was kept, reckoned back from the next one that was elsewhere."""
    hashes = {each.hash: each for each in kept}
    lines: list[Line] = []
    after: Head | None = kept[-1] if kept else None
    for each in reversed(entries):
        read = _read(each)
        known = hashes.get(each.hash)
        after = known or after
        at = 0 if after is None else max(0, after.at - max(0, after.served - read["served"]))
        dossier = read.get("dossier")
        lines.append(
            Line(
                number=each.number,
                what=read["what"],
                text=_text(read),
                dossier=dossier if isinstance(dossier, str) else None,
                served=read["served"],
                at=at,
                exact=known is not None,
            )
        )
    return tuple(reversed(lines))


def _text(read: dict[str, Any]) -> str:  # Any: see _read
    what = str(read["what"])
    if what == "moved":
        after = str(read.get("after"))
        return f"the switch moved: {_STAGES.get(after, after)}"
    if what == "joined" and "card" in read:
        return "a colleague joined"
    return _WORDS.get(what, what)


def _render(shown: History, titles: dict[str, str | None]) -> str:
    lines = []
    for each in shown.entries:
        about = "" if each.dossier is None else f"{titles.get(each.dossier) or each.dossier[:8]}: "
        when = f"{'' if each.exact else 'about '}{terminal.local(each.at)}"
        lines.append(f"{each.number:5}  {when:28}  {terminal.one_line(about + each.text)}")
    if shown.code is not None:
        lines.append(f"Behind entry {len(shown.entries)} it does not hold, or is not what was promised.")
        return "\n".join(lines)
    lines.append(
        f"It holds: {len(shown.entries)} entries, each following from the one before, with "
        f"{terminal.count(shown.promises, 'promise')} kept on this computer among them."
    )
    if shown.lost:
        lines.append(
            f"{terminal.count(len(shown.lost), 'promise')} of before the server went back to an older state: what they "
            "were about is forgotten there. Look at `afterword status`, and push again."
        )
    return "\n".join(lines)
