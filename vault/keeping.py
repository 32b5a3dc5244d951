"""What an operator keeps an eye on: state at a glance, accounts, and that the key has a copy.

Rule of this room: nothing in here moves a switch; what is shown is of one moment, read in one transaction.
"""

from typing import Final

import msgspec

from vault import alarms, channels, crowds, identity, ledger
from vault.custodian import Custodian
from vault.errors import Damaged, NotFound
from vault.storage.objects import Objects
from vault.storage.records import Records
from vault.storage.records.gaps import Gap
from vault.storage.records.rows import Account

_SHOWN: Final = 100


class Glance(msgspec.Struct, frozen=True):
    """`operator status`. Times in ms. `wrong`: what is so just now, as the codes of `doctor`. `tick_age`: since the
    watch itself ticked; null when it never did here, or when another host keeps the time.

    `stood`: how long nobody was served, while the watch ticked. `delivered_age`, `pulse_age`: since a deliverer, an
    outside watcher was last heard of, in `lived`. `drift`: how far the clock on the wall has gone off since this boot.
    Accounts: `failing` have an address that accepted nothing for a day, `unreachable` have no address and something
    released to collect. `mail_still`: how long nobody's letter has been accepted, once it is a day.
    `crowd`: how many fell silent together in the last two weeks, `crowd_age` how long ago the last of them did, in
    `served`; `crowd_waited`: a release of theirs has waited. `standing`: slow changes that do not read.
    """

    life: str
    lived: int
    served: int
    tick_age: int | None
    probed_age: int | None
    accounts: int
    stages: dict[str, int]
    letters: dict[str, int]
    oldest_letter: int | None
    overdue: tuple[str, ...]
    marked: tuple[str, ...]
    free: int
    key_copied: int | None
    url: str | None
    stood: int
    alarm: int
    delivered_age: int | None
    pulse_age: int | None
    drift: int | None
    gaps: tuple[Gap, ...]
    failing: tuple[str, ...]
    unreachable: tuple[str, ...]
    mail_still: int | None
    crowd: int | None = None
    crowd_age: int | None = None
    crowd_waited: bool = False
    standing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


class Held(msgspec.Struct, frozen=True):
    """One line of `operator accounts`. `addresses`: how many are confirmed, `failing`: how many of these have accepted
    nothing for a day."""

    id: str
    label: str
    role: str
    quota: int
    used: int
    dossiers: int
    addresses: int
    failing: int
    checked_in: int | None
    marked: bool


def glance(records: Records, objects: Objects, mail: bool = False) -> Glance:
    """`mail`: letters are meant to go out from here."""
    with records.reading() as now:
        row = records.service()
        server = records.server()
        seen = records.vigil()
        if row is None or server is None or seen is None:
            raise Damaged("The rows about the server itself are gone; restore a backup.")
        here = now.exact
        boot = records.clock.boot()
        people = records.accounts()
        oldest = records.oldest_waiting(now.lived)
        ahead = alarms.lead(records.clock) if here else None
        wave = crowds.newest(records, now)
        standing = records.standing_changes()
        return Glance(
            life=now.life,
            lived=now.lived,
            served=now.served,
            tick_age=alarms.beat_age(records.clock, row, seen.beat),
            probed_age=boot - row.probed if here and row.probed is not None else None,
            accounts=len(people),
            stages=records.count_stages(),
            letters=records.count_letters(),
            oldest_letter=None if oldest is None else now.lived - oldest,
            overdue=tuple(
                dossier
                for _, dossier in records.due_switches(now.served - alarms.LATE_TICKS * records.tick, 100)
            ),
            marked=tuple(each.id for each in people if each.marked),
            free=objects.free(),
            key_copied=server.key_copied,
            failing=tuple(records.failing_accounts(now.lived - channels.SHOUTS_AFTER, _SHOWN)),
            unreachable=tuple(records.unreachable_readers(_SHOWN)),
            mail_still=channels.standstill(records, now),
            crowd=None if wave is None else wave.many,
            crowd_age=None if wave is None else now.served - wave.last,
            crowd_waited=wave is not None and wave.waited is not None,
            url=server.url,
            stood=row.stood,
            alarm=seen.alarm,
            delivered_age=None if seen.delivered is None else now.lived - seen.delivered,
            pulse_age=None if seen.pulse is None else now.lived - seen.pulse,
            drift=None
            if ahead is None or seen.lead is None or seen.lead_boot != row.boot
            else ahead - seen.lead,
            gaps=tuple(records.gaps()),
            standing=tuple(standing),
            wrong=(
                *alarms.ailing(records, now, mail),
                *(() if mail else ("no-mail",)),
                *(("change-stands-still",) if standing else ()),
            ),
        )


def list_accounts(records: Records, custodian: Custodian) -> list[Held]:
    with records.reading() as now:
        a_day_ago = now.lived - channels.SHOUTS_AFTER
        return [_held(records, custodian, a_day_ago, each) for each in records.accounts()]


def _held(records: Records, custodian: Custodian, a_day_ago: int, account: Account) -> Held:
    addresses = records.confirmed_addresses_of(account.id)
    return Held(
        id=account.id,
        label=identity.read_card(custodian.wake(account.card)).card.label,
        role="journalist" if account.journalist else "collaborator",
        quota=account.quota,
        used=account.used,
        dossiers=len(records.dossiers_of(account.id)),
        addresses=len(addresses),
        failing=sum(each.failing_lived is not None and each.failing_lived <= a_day_ago for each in addresses),
        checked_in=account.checked_in,
        marked=bool(account.marked),
    )


def set_quota(records: Records, account: str, quota: int) -> None:
    with records.transaction() as now:
        if records.set_quota(account, quota) != 1:
            raise NotFound("There is no such account; `afterword operator accounts` lists them.")
        ledger.note(records, now, account, "quota", size=quota)


def confirm_key_copy(records: Records) -> None:
    with records.transaction() as now:
        records.confirm_key_copy(now.wall)
