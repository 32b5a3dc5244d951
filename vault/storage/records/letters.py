"""SQL about the outbox: rows that remember a letter until it has arrived."""

from collections.abc import Iterable

from vault.storage.records.rows import Letter, Rows


class Letters(Rows):
    def add_letter(self, letter: Letter) -> None:
        self._insert("outbox", letter)

    def letter(self, letter: str) -> Letter | None:
        return self._one(Letter, "SELECT * FROM outbox WHERE id = :id", id=letter)

    def due_letters(self, lived: int, limit: int) -> list[Letter]:
        """In turns, one journalist's letter after another's: a thousand of one, however slowly each is taken, must
        not stand before the one of somebody else."""
        return self._all(
            Letter,
            "SELECT * FROM (SELECT o.*, ROW_NUMBER() OVER (PARTITION BY COALESCE(d.journalist, o.account) "
            "ORDER BY o.next, o.id) AS turn FROM outbox o LEFT JOIN dossiers d ON d.id = o.dossier "
            "WHERE o.state = 'waiting' AND o.next <= :lived AND o.lease <= :lived) AS due "
            "ORDER BY turn, next, id LIMIT :limit",
            lived=lived,
            limit=limit,
        )

    def claim_letter(self, letter: Letter, until: int) -> int:
        """0 when another deliverer was first."""
        return self.db.run(
            "UPDATE outbox SET lease = :until WHERE id = :id AND state = 'waiting' AND lease = :seen",
            id=letter.id,
            until=until,
            seen=letter.lease,
        )

    def unclaim_letter(self, letter: Letter) -> None:
        self.db.run(
            "UPDATE outbox SET lease = 0 WHERE id = :id AND state = 'waiting' AND lease = :lease",
            id=letter.id,
            lease=letter.lease,
        )

    def settle_letter(self, letter: str, state: str, lived: int, reason: str | None = None) -> int:
        return self.db.run(
            "UPDATE outbox SET state = :state, settled = :lived, reason = :reason, attempts = attempts + 1, lease = 0 "
            "WHERE id = :id AND state = 'waiting'",
            id=letter,
            state=state,
            lived=lived,
            reason=reason,
        )

    def settle_late(self, letter: str, lived: int) -> int:
        """A letter that was withdrawn while somebody carried it, and was accepted."""
        return self.db.run(
            "UPDATE outbox SET state = 'accepted', settled = :lived, attempts = attempts + 1 "
            "WHERE id = :id AND state = 'withdrawn'",
            id=letter,
            lived=lived,
        )

    def retry_letter(self, letter: str, next: int, reason: str) -> int:
        return self.db.run(
            "UPDATE outbox SET attempts = attempts + 1, next = :next, lease = 0, reason = :reason "
            "WHERE id = :id AND state = 'waiting'",
            id=letter,
            next=next,
            reason=reason,
        )

    def withdraw_letters(self, dossier: str, kinds: Iterable[str], lived: int) -> None:
        for kind in kinds:
            self.db.run(
                "UPDATE outbox SET state = 'withdrawn', settled = :lived "
                "WHERE dossier = :dossier AND state = 'waiting' AND kind = :kind",
                dossier=dossier,
                kind=kind,
                lived=lived,
            )

    def withdraw_letters_about(self, letter: str, kind: str, lived: int) -> None:
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived "
            "WHERE letter = :letter AND kind = :kind AND state = 'waiting'",
            letter=letter,
            kind=kind,
            lived=lived,
        )

    def letters_about(self, letter: str, kind: str) -> list[tuple[str | None, str]]:
        """(account, state) of every letter of one kind that bears this name."""
        return [
            (row["account"], str(row["state"]))
            for row in self.db.all(
                "SELECT account, state FROM outbox WHERE letter = :letter AND kind = :kind",
                letter=letter,
                kind=kind,
            )
        ]

    def withdraw_letters_to(self, address: str, lived: int) -> None:
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived WHERE address = :address AND state = 'waiting'",
            address=address,
            lived=lived,
        )

    def withdraw_releases_to(self, dossier: str, account: str, lived: int) -> None:
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived "
            "WHERE dossier = :dossier AND account = :account AND state = 'waiting' AND kind = 'release'",
            dossier=dossier,
            account=account,
            lived=lived,
        )

    def accepted_letters(self, dossier: str, climb: int) -> list[Letter]:
        return self._all(
            Letter,
            "SELECT * FROM outbox WHERE dossier = :dossier AND state = 'accepted' AND climb = :climb "
            "ORDER BY posted, id",
            dossier=dossier,
            climb=climb,
        )

    def has_letter(self, dossier: str, address: str, kind: str) -> bool:
        return (
            self.db.one(
                "SELECT 1 AS yes FROM outbox WHERE dossier = :dossier AND address = :address AND kind = :kind LIMIT 1",
                dossier=dossier,
                address=address,
                kind=kind,
            )
            is not None
        )

    def count_letters_to(self, account: str, kind: str, since: int) -> int:
        """Letters of one kind to one account's addresses, posted after this `lived`."""
        row = self.db.one(
            "SELECT COUNT(*) AS many FROM outbox WHERE account = :account AND kind = :kind AND posted > :since",
            account=account,
            kind=kind,
            since=since,
        )
        return 0 if row is None else int(row["many"])

    def forget_letters(self, kind: str, before: int) -> None:
        """Those of one kind that were settled before this `lived`."""
        self.db.run(
            "DELETE FROM outbox WHERE kind = :kind AND state <> 'waiting' AND settled < :before",
            kind=kind,
            before=before,
        )

    def count_letters(self) -> dict[str, int]:
        return {
            str(row["state"]): int(row["many"])
            for row in self.db.all("SELECT state, COUNT(*) AS many FROM outbox GROUP BY state ORDER BY state")
        }

    def oldest_waiting(self) -> int | None:
        """`lived` at which the oldest letter still waiting was posted."""
        row = self.db.one("SELECT MIN(posted) AS posted FROM outbox WHERE state = 'waiting'")
        return None if row is None or row["posted"] is None else int(row["posted"])
