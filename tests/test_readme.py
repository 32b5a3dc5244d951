"""The README tells the truth: its transcripts are played against a real server, its help texts are the real ones."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import commands_page
import pytest
import theatre
import transcript
from theatre import Cast, Failed, Person
from transcript import Step

from cli.main import PLACES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("docs/decisions/*.md"),
    *ROOT.glob("deploy/*.md"),
]
SHOWN_URL = "https://box.example.org"
TITLE = "Harbour"
QUICK = ("--every", "2s", "--remind", "1s", "--warn", "1s", "--grace", "1s")


@dataclass
class Playing:
    """The people of the README, at their terminals."""

    cast: Cast
    invites: dict[str, str] = field(default_factory=dict)

    def play(self, steps: list[Step]) -> None:
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        who = self.person(step.who)
        environment = {**who.environment}
        del environment["AFTERWORD_PASSPHRASE_FILE"]

        def reply(question: str, above: str) -> str:
            typed = step.typed(question)
            if "…" not in typed:
                secret = question.startswith("Passphrase") and not typed
                return who.secret.read_text().splitlines()[0] if secret else typed
            return self.known(who, step.command, question, above)

        command = step.command
        if "…" in command:
            command = command.replace("…", self.known(who, command, "code", ""))
        code, seen = transcript.at_a_terminal(command, environment, who.home.parent, reply)
        seen = seen.replace(self.cast.server.url, SHOWN_URL)
        assert step.fits(seen), (
            f"\n$ {step.command}\n--- the README shows\n{step.shown}\n--- and seen was\n{seen}"
        )
        assert code == 0, seen
        self.learn(who, step, seen)

    def person(self, name: str) -> Person:
        return self.cast.people.get(name.title()) or self.cast.person(name.title())

    def known(self, who: Person, command: str, question: str, above: str) -> str:
        """What the README leaves out because it is another each time."""
        if question.startswith("The whole address"):
            return self.invites[who.name]
        if found := re.match(r"Word (\d+)", question):
            listed = dict(re.findall(r"(?<!\S)(\d+) ([a-z]+)(?!\S)", above.split("\n\n", 1)[1]))
            return listed[found[1]]
        if question.startswith("Words heard"):
            return " ".join(self.person(command.split()[-1]).card)
        if question == "code":
            letter = theatre.until(lambda: self.cast.mail.to(who.address), f"a code for {who.name}")[-1]
            code = re.search(r"address confirm (\S+)", theatre.read(letter))
            assert code is not None
            return code[1]
        raise Failed(f"{command}: nobody knows what to type at {question!r}")

    def learn(self, who: Person, step: Step, seen: str) -> None:
        if step.command.startswith("afterword join"):
            shown = re.search(r"read aloud[^\n]*\n\s+([a-z ]+)\n", seen)
            assert shown is not None
            who.card = shown[1].split()
            who.quicken()
        if step.command.startswith("afterword collaborator invite"):
            link = re.search(r"https?://\S+", seen)
            assert link is not None
            self.invites[step.command.split()[-1]] = link[0].replace(SHOWN_URL, self.cast.server.url)

    def colleague(self, name: str) -> Person:
        """One of whom the README says only: likewise."""
        ana, who = self.person("ana"), self.cast.person(name)
        link = re.search(r"http\S+/join#\S+", ana.type("collaborator", "invite", name).out)
        assert link is not None
        who.join(link[0])
        who.quicken()
        ana.compare(who)
        return who


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Playing]:
    with theatre.cast(tmp_path) as cast:
        assert cast.server.invite is not None
        yield Playing(cast, {"Ana": cast.server.invite})


def test_both_five_minutes_go_as_the_readme_shows_them(playing: Playing) -> None:
    blocks = transcript.read(README)
    ana = iter([block for block in blocks if block[0].who == "ana"])
    bruno = iter([block for block in blocks if block[0].who == "bruno"])
    desk = playing.person("ana").home.parent / "investigation"
    (desk / "notes").mkdir(parents=True)
    (desk / "notes" / "to do.txt").write_text("call the harbour master\n")
    (desk / "interview.wav").write_bytes(bytes(range(256)) * 20_000)
    (desk.parent / "read first.txt").write_text("Call our lawyer before anything else.\n")

    playing.play(next(ana))  # joins, and invites
    playing.play(next(bruno))  # joins, and compares
    chiara, _ = playing.colleague("Chiara"), playing.colleague("Daniel")
    playing.play(next(ana))  # compares, creates, deposits
    playing.play(next(bruno))  # drills
    chiara.type("drill")
    playing.play(next(ana))  # arms and checks in
    assert next(ana, None) is None

    # Her plan is of days: here she makes it one of seconds, and falls silent.
    playing.person("ana").type("plan", TITLE, *QUICK)
    bruno_at_desk = playing.person("bruno")
    playing.cast.mail.saying(bruno_at_desk.address, "can now be opened")
    chiara.type("give", TITLE)
    playing.play(next(bruno))  # recovers
    assert next(bruno, None) is None
    recovered = bruno_at_desk.home.parent / "Harbour from Ana" / "investigation"
    assert (recovered / "notes" / "to do.txt").read_bytes() == (desk / "notes" / "to do.txt").read_bytes()
    assert (recovered / "interview.wav").read_bytes() == (desk / "interview.wav").read_bytes()
    shutil.rmtree(recovered)


@pytest.mark.parametrize(
    "seen",
    [
        "Passphrase: \nDeposited 3 files.\n",
        "Passphrase: \nDeposited 2 files.\nWarning: something.\n",
        "Deposited 2 files.\n",
    ],
)
def test_a_transcript_that_is_not_what_was_seen_is_noticed(seen: str) -> None:
    step = Step("ana", "afterword push Harbour …", "Passphrase:\nDeposited 2 files.\n")
    assert not step.fits(seen)


def test_dots_stand_for_anything_and_lines_may_break_anywhere() -> None:
    step = Step("ana", "afterword checkin", "Checked in at … UTC,\nand all is well.")
    assert step.fits("Checked in at 2026-11-22 16:39 UTC, and all is\nwell.\n")
    assert not step.fits("Checked in at 2026-11-22 16:39, and all is well.")


def test_the_page_of_commands_is_what_help_prints() -> None:
    assert commands_page.PAGE.read_text(encoding="utf-8") == commands_page.page(), (
        "run: python tests/commands_page.py"
    )


def test_help_at_a_terminal_is_what_the_page_shows(tmp_path: Path) -> None:
    def nobody(question: str, above: str) -> str:
        raise Failed(question)

    page = commands_page.PAGE.read_text(encoding="utf-8")
    for command in ("afterword push", "afterword card compare", "afterword operator backup"):
        code, seen = transcript.at_a_terminal(
            f"{command} --help", theatre.clean_environment(), tmp_path, nobody
        )
        assert code == 0
        shown = page.partition(f"### {command}\n\n```text\n")[2].partition("\n```\n")[0]
        assert " ".join(shown.split()) == " ".join(seen.split())


def test_every_command_is_on_the_page() -> None:
    page = commands_page.PAGE.read_text(encoding="utf-8")
    for name in PLACES:
        assert f"\n### afterword {name}\n" in page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert broken == []
