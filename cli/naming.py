"""What a person types to name something, and which one is meant.

Rule of this room: upper and lower case, the way an accent is composed, and spaces around a name make no difference.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final, TypeVar

from vault.errors import BadUsage

T = TypeVar("T")

_SHORTEST_ID: Final = 4


def folded(name: str) -> str:
    """Two names that fold alike are one name."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def dossier_called(typed: str, dossiers: Iterable[tuple[T, str, str | None]]) -> T | None:
    """By title, else by the beginning of the id; each comes with both. BadUsage with code `ambiguous` for several."""
    known, wanted = list(dossiers), folded(typed)
    found = [(one, id) for one, id, title in known if title is not None and folded(title) == wanted]
    if not found and len(wanted) >= _SHORTEST_ID:
        found = [(one, id) for one, id, _ in known if id.startswith(wanted)]
    if len(found) > 1:
        ids = ", ".join(id[:8] for _, id in found)
        raise BadUsage(f"Several dossiers are called that; name one by its id: {ids}.", code="ambiguous")
    return found[0][0] if found else None
