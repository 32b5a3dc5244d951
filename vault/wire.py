"""JSON bodies as they travel over HTTP.  Spec: docs/spec/api-v1.md.

Rule of this room: every body is one struct; unknown keys are refused in requests and, so that older
clients keep working, ignored in answers. Nothing in here is signed: signed bytes are strings inside.
"""

import base64
import binascii
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from vault.errors import Malformed
from vault.statements import Because, DossierId, Dwells, Hash, Index, Number, Role

API: Final = "/api/v1"
MAX_BODY: Final = 4 * 1024 * 1024
MAX_BATCH: Final = 4_096
MARK: Final = "Afterword-Mark"
"""The header in which a server's own knock names the mark that it left, 64 hexadecimal digits."""

Envelope = Annotated[str, msgspec.Meta(max_length=2_100_000)]
"""A DSSE envelope, exactly as signed."""
Sealed = Annotated[str, msgspec.Meta(max_length=200_000)]
"""An age file in standard padded base64."""
Code = Annotated[str, msgspec.Meta(max_length=64)]
Language = Literal["en", "es"]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends."""


class Answer(msgspec.Struct, frozen=True):
    """What a server says; a newer server may say more."""


class Problem(Answer, frozen=True):
    """RFC 9457, media type application/problem+json; `code` is the stable part, `seen` is for stale-sequence."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    seen: int | None = None


class Limits(Answer, frozen=True):
    """What this server takes, told before the first byte: bytes, counts, durations in ms."""

    object_size: int
    objects_per_bundle: int
    batch: int
    body: int
    brief: int
    collaborators: int
    quota: int
    shortest_dwell: int
    shortest_ladder: int
    shortest_cooling: int
    free: int


class ServerInfo(Answer, frozen=True):
    """GET /server. `life` changes when a backup is restored; `tick` in ms."""

    card: Envelope
    software: str
    life: str
    tick: int
    short: bool
    limits: Limits
    served: int
    lived: int
    now: int


class NonceGrant(Answer, frozen=True):
    """POST /nonces. Usable once, for `lives` ms."""

    nonce: Hash
    lives: int


class Joining(Request, frozen=True, forbid_unknown_fields=True):
    """POST /accounts: spend an invite. The same code and card again get the same answer."""

    code: Code
    card: Envelope


class Joined(Answer, frozen=True):
    """`inviter` is the journalist's card for a collaborator, null for a journalist."""

    role: Role
    inviter: Envelope | None


class HistoryEntry(Answer, frozen=True):
    """One link of an account's chain: hash = SHA-256(prev ‖ entry), entry as it was written."""

    number: Number
    entry: str
    hash: Hash


class SessionRequest(Request, frozen=True, forbid_unknown_fields=True):
    """POST /sessions, with a `login` statement; `last` is the newest acknowledgement that this client has kept."""

    login: Envelope
    last: Envelope | None = None


class SessionGrant(Answer, frozen=True):
    """`token` goes into `Authorization: Bearer`; the server keeps only its hash. `card` is the account's own.

    `head` acknowledges the login and says where the account's chain stands; `links` are those after `last`, at most
    100.
    """

    token: str
    lives: int
    card: Envelope
    head: Envelope | None = None
    links: tuple[HistoryEntry, ...] = ()


class AddressState(Answer, frozen=True):
    """One of my addresses. `failing_since` (ms UTC) when letters have not been accepted for a while."""

    id: str
    address: str
    language: Language
    subject: str
    phrase: str
    confirmed: bool
    failing_since: int | None
    removal: Hash | None


class Link(Answer, frozen=True):
    """Somebody I am linked with by an invite; `role` is theirs in that link."""

    card: Envelope
    label: str
    role: Role
    since: int


class OpenInvite(Answer, frozen=True):
    """An invite that nobody has used yet. `expires` in `lived` ms."""

    label: str
    expires: int


class AccountState(Answer, frozen=True):
    """GET /account. `seq` is the highest the server has seen; `quota` and `used` in bytes."""

    card: Envelope
    role: Role
    seq: int
    quota: int
    used: int
    reserve: int
    addresses: tuple[AddressState, ...]
    links: tuple[Link, ...]
    invites: tuple[OpenInvite, ...]
    marked: bool


