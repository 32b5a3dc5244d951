"""The operator's half of the doctor: each thing that would go wrong on the day is named before it."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from cli import checkup
from cli.doctor import Finding
from tests.theatre import Mailroom, read
from tests.world import Dossier, World, an_armed_dossier
from vault import compose, founding, keeping, keyfile
from vault.clock import HOUR, SystemClock
from vault.settings import Settings, read_settings
from vault.storage.database import open_database
from vault.storage.objects import open_objects
from vault.stream import OBJECT_SIZE

HERE = {"AFTERWORD_LOW_WATER": "0", "AFTERWORD_QUOTA": "1MB"}


def examined(settings: Settings) -> dict[str, Finding]:
    return {each.code: each for each in checkup.examine_server(settings)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    founding.found(read_settings({}, data=tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def mail() -> Iterator[Mailroom]:
    room = Mailroom()
    yield room
    room.close()


@pytest.mark.parametrize(
    ("answer", "code"), [(0, "clock"), (5, "clock-unsynchronised"), (-1, "clock-unknown")]
)
def test_a_clock_that_nobody_keeps_right_is_pointed_out(
    data: Path, monkeypatch: pytest.MonkeyPatch, answer: int, code: str
) -> None:
    kernel = SimpleNamespace(adjtimex=lambda buffer: answer)
    monkeypatch.setattr(
        checkup, "ctypes", SimpleNamespace(CDLL=lambda name: kernel, create_string_buffer=bytes)
    )
    found = examined(read_settings(HERE, data=data))
    assert found[code].level == ("ok" if answer == 0 else "warning")


def test_asking_the_kernel_about_its_clock_is_allowed_to_everybody() -> None:
    assert ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) >= 0


@pytest.mark.parametrize(
    ("low_water", "quota", "code"),
    [(0, 0, "disk"), (1 << 61, 0, "disk-full"), (0, 1 << 61, "disk-low")],
)
def test_room_is_judged_before_uploads_are_refused(data: Path, low_water: int, quota: int, code: str) -> None:
    environment = {"AFTERWORD_LOW_WATER": str(low_water), "AFTERWORD_QUOTA": str(quota)}
    assert code in examined(read_settings(environment, data=data))


@pytest.mark.parametrize("name", ["", "server.key", "afterword.db"])
def test_whatever_others_can_read_is_named(data: Path, name: str) -> None:
    assert "files-private" in examined(read_settings(HERE, data=data))
    (data / name).chmod(0o750)
    # Opening a database closes it to others, so it is looked at before.
    found = examined(read_settings(HERE, data=data))["files-exposed"]
    assert str(data / name) in found.sentence


def test_a_key_outside_of_the_data_is_looked_at_too(tmp_path: Path, data: Path) -> None:
    kept = tmp_path / "kept.key"
    kept.write_bytes((data / "server.key").read_bytes())
    kept.chmod(0o644)
    found = examined(read_settings({**HERE, "AFTERWORD_SERVER_KEY_FILE": str(kept)}, data=data))
    assert str(kept) in found["files-exposed"].sentence
    assert "key-beside-data" not in found


def test_mail_is_tried_with_a_real_letter_to_every_operator(data: Path, mail: Mailroom) -> None:
    environment = {
        **HERE,
        "AFTERWORD_SMTP": f"smtp://127.0.0.1:{mail.port}",
        "AFTERWORD_OPERATOR": "ops@ngo.example night@ngo.example",
        "AFTERWORD_OPERATOR_LANGUAGE": "es",
    }
    found = examined(read_settings(environment, data=data))
    assert found["mail"].level == "ok"
    assert [letter["To"] for letter in mail.letters] == ["ops@ngo.example", "night@ngo.example"]
    assert "prueba" in read(mail.letters[0])
    mail.unknown.add("night@ngo.example")
    refused = examined(read_settings(environment, data=data))["mail-refused"]
    assert "address 2" in refused.sentence
    assert "night@" not in refused.sentence


def test_without_an_operators_address_mail_is_not_called_tried(data: Path, mail: Mailroom) -> None:
    found = examined(read_settings({**HERE, "AFTERWORD_SMTP": f"smtp://127.0.0.1:{mail.port}"}, data=data))
    assert found["no-operator-address"].level == "warning"
    assert "mail" not in found


@pytest.fixture
def deposited(tmp_path: Path) -> tuple[Path, Dossier]:
    """A server on disk with one bundle, which runs no more."""
    (tmp_path / "server").mkdir(mode=0o700)
    world = World(tmp_path / "server")
    dossier = an_armed_dossier(world)
    store = open_objects(f"file://{tmp_path}/server/objects")
    for (owner, name), body in world.objects._stored.items():
        store.receive(f"{owner}/{name}", 0, [body], OBJECT_SIZE)
    (tmp_path / "server" / "server.key").write_text(world.key.write())
    world.close()
    return tmp_path / "server", dossier


def test_an_object_that_a_head_names_and_nobody_has_is_found_before_the_day(
    deposited: tuple[Path, Dossier],
) -> None:
    data, dossier = deposited
    assert examined(read_settings(HERE, data=data))["objects"].level == "ok"
    lost = next(
        path
        for path in (data / "objects").rglob("*")
        if path.is_file() and path.stat().st_size == OBJECT_SIZE
    )
    lost.unlink()
    found = examined(read_settings(HERE, data=data))["objects-lost"]
    assert found.level == "problem"
    assert dossier.id in found.sentence


def test_a_slow_change_that_stands_still_is_named(deposited: tuple[Path, Dossier]) -> None:
    data, _ = deposited
    database = open_database(f"sqlite:///{data}/afterword.db")
    with database.transaction():
        database.run(
            "INSERT INTO changes (hash, account, dossier, kind, body, asked, cooled, told) "
            "SELECT 'c0ffee', journalist, id, 'eestroy', x'', 1, 1, 0 FROM dossiers"
        )
    database.close()
    found = examined(read_settings(HERE, data=data))["change-stands-still"]
    assert found.level == "problem"
    assert "c0ffee" in found.sentence


def test_a_foreign_key_is_told_from_a_damaged_database(deposited: tuple[Path, Dossier]) -> None:
    data, _ = deposited
    key = data / "server.key"
    whole = key.read_text()
    key.write_text("no key")
    assert "no-server-key" in examined(read_settings(HERE, data=data))
    key.unlink()
    keyfile.make_key(key)
    assert "wrong-server-key" in examined(read_settings(HERE, data=data))
    key.write_text(whole)
    database = data / "afterword.db"
    content = bytearray(database.read_bytes())
    content[4_096:20_480] = os.urandom(16_384)
    database.write_bytes(content)
    assert "damaged" in examined(read_settings(HERE, data=data))


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"AFTERWORD_URL": "https://vault.example"}, True),
        (
            {"AFTERWORD_URL": "https://vault.example", "AFTERWORD_PROBE_PROXY": "socks5h://127.0.0.1:9050"},
            False,
        ),
        (
            {"AFTERWORD_URL": "https://vault.example", "AFTERWORD_WITNESS_URL": "https://example.org"},
            False,
        ),
        ({"AFTERWORD_URL": "http://127.0.0.1:8470"}, False),
        ({}, False),
    ],
)
def test_a_knock_that_never_leaves_the_machine_is_pointed_out(
    data: Path, environment: dict[str, str], named: bool
) -> None:
    assert ("door-from-inside" in examined(read_settings(HERE | environment, data=data))) is named


def noted(data: Path, sql: str, **given: int | str) -> None:
    """Something happened to this server's row of time."""
    vault = compose.open_vault(read_settings({}, data=data))
    with vault.records.transaction():
        vault.records.db.run(sql, **given)
    vault.records.db.close()


