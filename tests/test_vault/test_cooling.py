"""Nothing quick under a gun."""

import copy
import logging
import os
from collections.abc import Callable

import pytest

from tests.world import TICK, Dossier, Person, Snapshot, World, an_armed_dossier, cool, hand_over, until
from tests.world import ask as ask_roster
from vault import accounts, backups, cooling, outbox, statements, views, wire
from vault.clock import DAY, HOUR, MINUTE
from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.errors import AfterwordError, Damaged, NoSpace, NotFound, Refused
from vault.plans import Plan
from vault.statements import Dwells
from vault.switch import Stage

PLAN = Plan(72 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
COOLING = 96 * HOUR
LONGER = Dwells(72 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR + 1)


def addresses(made: Dossier) -> dict[str, str]:
    """Her addresses as they are written, and their ids."""
    rows = made.world.records.addresses_of(made.hers.account.id)
    return {outbox.read_reach(made.world.custodian, row).address: row.id for row in rows}


def remove_address(made: Dossier) -> str | None:
    address = addresses(made)["ana@example.org"]
    return accounts.remove_address(
        made.world.records, made.world.custodian, made.hers.account, address
    ).change


def roster(made: Dossier) -> str | None:
    return ask_roster(made, made.next_roster(made.readers[:2], 2)[0])[1]


ASKING: dict[str, Callable[[Dossier], str | None]] = {
    "destroy": lambda made: made.hers.order(made.id, statements.Destroy),
    "plan": lambda made: made.hers.order(made.id, statements.PlanChange, plan=LONGER),
    "pause": lambda made: made.hers.order(made.id, statements.Pause, length=90 * DAY),
    "roster": roster,
    "address": remove_address,
}
BY_TIME = ["destroy", "plan", "pause", "address"]


def done(made: Dossier, kind: str) -> bool:
    world = made.world
    row = world.records.dossier(made.id)
    assert row is not None
    match kind:
        case "destroy":
            return made.stage is Stage.DESTROYED
        case "plan":
            return world.records.switch(made.id).switch.plan.grace == LONGER.grace
        case "pause":
            return made.stage is Stage.PAUSED
        case "roster":
            return row.epoch == 2
        case _:
            return len(world.records.addresses_of(made.hers.account.id)) == 1


@pytest.fixture
def made(world: World) -> Dossier:
    armed = an_armed_dossier(world, PLAN, cooling=COOLING)
    armed.hers.confirm("ana@elsewhere.example")
    return armed


def told(made: Dossier, kind: str) -> list[str]:
    return sorted(to for to, said in made.world.letters() if said == kind)


EVERYBODY = sorted(
    ["ana@example.org", "ana@elsewhere.example", "c1@example.org", "c2@example.org", "c3@example.org"]
)


@pytest.mark.parametrize("kind", ASKING)
def test_every_slow_change_is_told_to_all_and_does_nothing_yet(made: Dossier, kind: str) -> None:
    hash = ASKING[kind](made)
    assert hash is not None
    made.world.pass_time(MINUTE)
    assert told(made, "change-asked") == EVERYBODY
    assert not done(made, kind)


@pytest.mark.parametrize("kind", BY_TIME)
def test_it_takes_effect_when_its_time_has_been_served_and_not_a_day_earlier(
    made: Dossier, kind: str
) -> None:
    ASKING[kind](made)
    for _ in range(3):
        made.world.skip(DAY)
        made.hers.check_in()
        assert not done(made, kind)
    made.world.skip(DAY - MINUTE)
    assert not done(made, kind)
    made.world.pass_time(2 * MINUTE)
    assert done(made, kind)
    assert set(told(made, "change-done")) >= {"ana@elsewhere.example", "c1@example.org", "c2@example.org"}


@pytest.mark.parametrize("kind", BY_TIME)
def test_time_that_was_not_served_does_not_cool_anything(made: Dossier, kind: str) -> None:
    """S13: a server that nobody can reach lets nothing pass."""
    ASKING[kind](made)
    made.world.pass_time(2 * MINUTE)
    made.world.reachable = False
    made.world.clock.at += 30 * DAY
    made.world.pass_time(30 * MINUTE)
    made.world.clock.wall_off += 300 * DAY
    made.world.pass_time(MINUTE)
    assert not done(made, kind)


@pytest.mark.parametrize("kind", ASKING)
def test_it_can_be_taken_back_until_it_takes_effect_and_all_hear_of_that(made: Dossier, kind: str) -> None:
    hash = ASKING[kind](made)
    made.world.pass_time(MINUTE)
    made.hers.order(made.id, statements.Cancel, change=hash)
    made.world.pass_time(MINUTE)
    assert told(made, "change-cancelled") == EVERYBODY
    cool(made)
    made.world.skip(DAY)
    assert not done(made, kind)
    assert ASKING[kind](made) is not None


def test_who_never_heard_that_it_was_asked_for_does_not_hear_so_afterwards(made: Dossier) -> None:
    made.world.courier.answer = lambda parcel: TemporaryFailure("down")
    hash = ASKING["destroy"](made)
    made.world.pass_time(MINUTE)
    made.hers.order(made.id, statements.Cancel, change=hash)
    made.world.courier.answer = None
    made.world.pass_time(HOUR)
    assert told(made, "change-asked") == []
    assert told(made, "change-cancelled") == EVERYBODY


@pytest.mark.parametrize("kind", BY_TIME)
def test_in_a_late_stage_it_waits_for_a_check_in(made: Dossier, kind: str) -> None:
    ASKING[kind](made)
    until(made, Stage.WARNED)
    made.world.pass_time(10 * MINUTE)
    for _ in range(2):
        made.world.skip(10 * HOUR)
    late = made.stage
    assert late in (Stage.WARNED, Stage.GRACE)
    assert not done(made, kind)
    made.hers.check_in()
    made.world.pass_time(MINUTE)
    assert done(made, kind)


@pytest.mark.parametrize("kind", ["destroy", "plan", "pause", "roster"])
def test_a_release_ends_it(made: Dossier, kind: str) -> None:
    with made.world.database.transaction():
        made.world.database.run("UPDATE dossiers SET cooling = :ms", ms=1_000 * HOUR)
    hash = ASKING[kind](made)
    assert hash is not None
    until(made, Stage.RELEASED)
    assert made.world.records.change(hash) is None
    made.world.skip(2_000 * HOUR)
    assert made.stage is Stage.RELEASED


@pytest.mark.parametrize("kind", ["destroy", "plan", "pause", "roster"])
def test_there_is_one_of_each_kind_at_a_time(made: Dossier, kind: str) -> None:
    ASKING[kind](made)
    with pytest.raises(Refused) as refused:
        ASKING[kind](made)
    assert refused.value.code == "change-pending"


def test_asking_twice_for_the_same_removal_is_asking_once(made: Dossier) -> None:
    assert remove_address(made) == remove_address(made)
    made.world.pass_time(MINUTE)
    assert len(told(made, "change-asked")) == 5


@pytest.mark.parametrize("kind", ASKING)
def test_all_that_waits_is_listed_for_her_and_for_each_colleague_it_concerns(
    made: Dossier, kind: str
) -> None:
    hash = ASKING[kind](made)
    mine = views.dossier(made.world.records, made.hers.account, made.id).changes
    assert [(each.change, each.kind) for each in mine] == [(hash, kind)]
    assert mine[0].effective == made.world.clock.wall() + COOLING
    assert not mine[0].cooled
    theirs = views.dossier(made.world.records, made.readers[0].account, made.id).changes
    assert list(theirs) == ([] if kind == "address" else list(mine))


@pytest.mark.parametrize("kind", BY_TIME)
def test_what_waits_for_a_check_in_is_listed_without_a_date(made: Dossier, kind: str) -> None:
    ASKING[kind](made)
    until(made, Stage.WARNED)
    for _ in range(2):
        made.world.skip(10 * HOUR)
    (listed,) = views.dossier(made.world.records, made.hers.account, made.id).changes
    assert (listed.cooled, listed.effective) == (True, None)


def test_a_pending_roster_is_shown_before_it_is_in_force(made: Dossier) -> None:
    change, _, _ = made.next_roster(made.readers[:2], 2)
    ask_roster(made, change)
    shown = views.rosters(made.world.records, made.world.custodian, made.readers[2].account, made.id)
    assert shown.pending == change.roster
    assert len(shown.rosters) == 1


def test_who_is_taken_off_a_roster_hears_that_it_has_happened(made: Dossier) -> None:
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    ask_roster(made, change)
    cool(made)
    hand_over(made, corrections)
    made.world.pass_time(MINUTE)
    assert told(made, "change-done") == EVERYBODY


def test_an_address_that_is_to_go_gets_every_letter_until_it_goes_and_none_afterwards(made: Dossier) -> None:
    remove_address(made)
    until(made, Stage.REMINDED)
    made.world.pass_time(MINUTE)
    assert told(made, "check-in") == ["ana@elsewhere.example", "ana@example.org"]
    made.hers.check_in()
    made.world.skip(2 * DAY)
    made.world.pass_time(MINUTE)
    assert list(addresses(made)) == ["ana@elsewhere.example"]
    carried = len(made.world.courier.carried)
    until(made, Stage.REMINDED)
    made.world.pass_time(MINUTE)
    late = {parcel.to for parcel in made.world.courier.carried[carried:]}
    assert "ana@example.org" not in late
    assert "ana@elsewhere.example" in late


def test_the_last_address_can_go_and_then_nothing_is_waited_for(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    remove_address(made)
    cool(made)
    world.skip(DAY)
    assert world.records.addresses_of(made.hers.account.id) == []
    until(made, Stage.REMINDED)
    assert not world.records.switch(made.id).switch.trying


def test_an_unarmed_dossier_needs_no_cooling_to_be_given_up(world: World) -> None:
    ana = world.journalist()
    ana.confirm("ana@example.org")
    new = ana.create([ana.colleague("c")], 1, PLAN)
    assert ana.order(new.id, statements.Destroy) is None
    assert new.stage is Stage.DESTROYED
    (address,) = world.records.addresses_of(ana.account.id)
    assert accounts.remove_address(world.records, world.custodian, ana.account, address.id).change is None


@pytest.mark.parametrize(("length", "slow"), [(72 * HOUR, False), (72 * HOUR + 1, True)])
def test_a_pause_of_three_days_is_at_once_and_a_longer_one_cools(
    made: Dossier, length: int, slow: bool
) -> None:
    change = made.hers.order(made.id, statements.Pause, length=length)
    assert (change is not None) is slow
    assert (made.stage is Stage.PAUSED) is not slow


def test_no_pause_is_longer_than_ninety_days(made: Dossier) -> None:
    with pytest.raises(Refused) as refused:
        made.hers.order(made.id, statements.Pause, length=90 * DAY + 1)
    assert refused.value.code == "pause-too-long"


@pytest.mark.parametrize(
    ("dwells", "slow"),
    [
        ((72, 12, 12, 24), False),
        ((48, 12, 12, 24), False),
        ((24, 6, 6, 12), False),
        ((72, 12, 12, 25), True),
        ((24, 13, 6, 12), True),
        ((73, 1, 1, 1), True),
    ],
)
def test_a_plan_is_slow_as_soon_as_any_single_stage_grows(
    made: Dossier, dwells: tuple[int, int, int, int], slow: bool
) -> None:
    change = made.hers.order(made.id, statements.PlanChange, plan=Dwells(*[each * HOUR for each in dwells]))
    assert (change is not None) is slow


def test_somebody_elses_change_cannot_be_cancelled_and_is_not_told_from_none(made: Dossier) -> None:
    hash = ASKING["destroy"](made)
    bea = made.world.journalist("bea")
    hers = bea.create([bea.colleague("c")], 1, PLAN)
    said = []
    for change in (hash, "ab" * 32):
        with pytest.raises(NotFound) as refused:
            bea.order(hers.id, statements.Cancel, change=change)
        said.append(str(refused.value))
    assert said[0] == said[1]
    with pytest.raises(AfterwordError):
        made.readers[0].order(made.id, statements.Cancel, change=hash)
    assert hash is not None
    assert made.world.records.change(hash) is not None


def test_one_change_that_does_not_read_holds_up_no_other(
    made: Dossier, caplog: pytest.LogCaptureFixture
) -> None:
    """S11: it stands still alone, and shouts; the watch goes on."""
    world = made.world
    broken = ASKING["plan"](made)
    second = made.hers.create(made.readers, 2, PLAN, COOLING)
    second.push()
    second.prove()
    second.arm()
    second.hers.order(second.id, statements.Destroy)
    with world.database.transaction():
        world.database.run("UPDATE changes SET body = x'00' WHERE hash = :hash", hash=broken)
    with caplog.at_level(logging.ERROR):
        cool(made)
        cool(made)
    assert second.stage is Stage.DESTROYED
    assert not done(made, "plan")
    assert str(broken) in caplog.text


def test_changes_of_a_switch_that_does_not_read_hold_up_no_other(made: Dossier) -> None:
    world = made.world
    ASKING["destroy"](made)
    second = made.hers.create(made.readers, 2, PLAN, COOLING)
    second.push()
    second.prove()
    second.arm()
    second.hers.order(second.id, statements.Destroy)
    with world.database.transaction():
        world.database.run("UPDATE switches SET due = 5 WHERE dossier = :d", d=made.id)
    for _ in range(5):
        world.skip(DAY)
        made.hers.check_in()
    assert second.stage is Stage.DESTROYED
    row = world.database.one("SELECT stage FROM switches WHERE dossier = :d", d=made.id)
    assert row is not None
    assert row["stage"] == "armed"


def test_of_a_destroyed_dossier_nothing_that_could_open_it_is_left(made: Dossier) -> None:
    world = made.world
    row = world.records.dossier(made.id)
    assert row is not None
    secrets = [row.release_share, row.title, row.deal]
    secrets += [line.share for line in world.records.collaborators(made.id)]
    ASKING["destroy"](made)
    cool(made)
    made.world.skip(DAY)
    assert made.stage is Stage.DESTROYED
    held = b"".join(file.read_bytes() for file in world.folder.glob("afterword.db*"))
    for secret in secrets:
        assert secret is not None
        assert secret[200:264] not in held
    assert cooling.take_effect(world.records, world.custodian) == 0


def test_a_damaged_address_of_a_colleague_keeps_her_from_cancelling_nothing(made: Dossier) -> None:
    hash = made.hers.order(made.id, statements.Destroy)
    with made.world.database.transaction():
        made.world.database.run(
            "UPDATE addresses SET tries = 'x' WHERE account = :a", a=made.readers[0].account.id
        )
    made.hers.order(made.id, statements.Cancel, change=hash)
    assert made.world.records.change(str(hash)) is None
    made.world.courier.carried.clear()
    made.world.deliver()
    assert {"ana@example.org", "c2@example.org", "c3@example.org"} <= {
        each.to for each in made.world.courier.carried
    }


def last_word(person: Person) -> str:
    """The last acknowledgement that this person's computer holds."""
    login = statements.Login(person.world.custodian.hash, person.card.verify_key.hex, person.nonce(), 1)
    request = wire.SessionRequest(person.sign(login), None)
    return accounts.sign_in(person.world.records, person.world.custodian, request).head or ""


def sign_in(person: Person, last: str) -> None:
    login = statements.Login(person.world.custodian.hash, person.card.verify_key.hex, person.nonce(), 1)
    request = wire.SessionRequest(person.sign(login), last)
    accounts.sign_in(person.world.records, person.world.custodian, request)


def cancel_and_be_set_back(made: Dossier, hash: str | None) -> str:
    """She cancels, it is acknowledged, and the machine's image of before comes back; her acknowledgement."""
    world = made.world
    before = world.snapshot()
    made.hers.order(made.id, statements.Cancel, change=hash)
    seen = last_word(made.hers)
    world.rewind(Snapshot(before.database, copy.copy(world.clock), before.objects))
    world.pass_time(4 * TICK)
    assert hash is not None
    assert world.records.change(hash) is not None
    return seen


@pytest.mark.parametrize("kind", BY_TIME)
def test_a_cancellation_that_the_server_forgot_costs_a_whole_cooling_time_and_is_told_anew(
    made: Dossier, kind: str
) -> None:
    hash = ASKING[kind](made)
    for _ in range(3):
        made.world.skip(DAY)
        made.hers.check_in()
    made.world.skip(DAY - HOUR)
    seen = cancel_and_be_set_back(made, hash)
    made.hers.check_in(made.hers.checkin_request(seq=made.hers.account.seq + 5, last=seen))
    made.world.pass_time(MINUTE)
    assert told(made, "change-asked") == sorted(2 * EVERYBODY)
    for _ in range(3):
        made.world.skip(DAY)
        made.hers.check_in()
        assert not done(made, kind)
    made.world.skip(DAY - HOUR)
    assert not done(made, kind)
    made.world.skip(2 * HOUR)
    made.world.pass_time(MINUTE)
    assert done(made, kind)


def test_a_colleague_who_proves_a_setback_lets_everybodys_changes_cool_anew(made: Dossier) -> None:
    """She may not have spoken yet: what was cancelled must not take effect before she does."""
    bea = made.world.journalist("bea")
    hash = ASKING["destroy"](made)
    for _ in range(4):
        made.world.skip(DAY - HOUR)
        made.hers.check_in()
    before = made.world.snapshot()
    made.hers.order(made.id, statements.Cancel, change=hash)
    bea.create([bea.colleague("c")], 1, PLAN)
    seen = last_word(bea)
    made.world.rewind(Snapshot(before.database, copy.copy(made.world.clock), before.objects))
    sign_in(bea, seen)
    made.world.skip(3 * DAY)
    made.hers.check_in()
    made.world.pass_time(MINUTE)
    assert not done(made, "destroy")
    assert told(made, "change-asked") == sorted(2 * EVERYBODY)


def test_a_change_that_was_made_late_by_her_absence_does_not_take_effect_on_the_check_in_that_shows_the_loss(
    made: Dossier,
) -> None:
    hash = ASKING["destroy"](made)
    until(made, Stage.WARNED)
    made.world.pass_time(10 * MINUTE)
    made.world.skip(10 * HOUR)
    made.world.skip(10 * HOUR)
    assert made.stage in (Stage.WARNED, Stage.GRACE)
    seen = cancel_and_be_set_back(made, hash)
    made.hers.check_in(made.hers.checkin_request(seq=made.hers.account.seq + 5, last=seen))
    (listed,) = views.dossier(made.world.records, made.hers.account, made.id).changes
    assert not listed.cooled
    assert listed.effective == made.world.clock.wall() + COOLING
    made.world.pass_time(MINUTE)
    assert not done(made, "destroy")


def test_in_one_life_of_the_server_a_change_cools_anew_only_once(made: Dossier) -> None:
    hash = ASKING["destroy"](made)
    made.world.skip(DAY)
    seen = cancel_and_be_set_back(made, hash)
    made.hers.check_in(made.hers.checkin_request(seq=made.hers.account.seq + 5, last=seen))
    made.world.pass_time(MINUTE)
    for _ in range(3):
        made.world.skip(DAY)
        made.hers.check_in(made.hers.checkin_request(last=seen))
    made.world.skip(DAY - MINUTE)
    assert not done(made, "destroy")
    made.world.pass_time(3 * MINUTE)
    assert done(made, "destroy")
    assert told(made, "change-asked") == sorted(2 * EVERYBODY)


def test_corrections_of_a_roster_whose_cancellation_was_forgotten_come_too_early(made: Dossier) -> None:
    change, corrections, _ = made.next_roster(made.readers[:2], 2)
    hash = ask_roster(made, change)[1]
    cool(made)
    seen = cancel_and_be_set_back(made, hash)
    made.hers.check_in(made.hers.checkin_request(seq=made.hers.account.seq + 5, last=seen))
    with pytest.raises(AfterwordError) as refused:
        hand_over(made, corrections)
    assert refused.value.code == "too-early"
    cool(made)
    hand_over(made, corrections)
    assert done(made, "roster")


def test_a_change_that_cannot_be_told_anew_stands_still_alone(
    made: Dossier, caplog: pytest.LogCaptureFixture
) -> None:
    world = made.world
    second = made.hers.create(made.readers, 2, PLAN, COOLING)
    second.push()
    second.prove()
    second.arm()
    broken = ASKING["destroy"](made)
    second.hers.order(second.id, statements.Destroy)
    made.world.pass_time(MINUTE)
    seen = cancel_and_be_set_back(made, broken)
    with world.database.transaction():
        world.database.run("UPDATE changes SET asked = 'x' WHERE hash = :hash", hash=broken)
    sign_in(made.hers, seen)
    with caplog.at_level(logging.ERROR):
        world.pass_time(MINUTE)
    assert str(broken) in caplog.text
    for _ in range(9):
        world.skip(DAY)
        made.hers.check_in()
    assert second.stage is Stage.DESTROYED
    assert made.stage is not Stage.DESTROYED


def test_what_was_told_before_a_restore_does_not_count_as_told_after_it(made: Dossier) -> None:
    world = made.world
    ASKING["destroy"](made)
    world.pass_time(10 * TICK)
    backups.begin_anew(world.records, world.custodian, os.urandom(16).hex())
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    for _ in range(5):
        world.skip(DAY)
        made.hers.check_in()
    assert not done(made, "destroy")
    world.courier.answer = None
    world.pass_time(2 * HOUR)
    assert done(made, "destroy")


def a_stuck_change(world: World, many: int) -> None:
    """One of somebody whose mail never arrives, and as many like it as are wanted."""

    def answer(parcel: Parcel) -> Outcome:
        dead = parcel.to.startswith("dead") and "confirm" not in parcel.body
        return PermanentFailure("no") if dead else Accepted()

    world.courier.answer = answer
    mallory = world.journalist("mallory")
    mallory.confirm("dead@example.org")
    puppet = mallory.colleague("puppet")
    for _ in range(many):
        theirs = mallory.create([puppet], 1, Plan(2_000 * HOUR, 12 * HOUR, 24 * HOUR, 96 * HOUR), 336 * HOUR)
        theirs.arm(anyway=True)
        mallory.order(theirs.id, statements.Destroy)
    world.skip(300 * HOUR)


def test_any_number_of_changes_that_wait_for_mail_hold_up_nobody_elses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooling, "PAGE", 3)
    monkeypatch.setattr(cooling, "LOOKS", 6)
    a_stuck_change(world, 13)
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    ASKING["pause"](made)
    for _ in range(4):
        world.skip(DAY)
        made.hers.check_in()
    # Six of fourteen in one tick, so that none waits for longer than three.
    world.pass_time(3 * 2 * TICK)
    assert done(made, "pause")


def test_one_tick_looks_at_so_many_changes_and_at_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooling, "PAGE", 3)
    monkeypatch.setattr(cooling, "LOOKS", 6)
    a_stuck_change(world, 8)
    world.skip(40 * HOUR)
    looked: list[str] = []
    change = world.records.change
    monkeypatch.setattr(world.records, "change", lambda hash: looked.append(hash) or change(hash))
    rounds = []
    place = cooling.Place()
    for _ in range(3):
        looked.clear()
        cooling.take_effect(world.records, world.custodian, place)
        rounds.append(list(looked))
    assert [len(each) for each in rounds] == [6, 2, 6]
    assert len({*rounds[0], *rounds[1]}) == 8
    assert rounds[2] == rounds[0]


