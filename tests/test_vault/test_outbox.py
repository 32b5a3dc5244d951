"""Letters until they have arrived: at least once, and nobody's trouble is anybody else's."""

import logging
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.world import World, an_armed_dossier, until
from vault import accounts, backups, compose, outbox, rounds, statements, wire
from vault.clock import DAY, HOUR, MINUTE
from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.errors import NoSpace
from vault.letters import Facts, LetterKind
from vault.plans import Plan
from vault.storage.records.rows import Letter
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)


def refusing(*addresses: str, outcome: Outcome | None = None) -> Callable[[Parcel], Outcome]:
    failed = outcome or TemporaryFailure("tarpit")
    return lambda parcel: failed if parcel.to in addresses else Accepted()


def rows(world: World, kind: str, state: str | None = None) -> list[Letter]:
    found = [
        world.records.letter(str(row["id"]))
        for row in world.database.all("SELECT id FROM outbox ORDER BY posted")
    ]
    return [each for each in found if each and each.kind == kind and state in (None, each.state)]


def test_a_letter_is_a_row_before_anybody_carries_it(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    assert [each.state for each in rows(world, "check-in")] == ["waiting"]
    world.reopen()
    world.deliver()
    assert [each.state for each in rows(world, "check-in")] == ["accepted"]


def test_every_address_of_hers_gets_its_own_letter(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    made.hers.confirm("ana@elsewhere.example", "es")
    until(made, Stage.REMINDED)
    sent = [parcel for parcel in world.courier.carried if parcel.to.startswith("ana@")][-2:]
    assert {parcel.to for parcel in sent} == {"ana@example.org", "ana@elsewhere.example"}
    assert {parcel.language for parcel in sent} == {"en", "es"}
    assert len({parcel.message_id for parcel in sent}) == 2


def test_retries_carry_the_same_message_id_and_wait_longer_each_time(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    tries: list[tuple[str, int]] = []

    def never(parcel: Parcel) -> Outcome:
        tries.append((parcel.message_id, world.clock.at))
        return TemporaryFailure("busy")

    world.courier.answer = never
    until(made, Stage.REMINDED)
    world.pass_time(5 * HOUR)
    assert len({name for name, _ in tries}) == 1
    waits = [later - earlier for (_, earlier), (_, later) in pairwise(tries)]
    assert len(waits) >= 8
    assert all(one <= other for one, other in pairwise(waits))
    assert max(waits) <= HOUR * 1.3


def test_a_mailbox_that_says_no_is_asked_again_but_seldom(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.courier.answer = refusing("ana@example.org", outcome=PermanentFailure("no such mailbox"))
    until(made, Stage.REMINDED)
    world.pass_time(HOUR)
    (letter,) = rows(world, "check-in")
    assert letter.state == "waiting"
    assert 2 <= letter.attempts <= 6
    assert letter.reason == "no such mailbox"
    world.courier.answer = None
    world.pass_time(3 * HOUR)
    assert rows(world, "check-in")[0].state == "accepted"


def test_one_poisoned_address_delays_nobody_else(world: World) -> None:
    """S11: within one round everybody else has their letter."""
    made = an_armed_dossier(world, PLAN, readers=6)
    world.courier.answer = refusing("c1@example.org", "c4@example.org")
    until(made, Stage.WARNED)
    world.deliver()
    reached = {parcel.to for parcel in world.courier.carried if parcel.to[0] == "c"}
    told = Counter(each.state for each in rows(world, "reach-her"))
    assert told == {"accepted": 4, "waiting": 2}
    assert {"c2@example.org", "c3@example.org", "c5@example.org", "c6@example.org"} <= reached


def test_a_letter_that_cannot_be_written_delays_nobody_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that does not open under the server key is its owner's trouble alone, and shouts."""
    made = an_armed_dossier(world, PLAN, readers=3)
    broken = world.records.addresses_of(made.readers[0].account.id)[0]
    with world.records.transaction():
        world.records.replace_address(broken.id, b"not an age file")
    until(made, Stage.WARNED)
    with caplog.at_level(logging.ERROR):
        world.deliver()
    assert Counter(each.state for each in rows(world, "reach-her")) == {"accepted": 2, "waiting": 1}
    assert "cannot be written" in caplog.text
    assert "c1@example.org" not in caplog.text


def test_the_deliverer_goes_on_behind_a_courier_that_breaks(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=3)
    world.delivering = False
    until(made, Stage.WARNED)

    def break_down(parcel: Parcel) -> Outcome:
        if parcel.to == "c1@example.org":
            raise RuntimeError("a bug in the courier")
        return Accepted()

    world.courier.answer = break_down
    vault = compose.Vault(None, world.records, world.objects, world.custodian)  # type: ignore[arg-type]
    rounds.deliver_some(vault, world.courier, world.sender)
    assert Counter(each.state for each in rows(world, "reach-her")) == {"accepted": 2, "waiting": 1}


def test_a_letter_whose_deliverer_died_goes_out_when_its_lease_ends(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    assert len(outbox.claim(world.records, 10)) == 1
    assert outbox.claim(world.records, 10) == []
    world.pass_time(outbox.lease(world.tick) - 2 * world.tick)
    assert outbox.claim(world.records, 10) == []
    world.pass_time(4 * world.tick)
    assert world.deliver() == 1


def test_two_deliverers_never_hold_the_same_letter(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=4)
    world.delivering = False
    until(made, Stage.WARNED)
    one, other = outbox.claim(world.records, 3), outbox.claim(world.records, 30)
    assert not {each.id for each in one} & {each.id for each in other}
    assert len(one) == 3


def test_a_deliverer_that_comes_too_late_leaves_the_letter_to_the_next(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    (old,) = outbox.claim(world.records, 10)
    world.pass_time(outbox.lease(world.tick) + 4 * world.tick)
    (new,) = outbox.claim(world.records, 10)
    world.courier.carried.clear()
    assert not world.carry(old)
    assert world.courier.carried == []
    assert world.carry(new)


def test_what_is_not_true_any_more_is_not_sent(world: World) -> None:
    """She checks in after the letter was taken from the box and before it was carried."""
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    claimed = outbox.claim(world.records, 10)
    made.hers.check_in()
    world.courier.carried.clear()
    assert not any(world.carry(each) for each in claimed)
    assert world.courier.carried == []


def test_leaving_a_stage_withdraws_its_unaccepted_letters(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    until(made, Stage.WARNED)
    assert rows(world, "reach-her", "waiting")
    made.hers.check_in()
    assert {
        each.state for kind in ("check-in", "last-warning", "reach-her") for each in rows(world, kind)
    } == {"withdrawn"}
    world.courier.answer = None
    world.pass_time(HOUR)
    assert rows(world, "all-clear") == []


def test_the_all_clear_goes_to_those_who_had_heard_and_to_nobody_else(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=3)
    world.courier.answer = refusing("c2@example.org")
    until(made, Stage.WARNED)
    world.pass_time(MINUTE)
    made.hers.check_in()
    world.courier.answer = None
    world.pass_time(HOUR)
    assert sorted(to for to, kind in world.letters() if kind == "all-clear") == [
        "ana@example.org",
        "c1@example.org",
        "c3@example.org",
    ]


def test_the_operator_who_heard_that_she_could_not_be_reached_hears_that_it_is_over(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.courier.answer = refusing("ana@example.org")
    until(made, Stage.WARNED)
    world.pass_time(MINUTE)
    assert ("operator", "operator-unreached") in world.letters()
    made.hers.check_in()
    world.pass_time(MINUTE)
    assert ("operator", "all-clear") in world.letters()


def test_an_alarm_that_was_in_the_air_when_she_checked_in_is_followed_by_its_all_clear(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.WARNED)

    def check_in_meanwhile(parcel: Parcel) -> Outcome:
        if parcel.to == "c1@example.org":
            made.hers.check_in()
        return Accepted()

    world.courier.answer = check_in_meanwhile
    world.deliver()
    world.courier.answer, world.delivering = None, True
    world.pass_time(MINUTE)
    assert made.stage is Stage.ARMED
    assert ("c1@example.org", "reach-her") in world.letters()
    assert ("c1@example.org", "all-clear") in world.letters()


def test_a_letter_to_nobody_is_not_called_accepted(world: World) -> None:
    """An operator without an address has not been told, and a stage does not run because of it."""
    made = an_armed_dossier(world, PLAN)
    world.sender = outbox.Sender("box@server.example", None, (), "en")
    world.courier.answer = refusing("ana@example.org")
    until(made, Stage.WARNED)
    world.pass_time(MINUTE)
    (letter,) = rows(world, "operator-unreached")[:1]
    assert letter.state == "withdrawn"
    assert letter.reason == "there is no address to write to"


def test_a_letter_to_an_address_that_was_removed_in_between_has_not_landed(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    (claimed,) = outbox.claim(world.records, 10)
    (address,) = world.records.addresses_of(made.hers.account.id)
    with world.records.transaction() as now:
        world.records.withdraw_letters_to(address.id, now.lived)
        world.records.remove_address(address.id)
    assert not world.carry(claimed)
    assert world.records.switch(made.id).switch.trying
    assert rows(world, "check-in")[0].state == "withdrawn"


def test_a_letter_that_arrived_for_a_switch_that_does_not_read_is_not_sent_for_ever(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    with world.database.transaction():
        world.database.run("UPDATE switches SET due = 0")
    world.delivering = True
    world.courier.carried.clear()
    world.pass_time(HOUR)
    assert len(world.courier.carried) == 1
    assert rows(world, "check-in")[0].state == "accepted"


def test_a_disk_that_is_full_when_her_letter_has_arrived_makes_nobody_call_her_unreachable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.REMINDED)
    (letter,) = outbox.claim(world.records, 1)
    run = world.database.run

    def full(sql: str, /, **given: object) -> int:
        if "UPDATE switches" in sql:
            raise NoSpace("The disk that holds the database is full; free some space.")
        return run(sql, **given)  # type: ignore[arg-type]  # passed on as they came

    with monkeypatch.context() as patched:
        patched.setattr(world.database, "run", full)
        with pytest.raises(NoSpace):
            world.carry(letter)
    assert rows(world, "check-in")[0].state == "waiting"
    # There is room again: it is carried once more, and the time that she has runs from then.
    world.delivering = True
    world.pass_time(HOUR)
    assert rows(world, "check-in")[0].state == "accepted"
    assert not world.records.switch(made.id).switch.trying
    until(made, Stage.WARNED)
    assert not {"unreached", "operator-unreached"} & {kind for _, kind in world.letters()}


def test_an_address_is_called_failing_from_its_first_failure_to_its_next_success(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    world.courier.answer = refusing("ana@example.org")

    def failing() -> int | None:
        return accounts.state(world.records, world.custodian, made.hers.account).addresses[0].failing_since

    assert failing() is None
    until(made, Stage.REMINDED)
    since = failing()
    assert since is not None
    world.pass_time(HOUR)
    assert failing() == since
    world.courier.answer = None
    world.pass_time(2 * HOUR)
    assert failing() is None


def test_a_letter_of_the_ladder_is_never_given_up_while_it_is_true(world: World) -> None:
    """A mail server that is down for a month: the last call is still under way when it comes back."""
    made = an_armed_dossier(world, Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 60 * DAY))
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    until(made, Stage.GRACE)
    for _ in range(40):
        world.skip(DAY - 4 * HOUR)
        world.pass_time(2 * MINUTE)
    assert rows(world, "last-call")[0].state == "waiting"
    world.courier.answer = None
    world.pass_time(2 * HOUR)
    assert rows(world, "last-call")[0].state == "accepted"


def test_a_code_that_nobody_waits_for_is_given_up_after_a_fortnight(world: World) -> None:
    ana = world.journalist()
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    accounts.add_address(
        world.records,
        world.custodian,
        ana.account,
        wire.AddressRequest("ana@example.org", "en", "Note", "x y"),
    )
    for _ in range(17):
        world.skip(DAY)
        world.pass_time(MINUTE)
    assert rows(world, "code")[0].state == "failed"


def test_a_release_is_told_again_and_again_until_it_is_collected(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=2)
    until(made, Stage.RELEASED)
    world.pass_time(MINUTE)
    row = world.records.dossier(made.id)
    assert row is not None
    made.readers[0].order(made.id, statements.Collected, roster=row.roster)
    for _ in range(12):
        world.skip(DAY)
        world.pass_time(MINUTE)
    told = Counter(to for to, kind in world.letters() if kind == "release")
    assert told["c1@example.org"] == 1
    assert 5 <= told["c2@example.org"] <= 9
    assert len({each.message_id for each in rows(world, "release")}) == len(rows(world, "release"))


def test_releases_go_out_when_the_mail_server_comes_back_after_a_month(world: World) -> None:
    """T9, liveness: nothing is deleted, nothing gives up."""
    made = an_armed_dossier(world, PLAN, readers=2)
    until(made, Stage.GRACE)
    world.courier.answer = lambda parcel: PermanentFailure("no")
    until(made, Stage.RELEASED)
    for _ in range(30):
        world.skip(DAY)
        world.pass_time(MINUTE)
    assert {each.state for each in rows(world, "release")} == {"waiting"}
    world.courier.answer = None
    for _ in range(8):
        world.skip(HOUR)
        world.pass_time(MINUTE)
    assert {to for to, kind in world.letters() if kind == "release"} == {"c1@example.org", "c2@example.org"}


def test_an_address_confirmed_after_the_release_still_gets_its_letter(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=2)
    until(made, Stage.RELEASED)
    made.readers[0].confirm("late@example.org")
    world.pass_time(MINUTE)
    assert ("late@example.org", "release") in world.letters()


def test_who_has_collected_or_left_is_not_written_to_at_a_new_address(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=3)
    until(made, Stage.RELEASED)
    world.pass_time(MINUTE)
    row = world.records.dossier(made.id)
    assert row is not None
    made.readers[0].order(made.id, statements.Collected, roster=row.roster)
    made.readers[1].order(made.id, statements.Leave)
    for number in (0, 1):
        made.readers[number].confirm(f"late{number}@example.org")
    for _ in range(3):
        world.skip(DAY)
        world.pass_time(MINUTE)
    told = Counter(to for to, kind in world.letters() if kind == "release")
    assert {to: many for to, many in told.items() if not to.startswith("c3")} == {
        "c1@example.org": 1,
        "c2@example.org": 1,
    }


def test_who_left_before_the_release_is_not_told_of_it(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=3)
    made.readers[2].order(made.id, statements.Leave)
    until(made, Stage.RELEASED)
    world.pass_time(MINUTE)
    assert {to for to, kind in world.letters() if kind in ("release", "reach-her")} == {
        "c1@example.org",
        "c2@example.org",
    }


def test_no_letter_names_the_dossier_or_what_is_in_it(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.RELEASED)
    world.pass_time(MINUTE)
    for parcel in world.courier.carried:
        said = parcel.subject + parcel.body
        assert made.id not in said
        assert "Title" not in said
        assert "http" not in said.replace("https://server.example", "")


@pytest.mark.parametrize(
    "damage",
    [
        "attempts = 'x'",
        "climb = 2.5",
        "facts = 'x'",
        "message_id = CAST(x'ff' AS TEXT)",
        "letter = CAST(x'ff' AS TEXT)",
        "lane = CAST(x'ff' AS TEXT)",
        "id = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_letter_that_does_not_read_holds_up_nobody_elses(
    world: World, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S11."""
    made = an_armed_dossier(world, PLAN)
    olga = world.journalist("olga")
    olga.confirm("olga@example.org")
    world.delivering = False
    until(made, Stage.REMINDED)
    with world.records.transaction() as now:
        world.database.run(f"UPDATE outbox SET {damage} WHERE kind = 'check-in'")  # noqa: S608 our own
        outbox.post(world.records, world.custodian, now, LetterKind.ADDRESS_WELL, olga.account.id, Facts())
    world.courier.carried.clear()
    with caplog.at_level(logging.ERROR):
        world.deliver()
    assert [parcel.to for parcel in world.courier.carried] == ["olga@example.org"]
    assert "does not read" in caplog.text
    row = world.database.one("SELECT state FROM outbox WHERE kind = 'check-in'")
    assert row is not None
    assert row["state"] == "waiting", "what does not read is kept for whoever repairs it"


def test_a_lane_that_does_not_read_holds_up_no_other_lane(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.WARNED)
    monkeypatch.setattr(outbox, "WINDOW", 2)
    with world.records.transaction():
        world.database.run(
            "UPDATE outbox SET lane = CAST(x'ff' AS TEXT), next = next + 1 WHERE kind = 'last-warning'"
        )
    world.courier.carried.clear()
    for _ in range(4):
        world.deliver()
    assert {parcel.to for parcel in world.courier.carried} == {
        "c1@example.org",
        "c2@example.org",
        "c3@example.org",
    }


def test_an_alarm_in_the_air_when_only_its_time_was_given_again_is_followed_by_no_all_clear(
    world: World,
) -> None:
    """The server came back from an older state; nobody has heard of her."""
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.WARNED)

    def give_time_again(parcel: Parcel) -> Outcome:
        if made.stage is Stage.WARNED and parcel.to == "c1@example.org":
            backups.begin_anew(world.records, world.custodian, "ab" * 16)
        return Accepted()

    world.courier.answer = give_time_again
    world.deliver()
    world.courier.answer, world.delivering = None, True
    world.pass_time(MINUTE)
    assert made.stage is Stage.ARMED
    assert ("c1@example.org", "reach-her") in world.letters()
    assert "all-clear" not in {kind for _, kind in world.letters()}


def test_a_release_to_whom_the_roster_does_not_read_is_told_in_its_turn_and_not_at_every_lease(
    world: World,
) -> None:
    made = an_armed_dossier(world, PLAN)
    world.delivering = False
    until(made, Stage.RELEASED)
    with world.database.transaction():
        world.database.run(
            "UPDATE collaborators SET proved = 'x' WHERE account = :a", a=made.readers[0].account.id
        )
    world.delivering = True
    world.courier.carried.clear()
    world.pass_time(50 * MINUTE)
    assert [each.to for each in world.courier.carried].count("c1@example.org") == 1
    world.pass_time(HOUR)
    assert [each.to for each in world.courier.carried].count("c1@example.org") == 2
