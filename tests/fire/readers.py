"""Every reader of what others wrote, with what it should read.

Rule of this room: a reader is listed with good samples, with what authenticates them, and with its writer if it has
one; how it is attacked is for test_parsers.py and test_guided.py.
"""

import atexit
import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec

from cli.home import Home
from cli.join import read_invitation
from cli.journal import Journal
from cli.supposing import read_supposition
from vault import (
    age,
    backups,
    briefs,
    clock,
    envelope,
    identity,
    names,
    rosters,
    sharing,
    statements,
    stream,
    titles,
    tree,
    wire,
)
from vault import settings as server_settings
from vault.envelope import SigningKey, VerifyKey
from vault.errors import AfterwordError, Malformed
from vault.identity import Fingerprint, Keyring, RootSeed
from vault.tree import Extent
from web.examples import EXAMPLES

VECTORS: Final = Path(__file__).parents[2] / "docs/spec/vectors"
KEY: Final = SigningKey(bytes(range(32)))
OTHER_KEY: Final = SigningKey(bytes(range(32, 64)))
IDENTITY: Final = age.Identity(bytes(range(32)))
FILE_KEY: Final = bytes(range(16))
ROOT: Final = RootSeed(bytes(range(32)))
KEYRING: Final = Keyring.from_seed(ROOT)
PASSPHRASE: Final = "correct horse battery staple"
DOSSIER: Final = "00112233445566778899aabbccddeeff"
PRINTED: Final = bytes(range(256)) * 40
_counter = iter(range(1 << 60))


def chance(count: int) -> bytes:
    """Randomness that is none: seals made here are the same in every run."""
    return next(_counter).to_bytes(8, "big").rjust(count, b"r")[-count:]


def seal_payload(plaintext: bytes, file_key: bytes, random: Callable[[int], bytes]) -> bytes:
    """What follows an age header. The program never writes it without one."""
    return b"".join(age._payload_parts(plaintext, file_key, random))


@dataclass(frozen=True)
class Parser:
    """`samples` are what it should read. `wrap` puts altered bytes inside of what authenticates them, so that they
    come past signature and seal. `write` gives back what was read, or None where that cannot be asked."""

    name: str
    read: Callable[[bytes], Any]
    samples: Sequence[bytes]
    wrap: Callable[[bytes], bytes] = bytes
    write: Callable[[Any], bytes | None] = lambda value: None
    takes_all: bool = False
    short: int = 2_000
    full: int = 50_000


def vectors(folder: str) -> list[dict[str, str]]:
    found = []
    for path in sorted((VECTORS / folder).glob("*.txt")):
        lines = path.read_text(encoding="utf-8").split("\n")
        found.append(dict(line.split(": ", 1) for line in lines if ": " in line))
    return found


def text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """As a reader of text meets bytes: what is no UTF-8 never reaches it."""

    def reading(data: bytes) -> Any:
        return read(data.decode("utf-8", "surrogateescape"))

    return reading


def padded(size: int) -> Callable[[bytes], bytes]:
    """Back to the one length, unless it was altered into a longer one."""
    return lambda data: data.rstrip(b"\0").ljust(size, b"\0")


def unpadded(data: bytes) -> bytes:
    return data.rstrip(b"\0")


@cache
def parsers() -> dict[str, Parser]:
    return {
        each.name: each
        for each in (*_age(), *_signed(), *_plain(), *_stored(), *_bodies(), *_typed(), *_at_home())
    }


