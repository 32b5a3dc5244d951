"""What would go wrong with a server on the day: the operator's half of `afterword doctor`.

Rule of this room: looks at everything, changes nothing but the operator's own inbox, and says what to do.
"""

import ctypes
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli import terminal
from cli.doctor import Finding, ok, problem, warning
from cli.durability import examine_durability
from cli.glance import DRIFT, STILL_TICKS, gap_text, how_to_start, lasted
from vault.clock import DAY, SystemClock, write_duration
from vault.errors import AfterwordError
from vault.service import FRESH_TICKS
from vault.settings import Settings, is_local

if TYPE_CHECKING:
    from vault.keeping import Glance

HEARTBEATS: Final = 5
LATELY: Final = 7 * DAY
OLD_LETTER: Final = 3_600_000
_TIME_ERROR: Final = 5


def examine_server(settings: Settings) -> Iterator[Finding]:
    """Everything that can be seen from this computer, the worst first where it hides the rest."""
    from vault import backups, compose, keeping

    yield from _examine_clock()
    yield from _examine_files(settings)
    yield from _examine_disk(settings)
    yield from examine_durability(settings.data)
    try:
        vault = compose.open_vault(settings)
        vault.records.db.check()
        yield ok("database", "The database reads, every page and every reference.")
        seen = keeping.glance(vault.records, vault.objects, settings.mail is not None)
        lost = backups.lost_objects(vault.records, vault.objects)
    except AfterwordError as wrong:
        yield problem(wrong.code, str(wrong))
        return
    yield from _examine_objects(lost)
    yield from _examine_key(settings, seen)
    yield from _examine_time(settings, seen)
    yield from _examine_door(settings, seen)
    yield from _examine_past(settings, seen)
    yield from _examine_switches(seen)
    yield from _examine_mail(settings, seen)


def _examine_clock() -> Iterator[Finding]:
    if sys.platform != "linux":
        yield problem("no-linux", "A server needs Linux, whose boot clock its switches count on.")
        return
    # Asking the kernel whether anybody sets the clock needs no permission; the answer's size is its own affair.
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if answer < 0:
        yield warning(
            "clock-unknown",
            "This computer does not say whether anybody keeps its clock right; see: timedatectl. Switches do not count "
            "on it, but every date that people are shown does.",
        )
    elif answer == _TIME_ERROR:
        yield warning(
            "clock-unsynchronised",
            "Nothing keeps this computer's clock right; install chrony or systemd-timesyncd. Switches do not count on "
            "it, but every date that people are shown does.",
        )
    else:
        yield ok("clock", "This computer's clock is kept right.")


def _examine_files(settings: Settings) -> Iterator[Finding]:
    open_to_others = [path for path in _files(settings) if _mode(path) & 0o077]
    if open_to_others:
        yield problem(
            "files-exposed",
            f"{open_to_others[0]} can be read by others on this computer; run: chmod -R go= {settings.data}",
        )
    else:
        yield ok("files-private", f"{settings.data} is readable for the server's user alone.")


def _files(settings: Settings) -> Iterator[Path]:
    yield settings.data
    # Below objects/ a closed folder is enough, and there may be millions of them.
    yield from (path for path in settings.data.iterdir())
    if settings.server_key_file.parent != settings.data:
        yield settings.server_key_file


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def _examine_disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(settings.data).free
    if free < settings.low_water:
        yield problem(
            "disk-full", f"Only {terminal.size(free)} are free, so uploads are refused by now; make room."
        )
    elif free < 2 * settings.low_water + settings.quota // 4:
        yield warning("disk-low", f"{terminal.size(free)} are free; make room before uploads are refused.")
    else:
        yield ok("disk", f"{terminal.size(free)} are free.")


def _examine_objects(lost: list[str]) -> Iterator[Finding]:
    if lost:
        dossier, _, name = lost[0].partition("/")
        yield problem(
            "objects-lost",
            f"{len(lost)} objects are gone from the store, as {name} of dossier {dossier}. Put their files back "
            "from a backup. If none has them: afterword operator backup, then restore with --anyway into a new folder "
            "gives them up, and the journalists' next push sends anew what they still have of it.",
        )
    else:
        yield ok("objects", "Every object that a deposit names is there.")


