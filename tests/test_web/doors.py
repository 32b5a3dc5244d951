"""Builders for the tests of the doors: a server's card, and an application without an API behind it."""

from collections.abc import Callable
from types import SimpleNamespace

from flask import Flask

from vault import identity
from web import headers, pages, problems


def a_card() -> identity.ContactCard:
    keyring = identity.Keyring.from_seed(identity.RootSeed(bytes(range(32))))
    return identity.read_card(identity.write_card("Server", keyring, 1_700_000_000_000, "server"))


def an_app(url: str | None = "https://vault.example", failing: Callable[[], object] | None = None) -> Flask:
    """The pages, the headers and the problems, and whatever `failing` does at /api/v1/fail and /fail."""
    app = Flask("web", static_folder="static", template_folder="templates")
    app.extensions["afterword"] = SimpleNamespace(custodian=SimpleNamespace(card=a_card()))
    headers.install(app, url)
    problems.install(app)
    app.register_blueprint(pages.bp)
    if failing is not None:

        def fail() -> str:
            failing()
            return "done"

        app.add_url_rule("/api/v1/fail", "fail", fail, methods=["GET", "POST"])
        app.add_url_rule("/fail", "fail-page", fail)
    return app
