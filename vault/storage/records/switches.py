"""SQL about switches and about service time."""

from typing import Final

from vault import stages
from vault.errors import Damaged, StaleVersion
from vault.service import Service
from vault.storage.records.rows import Hold, Row, Rows, ShownHold, Wave, adds_up
from vault.switch import Stage, Switch

# As in the migration that made the sums: a bit that flips in one of these would move a switch at the wrong time.
_SERVICE: Final = {"at": 3, "lived": 5, "served": 7, "probed": 11, "grown": 13, "era": 17, "stood": 19}
_SWITCH: Final = {
    "version": 5,
    "every": 7,
    "remind": 11,
    "warn": 13,
    "grace": 17,
    "entered": 19,
    "due": 23,
    "trying": 29,
    "era": 31,
    "renewals": 37,
    "ladder": 41,
    "pause": 43,
    "held": 47,
    "holds": 53,
    "crowd": 59,
}


class Versioned(Row, frozen=True):
    """A switch as it was loaded, and the version it must still have when it is saved. `begun`: in which life of the
    server its ladder began, `anew`: in which it was last given all its time again; whatever does not read is none."""

    dossier: str
    switch: Switch
    version: int
    since: int
    begun: str | None = None
    anew: str | None = None


class Server(Row, frozen=True):
    """The one row about the server itself; `tally` numbers its letters, `key_copied` is ms UTC, `url` the address that
    the world knows it by."""

    keyring: bytes
    card: bytes
    key_recipient: str
    key_copied: int | None
    tally: int
    url: str | None = None


