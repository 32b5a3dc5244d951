"""Every route for every role, asked for what is theirs, what is somebody else's, what nobody has and what is no id.

Rule of this room: a route that is not in the table below fails the tests. What is foreign and what is unknown are
answered alike to the last byte, after the same questions to the database, and neither changes a row.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.fire import tally
from tests.world import Dossier, Person, World, ask, digest, until
from vault import age, compose, statements, views, wire
from vault.clock import HOUR, MINUTE
from vault.errors import NotFound
from vault.plans import Plan
from vault.settings import read_settings
from vault.storage.records import Records
from vault.storage.records.rows import Account
from vault.storage.records.rows import Dossier as RowOfDossier
from vault.stream import OBJECT_SIZE
from vault.switch import Stage
from web import create_app
from web.contract import ROUTES
from web.examples import EXAMPLES

ANYBODY, SIGNER, SESSION, JOURNALIST = "anybody", "signer", "session", "journalist"
OWNER, COLLABORATOR, EITHER, READER = "owner", "collaborator", "either", "reader"

D: Final = "/api/v1/dossiers/<dossier>"
# Who may come in, written down a second time: the first is in web/contract.py, and the doors are the third.
WHO: Final = {
    ("GET", "/"): ANYBODY,
    ("GET", "/join"): ANYBODY,
    ("GET", "/robots.txt"): ANYBODY,
    ("GET", "/static/<path:filename>"): ANYBODY,
    ("OPTIONS", "/static/<path:filename>"): ANYBODY,
    ("GET", "/api/v1/server"): ANYBODY,
    ("GET", "/api/v1/health"): ANYBODY,
    ("POST", "/api/v1/nonces"): ANYBODY,
    ("POST", "/api/v1/accounts"): ANYBODY,
    ("POST", "/api/v1/check-ins"): SIGNER,
    ("POST", "/api/v1/sessions"): SIGNER,
    ("DELETE", "/api/v1/sessions"): SESSION,
    ("GET", "/api/v1/account"): SESSION,
    ("GET", "/api/v1/history"): SESSION,
    ("POST", "/api/v1/invites"): JOURNALIST,
    ("POST", "/api/v1/addresses"): SESSION,
    ("POST", "/api/v1/addresses/confirm"): SESSION,
    ("DELETE", "/api/v1/addresses/<address>"): SESSION,
    ("GET", "/api/v1/dossiers"): SESSION,
    ("POST", "/api/v1/dossiers"): JOURNALIST,
    ("GET", D): EITHER,
    ("GET", f"{D}/rosters"): EITHER,
    ("POST", f"{D}/rosters"): OWNER,
    ("POST", f"{D}/rosters/<int:epoch>/corrections"): OWNER,
    ("GET", f"{D}/deal"): OWNER,
    ("GET", f"{D}/share"): COLLABORATOR,
    ("GET", f"{D}/brief"): EITHER,
    ("GET", f"{D}/proofs"): EITHER,
    ("GET", f"{D}/release"): EITHER,
    ("POST", f"{D}/release"): EITHER,
    ("POST", f"{D}/statements"): EITHER,
    ("GET", f"{D}/heads"): READER,
    ("POST", f"{D}/heads"): OWNER,
    ("POST", f"{D}/objects/missing"): OWNER,
    ("HEAD", f"{D}/objects/<name>"): OWNER,
    ("PUT", f"{D}/objects/<name>"): OWNER,
    ("GET", f"{D}/objects/<name>"): READER,
}
ROLES: Final = ("foreign journalist", "foreign collaborator", "owner", "collaborator", "ex-collaborator")
OURS: Final = frozenset({"owner", "collaborator", "ex-collaborator"})
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
# What is no id: too short, too long, upper case, other letters, other things altogether.
NO_IDS: Final = (
    "0", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 4_000, "%00", "%0a" + "0" * 31, "..", "%2e%2e", "..%2f..",
    "null", "-1", "0x" + "0" * 30, "' OR 1=1 --", "%F0%9F%A6%89", "%ff%fe", "\u0660" * 32, "{}", "*", "0" * 31 + "%20",
)  # fmt: skip
NO_TOKENS: Final = (
    "", "Bearer", "Bearer ", "Bearer 0", "Bearer " + "0" * 63, "Bearer " + "0" * 65, "Bearer " + "A" * 64, "Basic YTpi",
    "Bearer " + "0" * 64 + " x", "bearer\t" + "0" * 64, "Token " + "0" * 64, "Bearer ' OR 1=1 --", "x" * 5_000,
    "Bearer " + "\xe9" * 64, "Bearer " + "g" * 64, "0" * 64,
)  # fmt: skip


@dataclass
class House:
    """A server with two newsrooms that know nothing of each other. Each has an armed dossier and a released one."""

    world: World
    app: Flask
    people: dict[str, Person]
    tokens: dict[str, str]
    expired: str
    revoked: str
    dossiers: dict[str, list[Dossier]]
    addresses: dict[str, str]
    objects: dict[str, str] = field(default_factory=dict)
    """By dossier, the name of an object that it holds."""

    def ask(
        self, token: str | None, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> TestResponse:
        if token is not None:
            headers["Authorization"] = token if token in NO_TOKENS else f"Bearer {token}"
        if body is not None and method != "PUT":
            headers["Content-Type"] = "application/json"
        return self.app.test_client().open(path, method=method, data=body, headers=headers, buffered=True)

    def theirs(self, role: str) -> list[Dossier]:
        return self.dossiers["ours" if role in OURS else "others"]

    def foreign(self, role: str) -> list[Dossier]:
        return self.dossiers["others" if role in OURS else "ours"]

    def rows(self) -> list[str]:
        """Everything that is stored, but for the clock's own row and nonces."""
        with closing(sqlite3.connect(self.world.folder / "afterword.db")) as db:
            return [
                line
                for line in db.iterdump()
                if not line.startswith(('INSERT INTO "service"', 'INSERT INTO "nonces"'))
            ]


