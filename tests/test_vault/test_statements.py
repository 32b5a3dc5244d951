"""Signed statements: every kind comes back as it was, and nothing is read that could have been written otherwise."""

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import envelope, statements
from vault.envelope import SigningKey, VerifyKey
from vault.errors import Malformed, Untrusted
from vault.statements import Arm, SealedTo, Statement

DOCS = Path(__file__).parents[2] / "docs/spec"
REFUSALS = {"malformed": Malformed, "untrusted": Untrusted}
KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(32, 64)))
KINDS = sorted(statements.KINDS)
# Texts whose form another room reads: cards, recipients, and the root of a head.
FREE = {"card", "recipient", "root"}


def read_vector(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return dict(line.split(": ", 1) for line in lines)


VECTORS = {path.stem: read_vector(path) for path in sorted((DOCS / "vectors/statements").glob("*.txt"))}
GOOD = {name: vector for name, vector in VECTORS.items() if vector["expect"] == "ok"}


def signed(kind: str, payload: bytes, key: SigningKey = KEY) -> bytes:
    """An envelope whose signature holds around a payload that no writer would have made."""
    return envelope.sign(kind, payload, key)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def compact_or_empty(value: object) -> bytes:
    try:
        return compact(value)
    except UnicodeEncodeError:  # half surrogates have no bytes to be signed
        return b""


# Vectors


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_say_what_they_expect(name):
    vector = VECTORS[name]
    kind, key = statements.KINDS[vector["kind"]], VerifyKey.read(vector["verify"])
    if vector["expect"] != "ok":
        with pytest.raises(REFUSALS[vector["expect"]]):
            statements.read(vector["envelope"].encode(), key, kind)
        return
    read = statements.read(vector["envelope"].encode(), key, kind)
    seed = SigningKey(bytes.fromhex(vector["seed"]))
    assert statements.write(read, seed).decode() == vector["envelope"]
    assert statements.peek(vector["envelope"].encode()) == read
    assert envelope.write_payload(read).decode() == vector["payload"]
    assert envelope.statement_hash(vector["envelope"].encode()).hex() == vector["hash"]


def test_every_kind_has_a_vector_and_more_vectors_fail_than_succeed():
    assert {vector["kind"] for vector in GOOD.values()} == set(statements.KINDS)
    assert len(VECTORS) > 2 * len(GOOD)


# What the document says


def tables() -> dict[str, list[str]]:
    """Section by section of the document: the keys in the first column of its table."""
    text = (DOCS / "statements-v1.md").read_text(encoding="utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    return {
        found[1]: re.findall(r"^\| `([a-z]+)` \|", section, flags=re.MULTILINE)
        for section in sections
        if (found := re.match(r"`?([a-z ]+)`?", section))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_document_lists_the_keys_of_every_kind_in_their_order(kind):
    assert tables()[kind] == list(statements.KINDS[kind].__struct_fields__)


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("dwells", statements.Dwells),
        ("collaborator", statements.Collaborator),
        ("custodian", statements.Custodian),
        ("reader", SealedTo),
        ("covered", statements.Covered),
    ],
)
def test_the_document_lists_the_keys_of_nested_objects_too(name, struct):
    assert tables()[name] == list(struct.__struct_fields__)