def test_changes_that_raise_hold_up_nobody_elses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooling, "PAGE", 2)
    made = an_armed_dossier(world, PLAN, cooling=COOLING)
    broken = []
    for _ in range(5):
        other = made.hers.create(made.readers, 2, PLAN, COOLING)
        other.push()
        other.prove()
        other.arm()
        broken.append(other.hers.order(other.id, statements.PlanChange, plan=LONGER))
    with world.database.transaction():
        world.database.run("UPDATE changes SET body = x'00'")
    ASKING["destroy"](made)
    cool(made)
    world.pass_time(4 * TICK)
    assert done(made, "destroy")
    assert all(world.records.change(str(hash)) is not None for hash in broken)


def spoil(made: Dossier, column: str, value: int | str | bytes, hash: str | None) -> None:
    """As a bad sector does: the sum stays what it was."""
    database = made.world.database
    with database.transaction():
        row = database.one("SELECT total FROM changes WHERE hash = :hash", hash=hash)
        assert row is not None
        database.run(
            f"UPDATE changes SET {column} = {value if isinstance(value, str) else ':value'} WHERE hash = :hash",  # noqa: S608
            hash=hash,
            **({} if isinstance(value, str) else {"value": value}),
        )
        database.run("UPDATE changes SET total = :total WHERE hash = :hash", hash=hash, total=row["total"])


