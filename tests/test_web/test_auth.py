"""A session's token comes in one header, in one shape."""

import pytest

from tests.test_web.doors import an_app
from vault.errors import Unauthenticated
from web.auth import bearer_token, vault

TOKEN = "0123456789abcdef" * 4


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}"])
def test_a_bearer_token_is_taken_from_its_header(header: str) -> None:
    with an_app().test_request_context(headers={"Authorization": header}):
        assert bearer_token() == TOKEN


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}0",
        f"Bearer {TOKEN.upper()}",
        f"Bearer  {TOKEN}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        f"Bearer {TOKEN[:-1]}ù",
    ],
)
def test_whatever_else_stands_there_is_nobody(header: str) -> None:
    with (
        an_app().test_request_context(headers={"Authorization": header}),
        pytest.raises(Unauthenticated),
    ):
        bearer_token()


def test_a_token_in_an_address_or_a_cookie_counts_for_nothing() -> None:
    context = an_app().test_request_context(f"/?token={TOKEN}", headers={"Cookie": f"token={TOKEN}"})
    with context, pytest.raises(Unauthenticated):
        bearer_token()


def test_the_vault_is_the_one_that_the_application_was_made_for() -> None:
    app = an_app()
    with app.test_request_context():
        assert vault() is app.extensions["afterword"]
