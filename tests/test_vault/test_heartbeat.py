"""An outside watcher hears that all is well, once that it is not, and nothing else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.detour import a_dripping_front, a_proxy
from tests.world import TICK, Dossier, World, an_armed_dossier
from vault import alarms, compose, rounds
from vault.clock import HOUR
from vault.couriers.heartbeat import Heartbeat
from vault.service import FRESH_TICKS
from vault.settings import read_settings
from vault.storage.objects import MemoryObjects


@dataclass
class Watcher:
    """Somebody like healthchecks.io."""

    url: str
    status: int = 200
    heard: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    where: str | None = None


@contextmanager
def a_watcher() -> Iterator[Watcher]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            watcher.heard.append(self.path)
            watcher.sizes.append(int(self.headers.get("Content-Length") or 0))
            self.send_response(watcher.status)
            if watcher.where is not None:
                self.send_header("Location", watcher.where)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    watcher = Watcher(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield watcher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with a_watcher() as made:
        yield made


@pytest.fixture
def armed(world: World) -> Dossier:
    made = an_armed_dossier(world)
    world.pass_time(20 * TICK)
    return made


def a_vault(world: World, folder: Path) -> compose.Vault:
    environment = {"AFTERWORD_SMTP": "smtp://127.0.0.1:1"}
    return compose.Vault(
        read_settings(environment, data=folder), world.records, MemoryObjects(), world.custodian
    )


def ailments(world: World) -> tuple[str, ...]:
    return alarms.ailments(world.records, True)


def test_a_watcher_is_asked_as_it_wants_to_be_asked(watcher: Watcher) -> None:
    beat = Heartbeat(f"{watcher.url}/ping/secret?rid=1")
    assert beat.well()
    assert beat.ill()
    assert watcher.heard == ["/ping/secret?rid=1", "/ping/secret/fail?rid=1"]
    assert watcher.sizes == [0, 0]
    assert "secret" not in repr(beat)


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500])
def test_nothing_but_a_yes_counts_and_nobody_is_followed(watcher: Watcher, status: int) -> None:
    with a_watcher() as elsewhere:
        watcher.status, watcher.where = status, elsewhere.url
        assert not Heartbeat(watcher.url).well()
        assert elsewhere.heard == []


def test_a_watcher_that_is_not_there_raises_nothing() -> None:
    with a_watcher() as gone:
        pass
    assert not Heartbeat(gone.url, timeout=500).well()


def test_a_watcher_is_reached_by_way_of_the_proxy(watcher: Watcher) -> None:
    with a_proxy({"hc.example": int(watcher.url.rpartition(":")[2])}) as proxy:
        assert Heartbeat("http://hc.example/x", proxy.url).well()
        assert proxy.asked == [("hc.example", 80)]
    assert watcher.heard == ["/x"]


def test_a_server_that_is_well_lacks_nothing(world: World, armed: Dossier) -> None:
    world.pass_time(130 * TICK)
    assert ailments(world) == ()


def test_a_watch_that_does_not_tick_is_an_ailment(world: World, armed: Dossier) -> None:
    world.clock.at += 13 * TICK
    assert "not-ticking" in ailments(world)


def test_a_door_that_is_shut_is_an_ailment_before_anybody_is_written_to(world: World, armed: Dossier) -> None:
    world.reachable = False
    world.pass_time(26 * TICK)
    assert ailments(world) == ("door-shut",)


def test_a_deliverer_that_stopped_is_an_ailment_although_it_has_nothing_to_do(
    world: World, armed: Dossier
) -> None:
    world.delivering = False
    world.pass_time(130 * TICK)
    assert ailments(world) == ("not-delivering",)
    assert alarms.ailments(world.records, False) == (), "where no letter is meant to go out, none is missed"


def test_a_letter_that_nobody_carries_for_an_hour_is_an_ailment(world: World, armed: Dossier) -> None:
    world.skip(37 * HOUR)
    world.delivering = False
    world.pass_time(8 * TICK)
    with world.records.transaction() as now:
        world.database.run("UPDATE outbox SET state = 'waiting', next = :n", n=now.lived - 2 * HOUR)
        world.records.save_delivery(now.lived)
    assert "letters-waiting" in ailments(world)


def test_a_switch_that_should_have_moved_is_an_ailment(world: World, armed: Dossier) -> None:
    with world.database.transaction():
        world.database.run("UPDATE switches SET due = 1")
    assert "switch-stands-still" in ailments(world)


def test_while_all_is_well_the_watcher_hears_it_and_the_server_remembers(
    world: World, armed: Dossier, watcher: Watcher, tmp_path: Path
) -> None:
    beat = rounds.heartbeat(a_vault(world, tmp_path), Heartbeat(f"{watcher.url}/x"))
    beat()
    assert watcher.heard == [], "whoever has just begun knows nothing yet"
    for _ in range(3):
        world.pass_time(FRESH_TICKS * TICK)
        beat()
    assert watcher.heard == ["/x", "/x", "/x"]
    seen = world.records.vigil()
    service = world.records.service()
    assert seen is not None
    assert service is not None
    assert seen.pulse == service.lived


def test_trouble_is_cried_once_and_then_silence_speaks_until_all_is_well(
    world: World, armed: Dossier, watcher: Watcher, tmp_path: Path
) -> None:
    beat = rounds.heartbeat(a_vault(world, tmp_path), Heartbeat(f"{watcher.url}/x"))
    world.reachable = False
    for _ in range(6):
        world.pass_time(FRESH_TICKS * TICK)
        beat()
    world.reachable = True
    for _ in range(2):
        world.pass_time(FRESH_TICKS * TICK)
        beat()
    world.reachable = False
    for _ in range(4):
        world.pass_time(FRESH_TICKS * TICK)
        beat()
    assert [each for place, each in enumerate(watcher.heard) if place == 0 or watcher.heard[place - 1] != each] == [
        "/x", "/x/fail", "/x", "/x/fail",
    ]  # fmt: skip
    assert watcher.heard.count("/x/fail") == 2


def test_a_cry_that_nobody_heard_is_repeated(
    world: World, armed: Dossier, watcher: Watcher, tmp_path: Path
) -> None:
    beat = rounds.heartbeat(a_vault(world, tmp_path), Heartbeat(f"{watcher.url}/x"))
    world.reachable, watcher.status = False, 500
    world.pass_time(40 * TICK)
    beat()
    beat()
    watcher.status = 200
    beat()
    beat()
    assert watcher.heard == ["/x/fail"] * 3


def test_a_watch_that_does_not_count_leaves_it_to_the_one_that_does(
    world: World, armed: Dossier, watcher: Watcher, tmp_path: Path
) -> None:
    beat = rounds.heartbeat(a_vault(world, tmp_path), Heartbeat(watcher.url))
    world.pass_time(FRESH_TICKS * TICK)
    with world.database.transaction():
        world.database.run("UPDATE service SET boot = 'of another host'")
    beat()
    assert watcher.heard == []


def test_what_alarms_remember_and_does_not_read_is_trouble_and_stops_nothing(
    world: World, armed: Dossier, watcher: Watcher, tmp_path: Path
) -> None:
    beat = rounds.heartbeat(a_vault(world, tmp_path), Heartbeat(f"{watcher.url}/x"))
    world.pass_time(FRESH_TICKS * TICK)
    with world.database.transaction():
        world.database.run("UPDATE service SET pulse = 'x'")
    beat()
    assert watcher.heard == ["/x/fail"]


def test_a_watcher_whose_answer_drips_is_waited_for_no_longer_in_all_than_one_that_does_not_answer() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Padding: " + 100 * b"x" + b"\r\n\r\n"
    with a_dripping_front(b"", answer) as url:
        assert not Heartbeat(url, timeout=200).well()
        assert Heartbeat(url, timeout=60_000).well()
