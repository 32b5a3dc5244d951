"""One command that runs a whole server: web, watch and deliverer as processes of their own under one parent.

Rule of this room: the parent decides nothing and holds no secret for longer than its first lines. A part that dies
or falls silent is started anew; when the parent ends, however it ends, no part outlives it. One part that met a
failing disk ends them all.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.clock import HOUR, MINUTE, SECOND, Clock, write_duration
from vault.couriers.probe import Door
from vault.errors import BadUsage, DiskFailed, Refused
from vault.storage import folders
from web.listener import address_of, listen

LISTENER: Final = "{listener}"
PARENT: Final = "{parent}"
PULSE: Final = "{pulse}"
"""In a part's command these stand for the listening socket's number, the parent's process id, and the number of a
pipe into which the part writes a byte now and then."""

DISK_EXIT: Final = os.EX_IOERR
"""How a part ends that may not write any more, and then the whole server. Not to be started again by itself."""

DRAIN: Final = 30
"""Seconds that requests under way are given when the server stops."""

_STEADY: Final = MINUTE  # who has run so long before dying is started at once
_FIRST_WAIT: Final = SECOND // 2
_LONGEST_WAIT: Final = 30 * SECOND
_PATIENCE: Final = (DRAIN + 5) * SECOND
_PORT_PATIENCE: Final = 5 * SECOND
_SLOW_START: Final = 30 * SECOND
_DAMAGED_EXIT: Final = 9
_LONGEST_TURN: Final = (
    3 * SECOND
)  # what one turn of the parent counts for, however long it was stopped itself
_LONGEST_SILENCE: Final = HOUR
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a server. `command` may hold `LISTENER`, `PARENT` and `PULSE`; with the last, a part that is
    silent for `silence` ms is killed."""

    name: str
    command: Sequence[str]
    silence: int = 5 * MINUTE


def serve(
    data: Path,
    bind: str,
    port: int,
    prepare: Callable[[str], None],
    parts: Callable[[str], Sequence[Part]],
    clock: Clock,
    say: Callable[[str], None],
    result: Callable[[str], None],
) -> None:
    """Run until SIGTERM or SIGINT. `prepare(address)` opens the vault once, before any part is started."""
    signals = _hear()
    make_folder(data)
    with only_one(data):
        listener = _listen_patiently(bind, port, clock)
        address = address_of(listener)
        prepare(address)
        _Parent(parts(address), listener, clock, signals, say, result).run(address)


def make_folder(data: Path) -> None:
    """The data folder, for its owner alone."""
    try:
        folders.make_folder(data)
        if not data.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        data.chmod(0o700)
    except OSError as wrong:
        raise BadUsage(
            f"{data} cannot be used as the data folder ({wrong.strerror}); choose another with --data.",
            code="bad-data-folder",
        ) from None


@contextlib.contextmanager
def only_one(data: Path) -> Iterator[None]:
    """One parent per data folder; the lock is the kernel's, so that no crash leaves it behind."""
    lock = os.open(data / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Refused(
            f"A server already runs on {data}; stop it first, or choose another folder with --data.",
            code="already-served",
        ) from None
    try:
        yield
    finally:
        os.close(lock)


def under_systemd() -> bool:
    return "NOTIFY_SOCKET" in os.environ


def notify(state: str) -> None:
    """Tell systemd, if it started us. One datagram; nobody listening is no failure."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\0" + where[1:] if where.startswith("@") else where)
        out.send(state.encode())


def pulse_into(descriptor: int | None) -> Callable[[], None]:
    """What a part calls when it has done something: a byte for its parent, or a word for systemd if that wants one."""
    wanted = _watched_by_systemd()

    def pulse() -> None:
        if descriptor is not None:
            with contextlib.suppress(
                OSError
            ):  # a full pipe was heard, and a parent that is gone needs nothing
                os.write(descriptor, b".")
        if wanted:
            notify("WATCHDOG=1")

    if descriptor is not None:
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
    return pulse


def _watched_by_systemd() -> bool:
    """Whether the unit has a WatchdogSec, and means this process."""
    return bool(os.environ.get("WATCHDOG_USEC")) and os.environ.get("WATCHDOG_PID") in {
        None,
        str(os.getpid()),
    }


def tie_to_parent(parent: int) -> None:
    """Die with the process that started this one, even if that is killed. Called first thing by every part."""
    if sys.platform == "linux":  # elsewhere a killed parent leaves its parts to the operator
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before we could tie ourselves to it
        os._exit(1)


_OF_SYSTEMD: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


class _Child:
    """A part as it runs, or as it waits to be run again."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0
        self.due = 0
        self.wait = _FIRST_WAIT
        self.patience = part.silence
        self._silent = 0
        self._pulse: int | None = None

    def start(self, listener: socket.socket, now: int) -> None:
        heard, pulse = os.pipe()
        os.set_blocking(heard, False)
        words = {LISTENER: str(listener.fileno()), PARENT: str(os.getpid()), PULSE: str(pulse)}
        # What is systemd's is the parent's alone: gunicorn would report itself ready over it.
        environment = {name: value for name, value in os.environ.items() if name not in _OF_SYSTEMD}
        try:
            self.process = subprocess.Popen(
                [words.get(word, word) for word in self.part.command],
                stdin=subprocess.DEVNULL,
                pass_fds=[int(words[word]) for word in (LISTENER, PULSE) if word in self.part.command],
                env=environment,
                process_group=0,  # a Ctrl-C at the terminal is for the parent, which stops the parts in good order
            )
        except BaseException:
            os.close(heard)
            raise
        finally:
            os.close(pulse)
        self.started, self._silent = now, 0
        if PULSE in self.part.command:
            self._pulse = heard
        else:
            os.close(heard)

    def has_hung(self, ran: int) -> bool:
        """Whether it was silent for longer than it may be; then it is killed. `ran`: ms since this was asked last."""
        if self._pulse is None or self.process is None:
            return False
        with contextlib.suppress(BlockingIOError):
            if os.read(self._pulse, 65_536):
                self._silent = 0
                return False
        self._silent += ran
        if self._silent < self.patience:
            return False
        self.signal(signal.SIGKILL)
        # It may only be slow, on a large database or a poor disk: then more patience helps, and haste never would.
        self._silent, self.patience = 0, min(2 * self.patience, max(_LONGEST_SILENCE, self.part.silence))
        return True

    def reap(self, now: int) -> int | None:
        """Its exit status if it has just died; then `due` is when to start it again."""
        if self.process is None or (status := self.process.poll()) is None:
            return None
        self.process = None
        if self._pulse is not None:
            os.close(self._pulse)
            self._pulse = None
        steady = now - self.started >= _STEADY
        # What is damaged does not mend within a second, and is not to be tried in haste.
        self.wait = _LONGEST_WAIT if status == _DAMAGED_EXIT else _FIRST_WAIT if steady else self.wait
        self.due = now + self.wait
        self.wait = min(2 * self.wait, _LONGEST_WAIT)
        return status

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)


