"""Letters over SMTP: what a real server sees, and what becomes of a letter when a server misbehaves."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default as modern
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.couriers import smtp as room
from vault.couriers.smtp import SmtpCourier, write_letter
from vault.errors import BadUsage
from vault.settings import Mail

SENDER = "box@newsroom.example"


def a_parcel(to: str = "ana@example.org", **changed: object) -> Parcel:
    given: dict[str, object] = {
        "message_id": "1@newsroom.example",
        "to": to,
        "sender": SENDER,
        "subject": "Über das Wetter — hoy",
        "body": "Mañana será otro día.\n.\n.. two dots\nFrom the start\n" + "x" * 2000 + "\n",
        "language": "es",
        "date": 1_700_000_000_999,
    }
    return Parcel(**{**given, **changed})  # type: ignore[arg-type]  # built from parts on purpose


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


# ---- a real server, with and without TLS ----


class Sink:
    """Takes every letter, and remembers how each client introduced itself."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []
        self.recipients: list[str] = []
        self.sessions: list[Session] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.original_content, bytes)
        self.letters.append(envelope.original_content)
        self.recipients += envelope.rcpt_tos
        self.sessions.append(session)
        return "250 OK"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-made certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail of the tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


LOGINS = {(b"ana", b"right"), ("añá@x".encode(), "pä:ss/w".encode())}


def only_ana(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) in LOGINS
    return AuthResult(success=good, handled=False)


@contextmanager
def a_server(
    certificate: tuple[Path, Path] | None = None, *, tls: str = "none"
) -> Iterator[tuple[Sink, int]]:
    sink, port = Sink(), a_free_port()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    wanted: dict[str, object] = (
        {"authenticator": only_ana, "auth_required": True} if tls == "starttls" else {}
    )
    if tls == "starttls":
        wanted |= {"tls_context": context, "require_starttls": True}
    server = Controller(
        sink, hostname="127.0.0.1", port=port, ssl_context=context if tls == "tls" else None, **wanted
    )
    server.start()
    try:
        yield sink, port
    finally:
        server.stop()


def carried(mail: Mail, *parcels: Parcel, authorities: Path | None = None) -> list[Outcome]:
    courier = SmtpCourier(mail, authorities=authorities, patience=10)
    try:
        return [courier.carry(parcel) for parcel in parcels or (a_parcel(),)]
    finally:
        courier.close()


def test_a_letter_arrives_as_it_was_written() -> None:
    with a_server() as (sink, port):
        assert carried(Mail("127.0.0.1", port, "none", None, None, SENDER)) == [Accepted()]
    letter = message_from_bytes(sink.letters[0], policy=modern)
    assert letter["Subject"] == "Über das Wetter — hoy"
    body = letter.get_body()
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == a_parcel().body
    assert sink.recipients == ["ana@example.org"]


def test_the_headers_are_these_and_no_others() -> None:
    letter = message_from_bytes(write_letter(a_parcel()), policy=modern)
    assert dict(letter.items()) == {
        "From": SENDER,
        "To": "ana@example.org",
        "Subject": "Über das Wetter — hoy",
        "Date": "Tue, 14 Nov 2023 22:13:20 +0000",
        "Message-ID": "<1@newsroom.example>",
        "Auto-Submitted": "auto-generated",
        "Content-Language": "es",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
        "MIME-Version": "1.0",
    }


def test_a_letter_is_short_lines_of_ascii() -> None:
    lines = write_letter(a_parcel()).split(b"\r\n")
    assert all(line.isascii() and len(line) <= 78 and b"\n" not in line for line in lines)


def test_a_message_id_may_bring_its_brackets() -> None:
    assert write_letter(a_parcel(message_id="<1@newsroom.example>")) == write_letter(a_parcel())


@pytest.mark.parametrize(
    ("sender", "name"), [(SENDER, "newsroom.example"), ("box", "localhost"), ("b@[::1]", "localhost")]
)
def test_the_greeting_does_not_name_this_computer(sender: str, name: str) -> None:
    with a_server() as (sink, port):
        carried(Mail("127.0.0.1", port, "none", None, None, sender))
    assert sink.sessions[0].host_name == name
    assert socket.gethostname().encode() not in sink.letters[0]


