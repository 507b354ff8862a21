-- The relay keeps up: nothing waits longer than it may, unless it lies among the dead letters.
--   $1 real seconds that an event may wait
-- Returns outbox ids.
SELECT o.id::text AS id, o.stream, o.seq, o.attempts, o.last_error
FROM outbox o CROSS JOIN clock c
WHERE o.published_at IS NULL
  AND o.at < darkstore_now() - make_interval(secs => $1::float8 * c.speed)
  AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.outbox_id = o.id)
