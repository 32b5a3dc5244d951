"""What every address of the API promises, as a table.  Spec: docs/spec/api-v1.md.

Rule of this room: one line for each method of each address, and no refusal without a line that says what it means.
It decides nothing: the doors do, and tests hold both to each other.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from vault import wire

ANYBODY: Final = "Anybody."
SIGNER: Final = "Anybody; the statement itself is the proof."
SESSION: Final = "Any session."
JOURNALIST: Final = "A journalist's session."
OWNER: Final = "The session of this dossier's journalist."
COLLABORATOR: Final = "The session of a collaborator on this dossier's present roster."
EITHER: Final = "The session of this dossier's journalist, or of a collaborator on its present roster."
READER: Final = "The session of this dossier's journalist; after the release, of a collaborator too."

WITHOUT_SESSION: Final = frozenset({ANYBODY, SIGNER})


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address below /api/v1. `bytes` stands for an object's own bytes, `None` for no body.

    `statuses` are the good ones, the usual one first; `refuses` leaves out what a session, a body or any address
    at all may be answered (`refusals` puts it in).
    """

    method: str
    path: str
    who: str
    does: str
    takes: type[msgspec.Struct] | type[bytes] | None = None
    gives: type[msgspec.Struct] | type[bytes] | None = None
    statuses: tuple[int, ...] = (200,)
    refuses: tuple[str, ...] = ()
    query: str | None = None

    def refusals(self) -> tuple[str, ...]:
        """Every code that this address may answer."""
        codes = set(self.refuses) | {"bug", "busy", "damaged", "disk-failed"}
        if self.who not in WITHOUT_SESSION:
            codes.add("unauthenticated")
        if isinstance(self.takes, type) and issubclass(self.takes, msgspec.Struct):
            codes |= {"malformed", "wrong-type", "too-large"}
        if self.method not in {"GET", "HEAD"}:
            codes.add("no-space")
        return tuple(sorted(codes))


