"""What a database and an object store make of every error number that the system can answer, at every call.

The calls are refused by the shim inside a process of its own, which opens the same stores again and again.
"""

import errno
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fire import shim, tally

SCRIPT = """
    import errno, hashlib, json, os, shutil, sys
    from pathlib import Path
    import sqlite3
    from tests.fire import shim
    from vault.errors import AfterwordError, Conflict, DiskFailed, NoSpace
    from vault.storage.disk import Disk
    from vault.storage.files import FileObjects
    from vault.storage.objects import Stored
    from vault.storage import sqlite, sqlite_connection

    folder, number, wanted, mutant = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(), sys.argv[4]
    # A file that cannot be opened is one thing, and bytes that were not written another.
    opens = "Conflict" in wanted and "DiskFailed" in wanted
    only = frozenset({shim.Op.CREATE}) if opens else shim.CHANGES - {shim.Op.CREATE} if "DiskFailed" in wanted else None
    sqlite._CHECKPOINT_AFTER, sqlite._LARGE_LOG = 5, 30_000
    if mutant == "errno unknown":
        sqlite.last_error = sqlite_connection.last_error = lambda: None
    if mutant == "goes on":
        Disk.check = lambda self: None
    shim.watch(folder)

    def schema(db):
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text BLOB)")

    steps = [sqlite.Migration(1, "first", schema)]

    def opened(disk):
        db = sqlite.SqliteDatabase(folder / "a.db", steps, disk)
        db.settle()
        db.migrate()
        return db

    def work(db, objects, kept, refusals):
        # What is acknowledged goes into `kept`; whoever is refused tries the next thing.
        for each in range(12):
            try:
                with db.transaction():
                    db.run("INSERT INTO notes (id, text) VALUES (:id, :text)", id=each, text=bytes(5_000))
                kept.append(each)
                if any(isinstance(refusal, DiskFailed) for refusal in refusals):
                    kept.append("acknowledged after a failed write")
            except AfterwordError as refusal:
                refusals.append(refusal)
        for each in range(3):
            content = bytes([each]) * 2_000
            key = "a" * 32 + "/" + hashlib.sha256(content).hexdigest()
            for end in (1_000, 2_000):
                try:
                    held = objects.held(key)
                    if isinstance(objects.receive(key, held, [content[held:end]], 2_000), Stored):
                        kept.append(key)
                        if any(isinstance(refusal, DiskFailed) for refusal in refusals):
                            kept.append("acknowledged after a failed write")
                except AfterwordError as refusal:
                    refusals.append(refusal)
        try:
            db.forget()
        except AfterwordError as refusal:
            refusals.append(refusal)

    def life(at, every=0):
        shutil.rmtree(folder)
        folder.mkdir()
        opened(Disk()).close()
        disk, kept, refusals, wrong = Disk(), [], [], []
        shim.arm(shim.Mode.ERROR if at else shim.Mode.COUNT, at, number, every, only)
        db = objects = None
        try:
            db = opened(disk)
            objects = FileObjects(folder / "objects", disk)
            work(db, objects, kept, refusals)
        except AfterwordError as refusal:
            refusals.append(refusal)
        seen = shim.calls()
        shim.arm(shim.Mode.COUNT)
        names = [type(each).__name__ for each in refusals]
        if said := [each for each in kept if each == "acknowledged after a failed write"]:
            wrong += said
            kept = [each for each in kept if each not in said]
        if "DiskFailed" in wanted and refusals:
            # After the first there is nothing but the same: no row, no object, no name.
            first = next((place for place, name in enumerate(names) if name == "DiskFailed"), None)
            if first is not None and set(names[first:]) != {"DiskFailed"}:
                wrong.append(f"went on: {names}")
            if first is not None and not disk.failed:
                wrong.append("forgot that the disk failed")
        for name, each in zip(names, refusals, strict=True):
            if name not in wanted:
                wrong.append(f"{name}: {each}")
            if name == "Conflict" and each.code != "busy":
                wrong.append(each.code)
        if db is not None:
            db.close()
        again = opened(Disk())
        again.check()
        there = {row["id"] for row in again.all("SELECT id FROM notes")}
        store = FileObjects(folder / "objects")
        there |= {key for key in map(str, kept) if "/" in key and store.has(key)}
        for key in (each for each in kept if isinstance(each, str)):
            name = key.split("/")[1]
            if hashlib.sha256(b"".join(store.read(key))).hexdigest() != name:
                wrong.append("an object of another content")
        if lost := set(kept) - there:
            wrong.append(f"lost: {lost}")
        if not disk.failed:
            # Whoever was refused for a while may have all of it now.
            more = []
            with again.transaction():
                again.run("DELETE FROM notes")
            work(again, store, more, more)
            if len([each for each in more if isinstance(each, AfterwordError)]):
                wrong.append(f"did not recover: {[each for each in more if isinstance(each, AfterwordError)]}")
        again.close()
        return seen, bool(refusals), wrong

    calls, _, wrong = life(0)
    assert not wrong, wrong
    found, refused = [], 0
    for at in range(1, calls + 1):
        for every in (0, -1) if at % 7 == 0 else (0,):
            _, noticed, wrong = life(at, every)
            refused += noticed
            found += [f"call {at} every {every}: {each}" for each in wrong]
    print(json.dumps({"calls": calls, "refused": refused, "wrong": found[:20]}))
"""


def a_life_of_refusals(folder: Path, number: str, wanted: str, mutant: str = "") -> dict[str, object]:
    folder.mkdir()
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(SCRIPT),
            str(folder),
            str(getattr(errno, number)),
            wanted,
            mutant,
        ],
        env=shim.environment(),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, object] = json.loads(ended.stdout)
    return answer


MEANINGS = [
    ("EIO", "DiskFailed"),
    ("EROFS", "DiskFailed"),
    ("EIO", "DiskFailed Conflict"),
    ("ENOSPC", "NoSpace Conflict"),
    ("EDQUOT", "NoSpace Conflict"),
    ("EMFILE", "Conflict"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where an fsync costs nothing: what it does is not the question here."""
    memory = Path("/dev/shm")  # a folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


@pytest.mark.parametrize(("number", "wanted"), MEANINGS)
def test_every_call_that_is_refused_is_understood_and_nothing_acknowledged_is_lost(
    place: Path, number: str, wanted: str
) -> None:
    said = a_life_of_refusals(place / "store", number, wanted)
    assert said["wrong"] == []
    assert int(str(said["calls"])) >= 10
    assert int(str(said["refused"])) >= 10
    tally.count("refused calls", int(str(said["calls"])))


def test_a_store_that_goes_on_after_a_failed_write_is_noticed(place: Path) -> None:
    assert a_life_of_refusals(place / "store", "EIO", "DiskFailed", "goes on")["wrong"]
    tally.killed("goes on writing after EIO", by="test_refusals")


def test_a_full_quota_taken_for_a_failed_disk_is_noticed(place: Path) -> None:
    assert a_life_of_refusals(place / "store", "EDQUOT", "NoSpace Conflict", "errno unknown")["wrong"]
