-- A database as schema 3 had it: made by its migrations, with a row in every place. Never edited.
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
INSERT INTO "attempt" VALUES(100,1,1,'direct',1799999999900,1800000000000,'mx.example.com','192.0.2.25','TLSv1.3',2);
CREATE TABLE content (
    message INTEGER PRIMARY KEY,
    hash BLOB NOT NULL, -- SHA-256
    bytes BLOB NOT NULL
) STRICT;
INSERT INTO "content" VALUES(100,X'B9CFB803BD19C9FE25BCBFEDE4EAA5D165294D9B9F215FBBBB6EB10CA5A14C61',X'46726F6D3A2073406578616D706C652E6F72670D0A5375626A6563743A20736D616C6C0D0A0D0A536D616C6C2E0D0A');
INSERT INTO "content" VALUES(110,X'817D71E71D8796A7A91D6E6D26FD00C4D8D4CCA65A1D3DA4BEDCAA47587F9D71',X'46726F6D3A2073406578616D706C652E6F72670D0A5375626A6563743A206C617267650D0A0D0A66697273742070696563650D0A66697273742070696563650D0A66697273742070696563650D0A66697273742070696563650D0A');
INSERT INTO "content" VALUES(120,X'B9CFB803BD19C9FE25BCBFEDE4EAA5D165294D9B9F215FBBBB6EB10CA5A14C61',X'46726F6D3A2073406578616D706C652E6F72670D0A5375626A6563743A20736D616C6C0D0A0D0A536D616C6C2E0D0A');
INSERT INTO "content" VALUES(130,X'88F6811AB5D8FC6D3177F9B7609AE0FCEBFDA187E5046B62D38BB539E88B74D7',X'6F727068616E');
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    route TEXT NOT NULL,
    domain TEXT NOT NULL,
    UNIQUE (route, domain)
) STRICT;
INSERT INTO "destination" VALUES(1,'direct','example.com');
INSERT INTO "destination" VALUES(2,'relay','');
CREATE TABLE dkim_key (
    domain TEXT NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    private_wrapped BLOB NOT NULL, -- by the master key
    active INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (domain, selector)
) STRICT, WITHOUT ROWID;
INSERT INTO "dkim_key" VALUES('example.org','mgw1','rsa',X'012FD01AAD4861A161E96999B090CF7A508852849807A7E00209FD62029546D8BBE370C45F38BA763733',1,1800000000000);
CREATE TABLE domain (
    name TEXT PRIMARY KEY,
    require_dkim INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "domain" VALUES('example.org',0,1800000000000);
CREATE TABLE erase (
    at INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (at, message)
) STRICT, WITHOUT ROWID;
INSERT INTO "erase" VALUES(1800259200000,120);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    data TEXT NOT NULL -- JSON object
) STRICT;
INSERT INTO "event" VALUES(1,100,101,'accepted',1800000000000,'{}');
INSERT INTO "event" VALUES(2,100,106,'delivered',1800000000000,'{"host":"mx.example.com"}');
CREATE TABLE expiry (
    at INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (at, message)
) STRICT, WITHOUT ROWID;
INSERT INTO "expiry" VALUES(1800432000000,100);
INSERT INTO "expiry" VALUES(1800432000000,110);
CREATE TABLE held (
    destination INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (destination, recipient)
) STRICT, WITHOUT ROWID;
INSERT INTO "held" VALUES(1,105,1,1,100);
CREATE TABLE idempotency (
    account TEXT NOT NULL,
    text TEXT NOT NULL,
    hash BLOB NOT NULL,
    uuid BLOB NOT NULL,
    at INTEGER NOT NULL, result TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, text)
) STRICT, WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('acme','order-1',X'CA978112CA1BBDCAFAC231B39A23DC4DA786EFF8147C4E72B9807785AFEE48BB',X'64646464646464646464646464646464',1800000000000,'');
INSERT INTO "idempotency" VALUES('acme','request-1',X'454349E422F05297191EAD13E21D3DB520E5ABEF52055E4964B82FB213F593A1',X'',1800000000000,'{"ok":true}');
CREATE TABLE instance (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "instance" VALUES('epoch',7);
INSERT INTO "instance" VALUES('event_seq',40);
INSERT INTO "instance" VALUES('id_limit',900);
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
, limits TEXT NOT NULL DEFAULT '[]', networks TEXT NOT NULL DEFAULT '[]', old_digest BLOB, old_until INTEGER) STRICT, WITHOUT ROWID;
INSERT INTO "key" VALUES('web',X'2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B','mgw_','acme',NULL,'["*@example.org"]','["send"]',NULL,1800000000000,NULL,NULL,'[{"unit":"recipients","count":100,"period_s":60,"burst":100}]','["192.0.2.0/24"]',X'DA925A30E31F7FDAA7044E3E5BA4AE17670DE82D677B0E7ADF5700428A137A36',1800003600000);
CREATE TABLE key_ref (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO "key_ref" VALUES(1,'shop');
INSERT INTO "key_ref" VALUES(2,'web');
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
INSERT INTO "leased" VALUES(104,30064771073,1800003600000,6,1,1,1,100,0,7,1,1800432000000);
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
INSERT INTO "message" VALUES(100,X'64646464646464646464646464646464','acme',1,'smtp','s@example.org','s@example.org','Subject 100','m100@example.org',47,40,X'00',0,'["tag"]','{"order":100}',1800000000000,1800432000000,1,7,1);
INSERT INTO "message" VALUES(110,X'6E6E6E6E6E6E6E6E6E6E6E6E6E6E6E6E','acme',2,'smtp','s@example.org','s@example.org','Subject 110','m110@example.org',147,40,X'00',0,'["tag"]','{"order":110}',1800000000000,1800432000000,1,1,2);
INSERT INTO "message" VALUES(120,X'78787878787878787878787878787878','acme',1,'smtp','s@example.org','s@example.org','Subject 120','m120@example.org',47,40,X'00',0,'["tag"]','{"order":120}',1800000000000,1800432000000,1,1,1);
CREATE TABLE pending (
    message INTEGER PRIMARY KEY,
    open INTEGER NOT NULL CHECK (open >= 0),
    undelivered INTEGER NOT NULL
) STRICT;
INSERT INTO "pending" VALUES(100,5,1);
CREATE TABLE piece (
    message INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    hash BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (message, piece)
) STRICT;
INSERT INTO "piece" VALUES(110,1,X'BF99C5E9EA3197541C89ED43A89507B135DEE3942857DE6D9A92CCDDBE845BA1',X'7365636F6E642070696563650D0A7365636F6E642070696563650D0A7365636F6E642070696563650D0A7365636F6E642070696563650D0A');
CREATE TABLE ready (
    destination INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (destination, priority, key, recipient)
) STRICT, WITHOUT ROWID;
INSERT INTO "ready" VALUES(1,1,1,101,100);
INSERT INTO "ready" VALUES(2,1,2,111,110);
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
INSERT INTO "recipient" VALUES(100,101,'ready@example.com',1,'queued',0,0,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(100,102,'waiting@example.com',1,'deferred',1,1800000000001,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(100,103,'later@example.com',1,'scheduled',0,1800000000002,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(100,104,'leased@example.com',1,'queued',0,0,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(100,105,'held@example.com',1,'held',0,0,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(100,106,'gone@example.com',1,'delivered',1,0,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(100,107,'no@example.com',1,'bounced',1,0,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(110,111,'large@example.net',2,'queued',0,0,1800000000000,0,'','','','','');
INSERT INTO "recipient" VALUES(120,121,'failed@example.com',1,'failed',4,0,1800000000000,0,'','','','','');
CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "secret" VALUES('token',X'01C20785035559617BB427BB77E652058147881491D11FE244EE9C82EEE35C9D505766644A746D2163266854408CCF7CF557725019');
CREATE TABLE staging (
    message INTEGER PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
INSERT INTO "staging" VALUES(130,1800000000000);
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
INSERT INTO "suppression" VALUES('','address','nobody@example.com','complaint',1800000000000,1800003600000,2);
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
INSERT INTO "template" VALUES('acme',X'00000000000000000000000000000000','hello','Hello {{name}}',NULL,'Hello.',1800000000000,1800000000000);
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
INSERT INTO "waiting" VALUES(1800000000001,102,1,1,1,100,'backoff');
INSERT INTO "waiting" VALUES(1800000000002,103,1,1,1,100,'schedule');
CREATE INDEX waiting_destination ON waiting (destination, at);
CREATE INDEX event_message ON event (message);
CREATE INDEX idempotency_at ON idempotency (at);
CREATE INDEX suppression_expiry ON suppression (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX template_alias ON template (account, alias) WHERE alias <> '';
CREATE UNIQUE INDEX key_old_digest ON key (old_digest) WHERE old_digest IS NOT NULL;
PRAGMA user_version = 3;