# Where a statement is verified, and where one about a dossier is taken.
_SIGNED: Final = ("untrusted",)
_FRESH: Final = ("wrong-server", "stale-sequence", "sequence-too-far", "stale-nonce", "too-many", *_SIGNED)
_ROSTER: Final = (
    "bad-roster",
    "bad-label",
    "wrong-custodian",
    "wrong-recipient",
    "wrong-epoch",
    "unknown-collaborator",
)
_D: Final = "/dossiers/{dossier}"
_O: Final = "/dossiers/{dossier}/objects/{name}"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/server", ANYBODY, "What this server is and takes, before the first byte.", gives=wire.ServerInfo),
    Route("GET", "/health", ANYBODY, "Whether time is kept, for outside watchers.", gives=wire.Health,
          statuses=(200, 503)),
    Route("POST", "/nonces", ANYBODY, "A number to sign within ten minutes, once.", gives=wire.NonceGrant),
    Route("POST", "/accounts", ANYBODY, "Spend an invite. The same code with the same card again: the same answer.",
          takes=wire.Joining, gives=wire.Joined,
          refuses=("invite-unknown", "invite-used", "invite-expired", "wrong-card", "own-invite", "card-changed",
                   "bad-label", *_SIGNED)),
    Route("POST", "/check-ins", SIGNER, "A `checkin` statement: every switch of hers that can move moves.",
          takes=wire.CheckInRequest, gives=wire.CheckedIn, refuses=("not-found", "stale-version", *_FRESH)),
    Route("POST", "/sessions", SIGNER, "A session for a `login` statement.", takes=wire.SessionRequest,
          gives=wire.SessionGrant, refuses=("unauthenticated", "wrong-server", "stale-nonce")),
    Route("DELETE", "/sessions", SESSION, "End this session.", statuses=(204,)),
    Route("GET", "/account", SESSION, "Everything the account may know of itself.", gives=wire.AccountState),
    Route("GET", "/history", SESSION, "The account's own chain, 100 entries at a time.", gives=wire.History,
          refuses=("malformed",), query="the number of the last entry already known"),
    Route("POST", "/invites", JOURNALIST, "An invite for one colleague.", takes=wire.InviteRequest, gives=wire.Invite,
          statuses=(201,), refuses=("not-a-journalist", "too-many-invites", "bad-label")),
    Route("POST", "/addresses", SESSION, "Keep an address and send it a code; the same address again: a new code.",
          takes=wire.AddressRequest, gives=wire.AddressState, statuses=(201,),
          refuses=("bad-address", "bad-line", "too-many-addresses", "too-many")),
    Route("POST", "/addresses/confirm", SESSION, "The code that arrived there.", takes=wire.AddressConfirmation,
          gives=wire.AddressState, refuses=("wrong-code",)),
    Route("DELETE", "/addresses/{address}", SESSION, "Forget an address; her confirmed one cools once she is armed.",
          gives=wire.AddressRemoved, refuses=("not-found",)),
    Route("GET", "/dossiers", SESSION, "Hers first, then those the account is a collaborator of.",
          gives=wire.Dossiers),
    Route("POST", "/dossiers", JOURNALIST, "A new dossier: its first roster and all that is sealed beside it.",
          takes=wire.DossierCreation, gives=wire.Acknowledged, statuses=(201,),
          refuses=("not-a-journalist", "cooling-too-short", "plan-too-short", "taken", "too-many-dossiers",
                   "too-many", *_ROSTER, *_SIGNED)),
    Route("GET", _D, EITHER, "Where the dossier stands.", gives=wire.DossierState, refuses=("not-found",)),
    Route("GET", f"{_D}/rosters", EITHER, "Every roster from epoch 1 on, the journalist's card, and one that cools.",
          gives=wire.Rosters, refuses=("not-found",)),
    Route("POST", f"{_D}/rosters", OWNER, "The next roster: installed at once while the dossier is not armed, else "
          "it cools.", takes=wire.RosterChange, gives=wire.Acknowledged,
          refuses=("not-found", "released", "roster-forged", "too-early", "change-pending", "too-many-dossiers",
                   "too-many-rosters", "too-many", *_ROSTER, *_SIGNED)),
    Route("POST", f"{_D}/rosters/{{epoch}}/corrections", OWNER, "The sealed D_j of a roster that has cooled.",
          takes=wire.Corrections, gives=wire.Acknowledged,
          refuses=("not-found", "wrong-epoch", "too-early", "unknown-collaborator", "bad-roster", *_SIGNED)),
    Route("GET", f"{_D}/deal", OWNER, "C and the title, sealed to her.", gives=wire.Deal,
          refuses=("not-found", "destroyed")),
    Route("GET", f"{_D}/share", COLLABORATOR, "My sealed share of the present epoch.", gives=wire.SealedShare,
          refuses=("not-found", "destroyed")),
    Route("GET", f"{_D}/brief", EITHER, "The brief and the copy sealed to me.", gives=wire.SealedBrief,
          refuses=("not-found", "no-brief")),
    Route("GET", f"{_D}/proofs", EITHER, "The newest proof of every collaborator of the present epoch.",
          gives=wire.Proofs, refuses=("not-found",)),
    Route("GET", f"{_D}/release", EITHER, "The release, my release shares, and what the others contributed to me.",
          gives=wire.Released, refuses=("not-found", "not-released")),
    Route("POST", f"{_D}/release", EITHER, "To a server that has forgotten it: the release that it had signed. It is "
          "released again.", takes=wire.SeenRelease, gives=wire.DossierState,
          refuses=("not-found", "wrong-roster", "destroyed", "stale-version", *_SIGNED)),
    Route("POST", f"{_D}/statements", EITHER, "A signed order: arm, pause, resume, plan, destroy, cancel, brief by "
          "the journalist; proof, contribution, collected, leave, hold by a collaborator.",
          takes=wire.Submission, gives=wire.Acknowledged,
          refuses=("not-found", "wrong-kind", "not-ready", "not-possible-now", "wrong-epoch", "wrong-roster",
                   "wrong-readers", "plan-too-short", "pause-too-long", "change-pending", "no-such-change",
                   "not-released", "destroyed", "stale-version", "already-held", "needs-another", "wrong-climb", "left",
                   *_FRESH)),
    Route("GET", f"{_D}/heads", READER, "Heads, oldest first, 100 at a time.", gives=wire.Heads,
          refuses=("not-found", "not-released", "malformed"), query="the number of the last bundle already known"),
    Route("POST", f"{_D}/heads", OWNER, "A `head` statement: the commit of a bundle whose objects are here.",
          takes=wire.Submission, gives=wire.Acknowledged,
          refuses=("not-found", "released", "head-conflict", "wrong-head", "objects-missing", "too-many",
                   *_SIGNED)),
    Route("POST", f"{_D}/objects/missing", OWNER, "Which of these objects does this dossier lack?",
          takes=wire.NamesRequest, gives=wire.MissingNames, refuses=("not-found",)),
    Route("HEAD", _O, OWNER, "200 if the object is whole; else 404, and `Upload-Offset` says how much of it is here.",
          refuses=("not-found",)),
    Route("PUT", _O, OWNER, "The object's bytes, or with `Content-Range` the rest of them. 201: stored. 200: was here.",
          takes=bytes, statuses=(201, 200),
          refuses=("not-found", "released", "over-quota", "wrong-offset", "partial", "object-mismatch", "malformed",
                   "too-large")),
    Route("GET", _O, READER, "The object's bytes; one `Range` is honoured.", gives=bytes, statuses=(200, 206),
          refuses=("not-found", "not-released", "bad-range")),
)  # fmt: skip

