"""An address that fails: who is told, when, and when it is nobody's fault but the mail server's."""

from collections.abc import Callable

from tests.world import Dossier, World, an_armed_dossier, until
from vault import accounts, alarms, channels, keeping, statements
from vault.clock import DAY, HOUR, MINUTE
from vault.couriers import Accepted, Outcome, Parcel, TemporaryFailure
from vault.plans import Plan
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 96 * HOUR, 96 * HOUR, 96 * HOUR)
BAD, GOOD = "ana@example.org", "ana@elsewhere.example"


def refusing(*addresses: str) -> Callable[[Parcel], Outcome]:
    return lambda parcel: TemporaryFailure("full") if parcel.to in addresses else Accepted()


def late(world: World, *bad: str) -> Dossier:
    """She is reminded at two addresses, of which some fail from now on."""
    made = an_armed_dossier(world, PLAN)
    made.hers.confirm(GOOD)
    world.courier.answer = refusing(*bad)
    until(made, Stage.REMINDED)
    return made


def live(world: World, hours: int) -> None:
    for _ in range(hours):
        world.skip(HOUR)
        world.pass_time(MINUTE)


def told(world: World, kind: str = "address-failing") -> list[str]:
    return [to for to, each in world.letters() if each == kind]


def seen(world: World) -> keeping.Glance:
    return keeping.glance(world.records, world.objects)


def test_an_address_that_failed_for_a_day_is_told_of_at_the_others_and_only_once(world: World) -> None:
    made = late(world, BAD)
    live(world, 23)
    assert told(world) == []
    assert seen(world).failing == ()
    live(world, 2)
    assert told(world) == [GOOD]
    assert seen(world).failing == (made.hers.account.id,)
    live(world, 40)
    assert told(world) == [GOOD]


def test_the_letter_about_it_does_not_name_the_address(world: World) -> None:
    late(world, BAD)
    live(world, 26)
    (letter,) = [each for each in world.courier.carried if "not been accepted for a day" in each.body]
    assert BAD not in letter.body
    assert "afterword address list" in letter.body


def test_whoever_heard_of_it_hears_when_it_is_over_and_the_next_time_anew(world: World) -> None:
    made = late(world, BAD)
    live(world, 26)
    world.courier.answer = None
    live(world, 2)
    assert told(world, "address-well") == [GOOD]
    assert seen(world).failing == ()
    made.hers.check_in()
    world.courier.answer = refusing(BAD)
    until(made, Stage.REMINDED)
    live(world, 26)
    assert told(world) == [GOOD, GOOD]


def test_an_address_that_recovers_within_the_day_is_not_spoken_of(world: World) -> None:
    late(world, BAD)
    live(world, 20)
    world.courier.answer = None
    live(world, 10)
    assert told(world) == told(world, "address-well") == []


def test_what_nobody_has_been_told_yet_is_called_back_in_silence(world: World) -> None:
    """The other address accepts the reminder and then nothing, so that the letter about the first waits."""
    late(world, BAD)
    live(world, 1)
    world.courier.answer = refusing(BAD, GOOD)
    live(world, 26)
    assert world.database.one(
        "SELECT 1 AS yes FROM outbox WHERE kind = 'address-failing' AND state = 'waiting'"
    )
    world.courier.answer = refusing(GOOD)
    live(world, 3)
    world.courier.answer = None
    live(world, 3)
    assert told(world) == []


def test_a_dead_mail_server_is_not_blamed_on_addresses(world: World) -> None:
    late(world, BAD, GOOD)
    live(world, 30)
    assert told(world) == []
    world.courier.answer = None
    live(world, 3)
    assert told(world) == []


def test_mail_that_stands_still_for_a_day_is_told_to_the_operator_at_the_server_itself(world: World) -> None:
    late(world, BAD, GOOD)
    live(world, 20)
    assert seen(world).mail_still is None
    live(world, 6)
    still = seen(world).mail_still
    assert "mail-dead" in alarms.ailments(world.records, True)
    assert still is not None
    assert DAY <= still <= DAY + 3 * HOUR
    world.courier.answer = None
    live(world, 3)
    assert seen(world).mail_still is None


