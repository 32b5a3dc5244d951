"""What would happen if: `afterword calendar --suppose`.

Rule of this room: nothing is reckoned here. The switch's own steps and the server's own way of counting time are run
ahead of today, and what they do is written down; the only table in here is of words.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from cli import calendar, terminal
from vault import service, switch, wire
from vault.clock import read_duration, write_duration
from vault.errors import BadUsage
from vault.letters import LetterKind
from vault.plans import LONGEST_PAUSE, PAUSE_AT_ONCE, Plan
from vault.service import Service
from vault.switch import Audience, CheckIn, Landed, Notice, Renewed, Said, Stage, Switch, Tried, Waited

FORMS: Final = 'It is written "away 10d", "server down 3d" or "mail dead", each at most once.'
_BOOT: Final = "supposed"
# Units as people write them, by the one that durations are written in.
_UNITS: Final = {"minute": "m", "hour": "h", "day": "d", "week": "w"}
_HEARERS: Final = {
    Audience.HER: "you",
    Audience.COLLABORATORS: "your colleagues",
    Audience.OPERATOR: "the operator",
    Audience.REACHED: "whoever had been alarmed",
}


@dataclass(frozen=True, slots=True)
class Supposition:
    """From now on: `away` ms of silence and then a check-in (None: silence for ever), a server that is `down` for so
    many ms, mail that reaches nobody."""

    away: int | None = None
    down: int | None = None
    mail_dead: bool = False


class Sent(msgspec.Struct, frozen=True):
    """A letter that is written: its kind, to whom, and whether mail carries it."""

    kind: LetterKind
    to: str
    arrives: bool


class Happening(msgspec.Struct, frozen=True):
    """One thing that would happen (ms UTC, projected): `down`, `back`, `moved`, `unreached`, `renewed`, `waits`,
    `checked-in`;
    `stage` is the switch's after it."""

    at: int
    what: str
    stage: str
    letters: tuple[Sent, ...]
    said: str


class Supposed(msgspec.Struct, frozen=True):
    """One dossier's future under a supposition. `released`: when, if every letter lands that mail carries; `latest`:
    when, if none of hers lands. Null: not at all, as it is not armed or she is back first. `back`: when she is back,
    or null."""

    dossier: str
    title: str
    stage: str
    happenings: tuple[Happening, ...]
    released: int | None
    latest: int | None
    back: int | None = None


def read_supposition(texts: Sequence[str]) -> Supposition:
    """Of any number of texts, each one form or several with commas or `and` between them."""
    found: dict[str, int] = {}
    for each in [part for text in texts for part in re.split(r",|;|\band\b", text)]:
        words = " ".join(each.split())
        form = re.fullmatch(r"(?i:(away|server down)) ?(\S+)|(?i:(mail dead))", words)
        if form is None:
            raise BadUsage(
                f"{each.strip()!r} is no supposition. {_hint(words)}{FORMS}", code="bad-supposition"
            )
        name = (form[1] or form[3]).casefold()
        if name in found:
            raise BadUsage(f"{name!r} is said twice. {FORMS}", code="bad-supposition")
        try:
            found[name] = read_duration(form[2]) if form[2] else 1
        except BadUsage as wrong:
            raise BadUsage(f"{wrong} {_hint(words)}{FORMS}", code="bad-supposition") from None
    return Supposition(found.get("away"), found.get("server down"), "mail dead" in found)


def _hint(words: str) -> str:
    """What was probably meant by words that do not read, as a sentence; often nothing."""
    if re.search(r"[0-9] ?(?:M|(?i:mo))\b|\b(?i:months?)\b", words):
        return "A month is 30d. "
    words = words.casefold()
    if len(re.findall(r"\b(?:away|server down|mail dead)\b", words)) > 1:
        return "Between two of them stands a comma. "
    long = re.fullmatch(rf"(away|server down) ?([0-9]{{1,12}}) ?({'|'.join(_UNITS)})s?", words)
    return "" if long is None else f'Write "{long[1]} {long[2]}{_UNITS[long[3]]}". '


