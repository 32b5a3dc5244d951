"""A stand-in for a part of a server, or for the parent: real processes, with nothing behind them.

part.py serve FOLDER          the parent, over the three below
part.py web FOLDER FD PARENT  gunicorn; /slow answers when FOLDER/go exists, /die ends the worker
part.py watch FOLDER PARENT   does nothing until it is told to stop
part.py stubborn FOLDER PARENT  does nothing, even then
part.py lively FOLDER PARENT PULSE  shows ten times a second that it lives, unless it is stopped
part.py broken FOLDER PARENT  met a failing disk, once FOLDER/broken exists
"""

import os
import signal
import sys
import time
from pathlib import Path

from vault.clock import SystemClock
from vault.errors import DiskFailed
from vault.settings import read_settings
from web import serve as parent

name, folder = sys.argv[1], Path(sys.argv[2])


def note(what: str) -> None:
    with (folder.parent / f"{what}.pids").open("a") as file:
        file.write(f"{os.getpid()}\n")


def web(descriptor: str, started_by: str) -> None:
    from flask import Flask

    from web.listener import take_over
    from web.workers import run_web

    def load() -> Flask:
        app = Flask("stand-in")

        @app.get("/api/v1/health")
        def health() -> dict[str, bool]:
            return {"ok": True, "ticking": True}

        @app.get("/slow")
        def slow() -> str:
            note("slow")
            while not (folder.parent / "go").exists():
                time.sleep(0.01)
            return "finished"

        @app.get("/disk")
        def disk() -> tuple[str, int]:
            failed.append(True)
            return "nothing was acknowledged", 503

        @app.get("/boom")
        def boom() -> str:
            raise RuntimeError("the title of her dossier")

        note("worker")
        return app

    parent.tie_to_parent(int(started_by))
    note("web")
    environment = {"AFTERWORD_WORKERS": os.environ.get("WORKERS", "1"), "AFTERWORD_THREADS": "4"}
    failed: list[bool] = []
    run_web(read_settings(environment, data=folder), take_over(int(descriptor)), load, lambda: bool(failed))


def watch(started_by: str) -> None:
    from vault.scheduler import until_told

    parent.tie_to_parent(int(started_by))
    told = until_told()
    note("watch")
    told.wait()


def stubborn(started_by: str) -> None:
    parent.tie_to_parent(int(started_by))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("stubborn")
    while True:
        signal.pause()


def lively(started_by: str, pulse: str) -> None:
    from vault.scheduler import until_told

    parent.tie_to_parent(int(started_by))
    told = until_told()
    show = parent.pulse_into(int(pulse))
    note("lively")
    while not told.wait(0.1):
        show()


def broken(started_by: str) -> None:
    parent.tie_to_parent(int(started_by))
    note("broken")
    while not (folder.parent / "broken").exists():
        time.sleep(0.01)
    sys.exit(parent.DISK_EXIT)


def serve() -> None:
    def command(part: str, *more: str) -> list[str]:
        return [sys.executable, "-P", __file__, part, str(folder), *more]

    def prepare(address: str) -> None:
        print(f"ADDRESS {address}", flush=True)

    kind = os.environ.get("WATCH", "watch")

    def parts(address: str) -> list[parent.Part]:
        return [
            parent.Part("web", command("web", parent.LISTENER, parent.PARENT)),
            parent.Part(
                "watch",
                command(kind, parent.PARENT, *([parent.PULSE] if kind == "lively" else [])),
                int(os.environ.get("SILENCE", "4000")),
            ),
        ]

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        parent.serve(
            folder, "127.0.0.1", 0, prepare, parts, SystemClock(), say, lambda text: print(text, flush=True)
        )
    except DiskFailed as failure:
        say(str(failure))
        sys.exit(parent.DISK_EXIT)


{"serve": serve, "web": web, "watch": watch, "stubborn": stubborn, "lively": lively, "broken": broken}[name](
    *sys.argv[3:]
)
