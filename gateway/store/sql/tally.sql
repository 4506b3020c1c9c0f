-- What is queued, counted in the memory of the writer's connection

-- name: tally_table
CREATE TEMP TABLE tally (id INTEGER PRIMARY KEY, messages INTEGER NOT NULL)

-- name: tally_count
INSERT INTO tally (id, messages) SELECT 1, count(*) FROM expiry

-- name: tally_more
CREATE TEMP TRIGGER tally_more AFTER INSERT ON main.expiry
BEGIN UPDATE tally SET messages = messages + 1 WHERE id = 1; END

-- name: tally_less
CREATE TEMP TRIGGER tally_less AFTER DELETE ON main.expiry
BEGIN UPDATE tally SET messages = messages - 1 WHERE id = 1; END

-- name: tally_get
SELECT messages FROM tally WHERE id = 1