def suppose(
    state: wire.DossierState, title: str, supposed: Supposition, now: int, tick: int, *, reachable: bool
) -> Supposed:
    """`now` is the server's (ms UTC), `tick` its own (ms); `reachable`: she has a confirmed address."""
    standing = switch_of(state, now)
    happenings = tuple(live(standing, supposed, now, tick, reachable=reachable))
    unheard = live(standing, replace(supposed, mail_dead=True), now, tick, reachable=reachable)
    return Supposed(
        state.dossier,
        title,
        state.stage,
        happenings,
        _release_of(happenings),
        _release_of(unheard),
        _back(supposed, now),
    )


def _back(supposed: Supposition, start: int) -> int | None:
    """She who is back while the server is down can check in when it is up again."""
    return None if supposed.away is None else start + max(supposed.away, supposed.down or 0)


def switch_of(state: wire.DossierState, now: int) -> Switch:
    """The switch behind what the server shows, its service time beginning at `now`."""
    stage, plan = Stage(state.stage), Plan(*msgspec.structs.astuple(state.plan))
    late = stage in switch.LATE
    pause = None
    due = None if not state.projected else state.projected[0].at
    if state.due is not None:
        due = state.due
    if stage is Stage.PAUSED:
        pause = max(1, (due or now) - now)
    lasts = {
        Stage.ARMED: plan.every,
        Stage.REMINDED: plan.remind,
        Stage.WARNED: plan.warn,
        Stage.GRACE: plan.grace,
    }
    entered = now if due is None else min(now, due - (pause or lasts[stage]))
    return Switch(
        stage=stage,
        plan=plan,
        entered=entered,
        due=due,
        trying=state.trying,
        renewals=state.renewals,
        ladder=1 if late or stage is Stage.RELEASED else 0,
        pause=pause,
        held=state.held,
        holds=0 if state.held is None else 1,
        crowd=switch.Crowd(state.crowd),
    )


def live(
    standing: Switch, supposed: Supposition, start: int, tick: int, *, reachable: bool
) -> Iterator[Happening]:
    """What time does to this switch from `start` on, as the watch would let it."""
    time = Service(life=_BOOT, boot=_BOOT, at=start, lived=start, served=start, probed=start, grown=start,
                   era=standing.era)  # fmt: skip
    if standing.due is None:
        return
    returns = _back(supposed, start)
    if supposed.down is not None:
        yield _happened(start, "down", standing, (), supposed)
        back = start + supposed.down
        time = service.advance(service.probed(time, _BOOT, back), _BOOT, back, tick)
        yield _happened(back, "back", standing, (), supposed)
    standing = _landed(standing, time.served, supposed)
    while (due := standing.due) is not None:
        event = switch.next_event(standing, time.served, time.era)
        if event is not None:
            before = standing
            standing, said = switch.step(before, event, time.served, reachable=reachable)
            what = {Renewed: "renewed", Tried: "unreached", Waited: "waits"}.get(type(event), "moved")
            if said or standing.stage is not before.stage or what == "waits":
                yield _happened(time.at, what, standing, said, supposed)
            standing = _landed(standing, time.served, supposed)
            continue
        reached = time.at + due - time.served
        if returns is not None and returns < reached:
            time = _served_until(time, returns)
            standing, said = switch.step(standing, CheckIn(), time.served, reachable=reachable)
            yield _happened(time.at, "checked-in", standing, said, supposed)
            return
        time = _served_until(time, reached)


def _landed(standing: Switch, now: int, supposed: Supposition) -> Switch:
    """A letter that is waited for arrives at once, where mail works."""
    if supposed.mail_dead or not standing.trying:
        return standing
    return switch.step(standing, Landed(standing.letter), now, reachable=True)[0]


def _served_until(time: Service, wall: int) -> Service:
    """Lived through in full, in strides that are no gap."""
    while time.at < wall:
        step = min(wall - time.at, service.GAP)
        time = service.advance(service.probed(time, _BOOT, time.at + step), _BOOT, time.at + step, step)
    return time


