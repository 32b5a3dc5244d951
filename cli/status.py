"""One screen on where everything stands: `afterword status`.

Rule of this room: reads and renders; who proved what comes from signatures, not from the server's word.
"""

from pathlib import Path
from typing import Final

import click
import msgspec

from cli import calendar, holding, terminal
from cli.promises import Trouble
from cli.session import Seen, Session, learn_dossiers, learn_links, proofs, signed_in
from vault import identity, statements, wire
from vault.clock import DAY
from vault.statements import Role

STAGES: Final = {
    "new": "not armed",
    "armed": "armed",
    "reminded": "REMINDED to check in",
    "warned": "WARNED, and colleagues were asked to find out why",
    "grace": "LAST CALL before the release",
    "paused": "paused",
    "released": "RELEASED",
    "destroyed": "destroyed",
}
# What comes when a stage begins, whoever reads it.
NEXT: Final = {
    "armed": "the pause ends",
    "reminded": "a reminder",
    "warned": "a last warning, and colleagues hear of it",
    "grace": "the last call",
    "released": "the release",
}
LACKING: Final = {
    "push": "nothing was pushed yet: afterword push",
    "proofs": "too few colleagues have proved their share: ask them to run afterword drill",
    "address": "none of your addresses is confirmed: afterword address add",
}


class Holder(msgspec.Struct, frozen=True):
    """One collaborator. `proved` in ms UTC, from their own signature, or null."""

    index: int
    label: str
    me: bool
    proved: int | None
    left: bool
    contributed: bool
    collected: bool


class Standing(msgspec.Struct, frozen=True):
    """One dossier. All times in ms UTC; `projected` holds if nobody checks in and the server keeps running."""

    dossier: str
    title: str | None
    role: Role
    journalist: str
    stage: str
    since: int
    trying: bool
    projected: tuple[wire.Projected, ...]
    k: int
    holders: tuple[Holder, ...]
    bundles: int
    pushed: int | None
    last_checkin: int | None
    released: int | None
    changes: tuple[wire.Change, ...]
    missing: tuple[str, ...]
    holds: tuple[holding.Holding, ...] = ()

    @property
    def name(self) -> str:
        return self.title or self.dossier[:8]


class Status(msgspec.Struct, frozen=True):
    """What `status` answers."""

    label: str
    role: Role
    server: str
    confirmed: int
    addresses: int
    used: int
    quota: int
    marked: bool
    dossiers: tuple[Standing, ...]
    now: int
    failing: tuple[str, ...] = ()
    history: Trouble | None = None


@click.command()
@terminal.passphrase_option
@terminal.json_option
def status(passphrase_file: Path | None, as_json: bool) -> None:
    """Where each dossier stands, and what happens next. (This is not a check-in.)"""
    with signed_in(passphrase_file) as session:
        account = session.remote.call("GET", "/account", None, wire.AccountState)
        learn_links(session.home, account.links)
        dossiers = tuple(standing(session, seen) for seen in learn_dossiers(session))
        shown = Status(
            label=session.home.card.card.label,
            role=account.role,
            server=session.home.url,
            confirmed=sum(each.confirmed for each in account.addresses),
            addresses=len(account.addresses),
            used=account.used,
            quota=account.quota,
            marked=account.marked,
            dossiers=dossiers,
            now=session.now(),
            failing=failing(account.addresses, session.now()),
            history=session.remote.trouble,
        )
    terminal.answer(shown, as_json, render)


def failing(addresses: tuple[wire.AddressState, ...], now: int) -> tuple[str, ...]:
    """My addresses that have accepted no letter for a day."""
    return tuple(
        each.address
        for each in addresses
        if each.confirmed and each.failing_since is not None and now - each.failing_since >= DAY
    )


