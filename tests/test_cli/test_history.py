"""`afterword history`, and how a server that forgot is found out by those who use it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import history, promises
from cli.home import Home
from cli.session import Session
from test_cli.newsroom import Newsroom
from vault import statements, switch, watch, wire
from vault.statements import Acknowledgement
from vault.storage.records.rows import Account


@pytest.fixture
def at_work(newsroom: Newsroom) -> Newsroom:
    newsroom.journalist("Ana")
    newsroom.dossier()
    for who in ("Bea", "Carlos"):
        newsroom.ran(who, "drill")
    newsroom.ran("Ana", "arm", "Fishing licences", "--anyway")
    newsroom.ran("Ana", "checkin")
    return newsroom


def account(at: Newsroom, who: str) -> Account:
    with Home.open(at.home(who)) as home:
        found = at.vault.records.account_with_card(home.card.hash.hex())
    assert found is not None
    return found


def set_back(at: Newsroom, who: str, by: int) -> None:
    """As if the newest entries had never been written."""
    hers = account(at, who)
    records = at.vault.records
    (kept,) = records.history(hers.id, hers.number - by - 1, 1)
    with records.transaction():
        records.db.run("DELETE FROM history WHERE account = :a AND number > :n", a=hers.id, n=kept.number)
        records.db.run(
            "UPDATE accounts SET number = :n, history = :h WHERE id = :a",
            a=hers.id,
            n=kept.number,
            h=kept.hash,
        )


def test_a_sound_history_is_shown_in_words_and_a_server_that_forgot_is_found_out(at_work: Newsroom) -> None:
    shown = at_work.ran("Ana", "history")
    assert "you checked in" in shown
    assert "Fishing licences: you armed the switch" in shown
    assert "It holds" in shown
    told = at_work.json("Ana", "history")
    entries = told["entries"]
    assert isinstance(entries, list)
    assert [each["number"] for each in entries] == list(range(1, len(entries) + 1))
    assert told["code"] is None
    assert all(each["at"] for each in entries)
    # A backup comes back that lacks her check-in: she hears of it with her next one, which counts nevertheless.
    set_back(at_work, "Ana", 2)
    checked = at_work.run("Ana", "checkin")
    assert checked.code == 0
    assert "gone back to an older state" in checked.out
    assert account(at_work, "Ana").marked
    again = at_work.run("Ana", "history")
    assert again.code == 0
    assert "THE SERVER HAD GONE BACK" in again.out
    assert "of before the server went back" in again.out


def noted() -> Iterator[str]:
    """Every `what` that some part of the server hands to `ledger.note`, and the kinds of what it acknowledges."""
    for file in sorted(Path(switch.__file__).parent.glob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            named = {
                each.targets[0].id: each.value
                for each in ast.walk(function)
                if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) in _NOTING[file.stem == "ledger"]:
                    what = call.args[3]
                    yield from _words(named.get(what.id, what) if isinstance(what, ast.Name) else what)
    unanswered = {"login", "acknowledgement", "release"}
    yield from {each.kind for each in statements.Statement.__subclasses__()} - unanswered


_NOTING = (("ledger.note",), ("note",))


def _words(what: ast.expr) -> Iterator[str]:
    match what:
        case ast.Constant(value=str(word)):
            yield word
        case ast.IfExp(body=one, orelse=other):
            yield from _words(one)
            yield from _words(other)
        case _:
            assert ast.unparse(what) == "statement.kind", ast.unparse(what)


def test_whatever_the_server_notes_has_words() -> None:
    found = set(noted())
    assert {"held", "hold-asked", "forked", "moved", "checkin"} <= found
    assert found - {"moved"} <= set(history._WORDS)
    assert set(history._WORDS) <= found


def test_her_own_joining_and_each_colleagues_are_told_apart(at_work: Newsroom) -> None:
    said = at_work.ran("Ana", "history")
    assert said.count("you joined") == 1
    assert said.count("a colleague joined") == 2
    assert "a colleague joined" not in at_work.ran("Bea", "history")


def test_what_another_command_is_promised_meanwhile_is_no_alarm(
    at_work: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = history.fetch

    def slowly(session: Session) -> list[wire.HistoryEntry]:
        entries = genuine(session)
        at_work.ran("Ana", "checkin")
        return entries

    monkeypatch.setattr(history, "fetch", slowly)
    assert "It holds" in at_work.ran("Ana", "history")


def a_signed_head(number: int) -> Acknowledgement:
    return Acknowledgement(
        server="a" * 64,
        account="b" * 64,
        statement="c" * 64,
        seq=0,
        life="f1" * 16,
        lived=0,
        served=0,
        number=number,
        history="0" * 64,
        commitment=None,
        created=0,
    )


def test_a_server_that_signs_an_entry_of_number_0_is_refused_in_a_sentence_and_not_believed() -> None:
    assert history.verify([], [], a_signed_head(0)).code == promises.SHORTER
    kept = promises.Head("f1" * 16, 0, "0" * 64, 0, 0)
    assert history.verify([], [kept], None).code == promises.SHORTER


def test_a_history_that_does_not_hold_ends_with_its_own_code(
    at_work: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = history.fetch
    monkeypatch.setattr(history, "fetch", lambda session: genuine(session)[:-1])
    ran = at_work.run("Ana", "history")
    assert (ran.code, "afterword: history-shorter" in ran.err) == (6, True)

    def altered(session: object) -> list[wire.HistoryEntry]:
        entries = genuine(session)  # type: ignore[arg-type]  # handed on as it came
        entries[2] = wire.HistoryEntry(3, entries[2].entry.replace('"n":3', '"n":4'), entries[2].hash)
        return entries

    monkeypatch.setattr(history, "fetch", altered)
    ran = at_work.run("Ana", "history")
    assert (ran.code, "afterword: history-broken" in ran.err) == (6, True)
    assert "Go on checking in" in ran.err
    monkeypatch.setattr(history, "fetch", genuine)
    with Home.open(at_work.home("Ana")) as home:
        head = promises.heads(home)[-1]
        home.db.execute("INSERT INTO heads VALUES (?, 2, ?, 1, 1)", (head.life, "f" * 64))
    ran = at_work.run("Ana", "history")
    assert (ran.code, "afterword: history-forked" in ran.err) == (6, True)


def test_a_fork_is_said_at_once_by_every_command_and_keeps_nobody_from_checking_in(
    at_work: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has gone back and hides it, to the journalist and to a colleague."""
    from vault import ledger

    def hiding(records: object, custodian: object, now: object, account: object, last: object) -> object:
        return ledger.Presented(account, now, lost=False)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(ledger, "present", hiding)
    at_work.ran("Bea", "drill")
    for who in ("Ana", "Bea"):
        set_back(at_work, who, 1)
    checked = at_work.run("Ana", "checkin")
    assert checked.code == 0
    assert "THE SERVER" in checked.out
    assert "afterword history" in checked.out
    for who, command in (("Ana", "status"), ("Bea", "inbox"), ("Bea", "status")):
        ran = at_work.run(who, command)
        assert ran.code == 0
        assert "THE SERVER" in ran.err
        assert at_work.json(who, command)["history"]
    findings = at_work.json("Bea", "doctor")["findings"]
    assert any(each["code"].startswith("history-") for each in findings)  # type: ignore[attr-defined]


