"""Documents name what there is."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
THREATS = [f"T{number}" for number in range(1, 29)]


def all_tests() -> set[str]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


def rows() -> dict[str, str]:
    return dict(re.findall(r"^\| (T\d+) \| (.*) \|$", SECURITY, re.MULTILINE))


def test_every_test_that_security_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", SECURITY))
    assert named
    assert named - all_tests() == set()


def test_every_file_that_security_names_is_there() -> None:
    named = set(re.findall(r"`((?:vault|cli|web|deploy|docs|tests)/[\w./-]*)`", SECURITY))
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("threat", THREATS)
def test_every_threat_has_a_row_that_names_a_test_or_says_that_none_does(threat: str) -> None:
    row = rows()[threat]
    assert "`test_" in row or "*not yet" in row
