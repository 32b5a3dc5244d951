"""One parent, three processes: what dies is started again, and nothing outlives its parent.

Real processes; time is only ever waited for with a deadline.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vault.errors import BadUsage, Refused
from vault.storage import folders
from web.listener import address_of, listen
from web.serve import PULSE, Part, _Child, make_folder, notify, only_one

PATIENCE = 120.0
PART = Path(__file__).with_name("part.py")


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Server:
    """A parent that the test started, and what it and its parts said."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.errors = (folder.parent / "errors").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(PART), "serve", str(folder)],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
            # Tests that were started in the background of a script ignore interrupts, and would hand that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().split()
        self.ready = self.process.stdout.readline().split()

    @property
    def where(self) -> tuple[str, int]:
        parts = urlsplit(self.ready[1])
        return str(parts.hostname), int(parts.port or 0)

    def pids(self, name: str) -> list[int]:
        file = self.folder.parent / f"{name}.pids"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def every_pid(self) -> list[int]:
        return [
            pid
            for name in ("web", "worker", "watch", "stubborn", "lively", "broken")
            for pid in self.pids(name)
        ]

    def said(self) -> str:
        return Path(self.errors.name).read_text()

    def ask(self, path: str) -> http.client.HTTPResponse:
        line = http.client.HTTPConnection(*self.where, timeout=PATIENCE)
        line.request("GET", path, headers={"Connection": "close"})
        return line.getresponse()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
        for pid in self.every_pid():
            eventually(lambda pid=pid: not alive(pid), f"part {pid} ended with its parent")


@contextmanager
def a_server(folder: Path, **environment: str) -> Iterator[Server]:
    server = Server(folder, **environment)
    try:
        yield server
    finally:
        server.end()


def test_a_server_says_its_real_address_is_ready_when_it_answers_and_stops_when_told(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        assert server.first[0] == "ADDRESS"
        assert server.ready == ["READY", server.first[1]]
        assert server.ask("/api/v1/health").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert [pid for pid in server.every_pid() if alive(pid)] == []
        assert server.said() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.where, timeout=1)


