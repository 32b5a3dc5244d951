"""What a server promised, held against what its disk holds after a power cut.

Rule of this room: quick, for it is asked a hundred thousand times: one database opened as the product opens it, rows
read, objects hashed. Now and then an image is lived on with: the oracle of tests/fire/oracle.py runs the workflow again
on it, and waits in silence for the release.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.fire import oracle, tally, workflows
from tests.fire.outage import Ready
from tests.fire.stand import Prepared, Promises, Said, Server, Step, in_fork, play, room, settings_of
from tests.world import Hands
from vault import age, backups, compose, founding, keyfile
from vault.clock import MINUTE
from vault.errors import AfterwordError, Refused
from vault.storage.sqlite import SqliteDatabase

# What is on no disk before it is done: until then there is no server.
FOUNDING: Final = ("found", "restore")
SLOW: Final = {"found": 3, "found-afar": 3, "restore": 3}
LIVED_ON: Final = 100
"""Of so many images one is lived on with."""


def flows() -> dict[str, Callable[[], Ready]]:
    known: dict[str, Callable[[], Ready]] = {
        name: lambda name=name: ready(workflows.prepared(name)) for name in workflows.FLOWS
    }
    return known | {
        "many-check-ins": many_check_ins,
        "found-afar": lambda: ready(workflows.prepared("found"), "srv/afterword", "found-afar"),
        "backup-afar": backup_afar,
        "restore-afar": restore_afar,
    }


def ready(prepared: Prepared, inside: str = "", name: str = "") -> Ready:
    """`inside`: where the data is, below the folder that is looked at; made by the workflow if it begins with none."""
    name = name or prepared.name
    folder = room() / f"cut-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    if any(prepared.base.folder.iterdir()):
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        prepared.copy(folder / inside)
    else:
        folder.mkdir()

    def run() -> None:
        ended = in_fork(lambda: play(prepared, folder / inside, Promises(None)))
        if ended.raised or ended.signal:
            raise RuntimeError(ended.raised or f"signal {ended.signal}")
        answers.update(_answers(folder / inside))

    answers: set[str] = set()

    def judge(found: Path, marks: Sequence[str]) -> list[str]:
        said = [json.loads(mark) for mark in marks]
        broken = judged(prepared, found / inside, said, answers)
        asked[0] += 1
        # Of several check-ins only the newest is kept to be answered alike again.
        if not broken and name == prepared.name and asked[0] % LIVED_ON == 0:
            broken = lived_on(prepared, found, said)
        return broken

    asked = [hash(name) % LIVED_ON]
    return Ready(name, folder, run, judge, SLOW.get(name, 1))


def many_check_ins() -> Ready:
    source = workflows.prepared("check-in")
    server = source.base.server
    server.take_up(source.base.folder, source.base.clock)
    hers = workflows.the(source.base).hers
    steps = [workflows.life_sign(hers, ahead) for ahead in range(1, 25)]
    server.put_down()
    return ready(replace(source, steps=steps), name="many-check-ins")


def lived_on(prepared: Prepared, folder: Path, said: list[Said]) -> list[str]:
    """The machine starts again, a minute later by every clock, and everything goes on to its end."""
    before = prepared.base.clock
    at = max([before.at, *(each["at"] for each in said if "at" in each)]) + MINUTE
    later = replace(
        prepared,
        base=replace(prepared.base, clock=Hands(at, "after the cut", before.wall_off)),
        steps=[replace(step, act=patiently(step.act)) for step in prepared.steps],
    )
    try:
        # Silence after a destruction ends in none.
        silent = prepared.name != "destroy-cooled"
        ended = in_fork(lambda: oracle.check(later, folder, said, whole=True, to_the_end=silent))
        tally.count("images of power cuts lived on to the end")
        return [ended.raised] if ended.raised else [str(each) for each in ended.value]
    finally:
        (folder.parent / "again").unlink(missing_ok=True)


def patiently(act: Callable[[Server], bytes | None]) -> Callable[[Server], bytes | None]:
    """What was torn of half an upload is found out at its end; every client then sends it from its beginning."""

    def acted(server: Server) -> bytes | None:
        try:
            return act(server)
        except AfterwordError as wrong:
            if wrong.code != "object-mismatch":
                raise
            return act(server)

    return acted


def backup_afar() -> Ready:
    """A backup into folders that are not there yet, on the same disk and out of the data."""

    def act(server: Server) -> None:
        target = server.folder.parent / "kept" / "backups"
        made = backups.back_up(
            server.database, server.records, server.objects, server.custodian, server.folder, target
        )
        server.promises.say("backup", file=f"../kept/backups/{made.file.name}")

    return ready(replace(workflows.prepared("backup"), steps=[Step("backed up", act)]), "data", "backup-afar")


def restore_afar() -> Ready:
    """A backup and its key, restored into a folder that is not there yet."""
    source = workflows.prepared("restore")

    def act(server: Server) -> None:
        settings = settings_of(server.folder)
        top = server.folder.parent.parent
        try:
            founding.restore(replace(settings, server_key_file=top / "server.key"), top / "backups")
        except Refused as refused:
            if refused.code != "not-empty":
                raise

    folder = room() / "cut-restore-afar"
    made = ready(source, "", "restore-afar")
    whole = replace(source, steps=[Step("restored", act)])

    def run() -> None:
        ended = in_fork(lambda: play(whole, folder / "new" / "data", Promises(None)))
        if ended.raised or ended.signal:
            raise RuntimeError(ended.raised or f"signal {ended.signal}")

    def judge(found: Path, marks: Sequence[str]) -> list[str]:
        return judged(
            whole, found / "new" / "data", [json.loads(mark) for mark in marks], set(), found / "server.key"
        )

    return Ready("restore-afar", made.folder, run, judge, SLOW["restore"])


def _answers(folder: Path) -> set[str]:
    """The acknowledgements of a server that nothing happened to."""
    copy = room() / "whole"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    try:
        database = SqliteDatabase(copy / "afterword.db")
        try:
            return {
                _hash(row["acknowledgement"])
                for row in database.all("SELECT acknowledgement FROM statements")
            }
        finally:
            database.close()
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _hash(blob: Any) -> str:  # Any: a column
    return hashlib.sha256(bytes(blob)).hexdigest()


def judged(
    prepared: Prepared, folder: Path, said: list[Said], answers: set[str], key: Path | None = None
) -> list[str]:
    did = [each for each in said if each["what"] == "did"]
    if not (folder / "afterword.db").exists():
        if prepared.name in FOUNDING and not did:
            return _begins(prepared, folder, key)
        return ["the database is gone"]
    try:
        database = SqliteDatabase(folder / "afterword.db")
    except AfterwordError as wrong:
        return [f"the database does not open: {wrong}"]
    try:
        if prepared.name in FOUNDING and not did:
            # Nobody was told yet that there is a server; then starting again must make one.
            database.close()
            return _begins(prepared, folder, key)
        database.migrate()
        database.check()
        return [
            *_numbers(database, did),
            *_acknowledged(database, did, answers),
            *_letters(database, said),
            *_stages(database),
            *_chains(database),
            *_objects(database, folder),
            *_files(folder, said, key or folder / "server.key"),
        ]
    except AfterwordError as wrong:
        return [f"the database does not read: {wrong}"]
    finally:
        database.close()


def _begins(prepared: Prepared, folder: Path, key: Path | None) -> list[str]:
    """Founding or restoring was cut off: done once more it ends with a server that opens."""
    server = prepared.base.server
    server.folder = folder
    try:
        for step in prepared.steps:
            step.act(server)
        vault = compose.open_vault(replace(settings_of(folder), server_key_file=key or folder / "server.key"))
        vault.records.db.check()
        vault.records.db.close()
    except (AfterwordError, OSError) as wrong:
        return [f"begun anew it does not end well: {type(wrong).__name__}: {wrong}"]
    return []


def _numbers(database: SqliteDatabase, did: list[Said]) -> list[str]:
    told = next((each for each in reversed(did) if "accounts" in each), None)
    if told is None:
        return []
    wrong = []
    held = {
        row["id"]: (row["seq"], row["number"]) for row in database.all("SELECT id, seq, number FROM accounts")
    }
    for account, (seq, number) in told["accounts"].items():
        have = held.get(account)
        if have is None or have[0] < seq or have[1] < number:
            wrong.append(f"account {account[:8]} had {(seq, number)} when it was told, and has {have}")
    (service,) = database.all("SELECT life, lived, served FROM service")
    if (
        service["life"] != told["life"]
        or service["lived"] < told["lived"]
        or service["served"] < told["served"]
    ):  # type: ignore[operator]
        wrong.append(f"service time fell from {told['served']} to {service['served']}")
    stages = {row["dossier"]: row["stage"] for row in database.all("SELECT dossier, stage FROM switches")}
    for dossier, stage in told["stages"].items():
        if dossier not in stages:
            wrong.append(f"dossier {dossier[:8]} is gone")
        elif stage in ("released", "destroyed") and stages[dossier] != stage:
            wrong.append(f"dossier {dossier[:8]} was {stage} and is {stages[dossier]}")
    return wrong


def _acknowledged(database: SqliteDatabase, did: list[Said], answers: set[str]) -> list[str]:
    held = {_hash(row["acknowledgement"]) for row in database.all("SELECT acknowledgement FROM statements")}
    return [
        f"{each['step']} was acknowledged and is forgotten"
        for each in did
        if each["answer"] in answers and each["answer"] not in held
    ]


def _letters(database: SqliteDatabase, said: list[Said]) -> list[str]:
    """Whatever was carried to somebody stands in a row: save, then speak."""
    held = {str(row["message_id"]) for row in database.all("SELECT message_id FROM outbox")}
    return [
        f"the letter {each['message']} was carried and is nowhere written down"
        for each in said
        if each["what"] == "carried" and each["message"].strip("<").split("@")[0].split(".")[0] not in held
    ]


def _stages(database: SqliteDatabase) -> list[str]:
    released = {
        row["dossier"] for row in database.all("SELECT dossier FROM switches WHERE stage = 'released'")
    }
    let_go = {row["dossier"] for row in database.all("SELECT dossier FROM releases")}
    wrong = [f"dossier {each} is released or is not, as one asks" for each in released ^ let_go]
    for dossier in released:
        letters = database.all(
            "SELECT id FROM outbox WHERE dossier = :d AND kind = 'release'", d=str(dossier)
        )
        if not letters:
            wrong.append(f"dossier {dossier} was released and nobody will be told")
    return wrong


def _chains(database: SqliteDatabase) -> list[str]:
    wrong = []
    for account in database.all("SELECT id, number, history FROM accounts"):
        hash, number = "0" * 64, 0
        for row in database.all(
            "SELECT number, entry, hash FROM history WHERE account = :a ORDER BY number", a=account["id"]
        ):
            number += 1
            hash = hashlib.sha256(bytes.fromhex(hash) + str(row["entry"]).encode()).hexdigest()
            if (row["number"], row["hash"]) != (number, hash):
                wrong.append(f"link {number} of account {account['id']} does not hold")
        if (account["number"], account["history"]) != (number, hash):
            wrong.append(f"account {account['id']} does not stand at the end of its chain")
    return wrong


def _objects(database: SqliteDatabase, folder: Path) -> list[str]:
    wrong = []
    root = folder / "objects"
    whole = set()
    for path in root.glob("*/??/*") if root.exists() else ():
        if path.parent.parent.name.endswith(".deleted"):
            continue
        if _content(path) != path.name:
            wrong.append(f"half an object stands under the name {path.name[:8]}")
        whole.add((path.parent.parent.name, path.name))
    for row in database.all("SELECT dossier, name FROM objects"):
        if (row["dossier"], row["name"]) not in whole:
            wrong.append(f"the row of object {str(row['name'])[:8]} points at nothing")
    return wrong


_known: dict[tuple[int, int, int], str] = {}


def _content(path: Path) -> str:
    """Its hash; what lies there as it lay is not read again."""
    there = path.stat()
    key = there.st_ino, there.st_mtime_ns, there.st_size
    if key not in _known:
        _known[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return _known[key]


def _files(folder: Path, said: list[Said], key: Path) -> list[str]:
    try:
        opener = keyfile.read_key(key)
    except AfterwordError as reason:
        return [f"the server key does not read: {reason}"]
    wrong = []
    for each in said:
        if each["what"] == "backup":
            wrong += _backup(
                folder / each["file"] if "/" in each["file"] else folder / "backups" / each["file"], opener
            )
    return wrong


def _backup(file: Path, key: age.Identity) -> list[str]:
    """It opens, and everything that it names lies beside it."""
    opened = file.parent / "opened.db"
    try:
        backups.open_backup(file, key, opened)
        with closing(sqlite3.connect(opened)) as db:
            named = [
                f"{dossier}/{name}"
                for dossier, name in db.execute("SELECT dossier, name FROM objects WHERE bundle > 0")
            ]
    except (AfterwordError, OSError) as reason:
        return [f"the backup {file.name} does not open: {reason}"]
    finally:
        opened.unlink(missing_ok=True)
    beside = [file.parent / "objects" / each for each in named]
    return [
        f"the backup lacks the object {path.name[:8]}"
        for path in beside
        if not path.exists() or _content(path) != path.name
    ]