def test_several_letters_share_a_connection_until_it_has_had_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LETTERS_PER_CONNECTION", 2)
    with a_server() as (sink, port):
        outcomes = carried(Mail("127.0.0.1", port, "none", None, None, SENDER), *[a_parcel()] * 5)
    assert outcomes == [Accepted()] * 5
    peers = [session.peer for session in sink.sessions]
    assert peers[0] == peers[1] != peers[2] == peers[3] != peers[4]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_letter_goes_over_tls_with_a_certificate_that_is_trusted(
    tls: str, certificate: tuple[Path, Path]
) -> None:
    login = ("ana", "right") if tls == "starttls" else (None, None)
    with a_server(certificate, tls=tls) as (sink, port):
        mail = Mail("127.0.0.1", port, tls, *login, SENDER)
        assert carried(mail, a_parcel(), a_parcel(), authorities=certificate[0]) == [Accepted()] * 2
    assert sink.sessions[0].ssl is not None or tls == "tls"
    assert len(sink.letters) == 2


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_stops_the_letter(
    tls: str, certificate: tuple[Path, Path]
) -> None:
    with a_server(certificate, tls=tls) as (sink, port):
        [outcome] = carried(Mail("127.0.0.1", port, tls, "ana", "right", SENDER))
    assert outcome == TemporaryFailure("the certificate of the mail server cannot be verified")
    assert sink.letters == []


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_certificate_for_another_name_stops_the_letter(tls: str, certificate: tuple[Path, Path]) -> None:
    with a_server(certificate, tls=tls) as (sink, port):
        [outcome] = carried(Mail("localhost", port, tls, "ana", "right", SENDER), authorities=certificate[0])
    assert outcome == TemporaryFailure("the certificate of the mail server cannot be verified")
    assert sink.letters == []


def test_a_server_without_starttls_gets_no_letter_in_clear_instead() -> None:
    with a_server() as (sink, port):
        [outcome] = carried(Mail("127.0.0.1", port, "starttls", "ana", "right", SENDER))
    assert isinstance(outcome, TemporaryFailure)
    assert sink.letters == []


def test_a_wrong_password_is_the_operators_trouble_and_not_the_letters_end(
    certificate: tuple[Path, Path],
) -> None:
    with a_server(certificate, tls="starttls") as (_, port):
        wrong = carried(
            Mail("127.0.0.1", port, "starttls", "ana", "wrong", SENDER), authorities=certificate[0]
        )
        without = carried(Mail("127.0.0.1", port, "starttls", None, None, SENDER), authorities=certificate[0])
    assert wrong == [TemporaryFailure("the mail server refused the login (535)")]
    assert isinstance(without[0], TemporaryFailure)
    assert "530" in without[0].reason


def test_a_name_and_a_password_may_have_any_letters(certificate: tuple[Path, Path]) -> None:
    with a_server(certificate, tls="starttls") as (sink, port):
        for user, password in (("añá@x", "pä:ss/w"), ("añá@x", "otra")):
            mail = Mail("127.0.0.1", port, "starttls", user, password, SENDER)
            [outcome] = carried(mail, authorities=certificate[0])
            if password == "otra":
                assert outcome == TemporaryFailure("the mail server refused the login (535)")
            else:
                assert outcome == Accepted()
    assert len(sink.letters) == 1


def test_a_password_is_not_sent_in_clear_to_another_computer() -> None:
    with pytest.raises(BadUsage, match="TLS") as refused:
        SmtpCourier(Mail("mail.example", 25, "none", "ana", "right", SENDER))
    assert refused.value.code == "bad-setting"


def test_a_file_of_authorities_that_is_none_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    for path in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(BadUsage, match="AFTERWORD_SMTP_CA"):
            SmtpCourier(Mail("mail.example", 587, "starttls", None, None, SENDER), authorities=path)


def test_neither_the_courier_nor_the_settings_print_the_password() -> None:
    mail = Mail("mail.example", 587, "starttls", "ana", "tiptop", SENDER)
    assert "tiptop" not in repr(mail) + repr(SmtpCourier(mail))


@pytest.mark.parametrize(
    "changed",
    [
        {"to": "ana@example.org\r\nBcc: all@example.org"},
        {"to": "ana@example.org>\r\nRCPT TO:<b@example.org"},
        {"to": "ana@example.org> NOTIFY=SUCCESS <"},
        {"to": "añà@example.org"},
        {"subject": "hello\r\nBcc: all@example.org"},
        {"subject": "hello\nBcc: all@example.org"},
        {"message_id": "1@a>\r\nX: <y"},
        {"language": "es\r\nX: y"},
        {"sender": "box@newsroom.example\r\nX: y"},
        {"date": 10**20},
    ],
)
def test_a_letter_that_would_break_out_of_its_place_is_not_sent(changed: dict[str, object]) -> None:
    with a_server() as (sink, port):
        [outcome] = carried(
            Mail("127.0.0.1", port, "none", None, None, SENDER),
            a_parcel(**{"to": "ana@example.org", **changed}),
        )
    assert isinstance(outcome, PermanentFailure)
    assert sink.letters == []
    assert "example.org" not in outcome.reason


