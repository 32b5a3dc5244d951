"""Everything a server process needs, opened and put together.

Rule of this room: the only place that knows which database, which objects, which courier; the bag is for doors.
"""

import contextlib
import logging
import os
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vault import accounts, age, alarms, cooling, custodian, deposit, keeping, outbox, soundness, watch
from vault.clock import HOUR, MINUTE, SystemClock
from vault.couriers import Courier
from vault.couriers.heartbeat import Heartbeat
from vault.couriers.probe import Door
from vault.couriers.smtp import SmtpCourier
from vault.custodian import Custodian
from vault.errors import (
    BadUsage,
    Conflict,
    Damaged,
    DiskFailed,
    Malformed,
    NoSpace,
    NotFound,
    Refused,
    Untrusted,
)
from vault.keeping import Copied
from vault.outbox import Sender
from vault.service import FRESH_TICKS, Moment
from vault.settings import Settings, is_local
from vault.storage.ballast import Ballast
from vault.storage.database import Database, open_database
from vault.storage.disk import Disk
from vault.storage.folders import make_folder
from vault.storage.folders import settle as settle_folder
from vault.storage.objects import Objects, open_objects
from vault.storage.records import Records
from vault.storage.records.rows import Letter
from vault.storage.records.switches import Server
from vault.turns import LINES, Turns

HOUSEKEEPING: Final = MINUTE
CHECKED: Final = HOUR
VITAL: Final = (
    "service",
    "server",
    "accounts",
    "addresses",
    "dossiers",
    "switches",
    "collaborators",
    "changes",
    "holds",
    "releases",
    "outbox",
)
"""What must read for anybody to be warned or released to; small, whatever people deposit."""
SLOW_MAIL: Final = MINUTE // 2
REHEARSED: Final = 10.0
"""Seconds that a mail server has for an answer where plans of seconds are allowed."""
STALE_AFTER_TICKS: Final = 12
MARK_LIVES: Final = MINUTE

log = logging.getLogger("afterword.compose")


@dataclass(frozen=True, slots=True)
class Vault:
    """An open server. Each process opens its own; a fork must not share one."""

    settings: Settings
    records: Records
    objects: Objects
    custodian: Custodian


def settle(settings: Settings) -> None:
    """Before a part of a server begins that no parent has started: what `found` does for a whole one."""
    database = open_database(settings.database)
    try:
        _settle(database)
        database.migrate()
        database.check(*VITAL)
    finally:
        database.close()


def _settle(database: Database) -> None:
    try:
        database.settle()
    except NoSpace as wrong:
        # Nothing of it is lost, and check-ins find the room that is kept for them.
        log.error("the log stays as it is: %s", wrong)


def found(settings: Settings, label: str = "Afterword server") -> bool:
    """Bring the database up to date, and on a fresh one make the server's keys; true if it was fresh."""
    clock = SystemClock()
    database = open_database(settings.database)
    try:
        _settle(database)
        database.migrate()
        records = Records(database, clock, settings.tick)
        if records.server() is not None:
            database.check(*VITAL)
            _forget_drafts(settings.server_key_file)
            return False
        if not settings.server_key_file.exists():
            with keeping.told("The server key"):
                _write_key(settings.server_key_file, age.Identity(os.urandom(32)))
        key = read_key(settings.server_key_file)
        keyring, card = custodian.found(key, label, clock.wall(), os.urandom)
        with database.transaction():
            if records.server() is None:
                records.found_service(secrets.token_hex(16))
                records.add_server(Server(keyring, card, str(key.recipient), None, 0))
        return True
    finally:
        database.close()


def open_vault(settings: Settings, disk: Disk | None = None) -> Vault:
    """The server whose data these settings name. `Refused` when there is none, or the key is not its own. `disk`
    tells the caller whether what this process writes is still taken."""
    disk = disk or Disk()
    database = open_database(settings.database, disk)
    database.migrate()
    return assemble(settings, database, open_objects(settings.objects, disk))


def assemble(settings: Settings, database: Database, objects: Objects) -> Vault:
    """An open vault over hands that somebody else chose."""
    records = Records(database, SystemClock(), settings.tick)
    server = records.server()
    if server is None:
        raise Refused("There is no server here yet; run `afterword serve --data FOLDER`.", code="no-server")
    key = read_key(settings.server_key_file)
    if str(key.recipient) != server.key_recipient:
        raise Refused(
            "The server key is not the one of this database; point AFTERWORD_SERVER_KEY_FILE at the copy you keep.",
            code="wrong-server-key",
        )
    return Vault(
        settings, records, objects, custodian.open_custodian(key, server.keyring, server.card, os.urandom)
    )


