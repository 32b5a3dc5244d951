import json

import pytest

from cli import chain, session
from cli.home import Home
from cli.remote import Remote
from test_cli.conftest import PASSPHRASE, words_shown
from test_cli.newsroom import Newsroom
from vault import wire
from vault.clock import DAY, MINUTE, SystemClock
from vault.errors import Untrusted


@pytest.fixture
def at_work(newsroom: Newsroom) -> Newsroom:
    newsroom.journalist("Ana")
    newsroom.dossier()
    return newsroom


def test_titles_are_opened_on_both_sides_and_kept_sealed(at_work: Newsroom) -> None:
    for who, role in (("Ana", "journalist"), ("Bea", "collaborator")):
        (shown,) = at_work.json(who, "status")["dossiers"]
        assert (shown["title"], shown["role"]) == ("Fishing licences", role)
        with Home.open(at_work.home(who)) as home:
            (known,) = home.dossiers()
            assert home.title(known, home.unlock(PASSPHRASE)) == "Fishing licences"
            assert len(home.rosters(known.id)) == 1
        for each in at_work.home(who).iterdir():
            assert b"Fishing" not in each.read_bytes()


def test_a_roster_that_changed_behind_our_back_is_named_and_its_dossier_left_out(at_work: Newsroom) -> None:
    with Home.open(at_work.home("Bea")) as home:
        assert at_work.run("Bea", "status").code == 0
        (known,) = home.dossiers()
        home.db.execute("UPDATE rosters SET envelope = ?", (b"what was shown before",))
        home.db.execute("UPDATE dossiers SET roster = ?", ("0" * 64,))
    ran = at_work.run("Bea", "status")
    assert ran.code == 0
    assert "do nothing with this dossier" in ran.err
    assert "Fishing licences" not in ran.out
    assert known.epoch == 1


def test_a_dossier_under_a_journalist_nobody_named_is_refused(at_work: Newsroom) -> None:
    with Home.open(at_work.home("Bea")) as home:
        home.db.execute("DELETE FROM cards")
    ran = at_work.run("Bea", "status")
    assert "invite was never used here" in ran.err
    assert "Fishing licences" not in ran.out


def test_a_proof_counts_only_with_its_collaborators_signature(
    at_work: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work.ran("Bea", "drill")
    with Home.open(at_work.home("Ana")) as home:
        keyring = home.unlock(PASSPHRASE)
        with Remote(home.url, home.server) as remote:
            remote.sign_in(keyring)
            work = session.Session(home, keyring, remote)
            (seen,) = session.learn_dossiers(work)
            assert list(session.proofs(work, seen.known.id)) == [1]

            genuine = remote.call
            moved: list[str] = []

            def lying(method: str, path: str, request: object, answer: type) -> object:
                said = genuine(method, path, request, answer)  # type: ignore[arg-type,type-var]
                if answer is wire.Proofs:
                    # Index 1 becomes 2 inside the base64 of the payload; the signature is Bea's over index 1.
                    import base64
                    import json

                    whole = json.loads(said.proofs[0])
                    body = base64.b64decode(whole["payload"]).replace(b'"index":1', b'"index":2')
                    whole["payload"] = base64.b64encode(body).decode()
                    moved.append(json.dumps(whole, separators=(",", ":")))
                    return wire.Proofs((moved[0],))
                return said

            monkeypatch.setattr(remote, "call", lying)
            assert session.proofs(work, seen.known.id) == {}
            assert moved


def test_restoring_learns_titles_rosters_and_heads_again(newsroom: Newsroom) -> None:
    words = words_shown(newsroom.journalist("Ana"))
    newsroom.dossier()
    (newsroom.folder / "papers").mkdir()
    (newsroom.folder / "papers" / "one.txt").write_text("the first page")
    newsroom.ran("Ana", "push", "Fishing licences", str(newsroom.folder / "papers"))
    answers = [" ".join(words), PASSPHRASE, PASSPHRASE]
    newsroom.ran("new", "join", "--from-words", newsroom.restore_address, answers=answers)
    with Home.open(newsroom.home("Ana")) as old, Home.open(newsroom.home("new")) as new:
        (was,), (known,) = old.dossiers(), new.dossiers()
        assert (known.id, known.roster_hash, known.epoch) == (was.id, was.roster_hash, was.epoch)
        assert new.rosters(known.id) == old.rosters(known.id)
        assert known.bundles == 1
        assert known.head_hash is not None
        assert new.title(known, new.unlock(PASSPHRASE)) == "Fishing licences"


def test_one_dossiers_name_on_another_is_noticed_before_anything_is_pushed_into_it(
    newsroom: Newsroom,
) -> None:
    words = words_shown(newsroom.journalist("Ana"))
    newsroom.dossier()
    people = ("--collaborator", "Bea", "--threshold", "1", "--every", "1h", "--cooling", "1h")
    newsroom.ran("Ana", "dossier", "create", "Harbour", *people)
    records = newsroom.vault.records
    with records.transaction():
        first, second = records.db.all("SELECT id, title FROM dossiers")
        for one, other in ((first, second), (second, first)):
            records.db.run("UPDATE dossiers SET title = :t WHERE id = :id", t=other["title"], id=one["id"])
    answers = [" ".join(words), PASSPHRASE, PASSPHRASE]
    joined = newsroom.run("new", "join", "--from-words", newsroom.restore_address, answers=answers)
    assert joined.err.count("under the name of another dossier") == 2
    (newsroom.folder / "papers").mkdir()
    (newsroom.folder / "papers" / "one.txt").write_text("the first page")
    pushed = newsroom.run("new", "push", "Harbour", str(newsroom.folder / "papers"))
    assert pushed.code != 0
    assert not records.all_objects()


def test_the_server_is_told_nothing_when_its_card_is_another(newsroom: Newsroom) -> None:
    newsroom.journalist("Ana")
    newsroom.journalist("Eve")
    with Home.open(newsroom.home("Ana")) as home, Home.open(newsroom.home("Eve")) as other:
        home.remember("server", other.card.envelope)
    ran = newsroom.run("Ana", "status")
    assert (ran.code, "server-changed" in ran.err) == (6, True)


def test_a_chain_of_rosters_is_asked_for_only_when_it_grew(
    at_work: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert at_work.run("Bea", "status").code == 0

    def never(*_: object) -> None:
        raise Untrusted("asked again")

    monkeypatch.setattr(chain, "fetch_rosters", never)
    assert "asked again" not in at_work.run("Bea", "status").err


def test_a_laptop_whose_clock_is_off_by_years_shows_the_servers_dates(
    at_work: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = SystemClock.wall
    monkeypatch.setattr(SystemClock, "wall", lambda self: true(self) - 4000 * DAY)
    real = Remote.info

    def info(remote: Remote) -> wire.ServerInfo:
        """The server runs in this process; its clock is the true one."""
        said = real(remote)
        remote.clock_ahead = 4000 * DAY
        return said

    monkeypatch.setattr(Remote, "info", info)
    done = at_work.run("Ana", "status", "--json")
    assert abs(json.loads(done.out)["now"] - true(SystemClock())) < MINUTE
    assert "this computer's clock and the server's differ by 4000d" in done.err
