"""The document, the table it is made from, the doors and the specification say the same."""

import ast
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.world import Dossier, Person, World
from vault import accounts, age, compose, errors, statements, wire
from vault.clock import HOUR
from vault.plans import Plan
from vault.settings import read_settings
from vault.stream import OBJECT_SIZE, SLICE_SIZE, seal_object
from vault.switch import Stage
from web import api, contract, create_app, openapi, problems
from web.contract import REFUSALS, ROUTES
from web.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "spec" / "openapi.json"
SPEC = (ROOT / "docs" / "spec" / "api-v1.md").read_text()
ANEW = """.venv/bin/python -P -c "from web import openapi; print(openapi.write().decode(), end='')" """
# The rooms whose refusals a client can meet, over HTTP.
REFUSING = (
    "vault/accounts.py", "vault/cooling.py", "vault/custodian.py", "vault/deposit.py", "vault/dossiers.py",
    "vault/holds.py", "vault/identity.py", "vault/ledger.py", "vault/letters.py", "vault/orders.py", "vault/plans.py",
    "vault/release.py", "vault/rosters.py", "vault/storage/objects.py", "vault/switch.py", "vault/views.py",
    "vault/watch.py", "web/api.py",
)  # fmt: skip
# What those rooms refuse on other ways than these: to a client, to an operator, or before a door asks.
ELSEWHERE = {"bad-name", "bad-plan", "bad-setting", "wrong-server-key", "wrong-words"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(KEPT.read_bytes())


def flask_path(path: str) -> str:
    return wire.API + path.replace("{epoch}", "<int:epoch>").replace("{", "<").replace("}", ">")


def test_the_kept_document_is_the_one_that_the_code_gives() -> None:
    assert KEPT.read_bytes() == openapi.write(), f"write it anew: {ANEW}> {KEPT.relative_to(ROOT)}"


def test_every_address_of_the_api_stands_in_the_document_and_no_other() -> None:
    app = Flask("map")
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.register_blueprint(api.bp, url_prefix=wire.API)
    answered = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            methods = rule.methods or set()
            # Flask adds HEAD to every GET; the document says so once.
            answered |= {(rule.rule, each) for each in methods - ({"HEAD"} if "GET" in methods else set())}
    assert {(flask_path(route.path), route.method) for route in ROUTES} == answered
    assert len(ROUTES) == len(answered)


def test_no_two_operations_have_one_name(document: dict[str, Any]) -> None:
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(names) == len(set(names)) == len(ROUTES)


def test_every_body_has_an_example_that_is_one() -> None:
    shown = {type(each) for each in EXAMPLES}
    bodies = {each for route in ROUTES for each in (route.takes, route.gives)} - {None, bytes}
    assert shown == bodies | {wire.Problem}
    for each in EXAMPLES:
        assert wire.read(wire.write(each), type(each)) == each


def test_the_document_shows_every_example_where_its_body_is_described(document: dict[str, Any]) -> None:
    for each in EXAMPLES:
        schema = document["components"]["schemas"][type(each).__name__]
        assert [msgspec.convert(told, type(each)) for told in schema["examples"]] == [each]


def test_requests_refuse_unknown_keys_and_answers_may_say_more(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for each in EXAMPLES:
        closed = schemas[type(each).__name__].get("additionalProperties") is False
        assert closed == isinstance(each, wire.Request)


def test_no_pattern_of_the_document_is_pythons_alone() -> None:
    patterns = re.findall(r'"pattern": "([^"]*)"', KEPT.read_text())
    assert patterns
    assert all(re.fullmatch(r"\^\[[0-9a-f-]+\]\{\d+\}\$", each) for each in patterns)


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    for name in re.findall(r'"\$ref": "#/components/schemas/([A-Za-z]+)"', KEPT.read_text()):
        assert name in document["components"]["schemas"]


def test_only_addresses_without_a_session_are_open(document: dict[str, Any]) -> None:
    for route in ROUTES:
        told = document["paths"][route.path][route.method.lower()]
        assert ("security" in told) == (route.who not in contract.WITHOUT_SESSION)
        assert ("unauthenticated" in route.refusals()) or "security" not in told


def refusals_in(path: str) -> list[tuple[str, str]]:
    """(class, code) of every refusal that this room makes with a code of its own."""
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and hasattr(errors, node.func.id):
            for word in node.keywords:
                if word.arg == "code" and isinstance(word.value, ast.Constant):
                    found.append((node.func.id, str(word.value.value)))
    return found


@pytest.mark.parametrize("path", REFUSING)
def test_no_refusal_of_a_chapter_is_missing_from_the_table(path: str) -> None:
    for kind, code in refusals_in(path):
        if code in ELSEWHERE:
            continue
        status = problems.status_of(getattr(errors, kind)("Something.", code=code))
        assert REFUSALS[code][0] == status, f"{code} is raised as {kind}, which is {status}"


def test_every_refusal_of_the_table_is_made_somewhere_and_met_somewhere() -> None:
    made = {code for path in REFUSING for _, code in refusals_in(path)}
    made |= {each.code for each in vars(errors).values() if hasattr(each, "code")}
    made |= {code for code, _ in problems.BY_STATUS.values()} | {"bug", "roster-forged"}
    met = {code for route in ROUTES for code in route.refusals()} | {"wrong-method"}
    assert set(REFUSALS) == met
    assert set(REFUSALS) <= made


def test_a_frameworks_own_refusals_keep_their_status() -> None:
    for status, (code, _) in problems.BY_STATUS.items():
        # `wrong-type` is ours before it could be the framework's.
        if code in REFUSALS and code != "wrong-type":
            assert REFUSALS[code][0] == status


def test_the_specification_names_every_address_and_every_refusal() -> None:
    for route in ROUTES:
        shown = re.sub(r"{dossier}", "ID", route.path)
        shown = re.sub(r"{([a-z]+)}", lambda found: found[1].upper(), shown)
        assert f"`{route.method} {shown}`" in SPEC, f"{route.method} {shown}"
    for code, (status, _) in REFUSALS.items():
        assert re.search(rf"^\| `{code}` \| {status} \|", SPEC, re.M), f"{code} {status}"


# A whole life over HTTP, in which nothing is answered that the document does not say.


@dataclass
class Witness:
    """A client that holds each answer to the document."""

    app: Flask
    document: dict[str, Any]
    met: set[tuple[str, str, int]] = field(default_factory=set)

    def ask(
        self,
        who: str | None,
        method: str,
        path: str,
        body: msgspec.Struct | bytes | None = None,
        headers: dict[str, str] | None = None,
        **ids: object,
    ) -> TestResponse:
        query = "?after=0" if path.endswith("heads") and method == "GET" else ""
        headers = dict(headers or {})
        if who is not None:
            headers["Authorization"] = f"Bearer {who}"
        if isinstance(body, msgspec.Struct):
            headers["Content-Type"] = "application/json"
        data = wire.write(body) if isinstance(body, msgspec.Struct) else body
        answer = self.app.test_client().open(
            wire.API + path.format(**ids) + query, method=method, data=data, headers=headers
        )
        self.check(method, path, answer)
        return answer

    def check(self, method: str, path: str, answer: TestResponse) -> None:
        what = f"{method} {path}: {answer.status_code} {answer.data[:200]!r}"
        self.met.add((method, path, answer.status_code))
        told = self.document["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in told, what
        said = told[str(answer.status_code)]
        if answer.mimetype == "application/problem+json" and method != "HEAD":
            assert wire.read(answer.data, wire.Problem).code in said["x-codes"], what
        elif answer.data and answer.status_code < 400:
            shape = said["content"][answer.mimetype]["schema"]
            if "$ref" in shape:
                body = json.loads(answer.data)
                schema = self.document["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
                assert set(body) <= set(schema["properties"]), what
                wire.read(answer.data, getattr(wire, schema["title"]))

    def session(self, person: Person) -> str:
        nonce = wire.read(self.ask(None, "POST", "/nonces").data, wire.NonceGrant).nonce
        login = statements.Login(
            person.world.custodian.hash, person.card.verify_key.hex, nonce, person.world.clock.wall()
        )
        signed = person.sign(login)
        grant = self.ask(None, "POST", "/sessions", wire.SessionRequest(signed))
        self.ask(None, "POST", "/sessions", wire.SessionRequest(signed))  # its nonce is spent
        return wire.read(grant.data, wire.SessionGrant).token


def a_statement(
    person: Person, dossier: str, kind: type[statements.Statement], **more: object
) -> wire.Submission:
    common: dict[str, object] = {
        "server": person.world.custodian.hash,
        "dossier": dossier,
        "seq": person.account.seq + 1,
        "created": person.world.clock.wall(),
    }
    return wire.Submission(person.sign(kind(**{**common, **more})))


def deposit_by(witness: Witness, ana: str, made: Dossier) -> None:
    """Two objects, one of them in two pieces, and their head."""
    objects = [
        seal_object(bytes(SLICE_SIZE), made.key.recipient, os.urandom),
        seal_object(bytes(SLICE_SIZE), made.key.recipient, os.urandom),
    ]
    one, two = ("/dossiers/{dossier}/objects/{name}",) * 2
    ids = {"dossier": made.id}
    for each in objects:
        assert witness.ask(ana, "HEAD", one, name=each.name, **ids).status_code == 404
    head = statements.Head(
        made.id,
        1,
        None,
        tuple(each.name for each in objects),
        wire.write_blob(age.seal(bytes(4096), made.key.recipient, os.urandom)),
        None,
        made.world.clock.wall(),
    )
    submission = wire.Submission(made.hers.sign(head))
    assert witness.ask(ana, "POST", "/dossiers/{dossier}/heads", submission, **ids).status_code == 409
    first, second = objects
    cut = 700_000
    answer = witness.ask(ana, "PUT", one, first.data[:cut], name=first.name, **ids)
    assert wire.read(answer.data, wire.Problem).code == "partial"
    held = witness.ask(ana, "HEAD", one, name=first.name, **ids)
    assert (held.status_code, held.headers["Upload-Offset"]) == (404, str(cut))
    again = witness.ask(ana, "PUT", one, first.data, name=first.name, **ids)
    assert (again.status_code, again.headers["Upload-Offset"]) == (409, str(cut))
    rest = {"Content-Range": f"bytes {cut}-{OBJECT_SIZE - 1}/{OBJECT_SIZE}"}
    assert witness.ask(ana, "PUT", two, first.data[cut:], rest, name=first.name, **ids).status_code == 201
    assert witness.ask(ana, "PUT", two, first.data, name=first.name, **ids).status_code == 200
    assert witness.ask(ana, "PUT", two, first.data, name=second.name, **ids).status_code == 422
    assert (
        witness.ask(
            ana, "PUT", two, second.data, {"Content-Range": "all"}, name=second.name, **ids
        ).status_code
        == 400
    )
    assert witness.ask(ana, "PUT", two, second.data, name=second.name, **ids).status_code == 201
    whole = witness.ask(ana, "HEAD", one, name=first.name, **ids)
    assert (whole.status_code, whole.headers["Content-Length"]) == (200, str(OBJECT_SIZE))
    names = wire.NamesRequest((first.name, "0" * 64))
    missing = witness.ask(ana, "POST", "/dossiers/{dossier}/objects/missing", names, **ids)
    assert wire.read(missing.data, wire.MissingNames).missing == ("0" * 64,)
    committed = witness.ask(ana, "POST", "/dossiers/{dossier}/heads", submission, **ids)
    repeated = witness.ask(ana, "POST", "/dossiers/{dossier}/heads", submission, **ids)
    assert committed.json["acknowledgement"] == repeated.json["acknowledgement"]
    part = witness.ask(ana, "GET", one, None, {"Range": "bytes=5-9"}, name=first.name, **ids)
    assert (part.status_code, part.data) == (206, first.data[5:10])
    for wrong in ("bytes=9999999-", "bytes=0-1,5-9", "lines=0-1"):
        refused = witness.ask(ana, "GET", one, None, {"Range": wrong}, name=first.name, **ids)
        assert (refused.status_code, refused.json["code"]) == (416, "bad-range"), wrong
        assert refused.headers["Content-Range"] == f"bytes */{OBJECT_SIZE}"
    assert witness.ask(ana, "GET", one, name=first.name, **ids).data == first.data


def test_a_whole_life_is_answered_as_the_document_says(tmp_path: Path, document: dict[str, Any]) -> None:
    world = World(tmp_path, tick=200, short=True)
    settings = read_settings({"AFTERWORD_LOW_WATER": "0"}, data=tmp_path, short=True)
    vault = compose.Vault(settings, world.records, world.objects, world.custodian)
    witness = Witness(create_app(vault), document)
    ask = witness.ask
    world.beat()
    for path in ("/server", "/health"):
        assert ask(None, "GET", path).status_code == 200

    person = world.journalist()
    ana = witness.session(person)
    assert ask(None, "POST", "/sessions", wire.SessionRequest("nonsense")).status_code == 401
    invited = wire.read(ask(ana, "POST", "/invites", wire.InviteRequest("Bruno")).data, wire.Invite)
    colleagues = [person.colleague("Chen"), Person(world, "Bruno", invited.code)]
    bruno, chen = witness.session(colleagues[1]), witness.session(colleagues[0])
    joining = wire.Joining(invited.code, colleagues[1].card.envelope.decode())
    assert ask(None, "POST", "/accounts", joining).status_code == 200
    others = wire.Joining(invited.code, person.card.envelope.decode())
    assert ask(None, "POST", "/accounts", others).status_code == 409
    assert ask(None, "POST", "/accounts", wire.Joining("none", others.card)).status_code == 404
    assert ask(bruno, "POST", "/invites", wire.InviteRequest("Dora")).status_code == 409

    person.confirm("ana@example.org")
    added = ask(ana, "POST", "/addresses", wire.AddressRequest("a@example.org", "en", "Reminder", "heron"))
    assert ask(ana, "POST", "/addresses", wire.AddressRequest("nowhere", "en", "R", "h")).status_code == 409
    assert ask(ana, "POST", "/addresses/confirm", wire.AddressConfirmation("wrong")).status_code == 409
    code = sent_code(world, "a@example.org")
    assert ask(ana, "POST", "/addresses/confirm", wire.AddressConfirmation(code)).status_code == 200
    spare = wire.read(added.data, wire.AddressState).id
    assert ask(ana, "DELETE", "/addresses/{address}", address="0" * 32).status_code == 404
    assert ask(ana, "DELETE", "/addresses/{address}", address=spare).status_code == 200
    for path in ("/account", "/history", "/dossiers"):
        assert ask(ana, "GET", path).status_code == 200

    made = Dossier(person, colleagues, 2, Plan(10_000, 10_000, 10_000, 10_000), HOUR)
    ids = {"dossier": made.id}
    assert ask(ana, "POST", "/dossiers", made.request).status_code == 201
    assert ask(bruno, "POST", "/dossiers", made.request).status_code == 409
    deposit_by(witness, ana, made)
    orders = "/dossiers/{dossier}/statements"
    row = world.records.dossier(made.id)
    assert row is not None
    arm = {"epoch": 1, "anyway": False}
    assert (
        ask(ana, "POST", orders, a_statement(person, made.id, statements.Arm, **arm), **ids).status_code
        == 409
    )
    for place, reader in enumerate(made.readers, 1):
        proof = a_statement(reader, made.id, statements.Proof, epoch=1, roster=row.roster, index=place)
        token = chen if place == 1 else bruno
        assert ask(token, "POST", orders, proof, **ids).status_code == 200
        assert ask(token, "POST", orders, proof, **ids).status_code == 200
    assert (
        ask(ana, "POST", orders, a_statement(person, made.id, statements.Arm, **arm), **ids).status_code
        == 200
    )
    hold = {"nonce": colleagues[1].nonce(), "climb": 1, "because": "reached"}
    given = a_statement(colleagues[1], made.id, statements.Hold, **hold)
    assert ask(bruno, "POST", orders, given, **ids).status_code == 409
    stale = a_statement(person, made.id, statements.Destroy, seq=1)
    answer = ask(ana, "POST", orders, stale, **ids)
    assert (answer.status_code, wire.read(answer.data, wire.Problem).seen) == (409, person.account.seq)
    forged = wire.Submission(colleagues[0].sign(statements.Destroy(world.custodian.hash, made.id, 99, 0)))
    assert ask(ana, "POST", orders, forged, **ids).status_code == 422

    reads = ("", "/rosters", "/share", "/deal", "/brief", "/proofs", "/release", "/heads")
    for path in reads:
        for token in (ana, bruno, None, "0" * 64):
            ask(token, "GET", "/dossiers/{dossier}" + path, **ids)
        assert ask(ana, "GET", "/dossiers/{dossier}" + path, dossier="0" * 32).status_code == 404

    change, corrections, _ = made.next_roster(colleagues, 1)
    answer = ask(ana, "POST", "/dossiers/{dossier}/rosters", change, **ids)
    assert wire.read(answer.data, wire.Acknowledged).change is not None
    again = made.next_roster(colleagues, 2)[0]
    assert ask(ana, "POST", "/dossiers/{dossier}/rosters", again, **ids).status_code == 409
    late = "/dossiers/{dossier}/rosters/{epoch}/corrections"
    assert ask(ana, "POST", late, corrections, epoch=2, **ids).status_code == 409
    check_in = person.checkin_request()
    assert ask(None, "POST", "/check-ins", check_in).status_code == 200
    assert ask(None, "POST", "/check-ins", check_in).status_code == 200
    world.skip(2 * HOUR)  # reminded by now, and cooled
    assert ask(None, "POST", "/check-ins", person.checkin_request()).status_code == 200
    assert (
        ask(ana, "POST", late, corrections, epoch=2, **ids).status_code == 401
    )  # a session lives half an hour
    ana, bruno = witness.session(person), witness.session(colleagues[1])
    assert ask(ana, "POST", late, corrections, epoch=2, **ids).status_code == 200

    while made.stage is not Stage.RELEASED:
        world.pass_time(400)
    for path in reads:
        for token in (ana, bruno):
            ask(token, "GET", "/dossiers/{dossier}" + path, **ids)
    released = wire.read(ask(bruno, "GET", "/dossiers/{dossier}/release", **ids).data, wire.Released)
    seen = wire.SeenRelease(released.release, released.checkin)
    assert ask(bruno, "POST", "/dossiers/{dossier}/release", seen, **ids).status_code == 200
    assert len(released.shares) == 1
    name = world.database.all("SELECT name FROM objects")[0]["name"]
    object_path = "/dossiers/{dossier}/objects/{name}"
    assert ask(bruno, "GET", object_path, name=name, **ids).status_code == 200
    assert ask(bruno, "HEAD", object_path, name=name, **ids).status_code == 404
    assert ask(ana, "PUT", object_path, b"", name="0" * 64, **ids).status_code == 409
    assert ask(ana, "DELETE", "/sessions").status_code == 204
    assert ask(ana, "DELETE", "/sessions").status_code == 401
    assert {(method, path) for method, path, _ in witness.met} == {
        (each.method, each.path) for each in ROUTES
    }


def sent_code(world: World, address: str) -> str:
    before = len(world.courier.carried)
    world.deliver()
    words = next(p for p in world.courier.carried[before:] if p.to == address).body.split()
    return words[words.index("confirm") + 1]


def test_a_session_lives_as_long_as_the_document_says(document: dict[str, Any]) -> None:
    told = document["components"]["securitySchemes"]["session"]["description"]
    assert f"{accounts.SESSION_LIVES // 60_000} minutes" in told
