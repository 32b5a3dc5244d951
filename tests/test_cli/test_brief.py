from pathlib import Path

import pytest

from test_cli.bureau import Bureau
from test_cli.conftest import PASSPHRASE
from vault import statements
from vault.statements import Brief


@pytest.fixture
def page(tmp_path: Path) -> str:
    file = tmp_path / "brief.txt"
    file.write_text("Call Rosa first.\nThen Íñigo.\n", encoding="utf-8")
    return str(file)


def test_every_colleague_and_she_herself_can_read_it_and_nobody_else(bureau: Bureau, page: str) -> None:
    id = bureau.create()
    assert "for 2 colleagues and you" in bureau.does("brief", "Harbour", page)
    for who in ("Ana", "Ben", "Cem"):
        done = bureau.run(who, "brief", id[:8])
        assert (done.code, done.out) == (0, "Call Rosa first.\nThen Íñigo.\n"), done.err
    assert bureau.refused("brief", id[:8], who="Dora") == "no-such-dossier"


def test_there_may_be_none_yet(bureau: Bureau) -> None:
    bureau.create()
    assert bureau.refused("brief", "Harbour") == "no-brief"


def test_a_new_one_replaces_the_old(bureau: Bureau, page: str) -> None:
    bureau.create()
    bureau.does("brief", "Harbour", page)
    Path(page).write_text("Nobody. Wait.\n")
    bureau.does("brief", "Harbour", page)
    assert bureau.json("brief", "Harbour")["text"] == "Nobody. Wait.\n"


def test_after_the_roster_changed_it_is_there_for_the_new_and_gone_for_the_old(
    bureau: Bureau, page: str
) -> None:
    id = bureau.create()
    bureau.does("brief", "Harbour", page)
    said = bureau.does("roster", "Harbour", "--add", "Dora", "--remove", "Cem", answers=(bureau.words(),))
    assert "sealed anew, for 2 colleagues and you" in said
    assert "Rosa" in bureau.does("brief", id[:8], who="Dora")
    assert bureau.refused("brief", id[:8], who="Cem") == "no-such-dossier"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "bad-brief"), (b" \n", "bad-brief"), (b"caf\xe9", "bad-brief"), (b"x" * 65_537, "brief-too-long")],
)
def test_what_is_no_readable_page_is_refused_before_anything_is_asked(
    bureau: Bureau, tmp_path: Path, content: bytes, code: str
) -> None:
    file = tmp_path / "page"
    file.write_bytes(content)
    assert bureau.refused("brief", "Harbour", str(file)) == code
    assert bureau.refused("brief", "Harbour", str(tmp_path / "none")) == "unreadable"
    assert bureau.asked == []


def test_a_collaborator_cannot_write_it(bureau: Bureau, page: str) -> None:
    id = bureau.create()
    assert bureau.refused("brief", id[:8], page, who="Ben") == "not-a-journalist"


def test_a_brief_of_another_dossier_is_not_believed(bureau: Bureau, page: str) -> None:
    id, other = bureau.create(), bureau.create("Quarry")
    bureau.does("brief", "Harbour", page)
    bureau.does("brief", "Quarry", page)
    records = bureau.world.records
    row = records.dossier(other)
    assert row is not None
    with bureau.world.database.transaction():
        records.set_brief(id, row.brief or "")
    assert bureau.refused("brief", "Harbour") == "wrong-brief"
    assert bureau.refused("brief", id[:8], who="Ben") == "wrong-brief"


def test_a_brief_that_the_server_wrote_is_not_believed(bureau: Bureau, page: str) -> None:
    id = bureau.create()
    bureau.does("brief", "Harbour", page)
    row = bureau.world.records.dossier(id)
    assert row is not None
    stored = bureau.world.records.statement(row.brief or "")
    assert stored is not None
    given = statements.peek(stored.envelope)
    assert isinstance(given, Brief)
    forged = statements.write(given, bureau.people["Ben"].keyring.sign)
    with bureau.world.database.transaction():
        bureau.world.database.run(
            "UPDATE statements SET envelope = :forged WHERE hash = :hash", forged=forged, hash=row.brief
        )
    assert bureau.refused("brief", "Harbour") == "untrusted"


def test_the_name_can_be_typed_although_a_file_follows(bureau: Bureau, page: str) -> None:
    bureau.create()
    done = bureau.types("Ana", "brief", "-", page, answers=("Harbour", PASSPHRASE))
    assert "Name of the dossier" in done.err
    assert "Harbour: the brief is there" in done.out