def _happened(at: int, what: str, after: Switch, said: Said, supposed: Supposition) -> Happening:
    notices = [each for each in said if isinstance(each, Notice)]
    letters = tuple(Sent(each.kind, each.audience.value, not supposed.mail_dead) for each in notices)
    return Happening(at, what, after.stage.value, letters, _in_words(what, after, notices, supposed))


def _in_words(what: str, after: Switch, notices: Sequence[Notice], supposed: Supposition) -> str:
    hearers = list(dict.fromkeys(_HEARERS[each.audience] for each in notices))
    match what:
        case "down":
            return "the server goes down: no time counts, nothing moves, no letter goes out"
        case "back":
            return "the server is back: time counts again"
        case "checked-in":
            text = "you are back and check in; the dossier is "
            if after.stage is Stage.PAUSED:
                return f"{text}paused still, which ends with: afterword resume NAME"
            text += f"{after.stage} again"
        case "unreached":
            text = f"no letter has reached you in {write_duration(switch.dwell(after) or 0)}; only now the time runs"
        case "waits":
            return "the release waits once, because many fell silent at the same time"
        case "renewed":
            text = f"after the gap this stage begins anew ({after.stage})"
        case _:
            # The calendar's own words, which say who hears of it.
            text = calendar.HAPPENS[after.stage.value]
            if notices and supposed.mail_dead:
                text = text.removesuffix("; you are told").removesuffix(", and a letter tells you")
                return f"{text}; mail does not carry the letters"
            return text
    if not hearers:
        return text
    to = " and ".join([", ".join(hearers[:-1]), hearers[-1]] if len(hearers) > 1 else hearers)
    letters = "a letter" if hearers == ["you"] else "letters"
    return f"{text}; {letters} to {to}" + (", which mail does not carry" if supposed.mail_dead else "")


def _release_of(happenings: Sequence[Happening] | Iterator[Happening]) -> int | None:
    return next((each.at for each in happenings if each.stage == Stage.RELEASED), None)


def render(found: Sequence[Supposed], now: int) -> str:
    """For people: one line for each thing that would happen, and the end of it."""
    if not found:
        return "You have no dossier here."
    shown = []
    for each in found:
        shown.append(f"{each.title} ({each.stage})")
        shown += [f"    {terminal.ahead(one.at, now)}: {one.said}" for one in each.happenings]
        shown.append(f"    {_ending(each, now)}")
    return "\n".join(shown)


def _ending(each: Supposed, now: int) -> str:
    if not each.happenings:
        if each.stage == Stage.NEW:
            return "nothing would happen: it is not armed; run: afterword arm NAME"
        return f"nothing would happen: it is {each.stage}"
    if each.released is None:
        return "No release: you are back first."
    if each.back is not None:
        return f"You come back {terminal.length(each.back - each.released)} too late. {_remedy(each, each.back, now)}"
    if each.latest is None or each.latest <= each.released:
        return "That is also the latest, but for further gaps, each of which adds to it."
    return (
        f"At the latest {terminal.ahead(each.latest, now)}, if no letter reaches you; further gaps add to it."
    )


def _remedy(each: Supposed, back: int, now: int) -> str:
    if back - now > LONGEST_PAUSE:
        return (
            f"A pause lasts {write_duration(LONGEST_PAUSE)} at most: check in on your way, or before you go: "
            "afterword plan NAME --every DURATION"
        )
    until = terminal.utc(back).astimezone().strftime("%Y-%m-%dT%H:%M")
    first = "afterword resume NAME, then " if each.stage == Stage.PAUSED else ""
    cools = (
        f" Beyond {write_duration(PAUSE_AT_ONCE)} it cools first: ask in time, and check in until it takes effect."
        if back - now > PAUSE_AT_ONCE
        else ""
    )
    return f"Before you go: {first}afterword pause NAME --until {until}.{cools}"
