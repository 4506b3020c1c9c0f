-- The log of events, as it is read. What is 0 or '' belongs to no message, or to one that is gone.

-- name: log_all
SELECT e.seq, e.type, e.at, e.data, a.name, m.uuid, e.recipient, r.address, k.name, m.tags, m.metadata, m.subject, m.message_id,
    m.header_from, e.message
FROM event e
LEFT JOIN account_ref a ON a.id = e.account
LEFT JOIN message m ON m.id = e.message
LEFT JOIN recipient r ON r.message = e.message AND r.id = e.recipient
LEFT JOIN key_ref k ON k.id = m.key
WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?2

-- name: log_of_account
SELECT e.seq, e.type, e.at, e.data, a.name, m.uuid, e.recipient, r.address, k.name, m.tags, m.metadata, m.subject, m.message_id,
    m.header_from, e.message
FROM account_ref a
CROSS JOIN event e ON e.account = a.id AND e.seq > ?1
LEFT JOIN message m ON m.id = e.message
LEFT JOIN recipient r ON r.message = e.message AND r.id = e.recipient
LEFT JOIN key_ref k ON k.id = m.key
WHERE a.name = ?3 ORDER BY e.seq LIMIT ?2

-- name: log_end
SELECT max(seq) FROM event

-- name: log_slice
-- The lowest of the ?3 numbers below ?1, and the lowest of those among them that happened at ?2 or later.
SELECT min(seq), min(iif(at >= ?2, seq, NULL))
FROM (SELECT seq, at FROM event WHERE seq < ?1 ORDER BY seq DESC LIMIT ?3)

-- name: log_one
SELECT e.seq, e.type, e.at, e.data, a.name, m.uuid, e.recipient, r.address, k.name, m.tags, m.metadata, m.subject, m.message_id,
    m.header_from, e.message
FROM event e
LEFT JOIN account_ref a ON a.id = e.account
LEFT JOIN message m ON m.id = e.message
LEFT JOIN recipient r ON r.message = e.message AND r.id = e.recipient
LEFT JOIN key_ref k ON k.id = m.key
WHERE e.seq = ?1
