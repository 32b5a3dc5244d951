"""After the release: who can open the archive, who cannot, and what a lying server or a hostile colleague can do.

Every recovery is held to the files as they lay on her desk: what was written is identical, what is not there is named.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rehearsal import TITLE, a_card, a_small_disk, session_of
from theatre import Cast, Ended, Frozen, Person, read, same_files

from cli import combine, released
from vault import age, envelope, sharing, statements
from vault.sharing import DealtShare, Share
from vault.statements import Contribution, Head, SealedTo

Stage = Callable[..., Any]
KILLED = -9
INTEROP = Path(__file__).parent / "interop"
_numbers = count()


@pytest.fixture(scope="module")
def opened(released: Frozen, stage: Stage) -> Iterator[Cast]:
    """Released, and Chiara has given: any other colleague can recover."""
    with stage(released) as cast:
        cast["Chiara"].type("give", TITLE, "--yes")
        yield cast


def a_folder(who: Person) -> Path:
    return who.home.parent / f"out {next(_numbers)}"


def recover(who: Person, *more: str, code: int | None = 0) -> tuple[Path, Ended]:
    target = a_folder(who)
    return target, who.type("recover", TITLE, "--to", str(target), "--yes", *more, code=code)


def contents(folder: Path) -> list[str]:
    """The SHA-256 of every file below, sorted: for names that are not the same on both sides."""
    return sorted(
        hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.rglob("*")
        if each.is_file() and not each.is_symlink()
    )


def check_whole(cast: Cast, target: Path) -> None:
    work = cast.folder / "work"
    assert same_files(work / "tapir", target / "tapir") == []
    assert same_files(work / "numbat", target / "earlier" / "numbat") == []
    assert contents(work / "okapi") == contents(target / "earlier" / "okapi")
    assert (target / "earlier" / "numbat" / "unsorted").is_dir()
    assert all(each.name.isprintable() for each in target.rglob("*"))


def check_part(cast: Cast, target: Path, problems: list[dict[str, str]]) -> None:
    """Whatever was written is a file of hers; and something is named as missing."""
    assert problems
    assert all(each["why"] for each in problems)
    hers = contents(cast.folder / "work")
    old = hashlib.sha256(b"crane;harbour;900\n" * 5_000).hexdigest()
    assert set(contents(target)) <= {*hers, old}
    named = sum("bundle" not in each["path"] for each in problems)
    assert len(contents(target)) + named <= len(hers)


# Shares.


def test_one_share_opens_nothing_and_says_who_is_still_missing(released: Frozen, stage: Stage) -> None:
    with stage(released) as cast:
        bruno, chiara, daniel = cast["Bruno"], cast["Chiara"], cast["Daniel"]
        inbox = bruno.type("inbox").out
        assert "RELEASED" in inbox
        assert "Okonjo-Tamarind" in bruno.type("brief", TITLE).out
        # Asked and not answered with yes: nothing is given.
        bruno.refused("not-confirmed", "recover", TITLE, "--to", str(a_folder(bruno)), answers={"N": "n"})
        assert chiara.ask("inbox")["dossiers"][0]["given"] == 0
        target, alone = recover(bruno, code=None)
        assert alone.code == 3, alone.said
        assert "Still missing: Chiara, Daniel; 1 more needed" in alone.err
        assert "last sign of life" in alone.err
        assert not target.exists()
        # A hostile colleague: a share of nothing, of another epoch, of another dossier. Each is named, none counts.
        honest = chiara.ask("inbox")["dossiers"][0]["dossier"]
        for forge, why in [
            (
                lambda dealt: replace(dealt, share=Share(dealt.share.index, os.urandom(32))),
                "",
            ),
            (lambda dealt: replace(dealt, epoch=7), "epoch 7"),
            (lambda dealt: replace(dealt, dossier=os.urandom(16)), "another dossier"),
        ]:
            give_forged(daniel, honest, forge)
            target, ended = recover(bruno, code=None)
            assert ended.code == 3
            assert "the share of Daniel cannot be used and is left out" in ended.err
            assert why in ended.err
            assert not target.exists()
        chiara.type("give", TITLE, "--yes")
        target, done = recover(bruno)
        assert "the share of Daniel cannot be used" in done.err
        check_whole(cast, target)
        target, done = recover(chiara)
        check_whole(cast, target)
        assert "has the archive" in cast["Ana"].type("status").out
        # Somebody who is on no roster gets nothing at all.
        assert (
            cast["Elif"].type("recover", TITLE, "--to", str(a_folder(chiara)), "--yes", code=None).code == 4
        )


def give_forged(who: Person, dossier: str, forge: Callable[[DealtShare], DealtShare]) -> None:
    """Post a contribution that is well signed and holds something else than the share that was dealt."""
    session = session_of(who)
    with session.remote, closing(session.home):
        case = released.open_case(session.home, session.remote, dossier)
        mine = combine.open_own_share(session.remote, session.keyring, case)
        others = [card for at, card in enumerate(case.cards) if at != case.place]
        written = sharing.write_share(forge(mine))
        blobs = [age.seal(written, card.recipient, os.urandom) for card in others]
        readers = tuple(
            SealedTo(card.hash.hex(), hashlib.sha256(blob).hexdigest())
            for card, blob in zip(others, blobs, strict=True)
        )

        def make(seq: int) -> Contribution:
            return Contribution(
                case.server,
                dossier,
                seq,
                case.roster.roster.epoch,
                case.roster.hash.hex(),
                mine.share.index,
                readers,
                1_800_000_000_000,
            )

        session.remote.submit(session.home, session.keyring, dossier, make, blobs)


# The whole of it, and parts.


def test_what_is_recovered_can_be_chosen_and_is_always_verified(opened: Cast) -> None:
    bruno = opened["Bruno"]
    target, done = recover(bruno)
    check_whole(opened, target)
    assert "3 bundles" in done.out
    assert "complete, signed by Ana" in done.out
    assert "1 file has earlier versions" in done.out
    assert "bundle 3 started afresh" in done.out
    assert "note: begin with the pangolin ledger" in done.out
    # What is in it, without writing anything.
    listed = bruno.ask("recover", TITLE, "--list", "--yes")
    assert {each["path"] for each in listed["entries"]} >= {
        "tapir/fossa list.txt",
        "earlier/numbat/pangolin ledger.csv",
    }
    target, _ = recover(bruno, "--only", "earlier/numbat/scans")
    assert {each.name for each in target.rglob("*.*")} == {"aardvark one.jpg", "aardvark two.jpg"}
    bruno.refused("no-such-path", "recover", TITLE, "--yes", "--to", str(a_folder(bruno)), "--only", "never")
    target, _ = recover(bruno, "--bundle", "1")
    assert (target / "numbat" / "pangolin ledger.csv").read_bytes() == b"crane;harbour;900\n" * 5_000
    assert not (target / "tapir").exists()
    bruno.refused("no-such-bundle", "recover", TITLE, "--yes", "--to", str(a_folder(bruno)), "--bundle", "9")
    target, _ = recover(bruno, "--all-versions")
    old = [each for each in target.rglob("pangolin*") if b";900" in each.read_bytes()]
    assert len(old) == 1
    # Into a folder that holds something else, nothing is written.
    full = a_folder(bruno)
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    bruno.refused("folder-not-empty", "recover", TITLE, "--yes", "--to", str(full))
    bruno.refused("not-a-folder", "recover", TITLE, "--yes", "--to", str(full / "mine.txt"))
    assert [each.name for each in full.rglob("*")] == ["mine.txt"]


def test_a_recovery_that_was_killed_goes_on_where_it_stopped(opened: Cast) -> None:
    bruno, line = opened["Bruno"], opened.line
    target = a_folder(bruno)
    words = ["recover", TITLE, "--to", str(target), "--yes"]
    for skip in (1, 4):
        with line.holding("GET", "/objects/", skip=skip) as rule:
            bruno.type(*words, dying=lambda _, rule=rule: rule.held.is_set(), code=KILLED)
    # A server that goes away in the middle of an object, too.
    with line.lying("GET", "/objects/", lambda body: body[: len(body) // 2]):
        cut = bruno.type(*words, code=None)
    assert cut.code != 0
    bruno.type(*words)
    check_whole(opened, target)
    assert bruno.type(*words).code == 0, "once more is no error"
    assert not list(target.rglob(".*"))


def test_a_disk_without_room_is_said_before_anything_is_written_and_a_larger_one_will_do(
    opened: Cast,
) -> None:
    chiara = opened["Chiara"]
    place = chiara.home.parent / "small"
    with a_small_disk(place, 2) as resize:
        words = ["recover", TITLE, "--to", str(place / "out"), "--yes"]
        refused = chiara.refused("no-space", *words)
        assert "make room" in refused.err
        resize(40)
        chiara.type(*words)
        check_whole(opened, place / "out")


def test_stock_tools_open_every_object_with_the_identity_that_was_written(opened: Cast) -> None:
    bruno = opened["Bruno"]
    key = bruno.home.parent / "key.txt"
    _, done = recover(bruno, "--write-identity", str(key))
    assert "opens the whole archive" in done.err
    assert key.stat().st_mode & 0o777 == 0o600
    bruno.refused(
        "file-exists", "recover", TITLE, "--yes", "--to", str(a_folder(bruno)), "--write-identity", str(key)
    )
    secret = key.read_text().splitlines()[-1]
    jobs = [
        {"do": "open", "sealed": base64.b64encode(path.read_bytes()).decode(), "identity": secret}
        for path in objects(opened).values()
    ]
    ran = subprocess.run(
        ["node", "age.mjs"], cwd=INTEROP, input=json.dumps(jobs).encode(), capture_output=True, check=True
    )
    answers = json.loads(ran.stdout)
    assert len(answers) == len(jobs) >= 6
    assert {len(base64.b64decode(each["plaintext"])) for each in answers} == {1_046_677}


# A server that lost, damaged or altered something.


def objects(cast: Cast) -> dict[str, Path]:
    return {
        path.name: path
        for path in (cast.server.folder / "objects").rglob("*")
        if path.is_file() and re.fullmatch("[0-9a-f]{64}", path.name)
    }


def heads(cast: Cast) -> list[Head]:
    with closing(sqlite3.connect(f"file:{cast.server.folder}/afterword.db?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT envelope FROM heads ORDER BY bundle").fetchall()
    found = [statements.peek(bytes(row[0])) for row in rows]
    return [each for each in found if isinstance(each, Head)]


@pytest.mark.parametrize("harm", ["flipped", "cut", "emptied", "swapped", "missing"])
def test_an_object_that_the_server_spoilt_costs_only_what_was_in_it(opened: Cast, harm: str) -> None:
    chiara = opened["Chiara"]
    film = heads(opened)[1].objects
    place, other = objects(opened)[film[1]], objects(opened)[film[0]]
    kept = {path: path.read_bytes() for path in (place, other)}
    match harm:
        case "flipped":
            place.chmod(0o600)
            place.write_bytes(kept[place][:500_000] + b"\x00\x01" + kept[place][500_002:])
        case "cut":
            place.write_bytes(kept[place][:700_000])
        case "emptied":
            place.write_bytes(b"")
        case "swapped":
            place.write_bytes(kept[other])
            other.write_bytes(kept[place])
        case "missing":
            place.unlink()
    try:
        target, ended = recover(chiara, "--json", code=None)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    assert ended.code == 6, ended.said
    done = json.loads(ended.out.splitlines()[0])
    assert not done["complete"]
    assert "dik-dik film.mov" in " ".join(each["path"] for each in done["problems"])
    check_part(opened, target, done["problems"])
    assert same_files(opened.folder / "work" / "tapir", target / "tapir") == []
    assert same_files(opened.folder / "work" / "numbat", target / "earlier" / "numbat") == []
    # Repaired, the same command brings what was missing into the same folder.
    chiara.type("recover", TITLE, "--to", str(target), "--yes")
    check_whole(opened, target)


def test_heads_that_were_forged_held_back_or_forked_are_named(
    opened: Cast, stage: Stage, released: Frozen
) -> None:
    daniel, line = opened["Daniel"], opened.line

    def flip(body: bytes) -> bytes:
        said = json.loads(body)
        signed = json.loads(said["heads"][-1])
        payload = json.loads(base64.b64decode(signed["payload"]))
        payload["created"] += 1
        signed["payload"] = base64.b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode()
        said["heads"][-1] = json.dumps(signed, separators=(",", ":"))
        return json.dumps(said).encode()

    def hold_back(body: bytes) -> bytes:
        said = json.loads(body)
        return json.dumps(said | {"heads": said["heads"][:-1]}).encode()

    ana = session_of(opened["Ana"])
    with ana.remote, closing(ana.home):
        key = ana.keyring.sign

    def fork(body: bytes) -> bytes:
        """What another computer of hers might have signed, after the same first bundle."""
        said = json.loads(body)
        first = said["heads"][0].encode()
        second = statements.peek(said["heads"][1].encode())
        third = statements.peek(said["heads"][2].encode())
        assert isinstance(second, Head)
        assert isinstance(third, Head)
        signed = [first]
        for each in (second, third):
            prev = envelope.statement_hash(signed[-1]).hex()
            signed.append(
                statements.write(msgspec.structs.replace(each, prev=prev, created=each.created + 1), key)
            )
        return json.dumps(said | {"heads": [each.decode() for each in signed]}).encode()

    target = a_folder(daniel)
    words = ["recover", TITLE, "--to", str(target), "--yes"]
    for lie, code in ((flip, "head-forged"), (hold_back, "head-rolled-back"), (fork, "head-forked")):
        with line.lying("GET", "/heads", lie):
            daniel.refused(code, *words)
        assert not target.exists()
    # What holds can be had, and the rest is said to be missing.
    with line.lying("GET", "/heads", hold_back):
        ended = daniel.type(*words, "--anyway", "--json", code=6)
    done = json.loads(ended.out.splitlines()[0])
    assert not done["complete"]
    assert [each["path"] for each in done["problems"]] == ["bundles 3 to 3"]
    assert same_files(opened.folder / "work" / "numbat", target / "numbat") == []
    # Not counted as collected: the letters go on, and the whole of it is still to be had.
    mine = next(each for each in daniel.ask("inbox")["dossiers"])
    assert not mine["collected"]
    target, _ = recover(daniel)
    check_whole(opened, target)


def test_a_release_a_roster_or_a_check_in_that_was_altered_moves_nobody(
    released: Frozen, stage: Stage
) -> None:
    with stage(released) as cast:
        bruno = cast["Bruno"]

        def bend(name: str) -> Callable[[bytes], bytes]:
            def lie(body: bytes) -> bytes:
                said = json.loads(body)
                signed = json.loads(said[name] if isinstance(said[name], str) else said[name][-1])
                payload = json.loads(base64.b64decode(signed["payload"]))
                payload["created"] = payload.get("created", 0) - 1
                signed["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
                forged = json.dumps(signed)
                said[name] = forged if isinstance(said[name], str) else [*said[name][:-1], forged]
                return json.dumps(said).encode()

            return lie

        for path, name, code in [
            ("/release$", "release", "release-forged"),
            ("/release$", "checkin", "checkin-forged"),
            ("/rosters$", "rosters", "roster-forged"),
            ("/rosters$", "journalist", None),
        ]:
            with cast.line.lying("GET", path, bend(name)):
                ended = bruno.type("recover", TITLE, "--to", str(a_folder(bruno)), "--yes", code=None)
            assert ended.code in (6, 7), ended.said
            assert code is None or f"afterword: {code}" in ended.err
        # The same roster, shown as another journalist's who calls herself alike.
        clone = a_card("Ana").envelope.decode()
        with cast.line.lying(
            "GET", "/rosters$", lambda body: json.dumps(json.loads(body) | {"journalist": clone}).encode()
        ):
            refused = bruno.type("recover", TITLE, "--to", str(a_folder(bruno)), "--yes", code=6)
        assert "afterword: unknown-journalist" in refused.err or "afterword: roster-forged" in refused.err
        assert cast["Chiara"].ask("inbox")["dossiers"][0]["given"] == 0


def test_letters_go_on_until_everybody_has_collected(released: Frozen, stage: Stage) -> None:
    with stage(released) as cast:
        for name in ("Bruno", "Chiara"):
            cast[name].type("give", TITLE, "--yes")
        target, _ = recover(cast["Daniel"])
        check_whole(cast, target)
        status = cast["Ana"].ask("status")["dossiers"][0]
        assert {each["label"]: each["collected"] for each in status["holders"]} == {
            "Bruno": False,
            "Chiara": False,
            "Daniel": True,
        }
        assert "You have collected the archive" in cast["Daniel"].type("inbox").out
        shutil.rmtree(target)
        assert not [each for each in cast.mail.letters if TITLE in read(each)]
