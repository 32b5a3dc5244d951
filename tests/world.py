"""A whole server in one process, on a clock that the test turns, with people who speak its real protocol.

Everything is the real thing (SQLite on disk, real statements and seals) but time, mail and the wire.
"""

import copy
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vault import (
    accounts,
    age,
    cooling,
    custodian,
    deposit,
    dossiers,
    identity,
    orders,
    outbox,
    sharing,
    statements,
    watch,
    wire,
)  # fmt: skip
from vault.clock import HOUR
from vault.couriers import MemoryCourier
from vault.plans import DEFAULT_PLAN, Plan
from vault.sharing import DealtShare, Share
from vault.statements import Statement
from vault.storage.objects import MemoryObjects
from vault.storage.records import Records
from vault.storage.records.rows import Account, Letter
from vault.storage.records.switches import Server
from vault.storage.sqlite import SqliteDatabase
from vault.stream import SLICE_SIZE, seal_object
from vault.switch import Stage

TICK = 5_000


@dataclass
class Hands:
    """A clock that stands still until it is turned. `wall_off` may say anything."""

    at: int = 1_000_000
    boot_name: str = "first-boot"
    wall_off: int = 1_700_000_000_000

    def wall(self) -> int:
        return self.at + self.wall_off

    def boot(self) -> int:
        return self.at

    def boot_id(self) -> str:
        return self.boot_name


@dataclass(frozen=True)
class Snapshot:
    """Everything a server had at one moment, so that many lives can begin at the same point."""

    database: bytes
    clock: Hands
    objects: dict[tuple[str, str], bytes]


class World:
    """One server. `pass_time` lives through time in strides of two ticks, the longest that count in full."""

    def __init__(self, folder: Path, tick: int = TICK, short: bool = False) -> None:
        self.clock = Hands()
        self.folder = folder
        self.tick = tick
        self.short = short
        self.database = SqliteDatabase(folder / "afterword.db")
        self.database.migrate()
        self.records = Records(self.database, self.clock, tick)
        self.key = age.Identity(os.urandom(32))
        keyring, card = custodian.found(self.key, "server", self.clock.wall(), os.urandom)
        with self.database.transaction():
            self.records.found_service("f1" * 16)
            self.records.add_server(Server(keyring, card, str(self.key.recipient), None, 0))
        self.custodian = custodian.open_custodian(self.key, keyring, card, os.urandom)
        self.objects = MemoryObjects()
        self.courier = MemoryCourier()
        self.sender = outbox.Sender("box@server.example", "https://server.example", ("op@ngo.example",), "en")
        self.watch = watch.Watch(self.records, self.custodian)
        self.place = cooling.Place()
        self.reachable = True
        self.delivering = True
        # Called with every letter that was carried and whether it was accepted.
        self.heard: Callable[[Letter, bool], None] = lambda letter, accepted: None

    def reopen(self) -> None:
        """The process dies and another opens the same data: whatever was only remembered is gone."""
        self.database.close()
        self.database = SqliteDatabase(self.folder / "afterword.db")
        self.database.migrate()
        self.records = Records(self.database, self.clock, self.tick)
        self.watch = watch.Watch(self.records, self.custodian)
        self.place = cooling.Place()

    def reboot(self, name: str) -> None:
        """The same after a new start of the machine: another boot id, and its clock begins anew."""
        self.clock.wall_off += self.clock.at - 1_000
        self.clock.at, self.clock.boot_name = 1_000, name
        self.reopen()

    def another_host(self) -> "Host":
        return Host(self)

    def snapshot(self) -> Snapshot:
        assert self.database.forget()
        whole = (self.folder / "afterword.db").read_bytes()
        return Snapshot(whole, copy.copy(self.clock), dict(self.objects._stored))

    def rewind(self, to: Snapshot) -> None:
        self.database.close()
        for left in self.folder.glob("afterword.db*"):
            left.unlink()
        (self.folder / "afterword.db").write_bytes(to.database)
        self.clock = copy.copy(to.clock)
        self.objects = MemoryObjects()
        self.objects._stored = dict(to.objects)
        self.courier = MemoryCourier()
        self.reachable = self.delivering = True
        self.heard = lambda letter, accepted: None
        self.reopen()

    def close(self) -> None:
        self.database.close()

    def beat(self) -> None:
        """One tick of everything, in the order the processes might run."""
        if self.reachable:
            self.records.note_probe(self.clock.boot())
        self.watch.tick()
        cooling.take_effect(self.records, self.custodian, self.place)
        if self.delivering:
            self.deliver()

    def deliver(self) -> int:
        carried = 0
        for letter in outbox.claim(self.records, 1_000):
            carried += self.carry(letter)
        return carried

    def carry(self, letter: Letter) -> bool:
        accepted = outbox.deliver(
            self.records,
            self.custodian,
            self.courier,
            self.sender,
            letter,
            lambda now, row: watch.landed(self.records, self.custodian, now, row),
            0.5,
        )
        self.heard(letter, accepted)
        return accepted

    def pass_time(self, ms: int) -> None:
        """Live through `ms`, in strides of two ticks: the longest that count in full."""
        end = self.clock.at + ms
        while self.clock.at < end:
            self.clock.at = min(self.clock.at + 2 * self.tick, end)
            self.beat()

    def skip(self, ms: int) -> None:
        """As `pass_time`, but served at once: for tests that care about what comes after a long time."""
        with self.database.transaction():
            row = self.records.service()
            assert row is not None
            self.database.run(
                "UPDATE service SET lived = lived + :ms, served = served + :ms, at = at + :ms, grown = grown + :ms",
                ms=ms,
            )
        self.clock.at += ms
        self.beat()

    def stage(self, dossier: str) -> Stage:
        return self.records.switch(dossier).switch.stage

    def letters(self) -> list[tuple[str, str]]:
        """(address, kind) of every letter that was accepted, in order of acceptance is not promised."""
        found = []
        for row in self.database.all("SELECT * FROM outbox WHERE state = 'accepted' ORDER BY posted, id"):
            address = None if row["address"] is None else self.records.address(str(row["address"]))
            to = "operator" if address is None else outbox.read_reach(self.custodian, address).address
            found.append((to, str(row["kind"])))
        return found

    def journalist(self, name: str = "ana") -> "Person":
        return Person(self, name, accounts.invite_journalist(self.records, self.custodian))


