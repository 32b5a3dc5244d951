"""Servers as they stand before a workflow, the steps that workflows are made of, and the list of all workflows.

Rule of this room: what is sent was signed before the workflow begins, so that it is sent again byte for byte.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from tests.fire.stand import Base, Prepared, Server, Step, room
from tests.world import Dossier, Person, until
from vault import age, dossiers, orders, sharing, statements, wire
from vault.clock import HOUR
from vault.plans import DEFAULT_PLAN
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


def further(before: Base, name: str, live: Callable[[Server, Base], None]) -> Base:
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

    return further(founded(), "peopled", live)


def readers_of(base: Base) -> list[Person]:
    return [base.people[f"c{number}"] for number in (1, 2, 3)]


@cache
def created() -> Base:
    def live(server: Server, base: Base) -> None:
        base.made = made = Planned(base.people["ana"], readers_of(base))
        dossiers.create(server.records, server.custodian, made.hers.account, made.request, short=False)
        base.secrets += [made.key.reveal(), made.c, made.r]

    return further(peopled(), "created", live)


def the(base: Base) -> Dossier:
    assert base.made is not None
    return base.made


@cache
def pushed() -> Base:
    def live(server: Server, base: Base) -> None:
        the(base).push()
        the(base).prove()

    return further(created(), "pushed", live)


@cache
def armed() -> Base:
    def live(server: Server, base: Base) -> None:
        the(base).arm()
        server.pass_time(4 * server.tick)

    return further(pushed(), "armed", live)


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
    return further(armed(), stage.value, _to(stage))


@cache
def before(stage: Stage) -> Base:
    earlier = {
        Stage.REMINDED: Stage.ARMED,
        Stage.WARNED: Stage.REMINDED,
        Stage.GRACE: Stage.WARNED,
        Stage.RELEASED: Stage.GRACE,
    }[stage]
    return further(armed() if earlier is Stage.ARMED else at(earlier), f"before-{stage.value}", _nearly)


@cache
def unspoken(stage: Stage) -> Base:
    """The stage is entered, and none of its letters has left."""

    def live(server: Server, base: Base) -> None:
        server.delivering = False
        server.pass_time(6 * server.tick)
        server.delivering = True
        assert the(base).stage is stage

    return further(before(stage), f"unspoken-{stage.value}", live)


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


def workflow(base: Callable[[], Base], **more: Any) -> Callable[[Making], Making]:  # Any: fields of Prepared
    def named(make: Making) -> Making:
        name = make.__name__.strip("_").replace("_", "-")

        def prepare() -> Prepared:
            steps: list[Step] = []
            own = further(base(), f"flow-{name}", lambda server, own: steps.extend(make(server, own)))
            return Prepared(name, own, steps, **more)

        FLOWS[name] = cache(prepare)
        return make

    return named


def prepared(name: str) -> Prepared:
    return FLOWS[name]()