def _examine_key(settings: Settings, seen: "Glance") -> Iterator[Finding]:
    if seen.key_copied is None:
        yield problem(
            "key-not-copied",
            f"No copy of {settings.server_key_file} was ever confirmed. Without it no backup opens and nothing can be "
            "released: keep a copy elsewhere, then run: afterword operator key --confirm-copy FILE",
        )
    else:
        yield ok("key-copied", f"A copy of the server key was confirmed {terminal.local(seen.key_copied)}.")
    if settings.server_key_file.parent.absolute() == settings.data.absolute():
        yield warning(
            "key-beside-data",
            "The server key lies beside the data it opens; whoever takes the disk has both. Keep it elsewhere and name "
            "its place in AFTERWORD_SERVER_KEY_FILE (deploy/README.md shows how).",
        )


def _examine_time(settings: Settings, seen: "Glance") -> Iterator[Finding]:
    late = FRESH_TICKS * settings.tick
    if seen.tick_age is None or seen.tick_age > late:
        yield problem(
            "not-ticking",
            f"The watch has not ticked here{_since(seen.tick_age)}. To start it: {how_to_start(settings)}",
        )
    else:
        yield ok("ticking", f"The watch ticked {lasted(seen.tick_age)} ago.")
    door = settings.probe_url or settings.url or seen.url or "the server's own address"
    if seen.probed_age is None or seen.probed_age > late:
        yield problem(
            "door-shut",
            f"Nobody gets through {door}{_since(seen.probed_age)}, so time stands still and no warning goes out; look "
            "at the proxy, at AFTERWORD_URL and AFTERWORD_PROBE_URL.",
        )
    else:
        yield ok(
            "door-open",
            f"The public door is open: {door} answered {lasted(seen.probed_age)} ago, {_by(settings)}.",
        )
    if settings.short:
        yield warning("rehearsal", "Plans of seconds are allowed here: this server is for rehearsals only.")


def _since(age: int | None) -> str:
    return f" for {lasted(age)}" if age is not None else ""


def _by(settings: Settings) -> str:
    return "asked through the proxy" if settings.probe_proxy is not None else "asked from this computer"


def _examine_door(settings: Settings, seen: "Glance") -> Iterator[Finding]:
    public = settings.url or seen.url
    if public is None:
        yield warning(
            "no-url", "No public address is set; set AFTERWORD_URL=https://… so that invites lead here."
        )
    elif settings.url is None:
        yield warning(
            "url-remembered",
            f"No public address is set, so the watch knocks at the one that it remembers, {public}. If this server has "
            "moved, set AFTERWORD_URL to where it is now; if it is a copy, its time stands still, as it should.",
        )
    if (
        public is not None
        and settings.probe_proxy is None
        and not settings.witness_urls
        and not is_local(public)
    ):
        yield warning(
            "door-from-inside",
            "The watch knocks at the public door from this machine, so an outage beyond it goes unnoticed and time "
            "goes on although nobody gets through; set AFTERWORD_PROBE_PROXY, or AFTERWORD_WITNESS_URL to addresses "
            "of others that must answer too (deploy/README.md, The door).",
        )
    if settings.heartbeat_url is None and not settings.short:
        yield warning(
            "no-heartbeat",
            "If this computer dies, nobody is told. Let an outside watcher miss it: set AFTERWORD_HEARTBEAT_URL to an "
            "address of healthchecks.io or its like (deploy/README.md, Somebody outside).",
        )
    if settings.heartbeat_url is None:
        return
    if seen.pulse_age is None or seen.pulse_age > HEARTBEATS * FRESH_TICKS * settings.tick:
        yield problem(
            "heartbeat-unheard",
            f"The outside watcher has not heard that all is well{_since(seen.pulse_age)}: it is not, or "
            "AFTERWORD_HEARTBEAT_URL does not answer.",
        )
    else:
        yield ok("heartbeat", f"The outside watcher heard that all is well {lasted(seen.pulse_age)} ago.")