def test_there_are_the_kinds_of_the_design_and_none_is_for_both_people_and_servers():
    people = "login roster brief head arm checkin pause resume plan destroy cancel proof contribution collected leave"
    assert [each.kind for each in statements.PEOPLE] == [*people.split(), "hold"]
    assert [each.kind for each in statements.SERVERS] == ["acknowledgement", "release"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_key_may_be_left_out_of_any_kind(kind):
    assert not any(
        field.default is not msgspec.NODEFAULT for field in msgspec.structs.fields(statements.KINDS[kind])
    )


# Every key of every kind, spoilt in turn


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def put(value: Any, path: tuple[str | int, ...], new: object) -> Any:  # any JSON there is
    first, rest = path[0], path[1:]
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[first] = put(value[first], rest, new) if rest else new
    return changed


def spoilt(path: tuple[str | int, ...], value: object) -> Iterator[object]:
    """Values that no writer puts in this place."""
    yield {}
    match value:
        case bool():
            yield from (0, 1, "true", None)
        case int():
            yield from (float(value), 2**53, -1, str(value), True, None, [])
        case str() if path[-1] not in FREE:
            yield from (value.upper(), value + "\n", value[:-1], value + "0", "", " " + value[1:], 0, ["a"])
        case str():
            yield from (0, True, None, ["a"])
        case None:
            yield from (0, False, "", "null", "0" * 63, [])
        case list():
            yield from (None, "", 0, [0], [None])
        case dict():
            yield from (None, [], list(value.values()))


def refused(kind: type[Statement], payload: bytes) -> bool:
    for read in (
        lambda envelope: statements.read(envelope, KEY.verify_key, kind),
        lambda envelope: statements.peek(envelope),
    ):
        try:
            read(signed(kind.kind, payload))
        except Malformed:
            continue
        return False
    return True


@pytest.mark.parametrize("name", GOOD)
def test_no_key_takes_a_value_of_another_form(name):
    kind, payload = statements.KINDS[GOOD[name]["kind"]], json.loads(GOOD[name]["payload"])
    for path, value in places(payload):
        for wrong in spoilt(path, value):
            # Hexadecimal without a letter in it is its own capital, and `replace` is null in most heads.
            if (wrong == value and type(wrong) is type(value)) or (path[-1] == "replace" and wrong is None):
                continue
            assert refused(kind, compact(put(payload, path, wrong))), (path, wrong)


@pytest.mark.parametrize("name", GOOD)
def test_no_object_takes_a_key_more_or_less_or_twice_or_elsewhere(name):
    kind, payload = statements.KINDS[GOOD[name]["kind"]], json.loads(GOOD[name]["payload"])
    objects = [(path, value) for path, value in places(payload) if isinstance(value, dict)]
    for path, value in [((), payload), *objects]:
        members = list(value.items())
        changes = [[*members, ("more", 1)], [("", 1), *members], [*reversed(members)]]
        for at, member in enumerate(members):
            changes += [members[:at] + members[at + 1 :], [*members[: at + 1], *members[at:]]]
            changes.append([*members[:at], (member[0].upper(), member[1]), *members[at + 1 :]])
        for changed in changes:
            text = ",".join(f"{compact(key).decode()}:{compact(inner).decode()}" for key, inner in changed)
            mark = "@@here@@"
            whole = compact(put(payload, path, mark)).decode() if path else f'"{mark}"'
            assert refused(kind, whole.replace(f'"{mark}"', "{" + text + "}").encode()), text


@pytest.mark.parametrize("name", GOOD)
def test_no_statement_is_read_under_another_key_or_as_another_kind(name):
    vector = GOOD[name]
    bytes_, key = vector["envelope"].encode(), VerifyKey.read(vector["verify"])
    with pytest.raises(Untrusted):
        statements.read(bytes_, OTHER.verify_key, statements.KINDS[vector["kind"]])
    for kind in set(KINDS) - {vector["kind"]}:
        with pytest.raises(Untrusted):
            statements.read(bytes_, key, statements.KINDS[kind])


# Bounds that would make long vectors


def many(count: int) -> tuple[SealedTo, ...]:
    return tuple(SealedTo(f"{number:064x}", f"{number:064x}") for number in range(count))


@functools.cache
def longest(kind: str) -> tuple[Callable[[int], Statement], int]:
    """Makes a statement whose list has so many entries, and how many are allowed."""
    read = {vector["kind"]: vector for vector in reversed(GOOD.values())}[kind]
    model = statements.read(read["envelope"].encode(), VerifyKey.read(read["verify"]), statements.KINDS[kind])
    entries: dict[str, tuple[str, Callable[[int], tuple[object, ...]], int]] = {
        "brief": ("readers", many, 256),
        "contribution": ("readers", many, 255),
        "head": ("objects", lambda count: tuple(f"{number:064x}" for number in range(count)), 4096),
        "checkin": (
            "dossiers",
            lambda count: tuple(
                statements.Covered(f"{number:032x}", 2**53 - 1, f"{number:064x}") for number in range(count)
            ),
            1000,
        ),
    }
    key, make, most = entries[kind]
    return lambda count: msgspec.structs.replace(model, **{key: make(count)}), most


@pytest.mark.parametrize("kind", ["brief", "contribution", "head", "checkin"])
def test_the_longest_list_is_written_and_one_more_is_not(kind):
    make, most = longest(kind)
    assert statements.read(statements.write(make(most), KEY), KEY.verify_key, statements.KINDS[kind]) == make(
        most
    )
    with pytest.raises(Malformed):
        statements.write(make(most + 1), KEY)


def test_a_roster_of_255_people_with_the_longest_cards_fits_an_envelope():
    vector = GOOD["roster-of-the-second-epoch"]
    roster = statements.read(vector["envelope"].encode(), VerifyKey.read(vector["verify"]), statements.Roster)
    line = roster.collaborators[0]
    people = tuple(msgspec.structs.replace(line, index=index, card="c" * 4096) for index in range(1, 256))
    written = statements.write(msgspec.structs.replace(roster, collaborators=people), KEY)
    assert len(written) <= envelope.MAX_ENVELOPE
    with pytest.raises(Malformed):
        statements.write(msgspec.structs.replace(roster, collaborators=(*people, line)), KEY)


# A writer that was given nonsense


def test_nothing_is_written_that_would_be_refused():
    good = Arm("0" * 64, "0" * 32, 1, 1, False, 0)
    for wrong in ({"seq": 0}, {"dossier": "A" * 32}, {"created": 2**53}, {"anyway": 1}, {"epoch": 1.0}):
        with pytest.raises(Malformed):
            statements.write(msgspec.structs.replace(good, **wrong), KEY)


def test_peek_knows_no_other_kinds_and_does_not_read_cards():
    for kind in ("card", "farewell"):
        with pytest.raises(Malformed):
            statements.peek(signed(kind, b"{}"))


# Properties


def any_of(
    type_: msgspec.inspect.Type,
) -> st.SearchStrategy[Any]:  # a strategy for whatever type it is asked for
    """Values of a key, from its declaration."""
    match type_:
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.IntType(ge=low, lt=bound, le=high):
            return st.integers(low, bound - 1 if bound is not None else high)
        case msgspec.inspect.StrType(pattern=pattern):
            digits = re.search(r"\{(\d+)\}", pattern or "")
            if digits is None:
                return st.text(max_size=40)
            return st.binary(min_size=int(digits[1]) // 2, max_size=int(digits[1]) // 2).map(bytes.hex)
        case msgspec.inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case msgspec.inspect.UnionType(types=types):
            return st.one_of(*map(any_of, types))
        case msgspec.inspect.VarTupleType(item_type=item, min_length=least):
            return st.lists(any_of(item), min_size=least or 0, max_size=3).map(tuple)
        case msgspec.inspect.StructType(cls=struct, fields=fields):
            return st.builds(struct, **{field.name: any_of(field.type) for field in fields})
    raise AssertionError(type_)


any_statement = st.sampled_from(KINDS).flatmap(
    lambda kind: any_of(msgspec.inspect.type_info(statements.KINDS[kind]))
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=12,
)


@given(any_statement)
def test_what_is_written_is_read_back_whoever_signs(statement):
    written = statements.write(statement, KEY)
    read = statements.read(written, KEY.verify_key, type(statement))
    assert read == statement
    assert type(read) is type(statement)
    assert statements.peek(written) == statement
    assert statements.write(read, KEY) == written


@given(st.binary(max_size=400), st.sampled_from(KINDS))
def test_garbage_is_malformed_and_nothing_worse(garbage, kind):
    with pytest.raises(Malformed):
        statements.read(garbage, KEY.verify_key, statements.KINDS[kind])
    with pytest.raises(Malformed):
        statements.peek(garbage)


@given(st.binary(max_size=200) | any_json.map(compact_or_empty), st.sampled_from(KINDS))
def test_garbage_with_a_good_signature_is_malformed_too(payload, kind):
    assert refused(statements.KINDS[kind], payload)


@settings(deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_statement_with_one_byte_changed_is_refused(name, data):
    vector = GOOD[name]
    whole = bytearray(vector["envelope"].encode())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Malformed, Untrusted)):
        statements.read(bytes(whole), VerifyKey.read(vector["verify"]), statements.KINDS[vector["kind"]])


@settings(deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_whatever_payload_is_read_is_written_again_byte_for_byte(name, data):
    vector = GOOD[name]
    payload = bytearray(vector["payload"].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        new = data.draw(st.sampled_from([b"0", b"a", b" ", b'"', b",", b"", b"1.0", b"\n"]))
        payload[at : at + data.draw(st.integers(0, 2))] = new
    bytes_ = signed(vector["kind"], bytes(payload))
    try:
        read = statements.read(bytes_, KEY.verify_key, statements.KINDS[vector["kind"]])
    except Malformed:
        return
    assert statements.write(read, KEY) == bytes_