class _Parent:
    def __init__(
        self,
        parts: Sequence[Part],
        listener: socket.socket,
        clock: Clock,
        signals: "queue.SimpleQueue[int]",
        say: Callable[[str], None],
        result: Callable[[str], None],
    ) -> None:
        self._children = [_Child(part) for part in parts]
        self._listener = listener
        self._clock = clock
        self._signals = signals
        self._say = say
        self._result = result

    def run(self, address: str) -> None:
        try:
            self._run(Door(address, timeout=2 * SECOND), address)
        except DiskFailed:
            self._kill()
            raise
        finally:
            self._stop()

    def _run(self, door: Door, address: str) -> None:
        began = before = self._clock.boot()
        ready = warned = False
        watched = _watched_by_systemd()
        while True:
            now = self._clock.boot()
            # While all of us were stopped nobody was silent.
            ran, before = min(now - before, _LONGEST_TURN), now
            if watched:
                notify("WATCHDOG=1")
            for child in self._children:
                if child.has_hung(ran):
                    self._say(f"{child.part.name} does not answer any more; it is killed and started again.")
                if (status := child.reap(now)) is not None:
                    if status == DISK_EXIT:
                        raise DiskFailed(
                            f"{child.part.name} met a disk that fails; the server stops, and nothing is acknowledged "
                            "any more. Look at the disk (dmesg), then start the server again, run `afterword doctor`, "
                            "or restore a backup."
                        )
                    self._say(
                        f"{child.part.name} ended ({_reason(status)}); "
                        f"it is started again in {write_duration(child.due - now)}."
                    )
                if child.process is None and now >= child.due:
                    child.start(self._listener, now)
            if not ready and (health := door.health()) is not None and health.ok:
                ready = True
                self._result(f"READY {address}")
                notify("READY=1")
            if not ready and not warned and now - began > _SLOW_START:
                warned = True
                self._say("The server does not answer that it is well yet; still trying.")
            if self._heard(until=SECOND // 10 if not ready else SECOND):
                return

    def _heard(self, until: int) -> bool:
        """Whether somebody asked us to stop; waits at most `until` ms, less if a part died."""
        with contextlib.suppress(queue.Empty):
            return self._signals.get(timeout=until / 1000) != signal.SIGCHLD
        return False

    def _kill(self) -> None:
        """At once: whatever another part might still acknowledge could be lost."""
        for child in self._children:
            child.signal(signal.SIGKILL)

    def _stop(self) -> None:
        notify("STOPPING=1")
        self._listener.close()
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = self._clock.boot() + _PATIENCE
        impatient = False
        while any(child.process is not None for child in self._children):
            if impatient or self._clock.boot() > deadline:
                for child in self._children:
                    child.signal(signal.SIGKILL)
            # Asked twice: whoever asks does not want to wait.
            impatient = self._heard(until=SECOND // 10) or impatient
            for child in self._children:
                child.reap(self._clock.boot())


def _hear() -> "queue.SimpleQueue[int]":
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:  # nohup stays nohup
            signal.signal(number, lambda received, _frame: heard.put(received))
    return heard


def _listen_patiently(bind: str, port: int, clock: Clock) -> socket.socket:
    """After a parent was killed, its parts may hold the port for a moment longer."""
    deadline = clock.boot() + _PORT_PATIENCE
    while True:
        try:
            return listen(bind, port)
        except BadUsage as refusal:
            if refusal.code != "port-taken" or clock.boot() > deadline:
                raise
        time.sleep(0.1)


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
