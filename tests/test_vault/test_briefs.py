from pathlib import Path
from typing import Any

import pytest

from vault import briefs
from vault.errors import Malformed, Refused

VECTORS = Path(__file__).parents[2] / "docs/spec/vectors/brief"


def vectors() -> list[Any]:
    def read(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return {key: value for key, _, value in (line.partition(": ") for line in lines)}

    return [pytest.param(read(path), id=path.stem) for path in sorted(VECTORS.glob("*.txt"))]


@pytest.mark.parametrize("vector", vectors())
def test_a_brief_reads_only_as_it_was_written(vector: dict[str, str]) -> None:
    text = bytes.fromhex(vector["hex"].strip())
    plaintext = text.ljust(int(vector["size"]), bytes.fromhex(vector["then"]))
    if vector["expect"] == "ok":
        assert briefs.write_brief(briefs.read_brief(plaintext)) == plaintext
        return
    with pytest.raises(Malformed):
        briefs.read_brief(plaintext)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 8192, 20_000, 65_536])
def test_the_length_of_a_brief_tells_only_a_power_of_two(size: int) -> None:
    written = briefs.write_brief("x" * size)
    assert len(written) in {4096 << doublings for doublings in range(5)}
    assert len(written) < 2 * max(size, 2049)


@pytest.mark.parametrize("text", ["", " \n", "a\0b", "a\ud800", "x" * 65_537])
def test_what_no_colleague_could_read_is_refused_before_it_is_sealed(text: str) -> None:
    with pytest.raises(Refused):
        briefs.write_brief(text)
