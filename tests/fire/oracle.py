"""What must be true of a server after anything at all has happened to it, whatever it was doing.

Rule of this room: it believes nothing that the server says of itself where it can count on its own: promises are
those that were written down outside, time is the test's clock, a chain is hashed anew.

`check` is called in a process that may be thrown away (stand.in_fork): it takes the server up and lives on with it.
"""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.fire.bases import PLANTED
from tests.fire.stand import Prepared, Promises, Said, Server, act_all, read_promises, settings_of
from tests.world import Dossier
from vault import founding, ledger, statements, switch
from vault.clock import MINUTE
from vault.errors import AfterwordError
from vault.letters import LetterKind
from vault.service import Service
from vault.switch import Stage

SLACK_TICKS: Final = 14
"""What a crash may cost anybody of the time that was promised (S1)."""
STAGES: Final = (Stage.REMINDED, Stage.WARNED, Stage.GRACE)
LONGEST_LEASE: Final = 10 * MINUTE
ONCE: Final = (*switch.LADDER_LETTERS, LetterKind.RELEASED_HER)
LEFTOVERS: Final = (
    "backup-*",
    "*.partial",
    "*.part",
    "server.key.new*",
    "*.restored",
    "*.restored-*",
    "ballast.new",
)


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was not kept. `what` is one of tally.WRONG, or "" for anything else."""

    what: str
    sentence: str


def check(
    prepared: Prepared, folder: Path, said: list[Said], *, whole: bool = True, to_the_end: bool = False
) -> list[Broken]:
    """Open what is there as a fresh start does, and hold it against what was promised.

    `whole`: files and secrets too, and the same workflow again to its end. `to_the_end`: then silence, until the
    release and the last letter of it.
    """
    try:
        return _check(prepared, folder, said, whole=whole, to_the_end=to_the_end)
    except AfterwordError as wrong:
        return [Broken("", f"it does not go on: {type(wrong).__name__} ({wrong.code}): {wrong}")]


def _check(
    prepared: Prepared, folder: Path, said: list[Said], *, whole: bool, to_the_end: bool
) -> list[Broken]:
    broken: list[Broken] = []
    server = prepared.base.server
    server.folder = folder
    settings = settings_of(folder)
    there = (folder / "afterword.db").exists()
    if prepared.opens or there:
        founding.found(settings)
        server.take_up(folder, prepared.base.clock)
        _catch_up(server, said)
        broken += rows(prepared, server, said)
        if not whole:
            server.put_down()
            return broken
        if not prepared.opens:
            server.put_down()
    elif not whole:
        return broken
    # The same again, to its end.
    again = folder.parent / "again"
    server.promises = Promises(again)
    if not prepared.opens:
        act_all(prepared, server, server.promises)
        founding.found(settings)
        server.take_up(folder, prepared.base.clock)
        _catch_up(server, said)
    else:
        act_all(prepared, server, server.promises)
    later = read_promises(again)
    broken += _same_answers(prepared, said, later)
    said = [*said, *later]
    if to_the_end:
        broken += silence(prepared, server, said)
        said = [*said, *read_promises(again)[len(later) :]]
    broken += rows(prepared, server, said)
    broken += files(prepared, server)
    broken += [Broken("", sentence) for sentence in prepared.after(server, said)]
    server.put_down()
    return broken


def _catch_up(server: Server, said: list[Said]) -> None:
    """The machine ran on while the server was dead."""
    row = server.records.service()
    if row is not None and row.boot == server.clock.boot_id():
        server.clock.at = max([server.clock.at, row.at, *(each["at"] for each in said if "at" in each)])


def rows(prepared: Prepared, server: Server, said: list[Said]) -> list[Broken]:
    """Everything that SQL can say, in a few milliseconds."""
    found: list[Broken] = []
    with closing(sqlite3.connect(server.folder / "afterword.db")) as db:
        db.row_factory = sqlite3.Row
        (whole,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if whole != "ok":
            found.append(Broken("", f"the database is damaged: {whole}"))
        if db.execute("PRAGMA foreign_key_check").fetchone():
            found.append(Broken("", "a row points at nothing"))
        found += _chains(db)
        found += _numbers(db, said)
        found += _statements(db)
        found += _kept(db, said)
        found += _releases(db)
        found += _letters(db, said, prepared)
        found += _bundles(db)
    return found


def _chains(db: sqlite3.Connection) -> list[Broken]:
    """Each account's history, hashed anew; and no switch ever left a stage that it was not in."""
    found = []
    at: dict[str, str] = {}
    for account in db.execute("SELECT id, number, history, seq FROM accounts").fetchall():
        number, hash, served = 0, ledger.FIRST, 0
        for row in db.execute("SELECT * FROM history WHERE account = ? ORDER BY number", (account["id"],)):
            hash = hashlib.sha256(bytes.fromhex(hash) + row["entry"].encode()).hexdigest()
            entry = json.loads(row["entry"])
            number += 1
            if row["hash"] != hash or row["number"] != number or entry["n"] != number:
                found.append(Broken("lost check-ins", f"the chain breaks at link {row['number']}"))
            if entry["served"] < served:
                found.append(Broken("", "service time fell within a chain"))
            served = entry["served"]
            if entry["what"] == "moved":
                dossier = entry["dossier"]
                if at.get(dossier, entry["before"]) != entry["before"]:
                    found.append(
                        Broken("doubled releases", f"a move from {entry['before']}, which it had left")
                    )
                at[dossier] = entry["after"]
                if entry["before"] == "released":
                    found.append(Broken("forgotten", "a release was taken back"))
        if (number, hash) != (account["number"], account["history"]):
            found.append(Broken("lost check-ins", "an account's history does not end where its row says"))
    for row in db.execute("SELECT dossier, stage FROM switches"):
        if at.get(row["dossier"], row["stage"]) != row["stage"]:
            found.append(Broken("", f"the chain says {at[row['dossier']]}, the switch {row['stage']}"))
    return found


