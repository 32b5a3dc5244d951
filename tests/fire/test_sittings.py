"""A whole run that was stopped goes on, and counts nothing twice and nothing that did not pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fire import sittings

TRIAL = """
import os
from tests.fire import tally

def test_one():
    tally.count("clocks", 3)

def test_two():
    tally.count("clocks", 5)
    assert "ILL" not in os.environ

def test_three():
    tally.wrong("early")
    assert "ILL" not in os.environ
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_trial.py").write_text(TRIAL)
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "switch.py").write_text("GRACE = 1\n")
    return tmp_path


def sit(root: Path, *, workers: int = 0, **environment: str) -> str:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AFTERWORD_"))
    }
    plugins = ["-p", "tests.fire.sittings", "-p", "tests.fire.tally"]
    also = ["-n", str(workers)] if workers else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *also, "test_trial.py"],
        cwd=root,
        env={**clean, "FIRE": "full", "PYTHONPATH": str(sittings.ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if "ILL" in environment else 0), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_was_stopped_goes_on_with_what_has_not_passed(root: Path, workers: int) -> None:
    first = sit(root, workers=workers, ILL="yes")
    assert "2 failed, 1 passed" in first
    assert "1 early, 0 forgotten, 0 doubled releases in 0 crash points, 0 power cuts, 8 clocks" in first
    second = sit(root, workers=workers)
    assert "2 passed" in second
    # What passed before counts once, and what failed before is not made good.
    assert "2 failed before on the very same files" in second
    assert "NOT SHOWN" in second
    assert "1 early, 0 forgotten, 0 doubled releases in 0 crash points, 0 power cuts, 8 clocks" in second
    third = sit(root, workers=workers)
    assert "passed" not in third
    assert "with what 3 tests counted before" in third
    assert "0 power cuts, 8 clocks" in third


def test_one_changed_byte_of_ours_begins_afresh(root: Path) -> None:
    sit(root)
    (root / "vault" / "switch.py").write_text("GRACE = 2\n")
    assert "3 passed" in sit(root)
    assert len(list((root / ".fire").iterdir())) == 1


def test_the_shorter_form_remembers_nothing(root: Path) -> None:
    for _ in range(2):
        assert "3 passed" in sit(root, FIRE="")
    assert not list((root / ".pytest_cache").glob("fire-*"))