def test_an_interrupt_stops_it_as_well(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
        assert [pid for pid in server.every_pid() if alive(pid)] == []


def test_a_part_that_dies_is_started_again_and_the_operator_is_told(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        eventually(lambda: server.pids("watch"), "the watch runs")
        os.kill(server.pids("watch")[0], signal.SIGKILL)
        eventually(lambda: len(server.pids("watch")) == 2, "another watch runs")
        assert "watch ended (SIGKILL); it is started again in 500ms" in server.said()
        assert server.ask("/api/v1/health").status == 200


def test_whoever_knocks_while_the_web_process_is_started_again_waits_instead_of_being_refused(
    tmp_path: Path,
) -> None:
    with a_server(tmp_path / "data") as server:
        os.kill(server.pids("web")[0], signal.SIGKILL)
        eventually(lambda: not alive(server.pids("worker")[0]), "the worker ended with its parent")
        assert server.ask("/api/v1/health").status == 200
        assert len(server.pids("web")) == 2


def test_a_killed_parent_takes_its_parts_along_and_frees_the_port(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        eventually(lambda: server.pids("watch"), "the watch runs")
        server.process.kill()
        server.process.wait(PATIENCE)
        for pid in server.every_pid():
            eventually(lambda pid=pid: not alive(pid), f"part {pid} ended with its parent")

        def free() -> bool:
            try:
                listen(*server.where).close()
            except BadUsage:
                return False
            return True

        # The parts' own processes go the same way a moment later.
        eventually(free, "the port is free")
    with a_server(tmp_path / "data") as again:
        assert again.ready[0] == "READY"


def test_a_request_under_way_is_finished_before_the_server_stops(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        line = http.client.HTTPConnection(*server.where, timeout=PATIENCE)
        line.request("GET", "/slow")
        eventually(lambda: server.pids("slow"), "the request is under way")
        server.process.send_signal(signal.SIGTERM)

        def turned_away() -> bool:
            try:
                socket.create_connection(server.where, timeout=1).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(turned_away, "no new connection is taken")
        assert server.process.poll() is None
        (tmp_path / "go").touch()
        assert line.getresponse().read() == b"finished"
        line.close()
        assert server.process.wait(PATIENCE) == 0


def test_a_part_that_does_not_listen_is_killed_when_somebody_asks_twice(tmp_path: Path) -> None:
    with a_server(tmp_path / "data", WATCH="stubborn") as server:
        eventually(lambda: server.pids("stubborn"), "it runs")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: not alive(server.pids("web")[0]), "the others stop")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0


def test_a_part_that_falls_silent_is_killed_and_started_again_and_the_operator_reads_why(
    tmp_path: Path,
) -> None:
    with a_server(tmp_path / "data", WATCH="lively") as server:
        eventually(lambda: server.pids("lively"), "it runs")
        os.kill(server.pids("lively")[0], signal.SIGSTOP)
        eventually(lambda: len(server.pids("lively")) >= 2, "another one runs")
        assert "watch does not answer any more; it is killed and started again." in server.said()
        assert "watch ended (SIGKILL)" in server.said()
        assert server.ask("/api/v1/health").status == 200


def test_a_whole_server_that_is_stopped_and_goes_on_kills_nobody(tmp_path: Path) -> None:
    with a_server(tmp_path / "data", WATCH="lively", SILENCE="5000") as server:
        eventually(lambda: server.pids("lively"), "it runs")
        everybody = [*server.every_pid(), server.process.pid]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        # Longer than it may be silent; this is the one time that has to pass.
        time.sleep(7)
        # The parent first, so that it looks before anybody else could have spoken.
        for pid in reversed(everybody):
            os.kill(pid, signal.SIGCONT)
        time.sleep(2)
        assert len(server.pids("lively")) == 1
        assert len(server.pids("worker")) == 1
        assert server.said() == ""
        assert server.ask("/api/v1/health").status == 200


def test_a_part_that_met_a_failing_disk_ends_the_whole_server_at_once(tmp_path: Path) -> None:
    with a_server(tmp_path / "data", WATCH="broken") as server:
        eventually(lambda: server.pids("broken"), "it runs")
        assert server.ask("/api/v1/health").status == 200
        (tmp_path / "broken").touch()
        assert server.process.wait(PATIENCE) == 74
        assert "watch met a disk that fails" in server.said()
        assert len(server.pids("broken")) == 1
        for pid in server.every_pid():
            eventually(lambda pid=pid: not alive(pid), f"part {pid} ended")


def test_a_worker_that_met_a_failing_disk_answers_and_ends_the_whole_server(tmp_path: Path) -> None:
    with a_server(tmp_path / "data", WORKERS="2") as server:
        eventually(lambda: len(server.pids("worker")) == 2, "both workers run")
        answer = server.ask("/disk")
        assert (answer.status, answer.read()) == (503, b"nothing was acknowledged")
        assert server.process.wait(PATIENCE) == 74
        assert "web met a disk that fails" in server.said()
        assert len(server.pids("worker")) == 2
        for pid in server.every_pid():
            eventually(lambda pid=pid: not alive(pid), f"part {pid} ended")


def test_a_part_that_is_only_slow_is_given_more_time_each_time(tmp_path: Path) -> None:
    child = _Child(Part("watch", [sys.executable, "-c", "input()", PULSE], silence=1_000))
    with listen("127.0.0.1", 0) as listener:
        patience = []
        for _ in range(14):
            child.start(listener, 0)
            patience.append(child.patience)
            assert not child.has_hung(child.patience - 1)
            assert child.has_hung(1)
            eventually(lambda: child.reap(0) is not None, "it ended")
    assert patience == [min(1_000 * 2**each, 3_600_000) for each in range(14)]


def test_systemd_hears_while_the_parent_turns_if_it_wants_to(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(PATIENCE)
        with a_server(tmp_path / "data", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="60000000"):
            said = {heard.recv(100) for _ in range(6)}
    assert said == {b"READY=1", b"WATCHDOG=1"}


def test_the_parts_of_a_server_are_not_reached_by_a_key_pressed_at_its_terminal(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        eventually(lambda: server.pids("watch"), "the watch runs")
        groups = {os.getpgid(pid) for pid in (server.pids("web")[0], server.pids("watch")[0])}
        assert os.getpgid(server.process.pid) not in groups


def test_systemd_is_told_once_by_the_parent_and_not_by_its_parts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(PATIENCE)
        with a_server(tmp_path / "data", NOTIFY_SOCKET=str(tmp_path / "notify")) as server:
            assert heard.recv(100) == b"READY=1"
            server.process.send_signal(signal.SIGTERM)
            assert heard.recv(100) == b"STOPPING=1"
            assert server.process.wait(PATIENCE) == 0
        heard.settimeout(0)
        with pytest.raises(BlockingIOError):
            heard.recv(100)


def test_an_answer_names_no_program_and_the_log_no_address_and_no_content(tmp_path: Path) -> None:
    with a_server(tmp_path / "data") as server:
        answer = server.ask("/boom")
        assert answer.status == 500
        assert answer.headers["Server"] is None
        with socket.create_connection(server.where, timeout=PATIENCE) as line:
            line.sendall(b"GET /her-title \x00\r\nHost: x\r\n\r\n")
            assert b"gunicorn" not in line.recv(4_096)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)
        for secret in ("127.0.0.1", "her-title", "gunicorn"):
            assert secret not in server.said()


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(Refused, match="already runs") as refused, only_one(tmp_path):
        pass
    assert refused.value.code == "already-served"
    with only_one(tmp_path):
        pass


def test_the_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "where"
    make_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    make_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_every_folder_above_the_data_is_on_disk_before_anything_is_put_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[Path] = []
    monkeypatch.setattr(folders, "settle", settled.append)
    make_folder(tmp_path / "some" / "where")
    assert settled == [tmp_path, tmp_path / "some"]


def test_a_file_in_the_place_of_the_data_folder_is_named_as_the_obstacle(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(BadUsage) as refused:
        make_folder(tmp_path / "data")
    assert refused.value.code == "bad-data-folder"


def test_a_port_that_is_taken_or_an_address_that_is_none_is_said_plainly() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(BadUsage) as taken:
            listen("127.0.0.1", port)
    assert taken.value.code == "port-taken"
    with pytest.raises(BadUsage) as nowhere:
        listen("not an address", 1)
    assert nowhere.value.code == "bad-bind"


def test_a_server_that_listens_everywhere_is_reached_over_loopback() -> None:
    with listen("0.0.0.0", 0) as listener:  # noqa: S104  # for a moment, and nobody is served
        assert address_of(listener).startswith("http://127.0.0.1:")


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notify("READY=1")
