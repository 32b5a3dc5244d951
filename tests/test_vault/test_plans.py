import pytest

from vault.clock import DAY, HOUR
from vault.errors import Malformed, Refused
from vault.plans import DEFAULT_PLAN, Plan

TICK = 5_000


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "36h", None])
def test_a_length_is_a_whole_number_above_zero(bad: object) -> None:
    with pytest.raises(Malformed) as refusal:
        Plan(bad, HOUR, HOUR, HOUR)  # type: ignore[arg-type]  # that is what is tested
    assert refusal.value.code == "bad-plan"


def test_the_default_ladder_lasts_a_week() -> None:
    assert DEFAULT_PLAN.ladder() == 7 * DAY
    DEFAULT_PLAN.require_unhurried(TICK)


def test_a_ladder_under_a_day_is_for_rehearsals() -> None:
    Plan(21 * HOUR, HOUR, HOUR, HOUR).require_unhurried(TICK)
    with pytest.raises(Refused, match="--allow-short") as refusal:
        Plan(21 * HOUR - 1, HOUR, HOUR, HOUR).require_unhurried(TICK)
    assert refusal.value.code == "plan-too-short"


def test_a_stage_under_four_ticks_is_for_rehearsals_however_long_the_ladder() -> None:
    Plan(30 * HOUR, 4 * TICK, HOUR, HOUR).require_unhurried(TICK)
    with pytest.raises(Refused, match="20s"):
        Plan(30 * HOUR, 4 * TICK - 1, HOUR, HOUR).require_unhurried(TICK)


def test_one_longer_dwell_makes_a_plan_longer_even_if_its_ladder_is_shorter() -> None:
    assert Plan(HOUR, HOUR, HOUR, 97 * HOUR).longer_than(DEFAULT_PLAN)
    assert not DEFAULT_PLAN.longer_than(DEFAULT_PLAN)
    assert not Plan(HOUR, HOUR, HOUR, HOUR).longer_than(DEFAULT_PLAN)
