-- Schema 2. What a client was told of a request of several messages, limits of keys, stored templates.

-- The answer to a request; '' is the record of a single message.
ALTER TABLE idempotency ADD COLUMN result TEXT NOT NULL DEFAULT '';

-- A JSON array of {unit, count, period_s, burst}.
ALTER TABLE key ADD COLUMN limits TEXT NOT NULL DEFAULT '[]';

-- A rowid table: its rows may be large, and are counted by the index alone.
CREATE TABLE template (
    account TEXT NOT NULL,
    uuid BLOB NOT NULL,
    alias TEXT NOT NULL, -- '' is none
    subject TEXT NOT NULL,
    html TEXT,
    text TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account, uuid)
) STRICT;

CREATE UNIQUE INDEX template_alias ON template (account, alias) WHERE alias <> '';
