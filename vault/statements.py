"""What people and servers sign, as types.  Spec: docs/spec/statements-v1.md.

Rule of this room: one struct per kind, keys in the order they are written; whatever `read` accepts is
byte for byte what `write` gives.
"""

from typing import Annotated, ClassVar, Final, Literal, TypeVar

import msgspec

from vault import envelope
from vault.envelope import SigningKey, VerifyKey
from vault.errors import Malformed

Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256, or the hash of a statement (SHA-256 of its PAE), in hex."""
DossierId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Life = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""An instant (ms UTC, display only) or a duration."""
Number = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
Index = Annotated[int, msgspec.Meta(ge=1, le=255)]
Because = Literal["reached", "hospital", "known-safe"]
"""How a collaborator knows: spoke with her; she is in a hospital; somebody trusted knows that she is safe."""
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

MAX_PEOPLE: Final = 255
MAX_OBJECTS_PER_BUNDLE: Final = 4_096
MAX_DOSSIERS: Final = 1_000
MAX_AHEAD: Final = 1_000_000
"""How far a `seq` may lie above the last one. Without a bound, one statement with the highest number there is would be
the last that its account ever makes: whoever had her computer for a minute could silence her for good."""


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every kind has in common: nothing but how it is written."""

    kind: ClassVar[str]


class Login(Statement, frozen=True, forbid_unknown_fields=True):
    """I hold this verify key and want a session on this server."""

    kind: ClassVar[str] = "login"
    server: Hash
    verify: Hash
    nonce: Nonce
    created: Milliseconds


class Dwells(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan: how long the switch stays in armed, reminded, warned and grace."""

    every: Number
    remind: Number
    warn: Number
    grace: Number


class Collaborator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a roster. `sealed` is of the sealed share that travels beside it."""

    index: Index
    card: str
    verified: bool
    commitment: Hash
    sealed: Hash


class Custodian(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server that withholds a release share. In later epochs `sealed` is of D_j and `commitment` is null."""

    index: Index
    card: str
    sealed: Hash
    commitment: Hash | None


class Roster(Statement, frozen=True, forbid_unknown_fields=True):
    """Who the collaborators are and how many are needed; each change is a new epoch."""

    kind: ClassVar[str] = "roster"
    dossier: DossierId
    epoch: Annotated[int, msgspec.Meta(ge=1, lt=2**32)]
    prev: Hash | None
    recipient: str
    k: Index
    collaborators: Annotated[tuple[Collaborator, ...], msgspec.Meta(min_length=1, max_length=MAX_PEOPLE)]
    t: Index
    custodians: Annotated[tuple[Custodian, ...], msgspec.Meta(min_length=1, max_length=MAX_PEOPLE)]
    deal: Hash
    minimum: Annotated[int, msgspec.Meta(ge=1, le=64)]
    plan: Dwells
    cooling: Milliseconds


class SealedTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hash of a blob sealed to the holder of this card; the blob travels beside the statement."""

    card: Hash
    sealed: Hash


class Brief(Statement, frozen=True, forbid_unknown_fields=True):
    """The page that collaborators can read from day one, sealed once per reader, herself included."""

    kind: ClassVar[str] = "brief"
    server: Hash
    dossier: DossierId
    seq: Number
    epoch: Number
    readers: Annotated[tuple[SealedTo, ...], msgspec.Meta(min_length=1, max_length=MAX_PEOPLE + 1)]
    created: Milliseconds


class Head(Statement, frozen=True, forbid_unknown_fields=True):
    """Commits a bundle. `root` is an age file in base64; `replace` is the first bundle of a fresh start."""

    kind: ClassVar[str] = "head"
    dossier: DossierId
    bundle: Number
    prev: Hash | None
    objects: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=MAX_OBJECTS_PER_BUNDLE)]
    root: str
    replace: Number | None
    created: Milliseconds


class Arm(Statement, frozen=True, forbid_unknown_fields=True):
    """Start the switch. `anyway` arms although something on the list is missing."""

    kind: ClassVar[str] = "arm"
    server: Hash
    dossier: DossierId
    seq: Number
    epoch: Number
    anyway: bool
    created: Milliseconds


class Covered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What she knew of a dossier when she checked in, so that colleagues can tell what the newest was."""

    dossier: DossierId
    epoch: Number
    head: Hash | None


class CheckIn(Statement, frozen=True, forbid_unknown_fields=True):
    """Signed proof of life, by the check-in key; covers every dossier of that journalist."""

    kind: ClassVar[str] = "checkin"
    server: Hash
    seq: Number
    nonce: Nonce
    dossiers: Annotated[tuple[Covered, ...], msgspec.Meta(max_length=MAX_DOSSIERS)]
    created: Milliseconds


class Pause(Statement, frozen=True, forbid_unknown_fields=True):
    """Stand still for `length`, then start afresh."""

    kind: ClassVar[str] = "pause"
    server: Hash
    dossier: DossierId
    seq: Number
    nonce: Nonce
    length: Number
    created: Milliseconds


