-- Schema 4. What submitters are told (RFC 3461), delivery at most once, policies of MTA-STS, what keys say of it, and
-- the rotation of signing keys.

-- Further bits of message.flags: 24 the wish about TLS, 32 at most once, 192 what a notification returns.
ALTER TABLE message ADD COLUMN envid TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN send_at INTEGER NOT NULL DEFAULT 0; -- 0: at once

-- A sum of what the submitter asked for, and 16 once a delay was noted. What was queued before has nothing to tell.
ALTER TABLE recipient ADD COLUMN notify INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipient ADD COLUMN orcpt TEXT NOT NULL DEFAULT '';

-- tell: what may have to be told of it. once: 0 at least once, 1 at most once, 2 the same, and the final dot may have
-- left.
ALTER TABLE leased ADD COLUMN tell INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leased ADD COLUMN once INTEGER NOT NULL DEFAULT 0;

-- What is to be told of a recipient and was not yet; kind: 1 success, 2 failure, 4 delay.
CREATE TABLE report (
    message INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (message, recipient, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX report_at ON report (at, message);

-- Policies as they were fetched (RFC 8461). A rowid table: a policy may be large.
CREATE TABLE sts_policy (
    domain TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    text TEXT NOT NULL,
    fetched_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX sts_policy_expiry ON sts_policy (expires_at);

ALTER TABLE key ADD COLUMN duplicates TEXT NOT NULL DEFAULT 'at_least_once'; -- | at_most_once
ALTER TABLE key ADD COLUMN dsn INTEGER; -- as recipient.notify, where a client says nothing; NULL: as the door has it

ALTER TABLE dkim_key ADD COLUMN retired_at INTEGER; -- a key that is not active and has none is the next one
