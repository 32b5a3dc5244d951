"""Who may come in, and where their letters go."""

from pathlib import Path

import msgspec
import pytest

from tests.world import Person, World, an_armed_dossier
from vault import accounts, age, compose, custodian, founding, identity, statements, wire
from vault.clock import DAY, HOUR, MINUTE
from vault.errors import AfterwordError, Malformed, NotFound, Refused, Unauthenticated, Untrusted
from vault.identity import Keyring, RootSeed
from vault.settings import read_settings


def code_of(do: object) -> str:
    with pytest.raises(AfterwordError) as refused:
        do()  # type: ignore[operator]
    return refused.value.code


def add(person: Person, address: str, **changed: str) -> wire.AddressState:
    given = {"language": "en", "subject": "Note", "phrase": "blue heron", **changed}
    request = wire.AddressRequest(address, **given)  # type: ignore[arg-type]
    return accounts.add_address(person.world.records, person.world.custodian, person.account, request)


def code_to(world: World, address: str) -> str:
    world.deliver()
    words = next(each for each in reversed(world.courier.carried) if each.to == address).body.split()
    return words[words.index("confirm") + 1]


def confirm(person: Person, code: str) -> wire.AddressState:
    return accounts.confirm_address(person.world.records, person.world.custodian, person.account, code)


def sign_in(person: Person, nonce: str | None = None, **changed: object) -> wire.SessionGrant:
    login = statements.Login(
        person.world.custodian.hash, person.card.verify_key.hex, nonce or person.nonce(), 1
    )
    signed = statements.write(msgspec.structs.replace(login, **changed), person.keyring.sign)
    return accounts.sign_in(
        person.world.records, person.world.custodian, wire.SessionRequest(signed.decode())
    )


# joining


def test_an_invite_lets_in_one_person_once(world: World) -> None:
    code = accounts.invite_journalist(world.records, world.custodian)
    ana = Person(world, "ana", code)
    assert ana.account.journalist
    assert code_of(lambda: Person(world, "bea", code)) == "invite-used"


def test_whoever_lost_the_answer_joins_again_and_gets_the_same_one(world: World) -> None:
    ana = world.journalist()
    carl = ana.colleague("carl")
    first = carl.join(carl.code)
    world.skip(30 * DAY)
    assert carl.join(carl.code) == first
    assert first == wire.Joined("collaborator", ana.card.envelope.decode())
    assert len(world.records.accounts()) == 2
    assert len(world.records.links_of(ana.account.id)) == 1


def test_an_invite_is_good_for_a_fortnight(world: World) -> None:
    code = accounts.invite_journalist(world.records, world.custodian)
    world.skip(accounts.INVITE_LIVES)
    assert code_of(lambda: Person(world, "ana", code)) == "invite-expired"


def test_a_code_that_was_never_given_out_opens_nothing(world: World) -> None:
    for code in ("", "abc", "x" * 64, "-' OR 1=1 --"):
        assert code_of(lambda: Person(world, "ana", code)) == "invite-unknown"  # noqa: B023
    assert world.records.accounts() == []


def test_a_second_invite_links_a_known_person_and_keeps_one_account(world: World) -> None:
    ana, bea = world.journalist("ana"), world.journalist("bea")
    carl = ana.colleague("carl")
    invite = accounts.invite_collaborator(world.records, world.custodian, bea.account, "Carlos")
    assert carl.join(invite.code).inviter == bea.card.envelope.decode()
    assert len(world.records.accounts()) == 3
    assert len(world.records.links_of(carl.account.id)) == 2


def test_a_collaborator_becomes_a_journalist_by_an_operators_invite_only(world: World) -> None:
    ana = world.journalist()
    carl = ana.colleague("carl")
    assert not carl.account.journalist
    assert code_of(
        lambda: accounts.invite_collaborator(world.records, world.custodian, carl.account, "dora")
    ) == ("not-a-journalist")
    carl.join(accounts.invite_journalist(world.records, world.custodian))
    assert carl.account.journalist
    assert carl.account.quota > 0


