"""Copies of everything, and coming back from one.  Spec: docs/spec/backup-v1.md.

Rule of this room: a backup opens only with the server key, which is never in it; nothing is replaced before its
successor has been read to the end; a server that comes back gives every armed switch a whole new ladder.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from vault import age, watch
from vault.clock import DAY
from vault.custodian import Custodian
from vault.errors import (
    Conflict,
    Damaged,
    Malformed,
    NoSpace,
    NotFound,
    Refused,
    Untrusted,
    is_damage,
)
from vault.service import Moment
from vault.storage.database import Database
from vault.storage.disk import told
from vault.storage.folders import make_folder, settle
from vault.storage.objects import Objects, Stored
from vault.storage.records import Records
from vault.stream import OBJECT_SIZE
from vault.switch import Stage

BLOCK: Final = 4 * 1024 * 1024
MAGIC: Final = b"afterword/backup/v1\n"
_NAME: Final = re.compile(r"afterword-([0-9]{1,15})\.backup", re.ASCII)
_RESTORED: Final = (Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE)

log = logging.getLogger("afterword.backups")


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What is inside each seal: which backup, which block of it, whether it is the last, and some of the database."""

    backup: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    number: Annotated[int, msgspec.Meta(ge=0)]
    last: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup or a restore came to: the file, objects copied now, objects in all, and those given up; in a
    restore, sentences on what does not hold."""

    file: Path
    copied: int
    objects: int
    lost: tuple[str, ...] = ()
    unsound: tuple[str, ...] = ()


@told("The backup")
def back_up(
    database: Database,
    records: Records,
    objects: Objects,
    custodian: Custodian,
    scratch: Path,
    folder: Path,
    *,
    reserve: int = 0,
) -> Copied:
    """A consistent, sealed copy of the database and every object not in `folder` yet.

    The database first: an object that it names was stored before, so none that it names can be missing. `scratch`
    is on the server's own disk: what is not sealed yet never touches the backup's. `reserve` bytes stay free there:
    a backup must not spend what is kept for check-ins.
    """
    make_folder(folder)
    with records.reading() as now:
        stamp = now.wall
    target = folder / f"afterword-{stamp}.backup"
    with _alone(scratch):
        # A backup that was killed left everything that has been deleted since.
        for left in (*scratch.glob("backup-*.db*"), *folder.glob("afterword-*.backup.part")):
            left.unlink()
        beside = folder.stat().st_dev == scratch.stat().st_dev
        _require_room(scratch, reserve, database.size() * (2 if beside else 1))
        plain = scratch / f"backup-{stamp}.db"
        try:
            database.backup(plain)
            with plain.open("rb") as source, _whole(target) as sink:
                _write_blocks(source, sink, custodian.rest)
        finally:
            plain.unlink(missing_ok=True)
    copied, names = 0, list(_objects_named(records))
    gone = []
    for key in names:
        try:
            copied += _copy_out(objects, key, folder / "objects" / key, reserve if beside else None)
        except NotFound:
            gone.append(key)
    # Of what is lost, everything else was copied first.
    lost = _still_named(records, gone)
    if lost:
        raise Damaged(
            f"{len(lost)} objects are gone from the store, {min(lost)} among them; the rest was backed up. "
            "Bring them back from an older backup."
        )
    return Copied(target, copied, len(names))


def newest(folder: Path, wall: int) -> Path:
    """The backup in `folder` that was begun last by its name, which a clock on a wall wrote: what that cannot have
    written yet is refused, and so is guessing. `wall` in ms UTC."""
    here = list(folder.glob("*.backup"))
    dated = {at: file for file in here if (at := begun_at(file)) is not None}
    if not dated:
        # A copy made into a folder that was there already lies one level deeper.
        deeper = sorted({file.parent.name for file in folder.glob("*/*.backup")})
        if deeper and not here:
            raise NotFound(
                f"There is no backup in {folder}; there is one in its folder {deeper[0]}.", code="no-backup"
            )
        raise NotFound(
            f"There is no backup in {folder}; one that bears another name than afterword-NUMBER.backup is restored by "
            "giving the file itself.",
            code="no-backup",
        )
    last = max(dated)
    if last > wall + DAY:
        raise Refused(
            f"Which backup in {folder} is the newest cannot be told: {dated[last].name} is of a day to come, so a "
            "clock was wrong, that server's or this computer's. See what was written when, and give the file itself.",
            code="unclear-newest",
        )
    return dated[last]


def begun_at(file: Path) -> int | None:
    """When this backup was begun by its server's clock (ms UTC), if its name still says so."""
    found = _NAME.fullmatch(file.name)
    return None if found is None else int(found[1])


def open_backup(file: Path, key: age.Identity, target: Path) -> None:
    """The database inside a backup, whole and in order, written to `target`; `Untrusted` if anything is off."""
    with file.open("rb") as source, _whole(target) as sink:
        for data in _read_blocks(source, key):
            sink.write(data)


def begin_anew(records: Records, custodian: Custodian, life: str) -> int:
    """A restored database begins a new life; how many switches got a fresh full ladder."""
    with records.transaction() as now:
        records.end_life(now.life)
        records.begin_new_life(life)
        now = replace(now, life=life)
        records.forget_sessions()
        waiting = records.switches_in(*_RESTORED)
        for dossier in waiting:
            _fresh_ladder(records, custodian, now, dossier)
        # What was cooling is of another life now: the watch tells it anew, and it cools again from then on.
        return len(waiting)


