import re
from datetime import UTC, datetime

import pytest

from cli import calendar
from test_cli.bureau import Bureau
from vault import switch, wire
from vault.clock import DAY, HOUR, MINUTE
from vault.plans import DEFAULT_PLAN
from vault.statements import Dwells
from vault.switch import Audience, Notice

AT = 1_790_000_000_000


def a_state(stage: str = "armed", **changes: object) -> wire.DossierState:
    plan = DEFAULT_PLAN
    started = switch.step(switch.begin(plan, 0), switch.Arm(), 0, reachable=True)[0]
    projected = tuple(wire.Projected(stage.value, AT + at) for stage, at in switch.projected(started, 0))
    fields: dict[str, object] = {
        "dossier": "0f" * 16, "role": "journalist", "journalist": "00" * 32, "title": None, "stage": stage, "since": AT,
        "trying": False, "projected": projected, "plan": Dwells(*plan.dwells()), "cooling": 0, "epoch": 1,
        "roster": "00" * 32, "k": 1, "collaborators": (), "bundles": 0, "head": None, "pushed": None,
        "last_checkin": None, "changes": (), "missing": (), "brief": False, "released": None,
    }  # fmt: skip
    return wire.DossierState(**{**fields, **changes})  # type: ignore[arg-type]  # one dict for all types


def listed(state: wire.DossierState) -> list[calendar.Listed]:
    return [calendar.Listed(state.dossier, "Harbour", state.stage, False, calendar.coming(state))]


def test_it_says_of_each_stage_whom_the_switch_writes_to() -> None:
    state = switch.step(switch.begin(DEFAULT_PLAN, 0), switch.Arm(), 0, reachable=False)[0]
    while state.due is not None:
        state, said = switch.step(state, switch.Elapsed(), state.due, reachable=False)
        audiences = {each.audience for each in said if isinstance(each, Notice)}
        text = calendar.HAPPENS[state.stage.value]
        assert ("you" in re.split(r"\W+", text)) == (Audience.HER in audiences)
        assert ("colleagues" in text) == (Audience.COLLABORATORS in audiences)
    assert set(calendar.HAPPENS) == {"armed", "reminded", "warned", "grace", "released"}


def test_a_slow_change_has_its_date_among_the_others() -> None:
    change = wire.Change("ab" * 32, "destroy", AT, AT + 6 * DAY, False)
    dates = calendar.coming(a_state(changes=(change,)))
    assert [each.stage for each in dates] == ["reminded", "warned", "grace", "change", "released"]


def test_a_change_that_waits_for_a_check_in_or_for_her_client_has_no_date() -> None:
    waiting = wire.Change("ab" * 32, "plan", AT, None, True)
    cooled = wire.Change("cd" * 32, "roster", AT, AT, True)
    assert len(calendar.coming(a_state(changes=(waiting, cooled)))) == 4


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (2 * DAY - 1, "2d"),
        (3 * DAY - 1000, "3d"),
        (3 * DAY - MINUTE, "2d23h"),
        (2 * DAY - MINUTE, "1d23h59m"),
        (36 * HOUR + 59, "1d12h"),
        (3 * DAY + 5 * HOUR + 59 * MINUTE, "3d5h"),
        (20_900, "20s"),
        (90 * MINUTE, "1h30m"),
    ],
)
def test_how_long_it_still_is_is_rounded_down_but_for_less_than_a_minute(length: int, text: str) -> None:
    (line,) = calendar.lines([calendar.Coming(AT + length, "reminded", "x")], AT)
    assert f", in {text}: x" in line


def test_a_calendar_file_is_rfc_5545_line_by_line() -> None:
    text = calendar.write_ics(listed(a_state()), AT)
    assert text.endswith("END:VCALENDAR\r\n")
    lines = text.split("\r\n")[:-1]
    assert all(0 < len(line.encode()) <= 75 and "\n" not in line for line in lines)
    assert lines[:3] == ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Reminders//EN"]
    depth: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        assert re.fullmatch(r"[A-Z-]+", name)
        if name == "BEGIN":
            depth.append(value)
        elif name == "END":
            assert depth.pop() == value
    assert depth == []
    events = text.split("BEGIN:VEVENT")[1:]
    assert len(events) == 4
    for event, due in zip(events, a_state().projected, strict=True):
        for needed in ("UID", "DTSTAMP", "DTSTART", "SUMMARY"):
            assert event.count(f"\r\n{needed}:") == 1
        start = re.search(r"DTSTART:(\d{8}T\d{6}Z)", event)
        assert start is not None
        assert datetime.strptime(start[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() * 1000 == due.at


def test_the_same_date_keeps_its_uid_when_it_moves_and_no_two_share_one() -> None:
    def uids(text: str) -> list[str]:
        return re.findall(r"UID:(\S+)", text)

    later = tuple(wire.Projected(each.stage, each.at + DAY) for each in a_state().projected)
    first = calendar.write_ics(listed(a_state()), AT)
    moved = calendar.write_ics(listed(a_state(projected=later)), AT + DAY)
    assert uids(first) == uids(moved)
    assert len(set(uids(first))) == 4
    assert uids(first) != uids(calendar.write_ics(listed(a_state(dossier="1e" * 16)), AT))
    sequence = [int(re.findall(r"SEQUENCE:(\d+)", text)[0]) for text in (first, moved)]
    assert 0 <= sequence[0] < sequence[1] < 2**31


def test_a_calendar_file_tells_a_stranger_nothing() -> None:
    change = wire.Change("ab" * 32, "destroy", AT, AT + 7 * DAY, False)
    text = calendar.write_ics(listed(a_state(changes=(change,))), AT).casefold()
    told = (
        "harbour",
        "0f0f",
        "abab",
        "destroy",
        "release",
        "colleague",
        "afterword",
        "check",
        "warn",
        "grace",
    )
    for telling in told:
        assert telling not in text


def test_long_lines_are_folded_with_a_blank() -> None:
    folded = list(calendar._fold("X:" + "y" * 200))
    assert [len(line) for line in folded] == [75, 75, 54]
    assert folded[0] + "".join(line[1:] for line in folded[1:]) == "X:" + "y" * 200


def test_of_all_dossiers_or_of_one(bureau: Bureau) -> None:
    bureau.armed()
    bureau.create("Quarry")
    said = bureau.does("calendar")
    assert "Harbour (armed)" in said
    assert "Quarry (new)\n    nothing is to come" in said
    assert "never earlier" in said
    assert "Harbour" not in bureau.does("calendar", "Quarry")
    answered = bureau.json("calendar", "Harbour")["dossiers"]
    assert isinstance(answered, list)
    assert [each["stage"] for each in answered[0]["coming"]] == ["reminded", "warned", "grace", "released"]


def test_as_a_file_it_goes_to_stdout_with_its_own_line_ends(bureau: Bureau) -> None:
    bureau.armed()
    done = bureau.run("Ana", "calendar", "--ics")
    assert done.code == 0, done.err
    assert done.out.startswith("BEGIN:VCALENDAR\r\n")
    assert done.out.endswith("END:VCALENDAR\r\n")
    assert done.err.replace("Passphrase: \n", "") == ""


def test_a_file_without_a_single_date_is_refused(bureau: Bureau) -> None:
    bureau.create()
    assert bureau.refused("calendar", "--ics") == "nothing-to-come"
