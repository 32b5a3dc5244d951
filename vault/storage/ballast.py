"""Room on the disk that is kept for the day on which there is none left.

Rule of this room: it holds nothing. It is given up so that check-ins and releases still commit on a full disk, and
taken again only when there is plenty; nothing that goes wrong here stops anybody.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_LARGEST: Final = 64 * 1024 * 1024
_PARTS: Final = 8


class Ballast:
    """A file in `folder`, which is on the database's disk. Uploads stop when `low_water` bytes are left: the ballast
    is an eighth of that, goes when half its own size is left, and comes back when there is plenty above the mark."""

    def __init__(self, folder: Path, low_water: int) -> None:
        self._path = folder / "ballast"
        self._size = min(low_water // _PARTS, _LARGEST)
        self._plenty = low_water + 2 * self._size

    def mind(self) -> bool:
        """Give it up or take it again, as the disk stands; true if it was given up just now."""
        if not self._size:
            return False
        with suppress(OSError):
            state = os.statvfs(self._path.parent)
            free = state.f_bavail * state.f_frsize
            if free < self._size // 2:
                self._path.unlink()
                return True
            if free > self._plenty and not self._path.exists():
                self._take()
        return False

    def _take(self) -> None:
        draft = self._path.with_name("ballast.new")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._size)
        except OSError:
            draft.unlink()
            raise
        finally:
            os.close(handle)
        draft.replace(self._path)
