"""What all stories agree on: who there is, what the dossier is called, what was deposited first."""

import random
from pathlib import Path

from theatre import Person

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


def fall_silent(ana: Person, every: str = "1s") -> None:
    """Shorter is at once: what is left of the hour is over, and the ladder begins."""
    ana.type("plan", TITLE, "--every", every)