def _fresh_ladder(records: Records, custodian: Custodian, now: Moment, dossier: str) -> None:
    # A switch that does not read stands still alone; the others must not stand still with it.
    try:
        watch.restored(records, custodian, now, dossier)
    except Exception as wrong:
        if not is_damage(wrong):
            raise
        log.error("dossier %s stands still: %s", dossier, type(wrong).__name__)


def bring_objects(records: Records, objects: Objects, folder: Path, *, anyway: bool = False) -> Copied:
    """Every object the database names, from the backup's folder into the store.

    Refused `incomplete` if some are missing or not what their names say, when all others are there: another folder
    may have them. `anyway`: they are lost, and named. Their rows go, so that whoever has what was in them is asked
    to send it again.
    """
    copied, names = 0, list(_objects_named(records))
    lacking = []
    for key in names:
        if objects.has(key):
            continue
        if _bring_in(objects, key, folder / "objects" / key):
            copied += 1
        else:
            lacking.append(key)
    if lacking and not anyway:
        raise Refused(
            f"{len(lacking)} of {len(names)} objects are not in this backup, or not whole: {lacking[0]} among them. "
            "The others were brought back; run the command again on a folder that has these, or, if none has them, "
            "with --anyway.",
            code="incomplete",
        )
    # What no head names is in no backup; a row without its object would let a head name what is not here.
    adrift = [key for key in map("/".join, records.drifting_objects()) if not objects.has(key)]
    _give_up(records, [*lacking, *adrift])
    return Copied(folder, copied, len(names), tuple(lacking))


def lost_objects(records: Records, objects: Objects) -> list[str]:
    """Objects that a head names and the store does not have: nobody will recover what is in them."""
    return sorted(_still_named(records, [key for key in _objects_named(records) if not objects.has(key)]))


def _still_named(records: Records, gone: list[str]) -> set[str]:
    # One whose dossier was destroyed meanwhile is no loss.
    return set(gone) & set(_objects_named(records)) if gone else set()


def _give_up(records: Records, keys: list[str]) -> None:
    with records.transaction():
        for key in keys:
            dossier, _, name = key.partition("/")
            row = records.dossier(dossier)
            if row is not None and records.lose_object(dossier, name):
                records.use_quota(row.journalist, -OBJECT_SIZE)


def _bring_in(objects: Objects, key: str, source: Path) -> bool:
    objects.delete(key)  # what an interrupted restore left of it
    try:
        if source.stat().st_size != OBJECT_SIZE:
            return False
        body = source.read_bytes()
    except OSError:
        return False
    try:
        kept = isinstance(objects.receive(key, 0, [body], OBJECT_SIZE), Stored)
    except Untrusted:
        return False
    if not kept:
        objects.delete(key)
    return kept


def _objects_named(records: Records) -> Iterator[str]:
    for dossier, name in records.all_objects():
        yield f"{dossier}/{name}"


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def _require_room(folder: Path, reserve: int, size: int) -> None:
    lacking = size + reserve - _free(folder)
    if lacking > 0:
        raise NoSpace(
            f"On the server's own disk {-(-lacking // (1 << 20))} MiB are lacking for this backup, besides what stays "
            "free there for check-ins (AFTERWORD_LOW_WATER); make room there and run the command again."
        )


def _copy_out(objects: Objects, key: str, target: Path, reserve: int | None) -> int:
    """`reserve`: what has to stay free, where the copies lie on the server's own disk."""
    if target.exists() and target.stat().st_size == OBJECT_SIZE:
        return 0
    make_folder(target.parent)
    if reserve is not None:
        _require_room(target.parent, reserve, OBJECT_SIZE)
    digest = hashlib.sha256()
    with _whole(target) as sink:
        for block in objects.read(key):
            digest.update(block)
            sink.write(block)
        if digest.hexdigest() != key.rpartition("/")[2]:
            raise Damaged(f"The object {key} is not what its name says; the backup stops here.")
    return 1


def _write_blocks(source: BinaryIO, sink: BinaryIO, seal: Callable[[bytes], bytes]) -> None:
    sink.write(MAGIC)
    backup = os.urandom(16)
    number, data = 0, source.read(BLOCK)
    while True:
        following = source.read(BLOCK)
        sealed = seal(msgspec.msgpack.encode(Block(backup, number, not following, data)))
        sink.write(len(sealed).to_bytes(4, "big") + sealed)
        if not following:
            return
        number, data = number + 1, following


def _read_blocks(source: BinaryIO, key: age.Identity) -> Iterator[bytes]:
    if source.read(len(MAGIC)) != MAGIC:
        raise Malformed("This is not a backup of an Afterword server.")
    expected, backup = 0, b""
    while True:
        size = int.from_bytes(source.read(4), "big")
        if not 0 < size <= 2 * BLOCK:
            raise Malformed("This backup ends early; use another.")
        opened = age.open_sealed(source.read(size), key)
        try:
            block = msgspec.msgpack.decode(opened, type=Block)
        except msgspec.DecodeError:
            raise Malformed("A block of this backup does not read; use another.") from None
        if msgspec.msgpack.encode(block) != opened:
            raise Malformed("A block of this backup is not written as Afterword writes it; use another.")
        if block.number != expected or (expected and block.backup != backup):
            raise Untrusted("The blocks of this backup are out of order; use another.")
        expected, backup = expected + 1, block.backup
        yield block.data
        if block.last:
            if source.read(1):
                raise Untrusted("This backup goes on after its end; use another.")
            return


@contextlib.contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """One backup at a time; the lock is the kernel's, so that no crash leaves it behind."""
    lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "Another backup is being written; try again when it has ended.", code="busy"
            ) from None
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when everything in it is on disk."""
    draft = target.with_name(target.name + ".part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    settle(target.parent)
