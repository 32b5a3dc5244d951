"""What a journalist's own computer promised, held against what its disk holds after a power cut.

Rule of this room: whatever is lost here may cost doing something twice. It never costs her identity, a number given
twice, or a bundle that the server said it has.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parents[1])]

from test_cli import archive_world  # noqa: E402
from test_cli.loopback import a_person  # noqa: E402

from cli import disk  # noqa: E402
from cli.home import KEYRING, Home  # noqa: E402
from cli.journal import Journal  # noqa: E402
from tests.fire import shim  # noqa: E402
from tests.fire.outage import Ready  # noqa: E402
from tests.fire.powercut import SYNCED  # noqa: E402
from tests.fire.stand import room  # noqa: E402

SLOW: Final = 6
KEYS: Final = (b"sealed under the first passphrase" * 40, b"sealed under the second one" * 50)
DOSSIER: Final = archive_world.DOSSIER


def flows() -> dict[str, Callable[[], Ready]]:
    return {"home": home, "push": push, "push-killed": lambda: push(killed=True), "recover": recover}


def say(**facts: Any) -> None:  # Any: JSON
    shim.mark(json.dumps(facts))


def last(said: Sequence[dict[str, Any]], name: str) -> Any:  # Any: JSON
    return next((each[name] for each in reversed(said) if name in each), None)


def home() -> Ready:
    """From nothing to a home that has signed three things and changed its passphrase."""
    top = Path(tempfile.mkdtemp(prefix="afterword-home-", dir=room()))
    _, server = a_person("Server", "server")
    _, card = a_person("Ana")
    place = Path("share") / "afterword"

    def made(path: Path) -> Home:
        return Home.create(path, url="http://127.0.0.1:1", server=server, card=card, keyring=KEYS[0])

    def play() -> None:
        with made(top / place) as hers:
            hers.finish_joining(1)
            say(joined=True)
            for _ in range(3):
                number = hers.next_seq()
                say(seq=number)
                hers.save_pending(DOSSIER, "statement", b"%d" % number)
                say(pending=str(number))
                hers.remember_acknowledgement(b"%d" % number)
                hers.drop_pending(DOSSIER, "statement")
                say(acknowledged=number, pending=None)
            hers.pin(server, "Server", "collaborator")
            hers.remember_roster(DOSSIER, 1, b"roster")
            say(roster=True)
        disk.write_private(top / place / KEYRING, KEYS[1])
        say(keys=1)
        with Home.open(top / place) as hers:
            say(seq=hers.next_seq())

    def judge(found: Path, marks: Sequence[str]) -> list[str]:
        said = [json.loads(mark) for mark in marks]
        path = found / place
        wrong = []
        if not last(said, "joined"):
            # The same invite again.
            with Home.open(path, unfinished=True) if Home.exists(path) else made(path) as hers:
                hers.finish_joining(2)
        with Home.open(path) as hers:
            if hers.card.hash != card.hash:
                wrong.append("another card")
            if hers.next_seq() <= (last(said, "seq") or 0):
                wrong.append("a number is given twice")
            if int(hers.last_acknowledgement() or 0) < (last(said, "acknowledged") or 0):
                wrong.append("an acknowledgement is forgotten")
            pending = [each["pending"] for each in said if "pending" in each]
            kept = hers.pending(DOSSIER, "statement")
            if (
                pending
                and pending[-1] is not None
                and kept is None
                and int(hers.last_acknowledgement() or 0) < int(pending[-1])
            ):
                wrong.append("what was saved before it was sent is gone")
            if last(said, "roster") and hers.rosters(DOSSIER) != [b"roster"]:
                wrong.append("a roster is forgotten")
        if (path / KEYRING).read_bytes() not in KEYS[last(said, "keys") or 0 :]:
            wrong.append("the keyring is not whole, or an old one")
        return wrong

    return Ready("home", top, play, judge)


def push(killed: bool = False) -> Ready:
    """Two pushes, the second of something more; with `killed`, each is interrupted once and begun again."""
    top = Path(tempfile.mkdtemp(prefix="afterword-push-", dir=room()))
    sources = Path(tempfile.mkdtemp(prefix="afterword-source-", dir=room()))
    world = archive_world.World(top)
    server = world.server

    def tell(what: str) -> None:
        say(objects=list(server.objects), heads=len(server.heads))

    def play() -> None:
        for number in (1, 2):
            (sources / f"{number}.txt").write_bytes(b"%d" % number * 3_000)
            if killed:
                try:
                    with world.dying_at(6) as seen:
                        count = server.before
                        server.before = lambda what, count=count: (count(what), tell(what))
                        world.push(sources)
                except archive_world.Killed:
                    assert seen
            server.before = tell
            world.push(sources)
            tell("")
            say(pushed=number)
        server.before = lambda what: None

    readers: dict[int, archive_world.Person] = {}

    def judge(found: Path, marks: Sequence[str]) -> list[str]:
        said = [json.loads(mark) for mark in marks]
        names, heads = last(said, "objects") or [], last(said, "heads") or 0
        known = replace(
            server,
            objects={name: server.objects[name] for name in names},
            heads=server.heads[:heads],
            before=lambda what: None,
            put=[],
        )
        if heads < (last(said, "pushed") or 0):
            return ["a bundle was called pushed that the server does not have"]
        if last(said, "pushed"):
            with Journal(found / "home of Ana" / "push" / DOSSIER) as journal:
                if len(journal.bundles()) < last(said, "pushed"):
                    return ["the journal has forgotten a bundle, and everything would be sent again"]
        out = Path(tempfile.mkdtemp(prefix="afterword-out-", dir=room()))
        kept = world.server
        try:
            world.server = known
            with Home.open(found / "home of Ana") as hers:
                her = archive_world.Person(
                    world.ana.keyring, world.ana.card, hers, archive_world.FakeRemote(known, world.ana.card)
                )
                world.push(sources, by=her)
            if os.getpid() not in readers:
                world.folder = Path(tempfile.mkdtemp(prefix="afterword-readers-", dir=room()))
                readers[os.getpid()] = world.person("Bo", "Bo")
            reader = readers[os.getpid()]
            reader.remote.fake = known
            (mine,) = reader.home.dossiers()
            # Each image is another history, and a colleague's home would call that a fork.
            reader.home.remember_dossier(DOSSIER, "collaborator", epoch=1, roster_hash=mine.roster_hash)
            world.recover(out / "found", reader)
            there = {path.name: path.read_bytes() for path in (out / "found").rglob("*.txt")}
            if there != {path.name: path.read_bytes() for path in sources.iterdir()}:
                return [f"what was pushed again is not what is recovered: {sorted(there)}"]
            return []
        finally:
            world.server = kept
            shutil.rmtree(out, ignore_errors=True)

    return Ready("push-killed" if killed else "push", top, play, judge, SLOW)


def recover() -> Ready:
    """A colleague's whole archive; the server hears that it was collected only when it is."""
    top = Path(tempfile.mkdtemp(prefix="afterword-recover-", dir=room()))
    sources = Path(tempfile.mkdtemp(prefix="afterword-source-", dir=room()))
    for number in range(3):
        (sources / f"{number}.txt").write_bytes(b"%d" % number * 3_000)
    world = archive_world.World(Path(tempfile.mkdtemp(prefix="afterword-people-", dir=room())))
    world.push(sources)
    expected = {path.name: path.read_bytes() for path in sources.iterdir()}

    def play() -> None:
        (top / "archive").mkdir()
        submit = archive_world.FakeRemote._submit

        def told(self: Any, request: Any) -> Any:  # Any: the fake is not typed
            answer = submit(self, request)
            if world.server.collected:
                say(collected=True)
            return answer

        archive_world.FakeRemote._submit = told
        sync = os.sync

        def synced() -> None:
            shim.mark(SYNCED.decode())

        os.sync = synced
        try:
            world.recover(top / "archive" / "of Ana")
        finally:
            os.sync = sync
            archive_world.FakeRemote._submit = submit
        say(done=True)

    def judge(found: Path, marks: Sequence[str]) -> list[str]:
        said = [json.loads(mark) for mark in marks]
        if last(said, "collected") or last(said, "done"):
            there = {path.name: path.read_bytes() for path in found.rglob("*.txt")}
            if there != expected:
                return [
                    f"called collected, and {sum(there.get(n) == c for n, c in expected.items())} of 3 are there"
                ]
        return []

    return Ready("recover", top, play, judge)
