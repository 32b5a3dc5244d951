"""What an enemy tried, across rooms: each of these was possible once, or nearly.

Rule of this room: one sentence for one attack; whatever only needs the engine is told on a clock that is turned.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.world import World, an_armed_dossier
from vault import compose, wire
from vault.couriers.probe import Door
from vault.errors import Refused
from vault.settings import Settings, read_settings
from web import create_app


def settings_in(folder: Path) -> Settings:
    return read_settings({}, data=folder, url="https://vault.example", short=True)


class DoorTo(Door):
    """A public door behind which one application stands."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()

    def health(self, mark: str | None = None) -> wire.Health | None:
        headers = {} if mark is None else {wire.MARK: mark}
        return wire.read(self._client.get("/api/v1/health", headers=headers).data, wire.Health)


@pytest.fixture
def original(tmp_path: Path) -> Iterator[compose.Vault]:
    settings = settings_in(tmp_path / "original")
    compose.found(settings)
    vault = compose.open_vault(settings)
    yield vault
    vault.records.db.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world", short=True)
    yield world
    world.close()


# Too early


def test_no_time_counts_in_a_copy_of_a_server_while_people_reach_the_original(
    original: compose.Vault, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy = compose.open_vault(settings_in(tmp_path / "copy"))
    door = DoorTo(create_app(original))
    assert compose.knock(original, door)
    assert not compose.knock(copy, door)
    copy.records.db.close()


def test_nobody_with_her_keys_for_a_minute_can_make_her_last_statement_for_her(world: World) -> None:
    made = an_armed_dossier(world)
    thief = made.hers
    with pytest.raises(Refused, match="too far"):
        thief.check_in(thief.checkin_request(seq=2**53 - 1))
    made.hers.check_in()
