"""A collaborator's commands against a server that may lie: what is said, what is signed, and what never is."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest

from cli.home import Home
from test_cli.conftest import Ran
from test_cli.loopback import Loopback, a_person, a_problem
from vault import age, envelope, identity, sharing, statements, wire
from vault.clock import DAY, HOUR, SystemClock
from vault.identity import ContactCard, Keyring
from vault.sharing import DealtShare, Share
from vault.statements import CheckIn, Contribution, Covered, Leave, Proof, Release, Roster, SealedTo

PASSPHRASE = "seven wet umbrellas sing"
TITLE = "Lluvia en el puerto"
NOW = SystemClock().wall()
PLAN = statements.Dwells(36 * HOUR, 12 * HOUR, 24 * HOUR, 96 * HOUR)

Person = tuple[Keyring, ContactCard]


def blob_hash(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


@dataclass
class Entrusted:
    """One dossier as the server shows it; tests spoil it field by field."""

    journalist: Person
    people: list[Person]
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    title: str = TITLE
    k: int = 2
    stage: str = "armed"
    checked_in: int | None = NOW - HOUR
    released: wire.Released | None = None
    brief: bool = False
    trying: bool = False
    changes: tuple[wire.Change, ...] = ()
    projected: tuple[wire.Projected, ...] = ()
    rosters: list[bytes] = field(default_factory=list)
    shares: list[DealtShare] = field(default_factory=list)
    sealed: dict[str, bytes] = field(default_factory=dict)
    proofs: dict[int, bytes] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    collected: set[int] = field(default_factory=set)

    @property
    def epoch(self) -> int:
        return len(self.rosters)

    @property
    def roster(self) -> str:
        return envelope.statement_hash(self.rosters[-1]).hex()

    def deal(self, server: ContactCard, spoil: Callable[[list[DealtShare]], None] | None = None) -> None:
        """The next epoch, for the people there are now. `spoil` changes what is sealed, not what is committed to."""
        keyring, _ = self.journalist
        epoch, dossier = self.epoch + 1, bytes.fromhex(self.id)
        split = sharing.split(secrets.token_bytes(32), self.k, len(self.people), secrets.token_bytes)
        dealt = [DealtShare(keyring.sign.verify_key.raw, dossier, epoch, each, self.title) for each in split]
        commitments = [
            sharing.commitment(each.journalist, each.dossier, each.epoch, each.share) for each in dealt
        ]
        if spoil is not None:
            spoil(dealt)
        self.shares = dealt
        blobs = [
            age.seal(sharing.write_share(each), person.recipient, secrets.token_bytes)
            for each, (_, person) in zip(dealt, self.people, strict=True)
        ]
        self.sealed = {person.hash.hex(): blob for (_, person), blob in zip(self.people, blobs, strict=True)}
        first = statements.peek(self.rosters[0]) if self.rosters else None
        roster = Roster(
            dossier=self.id,
            epoch=epoch,
            prev=self.roster if self.rosters else None,
            recipient=first.recipient
            if isinstance(first, Roster)
            else str(age.Identity(secrets.token_bytes(32)).recipient),
            k=self.k,
            collaborators=tuple(
                statements.Collaborator(
                    index, person.envelope.decode(), True, commitment.hex(), blob_hash(blob)
                )
                for index, ((_, person), commitment, blob) in enumerate(
                    zip(self.people, commitments, blobs, strict=True), 1
                )
            ),
            t=1,
            custodians=(
                statements.Custodian(1, server.envelope.decode(), "0" * 64, "0" * 64 if epoch == 1 else None),
            ),
            deal="0" * 64,
            minimum=2,
            plan=PLAN,
            cooling=7 * DAY,
        )
        self.rosters.append(statements.write(roster, keyring.sign))

    def state(self) -> wire.DossierState:
        return wire.DossierState(
            dossier=self.id,
            role="collaborator",
            journalist=self.journalist[1].hash.hex(),
            title=None,
            stage=self.stage,
            since=NOW,
            trying=self.trying,
            projected=self.projected,
            plan=PLAN,
            cooling=7 * DAY,
            epoch=self.epoch,
            roster=self.roster,
            k=self.k,
            collaborators=tuple(
                wire.ProofState(
                    index,
                    person.hash.hex(),
                    None,
                    index in self.left,
                    index in self.collected,
                    index in self.given,
                )
                for index, (_, person) in enumerate(self.people, 1)
            ),
            bundles=1,
            head="a" * 64,
            pushed=NOW,
            last_checkin=self.checked_in,
            changes=self.changes,
            missing=(),
            brief=self.brief,
            released=NOW if self.released else None,
        )

    def release(self, server: Person, signer: Keyring | None = None, knew_epoch: int | None = None) -> None:
        keyring, card = self.journalist
        checkin = CheckIn(
            server[1].hash.hex(),
            5,
            "b" * 64,
            (Covered(self.id, knew_epoch or self.epoch, None),),
            1_790_000_000_000,
        )
        signed = statements.write(checkin, keyring.checkin)
        release = Release(
            server[1].hash.hex(), self.id, card.hash.hex(), self.epoch, self.roster, None, 0,
            envelope.statement_hash(signed).hex(), 1, NOW,
        )  # fmt: skip
        written = statements.write(release, (signer or server[0]).sign)
        self.released = wire.Released(written.decode(), signed.decode(), (), ())
        self.stage = "released"


class Newsroom(Loopback):
    """A server with people and dossiers; what a collaborator posts is kept and takes effect."""

    def __init__(self) -> None:
        super().__init__()
        self.dossiers: list[Entrusted] = []
        self.posted: list[tuple[bytes, tuple[bytes, ...]]] = []

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        handler = super()._handler()
        handler.disable_nagle_algorithm = (
            True  # it writes head and body apart, and would wait 40 ms in between
        )
        return handler

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> msgspec.Struct | None:
        if path == "/dossiers" and token in self.tokens:
            return wire.Dossiers(tuple(each.state() for each in self.dossiers), NOW)
        for each in self.dossiers:
            if path.startswith(f"/dossiers/{each.id}") and token in self.tokens:
                rest = path.removeprefix(f"/dossiers/{each.id}")
                said = self._about(each, rest)
                if said is not None:
                    return said
                if rest == "/statements":
                    return self._take(each, wire.read(body, wire.Submission)) or super().answer(
                        method, path, body, token
                    )
        return super().answer(method, path, body, token)

    def _about(self, each: Entrusted, rest: str) -> msgspec.Struct | None:
        me = next(iter(self.accounts.values())).hash.hex()
        match rest:
            case "":
                return each.state()
            case "/rosters":
                card = each.journalist[1].envelope.decode()
                return wire.Rosters(card, tuple(one.decode() for one in each.rosters), None)
            case "/share":
                if me not in each.sealed:
                    return a_problem(404, "not-found")
                return wire.SealedShare(each.epoch, each.roster, wire.write_blob(each.sealed[me]))
            case "/proofs":
                return wire.Proofs(tuple(one.decode() for one in each.proofs.values()))
            case "/release":
                return each.released or a_problem(409, "not-released")
        return None

    def _take(self, each: Entrusted, given: wire.Submission) -> msgspec.Struct | None:
        signed = given.statement.encode()
        said = statements.peek(signed)
        if said.seq <= self.seq:
            return None  # the loopback refuses it as stale
        self.posted.append((signed, tuple(wire.read_blob(one) for one in given.sealed)))
        match said:
            case Proof(index=index):
                each.proofs[index] = signed
            case Contribution(index=index):
                each.given.add(index)
            case Leave():
                each.left.add(1)
        return None


@pytest.fixture
def server() -> Iterator[Newsroom]:
    running = Newsroom()
    yield running
    running.close()


@dataclass
class Cast:
    server: Newsroom
    home: Path
    me: Person
    ana: Person
    chen: Person
    dora: Person

    def dossier(self, **more: object) -> Entrusted:
        """From Ana to Bruno (who is at the keyboard), Chen and Dora; two are needed."""
        made = Entrusted(self.ana, [self.me, self.chen, self.dora], **more)
        made.deal(self.server.card)
        self.server.dossiers.append(made)
        return made

    def signed(self, kind: type[statements.Statement]) -> list[statements.Statement]:
        """What left this computer, as whoever verifies it reads it."""
        return [
            statements.read(signed, self.me[1].verify_key, kind)
            for signed, _ in self.server.posted
            if isinstance(statements.peek(signed), kind)
        ]


@pytest.fixture
def cast(server: Newsroom, home_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cast:
    people = [a_person(label) for label in ("Bruno", "Ana Beltrán", "Chen Li", "Dora")]
    me, ana, chen, dora = people
    server.accounts[me[1].card.verify] = me[1]
    keyring = identity.write_keyring(me[0], PASSPHRASE, secrets.token_bytes, work_factor=4)
    with Home.create(home_path, url=server.url, server=server.card, card=me[1], keyring=keyring) as home:
        home.finish_joining(NOW)
        home.pin(ana[1], "Ana Beltrán", "journalist", compared=NOW)
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE)
    file.chmod(0o600)
    monkeypatch.setenv("AFTERWORD_PASSPHRASE_FILE", str(file))
    return Cast(server, home_path, me, ana, chen, dora)


def answered(ran: Ran) -> dict[str, object]:
    return json.loads(ran.out.splitlines()[0])


def code_of(ran: Ran) -> str:
    return ran.err.rstrip().rpartition("afterword: ")[2]


# Inbox


def test_an_empty_inbox_says_so(cast, run):
    ran = run("inbox")
    assert ran.code == 0
    assert "Nothing has been entrusted to you yet" in ran.out


def test_an_inbox_that_no_letter_reaches_says_so_first(cast, run, monkeypatch):
    assert run("inbox").out.startswith("NO CONFIRMED ADDRESS")
    address = wire.AddressState("1", "b@example.org", "en", "Hello", "blue door", True, None, None)
    account = msgspec.structs.replace(cast.server.account(cast.me[1]), addresses=(address,))
    cast.server.answers["GET", "/account"] = account
    assert "ADDRESS" not in run("inbox").out
    assert answered(run("inbox", "--json"))["confirmed"] == 1


def test_the_title_is_opened_here_from_the_sealed_share(cast, run):
    dossier = cast.dossier()
    ran = run("inbox")
    assert ran.code == 0
    assert f"{TITLE}, from Ana Beltrán" in ran.out
    assert "any 2 of 3 can open it" in ran.out
    assert "you, Chen Li, Dora" in ran.out
    assert f"afterword drill {dossier.id[:8]}" in ran.out


def test_the_title_rests_only_sealed(cast, run):
    cast.dossier(title="planted-title-word")
    assert run("inbox").code == 0
    with Home.open() as home:
        assert home.title(home.dossiers()[0], cast.me[0]) == "planted-title-word"
    for file in sorted(cast.home.iterdir()):
        assert b"planted-title-word" not in file.read_bytes()


def test_looking_again_seals_nothing_anew(cast, run):
    cast.dossier()
    run("inbox")
    with Home.open() as home:
        before = home.dossiers()[0].title_sealed
    run("inbox")
    with Home.open() as home:
        assert home.dossiers()[0].title_sealed == before


def test_looking_forgets_nothing_that_recovery_remembered(cast, run):
    dossier = cast.dossier()
    with Home.open() as home:
        home.remember_dossier(
            dossier.id, "collaborator", epoch=1, roster_hash="0" * 64, head_hash="c" * 64, bundles=7
        )
    run("inbox")
    with Home.open() as home:
        known = home.dossiers()[0]
        assert (known.head_hash, known.bundles) == ("c" * 64, 7)
        assert known.roster_hash == dossier.roster


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("new", "Nothing can be released"),
        ("armed", "All quiet: Ana Beltrán checks in, last on"),
        ("reminded", "There is often a harmless reason"),
        ("warned", "HAS NOT CHECKED IN"),
        ("grace", "LAST STAGE BEFORE THE RELEASE"),
        ("paused", "has paused it"),
        ("destroyed", "has given it up"),
        ("simmering", "update it"),
    ],
)
def test_each_stage_is_said_in_plain_words(cast, run, stage, words):
    cast.dossier(stage=stage)
    ran = run("inbox")
    assert ran.code == 0
    assert words in ran.out


def test_in_an_alarm_reaching_her_comes_before_everything_else(cast, run):
    dossier = cast.dossier(stage="warned", brief=True)
    lines = run("inbox").out.splitlines()
    first = next(at for at, line in enumerate(lines) if line.strip().startswith("do "))
    assert "Try to reach Ana Beltrán now, on a number you already have" in lines[first]
    assert f"afterword brief {dossier.id[:8]}" in lines[first + 1]
    assert "Publish nothing" in lines[first + 2]


def test_what_comes_without_a_check_in_is_dated(cast, run):
    cast.dossier(projected=(wire.Projected("warned", NOW + DAY), wire.Projected("released", NOW + 5 * DAY)))
    out = run("inbox").out
    assert "you are asked to look for them: 20" in out
    assert "released, not before: 20" in out


def test_a_slow_change_is_shown_and_asks_for_a_call(cast, run):
    cast.dossier(changes=(wire.Change("d" * 64, "destroy", NOW, NOW + 7 * DAY, False),))
    out = run("inbox").out
    assert "the destruction of this dossier" in out
    assert "ask whether the change above is their own wish" in out


def test_a_journalist_whom_letters_do_not_reach_is_to_be_called(cast, run):
    cast.dossier(stage="reminded", trying=True)
    assert "the server's letters do not reach them" in run("inbox").out


def test_a_proof_of_three_months_ago_is_to_be_renewed(cast, run):
    dossier = cast.dossier()
    for age_in_days, said in ((10, False), (91, True)):
        proof = Proof(
            cast.server.card.hash.hex(), dossier.id, 1, 1, dossier.roster, 1, NOW - age_in_days * DAY
        )
        dossier.proofs[1] = statements.write(proof, cast.me[0].sign)
        assert ("Prove your share again" in run("inbox").out) is said


def test_a_proof_that_we_never_signed_counts_for_nothing(cast, run):
    dossier = cast.dossier()
    proof = Proof(cast.server.card.hash.hex(), dossier.id, 1, 1, dossier.roster, 1, NOW)
    dossier.proofs[1] = statements.write(proof, cast.server.keyring.sign)
    assert "never proved" in run("inbox").out


def test_the_answer_as_json_has_everything_that_the_words_have(cast, run):
    dossier = cast.dossier(brief=True)
    (entry,) = answered(run("inbox", "--json"))["dossiers"]
    assert entry["dossier"] == dossier.id
    assert (entry["title"], entry["journalist"], entry["share"]) == (TITLE, "Ana Beltrán", "genuine")
    assert (entry["stage"], entry["brief"], entry["proved"], entry["wrong"]) == ("armed", True, None, None)
    assert entry["next"]


def test_a_title_cannot_pass_for_lines_of_ours(cast, run):
    cast.dossier(title="Rain\n  stage    RELEASED\x1b[31m")
    out = run("inbox").out
    assert "\n  stage    RELEASED" not in out
    assert "\x1b" not in out


def test_a_dossier_of_which_one_is_the_journalist_is_not_in_the_inbox(cast, run, monkeypatch):
    dossier = cast.dossier()
    mine = msgspec.structs.replace(dossier.state(), role="journalist")
    monkeypatch.setattr(dossier, "state", lambda: mine)
    assert answered(run("inbox", "--json"))["dossiers"] == []


# A server that lies


def test_a_dossier_of_an_unknown_journalist_is_refused_and_nothing_is_remembered(cast, run):
    stranger = a_person("Ana Beltrán")
    dossier = cast.dossier()
    dossier.journalist = stranger
    dossier.rosters.clear()
    dossier.deal(cast.server.card)
    ran = run("inbox")
    assert ran.code == 6
    assert "a journalist whose invite was never used here" in ran.out
    assert TITLE not in ran.out
    for command in (("drill", dossier.id[:8]), ("give", dossier.id[:8])):
        ran = run(*command, answers=["y"])
        assert (ran.code, code_of(ran)) == (6, "unknown-journalist")
    with Home.open() as home:
        assert home.dossiers() == []
    assert cast.server.posted == []


def test_a_colleague_s_card_does_not_make_them_a_journalist(cast, run):
    """The server brings colleagues' cards; were they enough, it could bring journalists of its own."""
    dossier = cast.dossier()
    dossier.journalist = cast.chen
    dossier.people = [cast.me, cast.dora]
    dossier.rosters.clear()
    dossier.deal(cast.server.card)
    with Home.open() as home:
        home.pin(cast.chen[1], "Chen Li", "collaborator")
    assert code_of(run("drill", dossier.id[:8])) == "unknown-journalist"


