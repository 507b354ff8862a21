-- A new session with its first refresh token.
-- $1 session_id, $2 user_id, $3 token_hash bytea, $4 life_s: virtual seconds.
WITH session AS (
    INSERT INTO sessions (id, user_id, created_at, expires_at)
    SELECT $1::text, $2::text, now, now + make_interval(secs => $4::float8)
    FROM (SELECT darkstore_now() AS now) AS clock
    RETURNING id, created_at
)
INSERT INTO refresh_tokens (token_hash, session_id, issued_at)
SELECT $3::bytea, id, created_at FROM session
