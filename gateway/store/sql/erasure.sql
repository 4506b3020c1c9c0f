-- Removing a person; ?N is the Nth value. What looks for an address (in lower case) reads whole tables in slices, and
-- finds too much rather than too little: who changes a row looks again.

-- name: erasure_messages
-- The messages behind ?1, at most ?2 of them, how many recipients each was sent to, and whether an address may be in it.
SELECT m.id, m.recipients,
    instr(lower(m.envelope_sender || ' ' || m.header_from || ' ' || m.original_to || ' ' || m.subject || ' '
        || m.message_id || ' ' || m.tags || ' ' || m.metadata || ' ' || m.envid), ?3) > 0
    OR EXISTS (
        SELECT 1 FROM recipient r
        WHERE r.message = m.id AND instr(lower(r.address || ' ' || r.orcpt || ' ' || r.reply), ?3) > 0)
FROM message m WHERE m.id > ?1 ORDER BY m.id LIMIT ?2

-- name: erasure_events
-- The same of events.
SELECT seq, 1, instr(lower(data), ?3) > 0 FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2

-- name: erasure_requests
-- The same of idempotency records, by account and text.
SELECT account, text, uuid, instr(lower(text || ' ' || result), ?4) > 0 FROM idempotency
WHERE (account, text) > (?1, ?2) ORDER BY account, text LIMIT ?3

-- name: erasure_message
SELECT id, uuid, account, envelope_sender, header_from, original_to, subject, message_id, tags, metadata, envid,
    created_at
FROM message WHERE id = ?1

-- name: erasure_recipients
-- Of a message, and whether an attempt has one in hand.
SELECT r.id, r.address, r.orcpt, r.reply, r.state, EXISTS (SELECT 1 FROM leased l WHERE l.recipient = r.id)
FROM recipient r WHERE r.message = ?1

-- name: erasure_event
SELECT e.seq, e.message, e.data, a.name FROM event e LEFT JOIN account_ref a ON a.id = e.account WHERE e.seq = ?1

-- name: erasure_message_events
SELECT seq, recipient, data FROM event WHERE message = ?1

-- name: erasure_event_change
UPDATE event SET data = ?2 WHERE seq = ?1

-- name: erasure_event_delete
DELETE FROM event WHERE seq = ?1

-- name: erasure_message_change
-- A damaged row is not sealed anew: it fails when it is claimed.
UPDATE message SET original_to = ?2, subject = ?3, message_id = ?4, tags = ?5, metadata = ?6, envid = ?7,
    seal = iif(
        seal IN (0, seal_of(id || '|' || account || '|' || key || '|' || envelope_sender || '|' || header_from || '|'
            || size || '|' || header_size || '|' || flags || '|' || expires_at || '|' || priority || '|' || recipients
            || '|' || pieces || '|' || envid, uuid, body_hash)),
        seal_of(id || '|' || account || '|' || key || '|' || envelope_sender || '|' || header_from || '|' || size || '|'
            || header_size || '|' || flags || '|' || expires_at || '|' || priority || '|' || recipients || '|' || pieces
            || '|' || ?7, uuid, body_hash),
        seal)
WHERE id = ?1

-- name: erasure_recipient_change
-- The same.
UPDATE recipient SET orcpt = ?3, reply = ?4,
    seal = iif(
        seal IN (0, seal_of(message || '|' || id || '|' || address || '|' || destination || '|' || orcpt)),
        seal_of(message || '|' || id || '|' || address || '|' || destination || '|' || ?3),
        seal)
WHERE message = ?1 AND id = ?2

-- name: erasure_recipient_delete
DELETE FROM recipient WHERE message = ?1 AND id = ?2

-- name: erasure_engagement_delete
DELETE FROM engagement WHERE message = ?1 AND recipient = ?2

-- name: erasure_report_delete
DELETE FROM report WHERE message = ?1 AND recipient = ?2

-- name: erasure_reports_delete
DELETE FROM report WHERE message = ?1

-- name: erasure_webhooks
SELECT id FROM webhook ORDER BY id

-- name: erasure_parked_delete
DELETE FROM webhook_parked WHERE webhook = ?1 AND seq = ?2 RETURNING seq

-- name: erasure_dead_delete
DELETE FROM webhook_dead WHERE webhook = ?1 AND seq = ?2 RETURNING seq

-- name: erasure_keys
SELECT id FROM key_ref ORDER BY id

-- name: erasure_acquaintance_delete
DELETE FROM acquaintance WHERE key = ?1 AND hash = ?2 RETURNING key

-- name: erasure_told
-- Whether something is to be told of a message.
SELECT 1 FROM report WHERE message = ?1 LIMIT 1
