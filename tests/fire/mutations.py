"""What an enemy does to bytes: flips, cuts, splices, and what only a parser of JSON or base64 would fall for.

Rule of this room: deterministic. The same name and number give the same bytes on every machine, so that whatever a
test found can be found again.
"""

import base64
import binascii
import random
import re
from collections.abc import Callable, Sequence
from typing import Final

LONGEST: Final = 64 * 1024
"""What a mutation may grow a small sample to."""
_DEEP: Final = 20_000
# What parsers fall over.
_BITS: Final = (
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b" ",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"{}",
    b"-",
    b"--",
    b"-0",
    b"0x10",
    b"1e999",
    b"-1e-999",
    b"NaN",
    b"Infinity",
    b"0.5",
    b"00",
    b"9007199254740992",
    b"-9007199254740993",
    b"18446744073709551616",
    b"9" * 400,
    b"=",
    b"==",
    b"AA==",
    b"/../",
    b"..",
    b"%00",
    b"\xe2\x80\xae",
    b"age-encryption.org/v1\n",
    b"-> ",
    b"--- ",
    b"-> scrypt AAAA 1\n",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"\x1f\x8b",
)
_NUMBER: Final = re.compile(rb"-?\d+")
_MEMBER: Final = re.compile(rb'"[a-zA-Z_0-9]{1,40}":(?:"[^"\\]*"|-?\d+|null|true|false)')
_KEY: Final = re.compile(rb'"([a-zA-Z_0-9]{1,40})":')
_VALUE: Final = re.compile(rb'(?<=:)(?:"[^"\\]*"|-?\d+|null|true|false)')
_STRING: Final = re.compile(rb'"[^"\\]{0,400}"')
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def mutate(name: str, number: int, samples: Sequence[bytes]) -> bytes:
    """The `number`th hostile input of this name; every tenth is small and made of nothing but chance."""
    chance = random.Random(f"{name}/{number}")
    if number % 10 == 9:
        return b"".join(
            chance.choice([*_BITS, chance.randbytes(chance.randrange(9))])
            for _ in range(chance.randrange(12))
        )
    data = chance.choice(samples)
    for _ in range(1 + (chance.random() < 0.3) + 3 * (chance.random() < 0.1)):
        data = chance.choice(MUTATIONS)(chance, data, samples)
    return data if len(data) <= max(LONGEST, 2 * max(map(len, samples))) else data[:LONGEST]


