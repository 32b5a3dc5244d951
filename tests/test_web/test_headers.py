"""Every answer of every door carries the same protection."""

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.test_web.doors import an_app


def answers(app: Flask) -> list[tuple[str, TestResponse]]:
    """One answer for every rule of the URL map and every method it takes, and one for what is not in it."""
    client = app.test_client()
    asked = [("GET", "/nowhere"), ("GET", "/api/v1/nowhere"), ("DELETE", "/")]
    for rule in app.url_map.iter_rules():
        path = "/static/style.css" if rule.endpoint == "static" else rule.rule
        asked.extend((method, path) for method in rule.methods or ())
    return [(f"{method} {path}", client.open(path, method=method, buffered=True)) for method, path in asked]


def test_nothing_is_loaded_framed_sniffed_or_passed_on_anywhere() -> None:
    for what, answer in answers(an_app(failing=lambda: 1 / 0)):
        policy = answer.headers.get_all("Content-Security-Policy")
        assert len(policy) == 1, what
        assert policy[0].startswith("default-src 'none';"), what
        assert "frame-ancestors 'none'" in policy[0], what
        assert "unsafe" not in policy[0], what
        assert "script-src" not in policy[0], what
        assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"], what
        assert answer.headers["Referrer-Policy"] == "no-referrer", what
        assert "Server" not in answer.headers, what
        assert "Set-Cookie" not in answer.headers, what


def test_only_the_stylesheet_and_the_mark_may_be_kept_on_the_way() -> None:
    for what, answer in answers(an_app(failing=lambda: 1 / 0)):
        kept = "static" in what and answer.status_code == 200
        assert answer.headers["Cache-Control"] == ("public, max-age=3600" if kept else "no-store"), what


@pytest.mark.parametrize(
    ("url", "insists"), [("https://vault.example", True), ("http://abc.onion", False), (None, False)]
)
def test_only_a_server_with_tls_insists_on_it(url: str | None, insists: bool) -> None:
    for what, answer in answers(an_app(url=url)):
        assert ("Strict-Transport-Security" in answer.headers) == insists, what


def test_options_is_answered_nowhere() -> None:
    assert an_app().test_client().options("/").status_code == 405
