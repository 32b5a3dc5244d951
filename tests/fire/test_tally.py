"""The line at the end is no better than what is behind it."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fire import tally


def test_the_line_names_what_was_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERWORD_TEST_TALLY", str(tmp_path))
    tally.count("crash points", 4_000)
    tally.count("power cuts", 2)
    tally.count("power cuts", 3)
    tally.count("clocks", 200)
    tally.killed("wall clock used", "test_a")
    *_, killed, line = tally.report(*tally.read(tmp_path), whole=True)
    assert killed == "killed: wall clock used (test_a)"
    assert line == (
        "0 lost check-ins, 0 early, 0 forgotten, 0 doubled releases in 4,000 crash points, 5 power cuts, 200 clocks"
    )


def test_a_broken_promise_is_counted_and_a_run_that_was_not_whole_says_so() -> None:
    counts = Counter({"early": 1, "crash points": 9})
    *_, line = tally.report(counts, {}, whole=False)
    assert line.startswith("NOT SHOWN")
    assert "1 early" in line


def asked(**more: Any) -> Any:  # Any: as much of a configuration as is looked at
    option = SimpleNamespace(**{"keyword": "", "markexpr": "", "deselect": None, **more.pop("option", {})})
    return SimpleNamespace(option=option, args=more.pop("args", ["tests"]))


ENOUGH = Counter(tally.PROMISED)
FILES = {f"tests/fire/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}


def test_a_run_of_everything_that_passed_is_whole() -> None:
    assert tally.is_whole(ENOUGH, FILES, asked(), 0)


@pytest.mark.parametrize(
    ("counts", "seen", "config", "ended"),
    [
        (ENOUGH, FILES, asked(), 2),  # interrupted
        (ENOUGH, FILES, asked(), 1),
        (ENOUGH, FILES - {"tests/fire/test_kills.py"}, asked(), 0),
        (ENOUGH, FILES, asked(option={"keyword": "counts"}), 0),
        (ENOUGH, FILES, asked(option={"deselect": ["tests/fire"]}), 0),
        (ENOUGH, FILES, asked(args=["tests/fire/test_kills.py::test_a"]), 0),
        (ENOUGH - Counter({"crash points": 1}), FILES, asked(), 0),
        (Counter(), FILES, asked(), 0),
    ],
)
def test_a_run_of_less_does_not_claim_to_be_whole(
    counts: Counter[str], seen: set[str], config: Any, ended: int
) -> None:
    assert not tally.is_whole(counts, seen, config, ended)
