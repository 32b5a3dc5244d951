"""What colleagues should know from day one: `afterword brief`.

Rule of this room: sealed once for each reader, herself included; what is read is believed only when the journalist
signed it for this dossier and sealed it to the reader.
"""

import hashlib
import os
from pathlib import Path

import click
import msgspec

from cli import orders, terminal
from cli.chain import fetch_rosters
from cli.home import KnownDossier
from cli.session import Session, journalist_of, signed_in
from vault import age, briefs, statements, wire
from vault.errors import BadUsage, Conflict, NotFound, Refused, Untrusted
from vault.identity import ContactCard
from vault.statements import Brief, SealedTo


class Read(msgspec.Struct, frozen=True):
    """What `brief NAME` answers."""

    dossier: str
    title: str
    created: int
    text: str


class Written(msgspec.Struct, frozen=True):
    """What `brief NAME FILE` answers."""

    dossier: str
    title: str
    readers: int


@click.command()
@click.argument("name", required=False)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@terminal.passphrase_option
@terminal.json_option
def brief(name: str | None, file: Path | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Read the brief of NAME; with FILE (plain text, at most 64 KiB), write it.

    Whom to call, the lawyer, what not to publish while she may live: your colleagues can read it from today.
    After a change of the roster it is sealed anew to those who are on it then. With - for NAME you are asked, and the
    shell's history does not learn it.
    """
    if file is None:
        title = orders.asked_name(name)
        with signed_in(passphrase_file) as session:
            found = read(session, orders.find(session, title))
        terminal.answer(found, as_json, lambda one: one.text.rstrip("\n"))
        return
    text = briefs.write_brief(_read_file(file))
    with orders.own_dossier(name, passphrase_file) as (session, known):
        written = write(session, known, text)
    colleagues = terminal.count(written.readers - 1, "colleague")
    terminal.answer(
        written, as_json, lambda one: f"{one.title}: the brief is there for {colleagues} and you."
    )


def read(session: Session, known: KnownDossier) -> Read:
    """The copy that is sealed to us, whichever of its people we are."""
    said = session.remote.call("GET", f"/dossiers/{known.id}/brief", None, wire.SealedBrief)
    author = journalist_of(session.home, orders.state_of(session, known.id))
    signed = statements.read(said.statement.encode(), author.verify_key, Brief)
    sealed = wire.read_blob(said.sealed)
    mine = session.home.card.hash.hex()
    meant = [each.sealed for each in signed.readers if each.card == mine]
    if signed.dossier != known.id or meant != [hashlib.sha256(sealed).hexdigest()]:
        raise Untrusted(
            "The server shows a brief that was written for another dossier or another reader; tell the journalist.",
            code="wrong-brief",
        )
    text = briefs.read_brief(age.open_sealed(sealed, session.keyring.seal))
    return Read(known.id, orders.title_of(session, known), signed.created, text)


def seal_anew(session: Session, known: KnownDossier) -> int | None:
    """After the roster has changed: the same brief for the new readers, how many; None where there is none."""
    try:
        text = read(session, known).text
    except NotFound:
        return None
    return write(session, known, briefs.write_brief(text)).readers


def write(session: Session, known: KnownDossier, text: bytes) -> Written:
    """Seal it to everybody on the newest roster and to herself. `text`: as write_brief gives it."""
    home = session.home
    limits = session.remote.info().limits
    newest = fetch_rosters(session.remote, known.id, home.card, home.rosters(known.id))[-1]
    readers: list[ContactCard] = [*newest.cards(), home.card]
    # As it travels: base64 for every reader, and room for the statement around it.
    if len(text) > limits.brief or len(readers) * (age.sealed_size(len(text)) * 4 // 3 + 400) > limits.body:
        raise Refused(
            f"This brief is too long for this server and {len(readers)} readers; make it shorter.",
            code="brief-too-long",
        )
    sealed = [age.seal(text, card.recipient, os.urandom) for card in readers]
    lines = tuple(
        SealedTo(card.hash.hex(), hashlib.sha256(blob).hexdigest())
        for card, blob in zip(readers, sealed, strict=True)
    )
    try:
        orders.order(
            session,
            known,
            lambda seq: Brief(
                server=orders.server_of(session),
                dossier=known.id,
                seq=seq,
                epoch=newest.roster.epoch,
                readers=lines,
                created=orders.wall(),
            ),
            sealed,
        )
    except (Conflict, Refused) as between:
        if between.code != "wrong-epoch":
            raise
        raise Conflict(
            "The roster was changed in between; run the command again.", code="wrong-epoch"
        ) from None
    return Written(known.id, orders.title_of(session, known), len(readers))


def _read_file(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            found = opened.read(briefs.LARGEST + 1)
        return found.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("A brief is plain text in UTF-8; save it so and try again.", code="bad-brief") from None
    except OSError as wrong:
        raise BadUsage(f"{file} cannot be read ({wrong.strerror}).", code="unreadable") from None