def _numbers(db: sqlite3.Connection, said: list[Said]) -> list[Broken]:
    """S8: what was seen from outside has not fallen; S3: what was released stays so."""
    found = []
    service = db.execute("SELECT life, lived, served FROM service").fetchone()
    now = {
        row["id"]: (row["seq"], row["number"]) for row in db.execute("SELECT id, seq, number FROM accounts")
    }
    stages = {row["dossier"]: row["stage"] for row in db.execute("SELECT dossier, stage FROM switches")}
    for each in said:
        if each.get("life") is None:
            continue
        if service is None:
            return [Broken("lost check-ins", "the row of service time is gone")]
        if each["life"] == service["life"] and (
            each["lived"] > service["lived"] or each["served"] > service["served"]
        ):
            found.append(Broken("", "service time fell"))
        for account, (seq, number) in each["accounts"].items():
            if account not in now or now[account][0] < seq or now[account][1] < number:
                found.append(Broken("lost check-ins", f"seq or history fell from {seq}, {number}"))
        for dossier, stage in each["stages"].items():
            if dossier not in stages or (stage == "released" and stages[dossier] != "released"):
                found.append(Broken("forgotten", f"a dossier that was {stage} is not"))
    return found


def _statements(db: sqlite3.Connection) -> list[Broken]:
    """Each statement that was acknowledged is in its account's chain, and what it did was done with it."""
    linked = set()
    for row in db.execute("SELECT entry FROM history"):
        entry = json.loads(row["entry"])
        if "hash" in entry:
            linked.add(entry["hash"])
    lost = [
        row["kind"] for row in db.execute("SELECT hash, kind FROM statements") if row["hash"] not in linked
    ]
    return [Broken("lost check-ins", f"a {kind} was answered and is in no chain") for kind in lost]


def _kept(db: sqlite3.Connection, said: list[Said]) -> list[Broken]:
    """S4: what was acknowledged is there before anybody asks again."""
    held = {
        hashlib.sha256(bytes(row["acknowledgement"])).hexdigest()
        for row in db.execute("SELECT acknowledgement FROM statements")
    }
    return [
        Broken("lost check-ins", f"{each['step']!r} was acknowledged and is forgotten")
        for each in said
        if each.get("signed") and each["answer"] not in held
    ]


