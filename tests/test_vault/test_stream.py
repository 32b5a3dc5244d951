import hashlib
import io
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import age, stream
from vault.errors import Malformed, Refused, Untrusted
from vault.stream import OBJECT_SIZE, SLICE_SIZE, StreamWriter

VECTORS = Path(__file__).parents[2] / "docs" / "spec" / "vectors"
EXPECTED = {"malformed": Malformed, "untrusted": Untrusted}
ME = age.Identity(hashlib.sha256(b"me").digest())


def vectors(folder: str) -> list[Path]:
    return sorted((VECTORS / folder).glob("*.txt"))


def lines_of(path: Path) -> list[tuple[str, str]]:
    pairs = [line.split(":", 1) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert [key for key, _ in pairs[:2]] == ["expect", "about"]
    return [(key, value.removeprefix(" ")) for key, value in pairs]


def verdict(path: Path, use: Callable[[], None]) -> None:
    expect = lines_of(path)[0][1]
    if expect == "ok":
        use()
    else:
        with pytest.raises(EXPECTED[expect]):
            use()


def shake(label: str, length: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(length)


def generated(source: str, length: int) -> bytes:
    return bytes(length) if source == "zeros" else shake(source.removeprefix("shake256 "), length)


def cut(data: bytes) -> list[bytes]:
    return list(stream.chunks(io.BytesIO(data)))


class Sipped:
    """A source that gives a few bytes at a time, as pipes and network disks do."""

    def __init__(self, data: bytes, sips: Iterator[int]) -> None:
        self.source, self.sips = io.BytesIO(data), sips

    def read(self, size: int) -> bytes:
        return self.source.read(min(size, next(self.sips)))


# --- vectors


@pytest.mark.parametrize("path", vectors("stream"), ids=lambda path: path.stem)
def test_the_stream_vectors_hold(path: Path) -> None:
    verdict(path, lambda: use_stream_vector(path))


def use_stream_vector(path: Path) -> None:
    pairs = lines_of(path)
    found = dict(pairs)
    if "padme" in found:
        for pair in found["padme"].split():
            before, after = map(int, pair.split(">"))
            assert stream.padme(before) == after
    elif "objects" in found:
        for line in found["objects"].split():
            asked, count = line.split(">")
            assert stream.objects_for(*map(int, asked.split(","))) == int(count)
    elif "extent" in found:
        got = stream.slices_of(*map(int, found["extent"].split()))
        assert " ".join(f"{index}:{start}:{stop}" for index, start, stop in got) == found["slices"]
    elif "cuts" in found:
        data = generated(found["source"], int(found["length"]))
        assert [len(chunk) for chunk in cut(data)] == [int(length) for length in found["cuts"].split()]
    elif "frames" in found:
        writer, slices, offsets = StreamWriter(), [], []
        for number, length in enumerate(found["frames"].split()):
            offset, full = writer.append(shake(f"frame {number}", int(length)))
            offsets.append(str(offset))
            slices += full
        slices += writer.finish(int(found["minimum"]))
        assert " ".join(offsets) == found["offsets"]
        assert [hashlib.sha256(piece).hexdigest() for piece in slices] == [
            value for key, value in pairs if key == "slice-sha256"
        ]
    else:
        chunk = stream.unframe(found["codec"], bytes.fromhex(found["data"]), int(found["raw"]))
        assert hashlib.sha256(chunk).hexdigest() == found["chunk-sha256"]


@pytest.mark.parametrize("path", vectors("object"), ids=lambda path: path.stem)
def test_the_object_vectors_hold(path: Path) -> None:
    found = dict(lines_of(path))
    inside = generated(found["slice"], int(found["length"]))
    data = the_object(found, inside)

    def use() -> None:
        identity = age.Identity(bytes.fromhex(found["identity"]))
        assert stream.open_object(data, found["name"], identity) == inside

    verdict(path, use)


def the_object(found: dict[str, str], inside: bytes) -> bytes:
    nonce = bytes.fromhex(found["nonce"])
    payload = b"".join(
        age._payload_parts(inside, bytes.fromhex(found["file-key"]), lambda size: nonce[:size])
    )
    data = bytearray(bytes.fromhex(found["header"]) + payload)
    match found.get("alter", "").split():
        case ["flip", at]:
            data[int(at)] ^= 1
        case ["cut", at]:
            del data[int(at) :]
        case ["append", more]:
            data += bytes.fromhex(more)
    return bytes(data)


@pytest.mark.parametrize("folder", ["stream", "object"])
def test_more_vectors_fail_than_succeed(folder: str) -> None:
    verdicts = [lines_of(path)[0][1] for path in vectors(folder)]
    assert verdicts.count("ok") * 2 < len(verdicts)


# --- chunks and frames


@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, 3_000_000), seed=st.integers(0, 2**32), sip=st.integers(1, 400_000))
def test_cut_points_do_not_depend_on_how_the_source_is_read(size: int, seed: int, sip: int) -> None:
    data = random.Random(seed).randbytes(size)
    dice = random.Random(seed)
    chunks = cut(data)
    assert b"".join(chunks) == data
    assert all(stream.CHUNK_MIN <= len(chunk) <= stream.CHUNK_MAX for chunk in chunks[:-1])
    sips = iter(lambda: dice.randint(max(1, sip // 2), sip), 0)
    assert list(stream.chunks(Sipped(data, sips))) == chunks


def test_a_byte_inserted_at_the_front_moves_few_chunks() -> None:
    data = shake("a long recording", 20_000_000)
    before = {hashlib.sha256(chunk).digest() for chunk in cut(data)}
    after = [chunk for chunk in cut(b"x" + data) if hashlib.sha256(chunk).digest() not in before]
    assert sum(map(len, after)) <= 2 * stream.CHUNK_MAX


def test_chunks_of_a_pure_python_chunker_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyfastcdc.py

    monkeypatch.setattr("pyfastcdc.FastCDC", pyfastcdc.py.FastCDC)
    with pytest.raises(Refused, match="reinstall") as refused:
        cut(b"anything")
    assert refused.value.code == "installation"


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=5_000), st.integers(1, 200))
def test_a_frame_opens_to_its_chunk_and_never_grows(piece: bytes, times: int) -> None:
    chunk = (piece * times)[: stream.CHUNK_MAX]
    framed = stream.frame(chunk)
    assert framed.raw == len(chunk)
    assert (framed.codec == "raw") == (len(framed.data) == len(chunk))
    assert len(framed.data) <= len(chunk)
    assert stream.unframe(framed.codec, framed.data, framed.raw) == chunk


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_altered_frame_is_malformed_or_another_chunk_of_that_length(data: st.DataObject) -> None:
    framed = stream.frame(b"Killing the messenger does not kill the message. " * 50)
    altered = bytearray(framed.data)
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = stream.unframe("zstd", bytes(altered), framed.raw)
    except Malformed:
        return
    assert len(found) == framed.raw


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["raw", "zstd", "", "lzma"]), st.binary(max_size=300), st.integers(-5, 2**60))
def test_any_bytes_at_all_are_a_chunk_or_malformed(codec: str, data: bytes, raw: int) -> None:
    with suppress(Malformed):
        assert len(stream.unframe(codec, data, raw)) == raw


