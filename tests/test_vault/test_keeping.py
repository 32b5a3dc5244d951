"""What an operator sees of a server, and may set."""

from pathlib import Path

import pytest

from tests.world import TICK, Dossier, World, an_armed_dossier
from vault import keeping, statements
from vault.clock import HOUR
from vault.errors import Conflict, NotFound, Refused
from vault.stream import OBJECT_SIZE


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "server").mkdir()
    return World(tmp_path / "server")


@pytest.fixture
def armed(world: World) -> Dossier:
    return an_armed_dossier(world)


def test_status_shows_what_stands_where(world: World, armed: Dossier) -> None:
    shown = keeping.glance(world.records, world.objects)
    assert (shown.accounts, shown.stages) == (4, {"armed": 1})
    assert shown.overdue == ()
    assert shown.key_copied is None
    keeping.confirm_key_copy(world.records)
    assert keeping.glance(world.records, world.objects).key_copied == world.clock.wall()


def test_a_switch_that_should_have_moved_is_named(world: World, armed: Dossier) -> None:
    with world.database.transaction():
        world.database.run("UPDATE service SET served = served + :ms", ms=40 * HOUR)
    assert keeping.glance(world.records, world.objects).overdue == (armed.id,)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE changes SET total = total + 7",
        "UPDATE changes SET kind = 'eestroy'",
        "UPDATE dossiers SET total = total + 3",
    ],
)
def test_a_slow_change_that_can_never_take_effect_is_named(world: World, armed: Dossier, damage: str) -> None:
    hash = armed.hers.order(armed.id, statements.Destroy)
    assert keeping.glance(world.records, world.objects).standing == ()
    with world.database.transaction():
        world.database.run(damage)
    shown = keeping.glance(world.records, world.objects)
    assert shown.standing == (hash,)
    assert "change-stands-still" in shown.wrong


def test_a_watch_that_died_is_seen_although_others_move_time_on(world: World, armed: Dossier) -> None:
    world.beat()
    assert keeping.glance(world.records, world.objects).tick_age == 0
    for _ in range(20):
        # The web and the deliverer go on; nobody moves a switch.
        world.clock.at += TICK
        world.deliver()
    assert keeping.glance(world.records, world.objects).tick_age == 20 * TICK
    assert "not-ticking" in keeping.glance(world.records, world.objects).wrong


def test_accounts_are_listed_with_what_they_use_and_nothing_of_what_is_inside(
    world: World, armed: Dossier
) -> None:
    held = {each.label: each for each in keeping.list_accounts(world.records, world.custodian)}
    assert set(held) == {"ana", "colleague 1", "colleague 2", "colleague 3"}
    hers = held["ana"]
    assert (hers.role, hers.used, hers.dossiers, hers.addresses) == ("journalist", 2 * OBJECT_SIZE, 1, 1)


def test_a_quota_is_set_for_an_account_that_exists(world: World, armed: Dossier) -> None:
    keeping.set_quota(world.records, armed.hers.account.id, 5)
    assert armed.hers.account.quota == 5
    with pytest.raises(NotFound):
        keeping.set_quota(world.records, "nobody", 5)
    with pytest.raises((Refused, Conflict)):
        armed.push()