def _age() -> Iterator[Parser]:
    def a_file(data: bytes) -> bytes:
        return age.seal(data, IDENTITY.recipient, chance)

    files = [a_file(data) for data in (b"", b"a", bytes(1_000), os.urandom(0) + bytes(range(256)) * 8)]
    files += [
        bytes.fromhex(each["sealed"])
        for each in vectors("age")
        if "sealed" in each and len(each["sealed"]) < 20_000
    ]
    yield Parser(
        "age file",
        lambda data: (data, age.open_sealed(data, IDENTITY)),
        files,
        write=lambda value: _known(value[0], files),
    )
    payloads = [
        seal_payload(data, FILE_KEY, lambda count: bytes(count)) for data in (b"", b"x" * 100, bytes(70_000))
    ]
    yield Parser(
        "age payload",
        lambda data: (data[:16], age.open_payload(data, FILE_KEY)),
        payloads,
        write=lambda value: seal_payload(value[1], FILE_KEY, lambda count: value[0]),
    )
    locked = [age.seal_with_passphrase(data, PASSPHRASE, chance, 1) for data in (b"", b"secret" * 20)]
    yield Parser(
        "age file under a passphrase",
        _cheaply(lambda data: (data, age.open_with_passphrase(data, PASSPHRASE))),
        locked,
        write=lambda value: _known(value[0], locked),
    )
    recipients = [str(IDENTITY.recipient).encode(), str(age.Identity(bytes(32)).recipient).encode()]
    yield Parser(
        "age recipient", text(age.Recipient.read), recipients, write=lambda value: str(value).encode()
    )
    keys = [each["key"].encode() for each in vectors("backup") if "key" in each]
    yield Parser("age identity", text(age.Identity.read), keys, write=lambda value: None)
    rings = [
        envelope.write_payload(
            identity._KeyringFile(
                "afterword/keyring/v1", "01" * 32, "02" * 32, "03" * 32, str(IDENTITY.recipient)
            )
        )
    ]
    yield Parser(
        "keyring",
        _cheaply(lambda data: identity.read_keyring(data, PASSPHRASE)),
        rings,
        wrap=lambda data: age.seal_with_passphrase(data, PASSPHRASE, chance, 1),
    )


def _known(data: bytes, among: Sequence[bytes]) -> bytes:
    """What is sealed cannot be written again; but nothing opens that nobody sealed."""
    return data if data in among else b"nobody sealed this"


