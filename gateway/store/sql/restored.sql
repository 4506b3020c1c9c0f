-- Statements for a database that was restored from a backup: its queue is that of an earlier moment. ?1 is now.

-- name: doubt
-- All that may have been tried after the backup: what is open, but for what is still scheduled for later.
UPDATE recipient SET uncertain = 1
WHERE state IN ('queued', 'deferred', 'held') OR (state = 'scheduled' AND next_at <= ?1)

-- name: once_open
-- What is in doubt of mail that is to be delivered at most once (32 of message.flags).
CREATE TEMP TABLE once AS
SELECT r.destination, r.id AS recipient, m.priority, m.key, m.id AS message, m.account_ref AS account
FROM expiry e
CROSS JOIN message m ON m.id = e.message
CROSS JOIN recipient r ON r.message = m.id
WHERE m.flags & 32 AND (r.state IN ('queued', 'deferred') OR (r.state = 'scheduled' AND r.next_at <= ?1))

-- name: once_leave_ready
DELETE FROM ready WHERE recipient IN (SELECT recipient FROM once)

-- name: once_leave_waiting
DELETE FROM waiting WHERE recipient IN (SELECT recipient FROM once)

-- name: once_leave_leased
DELETE FROM leased WHERE recipient IN (SELECT recipient FROM once)

-- name: once_hold
INSERT INTO held (destination, recipient, priority, key, message)
SELECT destination, recipient, priority, key, message FROM once

-- name: once_held
UPDATE recipient SET state = 'held', next_at = 0, updated_at = ?1
WHERE (message, id) IN (SELECT message, recipient FROM once)

-- name: once_told
-- ?2 is the last event so far, ?3 what is said of it.
INSERT INTO event (seq, message, recipient, type, at, data, account)
SELECT ?2 + row_number() OVER (ORDER BY recipient), message, recipient, 'held', ?1, ?3, account FROM once

-- name: once_count
SELECT count(*) FROM once

-- name: past
-- What is open and has no time left.
SELECT count(*)
FROM expiry e
CROSS JOIN recipient r ON r.message = e.message
WHERE e.at <= ?1 AND r.state IN ('queued', 'deferred', 'held', 'scheduled')

-- name: last_event
SELECT max(number) FROM (
    SELECT max(seq) AS number FROM event UNION ALL SELECT value FROM instance WHERE name = 'event_seq'
)

-- name: event_number
INSERT INTO instance (name, value) VALUES ('event_seq', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: webhooks_forward
-- Who has nothing behind its place is at the end, wherever that is.
UPDATE webhook SET cursor = ?1 WHERE NOT EXISTS (SELECT 1 FROM event WHERE seq > webhook.cursor)

-- name: webhooks_pause
-- What happened since the backup their programs may know already, and a trial is none of their business; ?2 says why.
UPDATE webhook SET state = 'paused', why = ?2, updated_at = ?1 WHERE state = 'active'
