-- Who is not sent to; ?N is the Nth value. account is '' for everybody, tag '' for all mail.

-- name: suppression_add
-- The reason of a stronger entry, of an equal one that is not older, or of any where the present one has ended; weaker
-- ones come first in the list. One without an event is the present one itself where time and reason are the same: an
-- export that is imported.
INSERT INTO suppression (account, tag, kind, value, reason, note, created_at, expires_at, cause)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (value, kind, account, tag) DO UPDATE SET
    reason = excluded.reason, note = excluded.note, created_at = excluded.created_at,
    cause = coalesce(excluded.cause, iif(reason = excluded.reason AND created_at = excluded.created_at, cause, NULL)),
    expires_at = iif(expires_at <= excluded.created_at, excluded.expires_at, max(expires_at, excluded.expires_at))
WHERE expires_at <= excluded.created_at
    OR excluded.reason = reason AND excluded.created_at >= created_at
    OR instr('bounce unsubscribe complaint operator', excluded.reason)
        > instr('bounce unsubscribe complaint operator', reason)

-- name: suppression_lengthen
-- A weaker one may last longer. max() of NULL, which never ends, is NULL.
UPDATE suppression SET expires_at = max(expires_at, ?5)
WHERE value = ?1 AND kind = ?2 AND account = ?3 AND tag = ?4 AND expires_at IS NOT NULL AND (?5 IS NULL OR expires_at < ?5)

-- name: suppression_find
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE value = ?1 AND kind = ?2 AND account IN ('', ?3)

-- name: suppression_everywhere
-- The same of any account.
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause FROM suppression WHERE value = ?1

-- name: suppression_remove
DELETE FROM suppression WHERE value = ?1 AND account = ?2 RETURNING id

-- name: suppression_remove_tag
DELETE FROM suppression WHERE value = ?1 AND account = ?2 AND tag = ?3 RETURNING id

-- name: suppression_relieve
DELETE FROM suppression WHERE value = ?1 AND kind = 'address' AND account = ?2 AND reason = 'bounce'

-- name: suppression_erased
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE value = ?1 AND kind = 'address'

-- name: suppression_delete
DELETE FROM suppression WHERE id = ?1

-- name: suppression_old
SELECT id FROM suppression WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2

-- name: suppression_count
SELECT count(*) FROM suppression

-- name: suppression_values
SELECT id, value FROM suppression WHERE id > ?1 ORDER BY id LIMIT ?2

-- name: suppressions_of
-- Newest first, those before ?2.
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE account = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3

-- name: suppressions_by_reason
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE account = ?1 AND reason = ?4 AND id < ?2 ORDER BY id DESC LIMIT ?3

-- name: suppressions_by_tag
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE account = ?1 AND tag = ?4 AND tag <> '' AND id < ?2 ORDER BY id DESC LIMIT ?3

-- name: suppressions_all
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE id < ?1 ORDER BY id DESC LIMIT ?2

-- name: suppressions_after
-- Oldest first, those behind ?2.
SELECT id, account, tag, kind, value, reason, note, created_at, expires_at, cause
FROM suppression WHERE account = ?1 AND id > ?2 ORDER BY id LIMIT ?3

-- name: settled_whom
-- Whose mail it was, from whom and to whom.
SELECT r.message, r.id, r.address, m.account, m.envelope_sender
FROM recipient r CROSS JOIN message m ON m.id = r.message
WHERE r.message = ?1 AND r.id = ?2
