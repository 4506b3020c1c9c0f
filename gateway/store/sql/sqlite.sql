-- Statements of the SQLite engine; ?N is the Nth value. A single connection writes, so nothing is locked by row.

-- name: instance_get
SELECT value FROM instance WHERE name = ?1

-- name: instance_raise
INSERT INTO instance (name, value) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)

-- name: instance_put
INSERT INTO instance (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: epoch_next
INSERT INTO instance (name, value) VALUES ('epoch', 1)
ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value

-- name: event_last
SELECT max(seq) FROM event

-- name: message_last
SELECT max(id) FROM message


-- Names

-- name: destination_find
-- And whether its row, found by the number, says the same as the index, and fits its seal.
SELECT f.id, EXISTS (
    SELECT 1 FROM destination d
    WHERE d.id = f.id AND +d.route = ?1 AND +d.domain = ?2 AND d.seal IN (0, seal_of(d.id || '|' || ?1 || '|' || ?2)))
FROM destination f WHERE f.route = ?1 AND f.domain = ?2

-- name: destination_reindex
REINDEX destination

-- name: destination_disown
-- Its name is another's; no route has one with a blank.
UPDATE destination SET route = 'damaged ' || id WHERE id = ?1

-- name: destination_add
INSERT INTO destination (id, route, domain, seal)
VALUES ((SELECT coalesce(max(id), 0) + 1 FROM destination), ?1, ?2,
    seal_of((SELECT coalesce(max(id), 0) + 1 FROM destination) || '|' || ?1 || '|' || ?2)) RETURNING id

-- name: destination_name
SELECT route, domain FROM destination WHERE id = ?1 AND seal IN (0, seal_of(id || '|' || route || '|' || domain))

-- name: destination_shown
SELECT route, domain FROM destination WHERE id = ?1

-- name: key_find
SELECT id FROM key_ref WHERE name = ?1

-- name: key_ref_add
INSERT INTO key_ref (name) VALUES (?1) RETURNING id

-- name: account_find
SELECT id FROM account_ref WHERE name = ?1

-- name: account_add
INSERT INTO account_ref (name) VALUES (?1) RETURNING id

-- name: key_name
SELECT name FROM key_ref WHERE id = ?1


-- Accepting

-- name: idempotency_find
SELECT hash, uuid, result FROM idempotency WHERE account = ?1 AND text = ?2 AND at > ?3

-- name: idempotency_put
INSERT INTO idempotency (account, text, hash, uuid, at, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (account, text)
DO UPDATE SET hash = excluded.hash, uuid = excluded.uuid, at = excluded.at, result = excluded.result

-- name: message_add
INSERT INTO message (id, uuid, account, key, door, envelope_sender, header_from, subject, message_id, size,
    header_size, body_hash, flags, tags, metadata, created_at, expires_at, priority, recipients, pieces, envid, send_at,
    account_ref, unsubscribe, original_to, seal)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
    ?23, ?24, ?25, seal_of(?1 || '|' || ?3 || '|' || ?4 || '|' || ?6 || '|' || ?7 || '|' || ?10 || '|' || ?11 || '|' || ?13 || '|' || ?17
        || '|' || ?18 || '|' || ?19 || '|' || ?20 || '|' || ?21, ?2, ?12))

-- name: content_put
INSERT INTO content (message, hash, bytes) VALUES (?1, ?2, ?3)
ON CONFLICT (message) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes

-- name: piece_put
INSERT INTO piece (message, piece, hash, bytes) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (message, piece) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes

-- name: pieces_stored
SELECT (SELECT count(*) FROM content WHERE message = ?1) + (SELECT count(*) FROM piece WHERE message = ?1)

-- name: staging_put
INSERT INTO staging (message, at) VALUES (?1, ?2) ON CONFLICT (message) DO UPDATE SET at = excluded.at

-- name: staging_delete
DELETE FROM staging WHERE message = ?1

-- name: recipient_add
INSERT INTO recipient (message, id, address, destination, updated_at, notify, orcpt, seal)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, seal_of(?1 || '|' || ?2 || '|' || ?3 || '|' || ?4 || '|' || ?7))

