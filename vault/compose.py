"""Everything a server process needs, opened and put together.

Rule of this room: the only place that knows which database, which objects, which courier; the bag is for doors.
"""

import contextlib
import logging
import os
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault import accounts, age, cooling, custodian, deposit, keeping, outbox, watch
from vault.clock import HOUR, MINUTE, SystemClock
from vault.couriers import Courier
from vault.couriers.probe import Door
from vault.couriers.smtp import SmtpCourier
from vault.custodian import Custodian
from vault.errors import BadUsage, Conflict, Damaged, Malformed, NotFound, Refused, Untrusted
from vault.keeping import Copied
from vault.outbox import Sender
from vault.service import Moment
from vault.settings import Settings
from vault.storage.ballast import Ballast
from vault.storage.database import Database, open_database
from vault.storage.objects import Objects, open_objects
from vault.storage.records import Records
from vault.storage.records.rows import Letter
from vault.storage.records.switches import Server

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
    "outbox",
)
"""What must read for anybody to be warned or released to; small, whatever people deposit."""
LETTERS_AT_ONCE: Final = 20
SLOW_MAIL: Final = MINUTE // 2
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


def found(settings: Settings, label: str = "Afterword server") -> bool:
    """Bring the database up to date, and on a fresh one make the server's keys; true if it was fresh."""
    clock = SystemClock()
    database = open_database(settings.database)
    try:
        database.migrate()
        records = Records(database, clock, settings.tick)
        if records.server() is not None:
            database.check(*VITAL)
            _forget_drafts(settings.server_key_file)
            return False
        if not settings.server_key_file.exists():
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


def open_vault(settings: Settings) -> Vault:
    """The server whose data these settings name. `Refused` when there is none, or the key is not its own."""
    database = open_database(settings.database)
    database.migrate()
    return assemble(settings, database, open_objects(settings.objects))


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
    # A log without its database would be taken for the new one's, and spoil it.
    for there in (target, *_beside(target)):
        if there.exists():
            raise Refused(
                f"{there} exists; a backup is restored only where there is no server. Choose another folder with "
                "--data.",
                code="not-empty",
            )
    key = read_key(settings.server_key_file)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".restored")
    for left in (draft, *_beside(draft)):
        left.unlink(missing_ok=True)
    try:
        keeping.open_backup(file, key, draft)
    except Untrusted as wrong:
        raise Refused(
            f"{file.name} does not open ({wrong}) Point AFTERWORD_SERVER_KEY_FILE at the key of the server that was "
            "backed up, or take another backup.",
            code="wrong-server-key",
        ) from None
    database = open_database(f"sqlite:///{draft.absolute()}")
    try:
        database.migrate()
        database.check()
        vault = assemble(settings, database, open_objects(settings.objects))
        back = keeping.bring_objects(vault.records, vault.objects, file.parent, anyway=anyway)
        begun = keeping.begin_anew(vault.records, vault.custodian, secrets.token_hex(16))
        if not database.forget():
            raise Conflict("Another process reads what is being restored; try again.", code="busy")
    finally:
        database.close()
    # Only now is there a server under its name.
    draft.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return begun, back


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
    try:
        _write_key(path, age.Identity(os.urandom(32)))
    except FileExistsError:
        raise Refused(f"{path} exists; a server key is never overwritten.", code="key-exists") from None


def _write_key(path: Path, key: age.Identity) -> None:
    text = f"# The key of an Afterword server. Keep a copy apart from its data.\n{key.write()}\n"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _forget_drafts(path: Path) -> None:
    """What a start that was killed left beside the key: another key, or a second name of this one."""
    for left in path.parent.glob(f"{path.name}.new*"):
        with contextlib.suppress(OSError):  # a folder of credentials may be for reading only
            left.unlink()


def watch_ticker(vault: Vault, say: Callable[[str], None]) -> Callable[[], None]:
    """One beat of the watch: move what is due, let what has cooled take effect, now and then tidy up."""
    keeper = watch.Watch(vault.records, vault.custodian)
    ballast = Ballast(vault.settings.data, vault.settings.low_water)
    standing: set[str] = set()
    tidied = [-HOUSEKEEPING]
    checked = [-CHECKED]

    def tick() -> None:
        boot = vault.records.clock.boot()
        if boot - checked[0] >= CHECKED:
            # An index that has lost a line would let its switch stand still for ever, and say nothing.
            vault.records.db.check(*VITAL)
            checked[0] = boot
        if ballast.mind():
            say("The disk is full. The room kept for check-ins is given up now; make room at once.")
        ticked = keeper.tick()
        cooling.take_effect(vault.records, vault.custodian)
        for dossier in set(ticked.standing) - standing:
            say(
                f"The switch of dossier {dossier} does not read and stands still; see `afterword operator status`."
            )
        standing.clear()
        standing.update(ticked.standing)
        boot = vault.records.clock.boot()
        if boot - tidied[0] >= HOUSEKEEPING:
            tidied[0] = boot
            _tidy(vault)

    return tick


def _tidy(vault: Vault) -> None:
    """Housekeeping: an object store that does not work must not keep a single switch from moving."""
    try:
        accounts.forget_expired(vault.records)
        deposit.sweep(vault.records, vault.objects)
        # Whoever deleted a secret asked for this at once, and may have found a reader in the way.
        vault.records.db.forget(copies=False)
    except Exception as wrong:
        log.error("tidying up failed: %s", type(wrong).__name__)


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
    return SmtpCourier(settings.mail, authorities=settings.mail.authorities)


def sender(settings: Settings, host: str | None = None) -> Sender:
    mail = settings.mail
    return Sender(
        address=mail.sender if mail is not None else "afterword@localhost",
        host=host or settings.url,
        operators=settings.operator_addresses,
        operator_language=settings.operator_language,
    )


def deliver_some(vault: Vault, courier: Courier, sender: Sender) -> int:
    """Try letters that are due now; how many were accepted."""
    accepted = 0
    clock = vault.records.clock
    began = clock.boot()
    claimed = outbox.claim(vault.records, LETTERS_AT_ONCE)
    for place, letter in enumerate(claimed):
        if clock.boot() - began > SLOW_MAIL:
            # Whoever has posted meanwhile gets a turn first.
            outbox.give_back(vault.records, claimed[place:])
            break

        def landed(now: Moment, carried: Letter) -> None:
            watch.landed(vault.records, vault.custodian, now, carried)

        try:
            accepted += outbox.deliver(
                vault.records,
                vault.custodian,
                courier,
                sender,
                letter,
                landed,
                random.random(),  # noqa: S311 jitter
            )
        except Exception as wrong:
            # Its lease ends by itself; the letters behind it do not wait.
            log.error("letter %s was put aside: %s", letter.id, type(wrong).__name__)
    return accepted


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
