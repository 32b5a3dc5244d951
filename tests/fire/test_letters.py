"""Letters must land, whatever the mail server does.

Every scene: a switch moves, the mail server is ill in one way for a while, then it gets well; the courier, the outbox
and the database are the real ones, and only time is turned by hand. The oracle looks at what the server saw.
"""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fire import tally
from tests.fire.mailserver import CLOSES, DRIPS, KEEPS, MIDDLE, SILENT, Fault, MailServer
from tests.test_vault import test_smtp
from tests.world import Dossier, Snapshot, World, an_armed_dossier
from vault import compose, outbox, rounds
from vault.clock import DAY, HOUR, MINUTE
from vault.couriers import Courier
from vault.couriers.smtp import SmtpCourier
from vault.letters import LetterKind
from vault.plans import Plan
from vault.settings import Mail
from vault.storage.records import Records
from vault.storage.records.letters import Letters
from vault.storage.records.rows import Letter
from vault.switch import Stage, dwell
from vault.turns import LINES, Turns

PLAN = Plan(24 * HOUR, 48 * HOUR, 48 * HOUR, 96 * HOUR)
HERS = ("ana@example.org", "ana@elsewhere.example")
READERS = ("c1@example.org", "c2@example.org", "c3@example.org")
SENDER = "box@server.example"
ONE = frozenset({"ana@example.org"})
QUICK, SLOW = 5.0, 0.15

certificate = test_smtp.certificate


class Stand:
    """A world at the end of `armed`, to be lived from there again and again."""

    def __init__(self, world: World, made: Dossier, armed: Snapshot, grace: Snapshot) -> None:
        self.world, self.made, self.armed, self.grace = world, made, armed, grace

    @contextmanager
    def scene(self, begins: Snapshot) -> Iterator["Scene"]:
        self.world.rewind(begins)
        server = MailServer(lambda: lived(self.world))
        with server.open():
            found = Scene(self.world, self.made, server)
            try:
                yield found
            finally:
                found.courier.close()