def test_rosters_signed_by_another_under_her_card_are_refused(cast, run):
    """Her genuine card, shown beside rosters that somebody else made."""
    dossier = cast.dossier()
    dossier.rosters.clear()
    dossier.journalist = (a_person("Mallory")[0], cast.ana[1])
    dossier.deal(cast.server.card)
    ran = run("drill", dossier.id[:8])
    assert (ran.code, code_of(ran)) == (6, "roster-forged")
    assert cast.server.posted == []


def test_a_roster_that_goes_back_or_aside_is_refused(cast, run):
    dossier = cast.dossier()
    dossier.deal(cast.server.card)
    assert run("inbox").code == 0
    first, second, sealed = dossier.rosters[0], dossier.rosters[1], dossier.sealed
    del dossier.rosters[1]
    assert code_of(run("drill", dossier.id[:8])) == "roster-rolled-back"
    dossier.deal(cast.server.card)
    assert code_of(run("drill", dossier.id[:8])) == "roster-forked"
    dossier.rosters, dossier.sealed = [first, second], sealed
    assert run("drill", dossier.id[:8]).code == 0


def test_one_bad_dossier_does_not_hide_the_others(cast, run):
    bad, good = cast.dossier(title="Bad"), cast.dossier(title="Good")
    bad.sealed[cast.me[1].hash.hex()] = b"nothing"
    ran = run("inbox")
    assert ran.code == 6
    assert "YOUR SHARE IS WRONG" in ran.out
    assert "Good, from Ana Beltrán" in ran.out
    ran = run("drill")
    assert ran.code == 6
    assert [proof.dossier for proof in cast.signed(Proof)] == [good.id]


