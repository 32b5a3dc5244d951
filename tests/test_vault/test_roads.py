"""One slow mail domain holds one line and no more."""

from vault.couriers.roads import SLOW, Roads


def test_a_domain_is_slow_after_one_slow_letter_and_well_after_a_quick_one() -> None:
    roads = Roads()
    assert roads.enter("a@slow.example")
    assert roads.enter("b@slow.example")
    roads.leave("a@slow.example", SLOW + 1)
    assert not roads.enter("c@SLOW.example")
    roads.leave("b@slow.example", SLOW + 1)
    assert roads.enter("c@slow.example")
    assert not roads.enter("d@slow.example")
    roads.leave("c@slow.example", 10)
    assert roads.enter("d@slow.example")
    assert roads.enter("e@slow.example")


def test_a_slow_domain_is_slow_for_nobody_else() -> None:
    roads = Roads()
    assert roads.enter("a@slow.example")
    roads.leave("a@slow.example", SLOW + 1)
    assert roads.enter("a@slow.example")
    assert roads.enter("a@other.example")
    assert roads.enter("b@other.example")