class Resume(Statement, frozen=True, forbid_unknown_fields=True):
    """End a pause now."""

    kind: ClassVar[str] = "resume"
    server: Hash
    dossier: DossierId
    seq: Number
    nonce: Nonce
    created: Milliseconds


class PlanChange(Statement, frozen=True, forbid_unknown_fields=True):
    """Other dwells from now on; slow when any of them grows."""

    kind: ClassVar[str] = "plan"
    server: Hash
    dossier: DossierId
    seq: Number
    plan: Dwells
    created: Milliseconds


class Destroy(Statement, frozen=True, forbid_unknown_fields=True):
    """Give up the dossier for ever."""

    kind: ClassVar[str] = "destroy"
    server: Hash
    dossier: DossierId
    seq: Number
    created: Milliseconds


class Cancel(Statement, frozen=True, forbid_unknown_fields=True):
    """Take back the slow change with this hash before it takes effect."""

    kind: ClassVar[str] = "cancel"
    server: Hash
    dossier: DossierId
    seq: Number
    change: Hash
    created: Milliseconds


class Proof(Statement, frozen=True, forbid_unknown_fields=True):
    """I could open my share of this roster and it satisfies its commitment."""

    kind: ClassVar[str] = "proof"
    server: Hash
    dossier: DossierId
    seq: Number
    epoch: Number
    roster: Hash
    index: Index
    created: Milliseconds


class Contribution(Statement, frozen=True, forbid_unknown_fields=True):
    """My share, sealed anew to each other collaborator of the roster whose commitment it satisfied."""

    kind: ClassVar[str] = "contribution"
    server: Hash
    dossier: DossierId
    seq: Number
    epoch: Number
    roster: Hash
    index: Index
    readers: Annotated[tuple[SealedTo, ...], msgspec.Meta(max_length=MAX_PEOPLE)]
    created: Milliseconds


class Collected(Statement, frozen=True, forbid_unknown_fields=True):
    """I have the archive; no more release letters, please."""

    kind: ClassVar[str] = "collected"
    server: Hash
    dossier: DossierId
    seq: Number
    roster: Hash
    created: Milliseconds


class Leave(Statement, frozen=True, forbid_unknown_fields=True):
    """I no longer want to be a collaborator of this dossier."""

    kind: ClassVar[str] = "leave"
    server: Hash
    dossier: DossierId
    seq: Number
    created: Milliseconds


class Hold(Statement, frozen=True, forbid_unknown_fields=True):
    """She was reached: let time stand still. Only for this climb of this switch."""

    kind: ClassVar[str] = "hold"
    server: Hash
    dossier: DossierId
    seq: Number
    nonce: Nonce
    climb: Number
    because: Because
    created: Milliseconds


class Acknowledgement(Statement, frozen=True, forbid_unknown_fields=True):
    """The server has durably stored `statement`. `commitment` is of a custodian's new release share.

    `life` names the server's life, as in ServerInfo: within one, `seq` and `number` only rise.
    """

    kind: ClassVar[str] = "acknowledgement"
    server: Hash
    account: Hash
    statement: Hash
    seq: Milliseconds
    life: Life
    lived: Milliseconds
    served: Milliseconds
    number: Number
    history: Hash
    commitment: Hash | None
    created: Milliseconds


class Release(Statement, frozen=True, forbid_unknown_fields=True):
    """The switch of this dossier ran out. `checkin` is the hash of the last one this server accepted."""

    kind: ClassVar[str] = "release"
    server: Hash
    dossier: DossierId
    journalist: Hash
    epoch: Number
    roster: Hash
    head: Hash | None
    bundle: Milliseconds
    checkin: Hash | None
    served: Milliseconds
    created: Milliseconds


PEOPLE: Final[tuple[type[Statement], ...]] = (
    Login, Roster, Brief, Head, Arm, CheckIn, Pause, Resume, PlanChange, Destroy, Cancel,
    Proof, Contribution, Collected, Leave, Hold,
)  # fmt: skip
SERVERS: Final[tuple[type[Statement], ...]] = (Acknowledgement, Release)
KINDS: Final = {each.kind: each for each in PEOPLE + SERVERS}

Role = Literal["journalist", "collaborator"]
S = TypeVar("S", bound=Statement)


def write(statement: Statement, key: SigningKey) -> bytes:
    """The signed envelope of a statement, as it is sent and stored."""
    return envelope.sign(statement.kind, envelope.write_payload(statement), key)


def read(signed: bytes, key: VerifyKey, kind: type[S]) -> S:
    """Verify first, then parse: `Untrusted` for a foreign key or kind, `Malformed` for anything else."""
    return envelope.read_payload(envelope.open_envelope(signed, key, kind.kind).payload, kind)


def peek(signed: bytes) -> Statement:
    """What a statement claims, its signature not looked at: only to find whose key must verify it."""
    opened = envelope.peek(signed)
    if opened.kind not in KINDS:
        raise Malformed(f"No statement of kind {opened.kind!r} is known here; is the program out of date?")
    return envelope.read_payload(opened.payload, KINDS[opened.kind])
