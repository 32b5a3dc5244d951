"""Letters over SMTP.

Rule of this room: what a stranger on the way could read says nothing about this computer or this program; a 5xx
about the recipient or the letter is permanent, anything about us, the line or the login is temporary.
"""

import re
import smtplib
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from vault.couriers import Accepted, Outcome, Parcel, PermanentFailure, TemporaryFailure
from vault.errors import BadUsage
from vault.settings import Mail

PATIENCE: Final = 20.0  # seconds, for the connection and for each answer but the last
WHOLE_PATIENCE: Final = 120.0  # seconds, for a letter in all, however slowly the answers drip
LETTERS_PER_CONNECTION: Final = 50
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Codes about who we are and not about the letter, wherever in the conversation they come.
_ABOUT_US: Final = frozenset({530, 534, 535, 538})
_ENHANCED: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


class SmtpCourier:
    """Hands letters to the mail server of the operator, several over one connection."""

    def __init__(
        self,
        mail: Mail,
        *,
        authorities: Path | None = None,
        patience: float = PATIENCE,
        whole_patience: float = WHOLE_PATIENCE,
    ) -> None:
        """`authorities`: a PEM file of the certificates to trust instead of the system's."""
        if mail.user is not None and mail.tls == "none" and mail.host not in _LOOPBACK:
            raise BadUsage(
                "AFTERWORD_SMTP has a login but no TLS; write smtp+starttls://… or smtps://….",
                code="bad-setting",
            )
        self._mail = mail
        self._patience = patience
        self._whole_patience = whole_patience
        try:
            self._context = ssl.create_default_context(cafile=authorities)
        except (OSError, ssl.SSLError):
            raise BadUsage(
                "AFTERWORD_SMTP_CA cannot be read as certificates in PEM.", code="bad-setting"
            ) from None
        self._line: _Line | None = None
        self._letters = 0
        self._over = threading.Event()

    def __repr__(self) -> str:
        return f"<SmtpCourier {self._mail.host}:{self._mail.port} {self._mail.tls}>"

    @property
    def longest(self) -> int:
        return int(self._whole_patience * 1000)

    def carry(self, parcel: Parcel) -> Outcome:
        try:
            envelope = (_ascii(parcel.sender), _ascii(parcel.to))
            letter = write_letter(parcel)
        except Exception:  # what the standard library raises for an address that is none is anybody's guess
            return PermanentFailure("the address or the letter cannot be written as mail")
        try:
            with self._deadline():
                return self._hand_over(self._connected(), envelope, letter)
        except (OSError, smtplib.SMTPException, ValueError) as wrong:
            # ValueError: smtplib reading an answer that is no SMTP.
            self.close()
            return TemporaryFailure(_about_the_line(wrong))

    def close(self) -> None:
        line, self._line, self._letters = self._line, None, 0
        if line is not None:
            with suppress(OSError, smtplib.SMTPException, ValueError):
                if line.sock is not None:
                    # Nobody waits for the farewell: a server that drips it would hold us for ever.
                    line.sock.settimeout(min(1.0, self._patience))
                    line.putcmd("quit")
            with suppress(OSError):
                line.close()
            line.let_go()

    def _hand_over(self, line: smtplib.SMTP, envelope: tuple[str, str], letter: bytes) -> Outcome:
        sender, to = envelope
        self._letters += 1
        # Command by command, since smtplib's sendmail() does not tell which of its answers was lost.
        code, said = line.mail(sender)
        if code != 250:
            self.close()
            return TemporaryFailure(_said("to our sender", code, said))
        code, said = line.rcpt(to)
        if code not in {250, 251}:
            return self._refusal("to the recipient", code, said)
        if line.sock is not None:
            # After the dot a server may look long at what it was given. Whoever hangs up before it has answered
            # gets the letter taken again and again, and never hears that it was.
            line.sock.settimeout(self._whole_patience)
        try:
            code, said = line.data(letter)
        except smtplib.SMTPDataError as refused:
            return self._refusal("to the letter", refused.smtp_code, refused.smtp_error)
        finally:
            if line.sock is not None:
                line.sock.settimeout(self._patience)
        if code != 250:
            return self._refusal("to the letter", code, said)
        if self._letters >= LETTERS_PER_CONNECTION:
            self.close()
        return Accepted()

    def _refusal(self, about: str, code: int, said: bytes | str) -> Outcome:
        if code == 421 or code in _ABOUT_US:
            self.close()
        if 500 <= code < 600 and code not in _ABOUT_US:
            return PermanentFailure(_said(about, code, said))
        return TemporaryFailure(_said(about, code, said))

    def _connected(self) -> smtplib.SMTP:
        if self._line is not None:
            # A server may have hung up on an idle line; as it is found out here, no letter is in doubt.
            with suppress(OSError, smtplib.SMTPException, ValueError):
                if self._line.rset()[0] == 250:
                    return self._line
            self.close()
        mail = self._mail
        name = _own_name(mail.sender)
        implicit = self._context if mail.tls == "tls" else None
        line = _Line(self._over, implicit, timeout=self._patience, local_hostname=name)
        # Ours from here on, so that the deadline and close() reach it.
        self._line = line
        # The name that a certificate is checked against; smtplib sets it only in its constructor.
        line._host = mail.host  # type: ignore[attr-defined]  # not in typeshed
        code, said = line.connect(mail.host, mail.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)
        line.ehlo_or_helo_if_needed()
        if mail.tls == "starttls":
            code, said = line.starttls(context=self._context)
            if code != 220:
                # Never in clear instead: whoever stands between could have asked for just that.
                raise smtplib.SMTPNotSupportedError
            line.ehlo()
        if mail.user is not None:
            _log_in(line, mail.user, mail.password or "")
        return line

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Cut the line when a letter takes too long in all: an answer that drips never meets a timeout."""
        self._over.clear()
        over = threading.Timer(self._whole_patience, self._cut)
        over.daemon = True
        over.start()
        try:
            yield
        finally:
            over.cancel()

    def _cut(self) -> None:
        self._over.set()
        line = self._line
        if line is not None:
            line.cut()


class _Line(smtplib.SMTP):
    """A connection that another thread can cut at any moment, in the middle of a TLS handshake too."""

    def __init__(
        self, over: threading.Event, implicit: ssl.SSLContext | None, *, timeout: float, local_hostname: str
    ) -> None:
        self._over = over
        self._implicit = implicit
        self._handle: socket.socket | None = None
        super().__init__(timeout=timeout, local_hostname=local_hostname)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        raw = socket.create_connection((host, port), timeout)
        try:
            # A TLS handshake takes the socket away from its object; its double stays.
            self._handle = raw.dup()
            if self._over.is_set():
                raise TimeoutError
            return raw if self._implicit is None else self._implicit.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise

    def cut(self) -> None:
        handle = self._handle
        if handle is not None:
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


def _log_in(line: smtplib.SMTP, user: str, password: str) -> None:
    if user.isascii() and password.isascii():
        line.login(user, password)
        return
    # smtplib writes ASCII only; RFC 4616 has UTF-8.
    plain = b64encode(b"\0".join((b"", user.encode(), password.encode()))).decode()
    code, said = line.docmd("AUTH", f"PLAIN {plain}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, said)


def write_letter(parcel: Parcel) -> bytes:
    """The mail as bytes: the least of headers, and nothing that names a program or a computer."""
    letter = EmailMessage(policy=SMTP_POLICY)
    letter["From"] = parcel.sender
    letter["To"] = parcel.to
    letter["Subject"] = parcel.subject
    letter["Date"] = format_datetime(datetime.fromtimestamp(parcel.date // 1000, UTC))
    letter["Message-ID"] = f"<{parcel.message_id.strip('<>')}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(parcel.body, charset="utf-8", cte="quoted-printable")
    letter["Content-Language"] = parcel.language
    return letter.as_bytes()


def _ascii(address: str) -> str:
    """The address for the envelope. Not every server takes others than ASCII, and none may take a line break."""
    if not address.isascii() or not address.isprintable() or any(sign in address for sign in ' <>"'):
        raise ValueError
    if not address or address.startswith("@") or address.endswith("@"):
        # An empty one would be taken: it is where mail servers send their own complaints.
        raise ValueError
    return address


def _own_name(sender: str) -> str:
    found = re.fullmatch(r"[^@]+@([A-Za-z0-9.-]+)", sender)
    return found[1] if found else "localhost"


def _said(about: str, code: int, said: bytes | str) -> str:
    """The numbers of an answer; its words may repeat the address."""
    found = _ENHANCED.match(said if isinstance(said, bytes) else said.encode("utf-8", "replace"))
    return f"the mail server answered {code}{' ' + found[0].decode() if found else ''} {about}"


def _about_the_line(wrong: Exception) -> str:
    match wrong:
        case smtplib.SMTPAuthenticationError():
            return f"the mail server refused the login ({wrong.smtp_code})"
        case smtplib.SMTPNotSupportedError():
            return "the mail server lacks what is needed: TLS, or a way to log in"
        case smtplib.SMTPResponseException():
            return f"the mail server answered {wrong.smtp_code} when it was greeted"
        case ssl.SSLCertVerificationError():
            return "the certificate of the mail server cannot be verified"
        case ssl.SSLError():
            return "the mail server does not speak TLS as expected"
        case TimeoutError():
            return "the mail server took too long"
        case socket.gaierror():
            return "the name of the mail server cannot be resolved"
        case smtplib.SMTPServerDisconnected():
            return "the mail server hung up or took too long"
        case smtplib.SMTPException():
            return "the mail server offers no way to log in that is known here"
        case OSError():
            return f"the mail server cannot be reached ({type(wrong).__name__})"
        case _:
            return "the mail server answered what is no SMTP"
