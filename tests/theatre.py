"""Real processes for stories and the demo: a server, a mail server, and people with a home each.

Nothing here reaches inside of the program: people type commands, read what is printed, and read their mail.
"""

import contextlib
import email.policy
import json
import os
import re
import select
import shutil
import signal
import sqlite3
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
from line import Line

PATIENCE = 120.0
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
        self.unknown: set[str] = set()
        """Mailboxes that do not exist."""
        self.turned_away = 0
        self.told: Callable[[EmailMessage], None] = lambda letter: None
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0)
        self._controller.start()
        self.port = self._controller.port

    async def handle_RCPT(
        self, server: object, session: object, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            self.turned_away += 1
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        if self.refusing:
            self.turned_away += 1
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
    line: Line | None = None
    """What everybody goes through, the server's own probe too; without one they speak to it directly."""
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
        command += ["--url", self.line.url] if self.line else []
        self.process = subprocess.Popen(
            [*command, *self.options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._ear = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self._ear.start()
        self.url = until(self._ready, "the server to be ready")
        if self.line is not None:
            self.line.server = self.url
        if (invite := self._said(r"(http\S+/join#\S+)")) is not None:
            self.invite = invite
        return self

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.lines.append(line.rstrip("\n"))

    def _ready(self) -> str | None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise Failed("the server ended: " + "\n".join(self.lines))
        return self._said(r"^READY (http://\S+)")

    def _said(self, pattern: str) -> str | None:
        return next((found[1] for line in list(self.lines) if (found := re.search(pattern, line))), None)

    def operator(self, *words: str, **more: str) -> "Ended":
        """One of the operator's commands on this server's folder, while it runs or not."""
        environment = clean_environment() | {
            "AFTERWORD_DATA": str(self.folder),
            "AFTERWORD_ALLOW_SHORT": "on" if self.short else "off",
            "AFTERWORD_LOW_WATER": "0",
            **self.environment,
            **more,
        }
        environment["AFTERWORD_SMTP"] = f"smtp://127.0.0.1:{self.mail.port}"
        environment["AFTERWORD_OPERATOR"] = "operator@ngo.example"
        environment["AFTERWORD_URL"] = self.line.url if self.line else self.url
        return run([*AFTERWORD, *words], environment)

    def parts(self) -> dict[str, int]:
        """The processes of this server by what they do, as the kernel lists them."""
        assert self.process is not None
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            words = {int(pid): Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in children}
        except FileNotFoundError:
            return {}
        return {line[line.index("operator") + 1]: pid for pid, line in words.items() if "operator" in line}

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
        code = self.process.wait(PATIENCE)
        self._ear.join(PATIENCE)
        return code


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

    def type(
        self,
        *words: str,
        answers: Mapping[str, str] | None = None,
        code: int | None = 0,
        dying: Callable[[str], bool] | None = None,
        **more: str,
    ) -> Ended:
        """Run one command; `answers` maps a pattern in what it asks to what is typed. It is killed (-9) once `dying`
        is true of what it has said; `more` goes into its environment."""
        ended = converse([*AFTERWORD, *words], self.environment | more, answers or {}, self.words, dying)
        self.told(" ".join(words), ended)
        if code is not None and ended.code != code:
            raise Failed(
                f"{self.name}: afterword {' '.join(words)} ended with {ended.code}, not {code}:\n{ended.said}"
            )
        return ended

    def refused(self, code: str, *words: str, answers: Mapping[str, str] | None = None, **more: str) -> Ended:
        """A command that has to fail with this stable code, in a sentence, and never with a traceback."""
        ended = self.type(*words, answers=answers, code=None, **more)
        last = ended.err.strip().splitlines()[-1:]
        if ended.code == 0 or last != [f"afterword: {code}"] or "Traceback" in ended.said:
            raise Failed(
                f"{self.name}: {' '.join(words)}: {code} expected, ended {ended.code}:\n{ended.said}"
            )
        return ended

    def ask(self, *words: str, code: int | None = 0) -> Any:
        """The answer of a command as JSON."""
        return json.loads(self.type(*words, "--json", code=code).out)

    def join(self, invite: str) -> Ended:
        ended = self.type("join", invite, "--label", self.name)
        self.learn_card(ended)
        return ended

    def learn_card(self, ended: Ended) -> None:
        """The ten words of one's own card, as `join` shows them."""
        shown = re.search(r"read aloud[^\n]*\n\s+([a-z ]+)\n", ended.out)
        assert shown is not None, ended.out
        self.card = shown[1].split()

    def quicken(self) -> None:
        """Seal the keyring at a low cost: a second of scrypt for every command is most of what a story waits for."""
        from vault import identity

        keyring, passphrase = self.home / "keyring.age", self.secret.read_text().splitlines()[0]
        opened = identity.read_keyring(keyring.read_bytes(), passphrase)
        keyring.write_bytes(identity.write_keyring(opened, passphrase, os.urandom, work_factor=4))

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
    command: list[str],
    environment: Mapping[str, str],
    answers: Mapping[str, str],
    words: dict[int, str],
    dying: Callable[[str], bool] | None = None,
) -> Ended:
    """Run a command and answer what it asks: `Word 7` from the 24 words it showed, the rest from `answers`."""
    process = subprocess.Popen(
        command,
        bufsize=0,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            return _hear_out(process, answers, words, dying)
        except BaseException:
            process.kill()
            raise


def _hear_out(
    process: subprocess.Popen[bytes],
    answers: Mapping[str, str],
    words: dict[int, str],
    dying: Callable[[str], bool] | None,
) -> Ended:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.fileno(), process.stderr.fileno()
    heard = {out: b"", err: b""}
    answered = 0
    open_ends = set(heard)
    silent_since = time.monotonic()
    while open_ends:
        if time.monotonic() - silent_since > 2 * PATIENCE:
            raise Failed(f"a command waits for ever:\n{b''.join(heard.values()).decode(errors='replace')}")
        ready, _, _ = select.select(list(open_ends), [], [], 1 if dying is None else 0.02)
        for each in ready:
            silent_since = time.monotonic()
            piece = os.read(each, 65_536)
            if not piece:
                open_ends.discard(each)
            heard[each] += piece
        talk = heard[err].decode(errors="replace")
        if dying is not None and dying(talk):
            process.kill()
            dying = None
            continue
        asked = talk[answered:]
        if asked.endswith(": "):
            prompt = asked.rstrip().rpartition("\n")[2]
            if re.search(r"Word \d+", prompt):
                shown = re.findall(r"(?<!\S)(\d+) ([^\W\d]+)(?!\S)", talk)
                words.update((int(number), word) for number, word in shown)
            reply = _reply(prompt, answers, words)
            if reply is not None:
                answered = len(talk)
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(reply.encode() + b"\n")
                    process.stdin.flush()
    return Ended(process.wait(PATIENCE), *(heard[end].decode(errors="replace") for end in (out, err)))


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

    @property
    def line(self) -> Line:
        assert self.server.line is not None
        return self.server.line

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    def person(self, name: str) -> Person:
        who = Person(name, self.folder / name.split()[0].lower(), self.mail)
        self.people[name] = who
        return who

    def newsroom(
        self, journalist: str, colleagues: list[str], *, quickly: bool = False
    ) -> tuple[Person, list[Person]]:
        """A journalist and colleagues who joined, confirmed an address each, and compared cards."""
        hers = self.person(journalist)
        assert self.server.invite is not None
        self._settle(hers, self.server.invite, quickly)
        others = []
        for name in colleagues:
            other = self.person(name)
            self._settle(other, self.invite(hers, name), quickly)
            hers.compare(other)
            other.compare(hers)
            others.append(other)
        return hers, others

    def invite(self, journalist: Person, label: str) -> str:
        """The address that she gives to one colleague."""
        invited = journalist.type("collaborator", "invite", label)
        link = re.search(r"http\S+/join#\S+", invited.out)
        assert link is not None, invited.out
        return link[0]

    @staticmethod
    def _settle(who: Person, invite: str, quickly: bool) -> None:
        who.join(invite)
        if quickly:
            who.quicken()
        who.confirm_address()

    def freeze(self) -> "Frozen":
        """Stop the server and keep everything as it is, so that other stories can begin here."""
        self.server.stop()
        return Frozen(self.folder, self.people)


@dataclass(frozen=True)
class Frozen:
    """A whole cast at rest: the server's folder and everybody's home."""

    folder: Path
    people: Mapping[str, Person]

    @contextlib.contextmanager
    def thaw(self, folder: Path, **options: Any) -> Iterator[Cast]:
        """The same people with the same server, elsewhere, as if nothing had happened to the others."""
        shutil.copytree(self.folder, folder, symlinks=True)
        with cast(folder, line=Line(), **options) as copy:
            for name, old in self.people.items():
                who = copy.person(name)
                who.words, who.card, who.address = dict(old.words), list(old.card), old.address
                move(who.home, copy.line.url)
            yield copy


def move(home: Path, url: str) -> None:
    """Let a home find its server at another address."""
    with contextlib.closing(sqlite3.connect(home / "state.db", isolation_level=None)) as db:
        db.execute("UPDATE facts SET value = ? WHERE name = 'url'", (url.encode(),))


@contextlib.contextmanager
def cast(folder: Path, *, line: Line | None = None, **options: Any) -> Iterator[Cast]:
    """A mail server and a server in `folder`, both ended at the end."""
    mail = Mailroom()
    server = Server(folder / "server", mail, line=line, **options)
    try:
        yield Cast(folder, mail, server.start())
    finally:
        server.stop()
        mail.close()
        if line is not None:
            line.close()


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
