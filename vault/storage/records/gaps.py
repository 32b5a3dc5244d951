"""SQL about what the watch remembers of its server's own trouble: alarms, gaps, and who still beats."""

from typing import Final

from vault.storage.records.rows import Letter, Row, Rows

KEPT: Final = 100


class Vigil(Row, frozen=True):
    """What the watch has noticed and whom it has told.

    Beats are readings: `beat` of the boot clock, `delivered` and `pulse` (an outside watcher heard that all is well)
    of `lived`. `alarm` is one of vault.alarms.Alarm, `outage` the gap it is about, `told` the account or address up to
    which it has been written to. `lead` is wall minus boot as it was on the boot `lead_boot`.
    """

    beat: int | None
    delivered: int | None
    pulse: int | None
    alarm: int
    outage: int
    told: str
    lead: int | None
    lead_boot: str | None


class Gap(Row, frozen=True):
    """Something that should not happen to time. `length` in ms, null while it lasts or when nobody can know it;
    of kind `wall` it is signed. `lived` and `wall` are of when it was noticed."""

    number: int
    kind: str
    length: int | None
    lived: int
    wall: int


class Gaps(Rows):
    def vigil(self) -> Vigil | None:
        return self._one(
            Vigil,
            "SELECT beat, delivered, pulse, alarm, outage, told, lead, lead_boot FROM service WHERE id = 1",
        )

    def save_alarm(self, seen: Vigil, alarm: int, outage: int, told: str) -> int:
        """0 when another watch was first."""
        return self.db.run(
            "UPDATE service SET alarm = :alarm, outage = :outage, told = :told "
            "WHERE id = 1 AND alarm = :seen AND told = :seen_told",
            alarm=alarm,
            outage=outage,
            told=told,
            seen=seen.alarm,
            seen_told=seen.told,
        )

    def save_lead(self, lead: int, boot_id: str) -> None:
        self.db.run(
            "UPDATE service SET lead = :lead, lead_boot = :boot WHERE id = 1", lead=lead, boot=boot_id
        )

    def save_delivery(self, lived: int) -> None:
        """The deliverer looked for letters, whether or not there were any."""
        self.db.run("UPDATE service SET delivered = :lived WHERE id = 1", lived=lived)

    def save_pulse(self, lived: int) -> None:
        self.db.run("UPDATE service SET pulse = :lived WHERE id = 1", lived=lived)

    def forget_beat(self) -> None:
        """The one there is was read on another boot clock."""
        self.db.run("UPDATE service SET beat = NULL WHERE id = 1")

    def note_gap(self, kind: str, length: int | None, lived: int, wall: int) -> int:
        """Its number. Of each kind the newest hundred are kept, and whatever still lasts."""
        row = self.db.one("SELECT COALESCE(MAX(number), 0) + 1 AS next FROM gaps")
        number = 1 if row is None else int(row["next"])
        self.db.run(
            "INSERT INTO gaps (number, kind, length, lived, wall) VALUES (:number, :kind, :length, :lived, :wall)",
            number=number,
            kind=kind,
            length=length,
            lived=lived,
            wall=wall,
        )
        self.db.run(
            "DELETE FROM gaps WHERE kind = :kind AND number <> (SELECT outage FROM service WHERE id = 1) "
            "AND number <= (SELECT number FROM gaps WHERE kind = :kind ORDER BY number DESC LIMIT 1 OFFSET :kept)",
            kind=kind,
            kept=KEPT,
        )
        return number

    def end_gap(self, number: int, length: int) -> None:
        self.db.run("UPDATE gaps SET length = :length WHERE number = :number", number=number, length=length)

    def gap(self, number: int) -> Gap | None:
        return self._one(Gap, "SELECT * FROM gaps WHERE number = :number", number=number)

    def gaps(self, limit: int = KEPT) -> list[Gap]:
        """The newest first."""
        return self._all(Gap, "SELECT * FROM gaps ORDER BY number DESC LIMIT :limit", limit=limit)

    def newest_gap(self, kind: str) -> Gap | None:
        return self._one(Gap, "SELECT * FROM gaps WHERE kind = :kind ORDER BY number DESC LIMIT 1", kind=kind)

    def concerned(self, after: str, limit: int) -> list[str]:
        """Accounts, from behind `after` on, that a switch which could still run is of or for."""
        running = "('armed', 'reminded', 'warned', 'grace', 'paused')"
        return [
            str(row["id"])
            for row in self.db.all(
                "SELECT a.id FROM accounts a WHERE a.id > :after AND ("  # noqa: S608 the stages are ours
                "EXISTS (SELECT 1 FROM dossiers d JOIN switches s ON s.dossier = d.id "
                f"WHERE d.journalist = a.id AND s.stage IN {running}) OR "
                "EXISTS (SELECT 1 FROM collaborators c JOIN switches s ON s.dossier = c.dossier "
                f"WHERE c.account = a.id AND c.has_left = 0 AND s.stage IN {running})) ORDER BY a.id LIMIT :limit",
                after=after,
                limit=limit,
            )
        ]

    def withdraw_named(self, letter: str, lived: int) -> None:
        """What has not arrived of every letter that bears this name."""
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived WHERE letter = :letter AND state = 'waiting' "
            "AND kind IN ('change-asked', 'outage', 'outage-over', 'operator-trouble')",
            letter=letter,
            lived=lived,
        )

    def addresses_told(self, letter: str, kind: str, after: str, limit: int) -> list[str]:
        """Addresses, from behind `after` on, that accepted a letter of this kind and name."""
        return [
            str(row["address"])
            for row in self.db.all(
                "SELECT DISTINCT address FROM outbox WHERE letter = :letter AND kind = :kind AND state = 'accepted' "
                "AND kind IN ('change-asked', 'outage', 'outage-over', 'operator-trouble') "
                "AND address > :after ORDER BY address LIMIT :limit",
                letter=letter,
                kind=kind,
                after=after,
                limit=limit,
            )
        ]

    def has_named(self, letter: str, address: str, kind: str) -> bool:
        return (
            self.db.one(
                "SELECT 1 AS yes FROM outbox WHERE letter = :letter AND kind = :kind AND address = :address "
                "AND kind IN ('change-asked', 'outage', 'outage-over', 'operator-trouble') LIMIT 1",
                letter=letter,
                kind=kind,
                address=address,
            )
            is not None
        )

    def operator_letters(self, letter: str) -> list[Letter]:
        """Those that read."""
        return self._readable(
            Letter,
            "SELECT * FROM outbox WHERE letter = :letter AND kind = 'operator-trouble' "
            "AND kind IN ('change-asked', 'outage', 'outage-over', 'operator-trouble') ORDER BY posted, id",
            letter=letter,
        )

    def oldest_due(self, lived: int) -> int | None:
        """`lived` at which the letter was due that nobody has carried for longest."""
        row = self.db.one(
            "SELECT MIN(next) AS next FROM outbox WHERE state = 'waiting' AND next <= :lived", lived=lived
        )
        return None if row is None or row["next"] is None else int(row["next"])