def _flip(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x01"
    made = bytearray(data)
    for _time in range(chance.choice((1, 1, 1, 2, 8))):
        made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    return bytes(made)


def _set(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    place = chance.randrange(len(data))
    return (
        data[:place]
        + bytes([chance.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
        + data[place + 1 :]
    )


def _cut(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(chance, data)
    return chance.choice((data[:start], data[start:], data[:start] + data[stop:], data[:-1], data[1:]))


def _repeat(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(chance, data)
    return data[:stop] + data[start:stop] * chance.choice((1, 1, 2, 50)) + data[stop:]


def _swap(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    a, b = _span(chance, data)
    c, d = _span(chance, data)
    a, b, c, d = sorted((a, b, c, d))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _splice(chance: random.Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    other = chance.choice(samples)
    start, _ = _span(chance, data)
    from_there, to_there = _span(chance, other)
    return chance.choice(
        (data[:start] + other[from_there:], data[:start] + other[from_there:to_there] + data[start:])
    )


def _insert(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    place = chance.choice((0, len(data), chance.randrange(len(data) + 1)))
    return data[:place] + chance.choice(_BITS) + data[place:]


def _overwrite(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    bit = chance.choice(_BITS)
    place = chance.randrange(len(data) + 1)
    return data[:place] + bit + data[place + len(bit) :]


def _number(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    wild = (
        b"0",
        b"-1",
        b"1",
        b"1.0",
        b"1e3",
        b"-0",
        b"9007199254740991",
        b"9007199254740992",
        b"-9007199254740992",
        b"4294967296",
        b"18446744073709551615",
        b"18446744073709551616",
        b"9" * 4_000,
        b"1" + b"0" * 300 + b".0",
        b'"1"',
        b"null",
        b"true",
        b"[]",
        b"01",
        b"255",
        b"256",
        b"65536",
    )
    return _replace_one(chance, _NUMBER, data, chance.choice(wild))


def _value(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    deep = chance.choice((b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, b"[" * _DEEP))
    wild = (
        b"null",
        b"true",
        b'""',
        b"{}",
        b"[]",
        b"[null]",
        b"0",
        b"-1",
        b'"\\u0000"',
        b'"\\ud800"',
        b'"' + b"x" * 30_000 + b'"',
        deep,
        b'"' + chance.randbytes(8) + b'"',
        b"1e400",
    )
    return _replace_one(chance, _VALUE, data, chance.choice(wild))


def _member_twice(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(_MEMBER.finditer(data))
    if not found:
        return data + b" "
    one, other = chance.choice(found), chance.choice(found)
    return data[: one.end()] + b"," + other[0] + data[one.end() :]


def _swap_values(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(_VALUE.finditer(data))
    if len(found) < 2:
        return data[::-1]
    one, other = sorted(chance.sample(found, 2), key=lambda each: each.start())
    return data[: one.start()] + other[0] + data[one.end() : other.start()] + one[0] + data[other.end() :]


def _key(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    keys = [each[1] for each in _KEY.finditer(data)] or [b"x"]
    wild = (
        b"unknown",
        b"",
        b"__proto__",
        chance.choice(keys),
        chance.choice(keys).upper(),
        b"\\u0061",
        b"\xff",
    )
    return _replace_one(chance, _KEY, data, b'"' + chance.choice(wild) + b'":')


def _unknown_key(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """First of all, before a known one, and as deep as may be."""
    value = chance.choice(
        (b"1", b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, b'"\xff"', b"9" * 4_000)
    )
    return data.replace(b"{", b'{"unknown":' + value + b",", 1)


def _string(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    wild = (
        b'""',
        b'"\\u0041"',
        b'"' + chance.randbytes(5) + b'"',
        b'"\xed\xa0\x80"',
        b'"\\uD834"',
        b'"' + b"\\\\" * 500 + b'"',
        b"7",
        b'"\xe2\x80\xae"',
        b'"' + "٣".encode() * 32 + b'"',
        b'"' + b"0" * 64 + b'\\n"',
    )
    return _replace_one(chance, _STRING, data, chance.choice(wild))


def _inside_base64(chance: random.Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    found = list(_BASE64.finditer(data))
    if not found:
        return _flip(chance, data, samples)
    one = chance.choice(found)
    try:
        inner = base64.b64decode(one[0], validate=True)
    except (binascii.Error, ValueError):
        return _flip(chance, data, samples)
    plain = [each for each in MUTATIONS if each is not _inside_base64]
    return (
        data[: one.start()]
        + base64.b64encode(chance.choice(plain)(chance, inner, [inner]))
        + data[one.end() :]
    )


def _base64_otherwise(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """The same bytes, spelled in another way."""
    found = list(_BASE64.finditer(data))
    if not found:
        return data + b"\n"
    one = chance.choice(found)
    other = chance.choice(
        (
            one[0].rstrip(b"="),
            one[0] + b"=",
            one[0][:8] + b"\n" + one[0][8:],
            one[0].replace(b"+", b"-").replace(b"/", b"_"),
            one[0][:-1] + bytes([one[0][-1] ^ 1]),
            one[0] + b"\0",
            b" " + one[0],
        )
    )
    return data[: one.start()] + other + data[one.end() :]


def _case(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(chance, data)
    return data[:start] + data[start:stop].swapcase() + data[stop:]


def _length(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Four bytes that might be a length."""
    place = chance.randrange(len(data) + 1)
    wild = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(data), len(data) + 1, chance.getrandbits(32)))
    return data[:place] + wild.to_bytes(4, chance.choice(("big", "little"))) + data[place + 4 :]


def _itself(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data


MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip,
    _flip,
    _flip,
    _set,
    _cut,
    _cut,
    _repeat,
    _swap,
    _splice,
    _splice,
    _insert,
    _insert,
    _overwrite,
    _number,
    _number,
    _value,
    _value,
    _member_twice,
    _swap_values,
    _key,
    _unknown_key,
    _string,
    _inside_base64,
    _base64_otherwise,
    _case,
    _length,
    _itself,
)


def _span(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 4, 32, chance.randrange(len(data) + 1))))


def _replace_one(chance: random.Random, what: re.Pattern[bytes], data: bytes, by: bytes) -> bytes:
    found = list(what.finditer(data))
    if not found:
        return data + by
    one = chance.choice(found)
    return data[: one.start()] + by + data[one.end() :]
