"""What moves a switch, holds it, speaks of it and ends it.

Rule of this room: every step may be taken twice; time passes by the test's own clock.
"""

import contextlib
import os

from tests.fire.bases import armed, at, before, life_sign, lived, order, pushed, the, unspoken, workflow
from tests.fire.stand import Base, Server, Step
from tests.world import ask, cool, digest, hand_over
from vault import (
    accounts,
    age,
    deposit,
    sharing,
    statements,
)
from vault.clock import HOUR
from vault.errors import AfterwordError
from vault.plans import DEFAULT_PLAN
from vault.sharing import DealtShare
from vault.switch import Stage


@workflow(armed)
def check_in(server: Server, base: Base) -> list[Step]:
    # Of what she says again and again only the newest is kept, so there is one, after another.
    hers = the(base).hers
    hers.check_in()
    return [life_sign(hers)]


@workflow(lambda: at(Stage.GRACE))
def check_in_late(server: Server, base: Base) -> list[Step]:
    return [life_sign(the(base).hers), lived("all-clear")]


@workflow(lambda: before(Stage.REMINDED))
def remind(server: Server, base: Base) -> list[Step]:
    return [lived("reminded")]


@workflow(lambda: before(Stage.WARNED))
def warn(server: Server, base: Base) -> list[Step]:
    return [lived("warned")]


@workflow(lambda: before(Stage.GRACE))
def grace(server: Server, base: Base) -> list[Step]:
    return [lived("grace")]


@workflow(lambda: before(Stage.RELEASED))
def release(server: Server, base: Base) -> list[Step]:
    return [lived("released")]


@workflow(lambda: unspoken(Stage.WARNED))
def letters(server: Server, base: Base) -> list[Step]:
    return [Step("delivered", lambda server: (server.deliver(), None)[1]), lived("a while")]


@workflow(lambda: unspoken(Stage.RELEASED))
def release_letters(server: Server, base: Base) -> list[Step]:
    return [
        Step("delivered", lambda server: (server.deliver(), None)[1]),
        Step("told again", lambda server: server.skip(2 * HOUR)),
    ]


@workflow(lambda: at(Stage.RELEASED))
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


@workflow(armed)
def roster_asked(server: Server, base: Base) -> list[Step]:
    made = the(base)
    change, _, d = made.next_roster(made.readers[:2], 2)
    base.secrets.append(d)
    return [Step("roster", lambda server: ask(made, change)[0], signed=True), lived("told")]


@workflow(armed)
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


@workflow(armed)
def pause_and_resume(server: Server, base: Base) -> list[Step]:
    made = the(base)
    return [
        order(made.hers, made.id, statements.Pause, length=48 * HOUR),
        order(made.hers, made.id, statements.Resume, ahead=2),
    ]


@workflow(armed)
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


@workflow(pushed)
def destroy(server: Server, base: Base) -> list[Step]:
    made = the(base)
    return [
        order(made.hers, made.id, statements.Destroy),
        Step("swept", lambda server: (deposit.sweep(server.records, server.objects), None)[1]),
    ]


@workflow(armed)
def destroy_cooled(server: Server, base: Base) -> list[Step]:
    made = the(base)
    order(made.hers, made.id, statements.Destroy).act(server)
    for _ in range(6):
        server.skip(24 * HOUR)
        made.hers.check_in()
    server.skip(24 * HOUR - 3 * server.tick)
    made.hers.check_in()
    return [lived("destroyed", 8)]


@workflow(armed)
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


@workflow(lambda: at(Stage.WARNED))
def hold(server: Server, base: Base) -> list[Step]:
    made = the(base)
    climb = server.records.switch(made.id).switch.ladder
    return [
        order(made.readers[0], made.id, statements.Hold, climb=climb, because="reached"),
        lived("told"),
    ]
