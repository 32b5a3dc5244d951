"""The few pages that people may see: what this server is, and what to do with an invite.

Rule of this room: a page explains, it never decides. No script, no form, nothing that a link scanner could press;
what follows the # of an invite stays in the browser that opened it.
"""

from typing import Final

from flask import Blueprint, Response, render_template, request

from vault.wire import Language
from web.auth import vault

bp = Blueprint("pages", __name__)

LANGUAGES: Final[tuple[Language, ...]] = ("en", "es")
_OTHER: Final[dict[Language, Language]] = {"en": "es", "es": "en"}


@bp.get("/")
def landing() -> Response:
    return _page("landing")


@bp.get("/join")
def join() -> Response:
    return _page("join")


@bp.get("/robots.txt")
def robots() -> Response:
    return Response("User-agent: *\nDisallow: /\n", content_type="text/plain; charset=utf-8")


def language() -> Language:
    """What the reader chose, else what their browser prefers, else English."""
    wishes = [request.args.get("language"), request.accept_languages.best_match(LANGUAGES)]
    return next((each for wish in wishes for each in LANGUAGES if each == wish), "en")


def _page(name: str) -> Response:
    spoken = language()
    fingerprint = vault().custodian.card.fingerprint
    page = render_template(
        f"{name}.{spoken}.html",
        language=spoken,
        other=_OTHER[spoken],
        words=fingerprint.words(spoken),
        fingerprint=fingerprint.write(),
    )
    return Response(page, headers={"Vary": "Accept-Language", "Content-Language": spoken})
