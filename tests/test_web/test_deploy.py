"""What is shipped under deploy/ fits the program that it is for."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fire.tally import MAY_LACK
from vault import founding, letters_en, letters_es, wire
from vault.letters import LetterKind, Trouble
from vault.settings import PORT, read_settings
from web.workers import KEEP_ALIVE

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMON = (DEPLOY / "nginx" / "afterword-common.conf").read_text()
GUIDE = (DEPLOY / "README.md").read_text()
ROOT = DEPLOY.parent
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


def book() -> str:
    """The operator's book, its line ends as spaces."""
    return " ".join((ROOT / "docs" / "operations.md").read_text().split())


def literally(node: ast.expr) -> str:
    """What a text says, with … for whatever is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(literally, parts))
        case ast.BinOp(left=left, right=right):
            return literally(left) + literally(right)
        case ast.IfExp(body=body):
            return literally(body)
    return "…"


def said(folder: str, what: str) -> dict[str, list[str]]:
    """Every text that is assigned or handed over as `what`, or to a function of that name: what its first sentence
    says literally, by the line that has it."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == what:
                    text = literally(value)
                case ast.keyword(arg=name, value=value) if name == what:
                    text = literally(value)
                case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[value]) if (
                    name == what
                ):
                    text = literally(value)
                case _:
                    continue
            pieces = [piece.strip(" .,") for piece in re.split(r"[…;:()]", re.split(r"\. ", text)[0])]
            if told := [piece for piece in pieces if " " in piece and "`" not in piece]:
                found[f"{path.relative_to(ROOT)}:{value.lineno}"] = told
    return found


@pytest.mark.parametrize("kind", [kind for kind in LetterKind if kind.value.startswith("operator-")])
def test_every_letter_to_the_operator_stands_in_their_book(kind: LetterKind) -> None:
    assert f"`{kind.value}`" in book()


def test_what_the_operator_is_told_differently_stands_in_their_book() -> None:
    assert set(letters_en.OPERATORS) == set(letters_es.OPERATORS)
    for kind in letters_en.OPERATORS:
        assert f"`{kind}`: " in book(), kind


@pytest.mark.parametrize("trouble", list(Trouble))
def test_every_trouble_with_a_name_stands_in_the_operators_book(trouble: Trouble) -> None:
    assert f"| `{trouble.value}`: " in book()


def test_every_other_trouble_that_a_letter_tells_of_stands_in_the_operators_book() -> None:
    troubles = said("vault", "trouble")
    assert {"vault/outbox.py", "vault/release.py", "vault/ledger.py"} <= {
        place.split(":")[0] for place in troubles
    }
    for place, pieces in troubles.items():
        for piece in pieces:
            assert piece.casefold() in book().casefold(), (place, piece)


def test_whatever_serve_and_the_rounds_print_stands_in_the_operators_book() -> None:
    printed = {**said("web", "_say"), **said("vault", "say")}
    assert len(printed) >= 5
    for place, pieces in printed.items():
        for piece in pieces:
            assert piece.casefold() in book().casefold(), (place, piece)


def test_whatever_a_part_logs_stands_in_the_operators_book() -> None:
    rows = (ROOT / "docs" / "operations.md").read_text().partition("### What `serve` prints")[2]
    known = {
        each.rstrip(":")
        for line in rows.splitlines()
        for each in re.findall(r"\*([^*]+)\*", line.split(" | ")[0])
    }
    logged = [
        (path, text)
        for folder in ("cli", "vault", "web")
        for path in (ROOT / folder).rglob("*.py")
        for text in re.findall(r'log\.(?:error|warning)\(\s*"([^"]+)"', path.read_text())
        if re.search(r"[a-z]{3}", text.replace("%s", ""))
    ]
    assert len(logged) >= 20
    for path, text in logged:
        assert any(each in text for each in known) or text == "%s failed: %s", (path, text)


def test_every_chore_that_can_fail_is_named_as_its_line_names_it() -> None:
    said = book()
    for folder in ("cli", "vault"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r'Chore\("(\w+)"', path.read_text()):
                assert f"*{name} failed*" in said, name


def test_no_step_of_the_guide_needs_a_later_one() -> None:
    for first, then in (
        ("apt install git", "python3 -m venv"),
        ("install -m 0755 deploy/afterword /usr/local/bin/", "    afterword "),
        ("systemctl enable --now", "--confirm-copy"),
        ("certbot certonly", "nginx -t"),
        ("# HERE", "nginx -t"),
        ("cp -r /where", "operator restore /var/lib"),
    ):
        assert 0 <= GUIDE.find(first) < GUIDE.find(then), (first, then)


