"""Deposit files and folders: `afterword push`.

Rule of this room: what cannot be read is named and the rest goes on; nothing is sent twice, nothing is lost by
stopping anywhere.  A push is not a check-in.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cli import chain, terminal
from cli.bundler import Bundler, Sums
from cli.chain import SignedRoster
from cli.committing import Committing, Reconciled
from cli.depositing import Done, Left, deposit
from cli.journal import Journal
from cli.scan import Source, choose_sources
from cli.sender import Sender
from cli.survey import Names, Survey, at_most, check_room, measure, nearly_full, shrunk, survey
from vault import age, tree, wire
from vault.clock import Clock, SystemClock
from vault.errors import BadUsage, OverQuota, Refused
from vault.stream import OBJECT_SIZE

if TYPE_CHECKING:
    from cli.home import Home, KnownDossier
    from cli.remote import Remote
    from vault.identity import Keyring

THREADS: Final = 2


class Pushed(msgspec.Struct, frozen=True):
    """What `push` answers. Sizes in bytes; `sent` is what travelled as whole objects."""

    dossier: str
    bundles: tuple[int, ...]
    objects: int
    sent: int
    files: int
    folders: int
    size: int
    unchanged: int
    new: int
    skipped: tuple[Left, ...]
    problems: tuple[Left, ...]
    renamed: tuple[str, ...]
    replace: bool
    complete: bool
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line."""

    paths: Sequence[str | bytes]
    renames: Mapping[str, str]
    replace: bool = False
    note: str = ""
    dry_run: bool = False


