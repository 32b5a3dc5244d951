"""The API as strangers, colleagues and journalists meet it, over a whole server on a hand-turned clock."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.world import Dossier, Person, World, an_armed_dossier, digest, until
from vault import age, envelope, statements, wire
from vault.clock import HOUR
from vault.compose import Vault
from vault.plans import Plan
from vault.settings import read_settings
from vault.stream import OBJECT_SIZE, SLICE_SIZE, seal_object
from vault.switch import Stage
from web import create_app

API = "/api/v1"
PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
UNKNOWN = "00" * 16


@dataclass
class House:
    """A server with one armed dossier, somebody else's dossier, and everybody's sessions."""

    world: World
    app: Flask
    made: Dossier
    foreign: Dossier

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def session(self, who: Person) -> dict[str, str]:
        login = statements.Login(self.world.custodian.hash, who.card.verify_key.hex, self.nonce(), 1)
        signed = statements.write(login, who.keyring.sign).decode()
        answer = self.client.post(f"{API}/sessions", json={"login": signed})
        return {"Authorization": f"Bearer {wire.read(answer.data, wire.SessionGrant).token}"}

    def nonce(self) -> str:
        return wire.read(self.client.post(f"{API}/nonces").data, wire.NonceGrant).nonce


@contextmanager
def built() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    world = World(folder)
    made = an_armed_dossier(world, PLAN)
    bea = world.journalist("bea")
    bea.confirm("bea@example.org")
    foreign = bea.create([bea.colleague("theirs")], 1, PLAN)
    foreign.push()
    foreign.prove()
    foreign.arm()
    server = read_settings({"AFTERWORD_LOW_WATER": "0"}, data=folder)
    yield House(
        world, create_app(Vault(server, world.records, world.objects, world.custodian)), made, foreign
    )
    world.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Shared by all who leave its switches as they found them."""
    with built() as made:
        yield made


@pytest.fixture
def own_house() -> Iterator[House]:
    with built() as made:
        yield made


def problem(answer: TestResponse) -> wire.Problem:
    assert answer.content_type == "application/problem+json", answer.text
    said = wire.read(answer.data, wire.Problem)
    assert said.status == answer.status_code
    assert said.detail
    assert said.code
    return said


# malformed bodies

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
_FIELDS = [
    "code", "card", "login", "label", "address", "language", "subject", "phrase", "roster", "shares", "deal",
    "title", "release_shares", "corrections", "statement", "sealed", "account", "last", "names",
]  # fmt: skip
_BODIES = st.one_of(
    st.binary(max_size=60),
    _JSON.map(lambda value: msgspec.json.encode(value) if value == value else b"NaN"),
    st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=6).map(msgspec.json.encode),
    st.sampled_from(
        [b'{"code":"\\ud800","card":"\\udfff"}', b'{"a":1,"a":2}', b"[" * 3000, b'{"label":"\\u0000"}']
    ),
)
POSTS = [
    ("POST", "/accounts"),
    ("POST", "/sessions"),
    ("POST", "/check-ins"),
    ("POST", "/nonces"),
    ("POST", "/invites"),
    ("POST", "/addresses"),
    ("POST", "/addresses/confirm"),
    ("DELETE", "/addresses/{dossier}"),
    ("POST", "/dossiers"),
    ("POST", "/dossiers/{dossier}/rosters"),
    ("POST", "/dossiers/{dossier}/rosters/2/corrections"),
    ("POST", "/dossiers/{dossier}/statements"),
    ("POST", "/dossiers/{dossier}/heads"),
    ("POST", "/dossiers/{dossier}/objects/missing"),
    ("PUT", "/dossiers/{dossier}/objects/{name}"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=_BODIES, kind=st.sampled_from(["application/json", "text/plain", ""]))
def test_no_malformed_body_is_ever_the_servers_fault(house: House, body: bytes, kind: str) -> None:
    session = house.session(house.made.hers)
    for method, path in POSTS:
        address = API + path.format(dossier=house.made.id, name="ab" * 32)
        answer = house.client.open(address, method=method, data=body, content_type=kind, headers=session)
        if answer.status_code >= 400:
            assert answer.status_code < 500, f"{method} {path}: {answer.text}"
            problem(answer)
        else:
            assert path in ("/nonces", "/dossiers/{dossier}/objects/missing", "/invites"), answer.text


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["arm", "pause", "plan", "brief", "head", "checkin", "nonsense", "../x", ""]),
    payload=st.one_of(_JSON.map(msgspec.json.encode), st.binary(max_size=40)),
)
def test_nothing_that_somebody_signed_is_ever_the_servers_fault(
    house: House, kind: str, payload: bytes
) -> None:
    hers = house.made.hers
    try:
        signed = envelope.sign(kind, payload, hers.keyring.sign).decode()
    except Exception:
        return
    session = house.session(hers)
    for path in ("statements", "heads"):
        answer = house.client.post(
            f"{API}/dossiers/{house.made.id}/{path}", json={"statement": signed}, headers=session
        )
        assert 400 <= answer.status_code < 500, answer.text
        problem(answer)
    answer = house.client.post(f"{API}/sessions", json={"login": signed})
    assert answer.status_code == 401
    answer = house.client.post(
        f"{API}/check-ins", json={"account": hers.card.hash.hex(), "statement": signed}
    )
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "path",
    [
        "/history?after=-1",
        "/history?after=x",
        "/history?after=1e9",
        "/history?after=99999999999999999999",
        "/history?after=%D9%A1",
        "/dossiers/{dossier}/heads?after=%00",
    ],
)
def test_a_page_is_a_whole_number(house: House, path: str) -> None:
    answer = house.client.get(
        API + path.format(dossier=house.made.id), headers=house.session(house.made.hers)
    )
    assert problem(answer).status == 400