def now_ticking(data: Path, lived: int = 1_000_000) -> None:
    """As if watch and deliverer had just beaten."""
    noted(data, "UPDATE service SET beat = at, probed = at, lived = :lived, delivered = :lived", lived=lived)


def test_an_address_that_is_only_remembered_is_pointed_out_with_what_to_do(data: Path) -> None:
    noted(data, "UPDATE server SET url = 'https://vault.example'")
    found = examined(read_settings(HERE, data=data))
    assert "https://vault.example" in found["url-remembered"].sentence
    assert "https://vault.example" in found["door-shut"].sentence
    assert "door-from-inside" in found
    assert "no-url" not in found


def test_the_probe_says_how_long_ago_and_through_what(data: Path) -> None:
    now_ticking(data)
    environment = {**HERE, "AFTERWORD_URL": "https://vault.example"}
    inside = examined(read_settings(environment, data=data))["door-open"]
    assert "https://vault.example answered" in inside.sentence
    assert "asked from this computer" in inside.sentence
    environment["AFTERWORD_PROBE_PROXY"] = "socks5h://127.0.0.1:9050"
    assert "through the proxy" in examined(read_settings(environment, data=data))["door-open"].sentence


def test_without_an_outside_watcher_one_is_recommended_but_not_for_a_rehearsal(data: Path) -> None:
    assert examined(read_settings(HERE, data=data))["no-heartbeat"].level == "warning"
    assert "no-heartbeat" not in examined(read_settings({**HERE, "AFTERWORD_ALLOW_SHORT": "on"}, data=data))