def _examine_past(settings: Settings, seen: "Glance") -> Iterator[Finding]:
    """What happened to time: this clock against the other one, and the gaps that the watch noted."""
    lately = [each for each in seen.gaps if each.lived > seen.lived - LATELY]
    jumps = [each for each in lately if each.kind == "wall"]
    if seen.drift is not None and abs(seen.drift) > DRIFT:
        yield warning(
            "clock-drifts",
            f"This computer's clock has gone off by {lasted(abs(seen.drift))} since the watch began to compare it with "
            "the kernel's; look at what keeps it right. Switches do not count on it.",
        )
    elif seen.drift is not None:
        yield ok("clock-steady", "This computer's clock and the kernel's go at the same pace.")
    if jumps:
        yield warning(
            "clock-jumped",
            f"{terminal.count(len(jumps), 'jump')} of this computer's clock noted this week. {gap_text(jumps[0])}",
        )
    others = [each for each in lately if each.kind != "wall"]
    if others:
        yield warning(
            "gaps",
            f"{terminal.count(len(others), 'gap')} in the server's time noted this week; each made things later, none "
            f"earlier. {gap_text(others[0])} For more: afterword operator status",
        )
    elif seen.tick_age is not None:
        yield ok("no-gaps", "No gap in the server's time was noted this week.")
    if settings.mail is not None and seen.tick_age is not None:
        if seen.delivered_age is None or seen.delivered_age > STILL_TICKS * settings.tick:
            yield problem(
                "not-delivering",
                f"No deliverer has looked for letters{_since(seen.delivered_age)}. To start it: "
                f"{how_to_start(settings)}",
            )
        else:
            yield ok("delivering", "The deliverer is up.")


def _examine_switches(seen: "Glance") -> Iterator[Finding]:
    for dossier in seen.overdue:
        yield problem(
            "switch-stands-still",
            f"The switch of dossier {dossier} should have moved and did not; look at what the watch wrote to stderr.",
        )
    for change in seen.standing:
        yield problem(
            "change-stands-still",
            f"The slow change {change}, or the cooling time of its dossier, does not read. It never takes effect, and "
            "holds up nothing else; look at the disk, and hold the newest good backup against this server.",
        )
    for account in seen.marked:
        yield warning(
            "account-marked",
            f"Account {account} knew more than this server, which had been set back. If its owner has not checked in "
            "since, tell them to; otherwise nothing is left to do.",
        )


def _examine_mail(settings: Settings, seen: "Glance") -> Iterator[Finding]:
    if seen.mail_still is not None:
        yield problem(
            "mail-dead",
            f"No letter to anybody has been accepted for {write_duration(seen.mail_still // 1000 * 1000)}: nobody is "
            "warned of anything. Look at the mail server, at AFTERWORD_SMTP, and whether the deliverer runs.",
        )
    else:
        for account in seen.failing:
            yield warning(
                "account-unreached",
                f"An address of account {account} has accepted no letter for a day; its owner was told at their other "
                "addresses, if there are any. See: afterword operator accounts",
            )
    for account in seen.unreachable:
        yield problem(
            "reader-unreachable",
            f"Account {account} has something released to collect, and no confirmed address; see who it is in: "
            "afterword operator accounts",
        )
    if "letters-waiting" in seen.wrong:
        yield problem(
            "letters-waiting",
            "Letters are due, and nobody carries them; look at what the deliverer printed, and whether the mail server "
            "is slow.",
        )
    elif seen.oldest_letter is not None and seen.oldest_letter > OLD_LETTER:
        yield warning(
            "letter-late",
            f"A letter has been waiting for {write_duration(seen.oldest_letter // 1000 * 1000)}; often its address is "
            "bad. Look whether it stays the only one.",
        )
    if settings.mail is None:
        yield problem("no-mail", "No mail server is set, so no warning reaches anybody; set AFTERWORD_SMTP.")
        return
    if not settings.operator_addresses:
        yield warning(
            "no-operator-address",
            "Nobody is told when something goes wrong here, and mail was not tried; set AFTERWORD_OPERATOR.",
        )
        return
    yield from _send_test_letters(settings)


def _send_test_letters(settings: Settings) -> Iterator[Finding]:
    from vault import compose, letters
    from vault.couriers import Accepted, Parcel
    from vault.letters import Facts, LetterKind

    sender = compose.sender(settings)
    try:
        courier = compose.courier(settings)
    except AfterwordError as wrong:
        yield problem(wrong.code, str(wrong))
        return
    try:
        for place, address in enumerate(settings.operator_addresses, 1):
            text = letters.write(
                LetterKind.TEST, settings.operator_language, "", None, Facts(host=sender.host)
            )
            outcome = courier.carry(
                Parcel(
                    message_id=f"<{secrets.token_hex(16)}@{sender.address.rpartition('@')[2]}>",
                    to=address,
                    sender=sender.address,
                    subject=text.subject,
                    body=text.body,
                    language=settings.operator_language,
                    date=SystemClock().wall(),
                )
            )
            if isinstance(outcome, Accepted):
                yield ok(
                    "mail", f"The mail server took a letter to operator address {place}; see that it arrives."
                )
            else:
                yield problem(
                    "mail-refused", f"A letter to operator address {place} was not taken: {outcome.reason}"
                )
    finally:
        courier.close()
