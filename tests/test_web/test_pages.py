"""The pages explain, in the reader's language, and decide nothing."""

import re

import pytest

from tests.test_web.doors import a_card, an_app

PAGES = ["/", "/join"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("wish", "spoken"),
    [
        ("es-MX,es;q=0.9,en;q=0.5", "es"),
        ("en-GB", "en"),
        ("de-DE,de;q=0.9", "en"),
        ("de,es;q=0.5", "es"),
        ("", "en"),
    ],
)
def test_a_page_speaks_the_language_that_the_browser_prefers(path: str, wish: str, spoken: str) -> None:
    answer = an_app().test_client().get(path, headers={"Accept-Language": wish})
    assert answer.status_code == 200
    assert f'<html lang="{spoken}">' in answer.text
    assert answer.headers["Content-Language"] == spoken
    assert answer.headers["Vary"] == "Accept-Language"


def test_a_reader_may_choose_the_other_language() -> None:
    answer = an_app().test_client().get("/join?language=es", headers={"Accept-Language": "en"})
    assert '<html lang="es">' in answer.text


@pytest.mark.parametrize("wish", ["xx", "", "<script>", "EN"])
def test_a_language_that_nobody_speaks_here_is_ignored(wish: str) -> None:
    answer = an_app().test_client().get("/", query_string={"language": wish})
    assert '<html lang="en">' in answer.text


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("spoken", ["en", "es"])
def test_a_page_shows_the_ten_words_of_the_servers_card(path: str, spoken: str) -> None:
    text = an_app().test_client().get(path, query_string={"language": spoken}).text
    words = a_card().fingerprint.words("en" if spoken == "en" else "es")
    assert re.findall(r"<li>([^<\n]+)</li>", text) == list(words)
    assert a_card().fingerprint.write() in text


@pytest.mark.parametrize("path", [*PAGES, "/nowhere"])
@pytest.mark.parametrize("spoken", ["en", "es"])
def test_no_page_runs_asks_or_loads_anything_from_elsewhere(path: str, spoken: str) -> None:
    text = (
        an_app()
        .test_client()
        .get(path, query_string={"language": spoken}, headers={"Accept": "text/html"})
        .text
    )
    for forbidden in ("<script", "<form", "<input", "<button", "<iframe", " style=", " on", "http-equiv"):
        assert not re.search(rf"{forbidden}\w*=" if forbidden == " on" else re.escape(forbidden), text), (
            forbidden
        )
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert links
    assert all(link.startswith(("/", "?")) and not link.startswith("//") for link in links)


@pytest.mark.parametrize("path", [*PAGES, "/robots.txt", "/static/style.css", "/static/mark.svg"])
def test_pages_can_only_be_read(path: str) -> None:
    client = an_app().test_client()
    assert client.head(path, buffered=True).status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.open(path, method=method).status_code == 405


def test_robots_are_asked_to_stay_away() -> None:
    assert "Disallow: /" in an_app().test_client().get("/robots.txt").text