REFUSALS: Final[dict[str, tuple[int, str]]] = {
    "malformed": (400, "a body, a statement, a card or a header that is not what its format says"),
    "bad-label": (400, "a label that cannot be shown on one line"),
    "bad-line": (400, "a subject or recognition phrase that cannot be shown on one line"),
    "bad-roster": (400, "a roster that contradicts itself"),
    "wrong-type": (400, "a body that was not sent as application/json"),
    "unauthenticated": (401, "no session, or one that has ended; at sign-in: the statement does not hold"),
    "not-found": (404, "no such thing, or not yours"),
    "invite-unknown": (404, "no such invite"),
    "no-brief": (404, "no brief was written for this reader yet"),
    "no-such-change": (404, "no such slow change is under way"),
    "wrong-method": (405, "this address does not take that method"),
    "already-held": (409, "a colleague's hold runs; nothing is added to it"),
    "bad-address": (409, "not an e-mail address"),
    "card-changed": (409, "another account has one of this card's keys"),
    "change-pending": (409, "a change of this kind is cooling already"),
    "destroyed": (409, "nothing of a destroyed dossier is left"),
    "cooling-too-short": (409, "a cooling time below this server's least"),
    "head-conflict": (409, "the head does not follow the newest: another push was faster"),
    "invite-used": (409, "somebody else used this invite"),
    "left": (409, "whoever has left a dossier cannot hold it"),
    "needs-another": (409, "held twice since the last check-in: a second colleague must sign as well"),
    "not-a-journalist": (409, "only a journalist's account can do this"),
    "not-possible-now": (409, "the switch's table has no such move from its stage"),
    "not-ready": (409, "the dossier lacks what arming needs; `missing` lists it"),
    "not-released": (409, "this has to wait for a release"),
    "objects-missing": (409, "the head names objects that are not here"),
    "own-invite": (409, "nobody can be their own colleague"),
    "partial": (409, "the connection ended early; what arrived is kept"),
    "pause-too-long": (409, "a pause above 90 days"),
    "plan-too-short": (409, "a plan below this server's least"),
    "released": (409, "the dossier has ended, by release or destruction"),
    "sequence-too-far": (
        409,
        "`seq` is more than 1 000 000 above the last: a home that was told false numbers",
    ),
    "stale-nonce": (409, "the nonce is not this server's, too old, or spent: get a new one and sign anew"),
    "stale-sequence": (409, "`seq` is not above `seen`: sign anew with a higher number"),
    "stale-version": (409, "a switch was moved by somebody else meanwhile: send the same again"),
    "taken": (409, "this dossier id exists"),
    "too-early": (409, "the roster change has not cooled, or its corrections came before it had"),
    "too-many-addresses": (409, "an account has at most 10 addresses"),
    "too-many-dossiers": (
        409,
        "an account has at most 1 000 dossiers, and 20 000 lines on their rosters together",
    ),
    "too-many-rosters": (409, "all rosters of a dossier together have at most 16 MiB"),
    "too-many-invites": (409, "at most 100 invites are open at once"),
    "unknown-collaborator": (409, "somebody on the roster has not joined by an invite of hers"),
    "wrong-card": (409, "a server's card cannot join"),
    "wrong-climb": (409, "the hold was signed for an earlier climb: there was a sign of life in between"),
    "wrong-code": (409, "the code fits none of the addresses, is too old, or was tried five times"),
    "wrong-custodian": (409, "this server must be the one custodian"),
    "wrong-epoch": (409, "the roster was changed meanwhile, or the epoch is not the next"),
    "wrong-head": (409, "the head does not list its bundle as it should"),
    "wrong-kind": (409, "a statement of this kind goes elsewhere"),
    "wrong-offset": (409, "the upload does not begin where the last one stopped: see `Upload-Offset`"),
    "wrong-readers": (409, "the readers are not those of the roster, each once"),
    "wrong-recipient": (409, "a dossier needs a key of its own"),
    "wrong-roster": (409, "the statement is of another roster than the present one"),
    "wrong-server": (409, "the statement is meant for another server"),
    "invite-expired": (410, "the invite is too old"),
    "over-quota": (413, "the object does not fit into the account's quota"),
    "too-large": (413, "a body above the limit"),
    "bad-range": (416, "a range outside of the object"),
    "object-mismatch": (422, "too many bytes, or not those that the name says; all of it is discarded"),
    "roster-forged": (422, "the roster does not follow the one before it"),
    "untrusted": (422, "a signature, seal, hash or commitment does not hold"),
    "too-many": (
        429,
        "more than twenty codes in a day, or by a very long chain the same statement twice in a second, or too many",
    ),
    "bug": (500, "a fault of the server's own"),
    "busy": (503, "another writer or upload is in the way: try again in a second"),
    "damaged": (503, "stored state does not read; nothing is guessed"),
    "disk-failed": (503, "the server's disk fails; it acknowledges nothing any more and stops"),
    "no-space": (507, "the server's disk is full; nothing was half-written"),
}
