"""What passed under fire before, on the very same files: `make fire` takes long, and goes on where it was stopped.

Rule of this room: a test is believed for the sitting in which it passed, one changed byte of ours begins afresh, and
what failed once on these files is not made good by trying again.
"""

import hashlib
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ("vault", "cli", "web", "tests", "deploy", "docs/spec")
AND: Final = ("pyproject.toml", "requirements.lock", "requirements-dev.lock")
NOT_OURS: Final = {"__pycache__", "node_modules"}
FOLDER: Final = "AFTERWORD_TEST_TALLY"
SITTING: Final = "AFTERWORD_TEST_SITTING"


def begin(root: Path, *, whole: bool) -> None:
    """Choose where this sitting writes what it counts; with `whole`, beside the earlier ones on these files."""
    sitting = uuid.uuid4().hex
    folder = root / (f".fire/{digest(root)}" if whole else f".pytest_cache/fire-{sitting}")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER], os.environ[SITTING] = str(folder), sitting
    if whole:
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)


def end() -> None:
    """Nothing of this is asked for again."""
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def digest(root: Path) -> str:
    """Of whatever may change what a test does: our files, what they stand on, and the Python that runs them."""
    found = hashlib.sha256(sys.version.encode())
    files = [root / each for each in AND]
    for each in OURS:
        files += sorted(path for path in (root / each).rglob("*") if not NOT_OURS & {*path.parts})
    for file in files:
        if file.is_file():
            inside = hashlib.sha256(file.read_bytes()).hexdigest()
            found.update(f"{file.relative_to(root)} {inside}\n".encode())
    return found.hexdigest()[:32]


def passed(folder: Path) -> set[tuple[str, str]]:
    """(sitting, test) of all that passed on these files."""
    return _noted(folder, "passed")


def failed(folder: Path) -> set[str]:
    """Tests that failed on these files, in any sitting."""
    return {test for _, test in _noted(folder, "failed")}


def _noted(folder: Path, how: str) -> set[tuple[str, str]]:
    return {
        (path.stem, test)
        for path in folder.glob(f"*.{how}")
        for test in path.read_text(encoding="utf-8").splitlines()
    }


def passed_before() -> set[str]:
    folder, sitting = os.environ.get(FOLDER), os.environ.get(SITTING)
    return set() if folder is None else {test for when, test in passed(Path(folder)) if when != sitting}


def _note(test: str, how: str) -> None:
    with open(Path(os.environ[FOLDER]) / f"{os.environ[SITTING]}.{how}", "a", encoding="utf-8") as file:
        file.write(test + "\n")


def current_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Workers ask too, and the answer does not change while they run: only earlier sittings are looked at.
    before = passed_before()
    done = [each for each in items if each.nodeid in before]
    if done:
        items[:] = [each for each in items if each.nodeid not in before]
        config.hook.pytest_deselected(items=done)


class Ending:
    """How each test ended; it has passed if it was set up, run and tidied up."""

    def __init__(self) -> None:
        self._ran: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            _note(report.nodeid, "failed")
        if not report.passed:
            self._ran.discard(report.nodeid)
        elif report.when == "call":
            self._ran.add(report.nodeid)
        elif report.when == "teardown" and report.nodeid in self._ran:
            _note(report.nodeid, "passed")
