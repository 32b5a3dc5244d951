"""A flood at the door costs nobody a check-in: the shipped nginx before a real server, 500 slow, 200 uploading."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import theatre
from crowd import check_ins, crowd
from front import Front, front

from tests.fire.tally import MAY_LACK, count, size, wrong

pytestmark = pytest.mark.skipif(
    MAY_LACK and shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists(),
    reason="nginx is not installed",
)


def test_every_check_in_is_answered_while_500_are_slow_and_200_upload(tmp_path: Path) -> None:
    with _before_the_door(tmp_path) as (cast, ana, dossier, door):
        with crowd(door.url, ana, dossier) as done:
            many = _answered(cast, door.url, ana, size(40, 400))
        count("check-ins beside 500 slow sockets and 200 uploads", many)
        assert done.code == 0, done.said


def test_an_address_that_somebody_misuses_at_the_public_door_keeps_its_own_people_from_no_check_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, where connections of one address are counted: more than it may have, all from ours."""
    with _before_the_door(tmp_path) as (cast, ana, dossier, door):
        monkeypatch.setenv("SSL_CERT_FILE", str(door.certificate))
        with crowd(door.public, ana, dossier, slow=500, uploads=60) as done:
            many = _answered(cast, door.public, ana, size(20, 100))
        count("check-ins beside a crowd at the public door", many)
        assert done.code == 0, done.said
        assert "503: " in done.said, "nobody was turned away"


@contextmanager
def _before_the_door(place: Path) -> Iterator[tuple[theatre.Cast, theatre.Person, str, Front]]:
    with theatre.cast(place / "cast") as cast:
        ana, dossier = _at_work(cast)
        with front(place / "nginx", int(cast.server.url.rpartition(":")[2])) as door:
            yield cast, ana, dossier, door


def _answered(cast: theatre.Cast, url: str, who: theatre.Person, many: int) -> int:
    """How many were answered; each of them is in the server's history, or the test has failed."""
    before = _accepted(cast.server.folder)
    answered = len(check_ins(url, who, many))
    lost = answered - (_accepted(cast.server.folder) - before)
    if lost:
        wrong("lost check-ins", lost)
    assert (answered, lost) == (many, 0)
    return answered


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
