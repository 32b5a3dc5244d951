"""sharing.py against its own vectors, pyshamir and npm shamir-secret-sharing."""

import copy
import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import subprocess
from pathlib import Path

import pyshamir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import sharing
from vault.errors import Malformed, NotEnoughShares, Refused, Untrusted
from vault.sharing import (
    DealtShare,
    Share,
    check_commitment,
    check_one_polynomial,
    check_release_commitment,
    combine,
    commitment,
    read_share,
    release_commitment,
    split,
    write_share,
    xor,
)

ROOT = Path(__file__).parents[2]
INTEROP = ROOT / "tests" / "interop"
VECTORS = sorted((ROOT / "docs" / "spec" / "vectors" / "share").glob("*.txt"))

unhurried = settings(deadline=None)  # a busy machine is no fault of the code
SECRET = hashlib.sha256(b"a secret of thirty-two bytes").digest()
JOURNALIST = hashlib.sha256(b"journalist").digest()
DOSSIER = hashlib.sha256(b"dossier").digest()[:16]

secrets = st.binary(min_size=1, max_size=64)
titles = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def a_dealt_share(*, share: Share | None = None, epoch: int = 1, title: str = "Harbour ledger") -> DealtShare:
    return DealtShare(JOURNALIST, DOSSIER, epoch, share or Share(2, SECRET), title)


def foreign(share: Share) -> bytes:
    """The layout of HashiCorp's Vault and its descendants: the value, then the index."""
    return share.value + bytes([share.index])


def ours(part: bytes | bytearray) -> Share:
    return Share(part[-1], bytes(part[:-1]))


def node(jobs: list[dict[str, object]]) -> list[dict[str, object]]:
    """Node is needed, not optional: `make test` installs it, and a test that skips itself proves nothing."""
    ran = subprocess.run(
        ["node", "shamir.mjs"], cwd=INTEROP, input=json.dumps(jobs).encode(), capture_output=True, check=True
    )
    answers: list[dict[str, object]] = json.loads(ran.stdout)
    return answers


# --- our own vectors -------------------------------------------------------------------------------------


def a_vector(path: Path) -> dict[str, str]:
    vector = {}
    for line in path.read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        assert key not in vector
        vector[key] = value.strip()
    assert list(vector)[:2] == ["expect", "about"]
    return vector


def the_shares_in(text: str) -> list[Share]:
    pairs = (part.split(":") for part in text.split())
    return [Share(int(index), bytes.fromhex(value)) for index, value in pairs]


def use(vector: dict[str, str]) -> None:
    """Does with a vector what its keys ask for; an `ok` is compared with what it says it holds."""
    if "text" in vector:
        plaintext = vector["text"].encode() + bytes(int(vector["zeros"]))
        assert write_share(read_share(plaintext)) == plaintext
    elif "journalist" in vector:
        (share,) = the_shares_in(vector["share"])
        binding = {
            "journalist": bytes.fromhex(vector["journalist"]),
            "dossier": bytes.fromhex(vector["dossier"]),
            "epoch": int(vector["epoch"]),
        }
        if "commitment" in vector:
            check_commitment(share, bytes.fromhex(vector["commitment"]), **binding)
        else:
            expected = bytes.fromhex(vector["release-commitment"])
            check_release_commitment(share, expected, **binding)
    elif "threshold" in vector:
        shares = the_shares_in(vector["shares"])
        check_one_polynomial(shares, int(vector["threshold"]), bytes.fromhex(vector["at-zero"]))
    else:
        assert combine(the_shares_in(vector["shares"])).hex() == vector["secret"]


def test_more_vectors_fail_than_succeed() -> None:
    verdicts = [a_vector(path)["expect"] for path in VECTORS]
    assert len(verdicts) == 59
    assert verdicts.count("ok") * 3 < len(verdicts)
    assert set(verdicts) == {"ok", "malformed", "untrusted"}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_vector_ends_as_it_says(path: Path) -> None:
    vector = a_vector(path)
    match vector["expect"]:
        case "ok":
            use(vector)
        case "malformed":
            with pytest.raises(Malformed):
                use(vector)
        case "untrusted":
            with pytest.raises(Untrusted):
                use(vector)