def test_a_known_title_names_a_dossier_even_when_its_share_went_bad(cast, run):
    dossier = cast.dossier()
    run("inbox")
    dossier.sealed[cast.me[1].hash.hex()] = b"nothing"
    assert f"{TITLE}, from Ana Beltrán" in run("inbox").out
    assert code_of(run("drill", TITLE)) == "share-forged"


# Drill


def test_a_drill_proves_the_share_and_says_so(cast, run):
    dossier = cast.dossier()
    ran = run("drill", TITLE)
    assert ran.code == 0
    assert f"{TITLE}: your share is genuine. It is number 1 of 3, dealt by Ana Beltrán" in ran.out
    (proof,) = cast.signed(Proof)
    assert (proof.server, proof.dossier) == (cast.server.card.hash.hex(), dossier.id)
    assert (proof.epoch, proof.roster, proof.index) == (1, dossier.roster, 1)
    assert abs(proof.created - NOW) < HOUR
    assert "proved" in run("inbox").out


def test_a_drill_without_a_name_proves_every_share(cast, run):
    cast.dossier(title="One"), cast.dossier(title="Two"), cast.dossier(title="Three", stage="destroyed")
    ran = run("drill", "--json")
    assert ran.code == 0
    drills = answered(ran)["drills"]
    assert [each["proved"] is not None for each in drills] == [True, True, False]
    assert len(cast.signed(Proof)) == 2


