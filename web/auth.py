"""Which vault this process opens the door to, and who is knocking.

Rule of this room: a bearer token or nothing; no cookies, so that nobody's page can speak in somebody's name.
"""

import re
from typing import TYPE_CHECKING, Final, cast

from flask import current_app, request

from vault import accounts
from vault.errors import Unauthenticated
from vault.storage.records.rows import Account

if TYPE_CHECKING:
    from vault.compose import Vault

_TOKEN: Final = re.compile(r"[0-9a-f]{64}")


def vault() -> "Vault":
    """What `create_app` was given."""
    return cast("Vault", current_app.extensions["afterword"])


def signed_in() -> Account:
    """Whose session the request's token names; `Unauthenticated` when it names none."""
    return accounts.session(vault().records, bearer_token())


def bearer_token() -> str:
    """The token as sent, its shape checked; `Unauthenticated` if there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
        raise Unauthenticated("Sign in first: this address needs a session.")
    return token