@keeping.told("What is restored")
def restore(settings: Settings, source: Path, *, anyway: bool = False) -> tuple[int, Copied]:
    """A server out of a backup (a file, or the newest in a folder), only where there is none yet.

    How many switches begin their ladder anew, and what became of the objects. Interrupted, it can be run again.
    `anyway`: even though objects are lost.
    """
    file = max(source.glob("*.backup"), default=None) if source.is_dir() else source
    if file is None:
        raise NotFound(f"There is no backup in {source}.", code="no-backup")
    scheme, _, place = settings.database.partition("://")
    if scheme != "sqlite":
        raise BadUsage("Restore into SQLite: set AFTERWORD_DATABASE=sqlite:///…", code="bad-setting")
    target = Path("/" + place.lstrip("/"))
    with _draft(target) as draft:
        # A log without its database would be taken for the new one's, and spoil it.
        for there in (target, *_beside(target)):
            if there.exists():
                raise _lives_there(there)
        key = read_key(settings.server_key_file)
        make_folder(target.parent)
        try:
            keeping.open_backup(file, key, draft)
        except Untrusted as wrong:
            raise Refused(
                f"{file.name} does not open ({wrong}) Point AFTERWORD_SERVER_KEY_FILE at the key of the server that "
                "was backed up, or take another backup.",
                code="wrong-server-key",
            ) from None
        begun, back = _come_back(settings, draft, file.parent, anyway=anyway)
        # Only now is there a server under its name. Not over one that was started here meanwhile: what is in its log
        # would be taken for this one's.
        try:
            os.link(draft, target)
        except FileExistsError:
            raise _lives_there(target) from None
        settle_folder(target.parent)
    return begun, back


def _come_back(settings: Settings, draft: Path, folder: Path, *, anyway: bool) -> tuple[int, Copied]:
    """Judge what was in the backup, bring in the objects from its `folder`, and let its new life begin."""
    database = open_database(f"sqlite:///{draft.absolute()}")
    try:
        database.migrate()
        database.check()
        vault = assemble(settings, database, open_objects(settings.objects))
        unsound = tuple(str(each) for each in soundness.flaws(vault.records, vault.custodian))
        if unsound and not anyway:
            raise Refused(
                f"This backup does not keep what its server had promised, in {len(unsound)} places: {unsound[0]}. "
                "Nothing was restored. Take an older backup; if none is sound, --anyway restores what is, and names "
                "the rest.",
                code="unsound",
            )
        back = keeping.bring_objects(vault.records, vault.objects, folder, anyway=anyway)
        begun = keeping.begin_anew(vault.records, vault.custodian, secrets.token_hex(16))
        if not database.forget():
            raise Conflict("Another process reads what is being restored; try again.", code="busy")
    finally:
        database.close()
    return begun, replace(back, unsound=unsound)


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Where a database is made whole before it gets its name. Nothing of it stays, whatever comes of it."""

    def clear() -> None:
        for left in target.parent.glob(f"{target.name}.restored*"):
            left.unlink(missing_ok=True)

    clear()
    try:
        # Under a name of its own: of two restores at once, neither may give the other's half its name.
        yield target.with_name(f"{target.name}.restored-{secrets.token_hex(4)}")
    finally:
        clear()


def _lives_there(there: Path) -> Refused:
    return Refused(
        f"{there} exists; a backup is restored only where there is no server, and none is started meanwhile. Choose "
        "another folder with --data.",
        code="not-empty",
    )


def _beside(database: Path) -> tuple[Path, ...]:
    """SQLite's log and index."""
    return tuple(database.with_name(database.name + end) for end in ("-wal", "-shm"))


