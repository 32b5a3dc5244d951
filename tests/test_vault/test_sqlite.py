"""What is particular to SQLite: its settings, its files, its migrations, its ways to fail."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Literal

import pytest
import sqlite_utils

from vault.errors import BadUsage, Conflict, Damaged, DiskFailed, NoSpace, Refused
from vault.storage import sqlite, sqlite_connection
from vault.storage.database import Migration
from vault.storage.migrating import load_migrations
from vault.storage.sqlite import SqliteDatabase


def a_schema(db: sqlite_utils.Database) -> None:
    db["notes"].create({"id": int, "text": bytes}, pk="id")  # type: ignore[union-attr]  # a table, not a view


def a_column(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE notes ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'")


FIRST = Migration(1, "first", a_schema)
SECOND = Migration(2, "colour", a_column)


def a_database(folder: Path, *migrations: Migration) -> SqliteDatabase:
    db = SqliteDatabase(folder / "vault" / "a.db", migrations or (FIRST,))
    db.migrate()
    return db


def note(db: SqliteDatabase, number: int, text: bytes = b"") -> None:
    with db.transaction():
        db.run("INSERT INTO notes (id, text) VALUES (:id, :text)", id=number, text=text)


def count(db: SqliteDatabase) -> int:
    row = db.one("SELECT count(*) AS n FROM notes")
    assert row is not None
    return int(row["n"])


def settings_of(db: SqliteDatabase) -> dict[str, object]:
    connection = db._connection()
    names = ("synchronous", "journal_mode", "foreign_keys", "secure_delete", "trusted_schema", "busy_timeout")
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


CAREFUL = {
    "synchronous": 2,
    "journal_mode": "wal",
    "foreign_keys": 1,
    "secure_delete": 1,
    "trusted_schema": 0,
    "busy_timeout": 30_000,
}


def test_every_thread_has_a_connection_of_its_own_and_each_is_careful(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    found: list[tuple[int, dict[str, object]]] = [(id(db._connection()), settings_of(db))]

    def look() -> None:
        found.append((id(db._connection()), settings_of(db)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found[0][0] != found[1][0]
    assert [settings for _, settings in found] == [CAREFUL, CAREFUL]
    db.close()


def test_a_sqlite_that_will_not_be_careful_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "PRAGMAS", {**sqlite_connection.PRAGMAS, "no_such_setting": 1})
    with pytest.raises(Damaged, match="no_such_setting"):
        SqliteDatabase(tmp_path / "a.db")


def test_nobody_else_may_read_the_database_its_log_its_index_or_its_backup(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        db = a_database(tmp_path)
        note(db, 1)
        db.backup(tmp_path / "vault" / "copy")
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "vault").iterdir()}
    assert modes == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600, "copy": 0o600}
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700
    db.close()


def test_a_file_that_others_could_read_is_closed_to_them_when_it_is_opened(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    db.close()
    path = tmp_path / "vault" / "a.db"
    path.chmod(0o644)
    SqliteDatabase(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_deleted_is_in_no_file_once_it_is_forgotten(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    secret = b"a release share that was replaced" * 40
    note(db, 1, secret)
    note(db, 2, b"kept")
    with db.transaction():
        db.run("DELETE FROM notes WHERE id = 1")
    assert db.forget()
    assert not any(secret[:33] in path.read_bytes() for path in (tmp_path / "vault").iterdir())
    assert count(db) == 1
    db.close()


def test_forgetting_keeps_nobody_from_writing_while_somebody_reads(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    note(db, 1)
    reads, goes = threading.Event(), threading.Event()

    def read() -> None:
        with db.reading():
            count(db)
            reads.set()
            goes.wait(60)

    reader = threading.Thread(target=read)
    reader.start()
    assert reads.wait(60)
    note(db, 2)
    forgetting = threading.Thread(target=db.forget)
    forgetting.start()
    note(db, 3)
    assert reader.is_alive(), "it was written while somebody still read"
    goes.set()
    reader.join()
    forgetting.join()
    assert db.forget()
    db.close()


def test_forgetting_waits_for_whoever_still_reads_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_SECONDS", 0.0)
    db = a_database(tmp_path)
    other = SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,))
    with other.reading():
        assert count(other) == 0
        note(db, 1)
        assert not db.forget()
    assert db.forget()
    db.close()
    other.close()


def test_a_writer_who_waits_in_vain_is_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_SECONDS", 0.0)
    db = a_database(tmp_path)
    other = SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,))
    with db.transaction():
        with pytest.raises(Conflict) as refused:
            note(other, 1)
        assert refused.value.code == "busy"
    note(other, 1)
    assert count(db) == 1
    db.close()
    other.close()


def test_a_full_disk_takes_the_transaction_back_and_says_so(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    note(db, 1, b"before")
    pages = db._connection().execute("PRAGMA page_count").fetchone()[0]
    db._connection().execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(NoSpace):
        note(db, 2, bytes(100_000))
    assert count(db) == 1
    with db.transaction():
        db.run("UPDATE notes SET text = :text", text=b"small")
    db.check()
    db.close()


def test_a_file_that_is_no_database_is_damaged_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database at all, but long enough to be taken for one" * 100)
    before = path.read_bytes()
    with pytest.raises(Damaged):
        SqliteDatabase(path)
    assert path.read_bytes() == before


def test_flipped_bytes_are_found_or_change_nothing_and_no_raw_error_leaves(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    for number in range(200):
        note(db, number, number.to_bytes(4, "big") * 100)
    db.forget()
    db.close()
    path = tmp_path / "vault" / "a.db"
    sound = path.read_bytes()
    chance = random.Random(1)
    found = 0
    for _ in range(150):
        broken = bytearray(sound)
        at = chance.randrange(len(broken))
        broken[at : at + 64] = chance.randbytes(len(broken[at : at + 64]))
        path.write_bytes(broken)
        try:
            again = SqliteDatabase(path, (FIRST,))
        except (Damaged, BadUsage):
            found += 1
            continue
        try:
            again.check()
            again.migrate()
            assert len(again.all("SELECT * FROM notes")) == 200
        except Damaged:
            found += 1
        finally:
            again.close()
        (tmp_path / "vault" / "a.db-wal").unlink(missing_ok=True)
        (tmp_path / "vault" / "a.db-shm").unlink(missing_ok=True)
    assert found > 3


def test_a_truncated_database_does_not_pass_its_check(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    for number in range(200):
        note(db, number, bytes(500))
    db.forget()
    db.close()
    path = tmp_path / "vault" / "a.db"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * 4096)

    def open_and_check() -> None:
        again = SqliteDatabase(path, (FIRST,))
        try:
            again.check()
        finally:
            again.close()

    with pytest.raises(Damaged):
        open_and_check()


def test_rows_that_point_at_nothing_do_not_pass_the_check(tmp_path: Path) -> None:
    db = a_database(tmp_path, Migration(1, "two", two_tables))
    db._connection().execute("PRAGMA foreign_keys = OFF")
    with db.transaction():
        db.run("INSERT INTO child VALUES (7)")
    with pytest.raises(Damaged, match="child"):
        db.check()
    db.close()


def two_tables(db: sqlite_utils.Database) -> None:
    db.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
    db.execute("CREATE TABLE child (parent INTEGER REFERENCES parent (id))")


def test_a_folder_that_cannot_be_made_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadUsage) as refused:
        SqliteDatabase(tmp_path / "file" / "a.db")
    assert refused.value.code == "bad-setting"


def test_a_mistake_in_our_sql_keeps_its_own_face(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        db.all("SELECT * FROM absent")
    db.close()


def test_tables_that_do_not_fit_together_any_more_are_damage(tmp_path: Path) -> None:
    """As after a flipped bit in the words that make a key of its column."""
    db = a_database(tmp_path)
    with db.transaction():
        db.run("CREATE TABLE whole (id TEXT NOT NULL)")
        db.run("CREATE TABLE part (of_which TEXT NOT NULL REFERENCES whole (id))")
    with pytest.raises(Damaged), db.transaction():
        db.run("INSERT INTO part VALUES ('a')")
    db.close()


# ---- migrations ----


def test_the_real_migrations_make_an_empty_database_that_passes_its_check(tmp_path: Path) -> None:
    steps = load_migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    db = SqliteDatabase(tmp_path / "a.db")
    db.migrate()
    db.migrate()
    db.check()
    assert [row["number"] for row in db.all("SELECT number FROM migrations")] == [
        step.number for step in steps
    ]
    db.close()


def test_a_later_migration_comes_on_top_and_the_state_before_it_is_kept(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    note(db, 1)
    db.close()
    db = a_database(tmp_path, FIRST, SECOND)
    assert db.one("SELECT colour FROM notes") == {"colour": "grey"}
    db.migrate()
    db.close()
    assert sorted(path.name for path in (tmp_path / "vault").iterdir()) == ["a.db", "a.db.before-0002"]
    old = SqliteDatabase(tmp_path / "vault" / "a.db.before-0002", (FIRST,))
    old.migrate()
    assert count(old) == 1
    assert [row["name"] for row in old.all("SELECT name FROM pragma_table_info('notes')")] == ["id", "text"]
    old.close()


def test_the_state_before_a_migration_does_not_outlive_the_first_secret_that_is_deleted(
    tmp_path: Path,
) -> None:
    db = a_database(tmp_path)
    note(db, 1)
    db.close()
    db = a_database(tmp_path, FIRST, SECOND)
    kept = tmp_path / "vault" / "a.db.before-0002"
    db.forget(copies=False)
    assert kept.exists()
    db.forget()
    assert not kept.exists()
    db.close()


def test_a_migration_that_fails_leaves_nothing_of_any(tmp_path: Path) -> None:
    def fails(db: sqlite_utils.Database) -> None:
        db.execute("CREATE TABLE half (id INTEGER)")
        raise KeyError

    db = SqliteDatabase(tmp_path / "a.db", (FIRST, Migration(2, "fails", fails)))
    with pytest.raises(KeyError):
        db.migrate()
    assert db.all("SELECT name FROM sqlite_master") == []
    db.close()


def test_a_migration_may_not_end_its_transaction(tmp_path: Path) -> None:
    def commits(db: sqlite_utils.Database) -> None:
        db.execute("CREATE TABLE early (id INTEGER)")
        db.conn.commit()

    db = SqliteDatabase(tmp_path / "a.db", (Migration(1, "commits", commits),))
    with pytest.raises(RuntimeError, match="ended the transaction"):
        db.migrate()
    db.close()


def test_a_migration_that_orphans_rows_is_not_applied(tmp_path: Path) -> None:
    def orphans(db: sqlite_utils.Database) -> None:
        db.execute("INSERT INTO child VALUES (7)")

    db = SqliteDatabase(
        tmp_path / "a.db", (Migration(1, "two", two_tables), Migration(2, "orphans", orphans))
    )
    with pytest.raises(Damaged):
        db.migrate()
    assert db.all("SELECT name FROM sqlite_master") == []
    db.close()


def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    a_database(tmp_path, FIRST, SECOND).close()
    older = SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,))
    with pytest.raises(Refused) as refused:
        older.migrate()
    assert refused.value.code == "newer-database"
    older.close()


def test_a_migration_that_was_changed_after_it_ran_is_noticed(tmp_path: Path) -> None:
    a_database(tmp_path).close()
    other = SqliteDatabase(tmp_path / "vault" / "a.db", (Migration(1, "another", a_schema),))
    with pytest.raises(Damaged):
        other.migrate()
    other.close()


# ---- processes ----

START = """
    import sys
    from pathlib import Path
    from tests.test_vault.test_sqlite import FIRST, SECOND, SqliteDatabase, note
    sys.stdin.readline()
    db = SqliteDatabase(Path(sys.argv[1]), (FIRST, SECOND))
    db.migrate()