def a_newsroom(world: World, name: str) -> tuple[list[Person], list[Dossier]]:
    """A journalist, two colleagues and one who was one; a dossier that is armed, and one that was released."""
    hers = world.journalist(name)
    hers.confirm(f"{name}@example.org")
    people = [hers.colleague(f"{name}'s {number}") for number in range(3)]
    made = []
    for plan in (Plan(20 * HOUR, 20 * HOUR, 20 * HOUR, 20 * HOUR), Plan(HOUR, HOUR, HOUR, HOUR)):
        each = hers.create(people, 2, plan)
        change, corrections, _ = each.next_roster(people[:2], 2)
        ask(each, msgspec.structs.replace(change, corrections=corrections.corrections))
        each.readers = people[:2]
        each.push()
        each.prove()
        each.arm()
        made.append(each)
    return [hers, *people], made


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    world = World(tmp_path_factory.mktemp("house"), tick=5 * MINUTE, short=True)
    settings = read_settings({"AFTERWORD_LOW_WATER": "0"}, data=world.folder, short=True)
    vault = compose.Vault(settings, world.records, world.objects, world.custodian)
    (ana, bruno, _, elif_), ours = a_newsroom(world, "ana")
    (flora, gil, _, _), others = a_newsroom(world, "flora")
    for each in (ours[1], others[1]):
        until(each, Stage.RELEASED)
    for each in (ours[0], others[0]):
        assert each.stage is not Stage.RELEASED
    people = dict(zip(ROLES, (flora, gil, ana, bruno, elif_), strict=True))
    found = House(world, create_app(vault), people, {}, "", "", {"ours": ours, "others": others}, {})
    found.expired = sign_in(found, ana)
    world.skip(HOUR)
    found.revoked = sign_in(found, ana)
    assert found.ask(found.revoked, "DELETE", "/api/v1/sessions").status_code == 204
    found.tokens = {role: sign_in(found, person) for role, person in people.items()}
    found.addresses = {
        role: world.records.addresses_of(person.account.id)[0].id
        if role in ("owner", "foreign journalist")
        else "0" * 32
        for role, person in people.items()
    }
    for each in (*ours, *others):
        row = world.database.one("SELECT name FROM objects WHERE dossier = :dossier LIMIT 1", dossier=each.id)
        assert row is not None
        found.objects[each.id] = str(row["name"])
    world.beat()
    yield found
    world.close()


def sign_in(house: House, person: Person) -> str:
    login = statements.Login(
        house.world.custodian.hash, person.card.verify_key.hex, person.nonce(), house.world.clock.wall()
    )
    request = wire.SessionRequest(person.sign(login))
    answer = house.ask(None, "POST", "/api/v1/sessions", wire.write(request))
    assert answer.status_code == 200, answer.text
    return wire.read(answer.data, wire.SessionGrant).token


