import os
from itertools import combinations

import pytest

from cli import dealing
from cli.dealing import Person, Terms
from test_cli.loopback import a_person
from vault import age, identity, rosters, sharing, statements, titles, wire
from vault.errors import Refused, Untrusted
from vault.identity import Keyring, RootSeed
from vault.rosters import SealedDeal
from vault.statements import Dwells, Roster

DOSSIER = "0f" * 16
TERMS = Terms(Dwells(1, 2, 3, 4), 5, 2)


class Table:
    """A journalist, people to deal to, a server, and everything that chance gave."""

    def __init__(self, count: int = 3) -> None:
        self.root = RootSeed(os.urandom(32))
        self.keyring = Keyring.from_seed(self.root)
        self.rings, cards = zip(*(a_person(f"p{n}") for n in range(count)), strict=True)
        self.people = [Person(card.card.label, card, True) for card in cards]
        self.server_ring, self.server = a_person("server", "server")
        self.drawn: list[bytes] = []

    def random(self, count: int) -> bytes:
        self.drawn.append(os.urandom(count))
        return self.drawn[-1]

    def first(self, k: int = 2) -> tuple[wire.DossierCreation, Roster]:
        made = dealing.deal_first(
            DOSSIER, "Harbour", self.people, k, TERMS, self.server, self.keyring, self.random
        )
        return made, self.read(made.roster)

    def read(self, signed: str) -> Roster:
        return rosters.read_roster(signed.encode(), self.keyring.sign.verify_key)

    def shares(self, roster: Roster, sealed: tuple[str, ...]) -> list[sharing.Share]:
        """Each holder opens their own, and checks it against the roster."""
        opened = []
        for line, ring, blob in zip(roster.collaborators, self.rings, sealed, strict=False):
            dealt = sharing.read_share(age.open_sealed(wire.read_blob(blob), ring.seal))
            assert (dealt.dossier.hex(), dealt.epoch, dealt.title) == (DOSSIER, roster.epoch, "Harbour")
            sharing.check_commitment(
                dealt.share,
                bytes.fromhex(line.commitment),
                journalist=self.keyring.sign.verify_key.raw,
                dossier=dealt.dossier,
                epoch=roster.epoch,
            )
            opened.append(dealt.share)
        return opened

    def withheld(self, sealed: str) -> sharing.Share:
        return sharing.read_share(age.open_sealed(wire.read_blob(sealed), self.server_ring.seal)).share

    def held(self, sealed: str) -> SealedDeal:
        return rosters.read_deal(age.open_sealed(wire.read_blob(sealed), identity.deal_identity(self.root)))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_any_k_of_them_with_the_server_have_the_key_and_k_minus_one_do_not(k: int) -> None:
    table = Table()
    made, roster = table.first(k)
    shares = table.shares(roster, made.shares)
    release = sharing.combine([table.withheld(made.release_shares[0])])
    for few in combinations(shares, k):
        key = age.Identity(sharing.xor(sharing.combine(few), release))
        assert str(key.recipient) == roster.recipient
    for too_few in combinations(shares, k - 1):
        if too_few:
            wrong = age.Identity(sharing.xor(sharing.combine(too_few), release))
            assert str(wrong.recipient) != roster.recipient


def test_all_of_them_without_the_server_and_the_server_without_them_have_nothing() -> None:
    table = Table()
    made, roster = table.first()
    for half in (
        sharing.combine(table.shares(roster, made.shares)),
        sharing.combine([table.withheld(made.release_shares[0])]),
    ):
        assert str(age.Identity(half).recipient) != roster.recipient


def test_nothing_that_comes_back_holds_what_was_drawn_in_clear() -> None:
    table = Table()
    made, _ = table.first()
    written = wire.write(made)
    key, closed = table.drawn[:2]
    for secret in (key, closed, sharing.xor(key, closed)):
        for spelled in (secret, secret.hex().encode(), wire.write_blob(secret)[:-2].encode()):
            assert spelled not in written


def test_what_the_journalist_keeps_opens_nothing_without_her_paper() -> None:
    table = Table()
    made, _ = table.first()
    for blob in (*made.shares, *made.release_shares, made.deal):
        with pytest.raises(Untrusted):
            age.open_sealed(wire.read_blob(blob), table.keyring.seal)
    opened = age.open_sealed(wire.read_blob(made.title), table.keyring.seal)
    assert titles.read_title(opened, statements.peek(made.roster.encode()).dossier) == "Harbour"
    assert table.held(made.deal).secret == table.drawn[1]


