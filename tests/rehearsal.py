"""What all stories agree on: who there is, what the dossier is called, what was deposited first."""

import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from theatre import Cast, Person, until

from cli.home import Home
from cli.remote import Remote
from cli.session import Session
from vault import identity
from vault.identity import Keyring, RootSeed

JOURNALIST = "Ana"
COLLEAGUES = ["Bruno", "Chiara", "Daniel"]
# Not on any roster yet.
NEWCOMER = "Elif"
TITLE = "Quokka affair"
# An hour to check in: she falls silent when the story shortens it, not when the machine is slow.
CALM = ("--every", "1h", "--remind", "1s", "--warn", "1s", "--grace", "1s", "--cooling", "2s")


def invent(folder: Path) -> None:
    """A small investigation: text, scans, an empty file, an empty folder, a name with letters of its own."""
    chance = random.Random(folder.name)
    for name, content in {
        "pangolin ledger.csv": b"crane;harbour;900\n" * 5_000,
        "scans/aardvark one.jpg": chance.randbytes(700_000),
        "scans/aardvark two.jpg": chance.randbytes(900_000),
        "notes/vacío.txt": b"",
        "notes/Übersicht – Κύπρος.md": b"who paid for the crane?\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "unsorted").mkdir()


def work_on(folder: Path) -> Path:
    """What she deposits later: a film, and names that not every computer can write. The folder `okapi`."""
    okapi = folder / "okapi"
    okapi.mkdir(parents=True)
    (okapi / "dik-dik film.mov").write_bytes(random.Random("film").randbytes(3_300_000))
    Path(os.fsdecode(os.fsencode(okapi) + b"/gerenuk \xe9.txt")).write_bytes(b"not in UTF-8\n")
    (okapi / "two\nlines \x1b[31m.txt").write_text("what a name\n")
    (okapi / "CON.txt").write_text("a device elsewhere\n")
    return okapi


def fall_silent(ana: Person, every: str = "1s") -> None:
    """Shorter is at once: what is left of the hour is over, and the ladder begins."""
    ana.type("plan", TITLE, "--every", every)


class Move(NamedTuple):
    """One step of a switch as the server's own history has it; `served` in ms."""

    before: str
    after: str
    by: str
    served: int


def history(cast: Cast, what: str) -> list[dict[str, Any]]:
    """What happened to anybody, oldest first."""
    place = f"file:{cast.server.folder}/afterword.db?mode=ro"
    with closing(sqlite3.connect(place, uri=True)) as db:
        rows = db.execute("SELECT entry FROM history ORDER BY account, number").fetchall()
    return [entry for (row,) in rows if (entry := json.loads(row))["what"] == what]


def moves(cast: Cast) -> list[Move]:
    return [
        Move(each["before"], each["after"], each["by"], each["served"]) for each in history(cast, "moved")
    ]


def stage_of(ana: Person, title: str = TITLE) -> str:
    return next(each["stage"] for each in ana.ask("status")["dossiers"] if each["title"] == title)


def wait_for_stage(cast: Cast, stage: str, times: int = 1) -> None:
    until(lambda: [each.after for each in moves(cast)].count(stage) >= times, f"the stage {stage}")


def session_of(who: Person) -> Session:
    """For hostile people, who type no commands: what their own program would have in its hands."""
    home = Home.open(who.home)
    keyring = home.unlock(who.secret.read_text().splitlines()[0])
    remote = Remote(home.url, home.server)
    remote.sign_in(keyring)
    return Session(home, keyring, remote)


@contextmanager
def a_small_disk(place: Path, megabytes: int) -> Iterator[Callable[[int], None]]:
    """A disk of its own at `place`; call what it gives with the size it is to have from then on."""
    place.mkdir(mode=0o700)
    size = f"size={megabytes}m,mode=700"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "none", str(place)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("nobody may mount a disk here; tests/test_cli fills one by other means")
    try:
        yield lambda more: subprocess.run(  # type: ignore[func-returns-value]  # done or raised
            ["mount", "-o", f"remount,size={more}m", str(place)], check=True
        )
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def a_card(label: str) -> identity.ContactCard:
    """Somebody else's, with the same name on it."""
    keyring = Keyring.from_seed(RootSeed.generate(os.urandom))
    return identity.read_card(identity.write_card(label, keyring, 1_800_000_000_000, "cli"))
