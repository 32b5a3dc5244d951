"""Mistakes that only a power cut shows.

Rule of this room: each is planted in the process that plays a workflow, and nowhere else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli import home, journal, recovery
from vault import backups, founding, keyfile
from vault.storage import files, folders, sqlite_connection
from vault.storage.objects import Stored


def normal(plant: pytest.MonkeyPatch) -> None:
    """WAL with synchronous=NORMAL."""
    plant.setitem(sqlite_connection.PRAGMAS, "synchronous", 1)


def no_folder_fsync(plant: pytest.MonkeyPatch) -> None:
    """A name is acknowledged before it is on disk."""
    plant.setattr(folders, "settle", lambda folder: None)


def no_object_fsync(plant: pytest.MonkeyPatch) -> None:
    """The row of an object is written before the object's bytes are on disk."""
    put, fsync = files.FileObjects._put_into_place, os.fsync

    def in_haste(self: files.FileObjects, upload: int, paths: tuple[Path, Path]) -> Stored:
        with pytest.MonkeyPatch.context() as quick:
            quick.setattr(os, "fsync", lambda handle: None if handle == upload else fsync(handle))
            return put(self, upload, paths)

    plant.setattr(files.FileObjects, "_put_into_place", in_haste)


def plain_folders(plant: pytest.MonkeyPatch) -> None:
    """A folder is made, and what is promised inside of it before the folder itself is on disk."""

    def made(folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    for room in (folders, backups, founding, keyfile, home, journal):
        plant.setattr(room, "make_folder", made)


def collected_too_soon(plant: pytest.MonkeyPatch) -> None:
    """The server is told that the archive is here, and it is in memory only."""

    class WithoutSync:
        sync = staticmethod(lambda: None)

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    plant.setattr(recovery, "os", WithoutSync())


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "normal": normal,
    "no-folder-fsync": no_folder_fsync,
    "no-object-fsync": no_object_fsync,
    "plain-folders": plain_folders,
    "collected-too-soon": collected_too_soon,
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as plant:
        if name is not None:
            MISTAKES[name](plant)
        yield
