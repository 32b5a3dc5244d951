"""After a whole life, what was nobody's business stands nowhere: not on the server, not in a log, not in a letter,
and what was deposited not in anybody's home either.
"""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from rehearsal import COLLEAGUES, NEWCOMER, TITLE, moves
from theatre import Cast, Frozen, read, until

Stage = Callable[..., Any]
INSIDE = (
    TITLE,
    "numbat",
    "pangolin",
    "aardvark",
    "okapi",
    "dik-dik",
    "tapir",
    "fossa",
    "crane;harbour",
    "Okonjo-Tamarind",
    "the film is new",
    "begun afresh",
)
PEOPLE = ("Ana", *COLLEAGUES, NEWCOMER)


def spelled(word: str) -> Iterator[bytes]:
    """As it may stand in a file: plain, in JSON, in hex, and in base64 at each of its three places."""
    for raw in {word.encode(), json.dumps(word)[1:-1].encode(), word.encode("utf-16-le")}:
        yield raw
        yield raw.hex().encode()
        for shift in range(3):
            whole = base64.b64encode(bytes(shift) + raw)[4 if shift else 0 : -4]
            if len(whole) > 7:
                yield whole


def told_in(data: bytes, words: list[str]) -> set[str]:
    lower = data.lower()
    return {word for word in words if any(each in data or each.lower() in lower for each in spelled(word))}


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def check(folder: Path, words: list[str]) -> None:
    for path, data in files(folder):
        assert told_in(data, words) == set(), path
        assert told_in(str(path.relative_to(folder)).encode(), words) == set(), path


def test_after_a_whole_life_no_planted_word_is_found_anywhere(released: Frozen, stage: Stage) -> None:
    with stage(released) as cast:
        live_on(cast)
        codes = {
            word
            for each in cast.mail.letters
            if "address confirm" in read(each)
            for word in code_in(read(each))
        }
        assert codes
        cast.server.stop()
        secrets = [
            *INSIDE,
            *codes,
            *(cast[name].address for name in PEOPLE),
            "third@example.org",
            "operator@ngo.example",
            "the blue door of",
            "correct horse battery staple",
            *(" ".join(cast[name].card) for name in PEOPLE),
        ]
        check(cast.server.folder, secrets)
        with closing(sqlite3.connect(cast.server.folder / "afterword.db")) as db:
            dump = "\n".join(db.iterdump())
        # As text too: a dump spells every blob in hex, as nobody would look for it.
        assert told_in(dump.encode(), secrets) == set()
        for name in PEOPLE:
            assert f'"{name}"' not in dump
            assert f'"{name}"'.encode().hex() not in dump.lower()
        assert told_in("\n".join(cast.server.lines).encode(), secrets) == set()
        # In the homes: neither what was deposited nor what it is called, in any file of theirs.
        for name in PEOPLE:
            check(cast[name].home, [*INSIDE, "the blue door of", "correct horse battery staple", *codes])
            for each in cast.mail.letters:
                assert told_in(each.as_bytes(), list(INSIDE)) == set()
        # That the search would find something: the words are where they belong.
        assert told_in((cast.folder / "out" / "tapir" / "fossa list.txt").read_bytes(), ["begun afresh"])


def live_on(cast: Cast) -> None:
    """What is left of a life after the release: shares given, everything recovered, an address changed."""
    bruno, chiara = cast["Bruno"], cast["Chiara"]
    bruno.type("give", TITLE, "--yes")
    chiara.type("recover", TITLE, "--to", str(cast.folder / "out"), "--yes")
    bruno.type("brief", TITLE)
    bruno.type("inbox")
    first, bruno.address = bruno.address, "third@example.org"
    bruno.confirm_address()
    bruno.type("address", "remove", first)
    bruno.address = first
    cast["Ana"].type("status")
    until(lambda: moves(cast)[-1].after == "released", "the release")
    assert cast.server.operator("doctor", "--data", str(cast.server.folder)).out


def code_in(text: str) -> list[str]:
    return [text.split("address confirm ")[1].split()[0]]
