"""Whoever runs a server: looking after it, keeping copies of it, and coming back after its disk has died."""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
from rehearsal import COLLEAGUES, TITLE, fall_silent, moves, stage_of, wait_for_stage
from theatre import Cast, Frozen, read, same_files, until

Stage = Callable[..., Any]


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def keep_the_key_apart(cast: Cast) -> Path:
    """Where systemd would put a credential: not on the disk that it opens."""
    cast.server.stop()
    key = cast.folder / "credentials" / "server.key"
    key.parent.mkdir(mode=0o700)
    shutil.move(cast.server.folder / "server.key", key)
    cast.server.environment = {"AFTERWORD_SERVER_KEY_FILE": str(key)}
    cast.server.start()
    return key


def test_an_operator_sees_how_things_stand_and_nothing_of_what_is_inside(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        server, ana = cast.server, cast["Ana"]
        listed = json.loads(server.operator("operator", "accounts", "--json").out)["accounts"]
        assert {each["label"] for each in listed} == {"Ana", *COLLEAGUES, "Elif"}
        hers = next(each for each in listed if each["label"] == "Ana")
        assert (hers["role"], hers["used"], hers["dossiers"], hers["addresses"]) == (
            "journalist",
            2 * 1_048_576,
            1,
            1,
        )
        said = server.operator("operator", "quota", hers["id"][:6], "50GiB")
        assert said.code == 0, said.said
        assert ana.ask("status")["quota"] == 50 * 2**30
        assert server.operator("operator", "quota", hers["id"], "lots").code == 2
        until(
            lambda: "The public door is open." in server.operator("operator", "status").out,
            "the probe to have come through the line",
        )
        seen = server.operator("operator", "status").out
        assert re.search(r"The watch ticked \d+m?s ago\.", seen)
        assert "1 new" in seen
        for word in (TITLE, "numbat", ana.address):
            assert word not in seen + server.operator("operator", "accounts").out
        # The doctor sends a real letter, and names what would go wrong on the day.
        examined = server.operator("doctor", "--data", str(server.folder), "--json")
        found = {each["code"]: each["level"] for each in json.loads(examined.out)["findings"]}
        assert examined.code == 3
        assert found["key-not-copied"] == "problem"
        assert found["mail"] == found["ticking"] == found["door-open"] == found["database"] == "ok"
        assert "letters to this address arrive" in read(
            cast.mail.saying("operator@ngo.example", "This is a test, and it has worked")
        )
        copy = cast.folder / "stick" / "copy of the key"
        copy.parent.mkdir()
        shutil.copy(server.folder / "server.key", copy)
        assert server.operator("operator", "key", "--confirm-copy", str(copy)).code == 0
        cast.mail.unknown.add("operator@ngo.example")
        examined = server.operator("doctor", "--data", str(server.folder), "--json")
        found = {each["code"]: each["level"] for each in json.loads(examined.out)["findings"]}
        assert found["key-copied"] == "ok"
        assert found["mail-refused"] == "problem"
        # An invite of the operator's is a journalist's.
        link = server.operator("operator", "invite").out.strip()
        petra = cast.person("Petra")
        assert "You are Petra, a journalist" in petra.join(link).out


def test_whoever_runs_a_server_hears_when_nobody_gets_through_and_when_they_do_again(
    prepared: Frozen, stage: Stage
) -> None:
    heard: list[str] = []

    class Watcher(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    outside = ThreadingHTTPServer(("127.0.0.1", 0), Watcher)
    threading.Thread(target=outside.serve_forever, daemon=True).start()
    with stage(prepared) as cast:
        server = cast.server
        server.stop()
        server.environment = {"AFTERWORD_HEARTBEAT_URL": f"http://127.0.0.1:{outside.server_port}/ping/x"}
        server.start()
        until(lambda: heard, "the outside watcher to hear of it")
        until(lambda: "last heard that all is well" in server.operator("operator", "status").out, "its mark")
        assert "The deliverer is up." in server.operator("operator", "status").out
        with cast.line.cut():
            until(lambda: "/ping/x/fail" in heard, "the outside watcher to be told")
            cast.mail.saying("operator@ngo.example", "nobody has got through its public door")
            seen = json.loads(server.operator("operator", "status", "--json").out)
            assert (seen["alarm"], seen["gaps"][0]["kind"], seen["gaps"][0]["length"]) == (1, "outage", None)
        cast.mail.saying("operator@ngo.example", "it can be reached through its public door again")
        until(lambda: heard[-1] == "/ping/x", "the outside watcher to hear that it is over")
        assert set(heard) == {"/ping/x", "/ping/x/fail"}
        # An outage of minutes is the operator's affair alone.
        assert not [letter for letter in cast.mail.letters if "for a day" in read(letter)]
    outside.shutdown()
    outside.server_close()


def spoil(database: Path) -> None:
    """A bit that fell over in a sector, as SQLite sees it: an index of a vital table is not what it says it is."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        changed = db.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX holds_of_dossier ON holds (ladder, dossier)' "
            "WHERE name = 'holds_of_dossier'"
        )
        assert changed.rowcount == 1


def test_a_server_whose_database_was_spoilt_moves_nothing_until_a_backup_is_restored(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        ana, server = cast["Ana"], cast.server
        ana.type("arm", TITLE)
        armed = moves(cast)[-1]
        assert armed.after == "armed"
        until(lambda: served(cast) - armed.served > 1_000, "a second of her hour")
        watch = until(lambda: server.parts().get("watch"), "the watch")
        os.kill(watch, signal.SIGSTOP)
        # Due now, as soon as any watch ticks.
        fall_silent(ana)
        spoil(server.folder / "afterword.db")
        os.kill(watch, signal.SIGKILL)
        until(lambda: "watch ended (exit 9)" in "\n".join(server.lines), "the new watch to find it out")
        assert moves(cast)[-1] == armed
        assert "restore a backup" in "\n".join(server.lines)
        until(lambda: health_of(server.url) == 503, "the server to say that it is not well")
        # Nobody gave up: another is started, examines it first as well, and leaves it alone.
        until(
            lambda: "\n".join(server.lines).count("watch ended (exit 9)") > 1, "another watch to find it out"
        )
        assert moves(cast)[-1] == armed
        assert health_of(server.url) == 503
        assert not [letter for letter in cast.mail.to(ana.address) if "time to check in" in read(letter)]


def served(cast: Cast) -> int:
    with closing(sqlite3.connect(f"file:{cast.server.folder}/afterword.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT served FROM service").fetchone()[0])


def health_of(url: str) -> int:
    return urllib3.request("GET", f"{url}/api/v1/health", timeout=10, retries=False).status


def test_a_server_comes_back_from_a_backup_and_every_switch_begins_its_whole_ladder(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        ana, bruno, server = cast["Ana"], cast["Bruno"], cast.server
        key = keep_the_key_apart(cast)
        ana.type("plan", TITLE, "--warn", "10m")
        ana.type("arm", TITLE)
        ana.type("checkin")
        fall_silent(ana, "3s")
        wait_for_stage(cast, "warned")
        kept = cast.folder / "kept"
        made = json.loads(server.operator("operator", "backup", str(kept), "--json").out)
        assert made["objects"] == 2
        again = json.loads(server.operator("operator", "backup", str(kept), "--json").out)
        assert again["copied"] == 0, "objects are copied once"
        assert key.read_bytes() not in Path(made["file"]).read_bytes()
        # What happens after the backup is not in it: a check-in, and a deposit.
        more = cast.folder / "work" / "numbat" / "after the backup.txt"
        more.write_text("the last thing she wrote\n")
        ana.type("push", TITLE, str(cast.folder / "work" / "numbat"))
        ana.type("checkin")
        until(lambda: moves(cast)[-1].after == "warned", "the next alarm")
        old = server.folder
        server.stop()
        untouched = fingerprint(old)

        backup = Path(again["file"])
        whole = backup.read_bytes()
        fresh = cast.folder / "fresh"
        for spoilt in (
            whole[: len(whole) // 2],
            whole[:-40] + bytes(40),
            whole[:5_000] + bytes([whole[5_000] ^ 1]) + whole[5_001:],
        ):
            backup.write_bytes(spoilt)
            server.folder = fresh
            refused = server.operator("operator", "restore", str(backup))
            assert refused.code not in (0, 1, 70), refused.said
            assert "afterword: " in refused.err
            assert not (fresh / "afterword.db").exists()
        backup.write_bytes(whole)
        server.folder = old
        refused = server.operator("operator", "restore", str(backup))
        assert refused.code == 3
        assert fingerprint(old) == untouched
        server.folder = fresh
        refused = server.operator("operator", "restore", str(kept), AFTERWORD_SERVER_KEY_FILE="")
        assert refused.code != 0
        shutil.rmtree(old)

        back = server.operator("operator", "restore", str(kept), "--json")
        assert back.code == 0, back.said
        assert json.loads(back.out)["switches"] == 1

        def alarms() -> int:
            return sum("Please try to reach Ana" in read(each) for each in cast.mail.to(bruno.address))

        heard = alarms()
        server.start()
        # The alarm that was in the backup is not gone on with: a whole ladder, from its beginning.
        assert ("warned", "armed", "restored") in [each[:3] for each in moves(cast)]
        assert "Checked in" in ana.type("checkin").out
        marked = json.loads(server.operator("operator", "accounts", "--json").out)["accounts"]
        assert next(each for each in marked if each["label"] == "Ana")["marked"]
        pushed = ana.type("push", TITLE, str(cast.folder / "work" / "numbat"))
        assert "the server has lost 1 bundle" in pushed.err
        assert len(ana.ask("bundles", TITLE)["bundles"]) == 2
        # And time goes on: the next silence is an alarm again, with letters to everybody.
        wait_for_stage(cast, "warned", 2)
        until(lambda: alarms() > heard, "another alarm for Bruno")
        ana.type("checkin")
        assert stage_of(ana) in ("armed", "reminded", "warned")


def test_what_was_released_before_the_disk_died_is_released_after(released: Frozen, stage: Stage) -> None:
    with stage(released) as cast:
        server = cast.server
        keep_the_key_apart(cast)
        cast["Bruno"].type("give", TITLE, "--yes")
        kept = cast.folder / "kept"
        assert server.operator("operator", "backup", str(kept)).code == 0
        server.kill()
        shutil.rmtree(server.folder)
        back = server.operator("operator", "restore", str(kept))
        assert back.code == 0, back.said
        server.start()
        target = cast.folder / "out"
        cast["Chiara"].type("recover", TITLE, "--to", str(target), "--yes")
        assert same_files(cast.folder / "work" / "tapir", target / "tapir") == []
        assert same_files(cast.folder / "work" / "numbat", target / "earlier" / "numbat") == []