@click.command()
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=str))
@click.option(
    "--replace", is_flag=True, help="Start afresh: what lies below moves to `earlier/` at recovery."
)
@click.option("--note", default="", help="A few words to your colleagues, sealed like everything else.")
@click.option("--as", "renames", multiple=True, metavar="OLD=NEW", help="Another name for one of the paths.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@terminal.passphrase_option
@terminal.json_option
def push(
    name: str,
    paths: tuple[str, ...],
    replace: bool,
    note: str,
    renames: tuple[str, ...],
    dry_run: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Deposit files and folders (PATHS) into the dossier NAME.

    Only what is new is sent. It can be interrupted at any moment: the same command goes on. A push adds; nothing
    that you deposited before disappears from what your colleagues receive. A push is not a check-in.
    With - for NAME you are asked, and the shell's history does not learn it.
    """
    from cli import orders

    wishes = Wishes(paths, read_renames(renames), replace, note, dry_run)
    choose_sources(wishes.paths, wishes.renames)  # what is wrong with the words is said before the passphrase
    with orders.own_dossier(name, passphrase_file) as (session, known):
        orders.require_going_on(session, known, orders.state_of(session, known.id))
        done = run_push(session.home, session.remote, session.keyring, known, wishes)
    terminal.answer(done, as_json, render)
    if not done.complete:
        raise Refused(
            f"{len(done.problems)} of the files could not be deposited as they are, see above; all others were. "
            "Push again when they can be read.",
            code="incomplete",
        )


def run_push(
    home: "Home",
    remote: "Remote",
    keyring: "Keyring",
    known: "KnownDossier",
    wishes: Wishes,
    *,
    random: age.Random = os.urandom,
    clock: Clock = SystemClock(),  # noqa: B008  # it has no state
) -> Pushed:
    """The whole push, without the conversation before and after it."""
    tree.write_root(
        tree.Root(0, 1, 0, 0, 0, 0, wishes.note)
    )  # a note too long is refused now, not at the end
    sources = choose_sources(wishes.paths, wishes.renames)
    rosters = chain.fetch_rosters(remote, known.id, home.card, home.rosters(known.id))
    for each in rosters:
        home.remember_roster(known.id, each.roster.epoch, each.envelope)
    roster = rosters[-1]
    names = Names(keyring.dedup_key(bytes.fromhex(known.id)))
    sent: list[int] = []
    with (
        home.lock("push"),
        Journal(home.path / "push" / known.id) as journal,
        Sender(remote, known.id, sent.append) as sender,
    ):
        commits = Committing(home, remote, known.id, keyring.sign.verify_key, journal)
        try:
            found = commits.reconcile(None if wishes.dry_run else sender)
            _tell(found)
            fresh = _fresh_start(journal, names, sources, commits.newest()[0], wishes)
            seen = survey(sources, journal, names, home.path, fresh)
            for sentence in shrunk(journal, names, seen):
                terminal.warn(sentence)
            if wishes.dry_run:
                return _rehearse(remote, known.id, seen, journal, names, roster.roster.minimum)
            account = _check_room(remote, seen, journal, names, roster.roster.minimum)
            _note_fresh_start(journal, names, sources, fresh)
            with ThreadPoolExecutor(THREADS, "seal") as threads:
                bundler = Bundler(
                    known.id,
                    journal,
                    commits,
                    naming=names.key,
                    signing=keyring.sign,
                    recipient=age.Recipient.read(roster.roster.recipient),
                    minimum=roster.roster.minimum,
                    random=random,
                    clock=clock,
                    threads=threads,
                    send_object=lambda name, path: journal.arrived(sender.send(name, path)),
                    await_objects=lambda: journal.arrived(sender.finish()),
                    note=wishes.note,
                )
                done = deposit(seen, bundler, journal, names, clock, fresh)
        finally:
            _remember(home, known.id, roster, commits)
        if not done.problems:
            journal.end_fresh_start()
            for name, files, total in seen.extents:
                journal.note_extent(names.source(name), files, total)
    if commits.replaced:
        terminal.warn(
            "another computer of yours started this dossier afresh; push again, so that everything here lies on top."
        )
    if (full := nearly_full(account, sum(sent))) is not None:
        terminal.warn(full)
    replaced = fresh is not None and not done.problems
    return _report(known.id, seen, bundler.sums, done, sum(sent), replaced, finished=found.finished)


def read_renames(renames: Sequence[str]) -> dict[str, str]:
    """`OLD=NEW` as it was typed, the last equals sign counting."""
    read = {}
    for each in renames:
        old, equals, new = each.rpartition("=")
        if not (old and equals and new):
            raise BadUsage(f"--as {each}: write OLD=NEW, the path as you typed it and its new name.")
        read[old] = new
    return read


def render(done: Pushed) -> str:
    """The answer for people."""
    lines = [f"left out: {terminal.name(left.path)} ({left.why})" for left in done.skipped]
    lines += [f"not UTF-8, deposited as: {terminal.name(name)}" for name in done.renamed]
    lines += [f"PROBLEM: {terminal.name(left.path)}: {left.why}" for left in done.problems]
    what = f"{terminal.count(done.files, 'file')}, {terminal.size(done.size)}"
    if done.folders:
        what += f", {terminal.count(done.folders, 'empty folder')}"
    same = terminal.count(done.unchanged, "file")
    if done.dry_run:
        lines.append(f"Would deposit {what}: about {terminal.size(done.sent)} to send. Nothing was sent.")
    elif not done.bundles:
        lines.append(f"Nothing has changed ({same}): nothing was sent.")
    else:
        first, last = done.bundles[0], done.bundles[-1]
        bundles = f"bundle {last}" if first == last else f"bundles {first} to {last}"
        unchanged = f"{same} unchanged; " if done.unchanged else ""
        sent = f"{terminal.count(done.objects, 'object')}, {terminal.size(done.sent)}"
        lines.append(f"Deposited {what} as {bundles}; {unchanged}sent: {sent}.")
        if done.replace:
            lines.append("Started afresh: what was deposited before lies under `earlier/` at recovery.")
    lines.append("This was not a check-in.")
    return "\n".join(lines)


def _fresh_start(
    journal: Journal, names: Names, sources: Sequence[Source], last: int, wishes: Wishes
) -> int | None:
    """The first bundle of a push that starts afresh: a new one, or that of one that was interrupted."""
    if not wishes.replace:
        return None
    begun = journal.fresh_start()
    same = begun is not None and begun[1] == names.sources([each.name for each in sources])
    return begun[0] if begun is not None and same and begun[0] <= last + 1 else last + 1


def _note_fresh_start(journal: Journal, names: Names, sources: Sequence[Source], fresh: int | None) -> None:
    if fresh is None:
        journal.end_fresh_start()
    else:
        journal.note_fresh_start(fresh, names.sources([each.name for each in sources]))


def _remember(home: "Home", dossier: str, roster: SignedRoster, commits: Committing) -> None:
    """The newest head, so that the next check-in covers it, however this push ended."""
    last, head = commits.newest()
    if head is not None:
        home.remember_dossier(
            dossier,
            "journalist",
            epoch=roster.roster.epoch,
            roster_hash=roster.hash.hex(),
            head_hash=head,
            bundles=last,
        )


def _check_room(
    remote: "Remote", seen: Survey, journal: Journal, names: Names, minimum: int
) -> wire.AccountState:
    """Nothing is sent that would not fit. Only when the rough bound is too much is everything read for a better one."""
    account, free = _room(remote)
    try:
        check_room(at_most(seen, minimum), account, free)
    except OverQuota:
        terminal.say("This may be more than your quota holds; looking first at what of it is new …")
        check_room(_measure(seen, journal, names, minimum), account, free)
    return account


def _room(remote: "Remote") -> tuple[wire.AccountState, int]:
    """Her account, and bytes that the server's disk has left."""
    limits = remote.info().limits
    if limits.object_size != OBJECT_SIZE:
        raise Refused("This server takes objects of another size; update the program.", code="out-of-date")
    return remote.call("GET", "/account", None, wire.AccountState), limits.free


def _measure(seen: Survey, journal: Journal, names: Names, minimum: int) -> int:
    with terminal.progress("Looking", seen.size) as progress:
        return measure(seen, journal, names.key, minimum, progress)


def _rehearse(
    remote: "Remote", dossier: str, seen: Survey, journal: Journal, names: Names, minimum: int
) -> Pushed:
    needed = _measure(seen, journal, names, minimum) if seen.changed else 0
    try:
        check_room(needed, *_room(remote))
    except OverQuota as full:
        terminal.warn(str(full))
    problems = tuple(Left(each.p, each.words) for each in seen.skipped if not each.harmless)
    sums = Sums(
        files=sum(found.kind == "file" for found in seen.changed),
        folders=sum(found.kind == "dir" for found in seen.changed),
        size=seen.size,
        objects=needed // OBJECT_SIZE,
    )
    return _report(dossier, seen, sums, Done(problems, 0), needed, False, dry_run=True)


def _tell(found: Reconciled) -> None:
    if found.lost:
        terminal.warn(
            f"the server has lost {len(found.lost)} bundles of this dossier (from {found.lost[0]} on); what they held "
            "is sent again. Tell its operator."
        )
    if found.damaged:
        listed = ", ".join(map(str, found.damaged))
        terminal.warn(
            f"the server lacks objects of bundle {listed}; what is still here is sent again. Tell its operator."
        )
    if found.foreign:
        terminal.say(
            f"{len(found.foreign)} bundles were pushed from another computer since; this push follows them."
        )
    if found.finished:
        terminal.say(f"An interrupted push was finished: bundle {found.finished[0]}.")
    elif found.kept:
        terminal.say(f"Going on with an interrupted push: {found.kept} objects of it need not be sent again.")


def _report(
    dossier: str,
    seen: Survey,
    sums: Sums,
    done: Done,
    sent: int,
    replace: bool,
    *,
    finished: tuple[int, ...] = (),
    dry_run: bool = False,
) -> Pushed:
    return Pushed(
        dossier,
        (*finished, *sums.bundles),
        sums.objects,
        sent,
        sums.files,
        sums.folders,
        sums.size,
        seen.unchanged + done.same,
        sums.new,
        tuple(Left(each.p, each.words) for each in seen.skipped if each.harmless),
        done.problems,
        tuple(each.p for each in seen.renamed),
        replace,
        not done.problems,
        dry_run,
    )
