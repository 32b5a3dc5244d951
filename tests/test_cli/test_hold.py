"""`afterword hold`, as colleagues run it, and what everybody sees of it afterwards."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cli import holding
from cli.home import Home
from test_cli.bureau import Bureau
from test_cli.conftest import PASSPHRASE, Ran
from vault import views, wire
from vault.clock import HOUR
from vault.switch import Stage


@pytest.fixture
def bureau(tmp_path: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Bureau:
    """A dossier whose check-in is overdue; its letters have landed."""
    made = Bureau(tmp_path, run, monkeypatch)
    for name in ("Ana", "Ben", "Cem"):
        made.people[name].confirm(f"{name.lower()}@example.org")
    made.dossier = made.armed()  # type: ignore[attr-defined]
    made.does("inbox", who="Ben")
    made.does("inbox", who="Cem")
    climb(made, Stage.WARNED)
    return made


def climb(bureau: Bureau, stage: Stage) -> None:
    for _ in range(60):
        if stage_of(bureau) is stage:
            return
        bureau.world.skip(HOUR // 4)
    raise AssertionError(f"never {stage}")


def stage_of(bureau: Bureau) -> Stage:
    return bureau.world.stage(bureau.dossier)  # type: ignore[attr-defined, no-any-return]


def state_of(bureau: Bureau, who: str) -> wire.DossierState:
    account = bureau.people[who].account
    return views.dossier(bureau.world.records, account, bureau.dossier)  # type: ignore[attr-defined]


def test_a_colleague_signs_and_is_told_first_what_it_does(bureau: Bureau) -> None:
    done = bureau.run("Ben", "hold", "Harbour", "--because", "hospital", answers=("y",))
    assert done.code == 0, done.err
    assert "in a hospital" in done.err
    assert "names you" in done.err
    assert "Only a check-in by Ana does" in done.err
    assert "Harbour is held until" in done.out
    assert state_of(bureau, "Ana").held is not None


def test_nothing_is_signed_without_a_yes(bureau: Bureau) -> None:
    assert bureau.run("Ben", "hold", "Harbour", "--because", "reached", answers=("",)).code == 3
    assert state_of(bureau, "Ana").holds == ()


def test_the_reason_is_asked_for_and_none_is_made_up(bureau: Bureau) -> None:
    unsigned = bureau.types("Cem", "hold", "Harbour", answers=(PASSPHRASE, ""))
    assert (unsigned.code, "not-confirmed" in unsigned.err) == (3, True)
    asked = bureau.types("Ben", "hold", "Harbour", answers=(PASSPHRASE, "reached", "y"))
    assert asked.code == 0, asked.err


def test_a_wrong_word_for_the_reason_is_asked_for_again(bureau: Bureau) -> None:
    asked = bureau.types("Ben", "hold", "Harbour", answers=(PASSPHRASE, "because", "Hospital", "y"))
    assert asked.code == 0, asked.err
    assert asked.err.count("How do you know?") == 2
    assert "in a hospital" in asked.err


def test_nobody_is_asked_why_about_what_cannot_be_held(bureau: Bureau) -> None:
    unknown = bureau.types("Ben", "hold", "Quarry", answers=(PASSPHRASE,))
    bureau.does("checkin")
    punctual = bureau.types("Ben", "hold", "Harbour", answers=(PASSPHRASE,))
    for asked, code in ((unknown, "no-such-dossier"), (punctual, "not-possible-now")):
        assert code in asked.err
        assert "How do you know?" not in asked.err


def test_everybody_sees_who_held_it_and_until_when(bureau: Bureau) -> None:
    bureau.does("hold", "Harbour", "--because", "known-safe", "--yes", who="Ben")
    for who, command in (("Ana", "status"), ("Ana", "calendar"), ("Cem", "status"), ("Cem", "inbox")):
        said = bureau.does(command, who=who)
        assert "held by Ben (known to be safe)" in said, (who, command)
    assert "held by you (known to be safe)" in bureau.does("inbox", who="Ben")


def test_who_comes_back_hears_who_spoke_for_them_and_only_once(bureau: Bureau) -> None:
    bureau.does("hold", "Harbour", "--because", "hospital", "--yes", who="Ben")
    assert "while you were silent, Ben signed that you were in a hospital" in bureau.does("checkin")
    assert "while you were silent" not in bureau.does("checkin")
    for who, command in (("Ana", "status"), ("Ana", "calendar"), ("Cem", "inbox")):
        assert "held by" not in bureau.does(command, who=who), (who, command)
    assert state_of(bureau, "Ben").held is None


def test_what_was_signed_since_her_last_check_in_is_told_whatever_she_ran_before_it(bureau: Bureau) -> None:
    bureau.does("hold", "Harbour", "--because", "hospital", "--yes", who="Ben")
    bureau.world.skip(4 * HOUR)
    bureau.does("hold", "Harbour", "--because", "reached", "--yes", who="Ben")
    bureau.world.skip(4 * HOUR)
    bureau.does("hold", "Harbour", "--because", "known-safe", "--yes", who="Cem")
    for command in ("calendar", "status"):
        bureau.does(command)
    said = bureau.does("checkin")
    for signed in ("Ben signed that you were in a hospital", "Ben signed that you were spoken with",
                   "Cem signed that you were known to be safe"):  # fmt: skip
        assert signed in said
    bureau.does("status")
    assert "while you were silent" not in bureau.does("checkin")


def test_a_third_hold_waits_for_a_second_colleague(bureau: Bureau) -> None:
    for _ in range(2):
        bureau.does("hold", "Harbour", "--because", "reached", "--yes", who="Ben")
        bureau.world.skip(4 * HOUR)
    done = bureau.run("Ben", "hold", "Harbour", "--because", "reached", "--yes")
    assert "NOTHING STANDS STILL YET" in done.out
    assert "nothing stands still until a second colleague signs" in done.err
    assert "Ben asked to hold it" in bureau.does("inbox", who="Cem")
    again = bureau.types("Ben", "hold", "Harbour", answers=(PASSPHRASE,))
    assert (again.code, again.err.endswith("afterword: needs-another\n")) == (3, True)
    assert "another colleague signs too" in again.err
    for asked in ("How do you know?", "You are about to sign"):
        assert asked not in again.err
    done = bureau.run("Cem", "hold", "Harbour", "--because", "reached", "--yes")
    assert "is held until" in done.out
    assert "It was held twice already" not in done.err
    climb(bureau, Stage.RELEASED)


def test_nothing_is_added_while_one_runs_and_the_name_is_said(bureau: Bureau) -> None:
    bureau.does("hold", "Harbour", "--because", "reached", "--yes", who="Ben")
    done = bureau.run("Cem", "hold", "Harbour", "--because", "reached", "--yes")
    assert done.code == 3
    assert "held by Ben" in done.err
    assert "already-held" in done.err


@pytest.mark.parametrize("lost", ["asked", "answered"])
def test_a_hold_that_no_answer_confirmed_is_not_to_be_counted_on(bureau: Bureau, lost: str) -> None:
    if lost == "asked":
        bureau.unsent.extend(["/server"] * 5)
    else:
        bureau.lose(f"/dossiers/{bureau.dossier}/statements")  # type: ignore[attr-defined]
    done = bureau.run("Ben", "hold", "Harbour", "--because", "reached", "--yes")
    assert (done.code, done.out) == (8, "")
    assert "COUNT ON NOTHING STANDING STILL: the server has confirmed no hold." in done.err
    # Run again, it says which of the two it was; and what is refused is refused in its own words alone.
    again = bureau.run("Ben", "hold", "Harbour", "--because", "reached", "--yes")
    assert (again.code, "held by you" in again.err) == ((0, False) if lost == "asked" else (3, True))
    assert "COUNT ON" not in again.err


def test_what_is_not_overdue_or_is_released_cannot_be_held(bureau: Bureau) -> None:
    bureau.does("checkin")
    done = bureau.run("Ben", "hold", "Harbour", "--because", "reached", "--yes")
    assert (done.code, "not-possible-now" in done.err) == (3, True)
    climb(bureau, Stage.RELEASED)
    done = bureau.run("Ben", "hold", "Harbour", "--because", "reached", "--yes")
    assert (done.code, "released" in done.err) == (3, True)


def test_her_own_dossier_she_does_not_hold_but_checks_in(bureau: Bureau) -> None:
    done = bureau.run("Ana", "hold", "Harbour", "--because", "reached", "--yes")
    assert done.code == 3
    assert "own-dossier" in done.err
    assert "It is yours: afterword checkin (or afterword pause)" in done.err


def test_the_inbox_tells_a_colleague_that_holding_is_possible(bureau: Bureau) -> None:
    assert "afterword hold" in bureau.does("inbox", who="Ben")
    bureau.does("hold", "Harbour", "--because", "reached", "--yes", who="Ben")
    assert "cannot check in now: afterword hold" not in bureau.does("inbox", who="Cem")


def test_nobody_is_named_for_what_they_did_not_sign(bureau: Bureau) -> None:
    """A server that lies about who it was, of what dossier, or in which climb."""
    bureau.does("hold", "Harbour", "--because", "reached", "--yes", who="Ben")
    state = state_of(bureau, "Cem")
    (genuine,) = state.holds
    other = bureau.people["Cem"].card.hash.hex()
    lies = (
        (state, {"card": other}),
        (state, {"because": "hospital"}),
        (state, {"statement": genuine.statement.replace("a", "b", 1)}),
        (state, {"card": "0" * 64}),
    )
    with Home.open(bureau.folder / "Cem") as home:
        (honest,) = holding.read(home, state)
        assert honest.who == "Ben"
        for about, lie in lies:
            forged = wire.read(wire.write(about), wire.DossierState)
            fields = {name: getattr(genuine, name) for name in genuine.__struct_fields__}
            shown = _with_holds(forged, wire.HoldState(**{**fields, **lie}))  # type: ignore[arg-type]
            (seen,) = holding.read(home, shown)
            assert seen.who is None
            assert "NO COLLEAGUE HAS SIGNED" in " ".join(
                holding.sentences((seen,), bureau.world.clock.wall())
            )
        later = _with_holds(state, genuine, climb=state.climb + 1)
        assert holding.read(home, later)[0].who is None


def _with_holds(
    state: wire.DossierState, *holds: wire.HoldState, climb: int | None = None
) -> wire.DossierState:
    return msgspec.structs.replace(state, holds=holds, climb=climb or state.climb)


def test_a_colleague_who_leaves_is_named_to_her_and_one_who_leaves_late_may_still_recover(
    bureau: Bureau,
) -> None:
    bureau.world.courier.carried.clear()
    said = bureau.does("leave", "Harbour", answers=("y",), who="Ben")
    assert "Ana is told by a letter" in said
    bureau.world.deliver()
    letters = [parcel for parcel in bureau.world.courier.carried if "no longer takes part" in parcel.body]
    assert [parcel.to for parcel in letters] == ["ana@example.org"]
    assert "Ben" in letters[0].body
    assert bureau.run("Ben", "hold", "Harbour", "--because", "reached", "--yes").code == 3
    climb(bureau, Stage.RELEASED)
    bureau.world.deliver()
    bureau.world.courier.carried.clear()
    said = bureau.does("leave", "Harbour", answers=("y",), who="Cem")
    assert "only stops the letters" in said
    bureau.world.skip(100 * HOUR)
    assert not [parcel for parcel in bureau.world.courier.carried if parcel.to == "cem@example.org"]
    assert not [parcel for parcel in bureau.world.courier.carried if "no longer takes part" in parcel.body]
    bureau.does("give", "Harbour", "--yes", who="Cem")
    bureau.does("give", "Harbour", "--yes", who="Ben")