class Host:
    """A second machine on the same database: its own clock, its own watch."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Hands(at=77_000, boot_name="second-host")
        self.records = Records(world.database, self.clock, world.tick)
        self.watch = watch.Watch(self.records, world.custodian)

    def beat(self, ms: int) -> None:
        """Live through `ms` and tick once."""
        self.clock.at += ms
        if self.world.reachable:
            self.records.note_probe(self.clock.boot())
        self.watch.tick()
        cooling.take_effect(self.records, self.world.custodian)


@dataclass
class Person:
    """Somebody with keys and an account."""

    world: World
    name: str
    code: str
    root: identity.RootSeed = field(default_factory=lambda: identity.RootSeed(os.urandom(32)))

    def __post_init__(self) -> None:
        self.keyring = identity.Keyring.from_seed(self.root)
        signed = identity.write_card(self.name, self.keyring, self.world.clock.wall(), "cli")
        self.card = identity.read_card(signed)
        self.join(self.code)

    def join(self, code: str) -> wire.Joined:
        joining = wire.Joining(code, self.card.envelope.decode())
        return accounts.join(self.world.records, self.world.custodian, joining, 1 << 40)

    @property
    def account(self) -> Account:
        account = self.world.records.account_with_card(self.card.hash.hex())
        assert account is not None
        return account

    def colleague(self, name: str) -> "Person":
        invite = accounts.invite_collaborator(self.world.records, self.world.custodian, self.account, name)
        return Person(self.world, name, invite.code)

    def confirm(self, address: str, language: wire.Language = "en") -> None:
        """Add an address, read the code from the letter, confirm it."""
        request = wire.AddressRequest(address, language, "Reminder", f"phrase of {self.name}")
        accounts.add_address(self.world.records, self.world.custodian, self.account, request)
        before = len(self.world.courier.carried)
        self.world.deliver()
        letter = next(p for p in self.world.courier.carried[before:] if p.to == address)
        words = letter.body.split()
        code = words[words.index("confirm") + 1]
        accounts.confirm_address(self.world.records, self.world.custodian, self.account, code)

    def nonce(self) -> str:
        return accounts.grant_nonce(self.world.records, self.world.custodian).nonce

    def create(
        self, readers: list["Person"], k: int, plan: Plan = DEFAULT_PLAN, cooling: int = 168 * HOUR
    ) -> "Dossier":
        return Dossier(self, readers, k, plan, cooling)

    def sign(self, statement: Statement) -> str:
        return statements.write(statement, self.keyring.sign).decode()

    def checkin_request(self, seq: int | None = None, last: str | None = None) -> wire.CheckInRequest:
        covered = tuple(
            statements.Covered(row.id, row.epoch, row.head)
            for row in self.world.records.dossiers_of(self.account.id)
        )
        statement = statements.CheckIn(
            server=self.world.custodian.hash,
            seq=self.account.seq + 1 if seq is None else seq,
            nonce=self.nonce(),
            dossiers=covered,
            created=self.world.clock.wall(),
        )
        signed = statements.write(statement, self.keyring.checkin).decode()
        return wire.CheckInRequest(account=self.card.hash.hex(), statement=signed, last=last)

    def check_in(self, request: wire.CheckInRequest | None = None) -> tuple[bytes, list[wire.NotMoved]]:
        return watch.check_in(self.world.records, self.world.custodian, request or self.checkin_request())

    def order(
        self, dossier: str, kind: type[Statement], sealed: tuple[bytes, ...] = (), **fields: object
    ) -> str | None:
        """Sign and submit an order; the hash of the change when it has to cool."""
        common: dict[str, object] = {
            "server": self.world.custodian.hash,
            "dossier": dossier,
            "seq": self.account.seq + 1,
            "created": self.world.clock.wall(),
        }
        if kind in (statements.Pause, statements.Resume, statements.Hold):
            common["nonce"] = self.nonce()
        statement = kind(**common, **fields)
        submission = wire.Submission(self.sign(statement), tuple(wire.write_blob(blob) for blob in sealed))
        _, change = orders.submit(
            self.world.records,
            self.world.custodian,
            self.account,
            dossier,
            submission,
            short=self.world.short,
        )
        return change


class Dossier:
    """A dossier as its journalist's computer made it. The test keeps K, which the product forgets."""

    title = "Title"

    def __init__(self, hers: Person, readers: list[Person], k: int, plan: Plan, cooling: int) -> None:
        world = hers.world
        self.hers, self.readers, self.k = hers, readers, k
        self.world = world
        self.id = os.urandom(16).hex()
        self.key = age.Identity(os.urandom(32))
        self.c = os.urandom(32)
        self.r = sharing.xor(self.key.reveal(), self.c)
        self.request = self.first_roster(plan, cooling)
        dossiers.create(world.records, world.custodian, hers.account, self.request, short=world.short)

    def deal(self, secret: bytes, epoch: int, readers: list[Person], k: int) -> tuple[list[bytes], list[str]]:
        journalist = bytes.fromhex(self.hers.account.verify)
        dossier = bytes.fromhex(self.id)
        shares = sharing.split(secret, k, len(readers), os.urandom)
        sealed = [
            age.seal(
                sharing.write_share(DealtShare(journalist, dossier, epoch, share, self.title)),
                reader.card.recipient,
                os.urandom,
            )
            for share, reader in zip(shares, readers, strict=True)
        ]
        commitments = [sharing.commitment(journalist, dossier, epoch, share).hex() for share in shares]
        return sealed, commitments

    def for_custodian(self, value: bytes, epoch: int) -> bytes:
        dealt = DealtShare(
            bytes.fromhex(self.hers.account.verify), bytes.fromhex(self.id), epoch, Share(1, value), ""
        )
        return age.seal(sharing.write_share(dealt), self.world.custodian.card.recipient, os.urandom)

    def roster(
        self,
        epoch: int,
        prev: str | None,
        readers: list[Person],
        k: int,
        sealed: list[bytes],
        commitments: list[str],
        given: bytes,
        deal: bytes,
        plan: Plan,
        cooling: int,
        commitment: str | None,
    ) -> statements.Roster:
        return statements.Roster(
            dossier=self.id,
            epoch=epoch,
            prev=prev,
            recipient=str(self.key.recipient),
            k=k,
            collaborators=tuple(
                statements.Collaborator(place, each.card.envelope.decode(), True, promise, digest(blob))
                for place, (each, promise, blob) in enumerate(
                    zip(readers, commitments, sealed, strict=True), 1
                )
            ),
            t=1,
            custodians=(
                statements.Custodian(
                    1, self.world.custodian.card.envelope.decode(), digest(given), commitment
                ),
            ),
            deal=digest(deal),
            minimum=2,
            plan=statements.Dwells(*plan.dwells()),
            cooling=cooling,
        )

    def first_roster(self, plan: Plan, cooling: int) -> wire.DossierCreation:
        sealed, commitments = self.deal(self.c, 1, self.readers, self.k)
        given = self.for_custodian(self.r, 1)
        deal = age.seal(b"deal", self.hers.keyring.deal_recipient, os.urandom)
        journalist = bytes.fromhex(self.hers.account.verify)
        promise = sharing.release_commitment(journalist, bytes.fromhex(self.id), 1, Share(1, self.r)).hex()
        roster = self.roster(
            1, None, self.readers, self.k, sealed, commitments, given, deal, plan, cooling, promise
        )
        self.plan, self.cooling = plan, cooling
        return wire.DossierCreation(
            roster=self.hers.sign(roster),
            shares=tuple(wire.write_blob(blob) for blob in sealed),
            release_shares=(wire.write_blob(given),),
            deal=wire.write_blob(deal),
            title=wire.write_blob(age.seal(self.title.encode(), self.hers.card.recipient, os.urandom)),
        )

    def next_roster(self, readers: list[Person], k: int) -> tuple[wire.RosterChange, wire.Corrections, bytes]:
        """Epoch e+1 with a random D: the change, the corrections to hand over later, and D itself."""
        row = self.world.records.dossier(self.id)
        assert row is not None
        d = os.urandom(32)
        epoch = row.epoch + 1
        sealed, commitments = self.deal(sharing.xor(self.c, d), epoch, readers, k)
        given = self.for_custodian(d, epoch)
        deal = age.seal(b"deal", self.hers.keyring.deal_recipient, os.urandom)
        roster = self.roster(
            epoch, row.roster, readers, k, sealed, commitments, given, deal, self.plan, self.cooling, None
        )
        change = wire.RosterChange(
            roster=self.hers.sign(roster),
            shares=tuple(wire.write_blob(blob) for blob in sealed),
            deal=wire.write_blob(deal),
            corrections=None,
        )
        return change, wire.Corrections((wire.write_blob(given),)), d

    def push(self, objects: int = 2) -> list[str]:
        """A bundle of real objects, and its head."""
        world, hers = self.world, self.hers
        names = []
        for _ in range(objects):
            made = seal_object(os.urandom(16) + bytes(SLICE_SIZE - 16), self.key.recipient, os.urandom)
            deposit.receive(world.records, world.objects, hers.account, self.id, made.name, 0, [made.data], 0)
            names.append(made.name)
        row = world.records.dossier(self.id)
        assert row is not None
        root = wire.write_blob(age.seal(bytes(4096), self.key.recipient, os.urandom))
        head = statements.Head(
            self.id, row.bundles + 1, row.head, tuple(names), root, None, world.clock.wall()
        )
        submission = wire.Submission(hers.sign(head))
        deposit.commit(world.records, world.custodian, hers.account, self.id, submission)
        return names

    def prove(self, *readers: Person) -> None:
        row = self.world.records.dossier(self.id)
        assert row is not None
        for reader in readers or self.readers:
            line = self.world.records.collaborator(self.id, reader.account.id)
            assert line is not None
            reader.order(self.id, statements.Proof, epoch=row.epoch, roster=row.roster, index=line.place)

    def arm(self, anyway: bool = False) -> None:
        row = self.world.records.dossier(self.id)
        assert row is not None
        self.hers.order(self.id, statements.Arm, epoch=row.epoch, anyway=anyway)

    @property
    def stage(self) -> Stage:
        return self.world.stage(self.id)


def digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def an_armed_dossier(
    world: World, plan: Plan = DEFAULT_PLAN, readers: int = 3, k: int = 2, cooling: int = 168 * HOUR
) -> Dossier:
    """A journalist with one address, colleagues with one each, a push, every share proved, armed."""
    ana = world.journalist()
    ana.confirm("ana@example.org")
    colleagues = [ana.colleague(f"colleague {number}") for number in range(1, readers + 1)]
    for number, each in enumerate(colleagues, 1):
        each.confirm(f"c{number}@example.org")
    made = ana.create(colleagues, k, plan, cooling)
    made.push()
    made.prove()
    made.arm()
    return made


def until(made: Dossier, stage: Stage) -> None:
    """Jump to the end of each stage; the letters of each land on the way."""
    for _ in range(30):
        if made.stage is stage:
            return
        due = made.world.records.switch(made.id).switch.due
        service = made.world.records.service()
        assert due is not None
        assert service is not None
        made.world.skip(max(0, due - service.served))
        made.world.pass_time(10 * made.world.tick)
    raise AssertionError(f"never {stage}")


def ask(made: Dossier, change: wire.RosterChange) -> tuple[bytes, str | None]:
    """Hand in a roster: the acknowledgement, and the change if it has to cool."""
    world = made.world
    return dossiers.change_roster(world.records, world.custodian, made.hers.account, made.id, change)


def hand_over(made: Dossier, corrections: wire.Corrections, epoch: int | None = None) -> bytes:
    row = made.world.records.dossier(made.id)
    assert row is not None
    return dossiers.correct_roster(
        made.world.records,
        made.world.custodian,
        made.hers.account,
        made.id,
        epoch or row.epoch + 1,
        corrections,
    )


def cool(made: Dossier) -> None:
    """Live through the cooling time, checking in every day."""
    for _ in range(int(made.cooling // (24 * HOUR)) + 1):
        made.world.skip(24 * HOUR)
        made.hers.check_in()


def change_roster(made: Dossier, readers: list[Person], k: int) -> bytes:
    """Asked for, cooled, corrected; D."""
    change, corrections, d = made.next_roster(readers, k)
    ask(made, change)
    cool(made)
    hand_over(made, corrections)
    made.readers = readers
    return d
