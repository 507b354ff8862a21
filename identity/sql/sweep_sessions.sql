-- Forget sessions that ended a while ago, with their refresh tokens.
-- $1 kept_s: virtual seconds after expiry.
WITH old AS (
    SELECT id FROM sessions
    WHERE expires_at < darkstore_now() - make_interval(secs => $1::float8)
    ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
),
tokens AS (
    DELETE FROM refresh_tokens WHERE session_id IN (SELECT id FROM old)
)
DELETE FROM sessions WHERE id IN (SELECT id FROM old)
