-- Schema 1. Times are Unix milliseconds; ids of messages and recipients are made in the process, ordered by time.
-- No foreign keys: rows that belong together are written and deleted in one transaction, by ranges of their message.

-- Facts of the database itself: the number of times it was opened, the highest id handed out, …
CREATE TABLE instance (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The queue is cut by (route, domain); domain is '' where a relay takes everything.
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    route TEXT NOT NULL,
    domain TEXT NOT NULL,
    UNIQUE (route, domain)
) STRICT;

-- Small numbers for the names of keys, those of the configuration too: the queue's rows stay narrow.
CREATE TABLE key_ref (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account TEXT NOT NULL,
    key INTEGER NOT NULL,
    door TEXT NOT NULL,
    envelope_sender TEXT NOT NULL,
    header_from TEXT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    header_size INTEGER NOT NULL,
    body_hash BLOB NOT NULL,
    flags INTEGER NOT NULL, -- 1 eight_bit, 2 utf8_header, 4 dot_lines
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 2),
    recipients INTEGER NOT NULL CHECK (recipients > 0),
    pieces INTEGER NOT NULL CHECK (pieces > 0)
) STRICT;

-- The first piece of a message: the only one of nearly all. Its rowid is the message, so that it is found, appended
-- and erased without an index.
CREATE TABLE content (
    message INTEGER PRIMARY KEY,
    hash BLOB NOT NULL, -- SHA-256
    bytes BLOB NOT NULL
) STRICT;

-- The further pieces of large messages.
CREATE TABLE piece (
    message INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    hash BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (message, piece)
) STRICT;

-- Messages of which pieces are stored but which are not accepted (yet); at: when the last piece came.
CREATE TABLE staging (
    message INTEGER PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;

-- Clustered by message: a message's recipients are read together and need no second index.
CREATE TABLE recipient (
    message INTEGER NOT NULL,
    id INTEGER NOT NULL,
    address TEXT NOT NULL,
    destination INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0, -- equals waiting.at while it waits
    updated_at INTEGER NOT NULL,
    uncertain INTEGER NOT NULL DEFAULT 0, -- may have been delivered by an attempt whose end is unknown
    reply TEXT NOT NULL DEFAULT '',
    host TEXT NOT NULL DEFAULT '',
    bounce_class TEXT NOT NULL DEFAULT '',
    scope TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (message, id)
) STRICT, WITHOUT ROWID;

-- Where a recipient stands: a row in at most one of the next four; a final one is in none.
CREATE TABLE ready (
    destination INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (destination, priority, key, recipient)
) STRICT, WITHOUT ROWID;

CREATE TABLE waiting (
    at INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key INTEGER NOT NULL,
    message INTEGER NOT NULL,
    why TEXT NOT NULL, -- backoff | schedule
    PRIMARY KEY (at, recipient)
) STRICT, WITHOUT ROWID;

CREATE INDEX waiting_destination ON waiting (destination, at);

-- What settling needs to know of a recipient in hand is copied here by the claim.
CREATE TABLE leased (
    recipient INTEGER PRIMARY KEY,
    fence INTEGER NOT NULL,
    until INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key INTEGER NOT NULL,
    message INTEGER NOT NULL,
    uncertain INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE held (
    destination INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (destination, recipient)
) STRICT, WITHOUT ROWID;

-- Messages with an open recipient, by when they expire.
CREATE TABLE expiry (
    at INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (at, message)
) STRICT, WITHOUT ROWID;

-- How many recipients of a message are open, and how many ended undelivered; only where there are several.
CREATE TABLE pending (
    message INTEGER PRIMARY KEY,
    open INTEGER NOT NULL CHECK (open >= 0),
    undelivered INTEGER NOT NULL
) STRICT;

-- Content to erase, by when.
CREATE TABLE erase (
    at INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (at, message)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    message INTEGER NOT NULL,
    id INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    route TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    host TEXT NOT NULL,
    address TEXT NOT NULL,
    tls TEXT NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (message, id)
) STRICT, WITHOUT ROWID;

-- The log of what happened; seq rises and is never used twice.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    data TEXT NOT NULL -- JSON object
) STRICT;

CREATE INDEX event_message ON event (message);

CREATE TABLE idempotency (
    account TEXT NOT NULL,
    text TEXT NOT NULL,
    hash BLOB NOT NULL,
    uuid BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (account, text)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_at ON idempotency (at);

-- Keys made at run time. Lists are JSON arrays.
CREATE TABLE key (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE, -- SHA-256 of the text
    hint TEXT NOT NULL,
    account TEXT NOT NULL,
    route TEXT,
    senders TEXT NOT NULL,
    scopes TEXT NOT NULL,
    default_from TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE domain (
    name TEXT PRIMARY KEY,
    require_dkim INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dkim_key (
    domain TEXT NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    private_wrapped BLOB NOT NULL, -- by the master key
    active INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (domain, selector)
) STRICT, WITHOUT ROWID;

-- Addresses and domains that are not sent to; account is '' for everybody.
CREATE TABLE suppression (
    account TEXT NOT NULL,
    kind TEXT NOT NULL, -- address | domain
    value TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    cause INTEGER, -- event.seq
    PRIMARY KEY (account, kind, value)
) STRICT, WITHOUT ROWID;

CREATE INDEX suppression_expiry ON suppression (expires_at) WHERE expires_at IS NOT NULL;

-- Secrets of the instance, wrapped by the master key.
CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;
