"""What concerns a collaborator, in plain words: `afterword inbox`.

Rule of this room: words only. Every line says what is true and what to do next; whoever reads it may be frightened,
and what the server merely claims is never said as if it were certain.
"""

from typing import Final

import msgspec

from cli import calendar, holding, terminal
from cli.promises import Trouble
from cli.session import STALE_PROOF
from cli.shares import Doubtful, Entrusted, Gone, Sound
from vault import wire

_UNCHANGED: Final = "Nothing for now."


class Wrong(msgspec.Struct, frozen=True):
    """What does not hold about a dossier. `code` is stable."""

    code: str
    sentence: str


class Entry(msgspec.Struct, frozen=True):
    """One dossier. Times in ms UTC; `next` is what to do, a sentence each; `wrong` when it is not to be trusted."""

    dossier: str
    title: str | None
    journalist: str | None
    stage: str
    sentence: str
    k: int
    others: tuple[str, ...]
    share: str
    proved: int | None
    brief: bool
    given: int
    contributed: bool
    collected: bool
    left: bool
    last_checkin: int | None
    released: int | None
    projected: tuple[wire.Projected, ...]
    holds: tuple[holding.Holding, ...]
    changes: tuple[wire.Change, ...]
    next: tuple[str, ...]
    wrong: Wrong | None


class Inbox(msgspec.Struct, frozen=True):
    """What `inbox` answers. `confirmed`: how many of one's own addresses letters reach. `history`: what the server's
    word of today contradicts, or null."""

    confirmed: int
    dossiers: tuple[Entry, ...]
    now: int
    history: Trouble | None = None


def entry(each: Entrusted, proved: int | None, now: int, holds: tuple[holding.Holding, ...] = ()) -> Entry:
    """What to say about one dossier. `proved`: when this person last proved their share, by their own signature."""
    state = each.state
    mine = None
    if isinstance(each, Sound):
        mine = next((one for one in state.collaborators if one.index == each.line.index), None)
    last, released = state.last_checkin, state.released
    if isinstance(each, Sound) and each.case is not None:  # from here on signatures say it, not the server
        last = each.case.checkin.created if each.case.checkin else None
        released = each.case.release.created
    share = {Sound: "genuine", Doubtful: "doubtful", Gone: "gone"}[type(each)]
    return Entry(
        dossier=state.dossier,
        title=each.title,
        journalist=each.journalist.label if each.journalist else None,
        stage=state.stage,
        sentence=stage(each),
        k=state.k,
        others=each.others() if isinstance(each, Sound) else (),
        share=share,
        proved=proved,
        brief=state.brief,
        given=sum(one.contributed for one in state.collaborators),
        contributed=mine is not None and mine.contributed,
        collected=mine is not None and mine.collected,
        left=mine is not None and mine.left,
        last_checkin=last,
        released=released,
        projected=state.projected,
        holds=holds,
        changes=state.changes,
        next=next_steps(each, proved, now),
        wrong=Wrong(each.wrong.code, str(each.wrong)) if isinstance(each, Doubtful) else None,
    )


def stage(each: Entrusted) -> str:
    """Where its switch stands."""
    state = each.state
    who = each.journalist.label if each.journalist else "the journalist"
    match state.stage:
        case "new":
            return f"Not armed yet: {who} is still preparing it. Nothing can be released."
        case "armed":
            if state.last_checkin is None:
                return f"All quiet: it is armed, and {who} has not checked in yet."
            return f"All quiet: {who} checks in, {_last(state)}."
        case "reminded":
            return f"{who} is due to check in and was reminded. There is often a harmless reason."
        case "warned":
            return f"{who} HAS NOT CHECKED IN, {_last(state)}."
        case "grace":
            return f"LAST STAGE BEFORE THE RELEASE: still no sign of life from {who}, {_last(state)}."
        case "paused":
            until = next((coming.at for coming in state.projected if coming.stage == "armed"), None)
            about = f" until about {terminal.local(until)}" if until else ""
            return f"{who} has paused it{about}; no check-in is expected meanwhile."
        case "destroyed":
            return f"{who} has given it up, says the server: there is nothing left to open."
        case "released" if isinstance(each, Sound):
            return "RELEASED. The server's signature on this holds, and it cannot be taken back."
        case "released":
            return "The server says that it is released, and this could not be verified."
    return f"In a stage that this program does not know ({state.stage}); update it."


