"""The main job with real processes, told line by line: `make demo [DIR=folder]`.

Rule of this room: nothing is staged. A real server, a real mail server, four people with homes of their own; what
is printed was read from what they were shown, and the last line is only true if every file is.
"""

import argparse
import errno
import hashlib
import os
import random
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
from email.message import EmailMessage
from pathlib import Path

import theatre
from theatre import Cast, Failed, Person, read

from vault.names import name_from_bytes, safe_name

COLLEAGUES = ("Bruno", "Chiara", "Daniel")
LADDER = ("--every", "15s", "--remind", "2s", "--warn", "2s", "--grace", "3s", "--cooling", "10s")
TITLE = "Harbour"


class Teller:
    """Prints the story with the time since it began."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, text: str = "") -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def chapter(self, text: str) -> None:
        print(f"\n--- {text}", flush=True)

    def shown(self, who: str, text: str, lines: int = 6) -> None:
        """What a command printed, indented under who ran it; of much, the beginning and the end."""
        said = [line for line in text.splitlines() if line.strip()]
        if len(said) > lines:
            said = [*said[: lines // 2], "…", *said[-(lines // 2) :]]
        for line in said:
            print(f"           {who} | {line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--dir", type=Path, help="a folder of yours to use as the investigation; it is only read"
    )
    given = parser.parse_args().dir
    chosen = given.expanduser().resolve() if given is not None else None
    if (why := unfit(chosen)) is not None:
        print(f"{why} Nothing was done.", file=sys.stderr)
        return 1
    # A demo that is stopped from outside cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="afterword-demo-"))
    tell = Teller()
    try:
        with theatre.cast(folder) as cast:
            return story(cast, chosen, tell)
    except Failed as broken:
        print(f"\nThe demo broke: {broken}", file=sys.stderr)
        return 1
    except OSError as broken:
        print(f"\nThe demo broke, because the computer refused: {broken}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 1
    finally:
        theatre.remove(folder)


def story(cast: Cast, chosen: Path | None, tell: Teller) -> int:
    tell.chapter("A server, a mail server, a journalist and three colleagues")
    tell(f"The server runs at {cast.server.url}, with three processes: web, watch and deliverer.")
    ana, colleagues = gather(cast, tell)

    tell.chapter("The investigation")
    work = cast.folder / "desk" / (chosen.name if chosen and chosen.name else "investigation")
    if chosen is None:
        invent(work)
    else:
        for name in copy(chosen, work):
            tell(f"Not copied, because it cannot be read: {name}")
    tell(f"{describe(work)} in {'an invented investigation' if chosen is None else f'a copy of {chosen}'}.")
    bundle_up(ana, colleagues, work, tell)

    tell.chapter("She checks in, and then falls silent")
    ana.type("arm", TITLE)
    tell("Ana arms the switch: 15 s to check in, then 2 s reminded, 2 s warned, 3 s of grace (a rehearsal).")
    tell.shown("Ana", ana.type("checkin").out)
    silent = time.monotonic()
    cast.mail.told = lambda letter: show_letter(tell, letter)
    tell("Ana has checked in for the last time.")
    for who in colleagues:
        cast.mail.saying(who.address, "can now be opened")
    tell(
        f"Released {time.monotonic() - silent:.1f} s after the last check-in. Every colleague has the letter."
    )
    cast.mail.told = lambda letter: None

    tell.chapter("Two of three colleagues open it")
    bruno, chiara = colleagues[:2]
    alone = bruno.type("recover", TITLE, "--to", str(cast.folder / "bruno" / "out"), "--yes", code=None)
    if alone.code == 0:
        raise Failed("one colleague alone opened the archive")
    tell("Bruno tries first. Alone he cannot open it:")
    tell.shown("Bruno", alone.said)
    wrong: list[str] = []
    for who in (chiara, bruno):
        target = cast.folder / who.name.lower() / "out"
        began = time.monotonic()
        opened = who.type("recover", TITLE, "--to", str(target), "--yes")
        tell(f"{who.name} recovers in {time.monotonic() - began:.1f} s:")
        tell.shown(who.name, opened.out)
        wrong += [f"{who.name}: {name}" for name in differences(work, target / work.name)]

    if wrong:
        print(
            "\nThe demo broke: these files differ from what Ana pushed:",
            *wrong[:20],
            sep="\n    ",
            file=sys.stderr,
        )
        return 1
    count = sum(1 for _ in files(work))
    print(
        f"\n{count} of {count} files, recovered twice by two of three colleagues, are identical.", flush=True
    )
    return 0


def gather(cast: Cast, tell: Teller) -> tuple[Person, list[Person]]:
    invite = cast.server.invite
    if invite is None:
        raise Failed("the server printed no invite")
    ana = cast.person("Ana")
    ana.join(invite)
    ana.confirm_address()
    tell("Ana joins with the operator's invite, writes down 24 words, confirms her address.")
    colleagues = []
    for name in COLLEAGUES:
        link = re.search(r"http\S+/join#\S+", ana.type("collaborator", "invite", name).out)
        if link is None:
            raise Failed("no invite was printed")
        who = cast.person(name)
        who.join(link[0])
        who.confirm_address()
        ana.compare(who)
        who.compare(ana)
        tell(f"{name} joins, and Ana and {name} read each other ten words: {' '.join(who.card[:3])} …")
        colleagues.append(who)
    return ana, colleagues


def bundle_up(ana: Person, colleagues: list[Person], work: Path, tell: Teller) -> None:
    names = [word for who in colleagues for word in ("--collaborator", who.name)]
    made = ana.type("dossier", "create", TITLE, *names, "--threshold", "2", *LADDER)
    tell(f"Ana makes the dossier {TITLE!r}: any 2 of 3 can open it, after a release.")
    tell.shown("Ana", made.out.partition("\nNext:")[0])
    for who in colleagues:
        who.type("drill")
    tell("Each colleague has opened their share and proved it.")
    began = time.monotonic()
    first = ana.type("push", TITLE, str(work))
    tell(f"First push, {time.monotonic() - began:.1f} s:")
    tell.shown("Ana", first.out)
    change(work)
    began = time.monotonic()
    second = ana.type("push", TITLE, str(work))
    tell(f"Some files changed; second push, {time.monotonic() - began:.1f} s:")
    tell.shown("Ana", second.out)


def show_letter(tell: Teller, letter: EmailMessage) -> None:
    tell(f"Letter to {letter['To']}, {letter['Subject']!r}: {read(letter)[:110]} …")


def invent(folder: Path) -> None:
    """Some hundred megabytes such as a desk holds: scans, recordings, notes, mail, empty files, odd names."""
    chance = random.Random(20_261_122)
    words = [
        "harbour",
        "crane",
        "ledger",
        "transfer",
        "minister",
        "invoice",
        "night",
        "witness",
        "Luxembourg",
        "shell",
        "company",
        "ship",
    ]

    def put(name: str, content: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    for number in range(1, 5):
        put(f"recordings/interview {number}.wav", chance.randbytes(45_000_000))
    for number in range(1, 61):
        put(f"scans/ledger page {number:02}.jpg", chance.randbytes(1_200_000))
    for number in range(1, 401):
        text = " ".join(chance.choices(words, k=2_000))
        put(f"mail/2026-{number % 12 + 1:02}/message {number:03}.eml", text.encode())
    table = "\n".join(
        f"{row};{chance.choice(words)};{chance.randrange(10**9)};{chance.choice(words)}"
        for row in range(900_000)
    )
    put("bank/transfers.csv", table.encode())
    put("notes/to do.txt", b"call the harbour master\n")
    put("notes/vacío.txt", b"")
    put("notes/Übersicht – Κύπρος.md", b"who paid for the crane?\n")
    (folder / "unsorted").mkdir()


def unfit(chosen: Path | None) -> str | None:
    """Why the demo cannot use this folder: it needs room for a copy, the server's objects and two recoveries."""
    if chosen is None:
        return None
    if not chosen.is_dir():
        return f"{chosen} is not a folder."
    try:
        sizes = [path.stat().st_size for path in files(chosen)]
    except OSError as why:
        return f"{chosen} cannot be looked through: {why}."
    if not sizes:
        return f"{chosen} holds no file."
    need, free = 4 * sum(sizes) + 500_000_000, shutil.disk_usage(tempfile.gettempdir()).free
    if need > free:
        return (
            f"The demo needs {need / 1e9:.1f} GB for {chosen}, and {tempfile.gettempdir()} has {free / 1e9:.1f} GB "
            "free; set TMPDIR to a folder on a larger disk, or choose a smaller one."
        )
    return None


