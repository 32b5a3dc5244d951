"""Every failure is problem+json with a stable code, and says nothing that it should not."""

import errno
import logging
import sqlite3
from collections.abc import Callable

import pytest
from flask import abort, request

from tests.test_web.doors import an_app
from vault import errors, wire
from vault.errors import AfterwordError
from web import problems


def raising(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def every_class(root: type[AfterwordError] = AfterwordError) -> list[type[AfterwordError]]:
    return [root, *(each for child in root.__subclasses__() for each in every_class(child))]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Malformed("These bytes are not a head."), 400, "malformed"),
        (errors.BadUsage("Words that do not fit."), 400, "usage"),
        (errors.Unauthenticated("Sign in."), 401, "unauthenticated"),
        (errors.NotFound("No such dossier."), 404, "not-found"),
        (errors.NotFound("No such invite.", code="invite-unknown"), 404, "invite-unknown"),
        (errors.Conflict("Used.", code="invite-used"), 409, "invite-used"),
        (errors.StaleVersion("A row changed."), 409, "stale-version"),
        (errors.Refused("Too late.", code="released"), 409, "released"),
        (errors.Refused("Over.", code="stale-nonce"), 409, "stale-nonce"),
        (errors.Refused("Expired.", code="invite-expired"), 410, "invite-expired"),
        (errors.OverQuota("It would not fit."), 413, "over-quota"),
        (errors.Untrusted("The signature does not hold."), 422, "untrusted"),
        (errors.Untrusted("Other bytes.", code="object-mismatch"), 422, "object-mismatch"),
        (errors.Conflict("Later.", code="busy"), 503, "busy"),
        (errors.Damaged("A row does not read."), 503, "damaged"),
        (errors.NoSpace("The disk is full."), 507, "no-space"),
    ],
)
def test_a_refusal_is_its_status_its_code_and_its_own_sentence(
    error: AfterwordError, status: int, code: str
) -> None:
    answer = an_app(failing=raising(error)).test_client().post("/api/v1/fail")
    said = wire.read(answer.data, wire.Problem)
    assert (answer.status_code, said.status, said.code, said.detail) == (status, status, code, str(error))
    assert answer.content_type == "application/problem+json"
    assert said.type == f"urn:afterword:problem:{code}"


def test_a_stale_sequence_tells_the_number_that_was_seen() -> None:
    answer = an_app(failing=raising(errors.StaleSequence(seen=41))).test_client().post("/api/v1/fail")
    assert wire.read(answer.data, wire.Problem).seen == 41


def test_a_wrong_offset_tells_where_to_go_on() -> None:
    answer = an_app(failing=raising(errors.WrongOffset(held=4_096))).test_client().post("/api/v1/fail")
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, "4096")


def test_who_is_not_signed_in_is_told_how() -> None:
    answer = an_app(failing=raising(errors.Unauthenticated("Sign in."))).test_client().get("/api/v1/fail")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_busy_server_says_when_to_come_again() -> None:
    answer = an_app(failing=raising(errors.Conflict("Later.", code="busy"))).test_client().get("/api/v1/fail")
    assert answer.headers["Retry-After"] == "1"


def test_every_class_of_error_has_a_status_of_its_own_or_of_a_class_above_it() -> None:
    for each in every_class():
        bare = each.__new__(each)
        Exception.__init__(bare, "Something.")
        assert 400 <= problems.status_of(bare) <= 507


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the title of her dossier"),
        KeyError("the title of her dossier"),
        sqlite3.IntegrityError("the title of her dossier"),
        UnicodeDecodeError("utf-8", b"the title of her dossier", 0, 1, "title"),
    ],
)
def test_what_nobody_foresaw_is_a_bug_of_which_only_the_place_is_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = an_app(failing=raising(error)).test_client().post("/api/v1/fail")
    assert (answer.status_code, wire.read(answer.data, wire.Problem).code) == (500, "bug")
    assert b"title" not in answer.data.replace(b'"title"', b"")
    assert type(error).__name__ in caplog.text
    assert "test_problems.py" in caplog.text
    assert "title" not in caplog.text


def test_a_full_disk_is_not_called_a_bug() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    answer = an_app(failing=raising(full)).test_client().post("/api/v1/fail")
    assert (answer.status_code, wire.read(answer.data, wire.Problem).code) == (507, "no-space")


@pytest.mark.parametrize("status", [400, 404, 408, 413, 415, 416, 418, 429, 431, 500, 501, 503])
def test_what_the_framework_refuses_is_a_problem_too(status: int) -> None:
    def fail() -> object:
        return abort(status)

    answer = an_app(failing=fail).test_client().post("/api/v1/fail") if status != 418 else None
    if answer is None:
        answer = an_app(failing=fail).test_client().get("/api/v1/fail")
    said = wire.read(answer.data, wire.Problem)
    assert (answer.status_code, said.status) == (status, status)
    assert answer.content_type == "application/problem+json"
    assert said.code


def test_the_wrong_method_is_told_the_right_ones() -> None:
    answer = an_app(failing=lambda: None).test_client().delete("/api/v1/fail")
    assert (answer.status_code, wire.read(answer.data, wire.Problem).code) == (405, "wrong-method")
    assert "POST" in answer.headers["Allow"]


def test_a_body_above_the_limit_is_refused_before_it_is_read() -> None:
    answer = (
        an_app(failing=lambda: request.get_data())
        .test_client()
        .post("/api/v1/fail", data=b"x" * (wire.MAX_BODY + 1))
    )
    assert (answer.status_code, wire.read(answer.data, wire.Problem).code) == (413, "too-large")


def test_somebody_with_a_browser_reads_the_sentence_on_a_page() -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = an_app().test_client().get("/nowhere", headers=browser)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "There is no such thing here" in answer.text


def test_a_program_reads_json_even_where_there_is_no_api() -> None:
    assert an_app().test_client().get("/nowhere").content_type == "application/problem+json"
