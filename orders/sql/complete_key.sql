-- Store a checkout's answer unless it has one; the answer that stands comes back.
--   $1 actor, $2 key, $3 HTTP status, $4 body (bytea)
UPDATE idempotency_keys SET
    status = coalesce(status, $3::smallint), answer = coalesce(answer, $4::bytea)
WHERE actor = $1::text AND key = $2::text
RETURNING status, answer
