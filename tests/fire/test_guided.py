"""The readers of readers.py, under inputs that coverage leads to where mutation alone does not come.

Rule of this room: each reader has a process of its own, and its number of runs is what that process says it did.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.fire import tally
from tests.fire.readers import parsers

HERE: Final = Path(__file__).parents[2]
# One of each kind of format; the kinds of statements and bodies share a reader.
FEW: Final = ("age file", "envelope", "statement: checkin", "tree", "card", "invite", "share", "body: Heads")

pytestmark = pytest.mark.skipif(
    tally.MAY_LACK and find_spec("atheris") is None, reason="atheris is not installed"
)


def guided(name: str, runs: int, corpus: Path) -> subprocess.CompletedProcess[str]:
    corpus.mkdir()
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    # It ends without tidying up.
    with tempfile.TemporaryDirectory(prefix="guided-", dir=place) as scratch:
        return _run(name, runs, corpus, scratch)


def _run(name: str, runs: int, corpus: Path, scratch: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.fire.guided", name, str(runs), str(corpus)],
        cwd=HERE,
        env={"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin", "TMPDIR": scratch},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", [each for each in parsers() if tally.FULL or each in FEW])
def test_no_input_that_coverage_leads_to_makes_a_reader_fail_in_another_way(
    name: str, tmp_path: Path
) -> None:
    parser = parsers()[name]
    runs = tally.size(1_000, 150_000 if name in FEW else parser.full)
    done = guided(name, runs, tmp_path / "corpus")
    assert done.returncode == 0, done.stdout[-3_000:]
    said = re.search(r"stat::number_of_executed_units: (\d+)", done.stdout)
    assert said, done.stdout[-1_000:]
    assert int(said[1]) >= runs
    covered = re.findall(r"cov: (\d+)", done.stdout)
    assert covered, "lines of ours are counted"
    assert int(covered[-1]) > 2, "lines of ours are counted"
    tally.count("hostile inputs led by coverage", int(said[1]))


def test_a_reader_that_lets_another_error_out_is_found_by_coverage(tmp_path: Path) -> None:
    done = guided("careless", 2_000_000, tmp_path / "corpus")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout
