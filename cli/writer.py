"""Writing what was recovered, below one folder and nowhere else.

Rule of this room: what it is told to write may be hostile.  Every step goes through a folder's handle, no link is
followed, nothing that exists is overwritten; only regular files and folders, without set-id bits, of bounded size.
"""

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from vault import tree
from vault.errors import Malformed, Refused

Parts = tuple[str, ...]

SCRATCH: Final = ".afterword-parts"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_LINK: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES}
_BLOCK: Final = 1 << 20
_LONGEST_NAME: Final = 255
_LATEST: Final = (1 << 33) * 10**6
"""Microseconds; some file systems refuse times beyond the year 2242."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file on its way, in the scratch folder. `size` bytes of it are there already."""

    handle: int
    name: str
    size: int

    def append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.handle, view) :]


class Writer:
    """The folder that a recovery writes to."""

    def __init__(self, folder: Path) -> None:
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._scratch: int | None = None
        self._scratch_name = SCRATCH

    def close(self) -> None:
        for handle in (self._scratch, self._root):
            if handle is not None:
                os.close(handle)
        self._scratch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_empty(self) -> bool:
        with os.scandir(self._root) as entries:
            return next(entries, None) is None

    def place(self) -> tuple[int, int]:
        """Device and inode of the folder, by which a recovery that goes on knows it again."""
        seen = os.fstat(self._root)
        return seen.st_dev, seen.st_ino

    def free(self) -> int:
        """Bytes that this file system has left for us."""
        seen = os.fstatvfs(self._root)
        return seen.f_bavail * seen.f_frsize

    def folds_names(self) -> bool:
        """Whether this file system takes two spellings for one name (`A` and `a`, é in one or two characters)."""
        probe = ".afterword-Probe-e\u0301"
        handle = os.open(probe, _NEW, 0o600, dir_fd=self._root)
        try:
            os.close(handle)
            spellings = (probe.lower(), unicodedata.normalize("NFC", probe))
            return any(_lstat(name, self._root) is not None for name in spellings)
        finally:
            os.unlink(probe, dir_fd=self._root)

    # Folders and files.

    def make_folder(self, parts: Parts) -> None:
        os.close(self._open_folder(parts))

    def find(self, parts: Parts, size: int, digest: str) -> Literal["absent", "same", "different"]:
        """Whether this file is there, and whole."""
        try:
            folder = self._open_folder(parts[:-1], make=False)
        except FileNotFoundError:
            return "absent"
        try:
            handle = os.open(
                parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
        except FileNotFoundError:
            return "absent"
        except OSError:
            return "different"
        finally:
            os.close(folder)
        with open(handle, "rb", buffering=0) as file:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode) or seen.st_size != size:
                return "different"
            return "same" if hashlib.file_digest(file, "sha256").hexdigest() == digest else "different"

    def keep_clear_of(self, names: Iterable[str]) -> None:
        """The scratch folder is to have none of these names."""
        folded = {_folded(name) for name in names}
        while _folded(self._scratch_name) in folded:
            self._scratch_name += "_"

    def begin(self, digest: str) -> Part:
        """The part file for content of this SHA-256, as far as it came before."""
        scratch = self._open_scratch()
        seen = _lstat(digest, scratch)
        if seen is not None and (not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1):
            os.unlink(digest, dir_fd=scratch)
            seen = None
        flags = _NEW if seen is None else os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(digest, flags, 0o600, dir_fd=scratch)
        return Part(handle, digest, os.fstat(handle).st_size)

    def keep(self, part: Part, size: int) -> "hashlib._Hash":
        """Cut the part to its first `size` bytes and stand behind them; the hash of those bytes."""
        os.ftruncate(part.handle, size)
        hashed = hashlib.sha256()
        for start in range(0, size, _BLOCK):
            hashed.update(os.pread(part.handle, min(_BLOCK, size - start), start))
        os.lseek(part.handle, size, os.SEEK_SET)
        return hashed

    def finish(self, part: Part, parts: Parts, mode: int, mtime: int) -> bool:
        """Give a whole file its name. False if something else has that name: it is left alone. `mtime` in µs."""
        scratch = self._open_scratch()
        # Whoever recovers may read and write it; nobody else, whatever it was on her computer.
        os.fchmod(part.handle, 0o700 if mode & 0o100 else 0o600)
        at = min(max(mtime, 0), _LATEST) * 1000
        os.utime(part.handle, ns=(at, at))
        folder = self._open_folder(parts[:-1])
        try:
            os.link(part.name, parts[-1], src_dir_fd=scratch, dst_dir_fd=folder, follow_symlinks=False)
            os.unlink(part.name, dir_fd=scratch)
        except FileExistsError:
            return False
        except OSError as wrong:
            if wrong.errno not in _CANNOT_LINK:
                raise
            # FAT and its kin have no second names; nobody else writes here, so looking first will do.
            if _lstat(parts[-1], folder) is not None:
                return False
            os.rename(part.name, parts[-1], src_dir_fd=scratch, dst_dir_fd=folder)
        finally:
            os.close(folder)
        return True

    def drop(self, part: Part) -> None:
        """Forget a part that cannot become its file."""
        os.unlink(part.name, dir_fd=self._open_scratch())

    def tidy(self) -> None:
        """Remove the scratch folder and what an earlier attempt left in it."""
        scratch = self._open_scratch()
        with os.scandir(scratch) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=scratch)
        os.close(scratch)
        self._scratch = None
        os.rmdir(self._scratch_name, dir_fd=self._root)

    def _open_scratch(self) -> int:
        if self._scratch is None:
            self._scratch = _step(self._scratch_name, self._root)
        return self._scratch

    def _open_folder(self, parts: Parts, *, make: bool = True) -> int:
        """A handle on a folder below the root, made where it is missing."""
        at = os.dup(self._root)
        try:
            for part in parts:
                below = _step(part, at) if make else os.open(part, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
        except OSError as wrong:
            os.close(at)
            if wrong.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise Refused(
                    f"{'/'.join(parts)} cannot be written: something that is not a folder stands in its way. "
                    "Recover into an empty folder.",
                    code="folder-in-the-way",
                ) from None
            raise
        return at


def lay_out(folders: Iterable[str], files: Iterable[str], *, folding: bool) -> dict[str, Parts]:
    """Where each archive path is written, safely: every path gets a place of its own. Files are keyed by their
    path, folders by their path and a slash. `folding` as Writer.folds_names found."""
    files = sorted(set(files), key=_bytes)
    wanted = set(folders)
    for path in (*wanted, *files):
        if not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise Malformed("A path in this archive would lead out of the folder.")
        while (cut := path.rfind("/")) > 0:
            path = path[:cut]
            if path in wanted:
                break
            wanted.add(path)
    placed: dict[str, Parts] = {"/": ()}
    taken: dict[Parts, set[str]] = {}
    # Folders first, so that a file in their way is the one that gets another name.
    for path in sorted(wanted, key=_bytes):
        placed[f"{path}/"] = _next_to(path, placed, taken, folding)
    for path in files:
        placed[path] = _next_to(path, placed, taken, folding)
    return placed


def renamed(places: Mapping[str, Parts]) -> dict[str, str]:
    """The files whose place differs from their path in the archive."""
    return {
        path: "/".join(parts)
        for path, parts in places.items()
        if not path.endswith("/") and "/".join(parts) != path
    }


def _next_to(path: str, placed: Mapping[str, Parts], taken: dict[Parts, set[str]], folding: bool) -> Parts:
    above, _, name = path.rpartition("/")
    folder = placed[f"{above}/"]
    names = taken.setdefault(folder, set())
    wanted = tree.safe_name(name)
    if not wanted or wanted in {".", ".."} or "/" in wanted or "\0" in wanted:
        raise Malformed("A name in this archive cannot be written anywhere.")
    chosen, count = wanted, 1
    while (_folded(chosen) if folding else chosen) in names:
        count += 1
        stem, dot, suffix = wanted.rpartition(".")
        if not stem:
            stem, dot, suffix = wanted, "", ""
        chosen = f"{_shortened(stem, f'~{count}{dot}{suffix}')}~{count}{dot}{suffix}"
    names.add(_folded(chosen) if folding else chosen)
    return (*folder, chosen)


def _shortened(stem: str, ending: str) -> str:
    room = _LONGEST_NAME - len(ending.encode())
    return stem.encode()[: max(room, 1)].decode(errors="ignore") or "_"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")


def _step(name: str, folder: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def _lstat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
