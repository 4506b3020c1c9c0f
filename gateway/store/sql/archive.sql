-- What clients read of their account's mail, and when they move it.

-- name: archive_boundary
-- The message of an account that is ?3 further than the newest below ?2.
SELECT m.id FROM account_ref a
CROSS JOIN message m ON m.account_ref = a.id AND m.id < ?2
WHERE a.name = ?1 ORDER BY m.id DESC LIMIT 1 OFFSET ?3

-- name: archive_slice
-- Messages of an account below ?2 and not below ?3, the newest first; NULL filters nothing. ?10 is the state of one of
-- its recipients, ?11 a JSON array of the states that none of them has.
SELECT m.id, m.uuid FROM account_ref a
CROSS JOIN message m ON m.account_ref = a.id AND m.id < ?2 AND m.id >= ?3
WHERE a.name = ?1
    AND (?4 IS NULL OR m.created_at >= ?4)
    AND (?5 IS NULL OR m.created_at < ?5)
    AND (?6 IS NULL OR m.key = (SELECT id FROM key_ref WHERE name = ?6))
    AND (?7 IS NULL OR m.header_from = ?7 COLLATE NOCASE)
    AND (?8 IS NULL OR m.subject LIKE ?8 ESCAPE '\')
    AND (?9 IS NULL OR (json_valid(m.tags) AND EXISTS (SELECT 1 FROM json_each(m.tags) WHERE value = ?9)))
    AND (?10 IS NULL OR (
        EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id AND r.state = ?10)
        AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id AND r.state IN (SELECT value FROM json_each(?11)))))
    AND (?12 IS NULL OR EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id AND r.address = ?12 COLLATE NOCASE))
ORDER BY m.id DESC LIMIT ?13

-- name: archive_content
-- How much is stored of a message's content: NULL where it was erased.
SELECT m.id, m.pieces, length(c.bytes)
    + coalesce((SELECT sum(length(p.bytes)) FROM piece p WHERE p.message = m.id), 0)
FROM message m LEFT JOIN content c ON c.message = m.id
WHERE m.uuid = ?1 AND m.account = ?2

-- name: archive_events
SELECT e.seq, e.type, e.at, e.data, m.account, m.uuid, e.recipient, r.address, k.name, m.tags, m.metadata, m.subject,
    m.message_id, m.header_from, e.message
FROM message m
CROSS JOIN event e ON e.message = m.id AND e.seq > ?1
LEFT JOIN recipient r ON r.message = e.message AND r.id = e.recipient
LEFT JOIN key_ref k ON k.id = m.key
WHERE m.uuid = ?3 AND m.account = ?4 ORDER BY e.seq LIMIT ?2

-- name: archive_known
SELECT id FROM message WHERE uuid = ?1 AND account = ?2


-- Moving what is scheduled

-- name: reschedule_message
-- With a seal that fits; a damaged row is left to its claim.
SELECT id, expires_at, send_at FROM message
WHERE uuid = ?1 AND account = ?2 AND seal IN (0, seal_of(id || '|' || account || '|' || key || '|' || envelope_sender || '|'
    || header_from || '|' || size || '|' || header_size || '|' || flags || '|' || expires_at || '|' || priority || '|'
    || recipients || '|' || pieces || '|' || envid, uuid, body_hash))

-- name: reschedule_recipients
SELECT r.id, r.state, r.next_at, w.why FROM recipient r
LEFT JOIN waiting w ON w.at = r.next_at AND w.recipient = r.id
WHERE r.message = ?1 AND r.state IN ('queued', 'deferred', 'held', 'scheduled')

-- name: reschedule
UPDATE message SET send_at = ?2, expires_at = ?3,
    seal = seal_of(id || '|' || account || '|' || key || '|' || envelope_sender || '|' || header_from || '|' || size || '|'
        || header_size || '|' || flags || '|' || ?3 || '|' || priority || '|' || recipients || '|' || pieces || '|' || envid,
        uuid, body_hash)
WHERE id = ?1
