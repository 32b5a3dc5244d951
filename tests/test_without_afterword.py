"""docs/recover-without-afterword.md, followed to the letter: its commands run here as they stand there.

npm age-encryption stands in for stock age (interop/stock-age.mjs); zstd, sqlite3 and openssl are the system's own.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from rehearsal import COLLEAGUES, JOURNALIST, TITLE, fall_silent
from theatre import Cast, Frozen, same_files

from vault import age, statements, stream

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "recover-without-afterword.md"
SCRIPTS = ("recover_without_afterword.py", "combine_by_hand.py", "whose_archive.py")
STOCK_AGE = ROOT / "tests" / "interop" / "stock-age.mjs"


def test_the_page_holds_each_program_exactly_as_it_is() -> None:
    shown = re.findall(r"```python\n(.*?)```\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown == [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in SCRIPTS]


def test_the_programs_need_nothing_but_python() -> None:
    for name in SCRIPTS:
        imported = re.findall(
            r"^(?:import|from) (\w+)", (ROOT / "docs" / name).read_text("utf-8"), re.MULTILINE
        )
        assert set(imported) <= sys.stdlib_module_names


def on_the_page(beginning: str) -> str:
    """The one block of commands that begins like this."""
    blocks = re.findall(r"```\n(.*?)```\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(beginning)]
    return found


@dataclass
class Desk:
    """Where a technician sits: the commands that the page asks for, and the programs that it shows."""

    folder: Path

    def __post_init__(self) -> None:
        tools = self.folder / "tools"
        tools.mkdir(parents=True)
        for name, command in {
            "age": f'exec node {STOCK_AGE} "$@"',
            "python3": f'exec {sys.executable} -I "$@"',
        }.items():
            (tools / name).write_text(f"#!/bin/sh\n{command}\n")
            (tools / name).chmod(0o700)
        for name in SCRIPTS:
            shutil.copy(ROOT / "docs" / name, self.folder)
        # `make test` installs what is missing, and a test that skips itself proves nothing.
        for command in ("node", "zstd", "sqlite3", "openssl"):
            assert shutil.which(command), f"{command} is needed"

    def type(self, commands: str, passphrase: str = "", code: int = 0, **names: str) -> str:
        for name, value in names.items():
            commands = commands.replace(name, value)
        path = f"{self.folder / 'tools'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env={"PATH": path, "LC_ALL": "C.UTF-8", "AGE_PASSPHRASE": passphrase},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@dataclass
class Released:
    """A dossier that was let go, and what is left of everybody."""

    cast: Cast
    work: Path
    dossier: str
    key: str
    sealed: Path
    opened: Path


@pytest.fixture(scope="module")
def released(
    prepared: Frozen,
    stage: Callable[..., AbstractContextManager[Cast]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Released]:
    """Real commands on a real server: a second push, silence, release; one colleague gives, another recovers."""
    folder = tmp_path_factory.mktemp("released")
    with stage(prepared) as cast:
        ana, (bruno, chiara, _) = cast[JOURNALIST], [cast[name] for name in COLLEAGUES]
        work = cast.folder / "work" / "numbat"
        ledger = work / "pangolin ledger.csv"
        ledger.write_bytes(b"crane;harbour;901\n" + ledger.read_bytes())
        (work / "added later.txt").write_text("late, but here\n")
        ana.type("push", TITLE, str(work))
        ana.type("arm", TITLE)
        fall_silent(ana)
        for name in COLLEAGUES:
            cast.mail.saying(cast[name].address, "can now be opened")
        chiara.type("give", TITLE, "--yes")
        words = on_the_page("afterword recover").split()[1:]
        words = [{"NAME": TITLE, "SEALED": str(folder / "SEALED")}.get(word, word) for word in words]
        words = [str(folder / "key.txt") if word == "key.txt" else word for word in words]
        bruno.type(*words, "--yes")
        bruno.type("recover", TITLE, "--to", str(folder / "opened"), "--all-versions", "--yes")
        cast.server.stop()
        head = (folder / "SEALED" / "heads.jsonl").read_bytes().splitlines()[0]
        dossier = statements.peek(head).dossier  # type: ignore[attr-defined]  # a head
        yield Released(
            cast, work, dossier, (folder / "key.txt").read_text(), folder / "SEALED", folder / "opened"
        )


def recovered_as_she_left_it(released: Released, out: Path) -> None:
    assert same_files(released.work, out / "numbat") == []
    assert (out / "numbat" / "unsorted").is_dir()
    # Earlier versions too: Afterword and the page lay them alike.
    assert same_files(released.opened, out) == []
    assert (out / "earlier" / "bundle 1" / "numbat" / "pangolin ledger.csv").exists()


def test_stock_tools_bring_back_what_afterword_kept_sealed(released: Released, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    shutil.copytree(released.sealed, desk.folder / "SEALED")
    (desk.folder / "key.txt").write_text(released.key)
    said = desk.type(on_the_page("python3 whose_archive.py"))
    shown = released.cast[COLLEAGUES[0]].ask("card", "show", JOURNALIST)
    assert f"is signed by the card of '{JOURNALIST}': {shown['fingerprint']}" in said
    said = desk.type(on_the_page("python3 recover_without_afterword.py"))
    assert "2 bundles; the newest head is " in said
    assert "and 0 problems" in said
    recovered_as_she_left_it(released, desk.folder / "OUT")


def test_when_every_program_is_gone_k_colleagues_and_the_servers_folder_are_enough(
    released: Released, tmp_path: Path
) -> None:
    data = released.cast.server.folder
    operator = Desk(tmp_path / "operator")
    with (
        closing(sqlite3.connect(data / "afterword.db")) as source,
        closing(sqlite3.connect(operator.folder / "afterword.db")) as copy,
    ):
        source.backup(copy)
    shutil.copy(data / "server.key", operator.folder)
    shutil.copytree(data / "objects", operator.folder / "objects")
    operator.type(on_the_page('sqlite3 afterword.db "SELECT writefile'), ID=released.dossier)

    desk = Desk(tmp_path / "desk")
    shutil.copy(operator.folder / "release.share", desk.folder)
    for place, name in enumerate(COLLEAGUES[:2], 1):
        person, own = released.cast[name], Desk(tmp_path / name)
        shutil.copy(person.home / "keyring.age", own.folder)
        passphrase = person.secret.read_text().splitlines()[0]
        own.type(on_the_page("age -d keyring.age"), passphrase)
        shutil.copy(operator.folder / f"share-{place}.age", own.folder)
        own.type(on_the_page("age -d -i me.txt").replace("share-1", f"share-{place}"))
        shutil.copy(own.folder / f"share-{place}.share", desk.folder)
    told = desk.type(on_the_page("python3 combine_by_hand.py release.share"))
    identity = (desk.folder / "key.txt").read_text().strip()
    assert identity == released.key.splitlines()[-1]

    shutil.copy(released.cast[COLLEAGUES[2]].home / "state.db", desk.folder)
    listed = desk.type(
        on_the_page('sqlite3 state.db "SELECT CAST(envelope AS TEXT) FROM rosters'), ID=released.dossier
    )
    commitments = re.findall(r'"commitment":"([0-9a-f]{64})"', listed)
    assert [each for each in commitments if each in told] == commitments[:2]

    operator.type(on_the_page("mkdir SEALED"), ID=released.dossier)
    shutil.copytree(operator.folder / "SEALED", desk.folder / "SEALED")
    desk.type(on_the_page('sqlite3 state.db "SELECT CAST(envelope AS TEXT) FROM cards'))
    for name in ("heads.jsonl", "card.json"):
        assert (desk.folder / "SEALED" / name).read_bytes() == (released.sealed / name).read_bytes()
    desk.type(on_the_page("python3 whose_archive.py"))
    desk.type(on_the_page("python3 recover_without_afterword.py"))
    recovered_as_she_left_it(released, desk.folder / "OUT")


def test_too_few_shares_and_a_share_of_somebody_else_give_a_key_that_opens_nothing(
    released: Released, tmp_path: Path
) -> None:
    desk = Desk(tmp_path / "desk")
    (desk.folder / "release.share").write_bytes(b"\1" + bytes(32))
    for index in (1, 2):
        share = {
            "journalist": "00" * 32,
            "dossier": released.dossier,
            "epoch": 1,
            "index": index,
            "share": "11" * 32,
            "title": "",
        }
        (desk.folder / f"share-{index}.share").write_bytes(json.dumps(share).encode().ljust(4096, b"\0"))
    desk.type(on_the_page("python3 combine_by_hand.py release.share"))
    assert (desk.folder / "key.txt").read_text().startswith("AGE-SECRET-KEY-PQ-1")
    shutil.copytree(released.sealed, desk.folder / "SEALED")
    said = desk.type(on_the_page("python3 recover_without_afterword.py"), code=1)
    assert "PROBLEM: bundle 1" in said
    assert "0 files, and 2 problems" in said


def test_a_spoilt_object_is_named_and_costs_only_what_needs_it(released: Released, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    shutil.copytree(released.sealed, desk.folder / "SEALED")
    (desk.folder / "key.txt").write_text(released.key)
    head = statements.peek((released.sealed / "heads.jsonl").read_bytes().splitlines()[0])
    name = head.objects[0]  # type: ignore[attr-defined]  # a head
    with (desk.folder / "SEALED" / "objects" / name).open("r+b") as file:
        file.seek(500_000)
        file.write(b"spoilt")
    said = desk.type(on_the_page("python3 recover_without_afterword.py"), code=1)
    assert f"object {name} is damaged" in said
    whole = {str(path.relative_to(desk.folder / "OUT")) for path in (desk.folder / "OUT").rglob("*.txt")}
    assert "numbat/added later.txt" in whole


def test_a_head_that_is_held_back_or_not_hers_is_noticed(released: Released, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    shutil.copytree(released.sealed, desk.folder / "SEALED")
    (desk.folder / "key.txt").write_text(released.key)
    heads = desk.folder / "SEALED" / "heads.jsonl"
    first, second = heads.read_text().splitlines()
    heads.write_text(second + "\n")
    said = desk.type(on_the_page("python3 recover_without_afterword.py"), code=1)
    assert "Head 1 is missing, or another stands in its place." in said
    forged = json.loads(second)
    forged["signatures"] = json.loads(first)["signatures"]
    heads.write_text(f"{first}\n{json.dumps(forged)}\n")
    said = desk.type(on_the_page("python3 whose_archive.py"), code=1)
    assert "The signature of this head does NOT hold" in said


HOSTILE = [
    "../outside.txt",
    "/etc/outside.txt",
    "a/../../outside.txt",
    "..",
    "a//b",
    "a\0b",
    "line\nfeed",
    "\u202egpj.exe",
    "CON",
    "C:\\outside.txt",
    ".part",
    "earlier/bundle 1/mine.txt",
    "x" * 300,
    "é" * 200,
    "folder. ",
    "\ud800",
    "~",
    "100%",
    "%2F",
]


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_hostile_names_lead_nowhere_but_into_the_folder(tmp_path: Path, codec: str) -> None:
    """Trees that Afterword would never write: whoever takes her computer may sign any."""
    desk = Desk(tmp_path / "desk")
    identity = age.Identity(os.urandom(32))
    (desk.folder / "key.txt").write_text(identity.write() + "\n")
    data = b"some text that compresses " * 40
    frame = stream.compress(data) if codec == "zstd" else data
    lines = [
        {
            "p": name,
            "t": "file",
            "s": len(data),
            "m": 0o4777,
            "mt": 0,
            "h": hashlib.sha256(data).hexdigest(),
            "c": [[0, 0, len(frame), len(data), codec]],
        }
        for name in HOSTILE
    ]
    bomb = stream.compress(bytes(50_000_000))
    lines.append(
        {**lines[0], "p": "bomb", "s": 1_000_000, "c": [[0, len(frame), len(bomb), 1_000_000, "zstd"]]}
    )
    lines.append({**lines[0], "p": "far", "c": [[0, 2**52, 10, 10, "raw"]]})
    lines.append({**lines[0], "p": "nowhere", "c": [[7, 0, 10, 10, "raw"]]})
    lines.append({**lines[0], "p": "back", "c": [[0, -10, 10, 10, "raw"]]})
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    stored = stream.compress(text)
    slices = (frame + bomb + stored).ljust(2 * stream.SLICE_SIZE, b"\0")
    sealed = desk.folder / "SEALED"
    sealed.mkdir()
    names = []
    for start in (0, stream.SLICE_SIZE):
        piece = stream.seal_object(slices[start : start + stream.SLICE_SIZE], identity.recipient, os.urandom)
        (sealed / piece.name).write_bytes(piece.data)
        names.append(piece.name)
    root = {"offset": len(frame + bomb), "stored": len(stored), "raw": len(text)}
    box = age.seal(json.dumps(root).encode().ljust(4096, b"\0"), identity.recipient, os.urandom)
    head = {
        "bundle": 1,
        "prev": None,
        "objects": names,
        "replace": None,
        "root": base64.b64encode(box).decode(),
    }
    payload = base64.b64encode(json.dumps(head).encode()).decode()
    (sealed / "heads.jsonl").write_text(json.dumps({"payload": payload, "payloadType": "x"}) + "\n")

    said = desk.type(on_the_page("python3 recover_without_afterword.py"), code=1)
    for name in ("bomb", "far", "nowhere", "back"):
        assert f"PROBLEM: '{name}' of bundle 1" in said
    assert "and 4 problems" in said, said
    out = desk.folder / "OUT"
    found = [path for path in out.rglob("*") if not path.is_dir()]
    assert len(found) == len(HOSTILE)
    assert all(path.read_bytes() == data and path.stat().st_mode & 0o7111 == 0 for path in found)
    assert not [path for path in tmp_path.rglob("*outside*") if out not in path.parents]
    assert not Path("/etc/outside.txt").exists()
    for path in found:
        assert all(part.isprintable() and len(part.encode()) <= 255 for part in path.relative_to(out).parts)
