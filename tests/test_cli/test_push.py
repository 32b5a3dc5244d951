"""Deposits, and what stops them. The recovery at the end of a test is the proof that nothing was lost."""

import itertools
import os
import random
import socket
from pathlib import Path

import pytest

from cli import depositing
from cli import push as push_module
from test_cli.archive_world import START, Killed, World, contents
from vault.errors import Conflict, NotFound, OverQuota, Refused, Unreachable


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


def same(world: World, case: Path, tmp_path: Path, **wishes) -> None:
    to = tmp_path / f"recovered {len(os.listdir(tmp_path))}"
    done = world.recover(to, **wishes)
    assert done.complete, done.problems
    assert contents(to / "case") == contents(case)


def test_what_was_pushed_is_what_colleagues_get(world: World, case: Path, tmp_path: Path) -> None:
    done = world.push(case)
    assert (done.bundles, done.files, done.folders, done.complete) == ((1,), 3, 1, True)
    same(world, case, tmp_path)


def test_when_nothing_has_changed_nothing_is_sent(world: World, case: Path) -> None:
    world.push(case)
    sent = len(world.server.put)
    done = world.push(case)
    assert (done.bundles, done.objects, done.unchanged) == ((), 0, 3)
    assert "Nothing has changed" in push_module.render(done)
    assert len(world.server.put) == sent


def test_a_file_that_was_only_touched_is_not_sent(world: World, case: Path) -> None:
    world.push(case)
    os.utime(case / "film.bin", ns=(1, 1))
    done = world.push(case)
    assert (done.bundles, done.unchanged) == ((), 3)


def test_one_byte_at_the_front_costs_the_minimum(world: World, case: Path, tmp_path: Path) -> None:
    world.push(case)
    (case / "film.bin").write_bytes(b"!" + (case / "film.bin").read_bytes())
    assert world.push(case).objects == 2
    same(world, case, tmp_path)


def test_the_answer_says_that_a_push_is_no_check_in(world: World, case: Path) -> None:
    assert push_module.render(world.push(case)).endswith("This was not a check-in.")


def test_links_and_sockets_are_named_and_not_followed(world: World, case: Path, tmp_path: Path) -> None:
    (case / "link").symlink_to("/etc/passwd")
    (case / "loop").symlink_to(case)
    os.mkfifo(case / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(case / "socket"))
    listening.close()
    done = world.push(case)
    assert {left.path for left in done.skipped} == {"case/link", "case/loop", "case/pipe", "case/socket"}
    assert done.complete


def test_an_unreadable_file_is_named_and_the_rest_goes_on(
    world: World, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, case / "notes" / "one.txt", PermissionError(13, "Permission denied"))
    done = world.push(case)
    assert [left.path for left in done.problems] == ["case/notes/one.txt"]
    assert (done.files, done.complete) == (2, False)


def test_a_file_that_vanishes_is_named(world: World, case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, case / "film.bin", FileNotFoundError(2, "No such file"))
    done = world.push(case)
    assert "went away" in done.problems[0].why


def refuse(monkeypatch: pytest.MonkeyPatch, path: Path, error: OSError) -> None:
    real = depositing.read_file

    def read(found, take):
        if found.at == os.fsencode(path):
            raise error
        return real(found, take)

    monkeypatch.setattr(depositing, "read_file", read)


