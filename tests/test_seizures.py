"""What each seizure surrenders: everything that was taken is handed to the test, which tries to read it.

SECURITY.md says in words what is shown here. The people and the server are real, and nothing was armed or released
but where a story says so.
"""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from itertools import combinations
from pathlib import Path

import pytest
from rehearsal import COLLEAGUES, JOURNALIST, TITLE
from theatre import Cast, Frozen, Person

from vault import age, identity, sharing, statements
from vault.errors import AfterwordError
from vault.identity import Keyring, RootSeed

Stage = Callable[..., AbstractContextManager[Cast]]

AGE = b"age-encryption.org/v1\n"
# What was deposited, as whoever seized something would look for it.
INSIDE = [
    "numbat", "pangolin", "aardvark", "vacío", "Übersicht", "Κύπρος", "unsorted", "crane;harbour", "who paid for",
    "begin with the",
]  # fmt: skip
# What else nobody but its owners may read on the server's disk.
AROUND = [TITLE, "Okonjo-Tamarind", "the blue door of", "@example.org", *COLLEAGUES]


def spellings(word: str) -> list[bytes]:
    """As bytes, as hex, and as base64 wherever in three bytes it begins."""
    raw = word.encode()
    spelled = [raw, raw.hex().encode(), json.dumps(word)[1:-1].encode()]
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + raw)
        whole = coded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
        # Anything shorter stands in a megabyte of chance too.
        spelled += [whole] if len(whole) >= 6 else []
    return spelled


def words_in(data: bytes, words: list[str]) -> list[str]:
    return [word for word in words if any(spelled in data for spelled in spellings(word))]


