-- Let a failed event wait before its next attempt.
--   $1 outbox id, $2 seconds (real) to wait, $3 what went wrong
UPDATE outbox SET attempts = attempts + 1, last_error = $3::text,
    next_attempt_at = clock_timestamp() + make_interval(secs => $2::float8)
WHERE id = $1::bigint AND published_at IS NULL