def test_the_server_is_told_no_title() -> None:
    table = Table()
    made, _ = table.first()
    opened = age.open_sealed(wire.read_blob(made.release_shares[0]), table.server_ring.seal)
    assert sharing.read_share(opened).title == ""


def again(table: Table, made: wire.DossierCreation, people: list[Person], k: int) -> dealing.Prepared:
    before = table.read(made.roster)
    hash = dealing.Prepared(made.roster, (), "", ()).hash
    return dealing.deal_again(
        before, hash, table.held(made.deal), "Harbour", people, k, table.keyring, table.random
    )


def test_after_a_change_the_new_people_have_the_same_key_and_the_old_shares_open_nothing() -> None:
    table = Table()
    made, first = table.first()
    prepared = again(table, made, table.people[:2], 2)
    second = table.read(prepared.roster)
    rosters.follows(second, first, dealing.Prepared(made.roster, (), "", ()).hash)
    r_before = sharing.combine([table.withheld(made.release_shares[0])])
    r_after = sharing.xor(r_before, sharing.combine([table.withheld(prepared.corrections[0])]))
    new, old = table.shares(second, prepared.shares), table.shares(first, made.shares)
    assert str(age.Identity(sharing.xor(sharing.combine(new), r_after)).recipient) == first.recipient
    for stale in (
        sharing.xor(sharing.combine(old[:2]), r_after),
        sharing.xor(sharing.combine(new), r_before),
        sharing.xor(sharing.combine([old[0], new[1]]), r_after),
    ):
        assert str(age.Identity(stale).recipient) != first.recipient
    assert table.held(prepared.deal).epoch == 2


def test_a_secret_of_another_dossier_or_epoch_is_not_dealt() -> None:
    table = Table()
    made, first = table.first()
    held = table.held(made.deal)
    for wrong in (SealedDeal(bytes(16), 1, held.secret), SealedDeal(held.dossier, 2, held.secret)):
        with pytest.raises(Untrusted) as refused:
            dealing.deal_again(
                first, "0" * 64, wrong, "Harbour", table.people, 2, table.keyring, table.random
            )
        assert refused.value.code == "wrong-deal"


def test_shares_that_do_not_give_back_the_key_are_never_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    real = sharing.split

    def broken(secret: bytes, k: int, n: int, random: dealing.Random) -> tuple[sharing.Share, ...]:
        *good, last = real(secret, k, n, random)
        return (*good, sharing.Share(last.index, bytes(32)))

    monkeypatch.setattr(sharing, "split", broken)
    with pytest.raises(Untrusted):
        table.first()


def refusal(people: list[Person], k: int, own: identity.ContactCard, *, unverified: bool = False) -> str:
    with pytest.raises(Refused) as refused:
        dealing.check_people(people, k, own, unverified=unverified)
    return refused.value.code


def test_a_threshold_lies_between_one_and_the_number_of_people() -> None:
    table, own = Table(), a_person("Ana")[1]
    for k in (0, -1, 4, 256):
        assert refusal(table.people, k, own) == "bad-threshold"
    assert refusal([], 1, own) == "no-collaborators"
    for k in (1, 2, 3):
        dealing.check_people(table.people, k, own, unverified=False)


def test_nobody_counts_twice_by_name_by_key_or_by_being_oneself() -> None:
    table = Table()
    ring, own = a_person("Ana")
    ben = table.people[0]
    assert refusal([ben, ben], 1, own) == "named-twice"
    assert refusal([ben, Person("Ben's other name", ben.card, True)], 1, own) == "same-key"
    assert refusal([ben, Person("me", own, True)], 1, own) == "named-self"
    mixed = Keyring(table.rings[0].seal, ring.sign, ring.checkin, ring.deal_recipient)
    card = identity.read_card(identity.write_card("mixed", mixed, 1, "cli"))
    assert refusal([ben, Person("mixed", card, True)], 1, a_person("Eve")[1]) == "same-key"


def test_k_cards_that_were_never_compared_are_refused_and_one_less_is_not() -> None:
    table, own = Table(), a_person("Ana")[1]
    people = [Person(each.label, each.card, verified=n == 0) for n, each in enumerate(table.people)]
    assert refusal(people, 2, own) == "not-compared"
    dealing.check_people(people, 3, own, unverified=False)
    dealing.check_people(people, 2, own, unverified=True)


def test_whoever_was_never_compared_is_written_into_the_roster_so() -> None:
    table = Table()
    table.people[1] = Person(table.people[1].label, table.people[1].card, False)
    _, roster = table.first()
    assert [line.verified for line in roster.collaborators] == [True, False, True]
    assert isinstance(roster, statements.Roster)