def everything_in(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def values_of(database: Path) -> Iterator[tuple[str, bytes]]:
    """Every value of every table, statements also taken out of their envelopes."""
    with closing(sqlite3.connect(database)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608  # names of our own
                for value in row:
                    data = value.encode() if isinstance(value, str) else value
                    if not isinstance(data, bytes):
                        continue
                    yield table, data
                    if table == "heads" and data.startswith(b"{"):
                        yield "roots", base64.b64decode(statements.peek(data).root)  # type: ignore[attr-defined]


def seals_of(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every age file that was taken, and where it lay."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix == ".db":
                yield from ((table, data) for table, data in values_of(path) if data.startswith(AGE))
            elif path.is_file() and path.read_bytes()[: len(AGE)] == AGE:
                yield path.parent.parent.name if len(path.name) == 64 else path.name, path.read_bytes()


def keyring_of(person: Person) -> Keyring:
    passphrase = person.secret.read_text().splitlines()[0]
    return identity.read_keyring((person.home / "keyring.age").read_bytes(), passphrase)


def keys_of_the_server(folder: Path) -> list[age.Identity]:
    """Its key, and what its key opens: the keyring under which release shares were sealed to it."""
    lines = (folder / "server.key").read_text().splitlines()
    key = age.Identity.read(next(line for line in lines if line.startswith("AGE-SECRET-KEY-PQ-1")))
    with closing(sqlite3.connect(folder / "afterword.db")) as db:
        (sealed,) = db.execute("SELECT keyring FROM server").fetchone()
    return [key, Keyring.from_seed(RootSeed(age.open_sealed(sealed, key))).seal]


def opened_with(keys: list[age.Identity], seals: Iterator[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    found = []
    for place, sealed in seals:
        for key in keys:
            try:
                found.append((place, age.open_sealed(sealed, key)))
            except AfterwordError:
                continue
    return found


@pytest.fixture(scope="module")
def stopped(prepared: Frozen, stage: Stage) -> Iterator[Cast]:
    """Everything as it lies on the disks when the power is cut."""
    with stage(prepared) as cast:
        cast[JOURNALIST].type("arm", TITLE)
        cast[JOURNALIST].type("checkin")
        cast.server.stop()
        yield cast


def recipient_of(cast: Cast) -> str:
    with closing(sqlite3.connect(cast.server.folder / "afterword.db")) as db:
        (recipient,) = db.execute("SELECT recipient FROM dossiers").fetchone()
    return str(recipient)


def test_the_servers_disk_without_its_key_shows_no_word_of_anybody(stopped: Cast) -> None:
    taken = everything_in(stopped.server.folder)
    assert words_in(taken, INSIDE + AROUND) == []
    assert words_in("\n".join(stopped.server.lines).encode(), INSIDE + AROUND) == []
    # The search itself finds what is there.
    assert words_in(taken + b"xx" + base64.b64encode(b"?pangolin!"), INSIDE) == ["pangolin"]


def test_every_object_on_the_servers_disk_has_one_size(stopped: Cast) -> None:
    objects = [path for path in (stopped.server.folder / "objects").rglob("*") if path.is_file()]
    assert len(objects) >= 2
    assert {path.stat().st_size for path in objects} == {1_048_576}


def test_the_servers_disk_with_its_key_names_people_and_opens_nothing_that_was_deposited(
    stopped: Cast,
) -> None:
    keys = keys_of_the_server(stopped.server.folder)
    opened = opened_with(keys, seals_of(stopped.server.folder))
    plain = b"\n".join(data for _, data in opened)
    assert set(words_in(plain, AROUND)) == {"the blue door of", "@example.org", *COLLEAGUES}
    assert words_in(plain, INSIDE) == []
    assert not {"roots", "copies", "collaborators"} & {place for place, _ in opened}


def test_laptop_passphrase_and_the_servers_disk_with_its_key_open_nothing_that_was_pushed(
    stopped: Cast,
) -> None:
    ana = stopped[JOURNALIST]
    hers = keyring_of(ana)
    keys = [hers.seal, *keys_of_the_server(stopped.server.folder)]
    opened = opened_with(keys, seals_of(stopped.server.folder, ana.home))
    plain = b"\n".join(data for _, data in opened)
    assert words_in(plain, INSIDE) == []
    # Title and brief are hers to read; a thief with her passphrase reads them too, and SECURITY.md says so.
    assert {TITLE, "Okonjo-Tamarind"} <= set(words_in(plain, AROUND))
    # No object, no root, no colleague's share, and not the C that is sealed to her paper.
    places = {place for place, _ in opened}
    assert not {"roots", "collaborators"} & places
    assert all(len(data) != 1_046_677 for _, data in opened)
    # R is there, and whatever else of 32 bytes can be found does not make it the key.
    (release,) = [data[1:] for place, data in opened if place == "dossiers" and len(data) == 33]
    recipient = recipient_of(stopped)
    seeds = {data for _, data in opened if len(data) == 32}
    seeds |= {hers.seal.reveal(), hers.sign.reveal(), hers.checkin.reveal(), bytes(32)}
    for one in seeds:
        assert str(age.Identity(one).recipient) != recipient
        assert str(age.Identity(sharing.xor(one, release)).recipient) != recipient


def test_every_colleagues_computer_and_passphrase_without_the_server_open_nothing(stopped: Cast) -> None:
    people = [stopped[name] for name in COLLEAGUES]
    keys = [keyring_of(who).seal for who in people]
    opened = opened_with(keys, seals_of(*(who.home for who in people)))
    assert words_in(b"\n".join(data for _, data in opened), INSIDE) == []


def test_k_minus_one_colleagues_and_the_server_with_its_key_open_nothing_and_k_do(stopped: Cast) -> None:
    folder, recipient = stopped.server.folder, recipient_of(stopped)
    opened = opened_with(keys_of_the_server(folder), seals_of(folder))
    (release,) = [data[1:] for place, data in opened if place == "dossiers" and len(data) == 33]
    shares = []
    for name in COLLEAGUES:
        mine = opened_with([keyring_of(stopped[name]).seal], seals_of(folder))
        (share,) = [sharing.read_share(data).share for place, data in mine if place == "collaborators"]
        shares.append(share)
        alone = sharing.xor(sharing.combine([share]), release)
        assert str(age.Identity(alone).recipient) != recipient
    for pair in combinations(shares, 2):
        key = age.Identity(sharing.xor(sharing.combine(pair), release))
        assert str(key.recipient) == recipient
    # That is what k of them and a dishonest server can do; nothing in this program can prevent it.
    assert words_in(b"".join(data for _, data in opened_with([key], seals_of(folder))), INSIDE)


def test_a_backup_without_the_server_key_shows_no_word_of_anybody(
    prepared: Frozen, stage: Stage, tmp_path: Path
) -> None:
    with stage(prepared) as cast:
        done = cast.server.operator("operator", "backup", str(tmp_path / "backup"))
        assert done.code == 0, done.said
        taken = everything_in(tmp_path / "backup")
        assert words_in(taken, INSIDE + AROUND) == []
        assert (cast.server.folder / "server.key").read_bytes().splitlines()[-1] not in taken


def test_a_thief_at_the_unlocked_laptop_with_the_passphrase_opens_nothing_and_changes_nothing_at_once(
    prepared: Frozen, stage: Stage, tmp_path: Path
) -> None:
    second = "Narwhal papers"
    with stage(prepared) as cast:
        ana = cast[JOURNALIST]
        people = [word for name in COLLEAGUES for word in ("--collaborator", name)]
        ladder = ("--every", "1h", "--remind", "1h", "--warn", "1h", "--grace", "1h", "--cooling", "7d")
        ana.type("dossier", "create", second, *people, "--threshold", "2", *ladder)
        ana.type("push", second, str(cast.folder / "work" / "numbat"))
        ana.type("arm", second, "--anyway")
        for command in (
            ("recover", second, "--to", str(tmp_path / "loot"), "--yes"),
            ("recover", second, "--list", "--yes"),
            ("recover", second, "--keep-sealed", str(tmp_path / "loot"), "--yes"),
            ("give", second, "--yes"),
            ("leave", second),
        ):
            assert ana.type(*command, code=None).code != 0, command
        guess = {r"word": "abandon " * 24}
        ana.refused("wrong-words", "roster", second, "--remove", COLLEAGUES[0], answers=guess)
        for command in (
            ("destroy", second),
            ("pause", second, "--until", "10d"),
            ("plan", second, "--every", "2h"),
            ("address", "remove", ana.address),
        ):
            done = ana.type(*command, "--json", answers={"Type its name": second})
            assert json.loads(done.out)["change"], command
        found = {each["title"]: each for each in ana.ask("status")["dossiers"]}
        assert (found[second]["stage"], found[second]["k"]) == ("armed", 2)
        assert not (tmp_path / "loot").exists()
        for name in COLLEAGUES:
            cast.mail.saying(cast[name].address, "was asked for")
        # Of all that, the post learns nothing: neither of the dossier nor of what is in it.
        letters = b"\n".join(bytes(letter) for letter in cast.mail.letters)
        assert words_in(letters, [*INSIDE, TITLE, second, "Okonjo-Tamarind"]) == []