def next_steps(each: Entrusted, proved: int | None, now: int) -> tuple[str, ...]:
    """What this person can do, the most urgent first."""
    match each:
        case Gone():
            return (_UNCHANGED,)
        case Doubtful(wrong=wrong):
            if wrong.code == "not-on-the-roster":
                return (_UNCHANGED,)
            return ("Trust nothing that is shown here about this dossier until it is cleared up.",)
    who, name = each.journalist.label, each.state.dossier[:8]
    read = (f"Read the page that was left for you: afterword brief {name}",) if each.state.brief else ()
    if each.case is not None:
        return (*read, *_after_release(each, name))
    steps: list[str] = []
    if each.state.stage in ("warned", "grace"):
        steps += [
            f"Try to reach {who} now, on a number you already have. If you do, ask for one thing: that they run "
            "`afterword checkin` on their own computer. Nothing else ends the alarm.",
            *read,
            "Publish nothing, and write to nobody about it by e-mail or chat.",
            *_if_reached(each, who, name),
        ]
    elif each.state.trying:
        steps.append(
            f"Call {who}: the server's letters do not reach them. Ask them to run `afterword checkin`."
        )
    if each.state.changes:
        steps.append(
            f"Call {who} and ask whether the change above is their own wish; they can stop it with `afterword cancel`."
        )
    if each.left:
        steps.append(f"You have left; {who} has still to change the roster. Nothing more for you to do.")
    elif proved is None:
        steps.append(f"Prove your share, which takes a minute: afterword drill {name}")
    elif now - proved > STALE_PROOF:
        steps.append(f"Prove your share again, the last time is long ago: afterword drill {name}")
    return tuple(steps) or (_UNCHANGED,)


def _if_reached(each: Sound, who: str, name: str) -> tuple[str, ...]:
    if each.left or each.state.held is not None:
        return ()
    return (f"If you know that {who} is safe and cannot check in now: afterword hold {name}",)


def _after_release(each: Sound, name: str) -> tuple[str, ...]:
    state = each.state
    mine = next(one for one in state.collaborators if one.index == each.line.index)
    given = sum(one.contributed for one in state.collaborators)
    if mine.collected:
        return ("You have collected the archive. Speak with the others before anything is published.",)
    steps = []
    lacking = state.k - given - (0 if mine.contributed else 1)
    if lacking > 0:
        labels = each.labels()
        silent = [
            labels[one.index]
            for one in state.collaborators
            if one is not mine and not one.contributed and one.index in labels
        ]
        besides = "" if mine.contributed else ", besides you"
        steps.append(
            f"{given} of the {state.k} shares needed have been given. Call {', '.join(silent)}, on numbers you already "
            f"have: {lacking} of them must run `afterword recover` or `afterword give`{besides}."
        )
    elif given < state.k:
        steps.append(f"{given} of the {state.k} shares needed have been given: yours is the last one needed.")
    steps.append(f"Take part and receive the archive: afterword recover {name} --to DIR")
    if not mine.contributed:
        steps.append(f"Or only give your share, without downloading: afterword give {name}")
    return tuple(steps)


def render(shown: Inbox) -> str:
    parts = []
    if not shown.confirmed:
        parts.append("NO CONFIRMED ADDRESS: no letter reaches you. Run: afterword address add ADDRESS")
    if not shown.dossiers:
        parts.append(
            "Nothing has been entrusted to you yet. Once a journalist names you in a dossier, it appears here."
        )
    return "\n\n".join([*parts, *("\n".join(_lines(each, shown.now)) for each in shown.dossiers)])


def _lines(each: Entry, now: int) -> list[str]:
    name = each.title or f"Dossier {each.dossier[:8]}"
    lines = [f"{name}, from {each.journalist or 'an unknown journalist'}  ({each.dossier[:8]})"]

    def line(what: str, text: str) -> None:
        lines.append(f"  {what:<8} {text}")

    if each.wrong is not None and each.wrong.code != "not-on-the-roster":
        line("WRONG", each.wrong.sentence)
        line("stage", f"{each.sentence} (So the server says; believe it only once the above is cleared up.)")
    elif each.wrong is not None:
        line("stage", each.wrong.sentence)
    else:
        line("stage", each.sentence)
    if each.share == "genuine":
        line("people", _people(each))
    if each.released is not None and each.share == "genuine":
        line("released", terminal.local(each.released))
        line(
            "alive",
            f"last signed check-in {terminal.local(each.last_checkin)}"
            if each.last_checkin
            else "never checked in",
        )
    else:
        lines += _dates(each, now)
    for held in holding.sentences(each.holds, now):
        line("hold", held)
    for change in each.changes:
        line("change", calendar.change_text(change, now))
    if each.share == "genuine" and each.released is None:
        line("share", f"proved {terminal.local(each.proved)}" if each.proved else "never proved")
        line("brief", f"afterword brief {each.dossier[:8]}" if each.brief else "no page was left for you yet")
    for at, step in enumerate(each.next):
        line("do" if not at else "", step)
    return lines


def _dates(each: Entry, now: int) -> list[str]:
    """What comes if nobody checks in. Only what concerns a collaborator."""
    lines = []
    for coming in each.projected:
        when = terminal.ahead(coming.at, now)
        if coming.stage == "warned":
            lines.append(f"  {'':<8} without a check-in you are asked to look for them: {when}")
        elif coming.stage == "released":
            lines.append(f"  {'':<8} without a check-in it is released, not before: {when}")
    return lines


def _people(each: Entry) -> str:
    others = ", ".join(each.others)
    if not others:
        return "you alone hold a share; it is enough after a release"
    total = len(each.others) + 1
    enough = f"all {total}" if each.k == total else f"any {each.k} of {total}"
    return f"you, {others}; {enough} can open it{'' if each.released else ', and only after a release'}"


def _last(state: wire.DossierState) -> str:
    return f"last on {terminal.local(state.last_checkin)}" if state.last_checkin else "not once so far"
