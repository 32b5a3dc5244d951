"""Service time: two counters that grow only while people were really served.  Spec: docs/spec/switch-v1.md.

Rule of this room: pure; `lived` and `served` never fall, and neither ever grows faster than the boot clock.
"""

from dataclasses import dataclass, replace
from typing import Final

from vault.clock import HOUR

CLAMP_TICKS: Final = 2
FRESH_TICKS: Final = 12
PROBE_TICKS: Final = 4
TAKEOVER_TICKS: Final = 3
GAP: Final = HOUR
LATEST: Final = 253_402_214_400_000
"""The last day of the year 9999, ms UTC."""


@dataclass(frozen=True, slots=True)
class Service:
    """The one durable row. `boot` names the kernel run whose clock `at`, `probed` and `grown` were read on (ms).

    `lived` and `served` in ms; `era` counts the gaps after which late stages begin anew; `life` is a random
    name that changes when a backup is restored; `stood` is what was lived since `served` last grew.
    """

    life: str
    boot: str
    at: int
    lived: int
    served: int
    probed: int | None
    grown: int
    era: int
    stood: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """What a transaction knows of time. `wall` (ms UTC) is for people's eyes only.

    `exact` is false when this host may not advance the row; stamps are then rounded up, which lengthens
    every dwell that begins here.
    """

    life: str
    lived: int
    served: int
    era: int
    wall: int
    tick: int
    exact: bool

    @property
    def stamp(self) -> int:
        """`served` for the beginning of a dwell: never earlier than the truth."""
        return self.served if self.exact else self.served + CLAMP_TICKS * self.tick

    def project(self, served: int) -> int:
        """The wall time (ms UTC) at which `served` will be reached, if the server keeps running."""
        return self.wall + served - self.served


def counts_on(service: Service, boot_id: str, boot: int, tick: int) -> bool:
    """Whether the row was counted on the clock that shows `boot`. One of the same name that is behind it by more than
    a look adds is another clock: of a container with a time of its own, of a process that was frozen and thawed."""
    return service.boot == boot_id and boot >= service.at - CLAMP_TICKS * tick


def advance(service: Service, boot_id: str, boot: int, tick: int) -> Service:
    """The row after this host looked at its own boot clock; unchanged by any other clock than the row's."""
    if not counts_on(service, boot_id, boot, tick):
        return service
    grown_by = min(max(boot - service.at, 0), CLAMP_TICKS * tick)
    moved = replace(
        service,
        at=max(boot, service.at),
        lived=service.lived + grown_by,
        stood=service.stood + grown_by,
    )
    if not grown_by or service.probed is None or boot - service.probed > FRESH_TICKS * tick:
        return moved
    stood_still = boot - service.grown > GAP
    return replace(
        moved,
        served=service.served + grown_by,
        grown=boot,
        stood=0,
        era=service.era + 1 if stood_still else service.era,
    )


def take_over(service: Service, boot_id: str, boot: int) -> Service:
    """Another host, or the same after a restart, counts on from where the row stood, adding nothing."""
    return replace(service, boot=boot_id, at=boot, probed=None, grown=boot, era=service.era + 1)


def probed(service: Service, boot_id: str, boot: int) -> Service:
    """A request through the public door succeeded at `boot`."""
    if service.boot != boot_id:
        return service
    return replace(service, probed=boot if service.probed is None else max(boot, service.probed))


def moment(service: Service, boot_id: str, boot: int, wall: int, tick: int) -> Moment:
    """`wall` may say anything; what no statement and no calendar can bear is brought to the nearest that they can, lest
    a broken battery keep a server from acknowledging or releasing."""
    return Moment(
        life=service.life,
        lived=service.lived,
        served=service.served,
        era=service.era,
        wall=min(max(wall, 0), LATEST),
        tick=tick,
        exact=counts_on(service, boot_id, boot, tick),
    )
