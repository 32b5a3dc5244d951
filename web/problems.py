"""Which failure is which HTTP status.

Rule of this room: one table, one handler. A problem names ids and a stable code, never contents; what nobody
foresaw is code `bug`, and of it only the place in our own source is logged.
"""

import errno
import logging
import traceback
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException

from vault import errors, wire
from vault.errors import AfterwordError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = {"busy": "1", "damaged": "60", "disk-failed": "60", "no-space": "60", "too-many": "60"}

BY_CODE: Final[dict[str, int]] = {
    "busy": 503,
    "invite-expired": 410,
    "invite-unknown": 404,
    "object-mismatch": 422,
    "too-many": 429,
    "wrong-server-key": 503,
}

BY_CLASS: Final[dict[type[AfterwordError], int]] = {
    errors.BadUsage: 400,
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Refused: 409,
    errors.OverQuota: 413,
    errors.Untrusted: 422,
    errors.Damaged: 503,
    errors.Unreachable: 503,
    errors.NoSpace: 507,
}

# What Flask, Werkzeug and the HTTP server refuse before any of our rooms is asked.
BY_STATUS: Final[dict[int, tuple[str, str]]] = {
    400: ("malformed", "This request is not what this address takes; is the program out of date?"),
    404: ("not-found", "There is no such thing here, or it is not yours."),
    405: ("wrong-method", "This address does not take that method; is the program out of date?"),
    408: ("too-slow", "The request took too long to arrive; send it again."),
    413: ("too-large", f"A request body is at most {wire.MAX_BODY} bytes here; send less at a time."),
    415: ("wrong-type", "This address takes another media type; is the program out of date?"),
    416: ("bad-range", "This range lies outside of the object; ask for one within its length."),
    429: ("too-many", "Too many requests; wait a minute and try again."),
}

BUG: Final = (
    "The server met a fault of its own, not of yours; try again, and tell its operator the time of day."
)

log = logging.getLogger("afterword.web")


def install(app: Flask) -> None:
    app.register_error_handler(Exception, answer)


def answer(error: Exception) -> Response:
    """Any failure as RFC 9457, or as a plain page for somebody who came with a browser."""
    kept: dict[str, str] = {}
    seen: int | None = None
    match error:
        case AfterwordError():
            status, code, sentence = status_of(error), error.code, str(error)
            if isinstance(error, errors.StaleSequence):
                seen = error.seen
            if isinstance(error, errors.WrongOffset):
                kept["Upload-Offset"] = str(error.held)
        case HTTPException():
            status = error.code or 500
            code, sentence = BY_STATUS.get(status, ("bug", BUG) if status >= 500 else BY_STATUS[400])
            # Only these say something that a client acts on; the rest would be Werkzeug's own page.
            wanted = ("Allow", "Content-Range", "Retry-After")
            kept.update((name, value) for name, value in error.get_headers() if name in wanted)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            status, code = 507, "no-space"
            sentence = "The server's disk is full; nothing was half-written. Tell its operator."
            log.error("no-space: %s", place(error))
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            status, code = 503, "busy"
            sentence = "The server has as many files open as it may; try again in a moment."
            log.error("busy: %s", place(error))
        case _:
            status, code, sentence = 500, "bug", BUG
            log.error("bug: %s", place(error))
    if isinstance(error, errors.Damaged):
        log.error("%s: %s", error.code, place(error))
    if status == 401:
        kept["WWW-Authenticate"] = "Bearer"
    if code in RETRY_AFTER:
        kept.setdefault("Retry-After", RETRY_AFTER[code])
    problem = wire.Problem(
        type=f"urn:afterword:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=sentence,
        code=code,
        seen=seen,
    )
    return _render(problem, kept)


def status_of(error: AfterwordError) -> int:
    """By code where a code has a status of its own, else by the nearest class above."""
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    return next((BY_CLASS[each] for each in type(error).__mro__ if each in BY_CLASS), 400)


def place(error: BaseException) -> str:
    """Class, file, line and function: enough to find a fault by, and no word of what was being handled."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-4:]]
    return " < ".join([type(error).__name__, *reversed(where)])


def _render(problem: wire.Problem, kept: dict[str, str]) -> Response:
    read_by_a_person = not request.path.startswith(f"{wire.API}/") and (
        request.accept_mimetypes.best_match([MEDIA_TYPE, "text/html"]) == "text/html"
    )
    if read_by_a_person:
        page = render_template("problem.html", problem=problem, language="en", other=None)
        return Response(page, problem.status, kept)
    return Response(wire.write(problem), problem.status, kept, content_type=MEDIA_TYPE)
