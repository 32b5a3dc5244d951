"""Running a server: all of it under one parent, or part by part.

Rule of this room: it opens, ties and starts; what a part does is decided elsewhere.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cli import terminal
from vault.clock import MINUTE, SystemClock
from vault.settings import Settings, read_settings

if TYPE_CHECKING:
    from flask import Flask

    from vault.compose import Vault
    from web.serve import Part

F = TypeVar("F", bound=Callable[..., object])

PROBE_PATIENCE: Final = 10_000
MOST_SILENT_WEB: Final = 2 * MINUTE
MOST_SILENT_DELIVERER: Final = 15 * MINUTE
"""A round may be one letter to several addresses of the operator, each with the whole patience of a courier."""


def server_options(command: F) -> F:
    """The options that name a server; the command gets them as one `settings`."""

    @click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="The server's folder. [AFTERWORD_DATA]",
    )
    @click.option("--bind", help="Address to listen on. [AFTERWORD_BIND, 127.0.0.1]")
    @click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        help="Port to listen on; 0 lets the system choose. [AFTERWORD_PORT, 8470]",
    )
    @click.option("--url", help="The server's public address. [AFTERWORD_URL]")
    @click.option("--allow-short", is_flag=True, help="Allow plans of seconds: for rehearsals only.")
    @functools.wraps(command)
    def with_settings(
        data: Path | None,
        bind: str | None,
        port: int | None,
        url: str | None,
        allow_short: bool,
        **others: Any,
    ) -> object:  # Any: whatever else the command takes
        settings = read_settings(data=data, bind=bind, port=port, url=url, short=allow_short or None)
        return command(settings=settings, **others)

    return with_settings  # type: ignore[return-value]  # click's decorators lose the signature


@click.command()
@server_options
def serve(settings: Settings) -> None:
    """Run a whole server: web, watch and deliverer, each a process of its own.

    On a fresh folder it makes the server's keys and prints one invite for a journalist.
    """
    from web import serve as parent

    def prepare(address: str) -> None:
        from vault import compose, founding

        if settings.mail is not None:
            # Said now, to whoever starts it, and not by a deliverer that dies again and again.
            compose.courier(settings).close()
        fresh = founding.found(settings)
        vault = compose.open_vault(settings)
        compose.remember_url(vault)
        known = compose.public_url(vault)
        url = known or address
        terminal.result(f"Afterword serves {url} from {settings.data}")
        terminal.result(f"The ten words of its card: {' '.join(vault.custodian.card.fingerprint.words())}")
        if settings.url is None and known is not None:
            terminal.warn(
                f"no address was given, so it knocks at the one that it remembers, {known}: if another server answers "
                "there, no time counts here. If this one has moved, start it with --url https://ITS-NEW-ADDRESS."
            )
        if settings.short:
            terminal.warn("plans of seconds are allowed here; this server is for rehearsals only.")
        if settings.mail is None:
            terminal.warn("no mail server is set, so no warning reaches anybody; set AFTERWORD_SMTP.")
        if fresh and parent.under_systemd():
            # What a service prints is kept in the system's journal, where a secret has no business.
            terminal.result(
                "A fresh server. For the first journalist's invite, run: afterword operator invite"
            )
        elif fresh:
            terminal.result(f"Invite for one journalist: {write_invite(vault, url)}")
            terminal.say("They run `afterword join` and paste it. For more: afterword operator invite")
        elif not vault.records.accounts():
            terminal.say("Nobody has joined yet. For an invite, run: afterword operator invite")
        vault.records.db.close()

    parent.serve(
        settings.data,
        settings.bind,
        settings.port,
        prepare,
        lambda address: _parts(settings, address),
        SystemClock(),
        terminal.say,
        terminal.result,
    )


def _parts(settings: Settings, address: str) -> Sequence["Part"]:
    from web.serve import LISTENER, PARENT, PULSE, Part

    def command(name: str, *more: str) -> list[str]:
        # The console script's own words, and never what happens to lie in the current folder.
        start = [sys.executable, "-P", "-c", "from cli.main import run; run()", "operator", name]
        given = ["--data", str(settings.data), "--bind", settings.bind, "--port", str(settings.port)]
        if settings.url is not None:
            given += ["--url", settings.url]
        if settings.short:
            given += ["--allow-short"]
        return [*start, *given, *more, "--parent", PARENT, "--pulse", PULSE]

    parts = [
        Part("web", command("web", "--listener", LISTENER), MOST_SILENT_WEB),
        Part("watch", command("watch", "--address", address), max(MINUTE, 60 * settings.tick)),
    ]
    if settings.mail is not None:
        parts.append(Part("deliver", command("deliver", "--address", address), MOST_SILENT_DELIVERER))
    return parts


def _begin(settings: Settings, parent: int | None, pulse: int | None) -> Callable[[], None]:
    """What each part does first; gives what it calls to show that it lives."""
    from web.serve import pulse_into, tie_to_parent

    if parent is not None:
        tie_to_parent(parent)
    else:
        from vault import founding

        founding.settle(settings)
    return pulse_into(pulse)


def _ready() -> None:
    """For a unit of its own; under a parent nobody listens."""
    from web.serve import notify

    notify("READY=1")


@click.command()
@server_options
@click.option("--listener", type=int, hidden=True)
@click.option("--parent", type=int, hidden=True)
@click.option("--pulse", type=int, hidden=True)
def web(settings: Settings, listener: int | None, parent: int | None, pulse: int | None) -> None:
    """Answer requests; nothing else."""
    beat = _begin(settings, parent, pulse)
    from vault.storage.disk import Disk
    from web.listener import address_of, listen, take_over
    from web.workers import run_web

    # Every worker has its own copy.
    disk = Disk()

    def load() -> "Flask":
        from vault import compose
        from web import create_app

        return create_app(compose.open_vault(settings, disk))

    if listener is None:
        socket = listen(settings.bind, settings.port)
        terminal.result(f"Answering at {address_of(socket)}")
    else:
        socket = take_over(listener)
    run_web(settings, socket, load, lambda: disk.failed, beat)


@click.command()
@server_options
@click.option("--parent", type=int, hidden=True)
@click.option("--pulse", type=int, hidden=True)
@click.option("--address", hidden=True)
def watch(settings: Settings, parent: int | None, pulse: int | None, address: str | None) -> None:
    """Let the switches tick; nothing else."""
    beat = _begin(settings, parent, pulse)
    from vault import compose, rounds
    from vault.couriers.heartbeat import Heartbeat
    from vault.scheduler import Chore, run_watch, until_told
    from vault.service import FRESH_TICKS, PROBE_TICKS

    stop = until_told()
    vault = compose.open_vault(settings)
    compose.remember_url(vault)
    door = compose.door(vault, address or address_here(settings), PROBE_PATIENCE)
    look = rounds.examiner(vault)
    chores = [Chore("look", look, rounds.CHECKED)]
    if settings.heartbeat_url is not None:
        outside = Heartbeat(settings.heartbeat_url, settings.probe_proxy)
        chores.append(Chore("heartbeat", rounds.heartbeat(vault, outside), FRESH_TICKS * settings.tick))
    _ready()
    look(beat)
    run_watch(
        rounds.watch_ticker(vault, terminal.warn),
        settings.tick,
        lambda: rounds.knock(vault, door),
        PROBE_TICKS * settings.tick,
        lambda opened: rounds.note_probe(vault, opened),
        stop,
        chores,
        beat,
    )


@click.command()
@server_options
@click.option("--parent", type=int, hidden=True)
@click.option("--pulse", type=int, hidden=True)
@click.option("--address", hidden=True)
def deliver(settings: Settings, parent: int | None, pulse: int | None, address: str | None) -> None:
    """Hand over the letters that are waiting; nothing else."""
    beat = _begin(settings, parent, pulse)
    from vault import compose, rounds
    from vault.scheduler import run_deliver, until_told

    stop = until_told()
    vault = compose.open_vault(settings)
    sender = compose.sender(settings, compose.public_url(vault) or address or address_here(settings))
    lines = rounds.deliver_lines(vault, sender)
    _ready()
    try:
        run_deliver(lines[0].deliver, settings.tick, stop, beat, [line.deliver for line in lines[1:]])
    finally:
        for line in lines:
            line.close()


def write_invite(vault: "Vault", url: str) -> str:
    from vault.accounts import invite_journalist

    code = invite_journalist(vault.records, vault.custodian)
    return f"{url.rstrip('/')}/join#{code}.{vault.custodian.card.fingerprint.write()}"


def address_here(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104  # read, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