# --- splitting and combining -----------------------------------------------------------------------------


@unhurried
@given(secrets, st.data())
def test_any_k_shares_in_any_order_give_the_secret(secret: bytes, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, count))
    shares = split(secret, threshold, count, os.urandom)
    assert [share.index for share in shares] == list(range(1, count + 1))
    chosen = data.draw(st.permutations(shares))[: data.draw(st.integers(threshold, count))]
    assert combine(chosen) == secret
    check_one_polynomial(shares, threshold, secret)


def test_fewer_than_k_shares_fit_every_secret_alike() -> None:
    # With k-1 shares fixed, each possible secret byte belongs to exactly one value of a further share.
    seen = split(b"\x2a", 3, 5, os.urandom)[:2]
    found = {combine([*seen, Share(3, bytes([value]))]) for value in range(256)}
    assert found == {bytes([value]) for value in range(256)}


def test_every_subset_below_the_threshold_misses_the_secret() -> None:
    shares = split(SECRET, 4, 6, os.urandom)
    for size in (1, 2, 3):
        for subset in itertools.combinations(shares, size):
            assert combine(subset) != SECRET


def test_with_a_threshold_of_one_every_share_is_the_secret() -> None:
    assert {share.value for share in split(SECRET, 1, 5, os.urandom)} == {SECRET}


def test_255_people_can_hold_shares_of_which_all_are_needed() -> None:
    shares = split(b"\x01\x02", 255, 255, os.urandom)
    assert combine(shares) == b"\x01\x02"
    check_one_polynomial(shares, 255, b"\x01\x02")


