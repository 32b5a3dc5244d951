"""What a dossier is called, as bytes to be sealed to whoever may read it.  Spec: docs/spec/title-v1.md.

Rule of this room: whatever read_title accepts, write_title gives back byte for byte; every name has one length, and
none can be passed off as another dossier's.
"""

from typing import Annotated, Final

import msgspec

from vault.errors import Malformed, Refused, Untrusted
from vault.sharing import LONGEST_TITLE

SIZE: Final = 512


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dossier: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    title: str


_BAD: Final = (
    "This is not a dossier's name as Afterword writes it; call the dossier by the beginning of its id."
)


def write_title(dossier: str, title: str) -> bytes:
    """512 bytes: JSON, then zeros. Refused for what is too long or no text. `dossier`: its id in hex."""
    try:
        size = len(msgspec.json.encode(title)) - 2
    except UnicodeEncodeError:
        raise Refused("This name is not valid text; choose another.", code="bad-title") from None
    if size > LONGEST_TITLE:
        raise Refused(f"A name has at most {LONGEST_TITLE} bytes; choose a shorter one.", code="bad-title")
    return msgspec.json.encode(_Body(dossier, title)).ljust(SIZE, b"\0")


def read_title(plaintext: bytes, dossier: str) -> str:
    """The name of just this dossier. Malformed for what write_title would not have written, Untrusted for another's."""
    try:
        body = msgspec.json.decode(plaintext.rstrip(b"\0"), type=_Body)
        written = write_title(body.dossier, body.title)
    except (msgspec.MsgspecError, UnicodeDecodeError, Refused):
        raise Malformed(_BAD) from None
    if written != plaintext:
        raise Malformed(_BAD)
    if body.dossier != dossier:
        # Anybody can seal to a card, and a server can hand out one dossier's name for another: a push would follow it.
        raise Untrusted(
            f"The server shows dossier {dossier[:8]} under the name of another dossier; push nothing into it, and ask "
            "its operator what happened.",
            code="wrong-title",
        )
    return body.title
