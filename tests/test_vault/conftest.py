"""What the chapters' tests share: a folder that is quick to write to, and a server in it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World

_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Every commit waits for the disk; in memory that costs nothing, and power cuts have a test of their own."""
    made = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    """A server whose clock the test turns, without anybody on it yet."""
    made = World(folder)
    yield made
    made.close()