@pytest.mark.parametrize(
    ("threshold", "count", "code"),
    [
        (0, 3, "bad-threshold"),
        (-1, 3, "bad-threshold"),
        (4, 3, "bad-threshold"),
        (1, 0, "bad-threshold"),
        (2, 256, "too-many-shares"),
    ],
)
def test_a_threshold_that_cannot_be_kept_is_refused(threshold: int, count: int, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        split(SECRET, threshold, count, os.urandom)
    assert refusal.value.code == code


def test_nothing_is_split_without_a_secret_or_without_enough_randomness() -> None:
    with pytest.raises(Refused, match="empty"):
        split(b"", 2, 3, os.urandom)
    with pytest.raises(Refused) as refusal:
        split(SECRET, 3, 5, lambda size: os.urandom(size - 1))
    assert refusal.value.code == "no-randomness"


def test_shares_that_cannot_belong_together_are_not_combined() -> None:
    shares = split(SECRET, 2, 3, os.urandom)
    with pytest.raises(NotEnoughShares):
        combine([])
    with pytest.raises(Malformed, match="twice"):
        combine([shares[0], shares[0]])
    with pytest.raises(Malformed, match="lengths"):
        combine([shares[0], Share(2, b"x")])
    for index, value in ((0, b"x"), (256, b"x"), (1, b"")):
        with pytest.raises(Malformed):
            Share(index, value)


@unhurried
@given(st.integers(0, 4), st.integers(0, 31), st.integers(1, 255))
def test_one_altered_byte_in_any_share_is_noticed(position: int, at: int, change: int) -> None:
    shares = list(split(SECRET, 3, 5, os.urandom))
    value = bytearray(shares[position].value)
    value[at] ^= change
    shares[position] = Share(position + 1, bytes(value))
    with pytest.raises(Untrusted):
        check_one_polynomial(shares, 3, SECRET)


def test_one_polynomial_cannot_be_told_from_too_few_or_unfit_shares() -> None:
    shares = split(SECRET, 3, 5, os.urandom)
    with pytest.raises(NotEnoughShares):
        check_one_polynomial(shares[:2], 3, SECRET)
    with pytest.raises(Malformed):
        check_one_polynomial(shares, 3, SECRET[:-1])
    with pytest.raises(Malformed):
        check_one_polynomial(shares, 0, SECRET)
    with pytest.raises(Malformed):
        check_one_polynomial([*shares, shares[0]], 3, SECRET)
    check_one_polynomial(shares[:3], 3, SECRET)


def test_a_higher_degree_than_agreed_is_noticed_and_a_lower_one_is_not_a_fault() -> None:
    with pytest.raises(Untrusted):
        check_one_polynomial(split(SECRET, 4, 5, os.urandom), 3, SECRET)
    check_one_polynomial(split(SECRET, 2, 5, os.urandom), 3, SECRET)


@unhurried
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_splitting_is_linear_so_that_custodians_can_add_a_share_of_a_change(
    first: bytes, change: bytes
) -> None:
    old, added = split(first, 2, 3, os.urandom), split(change, 2, 3, os.urandom)
    summed = [Share(a.index, xor(a.value, b.value)) for a, b in zip(old, added, strict=True)]
    assert combine(summed[1:]) == xor(first, change)


def test_field_arithmetic_agrees_with_the_schoolbook_everywhere() -> None:
    def schoolbook(a: int, b: int) -> int:
        product = 0
        while b:
            product ^= a * (b & 1)
            a = a << 1 ^ (0x11B if a & 0x80 else 0)
            b >>= 1
        return product

    everything = bytes(range(256))
    for scalar in range(256):
        together = sharing._times(int.from_bytes(everything, "big"), scalar, 256).to_bytes(256, "big")
        assert together == bytes(schoolbook(value, scalar) for value in everything)
    for scalar in range(1, 256):
        assert schoolbook(scalar, sharing._inverse(scalar)) == 1


@unhurried
@given(st.binary(max_size=64))
def test_xor_takes_off_what_it_put_on(data: bytes) -> None:
    pad = os.urandom(len(data))
    assert xor(xor(data, pad), pad) == data
    with pytest.raises(Malformed):
        xor(data, data + b"\0")


# --- commitments -----------------------------------------------------------------------------------------


def test_a_commitment_is_laid_out_as_the_design_says() -> None:
    share = Share(7, SECRET)
    tail = JOURNALIST + DOSSIER + b"\0\0\1\2" + b"\x07" + SECRET
    assert (
        commitment(JOURNALIST, DOSSIER, 258, share) == hashlib.sha256(b"afterword/share/v1" + tail).digest()
    )
    assert (
        release_commitment(JOURNALIST, DOSSIER, 258, share)
        == hashlib.sha256(b"afterword/release-share/v1" + tail).digest()
    )


def test_a_share_is_good_for_its_own_journalist_dossier_epoch_and_index_only() -> None:
    share = Share(1, SECRET)
    for make, check in ((commitment, check_commitment), (release_commitment, check_release_commitment)):
        expected = make(JOURNALIST, DOSSIER, 1, share)
        check(share, expected, journalist=JOURNALIST, dossier=DOSSIER, epoch=1)
        for other in (
            (share, bytes(32), DOSSIER, 1),
            (share, JOURNALIST, bytes(16), 1),
            (share, JOURNALIST, DOSSIER, 2),
            (Share(2, SECRET), JOURNALIST, DOSSIER, 1),
            (Share(1, bytes(32)), JOURNALIST, DOSSIER, 1),
        ):
            with pytest.raises(Untrusted):
                check(other[0], expected, journalist=other[1], dossier=other[2], epoch=other[3])


@pytest.mark.parametrize(
    ("journalist", "dossier", "epoch", "value"),
    [
        (JOURNALIST[:-1], DOSSIER, 1, SECRET),
        (JOURNALIST, DOSSIER + b"\0", 1, SECRET),
        (JOURNALIST, DOSSIER, 0, SECRET),
        (JOURNALIST, DOSSIER, -1, SECRET),
        (JOURNALIST, DOSSIER, 2**32, SECRET),
        (JOURNALIST, DOSSIER, 1, SECRET[:-1]),
    ],
)
def test_fields_of_another_length_have_no_commitment(
    journalist: bytes, dossier: bytes, epoch: int, value: bytes
) -> None:
    with pytest.raises(Malformed):
        commitment(journalist, dossier, epoch, Share(1, value))
    with pytest.raises(Malformed):
        DealtShare(journalist, dossier, epoch, Share(1, value), "")


# --- a share as bytes ------------------------------------------------------------------------------------


@unhurried
@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 2**32 - 1),
    st.integers(1, 255),
    st.binary(min_size=32, max_size=32),
    titles,
)
def test_every_share_is_4096_bytes_and_reads_back(
    journalist: bytes, dossier: bytes, epoch: int, index: int, value: bytes, title: str
) -> None:
    dealt = DealtShare(journalist, dossier, epoch, Share(index, value), title)
    written = write_share(dealt)
    assert len(written) == 4096
    assert read_share(written) == dealt
    # Exactly the JSON that any ordinary encoder writes without blanks and without escaping letters.
    plain = {
        "journalist": journalist.hex(),
        "dossier": dossier.hex(),
        "epoch": epoch,
        "index": index,
        "share": value.hex(),
        "title": title,
    }
    assert written.rstrip(b"\0").decode() == json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def test_a_title_has_at_most_200_bytes_as_it_is_written() -> None:
    write_share(a_dealt_share(title="ñ" * 100))
    for title in ("ñ" * 101, "x" * 201, "\x01" * 34, '"' * 101):
        with pytest.raises(Refused) as refusal:
            write_share(a_dealt_share(title=title))
        assert refusal.value.code == "bad-title"
    with pytest.raises(Refused):
        write_share(a_dealt_share(title="\ud800"))


