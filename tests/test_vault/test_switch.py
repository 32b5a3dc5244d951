"""The switch, one sentence at a time; whole lives and mutants are in test_switch_lives.py."""

import json
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bounds import latest_release
from vault.clock import HOUR
from vault.errors import AfterwordError, Damaged, NotDue, Refused
from vault.letters import LetterKind as Kind
from vault.stages import read_switch, write_switch
from vault.switch import (
    DEFAULT_PLAN,
    LADDER_LETTERS,
    LATE,
    MOVES,
    Arm,
    Audience,
    CheckIn,
    Crowd,
    Crowded,
    Destroy,
    Elapsed,
    Event,
    Held,
    Landed,
    Notice,
    Pause,
    Plan,
    Renewed,
    Replanned,
    Restored,
    Resume,
    Said,
    Stage,
    Switch,
    Tried,
    Waited,
    Withdraw,
    begin,
    diagram,
    next_event,
    projected,
    step,
)

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = sorted((DOCS / "spec" / "vectors" / "switch").glob("*.txt"))
TABLE = """
             Arm    CheckIn Elapsed  Pause  Resume Destroy
    new      armed  -       -        -      -      destroyed
    armed    -      armed   reminded paused -      destroyed
    reminded -      armed   warned   paused -      destroyed
    warned   -      armed   grace    paused -      destroyed
    grace    -      armed   released paused -      destroyed
    paused   -      paused  armed    -      armed  destroyed
    released -      -       -        -      -      -
    destroyed -     -       -        -      -      -
"""
PLAN = Plan(every=100, remind=20, warn=30, grace=50)


def a_switch(stage: Stage, *, entered: int = 1_000, plan: Plan = PLAN, trying: bool = False) -> Switch:
    pause = 70 if stage is Stage.PAUSED else None
    lasts = dict(
        zip(MOVES, (None, plan.every, plan.remind, plan.warn, plan.grace, pause, None, None), strict=True)
    )
    length = lasts[stage]
    return Switch(
        stage,
        plan,
        entered,
        due=None if length is None else entered + length,
        trying=trying,
        ladder=1 if stage in LATE or stage is Stage.RELEASED else 0,
        pause=pause,
    )


def kinds(said: Said) -> list[tuple[str, str]]:
    return [(word.kind.value, word.audience.value) for word in said if isinstance(word, Notice)]


def withdrawn(said: Said) -> set[Kind]:
    return {kind for word in said if isinstance(word, Withdraw) for kind in word.kinds}


def read_event(word: str, *rest: str) -> Event:
    numbers = [int(text) for text in rest if text.isdigit()]
    return {
        "arm": Arm,
        "check-in": CheckIn,
        "elapsed": Elapsed,
        "pause": lambda: Pause(*numbers),
        "resume": Resume,
        "destroy": Destroy,
        "landed": lambda: Landed(rest[0]),
        "tried": Tried,
        "renewed": lambda: Renewed(*numbers),
        "replanned": lambda: Replanned(Plan(*numbers)),
        "restored": Restored,
        "held": lambda: Held(*numbers),
        "crowded": Crowded,
        "waited": Waited,
    }[word]()


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_vector_of_the_specification_holds(path: Path) -> None:
    head, _, life = path.read_text().partition("\n\n")
    keys = dict(line.split(": ", 1) for line in head.strip().split("\n"))
    if "row" in keys:
        row = json.loads(keys["row"])
        if keys["expect"] == "ok":
            assert write_switch(read_switch(row)) == row
        else:
            with pytest.raises(Damaged):
                read_switch(row)
        return
    switch = begin(Plan(*map(int, keys["plan"].split())), 0)
    refused = None
    for line in life.strip().split("\n"):
        assert refused is None, "a vector ends with its refusal"
        asked, expected, *said = (part.strip() for part in line.split("|"))
        now, *words = asked.split()
        if expected == "refused":
            with pytest.raises(AfterwordError) as refusal:
                step(switch, read_event(*words), int(now), reachable="unreachable" not in keys)
            refused = refusal.value.code
            continue
        switch, told = step(switch, read_event(*words), int(now), reachable="unreachable" not in keys)
        due = "-" if switch.due is None else str(switch.due)
        assert f"{switch.stage} {due}{' trying' if switch.trying else ''}" == expected, line
        assert " ".join(f"{kind}>{audience}" for kind, audience in kinds(told)) == "".join(said), line
    assert (refused or "ok") == keys["expect"]


