"""One example of every body, for the OpenAPI document.

Rule of this room: made of the structs themselves, so that an example can never say what no body says. Signed and
sealed texts are shortened: whole ones are the vectors.
"""

from typing import Final

import msgspec

from vault import wire
from vault.clock import DAY, HOUR, MINUTE, SECOND
from vault.statements import Dwells

_NOW: Final = 1_790_000_000_000
_DOSSIER: Final = "00112233445566778899aabbccddeeff"
_ONE, _TWO, _THREE, _FOUR = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)
_SEALED: Final = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IG1sa2VtNzY4eDI1NTE5IA=="
_CODE: Final = "abcdefgh23456789"


def _signed(kind: str) -> str:
    kind = f"application/vnd.afterword.{kind}.v1+json"
    return f'{{"payload":"e30=","payloadType":"{kind}","signatures":[{{"sig":"AA=="}}]}}'


_LADDER: Final = tuple(
    wire.Projected(stage, _NOW + hours * HOUR)
    for stage, hours in (("reminded", 36), ("warned", 48), ("grace", 72), ("released", 168))
)
_STATE: Final = wire.DossierState(
    dossier=_DOSSIER,
    role="journalist",
    journalist=_ONE,
    title=_SEALED,
    stage="armed",
    since=_NOW,
    trying=False,
    projected=_LADDER,
    plan=Dwells(every=36 * HOUR, remind=12 * HOUR, warn=24 * HOUR, grace=96 * HOUR),
    cooling=7 * DAY,
    epoch=1,
    roster=_TWO,
    k=2,
    collaborators=(
        wire.ProofState(1, _THREE, _NOW - DAY, False, False, False),
        wire.ProofState(2, _FOUR, None, False, False, False),
    ),
    bundles=14,
    head=_FOUR,
    pushed=_NOW - HOUR,
    last_checkin=_NOW,
    changes=(wire.Change(_THREE, "plan", _NOW, _NOW + 7 * DAY, False),),
    missing=(),
    brief=True,
    released=None,
    due=_NOW + 36 * HOUR,
)
_ADDRESS: Final = wire.AddressState(
    "0f" * 16, "ana@example.org", "es", "Recordatorio", "the blue heron", True, None, None
)
_LIMITS: Final = wire.Limits(
    object_size=1_048_576,
    objects_per_bundle=4_096,
    batch=wire.MAX_BATCH,
    body=wire.MAX_BODY,
    brief=65_536,
    collaborators=255,
    quota=21_474_836_480,
    shortest_dwell=20 * SECOND,
    shortest_ladder=24 * HOUR,
    shortest_cooling=72 * HOUR,
    free=400_000_000_000,
)

EXAMPLES: Final[tuple[msgspec.Struct, ...]] = (
    wire.Problem(
        type="urn:afterword:problem:stale-sequence",
        title="Conflict",
        status=409,
        detail="This statement is older than one the server already has (its last is 41); sign it anew.",
        code="stale-sequence",
        seen=41,
    ),
    wire.ServerInfo(
        _signed("card"), "afterword 0.1.0", "5f" * 16, 5_000, False, _LIMITS, 40 * DAY, 41 * DAY, _NOW
    ),
    wire.Health(ok=True, ticking=True),
    wire.NonceGrant(_ONE, 10 * MINUTE),
    wire.Joining(_CODE, _signed("card")),
    wire.Joined("collaborator", _signed("card")),
    wire.SessionRequest(_signed("login"), _signed("acknowledgement")),
    wire.SessionGrant(
        _TWO,
        30 * MINUTE,
        _signed("card"),
        _signed("acknowledgement"),
        (wire.HistoryEntry(7, '{"n":7,"served":86400000,"what":"moved"}', _FOUR),),
    ),
    wire.AccountState(
        card=_signed("card"),
        role="journalist",
        seq=41,
        quota=21_474_836_480,
        used=1_468_006_400,
        reserve=1_073_741_824,
        addresses=(_ADDRESS,),
        links=(wire.Link(_signed("card"), "Bruno from the Post", "collaborator", _NOW - 30 * DAY),),
        invites=(wire.OpenInvite("Chen", 13 * DAY),),
        marked=False,
    ),
    wire.InviteRequest("Chen"),
    wire.Invite(_CODE, 14 * DAY),
    wire.AddressRequest("ana@example.org", "es", "Recordatorio", "the blue heron"),
    _ADDRESS,
    wire.AddressConfirmation(_CODE),
    wire.AddressRemoved(_THREE),
    wire.DossierCreation(_signed("roster"), (_SEALED, _SEALED, _SEALED), (_SEALED,), _SEALED, _SEALED),
    wire.RosterChange(_signed("roster"), (_SEALED, _SEALED), _SEALED, None),
    wire.Corrections((_SEALED,)),
    wire.Submission(_signed("arm")),
    wire.CheckInRequest(_ONE, _signed("checkin"), _signed("acknowledgement")),
    _STATE,
    wire.Dossiers((_STATE,), _NOW),
    wire.Acknowledged(_signed("acknowledgement"), _STATE, None),
    wire.CheckedIn(
        _signed("acknowledgement"),
        (_STATE,),
        (
            wire.NotMoved(
                "ff" * 16,
                "not-possible-now",
                "CheckIn is not possible now: this dossier is not armed yet; run `afterword arm` first.",
            ),
        ),
        _NOW,
    ),
    wire.Rosters(_signed("card"), (_signed("roster"),), None),
    wire.SealedShare(1, _TWO, _SEALED),
    wire.Deal(1, _SEALED, _SEALED),
    wire.SealedBrief(_signed("brief"), _SEALED),
    wire.Proofs((_signed("proof"),)),
    wire.Heads((_signed("head"),), False),
    wire.NamesRequest((_ONE, _TWO)),
    wire.MissingNames((_TWO,)),
    wire.Released(
        _signed("release"),
        _signed("checkin"),
        (wire.SentReleaseShare(1, _SEALED),),
        (wire.SentContribution(_signed("contribution"), _SEALED),),
    ),
    wire.SeenRelease(_signed("release"), _signed("checkin")),
    wire.History((wire.HistoryEntry(1, '{"n":1,"served":86400000,"what":"joined"}', _FOUR),), False),
)