def test_a_drill_with_nothing_to_prove_is_no_error(cast, run):
    ran = run("drill")
    assert ran.code == 0
    assert "nothing to prove" in ran.out


def test_a_drill_can_be_renewed_and_each_proof_has_a_higher_number(cast, run):
    cast.dossier()
    run("drill")
    run("drill")
    first, second = cast.signed(Proof)
    assert second.seq > first.seq


def test_after_a_roster_change_the_new_share_is_proved(cast, run):
    dossier = cast.dossier()
    run("drill")
    dossier.people = [cast.dora, cast.me]
    dossier.deal(cast.server.card)
    assert "never proved" in run("inbox").out
    assert run("drill").code == 0
    last = cast.signed(Proof)[-1]
    assert (last.epoch, last.roster, last.index) == (2, dossier.roster, 2)


def test_a_name_is_asked_for_in_title_or_id_and_unknown_ones_list_what_there_is(cast, run):
    dossier = cast.dossier()
    assert run("drill", TITLE.upper()).code == 0
    assert run("drill", dossier.id[:6]).code == 0
    ran = run("drill", "Sequía")
    assert (ran.code, code_of(ran)) == (4, "no-such-dossier")
    assert TITLE in ran.err


def test_two_dossiers_of_one_title_are_told_apart_by_id(cast, run):
    first, second = cast.dossier(), cast.dossier()
    ran = run("drill", TITLE)
    assert (ran.code, code_of(ran)) == (2, "ambiguous")
    assert first.id[:8] in ran.err
    assert second.id[:8] in ran.err