class Switches(Rows):
    def add_switch(self, dossier: str, new: Switch, wall: int) -> None:
        columns = stages.write_switch(new)
        names = list(columns)
        self.db.run(
            f"INSERT INTO switches (dossier, version, since, {', '.join(names)}) "  # noqa: S608 names are ours
            f"VALUES (:dossier, 1, :wall, {', '.join(':' + name for name in names)})",
            dossier=dossier,
            wall=wall,
            **columns,
        )

    def switch(self, dossier: str) -> Versioned:
        row = self.db.one("SELECT * FROM switches WHERE dossier = :id", id=dossier)
        if row is None:
            raise Damaged(f"Dossier {dossier} has no switch; it stands still until the operator restores it.")
        version, since = row["version"], row["since"]
        if type(version) is not int or type(since) is not int or not adds_up(row, _SWITCH, "stage"):
            raise Damaged(f"The switch of dossier {dossier} does not read; it stands still until restored.")
        begun, anew = (row[name] if isinstance(row[name], str) else None for name in ("begun", "anew"))
        return Versioned(dossier, stages.read_switch(dict(row)), version, since, begun, anew)

    def save_switch(self, seen: Versioned, after: Switch, wall: int) -> None:
        columns = stages.write_switch(after)
        moved = self.db.run(
            "UPDATE switches SET version = version + 1, since = :since, "  # noqa: S608 names are ours
            + ", ".join(f"{name} = :{name}" for name in columns)
            + " WHERE dossier = :dossier AND version = :seen",
            dossier=seen.dossier,
            seen=seen.version,
            since=seen.since if after.stage is seen.switch.stage else wall,
            **columns,
        )
        if moved != 1:
            raise StaleVersion(f"Dossier {seen.dossier} was moved by somebody else in between; try again.")

    def note_ladder(self, dossier: str, life: str) -> None:
        """This switch has its whole ladder before it, as of this life of the server."""
        self.db.run("UPDATE switches SET begun = :life WHERE dossier = :dossier", life=life, dossier=dossier)

    def note_anew(self, dossier: str, life: str) -> None:
        """This switch was given all its time again in this life of the server."""
        self.db.run("UPDATE switches SET anew = :life WHERE dossier = :dossier", life=life, dossier=dossier)

    def due_switches(
        self, served: int, limit: int, after: tuple[int, str] = (-1, "")
    ) -> list[tuple[int, str]]:
        """`(due, dossier)` of switches whose time has come, in that order, from behind `after` on."""
        return [
            (int(row["due"]), str(row["dossier"]))
            for row in self.db.all(
                "SELECT due, dossier FROM switches WHERE due IS NOT NULL AND due <= :served "
                "AND (due > :due OR (due = :due AND dossier > :dossier)) ORDER BY due, dossier LIMIT :limit",
                served=served,
                due=after[0],
                dossier=after[1],
                limit=limit,
            )
        ]

    def switches_out_of_time(self, limit: int) -> list[str]:
        """Switches whose `due` is no number: a damaged value that no time would ever reach."""
        return [
            str(row["dossier"])
            for row in self.db.all(
                "SELECT dossier FROM switches WHERE due > :most ORDER BY due LIMIT :limit",
                most=2**63 - 1,
                limit=limit,
            )
        ]

    def switches_behind(
        self, era: int, limit: int, after: tuple[int, str] = (-1, "")
    ) -> list[tuple[int, str]]:
        """`(era, dossier)` of late switches that have not taken note of the newest gap, from behind `after` on."""
        return [
            (int(row["era"]), str(row["dossier"]))
            for row in self.db.all(
                "SELECT era, dossier FROM switches WHERE stage IN ('reminded', 'warned', 'grace') AND era < :era "
                "AND (era > :last OR (era = :last AND dossier > :dossier)) ORDER BY era, dossier LIMIT :limit",
                era=era,
                last=after[0],
                dossier=after[1],
                limit=limit,
            )
        ]

    def is_late(self, journalist: str) -> bool:
        """Whether any switch of hers waits for a check-in that is overdue."""
        return (
            self.db.one(
                "SELECT 1 AS yes FROM switches s JOIN dossiers d ON d.id = s.dossier WHERE d.journalist = :id "
                "AND s.stage IN ('reminded', 'warned', 'grace') LIMIT 1",
                id=journalist,
            )
            is not None
        )

    def switches_in(self, *stages: Stage) -> list[str]:
        return [
            str(row["dossier"])
            for stage in stages
            for row in self.db.all("SELECT dossier FROM switches WHERE stage = :stage", stage=stage.value)
        ]

    def unswept_dossiers(self, lived: int, limit: int) -> list[tuple[str, int]]:
        """`(dossier, swept)` of some destroyed dossiers that are to be cleared away by now and have no objects left:
        `swept` is the `lived` from which on it is time."""
        return [
            (str(row["dossier"]), int(row["swept"]))
            for row in self.db.all(
                "SELECT dossier, swept FROM switches WHERE stage = 'destroyed' AND swept >= 0 AND swept <= :lived "
                "AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.dossier = switches.dossier) "
                "ORDER BY swept, dossier LIMIT :limit",
                lived=lived,
                limit=limit,
            )
        ]

    def note_swept(self, dossier: str, seen: int, again: int | None) -> None:
        """It was cleared away; `again` from this `lived` on, or never."""
        self.db.run(
            "UPDATE switches SET swept = :again WHERE dossier = :dossier AND swept = :seen",
            dossier=dossier,
            seen=seen,
            again=-1 if again is None else again,
        )

    def count_stages(self) -> dict[str, int]:
        return {
            str(row["stage"]): int(row["many"])
            for row in self.db.all(
                "SELECT stage, COUNT(*) AS many FROM switches GROUP BY stage ORDER BY stage"
            )
        }

    # holds

    def add_hold(self, hold: Hold) -> None:
        self._insert("holds", hold)

    def holds_of(self, dossier: str, ladder: int) -> list[Hold]:
        """Those of one climb that read, in the order in which they were signed."""
        return self._readable(
            Hold,
            "SELECT * FROM holds WHERE dossier = :id AND ladder = :ladder ORDER BY asked, hash",
            id=dossier,
            ladder=ladder,
        )

    def newest_holds(self, dossier: str, ladder: int, limit: int) -> list[ShownHold]:
        """The newest of one climb that read, with their signatures, the newest first."""
        return self._readable(
            ShownHold,
            "SELECT h.hash, a.card_hash AS card, h.because, h.asked, h.until, h.wall, s.envelope AS statement "
            "FROM holds h JOIN accounts a ON a.id = h.account JOIN statements s ON s.hash = h.hash "
            "WHERE h.dossier = :id AND h.ladder = :ladder ORDER BY h.asked DESC, h.hash LIMIT :limit",
            id=dossier,
            ladder=ladder,
            limit=limit,
        )

    def begin_hold(self, hash: str, until: int) -> None:
        """A second signature has come for this one."""
        self.db.run("UPDATE holds SET until = :until WHERE hash = :hash", hash=hash, until=until)

    # many at once: each of these reads no more rows than it says

    def count_newly_late(self, since: int) -> int:
        """How many fell silent after this `served`, and still are in the first stage of it."""
        row = self.db.one(
            "SELECT COUNT(*) AS many FROM switches WHERE stage = 'reminded' AND renewals = 0 "
            "AND crowd IN (0, 1) AND entered > :since",
            since=since,
        )
        return 0 if row is None else int(row["many"])

    def count_armed(self, most: int) -> int:
        """How many are armed, counted no further than `most`."""
        row = self.db.one(
            "SELECT COUNT(*) AS many FROM (SELECT 1 FROM switches WHERE stage = 'armed' LIMIT :most) AS some",
            most=most,
        )
        return 0 if row is None else int(row["many"])

    def newly_late(self, since: int, limit: int) -> list[str]:
        """Some of those that `count_newly_late` counts, and that nobody has marked."""
        return [
            str(row["dossier"])
            for row in self.db.all(
                "SELECT dossier FROM switches WHERE stage = 'reminded' AND renewals = 0 AND crowd = 0 "
                "AND entered > :since ORDER BY entered LIMIT :limit",
                since=since,
                limit=limit,
            )
        ]

    def newest_wave(self) -> Wave | None:
        return self._one(Wave, "SELECT * FROM waves ORDER BY number DESC LIMIT 1")

    def last_wave(self) -> int:
        row = self.db.one("SELECT MAX(number) AS number FROM waves")
        return 0 if row is None or row["number"] is None else int(row["number"])

    def count_crowd(self) -> int:
        """How many who fell silent with many others still are."""
        row = self.db.one(
            "SELECT COUNT(*) AS many FROM switches WHERE stage IN ('reminded', 'warned', 'grace') AND crowd > 0"
        )
        return 0 if row is None else int(row["many"])

    def save_wave(self, wave: Wave) -> None:
        self.db.run(
            "INSERT INTO waves (number, many, last, waited, wall) VALUES (:number, :many, :last, :waited, :wall) "
            "ON CONFLICT (number) DO UPDATE SET many = :many, last = :last, waited = :waited, wall = :wall",
            **{name: getattr(wave, name) for name in Wave.__struct_fields__},
        )

    # service time

    def service(self) -> Service | None:
        # What alarms remember stands in the same row; if that does not read, time goes on.
        row = self.db.one(
            "SELECT life, boot, at, lived, served, probed, grown, era, stood, total FROM service WHERE id = 1"
        )
        if row is None:
            return None
        if not adds_up(row, _SERVICE):
            raise Damaged("The row of service time does not add up; restore the database from a backup.")
        try:
            return Service(**{name: row[name] for name in Service.__slots__})
        except (TypeError, KeyError, IndexError) as wrong:
            raise Damaged(
                "The row of service time does not read; restore the database from a backup."
            ) from wrong

    def save_service(self, service: Service) -> None:
        self.db.run(
            "INSERT INTO service (id, life, boot, at, lived, served, probed, grown, era, stood) "
            "VALUES (1, :life, :boot, :at, :lived, :served, :probed, :grown, :era, :stood) "
            "ON CONFLICT (id) DO UPDATE SET "
            "life = :life, boot = :boot, at = :at, lived = :lived, served = :served, probed = :probed, "
            "grown = :grown, era = :era, stood = :stood",
            **{name: getattr(service, name) for name in Service.__slots__},
        )

    def save_beat(self, boot: int) -> None:
        """The watch of the row's host ticked at this reading of its boot clock."""
        self.db.run("UPDATE service SET beat = :boot WHERE id = 1", boot=boot)

    def last_beat(self) -> int | None:
        row = self.db.one("SELECT beat FROM service WHERE id = 1")
        return None if row is None or row["beat"] is None else int(row["beat"])

    # the server itself

    def server(self) -> Server | None:
        return self._one(
            Server, "SELECT keyring, card, key_recipient, key_copied, tally, url FROM server WHERE id = 1"
        )

    def add_server(self, server: Server) -> None:
        self.db.run(
            "INSERT INTO server (id, keyring, card, key_recipient, key_copied, tally) "
            "VALUES (1, :keyring, :card, :recipient, NULL, 0)",
            keyring=server.keyring,
            card=server.card,
            recipient=server.key_recipient,
        )

    def confirm_key_copy(self, wall: int) -> None:
        self.db.run("UPDATE server SET key_copied = :wall WHERE id = 1", wall=wall)

    def save_url(self, url: str | None) -> None:
        self.db.run("UPDATE server SET url = :url WHERE id = 1", url=url)
