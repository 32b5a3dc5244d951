"""How a server stands, in an operator's words: `afterword operator status`.

Rule of this room: words for what somebody else found; whatever needs a hand says which.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cli import terminal
from vault.clock import SECOND, write_duration
from vault.service import FRESH_TICKS
from vault.settings import Settings

if TYPE_CHECKING:
    from vault.keeping import Glance
    from vault.storage.records.gaps import Gap

STILL_TICKS: Final = 120
DRIFT: Final = 5 * SECOND
SHOWN_GAPS: Final = 5


def show(seen: "Glance", settings: Settings) -> str:
    """The whole of it, what matters most first."""
    lines = [
        _beat(
            seen.tick_age,
            settings.tick,
            "The watch ticked {} ago.",
            "The watch does NOT tick",
            f" To start it: {how_to_start(settings)}",
        ),
        _beat(
            seen.probed_age, settings.tick, "The public door is open.", "Nobody gets through the public door"
        ),
        *_outage(seen),
        *_deliverer(seen, settings),
        *_outside(seen, settings),
        f"Lived {lasted(seen.lived)}, of which people were served {lasted(seen.served)}.",
        f"Accounts: {seen.accounts}. Free space: {terminal.size(seen.free)}.",
        f"Switches: {_counted(seen.stages)}.",
        f"Letters: {_counted(seen.letters)}.",
    ]
    lines += _crowd(seen)
    if seen.mail_still is not None:
        lines.append(
            f"NO LETTER TO ANYBODY HAS BEEN ACCEPTED FOR {lasted(seen.mail_still)}: nobody is warned of anything. "
            "Look at the mail server and at AFTERWORD_SMTP; then: afterword doctor"
        )
    else:
        lines += [f"An address of account {each} has accepted no letter for a day." for each in seen.failing]
    lines += [
        f"Account {each} has something released to collect, and no address that a letter could go to."
        for each in seen.unreachable
    ]
    if seen.oldest_letter is not None:
        lines.append(f"The oldest letter has been waiting for {lasted(seen.oldest_letter)}.")
    lines += [f"The switch of dossier {each} should have moved and stands still." for each in seen.overdue]
    lines += [f"The slow change {each} does not read and stands still." for each in seen.standing]
    lines += [f"Account {each} knew more than this server, which had been set back." for each in seen.marked]
    lines += _clock(seen)
    lines += [gap_text(each) for each in seen.gaps[:SHOWN_GAPS]]
    if seen.key_copied is None:
        lines.append("No copy of the server key was ever confirmed; see: afterword operator key")
    if seen.wrong:
        lines.append(
            f"WRONG: {', '.join(seen.wrong)}. For what to do, run: afterword doctor --data {settings.data}"
        )
    return "\n".join(lines)


def _crowd(seen: "Glance") -> Iterator[str]:
    if seen.crowd is None or seen.crowd_age is None:
        return
    waits = (
        "the first of their releases has waited, or waits now"
        if seen.crowd_waited
        else "each of their releases will wait once, by twelve hours at most"
    )
    yield (
        f"MANY FELL SILENT TOGETHER: {seen.crowd}, the last of them {lasted(seen.crowd_age)} ago. Can people reach "
        f"this server, do letters arrive, is a region cut off? If they stay silent, {waits}."
    )


def how_to_start(settings: Settings) -> str:
    """On a machine that has the units of deploy/, and on any other."""
    return f"systemctl restart afterword, or without systemd: afterword serve --data {settings.data}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{many} {name}" for name, many in counts.items()) or "none"


def _beat(age: int | None, tick: int, well: str, ill: str, todo: str = "") -> str:
    if age is not None and age <= FRESH_TICKS * tick:
        return well.format(lasted(age))
    since = f" for {lasted(age)}" if age is not None else " on this computer"
    return f"{ill}{since}: time stands still, no warning goes out and nothing is released.{todo}"


def _outage(seen: "Glance") -> Iterator[str]:
    if not seen.alarm:
        return
    from vault.alarms import Alarm

    told = {
        Alarm.OPERATOR: "the operator was written to; after a day everybody with a running switch is",
        Alarm.TELLING: "everybody with a running switch is being written to",
        Alarm.EVERYBODY: "everybody with a running switch was written to",
        Alarm.ENDING: "it is over, and whoever was told is written to",
    }[Alarm(seen.alarm)]
    yield f"Nobody was served for {lasted(seen.stood)} of its ticks: {told}."


def _deliverer(seen: "Glance", settings: Settings) -> Iterator[str]:
    if settings.mail is None:
        yield "No mail server is set, so no warning reaches anybody; set AFTERWORD_SMTP."
        return
    if seen.delivered_age is None:
        yield f"No deliverer has ever run here, so no letter goes out. To start it: {how_to_start(settings)}"
    elif seen.delivered_age > STILL_TICKS * settings.tick:
        yield (
            f"The deliverer stopped {lasted(seen.delivered_age)} ago, so no letter goes out. To start it: "
            f"{how_to_start(settings)}"
        )
    else:
        yield "The deliverer is up."


def _outside(seen: "Glance", settings: Settings) -> Iterator[str]:
    if settings.heartbeat_url is None:
        return
    if seen.pulse_age is None:
        yield "The outside watcher has not heard of this server yet."
    else:
        yield f"The outside watcher last heard that all is well {lasted(seen.pulse_age)} ago."


def _clock(seen: "Glance") -> Iterator[str]:
    if seen.drift is not None and abs(seen.drift) > DRIFT:
        yield (
            f"This computer's clock went {_off(seen.drift)} since the watch began; switches do not count on it, "
            "dates that people are shown do."
        )


def gap_text(gap: "Gap") -> str:
    """One line about something that should not happen to time."""
    when = terminal.local(gap.wall)
    match gap.kind:
        case "stall":
            return f"Gap: until {when} the watch did not tick for {lasted(gap.length or 0)}."
        case "takeover":
            return f"Gap: {when} this computer, started anew, or another one began to count."
        case "outage" if gap.length is None:
            return f"Gap: nobody has been served since {when}."
        case "outage":
            return f"Gap: from {when} on nobody was served for {lasted(gap.length or 0)}."
        case "wall":
            return f"Gap: {when} the computer's clock jumped, {_off(gap.length or 0)}."
        case other:
            return f"Gap: {when} {other}."


def _off(ms: int) -> str:
    return f"{lasted(abs(ms))} {'forward' if ms > 0 else 'back'}"


def lasted(ms: int) -> str:
    return write_duration(ms // 1_000 * 1_000)