def foreign_journalist(shares: list[DealtShare]) -> None:
    shares[0] = replace(shares[0], journalist=a_person("Eve")[1].verify_key.raw)


def foreign_dossier(shares: list[DealtShare]) -> None:
    shares[0] = replace(shares[0], dossier=secrets.token_bytes(16))


def another_epoch(shares: list[DealtShare]) -> None:
    shares[0] = replace(shares[0], epoch=9)


def another_index(shares: list[DealtShare]) -> None:
    shares[0] = shares[1]


def another_value(shares: list[DealtShare]) -> None:
    shares[0] = replace(shares[0], share=Share(1, secrets.token_bytes(32)))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (foreign_journalist, "dealt by another journalist"),
        (foreign_dossier, "belongs to another dossier"),
        (another_epoch, "it belongs to the roster of epoch 9"),
        (another_index, "it is number 2"),
        (another_value, "not the one that the roster commits to"),
    ],
)
def test_a_wrong_share_is_named_loudly_and_never_proved(cast, run, spoil, why):
    """The journalist's own computer sealed something else than it committed to."""
    dossier = cast.dossier()
    dossier.rosters.clear()
    dossier.deal(cast.server.card, spoil)
    ran = run("drill", dossier.id[:8])
    assert (ran.code, code_of(ran)) == (6, "share-forged")
    assert "YOUR SHARE IS WRONG" in ran.err
    assert why in ran.err
    assert "Tell Ana Beltrán by voice" in ran.err
    assert cast.server.posted == []


