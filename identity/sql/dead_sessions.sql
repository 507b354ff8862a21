-- Which of these sessions have ended (or never were).
-- $1 session_ids text[].
SELECT wanted.id
FROM unnest($1::text[]) AS wanted (id)
LEFT JOIN sessions s ON s.id = wanted.id
LEFT JOIN users u ON u.id = s.user_id
WHERE s.id IS NULL OR s.revoked_at IS NOT NULL OR u.disabled_at IS NOT NULL
