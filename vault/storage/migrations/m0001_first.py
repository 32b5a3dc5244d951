"""The first shape. Everything that names or reaches a person rests sealed under the server key."""

import sqlite_utils

number = 1
name = "first"

_TABLES = """
CREATE TABLE service (
    id INTEGER PRIMARY KEY CHECK (id = 1), life TEXT NOT NULL, boot TEXT NOT NULL, at BIGINT NOT NULL,
    lived BIGINT NOT NULL, served BIGINT NOT NULL, probed BIGINT, grown BIGINT NOT NULL, era BIGINT NOT NULL,
    beat BIGINT
);
CREATE TABLE server (
    id INTEGER PRIMARY KEY CHECK (id = 1), keyring BLOB NOT NULL, card BLOB NOT NULL, key_recipient TEXT NOT NULL,
    key_copied BIGINT, tally BIGINT NOT NULL
);
CREATE TABLE accounts (
    id TEXT PRIMARY KEY, card_hash TEXT NOT NULL UNIQUE, verify TEXT NOT NULL UNIQUE, checkin TEXT NOT NULL UNIQUE,
    card BLOB NOT NULL, journalist INTEGER NOT NULL, seq BIGINT NOT NULL, quota BIGINT NOT NULL,
    used BIGINT NOT NULL, number BIGINT NOT NULL, history TEXT NOT NULL, marked INTEGER NOT NULL,
    checked_in BIGINT, created BIGINT NOT NULL
);
CREATE TABLE invites (
    code TEXT PRIMARY KEY, journalist TEXT REFERENCES accounts (id), label BLOB NOT NULL, expires BIGINT NOT NULL,
    used_by TEXT
);
CREATE TABLE links (
    journalist TEXT NOT NULL REFERENCES accounts (id), collaborator TEXT NOT NULL REFERENCES accounts (id),
    label BLOB NOT NULL, since BIGINT NOT NULL, PRIMARY KEY (journalist, collaborator)
);
CREATE INDEX links_of_collaborator ON links (collaborator);
CREATE TABLE sessions (token TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id), expires BIGINT NOT NULL);
CREATE INDEX sessions_by_end ON sessions (expires);
CREATE TABLE spent_nonces (nonce TEXT PRIMARY KEY, expires BIGINT NOT NULL);
CREATE INDEX spent_nonces_by_end ON spent_nonces (expires);
CREATE TABLE addresses (
    id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id), sealed BLOB NOT NULL,
    confirmed INTEGER NOT NULL, code TEXT, code_expires BIGINT, tries INTEGER NOT NULL, failing_since BIGINT,
    removal TEXT, created BIGINT NOT NULL
);
CREATE INDEX addresses_of_account ON addresses (account);
CREATE TABLE dossiers (
    id TEXT PRIMARY KEY, journalist TEXT NOT NULL REFERENCES accounts (id), title BLOB NOT NULL, deal BLOB NOT NULL,
    recipient TEXT NOT NULL, release_share BLOB, epoch BIGINT NOT NULL, roster TEXT NOT NULL,
    threshold INTEGER NOT NULL, minimum INTEGER NOT NULL, cooling BIGINT NOT NULL, bundles BIGINT NOT NULL,
    head TEXT, pushed BIGINT, brief TEXT, created BIGINT NOT NULL
);
CREATE INDEX dossiers_of_journalist ON dossiers (journalist);
CREATE TABLE switches (
    dossier TEXT PRIMARY KEY REFERENCES dossiers (id), stage TEXT NOT NULL, version BIGINT NOT NULL,
    every BIGINT NOT NULL, remind BIGINT NOT NULL, warn BIGINT NOT NULL, grace BIGINT NOT NULL,
    entered BIGINT NOT NULL, due BIGINT, trying INTEGER NOT NULL, era BIGINT NOT NULL, renewals INTEGER NOT NULL,
    ladder BIGINT NOT NULL, pause BIGINT, since BIGINT NOT NULL
);
CREATE INDEX switches_due ON switches (due) WHERE due IS NOT NULL;
CREATE INDEX switches_behind ON switches (era) WHERE stage IN ('reminded', 'warned', 'grace');
CREATE TABLE rosters (
    dossier TEXT NOT NULL REFERENCES dossiers (id), epoch BIGINT NOT NULL, hash TEXT NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (dossier, epoch)
);
CREATE TABLE collaborators (
    dossier TEXT NOT NULL REFERENCES dossiers (id), place INTEGER NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (id),
    card_hash TEXT NOT NULL, share BLOB NOT NULL, proof BLOB, proved BIGINT, has_left INTEGER NOT NULL,
    contribution BLOB, collected BIGINT, PRIMARY KEY (dossier, place)
);
CREATE INDEX collaborators_by_account ON collaborators (account);
CREATE TABLE objects (
    dossier TEXT NOT NULL REFERENCES dossiers (id), name TEXT NOT NULL, stored BIGINT NOT NULL, bundle BIGINT,
    PRIMARY KEY (dossier, name)
);
CREATE INDEX objects_adrift ON objects (stored) WHERE bundle IS NULL;
CREATE TABLE heads (
    dossier TEXT NOT NULL REFERENCES dossiers (id), bundle BIGINT NOT NULL, hash TEXT NOT NULL, envelope BLOB NOT NULL,
    PRIMARY KEY (dossier, bundle)
);
CREATE TABLE statements (
    hash TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id), dossier TEXT, kind TEXT NOT NULL,
    envelope BLOB NOT NULL, acknowledgement BLOB NOT NULL, change TEXT
);
CREATE INDEX statements_of_account ON statements (account, kind);
CREATE TABLE copies (
    statement TEXT NOT NULL, reader TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (statement, reader)
);
CREATE TABLE changes (
    hash TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id), dossier TEXT, kind TEXT NOT NULL,
    body BLOB NOT NULL, asked BIGINT NOT NULL, cooled BIGINT NOT NULL, told INTEGER NOT NULL
);
CREATE INDEX changes_by_end ON changes (cooled);
CREATE INDEX changes_of_dossier ON changes (dossier);
CREATE TABLE releases (
    dossier TEXT PRIMARY KEY REFERENCES dossiers (id), envelope BLOB NOT NULL, checkin BLOB, released BIGINT NOT NULL
);
CREATE TABLE outbox (
    id TEXT PRIMARY KEY, message_id TEXT NOT NULL UNIQUE, account TEXT, address TEXT, kind TEXT NOT NULL,
    dossier TEXT, climb BIGINT, letter TEXT, facts BLOB NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, next BIGINT NOT NULL, lease BIGINT NOT NULL,
    reason TEXT, posted BIGINT NOT NULL, settled BIGINT
);
CREATE INDEX outbox_due ON outbox (next) WHERE state = 'waiting';
CREATE INDEX outbox_of_dossier ON outbox (dossier, state);
CREATE INDEX outbox_of_address ON outbox (address) WHERE state = 'waiting';
CREATE TABLE history (
    account TEXT NOT NULL REFERENCES accounts (id), number BIGINT NOT NULL, entry TEXT NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (account, number)
);
"""


def apply(db: sqlite_utils.Database) -> None:
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