NO_TEXT = "CAST(x'e6' || substr({}, 2) AS TEXT)"
SPOILT: dict[str, tuple[str, int | str]] = {
    "a letter of its life": ("life", NO_TEXT.format("life")),
    "a letter of its kind": ("kind", "'e' || substr(kind, 2)"),
    "its kind, altogether": ("kind", NO_TEXT.format("kind")),
    "whose dossier": ("dossier", "NULL"),
    "when it has cooled": ("cooled", "cooled - 1"),
    "when it was asked for": ("asked", "'x'"),
}


@pytest.mark.parametrize("kind", ["destroy", "roster"])
@pytest.mark.parametrize("what", SPOILT)
def test_a_change_that_does_not_read_hides_no_dossier_and_bars_no_remedy(
    made: Dossier, what: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = made.world
    hash = ASKING[kind](made)
    spoil(made, *SPOILT[what], hash)
    with pytest.raises(Damaged):
        world.records.change(str(hash))
    for each in (made.hers, *made.readers):
        (shown,) = views.dossiers(world.records, each.account).dossiers
        assert (shown.dossier, shown.changes) == (made.id, ())
    views.rosters(world.records, world.custodian, made.readers[0].account, made.id)
    assert "do not read" in caplog.text
    others = [ASKING[other](made) for other in ("plan", kind)]
    assert len(views.dossier(world.records, made.hers.account, made.id).changes) == 2
    for each_of in (hash, *others):
        made.hers.order(made.id, statements.Cancel, change=each_of)
    assert world.records.all_changes() == []


def test_who_was_told_of_a_change_that_does_not_read_hears_that_it_was_cancelled(made: Dossier) -> None:
    hash = ASKING["destroy"](made)
    made.world.pass_time(MINUTE)
    spoil(made, "kind", "'none'", hash)
    made.hers.order(made.id, statements.Cancel, change=hash)
    made.world.pass_time(MINUTE)
    assert told(made, "change-cancelled") == EVERYBODY


def test_somebody_elses_change_that_does_not_read_cannot_be_cancelled(made: Dossier) -> None:
    hash = ASKING["destroy"](made)
    spoil(made, "asked", "'x'", hash)
    bea = made.world.journalist("bea")
    hers = bea.create([bea.colleague("c")], 1, PLAN)
    with pytest.raises(NotFound):
        bea.order(hers.id, statements.Cancel, change=hash)
    assert made.world.records.all_changes() == [hash]


def test_the_removal_of_an_address_that_does_not_read_is_cancelled_and_can_be_asked_anew(
    made: Dossier,
) -> None:
    hash = remove_address(made)
    spoil(made, "body", "x'00'", hash)
    assert remove_address(made) == hash
    spoil(made, "asked", "'x'", hash)
    made.hers.order(made.id, statements.Cancel, change=hash)
    second = remove_address(made)
    assert second not in (hash, None)
    spoil(made, "asked", "'x'", second)
    assert remove_address(made) not in (second, None)


def test_a_change_whose_very_name_does_not_read_holds_up_no_other(made: Dossier) -> None:
    world = made.world
    broken = ASKING["plan"](made)
    world.skip(DAY)
    ASKING["destroy"](made)
    spoil(made, "hash", NO_TEXT.format("hash"), broken)
    cool(made)
    world.pass_time(MINUTE)
    assert done(made, "destroy")


@pytest.mark.parametrize("kind", BY_TIME)
def test_no_single_bit_of_its_numbers_lets_a_change_take_effect_before_its_time(
    made: Dossier, kind: str
) -> None:
    world = made.world
    for _ in range(5):
        world.skip(DAY)
        made.hers.check_in()
    hash = ASKING[kind](made)
    world.pass_time(MINUTE)
    before = world.snapshot()
    change = world.records.change(str(hash))
    assert change is not None
    earlier = [bit for bit in range(62) if change.cooled >> bit & 1]
    for column, bits in (("cooled", earlier), ("asked", earlier[-1:]), ("told", [0])):
        for bit in bits:
            world.rewind(before)
            spoil(made, column, getattr(change, column) ^ 1 << bit, hash)
            world.pass_time(3 * TICK)
            assert not done(made, kind), (column, bit)
            with pytest.raises(Damaged):
                world.records.change(str(hash))


def test_a_cooling_time_that_is_not_the_one_it_was_made_with_shortens_nothing_and_holds_up_no_release(
    made: Dossier,
) -> None:
    world = made.world
    hash = ASKING["plan"](made)
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    with world.database.transaction():
        row = world.database.one("SELECT total FROM dossiers WHERE id = :id", id=made.id)
        assert row is not None
        world.database.run("UPDATE dossiers SET cooling = 0 WHERE id = :id", id=made.id)
        world.database.run(
            "UPDATE dossiers SET total = :total WHERE id = :id", id=made.id, total=row["total"]
        )
    with pytest.raises(Damaged):
        ASKING["destroy"](made)
    with pytest.raises(Damaged):
        remove_address(made)
    for _ in range(6):
        world.skip(DAY)
        made.hers.check_in()
    for each in (made.hers, *made.readers):
        (shown,) = views.dossiers(world.records, each.account).dossiers
        assert (shown.dossier, shown.changes) == (made.id, ())
    assert world.records.change(str(hash)) is not None
    assert not done(made, "plan")
    made.hers.order(made.id, statements.Cancel, change=hash)
    world.courier.answer = None
    until(made, Stage.RELEASED)


def set_back_on_a_full_disk(made: Dossier, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """A destruction whose cancelling was forgotten, and which tries to tell it anew are made while there is no room."""
    hash = ASKING["destroy"](made)
    made.world.pass_time(MINUTE)
    seen = cancel_and_be_set_back(made, hash)
    tried: list[str] = []

    def full(hash: str, *given: object) -> None:
        tried.append(hash)
        raise NoSpace("The disk is full.")

    monkeypatch.setattr(made.world.records, "cool_again", full)
    sign_in(made.hers, seen)
    return str(hash), tried


def test_what_a_full_disk_kept_from_being_told_anew_is_told_when_there_is_room_again(
    made: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_back_on_a_full_disk(made, monkeypatch)
    made.world.pass_time(3 * TICK)
    assert told(made, "change-asked") == EVERYBODY
    monkeypatch.undo()
    made.world.pass_time((cooling.AGAIN + 4) * 2 * TICK)
    assert told(made, "change-asked") == sorted(2 * EVERYBODY)
    for _ in range(5):
        made.world.skip(DAY)
        made.hers.check_in()
    assert done(made, "destroy")


def test_what_cannot_be_told_anew_is_tried_now_and_then_and_not_in_every_tick(
    made: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooling, "PAGE", 1)
    hash, tried = set_back_on_a_full_disk(made, monkeypatch)
    place = cooling.Place()
    for _ in range(3 * (cooling.AGAIN + 2)):
        cooling.take_effect(made.world.records, made.world.custodian, place)
    assert tried == [hash] * 3


def test_a_restore_tells_of_what_was_cooling_in_the_ticks_after_it(made: Dossier) -> None:
    world = made.world
    ASKING["destroy"](made)
    broken = ASKING["plan"](made)
    world.pass_time(10 * TICK)
    spoil(made, "kind", "'plant'", broken)
    backups.begin_anew(world.records, world.custodian, os.urandom(16).hex())
    (listed,) = views.dossier(world.records, made.hers.account, made.id).changes
    assert listed.effective == world.clock.wall() + COOLING
    assert told(made, "change-asked") == sorted(2 * EVERYBODY)
    world.pass_time(4 * TICK)
    assert told(made, "change-asked") == sorted(3 * EVERYBODY)
