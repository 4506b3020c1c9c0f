-- Endpoints that are told of events, and how far each of them is.

-- name: webhooks_all
SELECT id, uuid, account, url, format, secret_wrapped, old_secret_wrapped, old_until, types, keys, tags, final_only, state,
    why, cursor, epoch, failing_since, created_at, updated_at
FROM webhook ORDER BY id

-- name: webhooks_of
SELECT id, uuid, account, url, format, secret_wrapped, old_secret_wrapped, old_until, types, keys, tags, final_only, state,
    why, cursor, epoch, failing_since, created_at, updated_at
FROM webhook WHERE account = ?1 ORDER BY id

-- name: webhook_one
SELECT id, uuid, account, url, format, secret_wrapped, old_secret_wrapped, old_until, types, keys, tags, final_only, state,
    why, cursor, epoch, failing_since, created_at, updated_at
FROM webhook WHERE uuid = ?1

-- name: webhook_count
SELECT count(*) FROM webhook WHERE account = ?1

-- name: webhook_add
-- It begins behind what is written: a number that was given out for what was not may come again after a restart.
INSERT INTO webhook (uuid, account, url, format, secret_wrapped, types, keys, tags, final_only, state, why, cursor,
    created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, (SELECT coalesce(max(seq), 0) FROM event), ?12, ?12)
RETURNING id

-- name: webhook_change
-- ?10 is the URL that it was seen with. With another one it is pending; else its state is somebody else's, who may have
-- changed it meanwhile.
UPDATE webhook SET url = ?2, format = ?3, types = ?4, keys = ?5, tags = ?6, final_only = ?7,
    state = iif(url = ?2, state, 'pending'), why = iif(url = ?2, why, ?8), updated_at = ?9
WHERE uuid = ?1 AND url = ?10 RETURNING id

-- name: webhook_state
-- ?6 is the state that it was seen in: it may have another URL meanwhile, and be pending.
UPDATE webhook SET state = ?2, why = ?3, failing_since = ?4, updated_at = ?5
WHERE uuid = ?1 AND state = coalesce(?6, state) RETURNING id

-- name: webhook_begin
-- Only at the URL that answered.
UPDATE webhook SET state = ?4, why = ?5, failing_since = ?6, updated_at = ?3
WHERE uuid = ?1 AND url = ?2 AND state = 'pending' RETURNING id

-- name: webhook_rotate
UPDATE webhook SET old_secret_wrapped = secret_wrapped, old_until = ?3, secret_wrapped = ?2, updated_at = ?4
WHERE uuid = ?1 RETURNING id

-- name: webhook_remove
DELETE FROM webhook WHERE uuid = ?1 RETURNING id

-- name: webhook_rewind
-- Never forward: what it was not told yet is behind that place, too.
UPDATE webhook SET cursor = min(cursor, ?2), epoch = epoch + 1, updated_at = ?3 WHERE uuid = ?1 RETURNING id, cursor

-- name: webhook_revive
UPDATE webhook SET epoch = epoch + 1, updated_at = ?2 WHERE uuid = ?1 RETURNING id

-- name: webhook_progress
-- Of this epoch: what was on its way before a replay counts no more. ?3 only ever rises in one.
UPDATE webhook SET cursor = max(cursor, ?3), failing_since = ?4 WHERE id = ?1 AND epoch = ?2 RETURNING account

-- name: webhook_disable
UPDATE webhook SET state = 'disabled', why = ?2, updated_at = ?3 WHERE id = ?1 AND state = 'active' RETURNING id

-- name: webhook_parked_of
SELECT seq, message, attempts, next_at FROM webhook_parked WHERE webhook = ?1 ORDER BY seq

-- name: webhook_parked_put
INSERT INTO webhook_parked (webhook, seq, message, attempts, next_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (webhook, seq) DO UPDATE SET attempts = excluded.attempts, next_at = excluded.next_at

-- name: webhook_parked_count
SELECT count(*) FROM webhook_parked WHERE webhook = ?1

-- name: webhook_parked_drop
DELETE FROM webhook_parked WHERE webhook = ?1 AND seq = ?2

-- name: webhook_parked_drop_after
DELETE FROM webhook_parked WHERE webhook = ?1 AND seq > ?2

-- name: webhook_parked_drop_all
DELETE FROM webhook_parked WHERE webhook = ?1

-- name: webhook_dead_put
INSERT INTO webhook_dead (webhook, seq, attempts, at, why) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (webhook, seq) DO UPDATE SET attempts = excluded.attempts, at = excluded.at, why = excluded.why

-- name: webhook_dead_trim
-- The newest ?2 stay.
DELETE FROM webhook_dead
WHERE webhook = ?1 AND seq <= (SELECT seq FROM webhook_dead WHERE webhook = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)

-- name: webhook_dead_of
SELECT d.seq, d.attempts, d.at, d.why, e.type, e.at
FROM webhook_dead d
LEFT JOIN event e ON e.seq = d.seq
WHERE d.webhook = ?1 ORDER BY d.seq DESC LIMIT ?2

-- name: webhook_dead_count
SELECT count(*) FROM webhook_dead WHERE webhook = ?1

-- name: webhook_dead_first
-- Those whose event is still known, oldest first.
SELECT d.seq, e.message
FROM webhook_dead d
CROSS JOIN event e ON e.seq = d.seq
WHERE d.webhook = ?1 ORDER BY d.seq LIMIT ?2

-- name: webhook_dead_drop
DELETE FROM webhook_dead WHERE webhook = ?1 AND seq = ?2

-- name: webhook_dead_drop_after
DELETE FROM webhook_dead WHERE webhook = ?1 AND seq > ?2

-- name: webhook_dead_drop_all
DELETE FROM webhook_dead WHERE webhook = ?1

-- name: webhook_attempt_put
-- Nothing of an endpoint that was removed while it was asked.
INSERT INTO webhook_attempt (webhook, id, seq, at, attempt, status, took_ms, error)
SELECT ?1, (SELECT coalesce(max(id), 0) + 1 FROM webhook_attempt WHERE webhook = ?1), ?2, ?3, ?4, ?5, ?6, ?7
FROM webhook WHERE id = ?1

-- name: webhook_attempt_trim
DELETE FROM webhook_attempt
WHERE webhook = ?1 AND id <= (SELECT max(id) FROM webhook_attempt WHERE webhook = ?1) - ?2

-- name: webhook_attempts_of
SELECT a.seq, a.at, a.attempt, a.status, a.took_ms, a.error, e.type, e.at
FROM webhook_attempt a
LEFT JOIN event e ON e.seq = a.seq
WHERE a.webhook = ?1 ORDER BY a.id DESC LIMIT ?2

-- name: webhook_attempts_drop_all
DELETE FROM webhook_attempt WHERE webhook = ?1
