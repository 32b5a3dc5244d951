"""What the operator decides, read once from the environment and the command line.

Rule of this room: a setting is read here or nowhere; every `AFTERWORD_X` may be given as `AFTERWORD_X_FILE`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from vault.clock import HOUR, SECOND
from vault.errors import BadUsage

PORT: Final = 8470
GIB: Final = 1024**3
NEARLY_FULL: Final = 80
"""Per cent of a quota, from which on it is said."""
_LANGUAGES: Final = ("en", "es")
_LARGEST: Final = 2**62
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS_OF_TWO: Final = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, slots=True)
class Mail:
    """Where letters are handed over: smtp://, smtp+starttls:// or smtps://, with login in the address."""

    host: str
    port: int
    tls: str
    user: str | None
    password: str | None
    sender: str
    authorities: Path | None = None

    def __repr__(self) -> str:
        return f"<Mail {self.host}:{self.port} {self.tls}>"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a server process needs to know before it starts. Durations in ms, sizes in bytes."""

    data: Path
    database: str
    objects: str
    server_key_file: Path
    url: str | None
    bind: str
    port: int
    short: bool
    mail: Mail | None
    operator_addresses: tuple[str, ...]
    operator_language: str
    probe_url: str | None
    probe_proxy: str | None
    quota: int
    low_water: int
    workers: int
    threads: int
    mass_hold: bool = True
    witness_urls: tuple[str, ...] = ()
    heartbeat_url: str | None = field(default=None, repr=False)  # whoever knows it can speak for us

    @property
    def tick(self) -> int:
        return 200 if self.short else 5 * SECOND

    @property
    def shortest_dwell(self) -> int:
        return 4 * self.tick

    @property
    def shortest_ladder(self) -> int:
        return 0 if self.short else 24 * HOUR

    @property
    def shortest_cooling(self) -> int:
        return 0 if self.short else 72 * HOUR


def read_settings(
    environment: Mapping[str, str] = os.environ,
    *,
    data: Path | None = None,
    bind: str | None = None,
    port: int | None = None,
    url: str | None = None,
    short: bool | None = None,
) -> Settings:
    """Settings from `AFTERWORD_…`, what is given here on the command line first."""

    def setting(name: str, otherwise: str | None = None) -> str | None:
        if (path := environment.get(f"AFTERWORD_{name}_FILE")) and name != "SERVER_KEY":
            try:
                return Path(path).read_text(encoding="utf-8").strip()
            except OSError as wrong:
                raise BadUsage(
                    f"AFTERWORD_{name}_FILE cannot be read ({wrong.strerror}); let the user that this runs as read it.",
                    code="bad-setting",
                ) from None
        return environment.get(f"AFTERWORD_{name}") or otherwise

    def number(name: str, otherwise: int, least: int, most: int) -> int:
        text = setting(name) or str(otherwise)
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise BadUsage(
                f"AFTERWORD_{name} is {text!r}; a whole number from {least} to {most} is needed.",
                code="bad-setting",
            )
        return int(text)

    def switch(name: str, otherwise: str) -> bool:
        text = setting(name, otherwise)
        if text not in ("on", "off"):
            raise BadUsage(f"AFTERWORD_{name} is {text!r}; write on or off.", code="bad-setting")
        return text == "on"

    def size(name: str, otherwise: int) -> int:
        text = setting(name) or str(otherwise)
        try:
            return read_size(text)
        except BadUsage as wrong:
            raise BadUsage(f"AFTERWORD_{name}: {wrong}", code="bad-setting") from None

    folder = data or Path(setting("DATA") or "afterword-data")
    key = environment.get("AFTERWORD_SERVER_KEY_FILE")
    smtp = setting("SMTP")
    public = url or setting("URL")
    if public is not None:
        public = public.rstrip("/")
        check_url(public)
    probe, proxy = setting("PROBE_URL"), setting("PROBE_PROXY")
    if proxy is not None and not _leads_to_tor(proxy):
        raise BadUsage("AFTERWORD_PROBE_PROXY is written socks5h://HOST:PORT.", code="bad-setting")
    language = setting("OPERATOR_LANGUAGE", "en") or "en"
    if language not in _LANGUAGES:
        raise BadUsage(f"AFTERWORD_OPERATOR_LANGUAGE is {language!r}; write en or es.", code="bad-setting")
    witnesses = tuple((setting("WITNESS_URL") or "").replace(",", " ").split())
    heartbeat = setting("HEARTBEAT_URL")
    for name, outside in (
        ("PROBE_URL", (probe,) if probe else ()),
        ("WITNESS_URL", witnesses),
        ("HEARTBEAT_URL", (heartbeat,) if heartbeat else ()),
    ):
        if not all(map(_usable, outside)):
            raise BadUsage(
                f"AFTERWORD_{name} cannot be used: write https://…; plain http is only for 127.0.0.1 and .onion "
                "addresses.",
                code="bad-setting",
            )
    return Settings(
        data=folder,
        database=setting("DATABASE") or f"sqlite:///{folder.absolute()}/afterword.db",
        objects=setting("OBJECTS") or f"file:///{folder.absolute()}/objects",
        server_key_file=Path(key) if key else folder / "server.key",
        url=public,
        bind=bind or setting("BIND") or "127.0.0.1",
        port=number("PORT", PORT, 0, 65_535) if port is None else port,
        short=switch("ALLOW_SHORT", "off") if short is None else short,
        mail=read_mail(smtp, setting("SENDER"), setting("SMTP_PASSWORD"), setting("SMTP_CA"))
        if smtp
        else None,
        operator_addresses=tuple(a for a in (setting("OPERATOR") or "").replace(",", " ").split() if a),
        operator_language=language,
        probe_url=probe,
        probe_proxy=proxy,
        quota=size("QUOTA", 20 * GIB),
        low_water=size("LOW_WATER", GIB),
        workers=number("WORKERS", 2, 1, 1_000),
        threads=number("THREADS", 32, 1, 1_000),
        mass_hold=switch("MASS_HOLD", "on"),
        witness_urls=witnesses,
        heartbeat_url=heartbeat,
    )


def read_size(text: str) -> int:
    """`50GiB`, `500 MB`, `1000000` as bytes."""
    found = re.fullmatch(r"\s*([0-9]{1,19})\s*([kmgt]i?)?b?\s*", text.lower(), re.ASCII)
    if found is None:
        raise BadUsage(f"{text!r} is not a size; write it like 50GiB or 500MB.", code="bad-size")
    size = int(found[1]) * (_UNITS | _UNITS_OF_TWO)[found[2] or ""]
    if size > _LARGEST:
        raise BadUsage(f"{text!r} is more than there is; write it like 50GiB or 500MB.", code="bad-size")
    return size


def is_local(url: str) -> bool:
    """Whether it leads only to this computer."""
    return urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        local = is_local(url) or (parts.hostname or "").endswith(".onion")
        there = bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a bracket, no such port
        return False
    return there and (parts.scheme == "https" or (parts.scheme == "http" and local))


def _leads_to_tor(proxy: str) -> bool:
    """Whether the proxy is one that is told names: any other would ask this network for them."""
    try:
        parts = urlsplit(proxy)
        return parts.scheme == "socks5h" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_url(url: str) -> None:
    """Plain http leads only to this computer or an onion service; anything else needs TLS."""
    if not _usable(url):
        raise BadUsage(
            f"{url!r} cannot be used: write https://HOST; plain http is only for 127.0.0.1 and .onion addresses.",
            code="bad-url",
        )


def read_mail(url: str, sender: str | None, password: str | None, authorities: str | None = None) -> Mail:
    """`smtp+starttls://user:password@host:587` as what the courier needs."""
    parts = urlsplit(url)
    tls = {"smtp": "none", "smtp+starttls": "starttls", "smtps": "tls"}.get(parts.scheme)
    try:
        port = parts.port
    except ValueError:
        tls = None
    if tls is None or not parts.hostname:
        raise BadUsage(
            "AFTERWORD_SMTP is written smtp://HOST:PORT, smtp+starttls://USER:PASSWORD@HOST or smtps://…",
            code="bad-setting",
        )
    return Mail(
        host=parts.hostname,
        port=port or {"none": 25, "starttls": 587, "tls": 465}[tls],
        tls=tls,
        user=None if parts.username is None else unquote(parts.username),
        password=password or (None if parts.password is None else unquote(parts.password)),
        sender=sender or f"afterword@{parts.hostname}",
        authorities=Path(authorities) if authorities else None,
    )
