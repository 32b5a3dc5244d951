"""The server key, as a file that the operator keeps a copy of.

Rule of this room: a key is whole or not there, is never overwritten, and nobody but the server's user may read it.
"""

import contextlib
import os
import secrets
from pathlib import Path

from vault import age
from vault.errors import BadUsage, Malformed, Refused
from vault.storage.disk import told
from vault.storage.folders import make_folder
from vault.storage.folders import settle as settle_folder


def read_key(path: Path) -> age.Identity:
    """The server key: one line of an age identity file, `AGE-SECRET-KEY-PQ-1…`."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BadUsage(
            f"The server key {path} cannot be read; give its place in AFTERWORD_SERVER_KEY_FILE.",
            code="no-server-key",
        ) from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    try:
        (key,) = keys
        return age.Identity.read(key)
    except (ValueError, Malformed):
        raise BadUsage(f"{path} is not a server key; use the copy you keep.", code="no-server-key") from None


def make_key(path: Path) -> None:
    """A server key for a server still to be founded. Never over one that is there."""
    with told("The server key"):
        try:
            write_key(path, age.Identity(os.urandom(32)))
        except FileExistsError:
            raise Refused(f"{path} exists; a server key is never overwritten.", code="key-exists") from None


def write_key(path: Path, key: age.Identity) -> None:
    text = f"# The key of an Afterword server. Keep a copy apart from its data.\n{key.write()}\n"
    make_folder(path.parent)
    # Whole or not at all: half a key would be a server that nobody can open again. And never through a name that an
    # interrupted attempt may have left: it can be the key itself under its second name.
    draft = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
    forget_drafts(path)
    settle_folder(path.parent)


def forget_drafts(path: Path) -> None:
    """What a start that was killed left beside the key: another key, or a second name of this one."""
    for left in path.parent.glob(f"{path.name}.new*"):
        with contextlib.suppress(OSError):  # a folder of credentials may be for reading only
            left.unlink()
