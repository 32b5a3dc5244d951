import re

from test_cli.bureau import Bureau
from test_cli.loopback import a_person


def test_an_invite_carries_the_code_and_both_pins(bureau: Bureau) -> None:
    done = bureau.run("Ana", "collaborator", "invite", "Eva")
    assert done.code == 0, done.err
    pins = re.fullmatch(r"http://127\.0\.0\.1:1/join#(\S+?)\.(\S{22})\.(\S{22})\n", done.out)
    assert pins is not None, done.out
    assert pins[2] == bureau.world.custodian.card.fingerprint.write()
    assert pins[3] == bureau.ana.card.fingerprint.write()


def test_two_people_cannot_be_called_alike(bureau: Bureau) -> None:
    assert bureau.refused("collaborator", "invite", " ben ") == "label-taken"


def test_a_second_open_invite_for_one_label_is_warned_of(bureau: Bureau) -> None:
    bureau.does("collaborator", "invite", "Eva")
    assert "open already" in bureau.does("collaborator", "invite", "eva")


def test_a_label_that_could_deceive_is_refused_before_anything_is_asked(bureau: Bureau) -> None:
    assert bureau.refused("collaborator", "invite", "Eva\u202enossa") == "bad-label"
    assert bureau.asked == []


def test_the_list_says_who_was_compared_and_who_only_invited(bureau: Bureau) -> None:
    bureau.does("collaborator", "invite", "Eva")
    listed = bureau.json("collaborator", "list")["collaborators"]
    assert isinstance(listed, list)
    assert [(each["label"], each["state"]) for each in listed] == [
        ("Ben", "compared"),
        ("Cem", "compared"),
        ("Dora", "never compared"),
        ("Eva", "invited"),
    ]
    assert "card compare LABEL" in bureau.does("collaborator", "list")


def test_a_card_that_changed_on_the_server_is_kept_out_and_said(bureau: Bureau) -> None:
    with bureau.home() as home:
        home.db.execute("DELETE FROM cards WHERE label = 'Ben'")
        home.pin(a_person("Ben")[1], "Ben", "collaborator", 1)
    said = bureau.does("collaborator", "list")
    assert "Ben   card changed" in said
    assert "shows another card for Ben" in said
    create = ("dossier", "create", "Harbour", "--threshold", "1", "--collaborator")
    assert bureau.refused(*create, "Ben") == "card-changed"
    bureau.does(*create, "Cem")


def test_a_collaborator_cannot_invite(bureau: Bureau) -> None:
    assert bureau.refused("collaborator", "invite", "Eva", who="Ben") == "not-a-journalist"
