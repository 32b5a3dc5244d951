"""What `calendar --suppose` says is what the real engine then does: held against it, life by life."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from world import Snapshot, World, an_armed_dossier, until

from cli import calendar, supposing
from cli.supposing import Supposition, read_supposition
from test_cli.bureau import Bureau
from test_cli.test_calendar import AT, a_state
from vault import views, wire
from vault.clock import DAY, HOUR, MINUTE, read_duration
from vault.errors import BadUsage
from vault.letters import LetterKind
from vault.plans import Plan
from vault.switch import LATE, Stage

TICK = 5 * MINUTE
STRIDE = 2 * TICK
PLAN = Plan(12 * HOUR, 6 * HOUR, 8 * HOUR, 16 * HOUR)


@pytest.mark.parametrize(
    ("texts", "meant"),
    [
        (["away 10d"], Supposition(away=10 * DAY)),
        (["server down 3d"], Supposition(down=3 * DAY)),
        (["mail dead"], Supposition(mail_dead=True)),
        (["  Away   1d12h ", "MAIL dead"], Supposition(36 * HOUR, None, True)),
        (["away 2w, server down 90m and mail dead"], Supposition(14 * DAY, 90 * MINUTE, True)),
        (["server down 3d; away 1h"], Supposition(HOUR, 3 * DAY)),
    ],
)
def test_each_form_is_read_alone_and_together(texts: list[str], meant: Supposition) -> None:
    assert read_supposition(texts) == meant


@pytest.mark.parametrize(
    "text",
    ["", "away", "away ten days", "away 0d", "away 10d away 3d", "away 10d, away 3d", "server down", "mail", "dead",
     "mail dead 3d", "server up 3d", "away -1d", "away 1M", "away 10D",
     "away 9999999d", "mail dead and", "🦉", "away 10d\x00"],
)  # fmt: skip
def test_what_does_not_parse_is_answered_with_the_three_forms(text: str) -> None:
    with pytest.raises(BadUsage) as wrong:
        read_supposition([text])
    assert wrong.value.code == "bad-supposition"
    for form in ("away 10d", "server down 3d", "mail dead"):
        assert form in str(wrong.value)


@pytest.mark.parametrize("stage", ["new", "released", "destroyed"])
def test_nothing_happens_to_what_does_not_wait(stage: str) -> None:
    state = a_state(stage, projected=(), due=None)
    found = supposing.suppose(state, "Harbour", Supposition(away=DAY), AT, TICK, reachable=True)
    assert (found.happenings, found.released, found.latest) == ((), None, None)
    assert "nothing would happen" in supposing.render([found], AT)


def test_silence_without_trouble_is_what_the_calendar_says_without_supposing() -> None:
    state = a_state()
    found = supposing.suppose(state, "Harbour", Supposition(), AT, TICK, reachable=True)
    assert [(each.stage, each.at) for each in found.happenings] == [
        (each.stage, each.at) for each in state.projected
    ]


def test_dead_mail_doubles_each_late_stage_and_says_that_nobody_hears() -> None:
    found = supposing.suppose(a_state(), "Harbour", Supposition(mail_dead=True), AT, TICK, reachable=True)
    plan = a_state().plan
    late = plan.remind + plan.warn + plan.grace
    assert found.released == found.latest == AT + plan.every + 2 * late
    assert {sent.arrives for each in found.happenings for sent in each.letters} == {False}
    assert all("mail does not carry" in each.said for each in found.happenings if each.letters)
    assert not any("you are told" in each.said for each in found.happenings)
    heard = supposing.suppose(a_state(), "Harbour", Supposition(), AT, TICK, reachable=True)
    assert heard.happenings[-1].said.endswith("; you are told")
    end = (wire.Projected("armed", AT + DAY),)
    paused = a_state("paused", projected=end, due=AT + DAY)
    first, *_ = supposing.suppose(
        paused, "Harbour", Supposition(mail_dead=True), AT, TICK, reachable=True
    ).happenings
    assert first.said == "the pause ends; mail does not carry the letters"


def test_whoever_is_back_in_time_is_told_that_there_is_no_release() -> None:
    back = supposing.suppose(a_state(), "Harbour", Supposition(away=3 * DAY), AT, TICK, reachable=True)
    *_, last = back.happenings
    assert (last.what, last.stage, last.at) == ("checked-in", "armed", AT + 3 * DAY)
    assert "No release" in supposing.render([back], AT)
    gone = supposing.suppose(a_state(), "Harbour", Supposition(away=10 * DAY), AT, TICK, reachable=True)
    assert gone.released == AT + 7 * DAY
    shown = supposing.render([gone], AT)
    assert "too late" in shown
    assert "you would be back" not in shown


def test_whoever_comes_back_too_late_is_told_by_how_much_and_which_command_prevents_it(
    zone: Callable[[str], None],
) -> None:
    zone("UTC")
    found = supposing.suppose(a_state(), "Harbour", Supposition(away=10 * DAY), AT, TICK, reachable=True)
    until = datetime.fromtimestamp((AT + 10 * DAY) / 1000, UTC).strftime("%Y-%m-%dT%H:%M")
    told = supposing.render([found], AT).splitlines()[-1]
    assert f"You come back 3d too late. Before you go: afterword pause NAME --until {until}." in told
    assert "Beyond 3d it cools first" in told
    paused = wire.Projected("armed", AT + DAY)
    state = a_state("paused", projected=(paused,), due=AT + DAY)
    found = supposing.suppose(state, "Harbour", Supposition(away=60 * DAY), AT, TICK, reachable=True)
    assert "afterword resume NAME, then afterword pause NAME" in supposing.render([found], AT)
    found = supposing.suppose(a_state(), "Harbour", Supposition(away=100 * DAY), AT, TICK, reachable=True)
    assert "A pause lasts 90d at most" in supposing.render([found], AT)


def test_whoever_is_back_within_a_pause_is_told_that_it_goes_on_and_what_ends_it() -> None:
    state = a_state("paused", projected=(wire.Projected("armed", AT + 5 * DAY),), due=AT + 5 * DAY)
    found = supposing.suppose(state, "Harbour", Supposition(away=DAY), AT, TICK, reachable=True)
    (back,) = found.happenings
    assert back.stage == "paused"
    assert back.said.endswith("the dossier is paused still, which ends with: afterword resume NAME")


def test_what_happens_is_called_as_the_calendar_calls_it() -> None:
    found = supposing.suppose(a_state(), "Harbour", Supposition(), AT, TICK, reachable=True)
    assert [each.said for each in found.happenings] == [each.what for each in calendar.coming(a_state())]


def test_what_is_not_armed_names_the_command_that_arms_it() -> None:
    state = a_state("new", projected=(), due=None)
    found = supposing.suppose(state, "Harbour", Supposition(away=DAY), AT, TICK, reachable=True)
    assert "it is not armed; run: afterword arm NAME" in supposing.render([found], AT)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("away 10 days", 'Write "away 10d".'),
        ("server down 1 hour", 'Write "server down 1h".'),
        ("away 10d server down 3d", "Between two of them stands a comma."),
        ("away 10d mail dead", "Between two of them stands a comma."),
        ("away 1M", "A month is 30d."),
        ("Away 2mo", "A month is 30d."),
        ("server down 1 Month", "A month is 30d."),
        ("away 3 months", "A month is 30d."),
        ("away 10 Days", 'Write "away 10d".'),
    ],
)
def test_what_was_nearly_written_right_is_answered_with_what_is_missing(text: str, hint: str) -> None:
    with pytest.raises(BadUsage, match=hint):
        read_supposition([text])


def test_a_hold_and_a_crowd_that_are_under_way_count() -> None:
    end = (wire.Projected("grace", AT + 3 * DAY), wire.Projected("released", AT + 7 * DAY))
    held = a_state("warned", projected=end, due=AT + 3 * DAY, held=AT + 2 * DAY)
    found = supposing.suppose(held, "Harbour", Supposition(away=DAY), AT, TICK, reachable=True)
    assert [each.what for each in found.happenings] == ["checked-in"]
    found = supposing.suppose(held, "Harbour", Supposition(), AT, TICK, reachable=True)
    assert found.released == AT + 7 * DAY
    last = (wire.Projected("released", AT + 13 * HOUR),)
    crowd = a_state("grace", projected=last, due=AT + HOUR, crowd=1)
    found = supposing.suppose(crowd, "Harbour", Supposition(), AT, TICK, reachable=True)
    assert [each.what for each in found.happenings] == ["waits", "moved"]
    assert found.released == AT + 13 * HOUR


def test_words_are_there_for_every_stage_time_leads_to_and_everybody_who_is_written_to() -> None:
    found = supposing.suppose(a_state(), "Harbour", Supposition(mail_dead=True), AT, TICK, reachable=True)
    told = "\n".join(each.said for each in found.happenings)
    for somebody in ("you", "your colleagues", "the operator"):
        assert somebody in told
    assert set(supposing._HEARERS) == set(supposing.Audience)


# Held against the engine.


class Oracle:
    """One armed dossier on a real engine, taken to any point of its ladder again and again."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, tick=TICK)
        self.made = an_armed_dossier(self.world, PLAN)
        self.ana = self.made.hers
        self.starts: dict[tuple[Stage, bool], Snapshot] = {}
        beginning = self.world.snapshot()
        for stage in (Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE):
            for trying in (False, True) if stage in LATE else (False,):
                self.world.rewind(beginning)
                self.reach(stage, trying)
                self.starts[stage, trying] = self.world.snapshot()

    def reach(self, stage: Stage, trying: bool) -> None:
        while self.made.stage is not stage:
            due = self.world.records.switch(self.made.id).switch.due
            service = self.world.records.service()
            assert due is not None
            assert service is not None
            self.world.delivering = not (trying and due <= service.served + STRIDE)
            self.world.pass_time(STRIDE)
            # The stage before must have run with its letter delivered; this one's is held back.
        assert self.world.records.switch(self.made.id).switch.trying is trying

    def lived(self, start: tuple[Stage, bool], wait: int, supposed: Supposition) -> list[tuple[int, str]]:
        """Wall time and stage of everything that moved, as the server's own history has it."""
        world = self.world
        before = world.records.switch(self.made.id)
        seen = [(before.switch.stage, before.switch.letter, before.switch.trying)]
        found: list[tuple[int, str]] = []
        begin = world.clock.at

        def note(what: str | None = None) -> None:
            now = world.records.switch(self.made.id).switch
            last = seen[-1]
            if now.stage is not last[0]:
                found.append((world.clock.wall(), what or "moved"))
            elif now.letter != last[1]:
                found.append((world.clock.wall(), "renewed"))
            elif last[2] and not now.trying and not world.delivering:
                found.append((world.clock.wall(), "unreached"))
            elif what is not None:
                found.append((world.clock.wall(), what))
            seen.append((now.stage, now.letter, now.trying))

        world.delivering = not supposed.mail_dead
        if supposed.down is None:
            if world.delivering:
                world.deliver()
        else:
            world.clock.at += supposed.down
            world.beat()
            note()
        away = None if supposed.away is None else begin + max(supposed.away, supposed.down or 0)
        while self.made.stage is not Stage.RELEASED:
            if away is not None and world.clock.at >= away:
                self.ana.check_in()
                note("checked-in")
                break
            world.pass_time(STRIDE)
            note()
        return found


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    found = Oracle(tmp_path_factory.mktemp("oracle"))
    yield found
    found.world.close()


