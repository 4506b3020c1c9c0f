-- Schema 7. The log of events by account; what is heard of mail after its delivery; who is not sent to, and why;
-- webhooks; modes, brakes and retention of keys.

-- Small numbers for accounts, as key_ref has them for keys.
CREATE TABLE account_ref (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

INSERT INTO account_ref (name) SELECT DISTINCT account FROM message;

ALTER TABLE message ADD COLUMN account_ref INTEGER NOT NULL DEFAULT 0;
-- OR ROLLBACK: else SQLite keeps every page as it was, in memory, to undo this one statement.
UPDATE OR ROLLBACK message SET account_ref = (SELECT id FROM account_ref WHERE name = message.account);
CREATE INDEX message_account ON message (account_ref); -- with the id: an account's mail by age

ALTER TABLE message ADD COLUMN unsubscribe TEXT NOT NULL DEFAULT ''; -- '' cannot; '*' from all mail of the account; a tag
ALTER TABLE message ADD COLUMN original_to TEXT NOT NULL DEFAULT ''; -- JSON array: before a key redirected it

ALTER TABLE leased ADD COLUMN account_ref INTEGER NOT NULL DEFAULT 0;
UPDATE OR ROLLBACK leased SET account_ref = (SELECT account_ref FROM message WHERE id = leased.message)
WHERE message IN (SELECT id FROM message);

-- message and recipient are 0 where it is about neither; then data says all of it.
ALTER TABLE event ADD COLUMN account INTEGER NOT NULL DEFAULT 0;
UPDATE OR ROLLBACK event SET account = (SELECT account_ref FROM message WHERE id = event.message)
WHERE message IN (SELECT id FROM message);
CREATE INDEX event_account ON event (account); -- with the seq

-- How often people opened it and followed its links.
CREATE TABLE engagement (
    message INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    opens INTEGER NOT NULL,
    clicks INTEGER NOT NULL,
    machine INTEGER NOT NULL, -- what machines fetched, beside these
    PRIMARY KEY (message, recipient)
) STRICT, WITHOUT ROWID;

-- Who is not sent to. account is '' for everybody, tag '' for all mail.
DROP TABLE suppression;
CREATE TABLE suppression (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    tag TEXT NOT NULL,
    kind TEXT NOT NULL, -- address | domain
    value TEXT NOT NULL, -- in lower case; 'hash:' and more: an address that was erased
    reason TEXT NOT NULL, -- bounce | complaint | unsubscribe | operator
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    cause INTEGER, -- event.seq
    UNIQUE (value, kind, account, tag)
) STRICT;

CREATE INDEX suppression_expiry ON suppression (expires_at) WHERE expires_at IS NOT NULL;
-- Each with the id: an account's by age.
CREATE INDEX suppression_account ON suppression (account);
CREATE INDEX suppression_reason ON suppression (account, reason);
CREATE INDEX suppression_tag ON suppression (account, tag) WHERE tag <> '';

-- Endpoints that are told of events. types, keys and tags are JSON arrays; empty: all.
CREATE TABLE webhook (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    account TEXT NOT NULL,
    url TEXT NOT NULL,
    format TEXT NOT NULL, -- native | cloudmails | cloudmails-nested | sendmux
    secret_wrapped BLOB NOT NULL,
    old_secret_wrapped BLOB,
    old_until INTEGER,
    types TEXT NOT NULL,
    keys TEXT NOT NULL,
    tags TEXT NOT NULL,
    final_only INTEGER NOT NULL,
    state TEXT NOT NULL, -- pending | active | paused | disabled
    why TEXT NOT NULL, -- it is not active
    cursor INTEGER NOT NULL, -- event.seq: what is behind it was delivered, is parked or dead
    epoch INTEGER NOT NULL DEFAULT 0, -- rises with each replay: what was on its way before it counts no more
    failing_since INTEGER, -- the first failure after the last success
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX webhook_account ON webhook (account);

-- Events that failed, and those of the same message that wait behind them.
CREATE TABLE webhook_parked (
    webhook INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    message INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    PRIMARY KEY (webhook, seq)
) STRICT, WITHOUT ROWID;

-- Events that were given up.
CREATE TABLE webhook_dead (
    webhook INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    at INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (webhook, seq)
) STRICT, WITHOUT ROWID;

-- The last requests to an endpoint.
CREATE TABLE webhook_attempt (
    webhook INTEGER NOT NULL,
    id INTEGER NOT NULL,
    seq INTEGER NOT NULL, -- 0: a ping
    at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    status INTEGER NOT NULL, -- of HTTP; 0: there was no answer
    took_ms INTEGER NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (webhook, id)
) STRICT, WITHOUT ROWID;

ALTER TABLE domain ADD COLUMN return_path TEXT; -- the domain of envelope senders

ALTER TABLE key ADD COLUMN mode TEXT NOT NULL DEFAULT 'live'; -- live | capture | hold | redirect:ADDRESS | allow:PATTERN,…
ALTER TABLE key ADD COLUMN track INTEGER NOT NULL DEFAULT 0; -- 1 opens, 2 clicks, 4 clicks in text
ALTER TABLE key ADD COLUMN brakes TEXT NOT NULL DEFAULT '{}'; -- JSON object
ALTER TABLE key ADD COLUMN retention TEXT NOT NULL DEFAULT '{}'; -- JSON object, in seconds

-- Keys whose new mail is held until an operator lets it go.
CREATE TABLE braked (
    key TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    reason TEXT NOT NULL, -- volume | bounces | new_recipients
    detail TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Whom a key with a brake on new recipients has written to: a keyed hash of the address.
CREATE TABLE acquaintance (
    key INTEGER NOT NULL,
    hash INTEGER NOT NULL,
    at INTEGER NOT NULL, -- when it last wrote, to a month
    PRIMARY KEY (key, hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX acquaintance_at ON acquaintance (at);