def test_nobody_is_their_own_colleague(world: World) -> None:
    ana = world.journalist()
    invite = accounts.invite_collaborator(world.records, world.custodian, ana.account, "me")
    assert code_of(lambda: ana.join(invite.code)) == "own-invite"
    assert len(accounts.state(world.records, world.custodian, ana.account).invites) == 1


def test_keys_that_belong_to_another_card_are_refused(world: World) -> None:
    """A card made anew for the same keys is another card, and would be a second self."""
    ana = world.journalist()
    signed = identity.write_card("Ana Two", ana.keyring, 99, "cli").decode()
    code = accounts.invite_journalist(world.records, world.custodian)
    assert (
        code_of(lambda: accounts.join(world.records, world.custodian, wire.Joining(code, signed), 1))
        == "card-changed"
    )
    # The refusal did not cost the invite.
    Person(world, "bea", code)


def test_an_altered_card_and_a_servers_card_do_not_join(world: World) -> None:
    code = accounts.invite_journalist(world.records, world.custodian)
    keyring = Keyring.from_seed(RootSeed(bytes(32)))
    signed = identity.write_card("Ana", keyring, 99, "cli").decode()
    other = identity.write_card("Ana", Keyring.from_seed(RootSeed(b"1" * 32)), 99, "cli").decode()
    altered = signed.split('"signatures"')[0] + '"signatures"' + other.split('"signatures"')[1]
    for card, wrong in (
        (altered, Untrusted),
        ("{}", Malformed),
        (world.custodian.card.envelope.decode(), Refused),
    ):
        with pytest.raises(wrong):
            accounts.join(world.records, world.custodian, wire.Joining(code, card), 1)
    assert world.records.accounts() == []


def test_an_account_has_only_so_many_open_invites(world: World) -> None:
    ana = world.journalist()
    for _ in range(accounts.MOST_INVITES):
        accounts.invite_collaborator(world.records, world.custodian, ana.account, "x")
    assert (
        code_of(lambda: accounts.invite_collaborator(world.records, world.custodian, ana.account, "x"))
        == "too-many-invites"
    )


@pytest.mark.parametrize("label", ["", "x" * 300, "two\nlines", "\u202eevil", " ends "])
def test_a_label_that_could_deceive_is_refused(world: World, label: str) -> None:
    ana = world.journalist()
    with pytest.raises(AfterwordError):
        accounts.invite_collaborator(world.records, world.custodian, ana.account, label)


def test_what_she_calls_her_colleague_is_hers_alone(world: World) -> None:
    ana = world.journalist()
    invite = accounts.invite_collaborator(world.records, world.custodian, ana.account, "The Accountant")
    carl = Person(world, "carl", invite.code)
    (hers,) = accounts.state(world.records, world.custodian, ana.account).links
    (his,) = accounts.state(world.records, world.custodian, carl.account).links
    assert (hers.label, hers.role) == ("The Accountant", "collaborator")
    assert (his.label, his.role) == ("", "journalist")


# sessions


def test_a_session_is_hers_for_half_an_hour_or_until_she_signs_out(world: World) -> None:
    ana = world.journalist()
    grant = sign_in(ana)
    assert accounts.session(world.records, grant.token).id == ana.account.id
    world.skip(accounts.SESSION_LIVES)
    with pytest.raises(Unauthenticated):
        accounts.session(world.records, grant.token)
    other = sign_in(ana).token
    accounts.sign_out(world.records, other)
    with pytest.raises(Unauthenticated):
        accounts.session(world.records, other)


def test_only_the_hash_of_a_token_is_kept(world: World) -> None:
    ana = world.journalist()
    token = sign_in(ana).token
    rows = world.database.all("SELECT token FROM sessions")
    assert [row["token"] for row in rows] == [custodian.digest(token)]


