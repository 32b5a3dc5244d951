"""Whatever is installed was chosen beforehand, byte for byte."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted([*ROOT.glob("*.lock"), *ROOT.glob("tests/**/requirements*.lock")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements(lock: Path) -> Iterator[tuple[str, list[str]]]:
    """Each requirement of a lock as one line, with its hashes."""
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.split()[0], re.findall(r"--hash=sha256:([0-9a-f]{64})(?!\S)", line)


def test_there_are_locks_for_use_for_building_and_for_tests() -> None:
    assert [lock.relative_to(ROOT).as_posix() for lock in LOCKS] == [
        "requirements-build.lock",
        "requirements-dev.lock",
        "requirements.lock",
        "tests/schemathesis/requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.relative_to(ROOT).as_posix())
def test_every_package_of_every_lock_has_one_version_and_its_hashes(lock: Path) -> None:
    found = list(requirements(lock))
    assert found
    for requirement, hashes in found:
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z,-]+\])?==\S+", requirement), requirement
        assert hashes, requirement


def test_a_package_without_a_hash_would_be_found(tmp_path: Path) -> None:
    lock = tmp_path / "one.lock"
    lock.write_text("flask==3.1.3 \\\n    --hash=sha256:" + "0" * 64 + "\nblinker==1.9.0\n")
    assert [len(hashes) for _, hashes in requirements(lock)] == [1, 0]


def test_what_builds_the_package_is_locked() -> None:
    needed = PROJECT["build-system"]["requires"]
    assert PROJECT["dependency-groups"]["build"] == needed
    locked = {requirement for requirement, _ in requirements(ROOT / "requirements-build.lock")}
    assert set(needed) <= locked
    assert locked <= {requirement for requirement, _ in requirements(ROOT / "requirements-dev.lock")}


@pytest.mark.parametrize("page", ["README.md", "deploy/README.md", "docs/operations.md"])
def test_every_installation_that_is_written_down_checks_hashes_and_builds_with_what_is_locked(
    page: str,
) -> None:
    lines = re.findall(r"\bpip install ([^`&\n]+)", (ROOT / page).read_text())
    assert len(lines) == 2
    assert lines[0].split() == [
        "--require-hashes",
        "-r",
        "requirements-build.lock",
        "-r",
        "requirements.lock",
    ]
    assert lines[1].split() == ["--no-deps", "--no-build-isolation", "."]