def copy(chosen: Path, work: Path) -> list[str]:
    """Everything of theirs, links too, but no pipes, sockets and devices. Returns what could not be read."""
    unread: list[str] = []

    def one(source: str, target: str) -> None:
        kind = os.stat(source).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            return
        try:
            shutil.copy2(source, target)
        except OSError as why:
            if why.errno not in {errno.EACCES, errno.ENOENT}:
                raise
            unread.append(os.path.relpath(source, chosen))

    shutil.copytree(chosen, work, symlinks=True, copy_function=one)
    return unread


def change(folder: Path) -> None:
    """What a day's work does: a note more, a line more, a byte at the front of the largest file."""
    largest = max(files(folder), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"!" + largest.read_bytes())
    (folder / "new note.txt").write_text("the witness called back\n")


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]


def differences(ours: Path, theirs: Path) -> list[str]:
    """Files whose SHA-256 differs, or that are missing, under the names that recovery gives them."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    wrong = []
    for path in files(ours):
        name = "/".join(name_from_bytes(os.fsencode(part))[0] for part in path.relative_to(ours.parent).parts)
        found = theirs.parent / safe_name(name)
        if not found.is_file() or digest(found) != digest(path):
            wrong.append(name)
    return wrong


def describe(folder: Path) -> str:
    sizes = [path.stat().st_size for path in files(folder)]
    return f"{len(sizes)} files, {sum(sizes) / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