def test_a_captured_sign_in_opens_no_second_session(world: World) -> None:
    ana = world.journalist()
    nonce = ana.nonce()
    sign_in(ana, nonce)
    assert code_of(lambda: sign_in(ana, nonce)) == "stale-nonce"


def test_every_way_of_not_being_somebody_is_one_answer(world: World) -> None:
    ana = world.journalist()
    stranger = Keyring.from_seed(RootSeed(b"2" * 32))
    login = statements.Login(world.custodian.hash, stranger.sign.verify_key.hex, ana.nonce(), 1)
    hers = msgspec.structs.replace(login, verify=ana.card.verify_key.hex)
    checkin = msgspec.structs.replace(login, verify=ana.card.checkin_key.hex)
    said = set()
    for signed in (
        statements.write(login, stranger.sign),
        statements.write(hers, stranger.sign),
        statements.write(checkin, ana.keyring.checkin),
        ana.checkin_request().statement.encode(),
        b"{}",
        b"",
        b"nonsense",
    ):
        with pytest.raises(Unauthenticated) as refused:
            accounts.sign_in(world.records, world.custodian, wire.SessionRequest(signed.decode()))
        said.add(str(refused.value))
    assert len(said) == 1


def test_what_has_expired_is_forgotten(world: World) -> None:
    ana = world.journalist()
    sign_in(ana)
    world.skip(HOUR)
    accounts.forget_expired(world.records)
    assert world.database.all("SELECT * FROM sessions") == []
    assert world.database.all("SELECT * FROM spent_nonces") == []


# addresses


def test_an_address_counts_only_when_its_code_came_back(world: World) -> None:
    ana = world.journalist()
    assert not add(ana, "ana@example.org").confirmed
    assert not world.records.reachable(ana.account.id)
    state = confirm(ana, code_to(world, "ana@example.org"))
    assert state.confirmed
    assert world.records.reachable(ana.account.id)


def test_a_code_may_be_typed_with_spaces_dashes_and_capitals(world: World) -> None:
    ana = world.journalist()
    add(ana, "ana@example.org")
    code = code_to(world, "ana@example.org").upper()
    assert confirm(ana, f" {code[:4]}-{code[4:8]} {code[8:]} ").confirmed


def test_whoever_lost_the_answer_confirms_again(world: World) -> None:
    ana = world.journalist()
    add(ana, "ana@example.org")
    code = code_to(world, "ana@example.org")
    first = confirm(ana, code)
    number = ana.account.number
    assert confirm(ana, code) == first
    assert ana.account.number == number


def test_five_wrong_codes_are_enough(world: World) -> None:
    ana = world.journalist()
    add(ana, "ana@example.org")
    code = code_to(world, "ana@example.org")
    for _ in range(accounts.MOST_TRIES):
        assert code_of(lambda: confirm(ana, "wrong")) == "wrong-code"
    assert code_of(lambda: confirm(ana, code)) == "wrong-code"
    add(ana, "ana@example.org")
    assert confirm(ana, code_to(world, "ana@example.org")).confirmed


def test_asking_again_sends_a_new_code_and_the_old_one_is_worth_nothing(world: World) -> None:
    ana = world.journalist()
    add(ana, "ana@example.org")
    old = code_to(world, "ana@example.org")
    add(ana, "ana@example.org")
    assert code_of(lambda: confirm(ana, old)) == "wrong-code"
    assert confirm(ana, code_to(world, "ana@example.org")).confirmed
    assert len(world.records.addresses_of(ana.account.id)) == 1


def test_a_code_is_good_for_two_days_and_for_its_own_account(world: World) -> None:
    ana, bea = world.journalist("ana"), world.journalist("bea")
    add(ana, "ana@example.org")
    code = code_to(world, "ana@example.org")
    assert code_of(lambda: confirm(bea, code)) == "wrong-code"
    world.skip(accounts.CODE_LIVES)
    assert code_of(lambda: confirm(ana, code)) == "wrong-code"


