"""What is remembered of a push, and what a crash or a power cut leaves of it."""

import hashlib
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cli.journal import THIS, Arriving, Journal, Known
from vault.errors import Damaged
from vault.tree import Extent

SIZE = 1000


def name(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def an_object(text: str) -> tuple[str, bytes]:
    return hashlib.sha256(text.encode()).hexdigest(), text.encode()


def at(start: int, bundle: int = THIS, length: int = 100) -> Extent:
    return Extent(bundle, start, length, length, "raw")


def test_chunks_become_durable_with_the_object_they_lie_in(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.place(name("a"), at(0))
        journal.seal(*an_object("first"))
        journal.place(name("b"), at(1100))
    with Journal(tmp_path / "j") as journal:
        assert journal.place_of(name("a")) == at(0)
        assert journal.place_of(name("b")) is None


def test_a_chunk_that_reaches_beyond_the_last_object_is_forgotten_when_going_on(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.place(name("inside"), at(900))
        journal.place(name("across"), at(901))
        journal.seal(*an_object("first"))
        journal.cut(1, SIZE)
        assert journal.place_of(name("inside")) == at(900)
        assert journal.place_of(name("across")) is None


def test_cutting_forgets_later_objects_and_their_files_and_the_head(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for text in ("one", "two"):
            journal.seal(*an_object(text))
        journal.save_head(b"head", [Arriving(name("p"), b"s", b"c")])
        journal.cut(1, SIZE)
        assert journal.objects() == (an_object("one")[0],)
        assert journal.saved_head() is None
        assert journal.spooled(an_object("one")[0]) is not None
        assert journal.spooled(an_object("two")[0]) is None


def test_a_half_written_object_does_not_count(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        path = journal.seal(*an_object("one"))
        path.write_bytes(b"on")
        assert journal.spooled(an_object("one")[0]) is None


def test_committing_gives_everything_its_number(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.place(name("a"), at(0))
        journal.seal(*an_object("one"))
        journal.save_head(b"head", [Arriving(name("p"), b"stamp", b"content")])
        journal.commit(7, name("head"), journal.objects(), None)
    with Journal(tmp_path / "j") as journal:
        assert journal.place_of(name("a")) == at(0, 7)
        assert journal.known(name("p")) == Known(7, b"stamp", b"content")
        assert journal.bundles() == {7: name("head")}
        assert dict(journal.objects_relied_on()) == {7: (an_object("one")[0],)}
        assert (journal.objects(), journal.saved_head()) == ((), None)
        assert not list((tmp_path / "j" / "objects").iterdir())


def committed(journal: Journal, number: int, replace: int | None = None) -> None:
    journal.place(name(f"chunk {number}"), at(0))
    journal.seal(*an_object(f"object {number}"))
    journal.save_head(b"head", [Arriving(name(f"path {number}"), b"s", b"c")])
    journal.commit(number, name(f"head {number}"), journal.objects(), replace)


def test_what_the_server_lost_is_forgotten_from_there_on(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for number in (1, 2, 3):
            committed(journal, number)
        journal.forget_after(1)
        assert journal.place_of(name("chunk 1")) is not None
        assert journal.place_of(name("chunk 2")) is None
        assert journal.known(name("path 3")) is None
        assert list(journal.bundles()) == [1]


def test_a_lost_object_makes_every_file_be_looked_at_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for number in (1, 2):
            committed(journal, number)
        journal.forget_chunks_of([1])
        assert journal.place_of(name("chunk 1")) is None
        assert journal.place_of(name("chunk 2")) is not None
        assert journal.known(name("path 2")) is None


def test_a_fresh_start_forgets_the_paths_below_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        committed(journal, 1)
        committed(journal, 2, replace=2)
        assert journal.known(name("path 1")) is None
        assert journal.known(name("path 2")) is not None
        journal.adopt(3, name("other"), [], 3)
        assert journal.known(name("path 2")) is None


def test_a_fresh_start_is_remembered_until_it_ends(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.note_fresh_start(5, b"sources")
        assert journal.fresh_start() == (5, b"sources")
        journal.end_fresh_start()
        assert journal.fresh_start() is None


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        path = journal.seal(*an_object("one"))
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, tmp_path / "j" / "journal.db")]
        assert modes == [0o600, 0o600]


def test_a_journal_that_does_not_read_says_that_it_may_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "journal.db").write_bytes(b"not a database, not at all " * 50)
    with pytest.raises(Damaged, match="delete"):
        Journal(tmp_path / "j")


def test_a_journal_whose_very_words_are_damaged_says_what_to_do(tmp_path: Path) -> None:
    """SQLite quotes them in an error that is no text."""
    Journal(tmp_path / "j").close()
    path = tmp_path / "j" / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    assert b"CREATE TABLE" in whole
    path.write_bytes(whole.replace(b"CREATE TABLE", b"CREATE \xcfABL\xcf"))
    with pytest.raises(Damaged, match="delete"):
        Journal(tmp_path / "j")
