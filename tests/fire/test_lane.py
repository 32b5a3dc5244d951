"""A flood at the door costs nobody a check-in: the shipped nginx before a real server, 500 slow, 200 uploading."""

import shutil
from pathlib import Path

import pytest
import theatre
from crowd import check_ins, crowd
from front import front

from tests.fire.tally import MAY_LACK, count, size, wrong

pytestmark = pytest.mark.skipif(
    MAY_LACK and shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists(),
    reason="nginx is not installed",
)


def test_every_check_in_is_answered_while_500_are_slow_and_200_upload(tmp_path: Path) -> None:
    with theatre.cast(tmp_path / "cast") as cast:
        ana, dossier = _at_work(cast)
        port = int(cast.server.url.rpartition(":")[2])
        with front(tmp_path / "nginx", port) as door:
            before = _accepted(cast.server.folder)
            with crowd(door.url, ana, dossier) as done:
                many = len(check_ins(door.url, ana, size(40, 400)))
            count("check-ins beside 500 slow sockets and 200 uploads", many)
            lost = many - (_accepted(cast.server.folder) - before)
            if lost:
                wrong("lost check-ins", lost)
            assert lost == 0
            assert done.code == 0, done.said


def test_an_address_that_somebody_misuses_at_the_public_door_keeps_its_own_people_from_no_check_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, where connections of one address are counted: more than it may have, all from ours."""
    with theatre.cast(tmp_path / "cast") as cast:
        ana, dossier = _at_work(cast)
        port = int(cast.server.url.rpartition(":")[2])
        with front(tmp_path / "nginx", port) as door:
            monkeypatch.setenv("SSL_CERT_FILE", str(door.certificate))
            before = _accepted(cast.server.folder)
            with crowd(door.public, ana, dossier, slow=500, uploads=60) as done:
                many = len(check_ins(door.public, ana, size(20, 100)))
            count("check-ins beside a crowd at the public door", many)
            lost = many - (_accepted(cast.server.folder) - before)
            if lost:
                wrong("lost check-ins", lost)
            assert lost == 0
            assert done.code == 0, done.said
            assert "503: " in done.said, "nobody was turned away"


def _at_work(cast: theatre.Cast) -> tuple[theatre.Person, str]:
    ana, others = cast.newsroom("Ana", ["Bruno", "Chiara"], quickly=True)
    names = [word for other in others for word in ("--collaborator", other.name)]
    ana.type("dossier", "create", "Lane", *names, "--threshold", "2", "--every", "1h", "--cooling", "2s")
    return ana, ana.ask("status")["dossiers"][0]["dossier"]


def _accepted(folder: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{folder / 'afterword.db'}?mode=ro", uri=True)) as db:
        (many,) = db.execute("SELECT COUNT(*) FROM history WHERE entry LIKE '%checkin%'").fetchone()
        return int(many)
