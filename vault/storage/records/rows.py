"""Rows as the chapters know them.

Rule of this room: a row that does not read is `Damaged`; nothing is ever guessed in its place.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from vault import letters
from vault.errors import Damaged, DiskFailed
from vault.storage.database import Database

_WORD: Final = 3
_NOTHING: Final = -7


class Row(msgspec.Struct, frozen=True):
    """One line of one table; flags are 0 or 1, times whole milliseconds, `*_hash` and ids in hex. If the database keeps
    a sum of its lines, `weights` are its columns and `word` is the one that counts by its first letter."""

    weights: ClassVar[Mapping[str, int]] = {}
    word: ClassVar[str] = ""


class Account(Row, frozen=True):
    """`card` rests sealed. `number` and `history` are the newest link of its chain, `checked_in` is ms UTC."""

    id: str
    card_hash: str
    verify: str
    checkin: str
    card: bytes
    journalist: int
    seq: int
    quota: int
    used: int
    number: int
    history: str
    marked: int
    checked_in: int | None
    created: int


class Invite(Row, frozen=True):
    """`code` is a digest; `journalist` is null for an operator's invite; `expires` in `lived`."""

    code: str
    journalist: str | None
    label: bytes
    expires: int
    used_by: str | None


class Link(Row, frozen=True):
    journalist: str
    collaborator: str
    label: bytes
    since: int


class Address(Row, frozen=True):
    """`sealed` holds address, language, subject and phrase; `removal` is a slow change's hash. It fails since
    `failing_since` (ms UTC, for people) or `failing_lived`; `failing_told` once her other addresses were told."""

    id: str
    account: str
    sealed: bytes
    confirmed: int
    code: str | None
    code_expires: int | None
    tries: int
    failing_since: int | None
    removal: str | None
    created: int
    failing_lived: int | None = None
    failing_told: int = 0


class Dossier(Row, frozen=True):
    """`release_share` (R_j, index and value) and title rest sealed; gone after destruction."""

    id: str
    journalist: str
    title: bytes
    deal: bytes
    recipient: str
    release_share: bytes | None
    epoch: int
    roster: str
    threshold: int
    minimum: int
    cooling: int
    bundles: int
    head: str | None
    pushed: int | None
    brief: str | None
    created: int


class Collaborator(Row, frozen=True):
    """A line of the present roster."""

    dossier: str
    place: int
    account: str
    card_hash: str
    share: bytes
    proof: bytes | None
    proved: int | None
    has_left: int
    contribution: bytes | None
    collected: int | None


class Stored(Row, frozen=True):
    """A statement that was accepted, with the answer it got. A roster's envelope is not kept here but sealed."""

    hash: str
    account: str
    dossier: str | None
    kind: str
    envelope: bytes
    acknowledgement: bytes
    change: str | None


class Change(Row, frozen=True):
    """A slow change under way; it has cooled when `served` reaches `cooled`, in the `life` of the server in which it
    was last told. `body` rests sealed. Another life, or a dossier that is none, lets it cool anew or stand still, so
    they need no sum."""

    weights: ClassVar[Mapping[str, int]] = {"asked": 5, "cooled": 7, "told": 11}
    word: ClassVar[str] = "kind"

    hash: str
    account: str
    dossier: str | None
    kind: letters.Change
    body: bytes
    asked: int
    cooled: int
    told: int
    life: str | None

    def __post_init__(self) -> None:
        if (self.dossier is None) is not (self.kind is letters.Change.ADDRESS):
            raise ValueError("only the removal of an address is of no dossier")


class Named(Row, frozen=True):
    hash: str


class Ready(Row, frozen=True):
    """A change by its place in the queue."""

    cooled: int
    hash: str


class Hold(Row, frozen=True):
    """A colleague's signature that she was reached. `asked` and `until` in `served`; `until` is null as long as a
    second signature is needed."""

    hash: str
    dossier: str
    account: str
    ladder: int
    because: str
    asked: int
    until: int | None
    wall: int


class ShownHold(Row, frozen=True):
    """The same for those who may see it: whose card signed it, and what was signed."""

    hash: str
    card: str
    because: str
    asked: int
    until: int | None
    wall: int
    statement: bytes


