"""What is shipped under deploy/ fits the program that it is for."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fire.tally import MAY_LACK
from vault import wire
from vault.settings import PORT
from web.workers import KEEP_ALIVE

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMON = (DEPLOY / "nginx" / "afterword-common.conf").read_text()
SITE = (DEPLOY / "nginx" / "afterword.conf").read_text()


def test_the_proxy_takes_bodies_as_large_as_the_server_does() -> None:
    (size,) = re.findall(r"^client_max_body_size (\d+)m;", COMMON, re.MULTILINE)
    assert int(size) * 1024 * 1024 == wire.MAX_BODY


def test_the_proxy_lets_go_of_idle_connections_before_the_server_does() -> None:
    for seconds in re.findall(r"keepalive_timeout (\d+)s;", SITE):
        assert int(seconds) < KEEP_ALIVE


def test_the_proxy_speaks_to_the_port_that_the_server_has_by_default() -> None:
    assert f"server 127.0.0.1:{PORT}" in SITE


def test_the_lane_is_for_addresses_that_there_are() -> None:
    from web import api

    lane = re.findall(r"^location = (\S+) \{[^}]*afterword_lane;", COMMON, re.MULTILINE)
    assert set(lane) == {f"{wire.API}/{each}" for each in ("check-ins", "nonces", "server", "health")}
    source = Path(api.__file__).read_text()
    for path in lane:
        assert f'"{path.removeprefix(wire.API)}"' in source


def test_no_log_of_the_proxy_can_hold_an_address() -> None:
    for text in (COMMON, SITE):
        assert re.findall(r"^\s*access_log (\w+);", text, re.MULTILINE) == ["off"]
        assert all(level == "emerg" for level in re.findall(r"^\s*error_log \S+ (\w+);", text, re.MULTILINE))


def test_what_the_proxy_refuses_by_itself_is_a_problem_like_the_servers_own() -> None:
    problems = [wire.read(each.encode(), wire.Problem) for each in re.findall(r"return \d+ '(.*)';", COMMON)]
    assert [(each.status, each.code) for each in problems] == [(413, "too-large"), (503, "busy")]
    for each in re.findall(r"return \d+ '(.*)';", COMMON):
        json.loads(each)


def test_the_units_start_a_command_that_there_is() -> None:
    from cli.main import PLACES
    from cli.operator import operator

    for unit in DEPLOY.glob("*.service"):
        words = re.findall(r"^ExecStart=\S+ (.+)$", unit.read_text(), re.MULTILINE)[0].split()
        assert words[0] in PLACES
        if words[0] == "operator":
            assert words[1] in operator.commands


def test_the_unit_does_not_start_a_server_again_whose_disk_fails() -> None:
    from cli.main import EXIT_CODES
    from vault.errors import DiskFailed
    from web.serve import DISK_EXIT

    unit = (DEPLOY / "afterword.service").read_text()
    assert f"RestartPreventExitStatus={DISK_EXIT}\n" in unit
    assert dict(EXIT_CODES)[DiskFailed] == DISK_EXIT
    assert re.search(r"^WatchdogSec=\d+$", unit, re.MULTILINE)


def test_an_upgrade_that_takes_long_is_not_ended_only_to_begin_anew() -> None:
    unit = (DEPLOY / "afterword.service").read_text()
    assert "TimeoutStartSec=infinity\n" in unit
    assert "Restart=always\n" in unit


@pytest.mark.skipif(MAY_LACK and shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.stem)
def test_every_unit_is_closed_as_far_as_systemd_can(unit: Path) -> None:
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert analysed.returncode == 0, analysed.stdout.splitlines()[-1:] + analysed.stderr.splitlines()


def test_every_finding_of_the_doctor_stands_in_the_operators_book() -> None:
    root = DEPLOY.parent
    said = "".join((root / "cli" / name).read_text() for name in ("checkup.py", "durability.py"))
    book = (root / "docs" / "operations.md").read_text()
    for code in re.findall(r'(?:problem|warning)\(\s*"([a-z-]+)"', said):
        assert f"`{code}`" in book, code


def test_every_setting_stands_in_the_operators_book() -> None:
    source = (DEPLOY.parent / "vault" / "settings.py").read_text()
    book = (DEPLOY.parent / "docs" / "operations.md").read_text()
    for name in re.findall(r'(?:setting|number|size|switch)\(\s*"([A-Z_]+)"', source):
        assert f"AFTERWORD_{name}" in book or f"`_{name}`" in book, name