-- name: recipient_begin
-- Scheduled, held or suppressed.
INSERT INTO recipient (message, id, address, destination, updated_at, notify, orcpt, state, next_at, reply, seal)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, seal_of(?1 || '|' || ?2 || '|' || ?3 || '|' || ?4 || '|' || ?7))

-- name: ready_add
INSERT INTO ready (destination, priority, key, recipient, message) VALUES (?1, ?2, ?3, ?4, ?5)

-- name: event_add
-- Of an account that is known (0: of nobody's).
INSERT INTO event (seq, message, recipient, type, at, data, account) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- name: event_of_message
-- Of the account of its message.
INSERT INTO event (seq, message, recipient, type, at, data, account)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, coalesce((SELECT account_ref FROM message WHERE id = ?2), 0))

-- name: expiry_add
INSERT INTO expiry (at, message) VALUES (?1, ?2)

-- name: pending_add
INSERT INTO pending (message, open, undelivered) VALUES (?1, ?2, 0)


-- Claiming

-- name: due_destinations
WITH RECURSIVE due (id) AS (
    SELECT min(destination) FROM ready
    UNION ALL
    SELECT (SELECT min(destination) FROM ready WHERE destination > due.id) FROM due WHERE due.id IS NOT NULL
)
SELECT id FROM due WHERE id IS NOT NULL

-- name: ready_ranks
WITH RECURSIVE present (rank) AS (
    SELECT min(priority) FROM ready WHERE destination = ?1
    UNION ALL
    SELECT (SELECT min(priority) FROM ready WHERE destination = ?1 AND priority > present.rank)
    FROM present WHERE present.rank IS NOT NULL
)
SELECT rank FROM present WHERE rank IS NOT NULL

-- name: ready_keys
-- The keys above ?3 that have something ready of one rank, at most ?4 of them.
WITH RECURSIVE present (key) AS (
    SELECT min(key) FROM ready WHERE destination = ?1 AND priority = ?2 AND key > ?3
    UNION ALL
    SELECT (SELECT min(key) FROM ready WHERE destination = ?1 AND priority = ?2 AND key > present.key)
    FROM present WHERE present.key IS NOT NULL
    LIMIT ?4
)
SELECT key FROM present WHERE key IS NOT NULL

-- name: ready_take
SELECT recipient, message FROM ready
WHERE destination = ?1 AND priority = ?2 AND key = ?3 AND recipient > ?4
ORDER BY recipient LIMIT ?5

-- name: ready_delete
DELETE FROM ready WHERE destination = ?1 AND priority = ?2 AND key = ?3 AND recipient BETWEEN ?4 AND ?5

-- name: claim_recipient
-- Nothing where it is damaged.
SELECT id, address, attempts, uncertain, notify, orcpt, reply, host FROM recipient
WHERE message = ?1 AND id = ?2 AND destination = ?3
    AND seal IN (0, seal_of(message || '|' || id || '|' || address || '|' || destination || '|' || orcpt))

-- name: claim_message
-- Nothing where it is damaged.
SELECT m.id, m.uuid, m.account, m.key, m.envelope_sender, m.header_from, m.message_id, m.size, m.header_size,
    m.body_hash, m.flags, m.created_at, m.expires_at, m.priority, m.recipients, m.pieces, m.envid, c.hash,
    c.bytes, m.account_ref, m.tags, m.unsubscribe
FROM message m LEFT JOIN content c ON c.message = m.id AND m.pieces = 1 AND m.size <= ?2
WHERE m.id = ?1 AND m.seal IN (0, seal_of(m.id || '|' || m.account || '|' || m.key || '|' || m.envelope_sender || '|' || m.header_from
    || '|' || m.size || '|' || m.header_size || '|' || m.flags || '|' || m.expires_at || '|' || m.priority || '|'
    || m.recipients || '|' || m.pieces || '|' || m.envid, m.uuid, m.body_hash))

-- name: leased_add
INSERT INTO leased (recipient, fence, until, owner, destination, priority, key, message, uncertain, recipients,
    pieces, expires_at, tell, once, account_ref)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)

-- name: ready_slice
SELECT priority, key, recipient, message FROM ready
WHERE destination = ?1 AND (priority, key, recipient) > (?2, ?3, ?4)
ORDER BY priority, key, recipient LIMIT ?5

