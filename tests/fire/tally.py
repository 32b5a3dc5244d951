"""What the tests under fire have counted, and the line that is printed of it.

Rule of this room: a number is what was really run. What broke is counted too, and a run in which a test failed or did
not run says so instead of claiming a nought.

`FIRE=full` is the whole of it (`make fire`); anything else is the shorter form that belongs to `make test`.
"""

import json
import os
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

FULL: Final = os.environ.get("FIRE") == "full"
MAY_LACK: Final = "CI" not in os.environ and not FULL
"""Whether a test may be skipped because a tool is not installed. Where everything is set up, it fails instead."""
WRONG: Final = ("lost check-ins", "early", "forgotten", "doubled releases")
SAID: Final = ("crash points", "power cuts", "clocks")
_PLACE: Final = "AFTERWORD_TEST_TALLY"


def size(short: int, full: int) -> int:
    """How many of something this run does."""
    return full if FULL else short


def count(what: str, many: int = 1) -> None:
    """Add to a number that the report ends with. `what` in the plural: "crash points", "power cuts", "clocks"."""
    _note({"count": {what: many}})


def wrong(what: str, many: int = 1) -> None:
    """A promise was broken: `what` is one of WRONG. Call it, then fail the test."""
    assert what in WRONG, what
    _note({"count": {what: many}})


def killed(mutant: str, by: str) -> None:
    """A planted mistake was caught, and by which test."""
    _note({"mutant": mutant, "by": by})


def _note(line: dict[str, Any]) -> None:
    folder = os.environ.get(_PLACE)
    if folder:
        # One file for each process, appended to whole lines: nobody waits for anybody.
        with open(Path(folder) / f"{os.getpid()}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read(folder: Path) -> tuple[Counter[str], dict[str, set[str]]]:
    counts: Counter[str] = Counter()
    mutants: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            counts.update(note.get("count", {}))
            if "mutant" in note:
                mutants.setdefault(note["mutant"], set()).add(note["by"])
    return counts, mutants


def report(counts: Counter[str], mutants: dict[str, set[str]], whole: bool) -> list[str]:
    """The lines of the summary; the last is the promise. `whole`: every test under fire ran and passed."""
    others = sorted(set(counts) - set(WRONG) - set(SAID))
    lines = [f"{counts[each]:,} {each}" for each in others]
    lines += [f"killed: {mutant} ({', '.join(sorted(by))})" for mutant, by in sorted(mutants.items())]
    broken = ", ".join(f"{counts[each]:,} {each}" for each in WRONG)
    amount = ", ".join(f"{counts[each]:,} {each}" for each in SAID)
    said = f"{broken} in {amount}"
    return [*lines, said if whole else f"NOT SHOWN (a test under fire failed or did not run): {said}"]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        folder = Path(config.rootpath) / ".pytest_cache" / f"fire-{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[_PLACE] = str(folder)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    folder = os.environ.get(_PLACE)
    if not folder or hasattr(config, "workerinput"):
        return
    counts, mutants = read(Path(folder))
    if not counts and not mutants:
        return
    bad = [
        each
        for kind in ("failed", "error", "skipped")
        for each in terminalreporter.stats.get(kind, [])
        if "tests/fire/" in getattr(each, "nodeid", "")
    ]
    terminalreporter.section("under fire" + (", whole" if FULL else ", the shorter form"))
    whole = not bad and all(counts[each] for each in SAID)
    for line in report(counts, mutants, whole):
        terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = os.environ.get(_PLACE)
    if folder and not hasattr(config, "workerinput"):
        for path in Path(folder).glob("*.jsonl"):
            path.unlink()
        Path(folder).rmdir()