def test_a_share_swapped_by_the_server_is_named_and_never_proved(cast, run):
    dossier = cast.dossier()
    mine = cast.me[1].hash.hex()
    written = sharing.write_share(dossier.shares[0])
    for swapped in (
        age.seal(
            written, cast.me[1].recipient, secrets.token_bytes
        ),  # the right share, sealed by somebody else
        dossier.sealed[cast.chen[1].hash.hex()],
        b"",
    ):
        dossier.sealed[mine] = swapped
        assert code_of(run("drill", dossier.id[:8])) == "share-forged"
    assert cast.server.posted == []


def test_a_share_sealed_to_another_key_is_named(cast, run):
    dossier = cast.dossier()
    dossier.rosters.clear()
    right, dossier.people[0] = dossier.people[0], (cast.me[0], replace(cast.me[1], card=cast.chen[1].card))
    dossier.deal(cast.server.card)
    dossier.people[0] = right
    ran = run("drill", dossier.id[:8])
    assert code_of(ran) == "share-forged"
    assert "sealed to another key than yours" in ran.err


def test_whoever_was_taken_off_the_roster_is_told_and_nothing_is_wrong(cast, run):
    dossier = cast.dossier()
    dossier.people = [cast.chen, cast.dora]
    dossier.deal(cast.server.card)
    ran = run("inbox")
    assert ran.code == 0
    assert "has taken you off this dossier's roster" in ran.out
    assert run("drill").code == 0
    assert code_of(run("drill", dossier.id[:8])) == "not-on-the-roster"
    assert cast.server.posted == []