def rules(app: Flask) -> set[tuple[str, str]]:
    """Every method of every rule; HEAD where Flask adds it to a GET is the GET's."""
    found = set()
    for rule in app.url_map.iter_rules():
        methods = rule.methods or set()
        found |= {(each, rule.rule) for each in methods - ({"HEAD"} if "GET" in methods else set())}
    return found


def fill(rule: str, dossier: str, name: str = "0" * 64, address: str = "0" * 32) -> str:
    given = {"dossier": dossier, "name": name, "address": address, "epoch": "2", "filename": "style.css"}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: given[found[1]], rule)


TAKES: Final = {
    (
        route.method,
        wire.API + route.path.replace("{epoch}", "<int:epoch>").replace("{", "<").replace("}", ">"),
    ): route.takes
    for route in ROUTES
}


def bodies(house: House, role: str, method: str, rule: str, dossier: str) -> list[bytes | None]:
    """What may be sent there: nothing, an empty object, one of the right shape, and some really signed for it."""
    takes = TAKES.get((method, rule))
    if takes is None:
        return [None]
    if takes is bytes:
        return [b"", bytes(OBJECT_SIZE)]
    shaped = next(each for each in EXAMPLES if type(each) is takes)
    return [
        b"",
        b"{}",
        wire.write(shaped),
        *(wire.write(each) for each in signed(house, role, rule, dossier)),
    ]


def signed(house: House, role: str, rule: str, dossier: str) -> list[msgspec.Struct]:
    """What this person really can sign about any id they please."""
    person, made = house.people[role], house.theirs(role)[0]
    common = {
        "server": house.world.custodian.hash,
        "dossier": dossier,
        "seq": person.account.seq + 1,
        "created": 1,
    }
    match rule.removeprefix(D):
        case "/statements":
            orders: list[statements.Statement] = [
                statements.Destroy(**common),  # type: ignore[arg-type]  # one dict for all types
                statements.Leave(**common),  # type: ignore[arg-type]
                statements.Arm(**common, epoch=2, anyway=True),  # type: ignore[arg-type]
                statements.Collected(**common, roster="0" * 64),  # type: ignore[arg-type]
                statements.Proof(**common, epoch=2, roster="0" * 64, index=1),  # type: ignore[arg-type]
            ]
            return [wire.Submission(person.sign(each)) for each in orders]
        case "/heads":
            root = wire.write_blob(age.seal(bytes(4096), made.key.recipient, os.urandom))
            return [
                wire.Submission(
                    person.sign(statements.Head(dossier, 2, "0" * 64, ("0" * 64,), root, None, 1))
                )
            ]
        case "/rosters":
            return [a_roster(person, made, dossier)]
        case _:
            return []


def a_roster(person: Person, made: Dossier, dossier: str) -> wire.RosterChange:
    """Epoch 3 of any dossier, whole and well signed, by this person."""
    sealed, commitments = made.deal(os.urandom(32), 3, made.readers, 2)
    given = made.for_custodian(os.urandom(32), 3)
    deal = age.seal(b"deal", person.keyring.deal_recipient, os.urandom)
    roster = made.roster(
        3, "0" * 64, made.readers, 2, sealed, commitments, given, deal, made.plan, made.cooling, None
    )
    roster = msgspec.structs.replace(roster, dossier=dossier)
    assert roster.deal == digest(deal)
    shares = tuple(wire.write_blob(blob) for blob in sealed)
    return wire.RosterChange(person.sign(roster), shares, wire.write_blob(deal), None)


def code_of(answer: TestResponse) -> str:
    if answer.mimetype == "application/problem+json" and answer.data:
        return wire.read(answer.data, wire.Problem).code
    return ""


