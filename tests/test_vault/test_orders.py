"""What people order about a dossier, signed."""

import os
from collections.abc import Callable

import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, digest, until
from vault import age, orders, statements, views, wire
from vault.clock import HOUR
from vault.errors import AfterwordError, Malformed, NoSpace, NotFound, Refused, StaleSequence, Untrusted
from vault.plans import Plan
from vault.statements import Dwells
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)


def code_of(do: object) -> str:
    with pytest.raises(AfterwordError) as refused:
        do()  # type: ignore[operator]
    return refused.value.code


def a_new_dossier(world: World) -> Dossier:
    ana = world.journalist()
    return ana.create([ana.colleague(f"c{number}") for number in range(3)], 2, PLAN)


def brief(made: Dossier, readers: list[Person], text: bytes = b"Call Bea first.") -> None:
    blobs = tuple(age.seal(text, each.card.recipient, os.urandom) for each in readers)
    lines = tuple(
        statements.SealedTo(each.card.hash.hex(), digest(blob))
        for each, blob in zip(readers, blobs, strict=True)
    )
    made.hers.order(made.id, statements.Brief, blobs, epoch=1, readers=lines)


def test_arming_is_refused_with_the_list_of_what_is_missing(world: World) -> None:
    made = a_new_dossier(world)
    with pytest.raises(Refused) as refused:
        made.arm()
    assert refused.value.code == "not-ready"
    for word in ("pushed", "drill", "address", "--anyway"):
        assert word in str(refused.value)
    assert views.dossier(world.records, made.hers.account, made.id).missing == ("push", "proofs", "address")
    made.push()
    made.hers.confirm("ana@example.org")
    made.prove(made.readers[0])
    assert views.dossier(world.records, made.hers.account, made.id).missing == ("proofs",)
    made.prove(made.readers[1])
    made.arm()
    assert made.stage is Stage.ARMED


def test_a_proof_of_somebody_who_left_does_not_count(world: World) -> None:
    made = a_new_dossier(world)
    made.push()
    made.hers.confirm("ana@example.org")
    made.prove(*made.readers[:2])
    made.readers[0].order(made.id, statements.Leave)
    assert code_of(made.arm) == "not-ready"


def test_anyway_arms_what_is_not_ready(world: World) -> None:
    made = a_new_dossier(world)
    made.arm(anyway=True)
    assert made.stage is Stage.ARMED


def test_arming_names_the_roster_it_was_meant_for(world: World) -> None:
    made = a_new_dossier(world)
    assert code_of(lambda: made.hers.order(made.id, statements.Arm, epoch=2, anyway=True)) == "wrong-epoch"
    assert made.stage is Stage.NEW


