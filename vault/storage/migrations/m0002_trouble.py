"""Sums by which a flipped bit shows, and what a switch, an address and the server remember of trouble: holds, mass
lateness, gaps, failing channels."""

import re

import sqlite_utils

number = 2
name = "trouble"

_STEPS = """
ALTER TABLE switches ADD COLUMN held BIGINT;
ALTER TABLE switches ADD COLUMN holds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE switches ADD COLUMN crowd INTEGER NOT NULL DEFAULT 0;
DROP INDEX switches_due;
CREATE INDEX switches_due ON switches (due, dossier) WHERE due IS NOT NULL;
DROP INDEX switches_behind;
CREATE INDEX switches_late ON switches (era, dossier) WHERE stage IN ('reminded', 'warned', 'grace');
ALTER TABLE switches ADD COLUMN swept BIGINT NOT NULL DEFAULT 0;
CREATE INDEX switches_unswept ON switches (swept, dossier) WHERE stage = 'destroyed' AND swept >= 0;
CREATE INDEX switches_armed ON switches (stage) WHERE stage = 'armed';
CREATE INDEX switches_newly_late ON switches (crowd, entered, stage, renewals)
    WHERE stage = 'reminded' AND renewals = 0;
CREATE TABLE holds (
    hash TEXT PRIMARY KEY, dossier TEXT NOT NULL REFERENCES dossiers (id),
    account TEXT NOT NULL REFERENCES accounts (id),
    ladder BIGINT NOT NULL, because TEXT NOT NULL, asked BIGINT NOT NULL, until BIGINT, wall BIGINT NOT NULL
);
CREATE INDEX holds_of_dossier ON holds (dossier, ladder);
CREATE TABLE waves (
    number INTEGER PRIMARY KEY, many BIGINT NOT NULL, last BIGINT NOT NULL, waited BIGINT, wall BIGINT NOT NULL
);
ALTER TABLE switches ADD COLUMN anew TEXT;
ALTER TABLE switches ADD COLUMN begun TEXT;
ALTER TABLE service ADD COLUMN setback TEXT;
CREATE TABLE lives (life TEXT PRIMARY KEY, ended BIGINT);
ALTER TABLE changes ADD COLUMN life TEXT;
UPDATE changes SET life = (SELECT life FROM service);
ALTER TABLE service ADD COLUMN stood BIGINT NOT NULL DEFAULT 0;
ALTER TABLE service ADD COLUMN delivered BIGINT;
ALTER TABLE service ADD COLUMN pulse BIGINT;
ALTER TABLE service ADD COLUMN alarm INTEGER NOT NULL DEFAULT 0;
ALTER TABLE service ADD COLUMN outage BIGINT NOT NULL DEFAULT 0;
ALTER TABLE service ADD COLUMN told TEXT NOT NULL DEFAULT '';
ALTER TABLE service ADD COLUMN lead BIGINT;
ALTER TABLE service ADD COLUMN lead_boot TEXT;
CREATE INDEX outbox_by_name ON outbox (letter, kind, address)
    WHERE kind IN ('change-asked', 'outage', 'outage-over', 'operator-trouble');
CREATE INDEX outbox_codes ON outbox (account, posted) WHERE kind = 'code';
CREATE INDEX outbox_codes_over ON outbox (settled) WHERE kind = 'code';
CREATE INDEX outbox_settled ON outbox (settled, id) WHERE settled IS NOT NULL;
CREATE INDEX outbox_waiting ON outbox (posted) WHERE state = 'waiting';
CREATE INDEX statements_of_dossier ON statements (dossier, kind) WHERE dossier IS NOT NULL;
CREATE INDEX changes_of_account ON changes (account);
CREATE INDEX sessions_of_account ON sessions (account, expires);
CREATE INDEX invites_of_journalist ON invites (journalist);
CREATE TABLE gaps (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, length BIGINT, lived BIGINT NOT NULL, wall BIGINT NOT NULL
);
ALTER TABLE server ADD COLUMN url TEXT;
ALTER TABLE addresses ADD COLUMN failing_lived BIGINT;
ALTER TABLE addresses ADD COLUMN failing_told INTEGER NOT NULL DEFAULT 0;
CREATE INDEX addresses_failing ON addresses (failing_lived) WHERE failing_lived IS NOT NULL;
ALTER TABLE outbox ADD COLUMN lane TEXT;
UPDATE outbox SET lane =
    COALESCE((SELECT journalist FROM dossiers WHERE dossiers.id = outbox.dossier), account, 'operator');
CREATE INDEX outbox_turns ON outbox (lane, next) WHERE state = 'waiting';
CREATE INDEX outbox_landed ON outbox (settled) WHERE state = 'accepted'
"""


# Kept by the database itself, whoever writes; vault/storage/records/ compares them whenever it reads.
_SUMS = {
    "service": "at * 3 + lived * 5 + served * 7 + coalesce(probed, -7) * 11 + grown * 13 + era * 17 + stood * 19",
    "switches": "unicode(stage) * 3 + version * 5 + every * 7 + remind * 11 + warn * 13 + grace * 17 + entered * 19 "
    "+ coalesce(due, -7) * 23 + trying * 29 + era * 31 + renewals * 37 + ladder * 41 + coalesce(pause, -7) * 43 "
    "+ coalesce(held, -7) * 47 + holds * 53 + crowd * 59",
    "changes": "unicode(kind) * 3 + asked * 5 + cooled * 7 + told * 11",
    "dossiers": "cooling * 3",
}


def apply(db: sqlite_utils.Database) -> None:
    for statement in _STEPS.split(";"):
        if statement.strip():
            db.execute(statement)
    for table, total in _SUMS.items():
        columns = ", ".join(
            name for name in re.findall(r"[a-z]+", total) if name not in {"unicode", "coalesce"}
        )
        keep = f"UPDATE {table} SET total = {total}"  # noqa: S608 our own words
        db.execute(f"ALTER TABLE {table} ADD COLUMN total BIGINT")
        db.execute(keep)
        for name, event in (("born", "INSERT"), ("changed", f"UPDATE OF {columns}")):
            db.execute(
                f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table} BEGIN {keep} WHERE rowid = new.rowid; END"
            )
