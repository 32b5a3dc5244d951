"""Real processes for stories and the demo: a server, a mail server, and people with a home each.

Nothing here reaches inside of the program: people type commands, read what is printed, and read their mail.
"""

import contextlib
import email.policy
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

PATIENCE = 60.0
AFTERWORD = (str(Path(sys.executable).with_name("afterword")),)
# A rehearsal's ladder: long enough for a machine that does other things too.
LADDER = ("--every", "20s", "--remind", "2s", "--warn", "2s", "--grace", "3s", "--cooling", "2s")


class Failed(AssertionError):
    """A command did not end as the story says."""


def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first truthy answer, asked for again and again until patience ends."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise Failed(f"waited {patience:.0f} s in vain for {what}")


class _AnyPort(Controller):
    """aiosmtpd's controller knocks at its own port once; with port 0 it has to learn first which one it got."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Mailroom:
    """A real SMTP server that keeps every letter it accepts."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.refusing = False
        self.told: Callable[[EmailMessage], None] = lambda letter: None
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0)
        self._controller.start()
        self.port = self._controller.port

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        if self.refusing:
            return "451 try again later"
        letter = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        self.letters.append(letter)
        self.told(letter)
        return "250 kept"

    def to(self, address: str) -> list[EmailMessage]:
        return [letter for letter in self.letters if letter["To"] == address]

    def saying(self, address: str, words: str) -> EmailMessage:
        """The first letter to this address with these words in it, waited for."""
        return until(
            lambda: next((each for each in self.to(address) if words in read(each)), None),
            f"a letter to {address} saying {words!r}",
        )

    def close(self) -> None:
        self._controller.stop()


def read(letter: EmailMessage) -> str:
    """A letter's text on one line, so that words can be looked for across line ends."""
    return " ".join(letter.get_content().split())


