"""The operator's commands: run a server, invite, look after it.

Rule of this room: parse, call, print. It reads a server's data directly, so it works while the server is down; it
never reads what a journalist deposited, because nobody here can.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cli import terminal
from cli.glance import show
from cli.serving import address_here, deliver, server_options, watch, web, write_invite
from cli.serving import serve as serve
from vault.clock import SECOND, SystemClock
from vault.errors import NotFound, Refused
from vault.settings import NEARLY_FULL, Settings, read_settings, read_size

if TYPE_CHECKING:
    from vault.compose import Vault
    from vault.keeping import Held

_REFUSED: Final = 3


@click.group()
def operator() -> None:
    """Look after a server."""


operator.add_command(web)
operator.add_command(watch)
operator.add_command(deliver)


class Invited(msgspec.Struct, frozen=True):
    """The whole link; it works once."""

    invite: str


@operator.command()
@server_options
@terminal.json_option
def invite(settings: Settings, as_json: bool) -> None:
    """Print an invite for one journalist."""
    from vault import compose

    vault = _open(settings)
    made = Invited(write_invite(vault, compose.public_url(vault) or address_here(settings)))
    terminal.answer(made, as_json, lambda shown: shown.invite)


@operator.command()
@server_options
@terminal.json_option
def accounts(settings: Settings, as_json: bool) -> None:
    """Who has an account, and how much of it is used."""
    from vault import keeping

    vault = _open(settings)
    held = keeping.list_accounts(vault.records, vault.custodian)
    terminal.answer({"accounts": held}, as_json, lambda _: _show_accounts(held))


def _show_accounts(held: Sequence["Held"]) -> str:
    if not held:
        return "Nobody has joined yet."
    lines = []
    for each in held:
        room = f"{terminal.size(each.used)} of {terminal.size(each.quota)}" if each.quota else "–"
        seen = terminal.local(each.checked_in) if each.checked_in is not None else "never"
        told = (
            f"{each.id}  {each.role:12}  {room:22}  last check-in {seen}  {_ways(each):22}  "
            f"{terminal.one_line(each.label)}"
        )
        if each.quota and each.used * 100 >= each.quota * NEARLY_FULL:
            told += "  (nearly full; see: afterword operator quota)"
        lines.append(
            told + ("  (knew more than this server, which had been set back)" if each.marked else "")
        )
    return "\n".join(lines)


def _ways(held: "Held") -> str:
    many = "1 address" if held.addresses == 1 else f"{held.addresses or 'no'} addresses"
    return f"{many}, {held.failing} failing" if held.failing else many


@operator.command()
@server_options
@click.argument("account")
@click.argument("size")
def quota(settings: Settings, account: str, size: str) -> None:
    """Give ACCOUNT (its id, or how it begins) room for SIZE, like 50GiB."""
    from vault import keeping

    vault = _open(settings)
    room = read_size(size)
    ids = [each.id for each in keeping.list_accounts(vault.records, vault.custodian)]
    found = [each for each in ids if each.startswith(account)] if account else []
    if len(found) != 1:
        raise NotFound(
            f"{len(found) or 'No'} accounts begin with {account!r}; see: afterword operator accounts",
            code="no-such-account",
        )
    keeping.set_quota(vault.records, found[0], room)
    terminal.result(f"{found[0]} may hold {terminal.size(room)}.")


@operator.command()
@server_options
@terminal.json_option
def status(settings: Settings, as_json: bool) -> None:
    """Whether the watch ticks, where switches and letters stand, how much room there is.

    Ends with exit code 3 when something is wrong.
    """
    from vault import keeping

    vault = _open(settings)
    seen = keeping.glance(vault.records, vault.objects, settings.mail is not None)
    terminal.answer(seen, as_json, lambda shown: show(shown, settings))
    if seen.wrong:
        click.get_current_context().exit(_REFUSED)


@operator.command()
@server_options
@click.option(
    "--confirm-copy", metavar="FILE", help="Compare a copy of the key: a file, or - to type its line."
)
@click.option(
    "--new", type=click.Path(dir_okay=False, path_type=Path), help="Make a key before there is a server."
)
def key(settings: Settings, confirm_copy: str | None, new: Path | None) -> None:
    """Where the server key is, and whether a copy of it is known to be kept elsewhere.

    Without this key nobody can open a backup of this server, or release anything from it.
    """
    from vault import age, keeping, keyfile

    if new is not None:
        keyfile.make_key(new)
        terminal.result(
            f"{new} is a new server key; name it in AFTERWORD_SERVER_KEY_FILE, and keep a copy elsewhere."
        )
        return
    vault = _open(settings)
    if confirm_copy is not None:
        place = Path(confirm_copy)
        if confirm_copy == "-":
            copy = age.Identity.read(
                terminal.ask_secret("The line of the copy that begins with AGE-SECRET-KEY-PQ-1")
            )
        elif place.exists() and place.samefile(settings.server_key_file):
            raise Refused("This is the key itself, not a copy of it.", code="not-a-copy")
        else:
            copy = keyfile.read_key(place)
        if str(copy.recipient) != str(keyfile.read_key(settings.server_key_file).recipient):
            raise Refused("This is not a copy of this server's key; make a new one.", code="not-a-copy")
        keeping.confirm_key_copy(vault.records)
    server = vault.records.server()
    terminal.result(f"The server key is {settings.server_key_file}")
    if server is not None and server.key_copied is not None:
        terminal.result(f"A copy was confirmed {terminal.local(server.key_copied)}.")
    else:
        terminal.result(
            "No copy of it was ever confirmed; keep one elsewhere, then: afterword operator key --confirm-copy FILE"
        )


@operator.command()
@server_options
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@terminal.json_option
def backup(settings: Settings, folder: Path, as_json: bool) -> None:
    """Back up into FOLDER, while the server runs. Sealed under the server key, which is left out."""
    from vault import backups

    vault = _open(settings)
    made = backups.back_up(
        vault.records.db,
        vault.records,
        vault.objects,
        vault.custodian,
        settings.data,
        folder,
        reserve=settings.low_water,
    )
    terminal.answer(
        {"file": str(made.file), "copied": made.copied, "objects": made.objects},
        as_json,
        lambda _: f"{made.file}, with {terminal.count(made.objects, 'object')} ({made.copied} new here).",
    )


@operator.command()
@server_options
@click.argument("source", metavar="BACKUP", type=click.Path(exists=True, path_type=Path))
@click.option("--anyway", is_flag=True, help="Even if objects are lost: no other backup has them either.")
@terminal.json_option
def restore(settings: Settings, source: Path, anyway: bool, as_json: bool) -> None:
    """Make a server of BACKUP (a file, or the newest in a folder), in a folder where there is none.

    Needs the server key in AFTERWORD_SERVER_KEY_FILE. Every armed switch begins its whole ladder anew.
    """
    from vault import backups, founding

    wall = SystemClock().wall()
    # What is chosen here is what is restored, whatever is written into the folder meanwhile.
    file = backups.newest(source, wall) if source.is_dir() else source
    at = backups.begun_at(file)
    said = "whose name has no date" if at is None else f"of {terminal.local(at)}, {_age(wall - at)}"
    terminal.say(f"What is restored is {file}, {said}.")
    begun, back = founding.restore(settings, file, anyway=anyway)
    for key in back.lost:
        dossier, _, name = key.partition("/")
        terminal.warn(f"object {name} of dossier {dossier} is lost.")
    for each in back.unsound:
        terminal.warn(f"{each}; it stands still, or is taken as it is.")
    if back.lost:
        terminal.say("Tell the journalists to push again: what they still have of what is lost is sent anew.")
    terminal.answer(
        {
            "switches": begun,
            "copied": back.copied,
            "objects": back.objects,
            "lost": back.lost,
            "unsound": back.unsound,
        },
        as_json,
        lambda _: (
            f"Restored, with {terminal.count(back.objects - len(back.lost), 'object')}; switches that begin their "
            f"whole ladder anew: {begun}. Start it, under systemd: systemctl enable --now afterword.service "
            "afterword-backup.timer; otherwise, with AFTERWORD_SERVER_KEY_FILE as it is now: "
            f"afterword serve --data {settings.data}"
        ),
    )


def _age(ms: int) -> str:
    return (
        f"{terminal.length(ms)} old" if ms >= SECOND else "just made, or dated ahead of this computer's clock"
    )


def examine(data: Path | None, as_json: bool) -> None:
    """The server's part of `afterword doctor`."""
    from cli import checkup, doctor
    from vault import compose

    settings = read_settings(data=data)
    compose.require_server(settings)
    findings = [*doctor.examine_installation(), *checkup.examine_server(settings)]
    terminal.answer({"findings": findings}, as_json, lambda _: doctor.render(findings))
    if any(each.level == "problem" for each in findings):
        click.get_current_context().exit(_REFUSED)


def _open(settings: Settings) -> "Vault":
    from vault import compose

    return compose.open_vault(settings)
