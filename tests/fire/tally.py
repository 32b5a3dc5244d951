"""What the tests under fire have counted, and the line that is printed of it.

Rule of this room: a number is what was really run. What broke is counted too, and a run in which a test failed or did
not run says so instead of claiming a nought.

`FIRE=full` is the whole of it (`make fire`); anything else is the shorter form that belongs to `make test`.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fire import sittings

FULL: Final = os.environ.get("FIRE") == "full"
MAY_LACK: Final = "CI" not in os.environ and not FULL
"""Whether a test may be skipped because a tool is not installed. Where everything is set up, it fails instead."""
WRONG: Final = ("lost check-ins", "early", "forgotten", "doubled releases")
SAID: Final = ("crash points", "power cuts", "clocks")


def size(short: int, full: int) -> int:
    """How many of something this run does."""
    return full if FULL else short


PROMISED: Final = {
    "crash points": size(400, 4_000),
    "servers killed and started again": size(4, 100),
    "power cuts": size(5_000, 100_000),
    "clocks": size(200, 200),
    "lives": size(20, 10_000),
    "check-in/release races": size(1_000, 10_000),
    "switches moved by eight watches": size(2_000, 10_000),
    "scanner behaviours": 12,
    "planted words": 50,
}
"""What the line stands for at the least: with less of it behind, it does not claim to be shown."""


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
    folder = os.environ.get(sittings.FOLDER)
    if folder:
        # One file for each process, appended to whole lines: nobody waits for anybody.
        name = f"{os.environ[sittings.SITTING]}.{os.getpid()}.jsonl"
        with open(Path(folder) / name, "a", encoding="utf-8") as file:
            file.write(json.dumps({"test": sittings.current_test(), **line}) + "\n")


def read(folder: Path) -> tuple[Counter[str], dict[str, set[str]]]:
    """All of this sitting, and of earlier ones what those tests counted that passed."""
    counts: Counter[str] = Counter()
    mutants: dict[str, set[str]] = {}
    passed = sittings.passed(folder)
    for path in sorted(folder.glob("*.jsonl")):
        sitting = path.name.partition(".")[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            if sitting != os.environ[sittings.SITTING] and (sitting, note["test"]) not in passed:
                continue
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
    return [*lines, said if whole else f"NOT SHOWN (a test failed or did not run): {said}"]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        sittings.begin(Path(config.rootpath), whole=FULL)
        config.pluginmanager.register(sittings.Ending())


def is_whole(counts: Counter[str], seen: set[str], config: pytest.Config, exitstatus: int) -> bool:
    """Whether every test under fire ran to its end and passed, and was as much as is promised. `seen`: the files of
    which a test has passed."""
    asked = config.option
    chosen = asked.keyword or asked.markexpr or asked.deselect or any("::" in each for each in config.args)
    there = {f"tests/fire/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    enough = all(counts[what] >= many for what, many in PROMISED.items())
    return exitstatus == 0 and not chosen and there <= seen and enough


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and sittings.passed_before():
        session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    folder = os.environ.get(sittings.FOLDER)
    if not folder or hasattr(config, "workerinput"):
        return
    counts, mutants = read(Path(folder))
    if not counts and not mutants:
        return
    skipped = [each for each in terminalreporter.stats.get("skipped", []) if "tests/fire/" in each.nodeid]
    before = sittings.passed_before()
    seen = {test.partition("::")[0] for _, test in sittings.passed(Path(folder))}
    terminalreporter.section("under fire" + (", whole" if FULL else ", the shorter form"))
    failed = sittings.failed(Path(folder))
    whole = not (skipped or failed) and is_whole(counts, seen, config, int(exitstatus))
    if before:
        terminalreporter.write_line(f"with what {len(before):,} tests counted before, on the very same files")
    if failed and not exitstatus:
        terminalreporter.write_line(
            f"{len(failed):,} failed before on the very same files; begin afresh: rm -r .fire"
        )
    for line in report(counts, mutants, whole):
        terminalreporter.write_line(line)
    if whole:
        sittings.end()


def pytest_unconfigure(config: pytest.Config) -> None:
    # What a whole run has done so far is kept until it is whole.
    if not hasattr(config, "workerinput") and sittings.FOLDER in os.environ and not FULL:
        sittings.end()