"""


def a_process(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_three_processes_that_start_together_migrate_once_and_all_go_on(tmp_path: Path) -> None:
    path = tmp_path / "fresh" / "a.db"
    processes = [a_process(START + f"    note(db, {number})\n", str(path)) for number in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    db = SqliteDatabase(path, (FIRST, SECOND))
    assert [row["number"] for row in db.all("SELECT number FROM migrations ORDER BY number")] == [1, 2]
    assert count(db) == 3
    db.close()


def test_no_row_that_was_acknowledged_is_lost_to_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    script = (
        START
        + "    for number in range(100_000):\n        note(db, number)\n        print(number, flush=True)\n"
    )
    with a_process(script, str(path)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        acknowledged = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines()]
    db = SqliteDatabase(path, (FIRST, SECOND))
    db.check()
    held = {row["id"] for row in db.all("SELECT id FROM notes")}
    assert set(acknowledged) <= held
    assert len(held) <= len(acknowledged) + 1
    db.close()


def test_a_database_is_not_carried_across_a_fork(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from tests.test_vault.test_sqlite import a_database, count
        db = a_database(Path(sys.argv[1]))
        child = os.fork()
        if child == 0:
            try:
                count(db)
            except RuntimeError:
                os._exit(7)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count(db))
    """
    with a_process(script, str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "7 0\n"


def test_before_anything_is_served_the_log_is_written_anew_and_brought_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = a_database(tmp_path)
    note(db, 1, b"in the log" * 500)
    log = tmp_path / "vault" / "a.db-wal"
    held = log.read_bytes()
    again = SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,))
    written: list[tuple[int, bytes]] = []
    pwrite = os.pwrite

    def watched(descriptor: int, block: bytes, place: int) -> int:
        written.append((place, bytes(block)))
        return pwrite(descriptor, block, place)

    monkeypatch.setattr(os, "pwrite", watched)
    again.settle()
    assert b"".join(block for _, block in written) == held
    assert log.stat().st_size == 0
    assert count(again) == 1
    db.close()
    again.close()


