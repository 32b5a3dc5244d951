"""A journalist, three colleagues and a server made of dictionaries: enough world to push into and recover from.

Signatures, seals, shares and the journal on disk are real; only the wire is not. `server` may be damaged freely.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli import push, recover, released
from cli.home import Home, KnownDossier
from cli.remote import Remote
from test_cli.loopback import a_person
from vault import age, envelope, identity, sharing, statements, wire
from vault.errors import Conflict, NotFound, Refused, StaleSequence, Unreachable, Untrusted
from vault.sharing import DealtShare, Share
from vault.statements import Collaborator, Custodian, Dwells, Head, Roster

START = 1_790_000_000_000
DOSSIER = "ab" * 16
OBJECT_SIZE = 1_048_576


class StillClock:
    """Moves only when told, one second for each look so that nothing is signed twice alike."""

    def __init__(self) -> None:
        self.now = START

    def wall(self) -> int:
        self.now += 1_000
        return self.now

    def boot(self) -> int:
        return self.now

    def boot_id(self) -> str:
        return "boot"


class Killed(BaseException):
    """kill -9, as far as a test in one process can have it."""


@dataclass
class Server:
    """What a server holds of one dossier."""

    keyring: identity.Keyring
    card: identity.ContactCard
    rosters: list[bytes] = field(default_factory=list)
    journalist: identity.ContactCard | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    heads: list[bytes] = field(default_factory=list)
    shares: dict[str, bytes] = field(default_factory=dict)
    release: bytes | None = None
    checkin: bytes | None = None
    withheld: Share | None = None
    contributions: dict[int, tuple[bytes, dict[str, bytes]]] = field(default_factory=dict)
    collected: set[str] = field(default_factory=set)
    seq: int = 0
    quota: int = 20 * 1024**3
    put: list[str] = field(default_factory=list)
    got: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda what: None

    def newest(self) -> tuple[int, str | None]:
        return len(self.heads), envelope.statement_hash(self.heads[-1]).hex() if self.heads else None

    def acknowledge(self, signed: bytes) -> wire.Acknowledged:
        said = statements.Acknowledgement(
            self.card.hash.hex(), "00" * 32, envelope.statement_hash(signed).hex(),
            0, "1f" * 16, 0, 0, 1, "00" * 32, None, START,
        )  # fmt: skip
        return wire.Acknowledged(statements.write(said, self.keyring.sign).decode(), None)


class FakeRemote(Remote):
    """The real client's verbs over a Server, for one person."""

    def __init__(self, server: Server, me: identity.ContactCard) -> None:
        super().__init__("http://127.0.0.1:1", server.card)
        self.fake, self.me = server, me

    def call(self, method, path, request, answer):
        self.fake.before(f"{method} {path}")
        said = self._answer(method, path.removeprefix(f"/dossiers/{DOSSIER}"), request)
        return wire.read(wire.write(said), answer)

    def _answer(self, method, path, request):
        server = self.fake
        match method, path:
            case "GET", "/server":
                limits = wire.Limits(OBJECT_SIZE, 64, 4096, wire.MAX_BODY, 65536, 255, 1, 0, 0, 0, 10**15)
                return wire.ServerInfo(
                    server.card.envelope.decode(), "0", "life", 5000, False, limits, 0, 0, START
                )
            case "GET", "/account":
                return wire.AccountState(
                    self.me.envelope.decode(), "journalist", server.seq, server.quota,
                    len(server.objects) * OBJECT_SIZE, server.quota // 20, (), (), (), False,
                )  # fmt: skip
            case "GET", "/rosters":
                journalist = server.journalist.envelope.decode()
                return wire.Rosters(journalist, tuple(each.decode() for each in server.rosters), None)
            case "GET", "/share":
                roster = server.rosters[-1]
                sealed = wire.write_blob(server.shares[self.me.hash.hex()])
                return wire.SealedShare(len(server.rosters), envelope.statement_hash(roster).hex(), sealed)
            case "GET", "/release":
                return self._released()
            case "GET", "":
                return self._state()
            case "POST", "/objects/missing":
                return wire.MissingNames(tuple(each for each in request.names if each not in server.objects))
            case "POST", "/heads":
                return self._commit(request.statement.encode())
            case "POST", "/statements":
                return self._submit(request)
            case "GET", _ if path.startswith("/heads?after="):
                after = int(path.rpartition("=")[2])
                page = server.heads[after : after + 3]
                return wire.Heads(tuple(each.decode() for each in page), len(server.heads) > after + 3)
        raise AssertionError(f"{method} {path}")

    def put_object(self, dossier, name, data, progress=None, *, resuming=False):
        self.fake.before("put")
        assert hashlib.sha256(data).hexdigest() == name
        assert len(data) == OBJECT_SIZE
        self.fake.objects[name] = data
        self.fake.put.append(name)
        self.fake.before("put done")

    def get_object(self, dossier, name, resume=b"", progress=None):
        self.fake.before("get")
        self.fake.got.append(name)
        if name not in self.fake.objects:
            raise NotFound("No such object.")
        data = self.fake.objects[name]
        if len(data) < OBJECT_SIZE:
            raise Unreachable("The connection was cut in the middle of an object.")
        if hashlib.sha256(data).hexdigest() != name:
            raise Untrusted("It arrived damaged.", code="object-damaged")
        return data

    def _commit(self, signed):
        server = self.fake
        if signed in server.heads:
            return server.acknowledge(signed)
        head = statements.read(signed, server.journalist.verify_key, Head)
        if (head.bundle - 1, head.prev) != server.newest():
            raise Conflict("Another push was faster.", code="head-conflict")
        if not set(head.objects) <= set(server.objects):
            raise Conflict("Objects are missing.", code="objects-missing")
        assert len(set(head.objects)) == len(head.objects) >= 2
        server.heads.append(signed)
        server.before("committed")
        return server.acknowledge(signed)

    def _submit(self, request):
        server = self.fake
        signed = request.statement.encode()
        said = statements.peek(signed)
        if said.seq <= server.seq:
            raise StaleSequence(server.seq)
        server.seq = said.seq
        if isinstance(said, statements.Contribution):
            blobs = [wire.read_blob(each) for each in request.sealed]
            copies = {each.card: blob for each, blob in zip(said.readers, blobs, strict=True)}
            server.contributions[said.index] = (signed, copies)
        elif isinstance(said, statements.Collected):
            server.collected.add(self.me.card.label)
        return server.acknowledge(signed)

    def _state(self):
        server = self.fake
        roster = statements.read(server.rosters[-1], server.journalist.verify_key, Roster)
        people = tuple(
            wire.ProofState(each.index, "00" * 32, None, False, False, each.index in server.contributions)
            for each in roster.collaborators
        )
        number, head = server.newest()
        return wire.DossierState(
            DOSSIER, "collaborator", server.journalist.hash.hex(), None, "armed", START, False, (),
            roster.plan, roster.cooling, roster.epoch, envelope.statement_hash(server.rosters[-1]).hex(),
            roster.k, people, number, head, None, None, (), (), False, None,
        )  # fmt: skip

    def _released(self):
        server = self.fake
        if server.release is None:
            raise Refused("Not released.", code="not-released")
        mine = self.me.hash.hex()
        epoch = len(server.rosters)
        dealt = DealtShare(
            server.journalist.verify_key.raw, bytes.fromhex(DOSSIER), epoch, server.withheld, ""
        )
        sealed = age.seal(sharing.write_share(dealt), self.me.recipient, os.urandom)
        sent = tuple(
            wire.SentContribution(signed.decode(), wire.write_blob(copies[mine]))
            for signed, copies in server.contributions.values()
            if mine in copies
        )
        return wire.Released(
            server.release.decode(),
            None if server.checkin is None else server.checkin.decode(),
            (wire.SentReleaseShare(1, wire.write_blob(sealed)),),
            sent,
        )


