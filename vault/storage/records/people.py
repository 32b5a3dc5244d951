"""SQL about accounts, invites, links, sessions, addresses and each account's chain of history."""

from typing import Final

from vault.storage.records.rows import Account, Address, Invite, Link, Row, Rows, Stored, take

_NEWEST_ONLY: Final = frozenset({"brief", "checkin", "collected", "contribution", "leave", "proof"})


class Entry(Row, frozen=True):
    """One link of an account's chain."""

    number: int
    entry: str
    hash: str


class People(Rows):
    def account(self, account: str) -> Account | None:
        return self._one(Account, "SELECT * FROM accounts WHERE id = :account", account=account)

    def account_with_card(self, card_hash: str) -> Account | None:
        return self._one(Account, "SELECT * FROM accounts WHERE card_hash = :card", card=card_hash)

    def account_with_key(self, verify: str) -> Account | None:
        return self._one(
            Account, "SELECT * FROM accounts WHERE verify = :verify OR checkin = :verify", verify=verify
        )

    def account_in_session(self, token: str, lived: int) -> Account | None:
        return self._one(
            Account,
            "SELECT a.* FROM accounts a JOIN sessions s ON s.account = a.id "
            "WHERE s.token = :token AND s.expires > :lived",
            token=token,
            lived=lived,
        )

    def accounts(self) -> list[Account]:
        return self._all(Account, "SELECT * FROM accounts ORDER BY created, id")

    def names_of_accounts(self) -> list[str]:
        """The ids of all accounts, whether or not their rows read."""
        return [str(row["id"]) for row in self.db.all("SELECT id FROM accounts ORDER BY id")]

    def names_of_statements(self, account: str) -> list[str]:
        """The hashes of every statement that this account was answered to, whether or not their rows read."""
        return [
            str(row["hash"])
            for row in self.db.all(
                "SELECT hash FROM statements WHERE account = :account ORDER BY hash", account=account
            )
        ]

    def add_account(self, account: Account) -> None:
        self._insert("accounts", account)

    def make_journalist(self, account: str, quota: int) -> None:
        self.db.run(
            "UPDATE accounts SET journalist = 1, quota = :quota WHERE id = :id", id=account, quota=quota
        )

    def set_quota(self, account: str, quota: int) -> int:
        return self.db.run("UPDATE accounts SET quota = :quota WHERE id = :id", id=account, quota=quota)

    def use_quota(self, account: str, size: int) -> None:
        self.db.run("UPDATE accounts SET used = used + :size WHERE id = :id", id=account, size=size)

    def mark_account(self, account: str) -> None:
        self.db.run("UPDATE accounts SET marked = 1 WHERE id = :id", id=account)

    def set_checked_in(self, account: str, wall: int) -> None:
        self.db.run("UPDATE accounts SET checked_in = :wall WHERE id = :id", id=account, wall=wall)

    # invites and links

    def add_invite(self, invite: Invite) -> None:
        self._insert("invites", invite)

    def invite(self, code: str) -> Invite | None:
        return self._one(Invite, "SELECT * FROM invites WHERE code = :code", code=code)

    def invites_of(self, journalist: str, lived: int) -> list[Invite]:
        return self._all(
            Invite,
            "SELECT * FROM invites WHERE journalist = :id AND used_by IS NULL AND expires > :lived ORDER BY expires",
            id=journalist,
            lived=lived,
        )

    def spend_invite(self, code: str, card_hash: str) -> int:
        return self.db.run(
            "UPDATE invites SET used_by = :card WHERE code = :code AND used_by IS NULL",
            code=code,
            card=card_hash,
        )

    def add_link(self, link: Link) -> None:
        self.db.run(
            "INSERT INTO links (journalist, collaborator, label, since) VALUES (:j, :c, :label, :since) "
            "ON CONFLICT (journalist, collaborator) DO UPDATE SET label = :label",
            j=link.journalist,
            c=link.collaborator,
            label=link.label,
            since=link.since,
        )

    def links_of(self, account: str) -> list[Link]:
        return self._all(
            Link,
            "SELECT * FROM links WHERE journalist = :id OR collaborator = :id ORDER BY since, journalist, collaborator",
            id=account,
        )

    # sessions and nonces

    def add_session(self, token: str, account: str, expires: int) -> None:
        self.db.run(
            "INSERT INTO sessions (token, account, expires) VALUES (:token, :account, :expires)",
            token=token,
            account=account,
            expires=expires,
        )

    def forget_older_sessions(self, account: str, kept: int) -> None:
        self.db.run(
            "DELETE FROM sessions WHERE account = :account AND token NOT IN "
            "(SELECT token FROM sessions WHERE account = :account ORDER BY expires DESC LIMIT :kept)",
            account=account,
            kept=kept,
        )

    def end_session(self, token: str) -> None:
        self.db.run("DELETE FROM sessions WHERE token = :token", token=token)

    def forget_sessions(self) -> None:
        self.db.run("DELETE FROM sessions")

    def spend_nonce(self, nonce: str, expires: int) -> bool:
        """False when it was spent before."""
        return (
            self.db.run(
                "INSERT INTO spent_nonces (nonce, expires) VALUES (:nonce, :expires) ON CONFLICT (nonce) DO NOTHING",
                nonce=nonce,
                expires=expires,
            )
            == 1
        )

    def leave_mark(self, mark: str, expires: int) -> None:
        """What a knock at the public door names; whoever answers it over this database knows it."""
        self.spend_nonce(f"mark {mark}", expires)

    def has_mark(self, mark: str) -> bool:
        return (
            self.db.one("SELECT 1 AS yes FROM spent_nonces WHERE nonce = :nonce", nonce=f"mark {mark}")
            is not None
        )

    def forget_expired(self, lived: int) -> None:
        self.db.run("DELETE FROM sessions WHERE expires <= :lived", lived=lived)
        self.db.run("DELETE FROM spent_nonces WHERE expires < :lived", lived=lived)

    # addresses

    def add_address(self, address: Address) -> None:
        self._insert("addresses", address)

    def address(self, address: str) -> Address | None:
        return self._one(Address, "SELECT * FROM addresses WHERE id = :id", id=address)

    def addresses_of(self, account: str) -> list[Address]:
        return self._all(
            Address, "SELECT * FROM addresses WHERE account = :id ORDER BY created, id", id=account
        )

    def confirmed_addresses_of(self, account: str) -> list[Address]:
        """Those that read."""
        return [each for each in self.ways_to(account) if each is not None]

    def ways_to(self, account: str) -> list[Address | None]:
        """Its confirmed addresses, None for one that does not read."""
        return self._each(
            Address,
            "SELECT * FROM addresses WHERE account = :id AND confirmed = 1 ORDER BY created, id",
            id=account,
        )

    def reachable(self, account: str) -> bool:
        return (
            self.db.one(
                "SELECT 1 AS yes FROM addresses WHERE account = :id AND confirmed = 1 LIMIT 1", id=account
            )
            is not None
        )

    def set_code(self, address: str, code: str, expires: int) -> None:
        self.db.run(
            "UPDATE addresses SET code = :code, code_expires = :expires, tries = 0 WHERE id = :id",
            id=address,
            code=code,
            expires=expires,
        )

    def count_try(self, address: str) -> None:
        self.db.run("UPDATE addresses SET tries = tries + 1 WHERE id = :id", id=address)

    def confirm_address(self, address: str) -> None:
        """Its code stays until it expires, so that whoever lost the answer may ask again."""
        self.db.run("UPDATE addresses SET confirmed = 1 WHERE id = :id", id=address)

    def replace_address(self, address: str, sealed: bytes) -> None:
        self.db.run("UPDATE addresses SET sealed = :sealed WHERE id = :id", id=address, sealed=sealed)

    def mark_removal(self, address: str, change: str) -> None:
        self.db.run("UPDATE addresses SET removal = :change WHERE id = :id", id=address, change=change)

    def unmark_removal(self, account: str, change: str) -> None:
        self.db.run(
            "UPDATE addresses SET removal = NULL WHERE account = :account AND removal = :change",
            account=account,
            change=change,
        )

    def remove_address(self, address: str) -> None:
        self.db.run("DELETE FROM addresses WHERE id = :id", id=address)

    def mark_failing(self, address: str, wall: int, lived: int) -> None:
        """A letter to it failed: since now, unless it has been failing already."""
        self.db.run(
            "UPDATE addresses SET failing_since = COALESCE(failing_since, :wall), "
            "failing_lived = COALESCE(failing_lived, :lived) WHERE id = :id",
            id=address,
            wall=wall,
            lived=lived,
        )

    def clear_failing(self, address: str) -> None:
        self.db.run(
            "UPDATE addresses SET failing_since = NULL, failing_lived = NULL, failing_told = 0 WHERE id = :id",
            id=address,
        )

    def tell_failing(self, address: str) -> None:
        self.db.run("UPDATE addresses SET failing_told = 1 WHERE id = :id", id=address)

    def first_failing(self, after: int) -> int | None:
        """The first failure of those addresses whose failing began after this `lived`."""
        row = self.db.one(
            "SELECT MIN(failing_lived) AS lived FROM addresses WHERE failing_lived > :after", after=after
        )
        return None if row is None or row["lived"] is None else int(row["lived"])

    def failing_accounts(self, before: int, limit: int) -> list[str]:
        """Accounts with a confirmed address that has accepted nothing since this `lived` or longer."""
        return [
            str(row["account"])
            for row in self.db.all(
                "SELECT DISTINCT account FROM addresses WHERE failing_lived <= :before AND confirmed = 1 "
                "ORDER BY account LIMIT :limit",
                before=before,
                limit=limit,
            )
        ]

    def unreachable_readers(self, limit: int) -> list[str]:
        """Accounts to whom something was released that they have not collected, and that no letter can reach."""
        return [
            str(row["account"])
            for row in self.db.all(
                "SELECT DISTINCT c.account FROM releases r JOIN collaborators c ON c.dossier = r.dossier "
                "WHERE c.collected IS NULL AND c.has_left = 0 AND NOT EXISTS "
                "(SELECT 1 FROM addresses a WHERE a.account = c.account AND a.confirmed = 1) "
                "ORDER BY c.account LIMIT :limit",
                limit=limit,
            )
        ]

    # what was accepted, and the chain

    def statement(self, statement: str) -> Stored | None:
        return self._one(Stored, "SELECT * FROM statements WHERE hash = :hash", hash=statement)

    def last_checkin(self, account: str) -> Stored | None:
        return self._one(
            Stored, "SELECT * FROM statements WHERE account = :a AND kind = 'checkin'", a=account
        )

    def add_statement(self, stored: Stored) -> None:
        if stored.kind in _NEWEST_ONLY:
            # Only the newest matters: an older one sent again is stale by its seq. Whoever says the same thing all
            # day long must not fill the disk that check-ins need.
            self.db.run(
                "DELETE FROM statements WHERE account = :a AND kind = :kind "
                "AND (dossier = :dossier OR (dossier IS NULL AND :dossier IS NULL))",
                a=stored.account,
                kind=stored.kind,
                dossier=stored.dossier,
            )
        self._insert("statements", stored)

    def last_statement(self, account: str, kind: str, dossier: str | None) -> Stored | None:
        """Of a kind of which only the newest is kept; none of any other."""
        if kind not in _NEWEST_ONLY:
            return None
        return self._one(
            Stored,
            "SELECT * FROM statements WHERE account = :a AND kind = :kind "
            "AND (dossier = :dossier OR (dossier IS NULL AND :dossier IS NULL))",
            a=account,
            kind=kind,
            dossier=dossier,
        )

    def forget_statement(self, hash: str) -> None:
        self.db.run("DELETE FROM statements WHERE hash = :hash", hash=hash)

    def extend_history(self, account: str, seq: int, number: int, entry: str, hash: str) -> None:
        self.db.run(
            "INSERT INTO history (account, number, entry, hash) VALUES (:account, :number, :entry, :hash)",
            account=account,
            number=number,
            entry=entry,
            hash=hash,
        )
        self.db.run(
            "UPDATE accounts SET seq = :seq, number = :number, history = :hash WHERE id = :account",
            account=account,
            seq=seq,
            number=number,
            hash=hash,
        )

    def history_entry(self, account: str, number: int) -> Entry | None:
        return self._one(
            Entry,
            "SELECT number, entry, hash FROM history WHERE account = :account AND number = :number",
            account=account,
            number=number,
        )

    def newest_links(self, account: str, limit: int) -> list[Entry]:
        """Those that read, the newest first."""
        return self._readable(
            Entry,
            "SELECT number, entry, hash FROM history WHERE account = :account ORDER BY number DESC LIMIT :limit",
            account=account,
            limit=limit,
        )

    def history(self, account: str, after: int, limit: int) -> list[Entry]:
        return [
            take(row, Entry)
            for row in self.db.all(
                "SELECT number, entry, hash FROM history WHERE account = :account AND number > :after "
                "ORDER BY number LIMIT :limit",
                account=account,
                after=after,
                limit=limit,
            )
        ]