def shown(answer: TestResponse) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer that anybody can see, but for the date."""
    return answer.status_code, [each for each in answer.headers if each[0] != "Date"], answer.data


def questions(
    house: House, token: str, method: str, path: str, body: bytes | None = None
) -> tuple[TestResponse, list[str]]:
    """The answer, and what the database was asked for it, values left out."""
    found: list[str] = []
    connection = house.world.database._connection()
    connection.set_trace_callback(found.append)
    try:
        answer = house.ask(token, method, path, body)
    finally:
        connection.set_trace_callback(None)
    return answer, [re.sub(r"'[^']*'|\b\d+\b|X'[0-9A-F]*'", "?", sql) for sql in found]


def of_a_dossier(who: str | None = None) -> list[tuple[str, str]]:
    return sorted(key for key, value in WHO.items() if "<dossier>" in key[1] and who in (None, value))


def test_no_route_is_without_an_entry_and_no_entry_without_a_route(house: House) -> None:
    assert rules(house.app) == set(WHO)


def test_the_table_says_what_the_contract_says() -> None:
    said = {
        (
            route.method,
            wire.API + route.path.replace("{epoch}", "<int:epoch>").replace("{", "<").replace("}", ">"),
        ): route.who
        for route in ROUTES
    }
    for key, who in WHO.items():
        if key in said:
            texts = {text for other, text in said.items() if WHO[other] == who}
            assert len(texts) == 1, (key, texts)


def test_a_route_that_is_new_would_be_noticed(house: House) -> None:
    grown = create_app(house.app.extensions["afterword"])
    grown.add_url_rule("/api/v1/dossiers/<dossier>/everything", "new", lambda dossier: "everything")
    assert rules(grown) != set(WHO)


@pytest.mark.parametrize("role", ROLES)
def test_what_is_foreign_is_answered_as_what_nobody_has(house: House, role: str) -> None:
    asked = 0
    for method, rule in of_a_dossier():
        for foreign in house.foreign(role):
            names = [house.objects[foreign.id], "0" * 64] if "<name>" in rule else ["0" * 64]
            for way in {method, "HEAD" if method == "GET" else method}:
                unknown = "f" * 32
                bodies_there = bodies(house, role, method, rule, foreign.id)
                bodies_nowhere = bodies(house, role, method, rule, unknown)
                before = house.rows()
                for name in names:
                    for there, nowhere in zip(bodies_there, bodies_nowhere, strict=True):
                        knock = partial(questions, house, house.tokens[role], way)
                        one, sql = knock(fill(rule, foreign.id, name), there)
                        other, same = knock(fill(rule, unknown, "1" * 64), nowhere)
                        what = f"{role}: {way} {rule} {there!r:.80}"
                        assert shown(one) == shown(other), what
                        assert one.status_code in (400, 404) or code_of(one) in (
                            "wrong-kind",
                            "untrusted",
                            "bad-roster",
                        ), (what, one.data[:300])
                        assert not one.data.count(foreign.id.encode()), what
                        assert sql == same, what
                        asked += 2
                assert house.rows() == before, f"{role}: {way} {rule}"
    tally.count("answers held against a role", asked)


@pytest.mark.parametrize("role", ROLES)
def test_whoever_may_comes_in_and_whoever_may_not_is_told_that_there_is_nothing(
    house: House, role: str
) -> None:
    for method, rule in of_a_dossier():
        who = WHO[method, rule]
        for mine in house.theirs(role):
            released = mine.stage is Stage.RELEASED
            may = {
                "owner": who in (OWNER, EITHER, READER),
                "foreign journalist": who in (OWNER, EITHER, READER),
                "collaborator": who in (COLLABORATOR, EITHER, READER),
                "foreign collaborator": who in (COLLABORATOR, EITHER, READER),
                "ex-collaborator": False,
            }[role]
            body = bodies(house, role, method, rule, mine.id)[-1]
            if takes_effect(method, rule):
                body = b"{}"
            if role == "ex-collaborator":
                body = bodies(house, role, method, rule, mine.id)[-1]
            answer = house.ask(house.tokens[role], method, fill(rule, mine.id, house.objects[mine.id]), body)
            what = f"{role}: {method} {rule} ({mine.stage}): {answer.status_code} {answer.data[:200]!r}"
            assert answer.status_code < 500, what
            if not may:
                assert answer.status_code == 404 or (
                    takes_effect(method, rule) and answer.status_code == 400
                ), what
                if method != "HEAD" and answer.status_code == 404:
                    assert code_of(answer) == "not-found", what
            elif who == READER and not released and role in ("collaborator", "foreign collaborator"):
                assert code_of(answer) == "not-released", what
            else:
                assert code_of(answer) not in ("not-found", "unauthenticated"), what
                assert answer.status_code != 404 or code_of(answer) == "no-brief", what


def takes_effect(method: str, rule: str) -> bool:
    """Where the real thing would change the house for those who come after."""
    return method == "POST" and rule.endswith(("/statements", "/heads", "/rosters", "/release"))


def test_an_ex_collaborator_is_a_stranger_to_what_was_theirs(house: House) -> None:
    for method, rule in of_a_dossier():
        for mine in house.dossiers["ours"]:
            there = bodies(house, "ex-collaborator", method, rule, mine.id)
            nowhere = bodies(house, "ex-collaborator", method, rule, "f" * 32)
            for one_body, other_body in zip(there, nowhere, strict=True):
                one = house.ask(
                    house.tokens["ex-collaborator"],
                    method,
                    fill(rule, mine.id, house.objects[mine.id]),
                    one_body,
                )
                other = house.ask(
                    house.tokens["ex-collaborator"], method, fill(rule, "f" * 32, "1" * 64), other_body
                )
                assert shown(one) == shown(other), f"{method} {rule} {one_body!r:.80}"


@pytest.mark.parametrize("role", ROLES)
def test_what_is_no_id_leads_nowhere(house: House, role: str) -> None:
    before = house.rows()
    for method, rule in of_a_dossier():
        for no_id in NO_IDS:
            for path in (fill(rule, no_id), fill(rule, house.theirs(role)[0].id, no_id)):
                if "<name>" not in rule and path != fill(rule, no_id):
                    continue
                answer = house.ask(
                    house.tokens[role],
                    method,
                    path,
                    bodies(house, role, method, rule, "f" * 32)[1:2][0]
                    if TAKES.get((method, rule))
                    else None,
                )
                what = f"{role}: {method} {path[:90]}: {answer.status_code} {answer.data[:100]!r}"
                # Collapsed to another address by its dots or slashes, it may be refused by that one.
                assert answer.status_code in (400, 404, 405, 308), what
                assert not answer.data or b"not-found" in answer.data or answer.status_code != 404, what
    assert house.rows() == before


def test_nobody_gets_anything_of_anybody(house: House) -> None:
    anybody = {key for key, who in WHO.items() if who in (ANYBODY, SIGNER)}
    everybodys = {each.id for part in house.dossiers.values() for each in part}
    for method, rule in sorted(set(WHO) - anybody):
        refused: dict[str, set[tuple[int, bytes]]] = {}
        for token in (None, *NO_TOKENS, house.expired, house.revoked, "1" * 64):
            for dossier in (*sorted(everybodys), "f" * 32):
                before = house.rows() if token is None else None
                for body in bodies(house, "owner", method, rule, dossier) if token is None else [b"{}"]:
                    answer = house.ask(
                        token, method, fill(rule, dossier, house.objects.get(dossier, "1" * 64)), body
                    )
                    what = f"{token!r:.20}: {method} {rule}: {answer.status_code} {answer.data[:100]!r}"
                    assert answer.status_code == 401, what
                    assert answer.headers["WWW-Authenticate"] == "Bearer", what
                    refused.setdefault(str(token), set()).add((answer.status_code, answer.data))
                if before is not None:
                    assert house.rows() == before, f"{method} {rule}"
        assert all(len(each) == 1 for each in refused.values()), f"{method} {rule}: {refused}"
    ended = [house.ask(token, "GET", "/api/v1/account") for token in (house.expired, house.revoked, "1" * 64)]
    assert len({answer.data for answer in ended}) == 1


@pytest.mark.parametrize("role", ["owner", "foreign journalist"])
def test_an_address_of_somebody_else_is_as_one_that_nobody_has(house: House, role: str) -> None:
    other = "foreign journalist" if role == "owner" else "owner"
    path = "/api/v1/addresses/<address>"
    before = house.rows()
    knock = partial(questions, house, house.tokens[role], "DELETE")
    one, sql = knock(fill(path, "", address=house.addresses[other]))
    two, same = knock(fill(path, "", address="e" * 32))
    assert shown(one) == shown(two)
    assert (one.status_code, code_of(one), sql) == (404, "not-found", same)
    assert house.rows() == before
    for no_id in NO_IDS:
        answer = house.ask(house.tokens[role], "DELETE", fill(path, "", address=no_id))
        assert answer.status_code in (404, 405, 308), no_id


@pytest.mark.parametrize("role", ["owner", "foreign journalist"])
def test_an_object_of_somebody_else_in_ones_own_dossier_is_as_one_that_nobody_has(
    house: House, role: str
) -> None:
    mine, other = house.theirs(role)[0].id, house.foreign(role)[0].id
    theirs = house.objects[other]
    for method in ("GET", "HEAD"):
        one = house.ask(house.tokens[role], method, f"/api/v1/dossiers/{mine}/objects/{theirs}")
        two = house.ask(house.tokens[role], method, f"/api/v1/dossiers/{mine}/objects/{'1' * 64}")
        assert shown(one) == shown(two)
        assert one.status_code == 404
    names = wire.write(wire.NamesRequest((theirs, house.objects[mine])))
    answer = house.ask(house.tokens[role], "POST", f"/api/v1/dossiers/{mine}/objects/missing", names)
    assert wire.read(answer.data, wire.MissingNames).missing == (theirs,)


@pytest.mark.parametrize("role", ROLES)
def test_a_list_has_ones_own_and_nothing_else(house: House, role: str) -> None:
    listed = wire.read(house.ask(house.tokens[role], "GET", "/api/v1/dossiers").data, wire.Dossiers).dossiers
    expected = set() if role == "ex-collaborator" else {each.id for each in house.theirs(role)}
    assert {each.dossier for each in listed} == expected
    for path in ("/api/v1/account", "/api/v1/history", "/api/v1/dossiers"):
        told = house.ask(house.tokens[role], "GET", path).text
        for other, person in house.people.items():
            linked = (other in OURS) == (role in OURS)
            assert linked or person.card.hash.hex() not in told, (path, other)
        for each in house.foreign(role):
            assert each.id not in told, path


def test_whoever_signs_for_somebody_else_cannot_tell_whether_they_have_an_account(house: House) -> None:
    flora, ana = house.people["foreign journalist"], house.people["owner"]
    given = flora.checkin_request()
    forged = [
        house.ask(
            None, "POST", "/api/v1/check-ins", wire.write(msgspec.structs.replace(given, account=account))
        )
        for account in (ana.card.hash.hex(), "e" * 64)
    ]
    assert shown(forged[0]) == shown(forged[1])
    assert code_of(forged[0]) == "untrusted"
    logins = []
    for key in (ana.card.verify_key.hex, "e" * 64):
        login = statements.Login(house.world.custodian.hash, key, flora.nonce(), 1)
        request = wire.SessionRequest(flora.sign(login))
        logins.append(house.ask(None, "POST", "/api/v1/sessions", wire.write(request)))
    assert shown(logins[0]) == shown(logins[1])
    assert code_of(logins[0]) == "unauthenticated"


@pytest.mark.parametrize("role", [None, *ROLES])
def test_no_other_method_does_anything(house: House, role: str | None) -> None:
    before = house.rows()
    known: dict[str, set[str]] = {}
    for method, rule in WHO:
        known.setdefault(rule, set()).update({method} | ({"HEAD"} if method == "GET" else set()))
    for rule, methods in known.items():
        for method in sorted(set(METHODS) - methods):
            token = None if role is None else house.tokens[role]
            answer = house.ask(token, method, fill(rule, house.dossiers["ours"][0].id), b"{}")
            # Two addresses look to other methods like an id that nobody has.
            shadowed = rule.endswith(("/addresses/confirm", "/objects/missing"))
            assert answer.status_code == 405 or (shadowed and answer.status_code in (401, 404)), (
                method,
                rule,
            )
            assert answer.status_code != 405 or methods <= set(answer.headers["Allow"].split(", "))
            assert house.rows() == before, f"{method} {rule}"


def test_a_door_that_told_the_two_apart_would_be_noticed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = views.orders.find

    def telling(records: Records, account: Account, dossier: str) -> RowOfDossier:
        if (
            records.dossier(dossier) is not None
            and account.id == house.people["foreign journalist"].account.id
        ):
            raise NotFound("There is no such dossier of yours.")
        return real(records, account, dossier)

    monkeypatch.setattr(views.orders, "find", telling)
    with pytest.raises(AssertionError, match="foreign journalist"):
        test_what_is_foreign_is_answered_as_what_nobody_has(house, "foreign journalist")
