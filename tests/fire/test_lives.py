"""Whole lives, by the thousand, and none of them may break a promise.

Rule of this room: what is counted is what was lived.
"""

from collections.abc import Iterator

import pytest
from hypothesis.errors import Flaky

from tests.fire import lives, mistakes, tally
from tests.fire.cast import Cast, a_cast, remembered
from tests.fire.truth import Broken

SHARDS = tally.size(1, 20)
LIVES = tally.size(25, 500)
# A short run has time for long lives; a whole one has more lives than one can count, and so shorter ones.
STEPS = tally.size(40, 25)


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    with remembered(), a_cast() as made:
        yield made


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_life_breaks_an_invariant(cast: Cast, shard: int) -> None:
    lives.Life.begun = 0
    try:
        begun = lives.run(cast, LIVES, STEPS, shard)
    except Broken as broken:
        if broken.word is not None:
            tally.wrong(broken.word)
        raise
    assert begun >= LIVES
    tally.count("lives", begun)


# Every mistake that the threat model names, and some that only long lives meet.
SEEN = [
    *mistakes.NAMED.values(),
    mistakes.a_server_that_forgot_gives_nobody_a_new_ladder,
    mistakes.a_server_that_forgot_thinks_only_of_who_noticed,
    mistakes.a_restored_server_gives_nobody_a_new_ladder,
    mistakes.a_release_that_was_shown_again_is_signed_anew,
    mistakes.a_release_that_was_forgotten_proves_nothing,
    mistakes.a_restore_throws_a_hold_away,
    mistakes.a_loss_that_is_over_ends_an_alarm,
    mistakes.a_third_hold_by_one,
    mistakes.a_crowd_that_nobody_counts,
]


@pytest.mark.parametrize("mistake", SEEN, ids=lambda each: each.__name__)
def test_lives_alone_find_a_planted_mistake(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, mistake: mistakes.Mistake
) -> None:
    with monkeypatch.context() as planted:
        mistake(planted, cast.first)
        with pytest.raises((Broken, Flaky)) as found:
            lives.run(cast, 300, 25, 0, shrink=False)
    assert "Broken" in repr((found.value, *getattr(found.value, "exceptions", ())))
    tally.killed(mistakes.name_of(mistake), by="test_lives: whole lives alone")
