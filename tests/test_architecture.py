"""What the documents about the code say is so."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from vault.switch import diagram

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "architecture.md", *sorted((DOCS / "decisions").glob("*.md"))]
TEXT = PAGES[0].read_text()


def defined_in(path: Path) -> set[str]:
    """Every function, method and class of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_function_that_a_document_names_is_where_it_says(page: Path) -> None:
    for file, name in re.findall(r"`((?:vault|cli|web)/[\w/]+\.py):(\w+)`", page.read_text()):
        assert name in defined_in(ROOT / file), f"{page.name} names {file}:{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_a_document_names_is_there(page: Path) -> None:
    for file in re.findall(r"`((?:vault|cli|web|docs|tests)/[\w/.-]+\.(?:py|md|json))[:`]", page.read_text()):
        assert (ROOT / file).exists(), f"{page.name} names {file}"


def test_the_architecture_walks_through_a_check_in_a_silence_and_a_recovery() -> None:
    for title in ("## A check-in", "## A silence", "## A recovery"):
        walk = TEXT.partition(title)[2].partition("\n## ")[0]
        assert len(re.findall(r"`(?:vault|cli|web)/[\w/]+\.py:\w+`", walk)) >= 10, title


def test_the_architecture_draws_the_switch_from_its_table() -> None:
    assert f"```mermaid\n{diagram()}```" in TEXT


def test_the_table_of_floors_has_every_room_of_the_core_and_no_other() -> None:
    table = TEXT.partition("| floor | rooms |")[2].partition("\n\n")[0]
    rooms = [line.split(" | ")[1] for line in table.splitlines()[2:]]
    named = re.findall(r"`(\w+)`", " ".join(rooms))
    assert sorted(named) == sorted(
        path.stem for path in (ROOT / "vault").glob("*.py") if path.stem != "__init__"
    )
    for folder in ("vault/storage/", "vault/couriers/", "web/", "cli/"):
        assert f"`{folder}`" in table


def test_the_floors_stand_in_the_order_of_the_import_rule() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each for each in rules if each["type"] == "layers")["layers"]
    depth = {name: at for at, layer in enumerate(layers) for name in re.findall(r"vault\.(\w+)", layer)}
    table = TEXT.partition("| floor | rooms |")[2].partition("\n\n")[0]
    above = -1
    for line in table.splitlines()[2:]:
        floor = [
            depth[name] for name in re.findall(r"`(?:vault/)?(\w+)/?`", line.split(" | ")[1]) if name in depth
        ]
        if floor:
            assert min(floor) > above, line
            above = max(floor)


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_every_decision_says_context_choice_and_what_is_given_up(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# ")
    for part in ("**Context.**", "**Choice.**", "**What we give up.**"):
        assert part in text, part
