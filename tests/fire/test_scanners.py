"""Twelve things that mail scanners, preview bots and browsers do with links, and no check-in by any of them.

Rule of this room: everything that is mailed and everything that answers is given to them; afterwards not one row of
the server has changed but its clock's. Each behaviour is shown to find a link that does something, where there is one.
"""

import html
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import pytest
import urllib3
from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.fire import browser, tally
from tests.world import World, until
from vault import accounts, compose
from vault.clock import HOUR
from vault.couriers import Parcel
from vault.identity import Fingerprint
from vault.plans import Plan
from vault.settings import read_settings
from vault.statements import Destroy
from vault.switch import Stage
from web import create_app

AT_ONCE: Final = 10
PUBLIC: Final = "https://server.example"  # as the letters of tests/world.py name this server
_LINK: Final = re.compile(r"(?:https?://|www\.|//)[^\s<>\"')\]]+")
# What a scanner that fills in forms fills in.
GUESSES: Final = (
    "token",
    "code",
    "t",
    "id",
    "key",
    "confirm",
    "action",
    "checkin",
    "check-in",
    "alive",
    "yes",
    "ok",
    "csrf_token",
    "email",
    "address",
    "submit",
    "_method",
    "account",
    "statement",
    "nonce",
    "passphrase",
)


class Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@dataclass
class Street:
    """A server on a real port, what was ever mailed of it, and what it has stored."""

    url: str
    letters: list[str]
    links: list[str]
    stored: Callable[[], list[str]]
    asked: list[str] = field(default_factory=list)
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(maxsize=AT_ONCE, retries=False, timeout=30)
    )

    def ask(self, method: str, url: str, **more: Any) -> urllib3.BaseHTTPResponse | None:
        """Any server but this one is not there."""
        url = urldefrag(url.replace(PUBLIC, self.url)).url
        if not url.startswith(self.url):
            return None
        self.asked.append(f"{method} {url}")
        try:
            return self.pool.request(method, url, redirect=False, **more)
        except urllib3.exceptions.HTTPError:
            return None

    def everything(self) -> list[str]:
        """Every address anybody could have: mailed, linked, guessed."""
        found = [each for letter in self.letters for each in _LINK.findall(letter)]
        return list(dict.fromkeys([*self.links, *found]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A journalist with a dossier in every stage, who was sent every letter there is."""
    made = World(tmp_path_factory.mktemp("street"), tick=300_000, short=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def street(world: World) -> Iterator[Street]:
    ana = world.journalist("ana")
    ana.confirm("ana@example.org")
    people = [ana.colleague(name) for name in ("bruno", "chen")]
    for each, language in zip(people, ("en", "es"), strict=True):
        each.confirm(f"{each.name}@example.org", language)  # type: ignore[arg-type]  # one of the two
    hours = {
        "released": (1, 1, 1, 1),
        "grace": (2, 2, 2, 60),
        "warned": (3, 3, 60, 60),
        "reminded": (8, 60, 60, 60),
        "armed": (99, 9, 9, 9),
    }
    dossiers = {}
    for stage, lengths in hours.items():
        dossiers[stage] = each_made = ana.create(people, 2, Plan(*(hour * HOUR for hour in lengths)))
        each_made.push()
        each_made.prove()
        each_made.arm()
    ana.order(dossiers["armed"].id, Destroy)  # everybody concerned is written to
    until(dossiers["released"], Stage.RELEASED)
    while dossiers["reminded"].stage is not Stage.REMINDED:
        world.skip(HOUR)
    world.pass_time(20 * world.tick)
    stages = {name: each.stage.value for name, each in dossiers.items()}
    assert stages == {name: name for name in hours}, stages

    settings = read_settings({"AFTERWORD_LOW_WATER": "0"}, data=world.folder, short=True)
    app = create_app(compose.Vault(settings, world.records, world.objects, world.custodian))
    invites = [accounts.invite_collaborator(world.records, world.custodian, ana.account, "Dora").code]
    invites.append(accounts.invite_journalist(world.records, world.custodian))
    pin = Fingerprint.of(bytes.fromhex(world.custodian.hash)).write()
    letters = [
        f"{parcel.subject}\n{parcel.body}" for parcel in world.courier.carried if isinstance(parcel, Parcel)
    ]
    assert len(letters) > 20
    with served(app) as url:
        ids = {
            "dossier": dossiers["warned"].id,
            "name": "0" * 64,
            "address": "0" * 32,
            "epoch": "1",
            "filename": "style.css",
        }
        pages = [
            url + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ids[found[1]], rule.rule)
            for rule in app.url_map.iter_rules()
        ]
        pages += [
            f"{url}/?language=es",
            f"{url}/nothing",
            f"{url}/api/v1/nothing",
            f"{url}/checkin",
            f"{url}/confirm",
        ]
        pages += [f"{url}/join#{code}.{pin}" for code in invites]
        pages += [f"{url}/join#{code}.{pin}.{pin}" for code in invites]
        yield Street(url, letters, pages, lambda: rows(world))


def rows(world: World) -> list[str]:
    with closing(sqlite3.connect(world.folder / "afterword.db")) as db:
        # Asking for a nonce, which anybody may, stores nothing; only the clock's own row moves.
        return [line for line in db.iterdump() if not line.startswith('INSERT INTO "service"')]


class served:
    """A WSGI application on a port of its own, many requests at a time."""

    def __init__(self, app: Flask) -> None:
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


# What they do.


def opens_every_link(street: Street, folder: Path) -> None:
    for url in street.everything():
        street.ask("GET", url, headers={"User-Agent": "Mozilla/5.0 (compatible; LinkScan)"})


def asks_for_heads(street: Street, folder: Path) -> None:
    for url in street.everything():
        street.ask("HEAD", url)


def asks_what_is_allowed(street: Street, folder: Path) -> None:
    asking = {
        "Origin": "https://mail.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "*",
    }
    for url in street.everything():
        answer = street.ask("OPTIONS", url, headers=asking)
        assert answer is None or "Access-Control-Allow-Origin" not in answer.headers
        street.ask("TRACE", url)


def posts_nothing(street: Street, folder: Path) -> None:
    for url in street.everything():
        street.ask("POST", url)
        street.ask(
            "POST", url, headers={"Content-Length": "0", "Content-Type": "application/x-www-form-urlencoded"}
        )


def posts_guessed_forms(street: Street, folder: Path) -> None:
    """Also in JSON, and with what stands behind the # or in the letter as the value: RFC 8058's one click."""
    for url in street.everything():
        value = urlsplit(url).fragment or "1"
        fields = dict.fromkeys(GUESSES, value)
        street.ask("POST", url, fields=fields)
        street.ask("POST", url, fields=fields, encode_multipart=False)
        street.ask("POST", url, json=fields)
        street.ask(
            "POST",
            url,
            body=b"List-Unsubscribe=One-Click",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )


def fetches_ahead(street: Street, folder: Path) -> None:
    for url in street.everything():
        for ahead in (
            {"Purpose": "prefetch"},
            {"Sec-Purpose": "prefetch;prerender"},
            {"X-Moz": "prefetch"},
            {"X-Purpose": "preview"},
            {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
            {"Range": "bytes=0-0"},
            {"User-Agent": "facebookexternalhit/1.1"},
            {"If-None-Match": "*"},
            {"Upgrade-Insecure-Requests": "1"},
        ):
            street.ask("GET", url, headers=ahead)


def adds_tracking(street: Street, folder: Path) -> None:
    for url in street.everything():
        bare, fragment = urldefrag(url)
        sep = "&" if "?" in bare else "?"
        for added in (
            "utm_source=mail&utm_medium=email",
            "fbclid=x",
            f"url={quote(url)}",
            f"redirect={quote(url)}&next=/",
            "action=checkin",
            "confirm=1",
            f"token={quote(fragment)}",
            f"code={quote(fragment.split('.')[0])}",
            "_method=POST",
            "format=amp",
        ):
            street.ask("GET", f"{bare}{sep}{added}")
        street.ask("GET", f"{bare};jsessionid=0")


def rewrites_links(street: Street, folder: Path) -> None:
    """Normalised, encoded once and twice, cut, with the fragment sent along, which no browser does."""
    for url in street.everything():
        parts = urlsplit(url.replace(PUBLIC, street.url))
        path = parts.path or "/"
        secret = parts.fragment
        for other in (
            path.upper(),
            path + "/",
            "/" + path,
            path.replace("/", "//"),
            quote(path, safe=""),
            quote(quote(path)),
            "".join(f"%{ord(each):02x}" if each != "/" else each for each in path),
            path + "%23" + quote(secret),
            path + "/" + secret,
            path + "?" + secret,
            path[:-1] or "/",
            path + ".",
            path + "%00",
            path + "/..",
            "/./" + path,
            path + html.escape("&x=<y>"),
            path + "%0d%0aX: y",
        ):
            for method in ("GET", "POST"):
                street.ask(
                    method, f"{street.url}/{other.lstrip('/')}" if other[:1] != "/" else street.url + other
                )


def follows_everything(street: Street, folder: Path) -> None:
    """Every link of every letter and every page, and of what is found there."""
    waiting, seen = street.everything(), set[str]()
    while waiting and len(seen) < 2_000:
        url = urldefrag(waiting.pop()).url
        if url in seen:
            continue
        seen.add(url)
        answer = street.ask("GET", url, headers={"Accept": "text/html"})
        if answer is not None and "html" in answer.headers.get("Content-Type", ""):
            page = Page(answer.data.decode())
            waiting += [urljoin(url, each) for each in [*page.links, *_LINK.findall(page.text)]]
            for form in page.forms:
                waiting.append(urljoin(url, form.action))


def submits_everything(street: Street, folder: Path) -> None:
    """Every form that is found, and every page as if it were one, also with methods in disguise."""
    for url in street.everything():
        answer = street.ask("GET", url, headers={"Accept": "text/html"})
        if answer is not None and "html" in answer.headers.get("Content-Type", ""):
            for form in Page(answer.data.decode()).forms:
                street.ask(form.method, urljoin(url, form.action), fields=form.fields, encode_multipart=False)
        for method in ("PUT", "PATCH", "DELETE"):
            street.ask("POST", url, fields={"_method": method}, headers={"X-HTTP-Method-Override": method})
            street.ask("GET", url, headers={"X-HTTP-Method": method, "X-Method-Override": method})
            street.ask(method, url)
        street.ask("POST", url, body=b"<x/>", headers={"Content-Type": "text/xml"})


def presses_everything(street: Street, folder: Path, *, scripts: bool = True) -> None:
    """A whole browser: opens every page in ten tabs at once, then presses each thing on each."""
    pages = list(dict.fromkeys(each.replace(PUBLIC, street.url) for each in street.everything()))
    pages = [each for each in pages if each.startswith(street.url) and "/objects" not in each]
    with browser.Browser(folder, scripts=scripts) as chromium:
        tabs = [chromium.tab() for _ in range(AT_ONCE)]
        for url in pages:
            if "/api/" in url and not (scripts or tally.FULL):
                continue  # no page, and nothing to press; the browser with scripts has opened it
            if "/api/" not in url:
                chromium.open_all(tabs, url)
            chromium.press_everything(tabs[0], url)


def presses_everything_without_scripts(street: Street, folder: Path) -> None:
    presses_everything(street, folder, scripts=False)


BEHAVIOURS: Final = (
    opens_every_link,
    asks_for_heads,
    asks_what_is_allowed,
    posts_nothing,
    posts_guessed_forms,
    fetches_ahead,
    adds_tracking,
    rewrites_links,
    follows_everything,
    submits_everything,
    presses_everything,
    presses_everything_without_scripts,
)
BROWSING: Final = BEHAVIOURS[-2:]


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str]


class Page(HTMLParser):
    """Links, forms and text of a page, as a scanner sees them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.links += [
            given[name] for name in ("href", "src", "formaction", "data-url", "ping", "cite") if name in given
        ]
        if tag == "meta" and "url=" in given.get("content", "").lower():
            self.links.append(given["content"].partition("=")[2])
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").upper(), {}))
        if tag in ("input", "button", "select", "textarea") and self.forms:
            self.forms[-1].fields[given.get("name", "x")] = given.get("value") or "yes"

    def handle_data(self, data: str) -> None:
        self.text += data + " "


needs_chromium = pytest.mark.skipif(
    tally.MAY_LACK and browser.CHROMIUM is None, reason="no chromium; `make test` installs Debian's"
)


def each_of(behaviours: tuple[Any, ...]) -> list[Any]:
    return [
        pytest.param(each, id=each.__name__, marks=[needs_chromium] if each in BROWSING else [])
        for each in behaviours
    ]


@pytest.mark.parametrize("behaviour", each_of(BEHAVIOURS))
def test_no_scanner_checks_in_and_none_changes_anything(
    street: Street, world: World, behaviour: Any, tmp_path: Path
) -> None:
    before = street.stored()
    seqs = world.database.all("SELECT id, seq FROM accounts ORDER BY id")
    switches = world.database.all("SELECT * FROM switches ORDER BY dossier")
    street.asked.clear()
    behaviour(street, tmp_path)
    assert behaviour in BROWSING or len(street.asked) > 30
    assert world.database.all("SELECT id, seq FROM accounts ORDER BY id") == seqs
    assert world.database.all("SELECT * FROM switches ORDER BY dossier") == switches
    assert street.stored() == before
    tally.count("scanner behaviours")


def test_ten_of_them_at_once_change_nothing_either(street: Street, tmp_path: Path) -> None:
    before = street.stored()
    plain = [each for each in BEHAVIOURS if each not in BROWSING]
    assert len(plain) == AT_ONCE
    with ThreadPoolExecutor(AT_ONCE) as together:
        for done in [together.submit(each, street, tmp_path) for each in plain]:
            done.result()
    assert street.stored() == before


def test_there_are_twelve(street: Street) -> None:
    assert len(set(BEHAVIOURS)) == 12


def test_no_letter_holds_a_link_that_leads_anywhere_but_to_a_page(street: Street) -> None:
    for letter in street.letters:
        for link in _LINK.findall(letter):
            assert urlsplit(link.replace(PUBLIC, street.url)).path.rstrip("./,;") in ("", "/", "/join"), (
                letter
            )


# That they find something where there is something to be found.


def planted(done: list[str]) -> Flask:
    """What Afterword must never be: a link that checks in when it is opened, a button, a form."""
    app = Flask("planted")
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False

    @app.get("/")
    def page() -> str:
        return (
            '<a href="/alive?from=page">I am well</a>'
            "<button onclick=\"fetch('/pressed', {method: 'POST'})\">I am well</button>"
            '<form method="post" action="/submitted"><input name="a" value="b"><input type="submit"></form>'
        )

    @app.route("/alive", methods=["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
    def alive() -> str:
        done.append(f"{request.method} alive {request.query_string.decode()}")
        return "Thank you."

    @app.post("/pressed")
    def pressed() -> str:
        done.append("pressed")
        return ""

    @app.post("/submitted")
    def submitted() -> str:
        done.append("submitted")
        return ""

    return app


@pytest.mark.parametrize("behaviour", each_of(BEHAVIOURS))
def test_each_finds_a_link_that_does_something(behaviour: Any, tmp_path: Path) -> None:
    done: list[str] = []
    with served(planted(done)) as url:
        street = Street(url, [f"Press here: {PUBLIC}/alive"], [f"{url}/"], list)
        behaviour(street, tmp_path)
    assert any("alive" in each for each in done)
    if behaviour in (submits_everything, *BROWSING):
        assert "submitted" in done
    if behaviour is follows_everything or behaviour in BROWSING:
        assert any("from=page" in each for each in done)
    assert ("pressed" in done) == (behaviour is presses_everything)