@pytest.mark.parametrize("page", ["deploy/README.md", "docs/operations.md"])
def test_a_server_is_started_only_after_it_was_restored(page: str) -> None:
    text = (ROOT / page).read_text()
    restore = text.index("    afterword operator restore /var/lib/afterword-backup --data /var/lib/afterword")
    without = "step 3 without `systemctl enable --now` and without any line that begins with `afterword`"
    assert without in " ".join(text[:restore].split())
    assert text[restore:].splitlines()[1].strip().startswith("systemctl enable --now afterword.service")


SYSTEMD_RUN = """#!{python}
import os, sys
credentials = "{credentials}"
words = sys.argv[1:]
settings = []
while words[0].startswith("--"):
    name, _, value = words.pop(0)[2:].partition("=")
    if name == "setenv":
        settings.insert(0, value)
    if name == "property" and value.startswith("EnvironmentFile="):
        lines = open(value.partition("=")[2]).read().splitlines()
        settings += [line for line in lines if line and not line.startswith("#")]
    if name == "property" and value.startswith("LoadCredential="):
        id, _, path = value.partition("=")[2].partition(":")
        open(os.path.join(credentials, id), "w").write(open(path).read())
os.environ.clear()
os.environ.update(each.split("=", 1) for each in settings)
os.environ["CREDENTIALS_DIRECTORY"] = os.environ["HOME"] = credentials
os.execv(words[0], words)
"""


@pytest.fixture
def typed(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """The command of the guide on a machine of the guide, whose roots lie in a folder, and whose systemd is a stub
    that hands over what it was told to, and nothing else."""
    for name in ("bin", "etc", "credentials", "data"):
        (tmp_path / name).mkdir(mode=0o700)
    founding.found(read_settings({}, data=tmp_path / "data"))
    (tmp_path / "data" / "server.key").rename(tmp_path / "etc" / "server.key")
    (tmp_path / "etc" / "smtp").write_text("smtp://127.0.0.1:9")
    (tmp_path / "etc" / "afterword.env").write_text((DEPLOY / "afterword.env").read_text())
    shipped = (DEPLOY / "afterword").read_text()
    for place, here in (
        ("/etc/afterword/", f"{tmp_path}/etc/"),
        ("/opt/afterword/bin/", f"{Path(sys.executable).parent}/"),
        ("/var/lib/afterword", f"{tmp_path}/data"),
    ):
        assert place in shipped
        shipped = shipped.replace(place, here)
    stub = SYSTEMD_RUN.format(python=sys.executable, credentials=tmp_path / "credentials")
    for name, text in (("afterword", shipped), ("systemd-run", stub), ("id", "#!/bin/sh\necho ${WHO:-0}\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def run(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["afterword", *words],
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **more},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_what_letters_and_screens_tell_an_operator_to_run_works_as_typed_on_the_machine_of_the_guide(
    typed: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    status = typed("operator", "status")
    assert status.returncode == 3, status.stderr
    assert "Accounts: 0." in status.stdout
    assert "No mail server" not in status.stdout
    examined = typed("doctor")
    assert examined.returncode == 3, examined.stderr
    assert "The database reads" in examined.stdout
    assert "https://vault.example.org" in examined.stdout
    assert "no-mail" not in examined.stdout
    (told,) = re.findall(r"run: afterword (doctor --data \S+)$", status.stdout, re.MULTILINE)
    assert "The database reads" in typed(*told.split()).stdout


def test_who_is_not_root_is_told_how_to_run_it(
    typed: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    refused = typed("doctor", WHO="1000")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "sudo" in refused.stderr


def test_the_command_of_the_guide_has_the_folder_the_keys_and_the_settings_of_its_unit() -> None:
    unit, command = (DEPLOY / "afterword.service").read_text(), (DEPLOY / "afterword").read_text()
    for each in re.findall(r"^(EnvironmentFile=\S+|LoadCredential=\S+)$", unit, re.MULTILINE):
        assert f"--property={each} " in command
    assert "--data %S/afterword\n" in unit
    assert "AFTERWORD_DATA=/var/lib/afterword " in command


def test_no_setting_is_recommended_that_root_could_read_and_the_service_could_not() -> None:
    shipped = (DEPLOY / "afterword.env").read_text()
    assert "_FILE=" not in shipped
    # The address of the outside watcher stands in it.
    assert "    install -m 0600 deploy/afterword.env /etc/afterword/ " in GUIDE
    for unit in DEPLOY.glob("*.service"):
        files = re.findall(r"AFTERWORD_\w+_FILE=(\S+)", unit.read_text())
        assert files
        assert all(each.startswith("%d/") for each in files)


def test_where_it_is_told_to_knock_the_proxy_listens_and_asks_for_no_certificate() -> None:
    shipped = (DEPLOY / "afterword.env").read_text()
    (recommended,) = re.findall(r"AFTERWORD_PROBE_URL=(\S+)", shipped)
    assert recommended in GUIDE
    assert recommended.startswith("http://")
    assert f"listen {recommended.removeprefix('http://')};" in SITE
    assert read_settings({"AFTERWORD_PROBE_URL": recommended}).probe_url == recommended
