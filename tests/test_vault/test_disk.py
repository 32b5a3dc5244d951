"""One failed write is the last, for everything that shares the disk."""

import errno
import os
import threading
from pathlib import Path

import pytest

from vault.errors import Conflict, Damaged, DiskFailed, NoSpace
from vault.storage.disk import Disk, forget_error, last_error
from vault.storage.files import FileObjects
from vault.storage.sqlite import SqliteDatabase

FULL = NoSpace("full")
KEY = "a" * 32 + "/" + "b" * 64


def broken(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, DiskFailed),
        (errno.EROFS, DiskFailed),
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EMFILE, Conflict),
        (errno.ENFILE, Conflict),
        (errno.ENOMEM, Conflict),
        (errno.EACCES, type(None)),
        (None, type(None)),
    ],
)
def test_only_what_the_disk_itself_refuses_is_a_failed_disk(number: int | None, kind: type) -> None:
    disk = Disk()
    assert type(disk.refusal(number, FULL)) is kind
    assert disk.failed is (kind is DiskFailed)


def test_when_the_objects_fail_no_row_is_written_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    database = SqliteDatabase(tmp_path / "a.db", (), disk)
    store = FileObjects(tmp_path / "objects", disk)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(DiskFailed):
            store.receive(KEY, 0, [b"a"], 2)
    with pytest.raises(DiskFailed), database.transaction():
        pass
    with pytest.raises(DiskFailed):
        store.receive(KEY, 0, [b"a"], 2)
    with pytest.raises(DiskFailed):
        database.forget()
    with database.reading():
        pass
    database.close()


def test_a_transaction_that_was_begun_before_the_disk_failed_is_not_committed(tmp_path: Path) -> None:
    disk = Disk()
    database = SqliteDatabase(tmp_path / "a.db", (), disk)
    with database.transaction():
        database.run("CREATE TABLE notes (id INTEGER PRIMARY KEY)")

    def insert_as_it_fails() -> None:
        with database.transaction():
            database.run("INSERT INTO notes VALUES (1)")
            disk.fail()

    with pytest.raises(DiskFailed):
        insert_as_it_fails()
    assert database.all("SELECT id FROM notes") == []
    database.close()


def test_an_object_that_does_not_read_is_its_own_trouble_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    store = FileObjects(tmp_path / "objects", disk)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", broken)
        with pytest.raises(Damaged) as refused:
            store.has(KEY)
    assert not isinstance(refused.value, DiskFailed)
    assert not disk.failed


def test_what_the_system_refused_last_is_known_in_the_thread_in_which_it_did(tmp_path: Path) -> None:
    forget_error()
    assert last_error() == 0
    with pytest.raises(FileNotFoundError):
        os.stat(tmp_path / "nothing")
    assert last_error() == errno.ENOENT
    elsewhere: list[int | None] = []

    def look() -> None:
        forget_error()
        elsewhere.append(last_error())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert elsewhere == [0]
