"""Nothing quick under a gun: what destroys, redirects, lengthens or silences is told to everybody, waits, and can be
taken back. And changing the roster, from the paper words to a release that the removed colleague cannot open.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from rehearsal import CALM, TITLE, fall_silent, invent, moves, session_of, stage_of, wait_for_stage
from theatre import Cast, Frozen, Person, read, same_files, until

from cli import shares
from vault import age, sharing, wire
from vault.sharing import DealtShare

Stage = Callable[..., Any]
SLOW = "Slow loris"
ASKED = "change was asked for"
CANCELLED = "will not happen"
DONE = "has taken effect"


@pytest.fixture(scope="module")
def armed(prepared: Frozen, stage: Stage) -> Iterator[Cast]:
    """Besides the usual dossier, both armed: one whose changes cool for an hour, so that they can be taken back."""
    with stage(prepared) as cast:
        ana, bruno, chiara = cast["Ana"], cast["Bruno"], cast["Chiara"]
        team = ["--collaborator", "Bruno", "--collaborator", "Chiara", "--threshold", "2"]
        ana.type("dossier", "create", SLOW, *team, *CALM[:-1], "1h")
        for who in (bruno, chiara):
            who.type("drill", SLOW)
        invent(cast.folder / "work" / "slow")
        ana.type("push", SLOW, str(cast.folder / "work" / "slow"))
        for title in (SLOW, TITLE):
            ana.type("arm", title)
        yield cast


def change_of(ana: Person, title: str, kind: str) -> dict[str, Any] | None:
    of = next(each for each in ana.ask("status")["dossiers"] if each["title"] == title)
    return next((each for each in of["changes"] if each["kind"] == kind), None)


def heard(cast: Cast, who: str, words: str, about: str) -> int:
    """How many letters said this."""
    mine = [read(each) for each in cast.mail.to(cast[who].address)]
    return sum(words in each and about in each for each in mine)


def everybody_hears(cast: Cast, words: str, about: str, *names: str) -> None:
    for name in names:
        until(lambda name=name: heard(cast, name, words, about), f"a letter to {name}: {about}, {words}")


def test_each_slow_change_is_told_to_everybody_and_can_be_taken_back(armed: Cast) -> None:
    ana = armed["Ana"]
    changes = {
        "destroy": (["destroy", SLOW], "the destruction of what was entrusted"),
        "plan": (["plan", SLOW, "--grace", "2h"], "longer times between the warnings"),
        "pause": (["pause", SLOW, "--until", "80h"], "a long pause"),
        "roster": (["roster", SLOW, "--remove", "Chiara", "--threshold", "1"], "a change of who can open"),
        "address": (["address", "remove", ana.address], "the removal of an address"),
    }
    for kind, (words, about) in changes.items():
        asked = ana.type(*words, answers={r"to destroy it": SLOW})
        assert "told" in asked.out
        everybody_hears(armed, ASKED, about, "Ana", "Bruno", "Chiara")
        change = change_of(ana, SLOW, kind)
        assert change is not None
        assert not change["cooled"]
        if kind != "address":
            again = ana.type(*words, answers={r"to destroy it": SLOW}, code=None)
            assert again.code == 3, again.said
            assert "afterword: change-pending" in again.err
    inbox = armed["Bruno"].type("inbox").out
    assert "the destruction of this dossier" in inbox
    assert "ask whether the change above is their own wish" in inbox
    ana.refused("ambiguous", "cancel", SLOW)
    ana.refused("no-such-change", "cancel", SLOW, "0123456789abcdef")
    for kind, (_, about) in changes.items():
        change = change_of(ana, SLOW, kind)
        assert change is not None
        ana.type("cancel", SLOW, change["change"][:16])
        everybody_hears(armed, CANCELLED, about, "Ana", "Bruno", "Chiara")
    assert stage_of(ana, SLOW) == "armed"
    plan = ana.ask("plan", SLOW)
    assert plan["grace"] == 1_000
    assert len(ana.ask("roster", SLOW)["collaborators"]) == 2
    ana.refused("no-such-change", "cancel", SLOW)
    # Nobody but she can do any of it.
    for words in (["destroy", SLOW], ["cancel", SLOW], ["plan", SLOW, "--every", "9h"], ["arm", SLOW]):
        armed["Bruno"].refused("not-a-journalist", *words)


def test_slow_changes_take_effect_after_cooling_and_quick_ones_at_once(armed: Cast) -> None:
    ana = armed["Ana"]
    ana.type("plan", TITLE, "--every", "50m")
    assert ana.ask("plan", TITLE)["every"] == 50 * 60_000
    ana.type("plan", TITLE, "--every", "2h")
    everybody_hears(armed, DONE, "longer times between the warnings", "Ana", "Bruno", "Chiara", "Daniel")
    assert ana.ask("plan", TITLE)["every"] == 2 * 60 * 60_000
    ana.type("pause", TITLE, "--until", "75h")
    everybody_hears(armed, DONE, "a long pause", "Ana", "Bruno", "Chiara", "Daniel")
    assert stage_of(ana) == "paused"
    ana.type("resume", TITLE)
    # One of two addresses; it gets letters until the removal has cooled, for the longest of her dossiers.
    first = ana.address
    ana.address = "second@example.org"
    ana.confirm_address()
    ana.type("address", "remove", ana.address)
    everybody_hears(armed, ASKED, "the removal of an address", "Ana", "Bruno", "Daniel")
    ana.address = first
    change = change_of(ana, TITLE, "address")
    assert change is not None
    ana.type("cancel", TITLE, change["change"])
    assert stage_of(ana) == "armed"


def test_a_changed_roster_opens_for_the_new_ones_and_never_for_the_removed(
    prepared: Frozen, stage: Stage
) -> None:
    with stage(prepared) as cast:
        ana, bruno, daniel, elif_ = (cast[name] for name in ("Ana", "Bruno", "Daniel", "Elif"))
        ana.type("arm", TITLE)
        # What a hostile colleague keeps.
        old = [share_of(daniel), share_of(bruno)]
        wrong = dict(ana.words)
        ana.words = dict(bruno.words)
        ana.refused("wrong-words", "roster", TITLE, "--remove", "Daniel", "--add", "Elif")
        ana.words = wrong
        asked = ana.type("roster", TITLE, "--remove", "Daniel", "--add", "Elif")
        assert "This is still in force" in asked.out
        everybody_hears(cast, ASKED, "a change of who can open", "Ana", "Bruno", "Chiara", "Daniel")
        until(lambda: (change_of(ana, TITLE, "roster") or {}).get("cooled"), "the change to cool")
        # Cooled is not in force: the old shares count until her computer hands over the difference.
        assert "genuine" in daniel.type("drill", TITLE).out
        done = ana.type("checkin")
        assert "roster 2 is in force" in done.err
        shown = ana.ask("roster", TITLE)
        assert shown["epoch"] == 2
        assert [each["label"] for each in shown["collaborators"]] == ["Bruno", "Chiara", "Elif"]
        assert "Checked in" in done.out
        everybody_hears(cast, DONE, "a change of who can open", "Ana", "Bruno", "Chiara", "Daniel", "Elif")
        for who in (bruno, elif_):
            assert "genuine" in who.type("drill").out
        assert "Call the lawyer Okonjo-Tamarind" in elif_.type("brief", TITLE).out
        assert daniel.type("drill", TITLE, code=None).code != 0
        ana.type("push", TITLE, str(cast.folder / "work" / "numbat"), "--note", "after the change")
        fall_silent(ana)
        cast.mail.saying(elif_.address, "can now be opened")
        assert not heard(cast, "Daniel", "can now be opened", "")
        target = cast.folder / "daniel" / "out"
        refused = daniel.type("recover", TITLE, "--to", str(target), "--yes", code=None)
        assert refused.code != 0
        assert not target.exists()
        assert (
            elif_.type("recover", TITLE, "--to", str(cast.folder / "elif" / "out"), "--yes", code=None).code
            != 0
        )
        whole = bruno.type("recover", TITLE, "--to", str(cast.folder / "bruno" / "out"), "--yes")
        assert "complete" in whole.out
        assert same_files(cast.folder / "work" / "numbat", cast.folder / "bruno" / "out" / "numbat") == []
        # Two old shares of a quorum, and even the new release share that Bruno was given, open nothing.
        recipient, withheld = released_share(bruno)
        key = sharing.xor(sharing.combine([each.share for each in old]), withheld)
        assert str(age.Identity(key).recipient) != recipient


def share_of(who: Person) -> DealtShare:
    """As this colleague's own program opens it."""
    session = session_of(who)
    with session.remote, closing(session.home):
        known = session.home.dossiers()[0]
        said = session.remote.call("GET", f"/dossiers/{known.id}/share", None, wire.SealedShare)
        return sharing.read_share(age.open_sealed(wire.read_blob(said.sealed), session.keyring.seal))


