"""Bundles come in: objects first, then the head that commits them.

Rule of this room: a row never points at nothing, nothing that a head names is ever deleted, and nothing is taken
that the quota or the disk cannot hold.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from vault import envelope, ledger, wire
from vault.clock import DAY
from vault.custodian import Custodian
from vault.dossiers import CLOSED, own
from vault.errors import AfterwordError, Conflict, NoSpace, NotFound, OverQuota, Refused
from vault.statements import Head
from vault.storage.objects import Objects, Partial
from vault.storage.records import Records
from vault.storage.records.rows import Account, Dossier
from vault.stream import OBJECT_SIZE

ADRIFT_LIVES: Final = 30 * DAY
SWEEP: Final = 100
SWEPT_AGAIN: Final = DAY
PAGE: Final = 100
MOST_UNFINISHED: Final = 16
LONGEST_ROOT: Final = 16 * 1024
"""Of a head's root in base64, twice what it has: heads are read a hundred at a time."""


def missing(records: Records, account: Account, dossier: str, names: tuple[str, ...]) -> wire.MissingNames:
    """Which of these objects this dossier lacks, in the order asked."""
    with records.reading():
        row = own(records, account, dossier)
        return wire.MissingNames(tuple(name for name in names if not records.has_object(row.id, name)))


def held(records: Records, objects: Objects, account: Account, dossier: str, name: str) -> tuple[bool, int]:
    """Whether the object is stored, and how many bytes of an interrupted upload are."""
    with records.reading():
        row = own(records, account, dossier)
        if records.has_object(row.id, name):
            return True, OBJECT_SIZE
    return False, objects.held(f"{dossier}/{name}")


def receive(
    records: Records,
    objects: Objects,
    account: Account,
    dossier: str,
    name: str,
    offset: int,
    body: Iterable[bytes],
    low_water: int,
) -> bool:
    """Take an object, or the rest of one; whether it was new. The file is durable before its row is."""
    with records.reading():
        row = own(records, account, dossier)
        if records.has_object(row.id, name):
            return False
        _require_open(records, row)
        _require_room(account)
    require_space(objects, low_water + OBJECT_SIZE)
    key = f"{dossier}/{name}"
    _forget_unfinished(objects, dossier, key)
    received = objects.receive(key, offset, body, OBJECT_SIZE)
    if isinstance(received, Partial):
        raise Refused(f"The connection ended after {received.held} bytes; they are kept.", code="partial")
    try:
        return _keep(records, objects, account, dossier, name)
    except AfterwordError:
        _drop(records, objects, [(dossier, name)])
        raise


def _keep(records: Records, objects: Objects, account: Account, dossier: str, name: str) -> bool:
    with records.transaction() as now:
        row = own(records, account, dossier)
        fresh = records.account(account.id)
        if fresh is None:
            raise NotFound("There is no such dossier.")
        _require_open(records, row)
        if records.has_object(row.id, name):
            return False
        _require_room(fresh)
        if not objects.has(f"{dossier}/{name}"):
            # It lay here from long ago and was swept in this moment.
            raise Conflict("This object was being tidied away; send it again.", code="busy")
        records.add_object(row.id, name, now.lived)
        records.use_quota(account.id, OBJECT_SIZE)
        return True


def _drop(records: Records, objects: Objects, gone: list[tuple[str, str]]) -> None:
    """Delete files that no row names, while nobody can write a row that does."""
    with records.transaction():
        for dossier, name in gone:
            if not records.has_object(dossier, name):
                objects.delete(f"{dossier}/{name}")


def _forget_unfinished(objects: Objects, dossier: str, key: str) -> None:
    """Interrupted uploads count against no quota, so there are only so many: a convenience, not a promise."""
    if objects.held(key):
        return
    unfinished = list(objects.unfinished(dossier))
    if len(unfinished) >= MOST_UNFINISHED:
        for name in unfinished:
            objects.discard(f"{dossier}/{name}")


def read(
    records: Records,
    objects: Objects,
    account: Account,
    dossier: str,
    name: str,
    start: int,
    stop: int | None,
) -> Iterator[bytes]:
    """An object's bytes, for the journalist, and after the release for a collaborator.

    NotFound when the store holds only a part of it: said at once, not by an answer that breaks off and is waited for.
    """
    with records.reading():
        row = _readable(records, account, dossier)
        if not records.has_object(row.id, name):
            raise NotFound("There is no such object.")
    wanted = (OBJECT_SIZE if stop is None else min(stop, OBJECT_SIZE)) - start
    data = b"".join(objects.read(f"{dossier}/{name}", start, stop))
    if len(data) != wanted:
        raise NotFound("This object is not whole on this server; tell its operator.")
    return iter((data,))


