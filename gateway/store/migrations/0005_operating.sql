-- Schema 5. What operators suspended; sums by which damaged rows are found.

-- Nothing is claimed that matches all of route, domain and key that are not NULL, until then (NULL: until it is
-- resumed). An id is never used twice.
CREATE TABLE suspension (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    route TEXT,
    domain TEXT,
    key TEXT,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER
) STRICT;

-- seal_of (store/seal.py) what the row sends, from whom and to whom; 0: a row of an older version, which has none.
ALTER TABLE message ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipient ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destination ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