strides = st.integers(1, 400).map(lambda count: count * STRIDE)
suppositions = st.builds(Supposition, st.none() | strides, st.none() | strides, st.booleans())


@settings(
    max_examples=16,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data(), supposed=suppositions)
def test_the_dates_are_those_of_the_engine(
    oracle: Oracle, data: st.DataObject, supposed: Supposition
) -> None:
    start = data.draw(st.sampled_from(sorted(oracle.starts)))
    wait = data.draw(st.integers(0, 30)) * STRIDE
    world = oracle.world
    world.rewind(oracle.starts[start])
    world.delivering = not start[1]
    for _ in range(
        data.draw(st.integers(0, 3))
    ):  # gaps that she has behind her: each stage begins anew but twice
        world.clock.at += 2 * HOUR
        world.beat()
    world.pass_time(wait)
    if oracle.made.stage is Stage.RELEASED:
        return
    now = world.clock.wall()
    state = views.dossier(world.records, oracle.ana.account, oracle.made.id)
    told = supposing.suppose(state, "Harbour", supposed, now, TICK, reachable=True)
    expected = [(each.at, each.what) for each in told.happenings if each.what not in ("down", "back")]
    lived = oracle.lived(start, wait, supposed)
    assert [what for _, what in lived] == [what for _, what in expected], (
        start,
        wait,
        supposed,
        expected,
        lived,
    )
    for (really, what), (said, _) in zip(lived, expected, strict=True):
        # The engine moves once for each beat; so it may be late by a beat for each, and is never early.
        assert said <= really <= said + 4 * STRIDE, (what, start, wait, supposed, expected, lived)
    if told.latest is not None and told.released is not None:
        assert told.released <= told.latest


