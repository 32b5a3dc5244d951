"""What rests in the database, and what can never be found there."""

import base64
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from tests.fire.flows_servers import older
from tests.world import Dossier, Person, World, an_armed_dossier, cool, digest, until
from vault import accounts, age, dossiers, statements, switch, wire
from vault.clock import HOUR
from vault.couriers import TemporaryFailure
from vault.errors import Conflict, Damaged, StaleVersion
from vault.plans import Plan
from vault.storage.files import FileObjects
from vault.storage.records.rows import Account, take
from vault.switch import Stage

PLAN = Plan(72 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{12,}={0,2}")
# Only text is worth following: ciphertext, and base64 read from the wrong place, are noise.
_TEXT = bytes(range(32, 127)) + b"\n"
_HEX = re.compile(rb"(?:[0-9a-f]{2}){8,}")


def layers(raw: bytes, depth: int = 4) -> Iterator[bytes]:
    """The bytes, and whatever is written inside of them in base64 or hex, however often."""
    yield raw
    if depth == 0:
        return
    for run in _BASE64.findall(raw):
        bare = run.rstrip(b"=")
        for start in range(4):
            cut = bare[start:]
            cut = cut[: len(cut) - len(cut) % 4]
            if len(cut) >= 12:
                inside = base64.b64decode(cut)
                if inside[:400].translate(None, _TEXT) == b"":
                    yield from layers(inside, depth - 1)
    for run in _HEX.findall(raw):
        yield bytes.fromhex(run.decode())


def everything(folder: Path) -> bytes:
    return b"\n".join(
        file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "x"
    )


def found(words: list[str], raw: bytes) -> set[str]:
    held = set()
    for layer in layers(raw):
        low = layer.lower()
        held |= {word for word in words if word.lower().encode() in low}
    return held


def test_the_search_itself_finds_what_is_hidden_in_layers() -> None:
    inner = base64.b64encode(b'{"label": "Heliotrope"}')
    outer = base64.b64encode(b'{"card": "' + inner + b'"}')
    assert found(["heliotrope"], b"xx" + outer + b"yy") == {"heliotrope"}
    assert found(["heliotrope"], b"Heliotrope".hex().encode()) == {"heliotrope"}
    assert found(["heliotrope"], os.urandom(1000)) == set()


def test_no_planted_word_is_in_any_byte_of_a_servers_files_after_a_whole_life(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T22, T5: names, addresses, phrases, titles, briefs, codes, tokens; database, log and objects."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(Dossier, "title", "Plantedtitle")
    (folder / "data").mkdir()
    world = World(folder / "data")
    world.objects = FileObjects(folder / "data" / "objects")  # type: ignore[assignment]
    ana = world.journalist("Plantedana")
    words = ["Plantedana", "Plantedtitle", "Plantedbrief", "Plantedsubject", "Plantedphrase", "Plantedhost"]

    def confirm(person: Person, address: str) -> None:
        request = wire.AddressRequest(address, "es", "Plantedsubject", "Plantedphrase")
        accounts.add_address(world.records, world.custodian, person.account, request)
        world.deliver()
        body = next(each for each in reversed(world.courier.carried) if each.to == address).body.split()
        code = body[body.index("confirm") + 1]
        words.extend([code, address.split("@")[0]])
        accounts.confirm_address(world.records, world.custodian, person.account, code)

    confirm(ana, "plantedbox@plantedhost.example")
    readers = []
    for number in range(3):
        invite = accounts.invite_collaborator(
            world.records, world.custodian, ana.account, f"Plantedlabel{number}"
        )
        reader = Person(world, f"Plantedreader{number}", invite.code)
        confirm(reader, f"plantedreader{number}@plantedhost.example")
        words += [f"Plantedlabel{number}", f"Plantedreader{number}", invite.code]
        readers.append(reader)
    spare = ana.colleague("Plantedspare")
    words.append("Plantedspare")
    login = statements.Login(world.custodian.hash, ana.card.verify_key.hex, ana.nonce(), 1)
    signed = statements.write(login, ana.keyring.sign).decode()
    token = accounts.sign_in(world.records, world.custodian, wire.SessionRequest(signed)).token
    words.append(token)
    made = ana.create(readers, 2, PLAN, 72 * HOUR)
    made.push()
    made.prove()
    blob = age.seal(b"Plantedbrief", readers[0].card.recipient, os.urandom)
    lines = (statements.SealedTo(readers[0].card.hash.hex(), digest(blob)),)
    ana.order(made.id, statements.Brief, (blob,), epoch=1, readers=lines)
    made.arm()
    change, corrections, d = made.next_roster([*readers[:2], spare], 2)
    dossiers.change_roster(world.records, world.custodian, ana.account, made.id, change)
    cool(made)
    dossiers.correct_roster(world.records, world.custodian, ana.account, made.id, 2, corrections)
    world.courier.answer = lambda parcel: TemporaryFailure("down")
    until(made, Stage.WARNED)
    world.courier.answer = None
    ana.check_in()
    until(made, Stage.RELEASED)
    world.pass_time(60_000)
    key = made.key.reveal()
    held = everything(folder)
    assert (folder / "data" / "afterword.db-wal").exists()
    assert found(words, held) == set()
    for secret in (key, made.c, made.r, d):
        assert secret not in held
        assert secret.hex().encode() not in held
    said = caplog.text + "".join(str(record.args) for record in caplog.records)
    assert found(words, said.encode()) == set()
    # Everything was there to be found: under the server key it reads.
    assert found(["Plantedana"], world.custodian.wake(ana.account.card)) == {"Plantedana"}
    world.close()


def test_a_stranger_at_the_disk_can_name_only_hashes_and_times(world: World) -> None:
    """What is in clear is ids, hashes, public keys, counts and times; this is the whole list of text columns."""
    made = an_armed_dossier(world, PLAN)
    until(made, Stage.WARNED)
    plain = re.compile(
        r"[0-9a-f]*|[a-z]+(-[a-z]+)*|\d+\.[a-z]+\.\d+|age1pq1[0-9a-z]+|first-(boot|life)|\{.*\}|CREATE .*",
        re.DOTALL,
    )
    for table in world.database.all("SELECT name FROM sqlite_master WHERE type = 'table'"):
        for row in world.database.all(f"SELECT * FROM {table['name']}"):  # noqa: S608
            for column, value in row.items():
                if isinstance(value, str):
                    assert plain.fullmatch(value), f"{table['name']}.{column}: {value}"


def test_a_row_that_does_not_read_is_damage_and_is_not_quoted() -> None:
    with pytest.raises(Damaged) as damaged:
        take({"id": 5, "secret": "Plantedword"}, Account)
    assert "Plantedword" not in str(damaged.value)


def test_a_version_that_was_passed_is_not_saved(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    seen = world.records.switch(made.id)
    with world.records.transaction() as now:
        after, _ = switch.step(seen.switch, switch.CheckIn(), now.stamp, reachable=True)
        world.records.save_switch(seen, after, now.wall)
        with pytest.raises(StaleVersion):
            world.records.save_switch(seen, after, now.wall)


def test_a_transaction_that_fails_leaves_nothing_and_not_even_its_time(world: World) -> None:
    an_armed_dossier(world, PLAN)
    world.beat()
    before = world.records.service()
    world.clock.at += 2 * world.tick
    with suppress(Conflict), world.records.transaction():
        world.records.save_beat(1)
        raise Conflict("no")
    assert world.records.service() == before


def test_every_transaction_stamps_with_its_own_moment(world: World) -> None:
    world.beat()
    for _ in range(5):
        world.clock.at += world.tick
        with world.records.transaction() as now:
            row = world.records.service()
            assert row is not None
            assert (row.at, row.served) == (world.clock.at, now.served)


def test_reading_never_writes_and_sees_one_moment(world: World) -> None:
    an_armed_dossier(world, PLAN)
    before = world.records.service()
    world.clock.at += world.tick
    with world.records.reading() as now:
        with pytest.raises(RuntimeError):
            world.records.save_beat(1)
        assert before is not None
        assert now.served == before.served
    assert world.records.service() == before


def test_due_switches_come_in_pages_without_a_gap_or_a_double(world: World) -> None:
    made = an_armed_dossier(world, PLAN)
    row = world.records.dossier(made.id)
    assert row is not None
    with world.records.transaction() as now:
        for number in range(25):
            copy = msgspec.structs.replace(row, id=f"{number:032x}")
            world.records.add_dossier(copy)
            armed, _ = switch.step(switch.begin(PLAN, 0), switch.Arm(), number // 10, reachable=False)
            world.records.add_switch(copy.id, armed, now.wall)
    seen: list[str] = []
    after = (-1, "")
    while page := world.records.due_switches(10**12, 4, after):
        seen += [dossier for _, dossier in page]
        after = page[-1]
    assert len(seen) == len(set(seen)) == 26


@pytest.mark.parametrize("place", [20_000, 40_000, 60_000, 90_000])
def test_a_flipped_byte_releases_nothing(world: World, place: int) -> None:
    """T13: whatever the page was, nothing is let go of, and nothing is guessed."""
    made = an_armed_dossier(world, PLAN)
    assert world.database.forget()
    file = world.folder / "afterword.db"
    world.database.close()
    raw = bytearray(file.read_bytes())
    for at in range(place, min(place + 4096, len(raw))):
        raw[at] ^= 0x55
    file.write_bytes(raw)
    with suppress(Damaged, Conflict):
        world.reopen()
        for _ in range(5):
            world.clock.at += 2 * world.tick
            world.watch.tick()
        assert made.stage is not Stage.RELEASED


def test_a_column_that_holds_no_bytes_any_more_is_damage_and_no_crash(world: World) -> None:
    made = an_armed_dossier(world)
    with world.database.transaction():
        world.database.run("UPDATE rosters SET sealed = 'text'")
        world.database.run("UPDATE heads SET envelope = 7")
    for look in (world.records.sealed_rosters, lambda dossier: world.records.heads(dossier, 0, 10)):
        with pytest.raises(Damaged):
            look(made.id)


def test_a_change_that_was_cooling_before_the_database_kept_sums_reads_and_takes_effect(world: World) -> None:
    made = an_armed_dossier(world, PLAN, cooling=72 * HOUR)
    hash = made.hers.order(made.id, statements.Destroy)
    world.pass_time(10 * world.tick)
    before = world.records.change(str(hash))
    world.database.close()
    older(world.folder / "afterword.db")
    world.reopen()
    assert world.records.change(str(hash)) == before
    assert world.records.cooling_of(made.id) == 72 * HOUR
    cool(made)
    assert made.stage is Stage.DESTROYED
