"""The web part of a server: gunicorn, as we want it.

Rule of this room: no address of anybody reaches a log, and no word of a request either; workers end with their
parent, so that the next start finds the port free.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from vault.errors import AfterwordError
from vault.settings import Settings
from web.serve import DRAIN, tie_to_parent

if TYPE_CHECKING:
    from flask import Flask

KEEP_ALIVE: Final = 75  # seconds; longer than a proxy keeps idle connections, else it runs into closed ones
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a heartbeat file of gunicorn's own naming, unlinked at once


def run_web(settings: Settings, listener: socket.socket, load: Callable[[], "Flask"]) -> None:
    """Serve until SIGTERM, then finish what is under way. `load` runs in every worker. Exits by itself."""
    _Gunicorn(settings, listener, load).run()


class _Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Turns new connections away while it finishes what is under way; gunicorn's own leaves them hanging."""

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()


class QuietLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's log without clients' addresses, requests, and what tracebacks hold."""

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:  # Any: gunicorn's own signature
        if not str(msg).startswith("Invalid request from"):
            super().warning(msg, *args)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:  # Any: gunicorn's own signature
        super().error(msg, *args)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:  # Any: gunicorn's own signature
        kind = sys.exc_info()[0]
        super().error("%s in a web worker", kind.__name__ if kind else "fault")

    def access(self, *args: object) -> None:
        """There is no access log, whatever the environment says."""


class _Gunicorn(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, settings: Settings, listener: socket.socket, load: Callable[[], "Flask"]) -> None:
        self._settings = settings
        self._bind = f"fd://{listener.detach()}"  # from here on gunicorn's, which closes it when it drains
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, object] = {
            "bind": self._bind,
            "workers": self._settings.workers,
            "threads": self._settings.threads,
            "worker_class": _Worker,
            "timeout": 120,
            "graceful_timeout": DRAIN,
            "keepalive": KEEP_ALIVE,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "warning",
            "logger_class": QuietLog,
            "sendfile": False,
            "control_socket_disable": True,
            "proc_name": "afterword",
            "umask": 0o077,
            "limit_request_fields": 40,
            "forwarded_allow_ips": "",
            "post_fork": _after_fork,
        }
        if _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK):
            options["worker_tmp_dir"] = str(_IN_MEMORY)
        for name, value in options.items():
            self.cfg.set(name, value)
        Response.default_headers = _without_banner

    def load(self) -> "Flask":
        try:
            return self._load()
        except AfterwordError as refusal:
            # The only failure of a start whose sentence gunicorn shows.
            raise AppImportError(f"{refusal} [{refusal.code}]") from None


_default_headers = Response.default_headers


def _without_banner(response: Response) -> list[str]:
    """Which program answers is nobody's business."""
    return [line for line in _default_headers(response) if not line.startswith("Server:")]


def _after_fork(arbiter: Any, worker: object) -> None:  # Any: gunicorn has no types
    tie_to_parent(arbiter.pid)
