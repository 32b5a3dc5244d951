"""SQL about slow changes.

Rule of this room: one that does not read, or does not add up, is as good as none to whoever looks at all of them;
only whoever asks for it by its name hears that it is `Damaged`.
"""

import logging
from typing import Final

from vault.errors import Damaged, DiskFailed
from vault.storage.records.rows import Change, Named, Ready, Rows, adds_up

# As in the migration that made the sums.
_COOLING: Final = {"cooling": 3}

log = logging.getLogger("afterword.cooling")


class Changes(Rows):
    def add_change(self, change: Change) -> None:
        self._insert("changes", change)

    def change(self, hash: str) -> Change | None:
        return self._one(Change, "SELECT * FROM changes WHERE hash = :hash", hash=hash)

    def changes_of_dossier(self, dossier: str) -> list[Change]:
        """Those that read; that others do not is cried out."""
        return self._sound(
            f"dossier {dossier}", "SELECT * FROM changes WHERE dossier = :id ORDER BY asked, hash", dossier
        )

    def changes_of_account(self, account: str) -> list[Change]:
        """The same."""
        return self._sound(
            f"account {account}", "SELECT * FROM changes WHERE account = :id ORDER BY asked, hash", account
        )

    def _sound(self, of: str, sql: str, id: str) -> list[Change]:
        found = self._each(Change, sql, id=id)
        sound = [each for each in found if each is not None]
        if len(sound) < len(found):
            log.error(
                "of the slow changes of %s, %d stand still: they do not read", of, len(found) - len(sound)
            )
        return sound

    def has_changes(self, account: str) -> bool:
        """Whether or not they read."""
        return self.db.one("SELECT 1 AS yes FROM changes WHERE account = :id LIMIT 1", id=account) is not None

    def ready_changes(self, served: int, limit: int, after: tuple[int, str]) -> list[Ready | None]:
        """Behind `after`, what has cooled, in a stage where it may take effect; rosters wait for the journalist's
        computer. None for one without a name that reads; whether the rest of it adds up is seen when it is loaded.

        What concerns a person and not one dossier waits while any switch of theirs is late.
        """
        return self._each(
            Ready,
            "SELECT c.cooled, c.hash FROM changes c LEFT JOIN switches s ON s.dossier = c.dossier "
            "WHERE c.cooled <= :served AND (c.cooled, c.hash) > (:cooled, :hash) "
            "AND c.kind <> 'roster' AND (s.stage = 'armed' "
            "OR (s.stage = 'paused' AND c.kind <> 'pause') OR (c.dossier IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM dossiers d JOIN switches w ON w.dossier = d.id WHERE d.journalist = c.account "
            "AND w.stage IN ('reminded', 'warned', 'grace')))) ORDER BY c.cooled, c.hash LIMIT :limit",
            served=served,
            limit=limit,
            cooled=after[0],
            hash=after[1],
        )

    def all_changes(self) -> list[str | None]:
        """Their hashes; None for one that does not read."""
        found = self._each(Named, "SELECT hash FROM changes ORDER BY hash")
        return [None if each is None else each.hash for each in found]

    def standing_changes(self) -> list[str]:
        """Those that never take effect as they are, for they or their cooling time do not read."""
        return [str(hash) for hash in self.all_changes() if not self._can_move(hash)]

    def _can_move(self, hash: str | None) -> bool:
        try:
            change = None if hash is None else self.change(hash)
            if change is not None and change.dossier is not None:
                self.cooling_of(change.dossier)
        except DiskFailed:
            raise
        except Damaged:
            return False
        return change is not None

    def changes_of_other_lives(self, life: str, limit: int, after: str) -> list[str | None]:
        """Those that were not told in this life, in the order of their hashes; None for one that does not read."""
        found = self._each(
            Named,
            "SELECT hash FROM changes WHERE hash > :after AND COALESCE(life, '') <> :life "
            "ORDER BY hash LIMIT :limit",
            after=after,
            life=life,
            limit=limit,
        )
        return [None if each is None else each.hash for each in found]

    def cool_again(self, hash: str, cooled: int, life: str) -> None:
        self.db.run(
            "UPDATE changes SET cooled = :cooled, life = :life WHERE hash = :hash",
            hash=hash,
            cooled=cooled,
            life=life,
        )

    def drop_change(self, hash: str) -> int:
        return self.db.run("DELETE FROM changes WHERE hash = :hash", hash=hash)

    def drop_change_of(self, account: str, hash: str) -> int:
        """0 when there is none of this account's; nothing else of it is looked at."""
        return self.db.run(
            "DELETE FROM changes WHERE hash = :hash AND account = :account", hash=hash, account=account
        )

    def drop_changes_of_dossier(self, dossier: str) -> int:
        """Whether or not they read."""
        return self.db.run("DELETE FROM changes WHERE dossier = :id", id=dossier)

    def cooling_of(self, dossier: str) -> int:
        """How long slow changes of this dossier cool (ms). `Damaged` if that is not the number it was made with."""
        row = self.db.one("SELECT cooling, total FROM dossiers WHERE id = :id", id=dossier)
        if row is None or not adds_up(row, _COOLING):
            raise Damaged(
                f"The cooling time of dossier {dossier} does not read; its slow changes stand still."
            )
        return int(row["cooling"])
