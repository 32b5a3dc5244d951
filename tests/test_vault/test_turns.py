"""Letters in turns, for several lines at once."""

import secrets
from collections import Counter
from contextlib import ExitStack

import msgspec

from tests.world import World
from vault import compose, outbox, rounds
from vault.clock import HOUR, MINUTE, SECOND
from vault.couriers import Accepted, MemoryCourier, Outcome, Parcel, TemporaryFailure
from vault.letters import Facts, LetterKind
from vault.storage.records.rows import Letter
from vault.turns import AT_ONCE, HELD_AT_MOST, LINES, Turns


def waiting(world: World, lane: str, many: int = 1, next: int = 0) -> None:
    world.delivering = False
    with world.records.transaction():
        for _ in range(many):
            name = secrets.token_hex(8)
            world.records.add_letter(
                Letter(
                    id=name,
                    message_id=name,
                    account=lane,
                    address=None,
                    kind="test",
                    dossier=None,
                    climb=None,
                    letter=None,
                    facts=b"{}",
                    state="waiting",
                    attempts=0,
                    next=next,
                    lease=0,
                    reason=None,
                    posted=0,
                    settled=None,
                    lane=lane,
                )
            )


def turns_of(world: World) -> Turns:
    world.pass_time(MINUTE)
    return Turns(world.records, 0)


def lanes(letters: list[Letter]) -> Counter[str]:
    return Counter(outbox.lane_of(letter) for letter in letters)


def test_a_flood_leaves_a_place_for_everybody_in_the_first_round(world: World) -> None:
    waiting(world, "flood", 1_000)
    for number in range(10):
        waiting(world, f"other {number}")
    world.pass_time(MINUTE)
    claimed, _ = outbox.claim_fairly(world.records, AT_ONCE, HOUR)
    assert lanes(claimed) == {"flood": 10} | {f"other {number}": 1 for number in range(10)}


def test_every_lane_has_its_turn_before_any_has_its_second(world: World) -> None:
    for number in range(300):
        waiting(world, f"{number:03}", 2)
    world.pass_time(MINUTE)
    seen: Counter[str] = Counter()
    after = ""
    for _ in range(300 // AT_ONCE):
        claimed, after = outbox.claim_fairly(world.records, AT_ONCE, HOUR, after=after)
        seen += lanes(claimed)
    assert set(seen.values()) == {1}
    assert len(seen) == 300


def test_lanes_that_only_wait_for_later_stand_before_nobody(world: World) -> None:
    for number in range(3 * 200):
        waiting(world, f"later {number:04}", next=10 * HOUR)
    waiting(world, "flood", 500)
    waiting(world, "zoe")
    world.pass_time(MINUTE)
    claimed, _ = outbox.claim_fairly(world.records, AT_ONCE, HOUR)
    assert lanes(claimed)["zoe"] == 1


def test_one_lane_never_holds_all_lines(world: World) -> None:
    waiting(world, "flood", 100)
    turns = turns_of(world)
    with ExitStack() as stack:
        held = [stack.enter_context(turns.next()) for _ in range(LINES)]
        assert [letter is not None for letter in held] == [True, True, False, False]
        waiting(world, "good")
        world.pass_time(MINUTE)
        good = stack.enter_context(turns.next())
        assert good is not None
        assert outbox.lane_of(good) == "good"
    with turns.next() as again:
        assert again is not None


def test_what_was_claimed_and_not_begun_is_given_back(world: World) -> None:
    waiting(world, "flood", 100)
    turns = turns_of(world)
    with turns.next() as letter:
        assert letter is not None
    turns.give_back()
    assert len(outbox.claim(world.records, 1_000)) == 99


def test_a_letter_that_waited_too_long_for_a_line_is_claimed_anew(world: World) -> None:
    """Its lease would end while it is carried, and another deliverer would carry it too."""
    waiting(world, "flood", 100)
    turns = turns_of(world)
    with turns.next() as first:
        assert first is not None
    world.clock.at += HELD_AT_MOST + SECOND
    with turns.next() as second:
        assert second is not None
        with world.records.transaction() as now:
            assert second.lease - now.lived >= outbox.lease(world.tick, HELD_AT_MOST)


def test_an_empty_box_is_looked_into_once_a_tick_whatever_number_of_lines(world: World) -> None:
    turns = turns_of(world)
    before = world.records.service()
    for _ in range(LINES):
        with turns.next() as letter:
            assert letter is None
    waiting(world, "good")
    with turns.next() as letter:
        assert letter is None
    world.clock.at += world.tick
    with turns.next() as letter:
        assert letter is not None
    assert before is not None


def test_a_lease_is_never_shorter_than_what_a_letter_may_take() -> None:
    assert outbox.lease(5_000) == 180_000
    assert outbox.lease(5_000, 10 * MINUTE) > 10 * MINUTE
    assert outbox.lease(200, 20_000) > 20_000


def test_ten_thousand_people_at_a_slow_provider_hold_one_line(world: World) -> None:
    """Each has an account of its own, so turns alone would not help the one behind them."""
    ana = world.journalist()
    ana.confirm("ana@example.org")
    row = world.records.confirmed_addresses_of(ana.account.id)[0]
    slow = world.custodian.rest(b'{"address":"x@slow.example","language":"en","subject":"","phrase":""}')
    many = 40
    with world.records.transaction() as now:
        for number in range(many):
            address = msgspec.structs.replace(row, id=f"{number:04}", sealed=slow)
            world.records.add_address(address)
            outbox.post_to(world.records, world.custodian, now, LetterKind.TEST, address, Facts())
            world.database.run(
                "UPDATE outbox SET lane = :lane WHERE address = :id", lane=f"{number:04}", id=address.id
            )
        outbox.post_to(world.records, world.custodian, now, LetterKind.TEST, row, Facts())
        world.database.run("UPDATE outbox SET lane = 'zoe' WHERE address = :id", id=row.id)
    tried: list[str] = []

    def answer(parcel: Parcel) -> Outcome:
        tried.append(parcel.to)
        if parcel.to.endswith("@slow.example"):
            world.clock.at += 6 * SECOND
            # While this one is under way the other lines come and go.
            if len(tried) < 3:
                rounds.deliver_some(vault, MemoryCourier(answer), world.sender, turns)
            return TemporaryFailure("slow")
        return Accepted()

    courier = MemoryCourier(answer)
    vault = compose.Vault(None, world.records, world.objects, world.custodian)  # type: ignore[arg-type]
    world.delivering = False
    turns = turns_of(world)
    rounds.deliver_some(vault, courier, world.sender, turns)
    assert "ana@example.org" in tried
    assert tried.index("ana@example.org") <= LINES
