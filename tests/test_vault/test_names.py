import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vault import names
from vault.errors import Malformed

VECTORS = sorted((Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "tree").glob("name-*.txt"))

awkward = st.text(
    st.one_of(
        st.sampled_from("aZé%0fF.\u200d\u200c\ufe0f\u202e\n :\\CONcomnul1¹~/"),
        st.characters(exclude_categories=[]),
    ),
    max_size=40,
)
paths = st.lists(awkward.filter(lambda name: "/" not in name), min_size=1, max_size=4).map("/".join)


def fields(path: Path) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_name_vectors_hold(path: Path) -> None:
    found = fields(path)
    if "bytes" in found:
        name, changed = names.name_from_bytes(bytes.fromhex(found["bytes"]))
        assert (name, changed) == (json.loads(found["name"]), json.loads(found["changed"]))
    elif found["expect"] == "ok":
        assert names.safe_name(json.loads(found["path"])) == json.loads(found["safe"])
    else:
        with pytest.raises(Malformed):
            names.safe_name(json.loads(found["path"]))


def clean(path: str) -> bool:
    try:
        names.check_path(path)
    except Malformed:
        return False
    return True


@given(paths)
def test_a_safe_name_is_a_clean_relative_path_every_system_can_write(path: str) -> None:
    assume(clean(path))
    safe = names.safe_name(path)
    names.check_path(safe)
    assert safe.count("/") == path.count("/")
    for component in safe.split("/"):
        assert len(component.encode()) <= 255
        assert not set(component) & set('<>:"\\|?*')
        assert component[-1] not in ". "
        assert component.split(".")[0].strip().upper() not in {
            "CON",
            "PRN",
            "AUX",
            "NUL",
            "COM1",
            "LPT9",
            "COM¹",
        }
        assert not any(unicodedata.category(ch) in {"Cc", "Zl", "Zp"} for ch in component)
        assert not any("\u202a" <= ch <= "\u202e" or "\u2066" <= ch <= "\u2069" for ch in component)


@given(paths, paths)
def test_two_paths_never_become_one(a: str, b: str) -> None:
    assume(clean(a) and clean(b) and a != b)
    assert names.safe_name(a) != names.safe_name(b)


@given(paths)
def test_making_a_path_safe_twice_escapes_only_the_escapes(path: str) -> None:
    assume(clean(path))
    safe = names.safe_name(path)
    if "%" not in safe:
        assert names.safe_name(safe) == safe


@given(st.text("abc é%ü.-_ж", min_size=1, max_size=30).filter(lambda name: name.strip(" .") == name))
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assume(clean(name) and not names._LOOKS_ESCAPED.search(name))
    assert names.safe_name(name) == name


@given(st.binary(min_size=1, max_size=255).filter(lambda raw: b"/" not in raw and b"\0" not in raw))
def test_every_name_linux_can_hold_is_a_name_a_tree_can_hold(raw: bytes) -> None:
    name, changed = names.name_from_bytes(raw)
    assert clean(name) or name in {".", ".."}
    assert changed or name.encode() == raw
    assert changed == (os.fsdecode(raw) != name)


def test_long_names_keep_their_suffix_and_stay_apart() -> None:
    first, second = (names.safe_name("я" * 400 + end + ".pdf") for end in "12")
    assert first != second
    assert first.endswith(".pdf")
    assert len(first.encode()) <= 255


@pytest.mark.parametrize("wrong", ["/a", "a/", "a//b", "../a", "a/..", ".", "", "a\0", "\ud800", "x" * 1021])
def test_a_refusal_never_repeats_the_name(wrong: str) -> None:
    with pytest.raises(Malformed) as refused:
        names.check_path(wrong)
    assert "xxx" not in str(refused.value)