class Scene:
    def __init__(self, world: World, made: Dossier, server: MailServer) -> None:
        self.world, self.made, self.server = world, made, server
        self.before = {str(row["id"]) for row in world.database.all("SELECT id FROM outbox")}
        self.courier: Courier = self.a_courier(QUICK)
        world.courier = self.courier  # type: ignore[assignment]  # the real one in the place of the remembering one

    def a_courier(self, patience: float, tls: str = "none", **more: object) -> SmtpCourier:
        login = ("ana", "right") if tls != "none" else (None, None)
        mail = Mail("127.0.0.1", self.server.port, tls, *login, SENDER)
        return SmtpCourier(mail, patience=patience, whole_patience=2 * patience, **more)  # type: ignore[arg-type]

    def use(self, courier: Courier) -> None:
        self.courier.close()
        self.courier = courier
        self.world.courier = courier  # type: ignore[assignment]  # as above

    def enter(self, stage: Stage) -> None:
        """Up to the moment in which `stage` begins; its letters are posted and carried once."""
        due = self.switch().due
        service = self.world.records.service()
        assert due is not None
        assert service is not None
        self.world.skip(max(0, due - service.served))
        for _ in range(5):
            if self.switch().stage is stage:
                return
            self.world.clock.at += self.world.tick
            self.world.beat()
        raise AssertionError(f"never {stage}")

    def live(self, ms: int, rounds: int) -> None:
        """So long, in so many strides; the clock really runs for a moment in each."""
        for _ in range(rounds):
            self.world.skip(ms // rounds)
            self.world.clock.at += self.world.tick
            self.world.beat()

    def switch(self):  # type: ignore[no-untyped-def]  # a Switch
        return self.world.records.switch(self.made.id).switch

    def rows(self) -> list[Letter]:
        """Those posted since the scene began."""
        found = [
            self.world.records.letter(str(row["id"]))
            for row in self.world.database.all("SELECT id FROM outbox ORDER BY posted, id")
        ]
        return [each for each in found if each is not None and each.id not in self.before]

    def reaches(self, letter: Letter) -> str:
        if letter.address is None:
            return self.world.sender.operators[0]
        address = self.world.records.address(letter.address)
        assert address is not None
        return outbox.read_reach(self.world.custodian, address).address


def lived(world: World) -> int:
    service = world.records.service()
    assert service is not None
    return service.lived


def judge(scene: Scene) -> None:
    """What must hold once the server is well again and everybody has had time to try."""
    rows, server = scene.rows(), scene.server
    names = {f"{row.message_id}@server.example": row for row in rows}
    for copy in server.copies:
        assert copy.message in names, "a letter under a Message-ID that no row has"
        assert scene.reaches(names[copy.message]) == copy.to
    told = {copy.message for copy in server.accepted()}
    for name, row in names.items():
        if row.state == "accepted":
            assert name in told, f"{row.kind} is called accepted and was never taken"
        else:
            # Not due yet is a repeat; everything else that is true has been taken by now.
            repeat = row.kind == LetterKind.RELEASE and row.posted > lived(scene.world)
            assert row.state == "withdrawn" or repeat, f"{row.kind} is {row.state}: {row.reason}"
        if row.state == "withdrawn" and row.settled is not None:
            late = [copy for copy in server.copies if copy.message == name and copy.at > row.settled]
            assert len(late) == 0, f"{row.kind} was sent after it was withdrawn"
    tally.count("mail faults")


def judge_dwell(scene: Scene, entered: int) -> None:
    """The stage dwells from its letter's landing, or from the end of one dwell of trying."""
    switch = scene.switch()
    assert switch.entered == entered
    assert switch.due is not None
    lasts = dwell(switch)
    assert lasts is not None
    landed = [
        row.settled
        for row in scene.rows()
        if row.letter == switch.letter and row.state == "accepted" and row.settled is not None
    ]
    if switch.trying:
        assert not landed, "called landed, and the stage is still trying"
        return
    served_ahead = lived(scene.world) - scene.world.records.service().served  # type: ignore[union-attr]
    begins = min([each - served_ahead for each in landed] + [entered + lasts])
    begun = switch.due - lasts
    assert begun >= begins - 2 * scene.world.tick, "the dwell began before the letter landed"
    assert begun <= begins + MINUTE, "the dwell began later than it had to"


def a_stand(folder: Path) -> Stand:
    world = World(folder)
    made = an_armed_dossier(world, PLAN)
    made.hers.confirm(HERS[1])
    armed = world.snapshot()
    scene = Scene.__new__(Scene)
    scene.world, scene.made = world, made
    for stage in (Stage.REMINDED, Stage.WARNED, Stage.GRACE):
        scene.enter(stage)
        world.pass_time(MINUTE)
    return Stand(world, made, armed, world.snapshot())


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = a_stand(tmp_path_factory.mktemp("letters"))
    yield made
    made.world.close()


def answers(at: str, *lines: bytes, only: frozenset[str] = frozenset(), also: str = "") -> list[Fault]:
    return [Fault(at, line + b"\r\n", only, also) for line in lines]


FAULTS = [
    *answers("greeting", b"421 4.3.2 closing", b"554 5.7.1 go away", b"HTTP/1.1 400 Bad Request", b"\xff\xfe\x00\x80"),
    *answers("greeting", b"220 " + b"x" * 100_000),
    *answers("EHLO", b"421 busy", b"550 5.5.1 no", b"what", also="HELO"),
    *answers("MAIL", b"421 closing", b"451 4.3.0 later", b"452 4.3.1 full", b"550 5.7.1 who are you", b"\xc3\xa9\xff"),
    *answers("RCPT", b"421 4.3.2 closing", b"450 4.2.0 greylisted", b"451 later", b"452 too many"),
    *answers("RCPT", b"530 5.7.0 log in first", b"550 5.1.1 <ana@example.org> unknown", b"553 no", b"9999 ?"),
    *answers("RCPT", b"550 5.1.1 gone", b"450 4.2.2 full", only=ONE),
    *answers("DATA", b"421 no", b"451 no", b"503 no", b"554 5.7.1 no", b"250 what"),
    *answers("dot", b"421 no", b"450 no", b"451 no", b"452 4.3.1 no", b"550 5.6.0 no", b"552 no", b"554 no", b"ok"),
    *(Fault(at, CLOSES, also="HELO" if at == "EHLO" else "") for at in ("greeting", "EHLO", "MAIL", "RCPT", "DATA")),
    Fault("dot", CLOSES),
    Fault("dot", KEEPS),
    Fault("dot", KEEPS, ONE),
    Fault("letter", MIDDLE),
    *(Fault(at, b"25", also="HELO" if at == "EHLO" else "") for at in ("greeting", "EHLO", "MAIL", "RCPT", "dot")),
    Fault("dot", b"250-half of it\r\n250-an"),
    Fault("DATA", b"35"),
]  # fmt: skip
SLOW_FAULTS = [
    *answers("greeting", b"220-never\r\n220-ending"),
    *(Fault(at, how) for at in ("greeting", "RCPT") for how in (SILENT, DRIPS)),
    Fault("EHLO", SILENT, also="HELO"),
    Fault("DATA", SILENT),
    Fault("dot", SILENT, ONE),
    Fault("dot", DRIPS, ONE),
]


def ill_for_hours(scene: Scene, fault: Fault, rounds: int = 3) -> None:
    """A reminder is to be brought; the server is ill for five hours, then well."""
    scene.server.fault = fault
    scene.enter(Stage.REMINDED)
    entered = scene.switch().entered
    judge_dwell(scene, entered)
    scene.live(5 * HOUR, rounds)
    judge_dwell(scene, entered)
    assert scene.server.reached.is_set(), "the fault never happened"
    scene.server.fault = None
    scene.use(scene.a_courier(QUICK))
    scene.live(16 * HOUR, 2)
    judge_dwell(scene, entered)
    judge(scene)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_reminder_lands_once_the_server_is_well_whatever_it_said_before(stand: Stand, fault: Fault) -> None:
    with stand.scene(stand.armed) as scene:
        ill_for_hours(scene, fault)
        reached = {copy.to for copy in scene.server.accepted()}
        assert reached == set(HERS)


@pytest.mark.parametrize("fault", SLOW_FAULTS, ids=str)
def test_a_server_that_keeps_us_waiting_keeps_nothing_from_landing(stand: Stand, fault: Fault) -> None:
    with stand.scene(stand.armed) as scene:
        scene.use(scene.a_courier(SLOW))
        ill_for_hours(scene, fault, rounds=1)
        assert {copy.to for copy in scene.server.accepted()} == set(HERS)


@pytest.mark.parametrize(
    "line",
    [
        b"250-taken\r\n250-yes\r\n250 2.0.0 taken",
        b"250 \xc3\xa9\xff 2.0.0 angenommen",
        b"250 " + b"y" * 900,
        b"250",
    ],
    ids=["several lines", "eight bits", "long", "bare"],
)
def test_an_odd_yes_is_a_yes(stand: Stand, line: bytes) -> None:
    with stand.scene(stand.armed) as scene:
        scene.server.fault = Fault("dot", line + b"\r\n")
        scene.enter(Stage.REMINDED)
        scene.live(3 * HOUR, 2)
        assert len(scene.server.copies) == 2
        judge(scene)


def test_nobody_listens_for_hours(stand: Stand) -> None:
    stand.world.rewind(stand.armed)
    server = MailServer(lambda: lived(stand.world))
    with server.open():
        pass  # only to have a port on which nobody listens now
    scene = Scene(stand.world, stand.made, server)
    scene.enter(Stage.REMINDED)
    entered = scene.switch().entered
    scene.live(5 * HOUR, 4)
    assert {row.state for row in scene.rows()} == {"waiting"}
    with server.open():
        scene.live(3 * HOUR, 2)
        judge_dwell(scene, entered)
        judge(scene)
        scene.courier.close()


def test_a_letter_that_was_taken_and_not_said_so_comes_again_under_the_same_name(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        scene.server.fault = Fault("dot", KEEPS)
        scene.enter(Stage.REMINDED)
        assert len(scene.server.copies) == 2
        assert not scene.server.accepted()
        scene.server.fault = None
        scene.live(HOUR, 2)
        judge(scene)
        names = [copy.message for copy in scene.server.copies]
        assert len(names) == 4
        assert len(set(names)) == 2


def test_greylisting_for_an_hour_costs_an_hour_and_not_more_than_the_back_off(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        scene.server.fault = Fault("RCPT", b"450 4.2.0 greylisted, try again in an hour\r\n")
        scene.enter(Stage.REMINDED)
        scene.live(HOUR, 12)
        scene.server.fault = None
        scene.live(80 * MINUTE, 8)
        assert {copy.to for copy in scene.server.accepted()} == set(HERS)
        judge(scene)


@pytest.mark.parametrize(
    "tls", ["stripped", "broken", "hangs up", "AUTH 535", "AUTH 454", "AUTH 421", "no AUTH"]
)
def test_no_letter_goes_in_clear_or_is_lost_while_tls_or_the_login_fail(
    stand: Stand, certificate: tuple[Path, Path], tls: str
) -> None:
    with stand.scene(stand.armed) as scene:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server = scene.server
        server.offers = (b"STARTTLS", b"AUTH PLAIN LOGIN")
        server.context = context
        match tls:
            case "stripped":
                server.offers = (b"AUTH PLAIN LOGIN",)
            case "broken":
                server.context = None  # it says go, and goes on in clear
            case "hangs up":
                server.fault = Fault("STARTTLS", CLOSES)
            case "no AUTH":
                server.offers = (b"STARTTLS",)
            case _:
                server.fault = Fault("AUTH", tls.split()[1].encode() + b" no\r\n")
        scene.use(scene.a_courier(1.0, "starttls", authorities=certificate[0]))
        scene.enter(Stage.REMINDED)
        scene.live(2 * HOUR, 2)
        assert server.copies == []
        assert server.asked == []
        server.offers, server.fault, server.context = (b"STARTTLS", b"AUTH PLAIN LOGIN"), None, context
        scene.use(scene.a_courier(QUICK, "starttls", authorities=certificate[0]))
        scene.live(3 * HOUR, 2)
        assert {copy.to for copy in server.accepted()} == set(HERS)
        judge(scene)


ALARMS = [
    Fault("RCPT", b"550 5.1.1 gone\r\n", frozenset({READERS[0]})),
    Fault("RCPT", b"450 4.2.0 later\r\n", frozenset({READERS[1]})),
    Fault("dot", b"554 5.7.1 spam\r\n", frozenset({READERS[2]})),
    Fault("RCPT", CLOSES, frozenset({READERS[0]})),
    Fault("dot", CLOSES, frozenset({READERS[0]})),
    Fault("RCPT", SILENT, frozenset({READERS[0]})),
    Fault("dot", DRIPS, frozenset({READERS[1]})),
]


@pytest.mark.parametrize("fault", ALARMS, ids=str)
def test_one_bad_address_delays_no_other_beyond_one_attempt(stand: Stand, fault: Fault) -> None:
    with stand.scene(stand.armed) as scene:
        scene.enter(Stage.REMINDED)
        scene.server.fault = fault
        if fault.how in (SILENT, DRIPS):
            scene.use(scene.a_courier(SLOW))
        scene.enter(Stage.WARNED)
        posted = min(row.posted for row in scene.rows() if row.kind == LetterKind.REACH_HER)
        scene.world.pass_time(4 * scene.world.tick)
        others = (set(READERS) | set(HERS)) - fault.only
        in_time = {copy.to for copy in scene.server.accepted() if copy.at <= posted + 4 * scene.world.tick}
        assert others <= in_time
        scene.server.fault = None
        scene.use(scene.a_courier(QUICK))
        scene.live(16 * HOUR, 2)
        judge(scene)


RELEASES = [
    Fault("RCPT", b"550 5.1.1 no such person\r\n"),
    Fault("dot", b"554 5.7.1 never\r\n"),
    Fault("greeting", b"554 closed for ever\r\n"),
    Fault("dot", KEEPS),
    Fault("MAIL", b"451 later\r\n"),
]


def dead_for_ten_days(scene: Scene, fault: Fault) -> None:
    scene.server.fault = fault
    scene.enter(Stage.RELEASED)
    scene.live(10 * DAY, 8)
    waiting = {row.state for row in scene.rows() if row.kind == LetterKind.RELEASE}
    assert waiting == {"waiting"}
    scene.server.fault = None
    scene.live(16 * HOUR, 2)
    assert set(READERS) <= {copy.to for copy in scene.server.accepted()}
    judge(scene)


@pytest.mark.parametrize("fault", RELEASES, ids=str)
def test_a_release_is_told_when_the_server_comes_back_after_ten_days(stand: Stand, fault: Fault) -> None:
    with stand.scene(stand.grace) as scene:
        dead_for_ten_days(scene, fault)


def test_a_reminder_that_never_lands_is_waited_for_one_dwell_and_not_longer(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        scene.server.fault = Fault("RCPT", b"450 later\r\n", frozenset(HERS))
        scene.enter(Stage.REMINDED)
        entered = scene.switch().entered
        scene.live(PLAN.remind - HOUR, 4)
        assert scene.switch().trying
        scene.live(2 * HOUR, 2)
        assert not scene.switch().trying
        judge_dwell(scene, entered)
        # Half a day later it lands, and changes nothing.
        scene.server.fault = None
        scene.live(12 * HOUR, 3)
        judge_dwell(scene, entered)
        judge(scene)


def test_what_was_withdrawn_while_the_server_was_ill_is_not_sent_when_it_is_well(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        scene.server.fault = Fault("RCPT", b"450 later\r\n")
        scene.enter(Stage.REMINDED)
        scene.live(3 * HOUR, 2)
        scene.made.hers.check_in()
        before = len(scene.server.asked)
        scene.server.fault = None
        scene.live(8 * HOUR, 4)
        assert len(scene.server.asked) == before
        assert scene.server.copies == []
        judge(scene)


@pytest.mark.parametrize(
    "address", ["añà@example.org", "a b@example.org", "<x>@example.org", "x@example.org\r\nDATA", "", "@"]
)
def test_an_address_that_is_none_costs_nobody_else_a_letter(stand: Stand, address: str) -> None:
    """None of these gets past the door; should one stand in the rows after all, it is its owner's trouble alone."""
    with stand.scene(stand.armed) as scene:
        world = scene.world
        row = next(
            each
            for each in world.records.addresses_of(scene.made.hers.account.id)
            if outbox.read_reach(world.custodian, each).address == HERS[0]
        )
        reach = outbox.Reach(address, "en", "Reminder", "a phrase")
        with world.records.transaction():
            world.records.replace_address(row.id, outbox.write_reach(world.custodian, reach))
        scene.enter(Stage.REMINDED)
        scene.live(HOUR, 2)
        assert [copy.to for copy in scene.server.accepted()] == [HERS[1]]
        assert [row.state for row in scene.rows() if scene.reaches(row) == address] == ["waiting"]
        tally.count("mail faults")


# ---- several lines ----


def post(world: World, account: str, kind: LetterKind = LetterKind.TEST, many: int = 1) -> None:
    address = world.records.confirmed_addresses_of(account)[0]
    with world.records.transaction() as now:
        for _ in range(many):
            outbox.post_to(world.records, world.custodian, now, kind, address, outbox.Facts())


def lines_of(scene: Scene, patience: float) -> list[rounds.Line]:
    world = scene.world
    vault = compose.Vault(None, world.records, world.objects, world.custodian)  # type: ignore[arg-type]
    turns = Turns(world.records, int(2000 * patience))
    return [rounds.Line(vault, scene.a_courier(patience), world.sender, turns) for _ in range(LINES)]


def test_behind_ten_thousand_letters_to_a_tarpit_a_good_address_waits_for_one_attempt(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        world, made = scene.world, scene.made
        scene.server.fault = Fault("RCPT", SILENT, frozenset({READERS[0]}))
        post(world, made.readers[0].account.id, many=10_000)
        world.clock.at += world.tick
        post(world, made.readers[1].account.id)
        lines = lines_of(scene, 1.0)
        stop = threading.Event()

        def run(line: rounds.Line) -> None:
            while not stop.is_set() and line.deliver():
                pass
            line.close()

        threads = [threading.Thread(target=run, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        for _ in range(100):
            if any(to == READERS[1] for to, _ in scene.server.asked):
                break
            threads[0].join(0.1)
        before = [to for to, _ in list(scene.server.asked)]
        world.clock.at += HOUR  # every line has worked for longer than it may, and comes home
        stop.set()
        for thread in threads:
            thread.join()
        assert READERS[1] in before
        # Two lines may have been held; neither has come to its second letter.
        assert before.index(READERS[1]) <= LINES // 2
        assert {copy.to for copy in scene.server.accepted()} == {READERS[1]}
        tally.count("mail faults")


# ---- planted mistakes ----


def test_a_letter_marked_sent_before_sending_is_found_out(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = outbox._carry

    def marked(records: Records, courier: Courier, *rest: object) -> object:
        with records.transaction() as now:
            records.db.run(
                "UPDATE outbox SET state = 'accepted', settled = :now WHERE state = 'waiting' AND lease > :now",
                now=now.lived,
            )
        return real(records, courier, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "_carry", marked)
    with (
        stand.scene(stand.armed) as scene,
        pytest.raises(AssertionError, match="trying"),
    ):
        ill_for_hours(scene, Fault("dot", CLOSES))
    tally.killed("letter marked sent before sending", "test_a_letter_marked_sent_before_sending_is_found_out")


def test_a_message_id_that_changes_is_found_out(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SmtpCourier.carry
    count = iter(range(10**6))

    def renamed(courier: SmtpCourier, parcel):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return real(courier, replace(parcel, message_id=f"<{next(count)}@server.example>"))

    monkeypatch.setattr(SmtpCourier, "carry", renamed)
    with stand.scene(stand.armed) as scene, pytest.raises(AssertionError, match="Message-ID"):
        ill_for_hours(scene, Fault("dot", KEEPS))
    tally.killed("no stable message id", "test_a_message_id_that_changes_is_found_out")


def two_deliverers(scene: Scene) -> None:
    """Both look at the same moment; the server is well, so nothing is sent twice."""
    scene.world.delivering = False
    scene.enter(Stage.REMINDED)
    one = outbox.claim(scene.world.records, 100)
    other = outbox.claim(scene.world.records, 100)
    for letter in (*one, *other):
        scene.world.carry(letter)
    names = [copy.message for copy in scene.server.copies]
    assert len(names) == len(set(names)) == 2, "a letter was sent twice"


def test_two_deliverers_send_each_letter_once(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        two_deliverers(scene)
        judge(scene)


def test_a_lease_that_is_ignored_is_found_out(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    real = outbox.write_parcels
    monkeypatch.setattr(
        Letters,
        "due_letters",
        lambda self, lived, limit: self._all(
            Letter, "SELECT * FROM outbox WHERE state = 'waiting' AND next <= :l LIMIT 9", l=lived
        ),
    )
    monkeypatch.setattr(Letters, "claim_letter", lambda self, letter, until: 1)

    def whoever(records, custodian, sender, letter, chance):  # type: ignore[no-untyped-def]
        with records.reading() as now:
            return real(records, custodian, sender, letter, now)

    monkeypatch.setattr(outbox, "_parcels", whoever)
    with stand.scene(stand.armed) as scene, pytest.raises(AssertionError, match="sent twice"):
        two_deliverers(scene)
    tally.killed("lease ignored", "test_a_lease_that_is_ignored_is_found_out")


def test_a_release_that_a_no_ends_is_found_out(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Letters.retry_letter

    def dropped(self: Letters, letter: Letter, next: int, reason: str) -> int:
        if " 5" in reason:
            return self.settle_letter(letter.id, "failed", letter.posted, reason)
        return real(self, letter, next, reason)

    monkeypatch.setattr(Letters, "retry_letter", dropped)
    with stand.scene(stand.grace) as scene, pytest.raises(AssertionError):
        dead_for_ten_days(scene, RELEASES[0])
    tally.killed("permanent failure drops a release letter", "test_a_release_that_a_no_ends_is_found_out")


def one_recovers_at_once(scene: Scene) -> None:
    """All are refused for a moment, one for good: the others are back with their second attempt."""
    scene.enter(Stage.REMINDED)
    scene.server.fault = Fault("RCPT", b"450 later\r\n", frozenset(READERS[1:]))
    scene.enter(Stage.WARNED)
    scene.server.fault = Fault("RCPT", b"550 5.1.1 gone\r\n", frozenset({READERS[0]}))
    scene.world.pass_time(8 * scene.world.tick)
    assert set(READERS[1:]) <= {copy.to for copy in scene.server.accepted()}, (
        "somebody waits for another's trouble"
    )


def test_every_letter_waits_for_its_own_back_off(stand: Stand) -> None:
    with stand.scene(stand.armed) as scene:
        one_recovers_at_once(scene)
        scene.server.fault = None
        scene.live(16 * HOUR, 2)
        judge(scene)


def test_a_back_off_that_is_shared_is_found_out(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Letters.retry_letter

    def shared(self: Letters, letter: Letter, next: int, reason: str) -> int:
        done = real(self, letter, next, reason)
        self.db.run(
            "UPDATE outbox SET next = MAX(next, :next + 600000) WHERE dossier = :dossier AND state = 'waiting'",
            next=next,
            dossier=letter.dossier,
        )
        return done

    monkeypatch.setattr(Letters, "retry_letter", shared)
    with stand.scene(stand.armed) as scene, pytest.raises(AssertionError, match="another's trouble"):
        one_recovers_at_once(scene)
    tally.killed("back-off shared between rows", "test_a_back_off_that_is_shared_is_found_out")
