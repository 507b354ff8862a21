-- The next events to relay, oldest first, of the partitions that no other relay holds.
--   $1 how many at most
-- A stream whose first waiting event is backing off is left alone as a whole; the others go on.
-- What backs off has an index of its own, nearly always empty: looked for among all events of a
-- stream, it made every poll read the whole history of a city.
-- Held by advisory locks until the end of the transaction: locks on rows would be written to the
-- log, and flushed to the disk, with every poll of nothing.
WITH mine AS MATERIALIZED (
    SELECT partition FROM outbox_partitions
    WHERE pg_try_advisory_xact_lock(hashtext('outbox_partitions'), partition)
)
SELECT o.id, o.stream, o.seq, o.type, o.data, o.at, o.attempts
FROM outbox o
WHERE o.published_at IS NULL AND o.partition IN (SELECT partition FROM mine)
  AND NOT EXISTS (
      SELECT 1 FROM outbox p
      WHERE p.published_at IS NULL AND p.next_attempt_at IS NOT NULL
        AND p.stream = o.stream AND p.seq <= o.seq AND p.next_attempt_at > clock_timestamp())
ORDER BY o.id LIMIT $1::integer
