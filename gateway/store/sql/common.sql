-- Statements that every engine understands; ?N is the Nth value.

-- name: keys_all
SELECT name, digest, hint, account, route, senders, scopes, default_from, created_at, expires_at, revoked_at,
    limits, networks, old_digest, old_until, duplicates, dsn, mode, track, brakes, retention
FROM key ORDER BY name

-- name: key_add
INSERT INTO key (name, digest, hint, account, route, senders, scopes, default_from, created_at, expires_at, revoked_at,
    limits, networks, duplicates, dsn, mode, track, brakes, retention)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
ON CONFLICT DO NOTHING RETURNING name

-- name: key_digest_in_use
SELECT name FROM key WHERE digest = ?1 OR old_digest = ?1 LIMIT 1

-- name: key_rotate
UPDATE key SET old_digest = digest, old_until = ?4, digest = ?2, hint = ?3
WHERE name = ?1 AND revoked_at IS NULL RETURNING name

-- name: key_mode
UPDATE key SET mode = ?2 WHERE name = ?1 AND revoked_at IS NULL RETURNING name

-- name: key_revoke
UPDATE key SET revoked_at = ?2 WHERE name = ?1 AND revoked_at IS NULL RETURNING name

-- name: sts_policies
SELECT domain, id, text, fetched_at, expires_at FROM sts_policy WHERE expires_at > ?1 ORDER BY expires_at

-- name: sts_policy_put
INSERT INTO sts_policy (domain, id, text, fetched_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (domain) DO UPDATE SET id = excluded.id, text = excluded.text, fetched_at = excluded.fetched_at,
    expires_at = excluded.expires_at

-- name: domains_all
SELECT name, require_dkim, created_at, return_path FROM domain ORDER BY name

-- name: dkim_keys_all
SELECT domain, selector, algorithm, private_wrapped, created_at, active, retired_at FROM dkim_key
ORDER BY domain, created_at, selector

-- name: domain_add
INSERT INTO domain (name, require_dkim, created_at, return_path) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO NOTHING RETURNING name

-- name: domain_known
SELECT name FROM domain WHERE name = ?1

-- name: domain_return_path
UPDATE domain SET return_path = ?2 WHERE name = ?1 RETURNING name

-- name: domain_remove
DELETE FROM domain WHERE name = ?1 RETURNING name

-- name: dkim_keys_remove
DELETE FROM dkim_key WHERE domain = ?1

-- name: dkim_key_retire
UPDATE dkim_key SET active = 0, retired_at = ?3 WHERE domain = ?1 AND algorithm = ?2 AND active

-- name: dkim_key_next
SELECT algorithm FROM dkim_key WHERE domain = ?1 AND selector = ?2 AND NOT active AND retired_at IS NULL

-- name: dkim_key_activate
UPDATE dkim_key SET active = 1 WHERE domain = ?1 AND selector = ?2

-- name: dkim_keys_forget
DELETE FROM dkim_key WHERE retired_at < ?1 RETURNING domain, selector

-- name: dkim_key_add
INSERT INTO dkim_key (domain, selector, algorithm, private_wrapped, created_at, active)
VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING RETURNING selector

-- name: templates_of
SELECT uuid, account, alias, subject, NULL, NULL, created_at, updated_at FROM template WHERE account = ?1
ORDER BY alias, created_at, uuid

-- name: template_by_uuid
SELECT uuid, account, alias, subject, html, text, created_at, updated_at FROM template
WHERE account = ?1 AND uuid = ?2

-- name: template_by_alias
SELECT uuid, account, alias, subject, html, text, created_at, updated_at FROM template
WHERE account = ?1 AND alias = ?2 AND alias <> ''

-- name: template_owner
SELECT uuid FROM template WHERE account = ?1 AND alias = ?2 AND alias <> ''

-- name: template_known
SELECT uuid FROM template WHERE account = ?1 AND uuid = ?2

-- name: template_count
SELECT count(*) FROM template WHERE account = ?1

-- name: template_add
INSERT INTO template (account, uuid, alias, subject, html, text, updated_at, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT DO NOTHING RETURNING uuid

-- name: template_replace
UPDATE template SET alias = ?3, subject = ?4, html = ?5, text = ?6, updated_at = ?7 WHERE account = ?1 AND uuid = ?2
RETURNING uuid

-- name: template_remove
DELETE FROM template WHERE account = ?1 AND uuid = ?2 RETURNING uuid

-- name: secret_get
SELECT wrapped FROM secret WHERE name = ?1

-- name: secret_put
INSERT INTO secret (name, wrapped) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET wrapped = excluded.wrapped