-- name: leased_any
SELECT 1 FROM leased WHERE recipient = ?1

-- name: recipient_damaged
UPDATE recipient SET state = 'failed', attempts = attempts + 1, next_at = 0, updated_at = ?3, reply = ?4, host = '',
    bounce_class = ?5, scope = ?6, stage = 'store'
WHERE message = ?1 AND id = ?2 RETURNING attempts, notify

-- name: leased_renew
UPDATE leased SET until = ?3 WHERE recipient = ?1 AND fence = ?2

-- name: leased_mark
UPDATE leased SET once = 2 WHERE recipient = ?1 AND fence = ?2 RETURNING recipient


-- Settling

-- name: leased_find
SELECT recipient, fence, destination, priority, key, message, uncertain, recipients, pieces, expires_at, tell, account_ref
FROM leased WHERE recipient = ?1 AND fence = ?2

-- name: leased_delete
DELETE FROM leased WHERE recipient = ?1

-- name: recipient_settle
UPDATE recipient SET state = ?3, attempts = ?4, next_at = ?5, updated_at = ?6, uncertain = ?7, reply = ?8, host = ?9,
    bounce_class = ?10, scope = ?11, stage = ?12
WHERE message = ?1 AND id = ?2

-- name: recipient_uncertain
UPDATE recipient SET uncertain = 1 WHERE message = ?1 AND id = ?2

-- name: waiting_add
INSERT INTO waiting (at, recipient, destination, priority, key, message, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- name: attempt_add
INSERT INTO attempt (message, id, destination, route, started_at, ended_at, host, address, tls, recipients)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)


-- Ending

-- name: pending_end
UPDATE pending SET open = open - ?2, undelivered = undelivered + ?3 WHERE message = ?1
RETURNING open, undelivered, EXISTS (SELECT 1 FROM report WHERE message = ?1)

-- name: pending_delete
DELETE FROM pending WHERE message = ?1

-- name: expiry_delete
DELETE FROM expiry WHERE at = ?1 AND message = ?2

-- name: content_delete
DELETE FROM content WHERE message = ?1

-- name: pieces_delete
DELETE FROM piece WHERE message = ?1

-- name: erase_add
INSERT INTO erase (at, message) VALUES (?1, ?2) ON CONFLICT DO NOTHING


-- Promoting, retrying, reclaiming

-- name: waiting_first
SELECT at FROM waiting ORDER BY at, recipient LIMIT 1

-- name: waiting_boundary
SELECT at, recipient FROM waiting WHERE at <= ?1 ORDER BY at, recipient LIMIT 1 OFFSET ?2

-- name: waiting_destinations
-- The plus keeps the index by destination out: it would be read whole to find what is distinct.
SELECT DISTINCT +destination FROM waiting WHERE (at, recipient) <= (?1, ?2)

-- name: scheduled_promote
UPDATE recipient SET state = 'queued', next_at = 0, updated_at = ?3
WHERE (message, id) IN (SELECT message, recipient FROM waiting WHERE (at, recipient) <= (?1, ?2) AND why = 'schedule')

-- name: scheduled_release
UPDATE recipient SET state = 'queued', next_at = 0, updated_at = ?3 WHERE message = ?1 AND id = ?2

-- name: waiting_promote
INSERT INTO ready (destination, priority, key, recipient, message)
SELECT destination, priority, key, recipient, message FROM waiting WHERE (at, recipient) <= (?1, ?2)

-- name: waiting_drop
DELETE FROM waiting WHERE (at, recipient) <= (?1, ?2)

-- name: waiting_due
-- Destinations with something due at ?1, by the index alone.
WITH RECURSIVE present (id) AS (
    SELECT min(destination) FROM waiting
    UNION ALL
    SELECT (SELECT min(destination) FROM waiting WHERE destination > present.id)
    FROM present WHERE present.id IS NOT NULL
)
SELECT id FROM present
WHERE id IS NOT NULL AND EXISTS (SELECT 1 FROM waiting WHERE destination = present.id AND at <= ?1)

-- name: waiting_of
-- By the index alone.
SELECT at, recipient, destination FROM waiting WHERE destination = ?1 AND at <= ?2 ORDER BY at, recipient LIMIT ?3

