"""How many check-ins and letters a server carries.

Rule of this room: a check-in counts once its acknowledgement was verified, a letter once the mail server took it.
"""

import smtplib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import theatre
from theatre import Cast, Person

from bench import meter
from bench.meter import Figure

SOME = 4


def checkins(folder: Path, count: int, times: int) -> Iterator[Figure]:
    """Each with its nonce: signed, over HTTP, durable on both sides before the next begins."""
    with theatre.cast(folder) as cast:
        people = [_journalist(cast, f"Ana{number}") for number in range(SOME)]
        for clients in (1, SOME):
            rates = [clients * count / _clients(people[:clients], count) for _ in range(times)]
            who = "one after the other" if clients == 1 else f"from {clients} at once"
            yield Figure(
                f"check-ins, {who}",
                f"{meter.middle(rates):.0f} a second",
                "three requests each: server, nonce, check-in",
            )
        commits = [_commits(folder / f"peer{number}.db", count) for number in range(times)]
        yield Figure(
            "    beside it: commits of one row, sqlite3, synchronous=FULL",
            f"{meter.middle(commits):.0f} a second",
        )


def _journalist(cast: Cast, name: str) -> Person:
    invite = cast.server.operator("operator", "invite", "--data", str(cast.server.folder)).out.strip()
    who = cast.person(name)
    who.join(invite)
    who.quicken()
    return who


def _clients(people: list[Person], count: int) -> float:
    """Seconds from the moment when every client is ready until the last has finished."""
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.client", str(count)],
            env=who.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in people
    ]
    for each in running:
        assert each.stdout is not None
        if each.stdout.readline() != "ready\n":
            raise meter.Broke("a client did not start")
    began = time.perf_counter()
    for each in running:
        assert each.stdin is not None
        each.stdin.close()
    codes = [each.wait() for each in running]
    if any(codes):
        raise meter.Broke("a client failed")
    return time.perf_counter() - began


def _commits(path: Path, count: int) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE seen (n INTEGER PRIMARY KEY, at INTEGER)")
        began = time.perf_counter()
        for number in range(count):
            db.execute("INSERT INTO seen VALUES (?, ?)", (number, number))
        return count / (time.perf_counter() - began)


def letters(folder: Path, count: int, times: int) -> Iterator[Figure]:
    """Rows in the outbox of a running server, until a real SMTP server has taken the last of them."""
    with theatre.cast(folder) as cast:
        ana = _journalist(cast, "Ana")
        ana.confirm_address()
        rates = [count / _letters(cast, count) for _ in range(times)]
        yield Figure("letters, each saved, handed over and noted", f"{meter.middle(rates):.0f} a second")
        theirs = [count / _plain_letters(cast, count) for _ in range(times)]
        yield Figure(
            "    beside it: smtplib, one connection, nothing saved",
            f"{meter.middle(theirs):.0f} a second",
            "the mail server is aiosmtpd, in Python too",
        )


def _letters(cast: Cast, count: int) -> float:
    from vault import compose, outbox
    from vault.letters import Facts, LetterKind
    from vault.settings import read_settings

    vault = compose.open_vault(read_settings({}, data=cast.server.folder, short=True))
    before = len(cast.mail.letters)
    with vault.records.transaction() as now:
        account = next(iter(vault.records.accounts()))
        for _ in range(count):
            outbox.post(vault.records, vault.custodian, now, LetterKind.TEST, account.id, Facts())
    began = time.perf_counter()
    theatre.until(lambda: len(cast.mail.letters) >= before + count, "the letters", 120)
    return time.perf_counter() - began


def _plain_letters(cast: Cast, count: int) -> float:
    letter = cast.mail.letters[-1].as_bytes()
    began = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", cast.mail.port) as post:
        for _ in range(count):
            post.sendmail("box@server.example", "ana@example.org", letter)
    return time.perf_counter() - began
