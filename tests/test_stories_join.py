"""Joining, restoring, and everything that can be wrong with an invite, a card or a server."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from typing import Any

from line import Line
from rehearsal import TITLE, a_card
from theatre import Cast, Person, Server

KILLED = -9


def accounts(cast: Cast) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cast.server.operator("operator", "accounts", "--json").out)[
        "accounts"
    ]
    return found


def a_new_invite(cast: Cast) -> str:
    return cast.server.operator("operator", "invite").out.strip()


def test_an_invite_serves_one_person_and_says_so_to_the_next(newsroom: Cast) -> None:
    link = a_new_invite(newsroom)
    petra, thief = newsroom.person("Petra"), newsroom.person("Thief")
    petra.join(link)
    petra.quicken()
    again = petra.type("join", link)
    assert "You are Petra" in again.out, "the same person is answered alike"
    before = len(accounts(newsroom))
    refused = thief.refused("invite-used", "join", link, "--label", "Thief")
    assert "ask for a new one" in refused.err
    assert len(accounts(newsroom)) == before
    # What was made for nothing is good for another invite, with the same words.
    done = thief.type("join", a_new_invite(newsroom))
    assert "You are Thief" in done.out


def test_an_invite_that_is_wrong_in_any_way_sends_nothing_and_keeps_nothing(newsroom: Cast) -> None:
    link = a_new_invite(newsroom)
    address, _, pins = link.partition("#")
    code, server = pins.split(".")
    stranger = newsroom.person("Nobody")
    before = newsroom.line.counting()
    for wrong, why in {
        f"{address}#{code}": "invite-without-pin",
        f"{address}": "invite-without-pin",
        f"{address}#{code}.{server[:-1]}": "invite-without-pin",
        f"{address}#{code}.{server}.": "invite-without-pin",
        "http://example.org/join#a.b": "bad-url",
        newsroom.line.url: "bad-invite",
    }.items():
        stranger.refused(why, "join", wrong, "--label", "Nobody")
    other = a_card("Server").fingerprint.write()
    stranger.refused("wrong-server", "join", f"{address}#{code}.{other}", "--label", "Nobody")
    assert before.requests("POST") == 0
    assert not (stranger.home / "keyring.age").exists()
    stranger.refused("invite-unknown", "join", f"{address}#{'A' * len(code)}.{server}", "--label", "Nobody")
    with closing(sqlite3.connect(newsroom.server.folder / "afterword.db")) as db:
        db.execute("UPDATE invites SET expires = 0 WHERE used_by IS NULL")
        db.commit()
    stranger.refused("invite-expired", "join", link)
    assert len([each for each in accounts(newsroom) if each["label"] == "Nobody"]) == 0


def test_a_colleagues_invite_needs_the_journalists_pin_and_her_card(newsroom: Cast) -> None:
    ana = newsroom["Ana"]
    link = newsroom.invite(ana, "Fatima")
    fatima = newsroom.person("Fatima")
    fatima.refused("invite-without-pin", "join", link.rpartition(".")[0], "--label", "Fatima")
    assert fatima.refused("no-home", "status").err

    def another_journalist(body: bytes) -> bytes:
        return json.dumps(json.loads(body) | {"inviter": a_card("Ana").envelope.decode()}).encode()

    with newsroom.line.lying("POST", "/accounts$", another_journalist):
        fatima.refused("wrong-inviter", "join", link)
    done = fatima.type("join", link)
    assert "card compare Ana" in done.out


def test_joining_killed_at_any_moment_goes_on_with_the_same_command(newsroom: Cast) -> None:
    line = newsroom.line

    def killed_at(who: Person, link: str, prompt: str) -> None:
        assert who.type("join", link, "--label", who.name, dying=lambda said: prompt in said, code=KILLED)

    one = newsroom.person("Gorka")
    link = a_new_invite(newsroom)
    killed_at(one, link, "Word ")
    assert not (one.home / "keyring.age").exists()
    for answer in (False, True):
        with line.holding("POST", "/accounts$", answer=answer) as rule:
            one.type(
                "join",
                link,
                "--label",
                "Gorka",
                dying=lambda _, rule=rule: rule.held.is_set(),
                code=KILLED,
            )
        one.refused("no-home", "status")
    words = dict(one.words)
    shown = one.type("join", link, "--label", "Gorka")
    assert "going on with the same keys" in shown.err
    assert one.words == words
    assert len([each for each in accounts(newsroom) if each["label"] == "Gorka"]) == 1
    assert one.type("status").out.startswith("Gorka, journalist")


def test_a_wrong_passphrase_is_told_and_changes_nothing(newsroom: Cast) -> None:
    ana = newsroom["Ana"]
    wrong = newsroom.folder / "wrong"
    wrong.write_text("correct horse battery staple\n")
    wrong.chmod(0o600)
    before = newsroom.line.counting()
    for words in (["status"], ["checkin"], ["push", TITLE, str(newsroom.folder / "page.txt")], ["doctor"]):
        refused = ana.type(*words, "--passphrase-file", str(wrong), code=None)
        assert refused.code in ((3, 6) if words == ["doctor"] else (6,)), refused.said
        assert "assphrase" in refused.said
    assert before.requests("POST", "/sessions|/check-ins") == 0


def test_a_card_that_the_server_altered_is_refused_wherever_it_is_needed(newsroom: Cast) -> None:
    ana = newsroom["Ana"]
    forged = a_card("Bruno").envelope.decode()

    def another_bruno(body: bytes) -> bytes:
        account = json.loads(body)
        for link in account["links"]:
            if link["label"] == "Bruno":
                link["card"] = forged
        return json.dumps(account).encode()

    team = ["--collaborator", "Bruno", "--collaborator", "Elif", "--threshold", "2"]
    with newsroom.line.lying("GET", "/account$", another_bruno):
        listed = ana.type("collaborator", "list")
        assert re.search(r"Bruno +card changed", listed.out)
        ana.refused("card-changed", "dossier", "create", "With a forged card", *team)
    # A card that nobody signed at all, and one whose words do not match what is heard by voice.
    broken = forged.replace('"payload":"', '"payload":"AAAA', 1)
    forged = broken
    with newsroom.line.lying("GET", "/account$", another_bruno):
        assert re.search(r"Chiara +compared", ana.type("collaborator", "list").out)
        ana.refused("malformed", "dossier", "create", "With a broken card", *team)
    ana.refused(
        "card-differs", "card", "compare", "Chiara", answers={r"ords": " ".join(newsroom["Elif"].card)}
    )
    assert len(ana.ask("status")["dossiers"]) == 1


def test_a_server_whose_key_changed_is_told_nothing(newsroom: Cast) -> None:
    ana, line = newsroom["Ana"], newsroom.line
    other = Server(newsroom.folder / "another", newsroom.mail, line=Line())
    try:
        other.start()
        theirs = other.invite or ""
        true, line.server = line.server, other.url
        before = line.counting()
        try:
            for words in (["status"], ["checkin"], ["push", TITLE, str(newsroom.folder / "page.txt")]):
                ana.refused("server-changed", *words)
        finally:
            line.server = true
        assert before.requests("POST", "/sessions|/check-ins|/accounts") == 0
        # And an invite to that other server does not move this home there.
        ana.refused("other-server", "join", theirs)
    finally:
        other.stop()
        if other.line is not None:
            other.line.close()
    ana.type("checkin")


def test_a_lost_computer_comes_back_from_the_paper_words(newsroom: Cast) -> None:
    ana, bruno = newsroom["Ana"], newsroom["Bruno"]
    restore = re.search(r"http\S+/join#\S+", ana.type("doctor", code=None).out)
    server = json.loads(ana.type("card", "show", "--json").out)
    address = f"{newsroom.line.url}/join#" + pin_of(newsroom)
    assert restore is None or restore[0] == address
    replaced = newsroom.person("Ana")
    assert replaced.home == ana.home
    shutil.move(ana.home, newsroom.folder / "lost")
    replaced.words = dict.fromkeys(range(1, 24), "abandon") | {24: "art"}
    replaced.refused("no-account", "join", "--from-words", address)
    replaced.words = dict(ana.words)
    other = a_card("Server").fingerprint.write()
    replaced.refused("wrong-server", "join", "--from-words", f"{newsroom.line.url}/join#{other}")
    back = replaced.type("join", "--from-words", address)
    assert "Dossiers found: 1" in back.out
    replaced.quicken()
    assert json.loads(replaced.type("card", "show", "--json").out)["words"] == server["words"]
    replaced.refused("home-exists", "join", "--from-words", address)
    assert TITLE in replaced.type("checkin").out
    again = replaced.ask("push", TITLE, str(newsroom.folder / "work" / "numbat"))
    assert (again["bundles"], again["complete"]) == ([2], True)
    # A colleague comes back as well, with the dossier that was entrusted.
    shutil.rmtree(bruno.home)
    bruno.type("join", "--from-words", address)
    bruno.quicken()
    assert TITLE in bruno.type("inbox").out
    assert "your share is genuine" in bruno.type("drill").out
    newsroom.people["Ana"] = replaced


def pin_of(cast: Cast) -> str:
    return a_new_invite(cast).rpartition(".")[2]