def test_a_confirmed_address_can_get_another_phrase_without_a_new_code(world: World) -> None:
    ana = world.journalist()
    ana.confirm("ana@example.org")
    assert add(ana, "ana@example.org", phrase="grey heron", language="es").confirmed
    (state,) = accounts.state(world.records, world.custodian, ana.account).addresses
    assert (state.phrase, state.language) == ("grey heron", "es")


@pytest.mark.parametrize(
    "address",
    [
        "ana",
        "@example.org",
        "ana@",
        "ana@host",
        "ana @example.org",
        "ana@exa mple.org",
        "ana@example.org\nBcc: x@y.org",
        "<ana@example.org>",
        "ana@example..org",
        "añà@example.org",
        "a" * 65 + "@example.org",
        "ana@example.org,bea@example.org",
    ],
)
def test_what_is_no_address_is_refused_and_not_kept(world: World, address: str) -> None:
    ana = world.journalist()
    assert code_of(lambda: add(ana, address)) == "bad-address"
    assert world.records.addresses_of(ana.account.id) == []


@pytest.mark.parametrize("line", ["two\nlines", "x" * 61, " ends", "\u202eevil"])
def test_a_subject_and_a_phrase_are_one_honest_line(world: World, line: str) -> None:
    ana = world.journalist()
    assert code_of(lambda: add(ana, "ana@example.org", subject=line)) == "bad-line"
    assert code_of(lambda: add(ana, "ana@example.org", phrase=line)) == "bad-line"


def test_an_account_has_at_most_ten_addresses(world: World) -> None:
    ana = world.journalist()
    for number in range(accounts.MOST_ADDRESSES):
        add(ana, f"ana{number}@example.org")
    assert code_of(lambda: add(ana, "more@example.org")) == "too-many-addresses"
    add(ana, "ana0@example.org")


def test_somebody_elses_address_and_no_address_are_one_answer(world: World) -> None:
    ana, bea = world.journalist("ana"), world.journalist("bea")
    ana.confirm("ana@example.org")
    (address,) = world.records.addresses_of(ana.account.id)
    said = set()
    for each in (address.id, "00" * 16, "", "x" * 500):
        with pytest.raises(NotFound) as refused:
            accounts.remove_address(world.records, world.custodian, bea.account, each)
        said.add(str(refused.value))
    assert len(said) == 1
    assert world.records.address(address.id) is not None


def test_letters_to_an_address_end_with_it(world: World) -> None:
    ana = world.journalist()
    state = add(ana, "ana@example.org")
    accounts.remove_address(world.records, world.custodian, ana.account, state.id)
    world.pass_time(MINUTE)
    assert world.courier.carried == []


def test_a_colleague_may_drop_an_address_at_once(world: World) -> None:
    made = an_armed_dossier(world)
    reader = made.readers[0]
    (address,) = world.records.addresses_of(reader.account.id)
    removed = accounts.remove_address(world.records, world.custodian, reader.account, address.id)
    assert removed.change is None
    assert world.records.addresses_of(reader.account.id) == []


def test_an_account_knows_itself(world: World) -> None:
    made = an_armed_dossier(world)
    state = accounts.state(world.records, world.custodian, made.hers.account)
    assert state.card == made.hers.card.envelope.decode()
    assert state.role == "journalist"
    assert state.used == 2 * 1024 * 1024
    assert state.reserve == state.quota // 20
    assert [each.address for each in state.addresses] == ["ana@example.org"]
    assert len(state.links) == 3


def test_a_server_key_that_is_not_its_own_opens_no_vault(tmp_path: Path) -> None:
    settings = read_settings({}, data=tmp_path / "data")
    assert founding.found(settings)
    assert not founding.found(settings)
    compose.open_vault(settings)
    settings.server_key_file.write_text(age.Identity(bytes(32)).write() + "\n")
    with pytest.raises(Refused) as refused:
        compose.open_vault(settings)
    assert refused.value.code == "wrong-server-key"