@pytest.mark.parametrize(
    "given_range",
    [
        "bytes 0-1048576/1048576",
        "bytes 5-4/1048576",
        "bytes 0-5/7",
        "octets 0-5/1048576",
        "bytes */1048576",
        "x",
    ],
)
def test_a_content_range_that_cannot_be_is_malformed(house: House, given_range: str) -> None:
    answer = house.client.put(
        f"{API}/dossiers/{house.made.id}/objects/{'ab' * 32}",
        data=b"x",
        headers={**house.session(house.made.hers), "Content-Range": given_range},
    )
    assert problem(answer).status == 400


# who may do what, and who learns nothing


def signed_order(
    house: House, who: Person, dossier: str, kind: type[statements.Statement], **fields: Any
) -> Any:
    common: dict[str, Any] = {
        "server": house.world.custodian.hash,
        "dossier": dossier,
        "seq": who.account.seq + 1,
        "created": 1,
        **fields,
    }
    return {"statement": statements.write(kind(**common), who.keyring.sign).decode()}


def head_body(house: House, who: Person, dossier: str) -> dict[str, Any]:
    root = wire.write_blob(age.seal(bytes(4096), house.made.key.recipient, os.urandom))
    head = statements.Head(dossier, 2, "ab" * 32, ("ab" * 32, "cd" * 32), root, None, 1)
    return {"statement": statements.write(head, who.keyring.sign).decode()}


Body = Callable[[House, Person, str], Any]
ROUTES: list[tuple[str, str, Body | None]] = [
    ("GET", "/dossiers/{id}", None),
    ("GET", "/dossiers/{id}/rosters", None),
    ("POST", "/dossiers/{id}/rosters/2/corrections", lambda h, w, d: {"corrections": ["AA=="]}),
    ("GET", "/dossiers/{id}/deal", None),
    ("GET", "/dossiers/{id}/share", None),
    ("GET", "/dossiers/{id}/brief", None),
    ("GET", "/dossiers/{id}/proofs", None),
    ("GET", "/dossiers/{id}/release", None),
    ("POST", "/dossiers/{id}/statements", lambda h, w, d: signed_order(h, w, d, statements.Destroy)),
    ("POST", "/dossiers/{id}/statements", lambda h, w, d: signed_order(h, w, d, statements.Leave)),
    (
        "POST",
        "/dossiers/{id}/statements",
        lambda h, w, d: signed_order(h, w, d, statements.Collected, roster="ab" * 32),
    ),
    (
        "POST",
        "/dossiers/{id}/statements",
        lambda h, w, d: signed_order(h, w, d, statements.Cancel, change="ab" * 32),
    ),
    ("POST", "/dossiers/{id}/heads", head_body),
    ("GET", "/dossiers/{id}/heads", None),
    ("POST", "/dossiers/{id}/objects/missing", lambda h, w, d: {"names": ["ab" * 32]}),
    ("HEAD", "/dossiers/{id}/objects/" + "ab" * 32, None),
    ("GET", "/dossiers/{id}/objects/" + "ab" * 32, None),
    ("PUT", "/dossiers/{id}/objects/" + "ab" * 32, None),
    ("DELETE", "/addresses/{id}", None),
]


