"""The house keeps its own rules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
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


def test_every_code_that_the_web_gives_by_itself_is_explained_too() -> None:
    from web import problems

    given = {code for code, _ in problems.BY_STATUS.values()} | set(problems.BY_CODE) | {"bug", "no-space"}
    assert given - documented() == set()
