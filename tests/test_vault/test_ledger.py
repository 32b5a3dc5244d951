"""What was promised to each account, and in which order."""

import base64
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, cool, until
from vault import accounts, envelope, ledger, orders, statements, wire
from vault.clock import HOUR, MINUTE, SECOND
from vault.errors import AfterwordError, Conflict, Damaged, Refused, StaleSequence, Untrusted
from vault.plans import DEFAULT_PLAN
from vault.statements import Acknowledgement
from vault.switch import Stage


def acknowledgement(world: World, signed: bytes) -> Acknowledgement:
    return statements.read(signed, world.custodian.card.verify_key, Acknowledgement)


def test_the_same_bytes_get_the_same_answer_however_often(world: World) -> None:
    made = an_armed_dossier(world)
    request = made.hers.checkin_request()
    first, _ = made.hers.check_in(request)
    world.pass_time(MINUTE)
    assert made.hers.check_in(request)[0] == first
    assert world.records.switch(made.id).switch.entered < world.records.service().served  # type: ignore[union-attr]


def test_an_answer_names_what_it_answers_and_can_be_kept_as_proof(world: World) -> None:
    made = an_armed_dossier(world)
    request = made.hers.checkin_request()
    answer = acknowledgement(world, made.hers.check_in(request)[0])
    assert answer.statement == envelope.statement_hash(request.statement.encode()).hex()
    assert (answer.account, answer.server) == (made.hers.card.hash.hex(), world.custodian.hash)
    assert answer.seq == made.hers.account.seq


def test_a_number_that_was_used_or_passed_is_refused_with_the_highest(world: World) -> None:
    made = an_armed_dossier(world)
    made.hers.check_in()
    seen = made.hers.account.seq
    for stale in (seen, seen - 1):
        with pytest.raises(StaleSequence) as refused:
            made.hers.check_in(made.hers.checkin_request(seq=stale))
        assert refused.value.seen == seen
    made.hers.check_in(made.hers.checkin_request(seq=seen + 1_000))
    assert made.hers.account.seq == seen + 1_000


def test_a_check_in_and_an_order_count_together(world: World) -> None:
    made = an_armed_dossier(world)
    late = made.hers.checkin_request()
    made.hers.order(made.id, statements.Pause, length=60_000)
    with pytest.raises(StaleSequence):
        made.hers.check_in(late)


def test_two_orders_with_one_number_are_never_both_taken(world: World) -> None:
    """What a session knew of the number may be old by the time its order comes in."""
    made = an_armed_dossier(world)
    known = made.hers.account
    given = [
        wire.Submission(
            made.hers.sign(
                statements.PlanChange(
                    world.custodian.hash, made.id, known.seq + 1, made_plan, world.clock.wall()
                )
            )
        )
        for made_plan in (
            statements.Dwells(86_400_000, 3_600_000, 3_600_000, 3_600_000),
            statements.Dwells(86_400_000, 3_600_001, 3_600_000, 3_600_000),
        )
    ]
    orders.submit(world.records, world.custodian, known, made.id, given[0], short=False)
    with pytest.raises(StaleSequence):
        orders.submit(world.records, world.custodian, known, made.id, given[1], short=False)