def test_there_are_more_vectors_that_fail_than_succeed() -> None:
    fine = [path for path in VECTORS if path.read_text().startswith("expect: ok\n")]
    assert 0 < len(fine) < len(VECTORS) / 2


@pytest.mark.parametrize(
    ("stage", "event"),
    list(product(Stage, [Arm(), CheckIn(), Elapsed(), Pause(70), Resume(), Destroy()])),
    ids=lambda value: str(value),
)
def test_the_table_is_obeyed_cell_by_cell(stage: Stage, event: Event) -> None:
    names, *rows = (line.split() for line in TABLE.strip().splitlines())
    cells = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}
    goal = cells[stage.value][type(event).__name__]
    before = a_switch(stage)
    now = 1_000 if before.due is None else before.due
    if goal == "-":
        with pytest.raises(Refused) as refusal:
            step(before, event, now, reachable=True)
        assert refusal.value.code == "not-possible-now"
    else:
        assert step(before, event, now, reachable=True)[0].stage.value == goal


def test_released_and_destroyed_are_the_only_ends() -> None:
    assert [stage for stage, row in MOVES.items() if not row] == [Stage.RELEASED, Stage.DESTROYED]
    assert set(MOVES) == set(Stage)


def test_time_alone_climbs_one_stage_at_a_time_and_only_grace_leads_to_a_release() -> None:
    ladder = [Stage.ARMED, Stage.REMINDED, Stage.WARNED, Stage.GRACE, Stage.RELEASED]
    for stage, following in pairwise(ladder):
        assert MOVES[stage][Elapsed] is following
    assert [stage for stage, row in MOVES.items() if Stage.RELEASED in row.values()] == [Stage.GRACE]
    assert [kind for kind, goal in MOVES[Stage.GRACE].items() if goal is Stage.RELEASED] == [Elapsed]


@pytest.mark.parametrize("stage", [Stage.RELEASED, Stage.DESTROYED])
@pytest.mark.parametrize("event", [Landed("1.grace.0"), Renewed(9), Restored(), Crowded()], ids=str)
def test_an_end_stays_an_end_whatever_arrives_late(stage: Stage, event: Event) -> None:
    before = a_switch(stage)
    after, said = step(before, event, 0 if isinstance(event, Restored) else 10**12, reachable=True)
    assert after is before
    assert said == ()


def test_nothing_changed_gives_the_very_same_switch_so_that_nothing_need_be_written() -> None:
    trying = a_switch(Stage.WARNED, trying=True)
    assert step(trying, Landed("1.reminded.0"), 1_001, reachable=True) == (trying, ())
    assert step(trying, Landed("1.reminded.0"), 1_001, reachable=True)[0] is trying
    paused = a_switch(Stage.PAUSED)
    assert step(paused, CheckIn(), 1_001, reachable=True)[0] is paused
    assert step(paused, Renewed(4), 1_001, reachable=True)[0] is paused


def test_the_everyday_check_in_says_nothing_to_anybody() -> None:
    after, said = step(a_switch(Stage.ARMED), CheckIn(), 1_050, reachable=True)
    assert after.due == 1_150
    assert said == ()


