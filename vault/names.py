"""Names of files: as the computer gave them, as a tree holds them, as any computer can take them.

Spec: docs/spec/tree-v1.md.  Rule of this room: a name is only ever made safer, never silently made the same as another.
"""

import hashlib
import re
import unicodedata
from typing import Final

from vault.errors import Malformed

PATH_LIMIT: Final = 4_096
COMPONENT_LIMIT: Final = 1_020
"""255 UTF-16 units, or 255 undecodable bytes written as %HH, both fit; Linux itself allows 255 bytes."""

_WRITTEN_LIMIT: Final = 255
_NOT_ON_WINDOWS: Final = frozenset('<>:"\\|?*')
_RESERVED: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?\Z", re.IGNORECASE
)
_LOOKS_ESCAPED: Final = re.compile("%[0-9A-Fa-f]{2}")
_JOINERS: Final = frozenset("\u200c\u200d")
_INVISIBLE_THOUGH_LETTERS: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
)
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def check_path(path: str) -> None:
    """Refuse what is not one clean relative path below a folder. Raises Malformed."""
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise Malformed("A path is not valid Unicode text; rename the file.") from None
    if length > PATH_LIMIT:
        raise Malformed(f"A path is longer than {PATH_LIMIT} bytes; push from a folder nearer to the file.")
    if "\0" in path:
        raise Malformed("A path holds a NUL character; no computer can write it.")
    for component in path.split("/"):
        if component in {"", ".", ".."}:
            raise Malformed("A path is absolute, or has an empty, '.' or '..' component.")
        if len(component.encode()) > COMPONENT_LIMIT:
            raise Malformed(f"A name is longer than {COMPONENT_LIMIT} bytes; shorten it.")


def name_from_bytes(raw: bytes) -> tuple[str, bool]:
    """(the name as text, whether it had to be changed): bytes that are not UTF-8 are written as %HH.

    Two names may meet this way; who lists a folder must look for that.
    """
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        lone = raw.decode(errors="surrogateescape")
    return "".join(f"%{ord(ch) - 0xDC00:02X}" if "\udc80" <= ch <= "\udcff" else ch for ch in lone), True


def safe_name(path: str) -> str:
    """The path as every system can write it and a person can read it: one clean relative path.

    What could deceive or be refused is written as %HH for each of its UTF-8 bytes; a % that already looks like
    that is written as %25, so that different paths stay different. Only names too long to be written are
    shortened, with eight digits of their hash. Raises Malformed where check_path does.
    """
    check_path(path)
    return "/".join(_safe_component(component) for component in path.split("/"))


def _safe_component(name: str) -> str:
    safe = "".join(_escape(ch) if _unsafe(name, at) else ch for at, ch in enumerate(name))
    if _RESERVED.match(safe):
        safe = _escape(safe[0]) + safe[1:]
    return safe if len(safe.encode()) <= _WRITTEN_LIMIT else _shorten(name, safe)


def _escape(ch: str) -> str:
    return "".join(f"%{byte:02X}" for byte in ch.encode())


def _unsafe(name: str, at: int) -> bool:
    ch = name[at]
    if ch in _NOT_ON_WINDOWS or ch in _INVISIBLE_THOUGH_LETTERS:
        return True
    if ch == "%":
        return _LOOKS_ESCAPED.match(name, at) is not None
    if at == len(name) - 1 and (ch == "." or ch.isspace()):
        return True
    before = unicodedata.category(name[at - 1])[0] if at else ""
    if ch in _JOINERS:  # Persian, Indic scripts and emoji are misspelt without them
        after = unicodedata.category(name[at + 1])[0] if at + 1 < len(name) else ""
        return before not in {"L", "M", "S"} or after not in {"L", "M", "S"}
    if _is_variation_selector(ch):
        return before not in {"L", "N", "S", "P"}
    return unicodedata.category(ch) in _INVISIBLE_CATEGORIES


def _is_variation_selector(ch: str) -> bool:
    return "\ufe00" <= ch <= "\ufe0f" or "\U000e0100" <= ch <= "\U000e01ef"


def _shorten(name: str, safe: str) -> str:
    stem, dot, suffix = safe.rpartition(".")
    end = f"~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    if stem and len(suffix.encode()) <= 16:
        end += dot + suffix
    else:
        stem = safe
    return stem.encode()[: _WRITTEN_LIMIT - len(end.encode())].decode(errors="ignore") + end
