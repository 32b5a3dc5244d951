"""The one suite that every database, object store and courier passes.

Rule of this room: a test here speaks only of the protocol; what is particular to one of them is tested in its own file.
"""

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import sqlite_utils
from aiosmtpd.controller import Controller

from vault.couriers import (
    Accepted,
    Courier,
    MemoryCourier,
    Outcome,
    Parcel,
    PermanentFailure,
    TemporaryFailure,
)
from vault.couriers.smtp import SmtpCourier
from vault.errors import BadUsage, Conflict, Malformed, NoSpace, NotFound, Untrusted, WrongOffset
from vault.settings import Mail
from vault.storage.database import Database, Migration, open_database
from vault.storage.files import FileObjects
from vault.storage.objects import MemoryObjects, Objects, Partial, Stored, open_objects
from vault.storage.sqlite import SqliteDatabase

DOSSIER = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2
SIZE = 3 * (1 << 20) + 17


# ---- databases ----


def a_schema(db: sqlite_utils.Database) -> None:
    db.execute("CREATE TABLE people (id TEXT PRIMARY KEY, age BIGINT NOT NULL, card BLOB)")
    db.execute("CREATE TABLE pets (id TEXT PRIMARY KEY, owner TEXT NOT NULL REFERENCES people (id))")


FIRST = Migration(1, "first", a_schema)