def test_text_is_compressed_and_noise_is_not() -> None:
    text = b"".join(b"%d bottles of beer on the wall\n" % count for count in range(10_000))
    assert stream.frame(text).codec == "zstd"
    assert stream.frame(shake("noise", 300_000)).codec == "raw"


def test_base64_is_not_given_up_early() -> None:
    import base64

    assert stream.frame(base64.b64encode(shake("noise", 200_000))).codec == "zstd"


def test_many_threads_frame_at_once() -> None:
    pieces = [(b"%d " % number) * 30_000 for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for piece, framed in zip(pieces, pool.map(stream.frame, pieces), strict=True):
            assert stream.unframe(framed.codec, framed.data, framed.raw) == piece


@pytest.mark.parametrize("size", [0, stream.CHUNK_MAX + 1])
def test_a_frame_of_no_chunk_is_a_mistake_of_the_caller(size: int) -> None:
    with pytest.raises(ValueError, match="a frame holds"):
        stream.frame(bytes(size))


def test_bytes_do_not_show_when_printed() -> None:
    assert "secret" not in repr(stream.frame(b"secret"))
    assert "secret" not in repr(stream.SealedObject("00", b"secret"))


# --- padding and slices


@given(st.integers(0, 2**70))
def test_padme_only_adds_and_at_most_an_eighth(length: int) -> None:
    padded = stream.padme(length)
    assert length <= padded <= length + length // 8
    assert stream.padme(padded) == padded


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_padme_keeps_order(a: int, b: int) -> None:
    assert (stream.padme(a) <= stream.padme(b)) or a > b


@pytest.mark.parametrize("minimum", [0, 65])
def test_a_minimum_outside_1_to_64_is_a_mistake_of_the_caller(minimum: int) -> None:
    with pytest.raises(ValueError, match="minimum"):
        stream.objects_for(1, minimum)


lengths = st.lists(
    st.one_of(st.integers(1, 3_000), st.integers(SLICE_SIZE - 2, SLICE_SIZE + 2), st.just(2 * SLICE_SIZE)),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(lengths, st.integers(1, 5), st.integers(0, 2**32))
def test_every_frame_is_found_again_even_if_the_push_was_killed_after_each(
    sizes: list[int], minimum: int, seed: int
) -> None:
    dice = random.Random(seed)
    frames = [dice.randbytes(size) for size in sizes]
    writer, slices, offsets = StreamWriter(), [], []
    for data in frames:
        offset, full = writer.append(data)
        offsets.append(offset)
        slices += full
        assert len(writer.partial) < SLICE_SIZE
        writer = StreamWriter(writer.offset, writer.partial)
    slices += writer.finish(minimum)
    assert len(slices) == stream.objects_for(sum(sizes), minimum)
    assert {len(piece) for piece in slices} == {SLICE_SIZE}
    for data, offset in zip(frames, offsets, strict=True):
        found = b"".join(slices[index][a:b] for index, a, b in stream.slices_of(offset, len(data)))
        assert found == data
    assert not any(b"".join(slices)[writer.offset :])


def test_long_data_may_be_appended_piece_by_piece() -> None:
    data = shake("a tree", 3 * SLICE_SIZE + 5)
    at_once, in_pieces = StreamWriter(), StreamWriter()
    _, expected = at_once.append(data)
    got = [
        piece for at in range(0, len(data), 99_999) for piece in in_pieces.append(data[at : at + 99_999])[1]
    ]
    assert got == expected
    assert in_pieces.partial == at_once.partial


def test_a_finished_stream_takes_no_more() -> None:
    writer = StreamWriter()
    writer.finish(2)
    with pytest.raises(ValueError, match="finished"):
        writer.append(b"late")


@pytest.mark.parametrize(("offset", "partial"), [(-1, b""), (5, b"1234"), (SLICE_SIZE, b"x" * SLICE_SIZE)])
def test_a_saved_end_that_does_not_fit_is_malformed(offset: int, partial: bytes) -> None:
    with pytest.raises(Malformed, match="push again"):
        StreamWriter(offset, partial)


def test_a_negative_extent_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="negative"):
        list(stream.slices_of(-1, 5))


# --- objects


def test_every_object_has_one_size_and_opens_to_its_slice() -> None:
    piece = shake("a slice", SLICE_SIZE)
    sealed = stream.seal_object(piece, ME.recipient, os.urandom)
    assert len(sealed.data) == OBJECT_SIZE
    assert sealed.name == hashlib.sha256(sealed.data).hexdigest()
    assert stream.open_object(sealed.data, sealed.name, ME) == piece


def test_the_same_slice_never_gives_the_same_object() -> None:
    piece = bytes(SLICE_SIZE)
    first, second = (stream.seal_object(piece, ME.recipient, os.urandom) for _ in range(2))
    assert first.name != second.name


def test_only_a_whole_slice_becomes_an_object() -> None:
    with pytest.raises(ValueError, match="whole slice"):
        stream.seal_object(b"short", ME.recipient, os.urandom)


def test_a_flipped_bit_anywhere_is_untrusted_or_malformed_even_under_a_fitting_name() -> None:
    sealed = stream.seal_object(bytes(SLICE_SIZE), ME.recipient, os.urandom)
    dice = random.Random(7)
    for at in [0, 30, 1500, 1600, 1626, 1627, 1650, *(dice.randrange(OBJECT_SIZE) for _ in range(20))]:
        data = bytearray(sealed.data)
        data[at] ^= 1 << dice.randrange(8)
        with pytest.raises(Untrusted):
            stream.open_object(bytes(data), sealed.name, ME)
        with pytest.raises((Untrusted, Malformed)):
            stream.open_object(bytes(data), hashlib.sha256(data).hexdigest(), ME)