-- name: waiting_delete
DELETE FROM waiting WHERE at = ?1 AND recipient = ?2
RETURNING destination, priority, key, recipient, message, why

-- name: leased_lost
-- Reads the whole table: it holds only what is in hand.
SELECT recipient, destination, priority, key, message, uncertain, recipients, pieces, expires_at, tell, once
FROM leased WHERE owner <> ?1 OR until <= ?2 LIMIT ?3

-- name: recipient_lose
-- What was marked has had its try.
UPDATE recipient SET state = 'failed', attempts = attempts + 1, next_at = 0, updated_at = ?3, uncertain = 1, reply = ?4,
    host = '', bounce_class = ?5, scope = ?6, stage = 'dot'
WHERE message = ?1 AND id = ?2
RETURNING id, attempts, address, (SELECT m.uuid FROM message m WHERE m.id = recipient.message)


-- Expiring

-- name: expiry_due
SELECT at, message FROM expiry WHERE (at, message) > (?1, ?2) AND at <= ?3 ORDER BY at, message LIMIT ?4

-- name: expiry_message
SELECT priority, key, recipients, pieces, envelope_sender FROM message WHERE id = ?1

-- name: recipients_open
SELECT r.id, r.destination, r.attempts, r.next_at, r.reply, r.host, r.uncertain, r.notify
FROM recipient r
WHERE r.message = ?1 AND r.state IN ('queued', 'deferred', 'held', 'scheduled')
    AND NOT EXISTS (SELECT 1 FROM leased l WHERE l.recipient = r.id)

-- name: ready_remove
-- Of both ranks of a priority (picking.py).
DELETE FROM ready WHERE destination = ?1 AND priority IN (?2, ?2 + 3) AND key = ?3 AND recipient = ?4
RETURNING recipient

-- name: held_remove
DELETE FROM held WHERE destination = ?1 AND recipient = ?2 RETURNING recipient

-- name: recipient_expire
UPDATE recipient SET state = 'failed', bounce_class = 'MessageExpired', stage = 'expire', next_at = 0, updated_at = ?3
WHERE message = ?1 AND id = ?2


-- Telling

-- name: report_add
INSERT INTO report (message, recipient, kind, at) VALUES (?1, ?2, ?3, ?4)

-- name: report_drop
DELETE FROM report WHERE message = ?1 AND recipient = ?2 AND kind = ?3 RETURNING recipient, kind

-- name: delay_note
-- A recipient whose delay is to be told at ?3, where its delivery began at ?4 or earlier.
UPDATE recipient SET notify = notify | 16
WHERE message = ?1 AND id = ?2
    AND (SELECT max(created_at, send_at) FROM message WHERE id = ?1) <= ?4
RETURNING message, id, 4, ?3

-- name: reports_first
SELECT at, message FROM report WHERE (at, message) > (?1, ?2) AND at < ?3 ORDER BY at, message LIMIT ?4

-- name: report_message
SELECT m.id, m.uuid, m.account, k.name, m.envelope_sender, m.subject, m.message_id, m.size, m.header_size, m.body_hash,
    m.flags, m.pieces, m.envid, m.created_at, m.expires_at
FROM message m CROSS JOIN key_ref k ON k.id = m.key
WHERE m.id = ?1

-- name: report_recipients
SELECT r.id, r.address, r.orcpt, p.kind, p.at, r.state, r.attempts, r.reply, r.host, r.bounce_class, r.stage, d.route
FROM report p
CROSS JOIN recipient r ON r.message = p.message AND r.id = p.recipient
CROSS JOIN destination d ON d.id = r.destination
WHERE p.message = ?1 ORDER BY p.recipient, p.kind LIMIT ?2


-- What operators do

