import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vault import age, envelope, identity, rosters, statements
from vault.envelope import VerifyKey
from vault.errors import Malformed, Untrusted
from vault.identity import Keyring, RootSeed
from vault.rosters import SealedDeal
from vault.statements import Roster

VECTORS = Path(__file__).parents[2] / "docs/spec/vectors/roster"
EXPECTED = {"malformed": Malformed, "untrusted": Untrusted}
# As docs/spec/roster-v1.md says: whoever is n-th here has a root seed of 32 bytes n.
PEOPLE = ("ana", "ben", "cem", "dora", "eva", "fay", "gus", "server")


def keyring(name: str) -> Keyring:
    return Keyring.from_seed(RootSeed(bytes([PEOPLE.index(name) + 1]) * 32))


def card(name: str) -> str:
    """What `@name` stands for in a vector."""
    made_by = "server" if name in {"server", "fay", "gus"} else "cli"
    if name in PEOPLE:
        return identity.write_card(name, keyring(name), 1_790_000_000_000, made_by).decode()
    ben, cem = keyring("ben"), keyring("cem")
    if name == "ben-again":
        return identity.write_card("another", ben, 1_790_000_000_001, "cli").decode()
    if name == "ben-hidden":
        hidden = Keyring(ben.seal, cem.sign, cem.checkin, cem.deal_recipient)
        return identity.write_card("another", hidden, 1_790_000_000_000, "cli").decode()
    if name == "hal":
        hal = Keyring(cem.seal, ben.checkin, cem.checkin, cem.deal_recipient)
        return identity.write_card("hal", hal, 1_790_000_000_000, "cli").decode()
    if name == "cem-relabelled":
        opened = envelope.peek(card("cem").encode())
        payload = opened.payload.replace(b'"label":"cem"', b'"label":"eve"')
        forged = json.loads(envelope.sign("card", payload, keyring("cem").sign))
        forged["signatures"] = json.loads(card("cem"))["signatures"]
        return json.dumps(forged, separators=(",", ":"))
    raise KeyError(name)


def recipient(name: str) -> str:
    match name:
        case "recipient":
            return str(age.Identity(b"\x40" * 32).recipient)
        case "other-recipient":
            return str(age.Identity(b"\x41" * 32).recipient)
        case _:
            return str(keyring(name.removesuffix("-recipient")).seal.recipient)


def vectors(key: str) -> list[Any]:
    def read(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return dict(line.split(": ", 1) for line in lines)

    found = [pytest.param(read(path), id=path.stem) for path in sorted(VECTORS.glob("*.txt"))]
    return [each for each in found if ("deal" in each.values[0]) == (key == "deal")]


def chain(vector: dict[str, str]) -> list[bytes]:
    """The envelopes of a vector: names put in, and each signed as it says."""
    count = sum(key.startswith("roster-") for key in vector)
    signers = vector.get("signed-by", "ana").split()
    signed: list[bytes] = []

    def fill(value: object) -> object:
        match value:
            case str() if value.startswith("@hash-"):
                return envelope.statement_hash(signed[int(value[6:]) - 1]).hex()
            case str() if value.startswith("@") and value.endswith("recipient"):
                return recipient(value[1:])
            case str() if value.startswith("@"):
                return card(value[1:])
            case dict():
                return {key: fill(each) for key, each in value.items()}
            case list():
                return [fill(each) for each in value]
        return value

    for number in range(1, count + 1):
        payload = json.dumps(fill(json.loads(vector[f"roster-{number}"])), separators=(",", ":")).encode()
        signer = keyring(signers[min(number, len(signers)) - 1])
        signed.append(envelope.sign("roster", payload, signer.sign))
    return signed


def hers() -> VerifyKey:
    return keyring("ana").sign.verify_key


@pytest.mark.parametrize("vector", vectors("roster"))
def test_a_chain_is_believed_only_as_the_vectors_say(vector: dict[str, str]) -> None:
    envelopes = chain(vector)
    if vector["expect"] == "ok":
        assert len(rosters.read_chain(envelopes, hers())) == len(envelopes)
        return
    with pytest.raises(EXPECTED[vector["expect"]]) as refused:
        rosters.read_chain(envelopes, hers())
    assert type(refused.value) is EXPECTED[vector["expect"]]


def test_more_vectors_fail_than_succeed() -> None:
    every = [each.values[0]["expect"] for key in ("roster", "deal") for each in vectors(key)]
    assert every.count("ok") * 4 < len(every)


def a_chain(name: str = "three-epochs") -> list[bytes]:
    return chain(next(each.values[0] for each in vectors("roster") if each.id == name))


def test_a_chain_of_another_dossier_is_refused_by_whoever_names_the_dossier() -> None:
    rosters.read_chain(a_chain(), hers(), "0f" * 16)
    with pytest.raises(Untrusted):
        rosters.read_chain(a_chain(), hers(), "1e" * 16)


def test_checking_gives_the_collaborators_cards_in_order_and_not_the_servers() -> None:
    first = rosters.read_chain(a_chain(), hers())[0]
    assert [each.card.label for each in rosters.check_roster(first)] == ["ben", "cem", "dora"]
    assert [each.card.label for each in rosters.custodians_of(first)] == ["server"]


def test_a_server_that_does_not_know_her_key_yet_finds_everything_but_her_own_card() -> None:
    refused = statements.read(a_chain("journalist-among-them")[0], hers(), Roster)
    rosters.check_roster(refused)
    with pytest.raises(Malformed):
        rosters.check_roster(refused, hers())


def test_whatever_field_is_fixed_at_creation_cannot_change() -> None:
    first, second, _ = rosters.read_chain(a_chain(), hers())
    prev = second.prev
    assert prev is not None
    rosters.follows(second, first, prev)
    changes: dict[str, object] = {
        "dossier": "00" * 16,
        "epoch": 3,
        "prev": "0" * 64,
        "recipient": recipient("other-recipient"),
        "t": 2,
        "custodians": (),
        "cooling": 5,
    }
    for name, value in changes.items():
        with pytest.raises(Untrusted) as refused:
            rosters.follows(msgspec.structs.replace(second, **{name: value}), first, prev)
        assert refused.value.code == "roster-forged"


def test_what_may_change_may_change() -> None:
    first, second, _ = rosters.read_chain(a_chain(), hers())
    other = msgspec.structs.replace(second, k=1, minimum=64, plan=statements.Dwells(9, 9, 9, 9))
    rosters.follows(other, first, second.prev or "")


@pytest.mark.parametrize("vector", vectors("deal"))
def test_a_deal_reads_only_as_it_was_written(vector: dict[str, str]) -> None:
    plaintext = vector["deal"].encode() + bytes(int(vector["zeros"]))
    if vector["expect"] == "ok":
        assert rosters.write_deal(rosters.read_deal(plaintext)) == plaintext
        return
    with pytest.raises(Malformed):
        rosters.read_deal(plaintext)


def test_a_deal_does_not_print_its_secret_and_cannot_be_pickled() -> None:
    import pickle

    deal = SealedDeal(b"\x0f" * 16, 7, b"\x5c" * 32)
    assert "5c" not in repr(deal)
    with pytest.raises(TypeError):
        pickle.dumps(deal)
