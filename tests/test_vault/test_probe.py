"""The public door counts as open only if our own server answered through it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.detour import a_dripping_front, a_proxy
from vault import wire
from vault.couriers.probe import Door


@contextmanager
def a_server(
    status: int, body: bytes, headers: dict[str, str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            asked.append(f"HEAD {self.path} {self.headers['User-Agent']}")
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


MARK = "5f" * 32


def health(ok: bool, ticking: bool, mark: str | None = MARK) -> bytes:
    return wire.write(wire.Health(ok=ok, ticking=ticking, mark=mark))


def test_a_server_that_is_well_opens_the_door() -> None:
    with a_server(200, health(ok=True, ticking=True)) as (url, asked):
        assert Door(url + "/").opens(MARK)
    assert asked == ["/api/v1/health"]


def test_a_server_whose_watch_has_not_begun_opens_the_door_so_that_it_can_begin() -> None:
    with a_server(503, health(ok=False, ticking=False)) as (url, _):
        assert Door(url).opens(MARK)


def test_a_server_that_ticks_but_is_not_well_keeps_the_door_shut() -> None:
    with a_server(503, health(ok=False, ticking=True)) as (url, _):
        assert not Door(url).opens(MARK)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>Welcome to this proxy!</html>"),
        (502, b'{"ok": true, "ticking": true}'),
        (404, b'{"ok": true, "ticking": true}'),
        (200, b'{"ok": true}'),
        (200, b""),
        (200, b'{"ok": true, "ticking": true, "more": "' + b"x" * 5_000 + b'"}'),
    ],
)
def test_whatever_else_answers_in_its_place_is_not_our_server(status: int, body: bytes) -> None:
    with a_server(status, body) as (url, _):
        assert not Door(url).opens(MARK)


@pytest.mark.parametrize("mark", [None, "00" * 32])
def test_a_server_over_another_database_is_not_ours_however_well_it_is(mark: str | None) -> None:
    with a_server(200, health(ok=True, ticking=True, mark=mark)) as (url, _):
        assert not Door(url).opens(MARK)


def test_a_redirect_is_not_followed() -> None:
    with a_server(200, health(ok=True, ticking=True)) as (target, followed):
        with a_server(302, b"", {"Location": f"{target}/api/v1/health"}) as (url, _):
            assert not Door(url).opens(MARK)
        assert followed == []


def test_a_server_that_is_not_there_is_a_shut_door() -> None:
    with a_server(200, b"") as (url, _):
        gone = url
    assert not Door(gone, timeout=500).opens(MARK)


def test_a_proxy_that_is_not_there_is_a_shut_door() -> None:
    with a_server(200, b"") as (url, _):
        gone = url
    assert not Door("http://example.onion", proxy=gone.replace("http", "socks5h"), timeout=500).opens(MARK)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_a_knock_by_way_of_a_proxy_leaves_the_name_to_the_proxy() -> None:
    with (
        a_server(200, health(ok=True, ticking=True)) as (url, asked),
        a_proxy({"vault.onion": port_of(url)}) as proxy,
    ):
        assert Door("http://vault.onion", proxy.url).opens(MARK)
        assert proxy.asked == [("vault.onion", 80)]
        assert asked == ["/api/v1/health"]


def test_a_proxy_that_does_not_get_through_is_a_shut_door_though_we_reach_ourselves() -> None:
    with a_server(200, health(ok=True, ticking=True)) as (url, asked), a_proxy() as proxy:
        assert Door(url).opens(MARK)
        assert not Door("http://vault.onion", proxy.url, timeout=5_000).opens(MARK)
        assert len(asked) == 1


@pytest.mark.parametrize("status", [200, 204, 404, 403, 500])
def test_a_witness_may_answer_whatever_it_likes(status: int) -> None:
    with a_server(200, health(ok=True, ticking=True)) as (url, _), a_server(status, b"") as (other, asked):
        assert Door(url, witnesses=(f"{other}/robots.txt",)).opens(MARK)
    assert asked == ["HEAD /robots.txt -"]


def test_a_house_from_which_no_witness_is_reached_is_cut_off() -> None:
    with a_server(200, b"") as (gone, _):
        pass
    with a_server(200, health(ok=True, ticking=True)) as (url, _):
        assert not Door(url, timeout=1_000, witnesses=(gone, f"{gone}/other")).opens(MARK)


def test_one_witness_of_several_is_enough() -> None:
    with a_server(200, b"") as (gone, _):
        pass
    with a_server(200, health(ok=True, ticking=True)) as (url, _), a_server(301, b"") as (other, asked):
        assert Door(url, witnesses=(gone, other, gone)).opens(MARK)
    assert len(asked) == 1


def test_a_witness_is_not_asked_while_the_door_itself_is_shut() -> None:
    with a_server(503, b"") as (url, _), a_server(200, b"") as (other, asked):
        assert not Door(url, witnesses=(other,)).opens(MARK)
    assert asked == []


def test_a_witness_is_not_followed_elsewhere() -> None:
    with a_server(200, b"") as (target, followed):
        with (
            a_server(302, b"", {"Location": target}) as (other, _),
            a_server(200, health(ok=True, ticking=True)) as (url, _),
        ):
            assert Door(url, witnesses=(other,)).opens(MARK)
        assert followed == []


def test_a_witness_is_asked_by_way_of_the_proxy_too() -> None:
    with (
        a_server(200, health(ok=True, ticking=True)) as (url, _),
        a_server(200, b"") as (other, asked),
        a_proxy({"vault.onion": port_of(url), "witness.example": port_of(other)}) as proxy,
    ):
        assert Door("http://vault.onion", proxy.url, witnesses=("http://witness.example/x",)).opens(MARK)
        assert proxy.asked == [("vault.onion", 80), ("witness.example", 80)]
        assert asked == ["HEAD /x -"]


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Padding: " + 100 * b"x" + b"\r\n\r\n"


@pytest.mark.parametrize("at_once", [b"", HEAD])
def test_an_answer_that_drips_is_waited_for_no_longer_in_all_than_one_that_does_not_come(
    at_once: bytes,
) -> None:
    whole = HEAD + health(ok=True, ticking=True)
    with a_dripping_front(at_once, whole.removeprefix(at_once)) as url:
        assert not Door(url, timeout=200).opens(MARK)
        assert Door(url, timeout=60_000).opens(MARK)


def test_a_witness_that_drips_has_not_answered() -> None:
    with a_server(200, health(ok=True, ticking=True)) as (url, _), a_dripping_front(b"", HEAD) as other:
        assert Door(url, timeout=60_000, witnesses=(other,)).witnessed()
        assert not Door(url, timeout=200, witnesses=(other,)).witnessed()
