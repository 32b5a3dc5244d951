"""Recoveries: whole ones, interrupted ones, and those that a server tries to spoil."""

import base64
import hashlib
import os
import random
import stat
from pathlib import Path

import msgspec
import pytest

from cli import recover as recover_module
from cli import recovery
from test_cli.archive_world import DOSSIER, Killed, World, contents
from vault import age, envelope, statements, stream, tree
from vault.errors import NoSpace, NotEnoughShares, NotFound, Refused, Untrusted
from vault.statements import Head


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "one.txt").write_text("first note\n" * 50)
    (folder / "empty.txt").touch()
    (folder / "nobody home").mkdir()
    (folder / "film.bin").write_bytes(random.Random(1).randbytes(3_000_000))
    return folder


def objects_of(world: World) -> list[tuple[str, ...]]:
    return [statements.peek(head).objects for head in world.server.heads]


def test_the_report_tells_what_came_back(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case, note="ask Bo first")
    (case / "notes" / "one.txt").write_text("second")
    world.push(case)
    done = world.recover(tmp_path / "to")
    report = recover_module.render(done)
    assert (
        "3 files, 3.0 MB, 2 bundles of 2026-09-21, complete, signed by Ana; 1 file has earlier versions."
        in report
    )
    assert "note: ask Bo first" in report