def test_a_file_that_grows_while_it_is_read_never_has_a_lying_hash(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, grown = depositing.read_file, case / "film.bin"

    def read(found, take):
        def taking(chunk):
            take(chunk)
            with grown.open("ab") as file:
                file.write(b"more")

        return real(found, taking)

    monkeypatch.setattr(depositing, "read_file", read)
    done = world.push(case)
    assert "written to while" in done.problems[0].why
    monkeypatch.undo()
    world.push(case)
    same(world, case, tmp_path)


def test_a_file_that_changed_once_is_simply_read_again(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, changed = depositing.read_file, []

    def read(found, take):
        def taking(chunk):
            take(chunk)
            if not changed and found.p.endswith("film.bin"):
                changed.append(True)
                os.truncate(case / "film.bin", 1_000_000)

        return real(found, taking)

    monkeypatch.setattr(depositing, "read_file", read)
    assert world.push(case).complete
    assert changed
    same(world, case, tmp_path)


def test_a_name_that_is_not_utf_8_is_deposited_and_said(world: World, case: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(case) + b"/caf\xe9.txt")).write_text("x")
    done = world.push(case)
    assert done.renamed == ("case/caf%E9.txt",)
    to = tmp_path / "to"
    world.recover(to)
    assert (to / "case" / "caf%25E9.txt").exists() or (to / "case" / "caf%E9.txt").exists()


def test_names_with_newlines_come_back_in_a_safe_form(world: World, case: Path, tmp_path: Path) -> None:
    (case / "a\nb").write_text("x")
    world.push(case)
    done = world.recover(tmp_path / "to")
    assert done.renamed == {"case/a\nb": "case/a%0Ab"}


def test_a_folder_without_a_file_is_no_deposit_of_its_own(
    world: World, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hollow").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link").symlink_to("/etc")
    for name in ("hollow", "links"):
        with pytest.raises(Refused) as refused:
            world.push(tmp_path / name)
        assert refused.value.code == "nothing-to-push"
    assert world.push(case, tmp_path / "hollow").complete
    assert "hollow holds no file." in capsys.readouterr().err


def test_a_path_that_is_not_there_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refused:
        world.push(tmp_path / "nowhere")
    assert refused.value.code == "no-such-path"


def test_more_than_the_quota_is_refused_before_the_first_byte(world: World, case: Path) -> None:
    world.server.quota = 3 * 1_048_576
    with pytest.raises(OverQuota):
        world.push(case)
    assert not world.server.put
    assert not world.server.heads


def test_a_large_file_with_a_small_change_fits_into_a_small_rest(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    world.server.quota = (len(world.server.objects) + 3) * 1_048_576
    with (case / "film.bin").open("ab") as file:
        file.write(b"tail")
    assert world.push(case).objects == 2
    same(world, case, tmp_path)


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(world: World, case: Path) -> None:
    done = world.push(case, dry_run=True)
    assert (done.dry_run, done.files, done.folders) == (True, 3, 1)
    assert done.sent >= 3_000_000
    assert not world.server.put
    assert world.push(case).sent == done.sent


def test_a_folder_that_shrank_by_half_is_remarked(
    world: World, case: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world.push(case)
    (case / "film.bin").unlink()
    world.push(case)
    assert "case has shrunk" in capfd.readouterr().err


def test_after_replace_everything_lies_on_top_and_the_rest_under_earlier(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    (case / "notes" / "one.txt").unlink()
    done = world.push(case, replace=True)
    assert done.replace
    assert done.files == 2
    to = tmp_path / "to"
    report = world.recover(to)
    assert report.fresh_starts == (2,)
    assert contents(to / "case") == {k: v for k, v in contents(case).items() if k != "notes"} | {
        "notes": None
    }
    assert (to / "earlier" / "case" / "notes" / "one.txt").read_text().startswith("first note")


def test_a_file_set_aside_by_replace_is_sent_again_when_it_comes_back(
    world: World, case: Path, tmp_path: Path
) -> None:
    note = case / "notes" / "one.txt"
    world.push(case)
    note.rename(tmp_path / "kept")
    world.push(case, replace=True)
    (tmp_path / "kept").rename(note)
    world.push(case)
    same(world, case, tmp_path)


def test_replace_is_not_declared_when_a_file_could_not_be_read(
    world: World, case: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.push(case)
    with monkeypatch.context() as patched:
        refuse(patched, case / "film.bin", PermissionError(13, "Permission denied"))
        done = world.push(case, replace=True)
    assert (done.replace, done.complete) == (False, False)
    same(world, case, tmp_path)


def test_a_replace_that_could_not_read_a_file_goes_on_when_it_can(
    world: World, case: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (case / "gone.txt").write_text("set aside later")
    world.push(case)
    (case / "gone.txt").unlink()
    with monkeypatch.context() as patched:
        refuse(patched, case / "film.bin", PermissionError(13, "Permission denied"))
        world.push(case, replace=True)
    done = world.push(case, replace=True)
    assert (done.replace, done.files) == (True, 1)
    report = world.recover(tmp_path / "to")
    assert report.fresh_starts == (2,)
    assert contents(tmp_path / "to" / "case") == contents(case)


def test_a_note_that_is_too_long_is_refused_before_the_first_byte(world: World, case: Path) -> None:
    with pytest.raises(Refused) as refused:
        world.push(case, note="x" * 3_000)
    assert refused.value.code == "note-too-long"
    assert not world.server.put


def test_a_file_that_no_tree_can_hold_is_named_and_the_rest_goes_on(
    world: World, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vault.tree.LINE_LIMIT", 400)
    done = world.push(case)
    assert [left.path for left in done.problems] == ["case/film.bin"]
    assert done.files == 2


def test_the_last_part_of_the_quota_is_kept_for_small_pushes(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    used = len(world.server.objects) * 1_048_576
    world.server.quota = (
        used + 10 * 1_048_576
    )  # a twentieth of it is the reserve: less than the smallest push
    (tmp_path / "big").write_bytes(random.Random(5).randbytes(9_600_000))
    with pytest.raises(OverQuota):
        world.push(tmp_path / "big")
    (case / "late.txt").write_text("small")
    assert world.push(case).complete


def test_a_push_warns_once_four_fifths_of_the_quota_are_used(
    world: World, case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.push(case)
    held = len(world.server.objects) * 1_048_576
    world.server.quota = held * 5 // 4 + 1
    world.push(case)
    assert "are used" not in capsys.readouterr().err
    world.server.quota = held * 5 // 4
    world.push(case)
    assert "are used; ask the operator for more in time" in capsys.readouterr().err


def test_even_a_push_that_breaks_leaves_the_newest_head_for_the_next_check_in(
    world: World, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.bundler.BUNDLE_OBJECTS", 3)
    (case / "long.bin").write_bytes(random.Random(2).randbytes(5_000_000))
    commits = iter([False, True])

    def cut(what: str) -> None:
        if what.startswith("POST") and what.endswith("/heads") and next(commits, False):
            raise Unreachable("cut")

    world.server.before = cut
    with pytest.raises(Unreachable):
        world.push(case)
    assert (world.ana.known().bundles, world.ana.known().head_hash) == world.server.newest()


def test_many_bundles_are_committed_as_it_goes(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.bundler.BUNDLE_OBJECTS", 4)
    (case / "long.bin").write_bytes(random.Random(2).randbytes(11_000_000))
    done = world.push(case)
    assert len(done.bundles) >= 4
    assert all(len(head) <= 4 for head in objects_of(world))
    same(world, case, tmp_path)


def test_a_replace_over_several_bundles_names_its_first(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.bundler.BUNDLE_OBJECTS", 3)
    world.push(case)
    first = len(world.server.heads) + 1
    (case / "long.bin").write_bytes(random.Random(2).randbytes(5_000_000))
    world.push(case, replace=True)
    report = world.recover(tmp_path / "to")
    assert report.fresh_starts == (first,)
    assert contents(tmp_path / "to" / "case") == contents(case)


def objects_of(world: World) -> list[tuple[str, ...]]:
    from vault import statements

    return [statements.peek(head).objects for head in world.server.heads]


def test_ten_minutes_are_long_enough_to_commit_what_is_there(
    world: World, case: Path, tmp_path: Path
) -> None:
    for number in range(30):
        (case / f"photo {number}").write_bytes(random.Random(number).randbytes(300_000))
    minutes = itertools.count()
    world.clock.wall = lambda: START + next(minutes) * 60_000
    assert len(world.push(case).bundles) > 1
    same(world, case, tmp_path)


def test_two_computers_that_push_at_once_both_end_well(world: World, case: Path, tmp_path: Path) -> None:
    other = world.person("Ana", "Ana elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "note").write_text("from the other computer")

    def meanwhile(what: str) -> None:
        if what.endswith("/heads") and what.startswith("POST"):
            world.server.before = lambda what: None
            world.push(tmp_path / "elsewhere", by=other)

    world.server.before = meanwhile
    done = world.push(case)
    assert done.bundles == (2,)
    same(world, case, tmp_path)
    world.push(case)
    assert len(world.server.heads) == 2


def test_a_server_that_takes_no_head_is_reported_as_a_conflict(
    world: World, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_head(what: str) -> None:
        if what == f"POST /dossiers/{'ab' * 16}/heads":
            raise Conflict("Another push was faster.", code="head-conflict")

    world.server.before = refuse_head
    with pytest.raises(Conflict) as refused:
        world.push(case)
    assert refused.value.code == "head-conflict"
    world.server.before = lambda what: None
    assert world.push(case).bundles == (1,)


def test_bundles_that_the_server_lost_are_sent_again(
    world: World, case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world.push(case)
    (case / "late.txt").write_text("late")
    world.push(case)
    kept = set(objects_of(world)[0])
    world.server.heads = world.server.heads[:1]
    world.server.objects = {name: data for name, data in world.server.objects.items() if name in kept}
    assert world.push(case).files == 1
    assert "lost 1 bundles" in capfd.readouterr().err
    same(world, case, tmp_path)


def test_an_object_that_the_server_lost_is_made_good_by_the_next_push(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    del world.server.objects[objects_of(world)[0][1]]
    (case / "late.txt").write_text("late")
    world.push(case)
    to = tmp_path / "to"
    world.recover(to)
    assert contents(to / "case") == contents(case)


def test_another_computer_deposits_everything_again_and_nothing_is_hidden(
    world: World, case: Path, tmp_path: Path
) -> None:
    world.push(case)
    other = world.person("Ana", "a clean laptop")
    (case / "notes" / "one.txt").write_text("changed elsewhere")
    assert world.push(case, by=other).bundles == (2,)
    same(world, case, tmp_path)


def test_only_one_push_at_a_time_runs_in_a_home(world: World, case: Path) -> None:
    with world.ana.home.lock("push"), pytest.raises(Conflict) as refused:
        world.push(case)
    assert refused.value.code == "busy"


@pytest.mark.parametrize("big", [False, True])
def test_killed_at_any_step_the_same_command_goes_on(
    world: World, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    monkeypatch.setattr("cli.bundler.BUNDLE_OBJECTS", 3 if big else 64)
    for step in range(1, 200):
        with world.dying_at(step) as seen:
            try:
                world.push(case)
            except Killed:
                continue
        break
    assert len(seen) < step
    same(world, case, tmp_path)
    needed = sum(len(each) for each in objects_of(world))
    assert len(world.server.objects) <= needed + 2


def test_objects_that_had_arrived_are_not_sent_again(world: World, case: Path) -> None:
    with world.dying_at(11) as seen, pytest.raises(Killed):
        world.push(case)
    before = list(world.server.put)
    assert before, seen
    world.push(case)
    assert len(world.server.put) == len(set(world.server.put))
    assert set(before) <= {name for each in objects_of(world) for name in each}


def test_a_line_that_breaks_loses_nothing(world: World, case: Path, tmp_path: Path) -> None:
    broken = iter([False, False, True])

    def cut(what: str) -> None:
        if what == "put" and next(broken, False):
            raise Unreachable("cut")

    world.server.before = cut
    with pytest.raises(Unreachable):
        world.push(case)
    world.server.before = lambda what: None
    world.push(case)
    same(world, case, tmp_path)


def test_nothing_readable_rests_in_the_home(world: World, case: Path, tmp_path: Path) -> None:
    planted = b"the minister's account number"
    (case / "notes" / "planted-name.txt").write_bytes(planted * 5_000)
    with world.dying_at(12), pytest.raises(Killed):
        world.push(case)
    world.push(case)
    for at, _, files in os.walk(world.ana.home.path):
        for name in files:
            data = Path(at, name).read_bytes()
            assert planted not in data
            assert b"planted-name" not in data


def test_the_home_itself_is_never_deposited(world: World, tmp_path: Path) -> None:
    (world.folder / "note").write_text("x")
    done = world.push(world.folder)
    assert "Afterword's own folder" in {left.why for left in done.skipped}


@pytest.mark.parametrize("seed", range(4))
def test_random_folders_edited_and_pushed_again_and_again_come_back_whole(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("cli.bundler.BUNDLE_OBJECTS", 3)
    chance = random.Random(seed)
    case = tmp_path / "case"
    case.mkdir()
    (case / "kept").touch()
    for round_number in range(6):
        for _ in range(chance.randint(1, 8)):
            edit(case, chance)
        done = world.push(case, replace=chance.random() < 0.3 and round_number > 0)
        assert done.complete
    world.push(case, replace=True)
    same(world, case, tmp_path)


def edit(case: Path, chance: random.Random) -> None:
    folder = case
    for _ in range(chance.randint(0, 2)):
        folder /= chance.choice(["a", "b", "c d", "é"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / chance.choice(["x", "y.bin", "z.txt"])
    match chance.randint(0, 4):
        case 0:
            path.write_bytes(b"")
        case 1:
            path.write_bytes(b"text " * chance.randint(1, 100_000))
        case 2:
            path.write_bytes(chance.randbytes(chance.randint(1, 1_500_000)))
        case 3 if path.exists():
            data = bytearray(path.read_bytes())
            data[chance.randint(0, len(data)) : 0] = chance.randbytes(10)
            path.write_bytes(data)
        case 4 if path.exists():
            path.unlink()


def test_a_name_with_a_line_end_cannot_pass_for_a_line_of_ours(world: World, case: Path) -> None:
    (case / "a\nDeposited 9 files.").symlink_to("nowhere")
    shown = push_module.render(world.push(case))
    assert "left out: case/a\\u000aDeposited 9 files. (" in shown
    assert sum(line.startswith("Deposited") for line in shown.splitlines()) == 1