def test_a_release_that_a_colleague_saw_is_brought_back_by_looking_into_the_inbox(at_work: Newsroom) -> None:
    records, custodian = at_work.vault.records, at_work.vault.custodian
    (dossier,) = records.names_of(account(at_work, "Ana").id)
    before = dict(records.db.one("SELECT * FROM switches WHERE dossier = :d", d=dossier) or {})
    with records.transaction() as now:
        watch.apply(records, custodian, now, dossier, switch.Recalled())
    first = records.release(dossier)
    assert "RELEASED" in at_work.ran("Bea", "inbox")
    with records.transaction():
        records.db.run("DELETE FROM releases WHERE dossier = :d", d=dossier)
        names = [name for name in before if name != "dossier"]
        records.db.run(
            f"UPDATE switches SET {', '.join(f'{n} = :{n}' for n in names)} WHERE dossier = :dossier",  # noqa: S608 our own names
            **before,
        )
    assert "RELEASED" not in at_work.ran("Carlos", "inbox"), "who has not seen it cannot know"
    ran = at_work.run("Bea", "inbox")
    assert "released it again" in ran.err
    assert "RELEASED" in ran.out
    assert records.release(dossier) == first
    assert "RELEASED" in at_work.ran("Carlos", "inbox")
    # Of another roster it is refused, and said.
    with records.transaction():
        records.db.run("DELETE FROM releases WHERE dossier = :d", d=dossier)
        records.db.run(
            f"UPDATE switches SET {', '.join(f'{n} = :{n}' for n in names)} WHERE dossier = :dossier",  # noqa: S608 our own names
            **before,
        )
    with Home.open(at_work.home("Bea")) as home:
        home.db.execute("UPDATE releases SET checkin = NULL")
    ran = at_work.run("Bea", "inbox")
    assert ran.code == 6
    assert "holds the server's own signature" in ran.out


def test_a_home_of_before_checks_in_from_a_disk_that_takes_nothing(tmp_path: Path, at_work: Newsroom) -> None:
    with Home.open(at_work.home("Ana")) as home:
        home.db.execute("DROP TABLE heads")
        home.db.execute("DROP TABLE releases")
        home.db.execute("PRAGMA user_version = 1")
        home.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with Home.open_unwritten(at_work.home("Ana")) as home:
        assert promises.heads(home) == []