def _releases(db: sqlite3.Connection) -> list[Broken]:
    found = []
    stages = {row["dossier"]: row["stage"] for row in db.execute("SELECT dossier, stage FROM switches")}
    released = [row["dossier"] for row in db.execute("SELECT dossier FROM releases")]
    if len(set(released)) != len(released):
        found.append(Broken("doubled releases", "a dossier has two releases"))
    for dossier, stage in stages.items():
        if stage == "released" and dossier not in released:
            found.append(Broken("forgotten", "a switch is released and nothing was let go"))
        if stage != "released" and dossier in released:
            found.append(Broken("early", f"a release was written while the switch is {stage}"))
    for row in db.execute("SELECT dossier FROM switches WHERE stage = 'released'"):
        # Each colleague with an address: one first letter to each.
        wanted = db.execute(
            "SELECT a.id FROM collaborators c JOIN addresses a ON a.account = c.account"
            " WHERE c.dossier = ? AND a.confirmed = 1 AND c.has_left = 0",
            (row["dossier"],),
        ).fetchall()
        for (address,) in wanted:
            (count,) = db.execute(
                "SELECT count(*) FROM outbox WHERE dossier = ? AND address = ? AND kind = 'release' AND climb = 0",
                (row["dossier"], address),
            ).fetchone()
            if count == 0:
                found.append(Broken("forgotten", "a colleague has no letter of a release"))
            elif count > 1:
                found.append(Broken("doubled releases", "a colleague has two first letters of a release"))
    return found


def _letters(db: sqlite3.Connection, said: list[Said], prepared: Prepared) -> list[Broken]:
    """One set of letters for each move; what is called accepted was really carried."""
    found = []
    kinds = ", ".join(f"'{kind.value}'" for kind in ONCE)
    doubled = db.execute(
        f"SELECT kind, count(*) AS many FROM outbox WHERE kind IN ({kinds}) AND letter IS NOT NULL"  # noqa: S608 our own words
        " GROUP BY dossier, kind, address, climb, letter HAVING many > 1"
    ).fetchall()
    found += [
        Broken("doubled releases", f"{row['many']} letters {row['kind']} for one move") for row in doubled
    ]
    carried = {
        each["message"].strip("<>").partition("@")[0].partition(".")[0]
        for each in said
        if each["what"] == "carried"
    }
    before = _accepted_before(prepared.known or prepared.base.folder / "afterword.db")
    for row in db.execute("SELECT message_id, kind FROM outbox WHERE state = 'accepted'"):
        if row["message_id"] not in carried and row["message_id"] not in before:
            found.append(
                Broken("forgotten", f"a letter {row['kind']} is called accepted and was never carried")
            )
    stage_letters = {
        Stage.REMINDED: LetterKind.CHECK_IN,
        Stage.WARNED: LetterKind.LAST_WARNING,
        Stage.GRACE: LetterKind.LAST_CALL,
    }
    for stage, kind in stage_letters.items():
        for row in db.execute(
            "SELECT s.dossier, a.id AS address FROM switches s JOIN dossiers d ON d.id = s.dossier"
            " JOIN addresses a ON a.account = d.journalist WHERE s.stage = ? AND a.confirmed = 1",
            (stage.value,),
        ):
            here = db.execute(
                "SELECT 1 FROM outbox WHERE dossier = ? AND address = ? AND kind = ? AND state <> 'withdrawn'",
                (row["dossier"], row["address"], kind.value),
            ).fetchone()
            if here is None:
                found.append(Broken("early", f"she is {stage.value} and there is no letter that says so"))
    return found


@cache
def _accepted_before(path: Path) -> frozenset[str]:
    """Letters that had been accepted when the workflow began."""
    if not path.exists():
        return frozenset()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        return frozenset(
            row[0] for row in db.execute("SELECT message_id FROM outbox WHERE state = 'accepted'")
        )


def _bundles(db: sqlite3.Connection) -> list[Broken]:
    """Every object that a head names has its row."""
    found = []
    held = {(row["dossier"], row["name"]) for row in db.execute("SELECT dossier, name FROM objects")}
    ended = {row["dossier"] for row in db.execute("SELECT dossier FROM switches WHERE stage = 'destroyed'")}
    for row in db.execute("SELECT dossier, envelope FROM heads").fetchall():
        head = statements.peek(bytes(row["envelope"]))
        assert isinstance(head, statements.Head)
        if row["dossier"] not in ended and any((row["dossier"], name) not in held for name in head.objects):
            found.append(Broken("", "a head names an object that has no row"))
    return found


