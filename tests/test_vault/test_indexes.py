"""What a tick, a check-in or a letter asks of the database is found by an index, however much lies there."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import pytest

from tests.world import World, an_armed_dossier
from vault import accounts, statements, watch
from vault.clock import HOUR
from vault.errors import Damaged
from vault.storage.records import Records
from vault.switch import Stage

GROWING: Final = (
    "outbox", "history", "statements", "switches", "changes", "objects", "sessions", "invites", "accounts", "addresses",
    "links", "dossiers", "collaborators", "rosters", "heads", "copies", "releases", "holds", "spent_nonces",
)  # fmt: skip
# What is on its way or late just now: such an index holds no more lines than there is work.
SHORT: Final = (
    "outbox_due",
    "outbox_turns",
    "outbox_waiting",
    "switches_late",
    "switches_newly_late",
    "switches_unswept",
)
# Asked by an operator's command, a restore or a backup, and by nothing that anybody waits for.
OPERATORS: Final = {
    "accounts",
    "all_changes",
    "all_objects",
    "count_letters",
    "count_stages",
    "drifting_objects",
    "failing_accounts",
    "forget_sessions",
    "names_of_accounts",
    "names_of_dossiers",
    "standing_changes",
    "switches_in",
    "unreachable_readers",
}
# Written by the key of their own row, from structs that are made elsewhere.
BY_KEY: Final = {
    "add_switch",
    "save_switch",
    "save_service",
    "save_wave",
    "add_server",
    "take_over",
    "note_probe",
}


class Overheard:
    """A database that answers nothing and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def run(self, sql: str, **params: Any) -> int:
        self.asked.append((sql, params))
        return 0

    def one(self, sql: str, **params: Any) -> None:
        self.asked.append((sql, params))

    def all(self, sql: str, **params: Any) -> list[Any]:
        self.asked.append((sql, params))
        return []


class Anything:
    """A row of which every column is the same."""

    __struct_fields__ = ()

    def __getattr__(self, name: str) -> int:
        return 1


def made_up(parameter: inspect.Parameter) -> Any:
    match str(parameter.annotation).removesuffix(" | None"):
        case "int" | "<class 'int'>":
            return 1
        case "str" | "<class 'str'>":
            return "a"
        case "bytes" | "<class 'bytes'>":
            return b"a"
        case "tuple[int, str]":
            return (1, "a")
        case "tuple[str, ...]" | "collections.abc.Iterable[str]":
            return ("a", "b")
        case "list[vault.storage.records.rows.Collaborator]":
            return []
        case _:
            return Anything()


def verbs() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, verb in inspect.getmembers(Records, inspect.isfunction):
        if not name.startswith("_") and name not in {
            "transaction",
            "reading",
            "found_service",
            "begin_new_life",
        }:
            yield name, verb


def asked_by(world: World, verb: Callable[..., Any]) -> list[tuple[str, dict[str, Any]]]:
    overheard = Overheard()
    records = Records(cast(Any, overheard), world.clock, world.tick)
    given = [
        Stage.ARMED if each.kind is each.VAR_POSITIONAL else made_up(each)
        for each in list(inspect.signature(verb).parameters.values())[1:]
    ]
    with contextlib.suppress(Damaged):  # no answer is no row
        verb(records, *given)
    # A row made up without columns is only inserted.
    return [(sql, params) for sql, params in overheard.asked if "()" not in sql]


def walks(world: World, sql: str, params: dict[str, Any]) -> list[str]:
    """The steps of its plan that read a growing table, or an index of one, from one end to the other."""
    lines = world.database._connection().execute("EXPLAIN QUERY PLAN " + sql, params).fetchall()
    aliases = {word: table for table in GROWING for word in (table, *_aliases(sql, table))}
    found = []
    for step in (str(line[3]) for line in lines):
        words = step.split()
        # A SEARCH that uses nothing looks for the smallest or the largest in the whole table.
        whole = words[0] == "SCAN" or (words[0] == "SEARCH" and "USING" not in words)
        if whole and words[1] in aliases and not any(f"INDEX {name}" in step for name in SHORT):
            found.append(step)
    return found


def _aliases(sql: str, table: str) -> list[str]:
    words = sql.replace(",", " ").replace(")", " ").split()
    return [words[place + 1] for place, word in enumerate(words[:-1]) if word == table]


def test_no_verb_that_anybody_waits_for_reads_a_growing_table_from_end_to_end(world: World) -> None:
    wrong, seen = {}, 0
    for name, verb in verbs():
        if name in BY_KEY | OPERATORS:
            continue
        for sql, params in asked_by(world, verb):
            seen += 1
            if steps := walks(world, sql, params):
                wrong[name] = steps
    assert wrong == {}
    assert seen > 120


def test_what_is_tidied_every_minute_is_found_by_its_own_index(world: World) -> None:
    for verb, index in (
        (Records.forget_codes, "outbox_codes_over"),
        (Records.settled_letters, "outbox_settled"),
    ):
        for sql, params in asked_by(world, verb):
            lines = world.database._connection().execute("EXPLAIN QUERY PLAN " + sql, params).fetchall()
            assert [f"INDEX {index} " in str(line[3]) for line in lines] == [True], lines


def test_the_reading_of_plans_sees_a_table_that_is_walked_through(world: World) -> None:
    assert walks(world, "SELECT 1 FROM outbox WHERE reason = 'x'", {})
    assert walks(
        world, "SELECT 1 FROM accounts a JOIN statements s ON s.account = a.id WHERE s.change = 'x'", {}
    )
    assert walks(world, "SELECT MIN(asked) FROM changes", {})
    assert not walks(world, "SELECT 1 FROM outbox WHERE id = 'x'", {})


def test_what_only_operators_ask_is_asked_by_no_tick_no_check_in_and_no_letter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = an_armed_dossier(world)

    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("asked while somebody waits")

    for name in OPERATORS:
        monkeypatch.setattr(Records, name, refuse)
    made.hers.check_in()
    made.hers.order(made.id, statements.Destroy)
    world.pass_time(2 * HOUR)
    (change,) = world.records.changes_of_dossier(made.id)
    made.hers.order(made.id, statements.Cancel, change=change.hash)
    accounts.state(world.records, world.custodian, made.hers.account)
    accounts.forget_expired(world.records)
    plan = world.records.switch(made.id).switch.plan
    for dwell in (plan.every, plan.remind, plan.warn, plan.grace):
        world.skip(dwell + 2 * world.tick)
        world.pass_time(8 * world.tick)
    assert world.stage(made.id) is Stage.RELEASED
    assert isinstance(world.watch, watch.Watch)
