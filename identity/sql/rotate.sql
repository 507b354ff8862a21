-- Mark a refresh token as used, add its successor and prolong the session.
-- $1 old token_hash bytea, $2 new token_hash bytea, $3 session_id, $4 life_s: virtual seconds.
WITH clock AS (SELECT darkstore_now() AS now),
used AS (
    UPDATE refresh_tokens SET used_at = clock.now FROM clock WHERE token_hash = $1::bytea
),
prolonged AS (
    UPDATE sessions SET expires_at = clock.now + make_interval(secs => $4::float8)
    FROM clock WHERE id = $3::text
)
INSERT INTO refresh_tokens (token_hash, session_id, issued_at)
SELECT $2::bytea, $3::text, now FROM clock
