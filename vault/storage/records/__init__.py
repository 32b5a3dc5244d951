"""All SQL there is, as verbs the chapters use.

Rule of this room: nothing here decides anything; every write happens inside `transaction`, which advances
service time first, so that no stamp can be older than the clock it is compared with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from vault import service
from vault.clock import Clock
from vault.errors import Damaged
from vault.service import Moment, Service
from vault.storage.database import Database
from vault.storage.records.changes import Changes
from vault.storage.records.dossiers import Dossiers
from vault.storage.records.gaps import Gaps
from vault.storage.records.letters import Letters
from vault.storage.records.people import People
from vault.storage.records.switches import Switches

VITAL: Final = (
    "service",
    "server",
    "accounts",
    "addresses",
    "dossiers",
    "switches",
    "collaborators",
    "changes",
    "holds",
    "releases",
    "outbox",
)
"""What must read for anybody to be warned or released to; small, whatever people deposit."""


class Records(People, Dossiers, Changes, Switches, Letters, Gaps):
    """`tick` in ms. One per process; each thread has its own connection underneath."""

    def __init__(self, db: Database, clock: Clock, tick: int) -> None:
        super().__init__(db)
        self.clock = clock
        self.tick = tick

    @contextmanager
    def transaction(self) -> Iterator[Moment]:
        """A write transaction, durable when it ends. Yields the time as of now."""
        with self.db.transaction():
            # Both clocks are read under the write lock, so that commits and stamps have one order.
            boot_id, boot = self.clock.boot_id(), self.clock.boot()
            row = self._service_row()
            moved = service.advance(row, boot_id, boot, self.tick)
            if moved != row:
                self.save_service(moved)
            yield service.moment(moved, boot_id, boot, self.clock.wall(), self.tick)

    @contextmanager
    def reading(self) -> Iterator[Moment]:
        """One consistent view; the time in it is the row's, which may be a tick old."""
        with self.db.reading():
            row = self._service_row()
            boot_id, boot = self.clock.boot_id(), self.clock.boot()
            yield service.moment(row, boot_id, boot, self.clock.wall(), self.tick)

    def found_service(self, life: str) -> None:
        """The first row of service time, on a new database; called inside `db.transaction()`."""
        boot = self.clock.boot()
        self.save_service(
            Service(life, self.clock.boot_id(), boot, lived=0, served=0, probed=None, grown=boot, era=0)
        )

    def take_over(self, seen: Service) -> None:
        """Count on, on this host's clock; the caller has seen the row stand still, as `seen`, for three ticks. One that
        has moved since is counted on by somebody, or was taken over already."""
        with self.db.transaction():
            boot_id, boot = self.clock.boot_id(), self.clock.boot()
            row = self._service_row()
            if row == seen and not service.counts_on(row, boot_id, boot, self.tick):
                self.save_service(service.take_over(row, boot_id, boot))
                self.forget_beat()
                self.note_gap("takeover", None, row.lived, self.clock.wall())

    def note_probe(self, boot: int) -> None:
        """A request through the public door succeeded at this reading of the boot clock."""
        with self.db.transaction():
            row = self._service_row()
            # An answer by another clock says nothing on the row's, and would make it look alive to who may take over.
            if service.counts_on(row, self.clock.boot_id(), boot, self.tick):
                self.save_service(service.probed(row, self.clock.boot_id(), boot))

    def begin_new_life(self, life: str) -> None:
        """This database was set back, and nobody knows whose check-ins it lacks: as after a gap, every late stage
        begins anew. Inside a transaction; what it stamps afterwards is of this life."""
        row = self._service_row()
        self.save_service(replace(row, life=life, era=row.era + 1))

    def note_setback(self, life: str) -> None:
        """This life did not begin by an operator's hand: what a switch may have forgotten nobody has looked through."""
        self.db.run("UPDATE service SET setback = :life WHERE id = 1", life=life)

    def is_after_setback(self, life: str) -> bool:
        return (
            self.db.one("SELECT 1 AS yes FROM service WHERE id = 1 AND setback = :life", life=life)
            is not None
        )

    def end_life(self, life: str) -> None:
        """From now on, that something of this life is missing is nothing new; or that this release is, by its hash."""
        self.db.run(
            "INSERT INTO lives (life, ended) VALUES (:life, :served) ON CONFLICT (life) DO NOTHING",
            life=life,
            served=self._service_row().served,
        )

    def is_past_life(self, life: str) -> bool:
        return self.db.one("SELECT 1 AS yes FROM lives WHERE life = :life", life=life) is not None

    def life_began(self, served: int) -> int:
        """`served` at which the present life began; 0 for the first, and if it does not read."""
        row = self.db.one("SELECT MAX(ended) AS ended FROM lives WHERE ended <= :served", served=served)
        return 0 if row is None or row["ended"] is None else int(row["ended"])

    def _service_row(self) -> Service:
        row = self.service()
        if row is None:
            raise Damaged("The database has no service time; was it made by another program?")
        return row