@pytest.mark.parametrize("stage", sorted(LATE))
@pytest.mark.parametrize("event", [CheckIn(), Pause(70)], ids=str)
def test_a_sign_of_life_calls_the_letters_back_and_clears_whoever_got_one(stage: Stage, event: Event) -> None:
    before = replace(a_switch(stage), ladder=7)
    _, said = step(before, event, 1_001, reachable=True)
    assert withdrawn(said) >= LADDER_LETTERS
    assert [word for word in said if isinstance(word, Notice)] == [
        Notice(Kind.ALL_CLEAR, Audience.REACHED, 7, before.letter)
    ]
    assert isinstance(said[0], Withdraw)  # first, lest it call back what follows


@pytest.mark.parametrize("stage", sorted(LATE))
def test_a_restored_server_and_a_destruction_say_nothing_about_her_being_well(stage: Stage) -> None:
    for event in (Restored(), Destroy()):
        _, said = step(a_switch(stage), event, 1_001, reachable=True)
        assert kinds(said) == []
        assert withdrawn(said) >= LADDER_LETTERS


def test_colleagues_are_asked_at_the_warning_and_again_in_grace() -> None:
    warned, said = step(a_switch(Stage.REMINDED), Elapsed(), 1_020, reachable=True)
    assert kinds(said) == [("last-warning", "her"), ("reach-her", "collaborators")]
    assert Kind.ALL_CLEAR in withdrawn(said)
    _, said = step(replace(warned, trying=False), Elapsed(), 1_050, reachable=True)
    assert kinds(said) == [("last-call", "her"), ("reach-her-again", "collaborators")]


def test_a_release_tells_colleagues_and_her_and_calls_back_every_warning() -> None:
    after, said = step(a_switch(Stage.GRACE), Elapsed(), 1_050, reachable=True)
    assert (after.stage, after.due) == (Stage.RELEASED, None)
    assert kinds(said) == [("release", "collaborators"), ("released-her", "her")]
    assert withdrawn(said) >= LADDER_LETTERS | {Kind.ALL_CLEAR}
    assert not withdrawn(said) & {Kind.RELEASE, Kind.RELEASED_HER}


def test_a_gap_met_while_armed_does_not_send_the_reminder_twice() -> None:
    armed = a_switch(Stage.ARMED)
    assert next_event(armed, 1_099, era=3) is None
    assert next_event(armed, 1_100, era=3) == Renewed(3)
    noted, said = step(armed, Renewed(3), 1_100, reachable=True)
    assert (noted, said) == (replace(armed, era=3), ())
    assert next_event(noted, 1_100, era=3) == Elapsed()
    reminded, _ = step(noted, Elapsed(), 1_100, reachable=True)
    assert next_event(reminded, 1_101, era=3) is None


@pytest.mark.parametrize("stage", [Stage.NEW, Stage.PAUSED, Stage.RELEASED, Stage.DESTROYED])
def test_a_gap_asks_nothing_of_a_stage_that_warns_nobody(stage: Stage) -> None:
    assert next_event(a_switch(stage), 1_001, era=3) is None


def test_a_gap_on_every_second_tick_still_comes_to_a_release() -> None:
    switch, now, era = a_switch(Stage.ARMED), 1_000, 0
    for tick in range(300):
        now += 5
        era += tick % 2
        event = next_event(switch, now, era)
        if event is not None:
            switch, _ = step(switch, event, now, reachable=True)
    assert switch.stage is Stage.RELEASED


def test_what_comes_is_projected_as_if_each_letter_landed_at_once() -> None:
    assert projected(a_switch(Stage.ARMED), 1_010) == (
        (Stage.REMINDED, 1_100),
        (Stage.WARNED, 1_120),
        (Stage.GRACE, 1_150),
        (Stage.RELEASED, 1_200),
    )
    assert projected(a_switch(Stage.PAUSED), 1_010)[:2] == ((Stage.ARMED, 1_070), (Stage.REMINDED, 1_170))
    assert projected(a_switch(Stage.GRACE, trying=True), 1_010) == ((Stage.RELEASED, 1_060),)
    assert projected(a_switch(Stage.GRACE), 9_999) == ((Stage.RELEASED, 9_999),)
    for stage in (Stage.NEW, Stage.RELEASED, Stage.DESTROYED):
        assert projected(a_switch(stage), 1_010) == ()
        assert latest_release(a_switch(stage), 1_010) is None


