"""Objects as files.

Rule of this room: bytes are on disk before their name is, a name before it is acknowledged; a lock is held by an
open file and so dies with its process.

    DIR/DOSSIER/ab/NAME         stored
    DIR/DOSSIER/partial/NAME    an upload that was interrupted, or is going on
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vault.errors import Conflict, Damaged, NoSpace, Untrusted, WrongOffset
from vault.storage import folders
from vault.storage.disk import FULL, SCARCE, Disk, scarce
from vault.storage.objects import (
    BLOCK,
    Partial,
    Received,
    Room,
    Stored,
    busy,
    check_range,
    dossier_of,
    full,
    gathered,
    gone,
    mismatch,
    missing,
    parts_of,
)

_MOST_SETTLED: Final = 10_000  # folders that this process knows to be on disk


class FileObjects:
    """Objects as files under `root`, which only we may enter. Processes and threads may share it."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root.absolute()
        self._disk = disk or Disk()
        self._settled: set[Path] = set()
        with self._writing():
            folders.make_folder(self._root)

    def __repr__(self) -> str:
        return "<FileObjects>"

    def receive(self, key: str, offset: int, body: Iterable[bytes], size: int) -> Received:
        stored, partial = self._paths(key)
        # Checked before the lock too, so that a client that repeats itself does not disturb another's upload.
        if self.has(key):
            return self._there(stored)
        with self._writing():
            self._make_folder(partial.parent)
            upload = _open_locked(partial)
        try:
            if self.has(key):
                self._discard(partial)
                return self._there(stored)
            return self._continue(upload, (stored, partial), offset, body, size)
        finally:
            try:
                with self._writing():
                    if os.fstat(upload).st_size == 0:
                        partial.unlink(missing_ok=True)
            finally:
                # Closing gives the lock back.
                os.close(upload)

    def held(self, key: str) -> int:
        with _reading():
            try:
                return self._paths(key)[1].stat().st_size
            except FileNotFoundError:
                return 0

    def has(self, key: str) -> bool:
        stored, _ = self._paths(key)
        with _reading():
            try:
                stored.stat()
            except FileNotFoundError:
                return False
            return True

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        check_range(start, stop)
        blocks = _blocks(self._paths(key)[0], start, stop)
        # The first step opens the file, so that a missing one is known before an answer has begun.
        next(blocks)
        return blocks

    def delete(self, key: str) -> None:
        with self._writing():
            for path in self._paths(key):
                path.unlink(missing_ok=True)

    def discard(self, key: str) -> None:
        _, partial = self._paths(key)
        with self._writing():
            if not partial.exists():
                return
            try:
                upload = _open_locked(partial)
            except Conflict:
                return
            try:
                partial.unlink(missing_ok=True)
            finally:
                os.close(upload)

    def delete_dossier(self, dossier: str) -> None:
        folder = self._folder(dossier)
        # Renamed first: uploads that are still going on cannot put anything into what is being removed.
        going = folder.with_name(f"{dossier}.deleted")
        with self._writing():
            if going.exists():
                shutil.rmtree(going)
            with suppress(FileNotFoundError):
                folder.rename(going)
                shutil.rmtree(going)

    def names(self, dossier: str) -> Iterator[str]:
        folder = self._folder(dossier)
        for shard in _listed(folder):
            if len(shard) == 2:
                yield from _listed(folder / shard)

    def unfinished(self, dossier: str) -> Iterator[str]:
        yield from _listed(self._folder(dossier) / "partial")

    def free(self) -> int:
        with _reading():
            state = os.statvfs(self._root)
        return state.f_bavail * state.f_frsize

    def _continue(
        self, upload: int, paths: tuple[Path, Path], offset: int, body: Iterable[bytes], size: int
    ) -> Received:
        stored, partial = paths
        digest = hashlib.sha256()
        with self._writing():
            held = os.fstat(upload).st_size
            self._take_over(digest, upload, held)
            if held == size:
                # All of it arrived, but its connection or this server died before it was put into place.
                if digest.hexdigest() == stored.name:
                    return self._put_into_place(upload, paths)
                held = 0
            if held > size or held == 0:
                os.ftruncate(upload, held := 0)
                os.lseek(upload, 0, os.SEEK_SET)
                digest = hashlib.sha256()
        if offset != held:
            raise WrongOffset(held)
        try:
            for block in gathered(body, room := Room(size - held)):
                digest.update(block)
                with self._writing():
                    _write_all(upload, block)
            if room.left > 0:
                return Partial(size - room.left)
            if digest.hexdigest() != stored.name:
                raise mismatch(stored.name)
            with self._writing():
                return self._put_into_place(upload, paths)
        except (NoSpace, Untrusted):
            # A full disk needs the room more than this upload does; wrong bytes can never become right ones.
            self._discard(partial)
            raise

    def _put_into_place(self, upload: int, paths: tuple[Path, Path]) -> Stored:
        stored, partial = paths
        os.fsync(upload)
        self._make_folder(stored.parent)
        try:
            partial.rename(stored)
        except FileNotFoundError:
            raise gone() from None
        try:
            folders.settle(stored.parent)
        except OSError:
            # Its name is on no disk, and must not be what the next upload finds.
            with suppress(OSError):
                stored.unlink()
            raise
        self._disk.check()
        return Stored()

    def _there(self, stored: Path) -> Stored:
        """Somebody put it here, and may have died before its name, or a folder's, was on disk."""
        with self._writing(), suppress(FileNotFoundError):
            for folder in (stored.parent, stored.parent.parent, self._root):
                folders.settle(folder)
        return Stored()

    def _take_over(self, digest: "hashlib._Hash", upload: int, held: int) -> None:
        """Hash what an earlier connection brought, and leave the file at its end.

        It is written once more: if a disk failed meanwhile the kernel may hold bytes that it takes for written.
        """
        read = 0
        while read < held:
            with _reading():
                block = os.pread(upload, min(BLOCK, held - read), read)
                if not block:
                    raise OSError(errno.EIO, "a file ended before its length")
            digest.update(block)
            _write_all(upload, block)
            read += len(block)

    def _make_folder(self, folder: Path) -> None:
        """`folder` and what is missing above it, each entry on disk before anything is put inside."""
        if folder == self._root or (folder in self._settled and folder.is_dir()):
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        # Also when it was there: whoever made it may have died before its name was on disk.
        folders.settle(folder.parent)
        if len(self._settled) >= _MOST_SETTLED:
            self._settled.clear()
        self._settled.add(folder)

    def _discard(self, partial: Path) -> None:
        with self._writing():
            partial.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Calls that the disk may refuse for good, after which there is no other."""
        self._disk.check()
        try:
            yield
        except OSError as wrong:
            if (refusal := self._disk.refusal(wrong.errno, full())) is not None:
                raise refusal from wrong
            raise _damaged(wrong) from wrong

    def _folder(self, dossier: str) -> Path:
        return self._root / dossier_of(dossier)

    def _paths(self, key: str) -> tuple[Path, Path]:
        dossier, name = parts_of(key)
        folder = self._root / dossier
        return folder / name[:2] / name, folder / "partial" / name


def _blocks(path: Path, start: int, stop: int | None) -> Iterator[bytes]:
    with _reading():
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise missing() from None
    with file:
        yield b""
        left = None if stop is None else max(0, stop - start)
        with _reading():
            file.seek(start)
        while left is None or left > 0:
            with _reading():
                block = file.read(BLOCK if left is None else min(BLOCK, left))
            if not block:
                return
            left = None if left is None else left - len(block)
            yield block


def _open_locked(partial: Path) -> int:
    """The upload's file, open and ours alone until it is closed."""
    while True:
        upload = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(upload, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy() from None
            # Between opening and locking, its last owner may have moved the file into place or thrown it away.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(upload), partial.lstat()):
                    return upload
        except BaseException:
            os.close(upload)
            raise
        os.close(upload)


def _write_all(upload: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(upload, view) :]


def _listed(folder: Path) -> list[str]:
    with _reading():
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []


@contextmanager
def _reading() -> Iterator[None]:
    """One object whose sectors do not read is that object's trouble alone."""
    try:
        yield
    except OSError as wrong:
        if wrong.errno in FULL:
            raise full() from wrong
        if wrong.errno in SCARCE:
            raise scarce() from wrong
        raise _damaged(wrong) from wrong


def _damaged(wrong: OSError) -> Damaged:
    return Damaged(f"The object store does not work ({wrong.strerror}); see its disk and its owner.")
