from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import titles
from vault.errors import AfterwordError, Malformed, Refused, Untrusted

VECTORS = Path(__file__).parents[2] / "docs/spec/vectors/title"
DOSSIER = "ab" * 16


def vectors() -> list[Any]:
    def read(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return {key: value for key, _, value in (line.partition(": ") for line in lines)}

    return [pytest.param(read(path), id=path.stem) for path in sorted(VECTORS.glob("*.txt"))]


@pytest.mark.parametrize("vector", vectors())
def test_a_title_reads_only_as_it_was_written_and_for_its_own_dossier(vector: dict[str, str]) -> None:
    plaintext = vector["text"].encode() + bytes(int(vector["zeros"]))
    if vector["expect"] == "ok":
        title = titles.read_title(plaintext, vector["dossier"])
        assert titles.write_title(vector["dossier"], title) == plaintext
        return
    with pytest.raises({"malformed": Malformed, "untrusted": Untrusted}[vector["expect"]]) as refused:
        titles.read_title(plaintext, vector["dossier"])
    assert "Harbour" not in str(refused.value)


def test_more_vectors_fail_than_succeed() -> None:
    expected = [vector.values[0]["expect"] for vector in vectors()]
    assert expected.count("ok") < len(expected) / 2


@given(st.text(st.characters(codec="utf-8"), max_size=33))
def test_every_title_has_one_length_and_comes_back(title: str) -> None:
    written = titles.write_title(DOSSIER, title)
    assert len(written) == titles.SIZE
    assert titles.read_title(written, DOSSIER) == title


@given(st.binary(max_size=600))
def test_garbage_is_no_title_and_nothing_worse(plaintext: bytes) -> None:
    with pytest.raises(AfterwordError):
        titles.read_title(plaintext, DOSSIER)


@pytest.mark.parametrize("title", ["x" * 201, "\ud800", "ü" * 101])
def test_what_does_not_fit_is_refused_before_it_is_sealed(title: str) -> None:
    with pytest.raises(Refused):
        titles.write_title(DOSSIER, title)
