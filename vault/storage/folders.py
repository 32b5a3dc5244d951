"""Folders that are still there when the power comes back.

Rule of this room: a folder is on disk only when the one above it is, so each is settled before anything goes inside.
"""

import os
from contextlib import suppress
from pathlib import Path


def settle(folder: Path) -> None:
    """The names in it are on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """A private folder with all that is missing above it, each of them on disk in the one above."""
    folder = folder.absolute()
    missing = []
    above = folder
    while not above.exists():
        missing.append(above)
        above = above.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        settle(each.parent)
    if not missing:
        # Whoever made it may have died before its name was on disk. That is not ours to see to where we may not look.
        with suppress(PermissionError):
            settle(folder.parent)
