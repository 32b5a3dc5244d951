"""What a server promised, held against what its disk holds after a power cut.

Rule of this room: quick, for it is asked a hundred thousand times: one database opened as the product opens it, rows
read, objects hashed. What is asked of the engine itself after a crash is asked in tests/fire/oracle.py.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.fire import workflows
from tests.fire.outage import Ready
from tests.fire.stand import Prepared, Promises, Said, in_fork, play, room, settings_of
from vault import compose, keeping
from vault.errors import AfterwordError
from vault.storage.sqlite import SqliteDatabase

# What is on no disk before it is done: until then there is no server.
FOUNDING: Final = ("found", "restore")


def flows() -> dict[str, Callable[[], Ready]]:
    return {name: lambda name=name: ready(name) for name in workflows.FLOWS}


def ready(name: str) -> Ready:
    prepared = workflows.prepared(name)
    folder = room() / f"cut-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    prepared.copy(folder)

    def run() -> None:
        ended = in_fork(lambda: play(prepared, folder, Promises(None)))
        if ended.raised or ended.signal:
            raise RuntimeError(ended.raised or f"signal {ended.signal}")
        answers.update(_answers(folder))

    answers: set[str] = set()

    def judge(found: Path, marks: Sequence[str]) -> list[str]:
        return judged(prepared, found, [json.loads(mark) for mark in marks], answers)

    return Ready(name, folder, run, judge)


def _answers(folder: Path) -> set[str]:
    """The acknowledgements of a server that nothing happened to."""
    copy = folder.with_name(f"{folder.name}-whole")
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


def judged(prepared: Prepared, folder: Path, said: list[Said], answers: set[str]) -> list[str]:
    did = [each for each in said if each["what"] == "did"]
    if not (folder / "afterword.db").exists():
        if prepared.name in FOUNDING and not did:
            return _begins(prepared, folder)
        return ["the database is gone"]
    try:
        database = SqliteDatabase(folder / "afterword.db")
    except AfterwordError as wrong:
        return [f"the database does not open: {wrong}"]
    try:
        if prepared.name in FOUNDING and not did:
            # Nobody was told yet that there is a server; then starting again must make one.
            database.close()
            return _begins(prepared, folder)
        database.migrate()
        database.check()
        return [
            *_numbers(database, did),
            *_acknowledged(database, did, answers),
            *_letters(database, said),
            *_stages(database),
            *_chains(database),
            *_objects(database, folder),
            *_files(prepared, folder, said),
        ]
    except AfterwordError as wrong:
        return [f"the database does not read: {wrong}"]
    finally:
        database.close()


def _begins(prepared: Prepared, folder: Path) -> list[str]:
    """Founding or restoring was cut off: done once more it ends with a server that opens."""
    server = prepared.base.server
    server.folder = folder
    try:
        for step in prepared.steps:
            step.act(server)
        vault = compose.open_vault(settings_of(folder))
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


def _files(prepared: Prepared, folder: Path, said: list[Said]) -> list[str]:
    wrong = []
    try:
        compose.read_key(folder / "server.key")
    except AfterwordError as reason:
        wrong.append(f"the server key does not read: {reason}")
    for each in said:
        if each["what"] == "backup":
            opened = folder / "opened.db"
            try:
                keeping.open_backup(
                    folder / "backups" / each["file"], compose.read_key(folder / "server.key"), opened
                )
            except (AfterwordError, OSError) as reason:
                wrong.append(f"the backup {each['file']} does not open: {reason}")
            opened.unlink(missing_ok=True)
    return wrong
