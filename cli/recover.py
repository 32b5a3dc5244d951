"""Put a released archive together again: `afterword recover`.

Rule of this room: the person decides before anything is given away; nothing is written but what verified, and the
report says what is missing.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from cli import chain, combine, released, sealed, terminal
from cli.archive import Contents, Slices, open_contents
from cli.chain import SignedHead
from cli.recovery import Item, Problem, Written, choose, open_folder, write
from cli.released import Case
from cli.sealed import Kept
from vault import age
from vault.clock import SystemClock, write_instant
from vault.errors import BadUsage, NotFound, Refused, Unreachable, Untrusted
from vault.statements import Collected

if TYPE_CHECKING:
    from cli.home import Home, KnownDossier
    from cli.remote import Remote
    from vault.identity import Keyring


class Listed(msgspec.Struct, frozen=True):
    """One line of `recover --list`. `modified` in ms UTC."""

    path: str
    kind: str
    size: int
    modified: int
    bundle: int
    sha256: str | None


class Listing(msgspec.Struct, frozen=True):
    """What `recover --list` answers."""

    dossier: str
    entries: tuple[Listed, ...]
    problems: tuple[Problem, ...]


class Recovered(msgspec.Struct, frozen=True):
    """What `recover` answers. `first` and `last`: when the oldest and newest bundle were signed, ms UTC."""

    dossier: str
    files: int
    folders: int
    size: int
    bundles: int
    first: int | None
    last: int | None
    complete: bool
    everything: bool
    signed_by: str
    earlier_versions: int
    fresh_starts: tuple[int, ...]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    renamed: dict[str, str]
    folder: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line."""

    to: Path | None
    listing: bool = False
    only: Sequence[str] = ()
    bundle: int | None = None
    all_versions: bool = False
    write_identity: Path | None = None
    keep_sealed: Path | None = None
    anyway: bool = False

    @property
    def everything(self) -> bool:
        return not (self.listing or self.only or self.bundle)