def test_arming_twice_arms_once(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    assert code_of(made.arm) == "not-possible-now"


@pytest.mark.parametrize("wrong", [{"epoch": 2}, {"roster": "ab" * 32}, {"index": 2}], ids=str)
def test_a_proof_is_of_this_roster_and_of_ones_own_share(world: World, wrong: dict[str, object]) -> None:
    made = a_new_dossier(world)
    row = world.records.dossier(made.id)
    assert row is not None
    fields: dict[str, object] = {"epoch": 1, "roster": row.roster, "index": 1, **wrong}
    assert code_of(lambda: made.readers[0].order(made.id, statements.Proof, **fields)) == "wrong-roster"


def test_a_journalist_cannot_prove_in_a_colleagues_place(world: World) -> None:
    made = a_new_dossier(world)
    row = world.records.dossier(made.id)
    assert row is not None
    with pytest.raises(NotFound):
        made.hers.order(made.id, statements.Proof, epoch=1, roster=row.roster, index=1)


ORDERS: dict[str, tuple[type[statements.Statement], dict[str, object]]] = {
    "arm": (statements.Arm, {"epoch": 1, "anyway": True}),
    "pause": (statements.Pause, {"length": HOUR}),
    "resume": (statements.Resume, {}),
    "plan": (statements.PlanChange, {"plan": Dwells(*[24 * HOUR] * 4)}),
    "destroy": (statements.Destroy, {}),
    "cancel": (statements.Cancel, {"change": "ab" * 32}),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_no_colleague_can_give_a_journalists_order(world: World, kind: str) -> None:
    made = an_armed_dossier(world, PLAN)
    statement, fields = ORDERS[kind]
    with pytest.raises(NotFound):
        made.readers[0].order(made.id, statement, **fields)
    assert made.stage is Stage.ARMED


@pytest.mark.parametrize("kind", [*ORDERS, "proof", "leave", "collected", "brief"])
def test_foreign_and_unknown_dossiers_are_one_answer(world: World, kind: str) -> None:
    made = an_armed_dossier(world, PLAN)
    bea = world.journalist("bea")
    more: dict[str, tuple[type[statements.Statement], dict[str, object]]] = {
        "proof": (statements.Proof, {"epoch": 1, "roster": "ab" * 32, "index": 1}),
        "leave": (statements.Leave, {}),
        "collected": (statements.Collected, {"roster": "ab" * 32}),
        "brief": (
            statements.Brief,
            {"epoch": 1, "readers": (statements.SealedTo("ab" * 32, digest(b"x")),)},
        ),
    }
    statement, fields = {**ORDERS, **more}[kind]
    blobs = (b"x",) if kind == "brief" else ()
    said = set()
    for dossier in (made.id, "00" * 16):
        with pytest.raises(NotFound) as refused:
            bea.order(dossier, statement, blobs, **fields)
        said.add((refused.value.code, str(refused.value)))
    assert len(said) == 1


def test_an_order_for_one_dossier_is_none_for_another(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    second = made.hers.create(made.readers, 2, PLAN)
    given = statements.Destroy(world.custodian.hash, second.id, made.hers.account.seq + 1, 1)
    submission = wire.Submission(made.hers.sign(given))
    with pytest.raises(NotFound):
        orders.submit(world.records, world.custodian, made.hers.account, made.id, submission, short=False)
    assert second.stage is Stage.NEW


def test_what_somebody_else_signed_is_not_taken_from_her(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    given = statements.Pause(world.custodian.hash, made.id, 99, made.hers.nonce(), HOUR, 1)
    signed = made.readers[0].sign(given)
    with pytest.raises(Untrusted):
        orders.submit(
            world.records, world.custodian, made.hers.account, made.id, wire.Submission(signed), short=False
        )
    assert made.stage is Stage.ARMED


@pytest.mark.parametrize("kind", ["checkin", "login", "head", "roster", "release"])
def test_a_statement_that_is_no_order_goes_elsewhere(world: World, kind: str) -> None:
    made = an_armed_dossier(world, PLAN)
    row = world.records.heads(made.id, 0, 1)[0]
    until(made, Stage.RELEASED)
    released = world.records.release(made.id)
    assert released is not None
    signed = {
        "checkin": made.hers.checkin_request().statement.encode(),
        "login": statements.write(
            statements.Login(world.custodian.hash, made.hers.card.verify_key.hex, made.hers.nonce(), 1),
            made.hers.keyring.sign,
        ),
        "head": row,
        "roster": made.request.roster.encode(),
        "release": released.envelope,
    }[kind]
    with pytest.raises(Refused) as refused:
        orders.submit(
            world.records,
            world.custodian,
            made.hers.account,
            made.id,
            wire.Submission(signed.decode()),
            short=False,
        )
    assert refused.value.code == "wrong-kind"


@pytest.mark.parametrize("body", ["", "{}", "null", "[]", '{"payload": ""}', "\x00", "é" * 100])
def test_what_is_no_envelope_is_malformed(world: World, body: str) -> None:
    made = an_armed_dossier(world, PLAN)
    with pytest.raises(Malformed):
        orders.submit(
            world.records, world.custodian, made.hers.account, made.id, wire.Submission(body), short=False
        )


def test_the_same_order_twice_is_done_once_and_answered_alike(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    given = statements.Destroy(world.custodian.hash, made.id, made.hers.account.seq + 1, 1)
    submission = wire.Submission(made.hers.sign(given))

    def send() -> tuple[bytes, str | None]:
        return orders.submit(
            world.records, world.custodian, made.hers.account, made.id, submission, short=False
        )

    first = send()
    world.pass_time(HOUR)
    assert send() == first
    assert len(world.records.changes_of_dossier(made.id)) == 1


def test_a_pause_and_a_resume_of_yesterday_cannot_be_sent_again(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    pause = statements.Pause(
        world.custodian.hash, made.id, made.hers.account.seq + 1, made.hers.nonce(), HOUR, 1
    )
    submission = wire.Submission(made.hers.sign(pause))
    orders.submit(world.records, world.custodian, made.hers.account, made.id, submission, short=False)
    made.hers.order(made.id, statements.Resume)
    orders.submit(world.records, world.custodian, made.hers.account, made.id, submission, short=False)
    assert made.stage is Stage.ARMED
    again = statements.Pause(world.custodian.hash, made.id, made.hers.account.seq + 1, pause.nonce, HOUR, 1)
    assert (
        code_of(
            lambda: orders.submit(
                world.records,
                world.custodian,
                made.hers.account,
                made.id,
                wire.Submission(made.hers.sign(again)),
                short=False,
            )
        )
        == "stale-nonce"
    )


def test_a_refused_order_leaves_no_trace(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    before = made.hers.account
    with pytest.raises(Refused):
        made.hers.order(made.id, statements.Resume)
    assert made.hers.account == before


def test_a_brief_is_read_by_those_it_is_sealed_to_from_day_one(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    one, two, _ = made.readers
    brief(made, [made.hers, one, two])
    for reader in (made.hers, one):
        shown = views.brief(world.records, reader.account, made.id)
        assert age.open_sealed(wire.read_blob(shown.sealed), reader.keyring.seal) == b"Call Bea first."
        statements.read(shown.statement.encode(), made.hers.card.verify_key, statements.Brief)
    assert code_of(lambda: views.brief(world.records, made.readers[2].account, made.id)) == "no-brief"
    brief(made, [made.readers[2]], b"New.")
    assert code_of(lambda: views.brief(world.records, one.account, made.id)) == "no-brief"
    assert views.dossier(world.records, made.readers[2].account, made.id).brief


def test_a_brief_goes_to_nobody_outside_of_the_roster(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    stranger = world.journalist("bea")
    assert code_of(lambda: brief(made, [stranger])) == "wrong-readers"
    assert code_of(lambda: brief(made, [made.readers[0], made.readers[0]])) == "wrong-readers"


def test_a_destroyed_dossier_takes_and_gives_nothing(world: World) -> None:
    made = a_new_dossier(world)
    made.hers.order(made.id, statements.Destroy)
    reader = made.readers[0]
    row = world.records.dossier(made.id)
    assert row is not None
    assert code_of(lambda: made.prove(reader)) == "destroyed"
    assert code_of(lambda: brief(made, [reader])) == "destroyed"
    assert code_of(lambda: views.share(world.records, reader.account, made.id)) == "destroyed"
    assert code_of(lambda: views.deal(world.records, made.hers.account, made.id)) == "destroyed"
    assert code_of(lambda: made.arm(anyway=True)) == "not-possible-now"
    assert views.dossier(world.records, reader.account, made.id).stage == "destroyed"


def test_a_late_pause_is_a_sign_of_life(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.WARNED)
    made.hers.order(made.id, statements.Pause, length=HOUR)
    assert made.stage is Stage.PAUSED
    world.pass_time(HOUR + 60_000)
    assert made.stage is Stage.ARMED


def test_a_plan_that_would_shorten_a_running_stage_waits_for_a_check_in(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.GRACE)
    shorter = Dwells(24 * HOUR, 6 * HOUR, 6 * HOUR, 6 * HOUR)
    assert (
        code_of(lambda: made.hers.order(made.id, statements.PlanChange, plan=shorter)) == "not-possible-now"
    )


def test_orders_of_one_person_are_numbered_across_dossiers(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    second = made.hers.create(made.readers, 2, PLAN)
    seq = made.hers.account.seq + 1
    made.hers.order(made.id, statements.Pause, length=HOUR)
    given = statements.Destroy(world.custodian.hash, second.id, seq, 1)
    with pytest.raises(StaleSequence):
        orders.submit(
            world.records,
            world.custodian,
            made.hers.account,
            second.id,
            wire.Submission(made.hers.sign(given)),
            short=False,
        )


def submit(made: Dossier, signed: str, require_room: Callable[[], None]) -> tuple[bytes, str | None]:
    world = made.world
    given = wire.Submission(signed, ())
    account = made.hers.account
    return orders.submit(
        world.records, world.custodian, account, made.id, given, short=False, require_room=require_room
    )


def full() -> None:
    raise NoSpace("The server's disk is nearly full.")


def signed_order(made: Dossier, kind: type[statements.Statement], **fields: object) -> str:
    common: dict[str, object] = {
        "server": made.world.custodian.hash,
        "dossier": made.id,
        "seq": made.hers.account.seq + 1,
        "created": made.world.clock.wall(),
    }
    if kind in (statements.Pause, statements.Resume):
        common["nonce"] = made.hers.nonce()
    return made.hers.sign(kind(**common, **fields))


def test_on_a_full_disk_what_is_under_way_can_still_be_silenced_and_taken_back(world: World) -> None:
    made = an_armed_dossier(world)
    change = made.hers.order(made.id, statements.Destroy)
    submit(made, signed_order(made, statements.Cancel, change=change), full)
    submit(made, signed_order(made, statements.Pause, length=HOUR), full)
    submit(made, signed_order(made, statements.Resume), full)
    assert not world.records.changes_of_dossier(made.id)
    assert {"cancel", "pause", "resume", "hold", "checkin", "collected", "contribution"} == orders._ALWAYS


@pytest.mark.parametrize("kind", [statements.PlanChange, statements.Destroy, statements.Arm])
def test_on_a_full_disk_an_order_that_can_wait_is_refused_and_leaves_nothing(
    world: World, kind: type[statements.Statement]
) -> None:
    made = an_armed_dossier(world)
    fields: dict[str, object] = {}
    if kind is statements.PlanChange:
        fields = {"plan": Dwells(*PLAN.dwells())}
    if kind is statements.Arm:
        fields = {"epoch": 1, "anyway": False}
    signed = signed_order(made, kind, **fields)
    before = made.hers.account
    assert code_of(lambda: submit(made, signed, full)) == "no-space"
    assert made.hers.account == before


def test_on_a_full_disk_an_order_that_was_taken_before_gets_its_answer_again(world: World) -> None:
    made = an_armed_dossier(world)
    signed = signed_order(made, statements.PlanChange, plan=Dwells(*PLAN.dwells()))
    first = submit(made, signed, lambda: None)
    assert submit(made, signed, full) == first
