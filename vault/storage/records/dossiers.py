"""SQL about dossiers, rosters, objects, heads and releases."""

from vault.storage.records.rows import Collaborator, Dossier, Released, Rows, blob


class Dossiers(Rows):
    def add_dossier(self, dossier: Dossier) -> None:
        self._insert("dossiers", dossier)

    def dossier(self, dossier: str) -> Dossier | None:
        return self._one(Dossier, "SELECT * FROM dossiers WHERE id = :id", id=dossier)

    def dossier_owner(self, dossier: str) -> str | None:
        """Whose it is, without reading the rest of the row."""
        row = self.db.one("SELECT journalist FROM dossiers WHERE id = :id", id=dossier)
        return None if row is None else str(row["journalist"])

    def own_dossier(self, dossier: str, account: str) -> Dossier | None:
        return self._one(
            Dossier,
            "SELECT * FROM dossiers WHERE id = :id AND journalist = :account",
            id=dossier,
            account=account,
        )

    def shared_dossier(self, dossier: str, account: str) -> Dossier | None:
        return self._one(
            Dossier,
            "SELECT d.* FROM dossiers d JOIN collaborators c ON c.dossier = d.id "
            "WHERE d.id = :id AND c.account = :account",
            id=dossier,
            account=account,
        )

    def dossiers_of(self, account: str) -> list[Dossier]:
        return self._all(
            Dossier,
            "SELECT * FROM dossiers WHERE journalist = :account ORDER BY created, id",
            account=account,
        )

    def names_of(self, account: str) -> list[str]:
        """The ids of her dossiers, whether or not their rows read."""
        return [
            str(row["id"])
            for row in self.db.all(
                "SELECT id FROM dossiers WHERE journalist = :account ORDER BY created, id", account=account
            )
        ]

    def names_of_dossiers(self) -> list[str]:
        """The ids of all dossiers, whether or not their rows read."""
        return [str(row["id"]) for row in self.db.all("SELECT id FROM dossiers ORDER BY id")]

    def names_shared_with(self, account: str) -> list[str]:
        return [
            str(row["id"])
            for row in self.db.all(
                "SELECT d.id FROM dossiers d JOIN collaborators c ON c.dossier = d.id "
                "WHERE c.account = :account ORDER BY d.created, d.id",
                account=account,
            )
        ]

    def dossiers_shared_with(self, account: str) -> list[Dossier]:
        return self._all(
            Dossier,
            "SELECT d.* FROM dossiers d JOIN collaborators c ON c.dossier = d.id "
            "WHERE c.account = :account ORDER BY d.created, d.id",
            account=account,
        )

    def destroy_dossier(self, dossier: str) -> None:
        """Nothing that could open it or be opened stays; its object rows are left for the sweep."""
        self.db.run(
            "UPDATE dossiers SET release_share = NULL, title = x'', deal = x'', brief = NULL WHERE id = :id",
            id=dossier,
        )
        self.db.run("UPDATE objects SET bundle = NULL, stored = -1 WHERE dossier = :id", id=dossier)
        self.db.run("UPDATE collaborators SET share = x'', proof = NULL WHERE dossier = :id", id=dossier)
        self.db.run("DELETE FROM heads WHERE dossier = :id", id=dossier)
        self.db.run(
            "DELETE FROM copies WHERE statement IN (SELECT hash FROM statements WHERE dossier = :id)",
            id=dossier,
        )
        self.db.run("DELETE FROM statements WHERE dossier = :id AND kind IN ('head', 'brief')", id=dossier)

    # rosters

    def add_roster(self, dossier: str, epoch: int, hash: str, sealed: bytes) -> None:
        self.db.run(
            "INSERT INTO rosters (dossier, epoch, hash, sealed) VALUES (:dossier, :epoch, :hash, :sealed)",
            dossier=dossier,
            epoch=epoch,
            hash=hash,
            sealed=sealed,
        )

    def sealed_rosters(self, dossier: str) -> list[bytes]:
        return [
            blob(row, "sealed")
            for row in self.db.all(
                "SELECT sealed FROM rosters WHERE dossier = :id ORDER BY epoch", id=dossier
            )
        ]

    def size_of_rosters(self, dossier: str) -> int:
        """Bytes as they rest, which are a little more than the statements have."""
        row = self.db.one(
            "SELECT COALESCE(SUM(LENGTH(sealed)), 0) AS size FROM rosters WHERE dossier = :id", id=dossier
        )
        return 0 if row is None else int(row["size"])

    def move_epoch(
        self, dossier: str, seen: int, roster: str, threshold: int, minimum: int, share: bytes, deal: bytes
    ) -> int:
        """Compare-and-swap on the epoch, so that two rosters can never both follow the same one."""
        return self.db.run(
            "UPDATE dossiers SET epoch = epoch + 1, roster = :roster, threshold = :threshold, "
            "minimum = :minimum, release_share = :share, deal = :deal WHERE id = :id AND epoch = :seen",
            id=dossier,
            seen=seen,
            roster=roster,
            threshold=threshold,
            minimum=minimum,
            share=share,
            deal=deal,
        )

    def replace_collaborators(self, dossier: str, collaborators: list[Collaborator]) -> None:
        self.db.run("DELETE FROM collaborators WHERE dossier = :id", id=dossier)
        for each in collaborators:
            self._insert("collaborators", each)

    def collaborators(self, dossier: str) -> list[Collaborator]:
        return self._all(
            Collaborator, "SELECT * FROM collaborators WHERE dossier = :id ORDER BY place", id=dossier
        )

    def lines_of(self, dossier: str) -> list[Collaborator | None]:
        """As `collaborators`, with None in the place of a line that does not read."""
        return self._each(
            Collaborator, "SELECT * FROM collaborators WHERE dossier = :id ORDER BY place", id=dossier
        )

    def readable_lines(self, dossier: str) -> list[Collaborator]:
        """For whatever must not wait for a line that does not read."""
        return [each for each in self.lines_of(dossier) if each is not None]

    def cards_on_roster(self, dossier: str) -> set[str]:
        """The hashes of its collaborators' cards, also of those whose lines do not read."""
        return {
            str(row["card_hash"])
            for row in self.db.all(
                "SELECT a.card_hash FROM collaborators c JOIN accounts a ON a.id = c.account WHERE c.dossier = :id",
                id=dossier,
            )
        }

    def count_lines(self, journalist: str, without: str | None) -> int:
        """How many lines the present rosters of her dossiers have together, one dossier left out."""
        row = self.db.one(
            "SELECT COUNT(*) AS many FROM collaborators c JOIN dossiers d ON d.id = c.dossier "
            "WHERE d.journalist = :journalist AND d.id <> :without",
            journalist=journalist,
            without=without or "",
        )
        return 0 if row is None else int(row["many"])

    def collaborator(self, dossier: str, account: str) -> Collaborator | None:
        return self._one(
            Collaborator,
            "SELECT * FROM collaborators WHERE dossier = :id AND account = :account",
            id=dossier,
            account=account,
        )

    def set_proof(self, dossier: str, place: int, proof: bytes, wall: int) -> None:
        self.db.run(
            "UPDATE collaborators SET proof = :proof, proved = :wall WHERE dossier = :id AND place = :place",
            id=dossier,
            place=place,
            proof=proof,
            wall=wall,
        )

    def set_left(self, dossier: str, place: int) -> None:
        self.db.run(
            "UPDATE collaborators SET has_left = 1 WHERE dossier = :id AND place = :place",
            id=dossier,
            place=place,
        )

    def set_contribution(self, dossier: str, place: int, statement: bytes) -> None:
        self.db.run(
            "UPDATE collaborators SET contribution = :statement WHERE dossier = :id AND place = :place",
            id=dossier,
            place=place,
            statement=statement,
        )

    def set_collected(self, dossier: str, account: str, wall: int) -> None:
        self.db.run(
            "UPDATE collaborators SET collected = COALESCE(collected, :wall) "
            "WHERE dossier = :id AND account = :account",
            id=dossier,
            account=account,
            wall=wall,
        )

    # blobs sealed to one reader, beside a statement

    def add_copy(self, statement: str, reader: str, sealed: bytes) -> None:
        self.db.run(
            "INSERT INTO copies (statement, reader, sealed) VALUES (:statement, :reader, :sealed)",
            statement=statement,
            reader=reader,
            sealed=sealed,
        )

    def copy(self, statement: str, reader: str) -> bytes | None:
        row = self.db.one(
            "SELECT sealed FROM copies WHERE statement = :statement AND reader = :reader",
            statement=statement,
            reader=reader,
        )
        return None if row is None else blob(row, "sealed")

    def forget_copies(self, statement: str) -> None:
        self.db.run("DELETE FROM copies WHERE statement = :statement", statement=statement)

    def set_brief(self, dossier: str, statement: str) -> None:
        self.db.run("UPDATE dossiers SET brief = :statement WHERE id = :id", id=dossier, statement=statement)

    # objects and heads

    def add_object(self, dossier: str, name: str, lived: int) -> int:
        """0 when the row was there already."""
        return self.db.run(
            "INSERT INTO objects (dossier, name, stored, bundle) VALUES (:dossier, :name, :lived, NULL) "
            "ON CONFLICT (dossier, name) DO NOTHING",
            dossier=dossier,
            name=name,
            lived=lived,
        )

    def has_object(self, dossier: str, name: str) -> bool:
        return (
            self.db.one("SELECT 1 AS yes FROM objects WHERE dossier = :d AND name = :n", d=dossier, n=name)
            is not None
        )

    def all_objects(self) -> list[tuple[str, str]]:
        """Every object that belongs to a head; what drifts is not worth a copy."""
        return [
            (str(row["dossier"]), str(row["name"]))
            for row in self.db.all(
                "SELECT dossier, name FROM objects WHERE bundle IS NOT NULL ORDER BY dossier, name"
            )
        ]

    def drifting_objects(self) -> list[tuple[str, str]]:
        """Every object that no head names."""
        return [
            (str(row["dossier"]), str(row["name"]))
            for row in self.db.all("SELECT dossier, name FROM objects WHERE bundle IS NULL")
        ]

    def lose_object(self, dossier: str, name: str) -> int:
        """Its file is gone for good; heads that name it stay."""
        return self.db.run("DELETE FROM objects WHERE dossier = :d AND name = :n", d=dossier, n=name)

    def has_objects(self, dossier: str) -> bool:
        return self.db.one("SELECT 1 AS yes FROM objects WHERE dossier = :d LIMIT 1", d=dossier) is not None

    def name_objects(self, dossier: str, names: tuple[str, ...], bundle: int) -> int:
        """How many of the names are stored here and are now committed by this bundle."""
        return sum(
            self.db.run(
                "UPDATE objects SET bundle = COALESCE(bundle, :bundle) WHERE dossier = :d AND name = :n",
                d=dossier,
                n=name,
                bundle=bundle,
            )
            for name in set(names)
        )

    def adrift(self, before: int, limit: int) -> list[tuple[str, str]]:
        """Objects that no head names, stored before this `lived`, or -1: those of destroyed dossiers."""
        return [
            (str(row["dossier"]), str(row["name"]))
            for row in self.db.all(
                "SELECT dossier, name FROM objects WHERE bundle IS NULL AND stored <= :before "
                "ORDER BY stored LIMIT :limit",
                before=before,
                limit=limit,
            )
        ]

    def forget_object(self, dossier: str, name: str, before: int) -> int:
        return self.db.run(
            "DELETE FROM objects WHERE dossier = :d AND name = :n AND bundle IS NULL AND stored <= :before",
            d=dossier,
            n=name,
            before=before,
        )

    def add_head(self, dossier: str, bundle: int, hash: str, envelope: bytes, wall: int) -> None:
        self.db.run(
            "INSERT INTO heads (dossier, bundle, hash, envelope) VALUES (:d, :bundle, :hash, :envelope)",
            d=dossier,
            bundle=bundle,
            hash=hash,
            envelope=envelope,
        )
        self.db.run(
            "UPDATE dossiers SET bundles = :bundle, head = :hash, pushed = :wall WHERE id = :d",
            d=dossier,
            bundle=bundle,
            hash=hash,
            wall=wall,
        )

    def heads(self, dossier: str, after: int, limit: int) -> list[bytes]:
        return [
            blob(row, "envelope")
            for row in self.db.all(
                "SELECT envelope FROM heads WHERE dossier = :d AND bundle > :after ORDER BY bundle LIMIT :limit",
                d=dossier,
                after=after,
                limit=limit,
            )
        ]

    # releases

    def add_release(self, dossier: str, envelope: bytes, checkin: bytes | None, wall: int) -> None:
        self.db.run(
            "INSERT INTO releases (dossier, envelope, checkin, released) VALUES (:d, :envelope, :checkin, :wall)",
            d=dossier,
            envelope=envelope,
            checkin=checkin,
            wall=wall,
        )

    def release(self, dossier: str) -> Released | None:
        return self._one(Released, "SELECT * FROM releases WHERE dossier = :id", id=dossier)
