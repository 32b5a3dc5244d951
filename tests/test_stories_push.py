"""Creating a dossier and depositing into it, whatever lies in the folder and whatever breaks on the way.

Every story ends with what is on the server: what was refused left nothing there, what was deposited can be seen.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from rehearsal import COLLEAGUES, TITLE, a_small_disk
from theatre import AFTERWORD, Cast, Person, converse

OBJECT = 1_048_576
KILLED = -9


def bundles(ana: Person, name: str = TITLE) -> int:
    return len(ana.ask("bundles", name)["bundles"])


def a_file(path: Path, size: int) -> Path:
    """Nothing that could be compressed, and no two alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(str(path)).randbytes(size))
    return path


@pytest.fixture
def desk(newsroom: Cast, request: pytest.FixtureRequest) -> Path:
    """A folder of this story's own."""
    folder = newsroom.folder / "desk" / request.node.name
    folder.mkdir(parents=True)
    return folder


def test_a_dossier_that_nobody_could_open_as_meant_is_refused_before_anything_is_dealt(
    newsroom: Cast,
) -> None:
    ana = newsroom["Ana"]
    both = ["--collaborator", "Bruno", "--collaborator", "Chiara"]
    before = newsroom.line.counting()
    for team, why in [
        ([*both, "--threshold", "3"], "bad-threshold"),
        ([*both, "--threshold", "0"], "bad-threshold"),
        ([*both, "--threshold", "-1"], "bad-threshold"),
        ([*both, "--collaborator", "bruno", "--threshold", "2"], "same-person-twice"),
        ([*both, "--collaborator", "Zoë", "--threshold", "2"], "no-such-collaborator"),
        ([*both, "--threshold", "2", "--every", "0s"], "bad-plan"),
    ]:
        ended = ana.type("dossier", "create", "Never", *team, code=None)
        assert ended.code not in (0, 1, 70), (why, ended.said)
        assert "afterword: " in ended.err
    ana.refused("title-taken", "dossier", "create", TITLE.upper(), *both, "--threshold", "2")
    assert before.requests("POST", "/dossiers$") == 0
    # Somebody who has joined and whose words were never heard.
    fatima = newsroom.person("Fatima")
    fatima.join(newsroom.invite(ana, "Fatima"))
    team = ["--collaborator", "Fatima", "--threshold", "1"]
    refused = ana.type("dossier", "create", "With Fatima", *team, code=3)
    assert "card compare" in refused.err
    assert before.requests("POST", "/dossiers$") == 0
    made = ana.ask("dossier", "create", "With Fatima", *team, "--unverified")
    assert made["unverified"] == ["Fatima"]
    shown = ana.ask("roster", "With Fatima")
    assert [each["verified"] for each in shown["collaborators"]] == [False]


def test_a_creation_whose_answer_was_lost_makes_one_dossier(newsroom: Cast) -> None:
    ana = newsroom["Ana"]
    team = ["--collaborator", "Bruno", "--collaborator", "Chiara", "--threshold", "1"]
    before = {each["dossier"] for each in ana.ask("status")["dossiers"]}
    with newsroom.line.dropping("POST", "/dossiers$"):
        ana.refused("unreachable", "dossier", "create", "Lost answer", *team)
    again = ana.ask("dossier", "create", "Lost answer", *team)
    after = {each["dossier"] for each in ana.ask("status")["dossiers"]}
    assert after - before == {again["dossier"]}
    # And one that never arrived is made anew, once.
    with newsroom.line.holding("POST", "/dossiers$") as rule:
        ana.type("dossier", "create", "Killed", *team, dying=lambda _: rule.held.is_set(), code=KILLED)
    ana.type("dossier", "create", "Killed", *team)
    assert len(ana.ask("status")["dossiers"]) == len(after) + 1


