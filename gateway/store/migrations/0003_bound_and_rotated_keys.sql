-- Schema 3. Keys that only some addresses may use, and the text that a rotated key had before.

-- A JSON array of networks; empty: the key may be used from anywhere.
ALTER TABLE key ADD COLUMN networks TEXT NOT NULL DEFAULT '[]';

-- The digest of the text before the last rotation, and when it ends to be good.
ALTER TABLE key ADD COLUMN old_digest BLOB;
ALTER TABLE key ADD COLUMN old_until INTEGER;

CREATE UNIQUE INDEX key_old_digest ON key (old_digest) WHERE old_digest IS NOT NULL;