class Wave(Row, frozen=True):
    """Many who fell silent together: how many, when the last of them did, and when a release last waited for it
    (`served`)."""

    number: int
    many: int
    last: int
    waited: int | None
    wall: int


class Released(Row, frozen=True):
    dossier: str
    envelope: bytes
    checkin: bytes | None
    released: int


class Letter(Row, frozen=True):
    """One letter to one address; `address` null means the operator's own, named in `facts`. `lane` is the account in
    whose turn it goes; `posted` is when it was first to be carried."""

    id: str
    message_id: str
    account: str | None
    address: str | None
    kind: str
    dossier: str | None
    climb: int | None
    letter: str | None
    facts: bytes
    state: str
    attempts: int
    next: int
    lease: int
    reason: str | None
    posted: int
    settled: int | None
    lane: str | None = None


class Settled(Row, frozen=True):
    """What is to be known of a letter that was settled, to tell whether anything still refers to it."""

    id: str
    kind: str
    dossier: str | None
    climb: int | None
    letter: str | None
    settled: int
    lane: str | None


R = TypeVar("R", bound=Row)


def take(row: Mapping[str, Any], shape: type[R]) -> R:  # Any: whatever the database holds is checked here
    try:
        taken = msgspec.convert(dict(row), shape)
    except (msgspec.ValidationError, TypeError, ValueError) as wrong:
        raise Damaged(f"A row of {shape.__name__} does not read: {wrong}.") from None
    if shape.weights and not adds_up(row, shape.weights, shape.word):
        raise Damaged(f"A row of {shape.__name__} does not add up.")
    return taken


def adds_up(row: Mapping[str, Any], weights: Mapping[str, int], word: str = "") -> bool:  # Any: as above
    """Whether the columns still have the sum that the database noted when they were written."""
    written = row[word] if word else None
    total = ord(written[:1] or "\0") * _WORD if isinstance(written, str) else 0
    for name, weight in weights.items():
        value = _NOTHING if row[name] is None else row[name]
        if type(value) is not int:
            return False
        total += weight * value
    return bool(total == row["total"])


def blob(row: Mapping[str, Any], name: str) -> bytes:  # Any: as above
    """A column of bytes, which a damaged page may hold as text or a number."""
    value = row[name]
    if not isinstance(value, bytes):
        raise Damaged(f"A column {name} does not read.")
    return value


class Rows:
    """What the rooms of this folder share: a database."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def _one(self, shape: type[R], sql: str, **params: int | str | bytes | None) -> R | None:
        row = self.db.one(sql, **params)
        return None if row is None else take(row, shape)

    def _all(self, shape: type[R], sql: str, **params: int | str | bytes | None) -> list[R]:
        return [take(row, shape) for row in self.db.all(sql, **params)]

    def _each(self, shape: type[R], sql: str, **params: int | str | bytes | None) -> list[R | None]:
        """As `_all`, with None in the place of a row that does not read: it must not hide the others. Called inside a
        transaction or a reading, so that the places stay the same."""
        try:
            return [*self._all(shape, sql, **params)]
        except DiskFailed:
            raise
        except Damaged:
            count = self.db.one(f"SELECT COUNT(*) AS many FROM ({sql}) AS them", **params)  # noqa: S608 our own
        found: list[R | None] = []
        for place in range(0 if count is None else int(count["many"])):
            try:
                one = f"SELECT * FROM ({sql}) AS them LIMIT 1 OFFSET :place"  # noqa: S608 our own
                found.append(self._one(shape, one, place=place, **params))
            except DiskFailed:
                raise
            except Damaged:
                found.append(None)
        return found

    def _readable(self, shape: type[R], sql: str, **params: int | str | bytes | None) -> list[R]:
        return [each for each in self._each(shape, sql, **params) if each is not None]

    def _insert(self, table: str, row: Row) -> None:
        names = row.__struct_fields__
        self.db.run(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + n for n in names)})",  # noqa: S608 names are ours
            **{name: getattr(row, name) for name in names},
        )
