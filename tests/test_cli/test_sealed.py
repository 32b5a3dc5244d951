"""What is kept sealed is what the server has and she signed, and nothing that opens it."""

import hashlib
import random
from pathlib import Path

import pytest

from cli import sealed
from test_cli.archive_world import Killed, World
from vault.errors import Refused, Untrusted


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    folder = tmp_path / "case"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.bin").write_bytes(random.Random(number).randbytes(700_000))
        world.push(folder)
    return world


def test_heads_card_and_objects_are_kept_as_they_are(world: World, tmp_path: Path) -> None:
    kept = world.recover(None, keep_sealed=tmp_path / "kept")
    assert (kept.bundles, kept.objects) == (5, len(world.server.objects))
    heads = (tmp_path / "kept" / "heads.jsonl").read_bytes().splitlines()
    assert heads == world.server.heads
    assert (tmp_path / "kept" / "card.json").read_bytes().strip() == world.ana.card.envelope
    names = {path.name: path.read_bytes() for path in (tmp_path / "kept" / "objects").iterdir()}
    assert names == world.server.objects
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "kept").rglob("*")} == {0}
    # Nobody's letters stop for it: the archive is not open yet.
    assert not world.server.collected


def test_killed_at_any_step_the_same_command_goes_on(world: World, tmp_path: Path) -> None:
    folder, step = tmp_path / "kept", 0
    while True:
        step += 1
        with world.dying_at(8 + step):
            try:
                world.recover(None, keep_sealed=folder)
                break
            except Killed:
                continue
    assert {path.name for path in (folder / "objects").iterdir()} == set(world.server.objects)
    for name in world.server.objects:
        assert hashlib.sha256((folder / "objects" / name).read_bytes()).hexdigest() == name
    world.server.got.clear()
    world.recover(None, keep_sealed=folder)
    assert world.server.got == []


def test_an_object_that_is_not_its_name_is_named_and_the_others_are_kept(
    world: World, tmp_path: Path
) -> None:
    spoilt, lost, *others = world.server.objects
    world.server.objects[spoilt] = bytes(1_048_576)
    del world.server.objects[lost]
    kept = world.recover(None, keep_sealed=tmp_path / "kept")
    assert kept.missing == tuple(sorted((spoilt, lost)))
    assert {path.name for path in (tmp_path / "kept" / "objects").iterdir()} == set(others)
    assert f"PROBLEM: object {lost} is missing" in sealed.render(kept)


def test_heads_that_change_while_they_are_kept_are_noticed(world: World, tmp_path: Path) -> None:
    from cli import chain

    who = world.people[0]
    heads = list(chain.fetch_heads(who.remote, "ab" * 16, world.ana.card.verify_key))
    world.server.heads.pop()
    with pytest.raises(Untrusted) as refused:
        sealed.keep(who.remote, "ab" * 16, world.ana.card, heads, tmp_path / "kept")
    assert refused.value.code == "head-forked"


def test_a_file_in_the_folders_place_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(Refused) as refused:
        world.recover(None, keep_sealed=tmp_path / "kept")
    assert refused.value.code == "not-a-folder"