def read_key(path: Path) -> age.Identity:
    """The server key: one line of an age identity file, `AGE-SECRET-KEY-PQ-1…`."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BadUsage(
            f"The server key {path} cannot be read; give its place in AFTERWORD_SERVER_KEY_FILE.",
            code="no-server-key",
        ) from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    try:
        (key,) = keys
        return age.Identity.read(key)
    except (ValueError, Malformed):
        raise BadUsage(f"{path} is not a server key; use the copy you keep.", code="no-server-key") from None


def make_key(path: Path) -> None:
    """A server key for a server still to be founded. Never over one that is there."""
    with keeping.told("The server key"):
        try:
            _write_key(path, age.Identity(os.urandom(32)))
        except FileExistsError:
            raise Refused(f"{path} exists; a server key is never overwritten.", code="key-exists") from None


def _write_key(path: Path, key: age.Identity) -> None:
    text = f"# The key of an Afterword server. Keep a copy apart from its data.\n{key.write()}\n"
    make_folder(path.parent)
    # Whole or not at all: half a key would be a server that nobody can open again. And never through a name that an
    # interrupted attempt may have left: it can be the key itself under its second name.
    draft = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
    _forget_drafts(path)
    settle_folder(path.parent)


def _forget_drafts(path: Path) -> None:
    """What a start that was killed left beside the key: another key, or a second name of this one."""
    for left in path.parent.glob(f"{path.name}.new*"):
        with contextlib.suppress(OSError):  # a folder of credentials may be for reading only
            left.unlink()


def watch_ticker(vault: Vault, say: Callable[[str], None]) -> Callable[[], None]:
    """One beat of the watch: move what is due, let what has cooled take effect, now and then tidy up."""
    keeper = watch.Watch(vault.records, vault.custodian, mass_hold=vault.settings.mass_hold)
    ballast = Ballast(vault.settings.data, vault.settings.low_water)
    standing: set[str] = set()
    tidied = [-HOUSEKEEPING]

    def tick() -> None:
        if ballast.mind():
            say("The disk is full. The room kept for check-ins is given up now; make room at once.")
        ticked = keeper.tick()
        cooling.take_effect(vault.records, vault.custodian)
        for dossier in set(ticked.standing) - standing:
            say(
                f"The switch of dossier {dossier} cannot be moved and stands still; see `afterword operator status`."
            )
        standing.clear()
        standing.update(ticked.standing)
        boot = vault.records.clock.boot()
        if boot - tidied[0] >= HOUSEKEEPING:
            tidied[0] = boot
            _tidy(vault)

    return tick


def examiner(vault: Vault) -> Callable[[], None]:
    """Reads what is vital, every page and index of it: an index that has lost a line would let its switch stand still
    for ever, and say nothing. In a thread of its own, because a million switches take minutes; and then it rests for
    twenty times as long as it took."""
    rested = [0]

    def examine() -> None:
        began = vault.records.clock.boot()
        if began >= rested[0]:
            vault.records.db.check(*VITAL)
            ended = vault.records.clock.boot()
            rested[0] = ended + 20 * (ended - began)

    return examine


def _tidy(vault: Vault) -> None:
    """Housekeeping: an object store that does not work must not keep a single switch from moving."""
    try:
        accounts.forget_expired(vault.records)
        deposit.sweep(vault.records, vault.objects)
        # Whoever deleted a secret asked for this at once, and may have found a reader in the way.
        vault.records.db.forget(copies=False)
    except DiskFailed:
        raise
    except Exception as wrong:
        log.error("tidying up failed: %s", type(wrong).__name__)


def public_url(vault: Vault) -> str | None:
    """The address that the world knows this server by: the one it was given now, or the one that it remembers."""
    server = vault.records.server()
    if server is None:
        raise Damaged("The row about the server itself is gone; restore a backup.")
    return vault.settings.url or server.url


def remember_url(vault: Vault) -> None:
    """Keep the address that the server is started with; one that leads only to this computer makes it forget."""
    given, server = vault.settings.url, vault.records.server()
    if given is None or server is None:
        return
    kept = None if is_local(given) else given
    if server.url != kept:
        with vault.records.transaction():
            vault.records.save_url(kept)


def door(vault: Vault, here: str, timeout: int) -> Door:
    """Where the watch knocks. A server that has forgotten nothing but its setting, or a copy of one on another
    computer, must not knock at its own loopback (`here`) and take that for the world."""
    settings = vault.settings
    return Door(
        settings.probe_url or public_url(vault) or here, settings.probe_proxy, timeout, settings.witness_urls
    )


def heartbeat(vault: Vault, outside: Heartbeat) -> Callable[[], None]:
    """Tell an outside watcher that all is well, now and then; once that it is not, and then nothing until it is."""
    clock, settings = vault.records.clock, vault.settings
    begun = clock.boot()
    cried = False

    def beat() -> None:
        nonlocal cried
        if clock.boot() - begun < FRESH_TICKS * settings.tick:
            return
        row = vault.records.service()
        if row is not None and row.boot != clock.boot_id():
            return  # another host counts, and speaks
        try:
            ill = bool(alarms.ailments(vault.records, settings.mail is not None))
        except DiskFailed:
            raise
        except Damaged:
            ill = True  # if it is what moves switches, the tick finds it and stops
        if ill:
            cried = cried or outside.ill()
            return
        cried = False
        if outside.well():
            with vault.records.transaction() as now:
                vault.records.save_pulse(now.lived)

    return beat


def knock(vault: Vault, door: Door) -> bool:
    """Whether a check-in could come in through the public door, and to this very database: if another server stands
    at our address (the one this is a copy or a backup of), people check in there, and no time must count here."""
    mark = secrets.token_hex(32)
    with vault.records.transaction() as now:
        vault.records.leave_mark(mark, now.lived + MARK_LIVES)
    return door.opens(mark)


def note_probe(vault: Vault, reached: bool) -> None:
    """What the knock at the public door found."""
    if reached:
        vault.records.note_probe(vault.records.clock.boot())


def courier(settings: Settings) -> Courier:
    """Where letters are handed over. `BadUsage` without AFTERWORD_SMTP: a server that cannot write must say so."""
    if settings.mail is None:
        raise BadUsage(
            "No mail server is set, so no warning could ever be sent; set AFTERWORD_SMTP=smtp://HOST:PORT.",
            code="no-mail",
        )
    # With ticks of a fifth of a second a line that hangs must be free again before a whole ladder has passed.
    shorter = {"patience": REHEARSED, "whole_patience": 2 * REHEARSED} if settings.short else {}
    return SmtpCourier(settings.mail, authorities=settings.mail.authorities, **shorter)


def sender(settings: Settings, host: str | None = None) -> Sender:
    mail = settings.mail
    return Sender(
        address=mail.sender if mail is not None else "afterword@localhost",
        host=host or settings.url,
        operators=settings.operator_addresses,
        operator_language=settings.operator_language,
    )


def deliver_some(vault: Vault, courier: Courier, sender: Sender, turns: Turns | None = None) -> int:
    """Try letters that are due now; how many were accepted. One line of those that share `turns`, each with a courier
    of its own."""
    accepted = 0
    clock = vault.records.clock
    began = clock.boot()
    alone = turns is None
    turns = turns or turns_of(vault, courier, sender, lines=1)

    def landed(now: Moment, carried: Letter) -> None:
        watch.landed(vault.records, vault.custodian, now, carried)

    # Not for ever: its caller wants to know whether to stop.
    while clock.boot() - began <= SLOW_MAIL:
        with turns.next() as letter:
            if letter is None:
                break
            try:
                accepted += outbox.deliver(
                    vault.records,
                    vault.custodian,
                    courier,
                    sender,
                    letter,
                    landed,
                    random.random(),  # noqa: S311 jitter
                    turns.roads,
                )
            except DiskFailed:
                raise
            except Exception as wrong:
                # Its lease ends by itself; the letters behind it do not wait.
                log.error("letter %s was put aside: %s", letter.id, type(wrong).__name__)
    if alone:
        turns.give_back()
    return accepted


@dataclass(frozen=True, slots=True)
class Line:
    """One of several that carry letters at the same time, each from its own thread over its own connection."""

    vault: Vault
    courier: Courier
    sender: Sender
    turns: Turns

    def deliver(self) -> int:
        return deliver_some(self.vault, self.courier, self.sender, self.turns)

    def close(self) -> None:
        self.turns.give_back()
        self.courier.close()


def deliver_lines(vault: Vault, sender: Sender) -> tuple[Line, ...]:
    """All lines of one deliverer."""
    couriers = [courier(vault.settings) for _ in range(LINES)]
    turns = turns_of(vault, couriers[0], sender)
    return tuple(Line(vault, each, sender, turns) for each in couriers)


def turns_of(vault: Vault, courier: Courier, sender: Sender, lines: int = LINES) -> Turns:
    """Who is next, for so many lines together. A letter to the operator goes to every address in one go."""
    return Turns(vault.records, courier.longest * max(1, len(sender.operators)), lines)


def ticking(vault: Vault) -> bool:
    """Whether the watch itself has ticked lately: time is moved on by every transaction, switches only by the watch."""
    row = vault.records.service()
    if row is None:
        raise Damaged("The row of service time is gone.")
    clock = vault.records.clock
    beat = vault.records.last_beat()
    return (
        row.boot == clock.boot_id()
        and beat is not None
        and 0 <= clock.boot() - beat <= STALE_AFTER_TICKS * vault.settings.tick
    )