class InviteRequest(Request, frozen=True, forbid_unknown_fields=True):
    """POST /invites: one collaborator may join. The label is what she calls this person."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Invite(Answer, frozen=True):
    """The code to put into the invite's URL, and how long it can be used (ms)."""

    code: str
    lives: int


class AddressRequest(Request, frozen=True, forbid_unknown_fields=True):
    """POST /addresses: a code is sent there."""

    address: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
    language: Language
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    phrase: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


class AddressConfirmation(Request, frozen=True, forbid_unknown_fields=True):
    """POST /addresses/confirm: the code that arrived there."""

    code: Code


class AddressRemoved(Answer, frozen=True):
    """DELETE /addresses/ID. `change` when it must cool first."""

    change: Hash | None


class DossierCreation(Request, frozen=True, forbid_unknown_fields=True):
    """POST /dossiers: the first roster and all that is sealed beside it, in roster order."""

    roster: Envelope
    shares: tuple[Sealed, ...]
    release_shares: tuple[Sealed, ...]
    deal: Sealed
    title: Sealed


class RosterChange(Request, frozen=True, forbid_unknown_fields=True):
    """POST /dossiers/ID/rosters. `corrections` (sealed D_j) are null while the change has to cool."""

    roster: Envelope
    shares: tuple[Sealed, ...]
    deal: Sealed
    corrections: tuple[Sealed, ...] | None


class Corrections(Request, frozen=True, forbid_unknown_fields=True):
    """POST /dossiers/ID/rosters/EPOCH/corrections: the sealed D_j of a roster that has cooled."""

    corrections: tuple[Sealed, ...]


class Submission(Request, frozen=True, forbid_unknown_fields=True):
    """POST /dossiers/ID/statements and /heads: one statement and what is sealed beside it, in its order."""

    statement: Envelope
    sealed: Annotated[tuple[Sealed, ...], msgspec.Meta(max_length=256)] = ()


class CheckInRequest(Request, frozen=True, forbid_unknown_fields=True):
    """POST /check-ins, no session needed. `account` is the hash of her card, `last` the newest acknowledgement kept."""

    account: Hash
    statement: Envelope
    last: Envelope | None = None


class Change(Answer, frozen=True):
    """A slow change under way. `effective` is projected (ms UTC); null while it waits for a check-in."""

    change: Hash
    kind: Literal["destroy", "roster", "plan", "pause", "address"]
    asked: int
    effective: int | None
    cooled: bool


class Projected(Answer, frozen=True):
    """A stage to come, if nothing happens and the server keeps running (ms UTC)."""

    stage: str
    at: int


class ProofState(Answer, frozen=True):
    """A collaborator of the present roster: `proved` is when they last proved their share, ms UTC, or null."""

    index: Index
    card: Hash
    proved: int | None
    left: bool
    collected: bool
    contributed: bool


class HoldState(Answer, frozen=True):
    """A collaborator has signed `statement`, a `hold`. `until` (ms UTC, projected) is null while a second one must
    sign; `pending` says that it still waits for that. Whose it is, clients believe only the signature."""

    card: Hash
    because: Because
    asked: int
    until: int | None
    pending: bool
    statement: Envelope


class DossierState(Answer, frozen=True):
    """One dossier as its journalist or a collaborator may see it. Times in ms UTC, projected from service time.

    `due` is when the stage ends, or, while `trying`, when trying ends; `renewals` counts the stage's fresh beginnings.
    `climb` counts how often a check-in was overdue; `holds` are the newest of the last such time, `held` is when the
    one that runs ends. `crowd`: 1, fell silent together with many, so the release waits once; 2, it has waited.
    """

    dossier: DossierId
    role: Role
    journalist: Hash
    title: Sealed | None
    stage: str
    since: int
    trying: bool
    projected: tuple[Projected, ...]
    plan: Dwells
    cooling: int
    epoch: Number
    roster: Hash
    k: Index
    collaborators: tuple[ProofState, ...]
    bundles: int
    head: Hash | None
    pushed: int | None
    last_checkin: int | None
    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    brief: bool
    released: int | None
    climb: int = 0
    held: int | None = None
    crowd: Literal[0, 1, 2] = 0
    holds: tuple[HoldState, ...] = ()
    due: int | None = None
    renewals: int = 0


class Dossiers(Answer, frozen=True):
    """GET /dossiers: hers, and those she is a collaborator of."""

    dossiers: tuple[DossierState, ...]
    now: int