@dataclass
class Person:
    """Somebody with a home of their own."""

    keyring: identity.Keyring
    card: identity.ContactCard
    home: Home
    remote: FakeRemote

    def known(self) -> KnownDossier:
        return next(each for each in self.home.dossiers() if each.id == DOSSIER)


class World:
    """One dossier, 2 of 3."""

    def __init__(self, folder: Path, *, minimum: int = 2, k: int = 2) -> None:
        self.folder = folder
        self.clock = StillClock()
        keyring, card = a_person("Server", "server")
        self.server = Server(keyring, card)
        self.ana = self._person("Ana")
        self.people = [self._person(label) for label in ("Bo", "Cem", "Dua")]
        self.server.journalist = self.ana.card
        self.key = age.Identity(os.urandom(32))
        self.minimum, self.k = minimum, k
        self._deal()

    def person(self, label: str, again: str) -> Person:
        """The same person on another computer."""
        known = next(each for each in (self.ana, *self.people) if each.card.card.label == label)
        home = self._home(again, known.card)
        self._introduce(home, "journalist" if known is self.ana else "collaborator")
        return Person(known.keyring, known.card, home, FakeRemote(self.server, known.card))

    def push(self, *paths: Path, by: Person | None = None, **wishes) -> push.Pushed:
        who = by or self.ana
        return push.run_push(
            who.home, who.remote, who.keyring, who.known(),
            push.Wishes([str(each) for each in paths], wishes.pop("renames", {}), **wishes), clock=self.clock,
        )  # fmt: skip

    def release(self) -> None:
        """Silence, as the server tells it."""
        server = self.server
        number, head = server.newest()
        checkin = statements.CheckIn(
            server.card.hash.hex(),
            1,
            "00" * 32,
            (statements.Covered(DOSSIER, len(server.rosters), head),),
            START,
        )
        server.checkin = statements.write(checkin, self.ana.keyring.checkin)
        release = statements.Release(
            server.card.hash.hex(), DOSSIER, self.ana.card.hash.hex(), len(server.rosters),
            envelope.statement_hash(server.rosters[-1]).hex(), head, number,
            envelope.statement_hash(server.checkin).hex(), 1, START,
        )  # fmt: skip
        server.release = statements.write(release, server.keyring.sign)

    def case(self, who: Person) -> released.Case:
        return released.open_case(who.home, who.remote, DOSSIER)

    def unlock(self, who: Person) -> age.Identity:
        return recover.unlock(who.home, who.remote, who.keyring, self.case(who))

    def recover(self, to: Path | None, who: Person | None = None, **wishes):
        """As somebody who has the key already: what is tested is what comes after."""
        if self.server.release is None:
            self.release()
        who = who or self.people[0]
        return recover.run_recover(
            who.home,
            who.remote,
            who.keyring,
            self.case(who),
            self.key,
            recover.Wishes(to, **wishes),
        )

    @contextmanager
    def dying_at(self, step: int) -> Iterator[list[str]]:
        """The process is killed at the `step`th thing that the server hears of."""
        seen: list[str] = []

        def count(what: str) -> None:
            seen.append(what)
            if len(seen) == step:
                raise Killed

        self.server.before = count
        try:
            yield seen
        finally:
            self.server.before = lambda what: None

    def _person(self, label: str) -> Person:
        keyring, card = a_person(label)
        return Person(keyring, card, self._home(label, card), FakeRemote(self.server, card))

    def _home(self, name: str, card: identity.ContactCard) -> Home:
        home = Home.create(
            self.folder / f"home of {name}", url="http://127.0.0.1:1", server=self.server.card, card=card,
            keyring=b"sealed",
        )  # fmt: skip
        home.finish_joining(START)
        return home

    def _introduce(self, home: Home, role: str) -> None:
        if role == "collaborator":
            home.pin(self.ana.card, "Ana", "journalist")
        hash = envelope.statement_hash(self.server.rosters[-1]).hex()
        home.remember_dossier(DOSSIER, role, epoch=1, roster_hash=hash)

    def _deal(self) -> None:
        c = os.urandom(32)
        r = sharing.xor(self.key.reveal(), c)
        dossier, her = bytes.fromhex(DOSSIER), self.ana.card.verify_key.raw
        shares = sharing.split(c, self.k, 3, os.urandom)
        lines = []
        for person, share in zip(self.people, shares, strict=True):
            dealt = sharing.write_share(DealtShare(her, dossier, 1, share, "The case"))
            blob = age.seal(dealt, person.card.recipient, os.urandom)
            self.server.shares[person.card.hash.hex()] = blob
            commitment = sharing.commitment(her, dossier, 1, share).hex()
            sealed = hashlib.sha256(blob).hexdigest()
            lines.append(Collaborator(share.index, person.card.envelope.decode(), True, commitment, sealed))
        self.server.withheld = Share(1, r)
        withheld = sharing.release_commitment(her, dossier, 1, self.server.withheld).hex()
        custodian = Custodian(1, self.server.card.envelope.decode(), "00" * 32, withheld)
        roster = Roster(
            DOSSIER, 1, None, str(self.key.recipient), self.k, tuple(lines), 1, (custodian,), "00" * 32,
            self.minimum, Dwells(1, 1, 1, 1), 1,
        )  # fmt: skip
        self.server.rosters = [statements.write(roster, self.ana.keyring.sign)]
        self._introduce(self.ana.home, "journalist")
        for person in self.people:
            self._introduce(person.home, "collaborator")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their bytes, empty folders with None."""
    found: dict[str, bytes | None] = {}
    for at, folders, files in os.walk(os.fsencode(folder)):
        for name in files:
            path = os.path.join(at, name)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(folder)))] = Path(
                os.fsdecode(path)
            ).read_bytes()
        if not files and not folders and at != os.fsencode(folder):
            found[os.fsdecode(os.path.relpath(at, os.fsencode(folder)))] = None
    return found