@dataclass
class Server:
    """`afterword serve` on a folder, as an operator starts it."""

    folder: Path
    mail: Mailroom
    short: bool = True
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    invite: str | None = None
    process: subprocess.Popen[str] | None = None
    lines: list[str] = field(default_factory=list)

    def start(self, port: int = 0) -> "Server":
        environment = clean_environment() | {
            "AFTERWORD_SMTP": f"smtp://127.0.0.1:{self.mail.port}",
            "AFTERWORD_SENDER": "box@server.example",
            "AFTERWORD_OPERATOR": "operator@ngo.example",
            "AFTERWORD_LOW_WATER": "0",
            **self.environment,
        }
        command = [*AFTERWORD, "serve", "--data", str(self.folder), "--port", str(port)]
        command += ["--allow-short"] if self.short else []
        self.process = subprocess.Popen(
            [*command, *self.options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        found = until(self._ready, "the server to be ready")
        self.url = found
        if (invite := self._said(r"(http\S+/join#\S+)")) is not None:
            self.invite = invite
        return self

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _ready(self) -> str | None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise Failed("the server ended: " + "\n".join(self.lines))
        return self._said(r"^READY (http://\S+)")

    def _said(self, pattern: str) -> str | None:
        return next((found[1] for line in list(self.lines) if (found := re.search(pattern, line))), None)

    def operator(self, *words: str) -> "Ended":
        environment = clean_environment() | {"AFTERWORD_DATA": str(self.folder), **self.environment}
        environment["AFTERWORD_SMTP"] = f"smtp://127.0.0.1:{self.mail.port}"
        environment["AFTERWORD_OPERATOR"] = "operator@ngo.example"
        environment["AFTERWORD_URL"] = self.url
        return run([*AFTERWORD, *words], environment)

    def stop(self) -> int:
        """As systemd does it."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """As a power cut looks to a process."""
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


class Person:
    """Somebody at a terminal, with a home of their own and a passphrase in a file."""

    def __init__(self, name: str, folder: Path, mail: Mailroom) -> None:
        self.name = name
        self.home = folder / "home"
        self.address = f"{name.split()[0].lower()}@example.org"
        self.mail = mail
        self.secret = folder / "passphrase"
        folder.mkdir(parents=True, exist_ok=True)
        self.secret.write_text(f"correct horse battery staple {name}\n")
        self.secret.chmod(0o600)
        self.words: dict[int, str] = {}
        self.card: list[str] = []
        self.told: Callable[[str, Ended], None] = lambda command, ended: None

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment() | {
            "AFTERWORD_HOME": str(self.home),
            "AFTERWORD_PASSPHRASE_FILE": str(self.secret),
        }

    def type(self, *words: str, answers: Mapping[str, str] | None = None, code: int | None = 0) -> Ended:
        """Run one command; `answers` maps a pattern in what it asks to what is typed."""
        ended = converse([*AFTERWORD, *words], self.environment, answers or {}, self.words)
        self.told(" ".join(words), ended)
        if code is not None and ended.code != code:
            raise Failed(
                f"{self.name}: afterword {' '.join(words)} ended with {ended.code}, not {code}:\n{ended.said}"
            )
        return ended

    def join(self, invite: str) -> Ended:
        ended = self.type("join", invite, "--label", self.name)
        shown = re.search(r"read aloud[^\n]*\n\s+([a-z ]+)\n", ended.out)
        assert shown is not None, ended.out
        self.card = shown[1].split()
        return ended

    def confirm_address(self, language: str = "en") -> None:
        """Add the address, read the letter, type the code."""
        self.type(
            "address",
            "add",
            self.address,
            "--language",
            language,
            "--phrase",
            f"the blue door of {self.name}",
        )
        letter = until(lambda: self.mail.to(self.address), f"a code for {self.name}")[-1]
        code = re.search(r"address confirm (\S+)", read(letter))
        assert code is not None
        self.type("address", "confirm", code[1])

    def compare(self, other: "Person") -> None:
        """Hear the other's ten words by telephone, and type them."""
        self.type("card", "compare", other.name, answers={r"ords": " ".join(other.card)})


def converse(
    command: list[str], environment: Mapping[str, str], answers: Mapping[str, str], words: dict[int, str]
) -> Ended:
    """Run a command and answer what it asks: `Word 7` from the 24 words it showed, the rest from `answers`."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    heard = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    answered = 0
    open_ends = set(heard)
    end = time.monotonic() + 10 * PATIENCE
    while open_ends:
        if time.monotonic() > end:
            process.kill()
            raise Failed(f"{' '.join(command)} did not end:\n{b''.join(heard.values()).decode()}")
        ready, _, _ = select.select(list(open_ends), [], [], 1)
        for each in ready:
            piece = os.read(each, 65_536)
            if not piece:
                open_ends.discard(each)
            heard[each] += piece
        talk = heard[process.stderr.fileno()].decode(errors="replace")
        asked = talk[answered:]
        if asked.endswith(": ") and process.stdin is not None:
            for number, word in re.findall(r"(?<!\S)(\d+) ([^\W\d]+)(?!\S)", talk):
                words.setdefault(int(number), word)
            reply = _reply(asked.rstrip().rpartition("\n")[2], answers, words)
            if reply is not None:
                answered = len(talk)
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(reply.encode() + b"\n")
                    process.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    code = process.wait(PATIENCE)
    return Ended(
        code, *(heard[pipe.fileno()].decode(errors="replace") for pipe in (process.stdout, process.stderr))
    )


def _reply(prompt: str, answers: Mapping[str, str], words: Mapping[int, str]) -> str | None:
    for pattern, reply in answers.items():
        if re.search(pattern, prompt):
            return reply
    if (found := re.search(r"Word (\d+)", prompt)) and int(found[1]) in words:
        return words[int(found[1])]
    if re.search(r"From word 1\b", prompt):
        return " ".join(words[place] for place in sorted(words))
    if "[y/N]" in prompt:
        return "y"
    return None


def run(command: list[str], environment: Mapping[str, str]) -> Ended:
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, timeout=10 * PATIENCE
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    """What every process gets: nothing of the machine's own Afterword, a fixed language and zone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AFTERWORD_")}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass
class Cast:
    """Everybody in one folder, cleaned up afterwards."""

    folder: Path
    mail: Mailroom
    server: Server
    people: dict[str, Person] = field(default_factory=dict)

    def person(self, name: str) -> Person:
        who = Person(name, self.folder / name.split()[0].lower(), self.mail)
        self.people[name] = who
        return who

    def newsroom(self, journalist: str, colleagues: list[str]) -> tuple[Person, list[Person]]:
        """A journalist and colleagues who joined, confirmed an address each, and compared cards."""
        hers = self.person(journalist)
        assert self.server.invite is not None
        hers.join(self.server.invite)
        hers.confirm_address()
        others = []
        for name in colleagues:
            invited = hers.type("collaborator", "invite", name)
            link = re.search(r"http\S+/join#\S+", invited.out)
            assert link is not None, invited.out
            other = self.person(name)
            other.join(link[0])
            other.confirm_address()
            hers.compare(other)
            other.compare(hers)
            others.append(other)
        return hers, others


@contextlib.contextmanager
def cast(folder: Path, **options: Any) -> Iterator[Cast]:
    """A mail server and a server in `folder`, both ended at the end."""
    mail = Mailroom()
    server = Server(folder / "server", mail, **options)
    try:
        yield Cast(folder, mail, server.start())
    finally:
        server.stop()
        mail.close()


def same_files(ours: Path, theirs: Path) -> list[str]:
    """What differs between two folders, file by file; nothing when they are identical."""
    import hashlib

    def sums(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    mine, others = sums(ours), sums(theirs)
    return sorted(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name))


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
