import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import tree
from vault.errors import Malformed, Refused
from vault.tree import Archive, Entry, Extent, Root, Version

VECTORS = sorted((Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "tree").glob("*.txt"))
Pairs = list[tuple[str, str]]
Layer = tuple[int, int | None, list[Entry]]


def pairs_of(path: Path) -> Pairs:
    pairs = [line.split(":", 1) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert [key for key, _ in pairs[:2]] == ["expect", "about"]
    return [(key, value.removeprefix(" ")) for key, value in pairs]


def of_kind(kind: str) -> list[Path]:
    return [path for path in VECTORS if path.name.startswith(f"{kind}-")]


def a_file(path: str, *extents: Extent, mtime: int = 0) -> Entry:
    return Entry(path, "file", sum(extent.raw for extent in extents), 0o644, mtime, b"\x11" * 32, extents)


def a_folder(path: str) -> Entry:
    return Entry(path, "dir", 0, 0o755, 0, None)


def laid(archive: Archive) -> Pairs:
    """An archive in the words of the overlay vectors."""

    def said(path: str, version: Version) -> str:
        assert version.entry.path == path
        return f"{path}@{version.bundle}"

    return [
        *(("current", said(path, version)) for path, version in archive.current.items()),
        *(("earlier", said(path, version)) for path, version in archive.earlier),
        *(
            ("aside", f"before {aside.start}: {said(path, version)}")
            for aside in archive.set_aside
            for path, version in aside.current.items()
        ),
    ]


# --- vectors


def test_more_vectors_fail_than_succeed() -> None:
    verdicts = [pairs_of(path)[0][1] for path in VECTORS]
    assert verdicts.count("ok") * 2 < len(verdicts)
    assert set(verdicts) == {"ok", "malformed"}


@pytest.mark.parametrize("path", of_kind("tree"), ids=lambda path: path.stem)
def test_the_tree_vectors_hold(path: Path) -> None:
    pairs = pairs_of(path)
    found = dict(pairs)
    if "stored" in found:
        stored, raw = bytes.fromhex(found["stored"]), int(found["raw"])
    else:
        lines = (
            bytes.fromhex(found["lines-hex"])
            if "lines-hex" in found
            else "".join(value + "\n" for key, value in pairs if key == "line").encode()
        )
        stored, raw = zstandard.ZstdCompressor().compress(lines), len(lines)
    if found["expect"] == "ok":
        entries = list(tree.read_tree(stored, raw))
        written = tree.write_tree(entries)
        assert (written.raw, list(tree.read_tree(written.stored, written.raw))) == (raw, entries)
        assert b"".join(map(tree.write_line, entries)) == zstandard.ZstdDecompressor().decompress(stored)
    else:
        with pytest.raises(Malformed):
            list(tree.read_tree(stored, raw))


@pytest.mark.parametrize("path", of_kind("root"), ids=lambda path: path.stem)
def test_the_root_vectors_hold(path: Path) -> None:
    found = dict(pairs_of(path))
    root = found["root"].encode()
    match found["padding"].split():
        case ["zeros", "to", length]:
            padded = root.ljust(int(length), b"\0")
        case ["spaces", "to", length]:
            padded = root.ljust(int(length), b" ")
        case ["zeros", "to", length, "then", byte]:
            padded = root.ljust(int(length.rstrip(",")), b"\0") + bytes.fromhex(byte)
        case ["zeros", "to", length, *rest]:
            raise AssertionError(rest)
        case _:
            padded = root
    if found["expect"] == "ok":
        assert tree.write_root(tree.read_root(padded)) == padded
    else:
        with pytest.raises(Malformed):
            tree.read_root(padded)


@pytest.mark.parametrize("path", of_kind("overlay"), ids=lambda path: path.stem)
def test_the_overlay_vectors_hold(path: Path) -> None:
    layers: list[Layer] = []
    expected: Pairs = []
    for key, value in pairs_of(path)[2:]:
        if key == "bundle":
            number, *replace = value.split(" replace ")
            layers.append((int(number), int(replace[0]) if replace else None, []))
        elif key == "lay":
            kind, _, name = value.partition(" ")
            layers[-1][2].append(a_file(name) if kind == "file" else a_folder(name))
        else:
            expected.append((key, value))
    if pairs_of(path)[0][1] == "ok":
        assert laid(tree.overlay(layers)) == expected
    else:
        with pytest.raises(Malformed):
            tree.overlay(layers)


# --- trees

names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
counts = st.one_of(st.integers(0, 300), st.integers(0, 2**53 - 1))


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    raw = draw(st.integers(1, 2**20))
    codec = "raw" if raw == 1 else draw(st.sampled_from(["raw", "zstd"]))
    stored = raw if codec == "raw" else draw(st.integers(1, raw - 1))
    return Extent(draw(counts), draw(counts), stored, raw, codec)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    path, mode = draw(paths), draw(st.integers(0, 0o7777))
    mtime = draw(st.integers(-(2**53) + 1, 2**53 - 1))
    if draw(st.booleans()):
        return Entry(path, "dir", 0, mode, mtime, None)
    pieces = tuple(draw(st.lists(extents(), max_size=4)))
    digest = draw(st.binary(min_size=32, max_size=32))
    return Entry(path, "file", sum(piece.raw for piece in pieces), mode, mtime, digest, pieces)


whole_trees = st.lists(entries(), max_size=12, unique_by=lambda entry: entry.path)


def in_order(found: Iterable[Entry]) -> list[Entry]:
    return sorted(found, key=lambda entry: entry.path.encode())


@given(whole_trees)
def test_a_tree_is_read_as_it_was_written(found: list[Entry]) -> None:
    found = in_order(found)
    written = tree.write_tree(found)
    assert list(tree.read_tree(written.stored, written.raw)) == found
    assert written.raw == sum(len(tree.write_line(entry)) for entry in found)
    assert (written.files, written.size) == (
        sum(entry.type == "file" for entry in found),
        sum(entry.size for entry in found),
    )
    assert written.files + written.folders == len(found)


@given(entries())
def test_a_line_is_what_any_json_writer_makes_of_it(entry: Entry) -> None:
    line = tree.write_line(entry)
    assert json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")).encode() + b"\n" == line


@settings(max_examples=300)
@given(st.data())
def test_any_altered_tree_is_the_same_tree_or_malformed(data: st.DataObject) -> None:
    entry = a_file("notes/é.txt", Extent(0, 10, 5, 9, "zstd"), Extent(2, 0, 7, 7, "raw"))
    line = bytearray(tree.write_line(entry))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        found = list(tree.read_tree(tree.compress(bytes(line)), len(line)))
    except Malformed:
        return
    assert b"".join(map(tree.write_line, found)) == line


@given(st.binary(max_size=200), st.integers(-1, 2**60))
def test_any_bytes_at_all_are_a_tree_or_malformed(stored: bytes, raw: int) -> None:
    for bytes_ in (stored, tree.compress(stored)):
        try:
            list(tree.read_tree(bytes_, raw))
        except Malformed:
            continue


def test_a_tree_whose_paths_are_not_sorted_is_never_written() -> None:
    with pytest.raises(Malformed, match="not sorted"):
        tree.write_tree([a_file("b"), a_file("a")])
    with pytest.raises(Malformed, match="twice"):
        tree.write_tree([a_file("a"), a_file("a", mtime=1)])


@pytest.mark.parametrize(
    "wrong",
    [
        Entry("../a", "file", 0, 0, 0, bytes(32)),
        Entry("\ud800", "file", 0, 0, 0, bytes(32)),
        Entry("a", "file", 1, 0, 0, bytes(32)),
        Entry("a", "file", 0, 0, 0, None),
        Entry("a", "file", 0, 0o10000, 0, bytes(32)),
        Entry("a", "file", 0, 0, 2**53, bytes(32)),
        Entry("a", "dir", 0, 0, 0, bytes(32)),
        Entry("a", "file", 3, 0, 0, bytes(32), (Extent(0, 0, 3, 3, "zstd"),)),
    ],
)
def test_an_entry_that_nobody_could_read_is_never_written(wrong: Entry) -> None:
    with pytest.raises(Malformed):
        tree.write_line(wrong)


def test_time_stamps_no_tree_can_hold_are_drawn_to_the_nearest() -> None:
    assert tree.clamp_time(1_700_000_000_123_456_789) == 1_700_000_000_123_456
    assert tree.clamp_time(-1) == -1
    for stamp in (2**80, -(2**80)):
        tree.write_line(a_file("a", mtime=tree.clamp_time(stamp)))


def test_a_file_of_ten_gigabytes_is_one_line() -> None:
    pieces = (Extent(0, 123_456_789, 262_144, 262_144, "raw"),) * 40_000
    written = tree.write_tree([a_file("interview.mov", *pieces)])
    [found] = tree.read_tree(written.stored, written.raw)
    assert found.size == 40_000 * 262_144


def test_a_file_of_too_many_pieces_is_refused_before_it_is_written() -> None:
    pieces = (Extent(0, 2**50, 262_144, 262_144, "raw"),) * 450_000
    with pytest.raises(Refused, match="split it") as refused:
        tree.write_line(a_file("a", *pieces))
    assert refused.value.code == "file-too-large"


def test_a_hostile_tree_takes_no_more_memory_than_any_tree_may() -> None:
    line = b'{"p":"a","t":"file","s":%d,"m":0,"mt":0,"h":"%b","c":[%b]}\n' % (
        900_000,
        b"11" * 32,
        b",".join([b'[0,0,1,1,"raw"]'] * 900_000),
    )
    assert len(line) < tree.LINE_LIMIT
    stored = tree.compress(line)
    assert len(stored) < 10_000
    tracemalloc.start()
    try:
        assert next(tree.read_tree(stored, len(line))).size == 900_000
        assert tracemalloc.get_traced_memory()[1] < 300_000_000
    finally:
        tracemalloc.stop()


def test_pieces_of_this_bundle_are_looked_for_in_the_bundle_that_says_so() -> None:
    version = Version(a_file("a", Extent(0, 1, 2, 2, "raw"), Extent(3, 1, 2, 2, "raw")), 7)
    assert [extent.bundle for extent in version.extents()] == [7, 3]


def test_names_and_places_do_not_show_when_an_archive_is_printed() -> None:
    assert "secret" not in repr(tree.overlay([(1, None, [a_file("secret")])]))


# --- roots

roots = st.builds(
    Root,
    counts,
    counts.filter(bool),
    st.integers(0, tree.TREE_LIMIT),
    counts,
    counts,
    counts,
    st.text(max_size=300),
)


@given(roots)
def test_a_root_is_read_as_it_was_written_and_always_4_kib(root: Root) -> None:
    if len(msgspec.json.encode(root.note)) > tree.NOTE_LIMIT:
        with pytest.raises(Refused):
            tree.write_root(root)
        return
    padded = tree.write_root(root)
    assert len(padded) == tree.ROOT_SIZE
    assert tree.read_root(padded) == root


@given(st.binary(max_size=4_096))
def test_any_bytes_at_all_are_a_root_or_malformed(data: bytes) -> None:
    for padded in (data, data.ljust(tree.ROOT_SIZE, b"\0")):
        with pytest.raises(Malformed):
            tree.read_root(padded)


@pytest.mark.parametrize(
    ("note", "code"),
    [("x" * 2_047, "note-too-long"), ("é" * 1_024, "note-too-long"), ("\ud800", "note-not-text")],
)
def test_a_note_that_does_not_fit_is_refused_with_what_to_do(note: str, code: str) -> None:
    with pytest.raises(Refused, match=r"shorten|again") as refused:
        tree.write_root(Root(0, 1, 0, 0, 0, 0, note))
    assert refused.value.code == code


def test_the_longest_note_in_the_dearest_letters_still_fits_the_padding() -> None:
    root = Root(2**53 - 1, 2**53 - 1, tree.TREE_LIMIT, 2**53 - 1, 2**53 - 1, 2**53 - 1, "\x01" * 341)
    assert len(tree.write_root(root)) == tree.ROOT_SIZE


def test_a_root_with_an_impossible_number_is_never_written() -> None:
    with pytest.raises(Malformed):
        tree.write_root(Root(-1, 1, 0, 0, 0, 0))


# --- overlays

few = st.sampled_from(["a", "a/b", "a/b/c", "a.txt", "a/d", "b", "é"])


@st.composite
def pushes(draw: st.DrawFn) -> list[Layer]:
    layers: list[Layer] = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        files = draw(st.dictionaries(few, st.booleans(), max_size=5))
        replace = draw(st.one_of(st.none(), st.none(), st.integers(1, number)))
        layers.append((number, replace, [a_file(p) if files[p] else a_folder(p) for p in sorted(files)]))
    return layers


def by_hand(layers: list[Layer]) -> tuple[dict[str, Version], list[Version]]:
    """(current, files that are not), laid one at a time as a person would, without a fresh start."""
    current: dict[str, Version] = {}
    gone: list[Version] = []
    for bundle, _, found in layers:
        for entry in found:
            for path, below in list(current.items()):
                covered = (
                    path == entry.path
                    or (entry.type == "file" and path.startswith(entry.path + "/"))
                    or (below.entry.type == "file" and entry.path.startswith(path + "/"))
                )
                if covered:
                    gone.append(current.pop(path))
            current[entry.path] = Version(entry, bundle)
    return current, [version for version in gone if version.entry.type == "file"]


@given(pushes())
def test_an_overlay_is_what_laying_one_at_a_time_gives(layers: list[Layer]) -> None:
    plain: list[Layer] = [(bundle, None, found) for bundle, _, found in layers]
    current, gone = by_hand(plain)
    archive = tree.overlay(plain)
    assert archive.current == current
    assert list(archive.current) == sorted(current, key=str.encode)
    assert sorted((v.entry.path, v.bundle) for v in gone) == sorted((p, v.bundle) for p, v in archive.earlier)


@given(pushes())
def test_nothing_deposited_ever_falls_out_of_an_archive(layers: list[Layer]) -> None:
    archive = tree.overlay(layers)
    shown = [
        *archive.current.values(),
        *(version for _, version in archive.earlier),
        *(version for aside in archive.set_aside for version in aside.current.values()),
    ]
    files = [(version.entry.path, version.bundle) for version in shown if version.entry.type == "file"]
    assert sorted(files) == sorted(
        (entry.path, bundle) for bundle, _, found in layers for entry in found if entry.type == "file"
    )


@given(pushes())
def test_current_paths_can_all_be_written_into_one_folder(layers: list[Layer]) -> None:
    archive = tree.overlay(layers)
    for held in (archive.current, *(aside.current for aside in archive.set_aside)):
        files = {path for path, version in held.items() if version.entry.type == "file"}
        assert not any(path.startswith(file + "/") for path in held for file in files)


@given(pushes(), st.integers(1, 6))
def test_a_push_that_never_said_it_replaced_only_adds(layers: list[Layer], lost: int) -> None:
    interrupted: list[Layer] = [(bundle, None, found) for bundle, _, found in layers[:lost]]
    assert tree.overlay(interrupted).set_aside == []


def test_a_hostile_overlay_of_files_and_folders_takes_one_sort() -> None:
    deep = ["/".join("a" * depth) for depth in range(1, 1_000)]
    layers: list[Layer] = [(number, None, [a_file(path) for path in deep]) for number in range(1, 30)]
    archive = tree.overlay(layers)
    assert list(archive.current) == [deep[-1]]
    assert len(archive.earlier) == 29 * len(deep) - 1


def test_extents_take_little_memory_and_cannot_be_changed() -> None:
    extent = Extent(0, 0, 1, 1, "raw")
    with pytest.raises(AttributeError):
        extent.bundle = 3  # type: ignore[misc]  # that it cannot be set is what is tested
    assert msgspec.structs.replace(extent, bundle=3).bundle == 3