def test_a_log_that_does_not_reach_the_disk_keeps_the_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = a_database(tmp_path)
    note(db, 1)
    again = SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,))

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(DiskFailed):
        again.settle()
    with pytest.raises(DiskFailed):
        note(again, 2)
    db.close()
    again.close()


def test_a_large_log_is_brought_into_the_file_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LARGE_LOG", 100_000)
    monkeypatch.setattr(sqlite, "_CHECKPOINT_AFTER", 4)
    db = a_database(tmp_path)
    log = tmp_path / "vault" / "a.db-wal"
    largest = 0
    for number in range(60):
        note(db, number, bytes(10_000))
        largest = max(largest, log.stat().st_size)
    assert 100_000 < largest < 300_000
    assert count(db) == 60
    db.close()


def test_readers_who_overlap_without_end_do_not_make_the_log_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LARGE_LOG", 100_000)
    monkeypatch.setattr(sqlite, "_HUGE_LOG", 200_000)
    monkeypatch.setattr(sqlite, "_FORGETTING", 20_000)
    monkeypatch.setattr(sqlite, "_CHECKPOINT_AFTER", 4)
    db = a_database(tmp_path)
    log = tmp_path / "vault" / "a.db-wal"
    wanted = threading.Event()
    inside = [threading.Semaphore(0), threading.Semaphore(0)]

    def read(mine: threading.Semaphore, other: threading.Semaphore) -> None:
        # Neither leaves before the other has come.
        while not wanted.is_set():
            with db.reading():
                count(db)
                other.release()
                mine.acquire(timeout=0.05)

    readers = [
        threading.Thread(target=read, args=each) for each in ((inside[0], inside[1]), (inside[1], inside[0]))
    ]
    for each in readers:
        each.start()
    try:
        largest = 0
        for number in range(80):
            note(db, number, bytes(10_000))
            largest = max(largest, log.stat().st_size)
    finally:
        wanted.set()
        for each in readers:
            each.join()
    assert largest < 500_000
    db.close()