def test_an_outside_watcher_that_does_not_hear_is_a_problem_and_its_address_stays_secret(data: Path) -> None:
    now_ticking(data)
    environment = {**HERE, "AFTERWORD_HEARTBEAT_URL": "https://hc.example/geheim"}
    settings = read_settings(environment, data=data)
    assert "geheim" not in repr(settings)
    assert examined(settings)["heartbeat-unheard"].level == "problem"
    noted(data, "UPDATE service SET pulse = lived - 60000")
    found = examined(settings)
    assert found["heartbeat"].level == "ok"
    noted(data, "UPDATE service SET pulse = lived - 900000")
    found = examined(settings)
    assert found["heartbeat-unheard"].level == "problem"
    assert not any("geheim" in each.sentence for each in found.values())


def test_a_deliverer_that_stopped_is_named_only_where_letters_are_meant_to_go_out(
    data: Path, mail: Mailroom
) -> None:
    now_ticking(data)
    environment = {**HERE, "AFTERWORD_SMTP": f"smtp://127.0.0.1:{mail.port}"}
    assert examined(read_settings(environment, data=data))["delivering"].level == "ok"
    noted(data, "UPDATE service SET delivered = lived - 3600000")
    assert examined(read_settings(environment, data=data))["not-delivering"].level == "problem"
    assert "not-delivering" not in examined(read_settings(HERE, data=data))


def test_gaps_and_jumps_of_this_week_are_shown_and_older_ones_are_history(data: Path) -> None:
    week = 7 * 86_400_000
    now_ticking(data, 2 * week)
    assert examined(read_settings(HERE, data=data))["no-gaps"].level == "ok"
    noted(data, "INSERT INTO gaps VALUES (1, 'stall', 7200000, :lived, 1700000000000)", lived=week // 2)
    assert "no-gaps" in examined(read_settings(HERE, data=data))
    noted(
        data, "INSERT INTO gaps VALUES (2, 'stall', 7200000, :lived, 1700000000000)", lived=week + week // 2
    )
    noted(
        data, "INSERT INTO gaps VALUES (3, 'wall', -3600000, :lived, 1700000000000)", lived=week + week // 2
    )
    found = examined(read_settings(HERE, data=data))
    assert "did not tick for 2h" in found["gaps"].sentence
    assert "1h back" in found["clock-jumped"].sentence


def test_a_clock_that_goes_off_is_compared_with_the_kernels(data: Path) -> None:
    now_ticking(data)
    clock = SystemClock()
    lead, boot = clock.wall() - clock.boot(), clock.boot_id()
    noted(data, "UPDATE service SET lead = :lead, lead_boot = :boot", lead=lead, boot=boot)
    assert examined(read_settings(HERE, data=data))["clock-steady"].level == "ok"
    noted(data, "UPDATE service SET lead = :lead", lead=lead - 150_000)
    # Two and a half minutes, but for the instant between two looks at a clock.
    assert "2m" in examined(read_settings(HERE, data=data))["clock-drifts"].sentence
    noted(data, "UPDATE service SET lead_boot = 'another'")
    found = examined(read_settings(HERE, data=data))
    assert {"clock-steady", "clock-drifts"} & set(found) == set()


def test_the_disk_is_asked_whether_it_keeps_what_it_says(data: Path) -> None:
    assert {"fsync", "disk-in-memory", "disk-elsewhere", "disk-no-barrier", "fsync-too-fast"} & set(
        examined(read_settings(HERE, data=data))
    )


def test_one_bad_mailbox_is_no_problem_of_the_server_and_letters_that_nobody_carries_are(
    data: Path,
) -> None:
    vault = compose.open_vault(read_settings({}, data=data))
    seen = keeping.glance(vault.records, vault.objects)
    vault.records.db.close()

    def found(**given: object) -> dict[str, str]:
        changed = msgspec.structs.replace(seen, **given)
        return {
            each.code: each.level for each in checkup._examine_mail(read_settings(HERE, data=data), changed)
        }

    late = found(oldest_letter=2 * HOUR)
    assert late["letter-late"] == "warning"
    assert "letters-waiting" not in late
    stuck = found(oldest_letter=2 * HOUR, wrong=("letters-waiting",))
    assert stuck["letters-waiting"] == "problem"
    assert "letter-late" not in stuck
    assert "letter-late" not in found(oldest_letter=HOUR)


def test_who_has_one_address_only_is_not_said_to_have_been_told_at_another(data: Path) -> None:
    vault = compose.open_vault(read_settings({}, data=data))
    seen = keeping.glance(vault.records, vault.objects)
    vault.records.db.close()
    failing = msgspec.structs.replace(seen, failing=("0a1b",))
    (told,) = [
        each.sentence
        for each in checkup._examine_mail(read_settings(HERE, data=data), failing)
        if each.code == "account-unreached"
    ]
    assert "if there are any" in told
    assert "afterword operator accounts" in told