def files(prepared: Prepared, server: Server) -> list[Broken]:
    """Objects are there and what their names say, no secret lies open, nothing half-written is left."""
    found = []
    for row in server.database.all("SELECT dossier, name FROM objects"):
        key = f"{row['dossier']}/{row['name']}"
        if not server.objects.has(key):
            found.append(Broken("", "a row names an object that is not there"))
        elif hashlib.sha256(b"".join(server.objects.read(key))).hexdigest() != row["name"]:
            found.append(Broken("", "an object is not what its name says"))
    secrets = prepared.base.secrets
    words = [*secrets, *(secret.hex().encode() for secret in secrets), *(word.encode() for word in PLANTED)]
    for path in sorted(server.folder.rglob("*")):
        if path.is_file() and path.name != "server.key":
            whole = path.read_bytes()
            found += [Broken("", f"a secret lies open in {path.name}") for word in words if word in whole]
    for pattern in LEFTOVERS:
        found += [Broken("", f"{left.name} was left lying about") for left in server.folder.rglob(pattern)]
    return found


def _same_answers(prepared: Prepared, said: list[Said], later: list[Said]) -> list[Broken]:
    """S4: what was acknowledged is acknowledged again, in the same words."""
    found = []
    life = {step.name for step in prepared.steps if step.proves_life}
    again = {each["step"]: each["answer"] for each in later if each["what"] == "did"}
    for each in said:
        if each["what"] == "did" and again.get(each["step"]) != each["answer"]:
            what = "lost check-ins" if each["step"] in life else ""
            found.append(Broken(what, f"{each['step']!r} was answered, and is now answered otherwise"))
    return found


def silence(prepared: Prepared, server: Server, said: list[Said]) -> list[Broken]:
    """She says nothing more: every stage is lived through by the test's own count, and then everybody hears."""
    made = prepared.base.made
    if made is None or server.database.one("SELECT 1 FROM switches WHERE dossier = :id", id=made.id) is None:
        return []
    if made.stage not in (Stage.ARMED, *STAGES, Stage.RELEASED):
        return []
    found = []
    if made.stage is not Stage.RELEASED:
        began = server.clock.at
        seen: dict[Stage, int] = {made.stage: began}
        first, plan = made.stage, server.records.switch(made.id).switch.plan
        for _ in range(60):
            if made.stage is Stage.RELEASED:
                break
            row = server.records.switch(made.id).switch
            service = server.records.service()
            assert isinstance(service, Service)
            if row.due is not None and row.due > service.served:
                server.skip(max(0, row.due - service.served - server.tick))
            server.pass_time(4 * server.tick)
            seen.setdefault(made.stage, server.clock.at)
        if made.stage is not Stage.RELEASED:
            return [Broken("forgotten", f"she fell silent and the switch stays {made.stage}")]
        found += _too_early(server, made, plan, said, seen, first)
    # A deliverer that was killed held its letters for as long as its lease.
    server.skip(LONGEST_LEASE)
    server.pass_time(4 * server.tick)
    waiting = server.database.all(
        "SELECT id FROM outbox WHERE kind = 'release' AND climb = 0 AND state <> 'accepted' AND state <> 'withdrawn'"
    )
    if waiting:
        found.append(Broken("forgotten", f"{len(waiting)} letters of the release never left"))
    return found


def _too_early(
    server: Server,
    made: Dossier,
    plan: Any,  # a Plan, whichever it is by now
    said: list[Said],
    seen: dict[Stage, int],
    first: Stage,
) -> list[Broken]:
    """S1 and S2 by the test's clock, which stood still only when the server was dead."""
    found = []
    slack = SLACK_TICKS * server.tick
    dwells = dict(zip((Stage.ARMED, *STAGES), plan.dwells(), strict=True))
    order = [Stage.ARMED, *STAGES, Stage.RELEASED]
    after = order[order.index(first) + 1 :]
    for stage in after[:-1]:
        following = order[order.index(stage) + 1]
        if seen[following] - seen[stage] < dwells[stage] - slack:
            found.append(Broken("early", f"{stage} lasted {seen[following] - seen[stage]} ms"))
    signs = [each["at"] for each in said if each["what"] == "did" and each.get("life_sign") and "at" in each]
    if signs and seen[Stage.RELEASED] - max(signs) < sum(dwells.values()) - slack:
        found.append(Broken("early", "the release came before the whole ladder was served"))
    return found