def released_share(who: Person) -> tuple[str, bytes]:
    """The dossier's recipient, and R as the server let it go."""
    session = session_of(who)
    with session.remote, closing(session.home):
        known = session.home.dossiers()[0]
        said = session.remote.call("GET", f"/dossiers/{known.id}/release", None, wire.Released)
        dealt = sharing.read_share(
            age.open_sealed(wire.read_blob(said.shares[0].sealed), session.keyring.seal)
        )
        state = session.remote.call("GET", f"/dossiers/{known.id}", None, wire.DossierState)
        sound = shares.look(session, state)
        return sound.roster.roster.recipient, sharing.combine([dealt.share])


def test_a_destroyed_dossier_is_gone_for_everybody(prepared: Frozen, stage: Stage) -> None:
    with stage(prepared) as cast:
        ana, bruno = cast["Ana"], cast["Bruno"]
        ana.type("arm", TITLE)
        # An address of hers goes first, and hears of it; of what comes after, it hears nothing.
        kept, ana.address = ana.address, "second@example.org"
        ana.confirm_address()
        ana.type("address", "remove", "second@example.org")
        ana.address = kept
        everybody_hears(cast, DONE, "the removal of an address", "Ana", "Bruno", "Chiara", "Daniel")
        assert [each["address"] for each in ana.ask("address", "list")["addresses"]] == [kept]
        quiet = len(cast.mail.to("second@example.org"))
        ana.refused("not-confirmed", "destroy", TITLE, answers={r"\[y/N\]": "n"})
        ana.refused("not-confirmed", "destroy", TITLE, answers={r"to destroy it": "something else"})
        ana.type("destroy", TITLE, answers={r"to destroy it": TITLE})
        everybody_hears(
            cast, DONE, "the destruction of what was entrusted", "Ana", "Bruno", "Chiara", "Daniel"
        )
        wait_for_stage(cast, "destroyed")
        assert stage_of(ana) == "destroyed"
        everybody_hears(cast, DONE, "the destruction of what was entrusted", "Ana")
        assert len(cast.mail.to("second@example.org")) == quiet
        assert bruno.type("recover", TITLE, "--to", str(cast.folder / "out"), "--yes", code=None).code != 0
        assert ana.type("push", TITLE, str(cast.folder / "page.txt"), code=None).code != 0
        # Its ciphertext goes with the next tidying up, of which one is done at each start.
        cast.server.stop()
        cast.server.start()
        until(
            lambda: not [each for each in (cast.server.folder / "objects").rglob("*") if each.is_file()],
            "its objects to go",
        )
        assert "destroyed" in ana.type("checkin").out
        ended = [each for each in moves(cast) if each.after == "destroyed"]
        assert len(ended) == 1


def test_a_slow_change_waits_in_an_alarm_and_a_release_ends_it(prepared: Frozen, stage: Stage) -> None:
    with stage(prepared) as cast:
        ana = cast["Ana"]
        ana.type("plan", TITLE, "--remind", "2s", "--warn", "2s", "--grace", "2s")
        ana.type("arm", TITLE)
        fall_silent(ana)
        wait_for_stage(cast, "reminded")
        # A captor with her computer asks for the end of it: the ladder is longer than he is patient.
        ana.type("destroy", TITLE, answers={r"to destroy it": TITLE}, code=None)
        cast.mail.saying(cast["Bruno"].address, "can now be opened")
        assert [each.after for each in moves(cast)][-1] == "released"
        assert stage_of(ana) == "released"
