"""The real deliverer, killed where it hurts: what it had in hand goes out again, by the same name and nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fire import tally
from tests.fire.mailserver import KEEPS, SILENT, Fault, MailServer
from tests.world import Dossier, World, an_armed_dossier
from vault import outbox
from vault.clock import HOUR
from vault.letters import LetterKind
from vault.plans import Plan
from vault.storage.records.rows import Letter
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 48 * HOUR, 48 * HOUR, 96 * HOUR)
PATIENCE = 60.0
COMMAND = [sys.executable, "-P", "-c", "from cli.main import run; run()", "operator", "deliver"]


@contextmanager
def a_deliverer(world: World, server: MailServer) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AFTERWORD_")},
        "AFTERWORD_SMTP": f"smtp://127.0.0.1:{server.port}",
        "AFTERWORD_SENDER": "box@server.example",
        "AFTERWORD_URL": "https://server.example",
    }
    process = subprocess.Popen(
        [*COMMAND, "--data", str(world.folder), "--allow-short"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Dossier]:
    """A reminder is in the box; time stands still but for the test, which is the host that counts it."""
    world = World(tmp_path, tick=200, short=True)
    made = an_armed_dossier(world, PLAN, readers=1, k=1)
    (tmp_path / "server.key").write_text(world.key.write() + "\n")
    (tmp_path / "server.key").chmod(0o600)
    world.delivering = False
    world.skip(24 * HOUR)
    world.pass_time(4 * world.tick)
    assert made.stage is Stage.REMINDED
    yield made
    world.close()


def reminder(world: World) -> Letter:
    row = world.database.one("SELECT id FROM outbox WHERE kind = :kind", kind=LetterKind.CHECK_IN.value)
    assert row is not None
    letter = world.records.letter(str(row["id"]))
    assert letter is not None
    return letter


@pytest.mark.parametrize(
    "fault",
    [Fault("greeting", SILENT), Fault("RCPT", SILENT), Fault("DATA", SILENT), Fault("dot", SILENT)],
    ids=str,
)
def test_a_deliverer_killed_in_the_middle_leaves_the_letter_to_the_next(made: Dossier, fault: Fault) -> None:
    world, server = made.world, MailServer(fault=fault)
    with server.open():
        with a_deliverer(world, server) as process:
            wait(server.reached.is_set)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert reminder(world).state == "waiting"
        assert reminder(world).lease > 0
        server.fault = None
        world.skip(outbox.lease(world.tick, HOUR))
        with a_deliverer(world, server):
            wait(lambda: reminder(world).state == "accepted")
    names = {copy.message for copy in server.copies}
    assert names == {f"{reminder(world).message_id}@server.example"}
    tally.count("mail faults")


def test_what_a_server_took_and_never_said_so_comes_once_more_and_by_the_same_name(made: Dossier) -> None:
    world, server = made.world, MailServer(fault=Fault("dot", KEEPS))
    with server.open():
        with a_deliverer(world, server) as process:
            wait(server.reached.is_set)
            process.send_signal(signal.SIGKILL)
            process.wait()
        server.fault = None
        world.skip(outbox.lease(world.tick, HOUR))
        with a_deliverer(world, server):
            wait(lambda: reminder(world).state == "accepted")
    assert [copy.told for copy in server.copies] == [False, True]
    assert len({copy.message for copy in server.copies}) == 1
    tally.count("mail faults")


def test_a_deliverer_that_is_asked_to_stop_gives_back_what_it_has_not_begun(made: Dossier) -> None:
    world, server = made.world, MailServer()
    with server.open():
        with a_deliverer(world, server) as process:
            wait(lambda: reminder(world).state == "accepted")
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        assert process.returncode == 0
    assert world.database.one("SELECT 1 AS yes FROM outbox WHERE state = 'waiting' AND lease > 0") is None
    tally.count("mail faults")