class Acknowledged(Answer, frozen=True):
    """The signed acknowledgement, and where the dossier stands now. `change` when it was taken as a slow change."""

    acknowledgement: Envelope
    dossier: DossierState | None
    change: Hash | None = None


class NotMoved(Answer, frozen=True):
    """A switch that a check-in could not move, and why."""

    dossier: DossierId
    code: str
    sentence: str


class CheckedIn(Answer, frozen=True):
    """Every switch that could move has moved; the rest is reported. `links` are those of her chain after `last`, at
    most 100."""

    acknowledgement: Envelope
    dossiers: tuple[DossierState, ...]
    refused: tuple[NotMoved, ...]
    now: int
    links: tuple[HistoryEntry, ...] = ()


class Rosters(Answer, frozen=True):
    """GET /dossiers/ID/rosters: every installed epoch from 1 on, the journalist's card, and one that cools."""

    journalist: Envelope
    rosters: tuple[Envelope, ...]
    pending: Envelope | None


class SealedShare(Answer, frozen=True):
    """GET /dossiers/ID/share: my sealed share of the present epoch."""

    epoch: int
    roster: Hash
    sealed: Sealed


class Deal(Answer, frozen=True):
    """GET /dossiers/ID/deal: C sealed to the deal identity, and the title sealed to herself."""

    epoch: int
    deal: Sealed
    title: Sealed


class SealedBrief(Answer, frozen=True):
    """GET /dossiers/ID/brief: the signed brief and the copy sealed to me."""

    statement: Envelope
    sealed: Sealed


class Proofs(Answer, frozen=True):
    """GET /dossiers/ID/proofs: the newest proof of every collaborator of the present epoch."""

    proofs: tuple[Envelope, ...]


class Heads(Answer, frozen=True):
    """GET /dossiers/ID/heads?after=N: heads from bundle N+1 on, at most a page; `more` when there are others."""

    heads: tuple[Envelope, ...]
    more: bool


class NamesRequest(Request, frozen=True, forbid_unknown_fields=True):
    """POST /dossiers/ID/objects/missing: which of these does the server lack?"""

    names: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_BATCH)]


class MissingNames(Answer, frozen=True):
    """Those of the names that the server lacks, in the order asked."""

    missing: tuple[Hash, ...]


class SentContribution(Answer, frozen=True):
    """A collaborator's contribution and the copy of their share that is sealed to me."""

    statement: Envelope
    sealed: Sealed


class SentReleaseShare(Answer, frozen=True):
    """A custodian's release share, sealed to me now."""

    index: Index
    sealed: Sealed


class Released(Answer, frozen=True):
    """GET /dossiers/ID/release, once it is durable. `checkin` is the last signed check-in that was accepted."""

    release: Envelope
    checkin: Envelope | None
    shares: tuple[SentReleaseShare, ...]
    contributions: tuple[SentContribution, ...]


class SeenRelease(Request, frozen=True, forbid_unknown_fields=True):
    """POST /dossiers/ID/release, to a server that has forgotten it: the release that this client once saw there, and
    the last check-in that was shown with it."""

    release: Envelope
    checkin: Envelope | None


class History(Answer, frozen=True):
    """GET /history?after=N: the account's own chain, a page at a time."""

    entries: tuple[HistoryEntry, ...]
    more: bool


class Health(Answer, frozen=True):
    """GET /health: whether the watch ticks, for outside watchers; nothing about anybody. `mark`: the one that the
    request named, if the watch has just left it in this very database."""

    ok: bool
    ticking: bool
    mark: str | None = None


T = TypeVar("T")


def read(body: bytes, type: type[T]) -> T:
    """A body as its struct, or `Malformed` with what is wrong and where."""
    try:
        return msgspec.json.decode(body, type=type)
    except RecursionError:
        raise Malformed("The body is nested deeper than any that this program sends.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise Malformed(f"The body is not what this address takes: {wrong}.") from None


def write(body: msgspec.Struct) -> bytes:
    return msgspec.json.encode(body)


def write_blob(blob: bytes) -> str:
    return base64.b64encode(blob).decode("ascii")


def read_blob(text: str) -> bytes:
    """Standard padded base64, in its one canonical form."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("A sealed blob is not standard base64.") from None
    if write_blob(blob) != text:
        raise Malformed("A sealed blob is not canonical base64.")
    return blob
