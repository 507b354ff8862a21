-- A guest with a session and its first refresh token, in one statement: the way of every shopper
-- who has no account.
-- $1 user_id, $2 name, $3 role, $4 session_id, $5 token_hash bytea, $6 life_s: virtual seconds.
WITH clock AS MATERIALIZED (
    SELECT darkstore_now() AS now
), guest AS (
    INSERT INTO users (id, name, role, created_at)
    SELECT $1::text, $2::text, $3::text, now FROM clock
), session AS (
    INSERT INTO sessions (id, user_id, created_at, expires_at)
    SELECT $4::text, $1::text, now, now + make_interval(secs => $6::float8) FROM clock
)
INSERT INTO refresh_tokens (token_hash, session_id, issued_at)
SELECT $5::bytea, $4::text, now FROM clock
