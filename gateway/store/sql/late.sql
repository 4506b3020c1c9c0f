-- What is heard of mail after its attempts (late.py); ?N is the Nth value.

-- name: late_recipients
-- Among whom a report that names no row is about one; and to how many the message went, some of whom may be erased.
SELECT r.id, r.address, r.orcpt, m.recipients
FROM message m CROSS JOIN recipient r ON r.message = m.id
WHERE m.id = ?1 ORDER BY r.id LIMIT ?2

-- name: late_find
SELECT r.address, r.state, r.attempts, r.destination, r.notify, m.account, m.account_ref, m.envelope_sender
FROM recipient r CROSS JOIN message m ON m.id = r.message
WHERE r.message = ?1 AND r.id = ?2

-- name: late_bounce
UPDATE recipient SET state = 'bounced', next_at = 0, updated_at = ?3, reply = ?4, host = ?5, bounce_class = ?6,
    scope = ?7, stage = 'late'
WHERE message = ?1 AND id = ?2 AND state = 'delivered'

-- name: late_known
-- Whether such an event of a recipient, and of the same tag, is in the log.
SELECT 1 FROM event
WHERE message = ?1 AND recipient = ?2 AND type = ?3 AND coalesce(json_extract(data, '$.tag'), '') = ?4 LIMIT 1

-- name: late_suppressed
-- Whether an address is suppressed in just this scope at ?4.
SELECT 1 FROM suppression
WHERE value = ?1 AND kind = 'address' AND account = ?2 AND tag = ?3 AND (expires_at IS NULL OR expires_at > ?4)

-- name: late_count
INSERT INTO engagement (message, recipient, opens, clicks, machine) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (message, recipient) DO UPDATE
SET opens = opens + excluded.opens, clicks = clicks + excluded.clicks, machine = machine + excluded.machine
RETURNING opens, clicks, machine

-- name: late_look
-- A message with one of its recipients (?2; 0: none), and whether an attempt has that one, or (0) any, in hand.
SELECT m.uuid, m.unsubscribe, coalesce(r.address, ''), EXISTS (
    SELECT 1 FROM recipient o CROSS JOIN leased l ON l.recipient = o.id
    WHERE o.message = ?1 AND (?2 = 0 OR o.id = ?2))
FROM message m LEFT JOIN recipient r ON r.message = m.id AND r.id = ?2
WHERE m.id = ?1