def test_of_forty_requests_with_one_number_one_is_taken(world: World) -> None:
    made = an_armed_dossier(world)
    known = made.hers.account
    plans = [statements.Dwells(86_400_000, 3_600_000 + place, 3_600_000, 3_600_000) for place in range(40)]
    given = [
        wire.Submission(
            made.hers.sign(
                statements.PlanChange(world.custodian.hash, made.id, known.seq + 1, plan, world.clock.wall())
            )
        )
        for plan in plans
    ]
    taken: list[bytes] = []
    barrier = threading.Barrier(8)

    def send(mine: list[wire.Submission]) -> None:
        barrier.wait()
        for each in mine:
            with suppress(StaleSequence):
                taken.append(
                    orders.submit(world.records, world.custodian, known, made.id, each, short=False)[0]
                )

    threads = [threading.Thread(target=send, args=(given[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


@pytest.mark.parametrize("what", ["spent", "over", "made up", "of another server"])
def test_a_number_of_the_server_is_good_once_and_for_ten_minutes(world: World, what: str) -> None:
    made = an_armed_dossier(world)
    request = made.hers.checkin_request()
    given = statements.read(request.statement.encode(), made.hers.card.checkin_key, statements.CheckIn)
    nonce = given.nonce
    match what:
        case "spent":
            made.hers.check_in(request)
        case "over":
            world.pass_time(11 * MINUTE)
        case "made up":
            nonce = "00" * 32
        case _:
            nonce = hashlib.sha256(nonce.encode()).hexdigest()
    again = msgspec.structs.replace(given, seq=made.hers.account.seq + 1, nonce=nonce)
    signed = statements.write(again, made.hers.keyring.checkin).decode()
    with pytest.raises(Refused) as refused:
        made.hers.check_in(wire.CheckInRequest(made.hers.card.hash.hex(), signed))
    assert refused.value.code == "stale-nonce"


def test_what_was_signed_for_another_server_counts_nowhere_else(world: World) -> None:
    made = an_armed_dossier(world)
    given = statements.CheckIn("ab" * 32, 999, made.hers.nonce(), (), 1)
    signed = statements.write(given, made.hers.keyring.checkin).decode()
    with pytest.raises(Refused) as refused:
        made.hers.check_in(wire.CheckInRequest(made.hers.card.hash.hex(), signed))
    assert refused.value.code == "wrong-server"
    assert made.hers.account.seq < 999


def test_only_the_check_in_key_checks_in_and_it_does_nothing_else(world: World) -> None:
    made = an_armed_dossier(world)
    request = made.hers.checkin_request()
    given = statements.read(request.statement.encode(), made.hers.card.checkin_key, statements.CheckIn)
    wrong = statements.write(given, made.hers.keyring.sign).decode()
    with pytest.raises(Untrusted):
        made.hers.check_in(wire.CheckInRequest(made.hers.card.hash.hex(), wrong))
    destroy = statements.Destroy(world.custodian.hash, made.id, made.hers.account.seq + 1, 1)
    signed = wire.Submission(statements.write(destroy, made.hers.keyring.checkin).decode())
    with pytest.raises(Untrusted):
        orders.submit(world.records, world.custodian, made.hers.account, made.id, signed, short=False)


def test_a_strangers_card_and_a_forged_signature_are_answered_alike(world: World) -> None:
    """T20: who asks whether somebody is on this server learns nothing."""
    made = an_armed_dossier(world)
    forged = statements.write(
        statements.CheckIn(world.custodian.hash, 99, made.hers.nonce(), (), 1),
        made.readers[0].keyring.checkin,
    ).decode()
    said = []
    for card in (made.hers.card.hash.hex(), "cd" * 32):
        with pytest.raises(AfterwordError) as refused:
            made.hers.check_in(wire.CheckInRequest(card, forged))
        said.append((type(refused.value), refused.value.code, str(refused.value)))
    assert said[0] == said[1]


def test_the_chain_of_an_account_holds_from_its_first_link(world: World) -> None:
    made = an_armed_dossier(world)
    made.hers.check_in()
    world.pass_time(MINUTE)
    hers: Person = made.hers
    before = bytes(32)
    kinds = []
    for number, link in enumerate(world.records.history(hers.account.id, 0, 1_000), 1):
        assert link.number == number
        assert hashlib.sha256(before + link.entry.encode()).hexdigest() == link.hash
        entry = msgspec.json.decode(link.entry)
        assert entry["n"] == number
        kinds.append(entry["what"])
        before = bytes.fromhex(link.hash)
    assert hers.account.history == before.hex()
    assert {
        "joined",
        "invited",
        "address-confirmed",
        "roster",
        "head",
        "proved",
        "arm",
        "moved",
        "checkin",
    } <= {*kinds}


def test_a_roster_is_not_kept_in_clear_beside_its_answer(world: World) -> None:
    """A roster carries the cards of people, and a card a name."""
    made = an_armed_dossier(world)
    rows = world.database.all("SELECT envelope FROM statements WHERE kind = 'roster'")
    assert [bytes(row["envelope"]) for row in rows] == [b""]
    dumped = b"".join(
        bytes(value) for row in world.database.all("SELECT * FROM rosters") for value in row.values()
        if isinstance(value, bytes)
    )  # fmt: skip
    assert base64.b64encode(made.readers[0].name.encode())[:8] not in dumped


def test_only_the_newest_check_in_is_kept(world: World) -> None:
    made = an_armed_dossier(world)
    for _ in range(3):
        made.hers.check_in()
    assert len(world.database.all("SELECT hash FROM statements WHERE kind = 'checkin'")) == 1


def test_a_kept_answer_brings_back_what_a_server_forgot(world: World) -> None:
    """T12: the numbers go on above what she has seen, and the account is marked for the operator."""
    made = an_armed_dossier(world)
    start = world.snapshot()
    for _ in range(5):
        kept, _ = made.hers.check_in()
    highest = made.hers.account.seq
    world.rewind(start)
    made.hers.check_in(made.hers.checkin_request(seq=highest + 1, last=kept.decode()))
    assert made.hers.account.seq == highest + 1
    assert made.hers.account.marked
    assert "forgot" in [
        msgspec.json.decode(link.entry)["what"]
        for link in world.records.history(made.hers.account.id, 0, 999)
    ]


def test_a_forgotten_number_is_not_given_out_again_by_force_of_an_old_answer(world: World) -> None:
    made = an_armed_dossier(world)
    kept, _ = made.hers.check_in()
    made.hers.check_in(made.hers.checkin_request(last=kept.decode()))
    assert not made.hers.account.marked


def test_an_answer_of_somebody_else_or_of_another_server_is_not_believed_and_costs_no_check_in(
    world: World,
) -> None:
    made = an_armed_dossier(world)
    theirs = made.readers[0]
    foreign, _ = theirs.check_in()
    forged = statements.write(
        msgspec.structs.replace(
            acknowledgement(world, foreign), account=made.hers.card.hash.hex(), seq=10**6
        ),
        made.hers.keyring.sign,
    )
    for last in (foreign.decode(), forged.decode(), "nonsense"):
        before = made.hers.account.number
        made.hers.check_in(made.hers.checkin_request(last=last))
        assert made.hers.account.number == before + 1
    assert made.hers.account.seq < 10**6
    assert not made.hers.account.marked


def log_in(person: Person, last: bytes | None = None) -> wire.SessionGrant:
    login = statements.Login(person.world.custodian.hash, person.card.verify_key.hex, person.nonce(), 1)
    request = wire.SessionRequest(person.sign(login), None if last is None else last.decode())
    return accounts.sign_in(person.world.records, person.world.custodian, request)


def life(world: World) -> str:
    row = world.records.service()
    assert row is not None
    return row.life


def trouble_letters(world: World) -> int:
    rows = world.database.all("SELECT id FROM outbox WHERE kind = 'operator-trouble'")
    return len(rows)


def test_a_login_is_answered_with_the_head_of_the_chain_and_what_follows_the_last_answer(
    world: World,
) -> None:
    made = an_armed_dossier(world)
    kept, _ = made.hers.check_in()
    made.hers.check_in()
    grant = log_in(made.hers, kept)
    head = acknowledgement(world, (grant.head or "").encode())
    account = made.hers.account
    assert (head.number, head.history, head.life) == (account.number, account.history, "f1" * 16)
    assert [each.number for each in grant.links] == [account.number]
    assert log_in(made.hers).links == ()
    assert made.hers.account.number == account.number, "a login is no link"


def test_a_colleagues_login_finds_the_server_out_and_gives_the_switch_its_time_again(world: World) -> None:
    """T12: it is enough that one of them remembers; and once is enough."""
    made = an_armed_dossier(world)
    until(made, Stage.GRACE)
    start = world.snapshot()
    bea, carlos = made.readers[:2]
    hoard = []
    for each in (bea, bea, carlos):
        made.prove(each)
        hoard.append((each, last_answer(each)))
    made.hers.check_in()
    world.rewind(start)
    assert made.stage is Stage.GRACE
    for each, kept in hoard * 2:
        log_in(each, kept)
        assert made.stage is Stage.ARMED
        entered = world.records.switch(made.id).switch.entered
        world.skip(HOUR)
        log_in(each, kept)
        assert world.records.switch(made.id).switch.entered == entered, "a hoard buys one ladder"
    assert entered == start_of(world, made)
    assert [each.account.marked for each in (bea, carlos, made.readers[2])] == [1, 1, 0]
    assert life(world) != "f1" * 16
    assert trouble_letters(world) == 2
    until(made, Stage.RELEASED)


def last_answer(person: Person) -> bytes:
    row = person.world.database.one(
        "SELECT acknowledgement FROM statements WHERE account = :a AND kind = 'proof'", a=person.account.id
    )
    assert row is not None
    return bytes(row["acknowledgement"])


def start_of(world: World, made: Dossier) -> int:
    """When the one ladder that was given began: all of what followed was lived in it."""
    row = world.database.one("SELECT entered FROM switches WHERE dossier = :d", d=made.id)
    assert row is not None
    return int(row["entered"])


def test_a_second_setback_is_a_second_loss(world: World) -> None:
    made = an_armed_dossier(world)
    start = world.snapshot()
    first, _ = made.hers.check_in()
    world.rewind(start)
    log_in(made.hers, first)
    second, lives = world.snapshot(), {life(world)}
    kept, _ = made.hers.check_in()
    world.rewind(second)
    until(made, Stage.WARNED)
    log_in(made.hers, first)
    assert made.stage is Stage.WARNED, "the first loss is known and was made good"
    log_in(made.hers, kept)
    assert made.stage is Stage.ARMED
    assert life(world) not in lives
    # And back to before any of it was known, with an answer of a life that this database has never heard of.
    world.rewind(start)
    until(made, Stage.GRACE)
    log_in(made.hers, kept)
    assert made.stage is Stage.ARMED


def test_a_setback_that_one_person_proves_lets_nobodys_last_call_run_out_at_once(world: World) -> None:
    """Whoever else has checked in meanwhile need not know that it was forgotten."""
    made, others = an_armed_dossier(world), an_armed_dossier(world)
    until(others, Stage.GRACE)
    world.skip(95 * HOUR)
    made.hers.check_in()
    start = world.snapshot()
    others.hers.check_in()
    kept, _ = made.hers.check_in()
    world.rewind(start)
    log_in(made.hers, kept)
    begun = world.clock.at
    world.pass_time(MINUTE)
    assert others.stage is Stage.ARMED
    until(others, Stage.GRACE)
    log_in(made.hers, kept)
    until(others, Stage.RELEASED)
    lasted = world.clock.at - begun
    assert DEFAULT_PLAN.ladder() <= lasted <= DEFAULT_PLAN.ladder() + HOUR, (
        "once, and not each time it is shown"
    )


def test_another_history_under_the_same_number_is_a_fork_and_refuses_nothing(world: World) -> None:
    made = an_armed_dossier(world)
    start = world.snapshot()
    kept, _ = made.hers.check_in()
    world.rewind(start)
    for _ in range(3):
        made.hers.check_in()
    assert acknowledgement(world, kept).number < made.hers.account.number
    log_in(made.hers, kept)
    assert made.hers.account.marked
    whats = [
        msgspec.json.decode(link.entry)["what"]
        for link in world.records.history(made.hers.account.id, 0, 999)
    ]
    assert whats.count("forked") == 1
    assert trouble_letters(world) == 1


@pytest.mark.parametrize("stage", [Stage.PAUSED, Stage.RELEASED, Stage.DESTROYED])
def test_pauses_and_ends_are_left_as_they_are(world: World, stage: Stage) -> None:
    made = an_armed_dossier(world)
    if stage is Stage.PAUSED:
        made.hers.order(made.id, statements.Pause, length=HOUR)
    elif stage is Stage.RELEASED:
        until(made, Stage.RELEASED)
    else:
        made.hers.order(made.id, statements.Destroy)
        cool(made)
        world.beat()
    assert made.stage is stage
    start = world.snapshot()
    before = world.records.switch(made.id).switch
    kept, _ = made.hers.check_in()
    world.rewind(start)
    log_in(made.hers, kept)
    assert made.hers.account.marked
    assert world.records.switch(made.id).switch == before


def test_colleagues_who_were_told_hear_the_all_clear_although_she_had_to_remind_the_server(
    world: World,
) -> None:
    made = an_armed_dossier(world)
    start = world.snapshot()
    kept, _ = made.hers.check_in()
    world.rewind(start)
    until(made, Stage.WARNED)
    world.pass_time(MINUTE)
    made.hers.check_in(made.hers.checkin_request(seq=999, last=kept.decode()))
    world.pass_time(MINUTE)
    assert ("c1@example.org", "all-clear") in world.letters()


def test_a_captured_check_in_is_worth_nothing_to_a_server_that_came_back_from_a_backup(world: World) -> None:
    made = an_armed_dossier(world)
    start = world.snapshot()
    request = made.hers.checkin_request()
    made.hers.check_in(request)
    world.rewind(start)
    with world.records.transaction():
        world.records.begin_new_life("a7" * 16)
    with pytest.raises(Refused) as refused:
        made.hers.check_in(request)
    assert refused.value.code == "stale-nonce"


def test_a_damaged_entry_that_she_holds_a_promise_of_costs_her_no_check_in_and_counts_as_forgotten(
    world: World,
) -> None:
    made = an_armed_dossier(world)
    kept, _ = made.hers.check_in()
    number = acknowledgement(world, kept).number
    until(made, Stage.WARNED)
    with world.records.transaction():
        world.database.run(
            "UPDATE history SET hash = CAST(x'ff41' AS TEXT) WHERE account = :a AND number = :n",
            a=made.hers.account.id,
            n=number,
        )
    grant = log_in(made.hers, kept)
    assert made.stage is Stage.ARMED
    assert made.hers.account.marked
    assert trouble_letters(world) == 1
    assert acknowledgement(world, (grant.head or "").encode()).life == life(world) != "f1" * 16
    made.hers.check_in(made.hers.checkin_request(last=kept.decode()))
    assert ledger.links_since(world.records, world.custodian, made.hers.account, kept.decode())
    with world.records.transaction():
        world.database.run("UPDATE history SET entry = CAST(x'ff41' AS TEXT)")
    assert ledger.links_since(world.records, world.custodian, made.hers.account, kept.decode()) == ()


def test_in_a_long_chain_a_damaged_answer_to_the_last_check_in_does_not_cost_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = an_armed_dossier(world)
    made.hers.check_in()
    monkeypatch.setattr(ledger, "UNHURRIED", 1)
    with pytest.raises(Refused) as refused:
        made.hers.check_in()
    assert refused.value.code == "too-many"
    with world.records.transaction():
        world.database.run("UPDATE statements SET acknowledgement = x'00' WHERE kind = 'checkin'")
    made.hers.check_in()


def test_what_the_ledger_notes_names_nobody(world: World) -> None:
    made = an_armed_dossier(world)
    made.hers.check_in()
    accounts.state(world.records, world.custodian, made.hers.account)
    said = " ".join(link.entry for link in world.records.history(made.hers.account.id, 0, 1_000))
    for word in ("ana", "colleague", "example.org", "phrase"):
        assert word not in said
    assert ledger.FIRST not in said


def in_a_long_chain(world: World, monkeypatch: pytest.MonkeyPatch) -> Dossier:
    made = an_armed_dossier(world)
    world.pass_time(SECOND)
    monkeypatch.setattr(ledger, "UNHURRIED", 1)
    return made


def refused_as_too_many(order: Callable[[], object]) -> bool:
    try:
        order()
    except Refused as refused:
        return refused.code == "too-many"
    return False


def replan(made: Dossier) -> None:
    made.hers.order(made.id, statements.PlanChange, plan=statements.Dwells(*DEFAULT_PLAN.dwells()))


def test_in_a_long_chain_no_kind_of_order_is_taken_twice_in_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = in_a_long_chain(world, monkeypatch)

    def pause() -> None:
        made.hers.order(made.id, statements.Pause, length=HOUR)

    def resume() -> None:
        made.hers.order(made.id, statements.Resume)

    replan(made)
    pause()
    resume()
    assert refused_as_too_many(lambda: replan(made))
    assert refused_as_too_many(pause)
    world.pass_time(SECOND)
    pause()
    resume()
    replan(made)


def test_in_a_long_chain_the_same_order_for_another_dossier_does_not_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = in_a_long_chain(world, monkeypatch)
    other = made.hers.create(made.readers, 1)
    for each in (made, other):
        replan(each)
    assert refused_as_too_many(lambda: replan(other))


def test_in_a_long_chain_pushes_and_rosters_come_one_a_second_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = in_a_long_chain(world, monkeypatch)
    made.push()
    assert refused_as_too_many(made.push)
    world.pass_time(SECOND)
    made.push()


def test_many_orders_at_once_of_a_long_chain_cost_nobody_a_check_in_and_no_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = in_a_long_chain(world, monkeypatch)
    several = [made.hers.create(made.readers, 1) for _ in range(ledger.AT_ONCE)]
    assert [refused_as_too_many(lambda each=each: replan(each)) for each in several] == [True] * len(several)
    made.hers.check_in()
    made.hers.order(made.id, statements.Pause, length=HOUR)


def test_a_short_chain_knows_no_such_limit(world: World) -> None:
    made = an_armed_dossier(world)
    for _ in range(3):
        replan(made)


def test_in_a_long_chain_a_damaged_link_costs_nobody_the_next_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = in_a_long_chain(world, monkeypatch)
    replan(made)
    with world.database.transaction():
        world.database.run(
            "UPDATE history SET entry = 'no JSON' WHERE number = (SELECT MAX(number) FROM history)"
        )
    replan(made)
    with world.database.transaction():
        world.database.run("UPDATE statements SET acknowledgement = x'00' WHERE kind = 'plan'")
    replan(made)


@pytest.mark.parametrize("damage", ["history = 'p' || substr(history, 2)", "number = number - 1"])
def test_a_history_that_does_not_end_where_its_row_says_is_damage_and_is_not_written_on(
    world: World, damage: str
) -> None:
    ana = world.journalist()
    before = world.records.history(ana.account.id, 0, 100)
    with world.database.transaction():
        world.database.run(f"UPDATE accounts SET {damage} WHERE id = :a", a=ana.account.id)  # noqa: S608 our own
    with pytest.raises(Damaged), world.records.transaction() as now:
        ledger.note(world.records, now, ana.account.id, "quota", size=1)
    assert world.records.history(ana.account.id, 0, 100) == before


def test_a_database_that_is_busy_is_not_taken_for_a_damaged_history(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = world.journalist()

    def busy(*given: object) -> None:
        raise Conflict("Another process is writing.", code="busy")

    monkeypatch.setattr(world.records, "extend_history", busy)
    with pytest.raises(Conflict), world.records.transaction() as now:
        ledger.note(world.records, now, ana.account.id, "quota", size=1)