def test_the_letters_are_those_of_the_engine(oracle: Oracle) -> None:
    world = oracle.world
    world.rewind(oracle.starts[Stage.ARMED, False])
    state = views.dossier(world.records, oracle.ana.account, oracle.made.id)
    told = supposing.suppose(state, "Harbour", Supposition(), world.clock.wall(), TICK, reachable=True)
    expected = {(sent.kind.value, sent.to) for each in told.happenings for sent in each.letters}
    until(oracle.made, Stage.RELEASED)
    world.pass_time(STRIDE)
    heard = {
        (kind, "her" if to.startswith("ana@") else "operator" if to == "operator" else "collaborators")
        for to, kind in world.letters()
        if kind != LetterKind.CODE
    }
    assert heard == expected


def test_an_engine_that_forgot_the_dwell_would_not_agree(
    oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the comparison can fail: an hour too little in one stage is noticed."""
    world = oracle.world
    world.rewind(oracle.starts[Stage.ARMED, False])
    state = views.dossier(world.records, oracle.ana.account, oracle.made.id)
    plan = state.plan
    shorter = a_state(
        projected=state.projected,
        due=state.due,
        plan=type(plan)(plan.every, plan.remind, plan.warn - HOUR, plan.grace),
    )
    told = supposing.suppose(shorter, "Harbour", Supposition(), world.clock.wall(), TICK, reachable=True)
    assert told.released == state.projected[-1].at - HOUR


# The command.


def test_the_command_says_it_in_words_and_as_json(bureau: Bureau) -> None:
    bureau.armed()
    said = bureau.does("calendar", "Harbour", "--suppose", "server down 3d", "--suppose", "mail dead")
    assert "Harbour (armed)" in said
    assert "the server is back" in said
    assert "Nothing of this was done" in said
    answered = bureau.json("calendar", "--suppose", "away 10d")["dossiers"]
    assert isinstance(answered, list)
    (found,) = answered
    assert [each["stage"] for each in found["happenings"]] == ["reminded", "warned", "grace", "released"]
    assert found["released"] == found["happenings"][-1]["at"]
    # Ana has no confirmed address here, so nothing is waited for.
    assert found["latest"] == found["released"]


def test_the_command_asks_the_server_for_nothing_that_changes_anything(bureau: Bureau) -> None:
    bureau.armed()
    before = bureau.world.records.switch(bureau.world.records.names_of(bureau.ana.account.id)[0])
    del bureau.asked[:]
    bureau.does("calendar", "--suppose", "away 10d")
    assert {asked for asked, _ in bureau.asked if not asked.startswith("GET")} == {
        "POST /nonces",
        "POST /sessions",
    }
    assert (
        bureau.world.records.switch(before.switch and bureau.world.records.names_of(bureau.ana.account.id)[0])
        == before
    )


def test_a_supposition_that_does_not_read_asks_for_no_passphrase(bureau: Bureau) -> None:
    assert bureau.refused("calendar", "--suppose", "gone fishing") == "bad-supposition"
    assert bureau.refused("calendar", "--ics", "--suppose", "mail dead") == "usage"


def test_a_new_dossier_and_a_paused_one_are_told_apart(bureau: Bureau) -> None:
    bureau.create("Quarry")
    assert "nothing would happen" in bureau.does("calendar", "--suppose", "mail dead")
    bureau.armed()
    bureau.does("pause", "Harbour", "--until", "2h")
    said = bureau.does("calendar", "Harbour", "--suppose", "away 30m")
    assert "paused" in said
    assert "No release" in said
    said = bureau.does("calendar", "Harbour", "--suppose", "mail dead")
    assert "the pause ends" in said
    assert "RELEASE" in said


def test_durations_are_those_of_every_other_command() -> None:
    supposed = read_supposition(["away 1w2d3h4m5s6ms"])
    assert supposed.away == read_duration("1w2d3h4m5s6ms")
