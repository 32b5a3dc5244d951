"""SQL about the outbox: rows that remember a letter until it has arrived."""

import logging
from collections.abc import Iterable
from typing import Final

from vault.clock import HOUR
from vault.errors import Damaged, DiskFailed
from vault.storage.records.rows import Letter, Rows, Settled

NAMED: Final = "kind IN ('change-asked', 'outage', 'outage-over', 'operator-trouble')"
"""Letters that are looked for by their name, in the words of the index that finds them."""

log = logging.getLogger("afterword.outbox")


class Letters(Rows):
    def add_letter(self, letter: Letter) -> None:
        self._insert("outbox", letter)

    def letter(self, letter: str) -> Letter | None:
        return self._one(Letter, "SELECT * FROM outbox WHERE id = :id", id=letter)

    def due_letters(self, lived: int, limit: int) -> list[Letter]:
        """Those that have been due for longest. One that does not read is put aside, lest it hold up all the others."""
        return self._legible(
            "SELECT * FROM outbox WHERE state = 'waiting' AND next <= :lived AND lease <= :lived "
            "ORDER BY next LIMIT :limit",
            lived,
            limit=limit,
        )

    def lanes_due(self, after: str, lived: int, most: int, limit: int) -> tuple[list[str], str]:
        """Of the next `most` lanes with waiting letters up to `limit` that have one due, and where to go on: empty,
        from the beginning. From lane to lane by the index, whatever number of letters each has."""
        try:
            return self._lanes_due(after, lived, most, limit)
        except DiskFailed:
            raise
        except Damaged:
            return [], ""  # the one that does not read will be put aside when it has been due for longest

    def _lanes_due(self, after: str, lived: int, most: int, limit: int) -> tuple[list[str], str]:
        rows = self.db.all(
            "WITH RECURSIVE lanes (lane, place) AS ("
            "SELECT MIN(lane), 1 FROM outbox WHERE state = 'waiting' AND lane > :after UNION ALL "
            "SELECT (SELECT MIN(lane) FROM outbox WHERE state = 'waiting' AND lane > lanes.lane), place + 1 "
            "FROM lanes WHERE lane IS NOT NULL AND place < :most) "
            "SELECT lane, place FROM lanes WHERE lane IS NOT NULL AND (place = :most OR EXISTS ("
            "SELECT 1 FROM outbox WHERE state = 'waiting' AND lane = lanes.lane AND next <= :lived "
            "AND lease <= :lived)) LIMIT :limit",
            after=after,
            lived=lived,
            most=most,
            limit=limit,
        )
        whole = not rows or (len(rows) < limit and rows[-1]["place"] < most)
        return [str(row["lane"]) for row in rows], "" if whole else str(rows[-1]["lane"])

    def first_due(self, lane: str, lived: int) -> Letter | None:
        found = self._legible(
            "SELECT * FROM outbox WHERE state = 'waiting' AND lane = :lane AND next <= :lived AND lease <= :lived "
            "ORDER BY next LIMIT 1",
            lived,
            lane=lane,
        )
        return found[0] if found else None

    def _legible(self, sql: str, lived: int, **params: int | str) -> list[Letter]:
        found = self._each(Letter, sql, lived=lived, **params)
        # From the last place on, so that the others keep theirs.
        for place in reversed([place for place, letter in enumerate(found) if letter is None]):
            log.error("a letter does not read; it is put aside for an hour")
            self.db.run(
                "UPDATE outbox SET lease = :until, lane = NULL "  # noqa: S608 our own
                f"WHERE id = (SELECT id FROM ({sql}) AS them LIMIT 1 OFFSET :place)",
                until=lived + HOUR,
                lived=lived,
                place=place,
                **params,
            )
        return [letter for letter in found if letter is not None]

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

    def retry_letter(self, letter: Letter, next: int, reason: str) -> int:
        """0 when it is settled by now, or somebody else's."""
        return self.db.run(
            "UPDATE outbox SET attempts = attempts + 1, next = :next, lease = 0, reason = :reason "
            "WHERE id = :id AND state = 'waiting' AND lease = :lease",
            id=letter.id,
            next=next,
            reason=reason,
            lease=letter.lease,
        )

    def put_off_letter(self, letter: Letter, next: int) -> int:
        """Later, and it does not count as an attempt."""
        return self.db.run(
            "UPDATE outbox SET next = :next, lease = 0 WHERE id = :id AND state = 'waiting' AND lease = :lease",
            id=letter.id,
            next=next,
            lease=letter.lease,
        )

    def withdraw_letters(self, dossier: str, kinds: Iterable[str], lived: int) -> None:
        named = {f"kind{place}": kind for place, kind in enumerate(sorted(kinds))}
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived "  # noqa: S608 names are ours
            f"WHERE dossier = :dossier AND state = 'waiting' AND kind IN ({', '.join(':' + each for each in named)})",
            dossier=dossier,
            lived=lived,
            **named,
        )

    def withdraw_letters_about(self, letter: str, kind: str, lived: int) -> None:
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived "  # noqa: S608 our own
            f"WHERE letter = :letter AND kind = :kind AND state = 'waiting' AND {NAMED}",
            letter=letter,
            kind=kind,
            lived=lived,
        )

    def disown_letters_about(self, letter: str, kind: str, lived: int) -> None:
        """They do not bear its name any more, and those that still wait are not sent."""
        self.withdraw_letters_about(letter, kind, lived)
        self.db.run(
            f"UPDATE outbox SET letter = NULL WHERE letter = :letter AND kind = :kind AND {NAMED}",  # noqa: S608 our own
            letter=letter,
            kind=kind,
        )

    def withdraw_letters_of_changes(self, dossier: str, lived: int) -> None:
        """What was to be said of slow changes of this dossier that are under way, whether or not they read."""
        self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived WHERE state = 'waiting' "
            "AND kind = 'change-asked' AND letter IN (SELECT hash FROM changes WHERE dossier = :id)",
            id=dossier,
            lived=lived,
        )

    def letters_about(self, letter: str, kind: str) -> list[tuple[str | None, str]]:
        """(account, state) of every letter of one kind that bears this name."""
        return [
            (row["account"], str(row["state"]))
            for row in self.db.all(
                f"SELECT account, state FROM outbox WHERE letter = :letter AND kind = :kind AND {NAMED}",  # noqa: S608 our own
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

    def withdraw_letters_of_channel(self, to: str, about: str, kind: str, lived: int) -> int:
        """What one address would have been told of another; how many letters it was."""
        return self.db.run(
            "UPDATE outbox SET state = 'withdrawn', settled = :lived "
            "WHERE address = :to AND state = 'waiting' AND kind = :kind AND letter = :about",
            to=to,
            about=about,
            kind=kind,
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
        """Those that read."""
        return self._readable(
            Letter,
            "SELECT * FROM outbox WHERE dossier = :dossier AND state = 'accepted' AND climb = :climb "
            "ORDER BY posted, id",
            dossier=dossier,
            climb=climb,
        )

    def letters_of_dossier(self, dossier: str, kinds: Iterable[str]) -> list[Letter]:
        """Those of these kinds that read and were not withdrawn, of every climb, the newest first."""
        named = {f"kind{place}": kind for place, kind in enumerate(sorted(kinds))}
        return self._readable(
            Letter,
            "SELECT * FROM outbox WHERE dossier = :dossier AND state IN ('waiting', 'accepted', 'failed') "  # noqa: S608 names are ours
            f"AND kind IN ({', '.join(':' + each for each in named)}) ORDER BY posted DESC, id",
            dossier=dossier,
            **named,
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

    def count_codes(self, account: str, since: int) -> int:
        """Letters with a code to one account's addresses, posted after this `lived`."""
        row = self.db.one(
            "SELECT COUNT(*) AS many FROM outbox WHERE account = :account AND kind = 'code' AND posted > :since",
            account=account,
            since=since,
        )
        return 0 if row is None else int(row["many"])

    def forget_codes(self, before: int) -> None:
        """Those that were settled before this `lived`."""
        self.db.run(
            "DELETE FROM outbox WHERE kind = 'code' AND state <> 'waiting' AND settled < :before",
            before=before,
        )

    def settled_letters(self, before: int, limit: int, after: tuple[int, str]) -> list[Settled | None]:
        """Letters settled before this `lived`, the oldest first, from behind `after` on; None for one that does not
        read."""
        return self._each(
            Settled,
            "SELECT id, kind, dossier, climb, letter, settled, lane FROM outbox "
            "WHERE settled < :before AND (settled, id) > (:settled, :id) AND state <> 'waiting' "
            "ORDER BY settled, id LIMIT :limit",
            before=before,
            settled=after[0],
            id=after[1],
            limit=limit,
        )

    def forget_letter(self, letter: str, before: int) -> int:
        """0 when it waits, was settled since, or says nothing that reads of whether it did."""
        return self.db.run(
            "DELETE FROM outbox WHERE id = :id AND settled < :before "
            "AND state IN ('accepted', 'failed', 'withdrawn')",
            id=letter,
            before=before,
        )

    def count_letters(self) -> dict[str, int]:
        return {
            str(row["state"]): int(row["many"])
            for row in self.db.all("SELECT state, COUNT(*) AS many FROM outbox GROUP BY state ORDER BY state")
        }

    def oldest_waiting(self, lived: int) -> int | None:
        """`lived` since when the oldest letter waits that was to be carried by now."""
        row = self.db.one(
            "SELECT MIN(posted) AS posted FROM outbox WHERE state = 'waiting' AND posted <= :lived",
            lived=lived,
        )
        return None if row is None or row["posted"] is None else int(row["posted"])

    def last_accepted(self) -> int | None:
        """`lived` at which a letter to anybody was last accepted."""
        # A damaged time that is no number would be larger than every number.
        row = self.db.one(
            "SELECT MAX(settled) AS settled FROM outbox WHERE state = 'accepted' AND settled <= :most",
            most=2**63 - 1,
        )
        return None if row is None or row["settled"] is None else int(row["settled"])

    def accepted_since(self, lived: int) -> bool:
        last = self.last_accepted()
        return last is not None and last >= lived
