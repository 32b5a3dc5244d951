"""What is particular to objects as files: their modes, their order on the disk, their ways to fail."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from vault.errors import Conflict, Damaged, Malformed, NoSpace, WrongOffset
from vault.storage.files import FileObjects
from vault.storage.objects import Partial, Stored, open_objects

DOSSIER = "0123456789abcdef" * 2
SIZE = 1 << 20


def an_object(size: int = SIZE) -> tuple[str, bytes]:
    content = os.urandom(size)
    return f"{DOSSIER}/{hashlib.sha256(content).hexdigest()}", content


def stored_at(root: Path, key: str) -> Path:
    dossier, name = key.split("/")
    return root / dossier / name[:2] / name


def partial_at(root: Path, key: str) -> Path:
    dossier, name = key.split("/")
    return root / dossier / "partial" / name


def files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_the_url_says_where_with_three_slashes_or_four(tmp_path: Path) -> None:
    key, content = an_object()
    open_objects(f"file://{tmp_path}/objects").receive(key, 0, [content], SIZE)
    assert open_objects(f"file:///{tmp_path}/objects").has(key)


def test_nobody_else_may_read_an_object_or_list_a_folder(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = FileObjects(tmp_path / "deep" / "objects")
        key, content = an_object()
        store.receive(key, 0, [content], SIZE)
        half, other = an_object()
        store.receive(half, 0, [other[:99]], SIZE)
    finally:
        os.umask(mask)
    root = tmp_path / "deep" / "objects"
    assert {path.stat().st_mode & 0o777 for path in files_under(root)} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (root, *root.rglob("*")) if path.is_dir()} == {0o700}


def test_an_object_lies_where_the_layout_says(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    store.receive(key, 0, [content[:7]], SIZE)
    assert files_under(tmp_path) == [partial_at(tmp_path, key)]
    store.receive(key, 7, [content[7:]], SIZE)
    assert files_under(tmp_path) == [stored_at(tmp_path, key)]


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    happened: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        happened.append("fsync " + os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))

    def watched_rename(self: Path, target: Path) -> Path:
        happened.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    assert store.receive(key, 0, [content], SIZE) == Stored()
    name = key.split("/")[1]
    assert happened == [
        "fsync ",
        f"fsync /{DOSSIER}",
        f"fsync /{DOSSIER}/partial/{name}",
        f"fsync /{DOSSIER}",
        "rename",
        f"fsync /{DOSSIER}/{name[:2]}",
    ]


def test_an_upload_whose_server_died_after_the_last_byte_is_put_into_place(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    partial_at(tmp_path, key).parent.mkdir(parents=True)
    partial_at(tmp_path, key).write_bytes(content)
    assert store.held(key) == SIZE
    assert not store.has(key)
    assert store.receive(key, 0, [], SIZE) == Stored()
    assert store.has(key)


@pytest.mark.parametrize("length", [SIZE, SIZE + 1])
def test_an_upload_that_a_power_cut_spoiled_begins_anew(tmp_path: Path, length: int) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    partial_at(tmp_path, key).parent.mkdir(parents=True)
    partial_at(tmp_path, key).write_bytes(bytes(length))
    with pytest.raises(WrongOffset) as refused:
        store.receive(key, length, [], SIZE)
    assert refused.value.held == 0
    partial_at(tmp_path, key).write_bytes(bytes(length))
    assert store.receive(key, 0, [content], SIZE) == Stored()
    assert b"".join(store.read(key)) == content


def test_an_upload_that_brought_nothing_leaves_nothing(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    key, _ = an_object()
    assert store.receive(key, 0, [], SIZE) == Partial(0)
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("call", ["write", "fsync", "mkdir", "rename"])
def test_a_full_disk_shows_nothing_half_written_and_another_time_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(
            *{"write": (os, "write", full), "fsync": (os, "fsync", full)}.get(call, (Path, call, full))
        )
        with pytest.raises(NoSpace):
            store.receive(key, 0, [content], SIZE)
    assert not store.has(key)
    assert files_under(tmp_path) == []
    assert store.receive(key, 0, [content], SIZE) == Stored()


def test_a_write_that_the_system_cuts_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, block: write(descriptor, bytes(block[:100_000])))
    assert store.receive(key, 0, [content], SIZE) == Stored()
    assert b"".join(store.read(key)) == content


def test_a_disk_that_does_not_work_is_damaged_and_not_an_absent_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "stat", broken)
    with pytest.raises(Damaged):
        store.has(key)
    with pytest.raises(Damaged):
        store.receive(key, 0, [content], SIZE)


def test_an_error_of_the_network_is_not_taken_for_one_of_the_disk(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()

    def full_elsewhere() -> Iterator[bytes]:
        yield content[:10]
        raise OSError(errno.ENOSPC, "not this disk")

    with pytest.raises(OSError, match="not this disk"):
        store.receive(key, 0, full_elsewhere(), SIZE)
    assert store.held(key) == 10


def test_a_link_laid_in_the_way_of_an_upload_is_not_followed(tmp_path: Path) -> None:
    store = FileObjects(tmp_path / "objects")
    key, content = an_object()
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    partial = partial_at(tmp_path / "objects", key)
    partial.parent.mkdir(parents=True)
    partial.symlink_to(victim)
    with pytest.raises(Damaged):
        store.receive(key, 4, [content], SIZE)
    assert victim.read_bytes() == b"mine"


def test_a_key_of_another_shape_makes_no_file(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    for key in (f"../{DOSSIER}/{'a' * 64}", f"{DOSSIER}/..", "/etc/passwd"):
        with pytest.raises(Malformed):
            store.receive(key, 0, [b"x"], 1)
    assert list(tmp_path.iterdir()) == []


def test_a_deletion_that_was_killed_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    store.receive(key, 0, [content], SIZE)
    shutil.copytree(tmp_path / DOSSIER, tmp_path / f"{DOSSIER}.deleted")
    store.delete_dossier(DOSSIER)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_early_leaves_no_file_open(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    store.receive(key, 0, [content], SIZE)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        store.read(key)
        next(store.read(key))
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_process_uploading_the_same_object_is_waited_for_and_its_death_frees_the_place(
    tmp_path: Path,
) -> None:
    key, content = an_object()
    script = """
        import sys
        from pathlib import Path
        from vault.storage.files import FileObjects
        def body():
            yield bytes(100)
            print("begun", flush=True)
            sys.stdin.read()
        FileObjects(Path(sys.argv[1])).receive(sys.argv[2], 0, body(), 1 << 20)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        store = FileObjects(tmp_path)
        with pytest.raises(Conflict) as refused:
            store.receive(key, 0, [content], SIZE)
        assert refused.value.code == "busy"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert store.receive(key, store.held(key), [content], SIZE) == Stored()


