-- Let an event wait that met a lock; no attempt is counted.
--   $1 outbox id, $2 seconds (real) to wait
UPDATE outbox SET next_attempt_at = clock_timestamp() + make_interval(secs => $2::float8)
WHERE id = $1::bigint AND published_at IS NULL