def test_whoever_reads_for_long_is_waited_for_once_and_then_only_when_the_log_has_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LARGE_LOG", 50_000)
    monkeypatch.setattr(sqlite, "_HUGE_LOG", 100_000)
    monkeypatch.setattr(sqlite, "_CHECKPOINT_AFTER", 1)
    db = a_database(tmp_path)
    other = SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,))
    waited: list[int] = []
    checkpoint = db._checkpoint

    def watched(
        connection: sqlite_connection.Connection, patience: int, *how: Literal["TRUNCATE", "RESTART"]
    ) -> bool:
        waited.append(patience)
        return checkpoint(connection, 1 if patience else 0, *how)

    monkeypatch.setattr(db, "_checkpoint", watched)
    with other.reading():
        count(other)
        for number in range(60):
            note(db, number, bytes(10_000))
    assert len(waited) > 40
    assert 3 <= sum(patience > 0 for patience in waited) <= 5, "at 100, 200, 400 and 800 kB"
    note(db, 60, bytes(10_000))
    assert (tmp_path / "vault" / "a.db-wal").stat().st_size == 0
    db.close()
    other.close()


def test_a_part_that_starts_beside_somebody_who_reads_keeps_nobody_from_writing(tmp_path: Path) -> None:
    db = a_database(tmp_path)
    note(db, 1)
    others = [SqliteDatabase(tmp_path / "vault" / "a.db", (FIRST,)) for _ in range(2)]
    with others[0].reading():
        count(others[0])
        note(db, 2)
        starting = threading.Thread(target=others[1].settle)
        starting.start()
        note(db, 3)
        starting.join(20)
        assert not starting.is_alive(), "it waited for the reader, and everybody for it"
    assert count(db) == 3
    for each in (db, *others):
        each.close()


def test_a_database_whose_folder_has_turned_read_only_is_a_failed_disk_once_it_was_served(
    tmp_path: Path,
) -> None:
    db = a_database(tmp_path)
    db._connection().execute("PRAGMA query_only = 1")
    with pytest.raises(DiskFailed):
        note(db, 1)
    db.close()
