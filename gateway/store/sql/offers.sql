-- What recipients can unsubscribe from (offers.py); ?N is the Nth value.

-- name: offer_find
-- Of the recipient ?2, or (0) of the only one.
SELECT m.id, r.id, m.unsubscribe, m.header_from, m.envelope_sender, r.address
FROM message m CROSS JOIN recipient r ON r.message = m.id AND (r.id = ?2 OR ?2 = 0)
WHERE m.id = ?1 LIMIT 2
