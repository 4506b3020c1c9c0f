-- Statements that every engine understands; ?N is the Nth value.

-- name: keys_all
SELECT name, digest, hint, account, route, senders, scopes, default_from, created_at, expires_at, revoked_at
FROM key ORDER BY name

-- name: key_add
INSERT INTO key (name, digest, hint, account, route, senders, scopes, default_from, created_at, expires_at, revoked_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT DO NOTHING RETURNING name

-- name: key_revoke
UPDATE key SET revoked_at = ?2 WHERE name = ?1 AND revoked_at IS NULL RETURNING name

-- name: domains_all
SELECT name, require_dkim, created_at FROM domain ORDER BY name

-- name: dkim_keys_all
SELECT domain, selector, algorithm, private_wrapped, created_at, active FROM dkim_key
ORDER BY domain, created_at, selector

-- name: domain_add
INSERT INTO domain (name, require_dkim, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING RETURNING name

-- name: domain_known
SELECT name FROM domain WHERE name = ?1

-- name: domain_remove
DELETE FROM domain WHERE name = ?1 RETURNING name

-- name: dkim_keys_remove
DELETE FROM dkim_key WHERE domain = ?1

-- name: dkim_key_retire
UPDATE dkim_key SET active = 0 WHERE domain = ?1 AND algorithm = ?2

-- name: dkim_key_add
INSERT INTO dkim_key (domain, selector, algorithm, private_wrapped, created_at, active)
VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING RETURNING selector

-- name: secret_get
SELECT wrapped FROM secret WHERE name = ?1

-- name: secret_put
INSERT INTO secret (name, wrapped) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET wrapped = excluded.wrapped