@pytest.fixture(params=["sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database = {"sqlite": lambda: SqliteDatabase(tmp_path / "store" / "a.db", [FIRST])}[request.param]()
    database.migrate()
    yield database
    database.close()


def born(db: Database, who: str, age: int = 30, card: bytes | None = None) -> None:
    db.run("INSERT INTO people (id, age, card) VALUES (:id, :age, :card)", id=who, age=age, card=card)


def people(db: Database) -> list[str]:
    return [row["id"] for row in db.all("SELECT id FROM people ORDER BY id")]


def elsewhere(work: Callable[[], None]) -> BaseException | None:
    """Run `work` in another thread, and what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as wrong:
            raised.append(wrong)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_a_row_comes_back_by_its_names_as_it_was_given(db: Database) -> None:
    with db.transaction():
        born(db, "ana", 2**53 - 1, b"\x00\xff")
    assert db.one("SELECT * FROM people WHERE id = :id", id="ana") == {
        "id": "ana",
        "age": 2**53 - 1,
        "card": b"\x00\xff",
    }
    assert db.one("SELECT * FROM people WHERE id = :id", id="bea") is None
    assert db.all("SELECT * FROM people WHERE id = :id", id="bea") == []


def test_run_counts_the_rows_it_touched(db: Database) -> None:
    with db.transaction():
        rows = ({"id": name, "age": 30} for name in "abc")
        assert db.many("INSERT INTO people (id, age) VALUES (:id, :age)", rows) == 3
        assert db.run("UPDATE people SET age = age + 1 WHERE id <> :id", id="a") == 2
        assert db.run("UPDATE people SET age = 0 WHERE id = :id", id="z") == 0


def test_an_exception_takes_the_whole_transaction_back(db: Database) -> None:
    def fail() -> None:
        with db.transaction():
            born(db, "ana")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert people(db) == []
    with db.transaction():
        born(db, "bea")
    assert people(db) == ["bea"]


def test_nothing_is_written_outside_a_transaction(db: Database) -> None:
    with pytest.raises(RuntimeError):
        born(db, "ana")
    with pytest.raises(RuntimeError):
        db.many("INSERT INTO people (id, age) VALUES (:id, 1)", [{"id": "ana"}])
    with pytest.raises(RuntimeError), db.reading():
        born(db, "ana")
    assert people(db) == []


@pytest.mark.parametrize(
    "sql", ["INSERT INTO people (id, age) VALUES ('a', 1) RETURNING id", "DELETE FROM people"]
)
def test_a_question_cannot_smuggle_a_write_past_the_transaction(db: Database, sql: str) -> None:
    with pytest.raises(RuntimeError):
        db.one(sql)
    with pytest.raises(RuntimeError):
        db.all(sql)
    assert people(db) == []


def test_a_returning_clause_answers_inside_a_transaction(db: Database) -> None:
    with db.transaction():
        assert db.one("INSERT INTO people (id, age) VALUES ('a', 1) RETURNING age") == {"age": 1}
    assert people(db) == ["a"]


def test_transactions_do_not_nest(db: Database) -> None:
    with db.transaction():
        born(db, "ana")
        with pytest.raises(RuntimeError), db.transaction():
            pass
        with pytest.raises(RuntimeError), db.reading():
            pass
    with db.reading(), pytest.raises(RuntimeError), db.transaction():
        pass
    assert people(db) == ["ana"]


def test_a_reader_sees_one_moment_while_others_write(db: Database) -> None:
    def write() -> None:
        with db.transaction():
            born(db, "ana")

    with db.reading():
        assert people(db) == []
        assert elsewhere(write) is None
        assert people(db) == []
    assert people(db) == ["ana"]


def test_what_is_not_committed_is_seen_by_nobody_else(db: Database) -> None:
    seen: list[list[str]] = []
    with db.transaction():
        born(db, "ana")
        assert elsewhere(lambda: seen.append(people(db))) is None
    assert seen == [[]]


def test_of_many_who_read_and_then_write_none_is_lost(db: Database) -> None:
    with db.transaction():
        born(db, "ana", 0)

    def grow() -> None:
        for _ in range(25):
            with db.transaction():
                row = db.one("SELECT age FROM people WHERE id = 'ana'")
                assert row is not None
                db.run("UPDATE people SET age = :age WHERE id = 'ana'", age=row["age"] + 1)

    threads = [threading.Thread(target=grow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.one("SELECT age FROM people") == {"age": 200}


def test_the_second_of_two_equal_rows_is_taken_and_the_transaction_may_go_on(db: Database) -> None:
    with db.transaction():
        born(db, "ana")
        with pytest.raises(Conflict) as refused:
            born(db, "ana")
        assert refused.value.code == "taken"
        assert "ana" not in str(refused.value)
        born(db, "bea")
    assert people(db) == ["ana", "bea"]


def test_a_row_never_points_at_nothing(db: Database) -> None:
    with pytest.raises(Conflict) as refused, db.transaction():
        db.run("INSERT INTO pets (id, owner) VALUES ('rex', 'nobody')")
    assert refused.value.code == "orphan"


def test_a_backup_is_the_database_of_one_moment(db: Database, tmp_path: Path) -> None:
    with db.transaction():
        born(db, "ana")
    target = tmp_path / "copy.db"
    db.backup(target)
    db.backup(target)
    with db.transaction():
        born(db, "bea")
    copy = open_database(f"sqlite:///{target}")
    assert people(copy) == ["ana"]
    copy.check()
    copy.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "store"]


def test_a_sound_database_passes_its_check(db: Database) -> None:
    db.check()
    assert db.forget()
    assert people(db) == []


def test_a_closed_database_answers_nothing(db: Database) -> None:
    db.close()
    db.close()
    with pytest.raises(RuntimeError):
        people(db)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/db",
        "postgres://host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///a?mode=ro",
        "mysql://h/d",
        "",
    ],
)
def test_an_unknown_database_url_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(BadUsage, match="sqlite:///absolute/path") as refused:
        open_database(url)
    assert refused.value.code == "bad-setting"


# ---- objects ----


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return FileObjects(tmp_path / "objects") if request.param == "files" else MemoryObjects()


def an_object(size: int = SIZE) -> tuple[str, bytes]:
    content = os.urandom(size)
    return f"{DOSSIER}/{hashlib.sha256(content).hexdigest()}", content


def pieces(content: bytes, size: int = 65_000) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def cut_off(content: bytes, wrong: Exception) -> Iterator[bytes]:
    yield from pieces(content)
    raise wrong


def whole(store: Objects, key: str) -> bytes:
    return b"".join(store.read(key))


def test_an_object_comes_back_as_it_was_sent(store: Objects) -> None:
    key, content = an_object()
    assert not store.has(key)
    assert store.receive(key, 0, pieces(content), SIZE) == Stored()
    assert store.has(key)
    assert store.held(key) == 0
    assert whole(store, key) == content
    assert list(store.names(DOSSIER)) == [key.split("/")[1]]
    assert list(store.names(OTHER)) == []


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 0),
        (0, 1),
        (5, 5),
        (1 << 20, (1 << 20) + 1),
        (7, SIZE),
        (SIZE - 1, SIZE + 9),
        (SIZE + 5, None),
        (99, None),
    ],
)
def test_a_range_is_what_a_slice_would_be(store: Objects, start: int, stop: int | None) -> None:
    key, content = an_object()
    store.receive(key, 0, pieces(content), SIZE)
    assert b"".join(store.read(key, start, stop)) == content[start:stop]


def test_a_missing_object_is_known_before_its_first_byte(store: Objects) -> None:
    key, content = an_object(10)
    with pytest.raises(NotFound):
        store.read(key)
    store.receive(key, 0, [content[:5]], 10)
    with pytest.raises(NotFound):
        store.read(key)


def test_an_upload_goes_on_where_its_body_ended(store: Objects) -> None:
    key, content = an_object()
    assert store.receive(key, 0, pieces(content[:1_500_000]), SIZE) == Partial(1_500_000)
    assert store.held(key) == 1_500_000
    assert not store.has(key)
    assert list(store.names(DOSSIER)) == []
    assert list(store.unfinished(DOSSIER)) == [key.split("/")[1]]
    assert store.receive(key, 1_500_000, pieces(content[1_500_000:]), SIZE) == Stored()
    assert whole(store, key) == content
    assert list(store.unfinished(DOSSIER)) == []


def test_what_arrived_before_the_client_was_cut_off_is_kept(store: Objects) -> None:
    key, content = an_object()
    for to in (70_001, 2_000_000):
        held = store.held(key)
        with pytest.raises(ConnectionResetError):
            store.receive(key, held, cut_off(content[held:to], ConnectionResetError()), SIZE)
        assert store.held(key) == to
    assert store.receive(key, 2_000_000, [content[2_000_000:]], SIZE) == Stored()
    assert whole(store, key) == content


def test_a_client_cut_off_after_its_last_byte_has_sent_everything(store: Objects) -> None:
    key, content = an_object()
    assert store.receive(key, 0, cut_off(content, ConnectionResetError()), SIZE) == Stored()
    assert whole(store, key) == content


def test_an_upload_that_begins_elsewhere_is_told_where_to_begin(store: Objects) -> None:
    key, content = an_object(1000)
    store.receive(key, 0, [content[:400]], 1000)
    for offset in (0, 399, 401, 1000):
        with pytest.raises(WrongOffset) as refused:
            store.receive(key, offset, [content[offset:]], 1000)
        assert refused.value.held == 400
        assert refused.value.code == "wrong-offset"
    assert store.held(key) == 400
    key, content = an_object(1000)
    with pytest.raises(WrongOffset) as refused:
        store.receive(key, 1, [content[1:]], 1000)
    assert refused.value.held == 0
    assert list(store.unfinished(DOSSIER)) != [key.split("/")[1]]


def wrong_bytes(content: bytes) -> Iterable[tuple[str, int, bytes]]:
    yield "one bit", 0, content[:-1] + bytes([content[-1] ^ 1])
    yield "too many", 0, content + b"x"
    yield "far too many", 0, content * 2


def test_wrong_bytes_are_refused_and_none_of_them_is_kept(store: Objects) -> None:
    key, content = an_object()
    for _, offset, sent in wrong_bytes(content):
        with pytest.raises(Untrusted) as refused:
            store.receive(key, offset, pieces(sent), SIZE)
        assert refused.value.code == "object-mismatch"
        assert store.held(key) == 0
        assert not store.has(key)
    store.receive(key, 0, [b"wrong"], SIZE)
    with pytest.raises(Untrusted):
        store.receive(key, 5, pieces(content[5:]), SIZE)
    assert store.held(key) == 0
    assert store.receive(key, 0, pieces(content), SIZE) == Stored()


def test_what_is_stored_already_is_not_read_again(store: Objects) -> None:
    key, content = an_object(1000)
    store.receive(key, 0, [content], 1000)

    def never() -> Iterator[bytes]:
        raise AssertionError
        yield b""

    assert store.receive(key, 0, never(), 1000) == Stored()
    assert store.receive(key, 500, never(), 1000) == Stored()


def test_of_two_uploads_of_one_object_the_second_is_told_to_wait(store: Objects) -> None:
    key, content = an_object()

    def while_another_tries() -> Iterator[bytes]:
        yield content[:1000]
        with pytest.raises(Conflict) as refused:
            store.receive(key, 0, [content], SIZE)
        assert refused.value.code == "busy"
        yield content[1000:]

    assert store.receive(key, 0, while_another_tries(), SIZE) == Stored()
    assert whole(store, key) == content


def test_many_uploads_of_one_object_at_once_end_with_the_object(store: Objects) -> None:
    key, content = an_object()
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        while not store.has(key):
            try:
                held = store.held(key)
                store.receive(key, held, pieces(content[held : held + 500_000]), SIZE)
            except Conflict:
                pass

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole(store, key) == content


def test_deleting_takes_the_object_its_upload_and_nothing_else(store: Objects) -> None:
    (one, first), (two, second), (three, third) = an_object(100), an_object(100), an_object(100)
    store.receive(one, 0, [first], 100)
    store.receive(two, 0, [second], 100)
    store.receive(three, 0, [third[:50]], 100)
    for key in (one, three, one):
        store.delete(key)
    assert not store.has(one)
    assert store.held(three) == 0
    assert list(store.names(DOSSIER)) == [two.split("/")[1]]
    assert list(store.unfinished(DOSSIER)) == []


def test_deleting_a_dossier_leaves_the_others_and_may_be_repeated(store: Objects) -> None:
    mine, content = an_object(100)
    theirs = mine.replace(DOSSIER, OTHER)
    half, other = an_object(100)
    for key in (mine, theirs):
        store.receive(key, 0, [content], 100)
    store.receive(half, 0, [other[:50]], 100)
    store.delete_dossier(DOSSIER)
    store.delete_dossier(DOSSIER)
    assert not store.has(mine)
    assert store.held(half) == 0
    assert whole(store, theirs) == content
    assert store.receive(mine, 0, [content], 100) == Stored()


def test_an_object_deleted_while_it_arrives_does_not_come_into_being(store: Objects) -> None:
    key, content = an_object()

    def deleted_meanwhile() -> Iterator[bytes]:
        yield content[:2_000_000]
        yield b""
        store.delete_dossier(DOSSIER)
        yield content[2_000_000:]

    with pytest.raises(NotFound):
        store.receive(key, 0, deleted_meanwhile(), SIZE)
    assert not store.has(key)
    assert list(store.names(DOSSIER)) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        f"{DOSSIER}/",
        f"{DOSSIER}/{'a' * 63}",
        f"{DOSSIER}/{'a' * 65}",
        f"{DOSSIER}/{'A' * 64}",
        f"{DOSSIER}/{'a' * 64}\n",
        f"{DOSSIER[:-1]}/{'a' * 64}",
        f"{DOSSIER}/../{DOSSIER}/{'a' * 64}",
        f"../{DOSSIER}/{'a' * 64}",
        f"{DOSSIER}\\{'a' * 64}",
        f"{DOSSIER}/{'a' * 63}\x00",
        f"{DOSSIER}/{'a' * 62}..",
        f"{DOSSIER}/{'١' * 64}",
    ],
)
def test_a_key_of_another_shape_goes_no_further(store: Objects, key: str) -> None:
    for ask in (
        store.has,
        store.held,
        store.read,
        store.delete,
        lambda key: store.receive(key, 0, [b"x"], 1),
        store.delete_dossier,
        lambda key: list(store.names(key)),
        lambda key: list(store.unfinished(key)),
    ):
        with pytest.raises(Malformed):
            ask(key)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (-5, -1), (3, 2)])
def test_a_range_does_not_go_backwards(store: Objects, start: int, stop: int | None) -> None:
    key, content = an_object(10)
    store.receive(key, 0, [content], 10)
    with pytest.raises(ValueError, match="forward"):
        store.read(key, start, stop)


def test_free_room_is_a_number_of_bytes(store: Objects) -> None:
    assert store.free() > 1 << 20


def test_a_full_memory_keeps_nothing_of_the_object() -> None:
    store = MemoryObjects(room=2_000_000)
    key, content = an_object()
    with pytest.raises(NoSpace):
        store.receive(key, 0, pieces(content), SIZE)
    assert store.held(key) == 0
    assert store.free() == 2_000_000


@pytest.mark.parametrize("url", ["s3://bucket", "file://", "file:///", "file://host/path", "objects", ""])
def test_an_unknown_store_url_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(BadUsage, match="file:///absolute/path") as refused:
        open_objects(url)
    assert refused.value.code == "bad-setting"


# ---- couriers ----


class Postbox:
    """What arrived, and what is said to each recipient."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, str]] = []

    async def handle_RCPT(
        self, server: object, session: object, envelope: object, to: str, options: object
    ) -> str:
        if to.startswith("never"):
            return f"550 5.1.1 <{to}> does not live here"
        if to.startswith("later"):
            return f"451 4.3.0 <{to}> is asleep"
        envelope.rcpt_tos.append(to)  # type: ignore[attr-defined]  # aiosmtpd has no types
        return "250 OK"

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        text = envelope.content.decode()  # type: ignore[attr-defined]  # aiosmtpd has no types
        message_id = next(line for line in text.splitlines() if line.lower().startswith("message-id:"))
        self.arrived.append((envelope.rcpt_tos[0], message_id.split("<")[1].rstrip(">")))  # type: ignore[attr-defined]  # the same
        return "250 OK"


def as_a_postbox(parcel: Parcel) -> Outcome:
    if parcel.to.startswith("never"):
        return PermanentFailure("nobody lives there")
    return TemporaryFailure("asleep") if parcel.to.startswith("later") else Accepted()


@pytest.fixture(params=["memory", "smtp"])
def post(request: pytest.FixtureRequest) -> Iterator[tuple[Courier, Callable[[], list[tuple[str, str]]]]]:
    if request.param == "memory":
        memory = MemoryCourier(as_a_postbox)
        yield memory, lambda: [(parcel.to, parcel.message_id) for parcel in memory.carried]
        return
    postbox = Postbox()
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = Controller(postbox, hostname="127.0.0.1", port=port)
    server.start()
    courier = SmtpCourier(Mail("127.0.0.1", port, "none", None, None, "box@newsroom.example"))
    yield courier, lambda: postbox.arrived
    courier.close()
    server.stop()


def a_parcel(to: str = "ana@example.org", number: int = 1) -> Parcel:
    return Parcel(
        message_id=f"{number}@newsroom.example",
        to=to,
        sender="box@newsroom.example",
        subject="Ein Gruß",
        body="Güten Tag.\n.\nfrom a line with a dot\n",
        language="en",
        date=1_700_000_000_000,
    )


def test_letters_arrive_in_order_each_with_its_own_id(post: tuple[Courier, Callable[[], object]]) -> None:
    courier, arrived = post
    for number in range(3):
        assert courier.carry(a_parcel(number=number)) == Accepted()
    assert arrived() == [("ana@example.org", f"{number}@newsroom.example") for number in range(3)]


def test_one_refused_letter_does_not_hold_up_the_next(post: tuple[Courier, Callable[[], object]]) -> None:
    courier, arrived = post
    assert isinstance(courier.carry(a_parcel("never@example.org")), PermanentFailure)
    assert isinstance(courier.carry(a_parcel("later@example.org")), TemporaryFailure)
    assert courier.carry(a_parcel()) == Accepted()
    assert arrived() == [("ana@example.org", "1@newsroom.example")]


def test_a_reason_names_nobody(post: tuple[Courier, Callable[[], object]]) -> None:
    courier, _ = post
    for who in ("never@example.org", "later@example.org"):
        outcome = courier.carry(a_parcel(who))
        assert not isinstance(outcome, Accepted)
        assert "example.org" not in outcome.reason
        assert who.split("@")[0] not in outcome.reason


def test_a_closed_courier_opens_again_when_it_is_asked(post: tuple[Courier, Callable[[], object]]) -> None:
    courier, arrived = post
    courier.carry(a_parcel())
    courier.close()
    courier.close()
    assert courier.carry(a_parcel(number=2)) == Accepted()
    assert arrived() == [("ana@example.org", "1@newsroom.example"), ("ana@example.org", "2@newsroom.example")]


def test_the_same_letter_carried_twice_keeps_its_id(post: tuple[Courier, Callable[[], object]]) -> None:
    courier, arrived = post
    assert [courier.carry(a_parcel()) for _ in range(2)] == [Accepted(), Accepted()]
    assert arrived() == [("ana@example.org", "1@newsroom.example")] * 2


def test_a_parcel_does_not_print_whom_it_is_for() -> None:
    assert "ana" not in repr(a_parcel())
    assert "Gruß" not in repr(a_parcel())


def test_discarding_gives_up_an_interrupted_upload_and_nothing_else(store: Objects) -> None:
    key, whole = an_object()
    store.receive(key, 0, [whole[:100]], len(whole))
    store.discard(key)
    assert store.held(key) == 0
    store.receive(key, 0, [whole], len(whole))
    store.discard(key)
    assert store.has(key)


def test_discarding_leaves_an_upload_that_is_going_on(store: Objects) -> None:
    key, whole = an_object()

    def body() -> Iterator[bytes]:
        yield whole[:100]
        store.discard(key)
        yield whole[100:]

    assert store.receive(key, 0, body(), len(whole)) == Stored()
