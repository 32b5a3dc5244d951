"""Fifty words, planted wherever people, programs and strangers put words into a server, and looked for in all it keeps.

Rule of this room: the server's key lies elsewhere, as SECURITY.md tells an operator to do; everything else that the
server wrote is searched, however it may have spelled a word. What a server without its key may show is nothing.
"""

import http.client
import re
import sqlite3
import ssl
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import zstandard
from front import front
from rehearsal import CALM, moves, session_of
from test_stories_secrets import spelled
from theatre import Cast, Mailroom, Person, cast, read, until

from tests.fire import tally
from tests.fire.tally import MAY_LACK

# By what they are; the value is the word that is looked for.
LABELS: Final = {"ana": "Quillfeather", "bo": "Brambleton", "cy": "Thistledown"}
MAILBOXES: Final = {"ana": "wrenfield", "bo": "larkspurn", "cy": "finchmoor"}
DOMAINS: Final = {"ana": "marrowpost.example", "bo": "gannetry.example", "cy": "ospreyfell.example"}
PHRASES: Final = {"ana": "vermilion anvil", "bo": "cobaltine harp", "cy": "saffronic oar"}
SUBJECTS: Final = {"ana": "Dentistry-Xylo", "bo": "Gardening-Ypsilon", "cy": "Libraryfine-Zed"}
PASSPHRASES: Final = {
    "ana": "gossamer-kettledrum-a",
    "bo": "hollyhock-barometer-b",
    "cy": "juniper-astrolabe-c",
}
INSIDE: Final = {
    "title": "Halcyonite Papers",
    "second title": "Brontides Ledger",
    "brief name": "Okoro-Vandermeulen",
    "brief telephone": "+999-555-0177",
    "brief advice": "publish-nothing-before-michaelmas",
    "note": "tamarisk-first",
    "second note": "quicklime-second",
    "folder": "peregrination",
    "inner folder": "undercroft",
    "file": "sphagnum-list.csv",
    "second file": "wapentake.txt",
    "third file": "Ångström–Ωmega.md",
    "content": "cinnabar;freight;1907",
    "second content": "who-paid-the-ferryman",
    "third content": "mistletoe-under-oath",
    "later file": "palimpsest.txt",
    "later content": "scrimshaw-confession",
}
EXTRA: Final = {
    "spare mailbox": "puffinhall",
    "lost mailbox": "razorbillow",
    "new passphrase": "zephyrine-lodestone-d",
    "unwanted label": "Nightjarring",
    "complaint": "mailbox-of-Corncrakes-unknown",
}
STRANGERS: Final = {
    "forwarded address": "127.77.66.55",
    "real address": "127.5.6.7",
    "forwarded for": "198.51.100.217",
    "via": "via-dunlinbridge",
    "user agent": "Turnstonezilla/7.0",
    "second user agent": "Whimbrelbot",
    "referer": "https://siskinmail.example/letter",
    "cookie": "linnetcookie",
    "basic password": "brambling-secret",
    "path": "redpoll-path",
    "query": "stonechat-query",
    "body": "wheatear-body",
    "json key": "fieldfare_key",
    "code": "whinchat-code",
    "bearer": "dotterel-token",
    "host": "pipitlark.example",
    "file name in a form": "crossbill-upload.exe",
    "label refused": "Bullfinchesque",
    "address refused": "goldcrest at nowhere",
}


def planted() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, words in {
        "label": LABELS,
        "mailbox": MAILBOXES,
        "domain": DOMAINS,
        "phrase": PHRASES,
        "subject": SUBJECTS,
        "passphrase": PASSPHRASES,
        "inside": INSIDE,
        "extra": EXTRA,
        "stranger": STRANGERS,
    }.items():
        found |= {f"{name}: {key}": word for key, word in words.items()}
    return found


# How they are looked for.


def spellings(word: str) -> set[bytes]:
    """As it may stand in a file: plain, in JSON, hex and base64 at each of its places; UTF-16 of either end; quoted."""
    found = set(spelled(word))
    for each in {word, word.lower(), word.upper(), quote(word, safe=""), quote_plus(word)}:
        found |= {each.encode(), each.encode("utf-16-le"), each.encode("utf-16-be"), each.encode("utf-32-le")}
        found |= set(spelled(each))
    return {each for each in found if len(each) >= 6}


