-- Modes and brakes of keys: whose new mail is held, and what says that it should be.

-- name: braked_all
SELECT key, account, reason, detail, since FROM braked ORDER BY key

-- name: braked_add
INSERT INTO braked (key, account, reason, detail, since) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO NOTHING RETURNING key

-- name: braked_remove
DELETE FROM braked WHERE key = ?1 RETURNING account

-- name: acquaintance_find
SELECT a.hash, a.at FROM key_ref k CROSS JOIN acquaintance a ON a.key = k.id AND a.hash = ?2 WHERE k.name = ?1

-- name: acquaintance_put
INSERT INTO acquaintance (key, hash, at) VALUES (?1, ?2, ?3) ON CONFLICT (key, hash) DO UPDATE SET at = excluded.at

-- name: acquaintance_forget
DELETE FROM acquaintance WHERE (key, hash) IN (SELECT key, hash FROM acquaintance WHERE at < ?1 LIMIT ?2)
RETURNING key

-- name: brakes_stretch
-- The last of the next ?2 events behind ?1; numbers may leave large gaps.
SELECT max(seq) FROM (SELECT seq FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2)

-- name: brakes_released
-- The releases in a stretch of the log.
SELECT seq, data FROM event WHERE seq > ?1 AND seq <= ?2 AND type = 'brake_released' ORDER BY seq

-- name: brakes_outcomes
-- By key and hour, of a stretch of the log: what had an outcome, and how much of it bounced for good because of the
-- recipient. What was delivered first and bounced later is one outcome; a notification to the sender is none of the
-- key's. A damaged row says nothing, and does not end the count.
SELECT k.name, e.at / 3600000,
    sum(NOT (e.type = 'bounced' AND coalesce(iif(json_valid(e.data), json_extract(e.data, '$.late'), 0), 0))),
    sum(e.type = 'bounced' AND coalesce(iif(json_valid(e.data), json_extract(e.data, '$.scope'), ''), '') = 'recipient')
FROM event e
CROSS JOIN message m ON m.id = e.message AND m.door <> 'dsn'
CROSS JOIN key_ref k ON k.id = m.key
WHERE e.seq > ?1 AND e.seq <= ?2 AND e.type IN ('delivered', 'bounced', 'failed', 'expired')
GROUP BY 1, 2


-- What a message began as

-- name: message_began_held
SELECT 1 FROM message m CROSS JOIN event e ON e.message = m.id AND e.type = 'held' AND e.at = m.created_at
WHERE m.uuid = ?1 LIMIT 1

-- name: message_captured
-- Whether all of it that is sent goes one way.
SELECT min(d.route = ?2) FROM message m CROSS JOIN recipient r ON r.message = m.id
CROSS JOIN destination d ON d.id = r.destination
WHERE m.uuid = ?1 AND r.state <> 'suppressed'
