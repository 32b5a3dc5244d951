"""Documents name what there is."""

import ast
import re
from pathlib import Path

import pytest

from bench import __main__ as bench
from tests.fire import mistakes, readers

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


def section(title: str) -> str:
    return SECURITY.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(title: str) -> list[list[str]]:
    """Every row of every table of a section, cell by cell, its headings among them."""
    lines = [
        line for line in section(title).splitlines() if line.startswith("|") and not line.startswith("|-")
    ]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


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


def test_every_test_that_security_names_is_linked_to_the_file_that_has_it() -> None:
    links = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", SECURITY)
    assert {name for name, _ in links} == set(re.findall(r"`(test_\w+)`", SECURITY))
    defined = {path: (ROOT / path).read_text(encoding="utf-8") for _, path in links}
    assert [link for link in links if f"def {link[0]}(" not in defined[link[1]]] == []


@pytest.mark.parametrize("page", ["SECURITY.md", "README.md", "deploy/README.md", "docs/operations.md"])
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links
    assert [each for each in links if not ((ROOT / page).parent / each).exists()] == []


def test_every_invariant_has_a_row_that_names_a_test() -> None:
    asked = {row[0]: row[2] for row in table("Invariants") if len(row) == 3}
    assert [f"S{number}" for number in range(1, 14)] == [
        each for each in asked if re.fullmatch(r"S\d+", each)
    ]
    assert all("`test_" in asked[each] for each in [*(f"S{number}" for number in range(1, 14)), "liveness"])


def test_every_mistake_of_the_threat_model_stands_in_the_table_of_those_that_are_found() -> None:
    assert {row[0] for row in table("Invariants") if len(row) == 2} >= set(mistakes.NAMED)


def test_what_the_last_full_run_counted_is_what_the_tests_count() -> None:
    told = {row[0].removeprefix("of which ") for row in table("The last full run")[1:]}
    counted = set()
    for path in (ROOT / "tests" / "fire").glob("*.py"):
        if path.name != "test_tally.py":
            calls = r"""(?:\btally\.|(?<![.\w]))count\("([^"]+)\""""
            counted |= set(re.findall(calls, path.read_text(encoding="utf-8")))
    assert told - {"planted mistakes that were found"} == counted


def test_the_readers_that_get_fewer_inputs_than_the_others_are_named_with_their_numbers() -> None:
    found = readers.parsers()
    usual = max(each.full for each in found.values())
    fewer = {name: each.full for name, each in found.items() if each.full < usual}
    told = " ".join(section("The last full run").split())
    assert f"the {len(found)} readers gets {usual:,} altered inputs" in told
    names = [f"`{name}`" for name in fewer]
    numbers = [f"{number:,}" for number in fewer.values()]
    assert f"{', '.join(names[:-1])} and {names[-1]}" in told
    assert f"get {', '.join(numbers[:-1])} and {numbers[-1]}." in told


def test_every_part_of_the_benchmark_stands_where_it_is_said_how_to_run_it_again() -> None:
    again = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8").partition("\n## Again\n")[2]
    (parts,) = re.findall(r"one part: ([a-z ]+)$", again, re.MULTILINE)
    assert parts.split() == list(bench.measures(True))


def test_nobody_is_sent_to_an_address_for_reports_that_there_is_not() -> None:
    assert "to the address in [SECURITY.md]" not in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "privately" in section("Reporting")


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["test", "fire", "bench"])
def test_what_runs_other_programs_sees_to_it_first_that_they_are_there(target: str) -> None:
    recipe = MAKEFILE.partition(f"\n{target}: ")[2].partition("\n\n")[0]
    assert recipe.splitlines()[1] == "\t@$(MAKE) -s tools"


def test_the_readme_names_every_program_that_make_installs() -> None:
    (tools,) = re.findall(r"^TOOLS := (.+)$", MAKEFILE, re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0].casefold()
    assert [tool for tool in (*tools.split(), "node") if tool.partition("-")[0] not in readme] == []