def layers(data: bytes) -> Iterator[bytes]:
    """The data, in lower case, and whatever a decompressor makes of it wherever its magic begins."""
    yield data
    yield data.lower()
    for found in re.finditer(rb"\x28\xb5\x2f\xfd", data):
        with suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(data[found.start() :])
    for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
        with suppress(zlib.error):
            yield zlib.decompressobj(47).decompress(data[found.start() :], 1 << 20)


def told(data: bytes, words: Mapping[str, set[bytes]]) -> set[str]:
    return {
        name
        for layer in layers(data)
        for name, spellings in words.items()
        if any(each in layer for each in spellings)
    }


def texts(database: Path) -> Iterator[bytes]:
    """Every value of every row: in the file itself a long one is torn over pages."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608  # names of our own
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()


# The life.


class Complaining(Mailroom):
    """Says in its refusal whom it refuses, and more."""

    async def handle_RCPT(
        self, server: object, session: object, envelope: Any, address: str, options: list[str]
    ) -> str:
        said = await super().handle_RCPT(server, session, envelope, address, options)
        return f"550 <{address}> {EXTRA['complaint']}" if said.startswith("550") else said


def settle(made: Cast, name: str, invite: str) -> Person:
    who = Person(LABELS[name], made.folder / "homes" / name, made.mail)
    who.address = f"{MAILBOXES[name]}@{DOMAINS[name]}"
    who.secret.write_text(PASSPHRASES[name] + "\n")
    made.people[name] = who
    who.join(invite)
    who.quicken()
    who.type("address", "add", who.address, "--phrase", PHRASES[name], "--subject", SUBJECTS[name])
    letter = until(lambda: made.mail.to(who.address), f"a code for {name}")[-1]
    who.type("address", "confirm", code_in(read(letter)))
    return who


def code_in(text: str) -> str:
    found = re.search(r"address confirm (\S+)", text)
    assert found is not None
    return found[1]


def strangers(url: str) -> None:
    """Requests that are refused, misunderstood and nonsense, from addresses that nobody is to keep."""
    parts = urlsplit(url)
    heads = {
        "X-Forwarded-For": f"{STRANGERS['forwarded address']}, {STRANGERS['forwarded for']}",
        "X-Real-IP": STRANGERS["forwarded for"],
        "Forwarded": f"for={STRANGERS['forwarded for']}",
        "Via": f"1.1 {STRANGERS['via']}",
        "User-Agent": STRANGERS["user agent"],
        "Referer": STRANGERS["referer"],
        "Cookie": f"session={STRANGERS['cookie']}",
        "Host": STRANGERS["host"],
        "Authorization": f"Basic {STRANGERS['basic password']}",
        "Accept-Language": "es",
    }
    bearer = {
        **heads,
        "Authorization": f"Bearer {STRANGERS['bearer']}",
        "User-Agent": STRANGERS["second user agent"],
    }
    json_body = b'{"%s": "%s"}' % (STRANGERS["json key"].encode(), STRANGERS["body"].encode())
    code = b'{"code": "%s", "card": "%s"}' % (STRANGERS["code"].encode(), STRANGERS["body"].encode())
    named = f'Content-Disposition: form-data; name="f"; filename="{STRANGERS["file name in a form"]}"'
    form = f"--x\r\n{named}\r\n\r\nx\r\n--x--\r\n"
    as_json = {"Content-Type": "application/json"}
    asked: list[tuple[str, str, bytes | None, dict[str, str]]] = [
        ("GET", f"/{STRANGERS['path']}?q={STRANGERS['query']}", None, heads),
        ("GET", f"/api/v1/dossiers/{STRANGERS['path']}?after={STRANGERS['query']}", None, bearer),
        ("GET", f"/api/v1/history?after={STRANGERS['query']}", None, bearer),
        ("POST", "/api/v1/accounts", code, heads | as_json),
        ("POST", "/api/v1/accounts", json_body, heads | as_json),
        ("POST", "/api/v1/check-ins", json_body, bearer | as_json),
        ("POST", "/api/v1/check-ins", STRANGERS["body"].encode() * 500, heads | as_json),
        ("POST", "/api/v1/sessions", b'{"login": "%s"}' % STRANGERS["body"].encode(), bearer | as_json),
        ("POST", "/join", form.encode(), heads | {"Content-Type": "multipart/form-data; boundary=x"}),
        ("PUT", f"/api/v1/dossiers/{'0' * 32}/objects/{'0' * 64}", STRANGERS["body"].encode(), bearer),
        ("DELETE", f"/api/v1/addresses/{STRANGERS['path']}", None, bearer),
        (STRANGERS["path"].upper(), "/", None, heads),
        ("GET", "/api/v1/server", None, heads | {"Content-Length": STRANGERS["query"]}),
    ]
    for method, path, body, headers in asked:
        from_there: dict[str, Any] = {"timeout": 30, "source_address": (STRANGERS["real address"], 0)}
        if parts.scheme == "https":
            from_there["context"] = ssl._create_unverified_context()  # noqa: S323
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        line = kind(parts.hostname or "", parts.port, **from_there)
        with closing(line), suppress(http.client.HTTPException, ConnectionError):
            line.request(method, path, body, headers)
            assert line.getresponse().status < 500 or "Content-Length" in headers
    line = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    with closing(line), suppress(http.client.HTTPException, ConnectionError, ValueError):
        line.putrequest("GET", f"/{STRANGERS['path']}", skip_host=True)
        line.putheader("Host", f"a b/{STRANGERS['host']}")
        line.endheaders()
        line.getresponse()


def live(made: Cast) -> dict[str, str]:
    """From the first invite to the last file recovered; the words that only came to be on the way."""
    found: dict[str, str] = {}
    assert made.server.invite is not None
    ana = settle(made, "ana", made.server.invite)
    for name in ("bo", "cy"):
        invite = made.invite(ana, LABELS[name])
        found[f"invite of {name}"] = invite.partition("#")[2].partition(".")[0]
        settle(made, name, invite)
        ana.compare(made[name])
        made[name].compare(ana)
    bo, cy = made["bo"], made["cy"]
    unused = made.invite(ana, EXTRA["unwanted label"])
    found["invite that nobody used"] = unused.partition("#")[2].partition(".")[0]
    found["recipe of codes"] = code_in(read(made.mail.to(ana.address)[-1]))
    lost = f"{EXTRA['lost mailbox']}@{DOMAINS['ana']}"
    made.mail.unknown.add(lost)
    ana.type("address", "add", lost, "--phrase", PHRASES["ana"])
    spare = f"{EXTRA['spare mailbox']}@{DOMAINS['bo']}"
    bo.type("address", "add", spare, "--phrase", PHRASES["bo"])
    found["code of a spare address"] = code_in(read(until(lambda: made.mail.to(spare), "a code")[-1]))
    bo.type("address", "confirm", found["code of a spare address"])
    until(lambda: made.mail.turned_away, "a letter that is refused")
    assert bo.type("address", "confirm", STRANGERS["code"], code=None).code != 0
    assert (
        ana.type("address", "add", STRANGERS["address refused"], "--phrase", PHRASES["ana"], code=None).code
        != 0
    )
    assert ana.type("collaborator", "invite", STRANGERS["label refused"] + "\u202e", code=None).code != 0

    title, second = INSIDE["title"], INSIDE["second title"]
    people = [word for name in ("bo", "cy") for word in ("--collaborator", LABELS[name])]
    for each in (title, second):
        ana.type("dossier", "create", each, *people, "--threshold", "2", *CALM)
    page = made.folder / "page.txt"
    page.write_text("\n".join(INSIDE[each] for each in ("brief name", "brief telephone", "brief advice")))
    ana.type("brief", title, str(page))
    work = made.folder / "work" / INSIDE["folder"]
    (work / INSIDE["inner folder"]).mkdir(parents=True)
    (work / INSIDE["file"]).write_text(f"{INSIDE['content']}\n" * 500)
    (work / INSIDE["inner folder"] / INSIDE["second file"]).write_text(INSIDE["second content"])
    (work / INSIDE["third file"]).write_text(INSIDE["third content"])
    ana.type("push", title, str(work), "--note", INSIDE["note"])
    (work / INSIDE["later file"]).write_text(INSIDE["later content"])
    ana.type("push", title, str(work), "--note", INSIDE["second note"])
    for each in (bo, cy):
        each.type("drill")
        each.type("brief", title)
    for each in (title, second):
        ana.type("arm", each, "--anyway")
    ana.type("checkin")
    ana.type("pause", title, "--until", "1h")
    ana.type("resume", title)
    ana.type("destroy", second, answers={"Type its name": second})
    strangers(made.server.url)
    if not MAY_LACK or Path("/usr/sbin/nginx").exists():
        with front(made.folder / "front", int(made.server.url.rpartition(":")[2])) as door:
            strangers(door.url)
            strangers(door.public)
    session = session_of(ana)
    assert session.remote._connection.token is not None
    found["session token"] = session.remote._connection.token
    found["nonce"] = session.remote.nonce()
    session.remote.close()
    session.home.close()
    assert made.server.operator("operator", "backup", str(made.folder / "backups")).code == 0
    ana.type("plan", title, "--every", "1s")
    for each in (bo, cy):
        made.mail.saying(each.address, "can now be opened")
    bo.type("give", title, "--yes")
    cy.type("recover", title, "--to", str(made.folder / "out"), "--yes")
    bo.type("address", "remove", spare)
    for words in (("doctor",), ("operator", "status"), ("operator", "accounts")):
        made.server.operator(*words, "--data", str(made.server.folder))
    assert made.server.operator("operator", "backup", str(made.folder / "backups")).code == 0
    assert moves(made)[-1].after in ("released", "destroyed")
    return found


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cast, dict[str, str], list[str]]]:
    """A life that is over: the cast with its server stopped, what to look for, what the server printed."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "temporary").mkdir()
    key = folder / "elsewhere" / "server.key"
    key.parent.mkdir()
    around = {
        "AFTERWORD_SERVER_KEY_FILE": str(key),
        "TMPDIR": str(folder / "temporary"),
        "PYTHONFAULTHANDLER": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("theatre.Mailroom", Complaining)
        with cast(folder, environment=around) as made:
            found = live(made)
            assert key.exists()
            made.server.stop()
            yield made, planted() | found, list(made.server.lines)


def test_fifty_words_and_more_are_planted_and_no_two_are_one() -> None:
    words = planted()
    assert len(set(words.values())) == len(words) >= 50
    assert not [(a, b) for a in words.values() for b in words.values() if a != b and a in b]


def test_none_of_them_is_found_in_anything_that_the_server_wrote(
    lived: tuple[Cast, dict[str, str], list[str]],
) -> None:
    made, words, lines = lived
    wanted = {name: spellings(word) for name, word in words.items()}
    searched = 0
    for place in ("server", "backups", "temporary", "front"):
        for path in sorted((made.folder / place).rglob("*")):
            where = path.relative_to(made.folder)
            assert told(str(where).encode(), wanted) == set(), where
            if path.is_file():
                assert told(path.read_bytes(), wanted) == set(), where
                searched += 1
    assert searched > 5
    values = list(texts(made.server.folder / "afterword.db"))
    assert told(b"\n".join(values), wanted) == set()
    assert told("\n".join(lines).encode(), wanted) == set()
    assert not list(made.folder.rglob("core*"))
    tally.count("planted words", len(words))


def test_the_words_are_where_they_belong(lived: tuple[Cast, dict[str, str], list[str]]) -> None:
    """That the life was lived as it was meant to: people were written to by name, and the archive was recovered."""
    made, words, _ = lived
    wanted = {name: spellings(word) for name, word in words.items()}
    mail = b"\n".join(f"{each['To']} {each['Subject']} {read(each)}".encode() for each in made.mail.letters)
    heard = told(mail, wanted)
    assert {f"phrase: {name}" for name in LABELS} | {f"subject: {name}" for name in LABELS} <= heard
    assert not {each for each in heard if each.startswith(("inside", "passphrase", "stranger"))}
    recovered = b"\n".join(
        str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        for path in (made.folder / "out").rglob("*")
    )
    found = told(recovered, wanted)
    assert {
        f"inside: {key}" for key in ("folder", "file", "content", "later content", "third content")
    } <= found


@pytest.mark.parametrize("word", ["Quillfeather", "127.77.66.55", "Ångström–Ωmega.md", "vermilion anvil"])
def test_the_search_finds_a_word_however_it_is_spelled(word: str) -> None:
    import base64

    wanted = {"it": spellings(word)}
    raw = word.encode()
    ways = [
        raw,
        raw.lower(),
        word.upper().encode(),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        word.encode("utf-16-le"),
        word.encode("utf-16-be"),
        quote(word, safe="").encode(),
        base64.b64encode(raw),
        base64.b64encode(b"x" + raw + b"yy"),
        base64.b64encode(b"xx" + raw + b"y"),
        zlib.compress(b"before " + raw),
        zstandard.compress(b"before " + raw + b" after"),
        zlib.compress(b"a", wbits=31) + b"between" + zlib.compress(raw, wbits=31),
    ]
    for each in ways:
        assert told(b"\0\0noise" + each + b"more noise", wanted) == {"it"}, each
    assert told(b"nothing of the kind", wanted) == set()