def test_the_latest_release_counts_one_dwell_of_trying_for_each_stage_to_come() -> None:
    assert latest_release(a_switch(Stage.ARMED), 1_010) == 1_200 + 20 + 30 + 50
    assert latest_release(a_switch(Stage.GRACE, trying=True), 1_010) == 1_000 + 50 + 50
    assert latest_release(a_switch(Stage.GRACE), 1_010) == 1_050


@pytest.mark.parametrize("trying", [False, True])
def test_a_hold_puts_off_what_comes_by_its_length_and_no_more(trying: bool) -> None:
    before = a_switch(Stage.WARNED, trying=trying)
    after, said = step(before, Held(500), 1_010, reachable=True)
    assert said == ()
    assert after.held == 1_510
    for begun, then in zip(projected(before, 1_010), projected(after, 1_010), strict=True):
        assert then == (begun[0], begun[1] + 500)
    assert latest_release(after, 1_010) == (latest_release(before, 1_010) or 0) + 500
    assert next_event(after, 1_509, era=0) is None


def test_a_hold_that_comes_after_the_time_and_before_the_watch_still_holds() -> None:
    held, _ = step(a_switch(Stage.GRACE), Held(500), 1_070, reachable=True)
    assert (held.held, held.due) == (1_570, 1_570)
    with pytest.raises(NotDue):
        step(held, Elapsed(), 1_569, reachable=True)


@pytest.mark.parametrize("event", [CheckIn(), Pause(70), Destroy()], ids=str)
def test_whatever_ends_the_climb_clears_holds_and_crowds(event: Event) -> None:
    held, _ = step(a_switch(Stage.GRACE), Held(500), 1_010, reachable=True)
    marked, _ = step(held, Crowded(), 1_010, reachable=True)
    after, _ = step(marked, event, 1_020, reachable=True)
    assert (after.held, after.holds, after.crowd) == (None, 0, Crowd.NO)
    assert after.due is None or after.due < 1_500


def test_a_restore_brings_no_release_nearer_than_a_hold_had_put_it() -> None:
    """Colleagues were told until when it is held; the server forgot a check-in, and not their signature."""
    held, _ = step(a_switch(Stage.GRACE), Held(500), 1_010, reachable=True)
    after, _ = step(held, Restored(), 1_020, reachable=True)
    assert (after.stage, after.entered, after.due) == (Stage.ARMED, 1_020, 1_510 + PLAN.every)
    assert (after.held, after.holds, after.crowd) == (None, 0, Crowd.NO)
    again, _ = step(after, Restored(), 1_030, reachable=True)
    assert again.due == after.due
    alive, _ = step(after, CheckIn(), 1_040, reachable=True)
    assert alive.due == 1_040 + PLAN.every


@pytest.mark.parametrize("event", [CheckIn(), Pause(70), Destroy()], ids=str)
def test_letters_about_a_hold_are_called_back_when_the_climb_ends(event: Event) -> None:
    _, said = step(a_switch(Stage.GRACE), event, 1_010, reachable=True)
    assert withdrawn(said) >= {Kind.HELD, Kind.HOLD_ASKED}


def test_a_hold_does_not_outlive_its_stage_but_its_count_does() -> None:
    held, _ = step(a_switch(Stage.REMINDED), Held(5), 1_010, reachable=False)
    warned, _ = step(held, Elapsed(), 1_025, reachable=False)
    assert (warned.held, warned.holds) == (None, 1)


