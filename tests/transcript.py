"""A transcript in a document, played again at a terminal.

Rule of this room: what the document shows is what is typed, and what is printed has to be what it shows.

A transcript stands in ```console NAME blocks. `$ ` begins a command; what follows is what the terminal shows, with
what is typed after each question. `…` stands for whatever varies.
"""

import fcntl
import os
import re
import shlex
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import theatre
from theatre import Failed

COLUMNS = 100
_FENCE = re.compile(r"^```console (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Step:
    """One command and what the terminal shows of it."""

    who: str
    command: str
    shown: str

    def fits(self, seen: str) -> bool:
        """Whether this was seen, whatever `…` stands for and wherever lines are broken."""
        return _fits(self.shown, seen)

    def typed(self, question: str) -> str:
        """What stands after this question; a passphrase is typed unseen."""
        for line in self.shown.splitlines():
            asked, colon, typed = line.partition(":")
            if colon and _fits(asked, question.rstrip().removesuffix(":")):
                return typed.strip()
        raise Failed(f"{self.who}: $ {self.command}\nasks what the transcript does not show: {question!r}")


def _fits(shown: str, seen: str) -> bool:
    parts = [re.escape(part) for part in " ".join(shown.split()).split("…")]
    return re.fullmatch(".*?".join(parts), " ".join(seen.split())) is not None


def read(document: Path) -> list[list[Step]]:
    """The blocks of a document, each a list of commands."""
    return [_steps(who, text) for who, text in _FENCE.findall(document.read_text(encoding="utf-8"))]


def _steps(who: str, text: str) -> list[Step]:
    steps = []
    for piece in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        while (cut := piece.partition("\n"))[0].endswith("\\"):
            piece = cut[0][:-1].rstrip() + " " + cut[2].lstrip("> ")
        command, _, shown = piece.partition("\n")
        steps.append(Step(who, command, shown))
    return steps


def at_a_terminal(
    command: str, environment: Mapping[str, str], folder: Path, reply: Callable[[str, str], str]
) -> tuple[int, str]:
    """Exit code, and what a person sees; `reply` gets each question and everything above it."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    quiet = {
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PATH": f"{Path(theatre.AFTERWORD[0]).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        shlex.split(command),
        env={**environment, **quiet},
        cwd=folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        executable=theatre.AFTERWORD[0],
    )
    os.close(slave)
    seen, answered, end = b"", 0, time.monotonic() + theatre.PATIENCE
    try:
        while time.monotonic() < end:
            try:
                piece = os.read(master, 65_536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            seen += piece
            if seen[answered:].endswith(b": "):
                above, _, question = _readable(seen).rpartition("\n")
                answered = len(seen)
                os.write(master, reply(question, above).encode() + b"\n")
        return process.wait(theatre.PATIENCE), _readable(seen)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def _readable(seen: bytes) -> str:
    return _CODES.sub("", seen.decode(errors="replace")).replace("\r\n", "\n").replace("\r", "\n")
