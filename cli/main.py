"""The command `afterword`: which commands there are, and what an error looks like.

Rule of this room: nothing heavy is imported before a command has been chosen, and nothing leaves this program as
a traceback. Every failure is a sentence, a stable code and an exit code from the one table below.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from vault import errors
from vault.errors import AfterwordError


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives, and what `--help` says of it without going there."""

    module: str
    attribute: str
    help: str


COMMANDS: Final[dict[str, dict[str, Lazy]]] = {
    "Anybody": {
        "join": Lazy("cli.join", "join", "Join a server with the invite you were given."),
        "card": Lazy("cli.identity", "card", "Show your contact card, or compare somebody else's by voice."),
        "address": Lazy("cli.identity", "address", "Where letters reach you: add, confirm, remove, list."),
        "passphrase": Lazy("cli.identity", "passphrase", "Change the passphrase of your keyring."),
        "status": Lazy("cli.status", "status", "Where each dossier stands, and what happens next."),
        "history": Lazy("cli.history", "history", "What the server has noted about you, verified."),
        "doctor": Lazy("cli.doctor", "doctor", "Look for what would go wrong on the day."),
        "wipe": Lazy("cli.identity", "wipe", "Remove everything of Afterword from this computer."),
    },
    "Journalist": {
        "collaborator": Lazy("cli.people", "collaborator", "Invite colleagues, and list them."),
        "dossier": Lazy("cli.dossier", "dossier", "Create a dossier for an investigation."),
        "brief": Lazy("cli.brief", "brief", "Write, or read, what colleagues should know from day one."),
        "push": Lazy("cli.push", "push", "Deposit files and folders. (This is not a check-in.)"),
        "bundles": Lazy("cli.journalist", "bundles", "What was deposited, and when."),
        "arm": Lazy("cli.journalist", "arm", "Start the switch of a dossier."),
        "checkin": Lazy("cli.checkin", "checkin", "Show that you are well: every clock begins anew."),
        "calendar": Lazy("cli.calendar", "calendar", "Every letter to come, if you fell silent now."),
        "pause": Lazy("cli.journalist", "pause", "Let a switch stand still for a while."),
        "resume": Lazy("cli.journalist", "resume", "End a pause."),
        "plan": Lazy("cli.journalist", "plan", "Change how long each stage lasts."),
        "roster": Lazy("cli.roster", "roster", "Change who the collaborators are."),
        "destroy": Lazy("cli.journalist", "destroy", "Give up a dossier for ever."),
        "cancel": Lazy("cli.journalist", "cancel", "Take back a slow change before it takes effect."),
    },
    "Collaborator": {
        "inbox": Lazy("cli.collaborator", "inbox", "What concerns you, opened on this computer."),
        "drill": Lazy("cli.collaborator", "drill", "Prove that you could open your share today."),
        "hold": Lazy("cli.hold", "hold", "The journalist was reached: let time stand still."),
        "recover": Lazy("cli.recover", "recover", "After a release: put the archive together again."),
        "give": Lazy("cli.collaborator", "give", "After a release: give your share, without downloading."),
        "leave": Lazy("cli.collaborator", "leave", "Stop being a collaborator of a dossier."),
    },
    "Operator": {
        "serve": Lazy("cli.operator", "serve", "Run a whole server: web, watch and deliverer."),
        "operator": Lazy("cli.operator", "operator", "Invites, accounts, quotas, backups of a server."),
    },
}
PLACES: Final = {name: place for section in COMMANDS.values() for name, place in section.items()}

# The most particular class first: an error's exit code is that of the first class it belongs to.
EXIT_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.BadUsage, 2),
    (errors.NoSpace, 10),
    (errors.DiskFailed, os.EX_IOERR),
    (errors.Refused, 3),
    (errors.NotFound, 4),
    (errors.Conflict, 5),
    (errors.Untrusted, 6),
    (errors.Unauthenticated, 6),
    (errors.Malformed, 7),
    (errors.Unreachable, 8),
    (errors.Damaged, 9),
    (AfterwordError, 1),
    (OSError, 10),
    (KeyboardInterrupt, 130),
)
USAGE: Final = 2
BUG: Final = 70
CLOSED_PIPE: Final = 141

# What the bare install, the client, does without.
_SERVER_PARTS: Final = {"apscheduler", "flask", "gunicorn", "sqlite_utils", "werkzeug", "jinja2"}


