"""What would go wrong on the day, found before it: `afterword doctor`.

Rule of this room: looks at everything, changes nothing, and says for each finding what to do.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click
import msgspec

from cli import disk, terminal
from cli.calendar import LATE, change_text
from cli.home import Home
from cli.session import STALE_PROOF, Session, clock_off, learn_dossiers, learn_links, signed_in
from cli.status import LACKING, Standing, standing
from vault import wire
from vault.errors import AfterwordError, Refused
from vault.settings import NEARLY_FULL

PACKAGES: Final = ("vault", "cli", "web")
LITTLE_SPACE: Final = 1_000_000_000
NO_SPACE: Final = 50_000_000
_REFUSED: Final = 3


class Finding(msgspec.Struct, frozen=True):
    """`code` is stable; `sentence` says what to do."""

    level: Literal["ok", "warning", "problem"]
    code: str
    sentence: str


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="On a server: examine this data directory. [AFTERWORD_DATA, where nobody has joined]",
)
@terminal.passphrase_option
@terminal.json_option
def doctor(data: Path | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Look for what would go wrong on the day. Ends with exit code 3 when there is a problem."""
    # Who runs a server and has no home of their own means the server.
    server = any(os.environ.get(name) for name in ("AFTERWORD_DATA", "AFTERWORD_DATA_FILE"))
    if data is not None or (server and not Home.exists()):
        # The server's own examination; its parts are not on everybody's computer.
        importlib.import_module("cli.operator").examine(data, as_json)
        return
    if not Home.exists():
        raise Refused(
            "Nobody has joined from this computer yet; run: afterword join INVITE-URL. To examine a server: afterword "
            "doctor --data FOLDER",
            code="no-home",
        )
    findings = [*examine_installation(), *examine(passphrase_file)]
    terminal.answer({"findings": findings}, as_json, lambda _: render(findings))
    if any(each.level == "problem" for each in findings):
        click.get_current_context().exit(_REFUSED)


def ok(code: str, sentence: str) -> Finding:
    return Finding("ok", code, sentence)


def warning(code: str, sentence: str) -> Finding:
    return Finding("warning", code, sentence)


def problem(code: str, sentence: str) -> Finding:
    return Finding("problem", code, sentence)


def render(findings: list[Finding]) -> str:
    marks = {"ok": "   ok", "warning": " WARN", "problem": "WRONG"}
    lines = [
        f"{marks[each.level]}  {each.sentence}{'' if each.level == 'ok' else f' ({each.code})'}"
        for each in findings
    ]
    wrong = sum(each.level == "problem" for each in findings)
    warned = sum(each.level == "warning" for each in findings)
    besides = f"; {terminal.count(warned, 'warning')}" if warned else ""
    lines.append(f"{f'{wrong} to put right' if wrong else 'Nothing is wrong'}{besides}.")
    return "\n".join(lines)


def examine_installation() -> Iterator[Finding]:
    """Another distribution with a `web/` of its own would silently have overwritten ours."""
    owners = importlib.metadata.packages_distributions()
    strangers = {
        f"{name} by {owner}"
        for name in PACKAGES
        for owner in owners.get(name, ())
        if owner.lower() != "afterword"
    }
    homes = {Path(origin).parent.parent for name in PACKAGES if (origin := _origin(name)) is not None}
    if strangers or len(homes) != 1:
        told = ", ".join(sorted(strangers)) or "they lie in different places"
        yield problem(
            "packages",
            f"The packages vault, cli and web are not all Afterword's ({told}); install it in an environment of its "
            "own, with pipx or uv tool.",
        )
    else:
        yield ok("packages", "The packages vault, cli and web are Afterword's own.")


