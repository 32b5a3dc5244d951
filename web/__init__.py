"""The doors of a server: an API for programs and a few pages for people.

Rule of this room: assembled here once, from a vault that somebody else opened.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from vault.compose import Vault


def create_app(vault: "Vault") -> "Flask":
    """A WSGI application over this vault. It keeps no state of its own, so any number may run."""
    # Here, so that whoever only starts processes does not pay for what they load.
    from flask import Flask

    from vault import wire
    from web import api, headers, pages, problems

    app = Flask(__name__, static_folder="static", template_folder="templates")
    app.extensions["afterword"] = vault
    app.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    headers.install(app, vault.settings.url)
    problems.install(app)
    app.register_blueprint(pages.bp)
    app.register_blueprint(api.bp, url_prefix=wire.API)
    return app
