"""Every request of what is said most often, on a line that resets, cuts, stalls, halves or loses the answer.

A command on such a line either succeeds by itself or says in a sentence that it did not; said again on a sound line it
succeeds; and what was asked for has then happened once.
"""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
import rehearsal
from line import Rule
from rehearsal import TITLE
from theatre import Cast, Ended, Frozen, Person

from tests.fire.tally import FULL, count, wrong

FAULTS: dict[str, dict[str, object]] = {
    "reset": {"refuses": True},
    "cut": {"cuts": 10},
    "stalled": {"holds": True},
    "halved": {"halves": True},
    "lost": {"drops": True},
}


@dataclass(frozen=True)
class Said:
    """A command that somebody types, and what must be so after it was said until it succeeded."""

    who: str
    words: tuple[str, ...]
    done: Callable[[Cast], int]
    """How often what it asks for has happened; rises by one with each success."""
    ready: tuple[str, ...] = ()
    """What is typed before, on a sound line."""


def noted(what: str) -> Callable[[Cast], int]:
    return lambda cast: len(rehearsal.history(cast, what))


def bundles(cast: Cast) -> int:
    with closing(sqlite3.connect(f"file:{cast.server.folder}/afterword.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT COUNT(*) FROM heads").fetchone()[0])


PAUSE, RESUME = ("pause", TITLE, "--until", "1h"), ("resume", TITLE)
COMMANDS = {
    "checkin": Said("Ana", ("checkin",), noted("checkin")),
    "push": Said("Ana", ("push", TITLE, "{fresh}"), bundles),
    "pause": Said("Ana", PAUSE, noted("pause"), RESUME),
    "resume": Said("Ana", RESUME, noted("resume"), PAUSE),
    "plan": Said("Ana", ("plan", TITLE, "--every", "{every}"), noted("plan")),
    "brief": Said("Ana", ("brief", TITLE, "{page}"), noted("brief")),
    "drill": Said("Bruno", ("drill",), noted("proof")),
}


@pytest.fixture(scope="module")
def cast(prepared: Frozen, stage: Callable[..., object]) -> Iterator[Cast]:
    with stage(prepared) as made:  # type: ignore[attr-defined]  # a context manager
        made["Ana"].type("arm", TITLE)
        yield made
        assert rehearsal.stage_of(made["Ana"]) in ("armed", "paused")


class Desk:
    """Words with something new in them each time, so that saying them again has something to do."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.turn = 0

    def fill(self, words: tuple[str, ...]) -> list[str]:
        self.turn += 1
        fresh = self.cast.folder / "work" / f"fresh {self.turn}.txt"
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(f"what was found on day {self.turn}\n" * 50)
        page = self.cast.folder / "page.txt"
        page.write_text(f"Call the lawyer on day {self.turn}.\n")
        told = {"fresh": str(fresh), "page": str(page), "every": f"{60 - self.turn % 40}m"}
        return [word.format(**told) for word in words]


def requests_of(cast: Cast, who: Person, words: list[str]) -> list[tuple[str, str]]:
    before = len(cast.line.asked)
    who.type(*words)
    return [each for each in cast.line.asked[before:] if not each[1].endswith("/health")]


class Nth(Rule):
    """Meets the requests of a command in their order, whatever they ask; the server's own knock is none of them."""

    def fits(self, method: str, path: str) -> bool:
        return not path.endswith("/health")


def under(cast: Cast, fault: str, place: int, type: Callable[[], Ended]) -> Ended:
    rule = Nth("", "", times=1, skip=place, **FAULTS[fault])  # type: ignore[arg-type]  # one of each kind
    go_on = threading.Thread(target=lambda: rule.held.wait(60) and rule.go_on())
    go_on.start()
    with cast.line.under(rule):
        try:
            return type()
        finally:
            rule.held.set()
            go_on.join()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_on_a_bad_line_does_its_work_once(cast: Cast, name: str) -> None:
    said = COMMANDS[name]
    who, desk = cast[said.who], Desk(cast)
    if said.ready:
        who.type(*said.ready, code=None)  # it may stand so already
    asked = requests_of(cast, who, desk.fill(said.words))
    assert asked
    scenes = [(fault, place) for place in range(len(asked)) for fault in FAULTS]
    if not FULL:
        scenes = scenes[:: max(1, len(scenes) // 5)]
    for fault, place in scenes:
        method, path = asked[place]
        if said.ready:
            who.type(*said.ready)
        words = desk.fill(said.words)
        before = said.done(cast)
        ended = under(cast, fault, place, lambda words=words: who.type(*words, code=None))  # type: ignore[misc]
        assert "Traceback" not in ended.said, (fault, method, path, ended.said)
        if ended.code != 0:
            assert re.fullmatch(r"afterword: [a-z-]+", ended.err.strip().splitlines()[-1]), ended.said
            again = who.type(*words, code=None)
            # What had been done after all, though nobody said so, cannot be done twice.
            done = ("afterword: not-possible-now\n", "afterword: nothing-changed\n")
            assert again.code == 0 or again.err.endswith(done), again.said
        happened = said.done(cast) - before
        if happened < 1 and name == "checkin":
            wrong("lost check-ins")
        # A check-in that was signed anew because its answer was lost for good has happened twice, and harms nobody.
        assert happened == 1 or (happened == 2 and ended.code != 0 and name != "push"), (
            fault,
            method,
            path,
            happened,
        )
        count("requests on a bad line")
