"""Everything a server does for people, each as a workflow that can be run, killed anywhere, and run again.

Rule of this room: what is sent was signed before the workflow begins, so that it is sent again byte for byte; every
step may be taken twice, as by a client that never heard the answer.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.fire.stand import Base, Prepared, Said, Server, Step, room, settings_of
from tests.world import Dossier, Person, ask, cool, digest, hand_over, until
from vault import (
    accounts,
    age,
    compose,
    deposit,
    dossiers,
    identity,
    keeping,
    orders,
    sharing,
    statements,
    wire,
)
from vault.clock import DAY, HOUR
from vault.errors import AfterwordError, Refused
from vault.plans import DEFAULT_PLAN
from vault.sharing import DealtShare
from vault.storage.sqlite import load_migrations
from vault.stream import OBJECT_SIZE, SLICE_SIZE, seal_object
from vault.switch import Stage

PLANTED: Final = ("ana@example.org", "c1@example.org", "phrase of ana", "colleague 2", "Marmoset Ledger")
QUOTA: Final = 1 << 40


class Planned(Dossier):
    """A dossier whose creation is signed and not sent yet."""

    title = "Marmoset Ledger"

    def __init__(self, hers: Person, readers: list[Person], k: int = 2) -> None:
        self.hers, self.readers, self.k, self.world = hers, readers, k, hers.world
        self.id = os.urandom(16).hex()
        self.key = age.Identity(os.urandom(32))
        self.c = os.urandom(32)
        self.r = sharing.xor(self.key.reveal(), self.c)
        self.request = self.first_roster(DEFAULT_PLAN, 168 * HOUR)


# Servers as they stand before a workflow.


def _further(before: Base, name: str, live: Callable[[Server, Base], None]) -> Base:
    """The same server after it has lived through something."""
    folder = room() / f"base-{name}"
    shutil.copytree(before.folder, folder)
    after = Base(folder, before.server, before.clock, before.made, dict(before.people), list(before.secrets))
    server = before.server
    server.take_up(folder, before.clock)
    live(server, after)
    server.put_down()
    after.clock = server.clock
    return after


@cache
def founded() -> Base:
    server = Server(room() / "base-founded")
    return Base(server.folder, server, server.clock)


@cache
def peopled() -> Base:
    def live(server: Server, base: Base) -> None:
        ana = server.journalist()
        ana.confirm("ana@example.org")
        base.people["ana"] = ana
        for number in (1, 2, 3):
            base.people[f"c{number}"] = each = ana.colleague(f"colleague {number}")
            each.confirm(f"c{number}@example.org")
        server.pass_time(4 * server.tick)

    return _further(founded(), "peopled", live)


def readers_of(base: Base) -> list[Person]:
    return [base.people[f"c{number}"] for number in (1, 2, 3)]


@cache
def created() -> Base:
    def live(server: Server, base: Base) -> None:
        base.made = made = Planned(base.people["ana"], readers_of(base))
        dossiers.create(server.records, server.custodian, made.hers.account, made.request, short=False)
        base.secrets += [made.key.reveal(), made.c, made.r]

    return _further(peopled(), "created", live)


def the(base: Base) -> Dossier:
    assert base.made is not None
    return base.made


@cache
def pushed() -> Base:
    def live(server: Server, base: Base) -> None:
        the(base).push()
        the(base).prove()

    return _further(created(), "pushed", live)


@cache
def armed() -> Base:
    def live(server: Server, base: Base) -> None:
        the(base).arm()
        server.pass_time(4 * server.tick)

    return _further(pushed(), "armed", live)


def _to(stage: Stage) -> Callable[[Server, Base], None]:
    return lambda server, base: until(the(base), stage)


def _nearly(server: Server, base: Base) -> None:
    """Two ticks before the stage it is in has run its course."""
    due = server.records.switch(the(base).id).switch.due
    service = server.records.service()
    assert due is not None
    assert service is not None
    server.skip(due - service.served - 2 * server.tick)


@cache
def at(stage: Stage) -> Base:
    return _further(armed(), stage.value, _to(stage))


@cache
def before(stage: Stage) -> Base:
    earlier = {
        Stage.REMINDED: Stage.ARMED,
        Stage.WARNED: Stage.REMINDED,
        Stage.GRACE: Stage.WARNED,
        Stage.RELEASED: Stage.GRACE,
    }[stage]
    return _further(armed() if earlier is Stage.ARMED else at(earlier), f"before-{stage.value}", _nearly)


@cache
def unspoken(stage: Stage) -> Base:
    """The stage is entered, and none of its letters has left."""

    def live(server: Server, base: Base) -> None:
        server.delivering = False
        server.pass_time(6 * server.tick)
        server.delivering = True
        assert the(base).stage is stage

    return _further(before(stage), f"unspoken-{stage.value}", live)


# Steps.


def submitted(
    hers: Person, dossier: str, statement: statements.Statement, sealed: Iterable[bytes] = ()
) -> Step:
    request = wire.Submission(hers.sign(statement), tuple(wire.write_blob(blob) for blob in sealed))
    account = hers.account

    def act(server: Server) -> bytes:
        answer, _ = orders.submit(
            server.records, server.custodian, account, dossier, request, short=server.short
        )
        return answer

    return Step(statement.kind, act, signed=True)


def order(
    hers: Person, dossier: str, kind: type[statements.Statement], ahead: int = 1, **fields: Any
) -> Step:  # Any: the fields differ with the kind
    common: dict[str, Any] = {  # Any: as above
        "server": hers.world.custodian.hash,
        "dossier": dossier,
        "seq": hers.account.seq + ahead,
        "created": hers.world.clock.wall(),
    }
    if kind in (statements.Pause, statements.Resume, statements.Hold):
        common["nonce"] = hers.nonce()
    sealed = fields.pop("sealed", ())
    return submitted(hers, dossier, kind(**common, **fields), sealed)


def life_sign(hers: Person, ahead: int = 1) -> Step:
    request = hers.checkin_request(hers.account.seq + ahead)

    def act(server: Server) -> bytes:
        answer, refused = hers.check_in(request)
        # After the release she is told the truth; the answer to what was taken before stays what it was.
        assert not refused or any(each.code == "not-possible-now" for each in refused)
        return answer

    return Step(f"check-in {ahead}", act, proves_life=True, signed=True)


def lived(name: str, ticks: int = 6) -> Step:
    def act(server: Server) -> None:
        server.pass_time(ticks * server.tick)

    return Step(name, act)


# Workflows: each takes its own copy of a server and says what is to be done.

Making = Callable[[Server, Base], list[Step]]
FLOWS: Final[dict[str, Callable[[], Prepared]]] = {}


def _workflow(base: Callable[[], Base], **more: Any) -> Callable[[Making], Making]:  # Any: fields of Prepared
    def named(make: Making) -> Making:
        name = make.__name__.strip("_").replace("_", "-")

        def prepare() -> Prepared:
            steps: list[Step] = []
            own = _further(base(), f"flow-{name}", lambda server, own: steps.extend(make(server, own)))
            return Prepared(name, own, steps, **more)

        FLOWS[name] = cache(prepare)
        return make

    return named


def prepared(name: str) -> Prepared:
    return FLOWS[name]()


@_workflow(founded)
def enrol(server: Server, base: Base) -> list[Step]:
    code = accounts.invite_journalist(server.records, server.custodian)
    seeds = {name: identity.RootSeed(os.urandom(32)) for name in ("ana", "reader")}
    keys = {name: identity.Keyring.from_seed(seed) for name, seed in seeds.items()}
    cards = {
        name: identity.read_card(identity.write_card(name, each, server.clock.wall(), "cli"))
        for name, each in keys.items()
    }
    asked = wire.AddressRequest("ana@example.org", "en", "Reminder", "phrase of ana")
    invites: list[str] = []

    def account(server: Server, name: str) -> Any:  # Any: an Account; None is a mistake of the test
        return server.records.account_with_card(cards[name].hash.hex())

    def join(name: str, code: Callable[[], str]) -> Callable[[Server], bytes]:
        def act(server: Server) -> bytes:
            joining = wire.Joining(code(), cards[name].envelope.decode())
            return accounts.join(server.records, server.custodian, joining, QUOTA).role.encode()

        return act

    def confirm(server: Server) -> bytes:
        hers = account(server, "ana")
        if not server.records.confirmed_addresses_of(hers.id):
            accounts.add_address(server.records, server.custodian, hers, asked)
            server.deliver()
            words = server.courier.carried[-1].body.split()
            accounts.confirm_address(
                server.records, server.custodian, hers, words[words.index("confirm") + 1]
            )
        return b"confirmed"

    def invite(server: Server) -> None:
        made = accounts.invite_collaborator(
            server.records, server.custodian, account(server, "ana"), "reader"
        )
        invites.append(made.code)

    return [
        Step("join", join("ana", lambda: code)),
        Step("address", confirm),
        Step("invite", invite),
        Step("colleague joins", join("reader", lambda: invites[-1])),
    ]


@_workflow(peopled)
def sign_in(server: Server, base: Base) -> list[Step]:
    ana = base.people["ana"]
    login = statements.Login(
        server=server.custodian.hash,
        verify=ana.card.verify_key.hex,
        nonce=ana.nonce(),
        created=server.clock.wall(),
    )
    request = wire.SessionRequest(login=statements.write(login, ana.keyring.sign).decode())

    def act(server: Server) -> None:
        # A session is nobody's promise: a nonce that was spent by the lost one means signing anew.
        with contextlib.suppress(Refused):
            token = accounts.sign_in(server.records, server.custodian, request).token
            accounts.sign_out(server.records, token)

    return [Step("sign in", act)]


@_workflow(peopled)
def create(server: Server, base: Base) -> list[Step]:
    made = base.made = Planned(base.people["ana"], readers_of(base))
    base.secrets += [made.key.reveal(), made.c, made.r]
    account = made.hers.account
    return [
        Step(
            "create",
            lambda server: dossiers.create(
                server.records, server.custodian, account, made.request, short=False
            )[1],
            signed=True,
        )
    ]


def _objects(made: Dossier, count: int = 2) -> list[Any]:  # Any: what seal_object makes
    return [
        seal_object(os.urandom(16) + bytes(SLICE_SIZE - 16), made.key.recipient, os.urandom)
        for _ in range(count)
    ]


def _received(made: Dossier, account: Any, sealed: Any, name: str) -> Step:  # Any: see _objects
    def act(server: Server) -> None:
        _, held = deposit.held(server.records, server.objects, account, made.id, sealed.name)
        deposit.receive(
            server.records, server.objects, account, made.id, sealed.name, held % OBJECT_SIZE,
            [sealed.data[held % OBJECT_SIZE :]], settings_of(server.folder).low_water,
        )  # fmt: skip

    return Step(name, act)


def _head(made: Dossier, names: tuple[str, ...]) -> Step:
    server = made.world
    row = server.records.dossier(made.id)
    assert row is not None
    root = wire.write_blob(age.seal(bytes(4096), made.key.recipient, os.urandom))
    head = statements.Head(made.id, row.bundles + 1, row.head, names, root, None, server.clock.wall())
    request, account = wire.Submission(made.hers.sign(head)), made.hers.account
    return Step(
        "head",
        lambda server: deposit.commit(server.records, server.custodian, account, made.id, request),
        signed=True,
    )


@_workflow(created)
def upload(server: Server, base: Base) -> list[Step]:
    made = the(base)
    first, second = _objects(made)
    account = made.hers.account

    def half(server: Server) -> None:
        def body() -> Iterator[bytes]:
            yield first.data[: OBJECT_SIZE // 2]
            raise ConnectionResetError

        with contextlib.suppress(ConnectionResetError, AfterwordError):
            deposit.receive(
                server.records, server.objects, account, made.id, first.name, 0, body(),
                settings_of(server.folder).low_water,
            )  # fmt: skip

    return [
        Step("half of an object", half),
        _received(made, account, first, "the rest of it"),
        _received(made, account, second, "another"),
        _head(made, (first.name, second.name)),
    ]


@_workflow(created)
def upload_whole(server: Server, base: Base) -> list[Step]:
    made = the(base)
    account = made.hers.account
    return [_received(made, account, each, f"object {place}") for place, each in enumerate(_objects(made), 1)]


@_workflow(created)
def head(server: Server, base: Base) -> list[Step]:
    made = the(base)
    sealed = _objects(made)
    for each in sealed:
        deposit.receive(
            server.records, server.objects, made.hers.account, made.id, each.name, 0, [each.data], 0
        )
    return [_head(made, tuple(each.name for each in sealed))]


@_workflow(pushed)
def arm(server: Server, base: Base) -> list[Step]:
    made = the(base)
    row = server.records.dossier(made.id)
    assert row is not None
    return [order(made.hers, made.id, statements.Arm, epoch=row.epoch, anyway=False)]


@_workflow(created)
def proof(server: Server, base: Base) -> list[Step]:
    made = the(base)
    row = server.records.dossier(made.id)
    assert row is not None
    found = []
    for reader in made.readers[:2]:
        line = server.records.collaborator(made.id, reader.account.id)
        assert line is not None
        each = order(reader, made.id, statements.Proof, epoch=row.epoch, roster=row.roster, index=line.place)
        found.append(Step(f"proof {line.place}", each.act, signed=True))
    return found


@_workflow(armed)
def check_in(server: Server, base: Base) -> list[Step]:
    # Of what she says again and again only the newest is kept, so there is one, after another.
    hers = the(base).hers
    hers.check_in()
    return [life_sign(hers)]


@_workflow(lambda: at(Stage.GRACE))
def check_in_late(server: Server, base: Base) -> list[Step]:
    return [life_sign(the(base).hers), lived("all-clear")]


@_workflow(lambda: before(Stage.REMINDED))
def remind(server: Server, base: Base) -> list[Step]:
    return [lived("reminded")]


@_workflow(lambda: before(Stage.WARNED))
def warn(server: Server, base: Base) -> list[Step]:
    return [lived("warned")]


@_workflow(lambda: before(Stage.GRACE))
def grace(server: Server, base: Base) -> list[Step]:
    return [lived("grace")]


@_workflow(lambda: before(Stage.RELEASED))
def release(server: Server, base: Base) -> list[Step]:
    return [lived("released")]


@_workflow(lambda: unspoken(Stage.WARNED))
def letters(server: Server, base: Base) -> list[Step]:
    return [Step("delivered", lambda server: (server.deliver(), None)[1]), lived("a while")]


@_workflow(lambda: unspoken(Stage.RELEASED))
def release_letters(server: Server, base: Base) -> list[Step]:
    return [
        Step("delivered", lambda server: (server.deliver(), None)[1]),
        Step("told again", lambda server: server.skip(2 * HOUR)),
    ]


@_workflow(lambda: at(Stage.RELEASED))
def collection(server: Server, base: Base) -> list[Step]:
    made = the(base)
    row = server.records.dossier(made.id)
    assert row is not None
    giver, *others = made.readers
    line = server.records.collaborator(made.id, giver.account.id)
    assert line is not None
    sealed = server.records.collaborators(made.id)[line.place - 1].share
    mine = sharing.read_share(age.open_sealed(sealed, giver.keyring.seal)).share
    dealt = DealtShare(
        bytes.fromhex(made.hers.account.verify), bytes.fromhex(made.id), row.epoch, mine, made.title
    )
    blobs = [age.seal(sharing.write_share(dealt), each.card.recipient, os.urandom) for each in others]
    base.secrets.append(mine.value)
    given = order(
        giver, made.id, statements.Contribution, epoch=row.epoch, roster=row.roster, index=line.place,
        readers=tuple(
            statements.SealedTo(each.card.hash.hex(), digest(blob)) for each, blob in zip(others, blobs, strict=True)
        ),
        sealed=blobs,
    )  # fmt: skip
    collected = order(others[0], made.id, statements.Collected, roster=row.roster)
    return [given, collected, lived("quiet")]


@_workflow(armed)
def roster_asked(server: Server, base: Base) -> list[Step]:
    made = the(base)
    change, _, d = made.next_roster(made.readers[:2], 2)
    base.secrets.append(d)
    return [Step("roster", lambda server: ask(made, change)[0], signed=True), lived("told")]


@_workflow(armed)
def roster_corrected(server: Server, base: Base) -> list[Step]:
    made = the(base)
    change, corrections, d = made.next_roster(made.readers[:2], 2)
    base.secrets += [d, sharing.xor(made.r, d)]
    ask(made, change)
    cool(made)
    epoch = 2
    return [
        Step("correction", lambda server: hand_over(made, corrections, epoch), signed=True),
        lived("told"),
    ]


@_workflow(armed)
def pause_and_resume(server: Server, base: Base) -> list[Step]:
    made = the(base)
    return [
        order(made.hers, made.id, statements.Pause, length=48 * HOUR),
        order(made.hers, made.id, statements.Resume, ahead=2),
    ]


@_workflow(armed)
def plan(server: Server, base: Base) -> list[Step]:
    made = the(base)
    shorter = statements.Dwells(
        DEFAULT_PLAN.every - HOUR, DEFAULT_PLAN.remind, DEFAULT_PLAN.warn, DEFAULT_PLAN.grace
    )
    longer = statements.Dwells(
        DEFAULT_PLAN.every + HOUR, DEFAULT_PLAN.remind, DEFAULT_PLAN.warn, DEFAULT_PLAN.grace
    )
    return [
        order(made.hers, made.id, statements.PlanChange, plan=shorter),
        Step(
            "plan that cools",
            order(made.hers, made.id, statements.PlanChange, ahead=2, plan=longer).act,
            signed=True,
        ),
    ]


@_workflow(pushed)
def destroy(server: Server, base: Base) -> list[Step]:
    made = the(base)
    return [
        order(made.hers, made.id, statements.Destroy),
        Step("swept", lambda server: (deposit.sweep(server.records, server.objects), None)[1]),
    ]


@_workflow(armed)
def destroy_cooled(server: Server, base: Base) -> list[Step]:
    made = the(base)
    order(made.hers, made.id, statements.Destroy).act(server)
    for _ in range(6):
        server.skip(24 * HOUR)
        made.hers.check_in()
    server.skip(24 * HOUR - 3 * server.tick)
    made.hers.check_in()
    return [lived("destroyed", 8)]


@_workflow(armed)
def address_removal(server: Server, base: Base) -> list[Step]:
    made = the(base)
    made.hers.confirm("second@example.org")
    (row,) = [
        each
        for each in server.records.addresses_of(made.hers.account.id)
        if accounts.outbox.read_reach(server.custodian, each).address == "second@example.org"
    ]
    reader = made.readers[0]
    (theirs,) = server.records.addresses_of(reader.account.id)
    account, their_account = made.hers.account, reader.account

    def asked(server: Server) -> bytes:
        removed = accounts.remove_address(server.records, server.custodian, account, row.id)
        return (removed.change or "").encode()

    def at_once(server: Server) -> None:
        with contextlib.suppress(AfterwordError):  # it is gone already
            accounts.remove_address(server.records, server.custodian, their_account, theirs.id)

    return [Step("asked", asked), Step("gone at once", at_once)]


@_workflow(lambda: at(Stage.WARNED))
def hold(server: Server, base: Base) -> list[Step]:
    made = the(base)
    climb = server.records.switch(made.id).switch.ladder
    return [
        order(made.readers[0], made.id, statements.Hold, climb=climb, because="reached"),
        lived("told"),
    ]


@_workflow(armed)
def leave(server: Server, base: Base) -> list[Step]:
    made = the(base)
    return [order(made.readers[2], made.id, statements.Leave)]


@_workflow(armed)
def housekeeping(server: Server, base: Base) -> list[Step]:
    made = the(base)
    for each in _objects(made, 2):
        deposit.receive(
            server.records, server.objects, made.hers.account, made.id, each.name, 0, [each.data], 0
        )
    with server.database.transaction():
        server.database.run("UPDATE service SET lived = lived + :ms, at = at + :ms", ms=31 * DAY)
    server.clock.at += 31 * DAY
    return [Step("tidied", lambda server: compose._tidy(server.vault)), lived("a while")]


@_workflow(armed)
def ballast(server: Server, base: Base) -> list[Step]:
    """Taken with the first beat, given up when the disk is full, taken again when there is room."""
    (server.folder / "ballast").unlink(missing_ok=True)

    def full(server: Server) -> None:
        real = os.statvfs

        def none_left(path: Any) -> os.statvfs_result:  # Any: whatever statvfs takes
            seen = real(path)
            return os.statvfs_result((*seen[:3], 0, 0, *seen[5:]))

        os.statvfs = none_left
        try:
            server.beat()
        finally:
            os.statvfs = real

    return [Step("taken", Server.beat), Step("given up", full), Step("taken again", Server.beat)]


@_workflow(armed)
def backup(server: Server, base: Base) -> list[Step]:
    def act(server: Server) -> None:
        made = keeping.back_up(
            server.database, server.records, server.objects, server.custodian, server.folder,
            server.folder / "backups",
        )  # fmt: skip
        server.promises.say("backup", file=made.file.name)

    return [Step("backed up", act)]


def _opens(server: Server, said: list[Said]) -> list[str]:
    """Every backup that was promised opens, and nothing half-written lies about."""
    wrong = []
    for each in said:
        if each["what"] == "backup":
            target = server.folder.parent / "opened.db"
            try:
                keeping.open_backup(
                    server.folder / "backups" / each["file"],
                    compose.read_key(server.folder / "server.key"),
                    target,
                )
            except (AfterwordError, OSError) as reason:
                wrong.append(f"the backup {each['file']} does not open: {reason}")
            target.unlink(missing_ok=True)
    return wrong


_backup_flow = FLOWS["backup"]


@cache
def _backup_checked() -> Prepared:
    made = _backup_flow()
    made.after = _opens
    return made


FLOWS["backup"] = _backup_checked


def _fresh(
    name: str, live: Callable[[Path], list[Step]], of: Base, **more: Any
) -> Prepared:  # Any: of Prepared
    folder = room() / f"flow-{name}"
    folder.mkdir(mode=0o700)
    steps = live(folder)
    return Prepared(
        name,
        Base(folder, of.server, of.clock, of.made, of.people, of.secrets),
        steps,
        opens=False,
        **more,
    )


@cache
def _found() -> Prepared:
    def live(folder: Path) -> list[Step]:
        def act(server: Server) -> bytes:
            settings = settings_of(server.folder)
            compose.found(settings)
            vault = compose.open_vault(settings)
            vault.records.db.close()
            return vault.custodian.card.envelope

        return [Step("founded", act)]

    return _fresh("found", live, founded())


@cache
def _restore() -> Prepared:
    of = at(Stage.GRACE)
    server = of.server

    def live(folder: Path) -> list[Step]:
        server.take_up(of.folder, of.clock)
        keeping.back_up(
            server.database, server.records, server.objects, server.custodian, room(), folder / "backups"
        )
        server.put_down()
        (folder / "server.key").write_bytes((of.folder / "server.key").read_bytes())

        def act(server: Server) -> None:
            try:
                compose.restore(settings_of(server.folder), server.folder / "backups")
            except Refused as refused:
                if refused.code != "not-empty":
                    raise

        return [Step("restored", act)]

    return _fresh("restore", live, of, known=of.folder / "afterword.db")


@cache
def _migration() -> Prepared:
    """The database of a server from before the second migration, with people and an armed switch in it."""
    base = armed()
    folder = room() / "flow-migration"
    shutil.copytree(base.folder, folder)
    older(folder / "afterword.db")
    base.server.take_up(base.folder, base.clock)
    step = life_sign(the(base).hers)
    base.server.put_down()
    return Prepared(
        "migration",
        Base(folder, base.server, base.clock, base.made, base.people, base.secrets),
        [step],
    )


def older(path: Path) -> None:
    """Take a database back to the first shape, rows and all."""
    newer = path.with_name("newer.db")
    path.rename(newer)
    first = load_migrations()[0]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        import sqlite_utils

        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        first.apply(sqlite_utils.Database(db, execute_plugins=False))
        db.execute("INSERT INTO migrations VALUES (?, ?)", (first.number, first.name))
        db.execute("ATTACH ? AS newer", (str(newer),))
        tables = [
            row[0]
            for row in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
            if row[0] != "migrations"
        ]
        for table in tables:
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")  # noqa: S608 our own names
        db.execute("DETACH newer")
    newer.unlink()
    path.chmod(0o600)


FLOWS.update({"found": _found, "restore": _restore, "migration": _migration})
