"""The line at the end is no better than what is behind it."""

from collections import Counter
from pathlib import Path

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
