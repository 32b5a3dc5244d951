"""The page that colleagues can read from day one, as bytes to be sealed.  Spec: docs/spec/brief-v1.md.

Rule of this room: whatever read_brief accepts, write_brief gives back byte for byte; a seal's size tells no more than
which power of two its text fits.
"""

from typing import Final

from vault.errors import Malformed, Refused

SMALLEST: Final = 4096
LARGEST: Final = 64 * 1024
_BAD: Final = "This is not a brief as Afterword writes it; ask the journalist to write it again."


def write_brief(text: str) -> bytes:
    """UTF-8, then zeros up to 4, 8, 16, 32 or 64 KiB. Refused for what is empty, too long, or no plain text."""
    try:
        written = text.encode()
    except UnicodeEncodeError:
        raise Refused("A brief is plain text in UTF-8; save it so and try again.", code="bad-brief") from None
    if not written.strip() or b"\0" in written:
        raise Refused("A brief is plain text, and not empty; look at the file.", code="bad-brief")
    if len(written) > LARGEST:
        raise Refused(
            f"A brief has at most {LARGEST // 1024} KiB and this one has {len(written):,} bytes; push what is longer.",
            code="brief-too-long",
        )
    return written.ljust(_padded(len(written)), b"\0")


def read_brief(plaintext: bytes) -> str:
    """What was inside the seal. Malformed for anything that write_brief would not have written."""
    try:
        text = plaintext.rstrip(b"\0").decode()
        written = write_brief(text)
    except (UnicodeDecodeError, Refused):
        raise Malformed(_BAD) from None
    if written != plaintext:
        raise Malformed(_BAD)
    return text


def _padded(size: int) -> int:
    room = SMALLEST
    while room < size:
        room *= 2
    return room