@unhurried
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_share_and_raise_nothing_else(noise: bytes) -> None:
    for plaintext in (noise, noise.ljust(4096, b"\0"), b'{"journalist":"' + noise + b'"}'):
        with pytest.raises(Malformed):
            read_share(plaintext)


@unhurried
@given(st.integers(0, 4095), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_makes_another_share_that_reads_back(at: int, bit: int) -> None:
    plaintext = bytearray(write_share(a_dealt_share()))
    plaintext[at] ^= 1 << bit
    try:
        dealt = read_share(bytes(plaintext))
    except Malformed:
        return
    assert dealt != a_dealt_share()
    assert write_share(dealt) == plaintext


# --- shares do not print ---------------------------------------------------------------------------------


def test_no_usual_way_of_looking_at_a_share_shows_its_value_or_title() -> None:
    share, dealt = Share(2, SECRET), a_dealt_share()
    for secret in (share, dealt):
        for text in (repr(secret), str(secret), f"{secret}", "%s" % secret, repr([secret])):  # noqa: UP031
            assert not any(told in text for told in (SECRET.hex(), repr(SECRET)[2:-1], "Harbour"))
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                way(secret)
        assert not hasattr(secret, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        share.index = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        dealt.title = "Another"
    assert repr(share) == "<Share 2>"


# --- pyshamir and npm shamir-secret-sharing --------------------------------------------------------------


@unhurried
@given(secrets, st.integers(2, 6), st.integers(0, 4))
def test_pyshamir_and_we_combine_each_others_shares(secret: bytes, threshold: int, spare: int) -> None:
    shares = split(secret, threshold, threshold + spare, os.urandom)
    assert pyshamir.combine([bytearray(foreign(share)) for share in shares[spare:]]) == secret
    parts = [ours(part) for part in pyshamir.split(secret, threshold + spare, threshold)]
    assert combine(parts[spare:]) == secret
    check_one_polynomial(parts, threshold, secret)


def test_npm_shamir_and_we_combine_each_others_shares() -> None:
    cases = [
        (os.urandom(size), k, n)
        for size in (1, 32, 33)
        for k, n in ((2, 2), (2, 3), (3, 5), (5, 9), (2, 255))
    ]
    jobs: list[dict[str, object]] = [
        {
            "do": "combine",
            "shares": [foreign(share).hex() for share in split(secret, k, n, os.urandom)[n - k :]],
        }
        for secret, k, n in cases
    ]
    jobs += [{"do": "split", "secret": secret.hex(), "count": n, "threshold": k} for secret, k, n in cases]
    answers = node(jobs)
    combined, dealt = answers[: len(cases)], answers[len(cases) :]
    assert combined == [{"secret": secret.hex()} for secret, _, _ in cases]
    for (secret, k, n), answer in zip(cases, dealt, strict=True):
        parts = [ours(bytes.fromhex(part)) for part in answer["shares"]]
        assert len(parts) == n
        assert combine(parts[n - k :]) == secret
        check_one_polynomial(parts, k, secret)