def ask(house: House, who: Person, method: str, path: str, body: Body | None, dossier: str) -> TestResponse:
    return house.client.open(
        API + path.replace("{id}", dossier),
        method=method,
        json=None if body is None else body(house, who, dossier),
        headers=house.session(who),
    )


def seen(answer: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that a curious person could compare."""
    return answer.status_code, answer.data, sorted(answer.headers.items())


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[f"{m} {p[:40]}" for m, p, _ in ROUTES])
@pytest.mark.parametrize("role", ["journalist", "colleague"])
def test_what_is_not_mine_and_what_is_not_look_alike(
    house: House, role: str, method: str, path: str, body: Body | None
) -> None:
    """T20: status, headers, body and size."""
    who = house.made.hers if role == "journalist" else house.made.readers[0]
    address = house.world.records.addresses_of(house.foreign.hers.account.id)[0].id
    not_mine = address if path.startswith("/addresses") else house.foreign.id
    foreign = ask(house, who, method, path, body, not_mine)
    assert foreign.status_code == 404
    for unknown in (UNKNOWN, "ff" * 16, os.urandom(16).hex()):
        assert seen(ask(house, who, method, path, body, unknown)) == seen(foreign)


def test_a_roster_for_a_dossier_that_is_not_mine_looks_like_one_for_none(house: House) -> None:
    """Signed by me, so that only the dossier is wrong."""
    who = house.made.hers
    change, _, _ = house.made.next_roster(house.made.readers, 2)
    body = msgspec.to_builtins(change)
    answers = [
        seen(house.client.post(f"{API}/dossiers/{each}/rosters", json=body, headers=house.session(who)))
        for each in (house.foreign.id, UNKNOWN)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


@pytest.mark.parametrize("name", ["x", "AB" * 32, "ab" * 31, "ab" * 33, "%2e%2e%2f", "ab" * 32 + "%00"])
def test_a_name_that_is_none_is_not_found(house: House, name: str) -> None:
    session = house.session(house.made.hers)
    for dossier in (house.made.id, UNKNOWN):
        assert (
            house.client.get(f"{API}/dossiers/{dossier}/objects/{name}", headers=session).status_code == 404
        )
    assert house.client.get(f"{API}/dossiers/{name}", headers=session).status_code == 404


FOR_HER = ["/dossiers/{id}/deal"]
FOR_COLLEAGUES = ["/dossiers/{id}/share"]
FOR_BOTH = ["/dossiers/{id}", "/dossiers/{id}/rosters", "/dossiers/{id}/proofs"]


def test_each_role_sees_what_is_its_own(house: House) -> None:
    hers, theirs = house.session(house.made.hers), house.session(house.made.readers[0])
    for path in FOR_HER + FOR_COLLEAGUES + FOR_BOTH:
        address = API + path.replace("{id}", house.made.id)
        assert house.client.get(address, headers=hers).status_code == (404 if path in FOR_COLLEAGUES else 200)
        assert house.client.get(address, headers=theirs).status_code == (404 if path in FOR_HER else 200)
    for path in ("heads", "release", f"objects/{'ab' * 32}"):
        answer = house.client.get(f"{API}/dossiers/{house.made.id}/{path}", headers=theirs)
        assert problem(answer).code == "not-released"


def test_a_range_without_a_session_is_nobodys(house: House) -> None:
    for value in ("bytes=0-5", "bytes=9-1", "bytes=99999999-", "x=1"):
        answer = house.client.get(
            f"{API}/dossiers/{house.made.id}/objects/{'ab' * 32}", headers={"Range": value}
        )
        assert problem(answer).status == 401


# bundles over HTTP


def test_an_object_travels_in_pieces_and_comes_back_in_pieces(house: House) -> None:
    session = house.session(house.made.hers)
    sealed = seal_object(os.urandom(16) + bytes(SLICE_SIZE - 16), house.made.key.recipient, os.urandom)
    address = f"{API}/dossiers/{house.made.id}/objects/{sealed.name}"
    assert house.client.head(address, headers=session).status_code == 404
    half = house.client.put(address, data=sealed.data[:500_000], headers=session)
    assert problem(half).code == "partial"
    assert house.client.head(address, headers=session).headers["Upload-Offset"] == "500000"
    wrong = house.client.put(address, data=sealed.data, headers=session)
    assert problem(wrong).code == "wrong-offset"
    assert wrong.headers["Upload-Offset"] == "500000"
    rest = {**session, "Content-Range": f"bytes 500000-{OBJECT_SIZE - 1}/{OBJECT_SIZE}"}
    assert house.client.put(address, data=sealed.data[500_000:], headers=rest).status_code == 201
    assert house.client.put(address, data=sealed.data, headers=session).status_code == 200
    held = house.client.head(address, headers=session)
    assert (held.status_code, held.headers["Content-Length"]) == (200, str(OBJECT_SIZE))
    assert house.client.get(address, headers=session).data == sealed.data
    part = house.client.get(address, headers={**session, "Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, sealed.data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{OBJECT_SIZE}"
    assert house.client.get(address, headers={**session, "Range": "bytes=-5"}).data == sealed.data[-5:]
    assert house.client.get(address, headers={**session, "Range": "bytes=2000000-"}).status_code == 416


def test_wrong_bytes_are_named_as_such(house: House) -> None:
    session = house.session(house.made.hers)
    address = f"{API}/dossiers/{house.made.id}/objects/{'cd' * 32}"
    answer = house.client.put(address, data=bytes(OBJECT_SIZE), headers=session)
    assert (answer.status_code, problem(answer).code) == (422, "object-mismatch")
    assert house.client.head(address, headers=session).headers["Upload-Offset"] == "0"


# signs of life over HTTP


def test_a_check_in_needs_no_session_and_answers_with_every_dossier(own_house: House) -> None:
    house = own_house
    request = house.made.hers.checkin_request()
    answer = house.client.post(f"{API}/check-ins", json=msgspec.to_builtins(request))
    said = wire.read(answer.data, wire.CheckedIn)
    assert [each.dossier for each in said.dossiers] == [house.made.id]
    again = house.client.post(f"{API}/check-ins", json=msgspec.to_builtins(request))
    assert wire.read(again.data, wire.CheckedIn).acknowledgement == said.acknowledgement


def test_a_stale_number_says_which_was_seen(own_house: House) -> None:
    house = own_house
    hers = house.made.hers
    request = hers.checkin_request(seq=1)
    answer = house.client.post(f"{API}/check-ins", json=msgspec.to_builtins(request))
    said = problem(answer)
    assert (said.status, said.code, said.seen) == (409, "stale-sequence", hers.account.seq)


def test_a_dossier_that_does_not_read_costs_her_no_check_in(own_house: House) -> None:
    house = own_house
    world = house.world
    second = house.made.hers.create(house.made.readers, 2, PLAN)
    with world.database.transaction():
        world.database.run("UPDATE switches SET stage = 'gone' WHERE dossier = :d", d=second.id)
    request = house.made.hers.checkin_request()
    answer = house.client.post(f"{API}/check-ins", json=msgspec.to_builtins(request))
    said = wire.read(answer.data, wire.CheckedIn)
    assert [each.code for each in said.refused] == ["damaged"]
    assert [each.dossier for each in said.dossiers] == [house.made.id]
    session = house.session(house.made.hers)
    assert house.client.get(f"{API}/dossiers", headers=session).status_code == 200
    assert problem(house.client.get(f"{API}/dossiers/{second.id}", headers=session)).code == "damaged"


def test_after_the_release_a_colleague_gets_everything_there_is(own_house: House) -> None:
    house = own_house
    made, world = house.made, house.world
    until(made, Stage.RELEASED)
    reader = made.readers[0]
    session = house.session(reader)
    released = wire.read(
        house.client.get(f"{API}/dossiers/{made.id}/release", headers=session).data, wire.Released
    )
    statements.read(released.release.encode(), world.custodian.card.verify_key, statements.Release)
    heads = wire.read(house.client.get(f"{API}/dossiers/{made.id}/heads", headers=session).data, wire.Heads)
    (signed,) = heads.heads
    head = statements.read(signed.encode(), made.hers.card.verify_key, statements.Head)
    for name in head.objects:
        got = house.client.get(f"{API}/dossiers/{made.id}/objects/{name}", headers=session)
        assert digest(got.data) == name
    hers = made.hers.checkin_request()
    late = wire.read(
        house.client.post(f"{API}/check-ins", json=msgspec.to_builtins(hers)).data, wire.CheckedIn
    )
    assert made.id in [each.dossier for each in late.refused]
    body = head_body(house, made.hers, made.id)
    answer = house.client.post(f"{API}/dossiers/{made.id}/heads", json=body, headers=house.session(made.hers))
    assert problem(answer).code == "released"