def test_a_name_that_never_reached_the_disk_is_not_what_the_next_upload_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileObjects(tmp_path)
    key, content = an_object()
    fsync = os.fsync
    name = key.split("/")[1]

    def full_at_the_last(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(f"/{name[:2]}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_at_the_last)
        with pytest.raises(NoSpace):
            store.receive(key, 0, [content], SIZE)
    assert not store.has(key)
    assert store.receive(key, 0, [content], SIZE) == Stored()


def test_what_another_process_put_here_is_on_disk_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, content = an_object()
    FileObjects(tmp_path).receive(key, 0, [content], SIZE)
    settled: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        settled.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        fsync(descriptor)

    store = FileObjects(tmp_path)
    monkeypatch.setattr(os, "fsync", watched)
    assert store.receive(key, 0, [content], SIZE) == Stored()
    assert settled == [f"/{DOSSIER}/{key.split('/')[1][:2]}", f"/{DOSSIER}", ""]


def test_bytes_that_a_dead_process_left_are_written_once_more_before_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, content = an_object()
    with pytest.raises(ConnectionError):
        FileObjects(tmp_path).receive(key, 0, cut_off(content[:700]), SIZE)
    written: list[bytes] = []
    write = os.write

    def watched(descriptor: int, block: bytes) -> int:
        written.append(bytes(block))
        return write(descriptor, block)

    monkeypatch.setattr(os, "write", watched)
    assert FileObjects(tmp_path).receive(key, 700, [content[700:]], SIZE) == Stored()
    assert b"".join(written) == content


def cut_off(content: bytes) -> Iterator[bytes]:
    yield content
    raise ConnectionError("cut off")
