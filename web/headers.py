"""What every answer carries, and how much a request may be.

Rule of this room: set once for the whole server, so that no door can forget. Nothing is loaded from anywhere else,
no script runs, nothing is framed, no address is passed on, and no API answer is kept by anybody on the way.
"""

from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response, request

from vault import wire

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), browsing-topics=()",
    "X-Robots-Tag": "noindex, nofollow",
}
_FOR_DATA: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
_FOR_PAGES: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STYLE_KEPT: Final = "public, max-age=3600"
_TWO_YEARS: Final = 63_072_000


def install(app: Flask, url: str | None) -> None:
    """`url` is the server's public address; only one that is https may insist on https."""
    app.config["MAX_CONTENT_LENGTH"] = wire.MAX_BODY  # an object is a quarter of it, and streams
    app.config["MAX_FORM_MEMORY_SIZE"] = 0  # no address takes a form
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    https = url is not None and urlsplit(url).scheme == "https"

    @app.after_request
    def set_headers(response: Response) -> Response:
        response.headers.extend((name, value) for name, value in _ALWAYS.items())
        page = response.mimetype in {"text/html", "text/css", "image/svg+xml"}
        response.headers["Content-Security-Policy"] = _FOR_PAGES if page else _FOR_DATA
        kept = request.endpoint == "static" and response.status_code in {200, 304}
        response.headers["Cache-Control"] = _STYLE_KEPT if kept else "no-store"
        response.headers.pop("Server", None)
        if https:
            response.headers["Strict-Transport-Security"] = f"max-age={_TWO_YEARS}"
        return response