def _cheaply(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A work factor of up to 20 is taken, and costs what it costs; that is not what is being tested here."""

    def reading(data: bytes) -> Any:
        found = re.match(rb"age-encryption.org/v1\n-> scrypt \S+ (\d{1,2})\n", data)
        if found and 6 < int(found[1]) <= 20:
            raise Malformed("Not here.")
        return read(data)

    return reading


def _signed() -> Iterator[Parser]:
    envelopes = [
        envelope.sign(kind, payload, KEY)
        for kind, payload in (("login", b"{}"), ("head", b""), ("arm", PRINTED[:700]))
    ]
    opened: Callable[[bytes], Any] = lambda data: envelope.open_envelope(data, KEY.verify_key)  # noqa: E731
    yield Parser(
        "envelope", opened, envelopes, write=lambda value: envelope.sign(value.kind, value.payload, KEY)
    )
    yield Parser("envelope, peeked at", envelope.peek, [*envelopes, envelope.sign("arm", b"{}", OTHER_KEY)])
    yield Parser(
        "verify key",
        text(VerifyKey.read),
        [KEY.verify_key.hex.encode(), OTHER_KEY.verify_key.hex.encode()],
        write=lambda value: value.hex.encode(),
    )
    good = [each for each in vectors("statements") if each["expect"] == "ok"]
    for name, kind in statements.KINDS.items():
        samples = [each["payload"].encode() for each in good if each["kind"] == name]
        others = [each["payload"].encode() for each in good if each["kind"] != name][:6]
        assert samples, name
        yield Parser(
            f"statement: {name}",
            lambda data, kind=kind: statements.read(data, KEY.verify_key, kind),
            [*samples, *samples, *samples, *others],
            wrap=lambda data, name=name: as_signed(name, data),
            write=lambda value: statements.write(value, KEY),
        )
    rings = [Keyring.from_seed(RootSeed(bytes([seed]) * 32)) for seed in (1, 2)]
    cards = [
        identity.write_card(label, each, 1_790_000_000_000, "cli")
        for label, each in zip(("Ana", "Bruno ☮"), rings, strict=True)
    ]
    yield Parser(
        "card",
        identity.read_card,
        [envelope.peek(each).payload for each in cards],
        wrap=lambda data: envelope.sign("card", data, rings[0].sign) if len(data) < 100_000 else data,
        write=lambda value: value.envelope,
    )
    yield Parser("card, as sent", identity.read_card, cards, write=lambda value: value.envelope)
    chains = [each for each in vectors("roster") if "payload" in each or "roster" in each]
    rosters_there = [each["payload"].encode() for each in good if each["kind"] == "roster"]
    assert rosters_there or chains
    yield Parser(
        "roster",
        lambda data: rosters.read_roster(data, KEY.verify_key),
        rosters_there,
        wrap=lambda data: as_signed("roster", data),
        write=lambda value: statements.write(value, KEY),
    )


def as_signed(kind: str, data: bytes) -> bytes:
    """Signed whatever it is: the reader must not rely on honest signers."""
    return envelope.sign(kind, data, KEY) if len(data) < 1_000_000 else data


def _plain() -> Iterator[Parser]:
    dealt = [
        sharing.DealtShare(b"j" * 32, bytes.fromhex(DOSSIER), 3, sharing.Share(2, b"s" * 32), title)
        for title in ("Quarry", "Übung 🦉", "")
    ]
    shares = [unpadded(sharing.write_share(each)) for each in dealt]
    yield Parser("share", sharing.read_share, shares, padded(sharing.PADDED_SIZE), sharing.write_share)
    deals = [unpadded(rosters.write_deal(rosters.SealedDeal(bytes.fromhex(DOSSIER), 2, b"c" * 32)))]
    yield Parser("deal", rosters.read_deal, deals, padded(sharing.PADDED_SIZE), rosters.write_deal)
    pages = [unpadded(briefs.write_brief(page)) for page in ("Call Lia first.", "ñ" * 3_000)]
    yield Parser("brief", briefs.read_brief, pages, padded(briefs.SMALLEST), briefs.write_brief)
    named = [unpadded(titles.write_title(DOSSIER, title)) for title in ("Quarry", "Кража")]
    yield Parser(
        "title",
        lambda data: titles.read_title(data, DOSSIER),
        named,
        padded(titles.SIZE),
        lambda value: titles.write_title(DOSSIER, value),
    )


def entries() -> list[tree.Entry]:
    digest = bytes(range(32))
    extent = tree.Extent(0, 17, 40, 100, "zstd")
    return [
        tree.Entry("a", "dir", 0, 0o755, 1_700_000_000_000_000, None, ()),
        tree.Entry("a/b.txt", "file", 100, 0o644, 5, digest, (extent,)),
        tree.Entry("a/c – Übersicht.md", "file", 0, 0o600, -5, digest, ()),
        tree.Entry(
            "z/ledger.csv", "file", 200, 0o644, 0, digest, (extent, tree.Extent(3, 90, 100, 100, "raw"))
        ),
    ]


def _stored() -> Iterator[Parser]:
    lines = [b"".join(tree.write_line(each) for each in entries()), tree.write_line(entries()[1]), b""]

    def read_tree(data: bytes) -> list[tree.Entry]:
        announced, stored = int.from_bytes(data[:8], "big"), data[8:]
        return list(tree.read_tree(stored, announced))

    def pack(data: bytes) -> bytes:
        return len(data).to_bytes(8, "big") + stream.compress(data)

    yield Parser(
        "tree", read_tree, lines, pack, lambda value: pack(b"".join(tree.write_line(each) for each in value))
    )
    yield Parser("tree, as stored", read_tree, [pack(each) for each in lines])
    roots = vectors("tree")
    assert roots
    first = tree.Root(**_example_of(tree.Root))
    yield Parser(
        "root", tree.read_root, [unpadded(tree.write_root(first))], padded(tree.ROOT_SIZE), tree.write_root
    )
    framed = [stream.frame(data) for data in (b"crane;harbour\n" * 300, bytes(5_000), PRINTED)]

    def read_frame(data: bytes) -> tuple[bytes, int]:
        raw = int.from_bytes(data[:4], "big")
        return stream.unframe("raw" if data[4:5] == b"r" else "zstd", data[5:], raw), raw

    frames = [each.raw.to_bytes(4, "big") + each.codec[:1].encode() + each.data for each in framed]
    yield Parser("frame", read_frame, frames, write=lambda value: _as_long_as_said(*value))
    whole = stream.seal_object(bytes(stream.SLICE_SIZE), IDENTITY.recipient, chance).data

    def read_object(data: bytes) -> bytes:
        head, rest = data, whole[len(data) :]
        made = (head + rest)[: stream.OBJECT_SIZE]
        return stream.open_object(made, hashlib.sha256(made).hexdigest(), IDENTITY)

    # An object is a mebibyte; what is altered is its beginning, which decides how the rest is read.
    yield Parser("object", read_object, [whole[:3_000]], short=100, full=5_000)
    block = msgspec.msgpack.encode(backups.Block(bytes(16), 0, True, b"SQLite format 3\0" + bytes(200)))
    first_of_two = msgspec.msgpack.encode(backups.Block(bytes(16), 0, False, b"x"))

    def read_backup(data: bytes) -> list[bytes]:
        return list(backups._read_blocks(BytesIO(data), IDENTITY))

    def as_backup(data: bytes) -> bytes:
        sealed = age.seal(data, IDENTITY.recipient, chance)
        return backups.MAGIC + len(sealed).to_bytes(4, "big") + sealed

    yield Parser("backup", read_backup, [block, first_of_two], as_backup)
    yield Parser(
        "backup, as stored", read_backup, [as_backup(block), as_backup(first_of_two) + as_backup(block)]
    )


def _as_long_as_said(data: bytes, raw: int) -> None:
    assert len(data) == raw


def _example_of(kind: type) -> dict[str, Any]:
    """A value for each field of a struct, by its type: whatever is a number is 7, whatever is text is short."""
    made: dict[str, Any] = {}
    for each in msgspec.structs.fields(kind):
        if each.required:
            made[each.name] = next(value for value in (7, "note", None, ()) if _fits(value, each.type))
    return made


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _at_home() -> Iterator[Parser]:
    """What lies on her own disk, after a bad sector or somebody's hand: SQLite's own errors are ours there, as
    cli/main.py has a sentence for each of them."""
    memory = None if "TMPDIR" in os.environ or not os.path.isdir("/dev/shm") else "/dev/shm"
    place = Path(tempfile.mkdtemp(prefix="parsers-", dir=memory))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    card = identity.read_card(identity.write_card("Ana", KEYRING, 1, "cli"))
    server = Keyring.from_seed(RootSeed(bytes(32)))
    with Home.create(
        place / "home",
        url="https://vault.example",
        keyring=b"",
        card=card,
        server=identity.read_card(identity.write_card("S", server, 1, "server")),
    ) as home:
        home.finish_joining(1)
        home.pin(card, "Bruno", "collaborator", 5)
        home.save_pending(DOSSIER, "roster-2", b"{}")
    state = settled(place / "home" / "state.db")

    def read_home(data: bytes) -> None:
        with elsewhere(place, "state.db", data) as there:
            (there / "keyring.age").touch()
            with as_cli_main_does(), Home.open(there) as home:
                _ = home.cards(), home.dossiers(), home.rosters(DOSSIER), home.pending(DOSSIER, "roster-2")
                _ = home.next_seq(), home.last_acknowledgement(), home.url

    yield Parser("home", read_home, [state], takes_all=True, short=60, full=10_000)
    with Journal(place / "journal") as journal:
        journal.place(b"c" * 32, Extent(0, 0, 5, 5, "raw"))
        journal.touch(b"p" * 32, b"s" * 32)
        journal.note_extent(b"e" * 32, 1, 2)
    pages = settled(place / "journal" / "journal.db")

    def read_journal(data: bytes) -> None:
        with elsewhere(place, "journal.db", data) as there, as_cli_main_does(), Journal(there) as journal:
            _ = journal.bundles(), list(journal.objects_relied_on()), journal.place_of(b"c" * 32)
            _ = (
                journal.known(b"p" * 32),
                journal.last_extent(b"e" * 32),
                journal.objects(),
                journal.saved_head(),
            )
            _ = journal.fresh_start()

    yield Parser("journal of pushes", read_journal, [pages], takes_all=True, short=60, full=10_000)


def settled(path: Path) -> bytes:
    """A database as one file."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@contextmanager
def elsewhere(place: Path, name: str, data: bytes) -> Iterator[Path]:
    """A folder of its own each time: whoever could not open a damaged database may still hold on to it."""
    there = place / f"{name}-{next(_counter)}"
    there.mkdir()
    (there / name).write_bytes(data)
    try:
        yield there
    finally:
        shutil.rmtree(there)


@contextmanager
def as_cli_main_does() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as wrong:
        raise Malformed("The database of this home is damaged.") from wrong


def _bodies() -> Iterator[Parser]:
    for kind in sorted({*below(wire.Request), *below(wire.Answer)}, key=lambda each: each.__name__):
        samples = [wire.write(each) for each in EXAMPLES if type(each) is kind]
        if samples:
            yield Parser(
                f"body: {kind.__name__}",
                lambda data, kind=kind: wire.read(data, kind),
                samples,
                write=lambda value, kind=kind: _the_same_again(value, kind),
            )
    yield Parser(
        "sealed blob",
        text(wire.read_blob),
        [b"YWdl", b"YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==", b""],
        write=lambda value: wire.write_blob(value).encode(),
    )


def below(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def _the_same_again(value: Any, kind: type) -> None:
    assert wire.read(wire.write(value), kind) == value


def _typed() -> Iterator[Parser]:
    pin = Fingerprint.of(bytes(range(32))).write()
    invites = [
        f"https://vault.example/join#abcdefgh23456789.{pin}".encode(),
        f"http://127.0.0.1:8470/join#abcdefgh23456789.{pin}.{pin}".encode(),
    ]
    yield Parser("invite", text(read_invitation), invites)
    yield Parser(
        "invite, to restore",
        text(lambda told: read_invitation(told, restoring=True)),
        [f"https://vault.example/join#{pin}".encode(), *invites],
    )
    yield Parser(
        "fingerprint", text(Fingerprint.read), [pin.encode()], write=lambda value: value.write().encode()
    )
    spoken = [" ".join(Fingerprint.of(bytes(range(32))).words(each)).encode() for each in ("en", "es")]
    yield Parser("spoken words", text(lambda told: Fingerprint.from_words(told.split())), spoken)
    paper = [" ".join(ROOT.words(each)).encode() for each in ("en", "es")]
    yield Parser("paper words", text(lambda told: RootSeed.from_words(told.split())), paper)
    yield Parser(
        "path", text(names.check_path), [b"a/b.txt", "notes/Übersicht – Κύπρος.md".encode(), b"CON.txt"]
    )
    yield Parser(
        "name of any bytes",
        names.name_from_bytes,
        [b"caf\xe9.txt", b"two\nlines", "Übersicht".encode()],
        takes_all=True,
    )
    yield Parser("duration", text(clock.read_duration), [b"36h", b"1d12h", b"90s"])
    yield Parser("size", text(server_settings.read_size), [b"50GiB", b"500MB", b"7"])
    yield Parser(
        "address of a server",
        text(server_settings.check_url),
        [b"https://vault.example", b"http://[::1]:8470", b"http://abc.onion"],
    )
    yield Parser(
        "supposition",
        text(lambda told: read_supposition([told])),
        [b"away 10d, mail dead", b"server down 3d"],
    )
    yield Parser("label", text(identity.check_label), [b"Ana", "Bruno ☮ Ünal".encode()])


def accepts(parser: Parser, data: bytes) -> bool:
    """Whether it is read. Raises what the reader should not, and where what was read is written back otherwise."""
    try:
        value = parser.read(data)
    except AfterwordError:
        return False
    again = parser.write(value)
    assert again is None or again == data, f"{parser.name}: accepted, and written otherwise"
    return True