class Commands(click.Group):
    """A group whose commands are imported when they are run, and listed by who they are for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(PLACES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        place = PLACES.get(name)
        if place is None:
            return None
        command = getattr(importlib.import_module(place.module), place.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place.module}.{place.attribute} is no command")
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for who, places in COMMANDS.items():
            with formatter.section(who):
                formatter.write_dl([(name, place.help) for name, place in places.items()])


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"afterword {version('afterword')}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
)
def afterword() -> None:
    """Killing the messenger does not kill the message.

    Afterword keeps an investigation safe while its journalist lives, and hands it to the colleagues they chose
    when they fall silent.
    """


def run(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    os.umask(0o077)  # whatever this program writes, it writes for its owner
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line; whatever comes of it becomes an exit code here, and nowhere else."""
    try:
        outcome = afterword.main(list(arguments), prog_name="afterword", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as nothing:
        nothing.show()
        return USAGE
    except BrokenPipeError:
        # Whoever read our answer has gone; the interpreter's own farewell must not stumble over it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if os.environ.get("AFTERWORD_DEBUG"):
            import traceback

            traceback.print_exc()
        exit_code, code, sentence = explain(error)
        _tell(code, sentence, "--json" in arguments)
        return exit_code
    return outcome if isinstance(outcome, int) else 0


def explain(error: BaseException) -> tuple[int, str, str]:
    """Exit code, stable code, and the sentence for the person."""
    if isinstance(error, click.exceptions.Abort):
        return 130, "interrupted", "Interrupted; nothing is half-written, run the command again."
    if isinstance(error, click.UsageError):
        hint = error.ctx.command_path if error.ctx is not None else "afterword"
        return USAGE, errors.BadUsage.code, f"{error.format_message()} See: {hint} --help"
    if isinstance(error, click.ClickException):
        return USAGE, errors.BadUsage.code, error.format_message()
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(error)
    if (found := _database_error(error)) is not None:
        return found
    for kind, exit_code in EXIT_CODES:
        if isinstance(error, kind):
            return exit_code, *_words(error)
    return BUG, "bug", (
        f"Afterword met a fault of its own ({type(error).__name__}); nothing more is known to be wrong. Run the "
        "command again with AFTERWORD_DEBUG=1 and report what it shows, without what is secret in it."
    )  # fmt: skip


def _words(error: BaseException) -> tuple[str, str]:
    match error:
        case AfterwordError():
            return error.code, str(error)
        case KeyboardInterrupt():
            return "interrupted", "Interrupted; nothing is half-written, run the command again."
        case OSError(errno=number) if number in _full():
            return "no-space", "The disk is full; make room and run the command again."
        case OSError():
            where = f" at {error.filename}" if error.filename else ""
            return "os-error", f"The computer refused{where}: {error.strerror or type(error).__name__}."
    raise AssertionError(error)


def _full() -> tuple[int, ...]:
    import errno

    return errno.ENOSPC, errno.EDQUOT


def _missing_module(error: ModuleNotFoundError) -> tuple[int, str, str]:
    if (error.name or "").partition(".")[0] in _SERVER_PARTS:
        return (
            3,
            "server-extra",
            "This needs the server's parts; install Afterword again with them, in its checkout: uv tool install "
            "--constraints requirements.lock '.[server]' (or as README.md says under Install).",
        )
    return BUG, "bug", (
        f"The part {error.name} of this program is missing; install afterword again, in an environment of its own."
    )  # fmt: skip


def _database_error(error: BaseException) -> tuple[int, str, str] | None:
    """SQLite's own errors, without importing it for commands that never do."""
    if (sqlite3 := sys.modules.get("sqlite3")) is None or not isinstance(error, sqlite3.Error):
        return None
    match getattr(error, "sqlite_errorname", "") or "":
        case "SQLITE_FULL":
            return 10, "no-space", "The disk is full; make room and run the command again."
        case name if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return 5, "busy", "Another afterword command is writing just now; run this one again."
        case name if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return 9, "damaged", (
                "The database of this home or server is damaged; restore it (a home: join --from-words; a server: "
                "operator restore). Nothing was guessed in its place."
            )  # fmt: skip
        case name if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            return (
                10,
                "os-error",
                f"The database cannot be read or written ({name}); look at its disk and permissions.",
            )
    return None


def _tell(code: str, sentence: str, as_json: bool) -> None:
    from cli import terminal

    try:
        if as_json:
            terminal.answer({"error": {"code": code, "sentence": sentence}}, True, lambda _: None)
        terminal.say(sentence)
        terminal.say(f"afterword: {code}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
