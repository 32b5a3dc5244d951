"""Whatever the OpenAPI document allows to be asked, and what it does not, is answered as the document says.

Rule of this room: the requests are drawn from the document itself and then bent; the answers are held against it,
status, code and body, by a reader of JSON Schema that knows every keyword the document uses and refuses the rest.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.fire import tally
from tests.world import Dossier, Person, World, an_armed_dossier
from vault import compose, statements, wire
from vault.settings import read_settings
from web import create_app, openapi

Json = Any  # nested to any depth
DOCUMENT: Final[Json] = openapi.document()
SCHEMAS: Final[Json] = DOCUMENT["components"]["schemas"]
OPERATIONS: Final = [
    pytest.param(method.upper(), path, id=told["operationId"])
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
]
KNOWN: Final = frozenset(
    {
        *("$ref", "type", "properties", "required", "items", "anyOf", "enum", "const", "pattern", "minimum"),
        *("maximum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "prefixItems"),
        *("additionalProperties", "default", "title", "description", "examples", "format"),
    }
)


# A reader of JSON Schema.


def wrong_with(value: Json, schema: Json) -> str | None:
    """What about `value` is not as `schema` says; None if nothing."""
    unknown = set(schema) - KNOWN
    assert not unknown, f"a keyword that this reader does not know: {unknown}"
    if "$ref" in schema:
        return wrong_with(value, SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        found = [wrong_with(value, each) for each in schema["anyOf"]]
        return None if None in found else f"none of {found}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is not among {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{value!r} is not {schema['const']!r}"
    if (kind := schema.get("type")) is not None and not is_a(value, kind):
        return f"{value!r:.60} is no {kind}"
    match value:
        case dict():
            return wrong_object(value, schema)
        case list():
            inside = [wrong_with(each, schema.get("items", {})) for each in value]
            return next((each for each in inside if each), None)
        case str():
            length = len(value)
            if not schema.get("minLength", 0) <= length <= schema.get("maxLength", length):
                return f"a text of {length}"
            if "pattern" in schema and not re.search(schema["pattern"], value):
                return f"{value!r:.60} does not fit {schema['pattern']}"
        case int() if not isinstance(value, bool):
            if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
                return f"{value} is out of bounds"
    return None


def is_a(value: Json, kind: str) -> bool:
    real = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, real[kind])


def wrong_object(value: dict[str, Json], schema: Json) -> str | None:
    properties = schema.get("properties", {})
    if missing := set(schema.get("required", ())) - set(value):
        return f"lacks {missing}"
    if more := set(value) - set(properties):
        return f"says more: {more}"
    inside = [wrong_with(each, properties[name]) for name, each in value.items()]
    return next((each for each in inside if each), None)


# Requests, drawn from the document.


def drawn(schema: Json, ids: st.SearchStrategy[str]) -> st.SearchStrategy[Json]:
    """Values that this schema allows; texts in the form of an id are often somebody's."""
    if "$ref" in schema:
        target = SCHEMAS[schema["$ref"].rpartition("/")[2]]
        shown = (
            st.sampled_from([json.loads(json.dumps(each)) for each in target["examples"]])
            if "examples" in target
            else None
        )
        made = drawn(target, ids)
        return made if shown is None else made | shown
    if "anyOf" in schema:
        return st.one_of([drawn(each, ids) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            required = set(schema.get("required", ()))
            fields = {name: drawn(each, ids) for name, each in schema.get("properties", {}).items()}
            return st.fixed_dictionaries(
                {name: each for name, each in fields.items() if name in required},
                optional={name: each for name, each in fields.items() if name not in required},
            )
        case "array":
            return st.lists(drawn(schema.get("items", {}), ids), max_size=4)
        case "string" if "pattern" in schema:
            return ids | st.from_regex(schema["pattern"], fullmatch=True)
        case "string":
            odd = st.sampled_from(["", "e30=", "a@example.org", "\0", "x" * 3_000])
            return odd | st.text(max_size=min(80, schema.get("maxLength", 80)))
        case "integer":
            return st.integers(schema.get("minimum", -(2**53)), schema.get("maximum", 2**53))
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return st.none() | st.integers() | st.text(max_size=9)


def bent(value: Json, data: st.DataObject) -> Json:
    """One thing in it is not as it should be."""
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
    junk = data.draw(plain | st.just([]) | st.just({}))
    if isinstance(value, dict) and value:
        name = data.draw(st.sampled_from(sorted(value)))
        how = data.draw(st.sampled_from(["other", "gone", "more", "deeper"]))
        if how == "deeper":
            return {**value, name: bent(value[name], data)}
        if how == "gone":
            return {key: each for key, each in value.items() if key != name}
        return {**value, ("unknown" if how == "more" else name): junk}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        return [bent(value[0], data), *value[1:]]
    return junk


@dataclass
class Desk:
    """A server with an armed dossier of Ana's, and whoever asks it something."""

    app: Flask
    world: World
    made: Dossier
    people: dict[str, Person]
    tokens: dict[str, str]

    def sign_in(self, who: str) -> str:
        person = self.people[who]
        login = statements.Login(
            self.world.custodian.hash, person.card.verify_key.hex, person.nonce(), self.world.clock.wall()
        )
        body = wire.write(wire.SessionRequest(person.sign(login)))
        answer = self.app.test_client().post("/api/v1/sessions", data=body, content_type="application/json")
        return wire.read(answer.data, wire.SessionGrant).token

    def ids(self) -> st.SearchStrategy[str]:
        row = self.world.database.one("SELECT name FROM objects LIMIT 1")
        assert row is not None
        cards = [each.card.hash.hex() for each in self.people.values()]
        return st.sampled_from(
            [self.made.id, str(row["name"]), self.world.custodian.hash, *cards, "0" * 32, "0" * 64]
        )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    world = World(tmp_path_factory.mktemp("desk"), short=True)
    made = an_armed_dossier(world)
    settings = read_settings({"AFTERWORD_LOW_WATER": "0"}, data=world.folder, short=True)
    app = create_app(compose.Vault(settings, world.records, world.objects, world.custodian))
    found = Desk(app, world, made, {"journalist": made.hers, "collaborator": made.readers[0]}, {})
    found.tokens = {who: found.sign_in(who) for who in found.people}
    world.beat()
    yield found
    world.close()


def check(method: str, path: str, answer: TestResponse) -> None:
    """Status, code and body are those that the document promises for this operation."""
    what = f"{method} {path}: {answer.status_code} {answer.data[:300]!r}"
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert answer.status_code < 500 or path == "/health", what
    assert str(answer.status_code) in responses, what
    promised = responses[str(answer.status_code)]
    if method == "HEAD" or not answer.data:
        return
    assert answer.mimetype in promised.get("content", {}), what
    if answer.mimetype.endswith("json"):
        body = json.loads(answer.data)
        wrong = wrong_with(body, promised["content"][answer.mimetype]["schema"])
        assert wrong is None, f"{what}: {wrong}"
        if answer.mimetype == "application/problem+json":
            assert body["code"] in promised["x-codes"], what
            assert body["status"] == answer.status_code, what


def ask(desk: Desk, method: str, path: str, data: st.DataObject) -> TestResponse:
    told = DOCUMENT["paths"][path][method.lower()]
    ids = desk.ids()
    given_: dict[str, str] = {}
    query, headers = "", {}
    for each in told.get("parameters", ()):
        value = data.draw(drawn(each["schema"], ids), each["name"])
        match each["in"]:
            case "path":
                given_[each["name"]] = str(value).replace("/", "").replace("?", "").replace("#", "") or "0"
            case "query" if data.draw(st.booleans()):
                query = f"?{each['name']}={data.draw(st.just(str(value)) | st.sampled_from(['', '-1', 'x', '9' * 20]))}"
            case "header" if data.draw(st.booleans()):
                headers[each["name"]] = data.draw(
                    st.sampled_from(
                        ["bytes=0-9", "bytes 0-9/1048576", "bytes=9-", "bytes 9-1/5", "all", "bytes=-1"]
                    )
                )
    who = data.draw(st.sampled_from(["nobody", *desk.people]))
    if who != "nobody":
        token = desk.sign_in(who) if path == "/sessions" else desk.tokens[who]
        headers["Authorization"] = f"Bearer {token}"
    body: bytes | None = None
    for kind, content in told.get("requestBody", {}).get("content", {}).items():
        headers["Content-Type"] = data.draw(st.sampled_from([kind, kind, kind, kind, "text/plain"]))
        if kind == "application/json":
            value = data.draw(drawn(content["schema"], ids), "body")
            value = bent(value, data) if data.draw(st.booleans()) else signed_by(desk, who, path, value)
            body = msgspec.json.encode(value)
        else:
            body = data.draw(st.binary(max_size=300))
    for name, value in given_.items():
        path = path.replace("{" + name + "}", value)
    return desk.app.test_client().open(
        wire.API + path + query, method=method, data=body, headers=headers, buffered=True
    )


def signed_by(desk: Desk, who: str, path: str, value: Json) -> Json:
    """Now and then a statement that really is one, so that what lies behind the signature is reached too."""
    if who == "nobody" or not isinstance(value, dict) or "statement" not in value:
        return value
    person = desk.people[who]
    kinds = {
        "server": desk.world.custodian.hash,
        "dossier": desk.made.id,
        "seq": person.account.seq + 1,
        "created": 1,
    }
    leaving = (
        statements.Cancel(**kinds, change="0" * 64)
        if "change" in statements.Cancel.__struct_fields__
        else None
    )
    return value if leaving is None else {**value, "statement": person.sign(leaving)}


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_one_that_the_document_promises(desk: Desk, method: str, path: str) -> None:
    @settings(
        max_examples=tally.size(30, 1_500),
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        check(method, path, ask(desk, method, path, data))
        tally.count("requests drawn from the API's document")

    run()


def test_every_keyword_of_the_document_is_one_that_the_reader_knows() -> None:
    waiting = list(SCHEMAS.values())
    while waiting:
        schema = waiting.pop()
        assert set(schema) <= KNOWN, set(schema) - KNOWN
        waiting += [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
        waiting += [schema["items"]] if isinstance(schema.get("items"), dict) else []


def test_every_example_of_the_document_is_as_its_schema_says() -> None:
    for name, schema in SCHEMAS.items():
        for each in schema.get("examples", ()):
            assert wrong_with(json.loads(json.dumps(each)), schema) is None, name


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"nonce": "0" * 64, "lives": 1}, None),
        ({"nonce": "0" * 63, "lives": 1}, "does not fit"),
        ({"nonce": "0" * 64, "lives": "1"}, "is no integer"),
        ({"nonce": "0" * 64, "lives": True}, "is no integer"),
        ({"nonce": "0" * 64}, "lacks"),
        ({"nonce": "0" * 64, "lives": 1, "more": 2}, "says more"),
    ],
)
def test_an_answer_that_is_not_what_the_document_says_is_noticed(body: Json, wrong: str | None) -> None:
    found = wrong_with(body, SCHEMAS["NonceGrant"])
    assert found is None if wrong is None else wrong in str(found)
