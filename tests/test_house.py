"""The house keeps its own rules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "docs" / "spec").glob("*-v1.md"))
VECTORS = sorted(path for path in (ROOT / "docs" / "spec" / "vectors").iterdir() if path.name != "foreign")
HEADINGS = [
    "What it is",
    "Format",
    "Writing",
    "Reading (and what must be rejected)",
    "Example",
    "Security",
    "Rationale",
]
SOURCES = sorted(path for package in ("vault", "cli", "web") for path in (ROOT / package).rglob("*.py"))


def codes(source: Path) -> Iterator[str]:
    """Every stable code that this file can give to an error."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                yield code
            case ast.ClassDef(body=body):
                for line in body:
                    match line:
                        case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                            yield code


def documented() -> set[str]:
    rows = re.findall(
        r"^\| (`[^|]+) \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return {code for row in rows for code in re.findall(r"`([a-z0-9-]+)`", row)}


def test_every_code_of_an_error_is_explained_to_people() -> None:
    missing = {code: source.name for source in SOURCES for code in codes(source)}
    assert {code: where for code, where in missing.items() if code not in documented()} == {}


def test_every_code_on_the_page_of_codes_is_one_that_the_program_knows() -> None:
    known = {
        node.value
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert documented() - known == set()


def test_every_code_that_the_web_gives_by_itself_is_explained_too() -> None:
    from web import problems

    given = {code for code, _ in problems.BY_STATUS.values()} | set(problems.BY_CODE) | {"bug", "no-space"}
    assert given - documented() == set()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_every_format_is_told_under_the_same_headings(spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    told = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(len(part.split()) >= 5 for part in told), "a heading with next to nothing under it"


def test_every_format_has_vectors_and_no_vector_is_without_a_format() -> None:
    named = {spec.stem: re.findall(r"vectors/(\w+)/", spec.read_text(encoding="utf-8")) for spec in SPECS}
    # The API is no format of bytes: its examples are in openapi.json.
    assert {name for name, folders in named.items() if not folders} == {"api-v1"}
    assert {path.name for path in VECTORS} | {"foreign"} == {
        each for folders in named.values() for each in folders
    }


@pytest.mark.parametrize("folder", VECTORS, ids=lambda folder: folder.name)
def test_more_vectors_fail_than_succeed_and_each_says_in_a_sentence_what_it_shows(folder: Path) -> None:
    vectors = {path.name: path.read_text(encoding="utf-8").splitlines() for path in folder.iterdir()}
    assert [name for name in vectors if not re.fullmatch(r"[a-z0-9-]+\.txt", name)] == []
    assert [name for name, lines in vectors.items() if not lines[0].startswith("expect: ")] == []
    assert [name for name, lines in vectors.items() if not re.match(r"about: \S", lines[1])] == []
    good = sum(lines[0] == "expect: ok" for lines in vectors.values())
    assert 0 < good < len(vectors) - good


@pytest.mark.parametrize("folder", VECTORS, ids=lambda folder: folder.name)
def test_every_folder_of_vectors_is_read_by_a_test(folder: Path) -> None:
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    reading = [text for text in tests if "vectors" in text and re.search(rf"[\"'/]{folder.name}[\"'/]", text)]
    assert reading