def test_nothing_new_sends_nothing_and_a_byte_at_the_front_sends_little(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    large = a_file(desk / "recording.wav", 24_000_000)
    first = ana.ask("push", TITLE, str(desk))
    assert first["objects"] >= 23
    before = newsroom.line.counting()
    assert "Nothing has changed" in ana.type("push", TITLE, str(desk)).out
    assert (before.uploaded, before.requests("PUT"), before.requests("POST", "/heads")) == (0, 0, 0)
    large.write_bytes(b"!" + large.read_bytes())
    again = ana.ask("push", TITLE, str(desk))
    assert again["objects"] <= 3
    assert before.uploaded <= 3 * OBJECT
    # What would be sent is said and nothing is sent.
    a_file(desk / "scans" / "one.jpg", 3_000_000)
    before = newsroom.line.counting()
    rehearsed = ana.ask("push", TITLE, str(desk), "--dry-run")
    assert rehearsed["dry_run"]
    assert rehearsed["objects"] >= 3
    assert (before.uploaded, before.requests("PUT"), before.requests("POST", "/heads")) == (0, 0, 0)
    assert ana.ask("push", TITLE, str(desk))["sent"] <= rehearsed["sent"]


def test_a_push_killed_in_the_middle_goes_on_and_sends_less(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    for number in range(6):
        a_file(desk / f"film {number}.mov", 5_000_000)
    done = bundles(ana)
    whole = newsroom.line.counting()
    with newsroom.line.holding("PUT", "/objects/", skip=14) as rule:
        ana.type("push", TITLE, str(desk), dying=lambda _: rule.held.is_set(), code=KILLED)
    assert bundles(ana) == done, "no head, no bundle"
    # Two lines send at once: when the fifteenth was met, the fourteenth may have been half way.
    assert whole.uploaded >= 13 * OBJECT
    rest = newsroom.line.counting()
    again = ana.ask("push", TITLE, str(desk))
    assert again["complete"]
    assert rest.uploaded <= 20 * OBJECT
    assert bundles(ana) == done + 1
    # Killed between the last object and the answer to its head: the same command finds that it was done.
    a_file(desk / "film 7.mov", 1_500_000)
    with newsroom.line.holding("POST", "/heads", answer=True) as rule:
        ana.type("push", TITLE, str(desk), dying=lambda _: rule.held.is_set(), code=KILLED)
    rest = newsroom.line.counting()
    ana.type("push", TITLE, str(desk))
    assert rest.uploaded == 0
    assert bundles(ana) == done + 2


def test_a_server_that_goes_away_in_the_middle_is_waited_for_and_continued(
    newsroom: Cast, desk: Path
) -> None:
    ana, server, line = newsroom["Ana"], newsroom.server, newsroom.line
    for number in range(4):
        a_file(desk / f"tape {number}.wav", 4_000_000)
    # One object is cut in the middle: it goes on where it stopped, in the same push.
    before = line.counting()
    with line.cutting("PUT", "/objects/", after=600_000, skip=3, times=1):
        done = ana.ask("push", TITLE, str(desk / "tape 0.wav"))
    assert done["complete"]
    assert before.uploaded < done["objects"] * OBJECT + 300_000, "what had arrived was not sent again"
    # The whole server dies under the push.
    with line.holding("PUT", "/objects/", skip=4) as rule:
        dead = threading.Thread(target=lambda: (rule.held.wait(120), server.kill(), rule.let_go.set()))
        dead.start()
        refused = ana.type("push", TITLE, str(desk), code=None)
        dead.join()
    assert refused.code == 8, refused.said
    assert "Nothing was lost" in refused.err
    server.start()
    assert ana.ask("push", TITLE, str(desk))["complete"]


def test_whatever_lies_in_a_folder_is_deposited_or_named(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    os.symlink("/etc/passwd", desk / "a link")
    os.mkfifo(desk / "a pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        # Its address has room for a hundred letters only, so it is moved to where the story is.
        listening.bind(near := f"/tmp/afterword-{os.getpid()}")
        shutil.move(near, desk / "a socket")
    (desk / "empty folder").mkdir()
    (desk / "empty file").touch()
    Path(os.fsdecode(os.fsencode(desk) + b"/caf\xe9.txt")).write_bytes(b"latin")
    (desk / "two\nlines\x1b[31m.txt").write_text("red")
    done = ana.type("push", TITLE, str(desk))
    for name, why in {"a link": "links are not followed", "a pipe": "a pipe", "a socket": "a socket"}.items():
        assert f"left out: {desk.name}/{name} ({why}" in done.out or (name in done.out and why in done.out)
    assert "not UTF-8, deposited as: " in done.out
    assert "\x1b" not in done.said
    assert "3 files" in done.out
    assert "1 empty folder" in done.out
    # Refused as a whole, with nothing sent: what is named on the command line is no file, or named twice.
    before = newsroom.line.counting()
    (desk / "nothing").mkdir()
    for why, *paths in [
        ("path-is-a-link", desk / "a link"),
        ("path-not-a-file", desk / "a pipe"),
        ("path-twice", desk, f"{desk}/."),
        ("path-inside", desk, desk / "empty folder"),
        ("no-such-path", desk / "never"),
        ("usage", ""),
    ]:
        ana.refused(why, "push", TITLE, *map(str, paths))
    assert before.requests("POST") == 0
    ana.refused("nothing-to-push", "push", TITLE, str(desk / "nothing"))
    ana.refused("no-such-dossier", "push", "Nobody's", str(desk))


def test_what_may_not_be_read_is_named_and_the_rest_goes_on(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    a_file(desk / "good.txt", 1_000)
    a_file(desk / "closed.txt", 1_000).chmod(0)
    a_file(desk / "locked" / "inside.txt", 1_000)
    (desk / "locked").chmod(0)
    # Root reads everything, unless it gives that up.
    plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if plain and shutil.which(plain[0]) is None:
        pytest.skip("root reads everything here; tests/test_cli/test_scan.py")
    words = ["push", TITLE, str(desk), "--json"]
    ended = converse([*plain, *AFTERWORD, *words], ana.environment, {}, {})
    assert ended.code == 3
    assert "Push again when they can be read" in ended.err
    done = json.loads(ended.out.splitlines()[0])
    assert {Path(each["path"]).name: each["why"] for each in done["problems"]} == {
        "closed.txt": "it cannot be read",
        "locked": "it cannot be read",
    }
    assert done["files"] == 1
    for each in ("closed.txt", "locked"):
        (desk / each).chmod(0o700)
    assert ana.ask(*words[:-1])["files"] == 2


def test_files_that_change_while_they_are_read_are_deposited_whole_or_named(
    newsroom: Cast, desk: Path
) -> None:
    ana = newsroom["Ana"]
    for number in range(3):
        a_file(desk / f"a {number}.bin", 3_000_000)
    growing, vanishing, shrinking = (desk / name for name in ("grow.log", "vanish.bin", "shrink.bin"))
    for each in (growing, vanishing, shrinking):
        a_file(each, 9_000_000)
    with newsroom.line.holding("PUT", "/objects/", skip=2, times=1) as rule:
        result: list[object] = []
        pushing = threading.Thread(
            target=lambda: result.append(ana.type("push", TITLE, str(desk), "--json", code=None))
        )
        pushing.start()
        assert rule.held.wait(120)
        # What is small is read first; these are still to come, or being read.
        with growing.open("ab") as log:
            log.write(b"one line more\n" * 1_000)
        vanishing.unlink()
        os.truncate(shrinking, 4_000_000)
        rule.go_on()
        pushing.join(120)
    ended = result[0]
    done = json.loads(ended.out.splitlines()[0])  # type: ignore[attr-defined]  # a thread's answer
    named = {Path(each["path"]).name for each in done["problems"]}
    assert ended.code in (0, 3)  # type: ignore[attr-defined]  # a thread's answer
    assert "vanish.bin" in named or done["files"] == 6
    # Pushed again when everything is quiet, it is whole.
    assert ana.ask("push", TITLE, str(desk))["complete"]


def test_a_folder_that_shrank_is_pointed_out_and_loses_nothing(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    for number in range(12):
        a_file(desk / "scans" / f"{number}.jpg", 10_000)
    ana.type("push", TITLE, str(desk))
    shutil.rmtree(desk / "scans")
    a_file(desk / "note.txt", 10)
    done = ana.type("push", TITLE, str(desk))
    assert "has shrunk" in done.err
    assert "Nothing deposited is lost" in done.err


def test_what_exceeds_the_quota_is_refused_before_the_first_byte(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    server = newsroom.server
    held = json.loads(server.operator("operator", "accounts", "--json").out)["accounts"]
    hers = next(each for each in held if each["label"] == "Ana")
    a_file(desk / "large.bin", 12_000_000)
    assert server.operator("operator", "quota", hers["id"], f"{hers['used'] + 4 * OBJECT}").code == 0
    before = newsroom.line.counting()
    refused = ana.refused("over-quota", "push", TITLE, str(desk))
    assert "Nothing was sent" in refused.err
    assert (before.uploaded, before.requests("PUT")) == (0, 0)
    assert server.operator("operator", "quota", hers["id"], "20GiB").code == 0
    assert ana.ask("push", TITLE, str(desk))["complete"]


def test_a_full_server_refuses_uploads_and_still_takes_check_ins(newsroom: Cast, desk: Path) -> None:
    ana, server = newsroom["Ana"], newsroom.server
    a_file(desk / "more.bin", 5_000_000)
    done = bundles(ana)
    server.stop()
    server.environment = {"AFTERWORD_LOW_WATER": str(1 << 60)}
    server.start()
    before = newsroom.line.counting()
    refused = ana.type("push", TITLE, str(desk), code=None)
    assert refused.code in (3, 10), refused.said
    assert "afterword: no-space" in refused.err
    assert before.uploaded == 0
    ana.type("checkin")
    assert bundles(ana) == done
    server.stop()
    server.environment = {}
    server.start()
    assert ana.ask("push", TITLE, str(desk))["complete"]
    assert bundles(ana) == done + 1


def test_a_full_disk_of_her_own_stops_a_push_that_goes_on_when_there_is_room(
    newsroom: Cast, desk: Path
) -> None:
    ana, done = newsroom["Ana"], bundles(newsroom["Ana"])
    a_file(desk / "long.wav", 20_000_000)
    with a_small_disk(desk.parent / "small", 3) as resize:
        shutil.copytree(ana.home, desk.parent / "small" / "home", ignore=shutil.ignore_patterns("push"))
        home = {"AFTERWORD_HOME": str(desk.parent / "small" / "home")}
        refused = ana.refused("no-space", "push", TITLE, str(desk), **home)
        assert "make room" in refused.err
        ana.type("checkin", **home)
        resize(100)
        assert "Deposited 1 file" in ana.type("push", TITLE, str(desk), **home).out
    assert bundles(ana) == done + 1


def test_two_clients_that_push_at_once_both_keep_everything(newsroom: Cast, desk: Path) -> None:
    ana = newsroom["Ana"]
    other = newsroom.person("Anatwo")
    shutil.copytree(ana.home, other.home)
    shutil.copy(ana.secret, other.secret)
    done = bundles(ana)
    for name in ("office", "home"):
        for number in range(3):
            a_file(desk / name / f"{number}.bin", 2_000_000)

    def begin(*paths: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*AFTERWORD, "push", TITLE, *map(str, paths), "--json"],
            env=ana.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    with newsroom.line.holding("POST", "/heads", times=1) as rule, begin(desk / "office") as first:
        assert rule.held.wait(120)
        assert other.ask("push", TITLE, str(desk / "home"))["complete"]
        rule.go_on()
        out, _ = first.communicate(timeout=120)
        assert first.returncode == 0, out
    assert json.loads(out)["complete"]
    assert bundles(ana) == bundles(other) == done + 2
    # Two at once in one home: the second says that another is at work.
    a_file(desk / "office" / "4.bin", 10)
    with newsroom.line.holding("POST", "/heads", times=1) as rule, begin(desk / "office") as first:
        assert rule.held.wait(120)
        ana.refused("busy", "push", TITLE, str(desk / "office"))
        rule.go_on()
        first.communicate(timeout=120)
        assert first.returncode == 0
    assert bundles(other) == done + 3


def test_everybody_on_the_roster_is_named_by_the_journalists_labels(newsroom: Cast) -> None:
    shown = newsroom["Ana"].ask("roster", TITLE)
    assert [each["label"] for each in shown["collaborators"]] == COLLEAGUES
