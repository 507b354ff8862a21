-- End the live sessions of a user, or one of them; returns their ids.
-- $1 user_id, $2 session_id or null for all.
UPDATE sessions SET revoked_at = darkstore_now()
WHERE user_id = $1::text AND ($2::text IS NULL OR id = $2::text) AND revoked_at IS NULL
RETURNING id
