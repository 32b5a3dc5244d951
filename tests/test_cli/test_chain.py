"""Chains of rosters and heads, and every way in which a server could bend them."""

import msgspec
import pytest

from cli import chain
from test_cli.archive_world import DOSSIER, START
from test_cli.loopback import a_person
from vault import envelope, statements
from vault.errors import Untrusted
from vault.statements import Collaborator, Custodian, Dwells, Head, Roster

KEYRING, CARD = a_person("Ana")
KEY = CARD.verify_key


SERVER, OTHER = (a_person(label, "server")[1].envelope.decode() for label in ("Server", "Other"))


def a_roster(**changes) -> Roster:
    cards = [a_person(label)[1].envelope.decode() for label in ("Bo", "Cem")]
    people = tuple(Collaborator(i, card, True, "00" * 32, "00" * 32) for i, card in enumerate(cards, 1))
    custodian = Custodian(1, SERVER, "00" * 32, "00" * 32)
    made = Roster(
        DOSSIER, 1, None, CARD.card.recipient, 2, people, 1, (custodian,), "00" * 32, 2, Dwells(1, 1, 1, 1), 1
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def signed(*made, key=KEYRING.sign) -> list[bytes]:
    return [statements.write(each, key) for each in made]


def following(roster: Roster, **changes) -> Roster:
    prev = envelope.statement_hash(signed(roster)[0]).hex()
    later = {"epoch": roster.epoch + 1, "prev": prev, "custodians": (Custodian(1, SERVER, "00" * 32, None),)}
    return msgspec.structs.replace(roster, **(later | changes))


def test_rosters_that_follow_each_other_are_read() -> None:
    first = a_roster()
    read = chain.read_rosters(signed(first, following(first, k=1)), KEY, DOSSIER)
    assert [each.roster.epoch for each in read] == [1, 2]
    assert [card.card.label for card in read[0].cards()] == ["Bo", "Cem"]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipient": a_person("X")[1].card.recipient},
        {"t": 2},
        {"custodians": (Custodian(1, OTHER, "00" * 32, None),)},
        {"prev": "11" * 32},
        {"epoch": 3},
        {"k": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_second_roster_changes_nothing_that_is_fixed(changes: dict) -> None:
    first = a_roster()
    with pytest.raises(Untrusted) as refused:
        chain.read_rosters(signed(first, following(first, **changes)), KEY, DOSSIER)
    assert refused.value.code == "roster-forged"


def test_no_roster_at_all_or_one_of_another_dossier_or_key_is_forged() -> None:
    _, other = a_person("Bo")
    for envelopes, key, dossier in (
        ([], KEY, DOSSIER),
        (signed(a_roster()), other.verify_key, DOSSIER),
        (signed(a_roster()), KEY, "cd" * 16),
    ):
        with pytest.raises(Untrusted) as refused:
            chain.read_rosters(envelopes, key, dossier)
        assert refused.value.code == "roster-forged"


class Shows:
    """A server that shows what it is told to."""

    def __init__(self, rosters: list[bytes] = (), heads: list[bytes] = (), page: int = 2) -> None:
        self.rosters, self.heads, self.page = rosters, heads, page

    def call(self, method, path, request, answer):
        from vault import wire

        if path.endswith("/rosters"):
            return wire.Rosters("", tuple(each.decode() for each in self.rosters), None)
        after = int(path.rpartition("=")[2])
        shown = self.heads[after : after + self.page]
        return wire.Heads(tuple(each.decode() for each in shown), len(self.heads) > after + self.page)


def test_a_roster_that_was_seen_must_still_be_there() -> None:
    first = a_roster()
    both = signed(first, following(first))
    assert len(chain.fetch_rosters(Shows(both), DOSSIER, CARD, both[:1])) == 2
    with pytest.raises(Untrusted) as refused:
        chain.fetch_rosters(Shows(both[:1]), DOSSIER, CARD, both)
    assert refused.value.code == "roster-rolled-back"
    with pytest.raises(Untrusted) as refused:
        chain.fetch_rosters(Shows(both), DOSSIER, CARD, signed(a_roster()))
    assert refused.value.code == "roster-forked"


def some_heads(count: int) -> list[Head]:
    made: list[Head] = []
    prev = None
    for number in range(1, count + 1):
        made.append(Head(DOSSIER, number, prev, ("00" * 32,), "", None, START + number))
        prev = envelope.statement_hash(signed(made[-1])[0]).hex()
    return made


def fetched(heads: list[bytes]) -> list[chain.SignedHead]:
    return list(chain.fetch_heads(Shows(heads=heads), DOSSIER, KEY))


def test_heads_come_page_by_page_and_can_be_followed_from_the_middle() -> None:
    heads = signed(*some_heads(5))
    all_of_them = fetched(heads)
    assert [each.bundle for each in all_of_them] == [1, 2, 3, 4, 5]
    rest = chain.fetch_heads(Shows(heads=heads), DOSSIER, KEY, all_of_them[2])
    assert [each.bundle for each in rest] == [4, 5]


@pytest.mark.parametrize(
    "changes",
    [{"dossier": "cd" * 16}, {"bundle": 3}, {"prev": None}, {"prev": "11" * 32}, {"replace": 3}],
    ids=str,
)
def test_a_head_out_of_place_is_named_by_its_number(changes: dict) -> None:
    first, second, _ = some_heads(3)
    with pytest.raises(Untrusted, match="Head 2") as refused:
        fetched(signed(first, msgspec.structs.replace(second, **changes)))
    assert refused.value.code == "head-forged"


def test_a_head_by_another_key_is_forged_and_what_lies_before_is_not() -> None:
    first, second, third = some_heads(3)
    heads = [*signed(first), *signed(second, key=a_person("Bo")[0].sign), *signed(third)]
    coming = chain.fetch_heads(Shows(heads=heads), DOSSIER, KEY)
    assert next(coming).bundle == 1
    with pytest.raises(Untrusted, match="Head 2"):
        next(coming)


def test_more_heads_announced_and_none_shown_is_not_waited_for() -> None:
    with pytest.raises(Untrusted):
        list(chain.fetch_heads(Shows(heads=signed(*some_heads(1)), page=0), DOSSIER, KEY))


def test_what_a_witness_knew_must_be_in_the_chain() -> None:
    heads = fetched(signed(*some_heads(3)))
    chain.check_reaches(heads, 2, heads[1].hash.hex(), "somebody knew")
    chain.check_reaches(heads, None, heads[2].hash.hex(), "somebody knew")
    for number, code in ((2, "head-forked"), (4, "head-rolled-back"), (None, "head-rolled-back")):
        with pytest.raises(Untrusted) as refused:
            chain.check_reaches(heads, number, "11" * 32, "somebody knew")
        assert refused.value.code == code
