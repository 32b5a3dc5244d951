"""What holds for every address of the whole URL map, over a real vault."""

import sqlite3
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from vault import compose, founding, identity, statements, wire
from vault.accounts import invite_journalist
from vault.settings import read_settings
from vault.statements import Login
from web import create_app

UNKNOWN = {
    "dossier": "00" * 16,
    "name": "00" * 32,
    "address": "00" * 16,
    "epoch": "1",
    "filename": "style.css",
}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    settings = read_settings({}, data=tmp_path / "data", url="https://vault.example", short=True)
    founding.found(settings)
    return create_app(compose.open_vault(settings))


def a_session(app: Flask) -> dict[str, str]:
    """Join and sign in as a journalist, over HTTP like anybody else."""
    vault: compose.Vault = app.extensions["afterword"]
    keyring = identity.Keyring.from_seed(identity.RootSeed(bytes(range(32))))
    card = identity.write_card("Ana", keyring, 1_700_000_000_000, "cli")
    client = app.test_client()
    code = invite_journalist(vault.records, vault.custodian)
    joined = client.post("/api/v1/accounts", json={"code": code, "card": card.decode()})
    assert joined.status_code in {200, 201}
    nonce = wire.read(client.post("/api/v1/nonces").data, wire.NonceGrant).nonce
    login = Login(vault.custodian.hash, keyring.sign.verify_key.hex, nonce, 1_700_000_000_000)
    signed = statements.write(login, keyring.sign).decode()
    grant = wire.read(client.post("/api/v1/sessions", json={"login": signed}).data, wire.SessionGrant)
    return {"Authorization": f"Bearer {grant.token}"}


def paths(app: Flask, *methods: str) -> list[tuple[str, str]]:
    found = []
    for rule in app.url_map.iter_rules():
        _, path = rule.build({each: UNKNOWN[each] for each in rule.arguments}) or (None, None)
        assert path is not None
        found += [(method, path) for method in sorted(rule.methods or ()) if not methods or method in methods]
    return found


def everything(folder: Path) -> list[str]:
    """Every row there is, but for the clock's own; and every file."""
    with sqlite3.connect(folder / "data" / "afterword.db") as database:
        rows = [line for line in database.iterdump() if not line.startswith('INSERT INTO "service"')]
    database.close()
    files = sorted(
        str(path) for path in (folder / "data").rglob("*") if not path.name.endswith(("-wal", "-shm"))
    )
    return rows + files


def is_api(path: str) -> bool:
    return path.startswith("/api/v1/")


def test_reading_changes_nothing_anywhere(app: Flask, tmp_path: Path) -> None:
    session = a_session(app)
    before = everything(tmp_path)
    for method, path in paths(app, "GET", "HEAD"):
        for headers in ({}, session):
            app.test_client().open(path, method=method, headers=headers, buffered=True)
            assert everything(tmp_path) == before, f"{method} {path}"


def test_every_address_is_protected_alike(app: Flask) -> None:
    asked = [*paths(app), ("GET", "/api/v1/nowhere"), ("PATCH", "/api/v1/server"), ("POST", "/")]
    for method, path in asked:
        answer = app.test_client().open(path, method=method, buffered=True)
        what = f"{method} {path}"
        assert answer.headers["X-Content-Type-Options"] == "nosniff", what
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none';"), what
        assert answer.headers["Strict-Transport-Security"], what
        assert answer.headers["Cache-Control"] == "no-store" or path.startswith("/static/"), what
        assert "Server" not in answer.headers, what
        assert "Set-Cookie" not in answer.headers, what
        # A server that is not well says so in its own body, which outside watchers read.
        if answer.status_code >= 400 and method != "HEAD" and not path.endswith("/health"):
            assert answer.content_type == "application/problem+json", what
            assert wire.read(answer.data, wire.Problem).status == answer.status_code, what


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"unknown": 1}', b"\xff\xfe", b'"' + b"x" * 10_000 + b'"', b"[" * 5_000],
    ids=["nothing", "half", "list", "null", "unknown-key", "not-utf8", "string", "deep"],
)
@pytest.mark.parametrize("signed_in", [False, True], ids=["nobody", "ana"])
def test_no_malformed_body_is_our_fault(app: Flask, body: bytes, signed_in: bool) -> None:
    headers = a_session(app) if signed_in else {}
    for method, path in paths(app, "POST", "PUT", "DELETE"):
        for kind in ("application/json", "text/plain"):
            if signed_in and path.endswith("/sessions"):
                continue
            answer = app.test_client().open(
                path, method=method, data=body, content_type=kind, headers=headers
            )
            assert answer.status_code < 500, f"{method} {path}: {answer.text}"


def test_nobody_gets_in_without_a_session(app: Flask) -> None:
    anybody = {"/api/v1/server", "/api/v1/health", "/api/v1/nonces", "/api/v1/accounts", "/api/v1/check-ins"}
    for method, path in paths(app):
        if not is_api(path) or path in anybody or (method, path) == ("POST", "/api/v1/sessions"):
            continue
        for headers in ({}, {"Authorization": f"Bearer {'0' * 64}"}):
            answer = app.test_client().open(path, method=method, headers=headers, json={})
            assert answer.status_code == 401, f"{method} {path}"


def test_an_unknown_dossier_is_answered_alike_at_every_address(app: Flask) -> None:
    session = a_session(app)
    answers: dict[str, TestResponse] = {}
    for _, path in paths(app, "GET"):
        if UNKNOWN["dossier"] in path:
            answers[path] = app.test_client().get(path, headers=session)
    assert answers
    assert {(each.status_code, wire.read(each.data, wire.Problem).code) for each in answers.values()} == {
        (404, "not-found")
    }


def test_a_server_whose_watch_does_not_tick_is_not_well(app: Flask) -> None:
    vault: compose.Vault = app.extensions["afterword"]
    assert wire.read(app.test_client().get("/api/v1/health").data, wire.Health).ticking in {True, False}
    with vault.records.db.transaction():
        row = vault.records.service()
        assert row is not None
        vault.records.db.run("UPDATE service SET at = :at WHERE id = 1", at=row.at - 3_600_000)
    answer = app.test_client().get("/api/v1/health")
    assert (answer.status_code, wire.read(answer.data, wire.Health)) == (
        503,
        wire.Health(ok=False, ticking=False),
    )


def test_whoever_only_asks_cannot_watch_a_push_by_the_room_that_is_left(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault: compose.Vault = app.extensions["afterword"]
    told = set()
    # Ten bundles of 64 objects, on a disk of which 400 GB are free.
    for objects in range(0, 640, 64):
        left = 400 * 10**9 + vault.settings.low_water - objects * 1_048_576
        monkeypatch.setattr(type(vault.objects), "free", lambda self, left=left: left)
        said = wire.read(app.test_client().get("/api/v1/server").data, wire.ServerInfo)
        assert left - vault.settings.low_water >= said.limits.free >= left * 3 // 4 - vault.settings.low_water
        told.add(said.limits.free)
    assert len(told) == 1