def _origin(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    return spec.origin if spec is not None else None


def examine(passphrase_file: Path | None) -> Iterator[Finding]:
    """Home first, so that something is said even when the server is away."""
    with Home.open() as home:
        yield from _examine_home(home)
    try:
        with signed_in(passphrase_file) as session:
            yield from _examine_server(session)
            yield from _examine_history(session)
            account = session.remote.call("GET", "/account", None, wire.AccountState)
            learn_links(session.home, account.links)
            yield from _examine_account(account)
            yield from _examine_cards(session.home)
            for seen in learn_dossiers(session):
                yield from _examine_dossier(standing(session, seen), session.now())
    except AfterwordError as wrong:
        yield problem(wrong.code, str(wrong))


def _examine_history(session: Session) -> Iterator[Finding]:
    if (wrong := session.remote.trouble) is not None:
        yield problem(wrong.code, wrong.sentence)
    else:
        yield ok("history", "What the server says of its history fits all that it has promised you.")


def _examine_home(home: Home) -> Iterator[Finding]:
    if open_files := disk.exposed(home.path):
        yield problem(
            "home-exposed",
            f"{open_files[0]} can be read by others on this computer; run: chmod -R go= {home.path}",
        )
    else:
        yield ok("home-private", f"{home.path} is readable for you alone.")
    (damage,) = home.db.execute("PRAGMA quick_check(1)").fetchone()
    if damage != "ok":
        yield problem("home-damaged", f"{home.path} is damaged; restore it with: afterword join --from-words")
    free = shutil.disk_usage(home.path).free
    if free < LITTLE_SPACE:
        kind = problem if free < NO_SPACE else warning
        yield kind(
            "little-space", f"Only {terminal.size(free)} are free on the disk of {home.path}; make room."
        )
    if home.fact("words-written") is None:
        yield problem(
            "words-not-written", "Your 24 paper words were never confirmed; wipe this home and join anew."
        )
    else:
        yield ok(
            "words-written",
            "You confirmed your 24 paper words; look now and then whether you still have them.",
        )


def _examine_server(session: Session) -> Iterator[Finding]:
    said = session.remote.info()
    yield ok("server", f"The server at {session.home.url} answers, with the card it had when you joined.")
    if (off := clock_off(session.remote)) is not None:
        yield warning("clock-off", off[:1].upper() + off[1:])
    if said.short:
        yield warning(
            "rehearsal", "This server allows plans of seconds: it is for rehearsals, not for real material."
        )


def _examine_account(account: wire.AccountState) -> Iterator[Finding]:
    confirmed = [each for each in account.addresses if each.confirmed]
    if not confirmed:
        yield problem(
            "no-address",
            "None of your addresses is confirmed, so no letter reaches you; run: afterword address add",
        )
    elif len(confirmed) == 1:
        yield warning(
            "one-address", "Only one of your addresses is confirmed; add a second, at another provider."
        )
    else:
        yield ok("addresses", f"{len(confirmed)} of your addresses are confirmed.")
    for each in account.addresses:
        if each.failing_since is not None:
            yield problem(
                "address-failing",
                f"Letters to {each.address} have not been accepted since {terminal.local(each.failing_since)}; repair "
                "it, or run: afterword address add",
            )
    if account.quota and account.used * 100 >= account.quota * NEARLY_FULL:
        yield warning(
            "nearly-full",
            f"{terminal.size(account.used)} of {terminal.size(account.quota)} are used; ask the operator for more.",
        )
    if account.marked:
        yield warning(
            "server-restored",
            "This server was once set back to an older state. If you have not checked in and pushed since, do it now, "
            "and look at status; otherwise nothing is left to do.",
        )


def _examine_cards(home: Home) -> Iterator[Finding]:
    cards = home.cards()
    never = [each.label for each in cards if each.compared is None]
    for label in dict.fromkeys(never):
        yield problem(
            "card-not-compared",
            f"The card of {label} was never compared; run: afterword card compare {shlex.quote(label)}",
        )
    if cards and not never:
        yield ok("cards-compared", "Every card known here was compared.")


def _examine_dossier(one: Standing, now: int) -> Iterator[Finding]:
    if one.stage == "destroyed":
        return
    if one.stage in LATE and one.role == "journalist":
        yield problem("late", f"{one.name}: your check-in is overdue; run: afterword checkin")
    if one.stage == "new" and one.role == "journalist":
        why = "; ".join(LACKING.get(each, each) for each in one.missing) or "run: afterword arm"
        yield warning("not-armed", f"{one.name}: not armed, so nothing happens when you fall silent: {why}.")
    for change in one.changes:
        yield warning(
            "change-waiting",
            f"{one.name}: {change_text(change, now)}. {_unwanted(one)}",
        )
    if one.released is None:
        yield from _examine_shares(one, now)


def _unwanted(one: Standing) -> str:
    if one.role == "journalist":
        return f"If you did not ask for it: afterword cancel {one.dossier[:8]}, and another passphrase"
    return f"Call {one.journalist} and ask whether it is their own wish"


def _examine_shares(one: Standing, now: int) -> Iterator[Finding]:
    mine = one.role == "journalist"
    good: list[int] = []
    for each in one.holders:
        if not mine and not each.me:
            continue
        who = "you" if each.me else each.label
        todo = "run: afterword drill" if each.me else "ask them to run: afterword drill"
        if each.left:
            if mine:
                yield warning("collaborator-left", f"{one.name}: {who} has left; run: afterword roster")
        elif each.proved is None:
            yield problem("share-not-proved", f"{one.name}: {who} never proved the share; {todo}")
        elif now - each.proved > STALE_PROOF:
            yield warning(
                "share-stale",
                f"{one.name}: {who} last proved the share {terminal.local(each.proved)}; {todo} again",
            )
        else:
            good.append(each.proved)
    if good and (not mine or len(good) >= one.k):
        oldest = terminal.local(min(good))
        told = f"{len(good)} of {len(one.holders)} shares are proved, the oldest proof is of {oldest}"
        yield ok("shares-proved", f"{one.name}: {told if mine else f'you proved your share {oldest}'}.")