def test_a_released_or_destroyed_or_left_dossier_is_not_drilled(cast, run):
    released, destroyed, left = (cast.dossier(title=title) for title in ("R", "D", "L"))
    released.release((cast.server.keyring, cast.server.card))
    destroyed.stage = "destroyed"
    left.left.add(1)
    run("inbox")
    assert [code_of(run("drill", each.id[:8])) for each in (released, destroyed, left)] == [
        "released",
        "destroyed",
        "left",
    ]
    assert run("drill").code == 0
    assert cast.server.posted == []


# Give


@pytest.fixture
def released(cast: Cast) -> Entrusted:
    dossier = cast.dossier()
    dossier.release((cast.server.keyring, cast.server.card))
    return dossier


def test_a_released_dossier_shows_the_last_sign_of_life_and_both_ways_to_go_on(cast, run, released):
    released.brief = True
    out = run("inbox").out
    assert "RELEASED. The server's signature on this holds" in out
    assert "last signed check-in 2026-09-21" in out
    name = released.id[:8]
    for command in ("afterword brief", "afterword recover", "afterword give"):
        assert f"{command} {name}" in out
    assert "Call Chen Li, Dora, on numbers you already have: 1 of them must run" in out
    released.given.add(2)
    assert "yours is the last one needed" in run("inbox").out
    released.given |= {1, 3}
    assert "needed" not in run("inbox").out.partition("  do ")[2]


def test_a_share_is_given_only_after_the_release_was_shown_and_asked_about(cast, run, released):
    ran = run("give", TITLE, answers=["n"])
    assert (ran.code, code_of(ran)) == (3, "not-confirmed")
    assert cast.server.posted == []
    assert "The last sign of life: Ana Beltrán's last signed check-in is of 2026-09-21" in ran.err
    assert "cannot be taken back" in ran.err

    ran = run("give", TITLE, answers=["y"])
    assert ran.code == 0
    assert "1 of the 2 shares needed are there. Not yet given: Chen Li, Dora" in ran.out
    (contribution,) = cast.signed(Contribution)
    assert (contribution.roster, contribution.index) == (released.roster, 1)
    ((_, blobs),) = cast.server.posted
    others = (cast.chen, cast.dora)
    assert contribution.readers == tuple(
        SealedTo(card.hash.hex(), blob_hash(blob)) for (_, card), blob in zip(others, blobs, strict=True)
    )
    for (keyring, _), blob in zip(others, blobs, strict=True):
        opened = sharing.read_share(age.open_sealed(blob, keyring.seal))
        assert opened.share.value == released.shares[0].share.value


def test_giving_twice_sends_once(cast, run, released):
    run("give", TITLE, answers=["y"])
    ran = run("give", TITLE, "--json")
    assert ran.code == 0
    assert "given your share already" in ran.err
    assert len(cast.server.posted) == 1
    assert answered(ran)["given"] == 1


