"""What was promised to each account, and in which order."""

import base64
import hashlib
import threading
from contextlib import suppress

import msgspec
import pytest

from tests.world import Person, World, an_armed_dossier
from vault import accounts, envelope, ledger, orders, statements, wire
from vault.clock import MINUTE
from vault.errors import AfterwordError, Refused, StaleSequence, Untrusted
from vault.statements import Acknowledgement


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


def test_an_answer_of_somebody_else_or_of_another_server_is_not_believed(world: World) -> None:
    made = an_armed_dossier(world)
    theirs = made.readers[0]
    foreign, _ = theirs.check_in()
    forged = statements.write(
        msgspec.structs.replace(
            acknowledgement(world, foreign), account=made.hers.card.hash.hex(), seq=10**6
        ),
        made.hers.keyring.sign,
    )
    for last in (foreign, forged):
        with pytest.raises(Untrusted):
            made.hers.check_in(made.hers.checkin_request(last=last.decode()))
    assert made.hers.account.seq < 10**6


def test_a_captured_check_in_is_worth_nothing_to_a_server_that_came_back_from_a_backup(world: World) -> None:
    made = an_armed_dossier(world)
    start = world.snapshot()
    request = made.hers.checkin_request()
    made.hers.check_in(request)
    world.rewind(start)
    with world.records.transaction():
        world.records.begin_new_life("another life")
    with pytest.raises(Refused) as refused:
        made.hers.check_in(request)
    assert refused.value.code == "stale-nonce"


def test_what_the_ledger_notes_names_nobody(world: World) -> None:
    made = an_armed_dossier(world)
    made.hers.check_in()
    accounts.state(world.records, world.custodian, made.hers.account)
    said = " ".join(link.entry for link in world.records.history(made.hers.account.id, 0, 1_000))
    for word in ("ana", "colleague", "example.org", "phrase"):
        assert word not in said
    assert ledger.FIRST not in said
