import pytest

from cli.naming import dossier_called, folded
from vault.errors import BadUsage

KNOWN = [
    ("one", "aaaa1111", "Harbour"),
    ("two", "aaaa2222", None),
    ("three", "bbbb3333", "Vac\u00edo"),
    ("four", "bbbb4444", "vaci\u0301o"),
]


def test_case_composition_and_spaces_around_make_no_difference() -> None:
    assert folded(" VACI\u0301O ") == folded("vac\u00edo")
    assert dossier_called(" hARBOUR", KNOWN) == "one"


def test_what_has_no_title_is_called_by_the_beginning_of_its_id() -> None:
    assert dossier_called("aaaa2", KNOWN) == "two"
    assert dossier_called("aaa", KNOWN) is None
    assert dossier_called("nothing", KNOWN) is None


def test_a_title_that_looks_like_an_id_is_a_title_first() -> None:
    assert dossier_called("aaaa1111", [*KNOWN, ("five", "cccc", "aaaa1111")]) == "five"


@pytest.mark.parametrize("typed", ["vac\u00edo", "aaaa"])
def test_of_several_none_is_guessed(typed: str) -> None:
    with pytest.raises(BadUsage) as several:
        dossier_called(typed, KNOWN)
    assert several.value.code == "ambiguous"
