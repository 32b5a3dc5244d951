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
from vault.clock import SystemClock
from vault.settings import Settings, read_settings

if TYPE_CHECKING:
    from flask import Flask

    from vault.compose import Vault
    from web.serve import Part

F = TypeVar("F", bound=Callable[..., object])

PROBE_PATIENCE: Final = 10_000


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
        from vault import compose

        if settings.mail is not None:
            # Said now, to whoever starts it, and not by a deliverer that dies again and again.
            compose.courier(settings).close()
        fresh = compose.found(settings)
        vault = compose.open_vault(settings)
        url = settings.url or address
        terminal.result(f"Afterword serves {url} from {settings.data}")
        terminal.result(f"The ten words of its card: {' '.join(vault.custodian.card.fingerprint.words())}")
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
    from web.serve import LISTENER, PARENT, Part

    def command(name: str, *more: str) -> list[str]:
        # The console script's own words, and never what happens to lie in the current folder.
        start = [sys.executable, "-P", "-c", "from cli.main import run; run()", "operator", name]
        given = ["--data", str(settings.data), "--bind", settings.bind, "--port", str(settings.port)]
        if settings.url is not None:
            given += ["--url", settings.url]
        if settings.short:
            given += ["--allow-short"]
        return [*start, *given, *more, "--parent", PARENT]

    parts = [
        Part("web", command("web", "--listener", LISTENER)),
        Part("watch", command("watch", "--address", address)),
    ]
    if settings.mail is not None:
        parts.append(Part("deliver", command("deliver", "--address", address)))
    return parts


def _tie(parent: int | None) -> None:
    if parent is not None:
        from web.serve import tie_to_parent

        tie_to_parent(parent)


@click.command()
@server_options
@click.option("--listener", type=int, hidden=True)
@click.option("--parent", type=int, hidden=True)
def web(settings: Settings, listener: int | None, parent: int | None) -> None:
    """Answer requests; nothing else."""
    _tie(parent)
    from web.listener import address_of, listen, take_over
    from web.workers import run_web

    def load() -> "Flask":
        from vault import compose
        from web import create_app

        return create_app(compose.open_vault(settings))

    if listener is None:
        socket = listen(settings.bind, settings.port)
        terminal.result(f"Answering at {address_of(socket)}")
    else:
        socket = take_over(listener)
    run_web(settings, socket, load)


@click.command()
@server_options
@click.option("--parent", type=int, hidden=True)
@click.option("--address", hidden=True)
def watch(settings: Settings, parent: int | None, address: str | None) -> None:
    """Let the switches tick; nothing else."""
    _tie(parent)
    from vault import compose
    from vault.couriers.probe import Door
    from vault.scheduler import run_watch, until_told
    from vault.service import PROBE_TICKS

    stop = until_told()
    vault = compose.open_vault(settings)
    door = Door(
        settings.probe_url or settings.url or address or address_here(settings),
        settings.probe_proxy,
        PROBE_PATIENCE,
    )
    run_watch(
        compose.watch_ticker(vault, terminal.warn),
        settings.tick,
        lambda: compose.knock(vault, door),
        PROBE_TICKS * settings.tick,
        lambda opened: compose.note_probe(vault, opened),
        stop,
    )


@click.command()
@server_options
@click.option("--parent", type=int, hidden=True)
@click.option("--address", hidden=True)
def deliver(settings: Settings, parent: int | None, address: str | None) -> None:
    """Hand over the letters that are waiting; nothing else."""
    _tie(parent)
    from vault import compose
    from vault.scheduler import run_deliver, until_told

    stop = until_told()
    vault = compose.open_vault(settings)
    courier = compose.courier(settings)
    sender = compose.sender(settings, settings.url or address or address_here(settings))
    try:
        run_deliver(lambda: compose.deliver_some(vault, courier, sender), settings.tick, stop)
    finally:
        courier.close()


def write_invite(vault: "Vault", url: str) -> str:
    from vault.accounts import invite_journalist

    code = invite_journalist(vault.records, vault.custodian)
    return f"{url.rstrip('/')}/join#{code}.{vault.custodian.card.fingerprint.write()}"


def address_here(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104  # read, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