-- name: suspension_add
INSERT INTO suspension (route, domain, key, reason, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
RETURNING id, route, domain, key, reason, since, until

-- name: suspensions_all
SELECT id, route, domain, key, reason, since, until FROM suspension WHERE id > 0 ORDER BY id

-- name: suspension_remove
DELETE FROM suspension WHERE id = ?1 RETURNING id

-- name: suspension_end
DELETE FROM suspension WHERE id > 0 AND until <= ?1 RETURNING id

-- name: operate_row
SELECT r.message, r.id, r.state, r.destination, r.next_at, r.attempts, r.address, r.notify, m.priority, m.key,
    m.recipients, m.pieces, m.expires_at, m.envelope_sender
FROM recipient r CROSS JOIN message m ON m.id = r.message
WHERE r.message = ?1 AND r.id = ?2 AND r.state IN ('queued', 'deferred', 'held', 'scheduled')

-- name: held_add
INSERT INTO held (destination, recipient, priority, key, message) VALUES (?1, ?2, ?3, ?4, ?5)

-- name: recipient_place
UPDATE recipient SET state = ?3, next_at = ?4, updated_at = ?5 WHERE message = ?1 AND id = ?2

-- name: recipient_redirect
-- A damaged row is not sealed anew: it fails when it is claimed.
UPDATE recipient SET destination = ?3, address = ?4, updated_at = ?5,
    seal = seal_of(message || '|' || id || '|' || ?4 || '|' || ?3 || '|' || orcpt)
WHERE message = ?1 AND id = ?2
    AND seal IN (0, seal_of(message || '|' || id || '|' || address || '|' || destination || '|' || orcpt))

-- name: recipient_bounce
UPDATE recipient SET state = 'bounced', next_at = 0, updated_at = ?3, reply = ?4, host = '', bounce_class = ?5,
    scope = ?6, stage = ''
WHERE message = ?1 AND id = ?2


-- Sweeping

-- name: staging_old
-- Reads the whole table: it holds only what is being received, and orphans.
SELECT s.message, m.id FROM staging s LEFT JOIN message m ON m.id = s.message WHERE s.at < ?1 LIMIT ?2

-- name: erase_due
-- And whether something is to be told of it still, or a recipient is open, after somebody else was erased.
SELECT at, message, EXISTS (SELECT 1 FROM report r WHERE r.message = erase.message)
    OR EXISTS (
        SELECT 1 FROM recipient o
        WHERE o.message = erase.message AND o.state IN ('queued', 'deferred', 'held', 'scheduled'))
FROM erase WHERE at <= ?1 ORDER BY at, message LIMIT ?2

-- name: erase_delete
DELETE FROM erase WHERE at = ?1 AND message = ?2

-- name: messages_old
-- The ids above ?1 and below ?2, at most ?4, and whether a recipient of theirs is open or changed at ?3 or later, or
-- something is to be told of one; and its key.
SELECT m.id, EXISTS (
    SELECT 1 FROM recipient r WHERE r.message = m.id
        AND (r.updated_at >= ?3 OR r.state IN ('queued', 'deferred', 'held', 'scheduled')))
    OR EXISTS (SELECT 1 FROM report p WHERE p.message = m.id), m.key
FROM message m
WHERE m.id > ?1 AND m.id < ?2
ORDER BY m.id LIMIT ?4

-- name: messages_before
SELECT id, key FROM message WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3

-- name: message_key
SELECT m.id, k.name FROM message m CROSS JOIN key_ref k ON k.id = m.key WHERE m.id = ?1

-- name: message_delete
DELETE FROM message WHERE id = ?1

-- name: recipients_delete
DELETE FROM recipient WHERE message = ?1

-- name: attempts_delete
DELETE FROM attempt WHERE message = ?1

-- name: engagement_delete
DELETE FROM engagement WHERE message = ?1

-- name: message_events_delete
DELETE FROM event WHERE message = ?1

-- name: message_events_old
DELETE FROM event WHERE message = ?1 AND at < ?2

-- name: events_old
-- Of the first ?2 the last that is older, and how many they are.
SELECT max(iif(at < ?1, seq, NULL)), count(*) FROM (SELECT seq, at FROM event ORDER BY seq LIMIT ?2)

-- name: events_delete
-- A clock that was behind may have written a time that is older than that of the events before it.
DELETE FROM event WHERE seq <= ?1 AND at < ?2

-- name: idempotency_old
SELECT account, text FROM idempotency WHERE at <= ?1 LIMIT ?2

-- name: idempotency_delete
DELETE FROM idempotency WHERE account = ?1 AND text = ?2

-- name: sts_policies_old
SELECT domain FROM sts_policy WHERE expires_at <= ?1 LIMIT ?2

-- name: sts_policy_delete
DELETE FROM sts_policy WHERE domain = ?1

-- name: freelist
PRAGMA freelist_count

-- name: vacuum_step
PRAGMA incremental_vacuum(256)


-- Reading

-- name: count_ready
SELECT destination, count(*), min(recipient) FROM ready GROUP BY destination

-- name: count_waiting
SELECT destination, count(*), min(recipient), min(at) FROM waiting GROUP BY destination

-- name: count_scheduled
-- Of what waits; its index holds nothing else.
SELECT destination, count(*) FROM waiting WHERE why = 'schedule' GROUP BY destination

-- name: count_leased
SELECT destination, count(*), min(recipient) FROM leased GROUP BY destination

-- name: count_held
SELECT destination, count(*), min(recipient) FROM held GROUP BY destination

-- name: message_view
SELECT m.id, m.uuid, m.account, k.name, m.door, m.envelope_sender, m.header_from, m.subject, m.message_id, m.size,
    m.tags, m.metadata, m.created_at, m.expires_at, m.flags
FROM message m CROSS JOIN key_ref k ON k.id = m.key
WHERE m.uuid = ?1 AND (?2 IS NULL OR m.account = ?2)

-- name: message_recipients
-- The columns of a recipient are those of find_slice and find_row, too; place: 1 ready, 2 backoff, 4 schedule, 8 held,
-- 16 in hand.
SELECT r.id, r.address, r.state, r.attempts, w.at, m.expires_at, r.reply, r.host, r.bounce_class,
    CASE WHEN l.recipient IS NOT NULL THEN 16 WHEN h.recipient IS NOT NULL THEN 8 WHEN w.why = 'schedule' THEN 4
        WHEN w.why IS NOT NULL THEN 2 ELSE 1 END AS place,
    r.updated_at, r.uncertain, d.route, d.domain, r.scope, r.stage, coalesce(g.opens, 0), coalesce(g.clicks, 0)
FROM message m
CROSS JOIN recipient r ON r.message = m.id
CROSS JOIN destination d ON d.id = r.destination
LEFT JOIN waiting w ON w.at = r.next_at AND w.recipient = r.id
LEFT JOIN leased l ON l.recipient = r.id
LEFT JOIN held h ON h.destination = r.destination AND h.recipient = r.id
LEFT JOIN engagement g ON g.message = r.message AND g.recipient = r.id
WHERE m.id = ?1
ORDER BY r.id

-- name: message_position
SELECT expires_at, id FROM message WHERE uuid = ?1

-- name: find_boundary
SELECT at, message FROM expiry WHERE (at, message) > (?1, ?2) ORDER BY at, message LIMIT 1 OFFSET ?3

-- name: find_slice
-- Open recipients of the messages that expire after (?1, ?2), and of that one those above ?3, up to (?4, ?5); NULL
-- filters nothing. ?10 is the domain of the destination, or of the address where a destination has none; ?13 a sum of
-- places.
SELECT m.id, m.uuid, k.name, m.account, m.envelope_sender, m.expires_at, m.subject,
    r.id, r.address, r.state, r.attempts, w.at, m.expires_at, r.reply, r.host, r.bounce_class,
    CASE WHEN l.recipient IS NOT NULL THEN 16 WHEN h.recipient IS NOT NULL THEN 8 WHEN w.why = 'schedule' THEN 4
        WHEN w.why IS NOT NULL THEN 2 ELSE 1 END AS place,
    r.updated_at, r.uncertain, d.route, d.domain, r.scope, r.stage,
    m.created_at
FROM expiry e
CROSS JOIN message m ON m.id = e.message
CROSS JOIN key_ref k ON k.id = m.key
CROSS JOIN recipient r ON r.message = m.id
CROSS JOIN destination d ON d.id = r.destination
LEFT JOIN waiting w ON w.at = r.next_at AND w.recipient = r.id
LEFT JOIN leased l ON l.recipient = r.id
LEFT JOIN held h ON h.destination = r.destination AND h.recipient = r.id
WHERE (e.at, e.message) >= (?1, ?2) AND (e.at, e.message) <= (?4, ?5)
    AND (e.message <> ?2 OR r.id > ?3)
    AND (?6 IS NULL OR m.account = ?6)
    AND (?7 IS NULL OR m.key = ?7)
    AND (?8 IS NULL OR m.created_at < ?8)
    AND (?9 IS NULL OR d.route = ?9)
    AND (?10 IS NULL OR d.domain = ?10 OR (d.domain = '' AND substr(r.address, -length(?10) - 1) = '@' || ?10))
    AND (?11 IS NULL OR r.address = ?11)
    AND (?12 IS NULL OR r.state = ?12)
    AND r.state IN ('queued', 'deferred', 'held', 'scheduled')
    AND place & ?13 <> 0
ORDER BY e.at, e.message, r.id LIMIT ?14

-- name: find_row
-- One recipient, where it matches as in find_slice.
SELECT m.id, m.uuid, k.name, m.account, m.envelope_sender, m.expires_at, m.subject,
    r.id, r.address, r.state, r.attempts, w.at, m.expires_at, r.reply, r.host, r.bounce_class,
    CASE WHEN l.recipient IS NOT NULL THEN 16 WHEN h.recipient IS NOT NULL THEN 8 WHEN w.why = 'schedule' THEN 4
        WHEN w.why IS NOT NULL THEN 2 ELSE 1 END AS place,
    r.updated_at, r.uncertain, d.route, d.domain, r.scope, r.stage,
    m.created_at
FROM recipient r
CROSS JOIN destination d ON d.id = r.destination
CROSS JOIN message m ON m.id = r.message
CROSS JOIN key_ref k ON k.id = m.key
LEFT JOIN waiting w ON w.at = r.next_at AND w.recipient = r.id
LEFT JOIN leased l ON l.recipient = r.id
LEFT JOIN held h ON h.destination = r.destination AND h.recipient = r.id
WHERE r.message = ?1 AND r.id = ?2
    AND (?3 IS NULL OR m.account = ?3)
    AND (?4 IS NULL OR m.key = ?4)
    AND (?5 IS NULL OR m.created_at < ?5)
    AND (?6 IS NULL OR d.route = ?6)
    AND (?7 IS NULL OR d.domain = ?7 OR (d.domain = '' AND substr(r.address, -length(?7) - 1) = '@' || ?7))
    AND (?8 IS NULL OR r.address = ?8)
    AND (?9 IS NULL OR r.state = ?9)
    AND r.state IN ('queued', 'deferred', 'held', 'scheduled')
    AND place & ?10 <> 0

-- name: ready_page
SELECT recipient, message, key FROM ready WHERE destination = ?1 AND recipient > ?2 ORDER BY recipient LIMIT ?3

-- name: waiting_page
-- By the index alone.
SELECT recipient, at FROM waiting WHERE destination = ?1 AND recipient > ?2 ORDER BY recipient LIMIT ?3

-- name: waiting_row
SELECT recipient, message, key FROM waiting WHERE at = ?1 AND recipient = ?2

-- name: held_page
SELECT recipient, message, key FROM held WHERE destination = ?1 AND recipient > ?2 ORDER BY recipient LIMIT ?3

-- name: leased_page
SELECT recipient, message, key FROM leased WHERE recipient > ?1 ORDER BY recipient LIMIT ?2

-- name: held_destination
SELECT destination FROM held WHERE destination > ?1 ORDER BY destination LIMIT 1

-- name: route_next
SELECT route FROM destination WHERE route > ?1 ORDER BY route LIMIT 1

-- name: route_destinations
SELECT id FROM destination WHERE route = ?1 LIMIT ?2

-- name: events_view
SELECT e.seq, r.address, e.type, e.at, e.data
FROM message m
CROSS JOIN event e ON e.message = m.id
CROSS JOIN recipient r ON r.message = m.id AND r.id = e.recipient
WHERE m.uuid = ?1
ORDER BY e.seq

-- name: piece_count
SELECT id, pieces FROM message WHERE uuid = ?1

-- name: content_get
SELECT hash, bytes FROM content WHERE message = ?1

-- name: piece_get
SELECT hash, bytes FROM piece WHERE message = ?1 AND piece = ?2
