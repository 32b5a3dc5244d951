"""Every reader of what others wrote, under bytes made to hurt it.

Rule of this room: a reader answers with what it was given or with one of our own errors, in little memory and time;
and where a room promises that what it accepts is written back byte for byte, that is asked each time.
"""

import resource
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fire import tally
from tests.fire.mutations import mutate
from tests.fire.readers import KEY, Parser, accepts, as_signed, below, parsers
from vault import statements, wire
from vault.errors import AfterwordError, Malformed
from web.examples import EXAMPLES

MOST_MEMORY: Final = 384 * 1024
"""KiB by which reading may grow a process, ever; a scrypt of ours is a fortieth of it."""
MOST_SECONDS: Final = 3.0
"""Of processor time, for one input of at most 64 KiB."""


def run(parser: Parser, number: int) -> bool:
    """One hostile input; whether it was accepted. Raises what the reader should not."""
    data = mutate(parser.name, number, parser.samples)
    # Every fourth is left without its wrapping: then it has to be refused for what it is.
    if number % 4 or parser.wrap is bytes:
        data = parser.wrap(data)
    begun = time.thread_time()
    try:
        return accepts(parser, data)
    finally:
        spent = time.thread_time() - begun
        assert spent < MOST_SECONDS, f"{parser.name} {number}: {spent:.1f} s"


@pytest.mark.parametrize("name", parsers())
def test_what_is_hostile_is_refused_in_a_sentence_and_what_is_accepted_is_written_back(name: str) -> None:
    parser = parsers()[name]
    for sample in parser.samples[:1]:
        parser.read(parser.wrap(sample))  # that the samples are what they should be
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = tally.size(parser.short, parser.full)
    accepted = 0
    for number in range(many):
        try:
            accepted += run(parser, number)
        except Exception as wrong:
            raise AssertionError(f"mutate({name!r}, {number}, …): {type(wrong).__name__}: {wrong}") from wrong
    assert 0 < accepted <= many - (not parser.takes_all), "samples come through, and not everything else"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_MEMORY, f"{name} took {grown} KiB"
    tally.count("hostile inputs", many)


def test_every_statement_and_every_body_is_among_them() -> None:
    found = set(parsers())
    assert {f"statement: {kind}" for kind in statements.KINDS} <= found
    asked = {each.__name__ for each in below(wire.Request)}
    assert {f"body: {kind}" for kind in asked} <= found
    assert {f"body: {type(each).__name__}" for each in EXAMPLES} <= found


def test_a_reader_that_lets_another_error_out_is_found() -> None:
    def careless(data: bytes) -> Any:
        return msgspec.json.decode(data, type=statements.Arm)

    parser = Parser("statement: arm", careless, parsers()["statement: arm"].samples)
    with pytest.raises(msgspec.DecodeError):
        sum(run(parser, number) for number in range(2_000))


def test_a_reader_that_takes_two_spellings_is_found() -> None:
    def lax(data: bytes) -> Any:
        try:
            return msgspec.json.decode(data, type=statements.Arm)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Malformed("No.") from None

    parser = Parser("statement: arm", lax, parsers()["statement: arm"].samples, write=msgspec.json.encode)
    with pytest.raises(AssertionError, match="written otherwise"):
        sum(run(parser, number) for number in range(2_000))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(
    max_examples=tally.size(150, 20_000),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(value=json_values)
def test_no_json_at_all_makes_a_reader_fail_in_another_way(value: Any) -> None:
    try:
        data = msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, ValueError):
        return
    for kind, read in statements.KINDS.items():
        with_typed_errors(lambda: statements.read(as_signed(kind, data), KEY.verify_key, read))  # noqa: B023
    for each in EXAMPLES:
        with_typed_errors(lambda: wire.read(data, type(each)))  # noqa: B023
    tally.count("hostile inputs", len(statements.KINDS) + len(EXAMPLES))


def with_typed_errors(read: Callable[[], Any]) -> None:
    try:
        read()
    except AfterwordError:
        return
