"""Silence and signs of life: the ladder with real clocks, real letters, and everything that dies under it.

No story waits for a length of time. It waits for a letter or a move, and then looks at how long, in service time,
the server's own history says that each stage was lived.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rehearsal import COLLEAGUES, TITLE, fall_silent, history, moves, stage_of, wait_for_stage
from theatre import Cast, Frozen, Person, move, read, until

Stage = Callable[..., Any]
LONG = "10m"


def plan_and_arm(ana: Person, *plan: str) -> None:
    if plan:
        ana.type("plan", TITLE, *plan)
    ana.type("arm", TITLE)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def lived(cast: Cast, stage: str) -> list[int]:
    """How long each stay in this stage lasted, in ms of service time."""
    told = moves(cast)
    return [
        next((later.served for later in told[place + 1 :]), entered.served) - entered.served
        for place, entered in enumerate(told)
        if entered.after == stage and place + 1 < len(told)
    ]


def test_a_check_in_ends_the_alarm_even_when_its_answer_is_lost(prepared: Frozen, stage: Stage) -> None:
    with stage(prepared) as cast:
        ana, bruno = cast["Ana"], cast["Bruno"]
        ana.refused("no-such-dossier", "arm", "Never made")
        plan_and_arm(ana, "--warn", LONG)
        calendar = ana.type("calendar", TITLE).out
        assert calendar.count("UTC") == 4
        assert "RELEASE" in calendar
        check_calendar_file(ana.type("calendar", "--ics").out)
        fall_silent(ana)
        mine = cast.mail.saying(ana.address, "It is time to check in")
        assert f"the blue door of {ana.name}" in read(mine)
        for name in COLLEAGUES:
            asked = cast.mail.saying(cast[name].address, "Please try to reach Ana now")
            assert f"the blue door of {name}" in read(asked)
        cast.mail.saying(ana.address, "your colleagues are being asked to try to reach you")
        assert "HAS NOT CHECKED IN" in bruno.type("inbox").out
        # The answer to her check-in is lost for good: she hears so, and the alarm is over all the same.
        with cast.line.dropping("POST", "/check-ins"):
            ana.refused("unreachable", "checkin")
        for name in COLLEAGUES:
            cast.mail.saying(cast[name].address, "The alarm about Ana is over")
        cast.mail.saying(ana.address, "The alarm is over, and your colleagues are told so")
        assert ("warned", "armed", "checkin") in [each[:3] for each in moves(cast)]
        # Lost once, it is sent again by itself; the same bytes are taken once.
        before = len(history(cast, "checkin"))
        with cast.line.dropping("POST", "/check-ins", times=1):
            assert "Checked in" in ana.type("checkin").out
        assert len(history(cast, "checkin")) - before == 1
        assert not [each for each in cast.mail.letters if TITLE in read(each) or "numbat" in read(each)]


def test_a_colleague_who_has_spoken_with_her_holds_it_under_their_own_name(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        ana, bruno, chiara = cast["Ana"], cast["Bruno"], cast["Chiara"]
        plan_and_arm(ana, "--warn", LONG)
        bruno.refused("not-possible-now", "hold", TITLE, "--because", "reached", "--yes")
        fall_silent(ana)
        cast.mail.saying(bruno.address, "Please try to reach Ana now")
        (before,) = bruno.ask("inbox")["dossiers"]
        said = bruno.type("hold", TITLE, "--because", "hospital", answers={"under your name": "y"})
        assert "is held until" in said.out
        for name in COLLEAGUES:
            told = read(cast.mail.saying(cast[name].address, "Signed by Bruno: there is news of Ana"))
            assert "The reason given: in a hospital" in told
        cast.mail.saying(ana.address, "Signed by Bruno: there is news of you")
        # It is a row like any other: whatever dies, time stands still.
        cast.server.kill()
        cast.server.start()
        (after,) = chiara.ask("inbox")["dossiers"]
        assert after["projected"][-1]["at"] >= before["projected"][-1]["at"] + 10 * 60_000
        assert "held by Bruno (in a hospital)" in chiara.type("inbox").out
        chiara.refused("already-held", "hold", TITLE, "--because", "reached", "--yes")
        assert "Bruno signed that you were in a hospital" in ana.type("checkin").out
        for name in COLLEAGUES:
            cast.mail.saying(cast[name].address, "The alarm about Ana is over")
        assert [each["index"] for each in history(cast, "held")] != []


def check_calendar_file(text: str) -> None:
    """RFC 5545 as far as a telephone reads it, and nothing that tells whoever looks over a shoulder."""
    assert text.startswith("BEGIN:VCALENDAR\r\n")
    assert text.endswith("END:VCALENDAR\r\n")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    unfolded = text.replace("\r\n ", "")
    events = re.findall(r"BEGIN:VEVENT\r\n(.*?)END:VEVENT", unfolded, re.DOTALL)
    assert len(events) == 4
    stamps, names = [], []
    for event in events:
        fields = dict(
            line.split(":", 1) for line in event.split("BEGIN:VALARM")[0].split("\r\n") if ":" in line
        )
        stamps.append(datetime.strptime(fields["DTSTART"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
        names.append(fields["UID"])
    assert stamps == sorted(stamps)
    assert len(set(names)) == 4
    assert TITLE not in unfolded
    assert not re.search("(?i)afterword|release|check", unfolded)


def test_a_pause_lasts_as_long_as_was_said_and_its_end_is_told(prepared: Frozen, stage: Stage) -> None:
    with stage(prepared) as cast:
        ana = cast["Ana"]
        plan_and_arm(ana)
        ana.refused("pause-too-long", "pause", TITLE, "--until", "91d")
        ana.refused("bad-until", "pause", TITLE, "--until", "2020-01-01")
        ana.refused("bad-until", "pause", TITLE, "--until", "soon")
        ana.type("pause", TITLE, "--until", "48h")
        assert stage_of(ana) == "paused"
        assert "paused" in cast["Bruno"].type("inbox").out
        ana.type("resume", TITLE)
        assert stage_of(ana) == "armed"
        ana.type("pause", TITLE, "--until", "2s")
        cast.mail.saying(ana.address, "Your pause is over, and check-ins are expected again")
        assert stage_of(ana) == "armed"
        assert lived(cast, "paused")[-1] >= 2_000
        # In an alarm, a pause is a sign of life like a check-in.
        ana.type("checkin")


def test_every_stage_is_lived_although_mail_fails_and_the_server_is_killed(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        ana, bruno, mail, server = cast["Ana"], cast["Bruno"], cast.mail, cast.server
        plan_and_arm(ana, "--remind", "8s", "--warn", "3s", "--grace", "4s")
        # The mail server is down when the reminder is due: it lands later, and from then on the stage is lived.
        mail.refusing = True
        refused = mail.turned_away
        fall_silent(ana)
        wait_for_stage(cast, "reminded")
        until(lambda: mail.turned_away >= refused + 2, "two attempts to deliver")
        mail.refusing = False
        first = mail.saying(ana.address, "It is time to check in")
        # The whole server dies, in the middle of the ladder, and comes back.
        server.kill()
        assert not cast.mail.to(bruno.address)[1:] or "reach" not in read(cast.mail.to(bruno.address)[-1])
        server.start()
        wait_for_stage(cast, "warned")
        server.kill()
        server.start()
        wait_for_stage(cast, "grace")
        server.kill()
        server.start()
        for name in COLLEAGUES:
            mail.saying(cast[name].address, "Something that was entrusted to you can now be opened")
        mail.saying(ana.address, "No sign of life came from you")
        told = [(each.before, each.after) for each in moves(cast)][1:]
        assert told == [
            ("armed", "reminded"),
            ("reminded", "warned"),
            ("warned", "grace"),
            ("grace", "released"),
        ]
        assert lived(cast, "reminded")[0] > 8_000, "the stage waited for its letter"
        # A letter that died with its deliverer is taken up again only minutes later: then the stage is lived twice,
        # once trying.
        for late, dwell, words in [
            ("warned", 3_000, "asked to try to reach you"),
            ("grace", 4_000, "This is the last letter before the release"),
        ]:
            came = any(words in read(each) for each in mail.to(ana.address))
            assert lived(cast, late)[0] >= dwell * (1 if came else 2)
        # The same letter, however often it had to be carried, is one letter.
        again = [each for each in mail.to(ana.address) if "time to check in" in read(each)]
        assert {each["Message-ID"] for each in again} == {first["Message-ID"]}
        # After the release nothing takes it back, and nothing more is taken.
        assert "RELEASED" in ana.type("checkin").out
        ana.refused("released", "push", TITLE, str(cast.folder / "page.txt"))
        for words in (["pause", TITLE, "--until", "1h"], ["arm", TITLE]):
            assert ana.type(*words, code=None).code == 3
        assert "released" in stage_of(ana)


def test_an_address_that_takes_no_letter_alarms_her_colleagues_and_the_operator(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        ana, mail = cast["Ana"], cast.mail
        plan_and_arm(ana, "--remind", "2s", "--warn", LONG)
        mail.unknown.add(ana.address)
        fall_silent(ana)
        for name in COLLEAGUES:
            mail.saying(cast[name].address, "A letter to Ana could not be delivered")
        told = mail.saying("operator@ngo.example", "No address of one account has accepted a letter")
        assert "Ana" not in read(told)
        wait_for_stage(cast, "warned")
        assert lived(cast, "reminded")[0] >= 4_000, "one dwell of trying, then one dwell"
        assert (
            "do not reach" in cast["Bruno"].type("inbox").out or "HAS NOT" in cast["Bruno"].type("inbox").out
        )
        mail.unknown.clear()
        ana.type("checkin")
        for name in COLLEAGUES:
            mail.saying(cast[name].address, "The alarm about Ana is over")


def test_while_nobody_gets_through_no_time_passes(prepared: Frozen, stage: Stage) -> None:
    with stage(prepared) as cast:
        ana = cast["Ana"]
        plan_and_arm(ana, "--remind", "5s", "--warn", LONG)
        fall_silent(ana)
        cast.mail.saying(ana.address, "It is time to check in")

        def served() -> int:
            seen: int = json.loads(cast.server.operator("operator", "status", "--json").out)["served"]
            return seen

        with cast.line.cut():
            last = [served()]

            def stands_still() -> bool:
                last.append(served())
                return len(last) > 3 and last[-1] == last[-2] == last[-3]

            until(stands_still, "service time to stand still")
            before = stage_of_moves(cast)
            lived_then = json.loads(cast.server.operator("operator", "status", "--json").out)["lived"]
            until(
                lambda: (
                    json.loads(cast.server.operator("operator", "status", "--json").out)["lived"]
                    > lived_then + 6_000
                ),
                "the server to live on",
            )
            assert stage_of_moves(cast) == before == "reminded"
            assert "Nobody gets through" in cast.server.operator("operator", "status").out
        wait_for_stage(cast, "warned")
        assert lived(cast, "reminded")[0] >= 5_000


def stage_of_moves(cast: Cast) -> str:
    return moves(cast)[-1].after


def test_a_part_that_dies_is_started_again_and_a_stop_leaves_nothing_behind(
    joined: Frozen, stage: Stage
) -> None:
    with stage(joined) as cast:
        server, ana = cast.server, cast["Ana"]
        parts = until(lambda: found if len(found := server.parts()) == 3 else None, "three parts")
        for name in ("watch", "deliver", "web"):
            os.kill(parts[name], signal.SIGKILL)
            until(lambda name=name: server.parts().get(name, parts[name]) != parts[name], f"another {name}")
        assert ana.type("checkin", code=None).code in (0, 8)
        until(lambda: ana.type("checkin", code=None).code == 0, "the server to answer again")
        ana.type("address", "add", "second@example.org", "--phrase", "a second door")
        until(lambda: cast.mail.to("second@example.org"), "a letter by the new deliverer")
        parts = server.parts()
        assert server.stop() == 0
        for pid in parts.values():
            until(lambda pid=pid: not alive(pid), "every part to end")
        assert ana.type("checkin", code=8).code == 8


def test_a_server_that_is_not_there_is_told_in_a_sentence(joined: Frozen) -> None:
    ana = joined.people["Ana"]
    # Bound and not listening: nobody answers, and no other story's server can come to stand there.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        move(ana.home, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert "cannot be reached" in ana.refused("unreachable", "checkin").err
