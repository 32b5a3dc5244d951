"""The web part of a server: gunicorn, as we want it.

Rule of this room: no address of anybody reaches a log, and no word of a request either; workers end with their
parent, so that the next start finds the port free. A worker that may not write any more ends, and ends the others.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from vault.errors import AfterwordError, DiskFailed
from vault.settings import Settings
from web.serve import DISK_EXIT, DRAIN, tie_to_parent

if TYPE_CHECKING:
    from flask import Flask

KEEP_ALIVE: Final = 75  # seconds; longer than a proxy keeps idle connections, else it runs into closed ones
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a heartbeat file of gunicorn's own naming, unlinked at once


TIMEOUT: Final = 120  # seconds in which a worker's own loop must turn
_LAST_WORDS: Final = 0.5  # seconds
_STALL: Final = (
    5  # seconds; a master that did not turn for so long was stopped, and its workers may have been too
)


def run_web(
    settings: Settings,
    listener: socket.socket,
    load: Callable[[], "Flask"],
    failed: Callable[[], bool] = lambda: False,
    pulse: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM, then finish what is under way. `load` runs in every worker. Exits by itself: with
    `DISK_EXIT` when `failed` became true in one of them. `pulse` is called about once a second."""
    _Gunicorn(settings, listener, load, failed, pulse).run()


class _Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Does not start a worker again that met a failing disk, and kills none for having been stopped with itself."""

    def __init__(self, app: "_Gunicorn") -> None:
        self._pulse = app.pulse
        self._turned = self._stalled = time.monotonic()
        super().__init__(app)

    def murder_workers(self) -> None:
        self._pulse()
        now = time.monotonic()
        if now - self._turned > _STALL:
            self._stalled = now
        self._turned = now
        if now - self._stalled > TIMEOUT:
            super().murder_workers()

    def reap_workers(self) -> None:
        for pid in list(self.WORKERS):
            with contextlib.suppress(ChildProcessError):
                end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if end is not None and end.si_code == os.CLD_EXITED and end.si_status == DISK_EXIT:
                    # At once: whatever another worker might still acknowledge could be lost.
                    self.kill_workers(signal.SIGKILL)
                    sys.exit(DISK_EXIT)
        super().reap_workers()


class _Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Turns new connections away while it finishes what is under way; gunicorn's own leaves them hanging."""

    _failed: float | None = None

    def notify(self) -> None:
        if self.app.failed():
            # Nothing is written any more. Whoever met it is answered first; the loop turns each second at least.
            self._failed = self._failed or time.monotonic()
            if time.monotonic() - self._failed > _LAST_WORDS:
                os._exit(DISK_EXIT)
        super().notify()

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
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        load: Callable[[], "Flask"],
        failed: Callable[[], bool],
        pulse: Callable[[], None],
    ) -> None:
        self.failed = failed
        self.pulse = pulse
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
            "timeout": TIMEOUT,
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

    def run(self) -> None:
        _Master(self).run()

    def load(self) -> "Flask":
        try:
            return self._load()
        except DiskFailed as failure:
            print(failure, file=sys.stderr, flush=True)
            os._exit(DISK_EXIT)
        except AfterwordError as refusal:
            # The only failure of a start whose sentence gunicorn shows.
            raise AppImportError(f"{refusal} [{refusal.code}]") from None


_default_headers = Response.default_headers


def _without_banner(response: Response) -> list[str]:
    """Which program answers is nobody's business."""
    return [line for line in _default_headers(response) if not line.startswith("Server:")]


def _after_fork(arbiter: Any, worker: object) -> None:  # Any: gunicorn has no types
    tie_to_parent(arbiter.pid)