def commit(
    records: Records, custodian: Custodian, account: Account, dossier: str, request: wire.Submission
) -> bytes:
    """A head: every object it names is here, and it follows the newest; the acknowledgement."""
    signed = request.statement.encode()
    head = ledger.read_person(signed, account, Head)
    with records.transaction() as now:
        row = own(records, account, dossier)
        if head.dossier != dossier:
            raise NotFound("There is no such dossier.")
        stored = ledger.answered(records, signed)
        if stored is not None and stored.account == account.id:
            return stored.acknowledgement
        _require_open(records, row)
        if head.bundle != row.bundles + 1 or head.prev != row.head:
            raise Conflict(
                "Another push to this dossier was faster; run the command again, it goes on from there.",
                code="head-conflict",
            )
        if head.replace is not None and head.replace > head.bundle:
            raise Refused("A fresh start begins with this bundle or one before it.", code="wrong-head")
        if len(head.root) > LONGEST_ROOT:
            raise Refused("The root of this head is longer than any root is.", code="wrong-head")
        if len(set(head.objects)) != len(head.objects) or len(head.objects) < row.minimum:
            raise Refused("This head does not list its bundle's objects as it should.", code="wrong-head")
        if records.name_objects(dossier, head.objects, head.bundle) != len(head.objects):
            raise Conflict(
                "The server lacks objects of this bundle; run the command again.", code="objects-missing"
            )
        hash = envelope.statement_hash(signed).hex()
        records.add_head(dossier, head.bundle, hash, signed, now.wall)
        return ledger.acknowledge(records, custodian, now, account.id, signed, head)


def heads(records: Records, account: Account, dossier: str, after: int) -> wire.Heads:
    with records.reading():
        row = _readable(records, account, dossier)
        found = records.heads(row.id, after, PAGE + 1)
    return wire.Heads(tuple(each.decode() for each in found[:PAGE]), len(found) > PAGE)


def sweep(records: Records, objects: Objects) -> int:
    """Delete what no head has named for thirty days, and what a destroyed dossier left; row first, file second.

    A destroyed dossier is cleared away once its objects are gone, and once more a day later, for what an upload that
    was under way has left since. Only then is it noted, so that a sweep that was killed is made up for.
    """
    with records.transaction() as now:
        # -1: what a destroyed dossier left does not wait.
        before = max(now.lived - ADRIFT_LIVES, -1)
        gone = [
            (dossier, name)
            for dossier, name in records.adrift(before, SWEEP)
            if records.forget_object(dossier, name, before)
        ]
        for dossier, _ in gone:
            row = records.dossier(dossier)
            if row is not None:
                records.use_quota(row.journalist, -OBJECT_SIZE)
        empty = records.unswept_dossiers(now.lived, SWEEP)
    if gone:
        _drop(records, objects, gone)
    for dossier, _ in empty:
        objects.delete_dossier(dossier)
    if empty:
        with records.transaction() as now:
            for dossier, seen in empty:
                records.note_swept(dossier, seen, None if seen else now.lived + SWEPT_AGAIN)
    return len(gone)


def _readable(records: Records, account: Account, dossier: str) -> Dossier:
    hers = records.own_dossier(dossier, account.id)
    shared = records.shared_dossier(dossier, account.id)
    released = records.release(dossier)
    if hers is not None:
        return hers
    if shared is None:
        raise NotFound("There is no such dossier.")
    if released is None:
        raise Conflict("This dossier has not been released.", code="not-released")
    return shared


def _require_open(records: Records, row: Dossier) -> None:
    if records.switch(row.id).switch.stage in CLOSED:
        raise Conflict("This dossier has ended; nothing more can be added to it.", code="released")


def require_space(objects: Objects, least: int) -> None:
    """Whatever can wait waits while less than this is free: the last of a disk belongs to check-ins and releases."""
    if objects.free() < least:
        raise NoSpace("The server's disk is nearly full; the operator has to make room. Nothing was lost.")


def _require_room(account: Account) -> None:
    if account.used + OBJECT_SIZE > account.quota:
        raise OverQuota("Your quota on this server is used up; ask the operator for more.")
