"""Everything a server process needs, opened and put together.

Rule of this room: the only place that knows which database, which objects, which courier; the bag is for doors.
"""

import os
from dataclasses import dataclass
from typing import Final

from vault import custodian
from vault.clock import SystemClock
from vault.couriers import Courier
from vault.couriers.probe import Door
from vault.couriers.smtp import SmtpCourier
from vault.custodian import Custodian
from vault.errors import BadUsage, Damaged, Refused
from vault.keyfile import read_key
from vault.outbox import Sender
from vault.settings import Settings, is_local
from vault.storage.database import Database, file_of, open_database
from vault.storage.disk import Disk
from vault.storage.objects import Objects, open_objects
from vault.storage.records import Records

REHEARSED: Final = 10.0
"""Seconds that a mail server has for an answer where plans of seconds are allowed."""


@dataclass(frozen=True, slots=True)
class Vault:
    """An open server. Each process opens its own; a fork must not share one."""

    settings: Settings
    records: Records
    objects: Objects
    custodian: Custodian


def open_vault(settings: Settings, disk: Disk | None = None) -> Vault:
    """The server whose data these settings name. `Refused` when there is none, or the key is not its own. `disk`
    tells the caller whether what this process writes is still taken."""
    require_server(settings)
    disk = disk or Disk()
    database = open_database(settings.database, disk)
    database.migrate()
    return assemble(settings, database, open_objects(settings.objects, disk))


def require_server(settings: Settings) -> None:
    """`Refused` no-server where there is none. Whoever only looks must not leave a database behind: it would keep a
    backup from being restored there."""
    if not settings.data.is_dir() or not file_of(settings.database).exists():
        raise Refused(
            f"There is no server in {settings.data}. If yours is elsewhere, name its folder with --data or in "
            f"AFTERWORD_DATA; to make a new one here: afterword serve --data {settings.data}",
            code="no-server",
        )


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
