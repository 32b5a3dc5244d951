"""What this process knows of the disk it writes to.

Rule of this room: one failed write is the last. The kernel may have thrown away what could not be written, and says
so once; whoever asks again is told that all is well. So nobody who has heard it writes any more.
"""

import contextlib
import ctypes
import errno
import sys
import threading
from collections.abc import Iterator
from typing import Final

from vault.errors import AfterwordError, Conflict, DiskFailed, NoSpace, Refused

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What passes by itself, and is no fault of the disk."""
FAILING: Final = frozenset(
    {errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EUCLEAN}
    if sys.platform == "linux"
    else {errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE}
)
"""A file system that an error has turned read-only (EROFS) is a failing one: it was writable when we began."""


class Disk:
    """One for all that a process writes: database and objects share it, so that no part of it goes on alone."""

    def __init__(self) -> None:
        self._failed = threading.Event()

    @property
    def failed(self) -> bool:
        return self._failed.is_set()

    def check(self) -> None:
        """Before anything is written, and before it is called durable."""
        if self.failed:
            raise _failure()

    def fail(self) -> DiskFailed:
        """From now on nothing is written. Gives the error to be raised."""
        self._failed.set()
        return _failure()

    def refusal(self, number: int | None, full: NoSpace) -> AfterwordError | None:
        """What an error number of a call that writes means, or None if it says nothing of the disk."""
        if number in FULL:
            return full
        if number in SCARCE:
            return scarce()
        return self.fail() if number in FAILING else None


def scarce() -> Conflict:
    return Conflict(
        "The server has as many files open as it may, or no memory left; try again in a moment.", code="busy"
    )


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """What the disk refuses of a copy is a sentence for whoever asked for it, and the command can be run again."""
    try:
        yield
    except OSError as wrong:
        if wrong.errno in FULL:
            raise NoSpace(f"{what} does not fit on its disk; make room and run the command again.") from wrong
        raise Refused(
            f"{what} cannot be written ({wrong.strerror}); look at its disk and at who owns its folder, and run the "
            "command again.",
            code="backup-failed",
        ) from wrong


def last_error() -> int | None:
    """What the system refused last in this thread. SQLite knows it, and its Python module does not pass it on."""
    return None if _where is None else int(_where()[0])


def forget_error() -> None:
    """So that `last_error` afterwards speaks of what has happened since."""
    if _where is not None:
        _where()[0] = 0


def _failure() -> DiskFailed:
    return DiskFailed(
        "The server's disk failed while it was being written, so nothing is acknowledged any more. Its operator looks "
        "at the disk (dmesg), then starts the server again, runs `afterword doctor`, or restores a backup."
    )


_where = getattr(ctypes.CDLL(None), "__errno_location", None) if sys.platform == "linux" else None
if _where is not None:
    _where.restype = ctypes.POINTER(ctypes.c_int)