# ---- servers that misbehave ----

Script = Callable[[socket.socket, Callable[[], bytes]], None]


@contextmanager
def a_scripted_server(*scripts: Script) -> Iterator[int]:
    """One script for each connection, in order; a connection ends when its script does."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)

    def run() -> None:
        for script in scripts:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                connection.settimeout(10)
                try:
                    script(connection, lines.readline)
                except OSError:
                    continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.close()
        thread.join()


def says(greeting: bytes = b"220 hello", **answers: bytes) -> Script:
    """Answers each verb as told and everything else with 250; an empty answer hangs up."""

    def script(connection: socket.socket, next_line: Callable[[], bytes]) -> None:
        connection.sendall(greeting + b"\r\n")
        within = False
        while line := next_line():
            if within and line != b".\r\n":
                continue
            verb = "END" if within else line.split()[0].decode().split(":")[0].upper()
            within = False
            answer = answers.get(verb, b"354 go on" if verb == "DATA" else b"250 OK")
            if not answer:
                return
            connection.sendall(answer + b"\r\n")
            within = verb == "DATA" and answer.startswith(b"354")

    return script


def against(
    *scripts: Script, letters: int = 1, patience: float = 5, whole_patience: float = 30
) -> list[Outcome]:
    with a_scripted_server(*scripts) as port:
        courier = SmtpCourier(
            Mail("127.0.0.1", port, "none", None, None, SENDER),
            patience=patience,
            whole_patience=whole_patience,
        )
        outcomes = [courier.carry(a_parcel(message_id=f"{number}@x")) for number in range(letters)]
        courier.close()
        return outcomes


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        (
            says(RCPT=b"550 5.1.1 <ana@example.org> unknown"),
            PermanentFailure,
            "answered 550 5.1.1 to the recipient",
        ),
        (says(RCPT=b"553 no such ana@example.org"), PermanentFailure, "answered 553 to the recipient"),
        (
            says(RCPT=b"450 4.2.0 greylisted ana@example.org"),
            TemporaryFailure,
            "answered 450 4.2.0 to the recipient",
        ),
        (says(RCPT=b"530 5.7.0 log in first"), TemporaryFailure, "answered 530 5.7.0"),
        (says(DATA=b"554 5.7.1 spam from ana"), PermanentFailure, "answered 554 5.7.1 to the letter"),
        (says(DATA=b"451 later"), TemporaryFailure, "answered 451 to the letter"),
        (says(END=b"550 5.6.0 not this one"), PermanentFailure, "answered 550 5.6.0 to the letter"),
        (says(END=b"452 4.3.1 full"), TemporaryFailure, "answered 452 4.3.1 to the letter"),
        (says(MAIL=b"550 5.7.1 who are you"), TemporaryFailure, "answered 550 5.7.1 to our sender"),
        (says(MAIL=b"421 closing"), TemporaryFailure, "answered 421 to our sender"),
        (says(RCPT=b"421 4.3.2 closing"), TemporaryFailure, "answered 421 4.3.2"),
        (says(b"554 go away ana@example.org"), TemporaryFailure, "answered 554 when it was greeted"),
        (says(b"421 busy"), TemporaryFailure, "answered 421 when it was greeted"),
        (says(EHLO=b"550 no", HELO=b"550 no"), TemporaryFailure, "answered 550"),
        (says(EHLO=b"", HELO=b""), TemporaryFailure, "hung up"),
        (says(MAIL=b""), TemporaryFailure, "hung up"),
        (says(DATA=b""), TemporaryFailure, "hung up"),
        (says(END=b""), TemporaryFailure, "hung up"),
        (says(b"HTTP/1.1 400 Bad Request"), TemporaryFailure, "the mail server"),
        (says(b"\xff\xfe\x00"), TemporaryFailure, "the mail server"),
        (says(b"220 " + b"x" * 100_000), TemporaryFailure, "the mail server"),
        (says(END=b"what"), TemporaryFailure, "the mail server"),
    ],
)
def test_every_answer_is_accepted_temporary_or_permanent(
    script: Script, kind: type[TemporaryFailure | PermanentFailure], reason: str
) -> None:
    [outcome] = against(script)
    assert isinstance(outcome, kind)
    assert reason in outcome.reason
    assert "ana" not in outcome.reason


def test_a_server_that_dies_after_the_letter_is_asked_again_and_no_letter_is_lost() -> None:
    assert [type(outcome) for outcome in against(says(END=b""), says(), letters=2)] == [
        TemporaryFailure,
        Accepted,
    ]


def test_a_server_that_hung_up_in_the_pause_is_called_anew_for_the_next_letter() -> None:
    assert against(says(RSET=b""), says(), letters=2) == [Accepted(), Accepted()]
    assert against(says(RSET=b"421 timeout"), says(), letters=2) == [Accepted(), Accepted()]


def test_a_refused_recipient_does_not_cost_the_connection() -> None:
    [first, second] = against(says(RCPT=b"550 no"), letters=2)
    assert isinstance(first, PermanentFailure)
    assert isinstance(second, PermanentFailure)


def test_nobody_listening_is_temporary() -> None:
    [outcome] = carried(Mail("127.0.0.1", a_free_port(), "none", None, None, SENDER))
    assert outcome == TemporaryFailure("the mail server cannot be reached (ConnectionRefusedError)")


def test_a_name_that_does_not_resolve_is_temporary() -> None:
    [outcome] = carried(Mail("mail.invalid", 25, "none", None, None, SENDER))
    assert isinstance(outcome, TemporaryFailure)


def silent(connection: socket.socket, next_line: Callable[[], bytes]) -> None:
    while connection.recv(4096):
        pass


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    [outcome] = against(silent, patience=0.1)
    assert isinstance(outcome, TemporaryFailure)


def test_a_server_that_drips_its_answer_is_cut_off() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket, next_line: Callable[[], bytes]) -> None:
        while not stop.wait(0.02):
            connection.sendall(b"220-wait\r\n")

    try:
        [outcome] = against(drip, patience=5, whole_patience=0.3)
    finally:
        stop.set()
    assert isinstance(outcome, TemporaryFailure)


def test_a_server_that_is_silent_in_the_tls_handshake_is_not_waited_for_for_ever(
    certificate: tuple[Path, Path],
) -> None:
    with a_scripted_server(silent) as port:
        courier = SmtpCourier(
            Mail("127.0.0.1", port, "tls", None, None, SENDER), authorities=certificate[0], patience=0.2
        )
        outcome = courier.carry(a_parcel())
        courier.close()
    assert outcome == TemporaryFailure("the mail server took too long")


def dripping(first: bytes, then: bytes) -> Script:
    """Says `first` and lets `then` fall byte by byte, for as long as somebody listens."""

    def script(connection: socket.socket, next_line: Callable[[], bytes]) -> None:
        connection.sendall(first)
        pause = threading.Event()
        for number in range(400):
            if pause.wait(0.02):
                return
            connection.sendall(then[number % len(then) : number % len(then) + 1])

    return script


def test_a_tls_handshake_that_drips_is_cut_off(certificate: tuple[Path, Path]) -> None:
    """A record of sixteen thousand bytes, one by one: no single read ever takes too long."""
    with a_scripted_server(dripping(b"\x16\x03\x03\x3f\xff", b"\x02")) as port:
        courier = SmtpCourier(
            Mail("127.0.0.1", port, "tls", None, None, SENDER),
            authorities=certificate[0],
            patience=10,
            whole_patience=0.3,
        )
        outcome = courier.carry(a_parcel())
        courier.close()
    assert isinstance(outcome, TemporaryFailure)


def test_nobody_waits_for_a_farewell_that_drips() -> None:
    def script(connection: socket.socket, next_line: Callable[[], bytes]) -> None:
        says(QUIT=b"")(connection, next_line)
        dripping(b"", b"221-bye\r\n")(connection, next_line)

    assert against(script) == [Accepted()]


def test_after_the_dot_a_server_may_take_its_time() -> None:
    """Whoever hung up on it would send it the same letter again and again, and never hear that it was taken."""

    def thorough(connection: socket.socket, next_line: Callable[[], bytes]) -> None:
        connection.sendall(b"220 hello\r\n")
        while line := next_line():
            verb = line.split()[0].upper()
            if verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                while next_line() != b".\r\n":
                    pass
                threading.Event().wait(0.6)
            connection.sendall(b"250 well\r\n")

    assert against(thorough, patience=0.3) == [Accepted()]


@pytest.mark.parametrize("to", ["", "@", "@example.org", "ana@"])
def test_an_address_that_is_empty_is_not_handed_over(to: str) -> None:
    """Mail servers take the empty one: it is where their own complaints go."""
    with a_server() as (sink, port):
        [outcome] = carried(Mail("127.0.0.1", port, "none", None, None, SENDER), a_parcel(to=to))
    assert isinstance(outcome, PermanentFailure)
    assert sink.letters == []