def test_one_of_a_crowd_is_released_twelve_hours_later_at_most() -> None:
    grace = replace(a_switch(Stage.GRACE, plan=DEFAULT_PLAN), crowd=Crowd.YES)
    (before,) = projected(replace(grace, crowd=Crowd.NO), 1_010)
    (after,) = projected(grace, 1_010)
    assert after[1] - before[1] == 12 * HOUR
    assert next_event(grace, before[1], era=0) == Waited()
    waited, said = step(grace, Waited(), before[1], reachable=True)
    assert said == ()
    assert projected(waited, before[1]) == (after,)
    assert next_event(waited, after[1] - 1, era=0) is None
    assert next_event(waited, after[1], era=0) == Elapsed()


@pytest.mark.parametrize("stage", sorted(set(Stage) - LATE))
def test_who_is_not_late_is_of_no_crowd(stage: Stage) -> None:
    before = a_switch(stage)
    assert step(before, Crowded(), 1_010, reachable=True) == (before, ())


def test_by_default_colleagues_hear_after_two_days_and_read_after_seven() -> None:
    coming = dict(projected(step(begin(DEFAULT_PLAN, 0), Arm(), 0, reachable=True)[0], 0))
    assert coming[Stage.WARNED] == 48 * HOUR
    assert coming[Stage.RELEASED] == 7 * 24 * HOUR


@pytest.mark.parametrize(
    ("stage", "event"),
    [(Stage.NEW, CheckIn()), (Stage.PAUSED, Pause(1)), *((stage, Replanned(PLAN)) for stage in sorted(LATE))],
    ids=str,
)
def test_a_refusal_that_can_be_mended_names_the_command(stage: Stage, event: Event) -> None:
    with pytest.raises(Refused, match=r"`afterword [a-z]+`"):
        step(a_switch(stage), event, 1_001, reachable=True)


def test_a_switch_that_contradicts_itself_cannot_be_made() -> None:
    with pytest.raises(Damaged):
        replace(a_switch(Stage.GRACE), due=1_049)
    with pytest.raises(Damaged):
        replace(a_switch(Stage.ARMED), trying=True)
    with pytest.raises(Damaged):
        replace(a_switch(Stage.REMINDED), renewals=3)


def test_a_switch_entered_in_the_future_stands_still_until_it_is_restored() -> None:
    ahead = a_switch(Stage.GRACE, entered=5_000)
    for event in (Elapsed(), CheckIn(), Landed(ahead.letter), Renewed(1)):
        with pytest.raises(Damaged):
            step(ahead, event, 4_999, reachable=True)
    restored, _ = step(ahead, Restored(), 4_000, reachable=True)
    assert (restored.stage, restored.due) == (Stage.ARMED, 4_100)


def test_not_due_is_a_refusal_of_its_own() -> None:
    with pytest.raises(NotDue) as refusal:
        step(a_switch(Stage.ARMED), Elapsed(), 1_099, reachable=True)
    assert refusal.value.code == "not-due"


@given(
    row=st.dictionaries(
        st.sampled_from(sorted(write_switch(a_switch(Stage.GRACE)))), st.none() | st.integers() | st.text()
    )
)
def test_whatever_is_read_from_a_row_is_what_is_written_back(row: dict[str, object]) -> None:
    whole = {**write_switch(a_switch(Stage.GRACE)), **row}
    try:
        switch = read_switch(whole)
    except Damaged:
        return
    assert write_switch(switch) == whole


def test_the_documents_hold_the_diagram_drawn_from_the_table() -> None:
    drawn = [path for path in DOCS.rglob("*.md") if "stateDiagram" in path.read_text()]
    assert DOCS / "spec" / "switch-v1.md" in drawn
    for path in drawn:
        assert f"```mermaid\n{diagram()}```" in path.read_text(), f"{path} is not drawn from MOVES"
    assert diagram().count("-->") == 2 + 1 + sum(len(set(row.values())) for row in MOVES.values())


def test_the_specification_has_a_row_of_the_table_for_each_stage() -> None:
    text = (DOCS / "spec" / "switch-v1.md").read_text()
    for stage in MOVES:
        assert f"| `{stage}` |" in text