@click.command()
@click.argument("name", required=False)
@click.option("--to", type=click.Path(path_type=Path), help="A new or empty folder to write to.")
@click.option("--list", "listing", is_flag=True, help="Show what there is and write nothing.")
@click.option(
    "--only", multiple=True, metavar="PATTERN", help="Only these paths or folders; * and ? may stand in it."
)
@click.option("--bundle", type=click.IntRange(min=1), help="The archive as it stood after this bundle.")
@click.option("--all-versions", is_flag=True, help="Earlier versions of files too, under `earlier/`.")
@click.option(
    "--write-identity", type=click.Path(path_type=Path), help="Also write the key, for stock age tools."
)
@click.option(
    "--keep-sealed", type=click.Path(path_type=Path), help="Keep heads and objects in this folder, unopened."
)
@click.option(
    "--anyway", is_flag=True, help="Take what is there although the newest bundles are held back or forged."
)
@click.option("--yes", is_flag=True, help="Do not ask; you have tried to reach the journalist.")
@terminal.passphrase_option
@terminal.json_option
def recover(
    name: str | None,
    to: Path | None,
    listing: bool,
    only: tuple[str, ...],
    bundle: int | None,
    all_versions: bool,
    write_identity: Path | None,
    keep_sealed: Path | None,
    anyway: bool,
    yes: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """After a release: put the archive of the dossier NAME together and write it to a folder.

    It can be interrupted at any moment: the same command goes on.
    """
    from cli import orders, shares
    from cli.session import signed_in

    if to is None and not listing and keep_sealed is None:
        raise BadUsage("Name a new or empty folder: --to FOLDER (or --list to see what there is).")
    name = orders.asked_name(name)
    wishes = Wishes(to, listing, only, bundle, all_versions, write_identity, keep_sealed, anyway)
    with signed_in(passphrase_file) as session:
        home, remote, keyring = session.home, session.remote, session.keyring
        found = shares.named(session, name)
        dossier, case = found.state.dossier, shares.case_of(session, found)
        given = released.has_given(case, found.state)
        for line in released.story(case, found.title or dossier[:8], given=given):
            terminal.say(line)
        if not (given or yes or terminal.confirm("Give your share to the others on the roster, and recover")):
            raise Refused(
                "You did not say yes; nothing was given and nothing was fetched.", code="not-confirmed"
            )
        identity = unlock(home, remote, keyring, case)
        if wishes.write_identity is not None:
            write_key(wishes.write_identity, identity, dossier)
        done = run_recover(home, remote, keyring, case, identity, wishes)
    if isinstance(done, Kept):
        terminal.answer(done, as_json, sealed.render)
        if done.missing:
            raise Untrusted(
                f"{len(done.missing)} objects could not be kept, see above; all others were. The same command tries "
                "them again.",
                code="incomplete",
            )
        return
    if isinstance(done, Listing):
        terminal.answer(done, as_json, render_listing)
    else:
        terminal.answer(done, as_json, render)
        terminal.say(f"It lies in {wishes.to}. Speak with the others before anything is published.")
    if done.problems:
        raise Untrusted(
            f"{len(done.problems)} things could not be recovered, see above; everything else was, and verified. The "
            "same command tries them again.",
            code="incomplete",
        )


def unlock(
    home: "Home", remote: "Remote", keyring: "Keyring", case: Case, random: age.Random = os.urandom
) -> age.Identity:
    """Contribute, look who else did, and combine. NotEnoughShares says how many are missing, stderr says whose."""
    gathered = combine.give(home, remote, keyring, case, random)
    for bad in gathered.bad:
        terminal.warn(f"the share of {bad.label} cannot be used and is left out: {bad.why}")
    more = case.roster.roster.k - len(gathered.good)
    if more > 0:
        terminal.say(f"Still missing: {', '.join(gathered.missing) or 'nobody'}; {more} more needed.")
    return combine.combine(keyring, case, gathered)


def run_recover(
    home: "Home",
    remote: "Remote",
    keyring: "Keyring",
    case: Case,
    identity: age.Identity,
    wishes: Wishes,
) -> Recovered | Listing | Kept:
    """Fetch, verify, write; `collected` is posted when everything is there."""
    dossier = case.dossier
    known = next((each for each in home.dossiers() if each.id == dossier), None)
    heads = fetch_chain(remote, known, case, wishes.anyway)
    if known is None or len(heads) >= known.bundles:
        home.remember_dossier(
            dossier,
            "collaborator",
            epoch=case.roster.roster.epoch,
            roster_hash=case.roster.hash.hex(),
            head_hash=heads[-1].hash.hex() if heads else None,
            bundles=len(heads),
        )
    if wishes.bundle is not None:
        if wishes.bundle > len(heads):
            raise NotFound(
                f"There is no bundle {wishes.bundle}; the newest is {len(heads)}.", code="no-such-bundle"
            )
        heads = heads[: wishes.bundle]
    if wishes.keep_sealed is not None:
        kept = sealed.keep(remote, dossier, case.journalist, heads, wishes.keep_sealed)
        if wishes.to is None and not wishes.listing:
            return kept
    with Slices(remote, dossier, heads, identity) as slices:
        contents = open_contents(heads, slices, identity)
        items = choose(contents, wishes.only, all_versions=wishes.all_versions)
        if wishes.only and not items:
            raise NotFound(
                f"Nothing in this archive fits {' or '.join(wishes.only)}; --list shows what there is.",
                code="no-such-path",
            )
        if wishes.listing or wishes.to is None:
            return _listing(dossier, contents, items)
        with open_folder(wishes.to, home, dossier) as writer:
            total = sum(each.version.entry.size for each in items)
            with terminal.progress("Recovering", total) as progress:
                written = write(items, slices, writer, progress.advance)
    done = _report(dossier, case, contents, heads, written, wishes)
    if done.complete and wishes.everything:
        _post_collected(home, remote, keyring, case)
    return done


def fetch_chain(remote: "Remote", known: "KnownDossier | None", case: Case, anyway: bool) -> list[SignedHead]:
    """The verified heads up to the released one. Untrusted `head-forged`, `head-rolled-back`, `head-forked`;
    `anyway` takes the part that holds instead."""
    heads: list[SignedHead] = []
    her, last = case.journalist.card.label, case.release.bundle
    covered = None
    if case.checkin is not None:
        covered = next((each.head for each in case.checkin.dossiers if each.dossier == case.dossier), None)
    try:
        for each in chain.fetch_heads(remote, case.dossier, case.journalist.verify_key):
            heads.append(each)
        # Whoever knows a number can tell a fork from a step back, and is asked first.
        if case.release.head is not None:
            chain.check_reaches(heads, last, case.release.head, "the release names")
        if known is not None and known.head_hash is not None:
            chain.check_reaches(heads, known.bundles, known.head_hash, "this computer has seen before")
        if covered is not None:
            # In what the release names: one that names less than she knew would hide the rest without a word.
            chain.check_reaches(heads[:last], None, covered, f"{her}'s last check-in names")
    except Untrusted as wrong:
        if not anyway:
            raise
        terminal.warn(str(wrong))
        last = max([last, *(each.bundle for each in heads if each.hash.hex() == covered)])
    if len(heads) > last:
        terminal.warn("bundles that were added after the release are left out.")
    return heads[:last]


def write_key(path: Path, identity: age.Identity, dossier: str) -> None:
    """An identity file as stock age tools read it, for its owner only. Refused when the file exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Refused(f"{path} exists already; name another file for the key.", code="file-exists") from None
    with open(handle, "w", encoding="ascii") as file:
        file.write(
            f"# the key of dossier {dossier}: whoever has this file can open everything in it\n"
            f"# created: {write_instant(SystemClock().wall())}\n"
            f"# public key: {identity.recipient}\n{identity.write()}\n"
        )
    terminal.warn(
        f"{path} opens the whole archive, without you and without anybody else; keep it as carefully."
    )


def render(done: Recovered) -> str:
    """The short report."""
    lines = [f"PROBLEM: {terminal.name(each.path)}: {each.why}" for each in done.problems]
    lines += [f"written as {at}: {terminal.name(path)}" for path, at in sorted(done.renamed.items())]
    lines += [f"note: {terminal.one_line(note)}" for note in done.notes]
    when = ""
    if done.first is not None and done.last is not None:
        first, last = terminal.day(done.first), terminal.day(done.last)
        when = f" of {first}" if first == last else f" of {first} to {last}"
    files, bundles = terminal.count(done.files, "file"), terminal.count(done.bundles, "bundle")
    whole = ("complete" if done.everything else "all that was asked for") if done.complete else "NOT COMPLETE"
    said = [f"{files}, {terminal.size(done.size)}, {bundles}{when}, {whole}, signed by {done.signed_by}"]
    if done.earlier_versions:
        have = "has" if done.earlier_versions == 1 else "have"
        said.append(f"{terminal.count(done.earlier_versions, 'file')} {have} earlier versions")
    said += [f"bundle {number} started afresh" for number in done.fresh_starts]
    return "\n".join([*lines, "; ".join(said) + "."])


def render_listing(found: Listing) -> str:
    lines = [
        f"{terminal.size(each.size) if each.kind == 'file' else 'folder':>10}  {terminal.day(each.modified)}  "
        f"{each.bundle:>4}  {terminal.name(each.path)}"
        for each in found.entries
    ]
    return "\n".join(lines + [f"PROBLEM: {terminal.name(each.path)}: {each.why}" for each in found.problems])


def _listing(dossier: str, contents: Contents, items: Sequence[Item]) -> Listing:
    entries = [
        Listed(
            each.path,
            each.version.entry.type,
            each.version.entry.size,
            max(0, each.version.entry.mtime // 1000),
            each.version.bundle,
            each.version.entry.sha256.hex() if each.version.entry.sha256 else None,
        )
        for each in items
    ]
    return Listing(dossier, tuple(entries), _broken(contents))


def _report(
    dossier: str,
    case: Case,
    contents: Contents,
    heads: Sequence[SignedHead],
    written: Written,
    wishes: Wishes,
) -> Recovered:
    problems = (*_broken(contents), *written.problems)
    held_back = len(heads) < case.release.bundle and wishes.bundle is None
    if held_back:
        why = f"the server shows {len(heads)} of {case.release.bundle} bundles"
        problems = (Problem(f"bundles {len(heads) + 1} to {case.release.bundle}", why), *problems)
    made = [each.head.created for each in heads]
    notes = tuple(dict.fromkeys(each.root.note for each in contents.bundles if each.root.note))
    return Recovered(
        dossier,
        written.files,
        written.folders,
        written.size,
        len(heads),
        min(made, default=None),
        max(made, default=None),
        not problems,
        wishes.everything,
        case.journalist.card.label,
        len({path for path, _ in contents.archive.earlier}),
        tuple(each.start for each in contents.archive.set_aside),
        notes,
        problems,
        written.renamed,
        str(wishes.to),
    )


def _broken(contents: Contents) -> tuple[Problem, ...]:
    return tuple(Problem(f"bundle {each.bundle}", each.why) for each in contents.broken)


def _post_collected(home: "Home", remote: "Remote", keyring: "Keyring", case: Case) -> None:
    created = SystemClock().wall()

    def make(seq: int) -> Collected:
        return Collected(case.server, case.dossier, seq, case.roster.hash.hex(), created)

    try:
        remote.submit(home, keyring, case.dossier, make)
    except Unreachable as gone:
        terminal.warn(
            f"everything is here, but the server could not be told ({gone}) Release letters will go on."
        )