def test_two_of_three_are_enough_and_the_first_is_told_who_is_missing(
    world: World, case: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world.push(case)
    world.release()
    bo, cem, _ = world.people
    with pytest.raises(NotEnoughShares) as missing:
        world.unlock(bo)
    assert (missing.value.have, missing.value.need) == (1, 2)
    assert "Still missing: Cem, Dua" in capfd.readouterr().err
    assert world.unlock(cem) == world.key
    assert world.unlock(bo) == world.key


def test_collected_is_posted_only_when_everything_is_there(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.recover(tmp_path / "part", only=["case/notes"])
    world.recover(None, listing=True)
    assert not world.server.collected
    world.recover(tmp_path / "all")
    assert world.server.collected == {"Bo"}


def test_only_takes_folders_and_patterns(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.recover(tmp_path / "a", only=["case/notes"])
    world.recover(tmp_path / "b", only=["*.bin", "case/empty.txt"])
    assert set(contents(tmp_path / "a")) == {"case/notes/one.txt"}
    assert set(contents(tmp_path / "b")) == {"case/film.bin", "case/empty.txt"}
    with pytest.raises(NotFound):
        world.recover(tmp_path / "c", only=["nothing like it"])


def test_the_list_names_everything_and_writes_nothing(world: World, case: Path) -> None:
    world.push(case)
    found = world.recover(None, listing=True)
    digest = hashlib.sha256((case / "film.bin").read_bytes()).hexdigest()
    assert {each.path: each.sha256 for each in found.entries}["case/film.bin"] == digest
    assert "case/nobody home" in recover_module.render_listing(found)


def test_a_bundle_shows_the_archive_as_it_stood_then(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    (case / "notes" / "one.txt").write_text("a captor's version")
    world.push(case)
    world.recover(tmp_path / "to", bundle=1)
    assert (tmp_path / "to/case/notes/one.txt").read_text().startswith("first note")
    with pytest.raises(NotFound):
        world.recover(tmp_path / "other", bundle=3)


def test_all_versions_bring_earlier_ones_beside_the_newest(world: World, case: Path, tmp_path: Path) -> None:
    note = case / "notes" / "one.txt"
    for text in ("one", "two", "three"):
        note.write_text(text)
        world.push(case)
    world.recover(tmp_path / "to", all_versions=True)
    assert (tmp_path / "to/case/notes/one.txt").read_text() == "three"
    assert (tmp_path / "to/earlier/bundle 1/case/notes/one.txt").read_text() == "one"
    assert (tmp_path / "to/earlier/bundle 2/case/notes/one.txt").read_text() == "two"


def test_her_own_folder_called_earlier_stays_apart(world: World, tmp_path: Path) -> None:
    own = tmp_path / "earlier"
    own.mkdir()
    (own / "x").write_text("1")
    world.push(own)
    (own / "x").write_text("2")
    world.push(own, replace=True)
    world.recover(tmp_path / "to")
    assert contents(tmp_path / "to") == {"earlier/x": b"2", "earlier~/earlier/x": b"1"}


def test_killed_at_any_object_the_same_command_goes_on(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.release()
    to = tmp_path / "to"
    for step in range(1, 200):
        with world.dying_at(step):
            try:
                world.recover(to)
            except Killed:
                continue
        break
    assert step > 5
    assert contents(to / "case") == contents(case)
    assert set(os.listdir(to)) == {"case"}


def test_a_file_that_is_whole_is_not_fetched_again(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.recover(tmp_path / "to")
    (tmp_path / "to/case/notes/one.txt").unlink()
    world.server.got.clear()
    world.recover(tmp_path / "to")
    assert len(world.server.got) <= 2  # the tree, and the object of the note
    assert contents(tmp_path / "to" / "case") == contents(case)


def test_every_object_is_fetched_once(world: World, case: Path, tmp_path: Path) -> None:
    (case / "big.bin").write_bytes(random.Random(3).randbytes(12_000_000))
    world.push(case)
    world.recover(tmp_path / "to")
    assert len(world.server.got) == len(set(world.server.got))


def test_half_a_large_file_is_kept_and_the_rest_fetched(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(3).randbytes(12_000_000))
    world.push(big)
    monkeypatch.setattr("cli.archive.AHEAD", 0)
    with world.dying_at(14), pytest.raises(Killed):
        world.recover(tmp_path / "to")
    (part,) = (tmp_path / "to" / ".afterword-parts").iterdir()
    assert part.stat().st_size > 3_000_000
    world.server.got.clear()
    world.recover(tmp_path / "to")
    assert len(world.server.got) < 11
    assert (tmp_path / "to/big.bin").read_bytes() == big.read_bytes()


def test_a_part_that_was_spoilt_meanwhile_is_fetched_anew(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(3).randbytes(12_000_000))
    world.push(big)
    monkeypatch.setattr("cli.archive.AHEAD", 0)
    with world.dying_at(14), pytest.raises(Killed):
        world.recover(tmp_path / "to")
    (part,) = (tmp_path / "to" / ".afterword-parts").iterdir()
    with part.open("r+b") as file:
        file.write(b"spoilt")
    assert world.recover(tmp_path / "to").complete
    assert (tmp_path / "to/big.bin").read_bytes() == big.read_bytes()


def test_a_folder_with_something_in_it_is_refused(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "mine").touch()
    with pytest.raises(Refused) as refused:
        world.recover(tmp_path / "to")
    assert refused.value.code == "folder-not-empty"
    assert os.listdir(tmp_path / "to") == ["mine"]


def test_a_file_that_was_edited_after_recovery_is_left_alone(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    world.recover(tmp_path / "to")
    (tmp_path / "to/case/notes/one.txt").write_text("my remarks")
    done = world.recover(tmp_path / "to")
    assert not done.complete
    assert (tmp_path / "to/case/notes/one.txt").read_text() == "my remarks"


@pytest.mark.parametrize("harm", ["missing", "truncated", "corrupted", "swapped"])
def test_a_spoilt_object_costs_only_the_files_that_need_it(
    world: World, case: Path, tmp_path: Path, harm: str
) -> None:
    world.push(case)
    names = objects_of(world)[0]
    objects = world.server.objects
    match harm:
        case "missing":
            del objects[names[1]]
        case "truncated":
            objects[names[1]] = objects[names[1]][:5_000]
        case "corrupted":
            objects[names[1]] = objects[names[1]][:-1] + b"\0"
        case "swapped":
            objects[names[1]] = objects[names[0]]
    done = world.recover(tmp_path / "to")
    assert [each.path for each in done.problems] == ["case/film.bin"]
    assert "object 2 of bundle 1" in done.problems[0].why
    assert not world.server.collected
    assert contents(tmp_path / "to" / "case") == {
        path: data for path, data in contents(case).items() if path != "film.bin"
    }


def test_a_bundle_whose_tree_is_gone_does_not_take_the_others_along(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    (case / "late.txt").write_text("late")
    world.push(case)
    for name in objects_of(world)[1]:
        del world.server.objects[name]
    done = world.recover(tmp_path / "to")
    assert [each.path for each in done.problems] == ["bundle 2"]
    assert "NOT COMPLETE" in recover_module.render(done)
    assert set(contents(tmp_path / "to" / "case")) == set(contents(case)) - {"late.txt"}


def test_a_head_that_she_did_not_sign_is_refused_by_number(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.release()
    head = statements.peek(world.server.heads[0])
    world.server.heads[0] = statements.write(head, world.people[2].keyring.sign)
    with pytest.raises(Untrusted) as refused:
        world.recover(tmp_path / "to")
    assert refused.value.code == "head-forged"
    assert "Head 1" in str(refused.value)


def test_heads_that_were_held_back_are_noticed(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    (case / "late.txt").write_text("late")
    world.push(case)
    world.release()
    world.server.heads.pop()
    with pytest.raises(Untrusted) as refused:
        world.recover(tmp_path / "to")
    assert refused.value.code == "head-rolled-back"
    done = world.recover(tmp_path / "to", anyway=True)
    assert (done.complete, done.files) == (False, 3)
    assert not world.server.collected


def test_a_release_that_names_less_than_her_last_check_in_hides_nothing(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    (case / "late.txt").write_text("late")
    world.push(case)
    world.release()
    honest = statements.read(world.server.release, world.server.card.verify_key, statements.Release)
    for head, bundle in ((None, 0), (envelope.statement_hash(world.server.heads[0]).hex(), 1)):
        lying = msgspec.structs.replace(honest, head=head, bundle=bundle)
        world.server.release = statements.write(lying, world.server.keyring.sign)
        with pytest.raises(Untrusted) as refused:
            world.recover(tmp_path / f"to {bundle}")
        assert refused.value.code == "head-rolled-back"
        done = world.recover(tmp_path / f"to {bundle}", anyway=True)
        assert (done.files, done.bundles) == (4, 2)


def test_a_second_history_under_the_same_numbers_is_a_fork(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    seen = world.people[0]
    world.recover(tmp_path / "to")
    head = statements.peek(world.server.heads[0])
    other = Head(DOSSIER, 1, None, head.objects, head.root, None, head.created + 1)
    world.server.heads[0] = statements.write(other, world.ana.keyring.sign)
    world.release()
    with pytest.raises(Untrusted) as refused:
        world.recover(tmp_path / "again", seen)
    assert refused.value.code == "head-forked"


def test_bundles_signed_after_the_release_are_left_out(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.release()
    (case / "late.txt").write_text("by whoever has her laptop")
    world.push(case)
    world.recover(tmp_path / "to")
    assert "late.txt" not in contents(tmp_path / "to" / "case")


def test_recovered_files_are_private_and_never_set_id(world: World, case: Path, tmp_path: Path) -> None:
    (case / "tool").write_text("#!/bin/sh")
    (case / "tool").chmod(0o4777)
    world.push(case)
    world.recover(tmp_path / "to")
    for path, mode in (("tool", 0o700), ("film.bin", 0o600)):
        assert stat.S_IMODE((tmp_path / "to/case" / path).stat().st_mode) == mode


def test_times_come_back_to_the_microsecond(world: World, case: Path, tmp_path: Path) -> None:
    os.utime(case / "film.bin", ns=(1_500_000_000_123_456_000, 1_500_000_000_123_456_000))
    world.push(case)
    world.recover(tmp_path / "to")
    assert (tmp_path / "to/case/film.bin").stat().st_mtime_ns == 1_500_000_000_123_456_000


def test_without_room_on_the_disk_nothing_is_begun(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push(case)
    monkeypatch.setattr(recovery.Writer, "free", lambda self: 1000)
    with pytest.raises(NoSpace):
        world.recover(tmp_path / "to")
    assert contents(tmp_path / "to") == {}


def test_a_disk_that_fills_up_midway_stops_and_goes_on_later(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push(case)
    full = iter([False, False, True])
    real = recovery.Part.append

    def append(part, data):
        if next(full, False):
            raise OSError(28, "No space left on device")
        real(part, data)

    monkeypatch.setattr(recovery.Part, "append", append)
    with pytest.raises(NoSpace):
        world.recover(tmp_path / "to")
    assert world.recover(tmp_path / "to").complete


def test_the_identity_file_is_private_and_opens_the_roots(world: World, tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    recover_module.write_key(path, world.key, DOSSIER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    *comments, line = path.read_text().splitlines()
    assert age.Identity.read(line) == world.key
    assert all(each.startswith("# ") for each in comments)
    with pytest.raises(Refused):
        recover_module.write_key(path, world.key, DOSSIER)


def test_the_key_never_rests_in_the_home(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    world.release()
    bo, cem, _ = world.people
    with pytest.raises(NotEnoughShares):
        world.unlock(bo)
    world.unlock(cem)
    world.recover(tmp_path / "to", cem)
    for at, _, files in os.walk(cem.home.path):
        for name in files:
            assert world.key.reveal() not in Path(at, name).read_bytes()


def a_hostile_bundle(world: World, entries: list[tree.Entry], data: bytes = b"", **root) -> None:
    """What whoever has her signing key could commit."""
    stored = tree.write_tree(entries)
    writer = stream.StreamWriter()
    _, slices = writer.append(data)
    offset, more = writer.append(stored.stored)
    names = []
    for piece in (*slices, *more, *writer.finish(2)):
        sealed = stream.seal_object(piece, world.key.recipient, os.urandom)
        world.server.objects[sealed.name] = sealed.data
        names.append(sealed.name)
    said = {
        "offset": offset, "stored": len(stored.stored), "raw": stored.raw,
        "files": stored.files, "folders": stored.folders, "size": stored.size,
    }  # fmt: skip
    sealed_root = age.seal(tree.write_root(tree.Root(**(said | root))), world.key.recipient, os.urandom)
    last, prev = world.server.newest()
    text = base64.b64encode(sealed_root).decode()
    head = Head(DOSSIER, last + 1, prev, tuple(names), text, None, 2**53 - 1)
    world.server.heads.append(statements.write(head, world.ana.keyring.sign))


def a_file(path: str, *extents: tree.Extent, content: bytes = b"") -> tree.Entry:
    size = sum(each.raw for each in extents)
    return tree.Entry(path, "file", size, 0o7777, 0, hashlib.sha256(content).digest(), extents)


BOMB = stream.compress(bytes(1_000_000))


@pytest.mark.parametrize(
    ("extent", "data"),
    [
        (tree.Extent(99, 0, 10, 10, "raw"), b""),
        (tree.Extent(0, 2**52, 10, 10, "raw"), b""),
        (tree.Extent(0, 0, len(BOMB), 1_000, "zstd"), BOMB),
        (tree.Extent(0, 0, 10, 20, "zstd"), b"not zstd at all"),
        (tree.Extent(0, 0, 10, 10, "raw"), b"not what was hashed"),
    ],
    ids=["no such bundle", "beyond the stream", "bomb", "not zstd", "wrong hash"],
)
def test_a_hostile_extent_costs_its_file_only(
    world: World, case: Path, tmp_path: Path, extent: tree.Extent, data: bytes
) -> None:
    world.push(case)
    a_hostile_bundle(world, [a_file("evil", extent), a_file("fine")], data)
    done = world.recover(tmp_path / "to")
    assert [each.path for each in done.problems] == ["evil"]
    assert (tmp_path / "to" / "fine").read_bytes() == b""
    assert contents(tmp_path / "to" / "case") == contents(case)


@pytest.mark.parametrize(
    "root", [{"raw": 5}, {"stored": 2**40}, {"offset": 2**50}, {"files": 7}, {"size": 2**50}], ids=str
)
def test_a_root_that_lies_is_named_by_its_bundle(
    world: World, case: Path, tmp_path: Path, root: dict[str, int]
) -> None:
    world.push(case)
    a_hostile_bundle(world, [a_file("fine")], **root)
    done = world.recover(tmp_path / "to")
    assert [each.path for each in done.problems] == ["bundle 2"]
    assert contents(tmp_path / "to" / "case") == contents(case)
    assert "9999-12-31" in recover_module.render(done)


def test_hostile_names_are_recovered_under_safe_ones(world: World, tmp_path: Path) -> None:
    names = sorted(["CON", "a\nb", "\u202egpj.exe", "x.", "C:", ".afterword-parts", "earlier"])
    a_hostile_bundle(world, [a_file(name) for name in names])
    done = world.recover(tmp_path / "to")
    assert done.complete
    assert sorted(os.listdir(tmp_path / "to")) == sorted(
        ["%43ON", "a%0Ab", "%E2%80%AEgpj.exe", "x%2E", "C%3A", ".afterword-parts", "earlier"]
    )