def test_when_enough_have_given_the_way_to_the_archive_is_named(cast, run, released):
    released.given |= {2}
    assert f"afterword recover {released.id[:8]} --to DIR" in run("give", TITLE, answers=["y"]).out


def test_giving_can_be_agreed_to_beforehand(cast, run, released):
    assert run("give", TITLE, "--yes").code == 0
    assert len(cast.signed(Contribution)) == 1


def test_leaving_after_a_release_is_told_that_the_share_may_be_needed(cast, run, released):
    ran = run("leave", TITLE, answers=["n"])
    assert "give it first" in ran.err
    assert cast.server.posted == []


def test_giving_asks_for_a_name_that_was_not_given(cast, run, released):
    assert run("give", answers=[TITLE, "y"]).code == 0
    assert len(cast.signed(Contribution)) == 1


def test_nothing_is_given_before_a_release(cast, run):
    cast.dossier(stage="grace")
    ran = run("give", TITLE, answers=["y"])
    assert (ran.code, code_of(ran)) == (3, "not-released")
    assert "Try to reach Ana Beltrán first" in ran.err
    assert cast.server.posted == []


def test_a_release_that_the_server_did_not_sign_is_refused_everywhere(cast, run):
    dossier = cast.dossier()
    dossier.release((cast.server.keyring, cast.server.card), signer=a_person("Mallory")[0])
    ran = run("inbox")
    assert ran.code == 6
    assert "could not be verified" in ran.out
    assert code_of(run("give", dossier.id[:8], answers=["y"])) == "release-forged"
    assert cast.server.posted == []


def test_a_release_of_a_roster_older_than_her_last_check_in_is_refused(cast, run):
    dossier = cast.dossier()
    dossier.release((cast.server.keyring, cast.server.card), knew_epoch=2)
    assert code_of(run("give", dossier.id[:8], answers=["y"])) == "roster-rolled-back"
    assert cast.server.posted == []


def test_a_stage_of_released_without_a_release_is_not_believed(cast, run):
    cast.dossier(stage="released")
    ran = run("inbox")
    assert ran.code == 6
    assert "could not be verified" in ran.out


def test_who_has_collected_is_told_to_speak_with_the_others(cast, run, released):
    released.collected.add(1)
    assert "You have collected the archive" in run("inbox").out


# Leave


def test_leaving_is_asked_about_and_then_signed(cast, run):
    dossier = cast.dossier()
    ran = run("leave", TITLE, answers=[""])
    assert (ran.code, code_of(ran)) == (3, "not-confirmed")
    assert cast.server.posted == []
    ran = run("leave", TITLE, answers=["yes"])
    assert ran.code == 0
    assert "You cannot undo it" in ran.err
    (left,) = cast.signed(Leave)
    assert left.dossier == dossier.id
    assert code_of(run("leave", TITLE, answers=["y"])) == "left"
    assert "You have left" in run("inbox").out


def test_one_may_leave_a_dossier_that_cannot_be_trusted(cast, run):
    dossier = cast.dossier()
    dossier.journalist = a_person("Ana Beltrán")
    dossier.rosters.clear()
    dossier.deal(cast.server.card)
    ran = run("leave", dossier.id[:8], answers=["y"])
    assert ran.code == 0
    assert "never used here" in ran.err
    assert len(cast.signed(Leave)) == 1


def test_nothing_is_left_of_a_destroyed_dossier_to_leave(cast, run):
    dossier = cast.dossier(stage="destroyed")
    assert code_of(run("leave", dossier.id[:8], answers=["y"])) == "destroyed"


# Around them


def test_without_a_home_each_command_says_how_to_join(run):
    for command in (("inbox",), ("drill",), ("give", "x"), ("leave", "x")):
        ran = run(*command)
        assert (ran.code, code_of(ran)) == (3, "no-home")
