"""The API under /api/v1.  Spec: docs/spec/api-v1.md.

Rule of this room: parse, call, render. GET and HEAD change nothing; every address that needs a session begins
with `signed_in()`.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

import msgspec
from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from vault import accounts, alarms, deposit, dossiers, ledger, orders, release, testimony, views, watch, wire
from vault.errors import Damaged, Malformed, NotFound
from vault.statements import MAX_OBJECTS_PER_BUNDLE
from vault.storage.records.rows import Account
from vault.stream import OBJECT_SIZE
from web.auth import bearer_token, signed_in, vault

bp = Blueprint("api", __name__)

BLOCK: Final = 256 * 1024
_GROWING: Final = frozenset(
    f"{bp.name}.{door}"
    for door in ("join", "invite", "add_address", "create_dossier", "change_roster", "commit_head")
)
_ID: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,7})-([0-9]{1,7})/([0-9]{1,8})")


def body(shape: type[wire.T]) -> wire.T:
    if request.mimetype != "application/json":
        raise Malformed("The body must be JSON, sent as application/json.", code="wrong-type")
    return wire.read(request.get_data(cache=False), shape)


def answer(struct: msgspec.Struct, status: int = 200) -> Response:
    return Response(wire.write(struct), status, content_type="application/json")


def acknowledged(
    account: Account, dossier: str, acknowledgement: bytes, change: str | None = None, status: int = 200
) -> Response:
    try:
        state = views.dossier(vault().records, account, dossier)
    except (NotFound, Damaged):
        # What was taken is taken, whether or not its switch can be shown.
        state = None
    return answer(wire.Acknowledged(acknowledgement.decode(), state, change), status)


def known(dossier: str) -> str:
    if not _ID.fullmatch(dossier):
        raise NotFound("There is no such dossier.")
    return dossier


def page() -> int:
    text = request.args.get("after", "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise Malformed("`after` is a whole number.")
    return int(text)


@bp.before_request
def leave_room() -> None:
    """Uploads and orders that can wait stop at the low-water mark, what else would grow the database at half of it, and
    check-ins never."""
    if request.endpoint in _GROWING:
        deposit.require_space(vault().objects, vault().settings.low_water // 2)


# anybody


@bp.get("/server")
def server() -> Response:
    v = vault()
    with v.records.reading() as now:
        pass
    settings = v.settings
    limits = wire.Limits(
        object_size=OBJECT_SIZE,
        objects_per_bundle=MAX_OBJECTS_PER_BUNDLE,
        batch=wire.MAX_BATCH,
        body=wire.MAX_BODY,
        brief=64 * 1024,
        collaborators=255,
        quota=settings.quota,
        shortest_dwell=settings.shortest_dwell,
        shortest_ladder=settings.shortest_ladder,
        shortest_cooling=settings.shortest_cooling,
        free=_roughly(max(0, v.objects.free() - settings.low_water)),
    )
    return answer(
        wire.ServerInfo(
            card=v.custodian.card.envelope.decode(),
            software=f"afterword {version('afterword')}",
            life=now.life,
            tick=settings.tick,
            short=settings.short,
            limits=limits,
            served=now.served,
            lived=now.lived,
            now=now.wall,
        )
    )


def _roughly(free: int) -> int:
    """Rounded down to an eighth: anybody may ask, and to the byte it would tell how much was just pushed."""
    shift = max(0, free.bit_length() - 3)
    return free >> shift << shift


@bp.get("/health")
def health() -> Response:
    ticking = alarms.ticking(vault().records)
    mark = request.headers.get(wire.MARK)
    known = mark if mark is not None and vault().records.has_mark(mark) else None
    return answer(wire.Health(ok=ticking, ticking=ticking, mark=known), 200 if ticking else 503)


@bp.post("/nonces")
def nonces() -> Response:
    return answer(accounts.grant_nonce(vault().records, vault().custodian))


@bp.post("/accounts")
def join() -> Response:
    return answer(
        accounts.join(vault().records, vault().custodian, body(wire.Joining), vault().settings.quota)
    )


@bp.post("/check-ins")
def check_in() -> Response:
    given = body(wire.CheckInRequest)
    v = vault()
    acknowledgement, refused = watch.check_in(v.records, v.custodian, given)
    account = accounts.with_card(v.records, given.account)
    states = views.hers(v.records, account)
    links = ledger.links_since(v.records, v.custodian, account, given.last)
    return answer(
        wire.CheckedIn(acknowledgement.decode(), states, tuple(refused), v.records.clock.wall(), links)
    )


# sessions and one's own account


@bp.post("/sessions")
def sign_in() -> Response:
    return answer(accounts.sign_in(vault().records, vault().custodian, body(wire.SessionRequest)))


@bp.delete("/sessions")
def sign_out() -> Response:
    signed_in()
    accounts.sign_out(vault().records, bearer_token())
    return Response(status=204)


@bp.get("/account")
def account() -> Response:
    return answer(accounts.state(vault().records, vault().custodian, signed_in()))


@bp.get("/history")
def history() -> Response:
    return answer(views.history(vault().records, signed_in(), page()))


@bp.post("/invites")
def invite() -> Response:
    who = signed_in()
    label = body(wire.InviteRequest).label
    return answer(accounts.invite_collaborator(vault().records, vault().custodian, who, label), 201)


@bp.post("/addresses")
def add_address() -> Response:
    who = signed_in()
    return answer(
        accounts.add_address(vault().records, vault().custodian, who, body(wire.AddressRequest)), 201
    )


@bp.post("/addresses/confirm")
def confirm_address() -> Response:
    who = signed_in()
    code = body(wire.AddressConfirmation).code
    return answer(accounts.confirm_address(vault().records, vault().custodian, who, code))


@bp.delete("/addresses/<address>")
def remove_address(address: str) -> Response:
    who = signed_in()
    return answer(accounts.remove_address(vault().records, vault().custodian, who, address))


# dossiers


@bp.get("/dossiers")
def list_dossiers() -> Response:
    return answer(views.dossiers(vault().records, signed_in()))


@bp.post("/dossiers")
def create_dossier() -> Response:
    who = signed_in()
    given = body(wire.DossierCreation)
    v = vault()
    dossier, acknowledgement = dossiers.create(v.records, v.custodian, who, given, short=v.settings.short)
    return acknowledged(who, dossier, acknowledgement, status=201)


@bp.get("/dossiers/<dossier>")
def show_dossier(dossier: str) -> Response:
    return answer(views.dossier(vault().records, signed_in(), known(dossier)))


@bp.get("/dossiers/<dossier>/rosters")
def list_rosters(dossier: str) -> Response:
    return answer(views.rosters(vault().records, vault().custodian, signed_in(), known(dossier)))


@bp.post("/dossiers/<dossier>/rosters")
def change_roster(dossier: str) -> Response:
    who = signed_in()
    given = body(wire.RosterChange)
    acknowledgement, change = dossiers.change_roster(
        vault().records, vault().custodian, who, known(dossier), given
    )
    return acknowledged(who, dossier, acknowledgement, change)


@bp.post("/dossiers/<dossier>/rosters/<int:epoch>/corrections")
def correct_roster(dossier: str, epoch: int) -> Response:
    who = signed_in()
    given = body(wire.Corrections)
    acknowledgement = dossiers.correct_roster(
        vault().records, vault().custodian, who, known(dossier), epoch, given
    )
    return acknowledged(who, dossier, acknowledgement)


@bp.get("/dossiers/<dossier>/deal")
def deal(dossier: str) -> Response:
    return answer(views.deal(vault().records, signed_in(), known(dossier)))


@bp.get("/dossiers/<dossier>/share")
def share(dossier: str) -> Response:
    return answer(views.share(vault().records, signed_in(), known(dossier)))


@bp.get("/dossiers/<dossier>/brief")
def brief(dossier: str) -> Response:
    return answer(views.brief(vault().records, signed_in(), known(dossier)))


@bp.get("/dossiers/<dossier>/proofs")
def proofs(dossier: str) -> Response:
    return answer(views.proofs(vault().records, signed_in(), known(dossier)))


@bp.get("/dossiers/<dossier>/release")
def released(dossier: str) -> Response:
    return answer(release.show(vault().records, vault().custodian, signed_in(), known(dossier)))


@bp.post("/dossiers/<dossier>/release")
def recall_release(dossier: str) -> Response:
    who = signed_in()
    testimony.recall(vault().records, vault().custodian, who, known(dossier), body(wire.SeenRelease))
    return answer(views.dossier(vault().records, who, dossier))


@bp.post("/dossiers/<dossier>/statements")
def order(dossier: str) -> Response:
    who = signed_in()
    given = body(wire.Submission)
    v = vault()
    acknowledgement, change = orders.submit(
        v.records,
        v.custodian,
        who,
        known(dossier),
        given,
        short=v.settings.short,
        require_room=lambda: deposit.require_space(v.objects, v.settings.low_water),
    )
    return acknowledged(who, dossier, acknowledgement, change)


# bundles


@bp.get("/dossiers/<dossier>/heads")
def list_heads(dossier: str) -> Response:
    return answer(deposit.heads(vault().records, signed_in(), known(dossier), page()))


@bp.post("/dossiers/<dossier>/heads")
def commit_head(dossier: str) -> Response:
    who = signed_in()
    acknowledgement = deposit.commit(
        vault().records, vault().custodian, who, known(dossier), body(wire.Submission)
    )
    return acknowledged(who, dossier, acknowledgement)


@bp.post("/dossiers/<dossier>/objects/missing")
def missing_objects(dossier: str) -> Response:
    who = signed_in()
    return answer(deposit.missing(vault().records, who, known(dossier), body(wire.NamesRequest).names))


@bp.route("/dossiers/<dossier>/objects/<name>", methods=["HEAD"])
def held_object(dossier: str, name: str) -> Response:
    whole, size = deposit.held(vault().records, vault().objects, signed_in(), known(dossier), _name(name))
    response = Response(status=200 if whole else 404)
    response.headers["Upload-Offset"] = str(size)
    if whole:
        response.headers["Content-Length"] = str(size)
    return response


@bp.put("/dossiers/<dossier>/objects/<name>")
def put_object(dossier: str, name: str) -> Response:
    v = vault()
    new = deposit.receive(
        v.records,
        v.objects,
        signed_in(),
        known(dossier),
        _name(name),
        _upload_offset(),
        _streamed(),
        v.settings.low_water,
    )
    return Response(status=201 if new else 200)


@bp.get("/dossiers/<dossier>/objects/<name>")
def get_object(dossier: str, name: str) -> Response:
    v = vault()
    who = signed_in()
    wanted = request.range
    if wanted is None:
        start, stop = 0, OBJECT_SIZE
    else:
        span = wanted.range_for_length(OBJECT_SIZE) if wanted.units == "bytes" else None
        if span is None:
            raise RequestedRangeNotSatisfiable(OBJECT_SIZE)
        start, stop = span
    found = deposit.read(v.records, v.objects, who, known(dossier), _name(name), start, stop)
    response = Response(found, 200 if wanted is None else 206, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(stop - start)
    response.headers["Accept-Ranges"] = "bytes"
    if wanted is not None:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{OBJECT_SIZE}"
    return response


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NotFound("There is no such object.")
    return name


def _upload_offset() -> int:
    text = request.headers.get("Content-Range")
    if text is None:
        return 0
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise Malformed("Content-Range is written `bytes FIRST-LAST/1048576`.")
    first, last, size = (int(part) for part in found.groups())
    if size != OBJECT_SIZE or not first <= last < size:
        raise Malformed("Content-Range is written `bytes FIRST-LAST/1048576`.")
    return first


def _streamed() -> Iterator[bytes]:
    while block := request.stream.read(BLOCK):
        yield block