def standing(session: Session, seen: Seen) -> Standing:
    """A dossier with its people by name."""
    home, state = session.home, seen.state
    labels = {known.card.hash.hex(): known.label for known in home.cards()}
    mine = home.card.hash.hex()
    proved = proofs(session, state.dossier)
    on_card = _labels_on_cards(home.rosters(state.dossier))
    holders = tuple(
        Holder(
            index=each.index,
            label=labels.get(each.card) or on_card.get(each.card) or each.card[:8],
            me=each.card == mine,
            proved=proved.get(each.index),
            left=each.left,
            contributed=each.contributed,
            collected=each.collected,
        )
        for each in state.collaborators
    )
    return Standing(
        dossier=state.dossier,
        title=seen.title,
        role=state.role,
        journalist=labels.get(state.journalist) or home.card.card.label,
        stage=state.stage,
        since=state.since,
        trying=state.trying,
        projected=state.projected,
        k=state.k,
        holders=holders,
        bundles=state.bundles,
        pushed=state.pushed,
        last_checkin=state.last_checkin,
        released=state.released,
        holds=holding.read(home, state),
        changes=state.changes,
        missing=state.missing,
    )


def _labels_on_cards(rosters: list[bytes]) -> dict[str, str]:
    """By card hash, what collaborators who are strangers to each other call themselves."""
    opened = statements.peek(rosters[-1]) if rosters else None
    if not isinstance(opened, statements.Roster):
        return {}
    cards = (identity.read_card(each.card.encode()) for each in opened.collaborators)
    return {card.hash.hex(): card.card.label for card in cards}


def render(shown: Status) -> str:
    lines = [f"{shown.label}, {shown.role}, at {shown.server}"]
    if not shown.confirmed:
        lines.append("NO CONFIRMED ADDRESS: no letter reaches you. Run: afterword address add ADDRESS")
    lines += [
        f"NO LETTER HAS BEEN ACCEPTED BY {each} FOR A DAY: repair it, or run: afterword address add ADDRESS"
        for each in shown.failing
    ]
    if shown.marked:
        lines.append(
            "This server was once set back to an older state. If you have not checked in and pushed since, do it now, "
            "and look at each dossier below; otherwise nothing is left to do."
        )
    if shown.quota:
        lines.append(f"{terminal.size(shown.used)} of {terminal.size(shown.quota)} used")
    for each in shown.dossiers:
        lines += ["", *_render_dossier(each, shown.now)]
    if not shown.dossiers:
        lines.append("No dossiers.")
    return "\n".join(lines)


def _render_dossier(one: Standing, now: int) -> list[str]:
    lines = [f"{one.name}: {STAGES.get(one.stage, one.stage)}, since {terminal.local(one.since)}"]

    def line(name: str, text: str) -> None:
        lines.append(f"  {name:<10} {text}")

    mine = one.role == "journalist"
    if not mine:
        line("of", one.journalist)
    if one.stage in calendar.LATE:
        line("do", "check in now: afterword checkin" if mine else "see: afterword inbox")
    if one.trying:
        line("trying", "the letter of this stage has not been accepted by any address yet")
    if one.released is not None:
        whose = "your colleagues run" if mine else "run"
        line(
            "released",
            f"{terminal.local(one.released)}; {whose}: afterword recover {one.dossier[:8]} --to DIR",
        )
    elif one.projected:
        first, last = one.projected[0], one.projected[-1]
        unless = "" if first.stage == "armed" else f", unless {'you check' if mine else 'they check'} in"
        line("next", f"{NEXT.get(first.stage, first.stage)}, {terminal.ahead(first.at, now)}{unless}")
        if last is not first and last.stage == "released":
            line(
                "release",
                f"{terminal.ahead(last.at, now)}, after silence until then, if the server keeps running",
            )
    if mine and one.pushed is not None:
        line(
            "deposited",
            f"{terminal.count(one.bundles, 'bundle')}, the newest {terminal.local(one.pushed)}",
        )
    line("check-in", terminal.local(one.last_checkin) if one.last_checkin else "none so far")
    line("shares", f"{one.k} of {len(one.holders)} needed")
    for each in one.holders:
        line("", f"{each.label}{' (you)' if each.me else ''}: {_render_holder(each)}")
    for held in holding.sentences(one.holds, now):
        line("hold", held)
    for change in one.changes:
        line("change", calendar.change_text(change, now))
        if mine:
            line("", f"to take it back: afterword cancel {one.dossier[:8]} {change.change[:16]}")
    for lacking in one.missing:
        line("missing", LACKING.get(lacking, lacking))
    return lines


def _render_holder(each: Holder) -> str:
    if each.left:
        return "has left"
    said = "never proved" if each.proved is None else f"proved {terminal.local(each.proved)}"
    if each.contributed:
        said += ", gave their share"
    if each.collected:
        said += ", has the archive"
    return said
