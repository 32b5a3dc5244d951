import os

import pytest

from cli import dossier as dossier_module
from test_cli.bureau import PLAN, Bureau
from test_cli.conftest import PASSPHRASE
from vault import rosters, sharing

CREATE = (
    "dossier",
    "create",
    "Harbour",
    "--collaborator",
    "Ben",
    "--collaborator",
    "Cem",
    "--threshold",
    "2",
    *PLAN,
)


def test_the_first_thing_it_says_is_that_this_is_no_backup(bureau: Bureau) -> None:
    done = bureau.run("Ana", *CREATE)
    assert done.err.splitlines()[0] == dossier_module.FIRST_LINE
    assert "2 of 2 open it after a release: Ben, Cem" in done.out


def test_a_created_dossier_is_known_here_and_there(bureau: Bureau) -> None:
    id = bureau.create()
    with bureau.home() as home:
        (known,) = home.dossiers()
        (signed,) = home.rosters(id)
        assert home.title(known, bureau.ana.keyring) == "Harbour"
        assert home.pending("", "creation") is None
    (roster,) = rosters.read_chain([signed], bureau.ana.keyring.sign.verify_key, id)
    assert (known.id, known.epoch, known.bundles, known.head_hash) == (id, 1, 0, None)
    row = bureau.world.records.dossier(id)
    assert row is not None
    assert row.roster == known.roster_hash
    assert roster.cooling == 7_200_000


def test_no_file_of_the_home_ever_holds_a_key_or_half_of_one(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []
    monkeypatch.setattr(dossier_module, "os", Recording(drawn))
    bureau.unsent.extend(["/dossiers"] * 5)
    bureau.refused(*CREATE)
    kept = b"".join(path.read_bytes() for path in sorted((bureau.folder / "Ana").iterdir()))
    key, closed = [each for each in drawn if len(each) == 32][:2]
    for secret in (key, closed, sharing.xor(key, closed)):
        assert secret not in kept
        assert secret.hex().encode() not in kept


class Recording:
    """`os` with a memory."""

    def __init__(self, drawn: list[bytes]) -> None:
        self._drawn = drawn

    def urandom(self, count: int) -> bytes:
        self._drawn.append(os.urandom(count))
        return self._drawn[-1]


def dossiers(bureau: Bureau) -> list[str]:
    return [row.id for row in bureau.world.records.dossiers_of(bureau.ana.account.id)]


def test_a_creation_whose_answer_was_lost_is_finished_by_the_next_and_leaves_one_dossier(
    bureau: Bureau,
) -> None:
    bureau.lose("/dossiers")
    assert bureau.refused(*CREATE) == "unreachable"
    there = dossiers(bureau)
    assert len(there) == 1
    said = bureau.does(*CREATE)
    assert "had not been answered" in said
    assert "Harbour is created" in said
    assert dossiers(bureau) == there
    with bureau.home() as home:
        assert [known.id for known in home.dossiers()] == there


def test_one_lost_answer_is_not_even_noticed(bureau: Bureau) -> None:
    bureau.lost.append("/dossiers")
    bureau.does(*CREATE)
    assert len(dossiers(bureau)) == 1


def test_an_unanswered_creation_is_finished_before_another_is_begun(bureau: Bureau) -> None:
    bureau.lose("/dossiers")
    bureau.refused(*CREATE)
    bureau.create("Quarry")
    with bureau.home() as home:
        titles = {home.title(known, bureau.ana.keyring) for known in home.dossiers()}
    assert titles == {"Harbour", "Quarry"}
    assert len(dossiers(bureau)) == 2


def test_a_creation_that_never_arrived_and_fits_no_longer_is_discarded_and_begun_anew(bureau: Bureau) -> None:
    bureau.unsent.extend(["/dossiers"] * 5)
    bureau.refused(*CREATE)
    first = bureau.asked[-1][1]
    with bureau.home() as home:
        blob = home.pending("", "creation")
        assert blob is not None
        home.save_pending("", "creation", blob.replace(b'"shares":["', b'"shares":["A', 1))
    assert bureau.does(*CREATE)
    (id,) = dossiers(bureau)
    assert id.encode() not in first


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("--threshold", "3"), "bad-threshold"),
        (("--threshold", "0"), "bad-threshold"),
        (("--collaborator", "Ben"), "named-twice"),
        (("--collaborator", "Nobody"), "no-such-collaborator"),
        (("--every", "soon"), "bad-duration"),
        (("--every", "1ms"), "plan-too-short"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    bureau: Bureau, change: tuple[str, ...], code: str
) -> None:
    assert bureau.refused(*CREATE, *change) == code
    assert dossiers(bureau) == []
    with bureau.home() as home:
        assert home.pending("", "creation") is None
        assert home.dossiers() == []


def test_a_server_without_rehearsals_takes_no_short_cooling_or_ladder(bureau: Bureau) -> None:
    bureau.allow_short(False)
    day = ("--every", "36h", "--remind", "12h", "--warn", "24h", "--grace", "96h")
    assert bureau.refused(*CREATE) == "plan-too-short"
    assert bureau.refused(*CREATE, *day) == "cooling-too-short"
    bureau.does(*CREATE, *day, "--cooling", "72h")


def test_cards_that_were_never_compared_need_a_word_of_hers_and_are_marked(bureau: Bureau) -> None:
    people = ("--collaborator", "Dora", "--threshold", "1")
    assert bureau.refused("dossier", "create", "Harbour", *people, *PLAN) == "not-compared"
    made = bureau.json("dossier", "create", "Harbour", *people, *PLAN, "--unverified")
    assert made["unverified"] == ["Dora"]


def test_two_dossiers_cannot_be_called_alike(bureau: Bureau) -> None:
    bureau.create("Harbour")
    assert bureau.refused(*CREATE) == "title-taken"
    assert bureau.refused("dossier", "create", "hARBOUR ", *CREATE[3:]) == "title-taken"


@pytest.mark.parametrize("title", ["x" * 201, "é" * 101, "a\nb", "a\u202eb"])
def test_a_name_that_would_not_fit_or_deceive_is_refused_at_once(bureau: Bureau, title: str) -> None:
    assert bureau.refused("dossier", "create", title, *CREATE[3:]) == "bad-title"
    assert bureau.asked == []


def test_the_name_can_be_typed_so_that_it_stays_out_of_the_shells_history(bureau: Bureau) -> None:
    done = bureau.types("Ana", "dossier", "create", *CREATE[3:], answers=("Harbour", PASSPHRASE))
    assert done.code == 0, done.err
    assert "Harbour is created" in done.out


def test_a_collaborator_cannot_create(bureau: Bureau) -> None:
    assert bureau.refused(*CREATE, who="Ben") in {"no-such-collaborator", "not-a-journalist"}