def test_one_address_that_accepts_is_enough_for_the_mail_to_move(world: World) -> None:
    made = late(world, BAD)
    live(world, 30)
    until(made, Stage.WARNED)
    assert seen(world).mail_still is None


def test_mail_does_not_stand_still_when_nobody_is_written_to(world: World) -> None:
    an_armed_dossier(world, Plan(90 * DAY, 48 * HOUR, 48 * HOUR, 48 * HOUR))
    live(world, 50)
    assert seen(world).mail_still is None


def test_a_repeat_that_is_not_due_yet_does_not_wait(world: World) -> None:
    """A release is told weekly in the end; that is no letter which has been waiting for a week."""
    made = an_armed_dossier(world, PLAN, readers=1, k=1)
    until(made, Stage.RELEASED)
    for _ in range(9):
        live(world, 1)
        world.skip(DAY)
    glance = seen(world)
    assert glance.oldest_letter is None or glance.oldest_letter < 2 * HOUR
    assert glance.mail_still is None


def test_with_one_address_there_is_nobody_to_tell_but_the_operator(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=2)
    until(made, Stage.REMINDED)
    world.courier.answer = refusing("c1@example.org")
    until(made, Stage.WARNED)
    live(world, 27)
    assert told(world) == []
    assert seen(world).failing == (made.readers[0].account.id,)
    listed = keeping.list_accounts(world.records, world.custodian)
    assert {each.label: (each.addresses, each.failing) for each in listed} == {
        "ana": (1, 0),
        "colleague 1": (1, 1),
        "colleague 2": (1, 0),
    }


def test_a_code_that_does_not_arrive_shouts_at_nobody(world: World) -> None:
    """An address that was never confirmed is nobody's channel yet."""
    made = late(world)
    world.courier.answer = refusing("new@example.org")
    request = accounts.wire.AddressRequest("new@example.org", "en", "Reminder", "a phrase")
    accounts.add_address(world.records, world.custodian, made.hers.account, request)
    live(world, 30)
    assert told(world) == []
    assert seen(world).failing == ()


def test_an_address_is_asked_again_just_when_its_day_is_over(world: World) -> None:
    made = late(world, BAD)
    live(world, 2)
    (failing,) = [
        each for each in world.records.addresses_of(made.hers.account.id) if each.failing_lived is not None
    ]
    with world.records.transaction() as now:
        left = channels.day_is_over(world.records, now, failing.id)
    assert left is not None
    assert DAY - 3 * HOUR < left < DAY


def test_the_operator_hears_of_a_release_to_somebody_without_an_address(world: World) -> None:
    ana = world.journalist()
    ana.confirm(BAD)
    readers = [ana.colleague("one"), ana.colleague("two")]
    readers[0].confirm("c1@example.org")
    made = ana.create(readers, 1, PLAN)
    made.push()
    made.prove()
    made.arm()
    until(made, Stage.RELEASED)
    live(world, 1)
    assert told(world, "operator-no-address") == ["operator"]
    (letter,) = [each for each in world.courier.carried if "`afterword operator accounts`" in each.body]
    assert "Letters to an operator carry no phrase" in letter.body
    assert seen(world).unreachable == (readers[1].account.id,)
    readers[1].confirm("c2@example.org")
    live(world, 1)
    assert seen(world).unreachable == ()
    assert ("c2@example.org", "release") in world.letters()


def test_the_operator_hears_when_the_last_address_goes_before_the_archive_was_fetched(world: World) -> None:
    made = an_armed_dossier(world, PLAN, readers=2)
    until(made, Stage.RELEASED)
    live(world, 1)
    reader, other = made.readers
    row = world.records.dossier(made.id)
    assert row is not None
    other.order(made.id, statements.Collected, roster=row.roster)
    for each in (reader, other):
        (address,) = world.records.addresses_of(each.account.id)
        accounts.remove_address(world.records, world.custodian, each.account, address.id)
    live(world, 1)
    assert told(world, "operator-no-address") == ["operator"]
    assert seen(world).unreachable == (reader.account.id,)
